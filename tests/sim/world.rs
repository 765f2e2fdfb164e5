//! The simulator's [`Floor`] and [`Disk`]: one shard's view of virtual time, memory, disk and the
//! other shards.
//!
//! Every operation lets others run before and after it takes effect, and writes in between too: a
//! crash therefore finds it done, half done, or not begun.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use bitsd::auth::hash::{Attempt, TooManyAttempts};
use bitsd::auth::negotiation::{Leg, Negotiated, NotNegotiated};
use bitsd::bits::notification::Answer;
use bitsd::bits::session_id::SessionId;
use bitsd::custody::entry::LedgerEntry;
use bitsd::event::Event;
use bitsd::metrics::shard::ShardMetrics;
use bitsd::ring::tls::wire::Kit;
use bitsd::server::chronicle::Chronicle;
use bitsd::server::floor::{CloudEvent, Floor, HandOverFull, NotifyError, Order};
use bitsd::server::object_order::{ObjectError, ObjectOrder, Storing};
use bitsd::server::visit::Visit;
use bitsd::vault::disk::{
    Block, Commit, Disk, File, Log, Manner, Millis, Place, Published, Readable, ReplyStat, Runtime,
    Shelf, Standing, WorkFiles, WorkStat,
};
use bitsd::vault::names::NamesOf;
use bitsd::vault::owed::EventTarget;
use bitsd::vault::space::Space;

use crate::clock::sleep;
use crate::desk::Desk;
use crate::disk::{self, SimDisk};
use crate::identity;
use crate::ledger;
use crate::sim::{FREE_BYTES, Life, Sim};
use crate::tally::{SERIES, Tally};
use crate::wire::SimWire;

/// Memory, counted while it is out.
pub struct SimBlock {
    bytes: Vec<u8>,
    /// As how many it counts.
    weight: usize,
    out: Rc<Cell<usize>>,
}

impl SimBlock {
    fn new(bytes: usize, out: &Rc<Cell<usize>>) -> Self {
        Self::several(1, bytes, out)
    }

    /// So many that lie side by side, as one.
    fn several(weight: usize, bytes: usize, out: &Rc<Cell<usize>>) -> Self {
        out.set(out.get() + weight);
        Self {
            bytes: vec![0xa5; weight * bytes],
            weight,
            out: Rc::clone(out),
        }
    }
}

impl Drop for SimBlock {
    fn drop(&mut self) {
        self.out.set(self.out.get() - self.weight);
    }
}

impl Block for SimBlock {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

/// One shard's outside.
pub struct SimWorld {
    sim: Rc<Sim>,
    life: Rc<Life>,
    shard: usize,
    /// What it counts.
    pub metrics: ShardMetrics,
    /// What happened lately on it.
    pub chronicle: RefCell<Chronicle>,
    /// What it should have counted.
    pub tally: RefCell<Tally>,
    /// What its secure connections have in common.
    pub kit: Rc<Kit>,
    /// Head blocks that are out.
    pub heads_out: Rc<Cell<usize>>,
    /// Blocks of that length for bytes that are read again.
    pub spares_out: Rc<Cell<usize>>,
    /// Body blocks that are out.
    pub bodies_out: Rc<Cell<usize>>,
}

impl SimWorld {
    /// One shard of one life of the server.
    pub fn new(sim: &Rc<Sim>, life: &Rc<Life>, shard: usize) -> Self {
        Self {
            sim: Rc::clone(sim),
            life: Rc::clone(life),
            shard,
            metrics: ShardMetrics::default(),
            chronicle: RefCell::default(),
            tally: RefCell::default(),
            kit: Rc::default(),
            heads_out: Rc::default(),
            spares_out: Rc::default(),
            bodies_out: Rc::default(),
        }
    }

    /// One operation that takes effect at once.
    async fn op<T>(&self, what: &str, apply: impl FnOnce(&mut SimDisk) -> T) -> T {
        self.sim.disk_time().await;
        let result = apply(&mut self.sim.disk.borrow_mut());
        self.sim.tell(|| format!("disk {}: {what}", self.shard));
        self.sim.disk_time().await;
        result
    }

