//! Where an upload goes, whether it may go there, and how files get their names there.

use std::io;

use super::disk::{Disk, Manner, Parents, Place, Replace, Shelf, Standing, Sync};
use super::error::StoreError;
use super::record::{Record, RecordedPlace};
use crate::bits::reply::Refusal;
use crate::config::{Durability, Location, ObjectStore, Permissions, Policy};
use crate::diagnosis::NamedElsewhere;
use crate::event::DiskOp;
use crate::http::path::{BadTarget, UploadPath};

/// Where an upload goes, of this user if it is one's.
///
/// An upload that was begun when nobody was asked has no user, and stays where it was to go.
///
/// # Errors
/// Its path names the root of its location; or users have folders of their own there, and this one
/// can have none.
pub fn place(location: &Location, path: &UploadPath, user: Option<&str>) -> Result<Place, Refusal> {
    let beneath = location.beneath(path.as_str());
    let beneath = beneath.ok_or(Refusal::TargetIsDirectory)?.len();
    let shared = path.tail(beneath);
    let Some(user) = user.filter(|_| location.access.per_user) else {
        return Ok(Place {
            root: location.root,
            path: shared,
            own: 0,
        });
    };
    let folder = UploadPath::own_folder(user).ok_or(Refusal::NoFolder)?;
    // Without a root of its own the prefix is the beginning of the path.
    let rest = location.rest(path.as_str()).map_or(beneath, str::len);
    let path = shared.within(&folder, rest);
    Ok(Place {
        root: location.root,
        own: shared.as_str()[..beneath - rest].matches('/').count() + 1,
        path: path.map_err(Refusal::TargetInvalid)?,
    })
}

/// No root has this number: the one that a record names is none of the settings any more. Nothing
/// is found there, and nothing gets a name.
pub const NO_ROOT: usize = usize::MAX;

/// Why a name at that place cannot be made durable: nobody knows on which disk it is. The session
/// stays as it is, until its root is back.
pub fn away(place: &Place) -> io::Result<()> {
    match place.root {
        NO_ROOT => Err(io::Error::other(NamedElsewhere(
            place.path.as_str().to_owned(),
        ))),
        _ => Ok(()),
    }
}

/// A place as a record says it.
pub fn recorded<D: Disk>(disk: &D, location: &Location, place: &Place) -> RecordedPlace {
    RecordedPlace {
        location: location.prefix.clone(),
        root: disk.path_of_root(place.root).unwrap_or_default(),
        path: place.path.as_str().to_owned(),
    }
}

/// Where a file is that has got its name in a folder: by its record, and only where that does not
/// say it by the settings that hold now. `None` if new settings have made its path a folder.
pub fn standing<D: Disk>(disk: &D, location: &Location, record: &Record) -> Option<Place> {
    let now = place(location, &record.path, record.life.user.as_deref()).ok();
    let Some(then) = record.life.place.as_deref() else {
        return now;
    };
    let is_then = |now: &Place| {
        let root = disk.path_of_root(now.root).unwrap_or_default();
        root == then.root && now.path.as_str() == then.path
    };
    if now.as_ref().is_some_and(is_then) {
        return now;
    }
    let path = UploadPath::from_text(&then.path);
    let root = disk.root_at(&then.root).filter(|_| path.is_ok());
    Some(Place {
        root: root.unwrap_or(NO_ROOT),
        path: path.unwrap_or_else(|_| record.path.clone()),
        own: 0,
    })
}

/// Where the digest file of an upload goes.
///
/// # Errors
/// The upload itself has such a name, which is the server's; or one that has no room for the
/// ending.
pub fn digest_file(place: &Place) -> Result<Place, Refusal> {
    let path = place.path.as_str();
    let is_one = |path: &str| path.to_ascii_lowercase().ends_with(DIGEST_ENDING);
    if is_one(path) {
        return Err(Refusal::TargetInvalid(BadTarget::DigestFile));
    }
    // The path itself is good, so it is the ending that is too much.
    let path = UploadPath::from_text(&format!("{path}{DIGEST_ENDING}"));
    Ok(Place {
        path: path.map_err(|_| Refusal::TargetInvalid(BadTarget::NoRoomForDigest))?,
        ..place.clone()
    })
}

/// How the names of digest files end.
const DIGEST_ENDING: &str = ".sha256";

/// Where the files of an upload are until it has its name. What goes into an object store is in the
/// work directory.
pub fn shelf<D: Disk>(disk: &D, location: &Location, place: &Place) -> Shelf {
    match location.objects {
        Some(_) => Shelf::WORK,
        None => disk.shelf(place),
    }
}

/// The key of an upload in the store of its location; `None` if that would be too long for any
/// store. S3 takes whatever characters a path has.
pub fn key(objects: &ObjectStore, place: &Place) -> Option<String> {
    let key = format!("{}{}", objects.prefix, place.path.as_str());
    (key.len() <= KEY_BYTES_MAX).then_some(key)
}

/// Bytes of a key in S3.
const KEY_BYTES_MAX: usize = 1_024;

/// Whether what is told of a whole upload has to survive a power cut.
pub fn sync(durability: Durability) -> Sync {
    match durability {
        Durability::None => Sync::No,
        Durability::Upload | Durability::Fragment => Sync::Yes,
    }
}

/// How files get their names under these settings.
pub fn manner(policy: &Policy, place: &Place) -> Manner {
    Manner {
        replace: match policy.allow_overwrite {
            true => Replace::Existing,
            false => Replace::Never,
        },
        parents: match policy.create_dirs {
            true => Parents::Create,
            false if place.own > 0 => Parents::Own(place.own),
            false => Parents::MustExist,
        },
        sync: sync(policy.durability),
        file_mode: policy.file_mode.map(Permissions::bits),
        dir_mode: policy.dir_mode.map(Permissions::bits),
        bytes: None,
        sha256: None,
        left: None,
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
        .look_up(place, Some(manner(policy, place)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::diagnose;

    /// Goal: no name is taken for durable of which nobody knows the disk. The session waits until
    /// the settings name its root again, and its client comes back.
    #[test]
    fn a_name_beneath_a_root_that_is_gone_waits_for_it() {
        let path = UploadPath::from_text("in/a.bin").unwrap();
        let at = |root| {
            let path = path.clone();
            away(&Place { root, path, own: 0 })
        };
        assert!(at(0).is_ok());
        let error = at(NO_ROOT).unwrap_err();
        assert!(error.to_string().starts_with("in/a.bin "), "{error}");
        let found = diagnose(DiskOp::SyncDestination, &error);
        assert_eq!(
            (found.hears, found.poisons),
            (Refusal::LocationMoved, false)
        );
        assert!(found.remedy.contains("`root` back"), "{}", found.remedy);
    }
}
