//! The session record: what a restart needs to know of a session, as bytes.
//!
//! Each state that a session reaches is one [`super::frame`], appended to its shard's
//! [`crate::vault::journal`]. A frame says all there is to say, so that the newest one of a session
//! is enough, and no other is needed to understand it. Its payload is
//!
//! * JSON, so that a person can read it: fields may be added with a default, never change their
//!   meaning;
//! * or, from a letter `T` on, what is remembered of a session that ended long enough ago for its
//!   journal to be renewed:
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | `T` |
//! | 1 | how it ended, see [`ENDINGS`] |
//! | 2 | its origin, little endian |
//! | 4 | zeros |
//! | 8 | hash of its path and its user, little endian |
//! | 32 | SHA-256 of the file that it has published, if it was computed |
//!
//! Version 0.1.0 wrote `bitsd\0r2`, in which there is no `T`, and records have neither a beginning
//! nor counts.

mod place;
mod words;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ending_words::ENDINGS;
use super::frame;
pub use super::frame::{Damage, Frame, FrameReader, Frames};
use super::hashing::{Hashed, Written};
use super::owed::{self, Owed, OwedText};
use super::tombstones::{Origin, PathAndUser, Tombstone};
use crate::bits::notification::Token;
use crate::bits::session::{Ending, State};
use crate::bits::session_id::SessionId;
use crate::custody::entry::ShownCertificate;
use crate::custody::object::StoredObject;
use crate::http::authorization::Scheme;
use crate::http::digest::{Digests, Hex, parse_hex};
use crate::http::path::UploadPath;
pub use place::RecordedPlace;
use words::{stamp_from_text, stamp_to_text, state_from_text, state_to_text, told_to_text};

const TOMBSTONE: u8 = b'T';
const TOMBSTONE_BYTES: usize = 16;

/// What is remembered of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its destination.
    pub path: UploadPath,
    /// Where it stands; `received` of a receiving session is not recorded: the work file's length
    /// says it.
    pub state: State,
    /// Bytes of the work file that survive a power cut.
    pub durable: u64,
    /// Identity of the work file.
    pub inode: u64,
    /// The boot in which `state` was written.
    pub boot_id: u128,
    /// What the application answered, once it was told.
    pub answer: Option<Box<Answered>>,
    /// The client's address; absent in records of version 0.1.0.
    pub client: Option<IpAddr>,
    /// When the session was made, in milliseconds since 1970; 0 if that is not known.
    pub begun_ms: u64,
    /// What the line at its end tells of its life so far.
    pub life: Life,
    /// Its digests, as far as they have come; `None` where none are computed.
    pub hashed: Option<Box<Hashed>>,
    /// The event that is owed for its end; `None` if none is.
    pub owed: Option<Box<Owed>>,
    /// What goes with the file when it has its name (its line in the custody ledger, its digest
    /// file) is still to be made.
    pub is_unsettled: bool,
    /// The object that the file has become: the store has it, and need not be asked again.
    pub object: Option<Box<StoredObject>>,
}

/// What changes of a record from one frame to the next; how the upload goes is written with each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where it stands then.
    pub state: State,
    /// Bytes of the work file that survive a power cut then.
    pub durable: u64,
    /// What the application answered; `None` if it says nothing new.
    pub answer: Option<Box<Answered>>,
    /// The digests of the whole file, once they are known.
    pub digests: Option<Digests>,
    /// The event that is owed from then on; `None` if it is the same as before.
    pub owed: Option<Box<Owed>>,
    /// The object that the file has become; `None` if that says nothing new.
    pub object: Option<Box<StoredObject>>,
}

