//! What is told of a store's trouble, and when that is over.
//!
//! A server whose store takes nothing is not ready, and whoever looks at that sends nobody here any
//! more: then no file would come that shows that the store is well again. So the store is asked, by
//! a small object, as long as no job tries it anyway.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{self, AbortHandle};

use super::Desk;
use crate::coarse_clock;
use crate::config::{NoReplace, ObjectStore};
use crate::objects::bucket::StoreTrouble;
use crate::objects::note::StorePlace;
use crate::objects::probe;
use crate::server::object_order::ObjectOrder;

/// The first pause before a store is asked again.
const RECHECK_PAUSE: Duration = Duration::from_secs(2);
/// The longest one.
const RECHECK_PAUSE_MAX: Duration = Duration::from_secs(60);
/// A store that took something so long ago is taken to refuse one key, and not whatever comes.
const TOOK_MAX: Duration = Duration::from_secs(60);

/// What is known of the stores' troubles.
#[derive(Default)]
pub(super) struct Rechecks {
    /// How many jobs try each of them by themselves.
    trying: RefCell<BTreeMap<StorePlace, usize>>,
    /// Those that are asked again.
    asked: RefCell<BTreeMap<StorePlace, AbortHandle>>,
    /// Those that have refused a key since they were asked.
    refused: RefCell<BTreeSet<StorePlace>>,
    /// When each last took something.
    took: RefCell<BTreeMap<StorePlace, Instant>>,
}

/// A job tries a store by itself, until this is dropped.
pub(super) struct Trying {
    desk: Rc<Desk>,
    place: StorePlace,
}

impl Drop for Trying {
    fn drop(&mut self) {
        let mut trying = self.desk.rechecks.trying.borrow_mut();
        if let Some(count) = trying.get_mut(&self.place) {
            *count -= 1;
            if *count == 0 {
                trying.remove(&self.place);
            }
        }
    }
}

impl Desk {
    /// Whoever tries a store again and again holds this meanwhile.
    pub(super) fn trying(self: &Rc<Self>, store: &ObjectStore) -> Trying {
        let place = StorePlace::from(store);
        let mut trying = self.rechecks.trying.borrow_mut();
        *trying.entry(place.clone()).or_default() += 1;
        Trying {
            desk: Rc::clone(self),
            place,
        }
    }

    /// A try has come to nothing. `key` is that of the object, or of its digest file.
    pub(super) fn tell(self: &Rc<Self>, order: &ObjectOrder, key: &str, trouble: &StoreTrouble) {
        let objects = &self.metrics.objects;
        objects.failures.add(1);
        match trouble {
            // It has judged a request of ours: whatever was wrong with it is not any more. That one
            // file cannot be stored under its name keeps no other one away.
            StoreTrouble::Exists => {
                self.end_recheck(&StorePlace::from(&*order.store));
                objects.note(&order.store.bucket, None);
            }
            // The store has no part in that.
            StoreTrouble::Gone | StoreTrouble::Local(_) => {}
            // It may refuse this one key only: its client hears of that, and the log.
            StoreTrouble::Refused(_) if !trouble.is_of_credentials() => self.suspect(order),
            _ => self.blame(&order.store, order.may_replace, trouble),
        }
        let is_clients = matches!(trouble, StoreTrouble::Exists) && !order.is_promised;
        let event = "object_not_taken";
        if is_clients || !objects.may_tell(event, coarse_clock::ms()) {
            return;
        }
        let (session, bucket) = (order.session, &order.store.bucket);
        let remedy = trouble.remedy();
        tracing::warn!(event, %session, bucket, key, why = %trouble, remedy, "an object store does not take a file");
    }

    /// A store takes nothing, until it has taken something.
    pub(super) fn blame(
        self: &Rc<Self>,
        store: &Arc<ObjectStore>,
        may_replace: bool,
        trouble: &StoreTrouble,
    ) {
        let why = trouble.to_string();
        self.metrics.objects.note(&store.bucket, Some(&why));
        self.begin_recheck(store, may_replace, RECHECK_PAUSE);
    }

    /// A store has taken something.
    pub(super) fn took(&self, store: &ObjectStore) {
        let place = StorePlace::from(store);
        self.metrics.objects.note(&store.bucket, None);
        self.end_recheck(&place);
        let mut took = self.rechecks.took.borrow_mut();
        took.insert(place, Instant::now());
    }

    /// A store has refused one key: it is asked at once whether it takes another one, unless it did
    /// a moment ago.
    fn suspect(self: &Rc<Self>, order: &ObjectOrder) {
        let place = StorePlace::from(&*order.store);
        let took = self.rechecks.took.borrow().get(&place).copied();
        if took.is_none_or(|at| at.elapsed() >= TOOK_MAX) {
            self.rechecks.refused.borrow_mut().insert(place);
            self.begin_recheck(&order.store, order.may_replace, Duration::ZERO);
        }
    }

    fn end_recheck(&self, place: &StorePlace) {
        let asked = self.rechecks.asked.borrow_mut().remove(place);
        if let Some(asked) = asked {
            asked.abort();
        }
    }

    fn begin_recheck(
        self: &Rc<Self>,
        store: &Arc<ObjectStore>,
        may_replace: bool,
        first: Duration,
    ) {
        let place = StorePlace::from(&**store);
        let mut asked = self.rechecks.asked.borrow_mut();
        if asked.get(&place).is_none_or(AbortHandle::is_finished) {
            let (desk, store) = (Rc::clone(self), Arc::clone(store));
            let task = task::spawn_local(desk.recheck(store, may_replace, first));
            asked.insert(place, task.abort_handle());
        }
    }

    /// Asks a store until it takes something, or nobody says any more that it does not.
    async fn recheck(self: Rc<Self>, store: Arc<ObjectStore>, may_replace: bool, first: Duration) {
        let place = StorePlace::from(&*store);
        let objects = &self.metrics.objects;
        let mut pause = first;
        loop {
            tokio::time::sleep(pause).await;
            let is_first = pause.is_zero();
            pause = RECHECK_PAUSE_MAX.min(RECHECK_PAUSE.max(2 * pause));
            if !is_first && !objects.is_wrong(&store.bucket) {
                return;
            }
            // A job shows it by itself, unless it is for a key that is refused in any case.
            let was_refused = self.rechecks.refused.borrow_mut().remove(&place);
            if !is_first && !was_refused && self.rechecks.trying.borrow().contains_key(&place) {
                continue;
            }
            match self.ask(&store, &place, may_replace).await {
                Ok(()) => return self.took(&store),
                Err(StoreTrouble::Local(_)) => {}
                Err(trouble) => objects.note(&store.bucket, Some(&trouble.to_string())),
            }
        }
    }

    /// Whether a store takes what is put there.
    async fn ask(
        &self,
        store: &ObjectStore,
        place: &StorePlace,
        may_replace: bool,
    ) -> Result<(), StoreTrouble> {
        let bucket = self.ready(store, may_replace).await?;
        let may_replace = may_replace || store.no_replace == NoReplace::Look;
        let asked = self.try_with(store, place, &bucket, async |name| {
            probe::ask(&*bucket, name, may_replace).await
        });
        asked
            .await?
            .map_err(|wrong| StoreTrouble::Doubt(wrong.to_owned()))
    }
}