    /// Fails where too many wait for a disk that does not answer.
    fn admit(&self) -> io::Result<()> {
        // What is read back at start waits alone.
        let may_fail = !self.life.is_recovering();
        if may_fail && self.sim.chance(self.sim.plan.faults.unanswered) {
            self.sim.marks.hit("disk did not answer");
            // ETIMEDOUT.
            return Err(io::Error::from_raw_os_error(110));
        }
        Ok(())
    }

    fn file(&self, name: &str, inode: u64) -> SimFile {
        self.sim.disk.borrow_mut().opened(inode);
        SimFile {
            sim: Rc::clone(&self.sim),
            life: self.life.number,
            shard: self.shard,
            name: name.to_owned(),
            inode,
        }
    }

    fn desk(&self) -> &Rc<Desk> {
        let desk = self.life.desk.as_ref();
        desk.expect("nobody asks where there is no store")
    }
}

/// An open part.
pub struct SimFile {
    sim: Rc<Sim>,
    life: u64,
    shard: usize,
    name: String,
    inode: u64,
}

impl SimFile {
    /// One that is read by others than a shard.
    pub fn open(sim: &Rc<Sim>, life: u64, name: &str, inode: u64) -> Self {
        sim.disk.borrow_mut().opened(inode);
        Self {
            sim: Rc::clone(sim),
            life,
            shard: usize::MAX,
            name: name.to_owned(),
            inode,
        }
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.sim.disk.borrow_mut().closed(self.inode);
    }
}

/// Counts a write while it is under way, however it ends.
struct Writing<'a>(&'a SimFile);

impl<'a> Writing<'a> {
    fn begin(file: &'a SimFile) -> Self {
        file.sim
            .judge
            .borrow_mut()
            .writing(file.inode, &file.name, file.shard, file.life);
        Self(file)
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.sim.judge.borrow_mut().written(self.0.inode);
    }
}

impl SimFile {
    fn apply(&self, bytes: &[u8], offset: u64) {
        let now = self.sim.executor.now();
        let mut disk = self.sim.disk.borrow_mut();
        let length = disk.read(self.inode).len() as u64;
        let mut judge = self.sim.judge.borrow_mut();
        judge.wrote(&self.name, length, offset, bytes, now);
        disk.write(self.inode, offset, bytes, now);
    }
}

impl Readable for SimFile {
    type Block = SimBlock;

    async fn read_at(
        &self,
        mut block: SimBlock,
        range: Range<usize>,
        offset: u64,
    ) -> (io::Result<usize>, SimBlock) {
        self.sim.disk_time().await;
        let disk = self.sim.disk.borrow();
        let offset = usize::try_from(offset).expect("small files");
        let left = disk.read(self.inode).get(offset..).unwrap_or_default();
        let most = left.len().min(range.len());
        let read = if most > 1 {
            self.sim.below(most as u64 - 1) + 1
        } else {
            most
        };
        block.bytes_mut()[range.start..range.start + read].copy_from_slice(&left[..read]);
        (Ok(read), block)
    }
}

impl File for SimFile {
    async fn write_at(
        &self,
        block: SimBlock,
        range: Range<usize>,
        offset: u64,
    ) -> (io::Result<usize>, SimBlock) {
        let sim = &self.sim;
        let writing = Writing::begin(self);
        sim.disk_time().await;
        let faults = &sim.plan.faults;
        let whole = range.len();
        let result = if let Some(full) = sim.full() {
            Err(full)
        } else if sim.chance(faults.write) {
            let partly = sim.below(whole as u64 + 1);
            if partly == 0 {
                // ENOMEM: nothing was written, and nothing may be lost by it.
                sim.marks.hit("write refused for want of memory");
                Err(io::Error::from_raw_os_error(12))
            } else {
                sim.excuse(&self.name, "a write failed");
                self.apply(&block.bytes()[range.start..range.start + partly], offset);
                Err(eio())
            }
        } else {
            let mut taken = whole;
            if whole > 1 && sim.chance(faults.short) {
                taken = sim.below(whole as u64 - 1) + 1;
                sim.marks.hit("short write");
            }
            let first = sim.below(taken as u64 + 1);
            let bytes = &block.bytes()[range.start..range.start + taken];
            if first > 0 {
                self.apply(&bytes[..first], offset);
                sim.disk_time().await;
            }
            if first < taken {
                self.apply(&bytes[first..], offset + first as u64);
            }
            Ok(taken)
        };
        sim.tell(|| {
            format!(
                "disk {}: write {} at {offset}: {result:?}",
                self.shard, self.name
            )
        });
        sim.disk_time().await;
        drop(writing);
        (result, block)
    }

