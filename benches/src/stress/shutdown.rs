//! Coroutines parked in every way, unwound by a shutdown: each drop is counted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use weald_runtime::{Runtime, channel, sync::Mutex, time::Instant};

use super::Options;

/// Longer than the whole run.
const NEVER: Duration = Duration::from_secs(86_400);
/// For all to park, and for the shutdown.
const PATIENCE: Duration = Duration::from_secs(60);

/// Counts its drop. Relaxed: the shutdown, which ends the worker threads, publishes the counts.
struct Guard(Arc<AtomicU64>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Parks as many coroutines as the options say and shuts their runtime down; how many were unwound or ended.
pub(super) fn unwind(options: &Options) -> Result<u64> {
    let runtime = Runtime::builder().name("unwound").workers(options.workers).seed(options.seed).build()?;
    let (stacks, captures, ready) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (_sender, receiver) = channel::unbounded::<u64>();
    let (full, _kept) = channel::bounded::<u64>(0);
    let mutex = Arc::new(Mutex::new(()));
    let handle = runtime.handle();
    {
        // Held by a coroutine that sleeps for ever: others park for it.
        let mutex = Arc::clone(&mutex);
        let (locked, is_locked) = channel::oneshot::channel();
        drop(handle.spawn(move || {
            let _held = mutex.lock();
            locked.send(()).expect("this function waits for it");
            weald_runtime::sleep(NEVER);
        }));
        is_locked.recv()?;
    }
    for number in 0..options.unwound {
        let (stack, captured, ready) = (Arc::clone(&stacks), Guard(Arc::clone(&captures)), Arc::clone(&ready));
        let (receiver, full, mutex) = (receiver.clone(), full.clone(), Arc::clone(&mutex));
        drop(handle.spawn(move || {
            let _captured = captured;
            let _on_stack = Guard(stack);
            ready.fetch_add(1, Ordering::Relaxed);
            match number % 5 {
                0 => weald_runtime::sleep(NEVER),
                1 => drop(receiver.recv()),
                2 => drop(full.send(number)),
                3 => drop(mutex.lock()),
                // Only unwinding ends this one.
                _ => loop {
                    weald_runtime::park();
                },
            }
        }));
    }
    let started = Instant::now();
    while ready.load(Ordering::Relaxed) < options.unwound {
        ensure!(started.elapsed() < PATIENCE, "{} of {} started", ready.load(Ordering::Relaxed), options.unwound);
        weald_runtime::sleep(Duration::from_millis(1));
    }
    weald_runtime::sleep(Duration::from_millis(50));
    let early = stacks.load(Ordering::Relaxed);
    ensure!(early == 0, "{early} coroutines ended before the shutdown");
    let report = runtime.shutdown(Duration::from_millis(500));
    ensure!(report.is_clean(), "{report:?}");
    let counts = (stacks.load(Ordering::Relaxed), captures.load(Ordering::Relaxed));
    ensure!(counts == (options.unwound, options.unwound), "{counts:?} drops of {} on stacks and in closures", options.unwound);
    Ok(options.unwound)
}
