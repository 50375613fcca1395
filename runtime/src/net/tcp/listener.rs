//! A socket that accepts TCP connections.
//!
//! Owns the waiting for connections, and what happens when descriptors run out.

use std::fmt;
use std::io;
use std::iter::FusedIterator;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use super::socket::Listener;
use super::stream::TcpStream;
use super::system::SystemListener;
use crate::net::resolve::{self, ToSocketAddrs};
use crate::net::{Operation, blocking};
use crate::reactor::Direction;
use crate::select::Selectable;
use crate::spawn::try_sleep_until;
use crate::sys::socket;
use crate::time::Instant;
use crate::wait_list::Limit;

/// How long an accept waits before it says that descriptors have run out: the connection stays in the queue, so a loop that
/// accepts again would find the same at once.
const EXHAUSTION_PAUSE: Duration = Duration::from_millis(10);

/// A socket that listens for TCP connections, as `std::net::TcpListener`; its blocking calls park the coroutine (or plain
/// thread) that makes them. Several may accept at once.
///
/// Like std it binds with `SO_REUSEADDR`. Up to 4096 connections wait to be accepted, or as many as the system permits
/// (`net.core.somaxconn`); for other wishes make a listener with the `socket2` crate and [`from_std`](Self::from_std).
///
/// In a simulation it listens on the simulated network; that has no descriptor, so that [`as_fd`](AsFd::as_fd) panics.
///
/// ```
/// use std::io::{Read, Write};
/// use weald_runtime::net::TcpListener;
///
/// fn serve(listener: &TcpListener) -> std::io::Result<()> {
///     loop {
///         let (mut stream, _) = listener.accept()?;
///         weald_runtime::spawn(move || {
///             let mut buffer = [0; 4096];
///             while let Ok(len @ 1..) = stream.read(&mut buffer) {
///                 if stream.write_all(&buffer[..len]).is_err() {
///                     break;
///                 }
///             }
///         });
///     }
/// }
/// # let _ = serve;
/// ```
pub struct TcpListener {
    shared: Arc<Listener>,
}

impl TcpListener {
    /// Listens on the first of the named addresses that can be bound; port 0 lets the system choose.
    ///
    /// # Errors
    /// The last address's: in use, not of this host, a port that needs privilege.
    #[track_caller]
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<TcpListener> {
        let addresses = resolve::resolve(address, Limit::Never)?;
        resolve::first_of(&addresses, |address| match Listener::bind(address) {
            Ok(listener) => Ok(TcpListener { shared: Arc::new(listener) }),
            Err(error) => Err(io::Error::new(error.kind(), format!("cannot listen on TCP {address}: {error}"))),
        })
    }

    /// Takes over a listener of std's, and makes it non-blocking.
    ///
    /// # Errors
    /// The system refuses that.
    #[expect(clippy::disallowed_types, reason = "what comes out does not block the worker")]
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<TcpListener> {
        Ok(TcpListener { shared: Arc::new(Listener::System(SystemListener::from_std(listener)?)) })
    }

    /// The listener as one of std's, in blocking mode.
    ///
    /// # Errors
    /// `ResourceBusy` while there are other handles to it; `Unsupported` if it is simulated; the system refuses a descriptor.
    #[expect(clippy::disallowed_types, reason = "for code that runs elsewhere")]
    pub fn into_std(self) -> io::Result<std::net::TcpListener> {
        match Arc::try_unwrap(self.shared) {
            Ok(listener) => listener.into_std(),
            Err(_) => Err(io::Error::new(io::ErrorKind::ResourceBusy, "other handles to the listener are left")),
        }
    }

    /// Another handle to the same socket. A reference count, not a new descriptor.
    ///
    /// # Errors
    /// None; the result is std's.
    pub fn try_clone(&self) -> io::Result<TcpListener> {
        Ok(TcpListener { shared: Arc::clone(&self.shared) })
    }

