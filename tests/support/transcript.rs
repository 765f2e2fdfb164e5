//! Golden conversations: a text in, a conversation with a fresh server out.
//!
//! A transcript is read line by line:
//!
//! | Line | Means |
//! | --- | --- |
//! | `# ..` | Remark; the first line names the section of the specification |
//! | `> text` | Sends the text and CR LF, byte for byte; `>` alone is the empty line |
//! | `< text` | A status line and the fields under it: what the next answer must be |
//! | `{NAME}` | In an answer: any session id, remembered. Everywhere else: that id |
//! | `{name}` | In the value of a field: any text, remembered. Everywhere else: that text |
//! | `@application KIND N` | An application hears of uploads, and replies with N bytes |
//! | `@setting key = value` | A line of the settings file; only at the top |
//! | `@given file PATH N`, `@given folder PATH` | Stands in the root already; only at the top |
//! | `@connect` | Drops the connection and makes a new one |
//! | `@break` | The same in the middle of a packet, once the server has seen the end |
//! | `@beside` | Makes a new one; the other stays open |
//! | `@body A-B`, `@chunked A-B` | Sends these bytes of the file, plain or as chunks |
//! | `@reply A-B` | The answer before had these bytes of the reply as its body |
//! | `@closed` | The server ends the connection |
//! | `@file PATH N`, `@given-file PATH N` | The file holds what was sent, or what it held before |
//! | `@absent PATH`, `@no-session-files` | Nothing is there |
//!
//! Names of fields are compared in any case, values exactly, and no field but those that are listed
//! may be there but `Date`. What is remembered is what stands there for the first time. KIND is
//! `by-reference` or `by-value`; an application, too, is named at the top only.

use std::collections::BTreeMap;
use std::path::Path;

use super::backend::{Act, Backend};
use super::content::content;
use super::raw::{Raw, Response};
use super::server::{Server, Settings};

/// The seed of what is sent.
const SENT: u64 = 1;
/// The seed of what an application replies.
const REPLY: u64 = 3;
/// The seed of what was there before.
const GIVEN: u64 = 2;

/// Holds the conversation of a transcript; panics, with its line, where it goes another way.
pub fn converse(name: &str, text: &str) {
    let is_headed = text.starts_with("# ") && text.lines().next().is_some_and(names_a_section);
    assert!(
        is_headed,
        "{name}: the first line must name a section of the specification"
    );
    let (setup, talk): (Vec<_>, Vec<_>) = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .partition(|(_, line)| {
            ["@setting ", "@given ", "@application "]
                .iter()
                .any(|word| line.starts_with(word))
        });
    let mut settings = Settings::default();
    let mut applications = Vec::new();
    for (_, line) in &setup {
        if let Some(line) = line.strip_prefix("@setting ") {
            settings = settings.file(line);
        } else if let Some(line) = line.strip_prefix("@application ") {
            let (kind, bytes) = line.split_once(' ').expect("KIND N");
            let reply = content(REPLY, 0, number(line, bytes));
            let backend = Backend::always(match kind {
                "by-reference" => Act::WriteReply(reply),
                _ => Act::body(&reply),
            });
            settings = settings
                .file(&format!("notification_type = \"{kind}\""))
                .file(&format!(
                    "notification_url = \"{}\"",
                    backend.url("/test.REPLY")
                ));
            applications.push(backend);
        }
    }
    let server = Server::with(settings);
    for (_, line) in &setup {
        if let Some(line) = line.strip_prefix("@given ") {
            give(&server, line);
        }
    }
    let raw = server.connect();
    let mut conversation = Conversation {
        server,
        raw,
        open: Vec::new(),
        sessions: BTreeMap::new(),
        body: Vec::new(),
        _applications: applications,
    };
    let mut lines = talk.into_iter().peekable();
    while let Some((number, line)) = lines.next() {
        let at = format!("{name}, line {}: {line}", number + 1);
        if let Some(status_line) = line.strip_prefix("< ") {
            let mut fields = Vec::new();
            while let Some((_, field)) = lines.next_if(|(_, line)| line.starts_with("< ")) {
                let (name, value) = field[2..].split_once(": ").expect("a field is NAME: VALUE");
                fields.push((name, value));
            }
            conversation.expect(&at, status_line, &fields);
        } else if let Some(text) = line.strip_prefix('>') {
            let text = text.strip_prefix(' ').unwrap_or(text);
            let text = conversation.fill_in(text);
            assert!(
                conversation.body.is_empty(),
                "{at}: a body was not asked for"
            );
            conversation.raw.send(format!("{text}\r\n"));
        } else {
            conversation.act(&at, line);
        }
    }
}

