//! The administrator's socket: a name in a folder, which must be there for as long as the server
//! runs.
//!
//! Those who clean folders remove sockets too, and without its name nobody can ask the server
//! anything, nor stop it in order. So the name is looked at every few seconds, and made again; but
//! not on a disk that was mounted over its folder, which it would keep from being unmounted. And
//! whoever may write to the socket gives orders, so it is closed again where somebody has opened it
//! to everybody.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use thiserror::Error;

/// Who may connect to the socket: its user and its group.
const SOCKET_MODE: u32 = 0o660;
/// What nobody else may do to it, whom the administrator has not put into its group.
const OTHERS: u32 = 0o007;
/// How often the name is looked at, whoever comes.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// The longest path that every program can connect to.
const PATH_BYTES_MAX: usize = 107;

/// Why the interface cannot be where the settings want it.
#[derive(Debug, Error)]
pub enum BadDoor {
    #[error("admin_socket: another server has {0}; give this one a socket of its own")]
    Taken(PathBuf),
    #[error("admin_socket: {0} exists and is no socket; remove it, or name another path")]
    NoSocket(PathBuf),
    #[error(
        "admin_socket: there can be no socket at {0} ({1}); {remedy}", remedy = remedy_of_socket(.1)
    )]
    Socket(PathBuf, io::Error),
    #[error("admin_listen: cannot listen on {0}: {1}")]
    Address(SocketAddr, io::Error),
}

fn remedy_of_socket(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => "free some space there (`df -h`, `df -i`)",
        io::ErrorKind::QuotaExceeded => {
            "raise the disk quota of the server's user (`quota`), or free some space"
        }
        io::ErrorKind::ReadOnlyFilesystem => "its file system is read-only: name another path",
        _ => {
            "its folder must exist and be writable for the server (systemd: RuntimeDirectory=bitsd), and its path be \
             shorter than 108 bytes"
        }
    }
}

/// A socket that listens and has its name.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    name: Arc<Name>,
    /// The folder that it was made in.
    made_in: Option<Whereabouts>,
    /// What was told last and is not mended yet.
    told: Option<Trouble>,
    looked: Instant,
}

/// What is wrong with the name of a socket, and cannot be mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// It cannot be closed to everybody.
    Open,
    /// It cannot be made again.
    Lost,
    /// Something is mounted over its folder.
    Covered,
}

/// What is told of the last.
const COVERED: &str = "another file system is mounted over its folder, or on the way to it: unmount it there, and the socket is \
                       found again; or restart the server, if it is meant";

/// Where a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Whereabouts {
    device: (u32, u32),
    inode: u64,
    mount: u64,
}

impl Whereabouts {
    /// Of the folder of a socket, as its path leads there now.
    fn of(socket: &Path) -> Option<Self> {
        let asked = StatxFlags::INO | StatxFlags::MNT_ID;
        let stat = rustix::fs::statx(CWD, socket.parent()?, AtFlags::empty(), asked).ok()?;
        Some(Self {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            mount: stat.stx_mnt_id,
        })
    }

    /// Whether that is the same folder, or one on the same mount that has taken its place.
    fn is_that_of(self, other: Self) -> bool {
        self.device == other.device && (self.mount == other.mount || self.inode == other.inode)
    }
}

/// What has the name.
#[derive(Debug)]
struct Name {
    state: Mutex<NameState>,
}

#[derive(Debug)]
struct NameState {
    /// Device and inode.
    identity: (u64, u64),
    /// The server ends, and the name with it.
    is_given_up: bool,
}

impl Name {
    fn lock(&self) -> MutexGuard<'_, NameState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a connection to this path would find somebody. Never waits: whoever has a long queue is
/// there.
pub fn is_answered(path: &Path) -> bool {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let connected = SocketAddrUnix::new(path).and_then(|address| {
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &address)
    });
    matches!(connected, Ok(()) | Err(Errno::AGAIN))
}

/// A name beside the one that is wanted. It has the same length in every process, so that a check
/// finds what a start would find.
fn beside(path: &Path) -> PathBuf {
    path.with_file_name(format!(".{:06x}", std::process::id()))
}

/// Makes a socket beside its place, with its permissions.
fn make_beside(path: &Path) -> Result<(UnixListener, PathBuf), BadDoor> {
    let failed = |error: io::Error| BadDoor::Socket(path.to_owned(), error);
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(BadDoor::NoSocket(path.to_owned()));
        }
        Ok(_) if is_answered(path) => return Err(BadDoor::Taken(path.to_owned())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let bytes = path.as_os_str().as_bytes();
    if bytes.ends_with(b"/") || bytes.ends_with(b"/.") {
        return Err(failed(Errno::ISDIR.into()));
    }
    // Under a longer name nobody could find it; and the last of 108 bytes is that of the end, as
    // programs have it (unix(7)), though the kernel would do without.
    if bytes.len() > PATH_BYTES_MAX {
        return Err(failed(Errno::NAMETOOLONG.into()));
    }
    SocketAddrUnix::new(path).map_err(|error| failed(error.into()))?;
    let beside = beside(path);
    // What a process of this number may have left long ago.
    let is_socket = |found: fs::Metadata| found.file_type().is_socket();
    if fs::symlink_metadata(&beside).is_ok_and(is_socket) {
        let _ = fs::remove_file(&beside);
    }
    let listener = UnixListener::bind(&beside).map_err(failed)?;
    let mode = fs::Permissions::from_mode(SOCKET_MODE);
    if let Err(error) = fs::set_permissions(&beside, mode) {
        let _ = fs::remove_file(&beside);
        return Err(failed(error));
    }
    Ok((listener, beside))
}

