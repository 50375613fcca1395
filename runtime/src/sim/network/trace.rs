//! The record of what became of each datagram and segment.
//!
//! Owns the form of its entries; the network decides what is recorded and when.

use std::net::SocketAddr;

use crate::time::Instant;

/// Something that happened to a datagram, or to a segment of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceEntry {
    /// When.
    pub time: Instant,
    /// What it belongs to.
    pub protocol: Protocol,
    /// The sender, as the receiver sees it.
    pub from: SocketAddr,
    /// The address that it was sent to.
    pub to: SocketAddr,
    /// Bytes of payload. Segments that open, acknowledge or close a stream have none.
    pub size: usize,
    /// What happened.
    pub verdict: Verdict,
}

/// What travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// A datagram.
    Udp,
    /// A segment of a stream.
    Tcp,
}

/// What happened to a datagram or segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It left, and will arrive at this time.
    Sent {
        /// When it will arrive.
        arrival: Instant,
    },
    /// The same, and it will be held back behind later ones.
    Reordered {
        /// When it will arrive.
        arrival: Instant,
    },
    /// A second copy of it will arrive at this time.
    Duplicated {
        /// When the copy will arrive.
        arrival: Instant,
    },
    /// One bit was flipped; what else happened to it follows.
    Corrupted,
    /// It was marked "congestion experienced"; what else happened to it follows.
    Marked,
    /// Its congestion mark was erased; what else happened to it follows.
    Bleached,
    /// The link lost it.
    Lost,
    /// It is longer than the link's MTU.
    TooLong,
    /// The queue at the link's rate limit was full.
    QueueFull,
    /// A blackhole swallowed it.
    Blackholed,
    /// Sender and receiver are in different parts of a partitioned network.
    Partitioned,
    /// It arrived, and waits to be read.
    Delivered,
    /// It arrived where nobody has the address.
    Unreachable,
    /// It arrived where the receive buffer, or the queue of connections to accept, was full.
    BufferFull,
    /// The node that it came from or went to crashed.
    HostDown,
}

/// The place in the trace that one datagram's events go to.
pub(super) struct Trace<'a> {
    /// `None`: nothing is recorded.
    pub(super) entries: Option<&'a mut Vec<TraceEntry>>,
    pub(super) time: Instant,
    pub(super) protocol: Protocol,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) size: usize,
}

impl Trace<'_> {
    pub(super) fn add(&mut self, verdict: Verdict) {
        let Trace { time, protocol, from, to, size, .. } = *self;
        if let Some(entries) = &mut self.entries {
            entries.push(TraceEntry { time, protocol, from, to, size, verdict });
        }
    }

    /// Records the end of something.
    pub(super) fn drop<T>(&mut self, verdict: Verdict) -> Option<T> {
        self.add(verdict);
        None
    }
}
