//! The digest file of an object, put beside it.

use super::{Chosen, Desk, PAUSE, PAUSE_MAX, Slots, object_of, tell};
use crate::config::NoReplace;
use crate::objects::beside::Beside;
use crate::server::object_order::ObjectOrder;

/// So many digests are remembered: those of files that were given to their stores last.
const DIGESTS_MAX: usize = 1_024;

impl Desk {
    /// Before a file becomes an object: its digest is remembered for those who may find that object
    /// in the place of their own. If it was sent ahead, it does not bear it.
    pub(super) fn remember_digest(&self, order: &ObjectOrder) {
        let (Some(sha256), Some(_)) = (order.sha256, &order.digest_file) else {
            return;
        };
        let mut digests = self.digests.borrow_mut();
        if digests.len() == DIGESTS_MAX {
            digests.pop_front();
        }
        digests.push_back((order.session.plain().to_string(), sha256));
    }

    fn digest_of(&self, session: &str) -> Option<[u8; 32]> {
        let digests = self.digests.borrow();
        let found = digests.iter().rev().find(|(other, _)| other == session);
        found.map(|(_, sha256)| *sha256)
    }

    /// Returns when the store has it, or when another object that has its name is to stay.
    pub(super) async fn put_beside(&self, bucket: &Chosen, slots: &Slots, order: &ObjectOrder) {
        let (Some(file), Some(sha256)) = (&order.digest_file, order.sha256) else {
            return;
        };
        let object = object_of(order);
        let beside = Beside {
            object: &object,
            sha256,
            file,
            looks_first: order.store.no_replace == NoReplace::Look,
            known: &|session| self.digest_of(session),
        };
        let mut pause = PAUSE;
        loop {
            let Ok(slot) = slots.whole.acquire().await else {
                return;
            };
            let put = beside.put(bucket).await;
            drop(slot);
            match put {
                Ok(true) => return,
                Ok(false) => {
                    let (event, path) = ("not_given", &file.key);
                    let what = "its digest file: another object has its name, or that of the file";
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