/// Takes the rights of everybody off a socket, if it is this one and they are there; gives the mode
/// that it had.
fn close_to_others(path: &Path, identity: (u64, u64)) -> Result<Option<u32>, Errno> {
    // By what is opened: another name may be put there meanwhile.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&opened)?;
    let mode = stat.st_mode & 0o7777;
    if (stat.st_dev, stat.st_ino) != identity || mode & OTHERS == 0 {
        return Ok(None);
    }
    let here = format!("/proc/self/fd/{}", opened.as_raw_fd());
    let closed = Mode::from_raw_mode(mode & !OTHERS);
    rustix::fs::chmodat(rustix::fs::CWD, here, closed, AtFlags::empty())?;
    Ok(Some(mode))
}

/// Finds out whether a socket could be had, as a start does, and leaves nothing behind.
///
/// # Errors
/// [`BadDoor`]
pub fn try_socket(path: &Path) -> Result<(), BadDoor> {
    let (_listener, beside) = make_beside(path)?;
    fs::remove_file(&beside).map_err(|error| BadDoor::Socket(path.to_owned(), error))
}

/// Makes it beside its place and then gives it its name in one step: nobody finds one that is open
/// to others, and one that an earlier server left behind is replaced. Gives device and inode, too.
fn make(path: &Path) -> Result<(UnixListener, (u64, u64)), BadDoor> {
    let (listener, beside) = make_beside(path)?;
    let named = fs::symlink_metadata(&beside).and_then(|found| {
        fs::rename(&beside, path)?;
        Ok((found.dev(), found.ino()))
    });
    match named {
        Ok(identity) => Ok((listener, identity)),
        Err(error) => {
            let _ = fs::remove_file(&beside);
            Err(BadDoor::Socket(path.to_owned(), error))
        }
    }
}

fn is_there(path: &Path, identity: (u64, u64)) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == identity)
}

impl Socket {
    /// Makes it.
    ///
    /// # Errors
    /// [`BadDoor`]
    pub fn bind(path: &Path) -> Result<Self, BadDoor> {
        let (listener, identity) = make(path)?;
        let state = Mutex::new(NameState {
            identity,
            is_given_up: false,
        });
        Ok(Self {
            listener,
            path: path.to_owned(),
            name: Arc::new(Name { state }),
            made_in: Whereabouts::of(path),
            told: None,
            looked: Instant::now(),
        })
    }

    /// What takes the name away at the end.
    pub fn closing(&self) -> Closing {
        Closing {
            socket: Some((self.path.clone(), Arc::clone(&self.name))),
        }
    }