struct Conversation {
    server: Server,
    raw: Raw,
    /// Connections left open.
    open: Vec<Raw>,
    sessions: BTreeMap<String, String>,
    /// Of the last answer, until it is looked at.
    body: Vec<u8>,
    _applications: Vec<Backend>,
}

impl Conversation {
    /// The text with remembered ids in place of their names.
    fn fill_in(&self, text: &str) -> String {
        let fill = |text: String, (name, id): (&String, &String)| text.replace(name, id);
        self.sessions.iter().fold(text.to_owned(), fill)
    }

    fn expect(&mut self, at: &str, status_line: &str, fields: &[(&str, &str)]) {
        let response = self.raw.receive();
        assert_eq!(response.status_line, status_line, "{at}\n{response:?}");
        self.body.clone_from(&response.body);
        for (name, value) in fields {
            if let Some((before, placeholder, after)) = any_text(value)
                && !self.sessions.contains_key(placeholder)
            {
                let text = response.field(name).unwrap_or_default();
                let text = text
                    .strip_prefix(before)
                    .and_then(|text| text.strip_suffix(after));
                let text =
                    text.unwrap_or_else(|| panic!("{at}: {name} is another one in {response:?}"));
                assert!(!text.is_empty(), "{at}: {name}");
                self.sessions
                    .insert(placeholder.to_owned(), text.to_owned());
            }
            if is_placeholder(value) && !self.sessions.contains_key(*value) {
                self.remember(at, value, &response, name);
            }
        }
        let mut expected: Vec<_> = fields
            .iter()
            .map(|(name, value)| (name.to_lowercase(), self.fill_in(value)))
            .collect();
        // Words for people, which no recorded server has and no client looks at (MC-BUP 2.2).
        let is_said = response.field("Bitsd-Reason").is_some();
        let is_refused = response.status >= 400 && response.field("BITS-Packet-Type").is_some();
        assert_eq!(is_said, is_refused, "{at}\n{response:?}");
        if response.status >= 400 && !is_said {
            // They are the body of what is no Ack.
            assert!(!response.reason().is_empty(), "{at}");
            self.body.clear();
        }
        // Another one each time.
        assert!(response.field("Date").is_some(), "{at}\n{response:?}");
        let mut found: Vec<_> = (response.fields.iter())
            .filter(|(name, _)| name != "Bitsd-Reason" && name != "Date")
            .map(|(name, value)| (name.to_lowercase(), value.clone()))
            .collect();
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{at}");
    }

    fn remember(&mut self, at: &str, placeholder: &str, response: &Response, name: &str) {
        let id = response
            .field(name)
            .unwrap_or_else(|| panic!("{at}: no {name} in {response:?}"));
        let is_digit = |c: char| matches!(c, '0'..='9' | 'A'..='F' | '-');
        let is_guid = id.len() == 38
            && id.starts_with('{')
            && id[1..37].chars().all(is_digit)
            && id.ends_with('}');
        assert!(is_guid, "{at}: {id} is not a braced GUID in upper case");
        let is_new = !self.sessions.values().any(|known| known == id);
        assert!(is_new, "{at}: {id} was given twice");
        self.sessions.insert(placeholder.to_owned(), id.to_owned());
    }

