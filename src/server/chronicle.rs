//! What happened lately on a shard, and who has delivered: for a person who looks.
//!
//! Bounded in every direction: so many troubles, so many good ends, so many folders. The shard
//! alone touches it, so it costs a copied name for each upload and each refusal, and no lock; a
//! fragment that goes well leaves nothing here. Nothing of it survives a restart.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;

use crate::bits::challenges::NotShown;
use crate::bits::refusal::Reaction;
use crate::bits::reply::Refusal;
use crate::bits::session::Ending;
use crate::bits::session_id::SessionId;
use crate::event::Event;
use crate::http::stranger;
use crate::vault::disk::Millis;

/// So many troubles are remembered, and as many good ends: many small files that arrive well must
/// not push out the one refusal that matters.
pub const HAPPENED_MAX: usize = 500;
/// Folders that are told apart on a shard; the files of all further ones are counted together.
pub const FOLDERS_MAX: usize = 10_000;
/// Bytes of a name that are kept.
const NAME_BYTES_MAX: usize = 1 << 10;
/// The same trouble of the same client is one entry, if it is among the last so many: one client
/// that repeats itself pushes out nobody.
const SAME_AMONG: usize = 16;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// Its number on this shard: the same however often it happens again.
    pub id: u64,
    /// When it last changed, among all that happened.
    pub change: u64,
    /// When it happened last, by the clock of the shards.
    pub at_ms: Millis,
    pub what: What,
    /// Where to, beneath the root, or what was asked for instead; cut if it is long.
    pub path: String,
    pub client: Option<SocketAddr>,
    pub user: Option<String>,
    pub session: Option<SessionId>,
    /// How often.
    pub times: u64,
}

/// What.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A packet was refused.
    Refused(Refusal),
    /// A session ended.
    Ended {
        ending: Ending,
        by_administrator: bool,
        bytes: u64,
        duration_ms: Option<u64>,
    },
}

/// What came into one folder.
#[derive(Debug, Default)]
pub struct Deliveries {
    /// When a file last arrived; `None` if none did.
    pub delivered_ms: Cell<Option<Millis>>,
    pub files: Cell<u64>,
    pub bytes: Cell<u64>,
}

impl Deliveries {
    /// A file arrived.
    pub fn note_delivery(&self, now: Millis, bytes: u64) {
        self.delivered_ms.set(Some(now));
        self.files.set(self.files.get() + 1);
        self.bytes.set(self.bytes.get().saturating_add(bytes));
    }
}

/// A folder, for a person to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderRow {
    /// With a slash before it and one behind it; empty for all that are not told apart.
    pub name: String,
    /// Uploads that have not ended.
    pub open: u64,
    pub delivered_ms: Option<Millis>,
    pub files: u64,
    pub bytes: u64,
}

/// What happened lately.
#[derive(Debug, Default)]
pub struct Chronicle {
    troubles: VecDeque<Happened>,
    good: VecDeque<Happened>,
    changes: u64,
    /// Each is also held by its open sessions.
    folders: BTreeMap<Box<str>, Rc<Deliveries>>,
    /// All folders beyond the bound.
    others: Rc<Deliveries>,
}

impl Chronicle {
    /// Something happened.
    pub fn note(&mut self, now: Millis, event: &Event<'_>) {
        match event {
            Event::Refused {
                peer,
                session,
                path,
                target,
                why,
                ..
            } if is_trouble(why) => {
                let target = target.map(stranger::in_short).unwrap_or_default();
                let path = path.unwrap_or(&target);
                self.note_refusal(now, *peer, *session, path, why);
            }
            Event::DownloadRefused {
                peer,
                path,
                why: Some(why),
                ..
            } if is_trouble(why) => {
                self.note_refusal(now, *peer, None, path.unwrap_or_default(), why);
            }
            Event::SessionEnded {
                session,
                ending,
                by_administrator,
                path,
                received,
                duration_ms,
                user,
                peer,
                ..
            } => {
                let what = What::Ended {
                    ending: *ending,
                    by_administrator: *by_administrator,
                    bytes: *received,
                    duration_ms: *duration_ms,
                };
                let happened = self.next(now, what, path, *peer);
                let entry = Happened {
                    session: Some(*session),
                    user: user.map(str::to_owned),
                    ..happened
                };
                match ending.is_good() {
                    true => push(&mut self.good, entry),
                    false => push(&mut self.troubles, entry),
                }
            }
            _ => {}
        }
    }

