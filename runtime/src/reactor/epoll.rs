//! The epoll reactor: turns the kernel's readiness edges into wake-ups.
//!
//! Owns the epoll instance of one worker, the table from tokens to sources, and the bell that ends a sleep. Does not own
//! descriptors: whoever registers one keeps it open until it deregisters.
//!
//! Invariants:
//! - A token is (slot, generation), so an event of a descriptor that is gone never reaches the source that took its slot.
//! - Sources are woken with the table unlocked.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{Direction, Source};
use crate::primitive::Mutex;
use crate::sys::epoll::{Epoll, Event, Events, Interest};
use crate::sys::event_fd::EventFd;

/// Events taken from the kernel in one call. A round of a worker calls once; what does not fit comes in the next round.
const EVENTS: usize = 256;
/// The token of the bell; no slot can have it, since slots are counted from 0 in 32 bits.
const BELL: u64 = u64::MAX;

/// Polls for one worker. Only that worker calls [`poll`](Self::poll); anyone may register by a [`ReactorHandle`].
pub(crate) struct Reactor {
    shared: Arc<Shared>,
    events: Events,
    ready: Vec<(Arc<Source>, Event)>,
}

/// Registers with a reactor, from any thread.
///
/// It does not keep the reactor: a socket that is used in one runtime after another would keep the descriptors of them all.
#[derive(Clone)]
pub(crate) struct ReactorHandle {
    shared: Weak<Shared>,
}

/// Ends the sleep of a reactor, from any thread.
#[derive(Clone)]
pub(crate) struct ReactorWaker {
    shared: Arc<Shared>,
}

struct Shared {
    epoll: Epoll,
    bell: EventFd,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Nobody polls any more.
    closed: bool,
}

struct Slot {
    generation: u32,
    source: Option<Arc<Source>>,
}

impl Reactor {
    /// A reactor with nothing registered.
    pub(crate) fn new() -> io::Result<Reactor> {
        let shared = Shared { epoll: Epoll::new()?, bell: EventFd::new()?, table: Mutex::new(Table::default()) };
        shared.epoll.add(&shared.bell, BELL, Interest::Read)?;
        Ok(Reactor { shared: Arc::new(shared), events: Events::with_capacity(EVENTS), ready: Vec::with_capacity(EVENTS) })
    }

    /// Waits at most `timeout` (zero polls, `None` waits without end), marks what became ready and unparks who waits for it.
    /// Returns the number of sources that had news; a ring of the waker ends the wait and counts as none.
    pub(crate) fn poll(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let shared = &*self.shared;
        shared.epoll.wait(&mut self.events, timeout)?;
        {
            let table = shared.table.lock();
            for event in self.events.iter() {
                if let Some(source) = table.find(event.token) {
                    self.ready.push((Arc::clone(source), event));
                }
            }
        }
        let count = self.ready.len();
        for (source, event) in self.ready.drain(..) {
            for (direction, ready, ended) in
                [(Direction::Read, event.readable, event.read_ended), (Direction::Write, event.writable, event.write_ended)]
            {
                if ended {
                    source.set_ended(direction);
                } else if ready {
                    source.set_ready(direction);
                }
            }
        }
        Ok(count)
    }

    /// The last poll is over: whoever waits for a source of this reactor, now or later, is cancelled.
    pub(crate) fn close(&self) {
        let sources: Vec<_> = {
            let mut table = self.shared.table.lock();
            table.closed = true;
            table.slots.iter().filter_map(|slot| slot.source.clone()).collect()
        };
        sources.iter().for_each(|source| source.close());
    }

    /// Registers with this reactor.
    pub(crate) fn handle(&self) -> ReactorHandle {
        ReactorHandle { shared: Arc::downgrade(&self.shared) }
    }

    /// Ends a sleep in [`poll`](Self::poll).
    pub(crate) fn waker(&self) -> ReactorWaker {
        ReactorWaker { shared: Arc::clone(&self.shared) }
    }
}

impl ReactorHandle {
    /// Watches a descriptor, which must be non-blocking and stay open until [`deregister`](Self::deregister), for reading. With a reactor
    /// that is gone the source is closed from the start.
    pub(crate) fn register(&self, descriptor: impl AsFd) -> io::Result<Arc<Source>> {
        let Some(shared) = self.shared.upgrade() else {
            let source = Source::new(0);
            source.close();
            return Ok(Arc::new(source));
        };
        let source = {
            let mut table = shared.table.lock();
            let source = table.insert();
            if table.closed {
                source.close();
            }
            source
        };
        // After the table: an edge may come at once.
        if let Err(error) = shared.epoll.add(descriptor, source.token(), Interest::Read) {
            shared.table.lock().remove(source.token());
            return Err(error);
        }
        Ok(source)
    }

    /// Watches a registered descriptor for writing, too, from now on. If it can be written to now, that is an edge.
    ///
    /// Not from the start: each datagram that leaves a UDP socket is an edge of writing (1,000 of 1,000 sends over loopback were), and would end a
    /// sleep of the worker.
    pub(crate) fn watch_writing(&self, descriptor: impl AsFd, source: &Source) -> io::Result<()> {
        self.shared.upgrade().map_or(Ok(()), |shared| shared.epoll.modify(descriptor, source.token(), Interest::ReadWrite))
    }

    /// Whether anybody waits for one of its descriptors.
    pub(crate) fn has_waiters(&self) -> bool {
        let Some(shared) = self.shared.upgrade() else { return false };
        let sources: Vec<_> = shared.table.lock().slots.iter().filter_map(|slot| slot.source.clone()).collect();
        sources.iter().any(|source| source.has_waiters(Direction::Read) || source.has_waiters(Direction::Write))
    }

    /// Whether both register with the same reactor.
    pub(crate) fn is(&self, other: &ReactorHandle) -> bool {
        Weak::ptr_eq(&self.shared, &other.shared)
    }

    /// Whether nobody polls any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.upgrade().is_none_or(|shared| shared.table.lock().closed)
    }

    /// Stops watching, and unparks whoever still waits (their next try meets the closed descriptor's owner).
    pub(crate) fn deregister(&self, descriptor: impl AsFd, source: &Source) -> io::Result<()> {
        if let Some(shared) = self.shared.upgrade()
            && shared.table.lock().remove(source.token()).is_some()
        {
            shared.epoll.remove(descriptor)?;
        }
        source.set_ready(Direction::Read);
        source.set_ready(Direction::Write);
        Ok(())
    }
}

impl ReactorWaker {
    /// Ends the present or the next wait of the reactor. One system call: ring only a reactor that sleeps.
    pub(crate) fn ring(&self) {
        // It fails only when the counter is full, and then a ring is pending.
        let _ = self.shared.bell.ring();
    }
}

impl Table {
    fn insert(&mut self) -> Arc<Source> {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, source: None });
            u32::try_from(self.slots.len() - 1).expect("fewer descriptors than 2^32")
        });
        let slot = &mut self.slots[index as usize];
        let source = Arc::new(Source::new(u64::from(slot.generation) << 32 | u64::from(index)));
        slot.source = Some(Arc::clone(&source));
        source
    }

    fn find(&self, token: u64) -> Option<&Arc<Source>> {
        let slot = self.slots.get(token as u32 as usize)?;
        slot.source.as_ref().filter(|source| source.token() == token)
    }

    fn remove(&mut self, token: u64) -> Option<Arc<Source>> {
        self.find(token)?;
        let index = token as u32;
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        slot.source.take()
    }
}
