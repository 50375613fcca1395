//! epoll: which registered descriptors have become ready.
//!
//! Owns the epoll descriptor. Tokens are the caller's.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{check, direct};

/// One epoll instance. `add` and `remove` may be called while another thread waits.
pub(crate) struct Epoll {
    descriptor: OwnedFd,
    /// Cleared when the kernel lacks epoll_pwait2 (before Linux 5.11); time-outs are then whole milliseconds.
    has_nanoseconds: AtomicBool,
}

/// Room for the events of one wait.
pub(crate) struct Events {
    list: Vec<libc::epoll_event>,
}

/// One descriptor's news.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) token: u64,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer sends nothing more: no further edge of reading comes.
    pub(crate) read_ended: bool,
    /// Both sides have ended.
    pub(crate) write_ended: bool,
}

/// Which edges a descriptor reports; errors and hang-ups are always reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    Read,
    ReadWrite,
}

impl Events {
    pub(crate) fn with_capacity(capacity: usize) -> Events {
        Events { list: Vec::with_capacity(capacity) }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        // Errors and hang-ups make both sides ready: the next read or write reports them.
        const FAILED: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;
        const READ: u32 = (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLPRI) as u32;
        const READ_ENDED: u32 = (libc::EPOLLRDHUP | libc::EPOLLHUP) as u32;
        const WRITE: u32 = libc::EPOLLOUT as u32;
        self.list.iter().map(|event| {
            let bits = event.events;
            Event {
                token: event.u64,
                readable: bits & (READ | FAILED) != 0,
                writable: bits & (WRITE | FAILED) != 0,
                read_ended: bits & READ_ENDED != 0,
                write_ended: bits & libc::EPOLLHUP as u32 != 0,
            }
        })
    }
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Epoll> {
        // SAFETY: no pointers; the returned descriptor is new and owned by nobody else.
        let descriptor = unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        // Miri does not know the newer call, and ends where a kernel would refuse it.
        Ok(Epoll { descriptor, has_nanoseconds: AtomicBool::new(!cfg!(miri)) })
    }

    /// Reports edges under `token` until the descriptor is removed or closed.
    pub(crate) fn add(&self, descriptor: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, descriptor, token, interest)
    }

    /// Reports other edges from now on. What is ready at this moment is an edge.
    pub(crate) fn modify(&self, descriptor: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, descriptor, token, interest)
    }

    fn control(&self, operation: libc::c_int, descriptor: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        let edges = match interest {
            Interest::Read => libc::EPOLLIN | libc::EPOLLRDHUP,
            Interest::ReadWrite => libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLOUT,
        };
        let mut event = libc::epoll_event { events: (edges | libc::EPOLLET) as u32, u64: token };
        let (epoll, target) = (self.descriptor.as_raw_fd(), descriptor.as_fd().as_raw_fd());
        // SAFETY: both descriptors are open for the call, and the kernel only reads `event` during it.
        check(unsafe { libc::epoll_ctl(epoll, operation, target, &mut event) })?;
        Ok(())
    }

    pub(crate) fn remove(&self, descriptor: impl AsFd) -> io::Result<()> {
        let (epoll, target) = (self.descriptor.as_raw_fd(), descriptor.as_fd().as_raw_fd());
        // SAFETY: both descriptors are open for the call; Linux ignores the event of a removal.
        check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, target, ptr::null_mut()) })?;
        Ok(())
    }

    /// Waits at most `timeout` (`None`: without end) and fills `events`; a signal ends the wait with none.
    pub(crate) fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.list.clear();
        let count = match self.wait_once(events, timeout) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        // SAFETY: the kernel has written `count` events, at most the capacity passed to it.
        unsafe { events.list.set_len(count) };
        Ok(())
    }

    fn wait_once(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<usize> {
        let polls = timeout.is_some_and(|timeout| timeout.is_zero());
        if polls || timeout.is_none() || !self.has_nanoseconds.load(Ordering::Relaxed) {
            return self.wait_milliseconds(events, timeout);
        }
        let timeout = timeout.unwrap_or_default();
        let limit = libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos() as libc::c_long,
        };
        // SAFETY: the list has room for `capacity` events, `limit` outlives the call, and a null signal mask is allowed.
        let returned = unsafe {
            direct!(
                SYS_epoll_pwait2,
                self.descriptor.as_raw_fd(),
                events.list.as_mut_ptr(),
                events.list.capacity() as libc::c_int,
                &raw const limit,
                ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        match check(returned as libc::c_int) {
            Ok(count) => Ok(count as usize),
            // A sandbox may refuse the newer call by EPERM.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                // Relaxed: a hint; whoever misses it asks the kernel once more.
                self.has_nanoseconds.store(false, Ordering::Relaxed);
                self.wait_milliseconds(events, Some(timeout))
            }
            Err(error) => Err(error),
        }
    }

    fn wait_milliseconds(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<usize> {
        // Rounded up: a wait that ends early would be followed by a burst of empty ones.
        let limit = timeout.map_or(-1, |timeout| libc::c_int::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX));
        let capacity = events.list.capacity() as libc::c_int;
        let (epoll, list) = (self.descriptor.as_raw_fd(), events.list.as_mut_ptr());
        // SAFETY: the list has room for `capacity` events, and a null signal mask is allowed.
        let returned = unsafe {
            if cfg!(miri) {
                // It does not know the number.
                libc::epoll_wait(epoll, list, capacity, limit)
            } else {
                direct!(SYS_epoll_pwait, epoll, list, capacity, limit, ptr::null::<libc::sigset_t>(), 0usize) as libc::c_int
            }
        };
        Ok(check(returned)? as usize)
    }
}
