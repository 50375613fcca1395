//! UDP echo, a server and a client that asks again until it is answered: `cargo run -p weald --example udp_echo` is the server,
//! `cargo run -p weald --example udp_echo -- 127.0.0.1:4007 hello` asks it.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use weald_runtime::net::UdpSocket;
use weald_runtime::{is_cancelled, time::Instant};

/// The first wait for an answer. Each one is twice as long as the one before.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:4007".to_owned());
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let words: Vec<_> = arguments.collect();
    weald_runtime::run(|| {
        if words.is_empty() {
            let socket = UdpSocket::bind(address)?;
            println!("listening on {}", socket.local_addr());
            return serve(&socket);
        }
        let socket = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().map_err(io::Error::other)?)?;
        let question = words.join(" ");
        let time = ask(&socket, address, 1, question.as_bytes(), Duration::from_secs(10))?;
        println!("{question} (after {time:?})");
        Ok(())
    })
}

/// Sends every datagram back, until the caller is cancelled.
pub fn serve(socket: &UdpSocket) -> io::Result<()> {
    let mut buffer = [0; 2048];
    loop {
        let echoed = socket.recv_from(&mut buffer).and_then(|(len, from)| socket.send_to(&buffer[..len], from));
        match echoed {
            Err(error) if is_cancelled() => return Err(error),
            // One client's trouble, which is not the others'.
            Err(error) => eprintln!("{error}"),
            Ok(_) => {}
        }
    }
}

/// Sends `question` under a number of its own until it comes back, and returns how long that took.
pub fn ask(socket: &UdpSocket, server: SocketAddr, number: u64, question: &[u8], limit: Duration) -> io::Result<Duration> {
    let start = Instant::now();
    let request = [&number.to_be_bytes(), question].concat();
    let (mut wait, mut buffer) = (FIRST_WAIT, vec![0; request.len() + 1]);
    loop {
        socket.send_to(&request, server)?;
        let until = Instant::now() + wait;
        // What else arrives are answers to earlier questions, or somebody else's datagrams.
        while let Some(left) = Some(until - Instant::now()).filter(|left| !left.is_zero()) {
            socket.set_read_timeout(Some(left))?;
            match socket.recv_from(&mut buffer) {
                Ok((len, from)) if from == server && buffer[..len] == request => return Ok(start.elapsed()),
                Err(error) if error.kind() != ErrorKind::TimedOut => return Err(error),
                _ => {}
            }
        }
        if start.elapsed() >= limit {
            return Err(ErrorKind::TimedOut.into());
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}
