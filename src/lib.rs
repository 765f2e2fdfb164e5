//! bitsd, a BITS upload server for Linux.
//!
//! (The map of the house is written at the end of the first step.)

#![warn(clippy::unwrap_used)]

pub mod bench;
pub mod bits;
pub mod client;
pub mod config;
pub mod event;
pub mod http;
pub mod observe;
pub mod ring;
pub mod server;
