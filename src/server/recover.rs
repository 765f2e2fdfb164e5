//! Start-up: reads the work directory, finishes what was begun, restores the sessions.
//!
//! Each shard reads its own sessions, told by their ids; shard 0 also deals with what is nobody's.
//! Every step can be cut by a crash and done again.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::record::{RECORD_BYTES_MAX, Record};
use super::session::Session;
use super::shard::Shard;
use super::store::{self, ASIDE_SUFFIX, Keep, WorkName};
use super::world::{File, Standing, WorkStat, World};
use crate::bits::session::{AfterPublish, State};
use crate::bits::session_id::SessionId;
use crate::config::Durability;
use crate::event::{DiskOp, Ending, Event};
use crate::planted::{self, Bug};

/// Which files of a session stand in the work directory.
#[derive(Clone, Copy, Default)]
struct Found {
    part: bool,
    record: bool,
}

/// Restores this shard's sessions.
///
/// # Errors
/// The error of reading the work directory itself; all others cost only their session.
pub async fn recover<W: World>(shard: &Rc<Shard<W>>) -> std::io::Result<()> {
    let began = shard.world.now();
    let mut found: BTreeMap<SessionId, Found> = BTreeMap::new();
    for name in shard.world.list().await? {
        match store::parse_name(&name) {
            WorkName::Part(id) => found.entry(id).or_default().part = true,
            WorkName::Record(id) => found.entry(id).or_default().record = true,
            WorkName::Ours => {}
            WorkName::Foreign if shard.index == 0 => {
                set_aside(shard, &name, "not a name that this server makes").await;
            }
            WorkName::Foreign => {}
        }
    }
    found.retain(|id, _| id.shard(shard.count) == shard.index);
    for (id, files) in found {
        restore(shard, id, files).await;
    }
    let duration_ms = shard.world.now().saturating_sub(began);
    shard.world.emit(Event::Recovered {
        sessions: shard.sessions_len(),
        duration_ms,
    });
    Ok(())
}

/// Restores one session, or removes what is left of it.
async fn restore<W: World>(shard: &Rc<Shard<W>>, id: SessionId, files: Found) {
    let world = &*shard.world;
    if !files.record {
        // Its record was never written, or lost with the power: the client hears session-not-found.
        remove(shard, id, &store::part_name(id)).await;
        return;
    }
    let record_name = store::record_name(id);
    let bytes = match world.read_small(&record_name, RECORD_BYTES_MAX).await {
        Ok(bytes) => bytes,
        Err(error) => return report(shard, id, DiskOp::Read, &error),
    };
    if bytes.iter().all(|&byte| byte == 0) {
        // Made, but not written before the power went: nothing was promised.
        remove(shard, id, &record_name).await;
        return remove(shard, id, &store::part_name(id)).await;
    }
    let (sequence, record) = match Record::decode(&bytes) {
        Ok(decoded) => decoded,
        Err(why) => {
            set_aside(shard, &record_name, &why.to_string()).await;
            if files.part {
                set_aside(shard, &store::part_name(id), "its record cannot be read").await;
            }
            return;
        }
    };
    let part = match world.stat(&store::part_name(id)).await {
        Ok(part) => part,
        Err(error) => return report(shard, id, DiskOp::Read, &error),
    };
    let age_ms = match world.stat(&record_name).await {
        Ok(stat) => stat
            .map_or(0, |stat| stat.age_ms)
            .min(part.map_or(u64::MAX, |part| part.age_ms)),
        Err(error) => return report(shard, id, DiskOp::Read, &error),
    };
    let Some(part) = part else {
        return restore_without_part(shard, id, record, sequence, age_ms).await;
    };

    if let State::Gone(_) = record.state {
        // A discard that was cut short.
        remove(shard, id, &store::part_name(id)).await;
        return enter(shard, id, record.clone(), sequence, record.state, age_ms).await;
    }
    if let State::Published { .. } = record.state {
        // Published and yet here: the record is not of this part.
        remove(shard, id, &store::part_name(id)).await;
        remove(shard, id, &record_name).await;
        return;
    }
    if world.survived(record.boot_id) || planted::is(Bug::LengthTrusted) {
        restore_whole(shard, id, record, sequence, part, age_ms).await;
    } else {
        restore_after_power_cut(shard, id, record, sequence, part, age_ms).await;
    }
}

/// The page cache survived: the length of the part is the progress.
async fn restore_whole<W: World>(
    shard: &Rc<Shard<W>>,
    id: SessionId,
    record: Record,
    sequence: u64,
    part: WorkStat,
    age_ms: u64,
) {
    match record.state {
        State::Receiving { total, .. } => {
            if total.is_some_and(|total| part.bytes > total) || (total.is_none() && part.bytes > 0)
            {
                return distrust(shard, id, "longer than its record allows").await;
            }
            let state = State::Receiving {
                received: part.bytes,
                total,
            };
            told(shard, id, part.bytes, 0);
            enter(shard, id, record, sequence, state, age_ms).await;
        }
        State::Sealed { total } | State::Closing { total, .. } if part.bytes != total => {
            distrust(shard, id, "not as long as its record says").await;
        }
        state => {
            told(shard, id, part.bytes, 0);
            enter(shard, id, record, sequence, state, age_ms).await;
        }
    }
}

