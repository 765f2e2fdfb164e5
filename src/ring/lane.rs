//! The lane of a disk: where the calls of a shard go that would hold it up.
//!
//! A call that makes, renames or looks up a name takes some microseconds, mostly; to hand it to
//! another thread costs more than the call does. So it runs *inline*, on the shard, while the disk
//! is quick. What is not quick goes by a thread of the lane, and the shard goes on with its other
//! connections meanwhile:
//!
//! | What | Where |
//! | --- | --- |
//! | names, looks at folders, records | inline while the disk is quick |
//! | bytes that are copied into the page cache | inline while the disk is quick, else by the ring |
//! | all of these on a disk of another machine (NFS, SMB, FUSE), for ever perhaps | by the lane |
//! | lists of whole folders | by the lane |
//! | files that are closed (`descriptor.rs`) | here; those on another machine by the lane |
//! | truncation, space that is given back, big files without a name | by its second thread |
//! | small files on their way to the device | by its third, [`super::write_out`] |
//!
//! A disk is not quick for the next 64 calls when those of a moment took longer than [`PATIENCE`],
//! and while a big file is freed ([`super::freeing`]).
//!
//! Nobody knows of a disk that was quiet whether it still takes anything: it may have been frozen
//! for a snapshot meanwhile (`fsfreeze`, LVM), and then a call that writes waits for its end.
//! So the first one after a quiet second goes by the lane, and all others with it until it has come
//! back. A busy disk is not asked. Bytes of running uploads wait for that as well, and are never
//! refused. Calls that only look do not wait there, and say nothing of it.
//!
//! A disk has a lane of its own in each shard, so that one that does not answer holds up nobody
//! else's files. Its threads begin with the first call for them. When [`WAITING_MAX`] calls wait
//! for a disk and it has answered none for [`SILENCE`], whoever comes is refused: each connection
//! waits for one call at the most, so a disk that is slow and answers is waited for.

mod state;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use state::{Counted, Kind, State, push};

use super::helper::Helper;
use super::write_out::WriteOut;
use super::{freeing, turn};
use crate::coarse_clock;
use crate::vault::gate::Gate;

/// An inline call that takes longer held up the whole shard, and so did several that are slow and
/// together took longer.
pub const PATIENCE: Duration = Duration::from_millis(5);
/// So many calls may wait for a disk that does not answer.
pub const WAITING_MAX: usize = 256;
/// A disk does not answer when it has answered none of them for so long.
pub const SILENCE: Duration = Duration::from_secs(2);
/// So many files may wait to be freed; each is an open descriptor.
pub const FREEING_MAX: usize = 16;

/// The lane of one disk in one shard.
pub struct Lane {
    /// A call may wait for another machine.
    is_remote: bool,
    state: Arc<State>,
    calls: Helper,
    freeing: Helper,
    write_out: WriteOut,
    /// Whoever finds out whether a disk that was quiet takes anything.
    waking: Gate,
}

impl Lane {
    /// The lane of a disk; `is_remote` if it may be on another machine.
    pub fn new(is_remote: bool) -> Self {
        Self {
            is_remote,
            state: Arc::default(),
            calls: Helper::new("lane", WAITING_MAX),
            freeing: Helper::new("freeing", FREEING_MAX),
            write_out: WriteOut::default(),
            waking: Gate::default(),
        }
    }

    /// Whether the next call may run inline, if it only looks. Asked once for each call.
    fn is_quick(&self) -> bool {
        !self.is_remote && self.state.is_quick()
    }

    /// Whether the next call may run inline. Asked once for each call.
    pub fn takes_writes(&self) -> bool {
        self.is_quick() && self.state.is_awake(coarse_clock::ms())
    }

    /// Runs a call on the shard.
    pub fn inline<T>(&self, what: &'static str, call: impl FnOnce() -> T) -> T {
        self.inline_as(Kind::Writes, what, call)
    }

    fn inline_as<T>(&self, kind: Kind, what: &'static str, call: impl FnOnce() -> T) -> T {
        let (result, took) = timed(what, call);
        self.state.note(took);
        self.state.note_end(kind);
        result
    }

