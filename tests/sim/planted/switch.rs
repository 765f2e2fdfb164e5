//! Bugs planted on purpose, to test the simulator: it must find each. `scripts/sim --planted` puts
//! this file, and a switch for each bug (`NAME.patch`), into a copy of the sources; nothing of them
//! is in the sources themselves.

use std::cell::Cell;

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A fragment is acked before its bytes are written.
    AckBeforeWrite,
    /// The names of parts are not synced at seal.
    SealWithoutNames,
    /// Names are synced in the work directory, whatever shelf they are on.
    OneShelfSynced,
    /// The folder of a destination is not synced at publish.
    PublishWithoutSync,
    /// An overlap is stored from its first byte.
    OverlapUntrimmed,
    /// A sync that failed is tried again.
    SyncRetried,
    /// A body block is not given back.
    BlockKept,
    /// A failed sync does not end its session.
    PoisonIgnored,
    /// A record is believed to be durable whose sync failed.
    UnsyncedBelieved,
    /// A session that ends need not survive a power cut, though its file was to be published.
    EndUnsynced,
    /// A sync of a name that failed is tried again.
    NameNotGivenAnew,
    /// Create is acked before the record is written.
    RecordAfterAck,
    /// A destination is replaced although it must not be.
    PublishOverExisting,
    /// After a power cut the length of a part is trusted.
    LengthTrusted,
    /// A closed session is not remembered.
    TombstoneForgotten,
    /// Two connections write to one session at once.
    TurnstileOpen,
    /// A file is sealed without a sync of its bytes.
    SealWithoutSync,

    // What the simulator found once. Planted, they stay found however the drawing of seeds changes.
    /// A duplicate is acked with bytes that were never synced.
    DuplicateUnsynced,
    /// The old journals are removed although a new one could not be begun.
    RenewalRemoves,
    /// After a stop that could not sync a disk, what was on that is believed to be whole.
    UnsyncedDiskBelieved,
    /// A seal is trusted that may be in the page cache only.
    SealTrusted,
    /// A publication is trusted that may be in the page cache only.
    RenameTrusted,

    /// A file published with its last fragment is forgotten when a power cut takes the record back.
    PublishedForgotten,
    /// Bytes without a recorded size are cut off, so that a Close finds an empty file.
    SizelessTrusted,
    /// A connection that sends a reply keeps the block of its requests.
    DownloadHoldsTwo,

    // What could go wrong with applications.
    /// The final Ack is given before the application's answer is recorded.
    NotifiedUnrecorded,
    /// A reply is not synced before its URL is given.
    ReplyUnsynced,
    /// A file that the application did not ask for is published.
    PublishedUnasked,
    /// The reply outlives its session.
    ReplyKept,

    // What the journal could do wrong.
    /// A shard removes the old journals before the others have read them.
    JournalRetiredEarly,
    /// A new journal replaces the old one unsynced.
    JournalUnsynced,

    // What could go wrong where the file system commits in order.
    /// A file is sealed although its bytes are not on the device.
    SealNotWrittenOut,
    /// Nothing is synced after the file got its name.
    PublishUncommitted,
    /// On another disk than the journal's the bytes are written out, and nothing is synced.
    ShelfUncommitted,

    // What could go wrong with who asks.
    /// A session is not its user's any more when it was read back.
    OwnerForgotten,
    /// Whoever knows the id of a session that ended hears how.
    TombstoneForAll,
    /// Nobody is asked who sends a Ping.
    PingUnauthenticated,
    /// A password that was right is believed when its line is another one.
    CacheOutlivesLine,
    /// Whoever guesses the passwords of a user keeps that one out.
    ThrottlePerUser,
    /// Who was known on a connection is not, on another shard.
    IdentityLost,
    /// Who was known on a connection that others use as well is taken for them.
    IdentityKept,

    // What could go wrong with TLS.
    /// What was decrypted and had no room in a block is lost.
    PlainLost,
    /// Nobody is told of bytes that are decrypted already.
    ReadySleeps,
    /// Who says that nothing more comes is taken to have sent the rest.
    GoodbyeIsTheRest,

    // What could go wrong with digests.
    /// The digest of a part goes on as if it had seen all that is there.
    DigestWrongOffset,
    /// A byte of a short write is left out of the digest.
    DigestSkipsByte,
    /// A part was cut, and its digest has seen what is gone.
    DigestKeptAfterCut,

    // What could go wrong with events.
    /// A tombstone hides the record that owes an event when the journal is renewed.
    EventForgottenAtRenewal,
    /// An event is owed no more before its target has answered.
    EventAcknowledgedEarly,
    /// What a session that ended owes is not read back.
    EventLostAtRecovery,
    /// A session that ended without a file is told as one that has one.
    EventToldRefused,

    // What could go wrong with the custody ledger.
    /// A Close is acked before its line is written.
    LineAfterAck,
    /// A line is written before its file has its name.
    LineBeforeName,
    /// Every line is trusted to make the name of its file durable.
    LineCommitsAll,
    /// A torn end is taken for a line when the ledger is read back.
    ChainNotHealed,
    /// A restart forgets that a session is not settled.
    UnsettledForgotten,

    // What could go wrong with an object store.
    /// A store is believed that says that it has made an object of parts.
    ObjectUnlooked,
    /// Whatever stands under a key is taken for ours.
    AnybodysObject,
    /// An upload in parts is noted only when the store has named it.
    UploadNotedLate,
    /// An object is replaced although it must not be.
    ObjectReplaces,
    /// Nobody sees to a file that was promised and is staged here.
    StagedForgotten,
    /// The record does not say what the store calls the object.
    ObjectUnnoted,
}

