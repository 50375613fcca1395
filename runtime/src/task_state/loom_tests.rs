//! Models of the word: wakes against the commit of a park, joins and deadlines against ends, and who frees the memory.

use super::*;
use crate::primitive::atomic::{AtomicPtr, AtomicUsize};
use crate::primitive::{Arc, Condvar, Mutex, UnsafeCell, spin_loop};
use crate::time::Instant;
use crate::timer_wheel::TimerWheel;
use crate::wait_list::loom_tests::model;
use loom::thread;

/// A worker parks a task while two others wake it: it is enqueued exactly once for each park, whoever enqueues it has its
/// stack, and what was published before the wake is seen.
#[test]
fn loom_wake_against_commit() {
    model(|| {
        let state = Arc::new(TaskState::new());
        let stack = Arc::new(UnsafeCell::new(0_u32));
        let enqueued = Arc::new(AtomicUsize::new(0));
        let news = Arc::new(AtomicUsize::new(0));
        let wakers: Vec<_> = [TaskState::unpark as fn(&TaskState) -> Wake, TaskState::time_out]
            .into_iter()
            .map(|wake| {
                let (state, stack, enqueued, news) = (Arc::clone(&state), Arc::clone(&stack), Arc::clone(&enqueued), Arc::clone(&news));
                thread::spawn(move || {
                    news.fetch_add(1, Ordering::Relaxed);
                    if wake(&state) == Wake::Enqueue {
                        // SAFETY: the task is parked and now this thread's.
                        stack.with_mut(|stack| unsafe { assert_eq!(std::mem::take(&mut *stack), 7) });
                        enqueued.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        // SAFETY: the task runs here until it is parked.
        stack.with_mut(|stack| unsafe { *stack = 7 });
        let mine = match state.commit_park(false) {
            Commit::Parked => 0,
            Commit::Runnable => {
                // SAFETY: the task was not parked.
                stack.with_mut(|stack| unsafe { *stack = 0 });
                assert_ne!(state.resumed(), Wakeup::Nothing);
                assert!(news.load(Ordering::Relaxed) >= 1, "the waker's news came with the wake");
                1
            }
        };
        for waker in wakers {
            waker.join().expect("wakers do not panic");
        }
        if mine == 0 {
            assert_ne!(state.resumed(), Wakeup::Nothing, "the resumed task finds why");
        }
        assert_eq!(mine + enqueued.load(Ordering::Relaxed), 1);
    });
}

/// The queue of the worker whose one task this is.
struct Queue {
    queued: Mutex<bool>,
    bell: Condvar,
}

impl Queue {
    fn new() -> Self {
        Self { queued: Mutex::new(false), bell: Condvar::new() }
    }

    fn push(&self) {
        assert!(!std::mem::replace(&mut *self.queued.lock(), true), "a task is in one queue at most");
        self.bell.notify_one();
    }

    fn pop(&self) {
        let mut queued = self.queued.lock();
        while !std::mem::take(&mut *queued) {
            queued = self.bell.wait(queued);
        }
    }
}

/// The task parks until what it waits for has been published by two wakers, of whom the second may find the token set.
#[test]
fn loom_park_until_two_wakers_have_published() {
    model(|| {
        let shared = Arc::new((TaskState::new(), Queue::new(), [AtomicUsize::new(0), AtomicUsize::new(0)]));
        let wakers: Vec<_> = (0..2)
            .map(|number| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let (state, queue, news) = &*shared;
                    news[number].store(1, Ordering::Relaxed);
                    if state.unpark() == Wake::Enqueue {
                        queue.push();
                    }
                })
            })
            .collect();
        let (state, queue, news) = &*shared;
        while news.iter().any(|news| news.load(Ordering::Relaxed) == 0) {
            if state.take() == Wakeup::Token {
                continue;
            }
            if state.commit_park(false) == Commit::Parked {
                queue.pop();
            }
            assert_eq!(state.resumed(), Wakeup::Token);
        }
        for waker in wakers {
            waker.join().expect("wakers do not panic");
        }
    });
}

/// A park that waits for its commit: a neighbour on the worker's own thread wakes the task by a flag that is not in the word, while another
/// thread wakes it by the word. As `current::wake_uncommitted` and the end of a park: a token that came too is taken with that wake, but
/// not without its news.
#[test]
fn loom_late_commit_against_a_wake_from_elsewhere() {
    model(|| {
        let shared = Arc::new((TaskState::new(), Queue::new(), AtomicUsize::new(0)));
        let waker = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (state, queue, news) = &*shared;
                news.store(1, Ordering::Relaxed);
                if state.unpark() == Wake::Enqueue {
                    queue.push();
                }
            })
        };
        let (state, queue, news) = &*shared;
        let mut neighbour_has_woken = false;
        while !neighbour_has_woken || news.load(Ordering::Relaxed) == 0 {
            if state.take() == Wakeup::Token {
                continue;
            }
            if !std::mem::replace(&mut neighbour_has_woken, true) {
                let _ = state.take();
                continue;
            }
            if state.commit_park(false) == Commit::Parked {
                queue.pop();
            }
            assert_eq!(state.resumed(), Wakeup::Token);
        }
        waker.join().expect("the waker does not panic");
    });
}

