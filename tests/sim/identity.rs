//! Who clients are and how they show it, and what others do in their names.
//!
//! In some runs nobody uploads who has not shown who it is. Honest clients dance as Windows does:
//! they ask, hear 401, show something, and may be known on the connection from then on. Thieves
//! know all that leaks (paths, ids of sessions, former passwords) and prove nothing of it. What is
//! shown is looked at late, out of order, or not at all.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bitsd::auth::accounts::Accounts;
use bitsd::auth::hash::{Attempt, TooManyAttempts};
use bitsd::auth::negotiation::{Leg, Negotiated, NotNegotiated};
use bitsd::bits::reply::{NotShown, Refusal};
use bitsd::bits::session_id::SessionId;
use bitsd::config::{Access, AccountSettings, Persist};
use bitsd::event::Event;
use bitsd::http::authorization::Scheme;
use bitsd::http::spnego::Shape;
use sha2::{Digest as _, Sha256};

use crate::clock::sleep;
use crate::plan::Upload;
use crate::rng::{Rng, mix};
use crate::sim::Sim;
use crate::talk::{FragmentHead, Reply, Talk, packet};

/// Users that there are: one for each upload, and one more.
const USERS: usize = 12;
/// A user who may upload, and whose no upload is.
pub const MALLORY: usize = USERS - 1;
/// The realm of all tickets.
const REALM: &str = "SIM";
/// 1.2.840.113554.1.2.2, with its tag and length.
const KERBEROS: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";

/// What a run draws of it.
#[derive(Clone, Debug)]
pub struct Identities {
    /// How clients may show who they are; each takes one.
    pub schemes: Vec<Scheme>,
    /// For how long that holds.
    pub persist: Persist,
    /// A ticket takes two requests.
    pub has_legs: bool,
    /// So many of a thousand attempts find too many others waiting.
    pub missing: u64,
    /// How long a look at what was shown takes at the most, in milliseconds.
    pub late_ms_max: u64,
    /// Packets of a thousand beside which somebody tries to take the session.
    pub thieves: u64,
    /// All passwords and tokens change about so often, in milliseconds; 0 is never.
    pub change_ms: u64,
}

impl Identities {
    /// Those of a seed, if it has any.
    pub fn draw(seed: u64) -> Option<Self> {
        let mut rng = Rng::new(mix(seed ^ 0x1de7));
        rng.chance(200).then(|| Self {
            schemes: match rng.below(4) {
                0 => vec![Scheme::Basic],
                1 => vec![Scheme::Bearer],
                2 => vec![Scheme::Negotiate],
                _ => vec![Scheme::Negotiate, Scheme::Basic, Scheme::Bearer],
            },
            persist: rng.pick(&[Persist::Connection, Persist::Connection, Persist::Request]),
            has_legs: rng.chance(400),
            missing: rng.pick(&[0, 0, 50, 200]),
            late_ms_max: rng.pick(&[0, 10, 3_000]),
            thieves: rng.pick(&[0, 100, 300]),
            change_ms: rng.pick(&[0, 0, 3_000, 15_000]),
        })
    }

    /// What all locations ask for.
    pub fn access(&self) -> Access {
        Access {
            auth: self.schemes.clone(),
            allow_plaintext: true,
            auth_persist: self.persist,
            ..Access::default()
        }
    }

    fn scheme_of(&self, user: usize) -> Scheme {
        self.schemes[user % self.schemes.len()]
    }
}

/// Everybody's accounts after so many changes.
pub fn accounts(changes: u64) -> AccountSettings {
    let (mut users, mut tokens) = (String::new(), String::new());
    for user in 0..USERS {
        // Its salt names the password; nobody computes the hash.
        let filling = "x".repeat(43);
        let told = writeln!(users, "u{user}:$5${}${filling}", key(user, changes));
        told.expect("memory");
        let digest = Sha256::digest(secret(user, changes));
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(tokens, "u{user}:{digest}").expect("memory");
    }
    AccountSettings {
        accounts: Arc::new(Accounts::parse(&users, "", &tokens).expect("good lines")),
        realms: vec![REALM.to_owned()],
        ..AccountSettings::default()
    }
}

fn key(user: usize, changes: u64) -> String {
    format!("u{user}c{changes}")
}

