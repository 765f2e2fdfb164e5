//! The page for a browser: one file that shows and does not act. The server writes into it how
//! things are when it is asked for, so that it is of use without JavaScript as well.

use std::fmt::Write as _;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::accept;
use super::answer::{AdminAnswer, HTML};
use super::attention;
use super::overview::Overview;
use super::page_view::{AttentionView, FolderView, HappenedView, NeedView, VerdictView};
use super::survey::Survey;
use super::view::StatusView;
use crate::unseen::is_unseen;
use crate::wall_clock;

/// With its style and its script; the places of the snapshot are in double braces.
const PAGE: &str = include_str!("page.html");
/// Rows of a table of the snapshot.
const ROWS_SHOWN: usize = 50;

/// Whether a browser asks: it names the type of a page.
pub fn is_wanted(accept: Option<&[u8]>) -> bool {
    accept::prefers(accept, "text/html", "text/plain")
}

/// The page, as things are now.
pub fn answer(overview: &Overview) -> AdminAnswer {
    let survey = Survey::of(&*overview.house);
    let lately = survey.lately(&mut Vec::new());
    let attention = attention::gather(&survey, lately.iter());
    let lately: Vec<_> = lately
        .into_iter()
        .rev()
        .take(ROWS_SHOWN)
        .map(|known| known.view)
        .collect();
    let mut folders = survey.folders();
    folders.truncate(ROWS_SHOWN);
    let now_ms = survey.wall_ms(survey.now_ms());
    let body = filled(now_ms, &overview.status(), &attention, &lately, &folders);
    AdminAnswer {
        media_type: HTML,
        policy: Some(policy()),
        ..AdminAnswer::text(200, body)
    }
}

/// What is stuck, and why.
pub fn attention(overview: &Overview) -> AttentionView {
    let survey = Survey::of(&*overview.house);
    let lately = survey.lately(&mut Vec::new());
    attention::gather(&survey, lately.iter())
}

/// Nothing but this style and this script, known by their hashes, and questions to this server.
fn policy() -> &'static str {
    static POLICY: OnceLock<String> = OnceLock::new();
    POLICY.get_or_init(|| {
        let (script, style) = (
            hash(part("<script>", "</script>")),
            hash(part("<style>", "</style>")),
        );
        format!(
            "default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; \
             img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
    })
}

fn part(begin: &str, end: &str) -> &'static str {
    let rest = PAGE.split_once(begin).map_or("", |(_, rest)| rest);
    rest.split_once(end).map_or("", |(part, _)| part)
}

fn hash(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)))
}

fn filled(
    now_ms: u64,
    status: &StatusView,
    attention: &AttentionView,
    lately: &[HappenedView],
    folders: &[FolderView],
) -> String {
    let verdict = VerdictView::of(status, attention);
    let remedy = verdict.remedy.map(|remedy| format!("What helps: {remedy}"));
    let rows = |rows: Vec<String>, columns: usize, none: &str| match rows.is_empty() {
        true => format!("<tr class=\"none\"><td colspan=\"{columns}\">{none}</td></tr>"),
        false => rows.concat(),
    };
    let needs = attention.needs.iter().take(ROWS_SHOWN).map(need);
    let places = [
        ("state", verdict.state),
        ("sentence", text(&verdict.sentence)),
        ("remedy", text(&remedy.unwrap_or_default())),
        ("when", text(&moment(now_ms))),
        ("version", text(&status.version)),
        (
            "rate",
            format!("{}/s", bytes(status.received_bytes_per_second)),
        ),
        ("open", status.sessions.to_string()),
        ("connections", status.connections.to_string()),
        ("promised", bytes(status.promised_bytes)),
        ("uploads", status.uploads.to_string()),
        ("received", bytes(status.received_bytes)),
        ("refused", status.refused.to_string()),
        ("needs", rows(needs.collect(), 5, "Nothing is stuck.")),
        (
            "lately",
            rows(
                lately.iter().map(happened).collect(),
                5,
                "Nothing has happened yet.",
            ),
        ),
        (
            "folders",
            rows(
                folders.iter().map(folder).collect(),
                5,
                "No upload has come yet.",
            ),
        ),
    ];
    let mut pieces = PAGE.split("{{");
    let mut page = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (name, rest) = piece.split_once("}}").unwrap_or(("", piece));
        let place = places.iter().find(|(known, _)| *known == name);
        page.push_str(place.map_or("", |(_, value)| value));
        page.push_str(rest);
    }
    page
}

fn need(need: &NeedView) -> String {
    let done = need
        .session
        .as_ref()
        .map(|session| match session.total_bytes {
            Some(total) => format!("{} of {}", bytes(session.received_bytes), bytes(total)),
            None => bytes(session.received_bytes),
        });
    let idle = need
        .session
        .as_ref()
        .map(|session| time(session.idle_seconds));
    let remedy = need
        .remedy
        .as_ref()
        .map(|remedy| format!(" What helps: {remedy}"));
    row(&[
        ("", &need.need),
        ("path", &need.path),
        ("", need.client.as_deref().unwrap_or("")),
        ("", &format!("{}.{}", need.why, remedy.unwrap_or_default())),
        (
            "number",
            &[done, idle]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(", quiet for "),
        ),
    ])
}