/// A task waits, and then parks for the permit, while the wakes of both come: whichever tokens the wait consumes, the permit is there.
#[test]
fn loom_permit_outlives_a_wait() {
    model(|| {
        let shared = Arc::new((TaskState::new(), Queue::new(), [AtomicUsize::new(0), AtomicUsize::new(0)]));
        let wakers: Vec<_> = [TaskState::unpark as fn(&TaskState) -> Wake, TaskState::permit]
            .into_iter()
            .enumerate()
            .map(|(number, wake)| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    let (state, queue, news) = &*shared;
                    news[number].store(1, Ordering::Relaxed);
                    if wake(state) == Wake::Enqueue {
                        queue.push();
                    }
                })
            })
            .collect();
        let (state, queue, news) = &*shared;
        let park = || {
            if state.take() == Wakeup::Token {
                return;
            }
            if state.commit_park(false) == Commit::Parked {
                queue.pop();
            }
            assert_eq!(state.resumed(), Wakeup::Token);
        };
        while news[0].load(Ordering::Relaxed) == 0 {
            park();
        }
        while !state.take_permit() {
            park();
        }
        assert_eq!(news[1].load(Ordering::Relaxed), 1, "the permit came with its news");
        for waker in wakers {
            waker.join().expect("wakers do not panic");
        }
        assert!(!state.take_permit(), "it was one");
    });
}

/// A shutdown's cancellation and its unwinding against a shielded park: the first wakes it at most, the second ends it.
#[test]
fn loom_cancel_and_unwind_against_a_shielded_park() {
    model(|| {
        let shared = Arc::new((TaskState::new(), Queue::new()));
        let worker = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                for wake in [TaskState::cancel as fn(&TaskState) -> Wake, TaskState::unwind] {
                    if wake(&shared.0) == Wake::Enqueue {
                        shared.1.push();
                    }
                }
            })
        };
        let (state, queue) = &*shared;
        loop {
            if state.commit_park(true) == Commit::Parked {
                queue.pop();
            }
            match state.resumed() {
                Wakeup::Unwind => break,
                found => assert_eq!(found, Wakeup::Cancelled, "nothing else wakes it"),
            }
        }
        worker.join().expect("the worker does not panic");
        assert!(state.is_cancelled());
    });
}

/// A task leaves one token's closure while that token and an outer one are cancelled: it stays interrupted on behalf of the
/// outer one, and does not park.
#[test]
fn loom_end_interrupt_against_another_interruption() {
    model(|| {
        let state = Arc::new(TaskState::new());
        let outer = Arc::new(crate::primitive::atomic::AtomicBool::new(false));
        assert_eq!(state.interrupt(), Wake::Nothing, "the inner token");
        let canceller = {
            let (state, outer) = (Arc::clone(&state), Arc::clone(&outer));
            thread::spawn(move || {
                outer.store(true, Ordering::Relaxed);
                state.interrupt()
            })
        };
        state.end_interrupt();
        if outer.load(Ordering::Relaxed) {
            assert_eq!(state.interrupt(), Wake::Nothing);
        }
        let parked = state.commit_park(false) == Commit::Parked;
        let enqueue = canceller.join().expect("the canceller does not panic") == Wake::Enqueue;
        assert_eq!(parked, enqueue, "parked only if the cancellation came later, and then woken by it");
        assert_eq!(state.take(), Wakeup::Cancelled);
    });
}

