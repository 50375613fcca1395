//! Where steps of TLS run: on the threads of a pool, so that a worker goes on with its packets meanwhile, or here on the worker's
//! own stack, which has room for them as a coroutine's has not.
//!
//! Owns the steps of one worker that nobody has begun, the decision where each runs, and how much of a load they are. Does not
//! own the threads (`weald_crypto::CryptoPool`), nor whom that load turns away (`crate::endpoint`).
//!
//! Invariants:
//! - Each step that is handed over comes back to the worker's inbox once, if only as lost.
//! - Steps of connections that are gone are dropped here, and their results in the inbox.
//! - Where there is a worker for each processor, steps run here as long as no application is told of data; from then on they run on
//!   the threads, for a while.
//! - If no step comes back for a while, the worker runs some itself: processors that are busy for others, or a thread that is stuck,
//!   delay handshakes and do not stop them.
//! - A simulation has no threads: there each step runs here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use weald_crypto::CryptoPool;

use super::link::Link;
use crate::connection::{CryptoDone, CryptoJob};
use crate::handle::ConnectionHandle;
use crate::pressure::Pressure;
use crate::time::Instant;

/// Steps that run here in a round. Each takes up to a millisecond, and applications that have data wait for no more than one. Where none
/// has, a round with several costs less: steps that came together leave together.
const STEPS_A_ROUND: usize = 4;
const STEPS_A_ROUND_WITH_DATA: usize = 1;

/// Without news from the threads for so long, the worker runs a step itself.
const HELP_AFTER: Duration = Duration::from_millis(20);

/// And then another after so long, until there is news. The threads have a low priority; where others take all processors, handshakes get
/// this much of the workers' time: a step of 0.2 ms in 4 ms. Of 200 clients at once the last waited for 6 s, where it was 20 ms each time.
const HELP_EVERY: Duration = Duration::from_millis(4);

/// Steps that may wait where there are no threads: as many as for one.
const QUEUE_HERE: usize = 512;

/// For how long data that came for an application keeps steps away from its worker. A conversation over the widest path has as long
/// between two messages.
const DATA_LASTS: Duration = Duration::from_millis(500);

/// For how long a load counts after it was last seen. Were it over with the queue's, each moment without one would let in as many
/// strangers again as make one.
const LOAD_LASTS: Duration = Duration::from_secs(1);

/// One worker's steps.
pub(super) struct Executor {
    /// `None` in a simulation.
    pool: Option<CryptoPool>,
    link: Arc<Link>,
    waiting: VecDeque<(ConnectionHandle, CryptoJob)>,
    /// Steps that are handed over and have not come back.
    out: usize,
    /// When one came back, or the first was handed over, or the worker ran one in their stead.
    news: Instant,
    /// Steps that ran here, and whose results have not come back.
    own: usize,
    /// The worker has run one in the threads' stead, and they have given nothing back since.
    helps: bool,
    loaded_until: Option<Instant>,
    /// Whether there are processors that no worker keeps busy.
    has_spare: bool,
    data_until: Option<Instant>,
}

impl Executor {
    /// `has_spare`: there are more processors than workers.
    pub(super) fn new(pool: Option<CryptoPool>, link: Arc<Link>, has_spare: bool) -> Self {
        let news = Instant::from_nanos(0);
        Self { pool, link, waiting: VecDeque::new(), out: 0, news, own: 0, helps: false, loaded_until: None, has_spare, data_until: None }
    }

    /// Data came for an application.
    pub(super) fn on_data(&mut self, now: Instant) {
        self.data_until = Some(now + DATA_LASTS);
    }

    /// Whether data came for an application a moment ago, so that somebody waits for more of it.
    pub(super) fn has_data(&self, now: Instant) -> bool {
        self.data_until.is_some_and(|until| now < until)
    }

