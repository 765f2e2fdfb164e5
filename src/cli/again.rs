//! The settings of a server that runs, read once more: by a reload, and before it makes way.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use bitsd::config::{Config, ConfigError, SettingsFile, Settled};

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
}

impl Again {
    /// Reads them for the first time.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn begin(settings: Settings) -> Result<(Config, Self), ConfigError> {
        let again = Self {
            settings,
            file: OnceLock::new(),
            had_any: AtomicBool::new(false),
        };
        Ok((again.resolve()?, again))
    }

    /// The file that they are read from, if there is one.
    pub fn file(&self) -> Option<PathBuf> {
        self.file.get().cloned()
    }

    /// Reads them.
    ///
    /// # Errors
    /// [`ConfigError`], also where there is no key in the file any more.
    pub fn resolve(&self) -> Result<Config, ConfigError> {
        let named = || self.settings.file().map(PathBuf::from);
        let path = self.file().or_else(named);
        let file = path.as_deref().map(SettingsFile::read).transpose()?;
        let has_any = file.as_ref().is_some_and(SettingsFile::has_any);
        let Some(path) = path else {
            return Ok(Settled::resolve(self.settings.flags(), None)?.config);
        };
        if !has_any && self.had_any.load(Ordering::Relaxed) {
            return Err(ConfigError::emptied(path));
        }
        let settled = Settled::resolve(self.settings.flags(), file)?;
        self.had_any.fetch_or(has_any, Ordering::Relaxed);
        // From now on it has to be there.
        let _same_as_before = self.file.set(path);
        Ok(settled.config)
    }
}
