//! Channels for many senders and many receivers, between coroutines and threads in any mix.
//!
//! Names and meanings are those of `crossbeam-channel`. What differs: a blocked end parks its coroutine and never its worker,
//! and a blocking call has one more error, `Cancelled`, for a caller that was cancelled.
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
//! Owns the rules of a channel: order, capacity, hand-over, disconnection. Does not own how messages are stored (`segments`) nor
//! how ends wait (`wait_list`).
//!
//! Receivers take the buffer's oldest messages as a batch, under a lock of its own (`batch`), and so do not disturb senders at each
//! message. They do that only while no sender waits, and whoever must see the channel as a whole puts what is left of it back
//! first (`Channel::whole`). Invariants, under the channel's lock, while the batch is empty:
//! - A receiver waits only while the buffer is empty and no sender waits; a sender waits only while the buffer is full. (A
//!   message put back by an unwound receiver goes to a waiting receiver first.)
//! - Messages are handed over: a sender that finds a waiting receiver writes into its payload; a receiver that makes room
//!   moves the first waiting sender's message in. So messages leave in the order in which their sends began to wait.
//! - A claimed sender whose payload still holds its message, and a claimed receiver whose payload is empty, were
//!   disconnected.
//! - No code of the user (a message's drop) runs under the lock.
//!
//! While it is not, nobody waits.
//!
//! Short spinning locks were chosen over a lock-free ring with wait lists beside it: they cost one read-modify-write an
//! operation, where the other needs two and a full fence to check for waiters; and a rendezvous, the exact `len` and `select!`
//! come out of them for nothing.

mod arms;
mod batch;
mod clock;
mod error;
pub mod oneshot;
mod segments;

use std::{fmt, marker::PhantomData, time::Duration};

use crate::{
    lent_waiter::Woken,
    park::WaitsFor,
    primitive::Arc,
    spin_lock::{SpinGuard, SpinLock},
    time::Instant,
    wait_list::{self, Limit, Outcome, Source, WaitList},
};
use batch::Batch;
use clock::Clock;
use segments::Segments;

pub use arms::{Receiving, Sending, SendingFrom};
pub use clock::{after, at, never, tick};
pub use error::{RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};

/// Makes a channel that holds at most `capacity` messages. It takes memory as they come, and keeps about two pages of it.
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
#[must_use]
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    channel(Some(capacity))
}

/// Makes a channel that holds any number of messages. Sending never blocks; a slow receiver shows as memory.
#[must_use]
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    channel(None)
}

