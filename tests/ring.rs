//! What we rely on of tokio-uring and of the kernel, each as a test on the real kernel. When one of
//! these fails on a new kernel or a new tokio-uring, `src/ring` has to be thought through again.

mod support;

use std::cell::Cell;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::pin::pin;
use std::process::Command;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use bitsd::config::Io;
use bitsd::ring::blocks::body::{self, Registration};
use bitsd::ring::blocks::{Blocks, RingBlock};
use bitsd::ring::disk::RingDisk;
use bitsd::ring::lane::Lane;
use bitsd::ring::net::RingWire;
use bitsd::ring::op::{self, SyncScope};
use bitsd::ring::shelves::Shelves;
use bitsd::ring::work_folder::WorkFolder;
use bitsd::server::floor::{Fill, Wire};
use bitsd::vault::disk::{Block, File as _, Readable as _, Shelf};
use support::mount::run;

/// Blocks of the tests: small, so that a socket holds one.
const BLOCK_BYTES: usize = 64 * 1024;
/// Longer than anything here takes, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test on a ring of its own, in a thread of its own, so that a hang is a failure.
fn on_a_ring<T: Send + 'static, F: Future<Output = T>>(
    test: impl FnOnce() -> F + Send + 'static,
) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut settings = io_uring::IoUring::builder();
        settings.setup_single_issuer().setup_coop_taskrun();
        let result = tokio_uring::builder()
            .uring_builder(&settings)
            .start(test());
        let _ = sender.send(result);
    });
    receiver
        .recv_timeout(PATIENCE)
        .expect("the operation completes")
}

/// A wire on the ring and the peer's end of it.
fn wire_and_peer() -> (RingWire, TcpStream) {
    let (wire, peer, _socket) = wire_and_ends();
    (wire, peer)
}

/// The same, and the socket of the wire.
fn wire_and_ends() -> (RingWire, TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let (socket, address) = listener.accept().unwrap();
    let wire = RingWire::new(socket.try_clone().unwrap().into(), address);
    (wire, peer, socket)
}

fn blocks() -> Blocks {
    let (blocks, registration) = Blocks::new(
        (4096, 2),
        body::memory(2, BLOCK_BYTES).unwrap(),
        BLOCK_BYTES,
    );
    assert!(
        matches!(registration, Registration::Done),
        "{registration:?}"
    );
    blocks
}

/// Polls a future once, so that its operation is submitted, and lets the ring run.
async fn start<F: Future>(future: std::pin::Pin<&mut F>) {
    assert!(
        future
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    );
    op::give_way().await;
}

/// Lets the ring run until so many bytes have come to a socket and were not taken yet. It gives up
/// after a while: then the test fails by what it looks at.
async fn until_queued(socket: &TcpStream, bytes: u64) {
    let began = Instant::now();
    while rustix::io::ioctl_fionread(socket).unwrap() != bytes && began.elapsed() < PATIENCE / 2 {
        op::give_way().await;
    }
}

/// Rule 1: why no pending operation is ever dropped.
#[test]
fn a_dropped_read_swallows_the_next_bytes() {
    let arrived = on_a_ring(|| async {
        let (wire, mut peer, socket) = wire_and_ends();
        let blocks = blocks();
        {
            let mut dropped = pin!(wire.read(blocks.head(), 0..5));
            start(dropped.as_mut()).await;
        }
        // The last byte is one more than it asked for, and stays.
        peer.write_all(b"first+").unwrap();
        until_queued(&socket, 1).await;
        let (read, block) = wire.read(blocks.head(), 0..5).await;
        block.bytes()[..read.unwrap()].to_vec()
    });
    assert_eq!(
        arrived, b"+",
        "if the bytes are no longer lost, rule 1 can be relaxed"
    );
}

/// Rule 2, for a read and for a wait.
#[test]
fn shutdown_wakes_a_pending_read() {
    on_a_ring(|| async {
        let (wire, _peer) = wire_and_peer();
        let blocks = blocks();
        {
            let mut read = pin!(wire.read(blocks.head(), 0..5));
            start(read.as_mut()).await;
            wire.shutdown();
            assert_eq!(read.await.0.unwrap(), 0);
        }
        let (wire, _peer) = wire_and_peer();
        let mut ready = pin!(wire.ready());
        start(ready.as_mut()).await;
        wire.shutdown();
        ready.await.unwrap();
    });
}

