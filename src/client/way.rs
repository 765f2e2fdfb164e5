//! Where the packets of an upload go: to the host of its URL, and from the Ack of Create-Session on
//! to the node of a farm that has the session (`BITS-Host-Id`, MC-BUP 2.2.3.2).

use std::time::{Duration, Instant};

use super::authorization::Authorization;
use super::connection::{Broken, Connection, Timeouts};
use super::secure::Secure;
use super::url::Url;

/// The way of one upload.
#[derive(Debug)]
pub struct Way {
    home: Url,
    node: Option<Node>,
    /// What each packet shows of who sends it.
    shown: Option<Authorization>,
}

#[derive(Debug)]
struct Node {
    url: Url,
    /// How long it may be out of reach before the upload begins anew at home; for ever if nobody
    /// says it.
    fallback: Option<Duration>,
    unreachable_since: Option<Instant>,
    /// Its name is not known here, or nothing may be shown there of who sends. A balancer at home
    /// may know it, so it is asked for there.
    is_sought_at_home: bool,
}

impl Way {
    /// To the host of the URL.
    pub fn home(home: Url) -> Self {
        Self {
            home,
            node: None,
            shown: None,
        }
    }

    /// Each packet shows these.
    pub fn showing(mut self, shown: Option<&Authorization>) -> Self {
        self.shown = shown.cloned();
        self
    }

    /// The URL that is asked for.
    pub fn url(&self) -> &Url {
        self.node.as_ref().map_or(&self.home, |node| &node.url)
    }

    /// From now on to the node of this name; `false` if that is no change. What is no host is not
    /// followed. Whoever answers at home says the name, and sends no password and no token to
    /// another machine in the clear by it: such a node is asked for at home.
    pub fn lead_to(&mut self, host: &str, fallback: Option<Duration>) -> bool {
        let Some(url) = self.home.at_host(host).filter(|url| url != self.url()) else {
            return false;
        };
        let may_not_hear = |shown: &Authorization| shown.check(&url).is_err();
        let is_sought_at_home = self.shown.as_ref().is_some_and(may_not_hear);
        self.node = Some(Node {
            url,
            fallback,
            unreachable_since: None,
            is_sought_at_home,
        });
        true
    }

    /// The node has nothing of ours any more; whether that is a change.
    pub fn lead_home(&mut self) -> bool {
        self.node.take().is_some()
    }

    /// Whether nobody knows who answers: a node was asked for at a host of another name.
    pub fn is_doubtful(&self) -> bool {
        self.node.as_ref().is_some_and(|it| it.is_sought_at_home)
    }

    /// Connects to whoever is to be asked.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub fn connect(
        &mut self,
        timeouts: Timeouts,
        secure: Option<&Secure>,
    ) -> Result<Connection, Broken> {
        if let Some(node) = self.node.as_mut().filter(|node| !node.is_sought_at_home) {
            match Connection::open(&node.url, timeouts, secure) {
                Err(Broken::LookUp(_)) => node.is_sought_at_home = true,
                Err(Broken::Connect(error)) => {
                    let since = node.unreachable_since.get_or_insert_with(Instant::now);
                    let is_over = |fallback| since.elapsed() >= fallback;
                    if !node.fallback.is_some_and(is_over) {
                        return Err(Broken::Connect(error));
                    }
                    self.node = None;
                }
                opened => {
                    node.unreachable_since = None;
                    return opened;
                }
            }
        }
        Connection::open(&self.home, timeouts, secure)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn way(text: &str) -> Way {
        Way::home(text.parse().unwrap())
    }

    #[test]
    fn a_node_is_asked_for_by_its_name_with_the_port_and_path_of_the_url() {
        let mut way = way("http://farm.example:8080/in/a.bin");
        assert!(way.lead_to("node2.example", None));
        assert_eq!(way.url().to_string(), "http://node2.example:8080/in/a.bin");
        assert!(!way.lead_to("node2.example", None), "it is there already");
        assert!(way.lead_to("2001:db8::7", None));
        assert_eq!(way.url().authority(), "[2001:db8::7]:8080");
        for none in ["", "a b", "node:81", "node/x", "u@node", "\u{e4}"] {
            assert!(!way.lead_to(none, None), "{none}");
        }
        assert!(way.lead_home() && !way.lead_home());
        assert_eq!(way.url().authority(), "farm.example:8080");
    }

    #[test]
    fn a_node_on_another_machine_hears_nothing_in_the_clear_of_who_sends() {
        let shown = Authorization::basic("anna", "sesame").unwrap();
        for (home, node, is_sought_at_home) in [
            ("http://127.0.0.1/a", "192.0.2.2", true),
            ("http://127.0.0.1/a", "node2.example", true),
            ("http://127.0.0.1/a", "127.0.0.2", false),
            ("https://farm.example/a", "node2.example", false),
        ] {
            let mut way = way(home).showing(Some(&shown));
            assert!(way.lead_to(node, None));
            assert_eq!(way.is_doubtful(), is_sought_at_home, "{home} {node}");
            assert_eq!(way.url().host(), node);
        }
        let mut way = way("http://127.0.0.1/a");
        assert!(way.lead_to("192.0.2.2", None) && !way.is_doubtful());
    }

    #[test]
    fn a_node_that_cannot_be_reached_is_given_up_in_time() {
        let home = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = home.local_addr().unwrap().port();
        let timeouts = Timeouts::default();
        let mut way = way(&format!("http://127.0.0.1:{port}/a"));
        // Nobody listens there.
        assert!(way.lead_to("127.0.0.9", Some(Duration::from_secs(3600))));
        assert!(matches!(
            way.connect(timeouts, None),
            Err(Broken::Connect(_))
        ));
        assert_eq!(way.url().host(), "127.0.0.9", "it may come back");
        assert!(way.lead_to("127.0.0.8", Some(Duration::ZERO)));
        way.connect(timeouts, None).unwrap();
        assert_eq!(way.url().host(), "127.0.0.1");
        // A name that nobody knows here.
        assert!(way.lead_to("node.invalid", None));
        way.connect(timeouts, None).unwrap();
        assert!(way.is_doubtful());
        assert_eq!(way.url().host(), "node.invalid");
    }
}
