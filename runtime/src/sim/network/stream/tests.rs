//! Streams as programs use them, over networks that do their worst.

use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use super::end::WINDOW;
use super::{SimulatedListener, SimulatedStream};
use crate::reactor::{Direction, Drained};
use crate::sim::{self, LinkConfig, Network, NetworkConfig, Protocol, Simulation, TraceEntry, Verdict};
use crate::time::Instant;
use crate::{sleep, spawn};

const SERVER: &str = "10.0.0.1:80";
const MEGABYTE: usize = 1_000_000;

fn server() -> SocketAddr {
    SERVER.parse().expect("an address")
}

fn network() -> Network {
    sim::network().expect("a simulation")
}

fn wait<T>(source: &crate::reactor::Source, direction: Direction, mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match source.try_io(direction, || operation().map(|value| (value, Drained(false)))) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                source.wait(direction, None).map_err(|_| io::Error::other("no more edges"))?;
            }
            result => return result,
        }
    }
}

fn connect(remote: SocketAddr) -> io::Result<SimulatedStream> {
    let stream = network().connect(None, remote)?;
    wait(stream.source(), Direction::Write, || stream.finish_connect())?;
    Ok(stream)
}

fn accept(listener: &SimulatedListener) -> SimulatedStream {
    wait(listener.source(), Direction::Read, || listener.try_accept()).expect("a connection").0
}

fn write_all(stream: &SimulatedStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let len = wait(stream.source(), Direction::Write, || stream.try_write(bytes))?;
        bytes = &bytes[len..];
    }
    Ok(())
}

fn read(stream: &SimulatedStream, buffer: &mut [u8]) -> io::Result<usize> {
    wait(stream.source(), Direction::Read, || stream.try_read(buffer))
}

fn read_to_end(stream: &SimulatedStream) -> io::Result<Vec<u8>> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 3_000]);
    loop {
        match read(stream, &mut buffer)? {
            0 => return Ok(bytes),
            len => bytes.extend_from_slice(&buffer[..len]),
        }
    }
}

fn payload(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(len as u64).fill(&mut bytes);
    bytes
}

fn over<T>(seed: u64, link: LinkConfig, f: impl FnOnce() -> T) -> T {
    Simulation::new(seed).network(NetworkConfig { link, ..NetworkConfig::default() }).run(f)
}

/// A listener, and a stream's two ends: who connected, and who accepted.
fn pair() -> (SimulatedListener, SimulatedStream, SimulatedStream) {
    let listener = network().listen(server(), 16).expect("a free port");
    let client = connect(server()).expect("a listener");
    let accepted = accept(&listener);
    (listener, client, accepted)
}

/// Sends `len` bytes each way at once, and closes in order.
fn exchange(len: usize) -> Vec<TraceEntry> {
    let (listener, client, accepted) = pair();
    assert_eq!(listener.local_address(), server());
    assert_eq!((client.peer_address(), accepted.local_address()), (server(), server()));
    assert_eq!(accepted.peer_address(), client.local_address());
    let serving = spawn(move || {
        let request = read_to_end(&accepted).expect("in order");
        assert!(request == payload(len), "{} of {len} bytes, or changed", request.len());
        write_all(&accepted, &request).expect("it is read");
    });
    let client = std::sync::Arc::new(client);
    let writer = std::sync::Arc::clone(&client);
    let writing = spawn(move || {
        write_all(&writer, &payload(len)).expect("it is read");
        writer.shutdown(Shutdown::Write).expect("open");
        assert_eq!(writer.try_write(b"more").expect_err("closed").kind(), ErrorKind::BrokenPipe);
    });
    assert!(read_to_end(&client).expect("in order") == payload(len));
    writing.join().expect("no panic");
    serving.join().expect("no panic");
    sim::trace()
}

