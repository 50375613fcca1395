//! smol's calls: its executor, its reactor and its channels. A worker is a thread that runs the executor and drives the reactor.

use std::{
    future::{Future, pending},
    io,
    net::SocketAddr,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use async_executor::{Executor, StaticExecutor};
use async_io::{Async, Timer};
use futures_lite::future::{block_on, or, poll_once, yield_now};

use super::{
    FAR,
    asynchronous::{self, AsyncDatagrams, AsyncReceiving, AsyncSending, Asynchronous},
    sample::{Answer, Request},
};

#[derive(Clone, Copy)]
struct Smol(&'static StaticExecutor);

/// An executor that does what it is asked for; its threads end with the process.
pub(super) struct Side {
    smol: Smol,
    workers: usize,
}

impl Side {
    pub(super) fn start(workers: usize) -> Result<Self> {
        let smol = Smol(Executor::new().leak());
        for worker in 0..workers {
            thread::Builder::new()
                .name(format!("smol-{worker}"))
                .spawn(move || async_io::block_on(smol.0.run(pending::<()>())))
                .context("cannot start a thread")?;
        }
        Ok(Self { smol, workers })
    }

    pub(super) fn perform(&self, request: Request) -> Result<Option<Answer>> {
        block_on(self.smol.0.spawn(asynchronous::perform(self.smol, request, self.workers)))
    }
}

impl Asynchronous for Smol {
    type Sender = async_channel::Sender<u64>;
    type Receiver = async_channel::Receiver<u64>;
    type Socket = Async<SystemSocket>;

    fn spawn<T: Send + 'static>(self, work: impl Future<Output = T> + Send + 'static) -> impl Future<Output = T> + Send {
        self.0.spawn(work)
    }

    fn spawn_detached(self, work: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(work).detach();
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        yield_now()
    }

    async fn sleep(time: Duration) {
        Timer::after(time).await;
    }

    fn channel(capacity: Option<usize>, _shared: bool) -> (Self::Sender, Self::Receiver) {
        capacity.map_or_else(async_channel::unbounded, async_channel::bounded)
    }

    async fn bind(address: SocketAddr) -> io::Result<Self::Socket> {
        Async::<SystemSocket>::bind(address)
    }

    async fn make_and_drop_timer() {
        poll_once(Timer::after(FAR)).await;
    }

    async fn in_time<T: Send>(work: impl Future<Output = T> + Send) -> Option<T> {
        let timer = async {
            Timer::after(FAR).await;
            None
        };
        or(async { Some(work.await) }, timer).await
    }
}

impl AsyncSending for async_channel::Sender<u64> {
    async fn send(&self, message: u64) {
        async_channel::Sender::send(self, message).await.expect("the receiver stays");
    }
}

impl AsyncReceiving for async_channel::Receiver<u64> {
    async fn receive(&mut self) -> Option<u64> {
        self.recv().await.ok()
    }

    fn another(&self) -> Self {
        self.clone()
    }
}

#[expect(clippy::disallowed_types, reason = "the socket that smol's reactor wraps")]
type SystemSocket = std::net::UdpSocket;

impl AsyncDatagrams for Async<SystemSocket> {
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.get_ref().local_addr()
    }

    fn send_to(&self, bytes: &[u8], to: SocketAddr) -> impl Future<Output = io::Result<usize>> + Send {
        Async::<SystemSocket>::send_to(self, bytes, to)
    }

    fn receive_from(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<(usize, SocketAddr)>> + Send {
        self.recv_from(buffer)
    }
}
