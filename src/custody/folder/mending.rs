//! What somebody has done to the ledger while it was open, and how it goes on.
//!
//! The file of the day is open, and its content is there as long as it is: what was removed,
//! renamed or replaced is written anew from it, under its name. Nothing is thrown away: what stood
//! in its place, or behind its end, is set apart. Only what was cut off an open file is lost; the
//! next line names the hash of the last one all the same, so that [`super::super::verify`] finds
//! the gap.
//!
//! The folder may be another one, made in the place of the one that was opened, on the same file
//! system: an administrator has put the ledger away. On another file system it is not taken for the
//! ledger's: a disk was mounted there, or is not mounted any more, and others count on the sync of
//! this one ([`crate::ring`] does). Then no line is written until it is back, or a restart.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{AtFlags, OFlags};
use thiserror::Error;

use super::whereabouts::{self, Whereabouts};
use super::{Day, LedgerFolder, SET_APART};
use crate::custody::entry::LINE_BYTES_MAX;

/// What was done to the ledger, and mended as far as that is possible.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Disturbance {
    #[error(
        "another folder has its place: it goes on there, and the earlier days are in the other one"
    )]
    OtherFolder,
    #[error("its file was removed: it was written anew")]
    Removed,
    #[error("its file is not in the folder under its name: it was written anew")]
    Renamed,
    #[error("something else had its name, and is {0} now: it was written anew")]
    Replaced(String),
    #[error("{0} bytes were cut off its end: what was synced of them is missing")]
    Cut(u64),
    #[error("{1} bytes were written behind its end, and are in {0} now")]
    Appended(String, u64),
}

impl LedgerFolder {
    /// Looks whether this is the folder at its path, and goes over to the one that is.
    ///
    /// # Errors
    /// There is none, or one that the ledger must not go to; or others may write to it now.
    pub fn keep_place(&mut self) -> io::Result<Option<Disturbance>> {
        let path = self.site.path();
        let refuse = |why: &str| {
            let why = format!("{} {why}", path.display());
            Err(io::Error::new(io::ErrorKind::NotFound, why))
        };
        match whereabouts::at(path)? {
            // What others may write to proves nothing.
            Some(there) if there.identity == self.identity => {
                let ours = self.site.judge(there.owner, there.mode);
                ours.map_err(|why| io::Error::new(io::ErrorKind::PermissionDenied, why))?;
                Ok(None)
            }
            Some(there) if there.identity.is_beside(self.identity) => {
                let taken = self.site.take();
                let folder = taken.map_err(|why| io::Error::new(io::ErrorKind::NotFound, why))?;
                let identity = whereabouts::of(&folder)?.identity;
                if !identity.is_beside(self.identity) {
                    return refuse("was replaced once more");
                }
                (self.folder, self.identity) = (folder, identity);
                Ok(Some(Disturbance::OtherFolder))
            }
            Some(_) => refuse(
                "is on another file system now: something was mounted there, or taken away; undo that, or restart the \
                 server",
            ),
            None => refuse(
                "is not there any more: give the folder its name back, or make a new one for the user who serves",
            ),
        }
    }

    /// Looks whether the file of the day has its name and its length, and mends it.
    ///
    /// # Errors
    /// Of the disk; the day is to be looked at again.
    pub fn keep_day(&self, day: &mut Day) -> io::Result<Option<Disturbance>> {
        let found = whereabouts::within(&self.folder, &day.name)?;
        let end = day.end();
        match found {
            Some(Whereabouts {
                identity, bytes, ..
            }) if identity == day.identity => {
                if bytes < end {
                    self.go_on_after_cut(day, bytes)?;
                    return Ok(Some(Disturbance::Cut(end - bytes)));
                }
                if bytes == end {
                    return Ok(None);
                }
                let apart = self.set_apart(&day.name, &day.file, end, SET_APART)?;
                Ok(Some(Disturbance::Appended(apart, bytes - end)))
            }
            found => {
                let disturbance = match found {
                    Some(_) => Disturbance::Replaced(self.put_aside(&day.name)?),
                    None if whereabouts::of(&day.file)?.is_named => Disturbance::Renamed,
                    None => Disturbance::Removed,
                };
                self.write_anew(day)?;
                Ok(Some(disturbance))
            }
        }
    }

