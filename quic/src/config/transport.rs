//! How the transport of one connection behaves.
//!
//! Owns the defaults of flow control, timers and recovery, and their reasons. Does not own what the values do.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::{ConnectionLimits, MIN_UDP_PAYLOAD};
use crate::recovery::congestion::{Algorithm, ControllerFactory, INITIAL_WINDOW_PACKETS};
use crate::trace::TraceFactory;

/// How the transport of one connection behaves.
///
/// The default suits the open internet: 1.25 MB windows a stream, enough for 100 Mbit/s at 100 ms. [`TransportConfig::wan`] carries
/// that over 300 ms, [`TransportConfig::lan`] is for a data centre.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    pub(crate) max_idle_timeout: Option<Duration>,
    pub(crate) handshake_timeout: Duration,
    pub(crate) keep_alive: Option<Duration>,
    pub(crate) max_streams_bi: u32,
    pub(crate) max_streams_uni: u32,
    pub(crate) stream_window: u32,
    pub(crate) connection_window: u32,
    pub(crate) send_window: SendWindow,
    pub(crate) send_buffer: u32,
    pub(crate) datagrams: bool,
    pub(crate) datagram_receive_buffer: u32,
    pub(crate) datagram_send_buffer: u32,
    pub(crate) initial_rtt: Duration,
    pub(crate) max_ack_delay: Duration,
    pub(crate) udp_payload_v4: u16,
    pub(crate) udp_payload_v6: u16,
    pub(crate) initial_window: u32,
    pub(crate) congestion: Arc<dyn ControllerFactory>,
    pub(crate) key_update_interval: Option<u64>,
    pub(crate) spin_bit: bool,
    pub(crate) trace: Option<Arc<dyn TraceFactory>>,
    pub(crate) limits: ConnectionLimits,
}

/// How many bytes a stream holds that were written and not acknowledged, before its writer blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendWindow {
    /// So many bytes; 0 counts as 1.
    Fixed(u32),
    /// Twice the congestion window, at least 64 KiB: what the network takes, and as much again while it is on its way.
    Auto {
        /// No more than so many bytes.
        max: u32,
    },
}

impl From<u32> for SendWindow {
    fn from(bytes: u32) -> Self {
        Self::Fixed(bytes)
    }
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            max_idle_timeout: Some(Duration::from_secs(30)),
            handshake_timeout: Duration::from_secs(10),
            keep_alive: None,
            max_streams_bi: 100,
            max_streams_uni: 100,
            stream_window: 1_250_000,
            connection_window: 10_000_000,
            send_window: SendWindow::Fixed(1024 * 1024),
            send_buffer: 16 * 1024 * 1024,
            datagrams: false,
            datagram_receive_buffer: 64 * 1024,
            datagram_send_buffer: 1024 * 1024,
            // RFC 9002 6.2.2
            initial_rtt: Duration::from_millis(333),
            // RFC 9000 18.2
            max_ack_delay: Duration::from_millis(25),
            udp_payload_v4: MIN_UDP_PAYLOAD,
            udp_payload_v6: MIN_UDP_PAYLOAD,
            initial_window: INITIAL_WINDOW_PACKETS,
            congestion: Arc::new(Algorithm::default()),
            key_update_interval: None,
            spin_bit: true,
            trace: None,
            limits: ConnectionLimits::default(),
        }
    }
}

