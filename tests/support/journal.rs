//! Sessions that nobody has uploaded: their records, as an earlier life of a server leaves them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread;

use bitsd::bits::session::State;
use bitsd::bits::session_id::SessionId;
use bitsd::http::path::UploadPath;
use bitsd::vault::record::{Content, Frames, Life, Record};

/// Shards of the earlier life.
const SHARDS: usize = 3;

/// The id of a session, by its number.
pub fn session_id(number: u64) -> SessionId {
    // An odd factor is a permutation, which spreads them over all first bytes.
    let high = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    SessionId::from_u128(u128::from(high) << 64 | u128::from(number))
}

/// Writes the part of a session, by its number; what the record of it is.
pub fn begun(work: &Path, number: u64, path: &str, come: &str, total: u64) -> Record {
    let part = work.join(format!("{}.part", session_id(number).plain()));
    fs::write(&part, come).unwrap();
    Record {
        hashed: None,
        owed: None,
        is_unsettled: false,
        object: None,
        path: UploadPath::from_text(path).unwrap(),
        state: State::Receiving {
            received: 0,
            total: Some(total),
        },
        durable: come.len() as u64,
        inode: fs::metadata(&part).unwrap().ino(),
        boot_id: 1,
        answer: None,
        client: None,
        begun_ms: 0,
        life: Life::default(),
    }
}

/// Makes what a server has left by a clean stop that of a boot before this one.
pub fn of_another_boot(work: &Path) {
    for entry in fs::read_dir(work).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|of| of != "journal") {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let frames = Frames::of(&bytes).map(|frame| {
            let Some(Content::Record(mut record)) = frame.content() else {
                panic!("only records were left");
            };
            record.boot_id = 1;
            record.encode(frame.id, frame.sequence)
        });
        let frames: Vec<u8> = frames.flatten().collect();
        fs::write(&path, frames).unwrap();
    }
    let note = fs::read_to_string(work.join("clean.aside")).expect("it was stopped cleanly");
    let boot = note.get(..32).expect("the boot comes first");
    let note = note.replace(boot, &format!("{:032x}", 1));
    fs::write(work.join("clean.aside"), note).unwrap();
}

/// Writes the journals of a work directory: the record of each session, by its number, as a server
/// of an earlier boot with three shards leaves them, where `durability = "fragment"`.
pub fn leave(work: &Path, sessions: u64, record: impl Fn(u64) -> Record + Sync) {
    let frame = &|number| record(number).encode(session_id(number), 3);
    thread::scope(|scope| {
        for shard in 0..SHARDS {
            scope.spawn(move || {
                let frames = (shard as u64..sessions).step_by(SHARDS).flat_map(frame);
                let name = format!("{:016x}-{shard}.journal", 4);
                fs::write(work.join(name), frames.collect::<Vec<u8>>()).unwrap();
            });
        }
    });
}
