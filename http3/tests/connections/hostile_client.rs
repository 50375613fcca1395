//! Clients that break HTTP/3 against this server: the code that each of them sees, and that nobody else is harmed.

use std::time::Duration;

use http::Response;
use weald_http3::{Config, Error};
use weald_quic::{ReadError, RecvStream, SendStream, WriteError};
use weald_runtime::{channel, sim};

use crate::common::*;

/// What the client writes on one stream, and whether it ends there.
#[derive(Clone)]
enum Written {
    Request(Vec<u8>),
    RequestFin(Vec<u8>),
    Uni(Vec<u8>),
    UniFin(Vec<u8>),
    UniReset(Vec<u8>),
}

use Written::{Request, RequestFin, Uni, UniFin, UniReset};

/// Streams that must stay open while the server looks at them.
type Open = (Vec<SendStream>, Vec<RecvStream>);

fn write(peer: &Peer, script: &[Written]) -> Open {
    let (mut sending, mut receiving) = (Vec::new(), Vec::new());
    for written in script {
        match written {
            Request(bytes) | RequestFin(bytes) => {
                let (mut send, receive) = peer.connection.open_bi().unwrap();
                // The server may have had enough before the end.
                let _ = send.write_all(bytes);
                if matches!(written, RequestFin(_)) {
                    let _ = send.finish();
                }
                sending.push(send);
                receiving.push(receive);
            }
            Uni(bytes) | UniFin(bytes) | UniReset(bytes) => {
                let mut send = peer.connection.open_uni().unwrap();
                let _ = send.write_all(bytes);
                match written {
                    UniFin(_) => send.finish().unwrap(),
                    UniReset(_) => {
                        weald_runtime::sleep(Duration::from_millis(100));
                        send.reset(9u32.into()).unwrap();
                    }
                    _ => {}
                }
                sending.push(send);
            }
        }
    }
    (sending, receiving)
}

/// Runs each script against a server of its own. A connection that was there before, and one that comes after, must work.
fn each_closes_the_connection(cases: &[(&str, u64, Vec<Written>)]) {
    for (name, code, script) in cases {
        sim::run(1, || {
            let _server = serve(Config::default(), echo);
            let witness = connect();
            let client = weald_http3::Client::new(witness.connection.clone(), Config::default()).unwrap();
            let peer = connect();
            let _open = write(&peer, script);
            assert_eq!(close_code(&peer.connection), *code, "{name}");
            let answer = client.get(uri("/")).unwrap().body_mut().read_to_end(10).unwrap();
            assert!(answer.is_empty() && works(), "{name}: others were harmed");
        });
    }
}

/// RFC 9114 sections 4.1, 7.1, 7.2 and 9.
#[test]
fn frames_where_they_may_not_stand() {
    let get = || frame(HEADERS, GET);
    let trailers = || frame(HEADERS, &with_field(b"\0\0", "x", "y"));
    let request = |parts: &[Vec<u8>]| vec![Uni(control()), Request(parts.concat())];
    let mut cases = vec![
        ("DATA before HEADERS", 0x105, request(&[frame(DATA, b"x")])),
        ("empty DATA before HEADERS", 0x105, request(&[frame(DATA, b"")])),
        ("HEADERS after trailers", 0x105, request(&[get(), trailers(), trailers()])),
        ("DATA after trailers", 0x105, request(&[get(), frame(DATA, b"x"), trailers(), frame(DATA, b"x")])),
        ("SETTINGS on a request stream", 0x105, request(&[frame(SETTINGS, &[])])),
        ("SETTINGS after a request", 0x105, request(&[get(), frame(SETTINGS, &[])])),
        ("GOAWAY on a request stream", 0x105, request(&[get(), frame(GOAWAY, &[0])])),
        ("CANCEL_PUSH on a request stream", 0x105, request(&[frame(CANCEL_PUSH, &[0])])),
        ("MAX_PUSH_ID on a request stream", 0x105, request(&[frame(MAX_PUSH_ID, &[0])])),
        ("PUSH_PROMISE from a client", 0x105, request(&[get(), frame(PUSH_PROMISE, b"\0\0\0")])),
        ("a cut frame header", 0x106, vec![RequestFin([get(), vec![0x40]].concat())]),
        ("a frame without a length", 0x106, vec![RequestFin(vec![0x01])]),
        ("a cut HEADERS frame", 0x106, vec![RequestFin(vec![0x01, 0x20, 0, 0])]),
        ("a cut DATA frame", 0x106, vec![RequestFin([get(), vec![0x00, 0x05, b'x']].concat())]),
        ("a cut reserved frame", 0x106, vec![RequestFin([varint(GREASE), vec![0x05, b'x']].concat())]),
    ];
    // RFC 9114 section 7.2.8.
    for http2 in [0x02, 0x06, 0x08, 0x09] {
        cases.push(("a frame of HTTP/2", 0x105, request(&[frame(http2, b"x")])));
        cases.push(("a frame of HTTP/2 on the control stream", 0x105, vec![Uni([control(), frame(http2, b"x")].concat())]));
    }
    each_closes_the_connection(&cases);
}

