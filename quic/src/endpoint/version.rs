//! The answer to a version that is not spoken here (RFC 9000 6.1).

use crate::wire::header::VersionNegotiationToSend;
use crate::wire::{Version, Writer};

/// A Version Negotiation packet that offers `versions`, for a packet from `source` to `destination`, of at most 255 bytes each.
/// `noise` picks what has no meaning: the version that exists to be ignored (RFC 9000 6.3), and unused bits.
pub(crate) fn negotiation(destination: &[u8], source: &[u8], versions: &[Version], noise: u32) -> Vec<u8> {
    let answer = VersionNegotiationToSend {
        // The ids swap places.
        dcid: source,
        scid: destination,
        versions,
        grease: Version::from_u32((noise & 0xf0f0_f0f0) | 0x0a0a_0a0a),
        unused: noise as u8 & 0x3f,
    };
    let mut bytes = vec![0; answer.size()];
    answer.encode(&mut Writer::new(&mut bytes));
    bytes
}
