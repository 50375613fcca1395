//! Owns the stream of datagrams: a batch sent and received by one thread, by turns, so that none is lost and all of the CPU time counts.
#![expect(clippy::disallowed_types, reason = "the kernel's sockets are what is measured")]

use std::{net::UdpSocket, os::fd::AsRawFd, ptr};

use anyhow::{Context, Result, ensure};
use io_uring::{IoUring, cqueue, opcode, squeue, types::Fd};

use super::system;

const SIZE: usize = 1_200;
/// As many as one message with segmentation offload holds.
const BATCH: usize = 54;
const BATCHES: usize = 300;
const GROUP: u16 = 1;

/// How a batch is moved.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Single,
    Messages,
    Ring,
    RingMultishot,
    Offload,
    RingOffload,
}

/// Nanoseconds of CPU time of a datagram, sent and received.
pub fn datagram(way: Way) -> Result<f64> {
    let (receiver, sender) = system::pair()?;
    if matches!(way, Way::Offload | Way::RingOffload) {
        system::set_option(&sender, libc::IPPROTO_UDP, system::UDP_SEGMENT, SIZE as u32)?;
        system::set_option(&receiver, libc::IPPROTO_UDP, system::UDP_GRO, 1)?;
    }
    let mut mover = Mover { sender, receiver, sent: vec![5; SIZE * BATCH], received: vec![0; SIZE * BATCH], ring: None, armed: false };
    if matches!(way, Way::Ring | Way::RingMultishot | Way::RingOffload) {
        mover.ring = Some(system::ring(128)?);
    }
    mover.batch(way)?;
    let started = system::thread_time()?;
    for _ in 0..BATCHES {
        mover.batch(way)?;
    }
    Ok((system::thread_time()? - started).as_nanos() as f64 / (BATCHES * BATCH) as f64)
}

struct Mover {
    sender: UdpSocket,
    receiver: UdpSocket,
    sent: Vec<u8>,
    received: Vec<u8>,
    ring: Option<IoUring>,
    /// A multishot receive goes on.
    armed: bool,
}

impl Mover {
    fn batch(&mut self, way: Way) -> Result<()> {
        match way {
            Way::Single => self.single(),
            Way::Messages => self.messages(),
            Way::Ring => self.ring(),
            Way::RingMultishot => self.ring_multishot(),
            Way::Offload => self.offload(),
            Way::RingOffload => self.ring_offload(),
        }
    }

    fn single(&mut self) -> Result<()> {
        for datagram in self.sent.chunks(SIZE) {
            ensure!(self.sender.send(datagram)? == SIZE, "a part was sent");
        }
        for place in self.received.chunks_mut(SIZE) {
            ensure!(self.receiver.recv(place)? == SIZE, "another datagram came");
        }
        Ok(())
    }

    fn messages(&mut self) -> Result<()> {
        let message = |vector: &mut libc::iovec| {
            // SAFETY: zeroes are a message without an address, buffers or control data.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            (message.msg_hdr.msg_iov, message.msg_hdr.msg_iovlen) = (ptr::from_mut(vector), 1);
            message
        };
        for (descriptor, bytes, sends) in
            [(self.sender.as_raw_fd(), &mut self.sent, true), (self.receiver.as_raw_fd(), &mut self.received, false)]
        {
            let vector = |place: &mut [u8]| libc::iovec { iov_base: place.as_mut_ptr().cast(), iov_len: SIZE };
            let mut vectors: Vec<_> = bytes.chunks_mut(SIZE).map(vector).collect();
            let mut messages: Vec<_> = vectors.iter_mut().map(message).collect();
            let mut done = 0;
            while done < BATCH {
                let (rest, count) = (&mut messages[done..], (BATCH - done) as libc::c_uint);
                // SAFETY: `count` messages, whose buffers live and are used by nobody else.
                done += system::check(unsafe {
                    if sends {
                        libc::sendmmsg(descriptor, rest.as_mut_ptr(), count, 0)
                    } else {
                        libc::recvmmsg(descriptor, rest.as_mut_ptr(), count, libc::MSG_WAITFORONE, ptr::null_mut())
                    }
                })? as usize;
            }
        }
        Ok(())
    }

