//! Every setting, declared once.
//!
//! It is long on purpose: it is one table, where people look a key up and nobody reads from top to
//! end.
//!
//! How to add one:
//!
//! 1. Write its row below, in the struct whose users need it: `Policy` for uploads, `Notification`
//!    for applications, `Limits` for bounds of the server, `Config` for the rest. The doc line is
//!    its meaning, for docs/settings.md too.
//! 2. Give it type, default and form. Bounds carry their reason as a comment. A word of its own is
//!    an enum in `words.rs`.
//! 3. `.live()` if the server goes over to it at SIGHUP, `.flag()` if the command line sets it,
//!    `.iis(..)` if IIS has it.
//! 4. `cargo test --test readme` prints the line that docs/settings.md needs.
//! 5. Use the field; nothing else knows the key.
//!
//! A further table of the file: a row in `section.rs`, a struct here with its rows, a field of
//! [`Config`] and one line each in `resolve.rs` and `print.rs`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::auth::accounts::Accounts;
use crate::auth::certificate::Rule as CertificateRule;
use crate::auth::keytab::Keytab;
use crate::auth::networks::{NETWORKS_TAKE, Networks};
use crate::auth::policy::{Allowed, Scheme};
use crate::http::digest::Algorithms;

use super::form::{
    Form, Unit, Value, bytes, count, duration, milliseconds, number, or_unlimited, truth,
};
use super::permissions::{self, Permissions};
use super::quantity::{GIB, KIB, MIB, TIB};
use super::secret::Secret;
use super::section::Scope;
use super::table::{Row, Setting, Table, keys};
use super::text::{Text, no_hint};
use super::url;
use super::words::{
    ChannelBinding, Download, Durability, EmptyFile, Io, LogFormat, LogLevel, NoReplace,
    NotificationType, Persist, PrefixCase, ProxyProtocol, Publish, StoreAck, StoreKind, TlsVersion,
};

keys! {
    /// Everything resolved; what `bitsd check` prints.
    pub struct Config in Server "" beside {
        /// The file that they were read from; empty if there is none.
        settings_file: PathBuf = PathBuf::new(),
        /// Where files go: first `root`, then the roots of locations, each once.
        roots: Vec<PathBuf> = Vec::new(),
        /// Settings per URL prefix, longest prefix first. The last one has the empty prefix: the
        /// global values. Never empty.
        locations: Vec<Location> = Vec::new(),
        /// Further addresses, each with what holds there.
        listeners: Vec<Listener> = Vec::new(),
        /// What TLS shows to clients, the default one first.
        certificates: Vec<Certificate> = Vec::new(),
        /// Bounds.
        limits: Limits = Limits::default(),
        /// Who there is, and what is asked of them.
        accounts: AccountSettings = AccountSettings::default(),
        /// Who hears of uploads that ended.
        events: EventSettings = EventSettings::default(),
        /// What was given and does nothing, in words.
        passed_over: Vec<String> = Vec::new(),
    } {
        /// Addresses to listen on, without TLS. `[::]` takes IPv6 only; `0.0.0.0` beside it takes
        /// IPv4. The default holds where there is no `[[listener]]`.
        listen: Vec<SocketAddr> = vec![SocketAddr::from(([127, 0, 0, 1], 8080))],
            Row::of(Form::Addresses).flag();
        /// Where sessions are recorded, and where the unfinished uploads to roots on its file
        /// system live. Those to other roots live in `.bitsd` there.
        work_dir: PathBuf = PathBuf::new(),
            Row::of(Form::Directory("a directory")).flag().by_default("ROOT/.bitsd");
        // A session id names its shard in one byte.
        /// Number of shards. A shard is one thread with its own listener, sessions and files.
        cores: usize = 0, Row::of(count(0..=256)).flag().by_default("0").note(" (0 is all that are available)");
        /// Log lines for people, or JSON objects.
        log_format: LogFormat = LogFormat::Text, Row::of(Form::Word(LogFormat::WORDS)).live().flag();
        /// `warn`: only what needs attention. `info`: also one line per session and refusal.
        /// `debug`: also one per packet.
        log_level: LogLevel = LogLevel::Info, Row::of(Form::Word(LogLevel::WORDS)).live().flag();
        /// How bytes reach their file. `auto`: chosen per file. `direct`: past the page cache.
        /// `ring`: page cache, by io_uring. `inline`: page cache, by plain `write`.
        io: Io = Io::Auto, Row::of(Form::Word(Io::WORDS)).flag();
        /// The oldest version of TLS that clients may speak.
        tls_version_min: TlsVersion = TlsVersion::Tls12, Row::of(Form::Word(TlsVersion::WORDS)).live();
        /// A Unix socket where the server can be asked how it is, and given orders (`bitsd status`,
        /// `sessions`, `reload`, `drain`): by its user and by its group.
        admin_socket: PathBuf = PathBuf::new(), Row::of(Form::Place(PLACE_TAKES));
        /// Addresses that answer `/metrics`, `/live`, `/ready` and other questions, to everybody
        /// who can reach them; they take no orders. `[::]` takes IPv4 as well.
        admin_listen: Vec<SocketAddr> = Vec::new(), Row::of(Form::Addresses).by_default("[]");
        /// Names by which clients may call `admin_listen`, beside addresses and `localhost`.
        admin_names: Vec<String> = Vec::new(), Row::of(Form::Texts(ADMIN_NAMES)).live();
        /// The folder of the custody ledger: a line for each upload that ended, chained by hash,
        /// before its client hears of it. Not in a root, nor in `work_dir`.
        custody: PathBuf = PathBuf::new(), Row::of(Form::Place(PLACE_TAKES));
        // Bounds as in IIS, but from 1 s; there it is 12 h by default.
        /// How often expired uploads are looked for.
        cleanup_interval: Duration = Duration::from_secs(1), Row::of(duration(SECOND..=360 * DAY))
            .live().iis(&["BITSCleanupUseDefault", "BITSCleanupCount", "BITSCleanupUnits"]);
    }
}

