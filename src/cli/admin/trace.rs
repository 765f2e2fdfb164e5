//! `bitsd trace`: packets as they come, and why they were refused.

use std::io::ErrorKind;
use std::process::ExitCode;

use bitsd::admin::trace::Traced;
use bitsd::observe;
use bitsd::wall_clock;

use super::conversation::{NoConversation, target};
use super::sessions::{begun, not_written};
use super::table::{self, Reader};
use super::{Failed, Trace};

/// Shows them, until the server stops or somebody has seen enough.
pub fn run(trace: &Trace) -> Result<ExitCode, Failed> {
    if let Some(session) = &trace.session {
        begun(session)?;
    }
    let pairs = [
        ("client", &trace.client),
        ("path", &trace.path),
        ("session", &trace.session),
    ];
    let pairs = pairs
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.clone()?)));
    let target = target("/v1/trace", &pairs.collect::<Vec<_>>());
    let conversation = trace.place.conversation()?;
    let mut written = Ok(Reader::Reads);
    let shown = conversation.lines(&target, |line| {
        let text = match trace.json {
            true => format!("{line}\n"),
            false => in_words(&serde_json::from_str(line)?),
        };
        written = table::print(&text);
        match written {
            Ok(Reader::Reads) => Ok(()),
            // Nothing else is to be done.
            _ => Err(ErrorKind::BrokenPipe.into()),
        }
    });
    if written.map_err(not_written)? == Reader::Gone {
        return Ok(ExitCode::SUCCESS);
    }
    match shown {
        // Nobody knows the last packet before it is the last.
        Err(NoConversation::Broken(error)) if error.kind() == ErrorKind::UnexpectedEof => {
            observe::say(&"the server has ended");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(error.into()),
        Ok(()) => Ok(ExitCode::SUCCESS),
    }
}

/// One line, and the remedy on a second one where there is one.
fn in_words(traced: &Traced) -> String {
    let at = wall_clock::to_the_millisecond(traced.at_ms);
    let time = at.get(11..23).unwrap_or(&at);
    let status = traced
        .status
        .map_or("-".to_owned(), |status| status.to_string());
    let or_none = |value: &Option<String>| value.as_deref().unwrap_or("-").to_owned();
    let client = or_none(&traced.client);
    let subject = traced.path.as_ref().or(traced.session.as_ref());
    let subject = subject.map_or("-", String::as_str);
    let mut text = String::new();
    if traced.missed > 0 {
        text.push_str(&format!("({} were missed)\n", traced.missed));
    }
    let (what, client) = (&traced.what, table::printable(&client));
    let subject = table::printable(subject);
    text.push_str(&format!(
        "{time}  {what:<14}  {status:>3}  {client:<21}  {subject}"
    ));
    if let Some(why) = &traced.why {
        text.push_str(&format!("  {}", table::printable(why)));
    }
    text.push('\n');
    if let Some(remedy) = &traced.remedy {
        text.push_str(&format!("{:>14}{remedy}\n", "-> "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_shown_with_its_reason_and_remedy() {
        let traced = Traced {
            at_ms: 1_700_000_000_123,
            shard: 1,
            what: "create_session".to_owned(),
            client: Some("192.0.2.1:5".to_owned()),
            status: Some(500),
            session: None,
            path: Some("in/a\u{1b}.zip".to_owned()),
            why: Some("the disk is full".to_owned()),
            remedy: Some("free some space".to_owned()),
            missed: 3,
        };
        let text = in_words(&traced);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "(3 were missed)");
        assert!(lines[1].starts_with("22:13:20.123  create_session  500  192.0.2.1:5"));
        assert!(lines[1].ends_with("in/a?.zip  the disk is full"), "{text}");
        assert_eq!(lines[2].trim(), "-> free some space");
    }
}