/// RFC 9114 sections 5.2, 6.2 and 7.2.
#[test]
fn wrong_unidirectional_streams() {
    let control_with = |bytes: Vec<u8>| vec![Uni([control(), bytes].concat())];
    let many_settings: Vec<u8> = (100..200).flat_map(|n| [varint(n), varint(0)].concat()).collect();
    each_closes_the_connection(&[
        ("no SETTINGS", 0x10a, vec![Uni([varint(0), frame(GOAWAY, &[0])].concat())]),
        ("a reserved frame before SETTINGS", 0x10a, vec![Uni([varint(0), frame(GREASE, &[])].concat())]),
        ("SETTINGS twice", 0x105, control_with(frame(SETTINGS, &[]))),
        ("a setting twice", 0x109, vec![Uni([varint(0), frame(SETTINGS, &[6, 1, 6, 1])].concat())]),
        ("a setting of HTTP/2", 0x109, vec![Uni([varint(0), frame(SETTINGS, &[2, 1])].concat())]),
        ("a cut setting", 0x106, vec![Uni([varint(0), frame(SETTINGS, &[6])].concat())]),
        ("too many settings", 0x107, vec![Uni([varint(0), frame(SETTINGS, &many_settings)].concat())]),
        ("a SETTINGS frame of 2^60", 0x107, vec![Uni([varint(0), varint(SETTINGS), varint(1 << 60)].concat())]),
        ("DATA on the control stream", 0x105, control_with(frame(DATA, b"x"))),
        ("HEADERS on the control stream", 0x105, control_with(frame(HEADERS, GET))),
        ("PUSH_PROMISE on the control stream", 0x105, control_with(frame(PUSH_PROMISE, b"\0\0\0"))),
        ("GOAWAY of no integer", 0x106, control_with(frame(GOAWAY, &[]))),
        ("GOAWAY of too much", 0x106, control_with(frame(GOAWAY, &[0, 0]))),
        ("a GOAWAY that rises", 0x108, control_with([frame(GOAWAY, &[4]), frame(GOAWAY, &[8])].concat())),
        ("CANCEL_PUSH of no push", 0x108, control_with(frame(CANCEL_PUSH, &[0]))),
        ("CANCEL_PUSH of no integer", 0x106, control_with(frame(CANCEL_PUSH, &[0x40]))),
        ("MAX_PUSH_ID that falls", 0x108, control_with([frame(MAX_PUSH_ID, &[9]), frame(MAX_PUSH_ID, &[8])].concat())),
        ("MAX_PUSH_ID of no integer", 0x106, control_with(frame(MAX_PUSH_ID, &[]))),
        ("the control stream ends", 0x104, vec![UniFin(control())]),
        ("the control stream ends at once", 0x104, vec![UniFin(varint(0))]),
        ("the control stream is reset", 0x104, vec![UniReset(control())]),
        ("a second control stream", 0x103, vec![Uni(control()), Uni(control())]),
        ("a push stream", 0x103, vec![Uni(control()), Uni(vec![1, 0])]),
        ("a second encoder stream", 0x103, vec![Uni(vec![2]), Uni(vec![2])]),
        ("a second decoder stream", 0x103, vec![Uni(vec![3]), Uni(vec![3])]),
        // An encoder stream that ended does not make room for another (nginx CVE-2026-42530).
        ("the encoder stream ends, and a new one", 0x104, vec![UniFin(vec![2]), Uni(vec![2])]),
        ("the decoder stream ends", 0x104, vec![UniFin(vec![3])]),
        ("the decoder stream is reset", 0x104, vec![UniReset(vec![3])]),
    ]);
}

