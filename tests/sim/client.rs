//! A BITS client after MC-BUP 3.1, with mischief: what a real one does when its machine, its
//! network or its user fails it, and what no real one does.
//!
//! When the faults end, every client that has not gone away becomes honest and finishes.

use std::cell::Cell;
use std::rc::Rc;

use bitsd::auth::throttle::WAIT_FROM;
use bitsd::bits::session_id::SessionId;
use bitsd::config::{EmptyFile, Publish};

use crate::application::STATIC_URL;
use crate::clock::sleep;
use crate::executor::CLIENTS;
use crate::identity::{self, Known, Shown, Thief};
use crate::plan::Upload;
use crate::rng::Rng;
use crate::sim::Sim;
use crate::talk::{FragmentHead, Lost, Reply, Talk, packet};

/// Bytes of a body that are sent at once.
const PIECE_BYTES: usize = 300;

/// How a client ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// It is still at work.
    #[default]
    Busy,
    /// The file was closed.
    Done,
    /// The server refused it for good.
    Refused,
    /// It gave up.
    GoneAway,
}

/// One upload's client.
pub struct Client {
    sim: Rc<Sim>,
    number: usize,
    upload: Upload,
    rng: Rng,
    talk: Option<Talk>,
    session: Option<SessionId>,
    offset: u64,
    is_sealed: bool,
    /// Where its reply is, if it has one.
    reply_url: Option<String>,
    fragment_bytes: u64,
    /// It was told that the disk is full, or to close later, and will cancel.
    gives_up: bool,
    outcome: Rc<Cell<Outcome>>,
}

/// What follows a packet.
enum Next {
    /// The next one.
    Go,
    /// The same one, later.
    Later,
    /// Nothing.
    End(Outcome),
}

impl Client {
    /// A client that has not begun.
    pub fn new(sim: &Rc<Sim>, number: usize, rng: Rng, outcome: &Rc<Cell<Outcome>>) -> Self {
        let upload = sim.plan.uploads[number].clone();
        Self {
            sim: Rc::clone(sim),
            number,
            fragment_bytes: upload.fragment_bytes,
            upload,
            rng,
            talk: None,
            session: None,
            offset: 0,
            is_sealed: false,
            reply_url: None,
            gives_up: false,
            outcome: Rc::clone(outcome),
        }
    }

    /// Uploads until it is done, one way or another.
    pub async fn run(mut self) {
        let executor = Rc::clone(&self.sim.executor);
        sleep(&executor, self.upload.start_ms).await;
        loop {
            match self.packet().await {
                Ok(Next::Go) => {}
                Ok(Next::End(outcome)) => {
                    self.outcome.set(outcome);
                    return self.leave().await;
                }
                Ok(Next::Later) => self.pause().await,
                Err(Lost) => {
                    self.talk = None;
                    self.pause().await;
                }
            }
        }
    }

    async fn pause(&mut self) {
        let ms = if self.sim.has_faults.get() {
            self.rng.pick(&[0, 100, 5_000])
        } else {
            1_000
        };
        sleep(&self.sim.executor, ms).await;
    }

    /// Leaves the last connection as clients do: ended, or just left open.
    async fn leave(&mut self) {
        if let Some(talk) = &mut self.talk
            && self.rng.chance(300)
        {
            talk.hear_the_end().await;
        }
    }

    fn chance(&mut self, per_mille: u64) -> bool {
        self.sim.has_faults.get() && self.rng.chance(per_mille)
    }

    fn now(&self) -> u64 {
        self.sim.executor.now()
    }

