//! From the macros of `tracing` to a [`Line`].

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::line::{Line, Style};

/// Makes a line of each event and gives it away. Events are filtered before.
pub struct Lines<G, F> {
    /// How lines look at the moment.
    pub style: G,
    /// Who takes them.
    pub take: F,
}

impl<S, G, F> Layer<S> for Lines<G, F>
where
    S: Subscriber,
    G: Fn() -> Style + 'static,
    F: Fn(String) + 'static,
{
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut head = Head::default();
        event.record(&mut head);
        let word = if head.event.is_empty() {
            OTHER
        } else {
            head.event.as_str()
        };
        let level = *event.metadata().level();
        let mut line = Line::new((self.style)(), level, word, &head.message);
        event.record(&mut Rest(&mut line));
        (self.take)(line.end());
    }
}

/// What stands first in every line.
#[derive(Default)]
struct Head {
    event: String,
    message: String,
}

impl Visit for Head {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            EVENT => value.clone_into(&mut self.event),
            MESSAGE => value.clone_into(&mut self.message),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == MESSAGE {
            self.message = format!("{value:?}");
        }
    }
}

/// All other fields, in the order of the call.
struct Rest<'l>(&'l mut Line);

impl Visit for Rest<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if !matches!(field.name(), EVENT | MESSAGE) {
            self.0.quoted(field.name(), value);
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.number(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.number(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.number(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() != MESSAGE {
            self.0.word(field.name(), &format!("{value:?}"));
        }
    }
}

const EVENT: &str = "event";
const MESSAGE: &str = "message";
/// The word of a line that has none; no call of ours leaves it out.
const OTHER: &str = "other";
