//! Signals of the operating system, received like messages.
//!
//! Owns [`Signals`] and [`ctrl_c`]. Does not own what runs inside of a signal handler (`sys::signal_action`): that notes the signal
//! and rings a bell, and here somebody waits for the bell as for a socket.
//!
//! ```no_run
//! use weald_runtime::signal::{SIGHUP, SIGTERM, Signals};
//!
//! # fn main() -> std::io::Result<()> {
//! weald_runtime::run(|| {
//!     let signals = Signals::new([SIGTERM, SIGHUP])?;
//!     loop {
//!         match signals.recv()? {
//!             SIGHUP => println!("reading the configuration again"),
//!             _ => return Ok(()),
//!         }
//!     }
//! })
//! # }
//! ```

use std::fmt;
use std::io;
use std::time::Duration;

pub use libc::{SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH};

use crate::net::descriptor::Descriptor;
use crate::net::{Io, Operation, Wait, blocking};
use crate::reactor::{Direction, Drained, Source};
use crate::select::Selectable;
use crate::sys::signal_action::CaughtSignals;
use crate::time::Instant;
use crate::wait_list::Limit;

/// Waits until the process is interrupted (`SIGINT`), as by Ctrl-C.
///
/// From the first call on SIGINT no longer ends the process, also after the return: what the program does about it is its own
/// business. A SIGINT between two calls is missed; use [`Signals`] to receive all.
///
/// # Errors
/// Cancelled; the system refuses a descriptor or the handler.
#[track_caller]
pub fn ctrl_c() -> io::Result<()> {
    Signals::new([SIGINT])?.recv().map(drop)
}

/// Receives signals from its making on, from coroutines and plain threads.
///
/// Signals of one number that come before the first of them is received count as one, as everywhere. Every `Signals` receives its
/// own copy, and handlers that were installed before are called as well. The default action of a signal (mostly: the end of the
/// process) does not come back when the value is dropped.
///
/// In a simulation no signal comes.
pub struct Signals {
    inner: Inner,
}

enum Inner {
    System(Descriptor<CaughtSignals>),
    /// It is never ready.
    Simulated(Source),
}

impl Signals {
    /// Catches these signals.
    ///
    /// # Errors
    /// `InvalidInput` for a number that is no signal or may not be caught (`SIGKILL`, `SIGSTOP`, and those that report faults,
    /// such as `SIGSEGV`); the system refuses a descriptor.
    pub fn new(signals: impl IntoIterator<Item = i32>) -> io::Result<Signals> {
        if let Io::Network(_) = Io::current() {
            return Ok(Signals { inner: Inner::Simulated(Source::new(0)) });
        }
        let mut caught = CaughtSignals::new()?;
        signals.into_iter().try_for_each(|signal| caught.add(signal))?;
        Ok(Signals { inner: Inner::System(Descriptor::new(caught)) })
    }

    /// Waits for the next signal and returns its number.
    ///
    /// # Errors
    /// Cancelled, see [`net::Cancelled`](crate::net::Cancelled).
    #[track_caller]
    pub fn recv(&self) -> io::Result<i32> {
        self.recv_limited(Limit::Never)
    }

    /// As [`recv`](Self::recv), waiting at most for `timeout`.
    ///
    /// # Errors
    /// `TimedOut`; cancelled.
    #[track_caller]
    pub fn recv_timeout(&self, timeout: Duration) -> io::Result<i32> {
        self.recv_limited(Limit::After(timeout))
    }

    /// As [`recv`](Self::recv), waiting until `deadline`.
    ///
    /// # Errors
    /// `TimedOut`; cancelled.
    #[track_caller]
    pub fn recv_deadline(&self, deadline: Instant) -> io::Result<i32> {
        self.recv_limited(Limit::At(deadline))
    }

    /// A signal that has come already.
    ///
    /// # Errors
    /// `WouldBlock` if there is none.
    pub fn try_recv(&self) -> io::Result<i32> {
        let would_block = || io::Error::from(io::ErrorKind::WouldBlock);
        match &self.inner {
            Inner::System(caught) => caught.try_io(Direction::Read, || Ok((caught.get().take().ok_or_else(would_block)?, Drained(false)))),
            Inner::Simulated(source) => source.try_io(Direction::Read, || Err(would_block())),
        }
    }

    /// As [`recv`](Self::recv), to be selected, see [`select!`](crate::select!). If another arm is chosen, no signal was received.
    ///
    /// ```
    /// use weald_runtime::{channel, select, signal::{SIGTERM, Signals}};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// weald_runtime::run(|| {
    ///     let (sender, jobs) = channel::unbounded();
    ///     sender.send("the job").unwrap();
    ///     let signals = Signals::new([SIGTERM])?;
    ///     select! {
    ///         recv(jobs) -> job => assert_eq!(job, Ok("the job")),
    ///         wait(signals.receiving()) -> signal => println!("ends for signal {}", signal?),
    ///     }
    ///     Ok(())
    /// })
    /// # }
    /// ```
    pub fn receiving(&self) -> impl Selectable<Output = io::Result<i32>> {
        Operation::new(&self.inner, Direction::Read, || self.try_recv())
    }

    #[track_caller]
    fn recv_limited(&self, limit: Limit) -> io::Result<i32> {
        blocking(limit, || self.try_recv(), &self.inner, Direction::Read)
    }
}

impl Wait for Inner {
    fn source(&self) -> io::Result<&Source> {
        match self {
            Inner::System(caught) => caught.source(),
            Inner::Simulated(source) => Ok(source),
        }
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").finish_non_exhaustive()
    }
}
