//! How many sessions each client has, where a location bounds that.
//!
//! A client's sessions are spread over all shards, so this is the one table that they share. It is touched when a session
//! begins and when it ends, and only in locations that ask for it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Sessions by location and client address.
#[derive(Debug, Default)]
pub struct Clients {
    counts: Mutex<BTreeMap<Client, u32>>,
}

/// A client of one location.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Client {
    /// The location's prefix.
    pub location: String,
    /// Its address.
    pub address: IpAddr,
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
        let count = counts.entry(client.clone()).or_default();
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
        let client = |location: &str, last| Client {
            location: location.to_owned(),
            address: IpAddr::from([192, 0, 2, last]),
        };
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
}
