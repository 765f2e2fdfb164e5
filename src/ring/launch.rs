//! The start: probe the kernel, take the directories, listen, and give each shard its seat.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use tokio::sync::{oneshot, watch};

use super::afoot::Afoot;
use super::directories::Directories;
use super::launch_error::{LaunchError, READY_PATIENCE};
use super::listeners;
use super::mailbox;
use super::reloader::{self, ReadSettings, Reloader};
use super::seat::{News, Seat, Stage};
use super::signals;
use super::space::Spaces;
use super::steward::{self, ToAsk};
use super::supervisor::{Start, supervise};
use super::tls::material::Material;
use super::watch::Watch;
use super::window;
use super::work_folder::{BadFolder, WorkFolder};
use super::{Boot, probe, readback};
use crate::admin::Doors;
use crate::admin::trace::Tap;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::notify::{Bounds, Notifier};
use crate::processors;
use crate::server::clients::Clients;
use crate::vault::readback::Dealt;
use crate::verify::{self, Verifier};

/// Where the settings come from, for the line that tells of the start, and how to read them again.
pub struct Source {
    /// The settings file, if there is one.
    pub file: Option<PathBuf>,
    /// Reads the settings again.
    pub read: ReadSettings,
}

/// Runs the server until a signal stops it. At SIGHUP the settings are read again.
///
/// # Errors
/// [`LaunchError`] if it cannot start.
pub fn serve(config: Config, source: Source) -> Result<(), LaunchError> {
    let begun = Instant::now();
    probe::io_uring()?;
    let descriptors = probe::descriptors(&config)?;
    let (directories, grounds) = Directories::take(&config)?;
    let directories = Arc::new(directories);
    let material = Material::read(&config, None).map_err(LaunchError::Tls)?;
    let (listeners, addresses) = listeners::listen(&config)?;
    let doors = Doors::open(&config).map_err(LaunchError::Admin)?;
    let boot = boot(&directories);
    let failed = |error| LaunchError::Folder(config.work_dir.clone(), BadFolder::Io(error));
    let generation = directories.next_generation().map_err(failed)?;
    let (news_sender, news) = mpsc::channel();
    let to_main = news_sender.clone();
    signals::catch(move |wish| to_main.send(News::Signal(wish)).is_ok())?;

    let config = Arc::new(config);
    let (stage, _) = watch::channel(Stage::Recover);
    let (senders, receivers) = mailbox::open(config.cores, config.limits.mailbox_max);
    let allowed = probe::allowed_processors();
    processors::settle(&allowed, config.cores);
    probe::warn_of_surprises(&config, &addresses, descriptors, allowed.len());
    let (alive_sender, alive) = mpsc::channel();
    let notifier = notifier(&config);
    let verifier = verifier(&config)?;
    let lookout = Watch::start(Arc::clone(&directories)).map_err(LaunchError::Thread)?;
    let spaces = spaces(&config);
    let clients = Arc::new(Clients::default());
    let metrics = Metrics::new(config.cores);
    let tap = Arc::new(Tap::default());
    let afoot = Afoot::default();
    let mut windows = Vec::new();
    let mut reloads = Vec::new();
    let mut deals = Vec::new();
    for (index, (letters, listeners)) in receivers.into_iter().zip(listeners).enumerate() {
        let (new_settings, to_adopt) = tokio::sync::mpsc::channel(1);
        reloads.push(new_settings);
        let (window, asked) = tokio::sync::mpsc::channel(window::INQUIRIES_MAX);
        windows.push(window);
        let (deal, dealt) = oneshot::channel();
        deals.push(deal);
        let seat = Seat {
            index,
            dealt,
            to_adopt,
            notifier: notifier.clone(),
            verifier: verifier.clone(),
            watch: lookout.clone(),
            spaces: spaces.clone(),
            clients: Arc::clone(&clients),
            config: Arc::clone(&config),
            boot: boot.clone(),
            metrics: Arc::clone(&metrics),
            tap: Arc::clone(&tap),
            asked,
            generation,
            roots: reloader::open(&grounds)?,
            directories: Arc::clone(&directories),
            listeners,
            secure: material.servers(),
            letters,
            senders: senders.clone(),
            afoot: afoot.clone(),
            stage: stage.subscribe(),
            news: news_sender.clone(),
            alive: alive_sender.clone(),
            processor: (!allowed.is_empty()).then(|| allowed[index % allowed.len()]),
        };
        seat.begin()?;
    }
    await_shards(&alive, config.cores)?;
    let to_main = news_sender.clone();
    deal_journals(directories.shelves().work(), generation, deals, news_sender)?;
    material.tell();
    let reloader = Reloader::new(&config, material, verifier, source.read, reloads);
    let to_ask = ToAsk::new(metrics, tap, windows, to_main);
    let (reloads, _until_the_end) = steward::begin(doors, reloader, &directories, to_ask)?;
    let start = Start::new(begun, source.file, addresses, descriptors);
    supervise(&config, &directories, &start, &stage, &news, &reloads)
}

fn boot(directories: &Directories) -> Boot {
    Boot {
        current: directories.boot(),
        stopped_cleanly: directories.stopped_cleanly().into(),
    }
}

fn notifier(config: &Config) -> Notifier {
    Notifier::new(Bounds {
        in_flight_max: config.limits.notifications_max,
        bytes_max: config.limits.notification_bytes_max,
    })
}

/// Threads that look at passwords and tickets, with the keys for these.
fn verifier(config: &Config) -> Result<Verifier, LaunchError> {
    let verifier = Verifier::start().map_err(LaunchError::Thread)?;
    let acceptance = verify::prepare(&config.accounts.keys);
    reloader::tell_of_tickets(config, &acceptance);
    verifier.accept_for(acceptance);
    Ok(verifier)
}

fn spaces(config: &Config) -> Spaces {
    Spaces::begin(config.limits.free_bytes_min).unwrap_or_else(|error| {
        let event = "space_unwatched";
        tracing::warn!(event, %error, "there is no thread that looks at what is free on the disks");
        Spaces::unwatched()
    })
}

/// Waits until every shard has a ring that answers. What it reads back after that may take its
/// time.
fn await_shards(alive: &mpsc::Receiver<io::Result<()>>, shards: usize) -> Result<(), LaunchError> {
    let deadline = Instant::now() + READY_PATIENCE;
    for _ in 0..shards {
        let left = deadline.saturating_duration_since(Instant::now());
        match alive.recv_timeout(left) {
            Ok(ready) => ready.map_err(LaunchError::Ring)?,
            Err(_) => return Err(LaunchError::RingSilent),
        }
    }
    Ok(())
}

/// Reads the journals of former starts once, and gives each shard its part.
fn deal_journals(
    work: WorkFolder,
    generation: u64,
    deals: Vec<oneshot::Sender<Dealt>>,
    news: mpsc::Sender<News>,
) -> Result<(), LaunchError> {
    let read = move || match readback::read(&work, generation, deals.len()) {
        // A shard that has ended needs nothing.
        Ok(dealt) => deals.into_iter().zip(dealt).for_each(|(deal, dealt)| {
            let _ = deal.send(dealt);
        }),
        Err(error) => {
            let _ = news.send(News::Recovered(Err(error)));
        }
    };
    let spawned = thread::Builder::new()
        .name("journals".to_owned())
        .spawn(read);
    spawned.map(|_| ()).map_err(LaunchError::Thread)
}
