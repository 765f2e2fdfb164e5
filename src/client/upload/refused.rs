//! A refusal, and how it is told.

use std::fmt;

use super::words::{hresult_in_words, status_in_words};
use super::{Reply, Stranger};

/// A final negative reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The packet it answers.
    pub packet: &'static str,
    /// Status code.
    pub status: u16,
    /// HRESULT, if given.
    pub hresult: Option<u32>,
    /// Why, as the server says it.
    pub reason: Option<Box<str>>,
    /// Who it was, where it was no BITS server.
    pub stranger: Option<Box<Stranger>>,
}

impl Refused {
    /// The refusal that a reply to `packet` is.
    pub fn of(packet: &'static str, reply: &Reply) -> Self {
        // Only bitsd says why in a field, also where it was asked for no packet.
        let is_stranger = !reply.is_bits && reply.reason.is_none();
        let text = |field: &Option<String>| field.clone().unwrap_or_default().into();
        let stranger = is_stranger.then(|| {
            Box::new(Stranger {
                name: text(&reply.server),
                location: text(&reply.location),
            })
        });
        Self {
            packet,
            status: reply.status,
            hresult: reply.hresult,
            reason: reply.reason.as_deref().map(Box::from),
            stranger,
        }
    }

    /// Whether another file has the name already, and stays. Only bitsd says that in a field; from
    /// other servers it sounds like any 403.
    pub fn is_taken(&self) -> bool {
        self.status == 403 && self.reason.as_deref() == Some(TAKEN)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            packet,
            status,
            hresult,
            stranger,
            reason,
        } = self;
        write!(f, "{packet} was answered {status}")?;
        if let Some(stranger) = stranger {
            return stranger.write(*status, f);
        }
        // A server that says why was reached, whatever a proxy would mean by the status.
        let is_of_server = matches!(status, 502 | 504) && reason.is_some();
        if let Some(words) = status_in_words(*status).filter(|_| !is_of_server) {
            // What follows the colon is a guess; who says why knows it.
            let (class, _) = words.split_once(':').unwrap_or((words, ""));
            let words = if reason.is_some() { class } else { words };
            write!(f, " ({words})")?;
        }
        if let Some(hresult) = hresult {
            write!(f, ", error 0x{hresult:08X}")?;
            hresult_in_words(*hresult).map_or(Ok(()), |words| write!(f, " ({words})"))?;
        }
        (reason.as_ref()).map_or(Ok(()), |reason| write!(f, ": {reason}"))
    }
}

/// As bitsd says it (`bits/refusal.rs`).
const TAKEN: &str = "the destination exists and may not be overwritten";
