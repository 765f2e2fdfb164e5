//! The straight path: the bytes of a fragment, from the socket to the file at the watermark.
//!
//! The same block goes into the read and into the write. One write is in flight per session, so the
//! file is always a prefix of the upload, and a connection that breaks leaves what arrived.

use std::io;
use std::ops::Range;
use std::rc::Rc;

use super::carry_out::{Done, Heard};
use super::exchange::{Cut, Exchange, Outcome, at_most};
use super::floor::{Fill, Wire as _, World};
use super::hashing::{Behind, Orders};
use super::held::Held;
use super::lifecycle::{self, Addressee};
use super::patience::Waiting;
use super::request::{self, BodyLeft};
use super::session::Session;
use super::turnstile::Holder;
use crate::bits::packet::{Fragment, FragmentBody, FragmentContent};
use crate::bits::range::ContentRange;
use crate::bits::reply::Refusal;
use crate::bits::session::{Step, StorePlan};
use crate::event::{DiskOp, Event};
use crate::http::chunked::{BadChunk, ChunkedDecoder};
use crate::http::response::CONTINUE;
use crate::vault::disk::Block as _;
use crate::vault::error::StoreError;

/// Why a body came to no proper end.
enum Broken {
    /// The connection ended.
    Cut,
    /// The disk refused; this many bytes of the body are unread.
    Disk(StoreError, BodyLeft),
    /// The body is not what its head announced.
    Refused(Refusal),
    /// An order waits for the session; this is unread.
    OrderedAway(BodyLeft),
}

impl From<Cut> for Broken {
    fn from(Cut: Cut) -> Self {
        Self::Cut
    }
}

/// Bytes taken off the body, and whether the disk took them.
type Stored = (u64, Result<(), StoreError>);

/// How a body block is received into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receive {
    /// Until it is full.
    All,
    /// With what is there: others wait for blocks.
    Some,
}

impl<W: World> Exchange<W> {
    /// Deals with one fragment, body included.
    ///
    /// # Errors
    /// [`Cut`] if the connection ended, or the session was taken over by a newer one.
    pub(super) async fn receive(&mut self, mut fragment: Fragment) -> Result<Outcome, Cut> {
        let began_us = self.shard.world.now_us();
        let session = fragment.request.session;
        let outcome = |reply, body| Outcome {
            reply,
            session,
            body,
        };
        let unread = request::unread(&fragment);
        let found = lifecycle::find(&self.shard, &fragment.request, self.principal.as_ref());
        let found = match found {
            Some(Addressee::Session(found)) => found,
            Some(Addressee::Left) => return Ok(outcome(Err(Refusal::DiskAway), unread)),
            Some(Addressee::Ended(..)) | None => {
                return Ok(outcome(Err(Refusal::SessionNotFound), unread));
            }
        };
        let asked = std::mem::take(&mut fragment.request.target.sent);
        let entered = Held::enter(&self.shard, &found, &self.connection, asked).await;
        let mut held = entered.map_err(|_| Cut)?;
        if let Err(refusal) = self.claim(&mut held).await {
            return Ok(outcome(Err(refusal), unread));
        }
        if held.is_empty_too_long() {
            return Ok(outcome(held.answer(Step::Expire).await, unread));
        }
        let range = match fragment.content {
            FragmentContent::Bytes(range) => range,
            FragmentContent::EmptyFile => return Box::pin(self.empty_file(held, &fragment)).await,
        };
        let plan = match self.plan(&mut held, range, fragment.expects_continue).await {
            Ok(plan) => plan,
            Err(reply) => return Ok(outcome(reply, unread)),
        };
        match held.catch_up(Orders::Heeded).await {
            Ok(()) => {}
            Err(Behind::Stopped) if held.is_ordered_away() => {
                return Ok(outcome(
                    Err(Box::pin(self.await_order(held, &found)).await?),
                    unread,
                ));
            }
            Err(Behind::Stopped) => return Err(Cut),
            Err(Behind::Disk(error)) => return Ok(outcome(Err(held.fail(error).await), unread)),
        }
        self.ask_for_body(fragment.expects_continue).await?;
        let stored = self.store(&mut held, plan, fragment.body).await;
        self.wait_for(Waiting::Nothing);
        self.tell_of_stored(&mut held, plan).await;
        match stored {
            Ok(()) => {
                let mut reply = held.answer(Step::FragmentEnded).await;
                held.note_answer();
                held.note_fragment(began_us);
                // It was not sealed.
                if reply == Err(Refusal::Unavailable) && held.is_ordered_away() {
                    reply = Err(Box::pin(self.await_order(held, &found)).await?);
                }
                Ok(outcome(reply, BodyLeft::Bytes(0)))
            }
            Err(Broken::OrderedAway(left)) => Ok(outcome(
                Err(Box::pin(self.await_order(held, &found)).await?),
                left,
            )),
            Err(Broken::Cut) => Err(Cut),
            Err(Broken::Disk(error, left)) => Ok(outcome(Err(held.fail(error).await), left)),
            Err(Broken::Refused(refusal)) => Ok(outcome(Err(refusal), BodyLeft::Unknown)),
        }
    }

