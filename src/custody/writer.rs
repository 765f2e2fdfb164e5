//! The thread that writes the ledger, for all shards.
//!
//! It takes all that waits, appends it in one write, and syncs once where anybody asked for that.
//! Nobody else waits for its disk. After a failure everybody who waited hears of it; the next ones
//! try again, and in between the thread looks by itself whether the disk is well again, and whether
//! folder and file are still where they are looked for. Lines that nobody waits for are kept until
//! then, in memory: what is left of them when the server ends is lost, and told.

mod kept;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::chain::{BEGINNING, Chain};
use super::entry::Scribe;
use super::folder::mending::Disturbance;
use super::folder::{Day, LedgerFolder, LedgerReadBack, day_of};
use super::note::{HeadNote, Witness, tell_of_cut, tell_of_put_away};
use super::site::remedy_of;
use super::task::{Task, Wanted};
use crate::http::digest::Hex;
use crate::metrics::ledger::{LedgerMetrics, LedgerTrouble};
use crate::wall_clock;

/// So many are written at a time.
const BATCH_MAX: usize = 1_024;
/// What nobody waits for is synced when there is so much of it, or at the next beat.
const UNSYNCED_BYTES_MAX: usize = 256 << 10;
/// How often the thread looks around.
const BEAT: Duration = Duration::from_secs(2);

/// Where the next line goes.
enum Place {
    /// The days that there are have not been read back.
    Unread,
    /// There is no day yet.
    Nowhere,
    Open(Day),
    /// Something failed there.
    Broken(Day),
}

/// Writes, on a thread of its own.
pub(super) struct Writer {
    folder: LedgerFolder,
    chain: Chain,
    place: Place,
    /// Remembers the last line while nobody runs.
    witness: Box<dyn Witness>,
    /// The hash that it remembers.
    noted: [u8; 32],
    /// It could not be told of the last one.
    is_unnoted: bool,
    /// When the thread looked around last.
    looked: Instant,
    /// The day of which the log was told the head.
    told_day: String,
    /// The log was told that lines go into a day to come.
    is_ahead: bool,
    /// The last write failed.
    is_failing: bool,
    /// Lines that nobody waits for, and that could not be written so far.
    kept: VecDeque<Wanted>,
    /// So many lost ones the log was told of.
    told_lost: u64,
    metrics: Arc<LedgerMetrics>,
}

impl Writer {
    /// For a folder that was just opened.
    pub(super) fn new(
        folder: LedgerFolder,
        scribe: Scribe,
        witness: Box<dyn Witness>,
        metrics: Arc<LedgerMetrics>,
    ) -> Self {
        Self {
            folder,
            chain: Chain::new(scribe),
            place: Place::Unread,
            witness,
            noted: BEGINNING,
            is_unnoted: false,
            looked: Instant::now(),
            told_day: today(),
            is_ahead: false,
            is_failing: false,
            kept: VecDeque::new(),
            told_lost: 0,
            metrics,
        }
    }

