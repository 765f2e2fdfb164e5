//! Start-up of a shard's sessions: what the vault has found of them ([`crate::vault::recover`]) is
//! entered into the shard, and publications that a crash cut short are finished.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

use super::clients::Client;
use super::custody;
use super::floor::World;
use super::held::Held;
use super::session::Session;
use super::shard::Shard;
use crate::bits::session::State;
use crate::config::{Durability, Location};
use crate::event::{DiskOp, Event};
use crate::vault::names::NamesOf;
use crate::vault::readback::{Damaged, Dealt};
use crate::vault::recover::{self, Owner, Restored};

/// So many sessions are entered in one go.
const SESSIONS_PER_TURN: usize = 128;

/// What a shard found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// It has a journal of its own now, and does not need the old ones any more. If not, the disk
    /// refused; it is tried again with the first record to be written.
    pub is_renewed: bool,
    /// Old journals of which not everything could be read.
    pub damaged: Arc<[Damaged]>,
}

/// Restores this shard's sessions. `generation` is that of the journals of this start.
///
/// # Errors
/// Of reading the work directory; all others cost only their session.
pub async fn recover<W: World>(
    shard: &Rc<Shard<W>>,
    generation: u64,
    dealt: Dealt,
) -> io::Result<Recovered> {
    let began = shard.world.now();
    let owner = Owner {
        wanted: NamesOf::OfShard {
            index: shard.index,
            count: shard.count,
        },
        location: &|path| shard.location(path),
        owes: &|location| shard.owes(location),
    };
    let found = recover::recover(&shard.store, &owner, generation, dealt).await?;
    let (mut publishing, mut owing) = (Vec::new(), Vec::new());
    for (number, restored) in found.sessions.into_iter().enumerate() {
        if number % SESSIONS_PER_TURN == 0 {
            shard.world.give_way().await;
        }
        let is_publishing = matches!(restored.keep.state(), State::Closing { .. });
        // What is published only now may owe by the settings of this start.
        let may_owe = is_publishing || restored.keep.is_unsettled();
        let session = enter(shard, restored);
        owing.extend(may_owe.then(|| Rc::clone(&session)));
        publishing.extend(is_publishing.then_some(session));
    }
    let left = shard.store.journal.left_count();
    (shard.world.metrics().sessions_left).set(left as u64);
    shard.fill_outbox();
    shard.world.emit(Event::Recovered {
        sessions: shard.unfinished_len(),
        duration_ms: shard.world.now().saturating_sub(began),
    });
    for session in publishing {
        if let Some(mut held) = Held::for_shard(shard, &session) {
            // Of what goes into a store it only begins, and goes on by itself.
            held.finish_publication().await;
        }
    }
    owing.retain(|session| matches!(session.state(), State::Published { .. }));
    if !owing.is_empty() {
        // Clients need not wait for that.
        (shard.world).spawn(custody::settle_all(Rc::clone(shard), owing));
    }
    if let Err(error) = &found.begun {
        shard.world.emit(Event::DiskFailed {
            op: DiskOp::Record,
            session: None,
            error,
        });
    }
    Ok(Recovered {
        is_renewed: found.begun.is_ok(),
        damaged: found.damaged,
    })
}

/// Makes a session known again.
fn enter<W: World>(shard: &Rc<Shard<W>>, restored: Restored) -> Rc<Session<W>> {
    let location = shard.location(&restored.path);
    // Records of version 0.1.0 know of no client: such sessions are counted as one's.
    let address = restored.keep.record().client;
    let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let user = restored.keep.record().life.user.clone();
    let was_sealed = was_sealed(restored.keep.state(), restored.keep.record().durable);
    let state = unsealed(&location, restored.keep.state());
    restored.keep.set_state(state);
    let session = Session::new(
        shard.world.now(),
        restored.path,
        restored.keep,
        restored.age_ms,
        (shard.common.clients).count(Client::new(&location.prefix, address), user),
    );
    if was_sealed {
        session.note_sealed();
    }
    shard.enter(Rc::clone(&session));
    if let Some(mut held) = Held::for_shard(shard, &session) {
        held.adopt_reservation(restored.reserved);
        held.note_earlier_life();
    }
    session
}

/// Whether an earlier life had sealed it. A journal that was written anew since says `Receiving`,
/// and still how much of it is durable.
fn was_sealed(state: State, durable: u64) -> bool {
    match state {
        State::Sealed { .. } => true,
        State::Receiving {
            received,
            total: Some(total),
        } => total > 0 && received == total && durable == total,
        _ => false,
    }
}

/// Whether a seal had reached the disk or only the page cache is not known: the client's next
/// packet seals again before it is acked.
fn unsealed(location: &Location, state: State) -> State {
    match state {
        State::Sealed { total } if location.policy.durability != Durability::None => {
            State::Receiving {
                received: total,
                total: Some(total),
            }
        }
        other => other,
    }
}