    /// What is to be stored of a fragment, in a part that is there for it.
    ///
    /// # Errors
    /// What the client hears if nothing is stored: it may well be a positive Ack. `waits`: as of
    /// [`Self::tell_of_vain`].
    async fn plan(
        &self,
        held: &mut Held<W>,
        range: ContentRange,
        waits: bool,
    ) -> Result<StorePlan, Heard> {
        let offered = range.start()..range.end();
        held.note_offer(offered.clone()).await;
        let plan = match held.carry_out(Step::Fragment(range)).await {
            Done::Store(plan) => {
                held.note_taken(offered.clone());
                plan
            }
            Done::Answered(reply) => {
                match &reply {
                    Ok(_) => held.note_taken(offered),
                    Err(why) => {
                        let is_gap = matches!(why, Refusal::Gap { .. });
                        held.note_refused(offered, is_gap).await;
                    }
                }
                held.note_answer();
                self.tell_of_vain(held, range, &reply, waits);
                return Err(reply);
            }
        };
        if let Err(error) = held.begin(range.total()).await {
            held.note_refused(offered, false).await;
            return Err(Err(held.fail(error).await));
        }
        Ok(plan)
    }

    /// Lets an order have the session that waits for it, and says what the client of it hears then.
    async fn await_order(&self, held: Held<W>, session: &Rc<Session<W>>) -> Result<Refusal, Cut> {
        drop(held);
        // Whoever enters now would take its place.
        while session.turnstile.order_waits() {
            self.shard.world.give_way().await;
        }
        let holder: Rc<dyn Holder> = Rc::clone(&self.connection) as _;
        let entered = session.turnstile.enter_behind_order(holder).await;
        let _is_over = entered.map_err(|_| Cut)?;
        Ok(match self.shard.session(session.id) {
            None => Refusal::SessionNotFound,
            Some(_) => Refusal::Unavailable,
        })
    }

    /// Tells of a fragment of which nothing is stored. `waits`: its bytes come only when they are
    /// asked for.
    fn tell_of_vain(&self, held: &Held<W>, range: ContentRange, reply: &Heard, waits: bool) {
        let (session, series) = (held.id(), held.location().series);
        let bytes = match waits && self.inbox.is_empty() {
            true => 0,
            false => range.end() - range.start(),
        };
        self.shard.world.emit(match reply {
            Ok(_) => Event::Repeated {
                session,
                series,
                bytes,
                received: held.received(),
            },
            Err(Refusal::Gap { received }) => Event::Gap {
                session,
                series,
                bytes,
                received: *received,
            },
            Err(_) => return,
        });
    }

    /// Tells how far a fragment came, whole or not.
    async fn tell_of_stored(&self, held: &mut Held<W>, plan: StorePlan) {
        let received = held.received();
        if received > plan.at {
            held.note_left_growing().await;
        }
        self.shard.world.emit(Event::FragmentStored {
            session: held.id(),
            series: held.location().series,
            stored: received - plan.at,
            skipped: plan.skip,
            received,
        });
    }

    /// 100 Continue, where the client waits for it.
    async fn ask_for_body(&mut self, is_expected: bool) -> Result<(), Cut> {
        if is_expected && self.inbox.is_empty() {
            self.answer.extend_from_slice(CONTINUE);
            self.send().await.map_err(|_| Cut)?;
        }
        Ok(())
    }