    /// Gives what stands under a name another one.
    pub(super) fn put_aside(&self, name: &str) -> io::Result<String> {
        let apart = self.free_name(name, SET_APART)?;
        rustix::fs::renameat(&self.folder, name, &self.folder, &apart)?;
        Ok(apart)
    }

    /// Makes the file of the day under its name from what is still open, durably.
    fn write_anew(&self, day: &mut Day) -> io::Result<()> {
        let access = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let file = self.open_file(&day.name, access)?;
        let written = self.fill(day, &file);
        let written = written.and_then(|synced| Ok((synced, whereabouts::of(&file)?.identity)));
        match written {
            Ok((synced, identity)) => {
                (day.file, day.identity) = (file, identity);
                (day.synced, day.is_named) = (synced, true);
                day.only_grows = false;
                day.unsynced.clear();
                Ok(())
            }
            Err(error) => {
                // The next look makes it again.
                rustix::fs::unlinkat(&self.folder, &day.name, AtFlags::empty())?;
                Err(error)
            }
        }
    }

    /// Its content, into another file; how long that is.
    fn fill(&self, day: &Day, file: &File) -> io::Result<u64> {
        let mut old = &day.file;
        old.seek(SeekFrom::Start(0))?;
        let copied = io::copy(&mut old.take(day.synced), &mut &*file)?;
        let whole = match copied == day.synced {
            true => copied,
            false => end_of_lines(file, copied)?,
        };
        if whole < copied {
            self.set_apart(&day.name, file, whole, SET_APART)?;
        }
        file.write_all_at(&day.unsynced, whole)?;
        file.sync_all()?;
        self.sync_names()?;
        Ok(whole + day.unsynced.len() as u64)
    }

    /// The file of the day is so long only. What was not synced is still known.
    fn go_on_after_cut(&self, day: &mut Day, bytes: u64) -> io::Result<()> {
        if bytes < day.synced {
            let whole = end_of_lines(&day.file, bytes)?;
            if whole < bytes {
                self.set_apart(&day.name, &day.file, whole, SET_APART)?;
            }
            day.synced = whole;
        }
        day.file.set_len(day.synced)?;
        day.file.write_all_at(&day.unsynced, day.synced)
    }
}

impl Day {
    /// Of one that only grows nothing can be cut off. What is half written of its last lines is
    /// ended; whether a sync that failed has lost something, the device says.
    pub(super) fn end_lines(&mut self) -> io::Result<()> {
        forget_cached(&self.file);
        let mut tail = Vec::new();
        self.file.seek(SeekFrom::Start(self.synced))?;
        let expected = [&self.unsynced[..], &self.tried[..]].concat();
        // One more, to see that there is not more.
        let mut limited = (&self.file).take(expected.len() as u64 + 1);
        limited.read_to_end(&mut tail)?;
        let Some(rest) = expected.strip_prefix(&tail[..]) else {
            // Something else stands there. Where it cannot be cut off, this says so.
            self.file.set_len(self.synced)?;
            return self.file.write_all(&self.unsynced);
        };
        // Of what was tried nothing need be there.
        let counted = self.unsynced.len().saturating_sub(tail.len());
        let is_between = tail.len() > self.unsynced.len() && !rest.is_empty();
        let missing = match is_between {
            true => rest,
            false => &rest[..counted],
        };
        (&self.file).write_all(missing)?;
        self.file.sync_all()
    }
}

/// The kernel calls bytes clean that it could not write: without them in its memory, what is read
/// is what is there.
pub(super) fn forget_cached(file: &File) {
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
}

