//! The note of a clean stop. Everything was synced when it was written, so that after a planned
//! reboot no byte is asked for again: what a record of such a boot says is whole, and the length of
//! its part is the progress.
//!
//! It holds longer than one start: where a shard could not write its sessions' records anew, they
//! speak of the boot before, and nothing of them has changed since. Other shards have gone on
//! meanwhile. So the note says up to which journals it vouches, and what may stand in the damage of
//! a later one is not believed by it ([`super::readback`]).

/// What is known of clean stops. The default is that there was none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CleanStop {
    /// The boots that it vouches for.
    boots: Vec<u128>,
    /// Journals from this generation on were written after it.
    next_generation: u64,
}

/// What stands before the generation.
const GENERATION_WORD: &str = "journals before ";

impl CleanStop {
    /// What a note says. Lines that are not understood are left out: an older note names boots
    /// only, and vouches for no journal.
    pub fn parse(note: &str) -> Self {
        let mut stop = Self::default();
        for line in note.lines().map(str::trim) {
            if let Some(generation) = line.strip_prefix(GENERATION_WORD) {
                stop.next_generation = u64::from_str_radix(generation, 16).unwrap_or(0);
            } else if let Ok(boot) = u128::from_str_radix(line, 16) {
                stop.boots.push(boot);
            }
        }
        stop
    }

    /// The note.
    pub fn render(&self) -> String {
        let boots = self.boots.iter().map(|boot| format!("{boot:032x}\n"));
        let generation = format!("{GENERATION_WORD}{:x}\n", self.next_generation);
        boots.chain([generation]).collect()
    }

    /// Whether it vouches for what was written in this boot.
    pub fn covers(&self, boot: u128) -> bool {
        self.boots.contains(&boot)
    }

    /// Whether a journal of this generation was begun after it.
    pub fn is_before(&self, generation: u64) -> bool {
        generation >= self.next_generation
    }

    /// What is left of it once a server serves in this boot: nothing if all records are renewed,
    /// and else the boots before.
    #[must_use]
    pub fn at_start(mut self, boot: u128, is_renewed: bool) -> Option<Self> {
        self.boots.retain(|of| *of != boot);
        (!is_renewed && !self.boots.is_empty()).then_some(self)
    }

    /// What it becomes with another stop, in this boot, after which all journals are older than
    /// `next_generation`. If not all records were renewed, those that were not still speak of the
    /// stop before.
    #[must_use]
    pub fn at_stop(mut self, boot: u128, next_generation: u64, is_renewed: bool) -> Self {
        if is_renewed {
            self.boots.clear();
        }
        if !self.covers(boot) {
            self.boots.push(boot);
        }
        self.next_generation = next_generation;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_says_what_was_noted() {
        let stop = CleanStop::default().at_stop(7, 0x1f, true);
        let stop = stop.at_stop(u128::MAX, 0x2f, false);
        assert_eq!(
            stop.render(),
            format!("{:032x}\n{:032x}\njournals before 2f\n", 7, u128::MAX)
        );
        assert_eq!(CleanStop::parse(&stop.render()), stop);
        assert!(stop.covers(7) && stop.covers(u128::MAX) && !stop.covers(8));
        assert!(stop.is_before(0x2f) && !stop.is_before(0x2e));
        // Anything else is no note.
        assert_eq!(
            CleanStop::parse("journals before \n\0ff g\n"),
            CleanStop::default()
        );
        let older = CleanStop::parse(&format!("{:032x}\n", 7));
        assert!(older.covers(7) && older.is_before(0));
    }

    #[test]
    fn a_start_leaves_of_it_what_nobody_has_renewed() {
        let stop = CleanStop::default().at_stop(7, 3, true);
        assert_eq!(stop.clone().at_start(8, true), None);
        // The same boot is believed as it is, and what comes now is not covered.
        assert_eq!(stop.clone().at_start(7, false), None);
        let left = stop.at_start(8, false).unwrap();
        assert!(left.covers(7) && left.is_before(3) && !left.is_before(2));
        let both = left.at_stop(8, 5, false);
        assert!(both.covers(7) && both.covers(8) && !both.is_before(4));
        assert!(!both.at_stop(8, 6, true).covers(7));
    }
}
