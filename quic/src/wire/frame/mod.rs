//! Frames: what a packet carries (RFC 9000 sections 12.4 and 19, RFC 9221 section 4). One file a family; here what they share, and the walk over
//! a received payload.
//!
//! Every frame that is handed out has passed all checks that need no state. What depends on the connection (a stream that
//! does not exist, a limit, an ACK of a packet never sent) is its owner's to check.

mod ack;
mod close;
mod connection_id;
mod crypto;
mod datagram;
mod flow_control;
mod frame_type;
mod new_token;
mod path;
#[cfg(any(test, fuzzing, feature = "simulation"))]
mod reencode;
mod signal;
mod stream;
mod stream_control;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use ack::{Ack, AckToSend, EcnCounts};
pub use close::{ApplicationCloseFrame, Close};
pub use connection_id::{NewConnectionId, RetireConnectionId};
pub use crypto::Crypto;
pub use datagram::Datagram;
pub use flow_control::{DataBlocked, MaxData, MaxStreamData, MaxStreams, StreamDataBlocked, StreamsBlocked};
pub use frame_type::FrameType;
pub use new_token::NewToken;
pub use path::{PathChallenge, PathResponse};
pub use signal::{HandshakeDone, Ping};
pub use stream::{Stream, StreamHeader};
pub use stream_control::{ResetStream, StopSending};

use crate::error::{TransportError, TransportErrorCode};
use crate::side::Side;
use crate::wire::{PacketType, Reader, Truncated, VarInt, Writer};

/// A frame that can be put into a packet.
pub trait EncodeFrame {
    fn frame_type(&self) -> FrameType;

    /// Bytes that [`EncodeFrame::encode`] puts, type included.
    fn size(&self) -> usize;