/// How an upload went, over restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// How often it had to begin again where it had been before, was silent for long, or met a
    /// restart.
    pub interruptions: u32,
    /// On how many connections its packets came.
    pub connections: u32,
    /// Fragments that brought something new.
    pub fragments: u32,
    /// It was offered bytes of which none was taken: whoever closes it then did not mean an empty
    /// file.
    pub was_offered: bool,
    /// When the first fragment began, in milliseconds since 1970; 0 if there was none, or that is
    /// not known.
    pub first_ms: u64,
    /// When its last byte so far was stored, likewise.
    pub last_ms: u64,
    /// When its file was about to get its name, the last time that this was tried, likewise.
    pub named_ms: u64,
    /// Where that was, or under which location it ended without a file; `None` before that, and in
    /// records of before it was written.
    pub place: Option<Arc<RecordedPlace>>,
    /// What its client calls itself.
    pub agent: Option<Arc<str>>,
    /// The user who made it; `None` where nobody was asked.
    pub user: Option<Arc<str>>,
    /// How that was shown; `None` in records of before it was written.
    pub proof: Option<Scheme>,
    /// The certificate that its client has shown, where a custody ledger tells of it.
    pub certificate: Option<Arc<ShownCertificate>>,
}

/// The part of an application's answer that is not in the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Names the reply that is kept here.
    pub token: Token,
    /// Where a reply that is kept elsewhere can be fetched.
    pub static_url: Option<String>,
    /// The reply that is kept here survives a power cut.
    pub is_safe: bool,
}

/// The payload as it is written.
#[derive(Serialize, Deserialize)]
struct Payload<'a> {
    path: Cow<'a, str>,
    state: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    durable: u64,
    inode: u64,
    boot: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    copies: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reply: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    static_url: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    reply_safe: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "is_zero")]
    begun: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    interruptions: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    connections: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    fragments: u32,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    offered: bool,
    #[serde(default, skip_serializing_if = "is_zero")]
    first: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    last: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    named: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<Cow<'a, RecordedPlace>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proof: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hashing: Option<Written>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha1: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owed: Option<OwedText<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unsettled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    object: Option<Cow<'a, StoredObject>>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
fn is_zero<N: Default + PartialEq>(number: &N) -> bool {
    *number == N::default()
}

impl Record {
    /// Whether its file was about to get its name in a folder. What is on its way into a store is
    /// not.
    pub fn was_to_be_named(&self) -> bool {
        self.life.named_ms > 0
    }

    /// The frame of session `id` that holds this record.
    pub fn encode(&self, id: SessionId, sequence: u64) -> Vec<u8> {
        // Room for the usual record, so that it is made in one piece of memory.
        let mut bytes = Vec::with_capacity(280 + self.path.as_str().len());
        self.append(id, sequence, &mut bytes);
        bytes
    }

    /// Another state, and nothing else.
    pub fn in_state(&self, state: State) -> Change {
        Change {
            state,
            durable: self.durable,
            answer: None,
            digests: None,
            owed: None,
            object: None,
        }
    }

    /// Becomes what it was changed to.
    pub fn change(&mut self, change: Change) {
        self.state = change.state;
        if let Some(hashed) = &mut self.hashed
            && change.durable != self.durable
        {
            hashed.harden();
        }
        self.durable = change.durable;
        if let Some(digests) = change.digests {
            self.set_digests(digests);
        }
        if change.answer.is_some() {
            self.answer = change.answer;
        }
        if change.owed.is_some() {
            self.owed = change.owed;
        }
        if change.object.is_some() {
            self.object = change.object;
        }
        // A publication that was refused owes nothing.
        self.owed.take_if(|_| !owed::may_owe(change.state));
    }

    /// All bytes have come, and these are their digests.
    pub fn set_digests(&mut self, digests: Digests) {
        let bytes = self.state.received();
        let left = self.hashed.as_ref().and_then(|hashed| hashed.left());
        self.hashed = Some(Box::new(Hashed::Whole {
            bytes,
            digests,
            sent: None,
            left,
        }));
    }

    /// The digests of the whole file, if they are known.
    pub fn digests(&self) -> Option<Digests> {
        self.hashed.as_ref().and_then(|hashed| hashed.digests())
    }

    /// What is remembered of its session once that has ended; `sequence` is the highest number of
    /// its frames.
    pub fn tombstone(&self, ending: Ending, sequence: u64) -> Tombstone {
        Tombstone {
            ending,
            key: PathAndUser::of(&self.path, self.life.user.as_deref()),
            origin: Origin::of(self.client),
            // Above all that may be in the journal, also of what was written in vain.
            sequence: sequence.saturating_add(1),
            sha256: (self.digests().filter(|_| ending.is_good())).map(|it| it.sha256),
        }
    }

