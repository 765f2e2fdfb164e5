//! What the server stands on: connections, memory, other shards and applications, as one trait.
//!
//! The disk is another one, [`crate::vault::disk::Disk`]. `ring/` implements both on tokio-uring,
//! `tests/sim/` on virtual time; the flow in this folder names neither. The rules of the disk hold
//! here as well, and one more: to stop a wait on a connection, [`Wire::shutdown`] it; the pending
//! operation then returns.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;

use super::chronicle::Chronicle;
use super::object_order::{MadeObject, ObjectError, ObjectOrder, Storing};
use super::visit::Visit;
use crate::auth::forwarded::Announcement;
use crate::auth::hash::{Attempt, TooManyAttempts};
use crate::auth::negotiation::{Leg, Negotiated, NotNegotiated};
use crate::bits::notification::Answer;
use crate::bits::reply::Refusal;
use crate::bits::session::Ending;
use crate::bits::session_id::SessionId;
use crate::config::Notification;
use crate::custody::entry::LedgerEntry;
use crate::custody::object::StoredObject;
use crate::http::digest::Digests;
use crate::metrics::shard::ShardMetrics;
use crate::vault::disk::{Block, Disk, File, Millis, Runtime, Shelf};
use crate::vault::owed::EventTarget;

/// A head block takes a head of so many bytes, even where longer ones are allowed: usual ones have
/// less than one, those with a ticket of Kerberos up to 48 KiB more.
pub const HEAD_BLOCK_BYTES_MAX: usize = 16 << 10;

/// How a whole-block read came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// This many bytes (at least 1) came; fewer than asked for if the peer is slow.
    Bytes(usize),
    /// Nothing came in time; the block is better used by others.
    Slow,
    /// The peer ended its side, or the wire was shut down.
    End,
}

/// What a handshake has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Security {
    /// The version of TLS.
    pub version: &'static str,
    /// The cipher suite.
    pub suite: &'static str,
    /// The name that the client asked for.
    pub server_name: Option<Box<str>>,
    /// It goes on with the keys of an earlier connection.
    pub is_resumed: bool,
}

/// One client connection: what requests are read from and answered by.
///
/// It has so many methods because half of them only tell something of it; where there is nothing to
/// tell, they are left as they are here.
#[allow(async_fn_in_trait)]
pub trait Wire: 'static {
    /// The memory it fills.
    type Block: Block;

    /// The address at the other end: the client's, or that of a proxy.
    fn peer(&self) -> SocketAddr;

    /// What a proxy in between has said before all else; known when the wire is open.
    fn announcement(&self) -> Announcement {
        Announcement::None
    }

    /// Gets ready for the first request: shakes hands, where the wire has to. Once for each
    /// connection, and at once for one that came from another shard. `PermissionDenied`: whoever is
    /// at the other end is not let in.
    async fn open(&self) -> io::Result<()> {
        Ok(())
    }

    /// Waits until there is something to read (bytes or the end), holding no block.
    async fn ready(&self) -> io::Result<()>;

    /// Reads what is there into `block[range]`; 0 is the end. `range` is not empty.
    async fn read(
        &self,
        block: Self::Block,
        range: Range<usize>,
    ) -> (io::Result<usize>, Self::Block);

    /// Reads until `block[range]` is full; comes back early if the peer ends or is slow
    /// (see [`Wire::hurry`]). `range` is not empty.
    async fn fill(
        &self,
        block: Self::Block,
        range: Range<usize>,
    ) -> (io::Result<Fill>, Self::Block);

    /// Makes a pending [`Wire::fill`] come back with what it has. Called by the watchdog once per
    /// tick on fills that last longer than a tick.
    fn hurry(&self);

    /// Sends all bytes; returns the emptied buffer for the next answer.
    async fn send(&self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>);

    /// Sends `block[range]`.
    async fn send_block(
        &self,
        block: Self::Block,
        range: Range<usize>,
    ) -> (io::Result<()>, Self::Block);

    /// Bytes that the peer has taken of all that was ever sent to it, where that can be known.
    /// Called by the watchdog once per tick on sends that last longer than a tick.
    fn taken(&self) -> Option<u64> {
        None
    }

    /// Whether nobody on the way can read what goes over it.
    fn is_encrypted(&self) -> bool {
        false
    }

    /// What both sides have agreed on in a handshake of this wire, for the log: once.
    fn take_security(&self) -> Option<Security> {
        None
    }

    /// The certificate (DER) that the peer has shown, if it has: it was proven then, and the peer
    /// has its key.
    fn certificate(&self) -> Option<Vec<u8>> {
        None
    }

    /// Whether that certificate counts no more, since it has expired or others are trusted now: the
    /// connection ends, and whoever still gets in comes back.
    fn is_distrusted(&self) -> bool {
        false
    }

    /// By what a ticket can be bound to this connection: `tls-server-end-point:` and a digest of
    /// the certificate that the peer was shown (RFC 5929 4.1).
    fn end_point(&self) -> Option<Vec<u8>> {
        None
    }

    /// Whether the peer has ended its side, or is gone; which of them, nobody can tell.
    fn has_left(&self) -> bool {
        false
    }

    /// Whether something has arrived (bytes, or the end) that was not read yet.
    fn has_unread(&self) -> bool {
        false
    }

    /// Ends our side after the last answer, so that the peer reads it before it hears the end.
    fn finish(&self);

    /// Ends both sides at once; pending operations return.
    fn shutdown(&self);
}

