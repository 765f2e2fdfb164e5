//! Files of ended sessions that could not be removed. They are tried again, since what forbids it
//! may go: an attribute (`chattr +i`), a file system that is read-only for a while, a server that
//! does not answer. Those that are left when the server ends are removed by the next start.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Bound;

use super::disk::{Shelf, WorkFiles};

/// So many are remembered, of about 100 bytes each; more wait for the next start.
const FILES_MAX: usize = 4_096;
/// So many are tried in one go, once a second: what fails for good costs the shard nearly nothing.
const TRIED_MAX: usize = 64;

/// Files that nobody needs, each by its shelf and name.
#[derive(Debug, Default)]
pub struct Stuck {
    files: RefCell<BTreeSet<(Shelf, String)>>,
    /// The last one that was tried, if there may be more behind it.
    last: RefCell<Option<(Shelf, String)>>,
}

impl Stuck {
    /// A file could not be removed. Its name must never be that of another one again.
    pub(super) fn note(&self, shelf: Shelf, name: &str) {
        let mut files = self.files.borrow_mut();
        if files.len() < FILES_MAX {
            files.insert((shelf, name.to_owned()));
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.borrow().is_empty()
    }

    /// Tries some again. That they still fail was told.
    pub async fn try_again<D: WorkFiles>(&self, disk: &D) {
        for (shelf, name) in self.some() {
            if disk.remove(shelf, &name).await.is_ok() {
                self.files.borrow_mut().remove(&(shelf, name));
            }
            disk.give_way().await;
        }
    }

    /// Those whose turn it is: after the last ones, and the first ones behind them.
    fn some(&self) -> Vec<(Shelf, String)> {
        let files = self.files.borrow();
        let from = self.last.take().map_or(Bound::Unbounded, Bound::Excluded);
        let some: Vec<_> = (files.range((from, Bound::Unbounded)).take(TRIED_MAX))
            .cloned()
            .collect();
        if some.len() == TRIED_MAX {
            self.last.replace(some.last().cloned());
        }
        some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_turn_and_there_is_a_bound() {
        let stuck = Stuck::default();
        for number in 0..FILES_MAX + 9 {
            stuck.note(Shelf::WORK, &format!("{number:05}.part"));
        }
        let mut tried = BTreeSet::new();
        for _ in 0..FILES_MAX / TRIED_MAX {
            tried.extend(stuck.some());
        }
        assert_eq!(tried.len(), FILES_MAX);
        assert!(stuck.some().is_empty(), "the end");
        assert_eq!(stuck.some().len(), TRIED_MAX, "and from the beginning");
    }
}
