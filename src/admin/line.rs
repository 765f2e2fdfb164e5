//! A session as a line of a list.
//!
//! There may be very many, and the server has other things to do. serde_json looks for what has to
//! be escaped in the name of every field, and in texts byte by byte, and half of the time that a
//! list took went there. What comes out is the same.

use std::io;

use super::view::SessionView;

/// `,"name":`
macro_rules! name {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}

/// Appends what serde_json would.
///
/// # Errors
/// None: memory takes all that is written.
pub fn append(session: &SessionView<&str>, line: &mut Vec<u8>) -> io::Result<()> {
    // All of them: a new one is not forgotten.
    let SessionView {
        id,
        path,
        location,
        state,
        received_bytes,
        total_bytes,
        idle_seconds,
        expires_in_seconds,
        begun_seconds,
        is_busy,
        client,
        user,
        agent,
        connections,
        interruptions,
        sha256,
        sha1,
    } = *session;
    text(line, "{\"id\":", id)?;
    text(line, name!("path"), path)?;
    text(line, name!("location"), location)?;
    text(line, name!("state"), state)?;
    number(line, name!("received_bytes"), received_bytes)?;
    let or_nothing = |line: &mut Vec<u8>, name, value: Option<u64>| {
        value.map_or(Ok(()), |value| number(line, name, value))
    };
    or_nothing(line, name!("total_bytes"), total_bytes)?;
    number(line, name!("idle_seconds"), idle_seconds)?;
    or_nothing(line, name!("expires_in_seconds"), expires_in_seconds)?;
    or_nothing(line, name!("begun_seconds"), begun_seconds)?;
    line.extend_from_slice(name!("is_busy").as_bytes());
    line.extend_from_slice(if is_busy { b"true" } else { b"false" });
    let or_nothing = |line: &mut Vec<u8>, name, value: Option<&str>| {
        value.map_or(Ok(()), |value| text(line, name, value))
    };
    or_nothing(line, name!("client"), client)?;
    or_nothing(line, name!("user"), user)?;
    or_nothing(line, name!("agent"), agent)?;
    number(line, name!("connections"), connections.into())?;
    number(line, name!("interruptions"), interruptions.into())?;
    or_nothing(line, name!("sha256"), sha256)?;
    or_nothing(line, name!("sha1"), sha1)?;
    line.push(b'}');
    Ok(())
}

#[inline]
fn text(line: &mut Vec<u8>, name: &str, value: &str) -> io::Result<()> {
    line.extend_from_slice(name.as_bytes());
    let is_special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    // To the end, so that the processor compares many at a time.
    let found = (value.bytes()).fold(false, |found, byte| found | is_special(byte));
    if found {
        return Ok(serde_json::to_writer(line, value)?);
    }
    line.push(b'"');
    line.extend_from_slice(value.as_bytes());
    line.push(b'"');
    Ok(())
}

#[inline]
fn number(line: &mut Vec<u8>, name: &str, value: u64) -> io::Result<()> {
    line.extend_from_slice(name.as_bytes());
    Ok(serde_json::to_writer(line, &value)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_line_is_what_serde_writes(
            texts: [String; 4],
            more: [Option<String>; 5],
            numbers: (u64, Option<u64>, u64, Option<u64>, Option<u64>),
            is_busy: bool,
            counts: (u32, u32),
            plain in "[ -~]{0,20}",
        ) {
            let more = more.each_ref().map(Option::as_deref);
            for path in [texts[1].as_str(), plain.as_str(), "\u{0}\u{1f}\u{7f}\"\\/\n\u{e9}"] {
                let session = SessionView {
                    id: texts[0].as_str(),
                    path,
                    location: &texts[2],
                    state: &texts[3],
                    received_bytes: numbers.0,
                    total_bytes: numbers.1,
                    idle_seconds: numbers.2,
                    expires_in_seconds: numbers.3,
                    begun_seconds: numbers.4,
                    is_busy,
                    client: more[0],
                    user: more[1],
                    agent: more[2],
                    connections: counts.0,
                    interruptions: counts.1,
                    sha256: more[3],
                    sha1: more[4],
                };
                let mut line = Vec::new();
                append(&session, &mut line).unwrap();
                prop_assert_eq!(String::from_utf8(line).unwrap(), serde_json::to_string(&session).unwrap());
            }
        }
    }
}
