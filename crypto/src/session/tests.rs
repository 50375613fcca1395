//! Handshakes between two sessions in memory: what they agree on, and how they fail.

use std::sync::{Arc, Mutex};

use super::{EarlyData, Outcome, Session, State, Step};
use crate::{
    Certificates, CipherSuite, ClientAuth, ClientConfig, ClientConfigBuilder, ConfigError, DirectionKeys, KeyLog, KeyLogFile, Keys, Level,
    NamedGroup, OneRttSecrets, PrivateKey, ServerCertificates, ServerConfig, ServerConfigBuilder, Side, TAG_LEN, Terms, TlsError, Version,
};

mod early_data;
mod key_shares;
mod resumption;
mod rustls_peer;

const HOST: &str = "server.example";

// Alerts: RFC 8446, 6.
const UNEXPECTED_MESSAGE: u8 = 10;
const HANDSHAKE_FAILURE: u8 = 40;
const BAD_CERTIFICATE: u8 = 42;
const UNSUPPORTED_CERTIFICATE: u8 = 43;
const CERTIFICATE_EXPIRED: u8 = 45;
const ILLEGAL_PARAMETER: u8 = 47;
const UNKNOWN_CA: u8 = 48;
const DECODE_ERROR: u8 = 50;
const DECRYPT_ERROR: u8 = 51;
const MISSING_EXTENSION: u8 = 109;
const UNRECOGNIZED_NAME: u8 = 112;
const CERTIFICATE_REQUIRED: u8 = 116;
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// A self-signed certificate and its key.
fn credentials(change: impl FnOnce(&mut rcgen::CertificateParams)) -> (Certificates, PrivateKey) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new([HOST.to_owned()]).unwrap();
    change(&mut params);
    let certificate = params.self_signed(&key).unwrap();
    let key = PrivateKey::from_pem(key.serialize_pem().as_bytes()).unwrap();
    (Certificates::from_pem(certificate.pem().as_bytes()).unwrap(), key)
}

/// A client and a server that trust each other's configuration, before each is changed.
fn configs(
    client: impl FnOnce(ClientConfigBuilder) -> ClientConfigBuilder,
    server: impl FnOnce(ServerConfigBuilder) -> ServerConfigBuilder,
) -> (ClientConfig, ServerConfig) {
    let (chain, key) = credentials(|_| ());
    let client = client(ClientConfig::builder().alpn(["h3", "hq-interop"]).roots(chain.clone()));
    let server = server(ServerConfig::builder().alpn(["hq-interop"]).certificate(chain, key));
    (client.build().unwrap(), server.build().unwrap())
}

fn sessions(client: &ClientConfig, server: &ServerConfig) -> (Session, Session) {
    let client = Session::client(client, Version::V1, HOST, b"client parameters".to_vec()).unwrap();
    (client, Session::server(server, Version::V1, b"server parameters".to_vec(), Terms::default()))
}

/// All that one end's steps gave.
#[derive(Default)]
struct Collected {
    keys: Vec<(Level, Keys)>,
    secrets: Option<OneRttSecrets>,
    parameters: Vec<Vec<u8>>,
    outcomes: Vec<Outcome>,
    complete: bool,
}

impl Collected {
    fn add(&mut self, step: Step) -> Vec<(Level, Vec<u8>)> {
        self.keys.extend(step.keys);
        self.secrets = self.secrets.take().or(step.one_rtt_secrets);
        self.parameters.extend(step.peer_transport_parameters);
        self.outcomes.extend(step.outcome);
        self.complete = step.complete;
        step.output
    }
}

type Flight = Vec<(Level, Vec<u8>)>;

