//! The simulated UDP sockets.
//!
//! Owns the sockets, what has arrived at them, and which of them has an address.
//!
//! Invariant: a socket's address is in the table of addresses as long as the socket is in the table of sockets.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::address::{HostId, covers, hash, headers, normal};
use super::{Departure, Edge, Event, Network, Protocol, Ready, State, Verdict};
use crate::net::{Ecn, UdpSocketOptions};
use crate::primitive::Arc;
use crate::reactor::{Direction, Source};
use crate::sim::node;
use crate::sys::message::Outgoing;
use crate::time::Instant;

/// Bytes a socket keeps until they are read, unless it asks for more; Linux's default.
const RECEIVE_BUFFER: usize = 212_992;
/// What a queued datagram costs beside its bytes, as the kernel's accounting has it: empty datagrams are not free.
const DATAGRAM_OVERHEAD: usize = 512;
/// The longest UDP payload over IPv4.
const LONGEST_DATAGRAM: usize = 65_507;

/// The sockets of a network.
#[derive(Default)]
pub(super) struct Sockets {
    bound: BTreeMap<SocketId, Bound>,
    /// Who has an address, in the order of binding; several share it by `reuse_port`.
    addresses: BTreeMap<(HostId, SocketAddr), Vec<SocketId>>,
    next: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct SocketId(u64);

struct Bound {
    host: HostId,
    local: SocketAddr,
    reuse_port: bool,
    only_v6: bool,
    /// The only one that it receives from, if it is connected.
    peer: Option<SocketAddr>,
    source: Arc<Source>,
    received: VecDeque<Datagram>,
    received_bytes: usize,
    receive_buffer: usize,
}

/// A datagram under way.
pub(super) struct Flight {
    pub(super) sender: HostId,
    pub(super) to: SocketAddr,
    pub(super) datagram: Datagram,
}

impl Flight {
    /// What the trace says of it.
    pub(super) fn summary(&self) -> (Protocol, SocketAddr, SocketAddr, usize) {
        (Protocol::Udp, self.datagram.remote, self.to, self.datagram.bytes.len())
    }
}

/// A datagram at its receiver.
#[derive(Clone)]
pub(crate) struct Datagram {
    pub(crate) bytes: Vec<u8>,
    pub(crate) remote: SocketAddr,
    pub(crate) local: IpAddr,
    pub(crate) ecn: Option<Ecn>,
}

impl Network {
    /// Binds a socket. Any address is one of the simulation's own; inside of a node, those of the node.
    pub(crate) fn bind(&self, options: &UdpSocketOptions, address: SocketAddr) -> io::Result<SimulatedSocket> {
        let host = node::current_host()?;
        let mut state = self.lock();
        let local = state.choose_address(host, options, address)?;
        let id = SocketId(state.sockets.next);
        state.sockets.next += 1;
        let source = Arc::new(Source::new(id.0));
        let receive_buffer = options.receive_buffer.unwrap_or(RECEIVE_BUFFER);
        let bound = Bound {
            host,
            local,
            reuse_port: options.reuse_port,
            only_v6: options.only_v6,
            peer: None,
            source: Arc::clone(&source),
            received: VecDeque::new(),
            received_bytes: 0,
            receive_buffer,
        };
        state.sockets.bound.insert(id, bound);
        state.sockets.addresses.entry((host, local)).or_default().push(id);
        drop(state);
        let (only_v6, dont_fragment) = (options.only_v6, options.dont_fragment);
        Ok(SimulatedSocket { network: self.clone(), id, host, local, only_v6, dont_fragment, receive_buffer, source })
    }
}

/// One socket of a simulated network.
pub(crate) struct SimulatedSocket {
    network: Network,
    id: SocketId,
    host: HostId,
    local: SocketAddr,
    only_v6: bool,
    dont_fragment: bool,
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
        let bound = state.sockets.bound.get_mut(&self.id)?;
        let datagram = bound.received.pop_front()?;
        bound.received_bytes -= datagram.bytes.len() + DATAGRAM_OVERHEAD;
        Some(datagram)
    }

    /// The oldest datagram that has arrived, which stays.
    pub(crate) fn peek(&self) -> Option<Datagram> {
        self.network.lock().sockets.bound.get(&self.id)?.received.front().cloned()
    }

    /// From now on only what `peer` sends arrives. What has arrived stays.
    pub(crate) fn connect(&self, peer: SocketAddr) -> io::Result<()> {
        let peer = normal(peer);
        self.check_remote(peer)?;
        let mut state = self.network.lock();
        let Some(bound) = state.sockets.bound.get_mut(&self.id) else { return Err(crashed()) };
        bound.peer = Some(peer);
        Ok(())
    }

    /// Whom it is connected to.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.network.lock().sockets.bound.get(&self.id)?.peer
    }

    fn check_remote(&self, remote: SocketAddr) -> io::Result<()> {
        let reachable = match self.local {
            SocketAddr::V4(_) => remote.is_ipv4(),
            SocketAddr::V6(local) => remote.is_ipv6() || (local.ip().is_unspecified() && !self.only_v6),
        };
        if !reachable || remote.port() == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{remote} is not of the socket's family")));
        }
        Ok(())
    }

    /// Sends one datagram at `now`.
    pub(crate) fn send(&self, now: Instant, datagram: &Outgoing<'_>) -> io::Result<()> {
        let remote = normal(datagram.remote);
        let size = datagram.bytes.len();
        if size > LONGEST_DATAGRAM {
            return Err(crate::sys::socket::too_long());
        }
        self.check_remote(remote)?;
        let mut state = self.network.lock();
        if !state.sockets.bound.contains_key(&self.id) {
            return Err(crashed());
        }
        if self.dont_fragment && state.config.mtu.is_some_and(|mtu| size + headers(Protocol::Udp, remote.ip()) > mtu) {
            return Err(crate::sys::socket::too_long());
        }
        let ip = state.hosts.source(self.host, self.local.ip(), datagram.ancillary.local, remote.ip())?;
        let from = SocketAddr::new(ip, self.local.port());
        let ecn = Ecn::from_bits(datagram.ancillary.ecn);
        state.send(now, self.host, from, remote, datagram.bytes, ecn);
        Ok(())
    }
}

