//! Channel ends as arms of a `select!`.
//!
//! Owns how a send or a receive is tried, left waiting among others, and settled. Does not own the order of these steps
//! (`select`) nor the channel's rules.
//!
//! Invariant: a message is in exactly one place: with the arm, in the arm's node while that waits, or in the channel.

use std::fmt;

use super::{Channel, ReceiverWait, RecvError, SendError, State, TryRecvError, TrySendError};
use crate::{
    select::{ListArm, Listed, Look, Selectable},
    spin_lock::SpinLock,
    wait_list::{Source, Wait, WaitList},
};

/// Receiving a message, to be selected: `recv(receiver)` of [`select!`](crate::select!). Made by `receiving`.
#[must_use = "it does nothing unless it is selected"]
pub struct Receiving<'a, T>(&'a Channel<T>);

/// Sending a message, to be selected: `send(sender, message)` of [`select!`](crate::select!). Made by
/// [`Sender::sending`](super::Sender::sending).
///
/// The message is dropped if another arm is chosen.
#[must_use = "it does nothing unless it is selected"]
pub struct Sending<'a, T> {
    channel: &'a Channel<T>,
    message: Option<T>,
}

/// Sending a message that stays with the caller unless it is sent. Made by [`Sender::sending_from`](super::Sender::sending_from).
#[must_use = "it does nothing unless it is selected"]
pub struct SendingFrom<'a, T> {
    channel: &'a Channel<T>,
    message: &'a mut Option<T>,
}

impl<T> super::Receiver<T> {
    /// Receiving from this channel, for [`select!`](crate::select!) and the functions beside it.
    pub fn receiving(&self) -> Receiving<'_, T> {
        Receiving(&self.channel)
    }
}

impl<T> super::Sender<T> {
    /// Sending `message` into this channel, for [`select!`](crate::select!) and the functions beside it. If something else is
    /// chosen, the message is dropped.
    pub fn sending(&self, message: T) -> Sending<'_, T> {
        Sending { channel: &self.channel, message: Some(message) }
    }

    /// Sending what is in `message`, taken from there only if it is sent. While there is nothing the arm is left out.
    ///
    /// ```
    /// use weald_runtime::{channel, select};
    ///
    /// let (sender, _receiver) = channel::bounded(1);
    /// let (_other, commands) = channel::unbounded::<u8>();
    /// let mut first = Some("one");
    /// let mut second = Some("two");
    /// for next in [&mut first, &mut second] {
    ///     select! {
    ///         wait(sender.sending_from(next)) -> sent => sent.unwrap(),
    ///         recv(commands) -> _ => unreachable!(),
    ///         default => {}
    ///     }
    /// }
    /// assert_eq!((first, second), (None, Some("two"))); // there was room for one
    /// ```
    pub fn sending_from<'a>(&'a self, message: &'a mut Option<T>) -> SendingFrom<'a, T> {
        SendingFrom { channel: &self.channel, message }
    }
}

impl<T> Channel<T> {
    /// `None` if there is no message, or no room for it.
    fn attempt_send(&self, message: &mut Option<T>) -> Option<Result<(), TrySendError<T>>> {
        match self.offer(message.take()?) {
            Ok(()) => Some(Ok(())),
            Err((TrySendError::Full(given_back), state)) => {
                drop(state);
                *message = Some(given_back);
                None
            }
            Err((disconnected, _)) => Some(Err(disconnected)),
        }
    }

    /// A channel that is full without its batch is full.
    fn look_for_room(&self, state: &State<T>, message: &Option<T>, own: &Wait) -> Look {
        if message.is_none() {
            return Look::Absent;
        }
        if state.receivers == 0 || !state.buffer.is_full() || state.receiving.has_rival(own) {
            return Look::Ready;
        }
        Look::Waiting(None)
    }

    /// While there is a batch nothing more is known, and a try finds out.
    fn look_for_message(&self, state: &State<T>, own: &Wait) -> Look {
        if state.senders == 0 || self.batch.is_filled() || state.len() > 0 || state.sending.has_rival(own) {
            return Look::Ready;
        }
        Look::Waiting(state.due())
    }
}

