//! The system's half of a UDP socket.
//!
//! Owns the descriptor, which options it has got, and what to do when the kernel refuses: offloads degrade, one datagram's error is that
//! datagram's, news of earlier datagrams is skipped. It does not own how callers wait (`udp`).

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use socket2::{Domain, SockRef};

use super::super::batch::{Queue, SendBatch};
use super::super::descriptor::Descriptor;
use super::{Offloads, UdpSocketOptions};
use crate::primitive::atomic::{AtomicUsize, Ordering};
use crate::reactor::{Direction, Drained};
use crate::sys::control::Ancillary;
use crate::sys::message::{Messages, Outgoing};
use crate::sys::socket::{self, MTU_DISCOVER_PROBE, SocketOption};

/// How often a call is repeated because the kernel reported about earlier datagrams. Each report is consumed by being
/// reported, so more in a row means that something else is wrong.
pub(super) const STALE_ERRORS: usize = 16;
/// Segments that the newest kernels take in one send; older ones take half of it. The kernel is asked once a process.
const MOST_SEGMENTS: usize = 128;

/// A socket of the operating system.
pub(super) struct SystemSocket {
    pub(super) descriptor: Descriptor,
    pub(super) local: SocketAddr,
    /// The descriptor's family; `local` of an IPv6 socket may be an IPv4 address, when bound to a mapped one.
    pub(super) ipv6: bool,
    /// Lowered to 1, once, when an interface refuses trains.
    pub(super) max_segments: AtomicUsize,
    pub(super) gro: bool,
    pub(super) ecn: bool,
    pub(super) pktinfo: bool,
}

impl SystemSocket {
    pub(super) fn bind(options: &UdpSocketOptions, address: SocketAddr) -> io::Result<SystemSocket> {
        let ipv6 = address.is_ipv6();
        let descriptor = socket::open(ipv6)?;
        let set = |option, value| socket::set_option(&descriptor, option, value);
        if options.reuse_port {
            set(SocketOption::ReusePort, 1)?;
        }
        if ipv6 {
            set(SocketOption::OnlyV6, i32::from(options.only_v6))?;
        }
        let dual_stack = ipv6 && !options.only_v6;
        if options.dont_fragment {
            if ipv6 {
                set(SocketOption::MtuDiscoverV6, MTU_DISCOVER_PROBE)?;
            }
            if !ipv6 || dual_stack {
                set(SocketOption::MtuDiscoverV4, MTU_DISCOVER_PROBE)?;
            }
        }
        let pktinfo = set(if ipv6 { SocketOption::PacketInfoV6 } else { SocketOption::PacketInfoV4 }, 1).is_ok();
        let ecn_v6 = !ipv6 || set(SocketOption::ReceiveTrafficClass, 1).is_ok();
        let ecn_v4 = (ipv6 && !dual_stack) || set(SocketOption::ReceiveTos, 1).is_ok();
        let gro = options.gro && set(SocketOption::Gro, 1).is_ok();
        if options.gro && !gro {
            tracing::warn!("the kernel has no receive offload for UDP; datagrams are received one by one");
        }
        if let Some(bytes) = options.receive_buffer {
            ask(&descriptor, [SocketOption::ReceiveBufferForce, SocketOption::ReceiveBuffer], bytes);
        }
        if let Some(bytes) = options.send_buffer {
            ask(&descriptor, [SocketOption::SendBufferForce, SocketOption::SendBuffer], bytes);
        }
        socket::bind(&descriptor, address)?;
        let local = socket::local_address(&descriptor)?;
        let max_segments = AtomicUsize::new(if options.gso { segmentation_limit() } else { 1 });
        let (descriptor, ecn) = (Descriptor::new(descriptor), ecn_v4 && ecn_v6);
        Ok(SystemSocket { descriptor, local, ipv6, max_segments, gro, ecn, pktinfo })
    }

    /// A bound socket that somebody else has made non-blocking, and set up: it is asked what it is, and nothing is changed.
    pub(super) fn adopt(descriptor: OwnedFd) -> io::Result<SystemSocket> {
        let local = socket::local_address(&descriptor)?;
        let is_set = |option| socket::option(&descriptor, option).is_ok_and(|value| value != 0);
        // The address does not tell: an IPv6 socket may be bound to a mapped one.
        let ipv6 = SockRef::from(&descriptor).domain()? == Domain::IPV6;
        let dual_stack = ipv6 && !is_set(SocketOption::OnlyV6);
        let pktinfo = is_set(if ipv6 { SocketOption::PacketInfoV6 } else { SocketOption::PacketInfoV4 });
        let ecn_v6 = !ipv6 || is_set(SocketOption::ReceiveTrafficClass);
        let ecn_v4 = (ipv6 && !dual_stack) || is_set(SocketOption::ReceiveTos);
        let (gro, ecn) = (is_set(SocketOption::Gro), ecn_v4 && ecn_v6);
        let max_segments = AtomicUsize::new(segmentation_limit());
        Ok(SystemSocket { descriptor: Descriptor::new(descriptor), local, ipv6, max_segments, gro, ecn, pktinfo })
    }

