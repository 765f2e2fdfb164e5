//! What cannot be understood is renamed out of the way, for a person to look at.

use std::io;

use super::report;
use crate::event::{DiskOp, Event};
use crate::vault::disk::{Disk, Shelf};
use crate::vault::names;

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

/// A name for what is set aside.
async fn free_aside<D: Disk>(disk: &D, shelf: Shelf, name: &str) -> io::Result<String> {
    for aside in names::asides(name) {
        if disk.stat(shelf, &aside).await?.is_none() {
            return Ok(aside);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