    async fn empty_file(&mut self, mut held: Held<W>, fragment: &Fragment) -> Result<Outcome, Cut> {
        let session = fragment.request.session;
        if fragment.body == FragmentBody::Chunked {
            let nothing = StorePlan {
                skip: 0,
                at: 0,
                bytes: 0,
                fixes_total: None,
            };
            self.ask_for_body(fragment.expects_continue).await?;
            match self.store_chunked(&mut held, nothing).await {
                Ok(()) => {}
                Err(Broken::Refused(refusal)) => {
                    // The chunks have bytes, or nobody knows what they have.
                    held.note_vain_offer().await;
                    return Ok(Outcome {
                        reply: Err(refusal),
                        session,
                        body: BodyLeft::Unknown,
                    });
                }
                Err(Broken::Cut | Broken::Disk(..) | Broken::OrderedAway(_)) => return Err(Cut),
            }
        }
        let reply = held.answer(Step::EmptyFile).await;
        Ok(Outcome::whole(reply, session))
    }

    async fn store(
        &mut self,
        held: &mut Held<W>,
        plan: StorePlan,
        body: FragmentBody,
    ) -> Result<(), Broken> {
        match body {
            FragmentBody::Chunked => Box::pin(self.store_chunked(held, plan)).await,
            FragmentBody::Length(_) => {
                self.skip(Waiting::Body, plan.skip).await?;
                self.store_sized(held, plan).await
            }
        }
    }

    /// Stores a body of known length. A connection that filled a head block earns body blocks,
    /// until one is not filled in time; what came along with the head is the only part that is
    /// copied.
    async fn store_sized(&mut self, held: &mut Held<W>, plan: StorePlan) -> Result<(), Broken> {
        let mut left = plan.bytes;
        while left > 0 {
            if held.is_ordered_away() {
                return Err(Broken::OrderedAway(BodyLeft::Bytes(left)));
            }
            let is_all_here = self.inbox.len() as u64 >= left;
            let block = if self.connection.is_fast() && !is_all_here {
                self.body_block(left).await?
            } else {
                None
            };
            // A whole block is filled by the ring, and that is always waited for.
            let waits = matches!(block, Some((_, Receive::All)));
            let (stored, written) = match block {
                Some((block, how)) => self.store_block(held, block, how, left).await?,
                None => self.store_inbox(held, left).await?,
            };
            left -= stored;
            written.map_err(|error| Broken::Disk(error, BodyLeft::Bytes(left)))?;
            if !waits {
                self.spend(usize::try_from(stored).unwrap_or(usize::MAX))
                    .await;
            }
        }
        Ok(())
    }

    /// One body block: fills it and appends it.
    async fn store_block(
        &mut self,
        held: &mut Held<W>,
        mut block: W::Block,
        how: Receive,
        left: u64,
    ) -> Result<Stored, Broken> {
        // Blocks end where a block of the file ends, so that all but the first and the last are
        // whole.
        let capacity = block.bytes().len();
        let into_block = held.received() % capacity as u64;
        let bytes = at_most(left, capacity - at_most(into_block, capacity));
        let early = bytes.min(self.inbox.len());
        block.bytes_mut()[..early].copy_from_slice(&self.inbox.bytes()[..early]);
        self.inbox.consume(early);
        self.inbox.release();
        let (late, block) = if early == bytes {
            (0, block)
        } else {
            match self.fill(block, early..bytes, how).await {
                (Ok(Fill::Bytes(late)), block) => (late, block),
                (Ok(Fill::Slow), block) => (0, block),
                // What came early is kept all the same.
                (Ok(Fill::End) | Err(_), block) => {
                    let _cut_anyway = append(held, block, 0..early).await;
                    return Err(Broken::Cut);
                }
            }
        };
        self.connection.set_fast(match how {
            Receive::All => early + late == bytes,
            Receive::Some => early + late >= bytes.min(self.shard.head_block_bytes),
        });
        let (written, _given_back) = append(held, block, 0..early + late).await;
        Ok(((early + late) as u64, written))
    }

    async fn fill(
        &self,
        block: W::Block,
        range: Range<usize>,
        how: Receive,
    ) -> (io::Result<Fill>, W::Block) {
        self.wait_for(Waiting::Body);
        let wire = &self.connection.wire;
        match how {
            Receive::All => wire.fill(block, range).await,
            Receive::Some => match wire.read(block, range).await {
                (Ok(0), block) => (Ok(Fill::End), block),
                (Ok(some), block) => (Ok(Fill::Bytes(some)), block),
                (Err(error), block) => (Err(error), block),
            },
        }
    }

    /// What stands in the head block, or a read into it if there is nothing.
    async fn store_inbox(&mut self, held: &mut Held<W>, left: u64) -> Result<Stored, Broken> {
        if self.inbox.is_empty() {
            self.more(Waiting::Body, left).await?;
        }
        // Whether it came with the head or alone: a full block says that more is waiting.
        self.connection.set_fast(self.inbox.is_full());
        let bytes = at_most(left, self.inbox.len());
        let written = self.append_inbox(held, 0..bytes).await;
        self.inbox.consume(bytes);
        Ok((bytes as u64, written))
    }

