//! What whoever uses the disk finds out beyond an error number, as errors.

use std::io;

use thiserror::Error;

use crate::bits::reply::Obstacle;

/// What stands in the way of a destination, and where. Whoever found out more than the number says
/// puts it into the error.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{obstacle}: {name:?}")]
pub struct Blocked {
    obstacle: Obstacle,
    name: String,
}

impl Blocked {
    /// By what, and what it is beneath the root of its location.
    pub fn by(obstacle: Obstacle, name: &str) -> Self {
        Self {
            obstacle,
            name: name.to_owned(),
        }
    }
}

impl From<Blocked> for io::Error {
    fn from(blocked: Blocked) -> Self {
        Self::new(io::ErrorKind::PermissionDenied, blocked)
    }
}

/// The obstacle in an error, where it has one.
pub fn obstacle_in(error: &io::Error) -> Option<Obstacle> {
    let blocked = error.get_ref()?.downcast_ref::<Blocked>()?;
    Some(blocked.obstacle)
}

/// A root or a folder of the server's own is not what it was at start.
#[derive(Debug, Error)]
#[error("{why}")]
pub struct Displaced {
    /// Which, and what was seen.
    pub why: String,
    /// What ends that.
    pub remedy: &'static str,
}

impl From<Displaced> for io::Error {
    fn from(displaced: Displaced) -> Self {
        Self::other(displaced)
    }
}

/// A file in a folder of ours belongs to somebody else, or others may write to it; which, and what
/// helps.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct NotOurs(pub String);

impl From<NotOurs> for io::Error {
    fn from(not_ours: NotOurs) -> Self {
        Self::other(not_ours)
    }
}

/// Whether it is that.
pub fn is_not_ours(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<NotOurs>())
}

/// The work directory, or the file of an upload in it, lets nothing be moved away; which of them,
/// and why.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Unmovable(pub String);

impl From<Unmovable> for io::Error {
    fn from(unmovable: Unmovable) -> Self {
        Self::other(unmovable)
    }
}

/// Somebody has put something else in the place of an upload's file, or has cut it, or has changed
/// what its client has sent.
#[derive(Debug, Error)]
#[error("the file in the work directory is not what was written")]
pub struct PartChanged;

/// The same of a file that its client has been promised: nobody sends it once more.
#[derive(Debug, Error)]
#[error("the file in the work directory is not what was written")]
pub struct PromisedChanged;

/// Whether it is one of these.
pub fn is_part_changed(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|inner| inner.is::<PartChanged>() || inner.is::<PromisedChanged>())
}

/// What an error means where the file was promised.
pub fn of_promised(error: io::Error) -> io::Error {
    match is_part_changed(&error) {
        true => io::Error::other(PromisedChanged),
        false => error,
    }
}

/// Somebody does something to an upload's file just when it is to get its name: what its digest is
/// has to be found out anew.
#[derive(Debug, Error)]
#[error("somebody else does something to the file in the work directory")]
pub struct PartTouched;

/// A shelf is not there, and the upload may be on it.
#[derive(Debug, Error)]
#[error("the shelf that the upload may be on is not there")]
pub struct DiskAway;

/// The location of an upload has another shelf by now than the one with its bytes, and nothing can
/// be moved from there.
#[derive(Debug, Error)]
#[error("the bytes of the upload are in {0}, and no file can be moved from there to its location")]
pub struct LeftOnOtherDisk(pub String);

/// A file has its name beneath a root that is none of the settings any more: on which disk that has
/// to be made durable is not known.
#[derive(Debug, Error)]
#[error("{0} has its name beneath a root that the settings do not name any more")]
pub struct NamedElsewhere(pub String);

/// What a sync needs could not be had, and none was begun: no bytes are in doubt.
#[derive(Debug, Error)]
#[error("the file `commit` cannot be written: {0}")]
pub struct SyncNotBegun(pub io::Error);
