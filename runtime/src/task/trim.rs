//! Owns the look at a parked task for pages of its stack that it can do without.
//!
//! It does not own when that is done (`scheduler::trimmer`) nor what lies where on a stack (`coroutine::stack`). For the home
//! worker's thread, between two of the task's runs.
//!
//! A task that uses its stack between two parks would fault every page in again, at 2 us each, so each trim doubles the time that
//! it must be parked before the next.

use std::time::Duration;

use super::TaskPtr;
use crate::coroutine::Pages;
use crate::time::Instant;

/// The time of a park after which a stack is trimmed grows 64-fold at most.
const MAX_TRIMS: u8 = 6;

/// What a stack can spare.
pub(crate) enum Spare {
    /// Nothing in this park, or it is not parked.
    Nothing,
    /// It is too early to say.
    NotBefore(Instant),
    /// These pages, on which memory is spent. They are unused until the task runs.
    Pages(Pages),
}

impl TaskPtr {
    /// What a started task's stack can spare, if the task has been parked for `after` or longer. It answers once for each park.
    pub(crate) fn spare_stack(self, now: Instant, after: Duration) -> Spare {
        let owner = self.owner();
        let since = owner.parked_since.get();
        if owner.looked_since.get() == since || !self.state().is_parked() {
            return Spare::Nothing;
        }
        let trims = owner.trims.get();
        let ripe = since + after.saturating_mul(1 << trims);
        if now < ripe {
            return Spare::NotBefore(ripe);
        }
        owner.looked_since.set(since);
        let unused = owner.overflow.bounds().and_then(|bounds| bounds.unused(owner.parked_stack.get()));
        match unused.filter(Pages::is_top_resident) {
            Some(pages) => {
                owner.trims.set((trims + 1).min(MAX_TRIMS));
                Spare::Pages(pages)
            }
            None => Spare::Nothing,
        }
    }
}
