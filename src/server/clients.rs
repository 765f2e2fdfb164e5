//! How many sessions each client has, since a location may bound that, now or after the next
//! reload.
//!
//! A client's sessions are spread over all shards, so this is the one table that they share. It is
//! touched when a session begins and when it ends.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::crowd;

/// Sessions by location and client.
#[derive(Debug, Default)]
pub struct Clients {
    counts: Mutex<BTreeMap<Client, u32>>,
}

/// A client of one location.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Client {
    /// Hash of the location's prefix, which only the settings name.
    location: u64,
    network: u64,
}

impl Client {
    /// Whoever has this address.
    pub fn new(prefix: &str, address: IpAddr) -> Self {
        let mut hasher = DefaultHasher::new();
        prefix.hash(&mut hasher);
        Self {
            location: hasher.finish(),
            network: crowd::number(address),
        }
    }
}

/// One session of a client; it is counted until this is dropped.
#[derive(Debug)]
pub struct Counted {
    clients: Arc<Clients>,
    client: Client,
}

impl Clients {
    /// Counts a new session; `None` if the client has as many as it may.
    pub fn admit(self: &Arc<Self>, client: Client, sessions_max: u32) -> Option<Counted> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(client).or_default();
        if *count >= sessions_max {
            return None;
        }
        *count += 1;
        Some(Counted {
            clients: Arc::clone(self),
            client,
        })
    }

    /// Counts a session that was read back, however many there are.
    pub fn count(self: &Arc<Self>, client: Client) -> Counted {
        self.admit(client, u32::MAX)
            .expect("no disk holds so many sessions")
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = (self.clients.counts.lock()).unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_so_many_sessions_at_once_in_a_location() {
        let clients = Arc::new(Clients::default());
        let client = |location: &str, last| Client::new(location, IpAddr::from([192, 0, 2, last]));
        let first = clients.admit(client("in", 1), 2);
        let read_back = clients.count(client("in", 1));
        assert!(first.is_some());
        assert!(clients.admit(client("in", 1), 2).is_none());
        assert!(
            clients.admit(client("in", 2), 2).is_some(),
            "another client"
        );
        assert!(
            clients.admit(client("logs", 1), 2).is_some(),
            "another location"
        );
        drop(read_back);
        assert!(clients.admit(client("in", 1), 2).is_some());
        drop(first);
        assert!(clients.counts.lock().unwrap().is_empty());
    }

    #[test]
    fn of_ipv6_a_whole_64_is_one_client() {
        let client = |address: &str| Client::new("in", address.parse().unwrap());
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:0:0:1"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
    }
}