/// RFC 9204 sections 2.2, 4.1.1, 4.3 and 4.4, with a table of capacity 0.
#[test]
fn wrong_qpack() {
    let request = |section: &[u8]| vec![Request(frame(HEADERS, section))];
    let endless = |first: u8| [vec![first], vec![0x80; 64]].concat();
    each_closes_the_connection(&[
        ("a Required Insert Count", 0x200, request(b"\x02\0\x80")),
        ("a dynamic reference", 0x200, request(b"\0\0\x80")),
        ("a post-base reference", 0x200, request(b"\0\0\x10")),
        ("a dynamic name reference", 0x200, request(b"\0\0\x40\0")),
        ("past the static table", 0x200, request(b"\0\0\xff\x24")),
        ("a cut section", 0x200, request(b"\0\0\x51\x0b/in")),
        ("a literal of 2 GiB", 0x200, request(b"\0\0\x51\x7f\x81\xff\xff\xff\x07")),
        ("an endless integer", 0x200, request(&[&[0, 0][..], &endless(0xff)].concat())),
        ("an insertion by name", 0x201, vec![Uni(vec![2, 0x41, b'a', 0])]),
        ("an insertion by reference", 0x201, vec![Uni(vec![2, 0xc0, 0])]),
        ("a duplication", 0x201, vec![Uni(vec![2, 0x00])]),
        ("a capacity", 0x201, vec![Uni(vec![2, 0x21])]),
        ("an endless capacity", 0x201, vec![Uni([vec![2], endless(0x3f)].concat())]),
        ("an acknowledgment", 0x202, vec![Uni(vec![3, 0x80])]),
        ("an increment", 0x202, vec![Uni(vec![3, 0x01])]),
        ("an endless increment", 0x202, vec![Uni([vec![3], endless(0x3f)].concat())]),
        ("an endless cancellation", 0x202, vec![Uni([vec![3], endless(0x7f)].concat())]),
    ]);
}

/// The code with which the server reset its half, and the one with which it stopped the client's, if it did.
fn stream_codes(send: &mut SendStream, receive: &mut RecvStream) -> (u64, Option<u64>) {
    let reset = match receive.read_to_end(1 << 20) {
        Err(weald_quic::ReadToEndError::Read(ReadError::Reset(code))) => code.as_u64(),
        other => panic!("no reset: {other:?}"),
    };
    let stopped = match send.write_all(b"\x21\0") {
        Err(WriteError::Stopped(code)) => Some(code.as_u64()),
        _ => None,
    };
    (reset, stopped)
}

