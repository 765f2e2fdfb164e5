//! The sessions of a server that does not run, for a person to look at and to end. The lock of the
//! work directory is held meanwhile, so that no server begins under one's eyes.
//!
//! Who ends a session here does what a server does: a tombstone of it, or the record that owes
//! others an event of its end, is written and synced, and then its files go. They stand in a
//! journal of their own, of a generation after all that are there. A crash between any two steps
//! leaves a session that the next start either knows or has buried, and that start removes what is
//! left of its files. Only where the disk has no room for so small a journal do the files go first:
//! that is what such a disk needs, and their clients begin again just the same.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, Stat};

use super::account;
use super::boot::Boot;
use super::directories::named_in;
use super::handed::HandedLocks;
use super::memory;
use super::owner::{NOTE_BYTES_MAX, OwnerNote, is_full};
use super::readback;
use super::strangers;
use super::work_folder::{BadFolder, Lock, WorkFolder};
use crate::admin::view::SessionView;
use crate::bits::session::{Ending, State, Step};
use crate::bits::session_id::SessionId;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::server::rows::SessionRow;
use crate::server::rules::rules;
use crate::vault::names::{
    LOCK_NAME, NamesOf, OWNER_NAME, SHELVES_NAME, journal_name, next_generation, part_name,
    reply_name,
};
use crate::vault::owed::{EventTargets, Owed};
use crate::vault::readback::{Damaged, Newest};
use crate::vault::record::{Record, RecordedPlace};
use crate::wall_clock;

