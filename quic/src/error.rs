//! The errors that end a connection: their codes on the wire, and whose fault they are. Errors of a single operation
//! (read, write, open) live with the operation.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

use crate::wire::VarInt;

/// A code of a CONNECTION_CLOSE frame of the transport (RFC 9000 section 20.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransportErrorCode(VarInt);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        impl TransportErrorCode {
            $($(#[$doc])* pub const $name: TransportErrorCode = TransportErrorCode(VarInt::from_u32($value));)*

            /// The code's name in RFC 9000 and RFC 9368, `None` for crypto alerts and unknown codes.
            fn name(self) -> Option<&'static str> {
                match self {
                    $(TransportErrorCode::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    /// The connection ends without an error.
    NO_ERROR = 0x00;
    /// The endpoint met an internal error and cannot go on.
    INTERNAL_ERROR = 0x01;
    /// The server refuses new connections.
    CONNECTION_REFUSED = 0x02;
    /// More data was received than the advertised limits permit.
    FLOW_CONTROL_ERROR = 0x03;
    /// A frame named a stream past the advertised limit.
    STREAM_LIMIT_ERROR = 0x04;
    /// A frame came for a stream in a state that does not permit it.
    STREAM_STATE_ERROR = 0x05;
    /// The final size of a stream changed or lies below what was received.
    FINAL_SIZE_ERROR = 0x06;
    /// A frame was badly formatted.
    FRAME_ENCODING_ERROR = 0x07;
    /// The transport parameters were badly formatted or not permitted.
    TRANSPORT_PARAMETER_ERROR = 0x08;
    /// The peer gave more connection ids than the advertised limit.
    CONNECTION_ID_LIMIT_ERROR = 0x09;
    /// A violation of the protocol that no other code covers.
    PROTOCOL_VIOLATION = 0x0a;
    /// A client's Initial packet carried an invalid token.
    INVALID_TOKEN = 0x0b;
    /// The application closed the connection; stands in for its code before the handshake is complete.
    APPLICATION_ERROR = 0x0c;
    /// More CRYPTO data was received than can be buffered.
    CRYPTO_BUFFER_EXCEEDED = 0x0d;
    /// A key update broke the rules of RFC 9001 section 6.
    KEY_UPDATE_ERROR = 0x0e;
    /// The keys were used for as many packets as their cipher permits.
    AEAD_LIMIT_REACHED = 0x0f;
    /// The network path cannot carry QUIC.
    NO_VIABLE_PATH = 0x10;
    /// The versions that both ends speak, and the one that they go by, do not fit (RFC 9368 section 4).
    VERSION_NEGOTIATION_ERROR = 0x11;
}

impl TransportErrorCode {
    /// The code of a TLS alert (RFC 9001 section 4.8).
    pub const fn crypto(alert: u8) -> TransportErrorCode {
        TransportErrorCode(VarInt::from_u32(0x100 + alert as u32))
    }

    /// The TLS alert that this code stands for.
    pub fn alert(self) -> Option<u8> {
        let alert = self.0.as_u64().checked_sub(0x100)?;
        u8::try_from(alert).ok()
    }

    /// The number on the wire.
    pub const fn as_u64(self) -> u64 {
        self.0.as_u64()
    }

    /// An error with this code.
    pub fn because(self, reason: impl Into<Cow<'static, str>>) -> TransportError {
        TransportError { code: self, frame: None, reason: reason.into() }
    }
}

impl From<VarInt> for TransportErrorCode {
    fn from(code: VarInt) -> TransportErrorCode {
        TransportErrorCode(code)
    }
}

impl From<TransportErrorCode> for VarInt {
    fn from(code: TransportErrorCode) -> VarInt {
        code.0
    }
}

impl fmt::Display for TransportErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name(), self.alert()) {
            (Some(name), _) => f.write_str(name),
            (None, Some(alert)) => write!(f, "CRYPTO_ERROR (alert {alert})"),
            (None, None) => write!(f, "transport error {:#x}", self.0.as_u64()),
        }
    }
}

impl fmt::Debug for TransportErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The peer broke the protocol, or this end cannot go on: the connection must close with this code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportError {
    /// The code that the peer is told.
    pub code: TransportErrorCode,
    /// The type of the frame that was at fault, if a single frame was.
    pub frame: Option<u64>,
    /// A sentence for people, in English.
    pub reason: Cow<'static, str>,
}

impl TransportError {
    /// The same error, blamed on a frame of that type unless one is blamed already.
    #[must_use]
    pub(crate) fn in_frame(mut self, frame_type: impl Into<u64>) -> TransportError {
        self.frame.get_or_insert(frame_type.into());
        self
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(frame) = self.frame {
            write!(f, " in frame {frame:#x}")?;
        }
        if self.reason.is_empty() { Ok(()) } else { write!(f, ": {}", self.reason) }
    }
}

impl std::error::Error for TransportError {}

