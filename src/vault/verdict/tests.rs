//! Every combination of a record and what is found of its files, against the contract
//! ([`crate::vault`]) and against a table.

use super::*;
use crate::bits::notification::Token;
use crate::http::path::UploadPath;
use crate::vault::ending_words::ENDINGS;
use crate::vault::record::Answered;

const TOTAL: u64 = 10;
const INODE: u64 = 77;

fn states() -> Vec<State> {
    let replies = [Reply::None, Reply::File, Reply::Elsewhere];
    let told = [None, Some(replies[0]), Some(replies[1]), Some(replies[2])];
    let mut states = vec![
        State::NEW,
        State::Receiving {
            received: 0,
            total: Some(TOTAL),
        },
        State::Sealed { total: TOTAL },
        State::Denied { total: TOTAL },
    ];
    for reply in replies {
        let total = TOTAL;
        states.push(State::Published { total, reply });
        for copies in [false, true] {
            states.push(State::Notified {
                total,
                copies,
                reply,
            });
        }
    }
    for then in [AfterPublish::End, AfterPublish::AwaitClose] {
        states.extend(told.map(|told| State::Closing {
            total: TOTAL,
            then,
            told,
        }));
    }
    states.extend(ENDINGS.map(State::Gone));
    states
}

fn record(state: State, durable: u64, is_safe: bool) -> Record {
    Record {
        path: UploadPath::from_text("a.bin").unwrap(),
        state,
        durable,
        inode: INODE,
        boot_id: 1,
        answer: Some(Box::new(Answered {
            token: Token::new(1),
            static_url: None,
            is_safe,
        })),
        client: None,
        begun_ms: 0,
        life: Default::default(),
        hashed: None,
        owed: None,
        is_unsettled: false,
        object: None,
    }
}

/// Our file stands there.
const OURS: Destination = Destination::Seen(Some(Standing::File {
    inode: INODE,
    bytes: TOTAL,
}));

/// What was done in the boot of the record is there, and perhaps in memory only.
fn is_unsynced(evidence: &Evidence<'_>) -> bool {
    evidence.survived && !evidence.was_stopped_cleanly
}

