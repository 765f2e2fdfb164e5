//! The thread that writes the ledger, for all shards, and the way to it.
//!
//! It takes all that waits, appends it in one write, and syncs once where anybody asked for that.
//! Nobody else waits for its disk. After a failure everybody who waited hears of it; the next ones
//! try again, and in between the thread looks by itself whether the disk is well again.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;

use super::chain::Chain;
use super::entry::{LedgerEntry, Scribe};
use super::folder::{Day, LedgerFolder, Repair, day_of};
use super::site::{BadLedger, Site};
use crate::http::digest::Hex;
use crate::metrics::ledger::LedgerMetrics;
use crate::processors;
use crate::version;

/// So many lines may wait: as many as a shard has connections. Some 1 KiB each.
const WAITING_MAX: usize = 16_384;
/// So many are written at a time.
const BATCH_MAX: usize = 1_024;
/// What nobody waits for is synced when there is so much of it, or at the next beat.
const UNSYNCED_BYTES_MAX: usize = 256 << 10;
/// Whoever waits for a line hears after this that it takes too long; the line is written all the
/// same, if the disk comes back.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the thread looks around when nothing comes.
const BEAT: Duration = Duration::from_secs(5);

/// EBUSY: the disk does not keep up.
const BUSY: i32 = 16;

/// The way to the ledger; one for all shards.
#[derive(Clone, Debug)]
pub struct Ledger {
    orders: SyncSender<Task>,
    metrics: Arc<LedgerMetrics>,
}

enum Task {
    Write(Box<Wanted>),
    /// The server ends.
    End(mpsc::Sender<()>),
}

/// A line that is to be written.
struct Wanted {
    entry: LedgerEntry,
    /// It has to survive a power cut before anybody hears of it.
    is_durable: bool,
    since_ms: u64,
    tell: Option<oneshot::Sender<io::Result<()>>>,
}

impl Ledger {
    /// Opens the folder, and starts the thread.
    ///
    /// # Errors
    /// [`BadLedger`]
    pub fn start(site: Site, metrics: Arc<LedgerMetrics>) -> Result<Self, BadLedger> {
        let folder = LedgerFolder::open(site)?;
        let (orders, tasks) = sync_channel(WAITING_MAX);
        let scribe = Scribe {
            host: rustix::system::uname().nodename().to_string_lossy().into(),
            version: version::VERSION.to_owned(),
        };
        let mut writer = Writer {
            folder,
            chain: Chain::new(scribe),
            place: Place::Unread,
            told_day: day_of(now_ms()),
            is_failing: false,
            metrics: Arc::clone(&metrics),
        };
        metrics.is_kept.set(1);
        let run = move || {
            processors::leave_to_shards();
            let ended = writer.run(&tasks);
            // The folder is free for whoever comes next.
            drop(writer);
            if let Some(tell) = ended {
                let _nobody_waits = tell.send(());
            }
        };
        let thread = thread::Builder::new().name("custody".to_owned());
        thread.spawn(run).map_err(BadLedger::Thread)?;
        Ok(Self { orders, metrics })
    }

    /// Returns when the line is written, and survives a power cut if it has to.
    ///
    /// # Errors
    /// Of the disk; the line may be written all the same, and is not written twice.
    pub async fn write(&self, entry: LedgerEntry, is_durable: bool) -> io::Result<()> {
        let (tell, told) = oneshot::channel();
        self.send(entry, is_durable, Some(tell))?;
        match tokio::time::timeout(PATIENCE, told).await {
            Ok(Ok(result)) => result,
            // The thread is gone.
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::Error::from_raw_os_error(BUSY)),
        }
    }

    /// Has a line written that nobody waits for. If too many wait it is lost, and counted.
    pub fn tell(&self, entry: LedgerEntry) {
        if self.send(entry, false, None).is_err() {
            self.metrics.lost.add(1);
        }
    }

    fn send(
        &self,
        entry: LedgerEntry,
        is_durable: bool,
        tell: Option<oneshot::Sender<io::Result<()>>>,
    ) -> io::Result<()> {
        let wanted = Wanted {
            entry,
            is_durable,
            since_ms: clock_ms(),
            tell,
        };
        self.metrics.asked.add(1);
        let sent = self.orders.try_send(Task::Write(Box::new(wanted)));
        sent.map_err(|_| {
            self.metrics.answered.add(1);
            // As many wait as may: the disk is not quick enough.
            io::Error::from_raw_os_error(BUSY)
        })
    }

    /// The server ends: what waits is written and synced, and the log is told of the head. Waits no
    /// longer than this.
    pub fn end(&self, patience: Duration) {
        let (tell, told) = mpsc::channel();
        if self.orders.try_send(Task::End(tell)).is_ok() {
            let _ = told.recv_timeout(patience);
        }
    }
}

/// Writes a line where a ledger is kept ([`Ledger::write`]).
///
/// # Errors
/// As of that.
pub async fn write_into(
    ledger: Option<&Ledger>,
    entry: LedgerEntry,
    is_durable: bool,
) -> io::Result<()> {
    match ledger {
        Some(ledger) => ledger.write(entry, is_durable).await,
        None => Ok(()),
    }
}

