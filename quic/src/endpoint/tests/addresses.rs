//! Who gets in: Retry, tokens, refusals and limits, first packet by first packet.

use super::*;
use crate::config::{RetryPolicy, ServerLimits};
use crate::error::{ConnectionError, TransportErrorCode};
use crate::protocol::{Event, Pressure, Shortage};
use crate::refusal::Refusal;

/// A client that asks, and answers what it is told.
struct Client {
    endpoint: Endpoint,
    connection: Connection,
    port: u16,
}

impl Client {
    fn new(seed: u64) -> Self {
        let mut endpoint = Endpoint::new(EndpointKeys::new(&[9; 32], seed, 0), 0, 1, None, seed);
        let config = client_config(seed, crate::TransportConfig::default());
        let remote = "198.51.100.1:443".parse().unwrap();
        let (_, mut connection) = endpoint.connect(now(), &config, remote, "localhost").unwrap();
        let job = connection.poll_crypto_job().unwrap();
        connection.on_crypto_done(now(), job.run(), &mut Scratch::default());
        Self { endpoint, connection, port: seed as u16 }
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut buf = [0; 1500];
        let len = self.connection.transmit(now(), &mut buf, &mut Scratch::default())?.len;
        Some(buf[..len].to_vec())
    }

    fn hear(&mut self, answer: &[u8]) {
        let from = DatagramMeta { remote: "198.51.100.1:443".parse().unwrap(), local: None, ecn: None };
        assert!(matches!(self.endpoint.receive(now(), answer, from), Routed::Existing(_)));
        self.connection.receive(now(), answer, from, &mut Scratch::default());
    }

    /// The code with which the server turned it away.
    fn turned_away(&mut self) -> Option<TransportErrorCode> {
        match self.connection.poll_event() {
            Some(Event::Closed(ConnectionError::ConnectionClosed(close))) => Some(close.code),
            _ => None,
        }
    }
}

fn incoming(endpoint: &mut Endpoint, datagram: &[u8], port: u16) -> Incoming {
    match endpoint.receive(now(), datagram, meta(port)) {
        Routed::Incoming(incoming) => incoming,
        other => panic!("{other:?}"),
    }
}

/// Lets a client be sent a Retry, and gives its next datagram.
fn after_retry(endpoint: &mut Endpoint, client: &mut Client) -> Vec<u8> {
    let first = client.next().unwrap();
    let asked = incoming(endpoint, &first, client.port);
    assert!(!asked.is_validated() && asked.may_retry());
    assert_eq!(endpoint.admit(&asked, Shortage::default()), Admission::Retry);
    let retry = endpoint.retry(now(), asked).unwrap();
    assert!(retry.len() < 200, "{} bytes", retry.len());
    client.hear(&retry);
    client.next().unwrap()
}

fn always() -> ServerConfig {
    config().retry(RetryPolicy::Always)
}

/// Ends a connection at once, and tells the endpoint.
fn end(endpoint: &mut Endpoint, handle: ConnectionHandle, mut connection: Connection) {
    let mut at = now();
    while !connection.is_drained() {
        while connection.transmit(at, &mut [0; 1500], &mut Scratch::default()).is_some() {}
        at = connection.next_timeout().unwrap();
        connection.on_timeout(at);
    }
    while let Some(event) = connection.poll_endpoint_event() {
        endpoint.on_event(handle, event);
    }
}

#[test]
fn a_retry_leaves_nothing_behind_and_shows_who_owns_the_address() {
    // RFC 9000 8.1.2
    let mut endpoint = server(0, always());
    let mut client = Client::new(1);
    let second = after_retry(&mut endpoint, &mut client);
    assert_eq!((endpoint.connections(), endpoint.pending_handshakes()), (0, 0));
    let validated = incoming(&mut endpoint, &second, 1);
    assert!(validated.is_validated() && !validated.may_retry());
    assert!(endpoint.retry(now(), validated).is_none(), "a client follows one");
    assert_eq!(endpoint.admit(&validated, Shortage::default()), Admission::Accept);
    let (handle, _connection) = endpoint.accept(now(), validated, &second, meta(1)).unwrap();
    // What goes to the Retry's id is the connection's from here on, as the same packet sent again.
    assert!(matches!(endpoint.receive(now(), &second, meta(1)), Routed::Existing(found) if found == handle));
    let stats = endpoint.stats();
    assert_eq!((stats.retries, stats.validated, stats.accepted, stats.invalid_tokens), (1, 1, 1, 0));
}

