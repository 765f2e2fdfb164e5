//! Work files, session records, `seal`, `publish`, `discard`: the durability contract.
//!
//! # The contract
//!
//! | Promise | after `kill -9` | after a power cut |
//! | --- | --- | --- |
//! | Final fragment Ack given: all bytes are ours to keep | always | always |
//! | Close Ack given (with `publish = "last-fragment"`: the final fragment Ack): the file is whole, at its place | always | always |
//! | Fragment Ack given: these bytes need not be sent again | always | `durability = "fragment"`: yes; `"upload"` (default): perhaps not, the server then asks for them again by 416 |
//! | Destination name | absent, or old, or whole: never partial | same |
//!
//! With `durability = "none"` nothing is ever synced: the column "after `kill -9`" holds, the other one does not.
//!
//! # How it is kept
//!
//! A session has two files in the work directory: `ID.part`, the bytes, and `ID.record` (see
//! [`super::record`]). **The length of the part is the progress**; no second counter can disagree with
//! it. The record adds what the length cannot say: destination, size, state, and how many bytes were
//! synced (`durable`).
//!
//! * *Create*: part and record are made before the Create Ack. Neither is synced: a power cut that loses
//!   them makes the client start again.
//! * *Fragment*, `durability = "fragment"`: `fdatasync(part)`, record with `durable` synced, names synced; then the Ack.
//! * *Seal*: `fdatasync(part)`; record `sealed`, synced; names synced; then the final fragment Ack.
//! * *Publish*: record `closing` (written, not synced); rename without replacing; sync of the destination's
//!   folder; then the Close Ack. A restart that finds the part gone under a `closing` record knows that the rename
//!   happened, since nothing else removes a part in that state. If a power cut takes the record back to `sealed`,
//!   the inode at the destination tells.
//! * *Discard*: record `cancelled`, `expired` .. first, then the part. So no crash can show a part that is
//!   gone under a record that still promises it.
//! * *A sync that failed* is never tried again, because the kernel may have dropped the pages and would
//!   call the second try a success. The session is poisoned: its files go, the client hears
//!   BG_E_SESSION_NOT_FOUND and starts again.
//! * *Disk full*: the part keeps what it has, the client hears so and comes back later. Space is reserved at the first
//!   fragment where the file system can, so that the refusal comes before the bytes.

use std::io;

use super::record::Record;
use super::world::{File, Parents, Replace, Standing, Sync, World};
use crate::bits::reply::Refusal;
use crate::bits::session::{AfterPublish, State};
use crate::bits::session_id::SessionId;
use crate::config::{Durability, Policy};
use crate::event::{DiskOp, Ending};
use crate::http::path::{BadTarget, UploadPath};
use crate::planted::{self, Bug};

/// Space is reserved for files from this size on; below it the call costs more than it tells.
const ALLOCATE_BYTES_MIN: u64 = 1 << 20;

/// The disk refused something.
#[derive(Debug)]
pub struct StoreError {
    /// What was being done.
    pub op: DiskOp,
    /// The error.
    pub source: io::Error,
}

impl StoreError {
    fn new(op: DiskOp) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { op, source }
    }

    /// What the client hears.
    pub fn refusal(&self) -> Refusal {
        use io::ErrorKind as Kind;
        if self.poisons() {
            return Refusal::SessionNotFound;
        }
        match self.source.kind() {
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => Refusal::DiskFull,
            Kind::ReadOnlyFilesystem => Refusal::ReadOnly,
            Kind::PermissionDenied => Refusal::AccessDenied,
            Kind::AlreadyExists if self.op == DiskOp::Publish => Refusal::TargetExists,
            Kind::IsADirectory if self.op == DiskOp::Publish => Refusal::TargetIsDirectory,
            Kind::NotFound | Kind::NotADirectory
                if matches!(self.op, DiskOp::Publish | DiskOp::LookUp) =>
            {
                Refusal::ParentMissing
            }
            _ if is_out_of_files(&self.source) => Refusal::Busy,
            _ => Refusal::DiskFailed,
        }
    }

    /// Whether the session can no longer be trusted: a failed sync, a write that failed for another
    /// reason than space, or bytes that somebody took away.
    pub fn poisons(&self) -> bool {
        use io::ErrorKind as Kind;
        match self.op {
            _ if planted::is(Bug::PoisonIgnored) => false,
            DiskOp::Sync | DiskOp::SyncDirectory => true,
            DiskOp::Open => self.source.kind() == Kind::NotFound,
            DiskOp::Write | DiskOp::Record => {
                !matches!(
                    self.source.kind(),
                    Kind::StorageFull
                        | Kind::QuotaExceeded
                        | Kind::FileTooLarge
                        | Kind::ReadOnlyFilesystem
                        | Kind::PermissionDenied
                ) && !is_out_of_files(&self.source)
            }
            _ => false,
        }
    }
}

