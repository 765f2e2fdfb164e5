//! Session records: what is written is read back, and no torn or flipped frame is taken for a
//! record.
#![no_main]

use bitsd::bits::notification::Token;
use bitsd::bits::session::{AfterPublish, Ending, Reply, State};
use bitsd::bits::session_id::SessionId;
use bitsd::custody::entry::ShownCertificate;
use bitsd::http::authorization::Scheme;
use bitsd::http::digest::Algorithms;
use bitsd::http::path::UploadPath;
use bitsd::vault::hashing::Hashed;
use bitsd::vault::record::{Answered, FrameReader, Frames, Life, Record, RecordedPlace};
use libfuzzer_sys::fuzz_target;

fn state(choice: u8, total: u64) -> State {
    match choice % 12 {
        0 => State::NEW,
        1 => State::Receiving {
            received: 0,
            total: Some(total),
        },
        2 => State::Sealed { total },
        3 => State::Closing {
            total,
            then: AfterPublish::End,
            told: None,
        },
        4 => State::Closing {
            total,
            then: AfterPublish::AwaitClose,
            told: Some(Reply::File),
        },
        5 => State::Published {
            total,
            reply: Reply::Elsewhere,
        },
        6 => State::Gone(Ending::Published),
        7 => State::Gone(Ending::Cancelled),
        8 => State::Notified {
            total,
            copies: total % 2 == 0,
            reply: Reply::None,
        },
        9 => State::Denied { total },
        10 => State::Closing {
            total,
            then: AfterPublish::Promised,
            told: None,
        },
        _ => State::Gone(Ending::Poisoned),
    }
}

fuzz_target!(|input: (&str, u8, [u64; 3], u128, u128, u8, u16, &[u8])| {
    let (path, choice, [total, durable, inode], boot_id, id, sequence, damage, bytes) = input;
    // Arbitrary bytes never panic, alone or as the beginning of a journal.
    let count = Frames::of(bytes).map(|frame| frame.content()).count();
    // A stream has the same frames.
    let mut reader = FrameReader::new(bytes);
    let mut streamed = 0;
    while reader.read_frame().expect("memory can be read").is_some() {
        streamed += 1;
    }
    assert_eq!(count, streamed);
    let path = UploadPath::from_text(path);
    let path = path.unwrap_or_else(|_| UploadPath::from_text("a.bin").expect("a plain name"));
    let record = Record {
        path,
        state: state(choice, total),
        durable,
        inode,
        boot_id,
        answer: (choice > 127).then(|| {
            Box::new(Answered {
                token: Token::new(id),
                static_url: (choice > 200).then(|| "http://h/".to_owned()),
                is_safe: choice % 2 == 0,
            })
        }),
        begun_ms: total,
        life: Life {
            interruptions: u32::from(sequence),
            connections: u32::from(damage),
            fragments: u32::from(choice),
            was_offered: choice % 3 == 0,
            first_ms: total,
            last_ms: durable,
            named_ms: durable,
            place: (choice % 13 == 0).then(|| {
                std::sync::Arc::new(RecordedPlace {
                    root: "/srv/uploads".to_owned(),
                    ..RecordedPlace::default()
                })
            }),
            agent: (choice % 5 == 0).then(|| "an agent".into()),
            user: (choice % 7 == 0).then(|| "anna".into()),
            proof: Scheme::ALL.get(usize::from(choice) % 7).copied(),
            certificate: (choice % 11 == 0).then(|| {
                std::sync::Arc::new(ShownCertificate {
                    subject: "CN=a".to_owned(),
                    sha256: [choice; 32],
                })
            }),
        },
        hashed: (choice % 2 == 0)
            .then(|| Hashed::begin(Algorithms::Both))
            .flatten(),
        // States that owe nothing are written without it.
        owed: None,
        is_unsettled: choice % 4 == 0,
        object: None,
        client: (choice % 3 == 0).then(|| std::net::IpAddr::from(boot_id.to_be_bytes())),
    };
    let (id, sequence) = (SessionId::from_u128(id), u64::from(sequence) + 1);
    let frame = record.encode(id, sequence);
    assert!(frame.len() % 8 == 0);
    let is_ours = |journal: &[u8]| {
        Frames::of(journal).any(|found| {
            found.id == id && found.sequence == sequence && found.record() == Some(record.clone())
        })
    };
    // What stands before it does not hide it, wherever the journal is not torn.
    let mut journal = bytes.to_vec();
    journal.resize(bytes.len().next_multiple_of(8), 0);
    let begin = journal.len();
    journal.extend_from_slice(&frame);
    assert!(is_ours(&journal));
    // Torn anywhere, or with one bit flipped, it is no record.
    let whole = frame.iter().rposition(|&byte| byte != 0).expect("a magic") + 1;
    let at = usize::from(damage) / 8 % whole;
    assert_eq!(Frames::of(&frame[..at]).count(), 0);
    journal[begin + at] ^= 1 << (damage % 8);
    assert!(!is_ours(&journal[begin..]));
});
