//! The simulated TCP streams.
//!
//! Owns listeners, the two ends of each stream, and what makes an orderly stream of bytes of segments that get lost. Does not own
//! links, nor who waits: its sockets are tried inside of [`Source::try_io`], and mark their source when a try may give more.
//!
//! What is like TCP: the three segments that open a stream, refusal and backlog, a window of 64 KiB that a reader opens, half
//! close, resets, and repetitions whose pauses double until the stream is given up. What is not: a sender knows at once what the
//! network lost, so that nothing is sent twice in vain; there is no congestion control, and segments wait at a rate limit instead
//! of overrunning its queue; a closed port is free at once.
//!
//! Invariants:
//! - An end has sent at most [`WINDOW`] bytes more than the other end's program has read.
//! - Every segment but a reset arrives, or its end fails.
//! - An end whose handle is gone stays until the other end has closed, too.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::time::Duration;

use super::address::{HostId, covers, headers, normal};
use super::{Departure, Edge, Event, Network, Protocol, Ready, State, Verdict};
use crate::primitive::Arc;
use crate::reactor::{Direction, Source};
use crate::sim::node;
use crate::time::Instant;

/// Bytes that are sent and not read, at most, in each direction.
const WINDOW: u64 = 65_536;
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Asked for, by this end.
    Connecting,
    /// Answered by this end, and not confirmed.
    Answered(ListenerId),
    Open,
    /// Nothing is sent or received any more.
    Dead,
}

/// One end of a stream.
struct End {
    host: HostId,
    local: SocketAddr,
    remote: SocketAddr,
    /// Of the local address's translation when the stream was opened.
    epoch: u64,
    peer: Option<EndId>,
    source: Arc<Source>,
    phase: Phase,
    /// Whether a program holds the stream.
    held: bool,
    error: Option<ErrorKind>,
    /// The number of the next byte to send, and of the first that must not be sent yet.
    next: u64,
    limit: u64,
    write_closed: bool,
    /// The number of the next byte to arrive in order.
    expected: u64,
    early: BTreeMap<u64, Piece>,
    received: VecDeque<u8>,
    /// Bytes that the program has read, and as many as the other end was told.
    read: u64,
    told: u64,
    /// The other end's last byte has arrived.
    ended: bool,
    read_closed: bool,
}

/// Notes the source of something that is removed.
fn take(sources: &mut Vec<Arc<Source>>, source: &Arc<Source>) -> bool {
    sources.push(Arc::clone(source));
    false
}

/// What arrives in order.
enum Piece {
    Bytes(Vec<u8>),
    End,
}

/// A segment under way.
pub(super) struct Segment {
    pub(super) sender: HostId,
    from: SocketAddr,
    /// As what the receiver sees the sender.
    pub(super) seen: SocketAddr,
    pub(super) to: SocketAddr,
    epoch: u64,
    end: Option<EndId>,
    peer: Option<EndId>,
    content: Content,
    repetitions: u32,
}

enum Content {
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
    pub(super) fn summary(&self) -> (Protocol, SocketAddr, SocketAddr, usize) {
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

impl Network {
    /// Listens for connections, of which at most `backlog` wait to be accepted.
    ///
    /// # Errors
    /// `AddrInUse`; `AddrNotAvailable` if the address is not the node's.
    pub(crate) fn listen(&self, address: SocketAddr, backlog: usize) -> io::Result<SimulatedListener> {
        let host = node::current_host()?;
        let mut local = normal(address);
        let mut state = self.lock();
        state.hosts.check_local(host, local.ip())?;
        if local.port() == 0 {
            local.set_port(state.ephemeral_port(|state, port| state.streams.has_port(host, port))?);
        } else if state.streams.listener_conflicts(host, local) {
            return Err(io::Error::new(ErrorKind::AddrInUse, "address already in use"));
        }
        let id = ListenerId(state.streams.next_id());
        let source = Arc::new(Source::new(id.0));
        let (opened, backlog) = (VecDeque::new(), backlog.max(1));
        let listening = Listening { host, local, backlog, opening: 0, opened, source: Arc::clone(&source) };
        state.streams.listeners.insert(id, listening);
        drop(state);
        Ok(SimulatedListener { network: self.clone(), id, local, source })
    }

    /// Begins to connect, from an address of the host's own if one is given. The stream becomes writable when
    /// [`finish_connect`](SimulatedStream::finish_connect) has something to say.
    ///
    /// # Errors
    /// There is no way to `remote`, or no port to start from.
    pub(crate) fn connect(&self, local: Option<IpAddr>, remote: SocketAddr) -> io::Result<SimulatedStream> {
        let host = node::current_host()?;
        let mut remote = normal(remote);
        if remote.port() == 0 {
            return Err(io::Error::new(ErrorKind::InvalidInput, "nobody listens on port 0"));
        }
        let (any, loopback): (IpAddr, IpAddr) = match remote {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::LOCALHOST.into()),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into()),
        };
        if remote.ip().is_unspecified() {
            remote.set_ip(loopback);
        }
        let asked = local.map_or(any, |ip| ip.to_canonical());
        if asked.is_ipv4() != remote.is_ipv4() {
            return Err(io::Error::new(ErrorKind::InvalidInput, format!("{remote} cannot be reached from {asked}")));
        }
        let mut state = self.lock();
        state.hosts.check_local(host, asked)?;
        let ip = state.hosts.source(host, asked, None, remote.ip())?;
        let port = state.ephemeral_port(|state, port| state.streams.has_port(host, port))?;
        let local = SocketAddr::new(ip, port);
        let epoch = state.nats.epoch(ip);
        let id = state.streams.add(End::new(host, local, remote, epoch, Phase::Connecting, None));
        let source = Arc::clone(&state.streams.ends[&id].source);
        state.say(Instant::now(), id, Content::Open);
        drop(state);
        Ok(SimulatedStream { network: self.clone(), id, local, remote, source })
    }
}

