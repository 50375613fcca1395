//! The simulated UDP network.
//!
//! Owns the sockets of a simulation, the datagrams in flight between them, and the record of what became of each. Does not
//! own time (it is passed in) and knows nothing of the protocols above.
//!
//! A datagram's life: it is sent, meets its link's faults in a fixed order (loss, queue, corruption, delay, reordering,
//! duplication), flies, and is put into the receive queue of the socket that then has its address, if one has.
//!
//! Invariants:
//! - Same seed, same calls at the same times: same trace. All randomness comes from one generator, whose draws do not depend on
//!   what earlier draws gave (a fault with probability zero draws as well), so that changing one fault leaves the others' luck.
//! - Datagrams of one link arrive in the order in which they were sent, unless they were chosen to be reordered.
//! - Sockets are marked ready with the network unlocked.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::net::{Ecn, UdpSocketOptions};
use crate::primitive::{Arc, Mutex, MutexGuard};
use crate::reactor::{Direction, Source};
use crate::sys::message::Outgoing;
use crate::time::Instant;

/// Bytes a socket keeps until they are read, unless it asks for more; Linux's default.
const RECEIVE_BUFFER: usize = 212_992;
/// What a queued datagram costs beside its bytes, as the kernel's accounting has it: empty datagrams are not free.
const DATAGRAM_OVERHEAD: usize = 512;
/// Ports that are given out when a socket asks for none, RFC 6335 section 6.
const FIRST_EPHEMERAL_PORT: u16 = 49_152;
/// The longest UDP payload over IPv4.
const LONGEST_DATAGRAM: usize = 65_507;

thread_local! {
    /// The network of the simulation that this thread drives.
    static CURRENT: RefCell<Option<Network>> = const { RefCell::new(None) };
}

/// What one direction between two addresses does to datagrams. The default is a perfect link with a delay of 1 ms.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkConfig {
    /// How long each datagram flies.
    pub delay: Duration,
    /// A random extra of up to this; it never changes the order.
    pub jitter: Duration,
    /// The probability that a datagram is lost, 0 to 1.
    pub loss: f64,
    /// The probability that a datagram is held back by [`reorder_delay`](Self::reorder_delay) while later ones overtake it.
    pub reorder: f64,
    /// How long a reordered datagram is held back.
    pub reorder_delay: Duration,
    /// The probability that a datagram arrives twice.
    pub duplicate: f64,
    /// The probability that one bit of a datagram is flipped.
    pub corrupt: f64,
    /// Bytes (of payload) a second that pass; `None` is no limit.
    pub rate: Option<u64>,
    /// Bytes that wait at a rate limit before more are dropped.
    pub queue: usize,
}

impl Default for LinkConfig {
    fn default() -> LinkConfig {
        LinkConfig {
            // Not zero: an exchange without end would stop virtual time.
            delay: Duration::from_millis(1),
            jitter: Duration::ZERO,
            loss: 0.0,
            reorder: 0.0,
            reorder_delay: Duration::from_millis(5),
            duplicate: 0.0,
            corrupt: 0.0,
            rate: None,
            // 64 KiB are what a small router has; a sender that fills it learns of its rate by loss.
            queue: 65_536,
        }
    }
}

/// The network of a simulation.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkConfig {
    /// Every direction between two addresses that has no configuration of its own.
    pub link: LinkConfig,
    /// Whether events are recorded. On by default; a long run turns it off to save memory.
    pub trace: bool,
}

impl Default for NetworkConfig {
    fn default() -> NetworkConfig {
        NetworkConfig { link: LinkConfig::default(), trace: true }
    }
}

/// Something that happened to a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceEntry {
    /// When.
    pub time: Instant,
    /// The sender.
    pub from: SocketAddr,
    /// The address that it was sent to.
    pub to: SocketAddr,
    /// Bytes of payload.
    pub size: usize,
    /// What happened.
    pub verdict: Verdict,
}

/// What happened to a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// The link lost it.
    Lost,
    /// The queue at the link's rate limit was full.
    QueueFull,
    /// It arrived, and waits to be read.
    Delivered,
    /// It arrived where no socket has the address.
    Unreachable,
    /// It arrived at a socket whose receive buffer was full.
    BufferFull,
}

/// A simulated network; a clone is another handle to the same.
#[derive(Clone)]
pub struct Network {
    state: Arc<Mutex<State>>,
}

