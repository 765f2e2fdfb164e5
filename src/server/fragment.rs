//! The straight path: the bytes of a fragment, from the socket to the file at the watermark.
//!
//! The same block goes into the read and into the write. One write is in flight per session, so the
//! file is always a prefix of the upload, and a connection that breaks leaves what arrived.

use std::rc::Rc;

use super::connection::{self, Connection, Cut, Outcome};
use super::floor::{Fill, Wire, World};
use super::inbox::Inbox;
use super::lifecycle::{self, Known};
use super::patience::Waiting;
use super::request::BodyLeft;
use super::session::{Held, Reply};
use super::shard::Shard;
use crate::bits::packet::{Fragment, FragmentBody, FragmentContent};
use crate::bits::reply::Refusal;
use crate::bits::session::{Decision, Event as Step, Plan};
use crate::event::{DiskOp, Event};
use crate::http::chunked::{BadChunk, ChunkedDecoder};
use crate::http::response::CONTINUE;
use crate::planted::{self, Bug};
use crate::vault::disk::{Block, File};
use crate::vault::error::StoreError;

/// Why a body came to no proper end.
enum Broken {
    /// The connection ended.
    Cut,
    /// The disk refused; this many bytes of the body are unread.
    Disk(StoreError, BodyLeft),
    /// The body is not what its head announced.
    Refused(Refusal),
}

/// Deals with one fragment, body included.
///
/// # Errors
/// [`Cut`] if the connection ended, or the session was taken over by a newer one.
pub async fn receive<W: World>(
    shard: &Rc<Shard<W>>,
    connection: &Rc<Connection<W>>,
    inbox: &mut Inbox<W>,
    answer: &mut Vec<u8>,
    mut fragment: Fragment,
) -> Result<Outcome, Cut> {
    let session = fragment.request.session;
    let unread = unread(&fragment);
    let outcome = |reply, body| {
        Ok(Outcome {
            reply,
            session,
            body,
        })
    };

    let Some(Known::Session(found)) = lifecycle::find(shard, &fragment.request) else {
        return outcome(Err(Refusal::SessionNotFound), unread);
    };
    let asked = std::mem::take(&mut fragment.request.target.sent);
    let entered = found.enter(shard, connection, asked).await;
    let mut held = entered.map_err(|_| Cut)?;

    let range = match fragment.content {
        FragmentContent::Bytes(range) => range,
        FragmentContent::EmptyFile => {
            return empty_file(shard, connection, inbox, held, &fragment).await;
        }
    };
    held.note_offer(shard, range.start()..range.end()).await;
    let plan = match held.step(shard, Step::Fragment(range)) {
        Decision::Store(plan) => plan,
        decision => {
            if let Decision::Refuse(Refusal::Gap { received }) = decision {
                shard.world.emit(Event::Gap {
                    session: held.id(),
                    received,
                });
            }
            if planted::is(Bug::DuplicateUnsynced) {
                return outcome(held.carry_out(shard, decision).await, unread);
            }
            return outcome(settle(shard, &mut held, decision).await, unread);
        }
    };
    if let Err(error) = held.begin(shard, range.total()).await {
        return outcome(Err(held.fail(shard, error).await), unread);
    }
    if fragment.expects_continue && inbox.is_empty() {
        answer.extend_from_slice(CONTINUE);
        connection::send(&*shard.world, connection, answer)
            .await
            .map_err(|_| Cut)?;
    }

    let stored = store(shard, connection, inbox, &mut held, plan, fragment.body).await;
    connection.wait_for(Waiting::Nothing, shard.world.now());
    let received = held.received();
    shard.world.emit(Event::FragmentStored {
        session: held.id(),
        stored: received - plan.at,
        skipped: plan.skip,
        received,
    });
    match stored {
        Ok(()) => outcome(conclude(shard, &mut held).await, BodyLeft::Bytes(0)),
        Err(Broken::Cut) => Err(Cut),
        Err(Broken::Disk(error, left)) => outcome(Err(held.fail(shard, error).await), left),
        Err(Broken::Refused(refusal)) => outcome(Err(refusal), BodyLeft::Unknown),
    }
}

