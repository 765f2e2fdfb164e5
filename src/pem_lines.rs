//! Whether a PEM file is what it seems to be (RFC 7468).
//!
//! Who reads PEM passes over each line that begins no block, and looks at no more of an END line
//! than its beginning. Where files were put together without a line break, indented or quoted, a
//! block would be missing without a word: half of a chain, or the newest list of revocations. So
//! the lines are looked at first.

use std::fmt;

/// What is wrong in a PEM file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlawedPem {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there, in words.
    pub what: &'static str,
}

impl fmt::Display for FlawedPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for FlawedPem {}

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";
/// A line of base64 outside of a block is that of one whose beginning was lost, if it is so long.
const BASE64_MIN: usize = 60;

/// Looks at the lines of a PEM file. Of what is no text (DER, UTF-16) nothing is said.
///
/// # Errors
/// [`FlawedPem`]: the first line for which something would be passed over.
pub fn look(text: &[u8]) -> Result<(), FlawedPem> {
    if let [0x30, 0x80..=0xff, ..] | [0xff, 0xfe, ..] | [0xfe, 0xff, ..] = text {
        return Ok(());
    }
    let mut begun = None;
    for (line, text) in lines(text) {
        let what = match begun {
            _ if text.contains(&0) => Some(
                "there is text in UTF-16 here, as Windows writes it: `iconv -f UTF-16 -t ASCII FILE > NEW.pem`, then put \
                 the files together",
            ),
            Some(label) if text.starts_with(END) => {
                begun = None;
                let is_end = label_of(text, END) == Some(label);
                (!is_end).then_some(
                    "this END line is not that of the block before it, or something stands behind it: begin a new line \
                     there",
                )
            }
            Some(_) => None,
            None => match label_of(text, BEGIN) {
                Some(label) => {
                    begun = Some(label);
                    misnamed(label)
                }
                None => lost(text),
            },
        };
        if let Some(what) = what {
            return Err(FlawedPem { line, what });
        }
    }
    Ok(())
}

/// Lines with their numbers from 1, without white space at their ends. They end as on Unix, on
/// Windows, or as on old Macintoshes.
pub fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut rest = Some(text);
    let lines = std::iter::from_fn(move || {
        let text = rest?;
        let Some(at) = text.iter().position(|byte| b"\r\n".contains(byte)) else {
            rest = None;
            return Some(text);
        };
        let (line, end) = text.split_at(at);
        rest = end.strip_prefix(b"\r\n").or_else(|| end.get(1..));
        Some(line)
    });
    (1..).zip(lines.map(<[u8]>::trim_ascii_end))
}

/// The label of a line that begins or ends a block.
fn label_of<'a>(line: &'a [u8], how: &[u8]) -> Option<&'a [u8]> {
    let label = line.strip_prefix(how)?.strip_suffix(DASHES)?;
    (!label.is_empty() && !label.contains(&b'-')).then_some(label)
}

/// What is wrong with a label by which nobody finds the block.
fn misnamed(label: &[u8]) -> Option<&'static str> {
    const CERTIFICATE: &str = "a certificate begins with -----BEGIN CERTIFICATE-----";
    const LIST: &str = "a list of revocations begins with -----BEGIN X509 CRL-----";
    const KNOWN: [(&[u8], &str); 5] = [
        (b"CERTIFICATE", CERTIFICATE),
        (b"X509 CERTIFICATE", CERTIFICATE),
        (b"X.509 CERTIFICATE", CERTIFICATE),
        (b"X509 CRL", LIST),
        (b"CRL", LIST),
    ];
    if label == b"CERTIFICATE" || label == b"X509 CRL" {
        return None;
    }
    if [&b"PKCS7"[..], b"PKCS #7 SIGNED DATA", b"CMS"].contains(&label) {
        return Some("this is PKCS #7 (P7B): `openssl pkcs7 -print_certs -in FILE -out NEW.pem`");
    }
    let known = (KNOWN.iter()).find(|(known, _)| label.trim_ascii().eq_ignore_ascii_case(known));
    known.map(|(_, what)| *what)
}

/// What is wrong with a line outside of all blocks that looks like one of a block.
fn lost(line: &[u8]) -> Option<&'static str> {
    if line.starts_with(b"#") {
        return None;
    }
    if line.starts_with(END) {
        return Some("the BEGIN line of this END line is missing, or is none");
    }
    let text = String::from_utf8_lossy(line).to_uppercase();
    let is_begun = text.match_indices("BEGIN").any(|(at, _)| {
        let before = text[..at].trim_end();
        let dashes = before.chars().rev().take_while(|c| is_dash(*c));
        let is_other = dashes.clone().any(|dash| dash != '-');
        is_other || dashes.count() >= DASHES.len() - 1
    });
    if is_begun {
        return Some(
            "this is no BEGIN line, though it looks like one: five `-` stand before BEGIN and nothing before them, and five \
             behind the name, which is in capitals",
        );
    }
    // As a mail quotes it.
    let quoted = line.iter().position(|byte| !b"> \t".contains(byte));
    let content = &line[quoted.unwrap_or(line.len())..];
    let is_symbol = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    let is_base64 = content.len() >= BASE64_MIN && content.iter().all(is_symbol);
    is_base64.then_some(
        "this is base64 outside of a block: the BEGIN line before it is missing, or is none",
    )
}

