//! eventfd: a descriptor that one thread rings and another waits for.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{check, check_len};

/// A bell. Watched edge-triggered, every ring is an edge of its own, so nobody has to read it back: the counter would
/// overflow after 2^64 rings only.
pub(crate) struct EventFd {
    descriptor: OwnedFd,
}

impl EventFd {
    pub(crate) fn new() -> io::Result<EventFd> {
        // SAFETY: no pointers; the returned descriptor is new and owned by nobody else.
        let descriptor = unsafe { OwnedFd::from_raw_fd(check(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?) };
        Ok(EventFd { descriptor })
    }

    /// A bell for a thread that waits for nothing else.
    pub(crate) fn blocking() -> io::Result<EventFd> {
        // SAFETY: as in `new`.
        let descriptor = unsafe { OwnedFd::from_raw_fd(check(libc::eventfd(0, libc::EFD_CLOEXEC))?) };
        Ok(EventFd { descriptor })
    }

    /// Waits for a ring of a [`blocking`](Self::blocking) bell, and takes all there were.
    pub(crate) fn wait(&self) -> io::Result<()> {
        loop {
            let mut rings = [0_u8; 8];
            // SAFETY: the kernel writes eight bytes to `rings` during the call.
            match check_len(unsafe { libc::read(self.descriptor.as_raw_fd(), rings.as_mut_ptr().cast(), rings.len()) }) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map(|_| ()),
            }
        }
    }

    pub(crate) fn ring(&self) -> io::Result<()> {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the kernel reads eight bytes of `one` during the call.
        check_len(unsafe { libc::write(self.descriptor.as_raw_fd(), one.as_ptr().cast(), one.len()) })?;
        Ok(())
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
