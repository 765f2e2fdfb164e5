//! What all parts of one run share: executor, disk, judge, chance, and the machine on which servers
//! live and die.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use bitsd::server::common::Common;
use bitsd::server::phase::Phase;
use bitsd::server::shard::{Newcomers, Shard};
use bitsd::server::visit::Visit;
use bitsd::server::{recover, serve};
use bitsd::vault::clean_stop::CleanStop;
use bitsd::vault::disk::{Manner, Shelf, Sync};
use bitsd::vault::names::{WorkName, next_generation, parse_name};
use bitsd::vault::readback::{Dealt, Readback};
use bitsd::vault::record::Frames;
use bitsd::vault::space::{Figures, Space};

use crate::broker::Away;
use crate::clock::{Wakers, sleep};
use crate::desk::Desk;
use crate::disk::SimDisk;
use crate::executor::Executor;
use crate::identity::{self, Conversations};
use crate::judge::Judge;
use crate::ledger::Ledger;
use crate::marks::Marks;
use crate::plan::{FOLDER, OTHER, Plan};
use crate::rng::{Rng, mix};
use crate::secure;
use crate::store::SimStore;
use crate::wire::{ClientEnd, Conn, SimWire};
use crate::world::{SimWorld, eio};

/// Lines that a failure shows.
const TAIL_LINES: usize = 50;
/// How long the disk stays full, in milliseconds.
const FULL_MS: u64 = 3_000;

/// One run's world.
pub struct Sim {
    /// What was drawn.
    pub plan: Plan,
    /// Tasks and time.
    pub executor: Rc<Executor>,
    /// The disk.
    pub disk: RefCell<SimDisk>,
    /// The judge.
    pub judge: RefCell<Judge>,
    /// The custody ledger; empty where none is kept.
    pub ledger: RefCell<Ledger>,
    /// The object store; empty where there is none.
    pub store: RefCell<SimStore>,
    /// Coverage.
    pub marks: Marks,
    /// Whether faults and mischief happen still.
    pub has_faults: Cell<bool>,
    /// The server that lives, if one does.
    pub life: RefCell<Option<Rc<Life>>>,
    rng: RefCell<Rng>,
    full_until: Cell<u64>,
    ails_until: Cell<u64>,
    is_critical: Cell<bool>,
    boot: Cell<u128>,
    stopped_cleanly: RefCell<CleanStop>,
    lives: Cell<u64>,
    last_shards: Cell<usize>,
    ports: Cell<u16>,
    /// How often all passwords and tokens have changed.
    pub changes: Cell<u64>,
    /// How many passwords of honest clients the server has found wrong, since they had changed.
    pub wrong: Cell<u32>,
    /// Until when targets of events are away.
    pub brokers_away: Away,
    /// Tickets of which half was taken.
    pub conversations: RefCell<Conversations>,
    conns: RefCell<Vec<Weak<Conn>>>,
    hash: Cell<u64>,
    tail: RefCell<VecDeque<String>>,
    is_traced: bool,
}

/// One life of the server.
pub struct Life {
    /// Its number, and the group of its tasks.
    pub number: u64,
    /// The boot in which it lives.
    pub boot: u128,
    /// What it knows of clean stops.
    pub stopped_cleanly: CleanStop,
    /// The generation of its first journals.
    pub generation: u64,
    /// Its shards.
    pub shards: RefCell<Vec<Rc<Shard<SimWorld>>>>,
    /// What its shards know of the disk's space.
    pub space: Arc<Space>,
    /// What the journals say to each of them, once they have been read.
    dealt: RefCell<Vec<Option<Dealt>>>,
    /// Connections on their way to each shard.
    pub letters: Vec<Cell<usize>>,
    /// Whether it has stopped.
    pub is_stopped: Cell<bool>,
    /// It has synced all disks when it stopped, and not that of the work directory only.
    is_all_synced: Cell<bool>,
    unrecovered: Cell<usize>,
    /// All shards that have recovered have journals of their own.
    is_renewed: Cell<bool>,
    /// Who takes files to the object store, if there is one.
    pub desk: Option<Rc<Desk>>,
    changed: Wakers,
}

