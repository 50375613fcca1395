//! The benchmarks as async code, for whatever runs futures: tokio and smol.
//!
//! Owns the measured loops, which mirror those of the blocking contestants; a contestant gives its calls by [`Asynchronous`].

use std::{
    future::{Future, pending},
    hint::black_box,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use weald_runtime::time::Instant;

use super::{
    ECHO_SIZE, FAR, IDLE_TASKS, SETTLING, TIMER_TURNS, YIELDERS,
    benchmark::{Benchmark, Channel},
    blocking::sum_below,
    sample::{Answer, Request},
};

/// What a contestant offers to the loops. All calls are made from its own tasks.
pub(super) trait Asynchronous: Copy + Send + Sync + 'static {
    type Sender: AsyncSending;
    type Receiver: AsyncReceiving;
    type Socket: AsyncDatagrams;

    /// Whether it is a runtime, and not only channels on one that is measured by itself.
    const IS_RUNTIME: bool = true;

    /// Starts a task at once; the future is its join, and dropping it leaves the task running.
    fn spawn<T: Send + 'static>(self, work: impl Future<Output = T> + Send + 'static) -> impl Future<Output = T> + Send;
    /// Starts a task that nobody joins.
    fn spawn_detached(self, work: impl Future<Output = ()> + Send + 'static);
    fn yield_now() -> impl Future<Output = ()> + Send;
    fn sleep(time: Duration) -> impl Future<Output = ()> + Send;
    /// A channel; `shared` if several tasks receive.
    fn channel(capacity: Option<usize>, shared: bool) -> (Self::Sender, Self::Receiver);
    fn bind(address: SocketAddr) -> impl Future<Output = io::Result<Self::Socket>> + Send;
    /// Makes a timer of [`FAR`], polls it once, which arms it, and drops it, which cancels it.
    fn make_and_drop_timer() -> impl Future<Output = ()> + Send;
    /// Awaits `work` for [`FAR`] at most.
    fn in_time<T: Send>(work: impl Future<Output = T> + Send) -> impl Future<Output = Option<T>> + Send;
}

/// A sender; `Clone` is one more.
pub(super) trait AsyncSending: Clone + Send + Sync + 'static {
    /// Panics if nobody receives any more.
    fn send(&self, message: u64) -> impl Future<Output = ()> + Send;
}

/// A receiver.
pub(super) trait AsyncReceiving: Send + Sync + Sized + 'static {
    /// `None` when all senders are gone.
    fn receive(&mut self) -> impl Future<Output = Option<u64>> + Send;
    /// One more receiver of a channel that was made to be shared.
    fn another(&self) -> Self;
}

/// A UDP socket.
pub(super) trait AsyncDatagrams: Send + Sync + 'static {
    fn local_address(&self) -> io::Result<SocketAddr>;
    fn send_to(&self, bytes: &[u8], to: SocketAddr) -> impl Future<Output = io::Result<usize>> + Send;
    fn receive_from(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<(usize, SocketAddr)>> + Send;
}

/// Does what is asked for; awaited in a task. `None` if the contestant has no means to.
pub(super) async fn perform<A: Asynchronous>(runtime: A, request: Request, workers: usize) -> Result<Option<Answer>> {
    let Request { benchmark, count } = request;
    let answer = match benchmark {
        Benchmark::PingPong => ping_pong(runtime, count, false).await?,
        Benchmark::Channel(channel) => throughput(runtime, channel, count).await?,
        _ if !A::IS_RUNTIME => return Ok(None),
        Benchmark::Yield => yield_alone::<A>(count).await,
        Benchmark::YieldThousand => yield_among_many(runtime, count).await,
        Benchmark::SpawnJoin => spawn_join(runtime, count).await?,
        Benchmark::SpawnMillion => spawn_all(runtime, count).await?,
        Benchmark::Timer => timer::<A>(count).await,
        Benchmark::TimedWait => ping_pong(runtime, count, true).await?,
        Benchmark::SleepersThousand => sleepers(runtime, 1_000, Duration::from_millis(1), count).await?,
        Benchmark::SleepersTenThousand => sleepers(runtime, 10_000, Duration::from_millis(100), count).await?,
        Benchmark::UdpEcho => udp_echo(runtime, count).await?,
        Benchmark::IdleCpu => idle_cpu(runtime, Duration::from_millis(count), workers).await?,
        Benchmark::Memory => parked(runtime, count).await?,
        // They have no stacks.
        Benchmark::MemoryTrimmed => return Ok(None),
    };
    Ok(Some(answer))
}