keys! {
    /// What holds beneath one URL prefix.
    pub struct Location in Both "" beside {
        /// The prefix, decoded, without a slash at either end; empty for everything.
        prefix: String = String::new(),
        /// Where files go: an index into [`Config::roots`].
        root: usize = 0,
        /// Whether the root is the location's own. Then the destination of `prefix/a/b` is `a/b`
        /// beneath it; otherwise it is the whole path beneath the inherited root.
        has_own_root: bool = false,
        /// The number under which it is counted; whoever counts gives it.
        series: usize = 0,
        /// Upload settings.
        policy: Policy = Policy::default(),
        /// The name that this node of a farm is to be called by (MC-BUP 2.2.3.2); `None`: the one
        /// the client knows.
        host: Option<Host> = None,
        /// Who may upload.
        access: Access = Access::default(),
        /// The server application to notify of each upload; `None`: files are published without
        /// asking anybody.
        notification: Option<Notification> = None,
        /// The object store that files go into; `None`: they go beneath the root.
        objects: Option<Arc<ObjectStore>> = None,
    } {
        /// Whether uploads are accepted.
        is_enabled: bool = true, Row::of(truth()).called("enabled").iis(&["BITSUploadEnabled"]);
        /// Whether the prefix of a location matches only as it is written, or in any case, as on
        /// Windows.
        prefix_case: PrefixCase = PrefixCase::Exact, Row::of(Form::Word(PrefixCase::WORDS));
        /// What the URL of a finished file gives: nothing; by HEAD its size and time; by GET its
        /// bytes too.
        download: Download = Download::None, Row::of(Form::Word(Download::WORDS));
        // IIS counts 50 for a user; here an address may be that of a proxy for all of them. No one
        // client has thousands under way, and without a limit one could take all that a shard has.
        /// Unfinished uploads of one client, which is known by its address (of IPv6, by its /64).
        sessions_per_client_max: Option<u32> = Some(10_000), Row::of(or_unlimited(Unit::One, 1..=1_000_000))
            .iis(&["BITSNumberOfSessionsLimit", "BITSSessionLimitEnable"]);
        // 50 in IIS. A user may be an account that all machines share.
        /// Unfinished uploads of one user to a location, from wherever they come.
        sessions_per_user_max: Option<u32> = None, Row::of(or_unlimited(Unit::One, 1..=1_000_000));
        /// Whether the targets of `[events]` hear of uploads that end.
        send_events: bool = true, Row::of(truth());
        /// How clients reach this server through a proxy: what absolute URLs begin with.
        public_url: Option<String> = None, Row::of(Form::TextOrNone(url::PUBLIC_URL));
    }
}

keys! {
    /// Settings of the uploads beneath one URL prefix.
    pub struct Policy in Both "" {
        /// What is synced to disk before it is acknowledged: nothing, the whole upload, each
        /// fragment.
        durability: Durability = Durability::Upload, Row::of(Form::Word(Durability::WORDS)).flag();
        /// When a file appears at its destination: when the client closes the session, or with its
        /// last fragment.
        publish: Publish = Publish::Close, Row::of(Form::Word(Publish::WORDS));
        /// Which digests of each file are computed while it comes: `"sha-256"`, or `sha-1` beside
        /// it. An upload that has begun keeps what it began with.
        digest: Algorithms = Algorithms::None, Row::of(Form::Words(Algorithms::WORDS)).by_default("\"none\"");
        /// Whether each file gets a digest file beside it, `NAME.sha256`, as `sha256sum -c` reads
        /// it; clients may not upload to such names then. It needs `digest`.
        digest_file: bool = false, Row::of(truth());
        /// Whether an upload may replace an existing file.
        allow_overwrite: bool = false, Row::of(truth()).iis(&["BITSAllowOverwrites"]);
        /// Whether missing folders of a destination are made.
        create_dirs: bool = false, Row::of(truth());
        /// Permissions of uploaded files, whatever the umask; none: `0666` without the umask.
        file_mode: Option<Permissions> = None, Row::of(Form::TextOrNone(permissions::FILE_MODE));
        /// Permissions of folders that `create_dirs` makes, whatever the umask; none: `0777`
        /// without the umask.
        dir_mode: Option<Permissions> = None, Row::of(Form::TextOrNone(permissions::DIR_MODE));
        /// What a session closed before any fragment means. `discard`: the client gave up.
        /// `create`: the file is empty.
        empty_file: EmptyFile = EmptyFile::Discard, Row::of(Form::Word(EmptyFile::WORDS));
        /// Also refuse what some real clients send: requests without Content-Length, and fragments
        /// in chunks.
        strict: bool = false, Row::of(truth());
        // 8 EiB is where file offsets end.
        /// Bytes of one uploaded file.
        upload_bytes_max: Option<u64> = None, Row::of(or_unlimited(Unit::Bytes, 1..=8_388_607 * TIB))
            .iis(&["BITSMaximumUploadSize"]);
        // A Windows client never sends less than 5 KiB while there is more; 16 TiB is the largest
        // file of ext4.
        /// Bytes of one fragment; clients that exceed it are told so and send smaller ones.
        fragment_bytes_max: u64 = 64 * MIB, Row::of(bytes(5 * KIB..=16 * TIB));
        // 14 days as in IIS.
        /// An upload without progress for this long is discarded.
        session_timeout: Duration = Duration::from_millis(14 * DAY), Row::of(duration(SECOND..=3650 * DAY))
            .iis(&["BITSSessionTimeout"]);
        // A client sends its first fragment at once; what has none after an hour is given up, or
        // was never meant.
        /// An upload of which no byte came within this is discarded, if `session_timeout` does not
        /// do so before.
        empty_session_timeout: Duration = Duration::from_millis(HOUR), Row::of(duration(SECOND..=3650 * DAY));
    }
}

