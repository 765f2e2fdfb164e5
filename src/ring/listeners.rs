//! The addresses that the server listens on: their sockets, and which settings hold for each.
//!
//! Sockets outlive the process that made them: closing one resets all who wait in its queue, also
//! where another one has the same address (`SO_REUSEPORT`). So what was handed on is used again.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::handed::{Handed, HandedListener, Stranger};
use super::launch_error::LaunchError;
use super::reach::Reach;
use super::{net, service};
use crate::config::Config;

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address; after listening with its real port.
    pub address: SocketAddr,
    /// The number of its entry among [`Config::listeners`], if it has one.
    pub entry: Option<usize>,
    /// Whether clients must speak TLS.
    pub is_secure: bool,
}

/// All addresses that the settings name.
pub fn addresses(config: &Config) -> impl Iterator<Item = Address> {
    let plain = config.listen.iter().map(|&address| Address {
        address,
        entry: None,
        is_secure: false,
    });
    let entries = config.listeners.iter().enumerate();
    let others = entries.flat_map(|(entry, listener)| {
        listener.address.iter().map(move |&address| Address {
            address,
            entry: Some(entry),
            is_secure: listener.tls,
        })
    });
    plain.chain(others)
}

/// Those of all IPv6 addresses beside which nothing listens on IPv4 at the same port: they do not
/// take it as well, as those of many other programs do.
pub fn without_ipv4(config: &Config) -> Vec<SocketAddr> {
    let all: Vec<_> = addresses(config).map(|one| one.address).collect();
    let has_ipv4 = |port| all.iter().any(|one| one.is_ipv4() && one.port() == port);
    let is_alone = |one: &&SocketAddr| {
        one.is_ipv6() && one.ip().is_unspecified() && one.port() != 0 && !has_ipv4(one.port())
    };
    all.iter().filter(is_alone).copied().collect()
}

/// Whether the server does without an address that cannot be listened on: that of all IPv6 where
/// there is no IPv6 for it, beside one of IPv4 at the same port, with the same settings. Nobody
/// misses it, for nobody could come there; and settings are written for more than one machine.
pub fn is_dispensable(config: &Config, address: SocketAddr, error: &io::Error) -> bool {
    let is_ipv6_missing = error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error());
    let is_all = address.is_ipv6() && address.ip().is_unspecified();
    let mut entries = addresses(config).filter(|one| one.address == address);
    is_ipv6_missing
        && is_all
        && entries.all(|missing| {
            addresses(config).any(|one| {
                let is_beside = one.address.is_ipv4() && one.address.port() == address.port();
                is_beside && one.entry == missing.entry
            })
        })
}

/// What is said of one.
pub fn left_out(address: SocketAddr) -> String {
    format!("{address} is left out: {}", net::why_no_ipv6())
}

/// The sockets of one shard, each with the number of its entry, if it has one.
pub type Sockets = Vec<(Arc<OwnedFd>, Option<usize>)>;

/// All listeners of the server.
pub struct Listening {
    /// With their real ports.
    pub addresses: Vec<Address>,
    /// The sockets of each of the addresses.
    sockets: Vec<Vec<Arc<OwnedFd>>>,
    /// How many of them were handed on.
    pub taken_over: usize,
    /// Handed on, and no address of the settings.
    unnamed: Vec<HandedListener>,
    strangers: Vec<Stranger>,
    /// A service manager has the same sockets.
    pub is_managed: bool,
}

/// Which of the wanted addresses each of those that were handed on is for. Port 0 is any port: it
/// takes those that nobody names, of one port each. But none that is in the way of what is named:
/// of a listener at another address of that port, or of the administrator's interface.
fn assign(wanted: &[SocketAddr], admin: &[SocketAddr], handed: &[Reach]) -> Vec<Option<usize>> {
    let of_clients = wanted.iter().copied().map(Reach::of_clients);
    let of_admin = admin.iter().copied().map(Reach::of_admin);
    let named: Vec<_> = of_clients.chain(of_admin).collect();
    let mut real = wanted.to_vec();
    let mut assigned = Vec::new();
    for reach in handed {
        let address = reach.address;
        let exactly = real.iter().position(|known| *known == address);
        let is_free = !named.iter().any(|named| named.overlaps(*reach));
        let any_port =
            || (real.iter()).position(|known| known.port() == 0 && known.ip() == address.ip());
        let place = exactly.or_else(|| is_free.then(any_port).flatten());
        if let Some(place) = place {
            real[place] = address;
        }
        assigned.push(place);
    }
    assigned
}

