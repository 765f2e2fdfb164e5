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

use bitsd::ring::tls::line::Received;
use bitsd::ring::tls::wire::{self as tls, Kit, Tls};
use bitsd::server::crowd;
use bitsd::server::floor::{Fill, Security, Wire};
use bitsd::vault::disk::Block as _;

use crate::clock::{Park, Wakers, sleep};
use crate::rng::Rng;
use crate::secure::{ClientSide, Found};
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
    /// Bytes that its reader has had.
    taken: Cell<u64>,
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
            pipe.taken.set(pipe.taken.get() + taken as u64);
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

    /// The world that it is in.
    pub fn sim(&self) -> &Sim {
        &self.sim
    }

    /// Waits until the server could read bytes, or the end.
    pub async fn arrived(&self) {
        let pipe = &self.up;
        loop {
            let now = self.now();
            let has_bytes = (pipe.segments.borrow().front()).is_some_and(|(at, _)| *at <= now);
            let is_over = pipe.end.get().is_some_and(|at| at <= now) && pipe.bytes.get() == 0;
            if has_bytes || is_over || pipe.is_reset.get() || self.is_shut_by_server.get() {
                return;
            }
            self.parked(pipe).await;
        }
    }

    /// The first byte that the server could read.
    pub fn first_arrived(&self) -> Option<u8> {
        let segments = self.up.segments.borrow();
        let (at, segment) = segments.front()?;
        segment.front().copied().filter(|_| *at <= self.now())
    }

    /// Gives the server what has arrived; `None` if that is nothing.
    pub fn receive(&self, memory: &mut [u8]) -> Option<io::Result<usize>> {
        self.count_read();
        match self.is_shut_by_server.get() {
            true => Some(Ok(0)),
            false => self.take(&self.up, memory),
        }
    }

    /// Fills the server's memory; see [`SimWire::hurry`].
    pub async fn receive_whole(&self, memory: &mut [u8]) -> io::Result<Received> {
        let mut filled = 0;
        self.is_hurried.set(false);
        loop {
            if self.is_shut_by_server.get() {
                return Ok(Received::Bytes(filled));
            }
            match self.take(&self.up, &mut memory[filled..]) {
                Some(Ok(0)) => return Ok(Received::Bytes(filled)),
                Some(Ok(taken)) => filled += taken,
                Some(Err(error)) => return Err(error),
                None if self.is_hurried.replace(false) => {
                    self.sim.marks.hit("fill hurried");
                    return Ok(match filled {
                        0 => Received::Slow,
                        filled => Received::Bytes(filled),
                    });
                }
                None => self.parked(&self.up).await,
            }
            if filled == memory.len() {
                return Ok(Received::Bytes(filled));
            }
        }
    }

    /// Sends the server's bytes.
    pub async fn push(&self, bytes: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        while sent < bytes.len() {
            if self.is_shut_by_server.get() || self.down.is_reset.get() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            // An answer fits any socket's buffer; less would be a deadlock with a client that sends
            // first.
            let capacity = self.weather.capacity.max(1_024);
            let room = capacity.saturating_sub(self.down.bytes.get());
            let now = room.min(bytes.len() - sent);
            if now == 0 {
                Park::new(&self.sim.executor, Some(&self.down.wakers), None).await;
                continue;
            }
            self.put(&self.down, &bytes[sent..sent + now]);
            sent += now;
        }
        Ok(())
    }

    /// Sends what there is room for.
    pub fn push_now(&self, bytes: &[u8]) {
        let is_open = !self.is_shut_by_server.get() && self.down.end.get().is_none();
        if is_open && !self.down.is_reset.get() {
            self.put(&self.down, bytes);
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
pub struct SimWire {
    conn: Rc<Conn>,
    tls: Option<Tls>,
}

impl SimWire {
    /// One more descriptor of the server's side.
    pub fn new(conn: &Rc<Conn>, tls: Option<Tls>) -> Self {
        conn.handles.set(conn.handles.get() + 1);
        let conn = Rc::clone(conn);
        Self { conn, tls }
    }

    /// A second descriptor, for another shard, which gets what TLS knows as well.
    pub fn hand_over(&self, kit: &Rc<Kit>) -> Self {
        let session = self.tls.as_ref().and_then(Tls::take);
        if session.is_some() {
            self.conn.sim.marks.hit("hand-over of a secure connection");
        }
        let tls = session.map(|session| Tls::with(session, Rc::clone(kit)));
        Self::new(&self.conn, tls)
    }

    fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref().filter(|tls| tls.is_on())
    }

    fn say_the_end(&self) {
        if let Some(tls) = self.tls() {
            tls::close(&*self.conn, tls);
        }
    }
}

impl Drop for SimWire {
    fn drop(&mut self) {
        self.say_the_end();
        self.conn.handles.set(self.conn.handles.get() - 1);
        if self.conn.handles.get() == 0 {
            self.conn.close_by_server();
        }
    }
}

impl Wire for SimWire {
    type Block = SimBlock;

    fn peer(&self) -> SocketAddr {
        self.conn.peer
    }

    async fn open(&self) -> io::Result<()> {
        match self.tls() {
            Some(tls) => {
                let client = crowd::client(self.conn.peer);
                tls::open(&*self.conn, tls, Some(client)).await
            }
            None => Ok(()),
        }
    }

    async fn ready(&self) -> io::Result<()> {
        if let Some(tls) = self.tls()
            && tls.has_something()?
        {
            return Ok(());
        }
        self.conn.arrived().await;
        Ok(())
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
        if let Some(tls) = self.tls() {
            return tls::read(&*self.conn, tls, block, range).await;
        }
        loop {
            if let Some(result) = self.conn.receive(&mut block.bytes_mut()[range.clone()]) {
                return (result, block);
            }
            self.conn.parked(&self.conn.up).await;
        }
    }

    async fn fill(&self, mut block: SimBlock, range: Range<usize>) -> (io::Result<Fill>, SimBlock) {
        assert!(
            !range.is_empty(),
            "a fill of nothing would look like the end"
        );
        if let Some(tls) = self.tls() {
            self.conn.sim.marks.hit("secure body filled");
            return tls::fill(&*self.conn, tls, block, range).await;
        }
        let received = self.conn.receive_whole(&mut block.bytes_mut()[range]).await;
        let fill = received.map(|received| match received {
            Received::Bytes(0) => Fill::End,
            Received::Bytes(bytes) => Fill::Bytes(bytes),
            Received::Slow => Fill::Slow,
        });
        (fill, block)
    }

    fn hurry(&self) {
        self.conn.is_hurried.set(true);
        self.conn.up.wakers.wake();
    }

    async fn send(&self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        self.conn.sim.judge_answer(&bytes);
        let sent = match self.tls() {
            Some(tls) => tls::send(&*self.conn, tls, &bytes).await,
            None => self.conn.push(&bytes).await,
        };
        (sent, bytes)
    }

    async fn send_block(&self, block: SimBlock, range: Range<usize>) -> (io::Result<()>, SimBlock) {
        let sent = match self.tls() {
            Some(tls) => tls::send_block(&*self.conn, tls, &block, range).await,
            None => self.conn.push(&block.bytes()[range]).await,
        };
        (sent, block)
    }

    fn taken(&self) -> Option<u64> {
        Some(self.conn.down.taken.get())
    }

    fn is_encrypted(&self) -> bool {
        self.tls().is_some()
    }

    fn take_security(&self) -> Option<Security> {
        self.tls().and_then(Tls::take_security)
    }

    fn has_left(&self) -> bool {
        let up = &self.conn.up;
        up.is_reset.get() || up.end.get().is_some_and(|at| at <= self.conn.now())
    }

    fn has_unread(&self) -> bool {
        let (up, now) = (&self.conn.up, self.conn.now());
        let first = up.segments.borrow().front().map(|(at, _)| *at);
        let has_come = first.or(up.end.get()).is_some_and(|at| at <= now);
        has_come || self.tls().is_some_and(Tls::holds_bytes)
    }

    fn finish(&self) {
        self.say_the_end();
        self.conn.end(&self.conn.down);
    }

    fn shutdown(&self) {
        self.say_the_end();
        self.conn.is_shut_by_server.set(true);
        self.conn.end(&self.conn.down);
        self.conn.up.wakers.wake();
    }
}

/// How long a client shakes hands, in milliseconds.
const HANDSHAKE_MS: u64 = 120_000;

/// The client's end; dropping it closes the connection.
pub struct ClientEnd {
    conn: Rc<Conn>,
    tls: Option<ClientSide>,
    /// How long it waits before each of so many receives.
    pace: Cell<(u64, u32)>,
}

impl ClientEnd {
    /// The only one of a connection.
    pub fn new(conn: Rc<Conn>) -> Self {
        let (tls, pace) = (None, Cell::default());
        Self { conn, tls, pace }
    }

    /// The same, but it speaks TLS.
    pub fn secure(conn: Rc<Conn>) -> Self {
        let (tls, pace) = (Some(ClientSide::new()), Cell::default());
        Self { conn, tls, pace }
    }

    /// Sends all bytes, or finds the connection broken.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let conn = &self.conn;
        conn.sim
            .tell(|| format!("{} sends {:?}", conn.peer, String::from_utf8_lossy(bytes)));
        let Some(tls) = &self.tls else {
            return self.push(bytes).await;
        };
        let deadline = conn.now() + HANDSHAKE_MS;
        while tls.is_handshaking() {
            self.push(&tls.take_out()).await?;
            if tls.is_handshaking() {
                match self.digest(tls, deadline).await {
                    Some(Ok(1..)) => {}
                    Some(Ok(_)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Some(Err(error)) => return Err(error),
                    None => return Err(io::ErrorKind::TimedOut.into()),
                }
            }
        }
        tls.seal(bytes);
        self.push(&tls.take_out()).await
    }

    async fn push(&self, bytes: &[u8]) -> io::Result<()> {
        let conn = &self.conn;
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
        let Some(tls) = &self.tls else {
            return self.pull(into, deadline).await;
        };
        loop {
            match tls.read(into) {
                Ok(Found::Bytes(bytes)) => return Some(Ok(bytes)),
                Ok(Found::End) => return Some(Ok(0)),
                Ok(Found::Nothing) => {}
                Err(error) => return Some(Err(error)),
            }
            match self.digest(tls, deadline).await? {
                Ok(1..) => {}
                // Without its word that nothing more comes: a cut.
                Ok(_) => return Some(Err(io::ErrorKind::UnexpectedEof.into())),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Receives something for TLS; as [`Self::pull`].
    async fn digest(&self, tls: &ClientSide, deadline: u64) -> Option<io::Result<usize>> {
        let mut bytes = [0; 4_096];
        let read = self.pull(&mut bytes, deadline).await?;
        if let Ok(read) = read
            && let Err(why) = tls.digest(&bytes[..read])
        {
            // Networks lose bytes only with all that follow, so this is the server's doing.
            let what = format!("6: TLS of the server makes no sense: {why}");
            self.conn.sim.judge.borrow_mut().fail(what);
            return Some(Err(io::ErrorKind::InvalidData.into()));
        }
        Some(read)
    }

    /// From now on it waits so many milliseconds before each of so many receives.
    pub fn take_time(&self, ms: u64, receives: u32) {
        self.pace.set((ms, receives));
    }

    async fn pull(&self, into: &mut [u8], deadline: u64) -> Option<io::Result<usize>> {
        let conn = &self.conn;
        if let (ms, left @ 1..) = self.pace.get() {
            self.pace.set((ms, left - 1));
            sleep(&conn.sim.executor, ms).await;
        }
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

    /// Ends its own side and reads on; by TLS it says so, or not.
    pub fn half_close(&self) {
        if let Some(tls) = &self.tls
            && !tls.is_handshaking()
            && self.conn.rng.borrow_mut().chance(700)
        {
            self.conn.sim.marks.hit("close_notify in mid-body");
            tls.close();
            self.conn.put(&self.conn.up, &tls.take_out());
        }
        self.conn.end(&self.conn.up);
    }

    /// Breaks the connection.
    pub fn reset(&self) {
        self.conn.reset();
    }

    /// From now on nothing that is sent arrives, nor does the end.
    pub fn stall(&self) {
        self.conn.up.is_stalled.set(true);
    }
}

impl Drop for ClientEnd {
    fn drop(&mut self) {
        if self.conn.down.bytes.get() > 0 {
            self.conn.reset();
        } else {
            self.conn.end(&self.conn.up);
        }
    }
}
