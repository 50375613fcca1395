//! The simulated network.
//!
//! Owns what is under way between hosts, and the controls that a program has over the network. Does not own time (it is passed
//! in) and knows nothing of the protocols above. Faults are `link`'s, datagram sockets `socket`'s, streams `stream`'s, addresses
//! and their translation `address`'s, the record `trace`'s.
//!
//! A datagram's life: it is sent, is translated by its host's NAT, meets partitions and blackholes, then its link's faults in a
//! fixed order, flies, and is put into the receive queue of the socket that then has its address, if one has.
//!
//! Invariants:
//! - Same seed, same calls at the same times: same trace. Every datagram and segment draws its luck, whatever becomes of it.
//! - What happens at one instant happens in the order in which it was caused.
//! - Sockets are marked ready with the network unlocked, and so are changes of the program's own run.

mod address;
mod link;
mod socket;
pub(crate) mod stream;
mod trace;

pub(in crate::sim) use self::address::HostId;
pub use self::link::{Burst, LinkConfig};
pub(crate) use self::socket::SimulatedSocket;
pub use self::trace::{Protocol, TraceEntry, Verdict};

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use self::address::{FIRST_EPHEMERAL_PORT, Hosts, Nats, headers};
use self::link::{Link, Luck, Parcel, Passage};
use self::socket::{Flight, Sockets};
use self::stream::{Segment, Streams};
use self::trace::Trace;
use crate::net::Ecn;
use crate::primitive::{Arc, Mutex, MutexGuard};
use crate::reactor::{Direction, Source};
use crate::sim::node::Nodes;
use crate::time::Instant;

thread_local! {
    /// The network of the simulation that this thread drives.
    static CURRENT: RefCell<Option<Network>> = const { RefCell::new(None) };
}

/// The network of a simulation.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkConfig {
    /// Every direction between two addresses that has no configuration of its own.
    pub link: LinkConfig,
    /// The longest IP packet that hosts' own interfaces send, in bytes. A longer datagram fails with the system's "message too
    /// long" if its socket does not [fragment](crate::net::UdpSocketOptions::dont_fragment), and goes in fragments otherwise.
    /// `None`, the default, is no limit.
    pub mtu: Option<usize>,
    /// Whether events are recorded. On by default; a long run turns it off to save memory.
    pub trace: bool,
}

impl Default for NetworkConfig {
    fn default() -> NetworkConfig {
        NetworkConfig { link: LinkConfig::default(), mtu: None, trace: true }
    }
}

/// A simulated network, to change what it does while a program runs; a clone is another handle to the same.
///
/// What is in flight when something changes still arrives, except after a crash.
///
/// ```
/// use std::net::SocketAddr;
/// use std::time::Duration;
/// use weald_runtime::net::UdpSocket;
/// use weald_runtime::sim::{self, LinkConfig, Verdict};
/// use weald_runtime::time::Instant;
///
/// sim::run(1, || {
///     let network = sim::network().expect("inside of a simulation");
///     let (a, b): (SocketAddr, SocketAddr) = ("10.0.0.1:1000".parse().unwrap(), "10.0.0.2:1000".parse().unwrap());
///     let sender = UdpSocket::bind(a).unwrap();
///     let receiver = UdpSocket::bind(b).unwrap();
///     receiver.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
///     let mut buffer = [0; 16];
///
///     // Nothing gets from one group to another until the network is healed, which is arranged for here.
///     network.partition([[a.ip()], [b.ip()]]);
///     network.schedule(Instant::now() + Duration::from_secs(5), |network| network.heal());
///     sender.send_to(b"one", b).unwrap();
///     assert!(receiver.recv_from(&mut buffer).is_err());
///     assert_eq!(network.trace()[0].verdict, Verdict::Partitioned);
///     weald_runtime::sleep(Duration::from_secs(5));
///     sender.send_to(b"two", b).unwrap();
///     assert_eq!(receiver.recv_from(&mut buffer).unwrap(), (3, a));
///
///     // The way from `a` to `b` gets worse, the way back does not.
///     network.set_link(a.ip(), b.ip(), LinkConfig { delay: Duration::from_millis(300), ..LinkConfig::default() });
///     let start = Instant::now();
///     sender.send_to(b"three", b).unwrap();
///     receiver.recv_from(&mut buffer).unwrap();
///     assert_eq!(start.elapsed(), Duration::from_millis(300));
/// });
/// ```
#[derive(Clone)]
pub struct Network {
    state: Arc<Mutex<State>>,
    pub(in crate::sim) nodes: Arc<Mutex<Nodes>>,
}

