//! A channel for exactly one message: an answer, a result.
//!
//! Smaller than a bounded channel and made with one allocation; either end notices when the other is gone.
//!
//! ```
//! use weald_runtime::channel::oneshot;
//!
//! let (sender, receiver) = oneshot::channel();
//! sender.send(42).unwrap();
//! assert_eq!(receiver.recv(), Ok(42));
//! ```
//!
//! Owns the one message and who still wants it. Invariant: the receiver waits only while there is no message and the sender
//! is there; a claimed receiver whose payload is empty was disconnected.

#[cfg(not(loom))]
mod settled;

use std::{fmt, time::Duration};

#[cfg(not(loom))]
pub(crate) use settled::Settled;

use super::{RecvError, RecvTimeoutError, SendError, TryRecvError, wake};
use crate::{
    park::WaitsFor,
    primitive::Arc,
    select::{ListArm, Listed, Look, Selectable},
    spin_lock::SpinLock,
    time::Instant,
    wait_list::{self, Limit, Outcome, Source, Wait, WaitList},
};

/// Makes a channel for one message.
#[must_use]
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    channel_for(WaitsFor::Receive)
}

/// A channel of which a dump calls receiving something else.
pub(crate) fn channel_for<T>(waits_for: WaitsFor) -> (Sender<T>, Receiver<T>) {
    let state = State { message: None, sender: true, receiver: true, receiving: WaitList::new() };
    let shared = Arc::new(Oneshot(SpinLock::new(state), waits_for));
    (Sender { shared: shared.clone() }, Receiver { shared })
}

/// The end that sends the message.
pub struct Sender<T> {
    shared: Arc<Oneshot<T>>,
}

/// The end that receives the message.
pub struct Receiver<T> {
    shared: Arc<Oneshot<T>>,
}

impl<T> Sender<T> {
    /// Sends the message. Never waits.
    ///
    /// # Errors
    /// [`SendError::Disconnected`] with the message if the receiver is gone.
    pub fn send(self, message: T) -> Result<(), SendError<T>> {
        let mut state = self.shared.0.lock();
        if !state.receiver {
            return Err(SendError::Disconnected(message));
        }
        let receiver = match state.receiving.claim_first() {
            Some(receiver) => {
                receiver.with_payload(|payload| *payload = Some(message));
                Some(receiver.deliver())
            }
            None => {
                state.message = Some(message);
                None
            }
        };
        drop(state);
        wake(receiver);
        Ok(())
    }

    /// Whether the receiver is gone, so that the answer need not be worked out.
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        !self.shared.0.lock().receiver
    }
}

impl<T> Receiver<T> {
    /// Takes the message, waiting for it.
    ///
    /// # Errors
    /// [`RecvError::Disconnected`] if the sender is gone without a message, or the message was already taken;
    /// [`RecvError::Cancelled`] if the coroutine is cancelled while it would wait.
    ///
    /// # Panics
    /// If it would have to wait on a worker's own stack, as in a hook; use [`try_recv`](Self::try_recv) there.
    #[track_caller]
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_limited(Limit::Never).map_err(|error| match error {
            RecvTimeoutError::Disconnected => RecvError::Disconnected,
            RecvTimeoutError::Cancelled | RecvTimeoutError::Timeout => RecvError::Cancelled,
        })
    }

    /// Takes the message if it is there.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`] if it may still come, [`TryRecvError::Disconnected`] if not.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.shared.0.lock().take()
    }

    /// Takes the message, waiting at most `timeout` for it.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`RecvTimeoutError::Timeout`].
    ///
    /// # Panics
    /// As [`recv`](Self::recv).
    #[track_caller]
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_limited(Limit::After(timeout))
    }

    /// Takes the message, waiting for it until `deadline`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`RecvTimeoutError::Timeout`].
    ///
    /// # Panics
    /// As [`recv`](Self::recv).
    #[track_caller]
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.recv_limited(Limit::At(deadline))
    }

    /// Receiving the message, for [`select!`](crate::select!) and the functions beside it.
    pub fn receiving(&self) -> Receiving<'_, T> {
        Receiving(&self.shared)
    }

    #[track_caller]
    pub(crate) fn recv_limited(&self, limit: Limit) -> Result<T, RecvTimeoutError> {
        let mut state = self.shared.0.lock();
        match state.take() {
            Ok(message) => Ok(message),
            Err(TryRecvError::Disconnected) => Err(RecvTimeoutError::Disconnected),
            Err(TryRecvError::Empty) => match wait_list::wait(&*self.shared, None, state, limit) {
                (Some(message), _) => Ok(message),
                (None, Outcome::Claimed) => Err(RecvTimeoutError::Disconnected),
                (None, Outcome::TimedOut) => Err(RecvTimeoutError::Timeout),
                (None, Outcome::Cancelled) => Err(RecvTimeoutError::Cancelled),
            },
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.shared.0.lock();
        state.sender = false;
        // Only one who still waits for a message that will not come; a sent one has been claimed already.
        wait_list::wake_all(state, |state| &mut state.receiving, |_| ());
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.shared.0.lock();
        state.receiver = false;
        let unread = state.message.take();
        drop(state);
        drop(unread);
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("oneshot::Sender").field("is_disconnected", &self.is_disconnected()).finish()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("oneshot::Receiver").finish_non_exhaustive()
    }
}

