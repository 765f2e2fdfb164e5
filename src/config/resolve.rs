//! From what was given to what holds: defaults, inheritance, and what must fit together.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::auth::accounts::{AccountFile, Accounts};
use crate::auth::policy::{Allowed, Scheme};

use super::error::{Cause, ConfigError, Origin};
use super::file::SettingsFile;
use super::form::{Complaint, Value};
use super::given::{Entry, Flags, Given};
use super::keys::{
    Access, AccountSettings, Certificate, Config, Host, Limits, Listener, Location,
    NO_NOTIFICATION, Notification, Policy, ROOT_DEFAULT,
};
use super::secret::{Secret, read_accounts};

/// A configuration, and what was given for it.
#[derive(Debug)]
pub struct Settled {
    /// What holds.
    pub config: Config,
    pub(super) global: Given,
    pub(super) limits: Given,
    /// Of each of [`Config::locations`] but the last.
    pub(super) locations: Vec<Given>,
    pub(super) listeners: Vec<Given>,
    pub(super) certificates: Vec<Given>,
}

impl Settled {
    /// Settles every value: flags, then the file, then the defaults.
    ///
    /// # Errors
    /// A flag's value is not one that its key takes, or two values contradict each other.
    pub fn resolve(flags: Flags, file: Option<SettingsFile>) -> Result<Self, ConfigError> {
        let SettingsFile {
            global,
            limits,
            locations: tables,
            listeners,
            certificates,
        } = file.unwrap_or_default();
        let global = flags.over(&global)?;
        let mut config: Config = global.fill();
        if config.cores == 0 {
            let available = std::thread::available_parallelism().map_or(1, usize::from);
            config.cores = available.min(CORES_MAX);
        }
        (config.listeners, config.certificates) = resolve_listeners(&listeners, &certificates)?;
        if !config.listeners.is_empty() && global.get("listen").is_none() {
            config.listen.clear();
        }
        refuse_repeated(&global, &config.listen, &listeners)?;
        let mut roots = Roots::resolve(&global)?;

        // First of all, so that an inherited mistake is told once, where it stands.
        let everything = resolve_location(&global)?;
        let mut locations: Vec<(Location, Given)> = Vec::new();
        let mut prefixes: Vec<(Value, Origin)> = Vec::new();
        for (origin, own) in tables {
            let Some(Entry {
                value,
                origin,
                written,
            }) = own.get("prefix").cloned()
            else {
                return Err(Cause::NoPrefix(origin).into());
            };
            if let Some((_, first)) = prefixes.iter().find(|(other, _)| *other == value) {
                return Err(Cause::RepeatedPrefix(origin, written, first.clone()).into());
            }
            let root = path_of(&own, "root");
            let location = Location {
                prefix: if let Value::Text(prefix) = &value {
                    prefix.clone()
                } else {
                    String::new()
                },
                has_own_root: root.is_some(),
                root: root.map_or(Ok(0), |(origin, root)| roots.add(origin, root))?,
                ..resolve_location(&global.beneath(&own))?
            };
            refuse_unused_url(&own, &[&location])?;
            prefixes.push((value, origin));
            locations.push((location, own));
        }
        let all: Vec<_> = locations
            .iter()
            .map(|(location, _)| location)
            .chain([&everything])
            .collect();
        refuse_unused_url(&global, &all)?;

        // Stable: what is as long stays in the order of the file.
        locations.sort_by_key(|(location, _)| Reverse(location.prefix.len()));
        let (mut locations, given): (Vec<_>, Vec<_>) = locations.into_iter().unzip();
        locations.push(everything);
        config.locations = locations;
        config.limits = limits.fill::<Limits>();
        config.accounts = resolve_accounts(&global)?;
        for (location, given) in config.locations.iter().zip(given.iter().chain([&global])) {
            check_access(location, given, &global, &config.accounts)?;
        }
        config.roots = roots.roots;
        config.work_dir = roots.work_dir;
        Ok(Self {
            config,
            global,
            limits,
            locations: given,
            listeners: listeners.into_iter().map(|(_, given)| given).collect(),
            certificates: certificates.into_iter().map(|(_, given)| given).collect(),
        })
    }
}

impl Config {
    /// Settles every value: flags, then the file, then the defaults.
    ///
    /// # Errors
    /// A flag's value is not one that its key takes, or two values contradict each other.
    pub fn resolve(flags: Flags, file: Option<SettingsFile>) -> Result<Self, ConfigError> {
        Settled::resolve(flags, file).map(|settled| settled.config)
    }
}