/// One notification, all decided.
#[derive(Clone, Debug)]
pub struct Order {
    /// The same for all attempts and restarts: applications tell duplicates by it.
    pub id: String,
    /// Where to POST; absolute. Settings alone say to whom: no client can name a host.
    pub url: String,
    /// The URL of the upload, as its client spelt it; without a host where it named none.
    pub upload_url: String,
    /// Where its files are.
    pub shelf: Shelf,
    /// Name of the uploaded file there.
    pub part: String,
    /// Name of the place for the reply there.
    pub reply: String,
    /// The prefix of its location; notifications in flight are counted for each.
    pub location: String,
    /// Size of the file.
    pub bytes: u64,
    /// Who sends it, where somebody was asked.
    pub user: Option<Arc<str>>,
    /// How that was shown, as in the settings.
    pub proof: Option<&'static str>,
    /// SHA-256 of the file, where it is computed.
    pub sha256: Option<[u8; 32]>,
    /// How.
    pub settings: Notification,
}

/// What targets of events hear of a session that ended: all that an event says, but for the name
/// of this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudEvent {
    pub session: SessionId,
    pub ending: Ending,
    /// When it ended, or its file got its name, in milliseconds since 1970.
    pub at_ms: u64,
    /// Bytes that had come.
    pub bytes: u64,
    /// The prefix of its location.
    pub location: String,
    /// The path of the URL.
    pub path: String,
    /// Where the file is beneath the root of its location, if it has its name in a folder.
    pub file_path: Option<String>,
    /// The object that the file has become, if it has.
    pub object: Option<StoredObject>,
    pub digests: Option<Digests>,
    pub client: Option<IpAddr>,
    /// Who sent it, where somebody was asked.
    pub user: Option<Arc<str>>,
    /// How that was shown, as in the settings.
    pub proof: Option<&'static str>,
    /// What its client calls itself.
    pub agent: Option<Arc<str>>,
    /// When the session was made; 0 if that is not known.
    pub begun_ms: u64,
    /// When its first fragment began; 0 if there was none.
    pub first_ms: u64,
    /// When its last byte was stored; 0 if there was none.
    pub last_ms: u64,
    /// Fragments that brought something new.
    pub fragments: u32,
    /// How often it went on after an interruption.
    pub resumes: u32,
}

