//! Whether all is well: pure judgement of what was read.
//!
//! *Live* means that every shard has its turns; if not, nothing but a restart helps. *Ready* means
//! that new uploads are taken; if not, a load balancer had better ask another node, and a person
//! look at the reason. A full disk is not ready, and never not live: no restart makes it empty.

use std::path::PathBuf;

use indicatif::HumanBytes;
use serde::{Deserialize, Serialize};

use crate::bits::refusal::{Refusal, Scarce};
use crate::diagnosis;
use crate::metrics::Metrics;
use crate::metrics::labels;
use crate::metrics::ledger::LedgerTrouble;
use crate::metrics::shard::ShardMetrics;

/// A shard that was not seen to run for so long is stuck.
pub const BEAT_MS_MAX: u64 = 10_000;
/// Health that was judged longer ago says nothing: whoever judges is held up.
pub const JUDGED_MS_MAX: u64 = 15_000;
/// A line of the custody ledger that waits for longer says that its disk does not answer.
const LEDGER_MS_MAX: u64 = 10_000;
/// Part of all descriptors, in percent, from which on new connections are in danger.
const DESCRIPTORS_PERCENT_MAX: u64 = 90;

/// What was read of the server.
#[derive(Clone, Debug, Default)]
pub struct Readings {
    /// The time of these readings, in milliseconds of the shards' clock.
    pub now_ms: u64,
    /// One for each shard.
    pub shards: Vec<ShardBeat>,
    /// The server is stopping.
    pub is_draining: bool,
    /// It does so for a new program, which takes its place.
    pub makes_way: bool,
    /// That are open: a server that stops waits for them.
    pub connections: u64,
    /// Bytes of former starts' journals that were read back, of so many.
    pub journals: (u64, u64),
    pub premises: Vec<Premises>,
    /// Events that one shard owes to one target, the most there are.
    pub events_owed: u64,
    /// How many it may be; 0 if nobody looks.
    pub events_owed_max: u64,
    /// Buckets of object stores that do not take what is theirs, and why.
    pub stores: Vec<(String, String)>,
    /// Locations at which as much waits for the store as may.
    pub staging_full: Vec<String>,
    pub descriptors: u64,
    /// How many there may be.
    pub descriptors_max: u64,
    /// Sessions that wait for a disk that was not there at the start.
    pub sessions_left: u64,
    /// Shelves that were not there then.
    pub shelves_missing: Vec<PathBuf>,
    /// Why the last write to the custody ledger failed, if it did.
    pub ledger_wrong: Option<LedgerTrouble>,
    /// For how long the oldest line has waited for it, in milliseconds.
    pub ledger_waits_ms: u64,
}

impl Readings {
    /// What is known of the shards without asking anybody.
    pub fn of(metrics: &Metrics, now_ms: u64) -> Self {
        let shards = metrics.shards.iter().map(|shard| ShardBeat {
            beat_ms: shard.beat_ms.get(),
            is_recovering: shard.is_recovering.get() != 0,
            disk_refusal: disk_refusal(shard, metrics.disk_tried_ms.get()),
            lacks: lack(shard),
        });
        Self {
            now_ms,
            shards: shards.collect(),
            connections: (metrics.shards.iter())
                .map(|shard| shard.connections.get())
                .sum(),
            journals: (metrics.journals_read.get(), metrics.journals_bytes.get()),
            sessions_left: (metrics.shards.iter())
                .map(|shard| shard.sessions_left.get())
                .sum(),
            shelves_missing: metrics.shelves_missing.get().cloned().unwrap_or_default(),
            ledger_wrong: metrics.ledger.wrong(),
            ledger_waits_ms: metrics.ledger.oldest_waits_ms(now_ms),
            stores: metrics.objects.wrong(),
            makes_way: metrics.makes_way.get() != 0,
            is_draining: metrics.is_ending.get() != 0,
            events_owed: (metrics.shards.iter().flat_map(|shard| &shard.events))
                .map(|target| target.pending.get())
                .max()
                .unwrap_or_default(),
            ..Self::default()
        }
    }
}

/// What was read of a shard.
#[derive(Clone, Copy, Debug)]
pub struct ShardBeat {
    /// When it was last seen to run; 0 before that.
    pub beat_ms: u64,
    /// It is reading its sessions back.
    pub is_recovering: bool,
    /// By which of [`labels::REASONS`] the disk has refused uploads, if no new one was taken since,
    /// and no write that was tried has gone well.
    pub disk_refusal: Option<&'static str>,
    /// What there is too little of for another session.
    pub lacks: Option<Scarce>,
}

