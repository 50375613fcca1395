//! Streams and listeners as programs hold them.
//!
//! Owns what each call does at once, and what dropping a handle means. Does not own who waits: a call is tried inside of
//! [`Source::try_io`], and its source is marked when another try may give more.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};

use super::end::{End, Phase};
use super::segment::Content;
use super::{EndId, ListenerId, Listening};
use crate::primitive::Arc;
use crate::reactor::{Direction, Source};
use crate::sim::network::Network;
use crate::sim::network::address::normal;
use crate::sim::node;
use crate::time::Instant;

impl Network {
    /// Listens for connections, of which at most `backlog` wait to be accepted.
    ///
    /// # Errors
    /// `AddrInUse`; `AddrNotAvailable` if the address is not the node's.
    pub(crate) fn listen(&self, address: SocketAddr, backlog: usize) -> io::Result<SimulatedListener> {
        let host = node::current_host()?;
        let mut local = normal(address);
        let mut state = self.lock();
        state.hosts.check_local(host, local.ip())?;
        if local.port() == 0 {
            local.set_port(state.ephemeral_port(|state, port| state.streams.has_port(host, port))?);
        } else if state.streams.listener_conflicts(host, local) {
            return Err(io::Error::new(ErrorKind::AddrInUse, "address already in use"));
        }
        let id = ListenerId(state.streams.next_id());
        let source = Arc::new(Source::new(id.0));
        let (opened, backlog) = (VecDeque::new(), backlog.max(1));
        let listening = Listening { host, local, backlog, opening: 0, opened, source: Arc::clone(&source) };
        state.streams.listeners.insert(id, listening);
        drop(state);
        Ok(SimulatedListener { network: self.clone(), id, local, source })
    }

    /// Begins to connect, from an address of the host's own if one is given. The stream becomes writable when
    /// [`finish_connect`](SimulatedStream::finish_connect) has something to say.
    ///
    /// # Errors
    /// There is no way to `remote`, or no port to start from.
    pub(crate) fn connect(&self, local: Option<IpAddr>, remote: SocketAddr) -> io::Result<SimulatedStream> {
        let host = node::current_host()?;
        let mut remote = normal(remote);
        if remote.port() == 0 {
            return Err(io::Error::new(ErrorKind::InvalidInput, "nobody listens on port 0"));
        }
        let (any, loopback): (IpAddr, IpAddr) = match remote {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::LOCALHOST.into()),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into()),
        };
        if remote.ip().is_unspecified() {
            remote.set_ip(loopback);
        }
        let asked = local.map_or(any, |ip| ip.to_canonical());
        if asked.is_ipv4() != remote.is_ipv4() {
            return Err(io::Error::new(ErrorKind::InvalidInput, format!("{remote} cannot be reached from {asked}")));
        }
        let mut state = self.lock();
        state.hosts.check_local(host, asked)?;
        let ip = state.hosts.source(host, asked, None, remote.ip())?;
        let port = state.ephemeral_port(|state, port| state.streams.has_port(host, port))?;
        let local = SocketAddr::new(ip, port);
        let epoch = state.nats.epoch(ip);
        let id = state.streams.add(End::new(host, local, remote, epoch, Phase::Connecting, None));
        let source = Arc::clone(&state.streams.ends[&id].source);
        state.say(Instant::now(), id, Content::Open);
        drop(state);
        Ok(SimulatedStream { network: self.clone(), id, local, remote, source })
    }
}

/// A listening socket of a simulated network. Dropping it resets the connections that nobody has accepted.
pub(crate) struct SimulatedListener {
    network: Network,
    id: ListenerId,
    local: SocketAddr,
    source: Arc<Source>,
}

