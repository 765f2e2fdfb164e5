//! TLS on a shard: rustls works on bytes that this server receives and sends itself.
//!
//! rustls' usual interface keeps buffers of its own: four times the CPU for bulk data, and 35 KB
//! for each connection that has once received much. Its *unbuffered* interface has none. It
//! decrypts where the bytes stand, and here they go from there straight into the block that the
//! caller reads into. So a big file is still written by whole registered blocks, and an idle
//! connection holds its keys and nothing else.
//!
//! * [`session`] is one connection without its socket: bytes in, bytes out, and what is [`kept`] in
//!   between. It goes along when a connection is handed to another shard.
//! * [`wire`] moves the bytes between a session and what lies beneath: a [`mod@line`], which is a
//!   socket of the ring, or a network of the simulator.
//! * [`trouble`] says why TLS came to an end, for the log; [`alert`] says it to the peer, and
//!   [`hello`] knows whether it is too old.
//! * [`material`] reads certificates, keys and authorities ([`pem`]), has its [`mod@doubt`]s,
//!   and says what is wrong with them ([`bad_material`]); [`behind`] is the rest of a chain;
//!   [`served`] chooses what a client is shown, [`trust`] and [`verified`] prove what it shows, for
//!   as long as that has its [`validity`]; [`signed`] knows what is signed with which key.
//!
//! `session` and `wire` are the only files that know the unbuffered interface, which rustls will
//! change.

pub mod alert;
pub mod bad_material;
pub mod behind;
pub mod doubt;
pub mod hello;
pub mod kept;
pub mod line;
pub mod material;
pub mod pace;
pub mod pem;
pub mod served;
pub mod session;
pub mod signed;
pub mod trouble;
pub mod trust;
pub mod validity;
pub mod verified;
pub mod wire;
