//! Sessions that resume, and data that goes before the handshake: accepted, and rejected without a loss (RFC 9001 4.6).
//!
//! A client gets a ticket from a server, and comes again to another one, which knows more or less of the first.

use std::time::Duration;

use weald_crypto::{NamedGroup, ServerConfigBuilder, SessionStore, Tickets};
use weald_quic::{ClientConfig, EarlyData, RetryPolicy, ServerConfig, TransportConfig};

use crate::{
    quiche_side::{self, Client, Options, Server},
    sides::{self, Identity, requests, together},
};

/// Of a request: more than goes before the handshake.
const LEN: usize = 30_000;
/// Streams of a client, each with a request.
const REQUESTS: u8 = 3;
/// What is looked for anew until it is there.
const AGAIN: Duration = Duration::from_millis(2);

/// What must be at both ends when a client comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outcome {
    resumed: bool,
    early_data: EarlyData,
    retried: bool,
    hello_retry: bool,
}

const RESUMED: Outcome = Outcome { resumed: true, early_data: EarlyData::NotOffered, retried: false, hello_retry: false };
const ACCEPTED: Outcome = Outcome { early_data: EarlyData::Accepted, ..RESUMED };
const REJECTED: Outcome = Outcome { early_data: EarlyData::Rejected, ..RESUMED };
const FORGOTTEN: Outcome = Outcome { resumed: false, ..REJECTED };

impl Outcome {
    fn check(&self, weald: &sides::Report, quiche: &quiche_side::Report) {
        let found = Self { resumed: weald.resumed, early_data: weald.early_data, retried: weald.retried, hello_retry: quiche.hello_retry };
        assert_eq!(&found, self, "what Weald says");
        let accepted = self.early_data == EarlyData::Accepted;
        let theirs = (quiche.resumed, quiche.early_data_accepted, quiche.retried);
        assert_eq!(theirs, (self.resumed, accepted, self.retried), "what quiche says");
        assert!(weald.came == requests(REQUESTS, LEN), "each request is whole at Weald's end");
        assert!(quiche.came == requests(REQUESTS, LEN), "each request is whole at quiche's end");
    }
}

/// quiche gets a ticket of one Weald server, and comes again to another one, that `second` makes of what the first one has.
fn quiche_comes_again(expected: Outcome, second: impl Fn(ServerConfigBuilder, Tickets) -> ServerConfig) {
    let identity = Identity::new();
    let early = expected.early_data != EarlyData::NotOffered;
    let tickets = Tickets::new();
    let first = identity.weald_server().tickets(tickets.clone()).early_data(early);
    let servers = [ServerConfig::new(first.build().unwrap()), second(identity.weald_server(), tickets)];
    let mut client = Client::new(&identity, &Options { early_data: early, ..Options::default() });
    let (told, addresses) = std::sync::mpsc::channel();
    let (weald, quiche) = together(
        move || {
            servers.map(|server| {
                let endpoint = sides::server(server);
                told.send(endpoint.local_addr().unwrap()).unwrap();
                let report = sides::serve(&endpoint);
                endpoint.wait_idle();
                report
            })
        },
        move || {
            let requests = requests(REQUESTS, LEN);
            let (first, session) = client.fetch(addresses.recv().unwrap(), None, &requests).unwrap();
            let (second, _) = client.fetch(addresses.recv().unwrap(), Some(&session), &requests).unwrap();
            [first, second]
        },
    );
    assert!(!weald[0].resumed && !quiche[0].resumed, "the first connection has nothing to resume");
    assert_eq!(weald[1].any_early, expected.early_data == EarlyData::Accepted, "early data comes to who takes it");
    assert_eq!(quiche[1].any_early, early);
    expected.check(&weald[1], &quiche[1]);
}

