//! A UDP socket in std's words: with a peer, with settings, with limits on waiting.

use std::io::{ErrorKind, Result};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use weald_runtime::net::{RecvBatch, SendBatch, Transmit, UdpSocket, UdpSocketOptions};
use weald_runtime::time::Instant;
use weald_runtime::{run, sim, sleep, spawn_local, yield_now};

const PATIENCE: Duration = Duration::from_secs(20);

fn bind(ip: impl Into<std::net::IpAddr>) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::new(ip.into(), 0)).expect("bind");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

fn local() -> UdpSocket {
    bind(Ipv4Addr::LOCALHOST)
}

/// Runs it over the system's sockets, from a plain thread and a coroutine, and in a simulation.
fn everywhere(test: fn() -> Result<()>) {
    // Miri has no sockets of the system's.
    if !cfg!(miri) {
        test().expect("on a plain thread");
        run(test).expect("in a coroutine");
    }
    sim::run(1, test).expect("in a simulation");
}

#[test]
fn a_connected_socket_talks_to_its_peer_alone() {
    everywhere(|| {
        let (here, there, stranger) = (local(), local(), local());
        assert_eq!(here.peer_addr().expect_err("not connected").kind(), ErrorKind::NotConnected);
        assert!(here.send(b"to whom?").is_err());
        here.connect(there.local_addr()?)?;
        assert_eq!(here.peer_addr()?, there.local_addr()?);
        stranger.send_to(b"stranger", here.local_addr()?)?;
        assert_eq!(here.send(b"ping")?, 4);
        let mut buffer = [0; 16];
        assert_eq!(there.recv_from(&mut buffer)?, (4, here.local_addr()?));
        there.send_to(b"pong!", here.local_addr()?)?;
        assert_eq!(here.recv(&mut buffer)?, 5);
        assert_eq!(&buffer[..5], b"pong!");
        sleep(Duration::from_millis(5));
        assert_eq!(here.try_recv(&mut buffer).expect_err("nothing of the stranger's").kind(), ErrorKind::WouldBlock);
        assert_eq!(here.take_error()?.map(|error| error.kind()), None);
        here.connect(stranger.local_addr()?)?;
        assert_eq!(here.peer_addr()?, stranger.local_addr()?);
        assert_eq!(here.try_send(b"another")?, 7);
        assert_eq!(stranger.recv_from(&mut buffer)?, (7, here.local_addr()?));
        Ok(())
    });
}

#[test]
fn a_peek_leaves_the_datagram() {
    everywhere(|| {
        let (here, there) = (local(), local());
        for text in [b"first", b"later"] {
            there.send_to(text, here.local_addr()?)?;
        }
        let mut buffer = [0; 16];
        assert_eq!(here.peek_from(&mut buffer)?, (5, there.local_addr()?));
        assert_eq!(here.peek(&mut buffer[..3])?, 3);
        assert_eq!(&buffer[..5], b"first");
        for text in [b"first", b"later"] {
            assert_eq!(here.recv_from(&mut buffer)?, (5, there.local_addr()?));
            assert_eq!(&buffer[..5], text);
        }
        Ok(())
    });
}

#[test]
fn waits_end_at_their_limits() {
    everywhere(|| {
        let socket = local();
        assert_eq!(socket.read_timeout()?, Some(PATIENCE));
        assert_eq!(socket.write_timeout()?, None);
        assert_eq!(socket.set_write_timeout(Some(Duration::ZERO)).expect_err("zero").kind(), ErrorKind::InvalidInput);
        socket.set_write_timeout(Some(PATIENCE))?;
        assert_eq!(socket.write_timeout()?, Some(PATIENCE));
        let (start, short) = (Instant::now(), Duration::from_millis(5));
        let late = socket.recv_from_deadline(&mut [0; 4], start + short).expect_err("nobody sends");
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() >= short);
        socket.set_read_timeout(Some(short))?;
        for wait in [|socket: &UdpSocket| socket.recv(&mut [0; 4]), |socket: &UdpSocket| socket.peek(&mut [0; 4])] {
            let start = Instant::now();
            assert_eq!(wait(&socket).expect_err("nobody sends").kind(), ErrorKind::TimedOut);
            assert!(start.elapsed() >= short);
        }
        assert_eq!(socket.send_to_deadline(b"self", socket.local_addr()?, Instant::now())?, 4);
        Ok(())
    });
}

