//! The types of frames, and the rules that hang on the type alone: which packets may carry it, who may send it, what it
//! asks of the receiver (RFC 9000 section 12.4, table 3).

use crate::side::Side;
use crate::stream_id::Direction;
use crate::wire::{PacketType, VarInt};

/// The type of a frame of RFC 9000 or RFC 9221.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameType {
    Padding,
    Ping,
    Ack { ecn: bool },
    ResetStream,
    StopSending,
    Crypto,
    NewToken,
    Stream { offset: bool, length: bool, fin: bool },
    MaxData,
    MaxStreamData,
    MaxStreams(Direction),
    DataBlocked,
    StreamDataBlocked,
    StreamsBlocked(Direction),
    NewConnectionId,
    RetireConnectionId,
    PathChallenge,
    PathResponse,
    Close,
    ApplicationClose,
    HandshakeDone,
    Datagram { length: bool },
}

impl FrameType {
    /// The type with this number, `None` if there is none.
    pub fn from_wire(number: VarInt) -> Option<FrameType> {
        Some(match number.as_u64() {
            0x00 => FrameType::Padding,
            0x01 => FrameType::Ping,
            0x02 => FrameType::Ack { ecn: false },
            0x03 => FrameType::Ack { ecn: true },
            0x04 => FrameType::ResetStream,
            0x05 => FrameType::StopSending,
            0x06 => FrameType::Crypto,
            0x07 => FrameType::NewToken,
            bits @ 0x08..=0x0f => FrameType::Stream { offset: bits & 0x04 != 0, length: bits & 0x02 != 0, fin: bits & 0x01 != 0 },
            0x10 => FrameType::MaxData,
            0x11 => FrameType::MaxStreamData,
            0x12 => FrameType::MaxStreams(Direction::Bi),
            0x13 => FrameType::MaxStreams(Direction::Uni),
            0x14 => FrameType::DataBlocked,
            0x15 => FrameType::StreamDataBlocked,
            0x16 => FrameType::StreamsBlocked(Direction::Bi),
            0x17 => FrameType::StreamsBlocked(Direction::Uni),
            0x18 => FrameType::NewConnectionId,
            0x19 => FrameType::RetireConnectionId,
            0x1a => FrameType::PathChallenge,
            0x1b => FrameType::PathResponse,
            0x1c => FrameType::Close,
            0x1d => FrameType::ApplicationClose,
            0x1e => FrameType::HandshakeDone,
            bits @ 0x30..=0x31 => FrameType::Datagram { length: bits & 0x01 != 0 },
            _ => return None,
        })
    }

    /// The number on the wire: at most 0x31, so one byte.
    pub fn to_wire(self) -> u8 {
        match self {
            FrameType::Padding => 0x00,
            FrameType::Ping => 0x01,
            FrameType::Ack { ecn } => 0x02 | u8::from(ecn),
            FrameType::ResetStream => 0x04,
            FrameType::StopSending => 0x05,
            FrameType::Crypto => 0x06,
            FrameType::NewToken => 0x07,
            FrameType::Stream { offset, length, fin } => 0x08 | u8::from(offset) << 2 | u8::from(length) << 1 | u8::from(fin),
            FrameType::MaxData => 0x10,
            FrameType::MaxStreamData => 0x11,
            FrameType::MaxStreams(Direction::Bi) => 0x12,
            FrameType::MaxStreams(Direction::Uni) => 0x13,
            FrameType::DataBlocked => 0x14,
            FrameType::StreamDataBlocked => 0x15,
            FrameType::StreamsBlocked(Direction::Bi) => 0x16,
            FrameType::StreamsBlocked(Direction::Uni) => 0x17,
            FrameType::NewConnectionId => 0x18,
            FrameType::RetireConnectionId => 0x19,
            FrameType::PathChallenge => 0x1a,
            FrameType::PathResponse => 0x1b,
            FrameType::Close => 0x1c,
            FrameType::ApplicationClose => 0x1d,
            FrameType::HandshakeDone => 0x1e,
            FrameType::Datagram { length } => 0x30 | u8::from(length),
        }
    }

