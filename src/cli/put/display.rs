//! How an upload is shown: a bar on a terminal, lines elsewhere, nothing when quiet.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use bitsd::client::memory::{Identity, Left};
use bitsd::client::url::Url;
use bitsd::client::{Hitch, Options, Watch};
use bitsd::unseen;

use super::before::Before;
use super::interrupt::{Interrupt, UnderWay};

/// An outage that lasts is told again this often where no bar shows it.
const REMIND: Duration = Duration::from_secs(60);

/// A bar on a terminal; elsewhere a line for each outage, and each minute of it; nothing when
/// quiet.
pub struct Display<'i> {
    name: String,
    form: Form,
    interrupt: &'i Interrupt,
    /// Where a file that is uploaded is noted, if it is one of several.
    before: Option<&'i mut Before>,
    /// When the outage at hand was told last.
    told: Option<Instant>,
}

enum Form {
    Bar(ProgressBar),
    Lines,
    Nothing,
}

impl<'i> Display<'i> {
    /// How it uploads; an interruption needs to know, too.
    pub fn goes_by(&self, options: &Options) {
        if let Some(upload) = &mut *self.interrupt.under_way() {
            upload.options = options.clone();
        }
    }

    /// For one file; of several, its number and how many there are.
    pub fn new(
        file: &Path,
        url: &Url,
        count: Option<(usize, usize)>,
        quiet: bool,
        interrupt: &'i Interrupt,
    ) -> Self {
        let name = match count {
            Some((at, of)) => format!("[{at}/{of}] {}", file.display()),
            None => file.display().to_string(),
        };
        // The bar is drawn past what says sentences.
        let name = unseen::replace(&name, '?');
        let bar = || ProgressBar::new(0).with_style(style(terminal_columns(), Motion::Moving));
        let form = match quiet {
            true => Form::Nothing,
            false if !io::stderr().is_terminal() => Form::Lines,
            false => match bar() {
                // A terminal that cannot draw (TERM=dumb).
                bar if bar.is_hidden() => Form::Lines,
                bar => Form::Bar(bar),
            },
        };
        *interrupt.under_way() = Some(UnderWay {
            options: Options::default(),
            url: url.clone(),
            offset: 0,
            total: 0,
            session: None,
            is_remembered: false,
            bar: match &form {
                Form::Bar(bar) => Some(bar.clone()),
                Form::Lines | Form::Nothing => None,
            },
        });
        Self {
            name,
            form,
            interrupt,
            before: None,
            told: None,
        }
    }

    /// A later run is to know of it.
    pub fn notes_in(&mut self, before: &'i mut Before) {
        self.before = Some(before);
    }

    /// The upload is over.
    pub fn end(&self) {
        if let Form::Bar(bar) = &self.form {
            bar.finish_and_clear();
        }
        self.interrupt.under_way().take();
    }

    fn change(&self, change: impl FnOnce(&mut UnderWay)) {
        if let Some(upload) = self.interrupt.under_way().as_mut() {
            change(upload);
        }
    }
}

impl Watch for Display<'_> {
    fn begins(&mut self, total: u64) {
        self.change(|upload| upload.total = total);
        if let Form::Bar(bar) = &self.form {
            bar.set_length(total);
            bar.set_message(shortened(&self.name, terminal_columns() / 3));
        }
    }

    fn stands_at(&mut self, offset: u64) {
        // Who went on now would hear that the session is gone, and begin another one.
        self.interrupt.stop_here_if_told();
        self.change(|upload| upload.offset = offset);
        if let Form::Bar(bar) = &self.form {
            bar.set_position(offset);
        }
    }

    fn came_forward(&mut self) {
        if self.told.take().is_some()
            && let Form::Bar(bar) = &self.form
        {
            bar.set_style(style(terminal_columns(), Motion::Moving));
        }
    }

    fn has_session(&mut self, session: &Left, is_remembered: bool) {
        self.change(|upload| {
            upload.session = Some(session.clone());
            upload.is_remembered = is_remembered;
        });
    }

    fn is_there(&mut self, identity: &Identity) {
        if let Some(before) = &mut self.before {
            before.add(identity);
        }
    }

    fn hears_nothing(&mut self, silent: Duration) {
        let (name, seconds) = (&self.name, silent.as_secs());
        let line = format!("{name}: no answer for {seconds} s; still waiting");
        match &self.form {
            Form::Bar(bar) => bar.println(line),
            Form::Lines => crate::cli::say(line),
            Form::Nothing => {}
        }
    }

    fn waits(&mut self, why: &Hitch, left: Duration) {
        self.interrupt.stop_here_if_told();
        let is_news = self.told.is_none();
        let name = &self.name;
        let left = HumanDuration(left);
        let line = || {
            let line = format!("{name}: {why}; trying again for {left} (--retry-for)");
            unseen::replace(&line, '?')
        };
        match &self.form {
            // A line of its own above the bar: on a narrow terminal there is no room beside it.
            Form::Bar(bar) if is_news => {
                bar.set_style(style(terminal_columns(), Motion::Waiting));
                bar.println(line());
            }
            Form::Lines if self.told.is_none_or(|told| told.elapsed() >= REMIND) => {
                self.told = Some(Instant::now());
                crate::cli::say(line());
            }
            Form::Bar(_) | Form::Lines | Form::Nothing => {}
        }
        self.told.get_or_insert_with(Instant::now);
    }
}

/// Whether there is a speed to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Motion {
    Moving,
    Waiting,
}

/// What fits: the bar gives way, then the bytes, then the speed.
fn style(columns: usize, motion: Motion) -> ProgressStyle {
    let template = match (columns, motion) {
        (..40, _) => "{msg} {percent:>3}%",
        (..80, Motion::Moving) => "{msg} {wide_bar} {percent:>3}% {bytes_per_sec}",
        (_, Motion::Moving) => {
            "{msg} {wide_bar} {percent:>3}% {bytes}/{total_bytes} {bytes_per_sec} {eta}"
        }
        (..80, Motion::Waiting) => "{msg} {wide_bar} {percent:>3}% waiting",
        (_, Motion::Waiting) => "{msg} {wide_bar} {percent:>3}% {bytes}/{total_bytes} waiting",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Columns of the terminal on stderr.
fn terminal_columns() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stderr());
    let columns = size.map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { 80 } else { columns }
}

/// A name cut to this many characters, in its middle: its beginning and its end say the most.
fn shortened(name: &str, characters_max: usize) -> String {
    let characters: Vec<char> = name.chars().collect();
    let room = characters_max.max(8);
    if characters.len() <= room {
        return name.to_owned();
    }
    let tail = (room - 2) / 2;
    let head = room - 2 - tail;
    let text = |part: &[char]| part.iter().collect::<String>();
    format!(
        "{}..{}",
        text(&characters[..head]),
        text(&characters[characters.len() - tail..])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_keeps_its_beginning_and_its_end() {
        assert_eq!(shortened("short.bin", 20), "short.bin");
        assert_eq!(shortened("a_rather_long_name.7z", 12), "a_rat..me.7z");
        assert_eq!(shortened("äöüäöüäöüäöü", 8), "äöü..äöü");
    }
}
