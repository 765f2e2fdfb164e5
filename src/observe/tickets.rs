//! Lines about Kerberos tickets.

use tracing::{Level, enabled, info, warn};

use super::limit::{self, Cause, Kind, Repeated, may};
use crate::event::Event;

/// A Kerberos ticket that nobody believes, or can look at.
pub fn log(shard: usize, event: &Event<'_>) {
    match event {
        Event::TicketRefused { peer, minor, why } => {
            let by = Repeated {
                client: peer.ip(),
                path: "",
                why,
            };
            let cause = Cause {
                code: *minor,
                ..Cause::of(Kind::TicketRefused)
            };
            if enabled!(Level::INFO) && limit::allow_once(cause, by) {
                let event = Kind::TicketRefused.event();
                info!(event, shard, %peer, why, "a Kerberos ticket was refused");
            }
        }
        Event::TicketsUnusable { why } if may(Level::WARN, Cause::of(Kind::TicketsUnusable)) => {
            let event = Kind::TicketsUnusable.event();
            warn!(
                event,
                shard, why, "Kerberos tickets cannot be looked at: their clients hear 503"
            );
        }
        _ => {}
    }
}
