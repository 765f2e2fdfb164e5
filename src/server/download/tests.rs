//! Whole answers over a floor in memory, on which every operation is done when it is asked for.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::auth::hash::{Attempt, TooManyAttempts};
use crate::auth::negotiation::{Leg, Negotiated, NotNegotiated};
use crate::bits::notification::Answer;
use crate::http::head::{self, HeadLimits, Parsed};
use crate::metrics::shard::ShardMetrics;
use crate::server::floor::{
    CloudEvent, Fill, HEAD_BLOCK_BYTES_MAX, HandOverFull, NotifyError, Order, Wire,
};
use crate::server::visit::Visit;
use crate::vault::disk::Runtime;
use crate::vault::owed::EventTarget;

const BODY_BLOCK_BYTES: usize = 256 << 10;

#[derive(Default)]
struct Outside {
    /// The file; none is there if `None`.
    file: Option<Vec<u8>>,
    /// What its stat says, if not its length.
    promised: Option<u64>,
    open_error: Option<i32>,
    /// Bytes that one read gives at the most.
    read_bytes_max: usize,
    body_blocks: usize,
    /// By what we prove who we are.
    proof: Vec<u8>,
    /// Milliseconds that a send takes.
    send_ms: u64,
    /// Sends until the connection breaks.
    sends_max: usize,
    now: Cell<u64>,
    sent: RefCell<Vec<u8>>,
    /// Lengths of the sends.
    sends: RefCell<Vec<usize>>,
    /// Lengths of the blocks that were read into.
    reads: RefCell<Vec<usize>>,
    bodies_out: Cell<usize>,
    metrics: ShardMetrics,
    failures: RefCell<Vec<DiskOp>>,
    /// Where files were cut.
    cuts: RefCell<Vec<u64>>,
    /// When the session of the reply was told that it goes on.
    progress: RefCell<Vec<u64>>,
}

struct Memory {
    bytes: Vec<u8>,
    /// A body block of this floor.
    of: Option<Rc<Outside>>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(outside) = &self.of {
            outside.bodies_out.set(outside.bodies_out.get() - 1);
        }
    }
}

impl Block for Memory {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

struct Sink(Rc<Outside>);

impl Sink {
    fn take(&self, bytes: &[u8]) -> io::Result<()> {
        let outside = &self.0;
        if outside.sends.borrow().len() == outside.sends_max {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        outside.now.set(outside.now.get() + outside.send_ms);
        outside.sends.borrow_mut().push(bytes.len());
        outside.sent.borrow_mut().extend_from_slice(bytes);
        Ok(())
    }
}

impl Wire for Sink {
    type Block = Memory;

    fn peer(&self) -> SocketAddr {
        ([127, 0, 0, 1], 1).into()
    }

    async fn ready(&self) -> io::Result<()> {
        Ok(())
    }

    async fn read(&self, block: Memory, _: Range<usize>) -> (io::Result<usize>, Memory) {
        (Ok(0), block)
    }

    async fn fill(&self, block: Memory, _: Range<usize>) -> (io::Result<Fill>, Memory) {
        (Ok(Fill::End), block)
    }

    fn hurry(&self) {}

    async fn send(&self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        (self.take(&bytes), bytes)
    }

    async fn send_block(&self, block: Memory, range: Range<usize>) -> (io::Result<()>, Memory) {
        (self.take(&block.bytes[range]), block)
    }

    fn finish(&self) {}

    fn shutdown(&self) {}
}

/// The file that is sent.
struct Sent(Rc<Outside>);

impl Readable for Sent {
    type Block = Memory;

    async fn read_at(
        &self,
        mut block: Memory,
        range: Range<usize>,
        offset: u64,
    ) -> (io::Result<usize>, Memory) {
        assert!(!range.is_empty());
        self.0.reads.borrow_mut().push(block.bytes.len());
        let file = self.0.file.as_deref().unwrap();
        let left = &file[usize::try_from(offset).unwrap().min(file.len())..];
        let read = left.len().min(range.len()).min(self.0.read_bytes_max);
        block.bytes[range][..read].copy_from_slice(&left[..read]);
        (Ok(read), block)
    }
}

/// A floor on which nothing happens but what is sent.
struct InMemory(Rc<Outside>);

impl Runtime for InMemory {
    fn now(&self) -> Millis {
        self.0.now.get()
    }

