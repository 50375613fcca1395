//! Waiting for several things at once: [`select!`](crate::select!), and what takes part in it.
//!
//! Everything that can be waited for can be selected. A source takes part in one of two ways:
//!
//! - Channels hand messages over; they live in the runtime.
//! - Everything else is *ready* at times, and then one tries. That is [`Readiness`], which any crate can implement for its
//!   sources: those who wait register, and are unparked when trying is worth while.
//!
//! Both are [`Selectable`], which is what `wait(..)` takes.
//!
//! ```
//! use std::time::Duration;
//! use weald_runtime::{channel::after, select, sleep, spawn};
//!
//! weald_runtime::run(|| {
//!     let mut job = spawn(|| sleep(Duration::from_millis(1)));
//!     let limit = after(Duration::from_secs(10));
//!     select! {
//!         wait(&mut job) -> () => job.join().unwrap(),
//!         recv(limit) -> _ => panic!("it takes too long"),
//!     }
//! });
//! ```
//!
//! Owns the trait and the functions on it; `wait` owns the steps, `arm`, `arms`, `readiness` and `registered` what they act on, `macros` the
//! syntax.

mod arm;
mod arms;
mod macros;
#[cfg(not(loom))]
mod readiness;
#[cfg(not(loom))]
mod registered;
mod wait;

use std::time::Duration;

#[cfg(not(loom))]
pub(crate) use self::arm::Arm;
pub(crate) use self::arm::{ListArm, Listed, Look};
#[cfg(not(loom))]
pub use self::readiness::Readiness;
use crate::time::Instant;
use crate::wait_list::Limit;

/// What can be an arm of a [`select!`](crate::select!): `wait(selectable) -> output => body`.
///
/// It is implemented for everything that is [`Readiness`]; that is the trait to implement. Besides, for what
/// [`Receiver::receiving`](crate::channel::Receiver::receiving) and [`Sender::sending`](crate::channel::Sender::sending) give,
/// and for `&mut` [`JoinHandle`](crate::JoinHandle).
pub trait Selectable {
    /// What the arm is given when it is chosen.
    type Output;

    #[doc(hidden)]
    type Arm: arm::Arm<Output = Self::Output>;

    #[doc(hidden)]
    fn into_arm(self) -> Self::Arm;
}

/// Waits for the first of `sources`, of which there may be any number, all of one type: its index and its output. `None` if
/// there are none.
///
/// ```
/// use weald_runtime::{channel, select};
///
/// let channels: Vec<_> = (0..5).map(|_| channel::unbounded()).collect();
/// channels[3].0.send("three").unwrap();
/// let first = select::first_of(channels.iter().map(|(_, receiver)| receiver.receiving()));
/// assert_eq!(first, Some((3, Ok("three"))));
/// ```
///
/// It allocates two vectors. A cancellation chooses the first source.
///
/// # Panics
/// If it would have to wait on a worker's own stack, as in a hook.
#[track_caller]
pub fn first_of<S: Selectable>(sources: impl IntoIterator<Item = S>) -> Option<(usize, S::Output)> {
    let arms: Vec<_> = sources.into_iter().map(S::into_arm).collect();
    if arms.is_empty() { None } else { wait::select(arms, Limit::Never) }
}

/// As [`first_of`], without waiting. `None` if none of them is ready.
pub fn try_first_of<S: Selectable>(sources: impl IntoIterator<Item = S>) -> Option<(usize, S::Output)> {
    wait::try_select(sources.into_iter().map(S::into_arm).collect::<Vec<_>>())
}

/// As [`first_of`], waiting at most `timeout`. `None` if none of them was ready in time.
///
/// # Panics
/// As [`first_of`].
#[track_caller]
pub fn first_of_timeout<S: Selectable>(sources: impl IntoIterator<Item = S>, timeout: Duration) -> Option<(usize, S::Output)> {
    wait::select(sources.into_iter().map(S::into_arm).collect::<Vec<_>>(), Limit::After(timeout))
}

/// As [`first_of_timeout`], waiting until `deadline`.
///
/// # Panics
/// As [`first_of`].
#[track_caller]
pub fn first_of_deadline<S: Selectable>(sources: impl IntoIterator<Item = S>, deadline: Instant) -> Option<(usize, S::Output)> {
    wait::select(sources.into_iter().map(S::into_arm).collect::<Vec<_>>(), Limit::At(deadline))
}

/// What the macro expands to.
#[doc(hidden)]
pub mod internal {
    use std::time::Duration;

    pub use super::arms::Choice;
    use super::{arms::Arms, wait};
    use crate::{time::Instant, wait_list::Limit};

    /// Without `default`.
    #[inline]
    #[track_caller]
    pub fn select<A: Arms>(arms: A) -> A::Choice {
        wait::select(arms, Limit::Never).expect("without a limit it ends by an arm")
    }

    /// With `default`.
    #[inline]
    pub fn try_select<A: Arms>(arms: A) -> Option<A::Choice> {
        wait::try_select(arms)
    }

    /// What `default(..)` takes: a duration, or a point in time.
    #[derive(Clone, Copy, Debug)]
    pub struct TimeLimit(Limit);

    impl From<Duration> for TimeLimit {
        fn from(timeout: Duration) -> Self {
            Self(Limit::After(timeout))
        }
    }

    impl From<Instant> for TimeLimit {
        fn from(deadline: Instant) -> Self {
            Self(Limit::At(deadline))
        }
    }

    /// With `default(..)`.
    #[inline]
    #[track_caller]
    pub fn select_limited<A: Arms>(arms: A, limit: TimeLimit) -> Option<A::Choice> {
        wait::select(arms, limit.0)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;
