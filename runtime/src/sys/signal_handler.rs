//! Handlers of signals: installed for the process, with the one that was there before kept, to be called after.
//!
//! A handler may do only what is async-signal-safe. What it does to `errno` is undone by [`keeping_errno`].

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use super::check;

/// What the kernel calls: the signal, what it knows of it, and the interrupted registers.
pub(crate) type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

/// The handler that was there before.
pub(crate) struct Former(libc::sigaction);

/// Sets the handler of a signal for the process. Interrupted system calls go on where the kernel can make them; the handler runs
/// on the alternate stack of a thread that has one.
pub(crate) fn install(signal: libc::c_int, handler: Handler) -> io::Result<Former> {
    let mut former = MaybeUninit::uninit();
    // SAFETY: a zeroed sigaction is valid, the handler has the signature that SA_SIGINFO asks for, and the call writes
    // `former` when it succeeds.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        libc::sigemptyset(&raw mut action.sa_mask);
        check(libc::sigaction(signal, &raw const action, former.as_mut_ptr()))?;
        Ok(Former(former.assume_init()))
    }
}

impl Former {
    /// Calls the former handler, if it was a function. The default action is not taken, nor is ignoring anything to do.
    pub(crate) fn call(&self, signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        match self.0.sa_sigaction {
            libc::SIG_DFL | libc::SIG_IGN => {}
            function if self.0.sa_flags & libc::SA_SIGINFO != 0 => {
                // SAFETY: it was installed with SA_SIGINFO, so it has this signature.
                let handler = unsafe { std::mem::transmute::<usize, Handler>(function) };
                handler(signal, info, context);
            }
            function => {
                // SAFETY: it was installed without SA_SIGINFO, so it has this signature.
                let handler = unsafe { std::mem::transmute::<usize, extern "C" fn(libc::c_int)>(function) };
                handler(signal);
            }
        }
    }
}

/// Runs a part of a handler, which the interrupted code must not notice.
pub(crate) fn keeping_errno<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: the address of the thread's errno, which is always there.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { ptr::read(errno) };
    let result = f();
    // SAFETY: as above.
    unsafe { ptr::write(errno, before) };
    result
}