    async fn write_shown(
        &self,
        block: SimBlock,
        range: Range<usize>,
        offset: u64,
        mut show: impl FnMut(&[u8]),
    ) -> (io::Result<usize>, SimBlock) {
        let bytes = &block.bytes()[range.clone()];
        // In pieces, before the disk has taken any. Nothing is drawn: runs without digests are the
        // same.
        let first = bytes.len() / 3;
        show(&bytes[..first]);
        show(&bytes[first..]);
        self.write_at(block, range, offset).await
    }

    async fn expect(&self, bytes: u64) -> io::Result<()> {
        let largest = self.sim.plan.largest_file;
        if largest.is_some_and(|largest| bytes > largest) {
            // EFBIG.
            return Err(io::Error::from_raw_os_error(27));
        }
        Ok(())
    }

    async fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        let sim = &self.sim;
        sim.disk_time().await;
        if let Some(full) = sim.full() {
            return Err(full);
        }
        let length = sim.disk.borrow().read(self.inode).len() as u64;
        let ahead_of_all = sim.disk.borrow_mut().reserve(self.inode, range.end);
        sim.marks.hit("space reserved");
        sim.tell(|| format!("disk {}: reserve {range:?} of {}", self.shard, self.name));
        let ahead = range.end.saturating_sub(length);
        let mut judge = sim.judge.borrow_mut();
        // What is in hand may be more than what came before it.
        let limits = &sim.plan.config.limits;
        let in_hand = (2 * limits.block_bytes).max(limits.head_bytes_max) as u64;
        if range.start > range.end || ahead > length.max(in_hand) {
            judge.fail(format!(
                "9: {ahead} bytes reserved for a file of {length} bytes"
            ));
        }
        // What a life before has left is counted only when it is found.
        let share = sim.plan.config.limits.reserve_share_max;
        if self.life == 1 && ahead_of_all > FREE_BYTES / 100 * share {
            judge.fail(format!(
                "9: {ahead_of_all} bytes reserved, over {share} % of what is free"
            ));
        }
        Ok(())
    }

    async fn give_back(&self, bytes: u64) -> io::Result<()> {
        let sim = &self.sim;
        sim.disk_time().await;
        let length = sim.disk.borrow().read(self.inode).len() as u64;
        if length != bytes {
            let why = format!("9: {bytes} bytes would be kept of {length}");
            sim.judge.borrow_mut().fail(why);
        }
        if sim.disk.borrow_mut().give_back(self.inode) {
            sim.marks.hit("reservation given back");
        }
        Ok(())
    }

    async fn sync_data(&self) -> io::Result<()> {
        self.sim.disk_time().await;
        let result = self.sim.sync_file(&self.name, self.inode);
        self.sim.disk_time().await;
        result
    }

    async fn write_out(&self) -> io::Result<()> {
        self.sim.disk_time().await;
        let result = self.sim.write_out(&self.name, self.inode);
        self.sim.disk_time().await;
        result
    }

    async fn length(&self) -> io::Result<u64> {
        // Nothing is drawn: it is a look at what the kernel has in memory.
        Ok(self.sim.disk.borrow().read(self.inode).len() as u64)
    }

    fn inode(&self) -> u64 {
        self.inode
    }

    async fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.sim.disk_time().await;
        let life = self.sim.life.borrow().clone();
        if life.is_some_and(|life| !life.is_recovering()) {
            self.sim.marks.hit("bytes that were given up made room");
        }
        self.sim.disk.borrow_mut().truncate(self.inode, bytes);
        self.sim
            .tell(|| format!("disk {}: truncate {} to {bytes}", self.shard, self.name));
        self.sim.disk_time().await;
        Ok(())
    }
}

