//! Puts a received frame back into bytes: what the round trips of tests and fuzz targets compare.

use crate::wire::Writer;
use crate::wire::frame::{AckToSend, EncodeFrame, Frame, FrameType, HandshakeDone, Ping};

impl EncodeFrame for Frame<'_> {
    fn frame_type(&self) -> FrameType {
        let mut frame_type = FrameType::Padding;
        self.visit(&mut |frame| frame_type = frame.frame_type());
        frame_type
    }

    fn size(&self) -> usize {
        let mut size = if let Frame::Padding { len } = self { *len } else { 0 };
        self.visit(&mut |frame| size = frame.size());
        size
    }

    fn encode(&self, writer: &mut Writer<'_>) {
        if let Frame::Padding { len } = self {
            writer.put_zeros(*len);
        }
        self.visit(&mut |frame| frame.encode(writer));
    }
}

impl Frame<'_> {
    /// Calls `f` with the frame's own type; not at all for PADDING, which has none.
    fn visit(&self, f: &mut dyn FnMut(&dyn EncodeFrame)) {
        match self {
            Frame::Padding { .. } => {}
            Frame::Ping => f(&Ping),
            Frame::Ack(ack) => {
                if let Some(frame) = AckToSend::fit(ack.delay, ack.ranges.clone(), ack.ecn, usize::MAX) {
                    f(&frame);
                }
            }
            Frame::ResetStream(frame) => f(frame),
            Frame::StopSending(frame) => f(frame),
            Frame::Crypto(frame) => f(frame),
            Frame::NewToken(frame) => f(frame),
            Frame::Stream(frame) => f(frame),
            Frame::MaxData(frame) => f(frame),
            Frame::MaxStreamData(frame) => f(frame),
            Frame::MaxStreams(frame) => f(frame),
            Frame::DataBlocked(frame) => f(frame),
            Frame::StreamDataBlocked(frame) => f(frame),
            Frame::StreamsBlocked(frame) => f(frame),
            Frame::NewConnectionId(frame) => f(frame),
            Frame::RetireConnectionId(frame) => f(frame),
            Frame::PathChallenge(frame) => f(frame),
            Frame::PathResponse(frame) => f(frame),
            Frame::Close(frame) => f(frame),
            Frame::ApplicationClose(frame) => f(frame),
            Frame::HandshakeDone => f(&HandshakeDone),
            Frame::Datagram(frame) => f(frame),
        }
    }
}
