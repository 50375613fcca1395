//! Sockets: making UDP ones, their options, sending or receiving one datagram; accepting connections; what errors mean.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use super::address::RawAddress;
use super::{check, check_len, direct};

/// An option of a socket that takes one integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketOption {
    ReusePort,
    ReceiveBuffer,
    /// The same past the system's limit, for privileged processes.
    ReceiveBufferForce,
    SendBuffer,
    SendBufferForce,
    OnlyV6,
    /// Local address of each datagram received, for IPv4 sockets.
    PacketInfoV4,
    /// The same for IPv6 sockets, which report IPv4 peers by mapped addresses.
    PacketInfoV6,
    /// Traffic class of each IPv4 datagram received; on an IPv6 socket, of those from IPv4 peers.
    ReceiveTos,
    ReceiveTrafficClass,
    /// Segments of one flow are received together, with their size.
    Gro,
    MtuDiscoverV4,
    MtuDiscoverV6,
    /// Sends without checksums, for which no kernel segments.
    #[cfg(test)]
    NoChecksum,
}

/// For [`SocketOption::MtuDiscoverV4`] and V6: always set DF, and believe no ICMP message about it.
pub(crate) const MTU_DISCOVER_PROBE: i32 = libc::IP_PMTUDISC_PROBE;

impl SocketOption {
    fn name(self) -> (libc::c_int, libc::c_int) {
        match self {
            SocketOption::ReusePort => (libc::SOL_SOCKET, libc::SO_REUSEPORT),
            SocketOption::ReceiveBuffer => (libc::SOL_SOCKET, libc::SO_RCVBUF),
            SocketOption::ReceiveBufferForce => (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE),
            SocketOption::SendBuffer => (libc::SOL_SOCKET, libc::SO_SNDBUF),
            SocketOption::SendBufferForce => (libc::SOL_SOCKET, libc::SO_SNDBUFFORCE),
            SocketOption::OnlyV6 => (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
            SocketOption::PacketInfoV4 => (libc::IPPROTO_IP, libc::IP_PKTINFO),
            SocketOption::PacketInfoV6 => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
            SocketOption::ReceiveTos => (libc::IPPROTO_IP, libc::IP_RECVTOS),
            SocketOption::ReceiveTrafficClass => (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS),
            SocketOption::Gro => (libc::SOL_UDP, libc::UDP_GRO),
            SocketOption::MtuDiscoverV4 => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
            SocketOption::MtuDiscoverV6 => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
            #[cfg(test)]
            SocketOption::NoChecksum => (libc::SOL_SOCKET, libc::SO_NO_CHECK),
        }
    }
}

/// A non-blocking UDP socket that is not bound yet.
pub(crate) fn open(ipv6: bool) -> io::Result<OwnedFd> {
    let family = if ipv6 { libc::AF_INET6 } else { libc::AF_INET };
    let kind = libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers; the returned descriptor is new and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(check(libc::socket(family, kind, libc::IPPROTO_UDP))?) })
}

pub(crate) fn bind(socket: impl AsFd, address: SocketAddr) -> io::Result<()> {
    let (raw, len) = RawAddress::encode(address, address.is_ipv6());
    // SAFETY: the kernel reads `len` bytes of `raw`, which is at least as long.
    check(unsafe { libc::bind(socket.as_fd().as_raw_fd(), raw.as_ptr(), len) })?;
    Ok(())
}

pub(crate) fn local_address(socket: impl AsFd) -> io::Result<SocketAddr> {
    let mut raw = RawAddress::default();
    let mut len = RawAddress::capacity();
    // SAFETY: the kernel writes at most `len` bytes to `raw`, which is that long, and the length back.
    check(unsafe { libc::getsockname(socket.as_fd().as_raw_fd(), raw.as_mut_ptr(), &raw mut len) })?;
    raw.decode().ok_or_else(|| io::Error::other("the socket's address is of no IP family"))
}

pub(crate) fn set_option(socket: impl AsFd, option: SocketOption, value: i32) -> io::Result<()> {
    let (level, name) = option.name();
    let len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes of `value`.
    let returned = unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, (&raw const value).cast(), len) };
    check(returned)?;
    Ok(())
}

pub(crate) fn option(socket: impl AsFd, option: SocketOption) -> io::Result<i32> {
    let (level, name) = option.name();
    let mut value = 0i32;
    let mut len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `value`, and the length back.
    let returned = unsafe { libc::getsockopt(socket.as_fd().as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len) };
    check(returned)?;
    Ok(value)
}

/// Sends one datagram.
pub(crate) fn send_to(socket: impl AsFd, bytes: &[u8], remote: SocketAddr, ipv6_socket: bool) -> io::Result<usize> {
    let (raw, len) = RawAddress::encode(remote, ipv6_socket);
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel reads `bytes.len()` bytes of `bytes` and `len` of `raw` during the call.
    check_len(unsafe {
        direct!(SYS_sendto as sendto, descriptor, bytes.as_ptr().cast::<libc::c_void>(), bytes.len(), flags, raw.as_ptr(), len)
    })
}

