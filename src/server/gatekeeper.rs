//! Who asks, and whether they may: before anything of a packet is looked at but its path.
//!
//! 401 is only ever the client's fault: it has shown nothing, or something wrong. What keeps *us*
//! from looking at a password (too many at once, or too many wrong ones of the same client) is 503,
//! after which a client comes back.

use std::sync::Arc;

use super::crowd;
use super::exchange::Exchange;
use super::floor::{Wire as _, World};
use super::request::Wanted;
use crate::auth::accounts::is_name;
use crate::auth::forwarded;
use crate::auth::hash::{Attempt, PasswordHash};
use crate::auth::policy::{self, Principal, Scheme};
use crate::bits::reply::{Challenges, NotShown, Refusal};
use crate::config::{Access, AccountSettings};
use crate::http::authorization::{BadCredentials, Credentials};
use crate::http::head::Head;
use crate::http::path::UploadPath;

/// What a request shows of who sends it.
pub struct Shown {
    credentials: Result<Option<Credentials>, BadCredentials>,
    named: Named,
}

/// What stands in the field in which a proxy names the user.
enum Named {
    /// Nothing, or there is no such field.
    Nobody,
    /// This user.
    User(Arc<str>),
    /// More than one, or what is no name.
    Unreadable,
    /// Something, and who sent it is no proxy that is trusted.
    ByItself,
}

impl Named {
    fn of(head: &Head<'_>, field: &str, is_trusted: bool) -> Self {
        if field.is_empty() {
            return Self::Nobody;
        }
        match head.only(field) {
            Ok(None) => Self::Nobody,
            _ if !is_trusted => Self::ByItself,
            Ok(Some(b"")) => Self::Nobody,
            Ok(Some(name)) => match str::from_utf8(name) {
                Ok(name) if is_name(name) => Self::User(name.into()),
                _ => Self::Unreadable,
            },
            Err(_) => Self::Unreadable,
        }
    }
}

impl<W: World> Exchange<W> {
    /// From where a request comes, which is noted of the connection, and what it shows of who sends
    /// it.
    pub(super) fn look_who(&self, head: &Head<'_>) -> Shown {
        let config = self.shard.settings();
        let settings = &config.accounts;
        let peer = self.connection.peer();
        let is_trusted = settings.trusted_proxies.hold(peer.ip());
        self.connection.set_client(match is_trusted {
            true => {
                let told = head.values("X-Forwarded-For");
                forwarded::client(peer, &settings.trusted_proxies, told)
            }
            false => peer,
        });
        Shown {
            credentials: match self.shard.asks() {
                true => Credentials::of(head),
                false => Ok(None),
            },
            named: Named::of(head, &settings.user_header, is_trusted),
        }
    }

    /// Who asks for something beneath a path; `None` where nobody is asked.
    ///
    /// # Errors
    /// They may not, or have not shown who they are.
    pub(super) async fn admit(
        &self,
        path: &UploadPath,
        shown: &Shown,
    ) -> Result<Option<Principal>, Refusal> {
        let location = self.shard.location(path);
        let access = &location.access;
        if !access.allow_from.let_in(self.connection.client().ip()) {
            return Err(Refusal::FromElsewhere);
        }
        if location.policy.strict && matches!(shown.named, Named::ByItself) {
            return Err(Refusal::NamesItself);
        }
        if access.auth.is_empty() {
            return Ok(None);
        }
        let config = self.shard.settings();
        let settings = &config.accounts;
        let principal = match self.named(access, shown) {
            Some(principal) => principal,
            None => self.identify(access, settings, shown).await?,
        };
        match policy::may(&principal.user, &access.allow, &settings.accounts) {
            true => Ok(Some(principal)),
            false => Err(Refusal::NotAllowed),
        }
    }

    /// Who asks for a file. A reply belongs to whoever made its session; for others it is not
    /// there.
    ///
    /// # Errors
    /// As [`Self::admit`]; [`Refusal::SessionNotFound`] if it is somebody else's.
    pub(super) async fn admit_download(
        &self,
        wanted: &Wanted,
        shown: &Shown,
    ) -> Result<(), Refusal> {
        match wanted {
            Wanted::File(path) => self.admit(path, shown).await.map(drop),
            Wanted::Reply { session, .. } => {
                let Some(session) = self.shard.session(*session) else {
                    return Ok(());
                };
                let principal = self.admit(&session.path, shown).await?;
                match session.is_open_to(principal.as_ref()) {
                    true => Ok(()),
                    false => Err(Refusal::SessionNotFound),
                }
            }
        }
    }