/// The listeners and the certificates that the tables come to.
fn resolve_listeners(
    listeners: &[(Origin, Given)],
    certificates: &[(Origin, Given)],
) -> Result<(Vec<Listener>, Vec<Certificate>), ConfigError> {
    for (origin, given) in certificates {
        for key in ["chain", "key"] {
            if path_of(given, key).is_none() {
                return Err(Cause::Incomplete(origin.clone(), "certificate", key).into());
            }
        }
    }
    let mut all = Vec::new();
    for (origin, given) in listeners {
        let listener: Listener = given.fill();
        if listener.address.is_empty() {
            return Err(Cause::Incomplete(origin.clone(), "listener", "address").into());
        }
        let ca = path_of(given, "client_ca");
        let crl = path_of(given, "client_crl");
        match (&ca, &crl) {
            (Some((origin, _)), _) if !listener.tls => {
                return Err(Cause::NeedsTls(origin.clone(), "client_ca").into());
            }
            (None, Some((origin, _))) => return Err(Cause::CrlWithoutCa(origin.clone()).into()),
            _ => {}
        }
        if listener.tls && certificates.is_empty() {
            return Err(Cause::NoCertificate(origin.clone()).into());
        }
        all.push(listener);
    }
    let certificates = certificates.iter().map(|(_, given)| given.fill());
    Ok((all, certificates.collect()))
}

/// No address may stand twice, in whatever tables: the server would find its own port in use.
fn refuse_repeated(
    global: &Given,
    listen: &[SocketAddr],
    listeners: &[(Origin, Given)],
) -> Result<(), ConfigError> {
    if listen.is_empty() && listeners.is_empty() {
        let Some(entry) = global.get("listen") else {
            return Ok(());
        };
        let (origin, written) = (entry.origin.clone(), entry.written.clone());
        let why = Complaint::NothingToListenOn;
        return Err(Cause::Refused(origin, "listen", written, why, String::new()).into());
    }
    let mut known = listen.to_vec();
    for (_, given) in listeners {
        let Some(entry) = given.get("address") else {
            continue;
        };
        let Value::Addresses(addresses) = &entry.value else {
            continue;
        };
        for address in addresses {
            if address.port() != 0 && known.contains(address) {
                let (origin, written) = (entry.origin.clone(), entry.written.clone());
                let why = Complaint::ListedTwice(*address);
                return Err(Cause::Refused(origin, "address", written, why, String::new()).into());
            }
            known.push(*address);
        }
    }
    Ok(())
}

/// The location that the keys come to; prefix and root are those of the global one.
fn resolve_location(given: &Given) -> Result<Location, ConfigError> {
    let host: Host = given.fill();
    let location = given.fill::<Location>();
    Ok(Location {
        access: given.fill::<Access>(),
        notification: resolve_notification(given, location.public_url.is_some())?,
        policy: given.fill::<Policy>(),
        host: Some(host).filter(|host| !host.id.is_empty()),
        ..location
    })
}

/// Reads the files of users, groups and tokens.
fn resolve_accounts(given: &Given) -> Result<AccountSettings, ConfigError> {
    let mut settings: AccountSettings = given.fill();
    let mut texts = [String::new(), String::new(), String::new()];
    let keys = ["users_file", "groups_file", "tokens_file"];
    for (text, key) in texts.iter_mut().zip(keys) {
        if let Some((origin, file)) = path_of(given, key) {
            *text = read_accounts(origin, key, file)?;
        }
    }
    let [users, groups, tokens] = texts;
    let read = Accounts::parse(&users, &groups, &tokens);
    settings.accounts = Arc::new(read.map_err(|(which, bad)| {
        let file = match which {
            AccountFile::Users => &settings.users_file,
            AccountFile::Groups => &settings.groups_file,
            AccountFile::Tokens => &settings.tokens_file,
        };
        Cause::BadAccount(file.clone(), bad.number, bad.why)
    })?);
    Ok(settings)
}

/// What is asked for must be there, and what is there must mean something.
fn check_access(
    location: &Location,
    own: &Given,
    global: &Given,
    settings: &AccountSettings,
) -> Result<(), ConfigError> {
    let access = &location.access;
    let entry = |key| own.get(key).or_else(|| global.get(key));
    if let Some(entry) = entry("auth") {
        for (scheme, file, key) in [
            (Scheme::Basic, &settings.users_file, "users_file"),
            (Scheme::Bearer, &settings.tokens_file, "tokens_file"),
        ] {
            if access.auth.contains(&scheme) && file.as_os_str().is_empty() {
                let (origin, written) = (entry.origin.clone(), entry.written.clone());
                return Err(Cause::NoAccountFile(origin, written, key).into());
            }
        }
    }
    let Some(entry) = entry("allow") else {
        return Ok(());
    };
    let (origin, written) = (entry.origin.clone(), entry.written.clone());
    let is_said = own.get("allow").is_some() && access.allow != [Allowed::Anybody];
    if access.auth.is_empty() && is_said {
        return Err(Cause::AllowWithoutAuth(origin, written).into());
    }
    for allowed in &access.allow {
        if let Allowed::Group(group) = allowed
            && !settings.accounts.has_group(group)
        {
            return Err(Cause::NoSuchGroup(origin, written, group.clone()).into());
        }
    }
    Ok(())
}

