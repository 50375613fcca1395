//! Nodes: their addresses, their crashes, and what becomes of peers.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Node, node};
use crate::net::UdpSocket;
use crate::reactor::Direction;
use crate::sim::network::stream::SimulatedStream;
use crate::sim::{Network, Simulation, Verdict, network, run, trace};
use crate::time::Instant;
use crate::{Builder, park, sleep, spawn, spawn_local};

const SECOND: Duration = Duration::from_secs(1);

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn echo() {
    let socket = UdpSocket::bind(address("0.0.0.0:7")).expect("a free port");
    let mut buffer = [0; 100];
    while let Ok((len, from)) = socket.recv_from(&mut buffer) {
        socket.send_to(&buffer[..len], from).expect("sent");
    }
}

/// Asks the echo at `server` once.
fn ask(server: IpAddr) -> std::io::Result<SocketAddr> {
    let socket = UdpSocket::bind(address("0.0.0.0:0"))?;
    socket.set_read_timeout(Some(SECOND))?;
    socket.send_to(b"hello", SocketAddr::new(server, 7))?;
    let mut buffer = [0; 100];
    socket.recv_from(&mut buffer).map(|(_, from)| from)
}

#[test]
fn nodes_have_addresses_and_ports_of_their_own() {
    run(1, || {
        let servers = [node("one").address(ip("10.0.0.1")).start(), node("two").address(ip("10.0.0.2")).start()];
        for server in &servers {
            server.spawn(echo);
            server.spawn(|| {
                let _mine = UdpSocket::bind(address("127.0.0.1:9")).expect("loopback is each node's own");
                let error = UdpSocket::bind(address("10.0.0.9:9")).map(drop).expect_err("not its address");
                assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
                assert_eq!(ask(ip("127.0.0.1")).expect("over loopback"), address("127.0.0.1:7"));
                sleep(SECOND);
            });
        }
        let client = node("client").start();
        assert_eq!(client.address(), ip("198.18.0.1"));
        for server in &servers {
            let remote = server.address();
            let asked = client.spawn(move || ask(remote)).join().expect("no panic");
            assert_eq!(asked.expect("an answer"), SocketAddr::new(remote, 7));
            assert_eq!(ask(remote).expect("an answer to who is on no node").ip(), remote);
        }
        assert!(trace().iter().any(|entry| entry.from.ip() == client.address() && entry.verdict == Verdict::Delivered));
        assert!(UdpSocket::bind(address("10.0.0.1:99")).is_err(), "a node's address is nobody else's");
        assert!(catch_unwind(|| node("twin").address(ip("10.0.0.1")).start()).is_err());
    });
}

struct CountDrop(Arc<AtomicUsize>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        // The network is cut before anything unwinds.
        assert!(UdpSocket::bind(address("0.0.0.0:0")).is_err());
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_crash_unwinds_what_the_node_has_spawned_and_nothing_else() {
    Simulation::new(1).workers(3).run(|| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let server = node("server").start();
        let other = node("other").start();
        let bystander = other.spawn(|| sleep(10 * SECOND));
        let guard = |dropped: &Arc<AtomicUsize>| CountDrop(Arc::clone(dropped));
        let (first, second, third) = (guard(&dropped), guard(&dropped), guard(&dropped));
        let running = server.spawn(move || {
            let _first = first;
            spawn(move || {
                let _second = second;
                spawn_local(move || {
                    let _third = third;
                    sleep(1000 * SECOND);
                });
                loop {
                    park();
                }
            });
            UdpSocket::bind(address("0.0.0.0:7")).expect("free").recv_from(&mut [0; 10]).map(drop)
        });
        sleep(SECOND);
        assert!(server.is_up() && dropped.load(Ordering::Relaxed) == 0);
        server.crash();
        assert_eq!(dropped.load(Ordering::Relaxed), 3, "crash returns when all have ended");
        assert!(!server.is_up() && running.join().expect_err("unwound").is_shut_down());
        assert!(server.spawn(|| ()).join().expect_err("it is down").is_shut_down());
        server.crash();
        bystander.join().expect("another node's goes on");
        let again = server.restart(|| UdpSocket::bind(address("0.0.0.0:7")).map(drop));
        again.join().expect("no panic").expect("the port is free again");
    });
}

#[test]
fn what_is_in_flight_vanishes_and_a_restarted_node_serves_again() {
    run(1, || {
        let server = node("server").start();
        server.spawn(echo);
        let remote = server.address();
        assert!(ask(remote).is_ok());
        let asking = spawn(move || ask(remote));
        crate::yield_now();
        server.crash();
        assert_eq!(asking.join().expect("no panic").expect_err("it vanished").kind(), ErrorKind::TimedOut);
        assert!(ask(remote).is_err(), "nobody is there");
        let down = trace().iter().filter(|entry| entry.verdict == Verdict::HostDown).count();
        assert_eq!(down, 2, "one in flight, one on arrival");
        server.restart(echo);
        assert!(ask(remote).is_ok());
    });
}

fn edge(stream: &SimulatedStream, direction: Direction) {
    stream.source().wait(direction, None).expect("an edge");
    sleep(Duration::from_millis(1));
}