    fn note_refusal(
        &mut self,
        now: Millis,
        peer: SocketAddr,
        session: Option<SessionId>,
        path: &str,
        why: &Refusal,
    ) {
        let path = cut(path);
        let is_same = |entry: &Happened| {
            let is_why = matches!(&entry.what, What::Refused(before) if before == why);
            let is_client = entry.client.is_some_and(|client| client.ip() == peer.ip());
            is_why && is_client && entry.session == session && entry.path == path
        };
        let last = self.troubles.iter().rev().take(SAME_AMONG);
        let back = last.enumerate().find(|(_, entry)| is_same(entry));
        let at = back.map(|(back, _)| self.troubles.len() - 1 - back);
        if let Some(mut entry) = at.and_then(|at| self.troubles.remove(at)) {
            self.changes += 1;
            entry.change = self.changes;
            entry.at_ms = now;
            entry.times += 1;
            entry.client = Some(peer);
            self.troubles.push_back(entry);
            return;
        }
        let what = What::Refused(why.clone());
        let happened = self.next(now, what, path, Some(peer));
        let entry = Happened {
            session,
            ..happened
        };
        push(&mut self.troubles, entry);
    }

    fn next(
        &mut self,
        now: Millis,
        what: What,
        path: &str,
        client: Option<SocketAddr>,
    ) -> Happened {
        self.changes += 1;
        Happened {
            id: self.changes,
            change: self.changes,
            at_ms: now,
            what,
            path: cut(path).to_owned(),
            client,
            user: None,
            session: None,
            times: 1,
        }
    }

    /// What changed behind this change, in the order of changes; so many at the most.
    pub fn after(&self, change: u64, count: usize) -> Vec<Happened> {
        let new = |entries: &VecDeque<Happened>| {
            let from = entries.partition_point(|entry| entry.change <= change);
            entries.range(from..).take(count).cloned().collect()
        };
        let mut found: Vec<Happened> = new(&self.troubles);
        found.extend(new(&self.good));
        found.sort_by_key(|entry| entry.change);
        found.truncate(count);
        found
    }

    /// The troubles, the last one first.
    pub fn troubles(&self) -> impl Iterator<Item = &Happened> {
        self.troubles.iter().rev()
    }

    /// The folder of a file: the first one beneath its location. An upload that is open holds it.
    pub fn folder(&mut self, location: &str, path: &str) -> Rc<Deliveries> {
        let name = first_folder(location, path);
        if let Some(folder) = self.folders.get(name) {
            return Rc::clone(folder);
        }
        if self.folders.len() >= FOLDERS_MAX {
            return Rc::clone(&self.others);
        }
        let folder = Rc::<Deliveries>::default();
        self.folders.insert(name.into(), Rc::clone(&folder));
        folder
    }

    /// Folders, in the order of their names: those behind this one. The last slice ends with all
    /// that are not told apart, if there are any.
    pub fn folders_after(&self, after: Option<&str>, count: usize) -> Vec<FolderRow> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let found = self.folders.range::<str, _>((from, Unbounded)).take(count);
        let rows = found.map(|(name, folder)| row(name, folder));
        rows.collect()
    }

    /// All folders that are not told apart.
    pub fn others(&self) -> FolderRow {
        row("", &self.others)
    }
}

fn row(name: &str, folder: &Rc<Deliveries>) -> FolderRow {
    FolderRow {
        name: name.to_owned(),
        // One is the table itself.
        open: Rc::strong_count(folder) as u64 - 1,
        delivered_ms: folder.delivered_ms.get(),
        files: folder.files.get(),
        bytes: folder.bytes.get(),
    }
}

/// `in/host-7` of `in/host-7/logs/a.zip` where the location is `in`; the location where there is
/// no folder between.
fn first_folder<'p>(location: &str, path: &'p str) -> &'p str {
    let path = path.trim_start_matches('/');
    let beneath = (path.get(location.len()..))
        .filter(|_| path.as_bytes().starts_with(location.as_bytes()))
        .unwrap_or(path);
    let start = path.len() - beneath.trim_start_matches('/').len();
    match path[start..].find('/') {
        Some(end) => &path[..start + end],
        None => path[..start].trim_end_matches('/'),
    }
}

/// What obeys is no trouble, and each client begins by not saying who it is.
fn is_trouble(why: &Refusal) -> bool {
    let is_question = matches!(why, Refusal::Unauthorized(asked) if asked.why == NotShown::Nothing);
    !is_question && why.reaction() != Reaction::Obeys
}

fn push(entries: &mut VecDeque<Happened>, entry: Happened) {
    if entries.len() >= HAPPENED_MAX {
        entries.pop_front();
    }
    entries.push_back(entry);
}

