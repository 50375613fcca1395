//! The attacker does what it is told, to a whole server and a whole client: without this the attacks prove nothing.

use std::time::Duration;

use weald_quic::codec::{Close, Frame, MaxData, Ping, Stream};
use weald_quic::{ConnectionError, StreamId, VarInt};
use weald_runtime::sim::LinkConfig;
use weald_tests::attacker::{AckPolicy, Attacker, Closed, Ended, Kind, Setup, Stage, client_under_attack, under_attack};
use weald_tests::world::{client_address, link};

const SECOND: Duration = Duration::from_secs(1);
const PROTOCOL_VIOLATION: u64 = 0x0a;

#[test]
fn a_client_stops_at_each_stage_and_goes_on() {
    under_attack("none", 1, Setup::new(1), |arena| {
        let mut client = arena.client(1);
        client.handshake(Stage::HelloSent);
        assert!(!client.has_keys(Kind::Handshake));
        client.handshake(Stage::HandshakeKeys);
        // Its Finished is not sent: the server waits.
        assert_eq!(client.run(SECOND), None);
        assert!(!client.is_confirmed());
        client.handshake(Stage::Complete);
        client.handshake(Stage::Confirmed);
        client.expect_alive();
        let id = StreamId::from(VarInt::ZERO);
        client.packet(Kind::OneRtt).frame(&Stream { id, offset: 0, fin: true, data: b"echo" }).send();
        loop {
            let seen = client.next(SECOND).expect("an answer");
            if seen.frames().any(|frame| matches!(frame, Frame::Stream(Stream { data: b"echo", fin: true, .. }))) {
                break;
            }
        }
        client.update_keys();
        client.expect_alive();
        client.update_keys();
        client.expect_alive();
        client.packet(Kind::OneRtt).reserved(1).frame(&Ping).send();
        client.expect_close(PROTOCOL_VIOLATION);
    });
}

#[test]
fn a_handshake_over_a_bad_link_is_sent_again() {
    let bad = LinkConfig { loss: 0.3, ..link() };
    for seed in 0..10 {
        weald_tests::world::simulate(seed, bad.clone(), || {
            let server = weald_tests::attack::serve(weald_tests::attack::default_server(seed));
            let mut client = Attacker::client(seed, client_address(1), weald_tests::world::server_address());
            client.handshake(Stage::Confirmed);
            server.close(0_u32.into(), b"");
        });
    }
}

#[test]
fn what_is_not_acknowledged_is_sent_again() {
    under_attack("none", 2, Setup::new(2), |arena| {
        let mut client = arena.client(1);
        client.handshake(Stage::Confirmed);
        while client.next(SECOND).is_some() {}
        let id = StreamId::from(VarInt::ZERO);
        client.acks(AckPolicy::Never);
        client.packet(Kind::OneRtt).frame(&Stream { id, offset: 0, fin: true, data: b"echo" }).send();
        let echoes = |client: &mut Attacker| {
            let mut echoes = 0;
            while let Some(seen) = client.next(SECOND) {
                echoes += seen.frames().filter(|frame| matches!(frame, Frame::Stream(_))).count();
            }
            echoes
        };
        assert!(echoes(&mut client) > 2);
        client.acks(AckPolicy::Honest);
        client.packet(Kind::OneRtt).frame(&Ping).send();
        assert!(echoes(&mut client) <= 2);
        arena.memory_below(100_000);
        arena.heap_below(300_000);
        arena.work_below(100);
    });
}

#[test]
fn a_server_stops_at_each_stage_and_goes_on() {
    let ended = client_under_attack("none", 3, |mut server| {
        server.handshake(Stage::HelloSent);
        server.handshake(Stage::HandshakeKeys);
        server.handshake(Stage::Confirmed);
        server.expect_alive();
        server.packet(Kind::OneRtt).frame(&MaxData { limit: 0 }).send();
        server.expect_alive();
    });
    assert_eq!(ended, None);
    let ended = client_under_attack("none", 4, |mut server| {
        server.handshake(Stage::Confirmed);
        server.packet(Kind::OneRtt).frame(&Close { code: VarInt::from_u32(9).into(), frame: None, reason: b"" }).send();
    });
    assert!(matches!(ended, Some(ConnectionError::ConnectionClosed(_))), "{ended:?}");
}

#[test]
fn handshakes_that_fail_say_why() {
    under_attack("none", 5, Setup::new(5), |arena| {
        let mut client = arena.client(1).parameters(|_| Vec::new());
        assert!(matches!(client.try_handshake(Stage::Confirmed), Err(Ended::Closed(Closed::Transport { code: 0x08, .. }))));
        let mut client = arena.client(2).crypto(|_, data| data.clear());
        assert_eq!(client.try_handshake(Stage::Confirmed), Err(Ended::Silent));
    });
}
