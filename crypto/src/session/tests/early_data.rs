//! Data that comes before the handshake: when it is accepted, when it is not, and that it is accepted once.

use std::time::Duration;

use rustls::server::StoresServerSessions;

use super::*;
use crate::clock::Clock;
use crate::{Remembered, Tickets};

const SECOND: Duration = Duration::from_secs(1);

/// A client and a server that takes early data, the terms that it keeps, and a clock that a test moves.
struct World {
    client: ClientConfig,
    server: ServerConfig,
    tickets: Tickets,
    terms: Terms,
    clock: Clock,
}

fn world(tickets: Tickets) -> World {
    changed_world(tickets, |client| client, |server| server)
}

fn changed_world(
    tickets: Tickets,
    client: impl FnOnce(ClientConfigBuilder) -> ClientConfigBuilder,
    server: impl FnOnce(ServerConfigBuilder) -> ServerConfigBuilder,
) -> World {
    let clock = Clock::new();
    let (client, server) = configs(
        |builder| client(builder.clock(clock.clone())),
        |builder| server(builder.tickets(tickets.clone()).early_data(true).clock(clock.clone())),
    );
    let terms = Terms { limits: vec![100, 10], application: b"settings".to_vec() };
    World { client, server, tickets, terms, clock }
}

impl World {
    fn client(&self) -> Session {
        let mut client = Session::client(&self.client, Version::V1, HOST, b"client parameters".to_vec()).unwrap();
        client.offer_early_data();
        client
    }

    fn server(&self) -> Session {
        self.server_with(self.terms.clone())
    }

    fn server_with(&self, terms: Terms) -> Session {
        Session::server(&self.server, Version::V1, b"server parameters".to_vec(), terms)
    }

    /// A connection that leaves the client a ticket.
    fn meet(&self) {
        let (mut client, mut server) = (self.client(), self.server());
        run(&mut client, &mut server, unchanged).unwrap();
    }

    /// The first flight of a client that has early data to send, and the client.
    fn offer(&self) -> (Session, Vec<u8>, DirectionKeys) {
        let mut client = self.client();
        let mut step = client.advance(&[]).unwrap();
        let keys = step.early_keys.take().expect("the client has a ticket that allows early data");
        let remembered = Remembered { transport_parameters: b"server parameters".to_vec(), alpn: Some(b"hq-interop".to_vec()) };
        assert_eq!((step.remembered, step.early_data, step.peer_transport_parameters), (Some(remembered), None, None));
        (client, step.output.remove(0).1, keys)
    }

    /// Has a server with these terms read a first flight; whether it resumed, and whether it has accepted early data.
    fn answer(&self, terms: Terms, hello: &[u8]) -> (bool, bool) {
        let step = self.server_with(terms).advance(&[(Level::Initial, hello.to_vec())]).unwrap();
        assert_eq!(step.early_keys.is_some(), step.early_data.unwrap());
        (step.output[1].1.len() < 400, step.early_data.unwrap())
    }
}

/// Runs what follows the first flight, and checks that both ends say the same of it.
fn finish(client: &mut Session, server: &mut Session, hello: Vec<u8>) -> EarlyData {
    let answer = server.advance(&[(Level::Initial, hello)]).unwrap();
    let told = answer.early_data.expect("the server says what comes of early data");
    let finished = client.advance(&answer.output).unwrap();
    assert_eq!(finished.early_data, Some(told));
    assert_eq!(finished.peer_transport_parameters.as_deref(), Some(&b"server parameters"[..]));
    let done = server.advance(&finished.output).unwrap();
    let [at_client, at_server] = [finished.outcome.unwrap(), done.outcome.unwrap()];
    assert_eq!(at_client.early_data, if told { EarlyData::Accepted } else { EarlyData::Rejected });
    assert_eq!((at_server.early_data, at_server.resumed), (at_client.early_data, at_client.resumed));
    assert!(!told || at_client.resumed);
    client.advance(&done.output).unwrap();
    at_client.early_data
}

