//! Channels in a model.
//!
//! Owns the rules of a channel as its users see them. Invariant: the message in a rendezvous channel belongs to the one sender
//! that waits for it to be taken, or to a receiver that waits.

pub mod oneshot;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub use super::channel_error::{RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};
use super::monitor::Monitor;
use super::{before_deadline, cancel};
use crate::time::Instant;

/// Makes a channel that holds at most `capacity` messages; with zero, a rendezvous.
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    channel(Some(capacity))
}

/// Makes a channel that holds any number of messages.
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    channel(None)
}

/// A receiver of one message, which comes at the first chance.
pub fn after(_duration: Duration) -> Receiver<Instant> {
    at(Instant::now())
}

/// As [`after`].
pub fn at(deadline: Instant) -> Receiver<Instant> {
    sourceless(Some(deadline))
}

/// A receiver of nothing, which never disconnects.
pub fn never<T>() -> Receiver<T> {
    sourceless(None)
}

/// A receiver of what there is now; the sender that is counted and does not exist keeps it connected.
fn sourceless<T>(message: Option<T>) -> Receiver<T> {
    Receiver { channel: Arc::new(Monitor::new(State { queue: message.into_iter().collect(), ..State::new(None) })) }
}

fn channel<T>(capacity: Option<usize>) -> (Sender<T>, Receiver<T>) {
    let channel = Arc::new(Monitor::new(State::new(capacity)));
    (Sender { channel: Arc::clone(&channel) }, Receiver { channel })
}

/// The sending end.
#[derive(Debug)]
pub struct Sender<T> {
    channel: Arc<Monitor<State<T>>>,
}

/// The receiving end.
#[derive(Debug)]
pub struct Receiver<T> {
    channel: Arc<Monitor<State<T>>>,
}

struct State<T> {
    queue: VecDeque<T>,
    capacity: Option<usize>,
    senders: usize,
    receivers: usize,
    /// Receivers that wait.
    hungry: usize,
    /// Messages that ever came and went.
    put: u64,
    taken: u64,
}

impl<T> State<T> {
    fn new(capacity: Option<usize>) -> Self {
        Self { queue: VecDeque::new(), capacity, senders: 1, receivers: 1, hungry: 0, put: 0, taken: 0 }
    }

    /// Takes the message in, if there is room.
    fn put(&mut self, message: &mut Option<T>) -> Result<(), TrySendError<()>> {
        let room = self.capacity.is_none_or(|capacity| self.queue.len() < capacity.max(1));
        if self.receivers == 0 {
            return Err(TrySendError::Disconnected(()));
        }
        if !room {
            return Err(TrySendError::Full(()));
        }
        self.put += 1;
        self.queue.extend(message.take());
        Ok(())
    }

    fn take(&mut self) -> Result<T, TryRecvError> {
        match self.queue.pop_front() {
            Some(message) => {
                self.taken += 1;
                Ok(message)
            }
            None if self.senders == 0 => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }

    /// What others see of the queue: a rendezvous channel is always empty.
    fn len(&self) -> usize {
        if self.capacity == Some(0) { 0 } else { self.queue.len() }
    }
}

impl<T> Sender<T> {
    /// Sends `message`, waiting while the channel is full.
    ///
    /// # Errors
    /// [`SendError`] with the message.
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        let mut message = Some(message);
        let sent = self.channel.wait(|state| match state.put(&mut message) {
            Ok(()) => Some(Ok((state.put, state.capacity == Some(0)))),
            Err(TrySendError::Disconnected(())) => Some(Err(())),
            Err(TrySendError::Full(())) => None,
        });
        let mut cancelled = sent.is_none();
        if let Some(Ok((ticket, true))) = sent {
            // A rendezvous: until somebody has taken it, or nobody can.
            let met = self.channel.wait(|state| match state.taken >= ticket {
                true => Some(None),
                false if state.receivers == 0 => Some(state.queue.pop_front()),
                false => None,
            });
            cancelled = met.is_none();
            // It is taken back, unless somebody has taken it just now.
            message = met.unwrap_or_else(|| {
                self.channel.change(|state| match state.taken >= ticket {
                    true => None,
                    false => {
                        state.put -= 1;
                        state.queue.pop_front()
                    }
                })
            });
        }
        match message {
            None => Ok(()),
            Some(message) if cancelled => Err(SendError::Cancelled(message)),
            Some(message) => Err(SendError::Disconnected(message)),
        }
    }

