//! Owns the inbox: an intrusive stack into which any thread pushes and from which one owner takes everything.
//!
//! It does not own the nodes' memory nor wake the owner (see `idle`).
//!
//! Invariants: a node is in at most one queue at a time, so one link in the node serves all; a push allocates nothing; as
//! the owner only ever takes the whole chain, there is no ABA. `drain` gives nodes in the order in which they were pushed.

use std::ptr::{self, NonNull};

use crate::primitive::atomic::{AtomicPtr, Ordering};

/// Something that can stand in an inbox.
///
/// # Safety
///
/// `link` always returns the same field of the node, and while the node is in a queue nobody else uses that field.
pub(crate) unsafe trait Node: Sized {
    /// The field that links the node to the next.
    fn link(&self) -> &AtomicPtr<Self>;
}

/// Many producers, one consumer.
#[derive(Debug)]
pub(crate) struct Inbox<N> {
    newest: AtomicPtr<N>,
}

impl<N: Node> Inbox<N> {
    /// Makes an empty inbox.
    pub(crate) fn new() -> Self {
        Self { newest: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Adds a node.
    ///
    /// # Safety
    ///
    /// The node is in no queue, and stays alive and in its place until `drain` has given it out.
    pub(crate) unsafe fn push(&self, node: NonNull<N>) {
        // SAFETY: the caller keeps the node alive.
        let link = unsafe { node.as_ref() }.link();
        // Ordering: Relaxed, the exchange below publishes.
        let mut newest = self.newest.load(Ordering::Relaxed);
        loop {
            link.store(newest, Ordering::Relaxed);
            // Ordering: Release pairs with the Acquire in `drain`: the link and the node's content are visible there.
            match self.newest.compare_exchange_weak(newest, node.as_ptr(), Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => newest = now,
            }
        }
    }

    /// Whether there is nothing to take. Before a sleep it is asked behind a SeqCst fence, see `idle`.
    pub(crate) fn is_empty(&self) -> bool {
        // Ordering: Relaxed; the fences in `idle` order it against the sleeper's state.
        self.newest.load(Ordering::Relaxed).is_null()
    }

    /// Takes all nodes, and gives each to `take`, the oldest first.
    pub(crate) fn drain(&self, mut take: impl FnMut(NonNull<N>)) {
        if self.is_empty() {
            return;
        }
        // Ordering: Acquire pairs with the Release in `push`.
        let mut node = self.newest.swap(ptr::null_mut(), Ordering::Acquire);
        let mut oldest: *mut N = ptr::null_mut();
        while let Some(current) = NonNull::new(node) {
            // SAFETY: pushed nodes live until they are given out.
            let link = unsafe { current.as_ref() }.link();
            node = link.load(Ordering::Relaxed);
            link.store(oldest, Ordering::Relaxed);
            oldest = current.as_ptr();
        }
        while let Some(current) = NonNull::new(oldest) {
            // SAFETY: as above; the link is read before the node is given out.
            oldest = unsafe { current.as_ref() }.link().load(Ordering::Relaxed);
            take(current);
        }
    }
}

#[cfg(test)]
struct TestNode {
    number: u32,
    link: AtomicPtr<TestNode>,
}

#[cfg(test)]
// SAFETY: one field, used by nobody else.
unsafe impl Node for TestNode {
    fn link(&self) -> &AtomicPtr<Self> {
        &self.link
    }
}

#[cfg(test)]
fn leak_node(number: u32) -> NonNull<TestNode> {
    NonNull::from(Box::leak(Box::new(TestNode { number, link: AtomicPtr::new(ptr::null_mut()) })))
}

#[cfg(test)]
fn reclaim(node: NonNull<TestNode>) -> u32 {
    // SAFETY: made by `leak_node`, given out once.
    unsafe { Box::from_raw(node.as_ptr()) }.number
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn gives_nodes_in_the_order_of_their_arrival() {
        let inbox = Inbox::new();
        assert!(inbox.is_empty());
        for number in 0..5 {
            // SAFETY: fresh nodes, reclaimed when given out.
            unsafe { inbox.push(leak_node(number)) };
        }
        assert!(!inbox.is_empty());
        let mut seen = Vec::new();
        inbox.drain(|node| seen.push(reclaim(node)));
        assert_eq!(seen, [0, 1, 2, 3, 4]);
        assert!(inbox.is_empty());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::super::idle::Sleeper;
    use super::*;
    use crate::primitive::{Arc, Condvar, Mutex};
    use crate::wait_list::loom_tests::model;
    use loom::thread;

    #[test]
    fn loom_inbox_never_sleeps_on_a_push() {
        model(|| pushes_reach_a_sleeper(1));
    }

    /// Two pushes, which also race with each other.
    #[test]
    fn loom_inbox_never_sleeps_on_one_of_two_pushes() {
        model(|| pushes_reach_a_sleeper(2));
    }

    /// `count` pushers against an owner that takes, and goes to sleep when it finds nothing: the owner gets every node, and
    /// is rung if it slept.
    fn pushes_reach_a_sleeper(pushes: u32) {
        let shared = Arc::new((Inbox::new(), Sleeper::new(), Mutex::new(false), Condvar::new()));
        let pushers: Vec<_> = (0..pushes)
            .map(|number| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let (inbox, sleeper, rung, bell) = &*shared;
                    // SAFETY: a fresh node, reclaimed when given out.
                    unsafe { inbox.push(leak_node(number)) };
                    if sleeper.must_ring() {
                        *rung.lock() = true;
                        bell.notify_one();
                    }
                })
            })
            .collect();
        let (inbox, sleeper, rung, bell) = &*shared;
        let mut sum = 0;
        let mut count = 0;
        while count < pushes {
            inbox.drain(|node| {
                count += 1;
                sum += reclaim(node);
            });
            if count == pushes {
                break;
            }
            sleeper.sleep(
                || !inbox.is_empty(),
                || {
                    let mut guard = rung.lock();
                    while !std::mem::take(&mut *guard) {
                        guard = bell.wait(guard);
                    }
                },
            );
        }
        assert_eq!(sum, (0..pushes).sum());
        for pusher in pushers {
            pusher.join().expect("pushers do not panic");
        }
    }
}
