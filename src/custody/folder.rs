//! The folder of the ledger: its days, what a power cut has left at the end of the last one, and
//! whether they are still at their names ([`mending`]).
//!
//! All is done by the descriptor of the folder, so that nothing goes to another one that somebody
//! has put in its place.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};

use super::chain::{Chain, each_line, hash_of};
use super::site::{self, BadLedger, PROBE_NAME, Site, is_sealed};
use crate::http::date;
use crate::named_file;
use mending::Disturbance;
use whereabouts::FileIdentity;

pub mod mending;
mod whereabouts;

/// How the name of a day ends.
const ENDING: &str = ".jsonl";
/// How the name of an end ends that a power cut has torn off.
const TORN: &str = ".torn";
/// The same of what somebody has put in the place of the ledger's own.
const SET_APART: &str = ".other";

/// The folder, for the one who writes to it.
#[derive(Debug)]
pub struct LedgerFolder {
    site: Site,
    folder: File,
    identity: FileIdentity,
}

/// The file of a day, and how far it is written.
#[derive(Debug)]
pub struct Day {
    name: String,
    file: File,
    identity: FileIdentity,
    /// What survives a power cut.
    synced: u64,
    /// What was written behind that, and counts. After a write or a sync that failed it is written
    /// anew: the kernel may have dropped what it could not write, and would call the next sync of
    /// it a success.
    unsynced: Vec<u8>,
    /// Its name survives a power cut.
    is_named: bool,
    /// It is append-only: nothing is written but at its end, wherever that is, and nothing cut off.
    only_grows: bool,
    /// What was to be appended last and does not count yet. Where nothing can be cut off, what is
    /// half written of it is ended.
    tried: Vec<u8>,
}

/// What was found at the end of the last day.
#[derive(Debug, Default)]
pub struct LedgerReadBack {
    /// Where the torn end was put, and how long it was.
    pub torn: Option<(PathBuf, u64)>,
    /// The file and the line that does not follow the one before.
    pub broken: Option<(PathBuf, usize)>,
}

impl LedgerFolder {
    /// Opens the folder for this server alone, and looks whether the file that lines of this day go
    /// to can be written.
    ///
    /// # Errors
    /// [`BadLedger`]
    pub fn open(site: Site, today: &str) -> Result<Self, BadLedger> {
        let folder = site.take()?;
        let failed = |error| BadLedger::Io(error, site.path().to_owned());
        let identity = whereabouts::of(&folder).map_err(failed)?.identity;
        let opened = Self {
            site,
            folder,
            identity,
        };
        opened.try_day(today)?;
        Ok(opened)
    }

