//! Who has which address: hosts, and the translators (NATs) between them.
//!
//! Owns the hosts' addresses and the translated ports. Does not own sockets or streams, which are found by what is said here.
//!
//! Invariants:
//! - An address belongs to one host. Host 0, the world outside of all nodes, has every address that no node has.
//! - Loopback addresses are each host's own.
//! - Of a host behind a NAT nobody but itself reaches the inside address; its public ports are never given out twice.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::trace::Protocol;

/// Ports that are given out when none is asked for, RFC 6335 section 6.
pub(super) const FIRST_EPHEMERAL_PORT: u16 = 49_152;
/// From where a program outside of all nodes speaks to a node: the last of the benchmark network of RFC 2544.
const WORLD_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 19, 255, 254));
/// The same for IPv6, of the benchmark network of RFC 5180.
const WORLD_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 2, 0, 0, 0xffff, 0, 0, 0xfffe));

/// A host of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sim) struct HostId(u32);

impl HostId {
    /// What is outside of all nodes.
    pub(in crate::sim) const WORLD: HostId = HostId(0);
}

struct Host {
    addresses: Vec<IpAddr>,
    up: bool,
}

/// The hosts and their addresses.
pub(super) struct Hosts {
    nodes: Vec<Host>,
    owners: BTreeMap<IpAddr, HostId>,
    next_address: u32,
}

impl Hosts {
    pub(super) fn new() -> Hosts {
        // The first address of 198.18.0.0/15, the benchmark network of RFC 2544.
        Hosts { nodes: Vec::new(), owners: BTreeMap::new(), next_address: u32::from_be_bytes([198, 18, 0, 1]) }
    }

    /// Adds a host with these addresses, or with the next free one if there are none. Returns what it got.
    pub(super) fn add(&mut self, mut addresses: Vec<IpAddr>) -> io::Result<(HostId, Vec<IpAddr>)> {
        if addresses.is_empty() {
            addresses.push(self.free_address());
        }
        for (position, &address) in addresses.iter().enumerate() {
            let twice = self.owners.contains_key(&address) || addresses[..position].contains(&address);
            if twice || address.is_unspecified() || address.is_loopback() {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("{address} is another's, or cannot be a node's")));
            }
        }
        self.nodes.push(Host { addresses: addresses.clone(), up: true });
        let id = HostId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.owners.extend(addresses.iter().map(|&address| (address, id)));
        Ok((id, addresses))
    }

    fn free_address(&mut self) -> IpAddr {
        loop {
            let address = IpAddr::V4(self.next_address.into());
            self.next_address += 1;
            if !self.owners.contains_key(&address) {
                return address;
            }
        }
    }

    fn node(&self, host: HostId) -> Option<&Host> {
        self.nodes.get(host.0.checked_sub(1)? as usize)
    }

    /// Of a node; the world has none of its own.
    pub(super) fn addresses(&self, host: HostId) -> &[IpAddr] {
        self.node(host).map_or(&[], |node| &node.addresses)
    }

    pub(super) fn set_up(&mut self, host: HostId, up: bool) {
        if let Some(node) = host.0.checked_sub(1).and_then(|index| self.nodes.get_mut(index as usize)) {
            node.up = up;
        }
    }

    /// The world is always up.
    pub(super) fn is_up(&self, host: HostId) -> bool {
        self.node(host).is_none_or(|node| node.up)
    }

    /// Who has `ip`, as `from` sees it.
    pub(super) fn owner(&self, from: HostId, ip: IpAddr) -> HostId {
        if ip.is_loopback() { from } else { self.owners.get(&ip).copied().unwrap_or(HostId::WORLD) }
    }

    /// Whether a socket of `host` may be bound to `ip`.
    pub(super) fn check_local(&self, host: HostId, ip: IpAddr) -> io::Result<()> {
        if ip.is_unspecified() || ip.is_loopback() || self.owner(host, ip) == host {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::AddrNotAvailable, format!("{ip} is not an address of this host")))
    }

    /// The address from which something bound to `local` sends to `remote`. `chosen` is what the sender asks for.
    pub(super) fn source(&self, host: HostId, local: IpAddr, chosen: Option<IpAddr>, remote: IpAddr) -> io::Result<IpAddr> {
        let to_other = !remote.is_loopback() && self.owner(host, remote) != host;
        if !local.is_unspecified() {
            if local.is_loopback() && to_other {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{remote} cannot be reached from loopback")));
            }
            return Ok(local);
        }
        if let Some(chosen) = chosen.filter(|chosen| chosen.is_ipv4() == remote.is_ipv4() && !chosen.is_unspecified()) {
            return Ok(chosen);
        }
        match self.node(host) {
            Some(node) if !remote.is_loopback() => {
                let same_family = node.addresses.iter().find(|address| address.is_ipv4() == remote.is_ipv4());
                let none = || io::Error::new(io::ErrorKind::NetworkUnreachable, format!("the node has no address to reach {remote} from"));
                same_family.copied().ok_or_else(none)
            }
            None if to_other && remote.is_ipv4() => Ok(WORLD_V4),
            None if to_other => Ok(WORLD_V6),
            _ if remote.is_ipv4() => Ok(Ipv4Addr::LOCALHOST.into()),
            _ => Ok(Ipv6Addr::LOCALHOST.into()),
        }
    }
}

