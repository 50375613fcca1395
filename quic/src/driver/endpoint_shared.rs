//! What the parts of an endpoint share: the queue of connections to be accepted, and the endpoint's end.
//!
//! Owns who may still come in, and when the workers' hooks go: once no handle of the endpoint and no connection is left.
//! All sockets go together then, because closing one renumbers the others of its group.

use std::collections::VecDeque;
use std::ops::ControlFlow::{Break, Continue};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use weald_crypto::{CryptoPool, Tickets};
use weald_runtime::{Handle, HookId};

use super::connection::Connection;
use super::incoming::Incoming;
use super::link::{Command, Link};
use super::lock;
use super::waiting::{Guarded, wait};
use super::waits::{Key, Waits, Woken};
use crate::config::{ClientConfig, ServerConfig};
use crate::error::ApplicationCode;
use crate::governor::Governor;

/// An endpoint as its handles and its workers share it.
pub(super) struct EndpointShared {
    pub(super) runtime: Handle,
    /// One a worker, in the order in which the sockets were bound.
    pub(super) links: Vec<Arc<Link>>,
    /// `None` in a simulation.
    pub(super) crypto_pool: Option<CryptoPool>,
    /// `None` if it gives clients none.
    pub(super) tickets: Option<Tickets>,
    pub(super) governor: Governor,
    /// Connections, or clients, that wait to be accepted; past it, new clients are refused.
    pub(super) backlog: usize,
    /// Clients wait for the application's word.
    pub(super) screens: bool,
    pub(super) client_config: Mutex<Option<ClientConfig>>,
    /// Connections that are not drained.
    open: AtomicUsize,
    /// Handles of the endpoint.
    handles: AtomicUsize,
    /// The length of the queue: stored under the lock whenever it changes.
    queued: AtomicUsize,
    state: Mutex<State>,
}

/// What the lock guards.
pub(super) struct State {
    queue: VecDeque<Connection>,
    incoming: VecDeque<Incoming>,
    waits: Waits,
    /// Nothing comes in any more.
    closed: bool,
    hooks: Vec<HookId>,
}

impl EndpointShared {
    /// An endpoint with one handle.
    pub(super) fn new(
        runtime: Handle,
        links: Vec<Arc<Link>>,
        crypto_pool: Option<CryptoPool>,
        governor: Governor,
        server: Option<&ServerConfig>,
    ) -> Self {
        Self {
            runtime,
            links,
            crypto_pool,
            tickets: server.and_then(|server| server.crypto.tickets().cloned()),
            governor,
            backlog: server.map_or(0, |server| server.limits.backlog),
            screens: server.is_some_and(|server| server.screening),
            client_config: Mutex::default(),
            open: AtomicUsize::new(0),
            handles: AtomicUsize::new(1),
            queued: AtomicUsize::new(0),
            state: Mutex::new(State {
                queue: VecDeque::new(),
                incoming: VecDeque::new(),
                waits: Waits::default(),
                closed: false,
                hooks: Vec::new(),
            }),
        }
    }

    pub(super) fn add_hook(&self, hook: HookId) {
        lock(&self.state).hooks.push(hook);
    }

    /// Whether the application keeps up with those who come: another client may begin a handshake. Asked for every first
    /// packet of a flood, on all workers, so that it takes no lock.
    pub(super) fn has_room(&self) -> bool {
        // Relaxed: a client more or less, while the queue grows or shrinks, does no harm.
        self.queued.load(Ordering::Relaxed) < self.backlog
    }

    pub(super) fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    /// A connection can be accepted.
    pub(super) fn announce(&self, connection: Connection) {
        let mut woken = Woken::default();
        let mut state = lock(&self.state);
        if state.closed {
            drop(state);
            // Nobody will take it: its only handle closes it.
            drop(connection);
            return;
        }
        state.queue.push_back(connection);
        self.queued.store(state.queue.len(), Ordering::Relaxed);
        state.waits.wake(Key::ACCEPT, &mut woken);
        drop(state);
        woken.fire();
    }

    /// A client waits for the application's word.
    pub(super) fn ask(&self, incoming: Incoming) {
        let mut woken = Woken::default();
        let mut state = lock(&self.state);
        if state.closed {
            drop(state);
            // It is refused.
            drop(incoming);
            return;
        }
        state.incoming.push_back(incoming);
        state.waits.wake(Key::INCOMING, &mut woken);
        drop(state);
        woken.fire();
    }

