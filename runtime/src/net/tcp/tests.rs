//! Connections over the real loopback, from coroutines and plain threads.

use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Result, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{TcpListener, TcpStream};
use crate::net::{Cancelled, is_cancelled};
use crate::time::Instant;

const SHORT: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_secs(20);

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen");
    let address = listener.local_addr().expect("address");
    (listener, address)
}

/// Two ends of a connection.
fn pair() -> (TcpStream, TcpStream) {
    let (listener, address) = listen();
    let near = TcpStream::connect(address).expect("connect");
    let (far, remote) = listener.accept().expect("accept");
    assert_eq!(remote, near.local_addr().expect("address"));
    assert_eq!(near.peer_addr().expect("address"), address);
    for stream in [&near, &far] {
        stream.set_read_timeout(Some(LONG)).expect("timeout");
        stream.set_write_timeout(Some(LONG)).expect("timeout");
    }
    (near, far)
}

/// Runs a test in a coroutine, and once more on a plain thread.
fn everywhere(test: fn()) {
    crate::run(test);
    test();
}

/// Writes until there is no room.
fn fill(stream: &TcpStream) -> usize {
    let chunk = [7; 65_536];
    let mut written = 0;
    loop {
        match stream.try_write(&chunk) {
            Ok(len) => written += len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return written,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn both_families_talk() {
    everywhere(|| {
        for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            let listener = TcpListener::bind(SocketAddr::new(ip, 0)).expect("listen");
            let mut near = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
            let (mut far, remote) = listener.accept().expect("accept");
            assert_eq!(remote.ip(), ip);
            near.write_all(b"question").expect("write");
            let mut buffer = [0; 8];
            far.read_exact(&mut buffer).expect("read");
            assert_eq!(&buffer, b"question");
        }
    });
}

#[test]
fn names_and_lists_of_addresses_are_tried_in_order() {
    everywhere(|| {
        let (listener, address) = listen();
        let (closed, refused) = listen();
        drop(closed);
        let stream = TcpStream::connect(&[refused, address][..]).expect("the second");
        assert_eq!(stream.peer_addr().expect("address"), address);
        assert_eq!(TcpStream::connect(&[refused][..]).expect_err("closed").kind(), ErrorKind::ConnectionRefused);
        assert_eq!(TcpStream::connect(&[][..]).expect_err("none").kind(), ErrorKind::InvalidInput);
        assert_eq!(TcpStream::connect("no port").expect_err("unnamed").kind(), ErrorKind::InvalidInput);
        listener.accept().expect("the first");
        TcpStream::connect(("localhost", address.port())).expect("by name");
        TcpStream::connect(format!("localhost:{}", address.port())).expect("by name");
        TcpStream::connect(address.to_string()).expect("by text");
    });
}

#[test]
fn a_half_closed_connection_still_carries_the_other_half() {
    everywhere(|| {
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

/// The end of the stream may come with the last edge, before a read that takes less than it asked for.
#[test]
fn the_end_is_found_after_a_short_read() {
    everywhere(|| {
        let (mut near, mut far) = pair();
        let mut buffer = [0; 64];
        assert_eq!(near.try_read(&mut buffer).expect_err("nothing").kind(), ErrorKind::WouldBlock);
        far.write_all(b"last").expect("write");
        drop(far);
        crate::sleep(SHORT);
        assert_eq!(near.read(&mut buffer).expect("data"), 4);
        assert_eq!(near.read(&mut buffer).expect("end"), 0);
        assert_eq!(near.read(&mut buffer).expect("end"), 0);
    });
}

#[test]
fn a_reset_is_an_error_also_of_who_waits() {
    crate::run(|| {
        let (near, far) = pair();
        let reader = crate::spawn(move || (&near).read(&mut [0; 8]).expect_err("reset").kind());
        crate::sleep(SHORT);
        far.set_linger(Some(Duration::ZERO)).expect("linger");
        assert_eq!(far.linger().expect("linger"), Some(Duration::ZERO));
        drop(far);
        assert_eq!(reader.join().expect("reader"), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_shutdown_wakes_who_waits_on_the_same_socket() {
    crate::run(|| {
        let (near, _far) = pair();
        let mut other = near.try_clone().expect("clone");
        let reader = crate::spawn(move || other.read(&mut [0; 8]));
        crate::sleep(SHORT);
        near.shutdown(Shutdown::Read).expect("shutdown");
        assert_eq!(reader.join().expect("reader").expect("the end"), 0);
    });
}

#[test]
fn every_call_times_out() {
    everywhere(|| {
        let (listener, _) = listen();
        let start = Instant::now();
        assert_eq!(listener.accept_timeout(SHORT).expect_err("nobody").kind(), ErrorKind::TimedOut);
        assert_eq!(listener.accept_deadline(start).expect_err("nobody").kind(), ErrorKind::TimedOut);
        let (mut near, _far) = pair();
        near.set_read_timeout(Some(SHORT)).expect("timeout");
        near.set_write_timeout(Some(SHORT)).expect("timeout");
        assert_eq!(near.read_timeout().expect("timeout"), Some(SHORT));
        assert_eq!(near.set_read_timeout(Some(Duration::ZERO)).expect_err("zero").kind(), ErrorKind::InvalidInput);
        assert_eq!(near.read(&mut [0; 8]).expect_err("nothing").kind(), ErrorKind::TimedOut);
        assert_eq!(near.peek(&mut [0; 8]).expect_err("nothing").kind(), ErrorKind::TimedOut);
        fill(&near);
        assert_eq!(near.write(&[0; 8]).expect_err("full").kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() >= 4 * SHORT);
        assert_eq!(near.read_deadline(&mut [0; 8], start).expect_err("nothing").kind(), ErrorKind::TimedOut);
        assert_eq!(near.write_deadline(&[0; 8], start).expect_err("full").kind(), ErrorKind::TimedOut);
    });
}

/// An address of a network for documentation, RFC 5737: either nothing answers or there is no way there.
#[test]
fn a_connect_times_out() {
    everywhere(|| {
        let address = "192.0.2.1:9".parse().expect("an address");
        assert!(TcpStream::connect_timeout(&address, SHORT).is_err());
        assert_eq!(TcpStream::connect_timeout(&address, Duration::ZERO).expect_err("zero").kind(), ErrorKind::InvalidInput);
    });
}

/// A full backlog leaves connects waiting.
#[test]
fn a_connect_that_waits_is_limited_and_completes() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("socket");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("bind");
    socket.listen(0).expect("listen");
    let listener = TcpListener::from_std(socket.into()).expect("listener");
    let address = listener.local_addr().expect("address");
    crate::run(|| {
        let mut connected = Vec::new();
        let error = loop {
            match TcpStream::connect_timeout(&address, Duration::from_millis(20)) {
                Ok(stream) => connected.push(stream),
                Err(error) => break error,
            }
            assert!(connected.len() < 10, "the backlog has an end");
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let late = crate::spawn(move || TcpStream::connect_timeout(&address, LONG));
        crate::sleep(SHORT);
        for _ in 0..connected.len() {
            listener.accept_timeout(LONG).expect("accept");
        }
        // The kernel sends the lost SYN again after a second.
        late.join().expect("connector").expect("connected");
    });
}

#[test]
fn vectored_calls_and_peeks_see_every_byte() {
    everywhere(|| {
        let (mut near, mut far) = pair();
        assert_eq!(near.write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b"cdef")]).expect("write"), 6);
        let mut peeked = [0; 4];
        assert_eq!(far.peek(&mut peeked).expect("peek"), 4);
        assert_eq!(&peeked, b"abcd");
        let (mut first, mut second) = ([0; 3], [0; 8]);
        let read = far.read_vectored(&mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)]).expect("read");
        assert_eq!((read, &first, &second[..3]), (6, b"abc", &b"def"[..]));
    });
}

/// Two read and two write on one connection, in both directions at once.
#[test]
fn several_share_a_connection() {
    const BYTES: usize = 1 << 20;
    crate::run(|| {
        let (near, far) = pair();
        let (near, far) = (Arc::new(near), Arc::new(far));
        let received = Arc::new(AtomicUsize::new(0));
        let mut parts = Vec::new();
        for (from, to) in [(&near, &far), (&far, &near)] {
            for _ in 0..2 {
                let (from, to, received) = (Arc::clone(from), Arc::clone(to), Arc::clone(&received));
                parts.push(crate::spawn(move || (&*from).write_all(&vec![1; BYTES]).expect("write")));
                parts.push(crate::spawn(move || {
                    let mut buffer = vec![0; 10_000];
                    while received.load(Ordering::Relaxed) < 4 * BYTES {
                        match to.read_deadline(&mut buffer, Instant::now() + 10 * SHORT) {
                            Ok(len) => received.fetch_add(len, Ordering::Relaxed),
                            Err(error) if error.kind() == ErrorKind::TimedOut => 0,
                            Err(error) => panic!("{error}"),
                        };
                    }
                }));
            }
        }
        for part in parts {
            part.join().expect("part");
        }
        assert_eq!(received.load(Ordering::Relaxed), 4 * BYTES);
    });
}

fn echo(mut stream: TcpStream) -> Result<()> {
    let mut buffer = [0; 64];
    while let len @ 1.. = stream.read(&mut buffer)? {
        stream.write_all(&buffer[..len])?;
    }
    Ok(())
}

#[test]
fn many_connections_at_once() {
    const CLIENTS: usize = 200;
    const ROUNDS: usize = 20;
    let runtime = crate::Runtime::builder().workers(2).build().expect("runtime");
    runtime.run(|| {
        let (listener, address) = listen();
        let listener = Arc::new(listener);
        // Two accept on one socket, perhaps of different workers.
        for worker in 0..2 {
            let listener = Arc::clone(&listener);
            crate::spawn_on(worker, move || {
                for stream in listener.incoming() {
                    let Ok(stream) = stream else { return };
                    crate::spawn(move || echo(stream));
                }
            });
        }
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                crate::spawn(move || {
                    let mut stream = TcpStream::connect(address).expect("connect");
                    stream.set_nodelay(true).expect("nodelay");
                    for round in 0..ROUNDS {
                        let question = (client * ROUNDS + round).to_be_bytes();
                        stream.write_all(&question).expect("ask");
                        let mut answer = [0; 8];
                        stream.read_exact(&mut answer).expect("answer");
                        assert_eq!(answer, question);
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().expect("client");
        }
    });
    let report = runtime.shutdown(LONG);
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn a_shutdown_cancels_every_call() {
    let runtime = crate::Runtime::builder().workers(2).build().expect("runtime");
    let ended = Arc::new(AtomicUsize::new(0));
    let calls: Vec<fn() -> std::io::Error> = vec![
        || listen().0.accept().expect_err("cancelled"),
        || listen().0.incoming().next().expect("no end").expect_err("cancelled"),
        || pair().0.read(&mut [0; 8]).expect_err("cancelled"),
        || pair().0.peek(&mut [0; 8]).expect_err("cancelled"),
        || {
            let (mut near, _far) = pair();
            near.write_all(&vec![0; 64 << 20]).expect_err("cancelled")
        },
    ];
    let count = calls.len();
    for call in calls {
        let ended = Arc::clone(&ended);
        runtime.handle().spawn(move || {
            let error = call();
            assert!(is_cancelled(&error) && error.get_ref().is_some_and(|inner| inner.is::<Cancelled>()), "{error}");
            assert_ne!(error.kind(), ErrorKind::Interrupted);
            ended.fetch_add(1, Ordering::Relaxed);
        });
    }
    runtime.run(|| crate::sleep(10 * SHORT));
    let report = runtime.shutdown(LONG);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(ended.load(Ordering::Relaxed), count);
}

#[test]
fn threads_and_coroutines_share_a_listener_and_its_connections() {
    let (listener, address) = listen();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for stream in listener.incoming().take(2) {
                echo(stream.expect("accepted by a thread")).expect("echo");
            }
        });
        // Made in a coroutine, used in another runtime's and then on a thread.
        let mut stream = crate::run(|| {
            let mut stream = TcpStream::connect(address).expect("connect");
            stream.write_all(b"first").expect("write");
            stream.read_exact(&mut [0; 5]).expect("read");
            stream
        });
        crate::run(|| {
            stream.write_all(b"second").expect("write");
            stream.read_exact(&mut [0; 6]).expect("read");
        });
        stream.write_all(b"third").expect("write");
        stream.read_exact(&mut [0; 5]).expect("read");
        drop(stream);
        let mut stream = TcpStream::connect(address).expect("connect");
        stream.write_all(b"thread").expect("write");
        stream.read_exact(&mut [0; 6]).expect("read");
    });
}

#[test]
#[expect(clippy::disallowed_types, reason = "what is converted")]
fn std_sockets_come_and_go() {
    let (listener, address) = listen();
    let listener = TcpListener::from_std(listener.into_std().expect("into")).expect("from");
    let client = std::net::TcpStream::connect(address).expect("connect");
    let (mut far, _) = listener.accept().expect("accept");
    let near = TcpStream::from_std(client).expect("from");
    let other = near.try_clone().expect("clone");
    assert_eq!(near.into_std().expect_err("shared").kind(), ErrorKind::ResourceBusy);
    let mut near = other.into_std().expect("alone");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            crate::sleep(SHORT);
            far.write_all(b"late").expect("write");
        });
        near.read_exact(&mut [0; 4]).expect("it blocks");
    });
}

#[test]
fn options_are_kept() {
    let (listener, _) = listen();
    let (stream, _far) = pair();
    assert!(!stream.nodelay().expect("nodelay"));
    stream.set_nodelay(true).expect("nodelay");
    assert!(stream.nodelay().expect("nodelay"));
    stream.set_ttl(9).expect("ttl");
    assert_eq!(stream.ttl().expect("ttl"), 9);
    listener.set_ttl(10).expect("ttl");
    assert_eq!(listener.ttl().expect("ttl"), 10);
    assert!(stream.take_error().expect("error").is_none() && listener.take_error().expect("error").is_none());
    assert!(format!("{stream:?}").contains("peer"));
}
