//! The part of the judge that looks at events: invariant 18.

use bitsd::bits::session::Ending;
use bitsd::server::floor::CloudEvent;
use bitsd::vault::owed::{EventTarget, EventTargets};

use crate::disk::SimDisk;
use crate::judge::Judge;

/// What is known of the file of a session, and of who has heard of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outside {
    /// It got its name, and that was not taken back by us.
    pub(crate) is_published: bool,
    /// It had its name once. If a power cut takes that away, it may come back.
    pub(crate) was_published: bool,
    /// The targets that have heard so.
    pub(crate) told: EventTargets,
}

impl Judge {
    /// A target of events hears of a session. Whether it has heard the same before.
    pub fn heard_outside(&mut self, target: EventTarget, event: &CloudEvent) -> bool {
        let id = event.session;
        let Some(session) = self.sessions.get_mut(&id) else {
            // One that was killed before it could say that it had made it.
            if event.ending == Ending::Published {
                self.fail(format!("18: {} tells of nothing", event.id()));
            }
            return false;
        };
        let has_excuse = session.excuse.is_some();
        if event.path != session.path {
            let path = session.path.clone();
            self.fail(format!("18: {id} goes to {path}, not to {}", event.path));
            return false;
        }
        if event.ending != Ending::Published {
            // Not all of its bytes may have come; but if it has a digest, they have.
            let told = event.digests.as_ref().map(|digests| digests.sha256);
            self.check_digest(id, told, false);
            return false;
        }
        let is_whole = !has_excuse;
        let is_again = session.outside.told.has(target);
        session.outside.told = session.outside.told.with(target);
        let (is_published, upload) = (session.outside.is_published, session.upload);
        if !is_published && !has_excuse {
            self.fail(format!("18: {id} is told, and has no file"));
        } else if event.bytes != self.uploads[upload].size && !has_excuse {
            self.fail(format!("18: {id} is told with {} bytes", event.bytes));
        } else {
            let told = event.digests.as_ref().map(|digests| digests.sha256);
            self.check_digest(id, told, !has_excuse);
        }
        if is_whole {
            self.check_object(id, event.object.as_ref());
        }
        is_again
    }

    /// The power was cut: a file of which nobody was told may have lost its name. Where others have
    /// the same destination, one of theirs may have replaced it before.
    pub(crate) fn unname(&mut self, disk: &SimDisk) {
        for session in self.sessions.values_mut() {
            let upload = &self.uploads[session.upload];
            let whole = upload.bytes(0, upload.size);
            let there = self.uploads.iter().filter(|it| it.path == session.path);
            let is_alone = there.count() == 1;
            let is_stored = self.config.location(&session.path).objects.is_some();
            let is_gone = !is_stored && disk.destination(&session.path) != Some(&whole);
            if is_gone && is_alone && !session.is_closed {
                session.outside.is_published = false;
            }
        }
    }

    /// The end: whoever was to hear of a file has.
    pub fn check_outside(&mut self, targets: EventTargets, disk: &SimDisk) {
        let mut wrong = Vec::new();
        for (id, session) in &self.sessions {
            let upload = &self.uploads[session.upload];
            let whole = upload.bytes(0, upload.size);
            let is_alone = self.is_alone(session.upload);
            // One of which no Ack was heard counts if it stands there for sure.
            let stands = is_alone && disk.destination(&session.path) == Some(&whole);
            let is_owed = session.outside.is_published && (session.is_closed || stands);
            let is_told = targets.without(session.outside.told).is_empty();
            if is_owed && !is_told && session.excuse.is_none() {
                wrong.push(format!("18: nobody was told of {} of {id}", session.path));
            }
        }
        wrong.into_iter().for_each(|wrong| self.fail(wrong));
    }
}
