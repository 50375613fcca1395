//! Frame and stream types of HTTP/3 (RFC 9114 sections 6.2 and 7.2), and which frame may stand where.

use weald_quic::VarInt;

use crate::error::{Code, Violation};

/// The type of a unidirectional stream (RFC 9114 section 6.2, RFC 9204 section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamType {
    Control,
    Push,
    QpackEncoder,
    QpackDecoder,
    /// A reserved or extension type, which is to be refused without harm.
    Unknown,
}

impl StreamType {
    pub(crate) fn from_wire(value: u64) -> Self {
        match value {
            0x00 => Self::Control,
            0x01 => Self::Push,
            0x02 => Self::QpackEncoder,
            0x03 => Self::QpackDecoder,
            _ => Self::Unknown,
        }
    }
}

/// A frame's type. Its payload is read by whoever may meet it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameType {
    Data,
    Headers,
    CancelPush,
    Settings,
    PushPromise,
    GoAway,
    MaxPushId,
    /// A type that HTTP/2 used and HTTP/3 forbids (RFC 9114 section 7.2.8).
    Http2,
    /// A reserved or extension type: ignored (RFC 9114 section 9).
    Unknown,
}

impl FrameType {
    pub(crate) const DATA: VarInt = VarInt::from_u32(0x00);
    pub(crate) const HEADERS: VarInt = VarInt::from_u32(0x01);
    pub(crate) const SETTINGS: VarInt = VarInt::from_u32(0x04);

    pub(crate) fn from_wire(value: u64) -> Self {
        match value {
            0x00 => Self::Data,
            0x01 => Self::Headers,
            0x03 => Self::CancelPush,
            0x04 => Self::Settings,
            0x05 => Self::PushPromise,
            0x07 => Self::GoAway,
            0x0d => Self::MaxPushId,
            0x02 | 0x06 | 0x08 | 0x09 => Self::Http2,
            _ => Self::Unknown,
        }
    }

    /// Whether the frame may stand on a request stream (RFC 9114 table 1). This stack neither sends nor asks for pushes.
    pub(crate) fn check_on_request_stream(self, from_client: bool) -> Result<(), Violation> {
        match self {
            Self::Data | Self::Headers | Self::Unknown => Ok(()),
            // RFC 9114 section 7.2.5: only a server may promise at all.
            Self::PushPromise if from_client => Err(Violation::connection(Code::FRAME_UNEXPECTED, "PUSH_PROMISE from a client")),
            Self::PushPromise => Err(Violation::connection(Code::ID_ERROR, "PUSH_PROMISE, though no push ID was ever allowed")),
            Self::CancelPush | Self::Settings | Self::GoAway | Self::MaxPushId | Self::Http2 => {
                Err(Violation::connection(Code::FRAME_UNEXPECTED, "a frame that may not stand on a request stream"))
            }
        }
    }

    /// Whether the frame may stand on the control stream (RFC 9114 table 1), and as its first frame or a later one.
    pub(crate) fn check_on_control_stream(self, is_first: bool, from_client: bool) -> Result<(), Violation> {
        match self {
            Self::Settings if is_first => Ok(()),
            Self::Settings => Err(Violation::connection(Code::FRAME_UNEXPECTED, "a second SETTINGS frame")),
            // RFC 9114 section 6.2.1.
            _ if is_first => Err(Violation::connection(Code::MISSING_SETTINGS, "a control stream that does not begin with SETTINGS")),
            Self::GoAway | Self::CancelPush | Self::Unknown => Ok(()),
            // RFC 9114 section 7.2.7: only a client says how many pushes it takes.
            Self::MaxPushId if from_client => Ok(()),
            Self::MaxPushId | Self::Data | Self::Headers | Self::PushPromise | Self::Http2 => {
                Err(Violation::connection(Code::FRAME_UNEXPECTED, "a frame that may not stand on the control stream"))
            }
        }
    }
}

/// A type or identifier that means nothing, so that peers keep ignoring what they do not know (RFC 9114 section 7.2.8).
pub(crate) fn reserved(n: u64) -> u64 {
    0x1f * n + 0x21
}

/// Appends a frame's header.
pub(crate) fn put_header(out: &mut Vec<u8>, frame_type: VarInt, length: usize) {
    put_varint(out, frame_type);
    // A length is that of a buffer in memory, far below 2^62.
    put_varint(out, VarInt::saturating(length as u64));
}

/// Appends a variable-length integer (RFC 9000 section 16).
pub(crate) fn put_varint(out: &mut Vec<u8>, value: VarInt) {
    let value = value.as_u64();
    match value {
        0..=0x3f => out.push(value as u8),
        0x40..=0x3fff => out.extend_from_slice(&(value as u16 | 0x4000).to_be_bytes()),
        0x4000..=0x3fff_ffff => out.extend_from_slice(&(value as u32 | 0x8000_0000).to_be_bytes()),
        _ => out.extend_from_slice(&(value | 0xc000_0000_0000_0000).to_be_bytes()),
    }
}

/// Bytes of the variable-length integer that begins with `first`.
pub(crate) fn varint_len(first: u8) -> usize {
    1 << (first >> 6)
}

/// Takes a variable-length integer off the front of `input`; `None` if it is cut.
pub(crate) fn take_varint(input: &mut &[u8]) -> Option<u64> {
    let length = varint_len(*input.first()?);
    let (bytes, rest) = input.split_at_checked(length)?;
    *input = rest;
    let whole = bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte));
    // The two top bits are the length.
    Some(whole & ((1 << (8 * length - 2)) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_rfc9000_appendix_a1() {
        let examples: [(&[u8], u64); 4] = [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ];
        for (bytes, value) in examples {
            assert_eq!(take_varint(&mut &bytes[..]), Some(value));
            assert_eq!(take_varint(&mut &bytes[..bytes.len() - 1]), None);
            let mut out = Vec::new();
            put_varint(&mut out, VarInt::try_from(value).unwrap());
            assert_eq!(out, bytes);
        }
    }

    #[test]
    fn each_frame_stands_only_where_rfc9114_table_1_allows_it() {
        let on_request = |value| FrameType::from_wire(value).check_on_request_stream(true).is_ok();
        let on_control = |value, first| FrameType::from_wire(value).check_on_control_stream(first, true).is_ok();
        for value in 0..0x50 {
            assert_eq!(on_request(value), matches!(value, 0 | 1 | 0x0a..=0x0c | 0x0e..), "{value:#x}");
            assert_eq!(on_control(value, true), value == 4, "{value:#x}");
            assert_eq!(on_control(value, false), matches!(value, 3 | 7 | 0x0a..), "{value:#x}");
        }
        assert!(FrameType::MaxPushId.check_on_control_stream(false, false).is_err(), "a server has no say in pushes");
        let promise = |from_client| FrameType::PushPromise.check_on_request_stream(from_client).unwrap_err().code;
        assert_eq!((promise(true), promise(false)), (Code::FRAME_UNEXPECTED, Code::ID_ERROR));
    }
}
