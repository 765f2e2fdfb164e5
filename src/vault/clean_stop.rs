//! The note of a clean stop. Everything was synced when it was written, so that after a planned
//! reboot no byte is asked for again: what a record of such a boot says is whole, and the length of
//! its part is the progress.
//!
//! A start takes the note away before it serves. But where a shard could not write its sessions'
//! records anew, they speak of the boot before, and nothing of them has changed since: then it
//! stays. Other shards go on meanwhile, so it says from which journals on, and in which boot. What
//! may stand in the damage of one of these is not believed by the note, unless that boot is this
//! one, in which nothing was lost.
//!
//! A shelf whose disk could not be synced is left out by its own name. Its uploads go on as after a
//! power cut; those of the other disks lose nothing by it.

/// What is known of clean stops. The default is that there was none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CleanStop {
    /// The boots that it vouches for.
    boots: Vec<SyncedIn>,
    /// Absent as long as nobody has served since.
    served: Option<ServedSince>,
}

/// A boot in which everything was synced.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SyncedIn {
    boot: u128,
    /// Except these shelves, by their own names.
    unsynced: Vec<u128>,
}

/// Servers that have served since a clean stop.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ServedSince {
    /// The generation of the first journals of the first of them.
    generation: u64,
    /// The boot, if it was only one.
    boot: Option<u128>,
}

/// What stands before that generation, and between it and the boot.
const SERVED: (&str, &str) = ("served from", " in ");

/// What stands between a boot and the shelves that were not synced in it. A version that does not
/// know it does not understand the line, and takes the boot for one without a clean stop.
const EXCEPT: &str = " except ";

/// Digits of a shelf's own name.
const NAME_DIGITS: usize = 32;

/// Length of a note: one sector, which is written as a whole or not at all.
pub const NOTE_BYTES: usize = 512;

impl CleanStop {
    /// What a note says. Lines that are not understood are left out. A version that does not know
    /// when servers have served since leaves out that line, as if none had.
    pub fn parse(note: &str) -> Self {
        let mut stop = Self::default();
        for line in note.lines().map(str::trim) {
            if let Some(served) = line.strip_prefix(SERVED.0) {
                let (generation, boot) = served.split_once(SERVED.1).unwrap_or_default();
                stop.served = Some(ServedSince {
                    // Nothing is believed too much.
                    generation: u64::from_str_radix(generation.trim(), 16).unwrap_or(0),
                    boot: u128::from_str_radix(boot, 16).ok(),
                });
            } else if let Some(synced) = SyncedIn::parse(line) {
                stop.boots.push(synced);
            }
        }
        stop
    }

    /// The note. It is as long whatever it says, unless it names very many boots: so it can be
    /// written over where the disk has no room for another.
    pub fn render(&self) -> String {
        let boots = self.boots.iter().map(SyncedIn::render);
        let served = self.served.as_ref().map(|served| {
            let (from, within) = SERVED;
            let generation = served.generation;
            match served.boot {
                Some(boot) => format!("{from} {generation:x}{within}{boot:032x}\n"),
                None => format!("{from} {generation:x}{within}several boots\n"),
            }
        });
        let lines: String = boots.chain(served).collect();
        let length = NOTE_BYTES - 1;
        format!("{lines:length$}\n")
    }

    /// Whether it vouches for what was written in this boot: for the work directory at least.
    pub fn covers(&self, boot: u128) -> bool {
        self.synced_in(boot).is_some()
    }

    /// Whether it vouches for another shelf as well, by its own name. One without a name, as older
    /// versions have made them, is taken for synced only where all were.
    pub fn covers_shelf(&self, boot: u128, name: Option<u128>) -> bool {
        let synced = self.synced_in(boot);
        synced.is_some_and(|SyncedIn { unsynced, .. }| match name {
            Some(name) => !unsynced.contains(&name),
            None => unsynced.is_empty(),
        })
    }

    fn synced_in(&self, boot: u128) -> Option<&SyncedIn> {
        self.boots.iter().find(|synced| synced.boot == boot)
    }

    /// Whether it still vouches where a journal of this generation is damaged, in this boot.
    pub fn outlasts_damage(&self, generation: Option<u64>, boot: u128) -> bool {
        let Some(served) = &self.served else {
            return true;
        };
        let is_older = generation.is_some_and(|generation| generation < served.generation);
        is_older || served.boot == Some(boot)
    }

    /// What is left of it once a server serves in this boot, whose journals are of this generation
    /// and later ones: nothing if all records are renewed, and else the boots before.
    #[must_use]
    pub fn at_start(mut self, boot: u128, generation: u64, is_renewed: bool) -> Option<Self> {
        self.boots.retain(|of| of.boot != boot);
        self.served = Some(match self.served {
            None => ServedSince {
                generation,
                boot: Some(boot),
            },
            Some(before) => ServedSince {
                boot: before.boot.filter(|of| *of == boot),
                ..before
            },
        });
        (!is_renewed && !self.boots.is_empty()).then_some(self)
    }

    /// What it becomes with another stop, in this boot, in which all shelves but these were synced.
    /// If not all records were renewed, those that were not still speak of the stop before.
    #[must_use]
    pub fn at_stop(mut self, boot: u128, is_renewed: bool, unsynced: &[u128]) -> Self {
        let is_kept = |before: &SyncedIn| !is_renewed && before.boot != boot;
        self.boots.retain(is_kept);
        self.boots.push(SyncedIn {
            boot,
            unsynced: unsynced.to_vec(),
        });
        self.served = None;
        self
    }
}