keys! {
    /// Who may upload beneath one URL prefix.
    pub struct Access in Both "" {
        /// How clients may show who they are: by a ticket of Kerberos, by a name and a password, by
        /// a token, by a certificate, by the word of a proxy (`user_header`). Empty: nobody is
        /// asked.
        auth: Vec<Scheme> = Vec::new(), Row::of(Form::Words(Scheme::WORDS));
        /// Who of them may upload: users, `@group`, or `*` for all who have shown who they are.
        allow: Vec<Allowed> = vec![Allowed::Anybody], Row::of(Form::Texts(ALLOW));
        /// From where uploads are taken; empty: from everywhere. Others hear 403.
        allow_from: Networks = Networks::default(), Row::of(Form::Texts(NETWORKS));
        /// Whether each user has a folder of his own: what he uploads to `PREFIX/a/b` is at
        /// `USER/a/b` beneath what the prefix leads to. That folder is made where it is missing.
        per_user: bool = false, Row::of(truth());
        // Whoever listens on the way reads them.
        /// Whether passwords and tokens are taken from other hosts over connections without TLS,
        /// where they are none of `trusted_proxies`.
        allow_plaintext: bool = false, Row::of(truth());
        // Behind a proxy one connection may carry the requests of many.
        /// For how long a client has shown who it is: `tls`: for a connection with TLS that ends
        /// here; `connection`: for any connection; `request`: for one request. A proxy that speaks
        /// TLS to this server must be among `trusted_proxies`, or this be `request`.
        auth_persist: Persist = Persist::Tls, Row::of(Form::Word(Persist::WORDS));
    }
}