/// The joiner either reads the published result at once or is woken; the slot has one owner at a time; and the joiner, which
/// frees the task, goes on only after the finisher has done with the slot and with the waiter in it.
fn join_against_finish(function: fn() -> u32, expected: Result<u32, u32>) {
    struct Task {
        state: TaskState,
        slot: AtomicPtr<u32>,
        result: UnsafeCell<std::thread::Result<u32>>,
        /// Stands for the memory of the task and of the waiter: the joiner writes it when it leaves.
        memory: UnsafeCell<u32>,
    }
    let mut waiter = 1_u32;
    let waiter: *mut u32 = &raw mut waiter;
    let task = Arc::new(Task {
        state: TaskState::new(),
        slot: AtomicPtr::new(std::ptr::null_mut()),
        result: UnsafeCell::new(Ok(0)),
        memory: UnsafeCell::new(0),
    });
    let woken = Arc::new(AtomicUsize::new(0));
    let worker = {
        let (task, woken) = (Arc::clone(&task), Arc::clone(&woken));
        thread::spawn(move || {
            let result = std::panic::catch_unwind(function);
            // SAFETY: the result is the worker's until `finish`.
            task.result.with_mut(|slot| unsafe { *slot = result });
            let finished = task.state.finish(|| panic!("the handle is there"));
            assert_eq!(finished.memory, Memory::Kept);
            if finished.wake_joiner {
                assert!(!task.slot.load(Ordering::Relaxed).is_null());
                woken.fetch_add(1, Ordering::Relaxed);
                // SAFETY: the joiner stays until the slot is null.
                task.memory.with(|memory| unsafe { assert_eq!(*memory, 0) });
                task.slot.store(std::ptr::null_mut(), Ordering::Release);
            }
        })
    };
    task.slot.store(waiter, Ordering::Relaxed);
    let registered = task.state.register_joiner(true) == Registration::Registered;
    let taken_back = registered && task.state.unregister_joiner();
    if registered && !taken_back {
        while !task.slot.load(Ordering::Acquire).is_null() {
            spin_loop();
        }
    }
    if task.state.is_done() {
        // SAFETY: published by `finish`.
        let result = task.result.with_mut(|slot| unsafe { std::mem::replace(&mut *slot, Ok(0)) });
        assert_eq!(result.map_err(|payload| *payload.downcast::<u32>().expect("the panic's own payload")), expected);
        assert_eq!(task.state.drop_interest(|| ()), Memory::Free);
        // SAFETY: the memory is the joiner's.
        task.memory.with_mut(|memory| unsafe { *memory = 1 });
    }
    worker.join().expect("the worker does not panic");
    assert_eq!(woken.load(Ordering::Relaxed), usize::from(registered && !taken_back));
}

