//! Events to lines: which line each one makes, at which level, and how often.

use std::io;

use rustix::io::Errno;
use tracing::field::display;
use tracing::{Level, debug, info, warn};

use super::connections::log_connection;
use super::limit::{Cause, Kind, may};
use super::outbox::log_events;
use super::refusals::log_refusal;
use super::words::{disk_op_in_words, ending_in_words};
use crate::bits::session::Ending;
use crate::bits::session_id::SessionId;
use crate::diagnosis::{self, Diagnosis, Severity};
use crate::event::{DIGEST_FILE, DIGEST_OBJECT, DiskOp, Event, Told};
use crate::http::digest::Hex;

/// Logs one event of one shard.
pub fn log(shard: usize, event: &Event<'_>) {
    match event {
        Event::Connected { .. }
        | Event::ConnectionRefused { .. }
        | Event::HungUp { .. }
        | Event::Stalled { .. }
        | Event::Moved { .. }
        | Event::NotServed { .. }
        | Event::DownloadRefused { why: None, .. }
        | Event::FileCut { .. }
        | Event::CaseDiffers { .. }
        | Event::BadRequest { .. }
        | Event::HandshakeFailed { .. }
        | Event::TicketRefused { .. }
        | Event::TicketsUnusable { .. }
        | Event::NotLetIn { .. }
        | Event::Announced { .. }
        | Event::Secured { .. }
        | Event::Shown { .. }
        | Event::EndedEarly { .. }
        | Event::BrokeOff { .. }
        | Event::Answered { .. }
        | Event::BlocksExhausted => log_connection(shard, event),
        Event::Refused { .. } | Event::DownloadRefused { why: Some(_), .. } => {
            log_refusal(shard, event);
        }
        Event::SessionEnded { .. } => log_end(shard, event),
        Event::DiskFailed { op, session, error } => log_disk(shard, *op, *session, error),
        Event::NotGiven { path, what, error } if may(Level::WARN, Cause::of(Kind::NotGiven)) => {
            let event = Kind::NotGiven.event();
            let remedy = of_not_given(what, error);
            warn!(event, shard, path, %error, remedy, "a published file did not get the {what} that belongs to it");
        }
        Event::NotGiven { .. } => {}
        Event::Notified { session, told } => log_notification(shard, session, told),
        Event::Relayed { .. } | Event::NobodyToTell { .. } => log_events(shard, event),
        Event::Orphaned { .. } | Event::PartsMissing { .. } | Event::StagedLost { .. } => {
            log_odd_start(shard, event);
        }
        Event::SetAside { .. } | Event::FileChanged { .. } => log_odd_file(shard, event),
        Event::StagedUnnamed {
            session,
            path,
            op,
            error,
        } if may(Level::WARN, Cause::of(Kind::StagedUnnamed)) => {
            let event = Kind::StagedUnnamed.event();
            let remedy = diagnosis::diagnose(*op, error).remedy;
            warn!(event, shard, %session, path, %error, remedy, "a file that its client was told is kept waits for its name");
        }
        Event::StagedUnnamed { .. } => {}
        Event::Recovered {
            sessions,
            duration_ms,
        } => {
            debug!(
                event = "recovered",
                shard, sessions, duration_ms, "sessions read back"
            );
        }
        Event::SessionRecovered {
            session,
            received,
            truncated,
        } if *truncated > 0 => {
            info!(event = "session_recovered", shard, %session, received, truncated,
                "session read back; bytes a power cut may have lost are asked for again");
        }
        Event::SessionCreated { .. }
        | Event::FragmentStored { .. }
        | Event::Repeated { .. }
        | Event::Gap { .. }
        | Event::SessionSealed { .. }
        | Event::SessionResumed { .. }
        | Event::ReadAgain { .. }
        | Event::SessionTakenOver { .. }
        | Event::SessionRecovered { .. } => log_progress(shard, event),
    }
}

/// What lets a file be given what its folder gives.
fn of_not_given(what: &str, error: &io::Error) -> &'static str {
    // A number that the user namespace does not know, whatever rights there are.
    let is_unmapped = Errno::from_io_error(error) == Some(Errno::INVAL);
    match what {
        DIGEST_FILE => {
            "remove what has its name (`lsattr` shows whether it may be), or choose a shorter one; or set digest_file = \
             false; a HEAD of the file tells its digest"
        }
        DIGEST_OBJECT => "put it there by hand: the digest is in the log and in the ledger",
        "SELinux type" => {
            "allow bitsd to relabel files in the policy, or give the work directory the type of the folder"
        }
        "group" | "ACL" if is_unmapped => {
            "let the user namespace of the server know the group, or whom the ACL names (subgid, subuid; a rootless \
             container: --gidmap), or give the folder another one"
        }
        "mode" | "ACL" => {
            "the file system lets the server's user give no permissions (SMB, FUSE): give them by options of \
             its mount, or leave file_mode out"
        }
        "attribute" => {
            "`lsattr` shows which: no file that has bytes can be given them; let the folder be the `root` of a [[location]], \
             where unfinished uploads are made with them, or take them off the folder (`chattr`)"
        }
        "project id" => {
            "look at the quotas of the file system: in a user namespace nobody may give a project id"
        }
        _ => {
            "let the server's user be a member of the folder's group (SupplementaryGroups= of the service)"
        }
    }
}

