//! Why a single call failed: one small type an operation. What ended a whole connection is a [`ConnectionError`].

use std::fmt;
use std::io;
use std::net::SocketAddr;

use weald_crypto::ConfigError;

use crate::connection;
use crate::endpoint;
use crate::error::ConnectionError;
use crate::wire::VarInt;

const CANCELLED: &str = "cancelled by the shutdown of the runtime";

/// Why a write failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The peer reads no more, for a reason of its application's.
    Stopped(VarInt),
    /// The connection is over.
    ConnectionLost(ConnectionError),
    /// The stream was finished or reset before.
    ClosedStream,
    /// The calling coroutine was cancelled.
    Cancelled,
}

/// Why a read failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The peer has abandoned the stream, for a reason of its application's.
    Reset(VarInt),
    /// The connection is over.
    ConnectionLost(ConnectionError),
    /// The stream was stopped, or its reset was reported before.
    ClosedStream,
    /// The calling coroutine was cancelled.
    Cancelled,
}

/// Why [`RecvStream::read_exact`](crate::RecvStream::read_exact) failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadExactError {
    /// The stream ended after so many bytes.
    FinishedEarly(usize),
    /// A read failed.
    Read(ReadError),
}

/// Why [`RecvStream::read_to_end`](crate::RecvStream::read_to_end) failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadToEndError {
    /// The stream is longer than the limit.
    TooLong,
    /// A read failed.
    Read(ReadError),
}

/// The stream was finished, reset or stopped before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedStream;

/// Why nobody can say what became of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoppedError {
    /// The connection is over.
    ConnectionLost(ConnectionError),
    /// The calling coroutine was cancelled.
    Cancelled,
}

/// Why a datagram was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendDatagramError {
    /// The send buffer is full; only a call that does not wait says so.
    Full,
    /// It is longer than what the peer takes, or what a packet on this path can hold.
    TooLarge {
        /// The longest that would be taken now.
        max: usize,
    },
    /// The peer takes no datagrams.
    Unsupported,
    /// The connection is over.
    ConnectionLost(ConnectionError),
    /// The calling coroutine was cancelled.
    Cancelled,
}

/// Why there is no connection to a server.
#[derive(Debug)]
pub enum ConnectError {
    /// The endpoint is closed, or its runtime shuts down.
    EndpointStopping,
    /// The name is neither a DNS name nor an IP address.
    InvalidServerName(String),
    /// The address is none to connect to.
    InvalidRemoteAddress(SocketAddr),
    /// No configuration was given, and the endpoint has no default.
    NoDefaultClientConfig,
    /// The TLS configuration is unusable.
    Config(ConfigError),
    /// The endpoint holds as many connections as it can.
    TooManyConnections,
    /// The handshake failed.
    Connection(ConnectionError),
    /// The calling coroutine was cancelled.
    Cancelled,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped(code) => write!(f, "the peer stopped the stream with code {:#x}", code.into_inner()),
            Self::ConnectionLost(error) => write!(f, "connection lost: {error}"),
            Self::ClosedStream => ClosedStream.fmt(f),
            Self::Cancelled => f.write_str(CANCELLED),
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset(code) => write!(f, "the peer reset the stream with code {:#x}", code.into_inner()),
            Self::ConnectionLost(error) => write!(f, "connection lost: {error}"),
            Self::ClosedStream => ClosedStream.fmt(f),
            Self::Cancelled => f.write_str(CANCELLED),
        }
    }
}

impl fmt::Display for ReadExactError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FinishedEarly(bytes) => write!(f, "the stream ended after {bytes} bytes"),
            Self::Read(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for ReadToEndError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("the stream is longer than allowed"),
            Self::Read(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for ClosedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the stream is closed")
    }
}

impl fmt::Display for StoppedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectionLost(error) => write!(f, "connection lost: {error}"),
            Self::Cancelled => f.write_str(CANCELLED),
        }
    }
}

impl fmt::Display for SendDatagramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => connection::SendDatagramError::Blocked.fmt(f),
            Self::TooLarge { max } => connection::SendDatagramError::TooLarge { max: *max }.fmt(f),
            Self::Unsupported => connection::SendDatagramError::Unsupported.fmt(f),
            Self::ConnectionLost(error) => write!(f, "connection lost: {error}"),
            Self::Cancelled => f.write_str(CANCELLED),
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndpointStopping => f.write_str("the endpoint is closed"),
            Self::InvalidServerName(name) => write!(f, "{name:?} is neither a DNS name nor an IP address"),
            Self::InvalidRemoteAddress(address) => write!(f, "cannot connect to {address}"),
            Self::NoDefaultClientConfig => f.write_str("no client configuration was given"),
            Self::Config(error) => error.fmt(f),
            Self::TooManyConnections => f.write_str("the endpoint holds as many connections as it can"),
            Self::Connection(error) => error.fmt(f),
            Self::Cancelled => f.write_str(CANCELLED),
        }
    }
}

