//! The application's handle of a connection.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use weald_crypto::{CipherSuite, ExportError, NamedGroup};
use weald_runtime::{JoinHandle, on_worker_stack};

use super::connection_shared::{ConnectionRef, State};
use super::recv_stream::RecvStream;
use super::send_stream::SendStream;
use super::waiting::{Attempt, Cancelled};
use super::waits::Key;
use crate::connection::EarlyData;
use crate::error::ConnectionError;
use crate::side::Side;
use crate::stats::ConnectionStats;
use crate::stream_id::{Direction, StreamId};
use crate::wire::{VarInt, Version};

/// A QUIC connection.
///
/// Cheap to clone, and usable from any coroutine or thread. When the last handle is dropped, those of streams included, the
/// connection is closed with code 0; what was written and not acknowledged may be lost then. [`close_after_flush`] waits.
///
/// [`close_after_flush`]: Connection::close_after_flush
#[derive(Clone)]
pub struct Connection(ConnectionRef);

/// What the handshake agreed on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HandshakeInfo {
    /// The version of QUIC.
    pub version: Version,
    /// The application protocol.
    pub alpn: Option<Vec<u8>>,
    /// The key exchange.
    pub group: NamedGroup,
    /// The cipher suite.
    pub cipher_suite: CipherSuite,
    /// The server's name, as the client gave it; at a server, `None` if it gave none.
    pub server_name: Option<String>,
    /// The peer's certificates in DER, its own first; empty at a server whose client showed none.
    pub peer_certificates: Vec<Vec<u8>>,
    /// Whether an earlier session was resumed: no certificate was shown, and those here are of then.
    pub resumed: bool,
    /// What became of early data.
    pub early_data: EarlyData,
    /// From the first packet until the handshake was complete, at this end.
    pub duration: Duration,
}

impl Connection {
    pub(super) fn new(shared: ConnectionRef) -> Self {
        Self(shared)
    }

    /// Opens a stream that goes both ways, as soon as the peer allows it. The peer learns of it with the first bytes.
    ///
    /// # Errors
    /// The connection is over, or the caller was cancelled.
    #[track_caller]
    pub fn open_bi(&self) -> Result<(SendStream, RecvStream), ConnectionError> {
        let id = self.open(Direction::Bi)?;
        Ok((SendStream::new(self.0.clone(), id), RecvStream::new(self.0.clone(), id, false)))
    }

    /// Opens a stream on which only this end sends, as soon as the peer allows it.
    ///
    /// # Errors
    /// The connection is over, or the caller was cancelled.
    #[track_caller]
    pub fn open_uni(&self) -> Result<SendStream, ConnectionError> {
        Ok(SendStream::new(self.0.clone(), self.open(Direction::Uni)?))
    }

    /// Waits for the next stream that the peer opens for both ways.
    ///
    /// # Errors
    /// The connection is over, or the caller was cancelled.
    #[track_caller]
    pub fn accept_bi(&self) -> Result<(SendStream, RecvStream), ConnectionError> {
        let (id, early) = self.accept(Direction::Bi)?;
        Ok((SendStream::new(self.0.clone(), id), RecvStream::new(self.0.clone(), id, early)))
    }

    /// Waits for the next stream on which only the peer sends.
    ///
    /// # Errors
    /// The connection is over, or the caller was cancelled.
    #[track_caller]
    pub fn accept_uni(&self) -> Result<RecvStream, ConnectionError> {
        let (id, early) = self.accept(Direction::Uni)?;
        Ok(RecvStream::new(self.0.clone(), id, early))
    }

    /// Closes the connection at once. Blocking calls on it fail; the peer gets `code` and `reason`, of which it sees the
    /// first 240 bytes at least. What was written and not acknowledged may be lost.
    pub fn close(&self, code: VarInt, reason: &[u8]) {
        self.0.close(code.into(), reason);
    }

    /// Waits until the peer has everything that was written to finished streams (dropping a stream finishes it) and datagrams
    /// have been sent, for `timeout` at most; then closes with code 0. Says whether it all was.
    ///
    /// # Errors
    /// The connection is over already, or the caller was cancelled, which leaves the connection open.
    #[track_caller]
    pub fn close_after_flush(&self, timeout: Duration) -> Result<bool, ConnectionError> {
        let deadline = weald_runtime::time::Instant::now() + timeout;
        let flushed = self.0.wait_until(deadline, |state| match state.error() {
            Some(error) => Break(Err(error.clone())),
            None if state.protocol.is_finishing() || state.protocol.has_datagrams() => Continue(Key::FLUSHED),
            None => Break(Ok(())),
        });
        let flushed = flushed.map_err(|Cancelled| ConnectionError::Cancelled)?.transpose()?.is_some();
        self.close(VarInt::ZERO, b"");
        Ok(flushed)
    }

