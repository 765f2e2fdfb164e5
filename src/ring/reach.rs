//! Which addresses cannot be listened on beside each other, and those of a server that makes way.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// What a listener takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Where it listens.
    pub address: SocketAddr,
    /// All of IPv6, and IPv4 as well (a socket without `IPV6_V6ONLY`).
    pub takes_ipv4: bool,
}

impl Reach {
    /// Of a listener for clients that this server makes: it takes the one family.
    pub fn of_clients(address: SocketAddr) -> Self {
        let takes_ipv4 = false;
        Self {
            address,
            takes_ipv4,
        }
    }

    /// Of the administrator's interface: `[::]` means IPv4 there, too.
    pub fn of_admin(address: SocketAddr) -> Self {
        let takes_ipv4 = address.is_ipv6();
        Self {
            address,
            takes_ipv4,
        }
    }

    /// Whether both take something at the same port. Port 0 is another one each time.
    pub fn overlaps(self, other: Self) -> bool {
        let is_same_port = self.address.port() == other.address.port();
        let pairs = || {
            let others = other.ips().into_iter().flatten();
            let pairs = self.ips().into_iter().flatten();
            pairs.flat_map(move |one| others.clone().map(move |another| (one, another)))
        };
        let meet = |(one, other): (IpAddr, IpAddr)| {
            let is_all = one.is_unspecified() || other.is_unspecified();
            one == other || (one.is_ipv4() == other.is_ipv4() && is_all)
        };
        is_same_port && self.address.port() != 0 && pairs().any(meet)
    }

    /// What it takes of each family.
    fn ips(self) -> [Option<IpAddr>; 2] {
        let ip = self.address.ip();
        let of_ipv4 = (self.takes_ipv4 && ip.is_unspecified()).then_some(Ipv4Addr::UNSPECIFIED);
        [Some(ip.to_canonical()), of_ipv4.map(IpAddr::V4)]
    }
}

/// The addresses of a server that makes way for a new program: that one gets the listeners, and
/// those of the administrator's interface are free when it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MadeFree {
    /// For clients.
    pub listeners: Vec<SocketAddr>,
    /// For the administrator.
    pub admin: Vec<SocketAddr>,
}

impl MadeFree {
    /// By this the new program is told of them when it is asked whether it can serve. A version
    /// that does not know it does without.
    pub const VARIABLE: &str = "BITSD_MAKES_FREE";

    /// What is told.
    pub fn to_text(&self) -> String {
        let listeners = self.listeners.iter().map(|one| format!("listener={one}"));
        let admin = self.admin.iter().map(|one| format!("admin={one}"));
        listeners.chain(admin).collect::<Vec<_>>().join(" ")
    }

    /// What was told; a word that is not understood says nothing.
    pub fn from_text(text: &str) -> Self {
        let mut free = Self::default();
        for (word, address) in text.split(' ').filter_map(|word| word.split_once('=')) {
            let of_word = match word {
                "listener" => &mut free.listeners,
                "admin" => &mut free.admin,
                _ => continue,
            };
            of_word.extend(address.parse::<SocketAddr>().ok());
        }
        free
    }

    /// Whether a listener has something of it. A unit's may take IPv4 with IPv6.
    pub fn has_listener_at(&self, reach: Reach) -> bool {
        (self.listeners.iter()).any(|&one| Reach::of_admin(one).overlaps(reach))
    }

    /// Whether the administrator's interface has something of it.
    pub fn has_admin_at(&self, reach: Reach) -> bool {
        (self.admin.iter()).any(|&one| Reach::of_admin(one).overlaps(reach))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_overlap_as_the_kernel_says() {
        for (one, other, of_one_family, of_both) in [
            ("127.0.0.1:80", "127.0.0.1:80", true, true),
            ("127.0.0.1:80", "0.0.0.0:80", true, true),
            ("127.0.0.1:80", "127.0.0.2:80", false, false),
            ("127.0.0.1:80", "127.0.0.1:81", false, false),
            ("0.0.0.0:0", "0.0.0.0:0", false, false),
            ("[::1]:80", "[::]:80", true, true),
            ("[::1]:80", "0.0.0.0:80", false, false),
            ("[::]:80", "0.0.0.0:80", false, true),
            ("[::]:80", "127.0.0.1:80", false, true),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true, true),
        ] {
            let (one, other) = (at(one), at(other));
            for (takes_ipv4, expected) in [(false, of_one_family), (true, of_both)] {
                let address = one;
                let one = Reach {
                    address,
                    takes_ipv4,
                };
                let other = Reach::of_clients(other);
                assert_eq!(one.overlaps(other), expected, "{one:?} {other:?}");
                assert_eq!(other.overlaps(one), expected, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn what_is_made_free_is_read_back() {
        let free = MadeFree {
            listeners: vec![at("127.0.0.1:80"), at("[::]:81")],
            admin: vec![at("127.0.0.1:9180")],
        };
        assert_eq!(MadeFree::from_text(&free.to_text()), free);
        let odd = "listener=x else=127.0.0.1:1 listener  admin=127.0.0.1:2";
        let told = MadeFree::from_text(odd);
        assert_eq!(told.to_text(), "admin=127.0.0.1:2");
    }
}
