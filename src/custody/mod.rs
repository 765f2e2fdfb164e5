//! The custody ledger: one line for each upload that ended, each chained to the one before.
//!
//! # What a line says, and when
//!
//! A line is a JSON object ([`entry`]): which bytes came, when, from whom, under which digests. It
//! ends with `prev`, the SHA-256 of the line before, its newline included; so nobody can change,
//! remove or swap lines and leave the rest as it is ([`chain`]). Whoever can write to the folder
//! can forge the whole chain anew. Against that the log has the head of the chain once a day and at
//! each stop (`custody_head`): a log that is kept on another host is its witness.
//!
//! The order at the end of an upload is
//!
//! 1. the file has its name, which survives a power cut;
//! 2. its line is written, and survives a power cut;
//! 3. the client hears the Ack.
//!
//! Where the ledger is in the same log as the names of files ([`crate::ring::commit_log`]), one
//! sync makes both durable: the log is cut off somewhere by a power cut, and the name stands before
//! the line in it. Where an event is owed, the name is durable first all the same: it may be told
//! while the line cannot be written.
//!
//! A file that goes into an object store ([`crate::objects`]) has its name when the store has the
//! object: its record says so, and what the store calls it ([`object`]), before the file goes here.
//!
//! So a line never speaks of a file that was not published, and no Ack is given without its line.
//! Between 1 and 2 the file stands there without a line. From before 1 on the session's record
//! says that it is not settled ([`crate::vault::record::Record::is_unsettled`]), and whoever comes
//! next writes the line: the client with its next Close, or the server when it reads the session
//! back. Where the line cannot be written (the disk is full, or fails) the client hears something
//! transient, and comes back; the session stays, with its file at its place.
//!
//! Settings may change between 1 and 2. So the record says from before 1 on where the file gets its
//! name ([`crate::vault::record::RecordedPlace`]), and the line says that.
//!
//! The line before the name would have to be taken back where the name could not be given, and a
//! chain has no way back.
//!
//! Uploads that ended without a file, and of which bytes had come, have a line too. It is written
//! soon and promised to nobody: their clients hear their answers without it. While it cannot be
//! written it is kept in memory. With `durability = "none"` no line is synced, as nothing else is.
//!
//! # How it is written
//!
//! One thread writes for all shards ([`writer`]), as much as waits at a time, with one sync. A file
//! for each day (UTC) is in the folder, `2026-11-26.jsonl`; the first line of a day is chained to
//! the last one of the day before it. A session has one line, however often its client closes it:
//! the last ones are known by their sessions, also after a restart. One that a crash made forget
//! may stand twice with the same words, which [`verify`] takes for a repeat. A line without a file
//! may be followed by one with it: a power cut brought the session back.
//!
//! What a power cut has torn off the end of a file was acked to nobody. It is put into a file of
//! its own beside it (`.torn`), and the chain goes on after the last whole line ([`folder`]).
//!
//! Folder and file are looked at again before each write, and every few seconds: lines that go into
//! a file without its name are nowhere ([`folder::mending`]). While the server does not run nobody
//! looks; so the end of the ledger is noted elsewhere, and a start that does not find it says so,
//! and goes on with the hash of the line that is missing ([`note`]).

pub mod chain;
pub mod entry;
pub mod export;
pub mod folder;
pub mod ledger;
pub mod note;
pub mod object;
pub mod site;
mod task;
pub mod verify;
pub mod writer;
