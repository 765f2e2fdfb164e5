//! `bitsd sessions list` and `show`: which uploads there are.

use std::cmp::Reverse;
use std::io;
use std::process::ExitCode;

use bitsd::admin::filter::{Filter, id_begun};
use bitsd::admin::view::SessionView;
use bitsd::bits::session_id::SessionId;
use bitsd::observe;
use bitsd::wall_clock;

use super::conversation::{Conversation, refused, target};
use super::table::{self, Columns, Reader, Side};
use super::{Failed, Knower, List, Offline, Show, Which, not_offline};

/// Each session that there is: a server that runs is asked; of one that does not, the journals are
/// read. Whether these are all: what journals do not tell was said then.
fn each(
    knower: &Knower,
    which: &Which,
    offline: Offline,
    take: impl FnMut(SessionView),
) -> Result<bool, Failed> {
    let config = match knower {
        Knower::Server(conversation) => {
            ask_for_each(conversation, which, take)?;
            return Ok(true);
        }
        Knower::Journals(config) => config,
    };
    let pairs = which.pairs();
    let pairs = pairs.iter().map(|(name, value)| (*name, value.as_str()));
    let filter = Filter::read(pairs).map_err(Failed::wrong_use)?;
    filter.check(config).map_err(Failed::wrong_use)?;
    let (sessions, unread) = (offline.list)(config).map_err(|why| not_offline(config, &why))?;
    observe::say(&"the server does not run: this is what its journals say");
    let sessions = sessions.into_iter();
    sessions
        .filter(|session| filter.takes(session))
        .for_each(take);
    Ok(tell_unread(&unread))
}

/// Says what could not be read; whether that was nothing.
pub fn tell_unread(unread: &[String]) -> bool {
    unread.iter().for_each(|what| observe::say(what));
    unread.is_empty()
}

