//! Threads for handshake steps, so that a step of a fraction of a millisecond holds up nobody but its own connection.
//!
//! Owns the threads (when one starts, how low its priority is, when it is given up for lost), the queue and its bound, and the
//! counts of both. Does not own what a job is, where its result goes, or what becomes of clients while the queue is long; those
//! are the caller's.
//!
//! Invariants:
//! - No more than `queue` jobs wait, and no more than `threads` threads are at work. As many again may be stuck in jobs that do
//!   not end; they are written off, and go when their jobs end after all.
//! - A job that was taken in runs, also if the pool's last handle goes meanwhile; if there is no thread for it because the
//!   system refuses one, it is not taken in.
//! - A job that panics ends neither its thread nor another's job.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use thread_priority::{NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};

mod stats;
#[cfg(test)]
mod tests;

pub use stats::{CryptoPoolStats, Times};

use stats::Counts;

/// Jobs that may wait for each thread: 130 ms of work, if each takes a quarter of a millisecond. What waits longer is about to be
/// asked for again by its peer.
const QUEUE_A_THREAD: usize = 512;

/// A job that takes so long will not end. A step takes a millisecond at most, some hundred times as much on a machine that is
/// busy with other things, and a handshake is given up after ten seconds.
const STUCK_AFTER: Duration = Duration::from_secs(2);

/// Threads for handshake steps ([`Session::advance`](crate::Session::advance)), with one bounded queue.
///
/// The threads have the system's lowest priority (`SCHED_IDLE`): they take what processor time others leave, and a thread that
/// has packets to move takes theirs at once. They are started as jobs come, one at a time, and stay. Cheap to clone; clones are the same pool. When the last one
/// is dropped, what waits still runs, and the threads end.
///
/// ```
/// use std::sync::mpsc;
/// use weald_crypto::CryptoPool;
///
/// let pool = CryptoPool::new(2);
/// let (results, result) = mpsc::channel();
/// let accepted = pool.submit(move || drop(results.send(6 * 7)));
/// assert!(accepted.is_ok(), "the queue is empty");
/// assert_eq!(result.recv(), Ok(42));
/// ```
#[derive(Clone)]
pub struct CryptoPool {
    handle: Arc<PoolHandle>,
}

/// What goes with the last clone.
struct PoolHandle {
    shared: Arc<Shared>,
    sender: Sender<Job>,
    /// For jobs that their submitters run themselves after all.
    receiver: Receiver<Job>,
}

/// What the threads share.
struct Shared {
    threads: usize,
    queue: usize,
    stuck_after: Duration,
    epoch: Instant,
    /// Jobs that wait: counted before they are in the channel, and until they are out of it.
    queued: AtomicUsize,
    /// Threads that wait for a job.
    idle: AtomicUsize,
    /// When threads were last looked at, in nanoseconds since the epoch.
    looked: AtomicU64,
    crew: Mutex<Crew>,
    counts: Counts,
}

#[derive(Default)]
struct Crew {
    /// Of each thread that is at work or waits for some.
    members: Vec<Arc<Member>>,
    /// Threads that were written off and have not come back.
    stuck: usize,
    /// Threads ever started, to name the next one by.
    started: u64,
}

/// One thread.
#[derive(Default)]
struct Member {
    /// When its job began, in nanoseconds since the epoch; zero if it has none.
    since: AtomicU64,
    /// Another was started in its place. Stored under the crew's lock.
    written_off: AtomicBool,
}

struct Job {
    run: Box<dyn FnOnce() + Send>,
    queued: Instant,
}

/// A job that was not taken in, because as many wait as may, or because there is no thread and the system refuses one.
pub struct NotTaken<F>(pub F);

impl CryptoPool {
    /// A pool of up to `threads` threads, for each of which up to 512 jobs wait. One with none takes no jobs: who would submit them
    /// runs them where they came up.
    pub fn new(threads: usize) -> CryptoPool {
        Self::with_queue(threads, threads.saturating_mul(QUEUE_A_THREAD))
    }

    /// The same with a queue of up to `queue` jobs, whatever the number of threads.
    pub fn with_queue(threads: usize, queue: usize) -> CryptoPool {
        Self::with(threads, queue, STUCK_AFTER)
    }