#[test]
fn shutdown_of_a_listener_wakes_a_pending_accept() {
    on_a_ring(|| async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let listener = Arc::new(OwnedFd::from(listener));
        let mut accept = pin!(op::accept(&listener));
        start(accept.as_mut()).await;
        bitsd::ring::net::stop_listening(&listener);
        assert!(accept.await.is_err());
    });
}

/// What comes after it waits in the queue, for whoever has the listener next.
#[test]
fn a_cancelled_accept_takes_nobody_out_of_the_queue() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let next = listener.try_clone().unwrap();
    on_a_ring(move || async move {
        let listener = Arc::new(OwnedFd::from(listener));
        let mut accept = pin!(op::accept(&listener));
        start(accept.as_mut()).await;
        op::cancel(&listener);
        assert!(accept.await.is_err());
        let _later = TcpStream::connect(address).unwrap();
        op::give_way().await;
    });
    next.set_nonblocking(true).unwrap();
    next.accept().unwrap();
}

#[test]
fn a_fill_comes_back_with_a_whole_block() {
    on_a_ring(|| async {
        let (wire, mut peer) = wire_and_peer();
        let blocks = blocks();
        let sender = std::thread::spawn(move || {
            for part in 0..4u8 {
                peer.write_all(&[part; BLOCK_BYTES / 4]).unwrap();
            }
            peer
        });
        let (fill, block) = wire.fill(blocks.body(0).unwrap(), 0..BLOCK_BYTES).await;
        assert_eq!(
            fill.unwrap(),
            Fill::Bytes(BLOCK_BYTES),
            "MSG_WAITALL waits for all"
        );
        assert_eq!(block.bytes()[BLOCK_BYTES - 1], 3);
        drop(sender.join().unwrap());
    });
}

#[test]
fn a_fill_comes_back_with_what_came_before_the_end() {
    on_a_ring(|| async {
        let (wire, mut peer) = wire_and_peer();
        let blocks = blocks();
        peer.write_all(b"part").unwrap();
        drop(peer);
        let (fill, block) = wire.fill(blocks.body(0).unwrap(), 0..BLOCK_BYTES).await;
        assert_eq!(fill.unwrap(), Fill::Bytes(4));
        assert_eq!(wire.fill(block, 0..BLOCK_BYTES).await.0.unwrap(), Fill::End);
    });
}

/// Cancelling a receive must lose nothing: what had arrived comes back, the rest comes with the
/// next.
#[test]
fn a_hurried_fill_comes_back_with_what_has_arrived() {
    on_a_ring(|| async {
        let (wire, mut peer, socket) = wire_and_ends();
        let blocks = blocks();
        peer.write_all(b"slow").unwrap();
        until_queued(&socket, 4).await;
        let block = {
            let mut fill = pin!(wire.fill(blocks.body(0).unwrap(), 0..BLOCK_BYTES));
            start(fill.as_mut()).await;
            until_queued(&socket, 0).await;
            wire.hurry();
            let (fill, block) = fill.await;
            assert_eq!(fill.unwrap(), Fill::Bytes(4));
            assert_eq!(&block.bytes()[..4], b"slow");
            block
        };
        let block = {
            let mut fill = pin!(wire.fill(block, 0..BLOCK_BYTES));
            start(fill.as_mut()).await;
            wire.hurry();
            let (fill, block) = fill.await;
            assert_eq!(fill.unwrap(), Fill::Slow);
            block
        };
        peer.write_all(b"more").unwrap();
        let (read, block) = wire.read(block, 0..BLOCK_BYTES).await;
        assert_eq!(&block.bytes()[..read.unwrap()], b"more");
        // With nothing pending it does nothing.
        wire.hurry();
        peer.write_all(b"last").unwrap();
        let (read, block) = wire.read(block, 0..BLOCK_BYTES).await;
        assert_eq!(&block.bytes()[..read.unwrap()], b"last");
    });
}

