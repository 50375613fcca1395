//! STREAM frames (RFC 9000 section 19.8).

use crate::stream_id::StreamId;
use crate::wire::frame::{EncodeFrame, FrameType, InvalidFrame, capacity_behind_length, check_end, varint_size};
use crate::wire::{Reader, VarInt, Writer};

/// Data of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream<'a> {
    pub id: StreamId,
    /// Where in the stream the data starts. With the data's length at most 2^62 - 1.
    pub offset: u64,
    /// Whether the stream ends with the data.
    pub fin: bool,
    pub data: &'a [u8],
}

/// A STREAM frame to send whose data stays elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamHeader {
    pub id: StreamId,
    pub offset: u64,
    pub fin: bool,
}

impl<'a> Stream<'a> {
    pub(super) fn decode(reader: &mut Reader<'a>, has_offset: bool, has_length: bool, fin: bool) -> Result<Stream<'a>, InvalidFrame> {
        let id = StreamId::from(reader.varint()?);
        let offset = if has_offset { reader.varint()?.as_u64() } else { 0 };
        let data = if has_length { reader.length_prefixed()? } else { reader.rest() };
        check_end(offset, data)?;
        Ok(Stream { id, offset, fin, data })
    }

    fn header(&self) -> StreamHeader {
        StreamHeader { id: self.id, offset: self.offset, fin: self.fin }
    }
}

impl EncodeFrame for Stream<'_> {
    fn frame_type(&self) -> FrameType {
        self.header().frame_type(true)
    }

    fn size(&self) -> usize {
        self.header().size_to_end() + varint_size(self.data.len() as u64) + self.data.len()
    }

    fn encode(&self, writer: &mut Writer<'_>) {
        self.header().encode(writer, true);
        writer.put_length_prefixed(self.data);
    }
}

impl StreamHeader {
    /// Bytes of the header of a frame that ends the packet, and so has no length.
    pub fn size_to_end(&self) -> usize {
        let offset = if self.offset == 0 { 0 } else { varint_size(self.offset) };
        1 + varint_size(self.id.as_u64()) + offset
    }

    /// The most data that a frame in `space` bytes can carry behind this header and a length. `None` if not even an empty
    /// frame fits.
    pub fn capacity(&self, space: usize) -> Option<usize> {
        capacity_behind_length(space.checked_sub(self.size_to_end())?)
    }

    pub fn frame_type_to_end(&self) -> FrameType {
        self.frame_type(false)
    }

    /// Puts the header of a frame that ends the packet.
    pub fn encode_to_end(&self, writer: &mut Writer<'_>) {
        self.encode(writer, false);
    }

    fn frame_type(&self, length: bool) -> FrameType {
        FrameType::Stream { offset: self.offset != 0, length, fin: self.fin }
    }

    fn encode(&self, writer: &mut Writer<'_>, length: bool) {
        writer.put_u8(self.frame_type(length).to_wire());
        writer.put_varint(self.id);
        if self.offset != 0 {
            writer.put_varint(VarInt::saturating(self.offset));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::side::Side;
    use crate::stream_id::Direction;

    #[test]
    fn capacity_is_the_most_that_fits() {
        let data = vec![0; 70_000];
        for (index, offset) in [(0, 0), (100, 1), (5, 1 << 40)] {
            let id = StreamId::new(Side::Client, Direction::Bi, index).unwrap();
            let header = StreamHeader { id, offset, fin: false };
            let size = |len: usize| Stream { id, offset, fin: false, data: &data[..len] }.size();
            for space in (0..200).chain(16_370..16_420).chain(65_000..65_010) {
                match header.capacity(space) {
                    None => assert!(size(0) > space),
                    Some(len) => {
                        assert!(size(len) <= space && size(len + 1) > space, "{space} {len}")
                    }
                }
            }
        }
    }
}