keys! {
    /// Who there is.
    pub struct AccountSettings in Server "" beside {
        /// What stands in the files.
        accounts: Arc<Accounts> = Arc::default(),
        /// These files, by their keys, and whether nothing stands in them, not even a comment.
        files: Vec<(&'static str, PathBuf, bool)> = Vec::new(),
        /// What stands in the keytab.
        keys: Arc<Keytab> = Arc::default(),
    } {
        /// The users and the hashes of their passwords, as `htpasswd -B` writes them.
        users_file: PathBuf = PathBuf::new(), Row::of(Form::File(ACCOUNT_FILE_TAKES)).secret().live();
        /// The groups that `allow` names: lines of `group: user user`.
        groups_file: PathBuf = PathBuf::new(), Row::of(Form::File(ACCOUNT_FILE_TAKES)).live();
        /// The tokens of `auth = ["bearer"]`, as `bitsd token` writes them.
        tokens_file: PathBuf = PathBuf::new(), Row::of(Form::File(ACCOUNT_FILE_TAKES)).secret().live();
        /// The fingerprints that `certificate_user = ["fingerprint"]` looks for: lines of
        /// `user:fingerprint`.
        certificates_file: PathBuf = PathBuf::new(), Row::of(Form::File(ACCOUNT_FILE_TAKES)).live();
        /// Where in a certificate the user's name stands; the first place that has one counts.
        certificate_user: Vec<CertificateRule> = vec![CertificateRule::SanUpn, CertificateRule::SanDns],
            Row::of(Form::Words(CertificateRule::WORDS)).live();
        /// The keys of this server's names in Kerberos, for `auth = ["negotiate"]`.
        keytab: PathBuf = PathBuf::new(), Row::of(Form::File("a keytab, or \"\" for none")).secret().live();
        /// Realms whose users are called without their realm; none: those of the keytab.
        realms: Vec<String> = Vec::new(), Row::of(Form::Texts(KERBEROS_REALMS)).live();
        /// Whether a ticket must be bound to the TLS connection that it comes on, so that nobody
        /// can pass it on. `off`: nobody looks; `check`: where the client has bound it; `require`:
        /// always.
        channel_binding: ChannelBinding = ChannelBinding::Check, Row::of(Form::Word(ChannelBinding::WORDS)).live();
        /// What clients are told that a password is for.
        auth_realm: String = "bitsd".to_owned(), Row::of(Form::Text(REALM)).live();
        // An upload of 1 GiB has 258 requests, each with the password.
        /// How long a password that was right is not compared with its hash again.
        auth_memory: Duration = Duration::from_secs(300), Row::of(duration(0..=DAY)).live();
        /// Proxies whose word is taken for who is behind them: for `X-Forwarded-For`, for the PROXY
        /// protocol, for `user_header`.
        trusted_proxies: Networks = Networks::default(), Row::of(Form::Texts(NETWORKS)).live();
        /// The field in which one of `trusted_proxies` names the user, for `auth = ["proxy"]`. It
        /// must take away what a client itself has put there.
        user_header: String = String::new(), Row::of(Form::TextOrNone(FIELD_NAME)).live();
    }
}

keys! {
    /// What a client is told about the node of a farm that it speaks with.
    pub struct Host in Both "" {
        /// The name by which clients are to call this node of a farm once they have a session.
        id: String = String::new(), Row::of(Form::TextOrNone(url::HOST)).called("host_id").iis(&["BITSHostId"]);
        // As in IIS.
        /// After how long a client that cannot reach the node by its `host_id` goes back to the
        /// name it began with.
        fallback_timeout: Duration = Duration::from_millis(DAY), Row::of(duration(SECOND..=365 * DAY))
            .called("host_id_fallback").iis(&["BITSHostIdFallbackTimeout"]);
    }
}

keys! {
    /// The server application that is notified of each upload.
    pub struct Notification in Both "" {
        /// How a server application is notified of an upload: not at all, by the names of its
        /// files, with the file itself (types 0, 1 and 2 of IIS).
        kind: NotificationType = NotificationType::ByReference,
            Row::of(Form::Word(NOTIFICATION_WORDS))
            .called("notification_type").by_default("\"none\"").iis(&["BITSServerNotificationType"]);
        /// Where the server application is; required if there is a `notification_type`.
        url: String = String::new(), Row::of(Form::TextOrNone(url::NOTIFICATION_URL))
            .called("notification_url").iis(&["BITSServerNotificationURL"]);
        // Clients give up after 5 minutes; our 408 must come before (protocol.md 9.9).
        /// How long the server application may take; clients give up after five minutes.
        timeout: Duration = Duration::from_secs(240), Row::of(duration(SECOND..=HOUR)).called("notification_timeout");
        // None, because clients repeat what failed by themselves.
        /// Further attempts after a notification that failed, before the client hears of it.
        retries: u32 = 0, Row::of(count(0..=10)).called("notification_retries");
        /// The secret that notifications are signed with (HMAC).
        secret: Option<Secret> = None,
            Row::of(Form::File(SECRET_TAKES)).secret()
            .called("notification_secret_file");
        // Each holds a connection to the server application.
        /// Notifications of one location on their way at the same time; beyond it clients hear 503.
        in_flight_max: usize = 64, Row::of(count(1..=1024)).called("notifications_in_flight_max");
        // A reply is a file; 16 TiB is the largest of ext4.
        /// Bytes of the server application's reply to an upload.
        reply_bytes_max: u64 = GIB, Row::of(bytes(1..=16 * TIB));
    }
}

keys! {
    /// Who hears of uploads that ended, by events.
    pub struct EventSettings in Events "events." {
        /// Where events are POSTed to; a 2xx says that they have come.
        webhook: String = String::new(), Row::of(Form::TextOrNone(url::WEBHOOK));
        /// The secret that they are signed with (HMAC).
        webhook_secret: Option<Secret> = None, Row::of(Form::File(SECRET_TAKES)).secret().called("events.webhook_secret_file");
        /// The authorities that vouch for the webhook; none: those that the system trusts.
        webhook_ca: PathBuf = PathBuf::new(), Row::of(Form::File(PEM_OR_NONE));
        /// A server of NATS with JetStream that events are published to; its stream says that they
        /// have come.
        nats: String = String::new(), Row::of(Form::TextOrNone(url::NATS));
        /// Their subject; a stream must take it.
        nats_subject: String = "bitsd.uploads".to_owned(), Row::of(Form::Text(SUBJECT));
        /// What the server of NATS is shown: a `.creds` file, a line of `user:password`, or a
        /// token.
        nats_credentials: Option<Secret> = None,
            Row::of(Form::File(CREDENTIALS_TAKE)).secret().called("events.nats_credentials_file");
        /// The authorities that vouch for the server of NATS; none: those that the system trusts.
        nats_ca: PathBuf = PathBuf::new(), Row::of(Form::File(PEM_OR_NONE));
        /// What events call this server; none: its `host_id`, or the name of its host.
        source: String = String::new(), Row::of(Form::TextOrNone(SOURCE));
        /// How long a target may take to say that it has an event.
        timeout: Duration = Duration::from_secs(30), Row::of(duration(SECOND..=HOUR));
        // Each POST has a thread.
        /// Events on their way to one target at the same time.
        in_flight_max: usize = 8, Row::of(count(1..=256));
    }
}

keys! {
    /// The object store that files go into instead of a folder.
    pub struct ObjectStore in Both "" {
        /// Where finished files go: beneath `root`, or into a bucket of an object store that speaks
        /// S3.
        kind: StoreKind = StoreKind::S3, Row::of(Form::Word(STORE_WORDS)).called("store").by_default("\"none\"");
        /// The bucket; required if there is a `store`.
        bucket: String = String::new(), Row::of(Form::TextOrNone(url::BUCKET)).called("store_bucket");
        /// What the keys of objects begin with, before the path of the upload.
        prefix: String = String::new(), Row::of(Form::Text(url::KEY_PREFIX)).called("store_prefix");
        /// The region that requests are signed for.
        region: String = "us-east-1".to_owned(), Row::of(Form::Text(url::REGION)).called("store_region");
        /// The store; none: that of AWS in the region.
        endpoint: Option<String> = None, Row::of(Form::TextOrNone(url::ENDPOINT)).called("store_endpoint");
        /// Whether the bucket stands in the path of URLs, and not in the name of the host.
        path_style: bool = false, Row::of(truth()).called("store_path_style");
        /// The authorities (PEM) that vouch for the store; none: those of this machine.
        ca: PathBuf = PathBuf::new(), Row::of(Form::File(PEM_OR_NONE)).called("store_ca");
        /// When a client hears that its upload is closed: when the store has the `object`, or when
        /// the file is `staged` here and this server answers for the rest.
        ack: StoreAck = StoreAck::Object, Row::of(Form::Word(StoreAck::WORDS)).called("store_ack");
        // Clients give up after five minutes.
        /// How long a client that closes waits for the store; then it hears 503 and comes back, and
        /// the work goes on.
        wait: Duration = Duration::from_secs(60), Row::of(duration(SECOND..=240 * SECOND)).called("store_wait");
        // S3 takes no smaller one but the last, and no larger one.
        /// Bytes of the parts in which larger files are sent; more where there would be over 9,000.
        part_bytes: u64 = 16 * MIB, Row::of(bytes(5 * MIB..=5 * GIB)).called("store_part_bytes");
        /// Whether parts of a file are sent ahead, while the rest of it is still coming. Its object
        /// does not bear its digest as a mark then: it was begun before that was known.
        ahead: bool = true, Row::of(truth()).called("store_ahead");
        /// Bytes of unfinished uploads and of files that the store has not taken yet, from which on
        /// new uploads wait.
        staging_max: Option<u64> = None, Row::of(or_unlimited(Unit::Bytes, MIB..=1024 * TIB)).called("store_staging_max");
        /// Where `allow_overwrite` is off: by `probe` the store must have shown that it refuses to
        /// replace an object; by `look` this server looks before, and others can come between.
        no_replace: NoReplace = NoReplace::Probe, Row::of(Form::Word(NoReplace::WORDS)).called("store_no_replace");
    }
}

keys! {
    /// Addresses, and what holds for those who connect there.
    pub struct Listener in Listener "listener." {
        /// Addresses to listen on. `[::]` takes IPv6 only; `0.0.0.0` beside it takes IPv4.
        address: Vec<SocketAddr> = Vec::new(), Row::of(Form::Addresses).by_default("required");
        /// Whether clients must speak TLS there (https).
        tls: bool = false, Row::of(truth());
        /// The authorities (PEM) one of which must vouch for a client: without a certificate of
        /// theirs nobody gets in.
        client_ca: PathBuf = PathBuf::new(), Row::of(Form::File(PEM_OR_NONE)).live();
        /// What these authorities have revoked (PEM); each of them must have a list in it that has
        /// not expired.
        client_crl: PathBuf = PathBuf::new(), Row::of(Form::File(PEM_OR_NONE)).live();
        /// Whether one of `trusted_proxies` begins each connection by saying whose it is (the PROXY
        /// protocol, version 1 or 2). Nobody else is let in there.
        proxy_protocol: ProxyProtocol = ProxyProtocol::None, Row::of(Form::Word(ProxyProtocol::WORDS));
        /// From where connections are taken; empty: from everywhere. Others are ended at once, and
        /// hear 403 where one of `trusted_proxies` names them (`X-Forwarded-For`).
        allow_from: Networks = Networks::default(), Row::of(Form::Texts(NETWORKS)).live();
    }
}

keys! {
    /// A certificate and its key.
    pub struct Certificate in Certificate "certificate." {
        /// The server's certificate and behind it those of the authorities on the way to the root
        /// (PEM).
        chain: PathBuf = PathBuf::new(), Row::of(Form::File("a PEM file")).by_default("required").live();
        /// Its private key (PEM, not encrypted); nobody but the server's account may read it.
        key: PathBuf = PathBuf::new(), Row::of(Form::File("a PEM file")).by_default("required").live();
    }
}

keys! {
    /// Bounds of the server.
    pub struct Limits in Limits "limits." {
        // Tickets of Kerberos have up to 48 KiB, and 64 once they are encoded.
        /// Bytes of a request head; by default 80 KiB where there is a `keytab`.
        head_bytes_max: usize = narrow(64 * KIB), Row::of(bytes(KIB..=128 * KIB));
        // Each takes `head_bytes_max` and a page while it arrives.
        /// Heads over 20 KiB that one shard reads at the same time; of one client, an eighth of
        /// them, and one at least.
        long_heads_per_shard_max: usize = 256, Row::of(count(1..=65_536));
        /// Fields of a request head.
        headers_max: usize = 64, Row::of(count(8..=256));
        /// Bytes of the value of a `BITS-` or `Content-` field; others are bounded by the head.
        value_bytes_max: usize = narrow(4 * KIB), Row::of(bytes(256..=64 * KIB));
        /// Connections of one shard.
        connections_per_shard_max: usize = 16_384, Row::of(count(1..=1_048_576)).live();
        // Three quarters of what a shard holds, so that no one client keeps all others out. Not
        // less: a proxy or a NAT is one client, too.
        /// Connections of one client address (IPv6: of one /64) to one shard; a proxy in front is
        /// one client.
        connections_per_client_max: usize = 12_288, Row::of(count(1..=1_048_576)).live();
        /// Large body blocks of one shard.
        body_blocks_per_shard: usize = 16, Row::of(count(1..=512));
        /// Bytes of one body block; a multiple of the page size. A long body takes two as one
        /// while there are enough.
        block_bytes: usize = narrow(512 * KIB), Row::of(number(Unit::PowerOfTwoBytes, 64 * KIB..=8 * MIB));
        /// Sessions of one shard.
        sessions_per_shard_max: usize = 262_144, Row::of(count(1..=16_777_216)).live();
        /// Connections on their way from one shard to another.
        mailbox_max: usize = 256, Row::of(count(1..=65_536));
        // 500 with ECDSA are a twentieth of a core, with RSA a third; resumed ones cost less.
        /// TLS handshakes that one shard begins in a second; more wait for their turn, up to two
        /// seconds. Where the wait is over a second, no client adds to a quarter of the line.
        handshakes_per_second_max: u64 = 500, Row::of(count(1..=1_000_000)).live();
        // Passwords are remembered once they are right, so most come at a start. More threads would
        // leave less for uploads.
        /// Threads that compare passwords; as many look at Kerberos tickets.
        verify_threads: usize = 2, Row::of(count(1..=256));
        /// Passwords that wait for such a thread, and tickets; of one client an eighth of them. Who
        /// brings one more hears 503.
        verify_queue_max: usize = 256, Row::of(count(8..=65_536));
        /// Time for a head to arrive, in milliseconds.
        head_ms_max: u64 = 10_000, Row::of(milliseconds(100..=600_000)).live();
        /// Time between requests, in milliseconds.
        idle_ms_max: u64 = 120_000, Row::of(milliseconds(100..=3_600_000)).live();
        /// Time without a byte of a body (or without progress of an answer), in milliseconds.
        body_stall_ms_max: u64 = 60_000, Row::of(milliseconds(100..=3_600_000)).live();
        /// Bytes of a refused body that are read to keep the connection.
        drain_bytes_max: u64 = 16 * MIB, Row::of(bytes(0..=GIB)).live();
        /// Time for running requests to finish when the server stops, in milliseconds.
        shutdown_ms_max: u64 = 30_000, Row::of(milliseconds(0..=3_600_000)).live();
        /// How long a closed or cancelled session is remembered, in milliseconds.
        tombstone_ms_max: u64 = 600_000, Row::of(milliseconds(0..=86_400_000)).live();
        // Ten minutes at 1,000 a second, some 90 bytes each, and 50 more with a digest.
        /// How many closed or cancelled sessions one shard remembers.
        tombstones_per_shard_max: usize = 600_000, Row::of(count(0..=16_777_216)).live();
        // Half a KiB each, in memory and in the journal.
        /// Events that one shard may owe; beyond it new uploads hear 503 where events are sent.
        events_owed_per_shard_max: usize = 100_000, Row::of(count(1..=16_777_216)).live();
        // Four times the records of `sessions_per_shard_max` with the longest paths, 2.5 KiB each.
        /// Bytes of one shard's journal. New sessions are refused when records of running ones fill
        /// a quarter of it.
        journal_bytes_max: u64 = 4 * GIB, Row::of(bytes(16 * MIB..=TIB)).live();
        // A second or two of reading. Each time it is a record of some hundred bytes.
        /// Bytes of an upload after which the state of its digests is recorded anew: so much is
        /// read again after a crash.
        digest_step_bytes: u64 = GIB, Row::of(bytes(1..=TIB)).live();
        // A path of 2,200 bytes has no more names; the 260 characters of a Windows path have room
        // for half as many.
        /// Folders on the way from a root to a file that is uploaded or read.
        path_depth_max: usize = 64, Row::of(count(0..=1_100)).live();
        /// Notifications of all locations on their way at the same time; each has a thread.
        notifications_max: usize = 512, Row::of(count(1..=16_384));
        /// Bytes of the files that are on their way to applications at the same time; a larger file
        /// goes alone.
        notification_bytes_max: u64 = 4 * GIB, Row::of(bytes(1..=1024 * TIB));
        // Each holds a connection to the store, and a block of its file in memory.
        /// Files on their way to one object store at the same time; each store has this many of
        /// its own.
        store_uploads_max: usize = 16, Row::of(count(1..=256));
        // Enough for what runs, and no more than a hundredth of a small disk (`vault/space.rs`).
        /// Where less is free on a file system, new uploads to it wait, and running ones go on; on
        /// that of `work_dir`, which has the records of all, and on that of `custody`, all new ones
        /// wait. 256 MiB, left or written, means 1 % on file systems smaller than 25 GiB; any
        /// other value holds as it is.
        free_bytes_min: u64 = FREE_BYTES_MIN, Row::of(bytes(0..=1024 * TIB));
        /// What may be reserved ahead of all uploads to a file system, in percent of what is free.
        reserve_share_max: u64 = 25, Row::of(number(Unit::Percent, 0..=100));
        /// How long space stays reserved for an upload that makes no progress, in milliseconds.
        reserve_ms_max: u64 = 60_000, Row::of(milliseconds(100..=3_600_000));
    }
}

const ACCOUNT_FILE_TAKES: &str = "a file, or \"\" for none";
const PLACE_TAKES: &str = "a path from `/` on, or \"\" for none";
const CREDENTIALS_TAKE: &str = "a file of at most 4096 bytes, or \"\" for none";
const SECRET_TAKES: &str =
    "a file of 16 to 4096 bytes, white space at the ends aside, or \"\" for none";
const ADMIN_NAMES: Text = Text {
    takes: "an array of host names",
    ..url::HOST
};
const ALLOW: Text = Text {
    parse: parse_allowed,
    takes: "an array of users, `@groups`, or `*`",
    pattern: r"^(\*|@?[^:\s\x00-\x1f\x7f]([^:\x00-\x1f\x7f]*[^:\s\x00-\x1f\x7f])?)$",
    hint: no_hint,
};
const FIELD_NAME: Text = Text {
    parse: parse_field_name,
    takes: "the name of a field that means nothing else, such as `X-Remote-User`",
    pattern: "^[A-Za-z0-9_.-]{1,64}$",
    hint: no_hint,
};
const KERBEROS_REALMS: Text = Text {
    parse: parse_kerberos_realm,
    takes: "an array of realms, such as `EXAMPLE.COM`",
    pattern: r"^[^\s@/:\\]{1,255}$",
    hint: no_hint,
};
const NETWORKS: Text = Text {
    parse: Networks::parse_one,
    takes: NETWORKS_TAKE,
    pattern: r"^([0-9]+(\.[0-9]+){3}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)(/[0-9]{1,3})?$",
    hint: Networks::meant,
};
const SOURCE: Text = Text {
    parse: parse_source,
    takes: "a URI reference (RFC 3986) of at most 300 characters",
    pattern: r"^[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]{1,300}$",
    hint: no_hint,
};
const SUBJECT: Text = Text {
    parse: parse_subject,
    takes: "words of letters, digits, `-` and `_`, with dots between them",
    pattern: r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$",
    hint: no_hint,
};
const REALM: Text = Text {
    parse: parse_realm,
    takes: "1 to 100 characters of ASCII, no quotes, no backslashes",
    pattern: r"^[ !#-\[\]-~]{1,100}$",
    hint: no_hint,
};

fn parse_allowed(text: &str) -> Option<String> {
    Allowed::parse(text).map(|allowed| allowed.to_text())
}

/// A token (RFC 9110 5.6.2), and none that means something already.
fn parse_field_name(text: &str) -> Option<String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_name = (1..=64).contains(&text.len()) && text.bytes().all(is_token);
    let begins = |start: &&str| {
        (text.get(..start.len())).is_some_and(|begin| begin.eq_ignore_ascii_case(start))
    };
    let is_taken = OWN_FIELDS.iter().any(|own| own.eq_ignore_ascii_case(text))
        || OWN_FIELDS_BEGIN.iter().any(begins);
    (is_name && !is_taken).then(|| text.to_owned())
}