/// Runs a handshake until neither end has more to say. `carry` sees each flight on its way, and may change it.
fn run(
    client: &mut Session,
    server: &mut Session,
    mut carry: impl FnMut(Side, Flight) -> Flight,
) -> Result<[Collected; 2], (Side, TlsError)> {
    let [mut at_client, mut at_server] = [Collected::default(), Collected::default()];
    let mut flight = at_client.add(client.advance(&[]).map_err(|error| (Side::Client, error))?);
    while !flight.is_empty() {
        let sent = carry(Side::Client, flight);
        flight = at_server.add(server.advance(&sent).map_err(|error| (Side::Server, error))?);
        if flight.is_empty() {
            break;
        }
        let sent = carry(Side::Server, flight);
        flight = at_client.add(client.advance(&sent).map_err(|error| (Side::Client, error))?);
    }
    Ok([at_client, at_server])
}

fn unchanged(_: Side, flight: Flight) -> Flight {
    flight
}

fn assert_same_keys(sender: &DirectionKeys, receiver: &DirectionKeys) {
    let mut packet = [0; 5 + TAG_LEN];
    sender.packet.seal(3, b"header", &mut [], b"hello", &mut packet);
    let mut out = [0; 5];
    assert_eq!(receiver.packet.open(3, b"header", &packet, &mut out), Ok(5));
    assert_eq!(&out, b"hello");
    assert_eq!(sender.header.mask(&[9; 16]), receiver.header.mask(&[9; 16]));
}

fn exported(outcome: &Outcome, label: &[u8], context: &[u8]) -> [u8; 40] {
    let mut out = [0; 40];
    outcome.exporter.export(label, context, &mut out).unwrap();
    out
}

/// A handshake between `client` and `server` succeeds, and both ends end up with the same.
fn assert_success(client: &mut Session, server: &mut Session, carry: impl FnMut(Side, Flight) -> Flight) -> Outcome {
    let [at_client, at_server] = run(client, server, carry).unwrap_or_else(|(side, error)| panic!("{side:?}: {error}"));
    assert!(at_client.complete && at_server.complete);
    assert_eq!(at_client.parameters, [b"server parameters"]);
    assert_eq!(at_server.parameters, [b"client parameters"]);
    for keys in [&at_client.keys, &at_server.keys] {
        let levels: Vec<Level> = keys.iter().map(|(level, _)| *level).collect();
        assert_eq!(levels, [Level::Handshake, Level::OneRtt]);
    }
    for ((_, at_client), (_, at_server)) in at_client.keys.iter().zip(&at_server.keys) {
        assert_same_keys(&at_client.local, &at_server.remote);
        assert_same_keys(&at_server.local, &at_client.remote);
    }
    // RFC 9001, 6.1: both ends reach the same next generation.
    let (next_at_client, next_at_server) = (at_client.secrets.unwrap().next(), at_server.secrets.unwrap().next());
    let mut packet = [0; 1 + TAG_LEN];
    next_at_client.packet_keys().local.seal(4, b"", &mut [], b"x", &mut packet);
    assert_eq!(next_at_server.packet_keys().remote.open(4, b"", &packet, &mut [0]), Ok(1));

    let ([of_client], [of_server]) = (&at_client.outcomes[..], &at_server.outcomes[..]) else {
        panic!("one outcome at each end");
    };
    for outcome in [of_client, of_server] {
        assert_eq!(outcome.alpn.as_deref(), Some(&b"hq-interop"[..]));
        assert_eq!(outcome.server_name.as_deref(), Some(HOST));
        assert_eq!((outcome.group, outcome.suite), (of_client.group, of_client.suite));
        assert_eq!((outcome.resumed, outcome.early_data), (of_client.resumed, of_client.early_data));
        assert_eq!(exported(outcome, b"label", b"context"), exported(of_client, b"label", b"context"));
    }
    assert_ne!(exported(of_client, b"label", b"context"), exported(of_client, b"label", b"other"));
    assert_ne!(exported(of_client, b"label", b"context"), exported(of_client, b"lapel", b"context"));
    assert_eq!(of_client.peer_certificates.len(), 1);
    assert!(of_server.peer_certificates.is_empty());
    of_client.clone()
}