#[test]
fn early_data_is_opened_before_the_handshake() {
    for suite in CipherSuite::ALL {
        let world = changed_world(Tickets::new(), |client| client.cipher_suites([suite]), |server| server);
        world.meet();
        for _ in 0..2 {
            let (mut client, hello, keys) = world.offer();
            let mut server = world.server();
            let step = server.advance(&[(Level::Initial, hello)]).unwrap();
            assert_same_keys(&keys, &step.early_keys.unwrap());
            assert_eq!(step.early_data, Some(true));
            let finished = client.advance(&step.output).unwrap();
            assert_eq!(finished.early_data, Some(true));
            assert!(finished.early_keys.is_none() && finished.remembered.is_none());
            let done = server.advance(&finished.output).unwrap();
            assert!(done.early_data.is_none() && done.early_keys.is_none());
            client.advance(&done.output).unwrap();
        }
        let stats = world.tickets.stats();
        assert_eq!((stats.early_data_accepted, stats.early_data_rejected, stats.strikes), (2, 0, 2));
    }
}

#[test]
fn early_data_is_for_those_who_ask() {
    let world = world(Tickets::new());
    world.meet();
    let (mut client, mut server) = sessions(&world.client, &world.server);
    let step = client.advance(&[]).unwrap();
    assert!(step.early_keys.is_none() && step.remembered.is_none());
    let step = server.advance(&step.output).unwrap();
    assert!(step.early_keys.is_none() && step.early_data.is_none());
    assert_eq!(world.tickets.stats().early_data_rejected, 0);

    // A server that takes none says so in its tickets.
    let (client, server) = configs(|client| client, |server| server);
    let (mut first, mut at_server) = sessions(&client, &server);
    assert_success(&mut first, &mut at_server, unchanged);
    let (mut second, _) = sessions(&client, &server);
    second.offer_early_data();
    let step = second.advance(&[]).unwrap();
    assert!(step.early_keys.is_none() && step.remembered.is_none());
}

/// Who takes early data no longer, where tickets that promise it are still about.
#[test]
fn early_data_that_is_no_longer_taken() {
    let (chain, key) = credentials(|_| ());
    let tickets = Tickets::new();
    let server = |early| {
        let server = ServerConfig::builder().alpn(["hq-interop"]).certificate(chain.clone(), key.clone());
        server.tickets(tickets.clone()).early_data(early).build().unwrap()
    };
    let client = ClientConfig::builder().alpn(["hq-interop"]).roots(chain.clone()).build().unwrap();
    let (mut first, mut at_server) = sessions(&client, &server(true));
    run(&mut first, &mut at_server, unchanged).unwrap();
    let (mut second, mut at_server) = sessions(&client, &server(false));
    second.offer_early_data();
    let hello = second.advance(&[]).unwrap().output.remove(0).1;
    assert_eq!(finish(&mut second, &mut at_server, hello), EarlyData::Rejected);
    assert_eq!((tickets.stats().resumed, tickets.stats().strikes), (1, 0));

    // Nor with one that knows no tickets at all.
    let (mut third, mut at_server) = sessions(&client, &server(true));
    run(&mut third, &mut at_server, unchanged).unwrap();
    let forgetful = ServerConfig::builder().alpn(["hq-interop"]).certificate(chain.clone(), key.clone()).without_tickets().build().unwrap();
    let (mut fourth, mut at_server) = sessions(&client, &forgetful);
    fourth.offer_early_data();
    let hello = fourth.advance(&[]).unwrap().output.remove(0).1;
    assert_eq!(finish(&mut fourth, &mut at_server, hello), EarlyData::Rejected);
    let without = ServerConfig::builder().alpn(["hq-interop"]).certificate(chain, key).without_tickets().early_data(true).build();
    assert!(matches!(without, Err(ConfigError::EarlyDataWithoutTickets)));
}