/// Fields that mean something to us or to everybody.
const OWN_FIELDS: &[&str] = &[
    "Accept",
    "Authorization",
    "Connection",
    "Cookie",
    "Date",
    "Expect",
    "Forwarded",
    "Host",
    "Range",
    "Referer",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
    "User-Agent",
    "Via",
    "X-Forwarded-For",
    "X-HTTP-Method-Override",
];
const OWN_FIELDS_BEGIN: &[&str] = &["Accept-", "BITS-", "Content-", "If-"];

fn parse_kerberos_realm(text: &str) -> Option<String> {
    let is_plain = |c: char| !c.is_control() && !c.is_whitespace() && !"@/:\\".contains(c);
    let is_realm = (1..=255).contains(&text.len()) && text.chars().all(is_plain);
    is_realm.then(|| text.to_owned())
}

/// The subject of messages: no wildcards, no blanks, and nothing that only some servers take.
fn parse_subject(text: &str) -> Option<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(is_plain);
    let is_subject = text.len() <= 255 && text.split('.').all(is_word);
    is_subject.then(|| text.to_owned())
}

/// The `source` of events (CloudEvents 1.0 3.1.1), which everybody is told.
fn parse_source(text: &str) -> Option<String> {
    let names_nobody = |uri: fluent_uri::UriRef<&str>| {
        (uri.authority()).is_none_or(|authority| !authority.has_userinfo())
    };
    let is_source =
        (1..=300).contains(&text.len()) && fluent_uri::UriRef::parse(text).is_ok_and(names_nobody);
    is_source.then(|| text.to_owned())
}

