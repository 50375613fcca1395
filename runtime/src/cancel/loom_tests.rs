//! Models of a token: cancellation against a park, a stay's end, a wake, a nested stay, a new child and a wait.

use loom::thread;

use super::*;
use crate::park::{self, Unparked};
use crate::primitive::Arc;
use crate::time::Instant;
use crate::wait_list::loom_tests::model;

const PAST: Option<Instant> = Some(Instant::from_nanos(0));

fn cancelling(token: &CancellationToken) -> thread::JoinHandle<()> {
    let token = token.clone();
    thread::spawn(move || token.cancel())
}

#[test]
fn loom_cancel_reaches_a_park() {
    model(|| {
        let token = CancellationToken::new();
        let canceller = cancelling(&token);
        token.run(|| assert_eq!(park::park_until(None), Unparked::Cancelled));
        assert_eq!(park::park_until(PAST), Unparked::TimedOut);
        canceller.join().unwrap();
    });
}

#[test]
fn loom_cancel_leaves_nothing_on_one_who_has_left() {
    model(|| {
        let token = CancellationToken::new();
        let canceller = cancelling(&token);
        token.run(|| ());
        assert_eq!(park::park_until(PAST), Unparked::TimedOut);
        canceller.join().unwrap();
        assert_eq!(park::park_until(PAST), Unparked::TimedOut);
        assert!(token.node().links.lock().inside.is_empty());
    });
}

#[test]
fn loom_cancel_eats_no_wake() {
    model(|| {
        let token = CancellationToken::new();
        let canceller = cancelling(&token);
        let waiter = Waiter::current();
        let waker = thread::spawn(move || waiter.unpark());
        let first = token.run(|| park::park_until(None));
        // If the cancellation came first the token is still there, or still to come.
        if first == Unparked::Cancelled {
            assert_eq!(park::park_until(None), Unparked::Token);
        }
        canceller.join().unwrap();
        waker.join().unwrap();
    });
}

#[test]
fn loom_leaving_one_token_keeps_the_cancellation_of_the_other() {
    model(|| {
        let (outer, inner) = (CancellationToken::new(), CancellationToken::new());
        let cancellers = [cancelling(&outer), cancelling(&inner)];
        outer.run(|| {
            inner.run(|| ());
            assert_eq!(park::park_until(None), Unparked::Cancelled);
        });
        assert_eq!(park::park_until(PAST), Unparked::TimedOut);
        cancellers.into_iter().for_each(|canceller| canceller.join().unwrap());
    });
}

#[test]
fn loom_a_child_is_cancelled_whenever_it_comes_and_goes() {
    model(|| {
        let parent = CancellationToken::new();
        let canceller = cancelling(&parent);
        let child = parent.child_token();
        let grandchild = child.child_token();
        drop(child);
        canceller.join().unwrap();
        assert!(grandchild.is_cancelled());
        drop(grandchild);
        assert!(parent.node().links.lock().children.is_empty());
        assert_eq!(parent.node().handles.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn loom_the_last_two_handles_of_a_child_go_at_once() {
    model(|| {
        let parent = CancellationToken::new();
        let child = parent.child_token();
        let other = child.clone();
        let dropper = thread::spawn(move || drop(other));
        drop(child);
        dropper.join().unwrap();
        assert!(parent.node().links.lock().children.is_empty());
        assert_eq!(Arc::strong_count(parent.node()), 1);
    });
}

#[test]
fn loom_cancel_ends_a_wait() {
    model(|| {
        let token = CancellationToken::new();
        let canceller = cancelling(&token);
        token.wait().unwrap();
        assert!(token.is_cancelled());
        canceller.join().unwrap();
    });
}
