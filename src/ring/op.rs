//! The submissions that tokio-uring has no method for, each as one safe async function.
//!
//! tokio-uring takes any submission that completes once (`UnsubmittedOneshot`). What the kernel
//! reads or writes must outlive the operation, whatever happens to the future: so every function
//! here *owns* what its entry points into and hands it to tokio-uring as stored data, which stays
//! parked with the driver until the completion arrives, even if the future is dropped.
//!
//! Only opcodes with exactly one completion may be used: a completion with more to come panics
//! tokio-uring (`F_MORE`), so there is no multishot and no zero-copy send here.

use std::future::Future;
use std::io;
use std::ops::{Deref, Range};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use io_uring::{cqueue, opcode, squeue, types};
use tokio_uring::{InFlightOneshot, OneshotOutputTransform, UnsubmittedOneshot};

use super::blocks::RingBlock;
use super::queue;
use super::write_out::WAITED_FOR;
use crate::named_file;
use crate::vault::disk::Block;

/// There is something to be read, or an end.
const POLL_READABLE: u32 = (libc::POLLIN | libc::POLLRDHUP).cast_unsigned() as u32;

/// A descriptor that whoever asks for an operation shares with it: an operation that nobody waits
/// for any more keeps its file open.
pub trait SharedFile: Deref<Target = OwnedFd> + Clone + Unpin + 'static {}

impl<F: Deref<Target = OwnedFd> + Clone + Unpin + 'static> SharedFile for F {}

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

/// An operation that the driver has; its data is parked there until it completes, even if this is
/// dropped.
pub struct Pushed<D: 'static> {
    number: queue::EntryNumber,
    operation: InFlightOneshot<D, GiveBack<D>>,
}

impl<D: 'static + Unpin> Future for Pushed<D> {
    type Output = (io::Result<u32>, D);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let output = ready!(Pin::new(&mut self.operation).poll(context));
        queue::completed(self.number);
        Poll::Ready(output)
    }
}

/// Gives an entry to the driver at once; there must be room for it.
///
/// # Safety
/// Until the entry completes, every pointer in it must point to memory that `data` owns, that stays
/// where it is when `data` moves, and that nobody else touches (or only reads, if the kernel only
/// reads it); and every descriptor in it must be kept open by `data`. Its opcode must complete
/// exactly once, as all of [`OPCODES`] do without a flag for more (multishot, zero-copy): none is
/// set here.
unsafe fn push<D: 'static>(data: D, entry: squeue::Entry) -> Pushed<D> {
    Pushed {
        number: queue::count(),
        operation: UnsubmittedOneshot::new(data, GiveBack(std::marker::PhantomData), entry)
            .submit(),
    }
}

/// Waits for room in the queue, then for the entry to complete.
///
/// # Safety
/// That of [`push`].
async unsafe fn submit<D: 'static + Unpin>(data: D, entry: squeue::Entry) -> (io::Result<u32>, D) {
    queue::room(push_no_op).await;
    // SAFETY: the caller's promise.
    unsafe { push(data, entry) }.await
}

/// Returns after the next turn of the ring: all that the other tasks of this thread have submitted
/// has begun, and they have had their turn. That a task only yields is not enough, since
/// tokio-uring submits when the thread is about to wait.
pub async fn give_way() {
    queue::room(push_no_op).await;
    let (_done, ()) = push_no_op().await;
}

/// A no-op at the end of the queue, whether there is room or not.
pub fn push_no_op() -> Pushed<()> {
    // SAFETY: there is no pointer and no descriptor in it, and it completes once.
    unsafe { push((), opcode::Nop::new().build()) }
}

/// Has a no-op done by a thread of the kernel, as it does what may wait (syncs, reservations). One
/// stays for the next, so that from here on there is always one.
///
/// # Errors
/// `ECANCELED` where the kernel can start none.
pub async fn begin_worker() -> io::Result<()> {
    let entry = opcode::Nop::new().build().flags(squeue::Flags::ASYNC);
    // SAFETY: there is no pointer and no descriptor in it, and it completes once.
    let (result, ()) = unsafe { submit((), entry) }.await;
    result.map(drop)
}

fn fd(fd: &OwnedFd) -> types::Fd {
    types::Fd(fd.as_raw_fd())
}

/// Length of a range of a block for the kernel; blocks are a few MiB at the most.
fn len_u32(range: &Range<usize>) -> u32 {
    u32::try_from(range.len()).expect("blocks are smaller than 4 GiB")
}