    /// One packet, whichever is next.
    async fn packet(&mut self) -> Result<Next, Lost> {
        let mischief = self.sim.plan.mischief.clone();
        if self.talk.is_none() {
            let Some(end) = self.sim.connect(self.number) else {
                self.sim.marks.hit("connection refused");
                return Ok(Next::Later);
            };
            self.talk = Some(Talk::new(&self.sim, end));
            if self.rng.chance(300) {
                self.ping().await?;
            }
            return Ok(Next::Go);
        }
        if self.chance(mischief.forget) {
            return Ok(Next::End(Outcome::GoneAway));
        }
        if self.chance(mischief.garbage) {
            return self.garbage().await;
        }
        if self.chance(mischief.escape) {
            return self.escape().await;
        }
        let Some(session) = self.session else {
            return self.create().await;
        };
        if self.chance(mischief.steal) {
            return self.steal(session).await;
        }
        self.meet_thief(session);
        if std::mem::take(&mut self.gives_up) || self.chance(mischief.cancel) {
            return self.cancel(session).await;
        }
        let is_empty = self.upload.size == 0;
        let empty_file = self.sim.plan.config.global().policy.empty_file;
        let by_close = is_empty && self.upload.tells_empty_by_close;
        let is_told = self.is_sealed || by_close && empty_file == EmptyFile::Create;
        if is_told && self.reply_url.is_some() && self.rng.chance(600) {
            return self.fetch(session).await;
        }
        if is_told {
            return self.close(session, by_close && !self.is_sealed).await;
        }
        if self.offset > 0 && empty_file == EmptyFile::Discard && self.chance(mischief.close_early)
        {
            return self.close(session, false).await;
        }
        if self.chance(mischief.rival) {
            self.rival(session);
        }
        if is_empty {
            self.fragment(session, 0, 0).await
        } else {
            let (start, end) = self.range();
            self.fragment(session, start, end).await
        }
    }

    /// The range that comes next, or another one.
    fn range(&mut self) -> (u64, u64) {
        let mischief = self.sim.plan.mischief.clone();
        let mut start = self.offset;
        if self.chance(mischief.older) {
            start = self.rng.below(start + 1);
        } else if self.chance(mischief.overlap) {
            start = start.saturating_sub(self.rng.within(1, 20));
        } else if self.chance(mischief.gap) {
            start += self.rng.within(1, 20);
        }
        start = start.min(self.upload.size - 1);
        let most = if self.sim.has_faults.get() {
            self.rng.within(1, self.fragment_bytes)
        } else {
            // In peace it makes haste.
            self.fragment_bytes = self.fragment_bytes.max(100);
            self.fragment_bytes
        };
        (start, (start + most).min(self.upload.size))
    }

    /// Asks, and says who asks if the server wants to know.
    async fn ask(&mut self, text: &str) -> Result<Reply, Lost> {
        loop {
            let (signed, shown) = self.sign(text)?;
            let reply = self.ask_once(&signed).await?;
            // What others get wrong elsewhere is not held against it.
            if reply.is_throttled && self.sim.wrong.get() < WAIT_FROM {
                self.fail("16: who had few passwords wrong has to wait".to_owned());
            }
            if !self.heard_who(reply.status, shown) {
                return Ok(reply);
            }
            if self.talk.is_none() {
                return Err(Lost);
            }
        }
    }

    /// A request as it is sent, with what it shows, and what the client was to the server before.
    fn sign(&mut self, text: &str) -> Result<(String, (Shown, Known)), Lost> {
        let known = self.talk.as_ref().ok_or(Lost)?.known;
        let signed = identity::sign(&self.sim, text, self.number, &known, &mut self.rng);
        Ok((signed.0, (signed.1, known)))
    }

    /// Whether the client has to show who it is, and ask again.
    fn heard_who(&mut self, status: u16, (shown, mut known): (Shown, Known)) -> bool {
        let is_asked = identity::heard(&self.sim, self.number, status, shown, &mut known);
        if let Some(talk) = &mut self.talk {
            talk.known = known;
        }
        is_asked
    }

    async fn ask_once(&mut self, text: &str) -> Result<Reply, Lost> {
        let talk = self.talk.as_mut().ok_or(Lost)?;
        talk.check_silence().await;
        self.sim.tell(|| {
            let mut lines = text.lines().filter(|line| !line.starts_with("Host"));
            format!(
                "client says {:?}",
                (lines.next(), lines.nth(1), lines.next())
            )
        });
        talk.send(text.as_bytes()).await;
        self.hear().await
    }

