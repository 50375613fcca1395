//! The codes and reasons with which connections and streams end, as both ends see them (RFC 9000 sections 10.2, 19.4, 19.5, 20).

use weald_quic::{ApplicationClose, ConnectError, ConnectionError, ReadError, ServerLimits, TransportErrorCode, VarInt, WriteError};

use crate::sides::{ALPN, Identity, NAME, quinn_serves, weald_accepts, weald_connects, weald_serves};

/// The TLS alert of a server that speaks none of the client's protocols (RFC 7301 section 3.2).
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// Codes of one byte and of eight, with no words, some and many.
fn endings() -> [(u64, Vec<u8>); 3] {
    [(0, Vec::new()), (0x1234_5678, "closed: \u{e9}t\u{e9}".into()), ((1 << 62) - 1, vec![b'x'; 200])]
}

fn said(code: u64, reason: &[u8]) -> ConnectionError {
    let code = VarInt::from_u64(code).unwrap().into();
    ConnectionError::ApplicationClosed(ApplicationClose { code, reason: reason.to_vec().into() })
}

fn quinn_said(code: u64, reason: &[u8]) -> quinn::ConnectionError {
    let error_code = quinn::VarInt::from_u64(code).unwrap();
    quinn::ConnectionError::ApplicationClosed(quinn::ApplicationClose { error_code, reason: reason.to_vec().into() })
}

#[test]
fn quinn_reads_what_weald_closes_with() {
    let identity = Identity::new();
    for (code, reason) in endings() {
        let told = reason.clone();
        let close = move |weald: weald_quic::Connection| {
            weald.close(VarInt::from_u64(code).unwrap(), &told);
            weald.closed()
        };
        let closed = |quinn: quinn::Connection| async move { quinn.closed().await };
        let ends = weald_accepts(identity.weald_server(), identity.quinn_client(), close.clone(), closed);
        assert_eq!(ends, (ConnectionError::LocallyClosed, quinn_said(code, &reason)), "a weald server");
        let ends = weald_connects(identity.weald_client(), identity.quinn_server(), close, closed);
        assert_eq!(ends, (ConnectionError::LocallyClosed, quinn_said(code, &reason)), "a weald client");
    }
}

#[test]
fn weald_reads_what_quinn_closes_with() {
    let identity = Identity::new();
    for (code, reason) in endings() {
        let told = reason.clone();
        let close = move |quinn: quinn::Connection| async move {
            quinn.close(quinn::VarInt::from_u64(code).unwrap(), &told);
            quinn.closed().await
        };
        let closed = |weald: weald_quic::Connection| weald.closed();
        let ends = weald_accepts(identity.weald_server(), identity.quinn_client(), closed, close.clone());
        assert_eq!(ends, (said(code, &reason), quinn::ConnectionError::LocallyClosed), "a weald server");
        let ends = weald_connects(identity.weald_client(), identity.quinn_server(), closed, close);
        assert_eq!(ends, (said(code, &reason), quinn::ConnectionError::LocallyClosed), "a weald client");
    }
}

