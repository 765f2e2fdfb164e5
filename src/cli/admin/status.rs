//! `bitsd status`: the server as a whole, on a page.

use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use bitsd::admin::view::StatusView;
use bitsd::observe;

use super::conversation::{Conversation, NoConversation, refused};
use super::screen::Screen;
use super::sessions::code_of;
use super::stuck;
use super::table::{self, Columns, Reader, Side};
use super::{Failed, Status};

/// How often it is shown again.
const INTERVAL: Duration = Duration::from_secs(2);

/// Shows it.
pub fn run(status: &Status) -> Result<ExitCode, Failed> {
    let conversation = status.place.conversation()?;
    let failed = |error| Failed::new(format!("cannot write: {error}"));
    if status.by_folder {
        table::print(&stuck::folders(&conversation, status.json)?).map_err(failed)?;
        return Ok(ExitCode::SUCCESS);
    }
    let is_on_screen = status.watch && !status.json;
    let mut last_seen = None;
    loop {
        let screen = match is_on_screen {
            true => Screen::of_stdout(),
            false => Screen::None,
        };
        match (look(&conversation, status.json), last_seen) {
            (Ok((text, is_ready)), _) => {
                let reader = table::print(&screen.filled(&text)).map_err(failed)?;
                if !status.watch || reader == Reader::Gone {
                    return Ok(code_of(is_ready));
                }
                last_seen = Some(Instant::now());
            }
            // A restart, or a bad moment: whoever watches waits for its end.
            (Err(error), Some(seen)) if error.may_pass() => {
                let text = screen.filled(&format!("{}\n", away(seen.elapsed(), &error)));
                match status.json {
                    // What reads stdout reads nothing else.
                    true => observe::show_briefly(io::stderr(), &text),
                    false => {
                        if table::print(&text).map_err(failed)? == Reader::Gone {
                            return Ok(ExitCode::FAILURE);
                        }
                    }
                }
            }
            (Err(error), _) => return Err(error.into()),
        }
        thread::sleep(INTERVAL);
    }
}

/// How things are, and whether new uploads are taken.
fn look(conversation: &Conversation, as_json: bool) -> Result<(String, bool), NoConversation> {
    let (code, body) = conversation.ask("GET", "/v1/status")?;
    if code != 200 {
        return Err(refused(code, &body));
    }
    let view: StatusView =
        serde_json::from_str(&body).map_err(|error| NoConversation::Foreign(error.to_string()))?;
    let text = match as_json {
        true => body,
        false => page(&view) + &stuck::ask(conversation)?,
    };
    Ok((text, view.is_ready))
}

fn away(since: Duration, error: &NoConversation) -> String {
    let since = table::time(since.as_secs());
    format!("NO ANSWER since {since}; asked again every two seconds\n  {error}")
}

const RELOAD_FAILED: &str = "  the last reload failed: the settings before it hold, and not those of the file\n    -> \
     `bitsd check` says what is wrong; then `bitsd reload`\n";

/// A page for a person: first whether all is well, then how much, then where.
fn page(view: &StatusView) -> String {
    let mut text = match view.is_ready {
        true => "ready: new uploads are taken\n".to_owned(),
        false => "NOT READY\n".to_owned(),
    };
    for reason in &view.reasons {
        text.push_str(&format!(
            "  {}\n    -> {}\n",
            table::printable(&reason.why),
            reason.remedy
        ));
    }
    if view.has_reload_failed {
        text.push_str(RELOAD_FAILED);
    }
    text.push_str(&format!(
        "bitsd {}, process {}, up {}\n\n",
        view.version,
        view.process,
        table::time(view.uptime_seconds)
    ));
    let bytes = table::bytes;
    text.push_str(&format!(
        "now       {} uploads open on {} connections, {}/s\n",
        view.sessions,
        view.connections,
        bytes(view.received_bytes_per_second)
    ));
    if view.sessions_awaiting_disk > 0 {
        text.push_str(&format!(
            "waiting   {} uploads for a disk that was not there at the start\n",
            view.sessions_awaiting_disk
        ));
    }
    // Servers of before it was told say nothing of it.
    if view.connections_max > 0 {
        text.push_str(&format!(
            "at most   {} uploads open on {} connections\n",
            view.sessions_max, view.connections_max
        ));
    }
    text.push_str(&format!(
        "open      {} are here, {} are still to come\n",
        bytes(view.unfinished_bytes),
        bytes(view.promised_bytes)
    ));
    text.push_str(&format!(
        "so far    {} uploads finished, {} received, {} packets refused\n",
        view.uploads,
        bytes(view.received_bytes),
        view.refused
    ));
    text.push_str(&format!(
        "process   {} of memory, {} of {} descriptors\n",
        bytes(view.resident_bytes),
        view.descriptors,
        view.descriptors_max
    ));
    if view.log_lines_lost > 0 {
        text.push_str(&format!(
            "log       {} lines were lost\n",
            view.log_lines_lost
        ));
    }
    text.push('\n');
    text.push_str(&locations(view));
    text.push_str(&shards(view));
    text.push_str(&places(view));
    if !view.refusals.is_empty() {
        let mut columns = Columns::new(&[("REFUSED", Side::Right), ("WHY", Side::Left)]);
        for refusal in &view.refusals {
            columns.row([refusal.count.to_string(), refusal.what.clone()]);
        }
        text.push('\n');
        text.push_str(&columns.to_text());
    }
    text
}

