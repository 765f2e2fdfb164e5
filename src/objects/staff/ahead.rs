//! Sending parts of files ahead that are still coming ([`InParts::send_ahead`]): a task for each
//! file, which shards tell how much of it was acked.
//!
//! It ends when nobody can tell it more: then the file is on its way as a whole, or given up, and
//! whoever does that waits for the request that is under way. What it waits for otherwise it stops
//! waiting for. While it waits it holds neither the file nor a place among those that send.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task;

use super::{ChosenSource, Desk, PAUSE, PAUSE_MAX, on_a_thread, open};
use crate::bits::session_id::SessionId;
use crate::objects::bucket::{Object, StoreTrouble};
use crate::objects::note::StorePlace;
use crate::objects::parts::{InParts, SentParts};
use crate::server::object_order::ObjectOrder;

/// A whole file waits so long for a part of it that is under way.
const PART_PATIENCE: Duration = Duration::from_secs(20);

impl Desk {
    /// Begins to send a file ahead. `acked` is how many bytes of it may be sent.
    pub(super) fn begin_ahead(
        self: &Rc<Self>,
        order: Box<ObjectOrder>,
        folder: Arc<OwnedFd>,
        acked: watch::Receiver<u64>,
    ) {
        let session = order.session;
        let (ends, has_ended) = watch::channel(());
        self.ahead.borrow_mut().insert(session, has_ended);
        let desk = Rc::clone(self);
        task::spawn_local(async move {
            let known = desk.run_ahead(&order, folder, acked).await;
            desk.known.borrow_mut().insert(session, known);
            desk.ahead.borrow_mut().remove(&session);
            drop(ends);
        });
    }

    /// Waits until nothing of a file is sent ahead any more; what was.
    pub(super) async fn end_ahead(&self, session: SessionId) -> SentParts {
        let has_ended = self.ahead.borrow().get(&session).cloned();
        if let Some(mut has_ended) = has_ended {
            let _it_has = has_ended.changed().await;
        }
        let known = self.known.borrow_mut().remove(&session);
        known.unwrap_or_default()
    }

    async fn run_ahead(
        self: &Rc<Self>,
        order: &ObjectOrder,
        folder: Arc<OwnedFd>,
        mut acked: watch::Receiver<u64>,
    ) -> SentParts {
        let mut known = SentParts::default();
        let mut pause = PAUSE;
        loop {
            let here = *acked.borrow_and_update();
            let trying = self.trying(&order.store);
            // In memory of its own: most of the time there is none.
            let sent = Box::pin(self.send_ahead(order, &folder, here, &mut known, &acked)).await;
            let Err(trouble) = sent else {
                pause = PAUSE;
                drop(trying);
                match acked.changed().await {
                    Ok(()) => continue,
                    Err(_) => return known,
                }
            };
            self.tell(order, &order.key, &trouble);
            let is_in_vain = matches!(trouble, StoreTrouble::Exists | StoreTrouble::Local(_));
            let resting = async {
                match is_in_vain {
                    true => {
                        drop(trying);
                        std::future::pending().await
                    }
                    false => tokio::time::sleep(pause).await,
                }
            };
            if before_end(resting, &acked, Duration::ZERO).await.is_none() {
                return known;
            }
            pause = PAUSE_MAX.min(2 * pause);
        }
    }

    /// Sends all that is whole of the first `here` bytes.
    async fn send_ahead(
        self: &Rc<Self>,
        order: &ObjectOrder,
        folder: &Arc<OwnedFd>,
        here: u64,
        known: &mut SentParts,
        acked: &watch::Receiver<u64>,
    ) -> Result<(), StoreTrouble> {
        let object = Object::of(order);
        let place = StorePlace::from(&*order.store);
        let slots = self.slots(&place);
        loop {
            let slot = before_end(slots.ahead.acquire(), acked, Duration::ZERO);
            let Some(Ok(_slot)) = slot.await else {
                return Ok(());
            };
            let bucket = self.ready(&order.store, order.may_replace).await?;
            self.leave_other_upload(&object.session, &place, &object.key)
                .await?;
            let (folder, name) = (Arc::clone(folder), order.part.clone());
            let part = match on_a_thread(move || open(&folder, &name)).await {
                // Its session has ended while the store was waited for. If it has not, whoever
                // delivers the file tells of that.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                part => part?,
            };
            let source = ChosenSource::from(part);
            let parts = InParts {
                bucket: &*bucket,
                notes: &self.notes,
                object: &object,
                place: &place,
                part_bytes: order.store.part_bytes,
                is_hashed: order.is_hashed,
                was_told: order.was_told,
                boot: &self.boot,
            };
            // Where it is known only the part is sent: that may be given up, and come late.
            let patience = match known.is_found() {
                true => PART_PATIENCE,
                false => Duration::MAX,
            };
            let sending = parts.send_ahead(known, &source, here);
            let Some(sent) = before_end(sending, acked, patience).await else {
                return Ok(());
            };
            match sent? {
                Some(bytes) => {
                    self.took(&order.store);
                    self.metrics.objects.sent_ahead_bytes.add(bytes);
                }
                None => return Ok(()),
            }
        }
    }
}

/// What comes of something; `None` if it has not come so long after nobody can tell the task more.
async fn before_end<T>(
    wanted: impl Future<Output = T>,
    acked: &watch::Receiver<u64>,
    patience: Duration,
) -> Option<T> {
    let mut acked = acked.clone();
    let mut wanted = pin!(wanted);
    let mut end = pin!(async move {
        while acked.changed().await.is_ok() {}
        if !patience.is_zero() {
            tokio::time::sleep(patience).await;
        }
    });
    poll_fn(|context| {
        if end.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        wanted.as_mut().poll(context).map(Some)
    })
    .await
}

#[cfg(feature = "s3")]
#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::metrics::Metrics;
    use crate::objects::staff::Staff;
    use crate::vault::disk::Shelf;

    /// As of a session that was cancelled while a task for it waited for a trial of the store.
    #[tokio::test]
    async fn nothing_is_sent_ahead_of_a_session_that_has_ended_and_nobody_is_blamed() {
        let place = tempfile::tempdir().unwrap();
        let folder: Arc<OwnedFd> = Arc::new(File::open(place.path()).unwrap().into());
        let metrics = Metrics::new(1);
        let desk = Staff::new(Arc::clone(&metrics), 2, Arc::clone(&folder));
        let desk = Rc::new(Desk::of(desk));
        let order = ObjectOrder {
            session: SessionId::from_u128(7),
            shelf: Shelf::WORK,
            part: "gone.part".to_owned(),
            bytes: 100,
            sha256: None,
            is_hashed: false,
            key: "a".to_owned(),
            digest_file: None,
            may_replace: true,
            is_promised: false,
            is_repeat: false,
            was_told: false,
            store: Arc::default(),
        };
        let (told, acked) = watch::channel(100);
        let mut known = SentParts::default();
        let sent = desk.send_ahead(&order, &folder, 100, &mut known, &acked);
        sent.await.unwrap();
        drop(told);
        // What the disk of this machine does is not the store's.
        let trouble = std::io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error());
        desk.tell(&order, "a", &trouble.into());
        assert_eq!(metrics.objects.failures.get(), 1);
        assert!(metrics.objects.wrong().is_empty());
    }
}
