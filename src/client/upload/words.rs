//! Statuses and errors in words.

use super::{INVALID_ARGUMENT, SESSION_NOT_FOUND, TOO_LARGE};

/// What a status means to whoever uploads.
pub fn status_in_words(status: u16) -> Option<&'static str> {
    Some(match status {
        300..=399 => "redirected, which bitsd put does not follow",
        400 => "bad request",
        401 => "it asks who sends the file (--user, --token-file), or does not believe it",
        407 => "the proxy asks for a password, which bitsd put cannot give",
        403 => "forbidden: the destination exists, or may not be written",
        404 => "not found: the folder of the destination does not exist",
        405 => "method not allowed: no BITS server answers there",
        408 => "timed out",
        411 => "length required",
        413 => "too large",
        431 => "request head too large",
        500 => "server error",
        501 => "not implemented: uploads are not enabled there",
        502 | 504 => "a proxy could not reach the server",
        503 => "service unavailable",
        505 => "HTTP version not supported",
        507 => "out of storage",
        _ => return None,
    })
}

/// What a status means that is not a BITS server's: only what a proxy before one says by itself. It
/// knows nothing of destinations.
pub fn words_before_a_server(status: u16) -> Option<&'static str> {
    match status {
        300..=399 | 401 | 407 | 408 | 413 | 431 | 502..=504 => status_in_words(status),
        _ => None,
    }
}

/// What an HRESULT means.
pub fn hresult_in_words(hresult: u32) -> Option<&'static str> {
    Some(match hresult {
        SESSION_NOT_FOUND => "session not found",
        0x8007_0005 => "access denied",
        INVALID_ARGUMENT => "invalid argument",
        0x8007_0070 | 0x8007_0112 => "disk full",
        0x8007_0013 => "the disk is write-protected",
        0x8007_045D => "the disk failed",
        TOO_LARGE => "the file is larger than the server accepts",
        0x8020_0022 => "protocol mismatch",
        0x8020_0023 => "the folder allows programs to run",
        _ => return None,
    })
}
