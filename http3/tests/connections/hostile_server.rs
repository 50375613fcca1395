//! Servers that break HTTP/3 against this client: what the caller is told, and the code that the server sees.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use weald_http3::{Client, Code, Config, Error};
use weald_quic::{Connection, RecvStream, SendStream, TransportConfig, WriteError};
use weald_runtime::{JoinHandle, sim};

use crate::common::*;

/// A server that accepts one connection and does what it likes with it.
fn raw_server<T: Send + 'static>(transport: TransportConfig, run: impl FnOnce(&Connection) -> T + Send + 'static) -> JoinHandle<T> {
    let endpoint = server_endpoint(transport);
    weald_runtime::spawn(move || {
        let connection = endpoint.accept().unwrap();
        let result = run(&connection);
        endpoint.wait_idle();
        result
    })
}

fn uni(connection: &Connection, bytes: &[u8]) -> SendStream {
    let mut stream = connection.open_uni().unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

/// Answers one request with `bytes`. The control stream comes first; give back what must stay open.
fn answer(connection: &Connection, bytes: &[u8], fin: bool) -> (SendStream, SendStream, RecvStream) {
    let control = uni(connection, &control());
    let (mut send, receive) = connection.accept_bi().unwrap();
    let _ = send.write_all(bytes);
    if fin {
        send.finish().unwrap();
    }
    (control, send, receive)
}

fn client() -> (Client, Peer) {
    let peer = connect();
    (Client::new(peer.connection.clone(), Config::default()).unwrap(), peer)
}

/// The whole answer to one request.
fn fetch(client: &Client) -> Result<Vec<u8>, Error> {
    client.get(uri("/"))?.body_mut().read_to_end(100_000)
}

fn code_of(error: &Error) -> Code {
    match error {
        Error::Peer { code, .. } => *code,
        other => panic!("another error: {other}"),
    }
}

#[test]
fn wrong_answers_close_the_connection() {
    let ok = || frame(HEADERS, OK);
    let trailers = || frame(HEADERS, &with_field(b"\0\0", "x", "y"));
    let cases: Vec<(&str, u64, Vec<u8>, bool)> = vec![
        ("DATA before HEADERS", 0x105, frame(DATA, b"x"), false),
        ("HEADERS after trailers", 0x105, [ok(), trailers(), trailers()].concat(), false),
        ("SETTINGS on a request stream", 0x105, frame(SETTINGS, &[]), false),
        ("GOAWAY on a request stream", 0x105, [ok(), frame(GOAWAY, &[0])].concat(), false),
        // RFC 9114 section 7.2.5: above every push ID that was allowed.
        ("PUSH_PROMISE", 0x108, frame(PUSH_PROMISE, b"\0\0\0"), false),
        ("PUSH_PROMISE in a body", 0x108, [ok(), frame(PUSH_PROMISE, b"\0\0\0")].concat(), false),
        ("a frame of HTTP/2", 0x105, frame(0x06, b"x"), false),
        ("a cut frame", 0x106, vec![0x01], true),
        ("a cut DATA frame", 0x106, [ok(), vec![0, 5, b'x']].concat(), true),
        ("a dynamic reference", 0x200, frame(HEADERS, b"\0\0\x80"), false),
    ];
    for (name, code, bytes, fin) in cases {
        sim::run(1, || {
            let server = raw_server(TransportConfig::default(), move |connection| {
                let _open = answer(connection, &bytes, fin);
                close_code(connection)
            });
            let (client, _peer) = client();
            let error = fetch(&client).unwrap_err();
            assert_eq!(code_of(&error).to_varint().as_u64(), code, "{name}: {error}");
            assert_eq!(server.join().unwrap(), code, "{name}");
            // And what comes later is told the same, not that "the connection is closed".
            assert_eq!(code_of(&fetch(&client).unwrap_err()), code_of(&error), "{name}");
        });
    }
}

#[test]
fn wrong_streams_close_the_connection() {
    let cases: Vec<(&str, u64, Vec<Vec<u8>>)> = vec![
        ("no SETTINGS", 0x10a, vec![[varint(0), frame(GOAWAY, &[0])].concat()]),
        ("SETTINGS twice", 0x105, vec![[control(), frame(SETTINGS, &[])].concat()]),
        ("MAX_PUSH_ID from a server", 0x105, vec![[control(), frame(MAX_PUSH_ID, &[0])].concat()]),
        ("CANCEL_PUSH", 0x108, vec![[control(), frame(CANCEL_PUSH, &[0])].concat()]),
        ("GOAWAY of no request", 0x108, vec![[control(), frame(GOAWAY, &[3])].concat()]),
        ("a GOAWAY that rises", 0x108, vec![[control(), frame(GOAWAY, &[0]), frame(GOAWAY, &[4])].concat()]),
        ("a second control stream", 0x103, vec![control(), control()]),
        ("a push stream", 0x108, vec![control(), vec![1, 0]]),
        ("an insertion", 0x201, vec![vec![2, 0x41, b'a', 0]]),
        ("an acknowledgment", 0x202, vec![vec![3, 0x80]]),
    ];
    for (name, code, streams) in cases {
        sim::run(2, || {
            let server = raw_server(TransportConfig::default(), move |connection| {
                let _open: Vec<_> = streams.iter().map(|bytes| uni(connection, bytes)).collect();
                close_code(connection)
            });
            let (client, _peer) = client();
            assert_eq!(code_of(&fetch(&client).unwrap_err()).to_varint().as_u64(), code, "{name}");
            assert_eq!(server.join().unwrap(), code, "{name}");
        });
    }
}

/// RFC 9114 section 6.1.
#[test]
fn a_server_opens_no_bidirectional_streams() {
    sim::run(3, || {
        let server = raw_server(TransportConfig::default(), |connection| {
            let (mut send, _receive) = connection.open_bi().unwrap();
            send.write_all(b"x").unwrap();
            close_code(connection)
        });
        let (_client, _peer) = client();
        assert_eq!(server.join().unwrap(), 0x103);
    });
}

/// RFC 9114 section 4.1.2.
#[test]
fn malformed_answers_end_their_stream_alone() {
    let headers = |section: &[u8]| frame(HEADERS, section);
    let cases: Vec<(&str, u64, Vec<u8>, bool)> = vec![
        ("no response", 0x10e, vec![], true),
        ("no status", 0x10e, headers(b"\0\0"), false),
        ("the fields of a request", 0x10e, headers(GET), false),
        ("status 101", 0x10e, headers(b"\0\0\x5f\x09\x03101"), false),
        ("an interim response and no other", 0x10e, headers(b"\0\0\xd8"), true),
        ("less than was promised", 0x10e, [headers(&with_length(OK, "5")), frame(DATA, b"1234")].concat(), true),
        ("more than was promised", 0x10e, [headers(&with_length(OK, "3")), frame(DATA, b"1234")].concat(), false),
        ("upper case", 0x10e, headers(&with_field(OK, "X-a", "b")), false),
        ("a line break", 0x10e, headers(&with_field(OK, "x", "a\nb")), false),
        ("a HEADERS frame of 2^60", 0x107, [varint(HEADERS), varint(1 << 60)].concat(), false),
        ("a section above the limit", 0x107, headers(&[OK, &[0xdf; 10_000][..]].concat()), false),
    ];
    for (name, code, bytes, fin) in cases {
        sim::run(4, || {
            let server = raw_server(TransportConfig::default(), move |connection| {
                let (_control, mut send, _receive) = answer(connection, &bytes, fin);
                let stopped = match send.stopped() {
                    Ok(stopped) => stopped.map(|code| code.as_u64()),
                    Err(error) => panic!("{error}"),
                };
                // The connection goes on.
                let (mut send, _receive) = connection.accept_bi().unwrap();
                send.write_all(&frame(HEADERS, OK)).unwrap();
                send.finish().unwrap();
                connection.closed();
                stopped
            });
            let (client, _peer) = client();
            let error = fetch(&client).unwrap_err();
            assert_eq!(code_of(&error).to_varint().as_u64(), code, "{name}: {error}");
            assert_eq!(fetch(&client).unwrap(), b"", "{name}");
            client.close();
            let stopped = server.join().unwrap();
            assert_eq!(stopped, if fin { None } else { Some(code) }, "{name}");
        });
    }
}

/// RFC 9114 section 4.1: interim responses, as many as there are, and what is unknown are passed over.
#[test]
fn interim_responses_and_unknown_frames_are_passed_over() {
    sim::run(5, || {
        let server = raw_server(TransportConfig::default(), |connection| {
            let grease = || frame(GREASE, b"grease");
            let early = || [frame(HEADERS, b"\0\0\xd8"), grease()].concat();
            let bytes = [early().repeat(1000), frame(HEADERS, OK), grease(), frame(DATA, b"body"), grease()].concat();
            let _open = answer(connection, &bytes, true);
            connection.closed();
        });
        let (client, _peer) = client();
        assert_eq!(fetch(&client).unwrap(), b"body");
        client.close();
        server.join().unwrap();
    });
}

/// RFC 9114 section 5.2.
#[test]
fn after_a_goaway_no_request_is_made() {
    sim::run(6, || {
        let transport = TransportConfig::default().max_streams_bi(2);
        let server = raw_server(transport, |connection| {
            let mut control = uni(connection, &control());
            let (mut first, _first) = connection.accept_bi().unwrap();
            let (mut second, _second) = connection.accept_bi().unwrap();
            control.write_all(&frame(GOAWAY, &[4])).unwrap();
            weald_runtime::sleep(Duration::from_millis(100));
            // The first request is served; the second is left behind.
            first.write_all(&[frame(HEADERS, OK), frame(DATA, b"served")].concat()).unwrap();
            first.finish().unwrap();
            second.reset(0x10bu32.into()).unwrap();
            drop((_first, _second));
            let third = weald_runtime::spawn({
                let connection = connection.clone();
                move || connection.accept_bi().map(|(_, mut receive)| receive.read_to_end(1000))
            });
            connection.closed();
            third.join().unwrap()
        });
        let (client, _peer) = client();
        let spawn_fetch = || {
            let client = client.clone();
            let fetching = weald_runtime::spawn(move || fetch(&client));
            weald_runtime::sleep(Duration::from_millis(1));
            fetching
        };
        // The third waits until the server allows one more stream, which it does only after the GOAWAY.
        let (first, second, third) = (spawn_fetch(), spawn_fetch(), spawn_fetch());
        assert_eq!(first.join().unwrap().unwrap(), b"served");
        assert!(matches!(second.join().unwrap(), Err(Error::GoingAway)));
        assert!(matches!(third.join().unwrap(), Err(Error::GoingAway)));
        assert!(matches!(fetch(&client), Err(Error::GoingAway)));
        weald_runtime::sleep(Duration::from_secs(1));
        client.close();
        // Of the third, the server saw nothing but a reset at most.
        let third = server.join().unwrap();
        assert!(!matches!(third, Ok(Ok(_))), "a request was made after the GOAWAY: {third:?}");
    });
}

#[test]
fn a_server_may_stop_a_request_that_it_answered() {
    sim::run(7, || {
        let server = raw_server(TransportConfig::default(), |connection| {
            let _control = uni(connection, &control());
            let (mut send, mut receive) = connection.accept_bi().unwrap();
            receive.read_chunk(100).unwrap();
            receive.stop(Code::NO_ERROR.to_varint()).unwrap();
            weald_runtime::sleep(Duration::from_secs(1));
            send.write_all(&[frame(HEADERS, OK), frame(DATA, b"enough")].concat()).unwrap();
            send.finish().unwrap();
            connection.closed();
        });
        let (client, _peer) = client();
        let request = Request::post(uri("/")).body(Bytes::from(vec![0; 10_000_000])).unwrap();
        assert_eq!(client.request(request).unwrap().body_mut().read_to_end(100).unwrap(), b"enough");
        client.close();
        server.join().unwrap();
    });
}

/// A response that nobody reads to its end is cancelled with HTTP/3's own code.
#[test]
fn a_dropped_response_is_cancelled() {
    sim::run(8, || {
        let server = raw_server(TransportConfig::default(), |connection| {
            let (_control, mut send, _receive) = answer(connection, &frame(HEADERS, OK), false);
            let error = loop {
                if let Err(error) = send.write_all(&frame(DATA, &[0; 1000])) {
                    break error;
                }
            };
            connection.closed();
            error
        });
        let (client, _peer) = client();
        drop(client.get(uri("/")).unwrap());
        weald_runtime::sleep(Duration::from_secs(1));
        client.close();
        assert!(matches!(server.join().unwrap(), WriteError::Stopped(code) if code == Code::REQUEST_CANCELLED.to_varint()));
    });
}