    /// Accepts a connection, waiting for one.
    ///
    /// Connections that ended before they were accepted are passed over.
    ///
    /// # Errors
    /// Cancelled. When descriptors (`EMFILE`, `ENFILE`) or memory have run out, the system's error, after a pause of 10 ms, or of what is
    /// left until the deadline: the connection goes on waiting in the queue, and a loop that logs the error and accepts again neither spins nor loses it.
    #[track_caller]
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.accept_limited(Limit::Never)
    }

    /// As [`accept`](Self::accept), waiting at most for `timeout`.
    ///
    /// # Errors
    /// `TimedOut`, and as for `accept`.
    #[track_caller]
    pub fn accept_timeout(&self, timeout: Duration) -> io::Result<(TcpStream, SocketAddr)> {
        self.accept_limited(Limit::After(timeout))
    }

    /// As [`accept`](Self::accept), waiting until `deadline`.
    ///
    /// # Errors
    /// `TimedOut`, and as for `accept`.
    #[track_caller]
    pub fn accept_deadline(&self, deadline: Instant) -> io::Result<(TcpStream, SocketAddr)> {
        self.accept_limited(Limit::At(deadline))
    }

    /// As [`accept`](Self::accept), but fails with `WouldBlock` where that would wait, and does not pause.
    ///
    /// # Errors
    /// No connection waits, or descriptors or memory have run out.
    pub fn try_accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.shared.accept().map(|(stream, remote)| (TcpStream::new(stream), remote))
    }

    /// As [`try_accept`](Self::try_accept), to be selected, see [`select!`](crate::select!). If another arm is chosen, nothing was
    /// accepted.
    ///
    /// Unlike [`accept`](Self::accept) it does not pause when descriptors have run out.
    ///
    /// ```
    /// use weald_runtime::{CancellationToken, net::{TcpListener, TcpStream}, select, spawn};
    ///
    /// fn serve(listener: &TcpListener, stop: &CancellationToken) -> std::io::Result<usize> {
    ///     let mut served = 0;
    ///     loop {
    ///         select! {
    ///             wait(listener.accepting()) -> accepted => drop(accepted?),
    ///             wait(stop) -> _ => return Ok(served),
    ///         }
    ///         served += 1;
    ///         # stop.cancel();
    ///     }
    /// }
    ///
    /// # fn main() -> std::io::Result<()> {
    /// weald_runtime::run(|| {
    ///     let listener = TcpListener::bind("127.0.0.1:0")?;
    ///     TcpStream::connect(listener.local_addr()?)?;
    ///     let stop = CancellationToken::new();
    ///     assert_eq!(serve(&listener, &stop)?, 1);
    ///     Ok(())
    /// })
    /// # }
    /// ```
    #[must_use]
    pub fn accepting(&self) -> impl Selectable<Output = io::Result<(TcpStream, SocketAddr)>> {
        Operation::new(&*self.shared, Direction::Read, || self.try_accept())
    }

    #[track_caller]
    fn accept_limited(&self, limit: Limit) -> io::Result<(TcpStream, SocketAddr)> {
        let limit = limit.resolve();
        let accepted = blocking(limit, || self.try_accept(), &*self.shared, Direction::Read);
        if let Err(error) = &accepted
            && socket::is_exhausted(error)
        {
            let end = Instant::now() + EXHAUSTION_PAUSE;
            try_sleep_until(limit.deadline().map_or(end, |deadline| deadline.min(end)))?;
        }
        accepted
    }

    /// Accepts without end: an iterator over the results of [`accept`](Self::accept) without the addresses.
    ///
    /// As with std it never returns `None`; leave the loop when an error says that the caller was cancelled.
    #[must_use]
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// The address that it is bound to.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.shared.local_address()
    }

    /// The time to live of packets of the connections, in hops.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.shared.set_ttl(ttl)
    }

    /// What [`set_ttl`](Self::set_ttl) set.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn ttl(&self) -> io::Result<u32> {
        self.shared.ttl()
    }

    /// Takes the error that the system keeps for the next call (`SO_ERROR`).
    ///
    /// # Errors
    /// The system does not tell.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.shared.take_error()
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.as_fd()
    }
}

impl AsRawFd for TcpListener {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("TcpListener");
        if let Ok(local) = self.local_addr() {
            debug.field("local", &local);
        }
        debug.finish_non_exhaustive()
    }
}

/// Accepts without end; see [`TcpListener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    #[track_caller]
    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

impl FusedIterator for Incoming<'_> {}
