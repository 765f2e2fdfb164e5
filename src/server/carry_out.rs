//! Carries out what the state machine decides: seal, tell, publish, discard, and what follows from
//! them, up to an answer. Nobody else acts on a [`Decision`].

use std::io;
use std::rc::Rc;

use super::floor::World;
use super::hashing::{Behind, Orders};
use super::held::Held;
use crate::bits::reply::{Ack, Refusal};
use crate::bits::session::{Decision, Ending, Goodbye, State, Step, StorePlan};
use crate::event::{DiskOp, Event};
use crate::vault::destination;
use crate::vault::disk::Sync;
use crate::vault::error::StoreError;

/// What the client hears.
pub type Heard = Result<Ack, Refusal>;

/// What came of a decision.
#[derive(Debug)]
pub enum Done {
    /// This is the answer.
    Answered(Heard),
    /// A body is to be stored first: only [`Step::Fragment`] leads here.
    Store(StorePlan),
}

impl<W: World> Held<W> {
    /// Gives a step that no body follows to the state machine, and carries out what it decides.
    pub async fn answer(&mut self, step: Step) -> Heard {
        match self.carry_out(step).await {
            Done::Answered(reply) => reply,
            // No step but a fragment asks for a body, and here none can come.
            Done::Store(_) => Err(Refusal::SessionNotFound),
        }
    }

    /// Gives a step to the state machine, and carries out what it decides. What needs a record
    /// first becomes true when that is written.
    pub async fn carry_out(&mut self, step: Step) -> Done {
        if step == Step::Cancel
            && let Err(refusal) = Box::pin(self.note_made_object()).await
        {
            return Done::Answered(Err(refusal));
        }
        let (mut from, mut step) = (self.state(), step);
        loop {
            let (next, decision) = self.decide(from, step);
            if matches!(decision, Decision::Say(_) | Decision::AckFragment { .. })
                && let Err(error) = self.make_sure().await
            {
                if self.keep().has_name() {
                    self.follow();
                }
                return Done::Answered(Err(self.fail(error).await));
            }
            if self.must_settle(from, step, &decision)
                && let Err(refusal) = Box::pin(self.settle(from, &decision)).await
            {
                return Done::Answered(Err(refusal));
            }
            let followed = match decision {
                // The size of the file is recorded before its first byte ([`Held::begin`]).
                Decision::Store(plan) => return Done::Store(plan),
                Decision::Seal { total } => {
                    self.go_to(next);
                    self.seal(total).await
                }
                Decision::Notify => {
                    self.go_to(next);
                    Box::pin(self.notify()).await
                }
                Decision::Publish => self.publish(next).await,
                Decision::Discard { ending, answer } => {
                    return Done::Answered(match Box::pin(self.discard(ending)).await {
                        Ok(()) => self.say(answer),
                        Err(refusal) => Err(refusal),
                    });
                }
                Decision::Say(answer) => {
                    self.end(next).await;
                    return Done::Answered(self.say(answer));
                }
                Decision::AckFragment { received } => {
                    self.go_to(next);
                    return Done::Answered(self.ack_fragment(received).await);
                }
                Decision::Refuse(refusal) => {
                    self.go_to(next);
                    return Done::Answered(Err(refusal));
                }
                Decision::Nothing => {
                    self.go_to(next);
                    return Done::Answered(Err(Refusal::SessionNotFound));
                }
            };
            match followed {
                Ok(followed) => (from, step) = (next, followed),
                Err(refusal) => return Done::Answered(Err(refusal)),
            }
        }
    }

