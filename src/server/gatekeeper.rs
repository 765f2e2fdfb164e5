//! Who asks, and whether they may: before anything of a packet is looked at but its path.
//!
//! 401 is only ever the client's fault: it has shown nothing, or something wrong. What keeps *us*
//! from looking at what it shows (too much at once, too many wrong passwords of the same client, no
//! Kerberos here) is 503, after which a client comes back. After a 401 a job of BITS waits for a
//! person.

use std::sync::Arc;

use super::crowd;
use super::exchange::Exchange;
use super::floor::{Wire as _, World};
use super::request::Wanted;
use crate::auth::accounts::is_name;
use crate::auth::certificate;
use crate::auth::forwarded::{self, Announcement};
use crate::auth::identity;
use crate::auth::negotiation::{Leg, Negotiated, NotNegotiated};
use crate::auth::policy::{self, Principal, Scheme};
use crate::bits::reply::{Challenges, NotShown, Refusal, Scarce};
use crate::config::{Access, AccountSettings, ChannelBinding, Config, Persist};
use crate::event::Event;
use crate::http::authorization::{BadCredentials, Credentials};
use crate::http::head::Head;
use crate::http::path::UploadPath;

/// What a request shows of who sends it.
pub struct Shown {
    /// Its Authorization field.
    credentials: Result<Option<Credentials>, BadCredentials>,
    named: UserField,
    /// Somebody has passed it on, or may have.
    is_forwarded: bool,
}

impl Shown {
    /// For the log.
    fn in_a_word(&self) -> &'static str {
        match &self.credentials {
            Ok(Some(credentials)) => credentials.scheme().word(),
            Err(BadCredentials::UnknownScheme) => "other",
            Err(BadCredentials::Ntlm) => "ntlm",
            Err(_) => "malformed",
            Ok(None) if matches!(self.named, UserField::User(_)) => Scheme::Proxy.word(),
            Ok(None) => "none",
        }
    }
}

/// What stands in the field in which a proxy names the user.
enum UserField {
    /// Nothing, or there is no such field.
    Nobody,
    /// This user.
    User(Arc<str>),
    /// More than one, or what is no name.
    Unreadable,
    /// Something, and who sent it is no proxy that is trusted.
    ByItself,
}

impl UserField {
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

/// What is asked of whoever sends one request.
struct Demand<'a> {
    access: &'a Access,
    config: &'a Arc<Config>,
    /// What may be shown over this connection, of what is asked for.
    schemes: Vec<Scheme>,
}

impl Demand<'_> {
    fn settings(&self) -> &AccountSettings {
        &self.config.accounts
    }

    fn asks_for(&self, scheme: Scheme) -> bool {
        self.schemes.contains(&scheme)
    }

    /// What is to be shown, and why what was shown does not do.
    fn refuse(&self, why: NotShown) -> Refusal {
        self.answer(why, Vec::new())
    }

    fn answer(&self, why: NotShown, token: Vec<u8>) -> Refusal {
        if self.schemes == [Scheme::Certificate] {
            // There is no way to ask for one now.
            return Refusal::CertificateMissing;
        }
        Refusal::Unauthorized(Box::new(Challenges {
            schemes: self.schemes.clone(),
            realm: self.settings().auth_realm.as_str().into(),
            why,
            token,
        }))
    }
}

impl<W: World> Exchange<W> {
    /// Notes on the connection where a request comes from, and reads what it shows of who sends it.
    pub(super) fn look_who(&self, head: &Head<'_>) -> Shown {
        let config = self.shard.settings();
        let settings = &config.accounts;
        let peer = self.connection.peer();
        let is_proxy = settings.trusted_proxies.hold(peer.ip());
        // Behind an announcement all fields are the client's own, whoever that is.
        let is_trusted = is_proxy && self.connection.wire.announcement() == Announcement::None;
        self.connection.set_client(match is_trusted {
            true => {
                let told = head.values("X-Forwarded-For");
                forwarded::client(peer, &settings.trusted_proxies, told)
            }
            false => peer,
        });
        let asks = self.shard.asks();
        let shown = Shown {
            credentials: match asks {
                true => Credentials::of(head),
                false => Ok(None),
            },
            named: UserField::of(head, &settings.user_header, is_trusted),
            is_forwarded: is_proxy || BY_PROXIES.iter().any(|name| has(head, name)),
        };
        let is_first = self.connection.note_request();
        if asks {
            self.shard.world.emit(Event::Shown {
                peer: self.connection.client(),
                scheme: shown.in_a_word(),
                is_first,
            });
        }
        shown
    }

