//! `bitsd status`, `sessions`, `trace`, `reload` and `drain`: what an administrator asks of a
//! running server, over its socket.

mod conversation;
mod ending;
mod orders;
mod screen;
mod sessions;
mod status;
mod stuck;
mod table;
mod trace;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};

use bitsd::admin::view::SessionView;
use bitsd::bits::session::Step;
use bitsd::bits::session_id::SessionId;
use bitsd::config::{Config, quantity};
use bitsd::observe;
use bitsd::vigil;

use super::log_format;
use super::settings::OfServer;
use conversation::{Conversation, NoConversation};
use ending::How;

/// What is done with the sessions of a server that does not run, under its lock.
#[derive(Clone, Copy, Debug)]
pub struct Offline {
    /// All of them, and what could not be read, where some may be missing.
    pub list: ListOffline,
    /// Ends some by a step, and says what became of each.
    pub end: EndOffline,
}

type ListOffline = fn(&Config) -> Result<(Vec<SessionView>, Vec<String>), String>;
type EndOffline =
    fn(&Config, &[SessionId], Step) -> Result<Vec<(SessionId, Result<(), &'static str>)>, String>;

/// Where the server is.
#[derive(Args, Clone, Debug)]
pub struct Where {
    /// The server's `admin_socket` [default: what the settings say].
    #[arg(
        long,
        value_name = "PATH",
        env = "BITSD_ADMIN_SOCKET",
        hide_env_values = true
    )]
    socket: Option<PathBuf>,
    #[command(flatten)]
    file: OfServer,
}

/// `bitsd status`
#[derive(Args, Clone, Debug)]
pub struct Status {
    #[command(flatten)]
    place: Where,
    /// Show it again every two seconds, until interrupted.
    #[arg(short, long)]
    watch: bool,
    /// What came into each folder since the start, and who has waited longest for a file.
    #[arg(long, conflicts_with = "watch")]
    by_folder: bool,
    /// As JSON, for programs; one object a line with --watch.
    #[arg(long)]
    json: bool,
}

/// `bitsd sessions`
#[derive(Args, Clone, Debug)]
pub struct Sessions {
    #[command(subcommand)]
    what: SessionsCommand,
}

/// What is done with sessions.
#[derive(Clone, Debug, Subcommand)]
enum SessionsCommand {
    /// List unfinished uploads; without a running server, what its journals say.
    #[command(after_help = LIST_EXAMPLES)]
    List(List),
    /// Show all that is known of one upload.
    #[command(after_help = SHOW_EXAMPLES)]
    Show(Show),
    /// Cancel uploads, also of a server that does not run: what has arrived of them is removed, and
    /// their clients begin again.
    #[command(after_help = END_EXAMPLES)]
    Cancel(End),
    /// Expire uploads, also of a server that does not run, as if they had made no progress for the
    /// session time-out.
    #[command(after_help = END_EXAMPLES)]
    Expire(End),
}

/// Which sessions.
#[derive(Args, Clone, Debug, Default)]
pub struct Which {
    /// Those of a location, by its prefix.
    #[arg(long, value_name = "PREFIX")]
    location: Option<String>,
    /// Those of a client, by its address.
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    client: Option<String>,
    /// Those of a user.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Those whose path is like this; `*` and `?` stand for anything.
    #[arg(long, value_name = "PATTERN")]
    path: Option<String>,
    /// Those that stand there: receiving, sealed, told, closing, published, awaits_disk.
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Those that have made no progress for so long, such as 2h or 7d.
    #[arg(long, value_name = "TIME", value_parser = time)]
    idle: Option<Duration>,
}

/// An address as the server takes it.
fn address(text: &str) -> Result<String, &'static str> {
    let read: Result<IpAddr, _> = text.parse();
    read.map(|_| text.to_owned())
        .map_err(|_| "it takes an address such as 192.0.2.1")
}

/// As the settings have them: `10 M` is a slip, and not ten months.
fn time(text: &str) -> Result<Duration, String> {
    match quantity::parse_duration(text) {
        Ok(idle) if idle >= Duration::from_secs(1) => Ok(idle),
        Ok(_) => Err("it takes a second or more".to_owned()),
        Err(why) => Err(format!("it takes a time such as 90s, 2h or 7d; {why}")),
    }
}

impl Which {
    /// As the interface takes it.
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let text = |name, value: &Option<String>| value.clone().map(|value| (name, value));
        let idle = self
            .idle
            .map(|idle| ("idle", idle.as_millis().div_ceil(1_000).to_string()));
        let all = [
            text("location", &self.location),
            text("client", &self.client),
            text("user", &self.user),
            text("path", &self.path),
            text("state", &self.state),
            idle,
        ];
        all.into_iter().flatten().collect()
    }
}

#[derive(Args, Clone, Debug)]
struct List {
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    which: Which,
    /// As JSON, one object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Clone, Debug)]
struct Show {
    #[command(flatten)]
    place: Where,
    /// As `sessions list` and the log show it; its beginning is enough.
    id: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Clone, Debug)]
