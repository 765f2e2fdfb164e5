//! The head of a packet, as `put` sends it.

use std::path::Path;

use super::authorization::Authorization;
use super::upload::Packet;
use super::url::Url;

/// The head of a packet. Field names and order are those of the Windows client (MC-BUP 4.1).
pub fn packet_head(
    url: &Url,
    packet: &Packet,
    session: Option<&str>,
    name: Option<&str>,
    total: u64,
    credentials: Option<&Authorization>,
) -> String {
    let mut head = format!(
        "BITS_POST {} HTTP/1.1\r\nAccept: */*\r\nBITS-Packet-Type: {}\r\n",
        url.target(),
        packet.name()
    );
    let mut field = |name: &str, value: &str| {
        head.push_str(name);
        head.push_str(": ");
        head.push_str(value);
        head.push_str("\r\n");
    };
    let mut content_bytes = 0;
    match packet {
        Packet::CreateSession => field("BITS-Supported-Protocols", UPLOAD_PROTOCOL),
        Packet::Fragment { range } => {
            content_bytes = range.end - range.start;
            field(
                "Content-Range",
                &content_range(range.start, range.end, total),
            );
        }
        Packet::Ping | Packet::CloseSession | Packet::CancelSession => {}
    }
    if *packet != Packet::Ping {
        if let Some(session) = session {
            field("BITS-Session-Id", session);
        }
        if let Some(name) = name {
            field("Content-Name", name);
        }
    }
    field(
        "User-Agent",
        concat!("bitsd-put/", env!("CARGO_PKG_VERSION")),
    );
    field("Host", url.authority());
    // With each packet: whoever answers may have forgotten, and a body need not go twice.
    if let Some(credentials) = credentials {
        field("Authorization", credentials.expose());
    }
    field("Content-Length", &content_bytes.to_string());
    field("Connection", "Keep-Alive");
    head.push_str("\r\n");
    head
}

/// The file's name, where `Content-Name` may hold it (MC-BUP 2.2.1.1); the server does not need it.
pub fn content_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let is_plain = |b: u8| (b' '..=b'~').contains(&b) && !br#"\/:*?"<>|"#.contains(&b);
    (name.len() <= 260 && name.bytes().all(is_plain) && name.trim() == name)
        .then(|| name.to_owned())
}

/// An empty file has no first and last byte; `*` says so (protocol.md 4.7).
fn content_range(start: u64, end: u64, total: u64) -> String {
    if total == 0 {
        "bytes */0".to_owned()
    } else {
        format!("bytes {start}-{}/{total}", end - 1)
    }
}

/// BITS 1.5 Upload Protocol, the only one there is.
pub const UPLOAD_PROTOCOL: &str = "{7df0354d-249b-430f-820d-3d2a9bef4931}";

/// Whether a server names what it was offered; in any case, with or without braces (protocol.md
/// 1.6).
pub fn is_offered(protocol: &str) -> bool {
    let bare = |guid: &str| guid.trim_matches(['{', '}']).to_ascii_lowercase();
    bare(protocol) == bare(UPLOAD_PROTOCOL)
}