/// A journal.
pub struct SimLog {
    file: SimFile,
    end: Cell<u64>,
}

impl Log for SimLog {
    async fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let (file, sim) = (&self.file, &self.file.sim);
        sim.disk_time().await;
        let fault = if let Some(full) = sim.full() {
            Some(full)
        } else if sim.chance(sim.plan.faults.write) {
            Some(eio())
        } else {
            None
        };
        let taken = match fault {
            Some(_) if bytes.is_empty() => 0,
            Some(_) => sim.below(bytes.len() as u64),
            None => bytes.len(),
        };
        let end = self.end.get() + bytes.len() as u64;
        if end > sim.plan.config.limits.journal_bytes_max {
            let what = format!("7: {} grows to {end} bytes", file.name);
            sim.judge.borrow_mut().fail(what);
        }
        // So small a write is not cut in two by the end of the process, only by the disk.
        if taken > 0 {
            let mut disk = sim.disk.borrow_mut();
            disk.write(
                file.inode,
                self.end.get(),
                &bytes[..taken],
                sim.executor.now(),
            );
        }
        sim.tell(|| format!("disk {}: append to {}: {fault:?}", file.shard, file.name));
        sim.disk_time().await;
        match fault {
            // EIO, ENOMEM, EROFS, EACCES, ETIMEDOUT, ESTALE, EFBIG, or that of a full disk: a
            // record that could not be written harms nothing, whatever the reason.
            Some(fault) => {
                sim.marks.hit("append refused");
                sim.judge.borrow_mut().record_refused();
                let errnos = [5, 12, 30, 13, 110, 116, 27];
                Err(match fault.raw_os_error() {
                    Some(5) => io::Error::from_raw_os_error(errnos[taken % errnos.len()]),
                    _ => fault,
                })
            }
            None => {
                self.end.set(self.end.get() + bytes.len() as u64);
                Ok(())
            }
        }
    }

    async fn sync(&self) -> io::Result<()> {
        let (file, sim) = (&self.file, &self.file.sim);
        sim.disk_time().await;
        let result = sim.sync_journal(&file.name, file.inode);
        sim.disk_time().await;
        result
    }
}

impl Runtime for SimWorld {
    fn now(&self) -> Millis {
        self.sim.executor.now()
    }

    fn wall_clock_ms(&self) -> u64 {
        1_700_000_000_000 + self.sim.executor.now()
    }

    fn emit(&self, event: Event<'_>) {
        self.sim.tell(|| format!("shard {}: {event:?}", self.shard));
        self.metrics.on(&event);
        self.chronicle.borrow_mut().note(self.now(), &event);
        self.tally.borrow_mut().note(&event);
        identity::count_wrong(&self.sim, &event);
        self.sim
            .judge
            .borrow_mut()
            .event(&event, &self.sim, self.life.number);
    }

    async fn give_way(&self) {
        self.sim.marks.hit("gave way");
        sleep(&self.sim.executor, 0).await;
    }
}

impl Floor for SimWorld {
    type Wire = SimWire;
    type Block = SimBlock;

