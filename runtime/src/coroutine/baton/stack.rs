//! Owns a coroutine's thread, from before its coroutine until after it.
//!
//! It does not own what runs on the thread nor the baton's way (the parent does).

use std::io;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Arc;
use std::thread;

use super::Baton;
use super::arena::Slot;

/// Room that the sanitizers' and the interpreter's larger frames take beside what was asked for.
const EXTRA_STACK: usize = 1 << 20;

/// Where a stack lies, which only the system knows: there is no value of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bounds {}

impl Bounds {
    /// Bytes that the coroutine can use.
    pub(crate) fn usable(&self) -> usize {
        match *self {}
    }

    /// Bytes between `stack_pointer` and the base.
    pub(crate) fn used(&self, _stack_pointer: usize) -> usize {
        match *self {}
    }

    /// The pages that hold nothing live.
    pub(crate) fn unused(&self, _stack_pointer: usize) -> Option<Pages> {
        match *self {}
    }

    /// Bytes of the usable stack that memory is spent on.
    pub(crate) fn resident(&self) -> usize {
        match *self {}
    }
}

/// Pages of a stack, of which there is no value either.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pages {}

impl Pages {
    /// Whether memory is spent on the highest page.
    pub(crate) fn is_top_resident(&self) -> bool {
        match *self {}
    }
}

/// Gives pages back to the system.
///
/// # Safety
///
/// None is there to be given.
pub(crate) unsafe fn give_back(pages: &[Pages]) {
    if let [page, ..] = pages {
        match *page {}
    }
}

/// As in the shipping backend, where it lies on the stack.
pub(crate) const TOP_SIZE: usize = 192;

#[repr(align(64))]
struct Top {
    _room: MaybeUninit<[u8; TOP_SIZE]>,
}

/// A thread that a coroutine can run on.
pub(crate) struct Stack {
    pub(super) baton: Arc<Baton>,
    /// A pointer and not a box, which must not be moved while others point into it.
    top: NonNull<Top>,
    thread: Option<thread::JoinHandle<()>>,
    _slot: Slot,
}

impl Stack {
    /// Starts a thread with `usable` bytes of stack, which waits for a coroutine.
    pub(super) fn new(usable: usize, slot: Slot) -> io::Result<Self> {
        let baton = Arc::new(Baton::new());
        let theirs = Arc::clone(&baton);
        let size = usable.checked_add(EXTRA_STACK).ok_or(io::ErrorKind::OutOfMemory)?;
        let thread = thread::Builder::new().name("coroutine".to_owned()).stack_size(size).spawn(move || super::run(&theirs))?;
        let top = NonNull::from(Box::leak(Box::new(Top { _room: MaybeUninit::uninit() })));
        Ok(Self { baton, top, thread: Some(thread), _slot: slot })
    }

    /// The lowest address of [`TOP_SIZE`] bytes that are the owner's, aligned to a cache line.
    pub(crate) fn top(&self) -> NonNull<u8> {
        self.top.cast()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.baton.end();
        if let Some(thread) = self.thread.take() {
            // It ends at once, and its own panic is impossible: entries do not unwind.
            let _ = thread.join();
        }
        // SAFETY: made from a box by `new`; whoever drops the stack knows that nothing points into it.
        drop(unsafe { Box::from_raw(self.top.as_ptr()) });
    }
}