    fn with(threads: usize, queue: usize, stuck_after: Duration) -> CryptoPool {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let shared = Shared {
            threads,
            queue,
            stuck_after,
            epoch: present(),
            queued: AtomicUsize::new(0),
            idle: AtomicUsize::new(0),
            looked: AtomicU64::new(0),
            crew: Mutex::default(),
            counts: Counts::default(),
        };
        CryptoPool { handle: Arc::new(PoolHandle { shared: Arc::new(shared), sender, receiver }) }
    }

    /// How many threads it has at most.
    pub fn threads(&self) -> usize {
        self.shared().threads
    }

    /// How many jobs may wait.
    pub fn queue(&self) -> usize {
        self.shared().queue
    }

    /// How many jobs wait.
    pub fn queued(&self) -> usize {
        // Relaxed: a length that is old when it is read.
        self.shared().queued.load(Ordering::Relaxed)
    }

    /// Has one of the threads run `job`. Jobs begin in the order of their coming.
    ///
    /// # Errors
    /// [`NotTaken`] gives the job back: too many wait, or no thread could be started.
    pub fn submit<F: FnOnce() + Send + 'static>(&self, job: F) -> Result<(), NotTaken<F>> {
        let shared = self.shared();
        // Relaxed here and below: the channel orders what must be ordered, and the bound holds for any order.
        let waiting = shared.queued.fetch_add(1, Ordering::Relaxed);
        if waiting >= shared.queue || !self.has_thread(waiting + 1) {
            shared.queued.fetch_sub(1, Ordering::Relaxed);
            shared.counts.not_taken.fetch_add(1, Ordering::Relaxed);
            return Err(NotTaken(job));
        }
        let queued = present();
        let sent = self.handle.sender.send(Job { run: Box::new(job), queued });
        debug_assert!(sent.is_ok(), "the receiver is in the same handle");
        self.look(queued);
        Ok(())
    }

    /// Runs `job` on the caller's own thread, which needs the stack for it, and counts it. A panic goes on to the caller.
    pub fn run_here<T>(&self, job: impl FnOnce() -> T) -> T {
        let counts = &self.shared().counts;
        let begun = present();
        let result = job();
        counts.here.fetch_add(1, Ordering::Relaxed);
        counts.ran.note(present().saturating_duration_since(begun));
        result
    }

    /// Runs the job that waits longest on the caller's own thread, as [`CryptoPool::run_here`]; its panic ends here. False if none
    /// waits.
    pub fn run_one(&self) -> bool {
        match self.handle.receiver.try_recv() {
            Ok(job) => {
                self.shared().counts.here.fetch_add(1, Ordering::Relaxed);
                self.shared().run(job);
                true
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => false,
        }
    }

    /// Looks whether a thread is stuck in a job, and starts another in its place. Submitting does so, too; who waits for a job
    /// calls it every second or so, in case that nobody submits.
    pub fn watch(&self) {
        self.look(present());
    }

    /// What the pool holds and has done.
    pub fn stats(&self) -> CryptoPoolStats {
        let shared = self.shared();
        let crew = shared.crew();
        let running = crew.members.iter().filter(|member| member.since.load(Ordering::Relaxed) != 0).count();
        CryptoPoolStats { threads: crew.members.len(), stuck: crew.stuck, running, queued: self.queued(), ..shared.counts.read() }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// Sees to it that somebody comes for `waiting` jobs. False if nobody will.
    fn has_thread(&self, waiting: usize) -> bool {
        let shared = self.shared();
        if waiting <= shared.idle.load(Ordering::Relaxed) {
            return true;
        }
        let mut crew = shared.crew();
        if crew.members.len() >= shared.threads {
            return shared.threads > 0;
        }
        match start(shared, &self.handle.receiver, &mut crew) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "no thread for handshakes");
                !crew.members.is_empty()
            }
        }
    }

    /// Writes off threads that are stuck, if nobody has looked lately.
    fn look(&self, now: Instant) {
        let shared = self.shared();
        let (at, pause) = (shared.nanos(now), nanos(shared.stuck_after) / 4);
        let looked = shared.looked.load(Ordering::Relaxed);
        if at < looked.saturating_add(pause) || shared.looked.compare_exchange(looked, at, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let is_stuck = |member: &Member| {
            let since = member.since.load(Ordering::Relaxed);
            since != 0 && at.saturating_sub(since) >= nanos(shared.stuck_after)
        };
        let mut crew = shared.crew();
        while crew.stuck < shared.threads
            && let Some(index) = crew.members.iter().position(|member| is_stuck(member))
        {
            tracing::error!(after = ?shared.stuck_after, "a step of a handshake does not end; its thread is replaced");
            let member = crew.members.swap_remove(index);
            member.written_off.store(true, Ordering::Relaxed);
            crew.stuck += 1;
            shared.counts.written_off.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = start(shared, &self.handle.receiver, &mut crew) {
                tracing::warn!(%error, "no thread for handshakes");
            }
        }
    }
}

