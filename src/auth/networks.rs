//! Sets of addresses: whose word is taken, and who may come.
//!
//! Addresses are from `core`, which has no sockets.

use core::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

/// Some networks; an address alone is one, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

/// What a network looks like, in words.
pub const NETWORKS_TAKE: &str =
    "an array of networks and addresses, such as `10.0.0.0/8`, `2001:db8::/32`, `192.0.2.1`";

impl Networks {
    /// Reads one, and writes it as it is kept; `None` if it is none. One with bits behind its
    /// prefix is a slip: whoever wrote it meant another network, or one address.
    pub fn parse_one(text: &str) -> Option<String> {
        read_one(text).map(to_text)
    }

    /// What somebody meant who wrote an address for the network that it is in, or a set of
    /// addresses as others write it.
    pub fn meant(text: &str) -> Option<String> {
        if text.contains([',', ' ']) {
            let each = text.split([',', ' ']).filter(|one| !one.is_empty());
            let each: Vec<_> = each.map(|one| format!("\"{one}\"")).collect();
            return Some(format!(
                "; several stand in an array: [{}]",
                each.join(", ")
            ));
        }
        if let Some(network) = with_mask(text).or_else(|| with_stars(text)) {
            return Some(format!("; did you mean \"{network}\"?"));
        }
        if let Some((first, last)) = text.split_once('-')
            && is_begun(first)
            && is_begun(last)
        {
            return Some("; a range is written as networks, such as \"10.0.0.0/24\"".to_owned());
        }
        let Ok(network) = text.parse::<IpNet>() else {
            let is_name = text.contains(|c: char| c.is_ascii_alphabetic()) && !text.contains(':');
            return is_name.then(|| {
                "; names are not looked up: write the address, or its network".to_owned()
            });
        };
        let is_slip =
            network != network.trunc() && read_one(&network.trunc().to_string()).is_some();
        is_slip.then(|| {
            let (network, address) = (network.trunc(), network.addr());
            format!("; did you mean \"{network}\", or \"{address}\" alone?")
        })
    }

    /// Of texts that [`Networks::parse_one`] has written.
    pub fn of(texts: &[String]) -> Self {
        Self(texts.iter().filter_map(|text| read_one(text)).collect())
    }

    /// As they were written.
    pub fn to_texts(&self) -> Vec<String> {
        self.0.iter().copied().map(to_text).collect()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those wider than any private network (RFC 1918, RFC 4193): others than their owner are
    /// there.
    pub fn wider_than_private(&self) -> impl Iterator<Item = String> {
        let is_wide = |network: &&IpNet| match network {
            IpNet::V4(network) => network.prefix_len() < 8,
            IpNet::V6(network) => network.prefix_len() < 7,
        };
        self.0.iter().filter(is_wide).copied().map(to_text)
    }

    /// Whether some address is let in by both.
    pub fn meet(&self, others: &Self) -> bool {
        let meets = |one: &IpNet, other: &IpNet| one.contains(other) || other.contains(one);
        self.is_empty()
            || others.is_empty()
            || (self.0.iter()).any(|one| others.0.iter().any(|other| meets(one, other)))
    }

    /// Whether whoever the others let in is let in by these too. Networks that only together hold
    /// one of the others are taken not to.
    pub fn cover(&self, others: &Self) -> bool {
        let is_covered = |other: &IpNet| self.0.iter().any(|one| one.contains(other));
        self.is_empty() || (!others.is_empty() && others.0.iter().all(is_covered))
    }

    /// Whether an address is in one of them. One of IPv4 is the same in either family.
    pub fn hold(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whether an address is let in, where no network at all stands for everybody.
    pub fn let_in(&self, address: IpAddr) -> bool {
        self.is_empty() || self.hold(address)
    }
}

fn read_one(text: &str) -> Option<IpNet> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address.to_canonical()),
        Err(_) => text.parse::<IpNet>().ok()?,
    };
    // Addresses are compared as those of IPv4 where they are such: it would hold none.
    let is_mapped = matches!(network, IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some());
    (network == network.trunc() && !is_mapped).then_some(network)
}

/// `10.0.0.0/255.0.0.0`.
fn with_mask(text: &str) -> Option<String> {
    let (address, mask) = text.split_once('/')?;
    let mask: Ipv4Addr = mask.parse().ok()?;
    let network = Ipv4Net::with_netmask(address.parse().ok()?, mask).ok()?;
    Some(network.trunc().to_string())
}

