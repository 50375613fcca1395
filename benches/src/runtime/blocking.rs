//! The benchmarks as blocking code, for whatever has the calls of `std::thread`: coroutines of Weald and of may, and threads themselves.
//!
//! Owns the measured loops, the same for all; a contestant gives its calls by [`Blocking`], inlined: it is these calls that are measured
//! and not others around them (a call around a switch of stacks costs as much as the switch, for its return is not predicted).

use std::{
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
    ECHO_SIZE, FAR, IDLE_TASKS, SETTLING, TIMER_TURNS, TRIMMED_STACK, TRIMMING, YIELDERS,
    benchmark::{Benchmark, Channel},
    sample::{Answer, Request},
};

/// What a contestant offers to the loops. All calls are made from its own tasks.
pub(super) trait Blocking: 'static {
    type Handle<T: Send + 'static>: Send;
    type Sender: Sending;
    type Receiver: Receiving;
    type Socket: Datagrams;

    /// Whether a million tasks can be spawned in reasonable time.
    const SPAWNS_MILLIONS: bool = true;
    /// Whether waits with a time-out arm timers of the contestant's own.
    const HAS_TIMERS: bool = true;
    /// Tasks spawned before the first is joined where a million are.
    const SPAWN_BATCH: u64 = u64::MAX;

    fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Self::Handle<T>;
    /// As `spawn`, on the caller's own worker where that can be said.
    #[inline(always)]
    fn spawn_beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Self::Handle<T> {
        Self::spawn(work)
    }
    /// Panics if the task panicked.
    fn join<T: Send + 'static>(handle: Self::Handle<T>) -> T;
    fn yield_now();
    fn sleep(time: Duration);
    fn park();
    /// A channel; `shared` if several tasks receive. `None` if there is none of that kind.
    fn channel(capacity: Option<usize>, shared: bool) -> Option<(Self::Sender, Self::Receiver)>;
    fn bind(address: SocketAddr) -> io::Result<Self::Socket>;
}

/// A sender; `Clone` is one more.
pub(super) trait Sending: Clone + Send + 'static {
    /// Panics if nobody receives any more.
    fn send(&self, message: u64);
}

/// A receiver.
pub(super) trait Receiving: Send + Sized + 'static {
    /// `None` when all senders are gone.
    fn receive(&self) -> Option<u64>;
    /// As `receive`, for [`FAR`] at most: then `None`.
    fn receive_in_time(&self) -> Option<u64>;
    /// One more receiver of a channel that was made to be shared.
    fn another(&self) -> Self;
}

/// A UDP socket.
pub(super) trait Datagrams: Send + 'static {
    fn local_address(&self) -> io::Result<SocketAddr>;
    fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<usize>;
    fn receive_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)>;
}

/// Does what is asked for; called in a task. `None` if the contestant has no means to.
pub(super) fn perform<B: Blocking>(request: Request, workers: usize) -> Result<Option<Answer>> {
    let Request { benchmark, count } = request;
    let answer = match benchmark {
        Benchmark::Yield => yield_alone::<B>(count),
        Benchmark::YieldThousand => yield_among_many::<B>(count),
        Benchmark::SpawnJoin => spawn_join::<B>(count)?,
        Benchmark::SpawnMillion if B::SPAWNS_MILLIONS => spawn_all::<B>(count)?,
        Benchmark::PingPong => return ping_pong::<B>(count, B::Receiver::receive, false),
        Benchmark::TimedWait => return ping_pong::<B>(count, B::Receiver::receive_in_time, false),
        Benchmark::Channel(channel) => return throughput::<B>(channel, count),
        Benchmark::Timer if B::HAS_TIMERS => return timer::<B>(count),
        Benchmark::SleepersThousand => sleepers::<B>(1_000, Duration::from_millis(1), count)?,
        Benchmark::SleepersTenThousand => sleepers::<B>(10_000, Duration::from_millis(100), count)?,
        Benchmark::UdpEcho => udp_echo::<B>(count)?,
        Benchmark::IdleCpu => idle_cpu::<B>(Duration::from_millis(count), workers)?,
        Benchmark::Memory if B::SPAWNS_MILLIONS => parked::<B>(count, || {}, SETTLING, true)?,
        Benchmark::MemoryTrimmed if B::SPAWNS_MILLIONS => parked::<B>(count, use_stack, TRIMMING, false)?,
        Benchmark::Timer | Benchmark::SpawnMillion | Benchmark::Memory | Benchmark::MemoryTrimmed => return Ok(None),
    };
    Ok(Some(answer))
}

