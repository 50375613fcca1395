//! Owns the echo: two threads, one datagram to and fro, and the ways to wait for it.
#![expect(clippy::disallowed_types, reason = "the kernel's sockets are what is measured")]

use std::{
    io::ErrorKind,
    net::UdpSocket,
    os::fd::{AsRawFd, OwnedFd},
    thread,
    time::Duration,
};

use anyhow::{Result, anyhow, ensure};
use io_uring::{IoUring, opcode, types::Fd};
use weald_runtime::time::Instant;

use super::system;

const ROUND_TRIPS: u64 = 4_000;
const SIZE: usize = 64;
/// IORING_ENTER_GETEVENTS.
const GET_EVENTS: u32 = 1;

/// How an end waits.
#[derive(Clone, Copy)]
pub enum Wait {
    /// The kernel's blocking calls.
    Blocks,
    /// Tries for so long, then sleeps in epoll.
    Poll(Duration),
    /// io_uring: looks for completions for so long, then sleeps in the kernel.
    Ring(Duration),
}

/// Where the two threads run.
#[derive(Clone, Copy)]
pub enum Place {
    Apart,
    Together,
    Free,
}

/// Nanoseconds of a round trip.
pub fn round_trip(wait: Wait, busy_poll: Option<u32>, place: Place) -> Result<f64> {
    let (server, client) = system::pair()?;
    for socket in [&server, &client] {
        if let Some(microseconds) = busy_poll {
            system::set_option(socket, libc::SOL_SOCKET, libc::SO_BUSY_POLL, microseconds)?;
        }
        // An end that fails must not leave the other one waiting.
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    }
    // Threads of their own: what they are kept to ends with them.
    let (server_at, client_at) = match place {
        Place::Apart => (Some(0), Some(1)),
        Place::Together => (Some(0), Some(0)),
        Place::Free => (None, None),
    };
    let echo = thread::Builder::new().spawn(move || -> Result<()> {
        server_at.map_or(Ok(()), system::keep_to)?;
        let (mut end, mut buffer) = (End::new(server, wait)?, [0; SIZE]);
        loop {
            let length = end.receive(&mut buffer)?;
            if length != SIZE {
                return Ok(());
            }
            end.send(&buffer)?;
        }
    })?;
    let asking = thread::Builder::new().spawn(move || -> Result<Duration> {
        client_at.map_or(Ok(()), system::keep_to)?;
        let mut end = End::new(client, wait)?;
        let (mut sent, mut received) = ([7; SIZE], [0; SIZE]);
        let mut started = Instant::now();
        for number in 0..ROUND_TRIPS + ROUND_TRIPS / 4 {
            if number == ROUND_TRIPS / 4 {
                started = Instant::now();
            }
            sent[..8].copy_from_slice(&number.to_be_bytes());
            end.send(&sent)?;
            let length = end.receive(&mut received)?;
            ensure!(received[..length] == sent, "another datagram came back");
        }
        let elapsed = started.elapsed();
        // A short datagram ends the server.
        end.socket.send(&[0])?;
        Ok(elapsed)
    })?;
    let elapsed = asking.join().map_err(|_| anyhow!("the client panicked"))?;
    echo.join().map_err(|_| anyhow!("the server panicked"))??;
    Ok(elapsed?.as_nanos() as f64 / ROUND_TRIPS as f64)
}

struct End {
    socket: UdpSocket,
    means: Means,
}

enum Means {
    Blocks,
    Poll(OwnedFd, Duration),
    Ring(Box<IoUring>, Duration, Box<[u8; SIZE]>),
}

impl End {
    fn new(socket: UdpSocket, wait: Wait) -> Result<Self> {
        let means = match wait {
            Wait::Blocks => Means::Blocks,
            Wait::Poll(time) => {
                socket.set_nonblocking(true)?;
                Means::Poll(system::epoll(&socket)?, time)
            }
            Wait::Ring(time) => Means::Ring(Box::new(system::ring(8)?), time, Box::new([0; SIZE])),
        };
        Ok(Self { socket, means })
    }

    fn send(&mut self, bytes: &[u8; SIZE]) -> Result<()> {
        match &mut self.means {
            Means::Blocks | Means::Poll(..) => ensure!(self.socket.send(bytes)? == SIZE, "a part was sent"),
            Means::Ring(ring, _, sending) => {
                **sending = *bytes;
                let entry = opcode::Send::new(Fd(self.socket.as_raw_fd()), sending.as_ptr(), SIZE as u32).build().user_data(1);
                // SAFETY: the buffer stays where it is until `receive` has seen the completion.
                unsafe { ring.submission().push(&entry) }?;
            }
        }
        Ok(())
    }

    /// Waits for a datagram. With a ring, what was to be sent goes with the same call.
    fn receive(&mut self, buffer: &mut [u8; SIZE]) -> Result<usize> {
        match &mut self.means {
            Means::Blocks => Ok(self.socket.recv(buffer)?),
            Means::Poll(epoll, time) => {
                let mut since = None;
                loop {
                    match self.socket.recv(buffer) {
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                        result => return Ok(result?),
                    }
                    if *time == Duration::ZERO || since.get_or_insert_with(Instant::now).elapsed() > *time {
                        system::sleep_on(epoll)?;
                    }
                }
            }
            Means::Ring(ring, time, _) => {
                let sends = usize::from(!ring.submission().is_empty());
                let entry = opcode::Recv::new(Fd(self.socket.as_raw_fd()), buffer.as_mut_ptr(), SIZE as u32).build();
                // SAFETY: the buffer is borrowed until the completion was seen: an error on the way ends the process's experiment with it.
                unsafe { ring.submission().push(&entry) }?;
                ring.submit()?;
                let (mut left, mut received) = (1 + sends, None);
                let since = Instant::now();
                while left > 0 {
                    let completions: Vec<_> = ring.completion().collect();
                    for completion in completions {
                        let length =
                            usize::try_from(completion.result()).map_err(|_| std::io::Error::from_raw_os_error(-completion.result()))?;
                        left -= 1;
                        if completion.user_data() == 0 {
                            received = Some(length);
                        }
                    }
                    if left > 0 && since.elapsed() >= *time {
                        ring.submit_and_wait(1)?;
                    } else if left > 0 {
                        // With deferred work the kernel completes only when it is called.
                        // SAFETY: no pointers; it gets events without waiting.
                        unsafe { ring.submitter().enter::<libc::sigset_t>(0, 0, GET_EVENTS, None) }?;
                    }
                }
                received.ok_or_else(|| anyhow!("nothing was received"))
            }
        }
    }
}
