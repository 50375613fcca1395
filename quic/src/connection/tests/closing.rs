//! An application closes at any moment of a handshake, at either end (RFC 9000 10.2.3): the other end learns of it, but not what the
//! application said unless that is safe to say.

use std::sync::{Arc, Mutex};

use super::SECOND;
use super::pair::{Network, Pair};
use crate::config::TransportConfig;
use crate::error::{ApplicationCode, ConnectionError, TransportErrorCode};
use crate::side::Side;
use crate::time::Instant;
use crate::trace::{Trace, TraceEvent, TraceFactory, TraceStart};
use crate::wire::PacketType;

/// What closes were sent: by whom, in which packets, and whether with what the application said.
#[derive(Clone, Debug, Default)]
struct Closes(Arc<Mutex<Vec<(Side, PacketType, bool)>>>);

impl TraceFactory for Closes {
    fn build(&self, start: TraceStart) -> Option<Box<dyn Trace>> {
        Some(Box::new((start.side, self.clone())))
    }
}

impl Trace for (Side, Closes) {
    fn event(&mut self, _: Instant, event: &TraceEvent<'_>) {
        let TraceEvent::Sent(packet) = event else { return };
        for frame in packet.frames.iter().filter(|frame| frame.name() == "CONNECTION_CLOSE") {
            let is_of_application = frame.to_string().contains("of the application");
            self.1.0.lock().unwrap().push((self.0, packet.packet_type, is_of_application));
        }
    }
}

/// Closes one end after so many steps of a handshake. Whether the handshake was confirmed by then at both ends, and in which packets the
/// close went out.
fn close_after(steps: usize, side: Side) -> (bool, Vec<PacketType>) {
    let closes = Closes::default();
    let transport = || TransportConfig::default().trace(closes.clone());
    // A chain that takes several datagrams, so that there are more moments.
    let mut pair = Pair::with(1, Network::CLEAN, transport(), transport(), 4);
    let mut left = steps;
    pair.run(5 * SECOND, |_| {
        left = left.saturating_sub(1);
        left == 0
    });
    let now = pair.now;
    let is_confirmed = pair.client.confirmed && pair.server.confirmed;
    let closing = if side.is_client() { &mut pair.client } else { &mut pair.server };
    if closing.connection.is_none() {
        return (false, Vec::new());
    }
    closing.connection().close(now, ApplicationCode::from_u32(42), b"secret");
    assert!(pair.run(60 * SECOND, |pair| pair.client.dropped && pair.server.dropped), "{side} after {steps} steps");
    let (closed, told) = if side.is_client() { (&pair.client, &pair.server) } else { (&pair.server, &pair.client) };
    assert_eq!(closed.closed, Some(ConnectionError::LocallyClosed), "{side} after {steps} steps");
    match &told.closed {
        Some(ConnectionError::ConnectionClosed(close)) => {
            assert_eq!((close.code, close.reason.len()), (TransportErrorCode::APPLICATION_ERROR, 0), "{side} after {steps} steps");
            assert!(!is_confirmed, "{side} after {steps} steps");
        }
        Some(ConnectionError::ApplicationClosed(close)) => {
            assert_eq!((close.code.as_u64(), &close.reason[..]), (42, &b"secret"[..]), "{side} after {steps} steps");
        }
        other => panic!("{side} closed after {steps} steps: {other:?}"),
    }
    let closes = closes.0.lock().unwrap();
    for (sender, packet_type, is_of_application) in closes.iter() {
        // The other end drains, and says nothing.
        assert_eq!(*sender, side, "after {steps} steps");
        assert_eq!(*is_of_application, *packet_type == PacketType::OneRtt, "{side} after {steps} steps: {packet_type}");
    }
    // Once for each answer to what still came.
    let mut packets = Vec::new();
    for (_, packet_type, _) in closes.iter() {
        if !packets.contains(packet_type) {
            packets.push(*packet_type);
        }
    }
    (is_confirmed, packets)
}

#[test]
fn a_close_at_any_moment_reaches_the_other_end() {
    use PacketType::{Handshake, Initial, OneRtt};
    for side in [Side::Client, Side::Server] {
        let mut seen = Vec::new();
        for steps in 1..100 {
            let (is_confirmed, packets) = close_after(steps, side);
            if !packets.is_empty() && !seen.contains(&packets) {
                seen.push(packets);
            }
            if is_confirmed {
                break;
            }
        }
        // RFC 9000 10.2.3: in each packet that the other end may be able to open.
        let permitted: &[&[PacketType]] = match side {
            // Until the server's first packets came; until it confirmed; after that.
            Side::Client => &[&[Initial], &[Handshake, OneRtt], &[OneRtt]],
            // Until the client's Handshake packets came, all at one instant here; after that.
            Side::Server => &[&[Initial, Handshake, OneRtt], &[OneRtt]],
        };
        assert_eq!(seen, permitted, "{side}");
    }
}
