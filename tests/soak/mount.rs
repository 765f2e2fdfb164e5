//! Small file systems that a scenario may fill and cut the power of.
#![allow(
    unsafe_code,
    reason = "one ioctl that the standard library does not have"
)]
#![allow(dead_code, reason = "each test uses some of it")]

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::FallocateFlags;
use rustix::ioctl::{Setter, opcode};
use tempfile::TempDir;

use super::support::wait_until;

/// What is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ext4,
    /// ext4 that writes short commits of its own kind (`fast_commit`).
    FastExt4,
    Xfs,
    Tmpfs,
}

/// A file system of its own, unmounted when dropped.
pub struct Mount {
    folder: TempDir,
}

impl Mount {
    /// Makes and mounts a file system of so many MiB.
    ///
    /// # Errors
    /// Why it cannot be had here.
    pub fn new(kind: Kind, mib: u64) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("mounting a file system takes root".to_owned());
        }
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mount = Self { folder };
        std::fs::create_dir(mount.point()).map_err(|error| error.to_string())?;
        let image = mount.image();
        if kind != Kind::Tmpfs {
            let file = File::create(&image).map_err(|error| error.to_string())?;
            file.set_len(mib << 20).map_err(|error| error.to_string())?;
        }
        match kind {
            Kind::Ext4 => run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?,
            Kind::FastExt4 => run(Command::new("mkfs.ext4")
                .args(["-q", "-F", "-O", "fast_commit"])
                .arg(&image))?,
            Kind::Xfs => run(Command::new("mkfs.xfs").args(["-q", "-f"]).arg(&image))?,
            Kind::Tmpfs => {}
        }
        match kind {
            Kind::Tmpfs => {
                let size = format!("size={mib}m");
                let mut command = Command::new("mount");
                command.args(["-t", "tmpfs", "-o", &size, "tmpfs"]);
                run(command.arg(mount.point()))?;
            }
            Kind::Ext4 | Kind::FastExt4 | Kind::Xfs => mount.attach()?,
        }
        Ok(mount)
    }

    /// Where it is mounted.
    pub fn point(&self) -> PathBuf {
        self.folder.path().join("mount")
    }

    /// A folder in it for the server's root; made if it is missing.
    pub fn root(&self) -> PathBuf {
        let root = self.point().join("root");
        std::fs::create_dir_all(&root).unwrap();
        root
    }

    /// A file beside it, on the file system of the machine.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn image(&self) -> PathBuf {
        self.beside("image")
    }

    fn attach(&self) -> Result<(), String> {
        let mut command = Command::new("mount");
        command.args(["-o", "loop"]);
        run(command.arg(self.image()).arg(self.point()))
    }

    /// Takes all free space, without writing it.
    pub fn fill(&self) -> Ballast {
        let path = self.point().join("ballast");
        let file = File::create(&path).unwrap();
        let ballast = Ballast(path);
        let mut at = 0;
        let mut step: u64 = 64 << 20;
        while step >= 4096 {
            match rustix::fs::fallocate(&file, FallocateFlags::empty(), at, step) {
                Ok(()) => at += step,
                Err(rustix::io::Errno::NOSPC) => step /= 2,
                Err(error) => panic!("filling the disk: {error}"),
            }
        }
        ballast
    }

    /// Makes ext4 do what it does when it meets an error: nothing can be written until it is
    /// mounted anew.
    pub fn make_read_only(&self) {
        let mut command = Command::new("mount");
        run(command.args(["-o", "remount,abort"]).arg(self.point())).unwrap();
    }

    /// Mounts it anew. Nobody may have a file open.
    pub fn mount_anew(&self) {
        // The kernel takes the rings of a killed server down after its process, and with them the
        // last files that it had open.
        wait_until("nobody has a file open there", || {
            run(Command::new("umount").arg(self.point())).is_ok()
        });
        self.attach_when_free();
    }

    fn attach_when_free(&self) {
        // The last user of the old mount may end a moment after the server.
        wait_until("the loop device is free", || {
            !has_loop_device(&self.image())
        });
        self.attach().unwrap();
    }

    /// Ends the file system as a power cut does: what is not on the device by now never gets there.
    /// Nobody may have a file open.
    pub fn cut_power(&self) {
        /// Stops at once, without writing the journal's pages out.
        const NO_LOG_FLUSH: u32 = 2;
        const GOING_DOWN: rustix::ioctl::Opcode = opcode::read::<u32>(b'X', 125);
        let control = self.point().join("unsynced");
        std::fs::write(&control, b"a power cut loses this").unwrap();
        let point = File::open(self.point()).unwrap();
        // SAFETY: the kernel reads one u32 behind the pointer, for which `Setter` passes that of
        // its own u32; ext4 and xfs know the call by the same number, others refuse it.
        let cut =
            unsafe { rustix::ioctl::ioctl(&point, Setter::<GOING_DOWN, u32>::new(NO_LOG_FLUSH)) };
        cut.unwrap();
        drop(point);
        self.mount_anew();
        assert!(
            !control.exists(),
            "the power cut lost nothing, so it proves nothing"
        );
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmount = || run(Command::new("umount").arg(self.point()));
        if unmount().is_err() {
            // Lazily, so that it goes as soon as its last user has ended.
            let _ = run(Command::new("umount").arg("-l").arg(self.point()));
        }
    }
}

/// Takes space until dropped.
pub struct Ballast(PathBuf);

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn has_loop_device(image: &Path) -> bool {
    let Ok(devices) = std::fs::read_dir("/sys/block") else {
        return false;
    };
    devices.flatten().any(|device| {
        std::fs::read_to_string(device.path().join("loop/backing_file"))
            .is_ok_and(|path| Path::new(path.trim()) == image)
    })
}

/// Runs a command that is expected to succeed.
pub fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(format!("{name} is not installed"))
        }
        Err(error) => Err(format!("{name}: {error}")),
    }
}
