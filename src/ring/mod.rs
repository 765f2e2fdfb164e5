//! The server's [`Floor`] and [`Disk`](crate::vault::disk::Disk) on tokio-uring: the only place
//! that knows the ring, the descriptors of the shards and, but for the system's Kerberos
//! ([`crate::verify::gssapi`]), `unsafe`.
//!
//! # The four house rules of the ring
//!
//! Each is a test in `tests/ring.rs`.
//!
//! 1. **Never drop a pending operation.** No `select!`, no `timeout` around one: a dropped receive
//!    goes on in the kernel and swallows the next bytes of its connection.
//! 2. **To stop waiting, shut down and await.** The watchdog calls `shutdown`; the receive then
//!    returns 0. A receive of a whole block can also be hurried: it is cancelled and comes back
//!    with what it has.
//! 3. **Move a connection only between operations**, by a duplicated descriptor.
//! 4. **Owned buffers, always returned**, also on error.
//!
//! tokio-uring is not maintained. Five files name it: this one, [`op`], [`queue`], [`blocks::body`]
//! and [`blocks::pages`]. Nothing else would change with it.
#![allow(unsafe_code)]

pub mod account;
pub mod afoot;
pub mod blocks;
mod boot;
mod bounded_wait;
mod commit_file;
pub mod commit_log;
pub mod counting;
mod descriptor;
mod descriptors;
mod destinations;
pub mod directories;
pub mod disk;
pub mod doctor;
pub mod door;
mod fence;
mod footing;
pub mod freeing;
pub mod handed;
pub mod helper;
mod herald;
mod host_limits;
pub mod inherit;
pub mod lane;
mod last_sync;
pub mod launch;
pub mod launch_error;
pub mod ledger;
pub mod link;
pub mod listeners;
pub mod log;
pub mod lookout;
pub mod mailbox;
mod mark;
pub mod memory;
pub mod mounts;
pub mod net;
pub mod offline;
pub mod op;
pub mod owner;
pub mod probe;
pub mod publication;
pub mod queue;
pub mod reach;
pub mod readback;
pub mod recent;
pub mod reload;
pub mod reloader;
mod rights;
mod rlimit;
mod roots;
mod sealed;
pub mod seat;
pub mod service;
pub mod shelves;
pub mod signals;
pub mod space;
mod stamp;
mod start;
pub mod steward;
mod stop_wish;
mod strangers;
pub mod successor;
pub mod supervisor;
pub mod tls;
pub mod tree;
pub mod trial;
pub mod turn;
pub mod umask;
pub mod walk;
pub mod watch;
pub mod window;
pub mod work_file;
pub mod work_folder;
pub mod write_out;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::hash::{Attempt, TooManyAttempts};
use crate::auth::negotiation::{Leg, Negotiated, NotNegotiated};
use crate::bits::notification::Answer;
use crate::bits::session_id::SessionId;
use crate::coarse_clock;
use crate::courier::Courier;
use crate::custody::entry::LedgerEntry;
use crate::custody::ledger::{Ledger, tell_into, write_into};
use crate::event::Event;
use crate::metrics::Metrics;
use crate::metrics::shard::ShardMetrics;
use crate::notify::{Desk, Notifier};
use crate::objects::Objects;
use crate::server::chronicle::Chronicle;
use crate::server::floor::{CloudEvent, Floor, HandOverFull, NotifyError, Order, Wire as _};
use crate::server::object_order::{MadeObject, ObjectError, ObjectOrder, Storing};
use crate::server::visit::Visit;
use crate::vault::disk::{Commit, Millis, ReplyStat, Runtime, Shelf, StatResult, WorkFiles};
use crate::vault::names::NamesOf;
use crate::vault::owed::EventTarget;
use crate::vault::space::Space;
use crate::verify::Verifier;
use crate::wall_clock;
use afoot::Afoot;
use blocks::{Blocks, RingBlock};
use boot::Boot;
use directories::Ground;
use disk::RingDisk;
use log::RingLog;
use lookout::Seen;
use mailbox::{Letter, Senders};
use net::RingWire;
use recent::Recent;
use space::ShelfSpaces;
use tree::Trees;
use watch::Watch;
use work_file::RingFile;

