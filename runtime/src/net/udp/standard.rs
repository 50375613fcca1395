//! A UDP socket to and from one of std's, and as a descriptor.
//!
//! Owns the conversions. A simulated socket has no descriptor to give.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use super::{Inner, SystemSocket, UdpSocket};
use crate::net::no_descriptor;

#[expect(clippy::disallowed_types, reason = "what comes in is made non-blocking, and what goes out runs elsewhere")]
impl UdpSocket {
    /// Takes over a socket of std's, and makes it non-blocking. What it tells beside the bytes is what it was set up for, see
    /// [`offloads`](Self::offloads).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use weald_runtime::net::UdpSocket;
    ///
    /// let bound_by_others = std::net::UdpSocket::bind("127.0.0.1:0")?;
    /// weald_runtime::run(|| {
    ///     let socket = UdpSocket::from_std(bound_by_others)?;
    ///     socket.send_to(b"ping", socket.local_addr()?)?;
    ///     assert_eq!(socket.recv_from(&mut [0; 16])?.0, 4);
    ///     Ok(())
    /// })
    /// # }
    /// ```
    ///
    /// # Errors
    /// The system refuses that.
    pub fn from_std(socket: std::net::UdpSocket) -> io::Result<UdpSocket> {
        socket.set_nonblocking(true)?;
        SystemSocket::adopt(socket.into()).map(|socket| UdpSocket::new(Inner::System(socket)))
    }

    /// The socket as one of std's, in blocking mode and without timeouts.
    ///
    /// # Errors
    /// `Unsupported` if it is simulated; the system refuses a descriptor.
    pub fn into_std(self) -> io::Result<std::net::UdpSocket> {
        let socket = match self.inner {
            Inner::System(socket) => std::net::UdpSocket::from(socket.descriptor.get().try_clone()?),
            Inner::Simulated(_) => return Err(no_descriptor()),
        };
        socket.set_nonblocking(false)?;
        Ok(socket)
    }
}

/// Panics for a simulated one.
impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.inner {
            Inner::System(socket) => socket.descriptor.as_fd(),
            Inner::Simulated(_) => panic!("{}", no_descriptor()),
        }
    }
}

/// Panics for a simulated one.
impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