    async fn hear(&mut self) -> Result<Reply, Lost> {
        let talk = self.talk.as_mut().ok_or(Lost)?;
        let reply = talk.hear().await?;
        if reply.is_last {
            self.talk = None;
        }
        Ok(reply)
    }

    fn fail(&self, what: String) {
        self.sim.judge.borrow_mut().fail(what);
    }

    async fn ping(&mut self) -> Result<(), Lost> {
        let text = packet("Ping", &self.upload.path.clone(), None);
        let reply = self.ask(&text).await?;
        let is_unsure = reply.status == 503 && self.sim.plan.identities.is_some();
        if reply.status != 200 && self.talk.is_some() && !is_unsure {
            self.fail(format!("6: a Ping is answered by {reply:?}"));
        }
        Ok(())
    }

    async fn create(&mut self) -> Result<Next, Lost> {
        let path = self.upload.path.clone();
        let reply = self.ask(&packet("Create-Session", &path, None)).await?;
        match (reply.status, reply.session) {
            (200, Some(id)) => {
                self.sim.judge.borrow_mut().heard_created(id, self.number);
                self.session = Some(id);
                self.offset = 0;
                self.is_sealed = false;
                Ok(Next::Go)
            }
            (403, _) => Ok(self.taken()),
            (404, _) => Ok(Next::End(Outcome::Refused)),
            (500 | 503, _) => Ok(Next::Later),
            _ => {
                self.fail(format!("6: a Create-Session is answered by {reply:?}"));
                Ok(Next::End(Outcome::Refused))
            }
        }
    }

    fn taken(&self) -> Next {
        let disk = self.sim.disk.borrow();
        self.sim
            .judge
            .borrow_mut()
            .heard_taken(&self.upload.path, &disk);
        Next::End(Outcome::Refused)
    }

    /// The session is unknown: from the start, with a new one.
    fn not_found(&mut self, id: SessionId, packet: &str) -> Next {
        let now = self.now();
        self.sim
            .judge
            .borrow_mut()
            .heard_not_found(id, packet, now, &self.sim.marks);
        self.session = None;
        self.offset = 0;
        self.is_sealed = false;
        Next::Go
    }

    async fn fragment(&mut self, id: SessionId, start: u64, end: u64) -> Result<Next, Lost> {
        let mischief = self.sim.plan.mischief.clone();
        let is_chunked = self.chance(mischief.chunked);
        let expects = self.chance(mischief.expect);
        let lies = self.chance(mischief.lie);
        let mut total = self.upload.size;
        let changes_total = self.offset > 0 && self.chance(mischief.total);
        if changes_total {
            total += 1;
        }
        let range = if end > 0 {
            Some(format!("{start}-{}/{total}", end - 1))
        } else {
            self.rng
                .pick(&[Some("0-0/0"), Some("0--1/0"), Some("*/0"), None])
                .map(str::to_owned)
        };
        let range = if is_chunked && range.is_none() {
            Some("*/0".to_owned())
        } else {
            range
        };
        let mut body = self.upload.bytes(start, end);
        if lies && self.rng.chance(500) {
            body.pop();
        } else if lies {
            body.push(b'!');
        }
        let length = (!is_chunked).then_some(body.len() as u64);
        if is_chunked {
            self.sim.marks.hit("chunked fragment");
            body = self.chunks(&body);
        }
        let path = self.upload.path.clone();
        let head = FragmentHead {
            path: &path,
            session: id,
            range,
            length,
            expects,
        };
        let floor = self.sim.judge.borrow().floor(id);
        let talk = self.talk.as_mut().ok_or(Lost)?;
        talk.check_silence().await;
        self.sim.tell(|| {
            format!(
                "client {} says fragment {:?} {length:?}",
                self.number, head.range
            )
        });
        let (text, shown) = self.sign(&head.text())?;
        if self.chance(self.sim.plan.mischief.stall) {
            // In the middle of the head.
            let half = self.rng.index(text.len() - 1) + 1;
            let mut talk = self.talk.take().ok_or(Lost)?;
            talk.send(&text.as_bytes()[..half]).await;
            talk.end().stall();
            (self.sim.executor).spawn(CLIENTS, async move { talk.hear_the_end().await });
            return Err(Lost);
        }
        let talk = self.talk.as_mut().ok_or(Lost)?;
        talk.send(text.as_bytes()).await;
        let mut reply = None;
        if expects {
            let first = self.hear().await?;
            if first.status == 100 {
                self.sim.marks.hit("expect continue answered");
            } else {
                reply = Some(first);
            }
        }
        let reply = match reply {
            Some(reply) => reply,
            None => {
                self.body(start, end, &body, is_chunked).await?;
                self.hear().await?
            }
        };
        if self.heard_who(reply.status, shown) {
            return Ok(Next::Go);
        }
        let is_odd = lies || changes_total;
        Ok(self.heard_fragment(id, &reply, floor, is_odd, (start, end)))
    }