/// The beat of the watchdog.
const TICK: Duration = Duration::from_secs(1);

/// Files looked at before other tasks have their turn: less than a millisecond of work.
const STATS_PER_TURN: usize = 32;

/// Bytes of randomness drawn at a time; more might not come whole (getrandom(2)).
const RANDOM_BYTES: usize = 256;

/// All that one shard can reach outside of itself, by its own ring.
pub struct RingWorld {
    shard: usize,
    /// What all shards count.
    metrics: Arc<Metrics>,
    boot: Boot,
    blocks: Blocks,
    disk: RingDisk,
    trees: Arc<Trees>,
    spaces: ShelfSpaces,
    notifier: Notifier,
    courier: Courier,
    objects: Objects,
    verifier: Verifier,
    ledger: Option<Ledger>,
    ledger_space: Option<Arc<Space>>,
    watch: Watch,
    senders: Senders,
    /// What is under way on all shards.
    afoot: Afoot,
    /// The roots, by their number in the settings.
    grounds: RefCell<BTreeMap<usize, Arc<Ground>>>,
    /// The root that was last found at its path, by its number.
    ground_seen: Arc<Recent<usize, ()>>,
    /// The shelf that was last found at its path.
    shelf_seen: Arc<Recent<Shelf, ()>>,
    /// Shelves that cannot be opened now, on which some parts may be.
    missing_shelves: Vec<std::path::PathBuf>,
    /// So much may its sessions weigh.
    sessions_bytes_max: u64,
    /// Random bytes that were not used yet.
    drawn: RefCell<Vec<[u8; 16]>>,
    /// Files looked at so far.
    stats: Cell<usize>,
    /// What happened lately.
    chronicle: RefCell<Chronicle>,
}

impl Runtime for RingWorld {
    fn now(&self) -> Millis {
        coarse_clock::ms()
    }

    fn now_us(&self) -> u64 {
        counting::now_us()
    }

    fn wall_clock_ms(&self) -> u64 {
        wall_clock::ms_since_1970()
    }

    fn emit(&self, event: Event<'_>) {
        self.chronicle.borrow_mut().note(self.now(), &event);
        counting::tell(self.shard, &event);
    }

    async fn give_way(&self) {
        op::give_way().await;
    }
}

impl RingWorld {
    /// When all sessions are read back: see [`Objects::end_forgotten`]. Once for all shards.
    pub fn end_forgotten_objects(&self) {
        // The file of a note may lie on a shelf that is not there now.
        if self.shard == 0 && self.missing_shelves.is_empty() {
            (self.objects).end_forgotten(self.disk.shelves().descriptors());
        }
    }
}

impl Floor for RingWorld {
    type Wire = RingWire;
    type Block = RingBlock;

    fn random(&self) -> [u8; 16] {
        let mut drawn = self.drawn.borrow_mut();
        if drawn.is_empty() {
            let mut bytes = [0; RANDOM_BYTES];
            let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
            assert_eq!(filled, Ok(bytes.len()), "up to 256 bytes always come whole");
            drawn.extend(bytes.as_chunks().0);
        }
        drawn.pop().expect("some were just drawn")
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        tokio_uring::spawn(turn::timed(task, counting::tell_of_stalls(self.shard)));
    }

    async fn tick(&self) {
        tokio::time::sleep(TICK).await;
    }

    async fn pass(&self, wait: Millis) {
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }

    fn head_block(&self) -> RingBlock {
        self.blocks.head()
    }

    fn long_head_block(&self, client: Option<IpAddr>) -> Option<RingBlock> {
        self.blocks.long_head(client)
    }

    fn body_block(&self, expected: u64) -> Option<RingBlock> {
        self.blocks.body(expected)
    }

