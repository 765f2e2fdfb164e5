//! Which sessions, or packets, somebody wants to see.

use std::net::{IpAddr, SocketAddr};

use glob::{MatchOptions, Pattern, PatternError};

use super::trace::Traced;
use super::view::{AWAITS_DISK, SessionView};
use crate::bits::session_id::SessionId;
use crate::config::Config;
use crate::metrics::labels;

/// All of what is named must be so.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    location: Option<String>,
    path: Option<Pattern>,
    client: Option<Client>,
    user: Option<String>,
    state: Option<String>,
    /// An id, or its beginning, as [`id_begun`] gives it.
    session: Option<String>,
    idle_seconds: u64,
    /// In lower case.
    any: Option<String>,
    /// How many are wanted.
    pub limit: Option<usize>,
}

/// An address, perhaps with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Client {
    ip: IpAddr,
    port: Option<u16>,
}

impl Client {
    fn parse(text: &str) -> Option<Self> {
        let with_port = text.parse::<SocketAddr>();
        let (ip, port) = match with_port {
            Ok(address) => (address.ip(), Some(address.port())),
            Err(_) => (text.trim_matches(['[', ']']).parse().ok()?, None),
        };
        let ip = ip.to_canonical();
        Some(Self { ip, port })
    }

    /// Whether a client that was seen is this one; only where both say a port, it counts.
    fn is(self, found: Option<&str>) -> bool {
        let Some(found) = found.and_then(Self::parse) else {
            return false;
        };
        let ports = self.port.zip(found.port);
        found.ip == self.ip && ports.is_none_or(|(wanted, found)| wanted == found)
    }
}

/// So many locations are named where one is not there.
const LOCATIONS_NAMED_MAX: usize = 10;

/// As a shell would, in paths of URLs: `*` stops at no slash, because a host's folder is what most
/// people look for.
const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: false,
    require_literal_leading_dot: false,
};

impl Filter {
    /// Reads the pairs of a query.
    ///
    /// # Errors
    /// What cannot be understood, in words.
    pub fn read<'p>(pairs: impl IntoIterator<Item = (&'p str, &'p str)>) -> Result<Self, String> {
        let mut filter = Self::default();
        for (name, value) in pairs {
            let text = || Some(value.to_owned());
            match name {
                "location" => filter.location = Some(format!("/{}", value.trim_matches('/'))),
                "path" => {
                    let pattern = pattern(value.trim_start_matches('/'));
                    let pattern = pattern.map_err(|error| format!("path = {value}: {error}"))?;
                    filter.path = Some(pattern);
                }
                "any" => filter.any = Some(value.to_lowercase()),
                "limit" => {
                    let limit = value.parse();
                    filter.limit = Some(limit.map_err(|_| format!("limit = {value}: a number"))?);
                }
                "client" => {
                    let client = Client::parse(value);
                    filter.client = Some(client.ok_or_else(|| {
                        format!("client = {value}: an address such as 192.0.2.1")
                    })?);
                }
                "user" => filter.user = text(),
                "state" => {
                    let state = value.to_ascii_lowercase();
                    let known = [labels::STATES, &[AWAITS_DISK]].concat();
                    if !known.contains(&state.as_str()) {
                        let known = known.join(", ");
                        return Err(format!("there is no state {value}: there are {known}"));
                    }
                    filter.state = Some(state);
                }
                "session" => filter.session = Some(id_begun(value)?),
                "idle" => {
                    let seconds = value.parse();
                    filter.idle_seconds =
                        seconds.map_err(|_| format!("idle = {value}: a number of seconds"))?;
                }
                _ => return Err(format!("there is no filter called {name}")),
            }
        }
        Ok(filter)
    }

    /// Whether what is named is there: nothing is found in a location that there is not, and that
    /// looks like good news.
    ///
    /// # Errors
    /// What is not there, in words.
    pub fn check(&self, config: &Config) -> Result<(), String> {
        let Some(wanted) = &self.location else {
            return Ok(());
        };
        let known = || {
            config
                .locations
                .iter()
                .map(|one| format!("/{}", one.prefix))
        };
        if known().any(|prefix| prefix == *wanted) {
            return Ok(());
        }
        let named: Vec<_> = known().take(LOCATIONS_NAMED_MAX).collect();
        let more = match config.locations.len().saturating_sub(named.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let named = named.join(", ");
        Err(format!(
            "there is no location {wanted}: there are {named}{more}"
        ))
    }

    /// Whether a session is one of those.
    pub fn takes<T: AsRef<str>>(&self, session: &SessionView<T>) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        let path = session.path.as_ref();
        let (client, user) = (session.client.as_ref(), session.user.as_ref());
        is(&self.location, Some(session.location.as_ref()))
            && (self.path.as_ref()).is_none_or(|pattern| pattern.matches_with(path, OPTIONS))
            && (self.client).is_none_or(|wanted| wanted.is(client.map(AsRef::as_ref)))
            && is(&self.user, user.map(AsRef::as_ref))
            && is(&self.state, Some(session.state.as_ref()))
            && self.is_session(Some(session.id.as_ref()))
            && session.idle_seconds >= self.idle_seconds
            && (self.any.as_ref()).is_none_or(|any| has(session, any))
    }

    /// Whether something that happened is to be shown.
    pub fn shows(&self, traced: &Traced) -> bool {
        let client = traced.client.as_deref();
        let is_path = |pattern: &Pattern| {
            let path = traced.path.as_deref();
            path.is_some_and(|path| pattern.matches_with(path, OPTIONS))
        };
        self.client.is_none_or(|wanted| wanted.is(client))
            && self.path.as_ref().is_none_or(is_path)
            && self.is_session(traced.session.as_deref())
    }

    fn is_session(&self, found: Option<&str>) -> bool {
        self.session.as_deref().is_none_or(|wanted| {
            let found = found.unwrap_or_default().trim_matches(['{', '}']);
            match SessionId::parse(wanted.as_bytes()) {
                Some(id) => SessionId::parse(found.as_bytes()) == Some(id),
                None => found.starts_with(wanted.get(..ID_CHARS_COMPARED).unwrap_or(wanted)),
            }
        })
    }
}

