//! A session as its shard has it in its table: whose it is, where it stands, and what only its
//! holder touches. What is done with it stands above, in [`super::held`].

use std::cell::{Cell, OnceCell, Ref, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use super::chronicle::Deliveries;
use super::clients::Counted;
use super::connection::ConnectionId;
use super::floor::World;
use super::pause::Pause;
use super::turnstile::Turnstile;
use crate::auth::policy::Principal;
use crate::bits::notification::Token;
use crate::bits::reply::Refusal;
use crate::bits::session::{Reply, State};
use crate::bits::session_id::SessionId;
use crate::config::{Access, Policy};
use crate::http::path::UploadPath;
use crate::metrics::shard::Gauged;
use crate::vault::disk::{Millis, PartStamp, Shelf, millis};
use crate::vault::hashing::Hashing;
use crate::vault::journal::Kept;
use crate::vault::keep::Keep;
use crate::vault::record::Record;
use crate::vault::space::Reservation;

/// One session of a shard.
pub struct Session<W: World> {
    /// What packets name it by.
    pub id: SessionId,
    /// Its destination; every packet must name it again.
    pub path: UploadPath,
    /// Where its files are.
    pub shelf: Shelf,
    /// Who may work on it.
    pub(super) turnstile: Rc<Turnstile>,
    /// What is known of it, where it stands included; only its holder changes that.
    kept: Rc<Kept>,
    /// Present unless somebody holds the session.
    work: RefCell<Option<Box<Work<W>>>>,
    /// When bytes last arrived (or the session was made).
    progress_ms: Cell<Millis>,
    /// How long before `progress_ms` that was: the clock begins with the machine, sessions outlive
    /// it.
    age_ms: Cell<u64>,
    /// When its shard looks next whether it has expired.
    deadline_ms: Cell<Millis>,
    /// The last client's address, if this server has seen one.
    peer: Cell<Option<SocketAddr>>,
    /// An earlier life of the server had sealed it.
    was_sealed: Cell<bool>,
    /// It had expired while somebody worked on it.
    is_overdue: Cell<bool>,
    /// As what it is counted.
    counted_as: Cell<Option<Gauged>>,
    /// The folder that its file is for, from when its shard knows it.
    folder: OnceCell<Rc<Deliveries>>,
}

/// What only the holder of the session touches.
pub(super) struct Work<W: World> {
    pub(super) keep: Keep,
    /// The open part, while a connection is attached.
    pub(super) file: Option<Rc<W::File>>,
    pub(super) attached: Option<ConnectionId>,
    /// What its client has offered so far.
    pub(super) offers: Offers,
    /// What is reserved for it, once something was.
    pub(super) reservation: Option<Box<Reservation>>,
    /// The part is being read, and whoever did that was stopped.
    pub(super) reading: Option<Box<Rereading>>,
    /// This life of the server has told an application of it.
    pub(super) was_told: bool,
    /// How long its application is left alone.
    pub(super) application_pause: Option<Box<Pause>>,
    /// How long the store is left alone with it.
    pub(super) store_pause: Option<Box<Pause>>,
    /// A task sees its way into an object store through.
    pub(super) is_followed: bool,
    /// It has claimed an object.
    pub(super) has_claim: bool,
    /// A store may have been told of it: by this life of the server, or by an earlier one.
    pub(super) is_given: bool,
    /// So many of its first bytes may go to an object store already, as others were told.
    pub(super) sent_ahead: u64,
    /// An administrator has asked for its end.
    pub(super) is_commanded: bool,
    /// What helps against the error of a disk that ends it.
    pub(super) remedy: Option<&'static str>,
    /// Its share of what its client may have; absent when its end was told.
    pub(super) counted: Option<Counted>,
}

/// What the client of an upload has offered in this life of the server.
#[derive(Debug, Default)]
pub(super) struct Offers {
    /// Something was, also before this life: whoever closes without a byte stored did not mean an
    /// empty file.
    pub(super) has_any: bool,
    /// Where the last fragment ended that was taken, or that came too early.
    pub(super) end: u64,
    /// When its client was last answered.
    pub(super) answered_ms: Millis,
    /// It was read back, and nothing of its body has come since.
    pub(super) is_restored: bool,
    /// An interruption was counted, and nothing was taken since: whoever asks by a fragment where
    /// to go on, and then goes on there, was interrupted once.
    pub(super) is_resuming: bool,
}

impl Offers {
    /// Of an upload that this server knows of from now on; `received` bytes of it are here, and
    /// others may have been offered.
    pub(super) fn new(received: u64, was_offered: bool, now: Millis) -> Self {
        Self {
            has_any: received > 0 || was_offered,
            end: received,
            answered_ms: now,
            is_restored: received > 0,
            is_resuming: false,
        }
    }
}

/// A part is being read again, and this far that has come.
pub(super) struct Rereading {
    /// How it stood when that was begun.
    pub(super) stamp: PartStamp,
    /// What has seen it; `None` where the record has that.
    pub(super) hashing: Option<Hashing>,
}

impl<W: World> Session<W> {
    /// A session whose files stand. `age_ms` is the time since its last progress.
    pub fn new(
        now: Millis,
        path: UploadPath,
        keep: Keep,
        age_ms: u64,
        counted: Counted,
    ) -> Rc<Self> {
        let received = keep.state().received();
        let was_offered = keep.record().life.was_offered;
        let (id, shelf, kept) = (keep.id(), keep.shelf(), Rc::clone(keep.kept()));
        let work = Work {
            keep,
            file: None,
            attached: None,
            offers: Offers::new(received, was_offered, now),
            reservation: None,
            reading: None,
            was_told: false,
            application_pause: None,
            store_pause: None,
            is_followed: false,
            has_claim: false,
            is_given: false,
            sent_ahead: 0,
            is_commanded: false,
            remedy: None,
            counted: Some(counted),
        };
        Rc::new(Self {
            id,
            path,
            shelf,
            turnstile: Turnstile::new(),
            kept,
            work: RefCell::new(Some(Box::new(work))),
            progress_ms: Cell::new(now),
            age_ms: Cell::new(age_ms),
            deadline_ms: Cell::new(0),
            peer: Cell::new(None),
            was_sealed: Cell::new(false),
            is_overdue: Cell::new(false),
            counted_as: Cell::new(None),
            folder: OnceCell::new(),
        })
    }

    /// Whether somebody works on it just now.
    pub fn is_held(&self) -> bool {
        self.work.borrow().is_none()
    }

    /// Where it stands.
    pub(super) fn state(&self) -> State {
        self.kept.state()
    }

    /// Where it stands, for a person. What was sealed before a start is sealed once more when its
    /// client comes; until then nothing of it is missing, and nobody else would say so.
    pub(super) fn shown_state(&self) -> State {
        match self.state() {
            State::Receiving {
                received,
                total: Some(total),
            } if received == total && self.was_sealed.get() => State::Sealed { total },
            state => state,
        }
    }

    /// An earlier life of the server had sealed it.
    pub(super) fn note_sealed(&self) {
        self.was_sealed.set(true);
    }

    /// What is known of it.
    pub(super) fn record(&self) -> Ref<'_, Record> {
        self.kept.record()
    }

    /// The last client's address, if this server has seen one.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer.get()
    }

    pub(super) fn set_peer(&self, peer: SocketAddr) {
        self.peer.set(Some(peer));
    }

    /// Whoever has the turnstile's pass takes its work, and puts it back.
    pub(super) fn take_work(&self) -> Box<Work<W>> {
        let work = self.work.borrow_mut().take();
        work.expect("the turnstile lets one in at a time")
    }

    pub(super) fn put_work(&self, work: Option<Box<Work<W>>>) {
        *self.work.borrow_mut() = work;
    }

    /// Whether this names the reply that may be fetched now. Fetching it counts as progress.
    pub fn serves(&self, token: Token, now: Millis) -> bool {
        let named = (self.kept.record().answer.as_ref()).map(|answer| answer.token);
        let is_served = self.state().reply() == Reply::File && named == Some(token);
        if is_served {
            self.touch(now);
        }
        is_served
    }

    /// Whether it is there for whoever asks, where this is what its location asks: [`is_open`].
    pub fn is_open_to(&self, access: &Access, principal: Option<&Principal>) -> bool {
        is_open(access, self.kept.record().life.user.as_deref(), principal)
    }

    /// Whether nobody has made it, and whoever goes on with it gets it. Once others were told of
    /// its file it stays as they know it.
    pub fn is_for_the_taking(&self) -> bool {
        let is_ours_alone = matches!(self.state(), State::Receiving { .. } | State::Sealed { .. });
        is_ours_alone && self.kept.record().life.user.is_none()
    }

    /// Bytes were offered, and none was taken; the next record says it. Whether that is new, and
    /// matters: whoever closes behind them did not mean an empty file.
    pub(super) fn note_vain_offer(&self) -> bool {
        self.state() == State::NEW && self.kept.note_offered()
    }

    /// Whether bytes were offered of which none was taken, in this life of the server or before.
    pub(super) fn was_offered(&self) -> bool {
        self.kept.record().life.was_offered
    }

    /// Time without progress.
    pub(super) fn idle_ms(&self, now: Millis) -> u64 {
        self.rests_ms(now).saturating_add(self.age_ms.get())
    }

    /// How long it has made no progress, on this server.
    pub fn rests_ms(&self, now: Millis) -> u64 {
        now.saturating_sub(self.progress_ms.get())
    }

    /// It has made progress.
    pub(super) fn touch(&self, now: Millis) {
        self.progress_ms.set(now);
        self.age_ms.set(0);
    }

    /// It has expired, and somebody works on it.
    pub(super) fn note_overdue(&self) {
        self.is_overdue.set(true);
    }

    /// Whether it had once expired while somebody worked on it.
    pub(super) fn is_overdue(&self) -> bool {
        self.is_overdue.get()
    }

    /// When it has expired, if it makes no progress until then.
    pub fn expires_ms(&self, policy: &Policy) -> Millis {
        let timeout = match self.state() {
            State::Receiving { received: 0, .. } => {
                policy.session_timeout.min(policy.empty_session_timeout)
            }
            _ => policy.session_timeout,
        };
        let timeout_ms = millis(timeout);
        let left_ms = timeout_ms.saturating_sub(self.age_ms.get());
        self.progress_ms.get().saturating_add(left_ms)
    }

    /// It is counted as this from now on; as what it was before.
    pub(super) fn count_as(&self, now: Option<Gauged>) -> Option<Gauged> {
        self.counted_as.replace(now)
    }

    /// Its file is for this folder.
    pub(super) fn belongs_to(&self, folder: Rc<Deliveries>) {
        // It is entered once.
        let _ = self.folder.set(folder);
    }

    /// The folder that its file is for.
    pub(super) fn folder(&self) -> Option<&Deliveries> {
        self.folder.get().map(|folder| &**folder)
    }

    /// What its application said last, if it did not take the file and nobody asks it just now.
    pub(super) fn application_said(&self) -> Option<Refusal> {
        let work = self.work.borrow();
        let pause = work.as_ref()?.application_pause.as_ref()?;
        Some(pause.refusal().clone())
    }

    /// When its shard looks next whether it has expired.
    pub fn deadline_ms(&self) -> &Cell<Millis> {
        &self.deadline_ms
    }
}

