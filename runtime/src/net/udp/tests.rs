//! Sockets over the real loopback, from plain threads and from coroutines.

use std::io::{ErrorKind, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{UdpSocket, UdpSocketOptions};
use crate::net::{Ecn, Io, RecvBatch, SendBatch, Transmit};
use crate::sys::socket::{SocketOption, set_option};
use crate::time::Instant;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
const ANY_V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const ANY_V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

fn bind(io: &Io, options: &UdpSocketOptions, ip: IpAddr) -> UdpSocket {
    let socket = options.bind_on(io, SocketAddr::new(ip, 0)).expect("bind");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
    socket
}

fn plain(io: &Io, ip: IpAddr) -> UdpSocket {
    bind(io, &UdpSocketOptions::default(), ip)
}

fn to(socket: &UdpSocket, ip: IpAddr) -> SocketAddr {
    SocketAddr::new(ip, socket.local_addr().expect("an address").port())
}

/// Writes `len` random bytes into the batch and commits them; returns the bytes.
fn commit(batch: &mut SendBatch, rng: &mut fastrand::Rng, transmit: Transmit) -> Vec<u8> {
    let space = &mut batch.reserve()[..transmit.len];
    rng.fill(space);
    let bytes = space.to_vec();
    batch.commit(transmit);
    bytes
}

fn transmit(remote: SocketAddr, len: usize, segment_size: Option<usize>) -> Transmit {
    Transmit { remote, local: None, ecn: None, len, segment_size }
}

/// Receives until `count` datagrams are there.
fn receive(socket: &UdpSocket, count: usize) -> Result<Vec<Vec<u8>>> {
    let mut batch = RecvBatch::new();
    let mut datagrams = Vec::new();
    while datagrams.len() < count {
        let messages = socket.recv_batch(&mut batch)?;
        assert_eq!(messages, batch.len());
        datagrams.extend(batch.iter().flat_map(|train| train.segments().map(<[u8]>::to_vec).collect::<Vec<_>>()));
    }
    Ok(datagrams)
}

fn trains_round_trip(gso: bool, gro: bool, ip: IpAddr) {
    let io = &Io::System;
    let sender = bind(io, &UdpSocketOptions::default().gso(gso), ip);
    let receiver = bind(io, &UdpSocketOptions::default().gro(gro).receive_buffer(4 << 20), ip);
    assert_eq!(receiver.offloads().gro, gro, "this test needs a kernel with receive offload");
    assert_eq!(sender.offloads().gso_max_segments > 1, gso, "and with segmentation offload");
    let mut rng = fastrand::Rng::with_seed(3);
    let mut batch = SendBatch::new();
    let mut sent = Vec::new();
    // Together they fit the receive buffer that an unprivileged process gets.
    // A train with a short tail, one of more segments than any kernel takes, one of more bytes, and a single datagram.
    for (len, size) in [(45 * 1200 + 77, 1200), (150 * 20, 20), (50 * 1452, 1452), (9, 9)] {
        let bytes = commit(&mut batch, &mut rng, transmit(receiver.local_addr().expect("an address"), len, Some(size)));
        sent.extend(bytes.chunks(size).map(<[u8]>::to_vec));
    }
    sender.send_batch(&mut batch).expect("send");
    assert!(batch.is_empty());
    assert_eq!(batch.drain_refused().count(), 0);
    assert_eq!(receive(&receiver, sent.len()).expect("receive"), sent, "gso {gso}, gro {gro}, {ip}");
}

#[test]
fn trains_arrive_whole_and_in_order_with_every_offload() {
    for ip in [V4, V6] {
        for (gso, gro) in [(true, true), (true, false), (false, true), (false, false)] {
            trains_round_trip(gso, gro, ip);
        }
    }
}

#[test]
fn receive_offload_gives_trains_with_their_segment_size() {
    let io = &Io::System;
    let sender = plain(io, V4);
    let receiver = bind(io, &UdpSocketOptions::default().gro(true), V4);
    let mut batch = SendBatch::new();
    let mut rng = fastrand::Rng::with_seed(4);
    let sent = commit(&mut batch, &mut rng, transmit(receiver.local_addr().expect("an address"), 10 * 1000 + 10, Some(1000)));
    sender.send_batch(&mut batch).expect("send");
    let mut received = RecvBatch::new();
    assert_eq!(receiver.recv_batch(&mut received).expect("receive"), 1);
    let train = received.iter().next().expect("a train");
    assert_eq!((train.bytes, train.segment_size), (&sent[..], 1000));
    assert_eq!(train.segments().map(<[u8]>::len).collect::<Vec<_>>(), [vec![1000; 10], vec![10]].concat());
    assert_eq!(receiver.recv_from(&mut [0; 10]).expect_err("trains").kind(), ErrorKind::InvalidInput);
}

#[test]
fn marks_and_local_addresses_arrive() {
    let io = &Io::System;
    // An IPv6 socket for all addresses serves IPv4 as well, under plain IPv4 addresses.
    for (bound, ip) in [(ANY_V4, V4), (ANY_V6, V6), (ANY_V6, V4)] {
        let receiver = plain(io, bound);
        let sender = plain(io, ip);
        assert!(receiver.offloads().ecn && receiver.offloads().pktinfo);
        let mut batch = SendBatch::new();
        let marks = [None, Some(Ecn::Ect1), Some(Ecn::Ect0), Some(Ecn::Ce)];
        for ecn in marks {
            let transmit = Transmit { ecn, ..transmit(to(&receiver, ip), 4, None) };
            commit(&mut batch, &mut fastrand::Rng::with_seed(0), transmit);
        }
        sender.send_batch(&mut batch).expect("send");
        let mut received = RecvBatch::new();
        let mut seen = Vec::new();
        while seen.len() < marks.len() {
            receiver.recv_batch(&mut received).expect("receive");
            for datagrams in received.iter() {
                assert_eq!((datagrams.remote, datagrams.local), (sender.local_addr().expect("an address"), Some(ip)));
                seen.push(datagrams.ecn);
            }
        }
        assert_eq!(seen, marks, "{bound} from {ip}");
    }
}

#[test]
fn the_source_address_is_the_one_asked_for() {
    let io = &Io::System;
    let second = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    for bound in [ANY_V4, ANY_V6] {
        let sender = plain(io, bound);
        let receiver = plain(io, V4);
        let mut batch = SendBatch::new();
        let asked = Transmit { local: Some(second), ..transmit(receiver.local_addr().expect("an address"), 3, None) };
        commit(&mut batch, &mut fastrand::Rng::with_seed(0), asked);
        sender.send_batch(&mut batch).expect("send");
        let (_, from) = receiver.recv_from(&mut [0; 8]).expect("receive");
        assert_eq!(from, SocketAddr::new(second, sender.local_addr().expect("an address").port()));
    }
}

#[test]
fn an_ipv4_peer_of_an_ipv6_socket_is_answered() {
    let io = &Io::System;
    let server = plain(io, ANY_V6);
    let client = plain(io, V4);
    client.send_to(b"question", to(&server, V4)).expect("send");
    let mut buffer = [0; 64];
    let (len, from) = server.recv_from(&mut buffer).expect("receive");
    assert_eq!((&buffer[..len], from), (&b"question"[..], client.local_addr().expect("an address")));
    server.send_to(b"answer", from).expect("send");
    let (len, from) = client.recv_from(&mut buffer).expect("receive");
    assert_eq!((&buffer[..len], from), (&b"answer"[..], to(&server, V4)));
    let only_v6 = bind(io, &UdpSocketOptions::default().only_v6(true), ANY_V6);
    assert!(only_v6.send_to(b"x", client.local_addr().expect("an address")).is_err());
}

#[test]
fn a_batch_smaller_than_what_arrived_leaves_the_rest() {
    let io = &Io::System;
    let (sender, receiver) = (plain(io, V4), plain(io, V4));
    for byte in 0..10u8 {
        sender.send_to(&[byte], receiver.local_addr().expect("an address")).expect("send");
    }
    let mut batch = RecvBatch::with_slots(4, 2048);
    let mut seen = Vec::new();
    for expected in [4, 4, 2] {
        assert_eq!(receiver.try_recv_batch(&mut batch).expect("receive"), expected);
        seen.extend(batch.iter().map(|datagrams| datagrams.bytes[0]));
    }
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
    assert_eq!(receiver.try_recv_batch(&mut batch).expect_err("empty").kind(), ErrorKind::WouldBlock);
    assert!(batch.is_empty());
    crate::run(|| {
        assert!(receiver.try_recv_batch(&mut batch).is_err(), "on a worker, which watches it from now on");
        assert!(!receiver.is_readable());
        sender.send_to(b"x", receiver.local_addr().expect("an address")).expect("send");
        assert_eq!(receiver.recv_batch(&mut batch).expect("receive"), 1);
        assert!(!receiver.is_readable(), "a batch that was not filled shows that nothing is left");
    });
}

#[test]
fn an_empty_datagram_and_one_too_long_for_its_slot() {
    let io = &Io::System;
    let (sender, receiver) = (plain(io, V4), plain(io, V4));
    sender.send_to(&[1; 100], receiver.local_addr().expect("an address")).expect("send");
    sender.send_to(&[], receiver.local_addr().expect("an address")).expect("send");
    let mut batch = RecvBatch::with_slots(4, 50);
    assert_eq!(receiver.recv_batch(&mut batch).expect("receive"), 1, "the long one is dropped, not cut");
    let datagrams = batch.iter().next().expect("the empty one");
    assert_eq!((datagrams.bytes.len(), datagrams.segments().count()), (0, 0));
}

#[test]
fn a_blocked_receive_is_woken_and_all_waiters_are_served() {
    const READERS: usize = 4;
    let io = &Io::System;
    let receiver = plain(io, V4);
    let sender = plain(io, V4);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut buffer = [0; 8];
                    receiver.recv_from(&mut buffer).map(|(len, _)| (len, buffer[0]))
                })
            })
            .collect();
        for byte in 0..READERS as u8 {
            sender.send_to(&[byte], receiver.local_addr().expect("an address")).expect("send");
        }
        let mut got: Vec<_> = readers.into_iter().map(|reader| reader.join().expect("reader").expect("a datagram")).collect();
        got.sort_unstable();
        assert_eq!(got, (0..READERS as u8).map(|byte| (1, byte)).collect::<Vec<_>>());
    });
}

