//! Owns cancellation by tokens: which tokens are children of which, who is inside of which, and the telling of all when one
//! is cancelled.
//!
//! It does not own what a cancelled coroutine or thread sees: that is a flag, in `task_state` for one and in `park` for the
//! other, which [`Waiter::interrupt`] sets and its owner takes back.
//!
//! Invariants:
//! - A token is cancelled once and for good.
//! - The flag of somebody who is inside of a token is set under that token's lock, and who leaves takes his entry out under
//!   the same lock first. So after leaving no flag is set on this token's behalf.
//! - Who takes the flag back looks at the tokens that he is still inside of. One that is cancelled says so before it sets the
//!   flag: so it is seen to be cancelled then, or sets the flag afterwards.
//! - A parent holds a child only while somebody has a handle of the child or of one of its descendants. At no time are the
//!   locks of two tokens held.
//! - Chains of tokens may be long and are walked in loops, never by recursion: stacks are small.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::time::Duration;

#[cfg(not(loom))]
use crate::park::Coroutine;
use crate::park::{Waiter, WaitsFor};
use crate::primitive::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::primitive::{Arc, Mutex};
#[cfg(not(loom))]
use crate::select::Readiness;
use crate::spin_lock::SpinLock;
use crate::sync::{Cancelled, WaitError};
#[cfg(not(loom))]
use crate::time::Instant;
use crate::wait_list::{self, Limit, Outcome, WaitList};

/// Flags set in one go: bounds how long a token's lock is held.
const BATCH: usize = 64;

/// Tells many at once to end: a request's coroutines, a connection's, a server's.
///
/// A coroutine spawned under a token ([`Builder::cancellation`](crate::Builder::cancellation)), and whoever is inside of
/// [`run`](Self::run), is cancelled with it: its blocking calls return their errors of cancellation, at once and for as long as
/// it stays inside. Nothing is unwound. Calls that cannot fail (`Mutex::lock`, `sleep`, `park`) and those inside of
/// [`shield`](crate::shield) wait as ever.
///
/// A clone is the same token. A [child](Self::child_token) is cancelled with its parent, and can be cancelled alone.
///
/// A coroutine that is spawned does not inherit the tokens of its spawner, since it may outlive what they stand for; the
/// children of a [`scope`](crate::scope) do.
///
/// ```
/// use std::time::Duration;
/// use weald_runtime::{Builder, CancellationToken, channel::RecvError};
///
/// weald_runtime::run(|| {
///     let token = CancellationToken::new();
///     let (sender, receiver) = weald_runtime::channel::bounded::<u8>(1);
///     let child = Builder::new().cancellation(token.child_token()).spawn(move || receiver.recv());
///     token.cancel();
///     assert_eq!(child.join().expect("no panic"), Err(RecvError::Cancelled));
///     drop(sender);
/// });
/// ```
pub struct CancellationToken {
    /// `None` only in the middle of a drop.
    node: Option<Arc<Node>>,
}

/// Cancels its token when dropped; see [`CancellationToken::drop_guard`].
#[must_use = "a guard that is dropped at once cancels at once"]
#[derive(Debug)]
pub struct DropGuard {
    token: Option<CancellationToken>,
}

struct Node {
    /// Written under the lock of `links`.
    cancelled: AtomicBool,
    /// Handles, and children that count as one each. Without any, nobody can cancel this node, nor ask it but from inside.
    handles: AtomicUsize,
    links: Mutex<Links>,
    waiting: SpinLock<Waiting>,
}

struct Links {
    next_number: u64,
    /// By number, so in their order of coming.
    inside: BTreeMap<u64, Waiter>,
    children: BTreeMap<u64, Arc<Node>>,
    /// Those who select the token.
    #[cfg(not(loom))]
    selecting: BTreeMap<u64, Coroutine>,
    /// The parent, and the number that this node has there. Holds one of the parent's handles.
    parent: Option<(Arc<Node>, u64)>,
}

/// Those in `CancellationToken::wait`.
struct Waiting {
    over: bool,
    list: WaitList<()>,
}

