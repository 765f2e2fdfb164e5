//! The digests of an upload that is on its way: their states, which go on where they were after a
//! restart.
//!
//! Bytes only ever come at the end of a part, so one state suffices, and how far it has come. It is
//! in each record of the session. What came after the newest record is read again after a crash,
//! before anything is appended ([`Hashed::at`] is behind what was received then). A power cut may
//! shorten a part to what was synced; so the state of that moment is kept as well
//! ([`Hashed::cut`]).
//!
//! How a state is written is an affair of the libraries, which promise to read it within a minor
//! version (`hazmat` of crypto-common). `MAKER` names that and our own form: a state by another
//! maker is not read, and the part is read again from its beginning.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest as _, Sha256};

use crate::http::digest::{Algorithms, Digests};
use crate::vault::disk::PartStamp;

/// Who can read the states: the minor versions of sha2 and sha1, and the form of [`Written`].
const MAKER: &str = "sha2-0.11 sha1-0.11 1";

/// States that have seen the first bytes of a file.
#[derive(Clone)]
pub struct Hashing {
    at: u64,
    sha256: Sha256,
    sha1: Option<Sha1>,
}

impl Hashing {
    /// Before the first byte; `None` if nothing is to be computed.
    pub fn begin(algorithms: Algorithms) -> Option<Self> {
        let sha1 = match algorithms {
            Algorithms::None => return None,
            Algorithms::Sha256 => None,
            Algorithms::Both => Some(Sha1::new()),
        };
        Some(Self {
            at: 0,
            sha256: Sha256::new(),
            sha1,
        })
    }

    /// So many bytes it has seen.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Sees the bytes that follow.
    pub fn update(&mut self, bytes: &[u8]) {
        self.at += bytes.len() as u64;
        self.sha256.update(bytes);
        if let Some(sha1) = &mut self.sha1 {
            sha1.update(bytes);
        }
    }

    /// The digests of what was seen.
    pub fn finish(self) -> Digests {
        Digests {
            sha256: self.sha256.finalize().into(),
            sha1: self.sha1.map(|sha1| sha1.finalize().into()),
        }
    }

    fn begin_anew(&self) -> Self {
        Self {
            at: 0,
            sha256: Sha256::new(),
            sha1: self.sha1.as_ref().map(|_| Sha1::new()),
        }
    }
}

impl PartialEq for Hashing {
    fn eq(&self, other: &Self) -> bool {
        let sha1 = |it: &Self| it.sha1.as_ref().map(SerializableState::serialize);
        self.at == other.at
            && self.sha256.serialize() == other.sha256.serialize()
            && sha1(self) == sha1(other)
    }
}

impl Eq for Hashing {}

impl fmt::Debug for Hashing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hashing up to {}", self.at)
    }
}

/// What is known of the digests of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hashed {
    /// It is on its way.
    Partly {
        /// The state that has come farthest; it has seen no more than was received.
        newest: Box<Hashing>,
        /// The one of the bytes that survive a power cut, or of fewer.
        durable: Option<Box<Hashing>>,
        /// How the part was left when `newest` had seen all of it.
        left: Option<PartStamp>,
        /// What had seen the part before, while that is seen anew because it was not as it was
        /// left: `newest` has to come to the same.
        expected: Option<Box<Hashing>>,
    },
    /// All of it was seen.
    Whole {
        /// The size of the file.
        bytes: u64,
        /// Its digests.
        digests: Digests,
        /// The SHA-256 of what came, if an application has changed the file since.
        sent: Option<[u8; 32]>,
        /// How the part was left when that was found out.
        left: Option<PartStamp>,
    },
}

impl Hashed {
    /// Of a new upload; `None` if nothing is to be computed.
    pub fn begin(algorithms: Algorithms) -> Option<Box<Self>> {
        Some(Box::new(Self::of(Hashing::begin(algorithms)?)))
    }

    fn of(newest: Hashing) -> Self {
        Self::Partly {
            newest: Box::new(newest),
            durable: None,
            left: None,
            expected: None,
        }
    }

    /// How the part was left; `None` where nobody has looked since all of it was seen.
    pub fn left(&self) -> Option<PartStamp> {
        let (Self::Partly { left, .. } | Self::Whole { left, .. }) = self;
        left.filter(|left| left.bytes == self.at())
    }

    /// That is how it was left.
    pub fn set_left(&mut self, stamp: Option<PartStamp>) {
        let (Self::Partly { left, .. } | Self::Whole { left, .. }) = self;
        *left = stamp;
    }

    /// The SHA-256 of what came, where the file is another one by now.
    pub fn sent(&self) -> Option<[u8; 32]> {
        match self {
            Self::Partly { .. } => None,
            Self::Whole { sent, .. } => *sent,
        }
    }