    /// Sends a body, or as much of it as mischief lets it.
    async fn body(&mut self, start: u64, end: u64, body: &[u8], whole: bool) -> Result<(), Lost> {
        let mischief = self.sim.plan.mischief.clone();
        let (is_cut, is_stalled) = (self.chance(mischief.cut), self.chance(mischief.stall));
        let stop = if is_cut || is_stalled {
            self.rng.index(body.len() + 1)
        } else {
            body.len()
        };
        let sim = Rc::clone(&self.sim);
        let mut sent = 0;
        while sent < stop {
            let to = (sent + PIECE_BYTES).min(stop);
            // A chunked body is told whole: where its content stands in it does not matter.
            let known = if whole {
                end
            } else {
                end.min(start + to as u64)
            };
            sim.judge.borrow_mut().sends(self.number, start, known);
            let talk = self.talk.as_mut().ok_or(Lost)?;
            talk.send(&body[sent..to]).await;
            sent = to;
        }
        if is_stalled {
            let mut talk = self.talk.take().ok_or(Lost)?;
            talk.end().stall();
            sim.executor
                .spawn(CLIENTS, async move { talk.hear_the_end().await });
            return Err(Lost);
        }
        if is_cut {
            sim.marks.hit("cut in mid-body");
            let talk = self.talk.take().ok_or(Lost)?;
            match self.rng.below(3) {
                0 => talk.end().reset(),
                1 => talk.end().half_close(),
                _ => {}
            }
            return Err(Lost);
        }
        Ok(())
    }

    fn chunks(&mut self, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = body;
        while !rest.is_empty() {
            let here = self.rng.index(rest.len()) + 1;
            out.extend_from_slice(format!("{here:x}\r\n").as_bytes());
            out.extend_from_slice(&rest[..here]);
            out.extend_from_slice(b"\r\n");
            rest = &rest[here..];
        }
        out.extend_from_slice(b"0\r\n\r\n");
        out
    }

