//! The ECN mark of a datagram (RFC 3168), as QUIC counts it (RFC 9000 section 13.4).

/// A mark of the two ECN bits of an IP header; packets without one are "Not-ECT", `None` where a mark is optional.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EcnMark {
    /// ECN-Capable Transport (1): bits 01.
    Ect1 = 0b01,
    /// ECN-Capable Transport (0): bits 10. What QUIC senders set.
    Ect0 = 0b10,
    /// Congestion Experienced: bits 11.
    Ce = 0b11,
}

impl EcnMark {
    /// The mark in the two low bits of a traffic class octet.
    pub const fn from_bits(traffic_class: u8) -> Option<EcnMark> {
        match traffic_class & 0b11 {
            0b01 => Some(EcnMark::Ect1),
            0b10 => Some(EcnMark::Ect0),
            0b11 => Some(EcnMark::Ce),
            _ => None,
        }
    }

    /// The two bits.
    pub const fn bits(self) -> u8 {
        self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 3168 section 5
    #[test]
    fn bits() {
        assert_eq!(EcnMark::from_bits(0b1010_1100), None);
        for mark in [EcnMark::Ect0, EcnMark::Ect1, EcnMark::Ce] {
            assert_eq!(EcnMark::from_bits(mark.bits() | 0b1010_1100), Some(mark));
        }
        assert_eq!(EcnMark::Ect0.bits(), 2);
    }
}
