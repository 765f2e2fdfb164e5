//! Memory for bytes on their way: small head blocks, and large registered body blocks ([`body`]).

pub mod body;
pub mod pages;

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

use self::body::{BodyBlock, BodyBlocks, Registration};
use self::pages::{PAGE_BYTES, Pages};
use crate::config::Limits;
use crate::server::crowd::Crowd;
use crate::server::floor::HEAD_BLOCK_BYTES_MAX;
use crate::vault::disk::Block;

/// Free head blocks kept for the next request; more are given back to the allocator.
const FREE_HEAD_BLOCKS_MAX: usize = 256;
/// One client holds no more than this part of the blocks for long heads.
const LONG_HEADS_SHARE: usize = 8;

/// A block of any kind.
pub enum RingBlock {
    /// A head block.
    Head(HeadBlock),
    /// A block for a long head; boxed, so that no other has room for what it knows.
    LongHead(Box<LongHeadBlock>),
    /// A body block, registered with this shard's ring where that is allowed (`RLIMIT_MEMLOCK`).
    Body(BodyBlock),
    /// A cipher block of TLS.
    Cipher(PooledPages),
}

impl RingBlock {
    /// Whether it begins with a page.
    pub fn is_page_aligned(&self) -> bool {
        matches!(self, Self::Body(_) | Self::Cipher(_))
    }

    /// Its number among the registered buffers, if it is registered.
    pub fn registered_index(&self) -> Option<u16> {
        match self {
            Self::Body(block) => block.registered_index(),
            Self::Head(_) | Self::LongHead(_) | Self::Cipher(_) => None,
        }
    }
}

impl Block for RingBlock {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Head(block) => block.memory(),
            Self::LongHead(block) => &block.bytes,
            Self::Body(block) => block.bytes(),
            Self::Cipher(pages) => pages.memory(),
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Head(block) => block.memory_mut(),
            Self::LongHead(block) => &mut block.bytes,
            Self::Body(block) => block.bytes_mut(),
            Self::Cipher(pages) => pages.memory_mut(),
        }
    }
}

/// All blocks of one shard.
pub struct Blocks {
    head_block_bytes: usize,
    free_heads: Rc<RefCell<Vec<Vec<u8>>>>,
    long_head_bytes: usize,
    long_heads_max: usize,
    long_heads_out: Rc<RefCell<LongHeadsOut>>,
    bodies: BodyBlocks,
}

/// Blocks for long heads that are in use.
#[derive(Default)]
struct LongHeadsOut {
    count: usize,
    /// Those whose client is known; only who has one stands in it.
    of_clients: Crowd,
}

impl LongHeadsOut {
    /// Takes one more of this client's, unless there are `max` of all, or an eighth of that, and
    /// one at least, of its own. So whoever keeps long heads waiting leaves blocks to others.
    fn enter(&mut self, client: Option<IpAddr>, max: usize) -> bool {
        let share = (max / LONG_HEADS_SHARE).max(1);
        if self.count >= max || client.is_some_and(|client| self.of_clients.of(client) >= share) {
            return false;
        }
        self.count += 1;
        if let Some(client) = client {
            self.of_clients.enter(client);
        }
        true
    }

    fn leave(&mut self, client: Option<IpAddr>) {
        self.count -= 1;
        if let Some(client) = client {
            self.of_clients.leave(client);
        }
    }
}

/// What is said where body blocks could not be registered.
pub const NOT_REGISTERED: &str = "body blocks cannot be registered with io_uring and are copied once more; raise \
     RLIMIT_MEMLOCK (systemd: LimitMEMLOCK=infinity)";

/// Bytes of a block for a long head. One page more than the longest: room to see that a head is too
/// long.
pub fn block_bytes(head_bytes: usize) -> usize {
    head_bytes.next_multiple_of(PAGE_BYTES) + PAGE_BYTES
}

/// Bytes of a head block.
pub fn head_block_bytes(head_bytes: usize) -> usize {
    block_bytes(head_bytes.min(HEAD_BLOCK_BYTES_MAX))
}

impl Blocks {
    /// Memory for the body blocks that the limits allow one shard; `None` if there is not enough.
    pub fn memory(limits: &Limits) -> Option<Vec<Pages>> {
        body::memory(limits.body_blocks_per_shard, limits.block_bytes)
    }

    /// The blocks that the limits allow one shard, with memory for the body blocks. To be called
    /// inside its runtime.
    pub fn of(limits: &Limits, memory: Vec<Pages>) -> (Self, Registration) {
        let heads = (limits.head_bytes_max, limits.long_heads_per_shard_max);
        Self::new(heads, memory, limits.block_bytes)
    }

