//! A copy of an interrupted thread's stack, taken in a signal handler, and the return addresses in it, found later by unwind tables.
//!
//! To take the copy is async-signal-safe: it is one system call, which reads no further than what is mapped and readable, whatever the
//! stack pointer is. To follow the frames is not, and happens where nothing was interrupted; nothing that stands in the copy can
//! make it read elsewhere.

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::slice;

use framehop::{CacheNative, ExplicitModuleSectionInfo, MayAllocateDuringUnwind, Module, UnwindRegsNative, Unwinder, UnwinderNative};

/// Octets that one part of the copy has: what cannot be read ends at a page's border.
const PAGE: usize = 4096;
/// Of a stack's innermost frames so much is copied.
const PAGES: usize = 16;
const WORD: usize = size_of::<usize>();

/// What stood in the registers and on the stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StackCopy {
    registers: Registers,
    words: [usize; PAGES * PAGE / WORD],
    /// Words that were read.
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Registers {
    instruction: usize,
    stack: usize,
    frame: usize,
    /// Where the innermost function returns to, on processors that keep it in a register.
    #[cfg(target_arch = "aarch64")]
    link: usize,
}

impl Registers {
    /// Those of the interrupted thread.
    ///
    /// # Safety
    ///
    /// The context is the third argument of a handler that runs.
    #[cfg(target_arch = "x86_64")]
    unsafe fn of(context: *const c_void) -> Self {
        // SAFETY: the caller's.
        let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an address, in a signed word of the same width")]
        let register = |number: c_int| registers[number as usize] as usize;
        Self { instruction: register(libc::REG_RIP), stack: register(libc::REG_RSP), frame: register(libc::REG_RBP) }
    }

    /// Those of the interrupted thread.
    ///
    /// # Safety
    ///
    /// The context is the third argument of a handler that runs.
    #[cfg(target_arch = "aarch64")]
    unsafe fn of(context: *const c_void) -> Self {
        // SAFETY: the caller's.
        let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext };
        let word = |register: u64| register as usize;
        Self { instruction: word(registers.pc), stack: word(registers.sp), frame: word(registers.regs[29]), link: word(registers.regs[30]) }
    }

    #[cfg(target_arch = "x86_64")]
    fn to_unwind(self) -> UnwindRegsNative {
        UnwindRegsNative::new(self.instruction as u64, self.stack as u64, self.frame as u64)
    }

    #[cfg(target_arch = "aarch64")]
    fn to_unwind(self) -> UnwindRegsNative {
        UnwindRegsNative::new(self.link as u64, self.stack as u64, self.frame as u64)
    }
}

impl StackCopy {
    pub(crate) const EMPTY: Self = Self {
        registers: Registers {
            instruction: 0,
            stack: 0,
            frame: 0,
            #[cfg(target_arch = "aarch64")]
            link: 0,
        },
        words: [0; PAGES * PAGE / WORD],
        len: 0,
    };

    /// Copies the stack of the thread that the signal interrupted. A process that may not read its own memory by
    /// `process_vm_readv` (a filter of system calls can forbid it) has the registers alone.
    ///
    /// # Safety
    ///
    /// The context is the third argument of a handler that runs.
    pub(crate) unsafe fn take(&mut self, context: *const c_void) {
        // SAFETY: the caller's.
        self.registers = unsafe { Registers::of(context) };
        self.len = 0;
        let start = self.registers.stack;
        if !start.is_multiple_of(WORD) {
            return;
        }
        // A read that fails leaves out the rest from the part in which it failed, so no part reaches over a page's border.
        let mut parts = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; PAGES];
        let mut from = start;
        for part in &mut parts {
            part.iov_base = std::ptr::without_provenance_mut(from);
            part.iov_len = PAGE - from % PAGE;
            from = from.wrapping_add(part.iov_len);
        }
        let room = libc::iovec { iov_base: self.words.as_mut_ptr().cast(), iov_len: size_of_val(&self.words) };
        // SAFETY: the kernel writes at most the room's octets into it, and checks what it reads. Not libc's function, at which
        // sanitizers would look at the stack's redzones.
        let read =
            unsafe { libc::syscall(libc::SYS_process_vm_readv, libc::getpid(), &raw const room, 1_usize, parts.as_ptr(), PAGES, 0_usize) };
        self.len = usize::try_from(read).unwrap_or(0) / WORD;
    }

    /// Where the frames' functions were: the interrupted instruction, then return addresses outwards, at most `limit` in all.
    /// They end early at a function without unwind tables, or where the copy ends.
    pub(crate) fn addresses(&self, limit: usize) -> Vec<usize> {
        let words = &self.words[..self.len];
        let unwinder = unwinder(|code| code.contains(&self.registers.instruction) || words.iter().any(|word| code.contains(word)));
        let mut read = |address: u64| {
            let offset = usize::try_from(address).ok().and_then(|address| address.checked_sub(self.registers.stack)).ok_or(())?;
            if offset.is_multiple_of(WORD) { words.get(offset / WORD).map(|&word| word as u64).ok_or(()) } else { Err(()) }
        };
        let mut cache = CacheNative::<MayAllocateDuringUnwind>::new();
        let mut frames = unwinder.iter_frames(self.registers.instruction as u64, self.registers.to_unwind(), &mut cache, &mut read);
        let mut addresses = Vec::new();
        while addresses.len() < limit
            && let Ok(Some(frame)) = frames.next()
        {
            addresses.extend(usize::try_from(frame.address_for_lookup()));
        }
        addresses
    }
}

