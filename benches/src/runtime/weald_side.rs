//! Weald's calls.

use std::{io, net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use weald_runtime::{
    JoinHandle, Runtime,
    channel::{Receiver, Sender, bounded, unbounded},
    net::UdpSocket,
};

use super::{
    FAR,
    blocking::{self, Blocking, Datagrams, Receiving, Sending},
    sample::{Answer, Request},
};

struct Weald;

/// A runtime that does what it is asked for.
pub(super) struct Side {
    runtime: Runtime,
    workers: usize,
}

impl Side {
    pub(super) fn start(workers: usize) -> Result<Self> {
        let runtime = Runtime::builder().workers(workers).max_coroutines(1 << 21).build().context("cannot start Weald's runtime")?;
        Ok(Self { runtime, workers })
    }

    pub(super) fn perform(&self, request: Request) -> Result<Option<Answer>> {
        let workers = self.workers;
        self.runtime.run(move || blocking::perform::<Weald>(request, workers))
    }
}

impl Blocking for Weald {
    type Handle<T: Send + 'static> = JoinHandle<T>;
    type Sender = Sender<u64>;
    type Receiver = Receiver<u64>;
    type Socket = UdpSocket;

    #[inline(always)]
    fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        weald_runtime::spawn(work)
    }

    #[inline(always)]
    fn spawn_beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        weald_runtime::spawn_local(work)
    }

    #[inline(always)]
    fn join<T: Send + 'static>(handle: JoinHandle<T>) -> T {
        handle.join().expect("a task of a benchmark does not panic")
    }

    #[inline(always)]
    fn yield_now() {
        weald_runtime::yield_now();
    }

    fn sleep(time: Duration) {
        weald_runtime::sleep(time);
    }

    fn park() {
        weald_runtime::park();
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

    #[inline(always)]
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
