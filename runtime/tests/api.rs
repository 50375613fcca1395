//! What a program may rely on of the public types: what crosses threads, what prints, which errors go where.

use std::error::Error;
use std::fmt::{Debug, Display};
use std::io;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::mpsc;
use std::time::Duration;

use weald_runtime::channel::{self, RecvError, RecvTimeoutError, SendError, SendTimeoutError, oneshot};
use weald_runtime::net::{self, RecvBatch, SendBatch, TcpListener, TcpStream, UdpSocket};
use weald_runtime::sync::{self, Barrier, Condvar, Mutex, MutexGuard, Notify, RwLock, Semaphore, WaitGroup};
use weald_runtime::time::Instant;
use weald_runtime::{
    Builder, CancellationToken, Coroutine, Handle, JoinError, JoinHandle, Runtime, RuntimeBuilder, ScopedJoinHandle, ShutdownReport, run,
    select, sim, spawn, try_sleep, try_sleep_until,
};

/// A value that may be sent and not shared.
type Sent = std::cell::Cell<u8>;
/// One that may be neither.
type Stays = std::rc::Rc<u8>;

/// Tells whether a type has a trait: the inherent constant, which is there if it has, comes before the trait's.
macro_rules! has {
    ($type:ty: $($bound:tt)+) => {{
        #[allow(dead_code, reason = "unused where the type has it")]
        trait Otherwise {
            const HAS: bool = false;
        }
        impl<T: ?Sized> Otherwise for T {}
        struct Ask<T: ?Sized>(std::marker::PhantomData<T>);
        #[allow(dead_code, reason = "unused where the type has not got it")]
        impl<T: ?Sized + $($bound)+> Ask<T> {
            const HAS: bool = true;
        }
        <Ask<$type>>::HAS
    }};
}

fn shared<T: Send + Sync + Debug>() {}
fn error<T: Error + Send + Sync + 'static>() {}
fn unwinds<T: UnwindSafe + RefUnwindSafe>() {}

#[test]
fn handles_go_to_any_thread() {
    shared::<Runtime>();
    shared::<RuntimeBuilder>();
    shared::<Handle>();
    shared::<Builder>();
    shared::<Coroutine>();
    shared::<CancellationToken>();
    shared::<ShutdownReport>();
    shared::<JoinHandle<u8>>();
    shared::<ScopedJoinHandle<'_, u8>>();
    shared::<channel::Sender<Sent>>();
    shared::<channel::Receiver<Sent>>();
    shared::<oneshot::Sender<Sent>>();
    shared::<oneshot::Receiver<Sent>>();
    shared::<Mutex<Sent>>();
    shared::<RwLock<u8>>();
    shared::<Condvar>();
    shared::<Semaphore>();
    shared::<Barrier>();
    shared::<WaitGroup>();
    shared::<Notify>();
    shared::<TcpListener>();
    shared::<TcpStream>();
    shared::<UdpSocket>();
    shared::<RecvBatch>();
    shared::<SendBatch>();
    shared::<weald_runtime::signal::Signals>();
    shared::<weald_runtime::dump::Dump>();
    shared::<weald_runtime::metrics::Metrics>();
    shared::<sim::Simulation>();
    shared::<Instant>();
    unwinds::<Runtime>();
    unwinds::<Handle>();
}