    /// Registers all body blocks of this shard; `bodies` is their [`body::memory`]. To be called
    /// on the shard's own thread, inside its runtime. `head_bytes` is the longest head that is
    /// allowed; up to `long_heads_max` blocks for long heads are in use at a time.
    pub fn new(
        (head_bytes, long_heads_max): (usize, usize),
        bodies: Vec<Pages>,
        body_bytes: usize,
    ) -> (Self, Registration) {
        let head_block_bytes = head_block_bytes(head_bytes);
        let (bodies, registration) = BodyBlocks::new(bodies, body_bytes);
        let free_heads = Rc::default();
        (
            Self {
                head_block_bytes,
                free_heads,
                long_head_bytes: block_bytes(head_bytes),
                long_heads_max,
                long_heads_out: Rc::default(),
                bodies,
            },
            registration,
        )
    }

    /// A head block.
    pub fn head(&self) -> RingBlock {
        let free = self.free_heads.borrow_mut().pop();
        let bytes = free.unwrap_or_else(|| vec![0; self.head_block_bytes]);
        RingBlock::Head(HeadBlock {
            bytes,
            home: Rc::clone(&self.free_heads),
        })
    }

    /// A block for a long head, if there may be one more, of all and of this client.
    pub fn long_head(&self, client: Option<IpAddr>) -> Option<RingBlock> {
        let is_free = (self.long_heads_out.borrow_mut()).enter(client, self.long_heads_max);
        is_free.then(|| {
            RingBlock::LongHead(Box::new(LongHeadBlock {
                bytes: vec![0; self.long_head_bytes].into_boxed_slice(),
                client,
                out: Rc::clone(&self.long_heads_out),
            }))
        })
    }

    /// A body block, if one is free: for a body of which `expected` bytes are to come.
    pub fn body(&self, expected: u64) -> Option<RingBlock> {
        self.bodies.take(expected).map(RingBlock::Body)
    }
}

/// A head block; goes back to the free list when dropped.
pub struct HeadBlock {
    /// Not a `Box`: when one moves, the pointers into it are no longer valid.
    bytes: Vec<u8>,
    home: Rc<RefCell<Vec<Vec<u8>>>>,
}

impl HeadBlock {
    fn memory(&self) -> &[u8] {
        &self.bytes
    }

    fn memory_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for HeadBlock {
    fn drop(&mut self) {
        let mut home = self.home.borrow_mut();
        if home.len() < FREE_HEAD_BLOCKS_MAX {
            home.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// A block that is not registered, from a pool of its own. A pool that is empty makes a new one, so
/// it comes to hold as many as were ever in use at a time. `bytes` is the same for all blocks of a
/// pool.
pub fn pooled(home: &Rc<RefCell<Vec<Pages>>>, bytes: usize) -> RingBlock {
    let free = home.borrow_mut().pop();
    RingBlock::Cipher(PooledPages {
        pages: Some(free.unwrap_or_else(|| Pages::new(bytes))),
        home: Rc::clone(home),
    })
}

/// A block for a long head; given back to the allocator when dropped.
pub struct LongHeadBlock {
    bytes: Box<[u8]>,
    client: Option<IpAddr>,
    out: Rc<RefCell<LongHeadsOut>>,
}

impl Drop for LongHeadBlock {
    fn drop(&mut self) {
        self.out.borrow_mut().leave(self.client);
    }
}

/// A block of a pool; goes back when dropped.
pub struct PooledPages {
    pages: Option<Pages>,
    home: Rc<RefCell<Vec<Pages>>>,
}

impl PooledPages {
    fn memory(&self) -> &[u8] {
        self.pages.as_ref().expect("taken only by drop").memory()
    }

    fn memory_mut(&mut self) -> &mut [u8] {
        self.pages
            .as_mut()
            .expect("taken only by drop")
            .memory_mut()
    }
}

impl Drop for PooledPages {
    fn drop(&mut self) {
        self.home.borrow_mut().extend(self.pages.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_leaves_blocks_for_long_heads_to_others() {
        let client = |last: u8| Some(IpAddr::from([192, 0, 2, last]));
        let mut out = LongHeadsOut::default();
        let taken = |out: &mut LongHeadsOut, client, max| {
            let taken = (0..99).filter(|_| out.enter(client, max));
            taken.count()
        };
        assert_eq!(taken(&mut out, client(1), 20), 2);
        assert_eq!(taken(&mut out, client(2), 20), 2);
        out.leave(client(1));
        assert_eq!(taken(&mut out, client(1), 20), 1);
        // Behind a proxy it may be anybody's: all that is left.
        assert_eq!(taken(&mut out, None, 20), 16);
        assert_eq!(taken(&mut out, client(3), 20), 0);
        out.leave(None);
        assert_eq!(taken(&mut out, client(3), 20), 1);
        // However few there may be, one is for each.
        let mut few = LongHeadsOut::default();
        assert_eq!(taken(&mut few, client(1), 3), 1);
        assert_eq!(taken(&mut few, client(2), 3), 1);
    }
}
