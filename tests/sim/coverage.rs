//! Which branch an event tells of.

use bitsd::bits::reply::Refusal;
use bitsd::bits::session::Ending;
use bitsd::event::{Event, Hangup};

use crate::marks::Marks;

/// Marks the branches that an event shows.
pub fn mark(event: &Event<'_>, marks: &Marks) {
    let mark = match event {
        Event::ConnectionRefused { .. } => "no room for a connection",
        Event::HungUp { why, .. } => match why {
            Hangup::HeadTimeout => "head timed out",
            Hangup::Idle => "idle connection ended",
            Hangup::BodyStalled => "stalled body ended",
            Hangup::Crowded => "idle connection made room",
            Hangup::NotClosed => "did not close after its last answer",
            Hangup::TakenOver => "connection ended by a newer one",
            Hangup::Draining => "connection ended by the stop",
            // The wires here have no hands to shake.
            Hangup::HandshakeTimeout => return,
        },
        Event::BadRequest { .. } => "bad head",
        Event::Refused { why, .. } => match why {
            Refusal::DiskFull => "disk full answered",
            Refusal::FragmentTooLarge { .. } => "fragment too large (413)",
            Refusal::FileTooLarge => "file too large for the disk",
            Refusal::UploadTooLarge { .. } => "upload too large",
            Refusal::ParentMissing => "folder missing (404)",
            Refusal::SpaceLow => "little space (500)",
            Refusal::TargetExists => "destination taken (403)",
            Refusal::TargetInvalid(_) => "path that is none",
            Refusal::TotalChanged { .. } => "total changed (400)",
            Refusal::Unavailable => "recovering (503)",
            Refusal::EventsOwed => "too many events owed (503)",
            Refusal::Busy(_) => "limit of sessions (503)",
            _ => return,
        },
        Event::FragmentStored { skipped, .. } if *skipped > 0 => "overlap",
        Event::Gap { .. } => "gap (416)",
        Event::SessionSealed { .. } => "seal",
        Event::SessionTakenOver { .. } => "takeover",
        Event::SessionEnded { ending, .. } => match ending {
            Ending::Incomplete => "close of an incomplete upload",
            Ending::Expired => "abandoned session expired",
            _ => return,
        },
        Event::SetAside { .. } => "record set aside",
        Event::Orphaned { .. } => "part without a record removed",
        Event::BlocksExhausted => "block exhausted",
        _ => return,
    };
    marks.hit(mark);
}
