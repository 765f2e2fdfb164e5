//! What settings may say, and hardly anybody means: a start, a reload and a check warn of it.
//!
//! Refused is only what can never be right. Each of these can be, for a while or behind a firewall.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod amounts;
mod around;
mod folders;
mod idle;

pub(super) use around::lets_in_others;

use super::keys::{Config, Listener, Location, ROOT_DEFAULT};
use super::words::ProxyProtocol;
use crate::auth::accounts::Accounts;
use crate::auth::certificate::Rule;
use crate::auth::policy::{self, Allowed, Principal, Scheme};

/// A BITS client that was interrupted comes back after so long, unless its job says otherwise.
const SHORT: Duration = Duration::from_secs(600);

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
        let places = around::Places::of(self);
        doubts.extend(around::of_roots(self, &places));
        doubts.extend(self.of_each_location());
        doubts.extend(idle::of_all(self));
        doubts.extend(self.passed_over.iter().cloned());
        doubts.extend(folders::of_users(self, &places));
        doubts.extend(amounts::of_all(self));
        doubts.extend(self.of_places());
        let speaks_tls = self.listeners.iter().any(|listener| listener.tls);
        if !self.certificates.is_empty() && !speaks_tls {
            let why = "there is a [[certificate]], and no [[listener]] with tls = true: nobody is shown it";
            doubts.push(why.to_owned());
        }
        doubts
    }

    /// The locations of which something is so.
    fn named(&self, is_so: &dyn Fn(&Location) -> bool) -> Option<String> {
        let found = self.locations.iter().filter(|location| is_so(location));
        let names: Vec<_> = found
            .map(|location| format!("/{}", location.prefix))
            .collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    /// What is doubtful about single ones.
    fn of_each_location(&self) -> Vec<String> {
        let named = |is_so: &dyn Fn(&Location) -> bool| self.named(is_so);
        let ways = self.listeners.iter().map(|listener| &listener.allow_from);
        let ways: Vec<_> = ways.collect();
        let is_cut_off = |location: &Location| {
            self.listen.is_empty() && !ways.iter().any(|way| way.meet(&location.access.allow_from))
        };
        let asks_nobody = |location: &Location| {
            location.access.auth.is_empty() && location.access.allow != [Allowed::Anybody]
        };
        let names_more = |location: &Location| {
            let allow = &location.access.allow;
            allow.len() > 1 && allow.contains(&Allowed::Anybody)
        };
        let is_short = |location: &Location| location.policy.session_timeout < SHORT;
        let is_cut_off = named(&is_cut_off).map(|names| {
            format!(
                "nobody can upload to {names}: allow_from there has no address that allow_from of a [[listener]] lets in"
            )
        });
        let asks_nobody = named(&asks_nobody).map(|names| {
            format!(
                "everybody can upload to {names}: allow does nothing there, since auth asks nobody who they are; allow = \
                 [\"*\"] says that it is meant so"
            )
        });
        let names_more = named(&names_more).map(|names| {
            format!("allow has * and others for {names}: the others do nothing, since * lets everybody in")
        });
        let is_short = named(&is_short).map(|names| {
            format!(
                "session_timeout is shorter than ten minutes for {names}, after which a BITS client that was interrupted \
                 comes back: its upload is gone then (a number alone is in seconds; in IIS it was in days)"
            )
        });
        let all = [is_cut_off, asks_nobody, names_more, is_short];
        all.into_iter().flatten().collect()
    }

    /// Addresses and folders of which somebody may think otherwise.
    fn of_places(&self) -> Vec<String> {
        let is_far = |address: &&SocketAddr| !address.ip().is_loopback();
        let far: Vec<_> = (self.admin_listen.iter().filter(is_far))
            .map(ToString::to_string)
            .collect();
        let far = (!far.is_empty()).then(|| {
            format!(
                "admin_listen has {}: whoever reaches it reads the names of clients and files, and is asked nothing; let \
                 only those reach it who may (a firewall), or name 127.0.0.1",
                far.join(", ")
            )
        });
        // Whoever writes the default meant to have it, also as `uploads`.
        let default = Path::new(ROOT_DEFAULT);
        let bare = |path: &'_ Path| path.strip_prefix(".").unwrap_or(path).to_owned();
        let is_loose = |root: &&PathBuf| root.is_relative() && bare(root) != bare(default);
        let loose: Vec<_> = (self.roots.iter().filter(is_loose))
            .map(|root| root.display().to_string())
            .collect();
        let loose = (!loose.is_empty()).then(|| {
            format!(
                "where the root {} is depends on where the server is started: write it from / on",
                loose.join(", ")
            )
        });
        let proxies = &self.accounts.trusted_proxies;
        let is_for_proxies = |listener: &&Listener| {
            let networks = &listener.allow_from;
            listener.proxy_protocol == ProxyProtocol::None
                && !(networks.is_empty() || proxies.is_empty())
                && proxies.cover(networks)
        };
        let shut: Vec<_> = (self.listeners.iter().filter(is_for_proxies))
            .flat_map(|listener| listener.address.iter().map(ToString::to_string))
            .collect();
        let shut = (!shut.is_empty()).then(|| {
            format!(
                "allow_from of the [[listener]] {} has trusted_proxies only, and goes by the clients that they name: \
                 whoever comes by way of them hears 403; name the networks of the clients",
                shut.join(", ")
            )
        });
        far.into_iter().chain(loose).chain(shut).collect()
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
        let notify = "notification_type = \"by-value\"\nnotification_url = ";
        let proxy = "user_header = \"X-User\"\nauth = \"proxy\"\ntrusted_proxies = ";
        let tls = "[[listener]]\naddress = \"0.0.0.0:2\"\n";
        let certificate = "[[certificate]]\nchain = \"/c.pem\"\nkey = \"/k.pem\"\n";
        let office = "[[listener]]\naddress = \"127.0.0.1:0\"\nallow_from = \"192.168.0.0/16\"\n";
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
            (
                format!("trusted_proxies = \"192.168.0.0/16\"\n{office}"),
                "allow_from of the [[listener]] 127.0.0.1:0 has trusted_proxies only,",
            ),
            (format!("trusted_proxies = \"192.168.1.1\"\n{office}"), ""),
            (
                format!("root = \"/r\"\n{tokens}allow_from = \"10.0.0.0/8\"\n{office}"),
                "nobody can upload to /: allow_from there",
            ),
            (
                format!("{tokens}allow_from = \"192.168.1.0/24\"\n{office}"),
                "",
            ),
            (
                format!("{tokens}allow = \"anna\"\n[[location]]\nprefix = \"/x\"\nauth = []"),
                "everybody can upload to /x: allow does nothing there",
            ),
            (
                format!("{tokens}allow = [\"*\", \"anna\"]"),
                "allow has * and others for /:",
            ),
            (
                "session_timeout = 14".to_owned(),
                "session_timeout is shorter",
            ),
            ("session_timeout = \"10m\"".to_owned(), ""),
            (
                "sessions_per_user_max = 3".to_owned(),
                "sessions_per_user_max does nothing",
            ),
            (format!("{tokens}sessions_per_user_max = 3"), ""),
            (
                format!("{tokens}per_user = true\nallow = [\"a@b\", \"a_b\", \"anna\"]"),
                "users have one folder together where each should have one of his own (per_user): a@b, a_b (a_b);",
            ),
            (
                format!("{tokens}per_user = true\nallow = [\"CON\", \"anna\"]"),
                "no folder can be called as these users are (per_user), and they hear 403: CON",
            ),
            (
                format!("{tokens}per_user = true\nallow = [\"a.b\", \"a_b\", \"anna\"]"),
                "",
            ),
            ("realms = \"EXAMPLE.COM\"".to_owned(), "realms does nothing"),
            (
                "trusted_proxies = \"10.0.0.1\"\nuser_header = \"X-User\"".to_owned(),
                "user_header does nothing",
            ),
            (
                "channel_binding = \"require\"".to_owned(),
                "channel_binding does nothing",
            ),
            (
                "admin_names = \"bits.example.com\"".to_owned(),
                "admin_names does nothing",
            ),
            (
                "[events]\nnats_subject = \"a.b\"".to_owned(),
                "[events] does nothing",
            ),
            (
                "dir_mode = \"0750\"".to_owned(),
                "dir_mode does nothing for /:",
            ),
            ("dir_mode = \"0750\"\ncreate_dirs = true".to_owned(), ""),
            (
                "upload_bytes_max = 100".to_owned(),
                "upload_bytes_max is less than 1 KiB for /",
            ),
            ("upload_bytes_max = 1024".to_owned(), ""),
            (
                "session_timeout = \"1d\"\nempty_session_timeout = \"2d\"".to_owned(),
                "empty_session_timeout does nothing for /",
            ),
            (
                format!("{notify}\"http://127.0.0.1:1/\"\nnotification_timeout = \"6m\""),
                "notification_timeout is more than five minutes for /",
            ),
            (
                format!("{notify}\"http://localhost:8080/a\""),
                "notification_url is an address of this server itself for /",
            ),
            (
                format!("listen = \"0.0.0.0:80\"\n{notify}\"http://127.0.0.1/a\""),
                "notification_url is an address of this server itself for /",
            ),
            (format!("{notify}\"http://127.0.0.1:8081/a\""), ""),
            (
                format!("public_url = \"http://127.0.0.1:8080/\"\n{notify}\"/a\""),
                "notification_url is an address of this server itself for /",
            ),
            (
                format!("public_url = \"http://bits.example/\"\n{notify}\"/a\""),
                "",
            ),
            (
                "admin_listen = \"127.0.0.1:9180\"\n[events]\nwebhook = \"http://127.0.0.1:9180/\""
                    .to_owned(),
                "events.webhook is an address of this server itself",
            ),
            (
                "[limits]\npath_depth_max = 2\n[[location]]\nprefix = \"/a/b/c\"".to_owned(),
                "nobody can upload to /a/b/c: its path has more folders",
            ),
            (
                "[limits]\npath_depth_max = 2\n[[location]]\nprefix = \"/a/b\"".to_owned(),
                "",
            ),
            (
                "[limits]\nheaders_max = 15".to_owned(),
                "limits.headers_max is 15: a fragment of Windows has",
            ),
            ("[limits]\nheaders_max = 16".to_owned(), ""),
            (
                "admin_listen = \"0.0.0.0:9180\"".to_owned(),
                "admin_listen has 0.0.0.0:9180:",
            ),
            ("admin_listen = \"127.0.0.1:9180\"".to_owned(), ""),
            ("root = \"up\"".to_owned(), "where the root up is depends"),
            ("root = \"./uploads\"".to_owned(), ""),
            ("root = \"uploads/\"".to_owned(), ""),
            (
                "root = \"../uploads\"".to_owned(),
                "where the root ../uploads is depends",
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

    /// Goal: whoever shuts the front door hears of the side door. Method: roots within roots, where
    /// another location is or is not asked on the way.
    #[test]
    fn a_root_within_one_that_lets_in_others_is_told() {
        let secret = "auth = \"bearer\"\n";
        let at = |prefix: &str, root: &str, access: &str| {
            format!("[[location]]\nprefix = \"{prefix}\"\nroot = \"{root}\"\n{access}")
        };
        let top = |root: &str| format!("root = \"{root}\"\ntokens_file = TOKENS\n");
        let lies = |prefix: &str, way: &str| format!("at {prefix} is reached at {way} too");
        for (lines, expected) in [
            (
                top("/n") + &at("open", "/r", "") + &at("case/secret", "/r/secret", secret),
                vec![lies("/case/secret", "/open/secret")],
            ),
            (
                top("/r") + &at("case", "/r/secret", secret),
                vec![lies("/case", "/secret")],
            ),
            (
                top("/r") + &at("a", "/x", "") + &at("b", "/x", secret),
                vec![lies("/b", "/a")],
            ),
            // On the way there it is asked.
            (top("/r") + &at("secret", "/r/secret", secret), vec![]),
            (
                top("/r") + "[[location]]\nprefix = \"s\"\n" + secret,
                vec![],
            ),
            // The network says who comes: wider out there, with `auth` or without.
            (
                top("/r") + &at("case", "/r/secret", "allow_from = \"10.0.0.0/8\"\n"),
                vec![lies("/case", "/secret")],
            ),
            (
                top("/r")
                    + "allow_from = \"10.0.0.0/8\"\n"
                    + &at(
                        "case",
                        "/r/secret",
                        &format!("{secret}allow_from = \"10.1.0.0/16\"\n"),
                    ),
                vec![lies("/case", "/secret")],
            ),
            (
                top("/n")
                    + &at("a", "/r", "allow_from = \"10.1.0.0/16\"\n")
                    + &at(
                        "b",
                        "/r/b",
                        &format!("{secret}allow_from = \"10.0.0.0/8\"\n"),
                    ),
                vec![],
            ),
            (
                top("/n")
                    + &at("a", "/r", secret)
                    + &at("b", "/r/b", "allow_from = \"10.0.0.0/8\"\n"),
                vec![],
            ),
            // Whoever reads only is let in as well.
            (
                top("/n")
                    + &at("a", "/r", "enabled = false\ndownload = \"get\"\n")
                    + &at("b", "/r/b", &format!("{secret}download = \"get\"\n")),
                vec![lies("/b", "/a/b")],
            ),
            // Side by side, and where the outer one lets in fewer.
            (top("/r") + &at("a", "/ra", secret), vec![]),
            (
                top("/n") + &at("a", "/r", secret) + &at("b", "/r/b", ""),
                vec![],
            ),
            (
                top("/n")
                    + &at("a", "/r", secret)
                    + &at("b", "/r/b", &format!("{secret}allow = \"anna\"\n")),
                vec![lies("/b", "/a/b")],
            ),
        ] {
            let told = config(&lines).doubts();
            assert_eq!(told.len(), expected.len(), "{lines}: {told:?}");
            for (told, expected) in told.iter().zip(expected) {
                assert!(told.contains(&expected), "{lines}: {told}");
            }
        }
    }

    /// Goal: a disk is asked as often for many locations as for one. Method: they share a root, and
    /// one is asked for passwords within another.
    #[test]
    fn each_root_is_looked_at_once_whatever_locations_there_are() {
        let looks = |count: usize| {
            let location = |number| format!("[[location]]\nprefix = \"l{number}\"\n");
            let top = "root = \"/n\"\ntokens_file = TOKENS\n".to_owned();
            let inner = "[[location]]\nprefix = \"x\"\nroot = \"/n/l0\"\nauth = \"bearer\"\n";
            let lines = top + inner + &(0..count).map(location).collect::<String>();
            let config = config(&lines);
            let before = crate::vigil::looks_made();
            let told = config.doubts();
            assert!(
                told.len() == 1 && told[0].contains("reached at /l0 too"),
                "{told:?}"
            );
            crate::vigil::looks_made() - before
        };
        assert_eq!(looks(1), looks(300));
    }

    /// Goal: very many ways to the same files are no longer a list than can be read. Method: all
    /// locations have one root, and one of them asks for tokens.
    #[test]
    fn only_some_ways_to_a_location_are_told() {
        let at = |prefix: &str, more: &str| {
            format!("[[location]]\nprefix = \"{prefix}\"\nroot = \"/r\"\n{more}")
        };
        let open: String = (0..30)
            .map(|number| at(&format!("l{number}"), ""))
            .collect();
        let top = "root = \"/n\"\ntokens_file = TOKENS\n".to_owned();
        let told = config(&(top + &open + &at("secret", "auth = \"bearer\"\n"))).doubts();
        assert_eq!(told.len(), 10, "{told:?}");
    }

    /// A location in what is a user's own by another one.
    #[test]
    fn a_location_in_the_folder_of_a_user_is_told() {
        let top = "root = \"/n\"\ntokens_file = TOKENS\n";
        let own = "[[location]]\nprefix = \"pu\"\nauth = \"bearer\"\nper_user = true\n";
        let told =
            "in the folder of a user who should have it for himself (per_user): anna (of /pu)";
        for (inner, is_told) in [
            ("prefix = \"pu/anna\"\ndownload = \"get\"", true),
            ("prefix = \"pu/anna/deep\"", true),
            ("prefix = \"x\"\nroot = \"/n/pu/anna\"", true),
            ("prefix = \"pu/shared\"", false),
            ("prefix = \"pu/anna.old\"", false),
            ("prefix = \"pu/anna\"\nroot = \"/m\"", false),
        ] {
            let lines = format!("{top}{own}[[location]]\n{inner}\n");
            let doubts = config(&lines).doubts();
            let found = doubts.iter().any(|doubt| doubt.contains(told));
            assert_eq!(found, is_told, "{lines}: {doubts:?}");
        }
    }

    /// The same, of those whom both let in: what one forbids, the other allows.
    #[test]
    fn a_root_within_one_that_allows_more_is_told() {
        let at = |prefix: &str, root: &str, keys: &str| {
            format!("[[location]]\nprefix = \"{prefix}\"\nroot = \"{root}\"\n{keys}\n")
        };
        let secret = "auth = \"bearer\"\n";
        let top = |keys: &str| format!("root = \"/n\"\ntokens_file = TOKENS\n{keys}\n");
        let own = format!("{secret}per_user = true");
        for (outer, inner, told) in [
            ("download = \"get\"", "download = \"head\"", "download"),
            ("download = \"head\"", "", "download"),
            ("allow_overwrite = true", "", "allow_overwrite"),
            ("", "enabled = false", "enabled"),
            (secret, &own, "per_user"),
            (
                "download = \"get\"\nallow_overwrite = true",
                "enabled = false",
                "download, allow_overwrite, enabled",
            ),
            ("", "download = \"get\"\nallow_overwrite = true", ""),
            ("enabled = false\nallow_overwrite = true", "", ""),
            // Whoever reads all of them is somebody else than those who upload.
            (&format!("{secret}download = \"get\""), "", ""),
            ("allow_from = \"10.0.0.0/8\"\ndownload = \"get\"", "", ""),
        ] {
            let lines = top("") + &at("a", "/r", outer) + &at("b", "/r/b", inner);
            let doubts = config(&lines).doubts();
            match told {
                "" => assert_eq!(doubts, [""; 0], "{lines}"),
                told => {
                    let begins = format!("{told} of /b does not hold at /a/b,");
                    let is_told = doubts.len() == 1 && doubts[0].starts_with(&begins);
                    assert!(is_told, "{lines}: {doubts:?}");
                }
            }
        }
    }
}
