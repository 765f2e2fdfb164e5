//! The names of all files that the server keeps: made here only, and understood here only.

use crate::bits::session_id::SessionId;

/// Name of the file that holds the bytes of a session.
pub fn part_name(id: SessionId) -> String {
    format!("{}{PART_SUFFIX}", id.plain())
}

const PART_SUFFIX: &str = ".part";

/// Name of the file that holds the reply to a session's upload.
pub fn reply_name(id: SessionId) -> String {
    format!("{}.reply", id.plain())
}

/// Name of a digest file until it stands beside its file.
pub fn digest_name(id: SessionId) -> String {
    format!("{}.sha256", id.plain())
}

/// Name of the note of what an object store was begun to be told of a session's file.
pub fn note_name(id: SessionId) -> String {
    format!("{}{NOTE_SUFFIX}", id.plain())
}

const NOTE_SUFFIX: &str = ".object";
/// What is written anew has this ending until it is whole.
const HALF_SUFFIX: &str = ".new";

/// Whether it is the name of such a note that is being written, or was when the server ended.
pub fn is_half_note(name: &str) -> bool {
    let whole = name.strip_suffix(HALF_SUFFIX).map(parse_name);
    matches!(whole, Some(WorkName::Note(_)))
}

/// Name of a file that holds records.
pub fn journal_name(generation: u64, shard: usize) -> String {
    format!("{generation:016x}-{shard}.journal")
}

/// No start comes so far, nor does a journal that is renewed: what has a higher number was not made
/// here, and there is always one more to count to.
const GENERATION_MAX: u64 = u64::MAX >> 1;

/// The generation of the journals of a start that finds these names: one that none of them has.
pub fn next_generation<'n>(names: impl Iterator<Item = &'n str>) -> u64 {
    let generations = names.filter_map(|name| match parse_name(name) {
        WorkName::Journal { generation } => Some(generation),
        _ => None,
    });
    generations.max().map_or(0, |last| last + 1)
}

/// What a name in the work directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkName {
    /// The bytes of a session.
    Part(SessionId),
    /// What its application has for the client.
    Reply(SessionId),
    /// Its digest file, on its way.
    Digest(SessionId),
    /// What an object store knows of the file of a session.
    Note(SessionId),
    /// What was set aside by a former start; if it is the bytes of a session, of which.
    Aside(Option<SessionId>),
    /// Records of sessions.
    Journal {
        /// Later starts have higher ones.
        generation: u64,
    },
    /// A note of the server.
    Ours,
    /// Nothing that we would have made, but nearly: an id or a number that is spelled otherwise,
    /// before one of our endings; or a number that we never come to.
    Misspelt,
    /// What a file system keeps in its folders.
    OfFileSystem,
    /// Somebody else's.
    Foreign,
}

/// Which names of a folder somebody asks for: there may be very many others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamesOf {
    /// Those of journals.
    Journals,
    /// Those of files of the sessions of one shard, and of the first one what nobody has made.
    OfShard {
        /// Its number.
        index: usize,
        /// How many there are.
        count: usize,
    },
}

impl NamesOf {
    /// Whether this is one of them.
    pub fn has(self, name: &str) -> bool {
        match (self, parse_name(name)) {
            (Self::Journals, WorkName::Journal { .. })
            | (Self::OfShard { index: 0, .. }, WorkName::Misspelt) => true,
            (
                Self::OfShard { index, count },
                WorkName::Part(id)
                | WorkName::Reply(id)
                | WorkName::Digest(id)
                | WorkName::Aside(Some(id)),
            ) => id.shard(count) == index,
            _ => false,
        }
    }
}

/// Name of the file whose lock keeps a second server out.
pub const LOCK_NAME: &str = "lock";
/// The note of the last clean stop. It has the ending of what is set aside, and keeps it: earlier
/// versions look for it by this name.
pub const CLEAN_NAME: &str = "clean.aside";
/// Whose shelf it is.
pub const OWNER_NAME: &str = "owner";
/// The list of the other shelves.
pub const SHELVES_NAME: &str = "shelves";
/// The file of a shelf that grows for a commit.
pub const COMMIT_NAME: &str = "commit";
/// What is remembered of the end of the custody ledger.
pub const LEDGER_NAME: &str = "ledger";
/// A file that is renamed to a root and back at start, as publication will do.
pub const TRIAL_NAME: &str = "trial";
/// Ending of files that could not be understood and were renamed out of the way.
const ASIDE_SUFFIX: &str = ".aside";

/// So many files of one name are set aside.
const ASIDE_MAX: usize = 100;

/// The names for what is set aside, in the order in which they are tried: what has one of them was
/// set aside before, and stays.
pub fn asides(name: &str) -> impl Iterator<Item = String> {
    let first = format!("{name}{ASIDE_SUFFIX}");
    let next = move |number| format!("{name}.{number}{ASIDE_SUFFIX}");
    std::iter::once(first).chain((1..ASIDE_MAX).map(next))
}

/// What file systems keep in their first folder, which may be a folder of ours: ext4 and XFS repair
/// into the first one, the next hold quotas, keys, snapshots and what was deleted.
const OF_FILE_SYSTEMS: [&str; 10] = [
    "lost+found",
    "aquota.user",
    "aquota.group",
    "quota.user",
    "quota.group",
    ".fscrypt",
    ".snapshot",
    ".snapshots",
    ".zfs",
    ".glusterfs",
];
/// A file that somebody on NFS has removed while it was open has this beginning.
const REMOVED_ON_NFS: &str = ".nfs";