impl Life {
    /// Brings a connection to another shard, after a while.
    pub fn deliver(
        self: &Rc<Self>,
        sim: &Rc<Sim>,
        wire: SimWire,
        arrived: Vec<u8>,
        visit: Visit,
        to: usize,
    ) {
        let (life, delay) = (Rc::clone(self), sim.below(20) as u64);
        let executor = Rc::clone(&sim.executor);
        sim.executor.spawn(self.number, async move {
            sleep(&executor, delay).await;
            life.letters[to].set(life.letters[to].get() - 1);
            let shard = Rc::clone(&life.shards.borrow()[to]);
            serve::serve(shard, wire, arrived, visit).await;
        });
    }

    /// Whether all shards that have recovered have journals of their own.
    pub fn is_renewed(&self) -> bool {
        self.is_renewed.get()
    }

    /// Whether sessions are still being read back.
    pub fn is_recovering(&self) -> bool {
        self.unrecovered.get() > 0
    }
}

impl Sim {
    /// The world of a plan, before its first server.
    pub fn new(plan: Plan, is_traced: bool) -> Rc<Self> {
        let mut rng = Rng::new(mix(plan.seed));
        let mut disk = SimDisk::new(plan.reuses_inodes, plan.sector, plan.commits_in_order);
        disk.make_folder(FOLDER, Sync::Yes);
        disk.make_folder(OTHER, Sync::Yes);
        disk.make_folder(&format!("{OTHER}/{FOLDER}"), Sync::Yes);
        let mut store = SimStore::default();
        for (path, bytes) in &plan.old {
            match plan.is_stored(path) {
                true => store.plant(path, bytes),
                false => disk.plant(path, bytes),
            }
        }
        Rc::new(Self {
            executor: Executor::new(rng.fork()),
            disk: RefCell::new(disk),
            judge: RefCell::new(Judge::new(&plan)),
            ledger: RefCell::default(),
            store: RefCell::new(store),
            marks: Marks::default(),
            has_faults: Cell::new(true),
            life: RefCell::default(),
            rng: RefCell::new(rng),
            full_until: Cell::new(0),
            ails_until: Cell::new(0),
            is_critical: Cell::new(false),
            boot: Cell::new(1),
            stopped_cleanly: RefCell::default(),
            lives: Cell::new(0),
            last_shards: Cell::new(0),
            ports: Cell::new(1),
            changes: Cell::new(0),
            wrong: Cell::new(0),
            brokers_away: Away::default(),
            conversations: RefCell::default(),
            conns: RefCell::default(),
            hash: Cell::new(plan.seed),
            tail: RefCell::default(),
            is_traced,
            plan,
        })
    }

    // Telling.

    /// Adds a line to the story: to its hash, and to what a failure shows.
    pub fn tell(&self, line: impl FnOnce() -> String) {
        let line = format!("{:>9} {}", self.executor.now() - 1_000_000, line());
        let mut hash = self.hash.get();
        for byte in line.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.hash.set(hash);
        if self.is_traced {
            println!("{line}");
        }
        let mut tail = self.tail.borrow_mut();
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(line);
    }

    /// What the whole story comes to.
    pub fn hash(&self) -> u64 {
        self.hash.get()
    }

    /// The last lines.
    pub fn tail(&self) -> Vec<String> {
        self.tail.borrow().iter().cloned().collect()
    }

    // Chance.

    /// True in so many of a thousand cases, while there are faults.
    pub fn chance(&self, per_mille: u64) -> bool {
        self.has_faults.get() && self.rng.borrow_mut().chance(per_mille)
    }

    /// An index below `end`.
    pub fn below(&self, end: u64) -> usize {
        usize::try_from(self.rng.borrow_mut().below(end)).expect("an index")
    }

    /// 64 bits.
    pub fn random(&self) -> u64 {
        self.rng.borrow_mut().next()
    }

    // The disk's moods.

    /// Lets others go first, and takes its time now and then.
    pub async fn disk_time(&self) {
        let ms = if self.chance(self.plan.faults.slow) {
            self.marks.hit("slow disk");
            let most = if self.chance(100) { 60_000 } else { 2_000 };
            self.below(most) as u64
        } else if self.rng.borrow_mut().chance(300) {
            self.below(4) as u64
        } else {
            0
        };
        sleep(&self.executor, ms).await;
    }

