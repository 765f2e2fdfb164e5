//! One run: load under faults, heal, drain, and what must hold at the end.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use crate::client::{Client, Outcome};
use crate::executor::{CLIENTS, Stepped};
use crate::identity;
use crate::marks::Marks;
use crate::plan::Plan;
use crate::reader::read_all;
use crate::rng::{Rng, mix};
use crate::sim::Sim;
use crate::tally;

/// Virtual time in which honest clients finish once faults have stopped, in milliseconds.
const LIVENESS_MS: u64 = 5_400_000;
/// More than any run needs; one that needs more does not come to an end.
const STEPS_MAX: u64 = 6_000_000;

/// What came of a run.
pub struct Report {
    /// What was wrong, if something was.
    pub failure: Option<String>,
    /// Its last lines.
    pub tail: Vec<String>,
    /// Hash of all lines.
    pub hash: u64,
    /// Coverage.
    pub marks: Marks,
    /// Sessions made.
    pub sessions: u64,
    /// Steps taken.
    pub steps: u64,
}

/// Runs a plan.
pub fn run(plan: &Plan, is_traced: bool) -> Report {
    let sim = Sim::new(plan.clone(), is_traced);
    let result = catch_unwind(AssertUnwindSafe(|| Run::new(&sim).all()));
    if let Err(panic) = result {
        let text = (panic.downcast_ref::<String>().cloned())
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default();
        sim.judge.borrow_mut().fail(format!("a panic: {text}"));
    }
    let marks = Marks::default();
    marks.add(&sim.marks);
    let judge = sim.judge.borrow();
    let report = Report {
        failure: judge.failure().cloned(),
        tail: sim.tail(),
        hash: sim.hash(),
        marks,
        sessions: judge.sessions_len() as u64,
        steps: sim.executor.steps(),
    };
    drop(judge);
    // Tasks hold the world and the world holds them: the circle is broken here.
    let last = sim.life.borrow_mut().take();
    if let Some(life) = last {
        let ended = catch_unwind(AssertUnwindSafe(|| sim.executor.cancel(life.number)));
        drop(ended);
        life.shards.borrow_mut().clear();
    }
    let ended = catch_unwind(AssertUnwindSafe(|| sim.executor.cancel(CLIENTS)));
    drop(ended);
    report
}

/// Something was wrong; the judge knows what.
struct Wrong;

struct Run {
    sim: Rc<Sim>,
    rng: Rng,
    outcomes: Vec<Rc<Cell<Outcome>>>,
    next_end: u64,
}

impl Run {
    fn new(sim: &Rc<Sim>) -> Self {
        Self {
            sim: Rc::clone(sim),
            rng: Rng::new(mix(sim.plan.seed ^ 0x5eed)),
            outcomes: Vec::new(),
            next_end: 0,
        }
    }

    fn all(mut self) {
        // Whatever is wrong is the judge's to tell.
        let _told = self.phases();
    }

    fn phases(&mut self) -> Result<(), Wrong> {
        let sim = Rc::clone(&self.sim);
        sim.start();
        self.draw_end();
        for number in 0..sim.plan.uploads.len() {
            let outcome = Rc::new(Cell::new(Outcome::Busy));
            let client = Client::new(&sim, number, self.rng.fork(), &outcome);
            sim.executor.spawn(CLIENTS, client.run());
            self.outcomes.push(outcome);
        }
        let changes = identity::change_accounts(Rc::clone(&sim));
        sim.executor.spawn(CLIENTS, changes);
        self.load()?;
        self.heal()?;
        self.read_back()?;
        self.drain()
    }

    /// One step, and what is checked after each.
    fn step(&mut self) -> Result<Stepped, Wrong> {
        let stepped = self.sim.executor.step();
        // While only time goes on, nothing is counted.
        if stepped == Stepped::Polled {
            self.check_limits();
        }
        if self.sim.executor.steps() > STEPS_MAX {
            self.sim
                .judge
                .borrow_mut()
                .fail("10: the run does not come to an end".to_owned());
        }
        match self.sim.judge.borrow().failure() {
            Some(_) => Err(Wrong),
            None => Ok(stepped),
        }
    }

    fn load(&mut self) -> Result<(), Wrong> {
        let sim = Rc::clone(&self.sim);
        let end = sim.executor.now() + sim.plan.load_ms;
        while sim.executor.now() < end && self.is_any_busy() {
            self.step()?;
            if sim.was_critical() && sim.plan.crash_steps > 0 && self.rng.chance(sim.plan.strikes) {
                // While a disk ails, it is worst once clients have come again.
                let soon = if sim.plan.faults.ails_ms > 0 { 200 } else { 12 };
                self.next_end = sim.executor.steps() + self.rng.below(soon);
            }
            if sim.plan.crash_steps > 0 && sim.executor.steps() >= self.next_end {
                self.end_server()?;
                self.draw_end();
            }
        }
        Ok(())
    }

    fn is_any_busy(&self) -> bool {
        (self.outcomes.iter()).any(|outcome| outcome.get() == Outcome::Busy)
    }

    fn draw_end(&mut self) {
        let plan = &self.sim.plan;
        let is_early = self.rng.chance(plan.crash_in_recovery);
        let mean = if is_early {
            30
        } else {
            plan.crash_steps.max(1)
        };
        self.next_end = self.sim.executor.steps() + self.rng.within(1, 2 * mean);
    }