    /// Puts the frame, type included.
    fn encode(&self, writer: &mut Writer<'_>);
}

/// A received frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// `len` frames of PADDING behind each other.
    Padding {
        len: usize,
    },
    Ping,
    Ack(Ack<'a>),
    ResetStream(ResetStream),
    StopSending(StopSending),
    Crypto(Crypto<'a>),
    NewToken(NewToken<'a>),
    Stream(Stream<'a>),
    MaxData(MaxData),
    MaxStreamData(MaxStreamData),
    MaxStreams(MaxStreams),
    DataBlocked(DataBlocked),
    StreamDataBlocked(StreamDataBlocked),
    StreamsBlocked(StreamsBlocked),
    NewConnectionId(NewConnectionId),
    RetireConnectionId(RetireConnectionId),
    PathChallenge(PathChallenge),
    PathResponse(PathResponse),
    Close(Close<'a>),
    ApplicationClose(ApplicationCloseFrame<'a>),
    HandshakeDone,
    Datagram(Datagram<'a>),
}

/// Why a frame cannot be decoded: always FRAME_ENCODING_ERROR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct InvalidFrame(&'static str);

impl From<Truncated> for InvalidFrame {
    fn from(Truncated: Truncated) -> InvalidFrame {
        InvalidFrame("the packet ends inside the frame")
    }
}

/// Bytes of the shortest encoding of `value`.
fn varint_size(value: u64) -> usize {
    VarInt::saturating(value).size()
}

/// The most data that `room` bytes can hold behind the data's length. `None` if not even the length fits.
fn capacity_behind_length(room: usize) -> Option<usize> {
    // A length of n bytes leaves room - n, and is the shortest for that: at the borders one byte of room stays unused.
    let longest = room.checked_sub(1)?;
    Some(match longest {
        0..=63 => longest,
        64 => 63,
        65..=16_384 => room - 2,
        16_385..=16_386 => 16_383,
        _ => room - 4,
    })
}

/// RFC 9000 sections 19.6 and 19.8: no byte of a stream or of the handshake lies past 2^62 - 1.
fn check_end(offset: u64, data: &[u8]) -> Result<(), InvalidFrame> {
    // An offset is below 2^62 and a packet's length below 2^16, so that the sum does not overflow.
    if offset + data.len() as u64 > VarInt::MAX.as_u64() {
        return Err(InvalidFrame("data past 2^62 - 1"));
    }
    Ok(())
}

/// The frames of an opened packet. The walk ends after the first error.
#[derive(Clone, Debug)]
pub struct FrameIter<'a> {
    reader: Reader<'a>,
    packet: PacketType,
    sender: Side,
    /// The type of the frame handed out last, `None` before the first one.
    frame_type: Option<FrameType>,
    failed: bool,
}

impl<'a> FrameIter<'a> {
    /// The frames in `payload`, of a packet of that type which `sender` sent.
    pub fn new(payload: &'a [u8], packet: PacketType, sender: Side) -> FrameIter<'a> {
        FrameIter { reader: Reader::new(payload), packet, sender, frame_type: None, failed: false }
    }

    /// The type of the frame that was handed out last; `None` before the first one.
    pub fn frame_type(&self) -> Option<FrameType> {
        self.frame_type
    }

    /// Where in the payload the data of the STREAM, CRYPTO or DATAGRAM frame that was handed out last lies.
    pub fn data_range(&self, data: &[u8]) -> Range<usize> {
        // In all of them, the data is the end of the frame.
        let end = self.reader.position();
        end - data.len()..end
    }

    fn decode(&mut self) -> Result<Frame<'a>, TransportError> {
        let start = self.reader.position();
        let number = self
            .reader
            .varint()
            .map_err(|Truncated| TransportErrorCode::FRAME_ENCODING_ERROR.because("the packet ends inside a frame type"))?;
        // RFC 9000 section 12.4: the type has one encoding only.
        if self.reader.position() - start != number.size() {
            let error = TransportErrorCode::PROTOCOL_VIOLATION.because("a frame type that is not encoded the shortest way");
            return Err(error.in_frame(number));
        }
        let Some(frame_type) = FrameType::from_wire(number) else {
            return Err(TransportErrorCode::FRAME_ENCODING_ERROR.because("an unknown frame type").in_frame(number));
        };
        self.frame_type = Some(frame_type);
        // RFC 9000 section 12.4, table 3.
        if !frame_type.allowed_in(self.packet) {
            let error = TransportErrorCode::PROTOCOL_VIOLATION.because("a frame in a packet that may not carry it");
            return Err(error.in_frame(frame_type));
        }
        if !frame_type.allowed_from(self.sender) {
            return Err(TransportErrorCode::PROTOCOL_VIOLATION.because("a frame that only servers send").in_frame(frame_type));
        }
        self.decode_body(frame_type)
            .map_err(|InvalidFrame(reason)| TransportErrorCode::FRAME_ENCODING_ERROR.because(reason).in_frame(frame_type))
    }

    fn decode_body(&mut self, frame_type: FrameType) -> Result<Frame<'a>, InvalidFrame> {
        let reader = &mut self.reader;
        Ok(match frame_type {
            FrameType::Padding => Frame::Padding { len: 1 + reader.skip_zeros() },
            FrameType::Ping => Frame::Ping,
            FrameType::Ack { ecn } => Frame::Ack(Ack::decode(reader, ecn)?),
            FrameType::ResetStream => Frame::ResetStream(ResetStream::decode(reader)?),
            FrameType::StopSending => Frame::StopSending(StopSending::decode(reader)?),
            FrameType::Crypto => Frame::Crypto(Crypto::decode(reader)?),
            FrameType::NewToken => Frame::NewToken(NewToken::decode(reader)?),
            FrameType::Stream { offset, length, fin } => Frame::Stream(Stream::decode(reader, offset, length, fin)?),
            FrameType::MaxData => Frame::MaxData(MaxData::decode(reader)?),
            FrameType::MaxStreamData => Frame::MaxStreamData(MaxStreamData::decode(reader)?),
            FrameType::MaxStreams(direction) => Frame::MaxStreams(MaxStreams::decode(reader, direction)?),
            FrameType::DataBlocked => Frame::DataBlocked(DataBlocked::decode(reader)?),
            FrameType::StreamDataBlocked => Frame::StreamDataBlocked(StreamDataBlocked::decode(reader)?),
            FrameType::StreamsBlocked(direction) => Frame::StreamsBlocked(StreamsBlocked::decode(reader, direction)?),
            FrameType::NewConnectionId => Frame::NewConnectionId(NewConnectionId::decode(reader)?),
            FrameType::RetireConnectionId => Frame::RetireConnectionId(RetireConnectionId::decode(reader)?),
            FrameType::PathChallenge => Frame::PathChallenge(PathChallenge::decode(reader)?),
            FrameType::PathResponse => Frame::PathResponse(PathResponse::decode(reader)?),
            FrameType::Close => Frame::Close(Close::decode(reader)?),
            FrameType::ApplicationClose => Frame::ApplicationClose(ApplicationCloseFrame::decode(reader)?),
            FrameType::HandshakeDone => Frame::HandshakeDone,
            FrameType::Datagram { length } => Frame::Datagram(Datagram::decode(reader, length)?),
        })
    }
}

impl<'a> Iterator for FrameIter<'a> {
    type Item = Result<Frame<'a>, TransportError>;

    fn next(&mut self) -> Option<Result<Frame<'a>, TransportError>> {
        if self.failed {
            return None;
        }
        let item = if !self.reader.is_empty() {
            self.decode()
        } else if self.reader.position() == 0 {
            // RFC 9000 section 12.4: a packet holds at least one frame.
            Err(TransportErrorCode::PROTOCOL_VIOLATION.because("a packet without frames"))
        } else {
            return None;
        };
        self.failed = item.is_err();
        Some(item)
    }
}
