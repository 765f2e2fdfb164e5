//! The targets of events of a run: they take them, or not, are away, slow, or take them and their
//! answer is lost.

use std::cell::Cell;
use std::rc::Rc;

use bitsd::server::floor::CloudEvent;
use bitsd::vault::owed::EventTarget;

use crate::clock::sleep;
use crate::rng::{Rng, mix};
use crate::sim::Sim;

/// How targets behave; rates are in a thousand.
#[derive(Clone, Debug)]
pub struct Broker {
    /// There are two.
    pub are_two: bool,
    /// Events that a shard may owe.
    pub owed_max: usize,
    /// Refuses an event.
    pub refuses: u64,
    /// Goes away for long.
    pub leaves: u64,
    /// Takes long.
    pub delays: u64,
    /// Takes it, and its answer is lost.
    pub loses: u64,
}

/// For how long one is away at the most, in milliseconds.
const AWAY_MS_MAX: u64 = 200_000;

/// Until when each target is away.
pub type Away = [Cell<u64>; EventTarget::ALL.len()];

impl Broker {
    /// Draws one; many runs have none.
    pub fn draw(seed: u64) -> Option<Self> {
        let mut rng = Rng::new(mix(seed ^ 0xb20c));
        if !rng.chance(400) {
            return None;
        }
        let are_two = rng.chance(300);
        let owed_max = rng.pick(&[1, 100_000, 100_000]);
        let mut some = |rate: u64| if rng.chance(500) { rate } else { 0 };
        Some(Self {
            are_two,
            owed_max,
            refuses: some(300),
            leaves: some(100),
            delays: some(300),
            loses: some(300),
        })
    }

    /// Hears of a session that ended.
    pub async fn hear(
        &self,
        sim: &Rc<Sim>,
        target: EventTarget,
        event: CloudEvent,
    ) -> Result<(), String> {
        sleep(&sim.executor, sim.below(20) as u64).await;
        let away = &sim.brokers_away[target.index()];
        if sim.chance(self.leaves) {
            sim.marks.hit("target of events away");
            away.set(sim.executor.now() + sim.below(AWAY_MS_MAX) as u64);
        }
        if sim.has_faults.get() && sim.executor.now() < away.get() {
            return Err("it is away".to_owned());
        }
        if sim.chance(self.refuses) {
            sim.marks.hit("event refused");
            return Err("it answers 500".to_owned());
        }
        if sim.chance(self.delays) {
            sim.marks.hit("event taken late");
            sleep(&sim.executor, sim.below(40_000) as u64).await;
        }
        sim.tell(|| format!("{} takes {}", target.word(), event.id()));
        if sim.judge.borrow_mut().heard_outside(target, &event) {
            sim.marks.hit("event told again");
        }
        sim.be_critical();
        sleep(&sim.executor, sim.below(20) as u64).await;
        if sim.chance(self.loses) {
            sim.marks.hit("answer to an event lost");
            return Err("no answer in time".to_owned());
        }
        Ok(())
    }
}
