//! From what a caller names to addresses.
//!
//! Owns [`ToSocketAddrs`] and the look-up of names, which is std's (the system's resolver) as a blocking job, because it
//! blocks: a coroutine that looks up a name parks, and may be cancelled or time out meanwhile. In a simulation names are those of
//! its nodes, and known at once.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::Io;
use crate::blocking;
use crate::sim::network::Network;
use crate::wait_list::Limit;

/// What names one or more socket addresses: the types for which std has its trait of this name.
///
/// It cannot be implemented elsewhere.
pub trait ToSocketAddrs {
    /// The addresses, or the name to look up.
    #[doc(hidden)]
    fn target(&self) -> io::Result<Target>;
}

/// What a [`ToSocketAddrs`] names.
#[doc(hidden)]
#[derive(Debug)]
pub enum Target {
    Address(SocketAddr),
    Addresses(Vec<SocketAddr>),
    Name(String, u16),
}

impl Target {
    fn of(address: impl Into<SocketAddr>) -> io::Result<Target> {
        Ok(Target::Address(address.into()))
    }

    fn of_host(host: &str, port: u16) -> io::Result<Target> {
        match host.parse::<IpAddr>() {
            Ok(ip) => Target::of((ip, port)),
            Err(_) => Ok(Target::Name(host.to_owned(), port)),
        }
    }
}

macro_rules! to_socket_addrs {
    ($($address:ty),*) => {$(
        impl ToSocketAddrs for $address {
            fn target(&self) -> io::Result<Target> {
                Target::of(*self)
            }
        }
    )*};
}

to_socket_addrs!(SocketAddr, SocketAddrV4, SocketAddrV6, (IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16));

impl ToSocketAddrs for (&str, u16) {
    fn target(&self) -> io::Result<Target> {
        Target::of_host(self.0, self.1)
    }
}

impl ToSocketAddrs for (String, u16) {
    fn target(&self) -> io::Result<Target> {
        Target::of_host(&self.0, self.1)
    }
}

impl ToSocketAddrs for str {
    fn target(&self) -> io::Result<Target> {
        if let Ok(address) = self.parse::<SocketAddr>() {
            return Target::of(address);
        }
        let parts = self.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let Some((host, port)) = parts else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{self:?} is no host:port")));
        };
        Target::of_host(host, port)
    }
}

impl ToSocketAddrs for String {
    fn target(&self) -> io::Result<Target> {
        self.as_str().target()
    }
}

impl ToSocketAddrs for [SocketAddr] {
    fn target(&self) -> io::Result<Target> {
        Ok(Target::Addresses(self.to_vec()))
    }
}

impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {
    fn target(&self) -> io::Result<Target> {
        (**self).target()
    }
}

/// Every address that is named, looking names up until `limit`.
#[track_caller]
pub(super) fn resolve(named: impl ToSocketAddrs, limit: Limit) -> io::Result<Vec<SocketAddr>> {
    let (name, port) = match named.target()? {
        Target::Address(address) => return Ok(vec![address]),
        Target::Addresses(addresses) => return Ok(addresses),
        Target::Name(name, port) => (name, port),
    };
    match Io::current() {
        Io::System => look_up(name, port, limit),
        Io::Network(network) => look_up_simulated(&network, &name, port),
    }
}

/// The first of the addresses that are named, which for one that needs no look-up allocates nothing.
#[inline]
#[track_caller]
pub(super) fn resolve_first(named: impl ToSocketAddrs, limit: impl FnOnce() -> Limit) -> io::Result<SocketAddr> {
    match named.target()? {
        Target::Address(address) => Ok(address),
        _ => resolve(named, limit())?.first().copied().ok_or_else(no_address),
    }
}

/// A simulation's names are those of its nodes.
fn look_up_simulated(network: &Network, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let addresses = match name {
        "localhost" => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        _ => network.addresses_of(name),
    };
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("no node of the simulation is called {name:?}")));
    }
    Ok(addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
}

/// Tries each address until one succeeds; otherwise the last error.
pub(super) fn first_of<T>(addresses: &[SocketAddr], mut attempt: impl FnMut(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let mut failed = no_address();
    for &address in addresses {
        match attempt(address) {
            Ok(value) => return Ok(value),
            // A cancellation concerns the caller, not the address.
            Err(error) if super::is_cancelled(&error) => return Err(error),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "no address")
}

#[track_caller]
fn look_up(name: String, port: u16, limit: Limit) -> io::Result<Vec<SocketAddr>> {
    let addresses = move || std::net::ToSocketAddrs::to_socket_addrs(&(name.as_str(), port)).map(Iterator::collect);
    blocking::on_a_thread(addresses, limit)?
}
