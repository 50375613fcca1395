//! Owns the arm that a [`Readiness`] is. Invariant: a registration is taken back before the select's wait ends.

use std::cell::Cell;

use super::arm::{Arm, Look};
use super::{Readiness, Selectable};
use crate::park;
use crate::wait_list::Wait;

impl<S: Readiness> Selectable for S {
    type Output = S::Output;
    type Arm = Registered<S>;

    fn into_arm(self) -> Self::Arm {
        Registered(self)
    }
}

/// A [`Readiness`] as an arm.
pub struct Registered<S>(S);

impl<S: Readiness> Arm for Registered<S> {
    type Output = S::Output;
    type Node = Cell<Option<S::Registration>>;

    const UNPARKED: bool = true;

    #[inline]
    fn attempt(&mut self) -> Option<S::Output> {
        self.0.attempt()
    }

    fn node(&mut self, _wait: &Wait, _index: u32) -> Self::Node {
        Cell::new(None)
    }

    #[track_caller]
    fn register(&mut self, node: &Self::Node) -> Option<S::Output> {
        node.set(Some(self.0.register(&park::current())));
        self.0.attempt()
    }

    unsafe fn enlist(&mut self, _node: &Self::Node, _own: &Wait) -> Look {
        Look::Waiting(self.0.deadline())
    }

    unsafe fn leave(&mut self, node: &Self::Node) {
        if let Some(registration) = node.take() {
            self.0.unregister(registration);
        }
    }

    fn settle(&mut self, _node: Self::Node, _claimed: bool) -> Option<S::Output> {
        None
    }

    fn abandon(&mut self, _node: Self::Node, _claimed: bool) {}

    fn cancelled(&mut self) -> S::Output {
        self.0.cancelled()
    }
}
