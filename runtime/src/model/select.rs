//! `select!` in a model: it tries its arms in order, and lets the others go on between two rounds.
//!
//! Owns the arms; the syntax is the shipping macro's, and so is [`Readiness`], which nobody is registered with here: it is tried again and
//! again. Of several arms that are ready the first is chosen.

#[path = "../select/macros.rs"]
mod macros;
#[path = "../select/readiness.rs"]
mod readiness;

use std::time::Duration;

pub use self::readiness::Readiness;
use super::channel::{Receiver, RecvError, SendError, Sender, TryRecvError, TrySendError, oneshot};
use super::sync::Cancelled;
use super::{CancellationToken, JoinHandle, ScopedJoinHandle, before_deadline};

/// What can be an arm: `wait(selectable) -> output => body`.
pub trait Selectable {
    /// What the arm is given when it is chosen.
    type Output;

    #[doc(hidden)]
    type Arm: Arm<Output = Self::Output>;

    #[doc(hidden)]
    fn into_arm(self) -> Self::Arm;
}

/// One arm.
pub trait Arm {
    /// What the arm gives when it is chosen.
    type Output;

    /// Takes the output if it is there.
    fn attempt(&mut self) -> Option<Self::Output>;

    /// The output when the caller is cancelled.
    fn cancelled(&mut self) -> Self::Output;
}

#[doc(hidden)]
#[derive(Debug)]
pub struct Ready<S>(S);

impl<S: Readiness> Selectable for S {
    type Output = S::Output;
    type Arm = Ready<S>;

    fn into_arm(self) -> Ready<S> {
        Ready(self)
    }
}

impl<S: Readiness> Arm for Ready<S> {
    type Output = S::Output;

    fn attempt(&mut self) -> Option<S::Output> {
        self.0.attempt()
    }

    fn cancelled(&mut self) -> S::Output {
        self.0.cancelled()
    }
}

/// An arm that is selected as itself.
macro_rules! arm {
    ([$($parameters:tt)*] $arm:ty, $output:ty, $self:ident => $attempt:expr, $cancelled:expr) => {
        impl<$($parameters)*> Arm for $arm {
            type Output = $output;

            fn attempt(&mut $self) -> Option<$output> {
                $attempt
            }

            fn cancelled(&mut $self) -> $output {
                $cancelled
            }
        }

        impl<$($parameters)*> Selectable for $arm {
            type Output = $output;
            type Arm = Self;

            fn into_arm(self) -> Self {
                self
            }
        }
    };
}

/// Receiving a message. Made by `receiving`.
#[derive(Debug)]
pub struct Receiving<'a, T>(&'a Receiver<T>);

/// Sending a message. Made by `sending`.
#[derive(Debug)]
pub struct Sending<'a, T>(&'a Sender<T>, Option<T>);

/// Sending a message that stays with the caller unless it is sent. Made by `sending_from`.
#[derive(Debug)]
pub struct SendingFrom<'a, T>(&'a Sender<T>, &'a mut Option<T>);