    /// Appends its frame to others; how long it is.
    pub fn append(&self, id: SessionId, sequence: u64, out: &mut Vec<u8>) -> usize {
        self.append_changed(&self.in_state(self.state), id, sequence, out)
    }

    /// Appends the frame that it will have when it was changed; how long it is.
    pub fn append_changed(
        &self,
        change: &Change,
        id: SessionId,
        sequence: u64,
        out: &mut Vec<u8>,
    ) -> usize {
        let (state, total) = state_to_text(change.state);
        let (copies, reply) = told_to_text(change.state);
        let answer = change.answer.as_deref().or(self.answer.as_deref());
        let mut boot = [0; 32];
        let digests = change.digests.or(self.digests());
        let known = self.hashed.as_deref();
        let hashed = known.filter(|_| digests.is_none());
        let owed = change.owed.as_deref().or(self.owed.as_deref());
        let owed = owed.filter(|_| owed::may_owe(change.state));
        let payload = Payload {
            path: Cow::Borrowed(self.path.as_str()),
            state: Cow::Borrowed(state),
            total,
            durable: change.durable,
            inode: self.inode,
            boot: Cow::Borrowed(hexadecimal(self.boot_id, &mut boot)),
            copies,
            reply: reply.map(Cow::Borrowed),
            token: answer.map(|answer| answer.token.to_string()),
            static_url: (answer.and_then(|answer| answer.static_url.as_deref())).map(Cow::Borrowed),
            reply_safe: answer.is_some_and(|answer| answer.is_safe),
            client: self.client,
            begun: self.begun_ms,
            interruptions: self.life.interruptions,
            connections: self.life.connections,
            fragments: self.life.fragments,
            offered: self.life.was_offered,
            first: self.life.first_ms,
            last: self.life.last_ms,
            named: self.life.named_ms,
            place: self.life.place.as_deref().map(Cow::Borrowed),
            agent: self.life.agent.as_deref().map(Cow::Borrowed),
            user: self.life.user.as_deref().map(Cow::Borrowed),
            proof: (self.life.proof).map(|proof| Cow::Borrowed(proof.word())),
            hashing: hashed.and_then(Written::of),
            sha256: digests.map(|digests| Hex(&digests.sha256).to_string()),
            sha1: (digests.and_then(|digests| digests.sha1)).map(|sha1| Hex(&sha1).to_string()),
            sent: (known.and_then(Hashed::sent)).map(|sent| Hex(&sent).to_string()),
            left: known.and_then(Hashed::left).map(stamp_to_text),
            owed: owed.map(OwedText::of),
            certificate: (self.life.certificate.as_deref()).map(ShownCertificate::to_text),
            unsettled: self.is_unsettled,
            object: (change.object.as_deref().or(self.object.as_deref())).map(Cow::Borrowed),
        };
        frame::append(out, id, sequence, |out| {
            serde_json::to_writer(out, &payload).expect("strings and numbers always serialize");
        })
    }
}

impl Tombstone {
    /// Appends its frame to others; how long it is.
    pub fn append(self, id: SessionId, out: &mut Vec<u8>) -> usize {
        let code = (ENDINGS.iter())
            .position(|ending| *ending == self.ending)
            .and_then(|code| u8::try_from(code).ok())
            .expect("all endings have a code");
        frame::append(out, id, self.sequence, |out| {
            out.extend([TOMBSTONE, code]);
            out.extend(self.origin.0.to_le_bytes());
            out.extend([0; 4]);
            out.extend(self.key.0.to_le_bytes());
            out.extend(self.sha256.iter().flatten());
        })
    }

