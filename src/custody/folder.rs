//! The folder of the ledger: whose it is, its days, and what a power cut has left at the end of the
//! last one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::chain::Chain;
use super::site::{BadLedger, PROBE_NAME, Site};
use crate::http::download::date;
use crate::named_file;

/// How the name of a day ends.
const ENDING: &str = ".jsonl";
/// The folder, for the one who writes to it.
#[derive(Debug)]
pub struct LedgerFolder {
    site: Site,
    folder: File,
}

/// The file of a day, and how far it is written.
#[derive(Debug)]
pub struct Day {
    name: String,
    file: File,
    /// What survives a power cut.
    synced: u64,
    /// What was written behind that.
    unsynced: Vec<u8>,
    /// Its name survives a power cut.
    is_named: bool,
}

/// What is to be put right after a write or a sync that failed: the bytes from here on are written
/// anew. The kernel may have dropped what it could not write, and would call the next sync of it a
/// success.
#[derive(Debug)]
pub struct Repair {
    name: String,
    synced: u64,
    unsynced: Vec<u8>,
    is_named: bool,
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
    /// Opens the folder for this server alone.
    ///
    /// # Errors
    /// [`BadLedger`]
    pub fn open(site: Site) -> Result<Self, BadLedger> {
        let folder = site.take()?;
        Ok(Self { site, folder })
    }

    /// Reads the last days back into a chain, and goes on with the last one; `None` where there is
    /// none.
    ///
    /// # Errors
    /// Of reading, or of putting a torn end aside.
    pub fn read_back(&self, chain: &mut Chain) -> io::Result<(Option<Day>, LedgerReadBack)> {
        let mut told = LedgerReadBack::default();
        let names = days(self.site.path())?;
        let Some((last, before)) = names.split_last() else {
            return Ok((None, told));
        };
        // Of who has a line, too: the last day may just have begun.
        for name in before.last().into_iter().chain([last]) {
            let path = self.site.path().join(name);
            let file = BufReader::with_capacity(1 << 20, named_file::open(&path)?);
            let found = chain.read_back(file)?;
            told.broken = told
                .broken
                .or(found.broken.map(|line| (path.clone(), line)));
            if name != last {
                continue;
            }
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            let torn = file.metadata()?.len() - found.whole;
            if torn > 0 {
                told.torn = Some((self.set_apart(name, &file, found.whole)?, torn));
            }
            file.sync_all()?;
            self.folder.sync_all()?;
            let day = Day {
                name: name.clone(),
                file,
                synced: found.whole,
                unsynced: Vec::new(),
                is_named: true,
            };
            return Ok((Some(day), told));
        }
        Ok((None, told))
    }

    /// Puts what stands behind so many bytes into a file of its own: nothing is thrown away.
    fn set_apart(&self, name: &str, mut file: &File, whole: u64) -> io::Result<PathBuf> {
        let apart = (1..u32::MAX)
            .map(|number| self.site.path().join(format!("{name}.{number}.torn")))
            .find(|path| !path.exists())
            .ok_or(io::ErrorKind::AlreadyExists)?;
        let mut copy = OpenOptions::new();
        let mut copy = (copy.write(true).create_new(true).mode(0o600)).open(&apart)?;
        file.seek(SeekFrom::Start(whole))?;
        io::copy(&mut file.by_ref(), &mut copy)?;
        copy.sync_all()?;
        self.folder.sync_all()?;
        file.set_len(whole)?;
        Ok(apart)
    }

    /// Begins the file of a day, or goes on with one that is there and empty.
    ///
    /// # Errors
    /// Of making it.
    pub fn begin(&self, name: &str) -> io::Result<Day> {
        self.reopen(Repair {
            name: name.to_owned(),
            synced: 0,
            unsynced: Vec::new(),
            is_named: false,
        })
        .map_err(|(error, _)| error)
    }

    /// Opens a day anew after something failed.
    ///
    /// # Errors
    /// Of that, with what is still to be put right.
    pub fn reopen(&self, repair: Repair) -> Result<Day, (io::Error, Repair)> {
        let open = || {
            let mut options = OpenOptions::new();
            let options = options.write(true).create(true).truncate(false).mode(0o600);
            let file = options.open(self.site.path().join(&repair.name))?;
            file.set_len(repair.synced)?;
            file.write_all_at(&repair.unsynced, repair.synced)?;
            Ok(file)
        };
        match open() {
            Ok(file) => Ok(Day {
                name: repair.name,
                file,
                synced: repair.synced,
                unsynced: repair.unsynced,
                is_named: repair.is_named,
            }),
            Err(error) => Err((error, repair)),
        }
    }