#[test]
fn a_retrys_token_from_elsewhere_is_told_to_be_invalid() {
    // RFC 9000 8.1.2, 8.1.4
    let mut endpoint = server(0, always());
    let mut client = Client::new(1);
    let second = after_retry(&mut endpoint, &mut client);
    // Another port, another address, sixteen seconds later.
    let elsewhere = DatagramMeta { remote: "192.0.2.2:1".parse().unwrap(), ..meta(1) };
    for (at, from) in [(now(), meta(2)), (now(), elsewhere), (now() + Duration::from_secs(16), meta(1))] {
        match endpoint.receive(at, &second, from) {
            Routed::Answer(close) => assert!(close.len() < 100),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((endpoint.stats().invalid_tokens, endpoint.connections()), (3, 0));
    match endpoint.receive(now(), &second, meta(2)) {
        Routed::Answer(close) => client.hear(&close),
        other => panic!("{other:?}"),
    }
    assert_eq!(client.turned_away(), Some(TransportErrorCode::INVALID_TOKEN));
}

#[test]
fn a_validated_packet_may_come_again_whatever_became_of_it() {
    // CVE-2024-45311
    let mut endpoint = server(0, always());
    let mut client = Client::new(1);
    let second = after_retry(&mut endpoint, &mut client);
    // Refused, then ignored, then damaged.
    let refused = incoming(&mut endpoint, &second, 1);
    assert!(endpoint.refuse(now(), refused, Refusal::Application).is_some());
    for _ in 0..3 {
        assert!(incoming(&mut endpoint, &second, 1).is_validated());
    }
    let mut damaged = second.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let forged = incoming(&mut endpoint, &damaged, 1);
    assert!(matches!(endpoint.accept(now(), forged, &damaged, meta(1)), Err(AcceptError::Unauthenticated)));
    assert_eq!((endpoint.connections(), endpoint.pending_handshakes()), (0, 0));
    // None of it has used up the token.
    let again = incoming(&mut endpoint, &second, 1);
    let (handle, connection) = endpoint.accept(now(), again, &second, meta(1)).unwrap();
    end(&mut endpoint, handle, connection);
    assert_eq!((endpoint.connections(), endpoint.pending_handshakes()), (0, 0));
    // A connection has.
    assert!(matches!(endpoint.receive(now(), &second, meta(1)), Routed::Answer(_)));
    assert_eq!(endpoint.stats().invalid_tokens, 1);
}

#[test]
fn two_workers_take_a_token_once() {
    let keys = keys(1);
    let mut workers = [0, 1].map(|worker| Endpoint::new(keys.clone(), worker, 2, Some(Arc::new(always())), 0));
    let mut client = Client::new(1);
    let second = after_retry(&mut workers[0], &mut client);
    let [one, two] = &mut workers;
    let asked = [incoming(one, &second, 1), incoming(two, &second, 1)];
    let (_, _connection) = two.accept(now(), asked[1], &second, meta(1)).unwrap();
    assert!(matches!(one.accept(now(), asked[0], &second, meta(1)), Err(AcceptError::TokenUsed)));
    assert_eq!((one.connections(), one.pending_handshakes()), (0, 0));
    assert!(matches!(one.receive(now(), &second, meta(1)), Routed::Answer(_)));
}

#[test]
fn tokens_of_strangers_prove_nothing() {
    // RFC 9000 8.1.3; CVE-2026-44894, CVE-2026-26080
    let mut endpoint = server(0, always());
    let genuine = first_datagram(1);
    let mut rng = fastrand::Rng::with_seed(3);
    for len in (0..=64).chain([256, 512, 1000]) {
        let token: Vec<u8> = (0..len).map(|_| rng.u8(..)).collect();
        // Destination and source id have 16 and 18 bytes; the length of the token has two.
        let at = 5 + 1 + 16 + 1 + 18;
        let mut datagram = genuine[..at].to_vec();
        datagram.extend_from_slice(&[0x40 | (len >> 8) as u8, len as u8]);
        datagram.extend_from_slice(&token);
        let rest = 1200 - datagram.len() - 2;
        datagram.extend_from_slice(&[0x40 | (rest >> 8) as u8, rest as u8]);
        datagram.resize(1200, 0x55);
        let asked = incoming(&mut endpoint, &datagram, 1);
        assert!(!asked.is_validated(), "{len}");
        assert_eq!(endpoint.admit(&asked, Shortage::default()), Admission::Retry);
        assert!(matches!(endpoint.accept(now(), asked, &datagram, meta(1)), Err(AcceptError::Unauthenticated)));
        // A token that ends behind the datagram.
        datagram[at..at + 2].copy_from_slice(&[0x7f, 0xff]);
        assert!(matches!(endpoint.receive(now(), &datagram, meta(1)), Routed::Dropped));
    }
    assert_eq!((endpoint.connections(), endpoint.pending_handshakes()), (0, 0));
}

#[test]
fn under_load_clients_show_their_address_first() {
    let limits = ServerLimits::default().retry_from(Some(3)).max_pending_handshakes(5);
    let mut endpoint = server(0, config().limits(limits));
    for port in 1..=3 {
        accept(&mut endpoint, &first_datagram(port.into()), port).unwrap();
    }
    let mut client = Client::new(4);
    let second = after_retry(&mut endpoint, &mut client);
    accept(&mut endpoint, &second, 4).unwrap();
    let mut client = Client::new(5);
    let second = after_retry(&mut endpoint, &mut client);
    accept(&mut endpoint, &second, 5).unwrap();
    // There is an end to it for those as well.
    let mut client = Client::new(6);
    let second = after_retry(&mut endpoint, &mut client);
    let asked = incoming(&mut endpoint, &second, 6);
    assert_eq!(endpoint.admit(&asked, Shortage::default()), Admission::Refuse(Refusal::Limit));
    assert!(matches!(endpoint.accept(now(), asked, &second, meta(6)), Err(AcceptError::Full)));
    assert_eq!(endpoint.pending_handshakes(), 5);
}

#[test]
fn who_is_refused_is_told_so() {
    // RFC 9000 5.2.2
    let mut endpoint = server(0, config().retry(RetryPolicy::Never).limits(ServerLimits::default().max_pending_handshakes(0)));
    let mut client = Client::new(1);
    let first = client.next().unwrap();
    let asked = incoming(&mut endpoint, &first, 1);
    assert_eq!(endpoint.admit(&asked, Shortage::default()), Admission::Refuse(Refusal::Limit));
    let answer = endpoint.refuse(now(), asked, Refusal::Limit).unwrap();
    assert!(answer.len() < 100, "{} bytes", answer.len());
    client.hear(&answer);
    assert_eq!(client.turned_away(), Some(TransportErrorCode::CONNECTION_REFUSED));
    // A flood is told so as often as the budget allows.
    let told = (0..10_000).filter(|_| endpoint.refuse(now(), asked, Refusal::Limit).is_some()).count();
    assert_eq!(told, MAX_ANSWERS as usize - 1);
}

#[test]
fn connections_of_all_workers_are_bounded_together() {
    let keys = keys(1);
    let config = Arc::new(config().limits(ServerLimits::default().max_connections(Some(3))));
    let mut workers = [0, 1].map(|worker| Endpoint::new(keys.clone(), worker, 2, Some(Arc::clone(&config)), 0));
    let mut connections = Vec::new();
    for port in 1..=3 {
        connections.push(accept(&mut workers[usize::from(port % 2)], &first_datagram(port.into()), port).unwrap());
    }
    let datagram = first_datagram(4);
    for worker in &mut workers {
        let asked = incoming(worker, &datagram, 4);
        assert_eq!(worker.admit(&asked, Shortage::default()), Admission::Refuse(Refusal::Limit));
        assert!(matches!(worker.accept(now(), asked, &datagram, meta(4)), Err(AcceptError::Full)));
    }
    // One ends, and another may come, wherever it lands.
    let (handle, connection) = connections.pop().unwrap();
    end(&mut workers[1], handle, connection);
    let asked = incoming(&mut workers[0], &datagram, 4);
    assert_eq!(workers[0].admit(&asked, Shortage::default()), Admission::Accept);
    accept(&mut workers[0], &datagram, 4).unwrap();
    assert!(matches!(accept(&mut workers[1], &first_datagram(5), 5), Err(AcceptError::Full)));
}

#[test]
fn when_something_is_short_clients_show_their_address_and_when_it_is_gone_they_are_refused() {
    let mut endpoint = server(0, config());
    let mut client = Client::new(1);
    let first = client.next().unwrap();
    let asked = incoming(&mut endpoint, &first, 1);
    let memory = |pressure| Shortage { memory: pressure, processors: Pressure::None };
    let processors = |pressure| Shortage { memory: Pressure::None, processors: pressure };
    let levels = [Pressure::None, Pressure::High, Pressure::Full];
    let told = levels.map(|pressure| endpoint.admit(&asked, memory(pressure)));
    assert_eq!(told, [Admission::Accept, Admission::Retry, Admission::Refuse(Refusal::Memory)]);
    let told = levels.map(|pressure| endpoint.admit(&asked, processors(pressure)));
    assert_eq!(told, [Admission::Accept, Admission::Retry, Admission::Refuse(Refusal::Processors)]);
    let retry = endpoint.retry(now(), asked).unwrap();
    client.hear(&retry);
    let second = client.next().unwrap();
    let asked = incoming(&mut endpoint, &second, 1);
    let told = levels.map(|pressure| endpoint.admit(&asked, memory(pressure)));
    assert_eq!(told, [Admission::Accept, Admission::Accept, Admission::Refuse(Refusal::Memory)]);
    let told = levels.map(|pressure| endpoint.admit(&asked, processors(pressure)));
    assert_eq!(told, [Admission::Accept, Admission::Accept, Admission::Refuse(Refusal::Processors)]);
}
