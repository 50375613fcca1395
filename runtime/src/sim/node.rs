//! Nodes: hosts of a simulation with names, addresses and coroutines of their own, which crash and start again.
//!
//! Owns which coroutine and which hook belongs to which life of which node. Does not own the network's side of a host (`network`)
//! nor the unwinding, which the driver has its workers do.
//!
//! Invariants:
//! - A coroutine belongs to the life that spawned it, for good; so does what a hook spawns.
//! - A life that has ended starts no coroutine and opens no socket any more.
//! - Nothing here costs a runtime that is not a simulation more than a look at a field.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::network::{HostId, Network};
use crate::hook::HookId;
use crate::primitive::Mutex;
use crate::scheduler::current::{self, Place};
use crate::task::{JoinHandle, PanicPayload, TaskPtr};
use crate::time::Instant;
use crate::{spawn, yield_now};

/// Virtual time that the coroutines of a crashed node have to end: destructors run in it, which cannot block.
const UNWIND_GRACE: Duration = Duration::from_secs(1);

/// One life of a node, from a start to a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LifeId(u64);

struct Life {
    name: Arc<str>,
    host: HostId,
    over: bool,
}

/// The nodes of a simulation.
#[derive(Default)]
pub(super) struct Nodes {
    lives: BTreeMap<LifeId, Life>,
    next: u64,
    /// By the coroutine's number.
    coroutines: BTreeMap<u64, LifeId>,
    hooks: BTreeMap<(usize, u64), LifeId>,
    /// For whom the calling thread acts while no coroutine runs, or for whom one is being spawned.
    acting: Option<LifeId>,
    /// Lives that have ended since the driver looked.
    ended: Vec<LifeId>,
    /// The first panic that nobody asks for, of which the simulation's end tells.
    lost_panic: Option<String>,
}

/// Lends the nodes of the simulation that the thread runs, if it does.
fn with<R>(f: impl FnOnce(&mut Nodes) -> R) -> Option<R> {
    Network::current().map(|network| f(&mut network.nodes.lock()))
}

fn running() -> Option<u64> {
    current::with(|local| local?.running.get().map(TaskPtr::id))
}

impl Nodes {
    fn of(&self, coroutine: Option<u64>) -> Option<LifeId> {
        self.acting.or_else(|| self.coroutines.get(&coroutine?).copied())
    }

    fn begin(&mut self, name: Arc<str>, host: HostId) -> LifeId {
        self.next += 1;
        let id = LifeId(self.next);
        self.lives.insert(id, Life { name, host, over: false });
        id
    }

    pub(super) fn take_lost_panic(&mut self) -> Option<String> {
        self.lost_panic.take()
    }

    /// The hosts of that name.
    pub(super) fn hosts_of(&self, name: &str) -> BTreeSet<HostId> {
        self.lives.values().filter(|life| &*life.name == name).map(|life| life.host).collect()
    }

    fn is_over(&self, life: LifeId) -> bool {
        self.lives.get(&life).is_none_or(|life| life.over)
    }
}

/// The host whose sockets the caller opens.
pub(super) fn current_host() -> io::Result<HostId> {
    let coroutine = running();
    let host = with(|nodes| match nodes.of(coroutine).map(|life| &nodes.lives[&life]) {
        None => Ok(HostId::WORLD),
        Some(life) if life.over => Err(io::Error::new(io::ErrorKind::NetworkDown, format!("node '{}' has crashed", life.name))),
        Some(life) => Ok(life.host),
    });
    host.unwrap_or(Ok(HostId::WORLD))
}

/// The name of the node that a coroutine belongs to.
pub(crate) fn name_of(coroutine: u64) -> Option<Arc<str>> {
    with(|nodes| Some(Arc::clone(&nodes.lives.get(nodes.coroutines.get(&coroutine)?)?.name))).flatten()
}

/// A coroutine was spawned by another, by a hook, or by nobody of a node.
pub(crate) fn on_spawn(spawner: Option<u64>, coroutine: u64) {
    with(|nodes| {
        if let Some(life) = nodes.of(spawner) {
            nodes.coroutines.insert(coroutine, life);
        }
    });
}

/// A coroutine has ended, or will not start.
pub(crate) fn on_end(coroutine: u64) {
    with(|nodes| nodes.coroutines.remove(&coroutine));
}

/// In a simulation, for messages: on which node a coroutine is, and when.
pub(crate) fn place_of(coroutine: u64) -> Option<String> {
    Network::current()?;
    let node = name_of(coroutine).map_or_else(String::new, |name| format!(" on node '{name}'"));
    Some(format!("{node}, at {:?} of simulated time", Instant::now()))
}

