//! What is stuck, and why: put together of what was refused lately and of what the shards say of
//! their sessions. Pure but for the questions.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::page_view::{AttentionView, NeedView};
use super::survey::{Needy, Noted, Survey, shown};
use crate::bits::session_id::SessionId;
use crate::server::glance::Need;
use crate::server::window::SessionRow;

/// A refusal is looked at for so long: a client that comes back does so after 10 minutes, and is
/// refused again if nothing has changed.
pub const LATELY_MS: u64 = 15 * 60_000;
/// Refusals that are looked at, the newest first.
const REFUSED_MAX: usize = 64;
/// So many are shown.
const NEEDS_MAX: usize = 100;

/// Asks, and puts together. `happened` is what happened lately, in the order of time.
pub fn gather<'k>(
    survey: &Survey<'_>,
    happened: impl DoubleEndedIterator<Item = &'k Noted>,
) -> AttentionView {
    let refused = refused_lately(survey.now_ms(), happened);
    let ids: Vec<_> = refused.iter().filter_map(|known| known.session).collect();
    let rows = survey.these(&ids);
    let needy = survey.needy();
    let mut attention = assemble(survey.now_ms(), &refused, rows, needy);
    attention.is_partial = survey.is_partial.get();
    // All uploads of their locations may wait for these.
    attention.needs.splice(0..0, survey.stuck_events());
    attention
}

/// The last refusal of each session, or of each client and path where there is none; not of a
/// file that has arrived since.
fn refused_lately<'k>(
    now_ms: u64,
    happened: impl DoubleEndedIterator<Item = &'k Noted>,
) -> Vec<&'k Noted> {
    let mut seen = BTreeSet::new();
    let mut arrived = BTreeMap::new();
    let mut refused = Vec::new();
    for known in happened.rev() {
        if now_ms.saturating_sub(known.at_ms) > LATELY_MS || refused.len() == REFUSED_MAX {
            break;
        }
        let path = known.view.path.as_str();
        if known.reaction.is_none() {
            if known.view.is_good {
                arrived.insert(path, known.at_ms);
            }
            continue;
        }
        let who = match known.session {
            Some(id) => (Some(id), None, ""),
            None => (None, known.client, path),
        };
        // Shards share no order within a tick of the clock: what is not later counts as before.
        let has_arrived = arrived.get(path).is_some_and(|at_ms| *at_ms > known.at_ms);
        if !has_arrived && seen.insert(who) {
            refused.push(known);
        }
    }
    refused
}

fn assemble(now_ms: u64, refused: &[&Noted], rows: Vec<SessionRow>, needy: Needy) -> AttentionView {
    let mut rows: BTreeMap<SessionId, SessionRow> =
        rows.into_iter().map(|row| (row.id, row)).collect();
    let mut needs = Vec::new();
    for known in refused {
        let row = known.session.map(|id| rows.remove(&id));
        let row = match row {
            // It never began.
            None => None,
            // It has ended, or went on since.
            Some(None) => continue,
            Some(Some(row)) if row.idle_ms < now_ms.saturating_sub(known.at_ms) => continue,
            Some(Some(row)) => Some(row),
        };
        needs.push((row.as_ref().map(|row| row.id), of_refusal(known, row)));
    }
    let named: BTreeSet<_> = needs.iter().filter_map(|(id, _)| *id).collect();
    let others = needy
        .rows
        .into_iter()
        .filter(|(_, row)| !named.contains(&row.id));
    let others: Vec<_> = others
        .map(|(need, row)| (None, of_need(need, row)))
        .collect();
    needs.extend(others);
    let mut needs: Vec<_> = needs.into_iter().map(|(_, need)| need).collect();
    needs.sort_by_key(|need| {
        let idle = need
            .session
            .as_ref()
            .map_or(0, |session| session.idle_seconds);
        (
            !need.is_ours(),
            rank(&need.need),
            Reverse(need.at_ms),
            Reverse(idle),
        )
    });
    needs.truncate(NEEDS_MAX);
    AttentionView {
        needs,
        quiet: needy.quiet,
        is_partial: false,
    }
}

fn rank(need: &str) -> usize {
    let order = ["refused", "publication", "application", "quiet", "unclosed"];
    order
        .iter()
        .position(|word| *word == need)
        .unwrap_or(order.len())
}

