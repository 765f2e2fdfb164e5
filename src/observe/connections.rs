//! Connections to lines: who came, who was not let in, and what was no request.

use tracing::{Level, debug, enabled, info, warn};

use super::limit::{self, Cause, Kind, Repeated, may};
use super::tickets;
use crate::event::{Event, Hangup};
use crate::http::stranger::{self, in_short};
use crate::reasoned::Reasoned;

/// A shard that stood still for less is told of to whoever asks for all: where other programs share
/// its core, that happens every few seconds.
const STALL_TOLD_MS: u64 = 100;
/// A shard that stood still for so long is warned of.
const STALL_WARNED_MS: u64 = 250;

/// Connections; quiet unless the server itself is short of something or the request was no request.
pub fn log_connection(shard: usize, event: &Event<'_>) {
    match event {
        Event::Connected { peer } => debug!(event = "connected", shard, %peer, "connected"),
        Event::ConnectionRefused { peer }
            if may(Level::WARN, Cause::of(Kind::ConnectionRefused)) =>
        {
            let event = Kind::ConnectionRefused.event();
            let remedy = "raise limits.connections_per_shard_max or cores; of a proxy, limits.connections_per_client_max";
            warn!(event, shard, %peer, remedy, "connection refused: this shard holds as many as it may, or as many of this client");
        }
        Event::HungUp { peer, why } if may(Level::DEBUG, Cause::of(Kind::ConnectionEnded)) => {
            let event = Kind::ConnectionEnded.event();
            debug!(event, shard, %peer, why = hangup_in_words(*why), "connection ended by us");
        }
        Event::Stalled { what, ms } => log_stall(shard, what, *ms),
        Event::Moved { peer, to } => {
            let event = "connection_moved";
            debug!(event, shard, %peer, to, "connection moved to the session's shard");
        }
        Event::CaseDiffers { path, prefix } if may(Level::INFO, Cause::of(Kind::CaseDiffers)) => {
            let event = Kind::CaseDiffers.event();
            let remedy =
                "set prefix_case = \"ignore\" for that prefix, or write the URL as the prefix is";
            info!(
                event,
                shard, path, prefix, remedy, "a prefix differs from this path in case only"
            );
        }
        Event::DownloadRefused { .. } | Event::NotServed { .. } => log_not_served(shard, event),
        Event::FileCut { peer, path, at } if may(Level::INFO, Cause::of(Kind::FileCut)) => {
            let event = Kind::FileCut.event();
            info!(event, shard, %peer, path, at, "the file was cut short while a client read it: its connection was ended");
        }
        Event::TicketRefused { .. } | Event::TicketsUnusable { .. } => tickets::log(shard, event),
        Event::Secured {
            peer,
            version,
            suite,
            server_name,
            is_resumed,
        } => {
            let (event, resumed) = ("hands_shaken", is_resumed);
            debug!(event, shard, %peer, version, suite, server_name, resumed, "hands were shaken");
        }
        Event::Shown {
            peer,
            scheme,
            is_first,
        } => {
            let (event, first) = ("credentials_shown", is_first);
            debug!(event, shard, %peer, scheme, first, "what a request shows of who sends it");
        }
        Event::Announced { client, proxy } => {
            let event = "client_announced";
            debug!(event, shard, peer = %client, %proxy, "a proxy has announced its client");
        }
        Event::BadRequest { .. }
        | Event::HandshakeFailed { .. }
        | Event::NotLetIn { .. }
        | Event::EndedEarly { .. } => log_head(shard, event),
        Event::BrokeOff { peer, path } => {
            let event = "connection_broke_off";
            debug!(event, shard, %peer, path, "the connection broke off in the middle of a packet");
        }
        Event::BlocksExhausted => {
            let event = "blocks_exhausted";
            debug!(
                event,
                shard, "all body blocks are in use; bodies go on in small blocks"
            );
        }
        _ => {}
    }
}

/// Requests that are no packets, and get nothing.
fn log_not_served(shard: usize, event: &Event<'_>) {
    match event {
        Event::DownloadRefused {
            peer, path, status, ..
        } => {
            let event = Kind::DownloadRefused.event();
            debug!(event, shard, %peer, path, status,
                "download refused: not there, no regular file, out of the root by a link, or not by the setting `download`");
        }
        Event::NotServed { peer, seen, status } if enabled!(Level::DEBUG) => {
            let (event, method) = ("not_served", stranger::method(seen).map(in_short));
            let target = stranger::target(seen).map(in_short);
            debug!(event, shard, %peer, method, target, status, "request not served");
        }
        _ => {}
    }
}

