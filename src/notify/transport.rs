//! The connections of the HTTP client, which is stricter here than by itself, and hears more.
//!
//! 1. **Time.** A write to a socket that fills up comes back when its time is over, with a part
//!    done. The next one would get the same time once more. Here all of them share it.
//! 2. **Wholeness.** A body without length or chunks ends with the connection, and only with one
//!    that was closed. If it was reset, or TLS was cut off without a word, there was more (RFC 9112
//!    8). By itself the client takes that for the end too, and half a reply would be a reply.
//! 3. **Early answers.** An application may refuse a request before it has read all of it, and
//!    close, or read no more (RFC 9112 9.5). While a socket takes no more, its answer is looked
//!    for. One of a status below 400 has to wait until everything is sent: it has not seen the
//!    rest.
//! 4. **Heads.** What [`heads`] knows of them.
//!
//! So a socket never waits by itself here: what it does not take at once is owed ([`Line`]), and
//! [`Watched`] waits, above TLS, where it can read what comes meanwhile.
//!
//! ureq changes these traits in minor versions, hence the `~` in Cargo.toml.

use std::fmt;
use std::io::{self, Read, Write};
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, RustlsConnector, Transport,
};
use ureq::{Error, Timeout};

use super::heads::{self, Begins};

/// Bytes of an answer that are read before everything is sent.
const GLANCE_MAX: usize = 64 << 10;
/// Interim answers before an answer, and their bytes.
const INTERIM_MAX: usize = 10_000;
const INTERIM_BYTES_MAX: usize = 1 << 20;

/// What the client connects with: a socket, TLS on it where the URL says https, and a look at what
/// comes and how it ends.
pub fn connector() -> impl Connector {
    Dial::default()
}

/// An answer that came before everything was sent, of a status that says that nothing more is
/// wanted.
#[derive(Debug)]
pub struct Early {
    pub status: u16,
}

impl Early {
    /// If that is what a request has failed with.
    pub fn of(error: &Error) -> Option<&Self> {
        match error {
            Error::Other(error) => error.downcast_ref(),
            _ => None,
        }
    }
}

impl fmt::Display for Early {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status;
        write!(f, "it answered {status} before it had the whole request")
    }
}

impl std::error::Error for Early {}

/// The socket, or TLS on it.
type Inner = <RustlsConnector as Connector<Socket>>::Out;

/// Opens a socket to the first address that takes it.
#[derive(Debug, Default)]
struct Dial {
    tls: RustlsConnector,
}

impl Connector for Dial {
    type Out = Watched;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Watched>, Error> {
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        let stream = dial(&details.addrs, &Limit::of(details.timeout))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let line = Arc::new(Line {
            stream,
            state: Mutex::default(),
        });
        let socket = Socket {
            line: Arc::clone(&line),
            buffers,
        };
        let inner = self.tls.connect(details, Some(socket))?;
        Ok(inner.map(|inner| Watched::new(line, inner)))
    }
}

fn dial(addresses: &[SocketAddr], limit: &Limit) -> Result<TcpStream, Error> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for (address, others) in addresses.iter().zip((0..addresses.len()).rev()) {
        let connected = match limit.left()? {
            // Each one that is still to be tried gets its share.
            Some(left) => {
                let shares = u32::try_from(others + 1).unwrap_or(u32::MAX);
                TcpStream::connect_timeout(address, (left / shares).max(SHARE_MIN))
            }
            None => TcpStream::connect(address),
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(Error::Io(last))
}

/// For one address.
const SHARE_MIN: Duration = Duration::from_millis(10);

/// Up to when something may take.
struct Limit {
    /// `None` is without end.
    deadline: Option<Instant>,
    reason: Timeout,
}

impl Limit {
    fn of(timeout: NextTimeout) -> Self {
        Self {
            deadline: Instant::now().checked_add(*timeout.after),
            reason: timeout.reason,
        }
    }

    /// What is left; never zero.
    fn left(&self) -> Result<Option<Duration>, Error> {
        let Some(deadline) = self.deadline else {
            return Ok(None);
        };
        match deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(Error::Timeout(self.reason)),
            left => Ok(Some(left)),
        }
    }
}

/// A socket that does not wait, and what it has not taken yet.
#[derive(Debug)]
struct Line {
    stream: TcpStream,
    /// Of one thread at a time.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// To be sent.
    owed: Vec<u8>,
    /// Reads do not wait either.
    is_glance: bool,
    /// Why nothing more can be sent; what has come can still be read.
    broken: Option<io::ErrorKind>,
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what is owed, as far as it is taken now.
    fn flush(&self) {
        let mut state = self.state();
        let mut done = 0;
        while done < state.owed.len() {
            match (&self.stream).write(&state.owed[done..]) {
                Ok(written @ 1..) => done += written,
                Ok(0) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    state.broken = Some(error.kind());
                    state.owed.clear();
                    return;
                }
            }
        }
        state.owed.drain(..done);
    }

    fn owes(&self) -> bool {
        !self.state().owed.is_empty()
    }

    fn broken(&self) -> Option<Error> {
        self.state().broken.map(|kind| Error::Io(kind.into()))
    }

    /// Waits until something can be done.
    fn wait(&self, wanted: PollFlags, limit: &Limit) -> Result<PollFlags, Error> {
        loop {
            let left = limit.left()?.map(Timespec::try_from);
            let left = left.transpose().map_err(io::Error::other)?;
            let mut polled = [PollFd::new(&self.stream, wanted)];
            match poll(&mut polled, left.as_ref()) {
                // It may be less than the whole time by a moment.
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(polled[0].revents()),
                Err(error) => return Err(Error::Io(error.into())),
            }
        }
    }
}

