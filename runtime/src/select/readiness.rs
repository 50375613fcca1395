//! What others implement to be selected: readiness, then try.
//!
//! Owns the trait. The models of `--cfg loom` have the same; how a select uses it is in `registered` here.

use crate::Coroutine;
use crate::time::Instant;

/// A source that is ready at times: a socket, a stream, a queue, a coroutine that ends.
///
/// A select tries all its arms; if none is ready it registers with each, tries the registered ones once more, and parks. When it
/// is unparked it leaves all and begins anew. So a source need not tell who it was that it woke, and waking too many is
/// harmless.
///
/// What the implementor guarantees: **after [`register`](Self::register) has returned, the caller is unparked whenever
/// [`attempt`](Self::attempt) may begin to succeed**, until [`unregister`](Self::unregister). Usually both take the lock
/// that guards the condition; then *register, try, park* against *change, unpark* misses nothing. If the source wakes only one of those
/// who wait (as a queue might), then `unregister` passes an unused wake on to the next.
///
/// ```
/// use std::sync::Mutex;
/// use weald_runtime::{Coroutine, select, select::Readiness, spawn};
///
/// /// A flag to wait for.
/// #[derive(Default)]
/// struct Flag(Mutex<(bool, Vec<Coroutine>)>);
///
/// impl Flag {
///     fn set(&self) {
///         let waiting = {
///             let mut state = self.0.lock().unwrap();
///             state.0 = true;
///             std::mem::take(&mut state.1)
///         };
///         waiting.iter().for_each(Coroutine::unpark);
///     }
/// }
///
/// impl Readiness for &Flag {
///     type Output = Result<(), &'static str>;
///     type Registration = u64;
///
///     fn attempt(&mut self) -> Option<Self::Output> {
///         self.0.lock().unwrap().0.then_some(Ok(()))
///     }
///
///     fn register(&mut self, waiter: &Coroutine) -> u64 {
///         self.0.lock().unwrap().1.push(waiter.clone());
///         waiter.id()
///     }
///
///     fn unregister(&mut self, id: u64) {
///         self.0.lock().unwrap().1.retain(|waiter| waiter.id() != id);
///     }
///
///     fn cancelled(&mut self) -> Self::Output {
///         Err("cancelled")
///     }
/// }
///
/// weald_runtime::run(|| {
///     let flag = std::sync::Arc::new(Flag::default());
///     let setter = flag.clone();
///     spawn(move || setter.set());
///     select! {
///         wait(&*flag) -> set => set.unwrap(),
///         default(std::time::Duration::from_secs(10)) => panic!("it was not set"),
///     }
/// });
/// ```
pub trait Readiness {
    /// What a successful try gives.
    type Output;

    /// What is needed to take a registration back. It lies on the stack of the one who selects, so nothing need be allocated.
    type Registration;

    /// Takes the output if it is there. Does not park.
    fn attempt(&mut self) -> Option<Self::Output>;

    /// Has `waiter`, who is the caller, unparked from now on when a try is worth while.
    fn register(&mut self, waiter: &Coroutine) -> Self::Registration;

    /// Takes a registration back. Called once for each, on the same thread, also when the select unwinds. Does not park.
    fn unregister(&mut self, registration: Self::Registration);

    /// What the arm gives when the caller's coroutine is cancelled: as a rule an error of its own, or whatever makes the
    /// operation that follows say so.
    fn cancelled(&mut self) -> Self::Output;

    /// A time at which a try is worth while without an unpark. Asked after registering. Does not park.
    fn deadline(&self) -> Option<Instant> {
        None
    }
}
