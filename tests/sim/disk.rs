//! A disk that remembers what is durable and what is only in memory, for bytes and for names,
//! apart.
//!
//! # What it may do
//!
//! * A write is in memory until its file is synced; a name is in memory until a directory that
//!   holds it is.
//! * `kill`: the memory survives, all of it.
//! * Power cut: of each pending write any 512-byte sector may be there or not, and the length may
//!   run ahead of the bytes (zeros stand there then). Of the pending names of a directory a prefix
//!   is there, in the order of making; a rename is there in both its directories or in none.
//! * There may be two file systems: all beneath [`OTHER`] is on the second one, where a shelf of
//!   its own is. Nothing can be renamed from one to the other.
//! * The disks may commit in order. Then a sync of a journal that has something to write makes all
//!   names of its disk durable, and the bytes of files that were written out; written out alone,
//!   they are as unsafe as before. The other disk commits with its shelf. A power cut takes all
//!   that was done after some moment, and nothing that was done before it, appends to journals
//!   included.
//! * A sync that fails leaves the bytes readable and clean: no later sync writes them, and the next
//!   power cut takes them away.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bitsd::vault::disk::{Manner, Parents, Replace, Shelf, Standing, Sync, WorkKind, WorkStat};

use crate::plan::OTHER;
use crate::rng::Rng;

/// The shelves, the work directory first; all other folders are paths beneath the root, which is
/// "".
const SHELVES: [&str; 2] = ["#work", "#shelf"];

/// Directory and name.
pub type Place = (String, String);

/// What stands under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// A file.
    File(u64),
    /// A folder.
    Folder,
}

/// One change of names.
#[derive(Clone, Debug)]
enum Change {
    Link(Place, Node),
    Unlink(Place),
    Rename(Place, Place, Node),
}

impl Change {
    fn folders(&self) -> Vec<&str> {
        match self {
            Self::Link((folder, _), _) | Self::Unlink((folder, _)) => vec![folder],
            Self::Rename((from, _), (to, _), _) => vec![from, to],
        }
    }

    /// Of the disk that it is on: nothing is renamed from one to the other.
    fn shelf(&self) -> Shelf {
        shelf_of_folder(self.folders()[0])
    }

