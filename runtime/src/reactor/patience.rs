//! Owns the list of sockets of one worker whose readers wait although there may be something to read.
//!
//! Who has just taken the one datagram that an edge announced finds nothing with the next read, mostly, and to know it costs a system call.
//! When it waits without, the poll that the worker makes anyway often brings the next edge, and the call is spared: two of eight in a
//! round trip between two coroutines of a worker. It does not own the decision who waits so (`net::descriptor`).
//!
//! Invariant: who waits is woken by an edge, or by the first poll that brings nothing, or before [`POLLS`] have been twice; and a worker makes
//! a poll that brings nothing before it sleeps. So nobody waits for an edge that has been.

use std::cell::{Cell, RefCell};
use std::mem;
use std::sync::Arc;

use super::{Direction, Source};

/// Polls with news for others, after which those are asked to read who have waited for as many.
const POLLS: u32 = 4;

/// The list, for the worker's thread.
#[derive(Default)]
pub(crate) struct Patience {
    waiting: RefCell<Waiting>,
    /// Polls since those who wait were asked.
    polls: Cell<u32>,
}

#[derive(Default)]
struct Waiting {
    older: Vec<Listed>,
    newer: Vec<Listed>,
}

struct Listed {
    source: Arc<Source>,
    /// Edges of the source when it was listed. Another one has woken who waits.
    edges: u64,
}

impl Patience {
    /// Somebody waits for `source`, and is among its waiters.
    pub(crate) fn list(&self, source: Arc<Source>) {
        let edges = source.edges(Direction::Read);
        self.waiting.borrow_mut().newer.push(Listed { source, edges });
    }

    /// The reactor was polled, and there was news or not.
    #[inline]
    pub(crate) fn polled(&self, news: bool) {
        let Waiting { older, newer } = &mut *self.waiting.borrow_mut();
        self.polls.set(self.polls.get() + 1);
        if news && self.polls.get() < POLLS {
            return;
        }
        self.polls.set(0);
        recheck(older);
        if news {
            mem::swap(older, newer);
        } else {
            recheck(newer);
        }
    }
}

fn recheck(listed: &mut Vec<Listed>) {
    for Listed { source, edges } in listed.drain(..) {
        if source.edges(Direction::Read) == edges {
            source.recheck(Direction::Read);
        }
    }
}
