//! Every state meets every event: what must hold of each transition, and the examples of the rules.

use super::*;
use std::collections::BTreeSet;

const RULES: Rules = Rules {
    fragment_bytes_max: 1 << 20,
    upload_bytes_max: 1 << 40,
    publish_with_last_fragment: false,
    close_creates_empty_file: false,
    notifies: false,
    keeper: Keeper::Folder,
};

fn range(start: u64, end: u64, total: u64) -> ContentRange {
    ContentRange::new(start, end, total).unwrap()
}

/// Every event that a client, the flow or the clock can cause over a 3-byte file.
fn all_events() -> Vec<Step> {
    let mut events = vec![
        Step::EmptyFile,
        Step::Stored { bytes: 1 },
        Step::Stored { bytes: 2 },
        Step::FragmentEnded,
        Step::Sealed,
        Step::Close,
        Step::Published,
        Step::PublishRefused,
        Step::Taken,
        Step::Denied,
        Step::Cancel,
        Step::Expire,
        Step::Poison,
    ];
    for copies in [false, true] {
        for reply in [Reply::None, Reply::File, Reply::Elsewhere] {
            events.push(Step::Notified { copies, reply });
        }
    }
    for total in [2, 3] {
        for start in 0..total {
            for end in start + 1..=total {
                events.push(Step::Fragment(range(start, end, total)));
            }
        }
    }
    events
}

fn all_rules() -> Vec<Rules> {
    let mut all = Vec::new();
    for switches in 0..24 {
        let keeper = [Keeper::Folder, Keeper::Store, Keeper::StoreLater][switches / 8];
        for fragment_bytes_max in [2, 100] {
            for upload_bytes_max in [2, 100] {
                all.push(Rules {
                    fragment_bytes_max,
                    upload_bytes_max,
                    publish_with_last_fragment: switches & 1 != 0,
                    close_creates_empty_file: switches & 2 != 0,
                    notifies: switches & 4 != 0,
                    keeper,
                });
            }
        }
    }
    all
}

/// Goal: no sequence of events breaks an invariant or panics. Method: walk every sequence to
/// depth 7 (states that were seen at the same or a smaller depth are not walked again).
#[test]
fn every_sequence_of_events_keeps_the_invariants() {
    for rules in all_rules() {
        let mut seen: BTreeSet<String> = BTreeSet::new();
        let mut layer = vec![State::NEW];
        for _depth in 0..7 {
            let mut next = Vec::new();
            for state in layer {
                for event in all_events()
                    .into_iter()
                    .filter(|&event| state.admits(event))
                {
                    let (after, decision) = state.on(event, &rules);
                    check_invariants(state, event, after, &decision);
                    check_told(state, after, &decision, &rules);
                    if seen.insert(format!("{after:?}")) {
                        next.push(after);
                    }
                }
            }
            layer = next;
        }
        assert!(
            seen.len() > 10,
            "the walk reached {} states only",
            seen.len()
        );
    }
}

fn check_invariants(before: State, event: Step, after: State, decision: &Decision) {
    let context = format!("{before:?} on {event:?} gave {after:?} and {decision:?}");
    if let State::Receiving { received, total } = after {
        assert!(total.is_none_or(|total| received <= total), "{context}");
        assert!(total.is_some() || received == 0, "{context}");
    }
    if !matches!(after, State::Gone(_)) {
        assert!(
            after.received() >= before.received(),
            "the watermark fell: {context}"
        );
    }
    if matches!(before, State::Gone(_)) {
        assert_eq!(before, after, "the dead rose: {context}");
    }
    match decision {
        Decision::Store(plan) => {
            let State::Receiving {
                received,
                total: Some(total),
            } = after
            else {
                panic!("{context}")
            };
            assert_eq!(plan.at, received, "{context}");
            assert!(plan.bytes > 0 && plan.at + plan.bytes <= total, "{context}");
        }
        Decision::AckFragment { received } => {
            assert_eq!(*received, after.received(), "{context}");
        }
        Decision::Seal { total } => {
            let whole = State::Receiving {
                received: *total,
                total: Some(*total),
            };
            assert_eq!(after, whole, "{context}");
        }
        Decision::Publish => {
            assert!(matches!(after, State::Closing { .. }), "{context}");
            let is_asked_again = matches!(
                event,
                Step::Close | Step::Cancel | Step::Expire | Step::Fragment(_) | Step::EmptyFile
            );
            let may = match before {
                State::Sealed { .. }
                | State::Receiving { .. }
                | State::Notified { copies: true, .. } => true,
                // What came of it; nobody has heard of it yet.
                State::Closing {
                    then: AfterPublish::End | AfterPublish::AwaitClose,
                    ..
                } => is_asked_again,
                _ => false,
            };
            assert!(may, "{context}");
        }
        Decision::Notify => {
            assert!(matches!(after, State::Sealed { .. }), "{context}");
        }
        Decision::Discard { .. } => {
            assert!(matches!(after, State::Gone(_)), "{context}");
            let is_owed = matches!(
                before,
                State::Closing {
                    then: AfterPublish::Promised,
                    ..
                }
            );
            assert!(!is_owed, "promised and thrown away: {context}");
            assert!(
                !matches!(before, State::Published { .. }),
                "published lost: {context}"
            );
        }
        Decision::Refuse(_) if event == Step::Denied => {}
        Decision::Refuse(_) => assert_eq!(before, after, "a refusal changed it: {context}"),
        Decision::Nothing | Decision::Say(_) => {}
    }
}