fn lack(shard: &ShardMetrics) -> Option<Scarce> {
    let number = usize::try_from(shard.lacks.get()).ok()?;
    Scarce::ALL.get(number.checked_sub(1)?).copied()
}

/// By what the disk has refused the uploads of a shard, and may do so still: whoever sends others
/// here by [`judge`] sends none while it says that, so the server tries by itself. `tried_ms`: when
/// that last went well.
pub fn disk_refusal(shard: &ShardMetrics, tried_ms: u64) -> Option<&'static str> {
    let refused_ms = shard.disk_refused_ms.get();
    let good_ms = shard.taken_ms.get().max(tried_ms);
    let reason = usize::try_from(shard.disk_refused.get()).ok();
    reason
        .filter(|_| refused_ms > 0 && good_ms <= refused_ms)
        .and_then(|reason| labels::REASONS.get(reason).copied())
}

/// A folder of the server's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Premises {
    pub kind: PremisesKind,
    pub path: PathBuf,
    /// The number of the root, if it is one.
    pub root: Option<usize>,
    /// What is not as it was at the start, and what helps.
    pub wrong: Option<(String, &'static str)>,
    /// What its file system says; nothing where it cannot be asked.
    pub space: Option<SpaceReading>,
}

/// Which folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PremisesKind {
    #[default]
    Root,
    WorkDirectory,
    Ledger,
}

impl PremisesKind {
    fn word(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::WorkDirectory => "work directory",
            Self::Ledger => "custody ledger",
        }
    }
}

/// What a file system says of its space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceReading {
    pub bytes_total: u64,
    pub bytes_free: u64,
    /// What is kept for running uploads.
    pub bytes_min: u64,
    pub inodes_total: u64,
    pub inodes_free: u64,
    /// What is kept for running uploads.
    pub inodes_min: u64,
    pub is_read_only: bool,
}

/// One reason why not all is well, with what helps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// For programs: of a fixed set.
    pub reason: String,
    /// For people.
    pub why: String,
    pub remedy: String,
}

impl Reason {
    fn new(reason: &str, why: String, remedy: &str) -> Self {
        Self {
            reason: reason.to_owned(),
            why,
            remedy: remedy.to_owned(),
        }
    }
}

/// What was judged.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Why the server is not live.
    pub not_live: Vec<Reason>,
    /// Why it is not ready; without the reasons above.
    pub not_ready: Vec<Reason>,
}

impl Health {
    /// Whether no restart is needed.
    pub fn is_live(&self) -> bool {
        self.not_live.is_empty()
    }

    /// Whether new uploads are taken.
    pub fn is_ready(&self) -> bool {
        self.not_live.is_empty() && self.not_ready.is_empty()
    }

    /// All reasons, the worst first.
    pub fn reasons(&self) -> Vec<Reason> {
        [&*self.not_live, &*self.not_ready].concat()
    }
}

