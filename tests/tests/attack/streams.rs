//! Attacks with streams and datagrams: on what they may hold, how many there may be, and in which state they are.

use std::net::SocketAddr;
use std::time::Duration;

use weald_crypto::simulation;
use weald_quic::codec::{
    ApplicationCloseFrame, Datagram, EncodeFrame, Frame, MaxStreamData, ResetStream, StopSending, Stream, StreamDataBlocked,
};
use weald_quic::{
    ApplicationCode, ConnectionError, Direction, Endpoint, ReadError, ReadToEndError, SendDatagramError, Side, StreamId, TransportConfig,
    VarInt,
};
use weald_tests::attacker::{Application, Attacker, Closed, Kind, Setup, Stage, client_under_attack, under_attack};
use weald_tests::hand::{parameter, parameters, varint};
use weald_tests::world::{client_address, client_config, link, server_config, simulate_untraced};

const SECOND: Duration = Duration::from_secs(1);
const FLOW_CONTROL_ERROR: u64 = 0x03;
const STREAM_LIMIT_ERROR: u64 = 0x04;
const STREAM_STATE_ERROR: u64 = 0x05;
const FINAL_SIZE_ERROR: u64 = 0x06;
const PROTOCOL_VIOLATION: u64 = 0x0a;
const INTERNAL_ERROR: u64 = 0x01;

fn id(initiator: Side, direction: Direction, index: u64) -> StreamId {
    StreamId::new(initiator, direction, index).expect("a stream id")
}

fn bi(index: u64) -> StreamId {
    id(Side::Client, Direction::Bi, index)
}

fn uni(index: u64) -> StreamId {
    id(Side::Client, Direction::Uni, index)
}

fn code(code: u32) -> ApplicationCode {
    ApplicationCode::from_u32(code)
}

fn stream(id: StreamId, offset: u64, data: &[u8], fin: bool) -> Stream<'_> {
    Stream { id, offset, fin, data }
}

fn of(transport: TransportConfig) -> Setup {
    Setup::of(server_config(1, transport))
}

fn confirmed(mut attacker: Attacker) -> Attacker {
    attacker.handshake(Stage::Confirmed);
    attacker
}

/// Sends a packet of these frames.
fn send(attacker: &mut Attacker, frames: &[&dyn EncodeFrame]) {
    let mut packet = attacker.packet(Kind::OneRtt);
    for frame in frames {
        packet = packet.frame(*frame);
    }
    packet.send();
}

/// Takes in and answers what has come, so that neither end's queue grows.
fn settle(attacker: &mut Attacker) {
    while attacker.closed().is_none() && attacker.next(SECOND / 20).is_some() {}
}

/// STOP_SENDING while the application is parked in a read of the same stream, and while it is parked in a write (h3, issue 331):
/// both go on, and the stream is closed.
#[test]
fn a_stop_while_a_read_or_a_write_is_parked() {
    under_attack("STOP_SENDING while the stream is read", 1, Setup::new(1).application(Application::Idle), |arena| {
        let mut attacker = confirmed(arena.client(1));
        send(&mut attacker, &[&stream(bi(0), 0, b"begin", false), &stream(bi(1), 0, b"begin", false)]);
        weald_runtime::sleep(SECOND / 10);
        let server = arena.connections().remove(0);
        let (mut out, mut input) = server.accept_bi().expect("a stream");
        let reading = weald_runtime::spawn(move || input.read_to_end(100));
        let (mut blocked, _unread) = server.accept_bi().expect("a stream");
        let writing = weald_runtime::spawn(move || blocked.write_all(&vec![0; 20_000_000]).expect_err("nobody reads it"));
        settle(&mut attacker);
        // In a packet of its own, and with the rest of the stream and its end.
        send(&mut attacker, &[&StopSending { id: bi(1), code: code(7) }]);
        send(&mut attacker, &[&StopSending { id: bi(0), code: code(7) }, &stream(bi(0), 5, b"end", true)]);
        let mut resets = 0;
        while let Some(seen) = attacker.next(SECOND) {
            resets += seen.frames().filter(|frame| matches!(frame, Frame::ResetStream(reset) if reset.code == code(7))).count();
        }
        assert!(resets >= 2, "{resets} streams were reset");
        assert_eq!(reading.join().expect("it does not panic").expect("all has arrived"), b"beginend");
        assert_eq!(out.stopped(), Ok(Some(VarInt::from_u32(7))));
        assert_eq!(writing.join().expect("it does not panic"), weald_quic::WriteError::Stopped(VarInt::from_u32(7)));
        attacker.expect_alive();
    });
}

