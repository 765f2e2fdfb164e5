//! `bitsd sessions cancel` and `expire`: by an order to a server that runs, and by what is written
//! into the work directory of one that does not.

use std::process::ExitCode;

use bitsd::admin::filter::Filter;
use bitsd::bits::session::Step;
use bitsd::bits::session_id::SessionId;
use bitsd::config::Config;
use bitsd::observe;

use super::conversation::Conversation;
use super::sessions::{
    NONE_LIKE_THAT, ask, begun, code_of, one_of, plain, print, table_of, tell_unread, the_one,
    whole,
};
use super::table::Reader;
use super::{End, Failed, Knower, Offline, not_offline, orders};

/// As what they end.
#[derive(Clone, Copy, Debug)]
pub enum How {
    Cancel,
    Expire,
}

/// Ends all that are named, and says of each what became of it.
pub fn run(end: &End, how: How, offline: Offline) -> Result<ExitCode, Failed> {
    for id in &end.ids {
        begun(id)?;
    }
    match end.place.knower()? {
        Knower::Server(conversation) => end_by_order(end, how, &conversation),
        Knower::Journals(config) => end_offline(end, how, &config, offline),
    }
}

fn end_by_order(end: &End, how: How, conversation: &Conversation) -> Result<ExitCode, Failed> {
    let ids = end.ids.iter().map(|id| whole(conversation, id));
    let mut ids = ids.collect::<Result<Vec<_>, _>>()?;
    if !end.which.pairs().is_empty() {
        let mut sessions = ask(conversation, &end.which)?;
        if !ids.is_empty() {
            sessions.retain(|session| ids.contains(&plain(&session.id)));
        }
        if end.dry_run {
            print(&table_of(&sessions))?;
            return Ok(ExitCode::SUCCESS);
        }
        ids = sessions.iter().map(|session| plain(&session.id)).collect();
    }
    if end.dry_run {
        return tell_of_those(&ids, conversation);
    }
    let how = match how {
        How::Cancel => "cancel",
        How::Expire => "expire",
    };
    let mut told = Told::default();
    for id in &ids {
        let done = orders::order(conversation, &format!("/v1/sessions/{id}/{how}"));
        told.tell(id, done.map_err(|failed| failed.why));
    }
    told.finish(true)
}

/// Which of these would end; the others are told of as an order would tell.
fn tell_of_those(ids: &[String], conversation: &Conversation) -> Result<ExitCode, Failed> {
    let mut sessions = Vec::new();
    for id in ids {
        match one_of(conversation, id)? {
            Some(session) => sessions.push(session),
            None => observe::say(&format_args!("{id}: there is no such session, or no more")),
        }
    }
    print(&table_of(&sessions))?;
    Ok(code_of(sessions.len() == ids.len()))
}

fn end_offline(end: &End, how: How, config: &Config, offline: Offline) -> Result<ExitCode, Failed> {
    let pairs = end.which.pairs();
    let pairs = pairs.iter().map(|(name, value)| (*name, value.as_str()));
    let filter = Filter::read(pairs).map_err(Failed::wrong_use)?;
    filter.check(config).map_err(Failed::wrong_use)?;
    let failed = |why: String| not_offline(config, &why);
    let (mut sessions, unread) = (offline.list)(config).map_err(failed)?;
    observe::say(&"the server does not run: this is done in its work directory");
    // Who names each knows what there is.
    let is_all_known = tell_unread(&unread) || !end.ids.is_empty();
    if !end.ids.is_empty() {
        let all: Vec<_> = sessions.iter().map(|session| plain(&session.id)).collect();
        let named = end.ids.iter().map(|id| the_one(all.clone(), &begun(id)?));
        let named = named.collect::<Result<Vec<_>, _>>()?;
        sessions.retain(|session| named.contains(&plain(&session.id)));
    }
    sessions.retain(|session| filter.takes(session));
    if end.dry_run {
        print(&table_of(&sessions))?;
        return Ok(code_of(is_all_known));
    }
    let ids = sessions
        .iter()
        .filter_map(|session| SessionId::parse(session.id.as_bytes()));
    let ids: Vec<_> = ids.collect();
    let (step, is_done) = match how {
        How::Cancel => (Step::Cancel, "cancelled"),
        How::Expire => (Step::Expire, "expired"),
    };
    let mut told = Told::default();
    for (id, outcome) in (offline.end)(config, &ids, step).map_err(failed)? {
        let done = outcome.map(|()| format!("session {id} is {is_done}"));
        told.tell(&plain(&id.to_string()), done.map_err(str::to_owned));
    }
    told.finish(is_all_known)
}

/// What was said of those that were to end.
#[derive(Default)]
struct Told {
    ended: usize,
    left: usize,
    /// Nobody reads what is said: each order is given all the same.
    is_unheard: bool,
    /// What stdout said.
    not_written: Option<Failed>,
}

impl Told {
    fn tell(&mut self, id: &str, outcome: Result<String, String>) {
        match outcome {
            Ok(message) => {
                self.ended += 1;
                self.say(&format!("{message}\n"));
            }
            Err(why) => {
                self.left += 1;
                observe::say(&format_args!("{id}: {why}"));
            }
        }
    }

    fn say(&mut self, text: &str) {
        if self.is_unheard {
            return;
        }
        let said = print(text);
        self.is_unheard = !matches!(said, Ok(Reader::Reads));
        self.not_written = said.err();
    }

    fn finish(mut self, is_all_known: bool) -> Result<ExitCode, Failed> {
        if self.ended + self.left == 0 {
            self.say(NONE_LIKE_THAT);
        }
        if let Some(failed) = self.not_written {
            let (why, ended, left) = (failed.why, self.ended, self.left);
            let why = format!("{why}; {ended} of {} uploads have ended", ended + left);
            return Err(Failed::new(why));
        }
        Ok(code_of(self.left == 0 && is_all_known))
    }
}
