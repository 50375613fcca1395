//! What can be set before a connection exists. Every value reaches the wire or an algorithm.
//!
//! A client and a server each have their configuration (`client`, `server`), which both hold one of the transport
//! (`transport`), chosen for a kind of network (`presets`) or value by value. Peers are held to limits on each connection
//! (`connection_limits`), and strangers to those of a server (`limits`). What an
//! endpoint is, whatever it does, is in `endpoint`.

mod client;
mod connection_limits;
mod endpoint;
mod limits;
mod presets;
mod server;
mod transport;
mod versions;

pub use self::client::ClientConfig;
pub use self::connection_limits::ConnectionLimits;
pub use self::endpoint::EndpointConfig;
pub use self::limits::{RetryPolicy, ServerLimits};
pub use self::server::ServerConfig;
pub use self::transport::{SendWindow, TransportConfig};

/// The smallest datagram that every QUIC path carries (RFC 9000 14).
pub(crate) const MIN_UDP_PAYLOAD: u16 = 1200;
