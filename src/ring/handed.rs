//! Descriptors that were open before this program began, and that it goes on with: listeners, which
//! outlive the process that made them, the locks of the work directory, and the settings as they
//! were checked.
//!
//! They come from the service manager (its store of descriptors, or a `.socket` unit:
//! sd_listen_fds(3)) or from the program that ran in this process before ([`super::successor`]).
//! What each of them is, is asked of the descriptor itself: names can be wrong.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{MemfdFlags, Stat};
use rustix::io::FdFlags;
use rustix::net::{SocketType, ipproto, sockopt};

use super::reach::Reach;
use super::service;
use crate::config::FILE_BYTES_MAX;

/// What a service manager says of the descriptors that it hands on.
pub const FROM_MANAGER: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];
/// What the program says that ran in this process before.
pub const FROM_PREDECESSOR: &str = "BITSD_HANDED_ON";
/// The work directory of the server that makes way: whoever is asked whether it can go on looks for
/// uploads there, and whoever begins keeps it. A version that does not know it does without.
pub const WORK_OF_PREDECESSOR: &str = "BITSD_GOES_ON_WITH";

/// The first descriptor that a service manager hands on (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;
/// No one hands on more: as many as a program may have open on most hosts.
const HANDED_MAX: usize = 65_536;

/// Where a descriptor comes from, and what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    /// A listener, by this name in the store of the service manager.
    Manager(String),
    /// A listener of the program before.
    Listener,
    /// A lock of the program before.
    Lock,
    /// The settings that it has checked.
    Settings,
}

/// The descriptors that the environment names, each once.
fn mentioned(variable: impl Fn(&str) -> Option<String>, process: u32) -> Vec<(RawFd, Origin)> {
    let number = |name: &str| variable(name).and_then(|text| text.trim().parse::<usize>().ok());
    let mut found = Vec::new();
    let [for_whom, count, names] = FROM_MANAGER;
    if number(for_whom) == usize::try_from(process).ok() {
        let count = number(count).unwrap_or(0).min(HANDED_MAX);
        let names = variable(names).unwrap_or_default();
        let mut names = names.split(':');
        for number in (FIRST..).take(count) {
            let name = names.next().unwrap_or_default().to_owned();
            found.push((number, Origin::Manager(name)));
        }
    }
    let text = variable(FROM_PREDECESSOR).unwrap_or_default();
    let mut words = text.split(' ');
    if words.next().and_then(|word| word.parse().ok()) == Some(process) {
        for word in words.take(HANDED_MAX) {
            let (origin, number) = match word.split_once('=') {
                Some(("listener", number)) => (Origin::Listener, number),
                Some(("lock", number)) => (Origin::Lock, number),
                Some(("settings", number)) => (Origin::Settings, number),
                _ => continue,
            };
            if let Ok(number) = number.parse() {
                found.push((number, origin));
            }
        }
    }
    let mut seen = BTreeSet::new();
    found.retain(|(number, _)| *number >= FIRST && seen.insert(*number));
    found
}

/// What `mentioned` reads in the program that comes after this one.
pub fn mention(process: u32, listeners: &[RawFd], locks: &[RawFd], settings: &[RawFd]) -> String {
    let mut text = process.to_string();
    let all = [
        ("listener", listeners),
        ("lock", locks),
        ("settings", settings),
    ];
    for (word, numbers) in all {
        for number in numbers {
            text.push_str(&format!(" {word}={number}"));
        }
    }
    text
}

/// All that was handed on.
#[derive(Debug, Default)]
pub struct Handed {
    /// Listening TCP sockets, each once.
    pub listeners: Vec<HandedListener>,
    /// Locks of folders.
    pub locks: HandedLocks,
    /// By which settings to begin; `None`: as they are now.
    pub terms: Option<HandedTerms>,
    /// What else was called a listener, and is closed by now.
    pub strangers: Vec<Stranger>,
    /// A service manager holds the listeners, too: whatever is done to them is done to its own.
    pub is_managed: bool,
}

/// By which settings the program before has found that this one can begin.
#[derive(Debug)]
pub struct HandedTerms {
    /// What stood in the settings file; nothing where there was none.
    pub settings: Vec<u8>,
    /// The work directory, where it must not be the one that they name: uploads would be left
    /// behind.
    pub work_dir: Option<PathBuf>,
}

impl HandedTerms {
    fn read(settings: OwnedFd) -> Option<Self> {
        let work_dir = std::env::var_os(WORK_OF_PREDECESSOR).filter(|path| !path.is_empty());
        Some(Self {
            settings: read_settings(File::from(settings)).ok()?,
            work_dir: work_dir.map(PathBuf::from),
        })
    }
}