/// Rule 3: a connection goes to another ring as a duplicated descriptor, and loses no byte.
#[test]
fn a_duplicated_descriptor_moves_a_connection() {
    let (sender, receiver) = mpsc::channel();
    let mut peer = on_a_ring(move || async move {
        let (wire, mut peer) = wire_and_peer();
        peer.write_all(b"headrest").unwrap();
        let (read, block) = wire.read(blocks().head(), 0..4).await;
        assert_eq!(&block.bytes()[..read.unwrap()], b"head");
        sender
            .send((wire.duplicate().unwrap(), wire.peer()))
            .unwrap();
        peer
    });
    let (socket, address) = receiver.recv().unwrap();
    peer.write_all(b"!").unwrap();
    on_a_ring(move || async move {
        let wire = RingWire::new(socket, address);
        let (fill, block) = wire.fill(blocks().body(0).unwrap(), 0..5).await;
        assert_eq!(
            (fill.unwrap(), &block.bytes()[..5]),
            (Fill::Bytes(5), b"rest!".as_slice())
        );
        let (sent, _) = wire.send(b"answer".to_vec()).await;
        sent.unwrap();
    });
    let mut answer = [0; 6];
    peer.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"answer");
}

/// Rule 4.
#[test]
fn a_block_comes_back_with_the_error() {
    on_a_ring(|| async {
        let blocks = blocks();
        let read_only = Rc::new(OwnedFd::from(
            std::fs::File::open("/proc/self/exe").unwrap(),
        ));
        let first = blocks.body(0).unwrap();
        let second = blocks.body(0).unwrap();
        assert!(blocks.body(0).is_none(), "there are two");
        let (written, first) = op::write_at(&read_only, first, 0..8, 0).await;
        assert!(written.is_err());
        drop(first);
        assert!(
            blocks.body(0).is_some(),
            "the block came back and can be had again"
        );
        drop(second);
    });
}

/// A pair of blocks is one registered buffer: each block of it, and both as one, are written from
/// where they lie, and not from its beginning.
#[test]
fn fixed_writes_begin_in_the_block_and_not_in_the_buffer() {
    const END: u64 = BLOCK_BYTES as u64;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let read_back = path.clone();
    on_a_ring(move || async move {
        let file = Rc::new(OwnedFd::from(std::fs::File::create(&path).unwrap()));
        let blocks = blocks();
        let mut second = blocks.body(0).unwrap();
        let mut first = blocks.body(0).unwrap();
        assert!(first.registered_index().is_some());
        assert_eq!(first.registered_index(), second.registered_index());
        first.bytes_mut().fill(b'1');
        second.bytes_mut().fill(b'2');
        let (written, first) = op::write_at(&file, first, 0..BLOCK_BYTES, 0).await;
        assert_eq!(written.unwrap(), BLOCK_BYTES);
        let (written, second) = op::write_at(&file, second, 7..BLOCK_BYTES, END).await;
        assert_eq!(written.unwrap(), BLOCK_BYTES - 7);
        drop((first, second));
        let mut both = blocks.body(2 * END).unwrap();
        both.bytes_mut()[BLOCK_BYTES..].fill(b'3');
        both.bytes_mut()[..BLOCK_BYTES].fill(b'4');
        let (written, _both) = op::write_at(&file, both, 9..2 * BLOCK_BYTES, 2 * END - 7).await;
        assert_eq!(written.unwrap(), 2 * BLOCK_BYTES - 9);
    });
    let found = std::fs::read(read_back).unwrap();
    let expected = [
        vec![b'1'; BLOCK_BYTES],
        vec![b'2'; BLOCK_BYTES - 7],
        vec![b'4'; BLOCK_BYTES - 9],
        vec![b'3'; BLOCK_BYTES],
    ];
    assert!(found == expected.concat(), "another content");
}

#[test]
fn fixed_writes_land_at_odd_offsets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let read_back = path.clone();
    on_a_ring(move || async move {
        let file = Rc::new(OwnedFd::from(std::fs::File::create(&path).unwrap()));
        let mut block = blocks().body(0).unwrap();
        for (at, byte) in block.bytes_mut().iter_mut().enumerate() {
            *byte = u8::try_from(at % 251).unwrap();
        }
        assert!(block.registered_index().is_some());
        let (written, block) = op::write_at(&file, block, 0..1001, 0).await;
        assert_eq!(written.unwrap(), 1001);
        let (written, _block) = op::write_at(&file, block, 1001..BLOCK_BYTES - 1, 1001).await;
        assert_eq!(written.unwrap(), BLOCK_BYTES - 1002);
    });
    let bytes = std::fs::read(read_back).unwrap();
    assert_eq!(bytes.len(), BLOCK_BYTES - 1);
    assert!(
        bytes
            .iter()
            .enumerate()
            .all(|(at, &byte)| usize::from(byte) == at % 251)
    );
}