    async fn seal(&mut self, total: u64) -> Result<Step, Refusal> {
        let shard = Rc::clone(&self.shard);
        match self.catch_up(Orders::Wait).await {
            Ok(()) => {}
            // Heard by nobody: the connection was hung up on.
            Err(Behind::Stopped) => return Err(Refusal::Unavailable),
            Err(Behind::Disk(error)) => return Err(self.fail(error).await),
        }
        self.note_unsettled();
        let durability = self.location().policy.durability;
        if self.keep().left().is_none() {
            self.note_left().await;
        }
        let sealed = match self.file().await {
            Ok(file) => {
                (self.keep())
                    .seal(&shard.store, &file, total, durability)
                    .await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = sealed {
            return Err(self.fail(error).await);
        }
        if destination::sync(durability) == Sync::Yes && total > 0 {
            let shelf = self.keep().shelf();
            shard.world.space(shelf).note_kept();
        }
        self.work().reservation = None;
        self.note_progress();
        let session = self.id();
        shard.world.emit(Event::SessionSealed { session });
        Ok(Step::Sealed)
    }

    /// Gives the file its name; `closing` is the state while that happens.
    async fn publish(&mut self, closing: State) -> Result<Step, Refusal> {
        if self.keep().is_object() {
            return Box::pin(self.end_with_object()).await;
        }
        let is_named = self.keep().has_name();
        if !is_named {
            if self.state().is_promised() && self.is_left_alone() {
                self.follow();
                return Err(Refusal::StorePending);
            }
            Box::pin(self.mind_changes()).await?;
        }
        if let Some(objects) = self.location().objects.clone().filter(|_| !is_named) {
            return Box::pin(self.give_to_store(closing, &objects)).await;
        }
        match self.give_name(closing).await {
            Ok(()) => Ok(Step::Published),
            Err(error) => Err(Box::pin(self.stay_unpublished(error)).await),
        }
    }

    /// The file has not got its name, or it is not known whether that would last.
    async fn stay_unpublished(&mut self, error: StoreError) -> Refusal {
        let shard = Rc::clone(&self.shard);
        if self.keep().has_name() {
            let refusal = self.fail(error).await;
            // Its client may have heard enough.
            self.follow();
            return refusal;
        }
        if let State::Closing { .. } = self.state()
            && !error.poisons()
        {
            let (sealed, _nothing_more) = self.decide(self.state(), Step::PublishRefused);
            if sealed != self.state() {
                self.keep().note(&shard.store, sealed).await;
            }
        }
        self.note_own_touch().await;
        let is_promised = self.state().is_promised();
        if is_promised {
            // Nobody else would say so: its client has gone.
            shard.world.emit(Event::StagedUnnamed {
                session: self.id(),
                path: self.path().as_str(),
                op: error.op,
                error: &error.source,
            });
        }
        let refusal = self.fail(error).await;
        if is_promised {
            self.leave_alone(&refusal);
        }
        refusal
    }

    /// What anybody is told of survives a power cut.
    pub(super) async fn make_sure(&mut self) -> Result<(), StoreError> {
        let shard = Rc::clone(&self.shard);
        let durability = self.location().policy.durability;
        self.keep().make_sure(&shard.store, durability).await
    }

    async fn give_name(&mut self, closing: State) -> Result<(), StoreError> {
        let shard = Rc::clone(&self.shard);
        let location = self.location();
        // The settings changed: the path is a folder now.
        let place = self.place().ok_or_else(|| StoreError {
            op: DiskOp::Publish,
            source: io::ErrorKind::IsADirectory.into(),
        })?;
        // Closed before it has its name, or watchers of the folder are told of that as well: all
        // they see is that it came.
        self.work().file = None;
        if !self.keep().has_name() {
            let recorded = destination::recorded(&*shard.world, &location, &place);
            self.keep().note_place(recorded);
            self.stop_store();
            self.note_unsettled();
        }
        let owed = shard.owed(&location, Ending::Published, closing.received());
        (self.keep())
            .publish(&shard.store, &location.policy, &place, closing, owed)
            .await
    }

    /// Goes on with a publication that a crash cut short. If it is refused, the file stays sealed;
    /// what was promised, or may be in a store, is tried again.
    pub async fn finish_publication(&mut self) {
        let closing = self.state();
        match self.publish(closing).await {
            Ok(published) => match self.decide(closing, published) {
                // Nobody waits for it here: it is settled when all are read back.
                _ if self.keep().is_unsettled() => self.go_to(closing.named()),
                (next, Decision::Say(_)) => self.end(next).await,
                (next, _) => self.go_to(next),
            },
            Err(_) if matches!(self.state(), State::Closing { .. }) => self.follow(),
            Err(_) => {}
        }
        self.work().file = None;
    }

    /// The session ended with its file at its place, or long after.
    async fn end(&mut self, next: State) {
        let State::Gone(ending) = next else {
            return;
        };
        let shard = Rc::clone(&self.shard);
        let last = self.state();
        if !self.is_buried() {
            self.keep().note_end(&shard.store, ending).await;
            self.drop_reply().await;
        }
        self.work().file = None;
        self.bury(ending, last);
    }

    /// Makes what is about to be acked safe as the settings say. An Ack for bytes that were known
    /// before needs it too: they may have come on a connection that broke before its own Ack.
    async fn ack_fragment(&mut self, received: u64) -> Heard {
        if let Err(error) = self.harden().await {
            return Err(self.fail(error).await);
        }
        self.send_ahead(received);
        Ok(Ack::Fragment {
            session: self.id(),
            received,
            reply_url: self.reply_url(),
            // Of what came: its client compares.
            sha256: self.keep().sent(),
        })
    }

    /// Of the whole file, if it is known.
    fn sha256(&mut self) -> Option<[u8; 32]> {
        self.keep().digests().map(|digests| digests.sha256)
    }

    fn say(&mut self, answer: Goodbye) -> Heard {
        let session = self.id();
        match answer {
            Goodbye::Closed => {
                // What was thrown away is nobody's file.
                let is_good = matches!(self.state(), State::Gone(ending) if ending.is_good());
                let sha256 = self.sha256().filter(|_| is_good);
                Ok(Ack::Closed { session, sha256 })
            }
            Goodbye::Denied => Err(Refusal::denied(None)),
            Goodbye::Cancelled => Ok(Ack::Cancelled { session }),
            // Heard by nobody.
            Goodbye::Nobody => Err(Refusal::SessionNotFound),
        }
    }
}
