//! Sockets: [`TcpStream`] and [`TcpListener`] in std's words, and [`UdpSocket`], which also sends and receives in batches
//! ([`RecvBatch`], [`SendBatch`]).
//!
//! A socket may be made anywhere, and used by coroutines and plain threads alike, also by several at once. In a simulation it
//! is one of the simulated network.
//!
//! What they wait for can be selected, too: see [`select!`](crate::select!).
//!
//! Owns what sockets share: congestion marks, where a socket is made, and the loop of a blocking call.

mod arm;
mod batch;
pub(crate) mod descriptor;
mod resolve;
mod tcp;
mod timeout;
mod udp;

pub(crate) use self::arm::Operation;
pub use self::batch::{Datagrams, RecvBatch, Refused, SendBatch, Transmit};
pub use self::resolve::ToSocketAddrs;
pub use self::tcp::{Incoming, TcpListener, TcpStream};
pub use self::udp::{FilterInstruction, Offloads, UdpSocket, UdpSocketOptions};
pub use crate::sync::Cancelled;

use std::io;

use crate::reactor::{Direction, Source, WaitError};
use crate::sim::network::Network;
use crate::task::JoinError;
use crate::wait_list::Limit;

/// A congestion mark of an IP packet, RFC 3168 section 5. Its absence (Not-ECT) is `None` where this type is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ecn {
    /// ECN-capable transport, codepoint 0b01.
    Ect1,
    /// ECN-capable transport, codepoint 0b10.
    Ect0,
    /// Congestion experienced, codepoint 0b11.
    Ce,
}

impl Ecn {
    /// The mark in the low two bits of a traffic class.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Ecn> {
        match bits & 0b11 {
            0b01 => Some(Ecn::Ect1),
            0b10 => Some(Ecn::Ect0),
            0b11 => Some(Ecn::Ce),
            _ => None,
        }
    }

    /// The two bits of the traffic class.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Ecn::Ect1 => 0b01,
            Ecn::Ect0 => 0b10,
            Ecn::Ce => 0b11,
        }
    }
}

/// The network on which the calling coroutine, hook or thread makes its sockets.
#[derive(Clone)]
pub(crate) enum Io {
    /// The operating system's.
    System,
    /// A simulation's.
    Network(Network),
}

impl Io {
    /// The network of the simulation that the calling thread runs, or the system's.
    pub(crate) fn current() -> Io {
        Network::current().map_or(Io::System, Io::Network)
    }
}

/// What can be waited for: a socket of either kind.
pub(crate) trait Wait {
    /// Where one waits who has met `WouldBlock`. A new place counts as ready, since nobody knows what came in between.
    ///
    /// # Errors
    /// No reactor is to be had.
    fn source(&self) -> io::Result<&Source>;
}

/// Repeats an operation until it no longer would block, waiting in between. The clock is read only if it would.
#[track_caller]
pub(crate) fn blocking<T>(
    limit: Limit,
    mut operation: impl FnMut() -> io::Result<T>,
    socket: &impl Wait,
    direction: Direction,
) -> io::Result<T> {
    let mut deadline = None;
    loop {
        match operation() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
        let deadline = *deadline.get_or_insert_with(|| limit.deadline());
        socket.source()?.wait(direction, deadline).map_err(wait_error)?;
    }
}

fn wait_error(error: WaitError) -> io::Error {
    match error {
        WaitError::TimedOut => io::ErrorKind::TimedOut.into(),
        WaitError::Cancelled => cancelled(),
    }
}

/// The same error as that of a socket's call, for functions that return errors of I/O.
impl From<Cancelled> for io::Error {
    fn from(_: Cancelled) -> Self {
        cancelled()
    }
}

/// A cancelled join is the same error as that of a socket's call, for functions that return errors of I/O.
impl From<JoinError> for io::Error {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::Cancelled => cancelled(),
            JoinError::NoStack(error) => error,
            error @ (JoinError::Panicked(_) | JoinError::ShutDown) => Self::other(error),
        }
    }
}

/// The error of asking a simulated socket for its descriptor.
fn no_descriptor() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "a socket of a simulation has no descriptor")
}

/// The error of a call that was cancelled.
fn cancelled() -> io::Error {
    io::Error::other(Cancelled::new(()))
}

/// Whether a call ended because the caller was cancelled: the error holds a [`Cancelled`].
///
/// ```
/// use weald_runtime::net::{self, UdpSocket};
///
/// weald_runtime::run(|| {
///     let receiving = weald_runtime::spawn(|| {
///         let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
///         socket.recv_from(&mut [0; 1500]).unwrap_err()
///     });
///     receiving.cancel();
///     let error = receiving.join().expect("no panic");
///     assert!(net::is_cancelled(&error), "{error}");
/// });
/// ```
#[must_use]
pub fn is_cancelled(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Cancelled>())
}