/// Files of the work directory that are not as they were.
fn log_odd_file(shard: usize, event: &Event<'_>) {
    match event {
        Event::SetAside { name, why } => {
            let remedy = "look at the renamed file in the work directory; delete it if nobody misses the upload";
            let event = "file_set_aside";
            warn!(
                event,
                shard, name, why, remedy, "a file of the work directory was set aside"
            );
        }
        Event::FileChanged {
            session,
            path,
            sent,
            sha256,
        } => {
            let (sent, sha256) = (Hex(sent).to_string(), Hex(sha256).to_string());
            info!(
                event = "file_changed",
                shard, %session, path, sent, sha256,
                "the application has changed the file: its digest is told from now on"
            );
        }
        _ => {}
    }
}

/// Records and files of the work directory that do not belong together.
fn log_odd_start(shard: usize, event: &Event<'_>) {
    match event {
        Event::Orphaned { parts, bytes } => {
            warn!(
                event = "orphans_removed",
                shard,
                parts,
                bytes,
                "unfinished uploads without a record were removed: their clients begin again"
            );
        }
        Event::PartsMissing { uploads, bytes, of } => {
            let event = "parts_missing";
            let remedy = "if no disk has failed, and no line was taken out of shelves: find out who removes files of the work directory";
            warn!(
                event,
                shard,
                uploads,
                bytes,
                of,
                remedy,
                "the files of unfinished uploads are gone: their clients begin again"
            );
        }
        Event::StagedLost {
            session,
            path,
            bytes,
            is_aside,
            is_promised,
        } => {
            let event = "staged_lost";
            let remedy = match is_promised {
                true => "its client does not come back: have the file sent once more",
                false => "its client sends it once more",
            };
            let what = match is_aside {
                true => "a file on its way to an object store is not as it came: it was put aside",
                false => "a file on its way to an object store is gone",
            };
            warn!(event, shard, %session, path, bytes, remedy, "{what}");
        }
        _ => {}
    }
}

/// A failed accept is nobody's event: there is no connection yet.
pub fn log_failed_accept(shard: usize, error: &io::Error) {
    if may(Level::WARN, Cause::of(Kind::AcceptFailed)) {
        let event = Kind::AcceptFailed.event();
        let remedy = diagnosis::remedy_of_accept(error);
        warn!(event, shard, %error, remedy, "connections cannot be accepted");
    }
}

/// A signal that means nothing here; anybody may send one.
pub fn log_ignored_signal(name: &str) {
    if may(Level::INFO, Cause::of(Kind::SignalIgnored)) {
        let event = Kind::SignalIgnored.event();
        info!(event, signal = name, "a signal that means nothing here");
    }
}

/// Something that the disk refused.
fn log_disk(shard: usize, op: DiskOp, session: Option<SessionId>, error: &io::Error) {
    let Diagnosis {
        severity,
        cause,
        remedy,
        ..
    } = diagnosis::diagnose(op, error);
    let level = match severity {
        Severity::Silent => return,
        Severity::Info => Level::INFO,
        Severity::Warning => Level::WARN,
    };
    let of_op = Cause {
        code: op as u32 + 1,
        why: cause,
        ..Cause::of(Kind::DiskFailed)
    };
    if !may(level, of_op) {
        return;
    }
    let event = Kind::DiskFailed.event();
    let (op, session) = (disk_op_in_words(op), session.map(display));
    match severity {
        Severity::Warning => {
            warn!(event, shard, session, op, %error, cause, remedy, "the disk refused to {op}");
        }
        Severity::Info | Severity::Silent => {
            info!(event, shard, session, op, %error, cause, remedy, "the disk refused to {op}");
        }
    }
}

