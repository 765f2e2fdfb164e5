//! `bitsd bench`: a load generator for BITS servers.
//!
//! One thread and epoll drive up to ten thousand connections and more. It shares nothing with the
//! server's data path: no ring, no parser, no buffers. [`conversation`] decides what is said and
//! judges every answer, [`connection`] sends and receives, [`generator`] lets them take turns,
//! [`content`] makes bytes that can be checked at any offset.

pub mod connection;
pub mod content;
pub mod conversation;
pub mod fault;
pub mod generator;
pub mod options;
pub mod report;
pub mod tidy;
pub mod verify;

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::ControlFlow;

use content::Content;
use conversation::{Mode, Script};
pub use fault::{CannotRun, Fault};
use generator::{Generator, Keep, Watcher};
pub use options::{Options, Progress};
use report::{Left, Report};

/// Runs it all; `watch` hears about ten times a second how it fares, and may end it. What has
/// failed half way is cancelled.
///
/// # Errors
/// [`CannotRun`], if nothing could be tried. Uploads that fail are in the [`Report`].
pub fn run(options: &Options, watch: &mut Watcher<'_>) -> Result<Report, CannotRun> {
    let address = address(options)?;
    let content = Content::new();
    let removed_from = options.verify.as_ref().filter(|_| !options.keep);
    if let (Some(folder), Mode::Bits) = (removed_from, options.script.mode) {
        tidy::find_folder(options, address, &content, folder, watch)?;
    }
    let idle = open_idle(options, address, &content)?;
    let keep = if options.is_connection_per_session {
        Keep::Session
    } else {
        Keep::Alive
    };
    let mut generator = Generator::new(options, address, &content, keep)?;
    generator.run(watch)?;
    let mut tally = generator.into_tally();
    let unfinished = std::mem::take(&mut tally.unfinished);
    let files: Vec<_> = unfinished.iter().map(|one| one.file).collect();
    let unfinished = tidy::cancel(options, address, &content, unfinished)?;
    let mut left = Left {
        unfinished,
        files: 0,
    };
    let verified_bytes = options.verify.as_ref().map(|folder| {
        let mut verified_bytes = 0;
        for file in std::mem::take(&mut tally.stored) {
            match verify::verify(&content, folder, &options.script, file) {
                Ok(()) => verified_bytes += options.script.file_bytes,
                Err(fault) => tally.fail(&fault),
            }
            if !options.keep {
                let removed = std::fs::remove_file(folder.join(options.script.file_name(file)));
                left.files += u64::from(removed.is_err());
            }
        }
        verified_bytes
    });
    // Their last answer may have been lost.
    if let Some(folder) = removed_from {
        for file in files {
            let _ = std::fs::remove_file(folder.join(options.script.file_name(file)));
        }
    }
    let seconds = tally.duration.as_secs_f64();
    let file_bytes = match options.script.mode {
        Mode::Ping => 0,
        Mode::Bits | Mode::Put | Mode::Raw => options.script.file_bytes,
    };
    let bytes = tally.files * file_bytes;
    Ok(Report {
        mode: options.script.mode.name(),
        connections: options.connections,
        idle: options.idle,
        idle_lost: idle.iter().map(Generator::lost).sum(),
        files: tally.files,
        failed: tally.failed,
        first_error: tally.first_error,
        file_bytes,
        fragment_bytes: tally
            .fragment_bytes
            .unwrap_or(options.script.fragment_bytes),
        bytes,
        seconds,
        gb_per_s: bytes as f64 / 1e9 / seconds,
        files_per_s: tally.files as f64 / seconds,
        fragment: tally.fragments.summary(),
        session: tally.sessions.summary(),
        verified_bytes,
        left,
    })
}

fn address(options: &Options) -> Result<SocketAddr, CannotRun> {
    let url = &options.script.folder;
    let mut addresses = (url.host(), url.port())
        .to_socket_addrs()
        .map_err(CannotRun::LookUp)?;
    addresses.next().ok_or_else(|| {
        CannotRun::LookUp(io::Error::new(io::ErrorKind::NotFound, "it has no address"))
    })
}

/// Each idle connection says one Ping, so that it is known to be accepted, and then nothing. They
/// come a few at a time: no server of ours lets one client fill its line for handshakes.
fn open_idle<'c>(
    options: &Options,
    address: SocketAddr,
    content: &'c Content,
) -> Result<Vec<Generator<'c>>, CannotRun> {
    let mut idle = Vec::new();
    for first in (0..options.idle).step_by(IDLE_TOGETHER) {
        let connections = IDLE_TOGETHER.min(options.idle - first);
        let pings = Options {
            script: Script {
                mode: Mode::Ping,
                ..options.script.clone()
            },
            connections,
            files: connections as u64,
            idle: 0,
            verify: None,
            ..options.clone()
        };
        let mut group = Generator::new(&pings, address, content, Keep::Held)?;
        group.run(&mut |_| ControlFlow::Continue(()))?;
        let tally = group.tally();
        if let Some(why) = &tally.first_error {
            return Err(CannotRun::Idle {
                wanted: options.idle,
                opened: first as u64 + tally.files,
                why: why.clone(),
            });
        }
        idle.push(group);
    }
    Ok(idle)
}

/// So many idle connections are opened at the same time.
const IDLE_TOGETHER: usize = 100;