/// Calls with each combination; how many there are.
fn each_combination(mut check: impl FnMut(&Evidence<'_>)) -> usize {
    const BOTH: [bool; 2] = [false, true];
    let file = |inode, bytes| Destination::Seen(Some(Standing::File { inode, bytes }));
    let destinations = [
        Destination::Nowhere,
        Destination::Unseen,
        Destination::Seen(None),
        Destination::Seen(Some(Standing::Free)),
        Destination::Seen(Some(Standing::Directory)),
        OURS,
        file(INODE + 1, TOTAL),
        file(INODE, TOTAL + 1),
        Destination::Store,
    ];
    let mut count = 0;
    for state in states() {
        for (durable, is_safe) in [0, 4, TOTAL].into_iter().flat_map(|n| BOTH.map(|b| (n, b))) {
            let record = record(state, durable, is_safe);
            for part in [None, Some(0), Some(4), Some(7), Some(TOTAL), Some(12)] {
                for destination in destinations {
                    for bits in 0..64 {
                        let bit = |number: u32| bits >> number & 1 == 1;
                        count += 1;
                        check(&Evidence {
                            record: &record,
                            may_be_outdated: bit(0),
                            part,
                            was_set_aside: bit(4) && part.is_none(),
                            survived: bit(1),
                            destination,
                            is_synced: bit(2),
                            is_named_early: bit(3),
                            was_stopped_cleanly: bit(5),
                        });
                    }
                }
            }
        }
    }
    count
}

/// What the contract promises, as sentences about evidence and verdict.
#[test]
fn no_verdict_breaks_the_contract() {
    let count = each_combination(|evidence| {
        let verdict = judge(evidence);
        let (record, state) = (evidence.record, evidence.record.state);
        let goes_on = match verdict {
            Verdict::GoOn(state) | Verdict::Cut(state) | Verdict::Sync(state) => Some(state),
            _ => None,
        };
        // What is safe is never thrown away: sealed, synced, and its part stands as it was synced.
        let is_whole = matches!(
            state,
            State::Sealed { .. } | State::Notified { .. } | State::Closing { .. }
        );
        let is_here = evidence.part == Some(TOTAL) && record.durable == TOTAL;
        let has_reply = state.reply() != Reply::File || record.answer.as_ref().unwrap().is_safe;
        if is_whole && is_here && has_reply {
            assert_eq!(verdict, Verdict::GoOn(state), "{evidence:?}");
        }
        // Nothing goes on with bytes that are not there, nor, after a power cut, with bytes that
        // were never synced.
        if let (Some(State::Receiving { received, .. }), Some(bytes)) = (goes_on, evidence.part) {
            assert!(received <= bytes, "{evidence:?}");
            assert!(
                evidence.survived || received <= record.durable,
                "{evidence:?}"
            );
            assert!(
                matches!(verdict, Verdict::Cut(_)) || received == bytes,
                "{evidence:?}"
            );
        }
        // After a power cut nobody can know that no byte of a file was ever there: it must not
        // become an empty one.
        if let (Some(State::Receiving { total: None, .. }), Some(_)) = (goes_on, evidence.part) {
            assert!(evidence.survived, "{evidence:?}");
        }
        // Only a receiving session is cut, and never where everything survived.
        if let Verdict::Cut(state) = verdict {
            assert!(matches!(state, State::Receiving { .. }) && !evidence.survived);
        }
        // A file is only ever called published that was on its way, and has left its part.
        let is_published = matches!(
            goes_on.or(match verdict {
                Verdict::Ended(ending) => Some(State::Gone(ending)),
                _ => None,
            }),
            Some(State::Published { .. } | State::Gone(Ending::Published))
        );
        let was_told = matches!(
            state,
            State::Published { .. } | State::Gone(Ending::Published)
        );
        if is_published && !was_told {
            assert_eq!(evidence.part, None, "{evidence:?}");
            assert!(!evidence.was_set_aside, "{evidence:?}");
            let is_seen = evidence.destination == OURS;
            assert!(
                is_seen || matches!(state, State::Closing { .. }),
                "{evidence:?}"
            );
        }
        // A reply that may be torn is never served.
        if !evidence.survived && !record.answer.as_ref().unwrap().is_safe {
            assert!(
                goes_on.is_none_or(|state| state.reply() != Reply::File),
                "{evidence:?}"
            );
        }
        // How a session ended stays so.
        if let (State::Gone(ending), Some(_)) = (state, evidence.part) {
            assert_eq!(verdict, Verdict::Ended(ending));
        }
        // The disk is asked only where the answer decides, and once.
        if verdict == Verdict::LookUp {
            assert_eq!(evidence.destination, Destination::Unseen);
            assert_eq!(evidence.part, None);
        }
    });
    assert_eq!(count, states().len() * 6 * 6 * 9 * 64);
}

/// The kinds of states, as the rows of the table name them.
fn kind(state: State) -> &'static str {
    match state {
        State::Receiving { total: None, .. } => "new",
        State::Receiving { .. } => "receiving",
        State::Sealed { .. } => "sealed",
        State::Notified { copies: true, .. } => "notified",
        State::Notified { .. } => "referred",
        State::Denied { .. } => "denied",
        State::Closing {
            then: AfterPublish::End,
            ..
        } => "closing",
        State::Closing { .. } => "publishing",
        State::Published { .. } => "published",
        State::Gone(_) => "gone",
    }
}

/// What is done, without the state that goes on.
fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::GoOn(_) => "go on",
        Verdict::Cut(_) => "cut",
        Verdict::Sync(_) => "sync",
        Verdict::Ended(_) => "ended",
        Verdict::Forget => "forget",
        Verdict::SetAside(IN_THE_DAMAGE) => "aside: damage",
        Verdict::SetAside(TOO_LONG) => "aside: long",
        Verdict::SetAside(TOO_SHORT) => "aside: short",
        Verdict::SetAside(_) => "aside: other",
        Verdict::LookUp => "look up",
    }
}

