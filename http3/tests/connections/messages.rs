//! Requests and responses between this client and this server, in a simulation: what a handler and a caller see, whatever the other
//! does.

use std::io::{Read, Write};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use weald_http3::{Client, Code, Config, Error, server};
use weald_quic::{ConnectionError, TransportConfig};
use weald_runtime::channel;
use weald_runtime::sim::{self, LinkConfig, NetworkConfig, Simulation};

use crate::common::*;

const MEGABYTE: usize = 1_000_000;
/// Longer than what was written takes to the other end; a reset drops what is still on its way.
const ARRIVAL: Duration = Duration::from_millis(100);

fn content(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(length as u64).fill(&mut bytes);
    bytes
}

fn client() -> (Client, Peer) {
    let peer = connect();
    (Client::new(peer.connection.clone(), Config::default()).unwrap(), peer)
}

fn post(body: impl Into<Bytes>) -> Request<Bytes> {
    Request::post(uri("/")).body(body.into()).unwrap()
}

/// Answers `/known` with a Content-Length, anything else without.
fn answer_in_kind(mut request: Request<weald_http3::RecvBody>, responder: server::Responder) -> Result<(), Error> {
    if request.uri().path() == "/known" {
        let body = request.body_mut().read_to_end(MEGABYTE)?;
        return responder.send_with_body(Response::new(()), body);
    }
    echo(request, responder)
}

#[test]
fn bodies_of_every_size_go_both_ways_with_and_without_a_length() {
    sim::run(1, || {
        let _server = serve(Config::default(), answer_in_kind);
        let (client, _peer) = client();
        for length in [0, 1, MEGABYTE] {
            let sent = content(length);
            for path in ["/known", "/open"] {
                let known = Request::post(uri(path)).body(Bytes::from(sent.clone())).unwrap();
                let mut response = client.request(known).unwrap();
                assert_eq!(response.headers().contains_key("content-length"), path == "/known");
                assert!(response.body_mut().read_to_end(MEGABYTE).unwrap() == sent, "{length} {path}");

                let (mut body, pending) = client.send(Request::post(uri(path)).body(()).unwrap()).unwrap();
                let writing = weald_runtime::spawn({
                    let sent = sent.clone();
                    move || {
                        for piece in sent.chunks(100_001) {
                            body.write_all(piece).unwrap();
                        }
                        body.finish().unwrap();
                    }
                });
                let mut received = Vec::new();
                Read::read_to_end(pending.wait().unwrap().body_mut(), &mut received).unwrap();
                assert!(received == sent, "{length} {path}, open");
                writing.join().unwrap();
            }
        }
    });
}

#[test]
fn a_message_survives_loss_and_reordering() {
    for seed in 0..5 {
        let link = LinkConfig {
            delay: Duration::from_millis(10),
            jitter: Duration::from_millis(3),
            loss: 0.05,
            reorder: 0.05,
            ..LinkConfig::default()
        };
        Simulation::new(seed).network(NetworkConfig { link, trace: false, ..NetworkConfig::default() }).run(|| {
            let _server = serve(Config::default(), echo);
            let (client, _peer) = client();
            let sent = content(MEGABYTE / 4);
            let mut response = client.request(post(sent.clone())).unwrap();
            assert!(response.body_mut().read_to_end(MEGABYTE).unwrap() == sent, "seed {seed}");
        });
    }
}

#[test]
fn get_sends_no_length_and_head_gets_one_without_a_body() {
    sim::run(2, || {
        let _server = serve(Config::default(), |request, responder| {
            assert!(!request.headers().contains_key("content-length"));
            responder.send_with_body(Response::new(()), format!("{} {}", request.method(), request.uri().path()))
        });
        let (client, _peer) = client();
        assert_eq!(client.get(uri("/x?y")).unwrap().body_mut().read_to_end(100).unwrap(), b"GET /x");
        let head = Request::builder().method(Method::HEAD).uri(uri("/x")).body(Bytes::new()).unwrap();
        let mut response = client.request(head).unwrap();
        assert_eq!(response.headers()["content-length"], "7");
        assert_eq!(response.body_mut().read_to_end(100).unwrap(), b"");
    });
}

#[test]
fn trailers_go_both_ways() {
    sim::run(3, || {
        let _server = serve(Config::default(), |mut request, responder| {
            let trailers = request.body_mut().trailers()?.expect("trailers of the request");
            let mut body = responder.send(Response::new(()))?;
            body.write_all(b"body")?;
            body.finish_with_trailers(&trailers)
        });
        let (client, _peer) = client();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("42"));
        let (mut body, pending) = client.send(Request::post(uri("/")).body(()).unwrap()).unwrap();
        body.write_all(b"some").unwrap();
        body.finish_with_trailers(&trailers).unwrap();
        let mut response = pending.wait().unwrap();
        assert_eq!(response.body_mut().read_to_end(100).unwrap(), b"body");
        assert_eq!(response.body_mut().trailers().unwrap(), Some(trailers));
    });
}