arm!(['a, T] Receiving<'a, T>, Result<T, RecvError>, self => match self.0.try_recv() {
    Err(TryRecvError::Empty) => None,
    received => Some(received.map_err(|_| RecvError::Disconnected)),
}, Err(RecvError::Cancelled));
arm!(['a, T] Sending<'a, T>, Result<(), SendError<T>>, self => attempt_send(self.0, &mut self.1), refused(self.1.take()));
arm!(['a, T] SendingFrom<'a, T>, Result<(), SendError<T>>, self => attempt_send(self.0, self.1), refused(self.1.take()));
arm!(['a, T] &'a mut JoinHandle<T>, (), self => self.is_finished().then_some(()), ());
arm!(['a, 'scope, T] &'a mut ScopedJoinHandle<'scope, T>, (), self => self.is_finished().then_some(()), ());
arm!(['a] &'a CancellationToken, Result<(), Cancelled>, self => self.is_cancelled().then_some(Ok(())), Err(Cancelled::new(())));

fn refused<T>(message: Option<T>) -> Result<(), SendError<T>> {
    message.map_or(Ok(()), |message| Err(SendError::Cancelled(message)))
}

fn attempt_send<T>(sender: &Sender<T>, message: &mut Option<T>) -> Option<Result<(), SendError<T>>> {
    match sender.try_send(message.take()?) {
        Ok(()) => Some(Ok(())),
        Err(TrySendError::Disconnected(message)) => Some(Err(SendError::Disconnected(message))),
        Err(TrySendError::Full(refused)) => {
            *message = Some(refused);
            None
        }
    }
}

impl<T> Receiver<T> {
    /// Receiving from this channel, for `select!`.
    pub fn receiving(&self) -> Receiving<'_, T> {
        Receiving(self)
    }
}

impl<T> oneshot::Receiver<T> {
    /// Receiving the message, for `select!`.
    pub fn receiving(&self) -> Receiving<'_, T> {
        Receiving(&self.0)
    }
}

impl<T> Sender<T> {
    /// Sending `message` into this channel, for `select!`.
    pub fn sending(&self, message: T) -> Sending<'_, T> {
        Sending(self, Some(message))
    }

    /// Sending what is in `message`, taken from there only if it is sent.
    pub fn sending_from<'a>(&'a self, message: &'a mut Option<T>) -> SendingFrom<'a, T> {
        SendingFrom(self, message)
    }
}

/// What the macro expands to.
#[doc(hidden)]
pub mod internal {
    use super::super::cancel;
    use super::{Arm, Duration, before_deadline};
    use crate::time::Instant;

    /// Which of the arms was chosen, with its output.
    #[derive(Debug)]
    pub enum Choice<A, R> {
        /// The first.
        First(A),
        /// One of those behind it.
        Rest(R),
    }

    /// The output of no arm.
    #[derive(Debug)]
    pub enum Never {}

    /// Arms in their order.
    pub trait Arms {
        /// The output, and whose it is.
        type Choice;

        /// Tries all.
        fn attempt(&mut self) -> Option<Self::Choice>;

        /// The first, if there is one, as it ends when the caller is cancelled.
        fn cancelled(&mut self) -> Option<Self::Choice>;
    }

    impl Arms for () {
        type Choice = Never;

        fn attempt(&mut self) -> Option<Never> {
            None
        }

        fn cancelled(&mut self) -> Option<Never> {
            None
        }
    }

    impl<A: Arm, R: Arms> Arms for (A, R) {
        type Choice = Choice<A::Output, R::Choice>;

        fn attempt(&mut self) -> Option<Self::Choice> {
            self.0.attempt().map(Choice::First).or_else(|| self.1.attempt().map(Choice::Rest))
        }

        fn cancelled(&mut self) -> Option<Self::Choice> {
            Some(Choice::First(self.0.cancelled()))
        }
    }

    /// Without `default`.
    pub fn select<A: Arms>(mut arms: A) -> A::Choice {
        loop {
            if let Some(choice) = arms.attempt().or_else(|| if cancel::ends_waits() { arms.cancelled() } else { None }) {
                return choice;
            }
            loom::thread::yield_now();
        }
    }

    /// With `default`.
    pub fn try_select<A: Arms>(mut arms: A) -> Option<A::Choice> {
        arms.attempt()
    }

    /// What `default(..)` takes.
    #[derive(Clone, Copy, Debug)]
    pub struct TimeLimit;

    impl From<Duration> for TimeLimit {
        fn from(_timeout: Duration) -> Self {
            Self
        }
    }

    impl From<Instant> for TimeLimit {
        fn from(_deadline: Instant) -> Self {
            Self
        }
    }

    /// With `default(..)`.
    pub fn select_limited<A: Arms>(mut arms: A, _limit: TimeLimit) -> Option<A::Choice> {
        before_deadline(|| arms.attempt()).or_else(|| if cancel::ends_waits() { arms.cancelled() } else { None })
    }
}
