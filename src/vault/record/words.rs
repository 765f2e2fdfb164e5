//! The states of a session as words of its record, and how its part was left.

use super::Payload;
use crate::bits::session::{AfterPublish, Reply, State};
use crate::vault::disk::PartStamp;
use crate::vault::ending_words::{ending_from_text, ending_to_text};

pub(super) fn state_to_text(state: State) -> (&'static str, Option<u64>) {
    match state {
        State::Receiving { total, .. } => ("receiving", total),
        State::Sealed { total } => ("sealed", Some(total)),
        State::Notified { total, .. } => ("notified", Some(total)),
        State::Denied { total } => ("denied", Some(total)),
        State::Closing {
            total,
            then: AfterPublish::End,
            ..
        } => ("closing", Some(total)),
        State::Closing {
            total,
            then: AfterPublish::AwaitClose,
            ..
        } => ("publishing", Some(total)),
        State::Closing {
            total,
            then: AfterPublish::Promised,
            ..
        } => ("storing", Some(total)),
        State::Published { total, .. } => ("published", Some(total)),
        State::Gone(ending) => (ending_to_text(ending), None),
    }
}

/// What the application asked for, and what it has for the client: `copies` and `reply`.
pub(super) fn told_to_text(state: State) -> (Option<bool>, Option<&'static str>) {
    let text = |reply| match reply {
        Reply::None => "none",
        Reply::File => "file",
        Reply::Elsewhere => "elsewhere",
    };
    match state {
        State::Notified { copies, reply, .. } => (Some(copies), Some(text(reply))),
        State::Closing {
            told: Some(reply), ..
        } => (None, Some(text(reply))),
        State::Published { reply, .. } if reply != Reply::None => (None, Some(text(reply))),
        _ => (None, None),
    }
}

pub(super) fn state_from_text(payload: &Payload<'_>) -> Option<State> {
    let told = match payload.reply.as_deref() {
        None => None,
        Some("none") => Some(Reply::None),
        Some("file") => Some(Reply::File),
        Some("elsewhere") => Some(Reply::Elsewhere),
        Some(_) => return None,
    };
    let total = payload.total;
    let closing = |then| total.map(|total| State::Closing { total, then, told });
    match &*payload.state {
        "receiving" => Some(State::Receiving { received: 0, total }),
        "sealed" => total.map(|total| State::Sealed { total }),
        "notified" => Some(State::Notified {
            total: total?,
            copies: payload.copies?,
            reply: told?,
        }),
        "denied" => total.map(|total| State::Denied { total }),
        "closing" => closing(AfterPublish::End),
        "publishing" => closing(AfterPublish::AwaitClose),
        "storing" => closing(AfterPublish::Promised),
        "published" => Some(State::Published {
            total: total?,
            reply: told.unwrap_or(Reply::None),
        }),
        other => ending_from_text(other).map(State::Gone),
    }
}

pub(super) fn stamp_to_text(stamp: PartStamp) -> String {
    let PartStamp {
        inode,
        bytes,
        modified_ns,
        changed_ns,
    } = stamp;
    format!("{inode} {bytes} {modified_ns} {changed_ns}")
}

/// One that makes no sense is none: the part is read again.
pub(super) fn stamp_from_text(text: &str) -> Option<PartStamp> {
    let mut numbers = text.split(' ').map(|number| number.parse().ok());
    let mut next = || numbers.next().flatten();
    Some(PartStamp {
        inode: next()?,
        bytes: next()?,
        modified_ns: next()?,
        changed_ns: next()?,
    })
}
