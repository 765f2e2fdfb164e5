//! The custody ledger of the simulator: the chain is the server's own, its file is a model of one.
//!
//! A line is readable as soon as it is written, and survives a power cut when it was synced. Of
//! what was not, a power cut leaves a beginning, perhaps with zeros behind it. A write may reach
//! the file in part and fail; so may a sync, after which nobody knows what the disk has.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use bitsd::bits::session::Ending;
use bitsd::bits::session_id::SessionId;
use bitsd::custody::chain::Chain;
use bitsd::custody::entry::{LedgerEntry, LedgerLine, Scribe};
use bitsd::vault::gate::Gate;

use crate::disk::{Moment, SimDisk};
use crate::rng::Rng;
use crate::sim::Sim;
use crate::world::eio;

/// The ledger of one machine, and the chain of the server that lives.
pub struct Ledger {
    chain: Chain,
    /// What survives a power cut.
    synced: Vec<u8>,
    /// What is written behind that.
    unsynced: Vec<u8>,
    /// When that came to be so long.
    lengths: Vec<(Moment, usize)>,
    /// So much of that counts; the rest failed, and is cut off before the next line.
    kept: usize,
    /// One writes at a time.
    gate: Rc<Gate>,
}

fn chain() -> Chain {
    Chain::new(Scribe {
        host: "sim".to_owned(),
        version: "0".to_owned(),
    })
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            chain: chain(),
            synced: Vec::new(),
            unsynced: Vec::new(),
            lengths: Vec::new(),
            kept: 0,
            gate: Rc::default(),
        }
    }
}

impl Ledger {
    fn all(&self) -> Vec<u8> {
        [&self.synced[..], &self.unsynced].concat()
    }

    /// Whether something was written that was not synced.
    pub fn has_unsynced(&self) -> bool {
        !self.unsynced.is_empty()
    }

    /// A server begins: reads back what is there, and sets a torn end apart. What is wrong with it.
    pub fn begin(&mut self) -> Result<(), String> {
        let all = self.all();
        *self = Self::default();
        let found = self.chain.read_back(&all[..]).expect("memory can be read");
        let whole = usize::try_from(found.whole).expect("in memory");
        self.synced = all[..whole].to_vec();
        match found.broken {
            Some(line) => Err(format!("line {line} does not follow the one before")),
            None => self.check(),
        }
    }

    /// The chain holds from its first line to its last, and no session has two, but for one with
    /// its file behind one without.
    pub fn check(&self) -> Result<(), String> {
        let counted = &self.unsynced[..self.kept.min(self.unsynced.len())];
        let all = [&self.synced[..], counted].concat();
        let found = chain().read_back(&all[..]).expect("memory can be read");
        if found.broken.is_some() || found.whole != all.len() as u64 {
            return Err(format!(
                "the chain does not hold: {found:?} of {}",
                all.len()
            ));
        }
        let mut told = BTreeMap::new();
        for (session, is_good) in sessions(&all) {
            match told.insert(session, is_good) {
                None => {}
                Some(false) if is_good => {}
                Some(_) => return Err(format!("{session} has two lines")),
            }
        }
        Ok(())
    }

    fn extend(&mut self, bytes: &[u8], moment: Moment) {
        self.unsynced.extend(bytes);
        self.lengths.push((moment, self.unsynced.len()));
    }

    /// What was appended counts.
    fn keep(&mut self, is_durable: bool) {
        self.chain.keep();
        match is_durable {
            true => {
                self.synced.append(&mut self.unsynced);
                self.lengths.clear();
                self.kept = 0;
            }
            false => self.kept = self.unsynced.len(),
        }
    }

    /// Whether a session has the line of its file, and whether that survives a power cut.
    pub fn has(&self, id: SessionId) -> (bool, bool) {
        let is_synced = sessions(&self.synced).any(|told| told == (id, true));
        (
            is_synced || sessions(&self.unsynced).any(|told| told == (id, true)),
            is_synced,
        )
    }