/// Paths of which `*` and `?` stand for anything, and nothing else does: a browser calls a copy
/// `dump[1].bin`, and whoever ends its upload means no other.
fn pattern(text: &str) -> Result<Pattern, PatternError> {
    let mut literal = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '[' => literal.push_str("[[]"),
            // The crate knows two as another sign, and three as none.
            '*' if literal.ends_with('*') => {}
            _ => literal.push(char),
        }
    }
    Pattern::new(&literal)
}

/// An id, or its beginning, as it is compared: in upper case, without braces.
///
/// # Errors
/// It is none, in words.
pub fn id_begun(text: &str) -> Result<String, String> {
    let begin = text.trim_matches(['{', '}']).to_uppercase();
    let is_of_id = (begin.bytes()).all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    match begin.len() {
        ID_CHARS_MIN.. if is_of_id => Ok(begin),
        1.. if is_of_id => Err(format!(
            "{text} is too short: it takes {ID_CHARS_MIN} characters of an id or more"
        )),
        _ => Err(format!("{text} is no session")),
    }
}

/// Fewer characters of an id are taken for a slip.
const ID_CHARS_MIN: usize = 4;

/// Whether a text stands in a path, an address or a user, or an id begins so. Of the id only what
/// is shown to anybody is compared: who could try more of it would find it digit by digit.
fn has<T: AsRef<str>>(session: &SessionView<T>, text: &str) -> bool {
    let is_in = |found: &str| found.to_lowercase().contains(text);
    let id = session.id.as_ref().trim_matches(['{', '}']).to_lowercase();
    let text_of_id = text.trim_matches(['{', '}']);
    let shown = text_of_id.get(..ID_CHARS_COMPARED).unwrap_or(text_of_id);
    is_in(&format!("/{}", session.path.as_ref()))
        || (session.client.as_ref()).is_some_and(|client| is_in(client.as_ref()))
        || (session.user.as_ref()).is_some_and(|user| is_in(user.as_ref()))
        || (!shown.is_empty() && id.starts_with(shown))
}

