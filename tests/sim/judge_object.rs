//! The part of the judge that looks at objects: invariant 20.

use bitsd::bits::session_id::SessionId;
use bitsd::config::StoreAck;
use bitsd::custody::object::StoredObject;
use bitsd::http::digest::Hex;
use bitsd::objects::bucket::Object;
use bitsd::vault::names;
use sha2::{Digest as _, Sha256};

use crate::disk::SimDisk;
use crate::judge::Judge;
use crate::ledger::Ledger;
use crate::plan::Plan;
use crate::store::{SimStore, StorePlan, Stored};

/// What is known of objects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    plan: Option<StorePlan>,
    /// Of each session, what its object was called each time it was there.
    versions: Vec<(SessionId, String)>,
    /// Keys under which an object has stood that was ours.
    keys: Vec<String>,
}

impl Objects {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            plan: plan.store.clone(),
            ..Self::default()
        }
    }

    fn has(&self, id: SessionId) -> bool {
        self.versions.iter().any(|(session, _)| *session == id)
    }
}

/// How the names of digest files end.
const DIGEST_ENDING: &str = ".sha256";

impl Judge {
    /// Whether the files of a path go into a store.
    pub(crate) fn is_stored(&self, path: &str) -> bool {
        self.config.location(path).objects.is_some()
    }

    /// An object is there, of these bytes; `replaced` is the mark of the one that it replaces.
    pub fn stored(
        &mut self,
        object: &Object,
        content: &[u8],
        version: &str,
        replaced: Option<&str>,
        is_late: bool,
    ) {
        let key = &object.key;
        if key.ends_with(DIGEST_ENDING) {
            return;
        }
        let has_record_sync_failed = self.has_record_sync_failed;
        let id = SessionId::parse(object.session.as_bytes());
        let Some((id, session)) = id.and_then(|id| Some((id, self.sessions.get_mut(&id)?))) else {
            return self.fail(format!("20: {key} is an object of nobody"));
        };
        let has_excuse = session.excuse.is_some();
        let answered = session.close_answered.filter(|_| !is_late);
        let is_asked = session.closing_since.is_some();
        let may_be_back = session.may_be_back(has_record_sync_failed);
        let is_over = session.is_cancelled && !is_late && !may_be_back;
        let is_other = *key != session.path;
        session.outside.is_published = true;
        let upload = &self.uploads[session.upload];
        let whole = upload.bytes(0, upload.size);
        let sha256: [u8; 32] = Sha256::digest(&whole).into();
        let keeps_condition = self
            .objects
            .plan
            .as_ref()
            .is_some_and(StorePlan::keeps_condition);
        let replaces = replaced.is_some_and(|other| other != object.session);
        let may_replace = self.config.global().policy.allow_overwrite;
        // Of one whose Close was asked for when nobody asked for this one's any more, and acked.
        let newer = replaced
            .and_then(|other| SessionId::parse(other.as_bytes()))
            .filter(|other| *other != id)
            .and_then(|other| self.sessions.get(&other))
            .filter(|other| other.is_closed && other.closing_since > answered);
        let wrong = if answered.is_some() && newer.is_some() {
            "replaces a newer one"
        } else if is_other {
            "is not what its client asked for"
        } else if !is_asked {
            "appears before Close"
        } else if is_over {
            "appears after Cancel"
        } else if content != whole && !has_excuse {
            "is not whole"
        } else if object.sha256.is_some_and(|told| told != sha256) && !has_excuse {
            "bears the digest of something else"
        } else if replaces && keeps_condition && !may_replace {
            "was not to be overwritten"
        } else {
            self.objects.versions.push((id, version.to_owned()));
            self.objects.keys.push(key.clone());
            return;
        };
        self.fail(format!("20: the object {key} of {id} {wrong}"));
    }

    /// The server removes an object.
    pub fn removed_object(&mut self, key: &str, stored: &Stored) {
        let is_ours = key.ends_with(DIGEST_ENDING) || crate::store::is_probe(key);
        if !is_ours {
            self.fail(format!("20: {key} of {} is removed", stored.session));
        }
    }

    /// Whether an object may be in the way of another one.
    pub(crate) fn may_be_taken(&self, path: &str) -> bool {
        let is_old = self.places_old(path);
        is_old || self.objects.keys.iter().any(|key| key == path)
    }