struct State {
    config: NetworkConfig,
    luck: Luck,
    links: BTreeMap<(IpAddr, IpAddr), Link>,
    /// The group of each address while the network is partitioned.
    groups: BTreeMap<IpAddr, usize>,
    hosts: Hosts,
    nats: Nats,
    next_port: u16,
    sockets: Sockets,
    streams: Streams,
    /// By time, then by the order in which they were caused.
    events: BTreeMap<(Instant, u64), Event>,
    next_event: u64,
    trace: Vec<TraceEntry>,
}

/// What will happen.
enum Event {
    /// A datagram arrives.
    Datagram(Flight),
    /// A segment of a stream arrives.
    Segment(Segment),
    /// The sender of a segment sends it again.
    Retransmission(Segment),
    /// The program's change of the network.
    Change(Change),
}

type Change = Box<dyn FnOnce(&Network) + Send>;

/// Sockets and streams to be marked ready once the network is unlocked.
type Ready = Vec<(Arc<Source>, Edge)>;

/// What has become of one direction of a socket.
#[derive(Clone, Copy)]
enum Edge {
    Ready(Direction),
    /// For the last time.
    Ended(Direction),
}

/// Something that leaves a host.
struct Departure {
    protocol: Protocol,
    from: SocketAddr,
    to: SocketAddr,
    size: usize,
    ecn: Option<Ecn>,
}

impl Network {
    /// An empty network, whose faults are drawn from `first` and, those that came later, from `second`.
    pub(crate) fn new(config: NetworkConfig, first: fastrand::Rng, second: fastrand::Rng) -> Network {
        let state = State {
            config,
            luck: Luck::new(first, second),
            links: BTreeMap::new(),
            groups: BTreeMap::new(),
            hosts: Hosts::new(),
            nats: Nats::default(),
            next_port: FIRST_EPHEMERAL_PORT,
            sockets: Sockets::default(),
            streams: Streams::default(),
            events: BTreeMap::new(),
            next_event: 0,
            trace: Vec::new(),
        };
        Network { state: Arc::new(Mutex::new(state)), nodes: Arc::default() }
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

    /// From now on what goes from one address to the other (this direction only) meets `config`.
    ///
    /// # Panics
    ///
    /// If one of its probabilities is not of 0 to 1, or its rate is zero.
    #[track_caller]
    pub fn set_link(&self, from: IpAddr, to: IpAddr, config: LinkConfig) {
        config.check();
        self.lock().links.entry((from, to)).or_default().config = Some(config);
    }

    /// From now on all directions without a configuration of their own meet `config`.
    ///
    /// # Panics
    ///
    /// As [`set_link`](Self::set_link).
    #[track_caller]
    pub fn set_default_link(&self, config: LinkConfig) {
        config.check();
        self.lock().config.link = config;
    }

    /// From now on this is the longest IP packet that hosts' own interfaces send: [`NetworkConfig::mtu`].
    pub fn set_mtu(&self, mtu: Option<usize>) {
        self.lock().config.mtu = mtu;
    }

    /// From now on everything from one address to the other (this direction only) is swallowed without a word, until
    /// [`lift_blackhole`](Self::lift_blackhole).
    pub fn blackhole(&self, from: IpAddr, to: IpAddr) {
        self.lock().links.entry((from, to)).or_default().blackhole = true;
    }

    /// Ends a [`blackhole`](Self::blackhole).
    pub fn lift_blackhole(&self, from: IpAddr, to: IpAddr) {
        self.lock().links.entry((from, to)).or_default().blackhole = false;
    }

    /// From now on nothing gets from an address of one group to an address of another. Addresses in no group reach all. It
    /// replaces an earlier partition.
    pub fn partition<G>(&self, groups: impl IntoIterator<Item = G>)
    where
        G: IntoIterator<Item = IpAddr>,
    {
        let groups = groups.into_iter().enumerate();
        let groups = groups.flat_map(|(number, group)| group.into_iter().map(move |address| (address, number))).collect();
        self.lock().groups = groups;
    }

    /// Ends a [`partition`](Self::partition).
    pub fn heal(&self) {
        self.lock().groups.clear();
    }

    /// Puts the host with the address `inside` behind a NAT that shows it as `public`, or makes its NAT forget what it has
    /// translated: from now on its datagrams come from `public` and ports that were not used before, and what is sent to those
    /// finds back to it. What is sent to former ones is lost, and streams that were open break. The host itself notices nothing.
    /// Links and partitions go on by the inside address.
    pub fn rebind(&self, inside: IpAddr, public: IpAddr) {
        self.lock().nats.rebind(inside, public);
    }

    /// Changes the network at a time to come, on nobody's behalf; a time that has passed means now.
    pub fn schedule(&self, at: Instant, change: impl FnOnce(&Network) + Send + 'static) {
        self.lock().push(at, Event::Change(Box::new(change)));
    }

    /// What has happened so far, in order.
    #[must_use]
    pub fn trace(&self) -> Vec<TraceEntry> {
        self.lock().trace.clone()
    }

    /// When something happens next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.lock().events.first_key_value().map(|(&(time, _), _)| time)
    }