fn channel<T>(capacity: Option<usize>) -> (Sender<T>, Receiver<T>) {
    let channel = Arc::new(Channel::new(capacity, None));
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
        self.channel.offer(message).map_err(|(refused, _)| refused)
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
        self.channel.take().map_err(|(nothing, _)| nothing)
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
    #[must_use]
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// The messages that are there, without waiting.
    #[must_use]
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
                self.channel.whole().len()
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

            /// Whether the other is an end of the same channel.
            pub fn same_channel(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.channel, &other.channel)
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
        self.channel.lock().senders += 1;
        Self { channel: self.channel.clone() }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.channel.lock().receivers += 1;
        Self { channel: self.channel.clone() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.channel.lock();
        state.senders -= 1;
        if state.senders == 0 {
            // Receivers wait only on an empty channel, so their empty payload tells the truth.
            wait_list::wake_all(state, |state| &mut state.receiving, |_| ());
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.channel.whole();
        state.receivers -= 1;
        if state.receivers == 0 {
            // Nobody will read them, and they may hold ends of other channels whose peers wait to learn that.
            let unread = std::mem::replace(&mut state.buffer, Segments::new(0));
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
    batch: Batch<T>,
    state: Apart<SpinLock<State<T>>>,
}

/// On cache lines of its own.
#[repr(align(128))]
struct Apart<T>(T);

pub(crate) struct State<T> {
    buffer: Segments<T>,
    senders: usize,
    receivers: usize,
    /// Payload: the message to take.
    sending: WaitList<Option<T>>,
    /// Payload: where to put a message.
    receiving: WaitList<Option<T>>,
    /// Nobody sends into a channel that has one: messages come due.
    clock: Option<Clock<T>>,
}

/// The channel's lock, with the batch empty.
type Whole<'a, T> = SpinGuard<'a, State<T>>;

impl<T> Channel<T> {
    /// For one sender and one receiver.
    fn new(capacity: Option<usize>, clock: Option<Clock<T>>) -> Self {
        let buffer = Segments::new(capacity.unwrap_or(usize::MAX));
        let state = State { buffer, senders: 1, receivers: 1, sending: WaitList::new(), receiving: WaitList::new(), clock };
        Self { capacity, batch: Batch::new(), state: Apart(SpinLock::new(state)) }
    }

    /// Takes the lock, which others may have to wait for while the batch is not empty.
    #[inline(always)]
    fn lock(&self) -> SpinGuard<'_, State<T>> {
        self.state.0.lock()
    }

    /// Takes the lock and sees to it that all messages are in the buffer.
    fn whole(&self) -> Whole<'_, T> {
        match self.as_whole(self.lock()) {
            Ok(state) => state,
            Err(()) => {
                let batch = self.batch.lock();
                let mut state = self.lock();
                self.batch.update(batch, |batch| state.buffer.put_back(batch));
                state
            }
        }
    }

    /// Goes on with the lock if the batch is empty.
    #[inline]
    fn as_whole<'a>(&self, mut state: SpinGuard<'a, State<T>>) -> Result<Whole<'a, T>, ()> {
        if self.batch.is_filled() {
            return Err(());
        }
        state.buffer.batch_is_back();
        Ok(state)
    }

    #[inline(always)]
    #[track_caller]
    fn send(&self, message: T, limit: Limit) -> Result<(), SendTimeoutError<T>> {
        match self.offer(message) {
            Ok(()) => Ok(()),
            Err((TrySendError::Full(message), Some(state))) => self.send_parked(message, state, limit),
            Err((refused, _)) => Err(SendTimeoutError::Disconnected(refused.into_inner())),
        }
    }

    /// Sends `message` at once, or gives it back; if it is full, with the lock.
    #[inline(always)]
    fn offer(&self, message: T) -> Result<(), Refused<'_, T>> {
        let mut state = self.lock();
        if state.receivers > 0 && state.receiving.is_empty() {
            match state.buffer.push(message) {
                Ok(()) => Ok(()),
                Err(message) => self.offer_whole(message, state),
            }
        } else {
            self.offer_whole(message, state)
        }
    }

    /// [`offer`](Self::offer) where it is not enough to push.
    #[inline(never)]
    fn offer_whole<'a>(&'a self, message: T, state: SpinGuard<'a, State<T>>) -> Result<(), Refused<'a, T>> {
        let mut state = self.as_whole(state).unwrap_or_else(|()| self.whole());
        match state.offer(message) {
            Ok(receiver) => {
                drop(state);
                wake(receiver);
                Ok(())
            }
            Err(TrySendError::Full(message)) => Err((TrySendError::Full(message), Some(state))),
            Err(disconnected) => Err((disconnected, None)),
        }
    }

    #[inline(never)]
    #[track_caller]
    fn send_parked(&self, message: T, state: Whole<'_, T>, limit: Limit) -> Result<(), SendTimeoutError<T>> {
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
        match self.take() {
            Ok(message) => Ok(message),
            Err((TryRecvError::Empty, Some(state))) => self.recv_parked(state, limit),
            Err(_) => Err(RecvTimeoutError::Disconnected),
        }
    }

    /// Takes the next message at once; if there is none, the lock.
    #[inline(always)]
    fn take(&self) -> Result<T, Nothing<'_, T>> {
        if let Some(message) = self.batch.pop() {
            return Ok(message);
        }
        let state = self.lock();
        if state.is_bare() && !self.batch.is_filled() {
            return Err((TryRecvError::Empty, Some(state)));
        }
        self.take_whole(state)
    }

    /// [`take`](Self::take) where there is no batch.
    #[inline(never)]
    fn take_whole<'a>(&'a self, mut state: SpinGuard<'a, State<T>>) -> Result<T, Nothing<'a, T>> {
        loop {
            let Ok(mut whole) = self.as_whole(state) else {
                if let Some(message) = self.batch.pop() {
                    return Ok(message);
                }
                state = self.lock();
                continue;
            };
            if whole.sending.is_empty()
                && whole.buffer.len() > 1
                && let Some(batch) = self.batch.try_lock()
                && let Some(message) = self.batch.update(batch, |batch| {
                    whole.buffer.take_batch(batch);
                    batch.pop_front()
                })
            {
                return Ok(message);
            }
            return match whole.take() {
                Ok((message, sender)) => {
                    drop(whole);
                    wake(sender);
                    Ok(message)
                }
                Err(TryRecvError::Empty) => Err((TryRecvError::Empty, Some(whole))),
                Err(TryRecvError::Disconnected) => Err((TryRecvError::Disconnected, None)),
            };
        }
    }

    #[inline(always)]
    #[track_caller]
    fn recv_parked(&self, state: Whole<'_, T>, limit: Limit) -> Result<T, RecvTimeoutError> {
        if let Some(due) = state.due() {
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

/// Why a message was not sent, with the lock to wait for room under.
type Refused<'a, T> = (TrySendError<T>, Option<Whole<'a, T>>);

/// Why there is no message, with the lock to wait for one under.
type Nothing<'a, T> = (TryRecvError, Option<Whole<'a, T>>);

