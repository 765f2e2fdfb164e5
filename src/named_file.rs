//! Files that a person has named, by a setting or by a flag.
//!
//! A name can lead to anything. The other end of a pipe may never come, a device may have no end,
//! and a file of the kernel may have neither a length nor an end (`/proc/kmsg`). So what is named
//! is opened without waiting, has to be a regular file, and is read up to a bound. Only what a
//! person has made for one run may be a pipe as well (`--config <(..)`), and that is bounded in
//! time. Where the file system itself does not answer, whoever waits is seen to ([`vigil`]).

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::pem_lines;
use crate::shell;
use crate::vigil;

/// A path without links, as far as it can be told.
#[allow(clippy::disallowed_methods, reason = "not on a shard")]
pub fn without_links(path: &Path) -> Option<PathBuf> {
    let found = vigil::at(path, || std::fs::canonicalize(path));
    found.or_else(|_| std::path::absolute(path)).ok()
}

/// Where a link leads that leads nowhere.
pub fn dangling(path: &Path) -> Option<PathBuf> {
    let target = vigil::at(path, || std::fs::read_link(path)).ok()?;
    let leads_nowhere = matches!(
        vigil::at(path, || rustix::fs::stat(path)),
        Err(Errno::NOENT)
    );
    leads_nowhere.then_some(target)
}

/// What helps where a file may not be read, or a link leads nowhere; nothing where something else
/// is the matter. Who makes such files is mostly root, and the server is not.
pub fn remedy(path: &Path, error: &io::Error) -> String {
    if let Some(target) = dangling(path) {
        let target = target.display();
        return format!("; it is a link to {target}, which does not exist");
    }
    if error.kind() != io::ErrorKind::PermissionDenied {
        return String::new();
    }
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let (uid, gid, word) = (uid.as_raw(), gid.as_raw(), shell::word(path));
    format!(
        "; uid {uid} may not read it, or not enter a folder above it: `chgrp {gid} {word} && chmod g+r {word}`"
    )
}

/// Opens a regular file for reading.
///
/// # Errors
/// What the kernel says, or that it is none.
pub fn open(path: &Path) -> io::Result<File> {
    open_as(path, OFlags::empty())
}

/// Opens what stands there itself: a link to a regular file is none.
///
/// # Errors
/// Likewise.
pub fn open_itself(path: &Path) -> io::Result<File> {
    open_as(path, OFlags::NOFOLLOW)
}

fn open_as(path: &Path, how: OFlags) -> io::Result<File> {
    vigil::at(path, || open_here(path, how))
}

fn open_here(path: &Path, how: OFlags) -> io::Result<File> {
    // Already to be opened does something to some devices.
    check(&match how.contains(OFlags::NOFOLLOW) {
        true => rustix::fs::lstat(path)?,
        false => rustix::fs::stat(path)?,
    })?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | how;
    let opened = match rustix::fs::open(path, flags | OFlags::NONBLOCK, Mode::empty()) {
        // Another program has a lease on it (F_SETLEASE in fcntl(2)), as file servers do. The
        // kernel takes it away in a bounded time.
        Err(Errno::WOULDBLOCK) => rustix::fs::open(path, flags, Mode::empty())?,
        opened => opened?,
    };
    // Another one may have come in its place.
    check(&rustix::fs::fstat(&opened)?)?;
    Ok(File::from(opened))
}

/// Opens a regular file to read it and to write at its end, and says whether it was made: for its
/// owner alone, where there was none.
///
/// # Errors
/// What the kernel says, or that it is none.
pub fn open_to_append(path: &Path) -> io::Result<(File, bool)> {
    let is_new = match rustix::fs::stat(path) {
        Ok(stat) => {
            check(&stat)?;
            false
        }
        Err(Errno::NOENT) => true,
        Err(error) => return Err(error.into()),
    };
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOCTTY;
    let mode = Mode::RUSR | Mode::WUSR;
    let opened = rustix::fs::open(path, flags | OFlags::NONBLOCK, mode)?;
    check(&rustix::fs::fstat(&opened)?)?;
    Ok((File::from(opened), is_new))
}

/// Reads a regular file of at most `bytes_max`.
///
/// # Errors
/// What the kernel says, that it is none, or that it is larger.
pub fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    vigil::at(path, || {
        read_all(&open_here(path, OFlags::empty())?, bytes_max)
    })
}

/// The same, of what nobody else may see: nothing of it stays in memory when it is dropped.
///
/// # Errors
/// Likewise.
pub fn read_secret(path: &Path, bytes_max: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    read(path, bytes_max).map(Zeroizing::new)
}

