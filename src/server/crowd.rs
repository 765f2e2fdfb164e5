//! Whose connections a shard holds, and who makes room when all its places are taken.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The client that an address belongs to: an IPv6 subscriber has a whole /64 and may use another
/// address each time.
pub fn client(peer: SocketAddr) -> IpAddr {
    match peer.ip().to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(
            address.to_bits() & !u128::from(u64::MAX),
        )),
        address => address,
    }
}

/// The client that an address belongs to, as a number: the address itself, of IPv6 its /64, since a
/// host has as many addresses in its own as it likes (RFC 4291 2.5.4).
pub fn number(address: IpAddr) -> u64 {
    match address.to_canonical() {
        // Beside all networks of IPv6 that are given out (RFC 4291 2.4 reserves 0000::/8).
        IpAddr::V4(address) => 1 << 32 | u64::from(address.to_bits()),
        IpAddr::V6(address) => u64::try_from(address.to_bits() >> 64).expect("64 bits"),
    }
}

/// Connections by client.
#[derive(Debug, Default)]
pub struct Crowd {
    counts: BTreeMap<IpAddr, usize>,
}

impl Crowd {
    /// How many connections a client has.
    pub fn of(&self, client: IpAddr) -> usize {
        self.counts.get(&client).copied().unwrap_or_default()
    }

    /// One more.
    pub fn enter(&mut self, client: IpAddr) {
        *self.counts.entry(client).or_default() += 1;
    }

    /// One less.
    pub fn leave(&mut self, client: IpAddr) {
        if let Some(count) = self.counts.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&client);
            }
        }
    }

    /// Of idle connections (client, milliseconds they have waited, and what names them) those that
    /// make room: of the client that has most connections, the ones that have waited longest;
    /// `count_max` of them, so that the search is worth it. Nobody makes room for a newcomer that
    /// has more connections itself: its own may be busy, and it would drive out all others.
    pub fn make_room<T>(
        &self,
        newcomer: IpAddr,
        idle: impl Iterator<Item = (IpAddr, u64, T)>,
        count_max: usize,
    ) -> Vec<T> {
        let mut most = self.of(newcomer);
        let mut candidates = Vec::new();
        for (client, waited_ms, connection) in idle {
            let count = self.of(client);
            if count > most {
                most = count;
                candidates.clear();
            }
            if count == most {
                candidates.push((client, waited_ms, connection));
            }
        }
        candidates.sort_by_key(|(_, waited_ms, _)| std::cmp::Reverse(*waited_ms));
        // Several clients may have as many.
        let first = candidates.first().map(|(client, ..)| *client);
        let theirs = candidates
            .into_iter()
            .filter(|(client, ..)| Some(*client) == first);
        theirs
            .take(count_max)
            .map(|(.., connection)| connection)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        client(SocketAddr::new(text.parse().unwrap(), 1))
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:1"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
    }

    #[test]
    fn whoever_has_most_makes_room_first() {
        let (many, few) = (address("192.0.2.1"), address("192.0.2.2"));
        let mut crowd = Crowd::default();
        for client in [many, many, many, few] {
            crowd.enter(client);
        }
        // The one with few has waited longest of all.
        let idle = [
            (few, 900, 'f'),
            (many, 10, 'a'),
            (many, 30, 'b'),
            (many, 20, 'c'),
        ];
        let stranger = address("192.0.2.3");
        let room = |count_max| crowd.make_room(stranger, idle.into_iter(), count_max);
        assert_eq!(room(1), ['b']);
        assert_eq!(room(2), ['b', 'c']);
        assert_eq!(room(9), ['b', 'c', 'a']);
        let lone = |newcomer| crowd.make_room(newcomer, [(few, 5, 'f')].into_iter(), 9);
        assert_eq!((lone(stranger), lone(few)), (vec!['f'], vec!['f']));
        let nobody = std::iter::empty::<(_, _, char)>();
        assert_eq!(crowd.make_room(stranger, nobody, 9), [' '; 0]);
        // All of his own are busy; that must not cost the other its only one.
        assert_eq!(lone(many), [' '; 0]);
        assert_eq!(crowd.make_room(many, idle.into_iter(), 1), ['b']);
    }

    #[test]
    fn who_has_left_counts_no_more() {
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let mut crowd = Crowd::default();
        for client in [one, other, other] {
            crowd.enter(client);
        }
        crowd.leave(other);
        crowd.leave(other);
        crowd.leave(other);
        assert_eq!((crowd.of(one), crowd.of(other)), (1, 0));
    }
}