impl CloudEvent {
    /// The same for all attempts and restarts: who hears of it tells duplicates by it.
    pub fn id(&self) -> String {
        format!("{}-{}", self.session.plain(), self.ending.word())
    }
}

/// An application was not told, or its answer was lost.
#[derive(Debug)]
pub enum NotifyError {
    /// As many are in flight as may be.
    Busy,
    /// There can be no thread for it.
    NoThread,
    /// It did not answer in time.
    TimedOut,
    /// It cannot be reached, or the connection broke.
    Unreachable(String),
    /// What came back is no answer.
    Malformed(String),
    /// Its reply is larger than it may be.
    ReplyTooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The file could not be read, or the reply not written.
    Disk(io::Error),
}

impl fmt::Display for NotifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoThread => f.write_str("no thread can be begun for it"),
            Self::Busy => f.write_str("as many notifications are in flight as may be"),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Unreachable(why) => write!(f, "it cannot be reached: {why}"),
            Self::Malformed(why) => write!(f, "its answer makes no sense: {why}"),
            Self::ReplyTooLarge { limit } => write!(f, "its reply is larger than {limit} bytes"),
            Self::Disk(error) => write!(f, "the disk failed: {error}"),
        }
    }
}

/// One shard's outside but for the disk: randomness, memory, connections, other shards,
/// applications.
///
/// It has so many methods because all that is outside is behind one type, by which the flow is
/// generic: object stores alone have nine. Whoever has no store and no ledger leaves theirs as they
/// are here.
#[allow(async_fn_in_trait)]
pub trait Floor: Runtime {
    /// Its connections.
    type Wire: Wire<Block = Self::Block>;
    /// Its memory.
    type Block: Block;

    /// 16 bytes of the system's randomness.
    fn random(&self) -> [u8; 16];
    /// Runs a task beside this one, on this shard.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);
    /// Returns at the next beat of the shard's one-second clock.
    async fn tick(&self);
    /// Returns when so much time has passed: never long, somebody waits for what comes then.
    async fn pass(&self, wait: Millis);

    /// A small block for heads and slow bodies; there is always one (connections are bounded).
    fn head_block(&self) -> Self::Block;
    /// One as long, for bytes that are read again: an upload that catches up has it beside the one
    /// of its connection.
    fn spare_block(&self) -> Self::Block {
        self.head_block()
    }
    /// A block that takes any head that is allowed, for one that fills a head block. `client` is
    /// whose head that is, by [`super::crowd::client`]; `None` where it may be anybody's behind a
    /// proxy. `None` if as many are out as may be, of all or of this client.
    fn long_head_block(&self, client: Option<IpAddr>) -> Option<Self::Block>;
    /// A large, registered block for fast bodies; `None` if all are out. It is twice as large as
    /// others while there are enough, for a body of which `expected` bytes are to come and fill it.
    fn body_block(&self, expected: u64) -> Option<Self::Block>;

    /// Gives a connection to another shard: the peer goes on there, with `arrived` as if just read,
    /// and is who it has shown to be. The caller drops `wire`, on which nothing may be pending.
    /// `Err` if that shard cannot take it.
    fn hand_over(
        &self,
        wire: &Self::Wire,
        arrived: &[u8],
        visit: &Visit,
        to: usize,
    ) -> Result<(), HandOverFull>;