#[test]
fn every_group_and_suite() {
    for group in NamedGroup::ALL {
        for suite in CipherSuite::ALL {
            let (client, server) = configs(|client| client.groups([group]).cipher_suites([suite]), |server| server);
            let (mut client, mut server) = sessions(&client, &server);
            let outcome = assert_success(&mut client, &mut server, unchanged);
            assert_eq!((outcome.group, outcome.suite), (group, suite));
        }
    }
}

#[test]
fn defaults_prefer_the_hybrid_group_and_aes_128() {
    let (client, server) = configs(|client| client, |server| server);
    let (mut client, mut server) = sessions(&client, &server);
    let outcome = assert_success(&mut client, &mut server, unchanged);
    assert_eq!(outcome.group, NamedGroup::X25519MlKem768);
    assert_eq!(outcome.suite, CipherSuite::Aes128GcmSha256);
}

#[test]
fn the_server_may_ask_for_another_group() {
    let (client, server) = configs(|client| client, |server| server.groups([NamedGroup::Secp256r1]));
    let (mut client, mut server) = sessions(&client, &server);
    let mut client_flights = 0;
    let outcome = assert_success(&mut client, &mut server, |side, flight| {
        client_flights += usize::from(side == Side::Client);
        flight
    });
    assert_eq!(outcome.group, NamedGroup::Secp256r1);
    // Two ClientHellos, around a HelloRetryRequest, and the Finished.
    assert_eq!(client_flights, 3);
}

/// The client's half of two exchanges is at hand, and the server's order decides between them.
#[test]
fn the_server_prefers_a_group_among_those_at_hand() {
    let hybrid_first = [NamedGroup::X25519MlKem768, NamedGroup::X25519, NamedGroup::Secp256r1];
    for (theirs, chosen) in [
        (&hybrid_first[..], NamedGroup::X25519MlKem768),
        (&[NamedGroup::X25519, NamedGroup::X25519MlKem768], NamedGroup::X25519),
        // It would cost a round trip.
        (&[NamedGroup::Secp256r1, NamedGroup::X25519MlKem768], NamedGroup::X25519MlKem768),
    ] {
        let (client, server) = configs(|client| client.groups(hybrid_first), |server| server.groups(theirs.iter().copied()));
        let (mut client, mut server) = sessions(&client, &server);
        let outcome = assert_success(&mut client, &mut server, unchanged);
        assert_eq!(outcome.group, chosen, "{theirs:?}");
    }
    // It supports the hybrid group, too, but has not begun that exchange.
    let (client, server) = configs(|client| client.groups([NamedGroup::X25519, NamedGroup::X25519MlKem768]), |server| server);
    let (mut client, mut server) = sessions(&client, &server);
    assert_eq!(assert_success(&mut client, &mut server, unchanged).group, NamedGroup::X25519);
}

#[test]
fn messages_may_come_in_any_pieces() {
    for size in [1, 2, 3, 5, 100] {
        let (client, server) = configs(|client| client, |server| server);
        let (mut client, mut server) = sessions(&client, &server);
        assert_success(&mut client, &mut server, |_, flight| {
            let pieces = flight.iter().flat_map(|(level, bytes)| bytes.chunks(size).map(|piece| (*level, piece.to_vec())));
            pieces.collect()
        });
    }
}

/// One piece a job, as packets come.
#[test]
fn a_job_may_yield_nothing() {
    let (client, server) = configs(|client| client, |server| server);
    let (mut client, mut server) = sessions(&client, &server);
    let hello = client.advance(&[]).unwrap().output.remove(0).1;
    let (last, front) = hello.split_last().unwrap();
    for piece in front.chunks(7) {
        let step = server.advance(&[(Level::Initial, piece.to_vec())]).unwrap();
        assert!(step.output.is_empty() && step.keys.is_empty() && !step.complete);
    }
    let step = server.advance(&[(Level::Initial, vec![*last])]).unwrap();
    let levels: Vec<Level> = step.output.iter().map(|(level, _)| *level).collect();
    assert_eq!(levels, [Level::Initial, Level::Handshake]);
    assert!(!step.complete);
}

