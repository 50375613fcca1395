//! The answer to a version that we do not speak (RFC 9000 6.1, RFC 8999 6).

use crate::wire::Version;

/// A Version Negotiation packet for a client that sent `destination` and `source` as its ids.
///
/// One of the versions offered is reserved, so that clients which choke on unknown ones are found early (RFC 9000 6.3).
pub(crate) fn negotiation(destination: &[u8], source: &[u8], noise: u32) -> Vec<u8> {
    let mut packet = Vec::with_capacity(7 + destination.len() + source.len() + 4 * (Version::SUPPORTED.len() + 1));
    // RFC 9000 17.2.1: all but the first bit is arbitrary; the second is set for those who demultiplex by it.
    packet.push(0xc0 | (noise as u8 & 0x3f));
    packet.extend_from_slice(&0u32.to_be_bytes());
    // The ids swap places.
    for id in [source, destination] {
        packet.push(id.len() as u8);
        packet.extend_from_slice(id);
    }
    let reserved = (noise & 0xf0f0_f0f0) | 0x0a0a_0a0a;
    packet.extend_from_slice(&reserved.to_be_bytes());
    for version in Version::SUPPORTED {
        packet.extend_from_slice(&version.as_u32().to_be_bytes());
    }
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_swapped_and_a_reserved_version_is_offered() {
        let packet = negotiation(&[1, 2, 3], &[9; 200], 0x1234_5678);
        assert_eq!(packet[1..5], [0; 4]);
        assert_eq!(packet[5], 200);
        assert_eq!(packet[206..210], [3, 1, 2, 3]);
        let versions: Vec<_> =
            packet[210..].chunks(4).map(|v| Version::from_u32(u32::from_be_bytes(v.try_into().unwrap()))).collect();
        assert!(versions[0].is_reserved());
        assert_eq!(versions[1..], *Version::SUPPORTED);
    }
}
