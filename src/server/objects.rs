//! Giving a whole file to an object store, and what its client hears meanwhile.
//!
//! The file stays here until the store has it. The record says `closing` before the store hears of
//! it, and the part goes only afterwards; so a crash in between leads to the same question again,
//! which a store that has the object answers by its mark (see `objects/`). A client waits as long
//! as the settings say, and comes back for what came of it. The work goes on whoever waits; a task
//! of the shard sees to its end where nobody does.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use super::floor::World;
use super::held::Held;
use super::left::is_by_reference;
use super::object_order::{DigestFile, ObjectError, ObjectOrder, Storing};
use super::pause::Pause;
use super::shard::Shard;
use crate::bits::reply::Refusal;
use crate::bits::session::{Ending, State, Step};
use crate::config::{Location, ObjectStore};
use crate::custody::object::StoredObject;
use crate::diagnosis::is_part_changed;
use crate::event::{DIGEST_OBJECT, DiskOp, Event};
use crate::http::path::BadTarget;
use crate::vault::destination;
use crate::vault::disk::{Millis, Place, millis};
use crate::vault::error::StoreError;
use crate::vault::names;
use crate::vault::record::RecordedPlace;

/// A client that waits is looked at so often: it may have gone, or another one may want its turn.
const LOOK_MS: Millis = 200;

impl<W: World> Shard<W> {
    /// Whether a new upload can be taken for a store, told before any byte is sent.
    pub(super) fn check_store(
        &self,
        location: &Location,
        store: &ObjectStore,
        place: &Place,
    ) -> Result<(), Refusal> {
        let key = destination::key(store, place);
        key.ok_or(Refusal::TargetInvalid(BadTarget::KeyTooLong))?;
        if location.policy.digest_file {
            let beside = destination::digest_file(place)?;
            let key = destination::key(store, &beside);
            key.ok_or(Refusal::TargetInvalid(BadTarget::NoRoomForDigest))?;
        }
        let staged = self.world.staged_bytes(location.series);
        match store.staging_max {
            Some(max) if staged >= max => Err(Refusal::StagingFull),
            _ => Ok(()),
        }
    }
}

impl<W: World> Held<W> {
    /// Gives a whole file to its store; `closing` is the state until that has it.
    pub(super) async fn give_to_store(
        &mut self,
        closing: State,
        store: &Arc<ObjectStore>,
    ) -> Result<Step, Refusal> {
        let shard = Rc::clone(&self.shard);
        // Before the record: it may have been given before only if that says so.
        let is_closing = matches!(self.state(), State::Closing { .. });
        if !is_closing && let Some(refusal) = self.store_said(shard.world.now()) {
            return Err(refusal);
        }
        if self.is_left_alone() {
            self.follow();
            return Err(Refusal::StorePending);
        }
        self.note_unsettled();
        let mut order = self.object_order(closing.received(), store)?;
        self.note_place_in_store();
        // Another one's object is found again by a look: nothing is sent for that.
        order.is_repeat = is_closing || self.work().store_pause.is_some();
        order.is_promised = closing.is_promised();
        let patience = match self.is_for_client() {
            true => millis(store.wait),
            false => 0,
        };
        let until = shard.world.now().saturating_add(patience);
        if !self.await_turn(&order, until).await {
            if is_closing {
                self.follow();
            }
            return Err(Refusal::StorePending);
        }
        let recorded = match is_closing {
            true => self.make_sure().await,
            false => {
                let durability = self.location().policy.durability;
                (self.keep())
                    .begin_delivery(&shard.store, durability, closing)
                    .await
            }
        };
        if let Err(error) = recorded {
            let refusal = self.fail(error).await;
            return Err(self.while_it_goes_on(refusal));
        }
        self.work().file = None;
        if order.is_promised && !is_closing {
            // The record is durable, and so is the file.
            self.follow();
            return Ok(Step::Taken);
        }
        let object = match self.await_store(&order, until).await {
            Ok(Storing::Done(object)) => object,
            Ok(Storing::UnderWay) => {
                self.follow();
                return Err(Refusal::StorePending);
            }
            Err(error) => return Err(self.untaken(error).await),
        };
        self.note_object(object).await?;
        self.release_object();
        Ok(self.end_staging().await)
    }

    /// What is told of the object later says under which settings it was made.
    fn note_place_in_store(&mut self) {
        let (shard, location) = (Rc::clone(&self.shard), self.location());
        if let Some(place) = self.place() {
            let root = String::new();
            let recorded = destination::recorded(&*shard.world, &location, &place);
            self.keep().note_place(RecordedPlace { root, ..recorded });
        }
    }

