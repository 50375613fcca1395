//! TCP sockets of a simulation, without blocking.
//!
//! Owns the options that programs set and read back, and the readiness around each try. Does not own the streams
//! (`sim::network::stream`), nor time.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use crate::primitive::Mutex;
use crate::reactor::{Direction, Drained, Source};
use crate::sim::network::Network;
use crate::sim::network::stream::{SimulatedListener, SimulatedStream};

/// Connections that wait to be accepted, at most: as with the system's sockets.
const BACKLOG: usize = 4096;
/// Linux's.
const DEFAULT_TTL: u32 = 64;

/// A connection, or an attempt at one.
pub(super) struct Simulated {
    stream: SimulatedStream,
    options: Mutex<Options>,
}

/// What is remembered. Hops are not counted, and segments are never held back, so only `linger` does something.
#[derive(Clone, Copy)]
pub(super) struct Options {
    pub(super) nodelay: bool,
    pub(super) linger: Option<Duration>,
    pub(super) ttl: u32,
}

impl Simulated {
    /// Begins to connect; [`finish_connect`](Self::finish_connect) says what came of it.
    pub(super) fn connect(network: &Network, remote: SocketAddr) -> io::Result<Simulated> {
        network.connect(None, remote).map(Simulated::new)
    }

    fn new(stream: SimulatedStream) -> Simulated {
        Simulated { stream, options: Mutex::new(Options { nodelay: false, linger: None, ttl: DEFAULT_TTL }) }
    }

    pub(super) fn source(&self) -> &Source {
        self.stream.source()
    }

    pub(super) fn local_address(&self) -> SocketAddr {
        self.stream.local_address()
    }

    pub(super) fn peer_address(&self) -> SocketAddr {
        self.stream.peer_address()
    }

    pub(super) fn take_error(&self) -> Option<io::Error> {
        self.stream.take_error()
    }

    pub(super) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.stream.shutdown(how)
    }

    /// Succeeds once the connection stands.
    pub(super) fn finish_connect(&self) -> io::Result<()> {
        self.attempt(Direction::Write, || self.stream.finish_connect())
    }

    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.attempt(Direction::Read, || self.stream.try_read(buffer))
    }

    pub(super) fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.attempt(Direction::Read, || self.stream.try_peek(buffer))
    }

    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.attempt(Direction::Write, || self.stream.try_write(bytes))
    }

    /// Into the first buffer that has room, which is std's way for streams that know no better.
    pub(super) fn read_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let first = buffers.iter_mut().find(|buffer| !buffer.is_empty());
        self.read(first.map_or(&mut [], |buffer| &mut **buffer))
    }

    /// Of the first buffer that is not empty.
    pub(super) fn write_vectored(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        let first = bytes.iter().find(|bytes| !bytes.is_empty());
        self.write(first.map_or(&[], |bytes| &**bytes))
    }

    pub(super) fn options(&self) -> Options {
        *self.options.lock()
    }

    pub(super) fn set_nodelay(&self, nodelay: bool) {
        self.options.lock().nodelay = nodelay;
    }

    /// In whole seconds, as the system has it.
    pub(super) fn set_linger(&self, linger: Option<Duration>) {
        self.options.lock().linger = linger.map(|linger| Duration::from_secs(linger.as_secs()));
    }

    pub(super) fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.options.lock().ttl = checked_ttl(ttl)?;
        Ok(())
    }

    fn attempt<T>(&self, direction: Direction, mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        self.source().try_io(direction, || Ok((operation()?, Drained(false))))
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        if self.options().linger == Some(Duration::ZERO) {
            self.stream.reset();
        }
    }
}

/// A socket that listens.
pub(super) struct Listening {
    listener: SimulatedListener,
    ttl: Mutex<u32>,
}

impl Listening {
    pub(super) fn bind(network: &Network, address: SocketAddr) -> io::Result<Listening> {
        Ok(Listening { listener: network.listen(address, BACKLOG)?, ttl: Mutex::new(DEFAULT_TTL) })
    }

    pub(super) fn source(&self) -> &Source {
        self.listener.source()
    }

    pub(super) fn local_address(&self) -> SocketAddr {
        self.listener.local_address()
    }

    pub(super) fn accept(&self) -> io::Result<(Simulated, SocketAddr)> {
        let (stream, remote) = self.source().try_io(Direction::Read, || Ok((self.listener.try_accept()?, Drained(false))))?;
        let accepted = Simulated::new(stream);
        // As the system's, a connection begins with what its listener has.
        accepted.options.lock().ttl = self.ttl();
        Ok((accepted, remote))
    }

    pub(super) fn ttl(&self) -> u32 {
        *self.ttl.lock()
    }

    pub(super) fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        *self.ttl.lock() = checked_ttl(ttl)?;
        Ok(())
    }
}

fn checked_ttl(ttl: u32) -> io::Result<u32> {
    match ttl {
        1..=255 => Ok(ttl),
        _ => Err(io::Error::new(ErrorKind::InvalidInput, format!("a time to live of {ttl}"))),
    }
}