/// A listening socket of a simulated network. Dropping it resets the connections that nobody has accepted.
pub(crate) struct SimulatedListener {
    network: Network,
    id: ListenerId,
    local: SocketAddr,
    source: Arc<Source>,
}

impl SimulatedListener {
    pub(crate) fn local_address(&self) -> SocketAddr {
        self.local
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Takes the connection that has waited longest, and who made it.
    ///
    /// # Errors
    /// `WouldBlock` if there is none.
    pub(crate) fn try_accept(&self) -> io::Result<(SimulatedStream, SocketAddr)> {
        let mut state = self.network.lock();
        let streams = &mut state.streams;
        let listening = streams.listeners.get_mut(&self.id).ok_or_else(crashed)?;
        let id = listening.opened.pop_front().ok_or(ErrorKind::WouldBlock)?;
        let end = streams.ends.get_mut(&id).ok_or(ErrorKind::WouldBlock)?;
        end.held = true;
        let (local, remote, source) = (end.local, end.remote, Arc::clone(&end.source));
        drop(state);
        Ok((SimulatedStream { network: self.network.clone(), id, local, remote, source }, remote))
    }
}

impl Drop for SimulatedListener {
    fn drop(&mut self) {
        let mut state = self.network.lock();
        let Some(listening) = state.streams.listeners.remove(&self.id) else { return };
        let mut left: Vec<EndId> = listening.opened.into();
        left.extend(state.streams.ends.iter().filter(|(_, end)| end.phase == Phase::Answered(self.id)).map(|(&id, _)| id));
        for id in left {
            state.say(Instant::now(), id, Content::Reset);
            state.streams.remove(id);
        }
    }
}

/// A stream of a simulated network, as one end holds it. Dropping it closes it: in order if everything that has arrived was
/// read, by a reset otherwise.
pub(crate) struct SimulatedStream {
    network: Network,
    id: EndId,
    local: SocketAddr,
    remote: SocketAddr,
    source: Arc<Source>,
}

impl SimulatedStream {
    pub(crate) fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// The other end's address, as this end sees it.
    pub(crate) fn peer_address(&self) -> SocketAddr {
        self.remote
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Says how connecting went.
    ///
    /// # Errors
    /// `WouldBlock` while it goes on; `ConnectionRefused`; `TimedOut`.
    pub(crate) fn finish_connect(&self) -> io::Result<()> {
        let mut state = self.network.lock();
        let end = state.streams.ends.get_mut(&self.id).ok_or_else(crashed)?;
        match end.phase {
            Phase::Connecting => Err(ErrorKind::WouldBlock.into()),
            _ => end.error.take().map_or(Ok(()), |error| Err(error.into())),
        }
    }

    /// What has gone wrong since the last call of any kind that told.
    pub(crate) fn take_error(&self) -> Option<io::Error> {
        let mut state = self.network.lock();
        state.streams.ends.get_mut(&self.id)?.error.take().map(io::Error::from)
    }

    /// Takes what has arrived, as far as it fits. Zero bytes are the end.
    ///
    /// # Errors
    /// `WouldBlock`; `ConnectionReset` or `TimedOut`, once.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.network.lock();
        let end = state.streams.ends.get_mut(&self.id).ok_or_else(crashed)?;
        let len = end.peek(buffer)?;
        if len > 0 {
            end.received.drain(..len);
            end.read += len as u64;
            state.tell_read(Instant::now(), self.id);
        }
        Ok(len)
    }