    /// Before a write that goes by another way than this: if the disk was quiet, it is found out by
    /// the lane whether it takes anything. Where a disk is frozen, some kernels let whoever hands a
    /// write to the ring wait for it.
    ///
    /// It waits as long as the write would, whoever else waits, and refuses nothing: of a write
    /// that failed nobody knows what is in the file, and its session is lost.
    pub async fn wake(&self, file: &OwnedFd) {
        if !self.is_to_be_woken() {
            return;
        }
        // One is enough for all who wait, and takes one descriptor and one place.
        let _turn = self.waking.turn().await;
        if !self.is_to_be_woken() {
            return;
        }
        let Ok(file) = file.try_clone() else {
            // Too many are open: the write itself waits.
            return;
        };
        // It writes nothing, and waits as any other write (pwrite(2)).
        let write = move || Ok(rustix::io::pwrite(&file, &[], 0).map(drop)?);
        // What is wrong with the file, its own write says.
        let _said_by_the_write = Box::pin(self.send_admitted(Kind::Writes, write)).await;
    }

    fn is_to_be_woken(&self) -> bool {
        !self.is_remote && !self.state.is_awake(coarse_clock::ms())
    }

    /// A write that went by another way came back.
    pub fn note_written(&self) {
        self.state.note_end(Kind::Writes);
    }

    /// Runs a call that only looks where it holds up nobody for long.
    ///
    /// # Errors
    /// Those of [`Lane::run`].
    pub async fn look<T: Send + 'static>(
        &self,
        what: &'static str,
        call: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        match self.is_quick() {
            true => self.inline_as(Kind::Looks, what, call),
            false => Box::pin(self.send_look(call)).await,
        }
    }

    /// Runs a call where it holds up nobody for long.
    ///
    /// # Errors
    /// `ETIMEDOUT` if too many wait for the disk; else what the call says.
    pub async fn run<T: Send + 'static>(
        &self,
        what: &'static str,
        call: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        match self.takes_writes() {
            true => self.inline(what, call),
            // Boxed, because it is seldom so.
            false => Box::pin(self.send(call)).await,
        }
    }

    /// Goes on with what was admitted before: nothing refuses it, whoever waits.
    ///
    /// # Errors
    /// What the call says.
    pub async fn go_on<T: Send + 'static>(
        &self,
        what: &'static str,
        call: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        match self.takes_writes() {
            true => self.inline(what, call),
            false => Box::pin(self.send_admitted(Kind::Writes, call)).await,
        }
    }

    /// Whether a call may wait for another machine.
    pub fn is_remote(&self) -> bool {
        self.is_remote
    }

    /// Looks at what was admitted before, by the lane: nothing refuses it, whoever waits.
    ///
    /// # Errors
    /// What the call says.
    pub async fn look_on<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.send_admitted(Kind::Looks, call).await
    }

    /// Whether another call may wait for the disk.
    ///
    /// # Errors
    /// `ETIMEDOUT` if too many do.
    pub fn admit(&self) -> io::Result<()> {
        match self.state.admits(coarse_clock::ms()) {
            true => Ok(()),
            false => Err(Errno::TIMEDOUT.into()),
        }
    }

    /// Runs a call by the lane.
    ///
    /// # Errors
    /// Those of [`Lane::run`].
    pub async fn send<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.admit()?;
        self.send_admitted(Kind::Writes, call).await
    }

    /// Runs a call that only looks by the lane.
    ///
    /// # Errors
    /// Those of [`Lane::run`].
    pub async fn send_look<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.admit()?;
        self.send_admitted(Kind::Looks, call).await
    }

    async fn send_admitted<T: Send + 'static>(
        &self,
        kind: Kind,
        call: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        if self.state.pending.load(Ordering::Relaxed) == 0 {
            self.state.note_answer();
        }
        let pending = Counted::new(&self.state, |state: &State| &state.pending);
        let state = Arc::clone(&self.state);
        let timed = move || {
            state.close_files();
            let began = Instant::now();
            let result = call();
            state.note(began.elapsed());
            state.note_end(kind);
            state.note_answer();
            drop(pending);
            result
        };
        self.calls.run(timed).await
    }

    /// Closes a file that nobody here has open any more. That may wait for another machine, and
    /// then it is done by the lane. A big one that has lost its name meanwhile (it was replaced
    /// while a client fetched it, or somebody has removed it) may be freed by that, which is for
    /// the second thread.
    pub fn close_file(&self, file: OwnedFd) {
        if !self.is_remote {
            if freeing::is_big_without_name(&file) {
                // Where there is no room for it, those that wait do it.
                return self.freeing.begin_if_room(self.will_free(file));
            }
            let ((), took) = timed("closing a file", || drop(file));
            return self.state.note(took);
        }
        push(&self.state.to_close, file);
        let state = Arc::clone(&self.state);
        // Where there is no room for it, those that wait do it.
        self.calls
            .begin_if_room(Box::new(move || state.close_files()));
    }

    /// Notes that a file is to be freed; the second thread does what is returned.
    fn will_free(&self, file: OwnedFd) -> Box<dyn FnOnce() + Send> {
        push(&self.state.to_free, file);
        let freeing = Counted::new(&self.state, |state: &State| &state.freeing);
        let state = Arc::clone(&self.state);
        Box::new(move || {
            state.free_files();
            drop(freeing);
        })
    }

    /// Runs what takes its time by the second thread of the lane.
    ///
    /// # Errors
    /// What the call says.
    pub async fn send_long<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let freeing = Counted::new(&self.state, |state: &State| &state.freeing);
        let state = Arc::clone(&self.state);
        let counted = move || {
            let result = call();
            state.free_files();
            drop(freeing);
            result
        };
        self.freeing.run(counted).await
    }

    /// Brings the bytes of a small file to the device, together with others.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn write_out(&self, file: OwnedFd) -> io::Result<()> {
        self.write_out.ask(file).await
    }

    /// Closes what holds a big file that has lost its name, and frees it so: ours piece by piece,
    /// what others have made in one go. Returns when it has its place in the queue; it is freed
    /// also where nobody waits for that.
    pub async fn free(&self, file: OwnedFd) {
        let job = self.will_free(file);
        self.freeing.begin(job).await;
    }
}