/// Bytes that tell where they stand.
fn bytes_at(range: std::ops::Range<usize>) -> Vec<u8> {
    range.map(|at| u8::try_from(at % 251).unwrap()).collect()
}

#[test]
fn reads_come_from_their_offset_and_stay_in_their_range() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("reply"), bytes_at(0..3_001)).unwrap();
    on_a_ring(move || async move {
        let (disk, blocks) = (disk_in(folder.path()), blocks());
        let (file, stat) = disk
            .open_reply(Shelf::WORK, "reply")
            .await
            .unwrap()
            .unwrap();
        assert_eq!((stat.bytes, stat.inode), (3_001, file.inode()));
        for mut block in [blocks.body(0).unwrap(), blocks.head()] {
            block.bytes_mut().fill(0xa5);
            let (read, block) = file.read_at(block, 7..1_007, 1_001).await;
            assert_eq!(read.unwrap(), 1_000);
            assert_eq!(&block.bytes()[7..1_007], bytes_at(1_001..2_001));
            assert_eq!((block.bytes()[6], block.bytes()[1_007]), (0xa5, 0xa5));
            let (read, block) = file.read_at(block, 0..4_096, 2_001).await;
            assert_eq!(read.unwrap(), 1_000, "what there is, up to the end");
            let (read, _block) = file.read_at(block, 0..4_096, 3_001).await;
            assert_eq!(read.unwrap(), 0, "the end");
        }
    });
}

fn disk_in(folder: &Path) -> RingDisk {
    let folder = WorkFolder::open(folder, true).unwrap();
    RingDisk::new(Arc::new(Shelves::new(folder)), Io::Auto)
}

#[test]
fn a_reply_is_a_file_of_the_work_directory_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path().join("work");
    std::fs::create_dir_all(work.join("folder")).unwrap();
    std::fs::write(folder.path().join("secret"), b"secret").unwrap();
    std::fs::write(work.join("reply"), b"reply").unwrap();
    for (to, link) in [
        ("../secret", "out"),
        ("reply", "in"),
        (".", "here"),
        ("x", "x"),
    ] {
        std::os::unix::fs::symlink(to, work.join(link)).unwrap();
    }
    let pipe = rustix::fs::Mode::from_raw_mode(0o600);
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, work.join("pipe"), kind, pipe, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(work.join("socket")).unwrap();
    on_a_ring(move || async move {
        let disk = disk_in(&work);
        for name in [
            "nothing",
            "out",
            "in",
            "x",
            "here/reply",
            "../secret",
            "/etc/passwd",
            "folder",
            ".",
            "reply/x",
            "pipe",
            "socket",
        ] {
            let opened = disk.open_reply(Shelf::WORK, name).await.unwrap();
            assert!(opened.is_none(), "{name}");
        }
        let (_file, stat) = disk
            .open_reply(Shelf::WORK, "reply")
            .await
            .unwrap()
            .unwrap();
        let metadata = std::fs::metadata(work.join("reply")).unwrap();
        let modified = metadata.modified().unwrap();
        let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(
            (stat.modified_s, stat.modified_nanos),
            (since.as_secs(), since.subsec_nanos())
        );
    });
}

/// More than a socket holds, so that it takes several sends.
#[test]
fn a_block_is_sent_whole_to_a_peer_that_takes_its_time() {
    const ROUNDS: usize = 100;
    let received = on_a_ring(|| async {
        let (wire, mut peer) = wire_and_peer();
        let reader = std::thread::spawn(move || {
            let mut received = Vec::new();
            let mut some = [0; 1_000];
            while let Ok(read @ 1..) = peer.read(&mut some) {
                received.extend_from_slice(&some[..read]);
            }
            received
        });
        let mut block = blocks().body(0).unwrap();
        block.bytes_mut().copy_from_slice(&bytes_at(0..BLOCK_BYTES));
        for _ in 0..ROUNDS {
            let (sent, back) = wire.send_block(block, 1..BLOCK_BYTES - 1).await;
            sent.unwrap();
            block = back;
        }
        wire.send_block(block, 5..5).await.0.unwrap();
        wire.finish();
        reader.join().unwrap()
    });
    assert_eq!(
        received,
        bytes_at(1..BLOCK_BYTES - 1).repeat(ROUNDS),
        "nothing is left out, and nothing comes twice"
    );
}