/// What may stand in a quoted string as it is (RFC 9110 5.6.4).
fn parse_realm(text: &str) -> Option<String> {
    let is_plain = |byte: u8| (byte == b' ' || byte.is_ascii_graphic()) && !b"\"\\".contains(&byte);
    let is_realm = (1..=100).contains(&text.len()) && text.bytes().all(is_plain);
    is_realm.then(|| text.to_owned())
}

/// The default of `limits.head_bytes_max` where there is a keytab: the longest token, encoded, and
/// as much for all else as a usual head block holds.
pub(super) const HEAD_BYTES_WITH_TICKETS: usize = narrow(80 * KIB);

/// The default of `limits.free_bytes_min`.
pub const FREE_BYTES_MIN: u64 = 256 * MIB;

/// The two keys called `root`, and the prefix: they end up in [`Config::roots`] and by name in
/// [`Location`].
pub(super) const ROOT: &[Row] = &[Row::of(Form::Directory("a directory"))
    .flag()
    .by_default("\"./uploads\"")
    .row("root", Scope::Server, "Where uploaded files go.")];
pub(super) const OF_A_LOCATION: &[Row] = &[
    Row::of(Form::Prefix).by_default("required").row(
        "location.prefix",
        Scope::Location,
        "The location applies to this path and everything beneath it; the longest prefix wins.",
    ),
    Row::of(Form::Directory("a directory"))
        .by_default("ROOT/PREFIX")
        .row(
            "location.root",
            Scope::Location,
            "Where the files of the location go; its prefix is then not part of their path.",
        ),
];

