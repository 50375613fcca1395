//! The simulated TCP streams.
//!
//! Owns who listens, which ends there are, and what a segment does where it arrives. Does not own an end's own state (`end`), how
//! segments get there (`segment`), nor what programs hold (`handle`).
//!
//! What is like TCP: the three segments that open a stream, refusal and backlog, a window of 64 KiB that a reader opens, half
//! close, resets, and repetitions whose pauses double until the stream is given up. What is not: a sender knows at once what the
//! network lost, so that nothing is sent twice in vain; there is no congestion control, and segments wait at a rate limit instead
//! of overrunning its queue; a closed port is free at once.
//!
//! Invariant: an end whose handle is gone stays until the other end has closed, too.

mod end;
mod handle;
mod segment;

use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::net::SocketAddr;

use self::end::{End, Phase, Piece};
pub(crate) use self::handle::{SimulatedListener, SimulatedStream};
use self::segment::Content;
pub(super) use self::segment::Segment;
use super::address::{HostId, covers};
use super::{Edge, Network, Ready, State, Verdict};
use crate::primitive::Arc;
use crate::reactor::{Direction, Source};
use crate::time::Instant;

/// The streams of a network.
#[derive(Default)]
pub(super) struct Streams {
    ends: BTreeMap<EndId, End>,
    listeners: BTreeMap<ListenerId, Listening>,
    next: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct EndId(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ListenerId(u64);

struct Listening {
    host: HostId,
    local: SocketAddr,
    backlog: usize,
    /// Connections that were answered, and not confirmed yet.
    opening: usize,
    opened: VecDeque<EndId>,
    source: Arc<Source>,
}

impl Streams {
    fn next_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn add(&mut self, end: End) -> EndId {
        let id = EndId(self.next_id());
        self.ends.insert(id, end);
        id
    }

    fn remove(&mut self, id: EndId) {
        let Some(end) = self.ends.remove(&id) else { return };
        if let Phase::Answered(listener) = end.phase
            && let Some(listening) = self.listeners.get_mut(&listener)
        {
            listening.opening -= 1;
        }
    }

    /// Removes all that belongs to a host.
    pub(super) fn remove_host(&mut self, host: HostId) -> Vec<Arc<Source>> {
        let mut sources = Vec::new();
        self.ends.retain(|_, end| end.host != host || take(&mut sources, &end.source));
        self.listeners.retain(|_, listening| listening.host != host || take(&mut sources, &listening.source));
        sources
    }

    fn has_port(&self, host: HostId, port: u16) -> bool {
        self.ends.values().any(|end| end.host == host && end.local.port() == port)
            || self.listeners.values().any(|listening| listening.host == host && listening.local.port() == port)
    }

    fn listener_conflicts(&self, host: HostId, local: SocketAddr) -> bool {
        self.listeners.values().any(|other| {
            let overlap = covers(other.local, false, local.ip()) || covers(local, false, other.local.ip());
            other.host == host && other.local.port() == local.port() && overlap
        })
    }

    /// Who listens on an address: first who does on just this one.
    fn listener(&self, host: HostId, address: SocketAddr) -> Option<ListenerId> {
        let fits =
            |other: &Listening| other.host == host && other.local.port() == address.port() && covers(other.local, false, address.ip());
        let fitting = self.listeners.iter().filter(|(_, other)| fits(other));
        fitting.min_by_key(|(_, other)| other.local.ip() != address.ip()).map(|(&id, _)| id)
    }
}

/// Notes the source of something that is removed.
fn take(sources: &mut Vec<Arc<Source>>, source: &Arc<Source>) -> bool {
    sources.push(Arc::clone(source));
    false
}

impl State {
    /// Tells the other end what was read, if it is time.
    fn tell_read(&mut self, now: Instant, id: EndId) {
        if let Some(read) = self.streams.ends.get_mut(&id).and_then(End::take_untold) {
            self.say(now, id, Content::Read(read));
        }
    }

    /// The stream is over for an end, which goes if nobody has it.
    fn fail(&mut self, id: EndId, error: ErrorKind, ready: &mut Ready) {
        match self.streams.ends.get_mut(&id) {
            Some(end) if matches!(end.phase, Phase::Answered(_)) || end.is_abandoned() => self.streams.remove(id),
            Some(end) => end.fail(error, ready),
            None => {}
        }
    }

    /// A segment arrives.
    pub(super) fn on_segment(&mut self, now: Instant, segment: Segment, ready: &mut Ready) {
        let (protocol, seen, to, size) = segment.summary();
        let inside = self.nats.inward(protocol, seen, to);
        let place = inside.map(|inside| (inside, self.hosts.owner(segment.sender, inside.ip())));
        let verdict = match place {
            None => Err(Verdict::Unreachable),
            Some((_, host)) if !self.hosts.is_up(host) => Err(Verdict::HostDown),
            Some((inside, host)) => self.deliver(now, inside, host, &segment, ready),
        };
        match verdict {
            Ok(verdict) => self.trace(now, protocol, seen, to, size, verdict),
            Err(verdict) => {
                self.trace(now, protocol, seen, to, size, verdict);
                self.repeat_later(now, segment);
            }
        }
    }

    /// Takes a segment in at its host. An error is a segment that must come again.
    fn deliver(&mut self, now: Instant, at: SocketAddr, host: HostId, segment: &Segment, ready: &mut Ready) -> Result<Verdict, Verdict> {
        // Its sender's NAT has forgotten the stream: here, nobody knows whom it comes from.
        let cut_off = segment.from.ip() != segment.to.ip() && self.nats.epoch(segment.from.ip()) != segment.epoch;
        if matches!(segment.content, Content::Open) && !cut_off {
            return self.on_open(now, at, host, segment);
        }
        let known = segment.peer.filter(|id| !cut_off && self.streams.ends.contains_key(id));
        let Some(id) = known else {
            if !matches!(segment.content, Content::Reset | Content::Read(_)) {
                self.refuse(now, host, at, segment);
            }
            return Ok(Verdict::Unreachable);
        };
        if !matches!(segment.content, Content::Reset | Content::Answer(_)) {
            self.confirm(id, ready);
        }
        let Some(end) = self.streams.ends.get_mut(&id) else { return Ok(Verdict::Unreachable) };
        match &segment.content {
            Content::Answer(peer) => {
                if end.phase == Phase::Connecting {
                    end.phase = Phase::Open;
                    end.peer = Some(*peer);
                    ready.push((Arc::clone(&end.source), Edge::Ready(Direction::Write)));
                    self.say(now, id, Content::Confirmation);
                }
            }
            Content::Data(..) if end.is_abandoned() => {
                // Nobody will read it.
                self.say(now, id, Content::Reset);
                self.streams.remove(id);
            }
            Content::Data(first, bytes) => {
                end.on_piece(*first, Piece::Bytes(bytes.clone()), ready);
                self.tell_read(now, id);
            }
            Content::End(last) => {
                end.on_piece(*last, Piece::End, ready);
                if end.ended && end.is_abandoned() {
                    self.streams.remove(id);
                }
            }
            Content::Read(read) => {
                end.on_read(*read);
                ready.push((Arc::clone(&end.source), Edge::Ready(Direction::Write)));
            }
            Content::Reset => {
                let refused = end.phase == Phase::Connecting;
                self.fail(id, if refused { ErrorKind::ConnectionRefused } else { ErrorKind::ConnectionReset }, ready);
            }
            Content::Open | Content::Confirmation => {}
        }
        Ok(Verdict::Delivered)
    }

    fn on_open(&mut self, now: Instant, at: SocketAddr, host: HostId, segment: &Segment) -> Result<Verdict, Verdict> {
        let Some(listener) = self.streams.listener(host, at) else {
            self.refuse(now, host, at, segment);
            return Ok(Verdict::Unreachable);
        };
        let Some(listening) = self.streams.listeners.get_mut(&listener) else { return Ok(Verdict::Unreachable) };
        if listening.opening + listening.opened.len() >= listening.backlog {
            return Err(Verdict::BufferFull);
        }
        listening.opening += 1;
        let epoch = self.nats.epoch(at.ip());
        let id = self.streams.add(End::new(host, at, segment.seen, epoch, Phase::Answered(listener), segment.end));
        self.say(now, id, Content::Answer(id));
        Ok(Verdict::Delivered)
    }

    /// The other end has heard the answer: the stream may be accepted.
    fn confirm(&mut self, id: EndId, ready: &mut Ready) {
        let Some(end) = self.streams.ends.get_mut(&id) else { return };
        let Phase::Answered(listener) = end.phase else { return };
        let Some(listening) = self.streams.listeners.get_mut(&listener) else { return };
        end.phase = Phase::Open;
        listening.opening -= 1;
        listening.opened.push_back(id);
        ready.push((Arc::clone(&listening.source), Edge::Ready(Direction::Read)));
    }
}

impl Network {
    /// Ends what a host has open as a kernel does for a process that was killed: streams are reset, sockets closed.
    pub(in crate::sim) fn reset_host(&self, now: Instant, host: HostId) {
        let orphans = {
            let mut state = self.lock();
            let open: Vec<EndId> = state.streams.ends.iter().filter(|(_, end)| end.host == host).map(|(&id, _)| id).collect();
            open.into_iter().for_each(|id| state.say(now, id, Content::Reset));
            let mut orphans = state.sockets.remove_host(host);
            orphans.extend(state.streams.remove_host(host));
            orphans
        };
        orphans.iter().for_each(|source| source.close());
    }
}

#[cfg(test)]
mod tests;
