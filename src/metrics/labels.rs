//! The words by which series of one metric differ: of each kind as many as are written here, and
//! no client can make one more.

use crate::bits::packet::PacketKind;
use crate::bits::reply::Refusal;
use crate::bits::session::{Ending, State};
use crate::event::{DiskOp, Hangup};

/// Where a word stands in its list.
const fn place(words: &[&str], word: &str) -> usize {
    let mut at = 0;
    while at < words.len() {
        if is_same(words[at].as_bytes(), word.as_bytes()) {
            return at;
        }
        at += 1;
    }
    panic!("a word that is in no list")
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// A list of words, and which of them a value has.
macro_rules! words {
    ($(#[$doc:meta])* $list:ident, $name:ident($type:ty) { $($pattern:pat => $word:literal,)+ }) => {
        $(#[$doc])*
        pub const $list: &[&str] = &[$($word),+];

        $(#[$doc])*
        pub fn $name(value: $type) -> usize {
            match value {
                $($pattern => const { place($list, $word) },)+
            }
        }
    };
}

words! {
    /// Packets.
    PACKETS, packet(Option<PacketKind>) {
        Some(PacketKind::Ping) => "ping",
        Some(PacketKind::CreateSession) => "create_session",
        Some(PacketKind::Fragment) => "fragment",
        Some(PacketKind::CloseSession) => "close_session",
        Some(PacketKind::CancelSession) => "cancel_session",
        None => "invalid",
    }
}

words! {
    /// States of a session that has not ended.
    STATES, state(State) {
        State::Receiving { .. } | State::Gone(_) => "receiving",
        State::Sealed { .. } => "sealed",
        State::Notified { .. } | State::Denied { .. } => "told",
        State::Closing { .. } => "closing",
        State::Published { .. } => "published",
    }
}

words! {
    /// How a session ended, and whether an administrator ended it.
    ENDINGS, ending((Ending, bool)) {
        (Ending::Published, _) => "published",
        (Ending::Delivered, _) => "delivered",
        (Ending::Denied, _) => "denied",
        (Ending::Incomplete, _) => "incomplete",
        (Ending::Cancelled, false) => "cancelled",
        (Ending::Cancelled, true) => "cancelled_by_administrator",
        (Ending::Expired, false) => "expired",
        (Ending::Expired, true) => "expired_by_administrator",
        (Ending::Poisoned, _) => "poisoned",
    }
}

words! {
    /// Why we ended a connection.
    HANGUPS, hangup(Hangup) {
        Hangup::HandshakeTimeout => "handshake_timeout",
        Hangup::HeadTimeout => "head_timeout",
        Hangup::Idle => "idle",
        Hangup::BodyStalled => "body_stalled",
        Hangup::TakenOver => "taken_over",
        Hangup::Draining => "draining",
        Hangup::Crowded => "crowded",
        Hangup::NotClosed => "not_closed",
    }
}

words! {
    /// What was done to the disk.
    DISK_OPS, disk_op(DiskOp) {
        DiskOp::Create => "create",
        DiskOp::Open => "open",
        DiskOp::Read => "read",
        DiskOp::Allocate => "allocate",
        DiskOp::Write => "write",
        DiskOp::Record => "record",
        DiskOp::Sync => "sync",
        DiskOp::SyncDirectory => "sync_directory",
        DiskOp::SyncRecords => "sync_records",
        DiskOp::SyncDestination => "sync_destination",
        DiskOp::LookUp => "look_up",
        DiskOp::Publish => "publish",
        DiskOp::Reply => "reply",
        DiskOp::Remove => "remove",
        DiskOp::Truncate => "truncate",
        DiskOp::Ledger => "ledger",
        DiskOp::DigestFile => "digest_file",
    }
}

words! {
    /// Why a packet was refused.
    REASONS, reason(&Refusal) {
        Refusal::PacketTypeMissing => "packet_type_missing",
        Refusal::PacketTypeUnknown => "packet_type_unknown",
        Refusal::FieldRepeated(_) => "field_repeated",
        Refusal::ProtocolsMissing => "protocols_missing",
        Refusal::ProtocolUnsupported => "protocol_unsupported",
        Refusal::SessionIdMissing => "session_id_missing",
        Refusal::RangeMissing => "range_missing",
        Refusal::RangeMalformed => "range_malformed",
        Refusal::LengthMismatch => "length_mismatch",
        Refusal::LengthMissing => "length_missing",
        Refusal::LengthRequired => "length_required",
        Refusal::ChunkedRefused => "chunked_refused",
        Refusal::ChunkedMalformed => "chunked_malformed",
        Refusal::UnexpectedBody => "unexpected_body",
        Refusal::EncodingUnsupported => "encoding_unsupported",
        Refusal::TargetInvalid(_) => "target_invalid",
        Refusal::TargetIsDirectory => "target_is_directory",
        Refusal::TotalChanged { .. } => "total_changed",
        Refusal::Unauthorized(_) => "unauthorized",
        Refusal::NotAllowed => "not_allowed",
        Refusal::NamesItself => "names_itself",
        Refusal::FromElsewhere => "from_elsewhere",
        Refusal::NotNamed => "not_named",
        Refusal::NameUnusable => "name_unusable",
        Refusal::CertificateMissing => "certificate_missing",
        Refusal::CertificateNameless => "certificate_nameless",
        Refusal::NoFolder => "no_folder",
        Refusal::InTheClear => "in_the_clear",
        Refusal::TargetExists => "target_exists",
        Refusal::AccessDenied => "access_denied",
        Refusal::Obstructed(_) => "obstructed",
        Refusal::ParentMissing => "parent_missing",
        Refusal::FragmentTooLarge { .. } => "fragment_too_large",
        Refusal::Gap { .. } => "gap",
        Refusal::SessionNotFound => "session_not_found",
        Refusal::UploadTooLarge { .. } => "upload_too_large",
        Refusal::FileTooLarge => "file_too_large",
        Refusal::DiskFull => "disk_full",
        Refusal::NoRoom => "no_room",
        Refusal::QuotaExceeded => "quota_exceeded",
        Refusal::SpaceLow => "space_low",
        Refusal::EventsOwed => "events_owed",
        Refusal::LedgerFails => "custody_failed",
        Refusal::StagingFull => "staging_full",
        Refusal::ReadOnly => "read_only",
        Refusal::DiskFailed => "disk_failed",
        Refusal::UploadsDisabled => "uploads_disabled",
        Refusal::Application { .. } => "application",
        Refusal::ApplicationFailed { .. } => "application_failed",
        Refusal::ApplicationTimedOut { .. } => "application_timed_out",
        Refusal::ReplyUrlTooLong { .. } => "reply_url_too_long",
        Refusal::AsBefore { .. } => "as_before",
        Refusal::TooManyFailures { .. } => "too_many_failures",
        Refusal::TicketsUnusable => "tickets_unusable",
        Refusal::TooManySessions => "too_many_sessions",
        Refusal::TooManyOfUser => "too_many_of_user",
        Refusal::Busy(_) => "busy",
        Refusal::StorePending => "store_pending",
        Refusal::StoreFailed => "store_failed",
        Refusal::DiskUnusable => "disk_unusable",
        Refusal::Unavailable => "unavailable",
        Refusal::Displaced => "displaced",
        Refusal::DiskAway => "disk_away",
        Refusal::LocationMoved => "location_moved",
    }
}

/// How bytes reach their file: past the page cache by the ring, into it by the ring, or into it by
/// a call on the shard.
pub const ROUTES: &[&str] = &["direct", "ring", "inline"];
/// See [`ROUTES`].
pub const DIRECT: usize = place(ROUTES, "direct");
/// See [`ROUTES`].
pub const RING: usize = place(ROUTES, "ring");
/// See [`ROUTES`].
pub const INLINE: usize = place(ROUTES, "inline");

/// Targets of events.
pub const TARGETS: &[&str] = &["webhook", "nats"];

/// The number of a target.
pub fn target(word: &str) -> Option<usize> {
    TARGETS.iter().position(|target| *target == word)
}

/// What applications were told and said.
pub const TOLD: &[&str] = &["taken", "refused", "failed"];
/// See [`TOLD`].
pub const TAKEN: usize = place(TOLD, "taken");
/// See [`TOLD`].
pub const REFUSED: usize = place(TOLD, "refused");
/// See [`TOLD`].
pub const FAILED: usize = place(TOLD, "failed");

/// Statuses of answers: those that are ours. An application may have any other, and those are one.
pub const CODES: &[&str] = &[
    "200", "400", "401", "403", "404", "408", "409", "411", "413", "416", "500", "501", "502",
    "503", "other",
];

/// Where a status stands in [`CODES`].
pub fn code(status: u16) -> usize {
    match status {
        200 => const { place(CODES, "200") },
        400 => const { place(CODES, "400") },
        401 => const { place(CODES, "401") },
        403 => const { place(CODES, "403") },
        404 => const { place(CODES, "404") },
        408 => const { place(CODES, "408") },
        409 => const { place(CODES, "409") },
        411 => const { place(CODES, "411") },
        413 => const { place(CODES, "413") },
        416 => const { place(CODES, "416") },
        500 => const { place(CODES, "500") },
        501 => const { place(CODES, "501") },
        502 => const { place(CODES, "502") },
        503 => const { place(CODES, "503") },
        _ => const { place(CODES, "other") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stands_for_one_thing() {
        for list in [PACKETS, STATES, ENDINGS, HANGUPS, DISK_OPS, REASONS, CODES] {
            let mut sorted = list.to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), list.len(), "{list:?}");
        }
        for (at, word) in CODES.iter().enumerate().take(CODES.len() - 1) {
            assert_eq!(code(word.parse().unwrap()), at);
        }
        assert_eq!(CODES[code(418)], "other");
    }
}