    pub(super) fn offloads(&self) -> Offloads {
        // Relaxed: a hint, it orders nothing.
        let gso_max_segments = self.max_segments.load(Ordering::Relaxed);
        Offloads { gso_max_segments, gro: self.gro, ecn: self.ecn, pktinfo: self.pktinfo }
    }

    /// A buffer's size in bytes of payload: the kernel doubles what it is asked for, to cover its own records.
    pub(super) fn granted(&self, option: SocketOption) -> io::Result<usize> {
        Ok(usize::try_from(socket::option(&self.descriptor, option)?).unwrap_or(0) / 2)
    }

    pub(super) fn send_batch(&self, batch: &mut SendBatch) -> io::Result<usize> {
        let mut done = 0;
        let mut stale_errors = 0;
        while !batch.queue.is_empty() {
            let max_segments = self.max_segments.load(Ordering::Relaxed);
            let was_suspect = batch.queue.is_suspect();
            let SendBatch { queue, messages, .. } = batch;
            match self.descriptor.try_io(Direction::Write, || self.send_messages(queue, messages, max_segments)) {
                Ok(count) => {
                    done += queue.advance(count, max_segments);
                    // A train was refused, and all of its datagrams alone were taken: so it is trains that are refused.
                    if was_suspect && !queue.is_suspect() {
                        self.give_up_segmentation();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return if done > 0 { Ok(done) } else { Err(error) };
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if socket::is_about_earlier_datagram(&error) && stale_errors < STALE_ERRORS => {
                    stale_errors += 1;
                }
                Err(error) => done += self.on_refusal(batch, max_segments, error),
            }
        }
        Ok(done)
    }

    pub(super) fn send_messages(&self, queue: &Queue, messages: &mut Messages, max_segments: usize) -> io::Result<(usize, Drained)> {
        let count = messages.send(&self.descriptor, self.ipv6, queue.messages(max_segments))?;
        Ok((count, Drained(false)))
    }

    /// The kernel refused the first message; returns how many transmits that completes.
    pub(super) fn on_refusal(&self, batch: &mut SendBatch, max_segments: usize, error: io::Error) -> usize {
        if !batch.queue.split(max_segments) {
            return batch.refuse(max_segments, error);
        }
        // Its datagrams go one by one now, so that the blame falls on those that deserve it, or on trains as such.
        if !socket::is_train_refused(&error) {
            batch.queue.trust();
        }
        0
    }

    pub(super) fn give_up_segmentation(&self) {
        // Relaxed: whoever reads the old value has its next train refused too.
        if self.max_segments.swap(1, Ordering::Relaxed) > 1 {
            tracing::warn!(local = %self.local, "segmentation offload was refused; sending datagrams one by one");
        }
    }
}

/// Sets a buffer size by the first option that the system permits, as far as it permits it.
fn ask(descriptor: &OwnedFd, options: [SocketOption; 2], bytes: usize) {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX / 2);
    for option in options {
        if socket::set_option(descriptor, option, bytes).is_ok() {
            return;
        }
    }
}

/// Repeats an operation that failed because of a signal or of an earlier datagram.
pub(super) fn skipping_stale_errors<T>(operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    skipping(STALE_ERRORS, operation)
}

/// As [`skipping_stale_errors`], of which it skips so many.
pub(super) fn skipping<T>(stale_errors: usize, mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut repeats = 0;
    loop {
        match operation() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if socket::is_about_earlier_datagram(&error) && repeats < stale_errors => repeats += 1,
            result => return result,
        }
    }
}

/// How many segments the kernel takes in one send: found by sending a train of one-byte datagrams on a socket to itself,
/// since nothing else tells (64 until Linux 6.11, then 128; none in some sandboxes).
fn segmentation_limit() -> usize {
    static LIMIT: OnceLock<usize> = OnceLock::new();
    *LIMIT.get_or_init(|| {
        let takes = |segments: usize| -> io::Result<()> {
            let descriptor = socket::open(false)?;
            socket::bind(&descriptor, SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into())?;
            let remote = socket::local_address(&descriptor)?;
            let ancillary = Ancillary { segment_size: Some(1), ..Ancillary::default() };
            let train = Outgoing { bytes: &vec![0; segments], remote, ancillary };
            Messages::new(1).send(&descriptor, false, std::iter::once(train)).map(drop)
        };
        let limit = [MOST_SEGMENTS, MOST_SEGMENTS / 2].into_iter().find(|&segments| takes(segments).is_ok());
        if limit.is_none() {
            tracing::warn!("the kernel has no segmentation offload for UDP; datagrams are sent one by one");
        }
        limit.unwrap_or(1)
    })
}
