//! The part of the judge that looks at digests: invariant 17.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bitsd::bits::session_id::SessionId;
use bitsd::config::Durability;
use bitsd::http::digest::Algorithms;
use sha2::{Digest as _, Sha256};

use crate::judge::{Judge, Session};

impl Judge {
    /// The Ack of all bytes was heard, or that of a file that was closed, with or without a digest.
    pub fn heard_digest(&mut self, id: SessionId, told: Option<&str>, is_final: bool) {
        let Some(session) = self.sessions.get(&id) else {
            return;
        };
        let upload = &self.uploads[session.upload];
        let sha256 = Sha256::digest(upload.bytes(0, upload.size));
        let expected = format!("sha-256=:{}:", STANDARD.encode(sha256));
        if self.may_hold_anything(session) {
            return;
        }
        let is_computed = self.config.global().policy.digest != Algorithms::None;
        match told {
            Some(told) if !is_computed || told != expected => {
                self.fail(format!("17: {id} is acked with the wrong digest {told}"));
            }
            None if is_computed && is_final => {
                self.fail(format!("17: {id} is acked without its digest"));
            }
            _ => {}
        }
    }

    /// Where nothing is ever synced, nobody knows what a power cut has left of a file; nor where a
    /// sync failed, and the server was killed before it could write that down.
    fn may_hold_anything(&self, session: &Session) -> bool {
        let durability = self.config.global().policy.durability;
        let is_unsynced = durability == Durability::None || session.sync_failed.is_some();
        is_unsynced && session.has_power_been_cut
    }

    /// A session ended with this digest.
    pub fn check_digest(&mut self, id: SessionId, told: Option<[u8; 32]>, is_published: bool) {
        let Some(session) = self.sessions.get(&id) else {
            return;
        };
        let upload = &self.uploads[session.upload];
        if self.may_hold_anything(session) {
            return;
        }
        let expected: [u8; 32] = Sha256::digest(upload.bytes(0, upload.size)).into();
        let is_computed = self.config.global().policy.digest != Algorithms::None;
        if told.is_some_and(|told| !is_computed || told != expected) {
            self.fail(format!("17: {id} ends with a wrong digest"));
        } else if is_published && is_computed && told.is_none() {
            self.fail(format!("17: {id} is published without its digest"));
        }
    }

    /// So much was read again for the digest of an upload. Where records can always be written, it
    /// is no more than what may come between two of them; or after a power cut, all of it.
    pub fn check_read_again(&mut self, id: SessionId, bytes: u64) {
        if (self.sessions.get(&id)).is_some_and(|session| session.has_power_been_cut) {
            return;
        }
        let limits = &self.config.limits;
        let at_once = (2 * limits.block_bytes).max(limits.head_bytes_max) as u64;
        let bytes_max = limits.digest_step_bytes.saturating_add(at_once);
        if !self.may_refuse_records && bytes > bytes_max {
            self.fail(format!(
                "17: {bytes} bytes are read again, {bytes_max} are allowed"
            ));
        }
    }
}