    /// Tells an application of a file. By 200 and a reply, that stands under its name on the shelf
    /// of the file, unsynced. After an error nothing stands there, and nothing appears there later.
    async fn notify(&self, order: Order) -> Result<Answer, NotifyError>;
    /// Claims an object for the file of a session, until it is released; whether no other one is on
    /// its way there.
    fn claim_object(&self, order: &ObjectOrder) -> bool {
        let _no_store_here = order;
        true
    }
    /// The file of a session is at its object, or will not come there.
    fn release_object(&self, session: SessionId) {
        let _no_store_here = session;
    }
    /// Has a file taken to its object store, by threads that go on with it whoever waits; and waits
    /// so long for what comes of it. Asked again for the same session it is the same work. What
    /// came of it is told once; then the work is forgotten.
    ///
    /// # Errors
    /// [`ObjectError`]; the file is still here.
    async fn store_object(
        &self,
        order: &ObjectOrder,
        wait: Millis,
    ) -> Result<Storing, ObjectError> {
        let _no_store_here = (order, wait);
        Err(ObjectError::Refused)
    }
    /// What a store has of the file of a session already, whatever else is still to be done there.
    fn made_object(&self, session: SessionId) -> Option<MadeObject> {
        let _no_store_here = session;
        None
    }
    /// Bytes of this location that are here and have no place of their own yet, on all shards.
    fn staged_bytes(&self, series: usize) -> u64 {
        (self.metrics().location(series)).unfinished_bytes.get()
    }
    /// So many bytes of a file that is still coming may be sent to its object store already; by
    /// others, who go on until the file is stored or abandoned. Never waits.
    fn send_ahead(&self, order: &ObjectOrder, acked: u64) {
        let _no_store_here = (order, acked);
    }
    /// Waits so long until something has come of the work on a session's file; never ready at once,
    /// and not for long where there is none.
    async fn await_object(&self, session: SessionId, wait: Millis) {
        let _no_store_here = (session, wait);
        self.tick().await;
    }
    /// The file of a session is not to go into a store by the settings that hold now: whoever is on
    /// the way with it stops.
    fn stop_object(&self, session: SessionId) {
        let _no_store_here = session;
    }
    /// Nobody wants the file of a session any more: what a store has of it goes, sooner or later.
    fn abandon_object(&self, session: SessionId) {
        let _no_store_here = session;
    }
    /// Whether a password is the one of a hash; tried on another thread, and awaited to its end.
    async fn verify(&self, attempt: Attempt) -> Result<bool, TooManyAttempts>;
    /// What a token of Negotiate says; looked at on another thread, and awaited to its end.
    async fn negotiate(&self, leg: Leg) -> Result<Negotiated, NotNegotiated>;
    /// Tells a target of events of a session that ended, once: whether it says that it has it. The
    /// error says why not, in words.
    async fn tell_outside(&self, target: EventTarget, event: CloudEvent) -> Result<(), String>;
    /// Whether a custody ledger is kept.
    fn keeps_custody(&self) -> bool {
        false
    }
    /// What a new upload hears while the line of its end could not be written into the ledger.
    fn ledger_refuses(&self) -> Option<Refusal> {
        None
    }
    /// Writes the line of an upload into the ledger, unless it stands there; it survives a power
    /// cut if it has to. After an error it may stand there or not.
    async fn write_line(&self, _entry: LedgerEntry, _is_durable: bool) -> io::Result<()> {
        Ok(())
    }
    /// Has a line written that nobody waits for.
    fn tell_line(&self, _entry: LedgerEntry) {}
    /// What is counted on this shard.
    fn metrics(&self) -> &ShardMetrics;
    /// What happened lately on it.
    fn chronicle(&self) -> &RefCell<Chronicle>;
    /// The number under which a location is counted, by its prefix. Asked when settings are taken
    /// over.
    fn series(&self, prefix: &str) -> usize;
    /// Lets go of the roots that nobody needs any more. Nothing to do where a root costs nothing.
    fn close_roots(&self, _is_needed: &dyn Fn(usize) -> bool) {}
}

/// All that a shard has of the outside: the floor that it stands on, and the disk that it keeps
/// things on, which fill and write the same memory.
pub trait World: Floor + Disk<File: File<Block = <Self as Floor>::Block>> {}

impl<W: Floor + Disk<File: File<Block = <W as Floor>::Block>>> World for W {}

/// The other shard's mailbox is full, or it is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandOverFull;
