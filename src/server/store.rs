//! Work files, session records, `seal`, `publish`, `discard`: the durability contract.
//!
//! # The contract
//!
//! | Promise | after `kill -9` | after a power cut |
//! | --- | --- | --- |
//! | Final fragment Ack given: all bytes are ours to keep | always | always |
//! | Final fragment Ack given where an application hears of uploads: it has taken the file, and its reply stays until the session ends | always | always |
//! | Close Ack given (with `publish = "last-fragment"`: the final fragment Ack): the file is whole, at its place (if there is an application: if that asked for it) | always | always |
//! | Fragment Ack given: these bytes need not be sent again | always | `durability = "fragment"`: yes; `"upload"` (default): perhaps not, the server then asks for them again by 416 |
//! | Destination name | absent, or old, or whole: never partial | same |
//!
//! With `durability = "none"` nothing is ever synced: the column "after `kill -9`" holds, the other one does not.
//!
//! # How it is kept
//!
//! The bytes of a session are in `ID.part`, on the shelf of its root: the work directory, or a folder on the root's own file
//! system. **The length of the part is the progress**; no second
//! counter can disagree with it. What the length cannot say (destination, size, state, and how many bytes were synced,
//! `durable`) is a record in the shard's [`super::journal`].
//!
//! * *Create*: the part is made and the record written before the Create Ack. Neither is synced: a power cut that loses
//!   them makes the client start again.
//! * *Fragment*, `durability = "fragment"`: `fdatasync(part)`, record with `durable` synced, names synced; then the Ack.
//! * *Seal*: `fdatasync(part)`; record `sealed`, synced; names synced; then the final fragment Ack.
//! * *Publish*: record `closing` (written, not synced); rename without replacing; sync of the destination's
//!   folder; then the Close Ack. A restart that finds the part gone under a `closing` record knows that the rename
//!   happened, since nothing else removes a part in that state. If a power cut takes the record back to `sealed`,
//!   the inode at the destination tells.
//! * *Notification* (protocol.md 9.1): after the seal the application is told. What it said (and its reply, synced first) is recorded, synced;
//!   then the final fragment Ack. A crash before that lets the client's next duplicate of the last fragment tell it again,
//!   under the same id; after it, the duplicate gets the recorded answer.
//! * *Discard*: record `cancelled`, `expired` .. first, then the part. So no crash can show a part that is
//!   gone under a record that still promises it.
//! * *A sync that failed* is never tried again, because the kernel may have dropped the pages and would
//!   call the second try a success. The session is poisoned: its files go, the client hears
//!   BG_E_SESSION_NOT_FOUND and starts again.
//! * *Disk full*: the part keeps what it has, the client hears so and comes back later. A file that is larger than what
//!   is free is refused before its bytes; how space is reserved stands in [`crate::vault::space`].

use std::cell::{Ref, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;

use super::journal::{Journal, JournalError, Kept};
use super::world::World;
use crate::bits::notification::Token;
use crate::bits::reply::Refusal;
use crate::bits::session::{AfterPublish, Ending, Reply, State};
use crate::bits::session_id::SessionId;
use crate::config::{Durability, Limits, Permissions, Policy};
use crate::diagnosis::{self, Diagnosis};
use crate::event::{DiskOp, Event};
use crate::http::path::{BadTarget, UploadPath};
use crate::planted::{self, Bug};
use crate::vault::disk::{
    File, Manner, Parents, Place, Published as _, Replace, Shelf, Standing, Sync,
};
use crate::vault::gate::SharedSync;
use crate::vault::names::{part_name, reply_name};
use crate::vault::record::{Answered, Life, Record};
use crate::vault::space::Space;
use crate::vault::tombstones::{Origin, PathHash, Tombstone};

/// Files from this size on are refused before their bytes if they do not fit now; smaller ones find out by themselves.
const ROOM_BYTES_MIN: u64 = 1 << 20;

/// So many files may wait to be taken back; each holds its folder open.
const UNWANTED_MAX: usize = 256;

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

    /// What it means.
    pub fn diagnosis(&self) -> Diagnosis {
        diagnosis::diagnose(self.op, &self.source)
    }

    /// What the client hears.
    pub fn refusal(&self) -> Refusal {
        self.diagnosis().hears
    }

    /// Whether the session can no longer be trusted: a failed sync, a write of its bytes that failed for another
    /// reason than space, or bytes that somebody took away.
    pub fn poisons(&self) -> bool {
        !planted::is(Bug::PoisonIgnored) && self.diagnosis().poisons
    }
}