    fn heard_fragment(
        &mut self,
        id: SessionId,
        reply: &Reply,
        floor: u64,
        is_odd: bool,
        (start, end): (u64, u64),
    ) -> Next {
        let sim = Rc::clone(&self.sim);
        let policy = &sim.plan.config.global().policy;
        match (reply.status, reply.received) {
            (200 | 416, Some(received)) => {
                let is_ack = reply.status == 200;
                let disk = sim.disk.borrow();
                sim.judge
                    .borrow_mut()
                    .heard_offset(id, received, is_ack, floor, &disk, self.now());
                if is_ack && received == self.upload.size {
                    let url = reply.reply_url.as_deref();
                    let mut judge = sim.judge.borrow_mut();
                    judge.heard_digest(id, reply.digest.as_deref(), true);
                    judge.heard_final(id, url, &disk);
                    self.reply_url = reply.reply_url.clone();
                }
                if is_ack && end < received {
                    sim.marks.hit("known duplicate");
                }
                self.offset = received;
                self.is_sealed |= is_ack && received == self.upload.size;
                if self.is_sealed && policy.publish == Publish::LastFragment {
                    sim.marks.hit("published with the last fragment");
                }
                Next::Go
            }
            (413, _) => {
                if end - start <= policy.fragment_bytes_max {
                    self.fail(format!(
                        "7: a fragment of {} bytes is too large",
                        end - start
                    ));
                }
                self.fragment_bytes = self.fragment_bytes.min((end - start).div_ceil(2));
                Next::Go
            }
            (500, _) if reply.is_not_found() => self.not_found(id, "Fragment"),
            (500, _) if reply.error.as_deref() == Some("0x80200020") => {
                let largest = policy.upload_bytes_max.unwrap_or(u64::MAX);
                let largest = largest.min(sim.plan.largest_file.unwrap_or(u64::MAX));
                if self.upload.size <= largest && !is_odd {
                    self.fail("7: a file is too large that is not".to_owned());
                }
                if is_odd {
                    Next::Go
                } else {
                    Next::End(Outcome::Refused)
                }
            }
            (403, _) if reply.is_of_application => Next::End(Outcome::Refused),
            (404 | 408 | 500 | 502 | 503, _) if reply.is_of_application => Next::Later,
            (400, _) if is_odd => Next::Go,
            (400, _) if sim.plan.mischief.total > 0 => {
                // Its own lie was believed: a power cut had taken the true size away.
                self.session = None;
                Next::Go
            }
            (403, _) if policy.publish == Publish::LastFragment => {
                sim.marks.hit("publication refused");
                self.taken()
            }
            (404, _) if policy.publish == Publish::LastFragment => Next::End(Outcome::Refused),
            (500 | 503, _) => {
                let is_full = reply.error.as_deref() == Some("0x80070070");
                let cancel = sim.plan.mischief.cancel;
                self.gives_up = is_full && self.chance(20 * cancel);
                match self.gives_up {
                    // As long as it is full.
                    true => Next::Go,
                    false => Next::Later,
                }
            }
            _ => {
                self.fail(format!("6: a fragment is answered by {reply:?}"));
                Next::End(Outcome::Refused)
            }
        }
    }