/// The same at a client, whose server also resets what it reads.
#[test]
fn a_stop_while_a_client_reads_or_writes() {
    for (row, resets) in [("STOP_SENDING and the end while a client reads", false), ("STOP_SENDING and a reset while a client reads", true)]
    {
        let at = SocketAddr::from(([10, 0, 0, 2], 443));
        simulate_untraced(1, link(), move || {
            let mut server = Attacker::server(1, at);
            let attacking = weald_runtime::spawn(move || {
                server.handshake(Stage::Confirmed);
                settle(&mut server);
                let [reads, writes] = [0, 1].map(bi);
                if resets {
                    let reset = ResetStream { id: reads, code: code(8), final_size: 5 };
                    send(&mut server, &[&stream(reads, 0, b"begin", false), &StopSending { id: reads, code: code(7) }, &reset]);
                } else {
                    send(&mut server, &[&StopSending { id: reads, code: code(7) }, &stream(reads, 0, b"beginend", true)]);
                }
                send(&mut server, &[&StopSending { id: writes, code: code(7) }]);
                settle(&mut server);
                server.expect_alive();
            });
            let endpoint = Endpoint::client(client_address(1)).expect("a client");
            let config = client_config(1, TransportConfig::default());
            let connection = endpoint.connect_with(config, at, simulation::SERVER_NAME).expect("a connection");
            let (mut out, mut input) = connection.open_bi().expect("a stream");
            out.write_all(b"question").expect("there is room");
            let (mut blocked, _unread) = connection.open_bi().expect("a stream");
            let reading = weald_runtime::spawn(move || input.read_to_end(100));
            let writing = weald_runtime::spawn(move || blocked.write_all(&vec![0; 20_000_000]).expect_err("nobody reads it"));
            match reading.join().expect("it does not panic") {
                Ok(bytes) => assert!(!resets && bytes == b"beginend"),
                Err(ReadToEndError::Read(ReadError::Reset(told))) => assert!(resets && told == VarInt::from_u32(8)),
                Err(error) => panic!("{row}: {error}"),
            }
            assert_eq!(writing.join().expect("it does not panic"), weald_quic::WriteError::Stopped(VarInt::from_u32(7)));
            assert_eq!(out.stopped(), Ok(Some(VarInt::from_u32(7))));
            attacking.join().expect("the attack succeeds");
            assert_eq!(connection.close_reason(), None);
        });
    }
}

