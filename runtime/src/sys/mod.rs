//! Every system call of the reactor and of the sockets: descriptors and plain values in, `io::Result` out.
//!
//! Owns the translation between Rust values and the kernel's structures. Does not own policy: no retry, no fallback, no
//! state beyond the scratch arrays that a call needs. `unsafe` stands here so that it stands nowhere above.

pub(crate) mod address;
pub(crate) mod affinity;
pub(crate) mod clock;
pub(crate) mod control;
pub(crate) mod epoll;
pub(crate) mod event_fd;
pub(crate) mod message;
pub(crate) mod signal_action;
pub(crate) mod signal_handler;
pub(crate) mod socket;
pub(crate) mod stack_copy;
pub(crate) mod steering;
pub(crate) mod timer_slack;

use std::io;

/// What the kernel calls the calling thread.
pub(crate) fn thread_number() -> libc::pid_t {
    // SAFETY: no arguments, and it cannot fail.
    unsafe { libc::gettid() }
}

/// A system call by its number. libc's functions for those that may block are points of its thread cancellation, and pay for that with
/// two atomic exchanges each in a process of several threads: 6 % of a round trip of UDP.
///
/// Its value is libc's: what the kernel returned, or -1 and `errno`. `NUMBER as FUNCTION` names libc's function of the same arguments too,
/// which AddressSanitizer and ThreadSanitizer must see: they look at the memory that it is handed, and at nothing that goes past it.
macro_rules! direct {
    ($number:ident as $function:ident, $($argument:expr),+ $(,)?) => {
        if cfg!(any(weald_asan, weald_tsan)) {
            libc::$function($($argument),+) as isize
        } else {
            direct!($number, $($argument),+)
        }
    };
    ($number:ident, $($argument:expr),+ $(,)?) => {
        libc::syscall(libc::$number, $($argument),+) as isize
    };
}
use direct;

/// The kernel's "-1 and errno" as a result.
fn check(returned: libc::c_int) -> io::Result<libc::c_int> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}

/// The same for calls that return a length.
fn check_len(returned: isize) -> io::Result<usize> {
    usize::try_from(returned).map_err(|_| io::Error::last_os_error())
}
