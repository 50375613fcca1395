//! NEW_TOKEN frames (RFC 9000 section 19.7).

use crate::wire::frame::{EncodeFrame, FrameType, InvalidFrame, varint_size};
use crate::wire::{Reader, Writer};

/// A token for the client's next connection to this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewToken<'a> {
    /// At least one byte.
    pub token: &'a [u8],
}

impl<'a> NewToken<'a> {
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<NewToken<'a>, InvalidFrame> {
        let token = reader.length_prefixed()?;
        if token.is_empty() {
            return Err(InvalidFrame("an empty token"));
        }
        Ok(NewToken { token })
    }
}

impl EncodeFrame for NewToken<'_> {
    fn frame_type(&self) -> FrameType {
        FrameType::NewToken
    }

    fn size(&self) -> usize {
        1 + varint_size(self.token.len() as u64) + self.token.len()
    }

    fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_u8(self.frame_type().to_wire());
        writer.put_length_prefixed(self.token);
    }
}
