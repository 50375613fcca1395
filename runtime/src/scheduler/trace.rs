//! Owns what a runtime built with [`trace_coroutines`](crate::RuntimeBuilder::trace_coroutines) tells the `tracing` facade: a span for
//! each coroutine, and events for its spawn, its parks and its panic.
//!
//! It does not own long runs, which the watchdog tells. Invariants: a span is entered only while its coroutine runs, so that what the
//! coroutine logs is under it, and what others of the worker log is not; it is closed when the coroutine's stack was left for the last
//! time. A worker without a [`Trace`] pays one test a switch.

use std::any::Any;
use std::collections::BTreeMap;

use tracing::Span;
use tracing::field::display;

use super::current;
use crate::coroutine::Suspend;
use crate::task::{Inspection, TaskPtr, panic_message};

/// The spans of a worker's started coroutines, by their numbers.
#[derive(Default)]
pub(crate) struct Trace {
    spans: BTreeMap<u64, Span>,
}

impl Trace {
    /// Runs the task inside of its span until it suspends or ends. Not inlined: beside it stands the switch that must be.
    #[inline(never)]
    pub(crate) fn resume(&mut self, task: TaskPtr) -> Option<Suspend> {
        let id = task.id();
        let resumed = {
            let _entered = self.spans.entry(id).or_insert_with(|| span(&task.inspect())).enter();
            let resumed = task.resume();
            if let Some(Suspend::Park) = resumed {
                let at = task.inspect().parked_at.map(|(location, _)| display(location));
                tracing::trace!(at, "parks");
            }
            resumed
        };
        if resumed.is_none() {
            self.spans.remove(&id);
        }
        resumed
    }
}

fn span(seen: &Inspection<'_>) -> Span {
    tracing::info_span!(parent: None, "coroutine", id = seen.id, name = seen.name, spawned_at = seen.spawned_at.map(display))
}

/// A coroutine was spawned, by whoever calls.
#[cold]
pub(crate) fn spawned(seen: &Inspection<'_>) {
    tracing::debug!(coroutine = seen.id, name = seen.name, spawned_at = seen.spawned_at.map(display), "spawned");
}

/// The running coroutine ends with a panic, if its runtime wants to hear of it.
#[cold]
pub(crate) fn panicked(payload: &(dyn Any + Send)) {
    if current::with(|local| local.is_some_and(|local| local.shared.traces)) {
        tracing::warn!(message = panic_message(payload).unwrap_or("(no message)"), "panicked");
    }
}
