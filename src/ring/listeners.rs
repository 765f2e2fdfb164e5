//! The addresses that the server listens on: their sockets, and which settings hold for each.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::launch_error::LaunchError;
use super::net;
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

/// The sockets of one shard, each with the number of its entry, if it has one.
pub type Sockets = Vec<(Arc<OwnedFd>, Option<usize>)>;

/// One socket per address for each shard, and the addresses with their real ports.
///
/// # Errors
/// [`LaunchError::Listen`]
pub fn listen(config: &Config) -> Result<(Vec<Sockets>, Vec<Address>), LaunchError> {
    let mut shards: Vec<Sockets> = (0..config.cores).map(|_| Vec::new()).collect();
    let mut all = Vec::new();
    for mut wanted in addresses(config) {
        let failed = |error| LaunchError::Listen(wanted.address, error);
        net::check_free(wanted.address).map_err(failed)?;
        let mut address = wanted.address;
        for sockets in &mut shards {
            let socket = net::bind(address).map_err(failed)?;
            // Port 0 becomes a real one with the first shard; the others share it.
            address = net::local_address(&socket).map_err(failed)?;
            sockets.push((Arc::new(socket), wanted.entry));
        }
        wanted.address = address;
        all.push(wanted);
    }
    Ok((shards, all))
}
