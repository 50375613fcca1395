//! The UDP socket.
//!
//! Owns its calls and the options it is made with. Does not own the system's half, with what to do when the kernel refuses (`system`),
//! readiness (`reactor`) or buffers (`batch`).
//!
//! A socket of a simulation has the same methods over the simulated network. All methods take `&self`: a socket may be used
//! by any number of coroutines and threads at once.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use self::system::{STALE_ERRORS, SystemSocket, skipping, skipping_stale_errors};
use super::batch::{RecvBatch, SendBatch};
use super::resolve::{self, ToSocketAddrs};
use super::timeout::Timeout;
use super::{Io, Operation, Wait};
use crate::reactor::{Direction, Drained, Source};
use crate::select::Selectable;
use crate::sim::network::SimulatedSocket;
use crate::sys::control::Ancillary;
use crate::sys::message::Outgoing;
use crate::sys::socket::{self, Receive, SocketOption};
use crate::sys::steering;
use crate::time::Instant;
use crate::wait_list::Limit;

/// Segments that a simulated socket takes in one transmit: what most kernels do.
const SIMULATED_SEGMENTS: usize = 64;

/// A UDP socket whose blocking calls park the coroutine (or plain thread) that makes them.
///
/// It has the calls of std's, but for two. There is no `try_clone`: all calls take `&self`, so that an [`Arc`](std::sync::Arc) of a
/// socket is a second handle to it, and one that is not shared costs none. There is no `set_nonblocking`: the `try_` calls do not wait.
/// Beside std's, each call that waits has a form with a deadline, for which the timeouts play no part, and there are [batches](Self::recv_batch)
/// and [arms of a select](Self::receiving_from). A simulated socket has no descriptor: [`as_fd`](std::os::fd::AsFd::as_fd) panics.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// weald_runtime::run(|| {
///     let socket = weald_runtime::net::UdpSocket::bind("127.0.0.1:0")?;
///     let address = socket.local_addr()?;
///     socket.send_to(b"ping", address)?;
///     let mut buffer = [0; 16];
///     let (len, from) = socket.recv_from(&mut buffer)?;
///     assert_eq!((&buffer[..len], from), (&b"ping"[..], address));
///     Ok(())
/// })
/// # }
/// ```
pub struct UdpSocket {
    inner: Inner,
    read_timeout: Timeout,
    write_timeout: Timeout,
}

enum Inner {
    System(SystemSocket),
    Simulated(SimulatedSocket),
}

/// What a socket got of what speeds it up, or tells more than the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offloads {
    /// Datagrams that one message to the kernel may carry; 1 without segmentation offload.
    pub gso_max_segments: usize,
    /// Whether received datagrams may come as trains.
    pub gro: bool,
    /// Whether congestion marks of received datagrams are reported.
    pub ecn: bool,
    /// Whether the local address of received datagrams is reported.
    pub pktinfo: bool,
}

/// One instruction of classic BPF, as in Linux's `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterInstruction {
    /// Operation, addressing mode and size.
    pub code: u16,
    /// Instructions to skip if a comparison holds.
    pub jump_true: u8,
    /// Instructions to skip if it does not.
    pub jump_false: u8,
    /// The constant or offset.
    pub operand: u32,
}

/// The options of a socket to be bound.
///
/// Offloads are wishes: a kernel without them gives a socket that works the plain way, see [`UdpSocket::offloads`].
#[derive(Clone, Debug)]
#[must_use]
pub struct UdpSocketOptions {
    pub(crate) reuse_port: bool,
    pub(crate) receive_buffer: Option<usize>,
    pub(crate) send_buffer: Option<usize>,
    pub(crate) gso: bool,
    pub(crate) gro: bool,
    pub(crate) only_v6: bool,
    pub(crate) dont_fragment: bool,
}

impl Default for UdpSocketOptions {
    fn default() -> UdpSocketOptions {
        UdpSocketOptions {
            reuse_port: false,
            receive_buffer: None,
            send_buffer: None,
            gso: true,
            gro: false,
            only_v6: false,
            dont_fragment: false,
        }
    }
}

