//! The large blocks of a shard: registered with its ring, taken by whoever sends or reads fast.
//!
//! Their memory lies in pairs, and each pair is one registered buffer, of which the kernel lets any
//! range be used (io_uring_register(2), `IORING_REGISTER_BUFFERS`). So a long body gets both blocks
//! of a pair as one: half as many receives and writes, and where a write goes by a worker of the
//! ring, half as many changes of thread. Shorter ones get a block each. Once somebody has had to do
//! without, everybody gets one only, until half of them are free again.

use std::any::Any;
use std::cell::RefCell;
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;

use tokio_uring::buf::IoBufMut;
use tokio_uring::buf::fixed::{FixedBuf, FixedBufRegistry};

use super::pages::Pages;
use crate::vault::disk::Block;

/// Whether body blocks could be registered.
#[derive(Debug)]
pub enum Registration {
    /// All of them are registered.
    Done,
    /// The kernel refused (usually `RLIMIT_MEMLOCK`); writes are copied once more.
    Refused(io::Error),
}

/// Memory for `count` blocks, in pairs; `None` if there is not enough.
pub fn memory(count: usize, block_bytes: usize) -> Option<Vec<Pages>> {
    let mut pairs = Pages::several(count / 2, 2 * block_bytes)?;
    pairs.extend(Pages::several(count % 2, block_bytes)?);
    Some(pairs)
}

fn bytes_of(pages: &Pages) -> usize {
    pages.memory().len()
}

/// The body blocks of one shard.
pub struct BodyBlocks(Rc<Pool>);

struct Pool {
    pairs: Vec<Pair>,
    block_bytes: usize,
    free: RefCell<Free>,
}

/// Memory of two blocks, or of the last one of an odd number.
struct Pair {
    start: NonNull<u8>,
    /// Its number among the registered buffers.
    index: Option<u16>,
    /// Kept for `start`, and not looked at.
    _memory: Box<dyn Any>,
}

impl Pair {
    fn registered(buffer: FixedBuf) -> Option<Self> {
        let index = buffer.buf_index();
        Self::of(buffer, Some(index))
    }

    fn plain(pages: Pages) -> Option<Self> {
        Self::of(pages, None)
    }

    fn of(mut memory: impl IoBufMut, index: Option<u16>) -> Option<Self> {
        Some(Self {
            start: NonNull::new(memory.stable_mut_ptr())?,
            index,
            _memory: Box::new(memory),
        })
    }
}

impl BodyBlocks {
    /// Registers [`memory`] for blocks of `block_bytes`. To be called on the shard's own thread,
    /// inside its runtime.
    pub fn new(memory: Vec<Pages>, block_bytes: usize) -> (Self, Registration) {
        let sizes: Vec<_> = memory.iter().map(bytes_of).collect();
        let registry = FixedBufRegistry::new(memory);
        let (pairs, registration) = match registry.register() {
            Ok(()) => {
                let buffers = (0..sizes.len()).map_while(|index| registry.check_out(index));
                (
                    buffers.map_while(Pair::registered).collect(),
                    Registration::Done,
                )
            }
            Err(error) => {
                // It keeps its memory for itself, so that is given back first.
                drop(registry);
                let pages = sizes.iter().map_while(|bytes| Pages::try_new(*bytes));
                (
                    pages.map_while(Pair::plain).collect::<Vec<_>>(),
                    Registration::Refused(error),
                )
            }
        };
        let blocks_of = |bytes: &usize| bytes / block_bytes;
        let free = Free::new(sizes.iter().take(pairs.len()).map(blocks_of));
        let pool = Pool {
            pairs,
            block_bytes,
            free: RefCell::new(free),
        };
        (Self(Rc::new(pool)), registration)
    }

    /// A block, if one is free; for `expected` bytes that fill two, two of a pair as one, while
    /// nobody has to do without.
    pub fn take(&self, expected: u64) -> Option<BodyBlock> {
        let is_long = expected >= 2 * self.0.block_bytes as u64;
        let (pair, part) = self.0.free.borrow_mut().take(is_long)?;
        let home = Rc::clone(&self.0);
        Some(BodyBlock { home, pair, part })
    }
}

/// A body block; goes back when dropped.
pub struct BodyBlock {
    home: Rc<Pool>,
    pair: u16,
    part: Part,
}

impl BodyBlock {
    /// The number of the registered buffer that it is a part of.
    pub fn registered_index(&self) -> Option<u16> {
        self.pair().index
    }

    fn pair(&self) -> &Pair {
        &self.home.pairs[usize::from(self.pair)]
    }

    fn start_and_len(&self) -> (NonNull<u8>, usize) {
        let block_bytes = self.home.block_bytes;
        let (skipped, len) = match self.part {
            Part::First => (0, block_bytes),
            Part::Second => (block_bytes, block_bytes),
            Part::Both => (0, 2 * block_bytes),
        };
        // SAFETY: `Free` gives the second block, or both, only of a pair whose memory has the
        // length of two, and the first of any: the sum stays inside that memory.
        (unsafe { self.pair().start.add(skipped) }, len)
    }
}

