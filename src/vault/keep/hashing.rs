//! How far the digests of an upload have come, beside its bytes.

use std::ops::Range;

use super::Keep;
use crate::http::digest::Digests;
use crate::vault::disk::PartStamp;
use crate::vault::hashing::{Hashed, Hashing};

impl Keep {
    /// The state that sees the bytes at the watermark next; `None` if nothing is computed.
    pub fn hashing(&self) -> Option<Hashing> {
        let newest = self.kept.with_hashed(|hashed| match hashed {
            Hashed::Partly { newest, .. } => Some(Hashing::clone(newest)),
            Hashed::Whole { .. } => None,
        });
        newest.flatten()
    }

    /// It has seen what was stored meanwhile.
    pub fn set_hashing(&self, seen: Hashing) {
        self.kept.with_hashed(|hashed| {
            if let Hashed::Partly { newest, .. } = hashed {
                **newest = seen;
            }
        });
    }

    /// The stored bytes that were not seen: those after the newest record, when the server was
    /// killed.
    pub fn unhashed(&self) -> Option<Range<u64>> {
        let received = self.state().received();
        self.hashed_at()
            .filter(|at| *at < received)
            .map(|at| at..received)
    }

    /// How the part was left, if all of it was seen then.
    pub fn left(&self) -> Option<PartStamp> {
        self.kept.with_hashed(|hashed| hashed.left()).flatten()
    }

    /// That is how the part is left; the next record says it.
    pub fn set_left(&self, stamp: Option<PartStamp>) {
        self.kept.with_hashed(|hashed| hashed.set_left(stamp));
    }

    /// What stands in the part is not what was seen, or may not be: all of it is seen anew.
    pub fn hash_anew(&self) {
        self.kept.with_hashed(Hashed::begin_anew);
    }

    /// Up to where what is seen anew is to be what was seen before.
    pub fn expected_at(&self) -> Option<u64> {
        self.kept
            .with_hashed(|hashed| hashed.expected_at())
            .flatten()
    }

    /// See [`Hashed::compare_with_expected`].
    pub fn is_as_expected(&self) -> bool {
        self.kept
            .with_hashed(Hashed::compare_with_expected)
            .is_none_or(|is_same| is_same)
    }

    /// An application has changed the whole file: that is its digest from now on.
    pub fn adopt_digests(&self, now: Digests) {
        self.kept.with_hashed(|hashed| {
            if let Hashed::Whole { digests, sent, .. } = hashed {
                let before = std::mem::replace(digests, now);
                sent.get_or_insert(before.sha256);
            }
        });
    }

    /// The SHA-256 of what came, where the file is another one by now.
    pub fn changed_from(&self) -> Option<[u8; 32]> {
        self.kept.with_hashed(|hashed| hashed.sent()).flatten()
    }

    /// The SHA-256 of what came, once all of it has.
    pub fn sent(&self) -> Option<[u8; 32]> {
        let sha256 = || self.digests().map(|digests| digests.sha256);
        self.changed_from().or_else(sha256)
    }

    /// Whether so many bytes were seen since a record said how far it is.
    pub fn is_hashing_due(&self, step_bytes: u64) -> bool {
        self.hashed_at()
            .is_some_and(|at| at.saturating_sub(self.hashed_written) >= step_bytes)
    }

    /// Whether a restart would not know how the part was left.
    pub fn is_left_due(&self) -> bool {
        let left = self.left();
        left.is_some() && left != self.left_written
    }

    /// The digests of the whole file, if they are known.
    pub fn digests(&self) -> Option<Digests> {
        self.record().digests()
    }

    /// Whether there are, or will be, digests of the file.
    pub fn has_digests(&self) -> bool {
        self.hashed_at().is_some()
    }

    pub(super) fn hashed_at(&self) -> Option<u64> {
        self.kept.with_hashed(|hashed| hashed.at())
    }

    /// Those of a file of so many bytes, all of which were seen.
    pub(super) fn finish_hashing(&self, total: u64) -> Option<Digests> {
        let digests = self.kept.with_hashed(|hashed| hashed.finish(total));
        // Were it otherwise, a file without digests is better than a shard that ends.
        debug_assert!(
            digests.is_none_or(|digests| digests.is_some()),
            "what was not seen is read before the seal"
        );
        digests.flatten()
    }
}
