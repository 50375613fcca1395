//! may's calls. Its scheduler is one a process, made at the first use.

use std::{io, net::SocketAddr, time::Duration};

use anyhow::Result;
use may::{
    coroutine::{self, JoinHandle},
    go,
    net::UdpSocket,
    sync::{mpmc, mpsc},
};

use super::{
    FAR, TRIMMED_STACK,
    benchmark::Benchmark,
    blocking::{self, Blocking, Datagrams, Receiving, Sending},
    sample::{Answer, Request},
};

struct May;

/// The process's scheduler.
pub(super) struct Side {
    workers: usize,
}

impl Side {
    /// Counts only before may's first use in the process.
    pub(super) fn start(workers: usize) -> Self {
        // A pool that holds a batch of tasks: it is made for it, and faster by far.
        may::config().set_workers(workers).set_pool_capacity(May::SPAWN_BATCH as usize);
        Self { workers }
    }

    pub(super) fn perform(&self, request: Request) -> Result<Option<Answer>> {
        let workers = self.workers;
        if request.benchmark == Benchmark::MemoryTrimmed {
            // Its stacks of 32 KiB do not hold what is used there; the unit is a word.
            may::config().set_stack_size(2 * TRIMMED_STACK / size_of::<usize>());
        }
        May::join(May::spawn(move || blocking::perform::<May>(request, workers)))
    }
}

impl Blocking for May {
    type Handle<T: Send + 'static> = JoinHandle<T>;
    type Sender = MaySender;
    type Receiver = MayReceiver;
    type Socket = UdpSocket;

    // A stack is mapped at the spawn: a million at once are more mappings than the kernel allows.
    const SPAWN_BATCH: u64 = 1_000;

    #[inline(always)]
    fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        go!(work)
    }

    #[inline(always)]
    fn join<T: Send + 'static>(handle: JoinHandle<T>) -> T {
        handle.join().expect("a task of a benchmark does not panic")
    }

    #[inline(always)]
    fn yield_now() {
        coroutine::yield_now();
    }

    fn sleep(time: Duration) {
        coroutine::sleep(time);
    }

    fn park() {
        coroutine::park();
    }

    fn channel(capacity: Option<usize>, shared: bool) -> Option<(MaySender, MayReceiver)> {
        if capacity.is_some() {
            return None;
        }
        Some(if shared {
            let (sender, receiver) = mpmc::channel();
            (MaySender::Shared(sender), MayReceiver::Shared(receiver))
        } else {
            let (sender, receiver) = mpsc::channel();
            (MaySender::Single(sender), MayReceiver::Single(receiver))
        })
    }

    fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
        UdpSocket::bind(address)
    }
}

#[derive(Clone)]
enum MaySender {
    Single(mpsc::Sender<u64>),
    Shared(mpmc::Sender<u64>),
}

enum MayReceiver {
    Single(mpsc::Receiver<u64>),
    Shared(mpmc::Receiver<u64>),
}

impl Sending for MaySender {
    #[inline(always)]
    fn send(&self, message: u64) {
        match self {
            Self::Single(sender) => sender.send(message),
            Self::Shared(sender) => sender.send(message),
        }
        .expect("the receiver stays");
    }
}

impl Receiving for MayReceiver {
    #[inline(always)]
    fn receive(&self) -> Option<u64> {
        match self {
            Self::Single(receiver) => receiver.recv().ok(),
            Self::Shared(receiver) => receiver.recv().ok(),
        }
    }

    #[inline(always)]
    fn receive_in_time(&self) -> Option<u64> {
        match self {
            Self::Single(receiver) => receiver.recv_timeout(FAR).ok(),
            Self::Shared(receiver) => receiver.recv_timeout(FAR).ok(),
        }
    }

    fn another(&self) -> Self {
        match self {
            Self::Single(_) => unreachable!("it was not made to be shared"),
            Self::Shared(receiver) => Self::Shared(receiver.clone()),
        }
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
