//! The submissions that tokio-uring has no method for, each as one safe async function.
//!
//! tokio-uring takes any submission that completes once (`UnsubmittedOneshot`). What the kernel reads or
//! writes must outlive the operation, whatever happens to the future: so every function here *owns*
//! what its entry points into and hands it to tokio-uring as stored data, which stays parked with the
//! driver until the completion arrives, even if the future is dropped.
//!
//! Only opcodes with exactly one completion may be used: a completion with more to come panics
//! tokio-uring (`F_MORE`), so there is no multishot and no zero-copy send here.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;

use io_uring::{cqueue, opcode, squeue, types};
use tokio_uring::{OneshotOutputTransform, UnsubmittedOneshot};

use super::blocks::RingBlock;
use crate::server::world::Block;

/// `MSG_WAITALL`: the receive completes when the block is full (or the peer ended).
const MSG_WAITALL: i32 = 0x100;
/// `MSG_NOSIGNAL`: no SIGPIPE.
const MSG_NOSIGNAL: i32 = 0x4000;
/// `POLLIN | POLLRDHUP`.
const POLL_READABLE: u32 = 0x1 | 0x2000;
/// `FALLOC_FL_KEEP_SIZE`.
const KEEP_SIZE: i32 = 1;

/// Hands result and data back together.
struct GiveBack<D>(std::marker::PhantomData<D>);

impl<D> OneshotOutputTransform for GiveBack<D> {
    type Output = (io::Result<u32>, D);
    type StoredData = D;

    fn transform_oneshot_output(self, data: D, completion: cqueue::Entry) -> Self::Output {
        let result = u32::try_from(completion.result())
            .map_err(|_| io::Error::from_raw_os_error(-completion.result()));
        (result, data)
    }
}

async fn submit<D: 'static + Unpin>(data: D, entry: squeue::Entry) -> (io::Result<u32>, D) {
    UnsubmittedOneshot::new(data, GiveBack(std::marker::PhantomData), entry)
        .submit()
        .await
}

fn fd(fd: &OwnedFd) -> types::Fd {
    types::Fd(fd.as_raw_fd())
}

/// Length of a range of a block for the kernel; blocks are a few MiB at the most.
fn len_u32(range: &Range<usize>) -> u32 {
    u32::try_from(range.len()).expect("blocks are smaller than 4 GiB")
}

/// Accepts one connection. The future must not be dropped before it completes, or the socket leaks.
pub async fn accept(listener: &Rc<OwnedFd>) -> io::Result<OwnedFd> {
    let entry = opcode::Accept::new(fd(listener), std::ptr::null_mut(), std::ptr::null_mut())
        .flags(SOCK_CLOEXEC)
        .build();
    let (result, _listener) = submit(Rc::clone(listener), entry).await;
    let raw = i32::try_from(result?).expect("file descriptors are small");
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// `SOCK_CLOEXEC`.
const SOCK_CLOEXEC: i32 = 0o2_000_000;

/// Waits until a socket has bytes or an end to be read.
pub async fn poll_readable(socket: &Rc<OwnedFd>) -> io::Result<()> {
    let entry = opcode::PollAdd::new(fd(socket), POLL_READABLE).build();
    submit(Rc::clone(socket), entry).await.0.map(|_| ())
}

/// Whether a receive returns with the first bytes, or waits for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receive {
    /// With the first.
    Some,
    /// With all (`MSG_WAITALL`).
    All,
}

/// Receives into `block[range]`.
pub async fn receive(
    socket: &Rc<OwnedFd>,
    mut block: RingBlock,
    range: Range<usize>,
    how: Receive,
) -> (io::Result<usize>, RingBlock) {
    let flags = match how {
        Receive::Some => 0,
        Receive::All => MSG_WAITALL,
    };
    let memory = &mut block.bytes_mut()[range.clone()];
    let entry = opcode::Recv::new(fd(socket), memory.as_mut_ptr(), len_u32(&range))
        .flags(flags)
        .build();
    // The block's memory does not move with its handle.
    let (result, (block, _socket)) = submit((block, Rc::clone(socket)), entry).await;
    (result.map(|bytes| bytes as usize), block)
}

/// Sends `bytes[from..]`, as much as the socket takes.
pub async fn send(
    socket: &Rc<OwnedFd>,
    bytes: Vec<u8>,
    from: usize,
) -> (io::Result<usize>, Vec<u8>) {
    let left = &bytes[from..];
    let entry = opcode::Send::new(fd(socket), left.as_ptr(), len_u32(&(from..bytes.len())))
        .flags(MSG_NOSIGNAL)
        .build();
    let (result, (bytes, _socket)) = submit((bytes, Rc::clone(socket)), entry).await;
    (result.map(|sent| sent as usize), bytes)
}

