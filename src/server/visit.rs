//! What a connection has shown of who uses it. It goes with the connection to another shard.

use std::net::IpAddr;
use std::sync::Arc;

use crate::auth::negotiation::Conversation;
use crate::auth::policy::{Principal, Scheme};
use crate::config::Config;

/// Who uses a connection, as far as that was shown, and where it came in.
#[derive(Clone, Debug, Default)]
pub struct Visit {
    known: Option<KnownPrincipal>,
    /// Goes on with the next token of Negotiate.
    pub conversation: Option<Conversation>,
    /// A request was passed on by somebody: the next one may be anybody's.
    is_shared: bool,
    /// Which of [`Config::listeners`] it came in by; `None` of one that has no entry there.
    listener: Option<usize>,
}

/// Somebody who was known a request ago.
#[derive(Clone, Debug)]
struct KnownPrincipal {
    principal: Principal,
    /// The settings under which it was shown.
    settings: Arc<Config>,
}

impl Visit {
    /// Of a connection that has just come in.
    pub fn by(listener: Option<usize>) -> Self {
        Self {
            listener,
            ..Self::default()
        }
    }

    /// Whether its listener has an entry in the settings.
    pub fn has_entry(&self) -> bool {
        self.listener.is_some()
    }

    /// Whether its listener lets in this client.
    pub fn lets_in(&self, settings: &Config, client: IpAddr) -> bool {
        let listener = self
            .listener
            .and_then(|entry| settings.listeners.get(entry));
        listener.is_none_or(|listener| listener.allow_from.let_in(client))
    }

    /// A request came through a proxy, whose connections carry the requests of many.
    pub fn share(&mut self) {
        *self = Self {
            known: None,
            conversation: self.conversation,
            is_shared: true,
            listener: self.listener,
        };
    }

    /// This user has shown who it is, and need not do so again on this connection.
    pub fn remember(&mut self, principal: &Principal, settings: &Arc<Config>) {
        if !self.is_shared {
            self.known = Some(KnownPrincipal {
                principal: principal.clone(),
                settings: Arc::clone(settings),
            });
        }
    }

    /// Nobody is known any more.
    pub fn forget(&mut self) {
        self.known = None;
    }

    /// Who is known. What a file says, of passwords, tokens or certificates, holds as long as these
    /// settings do; a ticket does not stand in a file, and holds as long as it would be taken as it
    /// was, for the same user.
    pub fn known(&self, settings: &Arc<Config>) -> Option<&Principal> {
        let known = self.known.as_ref()?;
        let is_believed = match known.principal.scheme {
            Scheme::Negotiate => is_taken_alike(&known.settings, settings),
            Scheme::Basic | Scheme::Bearer | Scheme::Certificate | Scheme::Proxy => {
                Arc::ptr_eq(&known.settings, settings)
            }
        };
        is_believed.then_some(&known.principal)
    }
}

/// Whether tickets are taken under these settings as under those before.
fn is_taken_alike(before: &Arc<Config>, now: &Arc<Config>) -> bool {
    let (before, now) = match Arc::ptr_eq(before, now) {
        true => return true,
        false => (&before.accounts, &now.accounts),
    };
    before.channel_binding == now.channel_binding && before.own_realms() == now.own_realms()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ChannelBinding, Flags};

    fn settings() -> Arc<Config> {
        Arc::new(Config::resolve(Flags::default(), None).unwrap())
    }

    fn by(scheme: Scheme) -> Principal {
        Principal {
            user: "anna".into(),
            scheme,
        }
    }

    #[test]
    fn what_a_file_says_is_believed_as_long_as_the_settings_hold() {
        let (now, later) = (settings(), settings());
        for (scheme, outlives) in [
            (Scheme::Negotiate, true),
            (Scheme::Basic, false),
            (Scheme::Bearer, false),
            (Scheme::Certificate, false),
        ] {
            let mut visit = Visit::default();
            assert!(visit.known(&now).is_none());
            visit.remember(&by(scheme), &now);
            assert_eq!(visit.known(&now), Some(&by(scheme)));
            assert_eq!(visit.known(&later).is_some(), outlives, "{scheme:?}");
            visit.forget();
            assert!(visit.known(&now).is_none());
        }
    }

    #[test]
    fn a_ticket_is_shown_anew_where_it_would_be_taken_otherwise() {
        let with = |binding, realms: &[&str]| {
            let mut settings = Config::clone(&settings());
            settings.accounts.channel_binding = binding;
            settings.accounts.realms = realms.iter().map(|&realm| realm.to_owned()).collect();
            Arc::new(settings)
        };
        let before = with(ChannelBinding::Check, &["A.TEST"]);
        for (now, is_known) in [
            (with(ChannelBinding::Check, &["A.TEST"]), true),
            (with(ChannelBinding::Require, &["A.TEST"]), false),
            (with(ChannelBinding::Check, &["B.TEST"]), false),
            (with(ChannelBinding::Check, &["A.TEST", "B.TEST"]), false),
        ] {
            let mut visit = Visit::default();
            visit.remember(&by(Scheme::Negotiate), &before);
            assert_eq!(visit.known(&now).is_some(), is_known);
        }
    }

    #[test]
    fn behind_a_proxy_nobody_is_known_for_longer_than_a_request() {
        let settings = settings();
        let mut visit = Visit::default();
        visit.remember(&by(Scheme::Negotiate), &settings);
        visit.share();
        assert!(visit.known(&settings).is_none());
        visit.remember(&by(Scheme::Negotiate), &settings);
        assert!(visit.known(&settings).is_none(), "not on this connection");
    }
}