struct Oneshot<T>(SpinLock<State<T>>, WaitsFor);

impl<T> Oneshot<T> {
    /// For a receiver that was handed the message and does not take it: whoever asks next does.
    fn put_back(&self, message: T) {
        self.0.lock().message = Some(message);
    }
}

pub(crate) struct State<T> {
    message: Option<T>,
    sender: bool,
    receiver: bool,
    /// Payload: where to put the message. One receiver, but several threads may wait through a shared reference.
    receiving: WaitList<Option<T>>,
}

impl<T> State<T> {
    /// Whether receiving would not wait.
    fn is_settled(&self) -> bool {
        self.message.is_some() || !self.sender
    }

    fn take(&mut self) -> Result<T, TryRecvError> {
        match self.message.take() {
            Some(message) => Ok(message),
            None if self.sender => Err(TryRecvError::Empty),
            None => Err(TryRecvError::Disconnected),
        }
    }
}

impl<T> Source for Oneshot<T> {
    type State = State<T>;
    type Payload = Option<T>;

    fn waits_for(&self) -> WaitsFor {
        self.1
    }

    fn waiters(state: &mut State<T>) -> &mut WaitList<Option<T>> {
        &mut state.receiving
    }

    /// The receiver is unwinding but may be shared, so its message is kept for whoever asks next.
    fn abandon(&self, message: &mut Option<T>, _claimed: bool) {
        if let Some(message) = message.take() {
            self.put_back(message);
        }
    }
}

/// Receiving the message, to be selected: `recv(receiver)` of [`select!`](crate::select!). Made by [`Receiver::receiving`].
#[must_use = "it does nothing unless it is selected"]
pub struct Receiving<'a, T>(&'a Oneshot<T>);

impl<T> ListArm for Receiving<'_, T> {
    type State = State<T>;
    type Payload = Option<T>;
    type Output = Result<T, RecvError>;

    fn lock(&self) -> &SpinLock<State<T>> {
        &self.0.0
    }

    fn waiters(state: &mut State<T>) -> &mut WaitList<Option<T>> {
        &mut state.receiving
    }

    fn attempt(&mut self) -> Option<Self::Output> {
        match self.0.0.lock().take() {
            Ok(message) => Some(Ok(message)),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(RecvError::Disconnected)),
        }
    }

    fn look(&self, state: &State<T>, _message: &Option<T>, _own: &Wait) -> Look {
        if state.is_settled() { Look::Ready } else { Look::Waiting(None) }
    }

    fn payload(&mut self) -> Option<T> {
        None
    }

    fn left(&mut self, _message: Option<T>) {}

    fn chosen(&mut self, message: Option<T>) -> Option<Self::Output> {
        Some(message.ok_or(RecvError::Disconnected))
    }

    fn abandoned(&mut self, mut message: Option<T>) {
        self.0.abandon(&mut message, true);
    }

    fn cancelled(&mut self) -> Self::Output {
        Err(RecvError::Cancelled)
    }
}

impl<'a, T> Selectable for Receiving<'a, T> {
    type Output = Result<T, RecvError>;
    type Arm = Listed<Self, Option<T>, Result<T, RecvError>>;

    fn into_arm(self) -> Self::Arm {
        Listed::new(self)
    }
}

impl<T> fmt::Debug for Receiving<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("oneshot::Receiving").finish_non_exhaustive()
    }
}
