//! Frames in: hands each frame of an opened packet to the part that owns it.

use super::{Connection, Scratch};
use crate::chunk::Chunk;
use crate::error::{ApplicationClose, ConnectionClose, ConnectionError, TransportError, TransportErrorCode};
use crate::id::ConnectionId;
use crate::recovery::SpaceId;
use crate::time::Instant;
use crate::wire::frame::{EncodeFrame, Frame, FrameIter};
use crate::wire::{PacketNumber, PacketType};

/// A packet whose payload is open.
pub(super) struct Opened {
    pub(super) packet: PacketType,
    pub(super) space: SpaceId,
    pub(super) number: PacketNumber,
    /// The id that it was sent to.
    pub(super) destination: ConnectionId,
    /// Bits of its header.
    pub(super) spin: bool,
    pub(super) phase: bool,
    pub(super) payload: Chunk,
    /// The keys before the current ones opened it (RFC 9001 6.5).
    pub(super) old_keys: bool,
    /// When it came: before now if it waited for its keys.
    pub(super) arrived: Instant,
}

impl Connection {
    /// Processes all frames of a packet. Says whether one of them elicits an acknowledgement.
    pub(super) fn dispatch(&mut self, now: Instant, opened: &Opened, scratch: &mut Scratch) -> Result<bool, TransportError> {
        let mut frames = FrameIter::new(&opened.payload, opened.packet, !self.side);
        let mut ack_eliciting = false;
        while let Some(frame) = frames.next() {
            let frame = frame?;
            let Some(frame_type) = frames.frame_type() else { continue };
            ack_eliciting |= frame_type.is_ack_eliciting();
            // RFC 9000 10.2.1: a closing endpoint listens for nothing but the peer's close.
            if !self.close.is_open() && !matches!(frame, Frame::Close(_) | Frame::ApplicationClose(_)) {
                continue;
            }
            let data = match &frame {
                Frame::Stream(stream) => frames.data_range(stream.data),
                Frame::Datagram(datagram) => frames.data_range(datagram.data),
                _ => 0..0,
            };
            let chunk = || opened.payload.slice(data);
            self.on_frame(now, opened, frame, chunk, scratch).map_err(|error| error.in_frame(frame_type))?;
        }
        Ok(ack_eliciting)
    }

    fn on_frame(
        &mut self,
        now: Instant,
        opened: &Opened,
        frame: Frame<'_>,
        chunk: impl FnOnce() -> Chunk,
        scratch: &mut Scratch,
    ) -> Result<(), TransportError> {
        match frame {
            Frame::Padding { .. } | Frame::Ping => Ok(()),
            Frame::Ack(ack) => {
                // RFC 9001 6.2: who has our packet of the new phase has updated, too.
                if opened.old_keys && self.keys.is_current(ack.largest) {
                    let reason = "old keys protect the acknowledgement of a packet with newer ones";
                    return Err(TransportErrorCode::KEY_UPDATE_ERROR.because(reason));
                }
                self.on_ack(now, opened, &ack, scratch)
            }
            Frame::Crypto(crypto) => {
                let window = self.config.limits.crypto_buffer;
                self.handshake.on_crypto(super::level(opened.space), crypto.offset, crypto.data, window)?;
                if opened.space == SpaceId::Initial { self.on_first_crypto() } else { Ok(()) }
            }
            Frame::HandshakeDone => {
                self.handshake.on_handshake_done()?;
                self.on_confirmed(now);
                Ok(())
            }
            Frame::Stream(stream) => {
                self.streams.on_stream(stream.id, stream.offset, stream.fin, chunk())?;
                if opened.packet == PacketType::ZeroRtt {
                    self.streams.set_early(stream.id);
                }
                Ok(())
            }
            Frame::Datagram(frame) => self.on_datagram(frame.size(), chunk()),
            Frame::ResetStream(frame) => self.streams.on_reset_stream(frame),
            Frame::StopSending(frame) => self.streams.on_stop_sending(frame),
            Frame::MaxData(frame) => {
                self.streams.on_max_data(frame);
                Ok(())
            }
            Frame::MaxStreamData(frame) => self.streams.on_max_stream_data(frame),
            Frame::MaxStreams(frame) => {
                self.streams.on_max_streams(frame);
                Ok(())
            }
            Frame::StreamDataBlocked(frame) => self.streams.on_stream_data_blocked(frame),
            // Limits rise when there is room, not when the peer asks (RFC 9000 4.2).
            Frame::DataBlocked(_) | Frame::StreamsBlocked(_) => Ok(()),
            Frame::NewConnectionId(frame) => self.remote_ids.on_new(&frame),
            Frame::RetireConnectionId(frame) => {
                self.local_ids.on_retire(&frame, &opened.destination)?;
                if self.local_ids.is_exhausted() {
                    self.on_ids_exhausted(now);
                }
                Ok(())
            }
            Frame::PathChallenge(challenge) => {
                self.path_responses.on_challenge(challenge, self.config.limits.path_responses);
                Ok(())
            }
            // We never send a challenge. RFC 9000 19.18 lets an unexpected response be an error; it does no harm.
            Frame::PathResponse(_) => Ok(()),
            Frame::NewToken(frame) => {
                self.next_token.on_frame(&frame, self.version);
                Ok(())
            }
            Frame::Close(close) => {
                let error = ConnectionClose { code: close.code, frame: close.frame, reason: close.reason.to_vec().into() };
                self.on_peer_close(now, ConnectionError::ConnectionClosed(error));
                Ok(())
            }
            Frame::ApplicationClose(close) => {
                let error = ApplicationClose { code: close.code, reason: close.reason.to_vec().into() };
                self.on_peer_close(now, ConnectionError::ApplicationClosed(error));
                Ok(())
            }
        }
    }
}
