//! Giving up what lies at a server.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::connection::{Broken, Timeouts};
use super::error::PutError;
use super::head::packet_head;
use super::memory::{Entry, Identity, Left};
use super::upload::{Failure, Packet, Refused, Reply, SESSION_NOT_FOUND};
use super::url::Url;
use super::way::Way;
use super::{Hitch, Options};

/// Gives up what an interrupted run left at the server; `false` if nothing is remembered.
///
/// # Errors
/// [`PutError`]
pub fn cancel(path: &Path, url: &Url, options: &Options) -> Result<bool, PutError> {
    // The file may be another one by now, or gone: what was left of it is still there.
    let metadata = fs::metadata(path).ok();
    let identity = Identity::of(path, url, metadata.as_ref());
    let mut entry = match (&options.memory, identity) {
        (Some(memory), Some(identity)) => memory.existing(identity),
        _ => None,
    };
    let left = |entry: &mut Entry| entry.recall().or_else(|| entry.recall_other());
    let Some(left) = entry.as_mut().and_then(left) else {
        if let Some(entry) = entry {
            entry.forget();
        }
        return Ok(false);
    };
    let answered = cancel_session(url, &left, options);
    let broken = |broken| PutError::GaveUp {
        after: Duration::ZERO,
        last: Hitch::Broken(broken),
        is_remembered: true,
    };
    let reply = answered.map_err(broken)?;
    if !is_given_up(&reply) {
        return Err(Failure::Refused(Refused::of(Packet::CancelSession.name(), &reply)).into());
    }
    if let Some(entry) = entry {
        entry.forget();
    }
    Ok(reply.status == 200)
}

/// Whether the answer to a Cancel-Session says that the session is no more: not if whoever asked
/// may not, or the server cannot just now.
pub fn is_given_up(reply: &Reply) -> bool {
    (reply.status == 200 && reply.is_bits) || reply.hresult == Some(SESSION_NOT_FOUND)
}

/// Tells the server to forget a session, where that is: at the node of a farm that has it. It would
/// expire anyway, so this is tried once, for a short while.
///
/// # Errors
/// [`Broken`]
pub fn cancel_session(url: &Url, left: &Left, options: &Options) -> Result<Reply, Broken> {
    let mut way = Way::home(url.clone()).showing(options.credentials.as_ref());
    if let Some(node) = &left.node {
        way.lead_to(node, None);
    }
    cancel_along(&mut way, &left.session, options)
}

/// The same where the way is known.
pub(super) fn cancel_along(
    way: &mut Way,
    session: &str,
    options: &Options,
) -> Result<Reply, Broken> {
    let timeouts = Timeouts {
        connect: CANCEL_WAIT,
        send: CANCEL_WAIT,
        reply: CANCEL_WAIT,
        silence: CANCEL_WAIT,
    };
    let shown = options.credentials.as_ref();
    let mut connection = way.connect(timeouts, options.secure.as_ref())?;
    connection.may_show(shown)?;
    let packet = Packet::CancelSession;
    let head = packet_head(way.url(), &packet, Some(session), None, 0, shown);
    connection.exchange(head, None, &mut |_| {})
}

const CANCEL_WAIT: Duration = Duration::from_secs(5);
