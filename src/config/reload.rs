//! What a running server takes over from a settings file that was read again.
//!
//! Sockets, threads, blocks and the work directory are made once, at the start. The keys that say
//! how keep their values until the next start; each row says whether it is one of them. Roots are
//! only ever added, because sessions and open directories know them by their index.

use super::doubt::lets_in_others;
use super::keys::{Config, EventSettings, Listener, ROOT};
use super::resolve::{holds, index_of};
use super::table::Table;
use super::words::ProxyProtocol;

/// The configuration that a running server goes over to, and the keys of `new` that wait for a
/// restart.
///
/// Roots of `old` keep their indexes, also those that nothing leads to any more. A location that
/// would lead into the work directory, which can only be if `work_dir` waits for a restart too,
/// takes no uploads until then.
pub fn adopt(old: &Config, new: Config) -> (Config, Vec<&'static str>) {
    let mut adopted = old.clone();
    let mut waiting = Vec::new();
    if new.roots[0] != old.roots[0] {
        waiting.push(ROOT[0].key);
    }
    take_over(&mut adopted, &new, &mut waiting);
    adopted.certificates.clone_from(&new.certificates);
    take_over_listeners(&mut adopted.listeners, &new.listeners, &mut waiting);
    take_over(&mut adopted.limits, &new.limits, &mut waiting);
    take_over(&mut adopted.events, &new.events, &mut waiting);
    tell_of_secrets(&old.events, &new.events, &mut waiting);
    adopted.passed_over = new.passed_over;
    adopted.accounts = new.accounts;
    keep_what_listeners_need(&mut adopted, old, &mut waiting);

    adopted.locations = new.locations;
    for location in &mut adopted.locations {
        if !location.has_own_root {
            // The inherited root is the one that stays, whatever the file calls it now.
            location.root = 0;
            continue;
        }
        let root = &new.roots[location.root];
        location.is_enabled &= !holds(&old.work_dir, root);
        location.root = index_of(&mut adopted.roots, root.clone());
    }
    (adopted, waiting)
}

/// Why new settings cannot hold while the server keeps its old addresses: they let in others
/// somewhere, perhaps because nobody else reaches the addresses that wait for the next start.
pub fn opens_old_addresses(old: &Config, adopted: &Config, waiting: &[&str]) -> Option<String> {
    let waits = |key: &&str| ["listen", "listener"].contains(key);
    let key = waiting.iter().find(|key| waits(key))?;
    let mut locations = old.locations.iter().chain(&adopted.locations);
    let opened = locations.find(|location| {
        let prefix = &location.prefix;
        lets_in_others(adopted.location(prefix), old.location(prefix))
    })?;
    Some(format!(
        "{key} waits for the next start, and these settings let in others at /{} than the ones in force, by auth, allow \
         or allow_from: they would come by the old address. Start the server anew, or change one after the other",
        opened.prefix
    ))
}

/// The sockets are those of the start. Whose addresses are the same has the same socket; of one
/// that is new or gone, and of all if the sockets are others, nothing is taken over.
fn take_over_listeners(
    adopted: &mut [Listener],
    new: &[Listener],
    waiting: &mut Vec<&'static str>,
) {
    if adopted.len() != new.len() {
        waiting.push("listener");
        return;
    }
    for (adopted, new) in adopted.iter_mut().zip(new) {
        if adopted.address == new.address && adopted.tls == new.tls {
            take_over(adopted, new, waiting);
        } else {
            waiting.push("listener");
        }
    }
}

/// A listener that stays until the next start serves its clients until then: what it cannot do
/// without stays too, where the new settings name none of it at all, since no listener of theirs
/// needs it.
fn keep_what_listeners_need(adopted: &mut Config, old: &Config, waiting: &mut Vec<&'static str>) {
    let mut listeners = adopted.listeners.iter();
    if adopted.certificates.is_empty() && listeners.any(|listener| listener.tls) {
        adopted.certificates.clone_from(&old.certificates);
        waiting.push(CERTIFICATE);
    }
    let mut listeners = adopted.listeners.iter();
    let is_behind_proxy = |one: &Listener| one.proxy_protocol == ProxyProtocol::Required;
    if adopted.accounts.trusted_proxies.is_empty() && listeners.any(is_behind_proxy) {
        let before = &old.accounts.trusted_proxies;
        adopted.accounts.trusted_proxies.clone_from(before);
        waiting.push("trusted_proxies");
    }
}

/// What is told where certificates stay until the next start.
pub const CERTIFICATE: &str = "certificate";

/// The files have the names that they had, and others may stand in them.
fn tell_of_secrets(old: &EventSettings, new: &EventSettings, waiting: &mut Vec<&'static str>) {
    for (old, new, key) in [
        (
            &old.webhook_secret,
            &new.webhook_secret,
            "events.webhook_secret_file",
        ),
        (
            &old.nats_credentials,
            &new.nats_credentials,
            "events.nats_credentials_file",
        ),
    ] {
        if old != new && !waiting.contains(&key) {
            waiting.push(key);
        }
    }
}

