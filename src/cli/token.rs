//! `bitsd token`: a new token for a user.

use std::fs::{File, Metadata, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use bitsd::auth::accounts::{Accounts, BadAccount, digest_of, is_name};
use bitsd::config::ACCOUNTS_BYTES_MAX;
use bitsd::http::digest::Hex;
use bitsd::named_file;

/// Bytes of randomness in a token: nobody guesses 256 bits.
const TOKEN_BYTES: usize = 32;

pub const EXAMPLES: &str = "\
Examples:
  bitsd token collector-7                             prints the token and the line for tokens_file
  bitsd token collector-7 --file /etc/bitsd/tokens    appends the line itself

The token is shown this once; the file has its digest only. `systemctl reload bitsd` (SIGHUP) makes
a running server read it. Exit codes: 0 it is made, 1 the file cannot be written, 2 the name is none.";

/// Flags of `bitsd token`.
#[derive(Debug, clap::Args)]
pub struct Token {
    /// The user whom the token is for.
    user: String,
    /// The file of `tokens_file`, to which the line is appended; made if it is missing.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum NoToken {
    /// The user's name cannot stand in the file.
    #[error("{0}")]
    Name(BadAccount),
    /// In `allow` it means others.
    #[error(
        "{0:?} is no name of one user: `allow` takes * for everybody, and what begins with @ for a group"
    )]
    MeansOthers(String),
    /// The kernel gives no randomness.
    #[error("no randomness: {0}")]
    Randomness(io::Error),
    /// The server would not take the file with it.
    #[error("{file}:{line}: {why}: nothing is appended", file = file.display())]
    Broken {
        /// The file.
        file: PathBuf,
        /// Of what stands in it, from 1.
        line: usize,
        /// What is wrong with that line.
        why: BadAccount,
    },
    /// The line could not be appended.
    #[error("cannot write {0}: {1}")]
    File(PathBuf, #[source] io::Error),
}

/// A token that was made.
#[derive(Debug)]
pub struct Made {
    /// What is to be shown, this once.
    pub shown: String,
    /// The file with its line, and how long it was without it and is with it.
    appended: Option<(File, [u64; 2])>,
}

impl Made {
    /// It could not be shown: nobody has it, and its line would be nobody's.
    pub fn take_back(self) {
        let Some((file, [before, with_it])) = self.appended else {
            return;
        };
        // Unless somebody else has appended since. What is left is a line for a token that nobody
        // knows.
        if file.metadata().is_ok_and(|now| now.len() == with_it) {
            let _best_effort = file.set_len(before).and_then(|()| file.sync_all());
        }
    }
}

impl Token {
    /// Makes one.
    ///
    /// # Errors
    /// [`NoToken`]
    pub fn make(&self) -> Result<Made, NoToken> {
        // Behind it, a line would be a comment.
        if !is_name(&self.user) || self.user.starts_with('#') {
            return Err(NoToken::Name(BadAccount::Name(self.user.clone())));
        }
        if self.user == "*" || self.user.starts_with('@') {
            return Err(NoToken::MeansOthers(self.user.clone()));
        }
        let mut bytes = [0; TOKEN_BYTES];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| NoToken::Randomness(error.into()))?;
        let token = URL_SAFE_NO_PAD.encode(bytes);
        let line = format!("{}:{}\n", self.user, Hex(&digest_of(&token)));
        // The line must be one that the server takes.
        Accounts::parse("", "", &line).map_err(|(_, bad)| NoToken::Name(bad.why))?;
        match &self.file {
            Some(file) => Ok(Made {
                appended: Some(append(file, &line)?),
                shown: format!("{token}\n"),
            }),
            None => Ok(Made {
                appended: None,
                shown: format!("{token}\nline for tokens_file: {line}"),
            }),
        }
    }
}

/// Appends a line, to the last one too if that has no end. Half of one would keep the server from
/// reading the file, so it is taken away again. The file, and how long it was before and is now.
fn append(path: &Path, line: &str) -> Result<(File, [u64; 2]), NoToken> {
    let failed = |error| NoToken::File(path.to_owned(), error);
    let (mut file, before) = open(path).map_err(failed)?;
    let length = before.len() as u64;
    let gap = match before.last() {
        None | Some(b'\n') => "",
        Some(_) => "\n",
    };
    let more = format!("{gap}{line}");
    let all = String::from_utf8_lossy(&before) + &*more;
    if let Err((_, bad)) = Accounts::parse("", "", &all) {
        return Err(NoToken::Broken {
            file: path.to_owned(),
            line: bad.number,
            why: bad.why,
        });
    }
    let written = file.write_all(more.as_bytes());
    let result = written.and_then(|()| file.sync_all());
    if let Err(error) = result {
        let _ = file.set_len(length);
        return Err(failed(error));
    }
    Ok((file, [length, length + more.len() as u64]))
}

