//! What an endpoint is, apart from what its connections do: what it shares with others, and with itself after a restart.

use std::fmt;

#[cfg(feature = "driver")]
use weald_crypto::CryptoPool;

#[cfg(feature = "driver")]
use crate::governor::Governor;

/// What an endpoint is. The default stands for itself: its secrets are made when it comes up, and go with it.
///
/// ```
/// use weald_quic::EndpointConfig;
///
/// # let secret_of_the_deployment = [7; 32];
/// // Of three servers behind one address, this is the second.
/// let config = EndpointConfig::new().secret(secret_of_the_deployment).server_id(2);
/// # let _ = config;
/// ```
#[derive(Clone, Default)]
pub struct EndpointConfig {
    pub(crate) secret: Option<[u8; 32]>,
    pub(crate) server_id: u16,
    pub(crate) token_secret: Option<[u8; 32]>,
    #[cfg(feature = "driver")]
    pub(crate) governor: Option<Governor>,
    #[cfg(feature = "driver")]
    pub(crate) crypto_pool: Option<CryptoPool>,
}

impl EndpointConfig {
    /// The default.
    pub fn new() -> EndpointConfig {
        EndpointConfig::default()
    }

    /// From which all keys of the endpoint follow that are not TLS's: 32 bytes of a good random generator, kept as a private
    /// key is. An endpoint that is restarted with the same secret resets the connections that it lost (RFC 9000 10.3), so that
    /// their peers need not wait for a timeout, and knows the addresses of clients that it gave tokens (RFC 9000 8.1.3).
    /// Default: made anew each time.
    #[must_use]
    pub fn secret(mut self, secret: [u8; 32]) -> EndpointConfig {
        self.secret = Some(secret);
        self
    }

    /// Tells apart those that run at the same time with the same secret: otherwise one would reset the connections of another
    /// whose packets it is sent (RFC 9000 21.11). Default 0.
    #[must_use]
    pub fn server_id(mut self, id: u16) -> EndpointConfig {
        self.server_id = id;
        self
    }

    /// A secret for tokens alone, for servers behind one address that share nothing else. Default: follows from the
    /// [`secret`](EndpointConfig::secret).
    #[must_use]
    pub fn token_secret(mut self, secret: [u8; 32]) -> EndpointConfig {
        self.token_secret = Some(secret);
        self
    }

    /// The budget of memory that its connections share. Default: one for all endpoints of the process that are given none, of a
    /// quarter of the memory that the process may use.
    #[cfg(feature = "driver")]
    #[must_use]
    pub fn governor(mut self, governor: Governor) -> EndpointConfig {
        self.governor = Some(governor);
        self
    }

    /// The threads that run the steps of its handshakes: each takes a fraction of a millisecond, for which packets of established
    /// connections would wait. When a quarter of its queue waits, clients have to show that they own their address, unless the
    /// policy is [`RetryPolicy::Never`](crate::RetryPolicy::Never); when it is full, they are refused.
    ///
    /// Default: one for all endpoints of the process that are given none, of a thread for each processor. One of no threads
    /// ([`CryptoPool::new(0)`](CryptoPool::new)) has all steps run on the workers. A simulation runs them there, whatever is given.
    ///
    /// ```
    /// use weald_crypto::CryptoPool;
    /// use weald_quic::EndpointConfig;
    ///
    /// // Handshakes take no more than one processor.
    /// let config = EndpointConfig::new().crypto_pool(CryptoPool::new(1));
    /// # let _ = config;
    /// ```
    #[cfg(feature = "driver")]
    #[must_use]
    pub fn crypto_pool(mut self, pool: CryptoPool) -> EndpointConfig {
        self.crypto_pool = Some(pool);
        self
    }
}

impl fmt::Debug for EndpointConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointConfig").field("server_id", &self.server_id).finish_non_exhaustive()
    }
}