#[test]
fn trailers_before_the_promised_end_are_not_sent() {
    sim::run(4, || {
        let (report, reports) = channel::unbounded();
        let _server = serve(Config::default(), move |mut request, responder| {
            report.send(request.body_mut().read_to_end(100)).unwrap();
            drop(responder);
            Ok(())
        });
        let (client, _peer) = client();
        let request = Request::post(uri("/")).header("content-length", "10").body(()).unwrap();
        let (mut body, _pending) = client.send(request).unwrap();
        body.write_all(b"half").unwrap();
        weald_runtime::sleep(ARRIVAL);
        let error = body.finish_with_trailers(&HeaderMap::new()).unwrap_err();
        assert!(matches!(error, Error::Invalid(what) if what.contains("Content-Length")), "{error}");
        assert!(matches!(reports.recv().unwrap(), Err(Error::Reset(Code::REQUEST_CANCELLED))));
    });
}

#[test]
fn a_hundred_requests_at_once() {
    sim::run(5, || {
        let _server = serve(Config::default(), |request, responder| {
            // All wait at the same time.
            weald_runtime::sleep(Duration::from_secs(1));
            responder.send_with_body(Response::new(()), request.uri().path().to_owned())
        });
        let (client, _peer) = client();
        let began = weald_runtime::time::Instant::now();
        let requests: Vec<_> = (0..100)
            .map(|n| {
                let client = client.clone();
                weald_runtime::spawn(move || client.get(uri(&format!("/{n}"))).unwrap().body_mut().read_to_end(100).unwrap())
            })
            .collect();
        for (n, request) in requests.into_iter().enumerate() {
            assert_eq!(request.join().unwrap(), format!("/{n}").as_bytes());
        }
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    });
}

#[test]
fn a_response_keeps_its_promised_length() {
    sim::run(6, || {
        let (report, reports) = channel::unbounded();
        let _server = serve(Config::default(), move |request, responder| {
            let response = Response::builder().header("content-length", "10").body(()).unwrap();
            let mut body = responder.send(response)?;
            body.write_all(b"12345")?;
            if request.uri().path() == "/long" {
                report.send(body.write_all(b"6789ab")).unwrap();
                body.write_all(b"67890")?;
            }
            let finished = body.finish();
            report.send(finished.clone()).unwrap();
            finished
        });
        let (client, _peer) = client();
        let error = client.get(uri("/short")).and_then(|mut response| response.body_mut().read_to_end(100)).unwrap_err();
        assert!(matches!(error, Error::Reset(Code::INTERNAL_ERROR)), "{error}");
        assert!(matches!(reports.recv().unwrap(), Err(Error::Invalid(_))));

        // What is too much is refused before any of it is sent, so the message can still be completed.
        assert_eq!(client.get(uri("/long")).unwrap().body_mut().read_to_end(100).unwrap(), b"1234567890");
        assert!(matches!(reports.recv().unwrap(), Err(Error::Invalid(_))));
        assert!(reports.recv().unwrap().is_ok());
    });
}

#[test]
fn an_unfinished_answer_is_a_reset_and_the_connection_goes_on() {
    sim::Simulation::new(7).allow_lost_panics(true).run(|| {
        let _server = serve(Config::default(), |request, responder| match request.uri().path() {
            "/responder" => {
                drop(responder);
                Ok(())
            }
            "/body" => responder.send(Response::new(()))?.write_all(b"half"),
            "/panic" => panic!("a handler of this test"),
            "/late-panic" => {
                let mut body = responder.send(Response::new(()))?;
                body.write_all(b"half")?;
                panic!("a handler of this test");
            }
            _ => responder.send_with_body(Response::new(()), "whole"),
        });
        let (client, _peer) = client();
        for path in ["/responder", "/body", "/panic", "/late-panic"] {
            let error = client.get(uri(path)).and_then(|mut response| response.body_mut().read_to_end(100)).unwrap_err();
            assert!(matches!(error, Error::Reset(Code::INTERNAL_ERROR)), "{path}: {error}");
            assert_eq!(client.get(uri("/")).unwrap().body_mut().read_to_end(100).unwrap(), b"whole", "after {path}");
        }
    });
}

#[test]
fn a_failed_body_fails_again() {
    sim::run(8, || {
        let _server = serve(Config::default(), |_, responder| {
            let mut body = responder.send(Response::new(()))?;
            body.write_all(b"half")?;
            weald_runtime::sleep(ARRIVAL);
            drop(body);
            Ok(())
        });
        let (client, _peer) = client();
        let mut response = client.get(uri("/")).unwrap();
        let mut all = Vec::new();
        for _ in 0..2 {
            assert!(Read::read_to_end(response.body_mut(), &mut all).is_err(), "half a body ended like a whole one");
            assert!(matches!(response.body_mut().trailers(), Err(Error::Reset(Code::INTERNAL_ERROR))));
        }
        assert_eq!(all, b"half");
    });
}

