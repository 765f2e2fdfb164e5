//! Create-Session, Close-Session, Cancel-Session: the packets that begin and end a session.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::carry_out::Heard;
use super::clients::{Client, Counted, Reached, SessionsMax};
use super::digest_file;
use super::exchange::{Cut, Exchange};
use super::floor::{Wire as _, World};
use super::held::Held;
use super::rules;
use super::session::{Session, is_open, shuts_out_ownerless};
use super::shard::Shard;
use crate::auth::certificate;
use crate::auth::policy::Principal;
use crate::bits::notification;
use crate::bits::packet::SessionRequest;
use crate::bits::reply::{Ack, Node, Refusal};
use crate::bits::session::{Decision, Ending, Goodbye, State, Step};
use crate::bits::session_id::SessionId;
use crate::config::Location;
use crate::custody::entry::ShownCertificate;
use crate::diagnosis;
use crate::event::Event;
use crate::http::path::{BadTarget, Target, UploadPath};
use crate::vault::destination;
use crate::vault::disk::Shelf;
use crate::vault::error::StoreError;
use crate::vault::keep::Keep;
use crate::vault::record::Life;

impl<W: World> Exchange<W> {
    /// Makes a session for this shard, unless something refuses the upload. `agent` is what the
    /// client calls itself.
    pub(super) async fn create(&mut self, target: Target, agent: Option<Arc<str>>) -> Heard {
        let shard = &self.shard;
        let location = shard.location(&target.path);
        let user = self.principal.as_ref();
        let user = user.map(|principal| Arc::clone(&principal.user));
        let shelf = self.shelf_for(&location, &target, user.as_deref()).await?;
        let counted = self.count_session(&location, user.clone())?;
        let path = target.path;
        let address = self.address();
        let life = Life {
            agent,
            user,
            proof: (self.principal.as_ref()).map(|principal| principal.scheme),
            certificate: self.shown_certificate(),
            ..Life::default()
        };
        let digest = location.policy.digest;
        let id = SessionId::mint(shard.world.random(), shard.index, shard.count);
        let made = Keep::create(&shard.store, id, shelf, &path, address, life, digest).await;
        let (keep, file) = made.map_err(|error| report(shard, Some(id), &error))?;
        let session = Session::new(shard.world.now(), path, keep, 0, counted);
        shard.enter(Rc::clone(&session));
        shard.world.emit(Event::SessionCreated {
            session: id,
            path: session.path.as_str(),
            peer: self.connection.client(),
            series: location.series,
        });
        let entered = Held::enter(shard, &session, &self.connection, target.sent).await;
        if let Ok(mut held) = entered {
            held.set_file(file);
        }
        let node = location.host.as_ref().map(|host| Node {
            host: host.id.as_str().into(),
            fallback_s: host.fallback_timeout.as_secs(),
        });
        Ok(Ack::Created { session: id, node })
    }

    /// The shelf for the part of an upload that may begin. Whatever can refuse it is asked now,
    /// before anything is made and before data flows; how many sessions there are, behind that.
    ///
    /// # Errors
    /// What the client hears.
    async fn shelf_for(
        &self,
        location: &Location,
        target: &Target,
        user: Option<&str>,
    ) -> Result<Shelf, Refusal> {
        let shard = &self.shard;
        if shard.is_over() {
            return Err(Refusal::Unavailable);
        }
        if let Some(scarce) = shard.lacks() {
            return Err(Refusal::Busy(scarce));
        }
        let place = destination::place(location, &target.path, user)?;
        // Each folder costs a look, at Create and at Close, and an inode where it is made.
        if place.path.depth() > shard.limits().path_depth_max {
            return Err(Refusal::TargetInvalid(BadTarget::TooDeep));
        }
        if !can_be_notified_of(location, &target.path, target.sent.query()) {
            return Err(Refusal::TargetInvalid(BadTarget::NotificationTooLong));
        }
        let shelf = destination::shelf(&*shard.world, location, &place);
        // Uploads that run go on with what is left. Their records need some too, wherever their
        // files are.
        let is_low = |shelf| shard.world.space(shelf).is_low();
        if is_low(shelf) || is_low(Shelf::WORK) {
            return Err(Refusal::SpaceLow);
        }
        if let Some(errno) = shard.world.space(shelf).lost(shard.world.now()) {
            return Err(diagnosis::while_uploads_are_lost(errno));
        }
        if shard.owes_too_much(location, self.address()) {
            return Err(Refusal::EventsOwed);
        }
        if let Some(refusal) = shard.world.ledger_refuses() {
            return Err(refusal);
        }
        match &location.objects {
            Some(objects) => shard.check_store(location, objects, &place)?,
            None => {
                let looked_at =
                    destination::check_destination(&*shard.world, &location.policy, &place).await;
                looked_at.map_err(|error| report(shard, None, &error))??;
                let looked_at = digest_file::check(&*shard.world, location, &place).await;
                looked_at.map_err(|error| report(shard, None, &error))??;
            }
        }
        Ok(shelf)
    }

    /// Counts one session more of this client and user, unless one of them has as many as it may.
    fn count_session(
        &self,
        location: &Location,
        user: Option<Arc<str>>,
    ) -> Result<Counted, Refusal> {
        // Counted also where nothing bounds it: after a reload something may.
        let client = Client::new(&location.prefix, self.address());
        let bounds = SessionsMax {
            of_client: location.sessions_per_client_max.unwrap_or(u32::MAX),
            of_user: location.sessions_per_user_max.unwrap_or(u32::MAX),
        };
        // Transient, as the cause is: one of the client's other sessions ends, or expires. 403
        // would end the job.
        let counted = self.shard.common.clients.admit(client, user, bounds);
        counted.map_err(|full| match full {
            Reached::OfClient => Refusal::TooManySessions,
            Reached::OfUser => Refusal::TooManyOfUser,
        })
    }