/// RFC 9001, 4.6.1: a ticket allows early data by the one size, or not at all.
#[test]
fn tickets_that_limit_early_data_by_a_size() {
    for size in [0, 1, 0x4000, u32::MAX - 1] {
        let world = world(Tickets::new());
        let (mut client, mut server) = (world.client(), world.server());
        let (side, error) = run(&mut client, &mut server, |_, mut flight| {
            for (_, bytes) in flight.iter_mut().filter(|(level, _)| *level == Level::OneRtt) {
                let at = bytes.len() - 8;
                assert_eq!(bytes[at..], [0, 42, 0, 4, 0xff, 0xff, 0xff, 0xff]);
                bytes[at + 4..].copy_from_slice(&u32::to_be_bytes(size));
            }
            flight
        })
        .err()
        .unwrap();
        assert!(side == Side::Client && error.protocol_violation, "{size}: {error}");
    }
}

/// RFC 9000, 7.4.1, and RFC 8446, 4.2.10.
#[test]
fn terms_must_be_kept() {
    let terms = |limits: &[u64], application: &[u8]| Terms { limits: limits.to_vec(), application: application.to_vec() };
    let cases = [
        (terms(&[100, 10], b"settings"), true),
        (terms(&[101, 20], b"settings"), true),
        (terms(&[99, 10], b"settings"), false),
        (terms(&[100, 9], b"settings"), false),
        (terms(&[100, 10], b"other"), false),
        (terms(&[100], b"settings"), false),
        (terms(&[], b""), false),
    ];
    for (case, (terms, accepted)) in cases.into_iter().enumerate() {
        let world = world(Tickets::new());
        world.meet();
        let (mut client, hello, _) = world.offer();
        let mut server = world.server_with(terms);
        let early_data = finish(&mut client, &mut server, hello);
        assert_eq!(early_data == EarlyData::Accepted, accepted, "case {case}");
        let stats = world.tickets.stats();
        assert_eq!((stats.resumed, stats.early_data_other_terms), (1, u64::from(!accepted)), "case {case}");
        assert_eq!(stats.strikes, u64::from(accepted));
    }
}

#[test]
#[should_panic(expected = "256 limits")]
fn terms_fit_into_a_ticket() {
    let world = world(Tickets::new());
    let _ = world.server_with(Terms { limits: vec![0; 256], application: Vec::new() });
}

/// RFC 8446, 8: a copy of a first flight brings nothing, however often and from wherever it comes.
#[test]
fn replays_are_rejected() {
    let world = world(Tickets::new());
    world.meet();
    let (_, hello, _) = world.offer();
    let accepted: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let answers = (0..2500).map(|_| world.answer(world.terms.clone(), &hello));
                    answers.filter(|(resumed, accepted)| *resumed && *accepted).count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(accepted, 1);
    let stats = world.tickets.stats();
    assert_eq!((stats.early_data_accepted, stats.early_data_replayed, stats.strikes), (1, 9999, 1));
}

/// For as long as the age in a copy may pass for the ticket's, the register knows the ticket; and later, the age does not pass.
#[test]
fn a_copy_is_of_no_use_at_any_time() {
    // A client may believe the ticket to be a minute older than it is: its first flight is fresh for two.
    for ahead in [0, 60] {
        // At any time of a generation of the register.
        for start in [0, 1, 64, 127] {
            let clients = Clock::new();
            let world = changed_world(Tickets::new(), |client| client.clock(clients.clone()), |server| server);
            world.clock.advance(SECOND * start);
            world.meet();
            clients.advance(SECOND * ahead);
            let (_, hello, _) = world.offer();
            assert_eq!(world.answer(world.terms.clone(), &hello), (true, true));
            for second in 1..400 {
                world.clock.advance(SECOND);
                assert_eq!(world.answer(world.terms.clone(), &hello), (true, false), "{second} s later");
            }
            let stats = world.tickets.stats();
            assert_eq!(
                (stats.early_data_replayed > 60 + u64::from(ahead), stats.strikes),
                (true, 0),
                "what cannot come again is forgotten"
            );
        }
    }
}

