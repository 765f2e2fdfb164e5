//! Handing a connection to another shard: a duplicated descriptor and the bytes read so far.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use tokio::sync::mpsc;

use super::afoot::OneAfoot;
use super::tls::session::TlsSession;
use crate::auth::forwarded::Announcement;
use crate::server::visit::Visit;

/// A connection on its way to the shard that owns its session.
pub struct Letter {
    /// The socket; the sender's own descriptor is closed without a trace.
    pub socket: OwnedFd,
    /// The address at its other end.
    pub peer: SocketAddr,
    /// Whose it is, where a proxy has said so.
    pub announcement: Announcement,
    /// What TLS knows of it, if it speaks that.
    pub tls: Option<Box<TlsSession>>,
    /// Bytes that were read and not consumed: at least a whole head.
    pub arrived: Vec<u8>,
    /// What it has shown of who uses it.
    pub visit: Visit,
    /// It is under way.
    pub afoot: OneAfoot,
}

/// The mailboxes of all shards, to send to.
pub type Senders = Vec<mpsc::Sender<Letter>>;

/// One mailbox for each shard; each holds `letters_max` letters.
pub fn open(shards: usize, letters_max: usize) -> (Senders, Vec<mpsc::Receiver<Letter>>) {
    (0..shards).map(|_| mpsc::channel(letters_max)).unzip()
}
