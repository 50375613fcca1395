//! Channels for many senders and many receivers, between coroutines and threads in any mix.
//!
//! Names and meanings are those of `crossbeam-channel`. What differs: a blocked end parks its coroutine and never its worker,
//! and a blocking call has one more error, `Cancelled`, for a coroutine whose runtime shuts down.
//!
//! ```
//! use weald_runtime::channel;
//!
//! let (sender, receiver) = channel::bounded(2);
//! sender.send("one").unwrap();
//! sender.send("two").unwrap();
//! assert!(sender.try_send("three").is_err_and(|error| error.is_full()));
//! drop(sender);
//! assert_eq!(receiver.iter().collect::<Vec<_>>(), ["one", "two"]);
//! ```
//!
//! Owns the rules of a channel: order, capacity, hand-over, disconnection. Does not own how messages are stored (`bounded`,
//! `unbounded`) nor how ends wait (`wait_list`).
//!
//! Invariants, under the channel's one lock:
//! - A receiver waits only while the buffer is empty and no sender waits; a sender waits only while the buffer is full. (A
//!   message put back by an unwound receiver goes to a waiting receiver first.)
//! - Messages are handed over: a sender that finds a waiting receiver writes into its payload; a receiver that makes room
//!   moves the first waiting sender's message in. So messages leave in the order in which their sends began to wait.
//! - A claimed sender whose payload still holds its message, and a claimed receiver whose payload is empty, were
//!   disconnected.
//! - No code of the user (a message's drop) runs under the lock.
//!
//! One short spinning lock around everything was chosen over a lock-free ring with wait lists beside it: it costs one
//! read-modify-write an operation, where the other needs two and a full fence to check for waiters; and a rendezvous, the
//! exact `len` and `select!` come out of it for nothing.

mod arms;
mod bounded;
mod clock;
mod error;
pub mod oneshot;
mod unbounded;

use std::{fmt, iter::FusedIterator, marker::PhantomData, time::Duration};

use crate::{
    lent_waiter::Woken,
    primitive::Arc,
    spin_lock::{SpinGuard, SpinLock},
    time::Instant,
    wait_list::{self, Limit, Outcome, Source, WaitList},
};
pub use arms::{Receiving, Sending, SendingFrom};
pub use clock::{after, at, never, tick};
pub use error::{RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};

/// Makes a channel that holds at most `capacity` messages; its memory is allocated now.
///
/// A full channel parks senders. With a capacity of zero it is a rendezvous: a send returns when a receiver has taken the
/// message.
///
/// ```
/// use weald_runtime::{channel, run, spawn};
///
/// run(|| {
///     let (sender, receiver) = channel::bounded(2);
///     spawn(move || {
///         for number in 0..5 {
///             sender.send(number).expect("somebody receives"); // parks while two wait
///         }
///     });
///     assert_eq!(receiver.iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
/// });
/// ```
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    channel(Buffer::Bounded(bounded::Ring::new(capacity)), Some(capacity))
}

/// Makes a channel that holds any number of messages. Sending never blocks; a slow receiver shows as memory.
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    channel(Buffer::Unbounded(unbounded::Segments::new()), None)
}

fn channel<T>(buffer: Buffer<T>, capacity: Option<usize>) -> (Sender<T>, Receiver<T>) {
    let channel = Arc::new(Channel::new(buffer, capacity));
    (Sender { channel: channel.clone() }, Receiver { channel })
}

/// The sending end. Clones send into the same channel; it disconnects when the last one is dropped.
pub struct Sender<T> {
    channel: Arc<Channel<T>>,
}

/// The receiving end. Clones receive from the same channel, each message reaching one of them; it disconnects, and drops the
/// messages left in it, when the last one is dropped.
pub struct Receiver<T> {
    channel: Arc<Channel<T>>,
}