    /// Whether something can be written and synced there; for whoever waits for that.
    ///
    /// # Errors
    /// Why not.
    pub fn probe(&self) -> io::Result<()> {
        let path = self.site.path().join(PROBE_NAME);
        let file = File::create(&path)?;
        let probed = file
            .write_all_at(&[0; 4096], 0)
            .and_then(|()| file.sync_all());
        fs::remove_file(&path)?;
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

    /// Appends lines.
    ///
    /// # Errors
    /// Of the disk; then the day is to be opened anew ([`Day::repair`]).
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let end = self.synced + self.unsynced.len() as u64;
        self.file.write_all_at(lines, end)
    }

    /// What was appended counts, and is written anew after a failure.
    pub fn count(&mut self, lines: &[u8]) {
        self.unsynced.extend_from_slice(lines);
    }

    /// Makes all that was appended survive a power cut, these lines included.
    ///
    /// # Errors
    /// As of [`Day::append`].
    pub fn sync(&mut self, folder: &LedgerFolder) -> io::Result<()> {
        self.file.sync_data()?;
        if !self.is_named {
            folder.folder.sync_all()?;
            self.is_named = true;
        }
        Ok(())
    }

    /// All that counts is synced.
    pub fn note_synced(&mut self) {
        self.synced += self.unsynced.len() as u64;
        self.unsynced.clear();
    }

    /// What is to be put right after a failure.
    pub fn repair(self) -> Repair {
        Repair {
            name: self.name,
            synced: self.synced,
            unsynced: self.unsynced,
            is_named: self.is_named,
        }
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
    names(folder, |name| name.ends_with(".torn"))
}

fn names(folder: &Path, is_meant: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for found in fs::read_dir(folder)? {
        let name = found?.file_name();
        names.extend(
            name.to_str()
                .filter(|name| is_meant(name))
                .map(str::to_owned),
        );
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
    use super::super::entry::tests::{entry, scribe};
    use super::*;

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
        let folder = LedgerFolder::open(Site::new(&path, &[])).unwrap();
        let mut chain = Chain::new(scribe());
        let (none, _) = folder.read_back(&mut chain).unwrap();
        assert!(none.is_none());
        let name = day_of(1_795_000_000_000);
        assert_eq!(name, "2026-11-18.jsonl");
        let mut day = folder.begin(&name).unwrap();
        append(&mut chain, &mut day, 1..=3);
        day.sync(&folder).unwrap();
        let whole = fs::read(path.join(&name)).unwrap();
        fs::write(path.join(&name), [&whole[..], b"{\"v\":1,\"ti"].concat()).unwrap();
        let mut again = Chain::new(scribe());
        let (day, told) = folder.read_back(&mut again).unwrap();
        let (apart, bytes) = told.torn.unwrap();
        assert_eq!(bytes, 10);
        assert_eq!(fs::read(apart).unwrap(), b"{\"v\":1,\"ti");
        assert_eq!(again.head(), chain.head());
        append(&mut again, &mut day.unwrap(), 3..=4);
        append(
            &mut chain,
            &mut folder.begin("2026-11-19.jsonl").unwrap(),
            4..=4,
        );
        assert_eq!(again.head(), chain.head());
        assert_eq!(days(&path).unwrap(), [&*name, "2026-11-19.jsonl"]);
        assert_eq!(torn_ends(&path).unwrap(), [format!("{name}.1.torn")]);
    }

    #[test]
    fn after_a_failure_what_was_not_synced_is_written_anew() {
        let place = tempfile::tempdir().unwrap();
        let folder = LedgerFolder::open(Site::new(place.path(), &[])).unwrap();
        let mut chain = Chain::new(scribe());
        let mut day = folder.begin("2026-11-18.jsonl").unwrap();
        append(&mut chain, &mut day, 1..=1);
        day.sync(&folder).unwrap();
        day.note_synced();
        append(&mut chain, &mut day, 2..=2);
        // These do not count.
        day.append(b"what was not written whole").unwrap();
        let mut day = folder.reopen(day.repair()).unwrap();
        append(&mut chain, &mut day, 3..=3);
        let bytes = fs::read(place.path().join("2026-11-18.jsonl")).unwrap();
        let mut again = Chain::new(scribe());
        let found = again.read_back(&bytes[..]).unwrap();
        assert_eq!((found.whole, found.broken), (bytes.len() as u64, None));
        assert_eq!(again.head(), chain.head());
    }
}
