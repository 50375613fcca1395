//! Owns the system calls for stack memory: reserve, guard, release, look.
//!
//! It does not own any policy (see `arena`).
//!
//! Invariant: a [`Mapping`] is private, anonymous, readable and writable memory, reserved without being accounted
//! (`MAP_NORESERVE`) and kept in small pages, so that it costs what is touched.

use std::io;
use std::ptr::{self, NonNull};

use crate::primitive::atomic::{AtomicBool, Ordering};

/// Linux 6.13: makes pages inaccessible in the page table, without a mapping of their own.
const MADV_GUARD_INSTALL: libc::c_int = 102;
/// Linux 6.14: the own process, where a descriptor of one is asked for.
const PIDFD_SELF: libc::c_int = -10_000;
/// Regions that one system call takes.
const MAX_REGIONS: usize = libc::UIO_MAXIOV as usize;

/// Whether the kernel takes advice about many regions of the own process in one call: 350 ns of CPU time a guard, 64 at once, and 470 one by one.
static VECTORED: AtomicBool = AtomicBool::new(true);

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

    /// Its bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Makes `len` bytes at `offset` inaccessible by page table entries alone. Fails on kernels older than 6.13.
    pub(super) fn install_guard(&self, offset: usize, len: usize) -> io::Result<()> {
        debug_assert!(offset + len <= self.len);
        // SAFETY: the range lies in this mapping, and the arena hands it to nobody.
        check(unsafe { libc::madvise(self.start.as_ptr().add(offset).cast(), len, MADV_GUARD_INSTALL) })
    }

    /// As [`install_guard`](Self::install_guard) at every offset, in turn. Returns how many were installed, and why not all.
    pub(super) fn install_guards(&self, offsets: impl Iterator<Item = usize>, len: usize) -> (usize, io::Result<()>) {
        let regions: Vec<Pages> = offsets
            .map(|offset| {
                debug_assert!(offset + len <= self.len);
                Pages::new(self.start() + offset, len)
            })
            .collect();
        // SAFETY: as for `install_guard`.
        unsafe { advise(&regions, MADV_GUARD_INSTALL) }
    }

    /// Makes `len` bytes at `offset` inaccessible, at the price of two mappings of the kernel's (`vm.max_map_count`).
    pub(super) fn protect(&self, offset: usize, len: usize) -> io::Result<()> {
        debug_assert!(offset + len <= self.len);
        // SAFETY: as for `install_guard`.
        check(unsafe { libc::mprotect(self.start.as_ptr().add(offset).cast(), len, libc::PROT_NONE) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by `reserve`; whoever drops the mapping knows that nobody uses the memory.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Whole pages.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Pages(libc::iovec);

impl Pages {
    /// Both are multiples of the page size.
    pub(super) fn new(start: usize, len: usize) -> Self {
        Self(libc::iovec { iov_base: ptr::with_exposed_provenance_mut(start), iov_len: len })
    }

    /// Whether memory is spent on the highest page.
    pub(crate) fn is_top_resident(&self) -> bool {
        let page = page_size();
        resident(self.0.iov_base.addr() + self.0.iov_len - page, page) > 0
    }
}

/// Gives pages back to the system; they read as zero afterwards. A failure costs memory only.
///
/// # Safety
///
/// They are mapped by the runtime, and nothing live is in them.
pub(crate) unsafe fn give_back(pages: &[Pages]) {
    // SAFETY: the caller's promise.
    let _ = unsafe { advise(pages, libc::MADV_DONTNEED) };
}

/// Gives one advice about every region, in turn. Returns for how many it was taken, and why not for all.
///
/// # Safety
///
/// As for `madvise` of each region.
unsafe fn advise(regions: &[Pages], advice: libc::c_int) -> (usize, io::Result<()>) {
    let mut done = 0;
    for chunk in regions.chunks(MAX_REGIONS) {
        // Ordering: Relaxed; at worst a thread finds out by itself.
        let mut taken = if VECTORED.load(Ordering::Relaxed) {
            // SAFETY: `Pages` is an `iovec`; the rest is passed on to the caller.
            let result = unsafe { libc::syscall(libc::SYS_process_madvise, PIDFD_SELF, chunk.as_ptr(), chunk.len(), advice, 0) };
            if result < 0 {
                // It may be the advice or the memory, and tells so again below; then batches would still be good, but not needed.
                VECTORED.store(false, Ordering::Relaxed);
            }
            whole_regions(chunk, usize::try_from(result).unwrap_or(0))
        } else {
            0
        };
        for region in &chunk[taken..] {
            // SAFETY: passed on to the caller.
            if let Err(error) = check(unsafe { libc::madvise(region.0.iov_base, region.0.iov_len, advice) }) {
                return (done + taken, Err(error));
            }
            taken += 1;
        }
        done += taken;
    }
    (done, Ok(()))
}

/// How many of the regions lie in the first `octets` of them.
fn whole_regions(regions: &[Pages], mut octets: usize) -> usize {
    regions.iter().take_while(|region| octets.checked_sub(region.0.iov_len).map(|left| octets = left).is_some()).count()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_count_as_done_when_they_are_whole() {
        let regions = [4096, 8192, 4096].map(|len| Pages::new(0, len));
        let done = [0, 4095, 4096, 12287, 12288, 16384, 20480].map(|octets| whole_regions(&regions, octets));
        assert_eq!(done, [0, 0, 1, 1, 2, 3, 3]);
    }

    #[test]
    fn advice_is_given_up_to_the_first_region_that_cannot_take_it() {
        let page = page_size();
        let mapping = Mapping::reserve(4 * page).expect("address space");
        let at = |offset| Pages::new(mapping.start() + offset, page);
        // In the highest half of the address space there is nothing of a process's.
        let foreign = Pages::new(usize::MAX - 2 * page + 1, page);
        // SAFETY: two pages of the mapping, which nobody uses, and no memory.
        let (done, result) = unsafe { advise(&[at(0), at(page), foreign, at(3 * page)], libc::MADV_DONTNEED) };
        assert_eq!(done, 2);
        assert!(result.is_err());
    }

    #[test]
    fn pages_given_back_read_as_zero_and_the_others_keep_their_content() {
        let page = page_size();
        let mapping = Mapping::reserve(4 * page).expect("address space");
        // SAFETY: the whole of a mapping that is this test's.
        unsafe { mapping.start.write_bytes(7, 4 * page) };
        let pages = [0, 2].map(|index| Pages::new(mapping.start() + index * page, page));
        assert!(pages.iter().all(Pages::is_top_resident));
        assert_eq!(resident(mapping.start(), 4 * page), 4 * page);
        // SAFETY: nothing in them is needed.
        unsafe { give_back(&pages) };
        assert!(!pages.iter().any(Pages::is_top_resident));
        assert_eq!(resident(mapping.start(), 4 * page), 2 * page);
        // SAFETY: one octet of each page.
        let octets = [0, 1, 2, 3].map(|index| unsafe { mapping.start.add(index * page).read() });
        assert_eq!(octets, [0, 7, 0, 7]);
    }
}
