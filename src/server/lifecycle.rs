//! Create-Session, Close-Session, Cancel-Session: the packets that begin and end a session.

use std::rc::Rc;

use super::connection::{Connection, Cut};
use super::session::{Held, Reply, Session};
use super::shard::{Phase, Shard};
use super::store::{self, Keep, StoreError};
use super::world::World;
use crate::bits::packet::SessionRequest;
use crate::bits::reply::{Ack, Refusal};
use crate::bits::session::{Event as Step, State};
use crate::bits::session_id::SessionId;
use crate::event::Event;
use crate::http::path::UploadPath;

/// Makes a session for this shard. Whatever can refuse the upload is asked now, before data flows.
pub async fn create<W: World>(
    shard: &Rc<Shard<W>>,
    connection: &Rc<Connection<W>>,
    path: UploadPath,
) -> Reply {
    if shard.phase() == Phase::Draining {
        return Err(Refusal::Unavailable);
    }
    if !shard.has_room() {
        return Err(Refusal::Busy);
    }
    match store::check_destination(&*shard.world, shard.policy(), &path).await {
        Ok(verdict) => verdict?,
        Err(error) => return Err(report(shard, None, &error)),
    }
    let id = SessionId::mint(shard.world.random(), shard.index, shard.count);
    let (keep, file) = match Keep::create(&shard.store, id, &path).await {
        Ok(made) => made,
        Err(error) => return Err(report(shard, Some(id), &error)),
    };
    let session = Session::new(shard, path, keep, State::NEW, 0);
    shard.enter(Rc::clone(&session));
    let peer = connection.peer;
    shard.world.emit(Event::SessionCreated {
        session: id,
        path: session.path.as_str(),
        peer,
    });
    if let Ok(mut held) = session.enter(shard, connection).await {
        held.set_file(file);
    }
    Ok(Ack::Created { session: id })
}

/// Closes a session: publishes a whole file, discards an incomplete one.
///
/// # Errors
/// [`Cut`] if a newer connection came for the session meanwhile.
pub async fn close<W: World>(
    shard: &Rc<Shard<W>>,
    connection: &Rc<Connection<W>>,
    request: SessionRequest,
) -> Result<Reply, Cut> {
    let Some(session) = find(shard, &request) else {
        return Ok(Err(Refusal::SessionNotFound));
    };
    let mut held = session.enter(shard, connection).await.map_err(|_| Cut)?;
    loop {
        let decision = held.step(shard, Step::Close);
        let reply = held.carry_out(shard, decision).await;
        // An empty file, or one whose seal failed before, is sealed first and closed then.
        if !matches!(reply, Ok(Ack::Fragment { .. })) {
            return Ok(reply);
        }
    }
}

/// Cancels a session; a file that was published stays.
///
/// # Errors
/// [`Cut`] if a newer connection came for the session meanwhile.
pub async fn cancel<W: World>(
    shard: &Rc<Shard<W>>,
    connection: &Rc<Connection<W>>,
    request: SessionRequest,
) -> Result<Reply, Cut> {
    let Some(session) = find(shard, &request) else {
        return Ok(Err(Refusal::SessionNotFound));
    };
    let mut held: Held<W> = session.enter(shard, connection).await.map_err(|_| Cut)?;
    let decision = held.step(shard, Step::Cancel);
    Ok(held.carry_out(shard, decision).await)
}

/// The session of a request. A session is bound to its path: under another one it does not exist (P7).
pub fn find<W: World>(shard: &Shard<W>, request: &SessionRequest) -> Option<Rc<Session<W>>> {
    shard
        .session(request.session?)
        .filter(|session| session.path == request.target.path)
}

fn report<W: World>(shard: &Shard<W>, session: Option<SessionId>, error: &StoreError) -> Refusal {
    shard.world.emit(Event::DiskFailed {
        op: error.op,
        session,
        error: &error.source,
    });
    error.refusal()
}