/// Our exporter is rustls'.
#[test]
fn exporter_agrees_with_rustls() {
    for suite in CipherSuite::ALL {
        let (client, server) = configs(|client| client.cipher_suites([suite]), |server| server);
        let (mut client, mut server) = sessions(&client, &server);
        let outcome = assert_success(&mut client, &mut server, unchanged);
        let State::Running(connection) = &server.state else { panic!("the server runs") };
        let theirs = connection.export_keying_material([0; 40], b"EXPORTER-label", Some(b"context")).unwrap();
        assert_eq!(exported(&outcome, b"EXPORTER-label", b"context"), theirs);
    }
    let (client, server) = configs(|client| client, |server| server);
    let (mut client, mut server) = sessions(&client, &server);
    let outcome = assert_success(&mut client, &mut server, unchanged);
    assert!(outcome.exporter.export(b"label", b"", &mut [0; 255 * 32 + 1]).is_err());
    assert!(outcome.exporter.export(&[b'x'; 250], b"", &mut [0; 32]).is_err());
}

/// The error of the end that a handshake fails at.
fn failure(client: &ClientConfig, server: &ServerConfig) -> (Side, TlsError) {
    let (mut client, mut server) = sessions(client, server);
    run(&mut client, &mut server, unchanged).err().expect("the handshake fails")
}

#[test]
fn a_certificate_for_another_name() {
    let (chain, key) = credentials(|params| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName("other.example".try_into().unwrap())];
    });
    let (client, server) = configs(|client| client.roots(chain.clone()), |server| server.certificate(chain.clone(), key));
    let (side, error) = failure(&client, &server);
    assert_eq!((side, error.alert), (Side::Client, BAD_CERTIFICATE));
    assert!(error.message.contains(HOST) && error.message.contains("other.example"), "{error}");
}

#[test]
fn a_certificate_that_nobody_vouches_for() {
    let (chain, key) = credentials(|params| params.distinguished_name.push(rcgen::DnType::CommonName, "stranger"));
    let (client, server) = configs(|client| client, |server| server.certificate(chain, key));
    let (side, error) = failure(&client, &server);
    assert_eq!((side, error.alert), (Side::Client, UNKNOWN_CA));
    assert!(error.message.contains(HOST) && error.message.contains("trusted"), "{error}");
}

/// Its issuer has the name of a trusted root, and another key.
#[test]
fn a_certificate_of_a_namesake() {
    let (chain, key) = credentials(|_| ());
    let (client, server) = configs(|client| client, |server| server.certificate(chain, key));
    let (side, error) = failure(&client, &server);
    assert_eq!((side, error.alert), (Side::Client, DECRYPT_ERROR));
    assert!(error.message.contains(HOST) && error.message.contains("signature"), "{error}");
}

#[test]
fn an_expired_certificate() {
    let (chain, key) = credentials(|params| params.not_after = rcgen::date_time_ymd(2001, 2, 3));
    let (client, server) = configs(|client| client.roots(chain.clone()), |server| server.certificate(chain.clone(), key));
    let (side, error) = failure(&client, &server);
    assert_eq!((side, error.alert), (Side::Client, CERTIFICATE_EXPIRED));
    assert!(error.message.contains(HOST) && error.message.contains("expired"), "{error}");
}

#[test]
fn any_certificate_will_do_if_verification_is_skipped() {
    let (chain, key) = credentials(|params| params.not_after = rcgen::date_time_ymd(2001, 2, 3));
    let (client, server) = configs(|client| client.dangerous_skip_verification(), |server| server.certificate(chain, key));
    let (mut client, mut server) = sessions(&client, &server);
    assert_success(&mut client, &mut server, unchanged);
}

/// A certificate for clients, or for what `usage` says, and its key.
fn client_credentials(usage: rcgen::ExtendedKeyUsagePurpose) -> (Certificates, PrivateKey) {
    credentials(|params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, "client");
        params.extended_key_usages = vec![usage];
    })
}