/// RFC 9114 section 4.1.2: a malformed message ends its own stream alone.
#[test]
fn malformed_requests_end_their_stream_alone() {
    let headers = |section: Vec<u8>| frame(HEADERS, &section);
    let promised = |length: &str, body: &[u8]| [headers(with_length(GET, length)), frame(DATA, body)].concat();
    let cases: Vec<(&str, u64, Vec<u8>, bool)> = vec![
        ("no request", 0x10d, vec![], true),
        ("only a reserved frame", 0x10d, frame(GREASE, b"x"), true),
        ("no pseudo-header fields", 0x10e, headers(b"\0\0".to_vec()), false),
        ("upper case", 0x10e, headers(with_field(GET, "X-a", "b")), false),
        ("a line break in a value", 0x10e, headers(with_field(GET, "x", "a\r\nb: c")), false),
        ("a NUL in a value", 0x10e, headers(with_field(GET, "x", "a\0b")), false),
        ("a colon in a name", 0x10e, headers(with_field(GET, "x:y", "b")), false),
        ("no name", 0x10e, headers(with_field(GET, "", "b")), false),
        ("a late pseudo-header field", 0x10e, headers([&with_field(GET, "x", "y")[..], &[0xc1]].concat()), false),
        ("two lengths", 0x10e, headers(with_length(&with_length(GET, "1"), "2")), false),
        ("a length that is no number", 0x10e, headers(with_length(GET, "+1")), false),
        ("less than was promised", 0x10e, promised("5", b"1234"), true),
        ("no body at all", 0x10e, headers(with_length(GET, "5")), true),
        ("more than was promised", 0x10e, promised("3", b"1234"), false),
        ("a HEADERS frame of 2^60", 0x107, [varint(HEADERS), varint(1 << 60)].concat(), false),
        ("a section above the limit", 0x107, headers([GET, &[0xc1u8; 70_000][..]].concat()), false),
        ("10,000 lines in few bytes", 0x107, headers([GET, &[0xdf; 10_000][..]].concat()), false),
        ("trailers with a pseudo-header field", 0x10e, [headers(GET.to_vec()), headers(OK.to_vec())].concat(), false),
        ("trailers above the limit", 0x107, [headers(GET.to_vec()), headers([&[0, 0][..], &[0xdf; 10_000][..]].concat())].concat(), false),
    ];
    sim::run(2, || {
        let _server = serve(Config::default(), |mut request, responder| {
            let body = request.body_mut().read_to_end(100)?;
            responder.send_with_body(Response::new(()), body)
        });
        let peer = connect();
        for (name, code, bytes, fin) in cases {
            let (mut send, mut receive) = peer.connection.open_bi().unwrap();
            let _ = send.write_all(&bytes);
            if fin {
                send.finish().unwrap();
            }
            let (reset, stopped) = stream_codes(&mut send, &mut receive);
            assert_eq!(reset, code, "{name}");
            assert!(fin || stopped == Some(code), "{name}: {stopped:?}");
            // The same connection goes on.
            let (mut send, mut receive) = peer.connection.open_bi().unwrap();
            send.write_all(&frame(HEADERS, GET)).unwrap();
            send.finish().unwrap();
            assert!(receive.read_to_end(1000).unwrap().starts_with(&[HEADERS as u8]), "after {name}");
        }
    });
}

/// RFC 9114 sections 6.2 and 9: what is unknown is ignored, wherever it stands; and so are streams that end before their type.
#[test]
fn unknown_types_are_ignored() {
    sim::run(3, || {
        let _server = serve(Config::default(), echo);
        let peer = connect();
        let grease = || frame(GREASE, &[7; 3000]);
        let (mut open, _) = write(
            &peer,
            &[
                Uni([control(), grease(), frame(MAX_PUSH_ID, &[3]), frame(GOAWAY, &[0]), frame(GOAWAY, &[0])].concat()),
                UniFin(vec![]),
                UniFin(vec![0x40]),
                UniReset(vec![]),
                Uni(vec![2, 0x20]),
                Uni(vec![3, 0x44]),
                Uni([varint(0x54), vec![1; 100]].concat()),
            ],
        );
        let (mut send, mut receive) = peer.connection.open_bi().unwrap();
        let message =
            [grease(), frame(HEADERS, GET), grease(), frame(DATA, b"bo"), frame(DATA, b""), grease(), frame(DATA, b"dy"), grease()];
        send.write_all(&message.concat()).unwrap();
        send.write_all(&[frame(HEADERS, &with_field(b"\0\0", "x", "y")), grease()].concat()).unwrap();
        send.finish().unwrap();
        let answer = receive.read_to_end(1000).unwrap();
        assert!(answer.ends_with(&[frame(DATA, b"bo"), frame(DATA, b"dy")].concat()), "{answer:?}");
        // RFC 9114 section 6.2: the unknown stream is refused, nothing more.
        let unknown = open.last_mut().unwrap();
        weald_runtime::sleep(Duration::from_secs(1));
        assert!(matches!(unknown.write_all(b"x"), Err(WriteError::Stopped(code)) if code.as_u64() == 0x103));
        assert!(peer.connection.close_reason().is_none());
    });
}