impl<T> ListArm for Receiving<'_, T> {
    type State = State<T>;
    type Payload = Option<T>;
    type Output = Result<T, RecvError>;

    fn lock(&self) -> &SpinLock<State<T>> {
        &self.0.state.0
    }

    fn waiters(state: &mut State<T>) -> &mut WaitList<Option<T>> {
        &mut state.receiving
    }

    fn attempt(&mut self) -> Option<Self::Output> {
        match self.0.take() {
            Ok(message) => Some(Ok(message)),
            Err((TryRecvError::Empty, _)) => None,
            Err((TryRecvError::Disconnected, _)) => Some(Err(RecvError::Disconnected)),
        }
    }

    fn look(&self, state: &State<T>, _message: &Option<T>, own: &Wait) -> Look {
        self.0.look_for_message(state, own)
    }

    fn payload(&mut self) -> Option<T> {
        None
    }

    fn left(&mut self, _message: Option<T>) {}

    fn chosen(&mut self, message: Option<T>) -> Option<Self::Output> {
        Some(message.ok_or(RecvError::Disconnected))
    }

    fn abandoned(&mut self, mut message: Option<T>) {
        ReceiverWait(self.0).abandon(&mut message, true);
    }

    fn cancelled(&mut self) -> Self::Output {
        Err(RecvError::Cancelled)
    }
}

impl<T> ListArm for Sending<'_, T> {
    type State = State<T>;
    type Payload = Option<T>;
    type Output = Result<(), SendError<T>>;

    fn lock(&self) -> &SpinLock<State<T>> {
        &self.channel.state.0
    }

    fn waiters(state: &mut State<T>) -> &mut WaitList<Option<T>> {
        &mut state.sending
    }

    fn attempt(&mut self) -> Option<Self::Output> {
        let sent = self.channel.attempt_send(&mut self.message)?;
        Some(sent.map_err(|error| SendError::Disconnected(error.into_inner())))
    }

    fn look(&self, state: &State<T>, message: &Option<T>, own: &Wait) -> Look {
        self.channel.look_for_room(state, message, own)
    }

    fn payload(&mut self) -> Option<T> {
        self.message.take()
    }

    fn left(&mut self, message: Option<T>) {
        self.message = message;
    }

    fn chosen(&mut self, message: Option<T>) -> Option<Self::Output> {
        Some(message.map_or(Ok(()), |message| Err(SendError::Disconnected(message))))
    }

    fn abandoned(&mut self, _message: Option<T>) {}

    fn cancelled(&mut self) -> Self::Output {
        Err(SendError::Cancelled(self.message.take().expect("a message that was not sent is with its arm")))
    }
}

impl<T> ListArm for SendingFrom<'_, T> {
    type State = State<T>;
    type Payload = Option<T>;
    type Output = Result<(), SendError<()>>;

    fn lock(&self) -> &SpinLock<State<T>> {
        &self.channel.state.0
    }

    fn waiters(state: &mut State<T>) -> &mut WaitList<Option<T>> {
        &mut state.sending
    }

    fn attempt(&mut self) -> Option<Self::Output> {
        match self.channel.attempt_send(self.message)? {
            Ok(()) => Some(Ok(())),
            Err(error) => {
                *self.message = Some(error.into_inner());
                Some(Err(SendError::Disconnected(())))
            }
        }
    }

    fn look(&self, state: &State<T>, message: &Option<T>, own: &Wait) -> Look {
        self.channel.look_for_room(state, message, own)
    }

    fn payload(&mut self) -> Option<T> {
        self.message.take()
    }

    fn left(&mut self, message: Option<T>) {
        *self.message = message;
    }

    fn chosen(&mut self, message: Option<T>) -> Option<Self::Output> {
        *self.message = message;
        Some(if self.message.is_none() { Ok(()) } else { Err(SendError::Disconnected(())) })
    }

    fn abandoned(&mut self, message: Option<T>) {
        *self.message = message;
    }

    fn cancelled(&mut self) -> Self::Output {
        Err(SendError::Cancelled(()))
    }
}

/// Makes a [`ListArm`] selectable.
macro_rules! selectable {
    ($arm:ident, $output:ty) => {
        impl<'a, T> Selectable for $arm<'a, T> {
            type Output = $output;
            type Arm = Listed<Self, Option<T>, $output>;

            fn into_arm(self) -> Self::Arm {
                Listed::new(self)
            }
        }

        impl<T> fmt::Debug for $arm<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($arm)).finish_non_exhaustive()
            }
        }
    };
}

selectable!(Receiving, Result<T, RecvError>);
selectable!(Sending, Result<(), SendError<T>>);
selectable!(SendingFrom, Result<(), SendError<()>>);
