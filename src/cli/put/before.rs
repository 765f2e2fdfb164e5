//! What an earlier run of the same command has uploaded.

use std::fs;
use std::path::PathBuf;

use bitsd::client::done::Done;
use bitsd::client::memory::{Identity, Memory};
use bitsd::client::url::Url;

use super::files::Target;

/// What is known of earlier runs; nothing where nothing is to be remembered.
#[derive(Debug)]
pub struct Before {
    kept: Option<(Memory, Done)>,
}

impl Before {
    /// Of the same files to the same URL.
    pub fn of(given: &[PathBuf], url: &Url, memory: Option<&Memory>) -> Self {
        let kept = memory.map(|memory| (memory.clone(), memory.done(given, url)));
        Self { kept }
    }

    /// Whether this very file was uploaded.
    pub fn has(&self, target: &Target) -> bool {
        let Some((memory, done)) = &self.kept else {
            return false;
        };
        let metadata = fs::metadata(&target.file).ok();
        let identity =
            metadata.and_then(|known| Identity::of(&target.file, &target.url, Some(&known)));
        let Some(identity) = identity.filter(|identity| done.has(identity)) else {
            return false;
        };
        // A run that was killed just then has left the note of its session.
        if let Some(entry) = memory.existing(identity) {
            entry.forget();
        }
        true
    }

    /// It is uploaded.
    pub fn add(&mut self, identity: &Identity) {
        if let Some((_, done)) = &mut self.kept {
            done.add(identity);
        }
    }

    /// The next run begins anew.
    pub fn forget(self) {
        if let Some((_, done)) = self.kept {
            done.forget();
        }
    }
}