#[test]
fn a_client_that_leaves_ends_the_handler_by_an_error() {
    sim::run(9, || {
        let (report, reports) = channel::unbounded();
        let _server = serve(Config::default(), move |_, responder| {
            let mut body = responder.send(Response::new(()))?;
            let piece = vec![7; 10_000];
            let error = loop {
                if let Err(error) = Write::write(&mut body, &piece) {
                    break error;
                }
            };
            // The message is broken: it cannot be finished.
            report.send((error.to_string(), body.finish())).unwrap();
            Ok(())
        });
        let (client, peer) = client();
        let mut response = client.get(uri("/")).unwrap();
        assert!(response.body_mut().read_chunk(100).unwrap().is_some());
        drop(response);
        let (error, finished) = reports.recv().unwrap();
        assert!(error.contains("H3_REQUEST_CANCELLED"), "{error}");
        assert!(matches!(finished, Err(Error::Reset(Code::REQUEST_CANCELLED))), "{finished:?}");

        // An answer that nobody waits for.
        let (body, pending) = client.send(Request::get(uri("/")).body(()).unwrap()).unwrap();
        body.finish().unwrap();
        weald_runtime::sleep(ARRIVAL);
        drop(pending);
        assert!(reports.recv().unwrap().0.contains("H3_REQUEST_CANCELLED"));

        // A connection that ends while the handler writes.
        let _response = client.get(uri("/")).unwrap();
        peer.connection.close(256u32.into(), b"bye");
        let (error, finished) = reports.recv().unwrap();
        assert!(error.contains("bye") && matches!(finished, Err(Error::Connection(_))), "{error}");
    });
}

#[test]
fn a_client_that_gives_its_request_up_ends_the_read() {
    sim::run(10, || {
        let (report, reports) = channel::unbounded();
        let _server = serve(Config::default(), move |mut request, _responder| {
            report.send(request.body_mut().read_to_end(MEGABYTE)).unwrap();
            Ok(())
        });
        let (client, _peer) = client();
        let (mut body, _pending) = client.send(Request::post(uri("/")).body(()).unwrap()).unwrap();
        body.write_all(b"half").unwrap();
        weald_runtime::sleep(ARRIVAL);
        drop(body);
        assert!(matches!(reports.recv().unwrap(), Err(Error::Reset(Code::REQUEST_CANCELLED))));
    });
}

/// RFC 9114 section 4.1: an answer counts though the request was stopped before its end.
#[test]
fn an_answer_may_come_before_the_request_was_read() {
    sim::run(11, || {
        let _server = serve(Config::default(), |_, responder| {
            let response = Response::builder().status(StatusCode::PAYLOAD_TOO_LARGE).body(()).unwrap();
            responder.send_with_body(response, "too large")
        });
        let (client, _peer) = client();
        let mut response = client.request(post(content(20 * MEGABYTE))).unwrap();
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(response.body_mut().read_to_end(100).unwrap(), b"too large");
        // What was not read of the first request does not count against the connection for ever.
        for _ in 0..3 {
            client.request(post(content(5 * MEGABYTE))).unwrap();
        }
    });
}

#[test]
fn a_body_over_the_callers_limit_is_refused() {
    sim::run(12, || {
        let _server = serve(Config::default(), |_, responder| responder.send_with_body(Response::new(()), "0123456789"));
        let (client, _peer) = client();
        let mut response = client.get(uri("/")).unwrap();
        let error = response.body_mut().read_to_end(9).unwrap_err();
        assert_eq!(error.to_string(), "the body is longer than 9 bytes");
        assert!(response.body_mut().read_chunk(1).is_err(), "the rest looked like a whole body");
        assert_eq!(client.get(uri("/")).unwrap().body_mut().read_to_end(10).unwrap(), b"0123456789");
    });
}

