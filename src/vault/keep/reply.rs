//! What an application said of an upload, and the reply that it has for the client.

use std::io;

use super::{Keep, destination};
use crate::bits::notification::Token;
use crate::bits::session::{Reply, State};
use crate::config::Durability;
use crate::event::DiskOp;
use crate::vault::disk::{Disk, File as _, Sync};
use crate::vault::error::StoreError;
use crate::vault::names::reply_name;
use crate::vault::record::Answered;
use crate::vault::store::Store;

impl Keep {
    /// What the application said, as far as the state does not say it.
    pub fn answer(&self) -> Option<Answered> {
        self.kept.record().answer.as_deref().cloned()
    }

    /// Names the reply that is kept here, if there is one.
    pub fn token(&self) -> Option<Token> {
        (self.kept.record().answer.as_ref()).map(|answer| answer.token)
    }

    /// The application took the file: keeps its reply and what it said. `notified` is the state
    /// that follows.
    ///
    /// # Errors
    /// [`StoreError`]; it does not poison: the application is asked again, and a reply that could
    /// not be kept is made anew.
    pub async fn notified<D: Disk>(
        &mut self,
        store: &Store<D>,
        notified: State,
        mut answer: Answered,
        durability: Durability,
    ) -> Result<(), StoreError> {
        let sync = destination::sync(durability);
        if notified.reply() == Reply::File && sync == Sync::Yes {
            self.sync_reply(store)
                .await
                .map_err(StoreError::new(DiskOp::Reply))?;
            answer.is_safe = true;
        }
        let mut next = self.in_state(notified);
        next.answer = Some(Box::new(answer));
        self.commit(store, next, sync).await
    }

    async fn sync_reply<D: Disk>(&self, store: &Store<D>) -> io::Result<()> {
        let (file, _) = (store
            .disk
            .open_reply(self.shelf, &reply_name(self.id))
            .await?)
            .ok_or(io::ErrorKind::NotFound)?;
        file.sync_data().await?;
        // Its name is new, whatever was synced before.
        store.disk.sync_shelf(self.shelf).await
    }

    /// From here on an application may write a reply.
    pub fn expect_reply(&mut self) {
        self.may_have_reply = true;
    }
}
