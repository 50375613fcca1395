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
        // In the order in which they are read: what passes of the middle one lies between the others.
        let (outer, start, inner) = (std::time::Instant::now(), super::monotonic(), std::time::Instant::now());
        while inner.elapsed().as_millis() < 20 {}
        let (passed, outer_passed) = (super::monotonic() - start, outer.elapsed().as_nanos() as u64);
        assert!(passed >= 20_000_000 && passed <= outer_passed, "{passed} ns of {outer_passed}");
    }
}