/// Sends `block[range]`, as much as the socket takes.
pub async fn send_block(
    socket: &Rc<OwnedFd>,
    block: RingBlock,
    range: Range<usize>,
) -> (io::Result<usize>, RingBlock) {
    let memory = &block.bytes()[range.clone()];
    let entry = opcode::Send::new(fd(socket), memory.as_ptr(), len_u32(&range))
        .flags(MSG_NOSIGNAL)
        .build();
    // The block's memory does not move with its handle.
    let (result, (block, _socket)) = submit((block, Rc::clone(socket)), entry).await;
    (result.map(|sent| sent as usize), block)
}

/// Cancels what is pending on a socket; a receive comes back with what it has, or `ECANCELED`.
pub async fn cancel(socket: Rc<OwnedFd>) {
    let entry = opcode::AsyncCancel2::new(types::CancelBuilder::fd(fd(&socket))).build();
    // Nothing pending any more is as good.
    let (_result, _socket) = submit(socket, entry).await;
}

/// Writes `block[range]` at `offset`: a fixed write if the block is registered.
pub async fn write_at(
    file: &Rc<OwnedFd>,
    block: RingBlock,
    range: Range<usize>,
    offset: u64,
) -> (io::Result<usize>, RingBlock) {
    let memory = &block.bytes()[range.clone()];
    let (pointer, len) = (memory.as_ptr(), len_u32(&range));
    let entry = match block.registered_index() {
        Some(index) => opcode::WriteFixed::new(fd(file), pointer, len, index)
            .offset(offset)
            .build(),
        None => opcode::Write::new(fd(file), pointer, len)
            .offset(offset)
            .build(),
    };
    let (result, (block, _file)) = submit((block, Rc::clone(file)), entry).await;
    (result.map(|written| written as usize), block)
}

/// Reads into `block[range]` from `offset` on: a fixed read if the block is registered.
pub async fn read_at(
    file: &Rc<OwnedFd>,
    mut block: RingBlock,
    range: Range<usize>,
    offset: u64,
) -> (io::Result<usize>, RingBlock) {
    let index = block.registered_index();
    let memory = &mut block.bytes_mut()[range.clone()];
    let (pointer, len) = (memory.as_mut_ptr(), len_u32(&range));
    let entry = match index {
        Some(index) => opcode::ReadFixed::new(fd(file), pointer, len, index)
            .offset(offset)
            .build(),
        None => opcode::Read::new(fd(file), pointer, len)
            .offset(offset)
            .build(),
    };
    let (result, (block, _file)) = submit((block, Rc::clone(file)), entry).await;
    (result.map(|read| read as usize), block)
}

/// How much of a file a sync covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncScope {
    /// Bytes and length (`fdatasync`).
    Data,
    /// Everything (`fsync`).
    All,
}

/// Syncs a file or a directory.
pub async fn sync(file: &Rc<OwnedFd>, scope: SyncScope) -> io::Result<()> {
    let flags = match scope {
        SyncScope::Data => types::FsyncFlags::DATASYNC,
        SyncScope::All => types::FsyncFlags::empty(),
    };
    let entry = opcode::Fsync::new(fd(file)).flags(flags).build();
    submit(Rc::clone(file), entry).await.0.map(|_| ())
}

/// Reserves space up to `bytes` and leaves the length alone.
pub async fn allocate(file: &Rc<OwnedFd>, bytes: u64) -> io::Result<()> {
    let entry = opcode::Fallocate::new(fd(file), bytes)
        .mode(KEEP_SIZE)
        .build();
    submit(Rc::clone(file), entry).await.0.map(|_| ())
}

/// The opcodes used here, for the probe at start.
pub const OPCODES: &[(u8, &str)] = &[
    (opcode::Accept::CODE, "ACCEPT"),
    (opcode::PollAdd::CODE, "POLL_ADD"),
    (opcode::Recv::CODE, "RECV"),
    (opcode::Send::CODE, "SEND"),
    (opcode::AsyncCancel2::CODE, "ASYNC_CANCEL"),
    (opcode::WriteFixed::CODE, "WRITE_FIXED"),
    (opcode::Write::CODE, "WRITE"),
    (opcode::ReadFixed::CODE, "READ_FIXED"),
    (opcode::Read::CODE, "READ"),
    (opcode::Fsync::CODE, "FSYNC"),
    (opcode::Fallocate::CODE, "FALLOCATE"),
];