impl<T> Sender<T> {
    /// Sends `message`, waiting while the channel is full.
    ///
    /// # Errors
    /// [`SendError::Disconnected`] if all receivers are gone, [`SendError::Cancelled`] if the coroutine is cancelled while it
    /// would wait. Both give the message back.
    ///
    /// # Panics
    /// If it would have to wait on a worker's own stack, as in a hook; use [`try_send`](Self::try_send) there.
    #[inline]
    #[track_caller]
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        self.channel.send(message, Limit::Never).map_err(|error| match error {
            SendTimeoutError::Disconnected(message) => SendError::Disconnected(message),
            SendTimeoutError::Cancelled(message) | SendTimeoutError::Timeout(message) => SendError::Cancelled(message),
        })
    }

    /// Sends `message` if that is possible at once.
    ///
    /// # Errors
    /// [`TrySendError::Full`] if there is no room, [`TrySendError::Disconnected`] if all receivers are gone. Both give the
    /// message back.
    #[inline]
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let mut state = self.channel.state.lock();
        let sent = state.offer(message);
        drop(state);
        sent.map(wake)
    }

    /// Sends `message`, waiting at most `timeout` while the channel is full.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`SendTimeoutError::Timeout`].
    ///
    /// # Panics
    /// As [`send`](Self::send).
    #[track_caller]
    pub fn send_timeout(&self, message: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.channel.send(message, Limit::After(timeout))
    }

    /// Sends `message`, waiting until `deadline` while the channel is full.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`SendTimeoutError::Timeout`].
    ///
    /// # Panics
    /// As [`send`](Self::send).
    #[track_caller]
    pub fn send_deadline(&self, message: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        self.channel.send(message, Limit::At(deadline))
    }
}

impl<T> Receiver<T> {
    /// Takes the next message, waiting while the channel is empty.
    ///
    /// # Errors
    /// [`RecvError::Disconnected`] if the channel is empty and all senders are gone, [`RecvError::Cancelled`] if the coroutine
    /// is cancelled while it would wait.
    ///
    /// # Panics
    /// If it would have to wait on a worker's own stack, as in a hook; use [`try_recv`](Self::try_recv) there.
    // See `switched::Coroutine::resume`.
    #[inline(always)]
    #[track_caller]
    pub fn recv(&self) -> Result<T, RecvError> {
        self.channel.recv(Limit::Never).map_err(|error| match error {
            RecvTimeoutError::Disconnected => RecvError::Disconnected,
            RecvTimeoutError::Cancelled | RecvTimeoutError::Timeout => RecvError::Cancelled,
        })
    }

    /// Takes the next message if there is one.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`] or [`TryRecvError::Disconnected`].
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let mut state = self.channel.state.lock();
        let taken = state.take();
        drop(state);
        taken.map(|(message, sender)| {
            wake(sender);
            message
        })
    }

    /// Takes the next message, waiting at most `timeout` while the channel is empty.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`RecvTimeoutError::Timeout`].
    ///
    /// # Panics
    /// As [`recv`](Self::recv).
    #[track_caller]
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.channel.recv(Limit::After(timeout))
    }

    /// Takes the next message, waiting until `deadline` while the channel is empty.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`RecvTimeoutError::Timeout`].
    ///
    /// # Panics
    /// As [`recv`](Self::recv).
    #[track_caller]
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.channel.recv(Limit::At(deadline))
    }

    /// Messages as they come, waiting for each, until the channel is disconnected or the coroutine cancelled.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// The messages that are there, without waiting.
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { receiver: self }
    }
}

/// What both ends can tell about their channel.
macro_rules! both_ends {
    ($end:ident) => {
        impl<T> $end<T> {
            /// Messages in the channel; those of waiting senders do not count.
            pub fn len(&self) -> usize {
                self.channel.state.lock().buffer.len()
            }

            /// Whether no message is in the channel. Always so for a rendezvous channel.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Whether the channel holds as many messages as it can. Always so for a rendezvous channel.
            pub fn is_full(&self) -> bool {
                self.channel.capacity.is_some_and(|capacity| self.len() >= capacity)
            }

            /// How many messages the channel can hold; `None` if any number.
            pub fn capacity(&self) -> Option<usize> {
                self.channel.capacity
            }
        }

        impl<T> fmt::Debug for $end<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($end)).field("len", &self.len()).field("capacity", &self.capacity()).finish()
            }
        }
    };
}

both_ends!(Sender);
both_ends!(Receiver);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.channel.state.lock().senders += 1;
        Self { channel: self.channel.clone() }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.channel.state.lock().receivers += 1;
        Self { channel: self.channel.clone() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.channel.state.lock();
        state.senders -= 1;
        if state.senders == 0 {
            // Receivers wait only on an empty channel, so their empty payload tells the truth.
            wait_list::wake_all(state, |state| &mut state.receiving, |_| ());
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.channel.state.lock();
        state.receivers -= 1;
        if state.receivers == 0 {
            // Nobody will read them, and they may hold ends of other channels whose peers wait to learn that.
            let unread = state.buffer.take_all();
            wait_list::wake_all(state, |state| &mut state.sending, |_| ());
            drop(unread);
        }
    }
}

/// Messages as they come. Made by [`Receiver::iter`].
#[derive(Debug)]
pub struct Iter<'a, T> {
    receiver: &'a Receiver<T>,
}

