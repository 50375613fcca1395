//! What connections and the network between them did, as text for people.
//!
//! Owns the form of the lines, and where the files lie. One line an event, in the order of time: when, who, and what. A packet that
//! is sent has all its frames, and what the network made of its datagram; what arrives has a line at the other end, and so does
//! what a connection makes of it all: packets lost, timeouts, the congestion window, states.
//!
//! Events of connections are put to text as they come, by a [`Log`]; the network's are joined to them when a file is written. A
//! datagram of one who has no trace has lines of the network alone.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fs, io};

use weald_quic::{ConnectionId, EcnMark, Side, Trace, TraceEvent, TraceFactory, TraceMetrics, TraceStart};
use weald_runtime::sim::{TraceEntry, Verdict};

/// Collects what connections do: give a clone to each one's [`TransportConfig::trace`](weald_quic::TransportConfig::trace).
#[derive(Clone)]
pub struct Log(Arc<Mutex<Collected>>);

struct Collected {
    /// Nanoseconds of virtual time.
    begun: u64,
    /// By the id that both ends know, in the order in which they began.
    connections: Vec<ConnectionId>,
    lines: Vec<Line>,
    /// Where the peers of servers are.
    clients: BTreeMap<usize, SocketAddr>,
}

/// What one end of a connection did.
struct Line {
    /// Nanoseconds of virtual time.
    time: u64,
    connection: usize,
    side: Side,
    what: What,
}

enum What {
    Sent {
        packet: String,
        way: Way,
    },
    /// A verb, and the rest of the line.
    Other(&'static str, String),
}

/// What a packet left in.
enum Way {
    /// That is not known yet.
    Open,
    /// The datagram of the packet that comes next.
    WithNext,
    Datagram(Departure),
}

/// How the network knows a datagram.
#[derive(Clone, Copy)]
struct Departure {
    to: SocketAddr,
    size: usize,
}

/// One end of a connection.
struct Watch {
    log: Log,
    connection: usize,
    start: TraceStart,
    /// The mark of the datagram that came in last.
    mark: &'static str,
    metrics: Option<TraceMetrics>,
}

impl Log {
    /// Nothing yet. Times count from now.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it reads the clock")]
    pub fn new() -> Self {
        let begun = weald_runtime::time::Instant::now().as_nanos();
        let (connections, lines, clients) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self(Arc::new(Mutex::new(Collected { begun, connections, lines, clients })))
    }

    fn lock(&self) -> MutexGuard<'_, Collected> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many events of `side` have a line that begins with `verb` and has `text` in it. Verbs are those of the file: "sends",
    /// "receives", "drops", "loses", "timeout", "path", "state" and so on.
    #[must_use]
    pub fn count(&self, side: Side, verb: &str, text: &str) -> usize {
        self.find(side, verb, text).len()
    }

