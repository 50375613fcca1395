//! Models of an edge against those who look, try, clear and enlist.

use std::io::{self, ErrorKind};

use super::{Direction, Drained, Source};
use crate::primitive::Arc;
use crate::primitive::atomic::{AtomicUsize, Ordering};
use crate::wait_list::loom_tests::model;

/// A socket with so many bytes to read.
struct Socket {
    bytes: AtomicUsize,
    source: Source,
}

impl Socket {
    fn new() -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), source: Source::new(0) })
    }

    /// The kernel: bytes arrive, then the event loop hears of it.
    fn arrive(&self, bytes: usize) {
        // Ordering: Relaxed shows that the edge is what publishes.
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.source.set_ready(Direction::Read);
    }

    fn try_read(&self) -> io::Result<usize> {
        self.source.try_io(Direction::Read, || {
            match self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bytes| bytes.checked_sub(1)) {
                Ok(left) => Ok((1, Drained(left == 1))),
                Err(_) => Err(ErrorKind::WouldBlock.into()),
            }
        })
    }

    fn read(&self) -> usize {
        loop {
            match self.try_read() {
                Ok(read) => return read,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            self.source.wait(Direction::Read, None).expect("nobody cancels or closes");
        }
    }
}

#[test]
fn loom_readiness_edge_against_clear_and_enlist() {
    model(|| {
        let socket = Socket::new();
        let kernel = {
            let socket = socket.clone();
            loom::thread::spawn(move || {
                socket.arrive(1);
                socket.arrive(1);
            })
        };
        assert_eq!(socket.read() + socket.read(), 2);
        kernel.join().expect("the kernel does not panic");
    });
}

#[test]
fn loom_readiness_one_edge_serves_all_waiters() {
    model(|| {
        let socket = Socket::new();
        let reader = {
            let socket = socket.clone();
            loom::thread::spawn(move || socket.read())
        };
        let kernel = {
            let socket = socket.clone();
            loom::thread::spawn(move || socket.arrive(2))
        };
        assert_eq!(socket.read(), 1);
        assert_eq!(reader.join().expect("the reader does not panic"), 1);
        kernel.join().expect("the kernel does not panic");
    });
}

/// A reader waits although there is something to read, of which no edge will tell: whoever was told of it has it try, or an edge does.
#[test]
fn loom_readiness_patient_reader_is_served_without_an_edge() {
    model(|| {
        let socket = Socket::new();
        socket.bytes.store(1, Ordering::Relaxed);
        let listed = Arc::new(AtomicUsize::new(0));
        let worker = {
            let (socket, listed) = (socket.clone(), Arc::clone(&listed));
            loom::thread::spawn(move || {
                while listed.load(Ordering::Relaxed) == 0 {
                    loom::thread::yield_now();
                }
                socket.source.recheck(Direction::Read);
            })
        };
        let kernel = {
            let socket = socket.clone();
            loom::thread::spawn(move || socket.arrive(1))
        };
        socket.source.wait_patiently(Direction::Read, || listed.store(1, Ordering::Relaxed));
        assert_eq!(socket.read() + socket.read(), 2);
        worker.join().expect("the worker does not panic");
        kernel.join().expect("the kernel does not panic");
    });
}

#[test]
fn loom_readiness_close_against_enlist() {
    model(|| {
        let socket = Socket::new();
        let closer = {
            let socket = socket.clone();
            loom::thread::spawn(move || socket.source.close())
        };
        while socket.try_read().is_err() {
            if socket.source.wait(Direction::Read, None).is_err() {
                break;
            }
        }
        closer.join().expect("the closer does not panic");
    });
}
