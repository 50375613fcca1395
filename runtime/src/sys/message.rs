//! recvmmsg and sendmmsg: many datagrams, with what travels beside them, in one call.
//!
//! Owns the arrays of headers that the kernel reads and writes, kept between calls so that a call allocates nothing.
//!
//! Invariant: pointers in the headers are written anew before each call from what that call borrows, and are read by nobody
//! after it. That is also why the arrays may move between threads.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use super::address::RawAddress;
use super::control::{Ancillary, Control};
use super::{check_len, direct};

/// One message to send: a datagram, or a train of them if `ancillary` has a segment size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) remote: SocketAddr,
    pub(crate) ancillary: Ancillary,
}

/// One message received into its slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming {
    pub(crate) len: usize,
    pub(crate) remote: SocketAddr,
    pub(crate) ancillary: Ancillary,
}

/// The kernel's view of up to a fixed number of messages.
pub(crate) struct Messages {
    headers: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
    addresses: Box<[RawAddress]>,
    controls: Box<[Control]>,
}

// SAFETY: the raw pointers inside are rewritten before each call and not read otherwise (see the module's invariant), so a
// value has no tie to a thread; a shared reference gives access to the lengths that the kernel wrote only.
unsafe impl Send for Messages {}
// SAFETY: as above; no method with `&self` follows a pointer.
unsafe impl Sync for Messages {}

impl Messages {
    pub(crate) fn new(count: usize) -> Messages {
        // SAFETY: all-zero bytes are valid for these C structures of integers and nullable pointers.
        let (header, vector) = unsafe { (mem::zeroed::<libc::mmsghdr>(), mem::zeroed::<libc::iovec>()) };
        Messages {
            headers: vec![header; count].into_boxed_slice(),
            vectors: vec![vector; count].into_boxed_slice(),
            addresses: vec![RawAddress::default(); count].into_boxed_slice(),
            controls: vec![Control::ZERO; count].into_boxed_slice(),
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.headers.len()
    }

    /// Receives up to one message for each `slot_len` bytes of `buffer`, the i-th into the i-th slot; returns how many.
    /// Fails only if there is not even one.
    pub(crate) fn receive(&mut self, socket: impl AsFd, buffer: &mut [u8], slot_len: usize) -> io::Result<usize> {
        // The kernel leaves padding between control messages as it was; stale bytes must not look like messages.
        self.controls.fill(Control::ZERO);
        let mut count = 0;
        let parts = self.headers.iter_mut().zip(&mut self.vectors).zip(&mut self.addresses).zip(&mut self.controls);
        for ((((header, vector), address), control), slot) in parts.zip(buffer.chunks_exact_mut(slot_len)) {
            vector.iov_base = slot.as_mut_ptr().cast();
            vector.iov_len = slot.len();
            let header = &mut header.msg_hdr;
            header.msg_name = address.as_mut_ptr().cast();
            header.msg_namelen = RawAddress::capacity();
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_control = control.as_mut_ptr();
            header.msg_controllen = Control::capacity() as _;
            header.msg_flags = 0;
            count += 1;
        }
        let (descriptor, headers) = (socket.as_fd().as_raw_fd(), self.headers.as_mut_ptr());
        // SAFETY: the first `count` headers point to this value's arrays and to disjoint parts of `buffer`, all borrowed
        // mutably for the call, with their true lengths.
        let received =
            unsafe { direct!(SYS_recvmmsg as recvmmsg, descriptor, headers, count, libc::MSG_DONTWAIT, ptr::null_mut::<libc::timespec>()) };
        check_len(received)
    }

    /// The i-th message of the last [`receive`](Self::receive); `None` if it was cut off or has no IP address.
    pub(crate) fn incoming(&self, index: usize) -> Option<Incoming> {
        let header = self.headers.get(index)?;
        if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
            return None;
        }
        Some(Incoming {
            len: header.msg_len as usize,
            remote: self.addresses[index].decode()?,
            ancillary: self.controls[index].decode(header.msg_hdr.msg_controllen as _),
        })
    }

    /// Sends messages in order, as many of them as there is room for; returns how many the kernel took. Fails only if it
    /// did not take the first.
    pub(crate) fn send<'a>(
        &mut self,
        socket: impl AsFd,
        ipv6_socket: bool,
        messages: impl Iterator<Item = Outgoing<'a>>,
    ) -> io::Result<usize> {
        let mut count = 0;
        let parts = self.headers.iter_mut().zip(&mut self.vectors).zip(&mut self.addresses).zip(&mut self.controls);
        for ((((header, vector), address), control), message) in parts.zip(messages) {
            vector.iov_base = message.bytes.as_ptr().cast_mut().cast();
            vector.iov_len = message.bytes.len();
            let (raw, raw_len) = RawAddress::encode(message.remote, ipv6_socket);
            *address = raw;
            let ipv4_peer = match message.remote {
                SocketAddr::V4(_) => true,
                SocketAddr::V6(remote) => remote.ip().to_ipv4_mapped().is_some(),
            };
            let control_len = control.encode(&message.ancillary, ipv4_peer);
            let header = &mut header.msg_hdr;
            header.msg_name = address.as_mut_ptr().cast();
            header.msg_namelen = raw_len;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_control = if control_len == 0 { ptr::null_mut() } else { control.as_mut_ptr() };
            header.msg_controllen = control_len as _;
            header.msg_flags = 0;
            count += 1;
        }
        let (descriptor, headers) = (socket.as_fd().as_raw_fd(), self.headers.as_mut_ptr());
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the first `count` headers point to this value's arrays and to the messages' bytes, borrowed for 'a; the
        // kernel only reads the bytes, whatever the type of iov_base says.
        let sent = unsafe { direct!(SYS_sendmmsg as sendmmsg, descriptor, headers, count, flags) };
        check_len(sent)
    }
}