fn yield_alone<B: Blocking>(count: u64) -> Answer {
    let started = Instant::now();
    for _ in 0..count {
        B::yield_now();
    }
    Answer::timed(count, started.elapsed())
}

fn yield_among_many<B: Blocking>(count: u64) -> Answer {
    let each = (count / YIELDERS).max(1);
    let started = Instant::now();
    let yielders: Vec<_> = (0..YIELDERS)
        .map(|_| {
            B::spawn(move || {
                for _ in 0..each {
                    B::yield_now();
                }
            })
        })
        .collect();
    yielders.into_iter().for_each(B::join);
    Answer::timed(each * YIELDERS, started.elapsed())
}

fn spawn_join<B: Blocking>(count: u64) -> Result<Answer> {
    let started = Instant::now();
    let sum: u64 = (0..count).map(|number| B::join(B::spawn(move || black_box(number)))).sum();
    let elapsed = started.elapsed();
    ensure!(sum == sum_below(count), "the joined tasks returned {sum} in all");
    Ok(Answer::timed(count, elapsed))
}

fn spawn_all<B: Blocking>(count: u64) -> Result<Answer> {
    let started = Instant::now();
    let (mut first, mut sum) = (0, 0);
    while first < count {
        let end = count.min(first.saturating_add(B::SPAWN_BATCH));
        let handles: Vec<_> = (first..end).map(|number| B::spawn(move || black_box(number))).collect();
        sum += handles.into_iter().map(B::join).sum::<u64>();
        first = end;
    }
    let elapsed = started.elapsed();
    ensure!(sum == sum_below(count), "the joined tasks returned {sum} in all");
    Ok(Answer::timed(count, elapsed))
}

/// `receive` is a type of its own for each call, for a pointer would be called and not inlined. `beside`: both partners on one worker.
fn ping_pong<B: Blocking>(count: u64, receive: impl Fn(&B::Receiver) -> Option<u64>, beside: bool) -> Result<Option<Answer>> {
    let (Some((ping, pinged)), Some((pong, ponged))) = (B::channel(None, false), B::channel(None, false)) else { return Ok(None) };
    let work = move || {
        while let Some(number) = pinged.receive() {
            pong.send(number + 1);
        }
    };
    let partner = if beside { B::spawn_beside(work) } else { B::spawn(work) };
    let mut number = 0;
    let started = Instant::now();
    for _ in 0..count {
        ping.send(number);
        number = receive(&ponged).context("the partner is gone")?;
    }
    let elapsed = started.elapsed();
    drop(ping);
    B::join(partner);
    ensure!(number == count, "{number} instead of {count} came back");
    Ok(Some(Answer::timed(count, elapsed)))
}

fn throughput<B: Blocking>(Channel { capacity, senders, receivers }: Channel, count: u64) -> Result<Option<Answer>> {
    let Some((sender, receiver)) = B::channel(capacity, receivers > 1) else { return Ok(None) };
    let each = (count / senders as u64).max(1);
    let total = each * senders as u64;
    // Made before the clock starts, for a channel may count its ends.
    let mut all_receivers: Vec<_> = (1..receivers).map(|_| receiver.another()).collect();
    all_receivers.push(receiver);
    let all_senders = vec![sender; senders];
    let started = Instant::now();
    let receiving: Vec<_> = all_receivers
        .into_iter()
        .map(|receiver| {
            B::spawn(move || {
                let mut received = (0_u64, 0_u64);
                while let Some(number) = receiver.receive() {
                    received = (received.0 + 1, received.1 + number);
                }
                received
            })
        })
        .collect();
    let sending: Vec<_> = (0_u64..)
        .zip(all_senders)
        .map(|(index, sender)| B::spawn(move || (index * each..(index + 1) * each).for_each(|number| sender.send(number))))
        .collect();
    sending.into_iter().for_each(B::join);
    let received = receiving.into_iter().map(B::join).fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
    let elapsed = started.elapsed();
    ensure!(received == (total, sum_below(total)), "of {total} messages {} came, {} in sum", received.0, received.1);
    Ok(Some(Answer::timed(total, elapsed)))
}

