//! Owns the receiving part of a stream: what has arrived until it is read, the final size, and how it ends.
//!
//! Does not own the connection's credit and slack, which are lent, nor the frames (`transmit`).
//!
//! Invariant: each byte that counts against the connection's limit is released to it once: by [`Receive`] when the byte
//! will never be handed out, by the owner of the chunk that holds it otherwise.

use super::flow::ReceiveCredit;
use super::reassembly::{Reassembly, Slack, TooFragmented};
use crate::chunk::Chunk;
use crate::error::{ApplicationCode, TransportError, TransportErrorCode};
use crate::streams::ReadError;

/// RFC 9000 section 3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// "Recv".
    Open,
    /// "Size Known", and "Data Recvd" once all below the final size is there, which is `credit.received()`.
    SizeKnown,
    /// Like `Open`, but the application reads no more: what arrives is dropped.
    Stopped(ApplicationCode),
    /// "Reset Recvd".
    Reset(ApplicationCode),
    /// "Data Read" or "Reset Read", or stopped and the final size known: terminal.
    Ended,
}

/// The receiving part of a stream.
#[derive(Debug)]
pub(super) struct Receive {
    state: State,
    data: Reassembly,
    credit: ReceiveCredit,
}

/// The connection's side of what a stream receives, lent to it.
pub(super) struct Shared<'a> {
    pub(super) credit: &'a mut ReceiveCredit,
    pub(super) slack: &'a mut Slack,
}

impl Receive {
    /// A stream whose peer may send `window` bytes ahead of what was consumed.
    pub(super) fn new(window: u64) -> Self {
        Self { state: State::Open, data: Reassembly::new(window), credit: ReceiveCredit::new(window) }
    }

    /// Bytes held outside of the value itself.
    pub(super) fn memory(&self) -> usize {
        self.data.memory()
    }

    /// Data arrived. Returns whether a reader has something to see.
    pub(super) fn on_stream(&mut self, offset: u64, fin: bool, chunk: Chunk, shared: Shared<'_>) -> Result<bool, TransportError> {
        let end = offset + chunk.len() as u64;
        let new = self.grow(end, fin, shared.credit)?;
        match self.state {
            State::Open | State::SizeKnown => {
                if fin {
                    self.state = State::SizeKnown;
                }
                self.data.insert(offset, chunk, shared.slack).map_err(|TooFragmented| {
                    TransportErrorCode::INTERNAL_ERROR.because("the stream is cut into too many pieces to keep")
                })?;
                Ok(self.is_readable())
            }
            State::Stopped(_) => {
                // RFC 9000 section 3.5: data after STOP_SENDING counts like any other, and is dropped.
                shared.credit.release(new);
                if fin {
                    self.state = State::Ended;
                }
                Ok(false)
            }
            State::Reset(_) | State::Ended => Ok(false),
        }
    }

    /// The peer has abandoned the stream. Returns whether a reader has something to see.
    pub(super) fn on_reset(&mut self, code: ApplicationCode, final_size: u64, shared: Shared<'_>) -> Result<bool, TransportError> {
        let new = self.grow(final_size, true, shared.credit)?;
        match self.state {
            // RFC 9000 section 3.2: once all data is there, a reset changes nothing.
            State::SizeKnown if self.is_complete() => Ok(false),
            State::Open | State::SizeKnown => {
                self.drop_unread(shared);
                self.state = State::Reset(code);
                Ok(true)
            }
            State::Stopped(_) => {
                shared.credit.release(new);
                self.state = State::Ended;
                Ok(false)
            }
            State::Reset(_) | State::Ended => Ok(false),
        }
    }

    /// The next bytes in order, `max` at most; `None` at the end of the stream.
    pub(super) fn read(&mut self, max: usize, slack: &mut Slack) -> Result<Option<Chunk>, ReadError> {
        match self.state {
            State::Open | State::SizeKnown => {}
            State::Reset(code) => {
                self.state = State::Ended;
                return Err(ReadError::Reset(code));
            }
            State::Stopped(_) | State::Ended => return Err(ReadError::Closed),
        }
        if let Some(chunk) = self.data.read(max, slack) {
            return Ok(Some(chunk));
        }
        if self.is_at_end() {
            self.state = State::Ended;
            return Ok(None);
        }
        Err(ReadError::Blocked)
    }

    /// The application reads no more. Returns whether the peer is to be told.
    pub(super) fn stop(&mut self, code: ApplicationCode, shared: Shared<'_>) -> bool {
        match self.state {
            State::Open => {
                self.drop_unread(shared);
                self.state = State::Stopped(code);
                true
            }
            // RFC 9000 section 3.5 would still have the peer told, to save what it may send again. It ends on its own.
            State::SizeKnown => {
                self.drop_unread(shared);
                self.state = State::Ended;
                false
            }
            State::Reset(_) => {
                self.state = State::Ended;
                false
            }
            State::Stopped(_) | State::Ended => false,
        }
    }

    /// The application is done with `bytes` that it has read. Returns whether a new limit is due.
    pub(super) fn release(&mut self, bytes: u64) -> bool {
        self.credit.release(bytes) && self.state == State::Open
    }

    /// The limit to send to the peer, if the peer can still use one (RFC 9000 section 3.2: only in "Recv").
    pub(super) fn limit_to_send(&mut self) -> Option<u64> {
        (self.state == State::Open).then(|| self.credit.advertise())
    }

    /// The code of the STOP_SENDING that is owed, if one still makes sense.
    pub(super) fn stop_to_send(&self) -> Option<ApplicationCode> {
        match self.state {
            State::Stopped(code) => Some(code),
            _ => None,
        }
    }

    /// Whether a read would give data, the end or a reset.
    pub(super) fn is_readable(&self) -> bool {
        match self.state {
            State::Open => self.data.is_readable(),
            State::SizeKnown => self.data.is_readable() || self.is_at_end(),
            State::Reset(_) => true,
            State::Stopped(_) | State::Ended => false,
        }
    }

    /// Whether nothing more happens on this part, and the application knows how it ended.
    pub(super) fn is_terminal(&self) -> bool {
        self.state == State::Ended
    }

    /// Counts bytes up to `end`, which is the final size if `fin`, at both levels. Returns how many of them are new.
    fn grow(&mut self, end: u64, fin: bool, connection: &mut ReceiveCredit) -> Result<u64, TransportError> {
        let received = self.credit.received();
        let known = !matches!(self.state, State::Open | State::Stopped(_));
        // RFC 9000 section 4.5: the final size never changes, and nothing lies beyond it.
        if known && (end > received || fin && end != received) {
            return Err(TransportErrorCode::FINAL_SIZE_ERROR.because("the final size of the stream is known already"));
        }
        if fin && end < received {
            return Err(TransportErrorCode::FINAL_SIZE_ERROR.because("the final size is below what was received"));
        }
        let new = end.saturating_sub(received);
        self.credit.receive(new)?;
        connection.receive(new)?;
        Ok(new)
    }

    /// Frees what arrived and was not read, for good.
    fn drop_unread(&mut self, shared: Shared<'_>) {
        // RFC 9000 section 4.5: gaps below the largest offset count as received.
        shared.credit.release(self.credit.received() - self.data.read_offset());
        self.data.discard(shared.slack);
    }

    fn is_complete(&self) -> bool {
        self.data.read_offset() + self.data.buffered() as u64 == self.credit.received()
    }

    fn is_at_end(&self) -> bool {
        self.state == State::SizeKnown && self.data.read_offset() == self.credit.received()
    }
}