    fn hand_over(
        &self,
        wire: &RingWire,
        arrived: &[u8],
        visit: &Visit,
        to: usize,
    ) -> Result<(), HandOverFull> {
        let mailbox = self.senders[to].try_reserve().map_err(|_| HandOverFull)?;
        let socket = wire.duplicate().map_err(|_| HandOverFull)?;
        mailbox.send(Letter {
            socket,
            peer: wire.peer(),
            announcement: wire.announcement(),
            tls: wire.take_session(),
            arrived: arrived.to_vec(),
            visit: visit.clone(),
            afoot: self.afoot.begin(),
        });
        Ok(())
    }

    async fn verify(&self, attempt: Attempt) -> Result<bool, TooManyAttempts> {
        self.verifier.verify(attempt).await
    }

    async fn negotiate(&self, leg: Leg) -> Result<Negotiated, NotNegotiated> {
        self.verifier.negotiate(leg).await
    }

    async fn notify(&self, order: Order) -> Result<Answer, NotifyError> {
        let shelf = self.disk.shelves().get(order.shelf);
        let desk = Desk::new(Arc::clone(shelf.descriptor()), shelf.path());
        let checked = self.disk.check_file(order.shelf, &order.part).await;
        checked.map_err(NotifyError::Disk)?;
        let answer = self.notifier.deliver(order, desk).await;
        // Its thread ended without a word.
        answer.unwrap_or(Err(NotifyError::NoThread))
    }

    async fn tell_outside(&self, target: EventTarget, event: CloudEvent) -> Result<(), String> {
        let outcome = self.courier.carry(target, event).await;
        outcome.unwrap_or_else(|_| Err("there are no more threads".to_owned()))
    }

    fn keeps_custody(&self) -> bool {
        self.ledger.is_some()
    }

    fn ledger_refuses(&self) -> Option<crate::bits::reply::Refusal> {
        ledger::refuses(self.ledger.as_ref(), self.ledger_space.as_deref())
    }

    async fn write_line(&self, entry: LedgerEntry, is_durable: bool) -> io::Result<()> {
        write_into(self.ledger.as_ref(), entry, is_durable).await
    }

    fn tell_line(&self, entry: LedgerEntry) {
        tell_into(self.ledger.as_ref(), entry);
    }

    fn claim_object(&self, order: &ObjectOrder) -> bool {
        self.objects.claim(order)
    }

    fn release_object(&self, session: SessionId) {
        self.objects.release(session);
    }

    async fn store_object(
        &self,
        order: &ObjectOrder,
        wait: Millis,
    ) -> Result<Storing, ObjectError> {
        let checked = self.disk.check_file(order.shelf, &order.part).await;
        checked.map_err(ObjectError::Unreadable)?;
        let shelf = self.disk.shelves().get(order.shelf);
        self.objects.deliver(order, shelf.descriptor(), wait).await
    }

    fn made_object(&self, session: SessionId) -> Option<MadeObject> {
        self.objects.made(session)
    }

    fn send_ahead(&self, order: &ObjectOrder, acked: u64) {
        let shelf = self.disk.shelves().get(order.shelf);
        self.objects.send_ahead(order, shelf.descriptor(), acked);
    }

    async fn await_object(&self, session: SessionId, wait: Millis) {
        self.objects.await_end(session, wait).await;
    }

    fn stop_object(&self, session: SessionId) {
        self.objects.stop(session);
    }

    fn abandon_object(&self, session: SessionId) {
        self.objects.abandon(session);
    }

    fn staged_bytes(&self, series: usize) -> u64 {
        self.metrics.unfinished_bytes(series)
    }

    fn metrics(&self) -> &ShardMetrics {
        &self.metrics.shards[self.shard]
    }

    fn chronicle(&self) -> &RefCell<Chronicle> {
        &self.chronicle
    }

    fn series(&self, prefix: &str) -> usize {
        self.metrics.series(prefix)
    }

    fn close_roots(&self, is_needed: &dyn Fn(usize) -> bool) {
        self.trees.close_roots(is_needed);
        self.grounds.borrow_mut().retain(|root, _| is_needed(*root));
    }
}

