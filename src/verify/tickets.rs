//! Kerberos tickets, looked at on threads of their own, and the conversations in between.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::gssapi::{self, Acceptor, Context, Said};
use super::workers::{Full, Workers};
use crate::auth::keytab::Keytab;
use crate::auth::negotiation::{
    CONVERSATION_MS_MAX, CONVERSATIONS_MAX, Conversation, Leg, Negotiated, NotNegotiated,
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
    conversations: Mutex<Conversations>,
}

/// Those that wait for their next token.
#[derive(Debug, Default)]
struct Conversations {
    last: Conversation,
    /// Numbers go up, so that the oldest is the first.
    waiting: BTreeMap<Conversation, (Instant, Context)>,
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
                let found = number.and_then(|number| self.conversations().take(number));
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
                let kept = self.conversations().keep(context);
                kept.map(|conversation| Negotiated::GoesOn {
                    conversation,
                    answer,
                })
                .ok_or(NotNegotiated::TooMany)
            }
            Said::Refused { why, answer } => Ok(Negotiated::Refused { why, answer }),
            Said::Unusable(why) => Err(NotNegotiated::Unusable(why)),
        }
    }

    fn conversations(&self) -> std::sync::MutexGuard<'_, Conversations> {
        (self.conversations.lock()).unwrap_or_else(PoisonError::into_inner)
    }
}

impl Conversations {
    fn take(&mut self, number: Conversation) -> Option<Context> {
        self.forget_old();
        self.waiting.remove(&number).map(|(_, context)| context)
    }

    fn keep(&mut self, context: Context) -> Option<Conversation> {
        self.forget_old();
        if self.waiting.len() >= CONVERSATIONS_MAX {
            return None;
        }
        self.last += 1;
        self.waiting.insert(self.last, (Instant::now(), context));
        Some(self.last)
    }

    fn forget_old(&mut self) {
        let patience = Duration::from_millis(CONVERSATION_MS_MAX);
        while let Some(oldest) = self.waiting.first_entry()
            && oldest.get().0.elapsed() > patience
        {
            oldest.remove();
        }
    }
}

const NO_KEYTAB: &str = "no `keytab` is set";
