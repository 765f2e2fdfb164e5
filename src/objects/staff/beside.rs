//! The digest file of an object, put beside it.

use super::{Chosen, Desk, PAUSE, PAUSE_MAX, object_of, tell};
use crate::objects::beside;
use crate::objects::bucket::Object;
use crate::server::object_order::ObjectOrder;

impl Desk {
    /// Returns when the store has it, or when another object that has its name is to stay.
    pub(super) async fn put_beside(&self, bucket: &Chosen, order: &ObjectOrder) {
        let Some(file) = &order.digest_file else {
            return;
        };
        let object = Object {
            key: file.key.clone(),
            bytes: file.text.len() as u64,
            sha256: None,
            ..object_of(order)
        };
        let mut pause = PAUSE;
        loop {
            let Ok(slot) = self.slots.acquire().await else {
                return;
            };
            let put = beside::put_beside(bucket, &object, file.text.as_bytes()).await;
            drop(slot);
            match put {
                Ok(true) => return,
                Ok(false) => {
                    let (event, path) = ("not_given", &object.key);
                    let what = "its digest file: another object has that name";
                    tracing::warn!(
                        event,
                        path,
                        what,
                        "an object did not get all that goes with it"
                    );
                    return;
                }
                Err(trouble) => tell(&self.metrics.objects, order, &trouble),
            }
            tokio::time::sleep(pause).await;
            pause = PAUSE_MAX.min(2 * pause);
        }
    }
}