    /// Opens what will be written to, if it is there: what forbids that stays, and every upload
    /// would meet it. Of what a disk says, whoever writes tells, and tries again.
    fn try_day(&self, today: &str) -> Result<(), BadLedger> {
        let days = self.days_in_use(today);
        let Some(last) = days.unwrap_or_default().pop().filter(|day| **day >= *today) else {
            return Ok(());
        };
        match site::open_to_append(&self.folder, &last) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(BadLedger::Sealed(error, self.site.path().join(last)))
            }
            _ => Ok(()),
        }
    }

    /// The days that say something, in their order. What is no file is none: where lines should go
    /// there, it is set apart. An empty one of a day to come is no proof that the clock was ahead:
    /// anybody makes such a file.
    fn days_in_use(&self, today: &str) -> io::Result<Vec<String>> {
        let mut days = Vec::new();
        for name in names_in(&self.folder, is_day)? {
            let found = whereabouts::within(&self.folder, &name)?;
            let is_one = |found: whereabouts::Whereabouts| {
                found.is_regular && (found.bytes > 0 || *name <= *today)
            };
            if found.is_some_and(is_one) {
                days.push(name);
            }
        }
        Ok(days)
    }

    /// Whether anything has this name.
    ///
    /// # Errors
    /// Of looking.
    pub fn has(&self, name: &str) -> io::Result<bool> {
        Ok(whereabouts::within(&self.folder, name)?.is_some())
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.site.path()
    }

    /// The folder once more, without the lock of this one.
    ///
    /// # Errors
    /// There are no more descriptors.
    pub fn open_again(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.folder, ".", flags, Mode::empty())?)
    }

    fn open_file(&self, name: &str, access: OFlags) -> io::Result<File> {
        site::open_file(&self.folder, name, access)
    }

    fn read(&self, name: &str) -> io::Result<BufReader<File>> {
        let file = self.open_file(name, OFlags::RDONLY)?;
        Ok(BufReader::with_capacity(1 << 20, file))
    }

    /// Reads the last days back into a chain, and goes on with the last one; `None` where there is
    /// none, or where it is over and sealed (`chattr +i`).
    ///
    /// # Errors
    /// Of reading, or of putting a torn end aside.
    pub fn read_back(
        &self,
        chain: &mut Chain,
        today: &str,
    ) -> io::Result<(Option<Day>, LedgerReadBack)> {
        let mut told = LedgerReadBack::default();
        let names = self.days_in_use(today)?;
        let Some((last, before)) = names.split_last() else {
            return Ok((None, told));
        };
        // Of who has a line, too: the last day may just have begun.
        for name in before.last().into_iter().chain([last]) {
            let path = self.site.path().join(name);
            let day = self.read(name)?;
            mending::forget_cached(day.get_ref());
            let found = chain.read_back(day)?;
            told.broken = told
                .broken
                .or(found.broken.map(|line| (path.clone(), line)));
            if name != last {
                continue;
            }
            let (file, only_grows) = match site::open_to_append(&self.folder, name) {
                Err(error) if is_sealed(&error) && **name < *today => {
                    let bytes = whereabouts::within(&self.folder, name)?.map(|found| found.bytes);
                    match bytes == Some(found.whole) {
                        true => return Ok((None, told)),
                        false => return Err(error),
                    }
                }
                opened => opened?,
            };
            let torn = file.metadata()?.len().saturating_sub(found.whole);
            if torn > 0 {
                let apart = self.set_apart(name, &file, found.whole, TORN)?;
                told.torn = Some((self.site.path().join(apart), torn));
            }
            file.sync_all()?;
            self.sync_names()?;
            let day = Day {
                name: name.clone(),
                identity: whereabouts::of(&file)?.identity,
                file,
                synced: found.whole,
                unsynced: Vec::new(),
                is_named: true,
                only_grows,
                tried: Vec::new(),
            };
            return Ok((Some(day), told));
        }
        Ok((None, told))
    }

    /// Whether a line of this hash is in any of the days.
    ///
    /// # Errors
    /// Of reading.
    pub fn holds(&self, head: &[u8; 32]) -> io::Result<bool> {
        for name in self.days_in_use("")?.iter().rev() {
            let mut is_found = false;
            each_line(self.read(name)?, |_, line| {
                is_found |= hash_of(line) == *head;
                Ok(())
            })?;
            if is_found {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Puts what stands behind so many bytes into a file of its own, of which the name is given:
    /// nothing is thrown away.
    fn set_apart(
        &self,
        name: &str,
        mut file: &File,
        whole: u64,
        ending: &str,
    ) -> io::Result<String> {
        let apart = self.free_name(name, ending)?;
        let access = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let mut copy = self.open_file(&apart, access)?;
        file.seek(SeekFrom::Start(whole))?;
        let cut = io::copy(&mut file.by_ref(), &mut copy)
            .and_then(|_| copy.sync_all())
            .and_then(|()| self.sync_names())
            .and_then(|()| file.set_len(whole));
        match cut {
            Ok(()) => Ok(apart),
            // It is there still, and is set apart by whoever comes next: not once for each try.
            Err(error) => {
                rustix::fs::unlinkat(&self.folder, &apart, AtFlags::empty())?;
                Err(error)
            }
        }
    }

    fn sync_names(&self) -> io::Result<()> {
        named_file::sync_names_in(&self.folder)
    }

    /// A name beside another one that nothing has.
    fn free_name(&self, name: &str, ending: &str) -> io::Result<String> {
        for number in 1..u32::MAX {
            let free = format!("{name}.{number}{ending}");
            if whereabouts::within(&self.folder, &free)?.is_none() {
                return Ok(free);
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Begins the file of a day. What has its name is none of ours, and is set apart.
    ///
    /// # Errors
    /// Of making it.
    pub fn begin(&self, name: &str) -> io::Result<(Day, Option<Disturbance>)> {
        let disturbance = match whereabouts::within(&self.folder, name)? {
            Some(_) => Some(Disturbance::Replaced(self.put_aside(name)?)),
            None => None,
        };
        let file = self.open_file(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
        let day = Day {
            name: name.to_owned(),
            identity: whereabouts::of(&file)?.identity,
            file,
            synced: 0,
            unsynced: Vec::new(),
            is_named: false,
            only_grows: false,
            tried: Vec::new(),
        };
        Ok((day, disturbance))
    }

    /// Opens a day anew after something failed there, and puts right what may be half written. One
    /// that only grows may have lines then that nobody heard of: it is to be read back.
    ///
    /// # Errors
    /// Of that; it is to be opened anew once more.
    pub fn reopen(&self, day: &mut Day) -> io::Result<Option<Disturbance>> {
        match whereabouts::within(&self.folder, &day.name)? {
            Some(found) if found.identity == day.identity && found.bytes >= day.synced => {}
            // Of what is not open any more only the end would be there.
            _ => return self.keep_day(day),
        }
        let (file, only_grows) = site::open_to_append(&self.folder, &day.name)?;
        let found = whereabouts::of(&file)?;
        if found.identity != day.identity {
            return self.keep_day(day);
        }
        (day.file, day.only_grows) = (file, only_grows);
        match only_grows {
            true => day.end_lines()?,
            false => {
                day.file.set_len(day.synced)?;
                day.file.write_all_at(&day.unsynced, day.synced)?;
            }
        }
        Ok(None)
    }

    /// Whether something can be written and synced there; for whoever waits for that.
    ///
    /// # Errors
    /// Why not.
    pub fn probe(&self) -> io::Result<()> {
        let access = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let file = self.open_file(PROBE_NAME, access)?;
        let probed = file
            .write_all_at(&[0; 4096], 0)
            .and_then(|()| file.sync_all());
        rustix::fs::unlinkat(&self.folder, PROBE_NAME, AtFlags::empty())?;
        probed
    }
}

impl Day {
    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is not synced, in bytes.
    pub fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// How long its file is.
    fn end(&self) -> u64 {
        self.synced + self.unsynced.len() as u64
    }

    /// Appends lines.
    ///
    /// # Errors
    /// Of the disk; then the day is to be opened anew ([`LedgerFolder::reopen`]).
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        lines.clone_into(&mut self.tried);
        self.file.write_all_at(lines, self.end())?;
        // They go to its end, wherever that is (pwrite(2), "BUGS").
        let end = self.end() + lines.len() as u64;
        if self.only_grows && whereabouts::of(&self.file)?.bytes != end {
            let why = format!(
                "something else was appended to {} at the same time",
                self.name
            );
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        Ok(())
    }

    /// Whether it is append-only.
    pub fn only_grows(&self) -> bool {
        self.only_grows
    }

    /// What was appended counts, and is written anew after a failure.
    pub fn count(&mut self, lines: &[u8]) {
        self.tried.clear();
        self.unsynced.extend_from_slice(lines);
    }

    /// Makes all that was appended survive a power cut, these lines included.
    ///
    /// # Errors
    /// As of [`Day::append`].
    pub fn sync(&mut self, folder: &LedgerFolder) -> io::Result<()> {
        self.file.sync_data()?;
        if !self.is_named {
            folder.sync_names()?;
            self.is_named = true;
        }
        Ok(())
    }

    /// All that counts is synced.
    pub fn note_synced(&mut self) {
        self.synced += self.unsynced.len() as u64;
        self.unsynced.clear();
    }
}

/// The name of the day of a moment, in milliseconds since 1970.
pub fn day_of(ms: u64) -> String {
    let day = date::format_plainly(ms / 1_000);
    let day = day.split('T').next().unwrap_or_default();
    format!("{day}{ENDING}")
}

/// The days of a folder, in their order.
///
/// # Errors
/// Of listing it.
pub fn days(folder: &Path) -> io::Result<Vec<String>> {
    names(folder, is_day)
}

/// Torn ends that were set apart.
///
/// # Errors
/// Of listing the folder.
pub fn torn_ends(folder: &Path) -> io::Result<Vec<String>> {
    names(folder, |name| name.ends_with(TORN))
}

/// What somebody has put in the place of a file of the ledger, or behind its end, and was set
/// apart.
///
/// # Errors
/// Of listing the folder.
pub fn others(folder: &Path) -> io::Result<Vec<String>> {
    names(folder, |name| name.ends_with(SET_APART))
}

fn names(folder: &Path, is_meant: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty())?;
    names_in(&File::from(folder), is_meant)
}

fn names_in(folder: &File, is_meant: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for found in rustix::fs::Dir::read_from(folder)? {
        let found = found?;
        let name = found.file_name().to_str().ok();
        names.extend(name.filter(|name| is_meant(name)).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

fn is_day(name: &str) -> bool {
    let Some(day) = name.strip_suffix(ENDING) else {
        return false;
    };
    let is_right = |(at, byte): (usize, u8)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    day.len() == 10 && day.bytes().enumerate().all(is_right)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use rustix::fs::IFlags;

    use super::super::entry::tests::{entry, scribe};
    use super::*;
    use crate::skipping::skip;

    const TODAY: &str = "2026-11-18.jsonl";

    fn append(chain: &mut Chain, day: &mut Day, numbers: std::ops::RangeInclusive<u128>) {
        let mut lines = Vec::new();
        numbers.for_each(|number| chain.append(&entry(number), &mut lines));
        day.append(&lines).unwrap();
        day.count(&lines);
        chain.keep();
    }

    #[test]
    fn a_torn_end_is_set_apart_and_the_chain_goes_on() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("custody");
        fs::create_dir(&path).unwrap();
        let folder = LedgerFolder::open(Site::new(&path, &[]), TODAY).unwrap();
        let mut chain = Chain::new(scribe());
        let (none, _) = folder.read_back(&mut chain, TODAY).unwrap();
        assert!(none.is_none());
        let name = day_of(1_795_000_000_000);
        assert_eq!(name, "2026-11-18.jsonl");
        let (mut day, _) = folder.begin(&name).unwrap();
        append(&mut chain, &mut day, 1..=3);
        day.sync(&folder).unwrap();
        let whole = fs::read(path.join(&name)).unwrap();
        fs::write(path.join(&name), [&whole[..], b"{\"v\":1,\"ti"].concat()).unwrap();
        let mut again = Chain::new(scribe());
        let (day, told) = folder.read_back(&mut again, TODAY).unwrap();
        let (apart, bytes) = told.torn.unwrap();
        assert_eq!(bytes, 10);
        assert_eq!(fs::read(apart).unwrap(), b"{\"v\":1,\"ti");
        assert_eq!(again.head(), chain.head());
        append(&mut again, &mut day.unwrap(), 3..=4);
        append(
            &mut chain,
            &mut folder.begin("2026-11-19.jsonl").unwrap().0,
            4..=4,
        );
        assert_eq!(again.head(), chain.head());
        assert_eq!(days(&path).unwrap(), [&*name, "2026-11-19.jsonl"]);
        assert_eq!(torn_ends(&path).unwrap(), [format!("{name}.1.torn")]);
    }

    #[test]
    fn what_says_nothing_is_no_day() {
        let place = tempfile::tempdir().unwrap();
        let open = || LedgerFolder::open(Site::new(place.path(), &[]), TODAY).unwrap();
        let mut chain = Chain::new(scribe());
        let (mut day, _) = open().begin("2026-11-17.jsonl").unwrap();
        append(&mut chain, &mut day, 1..=1);
        // Nobody has written a line there, and no clock was ahead.
        fs::write(place.path().join("2026-11-19.jsonl"), "").unwrap();
        fs::create_dir(place.path().join("2026-11-20.jsonl")).unwrap();
        fs::create_dir(place.path().join(TODAY)).unwrap();
        let folder = open();
        let mut again = Chain::new(scribe());
        let (found, _) = folder.read_back(&mut again, TODAY).unwrap();
        assert_eq!(found.unwrap().name(), "2026-11-17.jsonl");
        assert_eq!(again.head(), chain.head());
        assert!(folder.holds(&chain.head()).unwrap());
        // A folder is set apart as a file is.
        let (_, disturbance) = folder.begin(TODAY).unwrap();
        let apart = format!("{TODAY}.1.other");
        assert_eq!(disturbance, Some(Disturbance::Replaced(apart.clone())));
        assert!(place.path().join(apart).is_dir());
        // An empty one of today is where it goes on.
        let (found, _) = folder.read_back(&mut again, TODAY).unwrap();
        assert_eq!(found.unwrap().name(), TODAY);
        // One with lines shows that the clock was ahead.
        drop(folder);
        fs::remove_file(place.path().join(TODAY)).unwrap();
        fs::rename(
            place.path().join("2026-11-17.jsonl"),
            place.path().join("2026-11-19.jsonl"),
        )
        .unwrap();
        let (found, _) = open().read_back(&mut again, TODAY).unwrap();
        assert_eq!(found.unwrap().name(), "2026-11-19.jsonl");
    }

    /// A file with attributes as `chattr` sets them, for as long as this is there; and those that
    /// it had before. ext4 would make another kind of file of one that loses them.
    struct Sealed(File, IFlags);

    impl Sealed {
        fn new(path: &Path, flags: IFlags) -> Option<Self> {
            let file = File::open(path).unwrap();
            let sealed = rustix::fs::ioctl_getflags(&file).and_then(|before| {
                rustix::fs::ioctl_setflags(&file, before | flags)?;
                Ok(before)
            });
            match sealed {
                Ok(before) => Some(Self(file, before)),
                Err(error) => {
                    skip(&format!("no attributes can be set here ({error})"));
                    None
                }
            }
        }
    }

    impl Drop for Sealed {
        fn drop(&mut self) {
            rustix::fs::ioctl_setflags(&self.0, self.1).unwrap();
        }
    }

    #[test]
    fn an_append_only_day_is_appended_to_and_a_sealed_one_is_told_of() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(TODAY);
        let open = |today: &str| LedgerFolder::open(Site::new(place.path(), &[]), today);
        let mut chain = Chain::new(scribe());
        let (mut day, _) = open(TODAY).unwrap().begin(TODAY).unwrap();
        append(&mut chain, &mut day, 1..=1);
        let Some(sealed) = Sealed::new(&path, IFlags::APPEND) else {
            return;
        };
        let folder = open(TODAY).unwrap();
        let mut again = Chain::new(scribe());
        let (found, _) = folder.read_back(&mut again, TODAY).unwrap();
        let mut found = found.unwrap();
        append(&mut again, &mut found, 2..=2);
        found.sync(&folder).unwrap();
        found.note_synced();
        assert_eq!(folder.reopen(&mut found).unwrap(), None);
        append(&mut again, &mut found, 3..=3);
        let whole = fs::read(&path).unwrap();
        let mut last = Chain::new(scribe());
        let read = last.read_back(&whole[..]).unwrap();
        assert_eq!((read.whole, read.broken), (whole.len() as u64, None));
        assert_eq!(last.head(), again.head());
        // What others append at the same time is seen, and nobody hears that the line is written.
        let other = fs::OpenOptions::new().append(true).open(&path).unwrap();
        (&other).write_all(b"x").unwrap();
        assert!(found.append(b"{}\n").is_err());
        // It cannot be cut off, and is not set apart once for each try.
        for _ in 0..2 {
            let told = folder.keep_day(&mut found).unwrap_err();
            assert!(is_sealed(&told), "{told}");
        }
        assert_eq!(others(place.path()).unwrap(), [""; 0]);
        drop((sealed, folder));
        fs::write(&path, &whole).unwrap();
        // Where nothing at all can be written, a start says so; not of a day that is over.
        let sealed = Sealed::new(&path, IFlags::IMMUTABLE).unwrap();
        let refused = open(TODAY).unwrap_err();
        let said = refused.to_string();
        assert!(matches!(refused, BadLedger::Sealed(..)), "{said}");
        assert!(
            said.contains("chattr -i -a") && said.contains(TODAY),
            "{said}"
        );
        let folder = open("2026-11-19.jsonl").unwrap();
        let mut later = Chain::new(scribe());
        let (none, _) = folder.read_back(&mut later, "2026-11-19.jsonl").unwrap();
        assert!(none.is_none());
        assert_eq!(later.head(), last.head());
        folder.begin("2026-11-19.jsonl").unwrap();
        drop(sealed);
    }

    /// Goal: a day on which nothing can be cut off goes on after a full disk. Method: lines are on
    /// their way, none, some or all of the last ones are there, and it is opened anew.
    #[test]
    fn an_append_only_day_goes_on_after_a_failure() {
        for written in [0, 30, usize::MAX] {
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join(TODAY);
            let folder = LedgerFolder::open(Site::new(place.path(), &[]), TODAY).unwrap();
            let mut chain = Chain::new(scribe());
            let (mut day, _) = folder.begin(TODAY).unwrap();
            append(&mut chain, &mut day, 1..=1);
            day.sync(&folder).unwrap();
            day.note_synced();
            append(&mut chain, &mut day, 2..=2);
            let Some(_sealed) = Sealed::new(&path, IFlags::APPEND) else {
                return;
            };
            let (mut lines, before) = (Vec::new(), fs::read(&path).unwrap());
            chain.append(&entry(3), &mut lines);
            let taken = written.min(lines.len());
            let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(&lines[..taken]).unwrap();
            lines.clone_into(&mut day.tried);
            chain.drop_appended();
            assert_eq!(folder.reopen(&mut day).unwrap(), None);
            assert!(day.only_grows());
            let expected = match taken {
                0 => before,
                _ => [before, lines].concat(),
            };
            assert!(fs::read(&path).unwrap() == expected, "{written}");
            let mut again = Chain::new(scribe());
            let (found, told) = folder.read_back(&mut again, TODAY).unwrap();
            assert!(told.torn.is_none() && told.broken.is_none());
            let mut found = found.unwrap();
            // Who has a line by now gets no other one.
            append(&mut again, &mut found, 3..=4);
            let whole = fs::read(&path).unwrap();
            let mut last = Chain::new(scribe());
            let read = last.read_back(&whole[..]).unwrap();
            assert_eq!((read.whole, read.broken), (whole.len() as u64, None));
            assert_eq!(whole.iter().filter(|byte| **byte == b'\n').count(), 4);
        }
    }

    #[test]
    fn after_a_failure_what_was_not_synced_is_written_anew() {
        let place = tempfile::tempdir().unwrap();
        let folder = LedgerFolder::open(Site::new(place.path(), &[]), TODAY).unwrap();
        let mut chain = Chain::new(scribe());
        let (mut day, _) = folder.begin("2026-11-18.jsonl").unwrap();
        append(&mut chain, &mut day, 1..=1);
        day.sync(&folder).unwrap();
        day.note_synced();
        append(&mut chain, &mut day, 2..=2);
        // These do not count.
        day.append(b"what was not written whole").unwrap();
        assert_eq!(folder.reopen(&mut day).unwrap(), None);
        append(&mut chain, &mut day, 3..=3);
        let bytes = fs::read(place.path().join("2026-11-18.jsonl")).unwrap();
        let mut again = Chain::new(scribe());
        let found = again.read_back(&bytes[..]).unwrap();
        assert_eq!((found.whole, found.broken), (bytes.len() as u64, None));
        assert_eq!(again.head(), chain.head());
    }
}