    fn offload(&mut self) -> Result<()> {
        ensure!(self.sender.send(&self.sent)? == self.sent.len(), "a part was sent");
        let mut length = 0;
        while length < self.received.len() {
            length += self.receiver.recv(&mut self.received[length..])?;
        }
        Ok(())
    }

    fn ring(&mut self) -> Result<()> {
        let (sender, receiver) = (Fd(self.sender.as_raw_fd()), Fd(self.receiver.as_raw_fd()));
        let ring = self.ring.as_mut().context("no ring")?;
        let sends = self.sent.chunks(SIZE).map(|datagram| opcode::Send::new(sender, datagram.as_ptr(), SIZE as u32).build());
        complete(ring, sends, SIZE)?;
        let receives = self.received.chunks_mut(SIZE).map(|place| opcode::Recv::new(receiver, place.as_mut_ptr(), SIZE as u32).build());
        complete(ring, receives, SIZE)
    }

    fn ring_offload(&mut self) -> Result<()> {
        let (sender, receiver) = (Fd(self.sender.as_raw_fd()), Fd(self.receiver.as_raw_fd()));
        let ring = self.ring.as_mut().context("no ring")?;
        let length = self.sent.len();
        complete(ring, [opcode::Send::new(sender, self.sent.as_ptr(), length as u32).build()], length)?;
        complete(ring, [opcode::Recv::new(receiver, self.received.as_mut_ptr(), length as u32).build()], length)
    }

    fn ring_multishot(&mut self) -> Result<()> {
        let (sender, receiver) = (Fd(self.sender.as_raw_fd()), Fd(self.receiver.as_raw_fd()));
        let ring = self.ring.as_mut().context("no ring")?;
        let place = self.received.as_mut_ptr();
        let provide = opcode::ProvideBuffers::new(place, SIZE as i32, BATCH as u16, GROUP, 0).build().user_data(1);
        let mut entries = vec![provide];
        if !self.armed {
            entries.push(opcode::RecvMulti::new(receiver, GROUP).build().user_data(2));
        }
        let sends = self.sent.chunks(SIZE).map(|datagram| opcode::Send::new(sender, datagram.as_ptr(), SIZE as u32).build());
        entries.extend(sends);
        self.armed = true;
        push(ring, entries)?;
        let (mut sent, mut received) = (0, 0);
        while sent < BATCH || received < BATCH {
            ring.submit_and_wait(1)?;
            let completions: Vec<_> = ring.completion().collect();
            for completion in completions {
                match completion.user_data() {
                    2 if completion.result() >= 0 => {
                        ensure!(completion.result() == SIZE as i32, "another datagram came");
                        received += 1;
                        self.armed &= cqueue::more(completion.flags());
                    }
                    // The buffers are used up: armed again with the next batch.
                    2 if completion.result() == -libc::ENOBUFS => self.armed = false,
                    0 if completion.result() == SIZE as i32 => sent += 1,
                    1 if completion.result() >= 0 => {}
                    other => anyhow::bail!("operation {other}: {}", completion.result()),
                }
            }
            if !self.armed && received < BATCH {
                push(ring, [opcode::RecvMulti::new(receiver, GROUP).build().user_data(2)])?;
                self.armed = true;
            }
        }
        Ok(())
    }
}

fn push(ring: &mut IoUring, entries: impl IntoIterator<Item = squeue::Entry>) -> Result<()> {
    for entry in entries {
        // SAFETY: the buffers are the mover's, which waits for all completions that write to them, or ends with the ring.
        unsafe { ring.submission().push(&entry) }?;
    }
    Ok(())
}

/// Submits all in one call, waits for all, and checks their lengths.
fn complete(ring: &mut IoUring, entries: impl IntoIterator<Item = squeue::Entry>, length: usize) -> Result<()> {
    push(ring, entries)?;
    let count = ring.submission().len();
    ring.submit_and_wait(count)?;
    let mut done = 0;
    while done < count {
        for completion in ring.completion() {
            ensure!(completion.result() == length as i32, "an operation came to {}", completion.result());
            done += 1;
        }
        if done < count {
            ring.submit_and_wait(1)?;
        }
    }
    Ok(())
}
