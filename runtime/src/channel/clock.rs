//! Channels on which time is the sender: [`after`], [`at`], [`tick`], and [`never`], on which nobody is.
//!
//! Owns when the next message is due. Does not own waiting: who waits on such a channel parks with the due time as its
//! deadline and takes the message itself, so there is no thread, no coroutine and no timer behind it.
//!
//! Invariant: nobody is ever handed a message; a due one goes to whoever looks first, once.

use std::time::Duration;

use super::{Channel, Receiver, ReceiverWait, RecvTimeoutError, TryRecvError, Whole};
use crate::{
    primitive::Arc,
    time::Instant,
    wait_list::{self, Limit, Outcome},
};

/// A receiver of one message, when `duration` has passed: the time at which it had.
///
/// ```
/// use std::time::Duration;
/// use weald_runtime::{channel::after, time::Instant};
///
/// let start = Instant::now();
/// let message = after(Duration::from_millis(5)).recv().unwrap();
/// assert!(message >= start + Duration::from_millis(5) && start.elapsed() >= Duration::from_millis(5));
/// ```
#[must_use]
pub fn after(duration: Duration) -> Receiver<Instant> {
    at(Instant::now() + duration)
}

/// A receiver of one message, `deadline` itself, when that has come.
///
/// Afterwards it is empty for ever, and not disconnected.
#[must_use]
pub fn at(deadline: Instant) -> Receiver<Instant> {
    clock(Clock { due: Some(deadline), period: None, message: |due| due })
}

/// A receiver of a message every `period`, the first when one has passed: the time at which it was due.
///
/// It holds one message at most: periods in which nobody looked are left out, and the beat is kept. A period of zero is a
/// message whenever one looks.
///
/// ```
/// use std::time::Duration;
/// use weald_runtime::{channel::tick, time::Instant};
///
/// let start = Instant::now();
/// let beats: Vec<_> = tick(Duration::from_millis(2)).iter().take(3).collect();
/// assert!(beats[0] >= start + Duration::from_millis(2) && start.elapsed() >= Duration::from_millis(6));
/// ```
#[must_use]
pub fn tick(period: Duration) -> Receiver<Instant> {
    clock(Clock { due: Some(Instant::now() + period), period: Some(period), message: |due| due })
}

/// A receiver on which nothing ever happens, to leave an arm of a [`select!`](crate::select!) out.
#[must_use]
pub fn never<T>() -> Receiver<T> {
    // The sender that is counted and does not exist keeps it connected.
    receiver(None, 0)
}

fn clock(clock: Clock<Instant>) -> Receiver<Instant> {
    receiver(Some(clock), 1)
}

fn receiver<T>(clock: Option<Clock<T>>, capacity: usize) -> Receiver<T> {
    Receiver { channel: Arc::new(Channel::new(Some(capacity), clock)) }
}

/// When messages are due.
pub(super) struct Clock<T> {
    due: Option<Instant>,
    period: Option<Duration>,
    /// Makes the message of the time at which it was due: the identity, for a buffer that does not know its `T`.
    message: fn(Instant) -> T,
}

impl<T> Clock<T> {
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    pub(super) fn take(&mut self) -> Option<T> {
        let due = self.due?;
        let now = Instant::now();
        if due > now {
            return None;
        }
        self.due = self.period.map(|period| next_beat(due, period, now));
        Some((self.message)(due))
    }
}

/// The first beat after `now`.
fn next_beat(due: Instant, period: Duration, now: Instant) -> Instant {
    let period = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
    let Some(missed) = (now.as_nanos() - due.as_nanos()).checked_div(period) else { return now };
    Instant::from_nanos(due.as_nanos().saturating_add(period.saturating_mul(missed + 1)))
}