/// Where an application is to be told, nothing is published and no last byte acked before it
/// said yes.
fn check_told(before: State, after: State, decision: &Decision, rules: &Rules) {
    if !rules.notifies {
        return;
    }
    let context = format!("{before:?} gave {after:?} and {decision:?}");
    if let State::Closing { told, .. } = after {
        assert!(told.is_some(), "published unasked: {context}");
    }
    if let Decision::AckFragment { .. } = decision {
        assert!(!matches!(after, State::Sealed { .. }), "{context}");
    }
}

#[test]
fn a_whole_file_is_told_to_the_application_until_it_answers() {
    let rules = Rules {
        notifies: true,
        ..RULES
    };
    let whole = Step::Fragment(range(0, 5, 5));
    let sealed = State::Sealed { total: 5 };
    let full = State::Receiving {
        received: 5,
        total: Some(5),
    };
    assert_eq!(full.on(Step::Sealed, &rules), (sealed, Decision::Notify));
    assert_eq!(sealed.on(whole, &rules), (sealed, Decision::Notify));
    assert_eq!(sealed.on(Step::Close, &rules), (sealed, Decision::Notify));
    let answer = Step::Notified {
        copies: false,
        reply: Reply::File,
    };
    let (notified, decision) = sealed.on(answer, &rules);
    assert_eq!(decision, Decision::AckFragment { received: 5 });
    assert_eq!(notified.reply(), Reply::File);
    // The cached answer; nobody is asked again.
    assert_eq!(
        notified.on(whole, &rules),
        (notified, Decision::AckFragment { received: 5 })
    );
    let (gone, decision) = notified.on(Step::Close, &rules);
    assert_eq!(gone, State::Gone(Ending::Delivered));
    let answer = Goodbye::Closed;
    assert!(
        matches!(decision, Decision::Discard { answer: given, .. } if given == answer),
        "{decision:?}"
    );
}

#[test]
fn a_file_that_the_application_wants_is_published_and_its_reply_stays() {
    let rules = Rules {
        notifies: true,
        publish_with_last_fragment: true,
        ..RULES
    };
    let answer = Step::Notified {
        copies: true,
        reply: Reply::Elsewhere,
    };
    let (closing, decision) = State::Sealed { total: 5 }.on(answer, &rules);
    assert_eq!(decision, Decision::Publish);
    assert_eq!(
        closing.on(Step::PublishRefused, &rules).0,
        State::Notified {
            total: 5,
            copies: true,
            reply: Reply::Elsewhere
        }
    );
    let (published, _) = closing.on(Step::Published, &rules);
    assert_eq!(published.reply(), Reply::Elsewhere);
}

#[test]
fn what_the_application_refused_for_good_is_not_offered_again() {
    let rules = Rules {
        notifies: true,
        ..RULES
    };
    let refused = Decision::Refuse(Refusal::denied(Some(5)));
    let (denied, decision) = State::Sealed { total: 5 }.on(Step::Denied, &rules);
    assert_eq!(decision, refused);
    let again = denied.on(Step::Fragment(range(0, 5, 5)), &rules);
    assert_eq!(again, (denied, refused));
    let (gone, decision) = denied.on(Step::Close, &rules);
    assert_eq!(gone, State::Gone(Ending::Denied));
    // Nor is the end of the session a success.
    let (ending, answer) = (Ending::Denied, Goodbye::Denied);
    assert_eq!(decision, Decision::Discard { ending, answer });
    assert_eq!(gone.on(Step::Close, &rules).1, Decision::Say(answer));
}