fn happened(view: &HappenedView) -> String {
    let remedy = view
        .remedy
        .as_ref()
        .map(|remedy| format!(". What helps: {remedy}"));
    let why = view.why.clone().unwrap_or_default() + &remedy.unwrap_or_default();
    row(&[
        ("", &moment(view.at_ms)),
        ("", &view.what.replace('_', " ")),
        ("path", &view.path),
        ("", view.client.as_deref().unwrap_or("")),
        ("", &why),
    ])
}

fn folder(view: &FolderView) -> String {
    let delivered = view
        .delivered_at_ms
        .map_or_else(|| "not since the start".to_owned(), moment);
    row(&[
        (
            "path",
            if view.folder.is_empty() {
                "all others"
            } else {
                &view.folder
            },
        ),
        ("number", &delivered),
        ("number", &view.files.to_string()),
        ("number", &bytes(view.bytes)),
        ("number", &view.open.to_string()),
    ])
}

/// One of a table; each cell with its class.
fn row(cells: &[(&str, &str)]) -> String {
    let mut row = "<tr>".to_owned();
    for (class, value) in cells {
        let class = if class.is_empty() { "text" } else { class };
        // Writing to a text does not fail.
        let _ = write!(row, "<td class=\"{class}\">{}</td>", text(value));
    }
    row + "</tr>"
}

/// What comes from outside is text: it begins no tag, ends no attribute, and turns and hides
/// nothing around it.
fn text(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for char in value.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            char if is_unseen(char) => out.push('\u{fffd}'),
            char => out.push(char),
        }
    }
    out
}

fn bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1_000.0 && unit < units.len() - 1 {
        value /= 1_024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ if value < 10.0 => format!("{value:.2} {}", units[unit]),
        _ if value < 100.0 => format!("{value:.1} {}", units[unit]),
        _ => format!("{value:.0} {}", units[unit]),
    }
}

fn time(seconds: u64) -> String {
    let whole = std::time::Duration::from_secs(match seconds {
        0..3_600 => seconds,
        3_600..86_400 => seconds / 60 * 60,
        _ => seconds / 3_600 * 3_600,
    });
    humantime::format_duration(whole).to_string()
}

fn moment(at_ms: u64) -> String {
    wall_clock::to_the_second(at_ms / 1_000)
        .replace('T', " ")
        .replace('Z', " UTC")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unseen::UNSEEN;

    /// What a browser loads with the page.
    const PAGE_BYTES_MAX: usize = 40 << 10;

    #[test]
    fn the_page_is_one_small_file_whose_places_are_all_filled() {
        assert!(PAGE.len() <= PAGE_BYTES_MAX, "{} bytes", PAGE.len());
        let script = part("<script>", "</script>");
        assert!(
            script.len() > 1_000 && !script.contains("{{"),
            "{}",
            script.len()
        );
        assert!(!part("<style>", "</style>").contains("{{"));
        // Nothing is loaded, and no text becomes HTML.
        for word in [
            "http:",
            "https:",
            "src=",
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "style=\"",
        ] {
            let here = PAGE.replace("http://www.w3.org/2000/svg", "");
            assert!(!here.contains(word), "{word}");
        }
        assert!(!PAGE.contains(" onclick"));
    }

    #[test]
    fn what_comes_from_outside_is_text() {
        let view = HappenedView {
            path: "/<script>alert(1)</script>\"'&\u{202e}gpj.exe\n".to_owned(),
            ..HappenedView::default()
        };
        let row = happened(&view);
        let cell = "<td class=\"path\">/&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;\u{fffd}gpj.exe\u{fffd}</td>";
        assert!(row.contains(cell), "{row}");
    }

    /// The script knows the same characters as everything else that shows names.
    #[test]
    fn the_script_of_the_page_hides_what_is_unseen() {
        let mut class = String::new();
        for (first, last) in UNSEEN.map(|(first, last)| (u32::from(first), u32::from(last))) {
            let _ = match first == last {
                true => write!(class, "\\u{{{first:x}}}"),
                false => write!(class, "\\u{{{first:x}}}-\\u{{{last:x}}}"),
            };
        }
        assert!(
            PAGE.contains(&format!("HIDDEN = /[{class}]/gu;")),
            "{class}"
        );
    }

    #[test]
    fn only_a_browser_gets_it() {
        assert!(is_wanted(Some(
            b"text/html,application/xhtml+xml,*/*;q=0.8"
        )));
        assert!(!is_wanted(Some(b"*/*")) && !is_wanted(None));
    }

    #[test]
    fn quantities_have_units() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_000), "0.98 KiB");
        assert_eq!(bytes(300 << 20), "300 MiB");
        assert_eq!(time(3_725), "1h 2m");
        assert_eq!(moment(0), "1970-01-01 00:00:00 UTC");
    }
}
