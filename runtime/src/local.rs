//! Owns coroutine-locals: values that each coroutine, and each plain thread, has its own of.
//!
//! It does not own their place: a task has one [`Locals`], a pointer that is null until the first value, and so has a thread.
//!
//! Invariants:
//! - A value is made, lent and dropped on its coroutine's worker, on the coroutine's own stack: after its function has
//!   returned or was unwound, and before its end is published. So values need not be `Send`.
//! - A value does not move and is not dropped while it is lent, though its coroutine parks meanwhile.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem;
use std::panic;
use std::ptr;
use std::rc::Rc;
use std::thread::AccessError;

use crate::contained::{Payload, contained};
use crate::scheduler::current;

/// Declares values of which every coroutine has its own, as `std::thread_local!` does for threads.
///
/// A coroutine's value is made when it first uses it, and dropped at its end, before its join returns. Plain threads have
/// theirs as well. See [`CoroutineLocal`].
///
/// ```
/// use std::cell::Cell;
///
/// weald_runtime::coroutine_local! {
///     static REQUEST: Cell<u64> = const { Cell::new(0) };
/// }
///
/// weald_runtime::run(|| {
///     REQUEST.set(1);
///     let other = weald_runtime::spawn_local(|| REQUEST.get());
///     assert_eq!(other.join().expect("no panic"), 0);
///     assert_eq!(REQUEST.get(), 1);
/// });
/// ```
#[macro_export]
macro_rules! coroutine_local {
    () => {};
    ($(#[$attribute:meta])* $visibility:vis static $name:ident: $type:ty = const $initial:block $(; $($rest:tt)*)?) => {
        $(#[$attribute])*
        $visibility static $name: $crate::CoroutineLocal<$type> = {
            fn initialize() -> $type {
                const { $initial }
            }
            $crate::CoroutineLocal::new(initialize)
        };
        $($crate::coroutine_local! { $($rest)* })?
    };
    ($(#[$attribute:meta])* $visibility:vis static $name:ident: $type:ty = $initial:expr $(; $($rest:tt)*)?) => {
        $(#[$attribute])*
        $visibility static $name: $crate::CoroutineLocal<$type> = {
            fn initialize() -> $type {
                $initial
            }
            $crate::CoroutineLocal::new(initialize)
        };
        $($crate::coroutine_local! { $($rest)* })?
    };
}

/// The way to the caller's own value of a [`coroutine_local!`]. Its methods are those of `std::thread::LocalKey`.
///
/// Values are dropped, the newest first, on the coroutine's stack when its function has returned; their destructors may
/// block, spawn, and use the values that are older. What a destructor uses that is dropped already is made anew, and dropped in turn;
/// after four such rounds it is leaked. A destructor that panics fails the coroutine, as a panic before would
/// have; the others are dropped all the same.
///
/// A use costs a few nanoseconds for each value that the coroutine has, since it searches them; the first makes an allocation.
pub struct CoroutineLocal<T: 'static> {
    initialize: fn() -> T,
}

impl<T: 'static> CoroutineLocal<T> {
    #[doc(hidden)]
    #[must_use]
    pub const fn new(initialize: fn() -> T) -> Self {
        Self { initialize }
    }

    /// Lends the caller's value to `f`, which may park.
    ///
    /// # Panics
    ///
    /// On a plain thread whose values are destroyed already.
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        match self.try_with(f) {
            Ok(result) => result,
            Err(error) => panic!("cannot use a coroutine-local: {error}"),
        }
    }

    /// As [`with`](Self::with), without the panic.
    ///
    /// # Errors
    ///
    /// On a plain thread whose values are destroyed already.
    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        let value = match locals(|locals| locals.find(self.key()))? {
            Some(value) => value,
            None => {
                let value: Rc<dyn Any> = Rc::new((self.initialize)());
                locals(|locals| locals.push(self.key(), Rc::clone(&value)))?;
                value
            }
        };
        Ok(f(value.downcast_ref::<T>().expect("a key has values of one type")))
    }

    /// Runs `f` with `value` in place of the caller's own, which comes back afterwards. The value is not made if there was none.
    ///
    /// ```
    /// weald_runtime::coroutine_local! {
    ///     static USER: String = String::from("nobody");
    /// }
    ///
    /// weald_runtime::run(|| {
    ///     USER.scope("alice".to_owned(), || USER.with(|user| assert_eq!(user, "alice")));
    ///     USER.with(|user| assert_eq!(user, "nobody"));
    /// });
    /// ```
    ///
    /// # Panics
    ///
    /// On a plain thread whose values are destroyed already.
    pub fn scope<R>(&'static self, value: T, f: impl FnOnce() -> R) -> R {
        struct Leave(Rc<dyn Any>);
        impl Drop for Leave {
            fn drop(&mut self) {
                // The value itself is dropped with the guard, when the list is not in use.
                let _ = locals(|locals| locals.remove(&self.0));
            }
        }
        let value: Rc<dyn Any> = Rc::new(value);
        if let Err(error) = locals(|locals| locals.push(self.key(), Rc::clone(&value))) {
            panic!("cannot use a coroutine-local: {error}");
        }
        let _leave = Leave(value);
        f()
    }

    fn key(&'static self) -> *const () {
        ptr::from_ref(self).cast()
    }
}

