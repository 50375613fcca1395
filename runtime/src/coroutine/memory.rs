//! Owns the system calls for stack memory: reserve, guard, release.
//!
//! It does not own any policy (see `arena`).
//!
//! Invariant: a [`Mapping`] is private, anonymous, readable and writable memory, reserved without being accounted
//! (`MAP_NORESERVE`) and kept in small pages, so that it costs what is touched.

use std::io;
use std::ptr::{self, NonNull};

/// Linux 6.13: makes pages inaccessible in the page table, without a mapping of their own.
const MADV_GUARD_INSTALL: libc::c_int = 102;

/// Reserved address space, unmapped when dropped.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping is plain memory of the process; any thread may unmap it.
unsafe impl Send for Mapping {}
// SAFETY: `&Mapping` gives out addresses only.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Reserves `len` bytes.
    pub(super) fn reserve(len: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no existing memory.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("the kernel mapped address zero"))?;
        let mapping = Self { start, len };
        // A huge page would make the first touch of one stack cost sixteen. A kernel without huge pages says EINVAL.
        // SAFETY: advice about memory that is ours.
        let _ = unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_NOHUGEPAGE) };
        Ok(mapping)
    }

    /// The lowest address, with its provenance exposed: stacks are made from integers.
    pub(super) fn start(&self) -> usize {
        self.start.as_ptr().expose_provenance()
    }

    /// Makes `len` bytes at `offset` inaccessible by page table entries alone. Fails on kernels older than 6.13.
    pub(super) fn install_guard(&self, offset: usize, len: usize) -> io::Result<()> {
        debug_assert!(offset + len <= self.len);
        // SAFETY: the range lies in this mapping, and the arena hands it to nobody.
        check(unsafe { libc::madvise(self.start.as_ptr().add(offset).cast(), len, MADV_GUARD_INSTALL) })
    }

    /// Makes `len` bytes at `offset` inaccessible, at the price of two mappings of the kernel's (`vm.max_map_count`).
    pub(super) fn protect(&self, offset: usize, len: usize) -> io::Result<()> {
        debug_assert!(offset + len <= self.len);
        // SAFETY: as for `install_guard`.
        check(unsafe { libc::mprotect(self.start.as_ptr().add(offset).cast(), len, libc::PROT_NONE) })
    }

    /// Gives the pages of `len` bytes at `offset` back; they read as zero afterwards.
    pub(super) fn release(&self, offset: usize, len: usize) {
        debug_assert!(offset + len <= self.len);
        // SAFETY: the range lies in this mapping, and the caller knows that no live data is there. A failure costs memory
        // only.
        let _ = unsafe { libc::madvise(self.start.as_ptr().add(offset).cast(), len, libc::MADV_DONTNEED) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by `reserve`; whoever drops the mapping knows that nobody uses the memory.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// The system's page size.
pub(super) fn page_size() -> usize {
    // SAFETY: reads a constant of the system.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Bytes from `start` on, which begins a page, that memory is spent on; zero if not all of the range is mapped.
pub(super) fn resident(start: usize, len: usize) -> usize {
    let page = page_size();
    let mut pages = vec![0_u8; len.div_ceil(page)];
    // SAFETY: the kernel writes one octet a page into `pages`, and only looks at the range, which need not even be mapped.
    let result = unsafe { libc::mincore(ptr::without_provenance_mut(start), len, pages.as_mut_ptr()) };
    if result == 0 { pages.iter().filter(|&&page| page & 1 != 0).count() * page } else { 0 }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