/// Rules 2 and 4, for a peer that takes nothing.
#[test]
fn shutdown_wakes_a_pending_send_of_a_block() {
    on_a_ring(|| async {
        let (wire, _peer) = wire_and_peer();
        let blocks = blocks();
        let (block, other) = (blocks.body(0).unwrap(), blocks.body(0).unwrap());
        let sends = Cell::new(0);
        let mut send = pin!(async {
            let mut block = block;
            loop {
                let (sent, back) = wire.send_block(block, 0..BLOCK_BYTES).await;
                block = back;
                if sent.is_err() {
                    return block;
                }
                sends.set(sends.get() + 1);
            }
        });
        // They go on until the socket is full.
        let mut before = None;
        while before != Some(sends.get()) {
            before = Some(sends.get());
            for _ in 0..20 {
                start(send.as_mut()).await;
            }
        }
        wire.shutdown();
        drop(send.await);
        assert!(blocks.body(0).is_some(), "the block came back");
        drop(other);
    });
}

#[test]
fn reserved_space_does_not_change_the_length() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    on_a_ring(move || async move {
        let file = std::fs::File::create(&path).unwrap();
        let descriptor = Rc::new(OwnedFd::from(file.try_clone().unwrap()));
        op::allocate(&descriptor, 0..10 << 20).await.unwrap();
        assert_eq!(file.metadata().unwrap().len(), 0, "length is progress");
    });
}

#[test]
fn a_directory_can_be_synced() {
    let folder = tempfile::tempdir().unwrap();
    on_a_ring(move || async move {
        let directory = Rc::new(OwnedFd::from(std::fs::File::open(folder.path()).unwrap()));
        op::sync(&directory, SyncScope::All).await.unwrap();
    });
}

/// The settings that every shard uses are taken, and operations complete under them (every test
/// here); the one that tokio-uring cannot bear still hangs.
#[test]
fn deferred_task_running_hangs_tokio_uring() {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut settings = io_uring::IoUring::builder();
        settings.setup_single_issuer().setup_defer_taskrun();
        tokio_uring::builder()
            .uring_builder(&settings)
            .start(async {
                let (wire, mut peer) = wire_and_peer();
                let late = std::thread::spawn(move || {
                    // Nobody can see when the ring waits: this is time enough.
                    std::thread::sleep(Duration::from_millis(50));
                    peer.write_all(b"x").unwrap();
                    peer
                });
                wire.ready().await.unwrap();
                drop(late);
            });
        let _ = sender.send(());
    });
    assert!(
        receiver.recv_timeout(Duration::from_secs(1)).is_err(),
        "if it works now, ring/queue.rs can use it"
    );
}

/// An error that only the sync can tell (the page cache took the bytes) must come out of the ring.
/// Method: ext4 on a loop device whose image lies on a tmpfs that is too small for it.
#[test]
fn sync_errors_surface() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mounts) = FailingDisk::mount(folder.path()) else {
        return support::skip("it needs root, tmpfs and a loop device");
    };
    let path = mounts.disk.join("file");
    on_a_ring(move || async move {
        let file = Rc::new(OwnedFd::from(std::fs::File::create(&path).unwrap()));
        let refused = overfill(&file).await;
        let synced = op::sync(&file, SyncScope::Data).await;
        assert!(
            refused || synced.is_err(),
            "16 MiB cannot be safe on a disk of 4 MiB"
        );
        assert!(
            synced.is_err(),
            "the writes were taken, so the sync must tell"
        );
    });
}

/// Writes 16 MiB; whether any of it was refused.
async fn overfill(file: &Rc<OwnedFd>) -> bool {
    let blocks = blocks();
    let mut block: RingBlock = blocks.body(0).unwrap();
    // A random-looking byte, so that no layer takes the block for a hole.
    block.bytes_mut().fill(0xa5);
    let mut refused = false;
    for index in 0..256 {
        let (written, back) =
            op::write_at(file, block, 0..BLOCK_BYTES, index * BLOCK_BYTES as u64).await;
        block = back;
        refused |= written.is_err();
    }
    refused
}

