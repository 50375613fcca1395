//! The end of a coroutine as an arm of a `select!`.
//!
//! Owns the registration of a select in the join slot. Does not own the slot's protocol (`task_state`).
//!
//! Invariant: a registration is taken back before the select's wait ends, so it is alone in the slot, as a `join` is.

use std::cell::Cell;

use super::{JoinHandle, join::Registered};
use crate::select::{Arm, Look, Selectable};
use crate::wait_list::Wait;

/// A handle that is selected: `wait(&mut handle)`.
pub struct Joining<'a, T>(&'a mut JoinHandle<T>);

/// The coroutine has ended, so that [`join`](JoinHandle::join) does not wait. A caller who is cancelled is told so, too: `join`
/// says the rest.
impl<'a, T> Selectable for &'a mut JoinHandle<T> {
    type Output = ();
    type Arm = Joining<'a, T>;

    fn into_arm(self) -> Joining<'a, T> {
        Joining(self)
    }
}

impl<T> Arm for Joining<'_, T> {
    type Output = ();
    type Node = Cell<Option<Registered>>;

    const UNPARKED: bool = true;

    #[inline]
    fn attempt(&mut self) -> Option<()> {
        self.0.is_finished().then_some(())
    }

    fn node(&mut self, _wait: &Wait, _index: u32) -> Self::Node {
        Cell::new(None)
    }

    fn register(&mut self, node: &Self::Node) -> Option<()> {
        node.set(Registered::new(self.0.task, false));
        self.attempt()
    }

    unsafe fn enlist(&mut self, _node: &Self::Node, _own: &Wait) -> Look {
        Look::Waiting(None)
    }

    unsafe fn leave(&mut self, node: &Self::Node) {
        drop(node.take());
    }

    fn settle(&mut self, _node: Self::Node, _claimed: bool) -> Option<()> {
        None
    }

    fn abandon(&mut self, _node: Self::Node, _claimed: bool) {}

    fn cancelled(&mut self) {}
}
