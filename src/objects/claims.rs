//! Which upload is on its way to which object.
//!
//! Jobs know nothing of each other, and each pauses as long as its own troubles ask for. Two for
//! one object would end in any order: the older file could replace the newer one, whose client was
//! told that it is kept. So one at a time is on its way to an object, from before its client hears
//! anything until its record says that the store has it. Whoever comes later waits unacked. After a
//! restart those that were on their way have their claims again before anybody is served.

use std::collections::BTreeMap;

use super::note::StorePlace;
use crate::bits::session_id::SessionId;
use crate::server::object_order::ObjectOrder;

/// Where an object is, and what it is called.
type Name = (StorePlace, String);

/// Whether two orders ask for the same of a file: new settings may want another bucket for it, or
/// let it replace what is there.
pub fn is_same_work(one: &ObjectOrder, other: &ObjectOrder) -> bool {
    let work = |order: &ObjectOrder| {
        let store = &*order.store;
        (
            StorePlace::from(store),
            store.no_replace,
            store.part_bytes,
            order.key.clone(),
            order.digest_file.clone(),
            order.may_replace,
        )
    };
    work(one) == work(other)
}

/// Who may give a file to a store, for each object. As many as there are sessions, which are
/// bounded.
#[derive(Debug, Default)]
pub struct Claims {
    sessions: BTreeMap<Name, SessionId>,
    names: BTreeMap<SessionId, Name>,
}

impl Claims {
    /// Claims the object of an order, and lets go what its session had claimed before; whether
    /// nobody else has it.
    pub fn claim(&mut self, order: &ObjectOrder) -> bool {
        let name = (StorePlace::from(&*order.store), order.key.clone());
        if self.names.get(&order.session) != Some(&name) {
            self.release(order.session);
        }
        let owner = *(self.sessions.entry(name.clone())).or_insert(order.session);
        let is_ours = owner == order.session;
        if is_ours {
            self.names.insert(order.session, name);
        }
        is_ours
    }

    /// The file of a session is at its object, or will not come there.
    pub fn release(&mut self, session: SessionId) {
        if let Some(name) = self.names.remove(&session) {
            self.sessions.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::disk::Shelf;

    fn order(session: u128, key: &str) -> ObjectOrder {
        ObjectOrder {
            session: SessionId::from_u128(session),
            shelf: Shelf::WORK,
            part: String::new(),
            bytes: 1,
            sha256: None,
            is_hashed: false,
            key: key.to_owned(),
            digest_file: None,
            may_replace: true,
            is_promised: true,
            is_repeat: false,
            was_told: false,
            store: std::sync::Arc::default(),
        }
    }

    #[test]
    fn one_session_at_a_time_is_on_its_way_to_an_object() {
        let mut claims = Claims::default();
        assert!(claims.claim(&order(1, "a")));
        assert!(claims.claim(&order(1, "a")));
        assert!(!claims.claim(&order(2, "a")));
        assert!(claims.claim(&order(2, "b")));
        claims.release(SessionId::from_u128(2));
        assert!(!claims.claim(&order(3, "a")), "another one's stays");
        claims.release(SessionId::from_u128(1));
        assert!(claims.claim(&order(3, "a")));
        // By new settings.
        assert!(claims.claim(&order(3, "c")));
        assert!(claims.claim(&order(4, "a")));
        claims.release(SessionId::from_u128(3));
        claims.release(SessionId::from_u128(4));
        assert!(claims.sessions.is_empty() && claims.names.is_empty());
    }
}
