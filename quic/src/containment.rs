//! Keeps a panic where it happened: a defect that one peer's input uncovers must cost that peer's connection, and not all that
//! its worker serves.
//!
//! Owns nothing. What a panic leaves behind is the caller's to end; it may be half changed, and is asked for little more.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The work panicked. The panic has been logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panicked;

/// Does `work`, and survives its panic.
pub(crate) fn contain<T>(what: &'static str, work: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        tracing::error!(message = message(&*payload), "a panic in {what}: please report it");
        Panicked
    })
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let literal = payload.downcast_ref::<&str>().copied();
    literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        assert_eq!(contain("a test", || 1), Ok(1));
        assert_eq!(contain("a test", || -> u8 { panic!("of this test") }), Err(Panicked));
    }
}
