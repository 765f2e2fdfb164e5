//! A secret and the file it came from. Nothing prints it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{Cause, ConfigError, Origin};
use super::utf8;
use crate::auth::keytab::{KEYTAB_BYTES_MAX, Keytab};
use crate::named_file;

/// What notifications and events are signed with (a key of HMAC, RFC 2104), or what a target of
/// events is shown. `Debug` and `Display` name only the file.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    file: PathBuf,
    bytes: Vec<u8>,
}

impl Secret {
    /// The bytes, 4,096 at the most, without white space at either end.
    pub fn expose(&self) -> &[u8] {
        &self.bytes
    }

    /// The file it was read from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Reads a file of 16 bytes or more; `origin` is where it is named.
    pub(super) fn read(
        origin: Origin,
        key: &'static str,
        file: PathBuf,
    ) -> Result<Self, ConfigError> {
        Self::read_at_least(BYTES_MIN, ("less than 16", "16"), (origin, key, file))
    }

    /// Reads a file of what others have made, which may be short.
    pub(super) fn read_short(
        origin: Origin,
        key: &'static str,
        file: PathBuf,
    ) -> Result<Self, ConfigError> {
        Self::read_at_least(1, ("no", "1"), (origin, key, file))
    }

    /// `words` are those for too few bytes, and for how few there may be.
    fn read_at_least(
        bytes_min: usize,
        words: (&'static str, &'static str),
        (origin, key, file): (Origin, &'static str, PathBuf),
    ) -> Result<Self, ConfigError> {
        let content = match named_file::read_secret(&file, FILE_BYTES_MAX) {
            Ok(content) => content,
            Err(error) => return Err(Cause::UnreadableFile(origin, key, file, error).into()),
        };
        let bytes = content.trim_ascii();
        let out_of_bounds = match bytes.len() {
            len if len < bytes_min => Some(words.0),
            ..=BYTES_MAX => None,
            _ => Some("more than 4096"),
        };
        if let Some(what) = out_of_bounds {
            return Err(Cause::SecretLength(origin, key, file, what, words.1).into());
        }
        Ok(Self {
            bytes: bytes.to_vec(),
            file,
        })
    }
}

/// Reads a file of accounts; `origin` is where it is named, by `key`.
pub(super) fn read_accounts(
    origin: Origin,
    key: &'static str,
    file: PathBuf,
) -> Result<String, ConfigError> {
    let read = named_file::read(&file, ACCOUNTS_BYTES_MAX).and_then(|content| {
        utf8::text(content).map_err(|why| {
            let (line, column) = (why.line, why.column);
            io::Error::other(format!("line {line}, column {column}: {why}"))
        })
    });
    read.map_err(|error| Cause::UnreadableFile(origin, key, file, error).into())
}

/// Reads a keytab; `origin` is where it is named.
pub(super) fn read_keytab(origin: Origin, file: PathBuf) -> Result<Keytab, ConfigError> {
    match named_file::read_secret(&file, KEYTAB_BYTES_MAX as u64) {
        Ok(content) => {
            Keytab::parse(content).map_err(|why| Cause::BadKeytab(origin, file, why).into())
        }
        Err(error) => Err(Cause::UnreadableFile(origin, "keytab", file, error).into()),
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the secret in {}", self.file.display())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// 128 bits, below which a key could be guessed.
const BYTES_MIN: usize = 16;
const BYTES_MAX: usize = 4_096;
/// Some 100,000 users.
pub const ACCOUNTS_BYTES_MAX: u64 = 16 << 20;
/// White space at the ends is read too, but not without end.
const FILE_BYTES_MAX: u64 = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "notification_secret_file";

    #[test]
    fn a_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let origin = || Origin::Flag("test".to_owned());
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let error = Secret::read(origin(), KEY, pipe).unwrap_err().to_string();
        assert!(error.contains("not a regular file"), "{error}");
    }

    fn read(content: &[u8]) -> Result<Secret, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, content).unwrap();
        Secret::read(Origin::Flag("--test".to_owned()), KEY, file)
    }

    #[test]
    fn white_space_at_the_ends_is_not_part_of_the_secret() {
        let secret = read(b"\n sixteen  letters\r\n").unwrap();
        assert_eq!(secret.expose(), b"sixteen  letters");
    }

    #[test]
    fn its_length_is_bounded() {
        for (bytes, is_good) in [
            (0, false),
            (15, false),
            (16, true),
            (4_096, true),
            (4_097, false),
            (100_000, false),
        ] {
            let result = read(&vec![b'x'; bytes]);
            assert_eq!(result.is_ok(), is_good, "{bytes}: {result:?}");
        }
        let message = read(b"short").unwrap_err().to_string();
        assert!(message.contains("/secret"), "{message}");
        assert!(message.contains("less than 16"), "{message}");
        assert!(!message.contains("short"), "{message}");
        let message = read(&[b'x'; 5_000]).unwrap_err().to_string();
        assert!(message.contains("more than 4096"), "{message}");
    }

    #[test]
    fn nothing_prints_it() {
        let secret = read(b"never to be seen").unwrap();
        for shown in [
            format!("{secret}"),
            format!("{secret:?}"),
            format!("{secret:#?}"),
        ] {
            assert!(shown.contains("/secret"), "{shown}");
            assert!(
                !shown.contains("never") && !shown.contains("110"),
                "{shown}"
            );
        }
    }
}
