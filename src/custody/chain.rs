//! The chain itself: which line comes after which, and which sessions have theirs. Bytes in, bytes
//! out; nothing here knows a file.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead, Read as _};

use sha2::{Digest as _, Sha256};

use super::entry::{LINE_BYTES_MAX, LedgerEntry, LedgerLine, Scribe};
use crate::bits::session_id::SessionId;
use crate::http::digest::parse_hex;

/// The hash that the very first line names.
pub const BEGINNING: [u8; 32] = [0; 32];

/// So many of the last sessions are known to have their lines: far more than can be acked and not
/// recorded when the server is killed. Some 80 bytes each.
const RECENT_MAX: usize = 65_536;

/// The hash of a line, its newline included, as `sha256sum` sees it.
pub fn hash_of(line: &[u8]) -> [u8; 32] {
    Sha256::digest(line).into()
}

/// Calls with each line of a file, newline included, and its number.
///
/// # Errors
/// Of reading, and what is answered.
pub fn each_line(
    mut file: impl BufRead,
    mut look: impl FnMut(usize, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut line = Vec::new();
    for number in 1.. {
        if next_line(&mut file, &mut line)?.bytes == 0 {
            break;
        }
        look(number, &line)?;
    }
    Ok(())
}

/// What is known of a line without holding it.
struct SeenLine {
    /// All of them.
    bytes: u64,
    has_zero: bool,
}

/// Reads the next line. Of one that is longer than any of ours one byte more than that is kept, and
/// its newline, so that it is one line, and none of a ledger.
fn next_line(file: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<SeenLine> {
    line.clear();
    let mut limited = file.by_ref().take(LINE_BYTES_MAX as u64 + 1);
    let mut seen = SeenLine {
        bytes: limited.read_until(b'\n', line)? as u64,
        has_zero: line.contains(&0),
    };
    while line.len() > LINE_BYTES_MAX && !line.ends_with(b"\n") {
        let rest = file.fill_buf()?;
        let end = rest.iter().position(|byte| *byte == b'\n');
        let here = end.map_or(rest.len(), |at| at + 1);
        if here == 0 {
            break;
        }
        seen.has_zero |= rest[..here].contains(&0);
        line.extend(end.map(|_| b'\n'));
        file.consume(here);
        seen.bytes += here as u64;
    }
    Ok(seen)
}

/// Where a chain stands: the hash of its last line, and who has one.
#[derive(Debug)]
pub struct Chain {
    scribe: Scribe,
    /// Of the last line that was kept.
    head: [u8; 32],
    recent: Lately,
    /// Of the last line that was appended.
    next_head: [u8; 32],
    /// What was appended and not kept yet.
    appended: Vec<Told>,
    /// The hash of a line that should be there, and was not read yet.
    sought: Option<[u8; 32]>,
}

/// What a file was found to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundLines {
    /// Bytes of its whole lines.
    pub whole: u64,
    /// Number of the first line, from 1, that does not follow the one before: somebody has changed
    /// something.
    pub broken: Option<usize>,
}

impl Chain {
    /// Before its first line.
    pub fn new(scribe: Scribe) -> Self {
        Self {
            scribe,
            head: BEGINNING,
            recent: Lately::default(),
            next_head: BEGINNING,
            appended: Vec::new(),
            sought: None,
        }
    }

    /// A line of this hash should be in what is read back.
    pub fn seek(&mut self, head: [u8; 32]) {
        self.sought = Some(head);
    }

    /// The one that should be there, if it was in nothing that was read back.
    pub fn missing(&self) -> Option<[u8; 32]> {
        self.sought
    }

    /// Goes on behind a line that is missing: the next one names it, and the gap shows.
    pub fn go_on_behind(&mut self, head: [u8; 32]) {
        (self.head, self.next_head) = (head, head);
    }

    /// Who writes its lines.
    pub fn scribe(&self) -> &Scribe {
        &self.scribe
    }

    /// The hash of the last line.
    pub fn head(&self) -> [u8; 32] {
        self.head
    }

    /// Goes on behind a file of which this is all. What comes after its whole lines was torn by a
    /// power cut, and does not count. Lines that somebody has changed do: they are not for us to
    /// mend.
    ///
    /// # Errors
    /// Of reading.
    pub fn read_back(&mut self, mut file: impl BufRead) -> io::Result<FoundLines> {
        let mut found = FoundLines {
            whole: 0,
            broken: None,
        };
        let mut line = Vec::new();
        for number in 1.. {
            let seen = next_line(&mut file, &mut line)?;
            // A write that reached the disk in parts leaves an end without a newline, or zeros.
            if !line.ends_with(b"\n") || seen.has_zero {
                break;
            }
            let read = LedgerLine::read(&line);
            let prev = read.as_ref().and_then(|line| parse_hex(&line.prev));
            // The first one follows a file that may not be here any more.
            if prev != Some(self.head) && !(number == 1 && self.head == BEGINNING) {
                found.broken.get_or_insert(number);
            }
            if let Some(told) = read.and_then(|line| Some((line.session_id()?, line.is_good()))) {
                self.recent.add(told);
            }
            self.head = hash_of(&line);
            self.sought = self.sought.filter(|sought| *sought != self.head);
            found.whole += seen.bytes;
        }
        self.next_head = self.head;
        Ok(found)
    }

    /// Appends the line of an upload, unless it has one. Nothing is known of it until
    /// [`Chain::keep`].
    pub fn append(&mut self, entry: &LedgerEntry, out: &mut Vec<u8>) {
        let told = (entry.session, entry.ending.is_good());
        let has = |told| self.recent.has(told) || self.appended.contains(&told);
        // One with a file says all; one without may be followed by it, and by nothing else.
        if has((entry.session, true)) || has(told) {
            return;
        }
        let begin = out.len();
        entry.append(&self.scribe, &self.next_head, out);
        self.next_head = hash_of(&out[begin..]);
        self.appended.push(told);
    }

    /// What was appended is written.
    pub fn keep(&mut self) {
        self.head = self.next_head;
        for told in std::mem::take(&mut self.appended) {
            self.recent.add(told);
        }
    }

    /// What was appended could not be written: it is as if it had never been.
    pub fn drop_appended(&mut self) {
        self.next_head = self.head;
        self.appended.clear();
    }
}

/// A session, and whether its line says that somebody has its file. A power cut may bring back one
/// that ended without: then it may still come to a good end, and that has a line of its own.
type Told = (SessionId, bool);

/// The sessions that got their lines last.
#[derive(Debug, Default)]
struct Lately {
    /// How often each is in the queue.
    known: BTreeMap<Told, u32>,
    queue: VecDeque<Told>,
}

impl Lately {
    fn has(&self, told: Told) -> bool {
        self.known.contains_key(&told)
    }

    fn add(&mut self, told: Told) {
        *self.known.entry(told).or_default() += 1;
        self.queue.push_back(told);
        if self.queue.len() > RECENT_MAX
            && let Some(oldest) = self.queue.pop_front()
            && let Some(count) = self.known.get_mut(&oldest)
        {
            *count -= 1;
            if *count == 0 {
                self.known.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::{entry, scribe};
    use super::*;
    use crate::bits::session::Ending;

    fn chain() -> Chain {
        Chain::new(scribe())
    }

    fn lines(numbers: impl IntoIterator<Item = u128>) -> Vec<u8> {
        let (mut chain, mut out) = (chain(), Vec::new());
        numbers
            .into_iter()
            .for_each(|number| chain.append(&entry(number), &mut out));
        out
    }

    #[test]
    fn a_chain_goes_on_where_its_file_ends() {
        let whole = lines(1..=4);
        let (mut first, mut out) = (chain(), Vec::new());
        first.append(&entry(1), &mut out);
        first.append(&entry(2), &mut out);
        first.keep();
        let mut second = chain();
        let found = second.read_back(&out[..]).unwrap();
        assert_eq!(found.whole, out.len() as u64);
        assert_eq!((found.broken, second.head()), (None, first.head()));
        // Who has a line gets no other.
        for number in 1..=4 {
            second.append(&entry(number), &mut out);
        }
        assert_eq!(out, whole);
    }

    #[test]
    fn who_was_given_up_and_came_back_has_a_line_for_its_file_as_well() {
        let (mut chain, mut out) = (chain(), Vec::new());
        let cancelled = LedgerEntry {
            ending: Ending::Cancelled,
            ..entry(1)
        };
        chain.append(&cancelled, &mut out);
        chain.keep();
        let mut after = Chain::new(scribe());
        after.read_back(&out[..]).unwrap();
        for _again in 0..2 {
            after.append(&cancelled, &mut out);
            after.append(&entry(1), &mut out);
            after.append(&cancelled, &mut out);
            after.keep();
        }
        let endings: Vec<_> = (out.split_inclusive(|byte| *byte == b'\n'))
            .map(|line| LedgerLine::read(line).unwrap().ending.into_owned())
            .collect();
        assert_eq!(endings, ["cancelled", "published"]);
        // In a new life, too.
        let mut after = Chain::new(scribe());
        after.read_back(&out[..]).unwrap();
        let length = out.len();
        after.append(&cancelled, &mut out);
        assert_eq!(out.len(), length);
    }

    #[test]
    fn what_could_not_be_written_has_never_been() {
        let (mut chain, mut out) = (chain(), Vec::new());
        chain.append(&entry(1), &mut out);
        chain.keep();
        let before = out.clone();
        chain.append(&entry(2), &mut out);
        chain.append(&entry(2), &mut out);
        chain.drop_appended();
        out.truncate(before.len());
        chain.append(&entry(2), &mut out);
        chain.append(&entry(3), &mut out);
        chain.keep();
        assert_eq!(out, lines(1..=3));
    }

    #[test]
    fn a_torn_end_does_not_count_wherever_it_is_torn() {
        let whole = lines(1..=3);
        let two = lines(1..=2).len();
        let expected = (two as u64, None);
        for cut in two..whole.len() {
            let found = chain().read_back(&whole[..cut]).unwrap();
            assert_eq!((found.whole, found.broken), expected, "{cut}");
            // The length has come, and the bytes have not.
            let mut zeros = whole[..cut].to_vec();
            zeros.resize(whole.len(), 0);
            let found = chain().read_back(&zeros[..]).unwrap();
            assert_eq!((found.whole, found.broken), expected, "{cut}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_one_line_and_what_follows_it_stays() {
        for bytes in [LINE_BYTES_MAX, LINE_BYTES_MAX + 1, 5 << 20] {
            let (before, after) = (lines(1..=2), lines(3..=3));
            let mut changed = before.clone();
            changed.resize(before.len() + bytes, b'x');
            changed.push(b'\n');
            changed.extend(&after);
            let mut numbers = Vec::new();
            let read = each_line(&changed[..], |number, line| {
                assert!(line.len() <= LINE_BYTES_MAX + 2 && line.ends_with(b"\n"));
                numbers.push(number);
                Ok(())
            });
            read.unwrap();
            assert_eq!(numbers, [1, 2, 3, 4], "{bytes}");
            // A start takes away what a power cut has torn off, and only that.
            let found = chain().read_back(&changed[..]).unwrap();
            assert_eq!(found.whole, changed.len() as u64, "{bytes}");
            assert_eq!(found.broken, Some(3), "{bytes}");
            changed.truncate(before.len() + bytes);
            let found = chain().read_back(&changed[..]).unwrap();
            assert_eq!((found.whole, found.broken), (before.len() as u64, None));
        }
    }

    #[test]
    fn a_changed_line_is_told_and_left_as_it_is() {
        let mut changed = lines(1..=3);
        let at = changed.iter().position(|byte| *byte == b'5').unwrap();
        changed[at] = b'6';
        let found = chain().read_back(&changed[..]).unwrap();
        assert_eq!(found.whole, changed.len() as u64);
        assert_eq!(found.broken, Some(2));
    }
}