/// `statfs` types of file systems whose disks are here: ext2 to ext4, XFS, btrfs, tmpfs, overlay,
/// F2FS, ZFS, bcachefs, ramfs, JFS, NTFS, exFAT, FAT.
const LOCAL: [i64; 13] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0x0102_1994,
    0x794c_7630,
    0xf2f5_2010,
    0x2fc1_2fc1,
    0xca45_1a4e,
    0x8584_58f6,
    0x3153_464a,
    0x7366_746e,
    0x2011_bab0,
    0x4d44,
];

/// Whether calls to the file system of a folder may wait for another machine, for ever perhaps. Of
/// one that is not known, they may.
pub fn may_wait_for_another_machine(folder: &OwnedFd) -> bool {
    let kind = rustix::fs::fstatfs(folder).map(|stat| stat.f_type);
    !kind.is_ok_and(|kind| LOCAL.contains(&kind))
}

/// Runs a call on the shard, and says how long it took.
pub fn timed<T>(what: &'static str, call: impl FnOnce() -> T) -> (T, Duration) {
    let began = turn::now();
    let result = call();
    let took = turn::look().saturating_duration_since(began);
    turn::spent(what, took);
    (result, took)
}

#[cfg(test)]
mod tests {
    use super::state::{MOMENT, PENALTY_CALLS, QUIET, SLOW};
    use super::*;
    use crate::vault::disk::millis;
    use std::thread;