/// Where the last whole line ends in so many bytes of a file.
fn end_of_lines(file: &File, bytes: u64) -> io::Result<u64> {
    let from = bytes.saturating_sub(LINE_BYTES_MAX as u64);
    let mut last = vec![0; usize::try_from(bytes - from).expect("bounded by a line")];
    file.read_exact_at(&mut last, from)?;
    let end = last.iter().rposition(|byte| *byte == b'\n');
    Ok(end.map_or(from, |at| from + at as u64 + 1))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::*;
    use crate::custody::chain::Chain;
    use crate::custody::entry::tests::{entry, scribe};
    use crate::custody::site::Site;
    use crate::custody::verify::{Wishes, verify};

    const NAME: &str = "2026-11-18.jsonl";

    /// A ledger of three lines, of which the last one is not synced.
    struct Written {
        place: tempfile::TempDir,
        folder: LedgerFolder,
        chain: Chain,
        day: Day,
    }

    impl Written {
        fn new() -> Self {
            let place = tempfile::tempdir().unwrap();
            fs::create_dir(place.path().join("custody")).unwrap();
            let site = Site::new(&place.path().join("custody"), &[]);
            let folder = LedgerFolder::open(site, NAME).unwrap();
            let (day, _) = folder.begin(NAME).unwrap();
            let chain = Chain::new(scribe());
            let mut written = Self {
                place,
                folder,
                chain,
                day,
            };
            written.append(1);
            written.append(2);
            written.day.sync(&written.folder).unwrap();
            written.day.note_synced();
            written.append(3);
            written
        }

        fn append(&mut self, number: u128) {
            let mut lines = Vec::new();
            self.chain.append(&entry(number), &mut lines);
            self.day.append(&lines).unwrap();
            self.day.count(&lines);
            self.chain.keep();
        }

        fn path(&self) -> PathBuf {
            self.place.path().join("custody")
        }

        fn file(&self) -> PathBuf {
            self.path().join(NAME)
        }

        /// Looks, goes on with one more line, and says how many there are and what is wrong.
        fn go_on(&mut self) -> (Option<Disturbance>, u64, Vec<String>) {
            self.folder.keep_place().unwrap();
            let disturbance = self.folder.keep_day(&mut self.day).unwrap();
            assert_eq!(self.folder.keep_day(&mut self.day).unwrap(), None);
            self.append(4);
            let wishes = Wishes {
                head: Some(self.chain.head()),
                ..Wishes::default()
            };
            let told = verify(&self.path(), &wishes).unwrap();
            let wrong = told.discrepancies.iter().map(ToString::to_string);
            (disturbance, told.lines, wrong.collect())
        }
    }

    #[test]
    fn a_file_that_lost_its_name_is_written_anew_from_what_is_open() {
        type Act = fn(&PathBuf);
        let acts: [(Act, Disturbance); 5] = [
            (|path| fs::remove_file(path).unwrap(), Disturbance::Removed),
            (
                |path| fs::rename(path, path.with_extension("old")).unwrap(),
                Disturbance::Renamed,
            ),
            (
                |path| {
                    fs::rename(path, path.with_extension("old")).unwrap();
                    fs::write(path, "").unwrap();
                },
                Disturbance::Replaced(format!("{NAME}.1.other")),
            ),
            (
                |path| {
                    fs::rename(path, path.with_extension("old")).unwrap();
                    std::os::unix::fs::symlink(path.with_extension("old"), path).unwrap();
                },
                Disturbance::Replaced(format!("{NAME}.1.other")),
            ),
            (
                |path| {
                    fs::rename(path, path.with_extension("old")).unwrap();
                    fs::create_dir(path).unwrap();
                    fs::write(path.join("x"), "").unwrap();
                },
                Disturbance::Replaced(format!("{NAME}.1.other")),
            ),
        ];
        for (act, expected) in acts {
            let mut written = Written::new();
            act(&written.file());
            assert_eq!(written.go_on(), (Some(expected), 4, Vec::new()));
            // What was done to it before it had to be opened anew, too.
            act(&written.file());
            written.folder.reopen(&mut written.day).unwrap();
            assert_eq!(written.go_on().1, 4, "session 4 has its line");
        }
    }

    #[test]
    fn what_was_cut_off_is_missed_and_what_was_added_is_set_apart() {
        let cut = |keep: fn(&[u8]) -> usize| {
            let mut written = Written::new();
            let bytes = fs::read(written.file()).unwrap();
            let file = fs::OpenOptions::new().write(true).open(written.file());
            file.unwrap().set_len(keep(&bytes) as u64).unwrap();
            let (disturbance, lines, wrong) = written.go_on();
            let cut = (bytes.len() - keep(&bytes)) as u64;
            assert_eq!(disturbance, Some(Disturbance::Cut(cut)));
            (lines, wrong)
        };
        // All of it: the third line is still known, and names the second.
        let (lines, wrong) = cut(|_| 0);
        assert_eq!((lines, wrong.len()), (2, 1), "{wrong:?}");
        // In the middle of the second line.
        let (lines, wrong) = cut(|bytes| bytes.len() / 2);
        assert_eq!((lines, wrong.len()), (3, 1), "{wrong:?}");
        assert!(wrong[0].contains("does not follow"), "{wrong:?}");
        // In what was not synced.
        assert_eq!(cut(|bytes| bytes.len() - 5), (4, Vec::new()));

        let mut written = Written::new();
        let whole = fs::read(written.file()).unwrap();
        fs::write(written.file(), [&whole[..], b"more\n"].concat()).unwrap();
        let apart = format!("{NAME}.1.other");
        let expected = Disturbance::Appended(apart.clone(), 5);
        assert_eq!(written.go_on(), (Some(expected), 4, Vec::new()));
        assert_eq!(fs::read(written.path().join(apart)).unwrap(), b"more\n");
    }

    #[test]
    fn the_ledger_goes_on_in_a_folder_that_was_made_for_it() {
        let mut written = Written::new();
        let (path, away) = (written.path(), written.place.path().join("away"));
        fs::rename(&path, &away).unwrap();
        let gone = written.folder.keep_place().unwrap_err();
        assert!(gone.to_string().contains("is not there any more"), "{gone}");
        // Nobody has made it for a ledger.
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(written.folder.keep_place().is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let moved = written.folder.keep_place().unwrap();
        assert_eq!(moved, Some(Disturbance::OtherFolder));
        assert_eq!(written.go_on(), (Some(Disturbance::Renamed), 4, Vec::new()));
        // And in the first one, when that is back.
        fs::remove_dir_all(&path).unwrap();
        fs::rename(&away, &path).unwrap();
        let (disturbance, lines, wrong) = written.go_on();
        let aside = Disturbance::Replaced(format!("{NAME}.1.other"));
        assert_eq!((disturbance, lines, wrong), (Some(aside), 4, Vec::new()));
    }

    #[test]
    fn a_folder_that_was_opened_to_others_gets_no_line() {
        let mut written = Written::new();
        fs::set_permissions(written.path(), fs::Permissions::from_mode(0o770)).unwrap();
        let open = written.folder.keep_place().unwrap_err();
        assert!(open.to_string().contains("chmod go-w"), "{open}");
        fs::set_permissions(written.path(), fs::Permissions::from_mode(0o750)).unwrap();
        assert_eq!(written.folder.keep_place().unwrap(), None);
    }

    #[test]
    fn another_file_system_is_not_taken_for_the_ledgers() {
        let mut written = Written::new();
        let path = written.path();
        fs::rename(&path, written.place.path().join("away")).unwrap();
        std::os::unix::fs::symlink("/dev/shm", &path).unwrap();
        let other = written.folder.keep_place().unwrap_err();
        assert!(other.to_string().contains("another file system"), "{other}");
    }
}
