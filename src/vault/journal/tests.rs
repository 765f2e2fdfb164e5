//! A journal over files in memory, in which every call is done when it is asked for.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::renewed::PIECE_BYTES;
use super::*;
use crate::bits::session::{AfterPublish, Ending, State};
use crate::http::path::UploadPath;
use crate::vault::disk::{Block, File, Readable, ReplyStat, Runtime, WorkStat};
use crate::vault::names::NamesOf;
use crate::vault::owed::{EventTarget, EventTargets, Owed};
use crate::vault::readback::{Dealt, Newest, Readback};
use crate::vault::record::Record;
use crate::vault::space::Space;

/// What has no memory and no parts has none of these.
enum Never {}

impl Block for Never {
    fn bytes(&self) -> &[u8] {
        match *self {}
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match *self {}
    }
}

type Read = (io::Result<usize>, Never);

impl Readable for Never {
    type Block = Self;

    async fn read_at(&self, _: Self, _: std::ops::Range<usize>, _: u64) -> Read {
        match *self {}
    }
}

impl File for Never {
    async fn write_shown(
        &self,
        _: Self,
        _: std::ops::Range<usize>,
        _: u64,
        _: impl FnMut(&[u8]),
    ) -> Read {
        match *self {}
    }

    async fn write_at(&self, _: Self, _: std::ops::Range<usize>, _: u64) -> Read {
        match *self {}
    }

    async fn expect(&self, _: u64) -> io::Result<()> {
        match *self {}
    }

    async fn allocate(&self, _: std::ops::Range<u64>) -> io::Result<()> {
        match *self {}
    }

    async fn give_back(&self, _: u64) -> io::Result<()> {
        match *self {}
    }

    async fn sync_data(&self) -> io::Result<()> {
        match *self {}
    }

    async fn write_out(&self) -> io::Result<()> {
        match *self {}
    }

    async fn length(&self) -> io::Result<u64> {
        match *self {}
    }

    fn inode(&self) -> u64 {
        match *self {}
    }

    async fn truncate(&self, _: u64) -> io::Result<()> {
        match *self {}
    }
}

#[derive(Default)]
struct Files {
    logs: RefCell<BTreeMap<String, Vec<u8>>>,
    is_full: Cell<bool>,
    /// Bytes of each append.
    appends: RefCell<Vec<usize>>,
    /// How often others had their turn.
    turns: Cell<usize>,
    /// So much may sessions weigh, if that is limited.
    weight_max: Cell<Option<u64>>,
}

#[derive(Default)]
struct InMemory(Rc<Files>);

struct MemoryLog(Rc<Files>, String);