impl Block for BodyBlock {
    fn bytes(&self) -> &[u8] {
        let (start, len) = self.start_and_len();
        // SAFETY: these bytes lie inside the pair's memory, which is initialised (`Pages`) and
        // lives as long as `home`. Nobody else has them: `Free` gives out no byte twice, and nobody
        // looks at the memory by itself. They are borrowed with `self`.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), len) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        let (start, len) = self.start_and_len();
        // SAFETY: as above, and `&mut self` makes the borrow the only one.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), len) }
    }
}

impl Drop for BodyBlock {
    fn drop(&mut self) {
        self.home.free.borrow_mut().give_back(self.pair, self.part);
    }
}

/// What somebody has of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    First,
    Second,
    Both,
}

/// Which blocks are free.
struct Free {
    /// Pairs of which both are.
    whole: Vec<u16>,
    /// Blocks whose neighbour is out, or that have none.
    lone: Vec<(u16, Part)>,
    /// Of all, how many there are.
    count: usize,
    /// Somebody has had to do without.
    is_short: bool,
}

impl Free {
    /// Of pairs with so many blocks each: two or one.
    fn new(blocks: impl Iterator<Item = usize>) -> Self {
        let (mut whole, mut lone, mut count) = (Vec::new(), Vec::new(), 0);
        for (pair, blocks) in (0..).zip(blocks) {
            count += blocks;
            match blocks {
                2 => whole.push(pair),
                _ => lone.push((pair, Part::First)),
            }
        }
        Self {
            whole,
            lone,
            count,
            is_short: false,
        }
    }

    fn take(&mut self, is_long: bool) -> Option<(u16, Part)> {
        let pair = (is_long && !self.is_short).then(|| self.whole.pop());
        if let Some(pair) = pair.flatten() {
            return Some((pair, Part::Both));
        }
        let lone = self.lone.pop().or_else(|| {
            let pair = self.whole.pop()?;
            self.lone.push((pair, Part::Second));
            Some((pair, Part::First))
        });
        self.is_short |= lone.is_none();
        lone
    }

    fn give_back(&mut self, pair: u16, part: Part) {
        let is_of_pair = |(other, _): &(u16, Part)| *other == pair;
        if part == Part::Both {
            self.whole.push(pair);
        } else if let Some(neighbour) = self.lone.iter().position(is_of_pair) {
            self.lone.swap_remove(neighbour);
            self.whole.push(pair);
        } else {
            self.lone.push((pair, part));
        }
        if 2 * (2 * self.whole.len() + self.lone.len()) >= self.count {
            self.is_short = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK_BYTES: usize = 8 << 10;

    /// As where they cannot be registered: without a ring.
    fn plain(count: usize) -> BodyBlocks {
        let memory = memory(count, BLOCK_BYTES).unwrap();
        let blocks: Vec<_> = memory
            .iter()
            .map(|pages| bytes_of(pages) / BLOCK_BYTES)
            .collect();
        BodyBlocks(Rc::new(Pool {
            pairs: memory.into_iter().map_while(Pair::plain).collect(),
            block_bytes: BLOCK_BYTES,
            free: RefCell::new(Free::new(blocks.into_iter())),
        }))
    }

    fn lengths(blocks: &[BodyBlock]) -> Vec<usize> {
        let in_blocks = |block: &BodyBlock| block.bytes().len() / BLOCK_BYTES;
        blocks.iter().map(in_blocks).collect()
    }

    const LONG: u64 = 2 * BLOCK_BYTES as u64;

    #[test]
    fn a_long_body_gets_two_as_one_while_nobody_does_without() {
        let blocks = plain(5);
        let mut out = vec![
            blocks.take(LONG).unwrap(),
            blocks.take(LONG - 1).unwrap(),
            blocks.take(LONG).unwrap(),
        ];
        // The odd one was the first of those that got one.
        assert_eq!(lengths(&out), [2, 1, 2]);
        assert!(blocks.take(0).is_none());
        // Somebody has gone without: one for each, until half are free.
        out.remove(0);
        out.push(blocks.take(LONG).unwrap());
        assert_eq!(lengths(&out), [1, 2, 1]);
        out.truncate(1);
        assert_eq!(lengths(&[blocks.take(LONG).unwrap()]), [2]);
    }

    #[test]
    fn no_byte_is_given_out_twice_and_all_come_back() {
        let blocks = plain(7);
        let mut state = 1_u64;
        let mut below = move |end: usize| {
            // Knuth, MMIX.
            state = state.wrapping_mul(6_364_136_223_846_793_005);
            state = state.wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % end
        };
        let mut out: Vec<(BodyBlock, u8)> = Vec::new();
        for number in 0..2_000_u32 {
            let mark = (number % 251) as u8;
            if below(2) == 0 {
                let expected = (below(3) * BLOCK_BYTES) as u64;
                if let Some(mut block) = blocks.take(expected) {
                    block.bytes_mut().fill(mark);
                    out.push((block, mark));
                }
            } else if !out.is_empty() {
                let at = below(out.len());
                let (block, mark) = out.swap_remove(at);
                assert!(block.bytes().iter().all(|byte| *byte == mark));
            }
            let taken: usize = out.iter().map(|(block, _)| block.bytes().len()).sum();
            assert!(taken <= 7 * BLOCK_BYTES);
        }
        out.clear();
        let singles: Vec<_> = std::iter::from_fn(|| blocks.take(0)).collect();
        assert_eq!(lengths(&singles), [1; 7]);
    }
}