/// Every key with its default, in the order of the documentation.
static ALL: LazyLock<Vec<(&'static Row, Value)>> = LazyLock::new(|| {
    fn of<T: Table>() -> Vec<(&'static Row, Value)> {
        T::default().entries().collect()
    }
    // Their defaults are words.
    let in_words = |rows: &'static [Row]| {
        let rows = rows.iter().map(|row| (row, Value::Text(String::new())));
        rows.collect()
    };
    let tables = [
        in_words(ROOT),
        of::<Config>(),
        of::<AccountSettings>(),
        of::<Location>(),
        of::<Access>(),
        of::<Policy>(),
        of::<Host>(),
        of::<Notification>(),
        of::<ObjectStore>(),
        in_words(OF_A_LOCATION),
        of::<Listener>(),
        of::<Certificate>(),
        of::<Limits>(),
        of::<EventSettings>(),
    ];
    tables.concat()
});

/// Every key, in the order of the documentation; docs/settings.md is checked against them.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    ALL.iter().map(|(row, _)| *row)
}

/// The default of a key as it would be written in the file, or in words.
pub fn default_of(row: &'static Row) -> String {
    let (_, value) = (ALL.iter())
        .find(|(known, _)| known.key == row.key)
        .expect("every key is there");
    let written = || row.form.to_toml(value);
    row.default.map_or_else(written, str::to_owned)
}

