//! Waiting for a condition that a lock guards: try, register, park, and try again.
//!
//! Owns the loop, and the registration of who is in it. Does not own the lock, nor the conditions, nor who wakes (`waits`).
//!
//! Invariant: nobody is registered who does not wait: a registration is taken back when its owner looks again, and when a park
//! unwinds.

use std::ops::ControlFlow;
use std::sync::MutexGuard;

use weald_runtime::embedding::{Unparked, park_until};
use weald_runtime::time::Instant;

use super::waits::{Key, Waits};

/// How an attempt went: it has a result, or there is something to wait for.
pub(super) type Attempt<T> = ControlFlow<T, Key>;

/// The calling coroutine was cancelled.
pub(super) struct Cancelled;

/// Something with a lock that guards conditions and who waits for them.
pub(super) trait Guarded {
    type State;

    /// Locks for an attempt.
    fn lock(&self) -> MutexGuard<'_, Self::State>;

    /// Locks without letting others run: for what must not be unwound.
    fn lock_in_place(&self) -> MutexGuard<'_, Self::State>;

    fn waits(state: &mut Self::State) -> &mut Waits;
}

/// Repeats `attempt` until it has a result, and parks in between, at most until `deadline`: `None` if it passed. `unlocked` is
/// called after each attempt, before a park.
///
/// # Errors
/// The caller is cancelled.
#[track_caller]
pub(super) fn wait<G: Guarded, T>(
    on: &G,
    deadline: Option<Instant>,
    mut attempt: impl FnMut(&mut G::State) -> Attempt<T>,
    unlocked: impl Fn(),
) -> Result<Option<T>, Cancelled> {
    let mut place = Place { on, registered: None };
    loop {
        let mut state = on.lock();
        place.leave(&mut state);
        let outcome = match attempt(&mut state) {
            ControlFlow::Break(result) => Some(Some(result)),
            ControlFlow::Continue(_) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => Some(None),
            ControlFlow::Continue(key) => {
                place.registered = Some((key, G::waits(&mut state).enlist(key, weald_runtime::current())));
                None
            }
        };
        drop(state);
        unlocked();
        if let Some(outcome) = outcome {
            return Ok(outcome);
        }
        match park_until(deadline) {
            Unparked::Token | Unparked::TimedOut => {}
            Unparked::Cancelled => return Err(Cancelled),
        }
    }
}

/// A registration, taken back when its owner goes.
struct Place<'a, G: Guarded> {
    on: &'a G,
    registered: Option<(Key, u64)>,
}

impl<G: Guarded> Place<'_, G> {
    fn leave(&mut self, state: &mut G::State) {
        if let Some((key, ticket)) = self.registered.take() {
            G::waits(state).leave(key, ticket);
        }
    }
}

impl<G: Guarded> Drop for Place<'_, G> {
    fn drop(&mut self) {
        if self.registered.is_some() {
            let on = self.on;
            self.leave(&mut on.lock_in_place());
        }
    }
}
