//! The disk side of one session: create, append, seal, as the contract says ([`super`]). How a file
//! gets its name stands in `publication`, its way into an object store in `delivery`, the end of a
//! session in `ending`, what an application said in `reply`, how far digests have come in
//! `hashing`, and what the ledger tells in `custody`.

mod custody;
mod delivery;
mod ending;
mod hashing;
mod publication;
mod reply;

use std::cell::Ref;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;

use self::publication::Named;
use super::destination;
use super::disk::{Commit, Disk, File, PartStamp, Shelf, Sync};
use super::error::StoreError;
use super::hashing::Hashed;
use super::journal::{JournalError, Kept};
use super::names::part_name;
use super::record::{Change, Life, Record};
use super::space::Space;
use super::store::Store;
use super::tombstones::Tombstone;
use crate::bits::session::{Ending, Reply, State};
use crate::bits::session_id::SessionId;
use crate::config::Durability;
use crate::event::DiskOp;
use crate::http::digest::Algorithms;
use crate::http::path::UploadPath;

/// Files from this size on are refused before their bytes if they do not fit now; smaller ones find
/// out by themselves.
const ROOM_BYTES_MIN: u64 = 1 << 20;

/// The disk side of one session: its part, and its record as last written.
#[derive(Debug)]
pub struct Keep {
    id: SessionId,
    /// Where its files are.
    shelf: Shelf,
    /// What is known of it, and was written.
    kept: Rc<Kept>,
    /// Of the last frame that was tried.
    sequence: u64,
    /// The name of the part survives a power cut.
    name_durable: bool,
    /// A record that was to survive a power cut may not: its sync failed.
    is_unsynced: bool,
    /// Nobody is told of its end who relies on it: where its name is on a disk that nobody knows,
    /// it need not be durable.
    is_let_go: bool,
    /// Whether the file has its name already, and only a sync of that is missing.
    named: Named,
    /// A record has said that the file is to be published: brought back by a power cut, it would go
    /// on by itself.
    was_closing: bool,
    /// Its part stays behind, empty: no record could say that it ended without a file.
    leaves_part: bool,
    /// An application was told, and may have written a reply.
    may_have_reply: bool,
    /// What the digests had seen in the last frame that was written.
    hashed_written: u64,
    /// How the part was left, by that frame.
    left_written: Option<PartStamp>,
}

impl Keep {
    /// Goes on with a session whose record was read back, in this boot, and whose files are on this
    /// shelf.
    pub fn resume(
        id: SessionId,
        shelf: Shelf,
        record: Record,
        sequence: u64,
        boot_id: u128,
    ) -> Self {
        let may_have_reply = record.state.reply() == Reply::File;
        let was_closing = matches!(record.state, State::Closing { .. });
        Self {
            was_closing,
            may_have_reply,
            ..Self::of(id, shelf, Record { boot_id, ..record }, sequence)
        }
    }

    /// One of which this life of the server has done nothing yet.
    fn of(id: SessionId, shelf: Shelf, record: Record, sequence: u64) -> Self {
        Self {
            id,
            shelf,
            kept: Kept::new(record, sequence),
            sequence,
            name_durable: false,
            is_unsynced: false,
            is_let_go: false,
            named: Named::No,
            was_closing: false,
            leaves_part: false,
            may_have_reply: false,
            hashed_written: 0,
            left_written: None,
        }
    }

    /// What is known of the session.
    pub fn kept(&self) -> &Rc<Kept> {
        &self.kept
    }

    /// The session.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Where its files are.
    pub fn shelf(&self) -> Shelf {
        self.shelf
    }

    /// Makes part and record of a new session.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is left behind.
    pub async fn create<D: Disk>(
        store: &Store<D>,
        id: SessionId,
        shelf: Shelf,
        path: &UploadPath,
        client: IpAddr,
        life: Life,
        digest: Algorithms,
    ) -> Result<(Self, D::File), StoreError> {
        let part = part_name(id);
        let file =
            (store.disk.create(shelf, &part).await).map_err(StoreError::new(DiskOp::Create))?;
        let record = Record {
            path: path.clone(),
            state: State::NEW,
            durable: 0,
            inode: file.inode(),
            boot_id: store.disk.boot_id(),
            answer: None,
            client: Some(client),
            begun_ms: store.disk.wall_clock_ms(),
            life,
            hashed: Hashed::begin(digest),
            owed: None,
            is_unsettled: false,
            object: None,
        };
        let mut keep = Self::of(id, shelf, record, 0);
        if let Err(error) = keep
            .commit(store, keep.in_state(State::NEW), Sync::No)
            .await
        {
            drop(file);
            // Best effort: what stays is an orphan.
            let _ = store.remove(shelf, &part).await;
            return Err(StoreError {
                op: DiskOp::Create,
                source: error.source,
            });
        }
        Ok((keep, file))
    }

