//! What the shards of a server share: little, and nothing that a fragment touches.

use std::sync::Arc;

use super::clients::Clients;
use crate::auth::visitors::Visitors;
use crate::config::Config;

/// What all shards count together, since the connections of one client are spread over them.
#[derive(Clone, Debug)]
pub struct Common {
    /// How many sessions each client has, and each user.
    pub clients: Arc<Clients>,
    /// Who shows passwords, and who had too many wrong.
    pub visitors: Arc<Visitors>,
}

impl Common {
    /// Of a server with these settings.
    pub fn of(config: &Config) -> Self {
        Self {
            clients: Arc::default(),
            visitors: Arc::new(Visitors::before(config.limits.verify_queue_max)),
        }
    }
}