/// The same, of a pipe or of `/dev/null` too. Whoever writes into a pipe may take that long in all.
///
/// # Errors
/// Likewise, or that nothing came in time.
pub fn read_or_pipe(
    path: &Path,
    bytes_max: u64,
    patience: Duration,
) -> io::Result<Zeroizing<Vec<u8>>> {
    let found = vigil::at(path, || rustix::fs::stat(path))?;
    if is_null(&found) {
        return Ok(Zeroizing::default());
    }
    if FileType::from_raw_mode(found.st_mode) != FileType::Fifo {
        return read_secret(path, bytes_max);
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let pipe = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    read_pipe(&pipe, bytes_max, patience)
}

/// Reads what is left of a file that is open, at most `bytes_max`.
///
/// # Errors
/// What the kernel says, or that it is larger.
pub fn read_all(file: &File, bytes_max: u64) -> io::Result<Vec<u8>> {
    // To read some of them takes away what others wait for.
    if let Some(kind) = kind_without_files(file) {
        return Err(io::Error::other(format!(
            "it is a file of the kernel ({kind}), not a regular file"
        )));
    }
    let bytes = file.metadata()?.len().min(bytes_max);
    // Room for all of it, so that no copy of a secret is left behind when it grows.
    let mut content = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0).saturating_add(1));
    file.take(bytes_max.saturating_add(1))
        .read_to_end(&mut content)?;
    within(content, bytes_max)
}

fn read_pipe(
    mut pipe: &File,
    bytes_max: u64,
    patience: Duration,
) -> io::Result<Zeroizing<Vec<u8>>> {
    let deadline = Instant::now() + patience;
    let mut content = Zeroizing::new(Vec::with_capacity(PIPE_BYTES));
    // Each read that finds nothing yet is one turn.
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut waiting = [PollFd::new(&pipe, PollFlags::IN)];
        if rustix::event::poll(&mut waiting, Some(&left))? == 0 {
            return Err(io::Error::other("it is a pipe, and nobody writes into it"));
        }
        let room = (bytes_max + 1).saturating_sub(content.len() as u64);
        match pipe.by_ref().take(room).read_to_end(&mut content) {
            Ok(_) => return within(std::mem::take(&mut *content), bytes_max).map(Zeroizing::new),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads a PEM file: certificates and keys, often put together of several files. A byte order mark
/// at the head of any line is left out; what begins behind one would be passed over in silence.
///
/// # Errors
/// As [`read`], and [`FlawedPem`](crate::pem_lines::FlawedPem) where a block would be passed over.
pub fn read_pem(path: &Path) -> io::Result<Vec<u8>> {
    let content = read(path, PEM_BYTES_MAX)?;
    let lines = content.split_inclusive(|byte| *byte == b'\n');
    let lines = lines.map(|line| line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line));
    let content = lines.collect::<Vec<_>>().concat();
    let looked = pem_lines::look(&content);
    looked.map_err(|flaw| io::Error::new(io::ErrorKind::InvalidData, flaw))?;
    Ok(content)
}

fn within(mut content: Vec<u8>, bytes_max: u64) -> io::Result<Vec<u8>> {
    if content.len() as u64 <= bytes_max {
        // Notepad begins text with it ("UTF-8 with BOM"), and nothing that is read here does.
        if content.starts_with(BYTE_ORDER_MARK) {
            content.drain(..BYTE_ORDER_MARK.len());
        }
        return Ok(content);
    }
    let size = match bytes_max {
        mib if mib % (1 << 20) == 0 => format!("{} MiB", mib >> 20),
        kib if kib % (1 << 10) == 0 => format!("{} KiB", kib >> 10),
        bytes => format!("{bytes} bytes"),
    };
    let why = format!("it is larger than {size}");
    Err(io::Error::new(io::ErrorKind::FileTooLarge, why))
}

fn check(found: &Stat) -> io::Result<()> {
    let what = match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => "a directory",
        FileType::Fifo => "a pipe",
        FileType::Symlink => "a link",
        FileType::Socket => "a socket",
        _ => "a device",
    };
    let why = format!("it is {what}, not a regular file");
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

/// Whether a path leads to a pipe.
pub fn is_pipe(path: &Path) -> bool {
    let found = vigil::at(path, || rustix::fs::stat(path));
    found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Fifo)
}

/// `/dev/null`, by the numbers that it has on every Linux (null(4)).
fn is_null(found: &Stat) -> bool {
    let is_device = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice;
    let number = (
        rustix::fs::major(found.st_rdev),
        rustix::fs::minor(found.st_rdev),
    );
    is_device && number == (1, 3)
}