/// protocol.md 4.2 has the length before the place: no answer depends on how much is here.
#[test]
fn a_fragment_that_is_too_long_hears_so_in_each_state() {
    let rules = Rules {
        fragment_bytes_max: 4,
        ..RULES
    };
    let (total, reply) = (5, Reply::None);
    let copies = true;
    for state in [
        State::NEW,
        State::Receiving {
            received: 5,
            total: Some(5),
        },
        State::Sealed { total },
        State::Notified {
            total,
            copies,
            reply,
        },
        State::Denied { total },
        State::Published { total, reply },
    ] {
        let refused = Decision::Refuse(Refusal::FragmentTooLarge { limit: 4 });
        assert_eq!(
            state.on(Step::Fragment(range(0, 5, 5)), &rules),
            (state, refused)
        );
        let (_, decision) = state.on(Step::Fragment(range(0, 5, 6)), &rules);
        let is_first = state == State::NEW;
        let is_other_total = matches!(decision, Decision::Refuse(Refusal::TotalChanged { .. }));
        assert_eq!(is_other_total, !is_first, "{state:?}");
        let (_, decision) = state.on(Step::Fragment(range(1, 5, 5)), &rules);
        let is_too_long = matches!(decision, Decision::Refuse(Refusal::FragmentTooLarge { .. }));
        assert!(!is_too_long, "{state:?}");
    }
}

#[test]
fn the_first_fragment_fixes_the_total() {
    let (state, decision) = State::NEW.on(Step::Fragment(range(0, 2, 3)), &RULES);
    let plan = StorePlan {
        skip: 0,
        at: 0,
        bytes: 2,
        fixes_total: Some(3),
    };
    assert_eq!(decision, Decision::Store(plan));
    let (_, decision) = state.on(Step::Fragment(range(0, 2, 2)), &RULES);
    assert_eq!(
        decision,
        Decision::Refuse(Refusal::TotalChanged { was: 3, is: 2 })
    );
}

#[test]
fn overlap_keeps_the_bytes_already_stored() {
    let state = State::Receiving {
        received: 2,
        total: Some(5),
    };
    let (_, decision) = state.on(Step::Fragment(range(1, 4, 5)), &RULES);
    let plan = StorePlan {
        skip: 1,
        at: 2,
        bytes: 2,
        fixes_total: None,
    };
    assert_eq!(decision, Decision::Store(plan));
}

#[test]
fn a_gap_is_refused_with_the_offset_to_go_on_from() {
    let state = State::Receiving {
        received: 2,
        total: Some(5),
    };
    let (after, decision) = state.on(Step::Fragment(range(3, 5, 5)), &RULES);
    assert_eq!(decision, Decision::Refuse(Refusal::Gap { received: 2 }));
    assert_eq!(after, state);
}

#[test]
fn a_complete_duplicate_never_moves_the_watermark_back() {
    let state = State::Receiving {
        received: 4,
        total: Some(5),
    };
    let (_, decision) = state.on(Step::Fragment(range(0, 2, 5)), &RULES);
    assert_eq!(decision, Decision::AckFragment { received: 4 });
}

#[test]
fn a_file_too_large_is_told_before_a_fragment_too_large() {
    let rules = Rules {
        upload_bytes_max: 10,
        fragment_bytes_max: 4,
        ..RULES
    };
    let (_, decision) = State::NEW.on(Step::Fragment(range(0, 11, 11)), &rules);
    assert_eq!(
        decision,
        Decision::Refuse(Refusal::UploadTooLarge { limit: 10 })
    );
    let (_, decision) = State::NEW.on(Step::Fragment(range(0, 5, 10)), &rules);
    assert_eq!(
        decision,
        Decision::Refuse(Refusal::FragmentTooLarge { limit: 4 })
    );
}

#[test]
fn totals_up_to_the_last_u64_do_not_overflow() {
    let rules = Rules {
        upload_bytes_max: u64::MAX,
        fragment_bytes_max: u64::MAX,
        ..RULES
    };
    let whole = range(0, u64::MAX, u64::MAX);
    let (state, decision) = State::NEW.on(Step::Fragment(whole), &rules);
    assert!(matches!(
        decision,
        Decision::Store(StorePlan {
            bytes: u64::MAX,
            ..
        })
    ));
    let (state, _) = state.on(Step::Stored { bytes: u64::MAX }, &rules);
    let (_, decision) = state.on(Step::FragmentEnded, &rules);
    assert_eq!(decision, Decision::Seal { total: u64::MAX });
}

#[test]
fn close_and_cancel_repeat_their_answers_and_not_each_other() {
    let closed = State::Gone(Ending::Published);
    assert_eq!(
        closed.on(Step::Close, &RULES).1,
        Decision::Say(Goodbye::Closed)
    );
    let refused = Decision::Refuse(Refusal::SessionNotFound);
    assert_eq!(closed.on(Step::Cancel, &RULES).1, refused);
    let cancelled = State::Gone(Ending::Cancelled);
    assert_eq!(
        cancelled.on(Step::Cancel, &RULES).1,
        Decision::Say(Goodbye::Cancelled)
    );
    assert_eq!(cancelled.on(Step::Close, &RULES).1, refused);
}

