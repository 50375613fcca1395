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
//! Owns the trait and the functions on it; `wait` owns the steps, `arm` and `arms` what they act on, `macros` the syntax.

mod arm;
mod arms;
mod macros;
mod wait;

use std::time::Duration;

#[cfg(not(loom))]
pub(crate) use self::arm::Arm;
pub(crate) use self::arm::{ListArm, Listed, Look};
#[cfg(not(loom))]
use crate::park::Coroutine;
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

/// A source that is ready at times: a socket, a stream, a queue, a coroutine that ends.
///
/// A select tries all its arms; if none is ready it registers with each, tries the registered ones once more, and parks. When it
/// is unparked it leaves all and begins anew. So a source need not tell who it was that it woke, and waking too many is
/// harmless.
///
/// What the implementor guarantees: **after [`register`](Self::register) has returned, the caller is unparked whenever
/// [`attempt`](Self::attempt) may begin to succeed**, until [`unregister`](Self::unregister). Usually both take the lock
/// that guards the condition; then *register, try, park* against *change, unpark* misses nothing. If the source wakes only one of those
/// who wait (as a queue might), then `unregister` passes an unused wake on to the next.
///
/// ```
/// use std::sync::Mutex;
/// use weald_runtime::{Coroutine, select, select::Readiness, spawn};
///
/// /// A flag to wait for.
/// #[derive(Default)]
/// struct Flag(Mutex<(bool, Vec<Coroutine>)>);
///
/// impl Flag {
///     fn set(&self) {
///         let waiting = {
///             let mut state = self.0.lock().unwrap();
///             state.0 = true;
///             std::mem::take(&mut state.1)
///         };
///         waiting.iter().for_each(Coroutine::unpark);
///     }
/// }
///
/// impl Readiness for &Flag {
///     type Output = Result<(), &'static str>;
///     type Registration = u64;
///
///     fn attempt(&mut self) -> Option<Self::Output> {
///         self.0.lock().unwrap().0.then_some(Ok(()))
///     }
///
///     fn register(&mut self, waiter: &Coroutine) -> u64 {
///         self.0.lock().unwrap().1.push(waiter.clone());
///         waiter.id()
///     }
///
///     fn unregister(&mut self, id: u64) {
///         self.0.lock().unwrap().1.retain(|waiter| waiter.id() != id);
///     }
///
///     fn cancelled(&mut self) -> Self::Output {
///         Err("cancelled")
///     }
/// }
///
/// weald_runtime::run(|| {
///     let flag = std::sync::Arc::new(Flag::default());
///     let setter = flag.clone();
///     spawn(move || setter.set());
///     select! {
///         wait(&*flag) -> set => set.unwrap(),
///         default(std::time::Duration::from_secs(10)) => panic!("it was not set"),
///     }
/// });
/// ```
#[cfg(not(loom))]
pub trait Readiness {
    /// What a successful try gives.
    type Output;

    /// What is needed to take a registration back. It lies on the stack of the one who selects, so nothing need be allocated.
    type Registration;

    /// Takes the output if it is there. Does not park.
    fn attempt(&mut self) -> Option<Self::Output>;

    /// Has `waiter`, who is the caller, unparked from now on when a try is worth while.
    fn register(&mut self, waiter: &Coroutine) -> Self::Registration;

    /// Takes a registration back. Called once for each, on the same thread, also when the select unwinds. Does not park.
    fn unregister(&mut self, registration: Self::Registration);

    /// What the arm gives when the caller's coroutine is cancelled: as a rule an error of its own, or whatever makes the
    /// operation that follows say so.
    fn cancelled(&mut self) -> Self::Output;

    /// A time at which a try is worth while without an unpark. Asked after registering.
    fn deadline(&self) -> Option<Instant> {
        None
    }
}

#[cfg(not(loom))]
impl<S: Readiness> Selectable for S {
    type Output = S::Output;
    type Arm = arm::Registered<S>;

    fn into_arm(self) -> Self::Arm {
        arm::Registered(self)
    }
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

/// What the macro expands to.
#[doc(hidden)]
pub mod internal {
    use std::time::Duration;

    pub use super::arms::Choice;
    use super::{arms::Arms, wait};
    use crate::wait_list::Limit;

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

    /// With `default(timeout)`.
    #[inline]
    #[track_caller]
    pub fn select_timeout<A: Arms>(arms: A, timeout: Duration) -> Option<A::Choice> {
        wait::select(arms, Limit::After(timeout))
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
