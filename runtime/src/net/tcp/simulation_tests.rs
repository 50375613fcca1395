//! Connections over a simulated network, through the same calls as over a real one.

use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::{TcpListener, TcpStream};
use crate::net::is_cancelled;
use crate::sim::{self, LinkConfig, Network, NetworkConfig, Node, Simulation, TraceEntry, Verdict, node};
use crate::time::Instant;
use crate::{CancellationToken, park, sleep, spawn};

const SECOND: Duration = Duration::from_secs(1);

fn network() -> Network {
    sim::network().expect("a simulation")
}

/// Two ends of a connection between two hosts.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("10.0.0.1:80").expect("listen");
    let near = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
    let (far, remote) = listener.accept().expect("accept");
    assert_eq!(remote, near.local_addr().expect("address"));
    assert_eq!(far.peer_addr().expect("address"), remote);
    assert_eq!(near.peer_addr().expect("address"), far.local_addr().expect("address"));
    (near, far)
}

fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; 1000];
    while let len @ 1.. = stream.read(&mut buffer)? {
        stream.write_all(&buffer[..len])?;
    }
    Ok(())
}

fn serve() {
    let listener = TcpListener::bind("0.0.0.0:80").expect("listen");
    for stream in listener.incoming() {
        let Ok(stream) = stream else { return };
        spawn(move || echo(stream));
    }
}

/// Has `payload` echoed, writing and reading at once.
fn ask(stream: TcpStream, payload: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let mut writer = stream.try_clone()?;
    let writing = spawn(move || {
        writer.write_all(&payload)?;
        writer.shutdown(Shutdown::Write)
    });
    let mut answer = Vec::new();
    (&stream).read_to_end(&mut answer)?;
    writing.join().expect("no panic")?;
    Ok(answer)
}

fn payload(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(len as u64).fill(&mut bytes);
    bytes
}

#[test]
fn an_echo_over_a_bad_network_loses_nothing_and_repeats_exactly() {
    let bad = LinkConfig {
        delay: Duration::from_millis(10),
        jitter: Duration::from_millis(8),
        loss: 0.05,
        duplicate: 0.05,
        reorder: 0.1,
        ..LinkConfig::default()
    };
    let run = |seed: u64| -> Vec<TraceEntry> {
        let config = NetworkConfig { link: bad.clone(), ..NetworkConfig::default() };
        Simulation::new(seed).network(config).run(|| {
            node("server").start().spawn(serve);
            sleep(SECOND);
            let clients: Vec<_> = (1..4)
                .map(|client| {
                    spawn(move || {
                        let stream = TcpStream::connect("server:80").expect("connect");
                        assert!(ask(stream, payload(client * 70_000)).expect("echo") == payload(client * 70_000));
                    })
                })
                .collect();
            clients.into_iter().for_each(|client| client.join().expect("no panic"));
            sim::trace()
        })
    };
    let first = run(1);
    assert!(first.iter().any(|entry| entry.verdict == Verdict::Lost), "it is a bad network");
    assert!(first == run(1));
    assert!(first != run(2));
}

#[test]
fn a_half_closed_connection_still_carries_the_other_half() {
    sim::run(1, || {
        let (mut near, mut far) = pair();
        near.write_all(b"all").expect("write");
        near.shutdown(Shutdown::Write).expect("shutdown");
        assert_eq!(near.write(b"x").expect_err("ended").kind(), ErrorKind::BrokenPipe);
        let mut text = String::new();
        far.read_to_string(&mut text).expect("read");
        assert_eq!(text, "all");
        far.write_all(b"answer").expect("write");
        drop(far);
        text.clear();
        near.read_to_string(&mut text).expect("read");
        assert_eq!(text, "answer");
    });
}

#[test]
fn a_shutdown_wakes_who_waits_on_the_same_socket() {
    sim::run(1, || {
        let (near, _far) = pair();
        let mut other = near.try_clone().expect("clone");
        let reader = spawn(move || other.read(&mut [0; 8]));
        sleep(SECOND);
        near.shutdown(Shutdown::Read).expect("shutdown");
        assert_eq!(reader.join().expect("reader").expect("the end"), 0);
    });
}