/// A password, or a token.
fn secret(user: usize, changes: u64) -> String {
    format!("secret-{}", key(user, changes))
}

/// What a client shows with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Nobody is asked.
    Unasked,
    /// Nothing.
    Nothing,
    /// What is right after so many changes.
    Right(u64),
    /// The first half of a ticket.
    Half,
}

/// What a connection has come to, as its client knows it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// The client was let in, when so many changes had been made.
    since: Option<u64>,
    /// It has shown what is right, whatever came of it.
    has_shown: bool,
    /// It was asked to show something.
    is_asked: bool,
    /// The first half of a ticket was taken.
    is_half: bool,
}

/// The text of a request with a field more.
fn with_field(text: &str, field: &str) -> String {
    text.replacen("Host: h\r\n", &format!("Host: h\r\n{field}\r\n"), 1)
}

fn authorization(scheme: Scheme, user: usize, secret: &str) -> String {
    match scheme {
        Scheme::Basic => {
            let pair = STANDARD.encode(format!("u{user}:{secret}"));
            format!("Authorization: Basic {pair}")
        }
        Scheme::Bearer => format!("Authorization: Bearer {secret}"),
        _ => format!(
            "Authorization: Negotiate {}",
            STANDARD.encode(ticket(secret))
        ),
    }
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).expect("short");
    assert!(length < 128, "a length of one byte");
    [&[tag, length], content].concat()
}

/// The first token of a conversation.
fn ticket(text: &str) -> Vec<u8> {
    element(0x60, &[KERBEROS, text.as_bytes()].concat())
}

/// A further token.
fn further() -> Vec<u8> {
    element(
        0xa1,
        &element(0x30, &element(0xa2, &element(0x04, b"more"))),
    )
}

/// A request of an honest client as it is sent, and what it shows.
pub fn sign(sim: &Sim, text: &str, user: usize, known: &Known, rng: &mut Rng) -> (String, Shown) {
    let Some(identities) = &sim.plan.identities else {
        return (text.to_owned(), Shown::Unasked);
    };
    let is_known = identities.persist == Persist::Connection && known.since.is_some();
    let is_silent = match is_known {
        true => rng.chance(700),
        // As Windows does: it waits to be asked.
        false => rng.chance(300),
    };
    if is_silent && !known.is_asked {
        return (text.to_owned(), Shown::Nothing);
    }
    let scheme = identities.scheme_of(user);
    let now = sim.changes.get();
    let (field, shown) = match scheme {
        Scheme::Negotiate if identities.has_legs && known.is_half => {
            let token = STANDARD.encode(further());
            (
                format!("Authorization: Negotiate {token}"),
                Shown::Right(now),
            )
        }
        Scheme::Negotiate if identities.has_legs => (
            authorization(scheme, user, &format!("half u{user}")),
            Shown::Half,
        ),
        Scheme::Negotiate => (
            authorization(scheme, user, &format!("whole u{user}")),
            Shown::Right(now),
        ),
        _ => (
            authorization(scheme, user, &secret(user, now)),
            Shown::Right(now),
        ),
    };
    (with_field(text, &field), shown)
}

/// A request that is let in or not by itself.
pub fn sign_whole(sim: &Sim, text: &str, user: usize) -> String {
    let Some(identities) = &sim.plan.identities else {
        return text.to_owned();
    };
    let scheme = identities.scheme_of(user);
    let secret = match scheme {
        Scheme::Negotiate => format!("whole u{user}"),
        _ => secret(user, sim.changes.get()),
    };
    with_field(text, &authorization(scheme, user, &secret))
}

