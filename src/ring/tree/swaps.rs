//! Files that the kernel swaps to. It lets none of them lose its name, root or not, and says no
//! more than that it is not permitted; no look at the file tells (`IS_SWAPFILE` in `may_delete`).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Statx, StatxFlags};

const LIST: &str = "/proc/swaps";
/// mkswap(8) makes no smaller one, and whole pages.
const BYTES_MIN: u64 = 10 * PAGE_BYTES;
const PAGE_BYTES: u64 = 4096;
/// What the kernel counts blocks by.
const BLOCK_BYTES: u64 = 512;

/// Whether the kernel swaps to a file that stands under this name. Its list is read for files only
/// that may be one: whole pages and no holes.
pub fn has(file: &Statx, name: &str) -> bool {
    let is_regular = FileType::from_raw_mode(file.stx_mode.into()) == FileType::RegularFile;
    let may_be = is_regular
        && file.stx_size >= BYTES_MIN
        && file.stx_size.is_multiple_of(PAGE_BYTES)
        && file.stx_blocks.saturating_mul(BLOCK_BYTES) >= file.stx_size;
    may_be && std::fs::read(LIST).is_ok_and(|list| paths(&list).any(|path| is(&path, file, name)))
}

/// Whether a path leads to this file. Others are not looked at: their disks may not answer.
fn is(path: &Path, file: &Statx, name: &str) -> bool {
    let identity = |stat: &Statx| (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino);
    path.file_name().is_some_and(|last| last == name)
        && rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::INO)
            .is_ok_and(|found| identity(&found) == identity(file))
}

/// The first column of the list, below its head. Blanks and backslashes are octal digits there.
fn paths(list: &[u8]) -> impl Iterator<Item = PathBuf> {
    let lines = list.split(|byte| *byte == b'\n').skip(1);
    let columns = lines.filter_map(|line| line.split(|byte| b" \t".contains(byte)).next());
    columns.map(|column| OsString::from_vec(unescaped(column)).into())
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let (mut plain, mut rest) = (Vec::new(), text);
    while let Some((first, behind)) = rest.split_first() {
        let escaped = (*first == b'\\').then(|| behind.first_chunk::<3>());
        let number = escaped.flatten().and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        plain.push(number.unwrap_or(*first));
        rest = if number.is_some() {
            &behind[3..]
        } else {
            behind
        };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_the_kernel_is_read() {
        let list = b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
                     /dev/dm-1 partition\t8\t0\t-2\n\
                     /srv/a\\040b\\134c\\9x    file\t\t65532\t\t0\t\t-3\n";
        let found: Vec<_> = paths(list).collect();
        assert_eq!(found[..2], ["/dev/dm-1", "/srv/a b\\c\\9x"].map(Path::new));
    }
}
