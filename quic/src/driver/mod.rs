//! The protocol on the runtime: sockets, clocks, and blocking calls. The only part of the crate that knows the runtime.
//!
//! One hook a worker ([`worker`]) owns a socket, the protocol's endpoint and the table of its connections; there is no
//! coroutine a connection. In each round it receives a batch and feeds the connections; then coroutines run; then every
//! connection that has news is asked for datagrams, which leave together. Handles ([`endpoint`], [`connection`],
//! [`send_stream`], [`recv_stream`]) work from any coroutine or thread: they lock the connection, call the protocol, mark
//! the connection as dirty, and park if there is nothing to do.
//!
//! Reading order: `link` (how handles reach a worker), `connection_shared` (a connection between handles and its worker), `worker`,
//! `inbound`, `outbound`, then the handles.
//!
//! Invariants:
//! - One lock a connection, a leaf: nothing else is locked under it but the pool's shelves, and nobody parks holding it.
//! - Wakes fire after unlock.
//! - A connection is in its worker's dirty list if and only if its dirty flag is set.

mod chunk;
mod connection;
mod connection_shared;
mod datagrams;
mod endpoint;
mod endpoint_shared;
mod error;
mod executor;
mod handshakes;
mod host;
mod inbound;
mod incoming;
mod link;
mod metrics;
mod outbound;
mod recv_stream;
mod send_stream;
mod steering;
mod table;
mod waiting;
mod waits;
mod worker;

pub use self::chunk::Chunk;
pub use self::connection::{Connection, HandshakeInfo};
pub use self::datagrams::ReceivingDatagram;
pub use self::endpoint::Endpoint;
pub use self::error::{ClosedStream, ConnectError, ReadError, ReadExactError, ReadToEndError, SendDatagramError, StoppedError, WriteError};
pub use self::incoming::Incoming;
pub use self::metrics::EndpointMetrics;
pub use self::recv_stream::RecvStream;
pub use self::send_stream::SendStream;

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::time::Instant;

/// The protocol's name for a time of the runtime.
fn instant(now: weald_runtime::time::Instant) -> Instant {
    Instant::from_nanos(now.as_nanos())
}

/// The present, from a coroutine or thread.
fn now() -> Instant {
    instant(weald_runtime::time::Instant::now())
}

/// Locks a leaf. A panic under it is a defect that has been reported; what it left is still the best there is.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
