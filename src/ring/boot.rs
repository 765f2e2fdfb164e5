//! This boot of the machine, and those before it of which something may still be believed.

use std::sync::Arc;

use crate::vault::clean_stop::CleanStop;
use crate::vault::disk::Shelf;

/// Which boots' page caches can be trusted.
#[derive(Clone, Debug, Default)]
pub struct Boot {
    /// This boot.
    pub current: u128,
    /// What is known of clean stops.
    pub stopped_cleanly: Arc<CleanStop>,
    /// The own names of the shelves that the start has found, by their numbers.
    pub shelf_names: Arc<[Option<u128>]>,
}

impl Boot {
    /// See [`crate::vault::disk::WorkFiles::was_stopped_cleanly`].
    pub fn was_stopped_cleanly(&self, boot: u128, shelf: Option<Shelf>) -> bool {
        let stop = &self.stopped_cleanly;
        match shelf {
            Some(Shelf::WORK) => stop.covers(boot),
            // One that came after the start holds nothing of an earlier boot.
            Some(Shelf(number)) => {
                let name = self.shelf_names.get(usize::from(number));
                stop.covers_shelf(boot, name.copied().flatten())
            }
            None => stop.covers_shelf(boot, None),
        }
    }
}
