//! How a connection to a server is made.

use std::sync::Arc;

use super::TransportConfig;

/// How a connection to a server is made.
#[derive(Clone)]
pub struct ClientConfig {
    pub(crate) transport: Arc<TransportConfig>,
    pub(crate) crypto: weald_crypto::ClientConfig,
}

impl ClientConfig {
    /// A client with this TLS configuration and the default transport.
    pub fn new(crypto: weald_crypto::ClientConfig) -> Self {
        Self { transport: Arc::default(), crypto }
    }

    /// The same with another transport.
    #[must_use]
    pub fn transport(mut self, transport: TransportConfig) -> Self {
        self.transport = Arc::new(transport);
        self
    }
}
