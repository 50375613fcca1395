//! The system's monotonic clock.

/// Nanoseconds since some point in the past, the same for all threads. std's `Instant` asks the same clock, and takes twice as many
/// instructions for its two parts and their difference from an epoch.
#[inline]
pub(crate) fn monotonic() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the write. It cannot fail with this clock, which every Linux has.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    #[expect(clippy::disallowed_methods, reason = "what it is compared with")]
    #[test]
    fn it_runs_as_fast_as_the_clock_of_std() {
        let (std_start, start) = (std::time::Instant::now(), super::monotonic());
        while std_start.elapsed().as_millis() < 20 {}
        let (passed, std_passed) = (super::monotonic() - start, std_start.elapsed().as_nanos() as u64);
        assert!(passed >= 20_000_000 && passed <= std_passed, "{passed} ns of {std_passed}");
    }
}
