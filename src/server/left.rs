//! Whether the file of an upload is as it was left, where its digest is computed.
//!
//! Bytes are seen once, on their way to the disk. So whoever changes the file later, an application
//! that was given its name or anybody else who may write to the work directory, would make the
//! digest a lie. Each look at the file compares how it stands with how it was left
//! ([`PartStamp`]): before bytes are appended, and before it gets its name. Where that differs, the
//! file is read again, and only then something is said of it: what an application has made of the
//! file is told with a digest of its own, and what anybody else has changed is nobody's upload any
//! more, so that its client sends it once more.

use std::io;
use std::rc::Rc;

use super::floor::World;
use super::hashing::{Behind, Orders, changed};
use super::held::Held;
use super::session::Rereading;
use crate::bits::reply::Refusal;
use crate::config::{Location, NotificationType};
use crate::diagnosis::{PartTouched, is_part_changed};
use crate::event::{DiskOp, Event};
use crate::http::digest::Digests;
use crate::vault::disk::{File as _, PartStamp};
use crate::vault::error::StoreError;
use crate::vault::hashing::Hashing;
use crate::vault::names::part_name;

/// How often a file is read anew because it changes while it is read.
const TRIES_MAX: usize = 3;

/// The clocks of file systems go in steps of up to 10 ms: what is written in the same step as what
/// came before leaves no trace in the times.
const STEP_MS: u64 = 20;

impl<W: World> Held<W> {
    /// How the part stands there now; `None` if nothing does.
    pub(super) async fn stamp(&mut self) -> Result<Option<PartStamp>, StoreError> {
        let (shard, shelf) = (Rc::clone(&self.shard), self.keep().shelf());
        let stat = shard.world.stat(shelf, &part_name(self.id())).await;
        let stat = stat.map_err(StoreError::new(DiskOp::Read))?;
        Ok(stat.map(|stat| stat.stamp()))
    }

