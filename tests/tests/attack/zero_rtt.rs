//! 0-RTT packets, where nobody has keys for them: captured ones, replayed, are dropped unopened and leave nothing behind.

use std::time::Duration;

use weald_quic::codec::{Frame, Stream};
use weald_quic::{Endpoint, StreamId, TransportConfig, VarInt};
use weald_runtime::net::UdpSocket;
use weald_runtime::{sleep, spawn};
use weald_tests::attack::serve;
use weald_tests::attacker::{Attacker, Kind, Setup, Stage, under_attack};
use weald_tests::world::{client_address, link, server_address, server_config, simulate_untraced};

const SECOND: Duration = Duration::from_secs(1);
const REPLAYS: u64 = 10_000;

/// A 0-RTT packet with data of a stream, of 1200 bytes.
fn early_data(client: &mut Attacker) -> Vec<u8> {
    let id = StreamId::from(VarInt::ZERO);
    client.packet(Kind::ZeroRtt).frame(&Stream { id, offset: 0, fin: true, data: b"buy" }).pad_to(1200).build()
}

fn replay(client: &mut Attacker, packet: &[u8]) {
    for round in 0..REPLAYS {
        client.send(packet);
        if round % 100 == 99 {
            sleep(Duration::from_millis(1));
        }
    }
}

/// RFC 9001, 5.7, 9.2: before the connection, in the handshake, and behind it.
#[test]
fn replays_are_dropped_in_each_state() {
    under_attack("0-RTT packets replayed", 1, Setup::new(1), |arena| {
        let connections = arena.server.open_connections();
        let before = arena.server.stats();
        let mut client = arena.client(1);
        let packet = early_data(&mut client);
        // Nobody knows the id.
        replay(&mut client, &packet);
        client.expect_silence();
        let after = arena.server.stats();
        assert_eq!(arena.server.open_connections(), connections);
        assert_eq!((after.dropped - before.dropped, after.refused), (REPLAYS, before.refused));
        arena.heap_below(4_000_000);
        // The client's first id, which its Initial packet has made known; before TLS is done, and after.
        client.handshake(Stage::HandshakeKeys);
        replay(&mut client, &packet);
        // They took no room from what waits for its keys: 1-RTT data in front of the client's Finished (RFC 9001, 5.7).
        while !client.has_keys(Kind::OneRtt) {
            client.next(SECOND).expect("the rest of the server's flight");
        }
        let id = StreamId::from(VarInt::ZERO);
        client.packet(Kind::OneRtt).frame(&Stream { id, offset: 0, fin: true, data: b"echo" }).send();
        client.handshake(Stage::Complete);
        loop {
            let seen = client.next(SECOND).expect("the echo");
            if seen.frames().any(|frame| matches!(frame, Frame::Stream(Stream { data: b"echo", .. }))) {
                break;
            }
        }
        client.handshake(Stage::Confirmed);
        client.expect_alive();
        let [connection] = &arena.connections()[..] else { panic!("one connection") };
        let dropped = connection.stats().packets_dropped;
        assert!(dropped >= REPLAYS, "{dropped} were dropped");
        // The id that the server gave.
        let packet = early_data(&mut client);
        replay(&mut client, &packet);
        client.expect_alive();
        assert!(connection.stats().packets_dropped >= dropped + REPLAYS);
        arena.memory_below(60_000);
    });
}

/// RFC 9001, 9.2: nor does a server that was started again know them.
#[test]
fn replays_across_a_restart_are_dropped() {
    simulate_untraced(2, link(), || {
        let start = |seed| -> Endpoint { serve(server_config(seed, TransportConfig::default())) };
        let server = start(2);
        let mut client = Attacker::client(2, client_address(1), server_address());
        client.handshake(Stage::HelloSent);
        let early = early_data(&mut client);
        client.handshake(Stage::Confirmed);
        let late = early_data(&mut client);
        client.expect_alive();
        server.close(0_u32.into(), b"");
        server.wait_idle();
        drop(server);
        // What it had running lets go of the address.
        sleep(SECOND);
        let server = start(3);
        for packet in [early, late] {
            // From where it was captured, and from elsewhere.
            replay(&mut client, &packet);
            let elsewhere = UdpSocket::bind(client_address(2)).expect("a free address");
            elsewhere.set_read_timeout(Some(SECOND)).expect("a timeout");
            for _ in 0..100 {
                elsewhere.send_to(&packet, server_address()).expect("it is sent");
            }
            assert!(elsewhere.recv_from(&mut [0; 2048]).is_err(), "an answer");
        }
        assert_eq!((server.open_connections(), server.stats().accepted, server.stats().refused), (0, 0, 0));
        // Who comes anew is served.
        let serving = spawn(move || {
            let mut client = Attacker::client(4, client_address(3), server_address());
            client.handshake(Stage::Confirmed);
            client.expect_alive();
        });
        serving.join().expect("no panic");
        server.close(0_u32.into(), b"");
    });
}
