//! What a park is for: a word for dumps.
//!
//! Owns the words. They are noted by who really parks, one byte, and mean nothing to the runtime itself.

use std::fmt;

/// What a parked coroutine waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum WaitsFor {
    /// A message.
    Receive,
    /// Room for a message, or the one who receives it.
    Send,
    /// A mutex, or a readers-writer lock.
    Lock,
    /// A condition variable.
    Condition,
    /// Permits of a semaphore.
    Permits,
    /// A [`Notify`](crate::sync::Notify).
    Notification,
    /// The others at a barrier.
    Barrier,
    /// The end of a [`WaitGroup`](crate::sync::WaitGroup).
    WaitGroup,
    /// The end of a coroutine.
    Join,
    /// A time.
    Sleep,
    /// An [`unpark`](crate::Coroutine::unpark).
    Unpark,
    /// The first of several things.
    Select,
    /// A socket, or a signal, that has something to read.
    Readable,
    /// A socket that takes more.
    Writable,
    /// The cancellation of a token.
    Cancellation,
    /// Something of which the runtime knows no word.
    Other,
}

impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Receive => "receive",
            Self::Send => "send",
            Self::Lock => "lock",
            Self::Condition => "condition",
            Self::Permits => "permits",
            Self::Notification => "notification",
            Self::Barrier => "barrier",
            Self::WaitGroup => "wait group",
            Self::Join => "join",
            Self::Sleep => "sleep",
            Self::Unpark => "unpark",
            Self::Select => "select",
            Self::Readable => "readable",
            Self::Writable => "writable",
            Self::Cancellation => "cancellation",
            Self::Other => "other",
        })
    }
}