impl std::error::Error for WriteError {}
impl std::error::Error for ReadError {}
impl std::error::Error for ReadExactError {}
impl std::error::Error for ReadToEndError {}
impl std::error::Error for ClosedStream {}
impl std::error::Error for StoppedError {}
impl std::error::Error for SendDatagramError {}
impl std::error::Error for ConnectError {}

impl From<ReadError> for ReadExactError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<ReadError> for ReadToEndError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<ConnectionError> for ConnectError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::Cancelled => Self::Cancelled,
            error => Self::Connection(error),
        }
    }
}

impl From<endpoint::ConnectError> for ConnectError {
    fn from(error: endpoint::ConnectError) -> Self {
        match error {
            endpoint::ConnectError::Config(ConfigError::ServerName { name }) => Self::InvalidServerName(name),
            endpoint::ConnectError::Config(error) => Self::Config(error),
            endpoint::ConnectError::Remote(address) => Self::InvalidRemoteAddress(address),
            endpoint::ConnectError::Full => Self::TooManyConnections,
        }
    }
}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> Self {
        let kind = match &error {
            WriteError::Stopped(_) => io::ErrorKind::ConnectionReset,
            WriteError::ConnectionLost(error) => lost(error),
            WriteError::ClosedStream => io::ErrorKind::NotConnected,
            WriteError::Cancelled => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        let kind = match &error {
            ReadError::Reset(_) => io::ErrorKind::ConnectionReset,
            ReadError::ConnectionLost(error) => lost(error),
            ReadError::ClosedStream => io::ErrorKind::NotConnected,
            ReadError::Cancelled => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl From<ReadExactError> for io::Error {
    fn from(error: ReadExactError) -> Self {
        match error {
            ReadExactError::FinishedEarly(_) => Self::new(io::ErrorKind::UnexpectedEof, error),
            ReadExactError::Read(error) => error.into(),
        }
    }
}

impl From<ReadToEndError> for io::Error {
    fn from(error: ReadToEndError) -> Self {
        match error {
            ReadToEndError::TooLong => Self::new(io::ErrorKind::InvalidData, error),
            ReadToEndError::Read(error) => error.into(),
        }
    }
}

impl From<ClosedStream> for io::Error {
    fn from(error: ClosedStream) -> Self {
        Self::new(io::ErrorKind::NotConnected, error)
    }
}

impl From<StoppedError> for io::Error {
    fn from(error: StoppedError) -> Self {
        let kind = match &error {
            StoppedError::ConnectionLost(error) => lost(error),
            StoppedError::Cancelled => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl From<SendDatagramError> for io::Error {
    fn from(error: SendDatagramError) -> Self {
        let kind = match &error {
            SendDatagramError::Full => io::ErrorKind::WouldBlock,
            SendDatagramError::TooLarge { .. } => io::ErrorKind::InvalidInput,
            SendDatagramError::Unsupported => io::ErrorKind::Unsupported,
            SendDatagramError::ConnectionLost(error) => lost(error),
            SendDatagramError::Cancelled => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> Self {
        let kind = match &error {
            ConnectError::InvalidServerName(_)
            | ConnectError::InvalidRemoteAddress(_)
            | ConnectError::NoDefaultClientConfig
            | ConnectError::Config(_) => io::ErrorKind::InvalidInput,
            ConnectError::Connection(error) => lost(error),
            ConnectError::EndpointStopping | ConnectError::TooManyConnections | ConnectError::Cancelled => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl From<ConnectionError> for io::Error {
    fn from(error: ConnectionError) -> Self {
        Self::new(lost(&error), error)
    }
}

fn lost(error: &ConnectionError) -> io::ErrorKind {
    match error {
        ConnectionError::TimedOut => io::ErrorKind::TimedOut,
        ConnectionError::Reset => io::ErrorKind::ConnectionReset,
        ConnectionError::ApplicationClosed(_) | ConnectionError::ConnectionClosed(_) => io::ErrorKind::ConnectionAborted,
        ConnectionError::LocallyClosed => io::ErrorKind::NotConnected,
        ConnectionError::VersionMismatch | ConnectionError::Transport(_) | ConnectionError::CidsExhausted | ConnectionError::Cancelled => {
            io::ErrorKind::Other
        }
    }
}
