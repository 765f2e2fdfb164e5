//! A client that sends exactly the bytes it is told to.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use socket2::{Domain, Socket, Type};

use super::PATIENCE;

/// The field in which an Ack says why it refuses.
const REASON: &str = "Bitsd-Reason";

/// One connection.
pub struct Raw {
    stream: TcpStream,
    /// Where bytes go through TLS.
    tls: Option<Box<ClientConnection>>,
    /// Bytes received and not yet looked at.
    inbox: Vec<u8>,
}

/// One response. Two are the same whenever they were sent: `Date` is not compared.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Status line as sent.
    pub status_line: String,
    /// Names (case kept) and values, in the order sent.
    pub fields: Vec<(String, String)>,
    /// The body that Content-Length announces.
    pub body: Vec<u8>,
}

impl PartialEq for Response {
    fn eq(&self, other: &Self) -> bool {
        let undated = |response: &Self| {
            let mut fields = response.fields.clone();
            for (name, value) in &mut fields {
                if name == "Date" {
                    value.clear();
                }
            }
            fields
        };
        self.status_line == other.status_line
            && self.body == other.body
            && undated(self) == undated(other)
    }
}

impl Response {
    /// The value of a field, in any case of its name.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut found = self
            .fields
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let first = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} was sent twice: {self:?}");
        first
    }

    /// The offset that the server expects next.
    #[track_caller]
    pub fn received(&self) -> u64 {
        let value = self.field("BITS-Received-Content-Range");
        value
            .unwrap_or_else(|| panic!("no offset in {self:?}"))
            .parse()
            .unwrap()
    }

    /// Asserts a status and an error code (`None`: no error fields at all).
    #[track_caller]
    pub fn assert(&self, status: u16, hresult: Option<&str>) -> &Self {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.field("BITS-Error-Code"), hresult, "{self:?}");
        assert_eq!(self.field("BITS-Error"), hresult, "{self:?}");
        assert_eq!(
            self.field("BITS-Error-Context"),
            hresult.map(|_| "0x5"),
            "{self:?}"
        );
        assert_eq!(self.field("BITS-Packet-Type"), Some("Ack"), "{self:?}");
        assert_eq!(self.field("Pragma"), Some("no-cache"), "{self:?}");
        assert_eq!(self.field("Content-Length"), Some("0"), "{self:?}");
        self.assert_reason();
        self
    }

    /// Asserts that a refusal, and nothing else, says why.
    #[track_caller]
    fn assert_reason(&self) {
        let is_said = self.field(REASON).is_some_and(|reason| reason.len() > 5);
        assert_eq!(is_said, self.status >= 400, "{self:?}");
    }

    /// Why it was refused, in words: of an Ack a field, else the body.
    #[track_caller]
    pub fn reason(&self) -> &str {
        if let Some(reason) = self.field(REASON) {
            assert_eq!(self.body, b"", "an Ack has no body: {self:?}");
            return reason;
        }
        let text = std::str::from_utf8(&self.body).unwrap();
        let is_text = self.field("Content-Type") == Some("text/plain; charset=utf-8");
        assert!(is_text && text.ends_with('\n'), "{self:?}");
        text.trim_end()
    }
}