    /// The error of a full disk, if it is full.
    pub fn full(&self) -> Option<io::Error> {
        // ENOSPC, EDQUOT.
        let code = [28, 122][self.below(2)];
        self.is_full().then(|| {
            self.is_critical.set(true);
            io::Error::from_raw_os_error(code)
        })
    }

    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        if self.plan.faults.full && self.chance(3) {
            self.full_until.set(self.executor.now() + FULL_MS);
        }
        self.has_faults.get() && self.executor.now() < self.full_until.get()
    }

    /// Tells the server what is free, as it would see it now.
    pub fn look_at(&self, space: &Space) {
        let is_full = self.has_faults.get() && self.executor.now() < self.full_until.get();
        let figures = Figures {
            bytes_total: 1 << 20,
            bytes_free: match is_full {
                true => 0,
                // What is reserved is not free.
                false => FREE_BYTES.saturating_sub(space.ahead()),
            },
            inodes_total: 0,
            inodes_free: 0,
        };
        space.look(figures, 1);
    }

    /// An end of the server would be worst now.
    pub fn be_critical(&self) {
        self.is_critical.set(true);
    }

    /// Whether something happened since the last call after which an end of the server is worst.
    pub fn was_critical(&self) -> bool {
        self.is_critical.replace(false)
    }

    /// Excuses the session of a file for what the disk did to it.
    pub fn excuse(&self, name: &str, why: &'static str) {
        self.judge.borrow_mut().excuse_file(name, why);
    }

    /// Whether a sync fails that fails so often. Real disks seldom refuse only one.
    fn sync_fails(&self, rate: u64) -> bool {
        let now = self.executor.now();
        if self.has_faults.get() && now < self.ails_until.get() {
            return true;
        }
        let fails = self.chance(rate);
        if fails {
            self.ails_until.set(now + self.plan.faults.ails_ms);
        }
        fails
    }

    /// Syncs a file, or fails to.
    pub fn sync_file(&self, name: &str, inode: u64) -> io::Result<()> {
        let fails = self.sync_fails(self.plan.faults.sync);
        self.tell(|| format!("disk: sync {name}, fails: {fails}"));
        if fails {
            self.is_critical.set(true);
            self.disk.borrow_mut().fail_sync(inode);
            let life = self.lives.get();
            self.judge.borrow_mut().sync_failed(name, life);
            return Err(eio());
        }
        self.disk.borrow_mut().sync(inode);
        self.is_critical.set(true);
        Ok(())
    }

    /// Brings a file's bytes to the device, or fails to.
    pub fn write_out(&self, name: &str, inode: u64) -> io::Result<()> {
        let fails = self.sync_fails(self.plan.faults.sync);
        self.tell(|| format!("disk: write out {name}, fails: {fails}"));
        self.is_critical.set(true);
        if fails {
            self.disk.borrow_mut().fail_sync(inode);
            let life = self.lives.get();
            self.judge.borrow_mut().sync_failed(name, life);
            return Err(eio());
        }
        self.marks.hit("written out");
        self.disk.borrow_mut().write_out(inode);
        Ok(())
    }

    /// Syncs a journal, or fails to.
    pub fn sync_journal(&self, name: &str, inode: u64) -> io::Result<()> {
        let fails = self.sync_fails(self.plan.faults.sync);
        self.tell(|| format!("disk: sync {name}, fails: {fails}"));
        self.is_critical.set(true);
        let mut disk = self.disk.borrow_mut();
        if fails {
            self.marks.hit("sync of a journal failed");
            self.judge.borrow_mut().record_sync_failed();
            disk.fail_sync(inode);
            return Err(eio());
        }
        disk.sync(inode);
        Ok(())
    }

    /// Syncs a folder, or fails to.
    pub fn sync_folder(&self, what: &str, sync: impl FnOnce(&mut SimDisk)) -> io::Result<()> {
        let fails = self.sync_fails(self.plan.faults.sync_folder);
        self.tell(|| format!("disk: sync folder of {what}, fails: {fails}"));
        if fails {
            self.marks.hit("sync of a directory failed");
            self.is_critical.set(true);
            self.judge.borrow_mut().folder_sync_failed();
            return Err(eio());
        }
        sync(&mut self.disk.borrow_mut());
        Ok(())
    }

    /// Moves a file to its destination, under the judge's eyes.
    pub fn publish(
        &self,
        shelf: Shelf,
        name: &str,
        path: &str,
        manner: Manner,
    ) -> io::Result<Vec<String>> {
        let mut disk = self.disk.borrow_mut();
        let had_folder = !matches!(disk.look_up(path), bitsd::vault::disk::Standing::NoParent);
        let replaces = disk.destination(path).is_some();
        let made = disk.publish(shelf, name, path, manner)?;
        self.is_critical.set(true);
        if shelf != Shelf::WORK {
            self.marks.hit("published on another file system");
        }
        if !had_folder {
            self.marks.hit("create_dirs made folders");
        }
        if replaces {
            self.marks.hit("published and replaced");
        }
        let mut judge = self.judge.borrow_mut();
        if replaces && !self.plan.config.global().policy.allow_overwrite {
            judge.fail(format!("3: {path} was not to be overwritten"));
        }
        judge.published(name, path, &disk);
        Ok(made)
    }

    /// What a server sends, as it sends it.
    pub fn judge_answer(&self, bytes: &[u8]) {
        self.judge.borrow_mut().answered(bytes, self.lives.get());
    }

    // The machine.

    /// The number of the server that lives, or lived last.
    pub fn life_number(&self) -> u64 {
        self.lives.get()
    }

    /// Starts a server.
    pub fn start(self: &Rc<Self>) {
        let count = self.below(self.plan.shards_max) + 1;
        // A start syncs the file of the last day.
        if self.ledger.borrow().has_unsynced() {
            self.disk.borrow_mut().sync_line();
        }
        let checked = self.ledger.borrow_mut().begin();
        self.judge.borrow_mut().check_chain(checked);
        let before = self.last_shards.replace(count);
        if before != 0 && before != count {
            self.marks.hit("restart with another number of shards");
        }
        self.lives.set(self.lives.get() + 1);
        let desk = Desk::open(self, self.lives.get(), self.boot.get());
        let life = Rc::new(Life {
            number: self.lives.get(),
            boot: self.boot.get(),
            stopped_cleanly: self.stopped_cleanly.borrow().clone(),
            generation: next_generation(self.disk.borrow().list().iter().map(String::as_str)),
            is_renewed: Cell::new(true),
            desk,
            shards: RefCell::default(),
            space: Arc::default(),
            dealt: RefCell::default(),
            letters: (0..count).map(|_| Cell::new(0)).collect(),
            is_stopped: Cell::new(false),
            is_all_synced: Cell::new(true),
            unrecovered: Cell::new(count),
            changed: Wakers::default(),
        });
        self.tell(|| {
            format!(
                "start of life {} in boot {} with {count} shards",
                life.number, life.boot
            )
        });
        let mut config = (*self.plan.config).clone();
        config.cores = count;
        if self.plan.identities.is_some() {
            config.accounts = identity::accounts(self.changes.get());
        }
        let config = Arc::new(config);
        let common = Common::of(&config);
        for index in 0..count {
            let world = Rc::new(SimWorld::new(self, &life, index));
            let shard = Shard::new(world, Arc::clone(&config), common.clone(), index, count);
            life.shards.borrow_mut().push(shard);
        }
        let reading = Rc::clone(self).read_journals(Rc::clone(&life), count);
        self.executor.spawn(life.number, reading);
        for shard in life.shards.borrow().iter() {
            let (sim, life, shard) = (Rc::clone(self), Rc::clone(&life), Rc::clone(shard));
            let number = life.number;
            self.executor.spawn(number, sim.run_shard(life, shard));
        }
        *self.life.borrow_mut() = Some(life);
    }

    /// Reads the journals once, for all shards.
    async fn read_journals(self: Rc<Self>, life: Rc<Life>, shards: usize) {
        self.disk_time().await;
        let names = self.disk.borrow().list();
        let mut readback = Readback::new(shards).after(life.stopped_cleanly.clone(), life.boot);
        for name in names {
            match parse_name(&name) {
                WorkName::Journal { generation } if generation < life.generation => {}
                _ => continue,
            }
            self.disk_time().await;
            let disk = self.disk.borrow();
            let bytes = disk.inode(&name).map(|inode| disk.read(inode));
            let read = readback.journal(&name, bytes.expect("nobody removes it yet"));
            read.expect("memory can be read");
        }
        *life.dealt.borrow_mut() = readback.deal().into_iter().map(Some).collect();
        life.changed.wake();
    }

    async fn run_shard(self: Rc<Self>, life: Rc<Life>, shard: Rc<Shard<SimWorld>>) {
        while life.dealt.borrow().is_empty() {
            crate::clock::Park::new(&self.executor, Some(&life.changed), None).await;
        }
        let dealt = life.dealt.borrow_mut()[shard.index].take();
        let dealt = dealt.expect("each shard recovers once");
        let recovered = recover::recover(&shard, life.generation, dealt)
            .await
            .expect("the work directory can be read");
        self.disk_time().await;
        life.is_renewed
            .set(life.is_renewed.get() && recovered.is_renewed);
        life.unrecovered.set(life.unrecovered.get() - 1);
        if life.is_recovering() {
            while life.is_recovering() {
                crate::clock::Park::new(&self.executor, Some(&life.changed), None).await;
            }
        } else {
            let before = self.stopped_cleanly.take();
            let left = before.at_start(life.boot, life.generation, life.is_renewed.get());
            self.stopped_cleanly.replace(left.unwrap_or_default());
            if life.is_renewed.get() {
                bitsd::vault::recover::retire(&*shard.world, life.generation, &recovered.damaged)
                    .await;
            } else {
                self.marks.hit("renewal put off");
            }
            self.judge
                .borrow_mut()
                .recovered(&life.shards.borrow(), &self.marks);
            if let Some(desk) = &life.desk {
                desk.clean_up();
            }
            life.changed.wake();
        }
        shard.begin_serving();
        shard.watch().await;
    }

    /// Stops the server in order; [`Life::is_stopped`] tells when.
    pub fn stop(self: &Rc<Self>) {
        let Some(life) = self.life.borrow().clone() else {
            return;
        };
        self.tell(|| "stop".to_owned());
        self.marks.hit("graceful stop");
        let sim = Rc::clone(self);
        let number = life.number;
        self.executor.spawn(number, async move {
            let limit = sim.executor.now() + sim.plan.config.limits.shutdown_ms_max;
            let shards: Vec<_> = life.shards.borrow().clone();
            for shard in &shards {
                if shard.connections_len() > 0 {
                    sim.marks.hit("drain with connections open");
                }
                shard.drain(Newcomers::Wait);
            }
            let is_busy = || shards.iter().any(|shard| shard.connections_len() > 0);
            while is_busy() && sim.executor.now() < limit {
                sleep(&sim.executor, 50).await;
                for shard in &shards {
                    shard.part_from_idle(Newcomers::Wait);
                }
            }
            for shard in &shards {
                shard.hang_up_all();
            }
            for shard in &shards {
                shard.empty().await;
                shard.note_all_hashing().await;
            }
            sim.disk.borrow_mut().sync_file_system(Shelf::WORK);
            let before = sim.stopped_cleanly.take();
            life.is_all_synced.set(sim.below(3) > 0);
            let unsynced: &[u128] = match life.is_all_synced.get() {
                true => &[],
                false => &[1],
            };
            if unsynced.is_empty() {
                sim.disk.borrow_mut().sync_all();
            }
            let stop = before.at_stop(life.boot, life.is_renewed.get(), unsynced);
            sim.stopped_cleanly.replace(stop);
            life.is_stopped.set(true);
        });
    }

    /// A server that has stopped is gone; the machine may be started anew before the next.
    pub fn bury(&self) {
        let has_new_boot = self.below(2) == 0;
        let life = self.life.borrow().clone();
        let is_all_synced = life.is_none_or(|life| life.is_all_synced.get());
        self.end_life();
        self.disk.borrow_mut().kill();
        let now = self.executor.now();
        self.judge.borrow_mut().stopped(now);
        if has_new_boot {
            self.marks.hit("graceful stop, then a new boot");
            self.boot.set(self.boot.get() + 1);
        }
        if has_new_boot && !is_all_synced {
            self.marks.hit("a disk was not synced at a stop");
            (self.disk.borrow_mut()).disk_loses_power(&mut self.rng.borrow_mut(), Shelf(1));
            let mut judge = self.judge.borrow_mut();
            judge.disk_lost_power(&self.disk.borrow(), &self.marks, now, Shelf(1));
        }
    }

    /// `kill -9`.
    pub fn kill(&self) {
        self.tell(|| "KILL".to_owned());
        self.marks.hit("kill");
        if self.end_life() {
            self.marks.hit("kill during recovery");
        }
        self.disk.borrow_mut().kill();
        self.judge
            .borrow_mut()
            .killed(&self.disk.borrow(), self.executor.now());
        let ledger = self.ledger.borrow();
        self.judge.borrow_mut().check_lines(&ledger, "after a kill");
    }

    /// The power goes and comes back.
    pub fn cut_power(&self) {
        self.tell(|| "POWER CUT".to_owned());
        self.marks.hit("power cut");
        if self.end_life() {
            self.marks.hit("power cut during recovery");
        }
        for conn in self.conns.borrow_mut().drain(..) {
            if let Some(conn) = conn.upgrade() {
                ClientEnd::new(conn).reset();
            }
        }
        let lost = self.disk.borrow_mut().cut_power(&mut self.rng.borrow_mut());
        if lost > 0 {
            self.marks.hit("power cut took names back");
        }
        self.boot.set(self.boot.get() + 1);
        let now = self.executor.now();
        self.judge
            .borrow_mut()
            .power_cut(&self.disk.borrow(), &self.marks, now);
        let mut ledger = self.ledger.borrow_mut();
        if ledger.cut_power(&mut self.rng.borrow_mut(), &self.disk.borrow()) {
            self.marks.hit("ledger torn by a power cut");
        }
        let when = "after a power cut";
        self.judge.borrow_mut().check_lines(&ledger, when);
    }

    /// Whether it was recovering.
    fn end_life(&self) -> bool {
        let Some(life) = self.life.borrow_mut().take() else {
            return false;
        };
        let was_recovering = life.is_recovering();
        self.executor.cancel(life.number);
        // A shard's world knows its life: the circle is broken here.
        life.shards.borrow_mut().clear();
        was_recovering
    }

    /// Damages a journal, as a medium does in the dark.
    pub fn corrupt(&self) {
        if !self.chance(self.plan.faults.corrupt) {
            return;
        }
        let names = self.disk.borrow().list();
        let journals: Vec<_> = names
            .iter()
            .filter(|name| name.ends_with(".journal"))
            .collect();
        if journals.is_empty() {
            return;
        }
        let name = journals[self.below(journals.len() as u64)];
        let mut disk = self.disk.borrow_mut();
        let inode = disk.inode(name).expect("listed above");
        let bytes = disk.read(inode).to_vec();
        if bytes.is_empty() {
            return;
        }
        let count = 1 + self.below(3);
        let places: Vec<usize> = (0..count).map(|_| self.below(bytes.len() as u64)).collect();
        let before: BTreeMap<_, _> = Frames::of(&bytes)
            .map(|f| ((f.id, f.sequence), ()))
            .collect();
        for &at in &places {
            disk.corrupt(inode, at, 1 << self.below(8));
        }
        let after: BTreeMap<_, _> = (Frames::of(disk.read(inode)))
            .map(|frame| ((frame.id, frame.sequence), ()))
            .collect();
        drop(disk);
        self.marks.hit("record damaged");
        self.tell(|| format!("corrupt {name} at {places:?}"));
        if after.len() < before.len() {
            self.judge.borrow_mut().records_are_damaged();
        }
        for (id, sequence) in before.keys() {
            if !after.contains_key(&(*id, *sequence)) {
                self.judge.borrow_mut().record_is_damaged(*id);
            }
        }
    }

    /// A client connects; `None` if nobody listens.
    pub fn connect(self: &Rc<Self>, upload: usize) -> Option<ClientEnd> {
        self.connect_from(identity::HONEST, Some(upload))
    }

    /// A connection from an address, by which an upload is sent or nothing at all.
    pub fn connect_from(
        self: &Rc<Self>,
        address: [u8; 4],
        upload: Option<usize>,
    ) -> Option<ClientEnd> {
        let life = self.life.borrow().clone()?;
        let shards = life.shards.borrow();
        let shard = Rc::clone(&shards[self.below(shards.len() as u64)]);
        if shard.phase() == Phase::Draining || life.is_stopped.get() {
            return None;
        }
        let port = self.ports.get();
        self.ports.set(port.checked_add(1).unwrap_or(1));
        let peer = SocketAddr::from((address, port));
        if let Some(upload) = upload {
            self.judge.borrow_mut().connected(peer, upload);
        }
        let rng = self.rng.borrow_mut().fork();
        let conn = Conn::open(self, peer, self.plan.weather, rng);
        let mut conns = self.conns.borrow_mut();
        conns.retain(|conn| conn.strong_count() > 0);
        conns.push(Rc::downgrade(&conn));
        let tls = (self.plan.is_secure).then(|| secure::server_side(&shard.world.kit));
        let wire = SimWire::new(&conn, tls);
        self.executor.spawn(
            life.number,
            serve::serve(shard, wire, Vec::new(), Visit::default()),
        );
        Some(match self.plan.is_secure {
            true => ClientEnd::secure(conn),
            false => ClientEnd::new(conn),
        })
    }
}

/// Free bytes, as far as reservations are told; the files themselves do not count here.
pub const FREE_BYTES: u64 = 1 << 16;