    fn read(payload: &[u8], sequence: u64) -> Option<Self> {
        let (payload, digest) = payload.split_first_chunk::<TOMBSTONE_BYTES>()?;
        let code = usize::from(payload[1]);
        Some(Self {
            ending: *ENDINGS.get(code)?,
            origin: Origin(u16::from_le_bytes([payload[2], payload[3]])),
            key: PathAndUser(u64::from_le_bytes(payload[8..].try_into().ok()?)),
            sequence,
            sha256: match digest {
                [] => None,
                digest => Some(digest.try_into().ok()?),
            },
        })
    }
}

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A state of a session.
    Record(Record),
    /// That a session ended.
    Tombstone(Tombstone),
}

impl Frame<'_> {
    /// What it says; `None` if this version does not understand it (written by a newer one?).
    pub fn content(&self) -> Option<Content> {
        match self.payload.first() {
            Some(&TOMBSTONE) => {
                Tombstone::read(self.payload, self.sequence).map(Content::Tombstone)
            }
            _ => self.record().map(Content::Record),
        }
    }

    /// Its record, if it is one that this version understands.
    pub fn record(&self) -> Option<Record> {
        let payload: Payload = serde_json::from_slice(self.payload).ok()?;
        let certificate = payload
            .certificate
            .as_deref()
            .and_then(ShownCertificate::from_text);
        Some(Record {
            path: UploadPath::from_text(&payload.path).ok()?,
            object: (payload.object.as_ref()).map(|object| Box::new(StoredObject::clone(object))),
            hashed: hashed_from_text(&payload).map(Box::new),
            owed: (payload.owed.as_ref())
                .and_then(OwedText::read)
                .map(Box::new),
            is_unsettled: payload.unsettled,
            state: state_from_text(&payload)?,
            durable: payload.durable,
            inode: payload.inode,
            boot_id: u128::from_str_radix(&payload.boot, 16).ok()?,
            answer: match payload.token {
                None => None,
                Some(token) => Some(Box::new(Answered {
                    token: Token::parse(&token)?,
                    static_url: payload.static_url.map(Cow::into_owned),
                    is_safe: payload.reply_safe,
                })),
            },
            client: payload.client,
            begun_ms: payload.begun,
            life: Life {
                certificate: certificate.map(Arc::new),
                interruptions: payload.interruptions,
                connections: payload.connections,
                fragments: payload.fragments,
                was_offered: payload.offered,
                first_ms: payload.first,
                last_ms: payload.last,
                named_ms: payload.named,
                place: (payload.place).map(|place| Arc::new(place.into_owned())),
                agent: payload.agent.map(|agent| agent.into()),
                user: payload.user.map(|user| user.into()),
                // One that only a newer version knows is nobody's loss.
                proof: (payload.proof).and_then(|word| Scheme::from_word(&word)),
            },
        })
    }
}

fn hexadecimal(number: u128, buffer: &mut [u8; 32]) -> &str {
    for (at, digit) in buffer.iter_mut().enumerate() {
        let nibble = (number >> (124 - 4 * at)) & 0xf;
        *digit = b"0123456789abcdef"[nibble as usize];
    }
    std::str::from_utf8(buffer).expect("hexadecimal digits")
}