/// RFC 8446, 8.3: one that was held back, and never came before.
#[test]
fn early_data_that_comes_late() {
    for (late, accepted) in [(0, true), (60, true), (61, false), (3600, false)] {
        let world = world(Tickets::new());
        world.meet();
        let (_, hello, _) = world.offer();
        world.clock.advance(SECOND * late);
        assert_eq!(world.answer(world.terms.clone(), &hello), (true, accepted), "{late} s");
        assert_eq!(world.tickets.stats().strikes, u64::from(accepted), "what was not taken is not remembered");
    }
}

/// A copy whose binder is spoiled must not use up the ticket: whoever sees a first flight can send one.
#[test]
fn a_failed_handshake_leaves_the_ticket() {
    let world = world(Tickets::new());
    world.meet();
    let (_, hello, _) = world.offer();
    let mut spoiled = hello.clone();
    *spoiled.last_mut().unwrap() ^= 1;
    let error = world.server().advance(&[(Level::Initial, spoiled)]).unwrap_err();
    assert_eq!(error.alert, DECRYPT_ERROR);
    assert_eq!(world.tickets.stats().strikes, 0);
    assert_eq!(world.answer(world.terms.clone(), &hello), (true, true));
}

#[test]
fn a_full_register_rejects_early_data_and_resumes() {
    let world = world(Tickets::new().count(4).strikes(3));
    world.meet();
    let hellos: Vec<Vec<u8>> = (0..4).map(|_| world.offer().1).collect();
    let answers: Vec<(bool, bool)> = hellos.iter().map(|hello| world.answer(world.terms.clone(), hello)).collect();
    assert_eq!(answers, [(true, true), (true, true), (true, true), (true, false)]);
    let stats = world.tickets.stats();
    assert_eq!((stats.early_data_register_full, stats.strikes), (1, 3));
    // What was turned away may come again when there is room, if it is not too old then; what was taken may not.
    world.clock.advance(SECOND * 60);
    world.clock.advance(SECOND * 68);
    world.meet();
    let (_, hello, _) = world.offer();
    assert_eq!(world.answer(world.terms.clone(), &hello), (true, true));
    assert_eq!(world.answer(world.terms.clone(), &hellos[0]), (true, false));
}

/// After a restart, and at another server, the secret is the same, and nobody knows which tickets were used.
#[test]
fn a_lost_register_rejects_early_data_and_resumes() {
    let (chain, key) = credentials(|_| ());
    let clock = Clock::new();
    let server = |tickets: &Tickets| {
        let server = ServerConfig::builder().alpn(["hq-interop"]).certificate(chain.clone(), key.clone());
        server.tickets(tickets.clone()).early_data(true).clock(clock.clone()).build().unwrap()
    };
    let client = ClientConfig::builder().alpn(["hq-interop"]).roots(chain.clone()).clock(clock.clone()).build().unwrap();
    let before = Tickets::from_secret([7; 32]);
    let (mut first, mut at_server) = sessions(&client, &server(&before));
    run(&mut first, &mut at_server, unchanged).unwrap();
    let (mut second, mut at_server) = sessions(&client, &server(&before));
    second.offer_early_data();
    let hello = second.advance(&[]).unwrap().output.remove(0).1;
    assert_eq!(finish(&mut second, &mut at_server, hello.clone()), EarlyData::Accepted);

    let after = Tickets::from_secret([7; 32]);
    let replayed = |tickets: &Tickets| {
        let mut session = Session::server(&server(tickets), Version::V1, Vec::new(), Terms::default());
        session.advance(&[(Level::Initial, hello.clone())]).unwrap().early_data
    };
    assert_eq!(replayed(&after), Some(false));
    assert_eq!((after.stats().early_data_elsewhere, after.stats().unopened), (1, 0));
    // The client's newest ticket is of before, too; with the one that it gets, it is at home.
    for (early_data, elsewhere) in [(EarlyData::Rejected, 2), (EarlyData::Accepted, 2)] {
        let (mut again, mut at_server) = sessions(&client, &server(&after));
        again.offer_early_data();
        let hello = again.advance(&[]).unwrap().output.remove(0).1;
        assert_eq!(finish(&mut again, &mut at_server, hello), early_data);
        assert_eq!(after.stats().early_data_elsewhere, elsewhere);
    }
    assert_eq!(after.stats().resumed, 3);
    // A clock that an operator sets back by an hour makes old copies fresh again.
    clock.advance(SECOND * 3600);
    assert_eq!(replayed(&before), Some(false), "too old");
    clock.set_back(SECOND * 3600);
    assert_eq!(replayed(&before), Some(false));
    assert_eq!(before.stats().early_data_elsewhere, 1);
}

