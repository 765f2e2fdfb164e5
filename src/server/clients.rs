//! How many sessions each client and each user has, since a location may bound that, now or after
//! the next reload.
//!
//! A client's sessions are spread over all shards, so they share this table. It is touched when a
//! session begins and when it ends.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::crowd;

/// Sessions by location and client, and by location and user.
#[derive(Debug, Default)]
pub struct Clients {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    clients: BTreeMap<Client, u32>,
    /// With the hash of their location.
    users: BTreeMap<(u64, Arc<str>), u32>,
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

/// How many sessions there may be.
#[derive(Clone, Copy, Debug)]
pub struct SessionsMax {
    /// Of one client in a location.
    pub of_client: u32,
    /// Of one user there.
    pub of_user: u32,
}

/// Which bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    OfClient,
    OfUser,
}

/// One session of a client and of a user; it is counted until this is dropped.
#[derive(Debug)]
pub struct Counted {
    clients: Arc<Clients>,
    client: Client,
    user: Option<Arc<str>>,
}

impl Clients {
    /// Counts a new session.
    ///
    /// # Errors
    /// The client or the user has as many as it may.
    pub fn admit(
        self: &Arc<Self>,
        client: Client,
        user: Option<Arc<str>>,
        bounds: SessionsMax,
    ) -> Result<Counted, Reached> {
        let mut counts = self.counts();
        let of_client = counts.clients.get(&client).copied().unwrap_or_default();
        if of_client >= bounds.of_client {
            return Err(Reached::OfClient);
        }
        if let Some(user) = &user {
            let key = (client.location, Arc::clone(user));
            let of_user = counts.users.entry(key).or_default();
            if *of_user >= bounds.of_user {
                return Err(Reached::OfUser);
            }
            *of_user += 1;
        }
        *counts.clients.entry(client).or_default() += 1;
        Ok(Counted {
            clients: Arc::clone(self),
            client,
            user,
        })
    }

    /// Counts a session that was read back, however many there are.
    pub fn count(self: &Arc<Self>, client: Client, user: Option<Arc<str>>) -> Counted {
        let bounds = SessionsMax {
            of_client: u32::MAX,
            of_user: u32::MAX,
        };
        self.admit(client, user, bounds)
            .expect("no disk holds so many sessions")
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    /// It is counted for this user too, however many that one has: nobody had made it.
    pub fn also_of(&mut self, user: &Arc<str>) {
        if self.user.is_some() {
            return;
        }
        let mut counts = self.clients.counts();
        let key = (self.client.location, Arc::clone(user));
        *counts.users.entry(key).or_default() += 1;
        self.user = Some(Arc::clone(user));
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.clients.counts();
        one_less(&mut counts.clients, &self.client);
        if let Some(user) = self.user.take() {
            one_less(&mut counts.users, &(self.client.location, user));
        }
    }
}

fn one_less<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(location: &str, last: u8) -> Client {
        Client::new(location, IpAddr::from([192, 0, 2, last]))
    }

    const TWO: SessionsMax = SessionsMax {
        of_client: 2,
        of_user: 2,
    };

    #[test]
    fn a_client_has_so_many_sessions_at_once_in_a_location() {
        let clients = Arc::new(Clients::default());
        let first = clients.admit(client("in", 1), None, TWO);
        let read_back = clients.count(client("in", 1), None);
        assert!(first.is_ok());
        let full = clients.admit(client("in", 1), None, TWO);
        assert_eq!(full.unwrap_err(), Reached::OfClient);
        let others = [client("in", 2), client("logs", 1)];
        for other in others {
            assert!(clients.admit(other, None, TWO).is_ok());
        }
        drop(read_back);
        assert!(clients.admit(client("in", 1), None, TWO).is_ok());
        drop(first);
        assert!(clients.counts().clients.is_empty());
    }

    #[test]
    fn a_user_has_so_many_from_wherever_they_come() {
        let clients = Arc::new(Clients::default());
        let anna = || Some(Arc::from("anna"));
        let first = clients.admit(client("in", 1), anna(), TWO).unwrap();
        let second = clients.count(client("in", 2), anna());
        let full = clients.admit(client("in", 3), anna(), TWO);
        assert_eq!(full.unwrap_err(), Reached::OfUser);
        for (location, user) in [("logs", anna()), ("in", Some("bert".into())), ("in", None)] {
            assert!(clients.admit(client(location, 3), user, TWO).is_ok());
        }
        drop(first);
        let third = clients.admit(client("in", 3), anna(), TWO).unwrap();
        drop((second, third));
        let counts = clients.counts();
        assert!(counts.clients.is_empty() && counts.users.is_empty());
    }

    #[test]
    fn what_nobody_has_made_counts_for_whoever_gets_it() {
        let clients = Arc::new(Clients::default());
        let (anna, bert) = (Arc::from("anna"), Arc::from("bert"));
        let admit = || clients.admit(client("in", 1), Some(Arc::clone(&anna)), TWO);
        let mut found = [(); 2].map(|()| clients.count(client("in", 2), None));
        found.iter_mut().for_each(|counted| counted.also_of(&anna));
        assert_eq!(admit().unwrap_err(), Reached::OfUser);
        found[0].also_of(&bert);
        assert_eq!(admit().unwrap_err(), Reached::OfUser, "it stays with her");
        drop(found);
        assert!(admit().is_ok());
        assert!(clients.counts().users.is_empty());
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
