//! Owns the blocking jobs of a dump: which there are, and which coroutines are in them.
//!
//! A job may have no coroutine any more: its owner was cancelled, and left it to itself.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::Location;
use std::time::Duration;

use super::{CoroutineState, Dump, Rounded};
use crate::blocking::pool::{Pool, Seen};
use crate::time::Instant;

/// [Blocking jobs](crate::unblock) from one place.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JobGroup {
    /// The call: the caller's line.
    pub place: &'static Location<'static>,
    /// How many run, each on a thread.
    pub running: usize,
    /// How many wait for a thread.
    pub queued: usize,
    /// How long the oldest has run, or waited.
    pub longest: Duration,
}

impl Dump {
    /// Adds the pool's jobs, and marks those who wait for them.
    pub(super) fn add_jobs(&mut self, pool: &Pool) {
        let now = Instant::now();
        let jobs = pool.jobs();
        let mut groups = BTreeMap::<_, JobGroup>::new();
        for Seen { origin, running, since } in &jobs {
            let group =
                groups.entry(origin.place).or_insert(JobGroup { place: origin.place, running: 0, queued: 0, longest: Duration::ZERO });
            *(if *running { &mut group.running } else { &mut group.queued }) += 1;
            group.longest = group.longest.max(now - *since);
        }
        for group in &mut self.groups {
            group.in_unblock = group.state == CoroutineState::Parked && group.parked_at.is_some_and(|at| groups.contains_key(at));
        }
        let owners: BTreeMap<_, _> = jobs.iter().map(|job| (job.origin.coroutine, job.origin.place)).collect();
        for coroutine in &mut self.coroutines {
            coroutine.in_unblock = coroutine.parked_at.is_some() && owners.get(&coroutine.id).copied() == coroutine.parked_at;
        }
        self.jobs = groups.into_values().collect();
        self.jobs.sort_by_key(|group| std::cmp::Reverse(group.running + group.queued));
    }
}

impl fmt::Display for JobGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9} blocking jobs from {}", self.running + self.queued, self.place)?;
        if self.queued > 0 {
            write!(f, ", {} of them without a thread", self.queued)?;
        }
        write!(f, ", for up to {}", Rounded(self.longest))
    }
}
