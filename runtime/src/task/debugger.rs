//! Owns the offsets by which a debugger finds its way from a worker's list to a parked task's registers. It reads nothing itself.

use std::mem::offset_of;

use super::{Header, Owner, Rare, StartedTasks, TaskPtr};
use crate::coroutine::Coroutine;
use crate::coroutine::arena::GUARD_SIZE;
use crate::coroutine::stack::{Stack, TOP_SIZE};
use crate::task_state::TaskState;

/// In the order in which `gdb/weald.py` names them.
pub(crate) const OFFSETS: [u64; 15] = [
    StartedTasks::NEWEST as u64,
    offset_of!(Header, state) as u64,
    TaskState::SEEN_PARKED,
    offset_of!(Header, owner) as u64,
    offset_of!(Header, id) as u64,
    offset_of!(Header, spawned_at) as u64,
    offset_of!(Header, rare) as u64,
    offset_of!(Rare, attributes.name) as u64,
    offset_of!(Owner, coroutine) as u64,
    size_of::<Coroutine>() as u64,
    offset_of!(Owner, parked_at) as u64,
    offset_of!(Owner, next_started) as u64,
    (TOP_SIZE + Stack::GUARD_START) as u64,
    (TOP_SIZE + Stack::BASE) as u64,
    GUARD_SIZE as u64,
];

// Links and names are plain addresses.
const _: () = assert!(size_of::<Option<TaskPtr>>() == size_of::<usize>() && size_of::<Option<Box<str>>>() == 2 * size_of::<usize>());
