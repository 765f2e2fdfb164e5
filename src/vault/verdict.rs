//! What becomes of a session after a restart: decided here, and only here, without touching
//! anything.
//!
//! [`judge`] takes a session's newest record and what is found of its files, and says what is to be
//! done; [`super::recover`] does it. The tests below go through every combination.
//!
//! Three things may have happened since the record was written. The process ended: then the page
//! cache is whole, and **the length of the part is the progress**. The power was cut: then only
//! what was synced can be trusted, which the record counts as `durable`. Or somebody else was
//! there: then a part is not what its record says, and is kept for a person to look at.

use super::disk::Standing;
use super::record::Record;
use crate::bits::session::{AfterPublish, Ending, Reply, State};

/// What is found of a session.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The newest record of it that can be read.
    pub record: &'a Record,
    /// Newer ones may stand where a journal cannot be read.
    pub may_be_outdated: bool,
    /// Length of its part; `None` if there is none.
    pub part: Option<u64>,
    /// There is none, because a start that did not come to its end has set it aside.
    pub was_set_aside: bool,
    /// Everything that was written in the boot of the record is still there.
    pub survived: bool,
    /// Where it is to go, and what stands there, as far as that was looked at.
    pub destination: Destination,
    /// Files there are synced before anybody is told of them.
    pub is_synced: bool,
    /// A clean stop has made safe what was done in the boot of the record, names included.
    pub was_stopped_cleanly: bool,
    /// A file there gets its name with its last fragment, and not when the client closes.
    pub is_named_early: bool,
}

/// The destination of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// None: new settings have made it a folder.
    Nowhere,
    /// Nobody has looked yet; [`Verdict::LookUp`] asks for it.
    Unseen,
    /// This stands there, if anything could be learnt.
    Seen(Option<Standing>),
    /// An object store, which is asked later, by whoever goes on with the session.
    Store,
}

/// What is to be done with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on in this state.
    GoOn(State),
    /// It goes on, receiving, when its part was cut to what the state says.
    Cut(State),
    /// It goes on when the folder of its destination was synced: the file may have its name in
    /// memory only. If that fails, it is forgotten.
    Sync(State),
    /// It ended like this; a part is what a discard that was cut short has left, and goes.
    Ended(Ending),
    /// Nobody knows what it holds, or nobody was told of it: its files go, and its client starts
    /// again.
    Forget,
    /// Its part is not what the record says, and is kept for a person to look at: why.
    SetAside(&'static str),
    /// It depends on what stands at the destination.
    LookUp,
}

const TOO_LONG: &str = "longer than its record allows";
const TOO_SHORT: &str = "shorter than what was synced";
const OTHER_LENGTH: &str = "not as long as its record says";
const MAYBE_TORN: &str = "it was about to be published, and not synced when the power went";
/// Why the bytes of a session are put aside that has no record, or perhaps not the newest.
pub const IN_THE_DAMAGE: &str = "its record may be in the damaged part of a journal";

/// What is to be done with a session of which a record is there.
pub fn judge(evidence: &Evidence<'_>) -> Verdict {
    let Evidence {
        record,
        part,
        survived,
        ..
    } = *evidence;
    // What it became may stand in the damage: with its size lost, a file that came whole and was
    // cut after a power cut would be taken for an empty one at Close-Session.
    let is_sizeless = matches!(record.state, State::Receiving { total: None, .. });
    if evidence.may_be_outdated && is_sizeless && !survived && part.is_some() {
        return Verdict::SetAside(IN_THE_DAMAGE);
    }
    if has_lost_its_reply(record, survived) {
        return Verdict::Forget;
    }
    let Some(bytes) = part else {
        let has_ended = matches!(record.state, State::Gone(_) | State::Published { .. });
        return match evidence.was_set_aside && !has_ended {
            true => Verdict::Forget,
            false => without_part(evidence),
        };
    };
    match record.state {
        State::Gone(ending) => Verdict::Ended(ending),
        // A power cut has brought back what was removed when a store had it.
        state @ State::Published { .. } if record.object.is_some() => Verdict::GoOn(state),
        // It has its name and yet is here: the record is not of this part.
        State::Published { .. } => Verdict::Forget,
        _ if survived => whole(record, bytes),
        _ => after_power_cut(evidence, bytes),
    }
}

/// Whether the client was promised a reply that a power cut may have torn (`durability = "none"`).
fn has_lost_its_reply(record: &Record, survived: bool) -> bool {
    let answer = record.answer.as_ref();
    let is_safe = answer.is_some_and(|answer| answer.is_safe);
    record.state.reply() == Reply::File && !is_safe && !survived
}

