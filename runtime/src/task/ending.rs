//! Owns the end of a task: what becomes of a result that nobody wants, what a panic is made of, and the publication.
//!
//! It does not own the order in which the last ones leave (`task_state`).

use super::{JoinError, ShutdownUnwind, TaskPtr};
use crate::contained::{Payload, contained, discard};
use crate::lent_waiter::{self, LentWaiter};
use crate::primitive::atomic::Ordering;
use crate::scheduler::{current, trace};
use crate::task_state::Memory;

impl TaskPtr {
    /// The task, whose function has just returned, has no join handle: what it returned is dropped here, on its own stack, where
    /// that may block and use its locals. They end, and the stage stays empty.
    pub(super) fn end_unwanted<T>(self, returned: Result<T, Payload>) {
        match returned.map(|value| contained(|| drop(value))) {
            Ok(Ok(())) => {}
            Ok(Err(payload)) if payload.is::<ShutdownUnwind>() => {}
            Ok(Err(_)) => self.result_panicked(),
            Err(payload) => self.lose(self.failed(payload)),
        }
        if let Err(payload) = self.locals().end() {
            self.lose(self.failed(payload));
        }
    }

    /// An error that nobody asks for.
    #[cold]
    fn lose(self, error: JoinError) {
        if let JoinError::Panicked(payload) = &error {
            crate::sim::node::on_lost_panic(self, payload);
        }
        discard(error);
    }

    #[cold]
    fn result_panicked(self) {
        tracing::error!(coroutine = self.id(), "the result of a detached coroutine panicked in its drop");
    }

    /// The task's function, or one of its locals, has panicked: tells those who want to hear of it.
    #[cold]
    pub(super) fn failed(self, payload: Payload) -> JoinError {
        if payload.is::<ShutdownUnwind>() {
            return JoinError::ShutDown;
        }
        self.tell_panic();
        trace::panicked(payload.get());
        JoinError::panicked_in(self.header().name(), payload.into_inner())
    }

    /// Says which coroutine has panicked: the panic's message names the thread, which runs many.
    #[cold]
    fn tell_panic(self) {
        let (id, name, spawned_at) = self.identity();
        let coroutine = name.map_or_else(|| format!("coroutine {id}"), |name| format!("coroutine '{name}'"));
        let spawned_at = spawned_at.map_or_else(String::new, |location| format!(", spawned at {location}"));
        eprintln!("  in {coroutine}{}{spawned_at}", crate::sim::node::place_of(id).unwrap_or_default());
    }

    /// Publishes an error for a task that never ran.
    pub(crate) fn refuse(self, error: JoinError) {
        // SAFETY: the task never ran, so the stage belongs to the holder of the scheduler's reference.
        unsafe { (self.header().vtable.refuse)(self.0, error) };
        self.finish();
    }

    /// Publishes the result, wakes the joiner and gives up the scheduler's reference. The stack has been left.
    pub(crate) fn finish(self) {
        let header = self.header();
        // Ordering: Relaxed; compared only. It is what the coroutine that has stopped here wrote, or not that coroutine.
        let beside_joiner = current::is_parking(header.joiner.load(Ordering::Relaxed));
        let finished = beside_joiner.then(|| header.state.finish_beside_joiner()).flatten().unwrap_or_else(|| {
            header.state.finish(|| {
                // SAFETY: nobody will join, so the result is the finisher's.
                let drop_stage = || unsafe { (header.vtable.drop_stage)(self.0) };
                if contained(drop_stage).is_err() {
                    self.result_panicked();
                }
            })
        });
        if finished.wake_joiner {
            // Ordering: Relaxed; `finish` acquired the registration, so the slot is ours.
            let joiner = LentWaiter::from_raw(header.joiner.load(Ordering::Relaxed));
            // SAFETY: the joiner stays until the slot is null.
            let woken = joiner.map(|joiner| unsafe { joiner.wake() });
            // Ordering: Release pairs with the Acquire in `join::Registered`. The last touch: the joiner may free the task.
            header.joiner.store(lent_waiter::none(), Ordering::Release);
            if let Some(woken) = woken {
                woken.unpark();
            }
        }
        if finished.memory == Memory::Free {
            // SAFETY: as the state says.
            unsafe { self.free() };
        }
    }
}