/// The panic of a coroutine is dropped with its result, which nobody has joined.
pub(crate) fn on_lost_panic(task: TaskPtr, payload: &PanicPayload) {
    with(|nodes| {
        nodes.lost_panic.get_or_insert_with(|| {
            let message = payload.message().map_or_else(String::new, |message| format!(": {message}"));
            format!("{} panicked, and nobody joined it{message}", task.describe())
        });
    });
}

/// Whether a coroutine must not start, because its node has crashed.
pub(crate) fn is_over(coroutine: u64) -> bool {
    with(|nodes| nodes.coroutines.get(&coroutine).is_some_and(|&life| nodes.is_over(life))).unwrap_or(false)
}

/// A hook is installed on the caller's behalf.
pub(crate) fn on_add_hook(hook: HookId) {
    let coroutine = running();
    with(|nodes| {
        if let Some(life) = nodes.of(coroutine) {
            nodes.hooks.insert((hook.worker, hook.number), life);
        }
    });
}

/// Runs a part of a hook as its node.
pub(crate) fn as_hook<R>(hook: HookId, call: impl FnOnce() -> R) -> R {
    let life = with(|nodes| nodes.hooks.get(&(hook.worker, hook.number)).copied()).flatten();
    acting(life, call)
}

fn acting<R>(life: Option<LifeId>, call: impl FnOnce() -> R) -> R {
    struct Reset(Option<LifeId>);
    impl Drop for Reset {
        fn drop(&mut self) {
            with(|nodes| nodes.acting = self.0);
        }
    }
    let _reset = Reset(with(|nodes| std::mem::replace(&mut nodes.acting, life)).flatten());
    call()
}

/// What a crash ends on the workers.
pub(crate) struct Crash {
    coroutines: BTreeSet<u64>,
    hooks: BTreeSet<(usize, u64)>,
}

impl Crash {
    pub(crate) fn has_coroutine(&self, coroutine: u64) -> bool {
        self.coroutines.contains(&coroutine)
    }

    pub(crate) fn has_hook(&self, hook: HookId) -> bool {
        self.hooks.contains(&(hook.worker, hook.number))
    }
}

/// What has crashed since the last call.
pub(super) fn take_crash() -> Option<Crash> {
    with(|nodes| {
        let ended = std::mem::take(&mut nodes.ended);
        if ended.is_empty() {
            return None;
        }
        let coroutines = nodes.coroutines.iter().filter(|(_, life)| ended.contains(life)).map(|(&id, _)| id).collect();
        let hooks = nodes.hooks.iter().filter(|(_, life)| ended.contains(life)).map(|(&id, _)| id).collect();
        Some(Crash { coroutines, hooks })
    })
    .flatten()
}

/// Describes a node to be started in the simulation that runs the caller: a host with a name, and with addresses of its own.
///
/// ```
/// use std::time::Duration;
/// use weald_runtime::net::UdpSocket;
/// use weald_runtime::sim;
///
/// fn echo() {
///     let socket = UdpSocket::bind("0.0.0.0:7").unwrap();
///     let mut buffer = [0; 100];
///     while let Ok((len, from)) = socket.recv_from(&mut buffer) {
///         socket.send_to(&buffer[..len], from).unwrap();
///     }
/// }
///
/// sim::run(1, || {
///     let server = sim::node("server").address("10.0.0.1".parse().unwrap()).start();
///     server.spawn(echo);
///     let client = sim::node("client").start();
///     let asking = client.spawn(|| {
///         let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
///         socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
///         let mut answers = Vec::new();
///         for _ in 0..5 {
///             socket.send_to(b"hello", "10.0.0.1:7").unwrap();
///             answers.push(socket.recv_from(&mut [0; 100]).is_ok());
///         }
///         answers
///     });
///     weald_runtime::sleep(Duration::from_millis(3));
///     server.crash();
///     weald_runtime::sleep(Duration::from_millis(1500));
///     server.restart(echo);
///     assert_eq!(asking.join().unwrap(), [true, false, false, true, true]);
/// });
/// ```
pub fn node(name: &str) -> NodeBuilder {
    NodeBuilder { name: name.into(), addresses: Vec::new() }
}

/// Chooses a node's addresses; see [`node`].
#[derive(Clone, Debug)]
#[must_use]
pub struct NodeBuilder {
    name: Arc<str>,
    addresses: Vec<IpAddr>,
}

impl NodeBuilder {
    /// Gives the node an address, beside those that it has. Without any it gets a free one of 198.18.0.0/15.
    pub fn address(mut self, address: IpAddr) -> Self {
        self.addresses.push(address);
        self
    }