impl TransportConfig {
    /// How long a connection lives without a packet; `None` for ever. The smaller of both ends' values counts
    /// (RFC 9000 10.1). Default 30 s.
    #[must_use]
    pub fn max_idle_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.max_idle_timeout = timeout;
        self
    }

    /// How long a handshake may take. Default 10 s.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// Sends a PING after this long without a packet, so that an idle connection stays open. What is not below the idle timeout
    /// that both ends agreed on counts as half of it. Default off.
    #[must_use]
    pub fn keep_alive(mut self, interval: Option<Duration>) -> Self {
        self.keep_alive = interval;
        self
    }

    /// How many bidirectional streams the peer may have open at once. Default 100.
    #[must_use]
    pub fn max_streams_bi(mut self, count: u32) -> Self {
        self.max_streams_bi = count;
        self
    }

    /// How many unidirectional streams the peer may have open at once. Default 100.
    #[must_use]
    pub fn max_streams_uni(mut self, count: u32) -> Self {
        self.max_streams_uni = count;
        self
    }

    /// How many bytes the peer may send on one stream before the application reads them. Default 1.25 MB.
    #[must_use]
    pub fn stream_window(mut self, bytes: u32) -> Self {
        self.stream_window = bytes;
        self
    }

    /// How many bytes the peer may send on all streams before the application reads them. In memory they take at most twice as
    /// much, however the peer cuts them, those in the application's hands included. Default 10 MB.
    #[must_use]
    pub fn connection_window(mut self, bytes: u32) -> Self {
        self.connection_window = bytes;
        self
    }

    /// How many written bytes of one stream wait for acknowledgement before its writer blocks: a number, or
    /// [`SendWindow::Auto`]. Default 1 MiB.
    #[must_use]
    pub fn send_window(mut self, window: impl Into<SendWindow>) -> Self {
        self.send_window = window.into();
        self
    }

    /// How many written bytes of all streams together wait for acknowledgement before writers block. Every stream may hold
    /// 2 KiB beyond it, so that none waits for the others for ever. Default 16 MiB.
    #[must_use]
    pub fn send_buffer(mut self, bytes: u32) -> Self {
        self.send_buffer = bytes;
        self
    }

    /// Whether the peer may send datagrams (RFC 9221). To send some, its permission is what counts. Default off.
    #[must_use]
    pub fn datagrams(mut self, on: bool) -> Self {
        self.datagrams = on;
        self
    }

    /// How many bytes of received datagrams are held until the application reads them; then the oldest are dropped. It may
    /// cost twice as much in memory, which is a bound for those in the application's hands, too. Also the largest datagram
    /// that the peer may send. Default 64 KiB.
    #[must_use]
    pub fn datagram_receive_buffer(mut self, bytes: u32) -> Self {
        self.datagram_receive_buffer = bytes;
        self
    }

    /// How many bytes of datagrams wait to be sent before senders block, or the oldest are dropped. There is room for one
    /// datagram in any case. Default 1 MiB.
    #[must_use]
    pub fn datagram_send_buffer(mut self, bytes: u32) -> Self {
        self.datagram_send_buffer = bytes;
        self
    }

    /// The round-trip time assumed before the first measurement. Default 333 ms (RFC 9002 6.2.2).
    #[must_use]
    pub fn initial_rtt(mut self, rtt: Duration) -> Self {
        self.initial_rtt = rtt;
        self
    }

    /// How long an acknowledgement may wait for a second packet. Default 25 ms, as the peer assumes; at most 2^14 ms.
    #[must_use]
    pub fn max_ack_delay(mut self, delay: Duration) -> Self {
        self.max_ack_delay = delay.min(Duration::from_millis((1 << 14) - 1));
        self
    }

    /// The largest UDP payload to send, once the peer allows as much. At least 1200, the default, which passes everywhere.
    #[must_use]
    pub fn udp_payload(self, bytes: u16) -> Self {
        self.udp_payload_v4(bytes).udp_payload_v6(bytes)
    }

    /// [`TransportConfig::udp_payload`] to IPv4 addresses alone, whose headers take 20 bytes less.
    #[must_use]
    pub fn udp_payload_v4(mut self, bytes: u16) -> Self {
        self.udp_payload_v4 = bytes.max(MIN_UDP_PAYLOAD);
        self
    }

    /// [`TransportConfig::udp_payload`] to IPv6 addresses alone.
    #[must_use]
    pub fn udp_payload_v6(mut self, bytes: u16) -> Self {
        self.udp_payload_v6 = bytes.max(MIN_UDP_PAYLOAD);
        self
    }

    /// The initial congestion window in packets. At least 2; default 10 (RFC 9002 7.2). They are paced over the first
    /// round trip, as is all else.
    #[must_use]
    pub fn initial_window(mut self, packets: u32) -> Self {
        self.initial_window = packets.max(2);
        self
    }

    /// The congestion controller: an [`Algorithm`], or one of the application's. Default CUBIC.
    #[must_use]
    pub fn congestion(mut self, congestion: impl ControllerFactory + 'static) -> Self {
        self.congestion = Arc::new(congestion);
        self
    }

    /// Updates the keys after so many packets. Default `None`: half of what the cipher allows (RFC 9001 6.6).
    #[must_use]
    pub fn key_update_interval(mut self, packets: Option<u64>) -> Self {
        self.key_update_interval = packets;
        self
    }

    /// Whether packets let the network see how long a round trip takes (RFC 9000 17.4); one connection in 16 does not take
    /// part even so. Default true.
    #[must_use]
    pub fn spin_bit(mut self, enabled: bool) -> Self {
        self.spin_bit = enabled;
        self
    }

    /// Tells what connections do to traces that this factory makes, one for each connection. Default none.
    #[must_use]
    pub fn trace(mut self, factory: impl TraceFactory + 'static) -> Self {
        self.trace = Some(Arc::new(factory));
        self
    }

    /// What the peer may make the connection hold, besides what flow control permits.
    #[must_use]
    pub fn limits(mut self, limits: ConnectionLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The largest UDP payload to send to `remote`.
    pub(crate) fn udp_payload_to(&self, remote: SocketAddr) -> u16 {
        match remote.ip().to_canonical() {
            IpAddr::V4(_) => self.udp_payload_v4,
            IpAddr::V6(_) => self.udp_payload_v6,
        }
    }
}
