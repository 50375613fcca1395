//! Sessions that are resumed, and those that must not be.

use std::time::Duration;

use super::*;
use crate::clock::Clock;
use crate::{SessionStore, Tickets};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A client and a server whose clock a test moves.
struct World {
    client: ClientConfig,
    server: ServerConfig,
    tickets: Tickets,
    sessions: SessionStore,
    clock: Clock,
}

fn world(tickets: Tickets, change: impl FnOnce(ServerConfigBuilder) -> ServerConfigBuilder) -> World {
    let (sessions, clock) = (SessionStore::default(), Clock::new());
    let (client, server) = configs(
        |client| client.sessions(sessions.clone()).clock(clock.clone()),
        |server| change(server.tickets(tickets.clone()).clock(clock.clone())),
    );
    World { client, server, tickets, sessions, clock }
}

/// A handshake that succeeds: whether it resumed.
fn connect(client: &ClientConfig, server: &ServerConfig) -> bool {
    let (mut client, mut server) = sessions(client, server);
    let outcome = assert_success(&mut client, &mut server, unchanged);
    assert_eq!(outcome.early_data, EarlyData::NotOffered);
    outcome.resumed
}

#[test]
fn a_client_that_comes_back_resumes() {
    for suite in CipherSuite::ALL {
        let (client, server) = configs(|client| client.cipher_suites([suite]), |server| server);
        assert!(!connect(&client, &server));
        for _ in 0..3 {
            assert!(connect(&client, &server), "each connection brings the ticket for the next");
        }
    }
}

/// The server sends one message NewSessionTicket, and a client wants it until it has come.
#[test]
fn one_ticket_a_connection() {
    for count in [1, 3] {
        let world = world(Tickets::new().count(count), |server| server);
        let (mut client, mut server) = sessions(&world.client, &world.server);
        let mut flights = Vec::new();
        let mut client_wanted = false;
        let [at_client, _] = run(&mut client, &mut server, |side, flight| {
            flights.extend(flight.iter().filter(|(level, _)| *level == Level::OneRtt).map(|(_, bytes)| (side, bytes.clone())));
            flight
        })
        .unwrap();
        assert!(at_client.complete && !client.wants_tickets() && !server.wants_tickets());
        let [(Side::Server, bytes)] = &flights[..] else { panic!("one flight of tickets") };
        assert_eq!((world.tickets.stats().issued, world.sessions.len()), (count as u64, count));
        // RFC 8446, 4.6.1: the type, and a day.
        assert_eq!((bytes[0], &bytes[4..8]), (4, &86_400_u32.to_be_bytes()[..]));
        assert!(bytes.len() < 400 * count, "{} bytes", bytes.len());

        let (mut client, mut server) = sessions(&world.client, &world.server);
        run(&mut client, &mut server, |side, flight| {
            client_wanted |= side == Side::Server && flight.iter().any(|(level, _)| *level == Level::OneRtt);
            flight.into_iter().filter(|(level, _)| *level != Level::OneRtt).collect()
        })
        .unwrap();
        assert!(client_wanted && client.wants_tickets(), "none came yet");
    }
}

#[test]
fn no_tickets_and_no_sessions() {
    let (client, server) = configs(|client| client, |server| server.without_tickets());
    let (mut at_client, mut at_server) = sessions(&client, &server);
    assert_success(&mut at_client, &mut at_server, |_, flight| {
        assert!(flight.iter().all(|(level, _)| *level != Level::OneRtt));
        flight
    });
    assert!(!connect(&client, &server));

    let (client, server) = configs(|client| client.without_sessions(), |server| server);
    assert!(!connect(&client, &server) && !connect(&client, &server));
    let (mut client, mut server) = sessions(&client, &server);
    assert_success(&mut client, &mut server, unchanged);
    assert!(!client.wants_tickets());
}

/// RFC 8446, C.4: a ticket is used once.
#[test]
fn a_client_uses_a_ticket_once() {
    let world = world(Tickets::new().count(2), |server| server);
    assert!(!connect(&world.client, &world.server));
    let hellos: Vec<Vec<u8>> = (0..3)
        .map(|_| {
            let (mut client, _) = sessions(&world.client, &world.server);
            client.advance(&[]).unwrap().output.remove(0).1
        })
        .collect();
    let offers = |hello: &[u8]| offered(hello).is_some();
    assert!(offers(&hellos[0]) && offers(&hellos[1]) && !offers(&hellos[2]));
    let [first, second] = [&hellos[0], &hellos[1]].map(|hello| &hello[offered(hello).unwrap()]);
    assert_ne!(first, second);
}

