//! The part of the judge that looks at applications and replies: invariants 11 and 12.

use bitsd::bits::session_id::SessionId;
use bitsd::config::Durability;
use bitsd::vault::names;

use crate::application::{Replies, STATIC_URL};
use crate::disk::SimDisk;
use crate::judge::{Accepted, Judge};

impl Judge {
    /// An application hears of a file, which must be whole and safe by now.
    pub fn told(&mut self, id: SessionId, disk: &SimDisk, part: &str) {
        let is_durable = self.config.global().policy.durability != Durability::None;
        let Some(session) = self.sessions.get_mut(&id) else {
            return self.fail(format!(
                "11: the application hears of {id}, which was never made"
            ));
        };
        session.told.is_heard = true;
        let excuse = session.excuse.is_some();
        let upload = &self.uploads[session.upload];
        let whole = upload.bytes(0, upload.size);
        let live = disk.inode(part).map(|inode| disk.read(inode));
        if live != Some(&whole[..]) && !excuse {
            self.fail(format!("11: {part} is told and not whole"));
        } else if is_durable && disk.durable_work(part) != Some(&whole[..]) && !excuse {
            self.fail(format!("11: {part} is told and would not survive"));
        }
    }

    /// An application takes a file; `is_lost` is its answer. Whether it has taken it before.
    pub fn accepted(
        &mut self,
        id: SessionId,
        reply: Option<Vec<u8>>,
        life: u64,
        is_lost: bool,
    ) -> bool {
        let is_damaged = self.has_damaged_journal;
        let Some(session) = self.sessions.get_mut(&id) else {
            return false;
        };
        // A clean stop is not believed any more where a journal was damaged after it: after a power
        // cut nobody knows then whether the reply is whole.
        let may_be_lost = is_damaged && session.has_power_been_cut;
        let told = &mut session.told;
        let is_twice = (told.accepted.as_ref()).is_some_and(|before| before.life == life);
        let is_excused = told.may_hear_again || session.excuse.is_some();
        let is_repeated = told.accepted.is_some();
        told.may_hear_again = is_lost;
        told.accepted = Some(Accepted { life, reply });
        if is_twice && !is_excused {
            self.fail(format!("11: the application took {id} twice"));
        } else if told.reply_url.is_some() && session.excuse.is_none() && !may_be_lost {
            self.fail(format!("11: {id} is told again after its final Ack"));
        }
        is_repeated
    }

    /// A final Ack was heard, with or without a URL.
    pub fn heard_final(&mut self, id: SessionId, url: Option<&str>, disk: &SimDisk) {
        if self.copies.is_none() {
            if let Some(url) = url {
                self.fail(format!("11: {id} has a reply at {url}, from nobody"));
            }
            return;
        }
        let is_durable = self.config.global().policy.durability != Durability::None;
        let replies = self.replies;
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let is_over = session.closing_since.is_some() || session.cancelling_since.is_some();
        if session.excuse.is_some() || is_over {
            return;
        }
        let url = url.map(str::to_owned);
        let told = &mut session.told;
        let before = told.reply_url.replace(url.clone());
        let Some(accepted) = &told.accepted else {
            return self.fail(format!(
                "11: {id} is acked and the application has not heard"
            ));
        };
        let is_right = match replies {
            Replies::None => url.is_none(),
            Replies::Static => url.as_deref() == Some(STATIC_URL),
            Replies::File => url.is_some(),
        };
        let name = names::reply_name(id);
        let is_safe = disk.durable_work(&name) == accepted.reply.as_deref();
        if !is_right {
            self.fail(format!("11: {id} is acked with {url:?} as its reply"));
        } else if before.is_some_and(|before| before != url) {
            self.fail(format!("11: {id} is acked with another URL, {url:?}"));
        } else if is_durable && replies == Replies::File && !is_safe {
            self.fail(format!("11: the reply of {id} would not survive"));
        }
    }

    /// A reply was asked for; `is_right` is the token.
    pub fn heard_reply(
        &mut self,
        id: SessionId,
        (status, body): (u16, &[u8]),
        is_right: bool,
        disk: &SimDisk,
    ) {
        let Some(session) = self.sessions.get(&id) else {
            return;
        };
        // It ends when the store has its file.
        let ends_later = self.has_later_line(id);
        let is_over = session.closing_since.is_some()
            || session.cancelling_since.is_some()
            || session.excuse.is_some()
            // It ends for want of progress, and its other files go meanwhile.
            || disk.inode(&names::part_name(id)).is_none();
        let reply = session
            .told
            .accepted
            .as_ref()
            .and_then(|a| a.reply.as_deref());
        let wrong = match status {
            503 => return,
            200 if !is_right => "a wrong token is right",
            // A power cut may take the end of the session back, which nobody was promised to
            // outlast it.
            200 if ends_later => return,
            200 if (session.is_closed || session.is_cancelled) && !session.has_crashed => {
                "it outlives its session"
            }
            200 if Some(body) != reply => "it has other bytes",
            404 if is_right && !is_over => "it is gone",
            200 | 404 => return,
            _ => "what an answer",
        };
        self.fail(format!(
            "12: the reply of {id} is answered by {status}: {wrong}"
        ));
    }
}
