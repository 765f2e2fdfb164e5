//! From what was given to what holds: defaults, inheritance, and what must fit together.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::auth::accounts::{AccountFile, Accounts};
use crate::auth::certificate::Rule;
use crate::auth::policy::{Allowed, Scheme};
use crate::http::digest::Algorithms;

use super::complaint::Complaint;
use super::error::{Cause, ConfigError, Origin};
use super::file::SettingsFile;
use super::form::Value;
use super::given::{Entry, Flags, Given};
use super::keys::{
    Access, AccountSettings, Config, EventSettings, HEAD_BYTES_WITH_TICKETS, Host, Listener,
    Location, NO_NOTIFICATION, Notification, Policy, ROOT_DEFAULT,
};
use super::listening::refuse_repeated;
use super::location::refuse_covered;
use super::object_store::resolve_store;
use super::passed_over;
use super::secret::{Secret, read_accounts, read_keytab};
use super::section::Scope;
use super::table::Setting as _;
use super::url::NOTIFICATION_URL;
use super::words::ProxyProtocol;

/// A configuration, and what was given for it.
#[derive(Debug)]
pub struct Settled {
    /// What holds.
    pub config: Config,
    /// By table in the order in which they are printed: the top, limits, events, and those of which
    /// there are several, locations as in [`Config::locations`].
    pub(super) given: Vec<Given>,
}

