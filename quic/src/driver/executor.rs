//! Where steps of TLS run. The worker hands each job to the endpoint's executor, and takes its result from the inbox,
//! whenever and from whatever thread it comes.

use std::sync::Arc;

use super::link::Link;
use crate::connection::{CryptoDone, CryptoJob};
use crate::handle::ConnectionHandle;

/// Runs a job, now or later.
pub(super) type Executor = fn(CryptoJob, Reply);

/// Where the result of a job goes.
pub(super) struct Reply {
    pub(super) link: Arc<Link>,
    pub(super) connection: ConnectionHandle,
}

impl Reply {
    /// Gives the result back to the connection's worker.
    pub(super) fn deliver(self, done: CryptoDone) {
        self.link.deliver(self.connection, done);
    }
}

/// Runs the job at once, on the worker's own stack, which has room for it: a coroutine's has not.
pub(super) fn inline(job: CryptoJob, reply: Reply) {
    reply.deliver(job.run());
}
