//! What an endpoint asks of the host it runs on: the time of day, once, how much memory there is, the part of it that is for
//! connections, and threads for handshakes.
//!
//! Owns the answers that a simulation gets instead, which are always the same.

use std::sync::OnceLock;

use weald_crypto::CryptoPool;
use weald_runtime::embedding;

use crate::endpoint::WallTime;
use crate::governor::Governor;
use crate::time::Instant;

/// A simulation begins in 2027.
const SIMULATED_EPOCH: u64 = 1_798_761_600;

/// Bytes of memory of a simulation's host.
const SIMULATED_MEMORY: usize = 16 << 30;

/// The time of day at `now`.
pub(super) fn wall_time(now: Instant) -> WallTime {
    if embedding::is_simulated() {
        return WallTime::from_unix(SIMULATED_EPOCH + now.as_nanos() / 1_000_000_000);
    }
    #[expect(clippy::disallowed_methods, reason = "a simulation does not come here")]
    let today = std::time::SystemTime::now();
    // A clock before 1970 is no worse than any other that is wrong.
    WallTime::from_unix(today.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// Bytes of memory that the process may use at most: the host's, or those of its control group. `None` if it cannot be told.
pub(super) fn memory() -> Option<usize> {
    if embedding::is_simulated() {
        return Some(SIMULATED_MEMORY);
    }
    let host = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    host.into_iter().chain(group).min()
}

/// The budget of memory for endpoints that are given none: one for the process. In a simulation one for each endpoint, since
/// simulations that run side by side must not feel each other.
pub(super) fn governor() -> Governor {
    static OF_THE_PROCESS: OnceLock<Governor> = OnceLock::new();
    // Where nobody says how much there is, there is no bound to be had from it.
    let quarter = || Governor::new(memory().map_or(usize::MAX, |bytes| bytes / 4));
    if embedding::is_simulated() { quarter() } else { OF_THE_PROCESS.get_or_init(quarter).clone() }
}

/// The threads for handshakes of an endpoint that was given `pool`: that, or one for the process, of a thread for each processor.
/// They get what the workers leave, which may be all of the processors. A simulation has one thread, and this is not it.
pub(super) fn crypto_pool(pool: Option<&CryptoPool>) -> Option<CryptoPool> {
    static OF_THE_PROCESS: OnceLock<CryptoPool> = OnceLock::new();
    if embedding::is_simulated() {
        return None;
    }
    let of_the_process = || {
        // One, where nobody says how many processors there are.
        OF_THE_PROCESS.get_or_init(|| CryptoPool::new(std::thread::available_parallelism().map_or(1, std::num::NonZero::get))).clone()
    };
    Some(pool.cloned().unwrap_or_else(of_the_process))
}

/// Whether the process may use more processors than `workers`.
pub(super) fn has_processors_to_spare(workers: usize) -> bool {
    embedding::is_simulated() || std::thread::available_parallelism().is_ok_and(|processors| processors.get() > workers)
}

/// `MemTotal:       16316412 kB`
fn total(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_understood() {
        assert_eq!(total("MemTotal:       16316412 kB\nMemFree:         8134 kB\n"), Some(16_316_412 * 1024));
        for text in ["", "MemFree: 12 kB\n", "MemTotal: 12\n", "MemTotal: many kB\n", "MemTotal: 99999999999999999999 kB\n"] {
            assert_eq!(total(text), None, "{text}");
        }
        assert!(memory().is_some_and(|bytes| bytes > 1 << 20));
        // After this was written, and before the token's clock would overflow.
        let time = wall_time(Instant::from_nanos(0));
        assert!(time > WallTime::from_unix(1_700_000_000) && time < WallTime::from_unix(1 << 40));
    }
}
