//! What a ledger says, for people and for spreadsheets.

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::Path;

use super::entry::LedgerLine;
use super::folder;
use super::verify::each_line;
use crate::unseen::is_unseen;

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// A row for each upload (RFC 4180), below a row of names.
    Csv,
    /// A paragraph for each upload.
    Text,
}

/// The columns, in the order of the lines.
const COLUMNS: [&str; 28] = [
    "time",
    "session",
    "ending",
    "location",
    "root",
    "path",
    "bytes",
    "total",
    "sha256",
    "sha1",
    "sent_sha256",
    "bucket",
    "key",
    "object_version",
    "etag",
    "client",
    "user",
    "proof",
    "certificate_subject",
    "certificate_sha256",
    "first_byte",
    "last_byte",
    "named",
    "resumes",
    "agent",
    "host",
    "version",
    "place",
];

/// What came of an export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Uploads that were written.
    pub rows: u64,
    /// Lines that nobody can read.
    pub damaged: u64,
    /// Where the first of them stands.
    pub first_damaged: Option<String>,
}

/// Writes the lines of all paths that begin so; those that nobody can read are left out, and
/// counted.
///
/// # Errors
/// Of reading the ledger, and of writing.
pub fn export(
    path: &Path,
    prefix: &str,
    format: ExportFormat,
    out: &mut impl Write,
) -> io::Result<Exported> {
    let mut exported = Exported::default();
    if format == ExportFormat::Csv {
        write!(out, "{}\r\n", COLUMNS.join(","))?;
    }
    for name in folder::days(path)? {
        each_line(path, &name, |number, line| {
            let Some(read) = LedgerLine::read(line) else {
                exported.damaged += 1;
                let place = || format!("{name}:{number}");
                exported.first_damaged.get_or_insert_with(place);
                return Ok(());
            };
            if !read.path.starts_with(prefix) {
                return Ok(());
            }
            exported.rows += 1;
            let cells = cells(&read, format!("{name}:{number}")).map(|cell| printable(&cell));
            match format {
                ExportFormat::Csv => {
                    let row: Vec<_> = cells.iter().map(|cell| for_csv(cell)).collect();
                    write!(out, "{}\r\n", row.join(","))
                }
                ExportFormat::Text => paragraph(&cells, out),
            }
        })?;
    }
    Ok(exported)
}

fn cells(line: &LedgerLine<'_>, place: String) -> [String; COLUMNS.len()] {
    let text = |text: &Option<Cow<'_, str>>| text.as_deref().unwrap_or_default().to_owned();
    let object = line.object.as_deref();
    let of_store = |text: Option<&String>| text.cloned().unwrap_or_default();
    [
        line.time.to_string(),
        line.session.to_string(),
        line.ending.to_string(),
        line.location.to_string(),
        line.root.to_string(),
        line.path.to_string(),
        line.bytes.to_string(),
        line.total.map_or(String::new(), |total| total.to_string()),
        text(&line.sha256),
        text(&line.sha1),
        text(&line.sent_sha256),
        of_store(object.map(|object| &object.bucket)),
        of_store(object.map(|object| &object.key)),
        of_store(object.and_then(|object| object.version.as_ref())),
        of_store(object.and_then(|object| object.etag.as_ref())),
        text(&line.client),
        text(&line.user),
        text(&line.proof),
        text(&line.certificate_subject),
        text(&line.certificate_sha256),
        text(&line.first_byte),
        text(&line.last_byte),
        text(&line.named),
        line.resumes.to_string(),
        text(&line.agent),
        line.host.to_string(),
        line.version.to_string(),
        place,
    ]
}

/// With what hides or turns the text around it escaped: a report is read by people, and clients
/// choose names.
fn printable(text: &str) -> String {
    let chars = text.chars();
    chars
        .flat_map(|c| match is_unseen(c) {
            true => c.escape_default().collect::<Vec<_>>(),
            false => vec![c],
        })
        .collect()
}

/// In quotes where it must be. What a spreadsheet would take for a formula begins with `'`.
fn for_csv(cell: &str) -> String {
    // Where the list separator is a semicolon, a cell begins behind each.
    let begins = |at: usize| at == 0 || cell[..at].ends_with(';');
    let mut guarded = String::with_capacity(cell.len());
    for (at, char) in cell.char_indices() {
        if matches!(char, '=' | '+' | '-' | '@') && begins(at) {
            guarded.push('\'');
        }
        guarded.push(char);
    }
    match guarded.contains(['"', ',', ';']) {
        true => format!("\"{}\"", guarded.replace('"', "\"\"")),
        false => guarded,
    }
}

