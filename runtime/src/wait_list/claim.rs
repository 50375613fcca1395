//! The claim word: who ended a wait.
//!
//! One word a wait, shared by all sources that the wait is registered with. It owns the decision which of a notifier, the
//! deadline and a cancellation came first; it does not own the hand-over of values (the node's payload does).
//!
//! ```text
//!            claim(i)              deliver(i)
//! Waiting ------------> Claimed(i) ------------> Delivered(i)
//!    | withdraw
//!    +--> TimedOut | Cancelled
//! ```
//!
//! A wait for one source makes all its transitions under that source's lock, and so needs no compare-and-swap to claim.
//!
//! Invariants: exactly one transition leaves `Waiting`; `claim` and `deliver` of source `i` happen while `i`'s lock is held,
//! so whoever has held that lock after seeing `Claimed(i)` sees `Delivered(i)`.

use crate::primitive::atomic::{AtomicU32, Ordering};

/// Where a wait stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing happened yet.
    Waiting,
    /// Source `0` is ending the wait right now, under its lock.
    Claimed(u32),
    /// Source `0` ended the wait; what it handed over is in place.
    Delivered(u32),
    /// The deadline came first.
    TimedOut,
    /// A cancellation, or an unwind out of the park, came first.
    Cancelled,
}

/// Why a waiter leaves on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Withdrawal {
    TimedOut,
    Cancelled,
}

/// The word itself.
pub(crate) struct ClaimWord(AtomicU32);

impl ClaimWord {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(encode(Phase::Waiting)))
    }

    /// Notifier: tries to end the wait on behalf of `source`, whose lock the caller holds. On `false` the wait is over by
    /// other means and the notifier owes its notification to the next waiter.
    #[must_use]
    pub(crate) fn claim(&self, source: u32) -> bool {
        // Relaxed: decides exclusivity only. What the waiter wrote before is ordered by the source's lock, what the notifier
        // writes next by `deliver`.
        self.transition(Phase::Claimed(source), Ordering::Relaxed).is_ok()
    }

    /// As [`claim`](Self::claim) for a wait whose every transition is made under the one lock that the caller holds.
    #[must_use]
    pub(crate) fn claim_locked(&self, source: u32) -> bool {
        // Relaxed: the lock orders it against other notifiers and `withdraw`. The waiter, which looks without the lock, sees it
        // when it sees its token, which the notifier sets next.
        let waiting = self.0.load(Ordering::Relaxed) == encode(Phase::Waiting);
        if waiting {
            self.0.store(encode(Phase::Claimed(source)), Ordering::Relaxed);
        }
        waiting
    }

    /// Notifier: publishes the hand-over. The wait may be gone when this returns.
    pub(crate) fn deliver(&self, source: u32) {
        // Release pairs with the Acquire in `phase` and `transition`.
        self.0.store(encode(Phase::Delivered(source)), Ordering::Release);
    }

    /// Waiter: tries to end the wait without a notification; otherwise says how far a notifier has come.
    pub(crate) fn withdraw(&self, withdrawal: Withdrawal) -> Result<(), Phase> {
        let phase = match withdrawal {
            Withdrawal::TimedOut => Phase::TimedOut,
            Withdrawal::Cancelled => Phase::Cancelled,
        };
        // Acquire pairs with the Release in `deliver`, for the phase that a failure reports.
        self.transition(phase, Ordering::Acquire)
    }

    /// Waiter: where the wait stands.
    pub(crate) fn phase(&self) -> Phase {
        // Acquire pairs with the Release in `deliver`.
        decode(self.0.load(Ordering::Acquire))
    }

    fn transition(&self, to: Phase, on_failure: Ordering) -> Result<(), Phase> {
        let waiting = encode(Phase::Waiting);
        match self.0.compare_exchange(waiting, encode(to), Ordering::Relaxed, on_failure) {
            Ok(_) => Ok(()),
            Err(found) => Err(decode(found)),
        }
    }
}

/// Three bits of kind, the source's index above them.
fn encode(phase: Phase) -> u32 {
    match phase {
        Phase::Waiting => 0,
        Phase::Claimed(source) => 1 | source << 3,
        Phase::Delivered(source) => 2 | source << 3,
        Phase::TimedOut => 3,
        Phase::Cancelled => 4,
    }
}

fn decode(word: u32) -> Phase {
    match word & 0b111 {
        0 => Phase::Waiting,
        1 => Phase::Claimed(word >> 3),
        2 => Phase::Delivered(word >> 3),
        3 => Phase::TimedOut,
        _ => Phase::Cancelled,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn words_decode_to_what_was_encoded() {
        let phases = [
            Phase::Waiting,
            Phase::Claimed(0),
            Phase::Claimed(77),
            Phase::Delivered(0),
            Phase::Delivered(u32::MAX >> 3),
            Phase::TimedOut,
            Phase::Cancelled,
        ];
        for phase in phases {
            assert_eq!(decode(encode(phase)), phase);
        }
    }

    #[test]
    fn only_the_first_to_end_a_wait_succeeds() {
        let word = ClaimWord::new();
        assert!(word.claim(4));
        assert!(!word.claim(5));
        assert_eq!(word.withdraw(Withdrawal::TimedOut), Err(Phase::Claimed(4)));
        word.deliver(4);
        assert_eq!(word.withdraw(Withdrawal::Cancelled), Err(Phase::Delivered(4)));

        let word = ClaimWord::new();
        assert_eq!(word.withdraw(Withdrawal::TimedOut), Ok(()));
        assert!(!word.claim(0));
        assert_eq!(word.phase(), Phase::TimedOut);
    }
}
