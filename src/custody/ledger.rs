//! The way to the ledger, for all shards: lines are handed to the thread that writes them
//! ([`super::writer`]), and whoever asked hears when they are written.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tokio::sync::oneshot;

use super::entry::{LedgerEntry, Scribe};
use super::folder::LedgerFolder;
use super::note::Witness;
use super::site::{BadLedger, Site};
use super::task::{Task, Wanted};
use super::writer::{Writer, today};
use crate::metrics::ledger::LedgerMetrics;
use crate::processors;
use crate::version;

/// So many lines may wait: as many as a shard has connections. Some 1 KiB each.
const WAITING_MAX: usize = 16_384;
/// Whoever waits for a line hears after this that it takes too long; the line is written all the
/// same, if the disk comes back.
const PATIENCE: Duration = Duration::from_secs(30);

/// While the queue is full, whoever ends the ledger tries again so often.
const BEAT: Duration = Duration::from_millis(1);

/// The way to the ledger; one for all shards.
#[derive(Clone, Debug)]
pub struct Ledger {
    orders: SyncSender<Task>,
    folder: Arc<OwnedFd>,
    metrics: Arc<LedgerMetrics>,
}

impl Ledger {
    /// Opens the folder, and starts the thread. `witness` remembers its end.
    ///
    /// # Errors
    /// [`BadLedger`]
    pub fn start(
        site: Site,
        witness: Box<dyn Witness>,
        metrics: Arc<LedgerMetrics>,
    ) -> Result<Self, BadLedger> {
        let path = site.path().to_owned();
        let folder = LedgerFolder::open(site, &today())?;
        let again = folder.open_again();
        let again = again.map_err(|error| BadLedger::Io(error, path))?;
        let (orders, tasks) = sync_channel(WAITING_MAX);
        let scribe = Scribe {
            host: rustix::system::uname().nodename().to_string_lossy().into(),
            version: version::VERSION.to_owned(),
        };
        let mut writer = Writer::new(folder, scribe, witness, Arc::clone(&metrics));
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
        Ok(Self {
            orders,
            folder: Arc::new(again),
            metrics,
        })
    }

    /// The folder that it was begun in.
    pub fn folder(&self) -> &OwnedFd {
        &self.folder
    }

    /// Whether a line that was asked for now would most likely not be written.
    pub fn is_failing(&self) -> bool {
        self.metrics.is_failing()
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
            // The disk does not keep up.
            Err(_) => Err(Errno::BUSY.into()),
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
            Errno::BUSY.into()
        })
    }

    /// The server ends: what waits is written and synced, and the log is told of the head. Waits no
    /// longer than this; what is not written by then is lost, and counted.
    pub fn end(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let (tell, told) = mpsc::channel();
        let mut end = Task::End(tell);
        // While the disk is slow, as many may wait as fit.
        while let Err(TrySendError::Full(back)) = self.orders.try_send(end) {
            if Instant::now() >= deadline {
                return self.lose_waiting();
            }
            end = back;
            thread::sleep(BEAT);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if told.recv_timeout(left).is_err() {
            self.lose_waiting();
        }
    }

    fn lose_waiting(&self) {
        let lines = self.metrics.waiting();
        if lines > 0 {
            self.metrics.lost.add(lines);
            note_lost(lines);
        }
    }
}

/// Tells the log of lines that are lost.
pub(super) fn note_lost(lines: u64) {
    let event = "custody_lines_lost";
    tracing::error!(
        event,
        lines,
        "lines of uploads that ended without a file could not be written into the custody ledger, and are lost: \
         the log has these uploads (`session_ended`)"
    );
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

/// The clock of the shards, in milliseconds; never 0.
fn clock_ms() -> u64 {
    crate::coarse_clock::ms().max(1)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::entry::tests::entry;
    use super::super::verify::verify;
    use super::super::writer::tests::Memory;
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(future)
    }

    fn start(path: &Path) -> (Ledger, Arc<LedgerMetrics>) {
        let metrics = Arc::new(LedgerMetrics::default());
        let (site, memory) = (Site::new(path, &[]), Box::<Memory>::default());
        let ledger = Ledger::start(site, memory, Arc::clone(&metrics)).unwrap();
        (ledger, metrics)
    }

    #[test]
    fn each_session_has_one_line_also_over_restarts() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("custody");
        fs::create_dir(&path).unwrap();
        for life in 0..3 {
            let (ledger, metrics) = start(&path);
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
        let (ledger, metrics) = start(&path);
        let away = place.path().join("away");
        fs::rename(&path, &away).unwrap();
        block_on(async {
            assert!(ledger.write(entry(1), true).await.is_err());
            assert!(metrics.wrong().is_some());
            fs::rename(&away, &path).unwrap();
            ledger.write(entry(1), true).await.unwrap();
        });
        assert_eq!((metrics.wrong(), metrics.lines.get()), (None, 1));
        ledger.end(Duration::from_secs(60));
    }

    /// A ledger whose thread has begun nothing yet, and what it is asked for.
    fn without_thread(path: &Path) -> (Ledger, mpsc::Receiver<Task>) {
        let (orders, tasks) = sync_channel(1);
        let ledger = Ledger {
            orders,
            folder: Arc::new(fs::File::open(path).unwrap().into()),
            metrics: Arc::default(),
        };
        (ledger, tasks)
    }

    #[test]
    fn an_end_waits_for_its_place_where_the_disk_is_slow() {
        let place = tempfile::tempdir().unwrap();
        let (ledger, tasks) = without_thread(place.path());
        ledger.tell(entry(1));
        let ending = {
            let ledger = ledger.clone();
            thread::spawn(move || ledger.end(Duration::from_secs(60)))
        };
        assert!(matches!(tasks.recv(), Ok(Task::Write(_))));
        ledger.metrics.answered.add(1);
        let Ok(Task::End(tell)) = tasks.recv_timeout(PATIENCE) else {
            panic!("nothing else was asked for");
        };
        tell.send(()).unwrap();
        ending.join().unwrap();
        assert_eq!(ledger.metrics.lost.get(), 0);
    }

    #[test]
    fn what_is_not_written_when_the_server_ends_is_counted_as_lost() {
        let place = tempfile::tempdir().unwrap();
        let (ledger, tasks) = without_thread(place.path());
        ledger.tell(entry(1));
        // There is no place for the end.
        ledger.end(Duration::ZERO);
        assert_eq!(ledger.metrics.lost.get(), 1);
        // There is one, and nobody comes to it.
        let _line = tasks.recv().unwrap();
        ledger.end(Duration::ZERO);
        assert_eq!(ledger.metrics.lost.get(), 2);
    }
}
