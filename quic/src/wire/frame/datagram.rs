//! DATAGRAM frames (RFC 9221 section 4).

use crate::wire::frame::{EncodeFrame, FrameType, InvalidFrame, capacity_behind_length, varint_size};
use crate::wire::{Reader, Writer};

/// Data that arrives at most once, whole, and in no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    pub data: &'a [u8],
    /// Whether its length is in the frame. Without, the frame ends the packet.
    pub has_length: bool,
}

impl<'a> Datagram<'a> {
    pub(super) fn decode(reader: &mut Reader<'a>, has_length: bool) -> Result<Datagram<'a>, InvalidFrame> {
        let data = if has_length { reader.length_prefixed()? } else { reader.rest() };
        Ok(Datagram { data, has_length })
    }

    /// The most data that a frame with a length can carry in `space` bytes; `None` if not even an empty frame fits.
    pub fn capacity(space: usize) -> Option<usize> {
        capacity_behind_length(space.checked_sub(1)?)
    }
}

impl EncodeFrame for Datagram<'_> {
    fn frame_type(&self) -> FrameType {
        FrameType::Datagram { length: self.has_length }
    }

    fn size(&self) -> usize {
        let length = if self.has_length { varint_size(self.data.len() as u64) } else { 0 };
        1 + length + self.data.len()
    }

    fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_u8(self.frame_type().to_wire());
        if self.has_length {
            writer.put_length_prefixed(self.data);
        } else {
            writer.put_slice(self.data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_is_the_most_that_fits() {
        let data = vec![0; 70_000];
        let size = |len: usize| Datagram { data: &data[..len], has_length: true }.size();
        for space in (0..200).chain(16_370..16_420).chain(65_000..65_010) {
            match Datagram::capacity(space) {
                None => assert!(size(0) > space),
                Some(len) => assert!(size(len) <= space && size(len + 1) > space, "{space} {len}"),
            }
        }
    }
}
