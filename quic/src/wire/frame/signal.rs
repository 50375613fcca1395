//! The frames that are nothing but their type: PING and HANDSHAKE_DONE (RFC 9000 sections 19.2 and 19.20).

use crate::wire::Writer;
use crate::wire::frame::{EncodeFrame, FrameType};

/// Asks for an acknowledgment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping;

/// The server has confirmed the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandshakeDone;

impl EncodeFrame for Ping {
    fn frame_type(&self) -> FrameType {
        FrameType::Ping
    }

    fn size(&self) -> usize {
        1
    }

    fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_u8(self.frame_type().to_wire());
    }
}

impl EncodeFrame for HandshakeDone {
    fn frame_type(&self) -> FrameType {
        FrameType::HandshakeDone
    }

    fn size(&self) -> usize {
        1
    }

    fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_u8(self.frame_type().to_wire());
    }
}
