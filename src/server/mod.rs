//! How a shard works: async flow over two traits, [`floor::Floor`] and
//! [`crate::vault::disk::Disk`].
//!
//! A shard is one thread and all it owns. Nothing of it is shared with other threads, so there are
//! no locks: a `RefCell` is borrowed between two awaits and never across one.
//!
//! **It begins** by reading its sessions back ([`recover`]). Meanwhile it already accepts
//! connections, and tells them to come back later. Then it serves.
//!
//! **A connection** ([`serve`]) is one task with one loop: wait, read a head, do what it asks,
//! answer. It never waits with a clock of its own. It notes what it waits for and since when, and
//! the shard's watchdog ([`shard::Shard::watch`]), which looks once a second, shuts down the ones
//! that wait too long; their pending read then returns like any other end of a connection. So no
//! operation is ever abandoned half-way.
//!
//! **Its memory** follows its work. While it waits for a request it holds no block. A head, and the
//! body of a slow client, stand in one small head block ([`inbox`]), of which there is always one,
//! because connections are bounded. A body that fills that block has earned a large, registered
//! one, for one read and one write; a read that comes back short says that the client is slow after
//! all. If no large block is free, the head block does; nobody waits for one, so nobody can wait in
//! a circle.
//!
//! **A packet** about a session of another shard makes the connection move: the other shard gets a
//! second descriptor of the socket and the bytes read so far, and begins with the same head again.
//! It stays there, since what comes next is most likely about the same session. If that shard's
//! mailbox is full, the client hears 503 and comes back. Ping and Create-Session are answered
//! wherever they land; the id that Create-Session mints names that shard.
//!
//! **A session** ([`session`]) is a work file, a record in the shard's [`crate::vault::journal`],
//! and a state. Whoever wants to work on it goes through its [`turnstile`] and holds it
//! ([`held::Held`]) until done. A client has one request under way; if a second comes for the
//! same session, the first one's connection is dead and only we do not know yet. So the newest
//! wins: it asks the holder to stop, by shutting its connection down, and waits until the holder
//! has written what it had and left.
//!
//! The state machine is in [`crate::bits::session`]. [`carry_out`] gives it events and carries its
//! decisions out: seal, tell, publish, discard ([`crate::vault`]), and what follows from them, up
//! to an answer. A session's state stands in its record alone, and a record becomes true when it is
//! written.
//!
//! **A fragment** ([`fragment`]) is the only packet with a body, and the only one that takes long.
//! Its bytes are appended at the watermark, one write at a time; what the server has already is
//! read and dropped. If the connection breaks, what was written counts, and the client goes on from
//! there. The other packets are in [`lifecycle`].
//!
//! **An application** may hear of each whole file ([`notification`]). Its client waits for the
//! final Ack meanwhile, and holds the session; a second connection for the session waits with it.
//! The calls are made elsewhere, on threads of their own, and so many at once for each location.
//! What the application has for the client is fetched by GET ([`download`]), on whichever
//! connection, and read beside the session, not in its turnstile.
//!
//! **Settings** are looked up by the path of each packet ([`shard::Shard::location`]) and may
//! change at any time ([`shard::Shard::adopt`]): a packet is judged by those that hold when it is
//! judged.
//!
//! **A refusal** is an answer like any other, with one difference: the body it refuses may still be
//! on its way. A short one is read and dropped, so that the connection can be used again; after any
//! other the connection ends. No byte of a body is ever taken for a head.
//!
//! **The disk** may refuse too. [`crate::vault::error::StoreError::refusal`] says what the client
//! hears, and [`crate::vault::error::StoreError::poisons`] whether the session can still be
//! trusted. A full disk costs nothing but time; after a failed sync the session is forgotten, and
//! the client starts again.
//!
//! **Space** is reserved ahead of the bytes, but not far ([`crate::vault::space`]); where too
//! little is free, nothing new is begun.
//!
//! **A session that ended** leaves a small tombstone in memory and in the journal for a while
//! ([`crate::vault::tombstones`]), so that a client that lost the answer to its Close or Cancel
//! gets it again. One without progress for `session_timeout` ends by itself.
//!
//! **An administrator** may ask which sessions there are, and end one ([`window`]), and look at
//! what goes on ([`glance`]) and what happened lately ([`chronicle`]).
//!
//! **Others outside** may hear of each session that ended (`telling`): what is owed to them
//! stands in the journal, and is handed to threads that speak with them, until they say that they
//! have it.
//!
//! **It ends** when it is told to drain: idle connections are ended at once, busy ones after their
//! answer, and sessions stay on disk for the next start. Nothing depends on that: after `kill -9`
//! the next start reads the same files, also with another number of shards.
//!
//! # The floors
//!
//! From the lowest up; `tests/house.rs` forbids circles. What is data stands below what is done
//! with it.
//!
//! ```text
//!  serve                                       a connection's life
//!  respond                                     what a request asks for, and its answer
//!  fragment  lifecycle  download               by its kind
//!  gatekeeper                                  who asks
//!  passwords                                   whether it is the right one
//!  exchange     janitor  recover  window       a request's things │ by the clock, at start, asked
//!  glance                                      what is asked of all sessions
//!  carry_out                                   decisions
//!  notification  room  hashing                 what takes long in them
//!  held                                        the right to work on a session
//!  telling                                     what others are to hear
//!  rows                                        a session, for a person to look at
//!  shard  places                               the tables
//!  session  connection                         what stands in them
//!  visit  floor  outbox  chronicle  inbox .. what all of it stands on
//! ```
#![forbid(unsafe_code)]

pub mod budget;
pub mod carry_out;
pub mod chronicle;
pub mod clients;
pub mod common;
pub mod connection;
pub mod crowd;
pub mod custody;
pub mod dateline;
pub mod digest_file;
pub mod download;
pub mod drain;
pub mod exchange;
pub mod floor;
mod follow;
pub mod fragment;
pub mod gatekeeper;
pub mod glance;
mod hashing;
pub mod held;
pub mod inbox;
pub mod janitor;
mod left;
pub mod lifecycle;
pub mod notification;
pub mod object_order;
pub mod objects;
mod offers;
mod outbox;
mod passwords;
pub mod patience;
mod pause;
pub mod phase;
pub mod places;
pub mod recover;
pub mod request;
pub mod respond;
mod room;
pub mod rows;
pub mod rules;
pub mod serve;
pub mod session;
pub mod shard;
pub mod shares;
mod telling;
mod timetable;
pub mod turnstile;
pub mod visit;
pub mod welcome;
pub mod window;