    /// The client's, as it is kept with a session.
    fn address(&self) -> IpAddr {
        self.connection.client().ip().to_canonical()
    }

    /// What was made when nobody was asked is there for all who may upload, until the first of them
    /// goes on with it: then it is that one's. Somebody else may have come in between.
    ///
    /// # Errors
    /// [`Refusal::SessionNotFound`]
    pub(super) async fn claim(&self, held: &mut Held<W>) -> Result<(), Refusal> {
        let location = held.location();
        if !(held.session()).is_open_to(&location.access, self.principal.as_ref()) {
            return Err(Refusal::SessionNotFound);
        }
        if let Some(principal) = &self.principal
            && held.session().is_for_the_taking()
        {
            held.give_to(principal).await;
        }
        Ok(())
    }

    /// What the ledger tells of the certificate that the client has shown, if it has.
    fn shown_certificate(&self) -> Option<Arc<ShownCertificate>> {
        if !self.shard.world.keeps_custody() {
            return None;
        }
        let certificate = self.connection.wire.certificate()?;
        Some(Arc::new(ShownCertificate {
            subject: certificate::subject_of(&certificate),
            sha256: certificate::fingerprint(&certificate),
        }))
    }

    /// Closes a session (publishes a whole file, discards an incomplete one), or cancels it (a file
    /// that was published stays).
    ///
    /// # Errors
    /// [`Cut`] if a newer connection came for the session meanwhile.
    pub(super) async fn end(&mut self, request: SessionRequest, how: Step) -> Result<Heard, Cut> {
        let shard = &self.shard;
        let session = match find(shard, &request, self.principal.as_ref()) {
            Some(Addressee::Session(session)) => session,
            Some(Addressee::Ended(id, ending)) => {
                return Ok(repeat(shard, &request, id, ending, how));
            }
            Some(Addressee::Left) => return Ok(Err(Refusal::DiskAway)),
            None => return Ok(Err(Refusal::SessionNotFound)),
        };
        let entered = Held::enter(shard, &session, &self.connection, request.target.sent).await;
        let mut held = entered.map_err(|_| Cut)?;
        if let Err(refusal) = self.claim(&mut held).await {
            return Ok(Err(refusal));
        }
        loop {
            let reply = held.answer(how).await;
            // An empty file, or one whose seal failed before, is sealed first and closed then.
            if !matches!(reply, Ok(Ack::Fragment { .. })) {
                return Ok(reply);
            }
        }
    }
}

/// Whether the notification URL of an upload can be made, where one is needed. Known only behind
/// the last byte, it would be too late: the client would send the file for nothing.
fn can_be_notified_of(location: &Location, path: &UploadPath, query: Option<&str>) -> bool {
    let Some(settings) = &location.notification else {
        return true;
    };
    let public_url = location.public_url.as_deref();
    notification::notification_url(&settings.url, public_url, path, query).is_ok()
}

/// What a packet is addressed to.
pub enum Addressee<W: World> {
    /// A session.
    Session(Rc<Session<W>>),
    /// One that ended, and how.
    Ended(SessionId, Ending),
    /// One that waits for its disk, and for the next start.
    Left,
}

/// The session of a request. A session is bound to its path: under another one it does not exist
/// (protocol.md 7.2). Nor does it for another user than the one who made it.
pub fn find<W: World>(
    shard: &Shard<W>,
    request: &SessionRequest,
    principal: Option<&Principal>,
) -> Option<Addressee<W>> {
    let id = request.session?;
    let path = &request.target.path;
    let location = shard.location(path);
    let access = &location.access;
    if let Some(session) = shard.session(id) {
        let is_named = session.path == *path && session.is_open_to(access, principal);
        return is_named.then_some(Addressee::Session(session));
    }
    if let Some(kept) = shard.store.journal.left(id) {
        let record = kept.record();
        let owner = record.life.user.as_deref();
        let is_named = record.path == *path && is_open(access, owner, principal);
        return is_named.then_some(Addressee::Left);
    }
    let user = principal.map(|principal| &*principal.user);
    let tombstones = shard.store.journal.tombstones();
    let ending = tombstones.ending(id, path, user, !shuts_out_ownerless(access))?;
    Some(Addressee::Ended(id, ending))
}

/// Answers a packet about a session that ended: no file is touched.
fn repeat<W: World>(
    shard: &Shard<W>,
    request: &SessionRequest,
    session: SessionId,
    ending: Ending,
    event: Step,
) -> Heard {
    let rules = rules::rules(&shard.location(&request.target.path));
    match State::Gone(ending).on(event, &rules).1 {
        Decision::Say(Goodbye::Closed) => Ok(Ack::Closed {
            session,
            sha256: shard.store.journal.tombstones().sha256(session),
        }),
        Decision::Say(Goodbye::Denied) => Err(Refusal::denied(None)),
        Decision::Say(Goodbye::Cancelled) => Ok(Ack::Cancelled { session }),
        Decision::Refuse(refusal) => Err(refusal),
        _ => Err(Refusal::SessionNotFound),
    }
}

fn report<W: World>(shard: &Shard<W>, session: Option<SessionId>, error: &StoreError) -> Refusal {
    shard.world.emit(Event::DiskFailed {
        op: error.op,
        session,
        error: &error.source,
    });
    error.refusal()
}
