//! bitsd, a BITS upload server for Linux: the map of the house.
//!
//! # The idea
//!
//! 1. A session's progress is **one number** (`received`), because BITS sends in order and refuses
//!    gaps.
//! 2. On disk that number **is the length of the part**, the file of the unfinished upload; no
//!    second counter can disagree with it. A record keeps only what the length cannot say.
//! 3. Decisions are **pure functions** ([`http`], [`bits`]); they see bytes, numbers, and nothing
//!    else.
//! 4. Actions are **short async functions** ([`server`]) over two traits, [`server::floor::Floor`]
//!    and [`vault::disk::Disk`]; they name no runtime.
//! 5. [`ring`] alone knows tokio-uring, the descriptors of the shards and, but for the system's
//!    Kerberos ([`verify::gssapi`]), `unsafe`. A simulator can be the other outside.
//! 6. A session lives on **one shard** (a core and all it owns) for life; its id says which;
//!    connections come to it.
//! 7. When in doubt about bytes, **forget the session**: the client answers "session not found" by
//!    starting again.
//!
//! # Who may import whom
//!
//! ```text
//!  main.rs ──► cli, config ─────────┐
//!    │                              ▼
//!    ├──► ring/  ──implements──►  server/  ──►  vault/  ──►  bits/  ──►  http/
//!    │     (tokio-uring,           (the talking,  (the keeping,  (BITS,     (HTTP/1.1,
//!    │      unsafe, fds)            trait Floor)   trait Disk)    pure)      pure)
//!    │        ├──► notify/ (the HTTP client to applications, on threads of its own)
//!    │        ├──► courier/ (likewise: it carries events to who wants to hear of uploads)
//!    │        ├──► custody/ (the ledger of uploads that ended, on a thread of its own)
//!    │        ├──► objects/ (files into an object store, on a thread of its own)
//!    │        └──► verify/ (passwords and tickets, likewise) ──► auth/ (who it is, pure)
//!    └──► client/ (`bitsd put`: plain blocking sockets), bench/ (`bitsd bench`)
//!  metrics/ counts events; admin/ shows them, and takes orders, on threads of its own.
//!  event.rs is plain data for all; observe/ is the log, for main and ring.
//!  version.rs names the build; processors.rs says where threads run that are no shards, and
//!  begun.rs keeps what is begun at the first need.
//!  named_file.rs reads what settings and flags name; unseen.rs knows characters that hide others,
//!  and shell.rs writes paths that can be pasted. vigil.rs sees who waits for a file system, and
//!  reasoned.rs is an error beside the reason that it has.
//!  wall_clock.rs says what time it is; coarse_clock.rs is the clock that never jumps.
//!  tls_words.rs says what rustls has against a certificate.
//!  diagnosis.rs says what an error of the disk means, to the client and to the reader of the log.
//! ```
//!
//! These are the main arrows; all are in `tests/house.rs`, which holds everybody to them.
//!
//! # One fragment, from socket to disk
//!
//! ```text
//!  accept ─► head ─► packet ─► shard? ─► decide ─►┌ fill block ─► write at ┐─► seal? ─► ack
//!                                                 │              watermark │
//!  ring/net  http    bits      session_id  bits   └──── until body ends ───┘   vault     bits
//! ```
//!
//! 1. [`ring::net`] accepts on the shard's own listener and [`server::serve::serve`] takes the
//!    connection.
//! 2. An idle connection waits for readiness and holds no memory. Its first bytes go into a small
//!    head block ([`server::inbox`]), in which [`http::head::parse`] finds a whole head, asks for
//!    more, or refuses.
//! 3. [`bits::packet::parse`] makes a packet of the head.
//! 4. If the session belongs to another shard, that one gets the connection (a duplicated
//!    descriptor and the bytes read so far, [`ring::mailbox`]) and goes on as if it had read them.
//! 5. [`server::turnstile`] lets one request at a time work on a session; the newest wins, and the
//!    one before is stopped and awaited. [`bits::session::State::on`] decides what is to be done
//!    with the fragment.
//! 6. [`server::fragment`] moves the body: a registered block is filled from the socket, and the
//!    same block is written to the file at the watermark ([`ring::work_file`] says how). One write
//!    is in flight per session, so the file is always a prefix.
//! 7. With the last byte, [`vault::keep`] makes the file ours to keep, as `durability` says. Where
//!    an application is to hear of it, [`server::notification`] asks it, and keeps its answer. With
//!    Close-Session the file gets its name in one step.
//! 8. [`bits::reply`] writes the Ack, and the connection waits for the next head.
//!
//! The other way round, the reply of an application goes from its file to the client by
//! [`server::download`], as [`http::download`] plans it.
//!
//! What an Ack promises stands at the head of [`vault`]; what happens after a crash in
//! [`vault::verdict`]. What the words mean stands in docs/glossary.md, and which rules of the
//! protocol we follow in docs/protocol.md.

#![warn(clippy::unwrap_used)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]
// They panic where a disk is full, and wait at a pipe that nobody reads: [`observe`] does neither.
#![cfg_attr(not(test), deny(clippy::print_stderr, clippy::print_stdout))]

// The interface is the program. These are public for the binary and the tests, so only what a name
// does not say is documented.
#[allow(clippy::disallowed_methods, reason = "on threads of its own")]
pub mod admin;
pub mod auth;
pub mod begun;
#[cfg(feature = "bench")]
#[allow(clippy::disallowed_methods, reason = "a program of its own")]
pub mod bench;
pub mod bits;
#[cfg(feature = "client")]
#[allow(clippy::disallowed_methods, reason = "a program of its own")]
pub mod client;
pub mod coarse_clock;
#[allow(
    clippy::disallowed_methods,
    reason = "before the start, and on the main thread at a reload"
)]
pub mod config;
#[allow(clippy::disallowed_methods, reason = "on threads of its own")]
pub mod courier;
#[allow(
    clippy::disallowed_methods,
    reason = "on a thread of its own, and in programs of their own"
)]
pub mod custody;
pub mod diagnosis;
pub mod event;
pub mod http;
pub mod metrics;
#[allow(
    clippy::disallowed_methods,
    reason = "before the start, at a reload, and in programs of their own"
)]
pub mod named_file;
#[allow(clippy::disallowed_methods, reason = "on threads of its own")]
pub mod notify;
#[allow(clippy::disallowed_methods, reason = "on a thread of its own")]
pub mod objects;
#[allow(clippy::disallowed_methods, reason = "on the thread of the log")]
pub mod observe;
pub mod pem_lines;
pub mod processors;
pub mod reasoned;
#[allow(
    clippy::disallowed_methods,
    reason = "the room of system calls: what is quick on a shard, the rest on other threads"
)]
pub mod ring;
pub mod server;
pub mod shell;
// As the tests of the running program do.
#[cfg(test)]
#[path = "../tests/support/skipping.rs"]
mod skipping;
pub mod tls_words;
pub mod unseen;
pub mod vault;
pub mod verify;
pub mod version;
#[allow(clippy::disallowed_methods, reason = "on threads of its own")]
pub mod vigil;
pub mod wall_clock;