/// A file that is only brought to the device, whose name and length a later sync of another file
/// commits, must tell of the same errors: by the ring, and together with others.
#[test]
fn errors_of_writing_out_surface() {
    for is_together in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let Some(mounts) = FailingDisk::mount(folder.path()) else {
            return support::skip("it needs root, tmpfs and a loop device");
        };
        let path = mounts.disk.join("file");
        on_a_ring(move || async move {
            let file = Rc::new(OwnedFd::from(std::fs::File::create(&path).unwrap()));
            let _refused = overfill(&file).await;
            let written_out = match is_together {
                true => Lane::new(false).write_out(file.try_clone().unwrap()).await,
                false => op::write_out(&file).await,
            };
            assert!(written_out.is_err(), "16 MiB are on no disk of 4 MiB");
        });
    }
}

/// A tmpfs of 4 MiB, on it an ext4 image of 64 MiB, mounted; unmounted when dropped.
struct FailingDisk {
    small: std::path::PathBuf,
    disk: std::path::PathBuf,
}

impl FailingDisk {
    fn mount(folder: &Path) -> Option<Self> {
        let small = folder.join("small");
        let disk = folder.join("disk");
        std::fs::create_dir_all(&small).unwrap();
        std::fs::create_dir_all(&disk).unwrap();
        let mounts = Self { small, disk };
        let small = mounts.small.to_str()?;
        let image = mounts.small.join("image");
        run(&["mount", "-t", "tmpfs", "-o", "size=4M", "tmpfs", small])?;
        std::fs::File::create(&image).ok()?.set_len(64 << 20).ok()?;
        let image = image.to_str()?;
        run(&[
            "mkfs.ext4",
            "-q",
            "-F",
            "-O",
            "^has_journal",
            "-E",
            "lazy_itable_init=1,nodiscard",
            image,
        ])?;
        run(&["mount", "-o", "loop", image, mounts.disk.to_str()?])?;
        Some(mounts)
    }
}

impl Drop for FailingDisk {
    fn drop(&mut self) {
        for mounted in [&self.disk, &self.small] {
            // Lazily: the disk cannot write back what it still holds.
            let _ = Command::new("umount").arg("-l").arg(mounted).output();
        }
    }
}

#[test]
fn a_descriptor_from_the_ring_is_an_ordinary_one() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let raw = on_a_ring(move || async move {
        let _peer = TcpStream::connect(address).unwrap();
        let listener = Arc::new(OwnedFd::from(listener));
        let socket = op::accept(&listener).await.unwrap();
        // Blocking, as the ring wants it: EAGAIN would come at once otherwise.
        let flags = rustix::fs::fcntl_getfl(&socket).unwrap();
        assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
        assert!(
            rustix::io::fcntl_getfd(&socket)
                .unwrap()
                .contains(rustix::io::FdFlags::CLOEXEC)
        );
        socket.as_raw_fd()
    });
    assert!(raw > 2);
}

/// A receive that is hurried when it has just ended: what its connection waits for next is not
/// cancelled in its place.
#[test]
fn a_late_hurry_leaves_the_next_operation_alone() {
    on_a_ring(|| async {
        let blocks = blocks();
        let (wire, mut peer, socket) = wire_and_ends();
        let block = blocks.body(0).unwrap();
        peer.write_all(&vec![1; BLOCK_BYTES]).unwrap();
        until_queued(&socket, BLOCK_BYTES as u64).await;
        let mut fill = pin!(wire.fill(block, 0..BLOCK_BYTES));
        start(fill.as_mut()).await;
        // Its completion is here, but whoever waits for it was not polled yet.
        until_queued(&socket, 0).await;
        wire.hurry();
        let (filled, _block) = fill.await;
        assert_eq!(filled.unwrap(), Fill::Bytes(BLOCK_BYTES));
        let mut ready = pin!(wire.ready());
        start(ready.as_mut()).await;
        op::give_way().await;
        peer.write_all(b"next").unwrap();
        assert!(ready.await.is_ok(), "it was cancelled");
    });
}
