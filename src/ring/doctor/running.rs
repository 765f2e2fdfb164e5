//! Whether a server of these settings runs, although it does not have the work directory that they
//! name: they were changed since it started, or name a root that cannot be opened.
//!
//! Its addresses are in use then, and rightly. Another server that has one of them is a fault, and
//! so it has to be told from that one: it has the work directory, or the folder that one has in a
//! root by default; or somebody answers at the administrator's socket of these settings while an
//! address of them is in use.

use crate::admin;
use crate::config::Config;
use crate::ring::directories::WORK_DIR_NAME;
use crate::ring::work_folder::WorkFolder;
use crate::ring::{listeners, net};
use crate::vault::names::LOCK_NAME;
use crate::vigil;

/// Whether it does; what cannot be looked at says nothing.
pub fn is_there(config: &Config) -> bool {
    has_a_folder(config) || answers(config)
}

fn has_a_folder(config: &Config) -> bool {
    let by_default = config.roots.iter().map(|root| root.join(WORK_DIR_NAME));
    let mut folders = std::iter::once(config.work_dir.clone()).chain(by_default);
    folders.any(|path| {
        vigil::at(&path, || {
            let folder = WorkFolder::open(&path, true);
            folder.is_ok_and(|folder| matches!(folder.lock_for_now(LOCK_NAME), Ok(None)))
        })
    })
}

fn answers(config: &Config) -> bool {
    let socket = &config.admin_socket;
    if socket.as_os_str().is_empty() || !vigil::at(socket, || admin::is_answered(socket)) {
        return false;
    }
    let mut addresses = listeners::addresses(config).map(|one| one.address);
    addresses.any(net::is_taken) || config.admin_listen.iter().copied().any(net::is_taken)
}
