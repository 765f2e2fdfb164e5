//! Addresses to listen on. What people write instead of one is told with what they meant.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::complaint::Complaint;
use super::{shown, url};

/// Addresses, each once.
pub(super) fn parse_addresses(texts: &[String]) -> Result<Vec<SocketAddr>, Complaint> {
    // Whether none may do is for the whole of the settings to say.
    let mut addresses = Vec::new();
    for text in texts {
        let address = parse_address(text)?;
        if let Some(why) = conflict(&addresses, address) {
            return Err(why);
        }
        addresses.push(address);
    }
    Ok(addresses)
}

/// Why an address cannot be listened on beside these: the server would find its own port in use.
pub(super) fn conflict(known: &[SocketAddr], address: SocketAddr) -> Option<Complaint> {
    // Port 0 is another one each time.
    if address.port() == 0 {
        return None;
    }
    if known.contains(&address) {
        return Some(Complaint::ListedTwice(address));
    }
    // All addresses of a family, and one of them.
    let is_beneath = |all: SocketAddr, one: SocketAddr| {
        all.ip().is_unspecified() && all.port() == one.port() && all.is_ipv4() == one.is_ipv4()
    };
    let other = known
        .iter()
        .find(|&&other| is_beneath(other, address) || is_beneath(address, other))?;
    Some(match is_beneath(*other, address) {
        true => Complaint::Covered(address, *other),
        false => Complaint::Covered(*other, address),
    })
}

/// What an address of the administrator's interface takes: `[::]` means IPv4 there too.
pub(super) fn taken_by_admin(address: SocketAddr) -> Vec<SocketAddr> {
    let is_all = address.is_ipv6() && address.ip().is_unspecified();
    let of_v4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
    [address]
        .into_iter()
        .chain(is_all.then_some(of_v4))
        .collect()
}

/// What the kernel would call an invalid argument, or listen on for nothing.
fn cannot_be_bound(address: &SocketAddr) -> Option<String> {
    let is_broadcast = matches!(address.ip(), IpAddr::V4(v4) if v4.is_broadcast());
    if address.ip().is_multicast() || is_broadcast {
        return Some(": it stands for many machines, and nobody can connect to it".to_owned());
    }
    let SocketAddr::V6(v6) = address else {
        return None;
    };
    if let Some(v4) = v6.ip().to_ipv4_mapped() {
        return Some(format!("; write {v4}:{}", v6.port()));
    }
    let needs_scope = v6.ip().is_unicast_link_local() && v6.scope_id() == 0;
    needs_scope.then(|| {
        let (ip, port) = (v6.ip(), v6.port());
        format!(
            ": it needs the number of its interface (`ip link` shows it), as in [{ip}%2]:{port}"
        )
    })
}

/// What is said of a port alone.
pub(super) fn port_alone(port: u16) -> String {
    format!("the address is missing; all of this machine are [\"0.0.0.0:{port}\", \"[::]:{port}\"]")
}

