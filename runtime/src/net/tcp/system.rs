//! TCP sockets of the operating system, without blocking.
//!
//! Owns the calls into std and the kernel, and what their errors mean for the next call. Every operation fails with `WouldBlock`
//! where it would have to wait.
#![expect(clippy::disallowed_types, reason = "std's sockets, in non-blocking mode, do not block the worker")]

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{self, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Protocol, Socket, Type};

use crate::net::descriptor::Descriptor;
use crate::reactor::{Direction, Drained};
use crate::sys::socket;

/// Connections that wait to be accepted, at most: what std asks for. The system's limit (`net.core.somaxconn`) may be lower.
const BACKLOG: i32 = 4096;

/// A connection, or an attempt at one.
pub(super) struct SystemStream(Descriptor<net::TcpStream>);

impl SystemStream {
    /// Begins to connect; [`finish_connect`](Self::finish_connect) says what came of it.
    pub(super) fn connect(remote: SocketAddr) -> io::Result<SystemStream> {
        let socket = new_socket(remote)?;
        match socket.connect(&remote.into()) {
            Err(error) if !socket::is_connecting(&error) => return Err(error),
            _ => {}
        }
        Ok(SystemStream(Descriptor::new(socket.into())))
    }

    pub(super) fn from_std(stream: net::TcpStream) -> io::Result<SystemStream> {
        stream.set_nonblocking(true)?;
        Ok(SystemStream(Descriptor::new(stream)))
    }

    /// In blocking mode.
    pub(super) fn into_std(self) -> io::Result<net::TcpStream> {
        let stream = self.std().try_clone()?;
        drop(self);
        stream.set_nonblocking(false)?;
        Ok(stream)
    }

    pub(super) fn std(&self) -> &net::TcpStream {
        self.0.get()
    }

    pub(super) fn descriptor(&self) -> &Descriptor<net::TcpStream> {
        &self.0
    }

    /// Succeeds once the connection stands.
    pub(super) fn finish_connect(&self) -> io::Result<()> {
        self.0.try_io(Direction::Write, || {
            if let Some(error) = self.std().take_error()? {
                return Err(error);
            }
            match socket::peer_address(self.std()) {
                Ok(_) => Ok(((), Drained(false))),
                Err(error) if socket::is_not_connected(&error) => Err(io::ErrorKind::WouldBlock.into()),
                Err(error) => Err(error),
            }
        })
    }

    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.transfer(Direction::Read, buffer.len(), |mut stream| stream.read(buffer))
    }

    pub(super) fn read_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let room = buffers.iter().map(|buffer| buffer.len()).sum();
        self.transfer(Direction::Read, room, |mut stream| stream.read_vectored(buffers))
    }

    pub(super) fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_io(Direction::Read, || Ok((self.std().peek(buffer)?, Drained(false))))
    }

    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.transfer(Direction::Write, bytes.len(), |mut stream| stream.write(bytes))
    }

    pub(super) fn write_vectored(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        let len = bytes.iter().map(|bytes| bytes.len()).sum();
        self.transfer(Direction::Write, len, |mut stream| stream.write_vectored(bytes))
    }

    /// A transfer of less than was asked for has emptied the kernel's buffer, or filled it: epoll(7), question 9. The end of
    /// the stream is no such thing.
    fn transfer(
        &self,
        direction: Direction,
        wanted: usize,
        mut call: impl FnMut(&net::TcpStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.0.try_io(direction, || {
            let done = call(self.std())?;
            Ok((done, Drained(done > 0 && done < wanted)))
        })
    }
}

impl AsFd for SystemStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.std().as_fd()
    }
}

/// A socket that listens.
pub(super) struct SystemListener(Descriptor<net::TcpListener>);

impl SystemListener {
    pub(super) fn bind(address: SocketAddr) -> io::Result<SystemListener> {
        let socket = new_socket(address)?;
        // As std: a server that starts again must not wait until its former connections are forgotten.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(SystemListener(Descriptor::new(socket.into())))
    }

    pub(super) fn from_std(listener: net::TcpListener) -> io::Result<SystemListener> {
        listener.set_nonblocking(true)?;
        Ok(SystemListener(Descriptor::new(listener)))
    }

    /// In blocking mode.
    pub(super) fn into_std(self) -> io::Result<net::TcpListener> {
        let listener = self.std().try_clone()?;
        drop(self);
        listener.set_nonblocking(false)?;
        Ok(listener)
    }

    pub(super) fn std(&self) -> &net::TcpListener {
        self.0.get()
    }

    pub(super) fn descriptor(&self) -> &Descriptor<net::TcpListener> {
        &self.0
    }

    pub(super) fn accept(&self) -> io::Result<(SystemStream, SocketAddr)> {
        self.0.try_io(Direction::Read, || {
            loop {
                match socket::accept(self.std()) {
                    // Each such error takes its connection away, so they end.
                    Err(error) if socket::is_about_gone_connection(&error) => {}
                    Ok((descriptor, remote)) => return Ok(((SystemStream(Descriptor::new(descriptor.into())), remote), Drained(false))),
                    Err(error) => return Err(error),
                }
            }
        })
    }
}

impl AsFd for SystemListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.std().as_fd()
    }
}

fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))
}
