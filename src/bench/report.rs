//! What a run came to: counts, rates and latencies, for people and as JSON.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Times of one kind, in microseconds.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// None yet.
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, MICROSECONDS_MAX, 3);
        Self(histogram.expect("these bounds are in order"))
    }

    /// Adds one; longer ones than an hour count as an hour.
    pub fn add(&mut self, time: Duration) {
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(MICROSECONDS_MAX);
        self.0.saturating_record(microseconds.max(1));
    }

    /// The figures to report.
    pub fn summary(&self) -> Summary {
        Summary {
            count: self.0.len(),
            p50_us: self.0.value_at_quantile(0.5),
            p99_us: self.0.value_at_quantile(0.99),
            p99_9_us: self.0.value_at_quantile(0.999),
            max_us: self.0.max(),
        }
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

/// Quantiles of [`Latencies`], to three digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub count: u64,
    /// Half are shorter.
    pub p50_us: u64,
    /// 99 of 100 are shorter.
    pub p99_us: u64,
    /// 999 of 1000 are shorter.
    pub p99_9_us: u64,
    pub max_us: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, p99_9, max] =
            [self.p50_us, self.p99_us, self.p99_9_us, self.max_us].map(milliseconds);
        write!(f, "p50 {p50}  p99 {p99}  p99.9 {p99_9}  max {max}")
    }
}

fn milliseconds(microseconds: u64) -> String {
    let (whole, rest) = (microseconds / 1000, microseconds % 1000);
    if whole < 100 {
        format!("{whole}.{rest:03} ms")
    } else {
        format!("{whole} ms")
    }
}

/// What stays at the server though it should not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Uploads that could not be cancelled.
    pub unfinished: u64,
    /// Files that were not found where they were to be removed.
    pub files: u64,
}

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// `bits`, `put`, `ping` or `raw`.
    pub mode: &'static str,
    /// Connections that uploaded at the same time.
    pub connections: usize,
    /// Connections that were held open beside them.
    pub idle: usize,
    /// Of these, how many the server closed during the run.
    pub idle_lost: usize,
    /// Uploads that succeeded (in mode `ping`, Pings).
    pub files: u64,
    pub failed: u64,
    /// What was wrong with the first of them.
    pub first_error: Option<String>,
    pub file_bytes: u64,
    pub fragment_bytes: u64,
    /// Bytes of the uploads that succeeded.
    pub bytes: u64,
    /// From the first connection to the last answer.
    pub seconds: f64,
    /// 10^9 bytes per second.
    pub gb_per_s: f64,
    pub files_per_s: f64,
    /// From the first byte of a request that carries bytes to its Ack.
    pub fragment: Summary,
    /// From the first byte of an upload to its last Ack.
    pub session: Summary,
    /// Bytes read back and found right; `None` if nothing was read back.
    pub verified_bytes: Option<u64>,
    /// What stays at the server.
    #[serde(skip)]
    pub left: Left,
}

impl Report {
    /// Whether every upload succeeded, and every byte is right if it was looked at.
    pub fn is_success(&self) -> bool {
        self.failed == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (one, what) = match self.mode {
            "ping" => ("Ping", "Pings"),
            _ => ("file", "files"),
        };
        writeln!(
            f,
            "{}, {} bytes in {:.3} s on {}",
            counted(self.files, one, what),
            self.bytes,
            self.seconds,
            counted(self.connections as u64, "connection", "connections")
        )?;
        if self.bytes > 0 {
            writeln!(f, "throughput  {:.3} GB/s", self.gb_per_s)?;
        }
        writeln!(f, "rate        {:.0} {what}/s", self.files_per_s)?;
        if self.fragment.count > 0 {
            writeln!(f, "fragment    {}", self.fragment)?;
        }
        if self.session.count > 0 {
            writeln!(f, "session     {}", self.session)?;
        }
        if self.idle > 0 {
            writeln!(
                f,
                "idle        {} connections held, {} lost",
                self.idle, self.idle_lost
            )?;
        }
        if let Some(bytes) = self.verified_bytes {
            writeln!(f, "verified    {bytes} bytes")?;
        }
        write!(f, "failed      {}", self.failed)?;
        self.first_error
            .as_ref()
            .map_or(Ok(()), |error| write!(f, ", first: {error}"))
    }
}

/// A number and what it counts.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    let what = if number == 1 { one } else { many };
    format!("{number} {what}")
}

/// An hour.
const MICROSECONDS_MAX: u64 = 3_600_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_added() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.summary(), Summary::default());
        for microseconds in 1..=1000 {
            latencies.add(Duration::from_micros(microseconds));
        }
        let summary = latencies.summary();
        assert_eq!((summary.count, summary.p50_us), (1000, 500));
        assert_eq!((summary.p99_us, summary.max_us), (990, 1000));
        latencies.add(Duration::ZERO);
        latencies.add(Duration::MAX);
        assert_eq!(latencies.summary().count, 1002);
    }

    #[test]
    fn times_are_told_in_milliseconds() {
        let summary = Summary {
            count: 1,
            p50_us: 7,
            p99_us: 1_250,
            p99_9_us: 99_999,
            max_us: 123_456,
        };
        assert_eq!(
            summary.to_string(),
            "p50 0.007 ms  p99 1.250 ms  p99.9 99.999 ms  max 123 ms"
        );
    }
}
