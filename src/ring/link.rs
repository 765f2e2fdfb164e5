//! A connected socket on the ring, without a word about what is spoken on it.

use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::rc::Rc;

use rustix::io::Errno;

use super::blocks::RingBlock;
use super::op;

/// So much of `struct tcp_info` (linux/tcp.h) is asked for, in words of eight bytes: the last is
/// `tcpi_bytes_acked`, which Linux has since 4.1.
const TCP_INFO_WORDS: usize = 16;

/// A socket, and whether a receive on it can be hurried.
pub struct Link {
    /// It is kept open as long as anything is pending on it.
    pub socket: Rc<OwnedFd>,
    /// A whole-block receive is pending.
    is_filling: Cell<bool>,
}

impl Link {
    /// Takes a connected, blocking socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket: Rc::new(socket),
            is_filling: Cell::new(false),
        }
    }

    /// Receives until `block[range]` is full; see [`Link::hurry`].
    pub async fn fill(
        &self,
        block: RingBlock,
        range: Range<usize>,
    ) -> (io::Result<usize>, RingBlock) {
        self.is_filling.set(true);
        let filled = op::receive(&self.socket, block, range, op::Receive::All).await;
        self.is_filling.set(false);
        filled
    }

    /// Makes a pending [`Link::fill`] come back with what it has.
    pub fn hurry(&self) {
        // The cancel stands in the queue before anything that this connection submits after its
        // receive.
        if self.is_filling.get() {
            op::cancel(&self.socket);
        }
    }

    /// Bytes that the peer has acknowledged; `None` if the kernel cannot tell.
    pub fn acknowledged(&self) -> Option<u64> {
        let mut told = [0_u64; TCP_INFO_WORDS];
        let mut bytes = libc::socklen_t::try_from(size_of_val(&told)).ok()?;
        // SAFETY: the socket is open, and the kernel writes so many bytes at the most, of which
        // each is one of an integer.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                told.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let is_told = result == 0 && bytes as usize >= size_of_val(&told);
        told.last().copied().filter(|_| is_told)
    }

    /// Sends all bytes as they are.
    pub async fn send(&self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        // By the ring, though `send` would return at once: the answers of all connections that had
        // something to say go out in one system call then, and a peer on this machine is woken once
        // for many of them.
        let mut sent = 0;
        let mut bytes = bytes;
        while sent < bytes.len() {
            let (result, back) = op::send(&self.socket, bytes, sent).await;
            bytes = back;
            match result {
                Ok(more) => sent += more,
                Err(error) => return (Err(error), bytes),
            }
        }
        (Ok(()), bytes)
    }
}

/// A receive that was cancelled with nothing to show.
pub fn is_interruption(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::CANCELED | Errno::INTR))
}