    fn apply(&self, names: &mut BTreeMap<Place, Node>) {
        match self {
            Self::Link(place, node) => {
                names.insert(place.clone(), *node);
            }
            Self::Unlink(place) => {
                names.remove(place);
            }
            // Wherever that file is: a rename before this one may have been lost.
            Self::Rename(from, to, node) => {
                let is_at = |at: &Place| names.get(at) == Some(node);
                let elsewhere = || names.keys().find(|at| is_at(at)).cloned();
                let found = match is_at(from) {
                    true => Some(from.clone()),
                    false => elsewhere(),
                };
                if let Some(found) = found {
                    names.remove(&found);
                    names.insert(to.clone(), *node);
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
struct Write {
    /// When it was made.
    moment: Moment,
    offset: usize,
    bytes: Vec<u8>,
    /// A sync of it failed: it is read back, and nothing will ever write it.
    is_phantom: bool,
    /// Since then the device has it; where it is, may not be committed.
    out: Option<Moment>,
}

/// What was done before what.
pub type Moment = u64;

/// One file's bytes.
#[derive(Clone, Debug)]
struct Content {
    durable: Vec<u8>,
    pending: Vec<Write>,
    /// What a read sees.
    cached: Vec<u8>,
    written_ms: u64,
    /// When it was last changed, in whatever way.
    touched: Moment,
    /// Up to here it has its space, if that is more than its length.
    reserved: u64,
    /// A journal, of which the device writes 512 bytes at once; other files show what smaller
    /// pieces would do.
    is_journal: bool,
    /// Of the file system that it is on.
    shelf: Shelf,
}

impl Content {
    fn new(shelf: Shelf) -> Self {
        Self {
            durable: Vec::new(),
            pending: Vec::new(),
            cached: Vec::new(),
            written_ms: 0,
            touched: 0,
            reserved: 0,
            is_journal: false,
            shelf,
        }
    }

    fn write(&mut self, moment: Moment, offset: usize, bytes: &[u8]) {
        overlay(&mut self.cached, offset, bytes);
        self.pending.push(Write {
            moment,
            offset,
            bytes: bytes.to_vec(),
            is_phantom: false,
            out: None,
        });
    }

    fn sync(&mut self) {
        self.settle(|_| true);
    }

    /// Makes some of what is pending durable.
    fn settle(&mut self, is_meant: impl Fn(&Write) -> bool) {
        let pending = std::mem::take(&mut self.pending);
        for write in pending {
            if write.is_phantom || !is_meant(&write) {
                self.pending.push(write);
            } else {
                overlay(&mut self.durable, write.offset, &write.bytes);
            }
        }
    }

    /// The power goes; what was done by a moment is committed.
    fn cut_power_in_order(&mut self, rng: &mut Rng, sector: usize, committed: Moment) {
        if !self.is_journal {
            self.settle(|write| write.out.is_some_and(|moment| moment <= committed));
            return self.cut_power(rng, sector);
        }
        self.settle(|write| write.moment <= committed);
        // A file grows by what has reached the device of a write.
        let next = self.pending.drain(..).find(|write| !write.is_phantom);
        if let Some(mut next) = next
            && next.offset == self.durable.len()
            && rng.chance(300)
        {
            next.bytes.truncate(rng.index(next.bytes.len()));
            overlay(&mut self.durable, next.offset, &next.bytes);
        }
        self.cached.clone_from(&self.durable);
    }

    fn cut_power(&mut self, rng: &mut Rng, sector: usize) {
        let sector = if self.is_journal { 512 } else { sector };
        let length = self.cached.len();
        let pending = std::mem::take(&mut self.pending);
        // Each sector is as it was at some moment; all at the same one, at the first, or each at
        // its own.
        let fate = rng.below(3);
        for first in (0..length).step_by(sector) {
            let last = (first + sector).min(length);
            let until = match fate {
                0 => pending.len(),
                1 => 0,
                _ => rng.index(pending.len() + 1),
            };
            for write in pending[..until].iter().filter(|write| !write.is_phantom) {
                let from = first.max(write.offset);
                let to = last.min(write.offset + write.bytes.len());
                if from < to {
                    let bytes = &write.bytes[from - write.offset..to - write.offset];
                    overlay(&mut self.durable, from, bytes);
                }
            }
        }
        if self.durable.len() < length && rng.chance(300) {
            let longer = rng.within(self.durable.len() as u64, length as u64);
            self.durable
                .resize(usize::try_from(longer).expect("in memory"), 0);
        }
        self.cached.clone_from(&self.durable);
    }
}

fn overlay(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if file.len() < offset + bytes.len() {
        file.resize(offset + bytes.len(), 0);
    }
    file[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// The disk of one machine.
pub struct SimDisk {
    files: BTreeMap<u64, Content>,
    /// Names that survive a power cut.
    base: BTreeMap<Place, Node>,
    /// Names as they are seen.
    names: BTreeMap<Place, Node>,
    pending: Vec<(Moment, Change)>,
    /// Of what was done last.
    now: Moment,
    /// What stood at destinations before each change of one.
    former: Vec<(String, Option<Vec<u8>>)>,
    next_inode: u64,
    reuses_inodes: bool,
    sector: usize,
    commits_in_order: bool,
    /// What was done until then on the disk of the work directory has survived the last power cut,
    /// and nothing that was done later; where it commits in order.
    survived: Option<Moment>,
    /// Descriptors of the server that is alive.
    pub open: BTreeMap<u64, usize>,
}

impl SimDisk {
    /// An empty disk.
    pub fn new(reuses_inodes: bool, sector: usize, commits_in_order: bool) -> Self {
        Self {
            files: BTreeMap::new(),
            base: BTreeMap::new(),
            names: BTreeMap::new(),
            pending: Vec::new(),
            now: 0,
            former: Vec::new(),
            next_inode: 100,
            reuses_inodes,
            sector,
            commits_in_order,
            survived: None,
            open: BTreeMap::new(),
        }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        let moment = self.next_moment();
        self.pending.push((moment, change));
        self.drop_unreachable();
    }

    fn next_moment(&mut self) -> Moment {
        self.now += 1;
        self.now
    }

    fn drop_unreachable(&mut self) {
        if self.names.len() + self.pending.len() + self.open.len() == 0 {
            return;
        }
        let mut reachable: BTreeSet<u64> = self.open.keys().copied().collect();
        let from_changes = self.pending.iter().filter_map(|(_, change)| match change {
            Change::Link(_, node) => Some(node),
            _ => None,
        });
        for node in self
            .names
            .values()
            .chain(self.base.values())
            .chain(from_changes)
        {
            if let Node::File(inode) = node {
                reachable.insert(*inode);
            }
        }
        self.files.retain(|inode, _| reachable.contains(inode));
    }

    fn new_inode(&mut self) -> u64 {
        if self.reuses_inodes {
            let free = (100..).find(|inode| !self.files.contains_key(inode));
            return free.expect("there are more numbers than files");
        }
        self.next_inode += 1;
        self.next_inode
    }

    // The shelves.

    /// The file of a work name, on whatever shelf.
    pub fn inode(&self, name: &str) -> Option<u64> {
        let folders = SHELVES
            .iter()
            .map(|folder| ((*folder).to_owned(), name.to_owned()));
        folders.into_iter().find_map(|place| self.file_at(&place))
    }

    /// The file of a work name.
    pub fn inode_on(&self, shelf: Shelf, name: &str) -> Option<u64> {
        self.file_at(&work(shelf, name))
    }

    fn file_at(&self, place: &Place) -> Option<u64> {
        match self.names.get(place) {
            Some(Node::File(inode)) => Some(*inode),
            _ => None,
        }
    }

    /// Makes an empty file.
    pub fn create(&mut self, shelf: Shelf, name: &str, now: u64) -> io::Result<u64> {
        if self.inode_on(shelf, name).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = self.new_inode();
        let content = Content {
            written_ms: now,
            is_journal: name.ends_with(".journal"),
            ..Content::new(shelf)
        };
        self.files.insert(inode, content);
        self.change(Change::Link(work(shelf, name), Node::File(inode)));
        Ok(inode)
    }

    /// Appends to what is pending of a file.
    pub fn write(&mut self, inode: u64, offset: u64, bytes: &[u8], now: u64) {
        let moment = self.next_moment();
        let content = self.files.get_mut(&inode).expect("an open file stays");
        content.write(moment, usize::try_from(offset).expect("in memory"), bytes);
        content.written_ms = now;
        content.touched = moment;
    }

    /// Makes a file's bytes durable.
    pub fn sync(&mut self, inode: u64) {
        let Some(content) = self.files.get_mut(&inode) else {
            return;
        };
        let is_commit = content.is_journal && content.pending.iter().any(|write| !write.is_phantom);
        content.sync();
        // Journals are in the work directory.
        if is_commit && self.commits_in_order {
            self.commit(Shelf::WORK);
        }
    }

    /// Makes durable what was done on a file system, but for bytes that were not written out.
    fn commit(&mut self, shelf: Shelf) {
        let pending = std::mem::take(&mut self.pending);
        for (moment, change) in pending {
            match change.shelf() == shelf {
                true => change.apply(&mut self.base),
                false => self.pending.push((moment, change)),
            }
        }
        let there = |content: &&mut Content| content.shelf == shelf;
        for content in self.files.values_mut().filter(there) {
            content.settle(|write| write.out.is_some());
        }
        self.drop_unreachable();
    }

    /// Brings a file's bytes to the device.
    pub fn write_out(&mut self, inode: u64) {
        let now = self.next_moment();
        if let Some(content) = self.files.get_mut(&inode) {
            for write in &mut content.pending {
                write.out.get_or_insert(now);
            }
        }
    }

    /// The custody ledger, which is on the disk of the work directory, is appended to.
    pub fn begin_line(&mut self) -> Moment {
        self.next_moment()
    }

    /// Whether what was done then can have survived the last power cut.
    pub fn may_have_survived(&self, moment: Moment) -> bool {
        self.survived.is_none_or(|survived| moment <= survived)
    }

    /// A line of the custody ledger was synced.
    pub fn sync_line(&mut self) {
        if self.commits_in_order {
            self.commit(Shelf::WORK);
        }
    }

    /// Whether it commits in order.
    pub fn commits_in_order(&self) -> bool {
        self.commits_in_order
    }

    /// A sync of a file fails.
    pub fn fail_sync(&mut self, inode: u64) {
        if let Some(content) = self.files.get_mut(&inode) {
            for write in &mut content.pending {
                write.is_phantom = true;
            }
        }
    }

    /// Cuts a file, durably.
    pub fn truncate(&mut self, inode: u64, bytes: u64) {
        let moment = self.next_moment();
        let content = self.files.get_mut(&inode).expect("an open file stays");
        content.touched = moment;
        content.sync();
        let bytes = usize::try_from(bytes).expect("in memory");
        content.pending.clear();
        content.cached.truncate(bytes);
        content.durable.truncate(bytes);
        content.reserved = 0;
    }

    /// Reserves space for a file; returns what all files have reserved beyond their ends.
    pub fn reserve(&mut self, inode: u64, until: u64) -> u64 {
        let content = self.files.get_mut(&inode).expect("an open file stays");
        content.reserved = content.reserved.max(until);
        let ahead = |content: &Content| {
            let length = content.cached.len() as u64;
            content.reserved.saturating_sub(length)
        };
        self.files.values().map(ahead).sum()
    }

    /// Gives back what a file has reserved beyond its end; `false` if there was nothing.
    pub fn give_back(&mut self, inode: u64) -> bool {
        let content = self.files.get_mut(&inode).expect("an open file stays");
        std::mem::take(&mut content.reserved) > content.cached.len() as u64
    }

    /// Length, age, identity.
    pub fn stat(&self, shelf: Shelf, name: &str, now: u64) -> Option<WorkStat> {
        let inode = self.inode_on(shelf, name)?;
        let content = &self.files[&inode];
        Some(WorkStat {
            kind: WorkKind::Ours,
            bytes: content.cached.len() as u64,
            age_ms: now.saturating_sub(content.written_ms),
            inode,
            occupied: content.reserved.max(content.cached.len() as u64),
            modified_ns: content.touched,
            changed_ns: content.touched,
        })
    }

    /// What a read of a file sees.
    pub fn read(&self, inode: u64) -> &[u8] {
        self.files
            .get(&inode)
            .map_or(&[], |content| &content.cached)
    }

    /// Flips bits of a byte, on the medium too.
    pub fn corrupt(&mut self, inode: u64, at: usize, bits: u8) {
        if let Some(content) = self.files.get_mut(&inode) {
            content.sync();
            content.cached[at] ^= bits;
            content.durable = content.cached.clone();
        }
    }

    /// Takes a name off.
    pub fn remove(&mut self, shelf: Shelf, name: &str) {
        if let Some(inode) = self.inode_on(shelf, name) {
            // What a file without a name holds is free as soon as it is closed.
            if let Some(content) = self.files.get_mut(&inode) {
                content.reserved = 0;
            }
            self.change(Change::Unlink(work(shelf, name)));
        }
    }

    /// Gives a part another name there.
    pub fn rename(&mut self, shelf: Shelf, from: &str, to: &str) -> io::Result<()> {
        let Some(inode) = self.inode_on(shelf, from) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let (from, to) = (work(shelf, from), work(shelf, to));
        self.change(Change::Rename(from, to, Node::File(inode)));
        Ok(())
    }

    /// All names of all shelves.
    pub fn list(&self) -> Vec<String> {
        let shelves = [Shelf(0), Shelf(1)];
        shelves
            .into_iter()
            .flat_map(|shelf| self.list_of(shelf))
            .collect()
    }

    /// All names of a shelf.
    pub fn list_of(&self, shelf: Shelf) -> Vec<String> {
        (self.names.keys())
            .filter(|(folder, _)| *folder == SHELVES[usize::from(shelf.0)])
            .map(|(_, name)| name.clone())
            .collect()
    }

    // The tree.

    /// Looks at a destination.
    pub fn look_up(&self, path: &str) -> Standing {
        let place = place(path);
        if !self.has_folder(&place.0) {
            return Standing::NoParent;
        }
        match self.names.get(&place) {
            None => Standing::Free,
            Some(Node::Folder) => Standing::Directory,
            Some(Node::File(inode)) => Standing::File {
                inode: *inode,
                bytes: self.read(*inode).len() as u64,
            },
        }
    }

    fn has_folder(&self, folder: &str) -> bool {
        folder.is_empty() || self.names.get(&place(folder)) == Some(&Node::Folder)
    }

    /// Makes a folder, its name durable at once if it is to be; `false` if it is there.
    pub fn make_folder(&mut self, path: &str, sync: Sync) -> bool {
        if self.has_folder(path) {
            return false;
        }
        let place = place(path);
        let parent = place.0.clone();
        self.change(Change::Link(place, Node::Folder));
        if sync == Sync::Yes {
            self.sync_folder(&parent);
        }
        true
    }

    /// Moves a part to its destination; the folders that were made for it are returned.
    pub fn publish(
        &mut self,
        shelf: Shelf,
        name: &str,
        path: &str,
        manner: Manner,
    ) -> io::Result<Vec<String>> {
        let Some(inode) = self.inode_on(shelf, name) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if shelf != shelf_of(path) {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        let mut made = Vec::new();
        if manner.parents != Parents::MustExist {
            for (names, (at, _)) in path.match_indices('/').enumerate() {
                let may = manner.parents.may_make(names);
                if may && self.make_folder(&path[..at], manner.sync) {
                    made.push(path[..at].to_owned());
                }
            }
        }
        match (self.look_up(path), manner.replace) {
            (Standing::NoParent, _) => return Err(io::ErrorKind::NotFound.into()),
            (Standing::Directory | Standing::Reserved, Replace::Existing) => {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            (Standing::Directory | Standing::Reserved | Standing::File { .. }, Replace::Never) => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            (Standing::File { .. }, Replace::Existing) | (Standing::Free, _) => {}
        }
        self.note_former(path);
        let node = Node::File(inode);
        self.change(Change::Rename(work(shelf, name), place(path), node));
        Ok(made)
    }

    /// Makes a file that has its name a part again, if it is still there.
    pub fn take_back(&mut self, shelf: Shelf, name: &str, path: &str, inode: u64) -> bool {
        if self.file_at(&place(path)) != Some(inode) {
            return false;
        }
        self.note_former(path);
        let node = Node::File(inode);
        self.change(Change::Rename(place(path), work(shelf, name), node));
        true
    }

    /// Puts a file that is older than the server into the tree.
    pub fn plant(&mut self, path: &str, bytes: &[u8]) {
        let inode = self.new_inode();
        let content = Content {
            durable: bytes.to_vec(),
            cached: bytes.to_vec(),
            ..Content::new(shelf_of(path))
        };
        self.files.insert(inode, content);
        self.names.insert(place(path), Node::File(inode));
        self.base.insert(place(path), Node::File(inode));
    }

    /// What a read of a destination sees.
    pub fn destination(&self, path: &str) -> Option<&[u8]> {
        self.file_at(&place(path)).map(|inode| self.read(inode))
    }

    fn note_former(&mut self, path: &str) {
        let stands = self.destination(path).map(<[u8]>::to_vec);
        self.former.push((path.to_owned(), stands));
    }

    /// How often a destination was changed so far, whichever.
    pub fn changes_len(&self) -> usize {
        self.former.len()
    }

    /// What stood at a destination at any time since so many changes, and stands there now.
    pub fn stood_since(&self, changes: usize, path: &str) -> Vec<Option<&[u8]>> {
        let former = self.former[changes..].iter();
        let of_path = former.filter(|(changed, _)| changed == path);
        of_path
            .map(|(_, bytes)| bytes.as_deref())
            .chain([self.destination(path)])
            .collect()
    }

    /// All files of the tree.
    pub fn tree(&self) -> impl Iterator<Item = (String, &[u8])> {
        self.names.iter().filter_map(|((folder, name), node)| {
            let Node::File(inode) = node else {
                return None;
            };
            let path = if folder.is_empty() {
                name.clone()
            } else {
                format!("{folder}/{name}")
            };
            (!folder.starts_with('#')).then(|| (path, self.read(*inode)))
        })
    }

    // What survives.

    /// Makes the names of a shelf durable.
    pub fn sync_shelf(&mut self, shelf: Shelf) {
        if self.commits_in_order && shelf != Shelf::WORK {
            return self.commit(shelf);
        }
        self.sync_folder(SHELVES[usize::from(shelf.0)]);
    }

    /// Makes the names of a folder durable, and whatever had to happen before them.
    pub fn sync_folder(&mut self, folder: &str) {
        let concerns_it = |(_, change): &(_, Change)| change.folders().contains(&folder);
        if self.commits_in_order && self.pending.iter().any(concerns_it) {
            return self.commit(shelf_of_folder(folder));
        }
        let mut needed: BTreeSet<String> = BTreeSet::from([folder.to_owned()]);
        let mut is_durable = vec![false; self.pending.len()];
        for (at, (_, change)) in self.pending.iter().enumerate().rev() {
            let folders = change.folders();
            if folders.iter().any(|folder| needed.contains(*folder)) {
                is_durable[at] = true;
                needed.extend(folders.into_iter().map(str::to_owned));
            }
        }
        let mut durable = is_durable.into_iter();
        let pending = std::mem::take(&mut self.pending);
        for (moment, change) in pending {
            if durable.next() == Some(true) {
                change.apply(&mut self.base);
            } else {
                self.pending.push((moment, change));
            }
        }
        self.drop_unreachable();
    }

    /// Makes the name of a destination durable, and of its folders.
    pub fn sync_destination(&mut self, path: &str) {
        self.sync_folder(&place(path).0);
    }

    /// A sync of the folder of a destination fails: its name is seen, and no later sync writes it.
    pub fn lose_name(&mut self, path: &str) {
        let lost = place(path);
        let is_it = |change: &Change| matches!(change, Change::Rename(_, to, _) if *to == lost);
        if !self.commits_in_order {
            self.pending.retain(|(_, change)| !is_it(change));
        }
    }

    /// Makes everything durable.
    pub fn sync_all(&mut self) {
        for content in self.files.values_mut() {
            content.sync();
        }
        self.base.clone_from(&self.names);
        self.pending.clear();
        self.drop_unreachable();
    }

    /// Makes everything durable on the file system of one shelf.
    pub fn sync_file_system(&mut self, shelf: Shelf) {
        for content in self.files.values_mut() {
            if content.shelf == shelf {
                content.sync();
            }
        }
        let pending = std::mem::take(&mut self.pending);
        let (there, elsewhere) = pending
            .into_iter()
            .partition(|(_, change)| change.shelf() == shelf);
        self.pending = elsewhere;
        let there: Vec<(Moment, Change)> = there;
        for (_, change) in there {
            change.apply(&mut self.base);
        }
        self.drop_unreachable();
    }

    /// The bytes that a power cut would leave at a destination in the worst case.
    pub fn durable_destination(&self, path: &str) -> Option<&[u8]> {
        self.durable_at(&place(path))
    }

    /// The bytes that a power cut would leave of a part in the worst case.
    pub fn durable_work(&self, name: &str) -> Option<&[u8]> {
        let shelves = [Shelf(0), Shelf(1)];
        shelves
            .into_iter()
            .find_map(|shelf| self.durable_at(&work(shelf, name)))
    }

    fn durable_at(&self, place: &Place) -> Option<&[u8]> {
        match self.base.get(place) {
            Some(Node::File(inode)) => Some(&self.files.get(inode)?.durable),
            _ => None,
        }
    }

    /// The power goes. How many changes of names it took back is returned.
    pub fn cut_power(&mut self, rng: &mut Rng) -> usize {
        self.lose_power(rng, |_| true)
    }

    /// The same of the file system of one shelf alone. The others are synced, and keep what they
    /// have.
    pub fn disk_loses_power(&mut self, rng: &mut Rng, shelf: Shelf) {
        self.lose_power(rng, |hit| hit == shelf);
    }

    fn lose_power(&mut self, rng: &mut Rng, is_hit: impl Fn(Shelf) -> bool) -> usize {
        let mut committed = || match rng.below(3) {
            0 => 0,
            1 => self.now,
            _ => rng.within(self.first_unsafe(), self.now),
        };
        let committed = self.commits_in_order.then(|| [committed(), committed()]);
        if is_hit(Shelf::WORK) {
            self.survived = committed.map(|both| both[usize::from(Shelf::WORK.0)]);
        }
        let committed_on = |shelf: Shelf| committed.map(|both| both[usize::from(shelf.0)]);
        let keeps_most = rng.chance(500);
        let mut lost_folders: BTreeSet<String> = BTreeSet::new();
        let mut lost = 0;
        for (moment, change) in std::mem::take(&mut self.pending) {
            if !is_hit(change.shelf()) {
                change.apply(&mut self.base);
                continue;
            }
            let is_cut_off = change.folders().iter().any(|f| lost_folders.contains(*f));
            let is_kept = match committed_on(change.shelf()) {
                Some(committed) => moment <= committed,
                None => rng.chance(if keeps_most { 900 } else { 300 }),
            };
            if is_cut_off || !is_kept {
                lost += 1;
                lost_folders.extend(change.folders().into_iter().map(str::to_owned));
                if let Change::Link(place, Node::Folder) = &change {
                    // And whatever came into it.
                    lost_folders.insert(whole(place));
                }
            } else {
                change.apply(&mut self.base);
            }
        }
        self.names.clone_from(&self.base);
        self.open.clear();
        self.drop_unreachable();
        let files = self.files.values_mut();
        for content in files.filter(|content| is_hit(content.shelf)) {
            match committed_on(content.shelf) {
                Some(committed) => content.cut_power_in_order(rng, self.sector, committed),
                None => content.cut_power(rng, self.sector),
            }
        }
        lost
    }

    /// When the first thing was done that a power cut may take.
    fn first_unsafe(&self) -> Moment {
        let names = self.pending.iter().map(|(moment, _)| *moment);
        let writes = self.files.values().flat_map(|content| &content.pending);
        names
            .chain(writes.map(|write| write.moment))
            .min()
            .unwrap_or(self.now)
    }

    /// The process goes; the memory stays.
    pub fn kill(&mut self) {
        self.open.clear();
        self.drop_unreachable();
    }

    /// A descriptor more.
    pub fn opened(&mut self, inode: u64) {
        *self.open.entry(inode).or_default() += 1;
    }

    /// A descriptor less. After a crash there is none to close.
    pub fn closed(&mut self, inode: u64) {
        if let Some(count) = self.open.get_mut(&inode) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&inode);
                self.drop_unreachable();
            }
        }
    }
}

fn work(shelf: Shelf, name: &str) -> Place {
    (SHELVES[usize::from(shelf.0)].to_owned(), name.to_owned())
}

/// The shelf on the file system of a folder.
fn shelf_of_folder(folder: &str) -> Shelf {
    match SHELVES.iter().position(|shelf| *shelf == folder) {
        Some(shelf) => Shelf(u16::try_from(shelf).expect("few")),
        None => shelf_of(folder),
    }
}

/// The shelf on the file system of a destination.
pub fn shelf_of(path: &str) -> Shelf {
    let is_other = path.split('/').next() == Some(OTHER);
    Shelf(u16::from(is_other))
}

/// The path of a folder.
fn whole((folder, name): &Place) -> String {
    match folder.as_str() {
        "" => name.clone(),
        folder => format!("{folder}/{name}"),
    }
}

fn place(path: &str) -> Place {
    match path.rsplit_once('/') {
        Some((folder, name)) => (folder.to_owned(), name.to_owned()),
        None => (String::new(), path.to_owned()),
    }
}
