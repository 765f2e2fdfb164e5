//! Flags of the clients that say who sends: by a name and a password, or by a token. No secret
//! stands on the command line, where every user of the machine could read it.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use thiserror::Error;

use bitsd::client::authorization::{Authorization, NotShowable};
use bitsd::client::secure::BadTrust;
use bitsd::client::url::Url;
use bitsd::named_file;
use zeroize::Zeroizing;

/// Who sends.
#[derive(Args, Clone, Debug)]
pub struct Proof {
    /// Upload as this user. The password comes from --password-file or BITSD_PASSWORD, or is asked
    /// for.
    #[arg(long, value_name = "NAME", value_parser = user)]
    user: Option<String>,
    /// The first line of this file is the password of --user.
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// Show the token in this file, instead of a name and a password.
    #[arg(long, value_name = "FILE", conflicts_with = "user")]
    token_file: Option<PathBuf>,
}

/// A name that can be shown.
fn user(text: &str) -> Result<String, NotShowable> {
    Authorization::basic(text, "").map(|_| text.to_owned())
}

/// Why nothing can be shown.
#[derive(Debug, Error)]
pub enum NoProof {
    /// A file cannot be read.
    #[error("cannot read {0}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// There is nobody to be asked.
    #[error(
        "no password: name a file by --password-file, or set BITSD_PASSWORD (there is no terminal to ask at)"
    )]
    NoPassword,
    /// The file that names a password has none.
    #[error("{0} has no password: its first line is empty")]
    EmptyFile(PathBuf),
    /// The terminal could not be asked.
    #[error("cannot ask for the password: {0}")]
    Terminal(#[source] io::Error),
    /// Nobody is believed.
    #[error("{0}")]
    Trust(#[from] BadTrust),
    /// What there is cannot be shown, or not to that server.
    #[error("{0}")]
    Bad(#[from] NotShowable),
}

impl Proof {
    /// What is shown to whoever answers at the URL; `None` if nothing is.
    ///
    /// # Errors
    /// [`NoProof`]
    pub fn credentials(&self, url: &Url) -> Result<Option<Authorization>, NoProof> {
        let credentials = match (&self.token_file, &self.user) {
            (Some(file), _) => Authorization::bearer(first_line(file)?.trim())?,
            (None, Some(user)) => {
                // Before anybody is asked for what must not be sent.
                Authorization::basic(user, "")?.check(url)?;
                Authorization::basic(user, &self.password(user)?)?
            }
            (None, None) => return Ok(None),
        };
        credentials.check(url)?;
        Ok(Some(credentials))
    }

    fn password(&self, user: &str) -> Result<Zeroizing<String>, NoProof> {
        if let Some(file) = &self.password_file {
            let line = first_line(file)?;
            return match line.is_empty() {
                true => Err(NoProof::EmptyFile(file.clone())),
                false => Ok(line),
            };
        }
        let password = std::env::var(PASSWORD).map(Zeroizing::new);
        // One that is set to nothing is not set.
        if let Some(password) = password.ok().filter(|password| !password.is_empty()) {
            return Ok(password);
        }
        if !io::stdin().is_terminal() {
            return Err(NoProof::NoPassword);
        }
        let asked = rpassword::prompt_password(format!("password of {user}: "));
        asked.map(Zeroizing::new).map_err(NoProof::Terminal)
    }
}

/// Without its end. What stands below it is for people.
fn first_line(file: &Path) -> Result<Zeroizing<String>, NoProof> {
    let failed = |error| NoProof::File(file.to_owned(), error);
    let bytes = named_file::read_or_pipe(file, SECRET_BYTES_MAX, PIPE_PATIENCE).map_err(failed)?;
    let text = std::str::from_utf8(&bytes);
    let text = text.map_err(|_| failed(io::Error::other("it is not text (UTF-8)")))?;
    let line = text.lines().next().unwrap_or_default();
    Ok(Zeroizing::new(line.to_owned()))
}

/// More than any password or token has.
const SECRET_BYTES_MAX: u64 = 64 << 10;
/// How long a program that writes one into a pipe (`--password-file <(..)`) may take: it may have
/// to ask somebody.
const PIPE_PATIENCE: Duration = Duration::from_secs(60);
const PASSWORD: &str = "BITSD_PASSWORD";
