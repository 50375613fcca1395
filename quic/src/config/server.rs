//! How connections from clients are accepted.

use std::sync::Arc;

use super::{RetryPolicy, ServerLimits, TransportConfig};

/// How connections from clients are accepted.
#[derive(Clone)]
pub struct ServerConfig {
    pub(crate) transport: Arc<TransportConfig>,
    pub(crate) crypto: weald_crypto::ServerConfig,
    pub(crate) limits: ServerLimits,
    pub(crate) retry: RetryPolicy,
    #[cfg(feature = "driver")]
    pub(crate) screening: bool,
}

impl ServerConfig {
    /// A server with this TLS configuration and the default transport.
    pub fn new(crypto: weald_crypto::ServerConfig) -> Self {
        Self {
            transport: Arc::default(),
            crypto,
            limits: ServerLimits::default(),
            retry: RetryPolicy::default(),
            #[cfg(feature = "driver")]
            screening: false,
        }
    }

    /// The same with another transport.
    #[must_use]
    pub fn transport(mut self, transport: TransportConfig) -> Self {
        self.transport = Arc::new(transport);
        self
    }

    /// The same with other limits.
    #[must_use]
    pub fn limits(mut self, limits: ServerLimits) -> Self {
        self.limits = limits;
        self
    }

    /// When clients have to show that they own their address. Default [`RetryPolicy::UnderLoad`].
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Whether each client waits for the application's word, before a handshake is begun with it:
    /// [`Endpoint::accept_incoming`](crate::Endpoint::accept_incoming). Limits and the policy of Retry come first. Default no:
    /// all clients are let in, and come out of [`Endpoint::accept`](crate::Endpoint::accept) when their handshake is complete.
    #[cfg(feature = "driver")]
    #[must_use]
    pub fn screening(mut self, screening: bool) -> Self {
        self.screening = screening;
        self
    }
}
