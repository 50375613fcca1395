//! Owns the look at a task from its home worker: what a dump says of it.
//!
//! It changes nothing, and copies nothing but what a dump keeps.

use std::panic::Location;

use super::TaskPtr;
use crate::coroutine::stack::Bounds;
use crate::park::WaitsFor;
use crate::time::Instant;

/// What can be seen of a task between two of its runs.
pub(crate) struct Inspection<'a> {
    pub(crate) id: u64,
    pub(crate) name: Option<&'a str>,
    pub(crate) spawned_at: Option<&'static Location<'static>>,
    /// Where its last park stands, if it has not come back from it, and the time as of then.
    pub(crate) parked_at: Option<(&'static Location<'static>, Instant)>,
    /// What that park is for.
    pub(crate) waits_for: Option<WaitsFor>,
    /// Only a wake makes it run.
    pub(crate) parked: bool,
    pub(crate) shielded: bool,
    pub(crate) cancelled: bool,
    /// Where its stack lies, and where it ended at the last park.
    pub(crate) stack: Option<(Bounds, usize)>,
}

impl TaskPtr {
    /// The task's number, name, and where it was spawned, none of which ever changes: for a signal handler, which may interrupt a
    /// change of what does.
    pub(crate) fn identity<'a>(self) -> (u64, Option<&'a str>, Option<&'static Location<'static>>) {
        let header = self.header();
        (header.id, header.name(), header.spawned_at)
    }

    /// For the home worker, whose list or queue keeps the task alive for as long as it is looked at.
    pub(crate) fn inspect<'a>(self) -> Inspection<'a> {
        let header = self.header();
        let owner = self.is_started().then(|| self.owner());
        let parked_at = owner.and_then(|owner| Some((owner.parked_at.get()?, owner.parked_since.get())));
        Inspection {
            id: header.id,
            name: header.name(),
            spawned_at: header.spawned_at,
            parked_at,
            waits_for: parked_at.and(owner).map(|owner| owner.waits_for.get()),
            parked: header.state.is_parked(),
            shielded: owner.is_some_and(|owner| owner.shielded.get()),
            cancelled: header.state.is_cancelled(),
            stack: owner.and_then(|owner| Some((owner.overflow.bounds()?, owner.parked_stack.get()))),
        }
    }
}
