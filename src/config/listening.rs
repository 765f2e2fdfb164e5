//! What is listened on, by flags and in all tables of the settings file.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::address::{conflict, taken_by_admin};
use super::complaint::Complaint;
use super::error::ConfigError;
use super::given::Given;
use super::table::Setting as _;

/// No address may stand twice, in whatever tables: the server would find its own port in use.
pub(super) fn refuse_repeated(
    global: &Given,
    listen: &[SocketAddr],
    listeners: &[Given],
) -> Result<(), ConfigError> {
    if let (true, true, Some(entry)) = (
        listen.is_empty(),
        listeners.is_empty(),
        global.get("listen"),
    ) {
        return Err(entry.refused(Complaint::NothingToListenOn));
    }
    let mut known = Vec::new();
    for address in listen {
        // Flags and variables come one by one; a list of the file has been looked at.
        if let (Some(why), Some(entry)) = (conflict(&known, *address), global.get("listen")) {
            return Err(entry.refused(why));
        }
        known.push(*address);
    }
    let entries = listeners.iter().filter_map(|given| given.get("address"));
    let entries = entries.map(|entry| (entry, false));
    let admin = global.get("admin_listen").map(|entry| (entry, true));
    // What is taken with another address, as nobody has written it.
    let mut implied = BTreeMap::new();
    for (entry, is_admin) in entries.chain(admin) {
        let mut addresses: Vec<SocketAddr> = Vec::new();
        addresses.take(entry.value.clone());
        for address in addresses {
            let taken = match is_admin {
                true => taken_by_admin(address),
                false => vec![address],
            };
            let others = taken.iter().filter(|taken| **taken != address);
            implied.extend(others.map(|other| (*other, address)));
            if let Some(why) = taken.iter().find_map(|one| conflict(&known, *one)) {
                return Err(entry.refused(as_written(why, &implied)));
            }
            known.extend(taken);
        }
    }
    Ok(())
}

/// The same of the addresses that the settings have.
fn as_written(why: Complaint, implied: &BTreeMap<SocketAddr, SocketAddr>) -> Complaint {
    let written = |address: SocketAddr| implied.get(&address).copied();
    match why {
        Complaint::ListedTwice(address) => match written(address) {
            Some(all) => Complaint::Covered(address, all),
            None => Complaint::ListedTwice(address),
        },
        Complaint::Covered(one, all) => Complaint::Covered(one, written(all).unwrap_or(all)),
        why => why,
    }
}