/// Holds an answer to a request of an honest client against what was shown with it. Whether the
/// client is to show (more of) who it is, and ask again.
pub fn heard(sim: &Sim, user: usize, status: u16, shown: Shown, known: &mut Known) -> bool {
    let Some(identities) = &sim.plan.identities else {
        return false;
    };
    let now = sim.changes.get();
    let is_ticket = identities.scheme_of(user) == Scheme::Negotiate;
    let fail = |what: String| sim.judge.borrow_mut().fail(format!("16: {what}"));
    // What was known while the request was under way, however the passwords changed.
    let was_known = identities.persist == Persist::Connection
        && known.since.is_some_and(|since| is_ticket || since == now);
    let has_shown = known.has_shown || matches!(shown, Shown::Right(_));
    let unknown = Known {
        has_shown,
        ..Known::default()
    };
    match (status, shown) {
        (401, Shown::Half) => {
            sim.marks.hit("half a ticket taken");
            *known = Known {
                is_half: true,
                is_asked: true,
                ..unknown
            };
            return true;
        }
        (401, Shown::Right(changes)) if is_ticket || changes == now => {
            fail(format!("u{user} has shown what is right, and hears 401"));
        }
        (401, Shown::Nothing) if was_known => {
            fail(format!(
                "u{user} was known on this connection, and hears 401"
            ));
        }
        (401, _) => {
            sim.marks.hit("asked who it is (401)");
            *known = Known {
                is_asked: true,
                ..unknown
            };
            return true;
        }
        // Nobody could look at it, or the server has other reasons.
        (503, _) => *known = unknown,
        // Too long for anybody.
        (413, Shown::Nothing | Shown::Half) => *known = unknown,
        (100 | 200 | 206 | 416, Shown::Nothing) if !has_shown => {
            fail(format!("{status} to u{user}, who has shown nothing"));
        }
        (100 | 200 | 206 | 416, Shown::Half) => {
            fail(format!("half a ticket is answered by {status}"));
        }
        (100 | 200 | 206 | 416, Shown::Nothing) => sim.marks.hit("known on a connection"),
        (100 | 200 | 206 | 413 | 416, Shown::Right(changes)) => {
            let since = Some(changes);
            *known = Known { since, ..unknown };
        }
        _ => {
            let since = known.since;
            *known = Known { since, ..unknown };
        }
    }
    false
}

/// Whether a password is right: after a while, or nobody can say.
pub async fn verify(sim: &Sim, attempt: &Attempt) -> Result<bool, TooManyAttempts> {
    take_time(sim).await.map_err(|()| TooManyAttempts)?;
    let key = attempt.hash.as_str().split('$').nth(2).unwrap_or_default();
    Ok(*attempt.password == format!("secret-{key}").into_bytes())
}

/// What a token of Negotiate says: after a while, or nobody can say.
pub async fn negotiate(sim: &Sim, leg: Leg) -> Result<Negotiated, NotNegotiated> {
    if take_time(sim).await.is_err() {
        return Err(match sim.chance(500) {
            true => NotNegotiated::TooMany,
            false => NotNegotiated::Unusable("the library is gone".to_owned()),
        });
    }
    let proven = |user: &str| Negotiated::Proven {
        principal: format!("{user}@{REALM}"),
        answer: Vec::new(),
        is_bound: false,
    };
    if leg.shape == Shape::Further {
        let begun = (leg.conversation)
            .and_then(|conversation| sim.conversations.borrow_mut().remove(&conversation));
        return Ok(begun.map_or(Negotiated::OutOfPlace, |user| {
            sim.marks.hit("ticket in two halves");
            proven(&user)
        }));
    }
    let text = leg.token.get(2 + KERBEROS.len()..).unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    Ok(match text.split_once(' ') {
        Some(("whole", user)) => proven(user),
        Some(("half", user)) => {
            let mut conversations = sim.conversations.borrow_mut();
            let conversation = sim.random();
            conversations.insert(conversation, user.to_owned());
            Negotiated::GoesOn {
                conversation,
                answer: b"go on".to_vec(),
            }
        }
        _ => Negotiated::Refused {
            minor: 0,
            why: "forged".to_owned(),
            answer: Vec::new(),
        },
    })
}

async fn take_time(sim: &Sim) -> Result<(), ()> {
    let Some(identities) = &sim.plan.identities else {
        return Ok(());
    };
    if sim.chance(identities.missing) {
        sim.marks.hit("nobody could look at it");
        return Err(());
    }
    let ms = sim.below(identities.late_ms_max + 1) as u64;
    sleep(&sim.executor, ms).await;
    Ok(())
}

