//! CRYPTO frames (RFC 9000 section 19.6).

use crate::wire::frame::{EncodeFrame, FrameType, InvalidFrame, check_end, varint_size};
use crate::wire::{Reader, VarInt, Writer};

/// A piece of the TLS handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crypto<'a> {
    /// Where in the handshake of the packet's space the data starts. With the data's length at most 2^62 - 1.
    pub offset: u64,
    pub data: &'a [u8],
}

impl<'a> Crypto<'a> {
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Crypto<'a>, InvalidFrame> {
        let offset = reader.varint()?.as_u64();
        let data = reader.length_prefixed()?;
        check_end(offset, data)?;
        Ok(Crypto { offset, data })
    }

    /// The most data that a frame at `offset` can carry in `space` bytes; `None` if not one byte fits.
    pub fn capacity(offset: u64, space: usize) -> Option<usize> {
        let room = space.checked_sub(1 + varint_size(offset))?;
        // Handshake frames fill a packet: a length of two bytes is the rule, and one of one byte costs only what it saves.
        match room {
            0..=1 => None,
            2..=64 => Some(room - 1),
            _ => Some((room - 2).min(16_383)),
        }
    }
}

impl EncodeFrame for Crypto<'_> {
    fn frame_type(&self) -> FrameType {
        FrameType::Crypto
    }

    fn size(&self) -> usize {
        1 + varint_size(self.offset) + varint_size(self.data.len() as u64) + self.data.len()
    }

    fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_u8(self.frame_type().to_wire());
        writer.put_varint(VarInt::saturating(self.offset));
        writer.put_length_prefixed(self.data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_fits() {
        let data = [0; 2000];
        for offset in [0, 70, 1 << 20] {
            for space in 0..1500 {
                let Some(len) = Crypto::capacity(offset, space) else {
                    assert!(Crypto { offset, data: &data[..1] }.size() > space);
                    continue;
                };
                assert!(Crypto { offset, data: &data[..len] }.size() <= space);
                assert!(Crypto { offset, data: &data[..len + 1] }.size() > space || len == 63);
            }
        }
    }
}
