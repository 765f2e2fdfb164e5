//! `bitsd sessions list` and `show`: which uploads there are.

use std::process::ExitCode;

use bitsd::admin::filter::{Filter, id_begun};
use bitsd::admin::view::SessionView;
use bitsd::bits::session_id::SessionId;
use bitsd::observe;

use super::conversation::{Conversation, refused, target};
use super::table::{self, Columns, Side};
use super::{Failed, Knower, List, Offline, Show, Which, not_offline};

/// A server that runs is asked; of one that does not, the journals are read.
fn found(knower: &Knower, which: &Which, offline: Offline) -> Result<Vec<SessionView>, Failed> {
    let config = match knower {
        Knower::Server(conversation) => return ask(conversation, which),
        Knower::Journals(config) => config,
    };
    let pairs = which.pairs();
    let pairs = pairs.iter().map(|(name, value)| (*name, value.as_str()));
    let filter = Filter::read(pairs).map_err(Failed::wrong_use)?;
    filter.check(config).map_err(Failed::wrong_use)?;
    let mut sessions = (offline.list)(config).map_err(|why| not_offline(config, &why))?;
    observe::say(&"the server does not run: this is what its journals say");
    sessions.retain(|session| filter.takes(session));
    Ok(sessions)
}

/// What a server that runs says.
pub fn ask(conversation: &Conversation, which: &Which) -> Result<Vec<SessionView>, Failed> {
    let mut sessions = Vec::new();
    let target = target("/v1/sessions", &which.pairs());
    conversation.lines(&target, |line| {
        sessions.push(serde_json::from_str(line)?);
        Ok(())
    })?;
    Ok(sessions)
}

/// Runs `bitsd sessions list`.
pub fn list_all(list: &List, offline: Offline) -> Result<ExitCode, Failed> {
    let mut sessions = found(&list.place.knower()?, &list.which, offline)?;
    // Whoever waits longest stands first.
    sessions.sort_by_key(|session| std::cmp::Reverse(session.idle_seconds));
    let text = match list.json {
        true => sessions.iter().map(json).collect(),
        false => table_of(&sessions),
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn json(session: &SessionView) -> String {
    let text = serde_json::to_string(session).expect("texts and numbers always serialize");
    text + "\n"
}

/// For a person.
pub fn table_of(sessions: &[SessionView]) -> String {
    if sessions.is_empty() {
        return "no unfinished uploads\n".to_owned();
    }
    let mut columns = Columns::new(&[
        ("SESSION", Side::Left),
        ("STATE", Side::Left),
        ("RECEIVED", Side::Right),
        ("OF", Side::Right),
        ("IDLE", Side::Right),
        ("CLIENT", Side::Left),
        ("PATH", Side::Left),
    ]);
    for session in sessions {
        let busy = if session.is_busy { "*" } else { "" };
        columns.row([
            plain(&session.id),
            format!("{}{busy}", session.state),
            table::bytes(session.received_bytes),
            session.total_bytes.map_or("?".to_owned(), table::bytes),
            table::time(session.idle_seconds),
            session.client.clone().unwrap_or_else(|| "-".to_owned()),
            session.path.clone(),
        ]);
    }
    let received = sessions.iter().map(|session| session.received_bytes).sum();
    let count = sessions.len();
    let end = if count == 1 { "" } else { "s" };
    format!(
        "{}{count} unfinished upload{end}, {} are here (* a request is under way)\n",
        columns.to_text(),
        table::bytes(received)
    )
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
            let (status, body) = conversation.ask("GET", &format!("/v1/sessions/{id}"))?;
            match status {
                200 => serde_json::from_str(&body).ok(),
                404 => None,
                _ => return Err(refused(status, &body).into()),
            }
        }
        journals @ Knower::Journals(_) => {
            let begin = begun(&show.id)?;
            let mut sessions = found(&journals, &Which::default(), offline)?;
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
        let begun = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        line(
            "begun",
            humantime::format_rfc3339_seconds(begun).to_string(),
        );
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

/// Writes it.
pub fn print(text: &str) -> Result<(), Failed> {
    table::print(text).map_err(|error| Failed::new(format!("cannot write: {error}")))
}
