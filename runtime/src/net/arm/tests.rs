//! Sockets beside other arms: over the real loopback, from coroutines and plain threads, and in simulations.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::channel::{self, after};
use crate::net::{RecvBatch, TcpListener, TcpStream, UdpSocket, is_cancelled};
use crate::select::{first_of, try_first_of};
use crate::signal::{SIGHUP, Signals};
use crate::sim::{self, node};
use crate::time::Instant;
use crate::{CancellationToken, Runtime, park, select, sleep, spawn, yield_now};

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(20);
const SECOND: Duration = Duration::from_secs(1);

/// Runs a test in a coroutine, on a plain thread, and in a simulation.
fn everywhere(test: fn()) {
    // A last try at the end of a wait finds what nobody was told of: too late.
    let in_time = || {
        let start = Instant::now();
        test();
        assert!(start.elapsed() < LONG, "a wake-up was lost");
    };
    crate::run(in_time);
    in_time();
    sim::run(1, in_time);
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
    let address = listener.local_addr().expect("address");
    (listener, address)
}

fn pair() -> (TcpStream, TcpStream) {
    let (listener, address) = listen();
    let near = TcpStream::connect(address).expect("connect");
    let (far, _) = listener.accept().expect("accept");
    (near, far)
}

fn bind() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind")
}

/// Does something a little later, on a thread or coroutine of its own.
fn later(f: impl FnOnce() + Send + 'static) {
    if crate::worker_index().is_some() {
        spawn(move || {
            sleep(SHORT);
            f();
        });
    } else {
        std::thread::Builder::new()
            .spawn(move || {
                sleep(SHORT);
                f();
            })
            .expect("a thread");
    }
}

#[derive(Debug, PartialEq)]
enum Chosen {
    Accepted(SocketAddr),
    Read(usize),
    Received(usize, SocketAddr),
    Batch(usize),
    TimedOut,
}

/// Waits for everything that sockets have.
fn any(listener: &TcpListener, stream: &TcpStream, socket: &UdpSocket, batched: &UdpSocket) -> Chosen {
    let (mut bytes, mut datagram, mut batch) = ([0; 8], [0; 8], RecvBatch::with_slots(4, 64));
    select! {
        wait(listener.accepting()) -> accepted => Chosen::Accepted(accepted.expect("accept").1),
        wait(stream.reading(&mut bytes)) -> read => Chosen::Read(read.expect("read")),
        wait(socket.receiving_from(&mut datagram)) -> received => {
            let (len, remote) = received.expect("receive");
            Chosen::Received(len, remote)
        }
        wait(batched.receiving_batch(&mut batch)) -> count => Chosen::Batch(count.expect("receive")),
        default(LONG) => Chosen::TimedOut,
    }
}

#[test]
fn each_arm_is_chosen_when_its_time_comes() {
    everywhere(|| {
        let (listener, address) = listen();
        let (near, far) = pair();
        let (socket, batched) = (bind(), bind());
        let any = || any(&listener, &far, &socket, &batched);
        for round in 0..3 {
            later(move || drop(TcpStream::connect(address).expect("connect")));
            assert!(matches!(any(), Chosen::Accepted(_)), "round {round}");
            let mut writer = near.try_clone().expect("clone");
            later(move || writer.write_all(b"abc").expect("write"));
            assert_eq!(any(), Chosen::Read(3));
            let (to, sender) = (socket.local_addr().expect("an address"), bind());
            let from = sender.local_addr().expect("an address");
            later(move || assert_eq!(sender.send_to(b"abcd", to).expect("send"), 4));
            assert_eq!(any(), Chosen::Received(4, from));
            let (to, sender) = (batched.local_addr().expect("an address"), bind());
            later(move || assert_eq!(sender.send_to(b"x", to).expect("send"), 1));
            assert_eq!(any(), Chosen::Batch(1));
        }
    });
}

/// Until there is no room, and none comes when the system has moved what it has.
fn fill(stream: &TcpStream) -> usize {
    let mut filled = 0;
    loop {
        let before = filled;
        while let Ok(len) = stream.try_write(&[7; 65_536]) {
            filled += len;
        }
        if filled == before {
            return filled;
        }
        sleep(2 * SHORT);
    }
}