/// The disk side of one session: its part, and its record as last written.
#[derive(Debug)]
pub struct Keep {
    id: SessionId,
    /// Where its files are.
    shelf: Shelf,
    /// What is written of it.
    kept: Rc<Kept>,
    /// Of the last frame that was tried.
    sequence: u64,
    /// How the upload goes; written with the next record.
    life: Life,
    /// The name of the part survives a power cut.
    name_durable: bool,
    /// An application was told, and may have written a reply.
    may_have_reply: bool,
}

/// Where sessions are kept: the outside, and the journal in it.
pub struct Store<W: World> {
    /// The outside.
    pub world: Rc<W>,
    /// The records.
    pub journal: Journal<W>,
    /// Syncs of the names on each shelf.
    names: RefCell<BTreeMap<Shelf, Rc<SharedSync>>>,
    /// Files at their destinations of which nobody was told, and which could not be taken back yet.
    unwanted: RefCell<Vec<(SessionId, W::Published)>>,
}

impl<W: World> Store<W> {
    /// The store of a shard; without `is_durable` nothing is ever synced.
    pub fn new(world: Rc<W>, shard: usize, is_durable: bool, limits: &Limits) -> Self {
        Self {
            world,
            journal: Journal::new(shard, is_durable, limits),
            names: RefCell::default(),
            unwanted: RefCell::default(),
        }
    }

    /// Whether anything has to survive a power cut from now on.
    pub fn set_durable(&self, is_durable: bool) {
        self.journal.set_durable(is_durable);
    }

    /// Takes a file back of which nobody was told. If that fails, its client would hear for ever that its own file stands in
    /// the way; so it is tried again ([`Store::take_back_rest`]).
    async fn take_back(&self, id: SessionId, mut published: W::Published) {
        let Err(error) = published.undo().await else {
            return;
        };
        self.world.emit(Event::DiskFailed {
            op: DiskOp::Remove,
            session: Some(id),
            error: &error,
        });
        let mut unwanted = self.unwanted.borrow_mut();
        // Each is there because two operations in a row failed; of so many a person has heard by now.
        if unwanted.len() < UNWANTED_MAX {
            unwanted.push((id, published));
        }
    }

    /// Tries once more to take back what could not be taken back.
    pub async fn take_back_rest(&self) {
        for (id, mut published) in self.unwanted.take() {
            if published.undo().await.is_err() {
                self.unwanted.borrow_mut().push((id, published));
            }
        }
    }

    async fn sync_names(&self, shelf: Shelf) -> Result<(), StoreError> {
        let shelf = match planted::is(Bug::OneShelfSynced) {
            true => Shelf::WORK,
            false => shelf,
        };
        let names = Rc::clone(self.names.borrow_mut().entry(shelf).or_default());
        (names.ask(|| self.world.sync_shelf(shelf)).await)
            .map_err(StoreError::new(DiskOp::SyncDirectory))
    }
}

