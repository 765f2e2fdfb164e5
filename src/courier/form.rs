//! The form of an event: CloudEvents 1.0, in the structured mode of JSON. docs/event.schema.json
//! says the same to programs.

use serde::Serialize;

use crate::config::Config;
use crate::custody::object::StoredObject;
use crate::http::digest::Hex;
use crate::server::floor::CloudEvent;
use crate::wall_clock;

/// The media type of [`body`].
pub const MEDIA_TYPE: &str = "application/cloudevents+json; charset=utf-8";

const COMPLETED: &str = "io.bitsd.upload.completed.v1";
const FAILED: &str = "io.bitsd.upload.failed.v1";

#[derive(Serialize)]
struct Envelope<'e> {
    specversion: &'static str,
    id: String,
    source: &'e str,
    #[serde(rename = "type")]
    kind: &'static str,
    subject: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    datacontenttype: &'static str,
    data: Data<'e>,
}

#[derive(Serialize)]
struct Data<'e> {
    session: String,
    ending: &'static str,
    location: String,
    path: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_path: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<&'e StoredObject>,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha1: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_byte: Option<String>,
    fragments: u32,
    resumes: u32,
}

/// An event as it is sent; `source` is what it calls this server.
pub fn body(source: &str, event: &CloudEvent) -> Vec<u8> {
    let digests = event.digests.as_ref();
    let envelope = Envelope {
        specversion: "1.0",
        id: event.id(),
        source,
        kind: match event.ending.is_good() {
            true => COMPLETED,
            false => FAILED,
        },
        subject: &event.path,
        time: time(event.at_ms),
        datacontenttype: "application/json",
        data: Data {
            session: event.session.plain().to_string(),
            ending: event.ending.word(),
            location: format!("/{}", event.location),
            path: &event.path,
            file_path: event.file_path.as_deref(),
            object: event.object.as_ref(),
            size: event.bytes,
            sha256: digests.map(|digests| Hex(&digests.sha256).to_string()),
            sha1: (digests.and_then(|digests| digests.sha1)).map(|sha1| Hex(&sha1).to_string()),
            client: (event.client).map(|client| client.to_canonical().to_string()),
            user: event.user.as_deref(),
            proof: event.proof,
            agent: event.agent.as_deref(),
            created: time(event.begun_ms),
            first_byte: time(event.first_ms),
            last_byte: time(event.last_ms),
            fragments: event.fragments,
            resumes: event.resumes,
        },
    };
    serde_json::to_vec(&envelope).expect("strings and numbers always serialize")
}

/// What events call this server: as the settings say, or its name in a farm, or that of its host.
pub fn source(config: &Config) -> String {
    if !config.events.source.is_empty() {
        return config.events.source.clone();
    }
    if let Some(host) = &config.global().host {
        return host.id.clone();
    }
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    match !name.is_empty() && name.bytes().all(is_plain) {
        true => name.into_owned(),
        false => "bitsd".to_owned(),
    }
}

fn time(ms: u64) -> Option<String> {
    let is_known = (1..=wall_clock::TIME_MS_MAX).contains(&ms);
    is_known.then(|| wall_clock::to_the_millisecond(ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::session::Ending;
    use crate::bits::session_id::SessionId;
    use crate::http::digest::Digests;
    use serde_json::{Value, json};

    fn event(ending: Ending) -> CloudEvent {
        CloudEvent {
            session: SessionId::from_u128(7),
            ending,
            at_ms: 1_700_000_000_123,
            bytes: 9,
            location: "in".to_owned(),
            path: "in/a \"b\".bin".to_owned(),
            file_path: Some("a \"b\".bin".to_owned()),
            object: None,
            digests: Some(Digests {
                sha256: [0xab; 32],
                sha1: None,
            }),
            client: Some("::ffff:192.0.2.1".parse().unwrap()),
            user: Some("anna".into()),
            proof: Some("basic"),
            agent: None,
            begun_ms: 1_699_999_999_000,
            first_ms: 0,
            last_ms: u64::MAX,
            fragments: 3,
            resumes: 1,
        }
    }

    #[test]
    fn an_event_says_what_came_from_whom_and_when() {
        let written = body("files.example", &event(Ending::Published));
        let written: Value = serde_json::from_slice(&written).unwrap();
        let expected = json!({
            "specversion": "1.0",
            "id": "00000000-0000-0000-0000-000000000007-published",
            "source": "files.example",
            "type": "io.bitsd.upload.completed.v1",
            "subject": "in/a \"b\".bin",
            "time": "2023-11-14T22:13:20.123Z",
            "datacontenttype": "application/json",
            "data": {
                "session": "00000000-0000-0000-0000-000000000007",
                "ending": "published",
                "location": "/in",
                "path": "in/a \"b\".bin",
                "file_path": "a \"b\".bin",
                "size": 9,
                "sha256": "ab".repeat(32),
                "client": "192.0.2.1",
                "user": "anna",
                "proof": "basic",
                "created": "2023-11-14T22:13:19.000Z",
                "fragments": 3,
                "resumes": 1,
            },
        });
        assert_eq!(written, expected);
    }

    #[test]
    fn what_ended_without_a_file_has_failed_and_each_ending_an_id_of_its_own() {
        let mut ids = std::collections::BTreeSet::new();
        for ending in [
            Ending::Published,
            Ending::Delivered,
            Ending::Denied,
            Ending::Incomplete,
            Ending::Cancelled,
            Ending::Expired,
            Ending::Poisoned,
        ] {
            let written: Value = serde_json::from_slice(&body("s", &event(ending))).unwrap();
            let kind = if ending.is_good() { COMPLETED } else { FAILED };
            assert_eq!(written["type"], kind);
            assert!(ids.insert(written["id"].to_string()));
        }
    }
}
