//! The reactor for plain threads.
//!
//! Owns one reactor a process and the thread that polls it, started by the first plain thread that has to wait for a socket
//! which no worker watches. It ends with the process. A plain thread then waits like everybody else, on the source's wait
//! list: with its deadline, its cancellation, and beside other sources in a `select!`; a `poll(2)` of its own would see none
//! but the first.

use std::io;
use std::thread;

use super::{Reactor, ReactorHandle};
use crate::fatal::fatal;
use crate::primitive::Mutex;

static HANDLE: Mutex<Option<ReactorHandle>> = Mutex::new(None);

/// Whether anybody waits for a socket which no worker watches.
pub(crate) fn process_has_waiters() -> bool {
    let handle = HANDLE.lock().clone();
    handle.is_some_and(|handle| handle.has_waiters())
}

/// A handle to the process's reactor.
///
/// # Errors
/// The system refuses a descriptor or the thread. The next call tries again.
pub(crate) fn process_reactor() -> io::Result<ReactorHandle> {
    let mut handle = HANDLE.lock();
    if let Some(handle) = &*handle {
        return Ok(handle.clone());
    }
    let mut reactor = Reactor::new()?;
    let started = reactor.handle();
    thread::Builder::new().name("weald-io".to_owned()).spawn(move || {
        loop {
            if let Err(error) = reactor.poll(None) {
                // Whoever waits here would wait for ever.
                fatal(format_args!("cannot poll for the I/O of plain threads: {error}"));
            }
        }
    })?;
    Ok(handle.insert(started).clone())
}