impl SimulatedListener {
    pub(crate) fn local_address(&self) -> SocketAddr {
        self.local
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Takes the connection that has waited longest, and who made it.
    ///
    /// # Errors
    /// `WouldBlock` if there is none.
    pub(crate) fn try_accept(&self) -> io::Result<(SimulatedStream, SocketAddr)> {
        let mut state = self.network.lock();
        let streams = &mut state.streams;
        let listening = streams.listeners.get_mut(&self.id).ok_or_else(crashed)?;
        let id = listening.opened.pop_front().ok_or(ErrorKind::WouldBlock)?;
        let end = streams.ends.get_mut(&id).ok_or(ErrorKind::WouldBlock)?;
        end.held = true;
        let (local, remote, source) = (end.local, end.remote, Arc::clone(&end.source));
        drop(state);
        Ok((SimulatedStream { network: self.network.clone(), id, local, remote, source }, remote))
    }
}

impl Drop for SimulatedListener {
    fn drop(&mut self) {
        let mut state = self.network.lock();
        let Some(listening) = state.streams.listeners.remove(&self.id) else { return };
        let mut left: Vec<EndId> = listening.opened.into();
        left.extend(state.streams.ends.iter().filter(|(_, end)| end.phase == Phase::Answered(self.id)).map(|(&id, _)| id));
        for id in left {
            state.say(Instant::now(), id, Content::Reset);
            state.streams.remove(id);
        }
    }
}

/// A stream of a simulated network, as one end holds it. Dropping it closes it: in order if everything that has arrived was
/// read, by a reset otherwise.
pub(crate) struct SimulatedStream {
    network: Network,
    id: EndId,
    local: SocketAddr,
    remote: SocketAddr,
    source: Arc<Source>,
}

impl SimulatedStream {
    pub(crate) fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// The other end's address, as this end sees it.
    pub(crate) fn peer_address(&self) -> SocketAddr {
        self.remote
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Says how connecting went.
    ///
    /// # Errors
    /// `WouldBlock` while it goes on; `ConnectionRefused`; `TimedOut`.
    pub(crate) fn finish_connect(&self) -> io::Result<()> {
        let mut state = self.network.lock();
        let end = state.streams.ends.get_mut(&self.id).ok_or_else(crashed)?;
        match end.phase {
            Phase::Connecting => Err(ErrorKind::WouldBlock.into()),
            _ => end.error.take().map_or(Ok(()), |error| Err(error.into())),
        }
    }

    /// What has gone wrong since the last call of any kind that told.
    pub(crate) fn take_error(&self) -> Option<io::Error> {
        let mut state = self.network.lock();
        state.streams.ends.get_mut(&self.id)?.error.take().map(io::Error::from)
    }

    /// Takes what has arrived, as far as it fits. Zero bytes are the end.
    ///
    /// # Errors
    /// `WouldBlock`; `ConnectionReset` or `TimedOut`, once.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.network.lock();
        let end = state.streams.ends.get_mut(&self.id).ok_or_else(crashed)?;
        let len = end.read(buffer)?;
        state.tell_read(Instant::now(), self.id);
        Ok(len)
    }

    /// As [`try_read`](Self::try_read), but what has arrived stays.
    ///
    /// # Errors
    /// As for `try_read`.
    pub(crate) fn try_peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.network.lock();
        state.streams.ends.get_mut(&self.id).ok_or_else(crashed)?.peek(buffer)
    }

    /// Sends as much as the other end's window has room for.
    ///
    /// # Errors
    /// `WouldBlock`; `ConnectionReset` or `TimedOut`, once; `BrokenPipe` afterwards, and after the closing of this direction.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.network.lock();
        let end = state.streams.ends.get_mut(&self.id).ok_or_else(crashed)?;
        let len = end.writable(bytes.len())?;
        let (from, to) = (end.local.ip(), end.remote.ip());
        let longest = state.segment_size(from, to);
        for bytes in bytes[..len].chunks(longest) {
            let Some(end) = state.streams.ends.get_mut(&self.id) else { break };
            let first = end.next;
            end.next += bytes.len() as u64;
            state.say(Instant::now(), self.id, Content::Data(first, bytes.to_vec()));
        }
        Ok(len)
    }

    /// Closes one direction or both. What arrives in a closed direction is thrown away.
    ///
    /// # Errors
    /// `NotConnected`.
    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let mut state = self.network.lock();
        let end = state.streams.ends.get_mut(&self.id).ok_or_else(crashed)?;
        if end.phase != Phase::Open {
            return Err(ErrorKind::NotConnected.into());
        }
        if how != Shutdown::Write {
            end.close_read();
        }
        if how != Shutdown::Read && !end.write_closed {
            end.write_closed = true;
            let sent = end.next;
            state.say(Instant::now(), self.id, Content::End(sent));
        }
        state.tell_read(Instant::now(), self.id);
        drop(state);
        // Those who wait for it learn that it is closed.
        if how != Shutdown::Write {
            self.source.set_ended(Direction::Read);
        }
        if how != Shutdown::Read {
            self.source.set_ended(Direction::Write);
        }
        Ok(())
    }

    /// Ends the stream at once, without what is under way.
    pub(crate) fn reset(&self) {
        let mut state = self.network.lock();
        state.say(Instant::now(), self.id, Content::Reset);
        state.streams.remove(self.id);
    }
}

impl Drop for SimulatedStream {
    fn drop(&mut self) {
        let mut state = self.network.lock();
        let Some(end) = state.streams.ends.get_mut(&self.id) else { return };
        end.held = false;
        let last = (!end.write_closed).then_some(end.next);
        end.write_closed = true;
        match end.phase {
            Phase::Open if !end.received.is_empty() => {
                state.say(Instant::now(), self.id, Content::Reset);
                state.streams.remove(self.id);
            }
            Phase::Open => {
                let ended = end.ended;
                if let Some(sent) = last {
                    state.say(Instant::now(), self.id, Content::End(sent));
                }
                if ended {
                    state.streams.remove(self.id);
                }
            }
            Phase::Connecting | Phase::Answered(_) | Phase::Dead => state.streams.remove(self.id),
        }
    }
}

fn crashed() -> io::Error {
    io::Error::new(ErrorKind::ConnectionAborted, "the stream's node has crashed")
}
