//! Owns nothing: a coroutine's stack is a thread's here, whose guard and report of an overflow are the system's and std's. The
//! names are those that the scheduler uses of the shipping backend.

use std::io;

use super::stack::{Bounds, Stack};

/// What the shipping backend's report says.
pub(crate) struct Running(());

impl Running {
    /// Nothing of it is needed.
    pub(crate) fn new(_stack: &Stack, _name: Option<*const str>, _id: u64) -> Self {
        Self(())
    }

    /// Only the system knows where.
    pub(crate) fn bounds(&self) -> Option<Bounds> {
        None
    }
}

/// std installs one for each thread.
#[derive(Debug)]
pub(crate) struct SignalStack(());

impl SignalStack {
    /// std has done so.
    pub(crate) fn install() -> io::Result<Self> {
        Ok(Self(()))
    }
}
