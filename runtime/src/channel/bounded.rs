//! The buffer of a bounded channel: a ring made once, for as many messages as the channel holds.
//!
//! Does not own the decision that the channel is full for a sender to park on; it only refuses what does not fit.

use std::collections::VecDeque;

/// A ring of at most `capacity` messages.
pub(super) struct Ring<T> {
    messages: VecDeque<T>,
    capacity: usize,
}

impl<T> Ring<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { messages: VecDeque::with_capacity(capacity), capacity }
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.messages.len() >= self.capacity
    }

    /// Appends, or gives the message back if the ring is full.
    #[inline]
    pub(super) fn push(&mut self, message: T) -> Result<(), T> {
        if self.is_full() {
            return Err(message);
        }
        self.messages.push_back(message);
        Ok(())
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<T> {
        self.messages.pop_front()
    }

    /// Puts back a message that had left. May exceed the capacity by as many as were handed out at once.
    pub(super) fn restore(&mut self, message: T) {
        self.messages.push_front(message);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_and_refuses_what_does_not_fit() {
        let mut ring = Ring::new(2);
        for round in 0..5 {
            assert_eq!(ring.push(round), Ok(()));
            assert_eq!(ring.push(round + 100), Ok(()));
            assert_eq!(ring.push(7), Err(7));
            assert_eq!(ring.pop(), Some(round));
            assert_eq!(ring.len(), 1);
            assert_eq!(ring.pop(), Some(round + 100));
            assert_eq!(ring.pop(), None);
        }
    }

    #[test]
    fn a_restored_message_is_first_even_in_a_full_ring() {
        let mut ring = Ring::new(1);
        assert_eq!(ring.push(2), Ok(()));
        ring.restore(1);
        assert_eq!(ring.push(3), Err(3));
        assert_eq!(ring.pop(), Some(1));
        assert_eq!(ring.pop(), Some(2));
    }
}
