//! The segments of simulated streams, and their repetition.
//!
//! Owns what a segment carries, how it is sent, and when it is sent again. Does not own links, nor what a segment does where it arrives.
//!
//! Invariant: every segment but a reset arrives, or its end fails.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::EndId;
use crate::sim::network::address::{HostId, headers};
use crate::sim::network::{Departure, Event, Protocol, Ready, State};
use crate::time::Instant;

/// An Ethernet packet, the longest that is sent without a link's own MTU.
const USUAL_MTU: usize = 1500;
/// The first pause before something is sent again, Linux's least.
const PAUSE: Duration = Duration::from_millis(200);
/// The same for what opens a stream, RFC 6298 section 2.
const OPENING_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause, Linux's.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// Repetitions before a stream is given up, Linux's: after 15 minutes.
const REPETITIONS: u32 = 15;
/// The same for what opens a stream: after 127 seconds.
const OPENING_REPETITIONS: u32 = 6;

/// A segment under way.
pub(in crate::sim::network) struct Segment {
    pub(in crate::sim::network) sender: HostId,
    pub(super) from: SocketAddr,
    /// As what the receiver sees the sender.
    pub(in crate::sim::network) seen: SocketAddr,
    pub(in crate::sim::network) to: SocketAddr,
    pub(super) epoch: u64,
    pub(super) end: Option<EndId>,
    pub(super) peer: Option<EndId>,
    pub(super) content: Content,
    repetitions: u32,
}

pub(super) enum Content {
    Open,
    /// Of the end that was made at the listener.
    Answer(EndId),
    Confirmation,
    Data(u64, Vec<u8>),
    /// After so many bytes.
    End(u64),
    /// Bytes that were read in all.
    Read(u64),
    Reset,
}

impl Segment {
    /// What the trace says of it.
    pub(in crate::sim::network) fn summary(&self) -> (Protocol, SocketAddr, SocketAddr, usize) {
        (Protocol::Tcp, self.seen, self.to, self.size())
    }

    fn size(&self) -> usize {
        match &self.content {
            Content::Data(_, bytes) => bytes.len(),
            _ => 0,
        }
    }

    fn is_opening(&self) -> bool {
        matches!(self.content, Content::Open | Content::Answer(_))
    }
}

impl State {
    /// The longest payload of a segment between two addresses.
    pub(super) fn segment_size(&self, from: IpAddr, to: IpAddr) -> usize {
        let link = self.links.get(&(from, to)).and_then(|link| link.config.as_ref()).unwrap_or(&self.config.link);
        let mtu = link.mtu.into_iter().chain(self.config.mtu).fold(USUAL_MTU, usize::min);
        mtu.saturating_sub(headers(Protocol::Tcp, to)).max(1)
    }

    /// Sends a segment of an end.
    pub(super) fn say(&mut self, now: Instant, id: EndId, content: Content) {
        let Some(end) = self.streams.ends.get(&id) else { return };
        let segment = Segment {
            sender: end.host,
            from: end.local,
            seen: end.local,
            to: end.remote,
            epoch: end.epoch,
            end: Some(id),
            peer: end.peer,
            content,
            repetitions: 0,
        };
        self.transmit(now, segment);
    }

    /// Answers a segment that belongs to nothing here.
    pub(super) fn refuse(&mut self, now: Instant, host: HostId, at: SocketAddr, segment: &Segment) {
        let reset = Segment {
            sender: host,
            from: at,
            seen: at,
            to: segment.seen,
            epoch: self.nats.epoch(at.ip()),
            end: None,
            peer: segment.end,
            content: Content::Reset,
            repetitions: 0,
        };
        self.transmit(now, reset);
    }

    /// Sends a segment, or arranges for its repetition if it does not get through.
    fn transmit(&mut self, now: Instant, mut segment: Segment) {
        let departure = Departure { protocol: Protocol::Tcp, from: segment.from, to: segment.to, size: segment.size(), ecn: None };
        let (seen, passage) = self.depart(now, &departure);
        segment.seen = seen;
        match passage {
            // A flipped bit is found by the checksum.
            Some(passage) if passage.flip.is_none() => self.push(passage.arrival, Event::Segment(segment)),
            _ => self.repeat_later(now, segment),
        }
    }

    pub(super) fn repeat_later(&mut self, now: Instant, segment: Segment) {
        if matches!(segment.content, Content::Reset) {
            return;
        }
        let first = if segment.is_opening() { OPENING_PAUSE } else { PAUSE };
        let pause = first.saturating_mul(1 << segment.repetitions).min(LONGEST_PAUSE);
        self.push(now + pause, Event::Retransmission(segment));
    }

    /// Sends a segment again, or gives its stream up.
    pub(in crate::sim::network) fn retransmit(&mut self, now: Instant, mut segment: Segment, ready: &mut Ready) {
        let most = if segment.is_opening() { OPENING_REPETITIONS } else { REPETITIONS };
        if segment.repetitions < most {
            segment.repetitions += 1;
            self.transmit(now, segment);
        } else if let Some(id) = segment.end {
            self.fail(id, ErrorKind::TimedOut, ready);
        }
    }
}
