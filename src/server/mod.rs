//! How a shard works: async flow over one trait, [`world::World`].
//!
//! A shard is one thread and all it owns. Nothing of it is shared with other threads, so there are no locks: a `RefCell` is
//! borrowed between two awaits and never across one.
//!
//! **It begins** by reading its sessions back ([`recover`]). Meanwhile it already accepts connections, and tells them to come
//! back later. Then it serves.
//!
//! **A connection** ([`connection`]) is one task with one loop: wait, read a head, do what it asks, answer. It
//! never waits with a clock of its own. It notes what it waits for and since when, and the shard's watchdog
//! ([`shard::Shard::watch`]), which looks once a second, shuts down the ones that wait too long; their pending read then
//! returns like any other end of a connection. So no operation is ever abandoned half-way.
//!
//! **A session** ([`session`]) is a record, a work file and a state. Whoever wants to work on it goes through its
//! [`turnstile`] and holds it ([`session::Held`]) until done. The state machine is in [`crate::bits::session`]; the holder
//! gives it events ([`session::Held::step`]) and carries its decisions out ([`session::Held::carry_out`]): seal, publish,
//! discard ([`store`]), and what follows from them, up to an answer.
//!
//! **A fragment** ([`fragment`]) is the only packet with a body, and the only one that takes long. The other packets are in
//! [`lifecycle`].
//!
//! **A session that ended** stays in memory and on disk for a while as a tombstone, so that a client that
//! lost the answer to its Close or Cancel gets it again.
//!
//! **It ends** when it is told to drain: idle connections are ended at once, busy ones after their answer, and sessions
//! stay on disk for the next start.
#![forbid(unsafe_code)]

pub mod connection;
pub mod fragment;
pub mod inbox;
pub mod lifecycle;
pub mod record;
pub mod recover;
pub mod session;
pub mod shard;
pub mod store;
pub mod turnstile;
pub mod world;
