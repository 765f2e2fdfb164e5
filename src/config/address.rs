//! Addresses to listen on. What people write instead of one is told with what they meant.

use std::net::{IpAddr, SocketAddr};

use super::complaint::{Complaint, quoted};
use super::url;

/// Addresses, each once.
pub(super) fn parse_addresses(texts: &[String]) -> Result<Vec<SocketAddr>, Complaint> {
    // Whether none may do is for the whole of the settings to say.
    let mut addresses = Vec::new();
    for text in texts {
        let address = parse_address(text)?;
        // Port 0 is another one each time.
        if address.port() != 0 && addresses.contains(&address) {
            return Err(Complaint::ListedTwice(address));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

fn parse_address(text: &str) -> Result<SocketAddr, Complaint> {
    let not_an_address = |hint: &str| {
        let hint = format!(
            "{} is not an address such as 127.0.0.1:8080 or [::]:8080{hint}",
            quoted(text)
        );
        Complaint::NotAnAddress(hint)
    };
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let address = rest.split('/').next().unwrap_or_default();
        let tls = match scheme.eq_ignore_ascii_case("https") {
            true => " (TLS is for a proxy in front)",
            false => "",
        };
        return Err(match parse_address(address) {
            Ok(_) => not_an_address(&format!("; did you mean {}?{tls}", quoted(address))),
            Err(_) => not_an_address(": it has no scheme and no path"),
        });
    }
    let without_address = text.strip_prefix('*').unwrap_or(text);
    let port = without_address.strip_prefix(':').unwrap_or(without_address);
    if port.parse::<u16>().is_ok() {
        return Err(not_an_address(&format!(
            ": the address is missing; all of this machine are [\"0.0.0.0:{port}\", \"[::]:{port}\"]"
        )));
    }
    if let Some(address) = (text.strip_suffix('/')).filter(|text| parse_address(text).is_ok()) {
        return Err(not_an_address(&format!(
            "; did you mean {}?",
            quoted(address)
        )));
    }
    if text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Err(not_an_address(": the port is missing"));
    }
    let (host, port) = text.rsplit_once(':').unwrap_or((text, "8080"));
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