    fn random(&self) -> [u8; 16] {
        let (high, low) = (self.sim.random(), self.sim.random());
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high.to_le_bytes());
        bytes[8..].copy_from_slice(&low.to_le_bytes());
        bytes
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.sim.executor.spawn(self.life.number, task);
    }

    fn metrics(&self) -> &ShardMetrics {
        &self.metrics
    }

    fn chronicle(&self) -> &RefCell<Chronicle> {
        &self.chronicle
    }

    fn series(&self, _prefix: &str) -> usize {
        SERIES
    }

    async fn tick(&self) {
        sleep(&self.sim.executor, 1_000).await;
    }

    async fn pass(&self, wait: Millis) {
        sleep(&self.sim.executor, wait).await;
    }

    fn head_block(&self) -> SimBlock {
        SimBlock::new(self.sim.plan.config.limits.head_bytes_max, &self.heads_out)
    }

    fn spare_block(&self) -> SimBlock {
        SimBlock::new(self.sim.plan.config.limits.head_bytes_max, &self.spares_out)
    }

    fn long_head_block(&self, _: Option<IpAddr>) -> Option<SimBlock> {
        // No head of these clients is longer than a head block.
        None
    }

    fn body_block(&self, expected: u64) -> Option<SimBlock> {
        let limits = &self.sim.plan.config.limits;
        let free = limits.body_blocks_per_shard - self.bodies_out.get();
        let is_long = expected >= 2 * limits.block_bytes as u64;
        let count = free.min(if is_long { 2 } else { 1 });
        (count > 0).then(|| SimBlock::several(count, limits.block_bytes, &self.bodies_out))
    }

    fn hand_over(
        &self,
        wire: &SimWire,
        arrived: &[u8],
        visit: &Visit,
        to: usize,
    ) -> Result<(), HandOverFull> {
        let letters = &self.life.letters[to];
        if letters.get() >= self.sim.plan.config.limits.mailbox_max {
            self.sim.marks.hit("hand-over full");
            return Err(HandOverFull);
        }
        self.sim.marks.hit("hand-over");
        letters.set(letters.get() + 1);
        let kit = Rc::clone(&self.life.shards.borrow()[to].world.kit);
        let (wire, arrived, visit) = (wire.hand_over(&kit), arrived.to_vec(), visit.clone());
        self.life.deliver(&self.sim, wire, arrived, visit, to);
        Ok(())
    }

    async fn verify(&self, attempt: Attempt) -> Result<bool, TooManyAttempts> {
        identity::verify(&self.sim, &attempt).await
    }

    async fn negotiate(&self, leg: Leg) -> Result<Negotiated, NotNegotiated> {
        identity::negotiate(&self.sim, leg).await
    }

    async fn tell_outside(&self, target: EventTarget, event: CloudEvent) -> Result<(), String> {
        let broker = self.sim.plan.broker.as_ref();
        let broker = broker.expect("nobody is told where nobody listens");
        broker.hear(&self.sim, target, event).await
    }

    fn keeps_custody(&self) -> bool {
        self.sim.plan.keeps_custody
    }

    async fn write_line(&self, entry: LedgerEntry, is_durable: bool) -> io::Result<()> {
        ledger::write(&self.sim, entry, is_durable).await
    }

    fn tell_line(&self, entry: LedgerEntry) {
        let sim = Rc::clone(&self.sim);
        self.spawn(async move {
            let _nobody_waits = ledger::write(&sim, entry, false).await;
        });
    }

    fn claim_object(&self, order: &ObjectOrder) -> bool {
        self.desk().claim(order)
    }

    fn release_object(&self, session: SessionId) {
        self.desk().release(session);
    }

    async fn store_object(
        &self,
        order: &ObjectOrder,
        wait: Millis,
    ) -> Result<Storing, ObjectError> {
        self.desk().deliver(order, wait).await
    }

    fn send_ahead(&self, order: &ObjectOrder, acked: u64) {
        self.desk().send_ahead(order, acked);
    }

    async fn await_object(&self, session: SessionId, wait: Millis) {
        self.desk().await_end(session, wait).await;
    }

    fn stop_object(&self, session: SessionId) {
        if let Some(desk) = &self.life.desk {
            desk.stop(session);
        }
    }

    fn abandon_object(&self, session: SessionId) {
        if let Some(desk) = &self.life.desk {
            desk.abandon(session);
        }
    }

    async fn notify(&self, order: Order) -> Result<Answer, NotifyError> {
        let application = self.sim.plan.application.as_ref();
        let application = application.expect("nobody is told where nobody listens");
        application.hear(&self.sim, &order).await
    }
}

