//! A connection as its handles and its worker share it: the protocol's value, who waits, and whether it has news.
//!
//! Owns the lock and the waiting. Does not own the protocol's rules, nor when datagrams are built.
//!
//! Invariants:
//! - Whoever calls a verb that may leave something to send or to tell marks the connection as dirty afterwards.
//! - Handles that find the lock taken give way to other coroutines; the worker's hook waits, for as long as a handle's verb
//!   takes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use super::link::Link;
use super::waiting::{Attempt, Cancelled, Guarded, wait};
use super::waits::{Key, Waits, Woken};
use super::{lock, now};
use crate::connection::{Connection, DatagramEvent, Event};
use crate::containment::{Panicked, contain};
use crate::error::{ApplicationCode, ConnectionError};
use crate::governor::Lease;
use crate::handle::ConnectionHandle;
use crate::pressure::Pressure;
use crate::side::Side;
use crate::streams::StreamEvent;
use crate::time::Instant;

/// How often a handle gives way to others before it blocks for a lock that somebody else holds. Holders need some
/// microseconds.
const YIELDS: usize = 32;

/// Bytes of a connection that is idle, with all that belongs to it.
const BASE: usize = 8 * 1024;

/// Bytes of TLS while it shakes hands.
const HANDSHAKE: usize = 16 * 1024;

/// No datagram with nothing but acknowledgements is longer.
const ACKNOWLEDGEMENT: usize = 300;

/// One connection.
pub(super) struct ConnectionShared {
    state: Mutex<State>,
    /// In the worker's dirty list.
    dirty: AtomicBool,
    /// Handles of the application, streams included; the last one closes the connection.
    handles: AtomicUsize,
    pub(super) link: Arc<Link>,
    pub(super) handle: ConnectionHandle,
    pub(super) side: Side,
}

/// What the lock guards.
pub(super) struct State {
    pub(super) protocol: Connection,
    waits: Waits,
    error: Option<ConnectionError>,
    connected: bool,
    /// There is or was early data.
    early: bool,
    announced: bool,
    /// When the connection was made, and how long the handshake took.
    pub(super) began: Instant,
    pub(super) handshake_time: std::time::Duration,
    lease: Lease,
    /// How short memory was when the protocol was told last.
    pressure: Pressure,
}

impl ConnectionShared {
    pub(super) fn new(link: Arc<Link>, handle: ConnectionHandle, protocol: Connection, began: Instant, lease: Lease) -> Self {
        let side = protocol.side();
        let state = State {
            protocol,
            waits: Waits::default(),
            error: None,
            connected: false,
            early: false,
            announced: false,
            began,
            handshake_time: std::time::Duration::ZERO,
            lease,
            pressure: Pressure::None,
        };
        Self { state: Mutex::new(state), dirty: AtomicBool::new(false), handles: AtomicUsize::new(0), link, handle, side }
    }

