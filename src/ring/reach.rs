//! Which addresses cannot be listened on beside each other.

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
}
