//! Owns where a runtime is in its life.
//!
//! It does not own what is done in a phase: workers do it in their rounds (`worker`), in the order that `shutdown` gives.
//!
//! Invariant: the phase only grows. Who enters one rings every worker after that, and a worker asks for it once more behind the
//! fence before its sleep; who publishes work asks for it behind the fence that follows, and takes the work back himself if the
//! workers may have looked for the last time.

use crate::primitive::atomic::{AtomicU8, Ordering};

/// Where a runtime is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// As usual.
    Running,
    /// Blocking calls return errors; nothing starts.
    Cancelling,
    /// Parks unwind.
    Unwinding,
    /// What has not ended is leaked.
    Stopped,
}

/// The present one.
#[derive(Debug)]
pub(crate) struct Phases(AtomicU8);

impl Phases {
    pub(crate) fn new() -> Self {
        Self(AtomicU8::new(Phase::Running as u8))
    }

    pub(crate) fn now(&self) -> Phase {
        // Ordering: Acquire pairs with the Release in `enter`.
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Running,
            1 => Phase::Cancelling,
            2 => Phase::Unwinding,
            _ => Phase::Stopped,
        }
    }

    /// Goes on to a later phase. The caller then rings every worker.
    pub(crate) fn enter(&self, phase: Phase) {
        // Ordering: Release pairs with the Acquire in `now`.
        self.0.fetch_max(phase as u8, Ordering::AcqRel);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::super::idle::{Idle, Rung, Sleeper};
    use super::super::spawn_queue;
    use super::*;
    use crate::primitive::atomic::AtomicUsize;
    use crate::primitive::{Arc, Condvar, Mutex};
    use crate::task_state::{Commit, TaskState, Wake, Wakeup};
    use crate::wait_list::loom_tests::model;
    use loom::thread;

    /// What a shutdown and a worker share.
    struct Runtime {
        phases: Phases,
        rung: Rung,
        sleeper: Sleeper,
        bell: Mutex<bool>,
        ringing: Condvar,
        parked: TaskState,
    }

    impl Runtime {
        /// As `Shared::enter_phase`.
        fn enter(&self, phase: Phase) {
            self.phases.enter(phase);
            self.rung.set();
            self.ring_if_asleep();
        }

        fn ring_if_asleep(&self) {
            if self.sleeper.must_ring() {
                *self.bell.lock() = true;
                self.ringing.notify_one();
            }
        }

        /// As `Worker::sleep`.
        fn sleep(&self, seen: Phase, has_news: impl FnOnce() -> bool) {
            self.sleeper.sleep(
                || has_news() || self.rung.is_set() || self.phases.now() != seen,
                || {
                    let mut rung = self.bell.lock();
                    while !std::mem::take(&mut *rung) {
                        rung = self.ringing.wait(rung);
                    }
                },
            );
        }
    }

    /// A shutdown goes through its phases while a worker sleeps on a parked coroutine, which somebody else wakes meanwhile: the
    /// worker takes part in the last phase, and the coroutine runs once for each time it was woken and ends.
    #[test]
    fn loom_shutdown_reaches_a_sleeper_and_what_is_parked() {
        model(|| {
            let runtime = Arc::new(Runtime {
                phases: Phases::new(),
                rung: Rung::new(),
                sleeper: Sleeper::new(),
                bell: Mutex::new(false),
                ringing: Condvar::new(),
                parked: TaskState::new(),
            });
            let inbox = Arc::new(AtomicUsize::new(0));
            let waker = {
                let (runtime, inbox) = (Arc::clone(&runtime), Arc::clone(&inbox));
                thread::spawn(move || {
                    if runtime.parked.unpark() == Wake::Enqueue {
                        inbox.fetch_add(1, Ordering::Release);
                        runtime.ring_if_asleep();
                    }
                })
            };
            let ender = {
                let runtime = Arc::clone(&runtime);
                thread::spawn(move || {
                    runtime.enter(Phase::Cancelling);
                    runtime.enter(Phase::Unwinding);
                })
            };
            let mut seen = Phase::Running;
            let mut queued = usize::from(runtime.parked.commit_park(true) == Commit::Runnable);
            loop {
                let phase = runtime.phases.now();
                if phase != seen {
                    seen = phase;
                    let wake = if phase == Phase::Cancelling { runtime.parked.cancel() } else { runtime.parked.unwind() };
                    queued += usize::from(wake == Wake::Enqueue);
                }
                runtime.rung.answer();
                queued += inbox.swap(0, Ordering::Acquire);
                assert!(queued <= 1, "a coroutine is in one queue at most");
                if queued == 0 {
                    runtime.sleep(seen, || inbox.load(Ordering::Relaxed) > 0);
                    continue;
                }
                match runtime.parked.resumed() {
                    Wakeup::Unwind => break,
                    found => assert!(matches!(found, Wakeup::Token | Wakeup::Cancelled), "{found:?}"),
                }
                queued = usize::from(runtime.parked.commit_park(true) == Commit::Runnable);
            }
            assert_eq!(seen, Phase::Unwinding);
            waker.join().expect("the waker does not panic");
            ender.join().expect("the ender does not panic");
        });
    }

    /// A spawn from outside against the end: whoever looks last finds what was pushed, and publishes that it will not run.
    #[test]
    fn loom_shutdown_leaves_no_late_spawn() {
        struct Spawned(Arc<AtomicUsize>);
        impl Drop for Spawned {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        model(|| {
            let (queues, _own) = spawn_queue::new::<Spawned>(1);
            let shared = Arc::new((queues, Phases::new(), Idle::default(), Sleeper::new()));
            let refused = Arc::new(AtomicUsize::new(0));
            let spawner = {
                let (shared, refused) = (Arc::clone(&shared), Arc::clone(&refused));
                thread::spawn(move || {
                    let (queues, phases, idle, sleeper) = &*shared;
                    // As `Shared::spawn`.
                    queues.push_from_outside(Spawned(refused));
                    let rings = idle.claim_help(std::slice::from_ref(sleeper), 0, |sleeper| sleeper).is_some();
                    assert!(!rings, "nobody sleeps");
                    if phases.now() == Phase::Stopped {
                        queues.clear();
                    }
                })
            };
            let (queues, phases, _, sleeper) = &*shared;
            // As `shut_down`, when the worker has stopped.
            phases.enter(Phase::Stopped);
            assert!(!sleeper.must_ring(), "it does not sleep");
            queues.clear();
            spawner.join().expect("the spawner does not panic");
            assert_eq!(refused.load(Ordering::Relaxed), 1);
        });
    }
}
