//! Models of the claim: who ends a wait, and that nobody's notification is lost.

use super::*;
use crate::primitive::Arc;

/// A source that hands one number to the first waiter.
struct Mailbox(SpinLock<WaitList<Option<u32>>>);

impl Mailbox {
    fn new() -> Arc<Self> {
        Arc::new(Self(SpinLock::new(WaitList::new())))
    }

    fn hand_over(&self, number: u32) -> bool {
        let mut waiters = self.0.lock();
        let waiter = waiters.claim_first().map(|first| {
            first.with_payload(|payload| *payload = Some(number));
            first.deliver()
        });
        drop(waiters);
        waiter.map(|waiter| waiter.unpark()).is_some()
    }

    fn wait(&self, limit: Limit) -> (Option<u32>, Outcome) {
        wait(self, None, self.0.lock(), limit)
    }
}

impl Source for Mailbox {
    type State = WaitList<Option<u32>>;
    type Payload = Option<u32>;

    fn waits_for(&self) -> WaitsFor {
        WaitsFor::Other
    }

    fn waiters(state: &mut Self::State) -> &mut WaitList<Option<u32>> {
        state
    }

    fn abandon(&self, _payload: &mut Option<u32>, _claimed: bool) {
        unreachable!("the models do not unwind");
    }
}

/// A deadline that has passed: the park returns at once unless the token is there, at whatever point the model chooses.
fn at_once() -> Limit {
    Limit::At(Instant::from_nanos(0))
}

/// Checks `body` with at most four preemptions, or `LOOM_MAX_PREEMPTIONS`.
pub(crate) fn model(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(builder.preemption_bound.unwrap_or(4));
    builder.check(body);
}

#[test]
fn loom_wait_list_time_out_against_notify() {
    model(|| {
        let mailbox = Mailbox::new();
        let notifier = {
            let mailbox = mailbox.clone();
            loom::thread::spawn(move || mailbox.hand_over(7))
        };
        let (payload, outcome) = mailbox.wait(at_once());
        let handed_over = notifier.join().unwrap();
        assert_eq!(payload, handed_over.then_some(7), "handed over means received");
        assert_eq!(outcome, if handed_over { Outcome::Claimed } else { Outcome::TimedOut });
        assert!(mailbox.0.lock().is_empty());
    });
}

#[test]
fn loom_wait_list_two_notifiers_one_waiter() {
    model(|| {
        let mailbox = Mailbox::new();
        let notifiers = [1, 2].map(|number| {
            let mailbox = mailbox.clone();
            loom::thread::spawn(move || mailbox.hand_over(number))
        });
        let (payload, _) = mailbox.wait(at_once());
        let handed_over = notifiers.map(|notifier| notifier.join().unwrap());
        match payload {
            None => assert_eq!(handed_over, [false, false]),
            Some(number) => assert_eq!(handed_over, [number == 1, number == 2]),
        }
    });
}

/// A token that is not the notifier's lets the waiter look while the notifier is at work on its node. It touches the payload only
/// when that is published, and leaves only when the notifier is done.
#[test]
fn loom_wait_list_stray_token_against_notify() {
    model(|| {
        let mailbox = Mailbox::new();
        let notifier = {
            let mailbox = mailbox.clone();
            loom::thread::spawn(move || {
                while !mailbox.hand_over(7) {
                    loom::thread::yield_now();
                }
            })
        };
        let stray = {
            let waiter = park::Waiter::current();
            loom::thread::spawn(move || waiter.unpark())
        };
        assert_eq!(mailbox.wait(Limit::Never), (Some(7), Outcome::Claimed));
        notifier.join().unwrap();
        stray.join().unwrap();
    });
}

/// The notifier that loses against a select, which ends its wait without the lock, goes to the next waiter.
#[test]
fn loom_wait_list_loser_goes_to_the_next() {
    model(|| {
        let mailbox = Mailbox::new();
        let (hasty, patient) = (Wait::new(LentWaiter::current()), Wait::new(LentWaiter::current()));
        let nodes = [Node::new(&hasty, 0, None), Node::new(&patient, 0, None)];
        for node in &nodes {
            // SAFETY: removed below, before `nodes` and the waits end.
            unsafe { mailbox.0.lock().push_back(node) };
        }
        let notifier = {
            let mailbox = mailbox.clone();
            loom::thread::spawn(move || mailbox.hand_over(7))
        };
        let left = hasty.withdraw(Withdrawal::TimedOut).is_ok();
        // SAFETY: pushed into this list above.
        unsafe { mailbox.0.lock().remove(&nodes[0]) };
        assert!(notifier.join().unwrap(), "the patient one is still there");
        // SAFETY: as above.
        unsafe { mailbox.0.lock().remove(&nodes[1]) };
        let expected = if left { [None, Some(7)] } else { [Some(7), None] };
        assert_eq!(nodes.map(Node::into_payload), expected);
    });
}

/// One wait in two lists, as `select!` will have it: exactly one source delivers.
#[test]
fn loom_wait_list_two_sources_claim_once() {
    model(|| {
        let sources = [Mailbox::new(), Mailbox::new()];
        let notifiers = sources.clone().map(|source| loom::thread::spawn(move || source.hand_over(7)));

        let wait = Wait::new(LentWaiter::current());
        let nodes = [Node::new(&wait, 0, None), Node::new(&wait, 1, None)];
        for (source, node) in sources.iter().zip(&nodes) {
            // SAFETY: removed below, before `nodes` and `wait` end.
            unsafe { source.0.lock().push_back(node) };
        }
        let chosen = loop {
            let phase = match park::park_until(Some(Instant::from_nanos(0))) {
                Unparked::Token => wait.word.phase(),
                _ => wait.word.withdraw(Withdrawal::TimedOut).map_or_else(|phase| phase, |()| Phase::TimedOut),
            };
            match phase {
                Phase::Waiting => {}
                Phase::Claimed(source) | Phase::Delivered(source) => break Some(source as usize),
                Phase::TimedOut | Phase::Cancelled => break None,
            }
        };
        for (source, node) in sources.iter().zip(&nodes) {
            // SAFETY: pushed into this list above.
            unsafe { source.0.lock().remove(node) };
        }
        let handed_over = notifiers.map(|notifier| notifier.join().unwrap());
        assert_eq!(handed_over, [chosen == Some(0), chosen == Some(1)]);
        let payloads = nodes.map(Node::into_payload);
        assert_eq!(payloads.map(|payload| payload.is_some()), handed_over);
    });
}