/// What could not be read of its digests is nobody's loss: they are computed anew.
fn hashed_from_text(payload: &Payload<'_>) -> Option<Hashed> {
    let left = payload.left.as_deref().and_then(stamp_from_text);
    let Some(sha256) = &payload.sha256 else {
        let mut hashed = payload.hashing.as_ref()?.read()?;
        hashed.set_left(left);
        return Some(hashed);
    };
    Some(Hashed::Whole {
        bytes: payload.total.unwrap_or(0),
        digests: Digests {
            sha256: parse_hex(sha256)?,
            sha1: payload.sha1.as_deref().and_then(parse_hex),
        },
        sent: payload.sent.as_deref().and_then(parse_hex),
        left,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::session::{AfterPublish, Reply};
    use crate::http::digest::Algorithms;
    use proptest::prelude::*;

    fn record(state: State) -> Record {
        let path =
            UploadPath::from_text("in/a \"b\".bin").or_else(|_| UploadPath::from_text("in/a.bin"));
        Record {
            path: path.unwrap(),
            state,
            durable: 7,
            inode: 42,
            boot_id: u128::MAX - 1,
            answer: Some(Box::new(Answered {
                token: Token::new(3),
                static_url: Some("http://h/r".to_owned()),
                is_safe: true,
            })),
            client: Some(IpAddr::from([192, 0, 2, 1])),
            begun_ms: 1_700_000_000_000,
            life: Life {
                interruptions: 2,
                connections: 5,
                fragments: 8,
                was_offered: true,
                first_ms: 1_700_000_000_500,
                last_ms: 1_700_000_001_000,
                named_ms: 1_700_000_001_500,
                place: Some(Arc::new(RecordedPlace {
                    location: "in".to_owned(),
                    root: "/srv/in".to_owned(),
                    path: "a \"b\".bin".to_owned(),
                })),
                agent: Some("Microsoft BITS/7.8".into()),
                user: Some("anna".into()),
                proof: Some(Scheme::Negotiate),
                certificate: Some(Arc::new(ShownCertificate {
                    subject: "CN=a \"b\",O=c".to_owned(),
                    sha256: [0xcd; 32],
                })),
            },
            hashed: Hashed::begin(Algorithms::Both),
            owed: None,
            is_unsettled: true,
            object: Some(Box::new(StoredObject {
                bucket: "collected".to_owned(),
                key: "hosts/in/a \"b\".bin".to_owned(),
                version: Some("3/L4kqtJlcpXroDTDmJ".to_owned()),
                etag: Some("d41d8-3".to_owned()),
            })),
        }
    }

    fn all_states() -> Vec<State> {
        let total = 9;
        let mut states = Vec::new();
        for reply in [Reply::None, Reply::File, Reply::Elsewhere] {
            states.push(State::Published { total, reply });
            for copies in [false, true] {
                states.push(State::Notified {
                    total,
                    copies,
                    reply,
                });
            }
        }
        for told in [None, Some(Reply::None), Some(Reply::File)] {
            for then in [AfterPublish::End, AfterPublish::AwaitClose] {
                states.push(State::Closing { total, then, told });
            }
        }
        states.extend([
            State::NEW,
            State::Receiving {
                received: 0,
                total: Some(u64::MAX),
            },
            State::Sealed { total },
            State::Denied { total },
            State::Gone(Ending::Published),
            State::Gone(Ending::Delivered),
            State::Gone(Ending::Denied),
            State::Gone(Ending::Incomplete),
            State::Gone(Ending::Cancelled),
            State::Gone(Ending::Expired),
            State::Gone(Ending::Poisoned),
        ]);
        states
    }

    const ID: SessionId = SessionId::from_u128(7);

    /// What is read back from a journal: sequence numbers and states, and what could not be read.
    fn read(bytes: &[u8]) -> (Vec<(u64, State)>, Damage) {
        let mut frames = Frames::of(bytes);
        let read = (frames.by_ref())
            .map(|frame| {
                assert_eq!(frame.id, ID);
                (frame.sequence, frame.record().unwrap().state)
            })
            .collect();
        (read, frames.damage())
    }

    #[test]
    fn every_state_reads_back() {
        let mut journal = Vec::new();
        for (sequence, state) in (1..).zip(all_states()) {
            journal.extend(record(state).encode(ID, sequence));
        }
        let written: Vec<_> = (1..).zip(all_states()).collect();
        assert_eq!(read(&journal), (written, Damage::None));
        let frame = record(State::NEW).encode(ID, 1);
        let frame = Frames::of(&frame).next().unwrap();
        assert_eq!(frame.record(), Some(record(State::NEW)));
    }

    #[test]
    fn what_is_owed_reads_back_and_goes_where_nothing_can_be_owed() {
        for ending in ENDINGS {
            let owed = Owed {
                ending,
                at_ms: 1_700_000_002_000,
                bytes: 9,
                told: owed::EventTargets::NONE.with(owed::EventTarget::Nats),
            };
            let mut record = record(State::Gone(ending));
            record.owed = Some(Box::new(owed));
            let frame = record.encode(ID, 1);
            let read = Frames::of(&frame).next().unwrap().record();
            assert_eq!(read.as_ref(), Some(&record));
            let sealed = record.in_state(State::Sealed { total: 9 });
            let mut frame = Vec::new();
            record.append_changed(&sealed, ID, 2, &mut frame);
            let read = Frames::of(&frame).next().unwrap().record();
            assert_eq!(read.unwrap().owed, None);
            record.change(sealed);
            assert_eq!(record.owed, None);
        }
    }

    #[test]
    fn every_tombstone_reads_back() {
        for ending in ENDINGS {
            let tombstone = Tombstone {
                ending,
                key: PathAndUser::of(&record(State::NEW).path, Some("anna")),
                origin: Origin::of(Some(IpAddr::from([192, 0, 2, 1]))),
                sequence: 9,
                sha256: None,
            };
            for sha256 in [None, Some([9; 32])] {
                let tombstone = Tombstone {
                    sha256,
                    ..tombstone
                };
                let mut journal = record(State::NEW).encode(ID, 8);
                let bytes = tombstone.append(ID, &mut journal) as u64;
                assert_eq!(bytes, Tombstone::journal_bytes(sha256.is_some()));
                let last = Frames::of(&journal).last().unwrap();
                assert_eq!(last.content(), Some(Content::Tombstone(tombstone)));
                assert_eq!(last.record(), None);
            }
        }
    }

    #[test]
    fn a_journal_of_version_0_1_0_is_read() {
        let journal = include_bytes!("../../tests/data/journal-0.1.0");
        let mut frames = Frames::of(journal);
        let newest: std::collections::BTreeMap<String, Record> = (frames.by_ref())
            .map(|frame| frame.record().unwrap())
            .map(|record| (record.path.as_str().to_owned(), record))
            .collect();
        assert_eq!(frames.damage(), Damage::None);
        let state = |path: &str| newest[path].state;
        assert_eq!(newest.len(), 6);
        assert_eq!(state("new.bin"), State::NEW);
        let total = Some(30);
        assert_eq!(state("half.bin"), State::Receiving { received: 0, total });
        assert_eq!(newest["half.bin"].durable, 10);
        assert_eq!(state("whole.bin"), State::Sealed { total: 20 });
        let closing = State::Closing {
            total: 20,
            then: AfterPublish::End,
            told: None,
        };
        assert_eq!(state("closed.bin"), closing);
        assert_eq!(state("given-up.bin"), State::Gone(Ending::Incomplete));
        assert_eq!(state("cancelled.bin"), State::Gone(Ending::Cancelled));
        let life = &newest["half.bin"].life;
        assert_eq!((newest["half.bin"].begun_ms, life), (0, &Life::default()));
    }

    #[test]
    fn an_append_that_was_cut_short_leaves_those_before_it() {
        let first = record(State::NEW).encode(ID, 1);
        let second = record(State::Sealed { total: 9 }).encode(ID, 2);
        let whole = second.iter().rposition(|&byte| byte != 0).unwrap() + 1;
        for kept in 0..whole {
            let torn = [&first[..], &second[..kept]].concat();
            let damage = if kept == 0 { Damage::None } else { Damage::End };
            assert_eq!(read(&torn), (vec![(1, State::NEW)], damage), "{kept} bytes");
            // A file that is longer than what was written reads as zeros there.
            let longer = [&torn[..], &[0; 100]].concat();
            assert_eq!(read(&longer).0, vec![(1, State::NEW)], "{kept} bytes");
        }
    }

    #[test]
    fn damage_between_frames_is_told_and_passed_over() {
        let first = record(State::NEW).encode(ID, 1);
        let second = record(State::Sealed { total: 9 }).encode(ID, 2);
        let mut journal = [&first[..], &[0; 64], &second[..]].concat();
        let all = vec![(1, State::NEW), (2, State::Sealed { total: 9 })];
        assert_eq!(read(&journal), (all.clone(), Damage::None));
        journal[first.len() + 17] = 1;
        assert_eq!(read(&journal), (all.clone(), Damage::Inside));
        journal[20] ^= 1;
        assert_eq!(read(&journal), (all[1..].to_vec(), Damage::Inside));
    }

    /// A disk that returns something else is told from a first append that did not come to its end.
    #[test]
    fn a_journal_without_a_record_is_rubbish_or_was_cut_short() {
        let mut long = record(State::NEW);
        long.path = UploadPath::from_text(&["a".repeat(200).as_str(); 6].join("/")).unwrap();
        let frame = long.encode(ID, 1);
        let damage = |bytes: &[u8]| {
            let (records, damage) = read(bytes);
            assert!(records.is_empty());
            damage
        };
        for cut in 1..frame.len() - 8 {
            assert_eq!(damage(&frame[..cut]), Damage::End, "{cut}");
            let longer = [&frame[..cut], &[0; 600]].concat();
            assert_eq!(damage(&longer), Damage::End, "{cut}");
        }
        for sector in [0, 512, 1024] {
            let mut torn = frame.clone();
            let end = frame.len().min(sector + 512);
            torn[sector..end].fill(0);
            assert_eq!(damage(&torn), Damage::End, "{sector}");
        }
        let nothing: [&[u8]; 3] = [&[], &[0], &[0; 5000]];
        for nothing in nothing {
            assert_eq!(damage(nothing), Damage::None);
        }
        for at in [0, 6, 20, 36, 60, 700] {
            let mut flipped = frame.clone();
            flipped[at] ^= 1;
            assert_eq!(damage(&flipped), Damage::All, "{at}");
        }
        for rubbish in [
            "h",
            "hello\n",
            "of another program, and as long as a header is at the least",
        ] {
            assert_eq!(damage(rubbish.as_bytes()), Damage::All, "{rubbish}");
        }
        let then = ["rubbish.".repeat(10).as_bytes(), &frame[..]].concat();
        assert_eq!(read(&then).1, Damage::Inside);
    }

    #[test]
    fn the_longest_texts_fit_a_frame() {
        let segment = "a".repeat(250);
        let text = [segment.as_str(); 8].join("/");
        let path = UploadPath::from_text(&text).unwrap();
        let usual = record(State::NEW);
        let record = Record {
            path,
            answer: Some(Box::new(Answered {
                token: Token::new(u128::MAX),
                static_url: Some("\"".repeat(2_200)),
                is_safe: false,
            })),
            life: Life {
                // A path of the kernel's PATH_MAX, of letters that JSON writes with six.
                place: Some(Arc::new(RecordedPlace {
                    location: text.clone(),
                    root: "\u{1}".repeat(4_095),
                    path: text,
                })),
                agent: Some("\"".repeat(64).into()),
                user: Some("\"".repeat(256).into()),
                certificate: Some(Arc::new(ShownCertificate {
                    subject: "\u{1}".repeat(256),
                    sha256: [0xcd; 32],
                })),
                ..usual.life.clone()
            },
            object: Some(Box::new(StoredObject {
                bucket: "b".repeat(63),
                key: "\"".repeat(1_024),
                version: Some("\"".repeat(1_024)),
                etag: Some("\"".repeat(1_024)),
            })),
            ..usual
        };
        let frame = record.encode(ID, 1);
        assert_eq!(Frames::of(&frame).next().unwrap().record(), Some(record));
    }

    proptest! {
        #[test]
        fn one_flipped_bit_is_never_read_as_a_record(bit in 0usize..8 * 150) {
            let mut bytes = record(State::Sealed { total: 9 }).encode(ID, 2);
            let whole = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
            bytes[bit / 8 % whole] ^= 1 << (bit % 8);
            let (records, damage) = read(&bytes);
            prop_assert!(records.is_empty() && matches!(damage, Damage::End | Damage::All));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Frames::of(&bytes).count();
        }

        #[test]
        fn arbitrary_bytes_do_not_hide_the_frame_after_them(bytes in proptest::collection::vec(any::<u8>(), 0..25)) {
            let mut journal = bytes.repeat(8);
            journal.extend(record(State::NEW).encode(ID, 1));
            prop_assert_eq!(read(&journal).0, vec![(1, State::NEW)]);
        }
    }
}
