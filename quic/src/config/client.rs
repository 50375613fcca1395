//! How a connection to a server is made.

use std::sync::Arc;

use super::{TransportConfig, versions};
use crate::connection::{MemoryTokenStore, TokenStore};
use crate::wire::Version;

/// How a connection to a server is made.
#[derive(Clone)]
pub struct ClientConfig {
    pub(crate) transport: Arc<TransportConfig>,
    pub(crate) crypto: weald_crypto::ClientConfig,
    pub(crate) token_store: Option<Arc<dyn TokenStore>>,
    pub(crate) versions: Arc<[Version]>,
}

impl ClientConfig {
    /// A client with this TLS configuration and the default transport. It and its clones keep servers' tokens in one
    /// [`MemoryTokenStore`].
    pub fn new(crypto: weald_crypto::ClientConfig) -> Self {
        Self {
            transport: Arc::default(),
            crypto,
            token_store: Some(Arc::new(MemoryTokenStore::new())),
            versions: versions::checked([Version::V1, Version::V2]),
        }
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

    /// The versions of QUIC to speak, the preferred first. Default version 1, and version 2 with servers that speak nothing else:
    /// they differ in nothing that an application sees, and some networks let only version 1 pass.
    ///
    /// Connections begin in version 1 if it is among them, whatever is preferred, since every server is most likely to read that, unless
    /// there is a session to resume of another one. A
    /// server that speaks version 2 as well goes on in it, without a round trip more, if both prefer it (RFC 9368 2.3); one that does
    /// not speak the version at all says so, and the connection begins anew with another one of these (RFC 9368 2.1).
    ///
    /// # Panics
    /// If there is none, or one that is not in [`Version::SUPPORTED`].
    #[must_use]
    pub fn versions(mut self, versions: impl IntoIterator<Item = Version>) -> Self {
        self.versions = versions::checked(versions);
        self
    }
}
