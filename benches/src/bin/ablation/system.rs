//! Owns the system calls of the experiments. `unsafe` stands here and in `bulk` and `echo`, where a ring borrows buffers.
#![expect(clippy::disallowed_types, reason = "the kernel's sockets are what is measured")]

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

use anyhow::{Context, Result};
use io_uring::IoUring;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

pub const UDP_SEGMENT: libc::c_int = 103;
pub const UDP_GRO: libc::c_int = 104;

/// Two sockets on loopback that send to each other.
pub fn pair() -> Result<(UdpSocket, UdpSocket)> {
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (one, other) = (UdpSocket::bind(anywhere)?, UdpSocket::bind(anywhere)?);
    one.connect(other.local_addr()?)?;
    other.connect(one.local_addr()?)?;
    Ok((one, other))
}

pub fn set_option(socket: &UdpSocket, level: libc::c_int, option: libc::c_int, value: u32) -> Result<()> {
    let (value, length) = (libc::c_int::try_from(value)?, size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: the value lives through the call, and its length is right.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) })?;
    Ok(())
}

/// Something to sleep on until the socket is readable.
pub fn epoll(socket: &UdpSocket) -> Result<OwnedFd> {
    // SAFETY: no pointers; a descriptor that was just made is nobody else's.
    let epoll = unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
    // SAFETY: the event lives through the call.
    check(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &raw mut event) })?;
    Ok(epoll)
}

pub fn sleep_on(epoll: &OwnedFd) -> Result<()> {
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    // SAFETY: room for one event.
    check(unsafe { libc::epoll_wait(epoll.as_raw_fd(), &raw mut event, 1, -1) })?;
    Ok(())
}

/// A ring for one thread, which does the kernel's part of the work when that thread calls.
pub fn ring(entries: u32) -> Result<IoUring> {
    IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(entries).context("no ring")
}

/// Keeps the calling thread to the processor of that index, counted from the last.
pub fn keep_to(index: usize) -> Result<()> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    let all: Vec<_> = (0..CpuSet::count()).rev().filter(|processor| allowed.is_set(*processor).unwrap_or(false)).collect();
    let mut set = CpuSet::new();
    set.set(*all.get(index).context("there are too few processors")?)?;
    Ok(sched_setaffinity(this, &set)?)
}

/// CPU time of the calling thread.
pub fn thread_time() -> Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for the time.
    check(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) })?;
    Ok(Duration::new(u64::try_from(time.tv_sec)?, u32::try_from(time.tv_nsec)?))
}

pub fn check(returned: libc::c_int) -> io::Result<libc::c_int> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}
