//! What lies beneath TLS: a connection, without a word about what is spoken on it. One trait, so
//! that what moves the bytes ([`super::wire`]) runs over the ring and, in the simulator, over a
//! network that delays, splits and breaks.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::ring::blocks::pages::Pages;
use crate::ring::blocks::{self, RingBlock};
use crate::ring::link::{self, Link};
use crate::ring::op;
use crate::vault::disk::Block;

/// Cipher blocks that are free.
pub type CipherPool = Rc<RefCell<Vec<Pages>>>;

/// How a whole receive came back.
#[derive(Debug)]
pub enum Received {
    /// This many bytes; fewer than asked for if it was hurried, or the peer has ended.
    Bytes(usize),
    /// Nothing came in time.
    Slow,
}

/// One connection, as TLS needs it. The rules of [`crate::server::floor::Wire`] hold here as well.
#[allow(async_fn_in_trait)]
pub trait Carrier {
    /// The memory that whole receives go to.
    type Cipher: Block;

    /// Such memory, of so many bytes.
    fn cipher_block(&self, pool: &CipherPool, bytes: usize) -> Self::Cipher;

    /// The time since some moment.
    fn now(&self) -> Duration;

    /// Waits for a while.
    async fn pause(&self, wait: Duration);

    /// Waits until bytes or the end can be received.
    async fn readable(&self) -> io::Result<()>;

    /// The first byte that is there, if one is.
    fn peek_now(&self) -> Option<u8>;

    /// Receives what is there; 0 is the end, and `None` says that there is nothing.
    fn receive_now(&self, memory: &mut [u8]) -> io::Result<Option<usize>>;

    /// Receives until `block[range]` is full, the peer ends, or it is hurried.
    async fn receive_all(
        &self,
        block: Self::Cipher,
        range: Range<usize>,
    ) -> (io::Result<Received>, Self::Cipher);

    /// Sends all bytes.
    async fn send_all(&self, bytes: Vec<u8>) -> io::Result<()>;

    /// Sends last words. What is not taken at once is dropped.
    fn send_now(&self, bytes: &[u8]);
}

impl Carrier for Link {
    type Cipher = RingBlock;

    fn cipher_block(&self, pool: &CipherPool, bytes: usize) -> RingBlock {
        blocks::pooled(pool, bytes)
    }

    fn now(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Duration::try_from(now).unwrap_or_default()
    }

    async fn pause(&self, wait: Duration) {
        tokio::time::sleep(wait).await;
    }

    async fn readable(&self) -> io::Result<()> {
        op::poll_readable(&self.socket).await
    }

    fn peek_now(&self) -> Option<u8> {
        let mut first = [0];
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        let seen = rustix::net::recv(&*self.socket, &mut first, flags);
        matches!(seen, Ok((_, 1))).then_some(first[0])
    }

    fn receive_now(&self, memory: &mut [u8]) -> io::Result<Option<usize>> {
        match rustix::net::recv(&*self.socket, memory, RecvFlags::DONTWAIT) {
            Ok((_, came)) => Ok(Some(came)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn receive_all(
        &self,
        block: RingBlock,
        range: Range<usize>,
    ) -> (io::Result<Received>, RingBlock) {
        let (result, block) = self.fill(block, range).await;
        let received = match result {
            Err(error) if link::is_interruption(&error) => Ok(Received::Slow),
            result => result.map(Received::Bytes),
        };
        (received, block)
    }

    async fn send_all(&self, bytes: Vec<u8>) -> io::Result<()> {
        let (result, _sent) = self.send(bytes).await;
        result
    }

    fn send_now(&self, bytes: &[u8]) {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let _ = rustix::net::send(&*self.socket, bytes, flags);
    }
}