    /// Whether the worker may poll before it sleeps: not while the threads work for it, unless there are processors for both.
    pub(super) fn may_spin(&self) -> bool {
        self.has_spare || self.out == 0
    }

    /// A connection has a step to run.
    pub(super) fn push(&mut self, now: Instant, connection: ConnectionHandle, job: CryptoJob) {
        if self.is_idle() {
            self.news = now;
        }
        self.waiting.push_back((connection, job));
    }

    /// A step came back.
    pub(super) fn on_done(&mut self, now: Instant) {
        self.out = self.out.saturating_sub(1);
        self.news = now;
        if self.own > 0 {
            self.own -= 1;
        } else {
            self.helps = false;
        }
    }

    /// Hands steps over, and runs some here. Says whether there was anything to do.
    pub(super) fn run(&mut self, now: Instant, is_live: impl Fn(ConnectionHandle) -> bool) -> bool {
        let mut here = 0;
        let mut handed = false;
        let threads = self.pool.clone().filter(|pool| pool.threads() > 0);
        // A step that nobody else waits for is done soonest and cheapest here: a thread is woken by one system call and answers by
        // another, and where all processors have a worker it takes this one's turn.
        let has_data = self.has_data(now);
        let stays = !self.has_spare && !has_data;
        let steps = if has_data { STEPS_A_ROUND_WITH_DATA } else { STEPS_A_ROUND };
        for _ in 0..self.waiting.len() {
            let Some((connection, job)) = self.waiting.pop_front() else { break };
            if !is_live(connection) {
                continue;
            }
            let runs_there = threads.as_ref().filter(|_| !job.is_short() && !stays);
            match runs_there {
                Some(pool) if pool.queued() < pool.queue() => {
                    let step = self.step(connection, job);
                    // Refused at the last moment, or for want of a thread.
                    if let Err(refused) = pool.submit(move || step.run()) {
                        pool.run_here(refused.0);
                        self.own += 1;
                        here += 1;
                    }
                    handed = true;
                }
                None if here < steps => {
                    let step = self.step(connection, job);
                    self.run_here(step);
                    here += 1;
                }
                None if stays || threads.is_none() => {
                    self.waiting.push_front((connection, job));
                    break;
                }
                _ => self.waiting.push_back((connection, job)),
            }
        }
        if let Some(pool) = threads
            && self.next_deadline().is_some_and(|deadline| deadline <= now)
        {
            self.news = now;
            self.helps = true;
            pool.watch();
            if pool.run_one() {
                self.own += 1;
            } else if let Some((connection, job)) = self.waiting.pop_front() {
                let step = self.step(connection, job);
                self.run_here(step);
            }
            handed = true;
        }
        handed || here > 0
    }

    /// When the worker must look after the steps that are out.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        (!self.is_idle()).then(|| self.news + if self.helps { HELP_EVERY } else { HELP_AFTER })
    }

    /// How much of a load the steps are that wait: a quarter of the queue is one, which clients feel whose address is not known.
    pub(super) fn pressure(&mut self, now: Instant) -> Pressure {
        let (queued, room) = match &self.pool {
            Some(pool) if pool.threads() > 0 => (pool.queued(), pool.queue()),
            _ => (0, QUEUE_HERE),
        };
        let waiting = queued + self.waiting.len();
        if waiting >= (room / 4).max(1) {
            self.loaded_until = Some(now + LOAD_LASTS);
        }
        if waiting >= room {
            Pressure::Full
        } else if self.loaded_until.is_some_and(|until| now < until) {
            Pressure::High
        } else {
            Pressure::None
        }
    }

    fn is_idle(&self) -> bool {
        self.out == 0 && self.waiting.is_empty()
    }

    fn step(&mut self, connection: ConnectionHandle, job: CryptoJob) -> Step {
        self.out += 1;
        Step { job: Some(job), link: Arc::clone(&self.link), connection }
    }

    fn run_here(&mut self, step: Step) {
        self.own += 1;
        match &self.pool {
            Some(pool) => pool.run_here(|| step.run()),
            None => step.run(),
        }
    }
}