/// EMFILE or ENFILE.
fn is_out_of_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

/// The disk side of one session: its names, and its record as last written.
#[derive(Debug)]
pub struct Keep {
    id: SessionId,
    record: Record,
    sequence: u64,
    /// The names of part and record survive a power cut.
    names_durable: bool,
    /// The record on disk is of an earlier boot.
    is_stale: bool,
}

/// Name of the file that holds the bytes of a session.
pub fn part_name(id: SessionId) -> String {
    format!("{}.part", id.plain())
}

/// Name of the file that holds the record of a session.
pub fn record_name(id: SessionId) -> String {
    format!("{}.record", id.plain())
}

/// What a name in the work directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkName {
    /// The bytes of a session.
    Part(SessionId),
    /// The record of a session.
    Record(SessionId),
    /// The lock of the server, or a file that was set aside before.
    Ours,
    /// Nothing that we would have made.
    Foreign,
}

/// Name of the file whose lock keeps a second server out.
pub const LOCK_NAME: &str = "lock";
/// Ending of files that could not be understood and were renamed out of the way.
pub const ASIDE_SUFFIX: &str = ".aside";

/// What stands behind a name.
pub fn parse_name(name: &str) -> WorkName {
    if name == LOCK_NAME || name.ends_with(ASIDE_SUFFIX) {
        return WorkName::Ours;
    }
    let Some((stem, suffix)) = name.rsplit_once('.') else {
        return WorkName::Foreign;
    };
    let Some(id) = SessionId::parse(stem.as_bytes()) else {
        return WorkName::Foreign;
    };
    // Only the exact spelling: another one would be found again under the wrong name.
    match suffix {
        "part" if part_name(id) == name => WorkName::Part(id),
        "record" if record_name(id) == name => WorkName::Record(id),
        _ => WorkName::Foreign,
    }
}

impl Keep {
    /// Goes on with a session whose record was read back.
    pub fn resume(id: SessionId, record: Record, sequence: u64) -> Self {
        Self {
            id,
            record,
            sequence,
            names_durable: false,
            is_stale: false,
        }
    }

    /// The session.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Makes part and record of a new session.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is left behind.
    pub async fn create<W: World>(
        world: &W,
        id: SessionId,
        path: &UploadPath,
    ) -> Result<(Self, W::File), StoreError> {
        let part = part_name(id);
        let file = world
            .create(&part)
            .await
            .map_err(StoreError::new(DiskOp::Create))?;
        let record = Record {
            path: path.clone(),
            state: State::NEW,
            durable: 0,
            inode: file.inode(),
            boot_id: world.boot_id(),
        };
        let mut keep = Self {
            id,
            record,
            sequence: 0,
            names_durable: false,
            is_stale: false,
        };
        if !planted::is(Bug::RecordAfterAck)
            && let Err(error) = keep.write(world, true, Sync::No).await
        {
            drop(file);
            // Best effort: what stays is an orphan, which the next start removes.
            let _ = world.remove(&part).await;
            let _ = world.remove(&record_name(id)).await;
            return Err(StoreError {
                op: DiskOp::Create,
                source: error.source,
            });
        }
        Ok((keep, file))
    }