/// Changes all passwords and tokens again and again, under a running server.
pub async fn change_accounts(sim: Rc<Sim>) {
    let mean = sim
        .plan
        .identities
        .as_ref()
        .map_or(0, |identities| identities.change_ms);
    if mean == 0 {
        return;
    }
    loop {
        sleep(&sim.executor, 1 + sim.below(2 * mean) as u64).await;
        if !sim.has_faults.get() {
            return;
        }
        let Some(life) = sim
            .life
            .borrow()
            .clone()
            .filter(|life| !life.is_recovering())
        else {
            continue;
        };
        sim.marks.hit("accounts changed");
        sim.changes.set(sim.changes.get() + 1);
        sim.tell(|| format!("accounts change, {}", sim.changes.get()));
        let shards = life.shards.borrow();
        let mut settings = (*shards[0].settings()).clone();
        settings.accounts = accounts(sim.changes.get());
        // All shards have the same ones, so that who is known stays known on the way to another.
        let settings = Arc::new(settings);
        for shard in shards.iter() {
            shard.adopt(Arc::clone(&settings));
        }
    }
}

/// As whom a thief comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disguise {
    /// Nobody.
    Nobody,
    /// Mallory, who may upload, but not this.
    Mallory,
    /// The owner, with a wrong password.
    Forger,
    /// The owner, with one wrong password after the other.
    Guesser,
    /// The owner, with what was right before.
    Former,
    /// Mallory, who then says nothing and hopes to be taken for the owner.
    KnownMallory,
    /// The next one on a connection of a proxy, after somebody who has shown who it is.
    BehindProxy,
    /// Somebody after a wrong password, on a connection on which Mallory was known.
    Fallen,
}

/// Somebody who tries to take a session, or to begin one.
pub struct Thief {
    /// The world.
    pub sim: Rc<Sim>,
    /// Whose upload it is.
    pub owner: usize,
    /// The upload.
    pub upload: Upload,
    /// Its session.
    pub session: SessionId,
    /// The target of the reply, where there is one.
    pub reply: Option<String>,
    /// Chance.
    pub rng: Rng,
}

impl Thief {
    /// Comes, tries, and goes.
    pub async fn run(mut self) {
        let wait = self.rng.below(2_000);
        sleep(&self.sim.executor, wait).await;
        let disguise = self.rng.pick(&[
            Disguise::Nobody,
            Disguise::Nobody,
            Disguise::Mallory,
            Disguise::Mallory,
            Disguise::Forger,
            Disguise::Guesser,
            Disguise::Former,
            Disguise::KnownMallory,
            Disguise::BehindProxy,
            Disguise::Fallen,
        ]);
        let Some(end) = self.sim.connect_from(THIEF, None) else {
            return;
        };
        let mut talk = Talk::new(&self.sim, end);
        let Some(identities) = self.sim.plan.identities.clone() else {
            return;
        };
        // What goes before, on the same connection.
        let own = packet("Ping", &self.upload.path, None);
        let of_session = packet("Cancel-Session", &self.upload.path, Some(self.session));
        let sim = Rc::clone(&self.sim);
        let signed = |text: &str| sign_whole(&sim, text, MALLORY);
        let via = |text: &str| with_field(text, "Via: 1.1 proxy");
        let forged = self.forged(&identities, &own);
        let before = match disguise {
            Disguise::KnownMallory => vec![signed(&own)],
            // More than anybody has free: whoever comes from elsewhere must not wait for it.
            Disguise::Guesser => vec![forged; 12],
            // It goes to the shard of the session meanwhile.
            Disguise::BehindProxy => vec![via(&own), signed(&of_session)],
            Disguise::Fallen => vec![signed(&own), forged],
            _ => Vec::new(),
        };
        for text in before {
            talk.send(text.as_bytes()).await;
            match talk.hear().await {
                Ok(reply) if !reply.is_last => {}
                _ => return,
            }
        }
        let is_mallory = disguise == Disguise::Mallory
            || disguise == Disguise::KnownMallory && identities.persist == Persist::Connection;
        let (what, text, body) = self.wish(is_mallory);
        let changes = self.sim.changes.get();
        let text = match disguise {
            Disguise::Mallory => signed(&text),
            Disguise::Forger | Disguise::Guesser => self.forged(&identities, &text),
            Disguise::Former => self.former(&identities, &text),
            _ => text,
        };
        self.sim
            .tell(|| format!("a thief as {disguise:?} tries {what}"));
        talk.send(text.as_bytes()).await;
        talk.send(&body).await;
        if what == "Reply" {
            if let Ok(download) = talk.hear_body().await {
                self.judge(
                    what,
                    disguise,
                    is_mallory,
                    changes,
                    download.status,
                    download.status == 404,
                );
            }
            return;
        }
        if let Ok(Reply { status, error, .. }) = talk.hear().await {
            let is_unknown = error.as_deref() == Some(crate::talk::NOT_FOUND);
            self.judge(what, disguise, is_mallory, changes, status, is_unknown);
        }
    }

