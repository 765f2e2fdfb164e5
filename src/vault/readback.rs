//! What the journals of former starts say, read once at start for all shards together.
//!
//! A journal is read as a stream, in a buffer of a fixed size, so that what a start needs of memory
//! is bounded by the sessions that there are: not by the length of the journals, nor by the number
//! of shards. Of each session only the newest frame is kept. Whoever reads is not a shard: it may
//! block.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;

use super::record::{Content, Damage, FrameReader, Record};
use super::tombstones::Tombstone;
use crate::bits::session_id::SessionId;

/// What the journals say of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Newest {
    /// Its newest record.
    Record {
        /// The higher, the newer.
        sequence: u64,
        /// What it says.
        record: Box<Record>,
    },
    /// It ended long ago.
    Tombstone(Tombstone),
    /// Its newest frame is whole, and of another version.
    Unknown {
        /// The higher, the newer.
        sequence: u64,
    },
}

impl Newest {
    fn sequence(&self) -> u64 {
        match self {
            Self::Record { sequence, .. } | Self::Unknown { sequence } => *sequence,
            Self::Tombstone(tombstone) => tombstone.sequence,
        }
    }
}

/// A journal for a person to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Its name in the work directory.
    pub name: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// One shard's part of what was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dealt {
    /// The newest record of each of its sessions.
    pub told: BTreeMap<SessionId, Newest>,
    /// Journals that held more than can be read.
    pub damaged: Arc<[Damaged]>,
}

/// Reads journals and deals what they say to the shards.
#[derive(Debug)]
pub struct Readback {
    shards: Vec<BTreeMap<SessionId, Newest>>,
    damaged: Vec<Damaged>,
}

impl Readback {
    /// Nothing read yet; for so many shards.
    pub fn new(shards: usize) -> Self {
        Self {
            shards: (0..shards).map(|_| BTreeMap::new()).collect(),
            damaged: Vec::new(),
        }
    }

    /// Reads a journal. They come in the order of their names, which is that of their generations:
    /// of two frames with one number, the later file's counts.
    ///
    /// # Errors
    /// Of reading.
    pub fn journal(&mut self, name: &str, bytes: impl Read) -> io::Result<()> {
        let mut frames = FrameReader::new(bytes);
        while let Some(frame) = frames.read_frame()? {
            let shard = frame.id.shard(self.shards.len());
            let told = &mut self.shards[shard];
            let sequence = frame.sequence;
            if (told.get(&frame.id)).is_some_and(|known| known.sequence() > sequence) {
                continue;
            }
            let newest = match frame.content() {
                Some(Content::Record(record)) => Newest::Record {
                    sequence,
                    record: Box::new(record),
                },
                Some(Content::Tombstone(tombstone)) => Newest::Tombstone(tombstone),
                None => Newest::Unknown { sequence },
            };
            told.insert(frame.id, newest);
        }
        if frames.damage() == Damage::Inside {
            // What could be read of it goes into the new journals.
            self.damaged.push(Damaged {
                name: name.to_owned(),
                why: "some of its records cannot be read",
            });
        }
        Ok(())
    }

    /// Each shard's part.
    pub fn deal(self) -> Vec<Dealt> {
        let damaged: Arc<[Damaged]> = self.damaged.into();
        let dealt = self.shards.into_iter().map(|told| Dealt {
            told,
            damaged: Arc::clone(&damaged),
        });
        dealt.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::session::State;
    use crate::http::path::UploadPath;

    fn record(total: u64) -> Record {
        Record {
            path: UploadPath::from_text("a.bin").unwrap(),
            state: State::Sealed { total },
            durable: total,
            inode: 1,
            boot_id: 2,
            answer: None,
            client: None,
            begun_ms: 0,
            life: Default::default(),
            hashed: None,
            owed: None,
            is_unsettled: false,
            object: None,
        }
    }

    /// Gives a journal again and again, and counts its bytes.
    struct Endless<'a> {
        frames: &'a [u8],
        left: u64,
        reads_max: usize,
    }

    impl Read for Endless<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.reads_max = self.reads_max.max(into.len());
            let at = usize::try_from(self.left).unwrap() % self.frames.len();
            let rest = &self.frames[self.frames.len() - at..];
            let from = if at == 0 { self.frames } else { rest };
            let taken = from
                .len()
                .min(into.len())
                .min(usize::try_from(self.left).unwrap());
            into[..taken].copy_from_slice(&from[..taken]);
            self.left -= taken as u64;
            Ok(taken)
        }
    }

    #[test]
    fn a_long_journal_of_few_sessions_is_read_in_little_memory() {
        let mut frames = Vec::new();
        for id in 0..100u128 {
            frames.extend(record(9).encode(SessionId::from_u128(id), 3));
        }
        let mut endless = Endless {
            frames: &frames,
            left: 2_000 * frames.len() as u64,
            reads_max: 0,
        };
        let mut readback = Readback::new(4);
        readback.journal("0-0.journal", &mut endless).unwrap();
        assert_eq!(endless.left, 0);
        assert!(endless.reads_max < 100_000, "{}", endless.reads_max);
        let dealt = readback.deal();
        let sessions: usize = dealt.iter().map(|dealt| dealt.told.len()).sum();
        assert_eq!((dealt.len(), sessions), (4, 100));
    }

    #[test]
    fn the_newest_frame_counts_and_of_two_equal_ones_the_later() {
        let id = SessionId::from_u128(5);
        let mut readback = Readback::new(1);
        let first = [record(1).encode(id, 3), record(2).encode(id, 2)].concat();
        readback.journal("0-0.journal", &first[..]).unwrap();
        readback
            .journal("1-0.journal", &record(4).encode(id, 3)[..])
            .unwrap();
        let dealt = readback.deal().pop().unwrap();
        let Newest::Record { sequence, record } = &dealt.told[&id] else {
            panic!("{dealt:?}");
        };
        assert_eq!((*sequence, record.state), (3, State::Sealed { total: 4 }));
    }
}