/// Codes of applications at the border of what there is (unbound, CVE-2026-55991): the largest goes either way, and a larger one is none.
#[test]
fn the_largest_codes_of_applications() {
    assert!(VarInt::from_u64(1 << 62).is_err() && VarInt::from_u64(u64::MAX).is_err());
    let largest = || ApplicationCode::from(VarInt::MAX);
    under_attack("the largest codes to a server", 12, Setup::new(12).application(Application::Idle), |arena| {
        let mut attacker = confirmed(arena.client(1));
        send(&mut attacker, &[&stream(bi(0), 0, b"begin", false), &stream(bi(1), 0, b"begin", false)]);
        settle(&mut attacker);
        let server = arena.connections().remove(0);
        let (mut out, mut input) = server.accept_bi().expect("a stream");
        let (mut other, mut stopped) = server.accept_bi().expect("a stream");
        let reset = ResetStream { id: bi(0), code: largest(), final_size: 5 };
        send(&mut attacker, &[&reset, &StopSending { id: bi(0), code: largest() }]);
        settle(&mut attacker);
        assert_eq!(input.read_to_end(100), Err(ReadToEndError::Read(ReadError::Reset(VarInt::MAX))));
        assert_eq!(out.stopped(), Ok(Some(VarInt::MAX)));
        // And from it.
        other.reset(VarInt::MAX).expect("it is open");
        stopped.stop(VarInt::MAX).expect("it is open");
        let (mut resets, mut stops) = (0, 0);
        while let Some(seen) = attacker.next(SECOND / 20) {
            for frame in seen.frames() {
                match frame {
                    Frame::ResetStream(frame) if frame.id == bi(1) && frame.code == largest() => resets += 1,
                    Frame::StopSending(frame) if frame.id == bi(1) && frame.code == largest() => stops += 1,
                    _ => {}
                }
            }
        }
        assert!(resets > 0 && stops > 0, "{resets}, {stops}");
        server.close(VarInt::MAX, b"");
        assert_eq!(attacker.run(SECOND), Some(Closed::Application(VarInt::MAX.as_u64())));
    });
    let ended = client_under_attack("the largest code to a client", 13, move |mut server| {
        server.handshake(Stage::Confirmed);
        send(&mut server, &[&ApplicationCloseFrame { code: largest(), reason: b"" }]);
        settle(&mut server);
    });
    assert!(matches!(&ended, Some(ConnectionError::ApplicationClosed(close)) if close.code == largest()), "{ended:?}");
}

/// A peer that permits one byte, of each stream or of all, and reads no more (unbound, CVE-2026-55991): what is written for it on a
/// hundred streams stays within the send buffer.
#[test]
fn a_peer_with_a_window_of_one_byte() {
    for (row, limit, others) in [("a window of one byte for all streams", 0x04, 1 << 20), ("a window of one byte for each stream", 0x05, 1)]
    {
        let transport = TransportConfig::default().send_buffer(200_000).stream_window(20_000).connection_window(200_000);
        under_attack(row, 2, of(transport), |arena| {
            let client = arena.client(1).parameters(move |ids| {
                let mut out = Vec::new();
                for (number, value) in [(0x04, 1 << 20), (0x05, others), (0x06, 1), (0x07, 1), (0x08, 100), (0x09, 100)] {
                    let mut encoded = Vec::new();
                    varint(&mut encoded, if number == limit { 1 } else { value });
                    parameter(&mut out, number, &encoded);
                }
                parameter(&mut out, 0x0f, &ids.source);
                out
            });
            let mut attacker = confirmed(client);
            let data = vec![7; 1_000];
            for index in 0..100 {
                for piece in 0..20 {
                    send(&mut attacker, &[&stream(bi(index), piece * 1_000, &data, piece == 19)]);
                }
                settle(&mut attacker);
            }
            attacker.expect_alive();
            arena.memory_below(1_000_000);
        });
    }
}

/// Single bytes between gaps, the first withheld, in order and at random offsets: bounded in memory, and ended with an error.
#[test]
fn single_bytes_between_gaps() {
    for (row, random) in [("single bytes in order", false), ("single bytes at random offsets", true)] {
        let transport = TransportConfig::default().stream_window(256 * 1024).connection_window(256 * 1024);
        under_attack(row, 3, of(transport), |arena| {
            let mut attacker = confirmed(arena.client(1));
            let mut rng = fastrand::Rng::with_seed(3);
            let mut offsets: Vec<u64> = (1..20_000).map(|n| 2 * n).collect();
            if random {
                rng.shuffle(&mut offsets);
            }
            for offsets in offsets.chunks(100) {
                let frames: Vec<_> = offsets.iter().map(|&offset| stream(uni(0), offset, b"x", false)).collect();
                let mut packet = attacker.packet(Kind::OneRtt);
                for frame in &frames {
                    packet = packet.frame(frame);
                }
                packet.send();
                let _ = attacker.next(SECOND / 50);
                if attacker.closed().is_some() {
                    break;
                }
            }
            attacker.expect_close(INTERNAL_ERROR);
            arena.memory_below(600_000);
        });
    }
}