/// The body of a fragment of which nothing was read.
pub fn unread(fragment: &Fragment) -> BodyLeft {
    match fragment.body {
        FragmentBody::Length(0) => BodyLeft::Bytes(0),
        _ if fragment.expects_continue => BodyLeft::Unasked,
        FragmentBody::Length(bytes) => BodyLeft::Bytes(bytes),
        FragmentBody::Chunked => BodyLeft::Chunked(ChunkedDecoder::default()),
    }
}

/// Reads and drops bytes of a body.
///
/// # Errors
/// [`Cut`] if the connection ended.
pub async fn skip<W: World>(
    shard: &Shard<W>,
    connection: &Connection<W>,
    inbox: &mut Inbox<W>,
    bytes: u64,
) -> Result<(), Cut> {
    let mut left = bytes;
    loop {
        let here = at_most(left, inbox.len());
        inbox.consume(here);
        left -= here as u64;
        if left == 0 {
            return Ok(());
        }
        let read = more(shard, connection, inbox, left).await?;
        connection.budget.spend(&*shard.world, read).await;
    }
}

/// Reads and drops the rest of a body in chunks, up to so many bytes of content, or to what is no chunk.
///
/// # Errors
/// [`Cut`] if the connection ended.
pub async fn skip_chunked<W: World>(
    shard: &Shard<W>,
    connection: &Connection<W>,
    inbox: &mut Inbox<W>,
    mut decoder: ChunkedDecoder,
    bytes_max: u64,
) -> Result<(), Cut> {
    let mut left = bytes_max;
    loop {
        if inbox.is_empty() {
            more(shard, connection, inbox, u64::MAX).await?;
        }
        let gathered = decoder.gather(inbox.bytes_mut());
        inbox.consume(gathered.consumed);
        match left.checked_sub(gathered.content as u64) {
            Some(fewer) if gathered.end.is_none() => left = fewer,
            Some(_) | None => return Ok(()),
        }
        (connection.budget)
            .spend(&*shard.world, gathered.consumed)
            .await;
    }
}

/// The body came to its end: finds the answer.
async fn conclude<W: World>(shard: &Shard<W>, held: &mut Held<W>) -> Reply {
    let decision = held.step(shard, Step::FragmentEnded);
    settle(shard, held, decision).await
}

/// Makes what is about to be acked safe as the settings say, then carries the decision out. An Ack for bytes that
/// were known before needs it too: they may have come on a connection that broke before its own Ack.
async fn settle<W: World>(shard: &Shard<W>, held: &mut Held<W>, decision: Decision) -> Reply {
    if let Decision::AckFragment { .. } = decision
        && let Err(error) = held.harden(shard).await
    {
        return Err(held.fail(shard, error).await);
    }
    let reply = held.carry_out(shard, decision).await;
    held.note_answer(shard.world.now());
    reply
}

async fn empty_file<W: World>(
    shard: &Rc<Shard<W>>,
    connection: &Rc<Connection<W>>,
    inbox: &mut Inbox<W>,
    mut held: Held<W>,
    fragment: &Fragment,
) -> Result<Outcome, Cut> {
    let session = fragment.request.session;
    if fragment.body == FragmentBody::Chunked {
        let nothing = Plan {
            skip: 0,
            at: 0,
            bytes: 0,
            fixes_total: None,
        };
        match store_chunked(shard, connection, inbox, &mut held, nothing).await {
            Ok(()) => {}
            Err(Broken::Refused(refusal)) => {
                return Ok(Outcome {
                    reply: Err(refusal),
                    session,
                    body: BodyLeft::Unknown,
                });
            }
            Err(Broken::Cut | Broken::Disk(..)) => return Err(Cut),
        }
    }
    let decision = held.step(shard, Step::EmptyFile);
    let reply = held.carry_out(shard, decision).await;
    Ok(Outcome {
        reply,
        session,
        body: BodyLeft::Bytes(0),
    })
}