    /// Whether a packet of that type may carry the frame (RFC 9000 table 3).
    pub fn allowed_in(self, packet: PacketType) -> bool {
        match self {
            FrameType::Padding | FrameType::Ping | FrameType::Close => true,
            FrameType::Ack { .. } | FrameType::Crypto => packet != PacketType::ZeroRtt,
            FrameType::ResetStream
            | FrameType::StopSending
            | FrameType::Stream { .. }
            | FrameType::MaxData
            | FrameType::MaxStreamData
            | FrameType::MaxStreams(_)
            | FrameType::DataBlocked
            | FrameType::StreamDataBlocked
            | FrameType::StreamsBlocked(_)
            | FrameType::NewConnectionId
            | FrameType::PathChallenge
            | FrameType::ApplicationClose
            // RFC 9221 section 4.
            | FrameType::Datagram { .. } => {
                matches!(packet, PacketType::ZeroRtt | PacketType::OneRtt)
            }
            // Table 3 lets RETIRE_CONNECTION_ID into 0-RTT, but no client can send it there, and section 12.5 permits to
            // treat it as an error.
            FrameType::RetireConnectionId => packet == PacketType::OneRtt,
            FrameType::NewToken | FrameType::PathResponse | FrameType::HandshakeDone => packet == PacketType::OneRtt,
        }
    }

    /// Whether that side may send the frame: the client may not send NEW_TOKEN and HANDSHAKE_DONE (RFC 9000 sections 19.7
    /// and 19.20).
    pub fn allowed_from(self, sender: Side) -> bool {
        sender.is_server() || !matches!(self, FrameType::NewToken | FrameType::HandshakeDone)
    }

    /// Whether a packet with the frame must be acknowledged (RFC 9002 section 2).
    pub fn is_ack_eliciting(self) -> bool {
        !matches!(self, FrameType::Padding | FrameType::Ack { .. } | FrameType::Close | FrameType::ApplicationClose)
    }

    /// Whether a packet with the frame counts towards bytes in flight (RFC 9002 section 2).
    pub fn is_in_flight(self) -> bool {
        self == FrameType::Padding || self.is_ack_eliciting()
    }
}

impl From<FrameType> for u64 {
    fn from(frame_type: FrameType) -> u64 {
        frame_type.to_wire().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9000 table 3, as printed: packets in the order I, H, 0, 1; except 0x19, for which section 12.5 decides.
    const TABLE_3: [(u8, &str); 33] = [
        (0x00, "IH01"),
        (0x01, "IH01"),
        (0x02, "IH_1"),
        (0x03, "IH_1"),
        (0x04, "__01"),
        (0x05, "__01"),
        (0x06, "IH_1"),
        (0x07, "___1"),
        (0x08, "__01"),
        (0x09, "__01"),
        (0x0a, "__01"),
        (0x0b, "__01"),
        (0x0c, "__01"),
        (0x0d, "__01"),
        (0x0e, "__01"),
        (0x0f, "__01"),
        (0x10, "__01"),
        (0x11, "__01"),
        (0x12, "__01"),
        (0x13, "__01"),
        (0x14, "__01"),
        (0x15, "__01"),
        (0x16, "__01"),
        (0x17, "__01"),
        (0x18, "__01"),
        (0x19, "___1"),
        (0x1a, "__01"),
        (0x1b, "___1"),
        (0x1c, "IH01"),
        (0x1d, "__01"),
        (0x1e, "___1"),
        // RFC 9221 section 4.
        (0x30, "__01"),
        (0x31, "__01"),
    ];

    #[test]
    fn packets_permit_frames_as_table_3_says() {
        let packets = [PacketType::Initial, PacketType::Handshake, PacketType::ZeroRtt, PacketType::OneRtt];
        for (number, permitted) in TABLE_3 {
            let frame_type = FrameType::from_wire(number.into()).unwrap();
            assert_eq!(frame_type.to_wire(), number);
            for (packet, mark) in packets.into_iter().zip(permitted.chars()) {
                assert_eq!(frame_type.allowed_in(packet), mark != '_', "frame {number:#x} in {packet:?}");
            }
        }
    }

    #[test]
    fn other_numbers_are_unknown() {
        for number in [0x1f, 0x20, 0x2f, 0x32, 0x40, 0xaf, u64::MAX >> 2] {
            assert_eq!(FrameType::from_wire(VarInt::saturating(number)), None);
        }
    }

    #[test]
    fn only_servers_send_tokens_and_confirm() {
        let restricted: Vec<u8> =
            (0..=0x1e).filter(|number| !FrameType::from_wire((*number).into()).unwrap().allowed_from(Side::Client)).collect();
        assert_eq!(restricted, [0x07, 0x1e]);
        assert!((0..=0x1e).all(|number: u8| { FrameType::from_wire(number.into()).unwrap().allowed_from(Side::Server) }));
    }
}