impl Bug {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::AckBeforeWrite,
        Self::SealWithoutNames,
        Self::OneShelfSynced,
        Self::PublishWithoutSync,
        Self::OverlapUntrimmed,
        Self::SyncRetried,
        Self::BlockKept,
        Self::PoisonIgnored,
        Self::UnsyncedBelieved,
        Self::EndUnsynced,
        Self::NameNotGivenAnew,
        Self::RecordAfterAck,
        Self::PublishOverExisting,
        Self::LengthTrusted,
        Self::TombstoneForgotten,
        Self::TurnstileOpen,
        Self::SealWithoutSync,
        Self::DuplicateUnsynced,
        Self::RenewalRemoves,
        Self::SealTrusted,
        Self::RenameTrusted,
        Self::PublishedForgotten,
        Self::SizelessTrusted,
        Self::DownloadHoldsTwo,
        Self::NotifiedUnrecorded,
        Self::ReplyUnsynced,
        Self::PublishedUnasked,
        Self::ReplyKept,
        Self::JournalRetiredEarly,
        Self::JournalUnsynced,
        Self::SealNotWrittenOut,
        Self::PublishUncommitted,
        Self::ShelfUncommitted,
        Self::OwnerForgotten,
        Self::TombstoneForAll,
        Self::PingUnauthenticated,
        Self::CacheOutlivesLine,
        Self::ThrottlePerUser,
        Self::IdentityLost,
        Self::IdentityKept,
        Self::PlainLost,
        Self::ReadySleeps,
        Self::GoodbyeIsTheRest,
        Self::DigestWrongOffset,
        Self::DigestSkipsByte,
        Self::DigestKeptAfterCut,
        Self::EventForgottenAtRenewal,
        Self::EventAcknowledgedEarly,
        Self::EventLostAtRecovery,
        Self::EventToldRefused,
        Self::LineAfterAck,
        Self::LineBeforeName,
        Self::LineCommitsAll,
        Self::ChainNotHealed,
        Self::UnsettledForgotten,
        Self::ObjectUnlooked,
        Self::AnybodysObject,
        Self::UploadNotedLate,
        Self::ObjectReplaces,
        Self::StagedForgotten,
        Self::ObjectUnnoted,
        Self::UnsyncedDiskBelieved,
    ];
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Plants one bug, or none, on this thread.
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether this bug is planted.
pub fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}
