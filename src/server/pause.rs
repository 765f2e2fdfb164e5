//! How long those are left alone who did not take a file: its application, its object store. Each
//! try costs them the whole file, and costs the client one small packet.

use crate::bits::reply::Refusal;
use crate::vault::disk::Millis;

/// The first pause.
const PAUSE_MS: u64 = 1_000;
/// The longest one.
const PAUSE_MS_MAX: u64 = 60_000;

/// Somebody did not take a file, and is left alone for a while, which doubles each time.
#[derive(Debug)]
pub(super) struct Pause {
    /// What was said.
    refusal: Refusal,
    until: Millis,
    ms: u64,
    /// It was said when no client waited for it.
    is_untold: bool,
}

impl Pause {
    /// Begins after a refusal, in the place of the pause after the last one.
    pub(super) fn renew(
        pause: &mut Option<Box<Self>>,
        now: Millis,
        refusal: &Refusal,
        is_untold: bool,
    ) {
        *pause = Some(Self::after(pause.as_deref(), now, refusal, is_untold));
    }

    /// `before` is the pause after the last one.
    fn after(before: Option<&Self>, now: Millis, refusal: &Refusal, is_untold: bool) -> Box<Self> {
        let ms = (2 * before.map_or(0, |pause| pause.ms)).clamp(PAUSE_MS, PAUSE_MS_MAX);
        Box::new(Self {
            refusal: refusal.clone(),
            until: now.saturating_add(ms),
            ms,
            is_untold,
        })
    }

    /// Whether it goes on.
    pub(super) fn lasts(&self, now: Millis) -> bool {
        now < self.until
    }

    /// What was said.
    pub(super) fn refusal(&self) -> &Refusal {
        &self.refusal
    }

    /// What a client hears instead of a new try: what was said last, as long as the pause lasts.
    /// And once in any case, if that has not been told yet: a client that hears only "not yet" and
    /// has the work begun anew each time it comes back would never hear more.
    pub(super) fn answer(&mut self, now: Millis) -> Option<Refusal> {
        let was_untold = std::mem::take(&mut self.is_untold);
        match self.until.saturating_sub(now) {
            0 => was_untold.then(|| self.refusal.clone()),
            left_ms => Some(Refusal::AsBefore {
                last: Box::new(self.refusal.clone()),
                retry_after_s: left_ms.div_ceil(1_000),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_up_to_a_minute() {
        let mut pause = Pause::after(None, 0, &Refusal::StoreFailed, false);
        let mut lasted = vec![pause.until];
        for _ in 0..8 {
            pause = Pause::after(Some(&pause), 0, &Refusal::StoreFailed, false);
            lasted.push(pause.until);
        }
        let expected = [
            1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000,
        ];
        assert_eq!(lasted, expected);
    }

    #[test]
    fn what_was_said_to_nobody_is_told_once_however_late() {
        let before = |retry_after_s| Refusal::AsBefore {
            last: Box::new(Refusal::TargetExists),
            retry_after_s,
        };
        let after = |is_untold| Pause::after(None, 5_000, &Refusal::TargetExists, is_untold);
        let mut late = after(true);
        assert_eq!(late.answer(6_000), Some(Refusal::TargetExists));
        assert_eq!(late.answer(6_000), None);
        let mut early = after(true);
        assert_eq!(early.answer(5_001), Some(before(1)));
        assert_eq!(early.answer(6_000), None);
        assert_eq!(after(false).answer(6_000), None);
        assert_eq!(after(false).answer(5_999), Some(before(1)));
    }
}
