//! Where the interface is: its socket and its addresses, and a thread for each viewer.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::answer::AdminAnswer;
use super::overview::Overview;
use super::request::{self, LIMITS};
use super::routes::{self, From};
use super::ticker::Ticker;
use super::{House, VIEWERS_MAX};
use crate::config::Config;

/// Who may connect to the socket: its user and its group.
const SOCKET_MODE: u32 = 0o660;
/// How long a request may take to arrive, and an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an acceptor waits after it failed: descriptors may have run out.
const PAUSE: Duration = Duration::from_millis(200);

/// Why the interface cannot be where the settings want it.
#[derive(Debug, Error)]
pub enum BadDoor {
    #[error("admin_socket: another server answers at {0}; give this one a socket of its own")]
    Taken(PathBuf),
    #[error("admin_socket: {0} exists and is no socket; remove it, or name another path")]
    NoSocket(PathBuf),
    #[error(
        "admin_socket: there can be no socket at {0} ({1}); its folder must exist and be writable for the server \
         (systemd: RuntimeDirectory=bitsd), and its path be shorter than 108 bytes"
    )]
    Socket(PathBuf, io::Error),
    #[error("admin_listen: cannot listen on {0}: {1}")]
    Address(SocketAddr, io::Error),
}

/// The open listeners.
#[derive(Debug)]
pub struct Doors {
    socket: Option<Socket>,
    addresses: Vec<(TcpListener, SocketAddr)>,
}

#[derive(Debug)]
struct Socket {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Doors {
    /// Opens them, before anything else is begun: what cannot be is told at once.
    ///
    /// # Errors
    /// [`BadDoor`]
    pub fn open(config: &Config) -> Result<Self, BadDoor> {
        let socket = match config.admin_socket.as_os_str().is_empty() {
            true => None,
            false => Some(Socket::bind(&config.admin_socket)?),
        };
        let listen = |address: &SocketAddr| {
            let failed = |error| BadDoor::Address(*address, error);
            let listener = TcpListener::bind(address).map_err(failed)?;
            let real = listener.local_addr().map_err(failed)?;
            Ok((listener, real))
        };
        let addresses = config.admin_listen.iter().map(listen);
        Ok(Self {
            socket,
            addresses: addresses.collect::<Result<_, _>>()?,
        })
    }

    /// The addresses, with their real ports.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.iter().map(|(_, address)| *address).collect()
    }

    /// Begins to answer. What is given back takes the socket's name away at the end.
    ///
    /// # Errors
    /// There are no more threads.
    pub fn begin(self, house: Arc<dyn House>) -> io::Result<Closing> {
        let mut closing = Closing::default();
        if self.socket.is_none() && self.addresses.is_empty() {
            return Ok(closing);
        }
        let overview = Overview::begin(house)?;
        let ticker = Ticker::begin(Arc::clone(&overview))?;
        let viewers = Arc::new(Viewers::default());
        if let Some(socket) = self.socket {
            closing.socket = Some((socket.path, socket.inode));
            let (ticker, viewers) = (Arc::clone(&ticker), Arc::clone(&viewers));
            let overview = Arc::clone(&overview);
            spawn("admin", move || {
                accept(
                    &viewers,
                    || socket.listener.accept(),
                    move |(stream, _)| {
                        let peer = rustix::net::sockopt::socket_peercred(&stream).ok();
                        let from = From::Socket {
                            user: peer.map(|peer| peer.uid.as_raw()),
                            process: peer.map(|peer| peer.pid.as_raw_pid()),
                        };
                        serve(&overview, &ticker, stream, from);
                    },
                );
            })?;
        }
        for (listener, _) in self.addresses {
            let (ticker, viewers) = (Arc::clone(&ticker), Arc::clone(&viewers));
            let overview = Arc::clone(&overview);
            spawn("admin-tcp", move || {
                let serve = move |(stream, _)| serve(&overview, &ticker, stream, From::Address);
                accept(&viewers, || listener.accept(), serve);
            })?;
        }
        Ok(closing)
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(run).map(drop)
}

impl Socket {
    /// Makes the socket beside its place, with its permissions, and then gives it its name in one
    /// step: nobody finds one that is open to others, and one that an earlier server left behind
    /// is replaced.
    fn bind(path: &Path) -> Result<Self, BadDoor> {
        let failed = |error| BadDoor::Socket(path.to_owned(), error);
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(BadDoor::NoSocket(path.to_owned()));
            }
            Ok(_) if UnixStream::connect(path).is_ok() => {
                return Err(BadDoor::Taken(path.to_owned()));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}", std::process::id()));
        let beside = PathBuf::from(beside);
        // What a process of this number may have left long ago.
        let _ = fs::remove_file(&beside);
        let listener = UnixListener::bind(&beside).map_err(failed)?;
        let named = (|| {
            fs::set_permissions(&beside, fs::Permissions::from_mode(SOCKET_MODE))?;
            let inode = fs::symlink_metadata(&beside)?.ino();
            fs::rename(&beside, path)?;
            Ok(inode)
        })();
        match named {
            Ok(inode) => Ok(Self {
                listener,
                path: path.to_owned(),
                inode,
            }),
            Err(error) => {
                let _ = fs::remove_file(&beside);
                Err(failed(error))
            }
        }
    }
}

/// Takes the name of the socket away at the end, if it is still ours.
#[derive(Debug, Default)]
pub struct Closing {
    socket: Option<(PathBuf, u64)>,
}