/// Judges.
pub fn judge(readings: &Readings) -> Health {
    let mut not_ready = Vec::new();
    if readings.is_draining {
        let word = word_of_end(readings);
        let why = match to_end(readings) {
            None => format!("the server is {word}"),
            Some(those) => format!("the server is {word}, and {those}"),
        };
        let remedy = match readings.makes_way {
            true => "wait: the new program begins by itself",
            false => "wait for the next start",
        };
        not_ready.push(Reason::new("draining", why, remedy));
    }
    if let Some(why) = recovering(readings) {
        not_ready.push(Reason::new("recovering", why, "wait"));
    }
    for place in &readings.premises {
        not_ready.extend(judge_premises(place));
    }
    not_ready.extend(judge_left(readings));
    not_ready.extend(judge_ledger(readings));
    // What the file system does not say of itself: the first upload that it refuses does. The
    // ledger's own trouble refuses uploads as well, and is told already.
    let refusal = (readings.shards.iter()).find_map(|shard| shard.disk_refusal);
    if let Some(refusal) = refusal.filter(|_| not_ready.is_empty()) {
        let (why, remedy) = refused_by_disk(refusal);
        not_ready.push(Reason::new("disk_refuses", why, remedy));
    }
    let (owed, max) = (readings.events_owed, readings.events_owed_max);
    if max > 0 && owed >= max {
        let why = format!("{owed} events wait for their target on one shard, and no more may");
        let remedy = "mend the target; `bitsd status` names it";
        not_ready.push(Reason::new("events_owed", why, remedy));
    }
    for (bucket, why) in &readings.stores {
        let why = format!("the object store of the bucket {bucket} takes nothing: {why}");
        let remedy = "look at the store: it is asked again each minute; files that were promised wait here and get there by \
                      themselves, and the clients of others come back";
        not_ready.push(Reason::new("object_store", why, remedy));
    }
    for prefix in &readings.staging_full {
        let why = format!("as much waits for the object store of /{prefix} as may");
        let remedy = "look at the store, or raise store_staging_max";
        not_ready.push(Reason::new("staging_full", why, remedy));
    }
    not_ready.extend(judge_lack(readings));
    let (open, max) = (readings.descriptors, readings.descriptors_max);
    if max > 0 && u128::from(open) * 100 > u128::from(max) * u128::from(DESCRIPTORS_PERCENT_MAX) {
        let why = format!("{open} of {max} file descriptors are open");
        let remedy = "raise RLIMIT_NOFILE (systemd: LimitNOFILE=), and restart";
        not_ready.push(Reason::new("descriptors", why, remedy));
    }
    Health {
        not_live: stuck(readings),
        not_ready,
    }
}

/// New uploads may be taken; but the clients of those that wait come in vain, and what is published
/// meanwhile may lie beneath a mount point.
fn judge_left(readings: &Readings) -> Option<Reason> {
    let waiting = match readings.sessions_left {
        0 => return None,
        1 => "1 unfinished upload waits".to_owned(),
        count => format!("{count} unfinished uploads wait"),
    };
    let missing = readings.shelves_missing.iter();
    let missing: Vec<_> = missing.map(|path| path.display().to_string()).collect();
    let why = format!(
        "{waiting} for {}, not there at the start",
        missing.join(", ")
    );
    let remedy = "mount it and restart bitsd; if it is gone for good, the line shelf_missing of the log says what to do";
    Some(Reason::new("uploads_wait", why, remedy))
}

/// Where one shard has room, its clients begin uploads.
fn judge_lack(readings: &Readings) -> Option<Reason> {
    let lacks: Option<Vec<_>> = readings.shards.iter().map(|shard| shard.lacks).collect();
    let lack = lacks?.into_iter().next()?;
    let (reason, why) = match lack {
        Scarce::Sessions => (
            "sessions_full",
            "every shard has as many unfinished uploads as it may",
        ),
        Scarce::Records => (
            "records_full",
            "the records of unfinished uploads take as much of every shard's journal as they may",
        ),
        _ => (
            "memory_full",
            "there is no memory for more unfinished uploads on any shard",
        ),
    };
    let remedy = diagnosis::remedy(&Refusal::Busy(lack)).unwrap_or("let uploads end");
    Some(Reason::new(reason, why.to_owned(), remedy))
}

/// Uploads could be taken, and none of them closed.
fn judge_ledger(readings: &Readings) -> Option<Reason> {
    let waits_ms = readings.ledger_waits_ms;
    let (why, remedy) = match &readings.ledger_wrong {
        Some(LedgerTrouble { why, remedy }) => {
            let why = format!("the custody ledger cannot be written: {why}");
            (why, *remedy)
        }
        None if waits_ms > LEDGER_MS_MAX => {
            let seconds = waits_ms / 1_000;
            let why =
                format!("the custody ledger has written nothing for {seconds} s, and lines wait");
            (why, None)
        }
        None => return None,
    };
    let remedy = remedy.unwrap_or(
        "look at the folder of `custody` and its disk (`df -h`, `dmesg`); clients come back by themselves",
    );
    Some(Reason::new("custody_failed", why, remedy))
}

fn refused_by_disk(refusal: &str) -> (String, &'static str) {
    let (what, remedy) = match refusal {
        "disk_full" => (
            "no space, or no inode, is left",
            "free some space (`df -h`, `df -i`); clients come back by themselves",
        ),
        "quota_exceeded" => (
            "the disk quota of the server's user is used up",
            "raise it (`quota`, `repquota`), or free some space",
        ),
        "read_only" => (
            "the file system is read-only",
            "look at `dmesg`, and mount it for writing",
        ),
        "disk_failed" => (
            "the device reports errors",
            "look at `dmesg` and at the device",
        ),
        _ => (
            "the disk cannot be used",
            "look at the lines `disk_failed` of the log, which name the cause",
        ),
    };
    (format!("the last upload was refused: {what}"), remedy)
}