/// The path first; what there is not is left out.
fn paragraph(cells: &[String; COLUMNS.len()], out: &mut impl Write) -> io::Result<()> {
    let all = COLUMNS.iter().zip(cells);
    let (path, others): (Vec<_>, Vec<_>) = all.partition(|(name, _)| **name == "path");
    for (_, path) in path {
        writeln!(out, "{path}")?;
    }
    for (name, cell) in others.into_iter().filter(|(_, cell)| !cell.is_empty()) {
        writeln!(out, "    {:<20}{cell}", name.replace('_', " "))?;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::entry::tests::{entry, scribe};
    use super::super::object::StoredObject;
    use super::*;

    fn exported(prefix: &str, format: ExportFormat) -> (u64, String) {
        let place = tempfile::tempdir().unwrap();
        let mut lines = Vec::new();
        for (number, path) in [
            (1, "a/one.7z"),
            (2, "b/=two, \"2\"\n.7z"),
            (3, "-three\u{202e}"),
        ] {
            let mut told = entry(number);
            told.path = path.to_owned();
            told.object = (number == 2).then(|| StoredObject {
                bucket: "collected".to_owned(),
                key: "k,2".to_owned(),
                version: None,
                etag: Some("e2".to_owned()),
            });
            told.append(&scribe(), &[0; 32], &mut lines);
        }
        fs::write(place.path().join("2026-11-26.jsonl"), lines).unwrap();
        let mut out = Vec::new();
        let exported = export(place.path(), prefix, format, &mut out).unwrap();
        assert_eq!((exported.damaged, exported.first_damaged), (0, None));
        (exported.rows, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_spreadsheet_gets_each_upload_in_a_row_and_no_formula() {
        let (count, text) = exported("", ExportFormat::Csv);
        assert_eq!(count, 3);
        assert!(text.starts_with("time,session,ending,"));
        assert!(text.contains(",a/one.7z,5,5,0707"), "{text}");
        assert!(text.contains(",\"b/=two, \"\"2\"\"\\n.7z\",5,"), "{text}");
        assert!(text.contains(",collected,\"k,2\",,e2,"), "{text}");
        assert!(text.contains(",'-three\\u{202e},5,"), "{text}");
        assert!(text.ends_with(",h,1.2.3,2026-11-26.jsonl:3\r\n"), "{text}");
        assert_eq!(exported("b/", ExportFormat::Csv).0, 1);
    }

    #[test]
    fn a_cell_is_no_formula_wherever_a_spreadsheet_lets_it_begin() {
        for (cell, expected) in [
            ("a/b.7z", "a/b.7z"),
            ("=1+1", "'=1+1"),
            ("a;=1+1;b", "\"a;'=1+1;b\""),
            ("a;;@x", "\"a;;'@x\""),
            ("a=b-c", "a=b-c"),
        ] {
            assert_eq!(for_csv(cell), expected);
        }
    }

    #[test]
    fn a_line_that_nobody_can_read_keeps_no_other_one_out() {
        let place = tempfile::tempdir().unwrap();
        for (day, broken) in [(24, false), (25, true), (26, false)] {
            let mut lines = Vec::new();
            if broken {
                lines.extend(b"{\xff}\n");
            }
            entry(1).append(&scribe(), &[0; 32], &mut lines);
            fs::write(place.path().join(format!("2026-11-{day}.jsonl")), lines).unwrap();
        }
        let exported = export(place.path(), "", ExportFormat::Csv, &mut Vec::new()).unwrap();
        assert_eq!((exported.rows, exported.damaged), (3, 1));
        let first = exported.first_damaged.unwrap();
        assert_eq!(first, "2026-11-25.jsonl:1");
    }

    #[test]
    fn people_get_a_paragraph_for_each() {
        let (count, text) = exported("b/", ExportFormat::Text);
        assert_eq!(count, 1);
        assert!(
            text.starts_with("b/=two, \"2\"\\n.7z\n    time                2026-"),
            "{text}"
        );
        assert!(
            text.contains("\n    first byte          2026-11-18T11:06:39.000Z\n"),
            "{text}"
        );
        assert!(!text.contains("sha1"), "{text}");
        let (_, text) = exported("-", ExportFormat::Text);
        assert!(text.starts_with("-three\\u{202e}\n"), "{text}");
    }
}