    /// The next client that waits for the application's word, as [`EndpointShared::accept`].
    #[track_caller]
    pub(super) fn accept_incoming(&self) -> Option<Incoming> {
        let attempt = |state: &mut State| match state.incoming.pop_front() {
            Some(incoming) => Break(Some(incoming)),
            None if state.closed => Break(None),
            None => Continue(Key::INCOMING),
        };
        wait(self, None, attempt, || {}).ok().flatten().flatten()
    }

    /// The next connection, waiting for it; `None` once nothing comes in any more, or if the caller is cancelled.
    #[track_caller]
    pub(super) fn accept(&self) -> Option<Connection> {
        let accepted = wait(
            self,
            None,
            |state| match state.queue.pop_front() {
                Some(connection) => {
                    self.queued.store(state.queue.len(), Ordering::Relaxed);
                    Break(Some(connection))
                }
                None if state.closed => Break(None),
                None => Continue(Key::ACCEPT),
            },
            || {},
        );
        accepted.ok().flatten().flatten()
    }

    /// Waits until no connection is left.
    #[track_caller]
    pub(super) fn wait_idle(&self) {
        // Ordering: Acquire pairs with the Release in `on_removed`.
        let is_idle = |_: &mut State| if self.open.load(Ordering::Acquire) == 0 { Break(()) } else { Continue(Key::IDLE) };
        // Who is cancelled waits no longer.
        let _ = wait(self, None, is_idle, || {});
    }

    /// Lets nothing in any more. What waits to be accepted is closed.
    pub(super) fn stop_accepting(&self) {
        let mut woken = Woken::default();
        let mut state = lock(&self.state);
        state.closed = true;
        let queue = std::mem::take(&mut state.queue);
        let incoming = std::mem::take(&mut state.incoming);
        self.queued.store(0, Ordering::Relaxed);
        state.waits.wake(Key::ACCEPT, &mut woken);
        state.waits.wake(Key::INCOMING, &mut woken);
        drop(state);
        woken.fire();
        drop(queue);
        // They are refused.
        drop(incoming);
        for link in &self.links {
            // A worker that is gone accepts nothing anyway.
            let _ = link.command(Command::StopAccepting);
        }
    }

    /// Closes all connections, and lets nothing in any more.
    pub(super) fn close(&self, code: ApplicationCode, reason: &[u8]) {
        // The queued ones get this code, rather than that of a handle that was dropped.
        let queue = {
            let mut state = lock(&self.state);
            self.queued.store(0, Ordering::Relaxed);
            std::mem::take(&mut state.queue)
        };
        for connection in &queue {
            connection.close(code.into(), reason);
        }
        self.stop_accepting();
        let reason: Arc<[u8]> = reason.into();
        for link in &self.links {
            let _ = link.command(Command::Close { code, reason: Arc::clone(&reason) });
        }
    }

    /// How many connections are not drained.
    pub(super) fn open_connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn on_inserted(&self) {
        // Relaxed: who waits for the end asked for the connection before, or does not know of it.
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn on_removed(&self) {
        // Ordering: its Release pairs with the Acquire in `wait_idle`; SeqCst for `end_if_unused`.
        if self.open.fetch_sub(1, Ordering::SeqCst) == 1 {
            let mut woken = Woken::default();
            lock(&self.state).waits.wake(Key::IDLE, &mut woken);
            woken.fire();
            self.end_if_unused();
        }
    }

    pub(super) fn add_handle(&self) {
        // Relaxed: as in Arc.
        self.handles.fetch_add(1, Ordering::Relaxed);
    }

    /// A handle of the endpoint is gone. After the last one nobody can accept.
    pub(super) fn drop_handle(&self) {
        // Ordering: SeqCst for `end_if_unused`.
        if self.handles.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.stop_accepting();
            self.end_if_unused();
        }
    }

    /// Removes the hooks, and with them the sockets, if nobody can use the endpoint any more.
    pub(super) fn end_if_unused(&self) {
        // Ordering: SeqCst, so that of the last handle and the last connection, which go at once, one sees both gone.
        if self.handles.load(Ordering::SeqCst) == 0 && self.open.load(Ordering::SeqCst) == 0 {
            let hooks = std::mem::take(&mut lock(&self.state).hooks);
            for hook in hooks {
                self.runtime.remove_hook(hook);
            }
        }
    }
}

impl Guarded for EndpointShared {
    type State = State;

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn lock_in_place(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn waits(state: &mut State) -> &mut Waits {
        &mut state.waits
    }
}