    /// The part is not as it was left: all of it is to be seen anew, and must be what was seen
    /// before.
    pub fn begin_anew(&mut self) {
        let Self::Partly {
            newest,
            durable,
            left,
            expected,
        } = self
        else {
            return;
        };
        // Nor does the older state speak of what stands there now.
        (*left, *durable) = (None, None);
        let anew = newest.begin_anew();
        let before = std::mem::replace(&mut **newest, anew);
        // If it is seen anew already, that is only begun once more.
        expected.get_or_insert_with(|| Box::new(before));
    }

    /// Up to where it is to be what was seen before.
    pub fn expected_at(&self) -> Option<u64> {
        match self {
            Self::Partly { expected, .. } => expected.as_ref().map(|expected| expected.at),
            Self::Whole { .. } => None,
        }
    }

    /// So much was seen anew as was expected: whether it is that. If not, all of it is to be seen
    /// anew, as often as it is asked for.
    pub fn compare_with_expected(&mut self) -> bool {
        let Self::Partly {
            newest, expected, ..
        } = self
        else {
            return true;
        };
        let is_reached = |expected: &Hashing| newest.at >= expected.at;
        let Some(before) = expected.take_if(|expected| is_reached(expected)) else {
            return true;
        };
        let is_same = before.at != newest.at || before == *newest;
        if !is_same {
            **newest = newest.begin_anew();
            *expected = Some(before);
        }
        is_same
    }

    /// How many bytes were seen.
    pub fn at(&self) -> u64 {
        match self {
            Self::Partly { newest, .. } => newest.at,
            Self::Whole { bytes, .. } => *bytes,
        }
    }

    /// The digests, once all was seen.
    pub fn digests(&self) -> Option<Digests> {
        match self {
            Self::Partly { .. } => None,
            Self::Whole { digests, .. } => Some(*digests),
        }
    }

    /// What the digests are if the file has so many bytes; `None` if others were seen.
    pub fn finish(&self, total: u64) -> Option<Digests> {
        match self {
            Self::Partly { newest, .. } => {
                (newest.at == total).then(|| Hashing::clone(newest).finish())
            }
            Self::Whole { bytes, digests, .. } => (*bytes == total).then_some(*digests),
        }
    }

    /// What was received survives a power cut from now on.
    pub fn harden(&mut self) {
        if let Self::Partly {
            newest,
            durable,
            expected: None,
            ..
        } = self
        {
            *durable = Some(newest.clone());
        }
    }

    /// The part has so many bytes, and perhaps once had others behind them: goes back to a state
    /// that has seen none of those.
    pub fn cut(&mut self, received: u64) {
        match self {
            Self::Partly {
                newest,
                durable,
                expected,
                ..
            } => {
                durable.take_if(|durable| durable.at > received);
                // It has seen what is gone.
                expected.take_if(|expected| expected.at > received);
                if newest.at > received {
                    *newest = (durable.clone()).unwrap_or_else(|| Box::new(newest.begin_anew()));
                }
            }
            Self::Whole { bytes, digests, .. } if *bytes > received => {
                if let Some(newest) = Hashing::begin(digests.algorithms()) {
                    *self = Self::of(newest);
                }
            }
            Self::Whole { .. } => {}
        }
    }
}

/// States as they stand in a record.
#[derive(Serialize, Deserialize)]
pub(super) struct Written {
    by: String,
    at: u64,
    sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha1: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    durable: Option<Box<Written>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expected: Option<Box<Written>>,
}

impl Written {
    /// `None` of digests that are known: there is no state any more.
    pub fn of(hashed: &Hashed) -> Option<Self> {
        let Hashed::Partly {
            newest,
            durable,
            expected,
            ..
        } = hashed
        else {
            return None;
        };
        let durable = durable.as_deref().filter(|durable| durable.at != newest.at);
        let boxed = |hashing: &Hashing| Box::new(Self::one(hashing));
        Some(Self {
            durable: durable.map(boxed),
            expected: expected.as_deref().map(boxed),
            ..Self::one(newest)
        })
    }

    fn one(hashing: &Hashing) -> Self {
        Self {
            by: MAKER.to_owned(),
            at: hashing.at,
            sha256: STANDARD.encode(hashing.sha256.serialize()),
            sha1: (hashing.sha1.as_ref()).map(|sha1| STANDARD.encode(sha1.serialize())),
            durable: None,
            expected: None,
        }
    }

    /// What it says; one that cannot be read has seen nothing, and so everything is read again.
    pub fn read(&self) -> Option<Hashed> {
        let algorithms = match self.sha1 {
            None => Algorithms::Sha256,
            Some(_) => Algorithms::Both,
        };
        Some(Hashed::Partly {
            newest: Box::new(self.hashing().or_else(|| Hashing::begin(algorithms))?),
            durable: (self.durable.as_ref()).and_then(|durable| durable.hashing().map(Box::new)),
            left: None,
            expected: (self.expected.as_ref()).and_then(|before| before.hashing().map(Box::new)),
        })
    }