#[test]
fn no_network_costs_a_byte() {
    let base = LinkConfig::default;
    let burst = sim::Burst { enter: 0.02, leave: 0.2, loss: 0.9 };
    for link in [
        base(),
        LinkConfig { loss: 0.1, ..base() },
        LinkConfig { burst: Some(burst), ..base() },
        LinkConfig { corrupt: 0.1, duplicate: 0.2, reorder: 0.3, jitter: Duration::from_millis(9), ..base() },
        LinkConfig { rate: Some(300_000), queue: 2_000, ..base() },
        LinkConfig { mtu: Some(576), ..base() },
    ] {
        let len = if link.loss > 0.0 { MEGABYTE / 5 } else { MEGABYTE };
        over(1, link, || exchange(len));
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let trace = |seed| over(seed, LinkConfig { loss: 0.05, reorder: 0.1, ..LinkConfig::default() }, || exchange(100_000));
    let first = trace(3);
    assert!(first.iter().all(|entry| entry.protocol == Protocol::Tcp));
    assert!(first.iter().any(|entry| entry.verdict == Verdict::Lost));
    assert_eq!(first, trace(3));
    assert_ne!(first, trace(4));
}

#[test]
fn opening_takes_a_round_trip_and_a_loss_the_time_of_a_repetition() {
    sim::run(1, || {
        let start = Instant::now();
        let (_listener, client, accepted) = pair();
        assert_eq!(start.elapsed(), Duration::from_millis(3), "there, back, and there again");
        let (here, there) = (client.local_address().ip(), server().ip());
        network().set_link(here, there, LinkConfig { loss: 1.0, ..LinkConfig::default() });
        write_all(&client, b"late").expect("room");
        let start = Instant::now();
        sleep(Duration::from_millis(100));
        network().set_link(here, there, LinkConfig::default());
        assert_eq!(read(&accepted, &mut [0; 10]).expect("it arrives"), 4);
        assert_eq!(start.elapsed(), Duration::from_millis(201));
    });
}

#[test]
fn nobody_listens_is_refused_and_nobody_answers_is_a_time_out() {
    sim::run(1, || {
        let start = Instant::now();
        assert_eq!(connect(server()).map(drop).expect_err("nobody").kind(), ErrorKind::ConnectionRefused);
        assert_eq!(start.elapsed(), Duration::from_millis(2));
        let _listener = network().listen(server(), 1).expect("a free port");
        assert!(network().listen(server(), 1).is_err(), "taken");
        let local = "127.0.0.1".parse().expect("an address");
        network().blackhole(local, server().ip());
        let start = Instant::now();
        assert_eq!(connect(server()).map(drop).expect_err("silence").kind(), ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), Duration::from_secs(127));
        assert!(sim::trace().iter().any(|entry| entry.verdict == Verdict::Blackholed));
        network().lift_blackhole(local, server().ip());
        connect(server()).expect("it is back");
    });
}

#[test]
fn a_full_backlog_makes_wait() {
    sim::run(1, || {
        let listener = network().listen(server(), 2).expect("a free port");
        let _first = connect(server()).expect("room");
        let _second = connect(server()).expect("room");
        sleep(Duration::from_millis(10));
        let third = spawn(|| {
            let start = Instant::now();
            connect(server()).expect("room, later");
            start.elapsed()
        });
        sleep(Duration::from_millis(500));
        let _accepted = accept(&listener);
        assert_eq!(third.join().expect("no panic"), Duration::from_millis(1003), "at the first repetition");
        assert!(sim::trace().iter().any(|entry| entry.verdict == Verdict::BufferFull));
    });
}

#[test]
fn who_does_not_read_stops_the_writer_at_the_window() {
    sim::run(1, || {
        let (_listener, client, accepted) = pair();
        let bytes = vec![1; MEGABYTE];
        assert_eq!(client.try_write(&bytes).expect("room"), WINDOW as usize);
        sleep(Duration::from_secs(1));
        assert_eq!(client.try_write(&bytes).expect_err("full").kind(), ErrorKind::WouldBlock);
        let mut buffer = vec![0; WINDOW as usize / 2];
        assert_eq!(read(&accepted, &mut buffer).expect("there"), buffer.len());
        sleep(Duration::from_millis(1));
        assert_eq!(client.try_write(&bytes).expect("room again"), buffer.len());
    });
}