/// Each stream within its limit, the sum above that of the connection (OpenSSL, CVE-2026-75804): by data, by the end of a stream, and by
/// the final size of a reset.
#[test]
fn the_sum_of_streams_above_the_connections_limit() {
    for (way, one_more) in (0..3).flat_map(|way| [(way, false), (way, true)]) {
        let transport = TransportConfig::default().stream_window(20_000).connection_window(1_000_000);
        under_attack("the sum of 100 streams", 4, of(transport).application(Application::Idle), |arena| {
            let mut attacker = confirmed(arena.client(1));
            // In one packet, since what was reset is permitted again as soon as the server says so.
            let mut packet = attacker.packet(Kind::OneRtt);
            for index in 0..50 {
                packet = match way {
                    0 => packet.frame(&stream(uni(index), 19_999, b"x", false)),
                    1 => packet.frame(&stream(uni(index), 20_000, b"", true)),
                    _ => packet.frame(&ResetStream { id: uni(index), code: code(0), final_size: 20_000 }),
                };
            }
            if one_more {
                packet.frame(&stream(uni(50), 0, b"x", false)).send();
                attacker.expect_close(FLOW_CONTROL_ERROR);
            } else {
                // Exactly a megabyte is still permitted.
                packet.send();
                attacker.expect_alive();
            }
            arena.memory_below(200_000);
        });
    }
}

/// A stream above its own limit, the connection's not being reached, at either end: by data, by its end, and by a reset.
#[test]
fn a_stream_above_its_own_limit() {
    fn attempt(attacker: &mut Attacker, id: StreamId, way: usize, end: u64) {
        match way {
            0 => send(attacker, &[&stream(id, end - 1, b"x", false)]),
            1 => send(attacker, &[&stream(id, end, b"", true)]),
            _ => send(attacker, &[&ResetStream { id, code: code(0), final_size: end }]),
        }
    }
    const LIMIT: u64 = 20_000;
    for way in 0..3 {
        let transport = TransportConfig::default().stream_window(LIMIT as u32).connection_window(1_000_000);
        under_attack("a stream above its limit", 15, of(transport).application(Application::Idle), |arena| {
            let mut attacker = confirmed(arena.client(1));
            attempt(&mut attacker, uni(0), way, LIMIT);
            attempt(&mut attacker, bi(0), way, LIMIT);
            attacker.expect_alive();
            attempt(&mut attacker, uni(1), way, LIMIT + 1);
            attacker.expect_close(FLOW_CONTROL_ERROR);
            arena.memory_below(100_000);
        });
        // A client takes 1.25 MB of a stream and ten of all together by default.
        let ended = client_under_attack("a stream above a client's limit", 16, move |mut server| {
            server.handshake(Stage::Confirmed);
            let stream = id(Side::Server, Direction::Uni, 0);
            attempt(&mut server, stream, way, 1_250_001);
            server.expect_close(FLOW_CONTROL_ERROR);
        });
        assert!(ended.is_some());
    }
}

/// The application keeps every piece it reads, of single bytes in packets of full length, by stream and by datagram at once (OpenSSL,
/// CVE-2026-54873): what it pins is bounded by the windows.
#[test]
fn small_pieces_that_the_application_keeps() {
    for (row, datagrams) in [("pieces of streams that are kept", false), ("pieces of streams and datagrams that are kept", true)] {
        let transport = TransportConfig::default().stream_window(100_000).connection_window(100_000).datagrams(true);
        under_attack(row, 5, of(transport).application(Application::Idle), |arena| {
            let mut attacker = confirmed(arena.client(1));
            send(&mut attacker, &[&stream(uni(0), 0, b"x", false)]);
            settle(&mut attacker);
            let server = arena.connections().remove(0);
            let mut input = server.accept_uni().expect("a stream");
            let mut kept = Vec::new();
            let mut read = 0;
            for offset in 1..20_000 {
                let datagram = Datagram { data: b"y", has_length: true };
                if datagrams {
                    send(&mut attacker, &[&stream(uni(0), offset, b"x", false), &datagram]);
                } else {
                    send(&mut attacker, &[&stream(uni(0), offset, b"x", false)]);
                }
                // Each is read before the next comes, so that they are not joined.
                weald_runtime::sleep(Duration::from_millis(11));
                while read < offset {
                    let piece = input.read_chunk(usize::MAX).expect("it arrives").expect("it goes on");
                    read += piece.len() as u64;
                    kept.push(piece);
                }
                while let Some(datagram) = weald_runtime::select! {
                    wait(server.receiving_datagram()) -> datagram => datagram.ok(),
                    default => None,
                } {
                    kept.push(datagram);
                }
                if offset % 50 == 0 {
                    settle(&mut attacker);
                }
            }
            assert!(kept.len() > 2_000, "{} pieces", kept.len());
            attacker.expect_alive();
            // 25 KB of slack for the stream and 128 KiB for datagrams, and 200 bytes for each piece itself.
            arena.heap_below(2_500_000);
        });
    }
}