#[test]
fn a_full_stream_is_written_to_when_it_has_room_and_not_before() {
    everywhere(|| {
        let (full, mut far) = pair();
        let filled = fill(&full);
        select! {
            wait(full.writing(&[1; 8])) -> _ => panic!("it is full"),
            default(SHORT) => {}
        }
        let mut drain = far.try_clone().expect("clone");
        let (drains, drained) = channel::bounded(1);
        later(move || {
            drain.read_exact(&mut vec![0; filled]).expect("read");
            drains.send(()).expect("there is room");
        });
        let written = select! {
            wait(full.writing(&[1; 8])) -> written => written.expect("write"),
            default(LONG) => panic!("it takes too long"),
        };
        drop(full);
        drained.recv().expect("it drains");
        let mut rest = Vec::new();
        far.read_to_end(&mut rest).expect("read");
        assert!(rest.ends_with(&vec![1; written]) && rest.iter().filter(|&&byte| byte == 1).count() == written);
    });
}

#[test]
fn a_time_out_comes_beside_a_socket_and_takes_nothing_from_it() {
    everywhere(|| {
        let (mut near, far) = pair();
        let mut buffer = [0; 8];
        let start = Instant::now();
        select! {
            wait(far.reading(&mut buffer)) -> _ => panic!("there is nothing"),
            default(4 * SHORT) => {}
        }
        assert!(start.elapsed() >= 4 * SHORT);
        near.write_all(b"abc").expect("write");
        let start = Instant::now();
        select! {
            recv(after(Duration::ZERO)) -> _ => {}
            wait(far.writing(b"")) -> _ => {}
        }
        select! {
            wait(far.reading(&mut buffer)) -> read => assert_eq!(read.expect("read"), 3),
            recv(after(LONG)) -> _ => panic!("it is there"),
        }
        assert!(start.elapsed() < LONG);
        select! {
            wait(far.reading(&mut buffer)) -> _ => panic!("there is nothing left"),
            default => {}
        }
    });
}

#[test]
fn a_time_out_in_a_simulation_is_exact() {
    sim::run(1, || {
        let socket = bind();
        let start = Instant::now();
        select! {
            wait(socket.receiving_from(&mut [0; 8])) -> _ => panic!("nobody sends"),
            default(SECOND) => {}
        }
        assert_eq!(start.elapsed(), SECOND);
    });
}

#[test]
fn readable_takes_nothing_and_holds_at_the_end() {
    everywhere(|| {
        let (mut near, far) = pair();
        let mut reader = BufReader::new(far);
        let (_sender, messages) = channel::unbounded::<()>();
        let mut next_line = || {
            select! {
                wait(reader.get_ref().readable()) -> ready => ready.expect("the stream"),
                recv(messages) -> _ => panic!("none was sent"),
                default(LONG) => panic!("it takes too long"),
            }
            let mut line = String::new();
            reader.read_line(&mut line).expect("read");
            line
        };
        near.write_all(b"one\n").expect("write");
        assert_eq!(next_line(), "one\n");
        later(move || near.write_all(b"two\n").expect("write"));
        assert_eq!(next_line(), "two\n");
        assert_eq!(next_line(), "", "the end");
        assert_eq!(next_line(), "", "for good");
    });
}

#[test]
fn any_number_of_listeners_is_served() {
    everywhere(|| {
        let listeners: Vec<_> = (0..5).map(|_| listen()).collect();
        for wanted in [3, 0, 4, 4] {
            let address = listeners[wanted].1;
            later(move || drop(TcpStream::connect(address).expect("connect")));
            let (index, accepted) = first_of(listeners.iter().map(|(listener, _)| listener.accepting())).expect("five");
            let (stream, _) = accepted.expect("accept");
            assert_eq!((index, stream.local_addr().expect("address")), (wanted, address));
        }
        assert!(try_first_of(listeners.iter().map(|(listener, _)| listener.accepting())).is_none());
    });
}

#[test]
fn a_cancellation_ends_a_selection_by_an_error_of_its_first_arm() {
    everywhere(|| {
        let (near, _far) = pair();
        let token = CancellationToken::new();
        let canceller = token.clone();
        later(move || canceller.cancel());
        let error = token.run(|| {
            select! {
                wait(near.reading(&mut [0; 8])) -> read => read.expect_err("cancelled"),
                recv(channel::never::<()>()) -> _ => panic!("never"),
            }
        });
        assert!(is_cancelled(&error), "{error}");
        assert_ne!(error.kind(), ErrorKind::Interrupted);
        select! {
            wait(near.writing(b"abc")) -> written => assert_eq!(written.expect("not for good"), 3),
            default => panic!("there is room"),
        }
    });
}

