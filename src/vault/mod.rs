//! The keeping: what the server has on disk, and what of it survives whom.
//!
//! A shard keeps its sessions in files with names of their own ([`names`]), and what those files
//! cannot say in records ([`record`]), one frame each ([`frame`]), of which a later start reads the
//! newest ([`readback`]). What is left of a session that ended is a tombstone ([`tombstones`]).
//! [`space`] says how much may be reserved, and [`gate`] lets many share one sync.
//!
//! Nothing here knows a connection, a shard, or HTTP.
#![forbid(unsafe_code)]

pub mod disk;
pub mod frame;
pub mod gate;
pub mod names;
pub mod readback;
pub mod record;
pub mod space;
pub mod tombstones;
