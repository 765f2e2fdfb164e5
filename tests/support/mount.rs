//! A disk of a test's own: a file system in an image, mounted by a loop device for as long as the
//! test lasts.

use std::path::{Path, PathBuf};
use std::process::Command;

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

fn run(words: &[&str]) -> Option<()> {
    let output = Command::new(words[0]).args(&words[1..]).output().ok()?;
    if !output.status.success() {
        eprintln!("{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.success().then_some(())
}
