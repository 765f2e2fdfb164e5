//! The session record: what a restart needs to know of a session, as bytes.
//!
//! Each state that a session reaches is one frame, appended to its shard's [`super::journal`]. A frame says all there is
//! to say, so that the newest one of a session is enough, and no other is needed to understand it. A frame is
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `bitsd\0r2` |
//! | 8 | sequence number of this session's records, little endian |
//! | 16 | session id, big endian |
//! | 4 | length of the payload, little endian |
//! | 4 | CRC-32 of sequence number, id, length and payload, little endian |
//! | n | payload: JSON, so that a person can read it |
//! | 0 to 7 | zeros, up to a multiple of 8 |
//!
//! The payload has a version by its magic; fields may be added with a default, never change their meaning.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::bits::notification::Token;
use crate::bits::session::{AfterPublish, Reply, State};
use crate::bits::session_id::SessionId;
use crate::event::Ending;
use crate::http::path::UploadPath;

/// Bytes of a payload at the most: a path and a URL of 2,200 bytes, each escaped, and room.
const PAYLOAD_BYTES_MAX: usize = 32 * 1024;
const MAGIC: &[u8; 8] = b"bitsd\0r2";
const HEADER_BYTES: usize = 40;
/// Frames begin at multiples of it.
const ALIGN: usize = 8;

/// What is remembered of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its destination.
    pub path: UploadPath,
    /// Where it stands; `received` of a receiving session is not recorded: the work file's length says it.
    pub state: State,
    /// Bytes of the work file that survive a power cut.
    pub durable: u64,
    /// Identity of the work file.
    pub inode: u64,
    /// The boot in which `state` was written.
    pub boot_id: u128,
    /// What the application answered, once it was told.
    pub answer: Option<Box<Answered>>,
    /// The client's address, where its sessions are counted.
    pub client: Option<IpAddr>,
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
}

impl Record {
    /// The frame of session `id` that holds this record.
    pub fn encode(&self, id: SessionId, sequence: u64) -> Vec<u8> {
        let (state, total) = state_to_text(self.state);
        let (copies, reply) = told_to_text(self.state);
        let answer = self.answer.as_deref();
        let mut boot = [0; 32];
        let payload = Payload {
            path: Cow::Borrowed(self.path.as_str()),
            state: Cow::Borrowed(state),
            total,
            durable: self.durable,
            inode: self.inode,
            boot: Cow::Borrowed(hexadecimal(self.boot_id, &mut boot)),
            copies,
            reply: reply.map(Cow::Borrowed),
            token: answer.map(|answer| answer.token.to_string()),
            static_url: (answer.and_then(|answer| answer.static_url.as_deref())).map(Cow::Borrowed),
            reply_safe: answer.is_some_and(|answer| answer.is_safe),
            client: self.client,
        };
        let mut bytes = Vec::with_capacity(HEADER_BYTES + 152 + self.path.as_str().len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&sequence.to_le_bytes());
        bytes.extend_from_slice(&id.as_u128().to_be_bytes());
        bytes.extend_from_slice(&[0; 8]);
        serde_json::to_writer(&mut bytes, &payload).expect("strings and numbers always serialize");
        let payload_len = bytes.len() - HEADER_BYTES;
        assert!(
            payload_len <= PAYLOAD_BYTES_MAX,
            "path and URL are at most 2,200 bytes each"
        );
        let payload_len = u32::try_from(payload_len).expect("checked above");
        bytes[32..36].copy_from_slice(&payload_len.to_le_bytes());
        let crc = checksum(&bytes);
        bytes[36..40].copy_from_slice(&crc.to_le_bytes());
        bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
        bytes
    }
}

/// One frame as it was found.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Whose record it is.
    pub id: SessionId,
    /// The higher, the newer.
    pub sequence: u64,
    payload: &'a [u8],
}

impl Frame<'_> {
    /// Its record; `None` if this version does not understand it (written by a newer one?).
    pub fn record(&self) -> Option<Record> {
        let payload: Payload = serde_json::from_slice(self.payload).ok()?;
        Some(Record {
            path: UploadPath::from_text(&payload.path).ok()?,
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
        })
    }
}

/// What of a journal cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Damage {
    /// Nothing.
    #[default]
    None,
    /// Its end: an append that a crash or a full disk cut short.
    End,
    /// Bytes before a frame that can be read: not what a crash of ours leaves, except where the power was cut while several
    /// unsynced appends were on their way.
    Inside,
}

/// The frames of a journal, in their order; whatever cannot be read between them is passed over.
pub struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
    damage: Damage,
}

impl<'a> Frames<'a> {
    /// The frames in `bytes`.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            damage: Damage::None,
        }
    }

    /// What was passed over so far.
    pub fn damage(&self) -> Damage {
        self.damage
    }

    /// Where the next frame may begin after bytes that are none.
    fn skip(&mut self) {
        let rest = &self.bytes[self.at..];
        if rest.iter().take(ALIGN).any(|&byte| byte != 0) && self.damage == Damage::None {
            self.damage = Damage::End;
        }
        let next = memchr::memmem::find_iter(rest, MAGIC)
            .find(|found| *found > 0 && (self.at + found).is_multiple_of(ALIGN));
        let passed = &rest[..next.unwrap_or(rest.len())];
        if self.damage == Damage::None && passed.iter().any(|&byte| byte != 0) {
            self.damage = Damage::End;
        }
        self.at += passed.len();
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        while self.at < self.bytes.len() {
            let Some((frame, len)) = frame(&self.bytes[self.at..]) else {
                self.skip();
                continue;
            };
            self.at = self.bytes.len().min(self.at + len.next_multiple_of(ALIGN));
            if self.damage == Damage::End {
                self.damage = Damage::Inside;
            }
            return Some(frame);
        }
        None
    }
}

