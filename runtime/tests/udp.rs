//! A UDP socket in std's words: with a peer, with settings, with limits on waiting.

use std::io::{ErrorKind, Result};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use weald_runtime::net::{RecvBatch, UdpSocket};
use weald_runtime::time::Instant;
use weald_runtime::{run, sim, sleep};

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
        here.connect(there.local_addr())?;
        assert_eq!(here.peer_addr()?, there.local_addr());
        stranger.send_to(b"stranger", here.local_addr())?;
        assert_eq!(here.send(b"ping")?, 4);
        let mut buffer = [0; 16];
        assert_eq!(there.recv_from(&mut buffer)?, (4, here.local_addr()));
        there.send_to(b"pong!", here.local_addr())?;
        assert_eq!(here.recv(&mut buffer)?, 5);
        assert_eq!(&buffer[..5], b"pong!");
        sleep(Duration::from_millis(5));
        assert_eq!(here.try_recv(&mut buffer).expect_err("nothing of the stranger's").kind(), ErrorKind::WouldBlock);
        assert_eq!(here.take_error()?.map(|error| error.kind()), None);
        here.connect(stranger.local_addr())?;
        assert_eq!(here.peer_addr()?, stranger.local_addr());
        assert_eq!(here.try_send(b"another")?, 7);
        assert_eq!(stranger.recv_from(&mut buffer)?, (7, here.local_addr()));
        Ok(())
    });
}

#[test]
fn a_peek_leaves_the_datagram() {
    everywhere(|| {
        let (here, there) = (local(), local());
        for text in [b"first", b"later"] {
            there.send_to(text, here.local_addr())?;
        }
        let mut buffer = [0; 16];
        assert_eq!(here.peek_from(&mut buffer)?, (5, there.local_addr()));
        assert_eq!(here.peek(&mut buffer[..3])?, 3);
        assert_eq!(&buffer[..5], b"first");
        for text in [b"first", b"later"] {
            assert_eq!(here.recv_from(&mut buffer)?, (5, there.local_addr()));
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
        assert_eq!(socket.send_to_deadline(b"self", socket.local_addr(), Instant::now())?, 4);
        Ok(())
    });
}

#[test]
fn a_peer_that_refuses_is_reported_to_who_is_connected_to_it() {
    if cfg!(miri) {
        return;
    }
    run(|| {
        let (here, there) = (local(), local());
        let gone = there.local_addr();
        here.connect(gone)?;
        drop(there);
        here.send(b"anybody?")?;
        assert_eq!(here.recv(&mut [0; 4]).expect_err("nobody is there").kind(), ErrorKind::ConnectionRefused);
        // Not to a call that names an address, on a socket with many peers.
        let other = local();
        other.send_to(b"anybody?", gone)?;
        other.send_to(b"me", other.local_addr())?;
        assert_eq!(other.recv_from(&mut [0; 4])?, (2, other.local_addr()));
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
    assert!(any.local_addr().ip().is_unspecified());
    for socket in [any, dual] {
        socket.connect(there.local_addr()).expect("IPv4");
        assert_eq!(socket.local_addr().ip(), Ipv4Addr::LOCALHOST);
        assert_eq!(socket.peer_addr().expect("connected"), there.local_addr());
        socket.send(b"x").expect("sent");
        assert_eq!(there.recv_from(&mut [0; 4]).expect("a datagram"), (1, socket.local_addr()));
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