/// 0 if all is well, 1 if not.
pub fn code_of(is_well: bool) -> ExitCode {
    match is_well {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn ask_for_each(
    conversation: &Conversation,
    which: &Which,
    mut take: impl FnMut(SessionView),
) -> Result<(), Failed> {
    let target = target("/v1/sessions", &which.pairs());
    conversation.lines(&target, |line| {
        take(serde_json::from_str(line)?);
        Ok(())
    })?;
    Ok(())
}

/// What a server that runs says.
pub fn ask(conversation: &Conversation, which: &Which) -> Result<Vec<SessionView>, Failed> {
    let mut sessions = Vec::new();
    ask_for_each(conversation, which, |session| sessions.push(session))?;
    Ok(sessions)
}

/// Runs `bitsd sessions list`. There may be very many: of each, its line is kept and nothing else.
pub fn list_all(list: &List, offline: Offline) -> Result<ExitCode, Failed> {
    let (mut rows, mut received) = (Vec::new(), 0);
    let knower = list.place.knower()?;
    let are_all = each(&knower, &list.which, offline, |session| {
        let row = match list.json {
            true => json(&session).into_boxed_str(),
            false => table::joined(cells(&session)),
        };
        rows.push((session.idle_seconds, row));
        received += session.received_bytes;
    })?;
    // Whoever waits longest stands first.
    rows.sort_by_key(|(idle_seconds, _)| Reverse(*idle_seconds));
    let rows = rows.into_iter().map(|(_, row)| row);
    let written = match list.json {
        true => table::print_all(rows),
        false => {
            let none = match list.which.pairs().is_empty() {
                true => "no unfinished uploads\n",
                false => NONE_LIKE_THAT,
            };
            let (columns, end) = table_of_rows(rows, received, none);
            table::print_all(columns.iter().flat_map(Columns::lines).chain([end]))
        }
    };
    written.map_err(not_written)?;
    Ok(code_of(are_all))
}

fn json(session: &SessionView) -> String {
    let text = serde_json::to_string(session).expect("texts and numbers always serialize");
    text + "\n"
}

/// Some of all, for a person.
pub fn table_of(sessions: &[SessionView]) -> String {
    let rows = sessions.iter().map(|session| table::joined(cells(session)));
    let received = sessions.iter().map(|session| session.received_bytes).sum();
    let (columns, end) = table_of_rows(rows, received, NONE_LIKE_THAT);
    columns
        .iter()
        .flat_map(Columns::lines)
        .chain([end])
        .collect()
}

fn cells(session: &SessionView) -> [String; 7] {
    let busy = if session.is_busy { "*" } else { "" };
    [
        plain(&session.id),
        format!("{}{busy}", session.state),
        table::bytes(session.received_bytes),
        session.total_bytes.map_or("?".to_owned(), table::bytes),
        table::time(session.idle_seconds),
        session.client.clone().unwrap_or_else(|| "-".to_owned()),
        session.path.clone(),
    ]
}

/// What is said where a filter lets none through. There may be others.
pub const NONE_LIKE_THAT: &str = "no upload is like that\n";

/// The table of some rows, if there are any, and the line below it, or what is said where there is
/// none.
fn table_of_rows(
    rows: impl Iterator<Item = Box<str>>,
    received: u64,
    none: &str,
) -> (Option<Columns>, String) {
    let mut columns = Columns::new(&[
        ("SESSION", Side::Left),
        ("STATE", Side::Left),
        ("RECEIVED", Side::Right),
        ("OF", Side::Right),
        ("IDLE", Side::Right),
        ("CLIENT", Side::Left),
        ("PATH", Side::Left),
    ]);
    let mut count = 0;
    for row in rows {
        columns.joined_row(row);
        count += 1;
    }
    if count == 0 {
        return (None, none.to_owned());
    }
    let end = if count == 1 { "" } else { "s" };
    let received = table::bytes(received);
    let end =
        format!("{count} unfinished upload{end}, {received} are here (* a request is under way)\n");
    (Some(columns), end)
}

/// Without braces, which a shell would have to be told of.
pub fn plain(id: &str) -> String {
    id.trim_matches(['{', '}']).to_owned()
}

/// Runs `bitsd sessions show`.
pub fn show_one(show: &Show, offline: Offline) -> Result<ExitCode, Failed> {
    let session = match show.place.knower()? {
        Knower::Server(conversation) => {
            let id = whole(&conversation, &show.id)?;
            one_of(&conversation, &id)?
        }
        journals @ Knower::Journals(_) => {
            let begin = begun(&show.id)?;
            let mut sessions = Vec::new();
            let which = Which::default();
            each(&journals, &which, offline, |session| sessions.push(session))?;
            let ids = sessions.iter().map(|session| plain(&session.id)).collect();
            let id = the_one(ids, &begin)?;
            sessions.retain(|session| plain(&session.id) == id);
            sessions.pop()
        }
    };
    let session: SessionView = session
        .ok_or_else(|| Failed::new(format!("there is no session {}, or no more", show.id)))?;
    print(&match show.json {
        true => json(&session),
        false => details(&session),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The session of this id, if the server has it.
pub fn one_of(conversation: &Conversation, id: &str) -> Result<Option<SessionView>, Failed> {
    let (status, body) = conversation.ask("GET", &format!("/v1/sessions/{id}"))?;
    match status {
        200 => Ok(serde_json::from_str(&body).ok()),
        404 => Ok(None),
        _ => Err(refused(status, &body).into()),
    }
}

fn details(session: &SessionView) -> String {
    let mut columns = Columns::new(&[("session", Side::Left), (&plain(&session.id), Side::Left)]);
    let mut line = |name: &str, value: String| columns.row([name.to_owned(), value]);
    line("path", session.path.clone());
    line("location", session.location.clone());
    let busy = if session.is_busy {
        ", a request is under way"
    } else {
        ""
    };
    line("state", format!("{}{busy}", session.state));
    let of = match session.total_bytes {
        Some(total) => format!("{} ({total} bytes)", table::bytes(total)),
        None => "a size that its client has not said yet".to_owned(),
    };
    let (bytes, exact) = (table::bytes(session.received_bytes), session.received_bytes);
    line("received", format!("{bytes} ({exact} bytes) of {of}"));
    line("idle", table::time(session.idle_seconds));
    if let Some(seconds) = session.expires_in_seconds {
        line(
            "expires",
            format!("in {} without progress", table::time(seconds)),
        );
    }
    if let Some(seconds) = session.begun_seconds {
        line("begun", wall_clock::to_the_second(seconds));
    }
    let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    line("client", or_none(&session.client));
    line("user", or_none(&session.user));
    line("agent", or_none(&session.agent));
    line("connections", session.connections.to_string());
    line("interruptions", session.interruptions.to_string());
    for (name, digest) in [("sha-256", &session.sha256), ("sha-1", &session.sha1)] {
        if let Some(digest) = digest {
            line(name, digest.clone());
        }
    }
    columns.to_text()
}

/// An id, or its beginning, as it is compared.
pub fn begun(text: &str) -> Result<String, Failed> {
    let hint = "the first column of `bitsd sessions list` has them";
    id_begun(text).map_err(|why| Failed::wrong_use(format!("{why}: {hint}")))
}

/// The id that begins so, without braces: the page and `bitsd status` show no more of it.
pub fn whole(conversation: &Conversation, text: &str) -> Result<String, Failed> {
    let begin = begun(text)?;
    if SessionId::parse(begin.as_bytes()).is_some() {
        return Ok(begin);
    }
    let mut found = Vec::new();
    let target = target("/v1/sessions", &[("any", begin.clone())]);
    conversation.lines(&target, |line| {
        let session: SessionView = serde_json::from_str(line)?;
        found.push(plain(&session.id));
        Ok(())
    })?;
    the_one(found, &begin)
}

/// The only one of these ids that begins so.
pub fn the_one(mut ids: Vec<String>, begin: &str) -> Result<String, Failed> {
    ids.retain(|id| id.starts_with(begin));
    match &ids[..] {
        [id] => Ok(id.clone()),
        [] => Err(Failed::new(format!(
            "no unfinished upload has an id that begins with {begin}"
        ))),
        [one, other, ..] => Err(Failed::new(format!(
            "{begin} is the beginning of {one}, {other}, ..: say more of it"
        ))),
    }
}

/// Writes it; whether anybody reads on.
pub fn print(text: &str) -> Result<Reader, Failed> {
    table::print(text).map_err(not_written)
}

/// Its text could not be written.
pub fn not_written(error: io::Error) -> Failed {
    Failed::new(format!("cannot write: {error}"))
}
