//! A disk of a test's own: a file system in an image, mounted by a loop device for as long as the
//! test lasts.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::wait_until;

/// A mounted file system; unmounted when dropped.
pub struct Disk {
    mounted: PathBuf,
}

impl Disk {
    /// Makes an image of so many bytes by a command such as `["mkfs.ext4", "-q", "-F"]` and mounts
    /// it with options; `None` where that is not possible, and why is on stderr.
    pub fn mount(folder: &Path, mkfs: &[&str], bytes: u64, options: &str) -> Option<Self> {
        let (image, mounted) = (folder.join("image"), folder.join("disk"));
        std::fs::create_dir_all(&mounted).ok()?;
        std::fs::File::create(&image).ok()?.set_len(bytes).ok()?;
        let image = image.to_str()?;
        run(&[mkfs, &[image]].concat())?;
        let options = format!("loop,{options}");
        run(&["mount", "-o", &options, image, mounted.to_str()?])?;
        Some(Self { mounted })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mounted
    }

    /// It fails from here on, as a drive that is pulled out: nothing that was not synced comes onto
    /// it, and every call says that. `None` where that is not possible, and why is on stderr.
    pub fn fail(&self) -> Option<()> {
        run(&["xfs_io", "-x", "-c", "shutdown", self.mounted.to_str()?])
    }

    /// Mounts it anew, once nobody has a file of it open. A disk that had failed is whole again.
    pub fn mount_anew(&self) {
        let mounted = self.mounted.to_str().unwrap();
        wait_until("it is unmounted", || run(&["umount", mounted]).is_some());
        let image = self.mounted.with_file_name("image");
        let again = run(&["mount", "-o", "loop", image.to_str().unwrap(), mounted]);
        assert!(again.is_some(), "it can be mounted again");
    }

    /// What is free on it, in bytes.
    pub fn free_bytes(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.mounted).unwrap();
        stat.f_bfree * stat.f_frsize
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a server may not have ended yet.
        let _ = Command::new("umount").arg("-l").arg(&self.mounted).output();
    }
}

/// A file system whose daemon says nothing more (FUSE): whoever wants something of it waits until
/// this is dropped, and hears then that the daemon is gone.
pub struct Silent {
    mounted: PathBuf,
    /// Nobody reads what the kernel asks here. The last one to close it ends all waits.
    daemon: Option<File>,
}

impl Silent {
    /// Mounts it over a folder; `None` where that is not possible, and why is on stderr.
    pub fn over(folder: &Path) -> Option<Self> {
        let both = File::options().read(true).write(true).open("/dev/fuse");
        let daemon = both.ok()?;
        let mut mount = Command::new("mount");
        // Its stdin is the daemon's end.
        let options = "fd=0,rootmode=40000,user_id=0,group_id=0";
        mount.args(["-i", "-t", "fuse", "-o", options, "none"]);
        mount.arg(folder).stdin(daemon.try_clone().ok()?);
        let output = mount.output().ok()?;
        if !output.status.success() {
            eprintln!("{mount:?}: {}", String::from_utf8_lossy(&output.stderr));
            return None;
        }
        let silent = Self {
            mounted: folder.to_owned(),
            daemon: Some(daemon),
        };
        silent.begin().ok()?;
        Some(silent)
    }

    /// Answers the first request, FUSE_INIT (`linux/fuse.h`): lookups need not wait for each other.
    /// Where they do, the kernel lets nobody end who waits.
    fn begin(&self) -> io::Result<()> {
        let mut daemon = self.daemon.as_ref().expect("it is there");
        let mut request = vec![0; 64 << 10];
        let _length = daemon.read(&mut request)?;
        let (major, minor, readahead, flags) = (7_u32, 31_u32, 0_u32, PARALLEL_DIROPS);
        let mut answer = 80_u32.to_ne_bytes().to_vec();
        answer.extend([0; 4]);
        // The number of the request.
        answer.extend(&request[8..16]);
        for word in [major, minor, readahead, flags, 0, 4096] {
            answer.extend(word.to_ne_bytes());
        }
        answer.resize(80, 0);
        daemon.write_all(&answer)
    }
}

const PARALLEL_DIROPS: u32 = 1 << 18;

impl Drop for Silent {
    fn drop(&mut self) {
        self.daemon = None;
        let _ = Command::new("umount").arg("-l").arg(&self.mounted).output();
    }
}

/// Runs a program; `None` if it fails, and why is on stderr.
pub fn run(words: &[&str]) -> Option<()> {
    let output = Command::new(words[0]).args(&words[1..]).output().ok()?;
    if !output.status.success() {
        eprintln!("{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.success().then_some(())
}
