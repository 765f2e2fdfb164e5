//! Reads the journals of former starts, on a thread of its own: it may block, and no shard waits
//! with its connections.

use std::fs::File;
use std::io;

use rustix::fs::OFlags;

use super::work_folder::{WorkFolder, or_link};
use crate::vault::names::{self, WorkName};
use crate::vault::readback::{Dealt, Readback};

/// What the journals in the work directory that are older than this generation say to each of so
/// many shards.
///
/// # Errors
/// Of reading the work directory or a journal.
pub fn read(work: &WorkFolder, generation: u64, shards: usize) -> io::Result<Vec<Dealt>> {
    let is_older = |name: &String| matches!(names::parse_name(name), WorkName::Journal { generation: of } if of < generation);
    let mut names = work.names()?;
    names.retain(is_older);
    names.sort_unstable();
    let mut readback = Readback::new(shards);
    for name in names {
        let journal = work.open_file(&name, OFlags::RDONLY);
        let journal = File::from(journal.map_err(|error| or_link(&name, error))?);
        readback.journal(&name, journal)?;
    }
    Ok(readback.deal())
}