/// The frame that `bytes` begins with, and its length without the padding.
fn frame(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let header = bytes.get(..HEADER_BYTES)?;
    if &header[..8] != MAGIC {
        return None;
    }
    let sequence = u64::from_le_bytes(header[8..16].try_into().ok()?);
    let id = u128::from_be_bytes(header[16..32].try_into().ok()?);
    let payload_len = u32::from_le_bytes(header[32..36].try_into().ok()?);
    let crc = u32::from_le_bytes(header[36..40].try_into().ok()?);
    let payload_len = usize::try_from(payload_len).ok()?;
    let whole = bytes.get(..HEADER_BYTES.checked_add(payload_len)?)?;
    let frame = Frame {
        id: SessionId::from_u128(id),
        sequence,
        payload: &whole[HEADER_BYTES..],
    };
    (payload_len <= PAYLOAD_BYTES_MAX && checksum(whole) == crc).then_some((frame, whole.len()))
}

fn hexadecimal(number: u128, buffer: &mut [u8; 32]) -> &str {
    for (at, digit) in buffer.iter_mut().enumerate() {
        let nibble = (number >> (124 - 4 * at)) & 0xf;
        *digit = b"0123456789abcdef"[nibble as usize];
    }
    std::str::from_utf8(buffer).expect("hexadecimal digits")
}

/// Over everything but the magic and the checksum itself.
fn checksum(frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[8..36]);
    hasher.update(&frame[HEADER_BYTES..]);
    hasher.finalize()
}

fn state_to_text(state: State) -> (&'static str, Option<u64>) {
    match state {
        State::Receiving { total, .. } => ("receiving", total),
        State::Sealed { total } => ("sealed", Some(total)),
        State::Notified { total, .. } => ("notified", Some(total)),
        State::Denied { total } => ("denied", Some(total)),
        State::Closing {
            total,
            then: AfterPublish::End,
            ..
        } => ("closing", Some(total)),
        State::Closing {
            total,
            then: AfterPublish::AwaitClose,
            ..
        } => ("publishing", Some(total)),
        State::Published { total, .. } => ("published", Some(total)),
        State::Gone(Ending::Published) => ("ended", None),
        State::Gone(Ending::Delivered) => ("delivered", None),
        State::Gone(Ending::Denied) => ("refused", None),
        State::Gone(Ending::Incomplete) => ("incomplete", None),
        State::Gone(Ending::Cancelled) => ("cancelled", None),
        State::Gone(Ending::Expired) => ("expired", None),
        State::Gone(Ending::Poisoned) => ("poisoned", None),
    }
}

/// What the application asked for, and what it has for the client: `copies` and `reply`.
fn told_to_text(state: State) -> (Option<bool>, Option<&'static str>) {
    let text = |reply| match reply {
        Reply::None => "none",
        Reply::File => "file",
        Reply::Elsewhere => "elsewhere",
    };
    match state {
        State::Notified { copies, reply, .. } => (Some(copies), Some(text(reply))),
        State::Closing {
            told: Some(reply), ..
        } => (None, Some(text(reply))),
        State::Published { reply, .. } if reply != Reply::None => (None, Some(text(reply))),
        _ => (None, None),
    }
}

fn state_from_text(payload: &Payload<'_>) -> Option<State> {
    let told = match payload.reply.as_deref() {
        None => None,
        Some("none") => Some(Reply::None),
        Some("file") => Some(Reply::File),
        Some("elsewhere") => Some(Reply::Elsewhere),
        Some(_) => return None,
    };
    let total = payload.total;
    let closing = |then| total.map(|total| State::Closing { total, then, told });
    match &*payload.state {
        "receiving" => Some(State::Receiving { received: 0, total }),
        "sealed" => total.map(|total| State::Sealed { total }),
        "notified" => Some(State::Notified {
            total: total?,
            copies: payload.copies?,
            reply: told?,
        }),
        "denied" => total.map(|total| State::Denied { total }),
        "closing" => closing(AfterPublish::End),
        "publishing" => closing(AfterPublish::AwaitClose),
        "published" => Some(State::Published {
            total: total?,
            reply: told.unwrap_or(Reply::None),
        }),
        "ended" => Some(State::Gone(Ending::Published)),
        "delivered" => Some(State::Gone(Ending::Delivered)),
        "refused" => Some(State::Gone(Ending::Denied)),
        "incomplete" => Some(State::Gone(Ending::Incomplete)),
        "cancelled" => Some(State::Gone(Ending::Cancelled)),
        "expired" => Some(State::Gone(Ending::Expired)),
        "poisoned" => Some(State::Gone(Ending::Poisoned)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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

    #[test]
    fn the_longest_path_and_url_fit_a_frame() {
        let segment = "a".repeat(250);
        let text = [segment.as_str(); 8].join("/");
        let path = UploadPath::from_text(&text).unwrap();
        let record = Record {
            path,
            answer: Some(Box::new(Answered {
                token: Token::new(u128::MAX),
                static_url: Some("\"".repeat(2_200)),
                is_safe: false,
            })),
            ..record(State::NEW)
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
            prop_assert_eq!(read(&bytes), (vec![], Damage::End));
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
