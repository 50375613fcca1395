//! Owns the decision whether a worker that has nothing to do polls for a while or sleeps at once.
//!
//! It does not own the polling nor the sleep, and reads no clock.
//!
//! A ring through the kernel costs 10 us and more, so polling pays when work comes soon. It does harm when the one who would
//! bring the work waits for this very processor: then each spin holds it up, and the work comes as soon as the worker sleeps.
//! A short sleep that follows a spin in vain looks as if polling would have found the work, and is evidence of the contrary
//! (seen as round trips of 53 and 103 us, which are spins, between two workers on a busy machine; ARCHITECTURE.md has them). So spins
//! in vain use up a credit, only a spin that finds something restores it, and short sleeps earn no more than a probe: one
//! spin after so many of them, twice as many after each probe in vain.

use std::time::Duration;

/// How long a worker polls.
pub(crate) const SPIN_TIME: Duration = Duration::from_micros(50);
/// A sleep that polling might have spared: the kernel's wake-up takes its part of it.
const SHORT_SLEEP: Duration = Duration::from_micros(100);
/// How many spins in vain it takes until a worker sleeps at once.
const CREDIT: u32 = 4;
/// Short sleeps before the first probe.
const FIRST_PROBE: u32 = 16;
/// Short sleeps before a probe, at most: spins in vain then cost below a twentieth of the time.
const RAREST_PROBE: u32 = 256;

/// What a worker has learnt of spinning.
#[derive(Debug)]
pub(crate) struct Spinning {
    credit: u32,
    /// Short sleeps until the next probe, while there is no credit.
    probe_in: u32,
    /// What `probe_in` will be set to.
    backoff: u32,
}

impl Spinning {
    pub(crate) fn new() -> Self {
        Self { credit: CREDIT, probe_in: 0, backoff: FIRST_PROBE }
    }

    /// Whether to poll before the next sleep.
    pub(crate) fn pays(&self) -> bool {
        self.credit > 0
    }

    /// Polling found something to do.
    pub(crate) fn found(&mut self) {
        self.credit = CREDIT;
        self.backoff = (self.backoff / 2).max(FIRST_PROBE);
    }

    /// Polling found nothing.
    pub(crate) fn in_vain(&mut self) {
        self.credit -= 1;
        if self.credit == 0 {
            self.probe_in = self.backoff;
            self.backoff = (self.backoff * 2).min(RAREST_PROBE);
        }
    }

    /// A sleep took so long.
    pub(crate) fn slept(&mut self, time: Duration) {
        if self.credit == 0 && time < SHORT_SLEEP {
            self.probe_in -= 1;
            if self.probe_in == 0 {
                self.credit = 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_micros(5);

    /// Short sleeps until the next spin.
    fn sleeps_until_probe(spinning: &mut Spinning) -> u32 {
        (0..).take_while(|_| !spinning.pays() && (spinning.slept(SHORT), true).1).count() as u32
    }

    #[test]
    fn spins_in_vain_become_rare_although_each_sleep_after_them_is_short() {
        let mut spinning = Spinning::new();
        for _ in 0..CREDIT {
            assert!(spinning.pays());
            spinning.in_vain();
            spinning.slept(SHORT);
        }
        let mut between = Vec::new();
        for _ in 0..7 {
            between.push(sleeps_until_probe(&mut spinning));
            spinning.in_vain();
        }
        // The last of the first four sleeps counts for the first probe.
        assert_eq!(between, [15, 32, 64, 128, 256, 256, 256]);
    }

    #[test]
    fn a_probe_that_finds_something_restores_spinning() {
        let mut spinning = Spinning::new();
        (0..CREDIT).for_each(|_| spinning.in_vain());
        assert!(!spinning.pays());
        spinning.slept(Duration::from_secs(1));
        assert_eq!(sleeps_until_probe(&mut spinning), FIRST_PROBE, "a long sleep says nothing");
        spinning.found();
        (0..CREDIT).for_each(|_| {
            assert!(spinning.pays());
            spinning.in_vain();
        });
        assert_eq!(sleeps_until_probe(&mut spinning), FIRST_PROBE);
    }
}
