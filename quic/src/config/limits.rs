//! How much of a server strangers may take.
//!
//! Owns the values and why they are the defaults. What happens at each limit is the endpoint's: `crate::endpoint`.

use std::time::Duration;

/// When a client has to show that it owns its address before anything is kept for it (RFC 9000 8.1.2). It costs the client a
/// round trip, and the server nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetryPolicy {
    /// Never. A flood of first packets is then refused as soon as [`ServerLimits::max_pending_handshakes`] are pending, and
    /// honest clients with it.
    Never,
    /// When [`ServerLimits::retry_from`] handshakes are pending.
    #[default]
    UnderLoad,
    /// Always, but for clients that bring a token from an earlier connection.
    Always,
}

/// The limits of a server. All are on by default.
///
/// The time that a handshake may take (10 s) and that a connection may be idle (30 s) are set in
/// [`TransportConfig`](crate::TransportConfig).
///
/// ```
/// use std::time::Duration;
/// use weald_quic::ServerLimits;
///
/// let limits = ServerLimits::default().max_connections(Some(10_000)).retry_token_lifetime(Duration::from_secs(5));
/// # let _ = limits;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    pub(crate) max_connections: Option<usize>,
    pub(crate) max_pending_handshakes: usize,
    pub(crate) retry_from: Option<usize>,
    pub(crate) retry_token_lifetime: Duration,
    pub(crate) token_lifetime: Duration,
    #[cfg(feature = "driver")]
    pub(crate) backlog: usize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_connections: None,
            max_pending_handshakes: 4096,
            retry_from: None,
            retry_token_lifetime: Duration::from_secs(15),
            token_lifetime: Self::LONGEST_TOKEN,
            #[cfg(feature = "driver")]
            backlog: 1024,
        }
    }
}

impl ServerLimits {
    /// No token is good for longer: its key is gone then.
    const LONGEST_TOKEN: Duration = Duration::from_secs(24 * 60 * 60);

    /// What is taken for a handshake's memory: TLS, its buffers, and the connection.
    #[cfg(feature = "driver")]
    const HANDSHAKE_BYTES: usize = 25_000;

    /// How many connections the endpoint holds, on all workers together; further clients are refused. Default `None`: as
    /// many as memory allows.
    #[must_use]
    pub fn max_connections(mut self, count: Option<usize>) -> Self {
        self.max_connections = count;
        self
    }

    /// How many handshakes one worker holds at once; further clients are refused, or have to show that they own their
    /// address. Default 4096, about 100 MB.
    #[must_use]
    pub fn max_pending_handshakes(mut self, count: usize) -> Self {
        self.max_pending_handshakes = count;
        self
    }

    /// With how many pending handshakes a worker is under load: [`RetryPolicy::UnderLoad`]. Default `None`: as many as take a
    /// thousandth of the host's memory on all workers together (640 on a worker alone with 16 GB), or 640 where the host's
    /// memory is unknown.
    #[must_use]
    pub fn retry_from(mut self, count: Option<usize>) -> Self {
        self.retry_from = count;
        self
    }

    /// For how long the token of a Retry is good. Default 15 s, enough for a client that lost some packets; at most a day. In
    /// whole seconds.
    #[must_use]
    pub fn retry_token_lifetime(mut self, lifetime: Duration) -> Self {
        self.retry_token_lifetime = lifetime.min(Self::LONGEST_TOKEN);
        self
    }

    /// For how long a token is good that a client was given for its next connection (RFC 9000 8.1.3). Default a day, which is
    /// the most. In whole seconds; zero: clients are given none.
    #[must_use]
    pub fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.token_lifetime = lifetime.min(Self::LONGEST_TOKEN);
        self
    }

    /// How many connections wait for [`Endpoint::accept`](crate::Endpoint::accept), or on each worker how many clients for
    /// [`Endpoint::accept_incoming`](crate::Endpoint::accept_incoming); further clients are refused. Default 1024.
    #[cfg(feature = "driver")]
    #[must_use]
    pub fn backlog(mut self, count: usize) -> Self {
        self.backlog = count;
        self
    }

    /// The same on a host with `memory` bytes, for an endpoint of `workers` workers.
    #[cfg(feature = "driver")]
    pub(crate) fn on_host(mut self, memory: Option<usize>, workers: usize) -> Self {
        let share = |memory: usize| memory / 1000 / Self::HANDSHAKE_BYTES / workers.max(1);
        // A host so small that a few handshakes are a load is better served by the round trip.
        self.retry_from = self.retry_from.or(memory.map(|memory| share(memory).max(16)));
        self
    }

    /// The number of handshakes that [`ServerLimits::retry_from`] stands for.
    pub(crate) fn load_threshold(&self) -> usize {
        self.retry_from.unwrap_or(640)
    }
}

#[cfg(all(test, feature = "driver"))]
mod tests {
    use super::*;

    #[test]
    fn a_thousandth_of_the_memory_is_a_load() {
        let threshold = |memory, workers| ServerLimits::default().on_host(memory, workers).load_threshold();
        assert_eq!(threshold(Some(16_000_000_000), 1), 640);
        assert_eq!(threshold(Some(16_000_000_000), 4), 160);
        assert_eq!(threshold(Some(1 << 20), 4), 16);
        assert_eq!(threshold(None, 4), 640);
        let set = ServerLimits::default().retry_from(Some(7));
        assert_eq!(set.on_host(Some(16_000_000_000), 1).load_threshold(), 7);
    }
}
