//! The error of a blocking job that the caller has no result of.

use std::error::Error;
use std::fmt;
use std::io;

/// Why the caller of [`unblock`](crate::unblock) has no result.
///
/// The function comes with it if it has not begun, to be called otherwise or again. If it has begun, it runs to its end on its
/// thread, and its result is dropped there.
#[non_exhaustive]
pub enum UnblockError<F> {
    /// The caller is cancelled, or its runtime has ended.
    Cancelled(Option<F>),
    /// The deadline passed first.
    Timeout(Option<F>),
    /// The pool has no thread, and the system refuses one.
    NoThread(F, io::Error),
}

impl<F> UnblockError<F> {
    /// The function, if it has not begun.
    pub fn into_function(self) -> Option<F> {
        match self {
            Self::Cancelled(function) | Self::Timeout(function) => function,
            Self::NoThread(function, _) => Some(function),
        }
    }

    /// Whether the caller was cancelled.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled(_))
    }

    /// Whether the time was over.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout(_))
    }
}

impl<F> fmt::Debug for UnblockError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begun = |function: &Option<F>| if function.is_none() { "begun" } else { "not begun" };
        match self {
            Self::Cancelled(function) => write!(f, "Cancelled({})", begun(function)),
            Self::Timeout(function) => write!(f, "Timeout({})", begun(function)),
            Self::NoThread(_, error) => write!(f, "NoThread({error:?})"),
        }
    }
}

impl<F> fmt::Display for UnblockError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled(None) => f.write_str("the caller was cancelled; the blocking job runs on without it"),
            Self::Cancelled(Some(_)) => f.write_str("the caller was cancelled before the blocking job began"),
            Self::Timeout(None) => f.write_str("the deadline passed; the blocking job runs on without its caller"),
            Self::Timeout(Some(_)) => f.write_str("the deadline passed before the blocking job began"),
            Self::NoThread(_, error) => write!(f, "no thread for the blocking job: {error}"),
        }
    }
}

impl<F> Error for UnblockError<F> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NoThread(_, error) => Some(error),
            Self::Cancelled(_) | Self::Timeout(_) => None,
        }
    }
}

/// As the errors of sockets: `TimedOut`, the system's own, or one whose inner is [`net::Cancelled`](crate::net::Cancelled).
#[cfg(not(loom))]
impl<F> From<UnblockError<F>> for io::Error {
    fn from(error: UnblockError<F>) -> Self {
        match error {
            UnblockError::Cancelled(_) => crate::sync::Cancelled::new(()).into(),
            UnblockError::Timeout(_) => io::ErrorKind::TimedOut.into(),
            UnblockError::NoThread(_, error) => error,
        }
    }
}