    /// The next connection. Meanwhile the name is looked at.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn next(&mut self) -> io::Result<UnixStream> {
        loop {
            let age = self.looked.elapsed();
            if age >= LOOK_INTERVAL {
                self.look();
                self.looked = Instant::now();
                continue;
            }
            let left = Timespec::try_from(LOOK_INTERVAL - age).ok();
            let mut waiting = [PollFd::new(&self.listener, PollFlags::IN)];
            match rustix::event::poll(&mut waiting, left.as_ref()) {
                Ok(0) => {}
                Ok(_) => return self.listener.accept().map(|(stream, _)| stream),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes the name again, if it is gone or something else has it, and closes it to everybody.
    fn look(&mut self) {
        let mut state = self.name.lock();
        if state.is_given_up {
            return;
        }
        let socket = self.path.display();
        if is_there(&self.path, state.identity) {
            match close_to_others(&self.path, state.identity) {
                Ok(None) => self.told = None,
                Ok(Some(mode)) => {
                    self.told = None;
                    let (event, mode) = ("admin_socket_closed", format!("{mode:04o}"));
                    tracing::warn!(event, %socket, mode, "somebody has opened the administrator's socket to everybody, and who came could give orders: it was closed again");
                }
                Err(why) if self.told.replace(Trouble::Open) != Some(Trouble::Open) => {
                    let event = "admin_socket_open";
                    tracing::warn!(event, %socket, %why, "it cannot be told whether the administrator's socket is open to everybody, or it cannot be closed");
                }
                Err(_) => {}
            }
            return;
        }
        let now = Whereabouts::of(&self.path);
        if let (Some(before), Some(now)) = (self.made_in, now)
            && !now.is_that_of(before)
        {
            if self.told.replace(Trouble::Covered) != Some(Trouble::Covered) {
                let (event, why) = ("admin_socket_lost", COVERED);
                tracing::warn!(event, %socket, why, "the administrator's socket cannot be reached: nobody can give orders");
            }
            return;
        }
        match make(&self.path) {
            Ok((listener, identity)) => {
                self.made_in = now;
                state.identity = identity;
                self.listener = listener;
                self.told = None;
                let event = "admin_socket_made_again";
                tracing::warn!(event, %socket, "somebody has removed the administrator's socket: it was made again");
            }
            Err(why) if self.told.replace(Trouble::Lost) != Some(Trouble::Lost) => {
                let event = "admin_socket_lost";
                tracing::warn!(event, %socket, %why, "the administrator's socket is gone: nobody can give orders");
            }
            Err(_) => {}
        }
    }
}

/// Takes the name of the socket away at the end, if it is still ours.
#[derive(Debug, Default)]
pub struct Closing {
    socket: Option<(PathBuf, Arc<Name>)>,
}

impl Drop for Closing {
    fn drop(&mut self) {
        if let Some((path, name)) = &self.socket {
            let mut state = name.lock();
            state.is_given_up = true;
            if is_there(path, state.identity) {
                // Whoever cannot remove it replaces it at the next start.
                let _ = fs::remove_file(path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap();
        names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_socket_is_made_with_its_mode_and_replaces_one_that_nobody_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let first = Socket::bind(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, SOCKET_MODE);
        assert!(matches!(Socket::bind(&path), Err(BadDoor::Taken(_))));
        assert!(matches!(try_socket(&path), Err(BadDoor::Taken(_))));
        let closing = first.closing();
        let identity = first.name.lock().identity;
        drop(first);
        try_socket(&path).unwrap();
        assert!(is_there(&path, identity), "a trial replaces nothing");
        let second = Socket::bind(&path).unwrap();
        // The first one's name was taken over: its end takes nothing away.
        let is_another = second.name.lock().identity != identity;
        drop(closing);
        assert_eq!(is_answered(&path), is_another);
        assert!(names(folder.path()).len() <= 1);
    }

    #[test]
    fn where_there_can_be_no_socket_a_trial_says_what_a_start_says() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        let pipe = folder.path().join("pipe");
        let fifo = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, mode, 0).unwrap();
        let of_bytes = |bytes: usize| {
            let left = bytes - folder.path().as_os_str().len() - 1;
            folder.path().join("l".repeat(left))
        };
        for (path, is_no_socket) in [
            (file.clone(), true),
            (pipe, true),
            (PathBuf::from("/"), true),
            (PathBuf::from("/dev/null"), true),
            (folder.path().join("no/such/folder"), false),
            (folder.path().join("folder/"), false),
            (folder.path().join("l".repeat(120)), false),
            (of_bytes(108), false),
            (PathBuf::from("a\0b"), false),
            (PathBuf::from("/proc/a.sock"), false),
        ] {
            let refused = [
                Socket::bind(&path).map(drop).unwrap_err(),
                try_socket(&path).unwrap_err(),
            ];
            for why in refused {
                let is = matches!(why, BadDoor::NoSocket(_));
                assert_eq!(is, is_no_socket, "{path:?}: {why}");
                assert!(is || why.to_string().contains("RuntimeDirectory"), "{why}");
            }
        }
        assert_eq!(fs::read(&file).unwrap(), b"x");
        assert_eq!(names(folder.path()).len(), 2);
        // The longest one that is taken can be connected to.
        let longest = of_bytes(107);
        let _socket = Socket::bind(&longest).unwrap();
        UnixStream::connect(&longest).unwrap();
    }

    #[test]
    fn a_socket_that_was_opened_to_everybody_is_closed_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let mut socket = Socket::bind(&path).unwrap();
        for (opened, closed) in [
            (0o777, 0o770),
            (0o662, 0o660),
            (0o660, 0o660),
            (0o600, 0o600),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(opened)).unwrap();
            socket.look();
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, closed, "{opened:o}");
            assert_eq!(socket.told, None);
        }
        // What stands in its place is not touched.
        let another = folder.path().join("another");
        fs::write(&another, "x").unwrap();
        fs::set_permissions(&another, fs::Permissions::from_mode(0o666)).unwrap();
        let identity = socket.name.lock().identity;
        assert_eq!(close_to_others(&another, identity), Ok(None));
        let mode = fs::metadata(&another).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o666);
    }

    #[test]
    fn a_name_that_is_gone_is_made_again_until_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let mut socket = Socket::bind(&path).unwrap();
        let closing = socket.closing();
        socket.look();
        for _ in 0..2 {
            fs::remove_file(&path).unwrap();
            socket.look();
            assert!(is_answered(&path));
        }
        // What is no socket is somebody's.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "x").unwrap();
        // The one trouble does not hide the other.
        socket.told = Some(Trouble::Open);
        socket.look();
        assert_eq!(socket.told, Some(Trouble::Lost));
        fs::remove_file(&path).unwrap();
        socket.look();
        assert!(is_answered(&path) && socket.told.is_none());
        drop(closing);
        assert!(!path.exists());
        socket.look();
        assert!(!path.exists(), "the server has ended");
    }
}
