//! Owns the question to a worker that cannot answer: what holds you? A signal interrupts the worker's thread, and the handler notes
//! the coroutine that runs on it and copies its stack.
//!
//! It does not own when to ask (`watchdog`, `dump`). SIGURG, as its default is to be ignored: one that comes late does no harm.
//!
//! Invariants:
//! - The handler is async-signal-safe: it takes no lock, allocates nothing, and follows no pointer of the stack that it interrupts. The
//!   asker follows the frames, in the copy: where the thread unwinds or switches stacks just then they end early, and no more.
//! - There is one answer's room in the process, and one question at a time; it is over before symbols are looked up, which may take
//!   seconds. The room is the asker's, but from the handler's exchange of [`ASKED`] for [`WRITING`] until it stores [`DONE`].
//! - A thread is signalled only while it is enlisted, and so alive.

use std::cell::UnsafeCell;
use std::io;
use std::panic::Location;
use std::sync::OnceLock;
use std::time::Duration;

use super::{WorkerShared, current};
use crate::primitive::Mutex;
use crate::primitive::atomic::{AtomicI32, AtomicU32, Ordering};
use crate::sys;
use crate::sys::signal_handler::{self, Former};
use crate::sys::stack_copy::StackCopy;
use crate::time::Instant;

/// How long a thread may take to be interrupted.
const PATIENCE: Duration = Duration::from_millis(100);
const LOOK_EVERY: Duration = Duration::from_micros(100);
const FRAMES: usize = 64;
const NAME: usize = 64;

const IDLE: u32 = 0;
const ASKED: u32 = 1;
const WRITING: u32 = 2;
const DONE: u32 = 3;

static ASKING: Mutex<()> = Mutex::new(());
static STATE: AtomicU32 = AtomicU32::new(IDLE);
static TARGET: AtomicI32 = AtomicI32::new(0);
static ROOM: Room = Room(UnsafeCell::new(Raw::EMPTY));
static FORMER: OnceLock<Former> = OnceLock::new();

struct Room(UnsafeCell<Raw>);

// SAFETY: the protocol of `STATE` gives the room to one thread at a time.
unsafe impl Sync for Room {}

struct Raw {
    coroutine: Option<u64>,
    name: [u8; NAME],
    name_len: usize,
    spawned_at: Option<&'static Location<'static>>,
    stack: StackCopy,
}

impl Raw {
    const EMPTY: Self = Self { coroutine: None, name: [0; NAME], name_len: 0, spawned_at: None, stack: StackCopy::EMPTY };

    /// The coroutine, if one ran, without its trace.
    fn identity(&self) -> Option<Probed> {
        Some(Probed {
            id: self.coroutine?,
            name: (self.name_len > 0).then(|| String::from_utf8_lossy(&self.name[..self.name_len]).into_owned()),
            spawned_at: self.spawned_at,
            trace: Vec::new(),
        })
    }
}

/// What a worker was doing when it was interrupted.
#[derive(Debug)]
pub(crate) struct Probed {
    pub(crate) id: u64,
    /// The first 64 octets of it.
    pub(crate) name: Option<String>,
    pub(crate) spawned_at: Option<&'static Location<'static>>,
    /// The functions on its stack, the innermost first, as far as unwind tables lead.
    pub(crate) trace: Vec<String>,
}

/// The calling thread may be signalled while this lives.
pub(crate) struct Enlisted<'a>(&'a WorkerShared);

/// Lets the calling thread, which is the worker's, be probed. Installs the handler, once in the process.
pub(crate) fn enlist(worker: &WorkerShared) -> io::Result<Enlisted<'_>> {
    {
        let _one_at_a_time = ASKING.lock();
        if FORMER.get().is_none() {
            let _ = FORMER.set(signal_handler::install(libc::SIGURG, on_probe)?);
        }
    }
    *worker.thread.lock() = Some(sys::thread_number());
    Ok(Enlisted(worker))
}

impl Drop for Enlisted<'_> {
    fn drop(&mut self) {
        *self.0.thread.lock() = None;
    }
}

/// Interrupts the worker, and says which coroutine it was in. `None` if it was in none, is not enlisted, or did not answer.
pub(crate) fn probe(worker: &WorkerShared) -> Option<Probed> {
    let look = || {
        let (mut probed, frames) = ask(worker, |raw| Some((raw.identity()?, raw.stack.addresses(FRAMES))))?;
        probed.trace = describe(&frames);
        Some(probed)
    };
    // Debug information takes more stack to read than a coroutine has.
    if std::thread::panicking() { look() } else { current::on_worker_stack(look) }
}

/// As [`probe`], without the trace: it takes no longer than the interruption.
pub(crate) fn probe_identity(worker: &WorkerShared) -> Option<Probed> {
    ask(worker, Raw::identity)
}