    /// Fetches the reply, or tries to with a token that it guessed.
    async fn fetch(&mut self, id: SessionId) -> Result<Next, Lost> {
        let Some(url) = self.reply_url.clone().filter(|url| url != STATIC_URL) else {
            return Ok(Next::Go);
        };
        let is_right = self.rng.chance(800);
        let mut target = target_of(&url).unwrap_or_default().to_owned();
        if !is_right {
            let digit = target.rfind("/responsefile").unwrap_or_default() - 1;
            let other = if &target[digit..=digit] == "0" {
                "1"
            } else {
                "0"
            };
            target.replace_range(digit..=digit, other);
        }
        let talk = self.talk.as_mut().ok_or(Lost)?;
        talk.check_silence().await;
        let (text, shown) = self.sign(&format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"))?;
        let talk = self.talk.as_mut().ok_or(Lost)?;
        talk.send(text.as_bytes()).await;
        let download = talk.hear_body().await?;
        if download.is_last {
            self.talk = None;
        }
        if self.heard_who(download.status, shown) {
            return Ok(Next::Go);
        }
        let marks = &self.sim.marks;
        match (download.status, is_right) {
            (200, _) => marks.hit("reply fetched"),
            (404, true) => marks.hit("reply gone with its session (404)"),
            (404, false) => marks.hit("no reply for a wrong token (404)"),
            _ => {}
        }
        let (status, body) = (download.status, download.body);
        let mut judge = self.sim.judge.borrow_mut();
        judge.heard_reply(id, (status, &body), is_right, &self.sim.disk.borrow());
        Ok(Next::Go)
    }

    async fn close(&mut self, id: SessionId, tells_empty: bool) -> Result<Next, Lost> {
        let sim = Rc::clone(&self.sim);
        let path = self.upload.path.clone();
        let text = packet("Close-Session", &path, Some(id));
        sim.judge.borrow_mut().asks_close(id, self.now());
        let reply = self.ask(&text).await?;
        sim.judge.borrow_mut().heard_of_close(id, self.now());
        match reply.status {
            200 => {
                sim.marks.hit("close acked");
                if self.upload.size == 0 {
                    sim.marks.hit("empty file published");
                }
                let mut judge = sim.judge.borrow_mut();
                judge.heard_digest(id, reply.digest.as_deref(), false);
                judge.heard_closed(id, &sim.disk.borrow(), tells_empty);
                judge.heard_closed_with_line(id, &sim.ledger.borrow());
            }
            403 if reply.is_of_application => return Ok(Next::End(Outcome::Refused)),
            404 | 408 | 500 | 502 | 503 if reply.is_of_application => return Ok(Next::Later),
            403 => {
                sim.marks.hit("publication refused");
                return Ok(self.taken());
            }
            404 => return Ok(Next::End(Outcome::Refused)),
            500 if reply.is_not_found() => return Ok(self.not_found(id, "Close-Session")),
            500 | 503 => {
                self.gives_up = self.chance(20 * sim.plan.mischief.cancel);
                return Ok(Next::Later);
            }
            _ => self.fail(format!("6: a Close-Session is answered by {reply:?}")),
        }
        while self.chance(sim.plan.mischief.repeat) {
            self.pause().await;
            if self.reconnect() {
                let Ok(reply) = self.ask(&text).await else {
                    self.talk = None;
                    continue;
                };
                if reply.status == 200 {
                    sim.marks.hit("close repeated and answered alike");
                    let mut judge = sim.judge.borrow_mut();
                    judge.heard_digest(id, reply.digest.as_deref(), false);
                    judge.heard_closed(id, &sim.disk.borrow(), false);
                } else if reply.is_not_found() {
                    let now = self.now();
                    sim.judge.borrow_mut().heard_not_found(
                        id,
                        "Close-Session",
                        now,
                        &self.sim.marks,
                    );
                } else if reply.status == 500 {
                    sim.judge.borrow_mut().heard_put_off(id, &reply);
                } else if reply.status != 503 {
                    self.fail(format!("4: a repeated Close is answered by {reply:?}"));
                }
            }
        }
        if self.reply_url.is_some() && self.rng.chance(300) && self.reconnect() {
            let _lost_or_not = self.fetch(id).await;
        }
        Ok(Next::End(Outcome::Done))
    }

    fn reconnect(&mut self) -> bool {
        if self.talk.is_none()
            && let Some(end) = self.sim.connect(self.number)
        {
            self.talk = Some(Talk::new(&self.sim, end));
        }
        self.talk.is_some()
    }

    async fn cancel(&mut self, id: SessionId) -> Result<Next, Lost> {
        let sim = Rc::clone(&self.sim);
        let path = self.upload.path.clone();
        let text = packet("Cancel-Session", &path, Some(id));
        sim.judge.borrow_mut().asks_cancel(id, self.now());
        let reply = self.ask(&text).await;
        let mut is_acked = false;
        match &reply {
            Ok(reply) if reply.status == 200 => {
                sim.marks.hit("cancel acked");
                sim.judge.borrow_mut().heard_cancelled(id);
                is_acked = true;
            }
            Ok(reply) if reply.is_not_found() => {
                let now = self.now();
                sim.judge
                    .borrow_mut()
                    .heard_not_found(id, "Cancel-Session", now, &self.sim.marks);
            }
            Ok(reply) if matches!(reply.status, 500 | 503) => {}
            Ok(reply) => self.fail(format!("6: a Cancel-Session is answered by {reply:?}")),
            Err(Lost) => self.talk = None,
        }
        while self.chance(sim.plan.mischief.repeat) {
            self.pause().await;
            if self.reconnect() {
                match self.ask(&text).await {
                    Ok(reply) if reply.status == 200 && is_acked => {
                        sim.marks.hit("cancel repeated and answered alike");
                    }
                    Ok(reply) if reply.is_not_found() => {
                        let now = self.now();
                        sim.judge.borrow_mut().heard_not_found(
                            id,
                            "Cancel-Session",
                            now,
                            &self.sim.marks,
                        );
                    }
                    Ok(_) => {}
                    Err(Lost) => self.talk = None,
                }
            }
        }
        Ok(Next::End(Outcome::GoneAway))
    }

    /// A second connection sends for the same session at the same time.
    fn rival(&mut self, id: SessionId) {
        if self.upload.size == 0 {
            return;
        }
        self.sim.marks.hit("two connections");
        let mut rival = Self {
            sim: Rc::clone(&self.sim),
            number: self.number,
            upload: self.upload.clone(),
            rng: self.rng.fork(),
            talk: None,
            session: Some(id),
            offset: self.offset,
            is_sealed: false,
            reply_url: None,
            fragment_bytes: self.fragment_bytes,
            gives_up: false,
            outcome: Rc::default(),
        };
        let sim = Rc::clone(&self.sim);
        self.sim.executor.spawn(CLIENTS, async move {
            let wait = rival.rng.below(50);
            sleep(&sim.executor, wait).await;
            if rival.reconnect() {
                let (start, end) = rival.range();
                let _over_anyway = rival.fragment(id, start, end).await;
            }
        });
    }

    /// Somebody else knows of the session.
    fn meet_thief(&mut self, session: SessionId) {
        let rate = self
            .sim
            .plan
            .identities
            .as_ref()
            .map_or(0, |identities| identities.thieves);
        if !self.chance(rate) {
            return;
        }
        let reply = self.reply_url.as_ref().and_then(|url| target_of(url));
        let thief = Thief {
            sim: Rc::clone(&self.sim),
            owner: self.number,
            upload: self.upload.clone(),
            session,
            reply: reply.map(str::to_owned),
            rng: self.rng.fork(),
        };
        self.sim.executor.spawn(CLIENTS, thief.run());
    }

    async fn garbage(&mut self) -> Result<Next, Lost> {
        let text = packet("Ping", &self.upload.path, None);
        let text = identity::sign_whole(&self.sim, &text, self.number);
        let mut bytes = text.repeat(2).into_bytes();
        let junk = self.rng.next();
        bytes.extend_from_slice(&junk.to_le_bytes());
        bytes.extend_from_slice(b"\r\n\r\nBITS_POST\r\n\r\n");
        let mut talk = self.talk.take().ok_or(Lost)?;
        talk.send(&bytes).await;
        for expected in [200, 200, 400] {
            let reply = talk.hear().await?;
            let is_unsure = matches!(reply.status, 401 | 503) && self.sim.plan.identities.is_some();
            if reply.status != expected && !reply.is_last && !is_unsure {
                self.fail(format!("6: garbage is answered by {reply:?}"));
            }
            if reply.is_last {
                talk.hear_the_end().await;
                return Ok(Next::Go);
            }
        }
        Ok(Next::Go)
    }

    async fn escape(&mut self) -> Result<Next, Lost> {
        let path = self.rng.pick(&[
            "../out.bin",
            "in/%2e%2e/%2e%2e/out.bin",
            "in/..%2fout",
            "in//",
            "in/x.",
        ]);
        let reply = self.ask(&packet("Create-Session", path, None)).await?;
        if !matches!(reply.status, 400 | 503) {
            self.fail(format!("12: a session for {path} is answered by {reply:?}"));
        }
        Ok(Next::Go)
    }

    /// Names another client's session under its own path.
    async fn steal(&mut self, own: SessionId) -> Result<Next, Lost> {
        let path = self.upload.path.clone();
        let Some(other) = self.sim.judge.borrow().stranger(own, &path) else {
            return Ok(Next::Go);
        };
        let kind = self.rng.pick(&["Close-Session", "Cancel-Session"]);
        let reply = self.ask(&packet(kind, &path, Some(other))).await?;
        if reply.is_not_found() {
            self.sim.marks.hit("stranger's session refused");
        } else if reply.status != 503 {
            self.fail(format!("12: a stranger's {kind} is answered by {reply:?}"));
        }
        Ok(Next::Go)
    }
}

/// What stands behind the host of a URL that the server has told: over TLS it begins with `https`.
fn target_of(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://");
    rest.or_else(|| url.strip_prefix("http://"))?
        .strip_prefix('h')
}
