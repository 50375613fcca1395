//! Owns what a debugger reads of a stopped process or a core: where the workers are, and at which offsets the rest lies. With it
//! `gdb/weald.py` lists coroutines and unwinds parked ones, with or without debug information.
//!
//! It does not own what it points to, and nothing of the runtime reads it.
//!
//! Invariants: [`WEALD_DEBUGGER`] keeps the order of its words, which the script knows by [`VERSION`]; a worker is listed
//! from its making to its end; a process that is stopped while the list changes shows an empty one.

use std::cell::Cell;
use std::panic::Location;
use std::ptr;

use crate::primitive::Mutex;
use crate::primitive::atomic::{AtomicPtr, AtomicUsize, Ordering};
use crate::sys;
use crate::task::debugger::OFFSETS;
use crate::task::{StartedTasks, TaskPtr};

/// Changes with the order of the words, and with what they mean.
const VERSION: u64 = 0x7765_616c_6400_0002;
const WORDS: usize = 5;

/// The words of one worker: addresses of its list of started tasks, of the running one, and of the one whose park is not committed; its
/// number, its thread's.
type Record = [usize; WORDS];

/// Where the debugger begins. Its symbol survives as long as the symbol table does.
#[repr(C)]
struct Root {
    version: u64,
    /// The addresses of all workers' words; one after the other, [`WORDS`] each.
    records: AtomicPtr<Record>,
    count: AtomicUsize,
    words: u64,
    /// A location and what it says: how the compiler arranged a `Location` shows in these.
    example: &'static Location<'static>,
    example_file: &'static str,
    example_line: u64,
    example_column: u64,
    offsets: [u64; OFFSETS.len()],
}

const EXAMPLE: &Location<'static> = Location::caller();

#[used]
static WEALD_DEBUGGER: Root = Root {
    version: VERSION,
    records: AtomicPtr::new(ptr::null_mut()),
    count: AtomicUsize::new(0),
    words: WORDS as u64,
    example: EXAMPLE,
    example_file: EXAMPLE.file(),
    example_line: EXAMPLE.line() as u64,
    example_column: EXAMPLE.column() as u64,
    offsets: OFFSETS,
};

static RECORDS: Mutex<Vec<Record>> = Mutex::new(Vec::new());

/// A worker is listed while this lives.
pub(crate) struct Listed(usize);

/// Lists the calling thread's worker; what is referred to stays in place until the result is dropped.
pub(crate) fn list(index: usize, started: &StartedTasks, running: &Cell<Option<TaskPtr>>, parking: &Cell<Option<TaskPtr>>) -> Listed {
    let started = ptr::from_ref(started).addr();
    let thread = usize::try_from(sys::thread_number()).unwrap_or_default();
    let record = [started, ptr::from_ref(running).addr(), ptr::from_ref(parking).addr(), index, thread];
    change(|records| records.push(record));
    Listed(started)
}

impl Drop for Listed {
    fn drop(&mut self) {
        change(|records| records.retain(|record| record[0] != self.0));
    }
}

fn change(change: impl FnOnce(&mut Vec<Record>)) {
    let mut records = RECORDS.lock();
    // Ordering: Relaxed; only a debugger reads, and all threads stand still then. Emptied first, for that may be in between.
    WEALD_DEBUGGER.count.store(0, Ordering::Relaxed);
    change(&mut records);
    WEALD_DEBUGGER.records.store(records.as_mut_ptr(), Ordering::Relaxed);
    WEALD_DEBUGGER.count.store(records.len(), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_listed_while_it_lives() {
        let (started, running, parking) = (StartedTasks::default(), Cell::new(None), Cell::new(None));
        let is_listed = || RECORDS.lock().iter().any(|record| record[0] == ptr::from_ref(&started).addr());
        let listed = list(3, &started, &running, &parking);
        assert!(is_listed());
        drop(listed);
        assert!(!is_listed());
    }
}
