//! How connections from clients are accepted.

use std::sync::Arc;

use super::TransportConfig;

/// How connections from clients are accepted.
#[derive(Clone)]
pub struct ServerConfig {
    pub(crate) transport: Arc<TransportConfig>,
    pub(crate) crypto: weald_crypto::ServerConfig,
    pub(crate) max_pending_handshakes: usize,
}

impl ServerConfig {
    /// A server with this TLS configuration and the default transport.
    pub fn new(crypto: weald_crypto::ServerConfig) -> Self {
        Self { transport: Arc::default(), crypto, max_pending_handshakes: 4096 }
    }

    /// The same with another transport.
    #[must_use]
    pub fn transport(mut self, transport: TransportConfig) -> Self {
        self.transport = Arc::new(transport);
        self
    }

    /// How many handshakes one worker's endpoint holds at once; further clients are ignored and try again. Default 4096,
    /// about 100 MB.
    #[must_use]
    pub fn max_pending_handshakes(mut self, count: usize) -> Self {
        self.max_pending_handshakes = count;
        self
    }
}
