//! Telling a server application of a whole file, and keeping what it says (protocol.md 9.1).
//!
//! If it does not take the file, the client's next duplicate of the last fragment asks it again,
//! though not at once (`Pause`); until then the client hears what was said last.
//!
//! The client waits for its final Ack meanwhile, and holds its session: whoever comes for it later
//! waits too, and hears what was said. Nothing else waits: the HTTP client works on threads of its
//! own, and only so many at once for each location.

use std::rc::Rc;

use super::floor::{NotifyError, Order, World};
use super::held::Held;
use super::left::is_by_reference;
use super::pause::Pause;
use crate::bits::notification::{self, Answer, Base, Judgement, Token};
use crate::bits::reply::{Refusal, Scarce};
use crate::bits::session::{Reply, State, Step};
use crate::config::Location;
use crate::event::{DiskOp, Event, Told};
use crate::http::authorization::Scheme;
use crate::vault::error::StoreError;
use crate::vault::names;
use crate::vault::record::Answered;

/// What an application cannot mean.
const TAKEN_AND_WANTED: &str =
    "the application has taken the file away and asks for its publication: it may do one of them";

/// What the client hears: never anything final, since the file is whole and the next attempt may
/// succeed. `received` is the size of the file, in bytes.
fn refusal(error: NotifyError, received: u64) -> Refusal {
    match error {
        NotifyError::Busy => Refusal::Busy(Scarce::Notifications),
        NotifyError::NoThread => Refusal::Busy(Scarce::Threads),
        NotifyError::TimedOut => Refusal::ApplicationTimedOut { received },
        NotifyError::Unreachable(_)
        | NotifyError::Malformed(_)
        | NotifyError::ReplyTooLarge { .. } => {
            let received = Some(received);
            Refusal::ApplicationFailed { received }
        }
        NotifyError::Disk(source) => {
            let op = DiskOp::Reply;
            match (StoreError { op, source }).refusal() {
                Refusal::ApplicationFailed { .. } => {
                    let received = Some(received);
                    Refusal::ApplicationFailed { received }
                }
                refusal => refusal,
            }
        }
    }
}

impl<W: World> Held<W> {
    /// Tells the application of a sealed file; what follows from its answer stands on disk when
    /// this returns.
    pub(super) async fn notify(&mut self) -> Result<Step, Refusal> {
        let shard = Rc::clone(&self.shard);
        let now = shard.world.now();
        let pause = self.work().application_pause.as_mut();
        if let Some(refusal) = pause.and_then(|pause| pause.answer(now)) {
            return Err(refusal);
        }
        let location = self.location();
        let order = match self.order(&location) {
            Ok(order) => order,
            Err(refusal) => {
                let told = Told::Failed(&"notification_url, public_url and the upload make no URL");
                let session = self.id();
                shard.world.emit(Event::Notified { session, told });
                return Err(refusal);
            }
        };
        self.hand_over(&location).await;
        if shard.is_over() {
            // An answer could not be recorded any more, and the application would be asked twice.
            return Err(Refusal::Unavailable);
        }
        self.work().was_told = true;
        self.keep().expect_reply();
        let metrics = shard.world.metrics();
        let began_us = shard.world.now_us();
        metrics.notifying.add(1);
        let told = shard.world.notify(order).await;
        metrics.notifying.take(1);
        (metrics.notified).note(shard.world.now_us().saturating_sub(began_us));
        let judged = match told {
            Ok(answer) => Ok((self.judge_answer(&location, &answer).await, answer)),
            Err(error) => Err(error),
        };
        self.tell_of(&judged);
        if shard.is_over() {
            // Its client is gone too. The next start asks again.
            return Err(Refusal::Unavailable);
        }
        let was_asked = !matches!(judged, Err(NotifyError::Busy | NotifyError::NoThread));
        let outcome = match judged {
            Ok((judgement, answer)) => self.heed(&location, judgement, answer).await,
            Err(error) => Err(refusal(error, self.received())),
        };
        match &outcome {
            // Also if it was our disk that failed: the next try costs the application as much.
            Err(refusal) if was_asked => {
                let now = shard.world.now();
                Pause::renew(&mut self.work().application_pause, now, refusal, false);
            }
            Err(_) => {}
            Ok(_) => self.work().application_pause = None,
        }
        outcome
    }