    /// The power goes; whether it tore a line.
    pub fn cut_power(&mut self, rng: &mut Rng, disk: &SimDisk) -> bool {
        let mut unsynced = std::mem::take(&mut self.unsynced);
        let lengths = std::mem::take(&mut self.lengths);
        // In order: not longer than its disk knows that it is.
        let survived = lengths.iter().filter(|(at, _)| disk.may_have_survived(*at));
        unsynced.truncate(survived.map(|(_, length)| *length).max().unwrap_or(0));
        self.kept = 0;
        if unsynced.is_empty() {
            return false;
        }
        let left = rng.index(unsynced.len() + 1);
        self.synced.extend(&unsynced[..left]);
        if rng.chance(300) {
            self.synced
                .resize(self.synced.len() + unsynced.len() - left, 0);
        }
        !self.synced.ends_with(b"\n")
    }
}

/// The sessions of whole lines, and whether somebody has their files.
fn sessions(bytes: &[u8]) -> impl Iterator<Item = (SessionId, bool)> {
    let lines = bytes.split(|byte| *byte == b'\n');
    lines.filter_map(|line| {
        let line = LedgerLine::read(line)?;
        Some((line.session_id()?, line.is_good()))
    })
}

/// Writes the line of an upload, or fails to.
pub async fn write(sim: &Rc<Sim>, entry: LedgerEntry, is_durable: bool) -> io::Result<()> {
    let gate = Rc::clone(&sim.ledger.borrow().gate);
    let _turn = gate.turn().await;
    sim.disk_time().await;
    sim.judge
        .borrow_mut()
        .check_line(&entry, &sim.disk.borrow());
    sim.tell(|| format!("ledger: {:?} of {}", entry.ending, entry.session));
    let mut lines = Vec::new();
    {
        let mut ledger = sim.ledger.borrow_mut();
        let kept = ledger.kept;
        ledger.unsynced.truncate(kept);
        for (_, length) in &mut ledger.lengths {
            *length = kept.min(*length);
        }
        ledger.chain.append(&entry, &mut lines);
        if lines.is_empty() {
            sim.marks.hit("line asked for again");
        }
    }
    let fault = match sim.full() {
        // A line that stands there takes no room.
        _ if lines.is_empty() => None,
        None if sim.chance(sim.plan.faults.write) => Some(eio()),
        fault => fault,
    };
    if let Some(fault) = fault {
        sim.marks.hit("ledger refused a line");
        sim.be_critical();
        let partly = sim.below(lines.len() as u64 + 1);
        let mut ledger = sim.ledger.borrow_mut();
        ledger.extend(&lines[..partly], sim.disk.borrow_mut().begin_line());
        ledger.chain.drop_appended();
        return Err(fault);
    }
    let moment = sim.disk.borrow_mut().begin_line();
    sim.ledger.borrow_mut().extend(&lines, moment);
    sim.be_critical();
    sim.disk_time().await;
    let is_clean = sim.ledger.borrow().unsynced.is_empty();
    if is_durable && !is_clean && sim.chance(sim.plan.faults.sync) {
        sim.marks.hit("ledger refused a line");
        sim.be_critical();
        sim.ledger.borrow_mut().chain.drop_appended();
        return Err(eio());
    }
    // A file that did not grow has nothing to commit.
    if is_durable && !sim.ledger.borrow().unsynced.is_empty() {
        sim.disk.borrow_mut().sync_line();
    }
    sim.ledger.borrow_mut().keep(is_durable);
    if is_durable {
        sim.judge
            .borrow_mut()
            .check_durable_line(&entry, &sim.disk.borrow());
    }
    sim.marks.hit(match entry.ending {
        Ending::Published => "line written",
        _ => "line of another ending written",
    });
    sim.be_critical();
    sim.disk_time().await;
    Ok(())
}
