//! Our ends of a transfer, through the blocking API.

use std::time::Duration;

use weald_crypto::simulation;
use weald_quic::{Connection, Endpoint, TransportConfig};
use weald_runtime::{JoinHandle, sleep, spawn};

use super::{Role, STREAMS, Stack, Tuning};
use crate::world::{client_address, client_config, server_address, server_config};

/// This stack.
pub struct Weald;

fn transport(tuning: &Tuning) -> TransportConfig {
    TransportConfig::default()
        .congestion(tuning.controller)
        .stream_window(tuning.window)
        .connection_window(tuning.window)
        // Ours is a limit of each stream.
        .send_window(tuning.window / STREAMS as u32)
        .max_idle_timeout(Some(Duration::from_secs(60)))
}

fn play(connection: &Connection, role: Role) -> u64 {
    let streams: Vec<_> = (0..STREAMS)
        .map(|_| {
            let connection = connection.clone();
            spawn(move || match role {
                Role::Send => write(&connection),
                Role::Receive(_) => read(&connection),
            })
        })
        .collect();
    if let Role::Receive(span) = role {
        sleep(span);
        connection.close(0_u32.into(), b"");
    }
    connection.closed();
    streams.into_iter().map(|stream| stream.join().expect("it does not panic")).sum()
}

/// Writes on a stream until the connection ends.
fn write(connection: &Connection) -> u64 {
    let block = [0; 16_384];
    if let Ok(mut out) = connection.open_uni() {
        while out.write_all(&block).is_ok() {}
    }
    0
}

/// Reads a stream until the connection ends.
fn read(connection: &Connection) -> u64 {
    let mut bytes = 0;
    if let Ok(mut input) = connection.accept_uni() {
        while let Ok(Some(chunk)) = input.read_chunk(usize::MAX) {
            bytes += chunk.len() as u64;
        }
    }
    bytes
}

fn end(endpoint: &Endpoint) {
    endpoint.close(0_u32.into(), b"");
    endpoint.wait_idle();
}

impl Stack for Weald {
    fn name(&self) -> &'static str {
        "weald"
    }

    fn serve(&self, seed: u64, tuning: &Tuning, role: Role) -> JoinHandle<u64> {
        let endpoint = Endpoint::server(server_config(seed, transport(tuning)), server_address()).expect("a server");
        spawn(move || {
            let bytes = play(&endpoint.accept().expect("a connection comes"), role);
            end(&endpoint);
            bytes
        })
    }

    fn connect(&self, seed: u64, tuning: &Tuning, role: Role) -> u64 {
        let endpoint = Endpoint::client(client_address(1)).expect("a client");
        let config = client_config(seed, transport(tuning));
        let connection = endpoint.connect_with(config, server_address(), simulation::SERVER_NAME).expect("a connection");
        let bytes = play(&connection, role);
        end(&endpoint);
        bytes
    }
}
