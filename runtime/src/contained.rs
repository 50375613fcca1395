//! Owns calls of code that is not the runtime's and whose panic must go no further.
//!
//! It does not own what becomes of a panic that was caught: its caller does.
//!
//! Invariant: the payload of a panic is code that is not the runtime's, too. Wherever one of these is dropped, nothing unwinds.

use std::any::Any;
use std::mem;
use std::panic::{self, AssertUnwindSafe};

/// What a contained call panicked with.
pub(crate) struct Payload(Option<Box<dyn Any + Send>>);

impl Payload {
    /// To hand it on, to who may unwind from its drop.
    pub(crate) fn into_inner(mut self) -> Box<dyn Any + Send> {
        self.0.take().expect("taken once, here")
    }

    pub(crate) fn is<T: 'static>(&self) -> bool {
        self.get().is::<T>()
    }

    pub(crate) fn get(&self) -> &(dyn Any + Send) {
        self.0.as_deref().expect("there until it is taken, which consumes this")
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        if let Some(payload) = self.0.take()
            && let Err(second) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload)))
        {
            // It has shown what its like do.
            mem::forget(second);
        }
    }
}

/// Runs `f`. The error is its panic.
pub(crate) fn contained<R>(f: impl FnOnce() -> R) -> Result<R, Payload> {
    panic::catch_unwind(AssertUnwindSafe(f)).map_err(|payload| Payload(Some(payload)))
}

/// Drops what may panic in its drop, with which nobody has anything to do.
pub(crate) fn discard<T>(value: T) {
    drop(contained(|| drop(value)));
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// How many of the next to be dropped panic.
        static BOMBS: Cell<u32> = const { Cell::new(0) };
    }

    /// Without size, so that one which is forgotten leaks no memory.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            if let Some(left) = BOMBS.get().checked_sub(1) {
                BOMBS.set(left);
                panic::resume_unwind(Box::new(Bomb));
            }
        }
    }

    #[test]
    fn payloads_that_panic_in_their_drop_are_the_end_of_it() {
        for depth in 0..4 {
            BOMBS.set(depth);
            discard(Bomb);
            BOMBS.set(depth);
            let payload = contained(|| panic::resume_unwind(Box::new(Bomb))).map(|never: ()| never).expect_err("it panicked");
            assert!(payload.is::<Bomb>());
        }
        let payload = contained(|| panic::resume_unwind(Box::new(7))).map(|never: ()| never).expect_err("it panicked");
        assert_eq!(payload.into_inner().downcast_ref(), Some(&7));
    }
}
