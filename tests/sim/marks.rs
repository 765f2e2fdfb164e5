//! Coverage marks: the rare branches that the seeds of CI must reach, and how often they did.

use std::cell::RefCell;
use std::collections::BTreeMap;

/// Every branch that must be reached. A fault that never fires is a bug in the plan.
pub const REQUIRED: &[&str] = &[
    "a disk was not synced at a stop",
    "abandoned session expired",
    "accounts changed",
    "another file is on its way to the object",
    "answer of the application lost",
    "answer of the store lost",
    "answer to an event lost",
    "append refused",
    "application denied (403)",
    "application failed",
    "application timed out",
    "asked who it is (401)",
    "bad head",
    "block exhausted",
    "bytes that were given up made room",
    "cancel acked",
    "cancel repeated and answered alike",
    "chunked fragment",
    "close acked",
    "close of an incomplete upload",
    "close repeated and answered alike",
    "close_notify in mid-body",
    "connection ended by a newer one",
    "connection ended by the stop",
    "connection refused",
    "create_dirs made folders",
    "cut in mid-body",
    "destination taken (403)",
    "did not close after its last answer",
    "disk did not answer",
    "disk full answered",
    "drain with connections open",
    "empty file published",
    "event refused",
    "event taken late",
    "event told again",
    "expect continue answered",
    "file on its way to a store given up",
    "file read (GET)",
    "file too large for the disk",
    "fill hurried",
    "folder missing (404)",
    "fragment too large (413)",
    "gap (416)",
    "gave way",
    "graceful stop",
    "graceful stop, then a new boot",
    "half a ticket taken",
    "hand-over",
    "hand-over full",
    "hand-over of a secure connection",
    "head timed out",
    "idle connection ended",
    "idle connection made room",
    "inode survived a rename",
    "journal retired",
    "kill",
    "kill during recovery",
    "known duplicate",
    "known on a connection",
    "ledger refused a line",
    "ledger torn by a power cut",
    "limit of sessions (503)",
    "line asked for again",
    "line of another ending written",
    "line written",
    "little space (500)",
    "made to wait for the next password",
    "name given anew",
    "no file to be read (GET)",
    "no reply for a wrong token (404)",
    "no room for a connection",
    "nobody could look at it",
    "notification repeated",
    "object made of parts",
    "object taken away at once",
    "overlap",
    "part lost by the store",
    "part sent ahead",
    "part without a record removed",
    "path that is none",
    "phantom bytes taken by a power cut",
    "power cut",
    "power cut during recovery",
    "power cut took names back",
    "power cut truncated",
    "publication finished at recovery",
    "publication refused",
    "published and replaced",
    "published on another file system",
    "published with the last fragment",
    "read again for a digest",
    "record damaged",
    "record set aside",
    "recovering (503)",
    "renewal put off",
    "reply fetched",
    "reply gone with its session (404)",
    "request to the store came late",
    "request to the store lost",
    "request to the store repeated",
    "reservation given back",
    "restart with another number of shards",
    "seal",
    "secure body filled",
    "session poisoned by a sync",
    "session poisoned by a write",
    "session recovered",
    "short write",
    "slow disk",
    "space reserved",
    "stalled body ended",
    "store failed (5xx)",
    "store lied",
    "store refused",
    "store shows what stood before",
    "store took long",
    "stranger's session refused",
    "sync of a directory failed",
    "sync of a journal failed",
    "takeover",
    "target of events away",
    "thief kept out",
    "ticket in two halves",
    "tombstone forgotten",
    "tombstone recovered",
    "too many events owed (503)",
    "total changed (400)",
    "two connections",
    "upload ended after its object was there",
    "upload lost by the store",
    "upload too large",
    "write refused for want of memory",
    "written out",
];

/// How often each branch was reached.
#[derive(Debug, Default)]
pub struct Marks(RefCell<BTreeMap<&'static str, u64>>);

impl Marks {
    /// A branch was reached.
    pub fn hit(&self, mark: &'static str) {
        assert!(
            REQUIRED.binary_search(&mark).is_ok(),
            "{mark:?} is not in the list of marks"
        );
        *self.0.borrow_mut().entry(mark).or_default() += 1;
    }

    /// How often a branch was reached.
    pub fn count(&self, mark: &str) -> u64 {
        self.0.borrow().get(mark).copied().unwrap_or(0)
    }

    /// Adds those of another run.
    pub fn add(&self, other: &Self) {
        let mut all = self.0.borrow_mut();
        for (mark, count) in other.0.borrow().iter() {
            *all.entry(mark).or_default() += count;
        }
    }
}
