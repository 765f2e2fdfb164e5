//! Where an upload goes, whether it may go there, and how files get their names there.

use super::disk::{Disk, Manner, Parents, Place, Replace, Standing, Sync};
use super::error::StoreError;
use crate::bits::reply::Refusal;
use crate::config::{Durability, Location, Permissions, Policy};
use crate::event::DiskOp;
use crate::http::path::{BadTarget, UploadPath};

/// Where an upload goes; `None` if its path names the root of its location.
pub fn place(location: &Location, path: &UploadPath) -> Option<Place> {
    let beneath = location.beneath(path.as_str())?;
    Some(Place {
        root: location.root,
        path: path.tail(beneath.len()),
    })
}

/// Whether what is told of a whole upload has to survive a power cut.
pub fn sync(durability: Durability) -> Sync {
    match durability {
        Durability::None => Sync::No,
        Durability::Upload | Durability::Fragment => Sync::Yes,
    }
}

/// How files get their names under these settings.
pub fn manner(policy: &Policy) -> Manner {
    Manner {
        replace: match policy.allow_overwrite {
            true => Replace::Existing,
            false => Replace::Never,
        },
        parents: match policy.create_dirs {
            true => Parents::Create,
            false => Parents::MustExist,
        },
        sync: sync(policy.durability),
        file_mode: policy.file_mode.map(Permissions::bits),
        dir_mode: policy.dir_mode.map(Permissions::bits),
    }
}

/// Whether an upload to `place` can be taken at all, told before any byte is sent.
///
/// # Errors
/// The [`Refusal`] that the client hears, or a [`StoreError`].
pub async fn check_destination<D: Disk>(
    disk: &D,
    policy: &Policy,
    place: &Place,
) -> Result<Result<(), Refusal>, StoreError> {
    let standing = disk
        .look_up(place, Some(manner(policy)))
        .await
        .map_err(StoreError::new(DiskOp::LookUp))?;
    Ok(match standing {
        Standing::Directory => Err(Refusal::TargetIsDirectory),
        Standing::Reserved => Err(Refusal::TargetInvalid(BadTarget::Reserved)),
        Standing::File { .. } if !policy.allow_overwrite => Err(Refusal::TargetExists),
        Standing::NoParent if !policy.create_dirs => Err(Refusal::ParentMissing),
        Standing::File { .. } | Standing::NoParent | Standing::Free => Ok(()),
    })
}
