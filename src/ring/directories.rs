//! The directories of the server: made, checked, and locked against a second server; and the note of a clean stop.

use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::launch_error::LaunchError;
use super::walk;
use crate::config::Config;
use crate::server::store::{self, LOCK_NAME};

/// The file that says that the last stop was a clean one, and in which boot.
const CLEAN_NAME: &str = "clean.aside";

/// The roots and the work directory, and the lock that makes them ours.
pub struct Directories {
    work: OwnedFd,
    work_path: PathBuf,
    /// The file system of all of them.
    device: u64,
    boot: u128,
    _lock: fs::File,
}

impl Directories {
    /// Makes and locks them.
    ///
    /// # Errors
    /// [`LaunchError`]
    pub fn take(config: &Config) -> Result<Self, LaunchError> {
        let work_error = |error| LaunchError::WorkDirectory(config.work_dir.clone(), error);
        // The work directory is beneath the root unless the settings say otherwise.
        let first = &config.roots[0];
        fs::create_dir_all(first).map_err(|error| LaunchError::Root(first.clone(), error))?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&config.work_dir)
            .map_err(work_error)?;
        let device = fs::metadata(&config.work_dir).map_err(work_error)?.dev();
        let work_path = &config.work_dir;
        for root in &config.roots {
            drop(open_root(root, work_path, device)?);
        }
        let lock = fs::OpenOptions::new()
            // Never open for writing, so that an administrator can remount the disk read-only.
            .read(true)
            .custom_flags(i32::try_from(rustix::fs::OFlags::CREATE.bits()).unwrap_or(0))
            .mode(0o600)
            .open(config.work_dir.join(LOCK_NAME))
            .map_err(work_error)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(LaunchError::Locked(config.work_dir.clone()));
            }
            Err(error) => return Err(work_error(error.into())),
        }
        Ok(Self {
            work: open_directory(&config.work_dir).map_err(work_error)?,
            work_path: config.work_dir.clone(),
            device,
            boot: boot_id().map_err(work_error)?,
            _lock: lock,
        })
    }

    /// A descriptor of the work directory for one shard.
    ///
    /// # Errors
    /// [`LaunchError`]
    pub fn open_work(&self) -> Result<OwnedFd, LaunchError> {
        open_directory(&self.work_path)
            .map_err(|error| LaunchError::WorkDirectory(self.work_path.clone(), error))
    }

    /// Descriptors of roots for one shard. Those that are missing are made.
    ///
    /// # Errors
    /// [`LaunchError`]
    pub fn open_roots(&self, roots: &[PathBuf]) -> Result<Vec<OwnedFd>, LaunchError> {
        let open = |root: &PathBuf| open_root(root, &self.work_path, self.device);
        roots.iter().map(open).collect()
    }

    /// The boot of the machine.
    pub fn boot(&self) -> u128 {
        self.boot
    }

    /// The generation of this start's journals.
    pub fn next_generation(&self) -> io::Result<u64> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.work_path)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(store::next_generation(names.iter().map(String::as_str)))
    }

    /// The boots in which the server was last stopped cleanly, if it was.
    pub fn stopped_cleanly(&self) -> Vec<u128> {
        let text = fs::read_to_string(self.work_path.join(CLEAN_NAME)).unwrap_or_default();
        text.lines()
            .filter_map(|line| u128::from_str_radix(line.trim(), 16).ok())
            .collect()
    }

    /// From here on a power cut may lose what the last clean stop had made safe. If a shard's records still speak of an
    /// earlier boot, its sessions do not change before they are renewed, and that boot's stop holds.
    pub fn forget_clean_stop(&self, is_renewed: bool) -> io::Result<()> {
        if !is_renewed {
            let mut boots = self.stopped_cleanly();
            boots.retain(|boot| *boot != self.boot);
            if !boots.is_empty() && self.write_clean_stop(&boots).is_ok() {
                return Ok(());
            }
        }
        match fs::remove_file(self.work_path.join(CLEAN_NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(rustix::fs::fsync(&self.work)?)
    }

    /// Syncs everything and says so, so that a planned reboot costs no client a byte. If not all records were renewed in
    /// this boot, those that were not still speak of the stop before.
    pub fn note_clean_stop(&self, is_renewed: bool) -> io::Result<()> {
        sync_file_system(&self.work)?;
        let mut boots = match is_renewed {
            true => Vec::new(),
            false => self.stopped_cleanly(),
        };
        if !boots.contains(&self.boot) {
            boots.push(self.boot);
        }
        self.write_clean_stop(&boots)
    }

    fn write_clean_stop(&self, boots: &[u128]) -> io::Result<()> {
        let text: String = boots.iter().map(|boot| format!("{boot:032x}\n")).collect();
        let mut file = fs::File::create(self.work_path.join(CLEAN_NAME))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        Ok(rustix::fs::fsync(&self.work)?)
    }
}

/// Opens a root, which must be on the file system of the work directory, and in which folders can be kept apart.
fn open_root(root: &Path, work: &Path, device: u64) -> Result<OwnedFd, LaunchError> {
    let failed = |error| LaunchError::Root(root.to_owned(), error);
    fs::create_dir_all(root).map_err(failed)?;
    let opened = open_directory(root).map_err(failed)?;
    if rustix::fs::fstat(&opened)
        .map_err(|error| failed(error.into()))?
        .st_dev
        != device
    {
        return Err(LaunchError::OtherFileSystem(
            root.to_owned(),
            work.to_owned(),
        ));
    }
    walk::probe(&opened).map_err(LaunchError::NoResolveBeneath)?;
    Ok(opened)
}

fn sync_file_system(directory: &OwnedFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(directory.as_fd())?)
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(rustix::fs::OFlags::DIRECTORY.bits()).unwrap_or(0))
        .open(path)?;
    debug_assert!(file.as_raw_fd() >= 0);
    Ok(file.into())
}

fn boot_id() -> io::Result<u128> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).map_err(|_| io::ErrorKind::InvalidData.into())
}
