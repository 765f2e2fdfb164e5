//! The server application of a run: it hears of whole files, and takes them, refuses them, breaks,
//! or is slow.

use std::rc::Rc;

use bitsd::bits::notification::Answer;
use bitsd::bits::session_id::SessionId;
use bitsd::server::floor::{NotifyError, Order};

use crate::clock::sleep;
use crate::rng::{Rng, mix};
use crate::sim::Sim;
use crate::world::eio;

/// Where static replies are.
pub const STATIC_URL: &str = "http://elsewhere.example/reply";

/// What an application has for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replies {
    /// Nothing.
    None,
    /// A file.
    File,
    /// A URL of its own.
    Static,
}

/// How an application behaves; rates are in a thousand.
#[derive(Clone, Debug)]
pub struct Application {
    /// It takes the file itself, not its name.
    pub is_by_value: bool,
    /// It wants files at their destinations.
    pub copies: bool,
    /// What it answers with.
    pub replies: Replies,
    /// Refuses for good.
    pub denies: u64,
    /// Cannot be reached, or answers with an error.
    pub fails: u64,
    /// Does not answer in time.
    pub hangs: u64,
    /// Takes the file, and its answer is lost.
    pub loses: u64,
}

impl Application {
    /// Draws one; most runs have none.
    pub fn draw(seed: u64) -> Option<Self> {
        let mut rng = Rng::new(mix(seed ^ 0xa991));
        if !rng.chance(300) {
            return None;
        }
        let mut some = |rate: u64| if rng.chance(400) { rate } else { 0 };
        let (denies, fails, hangs, loses) = (some(60), some(300), some(100), some(200));
        Some(Self {
            is_by_value: rng.chance(500),
            copies: rng.chance(500),
            replies: rng.pick(&[Replies::None, Replies::File, Replies::File, Replies::Static]),
            denies,
            fails,
            hangs,
            loses,
        })
    }

    /// Hears of a file.
    pub async fn hear(&self, sim: &Rc<Sim>, order: &Order) -> Result<Answer, NotifyError> {
        sim.disk_time().await;
        sim.disk.borrow_mut().remove(order.shelf, &order.reply);
        if sim.chance(self.fails) {
            sim.marks.hit("application failed");
            return match sim.below(3) {
                0 => Err(NotifyError::Unreachable("refused".to_owned())),
                1 => Err(NotifyError::Busy),
                _ => Ok(answer([404, 500, 503][sim.below(3)])),
            };
        }
        let id = SessionId::parse(order.id.as_bytes()).expect("the id of a session");
        sim.judge
            .borrow_mut()
            .told(id, &sim.disk.borrow(), &order.part);
        sim.tell(|| format!("application hears of {id}"));
        sim.be_critical();
        sleep(&sim.executor, sim.below(200) as u64).await;
        if sim.chance(self.denies) {
            sim.marks.hit("application denied (403)");
            return Ok(answer(403));
        }
        if sim.chance(self.hangs) {
            sim.marks.hit("application timed out");
            let ms = u64::try_from(order.settings.timeout.as_millis()).unwrap_or(u64::MAX);
            sleep(&sim.executor, ms).await;
            return Err(NotifyError::TimedOut);
        }
        self.accept(sim, id, order).await
    }

    async fn accept(
        &self,
        sim: &Rc<Sim>,
        id: SessionId,
        order: &Order,
    ) -> Result<Answer, NotifyError> {
        let mut reply = None;
        if self.replies == Replies::File {
            let bytes = reply_bytes(sim.random());
            self.write(sim, order, &bytes).await?;
            reply = Some(bytes);
        }
        sim.tell(|| format!("application takes {id}"));
        let loses = sim.chance(self.loses);
        let life = sim.life_number();
        if (sim.judge.borrow_mut()).accepted(id, reply, life, loses) {
            sim.marks.hit("notification repeated");
        }
        sim.be_critical();
        sleep(&sim.executor, sim.below(20) as u64).await;
        if loses {
            sim.marks.hit("answer of the application lost");
            sim.disk.borrow_mut().remove(order.shelf, &order.reply);
            return Err(NotifyError::Malformed("it broke off".to_owned()));
        }
        Ok(Answer {
            status: 200,
            static_url: (self.replies == Replies::Static).then(|| STATIC_URL.to_owned()),
            copies: self.copies,
            has_reply: self.replies == Replies::File,
        })
    }

    /// Writes the reply in two pieces, as whoever writes it does: nothing of it is synced.
    async fn write(&self, sim: &Rc<Sim>, order: &Order, bytes: &[u8]) -> Result<(), NotifyError> {
        let now = sim.executor.now();
        if let Some(full) = sim.full() {
            return Err(NotifyError::Disk(full));
        }
        let (shelf, name) = (order.shelf, &order.reply);
        let created = sim.disk.borrow_mut().create(shelf, name, now);
        let inode = created.map_err(NotifyError::Disk)?;
        let half = bytes.len() / 2;
        sim.disk.borrow_mut().write(inode, 0, &bytes[..half], now);
        sim.disk_time().await;
        if sim.chance(sim.plan.faults.write) {
            sim.disk.borrow_mut().remove(shelf, name);
            return Err(NotifyError::Disk(eio()));
        }
        (sim.disk.borrow_mut()).write(inode, half as u64, &bytes[half..], now);
        Ok(())
    }
}

fn answer(status: u16) -> Answer {
    Answer {
        status,
        static_url: None,
        copies: false,
        has_reply: false,
    }
}

/// A reply, never like another one.
fn reply_bytes(seed: u64) -> Vec<u8> {
    let bytes = usize::try_from(mix(seed) % 2_000).expect("small");
    (0..bytes as u64)
        .map(|at| mix(seed ^ at).to_le_bytes()[0])
        .collect()
}
