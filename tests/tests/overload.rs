//! More handshakes than the processors can do: first packets of nobody, and of too many. Over real sockets, since a simulation has no
//! threads.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use weald_crypto::{CryptoPool, simulation};
use weald_quic::codec::Crypto;
use weald_quic::{ConnectError, ConnectionError, Endpoint, EndpointConfig, Refusal, RetryPolicy, TransportConfig, TransportErrorCode};
use weald_runtime::net::UdpSocket;
use weald_runtime::time::Instant;
use weald_runtime::{Runtime, sleep, spawn};
use weald_tests::attack::{Honest, echo};
use weald_tests::attacker::{Attacker, Kind, Stage};
use weald_tests::world::{client_config, server_config};

/// Steps that may wait in these tests.
const QUEUE: usize = 64;
/// With how many clients have to show their address.
const LOAD: usize = QUEUE / 4;
/// What is on its way when the load is seen, and what the worker does in its pool's stead meanwhile.
const SLACK: usize = 10;

/// A server on one worker, with a connection that is in use, whose handshakes' only thread is busy until the last value is dropped.
fn overloaded(policy: RetryPolicy) -> (Endpoint, CryptoPool, mpsc::Sender<()>) {
    let pool = CryptoPool::with_queue(1, QUEUE);
    let config = server_config(1, TransportConfig::default()).retry(policy);
    let shared = EndpointConfig::new().crypto_pool(pool.clone());
    let server = Endpoint::server_with(&shared, config, loopback()).expect("a server");
    let accepting = server.clone();
    spawn(move || {
        while let Some(connection) = accepting.accept() {
            spawn(move || echo(&connection));
        }
    });
    let address = server.local_addr().expect("an address");
    let used = client().connect(address, simulation::SERVER_NAME).expect("a connection");
    spawn(move || {
        let mut stream = used.open_uni().expect("the first stream");
        while stream.write_all(b".").is_ok() {
            sleep(Duration::from_millis(5));
        }
    });
    sleep(Duration::from_millis(200));
    let (release, released) = mpsc::channel::<()>();
    let taken = pool.submit(move || {
        let _ = released.recv();
    });
    assert!(taken.is_ok());
    while pool.queued() > 0 {
        sleep(Duration::from_millis(1));
    }
    (server, pool, release)
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

fn on_a_worker(f: impl FnOnce() + Send) {
    Runtime::builder().workers(1).build().expect("a runtime").run(f);
}

/// A client's endpoint, whose own steps run on its worker.
fn client() -> Endpoint {
    let endpoint = Endpoint::client_with(&EndpointConfig::new().crypto_pool(CryptoPool::new(0)), loopback()).expect("a client");
    endpoint.set_default_client_config(client_config(2, TransportConfig::default()));
    endpoint
}

/// First packets of clients that do not exist, with one ClientHello that the server reads whole.
struct Strangers {
    client: Option<Attacker>,
    hello: Vec<u8>,
    sent: u64,
}

impl Strangers {
    fn new(server: SocketAddr) -> Self {
        let (told, hello) = mpsc::channel();
        let mut client = Attacker::client(1, loopback(), server).crypto(move |_, message| told.send(message.clone()).expect("it is read"));
        client.handshake(Stage::HelloSent);
        Self { client: Some(client), hello: hello.recv().expect("a ClientHello"), sent: 0 }
    }

    fn next(&mut self) -> Vec<u8> {
        self.sent += 1;
        // The ClientHello names the source id: another would end the handshake before TLS begins.
        let destination = self.sent.to_be_bytes();
        let mut client = self.client.take().expect("it is put back").destination(&destination);
        let datagram = client.packet(Kind::Initial).number(0).frame(&Crypto { offset: 0, data: &self.hello }).build();
        self.client = Some(client);
        datagram
    }
}

/// How long it takes from a flood's first packet until a Retry comes back, and that no more were let in than make a load.
fn time_until_retry() -> Duration {
    let mut taken = Duration::ZERO;
    on_a_worker(|| {
        let (server, pool, release) = overloaded(RetryPolicy::UnderLoad);
        let mut strangers = Strangers::new(server.local_addr().expect("an address"));
        let socket = UdpSocket::bind(loopback()).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        let datagrams: Vec<_> = (0..4 * QUEUE).map(|_| strangers.next()).collect();
        let begin = Instant::now();
        for datagram in &datagrams {
            socket.send_to(datagram, server.local_addr().expect("an address")).expect("it is sent");
        }
        let mut answer = [0; 2048];
        loop {
            let (len, _) = socket.recv_from(&mut answer).expect("an answer");
            // RFC 9000, 17.2: Retry is type 3.
            if len > 0 && answer[0] & 0xf0 == 0xf0 {
                break;
            }
        }
        taken = begin.elapsed();
        while server.stats().retries < (3 * QUEUE) as u64 {
            sleep(Duration::from_millis(1));
        }
        let stats = server.stats();
        assert!(stats.accepted as usize <= 2 + LOAD + SLACK && stats.overloaded >= stats.retries, "{stats:?}");
        assert!(
            pool.queued() <= LOAD && server.open_connections() <= 2 + LOAD + SLACK,
            "{pool:?}, {} connections",
            server.open_connections()
        );
        drop(release);
    });
    taken
}

#[test]
fn strangers_are_sent_a_retry_within_a_tenth_of_a_second_of_overload() {
    // Where others have the processors, one of some attempts gets them for long enough.
    let attempts: Vec<_> = (0..10)
        .map(|_| time_until_retry())
        .scan(false, |is_enough, taken| (!std::mem::replace(is_enough, taken < Duration::from_millis(100))).then_some(taken))
        .collect();
    assert!(attempts.iter().min().is_some_and(|taken| *taken < Duration::from_millis(100)), "{attempts:?}");
}

#[test]
fn an_established_connection_and_a_newcomer_are_served_in_a_flood_of_first_packets() {
    on_a_worker(|| {
        let (server, pool, release) = overloaded(RetryPolicy::UnderLoad);
        let address = server.local_addr().expect("an address");
        let client = client();
        let established = client.connect(address, simulation::SERVER_NAME).expect("the worker does it itself");
        let mut strangers = Strangers::new(address);
        let socket = UdpSocket::bind(loopback()).expect("a socket");
        let newcomer = {
            let client = client.clone();
            // When the flood is under way.
            spawn(move || {
                sleep(Duration::from_millis(100));
                client.connect(address, simulation::SERVER_NAME)
            })
        };
        let begin = Instant::now();
        let mut packets = 0;
        while begin.elapsed() < Duration::from_millis(1500) {
            for _ in 0..50 {
                socket.send_to(&strangers.next(), address).expect("it is sent");
                packets += 1;
            }
            Honest::exchange(&established, packets);
        }
        let newcomer = newcomer.join().expect("no panic").expect("it is let in");
        // By its Retry, or the token of the connection before.
        assert!(newcomer.stats().retried || newcomer.stats().address_token, "{:?}", server.stats());
        let (stats, connections) = (server.stats(), server.open_connections());
        // Each second lets in as many as make a load, and those whom the worker served.
        assert!(packets > 500 && stats.accepted < 60 + 50 * 3 && pool.queued() <= QUEUE, "{packets} packets, {stats:?}");
        assert!(stats.retries > packets / 2 && stats.overloaded > packets / 2, "{packets} packets, {stats:?}");
        assert!(connections < 250, "{connections}");
        drop(release);
    });
}

#[test]
fn an_established_connection_goes_before_strangers_that_came_first() {
    on_a_worker(|| {
        let config = server_config(1, TransportConfig::default()).retry(RetryPolicy::Always);
        let server = Endpoint::server(config, loopback()).expect("a server");
        let address = server.local_addr().expect("an address");
        let established = client().connect(address, simulation::SERVER_NAME).expect("a connection");
        let accepted = server.accept().expect("the same");
        let mut strangers = Strangers::new(address);
        let datagrams: Vec<_> = (0..250).map(|_| strangers.next()).collect();
        let socket = UdpSocket::bind(loopback()).expect("a socket");
        let mut stream = established.open_uni().expect("a stream");
        let before = server.stats().retries;
        let answered = || server.stats().retries - before;
        // Both ends are on this worker: nobody looks at a socket until it parks.
        for datagram in &datagrams {
            socket.send_to(datagram, address).expect("it is sent");
        }
        stream.write_all(b".").expect("it is open");
        let mut received = accepted.accept_uni().expect("it comes behind them");
        received.read_exact(&mut [0]).expect("a byte");
        assert!(answered() < 200, "{} strangers went first", answered());
        while answered() < datagrams.len() as u64 {
            sleep(Duration::from_millis(1));
        }
    });
}

#[test]
fn past_a_full_queue_clients_are_refused_and_those_who_were_let_in_go_on() {
    on_a_worker(|| {
        let (server, pool, release) = overloaded(RetryPolicy::Never);
        let address = server.local_addr().expect("an address");
        let client = client();
        // More than the worker does in its pool's stead meanwhile.
        let clients: Vec<_> = (0..6 * QUEUE)
            .map(|_| {
                let client = client.clone();
                spawn(move || client.connect(address, simulation::SERVER_NAME))
            })
            .collect();
        while server.stats().refused[Refusal::Processors] < QUEUE as u64 {
            assert!(pool.queued() <= QUEUE);
            sleep(Duration::from_millis(1));
        }
        let served = pool.stats().here as usize;
        assert!(server.open_connections() <= 1 + QUEUE + SLACK + served, "{}, {served} served", server.open_connections());
        drop(release);
        let mut refused = 0;
        for client in clients {
            match client.join().expect("no panic") {
                Ok(_) => {}
                Err(ConnectError::Connection(ConnectionError::ConnectionClosed(close))) => {
                    assert_eq!(close.code, TransportErrorCode::CONNECTION_REFUSED);
                    refused += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        let stats = server.stats();
        assert!((QUEUE..=5 * QUEUE).contains(&refused) && stats.overloaded as usize >= refused, "{refused} refused, {stats:?}");
    });
}
