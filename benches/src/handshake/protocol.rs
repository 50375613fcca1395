//! What the measurement and a side of a handshake tell each other: a command line, then lines.
//!
//! A side is a process: `ROLE STACK GROUP KIND TICKETS FOLDER [PORT]`. A server says its port, and then to each line how much processor time it
//! has taken. A client is told a number on each line, makes that many connections, and says
//! what came of them. It ends with its standard input. Peers that are not built with this package speak it too, from this very file.

use std::{
    fmt,
    io::{BufRead, Write},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::resource::{UsageWho, getrusage},
    time::{ClockId, clock_gettime},
};

/// Connections that a client opens at once.
pub const IN_FLIGHT: usize = 64;
/// For how long a client leaves a connection open after its handshake: a session ticket comes in this time, and its confirmation.
pub const LINGER: Duration = Duration::from_millis(10);
/// The application protocol of every side.
pub const ALPN: &[u8] = b"weald-bench";
/// The name in the certificate.
pub const SERVER_NAME: &str = "localhost";

/// A key exchange group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The elliptic curve alone.
    X25519,
    /// The curve and ML-KEM-768.
    X25519MlKem768,
}

/// A kind of handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// With certificate and signature.
    Full,
    /// With a ticket of an earlier connection, and a key exchange.
    Resumed,
    /// The same, and the client sends a stream of one byte before it has heard from the server.
    ZeroRtt,
}

macro_rules! names {
    ($type:ident: $($variant:ident = $name:literal),+) => {
        impl $type {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name on the command line and in JSON.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// The one of that name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.name() == name)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

names!(Group: X25519 = "x25519", X25519MlKem768 = "x25519mlkem768");
names!(Kind: Full = "full", Resumed = "resumed", ZeroRtt = "0rtt");

/// What a side is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its stack, by name.
    pub stack: String,
    /// The only group that it uses.
    pub group: Group,
    /// What the handshakes are to be.
    pub kind: Kind,
    /// Tickets that the server gives after each handshake.
    pub tickets: u8,
    /// Where `certificate.der`, `key.der` (PKCS #8) and the same in PEM lie.
    pub folder: PathBuf,
    /// The server's port on 127.0.0.1; `None` to be the server.
    pub port: Option<u16>,
}

impl Task {
    /// As arguments of a command line.
    pub fn encode(&self) -> Vec<String> {
        let mut arguments = vec![
            self.stack.clone(),
            self.group.to_string(),
            self.kind.to_string(),
            self.tickets.to_string(),
            self.folder.display().to_string(),
        ];
        arguments.extend(self.port.map(|port| port.to_string()));
        arguments
    }

    /// From arguments of a command line.
    ///
    /// # Errors
    ///
    /// Says which of them is wrong.
    pub fn decode(arguments: &[String]) -> Result<Self> {
        let [stack, group, kind, tickets, folder, port @ ..] = arguments else {
            bail!("a side of a handshake takes STACK GROUP KIND TICKETS FOLDER [PORT]");
        };
        Ok(Self {
            stack: stack.clone(),
            group: Group::from_name(group).with_context(|| format!("there is no group \"{group}\""))?,
            kind: Kind::from_name(kind).with_context(|| format!("there is no kind \"{kind}\""))?,
            tickets: tickets.parse().with_context(|| format!("\"{tickets}\" is no number of tickets"))?,
            folder: folder.into(),
            port: port.first().map(|port| port.parse().with_context(|| format!("\"{port}\" is no port"))).transpose()?,
        })
    }

    /// A file of the identity that all share.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.folder.join(name);
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    }
}

/// What came of a number of connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Batch {
    /// Handshakes that completed: all that were asked for.
    pub handshakes: u64,
    /// Those that resumed a session.
    pub resumed: u64,
    /// Those whose 0-RTT data the server accepted.
    pub early: u64,
    /// From the first to the last.
    pub elapsed: Duration,
    /// Processor time of the client's process.
    pub client: Duration,
    /// Processor time of the server's end, if both are in one process.
    pub server: Duration,
}

impl Batch {
    fn encode(&self) -> String {
        let Self { handshakes, resumed, early, elapsed, client, server } = self;
        format!("ok {handshakes} {resumed} {early} {} {} {}", elapsed.as_nanos(), client.as_nanos(), server.as_nanos())
    }

    /// From the line that a client said.
    ///
    /// # Errors
    ///
    /// What the client reports, or that the line is none of its.
    pub fn decode(line: &str) -> Result<Self> {
        if let Some(error) = line.strip_prefix("error ") {
            bail!("{error}");
        }
        let numbers: Vec<u64> = line.strip_prefix("ok ").unwrap_or("").split(' ').filter_map(|word| word.parse().ok()).collect();
        let [handshakes, resumed, early, elapsed, client, server] = numbers[..] else { bail!("\"{line}\" is no answer") };
        let [elapsed, client, server] = [elapsed, client, server].map(Duration::from_nanos);
        Ok(Self { handshakes, resumed, early, elapsed, client, server })
    }
}

/// A server's life: says its port, and what it has used when asked, until standard input ends.
///
/// # Errors
///
/// If the other end of a pipe is gone.
pub fn serve(port: u16) -> Result<()> {
    println!("{port}");
    for line in std::io::stdin().lock().lines() {
        line?;
        println!("{}", cpu_time()?.as_nanos());
    }
    Ok(())
}

/// A client's life: makes as many connections as each line asks for, until standard input ends. `connect` makes them, and may leave
/// the times out of what it returns.
///
/// # Errors
///
/// If the other end of a pipe is gone.
pub fn answer(mut connect: impl FnMut(u64) -> Result<Batch>) -> Result<()> {
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        println!("{}", measure(&line?, &mut connect).map_or_else(|error| format!("error {error:#}"), |batch| batch.encode()));
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn measure(line: &str, connect: &mut impl FnMut(u64) -> Result<Batch>) -> Result<Batch> {
    let count = line.trim().parse().with_context(|| format!("\"{line}\" is no count"))?;
    let (clock, used) = (now()?, cpu_time()?);
    let mut batch = connect(count)?;
    ensure!(batch.handshakes == count, "{} of {count} handshakes completed", batch.handshakes);
    batch.elapsed = now()?.saturating_sub(clock);
    if batch.client.is_zero() {
        batch.client = cpu_time()?.saturating_sub(used);
    }
    Ok(batch)
}

/// Says what a side ended with, if it was an error, in the place of an answer.
pub fn tell(ended: Result<()>) {
    if let Err(error) = ended {
        println!("error {error:#}");
    }
}

/// The answer of a server: its processor time.
///
/// # Errors
///
/// If it is none.
pub fn decode_used(line: &str) -> Result<Duration> {
    Ok(Duration::from_nanos(line.parse().with_context(|| format!("\"{line}\" is no processor time"))?))
}

fn now() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_MONOTONIC)?.into())
}

fn cpu_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let time = usage.user_time() + usage.system_time();
    Ok(Duration::from_micros(time.tv_sec() as u64 * 1_000_000 + time.tv_usec() as u64))
}
