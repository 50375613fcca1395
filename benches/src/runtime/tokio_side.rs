//! tokio's calls, and kanal's channels between tokio's tasks.
//!
//! One worker is the current-thread scheduler, tokio's fastest there; several are the multi-thread scheduler.

use std::{future::Future, io, net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use futures_lite::future::poll_once;
use tokio::{
    net::UdpSocket,
    runtime::{Builder, Runtime},
    sync::mpsc,
    task, time,
};

use super::{
    FAR,
    asynchronous::{self, AsyncDatagrams, AsyncReceiving, AsyncSending, Asynchronous},
    sample::{Answer, Request},
};

#[derive(Clone, Copy)]
struct Tokio;

#[derive(Clone, Copy)]
struct Kanal;

/// A runtime that does what it is asked for.
pub(super) struct Side {
    runtime: Runtime,
    workers: usize,
    kanal: bool,
}

impl Side {
    /// `kanal` chooses its channels instead of tokio's.
    pub(super) fn start(workers: usize, kanal: bool) -> Result<Self> {
        let mut builder = if workers == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
        let runtime = builder.worker_threads(workers).enable_all().build().context("cannot start tokio's runtime")?;
        Ok(Self { runtime, workers, kanal })
    }

    pub(super) fn perform(&self, request: Request) -> Result<Option<Answer>> {
        let workers = self.workers;
        // In a task, for the future of block_on is not one.
        if self.kanal {
            self.runtime.block_on(async move { task::spawn(asynchronous::perform(Kanal, request, workers)).await })?
        } else {
            self.runtime.block_on(async move { task::spawn(asynchronous::perform(Tokio, request, workers)).await })?
        }
    }
}

impl Asynchronous for Tokio {
    type Sender = TokioSender;
    type Receiver = TokioReceiver;
    type Socket = UdpSocket;

    fn spawn<T: Send + 'static>(self, work: impl Future<Output = T> + Send + 'static) -> impl Future<Output = T> + Send {
        let handle = task::spawn(work);
        async move { handle.await.expect("a task of a benchmark does not panic") }
    }

    fn spawn_detached(self, work: impl Future<Output = ()> + Send + 'static) {
        drop(task::spawn(work));
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        task::yield_now()
    }

    fn sleep(duration: Duration) -> impl Future<Output = ()> + Send {
        time::sleep(duration)
    }

    fn channel(capacity: Option<usize>, shared: bool) -> (TokioSender, TokioReceiver) {
        match (capacity, shared) {
            // tokio has none with several receivers; this is the usual companion.
            (Some(capacity), true) => {
                let (sender, receiver) = async_channel::bounded(capacity);
                (TokioSender::Shared(sender), TokioReceiver::Shared(receiver))
            }
            (None, true) => {
                let (sender, receiver) = async_channel::unbounded();
                (TokioSender::Shared(sender), TokioReceiver::Shared(receiver))
            }
            (Some(capacity), false) => {
                let (sender, receiver) = mpsc::channel(capacity);
                (TokioSender::Bounded(sender), TokioReceiver::Bounded(receiver))
            }
            (None, false) => {
                let (sender, receiver) = mpsc::unbounded_channel();
                (TokioSender::Unbounded(sender), TokioReceiver::Unbounded(receiver))
            }
        }
    }

    fn bind(address: SocketAddr) -> impl Future<Output = io::Result<UdpSocket>> + Send {
        UdpSocket::bind(address)
    }

    async fn make_and_drop_timer() {
        poll_once(time::sleep(FAR)).await;
    }

    async fn in_time<T: Send>(work: impl Future<Output = T> + Send) -> Option<T> {
        time::timeout(FAR, work).await.ok()
    }
}

#[derive(Clone)]
enum TokioSender {
    Bounded(mpsc::Sender<u64>),
    Unbounded(mpsc::UnboundedSender<u64>),
    Shared(async_channel::Sender<u64>),
}

enum TokioReceiver {
    Bounded(mpsc::Receiver<u64>),
    Unbounded(mpsc::UnboundedReceiver<u64>),
    Shared(async_channel::Receiver<u64>),
}

impl AsyncSending for TokioSender {
    async fn send(&self, message: u64) {
        let sent = match self {
            Self::Bounded(sender) => sender.send(message).await.is_ok(),
            Self::Unbounded(sender) => sender.send(message).is_ok(),
            Self::Shared(sender) => sender.send(message).await.is_ok(),
        };
        assert!(sent, "the receiver stays");
    }
}

impl AsyncReceiving for TokioReceiver {
    async fn receive(&mut self) -> Option<u64> {
        match self {
            Self::Bounded(receiver) => receiver.recv().await,
            Self::Unbounded(receiver) => receiver.recv().await,
            Self::Shared(receiver) => receiver.recv().await.ok(),
        }
    }

    fn another(&self) -> Self {
        match self {
            Self::Shared(receiver) => Self::Shared(receiver.clone()),
            Self::Bounded(_) | Self::Unbounded(_) => unreachable!("it was not made to be shared"),
        }
    }
}

impl AsyncDatagrams for UdpSocket {
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    fn send_to(&self, bytes: &[u8], to: SocketAddr) -> impl Future<Output = io::Result<usize>> + Send {
        UdpSocket::send_to(self, bytes, to)
    }

    fn receive_from(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<(usize, SocketAddr)>> + Send {
        self.recv_from(buffer)
    }
}

impl Asynchronous for Kanal {
    type Sender = kanal::AsyncSender<u64>;
    type Receiver = kanal::AsyncReceiver<u64>;
    type Socket = UdpSocket;

    const IS_RUNTIME: bool = false;

    fn spawn<T: Send + 'static>(self, work: impl Future<Output = T> + Send + 'static) -> impl Future<Output = T> + Send {
        Tokio.spawn(work)
    }

    fn spawn_detached(self, work: impl Future<Output = ()> + Send + 'static) {
        Tokio.spawn_detached(work);
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        Tokio::yield_now()
    }

    fn sleep(duration: Duration) -> impl Future<Output = ()> + Send {
        Tokio::sleep(duration)
    }

    fn channel(capacity: Option<usize>, _shared: bool) -> (Self::Sender, Self::Receiver) {
        capacity.map_or_else(kanal::unbounded_async, kanal::bounded_async)
    }

    fn bind(address: SocketAddr) -> impl Future<Output = io::Result<UdpSocket>> + Send {
        Tokio::bind(address)
    }

    fn make_and_drop_timer() -> impl Future<Output = ()> + Send {
        Tokio::make_and_drop_timer()
    }

    fn in_time<T: Send>(work: impl Future<Output = T> + Send) -> impl Future<Output = Option<T>> + Send {
        Tokio::in_time(work)
    }
}

impl AsyncSending for kanal::AsyncSender<u64> {
    async fn send(&self, message: u64) {
        kanal::AsyncSender::send(self, message).await.expect("the receiver stays");
    }
}

impl AsyncReceiving for kanal::AsyncReceiver<u64> {
    async fn receive(&mut self) -> Option<u64> {
        self.recv().await.ok()
    }

    fn another(&self) -> Self {
        self.clone()
    }
}