#[test]
fn statuses_without_a_body() {
    sim::run(13, || {
        let (report, reports) = channel::unbounded();
        let _server = serve(Config::default(), move |request, responder| {
            let status: u16 = request.uri().path()[1..].parse().unwrap();
            let response = Response::builder().status(status).body(()).unwrap();
            let sent = responder.send_with_body(response, if request.uri().query().is_some() { "x" } else { "" });
            report.send(sent.clone()).unwrap();
            sent
        });
        let (client, _peer) = client();
        for status in [204, 304] {
            let mut response = client.get(uri(&format!("/{status}"))).unwrap();
            assert_eq!(response.status(), status);
            assert!(!response.headers().contains_key("content-length"), "{status}");
            assert_eq!(response.body_mut().read_to_end(0).unwrap(), b"");
            assert!(reports.recv().unwrap().is_ok());
            // A body is refused, and the half-made answer is not taken for one.
            let failed = client.get(uri(&format!("/{status}?body"))).and_then(|mut response| response.body_mut().read_to_end(9));
            assert!(matches!(failed, Err(Error::Reset(Code::INTERNAL_ERROR))), "{failed:?}");
            assert!(matches!(reports.recv().unwrap(), Err(Error::Invalid(_))));
        }
        // RFC 9114 section 4.1: an interim response is not an answer, and section 4.5: there is no 101.
        for status in [100, 101, 103] {
            assert!(matches!(client.get(uri(&format!("/{status}"))), Err(Error::Reset(Code::INTERNAL_ERROR))));
            assert!(matches!(reports.recv().unwrap(), Err(Error::Invalid(_))));
        }
    });
}

/// RFC 9114 section 4.2.2: what the peer does not take is not sent; pseudo-header fields and trailers count.
#[test]
fn sections_above_the_peers_limit_are_not_sent() {
    sim::run(14, || {
        let (report, reports) = channel::unbounded();
        let _server = serve(Config::default().max_field_section_size(500), move |request, responder| {
            let length = if request.uri().path() == "/first" { 10 } else { 700 };
            let response = Response::builder().header("x-large", "x".repeat(length)).body(()).unwrap();
            report.send(responder.send(response).and_then(weald_http3::SendBody::finish)).unwrap();
            Ok(())
        });
        let peer = connect();
        let client = Client::new(peer.connection.clone(), Config::default().max_field_section_size(600)).unwrap();
        // An exchange brings the settings.
        assert!(client.get(uri("/first")).is_ok());
        assert!(reports.recv().unwrap().is_ok());
        assert!(client.get(uri("/")).is_err());
        assert!(matches!(reports.recv().unwrap(), Err(Error::Invalid(what)) if what.contains("larger")));
        let too_large = |error: Error| assert!(matches!(error, Error::Invalid(what) if what.contains("larger")), "{error}");
        too_large(client.get(uri(&format!("/{}", "x".repeat(500)))).unwrap_err());
        let (body, _pending) = client.send(Request::post(uri("/")).body(()).unwrap()).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-large", HeaderValue::from_str(&"x".repeat(500)).unwrap());
        too_large(body.finish_with_trailers(&trailers).unwrap_err());
    });
}

#[test]
fn a_connection_closes_with_its_last_client_and_request() {
    sim::run(15, || {
        let endpoint = server_endpoint(TransportConfig::default());
        let serving = weald_runtime::spawn({
            let endpoint = endpoint.clone();
            move || server::serve_connection(endpoint.accept().unwrap(), Config::default(), echo)
        });
        let (client, _peer) = client();
        let mut response = client.request(post("body")).unwrap();
        drop(client);
        // The response is still to be read, so the connection lives on.
        weald_runtime::sleep(Duration::from_secs(1));
        assert_eq!(response.body_mut().read_to_end(100).unwrap(), b"body");
        drop(response);
        let end = serving.join().unwrap();
        assert!(matches!(&end, Error::Connection(ConnectionError::ApplicationClosed(close)) if close.code.as_u64() == 0x100), "{end}");
    });
}

#[test]
fn a_message_from_a_plain_thread() {
    // On real sockets: a simulation has no threads.
    let (chain, key) = weald_crypto::simulation::server_credentials();
    let runtime = weald_runtime::Runtime::builder().workers(1).build().unwrap();
    let tls = weald_crypto::ServerConfig::builder().alpn([weald_http3::ALPN]).certificate(chain, key).build().unwrap();
    let server = runtime.run(|| weald_quic::Endpoint::server(weald_quic::ServerConfig::new(tls), address("127.0.0.1:0")).unwrap());
    let serving = runtime.handle().spawn({
        let server = server.clone();
        move || server::serve(&server, Config::default(), echo)
    });
    let tls = weald_crypto::ClientConfig::builder().alpn([weald_http3::ALPN]).dangerous_skip_verification().build().unwrap();
    let (endpoint, client) = runtime.run(|| {
        let endpoint = weald_quic::Endpoint::client(address("127.0.0.1:0")).unwrap();
        let config = weald_quic::ClientConfig::new(tls);
        let connection = endpoint.connect_with(config, server.local_addr().unwrap(), "localhost").unwrap();
        (endpoint, Client::new(connection, Config::default()).unwrap())
    });
    let sent = content(MEGABYTE);
    assert!(client.request(post(sent.clone())).unwrap().body_mut().read_to_end(MEGABYTE).unwrap() == sent);
    client.close();
    drop(endpoint);
    server.close(0u32.into(), b"");
    serving.join().unwrap();
}
