//! Addresses that can be listened on, or not, by whoever checks.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use super::Finding;
use crate::admin::{self, BadDoor};
use crate::config::Config;
use crate::ring::launch_error::LaunchError;
use crate::ring::reach::{MadeFree, Reach};
use crate::ring::{listeners, net};

/// Who has addresses of the settings already, and rightly.
pub enum Around {
    Nobody,
    /// A server that runs; which ones, nobody knows.
    AServer,
    /// A server that makes way for this program, which binds with the same rights.
    Predecessor(MadeFree),
}

impl Around {
    pub fn of(is_running: bool, is_successor: bool) -> Self {
        let told = std::env::var(MadeFree::VARIABLE).ok();
        match told.filter(|_| is_successor) {
            Some(text) => Self::Predecessor(MadeFree::from_text(&text)),
            None if is_running => Self::AServer,
            None => Self::Nobody,
        }
    }

    fn is_server(&self) -> bool {
        !matches!(self, Self::Nobody)
    }
}

/// Whether the addresses can be listened on. Where a server runs, they are mostly its own, and
/// none is taken from it; but settings that have changed since it started may name others.
pub fn addresses(config: &Config, around: &Around, held: &mut Vec<OwnedFd>) -> Vec<Finding> {
    let mut examine = |address: SocketAddr| match around {
        Around::AServer => beside_a_server(config, address),
        Around::Predecessor(free) => after_another(config, free, address),
        Around::Nobody => match net::check_free(address).and_then(|()| net::bind(address)) {
            Ok(listener) => {
                held.push(listener);
                Finding::Good(format!("{address} can be listened on"))
            }
            Err(error) => cannot_listen(config, address, error),
        },
    };
    let found = listeners::addresses(config).map(|one| examine(one.address));
    let mut found: Vec<_> = found.collect();
    found.extend(listeners::without_ipv4(config).into_iter().map(|address| {
        let port = address.port();
        Finding::Doubtful(format!(
            "{address} takes IPv6 only: add 0.0.0.0:{port} if clients may come by IPv4"
        ))
    }));
    found
}

fn beside_a_server(config: &Config, address: SocketAddr) -> Finding {
    match net::check_beside(address) {
        Ok(()) => Finding::Good(format!("{address} can be listened on")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Finding::Doubtful(format!(
            "{address} is in use: by the server that runs, if it listens there"
        )),
        // A floating one is on another machine now; a reload opens no listener.
        Err(error) if is_away(&error) && net::is_listened_on(address) => {
            Finding::Doubtful(format!(
                "{}; the server that runs keeps its listener there, and the next start has none",
                LaunchError::Listen(address, error)
            ))
        }
        Err(error) => cannot_listen(config, address, error),
    }
}

/// The listeners of the server before are handed on. One that the settings do not name is closed
/// if it is in the way; nobody else may be.
fn after_another(config: &Config, free: &MadeFree, address: SocketAddr) -> Finding {
    if free.listeners.contains(&address) {
        return Finding::Good(format!("the listener on {address} is handed on"));
    }
    let reach = Reach::of_clients(address);
    if free.has_admin_at(reach) {
        return is_made_free(address);
    }
    let tried = match free.has_listener_at(reach) {
        true => net::check_beside(address),
        false => net::check_alone(address),
    };
    match tried {
        Ok(()) => Finding::Good(format!("{address} can be listened on")),
        Err(error) if listeners::is_dispensable(config, address, &error) => {
            Finding::Doubtful(listeners::left_out(address))
        }
        // A right that is missing here is missing there.
        Err(error) => Finding::Bad(LaunchError::Listen(address, error).to_string()),
    }
}

fn is_made_free(address: SocketAddr) -> Finding {
    Finding::Good(format!("the server that makes way has {address}"))
}

/// Why an address cannot be listened on.
fn cannot_listen(config: &Config, address: SocketAddr, error: io::Error) -> Finding {
    match listeners::is_dispensable(config, address, &error) {
        true => Finding::Doubtful(listeners::left_out(address)),
        false if is_for_the_service(address, &error) => Finding::Doubtful(not_by_us(address)),
        false => Finding::Bad(LaunchError::Listen(address, error).to_string()),
    }
}

/// Whether only a right is missing that the unit gives to the service, and not to whoever checks:
/// the kernel looks at the address first.
fn is_for_the_service(address: SocketAddr, error: &io::Error) -> bool {
    address.port() < 1024 && error.kind() == io::ErrorKind::PermissionDenied
}

/// What is told of such a one.
fn not_by_us(address: SocketAddr) -> String {
    format!(
        "{address} cannot be tried by this user: ports below 1024 need CAP_NET_BIND_SERVICE, which a service has if its \
         unit says AmbientCapabilities=CAP_NET_BIND_SERVICE"
    )
}

/// Whether the administrator's interface can have its addresses. Those of a server that runs are
/// in use.
pub fn admin_addresses(config: &Config, around: &Around, held: &mut Vec<OwnedFd>) -> Vec<Finding> {
    let addresses = config.admin_listen.iter();
    let examine = |&address: &SocketAddr| match around {
        Around::Predecessor(free) => admin_after_another(free, address),
        Around::AServer | Around::Nobody => admin_address(address, around.is_server(), held),
    };
    addresses.map(examine).collect()
}

fn admin_after_another(free: &MadeFree, address: SocketAddr) -> Finding {
    let reach = Reach::of_admin(address);
    if free.has_admin_at(reach) {
        return is_made_free(address);
    }
    let tried = match free.has_listener_at(reach) {
        // It is made without what listeners for clients share, once these are closed.
        true => net::check_beside(address).map_err(|error| BadDoor::Address(address, error)),
        false => admin::listen(address).map(drop),
    };
    match tried {
        Ok(()) => Finding::Good(format!("admin_listen can be {address}")),
        Err(why) => Finding::Bad(LaunchError::Admin(why).to_string()),
    }
}

fn admin_address(address: SocketAddr, is_running: bool, held: &mut Vec<OwnedFd>) -> Finding {
    match admin::listen(address) {
        Ok((listener, _)) => {
            held.push(listener.into());
            Finding::Good(format!("admin_listen can be {address}"))
        }
        Err(why) if is_running && is_in_use(&why) => {
            Finding::Good(format!("admin_listen {address} is in use: a server runs"))
        }
        Err(BadDoor::Address(_, error))
            if is_running && is_away(&error) && net::is_listened_on(address) =>
        {
            let why = "is not on this machine now; whoever listens there keeps it";
            Finding::Doubtful(format!("admin_listen {address} {why}"))
        }
        Err(BadDoor::Address(_, error)) if is_for_the_service(address, &error) => {
            Finding::Doubtful(format!("admin_listen {}", not_by_us(address)))
        }
        Err(why) => Finding::Bad(LaunchError::Admin(why).to_string()),
    }
}

fn is_in_use(why: &BadDoor) -> bool {
    matches!(why, BadDoor::Address(_, error) if error.kind() == io::ErrorKind::AddrInUse)
}

fn is_away(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
}
