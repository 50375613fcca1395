//! A non-blocking descriptor of the operating system, from wherever it is used.
//!
//! Owns the descriptor and its registration with a reactor. Does not own what is done with it: an operation comes as a
//! closure that never blocks, and with a [`Drained`] says whether the next one would.
//!
//! A descriptor is registered when an operation first would block: by a coroutine or hook with its worker's reactor, so that
//! the one who will wait is near; by a plain thread that waits with the process's. There it stays, whoever uses it
//! later, until its reactor ends with its runtime. Then it is registered anew, with that of the next one who waits.
//!
//! Invariants:
//! - The last registration of the chain is the only one that may be open.
//! - `EPOLLOUT` is armed after a write has met `WouldBlock` and its ready bit was cleared, so arming it finds what came between.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use super::{Wait, cancelled};
use crate::primitive::Mutex;
use crate::primitive::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::reactor::{Direction, Drained, ReactorHandle, Source, process_reactor};
use crate::scheduler::current::{self, Local, Place};

/// So many reads in a row that found nothing at first make the next one wait at once.
const MISSES: u32 = 2;
/// One of so many looks all the same: who takes one message an edge, while several come, would fall behind.
const LOOK_EVERY: u32 = 16;

pub(crate) struct Descriptor<D: AsFd = OwnedFd> {
    descriptor: D,
    first: OnceLock<Registration>,
    /// One registers at a time.
    registering: Mutex<()>,
}

struct Registration {
    source: Arc<Source>,
    reactor: ReactorHandle,
    /// Whether edges of writing are reported.
    watches_writing: AtomicBool,
    /// Reads of one message, in a row, that found nothing when they began, or did not look. A hint.
    misses: AtomicU32,
    /// What replaced it when its reactor had ended.
    next: OnceLock<Box<Registration>>,
}

impl<D: AsFd> Descriptor<D> {
    /// Takes a descriptor, which must be non-blocking.
    pub(crate) fn new(descriptor: D) -> Descriptor<D> {
        Descriptor { descriptor, first: OnceLock::new(), registering: Mutex::new(()) }
    }

    pub(crate) fn get(&self) -> &D {
        &self.descriptor
    }

    /// False only after an operation met `WouldBlock` and before the next edge.
    pub(crate) fn is_ready(&self, direction: Direction) -> bool {
        self.registration().is_none_or(|registration| registration.source.is_ready(direction))
    }

    /// Runs a non-blocking operation, unless it is known that it would block.
    pub(crate) fn try_io<T>(&self, direction: Direction, mut operation: impl FnMut() -> io::Result<(T, Drained)>) -> io::Result<T> {
        let registration = match self.open_registration() {
            Some(registration) => registration,
            None => match operation() {
                // On a worker somebody may count on the edge without waiting himself: a hook.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && on_worker() => self.register()?,
                result => return result.map(|(value, _)| value),
            },
        };
        match registration.source.try_io(direction, operation) {
            Err(error) if direction == Direction::Write && error.kind() == io::ErrorKind::WouldBlock => {
                registration.watch_writing(&self.descriptor)?;
                Err(error)
            }
            result => result,
        }
    }

    /// Before a read that takes one of the messages that may be there. If the last reads found nothing at first, this one likely would not
    /// either, which costs a system call: so it waits, for an edge, or until its worker asks for the call since it has nothing else to do.
    /// Returns whether it did.
    #[track_caller]
    pub(crate) fn wait_before_read(&self) -> bool {
        let Some(registration) = self.open_registration() else { return false };
        let waits = registration.expects_nothing() && registration.source.is_ready(Direction::Read);
        if waits {
            registration.count_read(false);
            let source = &registration.source;
            source
                .wait_patiently(Direction::Read, || current::with(|local| _ = local.map(|local| local.patience.list(Arc::clone(source)))));
        }
        waits
    }

    /// After the first try of a read that did not wait before.
    pub(crate) fn count_read(&self, found: bool) {
        if let Some(registration) = self.registration() {
            registration.count_read(found);
        }
    }

    /// The last registration, whose reactor may have ended.
    fn registration(&self) -> Option<&Registration> {
        let mut last = self.first.get()?;
        while let Some(next) = last.next.get() {
            last = next;
        }
        Some(last)
    }

    fn open_registration(&self) -> Option<&Registration> {
        self.registration().filter(|registration| !registration.source.is_closed())
    }

    #[cold]
    fn register(&self) -> io::Result<&Registration> {
        let _one = self.registering.lock();
        if let Some(registration) = self.open_registration() {
            return Ok(registration);
        }
        let reactor = nearest_reactor()?;
        if reactor.is_closed() {
            return Err(cancelled());
        }
        let source = reactor.register(&self.descriptor)?;
        let registration =
            Registration { source, reactor, watches_writing: AtomicBool::new(false), misses: AtomicU32::new(0), next: OnceLock::new() };
        Ok(match self.registration() {
            Some(last) => last.next.get_or_init(|| Box::new(registration)),
            None => self.first.get_or_init(|| registration),
        })
    }
}

impl<D: AsFd> Wait for Descriptor<D> {
    fn source(&self) -> io::Result<&Source> {
        let registration = self.open_registration().map_or_else(|| self.register(), Ok)?;
        Ok(&registration.source)
    }
}

impl Registration {
    /// Whether a coroutine of the reactor's worker should wait before it reads.
    fn expects_nothing(&self) -> bool {
        let misses = self.misses.load(Ordering::Relaxed);
        let here =
            |local: Option<&Local>| local.is_some_and(|local| local.worker.reactor.as_ref().is_some_and(|(own, _)| own.is(&self.reactor)));
        misses >= MISSES && !misses.is_multiple_of(LOOK_EVERY) && current::place() == Place::Coroutine && current::with(here)
    }

    fn count_read(&self, found: bool) {
        // Relaxed, and no exchange: a count that is lost makes a hint come later.
        let misses = if found { 0 } else { self.misses.load(Ordering::Relaxed).wrapping_add(1) };
        self.misses.store(misses, Ordering::Relaxed);
    }

    fn watch_writing(&self, descriptor: impl AsFd) -> io::Result<()> {
        // Relaxed: set after edges were armed, and read after the ready bit was cleared, whose Acquire keeps this load behind it.
        // So every edge since the failed try comes, and two who arm at once do no harm.
        if self.watches_writing.load(Ordering::Relaxed) || self.source.is_closed() {
            return Ok(());
        }
        self.reactor.watch_writing(descriptor, &self.source)?;
        self.watches_writing.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl<D: AsFd> AsFd for Descriptor<D> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl<D: AsFd> Drop for Descriptor<D> {
    fn drop(&mut self) {
        let mut registration = self.first.get();
        while let Some(present) = registration {
            // It cannot fail for a descriptor that is registered and open; closing removes it from epoll in any case.
            let _ = present.reactor.deregister(&self.descriptor, &present.source);
            registration = present.next.get().map(|next| &**next);
        }
    }
}

fn on_worker() -> bool {
    current::with(|local| local.is_some())
}

/// The reactor of the caller's worker, or the process's for a plain thread.
fn nearest_reactor() -> io::Result<ReactorHandle> {
    let of_worker = current::with(|local| local.map(|local| local.worker.reactor.as_ref().map(|(reactor, _)| reactor.clone())));
    match of_worker {
        None => process_reactor(),
        Some(Some(reactor)) => Ok(reactor),
        Some(None) => Err(io::Error::new(io::ErrorKind::Unsupported, "a socket of the operating system inside of a simulation")),
    }
}
