//! How a connection to a server is made.

use std::sync::Arc;

use super::TransportConfig;
use crate::connection::{MemoryTokenStore, TokenStore};

/// How a connection to a server is made.
#[derive(Clone)]
pub struct ClientConfig {
    pub(crate) transport: Arc<TransportConfig>,
    pub(crate) crypto: weald_crypto::ClientConfig,
    pub(crate) token_store: Option<Arc<dyn TokenStore>>,
}

impl ClientConfig {
    /// A client with this TLS configuration and the default transport. It and its clones keep servers' tokens in one
    /// [`MemoryTokenStore`].
    pub fn new(crypto: weald_crypto::ClientConfig) -> Self {
        Self { transport: Arc::default(), crypto, token_store: Some(Arc::new(MemoryTokenStore::new())) }
    }

    /// The same with another transport.
    #[must_use]
    pub fn transport(mut self, transport: TransportConfig) -> Self {
        self.transport = Arc::new(transport);
        self
    }

    /// Keeps servers' tokens for later connections (RFC 9000 8.1.3) in another store, or nowhere: without them a server under
    /// load answers with a Retry, which costs a round trip, and with them it can tell that it is the same client.
    #[must_use]
    pub fn token_store(mut self, store: Option<Arc<dyn TokenStore>>) -> Self {
        self.token_store = store;
        self
    }
}
