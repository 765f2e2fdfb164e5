//! Keys that do nothing as the others are.

use crate::auth::policy::Scheme;
use crate::config::keys::{EventSettings, Policy};
use crate::config::words::ChannelBinding;
use crate::config::{Config, Location};

/// What is to be known, in words.
pub(super) fn of_all(config: &Config) -> Vec<String> {
    let (mut found, accounts) = (Vec::new(), &config.accounts);
    let mut tell = |is_so: bool, words: &str| {
        if is_so {
            found.push(words.to_owned());
        }
    };
    let bounds = |location: &Location| location.sessions_per_user_max.is_some();
    let asks = |location: &Location| !location.access.auth.is_empty();
    tell(
        config.locations.iter().any(bounds) && !config.locations.iter().any(asks),
        "sessions_per_user_max does nothing: auth asks nobody who they are",
    );
    tell(
        !accounts.realms.is_empty()
            && !config.asks_for(Scheme::Negotiate)
            && !config.asks_for(Scheme::Certificate),
        "realms does nothing: auth asks nobody for a Kerberos ticket or a certificate",
    );
    tell(
        !accounts.user_header.is_empty() && !config.asks_for(Scheme::Proxy),
        "user_header does nothing: auth has \"proxy\" nowhere, so nobody is asked for the word of a proxy",
    );
    tell(
        accounts.channel_binding != ChannelBinding::Check && !config.asks_for(Scheme::Negotiate),
        "channel_binding does nothing: auth asks nobody for a Kerberos ticket",
    );
    tell(
        !config.admin_names.is_empty() && config.admin_listen.is_empty(),
        "admin_names does nothing: there is no admin_listen",
    );
    let (events, default) = (&config.events, EventSettings::default());
    let is_said = (&events.nats_subject, &events.source, events.timeout)
        != (&default.nats_subject, &default.source, default.timeout);
    tell(
        is_said && events.webhook.is_empty() && events.nats.is_empty(),
        "[events] does nothing: it names no webhook and no nats",
    );
    let makes_none = |location: &Location| {
        let (policy, access) = (&location.policy, &location.access);
        policy.dir_mode != Policy::default().dir_mode && !policy.create_dirs && !access.per_user
    };
    let makes_none = config.named(&makes_none).map(|names| {
        format!("dir_mode does nothing for {names}: no folders are made there (create_dirs)")
    });
    found.into_iter().chain(makes_none).collect()
}