/// The one line of a session.
fn log_end(shard: usize, event: &Event<'_>) {
    let Event::SessionEnded {
        session,
        ending,
        by_administrator,
        path,
        location,
        received,
        total,
        duration_ms,
        idle_ms,
        interruptions,
        connections,
        agent,
        user,
        proof,
        digests,
        object,
        peer,
        remedy,
        ..
    } = event
    else {
        return;
    };
    // A client can make sessions and give them up without end, and begins again at once where the
    // disk fails. Files that arrived are all told, and bytes that were kept for somebody who did
    // not come back.
    let is_without_end = matches!(
        ending,
        Ending::Cancelled | Ending::Incomplete | Ending::Denied | Ending::Poisoned
    );
    let of_ending = Cause {
        code: *ending as u32 + 1,
        ..Cause::of(Kind::SessionEnded)
    };
    let may_be_left_out = (*received == 0 || is_without_end) && !by_administrator;
    if may_be_left_out && !may(Level::INFO, of_ending) {
        return;
    }
    let remedy = match ending {
        // By what has ended it: the disk may be well, and somebody have removed the file.
        Ending::Poisoned => remedy.or(Some("check the disk; the client starts again by itself")),
        Ending::Expired if *received > 0 && !by_administrator => {
            Some("its client has not come back; session_timeout says for how long bytes are kept")
        }
        _ => None,
    };
    // The prefix of the global settings is empty.
    let location = Some(*location).filter(|prefix| !prefix.is_empty());
    let idle_ms = Some(*idle_ms).filter(|_| *ending == Ending::Expired);
    let (ending, peer) = (
        ending_in_words(*ending, *by_administrator),
        peer.map(display),
    );
    let event = Kind::SessionEnded.event();
    let sha256 = digests.map(|digests| Hex(&digests.sha256).to_string());
    let sha1 = digests.and_then(|digests| digests.sha1);
    let sha1 = sha1.map(|sha1| Hex(&sha1).to_string());
    let object = object.map(|object| format!("{}/{}", object.bucket, object.key));
    // The fields' order is that of the line: who, what, how much.
    if let Some(remedy) = remedy {
        warn!(event, shard, %session, path, location, bytes = received, of = total, duration_ms, idle_ms, interruptions,
            connections, peer, user, proof, agent, sha256, sha1, object, ending, remedy, "session ended");
    } else {
        info!(event, shard, %session, path, location, bytes = received, of = total, duration_ms, idle_ms, interruptions,
            connections, peer, user, proof, agent, sha256, sha1, object, ending, "session ended");
    }
}

/// How the application took an upload.
fn log_notification(shard: usize, session: &SessionId, told: &Told<'_>) {
    if let Told::Answered(200) = told {
        debug!(event = "upload_taken", shard, %session, "the application took the upload");
        return;
    }
    let status = match told {
        Told::Answered(status) => *status,
        Told::Senseless(_) => 200,
        Told::Failed(_) => 0,
    };
    let cause = Cause {
        status,
        ..Cause::of(Kind::NotTaken)
    };
    if !may(Level::WARN, cause) {
        return;
    }
    let event = Kind::NotTaken.event();
    match told {
        Told::Answered(status) => {
            let remedy = "look at the log of the server application; only 200 takes an upload";
            warn!(event, shard, %session, status, remedy, "the application did not take the upload");
        }
        Told::Senseless(why) => {
            let remedy = "look at what the server application answers; docs/applications.md says what it may";
            warn!(event, shard, %session, status, %why, remedy, "the application gave no answer that makes sense");
        }
        Told::Failed(why) => {
            let remedy = "look at the server application and at notification_url";
            warn!(event, shard, %session, %why, remedy, "the application was not told of the upload");
        }
    }
}

/// The life of a session before its end; always quiet.
fn log_progress(shard: usize, event: &Event<'_>) {
    match event {
        Event::SessionCreated {
            session,
            path,
            peer,
            ..
        } => {
            debug!(event = "session_created", shard, %session, path, %peer, "session created");
        }
        Event::FragmentStored {
            session,
            stored,
            skipped,
            received,
            ..
        } => {
            debug!(event = "fragment_stored", shard, %session, stored, skipped, received, "fragment stored");
        }
        Event::Repeated {
            session,
            bytes,
            received,
            ..
        } => {
            debug!(event = "repeated", shard, %session, bytes, received, "all of the fragment was there already");
        }
        Event::Gap {
            session,
            bytes,
            received,
            ..
        } => {
            debug!(event = "gap", shard, %session, bytes, received,
                "fragment beyond what was received; the client goes back");
        }
        Event::SessionSealed { session } => {
            debug!(event = "session_sealed", shard, %session, "session sealed");
        }
        Event::ReadAgain { session, bytes } => {
            debug!(event = "read_again", shard, %session, bytes, "bytes read again for the digest of an upload");
        }
        Event::SessionTakenOver { session, .. } => {
            debug!(event = "session_taken_over", shard, %session, "session taken over by a newer connection");
        }
        Event::SessionRecovered {
            session, received, ..
        } => {
            debug!(event = "session_recovered", shard, %session, received, "session read back");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
