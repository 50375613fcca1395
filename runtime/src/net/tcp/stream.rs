//! A TCP connection.
//!
//! Owns the blocking calls of a connection and their limits.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use super::socket::Stream;
use super::system::SystemStream;
use crate::net::resolve::{self, ToSocketAddrs};
use crate::net::timeout::Timeout;
use crate::net::{Operation, blocking};
use crate::reactor::Direction;
use crate::select::Selectable;
use crate::time::Instant;
use crate::wait_list::Limit;

/// A TCP connection, as `std::net::TcpStream`; its blocking calls park the coroutine (or plain thread) that makes them.
///
/// It may be used from anywhere, whichever runtime or thread made it, and by several at once: one reads and another writes
/// through `&TcpStream`. Closing happens when the last handle ([`try_clone`](Self::try_clone)) is dropped.
///
/// Where std reports a timeout as `WouldBlock`, the error here is always `TimedOut`. A cancelled call fails with an error whose
/// inner one is [`Cancelled`](crate::net::Cancelled); `Interrupted` does not occur.
///
/// In a simulation it is a stream of the simulated network, with the same calls. That has no descriptor, so that
/// [`as_fd`](AsFd::as_fd) panics; options are remembered, of which `linger` does what it says when it is zero.
///
/// ```
/// use std::io::{Read, Write};
/// use weald_runtime::net::{TcpListener, TcpStream};
///
/// # fn main() -> std::io::Result<()> {
/// weald_runtime::run(|| {
///     let listener = TcpListener::bind("127.0.0.1:0")?;
///     let address = listener.local_addr()?;
///     let client = weald_runtime::spawn(move || {
///         let mut stream = TcpStream::connect(address)?;
///         stream.write_all(b"ping")?;
///         stream.shutdown(std::net::Shutdown::Write)?;
///         let mut answer = String::new();
///         stream.read_to_string(&mut answer)?;
///         std::io::Result::Ok(answer)
///     });
///     let (mut stream, _) = listener.accept()?;
///     let mut question = String::new();
///     stream.read_to_string(&mut question)?;
///     stream.write_all(question.replace('i', "o").as_bytes())?;
///     drop(stream);
///     assert_eq!(client.join().expect("it does not panic")?, "pong");
///     Ok(())
/// })
/// # }
/// ```
pub struct TcpStream {
    shared: Arc<Shared>,
}

/// What the handles to one connection share.
struct Shared {
    stream: Stream,
    read_timeout: Timeout,
    write_timeout: Timeout,
}

impl TcpStream {
    /// Connects to the first of the named addresses that accepts.
    ///
    /// A name is looked up by the system's resolver, on a thread of its own. In a simulation there are "localhost" and the names
    /// of its [nodes](crate::sim::node).
    ///
    /// # Errors
    /// The last address's: refused, unreachable, timed out by the system; the look-up's; cancelled.
    #[track_caller]
    pub fn connect(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
        TcpStream::connect_limited(address, Limit::Never)
    }