    fn act(&mut self, at: &str, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["@connect"] => self.raw = self.server.connect(),
            ["@break"] => {
                self.raw.finish();
                self.raw.assert_closed();
                self.raw = self.server.connect();
            }
            ["@beside"] => {
                let raw = std::mem::replace(&mut self.raw, self.server.connect());
                self.open.push(raw);
            }
            ["@body", range] => {
                self.raw.send(bytes(at, range));
            }
            ["@chunked", range] => {
                let content = bytes(at, range);
                for chunk in content.chunks(1 + content.len() / 3) {
                    self.raw.send(format!("{:x}\r\n", chunk.len()));
                    self.raw.send(chunk).send("\r\n");
                }
                self.raw.send("0\r\n\r\n");
            }
            ["@reply", range] => {
                let (first, last) = range.split_once('-').expect("a range");
                let expected = content(REPLY, number(at, first), number(at, last) + 1);
                assert!(
                    self.body == expected,
                    "{at}: {} other bytes",
                    self.body.len()
                );
                self.body.clear();
            }
            ["@closed"] => self.raw.assert_closed(),
            ["@file", .., len] => {
                let path = &line["@file ".len()..line.len() - len.len() - 1];
                self.assert_file(at, path, &content(SENT, 0, number(at, len)));
            }
            ["@given-file", path, len] => {
                self.assert_file(at, path, &content(GIVEN, 0, number(at, len)));
            }
            ["@absent", path] => assert!(!self.server.file(path).exists(), "{at}"),
            ["@no-session-files"] => assert_eq!(self.server.work_files(), [""; 0], "{at}"),
            _ => panic!("{at}: no such line"),
        }
    }

    fn assert_file(&self, at: &str, path: &str, expected: &[u8]) {
        let found = std::fs::read(self.server.file(path)).unwrap_or_else(|e| panic!("{at}: {e}"));
        assert!(
            found == expected,
            "{at}: {} bytes of another content",
            found.len()
        );
    }
}

fn give(server: &Server, line: &str) {
    let make_parents = |path: &Path| std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    match line.split(' ').collect::<Vec<_>>()[..] {
        ["folder", path] => std::fs::create_dir_all(server.file(path)).unwrap(),
        ["file", path, len] => {
            let path = server.file(path);
            make_parents(&path);
            std::fs::write(path, content(GIVEN, 0, number(line, len))).unwrap();
        }
        _ => panic!("nothing of that kind is given: {line}"),
    }
}

/// Such as `# MC-BUP 2.2.2`, `# protocol.md 4.2`, `# RFC 9112 6.3`.
fn names_a_section(line: &str) -> bool {
    ["MC-BUP ", "RFC ", "protocol.md "].iter().any(|source| {
        let rest = line.strip_prefix("# ");
        let rest = rest.and_then(|line| line.strip_prefix(source));
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    })
}

/// What stands before, in (braces included) and after a `{name}`.
fn any_text(value: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = value.split_once('{')?;
    let (name, after) = rest.split_once('}')?;
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase());
    is_name.then(|| {
        (
            before,
            &value[before.len()..value.len() - after.len()],
            after,
        )
    })
}

/// `{SESSION}`, but no GUID.
fn is_placeholder(value: &str) -> bool {
    let name = value
        .strip_prefix('{')
        .and_then(|value| value.strip_suffix('}'));
    name.is_some_and(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase()))
}

/// The bytes of an inclusive range, as it is written in a Content-Range.
fn bytes(at: &str, range: &str) -> Vec<u8> {
    let (first, last) = range
        .split_once('-')
        .unwrap_or_else(|| panic!("{at}: no range"));
    content(SENT, number(at, first), number(at, last) + 1)
}

fn number(at: &str, digits: &str) -> u64 {
    digits.parse().unwrap_or_else(|_| panic!("{at}: no number"))
}