    /// A body block for `left` bytes, if there is one. If all are out, this connection waits
    /// without one until it has bytes to read, and takes one only for as long as it takes to store
    /// them.
    async fn body_block(&mut self, left: u64) -> Result<Option<(W::Block, Receive)>, Broken> {
        if let Some(block) = self.shard.world.body_block(left) {
            return Ok(Some((block, Receive::All)));
        }
        self.shard.world.emit(Event::BlocksExhausted);
        if !self.inbox.is_empty() {
            return Ok(None);
        }
        // Not even the small one: there may be thousands that wait.
        self.inbox.release();
        self.wait_for(Waiting::Body);
        let ready = self.connection.wire.ready().await;
        ready.map_err(|_| Broken::Cut)?;
        let block = self.shard.world.body_block(0);
        Ok(block.map(|block| (block, Receive::Some)))
    }

    /// Stores a chunked body, whose decoded length must be exactly what the range says. The content
    /// of all chunks in a block is written together, however small they are.
    async fn store_chunked(&mut self, held: &mut Held<W>, plan: StorePlan) -> Result<(), Broken> {
        let mut decoder = ChunkedDecoder::default();
        let mut to_skip = plan.skip;
        let mut to_store = plan.bytes;
        loop {
            // An empty file has no bytes that could be left unstored.
            if to_store > 0 && held.is_ordered_away() {
                return Err(Broken::OrderedAway(BodyLeft::Chunked(decoder)));
            }
            if self.inbox.is_empty() {
                self.more(Waiting::Body, u64::MAX).await?;
            }
            let gathered = decoder.gather(self.inbox.bytes_mut());
            let skipped = at_most(to_skip, gathered.content);
            to_skip -= skipped as u64;
            let content = gathered.content - skipped;
            if content as u64 > to_store {
                return Err(Broken::Refused(Refusal::LengthMismatch));
            }
            to_store -= content as u64;
            let written = match content {
                0 => Ok(()),
                _ => self.append_inbox(held, skipped..skipped + content).await,
            };
            self.inbox.consume(gathered.consumed);
            written.map_err(|error| {
                let left = match gathered.end {
                    None => BodyLeft::Chunked(decoder),
                    Some(Ok(())) => BodyLeft::Bytes(0),
                    Some(Err(BadChunk)) => BodyLeft::Unknown,
                };
                Broken::Disk(error, left)
            })?;
            match gathered.end {
                None => self.spend(gathered.consumed).await,
                Some(Ok(())) if to_skip == 0 && to_store == 0 => return Ok(()),
                Some(Ok(())) => return Err(Broken::Refused(Refusal::LengthMismatch)),
                Some(Err(BadChunk)) => return Err(Broken::Refused(Refusal::ChunkedMalformed)),
            }
        }
    }

    /// Appends a range of the unread bytes to the file; they stay in the inbox.
    async fn append_inbox(
        &mut self,
        held: &mut Held<W>,
        range: Range<usize>,
    ) -> Result<(), StoreError> {
        let (block, unread) = self.inbox.take().expect("bytes stand in a block");
        let range = unread.start + range.start..unread.start + range.end;
        let (written, block) = append(held, block, range).await;
        self.inbox.put(block);
        written
    }
}

/// Appends `block[range]` to the file at the watermark and moves the watermark by what was written.
async fn append<W: World>(
    held: &mut Held<W>,
    block: W::Block,
    range: Range<usize>,
) -> (Result<(), StoreError>, W::Block) {
    let file = match held.file().await {
        Ok(file) => file,
        Err(error) => return (Err(error), block),
    };
    let mut block = block;
    let mut from = range.start;
    if let Err(error) = held.check_length(&file).await {
        return (Err(error), block);
    }
    if let Err(error) = held.make_room(&file, range.len()).await {
        return (Err(error), block);
    }
    while from < range.end {
        let (result, back) = held.write(&file, block, from..range.end).await;
        block = back;
        let written = match result {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            result => result,
        };
        match written {
            Ok(written) => {
                from += written;
                held.note_stored(written as u64);
                held.note_hashing().await;
            }
            Err(source) => {
                let op = DiskOp::Write;
                return (Err(StoreError { op, source }), block);
            }
        }
    }
    (Ok(()), block)
}
