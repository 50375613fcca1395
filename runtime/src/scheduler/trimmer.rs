//! Owns the time when a worker looks over its parked coroutines for stack memory to give back.
//!
//! It does not own what a stack can spare (`task::trim`) nor the pages (`coroutine::memory`).
//!
//! It walks over the started coroutines in small batches. Nothing is noted at a switch: a walk becomes due when the worker has
//! counted parks since the last one, or that one found coroutines that had not been parked for long enough. So a worker on which
//! nothing parks is not woken.
//!
//! Invariants:
//! - Looking in vain takes at most 1/200 of the worker's time, trimming a fifth.
//! - The pages of a batch go back before any coroutine runs.

use std::time::Duration;

use crate::coroutine::{self, Pages};
use crate::task::{Spare, StartedTasks};
use crate::time::Instant;

/// Coroutines looked at in one batch, at most: 0.02 us each where memory is cached, 0.4 where it is not.
const LOOKS: usize = 256;
/// Stacks in one batch, at most: a system call, and 1 to 3 us each if they had used 32 KiB.
const TRIMS: usize = 32;
/// After a batch in which less than every eighth coroutine had something to spare, so many times its duration passes to the next.
const REST_AFTER_LOOKS: u32 = 200;
/// As above, after any other batch.
const REST_AFTER_TRIMS: u32 = 4;

/// What a batch takes, at most. One that took longer stood still while the system ran others, and that was not its time.
const LONGEST: Duration = Duration::from_micros(200);

/// One worker's.
pub(crate) struct Trimmer {
    /// How long a coroutine is parked before its stack is trimmed.
    after: Duration,
    /// The worker's count of parks as last seen.
    parks: u64,
    /// When the next walk should begin.
    next_walk: Option<Instant>,
    is_walking: bool,
    /// No batch before.
    rest_until: Instant,
    pages: Vec<Pages>,
}

impl Trimmer {
    /// With nothing to do until [`observe`](Self::observe) sees a park.
    pub(crate) fn new(after: Duration) -> Self {
        let rest_until = Instant::default();
        Self { after, parks: 0, next_walk: None, is_walking: false, rest_until, pages: Vec::with_capacity(TRIMS) }
    }

    /// Takes notice of the worker's count of parks.
    #[inline]
    pub(crate) fn observe(&mut self, parks: u64, now: Instant) {
        if parks != self.parks {
            self.parks = parks;
            self.walk_by(now + self.after);
        }
    }

    /// When there will be something to look at.
    pub(crate) fn due(&self) -> Option<Instant> {
        if self.is_walking { Some(self.rest_until) } else { self.next_walk.map(|next| next.max(self.rest_until)) }
    }

    /// Looks at a batch, if one is due.
    #[inline]
    pub(crate) fn poll(&mut self, started: &StartedTasks, now: Instant) {
        if self.due().is_some_and(|due| due <= now) {
            self.look(started);
        }
    }

    fn look(&mut self, started: &StartedTasks) {
        let begin = Instant::now();
        if !self.is_walking {
            self.is_walking = true;
            self.next_walk = None;
            started.begin_walk();
        }
        let mut looks = 0;
        while looks < LOOKS && self.pages.len() < TRIMS {
            looks += 1;
            let Some(task) = started.walk() else {
                self.is_walking = false;
                break;
            };
            match task.spare_stack(begin, self.after) {
                Spare::Nothing => {}
                Spare::NotBefore(ripe) => self.walk_by(ripe),
                Spare::Pages(pages) => self.pages.push(pages),
            }
        }
        let found = self.pages.len();
        // SAFETY: none of these tasks has run since they were found to be unused, for this is the worker's thread.
        unsafe { coroutine::give_back(&self.pages) };
        self.pages.clear();
        let end = Instant::now();
        self.rest_until = end + rest(end - begin, looks, found);
    }

    fn walk_by(&mut self, time: Instant) {
        self.next_walk = Some(self.next_walk.map_or(time, |next| next.min(time)));
    }
}

/// How long nothing is looked at after a batch of so many looks, of which some found something.
fn rest(spent: Duration, looks: usize, found: usize) -> Duration {
    spent.min(LONGEST) * if found * 8 < looks { REST_AFTER_LOOKS } else { REST_AFTER_TRIMS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_is_long_after_looks_in_vain_but_not_because_the_system_ran_others() {
        let spent = Duration::from_micros(100);
        assert_eq!(rest(spent, LOOKS, 31), Duration::from_millis(20));
        assert_eq!(rest(spent, LOOKS, 32), Duration::from_micros(400));
        assert_eq!(rest(Duration::from_secs(1), LOOKS, 0), Duration::from_millis(40));
    }
}