impl Keep {
    /// Goes on with a session whose record was read back, in this boot, and whose files are on this shelf.
    pub fn resume(
        id: SessionId,
        shelf: Shelf,
        record: Record,
        sequence: u64,
        boot_id: u128,
    ) -> Self {
        let may_have_reply = record.state.reply() == Reply::File;
        Self {
            id,
            shelf,
            life: record.life.clone(),
            kept: Kept::new(Record { boot_id, ..record }, sequence),
            sequence,
            name_durable: false,
            may_have_reply,
        }
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
    pub async fn create<W: World>(
        store: &Store<W>,
        id: SessionId,
        shelf: Shelf,
        path: &UploadPath,
        client: IpAddr,
        life: Life,
    ) -> Result<(Self, W::File), StoreError> {
        let part = part_name(id);
        let file =
            (store.world.create(shelf, &part).await).map_err(StoreError::new(DiskOp::Create))?;
        let record = Record {
            path: path.clone(),
            state: State::NEW,
            durable: 0,
            inode: file.inode(),
            boot_id: store.world.boot_id(),
            answer: None,
            client: Some(client),
            begun_ms: store.world.wall_clock_ms(),
            life,
        };
        let mut keep = Self {
            id,
            shelf,
            life: record.life.clone(),
            kept: Kept::new(record.clone(), 0),
            sequence: 0,
            name_durable: false,
            may_have_reply: false,
        };
        if !planted::is(Bug::RecordAfterAck)
            && let Err(error) = keep.commit(store, record, Sync::No).await
        {
            drop(file);
            // Best effort: what stays is an orphan, which the next start removes.
            let _ = store.world.remove(shelf, &part).await;
            return Err(StoreError {
                op: DiskOp::Create,
                source: error.source,
            });
        }
        Ok((keep, file))
    }

    /// What the application said, as far as the state does not say it.
    pub fn answer(&self) -> Option<Answered> {
        self.kept.record().answer.as_deref().cloned()
    }

    /// Names the reply that is kept here, if there is one.
    pub fn token(&self) -> Option<Token> {
        (self.kept.record().answer.as_ref()).map(|answer| answer.token)
    }

    /// What is written of the session.
    pub fn record(&self) -> Ref<'_, Record> {
        self.kept.record()
    }

    /// How the upload goes.
    pub fn life(&mut self) -> &mut Life {
        &mut self.life
    }

    /// Writes how the upload goes, so that a restart knows. If that fails, the next record says it.
    pub async fn note_life<W: World>(&mut self, store: &Store<W>) {
        let state = self.kept.record().state;
        self.note(store, state).await;
    }

    /// What is remembered of the session when it has ended.
    pub fn tombstone(&self, ending: Ending) -> Tombstone {
        let record = self.kept.record();
        Tombstone {
            ending,
            path: PathHash::of(&record.path),
            origin: Origin::of(record.client),
            // Above all that may be in the journal, also of what was written in vain.
            sequence: self.sequence + 1,
        }
    }