/// There are no timers but in waits: the time of waits with a time-out, less that of the same without, in turns. Both partners are on one
/// worker, for whoever arms and cancels a timer elsewhere does so alone: between workers it is the wakes that would be measured.
fn timer<B: Blocking>(count: u64) -> Result<Option<Answer>> {
    let each = count.div_ceil(TIMER_TURNS);
    let mut turns = Vec::with_capacity(TIMER_TURNS as usize);
    for _ in 0..TIMER_TURNS {
        let both = (ping_pong::<B>(each, B::Receiver::receive_in_time, true)?, ping_pong::<B>(each, B::Receiver::receive, true)?);
        let (Some(timed), Some(plain)) = both else { return Ok(None) };
        // Where others disturb it more than a timer costs there is no answer below a nanosecond.
        turns.push(timed.elapsed.saturating_sub(plain.elapsed).max(Duration::from_nanos(each)));
    }
    Ok(Some(Answer::median_turn(each, turns)))
}

fn sleepers<B: Blocking>(tasks: u64, time: Duration, rounds: u64) -> Result<Answer> {
    let sleepers: Vec<_> = (0..tasks)
        .map(|_| {
            B::spawn(move || -> Vec<Duration> {
                (0..rounds)
                    .map(|_| {
                        let started = Instant::now();
                        B::sleep(time);
                        started.elapsed().saturating_sub(time)
                    })
                    .collect()
            })
        })
        .collect();
    Answer::percentiles(sleepers.into_iter().flat_map(B::join))
}

fn udp_echo<B: Blocking>(count: u64) -> Result<Answer> {
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (server, client) = (B::bind(anywhere)?, B::bind(anywhere)?);
    let address = server.local_address()?;
    let echo = B::spawn(move || -> Result<()> {
        let mut buffer = [0; ECHO_SIZE];
        loop {
            let (length, from) = server.receive_from(&mut buffer)?;
            server.send_to(&buffer[..length], from)?;
            if length == 0 {
                return Ok(());
            }
        }
    });
    let (mut sent, mut received) = ([0x5a; ECHO_SIZE], [0; ECHO_SIZE]);
    let started = Instant::now();
    for number in 0..count {
        sent[..8].copy_from_slice(&number.to_be_bytes());
        client.send_to(&sent, address)?;
        let (length, _) = client.receive_from(&mut received)?;
        ensure!(received[..length] == sent, "another datagram came back");
    }
    let elapsed = started.elapsed();
    // An empty datagram ends the server.
    client.send_to(&[], address)?;
    B::join(echo)?;
    Ok(Answer::timed(count, elapsed))
}

fn idle_cpu<B: Blocking>(time: Duration, workers: usize) -> Result<Answer> {
    for _ in 0..IDLE_TASKS {
        drop(B::spawn(|| B::park()));
    }
    drop(B::spawn(|| B::sleep(FAR)));
    B::sleep(SETTLING);
    let (before, started) = (crate::process::cpu_time()?, Instant::now());
    B::sleep(time);
    let used = crate::process::cpu_time()?.saturating_sub(before);
    Ok(Answer::reported(vec![used.as_secs_f64() / started.elapsed().as_secs_f64() / workers as f64 * 100.0]))
}

/// Bytes each of `count` tasks that ran `prepare` and then parked, after `wait`; and the number of mappings if asked for.
fn parked<B: Blocking>(count: u64, prepare: fn(), wait: Duration, with_mappings: bool) -> Result<Answer> {
    let ready = Arc::new(AtomicU64::new(0));
    let before = crate::process::memory()?;
    for _ in 0..count {
        let ready = Arc::clone(&ready);
        drop(B::spawn(move || {
            prepare();
            // Relaxed: it counts and publishes nothing.
            ready.fetch_add(1, Ordering::Relaxed);
            drop(ready);
            loop {
                B::park();
            }
        }));
    }
    while ready.load(Ordering::Relaxed) < count {
        B::sleep(Duration::from_millis(10));
    }
    B::sleep(wait);
    let mut figures = vec![crate::process::memory()?.saturating_sub(before) as f64 / count as f64];
    if with_mappings {
        figures.push(crate::process::mappings()? as f64);
    }
    Ok(Answer::reported(figures))
}

/// Touches as much of the stack as the benchmark of trimming says.
#[inline(never)]
fn use_stack() {
    black_box(&mut [1_u8; TRIMMED_STACK]);
}

/// The sum of the numbers from 0 to `count` - 1.
pub(super) fn sum_below(count: u64) -> u64 {
    count * count.saturating_sub(1) / 2
}