#[test]
fn every_call_that_waits_has_a_form_with_a_deadline() {
    everywhere(|| {
        let (here, there) = (local(), local());
        here.connect(there.local_addr()?)?;
        there.connect(here.local_addr()?)?;
        let start = Instant::now();
        let soon = start + Duration::from_millis(2);
        let (mut buffer, mut batch) = ([0; 8], RecvBatch::new());
        for late in [
            here.recv_deadline(&mut buffer, soon),
            here.peek_deadline(&mut buffer, soon),
            here.recv_from_deadline(&mut buffer, soon).map(|(len, _)| len),
            here.peek_from_deadline(&mut buffer, soon).map(|(len, _)| len),
            here.recv_batch_deadline(&mut batch, soon),
        ] {
            assert_eq!(late.expect_err("nobody sends").kind(), ErrorKind::TimedOut);
        }
        // Long before the read timeout.
        assert!(Instant::now() >= soon && start.elapsed() < PATIENCE);
        let far = Instant::now() + PATIENCE;
        assert_eq!(there.send_deadline(b"one", far)?, 3);
        assert_eq!(here.peek_deadline(&mut buffer, far)?, 3);
        assert_eq!(here.peek_from_deadline(&mut buffer, far)?, (3, there.local_addr()?));
        assert_eq!(here.recv_deadline(&mut buffer, far)?, 3);
        let mut sent = SendBatch::new();
        sent.reserve()[..4].copy_from_slice(b"many");
        sent.commit(Transmit { remote: here.local_addr()?, local: None, ecn: None, len: 4, segment_size: None });
        there.send_batch_deadline(&mut sent, far)?;
        assert!(sent.is_empty());
        assert_eq!(here.recv_batch_deadline(&mut batch, far)?, 1);
        assert_eq!(batch.iter().next().expect("one").bytes, b"many");
        Ok(())
    });
}

#[test]
fn addresses_are_what_std_takes() {
    run(|| {
        let here = UdpSocket::bind(("localhost", 0))?;
        let port = here.local_addr()?.port();
        let there = UdpSocket::bind(&[here.local_addr()?, "127.0.0.1:0".parse().expect("an address")][..])?;
        let mut buffer = [0; 8];
        for sent in [there.send_to(b"name", ("localhost", port))?, there.send_to(b"text", format!("127.0.0.1:{port}"))?] {
            assert_eq!(sent, 4);
            assert_eq!(here.recv_from(&mut buffer)?, (4, there.local_addr()?));
        }
        assert_eq!(there.send_to(b"", &[][..]).expect_err("to nobody").kind(), ErrorKind::InvalidInput);
        assert_eq!(UdpSocket::bind("nowhere").expect_err("no port").kind(), ErrorKind::InvalidInput);
        Ok::<_, std::io::Error>(())
    })
    .expect("sockets");
}

#[test]
#[expect(clippy::disallowed_types, reason = "it is about them")]
fn sockets_come_from_std_and_go_there() {
    run(|| {
        let theirs = std::net::UdpSocket::bind("127.0.0.1:0")?;
        let address = theirs.local_addr()?;
        let ours = UdpSocket::from_std(theirs)?;
        assert_eq!((ours.local_addr()?, ours.offloads().ecn, ours.offloads().pktinfo), (address, false, false));
        // It parks: a worker's only thread would wait for itself else.
        let ours = std::sync::Arc::new(ours);
        let receiver = std::sync::Arc::clone(&ours);
        let receiving = spawn_local(move || receiver.recv_from(&mut [0; 8]));
        yield_now();
        let other = UdpSocket::bind("127.0.0.1:0")?;
        other.send_to(b"late", address)?;
        assert_eq!(receiving.join().expect("no panic")?, (4, other.local_addr()?));
        // The kernel's own flag is seen through the descriptor.
        assert!(socket2::SockRef::from(&*ours).nonblocking()?);
        assert_eq!(ours.as_fd().as_raw_fd(), ours.as_raw_fd());
        let back = std::sync::Arc::into_inner(ours).expect("the last handle").into_std()?;
        assert!(!socket2::SockRef::from(&back).nonblocking()? && back.local_addr()? == address);
        let adopted = UdpSocket::from_std(UdpSocketOptions::default().gro(true).bind("[::1]:0")?.into_std()?)?;
        assert!(adopted.offloads().ecn && adopted.offloads().pktinfo && adopted.local_addr()?.is_ipv6());
        if adopted.offloads().gro {
            assert_eq!(adopted.recv_from(&mut [0; 8]).expect_err("trains").kind(), ErrorKind::InvalidInput);
        }
        Ok::<_, std::io::Error>(())
    })
    .expect("sockets");
    let refused = weald_runtime::sim::run(1, || UdpSocket::bind("10.0.0.1:1").and_then(UdpSocket::into_std).map(drop));
    assert_eq!(refused.expect_err("simulated").kind(), ErrorKind::Unsupported);
}

