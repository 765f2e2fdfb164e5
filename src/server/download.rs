//! Reply files: from their shelf to the client, block by block.
//!
//! What is sent, in which order and with which length, is decided by [`crate::http::download`];
//! here it is carried out, in memory that does not grow with the file. The head promises a length.
//! If the file cannot keep that promise, the connection ends: a short body must never pass for a
//! whole one.

use std::io;
use std::ops::Range;

use super::connection::{self, Connection};
use super::dateline::Dateline;
use super::exchange::{Cut, Exchange};
use super::floor::{Floor, Wire, World};
use super::patience::Waiting;
use super::phase::Phase;
use super::request::{self, Unserved, Wanted};
use super::shard::Shard;
use super::shares::{Share, Shares};
use crate::bits::session_id::SessionId;
use crate::config::Download;
use crate::event::{DiskOp, Event};
use crate::http::authorization::say_token;
use crate::http::download::{self, DownloadRequest, Piece, Representation};
use crate::http::path::UploadPath;
use crate::http::response::{self, AUTHENTICATE, Persistence, PlainRefusal};
use crate::vault::destination;
use crate::vault::disk::{Block, Millis, Readable, ReplyStat, Shelf};
use crate::vault::error::StoreError;
use crate::vault::names;

/// What is small goes out together, up to so many bytes: head and body of most replies, and the
/// heads of parts.
const GATHER_BYTES_MAX: usize = 4 << 10;
/// Bytes of one send. With each that the peer took, its clock starts again; one that takes longer
/// for them is looked at by [`super::patience`].
const SEND_BYTES_MAX: usize = 64 << 10;
/// A peer that takes longer for a body block, in milliseconds, is slow. It has kept one from the
/// uploads for that long, and gets no other: head blocks are enough for it.
const SLOW_MS: Millis = 1_000;

impl<W: World> Exchange<W> {
    /// Answers a GET or HEAD; `wanted` is nothing where this shard cannot look. All of it is sent
    /// when this returns; the answer's buffer is empty then.
    ///
    /// # Errors
    /// [`Cut`] if the connection ended, or the file did not yield what the head had promised.
    pub(super) async fn download(
        &mut self,
        wanted: Option<Wanted>,
        request: &DownloadRequest,
        persistence: Persistence,
    ) -> Result<Persistence, Cut> {
        self.wait_for(Waiting::Nothing);
        let shard = &self.shard;
        let (mut reply_of, mut path) = (None, None);
        let found = match &wanted {
            _ if shard.phase() == Phase::Recovering => Err(NotSent::new(Unserved::Unavailable)),
            None => Err(NotSent::new(Unserved::Unavailable)),
            Some(Wanted::Reply { session, token }) => {
                let found = shard.session(*session);
                match found.filter(|session| session.serves(*token, shard.world.now())) {
                    Some(session) => {
                        let session = &**reply_of.insert(session);
                        open_reply(shard, session.shelf, session.id).await
                    }
                    None => Err(NotSent::new(Unserved::NotFound)),
                }
            }
            Some(Wanted::File(named)) => {
                path = Some(named);
                let user = self.principal.as_ref().map(|principal| &*principal.user);
                open_file(shard, named, user, request.is_head()).await
            }
        };
        let path = path.or(reply_of.as_ref().map(|session| &session.path));
        if let Err(why) = &found {
            shard.world.emit(Event::DownloadRefused {
                peer: self.connection.client(),
                path: path.map(UploadPath::as_str),
                status: why.status(),
                user: self.principal.as_ref().map(|principal| &*principal.user),
                why: None,
            });
        }
        let progress = |now: Millis| {
            if let Some(session) = &reply_of {
                session.touch(now);
            }
        };
        let persistence = self.allowed(persistence);
        let sender = Sender {
            floor: &*shard.world,
            connection: &self.connection,
            shares: &shard.downloads,
            dateline: &shard.dateline,
            head_block_bytes: shard.head_block_bytes,
            answer: &mut self.answer,
            proof: std::mem::take(&mut self.proof),
            path: path.map(UploadPath::as_str).unwrap_or_default(),
            progress: (reply_of.is_some()).then_some(&progress as &dyn Fn(Millis)),
            is_slow: false,
        };
        send(sender, found, request, persistence).await
    }
}