/// The page cache survived: the length of the part is the progress.
fn whole(record: &Record, bytes: u64) -> Verdict {
    match record.state {
        State::Receiving { total, .. } if bytes > total.unwrap_or(0) => Verdict::SetAside(TOO_LONG),
        State::Receiving { total, .. } => Verdict::GoOn(State::Receiving {
            received: bytes,
            total,
        }),
        State::Sealed { total } | State::Closing { total, .. } if bytes != total => {
            Verdict::SetAside(OTHER_LENGTH)
        }
        state => Verdict::GoOn(state),
    }
}

/// Only what was synced can be trusted.
fn after_power_cut(evidence: &Evidence<'_>, bytes: u64) -> Verdict {
    let record = evidence.record;
    let durable = record.durable;
    match record.state {
        State::Receiving { .. } if bytes < durable => Verdict::SetAside(TOO_SHORT),
        // The record of its size may be lost, and the bytes with it: by the power cut, by one
        // before it that cut the part, or in a damaged end, which looks as if the power had torn
        // it. An empty file must not take their place at Close-Session. If there never were any
        // bytes, the client loses nothing by starting again.
        State::Receiving { total: None, .. } => Verdict::Forget,
        // Perhaps it was whole, and its client has only to close it: as an incomplete one it would
        // be discarded.
        State::Receiving { .. } if !evidence.is_synced => Verdict::Forget,
        // The bytes after it are not safe, or nobody has heard of them.
        State::Receiving { total, .. } => Verdict::Cut(State::Receiving {
            received: durable,
            total,
        }),
        state if durable == state.received() && bytes == durable => Verdict::GoOn(state),
        // If it went, and the process with it before the new journals are there, the next start
        // would take it for published: in this state only the rename takes a part away.
        State::Closing { .. } => Verdict::SetAside(MAYBE_TORN),
        // `durability = "none"`: nobody knows what the part holds.
        _ => Verdict::Forget,
    }
}

/// The part is gone: it was published, or the session ended.
fn without_part(evidence: &Evidence<'_>) -> Verdict {
    let Evidence {
        record,
        survived,
        destination,
        ..
    } = *evidence;
    if destination == Destination::Nowhere {
        // Nobody can ask for it any more, but who is owed an event of it.
        return match (&record.owed, record.state) {
            (Some(_), State::Gone(ending)) => Verdict::Ended(ending),
            (Some(_), State::Closing { .. } | State::Published { .. }) => {
                Verdict::Ended(Ending::Published)
            }
            _ => Verdict::Forget,
        };
    }
    match record.state {
        State::Gone(ending) => Verdict::Ended(ending),
        state @ State::Published { .. } => Verdict::GoOn(state),
        // What a store has stands in the record before its part goes: the session has ended
        // otherwise, and the record of that is lost.
        State::Closing { .. }
            if destination == Destination::Store
                && record.object.is_none()
                && !record.was_to_be_named() =>
        {
            Verdict::Forget
        }
        // Only the rename takes a part away in this state, or a start that sets it aside. After a
        // power cut it is there, or the part would be.
        closing @ State::Closing { then, .. } => {
            let state = match then {
                // Nobody was told as long as it is not settled.
                AfterPublish::End | AfterPublish::Promised if !record.is_unsettled => {
                    State::Gone(Ending::Published)
                }
                AfterPublish::End | AfterPublish::Promised | AfterPublish::AwaitClose => {
                    closing.named()
                }
            };
            match may_lose_its_name(evidence) {
                true => Verdict::Sync(state),
                false => published(state),
            }
        }
        // An application that takes a file by reference may take it away.
        state @ State::Notified { copies: false, .. } => {
            match survived || record.durable == state.received() {
                true => Verdict::GoOn(state),
                false => Verdict::Forget,
            }
        }
        State::Sealed { total }
        | State::Notified {
            total,
            copies: true,
            ..
        } => match destination {
            Destination::Unseen => Verdict::LookUp,
            // A power cut took the record back; the inode survives the rename. One that a file of
            // somebody else has by now is mostly of another length.
            Destination::Seen(Some(Standing::File { inode, bytes }))
                if inode == record.inode && bytes == total =>
            {
                published(match evidence.is_named_early || record.is_unsettled {
                    true => State::Published {
                        total,
                        reply: record.state.reply(),
                    },
                    false => State::Gone(Ending::Published),
                })
            }
            Destination::Seen(_) | Destination::Nowhere | Destination::Store => Verdict::Forget,
        },
        State::Receiving { .. } | State::Denied { .. } => Verdict::Forget,
    }
}

/// Whether a file has its name perhaps in memory only, and somebody relies on that. A store has
/// what it said that it has.
fn may_lose_its_name(evidence: &Evidence<'_>) -> bool {
    let is_in_folder = evidence.destination != Destination::Store;
    let may_be_unsynced = evidence.survived && !evidence.was_stopped_cleanly;
    evidence.is_synced && may_be_unsynced && is_in_folder
}

fn published(state: State) -> Verdict {
    match state {
        State::Gone(ending) => Verdict::Ended(ending),
        other => Verdict::GoOn(other),
    }
}

#[cfg(test)]
mod tests;
