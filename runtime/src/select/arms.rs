//! Several arms as one: a list of pairs whose types the macro builds, or a vector of arms of one type.
//!
//! Owns the walk over the arms, and which arm an output belongs to. Invariant: an arm's index, which its claims carry, is its
//! place in the list, in every step.

use std::ops::Range;

use super::arm::{Arm, Look};
use crate::wait_list::Wait;

/// Which of the arms was chosen, with its output.
#[derive(Debug)]
pub enum Choice<A, R> {
    /// The first.
    First(A),
    /// One of those behind it.
    Rest(R),
}

/// The output of no arm.
#[derive(Debug)]
pub enum Never {}

/// Arms in their order. The steps are those of [`Arm`].
pub trait Arms {
    /// The output, and whose it is.
    type Choice;
    /// The nodes of all arms, which stay where they are while the whole does.
    type Nodes;
    /// See [`Arm::UNPARKED`].
    const UNPARKED: bool;

    /// How many there are.
    fn count(&self) -> usize;
    /// Tries those in `range`, in order.
    fn attempt(&mut self, range: Range<usize>) -> Option<Self::Choice>;
    /// The arms' parts of `wait`, beginning with index `first`.
    fn nodes(&mut self, wait: &Wait, first: u32) -> Self::Nodes;
    /// See [`Arm::register`].
    fn register(&mut self, nodes: &Self::Nodes) -> Option<Self::Choice>;
    /// Enlists the arms until one is ready; otherwise the earliest time that is worth a try.
    ///
    /// # Safety
    /// As [`Arm::enlist`], for all nodes.
    unsafe fn enlist(&mut self, nodes: &Self::Nodes, own: &Wait) -> Look;
    /// Takes all out of where they are.
    ///
    /// # Safety
    /// As [`Arm::leave`], for all nodes.
    unsafe fn leave(&mut self, nodes: &Self::Nodes);
    /// See [`Arm::settle`]; at most one arm was `claimed`.
    fn settle(&mut self, nodes: Self::Nodes, claimed: Option<usize>) -> Option<Self::Choice>;
    /// See [`Arm::abandon`].
    fn abandon(&mut self, nodes: Self::Nodes, claimed: Option<usize>);
    /// What the first arm gives. `None` if there is no arm.
    fn cancelled(&mut self) -> Option<Self::Choice>;
}

impl Arms for () {
    type Choice = Never;
    type Nodes = ();

    const UNPARKED: bool = false;

    fn count(&self) -> usize {
        0
    }

    fn attempt(&mut self, _range: Range<usize>) -> Option<Never> {
        None
    }

    fn nodes(&mut self, _wait: &Wait, _first: u32) {}

    fn register(&mut self, (): &()) -> Option<Never> {
        None
    }

    unsafe fn enlist(&mut self, (): &(), _own: &Wait) -> Look {
        Look::Waiting(None)
    }

    unsafe fn leave(&mut self, (): &()) {}

    fn settle(&mut self, (): (), _claimed: Option<usize>) -> Option<Never> {
        None
    }

    fn abandon(&mut self, (): (), _claimed: Option<usize>) {}

    fn cancelled(&mut self) -> Option<Never> {
        None
    }
}

impl<A: Arm, R: Arms> Arms for (A, R) {
    type Choice = Choice<A::Output, R::Choice>;
    type Nodes = (A::Node, R::Nodes);

    const UNPARKED: bool = A::UNPARKED || R::UNPARKED;

    #[inline]
    fn count(&self) -> usize {
        1 + self.1.count()
    }

    #[inline]
    fn attempt(&mut self, range: Range<usize>) -> Option<Self::Choice> {
        if range.contains(&0)
            && let Some(output) = self.0.attempt()
        {
            return Some(Choice::First(output));
        }
        self.1.attempt(range.start.saturating_sub(1)..range.end.saturating_sub(1)).map(Choice::Rest)
    }

    fn nodes(&mut self, wait: &Wait, first: u32) -> Self::Nodes {
        (self.0.node(wait, first), self.1.nodes(wait, first + 1))
    }

    #[track_caller]
    fn register(&mut self, nodes: &Self::Nodes) -> Option<Self::Choice> {
        match self.0.register(&nodes.0) {
            Some(output) => Some(Choice::First(output)),
            None => self.1.register(&nodes.1).map(Choice::Rest),
        }
    }

