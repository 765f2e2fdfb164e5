//! Kerberos tickets, looked at on threads of their own, and the conversations in between.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::gssapi::{self, Acceptor, Context, Said};
use super::workers::{Full, Workers};
use crate::auth::keytab::Keytab;
use crate::auth::negotiation::{
    CONVERSATION_MS_MAX, CONVERSATIONS_MAX, CONVERSATIONS_OF_CLIENT_MAX, Conversation, Leg,
    Negotiated, NotNegotiated,
};
use crate::http::spnego::Shape;

/// What takes tickets, or why nothing does.
pub type Acceptance = Result<Arc<Acceptor>, String>;

/// The way to the threads, and what they work with.
#[derive(Clone, Debug)]
pub struct Tickets {
    workers: Workers,
    desk: Arc<Desk>,
}

#[derive(Debug)]
struct Desk {
    acceptance: RwLock<Acceptance>,
    conversations: Mutex<Conversations<Context>>,
}

/// Those that wait for their next token.
#[derive(Debug)]
struct Conversations<C> {
    last: Conversation,
    /// Numbers go up, so that the oldest is the first.
    waiting: BTreeMap<Conversation, Paused<C>>,
}

/// One of them.
#[derive(Debug)]
struct Paused<C> {
    client: u64,
    since: Instant,
    context: C,
}

impl<C> Default for Conversations<C> {
    fn default() -> Self {
        Self {
            last: 0,
            waiting: BTreeMap::new(),
        }
    }
}

/// Gets ready to take tickets for the keys of a keytab, which may be empty.
pub fn prepare(keytab: &Keytab) -> Acceptance {
    if keytab.is_empty() {
        return Err(NO_KEYTAB.to_owned());
    }
    gssapi::library().and_then(|library| Acceptor::new(library, keytab).map(Arc::new))
}

impl Tickets {
    /// Nothing takes tickets yet.
    pub fn new(workers: Workers) -> Self {
        Self {
            workers,
            desk: Arc::new(Desk {
                acceptance: RwLock::new(Err(NO_KEYTAB.to_owned())),
                conversations: Mutex::default(),
            }),
        }
    }

    /// From now on these keys hold; a conversation that goes on ends with those it began with.
    pub fn accept_for(&self, acceptance: Acceptance) {
        let mut held = (self.desk.acceptance.write()).unwrap_or_else(PoisonError::into_inner);
        *held = acceptance;
    }

    /// Whose ticket this is.
    ///
    /// # Errors
    /// [`NotNegotiated`]
    pub async fn negotiate(&self, leg: Leg) -> Result<Negotiated, NotNegotiated> {
        let desk = Arc::clone(&self.desk);
        let work = move || desk.take(&leg);
        match self.workers.run(work).await {
            Ok(verdict) => verdict,
            Err(Full) => Err(NotNegotiated::TooMany),
        }
    }
}

impl Desk {
    fn take(&self, leg: &Leg) -> Result<Negotiated, NotNegotiated> {
        let acceptor = {
            let held = (self.acceptance.read()).unwrap_or_else(PoisonError::into_inner);
            held.clone().map_err(NotNegotiated::Unusable)?
        };
        let begun = match (leg.shape, leg.conversation) {
            (Shape::First, _) => None,
            (Shape::Further, number) => {
                let found =
                    number.and_then(|number| self.conversations().take(number, Instant::now()));
                let Some(context) = found else {
                    return Ok(Negotiated::OutOfPlace);
                };
                Some(context)
            }
        };
        match acceptor.accept(begun, &leg.token, leg.end_point.as_deref()) {
            Said::Proven {
                principal,
                answer,
                is_bound,
            } => Ok(Negotiated::Proven {
                principal,
                answer,
                is_bound,
            }),
            Said::GoesOn { context, answer } => {
                let kept = (self.conversations()).keep(leg.client, context, Instant::now());
                kept.map(|conversation| Negotiated::GoesOn {
                    conversation,
                    answer,
                })
                .ok_or(NotNegotiated::TooMany)
            }
            Said::Refused { minor, why, answer } => Ok(Negotiated::Refused { minor, why, answer }),
            Said::Unusable(why) => Err(NotNegotiated::Unusable(why)),
        }
    }

