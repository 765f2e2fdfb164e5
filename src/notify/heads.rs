//! The heads of an answer, before the HTTP client reads them: it refuses a 100 that has fields, and
//! fields that are folded, and an application may send both.

/// What bytes of an answer begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begins {
    /// With a head that is not whole yet, or with nothing.
    Part,
    /// With the whole head of an interim answer, of so many bytes: it says nothing (RFC 9110 15.2).
    Interim(usize),
    /// With the whole head of the answer, or with what is no head at all.
    Final {
        /// Bytes of it.
        bytes: usize,
        /// 0 where there is none.
        status: u16,
    },
}

/// With what these begin. A 101 is taken for an answer: nobody has asked for another protocol.
pub fn begins(input: &[u8]) -> Begins {
    let Some(bytes) = end_of_head(input) else {
        return Begins::Part;
    };
    match status(input) {
        Some(status @ (100 | 102..=199)) if is_head(&input[..bytes], status) => {
            Begins::Interim(bytes)
        }
        status => Begins::Final {
            bytes,
            status: status.unwrap_or(0),
        },
    }
}

/// Whether this is a head that can be read.
pub fn is_head(head: &[u8], status: u16) -> bool {
    let mut slots = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut answer = httparse::Response::new(&mut slots);
    let mut head = head.to_vec();
    unfold(&mut head);
    answer.parse(&head).is_ok_and(|read| read.is_complete()) && answer.code == Some(status)
}

/// Puts blanks where a field goes on in another line (RFC 9112 5.2), as far as the head is there;
/// no length changes. Whether there was one.
pub fn unfold(input: &mut [u8]) -> bool {
    let end = end_of_head(input).unwrap_or(input.len());
    let mut is_folded = false;
    let mut lines = 0;
    for at in empty_lines(input)..end {
        if input[at] != b'\n' {
            continue;
        }
        lines += 1;
        // What follows the first line is the first field, and goes on with none.
        if lines > 1 && at + 1 < end && matches!(input[at + 1], b' ' | b'\t') {
            input[at] = b' ';
            if input[at - 1] == b'\r' {
                input[at - 1] = b' ';
            }
            is_folded = true;
        }
    }
    is_folded
}

/// As many as the HTTP client takes.
const FIELDS_MAX: usize = 128;

/// Bytes of empty lines before an answer, which the HTTP client passes over.
fn empty_lines(input: &[u8]) -> usize {
    let is_end = |byte: &&u8| matches!(byte, b'\r' | b'\n');
    input.iter().take_while(is_end).count()
}

/// One past the empty line that ends the head.
fn end_of_head(input: &[u8]) -> Option<usize> {
    let begin = empty_lines(input);
    let ends = memchr::memchr_iter(b'\n', &input[begin..]).map(|at| begin + at + 1);
    ends.filter_map(|at| match &input[at..] {
        [b'\n', ..] => Some(at + 1),
        [b'\r', b'\n', ..] => Some(at + 2),
        _ => None,
    })
    .next()
}

/// The status of an answer whose first line is whole.
fn status(input: &[u8]) -> Option<u16> {
    let line = input[empty_lines(input)..].strip_prefix(b"HTTP/1.")?;
    match line {
        [b'0' | b'1', b' ', digits @ ..] => {
            let (number, rest) = digits.split_at_checked(3)?;
            let is_number = number.iter().all(u8::is_ascii_digit);
            let is_end = matches!(rest.first(), Some(b' ' | b'\r' | b'\n'));
            let number = std::str::from_utf8(number).ok()?;
            (is_number && is_end).then(|| number.parse().ok())?
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_counts_when_it_is_whole() {
        let of = |status, bytes| Begins::Final { bytes, status };
        for (input, expected) in [
            ("", Begins::Part),
            ("\r\n", Begins::Part),
            ("HTTP/1.1 403 F\r\nA: b\r\n", Begins::Part),
            ("HTTP/1.1 100 Continue\r\nA: b\r\n\r", Begins::Part),
            ("HTTP/1.1 100\r\n\r\nHTTP", Begins::Interim(16)),
            ("HTTP/1.1 100 C\r\nA: b\r\n\r\nHTTP", Begins::Interim(24)),
            ("\r\nHTTP/1.0 102 C\nA: b\n c\n\n", Begins::Interim(26)),
            ("HTTP/1.1 101 S\r\n\r\nx", of(101, 18)),
            ("HTTP/1.1 200 OK\r\nA: b\r\n\r\nx", of(200, 25)),
            ("HTTP/1.1 403\r\n\r\n", of(403, 16)),
            // What is none is for the HTTP client to refuse.
            ("HTTP/1.1 100 C\r\nno field\r\n\r\n", of(100, 28)),
            ("HTTP/1.1 1000 C\r\n\r\n", of(0, 19)),
            ("HTTP/2.0 100 C\r\n\r\n", of(0, 18)),
            ("SSH-2.0-OpenSSH_9.9\r\n\r\n", of(0, 23)),
        ] {
            assert_eq!(begins(input.as_bytes()), expected, "{input:?}");
        }
    }

    #[test]
    fn folds_become_blanks_in_the_fields_and_nowhere_else() {
        for (input, expected) in [
            (
                "HTTP/1.1 200 OK\r\nA: b\r\n c\n\td\r\nE: f\r\n\r\n\r\n g",
                "HTTP/1.1 200 OK\r\nA: b   c \td\r\nE: f\r\n\r\n\r\n g",
            ),
            // Not whole yet.
            ("HTTP/1.1 200 OK\r\nA: b\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n"),
            (
                "HTTP/1.1 200 OK\r\nA: b\r\n c",
                "HTTP/1.1 200 OK\r\nA: b   c",
            ),
            // No field goes on here.
            (
                "HTTP/1.1 200 OK\r\n A: b\r\n\r\n",
                "HTTP/1.1 200 OK\r\n A: b\r\n\r\n",
            ),
        ] {
            let mut bytes = input.as_bytes().to_vec();
            assert_eq!(unfold(&mut bytes), input != expected, "{input:?}");
            assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        }
    }
}