/// A step that is handed over.
struct Step {
    /// `None` once it has run.
    job: Option<CryptoJob>,
    link: Arc<Link>,
    connection: ConnectionHandle,
}

impl Step {
    fn run(mut self) {
        if let Some(job) = self.job.take() {
            self.link.deliver(self.connection, job.run());
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if self.job.is_some() {
            self.link.deliver(self.connection, CryptoDone::lost());
        }
    }
}

#[cfg(test)]
mod tests {
    use weald_crypto::simulation::{SERVER_NAME, roots};
    use weald_runtime::Handle;

    use super::super::link::Inbox;
    use super::*;
    use crate::config::ClientConfig;
    use crate::endpoint::Endpoint;
    use crate::handle::EndpointKeys;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    /// Runs `f` with so many first steps of clients, and a link.
    fn with_steps(steps: usize, f: impl FnOnce(Vec<(ConnectionHandle, CryptoJob)>, Arc<Link>) + Send) {
        weald_runtime::run(|| {
            let tls = weald_crypto::ClientConfig::builder().alpn([b"test"]).roots(roots()).simulation(1).build().unwrap();
            let config = ClientConfig::new(tls);
            let mut endpoint = Endpoint::new(EndpointKeys::new(&[1; 32], 0, 0), 0, 1, None, 1);
            let steps = (0..steps).map(|_| {
                let remote = "192.0.2.1:443".parse().unwrap();
                let (handle, mut protocol) = endpoint.connect(at(0), &config, remote, SERVER_NAME).unwrap();
                (handle, protocol.poll_crypto_job().unwrap())
            });
            f(steps.collect(), Arc::new(Link::new(Handle::current().unwrap(), 0)));
        });
    }

    fn come_back(executor: &mut Executor, now: Instant) -> Vec<ConnectionHandle> {
        let mut inbox = Inbox::default();
        executor.link.take_inbox(&mut inbox);
        inbox.done.iter().for_each(|_| executor.on_done(now));
        inbox.done.into_iter().map(|(connection, _)| connection).collect()
    }

    #[test]
    fn without_threads_a_few_steps_run_in_a_round_and_those_of_the_gone_do_not() {
        for pool in [None, Some(CryptoPool::new(0))] {
            with_steps(10, |steps, link| {
                let handles: Vec<_> = steps.iter().map(|(handle, _)| *handle).collect();
                let mut executor = Executor::new(pool, link, true);
                let is_live = |handle| handle != handles[1];
                for (handle, job) in steps {
                    executor.push(at(0), handle, job);
                }
                assert!(executor.run(at(0), is_live));
                assert_eq!(come_back(&mut executor, at(0)), [handles[0], handles[2], handles[3], handles[4]]);
                assert!(executor.run(at(0), is_live) && executor.run(at(0), is_live) && !executor.run(at(0), is_live));
                assert_eq!(come_back(&mut executor, at(0)), handles[5..]);
                assert_eq!(executor.next_deadline(), None);
            });
        }
    }

    #[test]
    fn without_threads_one_step_runs_in_a_round_while_there_is_data() {
        for pool in [None, Some(CryptoPool::new(0))] {
            with_steps(10, |steps, link| {
                let handles: Vec<_> = steps.iter().map(|(handle, _)| *handle).collect();
                let is_live = |handle| handle != handles[1];
                let mut executor = Executor::new(pool, link, true);
                executor.on_data(at(0));
                for (handle, job) in steps {
                    executor.push(at(0), handle, job);
                }
                for handle in handles.iter().filter(|handle| is_live(**handle)) {
                    assert!(executor.run(at(0), is_live));
                    assert_eq!(come_back(&mut executor, at(0)), [*handle]);
                }
                assert!(!executor.run(at(0), is_live));
                assert_eq!(executor.next_deadline(), None);
            });
        }
    }

