//! TCP sockets of either kind, without blocking.
//!
//! Owns which kind a socket is: the system's, or a simulation's. Does not own what either does (`system`, `simulated`).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use socket2::SockRef;

use super::simulated::{Listening, Simulated};
use super::system::{SystemListener, SystemStream};
use crate::net::{Io, Wait, no_descriptor};
use crate::reactor::Source;
use crate::sys::socket;

/// A connection, or an attempt at one.
pub(super) enum Stream {
    System(SystemStream),
    Simulated(Simulated),
}

impl Stream {
    /// Begins to connect; [`finish_connect`](Self::finish_connect) says what came of it.
    pub(super) fn connect(remote: SocketAddr) -> io::Result<Stream> {
        match Io::current() {
            Io::System => SystemStream::connect(remote).map(Stream::System),
            Io::Network(network) => Simulated::connect(&network, remote).map(Stream::Simulated),
        }
    }

    /// In blocking mode.
    #[expect(clippy::disallowed_types, reason = "for code that runs elsewhere")]
    pub(super) fn into_std(self) -> io::Result<std::net::TcpStream> {
        match self {
            Stream::System(system) => system.into_std(),
            Stream::Simulated(_) => Err(no_descriptor()),
        }
    }

    pub(super) fn finish_connect(&self) -> io::Result<()> {
        match self {
            Stream::System(system) => system.finish_connect(),
            Stream::Simulated(simulated) => simulated.finish_connect(),
        }
    }

    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::System(system) => system.read(buffer),
            Stream::Simulated(simulated) => simulated.read(buffer),
        }
    }

    pub(super) fn read_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self {
            Stream::System(system) => system.read_vectored(buffers),
            Stream::Simulated(simulated) => simulated.read_vectored(buffers),
        }
    }

    pub(super) fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::System(system) => system.peek(buffer),
            Stream::Simulated(simulated) => simulated.peek(buffer),
        }
    }

    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::System(system) => system.write(bytes),
            Stream::Simulated(simulated) => simulated.write(bytes),
        }
    }

    pub(super) fn write_vectored(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::System(system) => system.write_vectored(bytes),
            Stream::Simulated(simulated) => simulated.write_vectored(bytes),
        }
    }

    pub(super) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Stream::System(system) => system.std().shutdown(how),
            Stream::Simulated(simulated) => simulated.shutdown(how),
        }
    }

    pub(super) fn peer_address(&self) -> io::Result<SocketAddr> {
        match self {
            Stream::System(system) => socket::peer_address(system),
            Stream::Simulated(simulated) => Ok(simulated.peer_address()),
        }
    }

    pub(super) fn local_address(&self) -> io::Result<SocketAddr> {
        match self {
            Stream::System(system) => socket::local_address(system),
            Stream::Simulated(simulated) => Ok(simulated.local_address()),
        }
    }

    pub(super) fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Stream::System(system) => system.std().take_error(),
            Stream::Simulated(simulated) => Ok(simulated.take_error()),
        }
    }

    pub(super) fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        match self {
            Stream::System(system) => system.std().set_nodelay(nodelay),
            Stream::Simulated(simulated) => {
                simulated.set_nodelay(nodelay);
                Ok(())
            }
        }
    }

    pub(super) fn nodelay(&self) -> io::Result<bool> {
        match self {
            Stream::System(system) => system.std().nodelay(),
            Stream::Simulated(simulated) => Ok(simulated.options().nodelay),
        }
    }

    pub(super) fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        match self {
            Stream::System(system) => SockRef::from(system).set_linger(linger),
            Stream::Simulated(simulated) => {
                simulated.set_linger(linger);
                Ok(())
            }
        }
    }

    pub(super) fn linger(&self) -> io::Result<Option<Duration>> {
        match self {
            Stream::System(system) => SockRef::from(system).linger(),
            Stream::Simulated(simulated) => Ok(simulated.options().linger),
        }
    }

    pub(super) fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        match self {
            Stream::System(system) => system.std().set_ttl(ttl),
            Stream::Simulated(simulated) => simulated.set_ttl(ttl),
        }
    }

    pub(super) fn ttl(&self) -> io::Result<u32> {
        match self {
            Stream::System(system) => system.std().ttl(),
            Stream::Simulated(simulated) => Ok(simulated.options().ttl),
        }
    }

    /// Panics for a simulated one.
    #[track_caller]
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::System(system) => system.as_fd(),
            Stream::Simulated(_) => panic!("{}", no_descriptor()),
        }
    }
}

impl Wait for Stream {
    fn source(&self) -> io::Result<&Source> {
        match self {
            Stream::System(system) => system.descriptor().source(),
            Stream::Simulated(simulated) => Ok(simulated.source()),
        }
    }
}

/// A socket that listens.
pub(super) enum Listener {
    System(SystemListener),
    Simulated(Listening),
}

impl Listener {
    pub(super) fn bind(address: SocketAddr) -> io::Result<Listener> {
        match Io::current() {
            Io::System => SystemListener::bind(address).map(Listener::System),
            Io::Network(network) => Listening::bind(&network, address).map(Listener::Simulated),
        }
    }

    /// In blocking mode.
    #[expect(clippy::disallowed_types, reason = "for code that runs elsewhere")]
    pub(super) fn into_std(self) -> io::Result<std::net::TcpListener> {
        match self {
            Listener::System(system) => system.into_std(),
            Listener::Simulated(_) => Err(no_descriptor()),
        }
    }

    pub(super) fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match self {
            Listener::System(system) => system.accept().map(|(stream, remote)| (Stream::System(stream), remote)),
            Listener::Simulated(simulated) => simulated.accept().map(|(stream, remote)| (Stream::Simulated(stream), remote)),
        }
    }

    pub(super) fn local_address(&self) -> io::Result<SocketAddr> {
        match self {
            Listener::System(system) => socket::local_address(system),
            Listener::Simulated(simulated) => Ok(simulated.local_address()),
        }
    }

    pub(super) fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        match self {
            Listener::System(system) => system.std().set_ttl(ttl),
            Listener::Simulated(simulated) => simulated.set_ttl(ttl),
        }
    }

    pub(super) fn ttl(&self) -> io::Result<u32> {
        match self {
            Listener::System(system) => system.std().ttl(),
            Listener::Simulated(simulated) => Ok(simulated.ttl()),
        }
    }

    pub(super) fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Listener::System(system) => system.std().take_error(),
            Listener::Simulated(_) => Ok(None),
        }
    }

    /// Panics for a simulated one.
    #[track_caller]
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::System(system) => system.as_fd(),
            Listener::Simulated(_) => panic!("{}", no_descriptor()),
        }
    }
}

impl Wait for Listener {
    fn source(&self) -> io::Result<&Source> {
        match self {
            Listener::System(system) => system.descriptor().source(),
            Listener::Simulated(simulated) => Ok(simulated.source()),
        }
    }
}
