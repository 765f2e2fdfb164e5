//! Why the server could not start, in words that name the remedy.

mod denied;
mod want;
mod why;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::Mode;
use rustix::io::Errno;

use super::account;
use super::memory::{self, MemoryLimit};
use super::tls::bad_material::BadMaterial;
use super::work_folder::{BadFolder, Exposure, Holds, Others};
use super::{footing, net};
use crate::admin::BadDoor;
use crate::config::Config;
use crate::courier::NoCourier;
use crate::custody::site::BadLedger;
use crate::objects::Unfit;
use crate::shell;

/// How long shards may take to come to life, before they read anything back.
pub const READY_PATIENCE: Duration = Duration::from_secs(10);

/// Why the server could not start, or had to end.
#[derive(Debug)]
pub enum LaunchError {
    /// io_uring cannot be used.
    Ring(io::Error),
    /// The kernel's io_uring lacks an operation.
    RingOperation(&'static str),
    /// A root cannot be used.
    Root(PathBuf, BadRoot),
    /// The work directory or a shelf cannot be used.
    Folder(PathBuf, BadFolder),
    /// There are files of another server's sessions on a shelf.
    Claimed {
        /// The shelf.
        shelf: PathBuf,
        /// The work directory of that server, where it is known.
        by: Option<PathBuf>,
        /// What there is of it.
        holds: Holds,
    },
    /// There are more roots on file systems of their own than can be counted.
    TooManyShelves,
    /// The boot of the machine cannot be told.
    BootId(io::Error),
    /// The kernel (or a filter before it) has no `openat2`, which keeps uploads beneath the root.
    NoResolveBeneath(io::Error),
    /// A filter before the kernel keeps a system call from us that every upload needs.
    NoCall(&'static str, io::Error),
    /// Another server has the work directory; its process, if it can be told.
    Locked(PathBuf, Option<u32>),
    /// An address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// The administrator's interface cannot be where the settings want it.
    Admin(BadDoor),
    /// The custody ledger cannot be kept.
    Custody(BadLedger),
    /// TLS cannot be spoken as the settings ask for.
    Tls(BadMaterial),
    /// Events cannot be carried to their targets as the settings ask for.
    Courier(NoCourier),
    /// An object store does not do what the settings need.
    Store(Unfit),
    /// Clients could say what the server does; why.
    RuledByClients(String),
    /// There is not so much memory, which the settings ask for.
    Memory(u64),
    /// They are less than the body blocks of all shards, which are so many bytes.
    BlocksTooMany(MemoryLimit, u64),
    /// Shards did not get the body blocks that the settings ask for, so many bytes each.
    BlocksLate(u64),
    /// A thread could not be started.
    Thread(io::Error),
    /// io_uring takes requests and does not complete them.
    RingSilent,
    /// Fewer descriptors than the server needs for itself.
    Descriptors {
        /// The limit.
        soft: u64,
        /// What is needed before the first connection.
        needed: u64,
    },
    /// No file may be longer than this, not even one of the server's own.
    FileBytes(u64),
    /// Neither the new program nor this one could begin anew.
    Successor(io::Error),
    /// Signals cannot be caught.
    Signals(io::Error),
    /// A shard's sessions could not be read back from this work directory.
    Recovery(PathBuf, io::Error),
}

impl LaunchError {
    /// There is not the memory that a start with these settings needs.
    pub fn memory(config: &Config) -> Self {
        Self::Memory(memory::needed(config))
    }
}

impl std::fmt::Display for LaunchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ring(error) => write_ring(f, error),
            Self::RingOperation(name) => write!(
                f,
                "this kernel's io_uring has no {name}; bitsd needs Linux 5.19 or newer"
            ),
            Self::Root(path, why) => f.write_str(&why.to_words(path)),
            Self::Folder(path, why) => f.write_str(&why.to_words(path)),
            Self::Claimed { shelf, by, holds } => write_claimed(f, shelf, by.as_deref(), *holds),
            Self::TooManyShelves => f.write_str(
                "too many roots are on file systems of their own: name fewer, or let some be on one",
            ),
            Self::BootId(error) => write!(
                f,
                "the boot of the machine cannot be read from /proc/sys/kernel/random/boot_id ({error}); under systemd \
                 it is hidden by ProcSubset=pid"
            ),
            Self::NoResolveBeneath(error) => write!(
                f,
                "the system call openat2 cannot be used ({error}), without which uploads could not be kept beneath the \
                 root; under systemd it is taken away by RestrictSUIDSGID=yes, which DynamicUser=yes implies"
            ),
            Self::NoCall(name, error) => write!(
                f,
                "the system call {name} cannot be used ({error}), without which no upload could be taken: allow it in the \
                 filter (seccomp, SystemCallFilter=), or take a newer container runtime, which knows it"
            ),
            Self::Locked(path, process) => write_locked(f, path, *process),
            Self::Listen(address, error) => {
                let remedy = of_address(*address, error);
                write!(f, "cannot listen on {address}: {error}{remedy}")
            }
            Self::Admin(why) => {
                why.fmt(f)?;
                match why {
                    BadDoor::Address(address, error) => f.write_str(&of_address(*address, error)),
                    _ => Ok(()),
                }
            }
            Self::Custody(why) => why.fmt(f),
            Self::Tls(why) => why.fmt(f),
            Self::Courier(why) => why.fmt(f),
            Self::Store(why) => why.fmt(f),
            Self::RuledByClients(why) => f.write_str(why),
            Self::Memory(needed) => want::write_memory(f, *needed),
            Self::BlocksTooMany(limit, needed) => want::write_too_many_blocks(f, limit, *needed),
            Self::BlocksLate(bytes) => want::write_late_blocks(f, *bytes),
            Self::Thread(error) => write_thread(f, error),
            Self::RingSilent => write!(
                f,
                "io_uring takes requests and does not answer them, so that no core came to life in {} s; look at the \
                 seccomp profile and at `dmesg`",
                READY_PATIENCE.as_secs()
            ),
            Self::Descriptors { soft, needed } => write!(
                f,
                "the limit on open files is {soft}, and {needed} are needed before the first connection; raise \
                 LimitNOFILE= of the service (or `ulimit -n`), or lower cores"
            ),
            Self::FileBytes(bytes) => write!(
                f,
                "no file may be longer than {bytes} B, and the server's own are: raise LimitFSIZE= of the service (`ulimit -f`)"
            ),
            Self::Successor(error) => write!(f, "no program can begin here: {error}"),
            Self::Signals(error) => write!(f, "cannot catch signals: {error}"),
            Self::Recovery(work, error) => write!(
                f,
                "the work directory {} cannot be read back: {}",
                work.display(),
                why::of_ours(work, error)
            ),
        }
    }
}