struct State {
    config: NetworkConfig,
    rng: fastrand::Rng,
    links: BTreeMap<(IpAddr, IpAddr), Link>,
    sockets: BTreeMap<SocketId, Bound>,
    /// Who has an address, in the order of binding; several share it by `reuse_port`.
    addresses: BTreeMap<SocketAddr, Vec<SocketId>>,
    next_socket: u64,
    next_port: u16,
    /// By arrival, then by the order of sending.
    flying: BTreeMap<(Instant, u64), Flight>,
    next_flight: u64,
    trace: Vec<TraceEntry>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct SocketId(u64);

/// One direction between two addresses.
#[derive(Default)]
struct Link {
    /// `None`: the network's default.
    config: Option<LinkConfig>,
    /// When the rate limit has passed everything that was sent so far.
    idle_at: Instant,
    /// The latest arrival of a datagram in order.
    last_arrival: Instant,
}

struct Bound {
    local: SocketAddr,
    reuse_port: bool,
    only_v6: bool,
    source: Arc<Source>,
    received: VecDeque<Datagram>,
    received_bytes: usize,
    receive_buffer: usize,
}

struct Flight {
    to: SocketAddr,
    datagram: Datagram,
}

/// A datagram at its receiver.
pub(crate) struct Datagram {
    pub(crate) bytes: Vec<u8>,
    pub(crate) remote: SocketAddr,
    pub(crate) local: IpAddr,
    pub(crate) ecn: Option<Ecn>,
}

impl Network {
    /// An empty network, whose faults are drawn from `rng`.
    pub(crate) fn new(config: NetworkConfig, rng: fastrand::Rng) -> Network {
        let state = State {
            config,
            rng,
            links: BTreeMap::new(),
            sockets: BTreeMap::new(),
            addresses: BTreeMap::new(),
            next_socket: 0,
            next_port: FIRST_EPHEMERAL_PORT,
            flying: BTreeMap::new(),
            next_flight: 0,
            trace: Vec::new(),
        };
        Network { state: Arc::new(Mutex::new(state)) }
    }

    /// The network of the simulation that the calling thread drives.
    pub(crate) fn current() -> Option<Network> {
        CURRENT.with_borrow(Option::clone)
    }

    /// Takes over the network of the thread that drives the simulation, or gives it up.
    #[cfg(any(miri, weald_baton))]
    pub(crate) fn set_current(network: Option<Network>) {
        CURRENT.set(network);
    }

    /// Sockets that this thread binds are this network's, until the guard is dropped.
    pub(crate) fn enter(&self) -> Entered {
        Entered { former: CURRENT.replace(Some(self.clone())) }
    }

    /// From now on datagrams from one address to the other (this direction only) meet `config`. Those in flight do not.
    pub fn set_link(&self, from: IpAddr, to: IpAddr, config: LinkConfig) {
        self.lock().links.entry((from, to)).or_default().config = Some(config);
    }

    /// From now on all directions without a configuration of their own meet `config`.
    pub fn set_default_link(&self, config: LinkConfig) {
        self.lock().config.link = config;
    }

    /// What has happened so far, in order.
    #[must_use]
    pub fn trace(&self) -> Vec<TraceEntry> {
        self.lock().trace.clone()
    }

    /// When the next datagram arrives.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.lock().flying.first_key_value().map(|(&(arrival, _), _)| arrival)
    }

    /// Delivers every datagram that arrives at or before `now`, marks its socket ready, and returns how many there were.
    pub(crate) fn advance(&self, now: Instant) -> usize {
        let mut count = 0;
        loop {
            let ready = {
                let mut state = self.lock();
                let Some(flight) = state.flying.first_entry().filter(|flight| flight.key().0 <= now) else {
                    return count;
                };
                let ((arrival, _), flight) = flight.remove_entry();
                state.arrive(arrival, flight)
            };
            count += 1;
            if let Some(source) = ready {
                source.set_ready(Direction::Read);
            }
        }
    }

    /// Binds a socket. Any address is one of the simulation's own.
    pub(crate) fn bind(&self, options: &UdpSocketOptions, address: SocketAddr) -> io::Result<SimulatedSocket> {
        let mut state = self.lock();
        let local = state.choose_address(options, address)?;
        let id = SocketId(state.next_socket);
        state.next_socket += 1;
        let source = Arc::new(Source::new(id.0));
        let receive_buffer = options.receive_buffer.unwrap_or(RECEIVE_BUFFER);
        let bound = Bound {
            local,
            reuse_port: options.reuse_port,
            only_v6: options.only_v6,
            source: Arc::clone(&source),
            received: VecDeque::new(),
            received_bytes: 0,
            receive_buffer,
        };
        state.sockets.insert(id, bound);
        state.addresses.entry(local).or_default().push(id);
        drop(state);
        Ok(SimulatedSocket { network: self.clone(), id, local, only_v6: options.only_v6, receive_buffer, source })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// Ends [`Network::enter`].
pub(crate) struct Entered {
    former: Option<Network>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.former.take());
    }
}