impl<T: 'static> CoroutineLocal<Cell<T>> {
    /// Sets the caller's value.
    pub fn set(&'static self, value: T) {
        self.with(|cell| cell.set(value));
    }

    /// A copy of the caller's value.
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }

    /// Takes the caller's value, and leaves the default.
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(Cell::take)
    }

    /// Sets the caller's value, and returns the former.
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> CoroutineLocal<RefCell<T>> {
    /// Lends the caller's value.
    ///
    /// # Panics
    ///
    /// If it is lent mutably.
    pub fn with_borrow<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.with(|cell| f(&cell.borrow()))
    }

    /// Lends the caller's value mutably.
    ///
    /// # Panics
    ///
    /// If it is lent.
    pub fn with_borrow_mut<R>(&'static self, f: impl FnOnce(&mut T) -> R) -> R {
        self.with(|cell| f(&mut cell.borrow_mut()))
    }

    /// Sets the caller's value.
    ///
    /// # Panics
    ///
    /// If it is lent.
    pub fn set(&'static self, value: T) {
        drop(self.replace(value));
    }

    /// Takes the caller's value, and leaves the default.
    ///
    /// # Panics
    ///
    /// If it is lent.
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(RefCell::take)
    }

    /// Sets the caller's value, and returns the former.
    ///
    /// # Panics
    ///
    /// If it is lent.
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> fmt::Debug for CoroutineLocal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoroutineLocal").finish_non_exhaustive()
    }
}

/// As many times a destructor may make a value whose destructor makes a value; what the last ones make is leaked. As of pthreads.
const GENERATIONS: usize = 4;

/// The values of one coroutine, or thread. One pointer, null without any.
#[derive(Default)]
#[expect(clippy::box_collection, reason = "most tasks have none: one pointer, and not three words")]
pub(crate) struct Locals(Cell<Option<Box<Vec<Local>>>>);

struct Local {
    key: *const (),
    value: Rc<dyn Any>,
}

impl Locals {
    /// Drops all values, the newest first, and those that their destructors make, up to [`GENERATIONS`]. The error is the first
    /// panic of one.
    #[inline]
    pub(crate) fn end(&self) -> Result<(), Payload> {
        match self.0.take() {
            None => Ok(()),
            some => {
                self.0.set(some);
                self.end_all()
            }
        }
    }

    #[cold]
    fn end_all(&self) -> Result<(), Payload> {
        let mut first = Ok(());
        // How many values there were before those that a destructor has made, and before those that the destructors of these have.
        let mut made = Vec::with_capacity(GENERATIONS);
        while let Some(mut locals) = self.0.take() {
            while made.pop_if(|older| *older >= locals.len()).is_some() {}
            let Some(local) = locals.pop() else { continue };
            let older = locals.len();
            self.0.set(Some(locals));
            first = first.and(contained(|| drop(local)));
            let Some(mut locals) = self.0.take() else { continue };
            if locals.len() > older {
                if made.len() < GENERATIONS {
                    made.push(older);
                } else {
                    tracing::error!("coroutine-locals whose destructors make new ones without end are leaked");
                    locals.drain(older..).for_each(mem::forget);
                }
            }
            self.0.set(Some(locals));
        }
        first
    }

    fn find(&self, key: *const ()) -> Option<Rc<dyn Any>> {
        let locals = self.0.take()?;
        let found = locals.iter().rfind(|local| ptr::eq(local.key, key)).map(|local| Rc::clone(&local.value));
        self.0.set(Some(locals));
        found
    }

    fn push(&self, key: *const (), value: Rc<dyn Any>) {
        let mut locals = self.0.take().unwrap_or_default();
        locals.push(Local { key, value });
        self.0.set(Some(locals));
    }

