//! Datagrams on the application's handle of a connection (RFC 9221).

use std::ops::ControlFlow::{Break, Continue};

use bytes::Bytes;
use weald_runtime::Coroutine;
use weald_runtime::select::Readiness;

use super::chunk::{Chunk, Origin};
use super::connection::Connection;
use super::connection_shared::State;
use super::error::SendDatagramError;
use super::waiting::{Attempt, Cancelled};
use super::waits::Key;
use crate::connection;
use crate::connection::WhenFull;
use crate::error::ConnectionError;

/// Datagrams: data that arrives whole or not at all, at most once, and in no order. They are sent under congestion control and
/// never repeated. The peer must permit them, see [`TransportConfig::datagrams`](crate::TransportConfig::datagrams).
impl Connection {
    /// Queues a datagram, and waits for room if the send buffer is full.
    ///
    /// ```
    /// fn pulse(connection: &weald_quic::Connection, beat: u64) -> Result<(), weald_quic::SendDatagramError> {
    ///     connection.send_datagram(beat.to_be_bytes().to_vec())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`SendDatagramError`]
    #[track_caller]
    pub fn send_datagram(&self, data: impl Into<Bytes>) -> Result<(), SendDatagramError> {
        let data = data.into();
        let attempt = |state: &mut State| -> Attempt<Result<(), SendDatagramError>> {
            match queue(state, data.clone(), WhenFull::Block) {
                Err(SendDatagramError::Full) => Continue(Key::DATAGRAM_WRITABLE),
                result => Break(result),
            }
        };
        self.shared().wait(true, attempt).unwrap_or(Err(SendDatagramError::Cancelled))
    }

    /// Queues a datagram if there is room.
    ///
    /// # Errors
    /// [`SendDatagramError`], `Full` if there is no room.
    pub fn try_send_datagram(&self, data: impl Into<Bytes>) -> Result<(), SendDatagramError> {
        let data = data.into();
        self.shared().verb(|state| queue(state, data, WhenFull::Block))
    }

    /// Queues a datagram; if there is no room, the oldest ones that wait are dropped for it. For what is worth less the older
    /// it is.
    ///
    /// # Errors
    /// [`SendDatagramError`]
    pub fn send_datagram_dropping(&self, data: impl Into<Bytes>) -> Result<(), SendDatagramError> {
        let data = data.into();
        self.shared().verb(|state| queue(state, data, WhenFull::DropOldest))
    }

    /// Waits for the next datagram. If nobody reads, the oldest ones are dropped.
    ///
    /// # Errors
    /// The connection is over, or the caller was cancelled.
    #[track_caller]
    pub fn read_datagram(&self) -> Result<Chunk, ConnectionError> {
        let read = self.shared().wait(false, |state| match self.take_datagram(state) {
            Some(read) => Break(read),
            None => Continue(Key::DATAGRAM_READABLE),
        });
        read.unwrap_or_else(|Cancelled| Err(ConnectionError::Cancelled))
    }

    /// As [`Connection::read_datagram`], to be selected: `wait(connection.receiving_datagram()) -> datagram => ..`. If another
    /// arm is chosen, no datagram was taken.
    ///
    /// ```
    /// use std::time::Duration;
    /// use weald_runtime::select;
    ///
    /// fn within_a_second(connection: &weald_quic::Connection) -> Option<Vec<u8>> {
    ///     select! {
    ///         wait(connection.receiving_datagram()) -> datagram => datagram.ok().map(|datagram| datagram.to_vec()),
    ///         default(Duration::from_secs(1)) => None,
    ///     }
    /// }
    /// ```
    pub fn receiving_datagram(&self) -> ReceivingDatagram<'_> {
        ReceivingDatagram(self)
    }

    /// The longest datagram that the peer takes and a packet on this path holds, in bytes; it changes with the path. `None` if the
    /// peer takes none.
    pub fn max_datagram_size(&self) -> Option<usize> {
        self.shared().lock().protocol.max_datagram_size()
    }

    /// How many bytes one datagram may have that the send buffer has room for now.
    pub fn datagram_send_buffer_space(&self) -> usize {
        self.shared().lock().protocol.datagram_send_room()
    }

    fn take_datagram(&self, state: &mut State) -> Option<Result<Chunk, ConnectionError>> {
        match state.protocol.read_datagram() {
            // What came before the end can still be read.
            Some(bytes) => Some(Ok(Chunk::new(self.shared().uncounted(), Origin::Datagram, bytes, 0))),
            None => state.error().map(|error| Err(error.clone())),
        }
    }
}

fn queue(state: &mut State, data: Bytes, when_full: WhenFull) -> Result<(), SendDatagramError> {
    if let Some(error) = state.error() {
        return Err(SendDatagramError::ConnectionLost(error.clone()));
    }
    state.protocol.send_datagram(data, when_full).map_err(|error| match error {
        connection::SendDatagramError::Blocked => SendDatagramError::Full,
        connection::SendDatagramError::TooLarge { max } => SendDatagramError::TooLarge { max },
        connection::SendDatagramError::Unsupported => SendDatagramError::Unsupported,
        connection::SendDatagramError::Closed => SendDatagramError::ConnectionLost(ConnectionError::LocallyClosed),
    })
}

/// What [`Connection::receiving_datagram`] gives.
#[derive(Debug)]
#[must_use = "it does nothing unless it is selected"]
pub struct ReceivingDatagram<'a>(&'a Connection);

impl Readiness for ReceivingDatagram<'_> {
    type Output = Result<Chunk, ConnectionError>;
    type Registration = u64;

    fn attempt(&mut self) -> Option<Self::Output> {
        self.0.take_datagram(&mut self.0.shared().lock_in_place())
    }

    fn register(&mut self, waiter: &Coroutine) -> u64 {
        self.0.shared().lock_in_place().enlist(Key::DATAGRAM_READABLE, waiter.clone())
    }

    fn unregister(&mut self, ticket: u64) {
        self.0.shared().lock_in_place().leave(Key::DATAGRAM_READABLE, ticket);
    }

    fn cancelled(&mut self) -> Self::Output {
        Err(ConnectionError::Cancelled)
    }
}