/// Whether it is the name of something that a file system keeps.
fn is_of_file_system(name: &str) -> bool {
    let removed = name.strip_prefix(REMOVED_ON_NFS);
    OF_FILE_SYSTEMS.contains(&name)
        || removed.is_some_and(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// What stands behind a name.
pub fn parse_name(name: &str) -> WorkName {
    let name_itself = name.strip_suffix(HALF_SUFFIX).unwrap_or(name);
    let notes = [
        LOCK_NAME,
        OWNER_NAME,
        SHELVES_NAME,
        COMMIT_NAME,
        LEDGER_NAME,
        TRIAL_NAME,
        CLEAN_NAME,
    ];
    let is_note = notes.contains(&name_itself) || is_half_note(name);
    if let Some(whole) = name.strip_suffix(ASIDE_SUFFIX)
        && !is_note
    {
        return WorkName::Aside(whose_bytes(whole));
    }
    if is_note || name_itself.ends_with(ASIDE_SUFFIX) {
        return WorkName::Ours;
    }
    if is_of_file_system(name) {
        return WorkName::OfFileSystem;
    }
    let Some((stem, suffix)) = name.rsplit_once('.') else {
        return WorkName::Foreign;
    };
    // Only the exact spelling: another one would be found again under the wrong name.
    let id = || SessionId::parse_plain(stem);
    let known = match suffix {
        "part" => id().map(WorkName::Part),
        "reply" => id().map(WorkName::Reply),
        "sha256" => id().map(WorkName::Digest),
        "object" => id().map(WorkName::Note),
        "journal" => parse_journal_stem(stem)
            .filter(|(generation, shard)| {
                *generation <= GENERATION_MAX && journal_name(*generation, *shard) == name
            })
            .map(|(generation, _)| WorkName::Journal { generation }),
        _ => return WorkName::Foreign,
    };
    // What a person calls a file is mostly no number.
    let is_number = |byte: u8| byte.is_ascii_hexdigit() || b"-{}".contains(&byte);
    known.unwrap_or(match !stem.is_empty() && stem.bytes().all(is_number) {
        true => WorkName::Misspelt,
        false => WorkName::Foreign,
    })
}

/// Whose bytes were set aside, by the name without that ending; all but the first have a number.
fn whose_bytes(whole: &str) -> Option<SessionId> {
    let numbered = whole.rsplit_once('.');
    let first = numbered.filter(|(_, number)| number.parse::<usize>().is_ok());
    let name = first.map_or(whole, |(name, _)| name);
    name.strip_suffix(PART_SUFFIX)
        .and_then(SessionId::parse_plain)
}

fn parse_journal_stem(stem: &str) -> Option<(u64, usize)> {
    let (generation, shard) = stem.split_once('-')?;
    Some((
        u64::from_str_radix(generation, 16).ok()?,
        shard.parse().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shard_asks_for_what_is_its_own() {
        let of = |index| NamesOf::OfShard { index, count: 3 };
        for number in 0..100 {
            let id = SessionId::from_u128(number << 100 | number);
            let aside = asides(&part_name(id)).nth(usize::try_from(number).unwrap());
            let names = [part_name(id), reply_name(id), digest_name(id)];
            for name in names.into_iter().chain(aside) {
                let shards: Vec<_> = (0..3).filter(|&index| of(index).has(&name)).collect();
                assert_eq!(shards, [id.shard(3)], "{name}");
                assert!(!NamesOf::Journals.has(&name));
            }
        }
        let (misspelt, journal) = ("00-.part", journal_name(3, 7));
        assert!(of(0).has(misspelt) && !of(1).has(misspelt));
        assert!(NamesOf::Journals.has(&journal) && !of(0).has(&journal));
        for name in ["lock", "lost+found", "letter"] {
            assert!(!of(0).has(name) && !NamesOf::Journals.has(name), "{name}");
        }
    }

    #[test]
    fn whose_bytes_were_set_aside_is_in_the_name() {
        let id = SessionId::from_u128(7);
        for aside in asides(&part_name(id)) {
            assert_eq!(parse_name(&aside), WorkName::Aside(Some(id)), "{aside}");
        }
        // That is a note.
        assert_eq!(parse_name(CLEAN_NAME), WorkName::Ours);
        let others = [
            format!("{}.aside", reply_name(id)),
            format!("{}.aside", journal_name(1, 0)),
            format!("{}.1.2.aside", part_name(id)),
            "1.part.aside".to_owned(),
        ];
        for name in others {
            assert_eq!(parse_name(&name), WorkName::Aside(None), "{name}");
        }
    }

    /// A start and each renewal count on from the highest.
    #[test]
    fn a_journal_that_nobody_could_count_on_from_is_none_of_ours() {
        let of = |generation| parse_name(&journal_name(generation, 0));
        for generation in [u64::MAX, u64::MAX - 1, GENERATION_MAX + 1] {
            assert_eq!(of(generation), WorkName::Misspelt, "{generation:x}");
        }
        let generation = GENERATION_MAX;
        assert_eq!(of(generation), WorkName::Journal { generation });
        let names = [journal_name(u64::MAX, 0), journal_name(6, 1)];
        assert_eq!(next_generation(names.iter().map(String::as_str)), 7);
    }
}
