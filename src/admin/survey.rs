//! Asks all shards, slice by slice, and puts together what they say.
//!
//! A shard that does not answer is left out, and whoever asked is told: half a view with a note
//! is worth more than none.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::IpAddr;

use super::page_view::{FolderView, HappenedView, NeedView, short};
use super::view::SessionView;
use super::{House, targets};
use crate::bits::refusal::Reaction;
use crate::bits::session_id::SessionId;
use crate::server::chronicle::{Happened, What};
use crate::server::glance::Need;
use crate::server::window::{Inquiry, Insight, ROWS_MAX, SessionRow};
use crate::wall_clock;

/// Slices that are asked of one shard for one view: some two million sessions.
const SLICES_MAX: usize = 2_048;
/// Connections of a shard whose uploads are compared, in slices.
const ATTACHED_SLICES_MAX: usize = 16;
/// So many quiet sessions are shown.
pub const QUIET_SHOWN: usize = 50;

/// Asks the shards.
pub struct Survey<'h> {
    house: &'h dyn House,
    /// Whoever asks has others waiting for it.
    is_quick: bool,
    /// A shard has not answered.
    pub is_partial: Cell<bool>,
    /// The clock of the shards, and milliseconds since 1970.
    now: (u64, u64),
}

/// Something that happened, as a person sees it, and what is to be known besides.
#[derive(Clone, Debug)]
pub struct Noted {
    pub view: HappenedView,
    pub session: Option<SessionId>,
    pub client: Option<IpAddr>,
    /// What its client does; `None` if it was no refusal.
    pub reaction: Option<Reaction>,
    /// When, by the clock of the shards.
    pub at_ms: u64,
}

/// Which sessions somebody should look at.
#[derive(Debug, Default)]
pub struct Needy {
    /// In no order.
    pub rows: Vec<(Need, SessionRow)>,
    /// Quiet ones, also those that are not among the rows.
    pub quiet: u64,
}

impl<'h> Survey<'h> {
    /// Of somebody who has time.
    pub fn of(house: &'h dyn House) -> Self {
        Self {
            house,
            is_quick: false,
            is_partial: Cell::new(false),
            now: (house.now_ms(), wall_clock::ms_since_1970()),
        }
    }

    /// Of somebody who has none.
    pub fn quick(house: &'h dyn House) -> Self {
        Self {
            is_quick: true,
            ..Self::of(house)
        }
    }

    /// The clock of the shards when this began.
    pub fn now_ms(&self) -> u64 {
        self.now.0
    }

    /// A time of the shards, in milliseconds since 1970.
    pub fn wall_ms(&self, at_ms: u64) -> u64 {
        self.now.1.saturating_sub(self.now.0.saturating_sub(at_ms))
    }

    fn shards(&self) -> usize {
        self.house.metrics().shards.len()
    }

    /// Events that a target has not taken for long.
    pub fn stuck_events(&self) -> Vec<NeedView> {
        targets::stuck(self.house.metrics().shards.iter().map(|shard| &**shard))
    }

    fn ask(&self, shard: usize, inquiry: Inquiry) -> Option<Insight> {
        let answer = match self.is_quick {
            true => self.house.ask_soon(shard, inquiry),
            false => self.house.ask(shard, inquiry),
        };
        if answer.is_err() {
            self.is_partial.set(true);
        }
        answer.ok()
    }

    /// What happened since `changes`, one number for each shard, which are brought forward.
    pub fn lately(&self, changes: &mut Vec<u64>) -> Vec<Noted> {
        changes.resize(self.shards(), 0);
        let mut found = Vec::new();
        for (shard, change) in changes.iter_mut().enumerate() {
            // What comes meanwhile is for the next time.
            for _ in 0..SLICES_MAX {
                let Some(Insight::Lately(rows)) = self.ask(shard, Inquiry::Lately(*change)) else {
                    break;
                };
                let Some(last) = rows.last() else {
                    break;
                };
                *change = last.change;
                let is_last = rows.len() < ROWS_MAX;
                found.extend(rows.into_iter().map(|row| self.known(shard, row)));
                if is_last {
                    break;
                }
            }
        }
        found.sort_by_key(|known| known.at_ms);
        found
    }

    fn known(&self, shard: usize, row: Happened) -> Noted {
        let reaction = match &row.what {
            What::Refused(why) => Some(why.reaction()),
            What::Ended { .. } => None,
        };
        Noted {
            session: row.session,
            client: row.client.map(|client| client.ip().to_canonical()),
            reaction,
            at_ms: row.at_ms,
            view: HappenedView::of(shard, row, |at_ms| self.wall_ms(at_ms)),
        }
    }