#[test]
fn a_client_shows_who_it_is() {
    let (chain, key) = client_credentials(rcgen::ExtendedKeyUsagePurpose::ClientAuth);
    for auth in [ClientAuth::Optional, ClientAuth::Required] {
        for identity in [true, false] {
            let (client, server) = configs(
                |client| if identity { client.identity(chain.clone(), key.clone()) } else { client },
                |server| server.client_roots(chain.clone(), auth),
            );
            let (mut client, mut server) = sessions(&client, &server);
            match run(&mut client, &mut server, unchanged) {
                Ok([at_client, at_server]) => {
                    assert!(at_client.complete && at_server.complete);
                    let shown = if identity { chain.iter().map(<[u8]>::to_vec).collect() } else { Vec::new() };
                    assert_eq!(at_server.outcomes[0].peer_certificates, shown);
                    assert!(identity || auth == ClientAuth::Optional);
                }
                Err((side, error)) => {
                    assert_eq!((side, error.alert), (Side::Server, CERTIFICATE_REQUIRED), "{error}");
                    assert!(!identity && auth == ClientAuth::Required);
                }
            }
        }
    }
    // Nobody asked.
    let (client, server) = configs(|client| client.identity(chain, key), |server| server);
    let (mut client, mut server) = sessions(&client, &server);
    assert_success(&mut client, &mut server, unchanged);
}

/// A certificate that is shown must be good, whether one is required or not.
#[test]
fn a_client_that_shows_a_bad_certificate_is_refused() {
    let (trusted, _) = client_credentials(rcgen::ExtendedKeyUsagePurpose::ClientAuth);
    let stranger = credentials(|params| params.distinguished_name.push(rcgen::DnType::CommonName, "stranger"));
    let namesake = client_credentials(rcgen::ExtendedKeyUsagePurpose::ClientAuth);
    let expired = credentials(|params| params.not_after = rcgen::date_time_ymd(2001, 2, 3));
    let for_servers = client_credentials(rcgen::ExtendedKeyUsagePurpose::ServerAuth);
    let cases = [
        (trusted.clone(), stranger, UNKNOWN_CA),
        (trusted, namesake, DECRYPT_ERROR),
        (expired.0.clone(), expired, CERTIFICATE_EXPIRED),
        (for_servers.0.clone(), for_servers, UNSUPPORTED_CERTIFICATE),
    ];
    for (roots, (chain, key), alert) in cases {
        for auth in [ClientAuth::Optional, ClientAuth::Required] {
            let (client, server) =
                configs(|client| client.identity(chain.clone(), key.clone()), |server| server.client_roots(roots.clone(), auth));
            let (side, error) = failure(&client, &server);
            assert_eq!((side, error.alert), (Side::Server, alert), "{error}");
            assert!(error.message.contains("client's certificate"), "{error}");
        }
    }
}

/// The chain follows the name that the client asks for, and a reload reaches the handshakes that start after it.
#[test]
fn the_chain_is_chosen_by_name_and_exchanged_while_the_server_runs() {
    let named = |name: &str| credentials(|params| params.subject_alt_names = vec![rcgen::SanType::DnsName(name.try_into().unwrap())]);
    let (a, a_key) = named("a.site.example");
    let (wildcard, wildcard_key) = named("*.site.example");
    let server = ServerConfig::builder()
        .alpn(["hq-interop"])
        .certificate_for("a.site.example", a.clone(), a_key)
        .certificate_for("*.site.example", wildcard.clone(), wildcard_key)
        .build()
        .unwrap();
    let shown = |host: &str, roots: &Certificates| {
        let client = ClientConfig::builder().alpn(["hq-interop"]).roots(roots.clone()).build().unwrap();
        let mut client = Session::client(&client, Version::V1, host, Vec::new()).unwrap();
        let mut server = Session::server(&server, Version::V1, Vec::new(), Terms::default());
        run(&mut client, &mut server, unchanged).map(|[at_client, _]| at_client.outcomes[0].peer_certificates.clone())
    };
    let der = |chain: &Certificates| chain.iter().map(<[u8]>::to_vec).collect::<Vec<_>>();
    assert_eq!(shown("a.site.example", &a), Ok(der(&a)));
    assert_eq!(shown("A.Site.example", &a), Ok(der(&a)));
    assert_eq!(shown("b.site.example", &wildcard), Ok(der(&wildcard)));
    for unknown in ["elsewhere.org", "192.0.2.1"] {
        let (side, error) = shown(unknown, &a).unwrap_err();
        assert_eq!((side, error.alert), (Side::Server, UNRECOGNIZED_NAME), "{error}");
    }
    let (next, next_key) = named("elsewhere.org");
    server.clone().reload(ServerCertificates::new().certificate(next.clone(), next_key)).unwrap();
    assert_eq!(shown("elsewhere.org", &next), Ok(der(&next)));
    let (side, error) = shown("a.site.example", &a).unwrap_err();
    assert_eq!(side, Side::Client, "the old chain is gone: {error}");
}

