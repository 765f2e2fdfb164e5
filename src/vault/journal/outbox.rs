//! Which sessions owe an event ([`crate::vault::owed`]), and what is written when it was told.

use std::rc::Rc;

use super::{Journal, Kept};
use crate::bits::session::{Ending, State};
use crate::bits::session_id::SessionId;
use crate::vault::disk::WorkFiles;
use crate::vault::owed::{EventTarget, EventTargets};

impl<D: WorkFiles> Journal<D> {
    /// The record of a session of which an event is to be told.
    pub fn owing(&self, id: SessionId) -> Option<Rc<Kept>> {
        let records = self.records.borrow();
        let kept = records.get(&id)?;
        owes(kept).then(|| Rc::clone(kept))
    }

    /// All of them.
    pub fn owing_all(&self) -> Vec<(SessionId, Rc<Kept>)> {
        let records = self.records.borrow();
        let owing = records.iter().filter(|(_, kept)| owes(kept));
        owing.map(|(id, kept)| (*id, Rc::clone(kept))).collect()
    }

    /// A target has said that it has the event of a session; `all` are those that are to have it.
    /// Whether nothing is owed any more. If that cannot be written, a restart tells it again.
    pub async fn acknowledge(
        &self,
        disk: &D,
        id: SessionId,
        by: EventTarget,
        all: EventTargets,
    ) -> bool {
        let _turn = self.gate.turn().await;
        let Some(kept) = self.owing(id) else {
            return true;
        };
        let (is_done, ended) = note(&kept, by, all);
        let Some(ended) = ended else {
            // Its session goes on, and numbers its records itself: the next one says it.
            return is_done;
        };
        self.write_told(disk, id, &kept, ended, is_done).await;
        is_done
    }

    /// Writes who has the event of a session that ended: it ends altogether, or is kept for others.
    async fn write_told(
        &self,
        disk: &D,
        id: SessionId,
        kept: &Rc<Kept>,
        ended: Ending,
        is_done: bool,
    ) {
        let sequence = kept.sequence() + 1;
        let mut frame = self.frame.take();
        frame.clear();
        let bytes = match is_done {
            true => (kept.record().tombstone(ended, kept.sequence())).append(id, &mut frame),
            false => kept.record().append(id, sequence, &mut frame),
        };
        self.drop_lost();
        let appended = self.append_frame(disk, &frame).await;
        self.frame.replace(frame);
        kept.sequence.set(sequence);
        match is_done {
            // Also if it could not be written: the next renewal leaves it out.
            true => self.forget(id),
            false if appended.is_ok() => self.enter(id, kept, bytes),
            false => {}
        }
    }

    /// Whether `all` have heard already what a session owes: a renewal wrote that down while the
    /// tombstone was on its way, and a power cut has taken the tombstone back; or the one that has
    /// not is named no more.
    pub fn is_settled(&self, id: SessionId, all: EventTargets) -> bool {
        let Some(kept) = self.owing(id) else {
            return true;
        };
        let told = kept.record().owed.as_ref().map(|owed| owed.told);
        // Where there is nobody to tell, it waits for somebody.
        !all.is_empty() && told.is_some_and(|told| all.without(told).is_empty())
    }

    /// Lets go of that, and writes it down: a target that is named again later is owed nothing of
    /// what was given up.
    pub async fn settle(&self, disk: &D, id: SessionId, all: EventTargets) {
        let _turn = self.gate.turn().await;
        let Some(kept) = self.owing(id).filter(|_| self.is_settled(id, all)) else {
            return;
        };
        match kept.state() {
            State::Gone(ended) => self.write_told(disk, id, &kept, ended, true).await,
            // Its next record says it.
            _ => kept.record.borrow_mut().owed = None,
        }
    }
}

/// Whether it is to be told: while a file is getting its name, it is not yet.
fn owes(kept: &Kept) -> bool {
    let record = kept.record();
    record.owed.is_some() && matches!(record.state, State::Gone(_) | State::Published { .. })
}

/// Notes in memory who has it. Whether all have, and how the session ended, if it has.
fn note(kept: &Kept, by: EventTarget, all: EventTargets) -> (bool, Option<Ending>) {
    let mut record = kept.record.borrow_mut();
    let ended = match record.state {
        State::Gone(ending) => Some(ending),
        _ => None,
    };
    let Some(owed) = &mut record.owed else {
        return (true, ended);
    };
    owed.told = owed.told.with(by);
    let is_done = all.without(owed.told).is_empty();
    if is_done && ended.is_none() {
        record.owed = None;
    }
    (is_done, ended)
}