/// The shards that do not run.
pub fn stuck(readings: &Readings) -> Vec<Reason> {
    let shards = readings.shards.iter().enumerate();
    let stuck = shards.filter_map(|(number, shard)| {
        let age_ms = readings.now_ms.saturating_sub(shard.beat_ms);
        (shard.beat_ms > 0 && age_ms > BEAT_MS_MAX).then(|| {
            let seconds = age_ms / 1_000;
            let why = format!("shard-{number} has done nothing for {seconds} s");
            let remedy = "look at its disk (`cat /proc/PID/task/*/stack`), and restart";
            Reason::new("stalled_shard", why, remedy)
        })
    });
    stuck.collect()
}

/// How far a start has come, unless all sessions are read back.
pub fn recovering(readings: &Readings) -> Option<String> {
    let recovering = readings.shards.iter().filter(|shard| shard.is_recovering);
    let (count, all) = (recovering.count(), readings.shards.len());
    let shards = format!("{count} of {all} shards are reading their sessions back");
    let (read, bytes) = readings.journals;
    let (so_far, of) = (HumanBytes(read), HumanBytes(bytes));
    match (count, read < bytes) {
        (0, _) => None,
        (_, false) => Some(shards),
        (_, true) => Some(format!("{shards}, {so_far} of {of} of the journals so far")),
    }
}

/// What a server that comes to its end does.
pub fn word_of_end(readings: &Readings) -> &'static str {
    match readings.makes_way {
        true => "making way for the new program",
        false => "stopping",
    }
}

/// What a server that stops waits for, if anything.
pub fn to_end(readings: &Readings) -> Option<String> {
    match readings.connections {
        0 => None,
        1 => Some("waits for 1 connection to end".to_owned()),
        count => Some(format!("waits for {count} connections to end")),
    }
}

/// Nobody has judged for a while.
pub fn not_judged(age_ms: u64) -> Reason {
    let seconds = age_ms / 1_000;
    let why = format!("nothing was looked at for {seconds} s: a file system does not answer");
    let remedy = "look at the mounts of the roots and of the work directory";
    Reason::new("not_judged", why, remedy)
}