/// RFC 9001, 8.1: no common application protocol is error 0x0178.
#[test]
fn no_common_application_protocol() {
    let (client, server) = configs(|client| client.alpn(["h3"]), |server| server);
    let (side, error) = failure(&client, &server);
    assert_eq!((side, error.alert), (Side::Server, NO_APPLICATION_PROTOCOL));
    assert!(error.message.contains("application protocol"), "{error}");
}

#[test]
fn no_common_group_or_suite() {
    let (client, server) = configs(|client| client.groups([NamedGroup::X25519]), |server| server.groups([NamedGroup::Secp256r1]));
    let (side, error) = failure(&client, &server);
    assert_eq!((side, error.alert), (Side::Server, HANDSHAKE_FAILURE));
    let (client, server) = configs(
        |client| client.cipher_suites([CipherSuite::Aes128GcmSha256]),
        |server| server.cipher_suites([CipherSuite::Aes256GcmSha384]),
    );
    let (side, error) = failure(&client, &server);
    assert_eq!((side, error.alert), (Side::Server, HANDSHAKE_FAILURE));
}

/// RFC 9001, 8.2: a ClientHello without transport parameters is answered with missing_extension.
#[test]
fn a_client_that_does_not_speak_quic() {
    let (client, server) = configs(|client| client, |server| server);
    let name = HOST.try_into().unwrap();
    let mut tls = rustls::ClientConnection::new(client.tls.clone(), name).unwrap();
    let mut record = Vec::new();
    tls.write_tls(&mut record).unwrap();
    let mut server = Session::server(&server, Version::V1, Vec::new(), Terms::default());
    let error = server.advance(&[(Level::Initial, record.split_off(5))]).unwrap_err();
    assert_eq!(error.alert, MISSING_EXTENSION, "{error}");
}

#[test]
fn names() {
    let (client, _) = configs(|client| client, |server| server);
    let session = |name| Session::client(&client, Version::V1, name, Vec::new());
    for name in ["localhost", "a.b.example", "192.0.2.1", "2001:db8::1"] {
        assert!(session(name).is_ok(), "{name}");
    }
    for name in ["", "a b", "-", "[2001:db8::1]", "a:1"] {
        let Err(error) = session(name) else { panic!("{name:?} was accepted") };
        assert!(matches!(error, ConfigError::ServerName { .. }));
        assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
    }
}

#[test]
fn truncated_flights_wait() {
    let (client, server) = configs(|client| client.groups([NamedGroup::X25519]), |server| server);
    let (mut client, _) = sessions(&client, &server);
    let hello = client.advance(&[]).unwrap().output.remove(0).1;
    for len in 0..hello.len() {
        let mut server = Session::server(&server, Version::V1, Vec::new(), Terms::default());
        let step = server.advance(&[(Level::Initial, hello[..len].to_vec())]).unwrap();
        assert!(step.output.is_empty() && !step.complete, "{len} of {} bytes", hello.len());
    }
}

