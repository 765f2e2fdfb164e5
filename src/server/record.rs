//! The session record: what a restart needs to know of a session, as bytes.
//!
//! A record file holds two slots of [`SLOT_BYTES`] each. Writes alternate between them and each carries
//! a sequence number, so a torn write can only destroy the older of the two. A slot is
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `bitsd\0r1` |
//! | 8 | sequence number, little endian |
//! | 4 | length of the payload, little endian |
//! | 4 | CRC-32 of sequence number, length and payload, little endian |
//! | n | payload: JSON, so that a person can read it |
//!
//! The payload has a version by its magic; fields may be added with a default, never change their meaning.

use serde::{Deserialize, Serialize};

use crate::bits::session::{AfterPublish, State};
use crate::event::Ending;
use crate::http::path::UploadPath;

/// Bytes of one slot. The longest payload (a path of 2,200 bytes, each escaped) stays below it.
pub const SLOT_BYTES: usize = 8192;
/// Bytes of a record file at the most.
pub const RECORD_BYTES_MAX: usize = 2 * SLOT_BYTES;

const MAGIC: &[u8; 8] = b"bitsd\0r1";
const HEADER_BYTES: usize = 24;

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
}

/// The payload as it is written.
#[derive(Serialize, Deserialize)]
struct Payload {
    path: String,
    state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    durable: u64,
    inode: u64,
    boot: String,
}

/// A record could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRecord {
    /// No slot has our magic, a length that fits and a matching checksum.
    NoValidSlot,
    /// The checksum matches but the payload is not one we understand (written by a newer version?).
    Unknown,
}

impl std::fmt::Display for BadRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoValidSlot => "no slot with a valid checksum",
            Self::Unknown => {
                "a valid checksum over a payload that this version does not understand"
            }
        })
    }
}

impl Record {
    /// The bytes of the slot that `sequence` is written to, and its offset in the file.
    pub fn encode(&self, sequence: u64) -> (u64, Vec<u8>) {
        let (state, total) = state_to_text(self.state);
        let payload = Payload {
            path: self.path.as_str().to_owned(),
            state: state.to_owned(),
            total,
            durable: self.durable,
            inode: self.inode,
            boot: format!("{:032x}", self.boot_id),
        };
        let mut bytes = vec![0; HEADER_BYTES];
        serde_json::to_writer(&mut bytes, &payload).expect("strings and numbers always serialize");
        assert!(bytes.len() <= SLOT_BYTES, "a path is at most 2,200 bytes");
        let payload_len = u32::try_from(bytes.len() - HEADER_BYTES).expect("fits a slot");
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&sequence.to_le_bytes());
        bytes[16..20].copy_from_slice(&payload_len.to_le_bytes());
        let crc = checksum(&bytes);
        bytes[20..24].copy_from_slice(&crc.to_le_bytes());
        (sequence % 2 * SLOT_BYTES as u64, bytes)
    }

    /// The newest valid slot of a record file, with its sequence number.
    ///
    /// # Errors
    /// [`BadRecord`] if there is none; the session is then forgotten.
    pub fn decode(file: &[u8]) -> Result<(u64, Self), BadRecord> {
        let first = file.get(..file.len().min(SLOT_BYTES)).and_then(slot);
        let second = file.get(SLOT_BYTES.min(file.len())..).and_then(slot);
        let newest = match (first, second) {
            (Some(a), Some(b)) if b.0 > a.0 => b,
            (Some(a), _) => a,
            (None, Some(b)) => b,
            (None, None) => return Err(BadRecord::NoValidSlot),
        };
        let payload: Payload = serde_json::from_slice(newest.1).map_err(|_| BadRecord::Unknown)?;
        let record = Self {
            path: UploadPath::from_text(&payload.path).map_err(|_| BadRecord::Unknown)?,
            state: state_from_text(&payload.state, payload.total).ok_or(BadRecord::Unknown)?,
            durable: payload.durable,
            inode: payload.inode,
            boot_id: u128::from_str_radix(&payload.boot, 16).map_err(|_| BadRecord::Unknown)?,
        };
        Ok((newest.0, record))
    }
}

/// Sequence number and payload of one slot, if it is whole.
fn slot(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let header = bytes.get(..HEADER_BYTES)?;
    if &header[..8] != MAGIC {
        return None;
    }
    let sequence = u64::from_le_bytes(header[8..16].try_into().ok()?);
    let payload_len = u32::from_le_bytes(header[16..20].try_into().ok()?);
    let crc = u32::from_le_bytes(header[20..24].try_into().ok()?);
    let end = HEADER_BYTES.checked_add(usize::try_from(payload_len).ok()?)?;
    let whole = bytes.get(..end.min(SLOT_BYTES))?;
    (whole.len() == end && checksum(whole) == crc).then(|| (sequence, &whole[HEADER_BYTES..]))
}