/// The messages that are there. Made by [`Receiver::try_iter`].
#[derive(Debug)]
pub struct TryIter<'a, T> {
    receiver: &'a Receiver<T>,
}

/// Messages as they come, from a receiver that it owns.
#[derive(Debug)]
pub struct IntoIter<T> {
    receiver: Receiver<T>,
}

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    #[track_caller]
    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> FusedIterator for Iter<'_, T> {}

impl<T> Iterator for TryIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    #[track_caller]
    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> FusedIterator for IntoIter<T> {}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { receiver: self }
    }
}

/// What all ends share.
struct Channel<T> {
    capacity: Option<usize>,
    state: SpinLock<State<T>>,
}

pub(crate) struct State<T> {
    buffer: Buffer<T>,
    senders: usize,
    receivers: usize,
    /// Payload: the message to take.
    sending: WaitList<Option<T>>,
    /// Payload: where to put a message.
    receiving: WaitList<Option<T>>,
}

impl<T> Channel<T> {
    /// For one sender and one receiver.
    fn new(buffer: Buffer<T>, capacity: Option<usize>) -> Self {
        let state = State { buffer, senders: 1, receivers: 1, sending: WaitList::new(), receiving: WaitList::new() };
        Self { capacity, state: SpinLock::new(state) }
    }

    #[inline(always)]
    #[track_caller]
    fn send(&self, message: T, limit: Limit) -> Result<(), SendTimeoutError<T>> {
        let mut state = self.state.lock();
        match state.offer(message) {
            Ok(receiver) => {
                drop(state);
                wake(receiver);
                Ok(())
            }
            Err(TrySendError::Full(message)) => self.send_parked(message, state, limit),
            Err(TrySendError::Disconnected(message)) => Err(SendTimeoutError::Disconnected(message)),
        }
    }

    #[inline(never)]
    #[track_caller]
    fn send_parked(&self, message: T, state: SpinGuard<'_, State<T>>, limit: Limit) -> Result<(), SendTimeoutError<T>> {
        match wait_list::wait(&SenderWait(PhantomData), Some(message), state, limit) {
            (None, _) => Ok(()),
            (Some(message), Outcome::Claimed) => Err(SendTimeoutError::Disconnected(message)),
            (Some(message), Outcome::TimedOut) => Err(SendTimeoutError::Timeout(message)),
            (Some(message), Outcome::Cancelled) => Err(SendTimeoutError::Cancelled(message)),
        }
    }

    #[inline(always)]
    #[track_caller]
    fn recv(&self, limit: Limit) -> Result<T, RecvTimeoutError> {
        let mut state = self.state.lock();
        match state.take() {
            Ok((message, sender)) => {
                drop(state);
                wake(sender);
                Ok(message)
            }
            Err(TryRecvError::Empty) => self.recv_parked(state, limit),
            Err(TryRecvError::Disconnected) => Err(RecvTimeoutError::Disconnected),
        }
    }

    #[inline(always)]
    #[track_caller]
    fn recv_parked(&self, state: SpinGuard<'_, State<T>>, limit: Limit) -> Result<T, RecvTimeoutError> {
        if let Some(due) = state.buffer.due() {
            return self.recv_due(state, due, limit);
        }
        match wait_list::wait(&ReceiverWait(self), None, state, limit) {
            (Some(message), _) => Ok(message),
            (None, Outcome::Claimed) => Err(RecvTimeoutError::Disconnected),
            (None, Outcome::TimedOut) => Err(RecvTimeoutError::Timeout),
            (None, Outcome::Cancelled) => Err(RecvTimeoutError::Cancelled),
        }
    }
}

impl<T> State<T> {
    /// Hands `message` to a waiting receiver, who is then to be woken, or into the buffer.
    #[inline]
    fn offer(&mut self, message: T) -> Result<Option<Woken>, TrySendError<T>> {
        if self.receivers == 0 {
            return Err(TrySendError::Disconnected(message));
        }
        if self.receiving.is_empty() {
            return self.buffer.push(message).map(|()| None).map_err(TrySendError::Full);
        }
        self.hand_over(message)
    }

    /// [`offer`](Self::offer) where receivers wait.
    #[inline(never)]
    fn hand_over(&mut self, message: T) -> Result<Option<Woken>, TrySendError<T>> {
        if let Some(receiver) = self.receiving.claim_first() {
            receiver.with_payload(|payload| *payload = Some(message));
            return Ok(Some(receiver.deliver()));
        }
        self.buffer.push(message).map(|()| None).map_err(TrySendError::Full)
    }