    /// Before bytes are appended: what came before them is there. Behind the end of a part that
    /// somebody has cut they would leave a hole, which is read as zeros, and the length that it has
    /// then tells nothing of that. So each write is preceded by a look: a fragment may be the whole
    /// of a large file, and a look costs a fraction of a microsecond.
    ///
    /// One that is longer does no harm: what comes is written over it, and what is too long in the
    /// end gets no name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn check_length(&mut self, file: &W::File) -> Result<(), StoreError> {
        let received = self.received();
        if received == 0 {
            return Ok(());
        }
        let length = file.length().await;
        match length.map_err(StoreError::new(DiskOp::Read))? < received {
            true => Err(changed()),
            false => Ok(()),
        }
    }

    /// All that is there was seen: notes how the part is left.
    pub(super) async fn note_left(&mut self) {
        if !self.keep().has_digests() {
            return;
        }
        let received = self.received();
        // What cannot be looked at now is read again.
        let stamp = self.stamp().await.ok().flatten();
        let stamp = stamp.filter(|stamp| stamp.bytes == received);
        self.keep().set_left(stamp);
    }

    /// The same, where the times of files tell of changes while a part grows.
    pub(super) async fn note_left_growing(&mut self) {
        if self.tells_changes() {
            self.note_left().await;
        }
    }

    /// Something is done to the part that changes its times and not its bytes; whether it was as it
    /// was left before.
    pub(super) async fn is_as_left(&mut self) -> bool {
        let left = self.keep().left();
        left.is_some() && self.stamp().await.is_ok_and(|stamp| stamp == left)
    }

    fn tells_changes(&mut self) -> bool {
        let shelf = self.keep().shelf();
        self.shard.world.tells_changes(shelf)
    }

    /// Before something is appended, or the file is sealed: if the part is not as it was left, all
    /// of it is to be read again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn look_again(&mut self) -> Result<(), StoreError> {
        let left = self.keep().left();
        // Where something was not seen the times say nothing, and where all was, it has its digest.
        let is_moot = self.keep().unhashed().is_some() || self.keep().digests().is_some();
        if left.is_none() || is_moot || !self.tells_changes() {
            return Ok(());
        }
        let stamp = self.stamp().await?;
        if stamp.is_none() || stamp == left {
            // If it is not there, whoever opens it hears so.
            return Ok(());
        }
        self.check_stamp(stamp)?;
        // What is open may have no name any more.
        self.work().file = None;
        self.keep().hash_anew();
        Ok(())
    }

    /// A part that was cut need not be read to be known as one that was changed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) fn check_stamp(&self, stamp: Option<PartStamp>) -> Result<(), StoreError> {
        match stamp.is_some_and(|stamp| stamp.bytes < self.received()) {
            true => Err(changed()),
            false => Ok(()),
        }
    }

    /// What was not seen is about to be read, and this is how the part stands. If somebody was
    /// stopped who did that, and it stood otherwise then, what he has read says nothing.
    pub(super) fn go_on_reading(&mut self, stamp: Option<PartStamp>) {
        let begun = self.work().reading.take();
        if begun.is_some_and(|begun| Some(begun.stamp) != stamp) && self.tells_changes() {
            self.keep().hash_anew();
        }
    }

    /// An application is about to get the name of the part: from now on it may write there.
    pub(super) async fn hand_over(&mut self, location: &Location) {
        if !is_by_reference(location) {
            return;
        }
        let left = self.keep().left().filter(|_| self.tells_changes());
        let Some(changed_ms) = left.map(|left| left.changed_ns / 1_000_000) else {
            return self.keep().set_left(None);
        };
        // In the step of the clock in which the last byte came, what it writes would leave no
        // trace. To wait for the next one is less than to read the file again.
        let world = Rc::clone(&self.shard.world);
        let exact_ms = changed_ms.saturating_add(STEP_MS + 1);
        let left_ms = exact_ms.saturating_sub(world.wall_clock_ms());
        if left_ms > 0 {
            world.pass(left_ms.min(STEP_MS + 1)).await;
        }
        // The clock was set back.
        if world.wall_clock_ms() < exact_ms {
            self.keep().set_left(None);
        }
    }

    /// Before the file gets its name, here or in a store: its digest is that of what stands there.
    ///
    /// # Errors
    /// What the client hears.
    pub(super) async fn mind_changes(&mut self) -> Result<(), Refusal> {
        match self.read_if_changed().await {
            Ok(None) => Ok(()),
            Ok(Some((stamp, digests))) => {
                // Where it is refused and the session goes on, so it is the next time.
                self.judge(digests).await?;
                self.work().reading = None;
                self.keep().set_left(Some(stamp));
                Ok(())
            }
            // Heard by nobody: the connection was hung up on.
            Err(Behind::Stopped) => Err(Refusal::Unavailable),
            Err(Behind::Disk(error)) => {
                let refusal = self.fail(error).await;
                if self.state().is_promised() {
                    self.leave_alone(&refusal);
                }
                Err(refusal)
            }
        }
    }

    /// The digests of the file, if they had to be found out anew, and how it stood then.
    async fn read_if_changed(&mut self) -> Result<Option<(PartStamp, Digests)>, Behind> {
        let Some(known) = self.keep().digests() else {
            return Ok(None);
        };
        for _ in 0..TRIES_MAX {
            let Some(stamp) = self.stamp().await? else {
                // It has its name already, or is lost.
                return Ok(None);
            };
            // One of another length gets no name.
            if self.keep().left() == Some(stamp) || stamp.bytes != self.received() {
                return Ok(None);
            }
            self.work().file = None;
            let begun = self.work().reading.take();
            let begun = begun.filter(|begun| begun.stamp == stamp);
            let hashing = begun.and_then(|begun| begun.hashing);
            let Some(mut hashing) = hashing.or_else(|| Hashing::begin(known.algorithms())) else {
                return Ok(None);
            };
            let read = (self.read_into(&mut hashing, stamp.bytes, Orders::Wait)).await;
            // A client that hangs up comes back: then it goes on from here, however large it is.
            self.work().reading = Some(Box::new(Rereading {
                stamp,
                hashing: Some(hashing.clone()),
            }));
            match read {
                // Whoever writes to it just now has cut it first: it is looked at once more.
                Err(Behind::Disk(error)) if is_part_changed(&error.source) => continue,
                read => read?,
            }
            self.work().file = None;
            if self.stamp().await? == Some(stamp) {
                let (session, bytes) = (self.id(), stamp.bytes);
                (self.shard.world).emit(Event::ReadAgain { session, bytes });
                return Ok(Some((stamp, hashing.finish())));
            }
        }
        let (op, source) = (DiskOp::Read, io::Error::other(PartTouched));
        Err(StoreError { op, source }.into())
    }

    /// The whole file was read again.
    async fn judge(&mut self, digests: Digests) -> Result<(), Refusal> {
        let Some(known) = self.keep().digests().filter(|known| *known != digests) else {
            return Ok(());
        };
        let location = self.location();
        let is_theirs =
            self.was_told() && (location.notification.is_none() || is_by_reference(&location));
        if !is_theirs {
            return Err(self.refuse_changed().await);
        }
        self.keep().adopt_digests(digests);
        self.shard.world.emit(Event::FileChanged {
            session: self.id(),
            path: self.path().as_str(),
            sent: known.sha256,
            sha256: digests.sha256,
        });
        Ok(())
    }

    /// Whether an application was told of the file, as far as is known: by this life of the server,
    /// or so that it took the file.
    pub(super) fn was_told(&mut self) -> bool {
        self.work().was_told || self.keep().record().answer.is_some()
    }

    /// The file is not what came. What was promised is kept, for a person to look at.
    async fn refuse_changed(&mut self) -> Refusal {
        if !self.state().is_promised() {
            return self.fail(changed()).await;
        }
        self.report(&changed());
        let refusal = Refusal::DiskFailed;
        self.leave_alone(&refusal);
        refusal
    }

    /// The file did not get its name. What was given to it for that has changed its times.
    pub(super) async fn note_own_touch(&mut self) {
        let Some(left) = self.keep().left() else {
            return;
        };
        if let Ok(Some(stamp)) = self.stamp().await {
            let PartStamp { changed_ns, .. } = stamp;
            if stamp == (PartStamp { changed_ns, ..left }) {
                self.keep().set_left(Some(stamp));
            }
        }
    }
}

/// Whether an application is given the name of the part.
pub(super) fn is_by_reference(location: &Location) -> bool {
    let told = location.notification.as_ref();
    told.is_some_and(|told| told.kind == NotificationType::ByReference)
}
