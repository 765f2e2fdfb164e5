//! What whoever uses the disk finds out beyond an error number, as errors.

use std::fmt;
use std::io;

use crate::bits::reply::Obstacle;

/// What stands in the way of a destination, and where. Whoever found out more than the number says
/// puts it into the error.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// A root or a folder of the server's own is not what it was at start.
#[derive(Debug)]
pub struct Displaced {
    /// Which, and what was seen.
    pub why: String,
    /// What ends that.
    pub remedy: &'static str,
}

impl fmt::Display for Displaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Displaced {}

impl From<Displaced> for io::Error {
    fn from(displaced: Displaced) -> Self {
        Self::other(displaced)
    }
}

/// A file in a folder of ours belongs to somebody else, or others may write to it; which, and what
/// helps.
#[derive(Debug)]
pub struct NotOurs(pub String);

impl fmt::Display for NotOurs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotOurs {}

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
#[derive(Debug)]
pub struct Unmovable(pub String);

impl fmt::Display for Unmovable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unmovable {}

impl From<Unmovable> for io::Error {
    fn from(unmovable: Unmovable) -> Self {
        Self::other(unmovable)
    }
}

/// Somebody has put something else in the place of an upload's file, or has cut it, or has changed
/// what its client has sent.
#[derive(Debug)]
pub struct PartChanged;

impl fmt::Display for PartChanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the file in the work directory is not what was written")
    }
}

impl std::error::Error for PartChanged {}

/// Whether it is that.
pub fn is_part_changed(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|inner| inner.is::<PartChanged>())
}

/// Somebody does something to an upload's file just when it is to get its name: what its digest is
/// has to be found out anew.
#[derive(Debug)]
pub struct PartTouched;

impl fmt::Display for PartTouched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("somebody else does something to the file in the work directory")
    }
}

impl std::error::Error for PartTouched {}

/// A shelf is not there, and the upload may be on it.
#[derive(Debug)]
pub struct DiskAway;

impl fmt::Display for DiskAway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the shelf that the upload may be on is not there")
    }
}

impl std::error::Error for DiskAway {}

/// What a sync needs could not be had, and none was begun: no bytes are in doubt.
#[derive(Debug)]
pub struct SyncNotBegun(pub io::Error);

impl fmt::Display for SyncNotBegun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the file `commit` cannot be written: {}", self.0)
    }
}

impl std::error::Error for SyncNotBegun {}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.obstacle, self.name)
    }
}

impl std::error::Error for Blocked {}

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