/// Why there is no file to send.
#[derive(Debug)]
enum NotSent {
    /// It is not there, or not for this client; the methods that are.
    Unserved(Unserved, &'static str),
    /// The disk says no.
    Failed(StoreError),
}

impl NotSent {
    /// Whatever methods there are.
    fn new(why: Unserved) -> Self {
        Self::Unserved(why, "")
    }

    fn status(&self) -> u16 {
        match self {
            Self::Unserved(why, _) => why.status(),
            Self::Failed(error) => error.refusal().status(),
        }
    }
}

/// A file to be sent, open.
type Opened<S> = Result<(S, ReplyStat), NotSent>;

fn found<S>(op: DiskOp, opened: io::Result<Option<(S, ReplyStat)>>) -> Opened<S> {
    match opened {
        Ok(Some(file)) => Ok(file),
        Ok(None) => Err(NotSent::new(Unserved::NotFound)),
        Err(source) => Err(NotSent::Failed(StoreError { op, source })),
    }
}

async fn open_reply<W: World>(shard: &Shard<W>, shelf: Shelf, id: SessionId) -> Opened<W::File> {
    let opened = shard.world.open_reply(shelf, &names::reply_name(id)).await;
    found(DiskOp::Open, opened)
}

/// What stands at a destination. What its location keeps to itself is not looked for: nobody learns
/// whether it is there.
async fn open_file<W: World>(
    shard: &Shard<W>,
    path: &UploadPath,
    user: Option<&str>,
    is_head: bool,
) -> Opened<W::File> {
    let location = shard.location(path);
    match (location.download, is_head) {
        (Download::None, _) => return Err(NotSent::new(Unserved::NotFound)),
        (Download::Head, false) => {
            let methods = request::methods(&location);
            return Err(NotSent::Unserved(Unserved::HeadOnly, methods));
        }
        (Download::Head, true) | (Download::Get, _) => {}
    }
    let place = destination::place(&location, path, user);
    let place = place.map_err(|_| NotSent::new(Unserved::NotFound))?;
    // Nothing is uploaded there, and each folder on the way costs a look.
    if place.path.depth() > shard.limits().path_depth_max {
        return Err(NotSent::new(Unserved::NotFound));
    }
    found(DiskOp::LookUp, shard.world.open_published(&place).await)
}

/// Sends a file, or says why there is none. All that it needs is a floor, and something to read.
async fn send<F: Floor, S: Readable<Block = F::Block>>(
    mut sender: Sender<'_, F>,
    found: Opened<S>,
    request: &DownloadRequest,
    persistence: Persistence,
) -> Result<Persistence, Cut> {
    let from = sender.answer.len();
    match found {
        Ok((file, stat)) => {
            // A reply is written once. Who replaces a published file may do it within a second.
            let is_reply = sender.progress.is_some();
            let plan = download::plan(request, &representation(&stat, is_reply));
            plan.write_head(persistence, sender.answer);
            sender.date(from);
            if !sender.proof.is_empty() {
                let proof = say_token(&sender.proof);
                response::insert_field(sender.answer, from, AUTHENTICATE, &proof);
            }
            for piece in plan.pieces() {
                match piece {
                    Piece::Literal(bytes) => sender.answer.extend_from_slice(&bytes),
                    Piece::File(range) => sender.send_range(&file, range).await?,
                }
            }
        }
        Err(NotSent::Unserved(why, methods)) => {
            why.write(methods, request.is_head(), persistence, sender.answer);
            sender.date(from);
        }
        Err(NotSent::Failed(error)) => {
            sender.report(error.op, &error.source);
            let refusal = error.refusal();
            let refusal = PlainRefusal {
                status: refusal.status(),
                why: &refusal,
                allow: None,
                challenges: &[],
                retry_after_s: None,
                is_head: request.is_head(),
            };
            refusal.write(persistence, sender.answer);
            sender.date(from);
        }
    }
    sender.flush().await?;
    // An idle connection keeps no memory.
    sender.answer.shrink_to_fit();
    Ok(persistence)
}

/// A reply or an upload is written once and then gets its name, so that inode, length and time name
/// its bytes. (Who writes into a published file names others as soon as the clock of the file
/// system ticks.)
fn representation(stat: &ReplyStat, is_written_once: bool) -> Representation {
    let (inode, bytes) = (stat.inode, stat.bytes);
    let (seconds, nanos) = (stat.modified_s, stat.modified_nanos);
    Representation {
        sha256: stat.sha256,
        len: bytes,
        modified_s: seconds,
        is_date_strong: is_written_once,
        etag: format!("\"{inode:x}-{bytes:x}-{seconds:x}-{nanos:x}\""),
    }
}

/// One answer on its way.
struct Sender<'a, F: Floor> {
    floor: &'a F,
    connection: &'a Connection<F>,
    /// The body blocks that downloads may hold.
    shares: &'a Shares,
    /// The time that stands in answers.
    dateline: &'a Dateline,
    /// What is no longer than a head block is not worth a body block.
    head_block_bytes: usize,
    /// What goes out next: never more than [`GATHER_BYTES_MAX`] and the head of one part.
    answer: &'a mut Vec<u8>,
    /// By what we prove in its head who we are; may be empty.
    proof: Vec<u8>,
    /// That of the upload, for the log.
    path: &'a str,
    /// Hears of each byte that has gone, where it is one of a reply: the fetching of it is progress
    /// of its session, which would expire under a slow reader otherwise.
    progress: Option<&'a dyn Fn(Millis)>,
    is_slow: bool,
}