    /// Opens the part of a session.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open<W: World>(&self, world: &W) -> Result<W::File, StoreError> {
        world
            .open(&part_name(self.id))
            .await
            .map_err(StoreError::new(DiskOp::Open))
    }

    /// Before the first byte: records the size of the file and reserves its space.
    ///
    /// # Errors
    /// [`StoreError`]; disk full comes from here where the file system can reserve.
    pub async fn begin<W: World>(
        &mut self,
        world: &W,
        file: &W::File,
        total: u64,
    ) -> Result<(), StoreError> {
        let before = self.record.state;
        self.record.state = State::Receiving {
            received: 0,
            total: Some(total),
        };
        if before == self.record.state && !self.is_stale {
            return Ok(());
        }
        if total >= ALLOCATE_BYTES_MIN
            && let Err(source) = file.allocate(total).await
        {
            self.record.state = before;
            return Err(StoreError {
                op: DiskOp::Allocate,
                source,
            });
        }
        self.write(world, planted::is(Bug::RecordAfterAck), Sync::No)
            .await
            .inspect_err(|_| self.record.state = before)
    }

    /// Whether the first `received` bytes survive a power cut already.
    pub fn is_hard(&self, received: u64) -> bool {
        self.names_durable && self.record.durable == received
    }

    /// Makes the first `received` bytes survive a power cut (`durability = "fragment"`).
    ///
    /// # Errors
    /// [`StoreError`]; it poisons.
    pub async fn harden<W: World>(
        &mut self,
        world: &W,
        file: &W::File,
        received: u64,
    ) -> Result<(), StoreError> {
        sync_part(file).await?;
        let before = self.record.durable;
        self.record.durable = received;
        self.write(world, false, Sync::Yes)
            .await
            .inspect_err(|_| self.record.durable = before)?;
        self.sync_names(world).await
    }

    /// All bytes are here: makes them ours to keep.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn seal<W: World>(
        &mut self,
        world: &W,
        file: &W::File,
        total: u64,
        durability: Durability,
    ) -> Result<(), StoreError> {
        let sync = match durability {
            Durability::None => Sync::No,
            Durability::Upload | Durability::Fragment => Sync::Yes,
        };
        if sync == Sync::Yes {
            sync_part(file).await?;
            self.record.durable = total;
        }
        let before = self.record.state;
        self.record.state = State::Sealed { total };
        self.write(world, false, sync)
            .await
            .inspect_err(|_| self.record.state = before)?;
        if sync == Sync::Yes {
            self.sync_names(world).await
        } else {
            Ok(())
        }
    }

    /// Gives a sealed file its name. `closing` is the state while it happens.
    ///
    /// # Errors
    /// [`StoreError`]; unless it poisons, the file is still sealed and can be published again.
    pub async fn publish<W: World>(
        &mut self,
        world: &W,
        policy: &Policy,
        closing: State,
    ) -> Result<(), StoreError> {
        let sealed = State::Sealed {
            total: closing.received(),
        };
        self.record.state = closing;
        self.write(world, false, Sync::No)
            .await
            .inspect_err(|_| self.record.state = sealed)?;
        let replace = if policy.allow_overwrite || planted::is(Bug::PublishOverExisting) {
            Replace::Existing
        } else {
            Replace::Never
        };
        let parents = if policy.create_dirs {
            Parents::Create
        } else {
            Parents::MustExist
        };
        let part = part_name(self.id);
        if let Err(source) = world
            .publish(&part, &self.record.path, replace, parents)
            .await
        {
            self.record.state = sealed;
            // If this write is lost, a restart only tries the same publication again.
            let _ = self.write(world, false, Sync::No).await;
            return Err(StoreError {
                op: DiskOp::Publish,
                source,
            });
        }
        if policy.durability != Durability::None
            && !planted::is(Bug::PublishWithoutSync)
            && let Err(source) = world.sync_destination(&self.record.path).await
        {
            // Nobody was told of the file. Where it replaced nothing it can go, and the client's
            // next upload finds the place free. The record goes first: `closing` without a part would say published.
            if replace == Replace::Never {
                self.note_gone(world, Ending::Poisoned).await;
                let _ = world.unpublish(&self.record.path).await;
            }
            return Err(StoreError {
                op: DiskOp::SyncDirectory,
                source,
            });
        }
        Ok(())
    }

    /// The session ended with its file at its place, or long after. Where the record says `closing`, a part that is
    /// gone says the rest.
    pub async fn note_end<W: World>(&mut self, world: &W, ending: Ending) {
        let is_told = matches!(
            self.record.state,
            State::Closing {
                then: AfterPublish::End,
                ..
            }
        );
        if !is_told {
            self.note(world, State::Gone(ending)).await;
        }
    }

    /// Removes the bytes of a session that ended without a file; its record says how, until [`Keep::forget`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn discard<W: World>(&mut self, world: &W, ending: Ending) -> Result<(), StoreError> {
        self.note_gone(world, ending).await;
        world
            .remove(&part_name(self.id))
            .await
            .map_err(StoreError::new(DiskOp::Remove))
    }

    async fn note_gone<W: World>(&mut self, world: &W, ending: Ending) {
        if !self.note(world, State::Gone(ending)).await {
            // Without a record a restart treats the part as an orphan, which is right for what was
            // discarded.
            let _ = world.remove(&record_name(self.id)).await;
        }
    }

    /// Writes a state that the files would also tell without it; `false` if it could not be written. The
    /// record before it stays then: a restart goes on from that one, where it would forget a session
    /// without a record.
    pub async fn note<W: World>(&mut self, world: &W, state: State) -> bool {
        self.record.state = state;
        self.write(world, false, Sync::No).await.is_ok()
    }

    /// Writes the state that a restart found. If that fails, the old record stays: it promises no more than what is
    /// safe as long as no byte is added, and [`Keep::begin`] tries again before that.
    ///
    /// # Errors
    /// [`StoreError`]; the session is none the worse.
    pub async fn renew<W: World>(&mut self, world: &W, state: State) -> Result<(), StoreError> {
        self.record.state = state;
        self.is_stale = true;
        let renewed = self.write(world, false, Sync::No).await;
        if renewed.is_err() && planted::is(Bug::RenewalRemoves) {
            return self.forget(world).await;
        }
        renewed
    }

    /// Removes the record: the session is known no more.
    pub async fn forget<W: World>(&self, world: &W) -> Result<(), StoreError> {
        world
            .remove(&record_name(self.id))
            .await
            .map_err(StoreError::new(DiskOp::Remove))
    }

    async fn sync_names<W: World>(&mut self, world: &W) -> Result<(), StoreError> {
        if !self.names_durable && !planted::is(Bug::SealWithoutNames) {
            world
                .sync_work_directory()
                .await
                .map_err(StoreError::new(DiskOp::SyncDirectory))?;
            self.names_durable = true;
        }
        Ok(())
    }

    async fn write<W: World>(
        &mut self,
        world: &W,
        create: bool,
        sync: Sync,
    ) -> Result<(), StoreError> {
        self.record.boot_id = world.boot_id();
        self.sequence += 1;
        let (offset, bytes) = self.record.encode(self.sequence);
        let written = world
            .write_small(&record_name(self.id), offset, &bytes, create, sync)
            .await;
        match written {
            Ok(()) => {
                self.is_stale = false;
                Ok(())
            }
            Err(source) => {
                // The slot may be torn: the next write takes the same one, for the other is the last good one.
                self.sequence -= 1;
                Err(StoreError {
                    op: DiskOp::Record,
                    source,
                })
            }
        }
    }
}

/// Makes the bytes of a part durable. Only ever tried once.
async fn sync_part<F: File>(file: &F) -> Result<(), StoreError> {
    if planted::is(Bug::SealWithoutSync) {
        return Ok(());
    }
    let mut synced = file.sync_data().await;
    if synced.is_err() && planted::is(Bug::SyncRetried) {
        synced = file.sync_data().await;
    }
    synced.map_err(StoreError::new(DiskOp::Sync))
}

/// Whether an upload to `path` can be taken at all, told before any byte is sent.
///
/// # Errors
/// The [`Refusal`] that the client hears, or a [`StoreError`].
pub async fn check_destination<W: World>(
    world: &W,
    policy: &Policy,
    path: &UploadPath,
) -> Result<Result<(), Refusal>, StoreError> {
    let standing = world
        .look_up(path)
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