/// The same for one that nobody waits for ([`Ledger::tell`]).
pub fn tell_into(ledger: Option<&Ledger>, entry: LedgerEntry) {
    if let Some(ledger) = ledger {
        ledger.tell(entry);
    }
}

/// Where the next line goes.
enum Place {
    /// The days that there are have not been read back.
    Unread,
    /// There is no day yet.
    Nowhere,
    Open(Day),
    /// Something failed there.
    Broken(Repair),
}

struct Writer {
    folder: LedgerFolder,
    chain: Chain,
    place: Place,
    /// The day of which the log was told the head.
    told_day: String,
    /// The last write failed.
    is_failing: bool,
    metrics: Arc<LedgerMetrics>,
}

impl Writer {
    /// Works until the server ends; whoever has asked for the end is returned.
    fn run(&mut self, tasks: &Receiver<Task>) -> Option<mpsc::Sender<()>> {
        let ready = self.ready();
        self.note(&ready);
        loop {
            let first = match tasks.recv_timeout(BEAT) {
                Ok(Task::End(tell)) => {
                    self.end();
                    return Some(tell);
                }
                Ok(Task::Write(wanted)) => *wanted,
                Err(RecvTimeoutError::Timeout) => {
                    self.look_around();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.end();
                    return None;
                }
            };
            let mut batch = vec![first];
            let mut ending = None;
            while batch.len() < BATCH_MAX && ending.is_none() {
                match tasks.try_recv() {
                    Ok(Task::Write(wanted)) => batch.push(*wanted),
                    Ok(Task::End(tell)) => ending = Some(tell),
                    Err(_) => break,
                }
            }
            self.write(batch);
            if ending.is_some() {
                self.end();
                return ending;
            }
        }
    }

    /// Writes some lines, and tells everybody who waits how it went.
    fn write(&mut self, batch: Vec<Wanted>) {
        self.metrics.oldest_ms.set(batch[0].since_ms);
        let written = self.try_write(&batch);
        self.note(&written);
        for wanted in batch {
            match (&written, wanted.tell) {
                // Whoever asked may be gone by now.
                (Ok(()), Some(tell)) => drop(tell.send(Ok(()))),
                (Err(error), Some(tell)) => drop(tell.send(Err(again(error)))),
                (Ok(()), None) => {}
                (Err(_), None) => self.metrics.lost.add(1),
            }
            self.metrics.answered.add(1);
        }
        self.metrics.oldest_ms.set(0);
    }

    fn try_write(&mut self, batch: &[Wanted]) -> io::Result<()> {
        self.ready()?;
        self.turn_to_today()?;
        let mut lines = Vec::new();
        for wanted in batch {
            self.chain.append(&wanted.entry, &mut lines);
        }
        let is_durable = batch.iter().any(|wanted| wanted.is_durable);
        let written = self.write_lines(&lines, is_durable);
        match written {
            Ok(()) => {
                let count = lines.iter().filter(|byte| **byte == b'\n').count();
                self.metrics.lines.add(count as u64);
                self.chain.keep();
            }
            Err(_) => self.chain.drop_appended(),
        }
        written
    }

    fn write_lines(&mut self, lines: &[u8], is_durable: bool) -> io::Result<()> {
        let folder = &self.folder;
        self.place.change(|day| {
            day.append(lines)?;
            let is_much = day.unsynced() + lines.len() >= UNSYNCED_BYTES_MAX;
            let syncs = is_durable || is_much;
            if syncs {
                day.sync(folder)?;
            }
            day.count(lines);
            if syncs {
                day.note_synced();
            }
            Ok(())
        })
    }

