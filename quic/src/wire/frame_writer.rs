//! Where the parts of a connection put their frames: the payload of one packet in the making, the tokens of what it
//! carries, and what that makes of the packet (ack-eliciting, in flight). Sealing belongs to the packet writer.

use crate::chunk::SendSlice;
use crate::token::Token;
use crate::wire::Writer;
use crate::wire::frame::{EncodeFrame, FrameType, StreamHeader};

/// The payload of a packet in the making.
///
/// Frames are written in place, except that the data of a last STREAM frame may stay in its chunk (the tail), to be
/// encrypted from there straight into the datagram. After a tail there is no room: its frame has no length and ends the
/// packet.
#[derive(Debug)]
pub(crate) struct FrameWriter<'b> {
    writer: Writer<'b>,
    tokens: &'b mut Vec<Token>,
    tail: Option<SendSlice>,
    ack_eliciting: bool,
    in_flight: bool,
}

/// What [`FrameWriter::finish`] leaves to seal and to record.
#[derive(Debug)]
pub(crate) struct WrittenFrames {
    /// Bytes of the payload that are in place.
    pub(crate) len: usize,
    /// The rest of the payload, not copied.
    pub(crate) tail: Option<SendSlice>,
    /// Whether the peer must acknowledge the packet (RFC 9002 section 2).
    pub(crate) ack_eliciting: bool,
    /// Whether the packet counts towards bytes in flight (RFC 9002 section 2).
    pub(crate) in_flight: bool,
}

impl WrittenFrames {
    /// Bytes of the payload, in place and tail.
    pub(crate) fn total_len(&self) -> usize {
        self.len + self.tail.as_ref().map_or(0, |tail| tail.len())
    }
}

impl<'b> FrameWriter<'b> {
    /// A writer of the payload `buf`, which has no room for the AEAD tag in it. Tokens are appended to `tokens`.
    pub(crate) fn new(buf: &'b mut [u8], tokens: &'b mut Vec<Token>) -> FrameWriter<'b> {
        FrameWriter { writer: Writer::new(buf), tokens, tail: None, ack_eliciting: false, in_flight: false }
    }

    /// Bytes of room for further frames.
    pub(crate) fn remaining(&self) -> usize {
        if self.tail.is_some() { 0 } else { self.writer.remaining() }
    }

    /// Whether no frame was written yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the payload so far, in place and tail.
    pub(crate) fn len(&self) -> usize {
        self.writer.position() + self.tail.as_ref().map_or(0, |tail| tail.len())
    }

    /// Whether a frame so far makes the peer acknowledge the packet.
    pub(crate) fn is_ack_eliciting(&self) -> bool {
        self.ack_eliciting
    }

    /// Writes a frame and keeps its token. False, and nothing written, if there is no room.
    #[must_use]
    pub(crate) fn frame<F: EncodeFrame>(&mut self, frame: &F, token: Token) -> bool {
        let written = self.frame_without_token(frame);
        if written {
            self.tokens.push(token);
        }
        written
    }

    /// Writes a frame whose fate nobody needs to know (a close). False, and nothing written, if there is no room.
    #[must_use]
    pub(crate) fn frame_without_token<F: EncodeFrame>(&mut self, frame: &F) -> bool {
        if frame.size() > self.remaining() {
            return false;
        }
        let start = self.writer.position();
        frame.encode(&mut self.writer);
        debug_assert_eq!(self.writer.position() - start, frame.size());
        self.mark(frame.frame_type());
        true
    }

    /// Writes a STREAM frame that ends the packet and leaves its data in the chunk. False, and nothing written, if header
    /// and data do not fit.
    #[must_use]
    pub(crate) fn stream_tail(&mut self, header: &StreamHeader, data: SendSlice, token: Token) -> bool {
        if header.size_to_end() + data.len() > self.remaining() {
            return false;
        }
        header.encode_to_end(&mut self.writer);
        self.mark(header.frame_type_to_end());
        self.tokens.push(token);
        self.tail = Some(data);
        true
    }

    /// Writes `len` bytes of PADDING, or as many as there is room for.
    #[cfg(test)]
    pub(crate) fn pad(&mut self, len: usize) {
        let len = len.min(self.remaining());
        if len > 0 {
            self.writer.put_zeros(len);
            self.mark(FrameType::Padding);
        }
    }

    /// Ends the payload.
    pub(crate) fn finish(self) -> WrittenFrames {
        WrittenFrames { len: self.writer.position(), tail: self.tail, ack_eliciting: self.ack_eliciting, in_flight: self.in_flight }
    }

    fn mark(&mut self, frame_type: FrameType) {
        self.ack_eliciting |= frame_type.is_ack_eliciting();
        self.in_flight |= frame_type.is_in_flight();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::error::TransportErrorCode;
    use crate::side::Side;
    use crate::stream_id::{Direction, StreamId};
    use crate::wire::frame::{Close, MaxData, Ping};

    #[test]
    fn a_frame_without_room_leaves_no_trace() {
        let mut buf = [0xee; 4];
        let mut tokens = Vec::new();
        let mut out = FrameWriter::new(&mut buf, &mut tokens);
        assert!(!out.frame(&MaxData { limit: 1 << 40 }, Token::MaxData));
        assert!(out.is_empty() && !out.is_ack_eliciting());
        assert!(out.frame(&Ping, Token::Ping));
        assert_eq!(out.remaining(), 3);
        let written = out.finish();
        assert!(written.ack_eliciting && written.in_flight && written.len == 1);
        assert_eq!(tokens, [Token::Ping]);
        assert_eq!(buf, [1, 0xee, 0xee, 0xee]);
    }

    #[test]
    fn a_tail_ends_the_packet_and_is_not_copied() {
        let id = StreamId::new(Side::Client, Direction::Bi, 1).unwrap();
        let header = StreamHeader { id, offset: 0, fin: true };
        let token = Token::Stream { id, offset: 0, len: 3, fin: true };
        let mut buf = [0; 6];
        let mut tokens = Vec::new();
        let mut out = FrameWriter::new(&mut buf, &mut tokens);
        assert!(!out.stream_tail(&header, SendSlice::from(Bytes::from_static(b"abcde")), token));
        assert!(out.stream_tail(&header, SendSlice::from(Bytes::from_static(b"abc")), token));
        assert_eq!((out.remaining(), out.len()), (0, 5));
        assert!(!out.frame(&Ping, Token::Ping));
        let written = out.finish();
        assert_eq!((written.len, written.total_len()), (2, 5));
        assert_eq!(&**written.tail.as_ref().unwrap(), b"abc");
        assert_eq!(buf, [0x09, 4, 0, 0, 0, 0]);
        assert_eq!(tokens, [token]);
    }

    /// RFC 9002 section 2: ACK, PADDING and CONNECTION_CLOSE elicit nothing; PADDING alone still is in flight.
    #[test]
    fn padding_is_in_flight_and_close_is_neither() {
        let mut buf = [0xff; 30];
        let mut tokens = Vec::new();
        let mut out = FrameWriter::new(&mut buf, &mut tokens);
        let close = Close { code: TransportErrorCode::NO_ERROR, frame: None, reason: b"bye" };
        assert!(out.frame_without_token(&close));
        assert!(!out.in_flight && !out.ack_eliciting);
        out.pad(100);
        let written = out.finish();
        assert!(written.in_flight && !written.ack_eliciting);
        assert_eq!(written.len, 30);
        assert!(tokens.is_empty());
    }
}
