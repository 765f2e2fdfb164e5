//! What the page shows, each second, to all who look: one frame, made once.
//!
//! The numbers that are plotted are taken all the time, since they cost no shard anything. The
//! shards are asked only while somebody looks.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::answer::{AdminAnswer, begin_events};
use super::attention;
use super::overview::Overview;
use super::page_view::{AttentionView, BusyView, FrameView, HistoryView, VerdictView};
use super::samples::Samples;
use super::survey::{Noted, Survey, shown};
use crate::bits::session_id::SessionId;
use crate::wall_clock;

/// Between two frames.
const INTERVAL: Duration = Duration::from_secs(1);
/// Pages that look at the same time; further ones hear 503. They leave places to others
/// ([`super::VIEWERS_MAX`]).
pub const PAGES_MAX: usize = 16;
/// A page hears something at least so often, so that one that has gone is noticed.
const PULSE: Duration = Duration::from_secs(5);
/// How often all sessions are looked through.
const ATTENTION_INTERVAL: Duration = Duration::from_secs(5);
/// What happened is shown so far back.
const LATELY_MAX: usize = 1_000;
/// Of one frame.
const NEW_MAX: usize = 256;
/// Uploads that are shown as busy.
const BUSY_SHOWN: usize = 50;

/// Makes frames.
pub struct Ticker {
    overview: Arc<Overview>,
    state: Mutex<State>,
    /// A frame came, or a page.
    news: Condvar,
}

struct State {
    samples: Samples,
    pages: usize,
    number: u64,
    frame: Arc<str>,
    lately: VecDeque<Noted>,
}

/// What is known while somebody looks.
#[derive(Default)]
struct Watch {
    /// Up to which change each shard was heard.
    changes: Vec<u64>,
    /// How far each upload was, whose client is connected.
    tracks: BTreeMap<SessionId, Track>,
    attention: AttentionView,
    looked: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Track {
    received: u64,
    at_ms: u64,
    /// Bytes a second, smoothed; nothing before the second look.
    rate: Option<f64>,
}

/// One page that looks; counted until it is dropped.
struct Page<'t>(&'t Ticker);

impl Drop for Page<'_> {
    fn drop(&mut self) {
        self.0.lock().pages -= 1;
    }
}

impl Ticker {
    /// Begins to look.
    ///
    /// # Errors
    /// There are no more threads.
    pub fn begin(overview: Arc<Overview>) -> io::Result<Arc<Self>> {
        let ticker = Arc::new(Self {
            overview,
            state: Mutex::default(),
            news: Condvar::new(),
        });
        let weak = Arc::downgrade(&ticker);
        let tick = move || {
            let mut watch = Watch::default();
            let mut next = Instant::now();
            while let Some(ticker) = weak.upgrade() {
                ticker.tick(&mut watch);
                next = (next + INTERVAL).max(Instant::now());
                drop(ticker);
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        };
        thread::Builder::new().name("page".to_owned()).spawn(tick)?;
        Ok(ticker)
    }

    fn tick(&self, watch: &mut Watch) {
        let house = &*self.overview.house;
        let at_ms = wall_clock::ms_since_1970();
        let mut state = self.lock();
        state.samples.take(house.metrics(), at_ms);
        if state.pages == 0 {
            *watch = Watch::default();
            state.lately.clear();
            return;
        }
        drop(state);
        let survey = Survey::quick(house);
        let new = survey.lately(&mut watch.changes);
        let busy = watch.busy(&survey);
        let mut state = self.lock();
        let lately = &mut state.lately;
        lately.retain(|known| new.iter().all(|again| again.view.id != known.view.id));
        lately.extend(new.iter().cloned());
        let too_many = lately.len().saturating_sub(LATELY_MAX);
        lately.drain(..too_many);
        let is_due = (watch.looked).is_none_or(|looked| looked.elapsed() >= ATTENTION_INTERVAL);
        if is_due || !new.is_empty() {
            let lately = state.lately.clone();
            drop(state);
            watch.attention = attention::gather(&survey, lately.iter());
            watch.looked = Some(Instant::now());
            state = self.lock();
        }
        let status = self.overview.status();
        let frame = FrameView {
            number: state.number + 1,
            at_ms,
            verdict: VerdictView::of(&status, &watch.attention),
            status,
            attention: watch.attention.clone(),
            busy,
            lately: new
                .into_iter()
                .rev()
                .take(NEW_MAX)
                .map(|known| known.view)
                .collect(),
            sample: state.samples.last(),
        };
        let text = serde_json::to_string(&frame).unwrap_or_default();
        state.number += 1;
        state.frame = format!("event: frame\ndata: {text}\n\n").into();
        drop(state);
        self.news.notify_all();
    }

    /// Shows a page what happens, until it has seen enough.
    ///
    /// # Errors
    /// What the stream says.
    pub fn show(&self, out: &mut impl Write) -> io::Result<()> {
        let Some(_page) = self.admit() else {
            let why = "as many pages look as may: close one of them first";
            return AdminAnswer::outcome(503, why).write(out, false);
        };
        out.write_all(begin_events().as_bytes())?;
        out.flush()?;
        let mut seen = None;
        loop {
            let (text, number) = self.next(seen);
            seen = number;
            out.write_all(text.as_bytes())?;
            out.flush()?;
        }
    }

    fn admit(&self) -> Option<Page<'_>> {
        let mut state = self.lock();
        if state.pages >= PAGES_MAX {
            return None;
        }
        state.pages += 1;
        Some(Page(self))
    }

