//! The frames that prove that the peer is where it says: PATH_CHALLENGE and PATH_RESPONSE (RFC 9000 sections 19.17 and
//! 19.18).

use crate::wire::frame::{EncodeFrame, FrameType, InvalidFrame};
use crate::wire::{Reader, Writer};

/// Bytes that the peer must send back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathChallenge(pub [u8; 8]);

/// The bytes of a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathResponse(pub [u8; 8]);

impl PathChallenge {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<PathChallenge, InvalidFrame> {
        Ok(PathChallenge(reader.array()?))
    }
}

impl EncodeFrame for PathChallenge {
    fn frame_type(&self) -> FrameType {
        FrameType::PathChallenge
    }

    fn size(&self) -> usize {
        1 + self.0.len()
    }

    fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_u8(self.frame_type().to_wire());
        writer.put_slice(&self.0);
    }
}

impl PathResponse {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<PathResponse, InvalidFrame> {
        Ok(PathResponse(reader.array()?))
    }
}

impl EncodeFrame for PathResponse {
    fn frame_type(&self) -> FrameType {
        FrameType::PathResponse
    }

    fn size(&self) -> usize {
        1 + self.0.len()
    }

    fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_u8(self.frame_type().to_wire());
        writer.put_slice(&self.0);
    }
}
