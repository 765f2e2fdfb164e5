//! The keeping: what the server has on disk, and what of it survives whom.
//!
//! # The contract
//!
//! | Promise | after `kill -9` | after a power cut |
//! | --- | --- | --- |
//! | Final fragment Ack: all bytes are ours to keep | always | always |
//! | The same, if an application hears of uploads: it has taken the file | always | always |
//! | Close Ack: the file is whole, at its place | always | always |
//! | Fragment Ack: these bytes need not be sent again | always | by `durability` |
//! | Destination name: absent, or old, or whole, never partial | always | always |
//!
//! * Where an application hears of uploads, its reply stays until the session ends, and the file is
//!   at its place only if the application asked for it.
//! * With `publish = "last-fragment"` the final fragment Ack promises what the Close Ack does.
//! * With `store_ack = "staged"` a Close Ack says that the file is durable here, and that its way
//!   into the store is ours.
//! * The bytes of a fragment survive a power cut with `durability = "fragment"`. With `"upload"`,
//!   the default, perhaps not; the server then asks for them again by 416.
//!
//! With `durability = "none"` nothing is ever synced: the column "after `kill -9`" holds, the other
//! one does not.
//!
//! # How it is kept
//!
//! The bytes of a session are in `ID.part`, on the shelf of its root: the work directory, or a
//! folder on the root's own file system. **The length of the part is the progress**; no second
//! counter can disagree with it. What the length cannot say (destination, size, state, and how many
//! bytes were synced, `durable`) is a record in the shard's [`journal`].
//!
//! * *Create*: the part is made and the record written before the Create Ack. Neither is synced: a
//!   power cut that loses them makes the client start again.
//! * *Fragment*, `durability = "fragment"`: `fdatasync(part)`, record with `durable` synced, names
//!   synced; then the Ack.
//! * *Seal*: `fdatasync(part)`; record `sealed`, synced; names synced; then the final fragment Ack.
//!   With `durability = "none"` there is no record of it: the length of the part says it.
//! * *Publish*: record `closing` (written, not synced); rename without replacing; sync of the
//!   destination's folder; then the Close Ack. A restart that finds the part gone under a `closing`
//!   record knows that the rename happened, since nothing else removes a part in that state: a
//!   start that cannot believe one sets it aside, and the name of that tells. What a store is to
//!   have goes only when a record, synced, says that it has it. If a power cut takes the record
//!   back to `sealed`, the inode at the destination tells.
//! * *One sync for many*: where the disk commits all changes in their order
//!   ([`disk::WorkFiles::commits_in_order`]: ext4 with a journal, XFS), neither the part nor any
//!   folder is synced by itself. The part is written out, which brings its bytes to the device and
//!   no more; then the record is appended and the journal synced, once for all sessions that wait.
//!   That sync commits what was done before it: the length and the name of the part. At Close the
//!   same happens after the rename, with the record `closing` once more. A record that is read back
//!   after a power cut says on such a disk that all before it is there too. A shelf on another disk
//!   has a file of its own that grows for that ([`disk::Commit`]).
//! * *Notification* (protocol.md 9.1): after the seal the application is told. What it said (and
//!   its reply, synced first) is recorded, synced; then the final fragment Ack. A crash before that
//!   lets the client's next duplicate of the last fragment tell it again, under the same id; after
//!   it, the duplicate gets the recorded answer.
//! * *Discard*: record `cancelled`, `expired` .. first, then the part. So no crash can show a part
//!   that is gone under a record that still promises it. If the record cannot be written, a client
//!   that asked for the end hears so, and asks again; on a full disk the bytes make room for it.
//! * *A sync that failed* is never tried again, because the kernel may have dropped the pages and
//!   would call the second try a success. If they were bytes of an upload, its session is poisoned:
//!   its files go, the client hears BG_E_SESSION_NOT_FOUND and starts again, and for a while
//!   nothing new is begun on that file system ([`space`]). If they were records, a new journal
//!   takes the place of the one that failed, and no session ends. If it was the name of a file, the
//!   bytes of which are safe, that is given once more ([`keep::Keep::publish`]).
//! * *Disk full*: the part keeps what it has, the client hears so and comes back later. A file that
//!   is larger than what is free is refused before its bytes; how space is reserved stands in
//!   [`space`].
//!
//! # The rooms
//!
//! [`keep`] does the above for one session; the records go by [`store`] into the [`journal`], one
//! [`frame`] each. [`names`] are those of all files. [`readback`] finds what a later start needs of
//! former journals, [`clean_stop`] says what of it a reboot has left whole, [`verdict`] decides
//! what becomes of each session, and [`recover`] does that. [`hashing`] computes digests over
//! restarts. [`owed`] says what others are to hear, and why nobody is forgotten. [`tombstones`] are
//! what is left of sessions that ended, and [`stuck`] has what of them could not be removed.
//! [`weight`] says what all of them take of memory. [`gate`] lets many share one sync. [`error`]
//! says what the disk refused. All of it stands on the traits of [`disk`].
//!
//! Nothing here knows a connection, a shard, or HTTP.
#![forbid(unsafe_code)]

pub mod clean_stop;
pub mod destination;
pub mod disk;
pub mod ending_words;
pub mod error;
pub mod frame;
pub mod gate;
pub mod hashing;
pub mod journal;
pub mod keep;
pub mod names;
pub mod owed;
pub mod readback;
pub mod record;
pub mod recover;
pub mod space;
pub mod store;
pub mod stuck;
pub mod tombstones;
pub mod verdict;
pub mod weight;
