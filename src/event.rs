//! Everything worth telling, typed. [`crate::observe`] turns events into lines of the log, and the
//! simulator's judge reads the same stream.
//!
//! An event carries values, never prose. Its readers decide what a person reads.

use std::net::SocketAddr;

use crate::bits::packet::PacketKind;
use crate::bits::reply::Refusal;
use crate::bits::session::Ending;
use crate::bits::session_id::SessionId;
use crate::http::digest::Digests;
use crate::http::head::BadHead;

/// Where an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectName<'a> {
    pub bucket: &'a str,
    pub key: &'a str,
}

/// What was being done to the disk when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOp {
    /// Making the part or the record of a session.
    Create,
    /// Opening a part that exists.
    Open,
    /// Reading a record or the work directory.
    Read,
    /// Reserving space for a file of known size.
    Allocate,
    /// Writing bytes of a fragment.
    Write,
    /// Writing a session record.
    Record,
    /// `fsync` or `fdatasync` of a file.
    Sync,
    /// `fsync` of a directory.
    SyncDirectory,
    /// Making records durable that were written. A new journal takes the place of one that could
    /// not be synced, so the sessions in it go on.
    SyncRecords,
    /// Making the name of a file durable that stands at its destination.
    SyncDestination,
    /// Looking at the destination.
    LookUp,
    /// Moving the finished file to its destination.
    Publish,
    /// Keeping the reply of an application.
    Reply,
    /// Removing a file.
    Remove,
    /// Writing a line of the custody ledger.
    Ledger,
    /// Making the digest file of an upload.
    DigestFile,
    /// Cutting a part to the length that is known to be safe.
    Truncate,
}

/// Why a connection was ended by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hangup {
    /// The hands were not shaken in time, before any request.
    HandshakeTimeout,
    /// The head of a request did not arrive in time.
    HeadTimeout,
    /// No request for the idle time-out.
    Idle,
    /// A body made no progress for the stall time-out.
    BodyStalled,
    /// A newer connection took the session over.
    TakenOver,
    /// The server is stopping, and waits for it no longer.
    Draining,
    /// Idle, when others needed its place.
    Crowded,
    /// It did not close after its last answer.
    NotClosed,
}

/// How a notification went.
#[derive(Clone, Copy)]
pub enum Told<'a> {
    /// The application answered with this status.
    Answered(u16),
    /// It answered 200, and something that cannot be; what, in words.
    Senseless(&'a dyn std::fmt::Display),
    /// It did not answer; why, in words.
    Failed(&'a dyn std::fmt::Display),
}

impl std::fmt::Debug for Told<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answered(status) => write!(f, "Answered({status})"),
            Self::Senseless(why) => write!(f, "Senseless({why})"),
            Self::Failed(why) => write!(f, "Failed({why})"),
        }
    }
}

/// How it went to tell a target of events of a session.
#[derive(Clone, Copy, Debug)]
pub enum Relayed<'a> {
    /// It says that it has it.
    Taken {
        /// Failures in a row before that, of whatever events.
        failures: u32,
    },
    /// It does not.
    NotTaken {
        /// Failures in a row, this one included.
        failures: u32,
        /// Why, in words.
        why: &'a str,
    },
}

/// What [`Event::NotGiven`] calls the digest file beside a file.
pub const DIGEST_FILE: &str = "digest file";
/// And that beside an object.
pub const DIGEST_OBJECT: &str = "digest file in the store";