#[test]
fn bytes_that_trickle_are_understood() {
    sim::run(4, || {
        let _server = serve(Config::default(), echo);
        let peer = connect();
        let _control = write(&peer, &[Uni(control())]);
        let (mut send, mut receive) = peer.connection.open_bi().unwrap();
        // Every integer in its longest form, one byte a packet.
        let long = |value: u64| (value | 0xc000_0000_0000_0000).to_be_bytes().to_vec();
        let message =
            [long(GREASE), long(1), vec![7], long(HEADERS), long(GET.len() as u64), GET.to_vec(), long(DATA), long(2), b"ab".to_vec()];
        for byte in message.concat() {
            send.write_all(&[byte]).unwrap();
            weald_runtime::sleep(Duration::from_millis(50));
        }
        send.finish().unwrap();
        assert!(receive.read_to_end(1000).unwrap().ends_with(&[frame(DATA, b"a"), frame(DATA, b"b")].concat()));
    });
}

/// A frame that never ends: nothing of it is kept, and others are served meanwhile.
#[test]
fn frames_of_2_to_the_60_bytes_cost_nothing() {
    sim::run(5, || {
        let server = serve(Config::default(), echo);
        let peer = connect();
        let _control = write(&peer, &[Uni([control(), varint(GREASE), varint(1 << 60)].concat())]);
        let (mut send, _receive) = peer.connection.open_bi().unwrap();
        send.write_all(&[varint(GREASE), varint(1 << 60)].concat()).unwrap();
        for _ in 0..200 {
            send.write_all(&[7; 100_000]).unwrap();
        }
        assert!(works());
        assert!(peer.connection.close_reason().is_none());
        assert_eq!(server.open_connections(), 2);
    });
}

/// Empty frames without end (attack 32), and instructions that do nothing: the worker stays free for others.
#[test]
fn floods_of_empty_frames_starve_nobody() {
    sim::run(6, || {
        let _server = serve(Config::default(), echo);
        let peer = connect();
        let flood = |bytes: Vec<u8>, mut send: SendStream| {
            peer.connection.spawn(move || {
                for _ in 0..100 {
                    if send.write_all(&bytes).is_err() {
                        return;
                    }
                }
                weald_runtime::sleep(Duration::from_secs(5));
            })
        };
        let mut control_stream = peer.connection.open_uni().unwrap();
        control_stream.write_all(&control()).unwrap();
        let (mut send, _receive) = peer.connection.open_bi().unwrap();
        send.write_all(&frame(HEADERS, GET)).unwrap();
        let floods = [
            flood(frame(DATA, b"").repeat(10_000), send),
            flood(frame(GOAWAY, &[0]).repeat(10_000), control_stream),
            flood([vec![2], vec![0x20; 20_000]].concat(), peer.connection.open_uni().unwrap()),
        ];
        for _ in 0..10 {
            assert!(works());
        }
        for flood in floods {
            flood.join().unwrap();
        }
    });
}

/// A body of empty frames that lies in memory whole never waits, and lets others have their turn all the same.
#[test]
fn reading_empty_frames_gives_way() {
    sim::run(11, || {
        let (report, reports) = channel::unbounded();
        let _server = serve(Config::default(), move |mut request, responder| {
            // Until all of the body is here.
            weald_runtime::sleep(Duration::from_secs(5));
            let other = report.clone();
            drop(weald_runtime::spawn_local(move || other.send("another coroutine").unwrap()));
            assert!(request.body_mut().read_to_end(0)?.is_empty());
            report.send("the body").unwrap();
            responder.send_with_body(Response::new(()), "")
        });
        let peer = connect();
        let (mut send, _receive) = peer.connection.open_bi().unwrap();
        send.write_all(&[frame(HEADERS, GET), frame(DATA, b"").repeat(10_000)].concat()).unwrap();
        send.finish().unwrap();
        assert_eq!([reports.recv().unwrap(), reports.recv().unwrap()], ["another coroutine", "the body"]);
    });
}

