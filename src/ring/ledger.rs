//! The custody ledger at a start: its folder, what the work directory remembers of its end, and
//! whose names its sync makes durable.

use std::io;
use std::sync::Arc;

use super::herald;
use super::launch_error::LaunchError;
use super::shelves::SharedShelves;
use super::space::Spaces;
use crate::bits::reply::Refusal;
use crate::config::Config;
use crate::custody::ledger::Ledger;
use crate::custody::note::Witness;
use crate::custody::site::Site;
use crate::metrics::Metrics;
use crate::vault::names::LEDGER_NAME;
use crate::vault::space::Space;
use crate::vigil;

/// A path, the name of a day and a hash, with room for what JSON escapes.
const NOTE_BYTES_MAX: u64 = 64 << 10;

/// The ledger, and the thread that writes it, where one is kept.
///
/// # Errors
/// [`LaunchError::Custody`]
pub fn begin(
    config: &Config,
    metrics: &Metrics,
    shelves: &SharedShelves,
    spaces: &Spaces,
) -> Result<Option<Ledger>, LaunchError> {
    let Some(site) = site(config) else {
        return Ok(None);
    };
    let witness = Box::new(WorkNote(Arc::clone(shelves)));
    let _vigil = herald::watch_start();
    let start = || Ledger::start(site, witness, Arc::clone(&metrics.ledger));
    let started = vigil::at(&config.custody, start);
    let ledger = started.map_err(LaunchError::Custody)?;
    shelves.keep_ledger_in(ledger.folder());
    // Looked at from now on, whether an upload comes or not.
    let _looked_at = spaces.looked_at_for_ledger(ledger.folder());
    Ok(Some(ledger))
}

/// Where the ledger is kept, if one is.
pub fn site(config: &Config) -> Option<Site> {
    let path = &config.custody;
    let new = || Site::new(path, &config.upload_folders()).speaking_of(&config.roots);
    (!path.as_os_str().is_empty()).then(new)
}

/// The space of the file system that a ledger is on, which is looked at from now on.
pub fn space(ledger: Option<&Ledger>, spaces: &Spaces) -> Option<Arc<Space>> {
    // If nobody can tell what is free, nothing is known to be short.
    spaces.of(ledger?.folder()).ok()
}

/// What a client hears that would begin an upload which could not be closed, or whose line might
/// take the room of those that run.
pub fn refuses(ledger: Option<&Ledger>, space: Option<&Space>) -> Option<Refusal> {
    if ledger?.is_failing() {
        return Some(Refusal::LedgerFails);
    }
    space?.is_low().then_some(Refusal::SpaceLow)
}

/// The work directory remembers the end of the ledger.
struct WorkNote(SharedShelves);

impl Witness for WorkNote {
    fn recall(&self) -> io::Result<Option<Vec<u8>>> {
        self.0.work().read(LEDGER_NAME, NOTE_BYTES_MAX)
    }

    fn note(&self, note: &[u8]) -> io::Result<()> {
        self.0.work().write(LEDGER_NAME, note)
    }
}
