//! Whoever reads what was uploaded, once all clients have ended: by GET, whole or in part.
//!
//! What is heard must be what stands in the tree, or nothing where nothing does. A publication may
//! be under way still whose client has gone: then it is what stood there at some time since the
//! reader asked.

use std::cell::Cell;
use std::rc::Rc;

use crate::clock::sleep;
use crate::identity;
use crate::sim::Sim;
use crate::talk::Talk;

/// How often a reader comes back: connections that clients left open may hold all places.
const TRIES_MAX: usize = 200;
/// How long it waits before it does.
const PAUSE_MS: u64 = 5_000;

/// Receives before which a slow reader waits; together less than it waits for an answer.
const SLOW_RECEIVES: u32 = 32;

/// Reads every file that somebody wanted to upload.
pub async fn read_all(sim: Rc<Sim>, is_done: Rc<Cell<bool>>) {
    for number in 0..sim.plan.uploads.len() {
        let path = sim.plan.uploads[number].path.clone();
        // From there it is read without us.
        if sim.plan.is_stored(&path) {
            continue;
        }
        let mut tries = 0;
        while !read(&sim, number, &path).await {
            tries += 1;
            if tries > TRIES_MAX {
                let what = format!("14: {path} cannot be read");
                sim.judge.borrow_mut().fail(what);
                break;
            }
            sleep(&sim.executor, PAUSE_MS).await;
        }
    }
    is_done.set(true);
}

/// `false` if the server could not answer now.
async fn read(sim: &Rc<Sim>, number: usize, path: &str) -> bool {
    let Some(end) = sim.connect(number) else {
        return false;
    };
    let mut talk = Talk::new(sim, end);
    // Every other one asks for the first byte only.
    let range = match number % 2 {
        0 => "",
        _ => "Range: bytes=0-0\r\n",
    };
    let head = format!("GET /{path} HTTP/1.1\r\nHost: h\r\n{range}Connection: close\r\n\r\n");
    let changes = sim.disk.borrow().changes_len();
    talk.send(identity::sign_whole(sim, &head, number).as_bytes())
        .await;
    // Some take so little at a time that one send lasts longer than nothing may come of it. That is
    // no reason to end them.
    if number.is_multiple_of(4) {
        let stall_ms = sim.plan.config.limits.body_stall_ms_max.min(5_000);
        talk.end().take_time(stall_ms / 3, SLOW_RECEIVES);
    }
    let Ok(heard) = talk.hear_body().await else {
        return false;
    };
    let disk = sim.disk.borrow();
    if heard.status == 503 {
        return false;
    }
    let is_told_of = |stands: &Option<&[u8]>| match (heard.status, stands) {
        (404, None) => true,
        (200, Some(bytes)) => range.is_empty() && heard.body == *bytes,
        (206, Some(bytes)) => !range.is_empty() && bytes.starts_with(&heard.body),
        // An empty file has no first byte.
        (416, Some(bytes)) => !range.is_empty() && bytes.is_empty(),
        _ => false,
    };
    let stood = disk.stood_since(changes, path);
    let is_right = stood.iter().any(is_told_of);
    sim.marks.hit(match heard.status {
        200 | 206 => "file read (GET)",
        _ => "no file to be read (GET)",
    });
    if !is_right {
        let (status, heard) = (heard.status, heard.body.len());
        let stands: Vec<_> = stood.iter().map(|stands| stands.map(<[u8]>::len)).collect();
        let what = format!(
            "14: a GET of {path} is answered {status} with {heard} bytes, where {stands:?} stood"
        );
        sim.judge.borrow_mut().fail(what);
    }
    true
}