/// Something that happened on one shard.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A connection was accepted.
    Connected { peer: SocketAddr },
    /// A connection was refused because the shard holds as many as it may.
    ConnectionRefused { peer: SocketAddr },
    /// A connection has left that we ended.
    HungUp { peer: SocketAddr, why: Hangup },
    /// The shard did one thing for so long that nobody else had a turn.
    Stalled {
        /// What took most of the time, as far as it is known.
        what: &'static str,
        /// For how long, in milliseconds.
        ms: u64,
    },
    /// Hands were shaken.
    Secured {
        peer: SocketAddr,
        /// What was agreed on.
        version: &'static str,
        suite: &'static str,
        /// The name that the client asked for.
        server_name: Option<&'a str>,
        is_resumed: bool,
    },
    /// A request has shown something of who sends it, or nothing.
    Shown {
        peer: SocketAddr,
        /// By which scheme, in a word.
        scheme: &'static str,
        /// Whether it is the first request of its connection.
        is_first: bool,
    },
    /// A proxy has said whose connection this is.
    Announced {
        /// The client.
        client: SocketAddr,
        /// The proxy.
        proxy: SocketAddr,
    },
    /// A connection was ended before anything was read of it.
    NotLetIn {
        /// Whose.
        peer: SocketAddr,
        /// Why; its reason is that of [`Reasoned`](crate::reasoned::Reasoned).
        why: &'a std::io::Error,
    },
    /// A request was refused before it was a packet.
    BadRequest {
        peer: SocketAddr,
        /// What arrived of it: a whole head, or more, or the beginning of one.
        seen: &'a [u8],
        /// What was wrong with it.
        why: BadHead,
    },
    /// Both sides of a new connection could not agree on how to speak.
    HandshakeFailed {
        /// The client's address.
        peer: SocketAddr,
        /// Why; its reason is that of [`Reasoned`](crate::reasoned::Reasoned).
        why: &'a std::io::Error,
    },
    /// A Kerberos ticket was not believed.
    TicketRefused {
        /// The client's address.
        peer: SocketAddr,
        /// The minor status (RFC 2744, 3.9.1), which tells causes apart; 0 where there is none.
        minor: u32,
        /// The library's words: for us alone.
        why: &'a str,
    },
    /// Nobody can look at Kerberos tickets, through no fault of the client.
    TicketsUnusable {
        /// The library's words, or where it is missing.
        why: &'a str,
    },
    /// A connection ended, by us or by the client, in the middle of a head: there was no answer.
    EndedEarly {
        peer: SocketAddr,
        /// What arrived, never empty.
        seen: &'a [u8],
    },
    /// A connection ended in the middle of a packet: there was nobody to answer.
    BrokeOff { peer: SocketAddr, path: &'a str },
    /// A packet was refused.
    Refused {
        peer: SocketAddr,
        /// The session, where the packet named one.
        session: Option<SessionId>,
        /// The path it asked for, if it had a valid one.
        path: Option<&'a str>,
        /// The request target as it was sent, where there is no path.
        target: Option<&'a [u8]>,
        /// Who sent it, where that was asked and is known.
        user: Option<&'a str>,
        /// What the client heard.
        why: &'a Refusal,
    },
    /// A packet was dealt with, and this is what its client is about to hear.
    Answered {
        peer: SocketAddr,
        /// Which; `None` if it is none that there is.
        packet: Option<PacketKind>,
        /// The session that it named, or that was made for it.
        session: Option<SessionId>,
        path: Option<&'a str>,
        status: u16,
        /// Why it was refused, if it was.
        why: Option<&'a Refusal>,
    },
    /// An upload was refused for want of its folder, and on Windows its location would have been
    /// another one.
    CaseDiffers {
        path: &'a str,
        /// The prefix of that location.
        prefix: &'a str,
    },
    /// A request that is no packet, and asks for nothing that could be here.
    NotServed {
        peer: SocketAddr,
        /// Its head.
        seen: &'a [u8],
        status: u16,
    },
    /// A GET or HEAD of a file was refused.
    DownloadRefused {
        peer: SocketAddr,
        /// `None` of a reply that is not there.
        path: Option<&'a str>,
        status: u16,
        /// Who asked, where that was asked and is known.
        user: Option<&'a str>,
        /// Why it is not for this client; `None` where nothing is there to be read.
        why: Option<&'a Refusal>,
    },
    /// A file became shorter while it was sent: the connection ends, since its length was promised.
    FileCut {
        peer: SocketAddr,
        path: &'a str,
        /// Where it ends now.
        at: u64,
    },
    /// A connection was handed to the shard that owns the session it asked for.
    Moved {
        peer: SocketAddr,
        /// The owner.
        to: usize,
    },
    /// A session was made.
    SessionCreated {
        session: SessionId,
        /// Its destination beneath the root.
        path: &'a str,
        peer: SocketAddr,
        /// The number under which its location is counted.
        series: usize,
    },
    /// A fragment was stored, whole or in part.
    FragmentStored {
        session: SessionId,
        /// The number under which its location is counted.
        series: usize,
        /// Bytes added to the file.
        stored: u64,
        /// Bytes of the body that were already there.
        skipped: u64,
        /// The watermark after it.
        received: u64,
    },
    /// All bytes of a fragment were there already, as where its Ack was lost.
    Repeated {
        session: SessionId,
        /// The number under which its location is counted.
        series: usize,
        /// How many they are; 0 where the client waits before it sends them.
        bytes: u64,
        /// The watermark.
        received: u64,
    },
    /// A fragment lay beyond the watermark; the client was told where to go on.
    Gap {
        session: SessionId,
        /// The number under which its location is counted.
        series: usize,
        /// Its bytes, which will come again; 0 where the client waits before it sends them.
        bytes: u64,
        received: u64,
    },
    /// All bytes of a session arrived and are kept.
    SessionSealed { session: SessionId },
    /// A server application was told of a file.
    Notified {
        session: SessionId,
        /// How it went.
        told: Told<'a>,
    },
    /// A target of events was told of a session.
    Relayed {
        session: SessionId,
        /// Which.
        target: &'static str,
        how: Relayed<'a>,
    },
    /// Events are owed from before, and the settings name no target any more.
    NobodyToTell {
        /// How many.
        count: usize,
    },
    /// An upload goes on after it was interrupted.
    SessionResumed {
        session: SessionId,
        /// The number under which its location is counted.
        series: usize,
    },
    /// Bytes were read again for the digest of an upload: those that had come after its newest
    /// record when the server was killed.
    ReadAgain { session: SessionId, bytes: u64 },
    /// An application has changed the file of an upload before it got its name.
    FileChanged {
        session: SessionId,
        /// Its destination beneath the root.
        path: &'a str,
        /// The SHA-256 of what came.
        sent: [u8; 32],
        /// That of the file.
        sha256: [u8; 32],
    },
    /// A newer connection took a session from one that was at work on it.
    SessionTakenOver {
        session: SessionId,
        /// The number under which its location is counted.
        series: usize,
    },
    /// A session ended.
    SessionEnded {
        session: SessionId,
        ending: Ending,
        /// An administrator ended it, not its client nor its time.
        by_administrator: bool,
        /// Its destination beneath the root.
        path: &'a str,
        /// The prefix of its location.
        location: &'a str,
        /// The number under which that is counted.
        series: usize,
        received: u64,
        /// Size of the file, if its client has said it.
        total: Option<u64>,
        /// From its creation to now over all restarts, in milliseconds; `None` if a version without
        /// that knowledge began it.
        duration_ms: Option<u64>,
        /// Time without progress, in milliseconds.
        idle_ms: u64,
        /// How often it had to begin again where it had been before, was silent for long, or met a
        /// restart.
        interruptions: u32,
        /// On how many connections its packets came.
        connections: u32,
        /// What its client calls itself.
        agent: Option<&'a str>,
        /// The user who made it.
        user: Option<&'a str>,
        /// How that was shown.
        proof: Option<&'static str>,
        /// The digests of the whole file, where they were computed.
        digests: Option<Digests>,
        /// What its file became in an object store.
        object: Option<ObjectName<'a>>,
        /// The last client's address, if this server has seen one.
        peer: Option<SocketAddr>,
        /// What helps against what has ended it, if that was a disk.
        remedy: Option<&'static str>,
    },
    /// A session was read back from disk at start.
    SessionRecovered {
        session: SessionId,
        received: u64,
        /// Bytes taken back because a power cut may have lost them.
        truncated: u64,
    },
    /// All sessions of this shard were read back.
    Recovered {
        /// How many can go on; those that ended are not counted.
        sessions: usize,
        /// How long it took, in milliseconds.
        duration_ms: u64,
    },
    /// A file in the work directory could not be understood and was renamed out of the way.
    SetAside {
        name: &'a str,
        /// What was wrong with it, in words.
        why: &'a str,
    },
    /// At the start, files of uploads of which no record says anything were removed. Their clients
    /// begin again. A power cut leaves some where nothing is synced; else somebody has changed the
    /// journals.
    Orphaned {
        /// How many that held bytes.
        parts: u64,
        /// Of all of them.
        bytes: u64,
    },
    /// At the start, uploads had a record and no file any more: nothing of them can go on. They may
    /// have ended just before a power cut, or while the disk took no record of that; else somebody
    /// has removed the files.
    PartsMissing {
        /// How many.
        uploads: u64,
        /// What had come of all of them, as far as their records are sure.
        bytes: u64,
        /// Their sizes.
        of: u64,
    },
    /// At the start, one of them was a file on its way to an object store; or such a file is not as
    /// it came.
    StagedLost {
        session: SessionId,
        path: &'a str,
        bytes: u64,
        /// It is not gone, but put aside.
        is_aside: bool,
        /// Its client was told that it is kept, and does not come back.
        is_promised: bool,
    },
    /// A file whose client was told that it is kept does not get its name in the folder that it is
    /// for. It is tried again.
    StagedUnnamed {
        session: SessionId,
        path: &'a str,
        op: DiskOp,
        error: &'a std::io::Error,
    },
    /// The disk refused something.
    DiskFailed {
        /// What was being done.
        op: DiskOp,
        /// The session it was done for, if any.
        session: Option<SessionId>,
        error: &'a std::io::Error,
    },
    /// A published file could not be given something that its folder gives to files that are made
    /// in it, or its digest file ([`DIGEST_FILE`], [`DIGEST_OBJECT`]).
    NotGiven {
        /// Its path beneath the root of its location.
        path: &'a str,
        /// Its group, or what else.
        what: &'static str,
        error: &'a std::io::Error,
    },
    /// The last body block was taken; bodies go on in small blocks.
    BlocksExhausted,
}
