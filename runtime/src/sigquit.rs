//! Owns what SIGQUIT does to a process that asked for it: the dump of every runtime, on standard error. The process goes on.
//!
//! It does not own the dump. Invariants: the handler rings a bell and calls the handler that was there before, nothing else; a
//! thread that lives as long as the process does the work.

use std::io::{self, Write};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;

use crate::Handle;
use crate::primitive::Mutex;
use crate::scheduler::{Phase, Shared};
use crate::sys::event_fd::EventFd;
use crate::sys::signal_handler::{self, Former};

/// Every runtime of the process, with the name of its workers.
static RUNTIMES: Mutex<Vec<(String, Weak<Shared>)>> = Mutex::new(Vec::new());
/// What the handler rings.
static BELL: OnceLock<EventFd> = OnceLock::new();
static FORMER: OnceLock<Former> = OnceLock::new();

/// Notes a runtime, for the time that it lives.
pub(crate) fn register(name: &str, shared: &Arc<Shared>) {
    let mut runtimes = RUNTIMES.lock();
    runtimes.retain(|(_, shared)| shared.strong_count() > 0);
    runtimes.push((name.to_owned(), Arc::downgrade(shared)));
}

/// Makes SIGQUIT print the dumps, from now on. Once for the process; later calls do nothing.
///
/// # Errors
///
/// What the system says when it refuses a descriptor or a thread.
pub(crate) fn enable() -> io::Result<()> {
    static ENABLED: Mutex<bool> = Mutex::new(false);
    let mut enabled = ENABLED.lock();
    if *enabled {
        return Ok(());
    }
    if BELL.get().is_none() {
        let _ = BELL.set(EventFd::blocking()?);
    }
    thread::Builder::new().name("weald-sigquit".to_owned()).spawn(|| {
        while BELL.get().is_some_and(|bell| bell.wait().is_ok()) {
            // Whoever closed standard error does not want it.
            let _ = print(&mut io::stderr());
        }
    })?;
    let _ = FORMER.set(signal_handler::install(libc::SIGQUIT, on_quit)?);
    *enabled = true;
    Ok(())
}

extern "C" fn on_quit(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    signal_handler::keeping_errno(|| {
        if let Some(bell) = BELL.get() {
            let _ = bell.ring();
        }
    });
    if let Some(former) = FORMER.get() {
        former.call(signal, info, context);
    }
}

fn print(out: &mut dyn Write) -> io::Result<()> {
    let runtimes = RUNTIMES.lock().clone();
    let alive = runtimes.iter().filter_map(|(name, shared)| Some((name, shared.upgrade()?)));
    for (name, shared) in alive.filter(|(_, shared)| shared.phase() != Phase::Stopped) {
        write!(out, "SIGQUIT: runtime '{name}': {}", Handle::from_shared(shared).dump())?;
    }
    writeln!(out, "SIGQUIT: end of dump")?;
    out.flush()
}