impl Settled {
    /// Settles every value: flags, then the file, then the defaults.
    ///
    /// # Errors
    /// A flag's value is not one that its key takes, or two values contradict each other.
    pub fn resolve(flags: Flags, file: Option<SettingsFile>) -> Result<Self, ConfigError> {
        let file = file.unwrap_or_default();
        let of = |scope| -> Vec<Given> {
            let tables = file.tables.iter().filter(|(table, ..)| *table == scope);
            tables.map(|(.., given)| given.clone()).collect()
        };
        let global = flags.over(&file.top)?;
        let (listeners, certificates) = (of(Scope::Listener), of(Scope::Certificate));
        let limits = of(Scope::Limits).pop().unwrap_or_default();
        let events = of(Scope::Events).pop().unwrap_or_default();
        let mut config = Config {
            limits: limits.fill(),
            events: resolve_events(&events)?,
            listeners: listeners.iter().map(Given::fill).collect(),
            certificates: certificates.iter().map(Given::fill).collect(),
            accounts: resolve_accounts(&global)?,
            ..global.fill()
        };
        if config.cores == 0 {
            let available = std::thread::available_parallelism().map_or(1, usize::from);
            config.cores = available.min(CORES_MAX);
        }
        if !config.listeners.is_empty() && global.get("listen").is_none() {
            config.listen.clear();
        }
        if !config.accounts.keys.is_empty() && limits.get("head_bytes_max").is_none() {
            config.limits.head_bytes_max = HEAD_BYTES_WITH_TICKETS;
        }
        check_tls(&config, &listeners)?;
        check_proxies(&config, &global, &listeners)?;
        refuse_repeated(&global, &config.listen, &listeners)?;
        let mut roots = Roots::resolve(&global)?;
        let mut locations = resolve_locations(&global, of(Scope::Location), &mut roots)?;
        for (location, given) in &locations {
            check_access(location, given, &global, &config)?;
        }
        config.passed_over = passed_over::find(&locations);
        // That of the top, which is first already.
        let everything = locations.pop().expect("it is always there");
        let mut given = vec![global, limits, events];
        given.extend(listeners.into_iter().chain(certificates));
        let (mut all, own): (Vec<_>, Vec<_>) = locations.into_iter().unzip();
        all.push(everything.0);
        given.extend(own);
        config.locations = all;
        config.roots = roots.roots;
        config.work_dir = roots.work_dir;
        config.settings_file = file.path;
        Ok(Self { config, given })
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

/// The locations with what was given for each, longest prefix first; the last one is everything.
fn resolve_locations(
    global: &Given,
    tables: Vec<Given>,
    roots: &mut Roots,
) -> Result<Vec<(Location, Given)>, ConfigError> {
    // First of all, so that an inherited mistake is told once, where it stands.
    let everything = resolve_location(global)?;
    let mut locations: Vec<(Location, Given)> = Vec::new();
    let mut prefixes = BTreeMap::new();
    for own in tables {
        let prefix = own.get("prefix").expect("no table without it is read");
        let mut text = String::new();
        text.take(prefix.value.clone());
        if let Some(first) = prefixes.insert(text, prefix.origin.clone()) {
            return Err(prefix.refused(Complaint::Repeated(first.to_string())));
        }
        let root = own.path("root");
        let mut location = Location {
            has_own_root: root.is_some(),
            root: root.map_or(Ok(0), |(origin, root)| roots.add(origin, root))?,
            ..resolve_location(&global.beneath(&own))?
        };
        location.prefix.take(prefix.value.clone());
        refuse_unused_url(&own, location.notification.is_some())?;
        locations.push((location, own));
    }
    // Stable: what is as long stays in the order of the file. By characters, as prefixes are
    // compared: in another case they may have more bytes.
    locations.sort_by_key(|(location, _)| Reverse(location.prefix.chars().count()));
    refuse_covered(&locations)?;
    locations.push((everything, global.clone()));
    let is_used = locations
        .iter()
        .any(|(location, _)| location.notification.is_some());
    refuse_unused_url(global, is_used)?;
    Ok(locations)
}

/// What the keys of listeners need of each other.
fn check_tls(config: &Config, listeners: &[Given]) -> Result<(), ConfigError> {
    for (listener, given) in config.listeners.iter().zip(listeners) {
        let refuse = |key, why| {
            given
                .said(key)
                .map_or(Ok(()), |entry| Err(entry.refused(why)))
        };
        if !listener.tls {
            refuse("client_ca", Complaint::Without("tls = true"))?;
        } else if config.certificates.is_empty() {
            let certificate = "a [[certificate]] with chain and key".to_owned();
            refuse("tls", Complaint::Needs(certificate))?;
        }
        if given.said("client_ca").is_none() {
            refuse("client_crl", Complaint::Without("client_ca"))?;
        }
    }
    Ok(())
}

/// The location that the keys come to; prefix and root are those of the global one.
fn resolve_location(given: &Given) -> Result<Location, ConfigError> {
    let host: Host = given.fill();
    let location = given.fill::<Location>();
    if let Some(entry) = given.get("digest")
        && let Value::Texts(words) = &entry.value
        && Algorithms::from_words(words).is_none()
    {
        return Err(entry.refused(Complaint::of_digests(words)));
    }
    let policy = given.fill::<Policy>();
    if let (true, Algorithms::None, Some(entry)) =
        (policy.digest_file, policy.digest, given.get("digest_file"))
    {
        return Err(entry.refused(Complaint::Without("`digest`")));
    }
    Ok(Location {
        objects: resolve_store(given)?.map(Arc::new),
        access: given.fill::<Access>(),
        notification: resolve_notification(given, location.public_url.is_some())?,
        policy,
        host: Some(host).filter(|host| !host.id.is_empty()),
        ..location
    })
}

/// Reads the files of users, groups, tokens and certificates, and the keytab.
fn resolve_accounts(given: &Given) -> Result<AccountSettings, ConfigError> {
    let mut settings: AccountSettings = given.fill();
    let keys = ["users_file", "groups_file", "tokens_file", FINGERPRINTS];
    let mut texts = keys.map(|_| String::new());
    for (text, key) in texts.iter_mut().zip(keys) {
        if let Some((origin, file)) = given.path(key) {
            *text = read_accounts(origin, key, file.clone())?;
            settings.files.push((key, file, text.trim().is_empty()));
        }
    }
    let [users, groups, tokens, certificates] = texts;
    let read = Accounts::parse(&users, &groups, &tokens).and_then(|accounts| {
        let read = accounts.with_certificates(&certificates);
        read.map_err(|bad| (AccountFile::Certificates, bad))
    });
    settings.accounts = Arc::new(read.map_err(|(which, bad)| {
        let file = match which {
            AccountFile::Users => &settings.users_file,
            AccountFile::Groups => &settings.groups_file,
            AccountFile::Tokens => &settings.tokens_file,
            AccountFile::Certificates => &settings.certificates_file,
        };
        Cause::BadAccount(file.clone(), bad.number, bad.why)
    })?);
    if let Some((origin, file)) = given.path("keytab") {
        settings.keys = Arc::new(read_keytab(origin, file)?);
    }
    if let Some(entry) = given.get("certificate_user") {
        if settings.certificate_user.is_empty() {
            return Err(entry.refused(Complaint::Unusable));
        }
        let is_listed = settings.certificate_user.contains(&Rule::Fingerprint);
        if is_listed && settings.certificates_file.as_os_str().is_empty() {
            return Err(entry.refused(Complaint::needs_file(FINGERPRINTS)));
        }
    }
    Ok(settings)
}

/// Whoever's word is taken must be named.
fn check_proxies(config: &Config, global: &Given, listeners: &[Given]) -> Result<(), ConfigError> {
    if !config.accounts.trusted_proxies.is_empty() {
        return Ok(());
    }
    let unnamed = |entry: &Entry| {
        let proxies = "`trusted_proxies`: nobody else's word is taken";
        Err(entry.refused(Complaint::Needs(proxies.to_owned())))
    };
    if let Some(entry) = global.said("user_header") {
        return unnamed(entry);
    }
    for (listener, given) in config.listeners.iter().zip(listeners) {
        if let (ProxyProtocol::Required, Some(entry)) =
            (listener.proxy_protocol, given.get("proxy_protocol"))
        {
            return unnamed(entry);
        }
    }
    Ok(())
}

/// What is asked for must be there, and what is there must mean something.
fn check_access(
    location: &Location,
    own: &Given,
    global: &Given,
    config: &Config,
) -> Result<(), ConfigError> {
    let (access, settings) = (&location.access, &config.accounts);
    let entry = |key| own.get(key).or_else(|| global.get(key));
    if let Some(entry) = entry("auth") {
        for (scheme, file, key) in [
            (Scheme::Basic, &settings.users_file, "users_file"),
            (Scheme::Bearer, &settings.tokens_file, "tokens_file"),
            (Scheme::Negotiate, &settings.keytab, "keytab"),
        ] {
            if access.auth.contains(&scheme) && file.as_os_str().is_empty() {
                return Err(entry.refused(Complaint::needs_file(key)));
            }
        }
        if access.auth.contains(&Scheme::Proxy) && settings.user_header.is_empty() {
            let field = "`user_header`: the field in which the proxy names the user";
            return Err(entry.refused(Complaint::Needs(field.to_owned())));
        }
        let asks = |listener: &Listener| !listener.client_ca.as_os_str().is_empty();
        let is_asked = config.listeners.iter().any(asks);
        if access.auth.contains(&Scheme::Certificate) && !is_asked {
            let listener = "a [[listener]] with client_ca: elsewhere nobody shows a certificate";
            return Err(entry.refused(Complaint::Needs(listener.to_owned())));
        }
    }
    // A folder of a user that nobody is asked for would be everybody's.
    if let (true, true, Some(entry)) = (access.per_user, access.auth.is_empty(), entry("per_user"))
    {
        let without = "`auth`: nobody is asked who they are";
        return Err(entry.refused(Complaint::Without(without)));
    }
    let Some(entry) = entry("allow") else {
        return Ok(());
    };
    let is_said = own.get("allow").is_some() && access.allow != [Allowed::Anybody];
    if access.auth.is_empty() && is_said {
        let auth = match location.prefix.as_str() {
            "" => {
                "`auth` beside it: at / nobody is asked who they are (a location that asks can have `allow` of its own)"
            }
            _ => "`auth`: nobody is asked who they are",
        };
        return Err(entry.refused(Complaint::Without(auth)));
    }
    for allowed in &access.allow {
        if let Allowed::Group(group) = allowed
            && !settings.accounts.has_group(group)
        {
            return Err(entry.refused(Complaint::NoSuchGroup(group.clone())));
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
    let Some(url) = given.said("notification_url") else {
        let url = format!("notification_url, which takes {}", NOTIFICATION_URL.takes);
        return Err(kind.refused(Complaint::Needs(url)));
    };
    if notification.url.starts_with('/') && !has_public_url {
        return Err(url.refused(Complaint::Needs(PUBLIC_URL_WHY.to_owned())));
    }
    let key = "notification_secret_file";
    if let Some((origin, file)) = given.path(key) {
        notification.secret = Some(Secret::read(origin, key, file)?);
    }
    Ok(Some(notification))
}

/// The targets of events, with their secrets; what is said of a target that there is not was meant
/// otherwise.
fn resolve_events(given: &Given) -> Result<EventSettings, ConfigError> {
    let mut events: EventSettings = given.fill();
    for (target, keys) in [
        (WEBHOOK, &["webhook_secret_file", "webhook_ca"][..]),
        (NATS, &["nats_credentials_file", "nats_ca"]),
    ] {
        let said = keys.iter().find_map(|key| given.said(key));
        if let (None, Some(entry)) = (given.said(target), said) {
            return Err(entry.refused(Complaint::Without(target)));
        }
    }
    if let (Some(entry), false) = (given.said(NATS), cfg!(feature = "nats")) {
        let build = "a bitsd that was built with NATS (`cargo build --features nats`)".to_owned();
        return Err(entry.refused(Complaint::Needs(build)));
    }
    let key = "webhook_secret_file";
    if let Some((origin, file)) = given.path(key) {
        events.webhook_secret = Some(Secret::read(origin, key, file)?);
    }
    let key = "nats_credentials_file";
    if let Some((origin, file)) = given.path(key) {
        events.nats_credentials = Some(Secret::read_short(origin, key, file)?);
    }
    Ok(events)
}

/// A URL in a table that nobody uses, and of which nothing says that this is meant.
fn refuse_unused_url(table: &Given, is_used: bool) -> Result<(), ConfigError> {
    let is_meant = table.get("notification_type").is_some_and(is_none);
    match table.said("notification_url") {
        Some(url) if !is_used && !is_meant => Err(url.refused(Complaint::Without(TYPE_WHY))),
        _ => Ok(()),
    }
}

fn is_none(kind: &Entry) -> bool {
    kind.value == Value::Text(NO_NOTIFICATION.to_owned())
}

/// Every root once, the global one first, and the work directory, which holds none of them.
struct Roots {
    roots: Vec<PathBuf>,
    work_dir: PathBuf,
}

impl Roots {
    /// The global root and the work directory, as given or by default.
    fn resolve(given: &Given) -> Result<Self, ConfigError> {
        let root = given
            .path("root")
            .map_or_else(|| PathBuf::from(ROOT_DEFAULT), |(_, root)| root);
        let work_dir = match given.path("work_dir") {
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

const TYPE_WHY: &str = "notification_type, which takes \"by-reference\" or \"by-value\" (or \"none\", to keep the URL \
                        for later)";
/// A client must not say who is asked, and nothing else would complete the URL.
const PUBLIC_URL_WHY: &str = "public_url, to whose host it belongs: what a client calls this server must not decide who \
                              is asked. Or write it whole, such as \"http://127.0.0.1:8000/app\"";
const WORK_DIR_NAME: &str = ".bitsd";
/// As many as `cores` takes.
const CORES_MAX: usize = 256;
const WEBHOOK: &str = "webhook";
const NATS: &str = "nats";
/// The key of the file of certificates.
const FINGERPRINTS: &str = "certificates_file";
