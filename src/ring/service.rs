//! What the service manager hears (sd_notify(3)): that the server is ready, reloads, stops, and is
//! alive. Where there is none, nothing is said.
//!
//! `READY=1` is said when clients may come, and after a reload of a server that serves: settings
//! that are read again during a start make nobody ready, and take no stop back.
//!
//! A `RELOADING=1` must come with the time on the monotonic clock in the same message, or systemd
//! takes it for none (systemd.service(5), `Type=notify-reload`).

use std::collections::VecDeque;
use std::env;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, sockopt,
};
use sd_notify::NotifyState;

use crate::admin::health::{self, Readings};
use crate::coarse_clock;
use crate::metrics::Metrics;

/// Clients may come. Whether new uploads are taken is another question, which `/ready` answers.
pub fn ready(unfinished: usize) {
    let status = format!("serving; {unfinished} unfinished uploads go on");
    let mut told = Told::lock();
    told.is_serving = true;
    told.say_ready(&status);
}

/// The settings are read again.
pub fn reloading() {
    let mut told = Told::lock();
    if !told.is_serving {
        return;
    }
    // It is said again when they were read.
    told.forget_ready();
    // Without a clock that can be read it is not told.
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        let status = NotifyState::Status("reading the settings again");
        say(&[NotifyState::Reloading, now, status]);
    }
}

/// They were read, and hold, or do not.
pub fn reloaded(outcome: &Result<String, String>) {
    let status = match outcome {
        Ok(_) => "serving; the settings were reloaded".to_owned(),
        Err(why) => format!("serving, under the settings of before: {why}"),
    };
    let mut told = Told::lock();
    if told.is_serving {
        // A line of a message ends its field.
        told.say_ready(&status.replace('\n', " "));
    }
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
        result => note(result),
    }
}

/// Another program takes the place of this one: to the service manager it is a reload of the same
/// process, which ends when that says that it is ready.
pub fn replacing() {
    Told::lock().end();
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
        Told::lock().tell(&text, sockets);
    }
}

/// The one name that the listeners of an address have there. It may hold no colon.
pub fn name_of(address: SocketAddr) -> String {
    format!("bitsd-{address}").replace(':', "_")
}

/// It need not keep what it has by this name any more.
pub fn forget(name: &str) {
    let text = format!("FDSTOREREMOVE=1\nFDNAME={name}\n");
    Told::lock().tell(&text, &[]);
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
    // Where it may wait only so long, the kernel begins no interrupted call again.
    loop {
        match rustix::net::sendmsg(&socket, &bytes, &mut attached, flags) {
            Err(Errno::INTR) => {}
            sent => return Ok(sent.map(drop)?),
        }
    }
}

/// No more requests are taken.
pub fn stopping() {
    Told::lock().end();
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
            let readings = Readings::of(&metrics, coarse_clock::ms());
            if health::stuck(&readings).is_empty() {
                say(&[NotifyState::Watchdog]);
            }
            thread::sleep(limit / 3);
        }
    };
    let thread = thread::Builder::new().name("watchdog".to_owned());
    thread.spawn(run).map(drop)
}

/// How often it is tried again to tell what had no room.
const AGAIN: Duration = Duration::from_secs(1);

/// What must be heard once, and had no room: that the server is ready, and its listeners.
#[derive(Debug)]
struct Owed {
    text: String,
    sockets: Vec<Arc<OwnedFd>>,
    is_ready: bool,
}

impl Owed {
    fn send(&self, flags: SendFlags) -> io::Result<()> {
        let sockets: Vec<_> = self.sockets.iter().map(|socket| socket.as_fd()).collect();
        send(&self.text, &sockets, flags)
    }
}

/// How far the server is, as the service manager knows it.
#[derive(Debug)]
struct Told {
    /// It was told that the server is ready, and not that it ends.
    is_serving: bool,
    /// In this order.
    owed: VecDeque<Owed>,
    /// A thread tries to tell it.
    is_tried: bool,
}

impl Told {
    /// Nothing is said by another thread meanwhile.
    fn lock() -> MutexGuard<'static, Self> {
        static TOLD: Mutex<Told> = Mutex::new(Told {
            is_serving: false,
            owed: VecDeque::new(),
            is_tried: false,
        });
        TOLD.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say_ready(&mut self, status: &str) {
        self.tell_once(Owed {
            text: text_of(&[NotifyState::Ready, NotifyState::Status(status)]),
            sockets: Vec::new(),
            is_ready: true,
        });
    }

    fn tell(&mut self, text: &str, sockets: &[Arc<OwnedFd>]) {
        self.tell_once(Owed {
            text: text.to_owned(),
            sockets: sockets.to_vec(),
            is_ready: false,
        });
    }

    /// Tells it now, or after what is owed already.
    fn tell_once(&mut self, what: Owed) {
        let is_first = self.owed.is_empty();
        let result = match is_first {
            true => what.send(SendFlags::empty()),
            false => Err(io::ErrorKind::WouldBlock.into()),
        };
        if is_full(&result) {
            self.owed.push_back(what);
            self.try_again();
        }
        if is_first {
            note(result);
        }
    }

    /// Begins a thread for that; without one it is tried again with the next message.
    fn try_again(&mut self) {
        if self.is_tried {
            return;
        }
        let run = || {
            loop {
                thread::sleep(AGAIN);
                let mut told = Self::lock();
                told.try_owed();
                if told.owed.is_empty() {
                    told.is_tried = false;
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("service".to_owned());
        self.is_tried = thread.spawn(run).is_ok();
    }

    fn try_owed(&mut self) {
        while let Some(what) = self.owed.front() {
            let result = what.send(SendFlags::DONTWAIT);
            if is_full(&result) {
                return;
            }
            note(result);
            self.owed.pop_front();
        }
    }

    fn forget_ready(&mut self) {
        self.owed.retain(|what| !what.is_ready);
    }

    /// From now on nothing says that the server is ready.
    fn end(&mut self) {
        self.is_serving = false;
        self.forget_ready();
    }
}

fn is_full(result: &io::Result<()>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

fn say(what: &[NotifyState<'_>]) {
    note(send(&text_of(what), &[], SendFlags::empty()));
}

fn text_of(what: &[NotifyState<'_>]) -> String {
    what.iter().map(|state| format!("{state}\n")).collect()
}

fn note(result: io::Result<()>) {
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