    /// Tells how it went, by what the client will hear.
    fn tell_of(&self, judged: &Result<(Judgement, Answer), NotifyError>) {
        let session = self.id();
        let told = match judged {
            Ok((Judgement::Senseless { why, .. }, _)) => Told::Senseless(why),
            Ok((_, answer)) => Told::Answered(answer.status),
            // It is our own bound, which the refusal names: nobody was asked.
            Err(NotifyError::Busy | NotifyError::NoThread) => return,
            // It is our own disk: nothing is wrong with the application.
            Err(NotifyError::Disk(error)) => {
                return self.shard.world.emit(Event::DiskFailed {
                    op: DiskOp::Reply,
                    session: Some(session),
                    error,
                });
            }
            Err(error) => Told::Failed(error),
        };
        (self.shard.world).emit(Event::Notified { session, told });
    }

    /// What follows from an answer. An application that has taken the file away, whose name it was
    /// given, and asks for its publication all the same, has lost it: found out later, that would
    /// look as if others had removed it.
    async fn judge_answer(&mut self, location: &Location, answer: &Answer) -> Judgement {
        let judgement = answer.judge(self.received());
        let is_wanted = matches!(judgement, Judgement::Accepted { copies: true, .. });
        if self.shard.is_over() || !is_wanted || !is_by_reference(location) {
            return judgement;
        }
        match self.stamp().await {
            Ok(None) => Judgement::Senseless {
                refusal: Refusal::ApplicationFailed {
                    received: Some(self.received()),
                },
                why: TAKEN_AND_WANTED,
            },
            _ => judgement,
        }
    }

    fn order(&mut self, location: &Location) -> Result<Order, Refusal> {
        // The settings changed between the decision and now.
        let settings = location.notification.clone().ok_or(Refusal::Unavailable)?;
        let received = Some(self.received());
        let public_url = location.public_url.as_deref();
        let url = notification::notification_url(
            &settings.url,
            public_url,
            self.path(),
            self.asked().query(),
        )
        .map_err(|notification::BadUrl| Refusal::ApplicationFailed { received })?;
        let id = self.id();
        let life = self.keep().record().life.clone();
        Ok(Order {
            id: id.plain().to_string(),
            url,
            // As its client calls it, by the name of the farm or of the node.
            upload_url: self.base(location, None).upload_url(self.asked()),
            shelf: self.keep().shelf(),
            part: names::part_name(id),
            reply: names::reply_name(id),
            location: location.prefix.clone(),
            bytes: self.received(),
            user: life.user,
            proof: life.proof.map(Scheme::word),
            sha256: self.keep().digests().map(|digests| digests.sha256),
            settings,
        })
    }

    async fn heed(
        &mut self,
        location: &Location,
        judgement: Judgement,
        answer: Answer,
    ) -> Result<Step, Refusal> {
        let shard = Rc::clone(&self.shard);
        let total = self.received();
        match judgement {
            Judgement::Accepted { copies, reply } => {
                if reply != Reply::File {
                    self.drop_reply().await;
                }
                let notified = State::Notified {
                    total,
                    copies,
                    reply,
                };
                let answered = Answered {
                    token: Token::new(u128::from_be_bytes(shard.world.random())),
                    static_url: answer.static_url.filter(|_| reply == Reply::Elsewhere),
                    is_safe: false,
                };
                let durability = location.policy.durability;
                let kept = (self.keep())
                    .notified(&shard.store, notified, answered, durability)
                    .await;
                match kept {
                    Ok(()) => {
                        self.note_progress();
                        Ok(Step::Notified { copies, reply })
                    }
                    Err(error) => Err(self.fail(error).await),
                }
            }
            Judgement::Denied => {
                self.drop_reply().await;
                // If it is lost, the application is asked once more.
                let denied = State::Denied { total };
                self.keep().note(&shard.store, denied).await;
                Ok(Step::Denied)
            }
            Judgement::Refused(refusal) | Judgement::Senseless { refusal, .. } => {
                self.drop_reply().await;
                Err(refusal)
            }
        }
    }

    /// The URL of the final Ack, where there is one.
    pub(super) fn reply_url(&mut self) -> Option<Box<str>> {
        let reply = self.state().reply();
        let answered = self.keep().answer()?;
        match reply {
            Reply::None => None,
            Reply::Elsewhere => answered.static_url.map(String::into_boxed_str),
            Reply::File => {
                let location = self.location();
                // It is fetched from the node that has it (protocol.md 8.3).
                let node = location.host.as_ref().map(|host| host.id.as_str());
                let base = self.base(&location, node);
                let url = base.reply_url(self.path(), self.id(), answered.token);
                Some(url.into_boxed_str())
            }
        }
    }

    fn base(&self, location: &Location, node: Option<&str>) -> Base {
        let host = self.asked().host.as_deref();
        let public_url = location.public_url.as_deref();
        Base::new(public_url, node, host, self.is_encrypted())
    }
}