fn judge_premises(place: &Premises) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let (what, path) = (place.kind.word(), place.path.display());
    if let Some((wrong, remedy)) = &place.wrong {
        let reason = match place.kind {
            PremisesKind::Root => "root_changed",
            PremisesKind::WorkDirectory => "work_dir_changed",
            PremisesKind::Ledger => "custody_failed",
        };
        let why = format!("the {what} {path} is not what it was: {wrong}");
        reasons.push(Reason::new(reason, why, remedy));
    }
    let Some(space) = place.space else {
        return reasons;
    };
    if space.is_read_only {
        let why = format!("the file system of the {what} {path} is read-only");
        let remedy = "look at `dmesg`, and mount it for writing";
        reasons.push(Reason::new("read_only", why, remedy));
    }
    if space.bytes_total > 0 && (space.bytes_free < space.bytes_min || space.bytes_free == 0) {
        let why = format!(
            "{} are free at the {what} {path}, and {} are kept for running uploads",
            HumanBytes(space.bytes_free),
            HumanBytes(space.bytes_min)
        );
        let remedy = match space.bytes_min < space.bytes_total {
            true => "free some space (`df -h`); clients come back by themselves",
            false => {
                "lower limits.free_bytes_min, and restart: it is more than the file system has"
            }
        };
        reasons.push(Reason::new("space_low", why, remedy));
    }
    if space.inodes_total > 0 && (space.inodes_free < space.inodes_min || space.inodes_free == 0) {
        let why = format!(
            "{} more files can be made at the {what} {path}, and {} are kept for running uploads",
            space.inodes_free, space.inodes_min
        );
        let remedy = "remove some files (`df -i`); clients come back by themselves";
        reasons.push(Reason::new("inodes_low", why, remedy));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> Readings {
        let shard = ShardBeat {
            beat_ms: 100_000,
            is_recovering: false,
            disk_refusal: None,
            lacks: None,
        };
        let space = SpaceReading {
            bytes_total: 1_000,
            bytes_free: 500,
            bytes_min: 10,
            inodes_total: 100,
            inodes_free: 50,
            inodes_min: 1,
            is_read_only: false,
        };
        Readings {
            stores: Vec::new(),
            staging_full: Vec::new(),
            now_ms: 101_000,
            shards: vec![shard; 2],
            is_draining: false,
            makes_way: false,
            connections: 3,
            journals: (0, 0),
            premises: vec![Premises {
                path: "/r".into(),
                space: Some(space),
                ..Premises::default()
            }],
            events_owed: 0,
            events_owed_max: 100,
            descriptors: 10,
            descriptors_max: 1_000,
            sessions_left: 0,
            shelves_missing: Vec::new(),
            ledger_wrong: None,
            ledger_waits_ms: 9_000,
        }
    }

    /// The reasons that a change of healthy readings leads to, and whether the server is live.
    fn after(change: impl FnOnce(&mut Readings)) -> (bool, Vec<String>) {
        let mut readings = well();
        change(&mut readings);
        let verdict = judge(&readings);
        let reasons = verdict.reasons();
        assert_eq!(verdict.is_ready(), reasons.is_empty());
        assert!(reasons.iter().all(|reason| !reason.remedy.is_empty()));
        let words = reasons.into_iter().map(|reason| reason.reason);
        (verdict.is_live(), words.collect())
    }

    fn space(readings: &mut Readings) -> &mut SpaceReading {
        readings.premises[0].space.as_mut().unwrap()
    }

    #[test]
    fn each_trouble_has_its_reason_and_only_a_stuck_shard_is_not_live() {
        let not_ready = |reason: &str| (true, vec![reason.to_owned()]);
        assert_eq!(after(|_| {}), (true, vec![]));
        assert_eq!(after(|r| r.is_draining = true), not_ready("draining"));
        let draining = Readings {
            is_draining: true,
            ..well()
        };
        let why = judge(&draining).not_ready[0].why.clone();
        assert!(why.contains("waits for 3 connections"), "{why}");
        let making_way = Readings {
            makes_way: true,
            ..draining
        };
        let reason = judge(&making_way).not_ready.remove(0);
        let expected =
            "the server is making way for the new program, and waits for 3 connections to end";
        assert_eq!(reason.why, expected);
        assert!(reason.remedy.contains("begins by itself"), "{reason:?}");
        let recovering = |r: &mut Readings| r.shards[1].is_recovering = true;
        assert_eq!(after(recovering), not_ready("recovering"));
        let half_read = Readings {
            journals: (1 << 20, 2 << 20),
            ..well()
        };
        assert_eq!(super::recovering(&half_read), None, "no shard waits for it");
        let mut half_read = half_read;
        recovering(&mut half_read);
        let why = super::recovering(&half_read).unwrap();
        assert!(why.starts_with("1 of 2 shards"), "{why}");
        assert!(
            why.ends_with("1.00 MiB of 2.00 MiB of the journals so far"),
            "{why}"
        );
        assert_eq!(after(|r| space(r).bytes_free = 9), not_ready("space_low"));
        let nothing_is_kept = |r: &mut Readings| {
            (space(r).bytes_min, space(r).bytes_free) = (0, 0);
        };
        assert_eq!(after(nothing_is_kept), not_ready("space_low"));
        let no_inode = |r: &mut Readings| {
            (space(r).inodes_min, space(r).inodes_free) = (0, 0);
        };
        assert_eq!(after(no_inode), not_ready("inodes_low"));
        let refused = |r: &mut Readings| r.shards[1].disk_refusal = Some("read_only");
        assert_eq!(after(refused), not_ready("disk_refuses"));
        assert_eq!(after(|r| space(r).inodes_free = 0), not_ready("inodes_low"));
        assert_eq!(
            after(|r| space(r).is_read_only = true),
            not_ready("read_only")
        );
        let wrong =
            |r: &mut Readings| r.premises[0].wrong = Some(("renamed".to_owned(), "rename it"));
        assert_eq!(after(wrong), not_ready("root_changed"));
        // A shelf that nothing waits for is no trouble.
        let missing = |r: &mut Readings| r.shelves_missing = vec!["/m/.bitsd".into()];
        assert_eq!(after(missing), (true, vec![]));
        let waiting = |r: &mut Readings| {
            missing(r);
            r.sessions_left = 2;
        };
        assert_eq!(after(waiting), not_ready("uploads_wait"));
        let mut readings = well();
        waiting(&mut readings);
        let why = judge(&readings).not_ready[0].why.clone();
        assert_eq!(
            why,
            "2 unfinished uploads wait for /m/.bitsd, not there at the start"
        );
        assert_eq!(after(|r| r.events_owed = 100), not_ready("events_owed"));
        assert_eq!(after(|r| r.events_owed = 99), (true, vec![]));
        let failing = |r: &mut Readings| {
            r.ledger_wrong = Some(LedgerTrouble {
                why: "others can write to /c".to_owned(),
                remedy: None,
            });
            // Whoever closes an upload hears of the disk.
            r.shards[1].disk_refusal = Some("disk_unusable");
        };
        assert_eq!(after(failing), not_ready("custody_failed"));
        let slow = |r: &mut Readings| r.ledger_waits_ms = 11_000;
        assert_eq!(after(slow), not_ready("custody_failed"));
        assert_eq!(after(|r| r.descriptors = 901), not_ready("descriptors"));
        assert_eq!(after(|r| r.descriptors = 900), (true, vec![]));
        for (open, max, is_ready) in [(19, 99, true), (94, 199, true), (90, 99, false)] {
            let (_, reasons) = after(|r| (r.descriptors, r.descriptors_max) = (open, max));
            assert_eq!(reasons.is_empty(), is_ready, "{open} of {max}");
        }
        // tmpfs and btrfs count no inodes, and some file systems no bytes.
        assert_eq!(after(|r| space(r).inodes_total = 0), (true, vec![]));
        let silent = |r: &mut Readings| r.premises[0].space = None;
        assert_eq!(after(silent), (true, vec![]));
        let stuck = |r: &mut Readings| r.now_ms = 100_000 + BEAT_MS_MAX + 1;
        let both = vec!["stalled_shard".to_owned(); 2];
        assert_eq!(after(stuck), (false, both));
        // It has not begun: that is no stall.
        let before = |r: &mut Readings| r.shards[0].beat_ms = 0;
        assert_eq!(after(before), (true, vec![]));
    }

    #[test]
    fn a_reason_names_shard_and_place() {
        let mut readings = well();
        readings.shards[1].beat_ms = 1;
        space(&mut readings).bytes_free = 9;
        let reasons = judge(&readings).reasons();
        assert!(reasons[0].why.contains("shard-1"), "{reasons:?}");
        assert!(reasons[1].why.contains("/r"), "{reasons:?}");
    }

    #[test]
    fn more_space_than_there_is_cannot_be_freed() {
        let mut readings = well();
        *space(&mut readings) = SpaceReading {
            bytes_total: 252 << 30,
            bytes_free: 3 << 30,
            bytes_min: 4 << 30,
            ..SpaceReading::default()
        };
        let reason = judge(&readings).reasons().remove(0);
        let expected =
            "3.00 GiB are free at the root /r, and 4.00 GiB are kept for running uploads";
        assert_eq!(reason.why, expected);
        assert!(reason.remedy.contains("df -h"), "{reason:?}");
        space(&mut readings).bytes_min = 100 << 40;
        let reason = judge(&readings).reasons().remove(0);
        assert!(reason.remedy.contains("free_bytes_min"), "{reason:?}");
    }

    #[test]
    fn without_room_for_another_upload_on_any_shard_it_is_not_ready() {
        for (lack, reason) in [
            (Scarce::Sessions, "sessions_full"),
            (Scarce::Records, "records_full"),
            (Scarce::Memory, "memory_full"),
        ] {
            let one = |r: &mut Readings| r.shards[0].lacks = Some(lack);
            assert_eq!(after(one), (true, vec![]));
            let all = |r: &mut Readings| {
                r.shards
                    .iter_mut()
                    .for_each(|shard| shard.lacks = Some(lack));
            };
            assert_eq!(after(all), (true, vec![reason.to_owned()]));
        }
    }

    #[test]
    fn a_store_that_takes_nothing_is_not_ready() {
        let mut readings = well();
        readings.stores = vec![("b".to_owned(), "AccessDenied".to_owned())];
        readings.staging_full = vec!["in".to_owned()];
        let health = judge(&readings);
        let reasons: Vec<_> = health.not_ready.iter().map(|why| &*why.reason).collect();
        assert_eq!(reasons, ["object_store", "staging_full"]);
        assert!(health.is_live());
    }
}