#[test]
fn what_must_stay_stays() {
    assert!(has!(JoinHandle<Sent>: Send) && !has!(JoinHandle<Stays>: Send) && !has!(JoinHandle<Sent>: Sync));
    assert!(!has!(channel::Sender<Stays>: Send) && !has!(channel::Receiver<Stays>: Sync));
    assert!(!has!(oneshot::Sender<Stays>: Send) && !has!(oneshot::Receiver<Stays>: Send));
    assert!(!has!(Mutex<Stays>: Send) && !has!(Mutex<Stays>: Sync));
    assert!(has!(RwLock<Sent>: Send) && !has!(RwLock<Sent>: Sync) && !has!(RwLock<Stays>: Send));
    assert!(!has!(MutexGuard<'static, Sent>: Sync) && has!(MutexGuard<'static, u8>: Sync));
    assert!(!has!(sync::RwLockReadGuard<'static, Stays>: Sync) && !has!(sync::RwLockWriteGuard<'static, Sent>: Sync));
    assert!(!has!(ScopedJoinHandle<'static, Stays>: Send));
}

#[test]
fn errors_go_wherever_errors_go() {
    error::<JoinError>();
    error::<net::Cancelled>();
    error::<sync::Cancelled>();
    error::<sync::WaitError>();
    error::<sync::LockTimeoutError>();
    error::<SendError<u8>>();
    error::<channel::TrySendError<u8>>();
    error::<SendTimeoutError<u8>>();
    error::<RecvError>();
    error::<channel::TryRecvError>();
    error::<RecvTimeoutError>();
}

#[test]
fn an_error_of_waiting_is_one_of_waiting_with_a_limit() {
    assert_eq!(SendTimeoutError::from(SendError::Disconnected(1)), SendTimeoutError::Disconnected(1));
    assert_eq!(SendTimeoutError::from(SendError::Cancelled(2)), SendTimeoutError::Cancelled(2));
    assert_eq!(RecvTimeoutError::from(RecvError::Disconnected), RecvTimeoutError::Disconnected);
    assert_eq!(RecvTimeoutError::from(RecvError::Cancelled), RecvTimeoutError::Cancelled);
}

#[test]
fn cancellations_and_panics_are_errors_of_io() {
    let is_cancelled = |error: &io::Error| error.get_ref().is_some_and(|inner| inner.is::<net::Cancelled>());
    run(|| {
        let sleep = || -> io::Result<()> { Ok(try_sleep(Duration::from_secs(60))?) };
        let sleeper = spawn(sleep);
        sleeper.cancel();
        let error = sleeper.join().expect("no panic").expect_err("cancelled");
        assert!(is_cancelled(&error), "{error}");

        let stopped = CancellationToken::new();
        stopped.cancel();
        let child = spawn(|| weald_runtime::shield(|| weald_runtime::sleep(Duration::from_millis(20))));
        let error = stopped.run(|| -> io::Result<()> { Ok(child.join()?) }).expect_err("cancelled");
        assert!(is_cancelled(&error), "{error}");

        let error = io::Error::from(spawn(|| panic!("on {}", "purpose")).join().expect_err("it panicked"));
        assert!(!is_cancelled(&error) && error.to_string().contains("on purpose"), "{error}");
    });
}

#[test]
fn a_panic_keeps_its_payload_and_its_text() {
    run(|| {
        let error = spawn(|| std::panic::panic_any(17_u8)).join().expect_err("it panicked");
        let JoinError::Panicked(payload) = &error else { panic!("{error}") };
        assert_eq!((payload.message(), error.is_panic()), (None, true));
        assert_eq!(error.into_panic().and_then(|payload| payload.downcast::<u8>().ok()), Some(Box::new(17)));
        let error = spawn(|| panic!("text")).join().expect_err("it panicked");
        assert_eq!(format!("{error}"), "the coroutine panicked: text");
    });
}

#[test]
fn deadlines_pass_and_ends_come_before_them() {
    run(|| {
        let soon = || Instant::now() + Duration::from_millis(2);
        let far = Instant::now() + Duration::from_secs(60);
        let (sender, receiver) = channel::bounded::<u8>(1);
        let mut child = spawn(move || receiver.recv());
        assert_eq!(child.wait_deadline(soon()), Err(sync::WaitError::Timeout));
        sender.send(1).expect("room");
        assert_eq!(child.wait_deadline(far), Ok(()));
        assert_eq!(child.join().expect("no panic"), Ok(1));

        let token = CancellationToken::new();
        assert_eq!(token.wait_deadline(soon()), Err(sync::WaitError::Timeout));
        token.cancel();
        assert_eq!(token.wait_deadline(far), Ok(()));
        assert!(token.run(|| try_sleep_until(far)).is_err());
        assert_eq!(try_sleep_until(soon()), Ok(()));

        let (sender, receiver) = channel::bounded::<u8>(1);
        assert_eq!(select::first_of_deadline([receiver.receiving()], soon()), None);
        sender.send(2).expect("room");
        assert_eq!(select::first_of_deadline([receiver.receiving()], far), Some((0, Ok(2))));
    });
}

#[test]
fn guards_and_batches_print() {
    fn shown(value: &(impl Debug + Display + ?Sized)) -> String {
        format!("{value} {value:?}")
    }
    let (mutex, lock) = (Mutex::new(1), RwLock::new(2));
    assert_eq!(shown(&mutex.lock()), "1 1");
    assert_eq!(shown(&lock.read()), "2 2");
    assert_eq!(shown(&lock.write()), "2 2");
    assert_eq!(format!("{:?}", RecvBatch::new()), "[]");
    assert_eq!(format!("{:?}", SendBatch::new()), "SendBatch { transmits: 0, bytes: 0, .. }");
}

#[test]
fn panic_payloads_are_sent_and_not_looked_at_by_two() {
    let (sender, receiver) = mpsc::channel();
    let error = run(|| spawn(|| std::panic::panic_any(std::cell::Cell::new(3))).join().expect_err("it panicked"));
    std::thread::scope(|threads| {
        threads.spawn(|| sender.send(error.to_string()));
        assert_eq!(receiver.recv().as_deref(), Ok(error.to_string().as_str()));
    });
}