/// The ticket that a ClientHello offers: pre_shared_key is its last extension (RFC 8446, 4.2.11), and rustls offers one.
fn offered(hello: &[u8]) -> Option<std::ops::Range<usize>> {
    // Type and length of the extension, and the lengths of the identities and of the first one.
    let start = (0..hello.len().saturating_sub(8)).rfind(|&at| {
        let number = |at: usize| usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
        hello[at..at + 2] == [0, 41] && at + 4 + number(at + 2) == hello.len() && number(at + 4) == number(at + 6) + 6
    });
    start.map(|at| at + 8..at + 8 + usize::from(u16::from_be_bytes([hello[at + 6], hello[at + 7]])))
}

#[test]
fn a_ticket_has_its_time() {
    let hour = Duration::from_secs(3600);
    // The client sees to it, by what the server told it; so the other end's view is tested with two clocks.
    for (is_client_late, age, resumes) in [
        (true, hour - Duration::from_secs(1), true),
        (true, hour, false),
        (false, hour - Duration::from_secs(1), true),
        (false, hour, false),
    ] {
        let (clock, late) = (Clock::new(), Clock::new());
        let tickets = Tickets::new().lifetime(hour);
        let (client, server) = configs(
            |client| client.clock(if is_client_late { late.clone() } else { clock.clone() }),
            |server| server.tickets(tickets.clone()).clock(if is_client_late { clock.clone() } else { late.clone() }),
        );
        assert!(!connect(&client, &server));
        late.advance(age);
        assert_eq!(connect(&client, &server), resumes, "{is_client_late} {age:?}");
        assert_eq!(tickets.stats().expired, u64::from(!is_client_late && !resumes));
        assert_eq!(tickets.stats().resumed, u64::from(resumes));
    }
}

/// RFC 8446, 4.6.1: renewal after renewal does not reach beyond seven days after the last handshake with certificates.
#[test]
fn renewal_ends() {
    let world = world(Tickets::new().lifetime(3 * DAY), |server| server);
    assert!(!connect(&world.client, &world.server));
    for _ in 0..3 {
        world.clock.advance(2 * DAY);
        assert!(connect(&world.client, &world.server));
    }
    world.clock.advance(DAY - Duration::from_secs(1));
    assert!(connect(&world.client, &world.server));
    world.clock.advance(Duration::from_secs(1));
    assert!(!connect(&world.client, &world.server), "seven days have passed");
    assert!(connect(&world.client, &world.server), "and begin anew");
}

/// What the server itself goes by, whatever a client keeps.
#[test]
fn renewal_ends_at_the_server() {
    let tickets = Tickets::new().lifetime(3 * DAY);
    let (stopped, clock) = (Clock::new(), Clock::new());
    let (client, server) = configs(|client| client.clock(stopped.clone()), |server| server.tickets(tickets.clone()).clock(clock.clone()));
    assert!(!connect(&client, &server));
    for _ in 0..3 {
        clock.advance(2 * DAY);
        assert!(connect(&client, &server));
    }
    clock.advance(DAY);
    assert!(!connect(&client, &server));
    assert_eq!(tickets.stats().expired, 1);
}

#[test]
fn forged_tickets_lead_to_a_full_handshake() {
    let world = world(Tickets::new(), |server| server);
    let mut refused = 0;
    // Each place of the ticket is changed once, over as many connections; a changed ticket changes the binder's input too, which
    // nobody comes to look at.
    for position in 0.. {
        connect(&world.client, &world.server);
        let (mut client, mut server) = sessions(&world.client, &world.server);
        let mut hello = client.advance(&[]).unwrap().output;
        let ticket = offered(&hello[0].1).expect("the client has a ticket");
        if position == ticket.len() {
            break;
        }
        hello[0].1[ticket.start + position] ^= 1 << (position % 8);
        let step = server.advance(&hello).unwrap();
        // ServerHello, and the four messages of a server that shows its certificate.
        assert!(step.output[1].1.len() > 400, "byte {position}");
        refused += 1;
        assert_eq!(world.tickets.stats().unopened, refused, "byte {position}");
        world.sessions.clear();
    }
    assert!(refused > 150);
}