async fn yield_alone<A: Asynchronous>(count: u64) -> Answer {
    let started = Instant::now();
    for _ in 0..count {
        A::yield_now().await;
    }
    Answer::timed(count, started.elapsed())
}

async fn yield_among_many<A: Asynchronous>(runtime: A, count: u64) -> Answer {
    let each = (count / YIELDERS).max(1);
    let started = Instant::now();
    let yielders: Vec<_> = (0..YIELDERS)
        .map(|_| {
            runtime.spawn(async move {
                for _ in 0..each {
                    A::yield_now().await;
                }
            })
        })
        .collect();
    for yielder in yielders {
        yielder.await;
    }
    Answer::timed(each * YIELDERS, started.elapsed())
}

async fn spawn_join<A: Asynchronous>(runtime: A, count: u64) -> Result<Answer> {
    let started = Instant::now();
    let mut sum = 0;
    for number in 0..count {
        sum += runtime.spawn(async move { black_box(number) }).await;
    }
    let elapsed = started.elapsed();
    ensure!(sum == sum_below(count), "the joined tasks returned {sum} in all");
    Ok(Answer::timed(count, elapsed))
}

async fn spawn_all<A: Asynchronous>(runtime: A, count: u64) -> Result<Answer> {
    let started = Instant::now();
    let handles: Vec<_> = (0..count).map(|number| runtime.spawn(async move { black_box(number) })).collect();
    let mut sum = 0;
    for handle in handles {
        sum += handle.await;
    }
    let elapsed = started.elapsed();
    ensure!(sum == sum_below(count), "the joined tasks returned {sum} in all");
    Ok(Answer::timed(count, elapsed))
}

async fn ping_pong<A: Asynchronous>(runtime: A, count: u64, timed: bool) -> Result<Answer> {
    let ((ping, mut pinged), (pong, mut ponged)) = (A::channel(None, false), A::channel(None, false));
    let partner = runtime.spawn(async move {
        while let Some(number) = pinged.receive().await {
            pong.send(number + 1).await;
        }
    });
    let mut number = 0;
    let started = Instant::now();
    for _ in 0..count {
        ping.send(number).await;
        let answer = if timed { A::in_time(ponged.receive()).await.flatten() } else { ponged.receive().await };
        number = answer.context("the partner is gone")?;
    }
    let elapsed = started.elapsed();
    drop(ping);
    partner.await;
    ensure!(number == count, "{number} instead of {count} came back");
    Ok(Answer::timed(count, elapsed))
}

async fn throughput<A: Asynchronous>(runtime: A, Channel { capacity, senders, receivers }: Channel, count: u64) -> Result<Answer> {
    let (sender, receiver) = A::channel(capacity, receivers > 1);
    let each = (count / senders as u64).max(1);
    let total = each * senders as u64;
    let mut all_receivers: Vec<_> = (1..receivers).map(|_| receiver.another()).collect();
    all_receivers.push(receiver);
    let all_senders = vec![sender; senders];
    let started = Instant::now();
    let receiving: Vec<_> = all_receivers
        .into_iter()
        .map(|mut receiver| {
            runtime.spawn(async move {
                let mut received = (0_u64, 0_u64);
                while let Some(number) = receiver.receive().await {
                    received = (received.0 + 1, received.1 + number);
                }
                received
            })
        })
        .collect();
    let sending: Vec<_> = (0_u64..)
        .zip(all_senders)
        .map(|(index, sender)| {
            runtime.spawn(async move {
                for number in index * each..(index + 1) * each {
                    sender.send(number).await;
                }
            })
        })
        .collect();
    for sender in sending {
        sender.await;
    }
    let mut received = (0, 0);
    for receiver in receiving {
        let (number, sum) = receiver.await;
        received = (received.0 + number, received.1 + sum);
    }
    let elapsed = started.elapsed();
    ensure!(received == (total, sum_below(total)), "of {total} messages {} came, {} in sum", received.0, received.1);
    Ok(Answer::timed(total, elapsed))
}

