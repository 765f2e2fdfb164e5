//! How many files are on their way at the same time: so many for each store.

use std::rc::Rc;

use tokio::sync::Semaphore;

use super::Desk;
use crate::objects::note::StorePlace;

/// So many files are on their way to a store at the same time.
pub(super) struct Slots {
    pub(super) whole: Semaphore,
    /// For files of which parts are sent ahead; they never keep one waiting that is whole.
    pub(super) ahead: Semaphore,
}

impl Desk {
    /// Those of stores that nobody sends to are forgotten.
    pub(super) fn slots(&self, place: &StorePlace) -> Rc<Slots> {
        let mut all = self.slots.borrow_mut();
        all.retain(|_, slots| Rc::strong_count(slots) > 1);
        let slots = all.entry(place.clone()).or_insert_with(|| {
            Rc::new(Slots {
                whole: Semaphore::new(self.uploads_max),
                ahead: Semaphore::new(self.uploads_max.div_ceil(2)),
            })
        });
        Rc::clone(slots)
    }
}