    /// As [`try_read`](Self::try_read), but what has arrived stays.
    ///
    /// # Errors
    /// As for `try_read`.
    pub(crate) fn try_peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.network.lock();
        state.streams.ends.get_mut(&self.id).ok_or_else(crashed)?.peek(buffer)
    }

    /// Sends as much as the other end's window has room for.
    ///
    /// # Errors
    /// `WouldBlock`; `ConnectionReset` or `TimedOut`, once; `BrokenPipe` afterwards, and after the closing of this direction.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.network.lock();
        let end = state.streams.ends.get_mut(&self.id).ok_or_else(crashed)?;
        if let Some(error) = end.error.take() {
            return Err(error.into());
        }
        if end.phase == Phase::Dead || end.write_closed {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if bytes.is_empty() {
            return Ok(0);
        }
        let room = usize::try_from(end.limit - end.next).unwrap_or(usize::MAX);
        if end.phase == Phase::Connecting || room == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let len = room.min(bytes.len());
        let (from, to) = (end.local.ip(), end.remote.ip());
        let longest = state.segment_size(from, to);
        for bytes in bytes[..len].chunks(longest) {
            let Some(end) = state.streams.ends.get_mut(&self.id) else { break };
            let first = end.next;
            end.next += bytes.len() as u64;
            state.say(Instant::now(), self.id, Content::Data(first, bytes.to_vec()));
        }
        Ok(len)
    }

    /// Closes one direction or both. What arrives in a closed direction is thrown away.
    ///
    /// # Errors
    /// `NotConnected`.
    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let mut state = self.network.lock();
        let end = state.streams.ends.get_mut(&self.id).ok_or_else(crashed)?;
        if end.phase != Phase::Open {
            return Err(ErrorKind::NotConnected.into());
        }
        if how != Shutdown::Write {
            end.read_closed = true;
            end.discard();
        }
        if how != Shutdown::Read && !end.write_closed {
            end.write_closed = true;
            let sent = end.next;
            state.say(Instant::now(), self.id, Content::End(sent));
        }
        state.tell_read(Instant::now(), self.id);
        drop(state);
        // Those who wait for it learn that it is closed.
        if how != Shutdown::Write {
            self.source.set_ended(Direction::Read);
        }
        if how != Shutdown::Read {
            self.source.set_ended(Direction::Write);
        }
        Ok(())
    }

    /// Ends the stream at once, without what is under way.
    pub(crate) fn reset(&self) {
        let mut state = self.network.lock();
        state.say(Instant::now(), self.id, Content::Reset);
        state.streams.remove(self.id);
    }
}

impl Drop for SimulatedStream {
    fn drop(&mut self) {
        let mut state = self.network.lock();
        let Some(end) = state.streams.ends.get_mut(&self.id) else { return };
        end.held = false;
        let last = (!end.write_closed).then_some(end.next);
        end.write_closed = true;
        match end.phase {
            Phase::Open if !end.received.is_empty() => {
                state.say(Instant::now(), self.id, Content::Reset);
                state.streams.remove(self.id);
            }
            Phase::Open => {
                let ended = end.ended;
                if let Some(sent) = last {
                    state.say(Instant::now(), self.id, Content::End(sent));
                }
                if ended {
                    state.streams.remove(self.id);
                }
            }
            Phase::Connecting | Phase::Answered(_) | Phase::Dead => state.streams.remove(self.id),
        }
    }
}

fn crashed() -> io::Error {
    io::Error::new(ErrorKind::ConnectionAborted, "the stream's node has crashed")
}

impl End {
    fn new(host: HostId, local: SocketAddr, remote: SocketAddr, epoch: u64, phase: Phase, peer: Option<EndId>) -> End {
        End {
            host,
            local,
            remote,
            epoch,
            peer,
            source: Arc::new(Source::new(0)),
            phase,
            held: phase == Phase::Connecting,
            error: None,
            next: 0,
            limit: WINDOW,
            write_closed: false,
            expected: 0,
            early: BTreeMap::new(),
            received: VecDeque::new(),
            read: 0,
            told: 0,
            ended: false,
            read_closed: false,
        }
    }