/// One socket of a simulated network.
pub(crate) struct SimulatedSocket {
    network: Network,
    id: SocketId,
    local: SocketAddr,
    only_v6: bool,
    receive_buffer: usize,
    source: Arc<Source>,
}

impl SimulatedSocket {
    pub(crate) fn local_address(&self) -> SocketAddr {
        self.local
    }

    pub(crate) fn receive_buffer(&self) -> usize {
        self.receive_buffer
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Takes the oldest datagram that has arrived.
    pub(crate) fn receive(&self) -> Option<Datagram> {
        let mut state = self.network.lock();
        let bound = state.sockets.get_mut(&self.id)?;
        let datagram = bound.received.pop_front()?;
        bound.received_bytes -= datagram.bytes.len() + DATAGRAM_OVERHEAD;
        Some(datagram)
    }

    /// Sends one datagram at `now`.
    pub(crate) fn send(&self, now: Instant, datagram: &Outgoing<'_>) -> io::Result<()> {
        let remote = normal(datagram.remote);
        if datagram.bytes.len() > LONGEST_DATAGRAM {
            return Err(crate::sys::socket::too_long());
        }
        let reachable = match self.local {
            SocketAddr::V4(_) => remote.is_ipv4(),
            SocketAddr::V6(local) => remote.is_ipv6() || (local.ip().is_unspecified() && !self.only_v6),
        };
        if !reachable || remote.port() == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{remote} is not of the socket's family")));
        }
        // A socket bound to every address answers from the one asked for, else from loopback.
        let chosen = datagram.ancillary.local.filter(|local| local.is_ipv4() == remote.is_ipv4());
        let ip = match self.local.ip() {
            ip if !ip.is_unspecified() => ip,
            _ if chosen.is_some_and(|ip| !ip.is_unspecified()) => chosen.unwrap_or(remote.ip()),
            _ if remote.is_ipv4() => Ipv4Addr::LOCALHOST.into(),
            _ => Ipv6Addr::LOCALHOST.into(),
        };
        let from = SocketAddr::new(ip, self.local.port());
        let ecn = Ecn::from_bits(datagram.ancillary.ecn);
        self.network.lock().send(now, from, remote, datagram.bytes, ecn);
        Ok(())
    }
}

impl Drop for SimulatedSocket {
    fn drop(&mut self) {
        let mut state = self.network.lock();
        state.sockets.remove(&self.id);
        if let Some(sharers) = state.addresses.get_mut(&self.local) {
            sharers.retain(|&id| id != self.id);
            if sharers.is_empty() {
                state.addresses.remove(&self.local);
            }
        }
    }
}