    fn end_server(&mut self) -> Result<(), Wrong> {
        let sim = Rc::clone(&self.sim);
        let [kill, power, stop] = sim.plan.ends;
        let drawn = self.rng.below(kill + power + stop);
        if drawn < kill {
            sim.kill();
        } else if drawn < kill + power {
            sim.cut_power();
        } else {
            let life = sim.life.borrow().clone();
            let Some(life) = life.filter(|life| !life.is_recovering()) else {
                return Ok(());
            };
            sim.stop();
            while !life.is_stopped.get() {
                self.step()?;
            }
            sim.bury();
        }
        sim.corrupt();
        let down = sim.executor.now() + self.rng.below(3_000);
        while sim.executor.now() < down {
            if self.step()? == Stepped::Idle {
                break;
            }
        }
        sim.start();
        self.step().map(|_| ())
    }

    fn heal(&mut self) -> Result<(), Wrong> {
        let sim = Rc::clone(&self.sim);
        if sim.plan.restarts_at_heal {
            sim.kill();
            sim.start();
        }
        sim.tell(|| "heal".to_owned());
        sim.has_faults.set(false);
        let deadline = sim.executor.now() + LIVENESS_MS;
        while self.is_any_busy() {
            if self.step()? == Stepped::Idle || sim.executor.now() > deadline {
                sim.judge
                    .borrow_mut()
                    .fail("10: honest clients do not finish".to_owned());
            }
        }
        Ok(())
    }

    /// What was uploaded can be read.
    fn read_back(&mut self) -> Result<(), Wrong> {
        let sim = Rc::clone(&self.sim);
        let is_done = Rc::new(Cell::new(false));
        let reader = read_all(Rc::clone(&sim), Rc::clone(&is_done));
        sim.executor.spawn(CLIENTS, reader);
        while !is_done.get() {
            if self.step()? == Stepped::Idle {
                let what = "14: a reader does not come to its end".to_owned();
                sim.judge.borrow_mut().fail(what);
            }
        }
        Ok(())
    }

    /// Everything that was left behind runs out, and then nothing is left.
    fn drain(&mut self) -> Result<(), Wrong> {
        let sim = Rc::clone(&self.sim);
        sim.tell(|| "drain".to_owned());
        let limits = &sim.plan.config.limits;
        let timeout = sim.plan.config.global().policy.session_timeout.as_millis();
        let longest = u64::try_from(timeout).unwrap_or(u64::MAX)
            + limits.tombstone_ms_max
            + limits.idle_ms_max
            + limits.body_stall_ms_max
            // A target that was away is asked again, and again for what it has not taken.
            + if sim.plan.broker.is_some() { 700_000 } else { 0 }
            // So is a store.
            + if sim.plan.store.is_some() { 400_000 } else { 0 }
            + 200_000;
        let end = sim.executor.now() + longest;
        while sim.executor.now() < end {
            self.step()?;
        }
        let Some(life) = sim.life.borrow().clone() else {
            return Ok(());
        };
        let mut left = Vec::new();
        for shard in life.shards.borrow().iter() {
            for (id, _) in shard.store.journal.owing_all() {
                left.push(format!("the event of {id}"));
            }
            let world = &shard.world;
            for (count, what) in [
                (shard.unfinished_len(), "sessions"),
                (shard.store.journal.tombstones().len(), "tombstones"),
                (shard.connections_len(), "connections"),
                (world.heads_out.get(), "head blocks"),
                (world.spares_out.get(), "spare blocks"),
                (world.bodies_out.get(), "body blocks"),
            ] {
                if count > 0 {
                    left.push(format!("{count} {what} of shard {}", shard.index));
                }
            }
        }
        let disk = sim.disk.borrow();
        let is_journal = |name: &String| name.ends_with(".journal");
        let files = disk
            .list()
            .into_iter()
            .filter(|name| !name.ends_with(".aside"));
        let (journals, files): (Vec<_>, Vec<_>) = files.partition(is_journal);
        // Those of former starts are needed until the next one if a shard could not begin its own.
        if life.is_renewed() && journals.len() > life.shards.borrow().len() {
            left.push(format!("journals {journals:?}"));
        }
        if disk.open.len() > journals.len() {
            left.push(format!("{} open files", disk.open.len()));
        }
        if !files.is_empty() {
            left.push(format!("files {files:?}"));
        }
        let tasks = sim.executor.tasks_len(life.number) - life.shards.borrow().len();
        if tasks > 0 {
            left.push(format!("{tasks} tasks"));
        }
        let mut judge = sim.judge.borrow_mut();
        if !left.is_empty() {
            judge.fail(format!("9: left behind: {}", left.join(", ")));
        }
        judge.check_tree(&disk);
        judge.check_outside(sim.plan.targets(), &disk);
        judge.check_chain(sim.ledger.borrow().check());
        judge.check_lines(&sim.ledger.borrow(), "at the end");
        judge.check_store(&sim.store.borrow(), &disk, &sim.ledger.borrow());
        Ok(())
    }

    fn check_limits(&self) {
        let life = self.sim.life.borrow();
        let Some(life) = life.as_ref() else {
            return;
        };
        let limits = &self.sim.plan.config.limits;
        for shard in life.shards.borrow().iter() {
            let connections = shard.connections_len();
            let world = &shard.world;
            let held = [
                (
                    "places",
                    shard.places_taken(),
                    limits.connections_per_shard_max,
                ),
                (
                    "bodies",
                    world.bodies_out.get(),
                    limits.body_blocks_per_shard,
                ),
                (
                    "heads",
                    world.heads_out.get(),
                    connections + limits.mailbox_max,
                ),
            ];
            let over = held.iter().find(|(_, held, most)| held > most);
            if let Some(wrong) = tally::difference(shard) {
                (self.sim.judge.borrow_mut()).fail(format!("15: shard {}: {wrong}", shard.index));
            }
            if let Some((what, held, most)) = over {
                self.sim.judge.borrow_mut().fail(format!(
                    "7: shard {} has {held} {what} and may have {most}",
                    shard.index
                ));
            }
        }
    }
}