/// A code whose meaning the application protocol defines: of a connection's close, a stream's reset or stop (RFC 9000
/// section 20.2). At most 2^62 - 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ApplicationCode(VarInt);

impl ApplicationCode {
    /// The code with this number.
    pub const fn from_u32(code: u32) -> ApplicationCode {
        ApplicationCode(VarInt::from_u32(code))
    }

    /// The number on the wire.
    pub const fn as_u64(self) -> u64 {
        self.0.as_u64()
    }
}

impl From<u32> for ApplicationCode {
    fn from(code: u32) -> ApplicationCode {
        ApplicationCode::from_u32(code)
    }
}

impl From<VarInt> for ApplicationCode {
    fn from(code: VarInt) -> ApplicationCode {
        ApplicationCode(code)
    }
}

impl From<ApplicationCode> for VarInt {
    fn from(code: ApplicationCode) -> VarInt {
        code.0
    }
}

impl fmt::Display for ApplicationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0.as_u64())
    }
}

impl fmt::Debug for ApplicationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApplicationCode({self})")
    }
}

/// What the peer said in a CONNECTION_CLOSE frame of the transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionClose {
    /// Why the peer closed.
    pub code: TransportErrorCode,
    /// The type of the frame that the peer blames, if it blames one.
    pub frame: Option<u64>,
    /// The peer's words; UTF-8 by the specification, not always by the peer.
    pub reason: Bytes,
}

impl fmt::Display for ConnectionClose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(frame) = self.frame {
            write!(f, " in frame {frame:#x}")?;
        }
        write_reason(f, &self.reason)
    }
}

/// What the peer's application said in a CONNECTION_CLOSE frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplicationClose {
    /// Why the application closed.
    pub code: ApplicationCode,
    /// The application's words; UTF-8 by the specification, not always by the peer.
    pub reason: Bytes,
}

impl fmt::Display for ApplicationClose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "code {}", self.code)?;
        write_reason(f, &self.reason)
    }
}

fn write_reason(f: &mut fmt::Formatter<'_>, reason: &[u8]) -> fmt::Result {
    if reason.is_empty() { Ok(()) } else { write!(f, ": {}", String::from_utf8_lossy(reason)) }
}

/// Why a connection is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionError {
    /// The server speaks no version of QUIC that this end offered.
    VersionMismatch,
    /// This end closed the connection, in nearly all cases because the peer broke the protocol.
    Transport(TransportError),
    /// The peer's transport closed the connection.
    ConnectionClosed(ConnectionClose),
    /// The peer's application closed the connection.
    ApplicationClosed(ApplicationClose),
    /// The peer has lost the connection's state and said so (RFC 9000 section 10.3).
    Reset,
    /// The peer was silent for longer than the idle timeout, or never answered.
    TimedOut,
    /// The application at this end closed the connection.
    LocallyClosed,
    /// The endpoint has no connection ids left to give out.
    CidsExhausted,
    /// The coroutine that waited was cancelled, because its runtime shuts down. Says nothing about the connection.
    Cancelled,
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectionError::VersionMismatch => f.write_str("the server speaks no version of QUIC that was offered"),
            ConnectionError::Transport(error) => error.fmt(f),
            ConnectionError::ConnectionClosed(close) => write!(f, "closed by the peer: {close}"),
            ConnectionError::ApplicationClosed(close) => {
                write!(f, "closed by the peer's application: {close}")
            }
            ConnectionError::Reset => f.write_str("reset by the peer"),
            ConnectionError::TimedOut => f.write_str("timed out"),
            ConnectionError::LocallyClosed => f.write_str("closed"),
            ConnectionError::CidsExhausted => f.write_str("no connection ids left"),
            ConnectionError::Cancelled => f.write_str("cancelled by the shutdown of the runtime"),
        }
    }
}

impl std::error::Error for ConnectionError {}

impl From<TransportError> for ConnectionError {
    fn from(error: TransportError) -> ConnectionError {
        ConnectionError::Transport(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9001 section 4.8: a TLS alert is 0x100 plus its description.
    #[test]
    fn crypto_codes_carry_the_alert() {
        let code = TransportErrorCode::crypto(0x78);
        assert_eq!(code.as_u64(), 0x178);
        assert_eq!(code.alert(), Some(0x78));
        assert_eq!(TransportErrorCode::NO_VIABLE_PATH.alert(), None);
        assert_eq!(TransportErrorCode::from(VarInt::from_u32(0x200)).alert(), None);
        assert_eq!(code.to_string(), "CRYPTO_ERROR (alert 120)");
    }

    #[test]
    fn the_first_frame_blamed_stays_blamed() {
        let error = TransportErrorCode::PROTOCOL_VIOLATION.because("why").in_frame(6u64).in_frame(8u64);
        assert_eq!(error.frame, Some(6));
        assert_eq!(error.to_string(), "PROTOCOL_VIOLATION in frame 0x6: why");
    }
}