/// What there is of another server on a shelf.
fn write_claimed(
    f: &mut std::fmt::Formatter<'_>,
    shelf: &Path,
    by: Option<&Path>,
    holds: Holds,
) -> std::fmt::Result {
    let (path, word) = (shelf.display(), shell::word(shelf));
    match (by, holds) {
        (Some(by), _) => write!(
            f,
            "{path} keeps unfinished uploads of the server whose work_dir is {}, and which is not this one by its mark: \
             if that is this one's work_dir, its mark was lost, or the disk is another host's; give this one another \
             folder, or, if those uploads may be lost, move it away (`mv {word} {word}.old`)",
            by.display()
        ),
        (None, Holds::Uploads) => write!(
            f,
            "{path} keeps unfinished uploads that the records in work_dir do not know; start once with \
             work_dir = \"{path}\" and let them end, or move it away if they may be lost"
        ),
        (None, Holds::Records | Holds::Nothing) => write!(
            f,
            "{path} keeps records of a server whose work_dir it was (no unfinished upload): which uploads have ended, \
             and which events are owed; if `bitsd status` said that none was owed, move it away (`mv {word} {word}.old`)"
        ),
    }
}

/// Who has the work directory.
fn write_locked(
    f: &mut std::fmt::Formatter<'_>,
    path: &Path,
    process: Option<u32>,
) -> std::fmt::Result {
    write!(f, "another bitsd ")?;
    if let Some(process) = process {
        write!(f, "(process {process}) ")?;
    }
    write!(
        f,
        "is using the work directory {}; stop it, or give this one its own root and work_dir",
        path.display()
    )
}