impl Raw {
    /// Connects.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap()
    }

    /// Connects, if somebody listens.
    ///
    /// # Errors
    /// Those of `connect`.
    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect_timeout(&address, PATIENCE)?)
    }

    fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            tls: None,
            inbox: Vec::new(),
        })
    }

    /// Connects from another address of this machine.
    #[track_caller]
    pub fn connect_from(source: IpAddr, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
        socket.connect_timeout(&address.into(), PATIENCE).unwrap();
        Self::over(socket.into()).unwrap()
    }

    /// Connects by TLS, to a server that is called `localhost`.
    #[track_caller]
    pub fn secure(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        Self::try_secure(address, config, "localhost").unwrap()
    }

    /// Connects by TLS and shakes hands.
    ///
    /// # Errors
    /// What comes of that.
    pub fn try_secure(
        address: SocketAddr,
        config: &Arc<ClientConfig>,
        name: &'static str,
    ) -> io::Result<Self> {
        Self::try_connect(address)?.shake_hands(config, name)
    }

    /// Goes on by TLS.
    ///
    /// # Errors
    /// What comes of that.
    pub fn shake_hands(
        mut self,
        config: &Arc<ClientConfig>,
        name: &'static str,
    ) -> io::Result<Self> {
        let name = ServerName::try_from(name).unwrap();
        let tls = ClientConnection::new(Arc::clone(config), name);
        let mut tls = Box::new(tls.map_err(io::Error::other)?);
        while tls.is_handshaking() {
            tls.complete_io(&mut self.stream)?;
        }
        self.tls = Some(tls);
        Ok(self)
    }

    /// TLS, where it speaks that.
    pub fn tls(&mut self) -> &mut ClientConnection {
        self.tls.as_mut().expect("it speaks TLS")
    }

    /// Sends what TLS has to say.
    pub fn flush(&mut self) {
        let tls = self.tls.as_mut().expect("it speaks TLS");
        while tls.wants_write() {
            tls.write_tls(&mut self.stream).unwrap();
        }
    }

    /// The socket beneath.
    pub fn socket(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// The client's side of the connection.
    pub fn local_addr(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// Sends bytes.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.try_send(bytes).unwrap();
        self
    }

    /// Sends bytes, if the server still takes them.
    ///
    /// # Errors
    /// Those of `write`.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let mut bytes = bytes.as_ref();
        let Some(tls) = &mut self.tls else {
            return self.stream.write_all(bytes);
        };
        while !bytes.is_empty() {
            let taken = tls.writer().write(bytes)?;
            bytes = &bytes[taken..];
            while tls.wants_write() {
                tls.write_tls(&mut self.stream)?;
            }
        }
        Ok(())
    }

    /// Reads one response; interim ones (100) are given like any other.
    #[track_caller]
    pub fn receive(&mut self) -> Response {
        self.try_receive()
            .unwrap()
            .expect("a response, not the end of the connection")
    }

    /// Reads one response to a HEAD: there is no body, whatever it announces.
    #[track_caller]
    pub fn receive_head(&mut self) -> Response {
        let response = self.try_receive_head().unwrap();
        response.expect("a response, not the end of the connection")
    }

    /// Reads one response; `None` if the connection ended before it.
    ///
    /// # Errors
    /// Those of `read`, and `InvalidData` if it is no response.
    pub fn try_receive(&mut self) -> io::Result<Option<Response>> {
        let Some(mut response) = self.try_receive_head()? else {
            return Ok(None);
        };
        let len: usize = match response.field("Content-Length") {
            Some(len) => len.parse().map_err(|_| invalid("no length"))?,
            None => 0,
        };
        while self.inbox.len() < len {
            if !self.read_more()? {
                return Err(invalid("half a body"));
            }
        }
        response.body = self.inbox.drain(..len).collect();
        Ok(Some(response))
    }

    fn try_receive_head(&mut self) -> io::Result<Option<Response>> {
        let head_bytes = loop {
            if let Some(at) = find(&self.inbox, b"\r\n\r\n") {
                break at + 4;
            }
            if !self.read_more()? {
                return if self.inbox.is_empty() {
                    Ok(None)
                } else {
                    Err(invalid("half a head"))
                };
            }
        };
        let head = String::from_utf8(self.inbox.drain(..head_bytes).collect());
        let head = head.map_err(|_| invalid("not text"))?;
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().unwrap_or_default().to_owned();
        let status = status_line
            .split(' ')
            .nth(1)
            .and_then(|word| word.parse().ok());
        let status = status.ok_or_else(|| invalid("no status"))?;
        let fields: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap_or((line, "")))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Ok(Some(Response {
            status,
            status_line,
            fields,
            body: Vec::new(),
        }))
    }

    /// Whether something can be read: an answer, or the end.
    pub fn is_answered(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Asserts that the server ends the connection without another byte.
    #[track_caller]
    pub fn assert_closed(&mut self) {
        match self.try_receive() {
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            other => panic!("the connection should have ended, but: {other:?}"),
        }
    }

    /// Ends our side only.
    pub fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Ends the connection by a reset instead of an orderly end.
    pub fn reset(self) {
        let socket = socket2::Socket::from(self.stream);
        socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }

    /// `false` at the end.
    fn read_more(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 4096];
        let read = loop {
            let read = match &mut self.tls {
                Some(tls) => rustls::Stream::new(&mut **tls, &mut self.stream).read(&mut bytes),
                None => self.stream.read(&mut bytes),
            };
            match read {
                // A socket with a time-out says so when the process was stopped and goes on
                // (signal(7)).
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.inbox.extend_from_slice(&bytes[..read]);
        Ok(read > 0)
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