/// Streams past the limit, by every frame that names one, of both directions (s2n-quic GHSA-475v); and the last permitted one.
#[test]
fn streams_past_the_limit() {
    fn attempt(attacker: &mut Attacker, way: usize, id: StreamId) {
        match way {
            0 => send(attacker, &[&stream(id, 0, b"x", false)]),
            1 => send(attacker, &[&stream(id, 0, b"", true)]),
            2 => send(attacker, &[&ResetStream { id, code: code(0), final_size: 0 }]),
            3 => send(attacker, &[&StreamDataBlocked { id, limit: 0 }]),
            4 => send(attacker, &[&StopSending { id, code: code(0) }]),
            _ => send(attacker, &[&MaxStreamData { id, limit: 1 }]),
        }
    }
    const LIMIT: u64 = 100;
    for direction in Direction::ALL {
        // On the peer's unidirectional streams this end does not send.
        let ways = if direction == Direction::Bi { 6 } else { 4 };
        for way in 0..ways {
            for past in [0, 1, 1 << 20, StreamId::MAX_STREAMS - 1 - LIMIT] {
                under_attack("a stream past the limit", 6, Setup::new(6).application(Application::Idle), move |arena| {
                    let mut attacker = confirmed(arena.client(1));
                    attempt(&mut attacker, way, id(Side::Client, direction, LIMIT - 1));
                    attacker.expect_alive();
                    attempt(&mut attacker, way, id(Side::Client, direction, LIMIT + past));
                    attacker.expect_close(STREAM_LIMIT_ERROR);
                    arena.memory_below(100_000);
                });
            }
            let ended = client_under_attack("a stream past the limit", 6, move |mut server| {
                server.handshake(Stage::Confirmed);
                attempt(&mut server, way, id(Side::Server, direction, LIMIT - 1));
                server.expect_alive();
                attempt(&mut server, way, id(Side::Server, direction, LIMIT));
                server.expect_close(STREAM_LIMIT_ERROR);
            });
            assert!(ended.is_some());
        }
    }
}

/// Streams one after another as fast as they are permitted, against a coroutine for each (CoreDNS, CVE-2025-47950): ended at once, and
/// reset at once. What is held does not grow with their number.
#[test]
fn a_flood_of_streams() {
    for (row, resets) in [("streams that end at once", false), ("streams that are reset at once", true)] {
        under_attack(row, 7, Setup::new(7), |arena| {
            let mut attacker = confirmed(arena.client(1));
            let (mut next, mut permitted) = (0, 100);
            // A server that permits no more would let it go on for ever.
            for _ in 0..1_000 {
                for _ in 0..50.min(permitted - next) {
                    if resets {
                        let reset = ResetStream { id: bi(next), code: code(0), final_size: 1 };
                        send(&mut attacker, &[&stream(bi(next), 0, b"x", false), &reset, &StopSending { id: bi(next), code: code(0) }]);
                    } else {
                        send(&mut attacker, &[&stream(bi(next), 0, b"x", true)]);
                    }
                    next += 1;
                }
                while let Some(seen) = attacker.next(SECOND / 20) {
                    for frame in seen.frames() {
                        if let Frame::MaxStreams(more) = frame {
                            permitted = permitted.max(more.limit);
                        }
                    }
                }
                assert_eq!(attacker.closed(), None);
            }
            assert!(next >= 25_000);
            arena.memory_below(150_000);
            arena.heap_below(4_000_000);
        });
    }
}

