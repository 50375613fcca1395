//! The end of a connection: what CONNECTION_CLOSE to send, when to answer with it, and when all is over.
//!
//! Owns the closing and draining states (RFC 9000 10.2) and the two CONNECTION_CLOSE frames. Deadlines are set by
//! `lifecycle`.

use crate::error::{ApplicationCode, TransportError, TransportErrorCode};
use crate::wire::frame::{ApplicationCloseFrame, Close as CloseFrame};
use crate::wire::{FrameWriter, PacketType};

/// Longest close frame that is sent, so that those of three levels fit one datagram.
const MAX_SIZE: usize = 256;

/// Why this side closes.
#[derive(Clone, Debug)]
pub(crate) enum Reason {
    Transport(TransportError),
    Application { code: ApplicationCode, reason: Box<[u8]> },
}

/// Where a connection is on its way out.
pub(crate) struct Close(Phase);

enum Phase {
    Open,
    Closing {
        reason: Box<Reason>,
        /// A datagram with the frame should go out.
        owed: bool,
        received: u32,
        answer_at: u32,
    },
    Draining,
    Drained,
}

impl Close {
    pub(crate) fn new() -> Self {
        Self(Phase::Open)
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.0, Phase::Open)
    }

    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.0, Phase::Closing { .. })
    }

    pub(crate) fn is_drained(&self) -> bool {
        matches!(self.0, Phase::Drained)
    }

    /// Bytes held outside of the value itself.
    pub(crate) fn memory(&self) -> usize {
        let Phase::Closing { reason, .. } = &self.0 else { return 0 };
        let text = match &**reason {
            Reason::Transport(error) => error.reason.len(),
            Reason::Application { reason, .. } => reason.len(),
        };
        size_of::<Reason>() + text
    }

    /// This side closes. Returns false if the connection was on its way out already.
    #[must_use]
    pub(crate) fn start(&mut self, reason: Reason) -> bool {
        if !self.is_open() {
            return false;
        }
        self.0 = Phase::Closing { reason: Box::new(reason), owed: true, received: 0, answer_at: 1 };
        true
    }

    /// The peer closed, or reset: nothing is sent any more (RFC 9000 10.2.2).
    pub(crate) fn drain(&mut self) {
        if !self.is_drained() {
            self.0 = Phase::Draining;
        }
    }

    /// All state can go.
    pub(crate) fn finish(&mut self) {
        self.0 = Phase::Drained;
    }

    /// A packet came while closing. Answers grow rarer as packets keep coming (RFC 9000 10.2.1).
    pub(crate) fn on_packet(&mut self) {
        if let Phase::Closing { owed, received, answer_at, .. } = &mut self.0 {
            *received = received.saturating_add(1);
            if *received >= *answer_at {
                *owed = true;
                *answer_at = answer_at.saturating_mul(2);
            }
        }
    }

    /// Whether a close is to be sent.
    pub(crate) fn is_owed(&self) -> bool {
        matches!(self.0, Phase::Closing { owed: true, .. })
    }

    /// The close was written into a datagram.
    pub(crate) fn on_sent(&mut self) {
        if let Phase::Closing { owed, .. } = &mut self.0 {
            *owed = false;
        }
    }

    /// Writes the frame that a packet of this type may carry.
    pub(crate) fn write_frame(&self, packet: PacketType, out: &mut FrameWriter<'_>) -> bool {
        let Phase::Closing { reason, .. } = &self.0 else { return false };
        let room = out.remaining();
        match &**reason {
            Reason::Transport(error) => {
                // What TLS says is for our own log: it may name what the peer should not learn.
                let reason = if error.code.alert().is_some() { &[] } else { error.reason.as_bytes() };
                let frame = CloseFrame { code: error.code, frame: error.frame, reason };
                out.frame_without_token(&frame.fit(room.min(MAX_SIZE)))
            }
            // RFC 9000 10.2.3: what the application said is not for Initial and Handshake packets.
            Reason::Application { .. } if packet != PacketType::OneRtt => {
                let frame = CloseFrame { code: TransportErrorCode::APPLICATION_ERROR, frame: None, reason: &[] };
                out.frame_without_token(&frame)
            }
            Reason::Application { code, reason } => {
                let frame = ApplicationCloseFrame { code: *code, reason };
                out.frame_without_token(&frame.fit(room.min(MAX_SIZE)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_grow_rarer() {
        // RFC 9000 10.2.1
        let mut close = Close::new();
        assert!(close.start(Reason::Application { code: ApplicationCode::from_u32(0), reason: Box::default() }));
        assert!(close.is_owed());
        close.on_sent();
        let mut answers = 0;
        for _ in 0..1000 {
            close.on_packet();
            if close.is_owed() {
                answers += 1;
                close.on_sent();
            }
        }
        assert_eq!(answers, 10);
        close.drain();
        close.on_packet();
        assert!(!close.is_owed());
    }

    #[test]
    fn a_second_reason_changes_nothing() {
        let mut close = Close::new();
        let error = || Reason::Transport(TransportErrorCode::PROTOCOL_VIOLATION.because(""));
        assert!(close.start(error()));
        assert!(!close.start(error()));
        close.drain();
        assert!(!close.start(error()));
    }
}
