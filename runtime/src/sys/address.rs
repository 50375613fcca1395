//! Socket addresses in the kernel's form.
//!
//! IPv4 peers of a dual-stack IPv6 socket are IPv4-mapped below this file and plain IPv4 above it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// The longest address that an IP socket takes: a `sockaddr_in6`.
const LONGEST: usize = size_of::<libc::sockaddr_in6>();

/// The bytes of a `sockaddr_in` or `sockaddr_in6`, as the kernel reads and writes them.
#[derive(Clone, Copy, Default)]
#[repr(C, align(4))]
pub(crate) struct RawAddress {
    bytes: [u8; LONGEST],
}

impl RawAddress {
    /// The kernel's form of an address and its length in bytes; on an IPv6 socket IPv4 becomes IPv4-mapped.
    pub(crate) fn encode(address: SocketAddr, ipv6_socket: bool) -> (RawAddress, libc::socklen_t) {
        let mut raw = RawAddress::default();
        let bytes = &mut raw.bytes;
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        let (ip, scope) = match address {
            SocketAddr::V4(address) if !ipv6_socket => {
                bytes[..2].copy_from_slice(&(libc::AF_INET as libc::sa_family_t).to_ne_bytes());
                bytes[4..8].copy_from_slice(&address.ip().octets());
                return (raw, size_of::<libc::sockaddr_in>() as libc::socklen_t);
            }
            SocketAddr::V4(address) => (address.ip().to_ipv6_mapped(), 0),
            SocketAddr::V6(address) => (*address.ip(), address.scope_id()),
        };
        bytes[..2].copy_from_slice(&(libc::AF_INET6 as libc::sa_family_t).to_ne_bytes());
        bytes[8..24].copy_from_slice(&ip.octets());
        bytes[24..28].copy_from_slice(&scope.to_ne_bytes());
        (raw, LONGEST as libc::socklen_t)
    }

    /// The address that the kernel wrote, or `None` if it is of no IP family. IPv4-mapped becomes IPv4.
    pub(crate) fn decode(&self) -> Option<SocketAddr> {
        let bytes = &self.bytes;
        let port = u16::from_be_bytes([bytes[2], bytes[3]]);
        match libc::c_int::from(libc::sa_family_t::from_ne_bytes([bytes[0], bytes[1]])) {
            libc::AF_INET => {
                let ip = Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7]);
                Some(SocketAddrV4::new(ip, port).into())
            }
            libc::AF_INET6 => {
                let ip = Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[8..24]).ok()?);
                let scope = u32::from_ne_bytes(<[u8; 4]>::try_from(&bytes[24..28]).ok()?);
                Some(match normal(ip) {
                    IpAddr::V4(ip) => SocketAddrV4::new(ip, port).into(),
                    IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, scope).into(),
                })
            }
            _ => None,
        }
    }

    pub(super) fn as_ptr(&self) -> *const libc::sockaddr {
        self.bytes.as_ptr().cast()
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut libc::sockaddr {
        self.bytes.as_mut_ptr().cast()
    }

    /// The room there is for the kernel to write.
    pub(super) fn capacity() -> libc::socklen_t {
        LONGEST as libc::socklen_t
    }
}

/// An address as the layers above see it.
pub(crate) fn normal(ip: Ipv6Addr) -> IpAddr {
    ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_both_ways() {
        for text in ["127.0.0.1:80", "[::1]:65535", "[fe80::1%7]:9"] {
            let address: SocketAddr = text.parse().expect("an address");
            assert_eq!(RawAddress::encode(address, true).0.decode(), Some(address));
            assert_eq!(RawAddress::encode(address, false).0.decode(), Some(address));
        }
        assert_eq!(RawAddress::default().decode(), None);
    }

    #[test]
    fn an_ipv4_address_is_mapped_on_an_ipv6_socket() {
        let address: SocketAddr = "192.0.2.1:443".parse().expect("an address");
        let (raw, len) = RawAddress::encode(address, true);
        assert_eq!(len, 28);
        assert_eq!(raw.bytes[18..24], [0xff, 0xff, 192, 0, 2, 1]);
        assert_eq!(RawAddress::encode(address, false).1, 16);
    }
}