#[test]
fn a_receive_times_out() {
    let io = &Io::System;
    let socket = plain(io, V4);
    let limit = Duration::from_millis(5);
    socket.set_read_timeout(Some(limit)).expect("timeout");
    let start = Instant::now();
    assert_eq!(socket.recv_from(&mut [0; 8]).expect_err("nothing comes").kind(), ErrorKind::TimedOut);
    assert!(Instant::now().saturating_duration_since(start) >= limit);
    assert_eq!(socket.recv_batch(&mut RecvBatch::new()).expect_err("nothing comes").kind(), ErrorKind::TimedOut);
    assert_eq!(socket.set_read_timeout(Some(Duration::ZERO)).expect_err("zero").kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_datagram_that_is_too_long_fails_alone() {
    let io = &Io::System;
    let (sender, receiver) = (plain(io, V4), plain(io, V4));
    let remote = receiver.local_addr().expect("an address");
    let mut batch = SendBatch::new();
    let mut rng = fastrand::Rng::with_seed(9);
    let first = commit(&mut batch, &mut rng, transmit(remote, 10, None));
    // Longer than any UDP datagram over IPv4, whatever the interface.
    commit(&mut batch, &mut rng, transmit(remote, 65_530, None));
    let last = commit(&mut batch, &mut rng, transmit(remote, 20, None));
    assert_eq!(sender.try_send_batch(&mut batch).expect("send"), 3);
    let refused: Vec<_> = batch.drain_refused().collect();
    assert_eq!(refused.len(), 1);
    assert!(refused[0].is_too_long());
    assert_eq!((refused[0].remote, refused[0].len), (remote, 65_530));
    assert_eq!(receive(&receiver, 2).expect("receive"), [first, last]);
}

#[test]
fn a_train_with_segments_that_are_too_long_is_blamed_by_the_datagram() {
    let io = &Io::System;
    // Loopback has an MTU of 65,536; with headers a segment of 65,520 does not fit.
    let (sender, receiver) = (bind(io, &UdpSocketOptions::default().dont_fragment(true), V4), plain(io, V4));
    let before = sender.offloads();
    let remote = receiver.local_addr().expect("an address");
    let mut batch = SendBatch::new();
    let mut rng = fastrand::Rng::with_seed(9);
    commit(&mut batch, &mut rng, transmit(remote, 65_520 * 2, Some(65_520)));
    let small = commit(&mut batch, &mut rng, transmit(remote, 2_000, Some(1_000)));
    sender.send_batch(&mut batch).expect("send");
    assert_eq!(batch.drain_refused().map(|refused| refused.len).collect::<Vec<_>>(), [65_520, 65_520]);
    assert_eq!(receive(&receiver, 2).expect("receive").concat(), small);
    assert_eq!(sender.offloads(), before, "the blame is not on segmentation");
}

#[test]
fn refused_segmentation_falls_back_to_single_datagrams() {
    let io = &Io::System;
    let (sender, receiver) = (plain(io, V4), plain(io, V4));
    let super::Inner::System(system) = &sender.inner else { panic!("not in a simulation") };
    set_option(&system.descriptor, SocketOption::NoChecksum, 1).expect("no checksums");
    assert!(sender.offloads().gso_max_segments > 1);
    let mut batch = SendBatch::new();
    let mut rng = fastrand::Rng::with_seed(5);
    for _ in 0..2 {
        let first = commit(&mut batch, &mut rng, transmit(receiver.local_addr().expect("an address"), 7_500, Some(1_000)));
        let second = commit(&mut batch, &mut rng, transmit(receiver.local_addr().expect("an address"), 10, None));
        assert_eq!(sender.try_send_batch(&mut batch).expect("send"), 2);
        assert_eq!(batch.drain_refused().count(), 0);
        let got = receive(&receiver, 9).expect("receive");
        assert_eq!(got.concat(), [first, second].concat());
        assert_eq!(sender.offloads().gso_max_segments, 1, "it does not try again");
    }
}

#[test]
fn a_closed_port_does_not_disturb_the_socket() {
    let io = &Io::System;
    let socket = plain(io, V4);
    let closed = plain(io, V4).local_addr().expect("an address");
    for _ in 0..3 {
        socket.send_to(b"anyone?", closed).expect("an ICMP message about it concerns nobody else");
    }
    assert_eq!(socket.try_recv_from(&mut [0; 8]).expect_err("nothing").kind(), ErrorKind::WouldBlock);
    socket.send_to(b"me", socket.local_addr().expect("an address")).expect("send");
    assert_eq!(socket.recv_from(&mut [0; 8]).expect("receive").0, 2);
}

#[test]
fn a_full_send_queue_keeps_the_rest_of_the_batch() {
    let io = &Io::System;
    // The smallest send buffer that the kernel gives. Loopback hands datagrams over at once, but the receiver's queue
    // charges them to the sender only until they are dropped, so what is checked is that nothing is lost or doubled.
    let sender = bind(io, &UdpSocketOptions::default().send_buffer(1), V4);
    let receiver = bind(io, &UdpSocketOptions::default().receive_buffer(8 << 20), V4);
    let mut batch = SendBatch::new();
    let mut rng = fastrand::Rng::with_seed(1);
    let sent: Vec<_> =
        (0..150).map(|_| commit(&mut batch, &mut rng, transmit(receiver.local_addr().expect("an address"), 1000, None))).collect();
    let got = std::thread::scope(|scope| {
        let receiving = scope.spawn(|| receive(&receiver, sent.len()));
        sender.send_batch(&mut batch).expect("send");
        receiving.join().expect("receiver")
    });
    assert_eq!(got.expect("receive"), sent);
    assert_eq!(batch.drain_refused().count(), 0);
}

#[test]
fn buffer_sizes_are_granted_and_reported() {
    let io = &Io::System;
    let socket = bind(io, &UdpSocketOptions::default().receive_buffer(50_000).send_buffer(60_000), V4);
    assert_eq!(socket.receive_buffer().expect("size"), 50_000);
    assert_eq!(socket.send_buffer().expect("size"), 60_000);
}

#[test]
fn an_address_in_use_is_named() {
    let io = &Io::System;
    let socket = plain(io, V4);
    let error = UdpSocketOptions::default().bind_on(io, socket.local_addr().expect("an address")).expect_err("in use");
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&socket.local_addr().expect("an address").to_string()), "{error}");
}

