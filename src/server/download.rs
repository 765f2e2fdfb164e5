//! GET and HEAD of a reply: from its file, block by block, to the socket (P10).

use std::cell::Cell;
use std::rc::Rc;

use super::connection::{self, Connection, Cut, Waiting};
use super::shard::Shard;
use super::world::{Block, File, ReplyStat, Wire, World};
use crate::http::download::{self, ByteRange, DownloadRequest, Piece, Representation};
use crate::http::response::{Persistence, ResponseHead};

/// Answers with a file of the work directory; gives back whether the connection may carry another request.
///
/// # Errors
/// [`Cut`] if the connection ended, or the file did in the middle of an answer that announced more.
pub async fn send<W: World>(
    shard: &Rc<Shard<W>>,
    connection: &Rc<Connection<W>>,
    answer: &mut Vec<u8>,
    name: &str,
    request: &DownloadRequest,
    persistence: Persistence,
) -> Result<Persistence, Cut> {
    let (file, reply) = match shard.world.open_reply(name).await {
        Ok(Some(opened)) => opened,
        Ok(None) => return Ok(refuse(404, persistence, answer)),
        // Out of descriptors, or the disk: it may be better later.
        Err(_) => return Ok(refuse(503, persistence, answer)),
    };
    let plan = download::plan(request, &representation(&reply));
    plan.write_head(persistence, answer);
    for piece in plan.pieces() {
        match piece {
            Piece::Text(text) => answer.extend_from_slice(text.as_bytes()),
            Piece::File(range) => {
                connection::send(shard, connection, answer)
                    .await
                    .map_err(|_| Cut)?;
                send_file(shard, connection, &file, range).await?;
            }
        }
    }
    Ok(persistence)
}

fn representation(reply: &ReplyStat) -> Representation {
    let (inode, nanos) = (reply.inode, reply.modified_nanos);
    Representation {
        len: reply.bytes,
        modified_s: reply.modified_s,
        etag: format!(
            "\"{inode:x}-{:x}-{nanos:x}-{:x}\"",
            reply.modified_s, reply.bytes
        ),
    }
}

fn refuse(status: u16, persistence: Persistence, out: &mut Vec<u8>) -> Persistence {
    let mut head = ResponseHead::new(out, status);
    head.number("Content-Length", 0);
    head.end(persistence);
    persistence
}

/// Sends bytes of a file. A client that does not read holds its block until the watchdog ends it, so downloads get a share
/// of the body blocks only; beyond it they go on in head blocks, of which there is always one.
async fn send_file<W: World>(
    shard: &Shard<W>,
    connection: &Connection<W>,
    file: &W::File,
    range: ByteRange,
) -> Result<(), Cut> {
    let mut at = range.start;
    while at < range.end {
        connection.wait_for(Waiting::Nothing, shard.world.now());
        let share = Share::take(shard);
        let body_block = share.as_ref().and_then(|_| shard.world.body_block());
        let block = body_block.unwrap_or_else(|| shard.world.head_block());
        let left = usize::try_from(range.end - at).unwrap_or(usize::MAX);
        let most = block.bytes().len().min(left);
        let (read, block) = file.read_at(block, 0..most, at).await;
        let read = match read {
            Ok(read) if read > 0 => read,
            // Never a short body passed off as a whole one.
            Ok(_) | Err(_) => return Err(Cut),
        };
        connection.wait_for(Waiting::Answer, shard.world.now());
        let (sent, block) = connection.wire.send_block(block, 0..read).await;
        drop((block, share));
        sent.map_err(|_| Cut)?;
        at += read as u64;
    }
    Ok(())
}

/// Downloads may hold one in so many of the body blocks.
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
