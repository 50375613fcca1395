//! A chat server in plain blocking code: `cargo run -p weald --example chat`, then `nc 127.0.0.1 4000` in some other terminals.
//!
//! A client has two coroutines: one reads its lines into the queues of the others, one empties its own queue. Queues are bounded and
//! nobody waits for one: a client that does not keep up is put out, and holds up nobody.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::{collections::BTreeMap, net::Shutdown, sync::Arc, time::Duration};

use weald_runtime::net::{TcpListener, TcpStream};
use weald_runtime::{channel, is_cancelled, scope, shield, signal, spawn, sync::Mutex, try_sleep};

const QUEUE: usize = 64; // lines that may wait for a client, beside what the system's buffers hold
const LINE: u64 = 1024; // bytes of the longest line; a longer one comes in pieces
const PATIENCE: Duration = Duration::from_secs(30); // how long a client may let a write wait
const SILENCE: Duration = Duration::from_secs(600); // how long it may send nothing, not even an empty line

type Client = (channel::Sender<Arc<str>>, Arc<TcpStream>); // its queue, and the stream to shut
type Clients = BTreeMap<String, Client>; // by name

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4000".to_owned());
    weald_runtime::run(|| {
        let listener = TcpListener::bind(address.as_str())?;
        println!("listening on {}", listener.local_addr()?);
        let server = spawn(move || serve(&listener));
        signal::ctrl_c()?;
        server.cancel();
        server.join().map_err(io::Error::other)
    })
}

/// Serves until the caller is cancelled. Returns when what was said is delivered and everybody has left.
pub fn serve(listener: &TcpListener) {
    let room = &Mutex::new(Clients::new()); // lent to the scope's coroutines, which are cancelled with the caller
    scope(|clients| {
        while !is_cancelled() {
            match listener.accept() {
                Ok((stream, _)) => drop(clients.spawn(move || attend(room, stream.into()))),
                Err(_) => drop(try_sleep(PATIENCE / 100)), // too many open files, most likely, or the end
            }
        }
    });
}

/// Serves one client, from its name to its end.
fn attend(room: &Mutex<Clients>, stream: Arc<TcpStream>) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE)).and(stream.set_write_timeout(Some(PATIENCE)))?;
    let (queue, outbox) = channel::bounded::<Arc<str>>(QUEUE);
    scope(|s| {
        s.spawn(|| {
            // Shielded: when the server stops, what is queued is still delivered.
            shield(|| outbox.iter().try_for_each(|line| (&*stream).write_all(line.as_bytes()))).ok();
            stream.shutdown(Shutdown::Both)
        });
        let client = (queue, Arc::clone(&stream));
        client.0.try_send("Your name?\n".into()).ok();
        let (mut lines, mut name) = (BufReader::new(&*stream), None);
        while let Some(line) = next_line(&mut lines) {
            match &name {
                None => name = enter(&mut room.lock(), line, &client),
                Some(name) if !line.is_empty() => tell(&room.lock(), name, format!("{name}: {line}\n").into()),
                Some(_) => {}
            }
        }
        match name.filter(|name| room.lock().remove(name).is_some()) {
            _ if is_cancelled() => drop(client.0.try_send("* the server stops\n".into())),
            Some(name) => tell(&room.lock(), &name, format!("* {name} leaves\n").into()),
            None => {}
        }
    });
    Ok(())
}

/// Puts a client among the others, unless one of them has its name.
fn enter(clients: &mut Clients, name: String, client: &Client) -> Option<String> {
    if name.is_empty() || clients.contains_key(&name) {
        client.0.try_send("Another one, please:\n".into()).ok();
        return None;
    }
    client.0.try_send(format!("* here are: {:?}\n", clients.keys()).into()).ok();
    tell(clients, &name, format!("* {name} joins\n").into());
    clients.insert(name.clone(), client.clone());
    Some(name)
}

/// Queues a line for everybody but its author.
fn tell(clients: &Clients, author: &str, line: Arc<str>) {
    for (_, (queue, stream)) in clients.iter().filter(|(name, _)| *name != author) {
        if queue.try_send(Arc::clone(&line)).is_err() {
            stream.shutdown(Shutdown::Both).ok(); // its coroutines find the end of the stream, and leave
        }
    }
}

/// The next line, without what controls a terminal; `None` when there are no more.
fn next_line(lines: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    lines.take(LINE).read_until(b'\n', &mut line).ok().filter(|len| *len > 0)?;
    Some(String::from_utf8_lossy(&line).chars().filter(|c| !c.is_control()).collect())
}