impl AccountSettings {
    /// The realms whose users are called without them.
    pub fn own_realms(&self) -> Vec<&str> {
        match self.realms.is_empty() {
            true => self.keys.realms().into_iter().collect(),
            false => self.realms.iter().map(String::as_str).collect(),
        }
    }
}

const fn narrow(bytes: u64) -> usize {
    #[allow(clippy::cast_possible_truncation, reason = "defaults of a few KiB")]
    {
        bytes as usize
    }
}

/// The word for no notification at all, which is no [`NotificationType`].
pub(super) const NO_NOTIFICATION: &str = "none";
const NOTIFICATION_WORDS: &[&str] = &[
    NO_NOTIFICATION,
    NotificationType::WORDS[0],
    NotificationType::WORDS[1],
];
/// The word for no store at all, which is no [`StoreKind`].
pub(super) const NO_STORE: &str = "none";
const STORE_WORDS: &[&str] = &[NO_STORE, StoreKind::WORDS[0]];
const PEM_OR_NONE: &str = "a PEM file, or \"\" for none";
pub(super) const ROOT_DEFAULT: &str = "./uploads";
const SECOND: u64 = 1000;
const HOUR: u64 = 3600 * SECOND;
const DAY: u64 = 24 * HOUR;

#[cfg(test)]
mod tests {
    use super::super::form::Written;
    use super::*;

    /// What a field refuses to take, or gives back otherwise, has a form that does not fit its
    /// type.
    fn check<T: Table + PartialEq + std::fmt::Debug>() {
        let mut table = T::default();
        for (index, row) in T::ROWS.iter().enumerate() {
            assert!(
                !row.meaning().is_empty() && !row.takes().is_empty(),
                "{}",
                row.key
            );
            let default = table.value(index);
            table.set(index, default.clone());
            assert_eq!(table, T::default(), "{}", row.key);
            let printed = row.form.to_toml(&default);
            if let Form::Number(number) = &row.form {
                for bound in [number.bounds.start(), number.bounds.end()] {
                    let bound = Value::Number(Some(*bound));
                    table.set(index, bound.clone());
                    assert_eq!(table.value(index), bound, "{}", row.key);
                }
                table = T::default();
            }
            // Those with words for a default are made from others where none is given.
            let text = printed.trim_matches('"').to_owned();
            let written = match &default {
                Value::Texts(texts) => Written::Texts(texts.clone()),
                _ => Written::Raw(text.into()),
            };
            let read = row.form.read(written);
            assert!(
                row.default.is_some() || read == Ok(default),
                "{}: {read:?}",
                row.key
            );
        }
    }

    #[test]
    fn every_default_is_one_that_the_key_takes() {
        check::<Config>();
        check::<Location>();
        check::<Policy>();
        check::<Access>();
        check::<AccountSettings>();
        check::<Host>();
        check::<Notification>();
        check::<ObjectStore>();
        check::<Listener>();
        check::<Certificate>();
        check::<Limits>();
        check::<EventSettings>();
    }
}