/// The first group of an id.
const ID_CHARS_COMPARED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "{7A1CF7F0-FCA6-4D1B-8883-5FBB10F7F1DE}";

    fn session() -> SessionView {
        SessionView {
            id: ID.to_owned(),
            path: "in/host-7/a.zip".to_owned(),
            location: "/in".to_owned(),
            state: "receiving".to_owned(),
            received_bytes: 1,
            total_bytes: None,
            idle_seconds: 60,
            expires_in_seconds: None,
            begun_seconds: None,
            is_busy: false,
            client: Some("192.0.2.1".to_owned()),
            user: None,
            agent: None,
            connections: 1,
            interruptions: 0,
            sha256: None,
            sha1: None,
        }
    }

    #[test]
    fn all_that_is_named_must_be_so() {
        let takes = |pairs: &[(&str, &str)]| {
            let filter = Filter::read(pairs.iter().copied()).unwrap();
            filter.takes(&session())
        };
        assert!(takes(&[]));
        assert!(takes(&[
            ("location", "in"),
            ("path", "in/host-7/*"),
            ("client", "192.0.2.1"),
            ("state", "Receiving"),
            ("idle", "60"),
            ("session", "7a1cf7f0-fca6-4d1b-8883-5fbb10f7f1de"),
        ]));
        for any in [
            "HOST-7",
            "/in/",
            "192.0.2",
            "7A1CF7F0",
            "7a1c",
            "{7a1cf7f0-0000",
        ] {
            assert!(takes(&[("any", any)]), "{any}");
        }
        assert!(!takes(&[("any", "host-8")]) && !takes(&[("any", "cf7f0")]));
        assert!(takes(&[("path", "*host-7*")]) && takes(&[("path", "/in/*")]));
        for pair in [
            ("location", "/"),
            ("path", "in/host-8/*"),
            ("client", "192.0.2.11"),
            ("user", "anna"),
            ("state", "sealed"),
            ("idle", "61"),
            ("session", "{00000000-0000-0000-0000-000000000001}"),
        ] {
            assert!(!takes(&[pair]), "{pair:?}");
        }
    }

    #[test]
    fn a_path_with_brackets_means_itself() {
        let takes = |path: &str, pattern: &str| {
            let filter = Filter::read([("path", pattern)]).unwrap();
            let session = SessionView {
                path: path.to_owned(),
                ..session()
            };
            filter.takes(&session)
        };
        assert!(takes("l/dump[1].bin", "l/dump[1].bin"));
        assert!(!takes("l/dump1.bin", "l/dump[1].bin"));
        assert!(takes("l/[!a].bin", "l/[!a].*") && !takes("l/b.bin", "l/[!a].*"));
        assert!(takes("a[", "a[") && takes("a/b/c", "a/**") && takes("a/b/c", "/***c"));
        assert!(takes("a1c", "a?c") && !takes("ac", "a?c"));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (pair, word) in [
            (("size", "1"), "size"),
            (("state", "stuck"), "receiving"),
            (("client", "bogus"), "192.0.2.1"),
            (("client", "10.1.2.O"), "192.0.2.1"),
            (("idle", "2h"), "idle"),
            (("session", "7g"), "7g is no session"),
            (("session", ""), "is no session"),
            (
                ("session", "7A1"),
                "7A1 is too short: it takes 4 characters",
            ),
        ] {
            let why = Filter::read([pair]).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn a_location_that_is_not_there_is_told_with_those_that_are() {
        let mut text = String::new();
        for at in 0..12 {
            text.push_str(&format!("[[location]]\nprefix = \"/in-{at}\"\n"));
        }
        let file = crate::config::SettingsFile::parse(std::path::Path::new("test"), text).unwrap();
        let config = Config::resolve(crate::config::Flags::default(), Some(file)).unwrap();
        let check = |location| {
            let filter = Filter::read([("location", location)]).unwrap();
            filter.check(&config)
        };
        assert_eq!(check("/"), Ok(()));
        assert_eq!(check("in-7/"), Ok(()));
        let why = check("/none").unwrap_err();
        assert!(why.starts_with("there is no location /none: there are /in-"));
        assert!(why.ends_with(" and 3 more"), "{why}");
    }

    #[test]
    fn packets_are_shown_by_client_path_and_session() {
        let traced = Traced {
            client: Some("[2001:db8::1]:5".to_owned()),
            path: Some("in/a".to_owned()),
            session: Some(ID.to_owned()),
            ..Traced::default()
        };
        let shows = |pair| Filter::read([pair]).unwrap().shows(&traced);
        assert!(shows(("client", "2001:db8::1")) && shows(("client", "[2001:db8::1]:5")));
        assert!(shows(("path", "in/*")) && shows(("session", ID)));
        assert!(shows(("session", "7a1c")) && shows(("session", "{7A1CF7F0")));
        assert!(!shows(("session", "7a1d")) && !shows(("session", "1CF7F0")));
        // Nobody finds the rest of an id by trying it.
        assert!(shows(("session", "7A1CF7F0-0000")));
        assert!(!shows(("session", "7A1CF7F0-FCA6-4D1B-8883-5FBB10F7F1DF")));
        assert!(!shows(("client", "[2001:db8::1]:6")) && shows(("client", "2001:db8:0::1")));
        assert!(!shows(("client", "192.0.2.1")) && !shows(("path", "b*")));
        let v4 = Traced {
            client: Some("192.0.2.1:5".to_owned()),
            ..Traced::default()
        };
        let filter = |address| Filter::read([("client", address)]).unwrap();
        assert!(filter("192.0.2.1").shows(&v4) && !filter("192.0.2.11").shows(&v4));
    }
}