    /// Those events: when, and what the line says.
    #[must_use]
    pub fn find(&self, side: Side, verb: &str, text: &str) -> Vec<(Duration, String)> {
        let collected = self.lock();
        let of_side = collected.lines.iter().filter(|line| line.side == side);
        let all = of_side.map(|line| match &line.what {
            What::Sent { packet, .. } => (line.time, "sends", packet),
            What::Other(verb, text) => (line.time, *verb, text),
        });
        let found = all.filter(|(_, own, line)| *own == verb && line.contains(text));
        found.map(|(time, _, line)| (Duration::from_nanos(time - collected.begun), line.clone())).collect()
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Log({} lines)", self.lock().lines.len())
    }
}

impl TraceFactory for Log {
    fn build(&self, start: TraceStart) -> Option<Box<dyn Trace>> {
        let mut collected = self.lock();
        let known = collected.connections.iter().position(|id| *id == start.original);
        let connection = known.unwrap_or_else(|| {
            collected.connections.push(start.original);
            collected.connections.len() - 1
        });
        if start.side == Side::Server {
            collected.clients.insert(connection, start.remote);
        }
        drop(collected);
        Some(Box::new(Watch { log: self.clone(), connection, start, mark: "", metrics: None }))
    }
}

impl Trace for Watch {
    fn event(&mut self, now: weald_quic::time::Instant, event: &TraceEvent<'_>) {
        let what = match event {
            // The packets in it say the rest.
            TraceEvent::DatagramReceived { ecn, .. } => {
                self.mark = mark(*ecn);
                return;
            }
            TraceEvent::Received(packet) => What::Other("receives", format!("{packet}{}", self.mark)),
            TraceEvent::Kept { packet_type, size } => {
                What::Other("keeps", format!("{packet_type} of {size} bytes, until its keys are there"))
            }
            TraceEvent::Dropped { size, reason } => What::Other("drops", format!("{size} bytes: {reason}")),
            TraceEvent::Sent(packet) => What::Sent { packet: packet.to_string(), way: Way::Open },
            TraceEvent::DatagramSent { size, ecn } => {
                let (connection, side) = (self.connection, self.start.side);
                let departure = Departure { to: self.start.remote, size: *size };
                let mut collected = self.log.lock();
                let own = collected.lines.iter_mut().rev().filter(|line| line.connection == connection && line.side == side);
                // Those that went out since the last datagram, beginning with the last.
                let mut next = Way::Datagram(departure);
                for line in own {
                    match &mut line.what {
                        What::Sent { packet, way: way @ Way::Open } => {
                            packet.push_str(mark(*ecn));
                            *way = std::mem::replace(&mut next, Way::WithNext);
                        }
                        What::Sent { .. } | What::Other(..) => break,
                    }
                }
                return;
            }
            TraceEvent::Lost { packet_type, number } => What::Other("loses", format!("{packet_type} {number}")),
            TraceEvent::PersistentCongestion => What::Other("path", "persistent congestion".to_owned()),
            TraceEvent::Metrics(metrics) => {
                if self.metrics.replace(*metrics) == Some(*metrics) {
                    return;
                }
                let TraceMetrics { congestion_window: window, bytes_in_flight, rtt, .. } = metrics;
                What::Other("path", format!("window {window}, in flight {bytes_in_flight}, RTT {:.3} ms", rtt.as_secs_f64() * 1e3))
            }
            TraceEvent::Timeout(timer) => What::Other("timeout", timer.to_string()),
            TraceEvent::VersionChanged(version) => What::Other("goes by", version.to_string()),
            TraceEvent::Retry => What::Other("receives", "Retry".to_owned()),
            TraceEvent::KeysUpdated { updates } => What::Other("keys", format!("update {updates}")),
            TraceEvent::State(state) => What::Other("state", state.to_string()),
            other => What::Other("event", format!("{other:?}")),
        };
        let line = Line { time: now.as_nanos(), connection: self.connection, side: self.start.side, what };
        self.log.lock().lines.push(line);
    }
}

fn mark(ecn: Option<EcnMark>) -> &'static str {
    match ecn {
        None => "",
        Some(EcnMark::Ect0) => " ECT(0)",
        Some(EcnMark::Ect1) => " ECT(1)",
        Some(EcnMark::Ce) => " CE",
    }
}

/// Writes `target/traces/NAME-SEED.txt`, which begins with `title`, and says where that is.
///
/// # Errors
///
/// The file cannot be written.
pub fn write(name: &str, seed: u64, title: &str, log: &Log, network: &[TraceEntry]) -> io::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/traces");
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{name}-{seed}.txt"));
    fs::write(&path, format!("# {title}\n# seconds, who (connection), what, and what became of it\n{}", lines(log, network)))?;
    Ok(path)
}

/// One line an event.
#[must_use]
pub fn lines(log: &Log, network: &[TraceEntry]) -> String {
    let collected = log.lock();
    let mut passages = Passages::new(network);
    // By time; what connections did stands before what the network alone has to tell.
    let mut all: Vec<(u64, String)> = Vec::new();
    for Line { time, connection, side, what } in &collected.lines {
        let text = match what {
            What::Other(verb, text) => format!("{verb:<8}  {text}"),
            What::Sent { packet, way } => {
                let fate = match way {
                    Way::Open => None,
                    Way::WithNext => Some("in one datagram with the next".to_owned()),
                    Way::Datagram(datagram) => passages.find(*time, datagram, *side, collected.clients.get(connection)),
                };
                let fate = fate.unwrap_or_else(|| "what became of it is not known".to_owned());
                format!("{:<8}  {packet}  -- {fate}", "sends")
            }
        };
        let who = format!("{side} {}", connection + 1);
        all.push((*time, format!("{who:<10} {text}")));
    }
    for (time, text) in passages.rest() {
        all.push((time, format!("{:<10} {text}", "network")));
    }
    all.sort_by_key(|(time, _)| *time);
    let mut text = String::new();
    for (time, line) in all {
        writeln!(text, "{}  {line}", Seconds(time.saturating_sub(collected.begun))).expect("a string takes all");
    }
    text
}

