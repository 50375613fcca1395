//! Waiting until there is something to receive, without receiving it: what the join handle of a scoped coroutine is selected by.
//!
//! Invariant: who waits has the one receiver for itself, so that a message that was handed over can be put back, and nobody else misses it.

use super::{Oneshot, Receiver, State};
use crate::{
    channel::RecvTimeoutError,
    select::{ListArm, Listed, Look},
    spin_lock::SpinLock,
    sync::WaitError,
    wait_list::{Limit, Wait, WaitList},
};

/// The message has come, or never will.
pub struct Settling<'a, T>(&'a Oneshot<T>);

/// [`Settling`] as an arm.
pub(crate) type Settled<'a, T> = Listed<Settling<'a, T>, Option<T>, ()>;

impl<T> Receiver<T> {
    /// Waits until receiving does not wait.
    #[track_caller]
    pub(crate) fn wait_settled(&mut self, limit: Limit) -> Result<(), WaitError> {
        match self.recv_limited(limit) {
            Ok(message) => self.shared.put_back(message),
            Err(RecvTimeoutError::Disconnected) => {}
            Err(RecvTimeoutError::Timeout) => return Err(WaitError::Timeout),
            Err(RecvTimeoutError::Cancelled) => return Err(WaitError::Cancelled),
        }
        Ok(())
    }

    /// [`wait_settled`](Self::wait_settled) to be selected.
    pub(crate) fn settled(&mut self) -> Settled<'_, T> {
        Listed::new(Settling(&self.shared))
    }
}

impl<T> ListArm for Settling<'_, T> {
    type State = State<T>;
    type Payload = Option<T>;
    type Output = ();

    fn lock(&self) -> &SpinLock<State<T>> {
        &self.0.0
    }

    fn waiters(state: &mut State<T>) -> &mut WaitList<Option<T>> {
        &mut state.receiving
    }

    fn attempt(&mut self) -> Option<()> {
        self.0.0.lock().is_settled().then_some(())
    }

    fn look(&self, state: &State<T>, _message: &Option<T>, _own: &Wait) -> Look {
        if state.is_settled() { Look::Ready } else { Look::Waiting(None) }
    }

    fn payload(&mut self) -> Option<T> {
        None
    }

    fn left(&mut self, _message: Option<T>) {}

    fn chosen(&mut self, message: Option<T>) -> Option<()> {
        self.abandoned(message);
        Some(())
    }

    fn abandoned(&mut self, message: Option<T>) {
        if let Some(message) = message {
            self.0.put_back(message);
        }
    }

    fn cancelled(&mut self) {}
}