    /// Changes the connection ids of both ends, so that who watched the old ones on one network cannot tell that it is the same
    /// connection (RFC 9000 5.1.2, 9.5). Does not wait; nothing happens before the handshake is confirmed. If the peer has not
    /// retired the ids of an earlier change yet, ours change when it has.
    pub fn rotate_ids(&self) {
        self.0.verb(|state| state.protocol.rotate_ids());
    }

    /// Waits until the connection is over, and says why.
    #[track_caller]
    pub fn closed(&self) -> ConnectionError {
        let over = self.0.wait(false, |state| match state.error() {
            Some(error) => Break(error.clone()),
            None => Continue(Key::CLOSED),
        });
        over.unwrap_or_else(|Cancelled| ConnectionError::Cancelled)
    }

    /// Why the connection is over; `None` while it is not.
    pub fn close_reason(&self) -> Option<ConnectionError> {
        self.0.lock().error().cloned()
    }

    /// The peer's address.
    pub fn remote_address(&self) -> SocketAddr {
        self.0.lock().protocol.remote()
    }

    /// The address of this host that the peer's packets go to, once one came.
    pub fn local_address(&self) -> Option<IpAddr> {
        self.0.lock().protocol.local()
    }

    /// Which end of the connection this is.
    pub fn side(&self) -> Side {
        self.0.side
    }

    /// What the connection did so far.
    pub fn stats(&self) -> ConnectionStats {
        self.0.lock().protocol.stats()
    }

    /// The smoothed round-trip time.
    pub fn rtt(&self) -> Duration {
        self.stats().rtt
    }

    /// What the handshake agreed on.
    ///
    /// # Panics
    /// If the handshake is not complete. Only connections with [early data](Connection::early_data) are handed out before, and
    /// [`Connection::wait_handshake`] waits; [`Connection::alpn`] is known at once.
    pub fn handshake(&self) -> HandshakeInfo {
        let state = self.0.lock();
        let (duration, early_data) = (state.handshake_time, state.protocol.early_data());
        let outcome = state.protocol.outcome().expect("the handshake is complete: wait_handshake waits for that");
        HandshakeInfo {
            version: state.protocol.version(),
            alpn: outcome.alpn.clone(),
            group: outcome.group,
            cipher_suite: outcome.suite,
            server_name: outcome.server_name.clone(),
            peer_certificates: outcome.peer_certificates.clone(),
            resumed: outcome.resumed,
            early_data,
            duration,
        }
    }

    /// The application protocol: what the handshake agreed on, or before that what early data is for.
    pub fn alpn(&self) -> Option<Vec<u8>> {
        self.0.lock().protocol.alpn().map(<[u8]>::to_vec)
    }

    /// What became of early data (0-RTT). With [`EarlyData::Offered`], or [`EarlyData::Accepted`] while
    /// [`Connection::is_handshake_complete`] says no, what is written or read here may be said or heard more than once: whoever
    /// saw it on the network can send it again (RFC 9001 9.2).
    pub fn early_data(&self) -> EarlyData {
        self.0.lock().protocol.early_data()
    }

    /// Whether the handshake is complete. Only connections with early data are handed out before.
    pub fn is_handshake_complete(&self) -> bool {
        self.0.lock().is_connected()
    }

    /// Waits until the handshake is complete: the peer is who it says, and nothing that is read from now on was said before. Says
    /// what became of early data.
    ///
    /// # Errors
    /// The connection is over, or the caller was cancelled.
    #[track_caller]
    pub fn wait_handshake(&self) -> Result<EarlyData, ConnectionError> {
        self.wait_connected()?;
        Ok(self.early_data())
    }

    /// Fills `out` with keying material that both ends derive from the handshake, each other pair of `label` and `context` giving
    /// material of its own (RFC 8446 7.5). Material of different lengths is unrelated. Labels are registered with IANA, or
    /// begin with `EXPERIMENTAL`.
    ///
    /// # Errors
    /// `out` is longer than 255 hashes (8,160 bytes, or 12,240 under AES-256), or `label` longer than 249 bytes.
    ///
    /// # Panics
    /// As [`Connection::handshake`].
    pub fn export_keying_material(&self, out: &mut [u8], label: &[u8], context: &[u8]) -> Result<(), ExportError> {
        let exporter = self.0.lock().protocol.outcome().map(|outcome| outcome.exporter.clone());
        let exporter = exporter.expect("the handshake is complete: wait_handshake waits for that");
        // It is foreign code, which a coroutine's stack is not meant for.
        on_worker_stack(|| exporter.export(label, context, out))
    }