type Test = fn(&Evidence<'_>) -> bool;

fn bytes(evidence: &Evidence<'_>) -> u64 {
    evidence.part.unwrap_or(0)
}

/// The first row that fits is the verdict. Kinds of states, what must hold besides, what is done.
const TABLE: &[(&str, Test, &str)] = &[
    (
        "new",
        |e| e.part.is_some() && e.may_be_outdated && !e.survived,
        "aside: damage",
    ),
    (
        "notified referred closing publishing published",
        torn_reply,
        "forget",
    ),
    // There is a part, and nothing was lost.
    ("new", |e| e.part == Some(0) && e.survived, "go on"),
    ("new", |e| e.part.is_some() && e.survived, "aside: long"),
    (
        "receiving",
        |e| e.part.is_some() && e.survived && bytes(e) <= TOTAL,
        "go on",
    ),
    (
        "receiving",
        |e| e.part.is_some() && e.survived,
        "aside: long",
    ),
    (
        "sealed closing publishing",
        |e| e.part == Some(TOTAL) && e.survived,
        "go on",
    ),
    (
        "sealed closing publishing",
        |e| e.part.is_some() && e.survived,
        "aside: other",
    ),
    (
        "notified referred denied",
        |e| e.part.is_some() && e.survived,
        "go on",
    ),
    // There is a part, and the power was cut.
    (
        "new receiving",
        |e| e.part.is_some() && bytes(e) < e.record.durable,
        "aside: short",
    ),
    ("new", |e| e.part.is_some(), "forget"),
    ("receiving", |e| e.part.is_some() && !e.is_synced, "forget"),
    ("receiving", |e| e.part.is_some(), "cut"),
    (
        "sealed notified referred denied closing publishing",
        |e| e.part == Some(TOTAL) && e.record.durable == TOTAL,
        "go on",
    ),
    ("closing publishing", |e| e.part.is_some(), "aside: other"),
    (
        "sealed notified referred denied published",
        |e| e.part.is_some(),
        "forget",
    ),
    ("gone", |e| e.part.is_some(), "ended"),
    // There is none.
    (
        "new receiving sealed notified referred denied closing publishing",
        |e| e.was_set_aside,
        "forget",
    ),
    (
        "new receiving sealed notified referred denied closing publishing published gone",
        |e| e.destination == Destination::Nowhere,
        "forget",
    ),
    ("gone", always, "ended"),
    ("published", always, "go on"),
    (
        "closing publishing",
        |e| e.destination == Destination::Store,
        "forget",
    ),
    (
        "closing publishing",
        |e| e.is_synced && is_unsynced(e),
        "sync",
    ),
    ("closing", always, "ended"),
    ("publishing", always, "go on"),
    (
        "referred",
        |e| e.survived || e.record.durable == TOTAL,
        "go on",
    ),
    (
        "sealed notified",
        |e| e.destination == Destination::Unseen,
        "look up",
    ),
    (
        "sealed notified",
        |e| is_ours(e) && e.is_named_early,
        "go on",
    ),
    ("sealed notified", is_ours, "ended"),
    (
        "new receiving sealed notified referred denied",
        always,
        "forget",
    ),
];

fn always(_: &Evidence<'_>) -> bool {
    true
}

fn torn_reply(evidence: &Evidence<'_>) -> bool {
    let is_safe = evidence.record.answer.as_ref().unwrap().is_safe;
    evidence.record.state.reply() == Reply::File && !is_safe && !evidence.survived
}

fn is_ours(evidence: &Evidence<'_>) -> bool {
    evidence.destination == OURS
}

#[test]
fn every_verdict_is_the_tables() {
    let mut is_used = vec![false; TABLE.len()];
    each_combination(|evidence| {
        let kind = kind(evidence.record.state);
        let row = TABLE.iter().position(|(kinds, test, _)| {
            kinds.split(' ').any(|known| known == kind) && test(evidence)
        });
        let row = row.unwrap_or_else(|| panic!("no row for {evidence:?}"));
        is_used[row] = true;
        assert_eq!(word(judge(evidence)), TABLE[row].2, "{evidence:?}");
    });
    let unused = is_used.iter().position(|is_used| !is_used);
    assert_eq!(unused, None, "a row that never decides");
}

#[test]
fn what_goes_on_knows_where_it_stands() {
    let total = Some(TOTAL);
    let receiving = |received| State::Receiving { received, total };
    let record = record(receiving(0), 4, true);
    let evidence = Evidence {
        record: &record,
        may_be_outdated: false,
        part: Some(7),
        was_set_aside: false,
        survived: true,
        destination: Destination::Unseen,
        is_synced: true,
        is_named_early: true,
        was_stopped_cleanly: false,
    };
    assert_eq!(judge(&evidence), Verdict::GoOn(receiving(7)));
    let survived = false;
    let after_power_cut = Evidence {
        survived,
        ..evidence
    };
    assert_eq!(judge(&after_power_cut), Verdict::Cut(receiving(4)));
    let reply = Reply::Elsewhere;
    let closing = Record {
        state: State::Closing {
            total: TOTAL,
            then: AfterPublish::AwaitClose,
            told: Some(reply),
        },
        ..record.clone()
    };
    let gone = Evidence {
        record: &closing,
        part: None,
        ..evidence
    };
    let total = TOTAL;
    assert_eq!(
        judge(&gone),
        Verdict::Sync(State::Published { total, reply })
    );
}

#[test]
fn a_session_that_is_not_settled_goes_on_though_its_file_is_published() {
    let total = TOTAL;
    let closing = State::Closing {
        total,
        then: AfterPublish::End,
        told: None,
    };
    let published = State::Published {
        total,
        reply: Reply::None,
    };
    for (state, survived) in [
        (closing, true),
        (closing, false),
        (State::Sealed { total }, false),
    ] {
        for is_unsettled in [false, true] {
            let record = Record {
                is_unsettled,
                ..record(state, total, true)
            };
            let evidence = Evidence {
                record: &record,
                may_be_outdated: false,
                part: None,
                was_set_aside: false,
                survived,
                destination: OURS,
                is_synced: true,
                is_named_early: false,
                was_stopped_cleanly: false,
            };
            let expected = match (is_unsettled, survived) {
                (true, true) => Verdict::Sync(published),
                (true, false) => Verdict::GoOn(published),
                (false, true) => Verdict::Sync(State::Gone(Ending::Published)),
                (false, false) => Verdict::Ended(Ending::Published),
            };
            assert_eq!(judge(&evidence), expected, "{state:?}");
            // All was synced: there may be nobody who knows on which disk its name is.
            let stopped = Evidence {
                was_stopped_cleanly: true,
                ..evidence
            };
            let expected = match is_unsettled {
                true => Verdict::GoOn(published),
                false => Verdict::Ended(Ending::Published),
            };
            assert_eq!(judge(&stopped), expected, "{state:?}");
        }
    }
}

#[test]
fn what_no_record_says_that_a_store_has_is_not_published() {
    let total = TOTAL;
    for then in [AfterPublish::End, AfterPublish::Promised] {
        let told = None;
        let record = record(State::Closing { total, then, told }, TOTAL, true);
        // Former settings have led into a folder, and it may have its name there.
        let mut named = record.clone();
        named.life.named_ms = 1;
        for survived in [false, true] {
            let cancelled = Evidence {
                record: &record,
                may_be_outdated: false,
                part: None,
                was_set_aside: false,
                survived,
                destination: Destination::Store,
                is_synced: true,
                is_named_early: false,
                was_stopped_cleanly: false,
            };
            assert_eq!(judge(&cancelled), Verdict::Forget);
            let record = &named;
            let named = Evidence {
                record,
                ..cancelled
            };
            assert_eq!(judge(&named), Verdict::Ended(Ending::Published));
        }
    }
}
