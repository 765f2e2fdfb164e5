//! The administrator's interface: metrics, health, sessions and orders, over HTTP/1.1 on addresses
//! of its own.
//!
//! * **The socket** (`admin_socket`, a Unix socket with mode 0660) takes questions and orders. Who
//!   may connect is a matter of its group; each order is logged with the user and the process that
//!   gave it.
//! * **The address** (`admin_listen`, TCP, off by default) takes questions only. Nobody is asked
//!   who they are there, so it is for a network that is private.
//!
//! A browser on a machine that can reach the address can be made to ask it by any page it shows
//! (DNS rebinding). Such a request names a host of that page's, so the Host field must be an
//! address, `localhost`, or one of `admin_names`. Orders cannot come from a browser at all: none
//! of them speaks to a Unix socket.
//!
//! Everything here runs on threads beside the shards, one for each viewer and [`VIEWERS_MAX`] of
//! them at the most, with plain blocking sockets and time-outs. The socket has places of its own,
//! and whoever has asked nothing yet makes room for the next one (`viewers.rs`). What is counted is
//! read where it stands ([`crate::metrics`]); health is judged every few seconds ([`health`]) and
//! not for each request. Only lists and orders ask a shard something ([`House::ask`]), in slices
//! that it answers between two other things.
//!
//! What stands behind it is the trait [`House`], which `ring/` implements; tests have another one.
//!
//! **The page** (`GET /` for a browser) is one file, `page.html`: it shows, and has nothing that
//! acts. Without JavaScript it is how things were when it was asked for (`page.rs`); with it, it
//! reads a frame each second (`GET /events`), which is made once for all pages (`ticker.rs`).
//!
//! The arrows: `process`, `health`, `view`, `trace`, `request` <- `filter`, `exposition`, `answer`,
//! `samples` <- `page_view` <- `targets` <- `overview`, `survey` <- `attention` <- `page`, `ticker`
//! <- `routes` <- `viewers`, `socket` <- `doors`.

mod accept;
mod answer;
mod attention;
mod doors;
mod exposition;
mod families;
pub mod filter;
pub mod health;
mod ledger;
mod list;
mod object_series;
mod overview;
mod page;
pub mod page_view;
mod process;
mod request;
mod routes;
mod samples;
mod socket;
mod survey;
mod targets;
mod ticker;
pub mod trace;
pub mod view;
mod viewers;

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::server::window::{Inquiry, Insight};
pub use doors::{Doors, listen};
pub use request::parse as parse_request;
pub use socket::{BadDoor, Closing, is_answered, try_socket};

/// Viewers at the same time on the socket, and as many on all addresses together: a page, a scrape
/// and a health check need one each.
const PLACES_MAX: usize = 32;
/// Viewers at the same time.
pub const VIEWERS_MAX: usize = 2 * PLACES_MAX;

/// What the interface stands before.
pub trait House: Send + Sync + 'static {
    /// The settings that hold.
    fn config(&self) -> Arc<Config>;
    /// What is counted.
    fn metrics(&self) -> &Metrics;
    /// The clock of the shards' beats, in milliseconds.
    fn now_ms(&self) -> u64;
    /// The folders that files go to and that sessions are kept in. It may take long.
    fn premises(&self) -> Vec<health::Premises>;
    /// Lines of the log that were lost.
    fn log_lines_lost(&self) -> u64;
    /// Asks a shard. It answers meanwhile.
    ///
    /// # Errors
    /// [`NoAnswer`]
    fn begin_to_ask(&self, shard: usize, question: Inquiry) -> Result<Asked, NoAnswer>;
    /// Asks a shard, and waits for the answer.
    ///
    /// # Errors
    /// [`NoAnswer`]
    fn ask(&self, shard: usize, question: Inquiry) -> Result<Insight, NoAnswer> {
        self.begin_to_ask(shard, question)?.wait()
    }
    /// The same by somebody who has no time: others wait for what comes of it.
    ///
    /// # Errors
    /// [`NoAnswer`]
    fn ask_soon(&self, shard: usize, question: Inquiry) -> Result<Insight, NoAnswer>;
    /// Reads the settings again; what has changed.
    ///
    /// # Errors
    /// [`NotReloaded`]
    fn reload(&self) -> Result<String, NotReloaded>;
    /// Stops the server in order.
    fn drain(&self);
    /// Where packets can be watched.
    fn tap(&self) -> &Arc<trace::Tap>;
}

/// Why nobody can say what a reload has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotReloaded {
    /// All stays as it was: why.
    Refused(String),
    /// It has not ended yet: why. What comes of it is not known.
    GoesOn(String),
}

/// A shard that was asked.
#[derive(Debug)]
pub struct Asked {
    /// Where the answer comes.
    pub answered: Receiver<Insight>,
    /// How long it is waited for.
    pub patience: Duration,
}

impl Asked {
    /// Its answer.
    ///
    /// # Errors
    /// [`NoAnswer`]
    pub fn wait(self) -> Result<Insight, NoAnswer> {
        let answer = self.answered.recv_timeout(self.patience);
        answer.map_err(|_| NoAnswer)
    }
}

/// A shard did not answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAnswer;
