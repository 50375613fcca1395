//! Owns why a closure that will never run is being dropped, for what it has captured: a scoped coroutine's result goes by a channel of its
//! own, whose end lies in the closure.
//!
//! Invariant: the reason is there only while the closure of the one refused task is being dropped.

use std::cell::Cell;
use std::io;

use super::JoinError;

thread_local! {
    static REASON: Cell<Option<io::Error>> = const { Cell::new(None) };
}

/// Drops the closure of a task that is refused for `error`.
pub(super) fn drop_for<F>(error: &JoinError, closure: F) {
    struct Restore(Option<io::Error>);
    impl Drop for Restore {
        fn drop(&mut self) {
            REASON.set(self.0.take());
        }
    }
    let reason = match error {
        JoinError::NoStack(error) => Some(io::Error::new(error.kind(), error.to_string())),
        JoinError::Cancelled | JoinError::ShutDown | JoinError::Panicked(_) => None,
    };
    // A destructor in the closure may have another task refused.
    let _restore = Restore(REASON.replace(reason));
    drop(closure);
}

/// Takes the want of a stack for which the closure is being dropped that the caller is in; `None` if it has begun, or is dropped for another
/// reason.
pub(crate) fn no_stack() -> Option<io::Error> {
    REASON.try_with(Cell::take).ok().flatten()
}
