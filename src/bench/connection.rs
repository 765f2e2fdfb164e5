//! One non-blocking connection of the generator: a request out, an answer in.

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::ops::Range;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::ClientConnection;

use super::content::Content;
use crate::client::connection::{Broken, REPLY_HEAD_BYTES_MAX, or_not_secure, parse_head};
use crate::client::upload::Reply;

/// A connection and the request on it.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// Where it is secure. What is given to it counts as sent.
    tls: Option<Box<ClientConnection>>,
    /// Reused by each request.
    head: Vec<u8>,
    head_sent: usize,
    /// Bytes of `file` that are still to be sent.
    body: Range<u64>,
    file: u64,
    /// Bytes read that are no whole answer; empty most of the time.
    inbox: Vec<u8>,
    /// Bytes of an answer's body to be read out of the way.
    skip: u64,
    /// An answer whose body has not all come.
    held: Option<Reply>,
    framing: Framing,
    is_reusable: bool,
}

/// How answers look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// HTTP/1.
    Http,
    /// One byte.
    Byte,
}

/// How far a request has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// All of it.
    Whole,
    /// The socket takes no more for now.
    Blocked,
    /// It had its turn, and would take more.
    MoreNow,
}

impl Connection {
    /// Begins to connect.
    ///
    /// # Errors
    /// [`Broken::Connect`]; a refusal may also come with the first request.
    pub fn open(
        address: SocketAddr,
        registry: &Registry,
        token: Token,
        framing: Framing,
        session: Option<ClientConnection>,
    ) -> Result<Self, Broken> {
        let mut stream = TcpStream::connect(address).map_err(Broken::Connect)?;
        // Answers to small requests wait for nothing; where this is refused they are merely late.
        let _ = stream.set_nodelay(true);
        registry
            .register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)
            .map_err(Broken::Connect)?;
        Ok(Self {
            stream,
            tls: session.map(Box::new),
            head: Vec::new(),
            head_sent: 0,
            body: 0..0,
            file: 0,
            inbox: Vec::new(),
            skip: 0,
            held: None,
            framing,
            is_reusable: true,
        })
    }

    /// Whether another request may follow.
    pub fn is_reusable(&self) -> bool {
        self.is_reusable
    }

    /// Puts a request up: `write` fills the head and says which bytes of `file` follow.
    pub fn put_up(&mut self, file: u64, write: impl FnOnce(&mut Vec<u8>) -> Range<u64>) {
        self.body = write(&mut self.head);
        self.head_sent = 0;
        self.file = file;
    }

    /// Whether bytes of the request are still to be sent.
    pub fn is_sending(&self) -> bool {
        let is_full = self.tls.as_ref().is_some_and(|tls| tls.wants_write());
        self.head_sent < self.head.len() || !self.body.is_empty() || is_full
    }

    /// Sends on, for one turn; `bytes` counts those of the file.
    ///
    /// # Errors
    /// [`Broken::Send`].
    pub fn send(&mut self, content: &Content, bytes: &mut u64) -> Result<Sent, Broken> {
        let mut turn = TURN_BYTES;
        while self.is_sending() {
            if turn == 0 {
                return Ok(Sent::MoreNow);
            }
            match self.send_some(content, turn) {
                Ok(sent) => {
                    *bytes += sent;
                    turn = turn.saturating_sub(sent);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Sent::Blocked);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(or_refused(error, Broken::Send)),
            }
        }
        Ok(Sent::Whole)
    }

    /// One system call; returns the bytes of the file it sent.
    fn send_some(&mut self, content: &Content, most: u64) -> io::Result<u64> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.stream)?;
            }
        }
        let head = &self.head[self.head_sent..];
        if self.body.is_empty() {
            let sent = match &mut self.tls {
                Some(_) if head.is_empty() => return Ok(0),
                Some(tls) => or_full(tls.writer().write(head))?,
                None => self.stream.write(head)?,
            };
            self.head_sent += sent;
            return Ok(0);
        }
        let body_bytes = most.min(self.body.end - self.body.start);
        let mut slices = Vec::with_capacity(SLICES);
        if !head.is_empty() {
            slices.push(IoSlice::new(head));
        }
        content.slices(self.file, self.body.start, body_bytes, &mut slices);
        let sent = match &mut self.tls {
            Some(tls) => or_full(tls.writer().write_vectored(&slices))?,
            None => self.stream.write_vectored(&slices)?,
        };
        if sent == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let of_head = sent.min(head.len());
        let of_body = (sent - of_head) as u64;
        self.head_sent += of_head;
        self.body.start += of_body;
        Ok(of_body)
    }

    /// Reads what is there; the answer, if it is whole. `block` is scratch space.
    ///
    /// # Errors
    /// [`Broken`]; a connection that the server closes is [`Broken::Closed`], also between
    /// requests.
    pub fn receive(&mut self, block: &mut [u8]) -> Result<Option<Reply>, Broken> {
        if self.tls.is_some() {
            return self.receive_sealed(block);
        }
        loop {
            match self.stream.read(block) {
                Ok(0) => return Err(Broken::Closed),
                Ok(read) => {
                    let reply = self.take(&block[..read])?;
                    // A short read emptied the socket: what comes later is told anew.
                    if reply.is_some() || read < block.len() {
                        return Ok(reply);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(or_refused(error, Broken::Receive)),
            }
        }
    }

    fn receive_sealed(&mut self, block: &mut [u8]) -> Result<Option<Reply>, Broken> {
        while let Some(tls) = &mut self.tls {
            let came = match tls.read_tls(&mut self.stream) {
                Ok(came) => came,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(or_refused(error, Broken::Receive)),
            };
            if let Err(error) = tls.process_new_packets() {
                return Err(or_not_secure(io::Error::other(error), Broken::Receive));
            }
            match tls.reader().read(block) {
                Ok(read @ 1..) => {
                    if let Some(reply) = self.take(&block[..read])? {
                        return Ok(Some(reply));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && came > 0 => {}
                Ok(_) | Err(_) => return Err(Broken::Closed),
            }
        }
        Ok(None)
    }

    /// Takes bytes of an answer, in whatever pieces they come.
    fn take(&mut self, bytes: &[u8]) -> Result<Option<Reply>, Broken> {
        if self.framing == Framing::Byte {
            let status = if bytes == [RAW_STORED] { 200 } else { 500 };
            return Ok(Some(Reply {
                status,
                ..Reply::default()
            }));
        }
        if self.held.is_some() {
            return Ok(self.skip_body(bytes.len() as u64));
        }
        let joined;
        let mut bytes = bytes;
        if !self.inbox.is_empty() {
            self.inbox.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.inbox);
            bytes = &joined;
        }
        loop {
            let Some(head) = parse_head(bytes)? else {
                if bytes.len() >= REPLY_HEAD_BYTES_MAX {
                    return Err(Broken::HeadTooLarge);
                }
                self.inbox = bytes.to_vec();
                return Ok(None);
            };
            bytes = &bytes[head.head_bytes..];
            if (100..200).contains(&head.reply.status) {
                continue;
            }
            self.is_reusable &= head.keeps_alive && head.body_bytes.is_some();
            self.skip = head.body_bytes.unwrap_or(0);
            self.held = Some(head.reply);
            return Ok(self.skip_body(bytes.len() as u64));
        }
    }

    fn skip_body(&mut self, bytes: u64) -> Option<Reply> {
        // Nobody asked for more than one answer.
        self.is_reusable &= bytes <= self.skip;
        self.skip = self.skip.saturating_sub(bytes);
        if self.skip == 0 {
            self.held.take()
        } else {
            None
        }
    }

    /// Whether the server has closed it, or said something nobody asked for.
    pub fn is_lost(&self) -> bool {
        let peeked = self.stream.peek(&mut [0]);
        !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// TLS that takes nothing more waits for the socket, or for the hands to be shaken.
fn or_full(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
        other => other,
    }
}

/// That nobody listens is told by the first use of the socket.
fn or_refused(error: io::Error, otherwise: fn(io::Error) -> Broken) -> Broken {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Broken::Connect(error),
        _ => otherwise(error),
    }
}

/// Sent before other connections have their turn.
const TURN_BYTES: u64 = 1 << 20;
/// The head, and a turn's bytes in pieces of the page.
const SLICES: usize = 5;
/// The answer to a raw file.
pub const RAW_STORED: u8 = b'+';

#[cfg(test)]
mod tests {
    use super::*;
    use mio::Poll;

    fn connection(framing: Framing) -> (Connection, std::net::TcpListener, Poll) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let poll = Poll::new().unwrap();
        let address = listener.local_addr().unwrap();
        let connection = Connection::open(address, poll.registry(), Token(0), framing, None);
        (connection.unwrap(), listener, poll)
    }

    #[test]
    fn an_answer_in_pieces_is_one_answer() {
        let answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nBITS-Received-Content-Range: 7\r\nContent-Length: 3\r\n\r\nabc";
        for cut in 1..answer.len() {
            let (mut connection, ..) = connection(Framing::Http);
            assert_eq!(connection.take(&answer[..cut]).unwrap(), None, "{cut}");
            let reply = connection.take(&answer[cut..]).unwrap();
            assert_eq!(reply.map(|reply| reply.received), Some(Some(7)), "{cut}");
            assert!(connection.is_reusable());
        }
    }

    #[test]
    fn a_connection_that_must_close_or_says_too_much_is_not_used_again() {
        for answer in [
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1",
        ] {
            let (mut connection, ..) = connection(Framing::Http);
            assert!(connection.take(answer.as_bytes()).unwrap().is_some());
            assert!(!connection.is_reusable(), "{answer}");
        }
    }

    #[test]
    fn a_raw_file_is_answered_by_one_byte() {
        let (mut connection, ..) = connection(Framing::Byte);
        assert_eq!(connection.take(b"+").unwrap().unwrap().status, 200);
        assert_eq!(connection.take(b"-").unwrap().unwrap().status, 500);
    }
}