/// A node that accepts one connection and holds it, and a stream to it.
fn connected() -> (Node, SimulatedStream) {
    fn hold() {
        let listener = network().expect("a simulation").listen(address("0.0.0.0:80"), 4).expect("a free port");
        let mut held = Vec::new();
        loop {
            sleep(SECOND);
            held.extend(listener.try_accept());
        }
    }
    let server = node("server").start();
    server.spawn(hold);
    sleep(SECOND / 10);
    let stream = network().expect("a simulation").connect(None, SocketAddr::new(server.address(), 80)).expect("begun");
    sleep(SECOND);
    stream.finish_connect().expect("it listens");
    (server, stream)
}

#[test]
fn peers_of_a_crashed_node_time_out_or_are_reset_when_it_is_back() {
    run(1, || {
        let (server, stream) = connected();
        server.crash();
        stream.try_write(b"anybody?").expect("room");
        let start = Instant::now();
        while stream.take_error().is_none_or(|error| error.kind() != ErrorKind::TimedOut) {
            assert!(start.elapsed() < 2000 * SECOND);
            sleep(SECOND);
        }
        assert!(start.elapsed() > 900 * SECOND);
    });
    run(1, || {
        let (server, stream) = connected();
        server.crash();
        stream.try_write(b"anybody?").expect("room");
        server.restart(park);
        sleep(10 * SECOND);
        assert_eq!(stream.try_read(&mut [0]).expect_err("unknown there").kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn peers_of_a_killed_process_are_reset_at_once() {
    run(1, || {
        let (server, stream) = connected();
        assert_eq!(stream.try_read(&mut [0]).expect_err("open").kind(), ErrorKind::WouldBlock);
        server.kill();
        edge(&stream, Direction::Read);
        assert_eq!(stream.try_read(&mut [0]).expect_err("reset").kind(), ErrorKind::ConnectionReset);
        let again = network().expect("a simulation").connect(None, SocketAddr::new(server.address(), 80)).expect("begun");
        sleep(SECOND);
        assert_eq!(again.finish_connect().expect_err("nobody listens").kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_scheduled_crash_and_one_from_within() {
    run(1, || {
        let server = node("server").start();
        let victim = server.spawn(park);
        let crashing = server.clone();
        network().expect("a simulation").schedule(Instant::now() + SECOND, move |_: &Network| crashing.crash());
        let start = Instant::now();
        assert!(victim.join().expect_err("unwound").is_shut_down());
        assert!(start.elapsed() >= SECOND && start.elapsed() < SECOND + SECOND / 10, "{:?}", start.elapsed());

        let own = server.clone();
        let suicide = server.restart(move || {
            own.crash();
            sleep(SECOND);
            unreachable!("it ends where it waits");
        });
        assert!(suicide.join().expect_err("unwound").is_shut_down());
    });
}

#[test]
fn a_change_that_did_not_come_to_be_keeps_nothing() {
    let kept = Arc::new(());
    let seen = Arc::downgrade(&kept);
    run(1, || {
        let server = node("server").start();
        network().expect("a simulation").schedule(Instant::now() + SECOND, move |_: &Network| {
            drop(kept);
            server.crash();
        });
    });
    assert!(seen.upgrade().is_none(), "the change and the network own each other");
}

#[test]
fn a_dead_lock_names_the_node_and_how_long() {
    let payload = catch_unwind(AssertUnwindSafe(|| {
        run(7, || {
            let server = node("server").start();
            let waiter = server.spawn(|| Builder::new().name("waiter").spawn(|| park()).join());
            sleep(5 * SECOND);
            let _ = waiter.join();
        });
    }))
    .expect_err("a dead-lock");
    let text = crate::task::panic_message(&*payload).expect("a text");
    let line = text.lines().find(|line| line.contains("'waiter'")).expect("named");
    assert!(line.contains("src/sim/node/tests.rs") && line.ends_with("for 5s, on node 'server'"), "{text}");
    let line = text.lines().find(|line| line.contains("'main'")).expect("named");
    assert!(line.ends_with("for 0ns"), "{text}");
}

#[test]
fn crashes_repeat_exactly() {
    let crashes = |seed| {
        run(seed, || {
            let server = node("server").start();
            let remote = server.address();
            server.spawn(echo);
            let asking: Vec<_> = (0..20)
                .map(|number| {
                    let client = node(&format!("client {number}")).start();
                    client.spawn(move || {
                        sleep(Duration::from_micros(500 * number));
                        (0..5).filter(|_| ask(remote).is_ok()).count()
                    })
                })
                .collect();
            sleep(Duration::from_millis(5));
            server.crash();
            sleep(2 * SECOND);
            server.restart(echo);
            let answers: Vec<_> = asking.into_iter().map(|asking| asking.join().expect("no panic")).collect();
            (answers, trace())
        })
    };
    let first = crashes(1);
    assert!(first.0.iter().any(|&count| count < 5) && first.0.iter().all(|&count| count > 0), "{:?}", first.0);
    assert_eq!(first, crashes(1));
}