    fn on_a_shard<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(test)
    }

    #[test]
    fn a_disk_that_was_slow_once_is_not_waited_for_on_the_shard() {
        let lane = Lane::new(false);
        let here = thread::current().id();
        let where_it_ran = |lane: &Lane| {
            let call = || Ok(thread::current().id());
            on_a_shard(lane.run("test", call)).unwrap()
        };
        assert_ne!(where_it_ran(&lane), here, "nobody knows it yet");
        assert_eq!(where_it_ran(&lane), here);
        lane.inline("test", || thread::sleep(2 * PATIENCE));
        for _ in 0..PENALTY_CALLS {
            assert_ne!(where_it_ran(&lane), here);
        }
        assert_eq!(where_it_ran(&lane), here, "it was quick for long");
        // One that is slow on the lane is as slow.
        let slow = || {
            thread::sleep(2 * PATIENCE);
            Ok(())
        };
        on_a_shard(lane.send(slow)).unwrap();
        assert_ne!(where_it_ran(&lane), here);
        assert_ne!(where_it_ran(&Lane::new(true)), here);
    }

    #[test]
    fn a_disk_that_was_quiet_is_tried_beside_the_shard() {
        let here = thread::current().id();
        let lane = Lane::new(false);
        let write = || on_a_shard(lane.run("test", || Ok(thread::current().id()))).unwrap();
        let look = || on_a_shard(lane.look("test", || Ok(thread::current().id()))).unwrap();
        // Who looks says nothing of writes.
        assert_eq!((look(), write() == here, write()), (here, false, here));
        let quiet = coarse_clock::ms() - millis(QUIET);
        lane.state.written_at.store(quiet, Ordering::Relaxed);
        assert_eq!((look(), write() == here, write()), (here, false, here));
        // Whoever goes another way tries it first, and then it is known.
        let file = OwnedFd::from(tempfile::tempfile().unwrap());
        lane.state.written_at.store(quiet, Ordering::Relaxed);
        on_a_shard(lane.wake(&file));
        assert!(lane.takes_writes());
        // A write that comes back by its own way says the same.
        lane.state.written_at.store(quiet, Ordering::Relaxed);
        lane.note_written();
        assert!(lane.takes_writes());
    }

    #[test]
    fn slow_calls_of_a_moment_count_together() {
        let state = State::default();
        let (now, each) = (1_000, PATIENCE / 2);
        state.note_slow(now, each);
        state.note_slow(now + millis(MOMENT), each);
        state.note_slow(now + millis(MOMENT) + 1, each);
        assert!(state.is_quick(), "no more than it may be");
        state.note_slow(now + millis(MOMENT) + 2, SLOW);
        assert!(!state.is_quick());
    }

    async fn is_pending<F: Future + ?Sized>(call: &mut std::pin::Pin<Box<F>>) -> bool {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(call.as_mut().poll(context).is_pending())
        })
        .await
    }

    #[test]
    fn a_disk_that_does_not_answer_is_waited_for_by_so_many_and_no_more() {
        let lane = Lane::new(false);
        let (release, held) = std::sync::mpsc::channel::<()>();
        let hangs = move || {
            let _ = held.recv();
            Ok(())
        };
        let mut waiting =
            vec![Box::pin(lane.send(hangs)) as std::pin::Pin<Box<dyn Future<Output = _>>>];
        for _ in 1..WAITING_MAX {
            waiting.push(Box::pin(lane.send(|| Ok(()))));
        }
        on_a_shard(async {
            for call in &mut waiting {
                assert!(is_pending(call).await);
            }
            assert!(!lane.is_quick());
            // It may only be slow as yet.
            let asked_at = lane.state.answered_at.load(Ordering::Relaxed);
            assert!(lane.state.admits(asked_at + millis(SILENCE) - 1));
            assert!(!lane.state.admits(asked_at + millis(SILENCE)));
            lane.state.answered_at.store(0, Ordering::Relaxed);
            let refused = lane.run("test", || Ok(())).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
            // Bytes of running uploads are never refused: they wait for as long as it takes.
            let file = OwnedFd::from(tempfile::tempfile().unwrap());
            let mut writes: Vec<_> = (0..2 * WAITING_MAX)
                .map(|_| Box::pin(lane.wake(&file)))
                .collect();
            for write in &mut writes {
                assert!(is_pending(write).await);
            }
            let pending = lane.state.pending.load(Ordering::Relaxed);
            assert_eq!(pending, WAITING_MAX + 1, "one is enough for all of them");
            drop(release);
            for write in writes {
                write.await;
            }
            for call in waiting {
                call.await.unwrap();
            }
            lane.send(|| Ok(())).await.unwrap();
        });
    }
}
