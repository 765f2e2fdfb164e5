//! Bytes that arrived on a connection and were not looked at yet.
//!
//! They stand in one head block, which is held only while there are any, or while more are read: an
//! idle connection holds none. A head that fills it goes on in a long one, of which there are few;
//! as soon as the head was read, what came behind it goes back into a usual one.

use std::io;
use std::net::IpAddr;
use std::rc::Rc;

use super::floor::{Floor, Wire};
use crate::vault::disk::Block;

/// The unread bytes of one connection.
pub struct Inbox<F: Floor> {
    block: Option<F::Block>,
    start: usize,
    /// `start <= end <= length of the block`.
    end: usize,
    /// The block is a long one.
    is_long: bool,
}

/// A head is long, and as many long blocks are out as may be, of all or of this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

impl<F: Floor> Inbox<F> {
    /// With bytes that arrived on another shard. `client` is asked only where they are long, as
    /// for [`Floor::long_head_block`].
    ///
    /// # Errors
    /// [`NoRoom`]: they fill a head block, and no long one is free.
    pub fn with(
        floor: &F,
        arrived: &[u8],
        client: impl FnOnce() -> Option<IpAddr>,
    ) -> Result<Self, NoRoom> {
        let mut inbox = Self::empty();
        if !arrived.is_empty() {
            let mut block = floor.head_block();
            if block.bytes().len() < arrived.len() {
                block = floor.long_head_block(client()).ok_or(NoRoom)?;
                inbox.is_long = true;
            }
            block.bytes_mut()[..arrived.len()].copy_from_slice(arrived);
            inbox.block = Some(block);
            inbox.end = arrived.len();
        }
        Ok(inbox)
    }

    /// Without any bytes.
    pub fn empty() -> Self {
        Self {
            block: None,
            start: 0,
            end: 0,
            is_long: false,
        }
    }

    /// Goes on in a long block if a head fills the one at hand; only then `client` is asked.
    ///
    /// # Errors
    /// [`NoRoom`]: no long block is free.
    pub fn make_room(
        &mut self,
        floor: &F,
        client: impl FnOnce() -> Option<IpAddr>,
    ) -> Result<(), NoRoom> {
        let is_filled =
            (self.block.as_ref()).is_some_and(|block| self.end - self.start == block.bytes().len());
        if is_filled && !self.is_long {
            let block = floor.long_head_block(client()).ok_or(NoRoom)?;
            self.move_to(block);
            self.is_long = true;
        }
        Ok(())
    }

    /// Gives a long block back once its head was consumed. What came behind fits into a usual one,
    /// since no read into the long one takes more than that ([`Inbox::more`]).
    pub fn settle(&mut self, floor: &F) {
        if self.is_long {
            self.is_long = false;
            match self.is_empty() {
                true => self.block = None,
                false => self.move_to(floor.head_block()),
            }
        }
    }

    fn move_to(&mut self, mut block: F::Block) {
        let len = self.len();
        block.bytes_mut()[..len].copy_from_slice(self.bytes());
        self.block = Some(block);
        self.start = 0;
        self.end = len;
    }

    /// The unread bytes.
    pub fn bytes(&self) -> &[u8] {
        self.block
            .as_ref()
            .map_or(&[], |block| &block.bytes()[self.start..self.end])
    }

    /// The unread bytes, to be decoded in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        (self.block.as_mut()).map_or(&mut [], |block| {
            &mut block.bytes_mut()[self.start..self.end]
        })
    }

    /// Number of unread bytes.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether the block has no room behind the unread bytes.
    pub fn is_full(&self) -> bool {
        self.block
            .as_ref()
            .is_some_and(|block| self.end == block.bytes().len())
    }

    /// Takes bytes off the front.
    pub fn consume(&mut self, bytes: usize) {
        assert!(bytes <= self.len(), "consumed more than there is");
        self.start += bytes;
        if self.is_empty() {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Gives the block back if nothing is unread.
    pub fn release(&mut self) {
        if self.is_empty() {
            self.block = None;
            self.is_long = false;
        }
    }

    /// Reads more behind what there is. 0 is the end of the connection (or a full block, which the
    /// limit on heads makes impossible before a head is refused).
    ///
    /// # Errors
    /// What the wire says.
    pub async fn more(&mut self, floor: &F, wire: &Rc<F::Wire>) -> io::Result<usize> {
        self.more_up_to(floor, wire, usize::MAX).await
    }

    /// [`Inbox::more`], but never beyond `bytes_max` more bytes.
    ///
    /// # Errors
    /// What the wire says.
    pub async fn more_up_to(
        &mut self,
        floor: &F,
        wire: &Rc<F::Wire>,
        bytes_max: usize,
    ) -> io::Result<usize> {
        let mut block = self.block.take().unwrap_or_else(|| floor.head_block());
        if self.start > 0 && self.end == block.bytes().len() {
            block.bytes_mut().copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let bytes_max = match self.is_long {
            true => bytes_max.min(LONG_READ_BYTES_MAX),
            false => bytes_max,
        };
        let to = block.bytes().len().min(self.end.saturating_add(bytes_max));
        if to == self.end {
            self.block = Some(block);
            return Ok(0);
        }
        let (result, block) = wire.read(block, self.end..to).await;
        self.block = Some(block);
        let read = result?;
        self.end += read;
        Ok(read)
    }

    /// Takes the block out together with the range of the unread bytes; to be given back by
    /// [`Inbox::put`].
    pub fn take(&mut self) -> Option<(F::Block, std::ops::Range<usize>)> {
        let block = self.block.take()?;
        Some((block, self.start..self.end))
    }

    /// Gives back what [`Inbox::take`] took.
    pub fn put(&mut self, block: F::Block) {
        self.block = Some(block);
    }
}

/// Bytes of one read into a long block: a quarter of a usual one, or of the smallest that settings
/// can ask for.
const LONG_READ_BYTES_MAX: usize = 4 << 10;