/// Accepts one connection. The future must not be dropped before it completes, or the socket leaks.
pub async fn accept(listener: &Arc<OwnedFd>) -> io::Result<OwnedFd> {
    let entry = opcode::Accept::new(fd(listener), std::ptr::null_mut(), std::ptr::null_mut())
        .flags(libc::SOCK_CLOEXEC)
        .build();
    // SAFETY: the pointers are null, which asks for no address; the listener is kept open. It
    // completes once: it is no multishot accept.
    let (result, _listener) = unsafe { submit(Arc::clone(listener), entry) }.await;
    let raw = i32::try_from(result?).expect("file descriptors are small");
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Waits until a socket has bytes or an end to be read.
pub async fn poll_readable(socket: &Rc<OwnedFd>) -> io::Result<()> {
    let entry = opcode::PollAdd::new(fd(socket), POLL_READABLE).build();
    // SAFETY: no pointers; the socket is kept open. It completes once: it is no multishot poll.
    let (result, _socket) = unsafe { submit(Rc::clone(socket), entry) }.await;
    result.map(|_| ())
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
        // It completes when the block is full, or the peer ended.
        Receive::All => libc::MSG_WAITALL,
    };
    let memory = &mut block.bytes_mut()[range.clone()];
    let entry = opcode::Recv::new(fd(socket), memory.as_mut_ptr(), len_u32(&range))
        .flags(flags)
        .build();
    // SAFETY: the memory is the block's, which is on the heap and does not move with its handle;
    // its length was taken from the slice. Nobody else has the block, and the socket is kept open.
    // It completes once: it is no multishot receive.
    let submitted = unsafe { submit((block, Rc::clone(socket)), entry) };
    let (result, (block, _socket)) = submitted.await;
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
        .flags(libc::MSG_NOSIGNAL)
        .build();
    // SAFETY: the memory is the vector's, which is on the heap and does not move with it; the
    // kernel only reads it, and the socket is kept open. It completes once: nothing is sent without
    // a copy.
    let submitted = unsafe { submit((bytes, Rc::clone(socket)), entry) };
    let (result, (bytes, _socket)) = submitted.await;
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
        .flags(libc::MSG_NOSIGNAL)
        .build();
    // SAFETY: as in `receive`; the kernel only reads. It completes once, as in `send`.
    let submitted = unsafe { submit((block, Rc::clone(socket)), entry) };
    let (result, (block, _socket)) = submitted.await;
    (result.map(|sent| sent as usize), block)
}

/// Cancels what is pending on a socket; a receive comes back with what it has, or `ECANCELED`.
///
/// The entry is in the queue when this returns, so that it can meet nothing that is submitted
/// later. Where the queue is full, nothing is cancelled.
pub fn cancel<F>(socket: &F)
where
    F: Deref<Target = OwnedFd> + Clone + Unpin + 'static,
{
    if !queue::has_room() {
        return;
    }
    // The entry names the descriptor of what is handed over, whatever cloning it means.
    let socket = socket.clone();
    let entry = opcode::AsyncCancel2::new(types::CancelBuilder::fd(fd(&socket))).build();
    // SAFETY: no pointers; the socket is kept open. It completes once.
    let cancelled = unsafe { push(socket, entry) };
    tokio_uring::spawn(async move {
        // Nothing pending any more is as good.
        let (_result, _socket) = cancelled.await;
    });
}

/// Writes `block[range]` at `offset`: a fixed write if the block is registered.
pub async fn write_at<F: SharedFile>(
    file: &F,
    block: RingBlock,
    range: Range<usize>,
    offset: u64,
) -> (io::Result<usize>, RingBlock) {
    // The entry names the descriptor of what is handed over, whatever cloning it means.
    let file = file.clone();
    let memory = &block.bytes()[range.clone()];
    let (pointer, len) = (memory.as_ptr(), len_u32(&range));
    let entry = write_entry(&file, &block, pointer, len, offset);
    // SAFETY: as in `receive`; the kernel only reads. A fixed write stays within the registered
    // buffer of that index, which is the block's own. It completes once.
    let submitted = unsafe { submit((block, file), entry) };
    let (result, (block, _file)) = submitted.await;
    (result.map(|written| written as usize), block)
}

/// The same, and shows the bytes piece by piece while the kernel has them; others have their turns
/// in between.
pub async fn write_at_shown<F: SharedFile>(
    file: &F,
    block: RingBlock,
    range: Range<usize>,
    offset: u64,
    show: impl FnMut(&[u8]),
) -> (io::Result<usize>, RingBlock) {
    let file = file.clone();
    let block = Rc::new(block);
    let memory = &block.bytes()[range.clone()];
    let (pointer, len) = (memory.as_ptr(), len_u32(&range));
    let entry = write_entry(&file, &block, pointer, len, offset);
    queue::room(push_no_op).await;
    // SAFETY: as in `write_at`. The block is shared with this function, which only reads it, as the
    // kernel does: nobody can write to it until the operation has given its share back.
    let pushed = unsafe { push((Rc::clone(&block), file), entry) };
    // Not before the kernel has it.
    give_way().await;
    show_in_turns(memory, show).await;
    let (result, (back, _file)) = pushed.await;
    drop(block);
    let block = Rc::into_inner(back).expect("the operation and this function had it");
    (result.map(|written| written as usize), block)
}

