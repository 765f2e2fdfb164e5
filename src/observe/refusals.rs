//! Lines of what was refused, and why: packets, and downloads that are not for whoever asks.

use std::net::SocketAddr;

use tracing::field::{DisplayValue, display};
use tracing::{Level, debug, enabled, info, warn};

use super::limit::{self, Cause, Kind, Repeated};
use crate::bits::reply::{NotShown, Refusal};
use crate::bits::session_id::SessionId;
use crate::diagnosis;
use crate::event::Event;
use crate::http::stranger::in_short;

/// A packet, or a download, that is not for whoever sent it.
struct Barred<'a> {
    kind: Kind,
    peer: SocketAddr,
    session: Option<SessionId>,
    path: Option<&'a str>,
    target: Option<&'a [u8]>,
    user: Option<&'a str>,
    status: u16,
    /// Of the answer, where it has one.
    hresult: Option<u32>,
    why: &'a Refusal,
}

impl<'a> Barred<'a> {
    fn of(event: &Event<'a>) -> Option<Self> {
        Some(match *event {
            Event::Refused {
                peer,
                session,
                path,
                target,
                user,
                why,
            } => Self {
                kind: Kind::PacketRefused,
                peer,
                session,
                path,
                target,
                user,
                status: why.status(),
                hresult: why.hresult(),
                why,
            },
            Event::DownloadRefused {
                peer,
                path,
                status,
                user,
                why,
            } => Self {
                kind: Kind::DownloadRefused,
                peer,
                session: None,
                path,
                target: None,
                user,
                status,
                hresult: None,
                why: why?,
            },
            _ => return None,
        })
    }
}

/// Logs a packet, or a download, that was refused.
pub fn log_refusal(shard: usize, event: &Event<'_>) {
    let Some(barred) = Barred::of(event) else {
        return;
    };
    let Barred {
        kind,
        peer,
        path,
        user,
        status,
        why,
        ..
    } = barred;
    if let Refusal::Unauthorized(challenges) = why
        && challenges.why == NotShown::Nothing
    {
        // Every client begins so, and comes back.
        let event = "asked_who";
        debug!(event, shard, %peer, path, "the client was asked who it is");
        return;
    }
    let remedy = diagnosis::remedy(why);
    // Any client can name a size that fits into no file.
    let is_of_server = remedy.is_some() && !matches!(why, Refusal::FileTooLarge);
    let is_enabled = match is_of_server {
        true => enabled!(Level::WARN),
        false => enabled!(Level::INFO),
    };
    if !is_enabled {
        return;
    }
    let target = barred.target.map(in_short);
    let cause = Cause {
        kind,
        status,
        code: barred.hresult.unwrap_or(0),
        why: why.reason(),
    };
    let by = Repeated {
        client: peer.ip(),
        path: path.or(target.as_deref()).unwrap_or_default(),
        why: &why.to_string(),
    };
    if !limit::allow_once(cause, by) {
        return;
    }
    let event = kind.event();
    let (session, target) = (barred.session.map(display), target.as_deref());
    let hresult = barred.hresult.map(hexadecimal);
    let what = match kind {
        Kind::DownloadRefused => "download",
        _ => "packet",
    };
    match is_of_server {
        true => {
            warn!(event, shard, %peer, session, path, target, user, status, hresult, %why, remedy, "{what} refused");
        }
        false => {
            info!(event, shard, %peer, session, path, target, user, status, hresult, %why, remedy, "{what} refused");
        }
    }
}

/// As on the wire.
fn hexadecimal(hresult: u32) -> DisplayValue<String> {
    display(format!("0x{hresult:08X}"))
}