fn crashed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the socket's node has crashed")
}

impl Drop for SimulatedSocket {
    fn drop(&mut self) {
        let mut state = self.network.lock();
        if state.sockets.bound.remove(&self.id).is_some() {
            state.sockets.release(self.id, self.host, self.local);
        }
    }
}

impl Sockets {
    fn release(&mut self, id: SocketId, host: HostId, local: SocketAddr) {
        if let Some(sharers) = self.addresses.get_mut(&(host, local)) {
            sharers.retain(|&other| other != id);
            if sharers.is_empty() {
                self.addresses.remove(&(host, local));
            }
        }
    }

    /// Removes all sockets of a host.
    pub(super) fn remove_host(&mut self, host: HostId) -> Vec<Arc<Source>> {
        self.addresses.retain(|&(owner, _), _| owner != host);
        let mut sources = Vec::new();
        self.bound.retain(|_, bound| {
            if bound.host == host {
                sources.push(Arc::clone(&bound.source));
            }
            bound.host != host
        });
        sources
    }

    fn conflicts(&self, host: HostId, options: &UdpSocketOptions, address: SocketAddr) -> bool {
        self.bound.values().filter(|bound| bound.host == host).any(|bound| {
            let shared = bound.reuse_port && options.reuse_port;
            let overlap = covers(bound.local, bound.only_v6, address.ip()) || covers(address, options.only_v6, bound.local.ip());
            bound.local.port() == address.port() && overlap && !shared
        })
    }

    /// Who has an address: a socket bound to it, else one bound to all addresses. Among sharers the sender's address chooses.
    fn receiver(&self, host: HostId, from: SocketAddr, to: SocketAddr) -> Option<SocketId> {
        let v6_any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), to.port());
        let any = if to.is_ipv4() { SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), to.port()) } else { v6_any };
        [to, any, v6_any].into_iter().find_map(|address| {
            let takes = |id: &&SocketId| {
                let bound = self.bound.get(id);
                bound.is_some_and(|bound| covers(bound.local, bound.only_v6, to.ip()) && bound.peer.is_none_or(|peer| peer == from))
            };
            let sharers: Vec<SocketId> = self.addresses.get(&(host, address))?.iter().filter(takes).copied().collect();
            let index = (hash(from) % sharers.len().max(1) as u64) as usize;
            sharers.get(index).copied()
        })
    }
}

impl State {
    /// The address that a socket gets, as the kernel would choose or refuse it.
    fn choose_address(&mut self, host: HostId, options: &UdpSocketOptions, address: SocketAddr) -> io::Result<SocketAddr> {
        let mut address = normal(address);
        self.hosts.check_local(host, address.ip())?;
        if address.port() != 0 {
            if self.sockets.conflicts(host, options, address) {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "address already in use"));
            }
            return Ok(address);
        }
        // A chosen port is never a shared one.
        let alone = UdpSocketOptions { reuse_port: false, ..options.clone() };
        let port = self.ephemeral_port(|state, port| state.sockets.conflicts(host, &alone, SocketAddr::new(address.ip(), port)))?;
        address.set_port(port);
        Ok(address)
    }

    fn send(&mut self, now: Instant, sender: HostId, from: SocketAddr, to: SocketAddr, bytes: &[u8], ecn: Option<Ecn>) {
        let departure = Departure { protocol: Protocol::Udp, from, to, size: bytes.len(), ecn };
        let (remote, Some(passage)) = self.depart(now, &departure) else { return };
        let mut bytes = bytes.to_vec();
        if let Some(bit) = passage.flip {
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for _ in 0..passage.copies {
            let datagram = Datagram { bytes: bytes.clone(), remote, local: to.ip(), ecn: passage.ecn };
            self.push(passage.arrival, Event::Datagram(Flight { sender, to, datagram }));
        }
    }

    /// Puts a datagram into its receiver's queue; returns who became readable.
    pub(super) fn arrive(&mut self, time: Instant, flight: Flight) -> Ready {
        let (protocol, from, to, size) = flight.summary();
        let Flight { sender, mut datagram, .. } = flight;
        let inside = self.nats.inward(protocol, from, to);
        let host = inside.map(|inside| self.hosts.owner(sender, inside.ip()));
        let receiver = inside.zip(host).and_then(|(inside, host)| self.sockets.receiver(host, from, inside));
        let mut ready = Ready::new();
        let verdict = match receiver.and_then(|id| self.sockets.bound.get_mut(&id)) {
            None if host.is_some_and(|host| !self.hosts.is_up(host)) => Verdict::HostDown,
            None => Verdict::Unreachable,
            Some(bound) => {
                let cost = size + DATAGRAM_OVERHEAD;
                // As in Linux, the first datagram fits any buffer.
                if bound.received_bytes > 0 && bound.received_bytes + cost > bound.receive_buffer {
                    Verdict::BufferFull
                } else {
                    datagram.local = inside.map_or(datagram.local, |inside| inside.ip());
                    bound.received_bytes += cost;
                    bound.received.push_back(datagram);
                    ready.push((Arc::clone(&bound.source), Edge::Ready(Direction::Read)));
                    Verdict::Delivered
                }
            }
        };
        self.trace(time, protocol, from, to, size, verdict);
        ready
    }
}
