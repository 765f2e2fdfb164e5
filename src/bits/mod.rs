//! BITS without I/O: the protocol on one page.
//!
//! BITS ("Background Intelligent Transfer Service") uploads one file per *session*, in order, by
//! requests with the method `BITS_POST` to the URL where the file is to go. Its specification is
//! MC-BUP; where that and Microsoft's other documents disagree, docs/protocol.md says what we do
//! and why.
//!
//! # Packets: what the client sends
//!
//! | `BITS-Packet-Type` | Other fields | Means | MC-BUP |
//! | --- | --- | --- | --- |
//! | `Ping` | | Opens the connection | 2.2.4 |
//! | `Create-Session` | `BITS-Supported-Protocols` | Asks for a session for this URL | 2.2.2 |
//! | `Fragment` | `BITS-Session-Id`, `Content-Range` | The next bytes of the file | 2.2.6 |
//! | `Close-Session` | `BITS-Session-Id` | All is sent: publish the file | 2.2.8 |
//! | `Cancel-Session` | `BITS-Session-Id` | The user gave up: forget it | 2.2.10 |
//!
//! Only a *Fragment* has a body: these bytes. A *Ping* comes after a break, and to authenticate
//! before megabytes are sent.
//!
//! The client promises to have one request outstanding at a time. A new connection in the middle of
//! a session is normal. [`packet`] reads the packets.
//!
//! # Answers
//!
//! Every packet is answered by one `Ack`, positive or negative, never with a body:
//!
//! * to *Create-Session*: `BITS-Protocol` and the new `BITS-Session-Id` (2.2.3);
//! * to a *Fragment*: `BITS-Received-Content-Range`, **the next offset we expect**, which is the
//!   number of bytes stored. The client goes on from there, whatever it sent (2.2.7);
//! * to a fragment that leaves a gap: status 416 and the same field. The client goes back without
//!   complaint (3.1.5.2.4);
//! * otherwise an HTTP status, and where the cause has one an HRESULT. What the client does about
//!   it follows from these:
//!
//! | Answer | The client |
//! | --- | --- |
//! | 413 | sends smaller fragments; so never "the file is too large" |
//! | 500 and `0x8020001F` | forgets the session and starts again |
//! | 503, other 5xx | waits (ten minutes by default), pings, goes on |
//! | 403, 501, `0x80070057`, `0x80200020` | gives up and tells its user |
//!
//! To let it start again is our way out whenever bytes are in doubt.
//!
//! [`refusal`] holds the whole table, one cause per variant.
//!
//! # Progress
//!
//! A session's progress is one number, `received`; holes are never recorded. A fragment of
//! `start..end` is placed by it alone ([`range`]):
//!
//! ```text
//!          0        received            total
//!          |===========|------------------|
//!  Known     [....)                          nothing new: answer `received`
//!  Overlap       [........)                  skip what is stored, keep the rest
//!  Fresh              [......)               keep all
//!  Gap                     [......)          416: answer `received`
//! ```
//!
//! Overlaps are normal: a fragment that broke off leaves its beginning with us, and the client,
//! which never heard of it, repeats the whole (protocol.md 4.3).
//!
//! # Sessions
//!
//! A session is named by an id that nobody can guess and that tells which shard owns it
//! ([`session_id`]). It lives through the states of MC-BUP 3.2.1.4, in [`session`]: receiving,
//! complete, and at its end closed, cancelled or expired. Then it is remembered for a while, so
//! that a repeated Close is answered as the first was.
//!
//! # Spelling
//!
//! Names of fields, packet types and GUIDs are read in any case, GUIDs with or without braces. We
//! write `Ack`, ids in upper case and the protocol in lower case, as IIS does; and errors twice, as
//! `BITS-Error` (MC-BUP, Windows Server 2003) and `BITS-Error-Code` (all else).

#![forbid(unsafe_code)]

pub mod challenges;
pub mod notification;
pub mod packet;
pub mod protocol;
pub mod range;
pub mod refusal;
pub mod reply;
pub mod session;
pub mod session_id;
