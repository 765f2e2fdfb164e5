//! What the journals say of the sessions of a server that does not run: for a person to look at,
//! without changing anything. The lock of the work directory is held meanwhile, so that no server
//! begins under one's eyes.

use super::handed::HandedLocks;
use super::readback;
use super::work_folder::WorkFolder;
use crate::admin::view::{self, SessionView};
use crate::bits::session::State;
use crate::bits::session_id::SessionId;
use crate::config::Config;
use crate::vault::names::{LOCK_NAME, part_name};
use crate::vault::readback::Newest;
use crate::vault::record::Record;

/// Sessions that have not ended, in the order of their ids.
///
/// # Errors
/// Why they cannot be read, in words.
pub fn sessions(config: &Config) -> Result<Vec<SessionView>, String> {
    let path = &config.work_dir;
    let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let work = WorkFolder::open(path, true).map_err(|why| why.to_words(path))?;
    let lock = work
        .lock(LOCK_NAME, &mut HandedLocks::default())
        .map_err(|error| failed(&error))?;
    let Some(_until_the_end) = lock else {
        return Err(failed(
            &"a server is using it, and its admin_socket does not answer",
        ));
    };
    let dealt = readback::read(&work, u64::MAX, 1).map_err(|error| failed(&error))?;
    let told = dealt.into_iter().flat_map(|dealt| dealt.told);
    let sessions = told.filter_map(|(id, newest)| match newest {
        Newest::Record { record, .. } => seen(&work, config, id, &record),
        Newest::Tombstone(_) | Newest::Unknown { .. } => None,
    });
    Ok(sessions.collect())
}

/// A session as its record and its part tell of it.
fn seen(work: &WorkFolder, config: &Config, id: SessionId, record: &Record) -> Option<SessionView> {
    // Parts of other shelves are not looked for: their length is not known here.
    let part = work.stat(&part_name(id)).ok().flatten();
    match record.state {
        State::Gone(_) => return None,
        // Its part has its name, and nobody wrote that down: the next start finds it out.
        State::Closing { .. } if part.is_none() => return None,
        _ => {}
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now_s = now.unwrap_or_default().as_secs();
    let (received, idle_s) = match (&part, record.state) {
        (Some(part), State::Receiving { .. }) => {
            let modified = u64::try_from(part.st_mtime).unwrap_or(now_s);
            (
                u64::try_from(part.st_size).unwrap_or(0),
                now_s.saturating_sub(modified),
            )
        }
        _ => (record.state.received(), 0),
    };
    let location = config.location(record.path.as_str());
    let (sha256, sha1) = view::digests(record.digests());
    Some(SessionView {
        id: id.to_string(),
        path: record.path.as_str().to_owned(),
        location: format!("/{}", location.prefix),
        state: view::state(record.state).to_owned(),
        received_bytes: received,
        total_bytes: record.state.total(),
        idle_seconds: idle_s,
        expires_in_seconds: None,
        begun_seconds: (record.begun_ms > 0).then_some(record.begun_ms / 1_000),
        is_busy: false,
        client: record
            .client
            .map(|client| client.to_canonical().to_string()),
        user: record.life.user.as_ref().map(ToString::to_string),
        agent: record.life.agent.as_ref().map(ToString::to_string),
        connections: record.life.connections,
        interruptions: record.life.interruptions,
        sha256,
        sha1,
    })
}
