//! The frames of flow control: limits raised (MAX_DATA, MAX_STREAM_DATA, MAX_STREAMS) and limits met (DATA_BLOCKED,
//! STREAM_DATA_BLOCKED, STREAMS_BLOCKED), RFC 9000 sections 19.9 to 19.14.
//!
//! Limits in bytes are at most 2^62 - 1, and saturate there when they are encoded; counts of streams are at most 2^60.

use crate::stream_id::{Direction, StreamId};
use crate::wire::frame::{EncodeFrame, FrameType, InvalidFrame, varint_size};
use crate::wire::{Reader, VarInt, Writer};

/// How many bytes the peer may send on all streams together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxData {
    pub limit: u64,
}

/// How many bytes the peer may send on one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxStreamData {
    pub id: StreamId,
    pub limit: u64,
}

/// How many streams of a direction the peer may open over the connection's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxStreams {
    pub direction: Direction,
    pub limit: u64,
}

/// The sender has more data than the connection's limit permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataBlocked {
    pub limit: u64,
}

/// The sender has more data than the stream's limit permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamDataBlocked {
    pub id: StreamId,
    pub limit: u64,
}

/// The sender wants more streams of a direction than the limit permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamsBlocked {
    pub direction: Direction,
    pub limit: u64,
}

impl MaxData {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<MaxData, InvalidFrame> {
        Ok(MaxData { limit: reader.varint()?.as_u64() })
    }
}

impl MaxStreamData {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<MaxStreamData, InvalidFrame> {
        let id = reader.varint()?.into();
        let limit = reader.varint()?.as_u64();
        Ok(MaxStreamData { id, limit })
    }
}

impl MaxStreams {
    pub(super) fn decode(reader: &mut Reader<'_>, direction: Direction) -> Result<MaxStreams, InvalidFrame> {
        let limit = stream_count(reader)?;
        Ok(MaxStreams { direction, limit })
    }
}

impl DataBlocked {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<DataBlocked, InvalidFrame> {
        Ok(DataBlocked { limit: reader.varint()?.as_u64() })
    }
}

impl StreamDataBlocked {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<StreamDataBlocked, InvalidFrame> {
        let id = reader.varint()?.into();
        let limit = reader.varint()?.as_u64();
        Ok(StreamDataBlocked { id, limit })
    }
}

impl StreamsBlocked {
    pub(super) fn decode(reader: &mut Reader<'_>, direction: Direction) -> Result<StreamsBlocked, InvalidFrame> {
        let limit = stream_count(reader)?;
        Ok(StreamsBlocked { direction, limit })
    }
}

/// RFC 9000 sections 19.11 and 19.14: no more streams than stream ids.
fn stream_count(reader: &mut Reader<'_>) -> Result<u64, InvalidFrame> {
    let count = reader.varint()?.as_u64();
    if count > StreamId::MAX_STREAMS {
        return Err(InvalidFrame("a limit of more than 2^60 streams"));
    }
    Ok(count)
}

/// Every frame here is its type and one or two integers.
macro_rules! encode {
    ($frame:ident, $frame_type:expr, $fields:expr) => {
        impl EncodeFrame for $frame {
            fn frame_type(&self) -> FrameType {
                let frame_type: fn(&$frame) -> FrameType = $frame_type;
                frame_type(self)
            }

            fn size(&self) -> usize {
                let fields: fn(&$frame) -> _ = $fields;
                1 + fields(self).into_iter().map(varint_size).sum::<usize>()
            }

            fn encode(&self, writer: &mut Writer<'_>) {
                let fields: fn(&$frame) -> _ = $fields;
                writer.put_u8(self.frame_type().to_wire());
                for field in fields(self) {
                    writer.put_varint(VarInt::saturating(field));
                }
            }
        }
    };
}

encode!(MaxData, |_| FrameType::MaxData, |frame| [frame.limit]);
encode!(MaxStreamData, |_| FrameType::MaxStreamData, |frame| [frame.id.as_u64(), frame.limit]);
encode!(MaxStreams, |frame| FrameType::MaxStreams(frame.direction), |frame| [frame.limit]);
encode!(DataBlocked, |_| FrameType::DataBlocked, |frame| [frame.limit]);
encode!(StreamDataBlocked, |_| FrameType::StreamDataBlocked, |frame| [frame.id.as_u64(), frame.limit]);
encode!(StreamsBlocked, |frame| FrameType::StreamsBlocked(frame.direction), |frame| [frame.limit]);