/// Two wait for connections and for messages of their own. Whoever is given a message leaves a connection to the other, however
/// close the two come.
#[test]
fn who_leaves_by_another_arm_keeps_nothing_from_the_others() {
    for seed in 0..200 {
        sim::run(seed, || {
            let listener = std::sync::Arc::new(TcpListener::bind("10.0.0.1:80").expect("listen"));
            let (accepted, connections) = channel::unbounded();
            let stations: Vec<_> = (0..2)
                .map(|number| {
                    let (sender, messages) = channel::unbounded::<()>();
                    let (listener, accepted) = (std::sync::Arc::clone(&listener), accepted.clone());
                    let station = crate::spawn_on(number, move || {
                        loop {
                            select! {
                                wait(listener.accepting()) -> connection => accepted.send(connection.expect("accept")).expect("open"),
                                recv(messages) -> message => if message.is_err() { return },
                            }
                            // Long enough for a connection that is kept from the other to be missed.
                            sleep(10 * SECOND);
                        }
                    });
                    (sender, station)
                })
                .collect();
            let start = Instant::now();
            sleep(SHORT);
            let client = spawn(|| TcpStream::connect("10.0.0.1:80").expect("connect"));
            // The connection is confirmed 3 ms after it was begun.
            sleep(Duration::from_millis(3));
            for _ in 0..seed % 3 {
                yield_now();
            }
            stations[seed as usize % 2].0.send(()).expect("open");
            assert!(connections.recv_timeout(SECOND).is_ok(), "seed {seed}");
            assert!(start.elapsed() < SECOND);
            drop(client.join().expect("no panic"));
            for (sender, station) in stations {
                drop(sender);
                station.join().expect("no panic");
            }
        });
    }
}

#[test]
fn all_who_wait_for_one_socket_are_served() {
    everywhere(|| {
        let (near, far) = pair();
        let read = |far: TcpStream| {
            select! {
                wait(far.reading(&mut [0])) -> read => assert_eq!(read.expect("read"), 1),
                default(LONG) => panic!("it takes too long"),
            }
        };
        let clones = (0..3).map(|_| far.try_clone().expect("clone"));
        let (mut threads, mut coroutines) = (Vec::new(), Vec::new());
        for far in clones {
            if crate::worker_index().is_some() {
                coroutines.push(spawn(move || read(far)));
            } else {
                threads.push(std::thread::Builder::new().spawn(move || read(far)).expect("a thread"));
            }
        }
        sleep(SHORT);
        (&near).write_all(b"abc").expect("write");
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        coroutines.into_iter().for_each(|coroutine| coroutine.join().expect("no panic"));
    });
}

/// What was registered with a runtime that is gone is registered anew.
#[test]
fn a_socket_outlives_the_runtime_that_it_waited_in() {
    let (mut near, far) = pair();
    let runtime = Runtime::builder().workers(1).build().expect("a runtime");
    runtime.run(|| {
        select! {
            wait(far.reading(&mut [0; 8])) -> _ => panic!("nothing yet"),
            default(SHORT) => {}
        }
    });
    drop(runtime);
    later(move || near.write_all(b"abc").expect("write"));
    select! {
        wait(far.reading(&mut [0; 8])) -> read => assert_eq!(read.expect("read"), 3),
        default(LONG) => panic!("it takes too long"),
    }
}

#[test]
fn sockets_of_a_crashed_node_end_selections() {
    sim::run(1, || {
        let server = node("server").start();
        let sockets = server.spawn(|| (bind(), TcpListener::bind("0.0.0.0:80").expect("listen"))).join().expect("no panic");
        server.spawn(park);
        let waiting = spawn(move || {
            let (socket, listener) = sockets;
            let first = select! {
                wait(socket.receiving_from(&mut [0; 8])) -> received => received.map(drop).is_err(),
                wait(listener.accepting()) -> accepted => accepted.map(drop).is_err(),
            };
            // Gone for good.
            let socket = select! {
                wait(socket.receiving_from(&mut [0; 8])) -> received => received.map(drop).is_err(),
            };
            let listener = select! { wait(listener.accepting()) -> accepted => accepted.map(drop).is_err() };
            [first, socket, listener]
        });
        sleep(SECOND);
        server.crash();
        assert_eq!(waiting.join().expect("no panic"), [true; 3]);
    });
}

#[test]
fn no_signal_comes_in_a_simulation() {
    sim::run(1, || {
        let signals = Signals::new([SIGHUP]).expect("signals");
        select! {
            wait(signals.receiving()) -> _ => panic!("none comes"),
            recv(after(SECOND)) -> _ => {}
        }
    });
}