    /// Copies what has arrived, as far as it fits. Zero bytes are the end.
    fn peek(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len().min(self.received.len());
        if len > 0 {
            buffer.iter_mut().zip(&self.received).for_each(|(place, &byte)| *place = byte);
            return Ok(len);
        }
        match self.error.take() {
            Some(error) => Err(error.into()),
            None if buffer.is_empty() || self.ended || self.read_closed || self.phase == Phase::Dead => Ok(0),
            None => Err(ErrorKind::WouldBlock.into()),
        }
    }

    fn discard(&mut self) {
        self.read += self.received.len() as u64;
        self.received.clear();
    }

    /// Who reads learns what is there.
    fn announce(&self, ready: &mut Ready) {
        let edge = if self.ended { Edge::Ended(Direction::Read) } else { Edge::Ready(Direction::Read) };
        ready.push((Arc::clone(&self.source), edge));
    }

    /// Takes in what has arrived, and puts in order what is complete.
    fn take_in(&mut self, first: u64, piece: Piece) {
        self.early.insert(first, piece);
        while let Some(piece) = self.early.remove(&self.expected) {
            match piece {
                Piece::Bytes(bytes) => {
                    self.expected += bytes.len() as u64;
                    self.received.extend(bytes);
                }
                Piece::End => self.ended = true,
            }
        }
        if self.read_closed {
            self.discard();
        }
    }
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

impl State {
    /// The longest payload of a segment between two addresses.
    fn segment_size(&self, from: IpAddr, to: IpAddr) -> usize {
        let link = self.links.get(&(from, to)).and_then(|link| link.config.as_ref()).unwrap_or(&self.config.link);
        let mtu = link.mtu.into_iter().chain(self.config.mtu).fold(USUAL_MTU, usize::min);
        mtu.saturating_sub(headers(Protocol::Tcp, to)).max(1)
    }

    /// Sends a segment of an end.
    fn say(&mut self, now: Instant, id: EndId, content: Content) {
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

    fn repeat_later(&mut self, now: Instant, segment: Segment) {
        if matches!(segment.content, Content::Reset) {
            return;
        }
        let first = if segment.is_opening() { OPENING_PAUSE } else { PAUSE };
        let pause = first.saturating_mul(1 << segment.repetitions).min(LONGEST_PAUSE);
        self.push(now + pause, Event::Retransmission(segment));
    }

    /// Sends a segment again, or gives its stream up.
    pub(super) fn retransmit(&mut self, now: Instant, mut segment: Segment, ready: &mut Ready) {
        let most = if segment.is_opening() { OPENING_REPETITIONS } else { REPETITIONS };
        if segment.repetitions >= most {
            if let Some(id) = segment.end {
                self.fail(id, ErrorKind::TimedOut, ready);
            }
            return;
        }
        segment.repetitions += 1;
        self.transmit(now, segment);
    }

    /// The stream is over for this end.
    fn fail(&mut self, id: EndId, error: ErrorKind, ready: &mut Ready) {
        let Some(end) = self.streams.ends.get_mut(&id) else { return };
        if matches!(end.phase, Phase::Answered(_)) || (!end.held && end.write_closed) {
            return self.streams.remove(id);
        }
        if end.phase != Phase::Dead {
            end.phase = Phase::Dead;
            end.error = Some(error);
            end.early.clear();
        }
        ready.push((Arc::clone(&end.source), Edge::Ended(Direction::Read)));
        ready.push((Arc::clone(&end.source), Edge::Ended(Direction::Write)));
    }

    /// Answers a segment that belongs to nothing here.
    fn refuse(&mut self, now: Instant, host: HostId, at: SocketAddr, segment: &Segment) {
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

    /// Tells the other end what was read, once it is worth a segment: at the latest when the other end has none of its window left.
    fn tell_read(&mut self, now: Instant, id: EndId) {
        let Some(end) = self.streams.ends.get_mut(&id) else { return };
        if end.read - end.told >= WINDOW / 2 && !end.ended && end.phase == Phase::Open {
            end.told = end.read;
            let read = end.read;
            self.say(now, id, Content::Read(read));
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
            Content::Data(..) if !end.held && end.write_closed => {
                // Nobody will read it.
                self.say(now, id, Content::Reset);
                self.streams.remove(id);
            }
            Content::Data(first, bytes) => {
                end.take_in(*first, Piece::Bytes(bytes.clone()));
                end.announce(ready);
                self.tell_read(now, id);
            }
            Content::End(last) => {
                end.take_in(*last, Piece::End);
                end.announce(ready);
                if end.ended && !end.held && end.write_closed {
                    self.streams.remove(id);
                }
            }
            Content::Read(read) => {
                end.limit = end.limit.max(read + WINDOW);
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