    /// What a page that has seen this frame gets next.
    fn next(&self, seen: Option<u64>) -> (String, Option<u64>) {
        let state = self.lock();
        // Who has seen none waits for the first one that is made for it.
        let last = seen.unwrap_or(state.number);
        let is_old = |state: &mut State| state.number == last;
        let waited = self.news.wait_timeout_while(state, PULSE, is_old);
        let (state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return (": nothing yet\n\n".to_owned(), seen);
        }
        let text = match seen.is_some_and(|seen| seen + 1 == state.number) {
            true => state.frame.to_string(),
            // It begins, or has missed something.
            false => format!("{}{}", state.history(), state.frame),
        };
        (text, Some(state.number))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            samples: Samples::default(),
            pages: 0,
            number: 0,
            frame: "".into(),
            lately: VecDeque::new(),
        }
    }
}

impl State {
    fn history(&self) -> String {
        let history = HistoryView {
            seconds: self.samples.seconds().collect(),
            minutes: self.samples.minutes().collect(),
            lately: self.lately.iter().rev().map(|known| &known.view).collect(),
        };
        let text = serde_json::to_string(&history).unwrap_or_default();
        format!("retry: 2000\nevent: history\ndata: {text}\n\n")
    }
}

impl Watch {
    /// The uploads that come fastest, of those that were there a second ago too.
    fn busy(&mut self, survey: &Survey<'_>) -> Vec<BusyView> {
        let before = std::mem::take(&mut self.tracks);
        for (id, received) in survey.attached() {
            let at_ms = survey.now_ms();
            let track = match before.get(&id) {
                Some(before) => before.next(received, at_ms),
                None => Track {
                    received,
                    at_ms,
                    rate: None,
                },
            };
            self.tracks.insert(id, track);
        }
        let mut fastest: Vec<_> = self.tracks.iter().collect();
        fastest.retain(|(_, track)| track.rate.is_some());
        let rate = |track: &Track| track.rate.unwrap_or_default();
        fastest.sort_by(|(_, one), (_, other)| rate(other).total_cmp(&rate(one)));
        fastest.truncate(BUSY_SHOWN);
        let ids: Vec<_> = fastest.iter().map(|(id, _)| **id).collect();
        let mut rows: BTreeMap<_, _> = survey
            .these(&ids)
            .into_iter()
            .map(|row| (row.id, row))
            .collect();
        let shown_of = |(id, track): (&SessionId, &Track)| {
            let session = shown(&rows.remove(id)?);
            let rate = rate(track);
            let left = session
                .total_bytes
                .map(|total| total.saturating_sub(session.received_bytes));
            let left = left.filter(|_| rate >= 1.0).map(|left| left as f64 / rate);
            Some(BusyView {
                session,
                bytes_per_second: whole(rate),
                remaining_seconds: left.map(whole),
            })
        };
        fastest.into_iter().filter_map(shown_of).collect()
    }
}

impl Track {
    /// The same upload, a while later.
    fn next(&self, received: u64, at_ms: u64) -> Self {
        let ms = at_ms.saturating_sub(self.at_ms);
        if ms == 0 {
            return *self;
        }
        let now = received.saturating_sub(self.received) as f64 * 1_000.0 / ms as f64;
        Self {
            received,
            at_ms,
            rate: Some(
                self.rate
                    .map_or(now, |before| before + (now - before) * SMOOTHING),
            ),
        }
    }
}

/// How much of a rate is what came last.
const SMOOTHING: f64 = 0.3;

/// Up to what a number in JSON keeps exactly.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounded here"
)]
fn whole(value: f64) -> u64 {
    value.clamp(0.0, 9e15) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_known_at_the_second_look_and_smoothed() {
        let first = Track {
            received: 0,
            at_ms: 1_000,
            rate: None,
        };
        let second = first.next(1_000, 2_000);
        assert_eq!(second.rate, Some(1_000.0));
        let third = second.next(1_000, 3_000);
        assert_eq!(third.rate, Some(700.0));
        // Two looks in the same moment say nothing.
        assert_eq!(third.next(5_000, 3_000).rate, Some(700.0));
    }
}