    unsafe fn enlist(&mut self, nodes: &Self::Nodes, own: &Wait) -> Look {
        // SAFETY: the caller keeps the contract for all nodes.
        let first = unsafe { self.0.enlist(&nodes.0, own) };
        if first == Look::Ready {
            return first;
        }
        // SAFETY: as above.
        first.and(unsafe { self.1.enlist(&nodes.1, own) })
    }

    unsafe fn leave(&mut self, nodes: &Self::Nodes) {
        // SAFETY: the caller keeps the contract for all nodes.
        unsafe {
            self.0.leave(&nodes.0);
            self.1.leave(&nodes.1);
        }
    }

    fn settle(&mut self, nodes: Self::Nodes, claimed: Option<usize>) -> Option<Self::Choice> {
        let first = self.0.settle(nodes.0, claimed == Some(0));
        let rest = self.1.settle(nodes.1, claimed.and_then(|index| index.checked_sub(1)));
        first.map(Choice::First).or(rest.map(Choice::Rest))
    }

    fn abandon(&mut self, nodes: Self::Nodes, claimed: Option<usize>) {
        self.0.abandon(nodes.0, claimed == Some(0));
        self.1.abandon(nodes.1, claimed.and_then(|index| index.checked_sub(1)));
    }

    fn cancelled(&mut self) -> Option<Self::Choice> {
        Some(Choice::First(self.0.cancelled()))
    }
}

/// The output has the arm's index with it.
impl<A: Arm> Arms for Vec<A> {
    type Choice = (usize, A::Output);
    // Never grown, so that the nodes stay where they are.
    type Nodes = Vec<A::Node>;

    const UNPARKED: bool = A::UNPARKED;

    fn count(&self) -> usize {
        self.len()
    }

    fn attempt(&mut self, range: Range<usize>) -> Option<Self::Choice> {
        range.into_iter().find_map(|index| Some((index, self[index].attempt()?)))
    }

    fn nodes(&mut self, wait: &Wait, first: u32) -> Vec<A::Node> {
        (first..).zip(self).map(|(index, arm)| arm.node(wait, index)).collect()
    }

    #[track_caller]
    fn register(&mut self, nodes: &Vec<A::Node>) -> Option<Self::Choice> {
        for (index, (arm, node)) in self.iter_mut().zip(nodes).enumerate() {
            if let Some(output) = arm.register(node) {
                return Some((index, output));
            }
        }
        None
    }

    unsafe fn enlist(&mut self, nodes: &Vec<A::Node>, own: &Wait) -> Look {
        let mut all = Look::Waiting(None);
        for (arm, node) in self.iter_mut().zip(nodes) {
            // SAFETY: the caller keeps the contract for all nodes.
            all = all.and(unsafe { arm.enlist(node, own) });
            if all == Look::Ready {
                break;
            }
        }
        all
    }

    unsafe fn leave(&mut self, nodes: &Vec<A::Node>) {
        // SAFETY: the caller keeps the contract for all nodes.
        self.iter_mut().zip(nodes).for_each(|(arm, node)| unsafe { arm.leave(node) });
    }

    fn settle(&mut self, nodes: Vec<A::Node>, claimed: Option<usize>) -> Option<Self::Choice> {
        let mut choice = None;
        for (index, (arm, node)) in self.iter_mut().zip(nodes).enumerate() {
            let output = arm.settle(node, claimed == Some(index));
            choice = choice.or(output.map(|output| (index, output)));
        }
        choice
    }

    fn abandon(&mut self, nodes: Vec<A::Node>, claimed: Option<usize>) {
        for (index, (arm, node)) in self.iter_mut().zip(nodes).enumerate() {
            arm.abandon(node, claimed == Some(index));
        }
    }

    fn cancelled(&mut self) -> Option<Self::Choice> {
        Some((0, self.first_mut()?.cancelled()))
    }
}

impl Look {
    /// What two arms amount to.
    fn and(self, other: Look) -> Look {
        match (self, other) {
            (Look::Ready, _) | (_, Look::Ready) => Look::Ready,
            (Look::Waiting(one), Look::Waiting(another)) => Look::Waiting(one.into_iter().chain(another).min()),
            (Look::Absent, other) => other,
            (waiting, Look::Absent) => waiting,
        }
    }
}