impl<T> Channel<T> {
    /// Receives from a clock whose next message is `due`.
    #[cold]
    #[track_caller]
    pub(super) fn recv_due<'a>(&'a self, mut state: Whole<'a, T>, due: Instant, limit: Limit) -> Result<T, RecvTimeoutError> {
        let limit = limit.deadline();
        let mut due = Some(due);
        loop {
            let until = due.into_iter().chain(limit).min();
            match wait_list::wait(&ReceiverWait(self), None, state, until.map_or(Limit::Never, Limit::At)) {
                (Some(message), _) => return Ok(message),
                (None, Outcome::Claimed) => return Err(RecvTimeoutError::Disconnected),
                (None, Outcome::Cancelled) => return Err(RecvTimeoutError::Cancelled),
                (None, Outcome::TimedOut) => {}
            }
            state = self.lock();
            match state.take() {
                Ok((message, _)) => return Ok(message),
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
                Err(TryRecvError::Empty) if limit.is_some_and(|limit| limit <= Instant::now()) => return Err(RecvTimeoutError::Timeout),
                Err(TryRecvError::Empty) => due = state.due(),
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::channel::RecvError;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_beat_is_kept_and_missed_ones_left_out() {
        let at = Instant::from_nanos;
        let period = Duration::from_nanos(10);
        assert_eq!(next_beat(at(100), period, at(100)), at(110));
        assert_eq!(next_beat(at(100), period, at(109)), at(110));
        assert_eq!(next_beat(at(100), period, at(110)), at(120));
        assert_eq!(next_beat(at(100), period, at(157)), at(160));
        assert_eq!(next_beat(at(100), Duration::ZERO, at(157)), at(157));
        assert_eq!(next_beat(at(100), Duration::MAX, at(157)), at(u64::MAX));
    }

    #[test]
    fn times_arrive_in_virtual_time_to_the_nanosecond() {
        crate::sim::run(1, || {
            let start = Instant::now();
            let once = after(5 * MS);
            assert!(once.is_empty() && once.try_recv() == Err(TryRecvError::Empty));
            assert_eq!(once.recv(), Ok(start + 5 * MS));
            assert_eq!(Instant::now(), start + 5 * MS);
            assert_eq!(once.recv_timeout(7 * MS), Err(RecvTimeoutError::Timeout), "once only");
            assert_eq!(start.elapsed(), 12 * MS);

            let beat = tick(10 * MS);
            assert_eq!(beat.recv_timeout(3 * MS), Err(RecvTimeoutError::Timeout));
            assert_eq!(beat.recv(), Ok(start + 22 * MS));
            crate::sleep(25 * MS);
            assert!(beat.is_full());
            assert_eq!(beat.iter().take(2).collect::<Vec<_>>(), [start + 32 * MS, start + 52 * MS], "42 was left out");
            assert_eq!(Instant::now(), start + 52 * MS);
        });
    }

    #[test]
    fn a_beat_goes_to_one_of_several_receivers() {
        crate::sim::run(2, || {
            let start = Instant::now();
            let beat = tick(10 * MS);
            let receivers = [(); 3].map(|()| {
                let beat = beat.clone();
                crate::spawn(move || beat.iter().take(2).collect::<Vec<_>>())
            });
            let mut all = receivers.map(|receiver| receiver.join().expect("no panic")).concat();
            all.sort_unstable();
            assert_eq!(all, (1..=6).map(|beat| start + 10 * beat * MS).collect::<Vec<_>>());
        });
    }

    #[test]
    fn threads_wait_for_a_time_too() {
        let start = Instant::now();
        assert_eq!(at(start + 3 * MS).recv(), Ok(start + 3 * MS));
        assert!(start.elapsed() >= 3 * MS);
        assert_eq!(never::<u8>().recv_timeout(MS), Err(RecvTimeoutError::Timeout));
        let many = if cfg!(miri) { 10 } else { 1_000 };
        assert_eq!(tick(Duration::ZERO).iter().take(many).count(), many);
    }

    #[test]
    fn a_shutdown_ends_waiting_for_a_time() {
        let runtime = crate::Runtime::builder().workers(1).build().expect("a runtime");
        let waiting = [after(Duration::from_secs(3600)), tick(Duration::from_secs(3600)), never()]
            .map(|receiver| runtime.handle().spawn(move || receiver.recv()));
        runtime.run(|| crate::sleep(2 * MS));
        let _ = runtime.shutdown(Duration::from_secs(5));
        for waiting in waiting.map(|waiting| waiting.join().map_err(|error| error.to_string())) {
            assert!(matches!(waiting, Ok(Err(RecvError::Cancelled))), "{waiting:?}");
        }
    }
}