/// A shard that stood still, and at what.
fn log_stall(shard: usize, what: &str, ms: u64) {
    let level = match ms {
        ..STALL_TOLD_MS => Level::DEBUG,
        STALL_TOLD_MS..STALL_WARNED_MS => Level::INFO,
        STALL_WARNED_MS.. => Level::WARN,
    };
    if !may(level, Cause::of(Kind::Stalled)) {
        return;
    }
    let event = Kind::Stalled.event();
    match ms {
        ..STALL_TOLD_MS => debug!(event, shard, ms, what, "this shard stood still"),
        STALL_TOLD_MS..STALL_WARNED_MS => {
            info!(event, shard, ms, what, "this shard stood still");
        }
        STALL_WARNED_MS.. => {
            let remedy = "see what else uses its core or its disk";
            warn!(event, shard, ms, what, remedy, "this shard stood still");
        }
    }
}

/// Heads that were refused, or never came to their end.
fn log_head(shard: usize, event: &Event<'_>) {
    match event {
        Event::BadRequest { peer, seen, why } => {
            let cause = Cause {
                status: why.status(),
                why: why.reason(),
                ..Cause::of(Kind::RequestRefused)
            };
            let (target, looks_like) = (stranger::target(seen).map(in_short), stranger::name(seen));
            let target = target.as_deref();
            let by = Repeated {
                client: peer.ip(),
                path: target.or(looks_like).unwrap_or_default(),
                why: &why.to_string(),
            };
            if enabled!(Level::INFO) && limit::allow_once(cause, by) {
                let event = Kind::RequestRefused.event();
                let (status, limit) = (why.status(), why.setting());
                info!(event, shard, %peer, target, status, %why, limit, looks_like, "request refused");
            }
        }
        Event::HandshakeFailed { peer, why } => {
            let (reason, why) = (Reasoned::reason_of(why), why.to_string());
            let by = Repeated {
                client: peer.ip(),
                path: "",
                why: &why,
            };
            let cause = Cause {
                why: reason,
                ..Cause::of(Kind::HandshakeFailed)
            };
            if enabled!(Level::INFO) && limit::allow_once(cause, by) {
                let event = Kind::HandshakeFailed.event();
                info!(event, shard, %peer, why, "no secure connection came about");
            }
        }
        Event::NotLetIn { peer, why } => {
            let (reason, why) = (Reasoned::reason_of(why), why.to_string());
            let by = Repeated {
                client: peer.ip(),
                path: "",
                why: &why,
            };
            let cause = Cause {
                why: reason,
                ..Cause::of(Kind::NotLetIn)
            };
            if enabled!(Level::INFO) && limit::allow_once(cause, by) {
                let event = Kind::NotLetIn.event();
                info!(event, shard, %peer, why, "the connection was not let in");
            }
        }
        Event::EndedEarly { peer, seen } => {
            let (target, looks_like) = (stranger::target(seen).map(in_short), stranger::name(seen));
            let target = target.as_deref();
            let by = Repeated {
                client: peer.ip(),
                path: target.or(looks_like).unwrap_or_default(),
                why: "",
            };
            if enabled!(Level::INFO) && limit::allow_once(Cause::of(Kind::EndedEarly), by) {
                let event = Kind::EndedEarly.event();
                info!(event, shard, %peer, target, bytes = seen.len(), looks_like,
                    "the connection ended in the middle of a request head");
            }
        }
        _ => {}
    }
}

fn hangup_in_words(why: Hangup) -> &'static str {
    match why {
        Hangup::HandshakeTimeout => "the hands were not shaken in time",
        Hangup::HeadTimeout => "the head of a request did not arrive in time",
        Hangup::Idle => "idle",
        Hangup::BodyStalled => "the body stalled",
        Hangup::TakenOver => "a newer connection took the session over",
        Hangup::Draining => "the server is stopping",
        Hangup::Crowded => "idle, and others needed its place",
        Hangup::NotClosed => "it did not close after its last answer",
    }
}