    /// Takes a value, of which the caller has a reference, out.
    fn remove(&self, value: &Rc<dyn Any>) {
        let Some(mut locals) = self.0.take() else { return };
        if let Some(position) = locals.iter().rposition(|local| Rc::ptr_eq(&local.value, value)) {
            locals.remove(position);
        }
        self.0.set(Some(locals));
    }
}

/// A plain thread's values, or those of a worker's hooks.
struct ThreadLocals(Locals);

impl Drop for ThreadLocals {
    fn drop(&mut self) {
        if let Err(payload) = self.0.end() {
            // As a panic in a destructor of std's: it ends the process.
            panic::resume_unwind(payload.into_inner());
        }
    }
}

thread_local! {
    static OF_THREAD: ThreadLocals = const { ThreadLocals(Locals(Cell::new(None))) };
}

/// Lends the caller's values.
fn locals<R>(f: impl FnOnce(&Locals) -> R) -> Result<R, AccessError> {
    let mut f = Some(f);
    match current::with_locals(|locals| (f.take().expect("called once"))(locals)) {
        Some(result) => Ok(result),
        None => OF_THREAD.try_with(|locals| (f.take().expect("called once"))(&locals.0)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    coroutine_local! {
        static NUMBER: Cell<u32> = const { Cell::new(7) };
        static WORDS: RefCell<Vec<&'static str>> = RefCell::new(vec!["first"]);
        static SAYS: RefCell<Option<Says>> = const { RefCell::new(None) };
        static OLDER: Cell<u32> = Cell::new(1);
    }

    struct Says(mpsc::Sender<u32>);

    impl Drop for Says {
        fn drop(&mut self) {
            self.0.send(OLDER.get()).expect("the test listens");
        }
    }

    #[test]
    fn threads_have_their_own_which_end_with_them() {
        NUMBER.set(8);
        WORDS.with_borrow_mut(|words| words.push("second"));
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!((NUMBER.get(), WORDS.take()), (7, vec!["first"]));
                let sender = sender;
                // Destroyed with all others of the thread, whose values cannot be used then.
                struct Ends(mpsc::Sender<u32>);
                impl Drop for Ends {
                    fn drop(&mut self) {
                        self.0.send(u32::from(NUMBER.try_with(|_| ()).is_err())).expect("the test listens");
                    }
                }
                coroutine_local!(static ENDS: RefCell<Option<Ends>> = const { RefCell::new(None) });
                ENDS.set(Some(Ends(sender)));
            });
        });
        assert_eq!(receiver.recv(), Ok(1));
        assert_eq!((NUMBER.get(), WORDS.with_borrow(Vec::len)), (8, 2));
    }

    #[test]
    fn values_end_the_newest_first_before_the_join_returns() {
        let runtime = crate::Runtime::builder().workers(1).build().expect("a runtime");
        let (sender, receiver) = mpsc::channel();
        let child = runtime.handle().spawn(move || {
            OLDER.set(5);
            SAYS.set(Some(Says(sender)));
        });
        child.join().expect("no panic");
        assert_eq!(receiver.try_recv(), Ok(5));
    }

    #[test]
    fn a_scope_replaces_the_value_also_where_it_is_lent_and_unwinds() {
        NUMBER.set(1);
        NUMBER.with(|outer| {
            let unwound = panic::catch_unwind(|| {
                NUMBER.scope(Cell::new(2), || {
                    // Made inside, and stays when the scope is left.
                    OLDER.set(9);
                    assert_eq!((NUMBER.get(), NUMBER.replace(3)), (2, 2));
                    panic::resume_unwind(Box::new(()));
                })
            });
            assert!(unwound.is_err());
            assert_eq!((outer.get(), NUMBER.get(), OLDER.get()), (1, 1, 9));
        });
    }

    #[test]
    fn a_destructor_that_panics_fails_its_coroutine_and_spares_the_other_values() {
        struct Panics;
        impl Drop for Panics {
            fn drop(&mut self) {
                panic::resume_unwind(Box::new("at the end"));
            }
        }
        coroutine_local!(static PANICS: RefCell<Option<Panics>> = const { RefCell::new(None) });
        let runtime = crate::Runtime::builder().workers(1).build().expect("a runtime");
        let (sender, receiver) = mpsc::channel();
        let child = runtime.handle().spawn(move || {
            SAYS.set(Some(Says(sender)));
            PANICS.set(Some(Panics));
        });
        assert!(child.join().expect_err("it panicked").is_panic());
        assert_eq!(receiver.try_recv(), Ok(1));
    }
}