impl fmt::Debug for CryptoPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CryptoPool")
            .field("threads", &self.threads())
            .field("queue", &self.queue())
            .field("queued", &self.queued())
            .finish()
    }
}

impl<F> fmt::Debug for NotTaken<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NotTaken")
    }
}

impl Shared {
    fn crew(&self) -> MutexGuard<'_, Crew> {
        self.crew.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nanos(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.epoch))
    }

    /// Runs a job that was taken out of the channel.
    fn run(&self, job: Job) {
        self.queued.fetch_sub(1, Ordering::Relaxed);
        let begun = present();
        self.counts.waited.note(begun.saturating_duration_since(job.queued));
        if let Err(payload) = catch_unwind(AssertUnwindSafe(job.run)) {
            self.counts.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!("a panic in a step of a handshake: please report it");
            // It may panic in its turn, and then what that leaves is not touched any more.
            std::mem::forget(catch_unwind(AssertUnwindSafe(|| drop(payload))));
        }
        self.counts.ran.note(present().saturating_duration_since(begun));
    }
}

/// Starts one more thread. The crew is locked, so that there is never one too many.
fn start(shared: &Arc<Shared>, receiver: &Receiver<Job>, crew: &mut Crew) -> io::Result<()> {
    let member = Arc::new(Member::default());
    let name = format!("weald-crypto-{}", crew.started);
    let (its_shared, its_receiver, its_member) = (Arc::clone(shared), receiver.clone(), Arc::clone(&member));
    let work = move || AtWork { shared: its_shared, receiver: its_receiver, member: its_member }.work();
    std::thread::Builder::new().name(name).spawn(work)?;
    crew.started += 1;
    crew.members.push(member);
    Ok(())
}

/// What a thread is while it lives.
struct AtWork {
    shared: Arc<Shared>,
    receiver: Receiver<Job>,
    member: Arc<Member>,
}

impl AtWork {
    fn work(self) {
        lower_priority();
        let (shared, member) = (&self.shared, &self.member);
        loop {
            shared.idle.fetch_add(1, Ordering::Relaxed);
            let job = self.receiver.recv();
            shared.idle.fetch_sub(1, Ordering::Relaxed);
            // Nobody submits any more, and nothing is left.
            let Ok(job) = job else { return };
            member.since.store(shared.nanos(present()).max(1), Ordering::Relaxed);
            shared.run(job);
            member.since.store(0, Ordering::Relaxed);
            if member.written_off.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

impl Drop for AtWork {
    /// However it ends, it is no longer counted.
    fn drop(&mut self) {
        let mut crew = self.shared.crew();
        if self.member.written_off.load(Ordering::Relaxed) {
            crew.stuck -= 1;
        } else {
            crew.members.retain(|member| !Arc::ptr_eq(member, &self.member));
        }
    }
}

/// Steps of handshakes wait for everything else. Who refuses that gets them at the process's priority.
fn lower_priority() {
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    if let Err(error) = thread_priority::set_thread_priority_and_policy(thread_priority::thread_native_id(), ThreadPriority::Min, idle) {
        tracing::debug!(%error, "the threads for handshakes keep the priority of the process");
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "a simulation has no threads, and does not come here")]
fn present() -> Instant {
    Instant::now()
}
