//! What the parts of one request share: its connection, and the code that says what went wrong with it.
//!
//! The halves of a request end apart: the peer's message may be malformed while this side's is half written. This is where the second
//! half finds the reason of the first.

use std::sync::{Arc, OnceLock};

use weald_quic::{ReadError, Side, WriteError};

use crate::{
    connection::Shared,
    error::{Code, Error},
    reader::Failed,
};

/// One request with its response.
pub(crate) struct Exchange {
    pub(crate) connection: Arc<Shared>,
    /// The peer's first violation in this exchange.
    fault: OnceLock<Code>,
}

impl Exchange {
    pub(crate) fn new(connection: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { connection, fault: OnceLock::new() })
    }

    /// Does what `failed` calls for beyond its own stream, which is the caller's, and says it as an error of the API.
    pub(crate) fn on_read_failed(&self, failed: Failed) -> Error {
        match failed {
            Failed::Violation(violation) => {
                let _ = self.fault.set(violation.code);
                self.connection.on_violation(violation);
                Error::peer(violation)
            }
            Failed::Stream(ReadError::Reset(code)) => Error::Reset(code.into()),
            Failed::Stream(ReadError::ConnectionLost(error)) => self.connection.lost(error),
            Failed::Stream(ReadError::ClosedStream) => Error::Invalid("the stream was stopped by this side"),
            Failed::Stream(ReadError::Cancelled) => Error::Cancelled,
        }
    }

    pub(crate) fn on_write_failed(&self, error: WriteError) -> Error {
        match error {
            WriteError::Stopped(code) => Error::Reset(code.into()),
            WriteError::ConnectionLost(error) => self.connection.lost(error),
            WriteError::ClosedStream => Error::Invalid("the stream is closed already"),
            WriteError::Cancelled => Error::Cancelled,
        }
    }

    /// What the peer is told of a message of this side that stays unfinished: what it did wrong itself (RFC 9114 section 4.1.2), or that
    /// this side failed or gave up.
    pub(crate) fn unfinished_code(&self) -> Code {
        self.fault.get().copied().unwrap_or(match self.connection.quic.side() {
            Side::Server => Code::INTERNAL_ERROR,
            Side::Client => Code::REQUEST_CANCELLED,
        })
    }
}