    /// Locks for a handle.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        for _ in 0..YIELDS {
            match self.state.try_lock() {
                Ok(state) => return state,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => weald_runtime::yield_now(),
            }
        }
        self.lock_in_place()
    }

    /// Locks without letting others run: for the worker's hook, and for what must not be unwound.
    pub(super) fn lock_in_place(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker must look at the connection.
    pub(super) fn mark_dirty(self: &Arc<Self>) {
        if self.set_dirty() {
            self.link.push_dirty(Arc::clone(self));
        }
    }

    /// Sets the flag; true if the caller is to put the connection on the list.
    #[must_use]
    pub(super) fn set_dirty(&self) -> bool {
        // Ordering: Release pairs with the Acquire in `take_dirty`: who clears the flag sees what was done before it was
        // found set. Most marks find it set.
        !self.dirty.load(Ordering::Relaxed) && !self.dirty.swap(true, Ordering::AcqRel)
    }

    /// Clears the flag: from here on, new marks put the connection on the list again.
    pub(super) fn take_dirty(&self) {
        // Ordering: Acquire pairs with the Release in `set_dirty`. The lock orders the rest.
        self.dirty.swap(false, Ordering::AcqRel);
    }

    /// A verb that leaves something to send.
    pub(super) fn verb<T>(self: &Arc<Self>, verb: impl FnOnce(&mut State) -> T) -> T {
        let result = verb(&mut self.lock());
        self.mark_dirty();
        result
    }

    /// Repeats `attempt` until it has a result, and parks in between. `sends` says whether it may leave something to send.
    ///
    /// # Errors
    /// The caller is cancelled.
    #[track_caller]
    pub(super) fn wait<T>(self: &Arc<Self>, sends: bool, attempt: impl FnMut(&mut State) -> Attempt<T>) -> Result<T, Cancelled> {
        let unlocked = || {
            if sends {
                self.mark_dirty();
            }
        };
        let result = wait(&**self, None, attempt, unlocked)?;
        Ok(result.expect("without a deadline there is a result"))
    }

    /// As [`ConnectionShared::wait`], for an attempt that leaves nothing to send, at most until `deadline`: `None` if it
    /// passed.
    #[track_caller]
    pub(super) fn wait_until<T>(
        &self,
        deadline: weald_runtime::time::Instant,
        attempt: impl FnMut(&mut State) -> Attempt<T>,
    ) -> Result<Option<T>, Cancelled> {
        wait(self, Some(deadline), attempt, || {})
    }

    /// Closes the connection for the application, if it is open.
    pub(super) fn close(self: &Arc<Self>, code: ApplicationCode, reason: &[u8]) {
        let mut woken = Woken::default();
        let mut state = self.lock_in_place();
        state.protocol.close(now(), code, reason);
        state.take_events(now(), &mut woken);
        drop(state);
        woken.fire();
        self.mark_dirty();
    }
}

impl State {
    /// Lets the protocol work in a round of the worker. A panic ends this connection, and the round goes on: `None`.
    pub(super) fn work<T>(&mut self, now: Instant, work: impl FnOnce(&mut Connection) -> T) -> Option<T> {
        match contain("a connection's work", || work(&mut self.protocol)) {
            Ok(result) => Some(result),
            Err(Panicked) => {
                self.protocol.on_panic(now);
                None
            }
        }
    }

    /// Counts what the connection holds, and lets it feel how short memory is. In every round that it has a part in.
    pub(super) fn account(&mut self) {
        let handshake = if self.protocol.is_confirmed() { 0 } else { HANDSHAKE };
        self.lease.set(BASE + handshake + self.protocol.held());
        let pressure = self.lease.pressure();
        if pressure != self.pressure {
            self.pressure = pressure;
            self.protocol.set_pressure(pressure);
        }
    }

    /// Whether the datagram is to be treated as lost: there is no memory left, this connection holds more than others, and the
    /// datagram may bring it more. Acknowledgements, which free some, are short.
    pub(super) fn must_lose(&self, datagram: &[u8]) -> bool {
        datagram.len() > ACKNOWLEDGEMENT && self.lease.is_large() && self.lease.pressure() == Pressure::Full
    }

    /// Why the connection is over, if it is.
    pub(super) fn error(&self) -> Option<&ConnectionError> {
        self.error.as_ref()
    }

    /// Registers who waits for `key`, until [`State::leave`] or a wake.
    pub(super) fn enlist(&mut self, key: Key, waiter: weald_runtime::Coroutine) -> u64 {
        self.waits.enlist(key, waiter)
    }

    /// Takes back a registration.
    pub(super) fn leave(&mut self, key: Key, ticket: u64) {
        self.waits.leave(key, ticket);
    }

    /// Whether the handshake is complete.
    pub(super) fn is_connected(&self) -> bool {
        self.connected
    }

    /// Whether the connection can be used: its handshake is complete, or there is early data.
    pub(super) fn is_usable(&self) -> bool {
        self.connected || self.early
    }