#[test]
fn a_peer_that_refuses_is_reported_to_who_is_connected_to_it() {
    if cfg!(miri) {
        return;
    }
    run(|| {
        let (here, there) = (local(), local());
        let gone = there.local_addr()?;
        here.connect(gone)?;
        drop(there);
        here.send(b"anybody?")?;
        assert_eq!(here.recv(&mut [0; 4]).expect_err("nobody is there").kind(), ErrorKind::ConnectionRefused);
        // Not to a call that names an address, on a socket with many peers.
        let other = local();
        other.send_to(b"anybody?", gone)?;
        other.send_to(b"me", other.local_addr()?)?;
        assert_eq!(other.recv_from(&mut [0; 4])?, (2, other.local_addr()?));
        Ok::<_, std::io::Error>(())
    })
    .expect("sockets");
}

#[test]
fn a_connected_socket_bound_to_no_address_has_one() {
    if cfg!(miri) {
        return;
    }
    let (any, dual, there) = (bind(Ipv4Addr::UNSPECIFIED), bind(Ipv6Addr::UNSPECIFIED), local());
    assert!(any.local_addr().expect("an address").ip().is_unspecified());
    for socket in [any, dual] {
        socket.connect(there.local_addr().expect("an address")).expect("IPv4");
        assert_eq!(socket.local_addr().expect("an address").ip(), Ipv4Addr::LOCALHOST);
        assert_eq!(socket.peer_addr().expect("connected"), there.local_addr().expect("an address"));
        socket.send(b"x").expect("sent");
        assert_eq!(there.recv_from(&mut [0; 4]).expect("a datagram"), (1, socket.local_addr().expect("an address")));
    }
}

#[test]
fn settings_reach_the_kernel() -> Result<()> {
    if cfg!(miri) {
        return Ok(());
    }
    let socket = bind(Ipv4Addr::UNSPECIFIED);
    socket.set_ttl(7)?;
    assert_eq!(socket.ttl()?, 7);
    assert!(!socket.broadcast()?);
    let everybody = SocketAddr::from((Ipv4Addr::new(127, 255, 255, 255), 9));
    assert_eq!(socket.send_to(b"all", everybody).expect_err("not allowed").kind(), ErrorKind::PermissionDenied);
    socket.set_broadcast(true)?;
    assert!(socket.broadcast()?);
    assert_eq!(socket.send_to(b"all", everybody)?, 3);
    assert!(socket.multicast_loop_v4()?);
    socket.set_multicast_loop_v4(false)?;
    assert!(!socket.multicast_loop_v4()?);
    assert_eq!(socket.multicast_ttl_v4()?, 1);
    socket.set_multicast_ttl_v4(3)?;
    assert_eq!(socket.multicast_ttl_v4()?, 3);
    let (group, interface) = (Ipv4Addr::new(239, 255, 77, 1), Ipv4Addr::LOCALHOST);
    socket.join_multicast_v4(&group, &interface)?;
    assert!(socket.join_multicast_v4(&group, &interface).is_err(), "once is enough");
    socket.leave_multicast_v4(&group, &interface)?;
    assert!(socket.leave_multicast_v4(&group, &interface).is_err(), "it has left");
    assert!(socket.take_error()?.is_none());
    Ok(())
}

#[test]
fn a_simulation_says_what_it_does_not_have() {
    sim::run(1, || {
        let socket = local();
        let group = Ipv4Addr::new(239, 255, 77, 1);
        let refused = [socket.set_broadcast(true), socket.set_ttl(7), socket.join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED)];
        assert!(refused.into_iter().all(|result| result.is_err_and(|error| error.kind() == ErrorKind::Unsupported)));
        let other_version = SocketAddr::from((Ipv6Addr::LOCALHOST, 9));
        assert_eq!(socket.connect(other_version).expect_err("an IPv4 socket").kind(), ErrorKind::InvalidInput);
    });
}

#[test]
#[should_panic(expected = "a batch fits into memory")]
fn a_batch_larger_than_memory_is_refused() {
    let _ = RecvBatch::with_slots(1 << 33, 1 << 31);
}