/// The name of the file system of a file or a folder, if that is one of the kernel's own in which
/// no file can be made (statfs(2) and `linux/magic.h` have the numbers). Rights and errors do not
/// tell: root may write everywhere.
pub fn kind_without_files(opened: impl AsFd) -> Option<&'static str> {
    let kind = u64::try_from(rustix::fs::fstatfs(opened).ok()?.f_type).ok()?;
    let found = KINDS_WITHOUT_FILES
        .iter()
        .find(|(number, _)| *number == kind);
    found.map(|(_, name)| *name)
}

const KINDS_WITHOUT_FILES: [(u64, &str); 9] = [
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0x0000_1cd1, "devpts"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x7363_6673, "securityfs"),
    (0xcafe_4a11, "bpf"),
];

/// More than any chain, bundle of authorities or list of revocations of one organisation.
const PEM_BYTES_MAX: u64 = 16 << 20;
/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// As much as a pipe holds.
const PIPE_BYTES: usize = 64 << 10;

/// Takes a folder out of the way of a file that is to have its name. One with something in it is
/// somebody's, and gets the first of these names that is free.
///
/// # Errors
/// What the kernel says; `AlreadyExists` if none is free.
pub fn clear_of_folder(
    above: impl AsFd,
    name: &str,
    asides: impl Iterator<Item = String>,
) -> io::Result<()> {
    match rustix::fs::unlinkat(&above, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        result => return Ok(result?),
    }
    for aside in asides {
        // Nothing that holds something is replaced by a folder (rename(2)).
        match rustix::fs::renameat(&above, name, &above, &aside) {
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            result => return Ok(result?),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Makes the names in a folder durable, as far as its file system can. It may block.
///
/// # Errors
/// What the kernel says.
pub fn sync_names_in(folder: impl AsFd) -> io::Result<()> {
    match rustix::fs::fsync(&folder) {
        Err(Errno::INVAL) if !is_known_to_sync(&folder) => Ok(()),
        result => Ok(result?),
    }
}

/// Why a folder cannot be synced at all, if so: tries it, and may block. From then on
/// [`synced_folder`] knows that there is one.
pub fn why_unsynced(folder: impl AsFd) -> Option<io::Error> {
    let failed = rustix::fs::fsync(&folder).err();
    let why = failed.filter(|errno| *errno == Errno::INVAL && !is_known_to_sync(&folder))?;
    HAS_UNSYNCED.store(true, Ordering::Relaxed);
    Some(why.into())
}

/// What came of syncing a folder of this server. Some file systems cannot, and say EINVAL (FUSE,
/// SMB). A start tells of those, and all else goes on as far as it can; where none was found, it is
/// an error as any other.
///
/// # Errors
/// All others.
pub fn synced_folder(result: io::Result<()>) -> io::Result<()> {
    let has_unsynced = HAS_UNSYNCED.load(Ordering::Relaxed);
    match result {
        Err(error) if has_unsynced && Errno::from_io_error(&error) == Some(Errno::INVAL) => Ok(()),
        result => result,
    }
}

/// A folder was found that cannot be synced.
static HAS_UNSYNCED: AtomicBool = AtomicBool::new(false);

/// Whether the file system of a folder is one that syncs folders: ext4, XFS, btrfs, tmpfs, NFS
/// (`linux/magic.h` has the numbers). There EINVAL means something else.
fn is_known_to_sync(folder: impl AsFd) -> bool {
    let kind = rustix::fs::fstatfs(folder).map(|found| u64::try_from(found.f_type));
    matches!(
        kind,
        Ok(Ok(0xef53
            | 0x5846_5342
            | 0x9123_683e
            | 0x0102_1994
            | 0x6969))
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn who_may_not_read_a_file_is_told_what_lets_him() {
        let path = Path::new("/etc/my users");
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let told = remedy(path, &denied);
        assert!(told.contains("'/etc/my users' && chmod g+r"), "{told}");
        let missing = io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(remedy(path, &missing), "");
    }

    #[test]
    fn a_pem_file_of_which_a_block_would_be_passed_over_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.pem");
        let block = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        fs::write(&path, format!("{block}{block}")).unwrap();
        assert_eq!(read_pem(&path).unwrap().len(), 2 * block.len());
        fs::write(&path, format!("{}{block}", block.trim_end())).unwrap();
        assert!(told(read_pem(&path)).starts_with("line 3: this END line"));
    }

    const SOON: Duration = Duration::from_millis(50);

    fn told<T: std::fmt::Debug>(result: io::Result<T>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn only_regular_files_are_opened_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, socket) = (folder.path().join("pipe"), folder.path().join("socket"));
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, mode, 0).unwrap();
        let _listener = UnixListener::bind(&socket).unwrap();
        for (path, is) in [
            (&*pipe, "a pipe"),
            (&*socket, "a socket"),
            (folder.path(), "a directory"),
            (Path::new("/dev/zero"), "a device"),
            (Path::new("/dev/full"), "a device"),
        ] {
            let expected = format!("it is {is}, not a regular file");
            assert_eq!(told(open(path)), expected);
            assert_eq!(told(read(path, 9)), expected);
            assert_eq!(told(open_to_append(path)), expected);
        }
        let link = folder.path().join("link");
        fs::write(folder.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        open(&link).unwrap();
        assert_eq!(told(open_itself(&link)), "it is a link, not a regular file");
        open_itself(&folder.path().join("file")).unwrap();
        assert!(told(read(Path::new("/proc/version"), 1 << 20)).contains("of the kernel (proc)"));
        assert!(told(read_or_pipe(Path::new("/proc/version"), 9, SOON)).contains("of the kernel"));
        assert!(told(read_or_pipe(Path::new("/dev/zero"), 9, SOON)).contains("a device"));
        assert!(told(read_or_pipe(&pipe, 9, SOON)).contains("nobody writes"));
        assert!(
            read_or_pipe(Path::new("/dev/null"), 9, SOON)
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn a_file_is_read_up_to_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "123456789").unwrap();
        assert_eq!(read(&path, 9).unwrap(), b"123456789");
        assert_eq!(**read_secret(&path, 10).unwrap(), *b"123456789");
        let error = read(&path, 8).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(error.to_string(), "it is larger than 8 bytes");
        // It holds nothing, and is as long as a disk.
        fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(told(read(&path, 16 << 20)), "it is larger than 16 MiB");
        assert_eq!(
            told(read_or_pipe(&path, 64 << 10, SOON)),
            "it is larger than 64 KiB"
        );
        let error = read(&folder.path().join("none"), 9).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_what_stands_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for (written, read_back) in [
            ("\u{feff}anna:x", "anna:x"),
            ("\u{feff}", ""),
            ("anna\u{feff}", "anna\u{feff}"),
        ] {
            fs::write(&path, written).unwrap();
            assert_eq!(read(&path, 99).unwrap(), read_back.as_bytes());
            assert_eq!(**read_secret(&path, 99).unwrap(), *read_back.as_bytes());
            let piped = read_or_pipe(&path, 99, SOON).unwrap();
            assert_eq!(**piped, *read_back.as_bytes());
        }
    }

    #[test]
    fn a_pipe_is_read_up_to_its_bound() {
        for (bytes, is_good) in [(1, true), (100_000, true), (100_001, false)] {
            let (reader, mut writer) = io::pipe().unwrap();
            let writer = std::thread::spawn(move || {
                // Whoever reads may have had enough.
                let _ = writer.write_all(&vec![7; bytes]);
            });
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
            let result = read_or_pipe(Path::new(&path), 100_000, Duration::from_secs(10));
            drop(reader);
            writer.join().unwrap();
            match result {
                Ok(content) => assert!(is_good && content.len() == bytes),
                Err(error) => assert!(!is_good, "{error}"),
            }
        }
    }

    #[test]
    fn what_is_made_to_be_appended_to_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for line in ["one\n", "two\n"] {
            let (mut file, is_new) = open_to_append(&path).unwrap();
            assert_eq!(is_new, line == "one\n");
            file.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(fs::read(&path).unwrap(), b"one\ntwo\n");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn that_a_folder_cannot_be_synced_is_believed_only_where_that_was_found() {
        let failed = |errno: Errno| synced_folder(Err(errno.into())).is_err();
        let folder = tempfile::tempdir().unwrap();
        let opened = fs::File::open(folder.path()).unwrap();
        assert!(why_unsynced(&opened).is_none());
        sync_names_in(&opened).unwrap();
        assert!(failed(Errno::INVAL));
        // /proc has no fsync (fs/sync.c: EINVAL).
        let other = fs::File::open("/proc").unwrap();
        sync_names_in(&other).unwrap();
        let why = why_unsynced(&other).unwrap();
        assert_eq!(Errno::from_io_error(&why), Some(Errno::INVAL));
        for (errno, is_fault) in [
            (Errno::INVAL, false),
            (Errno::BADF, true),
            (Errno::IO, true),
            (Errno::NOSPC, true),
        ] {
            assert_eq!(failed(errno), is_fault, "{errno:?}");
        }
        // A descriptor that is none of a folder at all.
        let path = OFlags::PATH | OFlags::DIRECTORY;
        let unread = rustix::fs::open(folder.path(), path, Mode::empty()).unwrap();
        assert!(sync_names_in(&unread).is_err() && why_unsynced(&unread).is_none());
    }
}