async fn store<W: World>(
    shard: &Shard<W>,
    connection: &Rc<Connection<W>>,
    inbox: &mut Inbox<W>,
    held: &mut Held<W>,
    plan: Plan,
    body: FragmentBody,
) -> Result<(), Broken> {
    match body {
        FragmentBody::Chunked => store_chunked(shard, connection, inbox, held, plan).await,
        FragmentBody::Length(_) if planted::is(Bug::OverlapUntrimmed) => {
            store_sized(shard, connection, inbox, held, plan).await
        }
        FragmentBody::Length(_) => {
            skip(shard, connection, inbox, plan.skip)
                .await
                .map_err(|Cut| Broken::Cut)?;
            store_sized(shard, connection, inbox, held, plan).await
        }
    }
}

/// Stores a body of known length. A connection that filled a head block earns body blocks, until one
/// is not filled in time; what came along with the head is the only part that is copied.
async fn store_sized<W: World>(
    shard: &Shard<W>,
    connection: &Rc<Connection<W>>,
    inbox: &mut Inbox<W>,
    held: &mut Held<W>,
    plan: Plan,
) -> Result<(), Broken> {
    let mut left = plan.bytes;
    while left > 0 {
        let is_all_here = inbox.len() as u64 >= left;
        let block = if connection.is_fast() && !is_all_here {
            body_block(shard, connection, inbox).await?
        } else {
            None
        };
        // A whole block is filled by the ring, and that is always waited for.
        let waits = matches!(block, Some((_, Receive::All)));
        let (stored, written) = match block {
            Some((block, how)) => {
                store_block(shard, connection, inbox, held, block, how, left).await?
            }
            None => store_inbox(shard, connection, inbox, held, left).await?,
        };
        left -= stored;
        written.map_err(|error| Broken::Disk(error, BodyLeft::Bytes(left)))?;
        if !waits {
            let bytes = usize::try_from(stored).unwrap_or(usize::MAX);
            connection.budget.spend(&*shard.world, bytes).await;
        }
    }
    Ok(())
}

/// Bytes taken off the body, and whether the disk took them.
type Stored = (u64, Result<(), StoreError>);

/// One body block: fills it and appends it.
async fn store_block<W: World>(
    shard: &Shard<W>,
    connection: &Rc<Connection<W>>,
    inbox: &mut Inbox<W>,
    held: &mut Held<W>,
    mut block: W::Block,
    how: Receive,
    left: u64,
) -> Result<Stored, Broken> {
    // Blocks end where a block of the file ends, so that all but the first and the last are whole.
    let capacity = block.bytes().len();
    let into_block = held.received() % capacity as u64;
    let bytes = at_most(left, capacity - at_most(into_block, capacity));
    let early = bytes.min(inbox.len());
    block.bytes_mut()[..early].copy_from_slice(&inbox.bytes()[..early]);
    inbox.consume(early);
    inbox.release();
    let (late, block) = if early == bytes {
        (0, block)
    } else {
        connection.wait_for(Waiting::Body, shard.world.now());
        let (fill, block) = match how {
            Receive::All => connection.wire.fill(block, early..bytes).await,
            Receive::Some => match connection.wire.read(block, early..bytes).await {
                (Ok(0), block) => (Ok(Fill::End), block),
                (Ok(some), block) => (Ok(Fill::Bytes(some)), block),
                (Err(error), block) => (Err(error), block),
            },
        };
        match fill {
            Ok(Fill::Bytes(late)) => (late, block),
            Ok(Fill::Slow) => (0, block),
            // What came early is kept all the same.
            Ok(Fill::End) | Err(_) => {
                let _cut_anyway = append(shard, held, block, 0..early).await;
                return Err(Broken::Cut);
            }
        }
    };
    connection.set_fast(match how {
        Receive::All => early + late == bytes,
        Receive::Some => early + late >= bytes.min(shard.head_block_bytes),
    });
    let (written, given_back) = append(shard, held, block, 0..early + late).await;
    if planted::is(Bug::BlockKept) {
        std::mem::forget(given_back);
    }
    Ok(((early + late) as u64, written))
}

