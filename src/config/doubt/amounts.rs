//! Amounts and times that can be right and hardly are, and an application that is this server
//! itself.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use fluent_uri::Uri;

use crate::config::keys::Policy;
use crate::config::quantity::KIB;
use crate::config::{Config, Location};

/// A client gives up an answer after so long.
const CLIENT_WAITS: Duration = Duration::from_secs(300);
/// A fragment of Windows has a dozen header fields with its credentials, and a proxy adds some.
const FIELDS_EXPECTED: usize = 16;

/// What is to be known, in words.
pub(super) fn of_all(config: &Config) -> Vec<String> {
    let named = |is_so: &dyn Fn(&Location) -> bool| config.named(is_so);
    let is_tiny = |location: &Location| {
        location
            .policy
            .upload_bytes_max
            .is_some_and(|max| max < KIB)
    };
    let is_tiny = named(&is_tiny).map(|names| {
        format!(
            "upload_bytes_max is less than 1 KiB for {names}: hardly any file is so small (a number alone is in bytes)"
        )
    });
    let is_late = |location: &Location| {
        let notification = location.notification.as_ref();
        notification.is_some_and(|notification| notification.timeout > CLIENT_WAITS)
    };
    let is_late = named(&is_late).map(|names| {
        format!(
            "notification_timeout is more than five minutes for {names}, after which clients give up and ask again"
        )
    });
    let is_idle = |location: &Location| {
        let (policy, default) = (&location.policy, Policy::default());
        let is_said = policy.empty_session_timeout != default.empty_session_timeout;
        is_said && policy.empty_session_timeout > policy.session_timeout
    };
    let is_idle = named(&is_idle).map(|names| {
        format!(
            "empty_session_timeout does nothing for {names}: session_timeout is shorter, and discards such an upload before"
        )
    });
    let deepest = config.limits.path_depth_max;
    let is_too_deep = |location: &Location| {
        // Of a root of its own the prefix is no folder, and each user may have one.
        let names = location.prefix.split('/').filter(|name| !name.is_empty());
        let folders = if location.has_own_root {
            0
        } else {
            names.count()
        };
        folders + usize::from(location.access.per_user) > deepest
    };
    let is_too_deep = named(&is_too_deep).map(|names| {
        format!(
            "nobody can upload to {names}: its path has more folders than limits.path_depth_max ({deepest})"
        )
    });
    let fields = config.limits.headers_max;
    let few_fields = (fields < FIELDS_EXPECTED).then(|| {
        format!(
            "limits.headers_max is {fields}: a fragment of Windows has a dozen header fields, and proxies add some; whoever \
             sends more is refused"
        )
    });
    let amounts = [is_idle, is_too_deep, few_fields];
    let all = [is_tiny, is_late].into_iter().chain(of_itself(config));
    all.chain(amounts).flatten().collect()
}

/// Where an application, or whoever is told of events, would be this server itself.
fn of_itself(config: &Config) -> [Option<String>; 2] {
    let is_circle = |location: &Location| {
        let notification = location.notification.as_ref();
        let url = notification.and_then(|one| addressed(location, &one.url));
        url.is_some_and(|url| is_ours(config, url))
    };
    let is_circle = config.named(&is_circle).map(|names| {
        format!(
            "notification_url is an address of this server itself for {names}: it takes uploads there, and is no \
             application"
        )
    });
    let webhook = is_ours(config, &config.events.webhook).then(|| {
        "events.webhook is an address of this server itself: it takes uploads there, and no events"
            .to_owned()
    });
    [is_circle, webhook]
}

/// The URL that has the address of another one: of a path it is the server's public one.
fn addressed<'u>(location: &'u Location, url: &'u str) -> Option<&'u str> {
    match url.starts_with('/') {
        true => location.public_url.as_deref(),
        false => Some(url),
    }
}

/// Whether a URL is one of an address that this server listens on.
fn is_ours(config: &Config, url: &str) -> bool {
    let Ok(url) = Uri::parse(url) else {
        return false;
    };
    let Some(authority) = url.authority() else {
        return false;
    };
    let default = if url.scheme().as_str() == "https" {
        443
    } else {
        80
    };
    let port = authority.port_to_u16().ok().flatten().unwrap_or(default);
    let host = authority.host().trim_matches(['[', ']']);
    let host = match host.eq_ignore_ascii_case("localhost") {
        true => "127.0.0.1",
        false => host,
    };
    let Ok(ip) = host.parse::<IpAddr>() else {
        return false;
    };
    let own = config
        .listeners
        .iter()
        .flat_map(|listener| &listener.address);
    let takes = |address: &SocketAddr| {
        let is_all = address.ip().is_unspecified() && ip.is_loopback();
        address.port() == port && (address.ip() == ip || is_all)
    };
    let admin = config.admin_listen.iter();
    (config.listen.iter().chain(own).chain(admin)).any(takes)
}