/// Which of so many sockets each shard accepts from: each socket has a shard, and each shard has a
/// socket.
fn shares(sockets: usize, shards: usize) -> Vec<Vec<usize>> {
    let share = |shard| match shard < sockets {
        true => (shard..sockets).step_by(shards).collect(),
        false => vec![shard % sockets],
    };
    (0..shards).map(share).collect()
}

impl Listening {
    /// Takes what was handed on, and makes the sockets that are missing: one per address for each
    /// shard, as far as the address may be shared. What no address of the settings names stays for
    /// the next start if this one fails, except where one of them could not be had beside it.
    ///
    /// # Errors
    /// [`LaunchError::Listen`]
    pub fn begin(config: &Config, handed: Handed) -> Result<Self, LaunchError> {
        let mut addresses: Vec<_> = addresses(config).collect();
        let wanted: Vec<_> = addresses.iter().map(|wanted| wanted.address).collect();
        let found: Vec<_> = handed.listeners.iter().map(HandedListener::reach).collect();
        let mut groups: Vec<Group> = addresses.iter().map(|_| Group::default()).collect();
        let mut unnamed = Vec::new();
        let assigned = assign(&wanted, &config.admin_listen, &found);
        let taken = found.iter().zip(&assigned);
        let taken = taken.filter(|(_, place)| place.is_some());
        let taken: Vec<_> = taken.map(|(reach, _)| *reach).collect();
        for (listener, place) in handed.listeners.into_iter().zip(assigned) {
            match place {
                None => unnamed.push(listener),
                Some(place) => {
                    addresses[place].address = listener.address;
                    groups[place].take(listener);
                }
            }
        }
        let to_make = to_make(config, &addresses, &groups);
        tell_of_both_families(&taken, &to_make);
        give_up_overlapping(&mut unnamed, &to_make);
        let taken_over = groups.iter().map(|group| group.sockets.len()).sum();
        let completed = complete(config, addresses.into_iter().zip(groups), Group::complete)?;
        let (addresses, sockets) = completed.into_iter().unzip();
        Ok(Self {
            addresses,
            sockets,
            taken_over,
            unnamed,
            strangers: handed.strangers,
            is_managed: handed.is_managed,
        })
    }

    /// The sockets of each of so many shards.
    pub fn of_shards(&self, shards: usize) -> Vec<Sockets> {
        let mut all: Vec<Sockets> = (0..shards).map(|_| Vec::new()).collect();
        for (address, group) in self.addresses.iter().zip(&self.sockets) {
            for (sockets, share) in all.iter_mut().zip(shares(group.len(), shards)) {
                let share = share.into_iter().map(|at| Arc::clone(&group[at]));
                sockets.extend(share.map(|socket| (socket, address.entry)));
            }
        }
        all
    }

    /// All sockets.
    pub fn all(&self) -> Vec<Arc<OwnedFd>> {
        self.sockets.iter().flatten().cloned().collect()
    }

    /// Each address with its sockets.
    pub fn groups(&self) -> impl Iterator<Item = (SocketAddr, &[Arc<OwnedFd>])> {
        let groups = self.addresses.iter().zip(&self.sockets);
        groups.map(|(address, sockets)| (address.address, &sockets[..]))
    }

    /// Closes what was handed on and has no place among the settings, and gives the names that the
    /// service manager has for it. To be called when this server serves: one that cannot start
    /// leaves all to the next.
    pub fn part_from_unnamed(&mut self) -> Vec<String> {
        let mut names = BTreeSet::new();
        for Stranger { name, why } in self.strangers.drain(..) {
            let event = "descriptor_refused";
            tracing::warn!(
                event,
                name,
                why,
                "a descriptor that was handed on as a listener is none"
            );
            names.insert(name);
        }
        for listener in self.unnamed.drain(..) {
            tell_dropped(&listener);
            // The store may have it also where it comes from the program before.
            names.insert(service::name_of(listener.address));
            names.insert(listener.name);
        }
        names.into_iter().filter(|name| !name.is_empty()).collect()
    }
}

/// What sockets are missing for: addresses of clients that none was handed on for, and those of the
/// administrator's interface, which are made later.
fn to_make(config: &Config, addresses: &[Address], groups: &[Group]) -> Vec<Reach> {
    let missing = addresses.iter().zip(groups);
    let missing = missing.filter(|(_, group)| group.sockets.is_empty());
    let missing = missing.map(|(one, _)| Reach::of_clients(one.address));
    let admin = config.admin_listen.iter().copied().map(Reach::of_admin);
    missing.chain(admin).collect()
}

