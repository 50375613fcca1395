//! Edges, waiters and the bell, over pipes of the kernel's and plain threads.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::{Direction, Drained, Reactor, Source, WaitError};
use crate::time::Instant;

const LONG: Duration = Duration::from_secs(20);

fn pair() -> (UnixStream, UnixStream) {
    let (near, far) = UnixStream::pair().expect("a socket pair");
    near.set_nonblocking(true).expect("non-blocking");
    (near, far)
}

/// Reads one byte, as a socket of ours would.
fn read_byte(source: &Source, mut stream: &UnixStream) -> std::io::Result<u8> {
    source.try_io(Direction::Read, || {
        let mut byte = [0];
        stream.read_exact(&mut byte).map(|()| (byte[0], Drained(false)))
    })
}

#[test]
fn readiness_falls_at_would_block_and_rises_at_an_edge() {
    let mut reactor = Reactor::new().expect("reactor");
    let (near, mut far) = pair();
    let source = reactor.handle().register(&near).expect("register");
    assert!(source.is_ready(Direction::Read), "optimistic before the first try");
    reactor.poll(Some(Duration::ZERO)).expect("poll");
    assert_eq!(read_byte(&source, &near).expect_err("empty").kind(), ErrorKind::WouldBlock);
    assert!(!source.is_ready(Direction::Read));
    far.write_all(b"ab").expect("write");
    assert!(!source.is_ready(Direction::Read), "only a poll tells");
    assert_eq!(reactor.poll(Some(LONG)).expect("poll"), 1);
    assert!(source.is_ready(Direction::Read));
    assert_eq!(read_byte(&source, &near).expect("a"), b'a');
    assert!(source.is_ready(Direction::Read), "still ready, since nothing said otherwise");
    assert_eq!(read_byte(&source, &near).expect("b"), b'b');
}

#[test]
fn an_edge_between_try_and_clear_is_kept() {
    let source = Source::new(0);
    let mut tries = 0;
    let got = source.try_io(Direction::Read, || {
        tries += 1;
        if tries == 1 {
            // The edge comes after the kernel said "nothing".
            source.set_ready(Direction::Read);
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok((tries, Drained(true)))
    });
    assert_eq!(got.expect("second try"), 2);
    assert!(!source.is_ready(Direction::Read), "drained");
}

#[test]
fn the_bell_ends_a_wait_and_may_ring_before_it() {
    let mut reactor = Reactor::new().expect("reactor");
    let waker = reactor.waker();
    waker.ring();
    assert_eq!(reactor.poll(Some(LONG)).expect("poll"), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| waker.ring());
        assert_eq!(reactor.poll(None).expect("poll"), 0);
    });
}

#[test]
fn a_poll_with_a_timeout_waits_about_that_long() {
    let mut reactor = Reactor::new().expect("reactor");
    let start = Instant::now();
    assert_eq!(reactor.poll(Some(Duration::from_micros(300))).expect("poll"), 0);
    let passed = Instant::now().saturating_duration_since(start);
    assert!(passed >= Duration::from_micros(300), "{passed:?}");
}

#[test]
fn every_waiter_on_one_source_is_served() {
    const READERS: usize = 8;
    let mut reactor = Reactor::new().expect("reactor");
    let (near, mut far) = pair();
    let source = reactor.handle().register(&near).expect("register");
    let mut bytes = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        match read_byte(&source, &near) {
                            Ok(byte) => return byte,
                            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                        }
                        source.wait(Direction::Read, None).expect("nobody cancels");
                    }
                })
            })
            .collect();
        for byte in 0..READERS as u8 {
            far.write_all(&[byte]).expect("write");
            reactor.poll(Some(Duration::from_millis(1))).expect("poll");
        }
        while !readers.iter().all(|reader| reader.is_finished()) {
            reactor.poll(Some(Duration::from_millis(1))).expect("poll");
        }
        readers.into_iter().map(|reader| reader.join().expect("reader")).collect::<Vec<_>>()
    });
    bytes.sort_unstable();
    assert_eq!(bytes, (0..READERS as u8).collect::<Vec<_>>());
}

#[test]
fn a_wait_times_out_and_leaves_the_list() {
    let source = Source::new(0);
    let _ = source.try_io(Direction::Write, || Ok(((), Drained(true))));
    let deadline = Instant::now() + Duration::from_millis(2);
    assert_eq!(source.wait(Direction::Write, Some(deadline)), Err(WaitError::TimedOut));
    assert!(Instant::now() >= deadline);
    assert!(!source.has_waiters(Direction::Write));
    assert_eq!(source.wait(Direction::Read, Some(deadline)), Ok(()), "ready needs no waiting, even past the deadline");
}

#[test]
fn a_reused_slot_does_not_hear_of_its_predecessor() {
    let mut reactor = Reactor::new().expect("reactor");
    let (first, mut far) = pair();
    let old = reactor.handle().register(&first).expect("register");
    far.write_all(b"x").expect("write");
    reactor.handle().deregister(&first, &old).expect("deregister");
    let (second, _keep) = pair();
    let new = reactor.handle().register(&second).expect("register");
    assert_ne!(old.token(), new.token());
    assert_eq!(old.token() as u32, new.token() as u32, "the slot is reused");
    assert_eq!(read_byte(&new, &second).expect_err("empty").kind(), ErrorKind::WouldBlock);
    reactor.poll(Some(Duration::ZERO)).expect("poll");
    assert!(!new.is_ready(Direction::Read));
}

/// A socket has a handle, and may outlive the runtime.
#[test]
fn a_handle_does_not_keep_the_reactor() {
    let reactor = Reactor::new().expect("reactor");
    let handle = reactor.handle();
    let (near, _far) = pair();
    let source = handle.register(&near).expect("register");
    assert!(!handle.is_closed() && !source.is_closed());
    let table = std::sync::Arc::downgrade(&source);
    drop((reactor, source));
    assert!(handle.is_closed() && table.upgrade().is_none(), "neither the descriptors nor the table are left");
    assert!(handle.register(&near).expect("a source").is_closed());
    assert!(!handle.has_waiters());
}