async fn timer<A: Asynchronous>(count: u64) -> Answer {
    let each = count.div_ceil(TIMER_TURNS);
    let mut turns = Vec::with_capacity(TIMER_TURNS as usize);
    for _ in 0..TIMER_TURNS {
        let started = Instant::now();
        for _ in 0..each {
            A::make_and_drop_timer().await;
        }
        turns.push(started.elapsed());
    }
    Answer::median_turn(each, turns)
}

async fn sleepers<A: Asynchronous>(runtime: A, tasks: u64, time: Duration, rounds: u64) -> Result<Answer> {
    let sleepers: Vec<_> = (0..tasks)
        .map(|_| {
            runtime.spawn(async move {
                let mut overshoots = Vec::with_capacity(rounds as usize);
                for _ in 0..rounds {
                    let started = Instant::now();
                    A::sleep(time).await;
                    overshoots.push(started.elapsed().saturating_sub(time));
                }
                overshoots
            })
        })
        .collect();
    let mut all = Vec::new();
    for sleeper in sleepers {
        all.extend(sleeper.await);
    }
    Answer::percentiles(all)
}

async fn udp_echo<A: Asynchronous>(runtime: A, count: u64) -> Result<Answer> {
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (server, client) = (A::bind(anywhere).await?, A::bind(anywhere).await?);
    let address = server.local_address()?;
    let echo = runtime.spawn(async move {
        let mut buffer = [0; ECHO_SIZE];
        loop {
            let (length, from) = server.receive_from(&mut buffer).await?;
            server.send_to(&buffer[..length], from).await?;
            if length == 0 {
                return io::Result::Ok(());
            }
        }
    });
    let (mut sent, mut received) = ([0x5a; ECHO_SIZE], [0; ECHO_SIZE]);
    let started = Instant::now();
    for number in 0..count {
        sent[..8].copy_from_slice(&number.to_be_bytes());
        client.send_to(&sent, address).await?;
        let (length, _) = client.receive_from(&mut received).await?;
        ensure!(received[..length] == sent, "another datagram came back");
    }
    let elapsed = started.elapsed();
    // An empty datagram ends the server.
    client.send_to(&[], address).await?;
    echo.await?;
    Ok(Answer::timed(count, elapsed))
}

async fn idle_cpu<A: Asynchronous>(runtime: A, time: Duration, workers: usize) -> Result<Answer> {
    for _ in 0..IDLE_TASKS {
        runtime.spawn_detached(pending());
    }
    runtime.spawn_detached(A::sleep(FAR));
    A::sleep(SETTLING).await;
    let (before, started) = (crate::process::cpu_time()?, Instant::now());
    A::sleep(time).await;
    let used = crate::process::cpu_time()?.saturating_sub(before);
    Ok(Answer::reported(vec![used.as_secs_f64() / started.elapsed().as_secs_f64() / workers as f64 * 100.0]))
}

async fn parked<A: Asynchronous>(runtime: A, count: u64) -> Result<Answer> {
    let ready = Arc::new(AtomicU64::new(0));
    let before = crate::process::memory()?;
    for _ in 0..count {
        let ready = Arc::clone(&ready);
        runtime.spawn_detached(async move {
            // Relaxed: it counts and publishes nothing.
            ready.fetch_add(1, Ordering::Relaxed);
            drop(ready);
            pending().await
        });
    }
    while ready.load(Ordering::Relaxed) < count {
        A::sleep(Duration::from_millis(10)).await;
    }
    A::sleep(SETTLING).await;
    let bytes = crate::process::memory()?.saturating_sub(before) as f64 / count as f64;
    Ok(Answer::reported(vec![bytes, crate::process::mappings()? as f64]))
}
