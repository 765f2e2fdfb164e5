//! Sockets of one shard: its listeners and its connections.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown};
use socket2::{Domain, Protocol, Socket, Type};

use super::blocks::RingBlock;
use super::door::{self, Door};
use super::link::{self, Link};
use super::op;
use super::stop_wish;
use super::tls::session::TlsSession;
use super::tls::wire::{self as secure, Tls};
use crate::auth::forwarded::Announcement;
use crate::server::floor::{Fill, Security, Wire};
use crate::vault::disk::Block as _;

/// Connections that wait to be accepted, per listener.
const BACKLOG: i32 = 4096;
/// Pause after a failed accept (too many open files): long enough to be no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection on this shard's ring.
pub struct RingWire {
    link: Link,
    peer: SocketAddr,
    /// Only on listeners that speak TLS. Its operations are boxed, so that plain connections do not
    /// pay for it.
    tls: Option<Box<Tls>>,
    /// What is asked of a proxy before all else, where it was not asked yet.
    door: Cell<Option<Box<Door>>>,
    /// What it has said.
    announcement: Cell<Announcement>,
}

impl RingWire {
    /// Takes a connected, blocking socket.
    pub fn new(socket: OwnedFd, peer: SocketAddr) -> Self {
        Self {
            link: Link::new(socket),
            peer,
            tls: None,
            door: Cell::new(None),
            announcement: Cell::default(),
        }
    }

    /// The same, behind a proxy that has to announce whose it is.
    pub fn behind(self, door: Door) -> Self {
        self.door.set(Some(Box::new(door)));
        self
    }

    /// The same, and it is known whose it is.
    pub fn announced_as(self, announcement: Announcement) -> Self {
        self.announcement.set(announcement);
        self
    }

    /// The same wire, but its bytes go through TLS.
    pub fn secured(mut self, tls: Tls) -> Self {
        self.tls = Some(Box::new(tls));
        self
    }

    /// TLS, if bytes go through it.
    fn tls(&self) -> Option<&Tls> {
        self.tls.as_deref().filter(|tls| tls.is_on())
    }

    /// Takes what TLS knows of the connection, to be sent to another shard with it.
    pub fn take_session(&self) -> Option<Box<TlsSession>> {
        self.tls.as_ref().and_then(|tls| tls.take())
    }

    /// A second descriptor of the same socket, to be sent to another shard.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        self.link.socket.try_clone()
    }

    /// Whether a condition holds now; `false` where the kernel cannot tell.
    fn is_there(&self, condition: PollFlags) -> bool {
        let mut polled = [PollFd::new(&*self.link.socket, condition)];
        let at_once = Timespec::default();
        matches!(poll(&mut polled, Some(&at_once)), Ok(1..))
    }
}

impl Wire for RingWire {
    type Block = RingBlock;

    fn peer(&self) -> SocketAddr {
        self.peer
    }

    fn announcement(&self) -> Announcement {
        self.announcement.get()
    }