fn write_thread(f: &mut std::fmt::Formatter<'_>, error: &io::Error) -> std::fmt::Result {
    write!(f, "cannot start a thread: {error}")?;
    match errno(error) {
        // pthread_create(3): for want of a process, or of memory for its stack.
        Some(Errno::AGAIN) if memory::is_limited() => f.write_str(
            "; raise the limit of memory (systemd: LimitAS=, LimitDATA=; a shell: ulimit -v, ulimit -d) or that of \
             processes (TasksMax=; ulimit -u)",
        ),
        Some(Errno::AGAIN) => {
            f.write_str("; raise the limit of processes (systemd: TasksMax=; a shell: ulimit -u)")
        }
        _ => Ok(()),
    }
}

/// Why io_uring cannot be had.
fn write_ring(f: &mut std::fmt::Formatter<'_>, error: &io::Error) -> std::fmt::Result {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSYS) => write!(
            f,
            "this kernel has no io_uring; bitsd needs Linux 5.19 or newer with io_uring enabled"
        ),
        Some(Errno::PERM | Errno::ACCESS) => write!(
            f,
            "io_uring is forbidden here; in a container allow io_uring_setup, io_uring_enter and \
                     io_uring_register in its seccomp profile, on a host set sysctl kernel.io_uring_disabled=0"
        ),
        // What may wait is done by threads of the kernel, which count as the process's
        // (io_uring(7)).
        Some(Errno::CANCELED) => write!(
            f,
            "io_uring cannot start a thread of its own ({error}), without which nothing can be synced; raise the \
             limit of processes (systemd: TasksMax=; a container: --pids-limit; a shell: ulimit -u)"
        ),
        Some(Errno::NOMEM) if memory::is_limited() => write!(
            f,
            "not enough memory for io_uring ({error}); raise its limit (systemd: LimitAS=, LimitMEMLOCK=infinity; a \
             shell: ulimit -v, ulimit -l)"
        ),
        Some(Errno::NOMEM) => write!(
            f,
            "not enough locked memory for io_uring ({error}); raise RLIMIT_MEMLOCK (systemd: LimitMEMLOCK=infinity)"
        ),
        _ => write!(f, "io_uring cannot be set up: {error}"),
    }
}

impl std::error::Error for LaunchError {}

