//! Ctrl-C: what it says, and what it leaves at the server.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use indicatif::{HumanBytes, ProgressBar};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use bitsd::client;
use bitsd::client::Options;
use bitsd::client::memory::Left;
use bitsd::client::url::Url;

/// Ends the process when a signal says so, with a word about the upload under way.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    under_way: Arc<Mutex<Option<UnderWay>>>,
    is_told: Arc<AtomicBool>,
}

/// The upload that a signal would interrupt.
#[derive(Debug)]
pub struct UnderWay {
    /// Where it goes.
    pub url: Url,
    /// Bytes sent.
    pub offset: u64,
    /// Bytes in all.
    pub total: u64,
    /// Its session, if the server gave one, and the node that has it.
    pub session: Option<Left>,
    /// How.
    pub options: Options,
    /// Whether a later run goes on with it.
    pub is_remembered: bool,
    /// What is drawn of it.
    pub bar: Option<ProgressBar>,
}

impl Interrupt {
    /// Watches for SIGINT and SIGTERM from now on.
    ///
    /// # Errors
    /// No thread, or no signals.
    pub fn watch() -> io::Result<Self> {
        let interrupt = Self::default();
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let seen = interrupt.clone();
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                let mut is_second = false;
                for signal in signals.forever() {
                    // As shells count it.
                    let code = 128 + signal;
                    if is_second {
                        std::process::exit(code);
                    }
                    is_second = true;
                    seen.is_told.store(true, Ordering::SeqCst);
                    let seen = seen.clone();
                    // On a thread of its own, so that a second signal need not wait for the server.
                    thread::spawn(move || {
                        seen.tell();
                        std::process::exit(code);
                    });
                }
            })?;
        Ok(interrupt)
    }

    /// The upload under way, to be changed.
    pub fn under_way(&self) -> MutexGuard<'_, Option<UnderWay>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the upload where a signal has come: the process ends in a moment, and who tried again
    /// meanwhile would take the session back that is being cancelled.
    pub fn stop_here_if_told(&self) {
        while self.is_told.load(Ordering::SeqCst) {
            thread::park();
        }
    }

    fn tell(&self) {
        let Some(upload) = self.under_way().take() else {
            return crate::cli::say("interrupted");
        };
        if let Some(bar) = &upload.bar {
            bar.finish_and_clear();
        }
        let (offset, total) = (HumanBytes(upload.offset), HumanBytes(upload.total));
        match &upload.session {
            None => crate::cli::say("interrupted before the upload began"),
            Some(_) if upload.is_remembered => crate::cli::say(format_args!(
                "interrupted at {offset} of {total}; the same command goes on from there, with --cancel it gives it up"
            )),
            Some(session) => match client::cancel_session(&upload.url, session, &upload.options) {
                Ok(reply) if client::is_given_up(&reply) => crate::cli::say(format_args!(
                    "interrupted at {offset} of {total}; the server was told to forget it"
                )),
                Ok(_) => crate::cli::say(format_args!(
                    "interrupted at {offset} of {total}; the server keeps that until its session_timeout"
                )),
                Err(error) => crate::cli::say(format_args!(
                    "interrupted at {offset} of {total}; the server keeps that until its session_timeout: {error}"
                )),
            },
        }
    }
}
