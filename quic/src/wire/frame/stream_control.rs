//! The frames that end a stream before its time: RESET_STREAM and STOP_SENDING (RFC 9000 sections 19.4 and 19.5).

use crate::error::ApplicationCode;
use crate::stream_id::StreamId;
use crate::wire::frame::{EncodeFrame, FrameType, InvalidFrame, varint_size};
use crate::wire::{Reader, VarInt, Writer};

/// The sender of a stream gives it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetStream {
    pub id: StreamId,
    pub code: ApplicationCode,
    /// Bytes that the stream used of the connection's flow control. At most 2^62 - 1.
    pub final_size: u64,
}

impl ResetStream {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<ResetStream, InvalidFrame> {
        let id = reader.varint()?.into();
        let code = reader.varint()?.into();
        let final_size = reader.varint()?.as_u64();
        Ok(ResetStream { id, code, final_size })
    }
}

impl EncodeFrame for ResetStream {
    fn frame_type(&self) -> FrameType {
        FrameType::ResetStream
    }

    fn size(&self) -> usize {
        1 + varint_size(self.id.as_u64()) + varint_size(self.code.as_u64()) + varint_size(self.final_size)
    }

    fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_u8(self.frame_type().to_wire());
        writer.put_varint(self.id);
        writer.put_varint(self.code);
        writer.put_varint(VarInt::saturating(self.final_size));
    }
}

/// The receiver of a stream wants no more of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopSending {
    pub id: StreamId,
    pub code: ApplicationCode,
}

impl StopSending {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<StopSending, InvalidFrame> {
        let id = reader.varint()?.into();
        let code = reader.varint()?.into();
        Ok(StopSending { id, code })
    }
}

impl EncodeFrame for StopSending {
    fn frame_type(&self) -> FrameType {
        FrameType::StopSending
    }

    fn size(&self) -> usize {
        1 + varint_size(self.id.as_u64()) + varint_size(self.code.as_u64())
    }

    fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_u8(self.frame_type().to_wire());
        writer.put_varint(self.id);
        writer.put_varint(self.code);
    }
}