impl SyncedIn {
    /// What a line says; `None` if it is not understood.
    fn parse(line: &str) -> Option<Self> {
        let number = |digits: &str| u128::from_str_radix(digits, 16).ok();
        let (boot, unsynced) = line.split_once(EXCEPT).unwrap_or((line, ""));
        // Half of a name would leave another shelf out than the one that was not synced.
        let whole = |name: &str| number(name).filter(|_| name.len() == NAME_DIGITS);
        let unsynced = unsynced.split_whitespace().map(whole);
        Some(Self {
            boot: number(boot)?,
            unsynced: unsynced.collect::<Option<_>>()?,
        })
    }

    fn render(&self) -> String {
        let unsynced: Vec<_> = (self.unsynced.iter())
            .map(|shelf| format!("{shelf:032x}"))
            .collect();
        let except = if unsynced.is_empty() { "" } else { EXCEPT };
        format!("{:032x}{except}{}\n", self.boot, unsynced.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_says_what_was_noted() {
        let stop = CleanStop::default().at_stop(7, true, &[]);
        let stop = stop.at_stop(u128::MAX, false, &[]);
        let boots = format!("{:032x}\n{:032x}\n", 7, u128::MAX);
        assert_eq!(stop.render().trim_end(), boots.trim_end());
        assert_eq!(CleanStop::parse(&stop.render()), stop);
        assert!(stop.covers(7) && stop.covers(u128::MAX) && !stop.covers(8));
        let once = stop.clone().at_start(9, 0x2f, false).unwrap();
        let line = format!("served from 2f in {:032x}", 9);
        assert_eq!(once.render().trim_end(), format!("{boots}{line}"));
        assert_eq!(once.render().len(), stop.render().len());
        assert_eq!(CleanStop::parse(&once.render()), once);
        let twice = once.at_start(10, 0x3f, false).unwrap();
        let line = "served from 2f in several boots";
        assert_eq!(twice.render().trim_end(), format!("{boots}{line}"));
        assert_eq!(CleanStop::parse(&twice.render()), twice);
        // Anything else is no note, and of half a line nothing is believed.
        assert_eq!(CleanStop::parse("\n0ff g\n"), CleanStop::default());
        assert!(!CleanStop::parse("7\nserved from ").outlasts_damage(Some(0), 7));
    }

    #[test]
    fn a_shelf_that_was_not_synced_is_left_out_by_its_name() {
        let stop = CleanStop::default().at_stop(7, true, &[0xa, 0xb]);
        let line = format!("{:032x} except {:032x} {:032x}", 7, 0xa, 0xb);
        assert_eq!(stop.render().trim_end(), line);
        assert_eq!(CleanStop::parse(&stop.render()), stop);
        assert!(stop.covers(7) && stop.covers_shelf(7, Some(0xc)));
        for shelf in [Some(0xa), Some(0xb), None] {
            assert!(!stop.covers_shelf(7, shelf), "{shelf:?}");
        }
        // Of half a line nothing is believed.
        for half in ["x", "0000000000000000000000000000000"] {
            let half = CleanStop::parse(&format!("{:032x} except {half}", 7));
            assert!(!half.covers_shelf(7, Some(0xc)));
        }
        // Another stop in the same boot has synced it, or has not; an earlier boot stays as it was.
        assert!(
            stop.clone()
                .at_stop(7, false, &[])
                .covers_shelf(7, Some(0xa))
        );
        let later = stop.at_stop(8, false, &[]);
        assert!(later.covers_shelf(8, Some(0xa)) && !later.covers_shelf(7, Some(0xa)));
        let worse = later.at_stop(8, false, &[0xa]);
        assert!(!worse.covers_shelf(8, Some(0xa)) && worse.covers_shelf(8, Some(0xb)));
    }

    #[test]
    fn damage_ends_the_belief_where_somebody_has_served_in_another_boot_since() {
        let stop = CleanStop::default().at_stop(7, true, &[]);
        assert!(stop.outlasts_damage(Some(4), 8), "nobody has served since");
        let left = stop.at_start(8, 4, false).unwrap();
        assert!(left.covers(7));
        assert!(
            left.outlasts_damage(Some(4), 8),
            "nothing is lost in a boot"
        );
        assert!(left.outlasts_damage(Some(3), 9), "it is older");
        assert!(!left.outlasts_damage(Some(4), 9));
        assert!(!left.outlasts_damage(None, 9));
        let again = left.clone().at_start(8, 6, false).unwrap();
        assert_eq!(again, left, "the first one counts");
        let twice = left.at_start(9, 6, false).unwrap();
        assert!(twice.outlasts_damage(Some(3), 9) && !twice.outlasts_damage(Some(4), 9));
        let again = twice.at_start(9, 8, false).unwrap();
        assert!(
            !again.outlasts_damage(Some(4), 9),
            "boot 8 is not forgotten"
        );
        // All is synced again.
        assert!(again.at_stop(9, false, &[]).outlasts_damage(Some(4), 10));
    }

    #[test]
    fn a_start_leaves_of_it_what_nobody_has_renewed() {
        let stop = CleanStop::default().at_stop(7, true, &[]);
        assert_eq!(stop.clone().at_start(8, 3, true), None);
        // The same boot is believed as it is, and what comes now is not covered.
        assert_eq!(stop.clone().at_start(7, 3, false), None);
        let both = stop.at_start(8, 3, false).unwrap().at_stop(8, false, &[]);
        assert!(both.covers(7) && both.covers(8));
        let one = both.at_stop(9, true, &[]);
        assert!(!one.covers(7) && one.covers(9));
    }
}
