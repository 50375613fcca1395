//! UDP echo: `cargo run -p weald --example udp_echo` serves; with `-- 127.0.0.1:4007 hello` it asks, until it is answered.

use std::{io, io::ErrorKind, net::SocketAddr, time::Duration};

use weald_runtime::net::UdpSocket;
use weald_runtime::{CancellationToken, signal, spawn, time::Instant};

const WAITS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)]; // for an answer: first, and at last

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().as_deref().unwrap_or("127.0.0.1:4007").parse().map_err(io::Error::other)?;
    let question = Vec::from_iter(arguments).join(" ");
    weald_runtime::run(|| {
        if question.is_empty() {
            let socket = UdpSocket::bind(address)?;
            println!("listening on {}", socket.local_addr()?);
            let stop = CancellationToken::new();
            let stopping = stop.clone();
            spawn(move || signal::ctrl_c().map(|()| stopping.cancel()));
            return stop.run(|| serve(&socket)).or_else(|error| stop.is_cancelled().then_some(()).ok_or(error));
        }
        let socket = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
        let time = ask(&socket, address, 1, question.as_bytes(), Duration::from_secs(10))?;
        println!("{question} (after {time:?})");
        Ok(())
    })
}

/// Sends every datagram back, until the caller is cancelled.
pub fn serve(socket: &UdpSocket) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let (len, from) = socket.recv_from(&mut buffer)?;
        if let Err(error) = socket.send_to(&buffer[..len], from) {
            eprintln!("{from}: {error}"); // one client's trouble, which is not the others'
        }
    }
}

/// Sends `question` under a number of its own until it comes back, and returns how long that took.
pub fn ask(socket: &UdpSocket, server: SocketAddr, number: u64, question: &[u8], limit: Duration) -> io::Result<Duration> {
    let (start, mut wait) = (Instant::now(), WAITS[0]);
    let request = [&number.to_be_bytes(), question].concat();
    let mut buffer = vec![0; request.len() + 1];
    while start.elapsed() < limit {
        socket.send_to(&request, server)?;
        let deadline = Instant::now() + wait;
        loop {
            match socket.recv_from_deadline(&mut buffer, deadline) {
                Ok((len, from)) if from == server && buffer[..len] == request => return Ok(start.elapsed()),
                Ok(_) => {} // an answer to an earlier question, or somebody else's datagram
                Err(error) if error.kind() == ErrorKind::TimedOut => break,
                Err(error) => return Err(error),
            }
        }
        wait = WAITS[1].min(wait * 2);
    }
    Err(ErrorKind::TimedOut.into())
}