/// Takes the live values over, and names the others that differ.
fn take_over<T: Table>(adopted: &mut T, new: &T, waiting: &mut Vec<&'static str>) {
    for (index, row) in T::ROWS.iter().enumerate() {
        let value = new.value(index);
        if row.is_live {
            adopted.set(index, value);
        } else if adopted.value(index) != value {
            waiting.push(row.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::form::{Form, Number, Value};
    use crate::config::keys::Limits;
    use crate::config::tests::from_file;

    const OLD: &str = "root = \"/r\"\nwork_dir = \"/w\"\nlisten = \"127.0.0.1:1\"\ncores = 1\n\
                       [[location]]\nprefix = \"a\"\nroot = \"/a\"\n[[location]]\nprefix = \"b\"\nroot = \"/b\"\n";

    fn config(text: &str) -> Config {
        from_file(text).unwrap()
    }

    /// The directory and the path beneath it that a path leads to.
    fn place<'c>(config: &'c Config, path: &'c str) -> (&'c str, &'c str) {
        let location = config.location(path);
        let root = config.roots[location.root].to_str().unwrap();
        (root, location.beneath(path).unwrap())
    }

    #[test]
    fn the_same_file_again_changes_nothing() {
        let (adopted, waiting) = adopt(&config(OLD), config(OLD));
        assert_eq!(adopted, config(OLD));
        assert_eq!(waiting, [""; 0]);
    }

    #[test]
    fn settings_of_locations_and_the_cleanup_are_taken_over() {
        let text = format!(
            "cleanup_interval = \"1m\"\nallow_overwrite = true\n{OLD}enabled = false\nhost_id = \"node\"\n\
             [[location]]\nprefix = \"a/c\"\n"
        );
        let new = config(&text);
        let (adopted, waiting) = adopt(&config(OLD), new.clone());
        assert_eq!(adopted, new);
        assert_eq!(waiting, [""; 0]);
        let (back, _) = adopt(&adopted, config(OLD));
        assert_eq!(back, config(OLD));
    }

    #[test]
    fn what_needs_a_restart_keeps_its_value_and_is_named() {
        for (key, value) in [
            ("listen", "\"127.0.0.1:2\""),
            ("root", "\"/other\""),
            ("work_dir", "\"/other\""),
            ("cores", "2"),
            ("io", "\"direct\""),
        ] {
            let line = OLD
                .lines()
                .find(|line| line.starts_with(&format!("{key} =")));
            let line = line.map_or(String::new(), |line| format!("{line}\n"));
            let new = config(&format!("{key} = {value}\n{}", OLD.replacen(&line, "", 1)));
            assert_ne!(new, config(OLD), "{key}");
            let (adopted, waiting) = adopt(&config(OLD), new);
            assert_eq!(adopted, config(OLD), "{key}");
            assert_eq!(waiting, [key]);
        }
    }

    /// TLS goes over to a proxy, say, or the proxy away: clients come as before until the start.
    #[test]
    fn what_a_listener_needs_that_stays_stays_with_it() {
        let tls = "[[listener]]\naddress = \"127.0.0.1:2\"\ntls = true\n\
                   [[certificate]]\nchain = \"/a.pem\"\nkey = \"/a.key\"\n";
        let plain = "[[listener]]\naddress = \"127.0.0.1:2\"\n";
        let proxied = format!("{plain}proxy_protocol = \"required\"\n");
        let with = |global: &str, more: &str| config(&format!("{global}{OLD}{more}"));
        let old = with("", tls);
        for new in [plain, ""] {
            let (adopted, waiting) = adopt(&old, with("", new));
            assert_eq!(adopted, old, "{new}");
            assert_eq!(waiting, ["listener", CERTIFICATE]);
            let (back, waiting) = adopt(&adopted, old.clone());
            assert_eq!((back, waiting), (old.clone(), vec![]));
        }
        // Another one is another one.
        let (adopted, _) = adopt(&old, with("", &tls.replace("/a.", "/b.")));
        assert_eq!(adopted.certificates[0].chain, Path::new("/b.pem"));
        let trusted = "trusted_proxies = \"10.0.0.1\"\n";
        let old = with(trusted, &proxied);
        for new in [plain, ""] {
            let (adopted, waiting) = adopt(&old, with("", new));
            assert_eq!(adopted, old, "{new}");
            assert!(waiting.contains(&"trusted_proxies"), "{waiting:?}");
        }
        // Where no listener needs them they go at once.
        let (adopted, _) = adopt(&with(trusted, plain), with("", plain));
        assert!(adopted.accounts.trusted_proxies.is_empty());
    }

    #[test]
    fn another_secret_in_the_same_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        let text = format!(
            "{OLD}[events]\nwebhook = \"http://h/\"\nwebhook_secret_file = \"{}\"\n",
            file.display()
        );
        let with = |secret: &str| {
            std::fs::write(&file, secret).unwrap();
            config(&text)
        };
        let (old, new) = (with("sixteen letters 1"), with("sixteen letters 2"));
        let (adopted, waiting) = adopt(&old, new);
        assert_eq!(waiting, ["events.webhook_secret_file"]);
        assert_eq!(adopted, old);
        let (_, waiting) = adopt(&old, config(OLD));
        let keys = ["events.webhook", "events.webhook_secret_file"];
        assert_eq!(waiting, keys, "each once");
    }

    #[test]
    fn each_limit_is_taken_over_or_named() {
        for (index, row) in Limits::ROWS.iter().enumerate() {
            let Form::Number(Number { bounds, .. }) = &row.form else {
                panic!("{}", row.key)
            };
            let is_least = Limits::default().value(index) == Value::Number(Some(*bounds.start()));
            let other = if is_least {
                bounds.end()
            } else {
                bounds.start()
            };
            let name = row.name();
            let (adopted, waiting) = adopt(
                &config(OLD),
                config(&format!("{OLD}[limits]\n{name} = {other}\n")),
            );
            assert_eq!(adopted == config(OLD), !row.is_live, "{name}");
            assert_eq!(waiting.is_empty(), row.is_live, "{name}");
            assert!(waiting.iter().all(|key| *key == row.key), "{waiting:?}");
        }
    }

    #[test]
    fn several_keys_are_named_in_the_order_of_the_documentation() {
        let new = config(
            "root = \"/x\"\ncores = 2\nio = \"ring\"\n[limits]\nheaders_max = 8\nmailbox_max = 1\n",
        );
        let old = config("root = \"/r\"\ncores = 1\n");
        let (_, waiting) = adopt(&old, new);
        let expected = [
            "root",
            "work_dir",
            "cores",
            "io",
            "limits.headers_max",
            "limits.mailbox_max",
        ];
        assert_eq!(waiting, expected);
    }

    #[test]
    fn roots_keep_their_indexes_and_new_ones_follow() {
        let old = config(OLD);
        // Longest prefix first, so that the new roots come in another order than the old ones did.
        let new = config(
            "root = \"/r\"\nwork_dir = \"/w\"\nlisten = \"127.0.0.1:1\"\ncores = 1\n\
             [[location]]\nprefix = \"new\"\nroot = \"/new\"\n[[location]]\nprefix = \"b\"\nroot = \"/b\"\n\
             [[location]]\nprefix = \"main\"\nroot = \"/r\"\n[[location]]\nprefix = \"inherits\"\n",
        );
        let (adopted, waiting) = adopt(&old, new);
        assert_eq!(waiting, [""; 0]);
        let expected = ["/r", "/a", "/b", "/new"].map(Path::new);
        assert_eq!(
            adopted.roots, expected,
            "/a stays though nothing leads to it"
        );
        assert_eq!(place(&adopted, "b/x"), ("/b", "x"));
        assert_eq!(place(&adopted, "new/x"), ("/new", "x"));
        assert_eq!(place(&adopted, "main/x"), ("/r", "x"));
        assert_eq!(place(&adopted, "inherits/x"), ("/r", "inherits/x"));
        assert_eq!(place(&adopted, "a/x"), ("/r", "a/x"));
        let (back, _) = adopt(&adopted, old);
        assert_eq!(back.roots, expected);
        assert_eq!(place(&back, "a/x"), ("/a", "x"));
    }

    #[test]
    fn a_location_inherits_the_root_that_stays() {
        let new = OLD.replace("\"/r\"", "\"/moved\"")
            + "[[location]]\nprefix = \"c\"\n[[location]]\nprefix = \"d\"\nroot = \"/moved\"\n";
        let (adopted, waiting) = adopt(&config(OLD), config(&new));
        assert_eq!(waiting, ["root"]);
        assert_eq!(place(&adopted, "c/x"), ("/r", "c/x"));
        assert_eq!(place(&adopted, "x"), ("/r", "x"));
        assert_eq!(
            place(&adopted, "d/x"),
            ("/moved", "x"),
            "its own root is the new one"
        );
    }

    #[test]
    fn a_location_in_the_work_directory_that_stays_takes_no_uploads() {
        let new = OLD
            .replace("\"/w\"", "\"/w2\"")
            .replace("\"/a\"", "\"/w/a\"");
        let (adopted, waiting) = adopt(&config(OLD), config(&new));
        assert_eq!(waiting, ["work_dir"]);
        assert!(!adopted.location("a/x").is_enabled);
        assert!(adopted.location("b/x").is_enabled);
        assert!(adopted.location("x").is_enabled);
    }
}