/// Whatever single byte of whichever flight is changed, nothing panics, and no two ends believe that they agree.
#[test]
fn corrupt_flights_fail() {
    // Tickets are another matter: a changed one is no less a ticket to a client.
    let (client_config, server_config) = configs(|client| client.groups([NamedGroup::X25519]), |server| server.without_tickets());
    for corrupted in [Side::Client, Side::Server] {
        for position in 0.. {
            let (mut client, mut server) = sessions(&client_config, &server_config);
            let mut skip = position;
            let mut changed = false;
            let ends = run(&mut client, &mut server, |side, mut flight| {
                if side == corrupted {
                    for (_, bytes) in &mut flight {
                        match bytes.get_mut(skip) {
                            Some(byte) if !changed => {
                                *byte ^= 1 << (position % 8);
                                changed = true;
                            }
                            _ => skip = skip.saturating_sub(bytes.len()),
                        }
                    }
                }
                flight
            });
            if !changed {
                assert!(ends.is_ok() && position > 100);
                break;
            }
            match ends {
                Ok([client, server]) => assert!(!(client.complete && server.complete), "{corrupted:?}, byte {position}"),
                Err((_, error)) => assert!(!error.message.is_empty()),
            }
        }
    }
}

/// Random bytes at each level, framed as messages or not.
#[test]
fn garbage_is_refused() {
    let (_, server) = configs(|client| client, |server| server);
    let mut random = 0x1234_5678_9abc_def0_u64;
    for round in 0..2000 {
        let mut bytes: Vec<u8> = (0..round % 90)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (random >> 56) as u8
            })
            .collect();
        let framed = round % 2 == 0 && bytes.len() > 4;
        if framed {
            let len = bytes.len() - 4;
            bytes[..4].copy_from_slice(&[1, 0, 0, len as u8]);
        }
        let mut session = Session::server(&server, Version::V1, Vec::new(), Terms::default());
        match session.advance(&[(Level::Initial, bytes)]) {
            Ok(step) => assert!(!framed && step.output.is_empty(), "round {round}"),
            Err(error) => assert!([UNEXPECTED_MESSAGE, DECODE_ERROR, ILLEGAL_PARAMETER].contains(&error.alert), "round {round}: {error:?}"),
        }
    }
}

/// RFC 8446, 4.1: what claims to be longer than any message is refused before it is gathered.
#[test]
fn an_endless_message() {
    let (_, server) = configs(|client| client, |server| server);
    let mut server = Session::server(&server, Version::V1, Vec::new(), Terms::default());
    let error = server.advance(&[(Level::Initial, vec![1, 0xff, 0xff, 0xff, 0])]).unwrap_err();
    assert_eq!(error.alert, DECODE_ERROR);
}

/// RFC 8446, 5.1, and RFC 9001, 4.1.3: nothing from after a change of keys is taken from before it.
#[test]
fn encrypted_messages_at_the_initial_level() {
    let (client, server) = configs(|client| client, |server| server);
    let (mut client, mut server) = sessions(&client, &server);
    let hello = client.advance(&[]).unwrap().output;
    let flight = server.advance(&hello).unwrap().output;
    let joined = flight.into_iter().flat_map(|(_, bytes)| bytes).collect();
    let error = client.advance(&[(Level::Initial, joined)]).unwrap_err();
    assert_eq!(error.alert, UNEXPECTED_MESSAGE);
}

#[test]
fn levels_out_of_turn() {
    let (client_config, server_config) = configs(|client| client, |server| server);
    for level in [Level::ZeroRtt, Level::Handshake, Level::OneRtt] {
        let (mut client, mut server) = sessions(&client_config, &server_config);
        let hello = client.advance(&[]).unwrap().output.remove(0).1;
        let error = server.advance(&[(level, hello.clone())]).unwrap_err();
        assert_eq!(error.alert, UNEXPECTED_MESSAGE);
        // The session stays failed.
        assert_eq!(server.advance(&[(Level::Initial, hello)]).unwrap_err(), error);
        assert_eq!(server.advance(&[]).unwrap_err(), error);
    }
    // A client's Finished belongs to the Handshake level, although the server has 1-RTT keys.
    let (mut client, mut server) = sessions(&client_config, &server_config);
    let ends = run(&mut client, &mut server, |_, flight| {
        let raised = |level| if level == Level::Handshake { Level::OneRtt } else { level };
        flight.into_iter().map(|(level, bytes)| (raised(level), bytes)).collect()
    });
    assert_eq!(ends.err().unwrap().1.alert, UNEXPECTED_MESSAGE);
}