#[test]
fn closing_an_incomplete_upload_discards_it() {
    let state = State::Receiving {
        received: 2,
        total: Some(5),
    };
    let (after, decision) = state.on(Step::Close, &RULES);
    assert_eq!(after, State::Gone(Ending::Incomplete));
    assert_eq!(
        decision,
        Decision::Discard {
            ending: Ending::Incomplete,
            answer: Goodbye::Closed
        }
    );
}

#[test]
fn closing_a_whole_upload_whose_seal_failed_seals_it_first() {
    let state = State::Receiving {
        received: 5,
        total: Some(5),
    };
    assert_eq!(
        state.on(Step::Close, &RULES),
        (state, Decision::Seal { total: 5 })
    );
}

#[test]
fn a_refused_publication_leaves_the_file_sealed() {
    let sealed = State::Sealed { total: 5 };
    let (closing, decision) = sealed.on(Step::Close, &RULES);
    assert_eq!(decision, Decision::Publish);
    assert_eq!(closing.on(Step::PublishRefused, &RULES).0, sealed);
}

#[test]
fn cancel_after_publication_with_the_last_fragment_keeps_the_file() {
    let published = State::Published {
        total: 5,
        reply: Reply::None,
    };
    let (after, decision) = published.on(Step::Cancel, &RULES);
    assert_eq!(after, State::Gone(Ending::Published));
    assert_eq!(decision, Decision::Say(Goodbye::Cancelled));
}

#[test]
fn a_file_on_its_way_into_a_store_is_closed_again_for_what_came_of_it() {
    let rules = |keeper| Rules { keeper, ..RULES };
    let closing = |then| State::Closing {
        total: 3,
        then,
        told: None,
    };
    let sealed = State::Sealed { total: 3 };
    let end = closing(AfterPublish::End);
    let owed = closing(AfterPublish::Promised);
    let closed = Decision::Say(Goodbye::Closed);
    let on = |state: State, event, keeper| state.on(event, &rules(keeper));
    assert_eq!(
        on(sealed, Step::Close, Keeper::Store),
        (end, Decision::Publish)
    );
    assert_eq!(
        on(end, Step::Close, Keeper::Store),
        (end, Decision::Publish)
    );
    assert_eq!(
        on(end, Step::PublishRefused, Keeper::Store),
        (sealed, Decision::Nothing)
    );
    // Once it was promised, nothing takes it back.
    assert_eq!(
        on(sealed, Step::Close, Keeper::StoreLater),
        (owed, Decision::Publish)
    );
    assert_eq!(
        on(owed, Step::Taken, Keeper::StoreLater),
        (owed, closed.clone())
    );
    // Whatever the settings say by now.
    for keeper in [Keeper::Folder, Keeper::Store, Keeper::StoreLater] {
        assert_eq!(on(owed, Step::Close, keeper), (owed, closed.clone()));
        let unknown = Decision::Refuse(Refusal::SessionNotFound);
        assert_eq!(on(owed, Step::Cancel, keeper), (owed, unknown));
        for event in [Step::Expire, Step::Poison, Step::PublishRefused] {
            assert_eq!(on(owed, event, keeper), (owed, Decision::Nothing));
        }
        let gone = State::Gone(Ending::Published);
        assert_eq!(on(owed, Step::Published, keeper), (gone, closed.clone()));
    }
}

#[test]
fn a_file_whose_name_could_not_be_made_durable_is_published_again_for_whoever_asks() {
    let closing = |then| State::Closing {
        total: 3,
        then,
        told: Some(Reply::Elsewhere),
    };
    let early = closing(AfterPublish::AwaitClose);
    let end = closing(AfterPublish::End);
    let rules = Rules {
        publish_with_last_fragment: true,
        ..RULES
    };
    let last = Step::Fragment(range(0, 2, 3));
    assert_eq!(early.on(last, &rules), (early, Decision::Publish));
    for state in [early, end] {
        for event in [Step::Close, Step::Cancel, Step::Expire] {
            assert_eq!(state.on(event, &rules), (end, Decision::Publish));
        }
    }
    // The bytes are kept, and no more was asked for.
    let received = 3;
    assert_eq!(
        end.on(last, &RULES),
        (end, Decision::AckFragment { received })
    );
}

#[test]
fn a_file_that_goes_into_a_store_later_is_promised() {
    let told = None;
    let closing = |then| State::Closing {
        total: 5,
        then,
        told,
    };
    assert!(closing(AfterPublish::Promised).is_promised());
    assert!(!closing(AfterPublish::End).is_promised());
    assert!(!State::Sealed { total: 5 }.is_promised());
}