/// Says which of those that are used take IPv4 as well, and so are in the way of an address of the
/// settings: it cannot be changed once they listen.
fn tell_of_both_families(taken: &[Reach], to_make: &[Reach]) {
    for reach in taken.iter().filter(|reach| reach.takes_ipv4) {
        let in_the_way = to_make.iter().find(|wanted| wanted.overlaps(*reach));
        if let Some(Reach { address: of, .. }) = in_the_way {
            let (event, address) = ("listener_takes_ipv4", reach.address);
            tracing::warn!(event, %address, %of, "it takes IPv4 as well, and so nothing else can listen on that: say \
                 BindIPv6Only=ipv6-only in its .socket unit");
        }
    }
}

/// Closes those that the settings do not name and that are in the way of what they name: nobody
/// else has the address, and it could never be listened on.
fn give_up_overlapping(unnamed: &mut Vec<HandedListener>, to_make: &[Reach]) {
    let in_the_way = |listener: &mut HandedListener| {
        let reach = listener.reach();
        to_make.iter().any(|wanted| wanted.overlaps(reach))
    };
    let mut names = BTreeSet::new();
    for listener in unnamed.extract_if(.., in_the_way) {
        if !listener.is_ours() {
            let (event, address, name) = ("listener_dropped", listener.address, &listener.name);
            tracing::warn!(event, %address, name, "it is in the way of an address of the settings, and whoever handed it on may \
                 still have it: name its address in the settings, or theirs in its .socket unit (ListenStream=)");
            names.insert(listener.name);
            continue;
        }
        tell_dropped(&listener);
        // Also the copy of the service manager, which may close it later.
        net::stop_listening(&listener.socket);
        names.insert(service::name_of(listener.address));
    }
    let names = names.iter().filter(|name| !name.is_empty());
    names.for_each(|name| service::forget(name));
}

fn tell_dropped(listener: &HandedListener) {
    let (event, address) = ("listener_dropped", listener.address);
    let waiting = net::empty_queue(&listener.socket);
    tracing::info!(event, %address, waiting, "nobody listens there any more: the settings do not name it");
}

/// Addresses with their real ports, and the sockets of each.
type Completed = Vec<(Address, Vec<Arc<OwnedFd>>)>;

/// Makes what is missing at each of the addresses, and leaves out those that the server does
/// without.
fn complete(
    config: &Config,
    groups: impl Iterator<Item = (Address, Group)>,
    mut complete: impl FnMut(&mut Group, SocketAddr, usize) -> io::Result<SocketAddr>,
) -> Result<Completed, LaunchError> {
    let mut completed = Vec::new();
    for (mut wanted, mut group) in groups {
        let address = wanted.address;
        match complete(&mut group, address, config.cores) {
            Ok(real) => {
                wanted.address = real;
                completed.push((wanted, group.sockets));
            }
            Err(error) if is_dispensable(config, address, &error) => {
                let event = "address_left_out";
                tracing::warn!(event, %address, "{}", left_out(address));
            }
            Err(error) => return Err(LaunchError::Listen(address, error)),
        }
    }
    Ok(completed)
}

/// The sockets of one address.
#[derive(Default)]
struct Group {
    sockets: Vec<Arc<OwnedFd>>,
    /// One of them allows no others beside it.
    is_closed: bool,
}

impl Group {
    fn take(&mut self, listener: HandedListener) {
        self.is_closed |= !listener.is_in_group;
        self.sockets.push(Arc::new(listener.socket));
    }

    /// Makes what is missing, as far as it can be made beside what there is; gives the address with
    /// its real port.
    fn complete(&mut self, mut address: SocketAddr, shards: usize) -> io::Result<SocketAddr> {
        if self.sockets.is_empty() {
            net::check_free(address)?;
        }
        while self.sockets.len() < shards && !self.is_closed {
            let socket = match net::bind(address) {
                // Made by another user, who alone may add to it: systemd binds as root, also where
                // this one may not. Or the address has gone to another machine for now.
                Err(error) if is_of_others(&error) && !self.sockets.is_empty() => break,
                result => result?,
            };
            // Port 0 becomes a real one with the first shard; the others share it.
            address = net::local_address(&socket)?;
            self.sockets.push(Arc::new(socket));
        }
        Ok(address)
    }
}