fn cut(name: &str) -> &str {
    let end = name.floor_char_boundary(NAME_BYTES_MAX);
    &name[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(chronicle: &mut Chronicle, now: Millis, path: &str, why: &Refusal) {
        let event = Event::Refused {
            peer: ([192, 0, 2, 1], 5).into(),
            session: None,
            path: Some(path),
            target: None,
            user: None,
            why,
        };
        chronicle.note(now, &event);
    }

    fn end(chronicle: &mut Chronicle, path: &str, ending: Ending) {
        let event = Event::SessionEnded {
            session: SessionId::from_u128(7),
            ending,
            by_administrator: false,
            path,
            location: "",
            series: 0,
            received: 9,
            total: Some(9),
            duration_ms: Some(5),
            idle_ms: 0,
            interruptions: 0,
            connections: 1,
            agent: None,
            user: Some("anna"),
            proof: None,
            peer: None,
            digests: None,
            object: None,
            remedy: None,
        };
        chronicle.note(1, &event);
    }

    #[test]
    fn a_target_that_is_no_path_is_shown_without_its_user_and_its_query() {
        let mut chronicle = Chronicle::default();
        let event = Event::Refused {
            peer: ([192, 0, 2, 1], 5).into(),
            session: None,
            path: None,
            target: Some(b"http://anna:sesame@h/a?token=b"),
            user: None,
            why: &Refusal::TargetExists,
        };
        chronicle.note(1, &event);
        let shown = chronicle.troubles().next().map(|entry| &*entry.path);
        assert_eq!(shown, Some("http://\u{2026}@h/a?\u{2026}"));
    }

    #[test]
    fn one_client_that_repeats_itself_is_one_entry_that_moves_to_the_end() {
        let mut chronicle = Chronicle::default();
        refuse(&mut chronicle, 1, "a", &Refusal::TargetExists);
        refuse(&mut chronicle, 2, "b", &Refusal::DiskFull);
        let seen = chronicle.after(0, 9);
        refuse(&mut chronicle, 3, "a", &Refusal::TargetExists);
        let new = chronicle.after(seen[1].change, 9);
        assert_eq!(new.len(), 1);
        assert_eq!((new[0].id, new[0].times, new[0].at_ms), (seen[0].id, 2, 3));
        assert_eq!(chronicle.troubles().next(), Some(&new[0]));
        // What a client obeys, and the first question who it is, are no trouble.
        refuse(&mut chronicle, 4, "a", &Refusal::Gap { received: 1 });
        assert_eq!(chronicle.after(new[0].change, 9), []);
    }

    #[test]
    fn good_ends_push_out_no_trouble_and_everything_is_bounded() {
        let mut chronicle = Chronicle::default();
        end(&mut chronicle, "in/x", Ending::Poisoned);
        for number in 0..2 * HAPPENED_MAX {
            end(&mut chronicle, &format!("a{number}"), Ending::Published);
        }
        let all = chronicle.after(0, usize::MAX);
        assert_eq!(all.len(), HAPPENED_MAX + 1);
        assert_eq!(
            (all[0].path.as_str(), all[0].user.as_deref()),
            ("in/x", Some("anna"))
        );
        assert!(all.is_sorted_by_key(|entry| entry.change));
        for number in 0..2 * HAPPENED_MAX {
            refuse(&mut chronicle, 1, &format!("b{number}"), &Refusal::DiskFull);
        }
        assert_eq!(chronicle.troubles().count(), HAPPENED_MAX);
        // Slice by slice, nothing is passed over.
        let (mut change, mut count) = (0, 0);
        while let Some(last) = chronicle.after(change, 100).last() {
            count += chronicle.after(change, 100).len();
            change = last.change;
        }
        assert_eq!(count, 2 * HAPPENED_MAX);
        refuse(&mut chronicle, 1, &"ä".repeat(4_000), &Refusal::DiskFull);
        let long = chronicle.troubles().next().unwrap();
        assert_eq!(long.path.len(), NAME_BYTES_MAX);
    }

    #[test]
    fn the_first_folder_beneath_the_location_counts() {
        for (location, path, folder) in [
            ("", "host-7/logs/a.zip", "host-7"),
            ("", "a.zip", ""),
            ("in", "in/host-7/a.zip", "in/host-7"),
            ("in", "in/a.zip", "in"),
            ("in", "in//host-7/a.zip", "in//host-7"),
            // Its location is another one since a reload.
            ("in/ä", "on/host-7/a.zip", "on"),
        ] {
            assert_eq!(first_folder(location, path), folder, "{location} {path}");
        }
    }

    #[test]
    fn a_folder_knows_what_came_and_what_is_open() {
        let mut chronicle = Chronicle::default();
        let open = chronicle.folder("", "h/a");
        let second = chronicle.folder("", "h/b");
        second.note_delivery(5, 100);
        drop(second);
        let rows = chronicle.folders_after(None, 9);
        let expected = FolderRow {
            name: "h".to_owned(),
            open: 1,
            delivered_ms: Some(5),
            files: 1,
            bytes: 100,
        };
        assert_eq!(rows, [expected]);
        drop(open);
        assert_eq!(chronicle.folders_after(None, 9)[0].open, 0);
        assert!(chronicle.folders_after(Some("h"), 9).is_empty());
        for number in 0..FOLDERS_MAX {
            chronicle.folder("", &format!("f{number}/a"));
        }
        let _one_more = chronicle.folder("", "z/a");
        assert_eq!(chronicle.folders_after(None, usize::MAX).len(), FOLDERS_MAX);
        // The last name of the loop, and this one.
        assert_eq!(chronicle.others().open, 1);
    }
}