/// What `read` makes of the answer. Nobody else can ask meanwhile.
fn ask<T>(worker: &WorkerShared, read: impl FnOnce(&Raw) -> Option<T>) -> Option<T> {
    let _one_at_a_time = ASKING.lock();
    {
        let thread = worker.thread.lock();
        let thread = (*thread)?;
        TARGET.store(thread, Ordering::Relaxed);
        // Ordering: Release pairs with the Acquire in `answer`: the target is visible, and our reading of the last answer over.
        STATE.store(ASKED, Ordering::Release);
        // SAFETY: a signal with a handler, to a thread of ours that lives while `thread` is locked.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGURG) };
    }
    let asked = Instant::now();
    // Ordering: Acquire pairs with the Release in `answer`: the answer is visible.
    while STATE.load(Ordering::Acquire) != DONE {
        // Once the handler writes, it is to be waited for, which takes microseconds.
        if asked.elapsed() > PATIENCE && STATE.compare_exchange(ASKED, IDLE, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            return None;
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
    // SAFETY: done, so the room is ours.
    let answer = read(unsafe { &*ROOM.0.get() });
    STATE.store(IDLE, Ordering::Relaxed);
    answer
}

extern "C" fn on_probe(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    if !signal_handler::keeping_errno(|| answer(context))
        && let Some(former) = FORMER.get()
    {
        former.call(signal, info, context);
    }
}

/// Answers, if the question is to this thread.
fn answer(context: *const libc::c_void) -> bool {
    let me = sys::thread_number();
    // Ordering: Acquire pairs with the Release in `probe`.
    if STATE.load(Ordering::Acquire) != ASKED
        || TARGET.load(Ordering::Relaxed) != me
        || STATE.compare_exchange(ASKED, WRITING, Ordering::Acquire, Ordering::Relaxed).is_err()
    {
        return false;
    }
    // SAFETY: the exchange gave the room to this handler.
    let raw = unsafe { &mut *ROOM.0.get() };
    raw.coroutine = None;
    if let Some(task) = current::with(|local| local?.running.get()) {
        let (id, name, spawned_at) = task.identity();
        raw.coroutine = Some(id);
        raw.spawned_at = spawned_at;
        let name = name.unwrap_or_default().as_bytes();
        raw.name_len = name.len().min(NAME);
        raw.name[..raw.name_len].copy_from_slice(&name[..raw.name_len]);
        // SAFETY: the handler's own argument.
        unsafe { raw.stack.take(context) };
    }
    // Ordering: Release pairs with the Acquire in `probe`.
    STATE.store(DONE, Ordering::Release);
    true
}

/// The frames' functions and places, from the interrupted one to the coroutine's first.
fn describe(frames: &[usize]) -> Vec<String> {
    let mut lines = Vec::new();
    for &address in frames {
        backtrace::resolve(std::ptr::without_provenance_mut(address), |symbol| {
            let name = symbol.name().map_or_else(|| "(unknown)".to_owned(), |name| format!("{name:#}"));
            let place = match (symbol.filename(), symbol.lineno()) {
                (Some(file), Some(line)) => format!(" ({}:{line})", file.display()),
                _ => String::new(),
            };
            lines.push(name + &place);
        });
    }
    let own = |line: &String| line.contains("unwind_safe") || line.contains("catch_unwind");
    lines.into_iter().take_while(|line| !own(line)).collect()
}

#[cfg(all(test, not(loom), not(miri), not(weald_baton)))]
mod tests {
    use std::panic::{catch_unwind, resume_unwind};
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::Runtime;

    fn unwinds(frames: u32) {
        struct Clean;
        impl Drop for Clean {
            fn drop(&mut self) {
                std::hint::black_box(self);
            }
        }
        let _clean = Clean;
        if frames == 0 {
            resume_unwind(Box::new(()));
        }
        unwinds(std::hint::black_box(frames) - 1);
    }

    /// Probes a worker whose only coroutine does `work` all the time, and counts the traces that name `function`.
    fn traces_of(work: impl Fn() + Send + 'static, function: &str) -> u32 {
        let runtime = Runtime::builder().workers(1).watchdog(Some(Duration::from_secs(60))).build().expect("a runtime");
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let busy = runtime.handle().spawn(move || {
            while !until.load(Ordering::Relaxed) {
                work();
            }
        });
        let (handle, mut asked, mut named) = (runtime.handle(), 0, 0);
        let start = Instant::now();
        while asked < 500 && start.elapsed() < Duration::from_secs(10) {
            let Some(probed) = probe(&handle.shared.workers[0]) else { continue };
            asked += 1;
            named += u32::from(probed.trace.iter().any(|line| line.contains(function)));
        }
        over.store(true, Ordering::Relaxed);
        busy.join().expect("no panic");
        named
    }

    #[test]
    fn a_coroutine_may_be_unwinding() {
        let named = traces_of(|| assert!(catch_unwind(|| unwinds(8)).is_err()), "probe::tests::unwinds");
        // AddressSanitizer looks at the whole stack in each panic, in functions at which a trace ends.
        assert!(named > 0 || cfg!(weald_asan));
    }

    #[test]
    fn a_coroutine_may_be_about_to_leave_its_stack() {
        assert!(traces_of(crate::yield_now, "yield_now") > 0);
    }
}