impl WorkFiles for SimWorld {
    type File = SimFile;
    type Log = SimLog;

    fn boot_id(&self) -> u128 {
        self.life.boot
    }

    fn was_stopped_cleanly(&self, boot_id: u128, shelf: Option<Shelf>) -> bool {
        let stop = &self.life.stopped_cleanly;
        match shelf {
            Some(Shelf::WORK) => stop.covers(boot_id),
            Some(Shelf(number)) => stop.covers_shelf(boot_id, Some(number.into())),
            None => stop.covers_shelf(boot_id, None),
        }
    }

    fn shelves(&self) -> Vec<Shelf> {
        (0..self.sim.plan.config.roots.len())
            .map(|root| Shelf(u16::try_from(root).expect("few")))
            .collect()
    }

    fn commits_in_order(&self, shelf: Shelf) -> Option<Commit> {
        let commit = match shelf {
            Shelf::WORK => Commit::Journal,
            _ => Commit::Shelf,
        };
        (self.sim.disk.borrow().commits_in_order()).then_some(commit)
    }

    fn line_commits(&self, shelf: Shelf) -> bool {
        self.keeps_custody() && self.commits_in_order(shelf) == Some(Commit::Journal)
    }

    fn space(&self, _shelf: Shelf) -> Arc<Space> {
        self.sim.look_at(&self.life.space);
        Arc::clone(&self.life.space)
    }

    async fn create(&self, shelf: Shelf, name: &str) -> io::Result<SimFile> {
        self.admit()?;
        let now = self.now();
        if let Some(full) = self.sim.full() {
            self.sim.disk_time().await;
            return Err(full);
        }
        self.sim.disk_time().await;
        let inode = self.sim.disk.borrow_mut().create(shelf, name, now)?;
        let file = self.file(name, inode);
        self.sim
            .tell(|| format!("disk {}: create {name} as {inode}", self.shard));
        self.sim.disk_time().await;
        Ok(file)
    }

    async fn open(&self, shelf: Shelf, name: &str) -> io::Result<SimFile> {
        self.admit()?;
        self.sim.disk_time().await;
        let inode = self.sim.disk.borrow().inode_on(shelf, name);
        let inode = inode.ok_or(io::ErrorKind::NotFound)?;
        let file = self.file(name, inode);
        self.sim.disk_time().await;
        Ok(file)
    }

    async fn stat(&self, shelf: Shelf, name: &str) -> io::Result<Option<WorkStat>> {
        let now = self.now();
        Ok(self.op("stat", |disk| disk.stat(shelf, name, now)).await)
    }

    async fn create_log(&self, name: &str) -> io::Result<SimLog> {
        let file = self.create(Shelf::WORK, name).await;
        // No record can be written without it either.
        let file = file.inspect_err(|_| self.sim.judge.borrow_mut().record_refused())?;
        Ok(SimLog {
            file,
            end: Cell::new(0),
        })
    }

    async fn open_reply(
        &self,
        shelf: Shelf,
        name: &str,
    ) -> io::Result<Option<(SimFile, ReplyStat)>> {
        self.admit()?;
        self.sim.disk_time().await;
        let Some(inode) = self.sim.disk.borrow().inode_on(shelf, name) else {
            return Ok(None);
        };
        let reply = ReplyStat {
            sha256: None,
            bytes: self.sim.disk.borrow().read(inode).len() as u64,
            modified_s: 1,
            modified_nanos: 0,
            inode,
        };
        Ok(Some((self.file(name, inode), reply)))
    }

    async fn remove(&self, shelf: Shelf, name: &str) -> io::Result<()> {
        if name.ends_with(".journal") {
            self.sim.marks.hit("journal retired");
        }
        self.op(&format!("remove {name}"), |disk| disk.remove(shelf, name))
            .await;
        Ok(())
    }

    async fn rename(&self, shelf: Shelf, from: &str, to: &str) -> io::Result<()> {
        self.op(&format!("rename {from} to {to}"), |disk| {
            disk.rename(shelf, from, to)
        })
        .await
    }