#[derive(Debug)]
struct Socket {
    line: Arc<Line>,
    buffers: LazyBuffers,
}

impl Transport for Socket {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    /// Does not wait: [`Watched`] does, and finds out too if the line is broken.
    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), Error> {
        let output = &self.buffers.output()[..amount];
        let mut state = self.line.state();
        if state.broken.is_none() {
            state.owed.extend_from_slice(output);
        }
        drop(state);
        self.line.flush();
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let limit = Limit::of(timeout);
        loop {
            // A handshake reads what it has asked for.
            self.line.flush();
            match (&self.line.stream).read(self.buffers.input_append_buf()) {
                // A reset is told once, and was if it came to who sent.
                Ok(0) => return self.line.broken().map_or(Ok(false), Err),
                Ok(read) => {
                    self.buffers.input_appended(read);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.line.state().is_glance {
                        return Err(Error::Io(error));
                    }
                    let wanted = match self.line.owes() {
                        true => PollFlags::IN | PollFlags::OUT,
                        false => PollFlags::IN,
                    };
                    self.line.wait(wanted, &limit)?;
                }
                Err(error) => {
                    self.line.state().broken = Some(error.kind());
                    return Err(Error::Io(error));
                }
            }
        }
    }

    /// No connection is kept for another request.
    fn is_open(&mut self) -> bool {
        false
    }
}

/// A connection as the client sees it.
#[derive(Debug)]
struct Watched {
    line: Arc<Line>,
    inner: Inner,
    /// Bytes have come that the client was not told of.
    is_fresh: bool,
    /// Nothing more is looked for before everything is sent.
    is_deaf: bool,
    /// The head of the answer has come, with this status; the rest is its body.
    answered: Option<u16>,
    interim: usize,
    interim_bytes: usize,
}

impl Watched {
    fn new(line: Arc<Line>, inner: Inner) -> Self {
        Self {
            line,
            inner,
            is_fresh: false,
            is_deaf: false,
            answered: None,
            interim: 0,
            interim_bytes: 0,
        }
    }

    /// Reads what has come, without waiting.
    fn glance(&mut self, timeout: NextTimeout) -> Result<(), Error> {
        self.line.state().is_glance = true;
        let looked = self.glance_on(timeout);
        self.line.state().is_glance = false;
        looked
    }

    fn glance_on(&mut self, timeout: NextTimeout) -> Result<(), Error> {
        while !self.is_deaf {
            match self.inner.await_input(timeout) {
                Ok(true) => self.is_fresh = true,
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                // How it has ended is found out again by who reads the answer.
                Ok(false) | Err(_) => self.is_deaf = true,
            }
            self.sift()?;
            if let Some(status @ 400..) = self.answered {
                return Err(Error::Other(Box::new(Early { status })));
            }
            self.is_deaf |= self.inner.buffers().input().len() >= GLANCE_MAX;
        }
        Ok(())
    }

    /// Takes from what has come what the client would stumble over.
    fn sift(&mut self) -> Result<(), Error> {
        while self.answered.is_none() {
            let buffers = self.inner.buffers();
            let mut input = buffers.input().to_vec();
            match heads::begins(&input) {
                Begins::Interim(bytes) => {
                    buffers.input_consume(bytes);
                    self.interim += 1;
                    self.interim_bytes += bytes;
                    if self.interim > INTERIM_MAX || self.interim_bytes > INTERIM_BYTES_MAX {
                        return Err(Error::Other("it sends interim answers without end".into()));
                    }
                    continue;
                }
                Begins::Final { bytes, status } => {
                    let is_head = heads::is_head(&input[..bytes], status);
                    self.answered = Some(if is_head { status } else { 0 });
                }
                Begins::Part => {}
            }
            if heads::unfold(&mut input) {
                buffers.input_consume(input.len());
                buffers.input_append_buf()[..input.len()].copy_from_slice(&input);
                buffers.input_appended(input.len());
            }
            break;
        }
        Ok(())
    }
}

impl Transport for Watched {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let limit = Limit::of(timeout);
        self.inner.transmit_output(amount, timeout)?;
        loop {
            if let Some(broken) = self.line.broken() {
                // What came before it broke can still be read.
                self.glance(timeout)?;
                return Err(broken);
            }
            if !self.line.owes() {
                return Ok(());
            }
            let wanted = match self.is_deaf {
                true => PollFlags::OUT,
                false => PollFlags::IN | PollFlags::OUT,
            };
            let ready = self.line.wait(wanted, &limit)?;
            if ready.contains(PollFlags::IN) {
                self.glance(timeout)?;
            }
            self.line.flush();
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, UnexpectedEof};
        // Nothing in spite of that would be taken for the end.
        if mem::take(&mut self.is_fresh) && !self.buffers().input().is_empty() {
            return Ok(true);
        }
        match self.inner.await_input(timeout) {
            // Of these kinds the client would take it for a good end.
            Err(Error::Io(error))
                if matches!(
                    error.kind(),
                    ConnectionAborted | ConnectionReset | UnexpectedEof
                ) =>
            {
                return Err(Error::Io(io::Error::other(error)));
            }
            Err(error) => return Err(error),
            Ok(false) => return Ok(false),
            Ok(true) => {}
        }
        self.sift()?;
        Ok(true)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}
