//! What the service manager hears (sd_notify(3)): that the server is ready, reloads, stops, and is
//! alive. Where there is none, nothing is said.
//!
//! A `RELOADING=1` must come with the time on the monotonic clock in the same message, or systemd
//! takes it for none (systemd.service(5), `Type=notify-reload`).

use std::sync::Arc;
use std::thread;

use sd_notify::NotifyState;

use super::turn;
use crate::admin::health::{self, Readings};
use crate::metrics::Metrics;

/// Clients may come.
pub fn ready(unfinished: usize) {
    let status = format!("ready; {unfinished} unfinished uploads go on");
    say(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// The settings are read again.
pub fn reloading() {
    // Without a clock that can be read it is not told.
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        let status = NotifyState::Status("reading the settings again");
        say(&[NotifyState::Reloading, now, status]);
    }
}

/// They were read, and hold, or do not.
pub fn reloaded(outcome: &Result<String, String>) {
    let status = match outcome {
        Ok(_) => "ready; the settings were reloaded".to_owned(),
        Err(why) => format!("ready, under the settings of before: {why}"),
    };
    // A line of a message ends its field.
    let status = status.replace('\n', " ");
    say(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// No more requests are taken.
pub fn stopping() {
    let status = NotifyState::Status("stopping: running requests may finish");
    say(&[NotifyState::Stopping, status]);
}

/// Tells the service manager that the server is alive, as often as it wants to hear it and as long
/// as every shard has its turns: if it does not hear it in time, it starts the server again.
///
/// # Errors
/// There are no more threads.
pub fn begin_watchdog(metrics: &Arc<Metrics>) -> std::io::Result<()> {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else {
        return Ok(());
    };
    let metrics = Arc::clone(metrics);
    let run = move || {
        loop {
            let readings = Readings::of(&metrics, turn::coarse_ms());
            if health::stuck(&readings).is_empty() {
                say(&[NotifyState::Watchdog]);
            }
            thread::sleep(limit / 3);
        }
    };
    let thread = thread::Builder::new().name("watchdog".to_owned());
    thread.spawn(run).map(drop)
}

fn say(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        let event = "service_not_told";
        tracing::debug!(event, %error, "the service manager cannot be told");
    }
}