    /// Starts the node. Nothing runs on it yet.
    ///
    /// # Panics
    ///
    /// Outside of a simulation; if another node has one of the addresses, or if one is unspecified or a loopback address.
    #[track_caller]
    pub fn start(self) -> Node {
        let Some(network) = Network::current() else { panic!("a node is part of a simulation: start it inside of sim::run") };
        match network.add_host(self.addresses) {
            Ok((host, addresses)) => {
                let Some(life) = with(|nodes| nodes.begin(Arc::clone(&self.name), host)) else {
                    panic!("a node is part of a simulation: start it inside of sim::run");
                };
                Node { inner: Arc::new(Inner { name: self.name, addresses, host, network, life: Mutex::new(life) }) }
            }
            Err(error) => panic!("cannot start node '{}': {error}", self.name),
        }
    }
}

/// A host of a simulation, see [`node`]; a clone is another handle to the same.
///
/// What its coroutines spawn is the node's, too. They bind and connect from the node's addresses only, and each node has
/// loopback addresses and ports of its own. Coroutines outside of all nodes share a host that has every other address.
///
/// All nodes share the simulation's workers, and memory: what a node should lose in a crash must be owned by its coroutines, what
/// it should find again (its disk) by somebody else.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    name: Arc<str>,
    addresses: Vec<IpAddr>,
    host: HostId,
    network: Network,
    life: Mutex<LifeId>,
}

impl Node {
    /// The name that it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Its addresses, at least one.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        &self.inner.addresses
    }

    /// The first of its addresses.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.inner.addresses[0]
    }

    /// Whether it runs: from its start, or a [`restart`](Self::restart), to a crash.
    #[must_use]
    pub fn is_up(&self) -> bool {
        let life = self.life();
        with(|nodes| !nodes.is_over(life)).unwrap_or(false)
    }

    /// Runs `f` in a coroutine of the node. While the node is down it is not run, and joining it says that it was cancelled.
    ///
    /// # Panics
    ///
    /// Outside of the simulation's coroutines.
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        acting(Some(self.life()), || spawn(f))
    }

    /// Cuts the power: whatever is in flight from or to the node vanishes, its sockets are gone without a word, and then its
    /// coroutines are unwound, as if their next park panicked. Peers learn of it by their time-outs, or are reset when they send
    /// something to the restarted node. Returns when all of the node's coroutines have ended, or at once if it is called by one
    /// of them (which is then unwound when it next waits) or by nobody, in a [scheduled](Network::schedule) change. Does nothing
    /// if the node is down.
    ///
    /// # Panics
    ///
    /// If a coroutine does not end within a second, because it swallows the unwinding.
    ///
    /// # Aborts
    ///
    /// In a program built with `panic = "abort"`, which cannot unwind what the node runs.
    #[track_caller]
    pub fn crash(&self) {
        self.end(Network::cut_host);
    }

    /// Kills the node's process: as a [`crash`](Self::crash), but the host stays up, resets the streams, and answers what comes
    /// that nobody listens.
    ///
    /// # Panics
    ///
    /// As for [`crash`](Self::crash).
    #[track_caller]
    pub fn kill(&self) {
        self.end(Network::reset_host);
    }

    /// Starts the node anew, after a crash of it if it is up, and runs `f` in its first coroutine.
    ///
    /// # Panics
    ///
    /// As for [`crash`](Self::crash) and [`spawn`](Self::spawn).
    #[track_caller]
    pub fn restart<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.crash();
        self.inner.network.revive_host(self.inner.host);
        let life = with(|nodes| nodes.begin(Arc::clone(&self.inner.name), self.inner.host));
        if let Some(life) = life {
            *self.inner.life.lock() = life;
        }
        self.spawn(f)
    }

    fn life(&self) -> LifeId {
        *self.inner.life.lock()
    }

    #[track_caller]
    fn end(&self, cut: fn(&Network, Instant, HostId)) {
        let life = self.life();
        let coroutine = running();
        let own = with(|nodes| {
            if nodes.is_over(life) {
                return None;
            }
            Some(nodes.of(coroutine) == Some(life))
        });
        let Some(Some(own)) = own else { return };
        // The network first: nothing of what the unwinding does gets out.
        cut(&self.inner.network, Instant::now(), self.inner.host);
        with(|nodes| {
            nodes.ended.push(life);
            nodes.lives.entry(life).and_modify(|life| life.over = true);
        });
        if own || current::place() != Place::Coroutine {
            return;
        }
        let deadline = Instant::now() + UNWIND_GRACE;
        while with(|nodes| nodes.coroutines.values().any(|&other| other == life)).unwrap_or(false) {
            assert!(Instant::now() < deadline, "a coroutine of node '{}' did not end in its crash", self.inner.name);
            yield_now();
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("name", &self.inner.name).field("addresses", &self.inner.addresses).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
