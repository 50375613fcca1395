//! Why a coroutine has no result.
//!
//! Owns the error and the payload of a panic in it. The models of `--cfg loom` have the same.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};

/// Why a coroutine has no result.
#[non_exhaustive]
pub enum JoinError {
    /// It panicked.
    Panicked(PanicPayload),
    /// The caller was cancelled while it waited. The coroutine runs on, and nobody has its handle any more; `wait` in place of `join` keeps it.
    Cancelled,
    /// Its runtime was shut down, or its node of a simulation crashed, before it had ended: it never began, or was unwound.
    ShutDown,
    /// There was no stack for it: the arena is full, or the system out of memory.
    NoStack(io::Error),
}

/// What a coroutine panicked with.
///
/// A payload need not be `Sync` but an error should be, to go wherever errors go with `?`. So there is a lock around it.
pub struct PanicPayload(Box<Panicked>);

struct Panicked {
    coroutine: Option<Box<str>>,
    payload: Mutex<Box<dyn Any + Send + 'static>>,
}

impl JoinError {
    pub(crate) fn panicked(payload: Box<dyn Any + Send + 'static>) -> Self {
        Self::panicked_in(None, payload)
    }

    /// A panic of the coroutine of that name.
    pub(crate) fn panicked_in(coroutine: Option<&str>, payload: Box<dyn Any + Send + 'static>) -> Self {
        Self::Panicked(PanicPayload(Box::new(Panicked { coroutine: coroutine.map(Box::from), payload: Mutex::new(payload) })))
    }

    /// Whether the coroutine panicked.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self, Self::Panicked(_))
    }

    /// Whether it was the caller that was cancelled. (A coroutine that is cancelled ends with a result, or panics, as any other.)
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }

    /// Whether its runtime was shut down before the coroutine had ended.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        matches!(self, Self::ShutDown)
    }

    /// The panic's payload, for `std::panic::resume_unwind`.
    #[must_use]
    pub fn into_panic(self) -> Option<Box<dyn Any + Send + 'static>> {
        match self {
            Self::Panicked(payload) => Some(payload.into_inner()),
            Self::Cancelled | Self::ShutDown | Self::NoStack(_) => None,
        }
    }
}

impl PanicPayload {
    /// The payload, for `std::panic::resume_unwind`.
    #[must_use]
    pub fn into_inner(self) -> Box<dyn Any + Send + 'static> {
        self.0.payload.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of the coroutine that panicked, if it has one.
    #[must_use]
    pub fn coroutine(&self) -> Option<&str> {
        self.0.coroutine.as_deref()
    }

    /// What was panicked with, if it is text, as that of `panic!` is.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        panic_message(&**self.0.payload.lock().unwrap_or_else(PoisonError::into_inner)).map(str::to_owned)
    }
}

/// The text of a panic, if it has one.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

impl fmt::Debug for PanicPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PanicPayload").field(&self.message()).finish()
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(payload) => {
                match payload.coroutine() {
                    Some(name) => write!(f, "the coroutine '{name}' panicked")?,
                    None => f.write_str("the coroutine panicked")?,
                }
                payload.message().map_or(Ok(()), |message| write!(f, ": {message}"))
            }
            Self::Cancelled => f.write_str("the caller was cancelled while it waited for the coroutine"),
            Self::ShutDown => f.write_str("the runtime was shut down before the coroutine had ended"),
            Self::NoStack(error) => write!(f, "no stack for the coroutine: {error}"),
        }
    }
}

impl std::error::Error for JoinError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoStack(error) => Some(error),
            Self::Panicked(_) | Self::Cancelled | Self::ShutDown => None,
        }
    }
}
