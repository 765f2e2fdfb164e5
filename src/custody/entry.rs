//! A line of the ledger: what is told of an upload that ended, and how it is written and read.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::object::StoredObject;
use crate::bits::session::Ending;
use crate::bits::session_id::SessionId;
use crate::http::authorization::Scheme;
use crate::http::date;
use crate::http::digest::{Digests, Hex, parse_hex};

/// The form of the lines; another number when a field changes its meaning.
const FORM: u32 = 1;

/// What is told of an upload that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    pub session: SessionId,
    pub ending: Ending,
    /// The prefix of its location.
    pub location: String,
    /// The folder of the server that the path is beneath; empty where files go into a store.
    pub root: String,
    pub path: String,
    /// The object that the file has become, if it has.
    pub object: Option<StoredObject>,
    /// Bytes that came.
    pub bytes: u64,
    /// Size of the file, if its client has said it.
    pub total: Option<u64>,
    /// Of the whole file, where they were computed.
    pub digests: Option<Digests>,
    /// The SHA-256 of what came, where an application has changed the file since.
    pub sent: Option<[u8; 32]>,
    /// The client's address.
    pub client: Option<IpAddr>,
    pub user: Option<Arc<str>>,
    /// How the user was shown.
    pub proof: Option<Scheme>,
    /// The certificate that the client has shown.
    pub certificate: Option<Arc<ShownCertificate>>,
    /// When the first bytes were offered, in milliseconds since 1970; 0 if none were, or if that is
    /// not known.
    pub first_ms: u64,
    /// When the last byte was stored; 0 likewise.
    pub last_ms: u64,
    /// When its file was about to get its name; 0 likewise.
    pub named_ms: u64,
    /// How often it had to begin again where it had been before.
    pub resumes: u32,
    /// What its client calls itself.
    pub agent: Option<Arc<str>>,
}

/// The certificate of a client, as far as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownCertificate {
    /// Its subject, in the words of RFC 4514.
    pub subject: String,
    /// SHA-256 of all of it (DER).
    pub sha256: [u8; 32],
}

impl ShownCertificate {
    /// As it stands in a record.
    pub fn to_text(&self) -> String {
        format!("{} {}", Hex(&self.sha256), self.subject)
    }

    /// What a record says; `None` if it makes no sense.
    pub fn from_text(text: &str) -> Option<Self> {
        let (sha256, subject) = text.split_once(' ')?;
        Some(Self {
            subject: subject.to_owned(),
            sha256: parse_hex(sha256)?,
        })
    }
}

/// Who writes: the same for all lines of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scribe {
    /// The name of the host.
    pub host: String,
    /// Of this program.
    pub version: String,
}

/// A line as it is written, and as it is read. Fields may be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerLine<'a> {
    pub v: u32,
    pub time: Cow<'a, str>,
    pub session: Cow<'a, str>,
    pub ending: Cow<'a, str>,
    pub location: Cow<'a, str>,
    pub root: Cow<'a, str>,
    pub path: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<Cow<'a, StoredObject>>,
    pub bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha1: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_sha256: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_subject: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_sha256: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_byte: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named: Option<Cow<'a, str>>,
    pub resumes: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Cow<'a, str>>,
    pub host: Cow<'a, str>,
    pub version: Cow<'a, str>,
    pub prev: Cow<'a, str>,
}

/// Longer lines are none of ours: a path has 2,200 bytes, of which each may take six in JSON.
pub const LINE_BYTES_MAX: usize = 64 << 10;

impl LedgerEntry {
    /// Appends its line, with the newline.
    pub fn append(&self, scribe: &Scribe, prev: &[u8; 32], out: &mut Vec<u8>) {
        let digests = self.digests.as_ref();
        let certificate = self.certificate.as_deref();
        let line = LedgerLine {
            v: FORM,
            time: rfc3339(self.time_ms).into(),
            session: self.session.plain().to_string().into(),
            ending: self.ending.word().into(),
            location: Cow::Borrowed(&self.location),
            root: Cow::Borrowed(&self.root),
            path: Cow::Borrowed(&self.path),
            object: self.object.as_ref().map(Cow::Borrowed),
            bytes: self.bytes,
            total: self.total,
            sha256: digests.map(|digests| hex(&digests.sha256)),
            sha1: digests.and_then(|digests| digests.sha1.as_ref().map(|sha1| hex(sha1))),
            sent_sha256: self.sent.as_ref().map(|sent| hex(sent)),
            client: self.client.map(|client| client.to_string().into()),
            user: self.user.as_deref().map(Cow::Borrowed),
            proof: self.proof.map(|proof| proof.word().into()),
            certificate_subject: certificate.map(|shown| Cow::Borrowed(&*shown.subject)),
            certificate_sha256: certificate.map(|shown| hex(&shown.sha256)),
            first_byte: (self.first_ms > 0).then(|| rfc3339(self.first_ms).into()),
            last_byte: (self.last_ms > 0).then(|| rfc3339(self.last_ms).into()),
            named: (self.named_ms > 0).then(|| rfc3339(self.named_ms).into()),
            resumes: self.resumes,
            agent: self.agent.as_deref().map(Cow::Borrowed),
            host: Cow::Borrowed(&scribe.host),
            version: Cow::Borrowed(&scribe.version),
            prev: hex(prev),
        };
        serde_json::to_writer(&mut *out, &line).expect("strings and numbers always serialize");
        out.push(b'\n');
    }
}