/// Rapid reset (attack 60): requests that are cancelled at once, before and after their header section.
#[test]
fn rapid_resets_leave_nothing_behind() {
    sim::run(7, || {
        let (report, reports) = channel::unbounded();
        let _server = serve(Config::default(), move |request, responder| {
            report.send(()).unwrap();
            echo(request, responder)
        });
        let peer = connect();
        for turn in 0..2000 {
            let (mut send, mut receive) = peer.connection.open_bi().unwrap();
            send.write_all(if turn % 2 == 0 { &[HEADERS as u8] } else { b"\x01\x0c\0\0\xd1\xd7\xc1\x50\x04host" }).unwrap();
            if turn % 3 == 0 {
                receive.stop(0x10cu32.into()).unwrap();
            }
            send.reset(0x10cu32.into()).unwrap();
        }
        assert!(peer.connection.close_reason().is_none());
        assert!(works());
        drop(peer);
        // Handlers that began have ended: nobody holds the report's sender but the server.
        weald_runtime::sleep(Duration::from_secs(1));
        assert!(reports.try_iter().count() <= 1001);
    });
}

/// Streams that say nothing, or next to nothing (attack 61): as many as the transport allows, and no harm to others.
#[test]
fn silent_streams_harm_nobody() {
    sim::run(10, || {
        let server = serve(Config::default(), echo);
        let peer = connect();
        let mut open = Vec::new();
        for n in 0..100u8 {
            let (mut send, _receive) = peer.connection.open_bi().unwrap();
            send.write_all(&[HEADERS as u8, 0x0c][..usize::from(n % 3)]).unwrap();
            open.push(send);
            let mut send = peer.connection.open_uni().unwrap();
            send.write_all(&[0x40][..usize::from(n % 2)]).unwrap();
            open.push(send);
        }
        assert!(works());
        assert!(peer.connection.close_reason().is_none());
        // They end with their connection.
        peer.connection.close(256u32.into(), b"");
        weald_runtime::sleep(Duration::from_secs(60));
        assert_eq!(server.open_connections(), 0);
    });
}

/// RFC 9114 section 4.1.1: a request that was cancelled before it was one is answered by a reset, not by an empty stream.
#[test]
fn a_cancelled_request_is_rejected() {
    sim::run(8, || {
        let _server = serve(Config::default(), echo);
        let peer = connect();
        let (mut send, mut receive) = peer.connection.open_bi().unwrap();
        send.write_all(&[HEADERS as u8, 0x20, 0]).unwrap();
        weald_runtime::sleep(Duration::from_millis(100));
        send.reset(0x10cu32.into()).unwrap();
        assert!(matches!(receive.read_chunk(9), Err(ReadError::Reset(code)) if code.as_u64() == 0x10b));
    });
}

/// What the handler is told of a peer that breaks the connection under it.
#[test]
fn a_handler_learns_why_its_connection_ended() {
    sim::run(9, || {
        let (report, reports) = channel::unbounded();
        let _server = serve(Config::default(), move |mut request, _| {
            report.send(request.body_mut().read_to_end(100)).unwrap();
            Ok(())
        });
        let peer = connect();
        let _open = write(&peer, &[Request(frame(HEADERS, GET))]);
        weald_runtime::sleep(Duration::from_millis(100));
        let _wrong = write(&peer, &[Uni(vec![1])]);
        let error: Error = reports.recv().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the peer sent a push stream opened by the client (H3_STREAM_CREATION_ERROR)");
    });
}
