//! What the kernel says of this process: memory, mappings, CPU time; and which processors it may use.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::resource::{UsageWho, getrusage},
    unistd::Pid,
};

/// Resident memory and page tables, in bytes.
pub(crate) fn memory() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let kibibytes = |name: &str| -> Result<u64> {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok())
            .with_context(|| format!("/proc/self/status has no line {name} N kB"))
    };
    Ok((kibibytes("VmRSS:")? + kibibytes("VmPTE:")?) * 1024)
}

/// Mappings of the address space.
pub(crate) fn mappings() -> Result<u64> {
    Ok(std::fs::read_to_string("/proc/self/maps").context("cannot read /proc/self/maps")?.lines().count() as u64)
}

/// CPU time of all threads, in user and kernel.
pub(crate) fn cpu_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let time = usage.user_time() + usage.system_time();
    Ok(Duration::from_micros(time.tv_sec() as u64 * 1_000_000 + time.tv_usec() as u64))
}

/// Keeps this process, with all threads that it starts from now on, on `count` of the processors that it may use.
///
/// # Errors
///
/// If there are fewer.
pub(crate) fn keep_to(count: usize) -> Result<()> {
    keep_behind(0, count)
}

/// [`keep_to`] without the first `others`, which are for other processes.
///
/// # Errors
///
/// If there are fewer than both together.
pub(crate) fn keep_behind(others: usize, count: usize) -> Result<()> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    // From the end: interrupts and whatever else starts early tend to be on the first ones.
    let all = (0..CpuSet::count()).rev().filter(|processor| allowed.is_set(*processor).unwrap_or(false));
    let chosen: Vec<_> = all.skip(others).take(count).collect();
    anyhow::ensure!(chosen.len() == count, "{} processors are wanted, and there are {}", others + count, others + chosen.len());
    let mut set = CpuSet::new();
    for processor in chosen {
        set.set(processor)?;
    }
    Ok(sched_setaffinity(this, &set)?)
}