/// And streams that never end, each with a coroutine that waits for it: as many as are permitted at once, and no more.
#[test]
fn streams_that_never_end() {
    for (row, len) in [("streams that never go on", 1), ("streams that never begin", 0)] {
        under_attack(row, 17, Setup::new(17), |arena| {
            let mut attacker = confirmed(arena.client(1));
            let (mut next, mut permitted) = (0, 100);
            for _ in 0..50 {
                while next < permitted {
                    send(&mut attacker, &[&stream(bi(next), 0, &[7][..len], false)]);
                    next += 1;
                }
                while let Some(seen) = attacker.next(SECOND / 20) {
                    for frame in seen.frames() {
                        if let Frame::MaxStreams(more) = frame {
                            permitted = permitted.max(more.limit);
                        }
                    }
                }
                attacker.expect_alive();
            }
            assert_eq!(permitted, 100);
            arena.memory_below(150_000);
            arena.heap_below(8_000_000);
            send(&mut attacker, &[&stream(bi(permitted), 0, b"", false)]);
            attacker.expect_close(STREAM_LIMIT_ERROR);
        });
    }
}

/// Datagrams that nobody reads, of any length; and where none were permitted (neqo, quinn).
#[test]
fn a_flood_of_datagrams() {
    for len in [0, 1, 1_000] {
        under_attack(
            "datagrams that nobody reads",
            8,
            of(TransportConfig::default().datagrams(true)).application(Application::Idle),
            |arena| {
                let mut attacker = confirmed(arena.client(1));
                let data = vec![7; len];
                for round in 0..10_000 {
                    let mut packet = attacker.packet(Kind::OneRtt);
                    for _ in 0..(1_000 / (len + 4)).max(1) {
                        packet = packet.frame(&Datagram { data: &data, has_length: true });
                    }
                    packet.send();
                    if round % 100 == 0 {
                        settle(&mut attacker);
                    }
                }
                attacker.expect_alive();
                arena.memory_below(300_000);
                arena.heap_below(2_000_000);
            },
        );
    }
    // Two bytes of length from 64 on.
    for (permitted, len, refused) in
        [(None, 0, true), (None, 1_000, true), (Some(0), 0, true), (Some(100), 98, true), (Some(100), 97, false)]
    {
        let transport = match permitted {
            Some(bytes) => TransportConfig::default().datagrams(true).datagram_receive_buffer(bytes),
            None => TransportConfig::default(),
        };
        under_attack("datagrams that were not permitted", 9, of(transport), |arena| {
            let mut attacker = confirmed(arena.client(1));
            let data = vec![7; len];
            send(&mut attacker, &[&Datagram { data: &data, has_length: true }]);
            if refused {
                attacker.expect_close(PROTOCOL_VIOLATION);
            } else {
                attacker.expect_alive();
            }
        });
    }
    // Nor is one sent that the peer does not permit.
    for (limit, len, result) in [
        (None, 0, Err(SendDatagramError::Unsupported)),
        (Some(0), 0, Err(SendDatagramError::Unsupported)),
        (Some(1), 0, Err(SendDatagramError::Unsupported)),
        (Some(10), 9, Err(SendDatagramError::TooLarge { max: 8 })),
        (Some(10), 8, Ok(())),
    ] {
        under_attack("a peer that permits few datagrams", 14, Setup::new(14).application(Application::Idle), |arena| {
            let mut attacker = confirmed(arena.client(1).parameters(move |ids| {
                let mut out = parameters(&ids.source);
                if let Some(limit) = limit {
                    parameter(&mut out, 0x20, &[limit]);
                }
                out
            }));
            settle(&mut attacker);
            let server = arena.connections().remove(0);
            assert_eq!(server.send_datagram(vec![7; len]), result, "{limit:?}");
            attacker.expect_alive();
        });
    }
    let ended = client_under_attack("a datagram that was not permitted", 10, |mut server| {
        server.handshake(Stage::Confirmed);
        send(&mut server, &[&Datagram { data: b"", has_length: false }]);
        server.expect_close(PROTOCOL_VIOLATION);
    });
    assert!(ended.is_some());
}