    fn conversations(&self) -> std::sync::MutexGuard<'_, Conversations<Context>> {
        (self.conversations.lock()).unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C> Conversations<C> {
    fn take(&mut self, number: Conversation, now: Instant) -> Option<C> {
        self.forget_old(now);
        self.waiting.remove(&number).map(|paused| paused.context)
    }

    /// Where a client has as many as it may, the new one is refused and no old one is forgotten.
    /// Behind one address there may be many machines. One whose conversation is gone hears 401, for
    /// which a job of BITS waits for a person; one that cannot begin comes back by itself. What was
    /// given up is forgotten soon enough.
    fn keep(&mut self, client: u64, context: C, now: Instant) -> Option<Conversation> {
        self.forget_old(now);
        let of_client = self.waiting.values().filter(|one| one.client == client);
        if self.waiting.len() >= CONVERSATIONS_MAX
            || of_client.count() >= CONVERSATIONS_OF_CLIENT_MAX
        {
            return None;
        }
        self.last += 1;
        let paused = Paused {
            client,
            since: now,
            context,
        };
        self.waiting.insert(self.last, paused);
        Some(self.last)
    }

    fn forget_old(&mut self, now: Instant) {
        let patience = Duration::from_millis(CONVERSATION_MS_MAX);
        while let Some(oldest) = self.waiting.first_entry()
            && now.saturating_duration_since(oldest.get().since) > patience
        {
            oldest.remove();
        }
    }
}

const NO_KEYTAB: &str = "no `keytab` is set";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversations_are_bounded_and_those_that_last_too_long_are_forgotten() {
        let (mut conversations, begin) = (Conversations::default(), Instant::now());
        let mut clients = 0..;
        let mut keep = |conversations: &mut Conversations<_>, context, now| {
            conversations.keep(clients.next().unwrap(), context, now)
        };
        let first = keep(&mut conversations, "first", begin).unwrap();
        for _ in 1..CONVERSATIONS_MAX {
            assert!(keep(&mut conversations, "another", begin).is_some());
        }
        assert_eq!(keep(&mut conversations, "one more", begin), None);
        assert_eq!(conversations.take(first, begin), Some("first"));
        assert_eq!(conversations.take(first, begin), None, "each once");
        let later = begin + Duration::from_millis(CONVERSATION_MS_MAX);
        let last = keep(&mut conversations, "last", later).unwrap();
        assert_eq!(keep(&mut conversations, "one more", later), None);
        let later = later + Duration::from_millis(1);
        assert!(keep(&mut conversations, "one more", later).is_some());
        assert_eq!(conversations.waiting.len(), 2);
        assert_eq!(conversations.take(last, later), Some("last"));
    }

    #[test]
    fn one_client_leaves_conversations_to_others() {
        let (mut conversations, begin) = (Conversations::default(), Instant::now());
        let other = conversations.keep(2, "another's", begin).unwrap();
        let first = conversations.keep(1, "first", begin).unwrap();
        // However many it begins.
        let begun = (1..CONVERSATIONS_MAX).filter_map(|_| conversations.keep(1, "more", begin));
        assert_eq!(begun.count(), CONVERSATIONS_OF_CLIENT_MAX - 1);
        assert!(conversations.keep(3, "a third's", begin).is_some());
        assert_eq!(conversations.take(other, begin), Some("another's"));
        // None of its own is forgotten, and each that goes on makes room for one.
        assert_eq!(conversations.keep(1, "one more", begin), None);
        assert_eq!(conversations.take(first, begin), Some("first"));
        assert!(conversations.keep(1, "one more", begin).is_some());
        let later = begin + Duration::from_millis(CONVERSATION_MS_MAX + 1);
        assert!(conversations.keep(1, "later", later).is_some());
    }

    #[test]
    fn without_a_keytab_nobody_can_say_whose_a_ticket_is() {
        let tickets = Tickets::new(Workers::start("test", 1, 1).unwrap());
        let leg = || Leg {
            client: 1,
            token: b"token".to_vec().into(),
            shape: Shape::First,
            conversation: None,
            end_point: None,
        };
        let ask = |tickets: &Tickets| {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            runtime.unwrap().block_on(tickets.negotiate(leg()))
        };
        let unusable = Err(NotNegotiated::Unusable(NO_KEYTAB.to_owned()));
        assert_eq!(ask(&tickets), unusable);
        tickets.accept_for(prepare(&Keytab::default()));
        assert_eq!(ask(&tickets), unusable);
        let idle = Tickets::new(Workers::idle());
        assert_eq!(ask(&idle), Err(NotNegotiated::TooMany));
    }
}
