//! The connections of the HTTP client, which is stricter here than by itself.
//!
//! 1. **Time.** A write to a socket that fills up comes back when its time is over, with a part
//!    done. The next one would get the same time once more. Here all of them share it.
//! 2. **Wholeness.** A body without length or chunks ends with the connection, and only with one
//!    that was closed. If it was reset, or TLS was cut off without a word, there was more (RFC 9112
//!    8). By itself the client takes that for the end too, and half a reply would be a reply.
//!
//! ureq changes these traits in minor versions, hence the `~` in Cargo.toml.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, RustlsConnector, Transport,
};
use ureq::{Error, Timeout};

/// What the client connects with: a socket, TLS on it where the URL says https, and a look at how
/// it ends.
pub fn connector() -> impl Connector {
    ().chain(Dial)
        .chain(RustlsConnector::default())
        .chain(Watch)
}

/// Opens a socket to the first address that takes it.
#[derive(Debug)]
struct Dial;

impl Connector for Dial {
    type Out = Socket;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Socket>, Error> {
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        let stream = dial(&details.addrs, &Limit::of(details.timeout))?;
        stream.set_nodelay(true)?;
        Ok(Some(Socket { stream, buffers }))
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

#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    buffers: LazyBuffers,
}

impl Transport for Socket {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let limit = Limit::of(timeout);
        let mut rest = &self.buffers.output()[..amount];
        while !rest.is_empty() {
            self.stream.set_write_timeout(limit.left()?)?;
            match self.stream.write(rest) {
                Ok(0) => return Err(Error::Io(io::ErrorKind::WriteZero.into())),
                Ok(written) => rest = &rest[written..],
                Err(error) if is_to_be_repeated(&error) => {}
                Err(error) => return Err(Error::Io(error)),
            }
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let limit = Limit::of(timeout);
        loop {
            self.stream.set_read_timeout(limit.left()?)?;
            match self.stream.read(self.buffers.input_append_buf()) {
                Ok(read) => {
                    self.buffers.input_appended(read);
                    return Ok(read > 0);
                }
                Err(error) if is_to_be_repeated(&error) => {}
                Err(error) => return Err(Error::Io(error)),
            }
        }
    }

    /// No connection is kept for another request.
    fn is_open(&mut self) -> bool {
        false
    }
}

/// Whether it was a signal, or the socket's time; whether that was all of it, [`Limit::left`] says.
fn is_to_be_repeated(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, WouldBlock};
    matches!(error.kind(), Interrupted | WouldBlock)
}

/// Watches how a connection ends.
#[derive(Debug)]
struct Watch;

impl<T: Transport> Connector<T> for Watch {
    type Out = Watched<T>;

    fn connect(
        &self,
        _: &ConnectionDetails<'_>,
        chained: Option<T>,
    ) -> Result<Option<Watched<T>>, Error> {
        Ok(chained.map(Watched))
    }
}

#[derive(Debug)]
struct Watched<T>(T);

impl<T: Transport> Transport for Watched<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, UnexpectedEof};
        match self.0.await_input(timeout) {
            // Of these kinds the client would take it for a good end.
            Err(Error::Io(error))
                if matches!(
                    error.kind(),
                    ConnectionAborted | ConnectionReset | UnexpectedEof
                ) =>
            {
                Err(Error::Io(io::Error::other(error)))
            }
            result => result,
        }
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}