/// Sends one datagram to whom the socket is connected to.
pub(crate) fn send(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let (descriptor, nobody) = (socket.as_fd().as_raw_fd(), ptr::null::<libc::sockaddr>());
    // SAFETY: the kernel reads `bytes.len()` bytes of `bytes` during the call.
    check_len(unsafe {
        direct!(SYS_sendto as sendto, descriptor, bytes.as_ptr().cast::<libc::c_void>(), bytes.len(), flags, nobody, 0 as libc::socklen_t)
    })
}

/// Connects a UDP socket, which sends nothing.
pub(crate) fn connect(socket: impl AsFd, remote: SocketAddr, ipv6_socket: bool) -> io::Result<()> {
    let (raw, len) = RawAddress::encode(remote, ipv6_socket);
    // SAFETY: the kernel reads `len` bytes of `raw`, which is at least as long.
    check(unsafe { libc::connect(socket.as_fd().as_raw_fd(), raw.as_ptr(), len) })?;
    Ok(())
}

/// What becomes of a datagram that is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receive {
    Take,
    /// It stays, to be received again.
    Peek,
}

/// Receives one datagram; what does not fit is cut off, as everywhere with UDP.
pub(crate) fn receive_from(socket: impl AsFd, bytes: &mut [u8], receive: Receive) -> io::Result<(usize, SocketAddr)> {
    let flags = match receive {
        Receive::Take => libc::MSG_DONTWAIT,
        Receive::Peek => libc::MSG_DONTWAIT | libc::MSG_PEEK,
    };
    let mut raw = RawAddress::default();
    let mut raw_len = RawAddress::capacity();
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel writes at most `bytes.len()` bytes to `bytes`, `raw_len` to `raw`, and that length back.
    let returned = unsafe {
        direct!(
            SYS_recvfrom as recvfrom,
            descriptor,
            bytes.as_mut_ptr().cast::<libc::c_void>(),
            bytes.len(),
            flags,
            raw.as_mut_ptr(),
            &raw mut raw_len
        )
    };
    let len = check_len(returned)?;
    let remote = raw.decode().ok_or_else(|| io::Error::other("a datagram from an address of no IP family"))?;
    Ok((len, remote))
}

/// Whether a datagram was refused because it is longer than the interface takes.
pub(crate) fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMSGSIZE)
}

/// Whether an error is news about an earlier datagram (an ICMP message), not about the present call. On a socket that
/// serves many peers it concerns one of them, and anybody can forge it.
pub(crate) fn is_about_earlier_datagram(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNREFUSED
                | libc::ECONNRESET
                | libc::EHOSTUNREACH
                | libc::EHOSTDOWN
                | libc::ENETUNREACH
                | libc::EPROTO
                | libc::ENOPROTOOPT
        )
    )
}

/// Whether a segmentation send was refused for what it is: EIO where the interface lacks checksum offload, EOPNOTSUPP or
/// EINVAL where the kernel or a filter does not know it. EINVAL also means that a segment is too long for the interface.
pub(crate) fn is_train_refused(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EOPNOTSUPP | libc::EINVAL))
}

/// The error of a datagram that is longer than the interface takes.
pub(crate) fn too_long() -> io::Error {
    io::Error::from_raw_os_error(libc::EMSGSIZE)
}

/// Takes a connection off a listening socket; the new descriptor is non-blocking.
pub(crate) fn accept(listener: impl AsFd) -> io::Result<(OwnedFd, SocketAddr)> {
    let mut raw = RawAddress::default();
    let mut len = RawAddress::capacity();
    let descriptor = listener.as_fd().as_raw_fd();
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the kernel writes at most `len` bytes to `raw`, which is that long, and the length back; the returned descriptor
    // is new and owned by nobody else.
    let accepted = unsafe { OwnedFd::from_raw_fd(check(libc::accept4(descriptor, raw.as_mut_ptr(), &raw mut len, flags))?) };
    let remote = raw.decode().ok_or_else(|| io::Error::other("a connection from an address of no IP family"))?;
    Ok((accepted, remote))
}

pub(crate) fn peer_address(socket: impl AsFd) -> io::Result<SocketAddr> {
    let mut raw = RawAddress::default();
    let mut len = RawAddress::capacity();
    // SAFETY: the kernel writes at most `len` bytes to `raw`, which is that long, and the length back.
    check(unsafe { libc::getpeername(socket.as_fd().as_raw_fd(), raw.as_mut_ptr(), &raw mut len) })?;
    raw.decode().ok_or_else(|| io::Error::other("the peer's address is of no IP family"))
}

/// Whether a connection attempt goes on in the background.
pub(crate) fn is_connecting(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR))
}

/// Whether a socket is not connected (yet).
pub(crate) fn is_not_connected(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOTCONN)
}

/// Whether `accept` reported the end of a connection that was waiting there, accept(2): it is gone, and others may wait.
pub(crate) fn is_about_gone_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EINTR
                | libc::ENETDOWN
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::EOPNOTSUPP
                | libc::ENETUNREACH
        )
    )
}

/// Whether descriptors or memory ran out.
pub(crate) fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