impl UdpSocketOptions {
    /// Lets several sockets bind one address; the kernel spreads peers over them by a hash. Off by default.
    pub fn reuse_port(mut self, reuse_port: bool) -> UdpSocketOptions {
        self.reuse_port = reuse_port;
        self
    }

    /// Asks for room for so many bytes of datagrams received but not read; the system's default is often 208 KiB.
    /// [`UdpSocket::receive_buffer`] tells what was granted.
    pub fn receive_buffer(mut self, bytes: usize) -> UdpSocketOptions {
        self.receive_buffer = Some(bytes);
        self
    }

    /// The same for datagrams sent but not on the wire.
    pub fn send_buffer(mut self, bytes: usize) -> UdpSocketOptions {
        self.send_buffer = Some(bytes);
        self
    }

    /// Whether trains may be handed to the kernel whole. On by default.
    pub fn gso(mut self, gso: bool) -> UdpSocketOptions {
        self.gso = gso;
        self
    }

    /// Whether datagrams may be received as trains. Off by default, since only the batch calls can tell them apart:
    /// [`UdpSocket::recv_from`] refuses to work on such a socket.
    pub fn gro(mut self, gro: bool) -> UdpSocketOptions {
        self.gro = gro;
        self
    }

    /// Whether an IPv6 socket bound to the unspecified address leaves IPv4 alone. Off by default: it serves both, and IPv4
    /// peers have plain IPv4 addresses in this interface.
    pub fn only_v6(mut self, only_v6: bool) -> UdpSocketOptions {
        self.only_v6 = only_v6;
        self
    }

    /// Whether datagrams are sent with "don't fragment" and ICMP's word on the path's MTU is ignored: for protocols that
    /// discover the MTU by themselves, RFC 8899. Off by default.
    pub fn dont_fragment(mut self, dont_fragment: bool) -> UdpSocketOptions {
        self.dont_fragment = dont_fragment;
        self
    }

    /// Binds a socket with these options to the first of the addresses that can be; port 0 lets the system choose.
    ///
    /// # Errors
    /// The last address's: it is in use or not of this host; the system refuses a descriptor; the look-up's of a name, or its cancellation.
    #[track_caller]
    pub fn bind(&self, address: impl ToSocketAddrs) -> io::Result<UdpSocket> {
        let addresses = resolve::resolve(address, Limit::Never)?;
        resolve::first_of(&addresses, |address| self.bind_on(&Io::current(), address))
    }

    pub(crate) fn bind_on(&self, io: &Io, address: SocketAddr) -> io::Result<UdpSocket> {
        let inner = match io {
            Io::System => SystemSocket::bind(self, address).map(Inner::System),
            Io::Network(network) => network.bind(self, address).map(Inner::Simulated),
        };
        match inner {
            Ok(inner) => Ok(UdpSocket::new(inner)),
            Err(error) => Err(io::Error::new(error.kind(), format!("cannot bind UDP {address}: {error}"))),
        }
    }
}

impl UdpSocket {
    /// Binds a socket with the default options.
    ///
    /// # Errors
    /// See [`UdpSocketOptions::bind`].
    #[track_caller]
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<UdpSocket> {
        UdpSocketOptions::default().bind(address)
    }

    fn new(inner: Inner) -> UdpSocket {
        UdpSocket { inner, read_timeout: Timeout::default(), write_timeout: Timeout::default() }
    }

