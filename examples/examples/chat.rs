//! A chat server in plain blocking code: `cargo run -p weald --example chat`, then `nc 127.0.0.1 4000` in some other terminals.
//! Ctrl-C ends it; what was said before still reaches everybody.
//!
//! A client has two coroutines. One reads its lines and puts them into the queues of the others; the other empties the client's own
//! queue. Queues are bounded and nobody waits for one: a client that does not keep up is put out and holds up nobody else.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use weald_runtime::channel::{self, Receiver, Sender, TrySendError};
use weald_runtime::net::{TcpListener, TcpStream};
use weald_runtime::sync::Mutex;
use weald_runtime::{CancellationToken, is_cancelled, scope, shield, signal, spawn};

/// Lines that may wait for a client, beside what the system's buffers hold.
const QUEUE: usize = 64;
/// How long a client may let a write wait.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a client may be silent. An empty line, which is shown to nobody, counts.
pub const SILENCE: Duration = Duration::from_secs(600);
/// The longest line, in bytes; a longer one comes in pieces.
const LINE: u64 = 1024;

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4000".to_owned());
    weald_runtime::run(|| {
        let listener = TcpListener::bind(address.as_str())?;
        println!("listening on {}", listener.local_addr()?);
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        spawn(move || signal::ctrl_c().map(|()| stopping.cancel()));
        serve(&listener, &stop)
    })
}

/// Serves until the token is cancelled, and returns when every client has left.
pub fn serve(listener: &TcpListener, stop: &CancellationToken) -> io::Result<()> {
    let room = &Room::default();
    // What is spawned in the scope may borrow the room, and is inside of the token as well.
    stop.run(|| {
        scope(|clients| {
            loop {
                match listener.accept() {
                    Ok((stream, _)) => drop(clients.spawn(move || room.attend(&stream))),
                    Err(_) if is_cancelled() => return Ok(()),
                    Err(error) => eprintln!("cannot accept: {error}"),
                }
            }
        })
    })
}

/// Those who chat, by name.
#[derive(Default)]
struct Room(Mutex<BTreeMap<String, Client>>);

struct Client {
    queue: Sender<Arc<str>>,
    stream: TcpStream,
}

impl Room {
    /// Serves one client, from its name to its end.
    fn attend(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut lines = BufReader::new(stream);
        let (queue, outbox) = channel::bounded(QUEUE);
        queue.send("Your name?\n".into()).ok();
        scope(|s| {
            // Shielded: when the server stops, what is queued is still delivered.
            s.spawn(|| shield(|| deliver(outbox, stream)));
            let Some(name) = self.enter(&mut lines, queue, stream)? else { return Ok(()) };
            while let Ok(Some(line)) = next_line(&mut lines) {
                if !line.is_empty() {
                    self.tell(&name, &format!("{name}: {line}\n"));
                }
            }
            self.leave(&name);
            Ok(())
        })
    }

    /// Asks for a name until it is one that nobody has.
    fn enter(&self, lines: &mut impl BufRead, queue: Sender<Arc<str>>, stream: &TcpStream) -> io::Result<Option<String>> {
        while let Some(name) = next_line(lines)? {
            let mut clients = self.0.lock();
            if name.is_empty() || clients.contains_key(&name) {
                queue.try_send("Another one, please:\n".into()).ok();
                continue;
            }
            let others: Vec<_> = clients.keys().map(String::as_str).collect();
            queue.try_send(format!("* here are: [{}]\n", others.join(", ")).into()).ok();
            clients.insert(name.clone(), Client { queue, stream: stream.try_clone()? });
            drop(clients);
            self.tell(&name, &format!("* {name} joins\n"));
            return Ok(Some(name));
        }
        Ok(None)
    }

    fn leave(&self, name: &str) {
        let client = self.0.lock().remove(name);
        match client {
            Some(client) if is_cancelled() => drop(client.queue.try_send("* the server stops\n".into())),
            _ => self.tell(name, &format!("* {name} leaves\n")),
        }
    }

    /// Queues a line for everybody but its author.
    fn tell(&self, author: &str, line: &str) {
        let line: Arc<str> = line.into();
        for (_, client) in self.0.lock().iter().filter(|(name, _)| *name != author) {
            if let Err(TrySendError::Full(_)) = client.queue.try_send(Arc::clone(&line)) {
                // Its own coroutines then find the end of the stream, and leave.
                client.stream.shutdown(Shutdown::Both).ok();
            }
        }
    }
}

/// Writes what is queued, until nobody queues any more or the client is gone.
fn deliver(outbox: Receiver<Arc<str>>, mut stream: &TcpStream) {
    for line in outbox {
        if stream.write_all(line.as_bytes()).is_err() {
            break;
        }
    }
    stream.shutdown(Shutdown::Both).ok();
}

/// The next line without its end; `None` when there are no more.
fn next_line(lines: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let len = lines.take(LINE).read_until(b'\n', &mut line)?;
    Ok((len > 0).then(|| String::from_utf8_lossy(&line).trim_end().to_owned()))
}