/// RFC 8446, 4.2.10: early data is for the application protocol that was spoken then.
#[test]
fn another_application_protocol() {
    let (chain, key) = credentials(|_| ());
    let tickets = Tickets::new();
    let server = |alpn: [&str; 2]| {
        let server = ServerConfig::builder().alpn(alpn).certificate(chain.clone(), key.clone());
        server.tickets(tickets.clone()).early_data(true).build().unwrap()
    };
    let client = ClientConfig::builder().alpn(["a", "b"]).roots(chain.clone()).build().unwrap();
    let connect = |server: &ServerConfig| {
        let (mut client, mut server) = sessions(&client, server);
        client.offer_early_data();
        let [at_client, _] = run(&mut client, &mut server, unchanged).unwrap();
        let outcome = at_client.outcomes[0].clone();
        (outcome.alpn.unwrap(), outcome.resumed, outcome.early_data)
    };
    let (a_first, b_first) = (server(["a", "b"]), server(["b", "a"]));
    assert_eq!(connect(&a_first), (b"a".to_vec(), false, EarlyData::NotOffered));
    assert_eq!(connect(&a_first), (b"a".to_vec(), true, EarlyData::Accepted));
    assert_eq!(connect(&b_first), (b"b".to_vec(), true, EarlyData::Rejected));
    assert_eq!(connect(&b_first), (b"b".to_vec(), true, EarlyData::Accepted));
    assert_eq!(tickets.stats().strikes, 2);
}

/// What a server keeps that answers for early data under whatever protocol it now speaks.
#[derive(Debug, Default)]
struct Faithless(Mutex<Vec<(Vec<u8>, Vec<u8>)>>);

