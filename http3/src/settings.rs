//! The SETTINGS frame's payload (RFC 9114 section 7.2.4).

use weald_quic::VarInt;

use crate::{
    error::{Code, Violation},
    frame,
};

/// Limits that one side announces to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Largest field section that the sender takes: names, values, and 32 bytes a line (RFC 9114 section 4.2.2).
    pub(crate) max_field_section_size: u64,
}

const QPACK_MAX_TABLE_CAPACITY: u64 = 0x01;
const MAX_FIELD_SECTION_SIZE: u64 = 0x06;
const QPACK_BLOCKED_STREAMS: u64 = 0x07;
/// Settings of HTTP/2 that must not appear (RFC 9114 section 7.2.4.1).
const HTTP2_SETTINGS: [u64; 4] = [0x02, 0x03, 0x04, 0x05];
/// Identifiers remembered to find duplicates; more settings than this in one frame is more than any peer has reason to send.
const MAX_SETTINGS: usize = 64;

impl Settings {
    /// A peer that says nothing (RFC 9114 section 7.2.4.2).
    pub(crate) const PEER_DEFAULT: Self = Self { max_field_section_size: u64::MAX };

    /// The payload. QPACK's settings are left at their default of 0: no dynamic table, no blocked streams (RFC 9204 section 5).
    pub(crate) fn encode(&self, grease: u64) -> Vec<u8> {
        let mut payload = Vec::with_capacity(32);
        let reserved = frame::reserved(grease % (1 << 32));
        for (identifier, value) in [(MAX_FIELD_SECTION_SIZE, self.max_field_section_size), (reserved, grease % 64)] {
            frame::put_varint(&mut payload, VarInt::saturating(identifier));
            frame::put_varint(&mut payload, VarInt::saturating(value));
        }
        payload
    }

    /// Reads the peer's payload.
    pub(crate) fn decode(mut payload: &[u8]) -> Result<Self, Violation> {
        const CUT: Violation = Violation::connection(Code::FRAME_ERROR, "a SETTINGS frame that ends in the middle of a setting");
        let mut settings = Self::PEER_DEFAULT;
        let mut seen = Vec::new();
        while !payload.is_empty() {
            let identifier = frame::take_varint(&mut payload).ok_or(CUT)?;
            let value = frame::take_varint(&mut payload).ok_or(CUT)?;
            if seen.contains(&identifier) {
                return Err(Violation::connection(Code::SETTINGS_ERROR, "a setting twice"));
            }
            if seen.len() == MAX_SETTINGS {
                return Err(Violation::connection(Code::EXCESSIVE_LOAD, "more than 64 settings"));
            }
            seen.push(identifier);
            match identifier {
                MAX_FIELD_SECTION_SIZE => settings.max_field_section_size = value,
                // This side's encoder never uses the peer's dynamic table, whatever its capacity.
                QPACK_MAX_TABLE_CAPACITY | QPACK_BLOCKED_STREAMS => {}
                _ if HTTP2_SETTINGS.contains(&identifier) => {
                    return Err(Violation::connection(Code::SETTINGS_ERROR, "a setting of HTTP/2"));
                }
                // RFC 9114 section 7.2.4: unknown settings are ignored.
                _ => {}
            }
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(payload: &[u8]) -> Code {
        Settings::decode(payload).unwrap_err().code
    }

    #[test]
    fn settings_round_trip_and_reserved_ones_are_ignored() {
        let settings = Settings { max_field_section_size: 65_536 };
        for grease in [0, 7, u64::MAX] {
            assert_eq!(Settings::decode(&settings.encode(grease)), Ok(settings));
        }
        assert_eq!(Settings::decode(&[]), Ok(Settings::PEER_DEFAULT));
    }

    #[test]
    fn wrong_payloads_are_refused() {
        assert_eq!(code(&[0x06]), Code::FRAME_ERROR);
        assert_eq!(code(&[0x06, 0x40]), Code::FRAME_ERROR);
        assert_eq!(code(&[0x06, 1, 0x06, 1]), Code::SETTINGS_ERROR);
        assert_eq!(code(&[0x02, 1]), Code::SETTINGS_ERROR);
        let flood: Vec<u8> = (8..80).flat_map(|identifier| [0x40, identifier, 0]).collect();
        assert_eq!(code(&flood), Code::EXCESSIVE_LOAD);
    }
}