/// Weald gets a ticket of one quiche server, and comes again to another one.
fn weald_comes_again(expected: Outcome, second: &Options) {
    let identity = Identity::new();
    let early = expected.early_data != EarlyData::NotOffered;
    let first = Server::new(&identity, &Options { early_data: early, ..Options::default() });
    let servers = [first, Server::new(&identity, second)];
    let addresses = [servers[0].address(), servers[1].address()];
    let sessions = SessionStore::default();
    let crypto = identity.weald_client().sessions(sessions.clone());
    let config = ClientConfig::new(crypto.build().unwrap());
    let (weald, quiche) = together(
        move || {
            let endpoint = sides::client();
            let reports = addresses.map(|address| {
                let report = sides::fetch_and(&endpoint, &config, address, early, &requests(REQUESTS, LEN), || {
                    while sessions.is_empty() {
                        weald_runtime::sleep(AGAIN);
                    }
                });
                report.unwrap()
            });
            endpoint.wait_idle();
            reports
        },
        move || servers.map(|mut server| server.serve()),
    );
    assert!(!weald[0].resumed && !quiche[0].resumed, "the first connection has nothing to resume");
    assert_eq!(quiche[1].any_early, expected.early_data == EarlyData::Accepted, "early data comes to who takes it");
    expected.check(&weald[1], &quiche[1]);
}

fn policy(retried: bool) -> RetryPolicy {
    if retried { RetryPolicy::Always } else { RetryPolicy::Never }
}

#[test]
fn quiche_resumes() {
    quiche_comes_again(RESUMED, |tls, tickets| ServerConfig::new(tls.tickets(tickets).build().unwrap()));
}

#[test]
fn quiche_sends_early_data() {
    for retried in [false, true] {
        quiche_comes_again(Outcome { retried, ..ACCEPTED }, |tls, tickets| {
            ServerConfig::new(tls.tickets(tickets).early_data(true).build().unwrap()).retry(policy(retried))
        });
    }
}

#[test]
fn quiche_sends_early_data_to_a_server_with_other_ticket_keys() {
    for retried in [false, true] {
        quiche_comes_again(Outcome { retried, ..FORGOTTEN }, |tls, _| {
            ServerConfig::new(tls.early_data(true).build().unwrap()).retry(policy(retried))
        });
    }
}

#[test]
fn quiche_sends_early_data_to_a_server_that_takes_none() {
    quiche_comes_again(REJECTED, |tls, tickets| ServerConfig::new(tls.tickets(tickets).build().unwrap()));
}

#[test]
fn quiche_sends_early_data_to_a_server_with_lower_limits() {
    quiche_comes_again(REJECTED, |tls, tickets| {
        ServerConfig::new(tls.tickets(tickets).early_data(true).build().unwrap()).transport(TransportConfig::default().max_streams_bi(50))
    });
}

#[test]
fn quiche_sends_early_data_and_is_asked_for_another_group() {
    quiche_comes_again(Outcome { hello_retry: true, ..REJECTED }, |tls, tickets| {
        ServerConfig::new(tls.tickets(tickets).early_data(true).groups([NamedGroup::Secp256r1]).build().unwrap())
    });
}

#[test]
fn weald_resumes() {
    weald_comes_again(RESUMED, &Options::default());
}

#[test]
fn weald_sends_early_data() {
    for retried in [false, true] {
        weald_comes_again(Outcome { retried, ..ACCEPTED }, &Options { early_data: true, retries: retried, ..Options::default() });
    }
}

#[test]
fn weald_sends_early_data_to_a_server_with_another_ticket_key() {
    for retried in [false, true] {
        let options = Options { early_data: true, ticket_key: [8; 48], retries: retried, ..Options::default() };
        weald_comes_again(Outcome { retried, ..FORGOTTEN }, &options);
    }
}

#[test]
fn weald_sends_early_data_to_a_server_that_takes_none() {
    weald_comes_again(REJECTED, &Options::default());
}

#[test]
fn weald_sends_early_data_and_is_asked_for_another_group() {
    weald_comes_again(Outcome { hello_retry: true, ..REJECTED }, &Options { early_data: true, groups: "P-256", ..Options::default() });
}
