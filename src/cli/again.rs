//! The settings of a server that runs, read once more: by a reload, and before it makes way.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use bitsd::config::{Config, ConfigError, Flags, SettingsFile, Settled};

use super::settings::Settings;

/// Where the settings of a start came from. That they are gone is no wish for the defaults, with
/// which nobody is asked who he is.
#[derive(Debug)]
pub struct Again {
    settings: Settings,
    /// The file that was read, be it by a reload that has found the usual one.
    file: OnceLock<PathBuf>,
    /// There was a key in it when it was read last.
    had_any: AtomicBool,
    /// The files of accounts in which something stood when they were read, and the keys that named
    /// them. That it is gone is no wish either: clients that hear that nobody knows them give up.
    /// Who takes out the last line on purpose can leave a comment.
    written: Mutex<BTreeSet<(&'static str, PathBuf)>>,
}

impl Again {
    /// Reads them for the first time. Those that the program before has checked hold as they were
    /// then, whatever stands in the file by now; with its work directory, if that has to stay.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn begin(
        settings: Settings,
        checked: Option<(&[u8], Option<&Path>)>,
    ) -> Result<(Config, Self), ConfigError> {
        let again = Self {
            settings,
            file: OnceLock::new(),
            had_any: AtomicBool::new(false),
            written: Mutex::default(),
        };
        let Some((text, work_dir)) = checked else {
            return Ok((again.resolve()?, again));
        };
        let file = again.settings.file_of(text);
        let settle = |flags| again.settle(flags, file.clone(), text);
        let flags = again.settings.flags();
        let kept = work_dir.map(|work| {
            let flags = flags.clone();
            settle(flags.said_by("the server before".to_owned(), "work_dir", work.as_os_str()))
        });
        // Where the two do not go together, a server without those uploads is better than none.
        let config = match kept {
            Some(Ok(config)) => config,
            Some(Err(_)) | None => settle(flags)?,
        };
        Ok((config, again))
    }

    /// Whether the settings file is another one than when this was read.
    pub fn has_changed_since(&self, text: &[u8]) -> bool {
        let now = self.path().as_deref().map(SettingsFile::bytes).transpose();
        now.map_or(true, |now| now.unwrap_or_default() != text)
    }

    /// The file that they are read from, if there is one.
    pub fn file(&self) -> Option<PathBuf> {
        self.file.get().cloned()
    }

    /// Reads them.
    ///
    /// # Errors
    /// [`ConfigError`], also where there is no key in the file any more, or nothing in a file of
    /// accounts.
    pub fn resolve(&self) -> Result<Config, ConfigError> {
        self.read().map(|(config, _)| config)
    }

    /// Reads them, and gives what stands in the file as well; nothing where there is none.
    ///
    /// # Errors
    /// As for [`Self::resolve`].
    pub fn read(&self) -> Result<(Config, Vec<u8>), ConfigError> {
        let path = self.path();
        let text = path.as_deref().map(SettingsFile::bytes).transpose()?;
        let text = text.unwrap_or_default();
        let config = self.settle(self.settings.flags(), path, &text)?;
        Ok((config, text))
    }

    fn path(&self) -> Option<PathBuf> {
        let named = || self.settings.file().map(Path::to_owned);
        self.file().or_else(named)
    }

    fn settle(
        &self,
        flags: Flags,
        path: Option<PathBuf>,
        text: &[u8],
    ) -> Result<Config, ConfigError> {
        let Some(path) = path else {
            let settled = Settled::resolve(flags, None)?;
            self.refuse_emptied(&settled.config)?;
            return Ok(settled.config);
        };
        let file = SettingsFile::of_bytes(&path, text.to_vec())?;
        let has_any = file.has_any();
        if !has_any && self.had_any.load(Ordering::Relaxed) {
            return Err(ConfigError::emptied(path));
        }
        let settled = Settled::resolve(flags, Some(file))?;
        self.refuse_emptied(&settled.config)?;
        self.had_any.fetch_or(has_any, Ordering::Relaxed);
        // From now on it has to be there.
        let _same_as_before = self.file.set(path);
        Ok(settled.config)
    }

    /// None of the files of accounts may have been emptied.
    fn refuse_emptied(&self, config: &Config) -> Result<(), ConfigError> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let (blank, others): (Vec<_>, Vec<_>) =
            (config.accounts.files.iter().cloned()).partition(|(.., is_blank)| *is_blank);
        let file = |(key, path, _)| (key, path);
        let mut blank = blank.into_iter().map(file);
        if let Some((key, path)) = blank.find(|file| written.contains(file)) {
            return Err(ConfigError::nobody_left(key, path));
        }
        written.extend(others.into_iter().map(file));
        Ok(())
    }
}
