//! Looks at what is free on each file system, once a second, on a thread of its own: a file system
//! on a network may take its time. It says so in the log when too little is free, and when there is
//! enough again.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use rustix::fs::StatVfs;

use crate::vault::space::{Figures, Space};

/// How often it looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// The file systems that sessions are kept on.
#[derive(Clone)]
pub struct Spaces {
    watched: Arc<Watched>,
}

struct Watched {
    all: Mutex<Vec<FileSystem>>,
    /// See [`Figures::wanting`].
    bytes_min: u64,
    is_looking: bool,
}

#[derive(Clone)]
struct FileSystem {
    device: u64,
    directory: Arc<OwnedFd>,
    space: Arc<Space>,
}

impl Spaces {
    /// Nobody looks, and nothing is ever short.
    pub fn unwatched() -> Self {
        Self {
            watched: Arc::new(Watched {
                all: Mutex::default(),
                bytes_min: 0,
                is_looking: false,
            }),
        }
    }

    /// Begins to look; ends with the last of its clones.
    ///
    /// # Errors
    /// There is no thread for it.
    pub fn begin(bytes_min: u64) -> io::Result<Self> {
        let watched = Arc::new(Watched {
            all: Mutex::default(),
            bytes_min,
            is_looking: true,
        });
        let weak = Arc::downgrade(&watched);
        thread::Builder::new()
            .name("space".to_owned())
            .spawn(move || look_again_and_again(&weak))?;
        Ok(Self { watched })
    }

    /// The space of the file system of a directory, which is looked at from now on.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn of(&self, directory: &OwnedFd) -> io::Result<Arc<Space>> {
        let device = rustix::fs::fstat(directory)?.st_dev;
        let mut all = self.watched.lock();
        if let Some(known) = all.iter().find(|known| known.device == device) {
            return Ok(Arc::clone(&known.space));
        }
        let new = FileSystem {
            device,
            directory: Arc::new(directory.try_clone()?),
            space: Arc::default(),
        };
        if self.watched.is_looking {
            new.look(self.watched.bytes_min);
        }
        let space = Arc::clone(&new.space);
        all.push(new);
        Ok(space)
    }
}

impl Watched {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<FileSystem>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look_again_and_again(watched: &Weak<Watched>) {
    loop {
        thread::sleep(INTERVAL);
        let Some(watched) = watched.upgrade() else {
            return;
        };
        // Not under the lock, since it may take long.
        let all = watched.lock().clone();
        for file_system in all {
            file_system.look(watched.bytes_min);
        }
    }
}

/// What a file system says of its space to somebody who is not root.
pub fn figures(stat: &StatVfs) -> Figures {
    Figures {
        bytes_total: stat.f_blocks.saturating_mul(stat.f_frsize),
        bytes_free: stat.f_bavail.saturating_mul(stat.f_frsize),
        inodes_total: stat.f_files,
        inodes_free: stat.f_favail,
    }
}

impl FileSystem {
    fn look(&self, bytes_min: u64) {
        // Whoever cannot tell has told before; uploads find out what is the matter.
        let Ok(stat) = rustix::fs::fstatvfs(&*self.directory) else {
            return;
        };
        let figures = figures(&stat);
        let wanting = figures.wanting(bytes_min);
        match self.space.look(figures, bytes_min) {
            Some(true) => tracing::warn!(
                event = "space_low",
                directory = self.name(),
                bytes_free = figures.bytes_free,
                free_bytes_min = wanting.bytes_min,
                inodes_free = figures.inodes_free,
                remedy = "free some space (`df -h`, `df -i`); clients retry by themselves",
                "little space is left: new uploads are refused, running ones go on"
            ),
            Some(false) => tracing::info!(
                event = "space_enough",
                directory = self.name(),
                bytes_free = figures.bytes_free,
                "there is space again for new uploads"
            ),
            None => {}
        }
    }

    /// The path of the directory, for a person.
    fn name(&self) -> String {
        use std::os::fd::AsRawFd as _;
        let link = format!("/proc/self/fd/{}", self.directory.as_raw_fd());
        let path = std::fs::read_link(link).unwrap_or_default();
        path.to_string_lossy().into_owned()
    }
}
