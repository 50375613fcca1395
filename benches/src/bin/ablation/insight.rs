//! Owns what it costs to look inside: a runtime that is watched or traced against one that is not, and a dump.

use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use weald_runtime::{Handle, Runtime, RuntimeBuilder};

use super::system;

const YIELDS: u64 = 1_000_000;
pub const PARKED: u64 = 100_000;

/// Nanoseconds of CPU time of a yield alone.
pub fn yielding(choose: fn(RuntimeBuilder) -> RuntimeBuilder) -> Result<f64> {
    let runtime = choose(Runtime::builder().workers(1).watchdog(None)).build()?;
    let spent = runtime.run(|| -> Result<Duration> {
        let started = system::thread_time()?;
        (0..YIELDS).for_each(|_| weald_runtime::yield_now());
        Ok(system::thread_time()? - started)
    })?;
    Ok(spent.as_nanos() as f64 / YIELDS as f64)
}

/// Nanoseconds of the worker's CPU time of one of [`PARKED`] coroutines in a dump.
pub fn dump() -> Result<f64> {
    let runtime = Runtime::builder().workers(1).build()?;
    runtime.run(|| {
        let parked: Vec<_> = (0..PARKED).map(|_| weald_runtime::spawn_local(weald_runtime::park)).collect();
        weald_runtime::yield_now();
        let handle = Handle::current().ok_or_else(|| anyhow!("inside of a runtime"))?;
        while handle.metrics().total.parks < PARKED {
            weald_runtime::yield_now();
        }
        let started = system::thread_time()?;
        let dump = handle.dump();
        let spent = system::thread_time()? - started;
        ensure!(dump.count() as u64 == PARKED + 1, "{} coroutines in the dump", dump.count());
        parked.iter().for_each(|one| one.coroutine().unpark());
        parked.into_iter().try_for_each(|one| one.join().map_err(|error| anyhow!("{error}")))?;
        Ok(spent.as_nanos() as f64 / PARKED as f64)
    })
}
