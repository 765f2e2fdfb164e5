//! A whole file on its way into an object store, and the record of it.

use super::Keep;
use crate::bits::session::State;
use crate::config::Durability;
use crate::custody::object::StoredObject;
use crate::event::DiskOp;
use crate::vault::disk::{Disk, Sync};
use crate::vault::error::StoreError;
use crate::vault::names::part_name;
use crate::vault::owed::Owed;
use crate::vault::store::Store;

impl Keep {
    /// Before a sealed file is given to an object store: `closing`, the state until the store has
    /// it, is written so that it survives a power cut. From then on a part that is gone says that
    /// the session has ended, and the record of its object that the store has it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin_delivery<D: Disk>(
        &mut self,
        store: &Store<D>,
        durability: Durability,
        closing: State,
    ) -> Result<(), StoreError> {
        self.make_bytes_sure(store, durability).await?;
        // Former settings may have led into a folder, which has refused it.
        self.kept.note_naming(0);
        self.commit(store, self.in_state(closing), Sync::Yes).await
    }

    /// The store has the file: the record says it, what the store calls it, and what is `owed` to
    /// the outside from now on; all of that survives a power cut. Whoever hears of the object may
    /// take it away: a part that stands here longer must not lead to another one.
    ///
    /// # Errors
    /// [`StoreError`]; the store is asked again, and found to have it.
    pub async fn note_object<D: Disk>(
        &mut self,
        store: &Store<D>,
        object: StoredObject,
        owed: Option<Owed>,
    ) -> Result<(), StoreError> {
        let mut next = self.in_state(self.state());
        next.object = Some(Box::new(object));
        next.owed = owed.map(Box::new);
        self.commit(store, next, Sync::Yes).await
    }

    /// Whether the record says that a store has the file.
    pub fn is_object(&self) -> bool {
        self.record().object.is_some()
    }

    /// The store has the file, and the record says so: it goes here.
    ///
    /// # Errors
    /// [`StoreError`]; it is tried again later.
    pub async fn end_delivery<D: Disk>(&mut self, store: &Store<D>) -> Result<(), StoreError> {
        let removed = store.remove(self.shelf, &part_name(self.id)).await;
        removed.map_err(StoreError::new(DiskOp::Remove))
    }
}