/// Whether what `owner` has made is there for whoever asks: it belongs to the user who made it.
/// What was made when nobody was asked is there for all who may upload until one of them goes on
/// with it, except where users have folders of their own; and where nobody is asked any more,
/// nobody is kept away.
pub fn is_open(access: &Access, owner: Option<&str>, principal: Option<&Principal>) -> bool {
    match (owner, principal) {
        (None, _) if shuts_out_ownerless(access) => false,
        // Not by [`Principal::is`]: names out of Active Directory are folded before a session has
        // them, and whoever is called otherwise is somebody else, also if it differs in case only.
        (Some(owner), Some(principal)) => *principal.user == *owner,
        (None, _) | (_, None) => true,
    }
}

/// Whether what nobody has made is there for nobody: it has no user's folder to go to, and its path
/// may lead into that of any.
pub fn shuts_out_ownerless(access: &Access) -> bool {
    access.per_user && !access.auth.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::policy::Scheme;

    #[test]
    fn whose_sessions_are_there_for_whom() {
        let access = |per_user, auth: &[Scheme]| Access {
            auth: auth.to_vec(),
            per_user,
            ..Access::default()
        };
        let anna = Principal {
            user: "anna".into(),
            scheme: Scheme::Basic,
        };
        for (access, owner, principal, expected) in [
            (
                access(false, &[Scheme::Basic]),
                Some("anna"),
                Some(&anna),
                true,
            ),
            (
                access(false, &[Scheme::Basic]),
                Some("bert"),
                Some(&anna),
                false,
            ),
            (access(false, &[Scheme::Basic]), None, Some(&anna), true),
            (
                access(true, &[Scheme::Basic]),
                Some("anna"),
                Some(&anna),
                true,
            ),
            (access(true, &[Scheme::Basic]), None, Some(&anna), false),
            // By a request that was let in before a reload.
            (access(true, &[Scheme::Basic]), None, None, false),
            (access(true, &[]), None, None, true),
            (access(true, &[]), Some("anna"), None, true),
        ] {
            assert_eq!(
                is_open(&access, owner, principal),
                expected,
                "{access:?} {owner:?}"
            );
        }
    }
}
