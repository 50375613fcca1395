//! One arm of a select, of either kind: what it is asked, and when.
//!
//! Owns the one trait that the wait sees, and the adapter to it from a source with a wait list ([`ListArm`]); `readiness` has
//! the other. Does not own the order of the steps (`wait`).

use crate::{
    spin_lock::SpinLock,
    time::Instant,
    wait_list::{Node, Wait, WaitList},
};

/// What enlisting an arm found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Trying would succeed: do not park.
    Ready,
    /// It waits, and is worth a try at that time, if one is given.
    Waiting(Option<Instant>),
    /// The arm has nothing to wait for.
    Absent,
}

/// An arm as the wait sees it. Nobody outside can name it, so the runtime's adapters are all there are.
///
/// The steps of a wait are `node`, `register`, `enlist`, then `leave`, then `settle` or, if the select unwinds, `abandon`.
/// Each may be repeated in another wait, `leave` also within one.
pub trait Arm {
    /// What the arm gives when it is chosen.
    type Output;
    /// What lies on the caller's stack during a wait.
    type Node;
    /// Whether an unpark alone, without a claim, makes the arm worth a try.
    const UNPARKED: bool;

    /// Takes the output if it is there.
    fn attempt(&mut self) -> Option<Self::Output>;

    /// The arm's part of `wait`, which calls it `index`.
    fn node(&mut self, wait: &Wait, index: u32) -> Self::Node;

    /// Asks for unparks, and tries: nothing can be handed over to the select yet.
    fn register(&mut self, node: &Self::Node) -> Option<Self::Output>;

    /// Lets notifiers claim the wait, unless the arm is ready.
    ///
    /// # Safety
    /// `node` is this arm's, for the wait `own`, and was not enlisted before. Neither moves nor dies before `leave` was called.
    unsafe fn enlist(&mut self, node: &Self::Node, own: &Wait) -> Look;

    /// Takes `enlist` and `register` back, whichever were called. When it returns no notifier is at work on `node`.
    ///
    /// # Safety
    /// `node` is this arm's.
    unsafe fn leave(&mut self, node: &Self::Node);

    /// The wait is over, and `claimed` if it was by this arm's source. `None`: nothing came of it.
    fn settle(&mut self, node: Self::Node, claimed: bool) -> Option<Self::Output>;

    /// As `settle`, for a select that unwinds: what was handed over is passed on.
    fn abandon(&mut self, node: Self::Node, claimed: bool);

    /// What the arm gives when the caller is cancelled.
    fn cancelled(&mut self) -> Self::Output;
}

/// A source with a wait list as an arm.
///
/// For sources that hand something over, and for those of the runtime that are ready at times (a unit payload, and `chosen`
/// tries). A claimed wait ends: if `chosen` gives `None` the select begins a new one.
pub(crate) trait ListArm {
    /// What the source's lock guards.
    type State;
    type Payload;
    type Output;

    /// Always the same one.
    fn lock(&self) -> &SpinLock<Self::State>;

    /// The list within the state; always the same one.
    fn waiters(state: &mut Self::State) -> &mut WaitList<Self::Payload>;

    /// Takes the output if it is there.
    fn attempt(&mut self) -> Option<Self::Output>;

    /// Whether [`attempt`](Self::attempt) would succeed, asked under the lock. The select's own nodes (`own`) do not count:
    /// it does not meet itself. `payload` is what [`payload`](Self::payload) gave.
    fn look(&self, state: &Self::State, payload: &Self::Payload, own: &Wait) -> Look;

    /// What the node carries into the list.
    fn payload(&mut self) -> Self::Payload;

    /// The node left the list without having been claimed.
    fn left(&mut self, payload: Self::Payload);

    /// A notifier claimed the node and left this.
    fn chosen(&mut self, payload: Self::Payload) -> Option<Self::Output>;

    /// As [`chosen`](Self::chosen), but the select unwinds: passes on what was meant for it.
    fn abandoned(&mut self, payload: Self::Payload);

    /// What the arm gives when the caller is cancelled.
    fn cancelled(&mut self) -> Self::Output;
}

/// A [`ListArm`] with payload `P` and output `O`. (The two are named since the trait's own types are private.)
pub struct Listed<A, P, O> {
    arm: A,
    types: std::marker::PhantomData<fn() -> (P, O)>,
}

impl<A, P, O> Listed<A, P, O> {
    pub(crate) fn new(arm: A) -> Self {
        Self { arm, types: std::marker::PhantomData }
    }
}

impl<A: ListArm<Payload = P, Output = O>, P, O> Arm for Listed<A, P, O> {
    type Output = O;
    type Node = Node<P>;

    const UNPARKED: bool = false;

    #[inline]
    fn attempt(&mut self) -> Option<O> {
        self.arm.attempt()
    }

    fn node(&mut self, wait: &Wait, index: u32) -> Node<P> {
        Node::new(wait, index, self.arm.payload())
    }

    fn register(&mut self, _node: &Node<P>) -> Option<O> {
        None
    }

    unsafe fn enlist(&mut self, node: &Node<P>, own: &Wait) -> Look {
        // SAFETY: not enlisted yet, so only the caller has it.
        let payload = unsafe { node.unlisted_payload() };
        let mut state = self.arm.lock().lock();
        let look = self.arm.look(&state, payload, own);
        if let Look::Waiting(_) = look {
            // SAFETY: the caller keeps node and wait in place until `leave` has taken the node out.
            unsafe { A::waiters(&mut state).push_back(node) };
        }
        look
    }

    unsafe fn leave(&mut self, node: &Node<P>) {
        let mut state = self.arm.lock().lock();
        // SAFETY: if the node is in a list, then in the one behind this lock.
        unsafe { A::waiters(&mut state).remove(node) };
    }

    fn settle(&mut self, node: Node<P>, claimed: bool) -> Option<O> {
        let payload = node.into_payload();
        if claimed {
            return self.arm.chosen(payload);
        }
        self.arm.left(payload);
        None
    }

    fn abandon(&mut self, node: Node<P>, claimed: bool) {
        let payload = node.into_payload();
        if claimed { self.arm.abandoned(payload) } else { self.arm.left(payload) }
    }

    fn cancelled(&mut self) -> O {
        self.arm.cancelled()
    }
}
