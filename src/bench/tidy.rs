//! What a run leaves at the server: nothing, as far as the server lets it.

use std::fs;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use super::content::Content;
use super::conversation::{End, Mode, Script};
use super::fault::CannotRun;
use super::generator::{Generator, Keep, Unfinished, Watcher};
use super::options::Options;

/// Cancels uploads that have failed half way, for a while; how many stay.
///
/// # Errors
/// [`CannotRun::Poll`].
pub fn cancel(
    options: &Options,
    address: SocketAddr,
    content: &Content,
    unfinished: Vec<Unfinished>,
) -> Result<u64, CannotRun> {
    if unfinished.is_empty() {
        return Ok(0);
    }
    let count = unfinished.len();
    let options = Options {
        script: Script {
            end: End::Cancel,
            ..options.script.clone()
        },
        connections: options.connections.min(CONNECTIONS_MAX),
        files: count as u64,
        verify: None,
        stall: options.stall.min(PATIENCE),
        ..options.clone()
    };
    let mut generator = Generator::new(&options, address, content, Keep::Alive)?.ending(unfinished);
    let deadline = Instant::now() + PATIENCE;
    generator.run(&mut |_| match Instant::now() < deadline {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    })?;
    Ok(count as u64 - generator.tally().files)
}

/// Looks whether the server stores its files in this folder, before any file is stored: an upload
/// to where a folder stands is refused. A folder is made there, and an upload to its name is begun.
///
/// # Errors
/// [`CannotRun`]; then nothing stays, here and there.
pub fn find_folder(
    options: &Options,
    address: SocketAddr,
    content: &Content,
    folder: &Path,
    watch: &mut Watcher<'_>,
) -> Result<(), CannotRun> {
    let trial = Options {
        script: Script {
            mode: Mode::Bits,
            end: End::Cancel,
            file_bytes: 1,
            prefix: format!("{}-look", options.script.prefix),
            ..options.script.clone()
        },
        connections: 1,
        files: 1,
        verify: None,
        ..options.clone()
    };
    let obstacle = folder.join(trial.script.file_name(0));
    let failed = |error| CannotRun::Folder(folder.to_owned(), error);
    fs::create_dir(&obstacle).map_err(failed)?;
    let tried =
        Generator::new(&trial, address, content, Keep::Session).and_then(|mut generator| {
            generator.run(watch)?;
            Ok(generator.tally().files)
        });
    fs::remove_dir(&obstacle).map_err(failed)?;
    match tried? {
        // Whatever it was refused for, the run itself hears it too.
        0 => Ok(()),
        _ => Err(CannotRun::OtherFolder(folder.to_owned())),
    }
}

/// How long a run that has ended may take to cancel what it began.
const PATIENCE: Duration = Duration::from_secs(5);
/// They are only a few bytes each.
const CONNECTIONS_MAX: usize = 64;