fn parse_address(text: &str) -> Result<SocketAddr, Complaint> {
    let not_an_address = |hint: &str| {
        let hint = format!(
            "{} is not an address such as 127.0.0.1:8080 or [::]:8080{hint}",
            shown::text(text)
        );
        Complaint::NotAnAddress(hint)
    };
    if let Ok(address) = text.parse() {
        return match cannot_be_bound(&address) {
            None => Ok(address),
            Some(hint) => Err(Complaint::NotAnAddress(format!(
                "nobody can listen on {}{hint}",
                shown::text(text)
            ))),
        };
    }
    if text.starts_with(['/', '@']) || text.starts_with("unix:") {
        return Err(not_an_address(": a Unix socket is not taken here"));
    }
    if text.contains('%') {
        return Err(not_an_address(
            ": a zone is the number of its interface (`ip link` shows it), not its name, as in [fe80::1%2]:8080",
        ));
    }
    // A comma in a password parts none.
    if text.contains(',') && shown::of_user(text).is_empty() {
        let each: Vec<_> = text.split(',').map(|one| shown::text(one.trim())).collect();
        let each = each.join(", ");
        return Err(not_an_address(&format!(
            "; several stand in an array: [{each}]"
        )));
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let address = rest.split('/').next().unwrap_or_default();
        let tls = match scheme.eq_ignore_ascii_case("https") {
            true => "; TLS is a [[listener]] with tls = true",
            false => "",
        };
        return Err(match parse_address(address) {
            Ok(_) => not_an_address(&format!("; did you mean {}?{tls}", shown::text(address))),
            Err(_) => not_an_address(": it has no scheme and no path"),
        });
    }
    let without_address = text.strip_prefix('*').unwrap_or(text);
    let port = without_address.strip_prefix(':').unwrap_or(without_address);
    if let Ok(port) = port.parse() {
        return Err(not_an_address(&format!(": {}", port_alone(port))));
    }
    if let Some(address) = (text.strip_suffix('/')).filter(|text| parse_address(text).is_ok()) {
        return Err(not_an_address(&format!(
            "; did you mean {}?",
            shown::text(address)
        )));
    }
    let (host, port) = text.rsplit_once(':').unwrap_or((text, "8080"));
    if host.parse::<Ipv6Addr>().is_ok() && port.parse::<u16>().is_ok() {
        return Err(not_an_address(&format!(
            "; did you mean \"[{host}]:{port}\"? An IPv6 address stands in brackets"
        )));
    }
    if text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Err(not_an_address(": the port is missing"));
    }
    let is_number = !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit());
    let is_host = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    if is_host && is_number {
        return Err(not_an_address(": ports are 0 to 65535"));
    }
    let is_name =
        host.contains(|c: char| c.is_ascii_alphabetic()) && url::parse_host(host).is_some();
    if !is_name || port.parse::<u16>().is_err() {
        return Err(not_an_address(""));
    }
    Err(not_an_address(&match host {
        "localhost" => format!(": names are not looked up; write 127.0.0.1:{port}"),
        _ => ": names are not looked up; write the address".to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(texts: &[&str]) -> Result<Vec<SocketAddr>, Complaint> {
        let texts: Vec<_> = texts.iter().map(|&text| text.to_owned()).collect();
        parse_addresses(&texts)
    }

    #[test]
    fn addresses_that_exclude_each_other_are_told() {
        for texts in [
            ["0.0.0.0:80", "[::]:80"],
            ["0.0.0.0:80", "127.0.0.1:81"],
            ["0.0.0.0:80", "[::1]:80"],
            ["127.0.0.1:80", "127.0.0.2:80"],
            ["0.0.0.0:0", "127.0.0.1:0"],
        ] {
            assert_eq!(parsed(&texts).unwrap().len(), 2, "{texts:?}");
        }
        let at = |text: &str| text.parse().unwrap();
        for [all, one] in [["0.0.0.0:80", "127.0.0.1:80"], ["[::]:80", "[::1]:80"]] {
            let covered = Complaint::Covered(at(one), at(all));
            assert_eq!(parsed(&[all, one]), Err(covered));
            let covered = Complaint::Covered(at(one), at(all));
            assert_eq!(parsed(&[one, all]), Err(covered));
        }
        let twice = Complaint::ListedTwice(at("127.0.0.1:80"));
        assert_eq!(parsed(&["127.0.0.1:80", "127.0.0.1:80"]), Err(twice));
        assert_eq!(
            taken_by_admin(at("[::]:9")),
            [at("[::]:9"), at("0.0.0.0:9")]
        );
        assert_eq!(taken_by_admin(at("[::1]:9")), [at("[::1]:9")]);
    }

    #[test]
    fn what_nobody_can_listen_on_is_told_with_what_to_write() {
        for (text, hint) in [
            ("[::ffff:127.0.0.1]:80", Some("; write 127.0.0.1:80")),
            ("[fe80::1]:80", Some("[fe80::1%2]:80")),
            ("[fe80::1%2]:80", None),
            (
                "224.0.0.1:80",
                Some(": it stands for many machines, and nobody can connect to it"),
            ),
            (
                "255.255.255.255:80",
                Some(": it stands for many machines, and nobody can connect to it"),
            ),
            (
                "[ff02::1%2]:80",
                Some(": it stands for many machines, and nobody can connect to it"),
            ),
            ("[2001:db8::1]:80", None),
            ("0.0.0.0:99999", Some(": ports are 0 to 65535")),
            ("[::]:65536", Some(": ports are 0 to 65535")),
            (
                "::1:8080",
                Some("\"[::1]:8080\"? An IPv6 address stands in brackets"),
            ),
            (
                ":::8080",
                Some("\"[::]:8080\"? An IPv6 address stands in brackets"),
            ),
            ("/run/x.sock", Some(": a Unix socket is not taken here")),
            (
                "unix:///run/x.sock",
                Some(": a Unix socket is not taken here"),
            ),
            (
                "[fe80::1%eth0]:8080",
                Some(
                    ": a zone is the number of its interface (`ip link` shows it), not its name, as in [fe80::1%2]:8080",
                ),
            ),
            ("::1", Some(": the port is missing")),
            ("[::1]", Some(": the port is missing")),
        ] {
            let told = match parsed(&[text]) {
                Err(Complaint::NotAnAddress(told)) => Some(told),
                _ => None,
            };
            assert_eq!(told.is_some(), hint.is_some(), "{text}");
            let told = told.unwrap_or_default();
            assert!(told.ends_with(hint.unwrap_or_default()), "{told}");
        }
    }
}
