//! UDP, in batches: [`UdpSocket`] with its options, [`RecvBatch`] and [`SendBatch`].
//!
//! Owns what sockets share: congestion marks, and where a socket is made (a worker's reactor or a simulated network).

mod batch;
mod udp;

pub use self::batch::{Datagrams, RecvBatch, Refused, SendBatch, Transmit};
pub use self::udp::{FilterInstruction, Offloads, UdpSocket, UdpSocketOptions};

use std::error::Error;
use std::fmt;
use std::io;

use crate::reactor::ReactorHandle;
use crate::scheduler::current;
use crate::sim::network::Network;

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

/// Where the sockets of the calling coroutine, hook or thread live.
#[derive(Clone)]
pub(crate) enum Io {
    /// The operating system's network, watched by a worker's reactor.
    Reactor(ReactorHandle),
    /// A simulation's network.
    Network(Network),
}

impl Io {
    /// What the calling thread's sockets use: its simulation's network, or its worker's reactor.
    ///
    /// # Errors
    /// `Unsupported` on a thread that is neither a simulation's nor a worker: nobody would wake who waits on a socket.
    pub(crate) fn current() -> io::Result<Io> {
        if let Some(network) = Network::current() {
            return Ok(Io::Network(network));
        }
        let reactor = current::with(|local| local?.worker.reactor.as_ref().map(|(reactor, _)| reactor.clone()));
        let outside = || io::Error::new(io::ErrorKind::Unsupported, "not on a Weald runtime; bind inside of weald_runtime::run");
        reactor.map(Io::Reactor).ok_or_else(outside)
    }
}

/// Inside an [`io::Error`] (`error.get_ref()`): the runtime's shutdown ended a blocking call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cancelled by the shutdown of the runtime")
    }
}

impl Error for Cancelled {}