fn of_refusal(known: &Noted, row: Option<SessionRow>) -> NeedView {
    let view = &known.view;
    NeedView {
        need: "refused".to_owned(),
        why: view.why.clone().unwrap_or_default(),
        remedy: view.remedy.clone(),
        then: view.then.clone(),
        at_ms: Some(view.at_ms),
        times: view.times,
        path: view.path.clone(),
        client: view.client.clone(),
        session: row.as_ref().map(shown),
    }
}

fn of_need(need: Need, row: SessionRow) -> NeedView {
    let (word, why, remedy) = match &need {
        Need::Application(said) => {
            let why = match said {
                Some(said) => format!("its application has not taken it: {said}"),
                None => "its application is asked, and has not answered yet".to_owned(),
            };
            ("application", why, Some("look at the application"))
        }
        Need::Publication => {
            let why = "its file could not be given its name yet".to_owned();
            (
                "publication",
                why,
                Some("look for the line of the log that names it"),
            )
        }
        Need::Unclosed => {
            let why = "all of it is here, and its client has not closed it".to_owned();
            ("unclosed", why, None)
        }
        Need::Quiet => {
            let why = "nothing has come for longer than a client takes to come back";
            ("quiet", why.to_owned(), None)
        }
    };
    NeedView {
        need: word.to_owned(),
        why,
        remedy: remedy.map(str::to_owned),
        then: None,
        at_ms: None,
        times: 0,
        path: format!("/{}", row.path.as_str()),
        client: row.client.map(|client| client.to_canonical().to_string()),
        session: Some(shown(&row)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::page_view::HappenedView;
    use crate::bits::refusal::Reaction;
    use crate::bits::session::State;
    use crate::http::path::UploadPath;

    fn known(at_ms: u64, path: &str, session: Option<u128>, is_good: bool) -> Noted {
        Noted {
            view: HappenedView {
                path: path.to_owned(),
                is_good,
                why: Some("the disk is full".to_owned()),
                remedy: Some("free some space".to_owned()),
                ..HappenedView::default()
            },
            session: session.map(SessionId::from_u128),
            client: None,
            reaction: (!is_good).then_some(Reaction::ComesBack),
            at_ms,
        }
    }

    fn row(id: u128, idle_ms: u64) -> SessionRow {
        SessionRow {
            id: SessionId::from_u128(id),
            path: UploadPath::from_text("h/a").unwrap(),
            location: String::new(),
            awaits_disk: false,
            state: State::Receiving {
                received: 1,
                total: None,
            },
            idle_ms,
            expires_in_ms: 1,
            begun_ms: 0,
            is_busy: false,
            client: None,
            user: None,
            agent: None,
            connections: 1,
            interruptions: 0,
            digests: None,
        }
    }

    #[test]
    fn the_last_refusal_counts_unless_the_file_has_arrived_or_it_is_long_ago() {
        let now = 10 * LATELY_MS;
        let happened = [
            known(1, "/old", None, false),
            known(now - 9, "/arrived", None, false),
            known(now - 8, "/a", Some(7), false),
            known(now - 7, "/arrived", None, true),
            known(now - 6, "/a", Some(7), false),
            known(now - 5, "/b", None, true),
            known(now - 5, "/b", None, false),
        ];
        let found = refused_lately(now, happened.iter());
        let found: Vec<_> = found.iter().map(|known| known.at_ms).collect();
        assert_eq!(found, [now - 5, now - 6]);
    }

    #[test]
    fn what_waits_for_somebody_here_stands_first_and_what_went_on_is_left_out() {
        let now = LATELY_MS;
        let (stuck, gone) = (
            known(now - 50, "/a", Some(1), false),
            known(now - 50, "/b", Some(2), false),
        );
        let went_on = known(now - 50, "/c", Some(3), false);
        let never_began = known(now - 10, "/d", None, false);
        let refused = [&stuck, &gone, &went_on, &never_began];
        let needy = Needy {
            rows: vec![
                (Need::Quiet, row(9, 99)),
                (Need::Quiet, row(1, 60)),
                (Need::Publication, row(8, 40)),
            ],
            quiet: 500,
        };
        let attention = assemble(now, &refused, vec![row(1, 60), row(3, 20)], needy);
        let words: Vec<_> = attention
            .needs
            .iter()
            .map(|need| (need.need.as_str(), need.path.as_str()))
            .collect();
        // The session that was refused is not named again for being quiet.
        assert_eq!(
            words,
            [
                ("refused", "/a"),
                ("refused", "/d"),
                ("publication", "/h/a"),
                ("quiet", "/h/a")
            ]
        );
        assert_eq!(attention.quiet, 500);
    }
}
