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
use crate::auth::hash::{Attempt, PasswordHash};
use crate::auth::policy::{self, Principal, Scheme};
use crate::bits::reply::{Challenges, NotShown, Refusal};
use crate::config::{Access, AccountSettings};
use crate::http::authorization::{BadCredentials, Credentials};
use crate::http::path::UploadPath;

/// What a request shows of who sends it.
pub type Shown = Result<Option<Credentials>, BadCredentials>;

impl<W: World> Exchange<W> {
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
        if access.auth.is_empty() {
            return Ok(None);
        }
        let is_seen_by_others = !self.connection.wire.is_encrypted()
            && !self.connection.peer.ip().to_canonical().is_loopback();
        if is_seen_by_others && !access.allow_plaintext {
            // Not 401: the client would send what it must not.
            return Err(Refusal::InTheClear);
        }
        let config = self.shard.settings();
        let settings = &config.accounts;
        let principal = self.identify(access, settings, shown).await?;
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

    async fn identify(
        &self,
        access: &Access,
        settings: &AccountSettings,
        shown: &Shown,
    ) -> Result<Principal, Refusal> {
        let refuse = |why| Err(challenge(access, settings, why));
        match shown {
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
        let client = crowd::number(self.connection.peer.ip());
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
