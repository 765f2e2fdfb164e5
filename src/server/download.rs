//! Reply files: from their shelf to the client, block by block.
//!
//! What is sent, in which order and with which length, is decided by [`crate::http::download`]; here it is carried out, in
//! memory that does not grow with the file. The head promises a length. If the file cannot keep that promise, the
//! connection ends: a short body must never pass for a whole one.

use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::rc::Rc;

use super::connection::{self, Connection, Cut};
use super::patience::Waiting;
use super::request::Unserved;
use super::shard::{Phase, Shard};
use super::store::StoreError;
use super::world::{Block, File, Millis, ReplyStat, Shelf, Wire, World};
use crate::event::{DiskOp, Event};
use crate::http::download::{self, DownloadRequest, Piece, Representation};
use crate::http::response::{Persistence, PlainRefusal};

/// What is small goes out together, up to so many bytes: head and body of most replies, and the heads of parts.
const GATHER_BYTES_MAX: usize = 4 << 10;
/// Bytes of one send. With each that the peer took, its clock starts again: one that takes so few in the whole
/// stall time-out (1 KiB/s by default) is as good as gone.
const SEND_BYTES_MAX: usize = 64 << 10;
/// A peer that takes longer for a body block, in milliseconds, is slow. It has kept one from the uploads for that long,
/// and gets no other: head blocks are enough for it.
const SLOW_MS: Millis = 1_000;

/// Answers a GET or HEAD with a reply file, and 404 if there is none. All of it is sent when
/// this returns; `answer` is empty then.
///
/// # Errors
/// [`Cut`] if the connection ended, or the file did not yield what the head had promised.
pub async fn send<W: World>(
    shard: &Rc<Shard<W>>,
    connection: &Rc<Connection<W>>,
    answer: &mut Vec<u8>,
    (shelf, name): (Shelf, &str),
    request: &DownloadRequest,
    persistence: Persistence,
) -> Result<Persistence, Cut> {
    let persistence = match shard.phase() {
        Phase::Draining => Persistence::Close,
        Phase::Recovering | Phase::Serving => persistence,
    };
    connection.wait_for(Waiting::Nothing, shard.world.now());
    let mut sender = Sender {
        shard,
        connection,
        answer,
        is_slow: false,
    };
    match shard.world.open_reply(shelf, name).await {
        Ok(Some((file, stat))) => {
            let plan = download::plan(request, &representation(&stat));
            plan.write_head(persistence, sender.answer);
            for piece in plan.pieces() {
                match piece {
                    Piece::Literal(bytes) => sender.answer.extend_from_slice(&bytes),
                    Piece::File(range) => sender.send_range(&file, range).await?,
                }
            }
        }
        Ok(None) => Unserved::NotFound.write(request.is_head(), persistence, sender.answer),
        Err(source) => {
            let op = DiskOp::Open;
            sender.report(op, &source);
            let refusal = StoreError { op, source }.refusal();
            let refusal = PlainRefusal {
                status: refusal.status(),
                why: &refusal,
                allow: None,
                is_head: request.is_head(),
            };
            refusal.write(persistence, sender.answer);
        }
    }
    sender.flush().await?;
    // An idle connection keeps no memory.
    sender.answer.shrink_to_fit();
    Ok(persistence)
}

/// A reply is written once, so its inode with length and time names its bytes.
fn representation(stat: &ReplyStat) -> Representation {
    let (inode, bytes) = (stat.inode, stat.bytes);
    let (seconds, nanos) = (stat.modified_s, stat.modified_nanos);
    Representation {
        len: bytes,
        modified_s: seconds,
        etag: format!("\"{inode:x}-{bytes:x}-{seconds:x}-{nanos:x}\""),
    }
}

/// One answer on its way.
struct Sender<'a, W: World> {
    shard: &'a Shard<W>,
    connection: &'a Connection<W>,
    /// What goes out next: never more than [`GATHER_BYTES_MAX`] and the head of one part.
    answer: &'a mut Vec<u8>,
    is_slow: bool,
}

/// Downloads may hold one in so many of the body blocks: a client that stops reading keeps its block until the watchdog
/// ends it, and uploads must not wait for that.
const SHARE: usize = 4;

/// The right of a download to one body block.
struct Share<'s>(&'s Cell<usize>);

impl<'s> Share<'s> {
    fn take<W: World>(shard: &'s Shard<W>) -> Option<Self> {
        let held = &shard.blocks_for_downloads;
        let may_hold = shard.config.limits.body_blocks_per_shard / SHARE;
        (held.get() < may_hold).then(|| {
            held.set(held.get() + 1);
            Self(held)
        })
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl<'a, W: World> Sender<'a, W> {
    /// Sends bytes of a file. A block is held for one read and its sends; then others may have it.
    async fn send_range(&mut self, file: &W::File, range: Range<u64>) -> Result<(), Cut> {
        let mut at = range.start;
        while at < range.end {
            let (block, _share) = self.block(range.end - at);
            let most = usize::try_from(range.end - at).unwrap_or(usize::MAX);
            let to_read = 0..block.bytes().len().min(most);
            self.connection
                .wait_for(Waiting::Nothing, self.shard.world.now());
            let (result, block) = file.read_at(block, to_read, at).await;
            let read = match result {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                result => result,
            };
            let read = read.map_err(|error| {
                self.report(DiskOp::Read, &error);
                Cut
            })?;
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
    fn block(&self, left: u64) -> (W::Block, Option<Share<'a>>) {
        let world = &self.shard.world;
        if self.is_slow || left <= self.shard.head_block_bytes as u64 {
            return (world.head_block(), None);
        }
        let share = Share::take(self.shard);
        match share.as_ref().and_then(|_| world.body_block()) {
            Some(block) => (block, share),
            None => (world.head_block(), None),
        }
    }

    async fn send_block(&mut self, block: W::Block, bytes: usize) -> Result<(), Cut> {
        let mut block = block;
        let began = self.shard.world.now();
        for from in (0..bytes).step_by(SEND_BYTES_MAX) {
            let range = from..bytes.min(from + SEND_BYTES_MAX);
            self.connection
                .wait_for(Waiting::Answer, self.shard.world.now());
            let (sent, back) = self.connection.wire.send_block(block, range).await;
            sent.map_err(|_| Cut)?;
            block = back;
        }
        let took_ms = self.shard.world.now().saturating_sub(began);
        self.is_slow |= took_ms > SLOW_MS;
        Ok(())
    }

    /// Sends what was gathered.
    async fn flush(&mut self) -> Result<(), Cut> {
        connection::send(self.shard, self.connection, self.answer)
            .await
            .map_err(|_| Cut)
    }

    fn report(&self, op: DiskOp, error: &io::Error) {
        self.shard.world.emit(Event::DiskFailed {
            op,
            session: None,
            error,
        });
    }
}

#[cfg(test)]
mod tests;