    /// Who asks for something beneath a path; `None` where nobody is asked. What was shown is let
    /// go of: a ticket is as large as a body that is waited for.
    ///
    /// # Errors
    /// They may not, or have not shown who they are.
    pub(super) async fn admit(
        &mut self,
        path: &UploadPath,
        shown: Shown,
    ) -> Result<Option<Principal>, Refusal> {
        self.proof.clear();
        // Nor is a refusal told as one of whoever asked before.
        self.principal = None;
        if shown.is_forwarded {
            self.visit.share();
        }
        let location = self.shard.location(path);
        let access = &location.access;
        if self.is_from_elsewhere(access) {
            return Err(Refusal::FromElsewhere);
        }
        if location.policy.strict && matches!(shown.named, UserField::ByItself) {
            return Err(Refusal::NamesItself);
        }
        if access.auth.is_empty() {
            return Ok(None);
        }
        if access.auth.contains(&Scheme::Proxy) && matches!(shown.named, UserField::Unreadable) {
            // It is the proxy's fault, whatever else the client might show.
            return Err(Refusal::NameUnusable);
        }
        let config = self.shard.settings();
        let principal = match named(access, &shown) {
            Some(principal) => principal,
            None => {
                // Boxed, so that a request of which nobody is asked has no room for it.
                Box::pin(self.shown_by_itself(access, &config, shown)).await?
            }
        };
        match policy::may(&principal, &access.allow, &config.accounts.accounts) {
            true => Ok(Some(principal)),
            false => {
                self.principal = Some(principal);
                Err(Refusal::NotAllowed)
            }
        }
    }

    /// Who asks, where no proxy says it.
    async fn shown_by_itself(
        &mut self,
        access: &Access,
        config: &Arc<Config>,
        shown: Shown,
    ) -> Result<Principal, Refusal> {
        if access.auth == [Scheme::Proxy] {
            // Nor is this 401: there is nothing that the client could show.
            return Err(Refusal::NotNamed);
        }
        let credentials = shown.credentials;
        let is_silent = self.is_seen_by_others(&config.accounts) && !access.allow_plaintext;
        let schemes = access.auth.iter().copied();
        let schemes: Vec<_> = schemes
            .filter(|scheme| *scheme != Scheme::Proxy && !(is_silent && scheme.is_told()))
            .collect();
        let is_told = match &credentials {
            Ok(Some(Credentials::Basic { .. } | Credentials::Bearer(_))) => true,
            Ok(_) | Err(_) => false,
        };
        if schemes.is_empty() || (is_silent && is_told) {
            // Not 401: the client would send what it must not.
            return Err(Refusal::InTheClear);
        }
        let demand = Demand {
            access,
            config,
            schemes,
        };
        let identified = self.identify(&demand, credentials).await;
        match &identified {
            Ok(principal) if self.lasts(access) => self.visit.remember(principal, config),
            Ok(_) => {}
            Err(_) => self.visit.forget(),
        }
        identified
    }

    /// Whether others than the client and a proxy in front of us may read what is sent.
    fn is_seen_by_others(&self, settings: &AccountSettings) -> bool {
        let sender = self.connection.wire.peer().ip().to_canonical();
        let is_near = sender.is_loopback() || settings.trusted_proxies.hold(sender);
        !self.connection.wire.is_encrypted() && !is_near
    }

    /// Who asks for a file. A reply belongs to whoever made its session; for others it is not
    /// there.
    ///
    /// # Errors
    /// As [`Self::admit`]; [`Refusal::SessionNotFound`] if it is somebody else's.
    pub(super) async fn admit_download(
        &mut self,
        wanted: &Wanted,
        shown: Shown,
    ) -> Result<(), Refusal> {
        match wanted {
            Wanted::File(path) => {
                self.principal = self.admit(path, shown).await?;
                Ok(())
            }
            Wanted::Reply { session, .. } => {
                let Some(session) = self.shard.session(*session) else {
                    return Ok(());
                };
                self.principal = self.admit(&session.path, shown).await?;
                let location = self.shard.location(&session.path);
                match session.is_open_to(&location.access, self.principal.as_ref()) {
                    true => Ok(()),
                    false => Err(Refusal::SessionNotFound),
                }
            }
        }
    }

    /// Whether the user that the connection is known for stays known.
    fn lasts(&self, access: &Access) -> bool {
        match access.auth_persist {
            Persist::Tls => self.connection.wire.is_encrypted(),
            Persist::Connection => true,
            Persist::Request => false,
        }
    }

    /// A field that is there counts, whoever was known before.
    async fn identify(
        &mut self,
        demand: &Demand<'_>,
        credentials: Result<Option<Credentials>, BadCredentials>,
    ) -> Result<Principal, Refusal> {
        if demand.schemes == [Scheme::Certificate] {
            return self.certified(demand);
        }
        match credentials {
            Ok(Some(Credentials::Basic { user, password })) if demand.asks_for(Scheme::Basic) => {
                let hash = demand.settings().accounts.hash_of(&user);
                match (self.is_password(demand.settings(), &user, &password, hash)).await? {
                    true => Ok(Principal {
                        user: user.as_str().into(),
                        scheme: Scheme::Basic,
                    }),
                    false => Err(demand.refuse(NotShown::Wrong(Scheme::Basic))),
                }
            }
            Ok(Some(Credentials::Bearer(token))) if demand.asks_for(Scheme::Bearer) => {
                match demand.settings().accounts.owner_of(&token) {
                    Some(user) => Ok(Principal {
                        user: Arc::clone(user),
                        scheme: Scheme::Bearer,
                    }),
                    None => Err(demand.refuse(NotShown::Wrong(Scheme::Bearer))),
                }
            }
            Ok(Some(Credentials::Negotiate(token, shape)))
                if demand.asks_for(Scheme::Negotiate) =>
            {
                let leg = Leg {
                    client: crowd::number(self.connection.client().ip()),
                    token,
                    shape,
                    conversation: self.visit.conversation.take(),
                    end_point: None,
                };
                // Boxed, so that no other request carries the space of it.
                Box::pin(self.negotiate(demand, leg)).await
            }
            Ok(Some(_)) => Err(demand.refuse(NotShown::Unusable(BadCredentials::UnknownScheme))),
            Ok(None) => self.recognize(demand),
            // Perhaps a proxy has added one: which of them is whose nobody knows.
            Err(BadCredentials::Repeated) => Err(Refusal::FieldRepeated("Authorization")),
            Err(why) => Err(demand.refuse(NotShown::Unusable(why))),
        }
    }