/// A worker ends a task whose joiner has stopped on it, while another thread has a counted reference, wakes the task and goes: the
/// memory is freed once, after all use.
#[test]
fn loom_finish_beside_a_joiner_against_a_reference() {
    model(|| {
        let state = Arc::new(TaskState::new());
        let memory = Arc::new(UnsafeCell::new(0_u32));
        let freed = Arc::new(AtomicUsize::new(0));
        state.add_reference();
        let free = |decided: Memory, memory: &UnsafeCell<u32>, freed: &AtomicUsize| {
            if decided == Memory::Free {
                // SAFETY: nobody knows of the task any more.
                memory.with_mut(|memory| unsafe { *memory = 1 });
                freed.fetch_add(1, Ordering::Relaxed);
            }
        };
        let other = {
            let (state, memory, freed) = (Arc::clone(&state), Arc::clone(&memory), Arc::clone(&freed));
            thread::spawn(move || {
                assert_eq!(state.unpark(), Wake::Nothing);
                // SAFETY: the reference keeps the memory.
                memory.with(|memory| unsafe { assert_eq!(*memory, 0) });
                free(state.drop_reference(), &memory, &freed);
            })
        };
        assert_eq!(state.register_joiner(true), Registration::Registered);
        let finished = state.finish_beside_joiner().unwrap_or_else(|| state.finish(|| panic!("the handle is there")));
        assert_eq!(finished, Finished { wake_joiner: true, memory: Memory::Kept });
        assert!(state.is_done());
        free(state.drop_interest(|| ()), &memory, &freed);
        other.join().expect("the other does not panic");
        assert_eq!(freed.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn loom_join_against_finish() {
    model(|| join_against_finish(|| 7, Ok(7)));
}

#[test]
fn loom_join_against_panic() {
    // No message for each of the many runs.
    model(|| join_against_finish(|| std::panic::resume_unwind(Box::new(7_u32)), Err(7)));
}

/// The finishing worker, the dropped handle and a counted reference: one drops the result, one frees the memory, and
/// nobody touches it after that.
#[test]
fn loom_memory_is_freed_once_and_last() {
    model(|| {
        let state = Arc::new(TaskState::new());
        let content = Arc::new((UnsafeCell::new(0_u32), UnsafeCell::new(0_u32)));
        let (dropped, freed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        state.add_reference();
        let drop_result = |content: &(UnsafeCell<u32>, UnsafeCell<u32>), dropped: &AtomicUsize| {
            // SAFETY: the result is the dropper's.
            content.0.with_mut(|result| unsafe { assert_eq!(std::mem::take(&mut *result), 7) });
            dropped.fetch_add(1, Ordering::Relaxed);
        };
        let free = |memory: Memory, content: &(UnsafeCell<u32>, UnsafeCell<u32>), freed: &AtomicUsize| {
            if memory == Memory::Free {
                // SAFETY: nobody knows of the task any more.
                content.0.with_mut(|result| unsafe { assert_eq!(*result, 0, "the result was dropped before") });
                // SAFETY: as above.
                content.1.with_mut(|memory| unsafe { *memory = 1 });
                freed.fetch_add(1, Ordering::Relaxed);
            }
        };
        let worker = {
            let (state, content, dropped, freed) = (Arc::clone(&state), Arc::clone(&content), Arc::clone(&dropped), Arc::clone(&freed));
            thread::spawn(move || {
                // SAFETY: the result is the worker's until `finish`.
                content.0.with_mut(|result| unsafe { *result = 7 });
                let finished = state.finish(|| drop_result(&content, &dropped));
                free(finished.memory, &content, &freed);
            })
        };
        let other = {
            let (state, content, freed) = (Arc::clone(&state), Arc::clone(&content), Arc::clone(&freed));
            thread::spawn(move || {
                // SAFETY: the reference keeps the memory.
                content.1.with(|memory| unsafe { assert_eq!(*memory, 0) });
                free(state.drop_reference(), &content, &freed);
            })
        };
        free(state.drop_interest(|| drop_result(&content, &dropped)), &content, &freed);
        worker.join().expect("the worker does not panic");
        other.join().expect("the other does not panic");
        assert_eq!((dropped.load(Ordering::Relaxed), freed.load(Ordering::Relaxed)), (1, 1));
    });
}

/// A thread wakes a task that parks with a deadline. With `passes` the deadline passes in the first round that finds the task
/// parked; otherwise when its park is over.
///
/// The token is not lost to the deadline, and neither the entry nor the flag of one park is left for the next.
fn timer_against_wake(passes: bool) {
    let shared = Arc::new((TaskState::new(), AtomicUsize::new(0), AtomicUsize::new(0)));
    let waker = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || {
            let (state, inbox, news) = &*shared;
            news.store(1, Ordering::Relaxed);
            if state.unpark() == Wake::Enqueue {
                inbox.fetch_add(1, Ordering::Release);
            }
        })
    };
    let (state, inbox, news) = &*shared;
    let (start, deadline) = (Instant::from_nanos(0), Instant::from_nanos(1 << 20));
    let now = if passes { deadline } else { start };
    let mut wheel = TimerWheel::new(start);
    // As `current::park`, with the rounds of the task's worker in its midst.
    let mut park = |limit: Option<Instant>| {
        match state.take() {
            Wakeup::Token => return Wakeup::Token,
            found => assert_eq!(found, Wakeup::Nothing, "nothing is left of the park before"),
        }
        let timer = limit.map(|deadline| wheel.insert(deadline, ()));
        let mut queued = usize::from(state.commit_park(false) == Commit::Runnable);
        while queued == 0 {
            wheel.expire(now, |()| queued += usize::from(state.time_out() == Wake::Enqueue));
            queued += inbox.swap(0, Ordering::Acquire);
            if queued == 0 {
                thread::yield_now();
            }
        }
        assert_eq!(queued, 1, "a task is in one queue at most");
        let wakeup = state.resumed();
        if let Some(timer) = timer {
            let _ = wheel.cancel(timer);
        }
        wakeup
    };
    let first = park(Some(deadline));
    if first == Wakeup::TimedOut {
        assert!(passes);
        assert_eq!(park(None), Wakeup::Token);
    }
    assert_eq!(news.load(Ordering::Relaxed), 1, "the token came with the news");
    waker.join().expect("the waker does not panic");
    assert_eq!(state.take(), Wakeup::Nothing);
    assert_eq!(state.commit_park(false), Commit::Parked);
    wheel.expire(deadline, |()| panic!("an entry has outlived its park"));
}

#[test]
fn loom_timer_fires_against_a_wake() {
    model(|| timer_against_wake(true));
}

#[test]
fn loom_timer_cancelled_by_a_wake() {
    model(|| timer_against_wake(false));
}
