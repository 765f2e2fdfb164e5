//! Whether a password is right: what is remembered of it, when it is looked at, what comes of that.

use std::future::poll_fn;

use super::crowd;
use super::exchange::Exchange;
use super::floor::World;
use crate::auth::hash::{Attempt, PasswordHash, TooManyAttempts};
use crate::auth::visitors::{PasswordTurn, TooMuch, Visitors};
use crate::bits::reply::{Refusal, Scarce};
use crate::config::AccountSettings;
use crate::vault::disk::millis;

/// One of a client's places in the queue of what is looked at; given back when dropped.
pub struct LoginPlace<'a> {
    visitors: &'a Visitors,
    client: u64,
    is_comparing: bool,
}

impl Drop for LoginPlace<'_> {
    fn drop(&mut self) {
        self.visitors.leave(self.client, self.is_comparing);
    }
}

impl<W: World> Exchange<W> {
    /// One of its client's places, for something that is going to be looked at.
    ///
    /// # Errors
    /// All of them are taken.
    pub(super) fn take_place(&self) -> Result<LoginPlace<'_>, Refusal> {
        let client = crowd::number(self.connection.client().ip());
        let visitors = &*self.shard.common.visitors;
        let entered = visitors.enter(client);
        entered.map_err(|TooMuch| Refusal::Busy(Scarce::Logins))?;
        Ok(LoginPlace {
            visitors,
            client,
            is_comparing: false,
        })
    }

    /// Whether this is the user's password. If there is no such user, a password is tried all the
    /// same, so that the time it takes does not tell.
    pub(super) async fn is_password(
        &self,
        settings: &AccountSettings,
        user: &str,
        password: &[u8],
        hash: Option<&PasswordHash>,
    ) -> Result<bool, Refusal> {
        let world = &self.shard.world;
        let client = crowd::number(self.connection.client().ip());
        let remembered = &self.shard.remembered;
        let claim = hash.map(|hash| remembered.borrow().claim(user, password, hash));
        let is_known = || claim.is_some_and(|claim| remembered.borrow().knows(claim, world.now()));
        if is_known() {
            return Ok(true);
        }
        let visitors = &self.shard.common.visitors;
        let wait_ms = visitors.wait_ms(client, world.now());
        if wait_ms > 0 {
            return Err(too_soon(wait_ms));
        }
        let Some(tried) = hash.or(settings.accounts.decoy()) else {
            return Ok(false);
        };
        let mut place = self.take_place()?;
        let turn =
            poll_fn(|context| visitors.poll_turn(client, is_known(), world.now(), context.waker()));
        match turn.await {
            PasswordTurn::Known => return Ok(true),
            PasswordTurn::TooSoon(wait_ms) => return Err(too_soon(wait_ms)),
            PasswordTurn::Compare => place.is_comparing = true,
        }
        let attempt = Attempt {
            password: password.to_vec().into(),
            hash: tried.clone(),
        };
        // Awaited to its end, so that it is counted as long as somebody works on it.
        let is_right = world.verify(attempt).await;
        let is_right = is_right.map_err(|TooManyAttempts| Refusal::Busy(Scarce::Logins))?;
        world.metrics().passwords_compared.add(1);
        let now = world.now();
        match claim.filter(|_| is_right) {
            Some(claim) => {
                visitors.succeeded(client, user, now);
                let kept_ms = millis(settings.auth_memory);
                if kept_ms > 0 {
                    let until_ms = now.saturating_add(kept_ms);
                    remembered.borrow_mut().keep(claim, until_ms);
                }
                Ok(true)
            }
            None => {
                visitors.failed(client, now);
                Ok(false)
            }
        }
    }
}

fn too_soon(wait_ms: u64) -> Refusal {
    Refusal::TooManyFailures {
        retry_after_s: wait_ms.div_ceil(1_000),
    }
}
