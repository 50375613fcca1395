//! Stacks of parked coroutines give their memory back, and the coroutines never notice.
#![cfg(not(any(miri, weald_baton)))]

use std::hint::black_box;
use std::time::Duration;

use weald_runtime::dump::{CoroutineState, Dump};
use weald_runtime::time::Instant;
use weald_runtime::{Builder, Handle, JoinHandle, Runtime, RuntimeBuilder, channel, sleep};

const PATIENCE: Duration = Duration::from_secs(20);
const DEEP: usize = 32 * 1024;
/// In the frame of whoever waits: two pages and more that must not be lost.
const LIVE: usize = 9000;

/// Uses so much of the stack, every page of it.
#[inline(never)]
fn use_stack(bytes: usize, seed: u8) -> u8 {
    let mut frame = [seed; 1024];
    black_box(&mut frame);
    let deeper = if bytes > frame.len() { use_stack(bytes - frame.len(), seed.wrapping_add(1)) } else { 0 };
    black_box(&frame).iter().fold(deeper, |sum, octet| sum ^ octet)
}

/// A coroutine that keeps octets on its stack while it waits for each message; it uses `depth` bytes more before each wait.
#[inline(never)]
fn keeper(requests: &channel::Receiver<u8>, answers: &channel::Sender<bool>, depth: usize) {
    let mut kept = [0_u8; LIVE];
    let mut seed = 1_u8;
    loop {
        kept.iter_mut().enumerate().for_each(|(index, octet)| *octet = seed.wrapping_mul(index as u8));
        black_box(&mut kept);
        if depth > 0 {
            black_box(use_stack(depth, seed));
        }
        let Ok(next) = requests.recv() else { return };
        let intact = black_box(&kept).iter().enumerate().all(|(index, &octet)| octet == seed.wrapping_mul(index as u8));
        answers.send(intact).expect("somebody counts");
        seed = next;
    }
}

struct Keepers {
    handle: Handle,
    requests: channel::Sender<u8>,
    answers: channel::Receiver<bool>,
    joins: Vec<JoinHandle<()>>,
}

impl Keepers {
    fn spawn(runtime: &Runtime, count: usize, depth: usize) -> Self {
        let (requests, received) = channel::bounded(0);
        let (answer, answers) = channel::unbounded();
        let spawn = || {
            let (received, answer) = (received.clone(), answer.clone());
            runtime.handle().spawn(move || keeper(&received, &answer, depth))
        };
        Self { handle: runtime.handle(), joins: (0..count).map(|_| spawn()).collect(), requests, answers }
    }

    /// The resident bytes of each stack once all are parked and `wanted` holds for each.
    #[track_caller]
    fn resident(&self, wanted: impl Fn(usize) -> bool) -> Vec<usize> {
        let start = Instant::now();
        loop {
            let dump = self.handle.dump();
            let stacks = parked_stacks(&dump);
            if stacks.len() == self.joins.len() && stacks.iter().all(|&resident| wanted(resident)) {
                return stacks;
            }
            assert!(start.elapsed() < PATIENCE, "{stacks:?} in {dump}");
            sleep(Duration::from_millis(1));
        }
    }

    /// Wakes one after the other as often as there are coroutines, and asks whether what they kept is as it was.
    fn round(&self, seed: u8) {
        for _ in &self.joins {
            self.requests.send(seed).expect("they wait");
            assert!(self.answers.recv().expect("an answer"), "a live part of the stack was lost");
        }
    }

    fn end(self) {
        drop(self.requests);
        self.joins.into_iter().for_each(|join| join.join().expect("no panic"));
    }
}

fn parked_stacks(dump: &Dump) -> Vec<usize> {
    let parked = dump.coroutines.iter().filter(|coroutine| coroutine.state == CoroutineState::Parked);
    let mut stacks: Vec<_> = parked.filter_map(|coroutine| coroutine.stack.map(|stack| stack.resident)).collect();
    // Which stack is whose does not matter; they begin at different places in a page.
    stacks.sort_unstable();
    stacks
}

fn builder() -> RuntimeBuilder {
    Runtime::builder().workers(1).max_coroutines(256)
}

#[test]
fn a_parked_stack_that_was_deep_takes_what_one_takes_that_was_not() {
    let trims = builder().trim_after(Some(Duration::from_millis(50))).build().expect("a runtime");
    let shallow = Keepers::spawn(&trims, 4, 0);
    // They are trimmed as well: a call in the past may have reached into a page that is not needed now.
    let first = shallow.resident(|_| true);
    sleep(Duration::from_millis(300));
    let little = shallow.resident(|_| true);
    assert!(little <= first, "{little:?} after {first:?}");
    shallow.end();
    assert!(little.iter().all(|resident| (LIVE..DEEP).contains(resident)), "{little:?}");

    let keeps = builder().trim_after(None).build().expect("a runtime");
    let deep = Keepers::spawn(&keeps, 4, DEEP);
    let much = deep.resident(|resident| resident > DEEP);
    sleep(Duration::from_millis(300));
    assert_eq!(deep.resident(|_| true), much, "without trimming");
    deep.end();

    let deep = Keepers::spawn(&trims, 4, DEEP);
    assert_eq!(deep.resident(|resident| resident < DEEP), little);
    deep.round(3);
    // The second trim takes a park of twice as long.
    assert_eq!(deep.resident(|resident| resident < DEEP), little);
    deep.round(5);
    deep.end();
}

#[test]
fn coroutines_that_are_woken_around_their_trim_go_on() {
    let runtime = builder().trim_after(Some(Duration::from_millis(1))).build().expect("a runtime");
    let keepers = Keepers::spawn(&runtime, 64, DEEP);
    for round in 0..40_u8 {
        keepers.round(round);
        sleep(Duration::from_micros(u64::from(round) * 200));
    }
    keepers.end();
}

#[test]
fn a_stack_of_its_own_is_trimmed_too() {
    let runtime = builder().trim_after(Some(Duration::from_millis(20))).build().expect("a runtime");
    let handle = runtime.handle();
    let (sender, receiver) = channel::bounded::<()>(0);
    let deep = runtime.run(|| {
        Builder::new().stack_size(4 << 20).spawn(move || {
            black_box(use_stack(1 << 20, 1));
            receiver.recv()
        })
    });
    let start = Instant::now();
    while parked_stacks(&handle.dump()).first().is_none_or(|&resident| resident > DEEP) {
        assert!(start.elapsed() < PATIENCE);
        sleep(Duration::from_millis(1));
    }
    drop(sender);
    assert!(deep.join().expect("no panic").is_err());
}