impl State {
    /// The address that a socket gets, as the kernel would choose or refuse it.
    fn choose_address(&mut self, options: &UdpSocketOptions, address: SocketAddr) -> io::Result<SocketAddr> {
        let mut address = normal(address);
        if address.port() != 0 {
            if self.conflicts(options, address) {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "address already in use"));
            }
            return Ok(address);
        }
        for _ in FIRST_EPHEMERAL_PORT..=u16::MAX {
            address.set_port(self.next_port);
            self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_EPHEMERAL_PORT);
            // A chosen port is never a shared one.
            let alone = UdpSocketOptions { reuse_port: false, ..options.clone() };
            if !self.conflicts(&alone, address) {
                return Ok(address);
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "all ephemeral ports are in use"))
    }

    fn conflicts(&self, options: &UdpSocketOptions, address: SocketAddr) -> bool {
        self.sockets.values().any(|bound| {
            let shared = bound.reuse_port && options.reuse_port;
            let overlap = covers(bound.local, bound.only_v6, address.ip()) || covers(address, options.only_v6, bound.local.ip());
            bound.local.port() == address.port() && overlap && !shared
        })
    }

    fn send(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, bytes: &[u8], ecn: Option<Ecn>) {
        // All draws come first, and always (see the invariants).
        let [lost, corrupted, reordered, duplicated] = std::array::from_fn(|_| self.rng.f64());
        let (jitter, flipped) = (self.rng.f64(), self.rng.usize(..));
        let size = bytes.len();
        let link = self.links.entry((from.ip(), to.ip())).or_default();
        let config = link.config.as_ref().unwrap_or(&self.config.link);
        let mut trace = Trace { entries: self.config.trace.then_some(&mut self.trace), time: now, from, to, size };

        if lost < config.loss {
            trace.add(Verdict::Lost);
            return;
        }
        let mut departure = now;
        if let Some(rate) = config.rate {
            let waiting = link.idle_at.saturating_duration_since(now);
            let queued = waiting.as_nanos() * u128::from(rate) / 1_000_000_000;
            if queued + size as u128 > config.queue as u128 {
                trace.add(Verdict::QueueFull);
                return;
            }
            let nanos = (size as u128 * 1_000_000_000).div_ceil(u128::from(rate.max(1)));
            departure = link.idle_at.max(now) + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            link.idle_at = departure;
        }
        let mut bytes = bytes.to_vec();
        if corrupted < config.corrupt && !bytes.is_empty() {
            let bit = flipped % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            trace.add(Verdict::Corrupted);
        }
        let mut arrival = departure + config.delay + config.jitter.mul_f64(jitter);
        if reordered < config.reorder {
            arrival += config.reorder_delay;
            trace.add(Verdict::Reordered { arrival });
        } else {
            arrival = arrival.max(link.last_arrival);
            link.last_arrival = arrival;
            trace.add(Verdict::Sent { arrival });
        }
        let copies = if duplicated < config.duplicate {
            trace.add(Verdict::Duplicated { arrival });
            2
        } else {
            1
        };
        for _ in 0..copies {
            let datagram = Datagram { bytes: bytes.clone(), remote: from, local: to.ip(), ecn };
            self.flying.insert((arrival, self.next_flight), Flight { to, datagram });
            self.next_flight += 1;
        }
    }

    /// Puts a datagram into its receiver's queue; returns who became readable.
    fn arrive(&mut self, time: Instant, flight: Flight) -> Option<Arc<Source>> {
        let Flight { to, datagram } = flight;
        let (from, size) = (datagram.remote, datagram.bytes.len());
        let receiver = self.receiver(from, to);
        let mut trace = Trace { entries: self.config.trace.then_some(&mut self.trace), time, from, to, size };
        let Some(bound) = receiver.and_then(|id| self.sockets.get_mut(&id)) else {
            trace.add(Verdict::Unreachable);
            return None;
        };
        let cost = size + DATAGRAM_OVERHEAD;
        // As in Linux, the first datagram fits any buffer.
        if bound.received_bytes > 0 && bound.received_bytes + cost > bound.receive_buffer {
            trace.add(Verdict::BufferFull);
            return None;
        }
        bound.received_bytes += cost;
        bound.received.push_back(datagram);
        trace.add(Verdict::Delivered);
        Some(Arc::clone(&bound.source))
    }

    /// Who has an address: a socket bound to it, else one bound to all addresses. Among sharers the sender's address chooses.
    fn receiver(&self, from: SocketAddr, to: SocketAddr) -> Option<SocketId> {
        let v6_any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), to.port());
        let any = if to.is_ipv4() { SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), to.port()) } else { v6_any };
        [to, any, v6_any].into_iter().find_map(|address| {
            let takes = |id: &&SocketId| self.sockets.get(id).is_some_and(|bound| covers(bound.local, bound.only_v6, to.ip()));
            let sharers: Vec<SocketId> = self.addresses.get(&address)?.iter().filter(takes).copied().collect();
            let index = (hash(from) % sharers.len().max(1) as u64) as usize;
            sharers.get(index).copied()
        })
    }
}

/// The place in the trace that one datagram's events go to.
struct Trace<'a> {
    entries: Option<&'a mut Vec<TraceEntry>>,
    time: Instant,
    from: SocketAddr,
    to: SocketAddr,
    size: usize,
}

impl Trace<'_> {
    fn add(&mut self, verdict: Verdict) {
        let Trace { time, from, to, size, .. } = *self;
        if let Some(entries) = &mut self.entries {
            entries.push(TraceEntry { time, from, to, size, verdict });
        }
    }
}

/// Whether a socket bound to `local` receives what is sent to `ip`.
fn covers(local: SocketAddr, only_v6: bool, ip: IpAddr) -> bool {
    local.ip() == ip || (local.ip().is_unspecified() && (local.is_ipv4() == ip.is_ipv4() || (local.is_ipv6() && !only_v6)))
}

/// An IPv4-mapped address as the IPv4 address that it means.
fn normal(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// FNV-1a: fixed across builds and runs, since traces must be.
fn hash(address: SocketAddr) -> u64 {
    let (v4, v6);
    let octets: &[u8] = match address.ip() {
        IpAddr::V4(ip) => {
            v4 = ip.octets();
            &v4
        }
        IpAddr::V6(ip) => {
            v6 = ip.octets();
            &v6
        }
    };
    let bytes = octets.iter().copied().chain(address.port().to_be_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    // The low bits of FNV are weak, and the remainder takes those.
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests;