    async fn note_object(&mut self, object: StoredObject) -> Result<(), Refusal> {
        let shard = Rc::clone(&self.shard);
        let owed = shard.owed(&self.location(), Ending::Published, self.received());
        let noted = self.keep().note_object(&shard.store, object, owed).await;
        noted.map_err(|error| {
            // It is found to be there at the next try.
            self.report(&error);
            self.while_it_goes_on(error.refusal())
        })
    }

    /// Before a Cancel: an object that was made is not taken away. So it is noted, and the session
    /// ends with it, also if its digest file is still to come.
    pub(super) async fn note_made_object(&mut self) -> Result<(), Refusal> {
        let state = self.state();
        let is_due = matches!(state, State::Closing { .. }) && !state.is_promised();
        if !is_due || self.keep().is_object() {
            return Ok(());
        }
        let shard = Rc::clone(&self.shard);
        let Some(made) = shard.world.made_object(self.id()) else {
            return Ok(());
        };
        self.note_object(made.object).await?;
        if !made.is_all {
            shard.world.emit(Event::NotGiven {
                path: self.path().as_str(),
                what: DIGEST_OBJECT,
                error: &io::Error::other("its client has cancelled before the store had it"),
            });
        }
        Ok(())
    }

    /// What was promised is tried for ever, and not all the time.
    pub(super) fn is_left_alone(&mut self) -> bool {
        let now = self.shard.world.now();
        let is_closing = matches!(self.state(), State::Closing { .. });
        let pause = self.work().store_pause.as_ref();
        is_closing && pause.is_some_and(|pause| pause.lasts(now))
    }

    /// The store has the file, whatever the settings say by now.
    pub(super) async fn end_with_object(&mut self) -> Result<Step, Refusal> {
        if let Err(error) = self.make_sure().await {
            self.report(&error);
            return Err(self.while_it_goes_on(error.refusal()));
        }
        Ok(self.end_staging().await)
    }

    /// Waits until no other file is on its way to the object; whether that is so.
    async fn await_turn(&mut self, order: &ObjectOrder, until: Millis) -> bool {
        let world = Rc::clone(&self.shard.world);
        loop {
            if world.claim_object(order) {
                self.work().has_claim = true;
                return true;
            }
            if world.now() >= until || self.is_stopped() {
                return false;
            }
            world.pass(LOOK_MS).await;
        }
    }

    /// Others may give their files to the object now.
    pub(super) fn release_object(&mut self) {
        if std::mem::take(&mut self.work().has_claim) {
            self.shard.world.release_object(self.id());
        }
    }

    /// An earlier life of the server may have told a store of the file, also where a power cut has
    /// left nothing of it here.
    pub(super) fn note_earlier_life(&mut self) {
        self.work().is_given = true;
    }

    /// The session has come to its end: whoever is on the way to a store with its file stops, and
    /// what the store has of it in parts goes. Whatever the settings say now: they may have been
    /// others when the store was told of it.
    pub(super) fn take_from_store(&mut self) {
        if std::mem::take(&mut self.work().is_given) {
            self.shard.world.abandon_object(self.id());
        }
        self.release_object();
    }

    /// New settings lead into a folder: whoever is on the way to a store with the file stops first,
    /// or it could take the place of a newer one there, long after.
    pub(super) fn stop_store(&mut self) {
        if self.work().is_given {
            self.shard.world.stop_object(self.id());
        }
        self.release_object();
    }

    /// A record could not be synced. If the session goes on all the same, its client comes back for
    /// it: one that began again would meet its own object.
    fn while_it_goes_on(&mut self, refusal: Refusal) -> Refusal {
        if self.is_buried() {
            return refusal;
        }
        match self.state() {
            State::Closing { .. } => self.follow(),
            _ => self.release_object(),
        }
        match refusal {
            Refusal::SessionNotFound => Refusal::DiskFailed,
            refusal => refusal,
        }
    }

    /// The record says that the store has the file: it goes here.
    async fn end_staging(&mut self) -> Step {
        let shard = Rc::clone(&self.shard);
        self.work().file = None;
        if let Err(error) = self.keep().end_delivery(&shard.store).await {
            self.report(&error);
        }
        Step::Published
    }

