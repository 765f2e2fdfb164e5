//! What the service manager hears (sd_notify(3)): that the server is ready, reloads, stops, and is
//! alive. Where there is none, nothing is said.
//!
//! A `RELOADING=1` must come with the time on the monotonic clock in the same message, or systemd
//! takes it for none (systemd.service(5), `Type=notify-reload`).

use std::env;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, sockopt,
};
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

/// It goes on, and may take so much longer from now on than the unit says (`TimeoutStartSec=`,
/// `TimeoutStopSec=`). This is said again and again: where there is no room for it, it is lost.
pub fn going_on(status: &str, more: Option<Duration>) {
    let more = more.map(|more| u32::try_from(more.as_micros()).unwrap_or(u32::MAX));
    let mut what = vec![NotifyState::Status(status)];
    what.extend(more.map(NotifyState::ExtendTimeoutUsec));
    let text = text_of(&what);
    match send(&text, &[], SendFlags::DONTWAIT) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        result => told(result),
    }
}

/// Another program takes the place of this one: to the service manager it is a reload of the same
/// process, which ends when that says that it is ready.
pub fn replacing() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        let status =
            NotifyState::Status("making way for the new program: running requests may finish");
        say(&[NotifyState::Reloading, now, status]);
    }
}

/// Whether there is a service manager.
pub fn is_managed() -> bool {
    env::var_os(NOTIFY_SOCKET).is_some()
}

/// Gives it the listeners of an address, to be kept while no process has them. Those that it has
/// already it takes for what they are.
pub fn keep(address: SocketAddr, sockets: &[Arc<OwnedFd>]) {
    let name = name_of(address);
    let text = format!("FDSTORE=1\nFDNAME={name}\n");
    for sockets in sockets.chunks(FDS_PER_MESSAGE) {
        let sockets: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
        told(send(&text, &sockets, SendFlags::empty()));
    }
}

/// The one name that the listeners of an address have there. It may hold no colon.
pub fn name_of(address: SocketAddr) -> String {
    format!("bitsd-{address}").replace(':', "_")
}

/// It need not keep what it has by this name any more.
pub fn forget(name: &str) {
    let text = format!("FDSTOREREMOVE=1\nFDNAME={name}\n");
    told(send(&text, &[], SendFlags::empty()));
}

/// Where it hears of us.
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";
/// How long a message waits for room in its queue. Signals are not heard meanwhile, and a stop
/// waits for nobody.
const PATIENCE: Duration = Duration::from_secs(1);
/// Descriptors of one message; the kernel takes 253 (`SCM_MAX_FD`).
const FDS_PER_MESSAGE: usize = 64;

/// Sends a message with descriptors, if there is a service manager.
fn send(text: &str, descriptors: &[BorrowedFd<'_>], flags: SendFlags) -> io::Result<()> {
    let Some(path) = env::var_os(NOTIFY_SOCKET) else {
        return Ok(());
    };
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
        path => SocketAddrUnix::new(path)?,
    };
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(PATIENCE))?;
    rustix::net::connect(&socket, &address)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_PER_MESSAGE))];
    let mut attached = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !attached.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let bytes = [IoSlice::new(text.as_bytes())];
    let flags = flags | SendFlags::NOSIGNAL;
    rustix::net::sendmsg(&socket, &bytes, &mut attached, flags)?;
    Ok(())
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
pub fn begin_watchdog(metrics: &Arc<Metrics>) -> io::Result<()> {
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
            if READY_IS_OWED.swap(false, Ordering::Relaxed) {
                say(&[NotifyState::Ready]);
            }
            thread::sleep(limit / 3);
        }
    };
    let thread = thread::Builder::new().name("watchdog".to_owned());
    thread.spawn(run).map(drop)
}

/// The service manager did not hear that the server is ready: it is told again.
static READY_IS_OWED: AtomicBool = AtomicBool::new(false);

fn say(what: &[NotifyState<'_>]) {
    let result = send(&text_of(what), &[], SendFlags::empty());
    let is_lost = matches!(&result, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
    let is_ready = what.iter().any(|state| matches!(state, NotifyState::Ready));
    if is_lost && is_ready {
        READY_IS_OWED.store(true, Ordering::Relaxed);
    }
    told(result);
}

fn text_of(what: &[NotifyState<'_>]) -> String {
    what.iter().map(|state| format!("{state}\n")).collect()
}

fn told(result: io::Result<()>) {
    let event = "service_not_told";
    match result {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let why = "its queue is full";
            tracing::warn!(
                event,
                why,
                "the service manager does not read what it is told"
            );
        }
        Err(error) => tracing::debug!(event, %error, "the service manager cannot be told"),
    }
}