/// `10.0.*.*`, `10.0.*`.
fn with_stars(text: &str) -> Option<String> {
    let known: Vec<_> = text.split('.').take_while(|part| *part != "*").collect();
    let stars = text.split('.').skip(known.len());
    let are_stars = text.contains('*') && stars.clone().all(|part| part == "*");
    let bytes: Option<Vec<u8>> = known.iter().map(|part| part.parse().ok()).collect();
    let (mut bytes, length) = (bytes?, known.len());
    bytes.resize(4, 0);
    let address: [u8; 4] = bytes.try_into().ok()?;
    (are_stars && length < 4).then(|| format!("{}/{}", Ipv4Addr::from(address), length * 8))
}

/// An end of a range: an address, or the last number of one.
fn is_begun(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || text.parse::<u8>().is_ok()
}

fn to_text(network: IpNet) -> String {
    match network.prefix_len() == network.max_prefix_len() {
        true => network.addr().to_string(),
        false => network.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        let read = texts.iter().map(|text| Networks::parse_one(text).unwrap());
        Networks::of(&read.collect::<Vec<_>>())
    }

    #[test]
    fn who_is_in_them() {
        let some = networks(&["10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::1"]);
        for (address, is_in) in [
            ("10.255.0.1", true),
            ("::ffff:10.255.0.1", true),
            ("11.0.0.0", false),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
            ("::1", true),
            ("127.0.0.1", false),
        ] {
            assert_eq!(some.hold(address.parse().unwrap()), is_in, "{address}");
        }
        let everybody = networks(&["0.0.0.0/0"]);
        assert!(everybody.hold("192.0.2.1".parse().unwrap()));
        assert!(!everybody.hold("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn whether_somebody_is_in_both() {
        let (wide, office) = (networks(&["10.0.0.0/8"]), networks(&["10.1.0.0/16", "::1"]));
        let (home, none) = (networks(&["192.168.0.0/16"]), networks(&[]));
        for (one, other, meet) in [
            (&wide, &office, true),
            (&wide, &home, false),
            (&office, &home, false),
            (&none, &home, true),
        ] {
            assert_eq!((one.meet(other), other.meet(one)), (meet, meet));
        }
    }

    #[test]
    fn who_lets_in_all_that_others_do_covers_them() {
        let (wide, office) = (
            networks(&["10.0.0.0/8", "::/0"]),
            networks(&["10.1.0.0/16", "::1"]),
        );
        let (home, none) = (networks(&["192.168.0.0/16"]), networks(&[]));
        for (one, other, covers) in [
            (&wide, &office, true),
            (&office, &wide, false),
            (&wide, &home, false),
            (&none, &home, true),
            (&home, &none, false),
            (&home, &home, true),
            (&none, &none, true),
        ] {
            assert_eq!(one.cover(other), covers, "{one:?} {other:?}");
        }
    }

    #[test]
    fn none_at_all_let_everybody_in_and_hold_nobody() {
        let address = "192.0.2.1".parse().unwrap();
        let (none, other) = (Networks::default(), networks(&["10.0.0.0/8"]));
        assert!(none.let_in(address) && !none.hold(address));
        assert!(!other.let_in(address));
    }

    #[test]
    fn they_are_written_as_they_were_read() {
        for (written, kept) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.1/32", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:DB8::/32", "2001:db8::/32"),
        ] {
            assert_eq!(Networks::parse_one(written).as_deref(), Some(kept));
            assert_eq!(networks(&[written]).to_texts(), [kept]);
        }
    }

    #[test]
    fn what_is_no_network_is_not_read() {
        for text in [
            "",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0",
            "proxy.example",
            "::ffff:10.0.0.0/104",
            "10.0.0.0/255.0.0.0",
            "10.0.0.1:80",
        ] {
            assert_eq!(Networks::parse_one(text), None, "{text:?}");
            let meant = ["10.0.0.1/8", "proxy.example", "10.0.0.0/255.0.0.0"];
            let is_meant = meant.contains(&text);
            assert_eq!(Networks::meant(text).is_some(), is_meant, "{text:?}");
        }
        let meant = Networks::meant("10.0.0.5/8").unwrap();
        assert!(meant.contains("\"10.0.0.0/8\", or \"10.0.0.5\""), "{meant}");
    }
}