/// What became of a session that was to end: it is over, or why it is not.
pub type EndedOffline = (SessionId, Result<(), &'static str>);

/// Sessions that have not ended, in the order of their ids; and what could not be read, in a
/// sentence each: uploads may be missing then.
///
/// # Errors
/// Why they cannot be read, in words.
pub fn sessions(config: &Config) -> Result<(Vec<SessionView>, Vec<String>), String> {
    let mut resting = Resting::open(config)?;
    let mut unread: Vec<_> = (resting.damaged.iter())
        .map(|Damaged { name, why }| format!("{name}: {why}; uploads may be missing here"))
        .collect();
    let is_unknown = |newest: &&Newest| matches!(newest, Newest::Unknown { .. });
    match resting.told.values().filter(is_unknown).count() {
        0 => {}
        1 => unread.push("1 upload is of another version of bitsd, and missing here".to_owned()),
        count => unread.push(format!(
            "{count} uploads are of another version of bitsd, and missing here"
        )),
    }
    // Each is let go when it was seen: there may be many.
    let told = std::mem::take(&mut resting.told).into_iter();
    let sessions = told.filter_map(|(id, newest)| match newest {
        Newest::Record { record, .. } => resting.seen(config, id, &record),
        Newest::Tombstone(..) | Newest::Unknown { .. } => None,
    });
    Ok((sessions.collect(), unread))
}

/// Ends sessions by [`Step::Cancel`] or [`Step::Expire`]; what became of each.
///
/// # Errors
/// Why none of them has ended, in words.
pub fn end(config: &Config, ids: &[SessionId], by: Step) -> Result<Vec<EndedOffline>, String> {
    let resting = Resting::open(config)?;
    let (mut frames, mut outcomes) = (Vec::new(), Vec::new());
    for id in ids {
        outcomes.push((*id, resting.end(config, *id, by, &mut frames)));
    }
    if frames.is_empty() {
        return Ok(outcomes);
    }
    let ended = outcomes.iter().filter(|(_, outcome)| outcome.is_ok());
    let ended: Vec<_> = ended.map(|(id, _)| *id).collect();
    let mut written = resting.write_journal(&frames);
    if written.as_ref().is_err_and(is_full) {
        resting.remove_files(&ended);
        written = resting.write_journal(&frames);
    }
    written.map_err(|error| {
        let work = resting.work.path().display();
        format!("{work}: that they have ended cannot be written: {error}")
    })?;
    resting.remove_files(&ended);
    Ok(outcomes)
}

/// The work directory of a server that does not run, and what its journals say.
struct Resting {
    work: WorkFolder,
    /// The other folders of unfinished uploads, as far as they are there.
    shelves: Vec<WorkFolder>,
    /// Some are not.
    misses_a_shelf: bool,
    told: BTreeMap<SessionId, Newest>,
    /// Journals that hold more than can be read.
    damaged: Arc<[Damaged]>,
    _until_the_end: Lock,
}

impl Resting {
    fn open(config: &Config) -> Result<Self, String> {
        let path = &config.work_dir;
        let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        // Not the remedy of a start: whoever runs this is root, or somebody else, and not the
        // server.
        let of_owner = |owner| {
            failed(&format_args!(
                "it belongs to {}: run this as that account, by `sudo -u {}`",
                account::user(owner),
                account::to_chown(owner)
            ))
        };
        let work = WorkFolder::open(path, true).map_err(|why| match why {
            BadFolder::Owner(owner) => of_owner(owner),
            BadFolder::Io(error)
                if error.kind() == io::ErrorKind::PermissionDenied
                    && let Some(owner) = other_owner(path) =>
            {
                of_owner(owner)
            }
            why => why.to_words(path),
        })?;
        // Before a lock is made in it.
        if let Some(found) = strangers::in_no_servers(&work).map_err(|error| failed(&error))? {
            return Err(BadFolder::Occupied(found).to_words(path));
        }
        let lock = work
            .lock(LOCK_NAME, &mut HandedLocks::default())
            .map_err(|error| failed(&error))?;
        let lock = lock
            .ok_or_else(|| failed(&"a server is using it, and its admin_socket does not answer"))?;
        let (shelves, misses_a_shelf) = shelves_of(&work).map_err(|error| failed(&error))?;
        let weight_max = memory::alone_bytes_max();
        let all: Vec<_> = std::iter::once(&work).chain(&shelves).cloned().collect();
        // Nothing is restored here: no stop has to be believed.
        let (boot, unseen) = (Boot::default(), Metrics::new(0));
        let dealt = readback::read(
            &work,
            &all,
            u64::MAX,
            1,
            weight_max,
            false,
            (&boot, &unseen),
        );
        let dealt = dealt.map_err(|error| failed(&error))?;
        let damaged = dealt.first().map(|dealt| Arc::clone(&dealt.damaged));
        Ok(Self {
            damaged: damaged.unwrap_or_default(),
            shelves,
            misses_a_shelf,
            told: dealt.into_iter().flat_map(|dealt| dealt.told).collect(),
            work,
            _until_the_end: lock,
        })
    }

    fn folders(&self) -> impl Iterator<Item = &WorkFolder> {
        std::iter::once(&self.work).chain(&self.shelves)
    }

    fn part(&self, id: SessionId) -> Option<Stat> {
        let name = part_name(id);
        self.folders()
            .find_map(|folder| folder.stat(&name).ok().flatten())
    }

    /// A session as its record and its part tell of it.
    fn seen(&self, config: &Config, id: SessionId, record: &Record) -> Option<SessionView> {
        let part = self.part(id);
        match record.state {
            State::Gone(_) => return None,
            // Its part has its name, and nobody wrote that down: the next start finds it out.
            State::Closing { .. } if part.is_none() && !self.misses_a_shelf => return None,
            _ => {}
        }
        let now_s = wall_clock::since_1970().as_secs();
        let idle_s = part.as_ref().map_or(0, |part| {
            let modified = u64::try_from(part.st_mtime).unwrap_or(now_s);
            now_s.saturating_sub(modified)
        });
        let is_published = matches!(record.state, State::Published { .. });
        let location = config.location(record.path.as_str());
        let row = SessionRow {
            awaits_disk: self.misses_a_shelf && part.is_none() && !is_published,
            idle_ms: idle_s * 1_000,
            ..SessionRow::of_record(id, record, &location.prefix)
        };
        Some(SessionView {
            received_bytes: self.received(id, record),
            expires_in_seconds: None,
            ..SessionView::of(&row)
        })
    }

    /// Appends that a session ends now; or says why it cannot end. Where others are to hear of
    /// that, it is the record that says so: the next start tells them.
    fn end(
        &self,
        config: &Config,
        id: SessionId,
        by: Step,
        frames: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        let Some(Newest::Record {
            sequence, record, ..
        }) = self.told.get(&id)
        else {
            return Err("there is no such session, or no more");
        };
        if let State::Closing { .. } = record.state {
            return Err("its file is being given its name: the next start of the server does that");
        }
        if let (State::Published { .. }, true) = (record.state, record.is_unsettled) {
            return Err(
                "its line in the custody ledger is still to be written: the next start of the server does that",
            );
        }
        let location = config.location(record.path.as_str());
        let (State::Gone(ending), _) = record.state.on(by, &rules(location)) else {
            return Err("it cannot end as it stands");
        };
        if !config.custody.as_os_str().is_empty() && self.received(id, record) > 0 {
            return Err(
                "its end is a line of the custody ledger, which only a server that runs writes",
            );
        }
        let (webhook, nats) = (&config.events.webhook, &config.events.nats);
        let owes = location.send_events && !(webhook.is_empty() && nats.is_empty());
        let mut ended = (**record).clone();
        if owes && ended.owed.is_none() {
            if ending != Ending::Published {
                ended.life.place = Some(Arc::new(RecordedPlace::of_end(&location.prefix)));
            }
            ended.owed = Some(Box::new(Owed {
                ending,
                at_ms: wall_clock::ms_since_1970(),
                bytes: self.received(id, record),
                told: EventTargets::NONE,
            }));
        }
        if ended.owed.is_some() {
            ended.state = State::Gone(ending);
            ended.append(id, sequence.saturating_add(1), frames);
        } else {
            ended.tombstone(ending, *sequence).append(id, frames);
        }
        Ok(())
    }

    fn received(&self, id: SessionId, record: &Record) -> u64 {
        match (self.part(id), record.state) {
            (Some(part), State::Receiving { .. }) => u64::try_from(part.st_size).unwrap_or(0),
            _ => record.state.received(),
        }
    }

    /// A journal after all others, durable; or none.
    fn write_journal(&self, frames: &[u8]) -> io::Result<()> {
        let names = self.work.names_that(|name| NamesOf::Journals.has(name))?;
        let name = journal_name(next_generation(names.iter().map(String::as_str)), 0);
        let mode = Mode::RUSR | Mode::WUSR;
        let mut journal = File::from(self.work.create_file(&name, OFlags::WRONLY, mode)?);
        let written = journal
            .write_all(frames)
            .and_then(|()| journal.sync_all())
            .and_then(|()| self.work.sync());
        if written.is_err() {
            // The next one has this name.
            self.work.remove(&name)?;
        }
        written
    }

    /// What cannot be removed now is removed by the next start.
    fn remove_files(&self, ids: &[SessionId]) {
        for id in ids {
            for folder in self.folders() {
                for name in [part_name(*id), reply_name(*id)] {
                    let _ = folder.remove(&name);
                }
            }
        }
    }
}

/// Whose a folder is, if it is somebody else's.
fn other_owner(folder: &Path) -> Option<u32> {
    let owner = std::fs::metadata(folder).ok()?.uid();
    (owner != account::our_id()).then_some(owner)
}

/// The folders beside the work directory that are this server's, as far as they are there.
fn shelves_of(work: &WorkFolder) -> io::Result<(Vec<WorkFolder>, bool)> {
    let owner = |folder: &WorkFolder| -> io::Result<Option<OwnerNote>> {
        let note = folder.read(OWNER_NAME, NOTE_BYTES_MAX)?;
        Ok(note.as_deref().and_then(OwnerNote::parse))
    };
    let Some(ours) = owner(work)? else {
        return Ok((Vec::new(), false));
    };
    let list = work.read(SHELVES_NAME, NOTE_BYTES_MAX)?.unwrap_or_default();
    let (mut folders, mut misses_a_shelf) = (Vec::new(), false);
    for (path, name) in named_in(&list) {
        let folder = WorkFolder::open(&path, true).ok();
        let note = folder.as_ref().and_then(|folder| owner(folder).ok()?);
        let note = note.filter(|note| note.id == ours.id);
        // Another one of this server's may stand there, where a disk is not mounted.
        misses_a_shelf |= (note.as_ref()).is_none_or(|note| name.is_some() && note.shelf != name);
        folders.extend(folder.filter(|_| note.is_some()));
    }
    Ok((folders, misses_a_shelf))
}