    /// Opens the part of a session.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open<W: World>(&self, world: &W) -> Result<W::File, StoreError> {
        world
            .open(self.shelf, &part_name(self.id))
            .await
            .map_err(StoreError::new(DiskOp::Open))
    }

    /// Before the first byte: finds out whether there is room for a file of that size, and records the size.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin<W: World>(
        &mut self,
        store: &Store<W>,
        file: &W::File,
        total: u64,
    ) -> Result<(), StoreError> {
        let begun = State::Receiving {
            received: 0,
            total: Some(total),
        };
        // Also where the size is known: a file that is opened anew gets ready anew.
        file.expect(total)
            .map_err(StoreError::new(DiskOp::Allocate))?;
        if self.kept.record().state != begun {
            has_room(&store.world.space(self.shelf), total)
                .map_err(StoreError::new(DiskOp::Allocate))?;
        } else if store.journal.is_open() {
            return Ok(());
        }
        self.commit(store, self.in_state(begun), Sync::No).await
    }

    /// Whether the first `received` bytes survive a power cut already.
    pub fn is_hard(&self, received: u64) -> bool {
        self.name_durable && self.kept.record().durable == received
    }

    /// Makes the first `received` bytes survive a power cut (`durability = "fragment"`).
    ///
    /// # Errors
    /// [`StoreError`]; it poisons.
    pub async fn harden<W: World>(
        &mut self,
        store: &Store<W>,
        file: &W::File,
        received: u64,
    ) -> Result<(), StoreError> {
        sync_part(file).await?;
        let mut next = self.kept.record().clone();
        next.durable = received;
        self.commit(store, next, Sync::Yes).await?;
        self.sync_name(store).await
    }

    /// All bytes are here: makes them ours to keep.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn seal<W: World>(
        &mut self,
        store: &Store<W>,
        file: &W::File,
        total: u64,
        durability: Durability,
    ) -> Result<(), StoreError> {
        let sync = match durability {
            Durability::None => Sync::No,
            Durability::Upload | Durability::Fragment => Sync::Yes,
        };
        let mut next = self.in_state(State::Sealed { total });
        if sync == Sync::Yes {
            sync_part(file).await?;
            next.durable = total;
        }
        self.commit(store, next, sync).await?;
        match sync {
            Sync::Yes => self.sync_name(store).await,
            Sync::No => Ok(()),
        }
    }

    /// The application took the file: keeps its reply and what it said. `notified` is the state that follows.
    ///
    /// # Errors
    /// [`StoreError`]; it does not poison: the application is asked again, and a reply that could not be kept is made anew.
    pub async fn notified<W: World>(
        &mut self,
        store: &Store<W>,
        notified: State,
        mut answer: Answered,
        durability: Durability,
    ) -> Result<(), StoreError> {
        let sync = match durability {
            Durability::None => Sync::No,
            Durability::Upload | Durability::Fragment => Sync::Yes,
        };
        if notified.reply() == Reply::File && sync == Sync::Yes && !planted::is(Bug::ReplyUnsynced)
        {
            self.sync_reply(store)
                .await
                .map_err(StoreError::new(DiskOp::Reply))?;
            answer.is_safe = true;
        }
        let mut next = self.in_state(notified);
        next.answer = Some(Box::new(answer));
        if planted::is(Bug::NotifiedUnrecorded) {
            self.kept.pretend(next);
            return Ok(());
        }
        self.commit(store, next, sync).await
    }

    async fn sync_reply<W: World>(&self, store: &Store<W>) -> io::Result<()> {
        let (file, _) = (store
            .world
            .open_reply(self.shelf, &reply_name(self.id))
            .await?)
            .ok_or(io::ErrorKind::NotFound)?;
        file.sync_data().await?;
        // Its name is new, whatever was synced before.
        store.world.sync_shelf(self.shelf).await
    }

    /// Gives a sealed file its name. `closing` is the state while it happens.
    ///
    /// # Errors
    /// [`StoreError`]; unless it poisons, the file is still sealed and can be published again.
    pub async fn publish<W: World>(
        &mut self,
        store: &Store<W>,
        policy: &Policy,
        place: &Place,
        closing: State,
    ) -> Result<(), StoreError> {
        let world = &*store.world;
        self.commit(store, self.in_state(closing), Sync::No).await?;
        let manner = manner(policy);
        let published = match world
            .publish(self.shelf, &part_name(self.id), place, manner)
            .await
        {
            Ok(published) => published,
            Err(source) => {
                // If this write is lost, a restart only tries the same publication again.
                self.note(store, closing.unpublished()).await;
                // What was not found may be the folder of the destination, which can be made, or the part, which is lost.
                if source.kind() == io::ErrorKind::NotFound {
                    self.open(world).await?;
                }
                return Err(StoreError {
                    op: DiskOp::Publish,
                    source,
                });
            }
        };
        if manner.sync == Sync::Yes
            && !planted::is(Bug::PublishWithoutSync)
            && let Err(source) = published.sync().await
        {
            // Nobody was told of the file. Where it replaced nothing it can go, and the client's
            // next upload finds the place free. The record goes first: `closing` without a part would say published.
            if manner.replace == Replace::Never
                && self.note(store, State::Gone(Ending::Poisoned)).await
            {
                store.take_back(self.id, published).await;
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
    pub async fn note_end<W: World>(&mut self, store: &Store<W>, ending: Ending) {
        let is_told = matches!(
            self.kept.record().state,
            State::Closing {
                then: AfterPublish::End,
                ..
            }
        );
        if !is_told {
            self.note(store, State::Gone(ending)).await;
        }
    }

    /// Removes the bytes of a session that ended without a file; its record says how, and then its tombstone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn discard<W: World>(
        &mut self,
        store: &Store<W>,
        ending: Ending,
    ) -> Result<(), StoreError> {
        // If it cannot be written, the part that is missing tells as much, except how the session ended.
        self.note(store, State::Gone(ending)).await;
        let removed = store.world.remove(self.shelf, &part_name(self.id)).await;
        self.remove_reply(store).await?;
        removed.map_err(StoreError::new(DiskOp::Remove))
    }

    /// Removes the reply, if there may be one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_reply<W: World>(&mut self, store: &Store<W>) -> Result<(), StoreError> {
        if !self.may_have_reply {
            return Ok(());
        }
        (store.world.remove(self.shelf, &reply_name(self.id)).await)
            .map_err(StoreError::new(DiskOp::Remove))?;
        self.may_have_reply = false;
        Ok(())
    }

    /// From here on an application may write a reply.
    pub fn expect_reply(&mut self) {
        self.may_have_reply = true;
    }

    /// Writes a state that the files would also tell without it; `false` if it could not be written, and a restart goes on
    /// from the one before.
    pub async fn note<W: World>(&mut self, store: &Store<W>, state: State) -> bool {
        self.commit(store, self.in_state(state), Sync::No)
            .await
            .is_ok()
    }

    /// The session was read back: the next journal has it in this state, and speaks of this boot.
    pub fn remember<W: World>(&mut self, store: &Store<W>, state: State) {
        self.sequence += 1;
        let record = self.in_state(state);
        self.kept = Kept::new(record, self.sequence);
        store.journal.remember(self.id, Rc::clone(&self.kept));
    }

    fn in_state(&self, state: State) -> Record {
        let mut next = self.kept.record().clone();
        next.state = state;
        next
    }

    async fn sync_name<W: World>(&mut self, store: &Store<W>) -> Result<(), StoreError> {
        if !self.name_durable && !planted::is(Bug::SealWithoutNames) {
            store.sync_names(self.shelf).await?;
            self.name_durable = true;
        }
        Ok(())
    }

    /// Writes the next record; only if that is done, it is what is known of the session.
    async fn commit<W: World>(
        &mut self,
        store: &Store<W>,
        next: Record,
        sync: Sync,
    ) -> Result<(), StoreError> {
        // Also after an error: nobody knows how much of a frame reached the disk, and no two may have the same number.
        self.sequence += 1;
        let next = Record {
            life: self.life.clone(),
            ..next
        };
        let (journal, world) = (&store.journal, &*store.world);
        let written = journal
            .write(world, self.id, &self.kept, next, self.sequence, sync)
            .await;
        match written {
            Ok(()) => Ok(()),
            Err(JournalError::Append(source)) => Err(StoreError {
                op: DiskOp::Record,
                source,
            }),
            Err(JournalError::Sync(source)) => Err(StoreError {
                op: DiskOp::Sync,
                source,
            }),
        }
    }
}