/// Empty frames without end (h2; curl, CVE-2026-11352): on one stream, and at its known end. They cost nothing but their bytes.
#[test]
fn empty_frames_without_end() {
    for (row, fin) in [("empty frames within a stream", false), ("empty frames at its end", true)] {
        under_attack(row, 11, Setup::new(11), |arena| {
            let mut attacker = confirmed(arena.client(1));
            for round in 0..1_000 {
                let mut packet = attacker.packet(Kind::OneRtt);
                for _ in 0..300 {
                    packet = packet.frame(&stream(bi(0), 0, b"", fin));
                }
                packet.send();
                if round % 50 == 0 {
                    settle(&mut attacker);
                }
            }
            attacker.expect_alive();
            arena.memory_below(60_000);
            arena.heap_below(1_000_000);
        });
    }
}

/// Final sizes that move, and data behind them (RFC 9000 4.5), in each order.
#[test]
fn final_sizes_that_move() {
    let fin = |offset, data| stream(uni(0), offset, data, true);
    let reset = |final_size| ResetStream { id: uni(0), code: code(0), final_size };
    let more = |offset| stream(uni(0), offset, b"x", false);
    let cases: [[&dyn EncodeFrame; 2]; 8] = [
        [&fin(0, b"abc"), &more(3)],
        [&fin(0, b"abc"), &fin(4, b"")],
        [&fin(0, b"abc"), &fin(0, b"ab")],
        [&fin(5, b""), &reset(6)],
        [&reset(5), &reset(6)],
        [&reset(5), &more(5)],
        [&more(9), &fin(9, b"")],
        [&more(9), &reset(9)],
    ];
    for (case, [first, second]) in cases.into_iter().enumerate() {
        for apart in [false, true] {
            under_attack("a final size that moves", case as u64, Setup::new(1).application(Application::Idle), |arena| {
                let mut attacker = confirmed(arena.client(1));
                if apart {
                    send(&mut attacker, &[first]);
                    attacker.expect_alive();
                    send(&mut attacker, &[second]);
                } else {
                    send(&mut attacker, &[first, second]);
                }
                attacker.expect_close(FINAL_SIZE_ERROR);
            });
        }
    }
}

/// Frames of the wrong direction, and for streams of the other end that it never opened (RFC 9000 19), at both ends.
#[test]
fn frames_of_the_wrong_direction() {
    // For a server: its own streams, which it has not opened, and the client's, on which it does not send.
    fn attempt(attacker: &mut Attacker, victim: Side, case: usize) {
        let own = |direction| id(victim, direction, 0);
        let theirs = id(!victim, Direction::Uni, 0);
        match case {
            0 => send(attacker, &[&stream(own(Direction::Bi), 0, b"x", false)]),
            1 => send(attacker, &[&stream(own(Direction::Uni), 0, b"x", false)]),
            2 => send(attacker, &[&ResetStream { id: own(Direction::Uni), code: code(0), final_size: 0 }]),
            3 => send(attacker, &[&StreamDataBlocked { id: own(Direction::Uni), limit: 0 }]),
            4 => send(attacker, &[&StopSending { id: own(Direction::Bi), code: code(0) }]),
            5 => send(attacker, &[&StopSending { id: own(Direction::Uni), code: code(0) }]),
            6 => send(attacker, &[&MaxStreamData { id: own(Direction::Uni), limit: 9 }]),
            7 => send(attacker, &[&StopSending { id: theirs, code: code(0) }]),
            _ => send(attacker, &[&MaxStreamData { id: theirs, limit: 9 }]),
        }
        attacker.expect_close(STREAM_STATE_ERROR);
    }
    for case in 0..9 {
        under_attack("a frame of the wrong direction", case as u64, Setup::new(1), |arena| {
            attempt(&mut confirmed(arena.client(1)), Side::Server, case);
        });
        let ended = client_under_attack("a frame of the wrong direction", case as u64, move |mut server| {
            server.handshake(Stage::Confirmed);
            attempt(&mut server, Side::Client, case);
        });
        assert!(ended.is_some());
    }
}