    /// Connects to one address, waiting at most for `timeout`.
    ///
    /// # Errors
    /// `TimedOut`, and as for [`connect`](Self::connect); `InvalidInput` for a timeout of zero.
    #[track_caller]
    pub fn connect_timeout(address: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        if timeout.is_zero() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a timeout of zero"));
        }
        TcpStream::connect_limited(address, Limit::After(timeout))
    }

    /// As [`connect`](Self::connect), until `deadline` for the look-up and all addresses together.
    ///
    /// # Errors
    /// `TimedOut`, and as for [`connect`](Self::connect).
    #[track_caller]
    pub fn connect_deadline(address: impl ToSocketAddrs, deadline: Instant) -> io::Result<TcpStream> {
        TcpStream::connect_limited(address, Limit::At(deadline))
    }

    #[track_caller]
    fn connect_limited(address: impl ToSocketAddrs, limit: Limit) -> io::Result<TcpStream> {
        let limit = limit.resolve();
        let addresses = resolve::resolve(address, limit)?;
        resolve::first_of(&addresses, |address| TcpStream::connect_one(address, limit))
    }

    #[track_caller]
    fn connect_one(address: SocketAddr, limit: Limit) -> io::Result<TcpStream> {
        let stream = TcpStream::new(Stream::connect(address)?);
        stream.blocking(Direction::Write, limit, Stream::finish_connect)?;
        Ok(stream)
    }

    pub(super) fn new(stream: Stream) -> TcpStream {
        let shared = Shared { stream, read_timeout: Timeout::default(), write_timeout: Timeout::default() };
        TcpStream { shared: Arc::new(shared) }
    }

    /// Takes over a connection of std's, and makes it non-blocking.
    ///
    /// # Errors
    /// The system refuses that.
    #[expect(clippy::disallowed_types, reason = "what comes out does not block the worker")]
    pub fn from_std(stream: std::net::TcpStream) -> io::Result<TcpStream> {
        SystemStream::from_std(stream).map(|system| TcpStream::new(Stream::System(system)))
    }

    /// The connection as one of std's, in blocking mode and without timeouts.
    ///
    /// # Errors
    /// `ResourceBusy` while there are other handles to it; `Unsupported` if it is simulated; the system refuses a descriptor.
    #[expect(clippy::disallowed_types, reason = "for code that runs elsewhere")]
    pub fn into_std(self) -> io::Result<std::net::TcpStream> {
        match Arc::try_unwrap(self.shared) {
            Ok(shared) => shared.stream.into_std(),
            Err(_) => Err(io::Error::new(io::ErrorKind::ResourceBusy, "other handles to the connection are left")),
        }
    }

    /// Another handle to the same connection, its timeouts included. A reference count, not a new descriptor.
    ///
    /// # Errors
    /// None; the result is std's.
    pub fn try_clone(&self) -> io::Result<TcpStream> {
        Ok(TcpStream { shared: Arc::clone(&self.shared) })
    }

    /// The peer's address.
    ///
    /// # Errors
    /// The connection has failed.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.shared.stream.peer_address()
    }

    /// The connection's own address.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.shared.stream.local_address()
    }

    /// Ends one direction or both, for all handles. Reads that wait then find the end of the stream.
    ///
    /// # Errors
    /// The connection has failed or ended.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.shared.stream.shutdown(how)
    }

    /// Limits how long reads (and peeks) wait; `None`, as from the start, is without end.
    ///
    /// # Errors
    /// `InvalidInput` for zero; the `try_` calls do not wait.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.shared.read_timeout.set(timeout)
    }

    /// Limits how long writes wait; `None`, as from the start, is without end.
    ///
    /// # Errors
    /// `InvalidInput` for zero; the `try_` calls do not wait.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.shared.write_timeout.set(timeout)
    }

    /// What [`set_read_timeout`](Self::set_read_timeout) set.
    ///
    /// # Errors
    /// None; the result is std's.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.shared.read_timeout.get())
    }

    /// What [`set_write_timeout`](Self::set_write_timeout) set.
    ///
    /// # Errors
    /// None; the result is std's.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.shared.write_timeout.get())
    }

    /// Reads what has arrived without consuming it, waiting for the first byte.
    ///
    /// # Errors
    /// `TimedOut` after the read timeout; the connection failed; cancelled.
    #[track_caller]
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.blocking(Direction::Read, self.shared.read_timeout.limit(), |stream| stream.peek(buffer))
    }

    /// As `read`, waiting until `deadline` whatever the read timeout is.
    ///
    /// # Errors
    /// `TimedOut` at the deadline; the connection failed; cancelled.
    #[track_caller]
    pub fn read_deadline(&self, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
        self.blocking(Direction::Read, Limit::At(deadline), |stream| stream.read(buffer))
    }

    /// As `write`, waiting until `deadline` whatever the write timeout is.
    ///
    /// # Errors
    /// `TimedOut` at the deadline; the connection failed; cancelled.
    #[track_caller]
    pub fn write_deadline(&self, bytes: &[u8], deadline: Instant) -> io::Result<usize> {
        self.blocking(Direction::Write, Limit::At(deadline), |stream| stream.write(bytes))
    }

    /// As `read`, but fails with `WouldBlock` where that would wait.
    ///
    /// # Errors
    /// Nothing has arrived, or the connection failed.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.shared.stream.read(buffer)
    }

    /// As `write`, but fails with `WouldBlock` where that would wait.
    ///
    /// # Errors
    /// There is no room, or the connection failed.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.shared.stream.write(bytes)
    }

    /// As [`try_read`](Self::try_read), to be selected, see [`select!`](crate::select!). If another arm is chosen, nothing was
    /// read. The read timeout plays no part.
    ///
    /// ```
    /// use std::io::{Result, Write};
    /// use weald_runtime::{channel::Receiver, net::TcpStream, select};
    ///
    /// /// Passes on what is to be sent, and counts what comes, until either ends.
    /// fn attend(stream: &mut TcpStream, outgoing: &Receiver<Vec<u8>>) -> Result<usize> {
    ///     let (mut count, mut buffer) = (0, [0; 4096]);
    ///     loop {
    ///         select! {
    ///             wait(stream.reading(&mut buffer)) -> read => match read? {
    ///                 0 => return Ok(count),
    ///                 len => count += len,
    ///             },
    ///             recv(outgoing) -> message => match message {
    ///                 Ok(bytes) => stream.write_all(&bytes)?,
    ///                 Err(_) => return Ok(count),
    ///             },
    ///         }
    ///     }
    /// }
    /// # weald_runtime::run(|| {
    /// #     let listener = weald_runtime::net::TcpListener::bind("127.0.0.1:0").unwrap();
    /// #     let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    /// #     let (mut far, _) = listener.accept().unwrap();
    /// #     let (_sender, receiver) = weald_runtime::channel::unbounded();
    /// #     near.write_all(b"abc").unwrap();
    /// #     drop(near);
    /// #     assert_eq!(attend(&mut far, &receiver).unwrap(), 3);
    /// # });
    /// ```
    pub fn reading<'a>(&'a self, buffer: &'a mut [u8]) -> impl Selectable<Output = io::Result<usize>> + 'a {
        Operation::new(&self.shared.stream, Direction::Read, || self.try_read(buffer))
    }

    /// To be selected: that there is something to read, or that the stream has ended or failed. It is left there; a read does not wait
    /// unless another handle is faster.
    ///
    /// It is for readers that have a buffer of their own and may wait with something in it, such as a
    /// [`BufReader`](std::io::BufReader): that is asked first whether its buffer is empty.
    #[must_use]
    pub fn readable(&self) -> impl Selectable<Output = io::Result<()>> {
        Operation::new(&self.shared.stream, Direction::Read, || self.shared.stream.peek(&mut [0]).map(drop))
    }

    /// As [`try_write`](Self::try_write), to be selected, see [`select!`](crate::select!). If another arm is chosen, nothing was
    /// written. The write timeout plays no part.
    #[must_use]
    pub fn writing<'a>(&'a self, bytes: &'a [u8]) -> impl Selectable<Output = io::Result<usize>> + 'a {
        Operation::new(&self.shared.stream, Direction::Write, || self.try_write(bytes))
    }

    /// Whether small writes are sent at once (`TCP_NODELAY`). Off by default.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.shared.stream.set_nodelay(nodelay)
    }

    /// What [`set_nodelay`](Self::set_nodelay) set.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.shared.stream.nodelay()
    }

    /// How long the system goes on sending after the close (`SO_LINGER`); zero resets the connection. `None`, the default, is as
    /// long as it takes. The close itself never blocks for it, except on a descriptor taken out by [`into_std`](Self::into_std).
    ///
    /// # Errors
    /// The system refuses it.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.shared.stream.set_linger(linger)
    }

    /// What [`set_linger`](Self::set_linger) set, in whole seconds.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        self.shared.stream.linger()
    }

    /// The time to live of sent packets, in hops.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.shared.stream.set_ttl(ttl)
    }

    /// What [`set_ttl`](Self::set_ttl) set.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn ttl(&self) -> io::Result<u32> {
        self.shared.stream.ttl()
    }

    /// Takes the error that the system keeps for the next call (`SO_ERROR`).
    ///
    /// # Errors
    /// The system does not tell.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.shared.stream.take_error()
    }

    #[track_caller]
    fn blocking<T>(&self, direction: Direction, limit: Limit, mut operation: impl FnMut(&Stream) -> io::Result<T>) -> io::Result<T> {
        let stream = &self.shared.stream;
        blocking(limit, || operation(stream), stream, direction)
    }
}

impl Read for &TcpStream {
    #[track_caller]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.blocking(Direction::Read, self.shared.read_timeout.limit(), |stream| stream.read(buffer))
    }

    #[track_caller]
    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.blocking(Direction::Read, self.shared.read_timeout.limit(), |stream| stream.read_vectored(buffers))
    }
}

impl Write for &TcpStream {
    #[track_caller]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.blocking(Direction::Write, self.shared.write_timeout.limit(), |stream| stream.write(bytes))
    }

    #[track_caller]
    fn write_vectored(&mut self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        self.blocking(Direction::Write, self.shared.write_timeout.limit(), |stream| stream.write_vectored(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for TcpStream {
    #[track_caller]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    #[track_caller]
    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }
}

impl Write for TcpStream {
    #[track_caller]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    #[track_caller]
    fn write_vectored(&mut self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for TcpStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.stream.as_fd()
    }
}

impl AsRawFd for TcpStream {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("TcpStream");
        if let Ok(local) = self.local_addr() {
            debug.field("local", &local);
        }
        if let Ok(peer) = self.peer_addr() {
            debug.field("peer", &peer);
        }
        debug.finish_non_exhaustive()
    }
}