/// Whether a file of that size fits, told before its bytes. It is a look and no promise: others take space meanwhile.
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
    if planted::is(Bug::SealWithoutSync) {
        return Ok(());
    }
    let mut synced = file.sync_data().await;
    if synced.is_err() && planted::is(Bug::SyncRetried) {
        synced = file.sync_data().await;
    }
    synced.map_err(StoreError::new(DiskOp::Sync))
}

/// How files get their names under these settings.
fn manner(policy: &Policy) -> Manner {
    Manner {
        replace: match policy.allow_overwrite || planted::is(Bug::PublishOverExisting) {
            true => Replace::Existing,
            false => Replace::Never,
        },
        parents: match policy.create_dirs {
            true => Parents::Create,
            false => Parents::MustExist,
        },
        sync: match policy.durability {
            Durability::None => Sync::No,
            Durability::Upload | Durability::Fragment => Sync::Yes,
        },
        file_mode: policy.file_mode.map(Permissions::bits),
        dir_mode: policy.dir_mode.map(Permissions::bits),
    }
}

/// Whether an upload to `place` can be taken at all, told before any byte is sent.
///
/// # Errors
/// The [`Refusal`] that the client hears, or a [`StoreError`].
pub async fn check_destination<W: World>(
    world: &W,
    policy: &Policy,
    place: &Place,
) -> Result<Result<(), Refusal>, StoreError> {
    let standing = world
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