    /// What it asks for. A session of its own is no theft.
    fn wish(&mut self, is_mallory: bool) -> (&'static str, String, Vec<u8>) {
        let path = self.upload.path.clone();
        let session = Some(self.session);
        match self.rng.below(6) {
            0 => ("Ping", packet("Ping", &path, None), Vec::new()),
            1 if !is_mallory => (
                "Create-Session",
                packet("Create-Session", &path, None),
                Vec::new(),
            ),
            2 => (
                "Close-Session",
                packet("Close-Session", &path, session),
                Vec::new(),
            ),
            3 => (
                "Cancel-Session",
                packet("Cancel-Session", &path, session),
                Vec::new(),
            ),
            4 if self.reply.is_some() => {
                let target = self.reply.clone().unwrap_or_default();
                (
                    "Reply",
                    format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"),
                    Vec::new(),
                )
            }
            _ => {
                let end = self.upload.size.clamp(1, 5);
                let total = self.upload.size.max(1);
                let head = FragmentHead {
                    path: &path,
                    session: self.session,
                    range: Some(format!("0-{}/{total}", end - 1)),
                    length: Some(end),
                    expects: false,
                };
                // None of the bytes of the upload.
                let body = (0..end)
                    .map(|at| !self.upload.bytes(at, at + 1)[0])
                    .collect();
                ("Fragment", head.text(), body)
            }
        }
    }

    fn forged(&self, identities: &Identities, text: &str) -> String {
        let field = authorization(identities.scheme_of(self.owner), self.owner, "forged");
        with_field(text, &field)
    }

    /// What was right before the last change; tickets do not change.
    fn former(&self, identities: &Identities, text: &str) -> String {
        let scheme = identities.scheme_of(self.owner);
        match self.sim.changes.get().checked_sub(1) {
            Some(former) if scheme != Scheme::Negotiate => with_field(
                text,
                &authorization(scheme, self.owner, &secret(self.owner, former)),
            ),
            _ => self.forged(identities, text),
        }
    }

    fn judge(
        &self,
        what: &str,
        disguise: Disguise,
        is_mallory: bool,
        changes: u64,
        status: u16,
        is_unknown: bool,
    ) {
        // What Mallory has shown may have been right until now.
        let has_changed = self.sim.changes.get() != changes;
        let is_kept_out = match status {
            503 => true,
            // Of a session that is gone there is nothing, for anybody.
            404 => what == "Reply",
            401 => !is_mallory || disguise == Disguise::KnownMallory || has_changed,
            // Mallory may ask whether somebody is there, and for what is Mallory's.
            _ if is_mallory && what == "Ping" => true,
            _ => is_mallory && is_unknown,
        };
        if is_kept_out {
            return self.sim.marks.hit("thief kept out");
        }
        let owner = self.owner;
        (self.sim.judge.borrow_mut()).fail(format!(
            "16: a thief ({disguise:?}) at the upload of u{owner}: {what} is answered by {status}"
        ));
    }
}

/// Counts a wrong password of an honest client when the server has found it so: that its answer
/// comes is later, and may never be.
pub fn count_wrong(sim: &Sim, event: &Event<'_>) {
    let (Event::Refused { peer, why, .. }
    | Event::DownloadRefused {
        peer,
        why: Some(why),
        ..
    }) = event
    else {
        return;
    };
    if let Refusal::Unauthorized(challenges) = why
        && challenges.why == NotShown::Wrong(Scheme::Basic)
        && peer.ip() == IpAddr::from(HONEST)
    {
        sim.wrong.set(sim.wrong.get() + 1);
    }
}

/// Where honest clients come from.
pub const HONEST: [u8; 4] = [10, 0, 0, 1];
/// Where thieves come from.
pub const THIEF: [u8; 4] = [10, 66, 0, 1];

/// Halves of tickets that were taken.
pub type Conversations = BTreeMap<u64, String>;