    /// Lets everything happen that happens at or before `now`, marks sockets ready, and returns how many things there were.
    pub(crate) fn advance(&self, now: Instant) -> usize {
        let mut count = 0;
        loop {
            let mut ready = Ready::new();
            {
                let mut state = self.lock();
                let Some(event) = state.events.first_entry().filter(|event| event.key().0 <= now) else {
                    return count;
                };
                let ((time, _), event) = event.remove_entry();
                match event {
                    Event::Datagram(flight) => ready.extend(state.arrive(time, flight)),
                    Event::Segment(segment) => state.on_segment(time, segment, &mut ready),
                    Event::Retransmission(segment) => state.retransmit(time, segment, &mut ready),
                    Event::Change(change) => {
                        drop(state);
                        change(self);
                    }
                }
            }
            count += 1;
            mark(ready);
        }
    }

    /// What has not happened yet never will. A change may own what owns the network, a node say, and would keep both for ever.
    pub(in crate::sim) fn forget_events(&self) {
        // Their destructors are the program's, and may use the network.
        let events = std::mem::take(&mut self.lock().events);
        drop(events);
    }

    /// Adds a host with these addresses, or with a free one if there are none, and says which they are.
    pub(in crate::sim) fn add_host(&self, addresses: Vec<IpAddr>) -> io::Result<(HostId, Vec<IpAddr>)> {
        self.lock().hosts.add(addresses)
    }

    /// The addresses of all nodes of that name, in the order of their starts.
    pub(crate) fn addresses_of(&self, name: &str) -> Vec<IpAddr> {
        let hosts = self.nodes.lock().hosts_of(name);
        let state = self.lock();
        hosts.into_iter().flat_map(|host| state.hosts.addresses(host)).copied().collect()
    }

    /// Cuts a host off as a power failure does: its sockets and streams are gone, and what is in flight from or to it vanishes.
    pub(in crate::sim) fn cut_host(&self, now: Instant, host: HostId) {
        let orphans = {
            let mut state = self.lock();
            state.hosts.set_up(host, false);
            state.drop_flights(now, host);
            let mut orphans = state.sockets.remove_host(host);
            orphans.extend(state.streams.remove_host(host));
            orphans
        };
        // Whoever still holds one, in another node, waits in vain.
        orphans.iter().for_each(|source| source.close());
    }