fn is_of_others(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
    matches!(
        error.kind(),
        AddrInUse | AddrNotAvailable | PermissionDenied
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn all_of_ipv6_without_ipv4_is_noticed() {
        for (listen, told) in [
            (&["[::]:80"][..], &["[::]:80"][..]),
            (&["[::]:80", "0.0.0.0:80"], &[]),
            (&["[::]:80", "127.0.0.1:80"], &[]),
            (&["[::]:80", "0.0.0.0:81"], &["[::]:80"]),
            (&["[::1]:80"], &[]),
            (&["0.0.0.0:80"], &[]),
        ] {
            let config = Config {
                listen: listen.iter().map(|address| at(address)).collect(),
                ..Config::default()
            };
            let told: Vec<_> = told.iter().map(|address| at(address)).collect();
            assert_eq!(without_ipv4(&config), told, "{listen:?}");
        }
    }

    #[test]
    fn without_ipv6_all_of_it_is_left_out_beside_ipv4() {
        let no_ipv6 = || io::Error::from(Errno::AFNOSUPPORT);
        for (listen, left) in [
            (&["0.0.0.0:80", "[::]:80"][..], Some(&["0.0.0.0:80"][..])),
            (&["[::]:80", "192.0.2.1:80"], Some(&["192.0.2.1:80"])),
            (&["[::]:80"], None),
            // Nothing would be left of port 80.
            (&["[::]:80", "127.0.0.1:81"], None),
            (&["0.0.0.0:80", "[::1]:80"], None),
        ] {
            let config = Config {
                listen: listen.iter().map(|address| at(address)).collect(),
                ..Config::default()
            };
            let groups = addresses(&config).map(|one| (one, Group::default()));
            let found = complete(&config, groups, |_, address, _| match address.is_ipv6() {
                true => Err(no_ipv6()),
                false => Ok(address),
            });
            let found = found.map(|found| found.iter().map(|(one, _)| one.address).collect());
            match (found, left) {
                (Ok::<Vec<_>, _>(found), Some(left)) => {
                    let left: Vec<_> = left.iter().map(|address| at(address)).collect();
                    assert_eq!(found, left);
                }
                (Err(why), None) => {
                    let why = why.to_string();
                    assert!(why.contains(net::why_no_ipv6()), "{why}");
                    assert!(why.contains("0.0.0.0:80"), "{why}");
                }
                (found, _) => panic!("{listen:?}: {found:?}"),
            }
            let in_use = io::Error::from(Errno::ADDRINUSE);
            assert!(!is_dispensable(&config, at("[::]:80"), &in_use));
        }
    }

    #[test]
    fn a_listener_goes_to_the_address_that_it_has() {
        let wanted = [
            at("0.0.0.0:80"),
            at("[::]:80"),
            at("127.0.0.1:0"),
            at("127.0.0.1:0"),
        ];
        for (handed, place) in [
            ("0.0.0.0:80", Some(0)),
            ("[::]:80", Some(1)),
            ("127.0.0.1:82", Some(2)),
            ("127.0.0.1:80", None),
            ("0.0.0.0:81", None),
            ("192.0.2.1:80", None),
        ] {
            let handed = Reach::of_clients(at(handed));
            assert_eq!(assign(&wanted, &[], &[handed]), [place], "{handed:?}");
        }
        let ports = ["127.0.0.1:5", "127.0.0.1:6", "127.0.0.1:5", "127.0.0.1:7"];
        let ports = ports.map(|one| Reach::of_clients(at(one)));
        let places = [Some(2), Some(3), Some(2), None];
        assert_eq!(assign(&wanted, &[], &ports), places, "one port for each");
    }

    /// What is in the way of an address that is named is given up, and so must not be taken for
    /// one of any port.
    #[test]
    fn any_port_is_none_that_the_settings_need_otherwise() {
        let (any, five) = (at("127.0.0.1:0"), at("127.0.0.1:5"));
        let handed = [Reach::of_clients(five)];
        for (named, admin, place) in [
            (None, None, Some(0)),
            (None, Some("127.0.0.1:6"), Some(0)),
            (None, Some("127.0.0.1:5"), None),
            (None, Some("0.0.0.0:5"), None),
            (None, Some("[::]:5"), None),
            (Some("0.0.0.0:5"), None, None),
            (Some("[::]:5"), None, Some(0)),
            (Some("127.0.0.1:5"), None, Some(1)),
        ] {
            let wanted: Vec<_> = [any].into_iter().chain(named.map(at)).collect();
            let admin: Vec<_> = admin.map(at).into_iter().collect();
            assert_eq!(
                assign(&wanted, &admin, &handed),
                [place],
                "{named:?} {admin:?}"
            );
        }
    }

    #[test]
    fn each_socket_has_a_shard_and_each_shard_a_socket() {
        assert_eq!(shares(2, 2), [[0], [1]]);
        assert_eq!(shares(1, 3), [[0], [0], [0]]);
        assert_eq!(shares(5, 2), [vec![0, 2, 4], vec![1, 3]]);
        for (sockets, shards) in (1..9).flat_map(|a| (1..9).map(move |b| (a, b))) {
            let shares = shares(sockets, shards);
            assert!(shares.iter().all(|share| !share.is_empty()));
            let all: BTreeSet<_> = shares.into_iter().flatten().collect();
            assert_eq!(all.len(), sockets);
        }
    }
}