impl WorkFiles for RingWorld {
    type File = RingFile;
    type Log = RingLog;

    fn boot_id(&self) -> u128 {
        self.boot.current
    }

    fn was_stopped_cleanly(&self, boot_id: u128, shelf: Option<Shelf>) -> bool {
        self.boot.was_stopped_cleanly(boot_id, shelf)
    }

    fn shelves(&self) -> Vec<Shelf> {
        self.disk.shelves().numbers()
    }

    fn misses_a_shelf(&self) -> bool {
        !self.missing_shelves.is_empty()
    }

    fn commits_in_order(&self, shelf: Shelf) -> Option<Commit> {
        self.disk.shelves().commits_in_order(shelf)
    }

    fn tells_changes(&self, shelf: Shelf) -> bool {
        !self.disk.shelves().is_remote(shelf)
    }

    fn line_commits(&self, shelf: Shelf) -> bool {
        self.disk.shelves().line_commits(shelf)
    }

    fn space(&self, shelf: Shelf) -> Arc<Space> {
        self.spaces.of(self.disk.shelves(), shelf)
    }

    async fn create(&self, shelf: Shelf, name: &str) -> io::Result<RingFile> {
        let spot = self.disk.shelves().spot(shelf);
        let lane = self.disk.lane(shelf);
        let what = "look at the work directory";
        let (here, seen) = (Arc::clone(&spot), Arc::clone(&self.shelf_seen));
        let look = move || Ok(seen.look(shelf, || here.check()).is_ok());
        let is_there = lane.look(what, look).await?;
        if is_there {
            match self.disk.create(shelf, name).await {
                // A folder that was removed in this very moment.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                made => return made,
            }
        }
        let here = Arc::clone(&spot);
        if lane.look(what, move || Ok(here.look())).await? == Seen::Removed {
            // It can be made again, so no client need hear of it.
            self.watch.look().await;
        }
        lane.look(what, move || spot.check()).await?;
        self.disk.create(shelf, name).await
    }

    async fn open(&self, shelf: Shelf, name: &str) -> io::Result<RingFile> {
        self.disk.open(shelf, name).await
    }

    async fn stat(&self, shelf: Shelf, name: &str) -> StatResult {
        // Parts that are missing are looked for when sessions are read back, all of them in a row
        // and without ever waiting. Something must wait on the ring now and then, or no connection
        // is accepted until the last one is read; that the task only yields is not enough, since
        // tokio-uring submits when the thread is about to wait.
        let stats = self.stats.get();
        self.stats.set(stats.wrapping_add(1));
        if stats.is_multiple_of(STATS_PER_TURN) {
            op::give_way().await;
        }
        self.disk.stat(shelf, name).await
    }

    async fn stat_all(&self, shelf: Shelf, names: &[String]) -> io::Result<Vec<StatResult>> {
        self.disk.stat_all(shelf, names).await
    }

    async fn create_log(&self, name: &str) -> io::Result<RingLog> {
        self.disk.create_log(name).await
    }

    fn sessions_bytes_max(&self) -> u64 {
        self.sessions_bytes_max
    }

    fn log_bytes_max(&self) -> u64 {
        work_file::file_bytes_max().unwrap_or(u64::MAX)
    }

    async fn open_reply(
        &self,
        shelf: Shelf,
        name: &str,
    ) -> io::Result<Option<(RingFile, ReplyStat)>> {
        self.disk.open_reply(shelf, name).await
    }

    async fn remove(&self, shelf: Shelf, name: &str) -> io::Result<()> {
        self.disk.remove(shelf, name).await
    }

    async fn rename(&self, shelf: Shelf, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(shelf, from, to).await
    }

    async fn list(&self, shelf: Shelf, wanted: NamesOf) -> io::Result<Vec<String>> {
        self.disk.list(shelf, wanted).await
    }

    async fn sync_shelf(&self, shelf: Shelf) -> io::Result<()> {
        self.disk.sync_shelf(shelf).await
    }
}
