//! Datagrams that are sent back (RFC 9221), as a protocol by itself: there is no stream, each datagram of the client comes back from
//! the server as it was, or is lost.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use weald_quic::{Connection, SendDatagramError};
use weald_runtime::{select, time::Instant};

use crate::report;

/// The ALPN token: it is Weald's own.
pub(crate) const ALPN: &[u8] = b"datagram-echo";
/// How long a datagram is waited for until it counts as lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sends back what comes until the connection is over.
pub(crate) fn serve(connection: &Connection) {
    while let Ok(datagram) = connection.read_datagram() {
        match connection.send_datagram_dropping(datagram.to_vec()) {
            Ok(()) => {}
            Err(SendDatagramError::ConnectionLost(_) | SendDatagramError::Cancelled) => break,
            // The client takes none, or shorter ones than it sends: it is told by what does not come back.
            Err(error) => tracing::debug!(%error, "datagram not sent back"),
        }
    }
}

/// What became of datagrams that were sent to be sent back.
#[derive(Serialize)]
pub(crate) struct Echoed {
    sent: u64,
    returned: u64,
    /// From sending until it was back, of those that were.
    median_ms: f64,
    longest_ms: f64,
}

/// Sends `count` datagrams, each when the last one is back or lost.
///
/// # Errors
/// The server takes no datagrams, sends back none, or the connection is lost.
pub(crate) fn ping(connection: &Connection, count: u32) -> Result<Echoed> {
    let mut times = Vec::new();
    for number in 0..count {
        let sent = Instant::now();
        let content = number.to_be_bytes();
        connection.send_datagram(content.to_vec()).context("cannot send a datagram")?;
        let deadline = sent + PATIENCE;
        loop {
            let datagram = select! {
                wait(connection.receiving_datagram()) -> datagram => datagram.context("waiting for a datagram")?,
                default(deadline) => break,
            };
            // Another one is late, and counts as lost.
            if *datagram == content {
                times.push(sent.elapsed());
                break;
            }
        }
    }
    ensure!(!times.is_empty(), "none of {count} datagrams came back within {}", report::time(PATIENCE));
    times.sort_unstable();
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(Echoed {
        sent: count.into(),
        returned: times.len() as u64,
        median_ms: milliseconds(times[times.len() / 2]),
        longest_ms: milliseconds(times[times.len() - 1]),
    })
}

impl std::fmt::Display for Echoed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sent, returned, median_ms, longest_ms } = self;
        write!(f, "{returned} of {sent} datagrams came back, median {median_ms:.2} ms, longest {longest_ms:.2} ms")
    }
}