/// Why a root cannot be used.
#[derive(Debug)]
pub enum BadRoot {
    /// It does not exist.
    Missing,
    /// Something else has its name.
    NotDirectory,
    /// It cannot be opened.
    Open(io::Error),
    /// What publication does cannot be done in it.
    Trial(io::Error),
    /// It is, or lies in, the work directory of a server that runs.
    InWorkDir(PathBuf),
    /// It is, or lies in, this server's own work directory.
    OwnWorkDir(PathBuf),
    /// Its file system, of this name, holds no files.
    NoFiles(&'static str),
    /// Nothing can be moved to it even from the shelf in it.
    ShelfElsewhere(PathBuf),
    /// A file that is moved to it may replace another one, which a location forbids.
    OnlyReplaces,
    /// It is another folder each time that it is looked at.
    Restless,
}

impl From<Errno> for BadRoot {
    fn from(error: Errno) -> Self {
        match error {
            Errno::NOENT => Self::Missing,
            Errno::NOTDIR => Self::NotDirectory,
            error => Self::Open(error.into()),
        }
    }
}

impl BadRoot {
    /// Cause and remedy.
    pub fn to_words(&self, root: &Path) -> String {
        let (path, word) = (root.display(), shell::word(root));
        match self {
            Self::Missing => match why::of_missing(root) {
                Some(known) => format!("the root {path} {known}"),
                None => format!(
                    "the root {path} does not exist{}: if it is on a disk of its own, mount that; if it is to be new, \
                     make it with `install -d -o {} {word}`",
                    why::from_where(root),
                    account::to_chown(account::our_id())
                ),
            },
            Self::NotDirectory => format!("the root {path} is not a directory"),
            Self::Open(error) => format!(
                "the root {path} cannot be used: {}",
                why::of_folder(root, error)
            ),
            Self::Trial(error) => {
                format!(
                    "no file can be made in the root {path}: {}",
                    why::of_folder(root, error)
                )
            }
            Self::InWorkDir(theirs) => format!(
                "the root {path} is in the work directory {} of a server that runs: uploads could overwrite that \
                 server's own files",
                theirs.display()
            ),
            Self::OwnWorkDir(work) => format!(
                "the root {path} is in the work directory {}, perhaps by a link: uploads could overwrite the server's \
                 own files; name another work_dir",
                work.display()
            ),
            Self::NoFiles(kind) => {
                format!(
                    "the root {path} is on a file system that holds no files ({kind}): name another folder"
                )
            }
            Self::OnlyReplaces => format!(
                "the file system of the root {path} can neither rename without replacing (RENAME_NOREPLACE) nor make \
                 links, so that an upload could replace a file: set allow_overwrite = true for all locations there if \
                 that is meant, or use another file system"
            ),
            Self::Restless => format!(
                "the root {path} is another folder each time that it is looked at: its file system has no stable inode \
                 numbers (FUSE: mount it with use_ino or noforget)"
            ),
            Self::ShelfElsewhere(shelf) => format!(
                "nothing can be moved from {} to the root {path}: the one is a mount of its own; unmount it",
                shelf.display()
            ),
        }
    }
}

impl BadFolder {
    /// Cause and remedy.
    pub fn to_words(&self, folder: &Path) -> String {
        let (path, word) = (folder.display(), shell::word(folder));
        let us = account::to_chown(account::our_id());
        match self {
            Self::Owner(_) | Self::Writable(_) if footing::is_of_the_system(folder) => format!(
                "the work directory {path} belongs to the system, and others have to use it: {}",
                another_work_dir()
            ),
            Self::Writable(mode) if mode.contains(Mode::SVTX) => format!(
                "the work directory {path} is for everybody (mode {:04o}), and what stands in it is published with the \
                 server's rights: {}",
                mode.as_raw_mode(),
                another_work_dir()
            ),
            Self::Missing => match why::of_missing(folder) {
                Some(known) => format!("the work directory {path} {known}"),
                None => format!(
                    "the work directory {path} does not exist: if it is on a disk of its own, mount that; if it is to \
                     be new, make it with `install -d -m 700 -o {us} {word}`"
                ),
            },
            Self::NotDirectory if folder.is_dir() => format!(
                "the work directory {path} is a link, which is followed only where the settings name it: name the \
                 folder that it leads to, as in work_dir = \"/other/folder\", or put that back"
            ),
            Self::NotDirectory => format!("the work directory {path} is not a directory"),
            Self::Owner(owner) => format!(
                "the work directory {path} belongs to {}, and what stands in it is published with the rights of {}: \
                 run it as that account where a server does; if none does, and nobody else has put anything there, \
                 `chown -R {us} {word}`",
                account::user(*owner),
                account::us()
            ),
            Self::Writable(mode) => format!(
                "others than {} may write to the work directory {path} (mode {:04o}), and what stands in it is \
                 published with the server's rights: if nobody has put anything there, `chmod -R go-w {word}`",
                account::us(),
                mode.as_raw_mode()
            ),
            Self::Occupied(found) => want::of_an_empty_folder(&path, found, &us),
            Self::NoFiles(kind) => format!(
                "the work directory {path} is on a file system that holds no files ({kind}): name another folder"
            ),
            Self::NoLocks(error) => format!(
                "the work directory {path} cannot be locked against a second server: {error}; NFS needs lockd and \
                 rpc.statd on both sides (where no other host serves from there, mount with local_lock=flock); \
                 otherwise name a work_dir on another file system"
            ),
            Self::Exposed(exposure) => format!(
                "it cannot be told whether the work directory {path} is the server's own: {}",
                exposure.to_words(folder)
            ),
            Self::Io(error) => format!(
                "the work directory {path} cannot be used: {}",
                why::of_ours(folder, error)
            ),
        }
    }
}

impl Exposure {
    /// Cause and remedy.
    pub fn to_words(&self, folder: &Path) -> String {
        let (word, parent_word) = (shell::word(folder), shell::word(&self.parent));
        let (folder, parent) = (folder.display(), self.parent.display());
        let us = account::to_chown(account::our_id());
        let (who, sticky) = match self.to {
            Others::All => ("everybody".to_owned(), true),
            Others::Group(group) => (account::group(group), true),
            Others::Owner(owner) => (account::user(owner), false),
        };
        let sticky = match sticky {
            true => format!("set the sticky bit (`chmod +t {parent_word}`), or "),
            false => String::new(),
        };
        format!(
            "{who} may write to {parent} and so put another folder in the place of the work directory {folder}: {sticky}give \
         it a place on the same file system where only root and {us} may write: stop the server, \
         `install -d -m 700 -o {us} DIR`, `mv {word}/* DIR/` if there is anything in it, and set work_dir = \"DIR\""
        )
    }
}

/// What to do where a folder cannot become the server's.
fn another_work_dir() -> String {
    let us = account::to_chown(account::our_id());
    format!(
        "give the server a folder of its own, by `install -d -m 700 -o {us} DIR` and work_dir = \"DIR\""
    )
}

fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw_os_error)
}

