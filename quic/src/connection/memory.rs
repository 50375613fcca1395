//! What a connection takes in memory, part by part.
//!
//! Owns the sum, and the moment at which a connection that has fallen quiet gives back what it kept for its next packets.
//! What a part holds is the part's to say. Allocators' overhead does not count, nor what TLS holds during the handshake;
//! what two slices share counts twice.

use std::time::Duration;

use super::datagrams::Datagrams;
use super::early::Early;
use super::timers::Timer;
use super::{Connection, EndpointEvent, Event};
use crate::time::Instant;

/// A connection with no packet for this long, and nothing outstanding, gives back what it kept for more of them: rings and
/// queues that would only be allocated again if a request a second came.
pub(super) const QUIET: Duration = Duration::from_secs(1);

/// What a connection may take by itself, before its parts allocate: a server has a hundred thousand of them.
const _: () = assert!(size_of::<Connection>() <= 2048);

impl Connection {
    /// Bytes of memory that the connection holds: itself, and the buffers of its parts. Allocators' overhead, and what TLS
    /// holds during the handshake, do not count; what two slices share counts twice.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.memory_parts().iter().map(|(_, _, heap)| heap).sum::<usize>()
    }

    /// Bytes that the application or the peer makes the connection hold, read in no time: written and not acknowledged, or
    /// received and not given back with [`Connection::release`], and before the handshake is confirmed what waits for TLS or
    /// for keys.
    pub fn held(&self) -> usize {
        let exchange = if self.early.is_some() { self.handshake.memory() } else { 0 };
        self.streams.held()
            + self.datagrams.as_ref().map_or(0, |datagrams| datagrams.held())
            + exchange
            + self.early.as_ref().map_or(0, |early| early.memory())
    }

    /// The parts of [`Connection::memory`]: what each is called, how many bytes of the connection's own it takes, and how
    /// many it has allocated.
    pub fn memory_parts(&self) -> [(&'static str, usize, usize); 13] {
        let queues = size_of_val(&self.events) + size_of_val(&self.endpoint_events);
        let queued = self.events.capacity() * size_of::<Event>() + self.endpoint_events.capacity() * size_of::<EndpointEvent>();
        let early = self.early.as_ref().map_or(0, |early| size_of::<Early>() + early.memory());
        let datagrams = self.datagrams.as_ref().map_or(0, |datagrams| size_of::<Datagrams>() + datagrams.memory());
        let mut parts = [
            ("handshake", size_of_val(&self.handshake) + size_of_val(&self.early), self.handshake.memory() + early),
            ("next token", size_of_val(&self.next_token), self.next_token.memory()),
            ("keys", size_of_val(&self.keys), self.keys.memory()),
            ("ids", size_of_val(&self.local_ids) + size_of_val(&self.remote_ids), self.remote_ids.memory()),
            ("spaces", size_of_val(&self.spaces), self.spaces.memory()),
            ("path", size_of_val(&self.path) + size_of_val(&self.path_responses), self.path.memory() + self.path_responses.memory()),
            ("streams", size_of_val(&self.streams), self.streams.memory()),
            ("datagrams", size_of_val(&self.datagrams), datagrams),
            ("timers", size_of_val(&self.timers) + size_of_val(&self.loss), 0),
            ("close", size_of_val(&self.close), self.close.memory()),
            ("events", queues, queued),
            ("counters", size_of_val(&self.stats), 0),
            ("rest", 0, 0),
        ];
        let named: usize = parts.iter().map(|(_, inline, _)| inline).sum();
        parts[12].1 = size_of::<Self>() - named;
        parts
    }

    /// Nothing came for a while: what was kept so that more packets allocate nothing goes, unless some are still out.
    pub(super) fn on_quiet(&mut self, now: Instant) {
        if self.spaces.has_ack_eliciting() {
            self.timers.set(Timer::Quiet, Some(now + QUIET));
            return;
        }
        self.spaces.shrink();
        self.streams.shrink();
        self.events.shrink_to_fit();
        self.endpoint_events.shrink_to_fit();
    }
}
