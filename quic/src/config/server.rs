//! How connections from clients are accepted.

use std::sync::Arc;

use super::{RetryPolicy, ServerLimits, TransportConfig, versions};
use crate::wire::Version;

/// How connections from clients are accepted.
#[derive(Clone)]
pub struct ServerConfig {
    pub(crate) transport: Arc<TransportConfig>,
    pub(crate) crypto: weald_crypto::ServerConfig,
    pub(crate) limits: ServerLimits,
    pub(crate) retry: RetryPolicy,
    pub(crate) versions: Arc<[Version]>,
    pub(crate) application_settings: Arc<[u8]>,
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
            versions: versions::checked([Version::V2, Version::V1]),
            application_settings: Arc::default(),
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

    /// The versions of QUIC to speak, the preferred first. Default 2, then 1: it is the client who decides then, since a connection
    /// goes on in another version than the client began it in only if both prefer that one (RFC 9368 2.3). Clients that begin in
    /// a version which is not among these are told so (RFC 9368 2.1).
    ///
    /// All servers behind one address must speak the same (RFC 9368 5).
    ///
    /// # Panics
    /// If there is none, or one that is not in [`Version::SUPPORTED`].
    #[must_use]
    pub fn versions(mut self, versions: impl IntoIterator<Item = Version>) -> Self {
        self.versions = versions::checked(versions);
        self
    }

    /// What clients that send early data rely on of the application protocol, besides its name, such as the SETTINGS of HTTP/3
    /// (RFC 9114 7.2.4.2): a session that began under other bytes resumes, and its early data is rejected. Default none.
    #[must_use]
    pub fn application_settings(mut self, settings: impl AsRef<[u8]>) -> Self {
        self.application_settings = settings.as_ref().into();
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