impl<'a, F: Floor> Sender<'a, F> {
    /// Sends bytes of a file. A block is held for one read and its sends; then others may have it.
    async fn send_range<S: Readable<Block = F::Block>>(
        &mut self,
        file: &S,
        range: Range<u64>,
    ) -> Result<(), Cut> {
        let mut at = range.start;
        while at < range.end {
            let (block, _share) = self.block(range.end - at);
            let most = usize::try_from(range.end - at).unwrap_or(usize::MAX);
            let to_read = 0..block.bytes().len().min(most);
            self.connection.wait_for(Waiting::Nothing, self.floor.now());
            let (result, block) = file.read_at(block, to_read, at).await;
            let read = result.map_err(|error| {
                self.report(DiskOp::Read, &error);
                Cut
            })?;
            if read == 0 {
                // No fault of the disk: somebody has made the file shorter meanwhile.
                let (peer, path) = (self.connection.client(), self.path);
                self.floor.emit(Event::FileCut { peer, path, at });
                return Err(Cut);
            }
            if self.answer.len() + read > GATHER_BYTES_MAX {
                self.flush().await?;
            }
            if read <= GATHER_BYTES_MAX {
                self.answer.extend_from_slice(&block.bytes()[..read]);
            } else {
                self.send_block(block, read).await?;
            }
            at += read as u64;
        }
        Ok(())
    }

    /// A body block for what is worth one, if one is free; else a head block.
    fn block(&self, left: u64) -> (F::Block, Option<Share<'a>>) {
        if self.is_slow || left <= self.head_block_bytes as u64 {
            return (self.floor.head_block(), None);
        }
        let share = self.shares.take();
        match share.as_ref().and_then(|_| self.floor.body_block(0)) {
            Some(block) => (block, share),
            None => (self.floor.head_block(), None),
        }
    }

    async fn send_block(&mut self, block: F::Block, bytes: usize) -> Result<(), Cut> {
        let mut block = block;
        let began = self.floor.now();
        for from in (0..bytes).step_by(SEND_BYTES_MAX) {
            let range = from..bytes.min(from + SEND_BYTES_MAX);
            self.connection.wait_for(Waiting::Answer, self.floor.now());
            let (sent, back) = self.connection.wire.send_block(block, range).await;
            sent.map_err(|_| Cut)?;
            block = back;
            self.note_progress();
        }
        let took_ms = self.floor.now().saturating_sub(began);
        self.is_slow |= took_ms > SLOW_MS;
        Ok(())
    }

    /// Puts the time into the head that begins there.
    fn date(&mut self, from: usize) {
        let wall_ms = self.floor.wall_clock_ms();
        self.dateline.insert(wall_ms, self.answer, from);
    }

    /// Sends what was gathered.
    async fn flush(&mut self) -> Result<(), Cut> {
        connection::send(self.floor, self.connection, self.answer)
            .await
            .map_err(|_| Cut)?;
        self.note_progress();
        Ok(())
    }

    fn note_progress(&self) {
        if let Some(note) = self.progress {
            note(self.floor.now());
        }
    }

    fn report(&self, op: DiskOp, error: &io::Error) {
        self.floor.emit(Event::DiskFailed {
            op,
            session: None,
            error,
        });
    }
}

#[cfg(test)]
mod tests;
