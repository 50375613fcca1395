//! Datagrams of the application, in both directions and up to the longest (RFC 9221).

use std::sync::Arc;

use bytes::Bytes;
use weald_quic::{SendDatagramError, TransportConfig};

use crate::sides::{Identity, weald_accepts, weald_connects};

/// Lengths that are sent; the last is cut to the longest that there may be.
const LENGTHS: [usize; 6] = [0, 1, 64, 500, 1000, usize::MAX];

fn content(len: usize) -> Bytes {
    (0..len).map(|at| at as u8).collect()
}

/// Quinn asks and weald sends back, one datagram at a time so that none is lost; then the other way. Gives what weald counted.
fn weald_part(connection: &weald_quic::Connection) -> (u64, u64, u64) {
    let mut echoed = 0;
    while echoed < LENGTHS.len() {
        let datagram = connection.read_datagram().unwrap();
        // The ends need not agree on how long one may be.
        let len = datagram.len().min(connection.max_datagram_size().unwrap());
        connection.send_datagram(datagram[..len].to_vec()).unwrap();
        echoed += 1;
    }
    let longest = connection.max_datagram_size().unwrap();
    assert!((1000..1500).contains(&longest), "{longest}");
    assert_eq!(connection.send_datagram(content(longest + 1)), Err(SendDatagramError::TooLarge { max: longest }));
    for len in LENGTHS {
        let sent = content(len.min(longest));
        connection.send_datagram(sent.clone()).unwrap();
        let echo = connection.read_datagram().unwrap();
        assert!(echo.len() >= sent.len().min(1000) && *echo == sent[..echo.len()], "{} of {}", echo.len(), sent.len());
    }
    let stats = connection.stats();
    connection.close(0_u32.into(), b"");
    (stats.datagram_frames_sent, stats.datagram_frames_received, stats.datagram_frames_dropped)
}

/// Gives what quinn sent and received.
async fn quinn_part(connection: quinn::Connection) -> (u64, u64) {
    let longest = connection.max_datagram_size().unwrap();
    for len in LENGTHS {
        let sent = content(len.min(longest));
        connection.send_datagram(sent.clone()).unwrap();
        let echo = connection.read_datagram().await.unwrap();
        assert!(echo.len() >= sent.len().min(1000) && *echo == sent[..echo.len()], "{} of {}", echo.len(), sent.len());
    }
    while let Ok(datagram) = connection.read_datagram().await {
        connection.send_datagram(datagram.slice(..datagram.len().min(longest))).unwrap();
    }
    let stats = connection.stats();
    (stats.frame_tx.datagram, stats.frame_rx.datagram)
}

#[test]
fn datagrams_go_both_ways() {
    let both = 2 * LENGTHS.len() as u64;
    let identity = Identity::new();
    let transport = TransportConfig::default().datagrams(true);
    let counts = weald_accepts(
        identity.weald_server().transport(transport.clone()),
        identity.quinn_client(),
        |weald| weald_part(&weald),
        quinn_part,
    );
    assert_eq!(counts, ((both, both, 0), (both, both)), "a weald server");
    let counts =
        weald_connects(identity.weald_client().transport(transport), identity.quinn_server(), |weald| weald_part(&weald), quinn_part);
    assert_eq!(counts, ((both, both, 0), (both, both)), "a weald client");
}

#[test]
fn an_end_that_takes_none_is_sent_none() {
    let identity = Identity::new();
    // Ours takes none by default.
    let (at_weald, at_quinn) = weald_accepts(
        identity.weald_server(),
        identity.quinn_client(),
        |weald| {
            let sent = weald.send_datagram(content(1));
            weald.closed();
            sent
        },
        |quinn| async move {
            assert_eq!(quinn.read_datagram().await.unwrap(), content(1));
            let sent = quinn.send_datagram(content(1));
            quinn.close(0_u32.into(), b"");
            sent
        },
    );
    assert_eq!((at_weald, at_quinn), (Ok(()), Err(quinn::SendDatagramError::UnsupportedByPeer)));

    let mut deaf = quinn::TransportConfig::default();
    deaf.datagram_receive_buffer_size(None);
    let mut server = identity.quinn_server();
    server.transport_config(Arc::new(deaf));
    let client = identity.weald_client().transport(TransportConfig::default().datagrams(true));
    let (at_weald, ()) = weald_connects(
        client,
        server,
        |weald| {
            let sent = weald.send_datagram(content(1));
            assert_eq!(weald.max_datagram_size(), None);
            weald.close(0_u32.into(), b"");
            sent
        },
        |quinn| async move { drop(quinn.closed().await) },
    );
    assert_eq!(at_weald, Err(SendDatagramError::Unsupported));
}