impl StoresServerSessions for Faithless {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.0.lock().unwrap().push((key, value));
        true
    }

    fn get(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    /// The protocol's name, of one byte, stands in front of what was added (nothing, with its length), a time and an age.
    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let (known, mut value) = self.0.lock().unwrap().pop()?;
        let at = value.len() - 2 - 8 - 4 - 1;
        assert_eq!((&known[..], value[at]), (key, b'a'));
        value[at] = b'b';
        Some(value)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

/// RFC 8446, 4.2.10: a client does not let its early data be taken for something else.
#[test]
fn a_server_that_accepts_early_data_under_another_protocol() {
    let (chain, key) = credentials(|_| ());
    let storage = Arc::new(Faithless::default());
    let server = |alpn| {
        let server = ServerConfig::builder().alpn([alpn]).certificate(chain.clone(), key.clone()).early_data(true);
        let mut server = server.build().unwrap();
        server.tickets = None;
        server.by_group = Arc::new([]);
        Arc::get_mut(&mut server.tls).unwrap().session_storage = storage.clone();
        server
    };
    let client = ClientConfig::builder().alpn(["a", "b"]).roots(chain.clone()).build().unwrap();
    let (mut first, mut at_server) = sessions(&client, &server("a"));
    run(&mut first, &mut at_server, unchanged).unwrap();
    let (mut second, mut at_server) = sessions(&client, &server("b"));
    second.offer_early_data();
    let (side, error) = run(&mut second, &mut at_server, unchanged).err().unwrap();
    assert_eq!((side, error.alert), (Side::Client, ILLEGAL_PARAMETER), "{error}");
    assert!(error.message.contains("application protocol"), "{error}");
}

/// RFC 9001, 4.6.2: HelloRetryRequest always rejects early data, and a client knows it from that message on.
#[test]
fn hello_retry_request_rejects_early_data() {
    let (chain, key) = credentials(|_| ());
    let tickets = Tickets::new();
    let server = |groups: &[NamedGroup]| {
        let server = ServerConfig::builder().alpn(["hq-interop"]).certificate(chain.clone(), key.clone());
        server.groups(groups.iter().copied()).tickets(tickets.clone()).early_data(true).build().unwrap()
    };
    let client = ClientConfig::builder().alpn(["hq-interop"]).roots(chain.clone()).build().unwrap();
    let (mut first, mut at_server) = sessions(&client, &server(&[NamedGroup::X25519]));
    run(&mut first, &mut at_server, unchanged).unwrap();

    let (mut client, mut server) = sessions(&client, &server(&[NamedGroup::Secp256r1]));
    client.offer_early_data();
    let hello = client.advance(&[]).unwrap();
    assert!(hello.early_keys.is_some());
    let retry = server.advance(&hello.output).unwrap();
    assert_eq!((retry.early_data, retry.keys.len()), (Some(false), 0));
    let second = client.advance(&retry.output).unwrap();
    assert_eq!((second.early_data, second.peer_transport_parameters), (Some(false), None));
    let answer = server.advance(&second.output).unwrap();
    assert_eq!((answer.early_data, answer.early_keys.is_none()), (None, true));
    let finished = client.advance(&answer.output).unwrap();
    assert_eq!(finished.early_data, None);
    let outcome = finished.outcome.unwrap();
    assert_eq!((outcome.early_data, outcome.resumed), (EarlyData::Rejected, true));
    assert_eq!(tickets.stats().strikes, 0);
}

/// The remembered parameters are not the server's: those come with its first flight, and may be others.
#[test]
fn parameters_that_have_changed() {
    let world = world(Tickets::new());
    world.meet();
    let (mut client, hello, _) = world.offer();
    let mut server = Session::server(&world.server, Version::V1, b"new parameters".to_vec(), world.terms.clone());
    let answer = server.advance(&[(Level::Initial, hello)]).unwrap();
    let finished = client.advance(&answer.output).unwrap();
    assert_eq!(finished.peer_transport_parameters.as_deref(), Some(&b"new parameters"[..]));
}

/// A server that cannot open the ticket.
#[test]
fn a_server_without_the_key() {
    let world = world(Tickets::new());
    world.meet();
    let (mut client, hello, _) = world.offer();
    let other = Tickets::new();
    let (chain, key) = credentials(|_| ());
    let server = ServerConfig::builder().alpn(["hq-interop"]).certificate(chain, key).tickets(other.clone()).early_data(true);
    let mut server = Session::server(&server.build().unwrap(), Version::V1, b"server parameters".to_vec(), world.terms.clone());
    let answer = server.advance(&[(Level::Initial, hello)]).unwrap();
    assert_eq!(answer.early_data, Some(false));
    assert_eq!((other.stats().unopened, other.stats().early_data_rejected), (1, 1));
    // Its certificate is not one that the client trusts: nothing of the earlier session vouches for it.
    let error = client.advance(&answer.output).unwrap_err();
    assert!([DECRYPT_ERROR, UNKNOWN_CA].contains(&error.alert), "{error}");
}
