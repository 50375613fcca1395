//! What can go wrong in HTTP/3, and the codes that say so on the wire.
//!
//! Owns the error codes of RFC 9114 section 8.1 and RFC 9204 section 6, and the public [`Error`]. Whose fault an error is shows in its
//! kind: the peer's ([`Error::Peer`], [`Error::Reset`]), the caller's ([`Error::Invalid`]), or the connection's below.

use std::{fmt, io};

use weald_quic::{ConnectionError, VarInt};

/// An HTTP/3 or QPACK error code (RFC 9114 section 8.1, RFC 9204 section 6).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(VarInt);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        impl Code {
            $($(#[$doc])* pub const $name: Self = Self(VarInt::from_u32($value));)*

            fn name(self) -> Option<&'static str> {
                $(if self == Self::$name { return Some(concat!("H3_", stringify!($name))); })*
                None
            }
        }
    };
}

codes! {
    /// Nothing went wrong.
    NO_ERROR = 0x100;
    /// The peer broke a rule that has no code of its own.
    GENERAL_PROTOCOL_ERROR = 0x101;
    /// This side failed.
    INTERNAL_ERROR = 0x102;
    /// The peer opened a stream that is not accepted.
    STREAM_CREATION_ERROR = 0x103;
    /// A control or QPACK stream ended.
    CLOSED_CRITICAL_STREAM = 0x104;
    /// A frame that is not allowed where it came.
    FRAME_UNEXPECTED = 0x105;
    /// A frame whose layout or size is wrong.
    FRAME_ERROR = 0x106;
    /// The peer causes more load than is sensible.
    EXCESSIVE_LOAD = 0x107;
    /// A stream or push ID was used wrongly.
    ID_ERROR = 0x108;
    /// A SETTINGS frame with a wrong payload.
    SETTINGS_ERROR = 0x109;
    /// A control stream that does not begin with SETTINGS.
    MISSING_SETTINGS = 0x10a;
    /// The server did not process the request at all.
    REQUEST_REJECTED = 0x10b;
    /// The request or its response is not wanted any more.
    REQUEST_CANCELLED = 0x10c;
    /// The stream ended before the request was complete.
    REQUEST_INCOMPLETE = 0x10d;
    /// A malformed message.
    MESSAGE_ERROR = 0x10e;
    /// The connection made by CONNECT broke.
    CONNECT_ERROR = 0x10f;
    /// The request needs HTTP/1.1.
    VERSION_FALLBACK = 0x110;
    /// A field section that cannot be decoded (QPACK).
    QPACK_DECOMPRESSION_FAILED = 0x200;
    /// A wrong instruction on the encoder stream (QPACK).
    QPACK_ENCODER_STREAM_ERROR = 0x201;
    /// A wrong instruction on the decoder stream (QPACK).
    QPACK_DECODER_STREAM_ERROR = 0x202;
}

impl Code {
    /// The code as QUIC carries it.
    pub fn to_varint(self) -> VarInt {
        self.0
    }
}

impl From<VarInt> for Code {
    fn from(code: VarInt) -> Self {
        Self(code)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name.strip_prefix("H3_QPACK").map_or(name, |_| &name[3..])),
            None => write!(f, "{:#x}", self.0.as_u64()),
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the peer did wrong. A *stream* error ends one request (RFC 9114 section 4.1.2); anything else closes the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) code: Code,
    pub(crate) what: &'static str,
    pub(crate) scope: Scope,
}

/// How much a violation takes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Stream,
    Connection,
}

impl Violation {
    pub(crate) const fn connection(code: Code, what: &'static str) -> Self {
        Self { code, what, scope: Scope::Connection }
    }

    pub(crate) const fn stream(code: Code, what: &'static str) -> Self {
        Self { code, what, scope: Scope::Stream }
    }

    /// A malformed message (RFC 9114 section 4.1.2).
    pub(crate) const fn message(what: &'static str) -> Self {
        Self::stream(Code::MESSAGE_ERROR, what)
    }
}

/// Why a request or a connection failed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Error {
    /// The peer broke HTTP/3; this side answered with `code`.
    Peer {
        /// The code sent to the peer.
        code: Code,
        /// What the peer did.
        what: &'static str,
    },
    /// The peer gave the request up with this code.
    Reset(Code),
    /// The connection is closing and takes no more requests; this request was not processed and may be tried again.
    GoingAway,
    /// The caller's message cannot be sent: the reason.
    Invalid(&'static str),
    /// The peer's body is longer than the caller allowed, in bytes.
    BodyTooLong(usize),
    /// The coroutine or the runtime was cancelled.
    Cancelled,
    /// The QUIC connection ended.
    Connection(ConnectionError),
}

impl Error {
    pub(crate) fn peer(violation: Violation) -> Self {
        Self::Peer { code: violation.code, what: violation.what }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer { code, what } => write!(f, "the peer sent {what} ({code})"),
            Self::Reset(code) => write!(f, "the peer gave up the request ({code})"),
            Self::GoingAway => f.write_str("the connection takes no more requests; make a new one"),
            Self::BodyTooLong(limit) => write!(f, "the body is longer than {limit} bytes"),
            Self::Invalid(what) => write!(f, "the message cannot be sent: {what}"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Connection(error) => write!(f, "connection lost: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connection(error) => Some(error),
            _ => None,
        }
    }
}

impl From<ConnectionError> for Error {
    fn from(error: ConnectionError) -> Self {
        // An application close with an HTTP/3 code keeps its meaning in ConnectionError's own text.
        Self::Connection(error)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Peer { .. } | Error::BodyTooLong(_) => io::ErrorKind::InvalidData,
            Error::Reset(_) | Error::GoingAway => io::ErrorKind::ConnectionReset,
            Error::Invalid(_) => io::ErrorKind::InvalidInput,
            Error::Cancelled | Error::Connection(_) => io::ErrorKind::ConnectionAborted,
        };
        io::Error::new(kind, error)
    }
}
