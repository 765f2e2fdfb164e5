//! What settings may say, and hardly anybody means: a start, a reload and a check warn of it.
//!
//! Refused is only what can never be right. Each of these can be, for a while or behind a firewall.

use std::net::SocketAddr;

use super::keys::{Config, Location};
use crate::auth::accounts::Accounts;
use crate::auth::certificate::Rule;
use crate::auth::policy::{self, Allowed, Principal, Scheme};

impl Config {
    /// What is doubtful about them, in words.
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        doubts.extend(self.wide_proxies());
        let closed: Vec<_> = (self.locations.iter())
            .filter(|location| self.lets_nobody_in(location))
            .map(|location| format!("/{}", location.prefix))
            .collect();
        if !closed.is_empty() {
            doubts.push(format!(
                "nobody can upload to {}: nobody stands in the files of those whom auth asks for, or allow lets none of \
                 them in",
                closed.join(", ")
            ));
        }
        doubts.extend(self.in_the_clear());
        let speaks_tls = self.listeners.iter().any(|listener| listener.tls);
        if !self.certificates.is_empty() && !speaks_tls {
            let why = "there is a [[certificate]], and no [[listener]] with tls = true: nobody is shown it";
            doubts.push(why.to_owned());
        }
        doubts
    }

    /// No network of one owner is so wide: clients are in it.
    fn wide_proxies(&self) -> Option<String> {
        let proxies = &self.accounts.trusted_proxies;
        let wide: Vec<_> = proxies.wider_than_private().collect();
        let believed = match self.asks_for(Scheme::Proxy) {
            true => "from where they come, and who they are (user_header)",
            false => "from where they come",
        };
        (!wide.is_empty()).then(|| {
            format!(
                "trusted_proxies has {}, in which clients are: whatever they say is believed, {believed}; name the \
                 addresses of the proxies",
                wide.join(", ")
            )
        })
    }

    fn asks_for(&self, scheme: Scheme) -> bool {
        let mut locations = self.locations.iter();
        locations.any(|location| location.access.auth.contains(&scheme))
    }

    /// Whether who may come is known, and is nobody.
    fn lets_nobody_in(&self, location: &Location) -> bool {
        let (access, accounts) = (&location.access, &self.accounts.accounts);
        let is_empty = |allowed: &Allowed| match allowed {
            Allowed::Group(group) => accounts.members(group).next().is_none(),
            Allowed::Anybody | Allowed::User(_) => false,
        };
        let has_nobody = |scheme: &Scheme| {
            let names = self.names(accounts, *scheme);
            let may = |user: &str| {
                let principal = Principal {
                    user: user.into(),
                    scheme: *scheme,
                };
                policy::may(&principal, &access.allow, accounts)
            };
            names.is_some_and(|names| !names.into_iter().any(may))
        };
        let is_asked = !access.auth.is_empty();
        is_asked && (access.allow.iter().all(is_empty) || access.auth.iter().all(has_nobody))
    }

    /// Who can show by a scheme who they are; `None` where others know that.
    fn names<'a>(&self, accounts: &'a Accounts, scheme: Scheme) -> Option<Vec<&'a str>> {
        let is_listed = self.accounts.certificate_user == [Rule::Fingerprint];
        match scheme {
            Scheme::Basic => Some(accounts.names().0),
            Scheme::Bearer => Some(accounts.names().1),
            Scheme::Certificate if is_listed => Some(accounts.names_with_certificates()),
            Scheme::Certificate | Scheme::Negotiate | Scheme::Proxy => None,
        }
    }

    /// Passwords and tokens are asked for where they are not taken from other hosts.
    fn in_the_clear(&self) -> Option<String> {
        let is_seen = |location: &Location| {
            let access = &location.access;
            let is_told = !access.auth.is_empty() && access.auth.iter().all(|one| one.is_told());
            is_told && !access.allow_plaintext
        };
        let is_near = |address: &SocketAddr| address.ip().is_loopback();
        let own = self.listeners.iter().flat_map(|listener| &listener.address);
        let far: Vec<_> = (self.listen.iter().chain(own))
            .filter(|address| !is_near(address))
            .map(ToString::to_string)
            .collect();
        let has_tls = self.listeners.iter().any(|listener| listener.tls);
        let is_doubtful = self.locations.iter().any(is_seen)
            && !far.is_empty()
            && !has_tls
            && self.accounts.trusted_proxies.is_empty();
        is_doubtful.then(|| {
            format!(
                "auth asks for passwords or tokens, and other hosts hear 403 at {}, where they would send them in the \
                 clear: let a [[listener]] speak TLS (tls = true), name the proxy that does (trusted_proxies), or set \
                 allow_plaintext",
                far.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Flags, SettingsFile};

    fn config(lines: &str) -> Config {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("bitsd.toml");
        let at = |name: &str, text: &str| {
            let file = place.path().join(name);
            std::fs::write(&file, text).unwrap();
            format!("{file:?}")
        };
        let token = format!("anna:{}\n", "0f".repeat(32));
        let lines = (lines.replace("TOKENS", &at("tokens", &token)))
            .replace("NOBODY", &at("nobody", "# to come\n"))
            .replace("GROUPS", &at("groups", "ops: anna\nnone:\n"));
        std::fs::write(&path, lines).unwrap();
        let file = SettingsFile::read(&path).unwrap();
        Config::resolve(Flags::default(), Some(file)).unwrap()
    }

    #[test]
    fn what_hardly_anybody_means_is_told() {
        let tokens = "auth = \"bearer\"\ntokens_file = TOKENS\n";
        let proxy = "user_header = \"X-User\"\nauth = \"proxy\"\ntrusted_proxies = ";
        let tls = "[[listener]]\naddress = \"0.0.0.0:2\"\n";
        let certificate = "[[certificate]]\nchain = \"/c.pem\"\nkey = \"/k.pem\"\n";
        for (lines, expected) in [
            (String::new(), ""),
            (
                "trusted_proxies = [\"10.0.0.0/8\", \"fc00::/7\"]".to_owned(),
                "",
            ),
            (
                "trusted_proxies = [\"10.0.0.1\", \"0.0.0.0/0\", \"::/0\"]".to_owned(),
                "trusted_proxies has 0.0.0.0/0, ::/0, in which clients are: whatever they say is believed, from where \
                 they come; name",
            ),
            (
                format!("{proxy}[\"128.0.0.0/1\", \"2000::/3\"]"),
                "128.0.0.0/1, 2000::/3, in which clients are: whatever they say is believed, from where they come, and \
                 who they are (user_header)",
            ),
            (format!("{proxy}\"10.0.0.1\""), ""),
            (
                format!("{proxy}\"10.0.0.1\"\nallow = \"@none\"\ngroups_file = GROUPS"),
                "nobody can upload to /:",
            ),
            (tokens.to_owned(), ""),
            (
                "auth = \"basic\"\nusers_file = NOBODY".to_owned(),
                "nobody can upload to /:",
            ),
            (
                format!("{tokens}allow = [\"Anna\", \"bert\"]"),
                "nobody can upload to /:",
            ),
            (
                format!(
                    "{tokens}groups_file = GROUPS\n[[location]]\nprefix = \"/x\"\nallow = \"@none\""
                ),
                "nobody can upload to /x:",
            ),
            (
                format!("{tokens}listen = [\"127.0.0.1:3\", \"0.0.0.0:1\"]"),
                "other hosts hear 403 at 0.0.0.0:1, where",
            ),
            (
                format!("{tokens}listen = \"0.0.0.0:1\"\nallow_plaintext = true"),
                "",
            ),
            (
                format!("{tokens}listen = \"0.0.0.0:1\"\ntrusted_proxies = \"10.0.0.1\""),
                "",
            ),
            (
                format!("{tokens}listen = \"0.0.0.0:1\"\n{certificate}{tls}tls = true"),
                "",
            ),
            (
                format!("{tokens}{tls}"),
                "other hosts hear 403 at 0.0.0.0:2, where",
            ),
            (
                format!("{certificate}{tls}"),
                "no [[listener]] with tls = true",
            ),
        ] {
            let told = config(&lines).doubts();
            match expected {
                "" => assert_eq!(told, [""; 0], "{lines}"),
                words => assert!(
                    told.len() == 1 && told[0].contains(words),
                    "{lines}: {told:?}"
                ),
            }
        }
    }
}
