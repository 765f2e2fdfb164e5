//! Session records: what is written is read back, and no torn or flipped slot is taken for a record.
#![no_main]

use bitsd::bits::session::{AfterPublish, State};
use bitsd::event::Ending;
use bitsd::http::path::UploadPath;
use bitsd::server::record::{RECORD_BYTES_MAX, Record, SLOT_BYTES};
use libfuzzer_sys::fuzz_target;

fn state(choice: u8, total: u64) -> State {
    match choice % 9 {
        0 => State::NEW,
        1 => State::Receiving {
            received: 0,
            total: Some(total),
        },
        2 => State::Sealed { total },
        3 => State::Closing {
            total,
            then: AfterPublish::End,
        },
        4 => State::Closing {
            total,
            then: AfterPublish::AwaitClose,
        },
        5 => State::Published { total },
        6 => State::Gone(Ending::Published),
        7 => State::Gone(Ending::Cancelled),
        _ => State::Gone(Ending::Poisoned),
    }
}

fuzz_target!(|input: (&str, u8, [u64; 3], u128, u8, u16, &[u8])| {
    let (path, choice, [total, durable, inode], boot_id, sequence, damage, bytes) = input;
    // Arbitrary bytes never panic, alone or as either slot of a file.
    let _ = Record::decode(bytes);
    let path = UploadPath::from_text(path);
    let path = path.unwrap_or_else(|_| UploadPath::from_text("a.bin").expect("a plain name"));
    let record = Record {
        path,
        state: state(choice, total),
        durable,
        inode,
        boot_id,
    };
    let sequence = u64::from(sequence) + 1;
    let (offset, slot) = record.encode(sequence);
    let offset = usize::try_from(offset).expect("one of two slots");
    assert!(slot.len() <= SLOT_BYTES && offset % SLOT_BYTES == 0);
    let mut file = vec![0; RECORD_BYTES_MAX];
    file[offset..offset + slot.len()].copy_from_slice(&slot);
    assert_eq!(Record::decode(&file), Ok((sequence, record.clone())));
    // The other slot makes no difference, unless it is a newer record.
    let other = SLOT_BYTES - offset;
    let len = bytes.len().min(SLOT_BYTES);
    file[other..other + len].copy_from_slice(&bytes[..len]);
    if let Ok((found, _)) = Record::decode(&file) {
        assert!(found >= sequence);
    }
    file[other..other + len].fill(0);
    // Torn anywhere, or with one bit flipped, it is no record.
    let at = usize::from(damage) / 8 % slot.len();
    assert!(Record::decode(&file[..offset + at]).is_err());
    file[offset + at] ^= 1 << (damage % 8);
    assert!(Record::decode(&file).is_err());
});