/// Ways of datagrams through the network, from the entries that tell of them.
struct Passages {
    /// By when they left, where they went, and their size. In the order of leaving.
    departed: BTreeMap<(u64, SocketAddr, usize), VecDeque<Passage>>,
    /// What happened where they arrived, but for what a connection took in.
    arrived: Vec<TraceEntry>,
}

struct Passage {
    from: SocketAddr,
    text: String,
    /// A connection has a line for it.
    told: bool,
}

impl Passages {
    fn new(network: &[TraceEntry]) -> Self {
        let mut departed: BTreeMap<_, VecDeque<Passage>> = BTreeMap::new();
        let mut arrived = Vec::new();
        let mut marks = String::new();
        for entry in network {
            let TraceEntry { time, from, to, size, verdict, .. } = *entry;
            let after = |arrival: weald_runtime::time::Instant| Seconds(arrival.as_nanos() - time.as_nanos()).short();
            let fate = match verdict {
                // What is said of a datagram before its fate.
                Verdict::Corrupted => {
                    marks.push_str("a bit flipped, ");
                    continue;
                }
                Verdict::Marked => {
                    marks.push_str("marked \"congestion experienced\", ");
                    continue;
                }
                Verdict::Bleached => {
                    marks.push_str("its ECN mark erased, ");
                    continue;
                }
                Verdict::Sent { arrival } => format!("arrives in {}", after(arrival)),
                Verdict::Reordered { arrival } => format!("held back, arrives in {}", after(arrival)),
                Verdict::Duplicated { .. } => {
                    let last = departed.get_mut(&(time.as_nanos(), to, size)).and_then(VecDeque::back_mut);
                    if let Some(last) = last {
                        last.text.push_str(", twice");
                    }
                    continue;
                }
                Verdict::Lost => "LOST".to_owned(),
                Verdict::TooLong => "LOST: longer than the link's MTU".to_owned(),
                Verdict::QueueFull => "LOST: the link's queue is full".to_owned(),
                Verdict::Blackholed => "LOST in a blackhole".to_owned(),
                Verdict::Partitioned => "LOST: the network is partitioned".to_owned(),
                _ => {
                    arrived.push(*entry);
                    continue;
                }
            };
            let text = std::mem::take(&mut marks) + &fate;
            departed.entry((time.as_nanos(), to, size)).or_default().push_back(Passage { from, text, told: false });
        }
        Self { departed, arrived }
    }

    /// The way of a datagram that `side` sent. All packets in it have the same.
    fn find(&mut self, time: u64, datagram: &Departure, side: Side, client: Option<&SocketAddr>) -> Option<String> {
        let left = self.departed.get_mut(&(time, datagram.to, datagram.size))?;
        // Clients do not know their own port, but their servers do.
        let is_own = |passage: &Passage| side == Side::Server || client.is_none_or(|client| *client == passage.from);
        let passage = left.iter_mut().find(|passage| !passage.told && is_own(passage))?;
        passage.told = true;
        Some(passage.text.clone())
    }

    /// What no line of a connection has told.
    fn rest(self) -> impl Iterator<Item = (u64, String)> {
        let departed = self.departed.into_iter().flat_map(|((time, to, size), passages)| {
            let untold = passages.into_iter().filter(|passage| !passage.told);
            untold.map(move |Passage { from, text, .. }| (time, format!("{from} > {to}  {size} bytes: {text}")))
        });
        let arrived = self.arrived.into_iter().filter_map(|TraceEntry { time, from, to, size, verdict, .. }| {
            let happened = match verdict {
                Verdict::Delivered => return None,
                Verdict::Unreachable => "LOST: nobody is there".to_owned(),
                Verdict::BufferFull => "LOST: the receiver's buffer is full".to_owned(),
                Verdict::HostDown => "LOST: the host is down".to_owned(),
                other => format!("{other:?}"),
            };
            Some((time.as_nanos(), format!("{from} > {to}  {size} bytes: {happened}")))
        });
        departed.chain(arrived)
    }
}

/// Nanoseconds, as seconds to the microsecond.
struct Seconds(u64);

impl Seconds {
    fn short(&self) -> String {
        format!("{:.3} ms", self.0 as f64 / 1e6)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>13.6}", self.0 as f64 / 1e9)
    }
}
