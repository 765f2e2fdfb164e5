//! A stand-in for the service manager: it hears what a service says (sd_notify(3)), keeps the
//! descriptors that it gives, and hands them to the next process (sd_listen_fds(3)).

use std::fmt::Write as _;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::io::FdFlags;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt};
use tempfile::TempDir;

use super::server::{Server, Settings};

/// What it keeps, by names.
type Store = Arc<Mutex<Vec<(String, OwnedFd)>>>;

/// The manager of one service.
pub struct Manager {
    store: Store,
    said: Arc<Mutex<Vec<String>>>,
    socket: PathBuf,
    _folder: TempDir,
}

impl Manager {
    /// Listens to whoever names its socket.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let (store, said) = (Store::default(), Arc::default());
        let manager = Self {
            store: Arc::clone(&store),
            said: Arc::clone(&said),
            socket: path,
            _folder: folder,
        };
        thread::spawn(move || {
            loop {
                hear(&socket, &store, &said);
            }
        });
        manager
    }

    /// What it has heard, a message each.
    pub fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// How many descriptors it keeps.
    pub fn kept(&self) -> usize {
        self.store.lock().unwrap().len()
    }

    /// Keeps one that nobody has given.
    pub fn keep(&self, name: &str, descriptor: impl Into<OwnedFd>) {
        let kept = (name.to_owned(), descriptor.into());
        self.store.lock().unwrap().push(kept);
    }

    /// The port of a listener that it keeps.
    pub fn has_listener(&self, port: u16) -> bool {
        let store = self.store.lock().unwrap();
        store.iter().any(|(_, kept)| {
            let listener = TcpListener::from(kept.try_clone().unwrap());
            listener.local_addr().is_ok_and(|at| at.port() == port)
        })
    }

    /// Starts the service with what is kept.
    pub fn run(&self, root: &Path, settings: Settings) -> Server {
        let handed: Vec<(String, OwnedFd)> = self
            .store
            .lock()
            .unwrap()
            .iter()
            .map(|(name, kept)| (name.clone(), rustix::io::fcntl_dupfd_cloexec(kept, 100)))
            .map(|(name, kept)| (name, kept.unwrap()))
            .collect();
        let mut script = format!("export NOTIFY_SOCKET='{}'\n", self.socket.display());
        let names: Vec<_> = handed.iter().map(|(name, _)| name.as_str()).collect();
        let (count, names) = (handed.len(), names.join(":"));
        if count > 0 {
            let names = format!("LISTEN_FDS={count} LISTEN_PID=$$ LISTEN_FDNAMES='{names}'");
            writeln!(script, "export {names}").unwrap();
        }
        for (number, (_, kept)) in (3..).zip(&handed) {
            let raw = kept.as_raw_fd();
            writeln!(script, "exec {number}<&{raw} {raw}<&-").unwrap();
            rustix::io::fcntl_setfd(kept, FdFlags::empty()).unwrap();
        }
        script.push_str("exec \"$@\"\n");
        Server::on(root, settings.wrapper(&["bash", "-c", &script, "bash"]))
    }
}

/// One message.
fn hear(socket: &UnixDatagram, store: &Store, said: &Mutex<Vec<String>>) {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut attached = RecvAncillaryBuffer::new(&mut space);
    let mut room = [IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let Ok(message) = recvmsg(socket, &mut room, &mut attached, flags) else {
        return;
    };
    let text = String::from_utf8_lossy(&bytes[..message.bytes]).into_owned();
    let name = text.lines().find_map(|line| line.strip_prefix("FDNAME="));
    let name = name.unwrap_or_default().to_owned();
    let mut store = store.lock().unwrap();
    if text.contains("FDSTOREREMOVE=1") {
        store.retain(|(known, _)| *known != name);
    }
    for message in attached.drain() {
        let RecvAncillaryMessage::ScmRights(descriptors) = message else {
            continue;
        };
        for descriptor in descriptors {
            // What it has already it takes for what it is.
            let is_same = |known: &OwnedFd| cookie(known) == cookie(&descriptor);
            if !store.iter().any(|(_, known)| is_same(known)) {
                store.push((name.clone(), descriptor));
            }
        }
    }
    drop(store);
    said.lock().unwrap().push(text);
}

fn cookie(socket: impl AsFd) -> Option<u64> {
    sockopt::socket_cookie(socket).ok()
}