/// The translators between inside and public addresses.
#[derive(Default)]
pub(super) struct Nats {
    /// By inside address: the public one, and how often it changed.
    hosts: BTreeMap<IpAddr, (IpAddr, u64)>,
    publics: BTreeSet<IpAddr>,
    outward: BTreeMap<(Protocol, SocketAddr), SocketAddr>,
    inward: BTreeMap<(Protocol, SocketAddr), SocketAddr>,
    /// Ports given out so far, which grows only.
    ports: u16,
}

impl Nats {
    /// From now on `inside` is seen as `public`, under new ports. What was translated before is forgotten.
    pub(super) fn rebind(&mut self, inside: IpAddr, public: IpAddr) {
        let (seen, changes) = self.hosts.entry(inside).or_insert((public, 0));
        *seen = public;
        *changes += 1;
        self.publics.insert(public);
        self.outward.retain(|&(_, address), _| address.ip() != inside);
        self.inward.retain(|_, address| address.ip() != inside);
    }

    /// How often the address's translation has changed: what was opened under another epoch is cut off.
    pub(super) fn epoch(&self, inside: IpAddr) -> u64 {
        self.hosts.get(&inside).map_or(0, |&(_, changes)| changes)
    }

    /// As what `to` sees `from`.
    pub(super) fn outward(&mut self, protocol: Protocol, from: SocketAddr, to: SocketAddr) -> SocketAddr {
        let Some(&(public, _)) = self.hosts.get(&from.ip()) else { return from };
        if to.ip() == from.ip() {
            return from;
        }
        let ports = &mut self.ports;
        let seen = *self.outward.entry((protocol, from)).or_insert_with(|| {
            // From 20,000 on, below those that hosts give out.
            *ports = ports.wrapping_add(1);
            SocketAddr::new(public, 20_000_u16.wrapping_add(*ports).max(1))
        });
        self.inward.insert((protocol, seen), from);
        seen
    }

    /// Where something that `from` sends to `to` goes. `None`: nowhere.
    pub(super) fn inward(&self, protocol: Protocol, from: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
        if self.hosts.is_empty() || from.ip() == to.ip() {
            return Some(to);
        }
        if self.publics.contains(&to.ip()) || self.hosts.contains_key(&to.ip()) {
            return self.inward.get(&(protocol, to)).copied();
        }
        Some(to)
    }
}

/// Whether something bound to `local` receives what is sent to `ip`, an address of its host.
pub(super) fn covers(local: SocketAddr, only_v6: bool, ip: IpAddr) -> bool {
    local.ip() == ip || (local.ip().is_unspecified() && (local.is_ipv4() == ip.is_ipv4() || (local.is_ipv6() && !only_v6)))
}

/// An IPv4-mapped address as the IPv4 address that it means.
pub(super) fn normal(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Bytes of headers in front of a payload.
pub(super) fn headers(protocol: Protocol, ip: IpAddr) -> usize {
    let transport = match protocol {
        Protocol::Udp => 8,
        Protocol::Tcp => 20,
    };
    transport + if ip.is_ipv4() { 20 } else { 40 }
}

/// FNV-1a: fixed across builds and runs, since traces must be.
pub(super) fn hash(address: SocketAddr) -> u64 {
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