/// What stands in the head block, or a read into it if there is nothing.
async fn store_inbox<W: World>(
    shard: &Shard<W>,
    connection: &Rc<Connection<W>>,
    inbox: &mut Inbox<W>,
    held: &mut Held<W>,
    left: u64,
) -> Result<Stored, Broken> {
    if inbox.is_empty() {
        more(shard, connection, inbox, left)
            .await
            .map_err(|Cut| Broken::Cut)?;
    }
    // Whether it came with the head or alone: a full block says that more is waiting.
    connection.set_fast(inbox.is_full());
    let bytes = at_most(left, inbox.len());
    let written = append_inbox(shard, held, inbox, 0..bytes).await;
    inbox.consume(bytes);
    Ok((bytes as u64, written))
}

/// How a body block is received into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receive {
    /// Until it is full.
    All,
    /// With what is there: others wait for blocks.
    Some,
}

/// A body block, if there is one. If all are out, this connection waits without one until it has bytes to read, and takes
/// one only for as long as it takes to store them.
async fn body_block<W: World>(
    shard: &Shard<W>,
    connection: &Rc<Connection<W>>,
    inbox: &mut Inbox<W>,
) -> Result<Option<(W::Block, Receive)>, Broken> {
    if let Some(block) = shard.world.body_block() {
        return Ok(Some((block, Receive::All)));
    }
    shard.world.emit(Event::BlocksExhausted);
    if !inbox.is_empty() {
        return Ok(None);
    }
    // Not even the small one: there may be thousands that wait.
    inbox.release();
    connection.wait_for(Waiting::Body, shard.world.now());
    (connection.wire.ready().await).map_err(|_| Broken::Cut)?;
    Ok(shard.world.body_block().map(|block| (block, Receive::Some)))
}

/// Stores a chunked body, whose decoded length must be exactly what the range says. The content of all chunks in a block
/// is written together, however small they are.
async fn store_chunked<W: World>(
    shard: &Shard<W>,
    connection: &Rc<Connection<W>>,
    inbox: &mut Inbox<W>,
    held: &mut Held<W>,
    plan: Plan,
) -> Result<(), Broken> {
    let mut decoder = ChunkedDecoder::default();
    let mut to_skip = plan.skip;
    let mut to_store = plan.bytes;
    loop {
        if inbox.is_empty() {
            more(shard, connection, inbox, u64::MAX)
                .await
                .map_err(|Cut| Broken::Cut)?;
        }
        let gathered = decoder.gather(inbox.bytes_mut());
        let skipped = at_most(to_skip, gathered.content);
        to_skip -= skipped as u64;
        let content = gathered.content - skipped;
        if content as u64 > to_store {
            return Err(Broken::Refused(Refusal::LengthMismatch));
        }
        to_store -= content as u64;
        let written = match content {
            0 => Ok(()),
            _ => append_inbox(shard, held, inbox, skipped..skipped + content).await,
        };
        inbox.consume(gathered.consumed);
        written.map_err(|error| {
            let left = match gathered.end {
                None => BodyLeft::Chunked(decoder),
                Some(Ok(())) => BodyLeft::Bytes(0),
                Some(Err(BadChunk)) => BodyLeft::Unknown,
            };
            Broken::Disk(error, left)
        })?;
        match gathered.end {
            None => {
                (connection.budget)
                    .spend(&*shard.world, gathered.consumed)
                    .await
            }
            Some(Ok(())) if to_skip == 0 && to_store == 0 => return Ok(()),
            Some(Ok(())) => return Err(Broken::Refused(Refusal::LengthMismatch)),
            Some(Err(BadChunk)) => return Err(Broken::Refused(Refusal::ChunkedMalformed)),
        }
    }
}