#[test]
fn every_call_times_out_on_time() {
    sim::run(1, || {
        let timed = |call: &mut dyn FnMut() -> std::io::Error| {
            let start = Instant::now();
            assert_eq!(call().kind(), ErrorKind::TimedOut);
            assert_eq!(start.elapsed(), SECOND);
        };
        let listener = TcpListener::bind("10.0.0.2:80").expect("listen");
        timed(&mut || listener.accept_timeout(SECOND).expect_err("nobody"));
        let (mut near, _far) = pair();
        near.set_read_timeout(Some(SECOND)).expect("timeout");
        near.set_write_timeout(Some(SECOND)).expect("timeout");
        timed(&mut || near.read(&mut [0; 8]).expect_err("nothing"));
        timed(&mut || near.peek(&mut [0; 8]).expect_err("nothing"));
        timed(&mut || near.read_deadline(&mut [0; 8], Instant::now() + SECOND).expect_err("nothing"));
        assert_eq!(near.try_read(&mut [0; 8]).expect_err("nothing").kind(), ErrorKind::WouldBlock);
        while near.try_write(&[7; 10_000]).is_ok() {}
        timed(&mut || near.write(&[0; 8]).expect_err("full"));
        timed(&mut || near.write_deadline(&[0; 8], Instant::now() + SECOND).expect_err("full"));
        network().blackhole(near.local_addr().expect("address").ip(), Ipv4Addr::new(10, 0, 0, 9).into());
        let silent = "10.0.0.9:80".parse().expect("an address");
        timed(&mut || TcpStream::connect_timeout(&silent, SECOND).expect_err("no answer"));
        let refused = TcpStream::connect("10.0.0.3:80").expect_err("nobody listens");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_partition_that_heals_is_a_pause() {
    sim::run(1, || {
        let (near, far) = pair();
        let ip = |stream: &TcpStream| -> IpAddr { stream.local_addr().expect("address").ip() };
        let (here, there) = (ip(&near), ip(&far));
        spawn(move || echo(far));
        network().partition([[here], [there]]);
        let healed = Instant::now() + 60 * SECOND;
        network().schedule(healed, Network::heal);
        assert!(ask(near, payload(100_000)).expect("echo") == payload(100_000));
        assert!(Instant::now() > healed);
    });
}

/// A server, and a connection to it that works.
fn connected() -> (Node, TcpStream) {
    let server = node("server").start();
    server.spawn(serve);
    sleep(SECOND);
    let mut stream = TcpStream::connect(("server", 80)).expect("connect");
    stream.write_all(b"hello").expect("write");
    stream.read_exact(&mut [0; 5]).expect("read");
    (server, stream)
}

#[test]
fn a_crash_is_silence_and_then_a_reset() {
    sim::run(1, || {
        let (server, mut stream) = connected();
        server.crash();
        stream.write_all(b"anybody?").expect("room");
        stream.set_read_timeout(Some(10 * SECOND)).expect("timeout");
        assert_eq!(stream.read(&mut [0; 8]).expect_err("silence").kind(), ErrorKind::TimedOut);
        server.restart(serve);
        stream.set_read_timeout(None).expect("timeout");
        assert_eq!(stream.read(&mut [0; 8]).expect_err("unknown there").kind(), ErrorKind::ConnectionReset);
        assert!(ask(TcpStream::connect("server:80").expect("connect"), payload(10)).expect("echo") == payload(10));
    });
    sim::run(1, || {
        let (server, mut stream) = connected();
        let reading = spawn(move || stream.read(&mut [0; 8]));
        sleep(SECOND);
        server.kill();
        assert_eq!(reading.join().expect("no panic").expect_err("reset").kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_linger_of_zero_resets() {
    sim::run(1, || {
        let (near, mut far) = pair();
        near.set_linger(Some(Duration::ZERO)).expect("linger");
        drop(near);
        assert_eq!(far.read(&mut [0; 8]).expect_err("reset").kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn peeks_and_vectored_calls_see_every_byte() {
    sim::run(1, || {
        let (mut near, mut far) = pair();
        let parts = [IoSlice::new(b""), IoSlice::new(b"abc"), IoSlice::new(b"def")];
        assert_eq!(near.write_vectored(&parts).expect("write"), 3);
        near.write_all(b"def").expect("write");
        sleep(SECOND);
        for _ in 0..2 {
            let mut peeked = [0; 4];
            assert_eq!(far.peek(&mut peeked).expect("peek"), 4);
            assert_eq!(&peeked, b"abcd");
        }
        let (mut first, mut second) = ([0; 2], [0; 8]);
        let read = far.read_vectored(&mut [IoSliceMut::new(&mut []), IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)]);
        assert_eq!((read.expect("read"), &first), (2, b"ab"));
        assert_eq!(far.read(&mut second).expect("read"), 4);
        assert_eq!(&second[..4], b"cdef");
        drop(near);
        assert_eq!(far.peek(&mut second).expect("the end"), 0);
    });
}

#[test]
fn names_are_those_of_nodes_and_localhost() {
    sim::run(1, || {
        let address = "10.1.1.1".parse().expect("an address");
        let server = node("a.b").address(address).start();
        server.spawn(|| {
            spawn(serve);
            sleep(SECOND);
            let own = TcpStream::connect("localhost:80").expect("its own");
            assert_eq!(own.peer_addr().expect("address"), SocketAddr::from((Ipv4Addr::LOCALHOST, 80)));
            sleep(100 * SECOND);
        });
        sleep(2 * SECOND);
        assert_eq!(TcpStream::connect("a.b:80").expect("by name").peer_addr().expect("address"), SocketAddr::new(address, 80));
        // It keeps its name and its address.
        server.restart(serve);
        sleep(SECOND);
        TcpStream::connect(("a.b", 80)).expect("by name");
        assert_eq!(TcpStream::connect("a.b:81").expect_err("nobody listens").kind(), ErrorKind::ConnectionRefused);
        assert_eq!(TcpStream::connect("localhost:80").expect_err("not here").kind(), ErrorKind::ConnectionRefused);
        assert_eq!(TcpStream::connect("elsewhere:80").expect_err("unknown").kind(), ErrorKind::NotFound);
    });
}

#[test]
fn options_are_remembered_and_there_is_no_descriptor() {
    sim::run(1, || {
        let listener = TcpListener::bind("10.0.0.2:80").expect("listen");
        assert_eq!(TcpListener::bind("10.0.0.2:80").expect_err("taken").kind(), ErrorKind::AddrInUse);
        listener.set_ttl(9).expect("ttl");
        let near = TcpStream::connect("10.0.0.2:80").expect("connect");
        let (far, _) = listener.accept().expect("accept");
        assert_eq!((near.ttl().expect("ttl"), far.ttl().expect("ttl"), listener.ttl().expect("ttl")), (64, 9, 9));
        assert_eq!(near.set_ttl(0).expect_err("no hop").kind(), ErrorKind::InvalidInput);
        assert!(!near.nodelay().expect("nodelay"));
        near.set_nodelay(true).expect("nodelay");
        assert!(near.nodelay().expect("nodelay"));
        assert_eq!(near.linger().expect("linger"), None);
        near.set_linger(Some(Duration::from_millis(2500))).expect("linger");
        assert_eq!(near.linger().expect("linger"), Some(2 * SECOND));
        assert!(near.take_error().expect("error").is_none() && listener.take_error().expect("error").is_none());
        assert!(catch_unwind(AssertUnwindSafe(|| near.as_fd().try_clone_to_owned())).is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| listener.as_fd().try_clone_to_owned())).is_err());
        assert_eq!(near.into_std().expect_err("simulated").kind(), ErrorKind::Unsupported);
        assert_eq!(listener.into_std().expect_err("simulated").kind(), ErrorKind::Unsupported);
    });
}

#[test]
fn calls_are_cancelled_and_sockets_go_with_their_node() {
    sim::run(1, || {
        let (near, _far) = pair();
        let token = CancellationToken::new();
        let own = token.clone();
        let reading = spawn(move || own.run(|| (&near).read(&mut [0; 8]).expect_err("cancelled")));
        sleep(SECOND);
        token.cancel();
        assert!(is_cancelled(&reading.join().expect("no panic")));

        let server = node("server").start();
        // Out of its node a socket is of no use once that is gone.
        let escaped = server.spawn(|| TcpListener::bind("0.0.0.0:80").expect("listen")).join().expect("no panic");
        server.spawn(park);
        let accepting = spawn(move || escaped.accept().map(drop));
        sleep(SECOND);
        server.crash();
        accepting.join().expect("no panic").expect_err("it is gone");
    });
}