    /// Sends `message` if that is possible at once.
    ///
    /// # Errors
    /// [`TrySendError`] with the message.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let mut message = Some(message);
        let sent = self.channel.change(|state| match state.capacity {
            Some(0) if state.receivers > 0 && state.hungry <= state.queue.len() => Err(TrySendError::Full(())),
            _ => state.put(&mut message),
        });
        match (sent, message) {
            (Err(TrySendError::Full(())), Some(message)) => Err(TrySendError::Full(message)),
            (Err(TrySendError::Disconnected(())), Some(message)) => Err(TrySendError::Disconnected(message)),
            _ => Ok(()),
        }
    }

    /// Sends `message`; the time-out passes at the first chance.
    ///
    /// # Errors
    /// [`SendTimeoutError`] with the message.
    pub fn send_timeout(&self, message: T, _timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        let mut message = Some(message);
        before_deadline(|| match self.try_send(message.take()?) {
            Ok(()) => Some(Ok(())),
            Err(TrySendError::Disconnected(message)) => Some(Err(SendTimeoutError::Disconnected(message))),
            Err(TrySendError::Full(refused)) => {
                message = Some(refused);
                None
            }
        })
        .unwrap_or_else(|| match message {
            None => Ok(()),
            Some(message) if cancel::ends_waits() => Err(SendTimeoutError::Cancelled(message)),
            Some(message) => Err(SendTimeoutError::Timeout(message)),
        })
    }

    /// As [`send_timeout`](Self::send_timeout).
    ///
    /// # Errors
    /// As [`send_timeout`](Self::send_timeout).
    pub fn send_deadline(&self, message: T, _deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        self.send_timeout(message, Duration::ZERO)
    }
}

impl<T> Receiver<T> {
    /// Takes the next message, waiting while the channel is empty.
    ///
    /// # Errors
    /// [`RecvError`].
    pub fn recv(&self) -> Result<T, RecvError> {
        let mut waits = false;
        let received = self.channel.wait(|state| match state.take() {
            Err(TryRecvError::Empty) => {
                state.hungry += usize::from(!std::mem::replace(&mut waits, true));
                None
            }
            taken => {
                state.hungry -= usize::from(waits);
                Some(taken.map_err(|_| RecvError::Disconnected))
            }
        });
        // A sender may have met the one who waited here, and then is not sent away.
        received.unwrap_or_else(|| {
            self.channel.change(|state| {
                state.hungry -= 1;
                if state.capacity == Some(0) && state.queue.len() > state.hungry {
                    state.take().map_err(|_| RecvError::Cancelled)
                } else {
                    Err(RecvError::Cancelled)
                }
            })
        })
    }

    /// Takes the next message if there is one.
    ///
    /// # Errors
    /// [`TryRecvError`].
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.channel.change(State::take)
    }

    /// Takes the next message; the time-out passes at the first chance.
    ///
    /// # Errors
    /// [`RecvTimeoutError`].
    pub fn recv_timeout(&self, _timeout: Duration) -> Result<T, RecvTimeoutError> {
        before_deadline(|| match self.try_recv() {
            Ok(message) => Some(Ok(message)),
            Err(TryRecvError::Disconnected) => Some(Err(RecvTimeoutError::Disconnected)),
            Err(TryRecvError::Empty) => None,
        })
        .unwrap_or_else(|| Err(if cancel::ends_waits() { RecvTimeoutError::Cancelled } else { RecvTimeoutError::Timeout }))
    }

    /// As [`recv_timeout`](Self::recv_timeout).
    ///
    /// # Errors
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_deadline(&self, _deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.recv_timeout(Duration::ZERO)
    }

    /// Messages as they come, until the channel is disconnected.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// The messages that are there, without waiting.
    pub fn try_iter(&self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| self.try_recv().ok())
    }
}

/// What both ends can tell, and how they come and go.
macro_rules! both_ends {
    ($end:ident, $count:ident) => {
        impl<T> $end<T> {
            /// Messages in the channel.
            pub fn len(&self) -> usize {
                self.channel.look(|state| state.len())
            }

            /// Whether no message is in the channel.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Whether the channel holds as many messages as it can.
            pub fn is_full(&self) -> bool {
                self.channel.look(|state| state.capacity.is_some_and(|capacity| state.len() >= capacity))
            }

            /// How many messages the channel can hold; `None` if any number.
            pub fn capacity(&self) -> Option<usize> {
                self.channel.look(|state| state.capacity)
            }

            /// Whether the other is an end of the same channel.
            pub fn same_channel(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.channel, &other.channel)
            }
        }

        impl<T> Clone for $end<T> {
            fn clone(&self) -> Self {
                self.channel.look(|state| state.$count += 1);
                Self { channel: Arc::clone(&self.channel) }
            }
        }

        impl<T> Drop for $end<T> {
            fn drop(&mut self) {
                self.channel.leave(|state| state.$count -= 1);
            }
        }
    };
}

both_ends!(Sender, senders);
both_ends!(Receiver, receivers);

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter(self)
    }
}

/// Messages as they come, from a receiver that it owns.
#[derive(Debug)]
pub struct IntoIter<T>(Receiver<T>);

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.recv().ok()
    }
}
