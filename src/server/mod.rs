//! How a shard works: async flow over one trait, [`world::World`].
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