/// The remedy for an address that cannot be listened on.
fn of_address(address: SocketAddr, error: &io::Error) -> String {
    match errno(error) {
        Some(Errno::ACCESS) => "; ports below 1024 need CAP_NET_BIND_SERVICE (systemd: \
             AmbientCapabilities=CAP_NET_BIND_SERVICE)"
            .to_owned(),
        Some(Errno::ADDRNOTAVAIL) => {
            format!(
                "; this machine has no address {} (see `ip addr`)",
                address.ip()
            )
        }
        Some(Errno::AFNOSUPPORT) if address.is_ipv6() => format!(
            "; {}: take {address} out of the settings, and name 0.0.0.0:{} if there is none",
            net::why_no_ipv6(),
            address.port()
        ),
        Some(Errno::ADDRINUSE) => {
            format!("; `ss -ltnp 'sport = :{}'` shows by whom", address.port())
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_remedy_takes_a_folder_of_the_system_from_others() {
        for path in ["/tmp", "/etc", "/"] {
            let folder = Path::new(path);
            let shared = Mode::from_raw_mode(0o1777);
            let refused = io::Error::from(Errno::ACCESS);
            for words in [
                BadFolder::Owner(0).to_words(folder),
                BadFolder::Writable(shared).to_words(folder),
                BadFolder::Writable(Mode::from_raw_mode(0o777)).to_words(folder),
                BadRoot::Trial(refused).to_words(folder),
            ] {
                assert!(
                    !words.contains("chmod") && !words.contains("chown"),
                    "{words}"
                );
                assert!(words.contains("a folder of its own"), "{words}");
            }
        }
        let shared = BadFolder::Writable(Mode::from_raw_mode(0o1777));
        let words = shared.to_words(Path::new("/srv/shared"));
        assert!(!words.contains("chmod"), "{words}");
    }

    #[test]
    fn a_root_that_can_be_no_folder_here_is_told_with_what_it_is() {
        let place = tempfile::tempdir().unwrap();
        let link = place.path().join("link");
        std::os::unix::fs::symlink("/nowhere/up", &link).unwrap();
        for (root, told) in [
            ("file:///srv/x", "is a URL: write the path alone, /srv/x"),
            ("srv:/export", "mount what it names"),
            ("//srv/share", "mount what it names"),
            ("/srv/up", "make it with `install -d"),
            ("up", ", where the server is started: if it is"),
            (
                link.to_str().unwrap(),
                "is a link to /nowhere/up, which does not exist",
            ),
        ] {
            let words = BadRoot::Missing.to_words(Path::new(root));
            assert!(words.contains(told), "{words}");
            let makes = told.contains("install") || told.contains("started");
            assert_eq!(words.contains("install -d"), makes, "{words}");
        }
    }

    #[test]
    fn paths_in_remedies_can_be_pasted() {
        let (root, word) = (Path::new("/srv/it's my up"), r"'/srv/it'\''s my up'`");
        let no_key = || BadRoot::Open(Errno::NOKEY.into()).to_words(root);
        for words in [
            BadRoot::Missing.to_words(root),
            BadRoot::Open(Errno::ACCESS.into()).to_words(root),
            no_key(),
            BadFolder::Missing.to_words(root),
            BadFolder::Owner(7).to_words(root),
            BadFolder::Writable(Mode::from_raw_mode(0o770)).to_words(root),
        ] {
            assert!(words.contains(word), "{words}");
        }
    }
}