/// Opens the file of tokens, and reads what stands in it.
fn open(path: &Path) -> io::Result<(File, Vec<u8>)> {
    let (file, is_new) = named_file::open_to_append(path)?;
    if is_new {
        let folder = path.parent().filter(|above| !above.as_os_str().is_empty());
        share_with_group(&file, &std::fs::metadata(folder.unwrap_or(Path::new(".")))?);
    }
    let before = named_file::read_all(&file, ACCOUNTS_BYTES_MAX - ROOM_BYTES)?;
    Ok((file, before))
}

/// Whoever makes the file is mostly root, and the server is not: a folder such as /etc/bitsd
/// belongs to the server's group, and then the new file does as well. Only where the folder is
/// there for that group alone: one that is open to everybody may have the group of whoever made it,
/// as a home has, and says nothing of who is to read a file.
fn share_with_group(file: &File, folder: &Metadata) {
    let is_for_a_group = folder.mode() & 0o010 != 0 && folder.mode() & 0o007 == 0;
    let is_of_a_group = folder.gid() != 0 && is_for_a_group;
    if !is_of_a_group || !rustix::process::geteuid().is_root() {
        return;
    }
    // Where it cannot be, the owner has it, as anybody who looks at the file sees.
    let group = rustix::fs::Gid::from_raw(folder.gid());
    if rustix::fs::fchown(file, None, Some(group)).is_ok() {
        let _is_shared = file.set_permissions(Permissions::from_mode(0o640));
    }
}

/// More than any line has: with it, the file must not be larger than the server takes.
const ROOM_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::skipping::skip;

    #[test]
    fn a_token_is_one_that_the_server_takes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        fs::write(&path, "# ours").unwrap();
        let token = |user: &str| Token {
            user: user.to_owned(),
            file: Some(path.clone()),
        };
        let shown = |user: &str| token(user).make().unwrap().shown;
        let (one, other) = (shown("a b"), shown("c"));
        assert_ne!(one, other);
        let accounts = Accounts::parse("", "", &fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(
            accounts.owner_of(one.trim()).map(|user| &**user),
            Some("a b")
        );
        assert_eq!(
            accounts.owner_of(other.trim()).map(|user| &**user),
            Some("c")
        );
        for name in ["a:b", "", "a\nb", " a", "#a", "*", "@ops"] {
            let refused = token(name).make().unwrap_err();
            assert!(refused.to_string().contains("is no name"), "{refused}");
        }
        // Nobody has seen it.
        token("d").make().unwrap().take_back();
        assert_eq!(
            Accounts::parse("", "", &fs::read_to_string(&path).unwrap()).unwrap(),
            accounts
        );
    }

    #[test]
    fn nothing_is_appended_to_a_file_that_no_server_takes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        fs::write(&path, "# ours\nbroken\n").unwrap();
        let (user, file) = ("a".to_owned(), Some(path.clone()));
        let refused = Token { user, file }.make().unwrap_err().to_string();
        assert!(refused.contains("tokens:2: "), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), b"# ours\nbroken\n");
    }

    #[test]
    fn a_new_file_goes_to_the_group_of_its_folder() {
        if !rustix::process::geteuid().is_root() {
            return skip("only root gives files to groups that it is not in");
        }
        let folder = tempfile::tempdir().unwrap();
        let group = Some(rustix::fs::Gid::from_raw(4242));
        rustix::fs::chown(folder.path(), None, group).unwrap();
        for (of_folder, gid, mode) in [
            (0o750, 4242, 0o640),
            (0o2770, 4242, 0o640),
            (0o700, 0, 0o600),
            (0o755, 0, 0o600),
            (0o751, 0, 0o600),
        ] {
            fs::set_permissions(folder.path(), Permissions::from_mode(of_folder)).unwrap();
            let path = folder.path().join(format!("tokens-{of_folder:o}"));
            let token = Token {
                user: "a".to_owned(),
                file: Some(path.clone()),
            };
            token.make().unwrap();
            // What an administrator has set since then stays.
            let found = fs::metadata(&path).unwrap();
            assert_eq!((found.gid(), found.mode() & 0o777), (gid, mode));
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            token.make().unwrap();
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_new_file_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = Some(folder.path().join("tokens"));
        let user = "a".to_owned();
        let token = Token { user, file };
        token.make().unwrap();
        let mode = fs::metadata(folder.path().join("tokens"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0);
        let file = Some(folder.path().join("none/tokens"));
        let token = Token { file, ..token };
        assert!(matches!(token.make(), Err(NoToken::File(..))));
    }
}