/// Shows bytes piece by piece, with others' turns in between.
pub async fn show_in_turns(bytes: &[u8], mut show: impl FnMut(&[u8])) {
    for (number, piece) in bytes.chunks(SHOWN_BYTES).enumerate() {
        if number > 0 {
            give_way().await;
        }
        show(piece);
    }
}

/// Some 150 microseconds of SHA-256.
const SHOWN_BYTES: usize = 256 << 10;

fn write_entry(
    file: &OwnedFd,
    block: &RingBlock,
    pointer: *const u8,
    len: u32,
    offset: u64,
) -> squeue::Entry {
    match block.registered_index() {
        Some(index) => opcode::WriteFixed::new(fd(file), pointer, len, index)
            .offset(offset)
            .build(),
        None => opcode::Write::new(fd(file), pointer, len)
            .offset(offset)
            .build(),
    }
}

/// Reads into `block[range]` from `offset` on: a fixed read if the block is registered.
pub async fn read_at<F: SharedFile>(
    file: &F,
    mut block: RingBlock,
    range: Range<usize>,
    offset: u64,
) -> (io::Result<usize>, RingBlock) {
    let file = file.clone();
    let index = block.registered_index();
    let memory = &mut block.bytes_mut()[range.clone()];
    let (pointer, len) = (memory.as_mut_ptr(), len_u32(&range));
    let entry = match index {
        Some(index) => opcode::ReadFixed::new(fd(&file), pointer, len, index)
            .offset(offset)
            .build(),
        None => opcode::Read::new(fd(&file), pointer, len)
            .offset(offset)
            .build(),
    };
    // SAFETY: as in `receive`, and as in `write_at` for the index. It completes once.
    let submitted = unsafe { submit((block, file), entry) };
    let (result, (block, _file)) = submitted.await;
    (result.map(|read| read as usize), block)
}

/// Makes the names in a folder durable, as far as its file system can.
///
/// # Errors
/// What the kernel says.
pub async fn sync_folder<F: SharedFile>(folder: &F) -> io::Result<()> {
    named_file::synced_folder(sync(folder, SyncScope::All).await)
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
pub async fn sync<F: SharedFile>(file: &F, scope: SyncScope) -> io::Result<()> {
    let flags = match scope {
        SyncScope::Data => types::FsyncFlags::DATASYNC,
        SyncScope::All => types::FsyncFlags::empty(),
    };
    // The entry names the descriptor of what is handed over, whatever cloning it means.
    let file = file.clone();
    let entry = opcode::Fsync::new(fd(&file)).flags(flags).build();
    // SAFETY: no pointers; the file is kept open. It completes once.
    let (result, _file) = unsafe { submit(file, entry) }.await;
    result.map(|_| ())
}

/// Brings the bytes of a file to the device and waits for them.
pub async fn write_out<F: SharedFile>(file: &F) -> io::Result<()> {
    let file = file.clone();
    // A length of 0 is all of it.
    let entry = opcode::SyncFileRange::new(fd(&file), 0)
        .flags(WAITED_FOR)
        .build();
    // SAFETY: no pointers; the file is kept open. It completes once.
    let (result, _file) = unsafe { submit(file, entry) }.await;
    result.map(|_| ())
}

/// Reserves the space of a range and leaves the length alone.
pub async fn allocate<F: SharedFile>(file: &F, range: Range<u64>) -> io::Result<()> {
    // The kernel counts in signed numbers.
    if i64::try_from(range.end).is_err() {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let file = file.clone();
    let entry = opcode::Fallocate::new(fd(&file), range.end.saturating_sub(range.start))
        .offset(range.start)
        .mode(libc::FALLOC_FL_KEEP_SIZE)
        .build();
    // SAFETY: no pointers; the file is kept open. It completes once.
    let (result, _file) = unsafe { submit(file, entry) }.await;
    result.map(|_| ())
}

/// The opcodes used here, for the probe at start.
pub const OPCODES: &[(u8, &str)] = &[
    (opcode::Nop::CODE, "NOP"),
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
    (opcode::SyncFileRange::CODE, "SYNC_FILE_RANGE"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// What stands after each `opcode::` that has this after its name.
    fn opcodes_with<'s>(source: &'s str, end: &str) -> BTreeSet<&'s str> {
        let pieces = source.split("opcode::").skip(1);
        let names = pieces.filter_map(|piece| {
            let length = piece.find(|c: char| !c.is_alphanumeric())?;
            let (name, rest) = piece.split_at(length);
            rest.starts_with(end).then_some(name)
        });
        names.collect()
    }

    /// The probe at start asks for all of them, and `push` rests on what they have in common.
    #[test]
    fn the_list_of_opcodes_is_whole() {
        let code = include_str!("op.rs").split("#[cfg(test)]").next().unwrap();
        let used = opcodes_with(code, "::new(");
        assert!(used.len() > 10, "{used:?}");
        assert_eq!(opcodes_with(code, "::CODE"), used);
    }
}