    fn wall_clock_ms(&self) -> u64 {
        0
    }

    fn emit(&self, event: Event<'_>) {
        match event {
            Event::DiskFailed { op, .. } => self.0.failures.borrow_mut().push(op),
            Event::FileCut { at, .. } => self.0.cuts.borrow_mut().push(at),
            _ => {}
        }
    }

    async fn give_way(&self) {}
}

impl Floor for InMemory {
    type Wire = Sink;
    type Block = Memory;

    fn random(&self) -> [u8; 16] {
        [0; 16]
    }

    fn spawn(&self, _: impl Future<Output = ()> + 'static) {}

    fn chronicle(&self) -> &std::cell::RefCell<crate::server::chronicle::Chronicle> {
        unreachable!("nothing ends here")
    }

    fn metrics(&self) -> &ShardMetrics {
        &self.0.metrics
    }

    fn series(&self, _: &str) -> usize {
        0
    }

    async fn tick(&self) {}
    async fn pass(&self, _: Millis) {}

    fn head_block(&self) -> Memory {
        let bytes = vec![0; HEAD_BLOCK_BYTES_MAX];
        Memory { bytes, of: None }
    }

    fn long_head_block(&self, _: Option<IpAddr>) -> Option<Memory> {
        None
    }

    fn body_block(&self, _: u64) -> Option<Memory> {
        let out = self.0.bodies_out.get();
        (out < self.0.body_blocks).then(|| {
            self.0.bodies_out.set(out + 1);
            let bytes = vec![0; BODY_BLOCK_BYTES];
            let of = Some(Rc::clone(&self.0));
            Memory { bytes, of }
        })
    }

    fn hand_over(&self, _: &Sink, _: &[u8], _: &Visit, _: usize) -> Result<(), HandOverFull> {
        Err(HandOverFull)
    }

    async fn verify(&self, _: Attempt) -> Result<bool, TooManyAttempts> {
        Err(TooManyAttempts)
    }

    async fn negotiate(&self, _: Leg) -> Result<Negotiated, NotNegotiated> {
        Err(NotNegotiated::TooMany)
    }

    async fn tell_outside(&self, _: EventTarget, _: CloudEvent) -> Result<(), String> {
        unreachable!("nothing ends here")
    }

    async fn notify(&self, _: Order) -> Result<Answer, NotifyError> {
        Err(NotifyError::Busy)
    }
}

fn outside(file: Option<Vec<u8>>) -> Outside {
    Outside {
        file,
        read_bytes_max: usize::MAX,
        sends_max: usize::MAX,
        body_blocks: 1,
        ..Outside::default()
    }
}

/// What the disk says of the file.
fn open(outside: &Rc<Outside>) -> io::Result<Option<(Sent, ReplyStat)>> {
    if let Some(error) = outside.open_error {
        return Err(io::Error::from_raw_os_error(error));
    }
    let stat = |file: &Vec<u8>| ReplyStat {
        sha256: None,
        bytes: outside.promised.unwrap_or(file.len() as u64),
        modified_s: 784_111_777,
        modified_nanos: 5,
        inode: 7,
    };
    let file = outside.file.as_ref();
    Ok(file.map(|file| (Sent(Rc::clone(outside)), stat(file))))
}

/// Downloads; gives back how it ended, and what the client heard: head and body.
fn download(outside: &Rc<Outside>, fields: &str) -> (Result<Persistence, Cut>, String, Vec<u8>) {
    let floor = InMemory(Rc::clone(outside));
    let wire = Sink(Rc::clone(outside));
    let peer = wire.peer();
    let connection = Connection::new(1, wire, peer, 0);
    let shares = Shares::of(64);

    let text = format!("GET /reply HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    let limits = HeadLimits {
        head_bytes_max: 16_384,
        headers_max: 64,
        value_bytes_max: 4_096,
    };
    let Ok(Parsed::Complete(head)) = head::parse(text.as_bytes(), &limits) else {
        panic!("{text}");
    };
    let request = download::parse(&head);
    let mut answer = Vec::new();
    let result = {
        let sender = Sender {
            floor: &floor,
            connection: &connection,
            shares: &shares,
            dateline: &Dateline::default(),
            head_block_bytes: HEAD_BLOCK_BYTES_MAX,
            answer: &mut answer,
            proof: outside.proof.clone(),
            path: "in/a.bin",
            progress: Some(&|now| outside.progress.borrow_mut().push(now)),
            is_slow: false,
        };
        let found = found(DiskOp::Open, open(outside));
        let sent = pin!(send(sender, found, &request, Persistence::KeepAlive));
        match sent.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => panic!("nothing here has to wait"),
        }
    };
    if result.is_ok() {
        assert_eq!(answer.capacity(), 0, "all is sent, and no memory kept");
    }
    assert_eq!(outside.bodies_out.get(), 0, "every block came back");
    let sent = outside.sent.take();
    let end = sent.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let (head, body) = sent.split_at(end.map_or(sent.len(), |end| end + 4));
    let head = String::from_utf8(head.to_vec()).unwrap();
    (result, head, body.to_vec())
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

const KEPT: Result<Persistence, Cut> = Ok(Persistence::KeepAlive);

#[test]
fn files_of_every_size_arrive_whole() {
    let gather = GATHER_BYTES_MAX;
    for len in [
        0,
        1,
        gather - 200,
        gather,
        gather + 1,
        16 << 10,
        (16 << 10) + 1,
        BODY_BLOCK_BYTES,
        3 * BODY_BLOCK_BYTES + 1,
    ] {
        for (body_blocks, read_bytes_max) in [(1, usize::MAX), (0, usize::MAX), (1, 5_003)] {
            let outside = Rc::new(Outside {
                body_blocks,
                read_bytes_max,
                ..outside(Some(bytes(len)))
            });
            let (result, head, body) = download(&outside, "");
            assert_eq!(result, KEPT);
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            assert!(head.contains(&format!("Content-Length: {len}\r\n")));
            assert!(body == bytes(len), "{len} bytes");
            let sends = outside.sends.borrow();
            assert!(sends.iter().all(|bytes| *bytes <= SEND_BYTES_MAX));
        }
    }
}

#[test]
fn a_small_reply_goes_out_at_once_with_its_head() {
    let outside = Rc::new(outside(Some(bytes(1_000))));
    let (result, _head, body) = download(&outside, "");
    assert_eq!((result, body.len()), (KEPT, 1_000));
    assert_eq!(outside.sends.borrow().len(), 1);
    assert_eq!(*outside.reads.borrow(), [16 << 10], "no body block for it");
}

#[test]
fn ranges_arrive_in_their_frames() {
    let len = 2 * BODY_BLOCK_BYTES;
    let outside = Rc::new(outside(Some(bytes(len))));
    let (result, head, body) = download(&outside, "Range: bytes=300000-\r\n");
    assert_eq!((result, &body[..]), (KEPT, &bytes(len)[300_000..]));
    assert!(head.starts_with("HTTP/1.1 206 "), "{head}");

    let fields = "Range: bytes=300000-399999, 0-0, 5-9\r\n";
    let (result, head, body) = download(&outside, fields);
    assert_eq!(result, KEPT);
    let length = format!("Content-Length: {}\r\n", body.len());
    assert!(head.contains(&length), "{head}");
    let mut rest = &body[..];
    for range in [300_000..400_000, 0..1, 5..10] {
        let end = rest.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        rest = &rest[end.unwrap() + 4..];
        let (part, after) = rest.split_at(range.len());
        assert!(part == &bytes(len)[range]);
        rest = after;
    }
    assert!(rest.ends_with(b"--\r\n") && rest.len() < 80);
    // Two small parts and the end do not take a send each.
    assert!(outside.sends.borrow().iter().all(|bytes| *bytes > 200));
}

#[test]
fn a_file_that_became_shorter_ends_the_connection() {
    for promised in [1_001, 500_000] {
        let outside = Rc::new(Outside {
            promised: Some(promised),
            ..outside(Some(bytes(1_000)))
        });
        let (result, _head, body) = download(&outside, "");
        assert_eq!(result, Err(Cut));
        assert!((body.len() as u64) < promised);
        assert_eq!(*outside.cuts.borrow(), [1_000]);
        assert!(outside.failures.borrow().is_empty(), "the disk is well");
    }
}

#[test]
fn what_is_not_there_is_404_and_what_cannot_be_opened_may_be_tried_again() {
    let missing = Rc::new(outside(None));
    let (result, head, body) = download(&missing, "Range: bytes=0-4\r\n");
    let words = "nothing can be downloaded under this name\n";
    let expected = "HTTP/1.1 404 Not Found\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
        Content-Type: text/plain; charset=utf-8\r\nContent-Length: 42\r\n\r\n";
    assert_eq!((result, &*head), (KEPT, expected));
    assert_eq!(body, words.as_bytes());
    assert!(missing.failures.borrow().is_empty());
    for (error, status) in [(24, 503), (5, 500)] {
        let broken = Rc::new(Outside {
            open_error: Some(error),
            ..outside(None)
        });
        let (result, head, _body) = download(&broken, "");
        assert_eq!(result, KEPT);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert_eq!(*broken.failures.borrow(), [DiskOp::Open]);
    }
}

#[test]
fn a_connection_that_breaks_is_noticed_wherever_it_does() {
    for sends_max in 0..5 {
        let outside = Rc::new(Outside {
            sends_max,
            ..outside(Some(bytes(BODY_BLOCK_BYTES)))
        });
        let (result, _head, _body) = download(&outside, "");
        assert_eq!(result, Err(Cut), "after {sends_max} sends");
    }
}

#[test]
fn a_slow_peer_keeps_no_body_block_for_long() {
    let sends_per_block = (BODY_BLOCK_BYTES / SEND_BYTES_MAX) as u64;
    for (send_ms, bodies) in [(SLOW_MS / sends_per_block, 3), (SLOW_MS, 1)] {
        let outside = Rc::new(Outside {
            send_ms,
            ..outside(Some(bytes(3 * BODY_BLOCK_BYTES)))
        });
        let (result, _head, body) = download(&outside, "");
        assert_eq!((result, body.len()), (KEPT, 3 * BODY_BLOCK_BYTES));
        let reads = outside.reads.borrow();
        let found = reads.iter().filter(|bytes| **bytes == BODY_BLOCK_BYTES);
        assert_eq!(found.count(), bodies, "{send_ms} ms for a send");
    }
}

#[test]
fn a_reply_that_is_fetched_slowly_is_progress_all_the_while() {
    let outside = Rc::new(Outside {
        send_ms: 1_000,
        ..outside(Some(bytes(BODY_BLOCK_BYTES)))
    });
    let (result, ..) = download(&outside, "");
    assert_eq!(result, KEPT);
    let progress = outside.progress.borrow();
    assert!(progress.len() >= BODY_BLOCK_BYTES / SEND_BYTES_MAX);
    let gaps = progress.windows(2).map(|two| two[1] - two[0]);
    assert!(gaps.max() <= Some(1_000), "{progress:?}");
    assert_eq!(progress.last(), Some(&outside.now.get()));
}

#[test]
fn our_proof_is_the_first_field_of_the_head() {
    let outside = Rc::new(Outside {
        proof: b"abc".to_vec(),
        ..outside(Some(bytes(10)))
    });
    let (_, head, body) = download(&outside, "");
    let begin = "HTTP/1.1 200 OK\r\nWWW-Authenticate: Negotiate YWJj\r\n";
    assert!(head.starts_with(begin) && body == bytes(10), "{head}");
}
