use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

use super::*;

/// A source that hands each waiter its number in line.
struct Line {
    state: SpinLock<WaitList<Option<usize>>>,
    abandoned: SpinLock<Vec<(Option<usize>, bool)>>,
}

impl Line {
    fn new() -> Self {
        Self { state: SpinLock::new(WaitList::new()), abandoned: SpinLock::new(Vec::new()) }
    }

    fn wait(&self, limit: Limit) -> (Option<usize>, Outcome) {
        wait(self, None, self.state.lock(), limit)
    }

    fn serve(&self, number: usize) -> Option<Woken> {
        self.state.lock().claim_first().map(|first| {
            first.with_payload(|payload| *payload = Some(number));
            first.deliver()
        })
    }

    /// Blocks until `count` are in line.
    fn await_waiters(&self, count: u64) {
        while self.state.lock().next_ticket < count {
            thread::yield_now();
        }
    }
}

impl Source for Line {
    type State = WaitList<Option<usize>>;
    type Payload = Option<usize>;

    fn waits_for(&self) -> WaitsFor {
        WaitsFor::Other
    }

    fn waiters(state: &mut Self::State) -> &mut WaitList<Option<usize>> {
        state
    }

    fn abandon(&self, payload: &mut Option<usize>, claimed: bool) {
        self.abandoned.lock().push((*payload, claimed));
    }
}

#[test]
fn waiters_are_served_in_order() {
    let line = Line::new();
    thread::scope(|scope| {
        let waiters = (0..4).map(|place| {
            let waiter = scope.spawn(|| line.wait(Limit::Never));
            line.await_waiters(place + 1);
            waiter
        });
        let waiters = waiters.collect::<Vec<_>>();
        for number in 0..4 {
            line.serve(number).expect("four are in line").unpark();
        }
        for (number, waiter) in waiters.into_iter().enumerate() {
            assert_eq!(waiter.join().expect("no panic"), (Some(number), Outcome::Claimed));
        }
    });
    assert!(line.serve(5).is_none());
}

#[test]
fn a_time_out_takes_the_node_out_of_the_middle() {
    let line = Line::new();
    thread::scope(|scope| {
        let first = scope.spawn(|| line.wait(Limit::Never));
        line.await_waiters(1);
        let middle = scope.spawn(|| line.wait(Limit::After(Duration::from_millis(20))));
        line.await_waiters(2);
        let last = scope.spawn(|| line.wait(Limit::Never));
        line.await_waiters(3);
        assert_eq!(middle.join().expect("no panic"), (None, Outcome::TimedOut));
        line.serve(1).expect("the first").unpark();
        line.serve(2).expect("the last").unpark();
        assert_eq!(first.join().expect("no panic"), (Some(1), Outcome::Claimed));
        assert_eq!(last.join().expect("no panic"), (Some(2), Outcome::Claimed));
    });
}

#[test]
fn a_stale_token_ends_no_wait() {
    let line = Line::new();
    crate::park::Waiter::current().unpark();
    assert_eq!(line.wait(Limit::After(Duration::from_millis(5))), (None, Outcome::TimedOut));
}

#[test]
fn wake_all_reaches_more_than_a_batch() {
    let line = Line::new();
    let count = WAKE_BATCH * 2 + 1;
    thread::scope(|scope| {
        let waiters = (0..count).map(|_| scope.spawn(|| line.wait(Limit::Never))).collect::<Vec<_>>();
        line.await_waiters(count as u64);
        let mut next = 0;
        wake_all(
            line.state.lock(),
            |state| state,
            |payload| {
                *payload = Some(next);
                next += 1;
            },
        );
        let mut served = waiters.into_iter().map(|waiter| waiter.join().expect("no panic").0).collect::<Vec<_>>();
        served.sort_unstable();
        assert_eq!(served, (0..count).map(Some).collect::<Vec<_>>());
    });
}

/// A wait that unwinds leaves the list and tells its source, whether it was claimed before or not.
#[test]
fn an_unwound_wait_is_abandoned() {
    let line = Line::new();
    let unwind_while_enlisted = |before: &dyn Fn()| {
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            wait_after(&line, None, line.state.lock(), Limit::Never, || {
                before();
                std::panic::resume_unwind(Box::new(()));
            })
        }));
        assert!(unwound.is_err());
    };
    unwind_while_enlisted(&|| ());
    assert!(line.state.lock().is_empty());
    unwind_while_enlisted(&|| drop(line.serve(9)));
    assert!(line.state.lock().is_empty());
    assert_eq!(*line.abandoned.lock(), [(None, false), (Some(9), true)]);
}

/// Numbers handed over to waiters with short deadlines: each is received exactly once.
#[test]
fn deadlines_lose_nothing_under_stress() {
    let line = Line::new();
    let rounds = if cfg!(miri) { 30 } else { 20_000 };
    let received = thread::scope(|scope| {
        let waiters = [11, 12, 13].map(|seed| {
            let line = &line;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                let mut received = Vec::new();
                loop {
                    match line.wait(Limit::After(Duration::from_micros(random.u64(..60)))) {
                        (Some(usize::MAX), _) => return received,
                        (Some(number), outcome) => {
                            assert_eq!(outcome, Outcome::Claimed);
                            received.push(number);
                        }
                        (None, outcome) => assert_eq!(outcome, Outcome::TimedOut),
                    }
                }
            })
        });
        for number in (0..rounds).chain([usize::MAX; 3]) {
            loop {
                match line.serve(number) {
                    Some(waiter) => break waiter.unpark(),
                    None => thread::yield_now(),
                }
            }
        }
        waiters.map(|waiter| waiter.join().expect("no panic"))
    });
    let mut received = received.concat();
    received.sort_unstable();
    assert_eq!(received, (0..rounds).collect::<Vec<_>>());
}