#[test]
fn sharers_of_a_port_get_every_datagram_once() {
    let io = &Io::System;
    let options = UdpSocketOptions::default().reuse_port(true);
    let first = bind(io, &options, V4);
    let second = options.bind_on(io, first.local_addr().expect("an address")).expect("shared");
    second.set_read_timeout(Some(Duration::from_millis(200))).expect("timeout");
    let mut got = 0;
    for byte in 0..20u8 {
        plain(io, V4).send_to(&[byte], first.local_addr().expect("an address")).expect("send");
    }
    while got < 20 {
        let one = first.try_recv_from(&mut [0; 8]).or_else(|_| second.try_recv_from(&mut [0; 8]));
        match one {
            Ok(_) => got += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                std::thread::yield_now();
            }
        }
    }
}

fn loopback() -> UdpSocket {
    UdpSocket::bind(SocketAddr::new(V4, 0)).expect("bind")
}

#[test]
fn coroutines_block_on_sockets_of_their_runtime() {
    const CLIENTS: usize = 20;
    const ROUNDS: usize = 50;
    let runtime = crate::Runtime::builder().workers(2).build().expect("runtime");
    runtime.run(|| {
        let server = std::sync::Arc::new(loopback());
        let address = server.local_addr().expect("an address");
        // Two coroutines, perhaps of different workers, answer on one socket.
        for worker in 0..2 {
            let server = std::sync::Arc::clone(&server);
            let _ = crate::spawn_on(worker, move || {
                let mut buffer = [0; 16];
                while let Ok((len, from)) = server.recv_from(&mut buffer) {
                    server.send_to(&buffer[..len], from).expect("answer");
                }
            });
        }
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                crate::spawn(move || {
                    let socket = loopback();
                    let mut buffer = [0; 16];
                    for round in 0..ROUNDS {
                        let question = round.to_be_bytes();
                        socket.send_to(&question, address).expect("ask");
                        let (len, from) = socket.recv_from(&mut buffer).expect("answer");
                        assert_eq!((&buffer[..len], from), (&question[..], address));
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().expect("client");
        }
    });
    // The two servers are still blocked: the shutdown ends them with an error.
    let report = runtime.shutdown(Duration::from_secs(10));
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn a_socket_goes_from_threads_to_coroutines_and_back() {
    let socket = loopback();
    let peer = loopback();
    let mut buffer = [0; 8];
    for _ in 0..3 {
        // Watched by the first worker that waits, and by the next runtime's when that has ended.
        let (received, from) = crate::run(|| {
            let sender = crate::spawn({
                let (address, peer) = (socket.local_addr().expect("an address"), peer.local_addr().expect("an address"));
                move || {
                    crate::sleep(Duration::from_millis(1));
                    loopback().send_to(&[1; 3], address).expect("send");
                    peer
                }
            });
            let received = socket.recv_from(&mut buffer).expect("to a coroutine");
            sender.join().expect("sender");
            received
        });
        assert_eq!((received, from.ip()), (3, V4));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                #[expect(clippy::disallowed_methods, reason = "a plain thread")]
                std::thread::sleep(Duration::from_millis(1));
                peer.send_to(&[2; 5], socket.local_addr().expect("an address")).expect("send");
            });
            assert_eq!(socket.recv_from(&mut buffer).expect("to a thread"), (5, peer.local_addr().expect("an address")));
        });
    }
    socket.set_read_timeout(Some(Duration::from_millis(2))).expect("timeout");
    assert_eq!(socket.recv_from(&mut buffer).expect_err("nothing comes").kind(), ErrorKind::TimedOut);
}