struct End {
    #[command(flatten)]
    place: Where,
    /// Which ones; the beginning of an id is enough.
    #[arg(required_unless_present_any = ["location", "client", "user", "path", "state", "idle"])]
    ids: Vec<String>,
    #[command(flatten)]
    which: Which,
    /// Show which ones that would be, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

/// `bitsd trace`
#[derive(Args, Clone, Debug)]
pub struct Trace {
    #[command(flatten)]
    place: Where,
    /// Those of a client, by its address.
    #[arg(long, value_name = "ADDRESS")]
    client: Option<String>,
    /// Those whose path is like this; `*` and `?` stand for anything.
    #[arg(long, value_name = "PATTERN")]
    path: Option<String>,
    /// Those of an upload.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// As JSON, one object a line.
    #[arg(long)]
    json: bool,
}

/// `bitsd reload` and `bitsd drain`
#[derive(Args, Clone, Debug)]
pub struct Plain {
    #[command(flatten)]
    place: Where,
}

/// Runs `status`.
pub fn status(status: &Status) -> ExitCode {
    finish(status::run(status))
}

/// Runs `sessions`.
pub fn sessions(sessions: &Sessions, offline: Offline) -> ExitCode {
    finish(match &sessions.what {
        SessionsCommand::List(list) => sessions::list_all(list, offline),
        SessionsCommand::Show(show) => sessions::show_one(show, offline),
        SessionsCommand::Cancel(end) => ending::run(end, How::Cancel, offline),
        SessionsCommand::Expire(end) => ending::run(end, How::Expire, offline),
    })
}

/// Runs `trace`.
pub fn trace(trace: &Trace) -> ExitCode {
    finish(trace::run(trace))
}

/// Runs `reload`.
pub fn reload(plain: &Plain) -> ExitCode {
    finish(orders::run(plain, "/v1/reload"))
}

/// Runs `drain`.
pub fn drain(plain: &Plain) -> ExitCode {
    finish(orders::run(plain, "/v1/drain"))
}

/// Why a command came to nothing: a sentence, and the exit code.
#[derive(Debug)]
pub struct Failed {
    why: String,
    code: u8,
}

impl Failed {
    fn new(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            code: 1,
        }
    }

    /// The command line or the settings are wrong.
    fn wrong_use(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            code: 2,
        }
    }
}

impl From<NoConversation> for Failed {
    fn from(why: NoConversation) -> Self {
        match why {
            NoConversation::Misunderstood(why) => Self::wrong_use(why),
            why => Self::new(why.to_string()),
        }
    }
}

fn finish(outcome: Result<ExitCode, Failed>) -> ExitCode {
    match outcome {
        Ok(code) => code,
        Err(failed) => {
            observe::say(&failed.why);
            ExitCode::from(failed.code)
        }
    }
}

impl Where {
    /// The settings of the server.
    fn settings(&self) -> Result<Config, Failed> {
        let settings = self.file.settings();
        let hint = "; --socket names the socket without them";
        let failed = |error| Failed::wrong_use(format!("{error}{hint}"));
        match settings.settle_by(Instant::now() + SETTINGS_PATIENCE, None) {
            Ok(settled) => Ok(settled.map_err(failed)?.config),
            Err(why) => Err(Failed::new(format!("{why}{hint}"))),
        }
    }

    /// The socket of the server.
    fn socket(&self) -> Result<PathBuf, Failed> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        let socket = match self.settings() {
            Ok(config) => config.admin_socket,
            Err(failed) => return self.socket_in_file().ok_or(failed),
        };
        match socket.as_os_str().is_empty() {
            true => Err(Failed::wrong_use(NO_SOCKET)),
            false => Ok(socket),
        }
    }

    /// The socket that a file names of which something else is wrong, if a server answers there: it
    /// runs with other settings, and is asked all the same.
    fn socket_in_file(&self) -> Option<PathBuf> {
        let settings = self.file.settings();
        let read = move || log_format::text_of(settings.file()?);
        let text = vigil::within(Instant::now() + SETTINGS_PATIENCE, read).ok()??;
        let socket = log_format::path_in(&text, "admin_socket")?;
        (socket.is_absolute() && !is_nobody_there(&socket)).then_some(socket)
    }

    fn conversation(&self) -> Result<Conversation, Failed> {
        Ok(Conversation::with(&self.socket()?))
    }

    /// Who knows the sessions. Whoever names a socket means a server that runs.
    fn knower(&self) -> Result<Knower, Failed> {
        if let Some(socket) = &self.socket {
            return Ok(Knower::Server(Conversation::with(socket)));
        }
        let config = match self.settings() {
            Ok(config) => config,
            Err(failed) => {
                let socket = self.socket_in_file().ok_or(failed)?;
                return Ok(Knower::Server(Conversation::with(&socket)));
            }
        };
        let socket = &config.admin_socket;
        if !socket.as_os_str().is_empty() && !is_nobody_there(socket) {
            return Ok(Knower::Server(Conversation::with(socket)));
        }
        // Whoever keeps the settings elsewhere means no server with defaults.
        let is_of_nobody = self.file.settings().file().is_none();
        match is_of_nobody && !config.work_dir.exists() {
            true => Err(Failed::wrong_use(NO_SETTINGS)),
            false => Ok(Knower::Journals(Box::new(config))),
        }
    }
}