/// A hyphen, or what word processors make of it.
fn is_dash(c: char) -> bool {
    matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE64: &str = "MIIBszCCAVmgAwIBAgIUUjFyMgFMdrjqsLNuYmGzBKUiBUEwCgYIKoZIzj0EAwIw";

    fn block(label: &str) -> String {
        format!("-----BEGIN {label}-----\n{BASE64}\nAAAA\n-----END {label}-----\n")
    }

    fn line_of_flaw(text: &str) -> Option<usize> {
        look(text.as_bytes()).err().map(|flaw| flaw.line)
    }

    #[test]
    fn what_readers_find_is_no_flaw() {
        let (certificate, key) = (block("CERTIFICATE"), block("EC PRIVATE KEY"));
        for text in [
            String::new(),
            format!("{certificate}{key}"),
            format!("Bag Attributes\n    localKeyID: 01 02\nsubject=CN = begin\n{certificate}"),
            format!("# --- BEGIN of the chain ---\n# {BASE64}\n#-----BEGIN X-----\n{certificate}"),
            format!("-- begin --\n{}{certificate}", block("EC PARAMETERS")),
            certificate.replace('\n', "\r\n"),
            certificate.replace('\n', "\r"),
            certificate.replace('\n', " \n"),
            certificate.trim_end().to_owned(),
            certificate.replace("AAAA", "Proc-Type: 4,ENCRYPTED"),
            // Who reads it says what is missing.
            certificate[..certificate.len() - 30].to_owned(),
        ] {
            assert_eq!(line_of_flaw(&text), None, "{text}");
        }
        for other in [&b"\x30\x82\0\0"[..], b"\xff\xfe-\0", b"\xfe\xff\0-"] {
            assert_eq!(look(other), Ok(()));
        }
    }

    /// Of each the second block would be passed over.
    #[test]
    fn a_block_that_nobody_would_find_is_a_flaw_by_its_line() {
        let (first, second) = (block("CERTIFICATE"), block("X509 CRL"));
        let begin = "-----BEGIN X509 CRL-----";
        let glued = format!("{}{second}", first.trim_end());
        assert_eq!(line_of_flaw(&glued), Some(4), "{glued}");
        for changed in [
            format!(" {begin}"),
            format!("\t{begin}"),
            format!("\u{a0}{begin}"),
            format!("\u{feff}{begin}"),
            format!("\0{begin}"),
            format!("> {begin}"),
            format!("text{begin}"),
            format!("-{begin}"),
            begin[1..].to_owned(),
            begin.to_lowercase(),
            begin.replace("BEGIN ", "BEGIN"),
            begin.replace("BEGIN ", " BEGIN "),
            begin.replace("-----B", "\u{2014}\u{2014}-B"),
            begin.replace("-----B", "\u{2013}B"),
            begin.trim_end_matches('-').to_owned(),
            begin.replace("X509", "x509"),
            begin.replace("X509 ", ""),
            begin.replace("CRL", "CRL "),
            begin.replace("X509 CRL", "X509 CERTIFICATE"),
            begin.replace("X509 CRL", "PKCS7"),
        ] {
            let text = format!("{first}{}", second.replace(begin, &changed));
            assert_eq!(line_of_flaw(&text), Some(5), "{text}");
        }
        // In each of its lines, or without a trace of the first one.
        let indented = second.lines().map(|line| format!("  {line}\n"));
        let indented: String = indented.collect();
        assert_eq!(line_of_flaw(&format!("{first}{indented}")), Some(5));
        let quoted = format!("{first}> {BASE64}\n> {BASE64}\n");
        assert_eq!(line_of_flaw(&quoted), Some(5));
        let headless = second.replace(begin, "BEGIN X509 CRL");
        assert_eq!(line_of_flaw(&format!("{first}{headless}")), Some(6));
        let (_, end) = second.split_once("AAAA\n").unwrap();
        assert_eq!(line_of_flaw(&format!("{first}{end}")), Some(5));
        let ends = second.replace("END X509 CRL-----", "END CRL-----");
        assert_eq!(line_of_flaw(&format!("{first}{ends}")), Some(8));
        let utf16 = String::from_utf8(second.bytes().flat_map(|b| [b, 0]).collect()).unwrap();
        assert_eq!(line_of_flaw(&format!("{first}{utf16}")), Some(5));
    }
}
