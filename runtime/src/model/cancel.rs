//! Cancellation by tokens, in a model.
//!
//! Owns the tokens, and who is inside of which. A token does not know what its insiders wait for: who is inside of one looks, whenever it
//! would wait, at what it waits for and at its tokens in turn, and lets the others go on in between. A dead-lock of such waits is a
//! loop without end to loom, which reports it as one.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use super::before_deadline;
use super::monitor::Monitor;
use super::sync::{Cancelled, WaitError};
use crate::time::Instant;

loom::thread_local! {
    static INSIDE: RefCell<Vec<CancellationToken>> = RefCell::new(Vec::new());
    static SHIELDED: Cell<bool> = Cell::new(false);
}

/// Tells many at once to end.
#[derive(Clone, Debug)]
pub struct CancellationToken(Arc<Monitor<State>>);

#[derive(Default)]
struct State {
    cancelled: bool,
    children: Vec<CancellationToken>,
}

/// Cancels its token when dropped.
#[must_use = "a guard that is dropped at once cancels at once"]
#[derive(Debug)]
pub struct DropGuard(Option<CancellationToken>);

impl CancellationToken {
    /// A token that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Monitor::new(State::default())))
    }

    /// A token that is cancelled when this one is, or by itself.
    #[must_use]
    pub fn child_token(&self) -> Self {
        self.0.look(|state| {
            let child = Self(Arc::new(Monitor::new(State { cancelled: state.cancelled, children: Vec::new() })));
            state.children.push(child.clone());
            child
        })
    }

    /// Cancels the token and its descendants, for good.
    pub fn cancel(&self) {
        let mut tokens = vec![self.clone()];
        while let Some(token) = tokens.pop() {
            tokens.extend(token.0.change(|state| {
                state.cancelled = true;
                std::mem::take(&mut state.children)
            }));
        }
    }

    /// Whether the token was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.look(|state| state.cancelled)
    }

    /// Runs `f` in the calling coroutine, which is cancelled when the token is, until `f` returns.
    pub fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Leave;
        impl Drop for Leave {
            fn drop(&mut self) {
                drop(INSIDE.with(|inside| inside.borrow_mut().pop()));
            }
        }
        INSIDE.with(|inside| inside.borrow_mut().push(self.clone()));
        let _leave = Leave;
        f()
    }

    /// Waits until the token is cancelled.
    ///
    /// # Errors
    /// [`Cancelled`] if the caller is cancelled by another token.
    pub fn wait(&self) -> Result<(), Cancelled> {
        match self.0.wait(|state| state.cancelled.then_some(())) {
            None if !self.is_cancelled() => Err(Cancelled::new(())),
            // Inside of this very token both happen at once.
            _ => Ok(()),
        }
    }

    /// As [`wait`](Self::wait); the time-out passes at the first chance.
    ///
    /// # Errors
    /// [`WaitError`].
    pub fn wait_timeout(&self, _timeout: Duration) -> Result<(), WaitError> {
        match before_deadline(|| self.is_cancelled().then_some(())) {
            None if !self.is_cancelled() => Err(wait_error()),
            _ => Ok(()),
        }
    }

    /// As [`wait_timeout`](Self::wait_timeout).
    ///
    /// # Errors
    /// [`WaitError`].
    pub fn wait_deadline(&self, _deadline: Instant) -> Result<(), WaitError> {
        self.wait_timeout(Duration::ZERO)
    }

    /// A guard that cancels the token when it is dropped.
    pub fn drop_guard(self) -> DropGuard {
        DropGuard(Some(self))
    }
}

impl Default for CancellationToken {
    fn default() -> Self {
        Self::new()
    }
}

impl DropGuard {
    /// Gives the token back, which is not cancelled then.
    #[must_use]
    pub fn disarm(mut self) -> CancellationToken {
        self.0.take().expect("taken by this method or the drop alone")
    }
}

impl Drop for DropGuard {
    fn drop(&mut self) {
        // A model that has failed is past changes, and would panic again.
        if let Some(token) = self.0.take().filter(|_| !std::thread::panicking()) {
            token.cancel();
        }
    }
}

/// Whether a token is cancelled that the caller is inside of.
#[must_use]
pub fn is_cancelled() -> bool {
    inherited().iter().any(CancellationToken::is_cancelled)
}

/// The tokens that the caller is inside of.
pub(super) fn inherited() -> Vec<CancellationToken> {
    INSIDE.with(|inside| inside.borrow().clone())
}

/// Runs `f` inside of all of `tokens`.
pub(super) fn run_inside<R>(tokens: &[CancellationToken], f: impl FnOnce() -> R) -> R {
    let mut f = Some(f);
    run_inside_all(tokens, &mut || f.take().expect("it is called once")())
}

fn run_inside_all<R>(tokens: &[CancellationToken], f: &mut dyn FnMut() -> R) -> R {
    match tokens.split_first() {
        Some((first, rest)) => first.run(|| run_inside_all(rest, f)),
        None => f(),
    }
}

/// Runs `f` with blocking calls that wait although the caller is cancelled.
pub fn shield<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            SHIELDED.with(|shielded| shielded.set(self.0));
        }
    }
    let _restore = Restore(SHIELDED.with(|shielded| shielded.replace(true)));
    f()
}

/// Whether a wait of the caller may be cancelled at all.
pub(super) fn may_be_cancelled() -> bool {
    !SHIELDED.with(Cell::get) && INSIDE.with(|inside| !inside.borrow().is_empty())
}

/// Whether a wait of the caller ends for its cancellation.
pub(super) fn ends_waits() -> bool {
    may_be_cancelled() && is_cancelled()
}

/// Why a wait with a deadline ended without what it was for.
pub(super) fn wait_error() -> WaitError {
    if ends_waits() { WaitError::Cancelled } else { WaitError::Timeout }
}
