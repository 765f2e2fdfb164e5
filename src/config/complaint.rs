//! Why a key does not take what was written, in words that say what to write instead.

use std::net::SocketAddr;

use super::quantity::BadQuantity;
use super::shown;
use crate::http::path::BadTarget;

/// Why a key does not take what was written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Complaint {
    /// It is not what the key takes.
    Unusable,
    /// A number or a truth value stands in quotes.
    InQuotes,
    /// The same of a flag or a variable, where nobody has written quotes.
    NoNumber,
    OutOfBounds,
    Quantity(BadQuantity),
    /// One of several texts is none that it takes.
    NotOneOf(String),
    /// One of the addresses is none.
    NotAnAddress(String),
    NothingToListenOn,
    /// An address stands twice: the server would find its own port in use.
    ListedTwice(SocketAddr),
    /// One address is among those that another stands for.
    Covered(SocketAddr, SocketAddr),
    EmptyPath,
    /// What only a shell would replace.
    ShellPath,
    /// A path of Windows, which would make a folder called `D:\..` here.
    WindowsPath,
    /// A directory with blanks at its ends, or with control characters.
    OddPath,
    Prefix(BadTarget),
    /// It stands already somewhere.
    Repeated(String),
    /// It means nothing without something else: what, and what is to be known of that.
    Needs(String),
    /// It does nothing as things are.
    Without(&'static str),
    NoSuchGroup(String),
    /// The same, and what was meant: the end of the sentence.
    Meant(Box<Complaint>, String),
}

impl Complaint {
    /// Who is asked for is in no file.
    pub fn needs_file(key: &str) -> Self {
        let what = match key {
            "users_file" => "users and their passwords stand",
            "tokens_file" => "tokens stand",
            "certificates_file" => "fingerprints of certificates stand",
            _ => "keys of this server in Kerberos stand",
        };
        Self::Needs(format!("`{key}`: the file in which the {what}"))
    }

    /// Digests that are not computed together.
    pub fn of_digests(words: &[String]) -> Self {
        match words.iter().any(|word| word == "none") {
            true => {
                let alone = "; \"none\" stands alone".to_owned();
                Self::Meant(Box::new(Self::Unusable), alone)
            }
            false => Self::Needs(DIGESTS_TAKE.to_owned()),
        }
    }

    /// What follows `key = value`.
    pub fn in_words(&self, takes: &str) -> String {
        let says = |begin: &str| format!("{begin}: it takes {takes}");
        match self {
            Self::Unusable => says("cannot be used"),
            Self::InQuotes => says("is a string") + ", without quotes",
            Self::NoNumber => says("is no number"),
            Self::OutOfBounds => says("is out of bounds"),
            Self::Quantity(why) => format!("cannot be read: {why}"),
            Self::NotOneOf(text) => says(&format!("cannot be used: {} is none of it", shown::text(text))),
            Self::NotAnAddress(why) => format!("cannot be used: {why}"),
            Self::NothingToListenOn => "is empty: name at least one ADDR:PORT".to_owned(),
            Self::ListedTwice(address) => format!("cannot be used: {address} stands there twice"),
            Self::Covered(one, all) => {
                format!("cannot be used: {all} takes {one} in, and the settings name both: leave one out")
            }
            Self::EmptyPath => "is empty: name a directory, `.` for this one".to_owned(),
            Self::ShellPath => {
                "is a path for a shell, which nobody replaces here: write it whole, such as /srv/uploads"
                    .to_owned()
            }
            Self::WindowsPath => {
                says("is a path of Windows, for Linux a mere name") + ", such as /srv/uploads"
            }
            Self::OddPath => {
                "cannot be used: no directory here has blanks at its ends, or control characters"
                    .to_owned()
            }
            Self::Prefix(why) => format!("cannot be used: {why}; it takes {takes}"),
            Self::Repeated(place) => format!("stands already at {place}"),
            Self::Needs(what) => format!("needs {what}"),
            Self::Without(what) => format!("does nothing without {what}"),
            Self::Meant(why, hint) => why.in_words(takes) + hint,
            Self::NoSuchGroup(group) => {
                let group = shown::text(group);
                format!("names the group {group}, which does not stand in `groups_file`")
            }
        }
    }
}

const DIGESTS_TAKE: &str =
    "\"none\", \"sha-256\", or [\"sha-256\", \"sha-1\"]: SHA-1 alone proves little";