impl Log for MemoryLog {
    async fn append(&self, bytes: &[u8]) -> io::Result<()> {
        if self.0.is_full.get() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.appends.borrow_mut().push(bytes.len());
        let mut logs = self.0.logs.borrow_mut();
        logs.get_mut(&self.1).unwrap().extend_from_slice(bytes);
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Runtime for InMemory {
    fn now(&self) -> Millis {
        0
    }

    fn wall_clock_ms(&self) -> u64 {
        0
    }

    fn emit(&self, _: Event<'_>) {}

    async fn give_way(&self) {
        self.0.turns.set(self.0.turns.get() + 1);
    }
}

impl WorkFiles for InMemory {
    type File = Never;
    type Log = MemoryLog;

    fn boot_id(&self) -> u128 {
        1
    }

    fn was_stopped_cleanly(&self, _: u128, _: Option<Shelf>) -> bool {
        true
    }

    fn shelves(&self) -> Vec<Shelf> {
        vec![Shelf::WORK]
    }

    fn sessions_bytes_max(&self) -> u64 {
        self.0.weight_max.get().unwrap_or(u64::MAX)
    }

    fn space(&self, _: Shelf) -> std::sync::Arc<Space> {
        Default::default()
    }

    async fn create(&self, _: Shelf, _: &str) -> io::Result<Never> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn open(&self, _: Shelf, _: &str) -> io::Result<Never> {
        Err(io::ErrorKind::NotFound.into())
    }

    async fn stat(&self, _: Shelf, _: &str) -> io::Result<Option<WorkStat>> {
        Ok(None)
    }

    async fn create_log(&self, name: &str) -> io::Result<MemoryLog> {
        let before = (self.0.logs.borrow_mut()).insert(name.to_owned(), Vec::new());
        assert_eq!(before, None, "{name} is taken");
        Ok(MemoryLog(Rc::clone(&self.0), name.to_owned()))
    }

    async fn open_reply(&self, _: Shelf, _: &str) -> io::Result<Option<(Never, ReplyStat)>> {
        Ok(None)
    }

    async fn remove(&self, _: Shelf, name: &str) -> io::Result<()> {
        self.0.logs.borrow_mut().remove(name);
        Ok(())
    }

    async fn rename(&self, _: Shelf, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }

    async fn list(&self, _: Shelf, wanted: NamesOf) -> io::Result<Vec<String>> {
        let logs = self.0.logs.borrow();
        let wanted = logs.keys().filter(|name| wanted.has(name));
        Ok(wanted.cloned().collect())
    }

    async fn sync_shelf(&self, _: Shelf) -> io::Result<()> {
        Ok(())
    }
}

fn done<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing here has to wait"),
    }
}

fn record(state: State) -> Record {
    Record {
        path: UploadPath::from_text("a.bin").unwrap(),
        state,
        durable: 0,
        inode: 1,
        boot_id: 1,
        answer: None,
        client: None,
        begun_ms: 0,
        life: Default::default(),
        hashed: None,
        owed: None,
        is_unsettled: false,
        object: None,
    }
}

/// What a start would read of the only session in the files.
fn read_back(disk: &InMemory) -> (u64, State) {
    match newest(disk) {
        Newest::Record {
            sequence, record, ..
        } => (sequence, record.state),
        // Of an end only that is kept, with a number above that of its frame.
        Newest::Tombstone(of, _) => (of.sequence - 1, State::Gone(of.ending)),
        other => panic!("{other:?}"),
    }
}

fn newest(disk: &InMemory) -> Newest {
    let told = dealt(disk).told;
    told.into_values().next().expect("one session")
}

/// What a start of one shard would read.
fn dealt(disk: &InMemory) -> Dealt {
    let mut readback = Readback::new(1);
    for (name, bytes) in &*disk.0.logs.borrow() {
        readback.journal(name, &bytes[..]).unwrap();
    }
    readback.deal().pop().unwrap()
}

#[test]
fn a_record_becomes_true_when_it_is_appended_and_not_before() {
    let disk = InMemory::default();
    let journal = Journal::new(0, true, &Limits::default());
    done(journal.begin(&disk, 0)).unwrap();
    let id = SessionId::from_u128(7);
    let kept = Kept::new(record(State::NEW), 0);
    let commit = |state, sequence| {
        let change = kept.record().in_state(state);
        done(journal.write(&disk, id, &kept, change, sequence, Sync::Yes))
    };
    commit(State::NEW, 1).unwrap();
    let sealed = State::Sealed { total: 9 };
    disk.0.is_full.set(true);
    assert!(matches!(commit(sealed, 2), Err(JournalError::Append(_))));
    assert_eq!(kept.state(), State::NEW);
    assert_eq!(read_back(&disk), (1, State::NEW));
    disk.0.is_full.set(false);
    commit(sealed, 3).unwrap();
    assert_eq!(kept.state(), sealed);
    assert_eq!(read_back(&disk), (3, sealed));
}

#[test]
fn only_what_no_frame_says_is_unwritten() {
    let disk = InMemory::default();
    let journal = Journal::new(0, true, &Limits::default());
    done(journal.begin(&disk, 0)).unwrap();
    let id = SessionId::from_u128(7);
    let kept = Kept::new(record(State::NEW), 0);
    let receiving = |received| State::Receiving {
        received,
        total: Some(9),
    };
    let change = kept.record().in_state(receiving(0));
    done(journal.write(&disk, id, &kept, change, 1, Sync::No)).unwrap();
    // The length of the part tells it.
    kept.set_state(receiving(5));
    assert!(kept.is_written());
    // An end that could not be written: the next journal has it.
    kept.set_state(State::Gone(crate::bits::session::Ending::Poisoned));
    assert!(!kept.is_written());
    assert_eq!(read_back(&disk), (1, receiving(0)));
    done(journal.begin(&disk, 5)).unwrap();
    assert_eq!(read_back(&disk).1, kept.state());
}

/// Goal: what a session owes outlives its end, its tombstone and renewals, until both targets have
/// it; and then nothing of it is left. Method: after each step it is read back, and renewed.
#[test]
fn what_is_owed_stays_until_all_targets_have_it() {
    let disk = InMemory::default();
    let journal = Journal::new(0, true, &Limits::default());
    done(journal.begin(&disk, 0)).unwrap();
    let id = SessionId::from_u128(7);
    let kept = Kept::new(record(State::Sealed { total: 9 }), 0);
    let mut change = kept.record().in_state(State::Closing {
        total: 9,
        then: AfterPublish::End,
        told: None,
    });
    change.owed = Some(Box::new(Owed {
        ending: Ending::Published,
        at_ms: 1,
        bytes: 9,
        told: EventTargets::NONE,
    }));
    done(journal.write(&disk, id, &kept, change, 1, Sync::No)).unwrap();
    assert!(journal.owing(id).is_none(), "it has no name yet");
    let ended = State::Gone(Ending::Published);
    let change = kept.record().in_state(ended);
    done(journal.write(&disk, id, &kept, change, 2, Sync::No)).unwrap();
    let tombstone = kept.record().tombstone(Ending::Published, 2);
    journal.bury(id, tombstone, 0);
    assert!(journal.tombstones().remembers(id));
    let both = EventTargets::NONE
        .with(EventTarget::Webhook)
        .with(EventTarget::Nats);
    let mut generation = 5;
    let mut renewed = || {
        done(journal.begin(&disk, generation)).unwrap();
        generation += 5;
        newest(&disk)
    };
    let owed_to = |newest: &Newest| match newest {
        Newest::Record { record, .. } => {
            let owed = record.owed.as_ref().expect("it is owed");
            both.without(owed.told).iter().collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(
        owed_to(&renewed()),
        [EventTarget::Webhook, EventTarget::Nats]
    );
    assert!(!done(journal.acknowledge(
        &disk,
        id,
        EventTarget::Webhook,
        both
    )));
    assert_eq!(owed_to(&newest(&disk)), [EventTarget::Nats]);
    assert_eq!(owed_to(&renewed()), [EventTarget::Nats]);
    assert!(done(journal.acknowledge(
        &disk,
        id,
        EventTarget::Nats,
        both
    )));
    assert!(journal.owing(id).is_none());
    for newest in [newest(&disk), renewed()] {
        let Newest::Tombstone(of, _) = newest else {
            panic!("{newest:?}");
        };
        assert_eq!(of.ending, Ending::Published);
    }
}

/// A renewal wrote down that it was told, and the power took the tombstone back; or the target that
/// has not heard of it is named no more, and may be named again.
#[test]
fn what_all_have_heard_is_owed_no_more_by_the_journal_either() {
    let disk = InMemory::default();
    let journal = Journal::new(0, true, &Limits::default());
    done(journal.begin(&disk, 0)).unwrap();
    let id = SessionId::from_u128(7);
    let webhook = EventTargets::NONE.with(EventTarget::Webhook);
    let kept = Kept::new(record(State::Sealed { total: 9 }), 0);
    let mut change = kept.record().in_state(State::Gone(Ending::Published));
    change.owed = Some(Box::new(Owed {
        ending: Ending::Published,
        at_ms: 1,
        bytes: 9,
        told: webhook,
    }));
    done(journal.write(&disk, id, &kept, change, 1, Sync::No)).unwrap();
    let both = webhook.with(EventTarget::Nats);
    for (all, why) in [
        (both, "one has not heard"),
        (EventTargets::NONE, "it waits for one"),
    ] {
        done(journal.settle(&disk, id, all));
        assert!(
            !journal.is_settled(id, all) && journal.owing(id).is_some(),
            "{why}"
        );
        assert!(matches!(newest(&disk), Newest::Record { .. }), "{why}");
    }
    done(journal.settle(&disk, id, webhook));
    assert!(journal.owing(id).is_none());
    let newest = newest(&disk);
    assert!(matches!(newest, Newest::Tombstone(..)), "{newest:?}");
}

/// Their ends are written nowhere: for whoever reads the journal they may run still.
#[test]
fn sessions_that_ended_weigh_no_more_in_a_journal_than_a_start_can_read() {
    let disk = InMemory::default();
    disk.0.weight_max.set(Some(1 << 20));
    let journal = Journal::new(0, true, &Limits::default());
    done(journal.begin(&disk, 0)).unwrap();
    let mut records_max = 0;
    for number in 0..2_000 {
        let id = SessionId::from_u128(number);
        let kept = Kept::new(record(State::NEW), 0);
        let change = kept.record().in_state(State::NEW);
        done(journal.write(&disk, id, &kept, change, 1, Sync::No)).unwrap();
        journal.bury(id, kept.record().tombstone(Ending::Published, 1), 0);
        if number % 50 == 0 {
            let told = dealt(&disk).told;
            let records = told.values();
            let records = records.filter(|newest| matches!(newest, Newest::Record { .. }));
            records_max = records_max.max(records.count());
        }
    }
    let at_most = usize::try_from(weight::sessions_in(1 << 20)).unwrap();
    assert!(
        records_max > 100 && records_max < at_most,
        "{records_max} of {at_most}"
    );
}

/// Goal: nobody waits for the whole of a long journal. Method: one of three pieces or more is
/// renewed, on a disk that counts appends and turns.
#[test]
fn a_long_journal_is_renewed_in_pieces_with_turns_for_others_between() {
    let disk = InMemory::default();
    let journal = Journal::new(0, true, &Limits::default());
    done(journal.begin(&disk, 0)).unwrap();
    for number in 0..10_000 {
        let id = SessionId::from_u128(number);
        let kept = Kept::new(record(State::NEW), 0);
        let change = kept.record().in_state(State::NEW);
        done(journal.write(&disk, id, &kept, change, 1, Sync::No)).unwrap();
    }
    let before = disk.0.appends.take();
    let longest_frame = before.iter().max().unwrap();
    disk.0.turns.set(0);
    done(journal.begin(&disk, 5)).unwrap();
    let pieces = disk.0.appends.take();
    assert!(pieces.len() >= 3, "{pieces:?}");
    assert!(
        pieces.iter().all(|len| *len < PIECE_BYTES + longest_frame),
        "{pieces:?}"
    );
    assert!(disk.0.turns.get() >= pieces.len());
    let (renewed, all): (usize, usize) = (pieces.iter().sum(), before.iter().sum());
    assert_eq!(renewed, all, "every session has its frame");
}

/// Goal: after a start it is known which of many sessions ended last. Method: they end in an order
/// that is not that of their ids, some before a renewal and some after it, and it is read back.
#[test]
fn journals_tell_in_which_order_sessions_ended() {
    let disk = InMemory::default();
    let journal = Journal::new(0, true, &Limits::default());
    done(journal.begin(&disk, 0)).unwrap();
    let end = |number: u128| {
        let id = SessionId::from_u128(number);
        let kept = Kept::new(record(State::NEW), 0);
        let closing = State::Closing {
            total: 0,
            then: AfterPublish::End,
            told: None,
        };
        let change = kept.record().in_state(closing);
        done(journal.write(&disk, id, &kept, change, 1, Sync::No)).unwrap();
        journal.bury(id, kept.record().tombstone(Ending::Published, 1), 0);
    };
    [7, 2, 9].into_iter().for_each(end);
    assert_eq!(dealt(&disk).order, [7, 2, 9].map(SessionId::from_u128));
    done(journal.begin(&disk, 5)).unwrap();
    assert_eq!(disk.0.logs.borrow().len(), 1, "the new one replaced it");
    [5, 8, 1].into_iter().for_each(end);
    let all = [7, 2, 9, 5, 8, 1];
    assert_eq!(dealt(&disk).order, all.map(SessionId::from_u128));
}
