//! Why the server could not start, in words that name the remedy.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the server could not start, or had to end.
#[derive(Debug)]
pub enum LaunchError {
    /// io_uring cannot be used.
    Ring(io::Error),
    /// The kernel's io_uring lacks an operation.
    RingOperation(&'static str),
    /// The root cannot be used.
    Root(PathBuf, io::Error),
    /// The work directory cannot be used.
    WorkDirectory(PathBuf, io::Error),
    /// The kernel (or a filter before it) has no `openat2`, which keeps uploads beneath the root.
    NoResolveBeneath(io::Error),
    /// Root and work directory are on different file systems.
    OtherFileSystem(PathBuf, PathBuf),
    /// Another server has the work directory.
    Locked(PathBuf),
    /// An address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// A thread could not be started.
    Thread(io::Error),
    /// Signals cannot be caught.
    Signals(io::Error),
    /// A shard's sessions could not be read back.
    Recovery(io::Error),
}

impl std::fmt::Display for LaunchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ring(error) => match error
                .raw_os_error()
                .map(rustix::io::Errno::from_raw_os_error)
            {
                Some(rustix::io::Errno::NOSYS) => write!(
                    f,
                    "this kernel has no io_uring; bitsd needs Linux 5.19 or newer with io_uring enabled"
                ),
                Some(rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => write!(
                    f,
                    "io_uring is forbidden here; in a container allow io_uring_setup, io_uring_enter and \
                     io_uring_register in its seccomp profile, on a host set sysctl kernel.io_uring_disabled=0"
                ),
                Some(rustix::io::Errno::NOMEM) => write!(
                    f,
                    "not enough locked memory for io_uring ({error}); raise RLIMIT_MEMLOCK (systemd: LimitMEMLOCK=infinity)"
                ),
                _ => write!(f, "io_uring cannot be set up: {error}"),
            },
            Self::RingOperation(name) => write!(
                f,
                "this kernel's io_uring has no {name}; bitsd needs Linux 5.19 or newer"
            ),
            Self::Root(path, error) => {
                write!(f, "the root {} cannot be used: {error}", path.display())
            }
            Self::WorkDirectory(path, error) => {
                write!(
                    f,
                    "the work directory {} cannot be used: {error}",
                    path.display()
                )
            }
            Self::NoResolveBeneath(error) => write!(
                f,
                "the system call openat2 cannot be used ({error}), without which uploads could not be kept beneath the \
                 root; under systemd it is taken away by RestrictSUIDSGID=yes, which DynamicUser=yes implies"
            ),
            Self::OtherFileSystem(root, work) => write!(
                f,
                "the work directory {} and the root {} are on different file systems, so that no file could be \
                 published in one step; put work_dir on the file system of the root",
                work.display(),
                root.display()
            ),
            Self::Locked(path) => write!(
                f,
                "another bitsd is using the work directory {}; stop it, or give this one its own root and work_dir",
                path.display()
            ),
            Self::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
            Self::Signals(error) => write!(f, "cannot catch signals: {error}"),
            Self::Recovery(error) => {
                write!(f, "the work directory cannot be read back: {error}")
            }
        }
    }
}

impl std::error::Error for LaunchError {}