#[test]
fn a_system_socket_is_not_waited_for_in_a_simulation() {
    let socket = loopback();
    let error = crate::sim::run(1, move || socket.recv_from(&mut [0; 8]).expect_err("nobody polls"));
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn a_coroutine_times_out_and_a_plain_thread_may_wait() {
    crate::run(|| {
        let socket = loopback();
        socket.set_read_timeout(Some(Duration::from_millis(2))).expect("timeout");
        assert_eq!(socket.recv_from(&mut [0; 8]).expect_err("nothing comes").kind(), ErrorKind::TimedOut);
        socket.set_read_timeout(None).expect("no timeout");
        let address = socket.local_addr().expect("an address");
        let thread = std::thread::Builder::new()
            .spawn(move || {
                let mut buffer = [0; 8];
                socket.recv_from(&mut buffer).map(|(len, _)| buffer[..len].to_vec())
            })
            .expect("thread");
        crate::sleep(Duration::from_millis(1));
        loopback().send_to(b"hello", address).expect("send");
        while !thread.is_finished() {
            crate::sleep(Duration::from_millis(1));
        }
        assert_eq!(thread.join().expect("thread").expect("datagram"), b"hello");
    });
}

/// Sends back what comes, until that is nothing.
fn echo(socket: &UdpSocket) {
    let mut buffer = [0; 8];
    loop {
        let (len, from) = socket.recv_from(&mut buffer).expect("received");
        socket.send_to(&buffer[..len], from).expect("sent");
        if len == 0 {
            return;
        }
    }
}

/// Single datagrams teach a reader to wait before it looks. Several that come at once may then be one edge, and it gets all of them,
/// also while others keep the worker's polls full of news.
#[test]
fn a_reader_that_waits_first_gets_all_of_a_burst() {
    for busy in [false, true] {
        let runtime = crate::Runtime::builder().workers(1).build().expect("a runtime");
        let (done, heard) = std::sync::mpsc::channel();
        drop(runtime.handle().spawn(move || {
            let over = Arc::new(AtomicBool::new(false));
            let neighbours = busy.then(|| {
                let (server, client) = (plain(&Io::System, V4), plain(&Io::System, V4));
                let (address, over) = (server.local_addr().expect("an address"), Arc::clone(&over));
                let asking = crate::spawn(move || {
                    let mut is_last = false;
                    while !is_last {
                        is_last = over.load(Ordering::Relaxed);
                        client.send_to(if is_last { b"" } else { b"ask" }, address).expect("sent");
                        client.recv_from(&mut [0; 8]).expect("answered");
                    }
                });
                [crate::spawn(move || echo(&server)), asking]
            });
            let (server, client) = (plain(&Io::System, V4), plain(&Io::System, V4));
            let address = server.local_addr().expect("an address");
            let reader = crate::spawn(move || echo(&server));
            for burst in std::iter::repeat_n(1, 50).chain(std::iter::repeat_n(3, 50)) {
                (0..burst).for_each(|_| assert_eq!(client.send_to(b"one", address).expect("sent"), 3));
                (0..burst).for_each(|_| assert_eq!(client.recv_from(&mut [0; 8]).expect("answered").0, 3));
            }
            client.send_to(b"", address).expect("sent");
            reader.join().expect("no panic");
            over.store(true, Ordering::Relaxed);
            neighbours.into_iter().flatten().for_each(|neighbour| neighbour.join().expect("no panic"));
            done.send(()).expect("somebody waits");
        }));
        heard.recv_timeout(Duration::from_secs(10)).expect("nobody waits for an edge that has been");
    }
}
