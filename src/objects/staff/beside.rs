//! The digest file of an object, put beside it.

use std::rc::Rc;

use super::{Chosen, Desk, PAUSE, PAUSE_MAX, Slots};
use crate::config::NoReplace;
use crate::objects::beside::Beside;
use crate::objects::bucket::{Object, StoreTrouble};
use crate::server::object_order::ObjectOrder;

/// A digest file that was refused so often is given up. The pauses between take three seconds and a
/// half, so that its client hears 200 while it waits.
const REFUSALS_MAX: u32 = 4;
const REMEDY_TAKEN: &str = "move the object that is there; a reader can compute the digest meanwhile: it is in the log and in \
                            the ledger";
const REMEDY_REFUSED: &str = "let the server's account put objects whose names end in .sha256, or set digest_file = false; the \
                              digest is in the log and in the ledger";
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

    /// Returns when the store has it, or is not to have it: another object that has its name stays,
    /// or whoever asks may not put it there. The object is there by then, and is not taken away.
    pub(super) async fn put_beside(
        self: &Rc<Self>,
        bucket: &Chosen,
        slots: &Slots,
        order: &ObjectOrder,
    ) {
        let (Some(file), Some(sha256)) = (&order.digest_file, order.sha256) else {
            return;
        };
        let object = Object::of(order);
        let beside = Beside {
            object: &object,
            sha256,
            file,
            looks_first: order.store.no_replace == NoReplace::Look,
            known: &|session| self.digest_of(session),
        };
        let (mut pause, mut refusals) = (PAUSE, 0);
        loop {
            let Ok(slot) = slots.whole.acquire().await else {
                return;
            };
            let put = beside.put(bucket).await;
            drop(slot);
            let trouble = match put {
                Ok(true) => return,
                Ok(false) => {
                    let why = "another object has its name, or that of the file";
                    return tell_not_given(&file.key, why, REMEDY_TAKEN);
                }
                Err(trouble) => trouble,
            };
            self.tell(order, &file.key, &trouble);
            let is_final = matches!(
                trouble,
                StoreTrouble::Refused(_) | StoreTrouble::Settings(_)
            );
            // Credentials are renewed, and then it has its turn.
            if is_final && !trouble.is_of_credentials() {
                refusals += 1;
                if refusals == REFUSALS_MAX {
                    return tell_not_given(&file.key, &trouble.to_string(), REMEDY_REFUSED);
                }
            }
            tokio::time::sleep(pause).await;
            pause = PAUSE_MAX.min(2 * pause);
        }
    }
}

fn tell_not_given(path: &str, why: &str, remedy: &'static str) {
    let (event, what) = ("not_given", "its digest file");
    tracing::warn!(
        event,
        path,
        what,
        why,
        remedy,
        "an object did not get all that goes with it"
    );
}
