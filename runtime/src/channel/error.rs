//! The errors of channels, one a verb. Those of sending give the value back.
//!
//! `Disconnected` is the other side's doing (it dropped its last end), `Timeout` the caller's own limit, `Cancelled` came from
//! whoever cancelled the caller: a token, a handle or a shutdown.

use std::{error::Error, fmt};

/// Why [`Sender::send`](super::Sender::send) failed, with the value that was not sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SendError<T> {
    /// All receivers are gone.
    Disconnected(T),
    /// The calling coroutine was cancelled while the channel was full.
    Cancelled(T),
}

/// Why [`Sender::try_send`](super::Sender::try_send) failed, with the value that was not sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// There is no room, or for a rendezvous channel no receiver waits.
    Full(T),
    /// All receivers are gone.
    Disconnected(T),
}

/// Why [`Sender::send_timeout`](super::Sender::send_timeout) or [`send_deadline`](super::Sender::send_deadline) failed, with
/// the value that was not sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SendTimeoutError<T> {
    /// The channel stayed full until the deadline.
    Timeout(T),
    /// All receivers are gone.
    Disconnected(T),
    /// The calling coroutine was cancelled while the channel was full.
    Cancelled(T),
}

/// Why [`Receiver::recv`](super::Receiver::recv) failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvError {
    /// The channel is empty and all senders are gone.
    Disconnected,
    /// The calling coroutine was cancelled while the channel was empty.
    Cancelled,
}

/// Why [`Receiver::try_recv`](super::Receiver::try_recv) failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// Nothing is there now.
    Empty,
    /// The channel is empty and all senders are gone.
    Disconnected,
}

/// Why [`Receiver::recv_timeout`](super::Receiver::recv_timeout) or [`recv_deadline`](super::Receiver::recv_deadline) failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvTimeoutError {
    /// The channel stayed empty until the deadline.
    Timeout,
    /// The channel is empty and all senders are gone.
    Disconnected,
    /// The calling coroutine was cancelled while the channel was empty.
    Cancelled,
}

impl<T> SendError<T> {
    /// The value that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            Self::Disconnected(value) | Self::Cancelled(value) => value,
        }
    }
}

impl<T> TrySendError<T> {
    /// The value that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(value) | Self::Disconnected(value) => value,
        }
    }
}

impl<T> SendTimeoutError<T> {
    /// The value that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            Self::Timeout(value) | Self::Disconnected(value) | Self::Cancelled(value) => value,
        }
    }
}

/// The questions that crossbeam-channel's errors answer, too.
macro_rules! questions {
    ([$($generics:tt)*] $name:ty: $($(#[$doc:meta])+ $question:ident: $variant:pat),+ $(,)?) => {
        impl $($generics)* $name {
            $(
                $(#[$doc])+
                #[must_use]
                pub fn $question(&self) -> bool {
                    matches!(self, $variant)
                }
            )+
        }
    };
}

questions! { [<T>] TrySendError<T>:
    /// Whether a later attempt may succeed.
    is_full: Self::Full(_),
    /// Whether no attempt will ever succeed again.
    is_disconnected: Self::Disconnected(_),
}
questions! { [<T>] SendTimeoutError<T>:
    /// Whether the channel stayed full until the deadline.
    is_timeout: Self::Timeout(_),
    /// Whether no attempt will ever succeed again.
    is_disconnected: Self::Disconnected(_),
    /// Whether the caller was cancelled.
    is_cancelled: Self::Cancelled(_),
}
questions! { [] TryRecvError:
    /// Whether a later attempt may succeed.
    is_empty: Self::Empty,
    /// Whether no attempt will ever succeed again.
    is_disconnected: Self::Disconnected,
}
questions! { [] RecvTimeoutError:
    /// Whether the channel stayed empty until the deadline.
    is_timeout: Self::Timeout,
    /// Whether no attempt will ever succeed again.
    is_disconnected: Self::Disconnected,
    /// Whether the caller was cancelled.
    is_cancelled: Self::Cancelled,
}

impl<T> From<SendError<T>> for SendTimeoutError<T> {
    fn from(error: SendError<T>) -> Self {
        match error {
            SendError::Disconnected(value) => Self::Disconnected(value),
            SendError::Cancelled(value) => Self::Cancelled(value),
        }
    }
}

impl From<RecvError> for RecvTimeoutError {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Disconnected => Self::Disconnected,
            RecvError::Cancelled => Self::Cancelled,
        }
    }
}

const DISCONNECTED_RECEIVERS: &str = "all receivers of the channel are gone";
const DISCONNECTED_SENDERS: &str = "the channel is empty and all its senders are gone";
const CANCELLED: &str = "the caller was cancelled while it waited for the channel";

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disconnected(_) => DISCONNECTED_RECEIVERS,
            Self::Cancelled(_) => CANCELLED,
        })
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the channel is full",
            Self::Disconnected(_) => DISCONNECTED_RECEIVERS,
        })
    }
}

impl<T> fmt::Display for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout(_) => "the channel stayed full until the deadline",
            Self::Disconnected(_) => DISCONNECTED_RECEIVERS,
            Self::Cancelled(_) => CANCELLED,
        })
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disconnected => DISCONNECTED_SENDERS,
            Self::Cancelled => CANCELLED,
        })
    }
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the channel is empty",
            Self::Disconnected => DISCONNECTED_SENDERS,
        })
    }
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "the channel stayed empty until the deadline",
            Self::Disconnected => DISCONNECTED_SENDERS,
            Self::Cancelled => CANCELLED,
        })
    }
}

/// `Debug` without the value, so that `unwrap` works for values that have none.
macro_rules! debug_without_value {
    ($name:ident: $($variant:ident),+) => {
        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant(_) => concat!(stringify!($variant), "(..)"),)+
                })
            }
        }
        impl<T> Error for $name<T> {}
    };
}

debug_without_value!(SendError: Disconnected, Cancelled);
debug_without_value!(TrySendError: Full, Disconnected);
debug_without_value!(SendTimeoutError: Timeout, Disconnected, Cancelled);

impl Error for RecvError {}
impl Error for TryRecvError {}
impl Error for RecvTimeoutError {}

#[cfg(test)]
mod tests {
    use super::{RecvTimeoutError, SendTimeoutError, TryRecvError, TrySendError};

    #[test]
    fn errors_answer_as_crossbeams_do() {
        assert!(TrySendError::Full(1).is_full() && !TrySendError::Full(1).is_disconnected());
        assert!(TrySendError::Disconnected(1).is_disconnected() && !TrySendError::Disconnected(1).is_full());
        let sends = [SendTimeoutError::Timeout(1), SendTimeoutError::Disconnected(1), SendTimeoutError::Cancelled(1)];
        assert_eq!(sends.map(|error| error.is_timeout()), [true, false, false]);
        assert_eq!(sends.map(|error| error.is_disconnected()), [false, true, false]);
        assert_eq!(sends.map(|error| error.is_cancelled()), [false, false, true]);
        assert!(TryRecvError::Empty.is_empty() && !TryRecvError::Empty.is_disconnected());
        assert!(TryRecvError::Disconnected.is_disconnected() && !TryRecvError::Disconnected.is_empty());
        let receives = [RecvTimeoutError::Timeout, RecvTimeoutError::Disconnected, RecvTimeoutError::Cancelled];
        assert_eq!(receives.map(|error| error.is_timeout()), [true, false, false]);
        assert_eq!(receives.map(|error| error.is_disconnected()), [false, true, false]);
        assert_eq!(receives.map(|error| error.is_cancelled()), [false, false, true]);
    }
}