/// Keys of which a server has only one of two.
#[test]
fn keys_are_rotated() {
    let path = std::env::temp_dir().join(format!("weald-crypto-{}-rotation", std::process::id()));
    let (old, new) = ("11".repeat(32), "22".repeat(32));
    std::fs::write(&path, &old).unwrap();
    let world = world(Tickets::from_file(&path).unwrap(), |server| server);
    let second = Duration::from_secs(1);
    assert!(!connect(&world.client, &world.server));
    std::fs::write(&path, format!("{new}\n{old}")).unwrap();
    world.clock.advance(second);
    assert!(connect(&world.client, &world.server), "the old key still opens");
    std::fs::write(&path, &new).unwrap();
    world.clock.advance(second);
    assert!(connect(&world.client, &world.server), "the new key sealed");
    std::fs::write(&path, &old).unwrap();
    world.clock.advance(second);
    assert!(!connect(&world.client, &world.server));
    std::fs::write(&path, "nothing of use").unwrap();
    world.clock.advance(second);
    assert!(connect(&world.client, &world.server), "what was there before stays");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn servers_that_share_a_secret_resume_each_others_sessions() {
    let (chain, key) = credentials(|_| ());
    let server =
        |tickets| ServerConfig::builder().alpn(["hq-interop"]).certificate(chain.clone(), key.clone()).tickets(tickets).build().unwrap();
    let client = ClientConfig::builder().alpn(["hq-interop"]).roots(chain.clone()).build().unwrap();
    let (one, other) = (server(Tickets::from_secret([7; 32])), server(Tickets::from_secret([7; 32])));
    let stranger = server(Tickets::from_secret([8; 32]));
    assert!(!connect(&client, &one));
    assert!(connect(&client, &other));
    assert!(!connect(&client, &stranger));
    assert!(connect(&client, &stranger));
}

/// RFC 9369, 5, which asks it of both ends.
#[test]
fn a_ticket_of_another_version() {
    let world = world(Tickets::new(), |server| server);
    let versions = [Version::V1, Version::V2];
    let outcome = |at_client: Version, at_server: Version| {
        let mut client = Session::client(&world.client, at_client, HOST, b"client parameters".to_vec()).unwrap();
        let mut server = Session::server(&world.server, at_server, b"server parameters".to_vec(), Terms::default());
        run(&mut client, &mut server, unchanged).unwrap()[0].outcomes[0].resumed
    };
    for (refused, [this, that]) in [versions, [versions[1], versions[0]]].into_iter().enumerate() {
        world.sessions.clear();
        assert!(!outcome(this, this));
        assert!(outcome(this, this));
        assert!(!outcome(that, that), "the client offers none");
        assert_eq!(world.tickets.stats().other_version, refused as u64);
        assert!(!outcome(this, that), "one that offers it all the same");
        assert_eq!(world.tickets.stats().other_version, refused as u64 + 1);
    }
}

/// RFC 9369, 5: after compatible version negotiation a ticket belongs to the version that was negotiated.
#[test]
fn a_ticket_of_a_negotiated_version() {
    let world = world(Tickets::new(), |server| server);
    let hello = |version| {
        let mut client = Session::client(&world.client, version, HOST, b"client parameters".to_vec()).unwrap();
        let hello = client.advance(&[]).unwrap().output;
        (client, hello)
    };
    let (mut client, first) = hello(Version::V1);
    let mut server = Session::server(&world.server, Version::V2, b"server parameters".to_vec(), Terms::default());
    let answer = server.advance(&first).unwrap();
    client.switch_version(Version::V2);
    let finished = client.advance(&answer.output).unwrap();
    client.advance(&server.advance(&finished.output).unwrap().output).unwrap();
    assert_eq!(world.sessions.len(), 1);
    assert!(offered(&hello(Version::V1).1[0].1).is_none());
    let (_, again) = hello(Version::V2);
    assert!(offered(&again[0].1).is_some());
    let mut server = Session::server(&world.server, Version::V2, b"server parameters".to_vec(), Terms::default());
    assert!(server.advance(&again).unwrap().output[1].1.len() < 400, "it resumes");
}

/// RFC 6066, 3: a session is resumed under the name that it was made under.
#[test]
fn a_ticket_of_another_name() {
    let [a, b] = ["a.example", "b.example"];
    let (chain, key) = credentials(|params| {
        params.subject_alt_names = [a, b].map(|name| rcgen::SanType::DnsName(name.try_into().unwrap())).to_vec();
    });
    let tickets = Tickets::new();
    let server = ServerConfig::builder().alpn(["h3"]).certificate(chain.clone(), key).tickets(tickets.clone()).build().unwrap();
    let client = ClientConfig::builder().alpn(["h3"]).roots(chain).build().unwrap();
    let hello = |name| {
        let mut session = Session::client(&client, Version::V1, name, Vec::new()).unwrap();
        let hello = session.advance(&[]).unwrap().output;
        (session, hello)
    };
    let connect = |name, change: &dyn Fn(&mut Vec<u8>)| {
        let (mut client, mut hello) = hello(name);
        let offers = offered(&hello[0].1).is_some();
        change(&mut hello[0].1);
        let mut server = Session::server(&server, Version::V1, Vec::new(), Terms::default());
        let flight = server.advance(&hello).unwrap().output;
        // A full handshake does not go on, as the transcripts differ; a resumed one would have failed before, for the binder.
        let finished = client.advance(&flight).ok();
        if let Some(finished) = &finished {
            let tickets = server.advance(&finished.output).unwrap().output;
            client.advance(&tickets).unwrap();
        }
        (offers, flight[1].1.len() < 400)
    };
    assert_eq!(connect(a, &|_| ()), (false, false));
    assert_eq!(connect("A.example", &|_| ()), (true, true));
    assert_eq!(connect(b, &|_| ()), (false, false), "the client offers none");
    // One that offers it all the same.
    let renamed = |hello: &mut Vec<u8>| {
        let at = hello.windows(a.len()).position(|name| name == a.as_bytes()).unwrap();
        hello[at..at + a.len()].copy_from_slice(b.as_bytes());
    };
    assert_eq!(connect(a, &renamed), (true, false));
    assert_eq!(tickets.stats().resumed, 1);
}

/// A server that wants certificates does not take a ticket for one, if it was given where none was wanted.
#[test]
fn a_ticket_gets_around_no_certificate() {
    let (clients, client_key) = client_credentials(rcgen::ExtendedKeyUsagePurpose::ClientAuth);
    let (chain, key) = credentials(|_| ());
    let tickets = Tickets::new();
    let server = || ServerConfig::builder().alpn(["hq-interop"]).certificate(chain.clone(), key.clone()).tickets(tickets.clone());
    let open = server().build().unwrap();
    let closed = || server().client_roots(clients.clone(), ClientAuth::Required).build().unwrap();
    let nobody = ClientConfig::builder().alpn(["hq-interop"]).roots(chain.clone()).build().unwrap();
    assert!(!connect(&nobody, &open));
    let (side, error) = failure(&nobody, &closed());
    assert_eq!((side, error.alert), (Side::Server, CERTIFICATE_REQUIRED));
    assert_eq!(tickets.stats().unopened, 1);

    // Who has shown one, and comes back, is known by it.
    let known = ClientConfig::builder().alpn(["hq-interop"]).roots(chain.clone()).identity(clients.clone(), client_key).build().unwrap();
    for resumed in [false, true, true] {
        let (mut client, mut server) = sessions(&known, &closed());
        let [at_client, at_server] = run(&mut client, &mut server, unchanged).unwrap();
        assert_eq!(at_client.outcomes[0].resumed, resumed);
        assert_eq!(at_server.outcomes[0].peer_certificates, clients.iter().map(<[u8]>::to_vec).collect::<Vec<_>>());
    }
}

/// A configuration resumes what it has verified itself: one that trusts less must not come in by what another one has verified.
#[test]
fn configurations_share_a_store_and_no_session() {
    let (chain, key) = credentials(|_| ());
    let store = SessionStore::default();
    let server = ServerConfig::builder().alpn(["hq-interop"]).certificate(chain, key).build().unwrap();
    let credulous = ClientConfig::builder().alpn(["hq-interop"]).dangerous_skip_verification().sessions(store.clone()).build().unwrap();
    let (stranger, _) = credentials(|params| params.distinguished_name.push(rcgen::DnType::CommonName, "stranger"));
    let strict = ClientConfig::builder().alpn(["hq-interop"]).roots(stranger).sessions(store.clone()).build().unwrap();
    assert!(!connect(&credulous, &server));
    let (side, error) = failure(&strict, &server);
    assert_eq!((side, error.alert), (Side::Client, UNKNOWN_CA));
    assert_eq!(store.len(), 1, "and it has not used up the other's");
    assert!(connect(&credulous.clone(), &server));
}

#[test]
fn a_store_has_its_bounds() {
    let store = SessionStore::new(3);
    let (chain, key) = credentials(|params| {
        let names = (0..5).map(|host| rcgen::SanType::DnsName(format!("{host}.example").try_into().unwrap()));
        params.subject_alt_names = names.collect();
    });
    let server = ServerConfig::builder().alpn(["h3"]).certificate(chain.clone(), key).tickets(Tickets::new().count(8)).build().unwrap();
    let client = ClientConfig::builder().alpn(["h3"]).roots(chain).sessions(store.clone()).build().unwrap();
    let resumes = |host: usize| {
        let mut client = Session::client(&client, Version::V1, &format!("{host}.example"), Vec::new()).unwrap();
        let mut server = Session::server(&server, Version::V1, Vec::new(), Terms::default());
        run(&mut client, &mut server, unchanged).unwrap()[0].outcomes[0].resumed
    };
    assert!(!resumes(0));
    assert_eq!(store.len(), 4, "four of eight are kept");
    assert!(!resumes(1) && !resumes(2) && resumes(0), "three servers are");
    assert!(!resumes(3));
    assert_eq!(store.len(), 12);
    assert!(resumes(0) && !resumes(1), "the one that was not heard of for longest is forgotten");
    store.clear();
    assert!(store.is_empty() && !resumes(0));
}

/// RFC 8446, 4.6.1: 0 is no lifetime, and nothing is good for more than seven days.
#[test]
fn lifetimes_that_a_server_may_not_set() {
    for (lifetime, kept, expires) in [(0_u32, 0, DAY), (1, 1, Duration::from_secs(1)), (u32::MAX, 1, 7 * DAY)] {
        let world = world(Tickets::new(), |server| server);
        let (mut client, mut server) = sessions(&world.client, &world.server);
        run(&mut client, &mut server, |_, mut flight| {
            for (_, bytes) in flight.iter_mut().filter(|(level, _)| *level == Level::OneRtt) {
                bytes[4..8].copy_from_slice(&lifetime.to_be_bytes());
            }
            flight
        })
        .unwrap();
        assert_eq!(world.sessions.len(), kept);
        let offers = || {
            let (mut client, _) = sessions(&world.client, &world.server);
            offered(&client.advance(&[]).unwrap().output[0].1).is_some()
        };
        world.clock.advance(expires);
        assert!(!offers());
        assert_eq!(world.sessions.len(), 0);
    }
}

/// After HelloRetryRequest the session resumes, and the next connection asks for the right group at once.
#[test]
fn another_group_is_asked_for_once() {
    let (client, server) = configs(|client| client, |server| server.groups([NamedGroup::Secp256r1]));
    for (resumed, flights) in [(false, 3), (true, 2), (true, 2)] {
        let (mut client, mut server) = sessions(&client, &server);
        let mut client_flights = 0;
        let outcome = assert_success(&mut client, &mut server, |side, flight| {
            client_flights += usize::from(side == Side::Client);
            flight
        });
        assert_eq!((outcome.resumed, client_flights), (resumed, flights));
    }
}

/// Who offers tickets without end is not waited for.
#[test]
fn few_tickets_are_opened_for_one_client_hello() {
    let world = world(Tickets::new(), |server| server);
    connect(&world.client, &world.server);
    let (mut client, mut server) = sessions(&world.client, &world.server);
    let hello = client.advance(&[]).unwrap().output.remove(0).1;
    let ticket = offered(&hello).unwrap();
    // As many false tickets as a message holds, each with a binder.
    let (identity, binder) = ([&[0, 50][..], &[7; 50], &[0; 4]].concat(), [&[32][..], &[7; 32]].concat());
    let count = 600;
    let vector = |items: &[u8]| [&(count as u16 * items.len() as u16).to_be_bytes()[..], &items.repeat(count)].concat();
    let offer = [vector(&identity), vector(&binder)].concat();
    let mut changed = hello[..ticket.start - 6].to_vec();
    changed.extend_from_slice(&(offer.len() as u16).to_be_bytes());
    changed.extend_from_slice(&offer);
    let grown = changed.len() - hello.len();
    let message = (changed.len() - 4) as u32;
    changed[1..4].copy_from_slice(&message.to_be_bytes()[1..]);
    // The length of the extensions stands behind version, random, an empty session id, three suites and one compression method.
    let at = 4 + 2 + 32 + 1 + 2 + usize::from(u16::from_be_bytes([hello[39], hello[40]])) + 2;
    let extensions = u16::from_be_bytes([hello[at], hello[at + 1]]) + grown as u16;
    changed[at..at + 2].copy_from_slice(&extensions.to_be_bytes());
    let step = server.advance(&[(Level::Initial, changed)]).unwrap();
    assert!(step.output[1].1.len() > 400, "a full handshake");
    assert_eq!(world.tickets.stats().unopened, 4);
}
