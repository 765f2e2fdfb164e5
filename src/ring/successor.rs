//! The program that takes the place of this one in the same process (SIGUSR2): mostly a newer
//! version of it, where no service manager keeps the listeners between two processes.
//!
//! It is the program that the path leads to by which this one was started, with the same arguments.
//! First it is asked whether it could serve (`check`). Then this one ends in order, and the other
//! begins by `execve`, with the listeners and the locks: clients wait in the queues of the
//! listeners meanwhile, and there is no moment at which another server could take the work
//! directory. It begins with the settings that were checked, which are handed on, too: the end may
//! take its time, and whoever writes the file meanwhile must not keep it from beginning.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Read as _;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::FdFlags;

use super::directories::Directories;
use super::handed::{self, FROM_MANAGER, FROM_PREDECESSOR, WORK_OF_PREDECESSOR};
use super::listeners::Address;
use super::reach::MadeFree;
use super::signals;
use crate::observe;

/// How long the check of the new program may take: it looks at every disk.
const CHECK_PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether it has ended.
const CHECK_BEAT: Duration = Duration::from_millis(20);
/// As much of what it says is told.
const SAID_BYTES_MAX: u64 = 2_000;
/// The program that runs, whatever has its path by now.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// What a program says that can go on, before anything else.
pub const ANSWER: &str = "bitsd can go on\n";
/// By this it is told that stdin has the settings that it is asked about. A version that does not
/// know it reads the file.
const SETTINGS_ON_STDIN: &str = "BITSD_SETTINGS_ON_STDIN";
/// By this a program is asked whether it can go on with what it is handed.
const QUESTION: [&str; 3] = ["check", "--quiet", "--successor"];

/// How this program was started.
#[derive(Clone, Debug)]
pub struct Successor {
    program: PathBuf,
    /// What it is called, and its arguments.
    words: Vec<OsString>,
    /// The addresses that it can count on.
    free: MadeFree,
    /// The work directory of the server that makes way.
    work: PathBuf,
    settings: Option<ReadAgain>,
    /// What it was asked about last, and can begin with.
    checked: Arc<Mutex<Option<Checked>>>,
}

/// Settings that the new program can begin with.
#[derive(Debug)]
struct Checked {
    held: OwnedFd,
    work_dir: PathBuf,
}

/// What stands in a settings file, and the work directory that it names.
type TextAndWorkDir = (Vec<u8>, PathBuf);

/// Reads the settings again: what stands in their file, and the work directory that they name; why
/// they cannot be read, in words.
#[derive(Clone)]
struct ReadAgain(Arc<dyn Fn() -> Result<TextAndWorkDir, String> + Send + Sync>);

impl fmt::Debug for ReadAgain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadAgain")
    }
}

impl Successor {
    /// Of this program. To be called at its start: the path by which it was started may lead
    /// elsewhere later, and that is the purpose.
    pub fn of_this_program() -> Self {
        let words: Vec<_> = env::args_os().collect();
        let name = words.first().cloned().unwrap_or_default();
        let paths = env::var_os("PATH").unwrap_or_default();
        let paths: Vec<_> = env::split_paths(&paths).collect();
        let here = env::current_dir().unwrap_or_default();
        let program = program(&name, &here, &paths, |path| path.is_file());
        let program = program.or_else(|| env::current_exe().ok());
        Self {
            program: program.unwrap_or_else(|| PathBuf::from(THIS_PROGRAM)),
            words,
            free: MadeFree::default(),
            work: PathBuf::new(),
            settings: None,
            checked: Arc::default(),
        }
    }

    /// The same, for a server whose settings are looked at so.
    #[must_use]
    pub fn reading(
        self,
        settings: impl Fn() -> Result<(Vec<u8>, PathBuf), String> + Send + Sync + 'static,
    ) -> Self {
        let settings = Some(ReadAgain(Arc::new(settings)));
        Self { settings, ..self }
    }

    /// The same, from a server that has these addresses and this work directory.
    pub fn goes_on_with(&mut self, listeners: &[Address], admin: &[SocketAddr], work: &Path) {
        work.clone_into(&mut self.work);
        self.free = MadeFree {
            listeners: listeners.iter().map(|one| one.address).collect(),
            admin: admin.to_vec(),
        };
    }