    async fn list(&self, shelf: Shelf, wanted: NamesOf) -> io::Result<Vec<String>> {
        let mut names = self.op("list", |disk| disk.list_of(shelf)).await;
        names.retain(|name| wanted.has(name));
        Ok(names)
    }

    async fn sync_shelf(&self, shelf: Shelf) -> io::Result<()> {
        self.sim.disk_time().await;
        let result = self
            .sim
            .sync_folder(&format!("shard {}", self.shard), |disk| {
                disk.sync_shelf(shelf);
            });
        self.sim.disk_time().await;
        result
    }
}

impl Disk for SimWorld {
    type Published = SimPublished;

    fn shelf(&self, place: &Place) -> Shelf {
        disk::shelf_of(place.path.as_str())
    }

    async fn look_up(&self, place: &Place, _: Option<Manner>) -> io::Result<Standing> {
        self.admit()?;
        let standing = self
            .op("look up", |disk| disk.look_up(place.path.as_str()))
            .await;
        if let Standing::File { .. } = standing
            && self.life.is_recovering()
        {
            self.sim.marks.hit("inode survived a rename");
        }
        Ok(standing)
    }

    async fn open_published(&self, place: &Place) -> io::Result<Option<(SimFile, ReplyStat)>> {
        self.admit()?;
        self.sim.disk_time().await;
        let standing = self.sim.disk.borrow().look_up(place.path.as_str());
        let Standing::File { inode, bytes } = standing else {
            return Ok(None);
        };
        let stat = ReplyStat {
            sha256: None,
            bytes,
            modified_s: 1,
            modified_nanos: 0,
            inode,
        };
        Ok(Some((self.file(place.path.as_str(), inode), stat)))
    }

    async fn publish(
        &self,
        shelf: Shelf,
        name: &str,
        place: &Place,
        manner: Manner,
    ) -> io::Result<SimPublished> {
        self.admit()?;
        self.sim.disk_time().await;
        if let Some(full) = self.sim.full() {
            return Err(full);
        }
        if self.life.is_recovering() {
            self.sim.marks.hit("publication finished at recovery");
        }
        let path = place.path.as_str();
        let result = self.sim.publish(shelf, name, path, manner);
        self.sim.tell(|| {
            format!(
                "disk {}: publish {name} as {path:?}: {result:?}",
                self.shard
            )
        });
        self.sim.disk_time().await;
        result?;
        Ok(SimPublished {
            sim: Rc::clone(&self.sim),
            path: path.to_owned(),
        })
    }

    async fn take_back(
        &self,
        shelf: Shelf,
        name: &str,
        place: &Place,
        inode: u64,
    ) -> io::Result<bool> {
        let (sim, path) = (&self.sim, place.path.as_str());
        sim.disk_time().await;
        if sim.chance(sim.plan.faults.sync_folder) {
            return Err(eio());
        }
        sim.be_critical();
        let taken = (sim.disk.borrow_mut()).take_back(shelf, name, path, inode);
        sim.tell(|| format!("disk {}: take {name} back: {taken}", self.shard));
        if taken {
            sim.marks.hit("name given anew");
        }
        sim.disk_time().await;
        Ok(taken)
    }

    async fn sync_destination(&self, place: &Place) -> io::Result<()> {
        sync_destination(&self.sim, place.path.as_str()).await
    }
}

/// A file that has just got its name.
pub struct SimPublished {
    sim: Rc<Sim>,
    path: String,
}

impl Published for SimPublished {
    async fn sync(&self) -> io::Result<()> {
        sync_destination(&self.sim, &self.path).await
    }
}

async fn sync_destination(sim: &Sim, path: &str) -> io::Result<()> {
    sim.disk_time().await;
    let result = sim.sync_folder(path, |disk| disk.sync_destination(path));
    if result.is_err() {
        sim.disk.borrow_mut().lose_name(path);
        sim.judge.borrow_mut().name_lost(path);
    }
    sim.disk_time().await;
    result
}

/// The disk failed.
pub fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}
