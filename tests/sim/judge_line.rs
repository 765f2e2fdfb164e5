//! The part of the judge that looks at the custody ledger: invariant 19.

use bitsd::bits::session::Ending;
use bitsd::bits::session_id::SessionId;
use bitsd::config::Durability;
use bitsd::custody::entry::LedgerEntry;
use bitsd::http::digest::Algorithms;
use sha2::{Digest as _, Sha256};

use crate::disk::SimDisk;
use crate::judge::Judge;
use crate::ledger::Ledger;

impl Judge {
    /// A line is about to be written: what it says of a file is so, and will be after a power cut.
    pub fn check_line(&mut self, entry: &LedgerEntry, disk: &SimDisk) {
        let id = entry.session;
        let Some(session) = self.sessions.get(&id) else {
            return self.fail(format!("19: a line for {id}, which was never made"));
        };
        let (path, excuse) = (session.path.clone(), session.excuse);
        let upload = &self.uploads[session.upload];
        let whole = upload.bytes(0, upload.size);
        if entry.ending != Ending::Published || excuse.is_some() || self.is_void(&path) {
            return;
        }
        let is_computed = self.config.global().policy.digest != Algorithms::None;
        let sha256 = entry.digests.map(|digests| digests.sha256);
        let expected = is_computed.then(|| Sha256::digest(&whole).into());
        if (entry.bytes, sha256) != (upload.size, expected) || entry.path != path {
            return self.fail(format!("19: the line of {id} says {entry:?}"));
        }
        if self.is_stored(&path) {
            return self.check_object(id, entry.object.as_ref());
        }
        // Another one may have replaced it meanwhile.
        let is_whole = |found: Option<&[u8]>| match self.is_shared(&path) {
            true => found.is_some(),
            false => found == Some(&whole),
        };
        let is_synced = self.config.global().policy.durability != Durability::None;
        if !is_whole(disk.destination(&path)) {
            self.fail(format!("19: a line for {path}, which is not there"));
        } else if is_synced
            && !disk.commits_in_order()
            && !is_whole(disk.durable_destination(&path))
            && !self.is_named_anew(&path, id)
        {
            self.fail(format!(
                "19: a line for {path}, which a power cut may take back"
            ));
        }
    }

    /// Whether another upload has taken the place of this one's file, has lost the name with a sync
    /// of the folder, and is given it anew until that survives a power cut.
    pub(crate) fn is_named_anew(&self, path: &str, id: SessionId) -> bool {
        (self.sessions.iter()).any(|(other, session)| {
            *other != id && session.path == path && session.has_lost_name && !session.is_closed
        })
    }

    /// Where the disk commits in order, a line that is durable has made the name durable that was
    /// given before it.
    pub fn check_durable_line(&mut self, entry: &LedgerEntry, disk: &SimDisk) {
        let path = entry.path.clone();
        let is_known = (self.sessions.get(&entry.session)).is_some_and(|it| it.excuse.is_none());
        let is_one_of_many = self.is_void(&path) || self.is_shared(&path);
        if entry.ending == Ending::Published
            && is_known
            && !is_one_of_many
            && disk.destination(&path).is_some()
            && disk.durable_destination(&path).is_none()
        {
            self.fail(format!(
                "19: a durable line for {path}, which a power cut may take back"
            ));
        }
    }

    /// Close was acked: the line is there, and stays.
    pub fn heard_closed_with_line(&mut self, id: SessionId, ledger: &Ledger) {
        if !self.keeps_custody || self.sessions.get(&id).is_none_or(|it| it.excuse.is_some()) {
            return;
        }
        if self.has_later_line(id) {
            return;
        }
        let is_whole = self.sessions[&id].is_sealed;
        let (is_there, is_synced) = ledger.has(id);
        let is_durable = self.config.global().policy.durability != Durability::None;
        if is_whole && (!is_there || is_durable && !is_synced) {
            self.fail(format!(
                "19: {id} is closed without a line (there: {is_there})"
            ));
        }
    }

    /// The server ended somehow: each upload that was closed has its line.
    pub fn check_lines(&mut self, ledger: &Ledger, when: &str) {
        if !self.keeps_custody {
            return;
        }
        let promised = self.sessions.iter().filter(|(_, session)| {
            session.is_closed && session.is_sealed && session.excuse.is_none()
        });
        let mut promised = promised.map(|(id, _)| *id);
        let missing = promised.find(|id| !self.has_later_line(*id) && !ledger.has(*id).0);
        if let Some(id) = missing {
            self.fail(format!("19: the line of {id} is gone {when}"));
        }
    }

    /// What is wrong with the chain itself.
    pub fn check_chain(&mut self, checked: Result<(), String>) {
        if let Err(why) = checked {
            self.fail(format!("19: {why}"));
        }
    }
}