/// Settings in memory, to be handed on: nobody changes them on the way.
///
/// # Errors
/// What the kernel says.
pub fn hold_settings(text: &[u8]) -> io::Result<OwnedFd> {
    let held = rustix::fs::memfd_create("settings", MemfdFlags::CLOEXEC)?;
    let mut held = File::from(held);
    held.write_all(text)?;
    held.rewind()?;
    Ok(held.into())
}

/// What is held there. Whoever was asked about them may have read them from the same description.
///
/// # Errors
/// What the kernel says.
pub fn read_settings(mut held: File) -> io::Result<Vec<u8>> {
    held.rewind()?;
    let mut text = Vec::new();
    held.take(FILE_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// A listening socket that was handed on.
#[derive(Debug)]
pub struct HandedListener {
    /// The socket.
    pub socket: OwnedFd,
    /// What it is bound to.
    pub address: SocketAddr,
    /// Others may listen on the address beside it (`SO_REUSEPORT`).
    pub is_in_group: bool,
    /// It takes IPv4 as well as IPv6.
    pub takes_ipv4: bool,
    /// Its name in the service manager's store; empty where it has none.
    pub name: String,
}

/// A descriptor that should have been a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// Its name in the service manager's store.
    pub name: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl HandedListener {
    /// What it takes.
    pub fn reach(&self) -> Reach {
        Reach {
            address: self.address,
            takes_ipv4: self.takes_ipv4,
        }
    }

    /// Whether a server of ours has made it, and nobody has it but this one and the store of the
    /// service manager. That of a `.socket` unit stays the unit's, which fails if it ends.
    pub fn is_ours(&self) -> bool {
        let of_store = || self.name == service::name_of(self.address);
        self.is_in_group && (self.name.is_empty() || of_store())
    }
}

impl Handed {
    /// Takes them. To be called first of all, once: later, a number may be another descriptor's.
    pub fn take() -> Self {
        static IS_TAKEN: AtomicBool = AtomicBool::new(false);
        let mut handed = Self::default();
        if IS_TAKEN.swap(true, Ordering::SeqCst) {
            return handed;
        }
        let mut cookies = BTreeSet::new();
        for (number, origin) in mentioned(|name| std::env::var(name).ok(), std::process::id()) {
            let Some(descriptor) = adopt(number) else {
                continue;
            };
            let name = match origin {
                Origin::Lock => {
                    handed.locks.0.push(descriptor);
                    continue;
                }
                Origin::Settings => {
                    handed.terms = HandedTerms::read(descriptor);
                    continue;
                }
                Origin::Manager(name) => {
                    handed.is_managed = true;
                    name
                }
                Origin::Listener => String::new(),
            };
            // One that a unit has and the store has, too, is one.
            let cookie = sockopt::socket_cookie(&descriptor);
            if cookie.is_ok_and(|cookie| !cookies.insert(cookie)) {
                continue;
            }
            match look(&descriptor) {
                Ok((address, is_in_group)) => handed.listeners.push(HandedListener {
                    takes_ipv4: takes_ipv4(&descriptor, address),
                    socket: descriptor,
                    address,
                    is_in_group,
                    name,
                }),
                Err(why) => handed.strangers.push(Stranger { name, why }),
            }
        }
        handed
    }
}

/// Takes a descriptor by its number, if there is one; no program that is started gets it.
fn adopt(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: it lives for this function only, and nothing is done by it but to ask whether there
    // is such a descriptor.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_getfd(borrowed).ok()?;
    // SAFETY: it is open, and whoever started this program says that it is handed on. Nobody else
    // here has it: this is done once, before anything else is opened, and no number comes twice.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&descriptor, FdFlags::CLOEXEC).ok()?;
    Some(descriptor)
}

/// The address of a listener, and whether others may join it; or why it is none.
fn look(descriptor: &OwnedFd) -> Result<(SocketAddr, bool), &'static str> {
    let stranger = |_| "it is no socket";
    let kind = sockopt::socket_type(descriptor).map_err(stranger)?;
    let protocol = sockopt::socket_protocol(descriptor).map_err(stranger)?;
    if kind != SocketType::STREAM || protocol != Some(ipproto::TCP) {
        return Err("it is no TCP socket");
    }
    if !sockopt::socket_acceptconn(descriptor).is_ok_and(|listens| listens) {
        return Err("it does not listen");
    }
    let address = rustix::net::getsockname(descriptor).ok();
    let address = address.and_then(|address| SocketAddr::try_from(address).ok());
    let address = address.ok_or("its address cannot be told")?;
    // A service manager's do not wait, and the ring would be told so instead of waiting.
    let flags = rustix::fs::fcntl_getfl(descriptor).map_err(stranger)?;
    let waits = flags - rustix::fs::OFlags::NONBLOCK;
    rustix::fs::fcntl_setfl(descriptor, waits).map_err(stranger)?;
    let is_in_group = sockopt::socket_reuseport(descriptor).is_ok_and(|is_set| is_set);
    Ok((address, is_in_group))
}

fn takes_ipv4(listener: &OwnedFd, address: SocketAddr) -> bool {
    address.is_ipv6() && sockopt::ipv6_v6only(listener).is_ok_and(|is_only| !is_only)
}

/// Locks that the program before has taken. The kernel knows them by what is open, so this program
/// has them as well, and there is no moment at which nobody has.
#[derive(Debug, Default)]
pub struct HandedLocks(Vec<OwnedFd>);

impl HandedLocks {
    /// Takes out what is the same file or folder.
    pub fn of(&mut self, locked: impl AsFd) -> Option<OwnedFd> {
        let identity = |stat: Stat| (stat.st_dev, stat.st_ino);
        let wanted = identity(rustix::fs::fstat(locked).ok()?);
        let is_it =
            |lock: &OwnedFd| rustix::fs::fstat(lock).is_ok_and(|stat| identity(stat) == wanted);
        let at = self.0.iter().position(is_it)?;
        Some(self.0.swap_remove(at))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, UdpSocket};

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Vec<(RawFd, Origin)> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        mentioned(variable, 7)
    }

    fn manager(name: &str) -> Origin {
        Origin::Manager(name.to_owned())
    }

    #[test]
    fn what_a_manager_hands_on_is_for_the_process_that_it_names() {
        let three = [
            ("LISTEN_PID", "7"),
            ("LISTEN_FDS", "3"),
            ("LISTEN_FDNAMES", "a:b"),
        ];
        let expected = [(3, manager("a")), (4, manager("b")), (5, manager(""))];
        assert_eq!(read(&three), expected);
        assert_eq!(read(&[("LISTEN_PID", "8"), ("LISTEN_FDS", "3")]), []);
        assert_eq!(read(&[("LISTEN_FDS", "3")]), []);
        assert_eq!(read(&[("LISTEN_PID", "7"), ("LISTEN_FDS", "-1")]), []);
        let many = read(&[("LISTEN_PID", "7"), ("LISTEN_FDS", "99999999999")]);
        assert_eq!(many.len(), HANDED_MAX);
    }

    #[test]
    fn what_the_program_before_has_said_is_read_back() {
        let text = mention(7, &[9, 4], &[11], &[12]);
        let expected = [
            (9, Origin::Listener),
            (4, Origin::Listener),
            (11, Origin::Lock),
            (12, Origin::Settings),
        ];
        assert_eq!(read(&[(FROM_PREDECESSOR, &text)]), expected);
        let another = mention(8, &[9], &[], &[]);
        assert_eq!(read(&[(FROM_PREDECESSOR, &another)]), []);
        let odd = "7 listener=x lock=2 listener=-4 listener=5 listener=5 lock=5 else=6 listener";
        assert_eq!(read(&[(FROM_PREDECESSOR, odd)]), [(5, Origin::Listener)]);
    }

    #[test]
    fn only_what_listens_for_tcp_is_a_listener() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = OwnedFd::from(listener);
        assert_eq!(look(&listener), Ok((address, false)));
        let flags = rustix::fs::fcntl_getfl(&listener).unwrap();
        assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
        let connected = std::net::TcpStream::connect(address).unwrap();
        assert_eq!(look(&connected.into()), Err("it does not listen"));
        let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert_eq!(look(&other.into()), Err("it is no TCP socket"));
        let file = tempfile::tempfile().unwrap();
        assert_eq!(look(&file.into()), Err("it is no socket"));
    }

    #[test]
    fn settings_that_are_held_can_be_read_more_than_once() {
        let held = hold_settings(b"strict = true").unwrap();
        for _ in 0..2 {
            let same = File::from(held.try_clone().unwrap());
            assert_eq!(read_settings(same).unwrap(), b"strict = true");
        }
    }

    #[test]
    fn a_lock_is_known_by_its_file() {
        let (one, other) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let mut locks = HandedLocks(vec![one.try_clone().unwrap().into()]);
        assert!(locks.of(&other).is_none());
        assert!(locks.of(&one).is_some());
        assert!(locks.of(&one).is_none());
    }
}