/// All of it with the batch empty.
impl<T> State<T> {
    /// Hands `message` to a waiting receiver, who is then to be woken, or into the buffer.
    fn offer(&mut self, message: T) -> Result<Option<Woken>, TrySendError<T>> {
        if self.receivers == 0 {
            return Err(TrySendError::Disconnected(message));
        }
        if let Some(receiver) = self.receiving.claim_first() {
            receiver.with_payload(|payload| *payload = Some(message));
            return Ok(Some(receiver.deliver()));
        }
        self.buffer.push(message).map(|()| None).map_err(TrySendError::Full)
    }

    /// Takes the next message, and moves a waiting sender's message up, who is then to be woken.
    #[inline]
    fn take(&mut self) -> Result<(T, Option<Woken>), TryRecvError> {
        if let Some(message) = self.buffer.pop().or_else(|| self.clock.as_mut()?.take()) {
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

    /// Whether there is nothing, and nothing to say, but perhaps later.
    #[inline(always)]
    fn is_bare(&self) -> bool {
        self.buffer.len() == 0 && self.sending.is_empty() && self.senders > 0 && self.clock.is_none()
    }

    /// When the next message comes of itself.
    fn due(&self) -> Option<Instant> {
        self.clock.as_ref()?.due()
    }

    fn len(&self) -> usize {
        self.buffer.len() + usize::from(self.clock.as_ref().is_some_and(Clock::is_due))
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

    fn waits_for(&self) -> WaitsFor {
        WaitsFor::Send
    }

    fn waiters(state: &mut State<T>) -> &mut WaitList<Option<T>> {
        &mut state.sending
    }

    /// Claimed means sent; otherwise the message is dropped with the wait, as any other value on the stack.
    fn abandon(&self, _message: &mut Option<T>, _claimed: bool) {}
}

impl<T> Source for ReceiverWait<'_, T> {
    type State = State<T>;
    type Payload = Option<T>;

    fn waits_for(&self) -> WaitsFor {
        WaitsFor::Receive
    }

    fn waiters(state: &mut State<T>) -> &mut WaitList<Option<T>> {
        &mut state.receiving
    }

    fn abandon(&self, message: &mut Option<T>, _claimed: bool) {
        if let Some(message) = message.take() {
            let receiver = self.0.whole().restore(message);
            wake(receiver);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;
