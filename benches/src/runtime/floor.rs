//! The floor: the least that a scheduler on corosensei can be.
//!
//! One thread, one queue, one allocation for a task and one for its closure, no panics caught, nothing to cancel, no timers and no I/O.
//! What a complete runtime takes beyond this is the price of its features.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    hint::black_box,
    rc::Rc,
};

use anyhow::{Context as _, Result, ensure};
use corosensei::{Coroutine, CoroutineResult, Yielder, stack::DefaultStack};
use weald_runtime::time::Instant;

use super::{
    YIELDERS,
    benchmark::Benchmark,
    blocking::sum_below,
    sample::{Answer, Request},
};

const STACK_SIZE: usize = 64 * 1024;

enum Suspended {
    Yielded,
    Parked,
}

type Work = Box<dyn FnOnce(&Context<'_>) -> u64>;

struct Task {
    /// Until its first run.
    work: Cell<Option<Work>>,
    /// From its first run to its end.
    coroutine: RefCell<Option<Coroutine<(), Suspended, ()>>>,
    result: Cell<Option<u64>>,
    joiner: Cell<Option<Rc<Task>>>,
}

#[derive(Default)]
struct Scheduler {
    ready: RefCell<VecDeque<Rc<Task>>>,
    stacks: RefCell<Vec<DefaultStack>>,
}

/// What a running task sees.
struct Context<'a> {
    yielder: &'a Yielder<(), Suspended>,
    scheduler: &'a Rc<Scheduler>,
    task: &'a Rc<Task>,
}

impl Scheduler {
    fn spawn(&self, work: impl FnOnce(&Context<'_>) -> u64 + 'static) -> Rc<Task> {
        let work: Work = Box::new(work);
        let task =
            Rc::new(Task { work: Cell::new(Some(work)), coroutine: RefCell::new(None), result: Cell::new(None), joiner: Cell::new(None) });
        self.wake(Rc::clone(&task));
        task
    }

    fn wake(&self, task: Rc<Task>) {
        self.ready.borrow_mut().push_back(task);
    }

    /// Runs tasks until none is ready.
    fn run(self: &Rc<Self>) -> Result<()> {
        loop {
            let Some(task) = self.ready.borrow_mut().pop_front() else { return Ok(()) };
            let mut slot = task.coroutine.borrow_mut();
            let coroutine = match &mut *slot {
                Some(coroutine) => coroutine,
                empty => empty.insert(self.start(&task)?),
            };
            match coroutine.resume(()) {
                CoroutineResult::Yield(Suspended::Yielded) => {
                    drop(slot);
                    self.wake(task);
                }
                CoroutineResult::Yield(Suspended::Parked) => {}
                CoroutineResult::Return(()) => {
                    self.stacks.borrow_mut().extend(slot.take().map(Coroutine::into_stack));
                    if let Some(joiner) = task.joiner.take() {
                        self.wake(joiner);
                    }
                }
            }
        }
    }

    fn start(self: &Rc<Self>, task: &Rc<Task>) -> Result<Coroutine<(), Suspended, ()>> {
        let recycled = self.stacks.borrow_mut().pop();
        let stack = match recycled {
            Some(stack) => stack,
            None => DefaultStack::new(STACK_SIZE).context("no stack")?,
        };
        let (scheduler, task) = (Rc::clone(self), Rc::clone(task));
        Ok(Coroutine::with_stack(stack, move |yielder, ()| {
            if let Some(work) = task.work.take() {
                task.result.set(Some(work(&Context { yielder, scheduler: &scheduler, task: &task })));
            }
        }))
    }
}

impl Context<'_> {
    fn yield_now(&self) {
        self.yielder.suspend(Suspended::Yielded);
    }

    fn park(&self) {
        self.yielder.suspend(Suspended::Parked);
    }

    fn join(&self, task: &Task) -> u64 {
        loop {
            match task.result.take() {
                Some(result) => return result,
                None => {
                    task.joiner.set(Some(Rc::clone(self.task)));
                    self.park();
                }
            }
        }
    }
}

/// An unbounded channel of one receiver.
#[derive(Default)]
struct Channel {
    messages: RefCell<VecDeque<u64>>,
    waiter: Cell<Option<Rc<Task>>>,
}

impl Channel {
    fn send(&self, context: &Context<'_>, message: u64) {
        self.messages.borrow_mut().push_back(message);
        if let Some(waiter) = self.waiter.take() {
            context.scheduler.wake(waiter);
        }
    }

    fn receive(&self, context: &Context<'_>) -> u64 {
        loop {
            let message = self.messages.borrow_mut().pop_front();
            match message {
                Some(message) => return message,
                None => {
                    self.waiter.set(Some(Rc::clone(context.task)));
                    context.park();
                }
            }
        }
    }
}

/// Does what is asked for, if it can.
pub(super) fn perform(Request { benchmark, count }: Request) -> Result<Option<Answer>> {
    let (operations, expected, work): (u64, u64, Work) = match benchmark {
        Benchmark::Yield => (count, 0, Box::new(move |context| yield_times(context, count))),
        Benchmark::YieldThousand => {
            let each = (count / YIELDERS).max(1);
            let work = move |context: &Context<'_>| {
                let yielders: Vec<_> = (0..YIELDERS).map(|_| context.scheduler.spawn(move |context| yield_times(context, each))).collect();
                yielders.iter().map(|yielder| context.join(yielder)).sum()
            };
            (each * YIELDERS, 0, Box::new(work))
        }
        Benchmark::SpawnJoin => {
            let work = move |context: &Context<'_>| {
                (0..count).map(|number| context.join(&context.scheduler.spawn(move |_| black_box(number)))).sum()
            };
            (count, sum_below(count), Box::new(work))
        }
        Benchmark::SpawnMillion => {
            let work = move |context: &Context<'_>| {
                let tasks: Vec<_> = (0..count).map(|number| context.scheduler.spawn(move |_| black_box(number))).collect();
                tasks.into_iter().map(|task| context.join(&task)).sum()
            };
            (count, sum_below(count), Box::new(work))
        }
        Benchmark::PingPong => (count, count, Box::new(move |context| ping_pong(context, count))),
        _ => return Ok(None),
    };
    let scheduler = Rc::new(Scheduler::default());
    let started = Instant::now();
    let task = scheduler.spawn(work);
    scheduler.run()?;
    let elapsed = started.elapsed();
    let result = task.result.take();
    ensure!(result == Some(expected), "{result:?} instead of {expected} came out");
    Ok(Some(Answer::timed(operations, elapsed)))
}

fn yield_times(context: &Context<'_>, count: u64) -> u64 {
    for _ in 0..count {
        context.yield_now();
    }
    0
}

fn ping_pong(context: &Context<'_>, count: u64) -> u64 {
    let (ping, pong) = (Rc::new(Channel::default()), Rc::new(Channel::default()));
    let partner = {
        let (ping, pong) = (Rc::clone(&ping), Rc::clone(&pong));
        context.scheduler.spawn(move |context| {
            for _ in 0..count {
                let number = ping.receive(context);
                pong.send(context, number + 1);
            }
            0
        })
    };
    let mut number = 0;
    for _ in 0..count {
        ping.send(context, number);
        number = pong.receive(context);
    }
    number + context.join(&partner)
}