    /// Opens what is not open: the last day at start, or the one on which something failed.
    fn ready(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.place, Place::Unread) {
            Place::Unread => {
                let scribe = self.chain.scribe().clone();
                let mut chain = Chain::new(scribe);
                let (day, told) = self.folder.read_back(&mut chain)?;
                self.chain = chain;
                self.place = day.map_or(Place::Nowhere, Place::Open);
                if let Some((apart, bytes)) = told.torn {
                    let (event, apart) = ("custody_torn", apart.display());
                    tracing::warn!(
                        event, %apart, bytes,
                        "the end of the custody ledger was torn by a crash: it was acked to nobody, and is set apart"
                    );
                }
                if let Some((file, line)) = told.broken {
                    let (event, file) = ("custody_broken", file.display());
                    tracing::error!(
                        event, %file, line,
                        "the custody ledger was changed by somebody: run `bitsd custody verify`; new lines follow the last one"
                    );
                }
            }
            Place::Broken(repair) => match self.folder.reopen(repair) {
                Ok(day) => self.place = Place::Open(day),
                Err((error, repair)) => {
                    self.place = Place::Broken(repair);
                    return Err(error);
                }
            },
            open => self.place = open,
        }
        Ok(())
    }

    /// A new day has a file of its own. The clock may be set back: days never are.
    fn turn_to_today(&mut self) -> io::Result<()> {
        let today = day_of(now_ms());
        match &self.place {
            Place::Open(day) if *day.name() >= *today => return Ok(()),
            Place::Open(_) => self.sync()?,
            _ => {}
        }
        self.place = Place::Open(self.folder.begin(&today)?);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let folder = &self.folder;
        self.place.change(|day| {
            if day.unsynced() > 0 {
                day.sync(folder)?;
                day.note_synced();
            }
            Ok(())
        })
    }

    /// Nothing has come for a while.
    fn look_around(&mut self) {
        if self.is_failing {
            let opened = self.ready().and_then(|()| self.turn_to_today());
            let probed = opened.and_then(|()| self.folder.probe());
            self.note(&probed);
        }
        let synced = self.sync();
        if synced.is_err() {
            self.note(&synced);
        }
        let today = day_of(now_ms());
        if today > self.told_day && synced.is_ok() {
            self.tell_head();
            self.told_day = today;
        }
    }

    fn end(&mut self) {
        let synced = self.sync();
        self.note(&synced);
        if synced.is_ok() {
            self.tell_head();
        }
    }

    /// Whoever has the log can say later which line was the last one now.
    fn tell_head(&self) {
        if let Place::Open(day) = &self.place {
            let (event, file, head) = ("custody_head", day.name(), self.chain.head());
            let head = Hex(&head);
            tracing::info!(event, file, %head, "the last line of the custody ledger");
        }
    }

    /// How it went, for metrics and log: told when it changes.
    fn note(&mut self, result: &io::Result<()>) {
        match result {
            Err(error) => {
                self.metrics.failures.add(1);
                if !std::mem::replace(&mut self.is_failing, true) {
                    let event = "custody_failed";
                    tracing::error!(
                        event, %error,
                        "the custody ledger cannot be written: clients that close an upload are told to come back"
                    );
                }
            }
            Ok(()) => {
                if std::mem::replace(&mut self.is_failing, false) {
                    let event = "custody_restored";
                    tracing::info!(event, "the custody ledger can be written again");
                }
            }
        }
        self.metrics.is_failing.set(self.is_failing.into());
    }
}

impl Place {
    /// Does something to the day; after an error it is to be opened anew.
    fn change(&mut self, change: impl FnOnce(&mut Day) -> io::Result<()>) -> io::Result<()> {
        let Self::Open(day) = self else {
            return Ok(());
        };
        let changed = change(day);
        if changed.is_err()
            && let Self::Open(day) = std::mem::replace(self, Self::Nowhere)
        {
            *self = Self::Broken(day.repair());
        }
        changed
    }
}

/// The same error for somebody else.
fn again(error: &io::Error) -> io::Error {
    let code = error.raw_os_error();
    code.map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

/// The wall clock, in milliseconds since 1970.
fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// The clock of the shards, in milliseconds; never 0.
fn clock_ms() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    let (seconds, nanos) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    (seconds * 1_000 + nanos / 1_000_000).max(1)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::entry::tests::entry;
    use super::super::verify::verify;
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(future)
    }

    #[test]
    fn each_session_has_one_line_also_over_restarts() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("custody");
        fs::create_dir(&path).unwrap();
        for life in 0..3 {
            let metrics = Arc::new(LedgerMetrics::default());
            let ledger = Ledger::start(Site::new(&path, &[]), Arc::clone(&metrics)).unwrap();
            block_on(async {
                ledger.write(entry(1), true).await.unwrap();
                ledger.write(entry(10 + life), life != 1).await.unwrap();
                ledger.write(entry(10 + life), true).await.unwrap();
                ledger.tell(entry(20 + life));
            });
            ledger.end(Duration::from_secs(60));
            assert_eq!(metrics.waiting(), 0);
            let lines = [3, 2, 2][usize::try_from(life).unwrap()];
            assert_eq!((metrics.lines.get(), metrics.lost.get()), (lines, 0));
        }
        let told = verify(&path, &Default::default()).unwrap();
        assert!(told.discrepancies.is_empty(), "{told:?}");
        assert_eq!(told.lines, 7);
    }

    #[test]
    fn who_waits_hears_that_the_disk_fails_and_later_that_it_does_not() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("custody");
        fs::create_dir(&path).unwrap();
        let metrics = Arc::new(LedgerMetrics::default());
        let ledger = Ledger::start(Site::new(&path, &[]), Arc::clone(&metrics)).unwrap();
        // Nobody can make a file where a folder is.
        let day = path.join(day_of(now_ms()));
        let tomorrow = path.join(day_of(now_ms() + 86_400_000));
        fs::create_dir(&day).unwrap();
        fs::create_dir(&tomorrow).unwrap();
        block_on(async {
            assert!(ledger.write(entry(1), true).await.is_err());
            assert_eq!(metrics.is_failing.get(), 1);
            fs::remove_dir(&day).unwrap();
            fs::remove_dir(&tomorrow).unwrap();
            ledger.write(entry(1), true).await.unwrap();
        });
        assert_eq!((metrics.is_failing.get(), metrics.lines.get()), (0, 1));
        ledger.end(Duration::from_secs(60));
    }
}