    /// Takes the next message, and moves a waiting sender's message up, who is then to be woken.
    #[inline]
    fn take(&mut self) -> Result<(T, Option<Woken>), TryRecvError> {
        if let Some(message) = self.buffer.pop() {
            return Ok((message, self.refill()));
        }
        // A waiting sender and an empty buffer: a rendezvous.
        if let Some(sender) = self.sending.claim_first() {
            let message = sender.with_payload(Option::take).expect("a sender waits with its message");
            return Ok((message, Some(sender.deliver())));
        }
        Err(if self.senders == 0 { TryRecvError::Disconnected } else { TryRecvError::Empty })
    }

    /// Fills the place that a receiver made. A buffer above its capacity (see `restore`) makes none.
    #[inline]
    fn refill(&mut self) -> Option<Woken> {
        if self.sending.is_empty() || self.buffer.is_full() {
            return None;
        }
        let sender = self.sending.claim_first()?;
        let message = sender.with_payload(Option::take).expect("a sender waits with its message");
        let refused = self.buffer.push(message);
        debug_assert!(refused.is_ok(), "checked above, under the same lock");
        Some(sender.deliver())
    }

    /// Takes back a message that was handed to a receiver who unwound before it could return it.
    fn restore(&mut self, message: T) -> Option<Woken> {
        if let Some(receiver) = self.receiving.claim_first() {
            receiver.with_payload(|payload| *payload = Some(message));
            return Some(receiver.deliver());
        }
        self.buffer.restore(message);
        None
    }
}

#[inline]
fn wake(waiter: Option<Woken>) {
    if let Some(waiter) = waiter {
        waiter.unpark();
    }
}

/// A channel as something to wait for room in. An unwound sender has nothing to tell it, so it needs no reference.
struct SenderWait<T>(PhantomData<T>);

/// A channel as something to wait for messages from.
struct ReceiverWait<'a, T>(&'a Channel<T>);

impl<T> Source for SenderWait<T> {
    type State = State<T>;
    type Payload = Option<T>;

    fn waiters(state: &mut State<T>) -> &mut WaitList<Option<T>> {
        &mut state.sending
    }

    /// Claimed means sent; otherwise the message is dropped with the wait, as any other value on the stack.
    fn abandon(&self, _message: &mut Option<T>, _claimed: bool) {}
}

impl<T> Source for ReceiverWait<'_, T> {
    type State = State<T>;
    type Payload = Option<T>;

    fn waiters(state: &mut State<T>) -> &mut WaitList<Option<T>> {
        &mut state.receiving
    }

    fn abandon(&self, message: &mut Option<T>, _claimed: bool) {
        if let Some(message) = message.take() {
            let receiver = self.0.state.lock().restore(message);
            wake(receiver);
        }
    }
}

/// Where messages are kept.
enum Buffer<T> {
    Bounded(bounded::Ring<T>),
    Unbounded(unbounded::Segments<T>),
    /// Nobody sends: messages come due.
    Clock(clock::Clock<T>),
}

impl<T> Buffer<T> {
    fn len(&self) -> usize {
        match self {
            Self::Bounded(ring) => ring.len(),
            Self::Unbounded(segments) => segments.len(),
            Self::Clock(clock) => clock.is_due().into(),
        }
    }

    fn is_full(&self) -> bool {
        match self {
            Self::Bounded(ring) => ring.is_full(),
            Self::Unbounded(_) => false,
            Self::Clock(_) => true,
        }
    }

    /// When the next message comes of itself.
    fn due(&self) -> Option<Instant> {
        match self {
            Self::Bounded(_) | Self::Unbounded(_) => None,
            Self::Clock(clock) => clock.due(),
        }
    }

    #[inline]
    fn push(&mut self, message: T) -> Result<(), T> {
        match self {
            Self::Bounded(ring) => ring.push(message),
            Self::Unbounded(segments) => {
                segments.push(message);
                Ok(())
            }
            Self::Clock(_) => Err(message),
        }
    }

    #[inline]
    fn pop(&mut self) -> Option<T> {
        match self {
            Self::Bounded(ring) => ring.pop(),
            Self::Unbounded(segments) => segments.pop(),
            Self::Clock(clock) => clock.take(),
        }
    }

    fn restore(&mut self, message: T) {
        match self {
            Self::Bounded(ring) => ring.restore(message),
            Self::Unbounded(segments) => segments.restore(message),
            Self::Clock(_) => unreachable!("a clock has no sender that hands messages over"),
        }
    }

    /// Empties the buffer; the caller drops the messages after the unlock. Nothing is pushed afterwards: the channel is
    /// disconnected.
    fn take_all(&mut self) -> Self {
        std::mem::replace(self, Self::Unbounded(unbounded::Segments::new()))
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;
