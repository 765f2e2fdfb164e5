//! The time that stands in answers: "An origin server with a clock [...] MUST generate a Date
//! header field in all 2xx (Successful), 3xx (Redirection), and 4xx (Client Error) responses" (RFC
//! 9110 6.6.1). All others have it too.

use std::cell::{Cell, RefCell};

use crate::http::date;
use crate::http::response;

/// The field of one shard, written anew when a second is over.
#[derive(Debug, Default)]
pub struct Dateline {
    /// Seconds since 1970.
    second: Cell<Option<u64>>,
    text: RefCell<String>,
}

impl Dateline {
    /// Puts the field into a head that begins at `from`. `wall_ms` is the wall clock, in
    /// milliseconds since 1970.
    pub fn insert(&self, wall_ms: u64, answer: &mut Vec<u8>, from: usize) {
        let second = wall_ms / 1_000;
        if self.second.replace(Some(second)) != Some(second) {
            self.text.replace(date::format(second));
        }
        response::insert_field(answer, from, "Date", &self.text.borrow());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_has_its_second() {
        let dateline = Dateline::default();
        let date_at = |wall_ms| {
            let mut out = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
            let from = out.len();
            out.extend_from_slice(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody");
            dateline.insert(wall_ms, &mut out, from);
            let text = String::from_utf8(out.split_off(from)).unwrap();
            let rest = text.strip_prefix("HTTP/1.1 200 OK\r\nDate: ").unwrap();
            let (date, rest) = rest.split_once("\r\n").unwrap();
            assert_eq!(rest, "A: b\r\n\r\nbody");
            date.to_owned()
        };
        assert_eq!(date_at(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(date_at(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date_at(784_111_777_999), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date_at(784_111_778_000), "Sun, 06 Nov 1994 08:49:38 GMT");
        // The clock was set back.
        assert_eq!(date_at(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