    /// Bytes of memory that the connection holds: its state, and the buffers of its streams. Allocators' overhead, and what
    /// is shared with other connections, do not count.
    pub fn memory(&self) -> usize {
        let state = self.0.lock();
        size_of_val(&**self.0.uncounted()) - size_of_val(&state.protocol) + state.protocol.memory()
    }

    /// Spawns a coroutine on the connection's worker, where its packets are handled, and nowhere else.
    pub fn spawn<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.0.link.runtime.spawn_on(self.0.link.worker, f)
    }

    pub(super) fn shared(&self) -> &ConnectionRef {
        &self.0
    }

    /// Replaces the keys of packets, both ends', as soon as the last update is over (RFC 9001 6.1). It happens by itself long
    /// before keys are used up; this is for those who want it more often.
    pub fn update_keys(&self) {
        self.0.verb(|state| state.protocol.update_keys());
    }

    /// Waits for the end of the handshake.
    #[track_caller]
    pub(super) fn wait_connected(&self) -> Result<(), ConnectionError> {
        self.wait_for(State::is_connected)
    }

    /// Waits for the end of the handshake, or for early data.
    #[track_caller]
    pub(super) fn wait_usable(&self) -> Result<(), ConnectionError> {
        self.wait_for(State::is_usable)
    }

    #[track_caller]
    fn wait_for(&self, condition: fn(&State) -> bool) -> Result<(), ConnectionError> {
        self.wait(false, |state| match state.error() {
            Some(error) => Break(Err(error.clone())),
            None if condition(state) => Break(Ok(())),
            None => Continue(Key::CONNECTED),
        })
    }

    #[track_caller]
    fn open(&self, direction: Direction) -> Result<StreamId, ConnectionError> {
        self.wait(true, |state| match state.error() {
            Some(error) => Break(Err(error.clone())),
            None => match state.protocol.open(direction) {
                Some(id) => Break(Ok(id)),
                None => Continue(Key::available(direction)),
            },
        })
    }

    /// The next stream of the peer's, and whether some of it came early.
    #[track_caller]
    fn accept(&self, direction: Direction) -> Result<(StreamId, bool), ConnectionError> {
        self.wait(true, |state| match state.protocol.accept(direction) {
            // What came before the end can still be read.
            Some(id) => Break(Ok((id, state.protocol.is_early(id)))),
            None => match state.error() {
                Some(error) => Break(Err(error.clone())),
                None => Continue(Key::opened(direction)),
            },
        })
    }

    #[track_caller]
    fn wait<T>(&self, sends: bool, attempt: impl FnMut(&mut State) -> Attempt<Result<T, ConnectionError>>) -> Result<T, ConnectionError> {
        self.0.wait(sends, attempt).unwrap_or_else(|Cancelled| Err(ConnectionError::Cancelled))
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("side", &self.0.side).field("handle", &self.0.handle).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use weald_crypto::simulation::SERVER_NAME;

    use super::*;
    use crate::config::TransportConfig;
    use crate::connection::tests::pair::{client_config, server_config};
    use crate::driver::Endpoint;
    use crate::error::TransportErrorCode;

    fn exchange(client: &Connection, server: &Connection) {
        let mut send = client.open_uni().unwrap();
        send.write_all(b"data").unwrap();
        send.finish().unwrap();
        assert_eq!(server.accept_uni().unwrap().read_to_end(10).unwrap(), b"data");
    }

    #[test]
    fn a_panic_ends_its_connection_and_no_other() {
        weald_runtime::run(|| {
            let loopback = "127.0.0.1:0".parse().unwrap();
            let server = Endpoint::server(server_config(1, TransportConfig::default(), 0), loopback).unwrap();
            let client = Endpoint::client(loopback).unwrap();
            let connect = || {
                let config = client_config(2, TransportConfig::default());
                let connection = client.connect_with(config, server.local_addr().unwrap(), SERVER_NAME).unwrap();
                (connection, server.accept().unwrap())
            };
            let bystanders = connect();
            exchange(&bystanders.0, &bystanders.1);
            for place in ["receive", "transmit", "on_timeout"] {
                let (near, far) = connect();
                exchange(&near, &far);
                far.0.lock().protocol.fault = Some(place);
                near.open_uni().unwrap().write_all(b"more").unwrap();
                match far.closed() {
                    ConnectionError::Transport(error) => assert_eq!(error.code, TransportErrorCode::INTERNAL_ERROR),
                    other => panic!("{place}: {other:?}"),
                }
                match near.closed() {
                    ConnectionError::ConnectionClosed(told) => assert_eq!(told.code, TransportErrorCode::INTERNAL_ERROR),
                    other => panic!("{place}: {other:?}"),
                }
                exchange(&bystanders.0, &bystanders.1);
            }
            drop(bystanders);
            server.close(VarInt::ZERO, b"");
            server.wait_idle();
        });
    }
}