fn locations(view: &StatusView) -> String {
    let mut columns = Columns::new(&[
        ("LOCATION", Side::Left),
        ("OPEN", Side::Right),
        ("UNFINISHED", Side::Right),
        ("RECEIVED", Side::Right),
        ("FINISHED", Side::Right),
    ]);
    for location in &view.locations {
        columns.row([
            location.location.clone(),
            location.sessions.to_string(),
            table::bytes(location.unfinished_bytes),
            table::bytes(location.received_bytes),
            location.uploads.to_string(),
        ]);
    }
    columns.to_text()
}

fn shards(view: &StatusView) -> String {
    let mut columns = Columns::new(&[
        ("SHARD", Side::Left),
        ("CONNECTIONS", Side::Right),
        ("OPEN", Side::Right),
        ("BUSY", Side::Right),
        ("STALLS", Side::Right),
    ]);
    for (number, shard) in view.shards.iter().enumerate() {
        let up = view.uptime_seconds.max(1) as f64;
        let busy = format!("{:.1} %", 100.0 * shard.busy_seconds / up);
        columns.row([
            number.to_string(),
            shard.connections.to_string(),
            shard.sessions.to_string(),
            busy,
            shard.stalls.to_string(),
        ]);
    }
    format!("\n{}", columns.to_text())
}

fn places(view: &StatusView) -> String {
    let mut columns = Columns::new(&[
        ("FREE", Side::Right),
        ("OF", Side::Right),
        ("FOLDER", Side::Left),
    ]);
    for place in &view.places {
        let (free, total) = (
            table::bytes(place.bytes_free),
            table::bytes(place.bytes_total),
        );
        columns.row([free, total, place.path.clone()]);
    }
    match columns.is_empty() {
        true => String::new(),
        false => format!("\n{}", columns.to_text()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitsd::admin::health::Reason;
    use bitsd::admin::view::{CountView, LocationView, PlaceView, ShardView};

    #[test]
    fn a_page_begins_with_whether_all_is_well_and_the_remedy() {
        let mut view = StatusView {
            version: "0.1.0 (x)".to_owned(),
            process: 7,
            uptime_seconds: 3_661,
            is_live: true,
            is_ready: true,
            reasons: Vec::new(),
            has_reload_failed: false,
            connections: 3,
            connections_max: 32_768,
            sessions: 2,
            sessions_awaiting_disk: 0,
            sessions_max: 524_288,
            received_bytes: 5 << 30,
            received_bytes_per_second: 1 << 20,
            unfinished_bytes: 1 << 30,
            promised_bytes: 2 << 30,
            uploads: 40,
            refused: 9,
            log_lines_lost: 0,
            descriptors: 30,
            descriptors_max: 1024,
            resident_bytes: 20 << 20,
            shards: vec![ShardView {
                connections: 3,
                sessions: 2,
                beat_age_ms: 1,
                busy_seconds: 36.61,
                stalls: 0,
            }],
            locations: vec![LocationView {
                location: "/in".to_owned(),
                sessions: 2,
                received_bytes: 5 << 30,
                unfinished_bytes: 1 << 30,
                uploads: 40,
            }],
            places: vec![PlaceView {
                path: "/srv/uploads".to_owned(),
                bytes_total: 100 << 30,
                bytes_free: 10 << 30,
            }],
            refusals: vec![CountView {
                what: "target_exists".to_owned(),
                count: 9,
            }],
        };
        let text = page(&view);
        assert!(text.starts_with("ready: new uploads are taken\n"), "{text}");
        for part in [
            "up 1h 1m",
            "at most   524288 uploads open on 32768 connections",
            "1.00 MiB/s",
            "1.0 %",
            "10.00 GiB",
            "target_exists",
            "2.00 GiB are still to come",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("the last reload failed"), "{text}");
        view.has_reload_failed = true;
        assert!(page(&view).contains("the last reload failed"));
        view.is_ready = false;
        view.reasons.push(Reason {
            reason: "space_low".to_owned(),
            why: "little is free".to_owned(),
            remedy: "free some space".to_owned(),
        });
        let text = page(&view);
        let begin = "NOT READY\n  little is free\n    -> free some space\n";
        assert!(text.starts_with(begin), "{text}");
    }
}
