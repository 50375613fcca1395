//! Transport configurations for kinds of networks.
//!
//! Owns their values and the reasons. Does not own the settings themselves (`transport`).

use std::time::Duration;

use super::{SendWindow, TransportConfig};

const MIB: u32 = 1 << 20;

impl TransportConfig {
    /// For hosts of one data centre or house: round trips below a millisecond, at gigabits a second, over an Ethernet whose frames
    /// of 1,500 bytes pass whole.
    ///
    /// | value | | why |
    /// |-|-|-|
    /// | stream, connection window | 16, 256 MiB | 10 Gbit/s for 13 and 200 ms, that of a reader who is held up |
    /// | streams, bidirectional and unidirectional | 256, 512 | |
    /// | initial round-trip time | 200 us | a lost first packet is sent again after 0.6 ms, rather than a second |
    /// | acknowledgement delay | 5 ms | what timers keep on a busy host |
    /// | UDP payload | 1472, on IPv6 1452 | 1500 less the headers |
    /// | initial window | 100 packets | below what an interface queues |
    /// | idle timeout | 60 s | |
    /// | datagrams | on | |
    ///
    /// Writers may have 16 MiB of a stream and 64 MiB of a connection on their way. On a path that bears less than 1,500 bytes this
    /// connects, and then sends in vain: choose [`TransportConfig::wan`] there.
    #[must_use]
    pub fn lan() -> Self {
        Self::default()
            .stream_window(16 * MIB)
            .connection_window(256 * MIB)
            .send_window(SendWindow::Auto { max: 16 * MIB })
            .send_buffer(64 * MIB)
            .max_streams_bi(256)
            .max_streams_uni(512)
            .initial_rtt(Duration::from_micros(200))
            .max_ack_delay(Duration::from_millis(5))
            .udp_payload_v4(1472)
            .udp_payload_v6(1452)
            .initial_window(100)
            .max_idle_timeout(Some(Duration::from_secs(60)))
            .datagrams(true)
    }

    /// For the internet, with bulk in mind: windows of 4 MiB a stream and 32 MiB a connection, which carry 100 Mbit/s over 300 ms,
    /// and an initial round-trip time of 50 ms, that of hosts on one continent. Acknowledgements wait for 25 ms and datagrams have
    /// 1,200 bytes, which pass everywhere. Writers may have 8 MiB of a stream and 32 MiB of a connection on their way.
    #[must_use]
    pub fn wan() -> Self {
        Self::default()
            .stream_window(4 * MIB)
            .connection_window(32 * MIB)
            .send_window(SendWindow::Auto { max: 8 * MIB })
            .send_buffer(32 * MIB)
            .initial_rtt(Duration::from_millis(50))
            .max_ack_delay(Duration::from_millis(25))
            .udp_payload(1200)
    }
}