/// Only what was synced can be trusted.
async fn restore_after_power_cut<W: World>(
    shard: &Rc<Shard<W>>,
    id: SessionId,
    record: Record,
    sequence: u64,
    part: WorkStat,
    age_ms: u64,
) {
    let durable = record.durable;
    let State::Receiving { total, .. } = record.state else {
        if durable == record.state.received() && part.bytes == durable {
            let state = record.state;
            told(shard, id, durable, 0);
            return enter(shard, id, record, sequence, state, age_ms).await;
        }
        // `durability = "none"`: nobody knows what the part holds, so the client starts again.
        remove(shard, id, &store::record_name(id)).await;
        return remove(shard, id, &store::part_name(id)).await;
    };
    if part.bytes < durable {
        return distrust(shard, id, "shorter than what was synced").await;
    }
    let truncated = part.bytes - durable;
    if truncated > 0 {
        let cut = match shard.world.open(&store::part_name(id)).await {
            Ok(file) => file.truncate(durable).await,
            Err(error) => Err(error),
        };
        if let Err(error) = cut {
            return report(shard, id, DiskOp::Truncate, &error);
        }
    }
    let state = State::Receiving {
        received: durable,
        total,
    };
    told(shard, id, durable, truncated);
    enter(shard, id, record, sequence, state, age_ms).await;
}

/// The part is gone: it was published, or the session ended.
async fn restore_without_part<W: World>(
    shard: &Rc<Shard<W>>,
    id: SessionId,
    record: Record,
    sequence: u64,
    age_ms: u64,
) {
    let is_synced = shard.policy().durability != Durability::None;
    if let State::Closing { .. } = record.state
        && is_synced
        && !planted::is(Bug::RenameTrusted)
        && shard.world.survived(record.boot_id)
        && let Err(error) = shard.world.sync_destination(&record.path).await
    {
        // The rename may be in memory only, and nobody can say more: the client starts again.
        report(shard, id, DiskOp::SyncDirectory, &error);
        return remove(shard, id, &store::record_name(id)).await;
    }
    let state = match record.state {
        State::Gone(_) | State::Published { .. } => record.state,
        // Only the rename takes a part away in this state.
        State::Closing {
            then: AfterPublish::End,
            ..
        } => State::Gone(Ending::Published),
        State::Closing {
            total,
            then: AfterPublish::AwaitClose,
        } => State::Published { total },
        State::Sealed { total } => {
            let standing = shard.world.look_up(&record.path).await;
            match standing {
                // A power cut took the record back; the inode survives the rename.
                Ok(Standing::File { inode }) if inode == record.inode => {
                    let with_last = shard.rules().publish_with_last_fragment;
                    if with_last {
                        State::Published { total }
                    } else {
                        State::Gone(Ending::Published)
                    }
                }
                _ => return remove(shard, id, &store::record_name(id)).await,
            }
        }
        State::Receiving { .. } => return remove(shard, id, &store::record_name(id)).await,
    };
    enter(shard, id, record, sequence, state, age_ms).await;
}

/// Makes the session known again, and finishes a publication that was cut short.
async fn enter<W: World>(
    shard: &Rc<Shard<W>>,
    id: SessionId,
    record: Record,
    sequence: u64,
    state: State,
    age_ms: u64,
) {
    let path = record.path.clone();
    let recorded = without_progress(state);
    let is_current = record.boot_id == shard.world.boot_id() && record.state == recorded;
    let mut keep = Keep::resume(id, record, sequence);
    if !is_current {
        // From now on the record speaks of this boot, in which the part is cut to what is safe.
        if let Err(error) = keep.renew(&*shard.world, recorded).await {
            report(shard, id, error.op, &error.source);
        }
    }
    let session = Session::new(shard, path, keep, unsealed(shard, state), age_ms);
    shard.enter(Rc::clone(&session));
    match state {
        State::Gone(_) => shard.bury(id),
        State::Closing { .. } => session.finish_publication(shard).await,
        State::Receiving { .. } | State::Sealed { .. } | State::Published { .. } => {}
    }
}

/// Whether a seal had reached the disk or only the page cache is not known: the client's next packet seals again
/// before it is acked.
fn unsealed<W: World>(shard: &Shard<W>, state: State) -> State {
    match state {
        state if planted::is(Bug::SealTrusted) => state,
        State::Sealed { total } if shard.policy().durability != Durability::None => {
            State::Receiving {
                received: total,
                total: Some(total),
            }
        }
        other => other,
    }
}

/// As it is recorded: the length of the part tells the progress.
fn without_progress(state: State) -> State {
    match state {
        State::Receiving { total, .. } => State::Receiving { received: 0, total },
        other => other,
    }
}

fn told<W: World>(shard: &Shard<W>, session: SessionId, received: u64, truncated: u64) {
    shard.world.emit(Event::SessionRecovered {
        session,
        received,
        truncated,
    });
}

/// A part that its record does not describe: it is kept for a person to look at, and the session is forgotten.
async fn distrust<W: World>(shard: &Shard<W>, id: SessionId, why: &str) {
    set_aside(shard, &store::part_name(id), why).await;
    remove(shard, id, &store::record_name(id)).await;
}

async fn set_aside<W: World>(shard: &Shard<W>, name: &str, why: &str) {
    shard.world.emit(Event::SetAside { name, why });
    if let Err(error) = shard
        .world
        .rename(name, &format!("{name}{ASIDE_SUFFIX}"))
        .await
    {
        shard.world.emit(Event::DiskFailed {
            op: DiskOp::Remove,
            session: None,
            error: &error,
        });
    }
}

async fn remove<W: World>(shard: &Shard<W>, id: SessionId, name: &str) {
    if let Err(error) = shard.world.remove(name).await {
        report(shard, id, DiskOp::Remove, &error);
    }
}

fn report<W: World>(shard: &Shard<W>, id: SessionId, op: DiskOp, error: &std::io::Error) {
    shard.world.emit(Event::DiskFailed {
        op,
        session: Some(id),
        error,
    });
}