/// On the first stream the opener resets and the other end reads; on the second the other end stops and the opener writes.
#[test]
fn streams_end_with_the_codes_that_were_given() {
    let identity = Identity::new();
    let (reset, stopped) = weald_accepts(
        identity.weald_server(),
        identity.quinn_client(),
        |weald| {
            let mut first = weald.open_uni().unwrap();
            first.write_all(b"some").unwrap();
            first.reset(VarInt::from_u32(70_000)).unwrap();
            let mut second = weald.open_uni().unwrap();
            second.write_all(b"more").unwrap();
            let stopped = second.stopped().unwrap();
            let refused = second.write_all(b"much more").unwrap_err();
            assert_eq!(refused, WriteError::Stopped(VarInt::from_u32(80_000)));
            weald.close(VarInt::ZERO, b"");
            stopped
        },
        |quinn| async move {
            let mut first = quinn.accept_uni().await.unwrap();
            let reset = first.read_to_end(100).await.unwrap_err();
            let mut second = quinn.accept_uni().await.unwrap();
            second.stop(80_000_u32.into()).unwrap();
            quinn.closed().await;
            reset
        },
    );
    assert_eq!(reset, Some(VarInt::from_u32(80_000)));
    assert_eq!(stopped, quinn::ReadToEndError::Read(quinn::ReadError::Reset(70_000_u32.into())));

    let (reset, stopped) = weald_connects(
        identity.weald_client(),
        identity.quinn_server(),
        |weald| {
            let mut first = weald.accept_uni().unwrap();
            let reset = loop {
                match first.read_chunk(100) {
                    Ok(Some(_)) => {}
                    end => break end.map(|_| ()).unwrap_err(),
                }
            };
            weald.accept_uni().unwrap().stop(VarInt::from_u32(80_000)).unwrap();
            weald.closed();
            reset
        },
        |quinn| async move {
            let mut first = quinn.open_uni().await.unwrap();
            first.write_all(b"some").await.unwrap();
            first.reset(70_000_u32.into()).unwrap();
            let mut second = quinn.open_uni().await.unwrap();
            second.write_all(b"more").await.unwrap();
            let stopped = second.stopped().await.unwrap();
            quinn.close(0_u32.into(), b"");
            stopped
        },
    );
    assert_eq!(reset, ReadError::Reset(VarInt::from_u32(70_000)));
    assert_eq!(stopped, Some(80_000_u32.into()));
}

#[test]
fn a_server_without_a_common_protocol_says_so_by_the_alert() {
    let identity = Identity::new();
    let client = identity.quinn_client_that_offers(b"another");
    let (accepted, refused) = weald_serves(
        identity.weald_server(),
        |endpoint| {
            while endpoint.stats().accepted == 0 || endpoint.open_connections() > 0 {
                weald_runtime::sleep(std::time::Duration::from_millis(2));
            }
            endpoint.stats().accepted
        },
        |endpoint, address| async move { endpoint.connect_with(client, address, NAME).unwrap().await.unwrap_err() },
    );
    assert_eq!(accepted, 1);
    let quinn::ConnectionError::ConnectionClosed(close) = refused else { panic!("{refused:?}") };
    assert_eq!(close.error_code, quinn::TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL), "{close}");

    let tls = weald_crypto::ClientConfig::builder().alpn(["another"]).dangerous_skip_verification().build().unwrap();
    let (refused, at_quinn) = quinn_serves(
        identity.quinn_server(),
        |endpoint| async move { endpoint.accept().await.unwrap().await.unwrap_err() },
        |endpoint, address| endpoint.connect_with(weald_quic::ClientConfig::new(tls), address, NAME).unwrap_err(),
    );
    let ConnectError::Connection(ConnectionError::ConnectionClosed(close)) = refused else { panic!("{refused:?}") };
    assert_eq!(close.code.alert(), Some(NO_APPLICATION_PROTOCOL), "{ALPN:?}: {close}");
    let quinn::ConnectionError::TransportError(error) = at_quinn else { panic!("{at_quinn:?}") };
    assert_eq!(error.code, quinn::TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL));
}

#[test]
fn a_server_that_is_full_refuses() {
    let identity = Identity::new();
    let client = identity.quinn_client();
    let (refused, error) = weald_serves(
        identity.weald_server().limits(ServerLimits::default().max_connections(Some(0))),
        |endpoint| {
            while endpoint.stats().refused.total() == 0 {
                weald_runtime::sleep(std::time::Duration::from_millis(2));
            }
            endpoint.stats().accepted
        },
        |endpoint, address| async move { endpoint.connect_with(client, address, NAME).unwrap().await.unwrap_err() },
    );
    assert_eq!(refused, 0);
    let quinn::ConnectionError::ConnectionClosed(close) = error else { panic!("{error:?}") };
    assert_eq!(close.error_code, quinn::TransportErrorCode::CONNECTION_REFUSED);

    let client = identity.weald_client();
    let (error, ()) = quinn_serves(
        identity.quinn_server(),
        |endpoint| async move { endpoint.accept().await.unwrap().refuse() },
        |endpoint, address| endpoint.connect_with(client, address, NAME).unwrap_err(),
    );
    let ConnectError::Connection(ConnectionError::ConnectionClosed(close)) = error else { panic!("{error:?}") };
    assert_eq!(close.code, TransportErrorCode::CONNECTION_REFUSED);
}