/// RFC 9001, 6: a TLS KeyUpdate is error 0x010a. So is anything that a client tells a server after the handshake.
#[test]
fn messages_after_the_handshake() {
    const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
    let (client, server) = configs(|client| client, |server| server);
    let (mut client, mut server) = sessions(&client, &server);
    assert_success(&mut client, &mut server, unchanged);
    for session in [&mut client, &mut server] {
        let error = session.advance(&[(Level::OneRtt, KEY_UPDATE.to_vec())]).unwrap_err();
        assert_eq!(error.alert, UNEXPECTED_MESSAGE, "{error}");
    }
}

/// Label, client random and secret.
type Told = (String, Vec<u8>, Vec<u8>);

#[derive(Debug, Default)]
struct Remembered(Mutex<Vec<Told>>);

impl KeyLog for Remembered {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        self.0.lock().unwrap().push((label.to_owned(), client_random.to_vec(), secret.to_vec()));
    }
}

#[test]
fn key_logs_are_told_at_both_ends() {
    let logs = [Arc::new(Remembered::default()), Arc::new(Remembered::default())];
    let (client, server) = configs(|client| client.key_log(logs[0].clone()), |server| server.key_log(logs[1].clone()));
    let (mut client, mut server) = sessions(&client, &server);
    assert_success(&mut client, &mut server, unchanged);
    let [at_client, at_server] = logs.map(|log| {
        let mut told = std::mem::take(&mut *log.0.lock().unwrap());
        told.sort();
        told
    });
    assert_eq!(at_client, at_server);
    let labels: Vec<&str> = at_client.iter().map(|(label, ..)| &label[..]).collect();
    assert_eq!(
        labels,
        [
            "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
            "CLIENT_TRAFFIC_SECRET_0",
            "EXPORTER_SECRET",
            "SERVER_HANDSHAKE_TRAFFIC_SECRET",
            "SERVER_TRAFFIC_SECRET_0"
        ]
    );
}

#[test]
fn key_log_file() {
    let path = std::env::temp_dir().join(format!("weald-crypto-{}-keys.log", std::process::id()));
    let file = KeyLogFile::open(&path).unwrap();
    file.log("LABEL", &[0x01, 0xab], &[0xff]);
    KeyLogFile::open(&path).unwrap().log("OTHER", &[0], &[1]);
    let written = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(written, "LABEL 01ab ff\nOTHER 00 01\n");
    let error = KeyLogFile::open("/no/such/directory/keys.log").unwrap_err();
    assert!(error.to_string().contains("/no/such/directory/keys.log"), "{error}");
}

#[test]
fn sessions_cross_threads() {
    fn send<T: Send>() {}
    fn send_and_sync<T: Send + Sync>() {}
    send::<Session>();
    send::<Step>();
    send_and_sync::<TlsError>();
    send_and_sync::<Outcome>();
    send_and_sync::<ClientConfig>();
    send_and_sync::<ServerConfig>();

    // A job runs wherever it likes, and the secrets come along.
    let (client, server) = configs(|client| client, |server| server);
    let (mut client, mut server) = sessions(&client, &server);
    let hello = client.advance(&[]).unwrap().output;
    let (mut server, step) = std::thread::scope(|scope| {
        let job = scope.spawn(move || {
            let step = server.advance(&hello).unwrap();
            (server, step)
        });
        job.join().unwrap()
    });
    assert_eq!(step.keys.len(), 2);
    let finished = client.advance(&step.output).unwrap();
    assert!(finished.complete);
    assert!(server.advance(&finished.output).unwrap().complete);
}
