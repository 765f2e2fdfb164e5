//! Reads the journals of former starts, on a thread of its own: it may block, and no shard waits
//! with its connections.

use std::fs::File;
use std::io::{self, Read};

use rustix::fd::AsFd as _;
use rustix::fs::OFlags;

use super::boot::Boot;
use super::work_folder::{WorkFolder, or_link};
use crate::config::quantity;
use crate::metrics::Metrics;
use crate::metrics::count::Gauge;
use crate::vault::names::{self, WorkName};
use crate::vault::readback::{Dealt, Readback, Room};

/// What the journals in the work directory that are older than this generation say to each of so
/// many shards. Of what stands on these shelves no more is kept than weighs `bytes_max`; they are
/// all that there are unless `misses_a_shelf`. By `boot` it is known which records may be believed.
/// The metrics tell how far it has come.
///
/// # Errors
/// Of reading the work directory or a journal.
pub fn read(
    work: &WorkFolder,
    shelves: &[WorkFolder],
    generation: u64,
    shards: usize,
    bytes_max: u64,
    misses_a_shelf: bool,
    (boot, metrics): (&Boot, &Metrics),
) -> io::Result<Vec<Dealt>> {
    let is_older = |name: &str| matches!(names::parse_name(name), WorkName::Journal { generation: of } if of < generation);
    let mut names = work.names_that(is_older)?;
    names.sort_unstable();
    let sizes = names
        .iter()
        .filter_map(|name| work.stat(name).ok().flatten());
    let bytes = sizes.map(|stat| u64::try_from(stat.st_size).unwrap_or_default());
    metrics.journals_bytes.set(bytes.sum());
    let stats = |name: String| shelves.iter().map(move |shelf| shelf.stat(&name));
    let parts = |id| stats(names::part_name(id));
    let is_empty = |id| parts(id).any(|stat| matches!(stat, Ok(Some(stat)) if stat.st_size == 0));
    let was_set_aside = |id| {
        let first = names::asides(&names::part_name(id)).next();
        first.is_some_and(|aside| stats(aside).any(|stat| !matches!(stat, Ok(None))))
    };
    let is_gone = |id| {
        let is_nowhere = || parts(id).all(|stat| matches!(stat, Ok(None)));
        !misses_a_shelf && is_nowhere() && !was_set_aside(id)
    };
    // A shelf is on the file system of its roots.
    let sync_names = || {
        let mut synced = shelves
            .iter()
            .map(|shelf| rustix::fs::syncfs(shelf.as_fd()));
        synced.all(|synced| synced.is_ok())
    };
    let room = Room {
        bytes_max,
        is_empty: &is_empty,
        is_gone: &is_gone,
        sync_names: &sync_names,
    };
    let stop = (*boot.stopped_cleanly).clone();
    let mut readback = Readback::within(shards, room).after(stop, boot.current);
    for name in names {
        let journal = work.open_file(&name, OFlags::RDONLY);
        let journal = Counted {
            journal: File::from(journal.map_err(|error| or_link(&name, error))?),
            read: &metrics.journals_read,
        };
        let read = readback.journal(&name, journal);
        read.map_err(|error| too_little(bytes_max, error))?;
    }
    // They may have been cut meanwhile.
    metrics.journals_read.set(metrics.journals_bytes.get());
    if let uploads @ 1.. = readback.let_go() {
        let event = "uploads_let_go";
        let remedy = "raise the limit of memory if so many have to wait at a time";
        tracing::warn!(
            event,
            uploads,
            remedy,
            "memory is short, and uploads of which no byte had come are not known any more"
        );
    }
    Ok(readback.deal())
}

/// A journal of which others see how much was read.
struct Counted<'a> {
    journal: File,
    read: &'a Gauge,
}

impl Read for Counted<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let read = self.journal.read(room)?;
        self.read.add(read as u64);
        Ok(read)
    }
}

/// The kind of error is all that the reader knows.
fn too_little(bytes_max: u64, error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::OutOfMemory || error.raw_os_error().is_some() {
        return error;
    }
    let size = quantity::render_size(bytes_max);
    let words = format!(
        "the uploads that wait here need more memory than the {size} that there are for them: raise the limit \
         (systemd: MemoryMax=, LimitAS=, LimitDATA=; the container's memory; a shell: ulimit -v) for this start at \
         least; until then all stays as it is"
    );
    io::Error::new(io::ErrorKind::OutOfMemory, words)
}
