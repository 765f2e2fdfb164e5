//! A client that remembers what was acked to it and holds the server to it.

use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use super::battle::{Ground, POOL_BYTES, Promise, Whole, add, folder};
use super::support::client::{DISK_FULL, PROTOCOL, SESSION_NOT_FOUND};
use super::support::random::Rng;
use super::support::raw::{Raw, Response};

/// One client: one upload after the other, each on as many connections as it takes.
pub struct Uploader<'a> {
    ground: &'a Ground,
    client: usize,
    rng: Rng,
    raw: Option<Raw>,
    /// A connection that was left open when a newer one was made.
    left_behind: Option<Raw>,
    kept_bytes: u64,
}

/// One file on its way.
struct Upload {
    whole: Whole,
    session: String,
    /// As the last answer said.
    acked: u64,
    /// The offset below which the server may never fall again.
    promised: u64,
    /// The most the server may have: everything that was ever sent.
    sent: u64,
    /// The connection is new since the last answer.
    is_resuming: bool,
}

/// What came of a request.
enum Heard {
    Answer(Response),
    /// The connection broke, or the server asked to come back later; a new connection is needed.
    Nothing,
}

impl<'a> Uploader<'a> {
    pub fn new(ground: &'a Ground, client: usize, seed: u64) -> Self {
        Self {
            ground,
            client,
            rng: Rng(seed
                .wrapping_add(client as u64 + 1)
                .wrapping_mul(0x2545_f491_4f6c_dd1d)),
            raw: None,
            left_behind: None,
            kept_bytes: 0,
        }
    }

    /// Uploads until the time is over.
    pub fn run(mut self) {
        let mut number = 0;
        while !self.ground.is_over() {
            number += 1;
            let whole = Whole {
                path: format!("{}/{number:06}.bin", folder(self.client)),
                start: usize::try_from(self.rng.below(POOL_BYTES as u64)).unwrap(),
                total: usize::try_from(self.rng.log_uniform(self.ground.terms.file_bytes_max))
                    .unwrap(),
            };
            self.upload(whole);
            if self.rng.one_in(4) {
                self.raw = None;
            }
        }
    }

    /// Uploads one file, whatever happens to the server.
    fn upload(&mut self, whole: Whole) {
        let gives_up = self.ground.terms.cancels && self.rng.one_in(40);
        loop {
            let Some(mut upload) = self.create(&whole) else {
                return;
            };
            match self.send_all(&mut upload, gives_up) {
                End::Closed => {
                    add(&self.ground.tally.closed, 1);
                    compare(self.ground, &whole);
                    self.ground.closed.lock().unwrap().push(whole.clone());
                    return self.keep(whole);
                }
                End::Cancelled => {
                    add(&self.ground.tally.cancelled, 1);
                    return;
                }
                End::Forgotten => add(&self.ground.tally.forgotten, 1),
                End::Lost => return,
            }
        }
    }

    fn create(&mut self, whole: &Whole) -> Option<Upload> {
        while !self.is_hopeless() {
            let fields = format!("BITS-Supported-Protocols: {PROTOCOL}\r\n");
            let Heard::Answer(answer) = self.ask(whole, "Create-Session", &fields, 0..0) else {
                continue;
            };
            if answer.field("BITS-Error-Code") == Some(DISK_FULL) {
                add(&self.ground.tally.disk_full, 1);
                self.rest();
                continue;
            }
            assert_eq!(answer.status, 200, "{}: Create: {answer:?}", whole.path);
            add(&self.ground.tally.sessions, 1);
            return Some(Upload {
                whole: whole.clone(),
                session: answer.field("BITS-Session-Id").unwrap().to_owned(),
                acked: 0,
                promised: 0,
                sent: 0,
                is_resuming: false,
            });
        }
        None
    }

    fn send_all(&mut self, upload: &mut Upload, gives_up: bool) -> End {
        let total = upload.whole.total as u64;
        while upload.acked < total {
            if self.is_hopeless() {
                return End::Lost;
            }
            if gives_up && upload.acked > total / 2 {
                return self.finish(upload, "Cancel-Session", End::Cancelled);
            }
            if self.raw.is_none() && !upload.is_resuming {
                upload.is_resuming = true;
                add(&self.ground.tally.resumes, 1);
            }
            let step = if upload.is_resuming && upload.acked > 0 && self.rng.one_in(2) {
                self.probe(upload)
            } else if self.rng.one_in(50) {
                self.break_off(upload)
            } else {
                let bytes = self.rng.log_uniform((total - upload.acked).min(1 << 20));
                self.send(upload, upload.acked, bytes)
            };
            if let Err(end) = step {
                return end;
            }
        }
        self.finish(upload, "Close-Session", End::Closed)
    }