    /// True once, when a server's connection can be used: it can be accepted.
    #[must_use]
    pub(super) fn announce(&mut self) -> bool {
        let announces = self.is_usable() && !self.announced && self.protocol.side() == Side::Server && self.error.is_none();
        self.announced |= announces;
        announces
    }

    /// The application has the connection already, and accepts it no second time.
    pub(super) fn set_announced(&mut self) {
        self.announced = true;
    }

    /// Turns what happened into wakes. Says whether there is data for the application.
    pub(super) fn take_events(&mut self, now: Instant, woken: &mut Woken) -> bool {
        let mut data = false;
        while let Some(event) = self.protocol.poll_event() {
            data |= matches!(event, Event::Stream(StreamEvent::Readable(_)) | Event::Datagrams(DatagramEvent::Readable));
            match event {
                Event::Connected => {
                    self.connected = true;
                    self.handshake_time = now - self.began;
                    self.waits.wake(Key::CONNECTED, woken);
                }
                Event::EarlyData => {
                    self.early = true;
                    self.waits.wake(Key::CONNECTED, woken);
                }
                Event::Confirmed => {}
                Event::Stream(event) => self.on_stream_event(event, woken),
                Event::Datagrams(DatagramEvent::Readable) => self.waits.wake(Key::DATAGRAM_READABLE, woken),
                Event::Datagrams(DatagramEvent::Writable) => self.waits.wake(Key::DATAGRAM_WRITABLE, woken),
                Event::Datagrams(DatagramEvent::Sent) => self.waits.wake(Key::FLUSHED, woken),
                Event::Closed(error) => self.end(error, woken),
            }
        }
        data
    }

    /// The connection is over, as far as the application is concerned.
    pub(super) fn end(&mut self, error: ConnectionError, woken: &mut Woken) {
        self.error.get_or_insert(error);
        self.waits.wake_all(woken);
    }

    fn on_stream_event(&mut self, event: StreamEvent, woken: &mut Woken) {
        match event {
            StreamEvent::Opened(direction) => self.waits.wake(Key::opened(direction), woken),
            StreamEvent::Available(direction) => self.waits.wake(Key::available(direction), woken),
            StreamEvent::Readable(id) => self.waits.wake(Key::readable(id), woken),
            StreamEvent::Writable(id) => self.waits.wake(Key::writable(id), woken),
            StreamEvent::Finished(id) | StreamEvent::Stopped { id, .. } => {
                self.waits.wake(Key::stopped(id), woken);
                self.waits.wake(Key::FLUSHED, woken);
            }
        }
    }
}

impl Guarded for ConnectionShared {
    type State = State;

    fn lock(&self) -> MutexGuard<'_, State> {
        ConnectionShared::lock(self)
    }

    fn lock_in_place(&self) -> MutexGuard<'_, State> {
        ConnectionShared::lock_in_place(self)
    }

    fn waits(state: &mut State) -> &mut Waits {
        &mut state.waits
    }
}

/// A counted handle: a connection whose last one is dropped closes itself.
pub(super) struct ConnectionRef(Arc<ConnectionShared>);

impl ConnectionRef {
    pub(super) fn new(shared: Arc<ConnectionShared>) -> Self {
        // Relaxed: whoever makes a handle from another has a reference already.
        shared.handles.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }

    /// The same connection, without counting as a handle of the application.
    pub(super) fn uncounted(&self) -> &Arc<ConnectionShared> {
        &self.0
    }
}

impl std::ops::Deref for ConnectionRef {
    type Target = Arc<ConnectionShared>;

    fn deref(&self) -> &Arc<ConnectionShared> {
        &self.0
    }
}

impl Clone for ConnectionRef {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.0))
    }
}

impl Drop for ConnectionRef {
    fn drop(&mut self) {
        // Ordering: AcqRel, as in Arc: what all handles did comes before the close. The lock orders it too.
        if self.0.handles.fetch_sub(1, Ordering::AcqRel) == 1 && lock(&self.0.state).error.is_none() {
            self.0.close(ApplicationCode::from_u32(0), b"");
        }
    }
}