    async fn open(&self) -> io::Result<()> {
        if let Some(door) = self.door.take() {
            let announcement = Box::pin(door::announcement(&self.link)).await?;
            // Before it is judged: the log names it.
            self.announcement.set(announcement);
            door.look_at_client(announcement.client().unwrap_or(self.peer))?;
        }
        match self.tls() {
            Some(tls) => {
                let client = tls.whose(self.peer, self.announcement.get().client());
                Box::pin(secure::open(&self.link, tls, client)).await
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
        // Nothing more is held by whoever is idle: there are many.
        op::poll_readable(&self.link.socket).await
    }

    async fn read(
        &self,
        mut block: RingBlock,
        range: Range<usize>,
    ) -> (io::Result<usize>, RingBlock) {
        if let Some(tls) = self.tls() {
            return Box::pin(secure::read(&self.link, tls, block, range)).await;
        }
        // Whoever reads has nearly always waited for bytes, so they are there. The ring would
        // deliver them only at the end of the turn, and until then every connection would hold a
        // block.
        let flags = RecvFlags::DONTWAIT;
        match rustix::net::recv(
            &*self.link.socket,
            &mut block.bytes_mut()[range.clone()],
            flags,
        ) {
            Ok((_, read)) => return (Ok(read), block),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return (Err(error.into()), block),
        }
        // Boxed, because it is seldom so.
        let receive = op::receive(&self.link.socket, block, range, op::Receive::Some);
        Box::pin(receive).await
    }

    async fn fill(&self, block: RingBlock, range: Range<usize>) -> (io::Result<Fill>, RingBlock) {
        if let Some(tls) = self.tls() {
            return Box::pin(secure::fill(&self.link, tls, block, range)).await;
        }
        let (result, block) = self.link.fill(block, range).await;
        let fill = match result {
            Ok(0) => Ok(Fill::End),
            Ok(bytes) => Ok(Fill::Bytes(bytes)),
            Err(error) if link::is_interruption(&error) => Ok(Fill::Slow),
            Err(error) => Err(error),
        };
        (fill, block)
    }

    fn hurry(&self) {
        self.link.hurry();
    }

    async fn send(&self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        if let Some(tls) = self.tls() {
            let sent = Box::pin(secure::send(&self.link, tls, &bytes)).await;
            return (sent, bytes);
        }
        self.link.send(bytes).await
    }

    async fn send_block(
        &self,
        block: RingBlock,
        range: Range<usize>,
    ) -> (io::Result<()>, RingBlock) {
        if let Some(tls) = self.tls() {
            let sent = Box::pin(secure::send_block(&self.link, tls, &block, range)).await;
            return (sent, block);
        }
        let (mut block, mut from) = (block, range.start);
        while from < range.end {
            let (result, back) = op::send_block(&self.link.socket, block, from..range.end).await;
            block = back;
            match result {
                Ok(sent) => from += sent,
                Err(error) => return (Err(error), block),
            }
        }
        (Ok(()), block)
    }

    fn taken(&self) -> Option<u64> {
        self.link.acknowledged()
    }

    fn is_encrypted(&self) -> bool {
        self.tls().is_some()
    }

    fn take_security(&self) -> Option<Security> {
        self.tls().and_then(Tls::take_security)
    }

    fn certificate(&self) -> Option<Vec<u8>> {
        self.tls().and_then(Tls::certificate)
    }

    fn is_distrusted(&self) -> bool {
        self.tls().is_some_and(Tls::is_distrusted)
    }

    fn end_point(&self) -> Option<Vec<u8>> {
        self.tls().and_then(Tls::end_point)
    }

    fn has_left(&self) -> bool {
        self.is_there(PollFlags::RDHUP)
    }

    fn has_unread(&self) -> bool {
        self.tls().is_some_and(Tls::holds_bytes) || self.is_there(PollFlags::IN)
    }

    fn finish(&self) {
        self.say_the_end();
        // Fails only if the peer is gone, and then there is nobody to finish for.
        let _ = rustix::net::shutdown(&*self.link.socket, Shutdown::Write);
    }

    fn shutdown(&self) {
        self.say_the_end();
        let _ = rustix::net::shutdown(&*self.link.socket, Shutdown::Both);
    }
}

impl RingWire {
    /// Says that nothing more comes from us, if the wire speaks TLS. Without that message a peer
    /// must assume that what it has read was cut off.
    fn say_the_end(&self) {
        if let Some(tls) = self.tls() {
            secure::close(&self.link, tls);
        }
    }
}

impl Drop for RingWire {
    fn drop(&mut self) {
        self.say_the_end();
    }
}

/// Binds one listener of one shard; all shards bind the same address (`SO_REUSEPORT`).
///
/// # Errors
/// What the kernel says.
pub fn bind(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = new_socket(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Whether an address can be listened on beside a server that runs: nobody is kept from that one,
/// for nothing listens.
///
/// # Errors
/// `AddrInUse` if a program of another user has it, or what else the kernel says.
pub fn check_beside(address: SocketAddr) -> io::Result<()> {
    let socket = new_socket(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())
}

/// Whether an address can be listened on and nobody else listens there. Nothing listens meanwhile.
///
/// # Errors
/// `AddrInUse` if a program has it, or what else the kernel says.
pub fn check_alone(address: SocketAddr) -> io::Result<()> {
    new_socket(address)?.bind(&address.into())
}

/// Whether a socket listens on exactly this address, even if no interface has the address now
/// (proc_pid_net(5): hexadecimal numbers in the order of the machine, and 0A is a listener).
pub fn is_listened_on(address: SocketAddr) -> bool {
    let words = |bytes: &[u8]| -> String {
        let words = bytes.chunks_exact(4);
        let word = |word: &[u8]| u32::from_ne_bytes(word.try_into().expect("four bytes"));
        words.map(|bytes| format!("{:08X}", word(bytes))).collect()
    };
    let (table, ip) = match address.ip() {
        IpAddr::V4(ip) => ("/proc/self/net/tcp", words(&ip.octets())),
        IpAddr::V6(ip) => ("/proc/self/net/tcp6", words(&ip.octets())),
    };
    let local = format!("{ip}:{:04X}", address.port());
    let table = std::fs::read_to_string(table).unwrap_or_default();
    table.lines().any(|line| {
        let mut columns = line.split_whitespace().skip(1);
        columns.next() == Some(&*local) && columns.nth(1) == Some("0A")
    })
}

/// How long the listener of a server that was just killed may take to disappear.
const LISTENER_PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two looks.
const LISTENER_PAUSE: Duration = Duration::from_millis(20);

/// Makes sure that no other program has the address: `SO_REUSEPORT` would share it with a second
/// server in silence. After a `kill -9` the kernel takes the old ring apart in the background, and
/// its listener with it; that is waited for.
///
/// # Errors
/// `AddrInUse`, or what else the kernel says; `Interrupted` if a stop is asked for meanwhile.
pub fn check_free(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let deadline = Instant::now() + LISTENER_PATIENCE;
    let mut is_told = false;
    loop {
        match try_listen_alone(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                if !is_told {
                    is_told = true;
                    let (event, patience) = ("address_in_use", LISTENER_PATIENCE);
                    tracing::warn!(event, %address, ?patience, "the address is in use; waiting for it");
                }
                std::thread::sleep(LISTENER_PAUSE);
                if stop_wish::is_noted() {
                    return Err(io::ErrorKind::Interrupted.into());
                }
            }
            result => return result,
        }
    }
}

/// Whether a program listens on an address now; nobody is waited for.
pub fn is_taken(address: SocketAddr) -> bool {
    let tried = (address.port() != 0).then(|| try_listen_alone(address));
    tried.is_some_and(|tried| tried.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse))
}

/// Listens without `SO_REUSEPORT` for a moment.
fn try_listen_alone(address: SocketAddr) -> io::Result<()> {
    let socket = new_socket(address)?;
    socket.bind(&address.into())?;
    socket.listen(1)
}

fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    Ok(socket)
}

/// The address a listener is bound to, with the real port.
///
/// # Errors
/// What the kernel says.
pub fn local_address(listener: &OwnedFd) -> io::Result<SocketAddr> {
    let socket = Socket::from(listener.try_clone()?);
    socket
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// Accepts until it is to stop, and the accept that is pending then has ended.
pub async fn accept_all(
    listener: Arc<OwnedFd>,
    is_stopping: Rc<Cell<bool>>,
    mut on_failure: impl FnMut(&io::Error),
    mut on_connection: impl FnMut(RingWire),
) {
    while !is_stopping.get() {
        match op::accept(&listener).await {
            Ok(socket) => {
                if let Ok(wire) = prepare(socket) {
                    on_connection(wire);
                }
            }
            Err(_) if is_stopping.get() => return,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                on_failure(&error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Ends the accept that is pending, and all later ones.
pub fn stop_listening(listener: &OwnedFd) {
    let _ = rustix::net::shutdown(listener.as_fd(), Shutdown::Both);
}

/// Ends all who wait in the queue of a listener that nobody serves any more, in order: closing it
/// would reset them. Gives how many there were.
pub fn empty_queue(listener: &OwnedFd) -> usize {
    let Ok(flags) = rustix::fs::fcntl_getfl(listener) else {
        return 0;
    };
    // Ours alone from now on.
    let _ = rustix::fs::fcntl_setfl(listener, flags | rustix::fs::OFlags::NONBLOCK);
    let mut count = 0;
    while count < QUEUE_MAX
        && let Ok(socket) = rustix::net::accept(listener)
    {
        let _ = rustix::net::shutdown(&socket, Shutdown::Write);
        count += 1;
    }
    count
}

/// More than any queue holds.
const QUEUE_MAX: usize = 1 << 16;

fn prepare(socket: OwnedFd) -> io::Result<RingWire> {
    // Answers are whole segments; there is nothing to wait for.
    rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
    let peer = rustix::net::getpeername(&socket)?.ok_or(io::ErrorKind::NotConnected)?;
    let peer = SocketAddr::try_from(peer).map_err(|_| io::ErrorKind::Unsupported)?;
    Ok(RingWire::new(socket, peer))
}

/// Why there is no IPv6 for the server, where the kernel knows no such family. It says the same
/// of a family that the unit, or a seccomp profile, forbids (systemd.exec(5),
/// `RestrictAddressFamilies=`).
pub fn why_no_ipv6() -> &'static str {
    // It is not there where the module is missing or switched off (`ipv6.disable=1`).
    no_ipv6(Path::new("/proc/net/if_inet6").exists())
}

fn no_ipv6(has_machine: bool) -> &'static str {
    match has_machine {
        true => {
            "this machine has IPv6, and the service may not use it (RestrictAddressFamilies= of its \
             unit, or a seccomp profile)"
        }
        false => "this machine has no IPv6",
    }
}

#[cfg(test)]
mod tests {
    use rustls::ServerConfig;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::ring::tls::served::Served;
    use crate::ring::tls::wire::Kit;
    use crate::skipping::skip_anywhere;

    #[test]
    fn an_ipv6_that_is_forbidden_is_not_called_one_that_is_not_there() {
        let of_unit = |has_ipv6| no_ipv6(has_ipv6).contains("RestrictAddressFamilies");
        assert!(of_unit(true) && !of_unit(false));
    }

    #[test]
    fn a_listener_is_seen_by_its_address() {
        for ip in ["127.0.0.1", "::1"].map(|ip| ip.parse::<IpAddr>().unwrap()) {
            let Ok(listener) = std::net::TcpListener::bind((ip, 0)) else {
                skip_anywhere(&format!("this machine has no {ip}"));
                continue;
            };
            let address = listener.local_addr().unwrap();
            assert!(is_listened_on(address), "{address}");
            let other = SocketAddr::from(([192, 0, 2, 1], address.port()));
            assert!(!is_listened_on(other), "{other}");
            drop(listener);
            assert!(!is_listened_on(address), "{address}");
        }
    }

    /// Passwords are asked for by that.
    #[test]
    fn only_a_wire_that_speaks_tls_is_encrypted() {
        let peer = SocketAddr::from(([192, 0, 2, 1], 1));
        let plain = || RingWire::new(UnixStream::pair().unwrap().0.into(), peer);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Served(Vec::new())));
        let tls = Tls::new(Arc::new(config), Rc::new(Kit::default())).unwrap();
        // Nor does a proxy have a share of the turns, but whoever it announces.
        let client = SocketAddr::from(([192, 0, 2, 2], 1));
        assert_eq!(tls.whose(peer, None), Some(peer.ip()));
        assert_eq!(tls.whose(peer, Some(client)), Some(client.ip()));
        let tls = tls.of_many(true);
        assert_eq!(tls.whose(peer, None), None);
        assert_eq!(tls.whose(peer, Some(client)), Some(client.ip()));
        let wire = plain().secured(tls);
        assert!(wire.is_encrypted() && wire.certificate().is_none() && !wire.is_distrusted());
        // What goes over it now is in the clear, as on a plain one.
        assert!(wire.take_session().is_some() && !wire.is_encrypted() && !plain().is_encrypted());
    }
}
