//! CONNECTION_CLOSE frames, of the transport and of the application (RFC 9000 section 19.19).

use crate::error::{ApplicationCode, TransportErrorCode};
use crate::wire::frame::{EncodeFrame, FrameType, InvalidFrame, varint_size};
use crate::wire::{Reader, VarInt, Writer};

/// The transport closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close<'a> {
    pub code: TransportErrorCode,
    /// The type of the frame at fault. PADDING (0) stands for none, and is decoded as such.
    pub frame: Option<u64>,
    pub reason: &'a [u8],
}

/// The application closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApplicationCloseFrame<'a> {
    pub code: ApplicationCode,
    pub reason: &'a [u8],
}

impl<'a> Close<'a> {
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Close<'a>, InvalidFrame> {
        let code = reader.varint()?.into();
        let frame = Some(reader.varint()?.as_u64()).filter(|frame| *frame != 0);
        let reason = reader.length_prefixed()?;
        Ok(Close { code, frame, reason })
    }

    /// The same frame, its reason cut so that it takes at most `space` bytes if that is possible at all.
    #[must_use]
    pub fn fit(self, space: usize) -> Close<'a> {
        let excess = self.size().saturating_sub(space);
        Close { reason: cut(self.reason, excess), ..self }
    }
}

impl EncodeFrame for Close<'_> {
    fn frame_type(&self) -> FrameType {
        FrameType::Close
    }

    fn size(&self) -> usize {
        let numbers = varint_size(self.code.as_u64()) + varint_size(self.frame.unwrap_or(0));
        1 + numbers + varint_size(self.reason.len() as u64) + self.reason.len()
    }

    fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_u8(self.frame_type().to_wire());
        writer.put_varint(self.code);
        writer.put_varint(VarInt::saturating(self.frame.unwrap_or(0)));
        writer.put_length_prefixed(self.reason);
    }
}

impl<'a> ApplicationCloseFrame<'a> {
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<ApplicationCloseFrame<'a>, InvalidFrame> {
        let code = reader.varint()?.into();
        let reason = reader.length_prefixed()?;
        Ok(ApplicationCloseFrame { code, reason })
    }

    /// The same frame, its reason cut so that it takes at most `space` bytes if that is possible at all.
    #[must_use]
    pub fn fit(self, space: usize) -> ApplicationCloseFrame<'a> {
        let excess = self.size().saturating_sub(space);
        ApplicationCloseFrame { reason: cut(self.reason, excess), ..self }
    }
}

impl EncodeFrame for ApplicationCloseFrame<'_> {
    fn frame_type(&self) -> FrameType {
        FrameType::ApplicationClose
    }

    fn size(&self) -> usize {
        1 + varint_size(self.code.as_u64()) + varint_size(self.reason.len() as u64) + self.reason.len()
    }

    fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_u8(self.frame_type().to_wire());
        writer.put_varint(self.code);
        writer.put_length_prefixed(self.reason);
    }
}

/// The reason without its last `excess` bytes, and without the character that this would cut in two.
fn cut(reason: &[u8], excess: usize) -> &[u8] {
    let mut len = reason.len().saturating_sub(excess);
    // RFC 3629: bytes 10xxxxxx continue a character.
    while len > 0 && len < reason.len() && reason[len] & 0xc0 == 0x80 {
        len -= 1;
    }
    &reason[..len]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = "ä".repeat(100);
        let frame = ApplicationCloseFrame { code: ApplicationCode::from(7), reason: reason.as_bytes() };
        assert_eq!(frame.fit(1000), frame);
        for space in 3..300 {
            let fitted = frame.fit(space);
            assert!(fitted.size() <= space);
            assert!(str::from_utf8(fitted.reason).is_ok());
            assert!(fitted.reason.len() + 6 >= space.min(200), "{space}");
        }
        let close = Close { code: TransportErrorCode::NO_ERROR, frame: Some(8), reason: reason.as_bytes() };
        assert!((4..300).all(|space| close.fit(space).size() <= space));
    }
}