/// Knows the unwind tables of the program and of those of its libraries whose code is `wanted`. They are copies, as a
/// library may be unloaded at any time.
fn unwinder(wanted: impl Fn(&Range<usize>) -> bool) -> UnwinderNative<Vec<u8>, MayAllocateDuringUnwind> {
    struct Search<'a> {
        wanted: &'a dyn Fn(&Range<usize>) -> bool,
        unwinder: UnwinderNative<Vec<u8>, MayAllocateDuringUnwind>,
    }

    unsafe extern "C" fn each(object: *mut libc::dl_phdr_info, _size: usize, search: *mut c_void) -> c_int {
        // SAFETY: `search` is the argument below, and the object is the loader's for the time of this call.
        let (object, search) = unsafe { (&*object, &mut *search.cast::<Search<'_>>()) };
        // SAFETY: the loader's table of the object.
        let headers = unsafe { slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)) };
        // SAFETY: the object is loaded for the time of this call.
        if let Some(module) = unsafe { module(object.dlpi_addr as usize, headers, search.wanted) } {
            search.unwinder.add_module(module);
        }
        0
    }

    let mut search = Search { wanted: &wanted, unwinder: UnwinderNative::new() };
    // SAFETY: `each` has the signature that is asked for, and its argument lives until the call returns.
    unsafe { libc::dl_iterate_phdr(Some(each), (&raw mut search).cast()) };
    search.unwinder
}

/// The tables of a loaded object, if it has any that are in the form that linkers give them, and if its code is wanted.
///
/// # Safety
///
/// The object is loaded at `base`, with these headers.
unsafe fn module(base: usize, headers: &[libc::Elf64_Phdr], wanted: &dyn Fn(&Range<usize>) -> bool) -> Option<Module<Vec<u8>>> {
    let range = |header: &libc::Elf64_Phdr| {
        let start = base.wrapping_add(header.p_vaddr as usize);
        start..start.wrapping_add(header.p_memsz as usize)
    };
    let loaded = || headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
    loaded().filter(|header| header.p_flags & libc::PF_X != 0).map(range).find(|code| wanted(code))?;
    let whole = loaded().map(range).reduce(|all, one| all.start.min(one.start)..all.end.max(one.end))?;

    let index = headers.iter().find(|header| header.p_type == libc::PT_GNU_EH_FRAME).map(range)?;
    // SAFETY: readable, since its segment is loaded.
    let octets = |range: &Range<usize>| unsafe { slice::from_raw_parts(std::ptr::with_exposed_provenance::<u8>(range.start), range.len()) };
    // Linux Standard Base 5.0, .eh_frame_hdr: a version, three encodings, and the address of .eh_frame, by custom as a signed word
    // relative to itself.
    const RELATIVE_WORD: u8 = 0x1b;
    let [1, RELATIVE_WORD, _, _, a, b, c, d, ..] = *octets(&index) else { return None };
    let start = (index.start + 4).wrapping_add_signed(i32::from_le_bytes([a, b, c, d]) as isize);
    // How long it is stands nowhere; it ends itself, with a length of zero, within its segment.
    let end = loaded().map(range).find(|segment| segment.contains(&start))?.end;
    let frames = start..end;

    let relative = |range: &Range<usize>| range.start.wrapping_sub(base) as u64..range.end.wrapping_sub(base) as u64;
    let sections = ExplicitModuleSectionInfo {
        eh_frame_svma: Some(relative(&frames)),
        eh_frame: Some(octets(&frames).to_vec()),
        eh_frame_hdr_svma: Some(relative(&index)),
        eh_frame_hdr: Some(octets(&index).to_vec()),
        ..ExplicitModuleSectionInfo::default()
    };
    Some(Module::new(String::new(), whole.start as u64..whole.end as u64, base as u64, sections))
}