    /// The address it is bound to; where that is unspecified and the socket is [connected](Self::connect), what the system chose then.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.inner {
            Inner::System(socket) if socket.local.ip().is_unspecified() => socket::local_address(&socket.descriptor),
            Inner::System(socket) => Ok(socket.local),
            Inner::Simulated(socket) => Ok(socket.local_address()),
        }
    }

    /// What the system granted of the offloads. Segmentation may still fall to 1 later, when an interface refuses it.
    #[must_use]
    pub fn offloads(&self) -> Offloads {
        match &self.inner {
            Inner::System(socket) => socket.offloads(),
            Inner::Simulated(_) => Offloads { gso_max_segments: SIMULATED_SEGMENTS, gro: false, ecn: true, pktinfo: true },
        }
    }

    /// Bytes of datagrams that the system keeps until they are read.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn receive_buffer(&self) -> io::Result<usize> {
        match &self.inner {
            Inner::System(socket) => socket.granted(SocketOption::ReceiveBuffer),
            Inner::Simulated(socket) => Ok(socket.receive_buffer()),
        }
    }

    /// Bytes of datagrams that the system keeps until they are on the wire.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn send_buffer(&self) -> io::Result<usize> {
        match &self.inner {
            Inner::System(socket) => socket.granted(SocketOption::SendBuffer),
            // The simulated network takes everything at once.
            Inner::Simulated(_) => Ok(usize::MAX),
        }
    }

    /// Whether a receive may find something: false only after one found nothing and before the reactor learnt of more.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        match &self.inner {
            Inner::System(socket) => socket.descriptor.is_ready(Direction::Read),
            Inner::Simulated(socket) => socket.source().is_ready(Direction::Read),
        }
    }

    /// Receives one datagram, waiting for it; what does not fit into `buffer` is cut off.
    ///
    /// # Errors
    /// `TimedOut` after the read timeout; cancelled by the runtime's shutdown; `InvalidInput` on a socket that receives trains.
    #[track_caller]
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.receiving(self.read_timeout.limit(), || self.try_recv_from(buffer))
    }

    /// As [`recv_from`](Self::recv_from), but fails with `WouldBlock` where that would wait.
    ///
    /// # Errors
    /// Nothing has arrived, or as for `recv_from`.
    pub fn try_recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.try_receive(buffer, Receive::Take, STALE_ERRORS)
    }

    /// Receives one datagram after at most so many reports about earlier ones.
    fn try_receive(&self, buffer: &mut [u8], receive: Receive, stale_errors: usize) -> io::Result<(usize, SocketAddr)> {
        match &self.inner {
            Inner::System(socket) if socket.gro => {
                let message = "a plain receive on a socket with receive offload; use recv_batch";
                Err(io::Error::new(io::ErrorKind::InvalidInput, message))
            }
            Inner::System(socket) => socket.descriptor.try_io(Direction::Read, || {
                let received = skipping(stale_errors, || socket::receive_from(&socket.descriptor, buffer, receive))?;
                Ok((received, Drained(false)))
            }),
            Inner::Simulated(socket) => socket.source().try_io(Direction::Read, || {
                let datagram = if receive == Receive::Peek { socket.peek() } else { socket.receive() };
                let datagram = datagram.ok_or(io::ErrorKind::WouldBlock)?;
                let len = datagram.bytes.len().min(buffer.len());
                buffer[..len].copy_from_slice(&datagram.bytes[..len]);
                Ok(((len, datagram.remote), Drained(false)))
            }),
        }
    }

    /// Receives what has arrived, as far as the batch holds it, waiting for the first; returns the number of messages.
    ///
    /// # Errors
    /// `TimedOut` after the read timeout; cancelled by the runtime's shutdown.
    #[track_caller]
    pub fn recv_batch(&self, batch: &mut RecvBatch) -> io::Result<usize> {
        self.blocking(Direction::Read, self.read_timeout.limit(), || self.try_recv_batch(batch))
    }

    /// As [`recv_batch`](Self::recv_batch), waiting until `deadline` whatever the read timeout is.
    ///
    /// # Errors
    /// `TimedOut` at the deadline; otherwise as for `recv_batch`.
    #[track_caller]
    pub fn recv_batch_deadline(&self, batch: &mut RecvBatch, deadline: Instant) -> io::Result<usize> {
        self.blocking(Direction::Read, Limit::At(deadline), || self.try_recv_batch(batch))
    }

    /// As [`recv_batch`](Self::recv_batch), but fails with `WouldBlock` where that would wait. The batch is then empty.
    ///
    /// # Errors
    /// Nothing has arrived, or the system failed.
    pub fn try_recv_batch(&self, batch: &mut RecvBatch) -> io::Result<usize> {
        batch.clear();
        match &self.inner {
            Inner::System(socket) => socket.descriptor.try_io(Direction::Read, || {
                batch.clear();
                let count = skipping_stale_errors(|| batch.receive(&socket.descriptor))?;
                // Fewer than there was room for: the kernel had no more.
                Ok((batch.len(), Drained(count < batch.capacity())))
            }),
            Inner::Simulated(socket) => socket.source().try_io(Direction::Read, || {
                batch.clear();
                while !batch.is_full() {
                    let Some(datagram) = socket.receive() else { break };
                    batch.push(&datagram.bytes, datagram.remote, datagram.local, datagram.ecn);
                }
                if batch.is_empty() {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok((batch.len(), Drained(!batch.is_full())))
            }),
        }
    }

    /// As [`try_recv_from`](Self::try_recv_from), to be selected, see [`select!`](crate::select!). If another arm is chosen,
    /// nothing was received. The read timeout plays no part.
    ///
    /// ```
    /// use std::time::Duration;
    /// use weald_runtime::{net::UdpSocket, select};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// weald_runtime::run(|| {
    ///     let sockets = [UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("[::1]:0")?];
    ///     let there = sockets[1].local_addr()?;
    ///     sockets[1].send_to(b"ping", there)?;
    ///     let [mut one, mut other] = [[0; 16]; 2];
    ///     select! {
    ///         wait(sockets[0].receiving_from(&mut one)) -> _ => unreachable!("nobody sends to it"),
    ///         wait(sockets[1].receiving_from(&mut other)) -> received => assert_eq!(received?, (4, there)),
    ///         default(Duration::from_secs(10)) => panic!("it takes too long"),
    ///     }
    ///     Ok(())
    /// })
    /// # }
    /// ```
    pub fn receiving_from<'a>(&'a self, buffer: &'a mut [u8]) -> impl Selectable<Output = io::Result<(usize, SocketAddr)>> + 'a {
        Operation::new(&self.inner, Direction::Read, || self.try_recv_from(buffer))
    }

    /// As [`try_recv_batch`](Self::try_recv_batch), to be selected, see [`select!`](crate::select!). If another arm is chosen,
    /// nothing was received, and the batch is empty. The read timeout plays no part.
    pub fn receiving_batch<'a>(&'a self, batch: &'a mut RecvBatch) -> impl Selectable<Output = io::Result<usize>> + 'a {
        Operation::new(&self.inner, Direction::Read, || self.try_recv_batch(batch))
    }

    /// Sends one datagram to the first of the addresses, waiting for room; returns its length. A name is looked up each time.
    ///
    /// # Errors
    /// `TimedOut` after the write timeout; it is longer than a datagram or the interface allows, there is no way to the address, or the shutdown
    /// cancelled it; the look-up's of a name.
    #[track_caller]
    pub fn send_to(&self, bytes: &[u8], remote: impl ToSocketAddrs) -> io::Result<usize> {
        let limit = self.write_timeout.limit();
        let remote = resolve::resolve_first(remote, || limit)?;
        self.blocking(Direction::Write, limit, || self.try_send_to(bytes, remote))
    }

    /// As [`send_to`](Self::send_to), but fails with `WouldBlock` where that would wait.
    ///
    /// # Errors
    /// There is no room, or as for `send_to`.
    pub fn try_send_to(&self, bytes: &[u8], remote: SocketAddr) -> io::Result<usize> {
        match &self.inner {
            Inner::System(socket) => socket.descriptor.try_io(Direction::Write, || {
                let send = || socket::send_to(&socket.descriptor, bytes, remote, socket.ipv6);
                Ok((skipping_stale_errors(send)?, Drained(false)))
            }),
            Inner::Simulated(socket) => {
                let datagram = Outgoing { bytes, remote, ancillary: Ancillary::default() };
                socket.send(Instant::now(), &datagram).map(|()| bytes.len())
            }
        }
    }

    /// Sends the whole batch, waiting for room as often as needed. What the system refuses for its own sake is found in
    /// [`SendBatch::drain_refused`] and fails nothing else.
    ///
    /// # Errors
    /// `TimedOut` when nothing was sent for as long as the write timeout; the shutdown cancelled it. The rest is still in the batch.
    #[track_caller]
    pub fn send_batch(&self, batch: &mut SendBatch) -> io::Result<()> {
        self.send_batch_limited(batch, || self.write_timeout.limit())
    }

    /// As [`send_batch`](Self::send_batch), waiting until `deadline` for all of it, whatever the write timeout is.
    ///
    /// # Errors
    /// `TimedOut` at the deadline; otherwise as for `send_batch`.
    #[track_caller]
    pub fn send_batch_deadline(&self, batch: &mut SendBatch, deadline: Instant) -> io::Result<()> {
        self.send_batch_limited(batch, || Limit::At(deadline))
    }

    #[track_caller]
    fn send_batch_limited(&self, batch: &mut SendBatch, limit: impl Fn() -> Limit) -> io::Result<()> {
        while !batch.is_empty() {
            self.blocking(Direction::Write, limit(), || self.try_send_batch(batch))?;
        }
        Ok(())
    }

    /// Sends as much of the batch as there is room for, and returns how many transmits it is done with (sent or refused;
    /// those that [`SendBatch::commit`] joined count as one). The rest stays in the batch, to be sent by the next call.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room for the first.
    pub fn try_send_batch(&self, batch: &mut SendBatch) -> io::Result<usize> {
        let done = match &self.inner {
            Inner::System(socket) => socket.send_batch(batch)?,
            Inner::Simulated(socket) => {
                let now = Instant::now();
                let mut done = 0;
                loop {
                    // One by one: the simulated network knows no trains.
                    let first = batch.queue.messages(1).next();
                    let Some(sent) = first.map(|datagram| socket.send(now, &datagram)) else { break };
                    done += match sent {
                        Ok(()) => batch.queue.advance(1, 1),
                        Err(error) => batch.refuse(1, error),
                    };
                }
                done
            }
        };
        if batch.is_empty() {
            batch.clear();
        }
        Ok(done)
    }

    /// Lets a classic BPF program choose which of the sockets bound to this address with
    /// [`reuse_port`](UdpSocketOptions::reuse_port) a datagram goes to. The program sees the UDP payload and returns the socket's
    /// place in the order of binding; for any other number the kernel hashes the addresses. Any socket of the group will do.
    ///
    /// # Errors
    /// The kernel refuses it, or the socket is simulated.
    pub fn attach_steering(&self, program: &[FilterInstruction]) -> io::Result<()> {
        match &self.inner {
            Inner::System(socket) => steering::attach(&socket.descriptor, program),
            Inner::Simulated(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// [`blocking`](Self::blocking) for what takes one datagram.
    #[track_caller]
    fn receiving<T>(&self, limit: Limit, mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let Inner::System(SystemSocket { descriptor, .. }) = &self.inner else { return self.blocking(Direction::Read, limit, operation) };
        let mut counts = !descriptor.wait_before_read();
        let counted = || {
            let result = operation();
            if std::mem::take(&mut counts) {
                descriptor.count_read(result.is_ok());
            }
            result
        };
        self.blocking(Direction::Read, limit, counted)
    }

    #[track_caller]
    fn blocking<T>(&self, direction: Direction, limit: Limit, operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        super::blocking(limit, operation, &self.inner, direction)
    }
}

impl Wait for Inner {
    fn source(&self) -> io::Result<&Source> {
        match self {
            Self::System(socket) => socket.descriptor.source(),
            Self::Simulated(socket) => Ok(socket.source()),
        }
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("UdpSocket");
        if let Ok(local) = self.local_addr() {
            debug.field("local", &local);
        }
        debug.finish_non_exhaustive()
    }
}

mod connected;
mod settings;
mod standard;
mod system;

#[cfg(test)]
mod tests;
