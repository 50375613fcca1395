//! Plain threads with crossbeam's channels and std's blocking sockets.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "std's threads and sockets are what is measured")]

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Result;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::{
    FAR,
    blocking::{self, Blocking, Datagrams, Receiving, Sending},
    sample::{Answer, Request},
};

struct Threads;

pub(super) fn perform(request: Request, workers: usize) -> Result<Option<Answer>> {
    blocking::perform::<Threads>(request, workers)
}

impl Blocking for Threads {
    type Handle<T: Send + 'static> = JoinHandle<T>;
    type Sender = Sender<u64>;
    type Receiver = Receiver<u64>;
    type Socket = UdpSocket;

    const SPAWNS_MILLIONS: bool = false;
    const HAS_TIMERS: bool = false;

    #[inline(always)]
    fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        thread::spawn(work)
    }

    #[inline(always)]
    fn join<T: Send + 'static>(handle: JoinHandle<T>) -> T {
        handle.join().expect("a task of a benchmark does not panic")
    }

    #[inline(always)]
    fn yield_now() {
        thread::yield_now();
    }

    fn sleep(time: Duration) {
        thread::sleep(time);
    }

    fn park() {
        thread::park();
    }

    fn channel(capacity: Option<usize>, _shared: bool) -> Option<(Sender<u64>, Receiver<u64>)> {
        Some(capacity.map_or_else(unbounded, bounded))
    }

    fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
        UdpSocket::bind(address)
    }
}

impl Sending for Sender<u64> {
    #[inline(always)]
    fn send(&self, message: u64) {
        Sender::send(self, message).expect("the receiver stays");
    }
}

impl Receiving for Receiver<u64> {
    #[inline(always)]
    fn receive(&self) -> Option<u64> {
        self.recv().ok()
    }

    fn receive_in_time(&self) -> Option<u64> {
        self.recv_timeout(FAR).ok()
    }

    fn another(&self) -> Self {
        self.clone()
    }
}

impl Datagrams for UdpSocket {
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<usize> {
        UdpSocket::send_to(self, bytes, to)
    }

    fn receive_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_from(buffer)
    }
}