    /// The sessions that somebody should look at; of the quiet ones, those that are it longest.
    pub fn needy(&self) -> Needy {
        let mut needy = Needy::default();
        let mut quiet_ms_min = 0;
        for shard in 0..self.shards() {
            let mut after = None;
            for _ in 0..SLICES_MAX {
                let inquiry = Inquiry::Needy(after, quiet_ms_min);
                let Some(Insight::Needy(slice)) = self.ask(shard, inquiry) else {
                    break;
                };
                needy.quiet += slice.quiet;
                needy.rows.extend(slice.rows);
                if needy.rows.len() > 2 * ROWS_MAX {
                    quiet_ms_min = quiet_ms_min.max(needy.keep_the_quietest());
                }
                after = slice.last;
                if after.is_none() {
                    break;
                }
            }
        }
        needy.keep_the_quietest();
        needy
    }

    /// Sessions by their ids, where they have not ended.
    pub fn these(&self, ids: &[SessionId]) -> Vec<SessionRow> {
        let mut by_shard = BTreeMap::<usize, Vec<SessionId>>::new();
        for id in ids {
            by_shard
                .entry(id.shard(self.shards()))
                .or_default()
                .push(*id);
        }
        let mut rows = Vec::new();
        for (shard, ids) in by_shard {
            for some in ids.chunks(ROWS_MAX) {
                if let Some(Insight::Rows(found)) = self.ask(shard, Inquiry::These(some.into())) {
                    rows.extend(found);
                }
            }
        }
        rows
    }

    /// The sessions whose clients are connected, and how far they are.
    pub fn attached(&self) -> Vec<(SessionId, u64)> {
        let mut found = Vec::new();
        for shard in 0..self.shards() {
            let mut after = None;
            for _ in 0..ATTACHED_SLICES_MAX {
                let Some(Insight::Attached(slice)) = self.ask(shard, Inquiry::Attached(after))
                else {
                    break;
                };
                found.extend(slice.sessions);
                after = slice.last;
                if after.is_none() {
                    break;
                }
            }
        }
        found
    }

    /// All folders, those first that have waited longest for a file; those that never got one
    /// first of all.
    pub fn folders(&self) -> Vec<FolderView> {
        let mut folders = BTreeMap::<String, FolderView>::new();
        for shard in 0..self.shards() {
            let mut after = None;
            for _ in 0..SLICES_MAX {
                let inquiry = Inquiry::Folders(after.clone());
                let Some(Insight::Folders(rows, others)) = self.ask(shard, inquiry) else {
                    break;
                };
                let is_last = rows.len() < ROWS_MAX;
                after = rows.last().map(|row| row.name.clone());
                let others = (is_last && others.files + others.open > 0).then_some((None, others));
                let named = rows
                    .into_iter()
                    .map(|row| (Some(format!("/{}", row.name)), row));
                for (name, row) in named.chain(others) {
                    let name = name.unwrap_or_default();
                    let folder = folders.entry(name.clone()).or_insert_with(|| FolderView {
                        folder: name,
                        ..FolderView::default()
                    });
                    let delivered = row.delivered_ms.map(|at_ms| self.wall_ms(at_ms));
                    folder.delivered_at_ms = folder.delivered_at_ms.max(delivered);
                    folder.open += row.open;
                    folder.files += row.files;
                    folder.bytes += row.bytes;
                }
                if is_last {
                    break;
                }
            }
        }
        let mut folders: Vec<_> = folders.into_values().collect();
        folders.sort_by_key(|folder| folder.delivered_at_ms);
        folders
    }
}

impl Needy {
    /// Drops all quiet ones but those that are it longest; for how long the last one that stays
    /// is, where there are as many as are shown.
    fn keep_the_quietest(&mut self) -> u64 {
        let is_quiet = |(need, _): &(Need, SessionRow)| *need == Need::Quiet;
        self.rows
            .sort_by_key(|row| (is_quiet(row), std::cmp::Reverse(row.1.idle_ms)));
        let others = self.rows.partition_point(|row| !is_quiet(row));
        self.rows.truncate(others + QUIET_SHOWN);
        match self.rows.len() - others {
            QUIET_SHOWN => self.rows[others + QUIET_SHOWN - 1].1.idle_ms,
            _ => 0,
        }
    }
}

/// A session whose id is shown in short.
pub fn shown(row: &SessionRow) -> SessionView {
    SessionView {
        id: short(row.id),
        ..SessionView::of(row)
    }
}