    /// Whether a session whose Close was acked has what that promised: its object was there, or
    /// will be, where its file is safe here until then.
    pub(crate) fn has_object(&self, id: SessionId, disk: &SimDisk) -> bool {
        if self.objects.has(id) {
            return true;
        }
        let ack = self.objects.plan.as_ref().map(|plan| plan.settings.ack);
        let session = &self.sessions[&id];
        let upload = &self.uploads[session.upload];
        let whole = upload.bytes(0, upload.size);
        ack == Some(StoreAck::Staged)
            && disk.durable_work(&names::part_name(id)) == Some(&whole[..])
    }

    /// Whether a file gets its line when the store has it, and not before its Close is acked.
    pub(crate) fn has_later_line(&self, id: SessionId) -> bool {
        let ack = self.objects.plan.as_ref().map(|plan| plan.settings.ack);
        ack == Some(StoreAck::Staged) && self.is_stored(&self.sessions[&id].path)
    }

    /// What a line or an event calls the object of a session.
    pub(crate) fn check_object(&mut self, id: SessionId, told: Option<&StoredObject>) {
        let path = self.sessions[&id].path.clone();
        if !self.is_stored(&path) {
            return;
        }
        let versions = &self.objects.versions;
        let is_one = |version: &str| versions.contains(&(id, version.to_owned()));
        let is_right = match told {
            Some(object) => {
                let version = object.version.as_deref();
                object.bucket == "b" && object.key == path && version.is_none_or(is_one)
            }
            None => false,
        };
        if !is_right {
            self.fail(format!("20: {id} is told as {told:?}, of {path}"));
        }
    }

    /// The end: what was acked is there, once, and nothing else is.
    pub fn check_store(&mut self, store: &SimStore, disk: &SimDisk, ledger: &Ledger) {
        let Some(plan) = self.objects.plan.clone() else {
            return;
        };
        let mut wrong = Vec::new();
        for (id, session) in &self.sessions {
            let is_promised = session.is_closed && session.is_sealed && self.copies != Some(false);
            if !is_promised || session.excuse.is_some() || !self.is_stored(&session.path) {
                continue;
            }
            if !self.objects.has(*id) {
                wrong.push(format!("20: {} of {id} was never there", session.path));
            } else if store.object(&session.path).is_none() && !plan.is_emptied {
                wrong.push(format!("20: {} of {id} is gone", session.path));
            } else if self.keeps_custody && !ledger.has(*id).0 {
                wrong.push(format!("20: {} of {id} has no line", session.path));
            }
        }
        for upload in store.known_uploads() {
            wrong.push(format!("20: the upload {upload} is left behind"));
        }
        if let Some((path, _)) = disk.tree().find(|(path, _)| self.is_stored(path)) {
            wrong.push(format!("20: {path} stands here"));
        }
        wrong.extend(self.wrong_digest_file(&plan, store));
        wrong.into_iter().for_each(|wrong| self.fail(wrong));
    }

    /// Where nothing came too late, and nobody has given up half-way, the digest file is that of
    /// the object which stands there.
    fn wrong_digest_file(&self, plan: &StorePlan, store: &SimStore) -> Option<String> {
        if plan.stale > 0 {
            return None;
        }
        let mut objects = store
            .objects()
            .filter(|(key, _)| !key.ends_with(DIGEST_ENDING));
        objects.find_map(|(key, stored)| {
            let beside = format!("{key}{DIGEST_ENDING}");
            let is_late = [key, &beside].iter().any(|key| store.late.contains(*key));
            let location = self.config.location(key);
            let mut sessions = self.sessions.values().filter(|it| it.path == **key);
            let all_closed = sessions.all(|it| it.is_closed && it.excuse.is_none());
            let id = SessionId::parse(stored.session.as_bytes());
            if is_late || !location.policy.digest_file || !all_closed || id.is_none() {
                return None;
            }
            let sha256 = Hex(&Sha256::digest(&stored.content)).to_string();
            let text = store.object(&beside).map(|it| it.content.clone());
            let is_right = text.is_some_and(|text| text.starts_with(sha256.as_bytes()));
            (!is_right).then(|| format!("20: {beside} is not that of its object"))
        })
    }
}