    /// Whom a proxy names, where its word is taken.
    fn named(&self, access: &Access, shown: &Shown) -> Option<Principal> {
        match &shown.named {
            Named::User(user) if access.auth.contains(&Scheme::Proxy) => Some(Principal {
                user: Arc::clone(user),
                scheme: Scheme::Proxy,
            }),
            _ => None,
        }
    }

    /// Whether others than the client and a proxy in front of us may read what is sent.
    fn is_seen_by_others(&self, settings: &AccountSettings) -> bool {
        let sender = self.connection.wire.peer().ip().to_canonical();
        let is_near = sender.is_loopback() || settings.trusted_proxies.hold(sender);
        !self.connection.wire.is_encrypted() && !is_near
    }

    async fn identify(
        &self,
        access: &Access,
        settings: &AccountSettings,
        shown: &Shown,
    ) -> Result<Principal, Refusal> {
        if access.auth == [Scheme::Proxy] {
            // Nor is this 401: there is nothing that the client could show.
            return Err(Refusal::NotNamed);
        }
        if self.is_seen_by_others(settings) && !access.allow_plaintext {
            // Not 401: the client would send what it must not.
            return Err(Refusal::InTheClear);
        }
        let refuse = |why| Err(challenge(access, settings, why));
        match &shown.credentials {
            Ok(Some(Credentials::Basic { user, password }))
                if access.auth.contains(&Scheme::Basic) =>
            {
                let hash = settings.accounts.hash_of(user);
                match self.is_password(settings, user, password, hash).await? {
                    true => Ok(Principal {
                        user: user.as_str().into(),
                        scheme: Scheme::Basic,
                    }),
                    false => refuse(NotShown::Wrong(Scheme::Basic)),
                }
            }
            Ok(Some(Credentials::Bearer(token))) if access.auth.contains(&Scheme::Bearer) => {
                match settings.accounts.owner_of(token) {
                    Some(user) => Ok(Principal {
                        user: Arc::clone(user),
                        scheme: Scheme::Bearer,
                    }),
                    None => refuse(NotShown::Wrong(Scheme::Bearer)),
                }
            }
            Ok(Some(_)) => refuse(NotShown::Unusable(BadCredentials::UnknownScheme)),
            Ok(None) => refuse(NotShown::Nothing),
            Err(why) => refuse(NotShown::Unusable(*why)),
        }
    }

    /// Whether this is the user's password. Of a user that there is not a password is tried too, so
    /// that the time it takes does not tell.
    async fn is_password(
        &self,
        settings: &AccountSettings,
        user: &str,
        password: &[u8],
        hash: Option<&PasswordHash>,
    ) -> Result<bool, Refusal> {
        let world = &self.shard.world;
        let client = crowd::number(self.connection.client().ip());
        let claim = {
            let visitors = self.shard.visitors.borrow();
            let claim = hash.map(|hash| visitors.memory.claim(user, password, hash));
            if claim.is_some_and(|claim| visitors.memory.knows(claim, world.now())) {
                return Ok(true);
            }
            let wait_ms = visitors.throttle.wait_ms(client, world.now());
            if wait_ms > 0 {
                return Err(Refusal::TooManyFailures {
                    retry_after_s: wait_ms.div_ceil(1_000),
                });
            }
            claim
        };
        let Some(tried) = hash.or(settings.accounts.decoy()) else {
            return Ok(false);
        };
        let attempt = Attempt {
            password: password.to_vec().into(),
            hash: tried.clone(),
        };
        let is_right = world.verify(attempt).await.map_err(|_| Refusal::Busy)?;
        let mut visitors = self.shard.visitors.borrow_mut();
        let now = world.now();
        match claim.filter(|_| is_right) {
            Some(claim) => {
                visitors.throttle.succeeded(client);
                let kept_ms = u64::try_from(settings.auth_memory.as_millis()).unwrap_or(u64::MAX);
                if kept_ms > 0 {
                    visitors.memory.keep(claim, now.saturating_add(kept_ms));
                }
                Ok(true)
            }
            None => {
                visitors.throttle.failed(client, now);
                Ok(false)
            }
        }
    }
}

fn challenge(access: &Access, settings: &AccountSettings, why: NotShown) -> Refusal {
    Refusal::Unauthorized(Box::new(Challenges {
        schemes: access.auth.clone(),
        realm: settings.auth_realm.as_str().into(),
        why,
    }))
}
