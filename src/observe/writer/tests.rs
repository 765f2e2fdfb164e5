//! A log that is slow, full or gone.

use super::*;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};

/// What a sink says to each write; when the answers are used up it takes everything.
#[derive(Default)]
struct Script {
    answers: VecDeque<Result<usize, Errno>>,
    taken: String,
}

impl Sink for Arc<Mutex<Script>> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut script = self.lock().unwrap();
        let written = script.answers.pop_front().unwrap_or(Ok(bytes.len()))?;
        let text = std::str::from_utf8(&bytes[..written]).unwrap();
        script.taken.push_str(text);
        Ok(written)
    }

    fn wait(&mut self) {}
}

fn scripted(answers: &[Result<usize, Errno>]) -> Arc<Mutex<Script>> {
    let answers = answers.iter().copied().collect();
    let taken = String::new();
    Arc::new(Mutex::new(Script { answers, taken }))
}

const NOTICES: Notices = Notices {
    lost: |lines| format!("lost {lines}\n"),
    due: |_| {},
};

#[test]
fn a_line_taken_in_part_is_finished_before_the_next_one_begins() {
    let mut sink = scripted(&[
        Ok(6),
        Err(Errno::NOSPC),
        Err(Errno::NOSPC),
        Ok(1),
        Err(Errno::NOSPC),
    ]);
    let mut batch = Batch::default();
    for line in ["one\n", "two\n", "three\n", "four\n"] {
        batch.push(line);
    }
    assert_eq!(batch.write(&mut sink), 2, "three and four are given up");
    batch.push("five\n");
    assert_eq!(batch.write(&mut sink), 1, "five, but not the rest of two");
    assert_eq!(batch.write(&mut sink), 0, "one byte more");
    batch.push("six\n");
    assert_eq!(batch.write(&mut sink), 0);
    assert_eq!(sink.lock().unwrap().taken, "one\ntwo\nsix\n");
}

#[test]
fn every_error_costs_the_lines_at_hand_and_no_more() {
    for error in [
        Errno::NOSPC,
        Errno::DQUOT,
        Errno::FBIG,
        Errno::PIPE,
        Errno::IO,
        Errno::BADF,
        Errno::ROFS,
    ] {
        let mut sink = scripted(&[Err(error)]);
        let mut batch = Batch::default();
        batch.push("one\n");
        assert_eq!(batch.write(&mut sink), 1);
        batch.push("two\n");
        assert_eq!(batch.write(&mut sink), 0);
        assert_eq!(sink.lock().unwrap().taken, "two\n");
    }
}

#[test]
fn an_interruption_and_a_non_blocking_sink_cost_nothing() {
    let mut sink = scripted(&[
        Err(Errno::INTR),
        Ok(1),
        Err(Errno::AGAIN),
        Err(Errno::AGAIN),
    ]);
    let mut batch = Batch::default();
    batch.push("one\n");
    assert_eq!(batch.write(&mut sink), 0);
    assert_eq!(sink.lock().unwrap().taken, "one\n");
}

/// Blocks every write until it is opened.
#[derive(Clone, Default)]
struct Valve(Arc<(Mutex<(bool, String)>, Condvar)>);

impl Valve {
    fn open(&self) {
        self.0.0.lock().unwrap().0 = true;
        self.0.1.notify_all();
    }

    fn taken(&self) -> String {
        self.0.0.lock().unwrap().1.clone()
    }
}

impl Sink for Valve {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.0.lock().unwrap();
        while !state.0 {
            state = self.0.1.wait(state).unwrap();
        }
        state.1.push_str(std::str::from_utf8(bytes).unwrap());
        Ok(bytes.len())
    }

    fn wait(&mut self) {}
}

/// Goal: nobody waits for a reader that does not read, what is lost is counted, and the count
/// is told.
#[test]
fn a_reader_that_does_not_read_costs_lines_and_never_time() {
    let valve = Valve::default();
    let queue = Queue::start(valve.clone(), NOTICES).unwrap();
    let lines = 3 * QUEUE_LINES_MAX as u64;
    for number in 0..lines {
        queue.push(format!("line {number}\n"));
    }
    assert!(queue.lost() >= lines / 3, "{}", queue.lost());
    let begun = Instant::now();
    assert!(!queue.flush(Duration::from_millis(50)));
    assert!(begun.elapsed() < Duration::from_secs(5));
    valve.open();
    assert!(queue.flush(Duration::from_secs(20)));
    // The count is told by the flush, or by the one before that nobody waited for.
    assert!(queue.flush(Duration::from_secs(20)));
    let taken = valve.taken();
    assert!(
        taken.contains(&format!("lost {}\n", queue.lost())),
        "lost {}",
        queue.lost()
    );
    let written = taken.matches("line ").count() as u64;
    assert_eq!(written + queue.lost(), lines, "each is written or counted");
}

#[test]
fn the_queue_bounds_bytes_and_not_only_lines() {
    let queue = Queue::start(Valve::default(), NOTICES).unwrap();
    let line = "x".repeat(QUEUE_BYTES_MAX / 8 - 1) + "\n";
    for _ in 0..40 {
        queue.push(line.clone());
    }
    // One batch of them is with the thread.
    assert!(queue.lost() >= 40 - 8 - 1, "{}", queue.lost());
}

#[test]
fn a_short_write_gives_up_where_nobody_reads() {
    let (_reader, writer) = io::pipe().unwrap();
    let begun = Instant::now();
    write_briefly(&writer, &"x".repeat(1 << 20), Duration::from_millis(20));
    assert!(begun.elapsed() < Duration::from_secs(5));
}
