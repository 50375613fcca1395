//! A channel for exactly one message, in a model: a bounded channel whose sender is used up.

use super::{RecvError, RecvTimeoutError, SendError, TryRecvError};
use crate::time::Instant;
use std::time::Duration;

/// Makes a channel for one message.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = super::bounded(1);
    (Sender(sender), Receiver(receiver))
}

/// The end that sends the message.
#[derive(Debug)]
pub struct Sender<T>(super::Sender<T>);

/// The end that receives the message.
#[derive(Debug)]
pub struct Receiver<T>(pub(crate) super::Receiver<T>);

impl<T> Sender<T> {
    /// Sends the message. Never waits.
    ///
    /// # Errors
    /// [`SendError::Disconnected`] with the message.
    pub fn send(self, message: T) -> Result<(), SendError<T>> {
        self.0.send(message)
    }

    /// Whether the receiver is gone.
    pub fn is_disconnected(&self) -> bool {
        self.0.channel.look(|state| state.receivers == 0)
    }
}

impl<T> Receiver<T> {
    /// Takes the message, waiting for it.
    ///
    /// # Errors
    /// [`RecvError::Disconnected`].
    pub fn recv(&self) -> Result<T, RecvError> {
        self.0.recv()
    }

    /// Takes the message if it is there.
    ///
    /// # Errors
    /// [`TryRecvError`].
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.0.try_recv()
    }

    /// Takes the message; the time-out passes at the first chance.
    ///
    /// # Errors
    /// [`RecvTimeoutError`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.0.recv_timeout(timeout)
    }

    /// As [`recv_timeout`](Self::recv_timeout).
    ///
    /// # Errors
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.0.recv_deadline(deadline)
    }
}
