//! A UDP socket that has one peer.
//!
//! Owns `connect`, the calls that name no address, looking at a datagram without taking it, and the forms with a deadline of calls for single
//! datagrams. Errors are those of std: a report
//! that the peer refuses datagrams ends the next call, whereas calls that name an address skip it.

use std::io;
use std::net::SocketAddr;

use super::{Inner, STALE_ERRORS, UdpSocket, skipping};
use crate::net::resolve::{self, ToSocketAddrs};
use crate::reactor::{Direction, Drained};
use crate::sys::control::Ancillary;
use crate::sys::message::Outgoing;
use crate::sys::socket::{self, Receive};
use crate::time::Instant;
use crate::wait_list::Limit;

impl UdpSocket {
    /// Names the peer of [`send`](Self::send) and [`recv`](Self::recv): the first of the named addresses that can be. From then on the
    /// socket receives from it alone; what has arrived before stays. Nothing is sent.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use weald_runtime::net::UdpSocket;
    ///
    /// weald_runtime::run(|| {
    ///     let (here, there) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    ///     here.connect(there.local_addr()?)?;
    ///     there.connect(here.local_addr()?)?;
    ///     here.send(b"ping")?;
    ///     let mut buffer = [0; 16];
    ///     let len = there.recv(&mut buffer)?;
    ///     assert_eq!(&buffer[..len], b"ping");
    ///     Ok(())
    /// })
    /// # }
    /// ```
    ///
    /// # Errors
    /// The last address's: there is no way to it, or it is of the other IP version; the look-up's of a name; cancelled.
    #[track_caller]
    pub fn connect(&self, address: impl ToSocketAddrs) -> io::Result<()> {
        let addresses = resolve::resolve(address, Limit::Never)?;
        resolve::first_of(&addresses, |address| match &self.inner {
            Inner::System(socket) => socket::connect(&socket.descriptor, address, socket.ipv6),
            Inner::Simulated(socket) => socket.connect(address),
        })
    }

    /// The peer that [`connect`](Self::connect) named.
    ///
    /// # Errors
    /// `NotConnected`.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match &self.inner {
            Inner::System(socket) => socket::peer_address(&socket.descriptor),
            Inner::Simulated(socket) => socket.peer().ok_or_else(|| io::ErrorKind::NotConnected.into()),
        }
    }

    /// Sends one datagram to the peer, waiting for room; returns its length.
    ///
    /// # Errors
    /// `TimedOut` after the write timeout; the peer has refused an earlier one; the socket is not connected; otherwise as for
    /// [`send_to`](Self::send_to).
    #[track_caller]
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.blocking(Direction::Write, self.write_timeout.limit(), || self.try_send(bytes))
    }

    /// As [`send`](Self::send), but fails with `WouldBlock` where that would wait.
    ///
    /// # Errors
    /// There is no room, or as for `send`.
    pub fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.inner {
            Inner::System(socket) => socket.descriptor.try_io(Direction::Write, || {
                let sent = skipping(0, || socket::send(&socket.descriptor, bytes))?;
                Ok((sent, Drained(false)))
            }),
            Inner::Simulated(socket) => {
                let remote = socket.peer().ok_or(io::ErrorKind::NotConnected)?;
                let datagram = Outgoing { bytes, remote, ancillary: Ancillary::default() };
                socket.send(Instant::now(), &datagram).map(|()| bytes.len())
            }
        }
    }

    /// Receives one datagram, waiting for it, and returns its length; what does not fit into `buffer` is cut off.
    ///
    /// # Errors
    /// `TimedOut` after the read timeout; the peer has refused an earlier datagram; otherwise as for [`recv_from`](Self::recv_from).
    #[track_caller]
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receiving(self.read_timeout.limit(), || self.try_recv(buffer))
    }

    /// As [`recv`](Self::recv), but fails with `WouldBlock` where that would wait.
    ///
    /// # Errors
    /// Nothing has arrived, or as for `recv`.
    pub fn try_recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.try_receive(buffer, Receive::Take, 0).map(|(len, _)| len)
    }

    /// As [`recv`](Self::recv), but the datagram stays, to be received again.
    ///
    /// # Errors
    /// As for `recv`.
    #[track_caller]
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.peek_limited(buffer, self.read_timeout.limit(), 0).map(|(len, _)| len)
    }

    /// As [`recv_from`](Self::recv_from), but the datagram stays, to be received again.
    ///
    /// # Errors
    /// As for `recv_from`.
    #[track_caller]
    pub fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.peek_limited(buffer, self.read_timeout.limit(), STALE_ERRORS)
    }

    /// As [`recv_from`](Self::recv_from), waiting until `deadline` whatever the read timeout is.
    ///
    /// # Errors
    /// `TimedOut` at the deadline; otherwise as for `recv_from`.
    #[track_caller]
    pub fn recv_from_deadline(&self, buffer: &mut [u8], deadline: Instant) -> io::Result<(usize, SocketAddr)> {
        self.receiving(Limit::At(deadline), || self.try_recv_from(buffer))
    }

    /// As [`send_to`](Self::send_to), waiting until `deadline` whatever the write timeout is.
    ///
    /// # Errors
    /// `TimedOut` at the deadline; otherwise as for `send_to`.
    #[track_caller]
    pub fn send_to_deadline(&self, bytes: &[u8], remote: impl ToSocketAddrs, deadline: Instant) -> io::Result<usize> {
        let remote = resolve::resolve_first(remote, || Limit::At(deadline))?;
        self.blocking(Direction::Write, Limit::At(deadline), || self.try_send_to(bytes, remote))
    }

    /// As [`recv`](Self::recv), waiting until `deadline` whatever the read timeout is.
    ///
    /// # Errors
    /// `TimedOut` at the deadline; otherwise as for `recv`.
    #[track_caller]
    pub fn recv_deadline(&self, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
        self.receiving(Limit::At(deadline), || self.try_recv(buffer))
    }

    /// As [`send`](Self::send), waiting until `deadline` whatever the write timeout is.
    ///
    /// # Errors
    /// `TimedOut` at the deadline; otherwise as for `send`.
    #[track_caller]
    pub fn send_deadline(&self, bytes: &[u8], deadline: Instant) -> io::Result<usize> {
        self.blocking(Direction::Write, Limit::At(deadline), || self.try_send(bytes))
    }

    /// As [`peek`](Self::peek), waiting until `deadline` whatever the read timeout is.
    ///
    /// # Errors
    /// `TimedOut` at the deadline; otherwise as for `peek`.
    #[track_caller]
    pub fn peek_deadline(&self, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
        self.peek_limited(buffer, Limit::At(deadline), 0).map(|(len, _)| len)
    }

    /// As [`peek_from`](Self::peek_from), waiting until `deadline` whatever the read timeout is.
    ///
    /// # Errors
    /// `TimedOut` at the deadline; otherwise as for `peek_from`.
    #[track_caller]
    pub fn peek_from_deadline(&self, buffer: &mut [u8], deadline: Instant) -> io::Result<(usize, SocketAddr)> {
        self.peek_limited(buffer, Limit::At(deadline), STALE_ERRORS)
    }

    #[track_caller]
    fn peek_limited(&self, buffer: &mut [u8], limit: Limit, stale_errors: usize) -> io::Result<(usize, SocketAddr)> {
        self.blocking(Direction::Read, limit, || self.try_receive(buffer, Receive::Peek, stale_errors))
    }
}
