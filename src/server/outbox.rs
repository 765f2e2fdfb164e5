//! What the targets of events are still to hear of one shard.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;

use super::crowd;
use super::timetable::Timetable;
use crate::bits::session_id::SessionId;
use crate::config::EventSettings;
use crate::vault::owed::{EventTarget, EventTargets};

/// What the targets of events are still to hear of one shard.
#[derive(Debug)]
pub struct Outbox {
    /// Who is to hear of it.
    pub(super) targets: EventTargets,
    pub(super) times: [RefCell<Timetable>; EventTarget::ALL.len()],
    owers: RefCell<Owers>,
}

/// Whose sessions owe events.
#[derive(Debug, Default)]
struct Owers {
    sessions: BTreeMap<SessionId, u64>,
    clients: BTreeMap<u64, usize>,
}

impl Outbox {
    /// With nothing in it.
    pub fn new(settings: &EventSettings) -> Self {
        let mut targets = EventTargets::NONE;
        if !settings.webhook.is_empty() {
            targets = targets.with(EventTarget::Webhook);
        }
        if !settings.nats.is_empty() {
            targets = targets.with(EventTarget::Nats);
        }
        Self {
            targets,
            times: Default::default(),
            owers: RefCell::default(),
        }
    }

    /// A session that such a client has begun owes an event.
    pub(super) fn note(&self, session: SessionId, client: Option<IpAddr>) {
        let client = number(client);
        let mut owers = self.owers.borrow_mut();
        if owers.sessions.insert(session, client).is_none() {
            *owers.clients.entry(client).or_default() += 1;
        }
    }

    /// A session owes nothing any more.
    pub(super) fn forget(&self, session: SessionId) {
        let owers = &mut *self.owers.borrow_mut();
        let Some(client) = owers.sessions.remove(&session) else {
            return;
        };
        if let Some(count) = owers.clients.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                owers.clients.remove(&client);
            }
        }
    }

    /// Whether a client's next session would owe too much where so many events may be owed. When a
    /// half of them are, those of whom more than an eighth come hear it first: one client that
    /// begins and ends sessions as fast as it can leaves the rest to all others.
    pub(super) fn is_full_for(&self, client: IpAddr, owed_max: usize) -> bool {
        let owers = self.owers.borrow();
        let all = owers.sessions.len();
        let of_client = owers.clients.get(&number(Some(client)));
        let of_client = of_client.copied().unwrap_or_default();
        all >= owed_max || (all >= owed_max.div_ceil(2) && of_client > owed_max / 8)
    }
}

/// Whoever is not known is one client. No network has 0.
fn number(client: Option<IpAddr>) -> u64 {
    client.map_or(0, crowd::number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_leaves_half_of_what_may_be_owed_to_others() {
        let outbox = Outbox::new(&EventSettings::default());
        let [greedy, another, third] = [2, 3, 4].map(|last| IpAddr::from([127, 0, 0, last]));
        let id = |number: u128| SessionId::from_u128(number);
        let fill = |from: u128, client| {
            let let_in = |_: &u128| !outbox.is_full_for(client, 16);
            let taken = (from..from + 100).take_while(let_in);
            taken
                .map(|number| outbox.note(id(number), Some(client)))
                .count()
        };
        assert_eq!(fill(0, greedy), 8);
        // Twice told of is owed once.
        outbox.note(id(0), Some(greedy));
        assert_eq!((fill(100, another), fill(200, third)), (3, 3));
        assert_eq!(
            fill(300, IpAddr::from([127, 0, 0, 5])),
            2,
            "then all is owed"
        );
        assert!(outbox.is_full_for(IpAddr::from([127, 0, 0, 6]), 16));
        for number in (0..8).chain(0..8) {
            outbox.forget(id(number));
        }
        assert!(!outbox.is_full_for(greedy, 16) && outbox.is_full_for(another, 16));
    }

    #[test]
    fn a_network_is_one_client() {
        let outbox = Outbox::new(&EventSettings::default());
        for number in 0..8 {
            let client = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, number]);
            outbox.note(SessionId::from_u128(number.into()), Some(client));
        }
        let client = |text: &str| text.parse().unwrap();
        assert!(outbox.is_full_for(client("2001:db8::ffff"), 16));
        assert!(!outbox.is_full_for(client("2001:db8:0:1::"), 16));
    }
}
