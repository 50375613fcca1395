//! Control messages: what travels beside a datagram (local address, ECN bits, segment size).
//!
//! The layout is the kernel's `struct cmsghdr`: a length of pointer size that includes the header, level, kind, then data,
//! each message aligned to the pointer size. Reading and writing go through slices, so bounds are checked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::address;

/// Room for one datagram's control messages: at most 40 (local address) + 24 (ECN) + 24 (segment size), and as much again
/// for what a later kernel may add.
const CAPACITY: usize = 176;
const ALIGN: usize = size_of::<usize>();
const HEADER: usize = size_of::<usize>() + 2 * size_of::<libc::c_int>();

/// A control buffer.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct Control {
    bytes: [u8; CAPACITY],
}

/// What a datagram carries beside its bytes and its peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ancillary {
    /// The address of this host's side.
    pub(crate) local: Option<IpAddr>,
    /// The two ECN bits of the IP header.
    pub(crate) ecn: u8,
    /// The size of the segments that the bytes consist of, the last perhaps shorter.
    pub(crate) segment_size: Option<u16>,
}

impl Control {
    pub(crate) const ZERO: Control = Control { bytes: [0; CAPACITY] };

    pub(super) fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        self.bytes.as_mut_ptr().cast()
    }

    pub(super) const fn capacity() -> usize {
        CAPACITY
    }

    /// Writes the messages for a datagram to a peer of the given family, and returns how many bytes they take.
    pub(super) fn encode(&mut self, ancillary: &Ancillary, ipv4_peer: bool) -> usize {
        let mut writer = Writer { bytes: &mut self.bytes, len: 0 };
        match ancillary.local {
            Some(IpAddr::V4(local)) if ipv4_peer => {
                // struct in_pktinfo: interface (any), source address, (unused when sending).
                let mut data = [0; 12];
                data[4..8].copy_from_slice(&local.octets());
                writer.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &data);
            }
            Some(IpAddr::V6(local)) if !ipv4_peer => {
                // struct in6_pktinfo: source address, interface (any).
                let mut data = [0; 20];
                data[..16].copy_from_slice(&local.octets());
                writer.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &data);
            }
            // A source address of the other family cannot be meant.
            _ => {}
        }
        if ancillary.ecn != 0 {
            let data = libc::c_int::from(ancillary.ecn).to_ne_bytes();
            if ipv4_peer {
                writer.push(libc::IPPROTO_IP, libc::IP_TOS, &data);
            } else {
                writer.push(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &data);
            }
        }
        if let Some(size) = ancillary.segment_size {
            writer.push(libc::SOL_UDP, libc::UDP_SEGMENT, &size.to_ne_bytes());
        }
        writer.len
    }

    /// Reads the messages that the kernel wrote into the first `len` bytes; unknown and malformed ones are skipped.
    pub(super) fn decode(&self, len: usize) -> Ancillary {
        let mut ancillary = Ancillary::default();
        let mut rest = &self.bytes[..len.min(CAPACITY)];
        while let Some((level, kind, data)) = next(&mut rest) {
            match (level, kind) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    // ipi_spec_dst: unlike ipi_addr it is never a group, so an answer can be sent from it.
                    if let Some(octets) = data.get(4..8).and_then(|octets| <[u8; 4]>::try_from(octets).ok()) {
                        ancillary.local = Some(Ipv4Addr::from(octets).into());
                    }
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    if let Some(octets) = data.get(..16).and_then(|octets| <[u8; 16]>::try_from(octets).ok()) {
                        ancillary.local = Some(address::normal(Ipv6Addr::from(octets)));
                    }
                }
                // One byte for IPv4, an int for IPv6.
                (libc::IPPROTO_IP, libc::IP_TOS) => ancillary.ecn = data.first().map_or(0, |tos| tos & 0b11),
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => ancillary.ecn = int(data).map_or(0, |class| class as u8 & 0b11),
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    ancillary.segment_size = int(data).and_then(|size| u16::try_from(size).ok()).filter(|&size| size > 0);
                }
                _ => {}
            }
        }
        ancillary
    }
}

struct Writer<'a> {
    bytes: &'a mut [u8; CAPACITY],
    len: usize,
}

impl Writer<'_> {
    fn push(&mut self, level: libc::c_int, kind: libc::c_int, data: &[u8]) {
        let message = &mut self.bytes[self.len..];
        message[..ALIGN].copy_from_slice(&(HEADER + data.len()).to_ne_bytes());
        message[ALIGN..ALIGN + 4].copy_from_slice(&level.to_ne_bytes());
        message[ALIGN + 4..HEADER].copy_from_slice(&kind.to_ne_bytes());
        message[HEADER..HEADER + data.len()].copy_from_slice(data);
        self.len += (HEADER + data.len()).next_multiple_of(ALIGN);
    }
}

/// Takes one message off the front.
fn next<'a>(rest: &mut &'a [u8]) -> Option<(libc::c_int, libc::c_int, &'a [u8])> {
    let header = rest.get(..HEADER)?;
    let len = usize::from_ne_bytes(header[..ALIGN].try_into().ok()?);
    let level = int(&header[ALIGN..])?;
    let kind = int(&header[ALIGN + 4..])?;
    let data = rest.get(HEADER..len)?;
    *rest = rest.get(len.next_multiple_of(ALIGN)..).unwrap_or_default();
    Some((level, kind, data))
}

fn int(data: &[u8]) -> Option<libc::c_int> {
    Some(libc::c_int::from_ne_bytes(data.get(..4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let local = |text: &str| Some(text.parse::<IpAddr>().expect("an address"));
        for (local, ipv4) in [(local("192.0.2.7"), true), (local("2001:db8::7"), false), (None, true), (None, false)] {
            // IP_TOS is written as an int; its first byte is the value on a little-endian host, where tests run.
            for ecn in 0..4 {
                let written = Ancillary { local, ecn, segment_size: None };
                let mut control = Control::ZERO;
                let len = control.encode(&written, ipv4);
                assert_eq!(control.decode(len), written);
            }
        }
    }

    #[test]
    fn garbage_is_skipped_and_never_panics() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..if cfg!(miri) { 100 } else { 10_000 } {
            let mut control = Control::ZERO;
            rng.fill(&mut control.bytes[..]);
            control.bytes[..ALIGN].copy_from_slice(&rng.usize(0..200).to_ne_bytes());
            control.decode(rng.usize(0..CAPACITY + 10));
        }
    }

    #[test]
    fn a_source_address_of_the_other_family_is_left_out() {
        let mut control = Control::ZERO;
        let ancillary = Ancillary { local: Some(Ipv4Addr::LOCALHOST.into()), ecn: 0, segment_size: None };
        assert_eq!(control.encode(&ancillary, false), 0);
    }
}