impl<'a> LedgerLine<'a> {
    /// What a line says; `None` if it is none, or longer than any.
    pub fn read(line: &'a [u8]) -> Option<Self> {
        let is_one = line.len() <= LINE_BYTES_MAX;
        is_one.then(|| serde_json::from_slice(line).ok()).flatten()
    }

    /// The session that it is of.
    pub fn session_id(&self) -> Option<SessionId> {
        SessionId::parse(self.session.as_bytes())
    }

    /// Whether somebody has the file.
    pub fn is_good(&self) -> bool {
        [Ending::Published, Ending::Delivered]
            .iter()
            .any(|ending| self.ending == ending.word())
    }

    /// Whether the file was given its name.
    pub fn is_published(&self) -> bool {
        self.ending == Ending::Published.word()
    }
}

fn hex(bytes: &[u8]) -> Cow<'static, str> {
    Hex(bytes).to_string().into()
}

/// Milliseconds since 1970 as RFC 3339 has them.
fn rfc3339(ms: u64) -> String {
    let second = date::format_plainly(ms / 1_000);
    format!("{second}.{:03}Z", ms % 1_000)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn entry(number: u128) -> LedgerEntry {
        LedgerEntry {
            time_ms: 1_795_000_000_123,
            session: SessionId::from_u128(number),
            ending: Ending::Published,
            location: "evidence".to_owned(),
            root: "/srv/uploads".to_owned(),
            path: format!("evidence/host-{number}.7z"),
            object: None,
            bytes: 5,
            total: Some(5),
            digests: Some(Digests {
                sha256: [7; 32],
                sha1: None,
            }),
            sent: None,
            client: Some("192.0.2.7".parse().unwrap()),
            user: Some("anna".into()),
            proof: Some(Scheme::Basic),
            certificate: None,
            first_ms: 1_794_999_999_000,
            last_ms: 1_795_000_000_000,
            named_ms: 1_795_000_000_100,
            resumes: 2,
            agent: None,
        }
    }

    pub fn scribe() -> Scribe {
        Scribe {
            host: "h".to_owned(),
            version: "1.2.3".to_owned(),
        }
    }

    #[test]
    fn a_line_is_an_object_that_reads_back_whatever_the_names_are() {
        let mut odd = entry(9);
        odd.path = "a\"b\\c\n\u{7f}\u{2028}é.bin".to_owned();
        odd.object = Some(StoredObject {
            bucket: "collected".to_owned(),
            key: "hosts/a\"b\\c\n.bin".to_owned(),
            version: Some("v/1".to_owned()),
            etag: None,
        });
        odd.certificate = Some(Arc::new(ShownCertificate {
            subject: "CN=host-9,O=\"x\"".to_owned(),
            sha256: [0xab; 32],
        }));
        let mut out = Vec::new();
        odd.append(&scribe(), &[0x11; 32], &mut out);
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        let line = LedgerLine::read(&out).unwrap();
        assert_eq!(line.path, odd.path);
        assert_eq!(line.object.as_deref(), odd.object.as_ref());
        assert_eq!(line.session_id(), Some(odd.session));
        assert_eq!(line.time, "2026-11-18T11:06:40.123Z");
        assert_eq!(line.prev, "11".repeat(32));
        assert_eq!(line.sha256.as_deref(), Some(&*"07".repeat(32)));
        assert_eq!(line.certificate_sha256.as_deref(), Some(&*"ab".repeat(32)));
        assert!(line.is_published() && line.user.as_deref() == Some("anna"));
        assert!(LedgerLine::read(b"{}").is_none());
        out.resize(LINE_BYTES_MAX, b' ');
        assert!(LedgerLine::read(&out).is_some());
        out.push(b'\n');
        assert!(
            LedgerLine::read(&out).is_none(),
            "one whose rest was not read"
        );
        out.truncate(LINE_BYTES_MAX / 2);
        out.truncate(out.trim_ascii_end().len());
        assert!(LedgerLine::read(&out[..out.len() - 2]).is_none());
    }
}