impl CancellationToken {
    /// A token that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self { node: Some(Arc::new(Node::new(None, false))) }
    }

    /// A token that is cancelled when this one is, or by itself.
    #[must_use]
    pub fn child_token(&self) -> Self {
        let parent = self.node();
        let mut links = parent.links.lock();
        if parent.is_cancelled() {
            return Self { node: Some(Arc::new(Node::new(None, true))) };
        }
        let number = links.number();
        // Ordering: Relaxed, the handle from which this one is made keeps the count above nought.
        parent.handles.fetch_add(1, Ordering::Relaxed);
        let node = Arc::new(Node::new(Some((Arc::clone(parent), number)), false));
        links.children.insert(number, Arc::clone(&node));
        Self { node: Some(node) }
    }

    /// Cancels the token and its descendants, for good, and wakes all who wait inside of them. A second call does nothing.
    pub fn cancel(&self) {
        let mut nodes = vec![Arc::clone(self.node())];
        while let Some(node) = nodes.pop() {
            nodes.extend(node.cancel());
        }
    }

    /// Whether the token was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.node().is_cancelled()
    }

    /// Runs `f` in the calling coroutine, or plain thread, which is cancelled when the token is, until `f` returns.
    ///
    /// Calls nest: inside of several tokens, each of them cancels.
    ///
    /// # Panics
    ///
    /// On a worker's own stack, where nothing waits.
    #[track_caller]
    pub fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        let _inside = Inside::enter(self);
        f()
    }

    /// Waits until the token is cancelled.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if the caller is cancelled by something else.
    #[track_caller]
    pub fn wait(&self) -> Result<(), Cancelled> {
        self.wait_limited(Limit::Never).map_err(|_| Cancelled::new(()))
    }

    /// As [`wait`](Self::wait), but not longer than `timeout`: a pause that the token ends.
    ///
    /// # Errors
    ///
    /// [`WaitError`]: the time is over, or the caller is cancelled by something else.
    #[track_caller]
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), WaitError> {
        self.wait_limited(Limit::After(timeout))
    }

    /// As [`wait_timeout`](Self::wait_timeout), until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`wait_timeout`](Self::wait_timeout).
    #[cfg(not(loom))]
    #[track_caller]
    pub fn wait_deadline(&self, deadline: Instant) -> Result<(), WaitError> {
        self.wait_limited(Limit::At(deadline))
    }

    #[track_caller]
    fn wait_limited(&self, limit: Limit) -> Result<(), WaitError> {
        let waiting = self.node().waiting.lock();
        if waiting.over {
            return Ok(());
        }
        match wait_list::wait(&Over, (), waiting, limit) {
            ((), Outcome::Claimed) => Ok(()),
            // Inside of this very token both happen at once.
            ((), _) if self.is_cancelled() => Ok(()),
            ((), Outcome::TimedOut) => Err(WaitError::Timeout),
            ((), Outcome::Cancelled) => Err(WaitError::Cancelled),
        }
    }

    /// A guard that cancels the token when it is dropped, so also when its owner panics or returns early.
    ///
    /// ```
    /// use weald_runtime::CancellationToken;
    ///
    /// let token = CancellationToken::new();
    /// let guard = token.clone().drop_guard();
    /// drop(guard);
    /// assert!(token.is_cancelled());
    /// ```
    pub fn drop_guard(self) -> DropGuard {
        DropGuard { token: Some(self) }
    }

    fn node(&self) -> &Arc<Node> {
        self.node.as_ref().expect("taken by the drop alone")
    }
}

impl Default for CancellationToken {
    fn default() -> Self {
        Self::new()
    }
}

impl Clone for CancellationToken {
    fn clone(&self) -> Self {
        // Ordering: Relaxed, as in `child_token`.
        self.node().handles.fetch_add(1, Ordering::Relaxed);
        Self { node: self.node.clone() }
    }
}

impl Drop for CancellationToken {
    fn drop(&mut self) {
        let mut node = self.node.take();
        while let Some(current) = node {
            // Ordering: AcqRel, so that whoever finds the last handle gone comes after all that the others did.
            if current.handles.fetch_sub(1, Ordering::AcqRel) != 1 {
                return;
            }
            let parent = current.links.lock().parent.take();
            node = parent.map(|(parent, number)| {
                // Not the last reference, `current` is another.
                drop(parent.links.lock().children.remove(&number));
                parent
            });
        }
    }
}

impl fmt::Debug for CancellationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancellationToken").field("is_cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}

impl DropGuard {
    /// Gives the token back, which is not cancelled then.
    #[must_use]
    pub fn disarm(mut self) -> CancellationToken {
        self.token.take().expect("taken by this method or the drop alone")
    }
}

impl Drop for DropGuard {
    fn drop(&mut self) {
        if let Some(token) = &self.token {
            token.cancel();
        }
    }
}

impl Node {
    fn new(parent: Option<(Arc<Self>, u64)>, cancelled: bool) -> Self {
        let links = Links {
            next_number: 0,
            inside: BTreeMap::new(),
            children: BTreeMap::new(),
            #[cfg(not(loom))]
            selecting: BTreeMap::new(),
            parent,
        };
        Self {
            cancelled: AtomicBool::new(cancelled),
            handles: AtomicUsize::new(1),
            links: Mutex::new(links),
            waiting: SpinLock::new(Waiting { over: cancelled, list: WaitList::new() }),
        }
    }

    fn is_cancelled(&self) -> bool {
        // Ordering: Acquire pairs with the Release in `cancel`: what came before the cancellation is seen.
        self.cancelled.load(Ordering::Acquire)
    }