    /// Sends a fragment from `first` and takes the answer in.
    fn send(&mut self, upload: &mut Upload, first: u64, bytes: u64) -> Result<(), End> {
        let end = (first + bytes).min(upload.whole.total as u64);
        let fields = fields(upload, first, end);
        // A part of it may arrive even if no answer does.
        if first <= upload.sent {
            upload.sent = upload.sent.max(end);
        }
        let whole = upload.whole.clone();
        let heard = self.ask(&whole, "Fragment", &fields, first..end);
        let Heard::Answer(answer) = heard else {
            return Ok(());
        };
        upload.is_resuming = false;
        let path = &upload.whole.path;
        let before = upload.acked;
        match (answer.status, answer.field("BITS-Error-Code")) {
            (200, None) => {
                let received = answer.received();
                let least = end.max(upload.promised);
                assert!(
                    received >= least && received <= upload.sent,
                    "{path}: sent {first}..{end}, {before} were acked, {} sent before: {answer:?}",
                    upload.sent
                );
                add(&self.ground.tally.bytes, received.saturating_sub(before));
                if received < before {
                    add(&self.ground.tally.taken_back, 1);
                }
                upload.acked = received;
                if self.ground.terms.promise == Promise::EveryAck
                    || received == upload.whole.total as u64
                {
                    upload.promised = received;
                }
                Ok(())
            }
            (416, None) => {
                let received = answer.received();
                assert!(
                    received >= upload.promised,
                    "{path}: {before} bytes were acked, and now the server wants them again: {answer:?}"
                );
                assert!(
                    received < first && received <= upload.sent,
                    "{path}: sent {first}..{end} and heard of a gap: {answer:?}"
                );
                if received < before {
                    add(&self.ground.tally.taken_back, 1);
                }
                upload.acked = received;
                if !self.ground.terms.has_power_cuts {
                    // It is no Ack, but only a power cut makes a difference between the two.
                    upload.promised = received;
                }
                Ok(())
            }
            (500, Some(DISK_FULL)) => {
                add(&self.ground.tally.disk_full, 1);
                self.rest();
                Ok(())
            }
            (500, Some(SESSION_NOT_FOUND)) => {
                assert!(
                    self.ground.terms.has_power_cuts && upload.promised == 0,
                    "{path}: a session with {before} acked bytes is not known any more"
                );
                Err(End::Forgotten)
            }
            _ => panic!("{path}: sent {first}..{end}, {before} were acked: {answer:?}"),
        }
    }

    /// Asks the server how far it is: by bytes that it has, or by bytes that are too far ahead.
    fn probe(&mut self, upload: &mut Upload) -> Result<(), End> {
        add(&self.ground.tally.probes, 1);
        let total = upload.whole.total as u64;
        let ahead = upload.sent + 1;
        if self.rng.one_in(2) && ahead < total {
            let bytes = 1 + self.rng.below((total - ahead).min(1000));
            self.send(upload, ahead, bytes)
        } else {
            let first = self.rng.below(upload.acked);
            let bytes = 1 + self.rng.below((total - first).min(100_000));
            self.send(upload, first, bytes)
        }
    }

    /// Sends a part of a fragment and goes away, or leaves the connection standing.
    fn break_off(&mut self, upload: &mut Upload) -> Result<(), End> {
        let first = upload.acked;
        let total = upload.whole.total as u64;
        let end = first + self.rng.log_uniform((total - first).min(1 << 20));
        let cut = first + self.rng.below(end - first);
        let head = head(
            &upload.whole,
            "Fragment",
            &fields(upload, first, end),
            end - first,
        );
        let bytes = bytes(self.ground, &upload.whole, first..cut);
        if let Some(mut raw) = self.raw.take() {
            upload.sent = upload.sent.max(cut);
            let _may_be_gone = raw.try_send(head).and_then(|()| raw.try_send(bytes));
            self.left_behind = self.rng.one_in(2).then_some(raw);
        }
        Ok(())
    }

    /// Closes or cancels.
    fn finish(&mut self, upload: &mut Upload, kind: &str, end: End) -> End {
        let fields = format!("BITS-Session-Id: {}\r\n", upload.session);
        while !self.is_hopeless() {
            let whole = upload.whole.clone();
            let Heard::Answer(answer) = self.ask(&whole, kind, &fields, 0..0) else {
                continue;
            };
            match (answer.status, answer.field("BITS-Error-Code")) {
                (200, None) => return end,
                (500, Some(DISK_FULL)) => {
                    add(&self.ground.tally.disk_full, 1);
                    self.rest();
                }
                (500, Some(SESSION_NOT_FOUND))
                    if self.ground.terms.has_power_cuts
                        && (upload.promised == 0 || kind == "Cancel-Session") =>
                {
                    return End::Forgotten;
                }
                _ => panic!("{}: {kind}: {answer:?}", upload.whole.path),
            }
        }
        End::Lost
    }