/// Reads more of a body into the head block, which is empty; never beyond the body.
async fn more<W: World>(
    shard: &Shard<W>,
    connection: &Connection<W>,
    inbox: &mut Inbox<W>,
    left: u64,
) -> Result<usize, Cut> {
    connection.wait_for(Waiting::Body, shard.world.now());
    let bytes_max = usize::try_from(left).unwrap_or(usize::MAX);
    match inbox
        .more_up_to(&*shard.world, &connection.wire, bytes_max)
        .await
    {
        Ok(read) if read > 0 => Ok(read),
        Ok(_) | Err(_) => Err(Cut),
    }
}

/// Appends a range of the unread bytes to the file; they stay in the inbox.
async fn append_inbox<W: World>(
    shard: &Shard<W>,
    held: &mut Held<W>,
    inbox: &mut Inbox<W>,
    range: std::ops::Range<usize>,
) -> Result<(), StoreError> {
    let (block, unread) = inbox.take().expect("bytes stand in a block");
    let range = unread.start + range.start..unread.start + range.end;
    let (written, block) = append(shard, held, block, range).await;
    inbox.put(block);
    written
}

/// Appends `block[range]` to the file at the watermark and moves the watermark by what was written.
async fn append<W: World>(
    shard: &Shard<W>,
    held: &mut Held<W>,
    block: W::Block,
    range: std::ops::Range<usize>,
) -> (Result<(), StoreError>, W::Block) {
    let file = match held.file(shard).await {
        Ok(file) => file,
        Err(error) => return (Err(error), block),
    };
    let mut block = block;
    let mut from = range.start;
    if planted::is(Bug::AckBeforeWrite) {
        from = plant_late_write(shard, held, &file, &block, range.clone());
    }
    if let Err(error) = held.make_room(shard, &file, range.len()).await {
        return (Err(error), block);
    }
    while from < range.end {
        let (result, back) = file.write_at(block, from..range.end, held.received()).await;
        block = back;
        match result {
            Ok(0) => {
                let source = std::io::ErrorKind::WriteZero.into();
                return (
                    Err(StoreError {
                        op: DiskOp::Write,
                        source,
                    }),
                    block,
                );
            }
            Ok(written) => {
                from += written;
                let _nothing_to_do = held.step(
                    shard,
                    Step::Stored {
                        bytes: written as u64,
                    },
                );
            }
            Err(source) => {
                return (
                    Err(StoreError {
                        op: DiskOp::Write,
                        source,
                    }),
                    block,
                );
            }
        }
    }
    (Ok(()), block)
}

/// Counts bytes as stored, and writes them some time later.
fn plant_late_write<W: World>(
    shard: &Shard<W>,
    held: &mut Held<W>,
    file: &Rc<W::File>,
    block: &W::Block,
    range: std::ops::Range<usize>,
) -> usize {
    let mut copy = shard.world.head_block();
    let bytes = range.len().min(copy.bytes().len());
    let taken = range.start..range.start + bytes;
    copy.bytes_mut()[..bytes].copy_from_slice(&block.bytes()[taken.clone()]);
    let (file, offset) = (Rc::clone(file), held.received());
    shard.world.spawn(async move {
        let _late = file.write_at(copy, 0..bytes, offset).await;
    });
    let bytes = bytes as u64;
    let _nothing_to_do = held.step(shard, Step::Stored { bytes });
    taken.end
}

/// The smaller of a count on the wire and a count in memory.
fn at_most(wire: u64, memory: usize) -> usize {
    usize::try_from(wire).unwrap_or(usize::MAX).min(memory)
}