    /// Before so many bytes are acked: what is whole of them in parts may go to the store already,
    /// if the file is to have several.
    pub(super) fn send_ahead(&mut self, received: u64) {
        let location = self.location();
        // An application may change what it is given the name of.
        let is_wanted = |store: &Arc<ObjectStore>| store.ahead && !is_by_reference(&location);
        let Some(store) = location.objects.clone().filter(is_wanted) else {
            return;
        };
        let total = match self.state() {
            State::Receiving {
                total: Some(total), ..
            } => total,
            State::Sealed { total } | State::Notified { total, .. } => total,
            _ => return,
        };
        let part_bytes = ObjectStore::bytes_of_parts(total, store.part_bytes);
        let whole = match received == total {
            true => total,
            false => received - received % part_bytes,
        };
        if total <= part_bytes || whole <= self.work().sent_ahead {
            return;
        }
        // Where it cannot go any more, its Close is refused.
        if let Ok(order) = self.object_order(total, &store) {
            self.work().sent_ahead = whole;
            self.work().is_given = true;
            self.shard.world.send_ahead(&order, whole);
        }
    }

    /// What is to become of the file of so many bytes.
    fn object_order(
        &mut self,
        bytes: u64,
        store: &Arc<ObjectStore>,
    ) -> Result<ObjectOrder, Refusal> {
        let location = self.location();
        let user = self.keep().record().life.user.clone();
        let place = destination::place(&location, self.path(), user.as_deref())?;
        // The settings have got a longer prefix meanwhile.
        let key = destination::key(store, &place);
        let key = key.ok_or(Refusal::TargetInvalid(BadTarget::KeyTooLong))?;
        Ok(ObjectOrder {
            session: self.id(),
            shelf: self.keep().shelf(),
            part: names::part_name(self.id()),
            bytes,
            sha256: self.keep().digests().map(|digests| digests.sha256),
            is_hashed: self.keep().has_digests(),
            digest_file: self.digest_file(&location, store, &place),
            key,
            may_replace: location.policy.allow_overwrite,
            is_promised: false,
            is_repeat: false,
            was_told: self.was_told(),
            store: Arc::clone(store),
        })
    }

    /// What is to stand beside the object, if its digest is known and the settings say so.
    fn digest_file(
        &mut self,
        location: &Location,
        store: &ObjectStore,
        place: &Place,
    ) -> Option<DigestFile> {
        self.keep()
            .digests()
            .filter(|_| location.policy.digest_file)?;
        // Asked when it was made; new settings may have a longer prefix.
        let beside = destination::digest_file(place).ok()?;
        Some(DigestFile {
            key: destination::key(store, &beside)?,
            of: self.path().file_name().to_owned(),
        })
    }

    /// Waits for the store as long as anybody waits for us.
    async fn await_store(
        &mut self,
        order: &ObjectOrder,
        until: Millis,
    ) -> Result<Storing, ObjectError> {
        let world = Rc::clone(&self.shard.world);
        self.work().is_given = true;
        loop {
            let left = until.saturating_sub(world.now());
            let delivery = world.store_object(order, left.min(LOOK_MS)).await?;
            if matches!(delivery, Storing::Done(_)) || left <= LOOK_MS || self.is_stopped() {
                return Ok(delivery);
            }
        }
    }

    /// The store does not take it: the file is still sealed, and its client may ask again.
    async fn untaken(&mut self, error: ObjectError) -> Refusal {
        let shard = Rc::clone(&self.shard);
        let (sealed, _nothing_more) = self.decide(self.state(), Step::PublishRefused);
        if sealed != self.state() {
            self.keep().note(&shard.store, sealed).await;
        }
        self.release_object();
        let refusal = match error {
            ObjectError::Exists => Refusal::TargetExists,
            ObjectError::Refused => Refusal::StoreFailed,
            ObjectError::Unreadable(source) => {
                let error = self.why_unreadable(source).await;
                // What was promised is kept, for a person to look at.
                if error.poisons() && !self.state().is_promised() {
                    return self.fail(error).await;
                }
                self.report(&error);
                Refusal::DiskFailed
            }
        };
        self.leave_alone(&refusal);
        refusal
    }

    /// What is the matter with the file. It may be gone, or something else stands in its place.
    async fn why_unreadable(&mut self, source: io::Error) -> StoreError {
        if !is_part_changed(&source) {
            self.work().file = None;
            if let Err(error) = self.file().await {
                return error;
            }
            self.work().file = None;
        }
        let op = DiskOp::Read;
        StoreError { op, source }
    }

    /// Nothing is tried again for a while, which is longer each time.
    pub(super) fn leave_alone(&mut self, refusal: &Refusal) {
        let (now, is_untold) = (self.shard.world.now(), !self.is_for_client());
        Pause::renew(&mut self.work().store_pause, now, refusal, is_untold);
    }

    /// What the store said last, if a client is to hear that and nothing is to be tried.
    fn store_said(&mut self, now: Millis) -> Option<Refusal> {
        let pause = self.work().store_pause.as_mut()?;
        pause.answer(now)
    }
}
