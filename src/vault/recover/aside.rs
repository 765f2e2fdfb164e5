//! What cannot be understood is renamed out of the way, for a person to look at.

use std::io;

use super::report;
use crate::event::{DiskOp, Event};
use crate::vault::disk::{Disk, Shelf};
use crate::vault::names::ASIDE_SUFFIX;

/// Renames a file, and says why. Where the disk refuses that, it stays.
pub(super) async fn set_aside<D: Disk>(disk: &D, shelf: Shelf, name: &str, why: &str) {
    let _it_stays = try_to_set_aside(disk, shelf, name, why).await;
}

/// The same, and whether it has another name now.
pub(super) async fn try_to_set_aside<D: Disk>(
    disk: &D,
    shelf: Shelf,
    name: &str,
    why: &str,
) -> bool {
    disk.emit(Event::SetAside { name, why });
    let renamed = match free_aside(disk, shelf, name).await {
        Ok(aside) => disk.rename(shelf, name, &aside).await,
        Err(error) => Err(error),
    };
    if let Err(error) = &renamed {
        report(disk, None, DiskOp::Remove, error);
    }
    renamed.is_ok()
}

/// So many files of one name are set aside.
const ASIDE_MAX: usize = 100;

/// A name for what is set aside: what has the first one was set aside before, and stays.
async fn free_aside<D: Disk>(disk: &D, shelf: Shelf, name: &str) -> io::Result<String> {
    for number in 0..ASIDE_MAX {
        let aside = match number {
            0 => format!("{name}{ASIDE_SUFFIX}"),
            number => format!("{name}.{number}{ASIDE_SUFFIX}"),
        };
        if disk.stat(shelf, &aside).await?.is_none() {
            return Ok(aside);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
