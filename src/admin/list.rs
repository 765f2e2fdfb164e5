//! The list of uploads that have not ended: `GET /v1/sessions`.

use std::collections::VecDeque;
use std::io::{self, Write};

use super::answer::{AdminAnswer, JsonLines};
use super::filter::Filter;
use super::overview::Overview;
use super::view::{SessionView, Texts, hidden_id};
use super::{Asked, NoAnswer};
use crate::http::head::Version;
use crate::server::window::{Inquiry, Insight};

/// Writes them, one a line, slice by slice.
///
/// # Errors
/// What the stream says.
pub fn write(
    overview: &Overview,
    filter: &Filter,
    hides_ids: bool,
    (out, version): (&mut impl Write, Version),
) -> io::Result<()> {
    // Of those that are still read back nobody knows, and some are no list of all.
    if let Some(why) = overview.recovering() {
        return AdminAnswer::not_all_known(&why).write(out, false);
    }
    let ask = |shard, after| overview.house.begin_to_ask(shard, Inquiry::List(after));
    let shards = 0..overview.house.metrics().shards.len();
    // While a slice is written out, the next one of each shard is on its way.
    let asked: Result<VecDeque<_>, NoAnswer> =
        shards.map(|shard| Ok((shard, ask(shard, None)?))).collect();
    let Ok(mut asked) = asked else {
        return AdminAnswer::no_answer().write(out, false);
    };
    let answer = |asked: &mut VecDeque<(usize, Asked)>| {
        let (shard, asked) = asked.pop_front()?;
        match asked.wait() {
            Ok(Insight::Rows(rows)) => Some((shard, rows)),
            Ok(_) | Err(NoAnswer) => None,
        }
    };
    // Nothing is promised before the first shard has answered.
    let Some(mut slice) = answer(&mut asked) else {
        return AdminAnswer::no_answer().write(out, false);
    };
    let mut lines = JsonLines::begin(out, version)?;
    let mut texts = Texts::default();
    let mut left = filter.limit.unwrap_or(usize::MAX);
    loop {
        let (shard, rows) = slice;
        if let Some(last) = rows.last() {
            match ask(shard, Some(last.id)) {
                Ok(next) => asked.push_back((shard, next)),
                // Cut short, and seen to be.
                Err(NoAnswer) => return Ok(()),
            }
        }
        for row in &rows {
            if left == 0 {
                break;
            }
            let mut session = SessionView::of_row(row, &mut texts);
            if filter.takes(&session) {
                left -= 1;
                let hidden = hides_ids.then(|| hidden_id(session.id));
                session.id = hidden.as_deref().unwrap_or(session.id);
                lines.add(|line| Ok(serde_json::to_writer(line, &session)?))?;
            }
        }
        lines.send()?;
        if left == 0 || asked.is_empty() {
            return lines.end();
        }
        slice = match answer(&mut asked) {
            Some(slice) => slice,
            None => return Ok(()),
        };
    }
}
