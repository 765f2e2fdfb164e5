//! Connections: two byte pipes that delay, split and merge, stall and reset, and never reorder or
//! drop.
//!
//! As in TCP, closing with unread bytes resets, and a reset may take bytes away that the other side
//! has not read yet.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;

use bitsd::server::floor::{Fill, Wire};
use bitsd::vault::disk::Block as _;

use crate::clock::{Park, Wakers};
use crate::rng::Rng;
use crate::sim::Sim;
use crate::world::SimBlock;

/// How a network treats bytes.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// A segment takes up to so many milliseconds.
    pub delay_ms_max: u64,
    /// So many of a thousand reads return less than there is.
    pub split: u64,
    /// Bytes under way or unread, per direction.
    pub capacity: usize,
}

/// One connection as both ends see it.
pub struct Conn {
    sim: Rc<Sim>,
    peer: SocketAddr,
    weather: Weather,
    rng: RefCell<Rng>,
    up: Pipe,
    down: Pipe,
    /// Descriptors on the server's side; the last one closes it.
    handles: Cell<usize>,
    is_shut_by_server: Cell<bool>,
    is_hurried: Cell<bool>,
    /// The turn in which the server read last, and how often.
    turn: Cell<(u64, u32)>,
}

/// Reads of one connection in a single turn of its task: whoever finds more to read gives way.
const READS_PER_TURN_MAX: u32 = 100;

/// One direction.
#[derive(Default)]
struct Pipe {
    segments: RefCell<VecDeque<(u64, VecDeque<u8>)>>,
    bytes: Cell<usize>,
    last_arrival: Cell<u64>,
    /// When the reader hears the end.
    end: Cell<Option<u64>>,
    is_reset: Cell<bool>,
    /// Nothing that is sent from now on arrives.
    is_stalled: Cell<bool>,
    wakers: Wakers,
}

impl Conn {
    /// A new connection.
    pub fn open(sim: &Rc<Sim>, peer: SocketAddr, weather: Weather, rng: Rng) -> Rc<Self> {
        Rc::new(Self {
            sim: Rc::clone(sim),
            peer,
            weather,
            rng: RefCell::new(rng),
            up: Pipe::default(),
            down: Pipe::default(),
            handles: Cell::new(0),
            is_shut_by_server: Cell::new(false),
            is_hurried: Cell::new(false),
            turn: Cell::new((0, 0)),
        })
    }

    fn now(&self) -> u64 {
        self.sim.executor.now()
    }

    /// In peace, networks are fast.
    fn delay_ms_max(&self) -> u64 {
        let most = if self.sim.has_faults.get() {
            u64::MAX
        } else {
            20
        };
        self.weather.delay_ms_max.min(most)
    }

