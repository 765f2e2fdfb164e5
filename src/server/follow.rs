//! A publication that goes on when nobody waits for it: a file on its way into an object store, or
//! one that has its name and waits for a sync, after a disk that failed.

use std::rc::Rc;

use super::floor::World;
use super::held::Held;
use super::shard::Shard;
use crate::bits::session::State;
use crate::bits::session_id::SessionId;
use crate::vault::disk::Millis;

/// A task that waits for the end of the work looks so often whether its session is still there.
const FOLLOW_MS: Millis = 5_000;
/// And one that waits for our own disk.
const RETRY_MS: Millis = 1_000;

impl<W: World> Held<W> {
    /// Sees to it that the end of the work is taken note of, also if nobody asks for it.
    pub(super) fn follow(&mut self) {
        if std::mem::replace(&mut self.work().is_followed, true) {
            return;
        }
        let (shard, session) = (Rc::clone(&self.shard), self.id());
        let follow = Rc::clone(&shard).follow(session);
        shard.world.spawn(follow);
    }

    /// Nobody waits for the name of its file, or for what goes with it.
    async fn go_on_by_itself(&mut self) {
        match self.state() {
            State::Closing { .. } => self.finish_publication().await,
            _ => self.settle_by_itself().await,
        }
    }
}

impl<W: World> Shard<W> {
    /// Goes on with a session on its way into a store, or whose file has its name and waits for a
    /// sync, until it has come to an end there. It is held only when there is something to be done
    /// with it.
    async fn follow(self: Rc<Self>, id: SessionId) {
        let mut tries = 0_u32;
        loop {
            let Some(session) = self.session(id) else {
                return;
            };
            if self.is_over() {
                return;
            }
            if let Some(mut held) = Held::for_shard(&self, &session) {
                match held.state() {
                    // It has been asked what came of it.
                    State::Closing { .. } if !held.keep().has_name() => {
                        held.finish_publication().await;
                    }
                    // What is our own disk's affair is tried less and less often.
                    _ => {
                        tries = tries.wrapping_add(1);
                        if tries.is_power_of_two() || tries.is_multiple_of(64) {
                            held.go_on_by_itself().await;
                        }
                    }
                }
                match held.state() {
                    State::Closing { .. } => {}
                    State::Published { .. } if held.keep().is_unsettled() => {}
                    _ => {
                        held.work().is_followed = false;
                        return;
                    }
                }
                if held.is_buried() {
                    return;
                }
            }
            let waits_for_store = self.location(&session.path).objects.is_some();
            drop(session);
            self.world.give_way().await;
            match waits_for_store {
                true => self.world.await_object(id, FOLLOW_MS).await,
                false => self.world.pass(RETRY_MS).await,
            }
        }
    }
}