/// Who knows the sessions.
enum Knower {
    /// A server that runs.
    Server(Conversation),
    /// What one has left in the work directory of these settings.
    Journals(Box<Config>),
}

/// Why the journals cannot be had.
fn not_offline(config: &Config, why: &str) -> Failed {
    let hint = match config.admin_socket.as_os_str().is_empty() {
        true => "; a server that runs can be asked if the settings name an admin_socket",
        false => "",
    };
    Failed::new(format!("{why}{hint}"))
}

/// Whether nobody answers there, as where the server does not run.
fn is_nobody_there(path: &Path) -> bool {
    // Whoever has a full queue is there.
    conversation::connect(path, Duration::ZERO).is_err_and(|error| {
        matches!(
            error.kind(),
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused
        )
    })
}

/// How long settings may take to be read, of a file system that may not answer.
const SETTINGS_PATIENCE: Duration = Duration::from_secs(15);

const NO_SETTINGS: &str = "there is no settings file (/etc/bitsd.toml), and no work directory where it would be without \
     one: name the settings file of the server with --config, or its socket with --socket";

const NO_SOCKET: &str = "the settings name no admin_socket, so nobody can be asked: set admin_socket = \
     \"/run/bitsd/admin.sock\" and restart the server, or name the socket with --socket";

/// What `bitsd status --help` ends with.
pub const STATUS_EXAMPLES: &str = "\
Examples:
  bitsd status                      how the server of /etc/bitsd.toml is
  bitsd status --watch
  bitsd status --by-folder          who has not delivered
  bitsd status --json | jq .sessions

Exit codes: 0 it is ready for uploads, 1 it is not (it says why), or does not answer, 2 the command
line or the settings are wrong.";

/// What `bitsd sessions --help` ends with.
pub const SESSIONS_EXAMPLES: &str = "\
Examples:
  bitsd sessions list --idle 2h                      what is stuck
  bitsd sessions show 7A1CF7F0                       the beginning of an id is enough
  bitsd sessions cancel --path 'host-7/*' --dry-run  what would end
  bitsd sessions expire --idle 7d";

const LIST_EXAMPLES: &str = "\
Examples:
  bitsd sessions list --idle 2h             what is stuck
  bitsd sessions list --client 10.1.2.3
  bitsd sessions list --path 'host-7/*'
  bitsd sessions list --json | jq -s 'map(.received_bytes) | add'

Exit codes: 0 they are listed, 1 they are not, or perhaps not all of them (it says why), 2 the
command line or the settings are wrong.";

const SHOW_EXAMPLES: &str = "\
Examples:
  bitsd sessions show 7A1CF7F0-FCA6-4D1B-8883-5FBB10F7F1DE
  bitsd sessions show 7A1CF7F0 --json               the beginning of an id is enough

Exit codes: 0 it is shown, 1 it is not (it says why), 2 the command line or the settings are wrong.";

const END_EXAMPLES: &str = "\
Examples:
  bitsd sessions cancel 7A1CF7F0-FCA6-4D1B-8883-5FBB10F7F1DE
  bitsd sessions expire --idle 7d --dry-run
  bitsd sessions expire --idle 7d
  sudo -u bitsd bitsd sessions expire --idle 7d     where the server does not run

Exit codes: 0 all of them have ended, 1 one has not, or perhaps not all of them are known (it says
why), 2 the command line or the settings are wrong.";

/// What `bitsd trace --help` ends with.
pub const TRACE_EXAMPLES: &str = "\
Examples:
  bitsd trace                               every packet, and why it was refused
  bitsd trace --client 10.1.2.3
  bitsd trace --path 'host-7/*' --json

Exit codes: 0 the server has stopped, 1 it does not answer, 2 the command line or the settings are
wrong.";

/// What `bitsd reload --help` ends with.
pub const RELOAD_EXAMPLES: &str = "\
It does as SIGHUP does, and says what has changed, or what is wrong.

Exit codes: 0 the new settings hold, 1 they do not and the old ones stay, or it takes too long to be
waited for (it says which), 2 the command line or the settings are wrong.";

/// What `bitsd drain --help` ends with.
pub const DRAIN_EXAMPLES: &str = "\
It does as SIGTERM does: idle connections end now, busy ones after their answer, and unfinished
uploads go on after the next start.

Exit codes: 0 the server is stopping, 1 it does not answer, 2 the command line or the settings are
wrong.";