    /// What is known of the session.
    pub fn record(&self) -> Ref<'_, Record> {
        self.kept.record()
    }

    /// Where the session stands; this is its only place.
    pub fn state(&self) -> State {
        self.kept.state()
    }

    /// It stands there now, which needs no record (see [`Kept::set_state`]).
    pub fn set_state(&self, state: State) {
        self.kept.set_state(state);
    }

    /// Whether a restart would find the session where it stands, but for its progress.
    pub fn is_written(&self) -> bool {
        self.kept.is_written()
    }

    /// Whether it may end where nobody can make the name of its file durable: an administrator ends
    /// it, or its time is up, and no client hears of that.
    pub fn let_go(&mut self, is_let_go: bool) {
        self.is_let_go = is_let_go;
    }

    /// Writes how the upload goes, so that a restart knows. If that fails, the next record says it.
    pub async fn note_life<D: Disk>(&mut self, store: &Store<D>) {
        self.note(store, self.state()).await;
    }

    /// What is remembered of the session when it has ended.
    pub fn tombstone(&self, ending: Ending) -> Tombstone {
        self.kept.record().tombstone(ending, self.sequence)
    }

    /// Opens the part of a session.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open<D: Disk>(&self, disk: &D) -> Result<D::File, StoreError> {
        disk.open(self.shelf, &part_name(self.id))
            .await
            .map_err(StoreError::new(DiskOp::Open))
    }

    /// Before the first byte: finds out whether there is room for a file of that size, and records
    /// the size.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin<D: Disk>(
        &mut self,
        store: &Store<D>,
        file: &D::File,
        total: u64,
    ) -> Result<(), StoreError> {
        let before = self.state();
        let begun = State::Receiving {
            received: before.received(),
            total: Some(total),
        };
        // Also where the size is known: a file that is opened anew gets ready anew.
        (file.expect(total).await).map_err(StoreError::new(DiskOp::Allocate))?;
        if before != begun {
            has_room(&store.disk.space(self.shelf), total)
                .map_err(StoreError::new(DiskOp::Allocate))?;
        } else if store.journal.is_open() {
            return Ok(());
        }
        self.commit(store, self.in_state(begun), Sync::No).await
    }

    /// Whether the first `received` bytes survive a power cut already.
    pub fn is_hard(&self, received: u64) -> bool {
        self.name_durable && !self.is_unsynced && self.kept.record().durable == received
    }

    /// Makes the first `received` bytes survive a power cut (`durability = "fragment"`).
    ///
    /// # Errors
    /// [`StoreError`]; it poisons.
    pub async fn harden<D: Disk>(
        &mut self,
        store: &Store<D>,
        file: &D::File,
        received: u64,
    ) -> Result<(), StoreError> {
        self.bring_out(store, file).await?;
        let mut next = self.in_state(self.state());
        next.durable = received;
        self.commit(store, next, Sync::Yes).await?;
        self.sync_name(store).await
    }

    /// All bytes are here: makes them ours to keep.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn seal<D: Disk>(
        &mut self,
        store: &Store<D>,
        file: &D::File,
        total: u64,
        durability: Durability,
    ) -> Result<(), StoreError> {
        let sync = destination::sync(durability);
        let digests = self.finish_hashing(total);
        if sync == Sync::No && total > 0 {
            // The length of the part says it, beside the size that was recorded before its first
            // byte.
            self.set_state(State::Sealed { total });
            if let Some(digests) = digests {
                self.kept.set_digests(digests);
            }
            return Ok(());
        }
        let mut next = self.in_state(State::Sealed { total });
        next.digests = digests;
        if sync == Sync::Yes {
            self.bring_out(store, file).await?;
            next.durable = total;
        }
        let before = self.state();
        if let Err(error) = self.commit(store, next, sync).await {
            self.set_state(before);
            return Err(error);
        }
        match sync {
            Sync::Yes => self.sync_name(store).await,
            Sync::No => Ok(()),
        }
    }

    /// Before anybody is told where the session stands: what its last record says survives a power
    /// cut, if it was to.
    ///
    /// # Errors
    /// [`StoreError`]; it can be tried again.
    pub async fn make_sure<D: Disk>(
        &mut self,
        store: &Store<D>,
        durability: Durability,
    ) -> Result<(), StoreError> {
        self.make_bytes_sure(store, durability).await?;
        if self.is_unsynced {
            let synced = store.journal.sync_appended(&*store.disk).await;
            synced.map_err(StoreError::new(DiskOp::SyncRecords))?;
            self.is_unsynced = false;
        }
        Ok(())
    }

    /// The bytes of a whole file may have come under settings that asked for no durability. Those
    /// of now may ask for it, before anybody is told again that they are ours to keep.
    async fn make_bytes_sure<D: Disk>(
        &mut self,
        store: &Store<D>,
        durability: Durability,
    ) -> Result<(), StoreError> {
        let state = self.state();
        let is_whole = matches!(
            state,
            State::Sealed { .. } | State::Notified { copies: true, .. } | State::Closing { .. }
        );
        let is_part = is_whole && !self.has_name() && !self.is_object();
        let is_behind = is_part && self.record().durable < state.received();
        if !is_behind || destination::sync(durability) == Sync::No {
            return Ok(());
        }
        let file = self.open(&*store.disk).await?;
        self.bring_out(store, &file).await?;
        let mut next = self.in_state(state);
        next.durable = state.received();
        self.commit(store, next, Sync::Yes).await?;
        self.sync_name(store).await
    }

    /// Goes over to a state that the files would also tell without its record. If that cannot be
    /// written, a restart goes on from the one before.
    pub async fn note<D: Disk>(&mut self, store: &Store<D>, state: State) {
        let next = self.in_state(state);
        if self.commit(store, next, Sync::No).await.is_err() {
            self.set_state(state);
        }
    }

    /// The session was read back: the next journal has it in this state, and speaks of this boot.
    pub fn remember<D: Disk>(&mut self, store: &Store<D>, state: State) {
        // After a power cut other bytes may come behind those that are left. Behind an end none
        // come, and its digests are still to be told.
        if !matches!(state, State::Gone(_)) {
            self.kept.with_hashed(|hashed| hashed.cut(state.received()));
        }
        self.sequence += 1;
        self.kept.restart(state, self.sequence);
        let is_promised = !matches!(state, State::Receiving { .. } | State::Gone(_));
        // The old journal may be in the page cache only, and the next one may not come.
        self.is_unsynced = is_promised && store.journal.is_durable();
        store.journal.remember(self.id, Rc::clone(&self.kept));
    }

    fn in_state(&self, state: State) -> Change {
        self.kept.record().in_state(state)
    }

    async fn sync_name<D: Disk>(&mut self, store: &Store<D>) -> Result<(), StoreError> {
        // Where the file system commits in order, the name was committed with the bytes.
        if !self.name_durable && store.disk.commits_in_order(self.shelf).is_none() {
            store.sync_names(self.shelf).await?;
        }
        self.name_durable = true;
        Ok(())
    }

    /// Before a record that says so is synced: what was received is to survive a power cut.
    async fn bring_out<D: Disk>(&self, store: &Store<D>, file: &D::File) -> Result<(), StoreError> {
        let Some(commit) = store.disk.commits_in_order(self.shelf) else {
            return sync_part(file).await;
        };
        (file.write_out().await).map_err(StoreError::new(DiskOp::Sync))?;
        match commit {
            Commit::Journal => Ok(()),
            // Before the record, which is on another disk.
            Commit::Shelf => store.sync_names(self.shelf).await,
        }
    }

    /// Writes the next record; only if that is done, it is what is known of the session.
    async fn commit<D: Disk>(
        &mut self,
        store: &Store<D>,
        next: Change,
        sync: Sync,
    ) -> Result<(), StoreError> {
        // Also after an error: nobody knows how much of a frame reached the disk, and no two may
        // have the same number.
        self.sequence += 1;
        self.was_closing |= matches!(next.state, State::Closing { .. });
        let (journal, disk) = (&store.journal, &*store.disk);
        let written = journal
            .write(disk, self.id, &self.kept, next, self.sequence, sync)
            .await;
        match written {
            Ok(()) => {
                if sync == Sync::Yes {
                    self.is_unsynced = false;
                }
                self.hashed_written = self.hashed_at().unwrap_or(0);
                self.left_written = self.left();
                Ok(())
            }
            Err(JournalError::Append(source)) => Err(StoreError {
                op: DiskOp::Record,
                source,
            }),
            Err(JournalError::Sync(source)) => {
                self.is_unsynced = true;
                let op = DiskOp::SyncRecords;
                Err(StoreError { op, source })
            }
        }
    }
}

/// Whether a file of that size fits, told before its bytes. It is a look and no promise: others
/// take space meanwhile.
fn has_room(space: &Space, total: u64) -> io::Result<()> {
    if !space.can_ever_hold(total) {
        Err(io::ErrorKind::FileTooLarge.into())
    } else if total >= ROOM_BYTES_MIN && !space.can_hold_now(total) {
        Err(io::ErrorKind::StorageFull.into())
    } else {
        Ok(())
    }
}

/// Makes the bytes of a part durable. Only ever tried once.
async fn sync_part<F: File>(file: &F) -> Result<(), StoreError> {
    (file.sync_data().await).map_err(StoreError::new(DiskOp::Sync))
}