    /// Who sends a request that shows nothing: whoever was known before on this connection, or who
    /// the certificate names.
    fn recognize(&self, demand: &Demand<'_>) -> Result<Principal, Refusal> {
        let known = self.visit.known(demand.config);
        let known =
            known.filter(|known| self.lasts(demand.access) && demand.asks_for(known.scheme));
        if let Some(known) = known {
            return Ok(known.clone());
        }
        match demand.asks_for(Scheme::Certificate) && self.connection.wire.certificate().is_some() {
            true => self.certified(demand),
            false => Err(demand.refuse(NotShown::Nothing)),
        }
    }

    /// Who the certificate names that the client has shown.
    fn certified(&self, demand: &Demand<'_>) -> Result<Principal, Refusal> {
        if let Some(known) = self.visit.known(demand.config)
            && known.scheme == Scheme::Certificate
        {
            return Ok(known.clone());
        }
        let certificate = self.connection.wire.certificate();
        let certificate = certificate.ok_or(Refusal::CertificateMissing)?;
        let settings = demand.settings();
        let user = certificate::user_of(
            &certificate,
            &settings.certificate_user,
            &settings.own_realms(),
            &settings.accounts,
        );
        let user = user.ok_or(Refusal::CertificateNameless)?;
        Ok(Principal {
            user: identity::folded(&user),
            scheme: Scheme::Certificate,
        })
    }

    /// Whose ticket this is. What the client may hear by it stands in `proof` after a success.
    async fn negotiate(&mut self, demand: &Demand<'_>, leg: Leg) -> Result<Principal, Refusal> {
        let (world, settings) = (&self.shard.world, demand.settings());
        let binding = settings.channel_binding;
        let leg = Leg {
            end_point: match binding {
                ChannelBinding::Off => None,
                ChannelBinding::Check | ChannelBinding::Require => self.connection.wire.end_point(),
            },
            ..leg
        };
        let place = self.take_place()?;
        // Awaited to its end, so that it is counted as long as somebody works on it.
        let negotiated = world.negotiate(leg).await;
        drop(place);
        match negotiated {
            Ok(Negotiated::Proven {
                principal,
                answer,
                is_bound,
            }) => {
                if binding == ChannelBinding::Require && !is_bound {
                    return Err(demand.refuse(NotShown::Unbound));
                }
                self.proof = answer;
                let user = identity::user_of(&principal, &settings.own_realms());
                Ok(Principal {
                    user: identity::folded(user.ok_or(Refusal::NotAllowed)?),
                    scheme: Scheme::Negotiate,
                })
            }
            Ok(Negotiated::GoesOn {
                conversation,
                answer,
            }) => {
                self.visit.conversation = Some(conversation);
                Err(demand.answer(NotShown::Unfinished, answer))
            }
            Ok(Negotiated::OutOfPlace) => Err(demand.refuse(NotShown::OutOfPlace)),
            Ok(Negotiated::Refused { minor, why, answer }) => {
                let (peer, why) = (self.connection.client(), why.as_str());
                world.emit(Event::TicketRefused { peer, minor, why });
                Err(demand.answer(NotShown::Wrong(Scheme::Negotiate), answer))
            }
            Err(NotNegotiated::TooMany) => Err(Refusal::Busy(Scarce::Logins)),
            Err(NotNegotiated::Unusable(why)) => {
                world.emit(Event::TicketsUnusable { why: &why });
                Err(Refusal::TicketsUnusable)
            }
        }
    }
}

/// Whom a proxy names, where its word is taken.
fn named(access: &Access, shown: &Shown) -> Option<Principal> {
    match &shown.named {
        UserField::User(user) if access.auth.contains(&Scheme::Proxy) => Some(Principal {
            user: Arc::clone(user),
            scheme: Scheme::Proxy,
        }),
        _ => None,
    }
}

fn has(head: &Head<'_>, name: &str) -> bool {
    !matches!(head.only(name), Ok(None))
}

/// Fields that only somebody in between adds.
const BY_PROXIES: [&str; 3] = ["Via", "Forwarded", "X-Forwarded-For"];
