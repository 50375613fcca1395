//! Readiness: what a descriptor (or a simulated socket) can do now, and who waits until it can.
//!
//! [`Source`] is the meeting point of an event loop that learns of readiness and of callers that need it; [`Reactor`] is the
//! event loop over the kernel's epoll, one a worker and one for plain threads.

#[cfg(not(loom))]
mod epoll;
#[cfg(not(loom))]
mod patience;
#[cfg(not(loom))]
mod process;
mod source;

#[cfg(not(loom))]
pub(crate) use self::epoll::{Reactor, ReactorHandle, ReactorWaker};
#[cfg(not(loom))]
pub(crate) use self::patience::Patience;
#[cfg(not(loom))]
pub(crate) use self::process::{process_has_waiters, process_reactor};
#[cfg(not(loom))]
pub(crate) use self::source::WaitError;
pub(crate) use self::source::{Direction, Drained, Source};

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;