#[test]
fn a_partition_stalls_a_stream_and_its_end_loses_nothing() {
    over(5, LinkConfig { loss: 0.02, ..LinkConfig::default() }, || {
        let (_listener, client, accepted) = pair();
        let (here, there) = (client.local_address().ip(), server().ip());
        let writing = spawn(move || {
            for chunk in payload(300_000).chunks(10_000) {
                write_all(&client, chunk).expect("room, in time");
                sleep(Duration::from_millis(10));
            }
        });
        sleep(Duration::from_millis(100));
        network().partition([[here], [there]]);
        let healed = Instant::now() + Duration::from_secs(60);
        network().schedule(healed, Network::heal);
        let got = read_to_end(&accepted).expect("all of it");
        assert!(got == payload(300_000));
        assert!(Instant::now() > healed);
        let stalled = sim::trace().iter().filter(|entry| entry.verdict == Verdict::Partitioned).count();
        assert!(stalled > 10, "{stalled}");
        writing.join().expect("no panic");
    });
}

#[test]
fn a_stream_that_stays_cut_is_given_up() {
    sim::run(1, || {
        let (_listener, client, accepted) = pair();
        network().partition([[client.local_address().ip()], [server().ip()]]);
        let start = Instant::now();
        write_all(&client, b"anybody?").expect("room");
        assert_eq!(read(&client, &mut [0]).expect_err("silence").kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() > Duration::from_secs(900) && start.elapsed() < Duration::from_secs(1100), "{:?}", start.elapsed());
        assert_eq!(read(&client, &mut [0]).expect("told once"), 0);
        assert_eq!(client.try_write(b"x").expect_err("over").kind(), ErrorKind::BrokenPipe);
        drop(accepted);
    });
}

#[test]
fn closing_with_unread_bytes_resets_and_closing_in_order_does_not() {
    sim::run(1, || {
        let (listener, client, accepted) = pair();
        write_all(&client, b"unread").expect("room");
        sleep(Duration::from_millis(5));
        write_all(&accepted, b"answer").expect("room");
        drop(accepted);
        assert_eq!(read(&client, &mut [0; 10]).expect("what came before the reset"), 6);
        assert_eq!(read(&client, &mut [0; 10]).expect_err("reset").kind(), ErrorKind::ConnectionReset);

        let client = connect(server()).expect("a listener");
        let accepted = accept(&listener);
        drop(accepted);
        assert_eq!(read(&client, &mut [0; 10]).expect("the end"), 0);
        write_all(&client, b"too late").expect("nobody knows yet");
        sleep(Duration::from_millis(5));
        assert_eq!(client.try_write(b"x").expect_err("reset").kind(), ErrorKind::ConnectionReset);

        // Connections that nobody accepted.
        let client = connect(server()).expect("a listener");
        drop(listener);
        assert_eq!(read(&client, &mut [0; 10]).expect_err("reset").kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn closed_streams_leave_nothing_behind() {
    sim::run(1, || {
        let (listener, client, accepted) = pair();
        write_all(&client, b"question").expect("room");
        assert_eq!(read(&accepted, &mut [0; 10]).expect("it arrives"), 8);
        drop(accepted);
        drop(client);
        drop(network().connect(None, server()).expect("begun, and given up"));
        sleep(Duration::from_secs(10));
        drop(listener);
        let network = network();
        let state = network.lock();
        assert!(state.streams.ends.is_empty() && state.streams.listeners.is_empty() && state.events.is_empty());
    });
}

#[test]
fn a_nat_that_forgets_breaks_streams() {
    sim::run(1, || {
        let inside = "10.1.0.1".parse().expect("an address");
        let public = "203.0.113.1".parse().expect("an address");
        let listener = network().listen(server(), 4).expect("a free port");
        let open = || {
            let stream = network().connect(Some(inside), server()).expect("begun");
            wait(stream.source(), Direction::Write, || stream.finish_connect()).expect("a listener");
            stream
        };
        network().rebind(inside, public);
        let client = open();
        let accepted = accept(&listener);
        assert_eq!((client.local_address().ip(), accepted.peer_address().ip()), (inside, public));
        write_all(&accepted, b"there").expect("room");
        assert_eq!(read(&client, &mut [0; 10]).expect("the way back"), 5);
        network().rebind(inside, public);
        write_all(&client, b"x").expect("room");
        assert_eq!(read(&client, &mut [0; 10]).expect_err("unknown there").kind(), ErrorKind::ConnectionReset);
        let again = open();
        assert_ne!(accept(&listener).peer_address(), accepted.peer_address());
        drop(again);
    });
}