/// Over everything but the magic and the checksum itself.
fn checksum(slot: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&slot[8..20]);
    hasher.update(&slot[HEADER_BYTES..]);
    hasher.finalize()
}

fn state_to_text(state: State) -> (&'static str, Option<u64>) {
    match state {
        State::Receiving { total, .. } => ("receiving", total),
        State::Sealed { total } => ("sealed", Some(total)),
        State::Closing {
            total,
            then: AfterPublish::End,
        } => ("closing", Some(total)),
        State::Closing {
            total,
            then: AfterPublish::AwaitClose,
        } => ("publishing", Some(total)),
        State::Published { total } => ("published", Some(total)),
        State::Gone(Ending::Published) => ("ended", None),
        State::Gone(Ending::Incomplete) => ("incomplete", None),
        State::Gone(Ending::Cancelled) => ("cancelled", None),
        State::Gone(Ending::Expired) => ("expired", None),
        State::Gone(Ending::Poisoned) => ("poisoned", None),
    }
}

fn state_from_text(text: &str, total: Option<u64>) -> Option<State> {
    let sized = |make: fn(u64) -> State| total.map(make);
    match text {
        "receiving" => Some(State::Receiving { received: 0, total }),
        "sealed" => sized(|total| State::Sealed { total }),
        "closing" => sized(|total| State::Closing {
            total,
            then: AfterPublish::End,
        }),
        "publishing" => sized(|total| State::Closing {
            total,
            then: AfterPublish::AwaitClose,
        }),
        "published" => sized(|total| State::Published { total }),
        "ended" => Some(State::Gone(Ending::Published)),
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
        }
    }

    fn all_states() -> Vec<State> {
        let total = 9;
        vec![
            State::NEW,
            State::Receiving {
                received: 0,
                total: Some(u64::MAX),
            },
            State::Sealed { total },
            State::Closing {
                total,
                then: AfterPublish::End,
            },
            State::Closing {
                total,
                then: AfterPublish::AwaitClose,
            },
            State::Published { total },
            State::Gone(Ending::Published),
            State::Gone(Ending::Incomplete),
            State::Gone(Ending::Cancelled),
            State::Gone(Ending::Expired),
            State::Gone(Ending::Poisoned),
        ]
    }

    /// A record file to which the given writes were made.
    fn file(writes: &[(u64, Vec<u8>)]) -> Vec<u8> {
        let mut file = Vec::new();
        for (offset, bytes) in writes {
            let offset = usize::try_from(*offset).unwrap();
            if file.len() < offset + bytes.len() {
                file.resize(offset + bytes.len(), 0);
            }
            file[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        file
    }

    #[test]
    fn every_state_reads_back() {
        for state in all_states() {
            for sequence in [1, 2, 3] {
                let written = record(state).encode(sequence);
                assert_eq!(
                    Record::decode(&file(&[written])),
                    Ok((sequence, record(state)))
                );
            }
        }
    }

    #[test]
    fn the_newer_slot_wins() {
        let first = record(State::NEW).encode(1);
        let second = record(State::Sealed { total: 9 }).encode(2);
        let (sequence, newest) = Record::decode(&file(&[first, second])).unwrap();
        assert_eq!((sequence, newest.state), (2, State::Sealed { total: 9 }));
    }

    #[test]
    fn a_torn_write_leaves_the_older_slot() {
        let first = record(State::NEW).encode(1);
        let second = record(State::Sealed { total: 9 }).encode(2);
        for kept in 0..second.1.len() {
            let torn = (second.0, second.1[..kept].to_vec());
            let (sequence, read) = Record::decode(&file(&[first.clone(), torn])).unwrap();
            assert_eq!(
                (sequence, read.state),
                (1, State::NEW),
                "{kept} bytes were written"
            );
        }
    }

    #[test]
    fn the_longest_path_fits_a_slot() {
        let segment = "a".repeat(250);
        let text = [segment.as_str(); 8].join("/");
        let path = UploadPath::from_text(&text).unwrap();
        let record = Record {
            path,
            ..record(State::NEW)
        };
        assert_eq!(Record::decode(&file(&[record.encode(1)])), Ok((1, record)));
    }

    proptest! {
        #[test]
        fn one_flipped_bit_is_never_read_as_a_record(bit in 0usize..8 * 150) {
            let (_, mut bytes) = record(State::Sealed { total: 9 }).encode(2);
            let byte = bit / 8 % bytes.len();
            bytes[byte] ^= 1 << (bit % 8);
            prop_assert_eq!(Record::decode(&file(&[(8192, bytes)])), Err(BadRecord::NoValidSlot));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::decode(&bytes);
        }
    }
}