    /// Works until the server ends; whoever has asked for the end is returned.
    pub(super) fn run(&mut self, tasks: &Receiver<Task>) -> Option<mpsc::Sender<()>> {
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
            // Also where something always waits.
            if self.looked.elapsed() >= BEAT {
                self.look_around();
            }
        }
    }

    /// Writes some lines, and tells everybody who waits how it went.
    fn write(&mut self, batch: Vec<Wanted>) {
        self.metrics.oldest_ms.set(batch[0].since_ms);
        let written = self.write_kept().and_then(|()| self.try_write(&batch));
        self.note(&written);
        for mut wanted in batch {
            match (&written, wanted.tell.take()) {
                // Whoever asked may be gone by now.
                (Ok(()), Some(tell)) => drop(tell.send(Ok(()))),
                (Err(error), Some(tell)) => drop(tell.send(Err(again(error)))),
                (Ok(()), None) => {}
                (Err(_), None) => self.keep_line(wanted),
            }
            self.metrics.answered.add(1);
        }
        self.metrics.oldest_ms.set(0);
        self.tell_of_lost();
    }

    fn try_write(&mut self, batch: &[Wanted]) -> io::Result<()> {
        self.stand()?;
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

    /// Sees to it that lines go where they are looked for: the folder is at its path, the file of
    /// the day has its name and its length. What is not so is mended and told, or nothing is
    /// written.
    fn stand(&mut self) -> io::Result<()> {
        if let Some(disturbance) = self.folder.keep_place()? {
            self.tell_disturbance(&disturbance);
            if let Place::Nowhere = self.place {
                self.place = Place::Unread;
            }
        }
        self.let_go_of_what_is_over()?;
        self.ready()?;
        let Place::Open(day) = &mut self.place else {
            return Ok(());
        };
        if let Some(disturbance) = self.folder.keep_day(day)? {
            self.tell_disturbance(&disturbance);
        }
        Ok(())
    }

    /// A day that is over may be put away, also before there is a line of today: the next one names
    /// the hash of its last one.
    fn let_go_of_what_is_over(&mut self) -> io::Result<()> {
        let (Place::Open(day) | Place::Broken(day)) = &self.place else {
            return Ok(());
        };
        let is_over = *day.name() < *today() && day.unsynced() == 0;
        if is_over && !self.folder.has(day.name())? {
            let file = day.name().to_owned();
            self.remember();
            tell_of_put_away(self.folder.path(), &file, &self.chain.head());
            self.place = Place::Nowhere;
        }
        Ok(())
    }

    fn tell_disturbance(&self, disturbance: &Disturbance) {
        self.metrics.disturbances.add(1);
        let file = match &self.place {
            Place::Open(day) | Place::Broken(day) => day.name(),
            Place::Unread | Place::Nowhere => "",
        };
        let (event, folder) = ("custody_disturbed", self.folder.path().display());
        tracing::error!(
            event, %folder, file, why = %disturbance,
            "somebody has done something to the custody ledger: keep other programs away from its folder, and run \
             `bitsd custody verify`"
        );
    }

    /// Opens what is not open: the last day at start, or the one on which something failed.
    fn ready(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.place, Place::Unread) {
            Place::Unread => self.read_back(),
            Place::Broken(mut day) => match self.folder.reopen(&mut day) {
                // The lines that were tried may stand there.
                Ok(None) if day.only_grows() => self.read_back(),
                Ok(disturbance) => {
                    self.place = Place::Open(day);
                    disturbance
                        .iter()
                        .for_each(|disturbance| self.tell_disturbance(disturbance));
                    Ok(())
                }
                Err(error) => {
                    self.place = Place::Broken(day);
                    Err(error)
                }
            },
            open => {
                self.place = open;
                Ok(())
            }
        }
    }

    fn read_back(&mut self) -> io::Result<()> {
        let mut chain = Chain::new(self.chain.scribe().clone());
        // What cannot be read says nothing; the work directory has its own lines about that.
        let note = self.witness.recall().ok().flatten();
        let note = note.and_then(|bytes| HeadNote::read(&bytes));
        let noted = note.as_ref().and_then(HeadNote::head);
        noted.into_iter().for_each(|head| chain.seek(head));
        let (day, told) = self.folder.read_back(&mut chain, &today())?;
        tell_of_damage(&told);
        if let (Some(note), Some(head)) = (note, chain.missing())
            && !self.folder.holds(&head)?
        {
            if self.was_put_away(&note)? {
                tell_of_put_away(self.folder.path(), &note.file, &head);
            } else {
                self.metrics.disturbances.add(1);
                tell_of_cut(&note, &head);
            }
            // Where lines were changed, nobody knows what is missing behind them.
            if told.broken.is_none() {
                chain.go_on_behind(head);
            }
        }
        self.noted = noted.unwrap_or(BEGINNING);
        self.chain = chain;
        self.place = day.map_or(Place::Nowhere, Place::Open);
        Ok(())
    }

    /// Whether the whole file of the last line is gone from here, and its day is over.
    fn was_put_away(&self, note: &HeadNote) -> io::Result<bool> {
        let is_here = *note.folder == *self.folder.path().to_string_lossy();
        Ok(is_here && *note.file < *today() && !self.folder.has(&note.file)?)
    }

    /// A new day has a file of its own. The clock may be set back: days never are.
    fn turn_to_today(&mut self) -> io::Result<()> {
        let today = today();
        match &self.place {
            Place::Open(day) if *day.name() >= *today => {
                let is_ahead = *day.name() > *today;
                if is_ahead && !self.is_ahead {
                    let (event, file) = ("custody_ahead", day.name());
                    tracing::warn!(
                        event,
                        file,
                        "the clock was ahead: the lines of the custody ledger go into the file of a day to come, until \
                         that day is over"
                    );
                }
                self.is_ahead = is_ahead;
                return Ok(());
            }
            Place::Open(_) => self.sync()?,
            _ => {}
        }
        let (day, disturbance) = self.folder.begin(&today)?;
        self.place = Place::Open(day);
        disturbance
            .iter()
            .for_each(|disturbance| self.tell_disturbance(disturbance));
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

    /// What is done now and then, whether something comes or not.
    fn look_around(&mut self) {
        self.looked = Instant::now();
        let mut looked = self.stand();
        if self.is_failing {
            looked = looked
                .and_then(|()| self.turn_to_today())
                .and_then(|()| self.folder.probe());
        }
        let looked = looked.and_then(|()| self.write_kept());
        let looked = looked.and_then(|()| self.sync());
        self.note(&looked);
        self.tell_of_lost();
        if looked.is_err() {
            return;
        }
        self.remember();
        let today = today();
        // The clock may have been ahead.
        if today != self.told_day {
            self.tell_head();
            self.told_day = today;
        }
    }

    fn end(&mut self) {
        let stood = self.stand().and_then(|()| self.write_kept());
        // Wherever the last lines are.
        let synced = self.sync();
        let mut ended = stood.and(synced.as_ref().map_err(again).copied());
        if self.is_failing {
            // That nothing was left to be synced says nothing of the disk.
            ended = ended.and_then(|()| self.folder.probe());
        }
        self.note(&ended);
        self.lose_kept();
        if synced.is_ok() {
            self.remember();
            self.tell_head();
        }
    }

    /// All that is written survives a power cut: the next start is to find it.
    fn remember(&mut self) {
        let head = self.chain.head();
        let Place::Open(day) = &self.place else {
            return;
        };
        if head == self.noted || head == BEGINNING {
            return;
        }
        let note = HeadNote::new(self.folder.path(), day.name(), &head);
        match self.witness.note(&note.to_bytes()) {
            Ok(()) => (self.noted, self.is_unnoted) = (head, false),
            Err(error) => {
                if !std::mem::replace(&mut self.is_unnoted, true) {
                    let event = "custody_unnoted";
                    tracing::warn!(
                        event, %error,
                        "the end of the custody ledger cannot be noted in the work directory: a start will not know if it \
                         is missing"
                    );
                }
            }
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

    /// How it went, for metrics and log: told when it changes. Whoever reads the log finds it so:
    /// shards ask the metrics.
    fn note(&mut self, result: &io::Result<()>) {
        let trouble = |error: &io::Error| LedgerTrouble {
            why: error.to_string(),
            remedy: remedy_of(error),
        };
        self.metrics.note(result.as_ref().err().map(trouble));
        let was_failing = std::mem::replace(&mut self.is_failing, result.is_err());
        if let Err(error) = result {
            self.metrics.failures.add(1);
            if !was_failing {
                let (event, remedy) = ("custody_failed", remedy_of(error));
                tracing::error!(
                    event, %error, remedy,
                    "the custody ledger cannot be written: clients that close an upload are told to come back"
                );
            }
        } else if was_failing {
            let event = "custody_restored";
            tracing::info!(event, "the custody ledger can be written again");
        }
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
            *self = Self::Broken(day);
        }
        changed
    }
}

fn tell_of_damage(told: &LedgerReadBack) {
    if let Some((apart, bytes)) = &told.torn {
        let (event, apart) = ("custody_torn", apart.display());
        tracing::warn!(
            event, %apart, bytes,
            "the end of the custody ledger was torn by a crash: it was acked to nobody, and is set apart"
        );
    }
    if let Some((file, line)) = &told.broken {
        let (event, file) = ("custody_broken", file.display());
        tracing::error!(
            event, %file, line,
            "the custody ledger was changed by somebody: run `bitsd custody verify`; new lines follow the last one"
        );
    }
}

/// The same error for somebody else.
fn again(error: &io::Error) -> io::Error {
    let code = error.raw_os_error();
    code.map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

/// The name of the file of this day.
pub fn today() -> String {
    day_of(wall_clock::ms_since_1970())
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::Mutex;

    use tracing::Subscriber;
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt as _};

    use super::super::entry::tests::{entry, scribe};
    use super::super::site::{PROBE_NAME, Site};
    use super::super::verify::{Wishes, verify};
    use super::kept::KEPT_MAX;
    use super::*;

    /// The name of the day that is so many milliseconds from now.
    pub fn day_now(after_ms: u64) -> String {
        day_of(wall_clock::ms_since_1970() + after_ms)
    }

    /// Remembers for as long as a test.
    #[derive(Clone, Default)]
    pub struct Memory(Arc<Mutex<Option<Vec<u8>>>>);

    impl Witness for Memory {
        fn recall(&self) -> io::Result<Option<Vec<u8>>> {
            Ok(self.0.lock().unwrap().clone())
        }

        fn note(&self, note: &[u8]) -> io::Result<()> {
            *self.0.lock().unwrap() = Some(note.to_vec());
            Ok(())
        }
    }

    /// A server begins, writes these lines, and stops.
    fn live(path: &Path, memory: &Memory, numbers: impl IntoIterator<Item = u128>) -> Writer {
        let folder = LedgerFolder::open(Site::new(path, &[]), &today()).unwrap();
        let metrics = Arc::new(LedgerMetrics::default());
        let mut writer = Writer::new(folder, scribe(), Box::new(memory.clone()), metrics);
        writer.ready().unwrap();
        for number in numbers {
            let wanted = Wanted {
                entry: entry(number),
                is_durable: true,
                since_ms: 1,
                tell: None,
            };
            writer.write(vec![wanted]);
        }
        writer.end();
        assert!(!writer.is_failing);
        writer
    }

    fn wrong(path: &Path) -> Vec<String> {
        let told = verify(path, &Wishes::default()).unwrap();
        told.discrepancies.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_start_misses_the_end_that_was_taken_away() {
        let place = tempfile::tempdir().unwrap();
        let (path, memory) = (place.path(), Memory::default());
        drop(live(path, &memory, 1..=3));
        let second = live(path, &memory, 4..=5);
        assert_eq!(
            (second.metrics.disturbances.get(), wrong(path)),
            (0, vec![])
        );
        drop(second);
        let day = path.join(day_now(0));
        let bytes = fs::read(&day).unwrap();
        let lines: Vec<_> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        // The whole file: the first line of the new one is not the beginning.
        fs::remove_file(&day).unwrap();
        let third = live(path, &memory, 6..=6);
        assert_eq!(third.metrics.disturbances.get(), 1);
        drop(third);
        assert_eq!(wrong(path).len(), 1);
        // Put back together it is whole.
        let sixth = fs::read(&day).unwrap();
        fs::write(&day, [&bytes[..], &sixth].concat()).unwrap();
        assert_eq!(wrong(path), [""; 0]);
        // The last lines.
        fs::write(&day, lines[..2].concat()).unwrap();
        let fourth = live(path, &memory, 7..=7);
        assert_eq!(fourth.metrics.disturbances.get(), 1);
        drop(fourth);
        let told = wrong(path);
        assert!(
            told.len() == 1 && told[0].contains(":3 does not follow"),
            "{told:?}"
        );
        // The end that it has now is there.
        let fifth = live(path, &memory, []);
        assert_eq!(fifth.metrics.disturbances.get(), 0);
    }

    #[test]
    fn a_file_that_is_removed_while_nothing_comes_is_made_again() {
        let place = tempfile::tempdir().unwrap();
        let memory = Memory::default();
        let mut writer = live(place.path(), &memory, 1..=2);
        let day = place.path().join(day_now(0));
        fs::remove_file(&day).unwrap();
        writer.look_around();
        assert_eq!(writer.metrics.disturbances.get(), 1);
        assert_eq!(wrong(place.path()), [""; 0]);
        // No line goes where nobody looks, and nobody hears that it was written.
        let away = place.path().with_extension("away");
        fs::rename(place.path(), &away).unwrap();
        writer.look_around();
        assert!(writer.is_failing);
        fs::rename(&away, place.path()).unwrap();
        writer.look_around();
        assert!(!writer.is_failing);
    }

    /// What nobody waits for is kept while it cannot be written, and lost only with the process.
    #[test]
    fn lines_are_kept_until_they_can_be_written() {
        let place = tempfile::tempdir().unwrap();
        let (path, away) = (place.path().join("custody"), place.path().join("away"));
        fs::create_dir(&path).unwrap();
        let mut writer = live(&path, &Memory::default(), 1..=1);
        let wanted = |number| Wanted {
            entry: entry(number),
            is_durable: false,
            since_ms: 1,
            tell: None,
        };
        let written = || {
            fs::read_to_string(path.join(day_now(0)))
                .unwrap()
                .lines()
                .count()
        };
        fs::rename(&path, &away).unwrap();
        for number in 2..=4 {
            writer.write(vec![wanted(number)]);
        }
        writer.look_around();
        assert!(writer.is_failing);
        fs::rename(&away, &path).unwrap();
        writer.look_around();
        assert_eq!((written(), writer.metrics.lost.get()), (4, 0));
        assert_eq!(wrong(&path), [""; 0]);
        // Before others that come, and no more of them than may be.
        fs::rename(&path, &away).unwrap();
        let many = (5..).map(wanted).take(KEPT_MAX + 3).collect();
        writer.write(many);
        assert_eq!(writer.metrics.lost.get(), 3);
        fs::rename(&away, &path).unwrap();
        writer.write(vec![wanted(1 << 20)]);
        assert_eq!(written(), 4 + KEPT_MAX + 1);
        fs::rename(&path, &away).unwrap();
        writer.write(vec![wanted(1 << 21)]);
        writer.end();
        assert_eq!((writer.metrics.lost.get(), writer.told_lost), (4, 4));
    }

    #[test]
    fn a_disk_that_is_full_at_the_end_is_not_told_as_well_again() {
        let place = tempfile::tempdir().unwrap();
        let mut writer = live(place.path(), &Memory::default(), 1..=1);
        writer.is_failing = true;
        // Nothing is to be synced, and nothing can be written.
        let probe = place.path().join(PROBE_NAME);
        fs::create_dir(&probe).unwrap();
        writer.end();
        assert!(writer.is_failing);
        fs::remove_dir(&probe).unwrap();
        writer.end();
        assert!(!writer.is_failing);
    }

    /// Asks, when the log is told of something.
    struct Asking<A>(A);

    impl<S: Subscriber, A: Fn() + 'static> Layer<S> for Asking<A> {
        fn on_event(&self, _: &tracing::Event<'_>, _: Context<'_, S>) {
            (self.0)();
        }
    }

    #[test]
    fn whoever_hears_of_a_change_finds_it_so() {
        let place = tempfile::tempdir().unwrap();
        let mut writer = live(place.path(), &Memory::default(), []);
        let metrics = Arc::clone(&writer.metrics);
        let found = Arc::new(Mutex::new(Vec::new()));
        let finds = Arc::clone(&found);
        let ask = move || finds.lock().unwrap().push(metrics.is_failing());
        let log = tracing_subscriber::Registry::default().with(Asking(ask));
        tracing::subscriber::with_default(log, || {
            writer.note(&Err(io::ErrorKind::StorageFull.into()));
            writer.note(&Ok(()));
        });
        assert_eq!(*found.lock().unwrap(), [true, false]);
    }

    /// Two lines of yesterday, and none of today.
    fn live_yesterday(path: &Path, memory: &Memory) -> (Writer, String) {
        let mut writer = live(path, memory, []);
        let yesterday = day_of(wall_clock::ms_since_1970() - 86_400_000);
        let (day, _) = writer.folder.begin(&yesterday).unwrap();
        writer.place = Place::Open(day);
        let mut lines = Vec::new();
        for number in 1..=2 {
            writer.chain.append(&entry(number), &mut lines);
        }
        writer.write_lines(&lines, true).unwrap();
        writer.chain.keep();
        writer.end();
        (writer, yesterday)
    }

    /// docs/evidence.md: days that are over may be put away, whoever runs meanwhile.
    #[test]
    fn a_day_that_is_over_may_be_put_away_before_today_has_a_line() {
        for is_stopped in [false, true] {
            let place = tempfile::tempdir().unwrap();
            let (path, memory) = (place.path().join("custody"), Memory::default());
            fs::create_dir(&path).unwrap();
            let (mut writer, yesterday) = live_yesterday(&path, &memory);
            let away = place.path().join("away");
            if is_stopped {
                drop(writer);
                fs::rename(path.join(&yesterday), &away).unwrap();
                writer = live(&path, &memory, 3..=3);
            } else {
                fs::rename(path.join(&yesterday), &away).unwrap();
                writer.look_around();
                assert!(!path.join(&yesterday).exists());
                // It stays away, and lines go on.
                writer.look_around();
                let wanted = Wanted {
                    entry: entry(3),
                    is_durable: true,
                    since_ms: 1,
                    tell: None,
                };
                writer.write(vec![wanted]);
            }
            assert!(!path.join(&yesterday).exists());
            assert_eq!(writer.metrics.disturbances.get(), 0);
            assert_eq!(writer.metrics.lost.get(), 0);
            drop(writer);
            // Put back, it is whole: the chain went on behind it.
            fs::rename(&away, path.join(&yesterday)).unwrap();
            assert_eq!(wrong(&path), [""; 0]);
        }
    }

    /// What is still there, and shorter, was not put away.
    #[test]
    fn a_day_that_is_over_and_was_cut_is_missed() {
        let place = tempfile::tempdir().unwrap();
        let memory = Memory::default();
        let (writer, yesterday) = live_yesterday(place.path(), &memory);
        drop(writer);
        fs::write(place.path().join(&yesterday), "").unwrap();
        let next = live(place.path(), &memory, 3..=3);
        assert_eq!(next.metrics.disturbances.get(), 1);
    }
}