    /// Sends a request on the present connection, or a new one, and reads the answer.
    fn ask(
        &mut self,
        whole: &Whole,
        kind: &str,
        fields: &str,
        range: std::ops::Range<u64>,
    ) -> Heard {
        let mut raw = match self.raw.take() {
            Some(raw) => raw,
            None => match Raw::try_connect(self.ground.address()) {
                Ok(raw) => raw,
                Err(_) => {
                    self.rest();
                    return Heard::Nothing;
                }
            },
        };
        let head = head(whole, kind, fields, range.end - range.start);
        // An answer may have come although not all could be sent.
        let _may_be_refused = raw
            .try_send(head)
            .and_then(|()| raw.try_send(bytes(self.ground, whole, range)));
        match raw.try_receive() {
            Ok(Some(answer)) if answer.status == 503 => {
                add(&self.ground.tally.unavailable, 1);
                self.rest();
                Heard::Nothing
            }
            Ok(Some(answer)) => {
                self.left_behind = None;
                if answer.field("Connection") != Some("close") {
                    self.raw = Some(raw);
                }
                Heard::Answer(answer)
            }
            Ok(None) => Heard::Nothing,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                // Half an answer: the server died in it. Anything else would be no HTTP.
                assert!(
                    error.to_string().starts_with("half"),
                    "{}: {kind}: {error}",
                    whole.path
                );
                Heard::Nothing
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                assert!(
                    self.ground.terms.may_starve,
                    "{}: {kind}: no answer in time",
                    whole.path
                );
                Heard::Nothing
            }
            Err(_) => Heard::Nothing,
        }
    }

    /// A moment until the next try, so that a client that is sent away is no busy loop.
    fn rest(&mut self) {
        let ms = 2 + self.rng.below(20);
        thread::park_timeout(Duration::from_millis(ms));
    }

    /// Whether there is no point in going on; a client that is stuck fails.
    fn is_hopeless(&self) -> bool {
        assert!(
            Instant::now() < self.ground.give_up,
            "client {} could not end its upload",
            self.client
        );
        self.ground.is_lost()
    }

    /// Enters a whole file in the ledger; the oldest ones make room.
    fn keep(&mut self, whole: Whole) {
        self.kept_bytes += whole.total as u64;
        let mine = format!("{}/", folder(self.client));
        let mut old = Vec::new();
        {
            let mut ledger = self.ground.ledger.lock().unwrap();
            ledger.push(whole);
            while self.kept_bytes > self.ground.terms.kept_bytes_max {
                let at = ledger
                    .iter()
                    .position(|whole| whole.path.starts_with(&mine));
                let oldest = ledger.remove(at.unwrap());
                self.kept_bytes -= oldest.total as u64;
                old.push(oldest);
            }
        }
        for whole in old {
            compare(self.ground, &whole);
            let _file_system_is_there = self.ground.tree.read().unwrap();
            std::fs::remove_file(self.ground.root.join(&whole.path)).unwrap();
            if self.ground.terms.has_power_cuts {
                let folder = std::fs::File::open(self.ground.root.join(folder(self.client)));
                folder.unwrap().sync_all().unwrap();
            }
        }
    }
}

/// How an upload ended.
enum End {
    Closed,
    Cancelled,
    /// The server does not know the session any more, and need not.
    Forgotten,
    /// Somebody else failed.
    Lost,
}

fn fields(upload: &Upload, first: u64, end: u64) -> String {
    let (session, last, total) = (&upload.session, end - 1, upload.whole.total);
    format!("BITS-Session-Id: {session}\r\nContent-Range: bytes {first}-{last}/{total}\r\n")
}

fn head(whole: &Whole, kind: &str, fields: &str, len: u64) -> String {
    let path = &whole.path;
    format!(
        "BITS_POST /{path} HTTP/1.1\r\nBITS-Packet-Type: {kind}\r\n{fields}Host: localhost\r\n\
         Content-Length: {len}\r\n\r\n"
    )
}

fn bytes<'a>(ground: &'a Ground, whole: &Whole, range: std::ops::Range<u64>) -> &'a [u8] {
    let at = |offset: u64| whole.start + usize::try_from(offset).unwrap();
    &ground.pool[at(range.start)..at(range.end)]
}

/// Compares a file that was closed with what was sent.
pub fn compare(ground: &Ground, whole: &Whole) {
    let _file_system_is_there = ground.tree.read().unwrap();
    let path = &whole.path;
    let file = std::fs::File::open(ground.root.join(path));
    let file = file.unwrap_or_else(|error| panic!("{path} was closed and is not there: {error}"));
    assert_eq!(
        file.metadata().unwrap().len(),
        whole.total as u64,
        "{path}: length"
    );
    let mut chunk = vec![0; whole.total.min(1 << 18)];
    let mut offset = 0;
    while offset < whole.total {
        let len = chunk.len().min(whole.total - offset);
        file.read_exact_at(&mut chunk[..len], offset as u64)
            .unwrap();
        let sent = &ground.pool[whole.start + offset..][..len];
        assert!(chunk[..len] == *sent, "{path}: other bytes at {offset}..");
        offset += len;
    }
}
