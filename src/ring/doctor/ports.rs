//! Addresses that cannot be listened on by whoever checks.

use std::io;
use std::net::SocketAddr;

use super::Finding;
use crate::config::Config;
use crate::ring::launch_error::LaunchError;
use crate::ring::listeners;

/// Why an address cannot be listened on.
pub fn cannot_listen(config: &Config, address: SocketAddr, error: io::Error) -> Finding {
    match listeners::is_dispensable(config, address, &error) {
        true => Finding::Doubtful(listeners::left_out(address)),
        false if is_for_the_service(address, &error) => Finding::Doubtful(not_by_us(address)),
        false => Finding::Bad(LaunchError::Listen(address, error).to_string()),
    }
}

/// Whether only a right is missing that the unit gives to the service, and not to whoever checks:
/// the kernel looks at the address first.
pub fn is_for_the_service(address: SocketAddr, error: &io::Error) -> bool {
    address.port() < 1024 && error.kind() == io::ErrorKind::PermissionDenied
}

/// What is told of such a one.
pub fn not_by_us(address: SocketAddr) -> String {
    format!(
        "{address} cannot be tried by this user: ports below 1024 need CAP_NET_BIND_SERVICE, which a service has if its \
         unit says AmbientCapabilities=CAP_NET_BIND_SERVICE"
    )
}
