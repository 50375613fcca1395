//! The example `udp_echo` on a simulated network that loses, repeats, reorders and corrupts datagrams, and falls apart.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use weald_runtime::net::UdpSocket;
use weald_runtime::sim::{self, LinkConfig, Verdict};
use weald_runtime::{sleep, spawn, time::Instant};
use weald_tests::hosts::{host, partition, simulate};

#[expect(dead_code, reason = "its main is for people")]
#[path = "../../examples/examples/udp_echo.rs"]
mod udp_echo;

const SERVER: &str = "10.0.0.1:4007";
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn echoes_are_asked_for_again_until_the_partition_is_over() {
    const QUESTIONS: u64 = 40;
    let link = || LinkConfig {
        delay: SECOND / 50,
        jitter: SECOND / 50,
        loss: 0.1,
        duplicate: 0.1,
        reorder: 0.1,
        corrupt: 0.02,
        ..LinkConfig::default()
    };
    sim::explore(0..100, |seed| {
        simulate(seed, link(), || {
            let address: SocketAddr = SERVER.parse().expect("an address");
            let (server, client) = (host("server", "10.0.0.1"), host("client", "10.0.0.2"));
            let serving = server.spawn(move || udp_echo::serve(&UdpSocket::bind(address)?));
            partition(&client, &[&server], 3 * SECOND, 8 * SECOND);
            let times = client.spawn(move || {
                let socket = UdpSocket::bind(SocketAddr::from(([0, 0, 0, 0], 0))).expect("a port");
                let ask = |number: u64| {
                    sleep(Duration::from_millis(250));
                    let question = format!("question {number}");
                    udp_echo::ask(&socket, address, number, question.as_bytes(), 60 * SECOND).expect("answered")
                };
                (0..QUESTIONS).map(ask).collect::<Vec<_>>()
            });
            let times = times.join().expect("no panic");
            // One of them waited for the network; those after it did not.
            assert!(times.iter().max().is_some_and(|longest| *longest > SECOND), "{times:?}");
            assert!(times.last().is_some_and(|last| *last < 10 * SECOND), "{times:?}");
            assert!(sim::trace().iter().any(|entry| entry.verdict == Verdict::Partitioned));
            serving.cancel();
            serving.join().expect("no panic").expect_err("it ends by the cancellation");
        });
    });
}

#[test]
fn a_question_to_nobody_ends() {
    sim::run(1, || {
        let socket = UdpSocket::bind(SocketAddr::from(([10, 0, 0, 2], 0))).expect("a port");
        let began = Instant::now();
        let error = udp_echo::ask(&socket, SERVER.parse().expect("an address"), 1, b"anybody?", 5 * SECOND).expect_err("no answer");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!((5 * SECOND..8 * SECOND).contains(&began.elapsed()), "{:?}", began.elapsed());
    });
}

#[test]
fn what_answers_another_question_is_not_taken() {
    sim::run(1, || {
        let server = UdpSocket::bind(SERVER).expect("a free port");
        let answering = spawn(move || {
            let mut buffer = [0; 100];
            let (len, from) = server.recv_from(&mut buffer).expect("a question");
            let right = buffer[..len].to_vec();
            buffer[0] ^= 1;
            server.send_to(&buffer[..len], from).expect("sent");
            sleep(SECOND / 20);
            server.send_to(&right, from).expect("sent");
        });
        let socket = UdpSocket::bind(SocketAddr::from(([10, 0, 0, 2], 0))).expect("a port");
        let time = udp_echo::ask(&socket, SERVER.parse().expect("an address"), 1, b"well?", SECOND).expect("answered");
        assert!(time > SECOND / 20, "{time:?}");
        answering.join().expect("no panic");
    });
}