/// `None` if the type is "none". The secret is read only where it is used.
fn resolve_notification(
    given: &Given,
    has_public_url: bool,
) -> Result<Option<Notification>, ConfigError> {
    let Some(kind) = given.get("notification_type").filter(|kind| !is_none(kind)) else {
        return Ok(None);
    };
    let mut notification: Notification = given.fill();
    let Some(url) = given
        .get("notification_url")
        .filter(|_| !notification.url.is_empty())
    else {
        return Err(Cause::NoNotificationUrl(kind.origin.clone(), kind.written.clone()).into());
    };
    if notification.url.starts_with('/') && !has_public_url {
        return Err(Cause::NoPublicUrl(url.origin.clone(), url.written.clone()).into());
    }
    if let Some((origin, file)) = path_of(given, "notification_secret_file") {
        notification.secret = Some(Secret::read(origin, file)?);
    }
    Ok(Some(notification))
}

/// A URL in a table, where none of those that have it notifies anybody, and where nothing says that
/// this is meant.
fn refuse_unused_url(table: &Given, users: &[&Location]) -> Result<(), ConfigError> {
    let is_used = users.iter().any(|location| location.notification.is_some());
    let is_meant = table.get("notification_type").is_some_and(is_none);
    match table.get("notification_url") {
        Some(Entry {
            origin,
            written,
            value: Value::Text(url),
        }) if !(url.is_empty() || is_used || is_meant) => {
            Err(Cause::UrlWithoutType(origin.clone(), written.clone()).into())
        }
        _ => Ok(()),
    }
}

fn is_none(kind: &Entry) -> bool {
    kind.value == Value::Text(NO_NOTIFICATION.to_owned())
}

/// A path and where it was written, if it is given and not empty.
fn path_of(given: &Given, key: &str) -> Option<(Origin, PathBuf)> {
    match given.get(key) {
        Some(Entry {
            value: Value::Path(path),
            origin,
            ..
        }) if path != Path::new("") => Some((origin.clone(), path.clone())),
        _ => None,
    }
}

/// Every root once, the global one first, and the work directory, which holds none of them.
struct Roots {
    roots: Vec<PathBuf>,
    work_dir: PathBuf,
}

impl Roots {
    /// The global root and the work directory, as given or by default.
    fn resolve(given: &Given) -> Result<Self, ConfigError> {
        let root =
            path_of(given, "root").map_or_else(|| PathBuf::from(ROOT_DEFAULT), |(_, root)| root);
        let work_dir = match path_of(given, "work_dir") {
            Some((origin, work_dir)) => {
                check_not_held(origin, &root, &work_dir)?;
                work_dir
            }
            None => root.join(WORK_DIR_NAME),
        };
        Ok(Self {
            roots: vec![root],
            work_dir,
        })
    }

    /// The index of a location's own root.
    fn add(&mut self, origin: Origin, root: PathBuf) -> Result<usize, ConfigError> {
        check_not_held(origin, &root, &self.work_dir)?;
        Ok(index_of(&mut self.roots, root))
    }
}

/// The index of a root, which is appended if it is new.
pub(super) fn index_of(roots: &mut Vec<PathBuf>, root: PathBuf) -> usize {
    match roots.iter().position(|known| *known == root) {
        Some(index) => index,
        None => {
            roots.push(root);
            roots.len() - 1
        }
    }
}

/// Whether uploads to the root could overwrite the server's own files, by the look of the paths
/// only. A start tries the directories themselves.
pub(super) fn holds(work_dir: &Path, root: &Path) -> bool {
    root.starts_with(work_dir)
}

fn check_not_held(origin: Origin, root: &Path, work_dir: &Path) -> Result<(), ConfigError> {
    if holds(work_dir, root) {
        let (root, work_dir) = (root.to_owned(), work_dir.to_owned());
        return Err(Cause::WorkDirHoldsRoot(origin, root, work_dir).into());
    }
    Ok(())
}

const WORK_DIR_NAME: &str = ".bitsd";
/// As many as `cores` takes.
const CORES_MAX: usize = 256;
