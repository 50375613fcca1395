//! Owns what happens when a coroutine runs into its guard: a message with its name and stack size, and an abort.
//!
//! It does not own guards (`arena`). Faults elsewhere go to the handler that was there before.
//!
//! Invariants: everything in the handler is async-signal-safe: it reads thread-locals without destructors, formats into a
//! buffer of its own and writes with one system call. It runs on the alternate stack that [`SignalStack`] installs for each
//! thread that runs coroutines.

use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;

use super::memory::Mapping;
use super::stack::{Bounds, Stack};
use crate::scheduler::current;

/// Room for the handler and for one chained to it; the kernel's frame with wide vector registers takes up to 12 KiB.
const SIGNAL_STACK_SIZE: usize = 64 * 1024;
const MESSAGE_SIZE: usize = 512;

/// What the handler must know of the coroutine that runs now.
pub(crate) struct Running {
    /// On the coroutine's own stack: read where it stands, for a copy costs each start more than the rest of this.
    bounds: *const Bounds,
    name: Option<*const str>,
    id: u64,
}

impl Running {
    /// For a coroutine on `stack` with a number and a name, which lives at least as long as it runs.
    pub(crate) fn new(stack: &Stack, name: Option<*const str>, id: u64) -> Self {
        Self { bounds: stack.bounds(), name, id }
    }

    /// Where its stack lies.
    pub(crate) fn bounds(&self) -> Option<Bounds> {
        Some(*self.stack())
    }

    fn stack(&self) -> &Bounds {
        // SAFETY: what has a `Running` has its stack.
        unsafe { &*self.bounds }
    }
}

static PREVIOUS: OnceLock<Previous> = OnceLock::new();

struct Previous {
    segv: libc::sigaction,
    bus: libc::sigaction,
}

/// The alternate signal stack of a thread; the former one returns when this is dropped.
#[derive(Debug)]
pub(crate) struct SignalStack {
    _mapping: Mapping,
    former: libc::stack_t,
}

impl SignalStack {
    /// Installs an alternate stack for the calling thread and, once in the process, the handler. Must be dropped on the
    /// same thread.
    pub(crate) fn install() -> io::Result<Self> {
        install_handler();
        let mapping = Mapping::reserve(SIGNAL_STACK_SIZE)?;
        let stack = libc::stack_t { ss_sp: ptr::with_exposed_provenance_mut(mapping.start()), ss_flags: 0, ss_size: SIGNAL_STACK_SIZE };
        let mut former = MaybeUninit::uninit();
        // SAFETY: the mapping is ours and outlives its use: `drop` takes it out first.
        if unsafe { libc::sigaltstack(&raw const stack, former.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: written by the successful call.
        Ok(Self { _mapping: mapping, former: unsafe { former.assume_init() } })
    }
}

impl Drop for SignalStack {
    fn drop(&mut self) {
        // SAFETY: the former stack is the thread's own, as it was before `install`.
        let _ = unsafe { libc::sigaltstack(&raw const self.former, ptr::null_mut()) };
    }
}

fn install_handler() {
    PREVIOUS.get_or_init(|| Previous { segv: install_for(libc::SIGSEGV), bus: install_for(libc::SIGBUS) });
}

fn install_for(signal: libc::c_int) -> libc::sigaction {
    let mut previous = MaybeUninit::zeroed();
    // SAFETY: a zeroed sigaction is valid; the handler has the signature that SA_SIGINFO asks for. A failure is impossible
    // for these signals, and would leave `previous` zeroed, which is the default action.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&raw mut action.sa_mask);
        libc::sigaction(signal, &raw const action, previous.as_mut_ptr());
        previous.assume_init()
    }
}

extern "C" fn on_fault(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo for SA_SIGINFO handlers.
    let address = unsafe { (*info).si_addr() }.addr();
    // SAFETY: null, or the task that runs on this thread now, which cannot go away meanwhile.
    if let Some(running) = unsafe { current::running_for_overflow().as_ref() }
        && running.stack().guards(address)
    {
        report(running);
        // SAFETY: ends the process.
        unsafe { libc::abort() };
    }
    chain(signal, info, context);
}

fn report(running: &Running) {
    let mut buffer = [0_u8; MESSAGE_SIZE];
    let mut out = &mut buffer[..];
    // SAFETY: the name lives as long as the coroutine, which is on this thread's processor right now.
    let name = running.name.map(|name| unsafe { &*name });
    let kib = running.stack().usable() / 1024;
    let _ = match name {
        Some(name) => write!(out, "\ncoroutine '{name}' has overflowed its stack of {kib} KiB\n"),
        None => write!(out, "\ncoroutine {} (unnamed) has overflowed its stack of {kib} KiB\n", running.id),
    };
    let _ = writeln!(out, "fatal runtime error: stack overflow, aborting (Builder::stack_size sets the size)");
    let left = out.len();
    let message = &buffer[..MESSAGE_SIZE - left];
    // SAFETY: writes our own buffer to standard error.
    let _ = unsafe { libc::write(libc::STDERR_FILENO, message.as_ptr().cast(), message.len()) };
}

/// Passes a fault that is not ours to the handler before us.
fn chain(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let previous = PREVIOUS.get().map(|previous| if signal == libc::SIGSEGV { &previous.segv } else { &previous.bus });
    match previous {
        Some(previous) if previous.sa_sigaction != libc::SIG_DFL && previous.sa_sigaction != libc::SIG_IGN => {
            if previous.sa_flags & libc::SA_SIGINFO != 0 {
                // SAFETY: the previous handler was installed with SA_SIGINFO, so it has this signature.
                let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                    unsafe { std::mem::transmute(previous.sa_sigaction) };
                handler(signal, info, context);
            } else {
                // SAFETY: the previous handler was installed without SA_SIGINFO, so it has this signature.
                let handler: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(previous.sa_sigaction) };
                handler(signal);
            }
        }
        // The default action: the fault happens again on return, and ends the process.
        _ => {
            // SAFETY: restores the default for this signal.
            unsafe {
                let mut default: libc::sigaction = std::mem::zeroed();
                default.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &raw const default, ptr::null_mut());
            }
        }
    }
}