impl Drop for Closing {
    fn drop(&mut self) {
        if let Some((path, inode)) = &self.socket
            && fs::symlink_metadata(path).is_ok_and(|found| found.ino() == *inode)
        {
            // Whoever cannot remove it replaces it at the next start.
            let _ = fs::remove_file(path);
        }
    }
}

/// Viewers that are served.
#[derive(Debug, Default)]
struct Viewers {
    count: AtomicUsize,
    /// When it was last told that there are too many.
    told: Mutex<Option<Instant>>,
}

/// One of them; counted until it is dropped.
struct Place(Arc<Viewers>);

impl Viewers {
    fn admit(self: &Arc<Self>) -> Option<Place> {
        let place = Place(Arc::clone(self));
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        (before < VIEWERS_MAX).then_some(place)
    }

    /// Whether it may be told that there are too many: once a minute.
    fn may_tell(&self) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = told.is_none_or(|told| told.elapsed() >= Duration::from_secs(60));
        if is_due {
            *told = Some(Instant::now());
        }
        is_due
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection of either kind.
trait Stream: Read + Write + Send + 'static {
    fn be_patient(&self) -> io::Result<()>;
}

impl Stream for UnixStream {
    fn be_patient(&self) -> io::Result<()> {
        self.set_read_timeout(Some(PATIENCE))?;
        self.set_write_timeout(Some(PATIENCE))
    }
}

impl Stream for TcpStream {
    fn be_patient(&self) -> io::Result<()> {
        self.set_nodelay(true)?;
        self.set_read_timeout(Some(PATIENCE))?;
        self.set_write_timeout(Some(PATIENCE))
    }
}

/// Takes connections for ever. One too many is closed: it has no thread that could answer it.
fn accept<S: Send + 'static>(
    viewers: &Arc<Viewers>,
    mut next: impl FnMut() -> io::Result<S>,
    serve: impl Fn(S) + Clone + Send + 'static,
) {
    loop {
        let Ok(came) = next() else {
            thread::sleep(PAUSE);
            continue;
        };
        let Some(place) = viewers.admit() else {
            if viewers.may_tell() {
                let event = "admin_crowded";
                tracing::warn!(
                    event,
                    max = VIEWERS_MAX,
                    "as many look at the admin interface as may"
                );
            }
            continue;
        };
        let serve = serve.clone();
        // Without a thread it is closed.
        let _ = spawn("admin-viewer", move || {
            serve(came);
            drop(place);
        });
    }
}

/// One request and its answer.
fn serve(overview: &Arc<Overview>, ticker: &Ticker, mut stream: impl Stream, from: From) {
    if stream.be_patient().is_err() {
        return;
    }
    // Whoever is gone needs no answer.
    let _ = match read(&mut stream) {
        Ok(Some(request)) => routes::respond(overview, ticker, &request, from, &mut stream),
        Ok(None) => Ok(()),
        Err(why) => AdminAnswer::outcome(why.status(), why.to_string()).write(&mut stream, false),
    };
}

/// Reads a request; `None` if the connection ends before it is whole.
fn read(stream: &mut impl Read) -> Result<Option<request::AdminRequest>, request::Malformed> {
    let began = Instant::now();
    let mut bytes = Vec::with_capacity(1 << 10);
    let mut piece = [0; 1 << 10];
    loop {
        // A read that times out ends it, and so do many that do not.
        let read = match stream.read(&mut piece) {
            Ok(read) if read > 0 && began.elapsed() < PATIENCE => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(_) | Err(_) => return Ok(None),
        };
        bytes.extend_from_slice(&piece[..read]);
        debug_assert!(bytes.len() <= LIMITS.head_bytes_max + piece.len());
        if let Some(request) = request::parse(&bytes)? {
            return Ok(Some(request));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_made_with_its_mode_and_replaces_one_that_nobody_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let first = Socket::bind(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, SOCKET_MODE);
        assert!(matches!(Socket::bind(&path), Err(BadDoor::Taken(_))));
        drop(first.listener);
        let second = Socket::bind(&path).unwrap();
        // The first one's name was taken over: its end takes nothing away.
        drop(Closing {
            socket: Some((path.clone(), first.inode)),
        });
        assert!(second.inode == first.inode || path.exists());
        assert!(UnixStream::connect(&path).is_ok() || second.inode == first.inode);
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert!(names.len() <= 1, "{names:?}");
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "x").unwrap();
        assert!(matches!(Socket::bind(&path), Err(BadDoor::NoSocket(_))));
        assert_eq!(fs::read(&path).unwrap(), b"x");
        let nowhere = folder.path().join("no/such/folder");
        let why = Socket::bind(&nowhere).unwrap_err().to_string();
        assert!(why.contains("RuntimeDirectory"), "{why}");
        let long = folder.path().join("l".repeat(120));
        assert!(matches!(Socket::bind(&long), Err(BadDoor::Socket(..))));
    }

    #[test]
    fn viewers_are_bounded() {
        let viewers = Arc::<Viewers>::default();
        let places: Vec<_> = (0..VIEWERS_MAX).map(|_| viewers.admit().unwrap()).collect();
        assert!(viewers.admit().is_none());
        assert!(viewers.may_tell() && !viewers.may_tell());
        drop(places);
        assert!(viewers.admit().is_some());
    }
}