    /// Asks the program that is there now whether it could serve with the same settings. It is not
    /// waited for any longer once nobody wants to know.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn check(&self, is_wanted: &AtomicBool) -> Result<(), String> {
        let checked = self.read_settings()?;
        self.ask(checked.as_ref(), is_wanted)?;
        *self.checked.lock().unwrap_or_else(PoisonError::into_inner) = checked;
        Ok(())
    }

    fn read_settings(&self) -> Result<Option<Checked>, String> {
        let Some(settings) = &self.settings else {
            return Ok(None);
        };
        let (text, work_dir) = (settings.0)()?;
        let held = handed::hold_settings(&text)
            .map_err(|error| format!("the settings cannot be handed on: {error}"))?;
        Ok(Some(Checked { held, work_dir }))
    }

    fn ask(&self, settings: Option<&Checked>, is_wanted: &AtomicBool) -> Result<(), String> {
        let program = self.program.display();
        let mut command = Command::new(&self.program);
        command.stdin(Stdio::null());
        if let Some(held) = settings.and_then(|checked| checked.held.try_clone().ok()) {
            command.stdin(held).env(SETTINGS_ON_STDIN, "1");
        }
        // The first argument is the command `serve`.
        let mut child = command
            .args(QUESTION)
            .args(self.words.iter().skip(2))
            .env(MadeFree::VARIABLE, self.free.to_text())
            .env(WORK_OF_PREDECESSOR, &self.work)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{program} cannot be started: {error}"))?;
        let deadline = Instant::now() + CHECK_PATIENCE;
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => {
                    return match is_of_us(&mut child) {
                        true => Ok(()),
                        false => Err(format!(
                            "{program} ends with success, and does not say that it is bitsd"
                        )),
                    };
                }
                Ok(Some(status)) => {
                    return Err(format!("{program} check: {status}: {}", said(&mut child)));
                }
                Ok(None) if Instant::now() < deadline && is_wanted.load(Ordering::Relaxed) => {
                    thread::sleep(CHECK_BEAT);
                }
                Ok(None) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("{program} check: it does not come to an end"));
                }
                Err(error) => return Err(format!("{program} check: {error}")),
            }
        }
    }

    /// Puts the new program in the place of this one. Nothing may be under way. If the path leads
    /// to no program any more, this one begins anew.
    ///
    /// # Errors
    /// What the kernel says of both; then this process can only end.
    pub fn take_over(
        &self,
        listeners: &[Arc<OwnedFd>],
        locks: &[OwnedFd],
        directories: &Directories,
    ) -> std::io::Error {
        let numbers = |held: &mut dyn Iterator<Item = &OwnedFd>| -> Vec<RawFd> {
            held.filter(|held| rustix::io::fcntl_setfd(held.as_fd(), FdFlags::empty()).is_ok())
                .map(|held| held.as_raw_fd())
                .collect()
        };
        let listeners = numbers(&mut listeners.iter().map(|listener| &**listener));
        let locks = numbers(&mut locks.iter());
        let checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let settings = numbers(&mut checked.iter().map(|checked| &checked.held));
        let mention = handed::mention(std::process::id(), &listeners, &locks, &settings);
        let keeps_work = (checked.as_ref())
            .is_some_and(|checked| must_keep_work(directories, &checked.work_dir));
        // Until the new program hears them, none but those that stop it may end it.
        signals::ignore_all_but_stops();
        let begin = |program: &Path| {
            let mut command = Command::new(program);
            if let Some(name) = self.words.first() {
                command.arg0(name);
            }
            command.args(self.words.iter().skip(1));
            FROM_MANAGER.iter().for_each(|name| {
                command.env_remove(name);
            });
            match keeps_work {
                true => command.env(WORK_OF_PREDECESSOR, &self.work),
                false => command.env_remove(WORK_OF_PREDECESSOR),
            };
            command.env(FROM_PREDECESSOR, &mention).exec()
        };
        let error = begin(&self.program);
        let (event, program) = ("successor_missing", self.program.display());
        tracing::error!(event, %program, %error, "the new program cannot begin: this one begins anew");
        observe::flush();
        begin(Path::new(THIS_PROGRAM))
    }
}

/// Whether uploads would be left behind by these settings, although there were none when they were
/// checked: clients may begin some until the end. The new program is told then to go on with them.
fn must_keep_work(directories: &Directories, work_dir: &Path) -> bool {
    let left = directories.left_behind_by(work_dir);
    if let Some(why) = &left {
        let event = "work_dir_kept";
        tracing::warn!(event, %why, "uploads have begun meanwhile: the new program keeps the work directory");
        observe::flush();
    }
    left.is_some()
}

/// The settings that a program is asked about, if they come from the server that asks.
pub fn settings_asked_about() -> Option<Vec<u8>> {
    env::var_os(SETTINGS_ON_STDIN)?;
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().ok()?;
    handed::read_settings(stdin.into()).ok()
}

/// Whether a program that has ended has said what it is: any other one may end with success too.
fn is_of_us(child: &mut Child) -> bool {
    let mut begin = [0; ANSWER.len()];
    let Some(mut stdout) = child.stdout.take() else {
        return false;
    };
    // Whoever it has started may hold the other end.
    let is_asked = rustix::io::ioctl_fionbio(&stdout, true).is_ok();
    is_asked && stdout.read_exact(&mut begin).is_ok() && begin == ANSWER.as_bytes()
}

/// The beginning of what a program has said, in one line.
fn said(child: &mut Child) -> String {
    let mut text = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(SAID_BYTES_MAX).read_to_end(&mut text);
    }
    let text = String::from_utf8_lossy(&text);
    text.trim().replace('\n', "; ")
}

/// The path of a program that was started by this name, as a shell finds it. Where it is a link,
/// that stays: whoever installs versions side by side lets it lead to the next one.
fn program(
    name: &OsStr,
    here: &Path,
    paths: &[PathBuf],
    is_there: impl Fn(&Path) -> bool,
) -> Option<PathBuf> {
    let named = Path::new(name);
    if named.components().count() > 1 || named.is_absolute() {
        return Some(here.join(named)).filter(|path| is_there(path));
    }
    let found = paths.iter().map(|path| here.join(path).join(named));
    found.into_iter().find(|path| is_there(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str) -> Option<PathBuf> {
        let there = ["/opt/bitsd", "/home/x/bin/bitsd", "/usr/bin/bitsd"].map(PathBuf::from);
        let paths = ["/bin", "/usr/bin", "/opt"].map(PathBuf::from);
        program(OsStr::new(name), Path::new("/home/x"), &paths, |path| {
            there.iter().any(|known| known == path)
        })
    }

    #[test]
    fn a_program_is_found_by_the_path_that_it_was_started_by() {
        assert_eq!(found("/opt/bitsd"), Some(PathBuf::from("/opt/bitsd")));
        assert_eq!(found("bin/bitsd"), Some(PathBuf::from("/home/x/bin/bitsd")));
        assert_eq!(found("bitsd"), Some(PathBuf::from("/usr/bin/bitsd")));
        assert_eq!(found("/bin/bitsd"), None);
        assert_eq!(found("other"), None);
        assert_eq!(found(""), None);
    }
}