    /// Ends [`cut_host`](Self::cut_host).
    pub(in crate::sim) fn revive_host(&self, host: HostId) {
        self.lock().hosts.set_up(host, true);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

fn mark(ready: Ready) {
    for (source, edge) in ready {
        match edge {
            Edge::Ready(direction) => source.set_ready(direction),
            Edge::Ended(direction) => source.set_ended(direction),
        }
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

impl State {
    fn push(&mut self, time: Instant, event: Event) {
        self.events.insert((time, self.next_event), event);
        self.next_event += 1;
    }

    /// Sends something off; says as who the receiver sees the sender, and how it passes if it does.
    fn depart(&mut self, now: Instant, departure: &Departure) -> (SocketAddr, Option<Passage>) {
        let draws = self.luck.draw();
        let Departure { protocol, from, to, size, ecn } = *departure;
        let seen = self.nats.outward(protocol, from, to);
        // Links lead to hosts, whatever they are seen as.
        let host = self.nats.inward(protocol, from, to).map_or(to.ip(), |inside| inside.ip());
        let entries = self.config.trace.then_some(&mut self.trace);
        let mut trace = Trace { entries, time: now, protocol, from: seen, to, size };
        if let (Some(a), Some(b)) = (self.groups.get(&from.ip()), self.groups.get(&host))
            && a != b
        {
            return (seen, trace.drop(Verdict::Partitioned));
        }
        let link = self.links.entry((from.ip(), host)).or_default();
        if link.blackhole {
            return (seen, trace.drop(Verdict::Blackholed));
        }
        let parcel = Parcel { size, headers: headers(protocol, to.ip()), ecn, patient: protocol == Protocol::Tcp };
        (seen, link.pass(&self.config.link, now, parcel, &draws, &mut trace))
    }

    fn trace(&mut self, time: Instant, protocol: Protocol, from: SocketAddr, to: SocketAddr, size: usize, verdict: Verdict) {
        Trace { entries: self.config.trace.then_some(&mut self.trace), time, protocol, from, to, size }.add(verdict);
    }

    /// What is in flight from or to a host vanishes, and what it would have sent again is not sent.
    fn drop_flights(&mut self, now: Instant, host: HostId) {
        let mut gone = Vec::new();
        let State { events, hosts, nats, .. } = self;
        let involves = |sender: HostId, protocol, from, to: SocketAddr| {
            let receiver = nats.inward(protocol, from, to).map(|inside| hosts.owner(sender, inside.ip()));
            sender == host || receiver == Some(host)
        };
        events.retain(|_, event| {
            let vanished = match event {
                Event::Datagram(flight) => {
                    involves(flight.sender, Protocol::Udp, flight.datagram.remote, flight.to).then(|| flight.summary())
                }
                Event::Segment(segment) => involves(segment.sender, Protocol::Tcp, segment.seen, segment.to).then(|| segment.summary()),
                Event::Retransmission(segment) => return segment.sender != host,
                Event::Change(_) => None,
            };
            gone.extend(vanished);
            vanished.is_none()
        });
        // A retransmission of what vanished is its sender's business, as with any loss.
        for (protocol, from, to, size) in gone {
            self.trace(now, protocol, from, to, size, Verdict::HostDown);
        }
    }

    /// Chooses a port that `taken` does not know.
    fn ephemeral_port(&mut self, mut taken: impl FnMut(&State, u16) -> bool) -> io::Result<u16> {
        for _ in FIRST_EPHEMERAL_PORT..=u16::MAX {
            let port = self.next_port;
            self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_EPHEMERAL_PORT);
            if !taken(self, port) {
                return Ok(port);
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "all ephemeral ports are in use"))
    }
}

#[cfg(test)]
mod tests;