    fn hashing(&self) -> Option<Hashing> {
        if self.by != MAKER {
            return None;
        }
        Some(Hashing {
            at: self.at,
            sha256: state(&self.sha256)?,
            sha1: match &self.sha1 {
                None => None,
                Some(text) => Some(state(text)?),
            },
        })
    }
}

fn state<S: SerializableState>(text: &str) -> Option<S> {
    let bytes = STANDARD.decode(text).ok()?;
    let bytes = <&SerializedState<S>>::try_from(&bytes[..]).ok()?;
    S::deserialize(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seen(bytes: &[u8]) -> Hashed {
        let mut hashed = *Hashed::begin(Algorithms::Both).unwrap();
        see(&mut hashed, bytes);
        hashed
    }

    fn see(hashed: &mut Hashed, bytes: &[u8]) {
        let Hashed::Partly { newest, .. } = hashed else {
            panic!("all was seen before");
        };
        newest.update(bytes);
    }

    fn written_and_read(hashed: &Hashed) -> Hashed {
        let text = serde_json::to_string(&Written::of(hashed).unwrap()).unwrap();
        let written: Written = serde_json::from_str(&text).unwrap();
        written.read().unwrap()
    }

    fn expected(bytes: &[u8]) -> Option<Digests> {
        Some(Digests {
            sha256: Sha256::digest(bytes).into(),
            sha1: Some(Sha1::digest(bytes).into()),
        })
    }

    proptest! {
        #[test]
        fn a_state_goes_on_where_it_was_written(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            at in any::<proptest::sample::Index>(),
        ) {
            let (first, rest) = bytes.split_at(at.index(bytes.len() + 1));
            let before = seen(first);
            let mut hashed = written_and_read(&before);
            prop_assert_eq!(&hashed, &before);
            see(&mut hashed, rest);
            prop_assert_eq!(hashed.finish(bytes.len() as u64), expected(&bytes));
        }
    }

    #[test]
    fn a_state_of_another_maker_has_seen_nothing() {
        let mut written = Written::of(&seen(b"abc")).unwrap();
        written.by = "sha2-0.12 1".to_owned();
        let mut hashed = written.read().unwrap();
        assert_eq!(hashed.at(), 0);
        see(&mut hashed, b"abc");
        assert_eq!(hashed.finish(3), expected(b"abc"));
        let mut written = Written::of(&seen(b"abc")).unwrap();
        written.sha256.pop();
        assert_eq!(written.read().unwrap().at(), 0);
    }

    #[test]
    fn a_part_that_was_cut_has_the_state_of_what_is_left() {
        let mut hashed = seen(b"ab");
        hashed.harden();
        see(&mut hashed, b"cd");
        let hashed = written_and_read(&hashed);
        for (received, at) in [(5, 4), (4, 4), (3, 2), (2, 2), (1, 0)] {
            let mut cut = hashed.clone();
            cut.cut(received);
            assert_eq!(cut.at(), at, "{received}");
            see(&mut cut, &b"abcdef"[usize::try_from(at).unwrap()..]);
            assert_eq!(cut.finish(6), expected(b"abcdef"));
        }
        let mut whole = Hashed::Whole {
            bytes: 4,
            digests: hashed.finish(4).unwrap(),
            sent: None,
            left: None,
        };
        whole.cut(4);
        assert_eq!(whole.digests(), expected(b"abcd"));
        whole.cut(3);
        assert_eq!((whole.digests(), whole.at()), (None, 0));
        see(&mut whole, b"abcd");
        assert_eq!(whole.finish(4), expected(b"abcd"));
    }

    #[test]
    fn what_is_seen_anew_must_be_what_was_seen_before_over_a_restart_too() {
        let doubtful = || {
            let mut hashed = seen(b"abcd");
            hashed.harden();
            hashed.begin_anew();
            see(&mut hashed, b"a");
            let mut hashed = written_and_read(&hashed);
            assert_eq!((hashed.at(), hashed.expected_at()), (1, Some(4)));
            // Somebody changes it once more: the first state counts.
            hashed.begin_anew();
            assert!(hashed.compare_with_expected());
            hashed
        };
        let mut same = doubtful();
        see(&mut same, b"abcd");
        assert!(same.compare_with_expected());
        assert_eq!(same, seen(b"abcd"));
        let mut other = doubtful();
        for _ in 0..2 {
            see(&mut other, b"abXd");
            assert!(!other.compare_with_expected());
            assert_eq!((other.at(), other.expected_at()), (0, Some(4)));
        }
        // What was seen of bytes that are gone says nothing, and nobody takes it for what is there.
        let mut cut = doubtful();
        cut.harden();
        cut.cut(2);
        assert_eq!((cut.at(), cut.expected_at()), (0, None));
    }

    #[test]
    fn nothing_is_said_of_bytes_that_were_not_seen() {
        assert_eq!(seen(b"ab").finish(3), None);
        assert!(Hashed::begin(Algorithms::None).is_none());
    }
}