    /// Puts bytes on their way in segments.
    fn put(&self, pipe: &Pipe, bytes: &[u8]) {
        let mut rng = self.rng.borrow_mut();
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = if rng.chance(self.weather.split) {
                rng.index(rest.len()) + 1
            } else {
                rest.len()
            };
            let delay = rng.below(self.delay_ms_max() + 1);
            let arrival = (self.now() + delay).max(pipe.last_arrival.get());
            pipe.last_arrival.set(arrival);
            let segment = rest[..taken].iter().copied().collect();
            let arrival = if pipe.is_stalled.get() {
                u64::MAX
            } else {
                arrival
            };
            pipe.segments.borrow_mut().push_back((arrival, segment));
            pipe.bytes.set(pipe.bytes.get() + taken);
            rest = &rest[taken..];
        }
        pipe.wakers.wake();
    }

    /// Takes bytes that arrived into `into`; `None` if there are none yet, 0 at the end.
    fn take(&self, pipe: &Pipe, into: &mut [u8]) -> Option<io::Result<usize>> {
        if pipe.is_reset.get() {
            return Some(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let mut segments = pipe.segments.borrow_mut();
        let is_split = self.rng.borrow_mut().chance(self.weather.split);
        let mut taken = 0;
        while taken < into.len()
            && let Some((arrival, segment)) = segments.front_mut()
            && *arrival <= self.now()
        {
            if is_split && taken > 0 {
                break;
            }
            let mut here = segment.len().min(into.len() - taken);
            if is_split {
                here = self.rng.borrow_mut().index(here) + 1;
            }
            for (to, byte) in into[taken..].iter_mut().zip(segment.drain(..here)) {
                *to = byte;
            }
            taken += here;
            if segment.is_empty() {
                segments.pop_front();
            }
        }
        if taken > 0 {
            pipe.bytes.set(pipe.bytes.get() - taken);
            drop(segments);
            pipe.wakers.wake();
            return Some(Ok(taken));
        }
        let is_over = segments.is_empty() && pipe.end.get().is_some_and(|at| at <= self.now());
        is_over.then_some(Ok(0))
    }

    /// The server reads once more.
    fn count_read(&self) {
        let now = self.sim.executor.steps();
        let (turn, reads) = self.turn.get();
        let reads = if turn == now { reads + 1 } else { 1 };
        assert!(
            reads <= READS_PER_TURN_MAX,
            "a connection kept all others from their turns"
        );
        self.turn.set((now, reads));
    }

    /// When a reader should look again of its own accord.
    fn next_arrival(&self, pipe: &Pipe) -> Option<u64> {
        let first = pipe.segments.borrow().front().map(|(arrival, _)| *arrival);
        let next = first.or(pipe.end.get())?;
        (next != u64::MAX).then(|| next.max(self.now() + 1))
    }

    async fn parked(&self, pipe: &Pipe) {
        let until = self.next_arrival(pipe);
        Park::new(&self.sim.executor, Some(&pipe.wakers), until).await;
    }

    fn end(&self, pipe: &Pipe) {
        if pipe.end.get().is_none() && !pipe.is_stalled.get() {
            let delay = self.rng.borrow_mut().below(self.delay_ms_max() + 1);
            let at = (self.now() + delay).max(pipe.last_arrival.get());
            pipe.end.set(Some(at));
        }
        pipe.wakers.wake();
    }

    fn reset(&self) {
        for pipe in [&self.up, &self.down] {
            pipe.is_reset.set(true);
            pipe.wakers.wake();
        }
    }

    /// The last descriptor of the server is gone.
    fn close_by_server(&self) {
        if self.up.bytes.get() > 0 && !self.up.is_stalled.get() {
            // As the kernel does: what was sent and not read yet is lost now and then.
            if self.rng.borrow_mut().chance(500) {
                self.down.is_reset.set(true);
            }
            self.up.is_reset.set(true);
        }
        self.is_shut_by_server.set(true);
        self.end(&self.down);
        self.up.wakers.wake();
    }
}

/// The server's end.
pub struct SimWire(Rc<Conn>);

impl SimWire {
    /// One more descriptor of the server's side.
    pub fn new(conn: &Rc<Conn>) -> Self {
        conn.handles.set(conn.handles.get() + 1);
        Self(Rc::clone(conn))
    }

    /// A second descriptor.
    pub fn duplicate(&self) -> Self {
        Self::new(&self.0)
    }
}

impl Drop for SimWire {
    fn drop(&mut self) {
        self.0.handles.set(self.0.handles.get() - 1);
        if self.0.handles.get() == 0 {
            self.0.close_by_server();
        }
    }
}

impl SimWire {
    async fn push(&self, bytes: &[u8]) -> io::Result<()> {
        let conn = &self.0;
        let mut sent = 0;
        while sent < bytes.len() {
            if conn.is_shut_by_server.get() || conn.down.is_reset.get() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            // An answer fits any socket's buffer; less would be a deadlock with a client that sends
            // first.
            let capacity = conn.weather.capacity.max(1_024);
            let room = capacity.saturating_sub(conn.down.bytes.get());
            let now = room.min(bytes.len() - sent);
            if now == 0 {
                Park::new(&conn.sim.executor, Some(&conn.down.wakers), None).await;
                continue;
            }
            conn.put(&conn.down, &bytes[sent..sent + now]);
            sent += now;
        }
        Ok(())
    }
}

impl Wire for SimWire {
    type Block = SimBlock;

    fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    async fn ready(&self) -> io::Result<()> {
        let (conn, pipe) = (&self.0, &self.0.up);
        loop {
            let now = conn.now();
            let has_bytes = (pipe.segments.borrow().front()).is_some_and(|(at, _)| *at <= now);
            let is_over = pipe.end.get().is_some_and(|at| at <= now) && pipe.bytes.get() == 0;
            if has_bytes || is_over || pipe.is_reset.get() || conn.is_shut_by_server.get() {
                return Ok(());
            }
            conn.parked(pipe).await;
        }
    }

    async fn read(
        &self,
        mut block: SimBlock,
        range: Range<usize>,
    ) -> (io::Result<usize>, SimBlock) {
        assert!(
            !range.is_empty(),
            "a read of nothing would look like the end"
        );
        let conn = &self.0;
        conn.count_read();
        loop {
            if conn.is_shut_by_server.get() {
                return (Ok(0), block);
            }
            if let Some(result) = conn.take(&conn.up, &mut block.bytes_mut()[range.clone()]) {
                return (result, block);
            }
            conn.parked(&conn.up).await;
        }
    }

    async fn fill(&self, mut block: SimBlock, range: Range<usize>) -> (io::Result<Fill>, SimBlock) {
        assert!(
            !range.is_empty(),
            "a fill of nothing would look like the end"
        );
        let conn = &self.0;
        let mut from = range.start;
        conn.is_hurried.set(false);
        loop {
            let filled = from - range.start;
            let came = |filled| {
                if filled > 0 {
                    Fill::Bytes(filled)
                } else {
                    Fill::End
                }
            };
            if conn.is_shut_by_server.get() {
                return (Ok(came(filled)), block);
            }
            match conn.take(&conn.up, &mut block.bytes_mut()[from..range.end]) {
                Some(Ok(0)) => return (Ok(came(filled)), block),
                Some(Ok(taken)) => from += taken,
                Some(Err(error)) => return (Err(error), block),
                None if conn.is_hurried.replace(false) => {
                    let fill = if filled > 0 {
                        Fill::Bytes(filled)
                    } else {
                        Fill::Slow
                    };
                    conn.sim.marks.hit("fill hurried");
                    return (Ok(fill), block);
                }
                None => conn.parked(&conn.up).await,
            }
            if from == range.end {
                return (Ok(Fill::Bytes(range.len())), block);
            }
        }
    }

    fn hurry(&self) {
        self.0.is_hurried.set(true);
        self.0.up.wakers.wake();
    }

    async fn send(&self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        self.0.sim.judge_answer(&bytes);
        (self.push(&bytes).await, bytes)
    }

    async fn send_block(&self, block: SimBlock, range: Range<usize>) -> (io::Result<()>, SimBlock) {
        (self.push(&block.bytes()[range]).await, block)
    }

    fn has_left(&self) -> bool {
        let up = &self.0.up;
        up.is_reset.get() || up.end.get().is_some_and(|at| at <= self.0.now())
    }

    fn has_unread(&self) -> bool {
        let (up, now) = (&self.0.up, self.0.now());
        let first = up.segments.borrow().front().map(|(at, _)| *at);
        first.or(up.end.get()).is_some_and(|at| at <= now)
    }

    fn finish(&self) {
        self.0.end(&self.0.down);
    }

    fn shutdown(&self) {
        self.0.is_shut_by_server.set(true);
        self.0.end(&self.0.down);
        self.0.up.wakers.wake();
    }
}

/// The client's end; dropping it closes the connection.
pub struct ClientEnd(Rc<Conn>);

impl ClientEnd {
    /// The only one of a connection.
    pub fn new(conn: Rc<Conn>) -> Self {
        Self(conn)
    }

    /// Sends all bytes, or finds the connection broken.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let conn = &self.0;
        conn.sim
            .tell(|| format!("{} sends {:?}", conn.peer, String::from_utf8_lossy(bytes)));
        let mut sent = 0;
        while sent < bytes.len() {
            if conn.is_shut_by_server.get() || conn.up.is_reset.get() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let room = conn.weather.capacity.saturating_sub(conn.up.bytes.get());
            let now = room.min(bytes.len() - sent);
            if now == 0 {
                Park::new(&conn.sim.executor, Some(&conn.up.wakers), None).await;
                continue;
            }
            conn.put(&conn.up, &bytes[sent..sent + now]);
            sent += now;
        }
        Ok(())
    }

    /// Reads what is there; 0 is the end. `None` if nothing came until `deadline`.
    pub async fn read(&self, into: &mut [u8], deadline: u64) -> Option<io::Result<usize>> {
        let conn = &self.0;
        loop {
            if let Some(result) = conn.take(&conn.down, into) {
                return Some(result);
            }
            if conn.now() >= deadline {
                return None;
            }
            let until = conn.next_arrival(&conn.down).unwrap_or(u64::MAX);
            let wakers = Some(&conn.down.wakers);
            Park::new(&conn.sim.executor, wakers, Some(until.min(deadline))).await;
        }
    }

    /// Ends its own side and reads on.
    pub fn half_close(&self) {
        self.0.end(&self.0.up);
    }

    /// Breaks the connection.
    pub fn reset(&self) {
        self.0.reset();
    }

    /// From now on nothing that is sent arrives, nor does the end.
    pub fn stall(&self) {
        self.0.up.is_stalled.set(true);
    }
}

impl Drop for ClientEnd {
    fn drop(&mut self) {
        if self.0.down.bytes.get() > 0 {
            self.0.reset();
        } else {
            self.0.end(&self.0.up);
        }
    }
}
