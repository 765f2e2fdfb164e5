//! What goes with a file when it has its name, before anybody is told: its digest file
//! ([`super::digest_file`]), then the line of the custody ledger ([`crate::custody`]).
//!
//! Until all of it is made the record says that the session is not settled, from before the file
//! has its name on. If it cannot be made, the client hears something transient: the session stands
//! as published, and the next packet tries again. A session that is read back and is not settled
//! does so by itself.

use std::rc::Rc;

use super::floor::World;
use super::held::Held;
use super::session::Session;
use super::shard::Shard;
use crate::bits::reply::Refusal;
use crate::bits::session::{Decision, Ending, State, Step};
use crate::config::{Durability, Publish};
use crate::custody::entry::LedgerEntry;
use crate::event::DiskOp;
use crate::vault::destination;
use crate::vault::disk::Place;
use crate::vault::error::StoreError;
use crate::vault::record::RecordedPlace;

impl<W: World> Held<W> {
    /// Before a record that the file may get its name by: whether anything is to be made then.
    pub(super) fn note_unsettled(&mut self) {
        let is_unsettled = self.shard.world.keeps_custody() || self.has_digest_file();
        self.keep().note_unsettled(is_unsettled);
    }

    /// Whether something is to be made before anybody is told of this. `from` is where the session
    /// stood, and `step` led to the decision.
    pub(super) fn must_settle(&mut self, from: State, step: Step, decision: &Decision) -> bool {
        match decision {
            Decision::Discard {
                ending: Ending::Delivered,
                ..
            } => self.shard.world.keeps_custody(),
            Decision::Say(_) | Decision::AckFragment { .. } => {
                let has_name = step == Step::Published || matches!(from, State::Published { .. });
                has_name && self.keep().is_unsettled()
            }
            _ => false,
        }
    }

    /// Before anybody is told that the file has its name, or that an application has it: what goes
    /// with it is made.
    ///
    /// # Errors
    /// What the client hears: it comes back.
    pub(super) async fn settle(&mut self, from: State, told: &Decision) -> Result<(), Refusal> {
        if let Decision::Discard { ending, .. } = told {
            return self.write_line(*ending, from).await;
        }
        let shard = Rc::clone(&self.shard);
        let made = match self.place_digest_file().await {
            Ok(()) => self.write_line(Ending::Published, from).await,
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = made {
            if self.state() != from.named() {
                self.keep().note(&shard.store, from.named()).await;
            }
            return Err(refusal);
        }
        self.keep().note_settled(&shard.store).await;
        Ok(())
    }

    pub(super) async fn write_line(&mut self, ending: Ending, last: State) -> Result<(), Refusal> {
        let shard = Rc::clone(&self.shard);
        if !shard.world.keeps_custody() {
            return Ok(());
        }
        let is_durable = self.location().policy.durability != Durability::None;
        let entry = self.entry(ending, last);
        match shard.world.write_line(entry, is_durable).await {
            Ok(()) => Ok(()),
            Err(source) => {
                let op = DiskOp::Ledger;
                Err(self.fail(StoreError { op, source }).await)
            }
        }
    }

    /// A session ended without a file, and bytes of it had come: its line follows, and nobody waits
    /// for it. `last` is where it stood before.
    pub(super) fn tell_of_end(&mut self, ending: Ending, last: State) {
        // Theirs were written before anybody heard.
        if ending.is_good() || last.received() == 0 || !self.shard.world.keeps_custody() {
            return;
        }
        let entry = self.entry(ending, last);
        self.shard.world.tell_line(entry);
    }

    /// Where the file has its name, or is to get it now; `None` if new settings have made that a
    /// folder.
    pub(super) fn place(&mut self) -> Option<Place> {
        let (shard, location) = (Rc::clone(&self.shard), self.location());
        let keep = self.keep();
        let record = keep.record();
        let has_name = keep.has_name() || matches!(record.state, State::Published { .. });
        match has_name {
            true => destination::standing(&*shard.world, &location, &record),
            false => destination::place(&location, &record.path, record.life.user.as_deref()).ok(),
        }
    }

    /// Before a record that owes an event of an end without a file: under which location.
    pub(super) fn note_place_of_end(&mut self, ending: Ending) {
        if ending != Ending::Published && !self.keep().has_name() {
            let place = RecordedPlace::of_end(&self.location().prefix);
            self.keep().note_place(place);
        }
    }

    /// What a line tells of where the file is, or was to go.
    fn told_place(&mut self, ending: Ending) -> RecordedPlace {
        let life = self.keep().record().life.clone();
        if let (Ending::Published, Some(place)) = (ending, &life.place) {
            return RecordedPlace::clone(place);
        }
        let (shard, location) = (Rc::clone(&self.shard), self.location());
        let place = destination::place(&location, self.path(), life.user.as_deref());
        // A folder by new settings: then the path is all there is to tell.
        let path = place.map_or_else(|_| self.path().clone(), |place| place.path);
        let settings = shard.settings();
        let is_in_folder = !self.keep().is_object() && location.objects.is_none();
        let root = is_in_folder.then(|| {
            let open = shard.world.path_of_root(location.root);
            let named = settings.roots.get(location.root);
            open.or_else(|| named.map(|root| root.to_string_lossy().into()))
        });
        RecordedPlace {
            location: location.prefix.clone(),
            root: root.flatten().unwrap_or_default(),
            path: path.as_str().to_owned(),
        }
    }

    fn entry(&mut self, ending: Ending, last: State) -> LedgerEntry {
        let shard = Rc::clone(&self.shard);
        let life = self.keep().record().life.clone();
        let object = self.keep().record().object.as_deref().cloned();
        let place = self.told_place(ending);
        LedgerEntry {
            time_ms: shard.world.wall_clock_ms(),
            session: self.id(),
            ending,
            location: place.location,
            root: place.root,
            path: place.path,
            object,
            bytes: last.received(),
            total: last.total(),
            digests: self.keep().digests(),
            sent: self.keep().changed_from(),
            client: self.keep().record().client,
            user: life.user,
            proof: life.proof,
            certificate: life.certificate,
            first_ms: life.first_ms,
            last_ms: life.last_ms,
            // Of one that did not get it, it says nothing.
            named_ms: match ending {
                Ending::Published => life.named_ms,
                _ => 0,
            },
            resumes: life.interruptions,
            agent: life.agent,
        }
    }

    /// The session was read back and is not settled: does that, and ends where nothing else was
    /// left.
    pub(super) async fn settle_by_itself(&mut self) {
        let state = self.state();
        let told = Decision::AckFragment {
            received: state.received(),
        };
        if !self.must_settle(state, Step::Close, &told) {
            return;
        }
        let settled = self.settle(state, &told).await;
        // Its client has asked for that before the crash.
        if settled.is_ok() && self.location().policy.publish == Publish::Close {
            let _nobody_hears = self.answer(Step::Expire).await;
        }
    }
}

/// Sessions that were read back and are not settled, one after the other; those that somebody works
/// on are settled by whoever that is.
pub async fn settle_all<W: World>(shard: Rc<Shard<W>>, sessions: Vec<Rc<Session<W>>>) {
    for session in sessions {
        if shard.is_over() {
            return;
        }
        if let Some(mut held) = Held::for_shard(&shard, &session) {
            held.settle_by_itself().await;
        }
    }
}
