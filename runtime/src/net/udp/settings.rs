//! The settings of a UDP socket, in std's words.
//!
//! Owns what the calls mean; the timeouts are kept by the socket, the rest by the kernel. A simulated network has neither broadcast nor
//! multicast nor hops, and says so.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use socket2::SockRef;

use super::{Inner, UdpSocket};

impl UdpSocket {
    /// Limits how long the blocking receives wait; `None`, as from the start, is without end.
    ///
    /// # Errors
    /// `InvalidInput` for zero; the `try_` calls do not wait.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.read_timeout.set(timeout)
    }

    /// Limits how long the blocking sends wait; `None`, as from the start, is without end.
    ///
    /// # Errors
    /// `InvalidInput` for zero; the `try_` calls do not wait.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.write_timeout.set(timeout)
    }

    /// What [`set_read_timeout`](Self::set_read_timeout) set.
    ///
    /// # Errors
    /// None; the result is std's.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.read_timeout.get())
    }

    /// What [`set_write_timeout`](Self::set_write_timeout) set.
    ///
    /// # Errors
    /// None; the result is std's.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.write_timeout.get())
    }

    /// The time to live of datagrams sent over IPv4, in hops.
    ///
    /// # Errors
    /// The system refuses it; `Unsupported` in a simulation.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.system()?.set_ttl_v4(ttl)
    }

    /// What [`set_ttl`](Self::set_ttl) set.
    ///
    /// # Errors
    /// The system refuses it; `Unsupported` in a simulation.
    pub fn ttl(&self) -> io::Result<u32> {
        self.system()?.ttl_v4()
    }

    /// Whether datagrams may be sent to a broadcast address. Off by default.
    ///
    /// # Errors
    /// The system refuses it; `Unsupported` in a simulation.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        self.system()?.set_broadcast(broadcast)
    }

    /// What [`set_broadcast`](Self::set_broadcast) set.
    ///
    /// # Errors
    /// The system refuses it; `Unsupported` in a simulation.
    pub fn broadcast(&self) -> io::Result<bool> {
        self.system()?.broadcast()
    }

    /// Whether IPv4 multicast datagrams come back to sockets of this host. On by default.
    ///
    /// # Errors
    /// The system refuses it; `Unsupported` in a simulation.
    pub fn set_multicast_loop_v4(&self, multicast_loop: bool) -> io::Result<()> {
        self.system()?.set_multicast_loop_v4(multicast_loop)
    }

    /// What [`set_multicast_loop_v4`](Self::set_multicast_loop_v4) set.
    ///
    /// # Errors
    /// The system refuses it; `Unsupported` in a simulation.
    pub fn multicast_loop_v4(&self) -> io::Result<bool> {
        self.system()?.multicast_loop_v4()
    }

    /// The time to live of IPv4 multicast datagrams, in hops. One by default, which keeps them in the local network.
    ///
    /// # Errors
    /// The system refuses it; `Unsupported` in a simulation.
    pub fn set_multicast_ttl_v4(&self, ttl: u32) -> io::Result<()> {
        self.system()?.set_multicast_ttl_v4(ttl)
    }

    /// What [`set_multicast_ttl_v4`](Self::set_multicast_ttl_v4) set.
    ///
    /// # Errors
    /// The system refuses it; `Unsupported` in a simulation.
    pub fn multicast_ttl_v4(&self) -> io::Result<u32> {
        self.system()?.multicast_ttl_v4()
    }

    /// Whether IPv6 multicast datagrams come back to sockets of this host. On by default.
    ///
    /// # Errors
    /// The system refuses it; `Unsupported` in a simulation.
    pub fn set_multicast_loop_v6(&self, multicast_loop: bool) -> io::Result<()> {
        self.system()?.set_multicast_loop_v6(multicast_loop)
    }

    /// What [`set_multicast_loop_v6`](Self::set_multicast_loop_v6) set.
    ///
    /// # Errors
    /// The system refuses it; `Unsupported` in a simulation.
    pub fn multicast_loop_v6(&self) -> io::Result<bool> {
        self.system()?.multicast_loop_v6()
    }

    /// Joins an IPv4 multicast group on the interface with this address; unspecified, the system chooses one.
    ///
    /// # Errors
    /// The system refuses it; `Unsupported` in a simulation.
    pub fn join_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.system()?.join_multicast_v4(group, interface)
    }

    /// Joins an IPv6 multicast group on the interface with this index; zero, the system chooses one.
    ///
    /// # Errors
    /// The system refuses it; `Unsupported` in a simulation.
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.system()?.join_multicast_v6(group, interface)
    }

    /// Leaves an IPv4 multicast group on the interface with this address; unspecified, the system chooses one.
    ///
    /// # Errors
    /// The system refuses it; `Unsupported` in a simulation.
    pub fn leave_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.system()?.leave_multicast_v4(group, interface)
    }

    /// Leaves an IPv6 multicast group on the interface with this index; zero, the system chooses one.
    ///
    /// # Errors
    /// The system refuses it; `Unsupported` in a simulation.
    pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.system()?.leave_multicast_v6(group, interface)
    }

    /// Takes the error that the system keeps for the next call (`SO_ERROR`).
    ///
    /// # Errors
    /// The system does not tell.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        match &self.inner {
            Inner::System(socket) => SockRef::from(&socket.descriptor).take_error(),
            Inner::Simulated(_) => Ok(None),
        }
    }

    fn system(&self) -> io::Result<SockRef<'_>> {
        match &self.inner {
            Inner::System(socket) => Ok(SockRef::from(&socket.descriptor)),
            Inner::Simulated(_) => {
                Err(io::Error::new(io::ErrorKind::Unsupported, "the simulated network has neither broadcast nor multicast nor hops"))
            }
        }
    }
}