    #[test]
    fn a_worker_that_hears_nothing_of_its_steps_runs_them() {
        with_steps(3, |steps, link| {
            let pool = CryptoPool::with_queue(1, 1);
            let (release, released) = std::sync::mpsc::channel::<()>();
            let (begun, begins) = std::sync::mpsc::channel();
            let stuck = pool.submit(move || {
                begun.send(()).unwrap();
                let _ = released.recv();
            });
            assert!(stuck.is_ok());
            begins.recv().unwrap();
            let mut executor = Executor::new(Some(pool), link, true);
            for (handle, job) in steps {
                executor.push(at(5), handle, job);
            }
            // One has room in the queue.
            assert!(executor.run(at(6), |_| true) && !executor.run(at(7), |_| true));
            assert_eq!((executor.waiting.len(), executor.out, executor.next_deadline()), (2, 1, Some(at(25))));
            // Then it does not wait for as long again, until the thread has given one back.
            for time in [25, 29, 33] {
                // What there is room for in the queue by now is handed over.
                assert!(!executor.run(at(time - 1), |_| true) || time > 25);
                assert_eq!(come_back(&mut executor, at(time)).len(), 0);
                assert!(executor.run(at(time), |_| true));
                assert_eq!(come_back(&mut executor, at(time)).len(), 1);
            }
            assert!(executor.is_idle());
            executor.out += 1;
            executor.on_done(at(34));
            assert!(!executor.helps);
            drop(release);
        });
    }

    #[test]
    fn a_step_that_nobody_runs_comes_back() {
        with_steps(1, |mut steps, link| {
            let mut executor = Executor::new(None, link, true);
            let (connection, job) = steps.pop().unwrap();
            drop(executor.step(connection, job));
            assert_eq!(executor.out, 1);
            assert_eq!(come_back(&mut executor, at(0)), [connection]);
            assert!(executor.is_idle());
        });
    }

    #[test]
    fn with_no_processor_to_spare_steps_stay_until_there_is_data() {
        with_steps(3, |steps, link| {
            let mut executor = Executor::new(Some(CryptoPool::new(1)), link, false);
            let mut steps = steps.into_iter();
            let mut begin = |executor: &mut Executor, now| {
                let (handle, job) = steps.next().unwrap();
                executor.push(now, handle, job);
                assert!(executor.run(now, |_| true));
                executor.pool.as_ref().unwrap().stats().here
            };
            assert_eq!(begin(&mut executor, at(1)), 1);
            assert_eq!(come_back(&mut executor, at(1)).len(), 1);
            executor.on_data(at(2));
            assert_eq!(begin(&mut executor, at(501)), 1);
            assert!(!executor.may_spin(), "a thread may want this processor");
            while executor.out > 0 {
                come_back(&mut executor, at(501));
            }
            assert!(executor.may_spin());
            assert_eq!(begin(&mut executor, at(502)), 2);
        });
    }

    #[test]
    fn a_load_counts_for_a_second_after_it_was_last_seen() {
        with_steps(QUEUE_HERE, |steps, link| {
            let mut executor = Executor::new(None, link, true);
            let mut levels = Vec::new();
            for (handle, job) in steps {
                levels.push(executor.pressure(at(1)));
                executor.push(at(1), handle, job);
            }
            let level = |waiting| if waiting < QUEUE_HERE / 4 { Pressure::None } else { Pressure::High };
            assert!(levels.iter().enumerate().all(|(waiting, pressure)| *pressure == level(waiting)));
            assert_eq!(executor.pressure(at(1)), Pressure::Full);
            // All of those who wait are gone.
            executor.run(at(2), |_| false);
            assert_eq!((executor.pressure(at(2)), executor.pressure(at(1000))), (Pressure::High, Pressure::High));
            assert_eq!(executor.pressure(at(1001)), Pressure::None);
        });
    }
}