    /// Cancels this node alone, and returns its children, for the same.
    fn cancel(&self) -> impl Iterator<Item = Arc<Self>> {
        let mut links = self.links.lock();
        // Ordering: Release pairs with the Acquire in `is_cancelled`. Before the flags below are set; see the module's invariants.
        if self.cancelled.swap(true, Ordering::Release) {
            return BTreeMap::new().into_values();
        }
        let children = mem::take(&mut links.children);
        #[cfg(not(loom))]
        let selecting = mem::take(&mut links.selecting);
        let mut interrupted = Vec::new();
        while !links.inside.is_empty() {
            for _ in 0..BATCH {
                let Some((_, waiter)) = links.inside.pop_first() else { break };
                if waiter.interrupt() {
                    interrupted.push(waiter);
                }
            }
            drop(links);
            interrupted.drain(..).for_each(|waiter| waiter.resume_interrupted());
            links = self.links.lock();
        }
        drop(links);
        #[cfg(not(loom))]
        selecting.values().for_each(Coroutine::unpark);
        let mut waiting = self.waiting.lock();
        waiting.over = true;
        wait_list::wake_all(waiting, |waiting| &mut waiting.list, |()| ());
        children.into_values()
    }
}

impl Links {
    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}

/// `wait(&token)` in a [`select!`](crate::select!): the token is cancelled. The error says that the caller is, by something else.
#[cfg(not(loom))]
impl Readiness for &CancellationToken {
    type Output = Result<(), Cancelled>;
    type Registration = u64;

    fn attempt(&mut self) -> Option<Self::Output> {
        self.is_cancelled().then_some(Ok(()))
    }

    fn register(&mut self, waiter: &Coroutine) -> u64 {
        let mut links = self.node().links.lock();
        let number = links.number();
        // Afterwards nobody would take it out; the try that follows sees the cancellation.
        if !self.is_cancelled() {
            links.selecting.insert(number, waiter.clone());
        }
        number
    }

    fn unregister(&mut self, number: u64) {
        let own = self.node().links.lock().selecting.remove(&number);
        drop(own);
    }

    fn cancelled(&mut self) -> Self::Output {
        if self.is_cancelled() { Ok(()) } else { Err(Cancelled::new(())) }
    }
}

/// The wait for a token's end.
struct Over;

impl wait_list::Source for Over {
    type State = Waiting;
    type Payload = ();

    fn waits_for(&self) -> WaitsFor {
        WaitsFor::Cancellation
    }

    fn waiters(state: &mut Waiting) -> &mut WaitList<()> {
        &mut state.list
    }

    fn abandon(&self, (): &mut (), _: bool) {}
}

/// The end of the caller's innermost stay inside of a token.
struct Inside(());

/// A stay inside of a token.
struct Stay {
    token: CancellationToken,
    /// The number in the token's list. `None`: the token was cancelled before, so the caller set his flag himself.
    number: Option<u64>,
}

impl Inside {
    #[track_caller]
    fn enter(token: &CancellationToken) -> Self {
        let waiter = Waiter::current();
        let node = token.node();
        let mut links = node.links.lock();
        let number = (!node.is_cancelled()).then(|| links.number());
        match number {
            Some(number) => {
                links.inside.insert(number, waiter);
            }
            None => {
                drop(links);
                // The caller runs, so there is nobody to resume.
                let _ = waiter.interrupt();
            }
        }
        inside(|stays| stays.push(Stay { token: token.clone(), number }));
        Self(())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let Some(Stay { token, number }) = inside(Vec::pop) else { return };
        let entry = number.and_then(|number| token.node().links.lock().inside.remove(&number));
        // Taken out by the cancellation, which has set the flag.
        if entry.is_none() {
            let waiter = Waiter::current();
            waiter.end_interrupt();
            if inside(|stays| stays.iter().any(|stay| stay.token.is_cancelled())) {
                let _ = waiter.interrupt();
            }
        }
    }
}

/// Lends the caller's stays inside of tokens, the innermost last.
fn inside<R>(f: impl FnOnce(&mut Vec<Stay>) -> R) -> R {
    INSIDE.with(|stays| f(&mut stays.borrow_mut()))
}

#[cfg(not(loom))]
crate::coroutine_local! {
    static INSIDE: RefCell<Vec<Stay>> = const { RefCell::new(Vec::new()) };
}

#[cfg(loom)]
crate::primitive::thread_local! {
    static INSIDE: RefCell<Vec<Stay>> = RefCell::new(Vec::new());
}

/// The tokens that the caller is inside of, for those whom it spawns into a scope.
#[cfg(not(loom))]
pub(crate) fn inherited() -> Box<[CancellationToken]> {
    inside(|stays| stays.iter().map(|stay| stay.token.clone()).collect())
}

/// Runs `f` inside of all `tokens`.
#[cfg(not(loom))]
pub(crate) fn run_inside<R>(tokens: &[CancellationToken], f: impl FnOnce() -> R) -> R {
    let _inside: Vec<_> = tokens.iter().map(Inside::enter).collect();
    f()
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;
