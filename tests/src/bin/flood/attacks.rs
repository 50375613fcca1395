//! The attacks: what each sends, and how fast. An attack goes on until its process is told to end.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;
use weald_crypto::{ClientConfig, NamedGroup};
use weald_quic::{
    CidSequence, ConnectionId, ResetToken, StreamId, VarInt,
    codec::{Crypto, NewConnectionId, PathChallenge, Ping, Stream},
};
use weald_runtime::{net::UdpSocket, sleep, spawn, time::Instant};
use weald_tests::attacker::{AckPolicy, Attacker, Kind, PacketBuilder, Stage};

use crate::server::LARGE;

/// An attack by name.
pub struct Attack {
    pub name: &'static str,
    /// Packets a second, unless another rate is asked for. What they cost the server differs by attack.
    pub rate: u32,
    does: Does,
}

/// What an attack does.
enum Does {
    /// Datagrams of nobody, each from a datagram's number and a generator.
    Datagrams(fn(&mut Stranger) -> Vec<u8>),
    /// Packets on so many connections, each from its number on the connection.
    Packets { connections: u16, acks: bool, packet: for<'a> fn(PacketBuilder<'a>, u64) -> PacketBuilder<'a> },
}

/// All of them. The comments name where each was seen.
pub const ATTACKS: &[Attack] = &[
    // OpenSSL CVE-2026-14456: handshakes that are begun and never go on, each from an id of its own.
    Attack { name: "initials", rate: 1000, does: Does::Datagrams(Stranger::initial) },
    // Initial packets that do not authenticate.
    Attack { name: "forged-initials", rate: 5000, does: Does::Datagrams(Stranger::forged_initial) },
    // quiche CVE-2024-1765, s2n-quic GHSA-9q54: sparse CRYPTO data of handshakes whose first byte never comes.
    Attack { name: "crypto-gaps", rate: 1000, does: Does::Datagrams(Stranger::crypto_gaps) },
    // 0-RTT packets for ids that nobody has.
    Attack { name: "early-data", rate: 10_000, does: Does::Datagrams(Stranger::early_data) },
    // LSQUIC CVE-2025-54939: an Initial with packets for other ids behind it.
    Attack { name: "coalesced", rate: 1000, does: Does::Datagrams(Stranger::coalesced) },
    // quinn CVE-2026-25800: one byte at every other offset, the first withheld.
    Attack { name: "stream-pieces", rate: 2000, does: Does::Packets { connections: 16, acks: true, packet: stream_pieces } },
    // OpenSSL CVE-2026-54873: large datagrams of which one byte is kept.
    Attack { name: "pinned", rate: 5000, does: Does::Packets { connections: 16, acks: true, packet: pinned } },
    // CoreDNS CVE-2025-47950: as many requests as are allowed, none of which ends.
    Attack { name: "open-requests", rate: 2000, does: Does::Packets { connections: 16, acks: true, packet: open_request } },
    // Unbound CVE-2026-55991: answers that nobody reads or acknowledges.
    Attack { name: "unread-answers", rate: 500, does: Does::Packets { connections: 16, acks: false, packet: unread_answer } },
    // quic-go CVE-2024-22189, quiche CVE-2024-1410: ids that retire each other. Without ACKs for the answers the server ends the
    // connection after a few, so they are acknowledged.
    Attack { name: "connection-ids", rate: 5000, does: Does::Packets { connections: 16, acks: true, packet: connection_ids } },
    // quic-go CVE-2023-49295, quiche CVE-2023-6193: challenges, and no ACK for the answers.
    Attack { name: "path-challenges", rate: 5000, does: Does::Packets { connections: 16, acks: false, packet: path_challenges } },
    // h2, curl CVE-2026-11352: STREAM frames without data.
    Attack { name: "empty-frames", rate: 5000, does: Does::Packets { connections: 16, acks: true, packet: empty_frames } },
    // Packets that want an ACK each and carry nothing.
    Attack { name: "pings", rate: 10_000, does: Does::Packets { connections: 16, acks: true, packet: pings } },
];

/// Packets after which a connection is left and another begun, so that new ones keep coming.
const PACKETS_A_CONNECTION: u64 = 20_000;
/// How long an attacker waits whose handshake failed or whose connection the server ended: what handshakes cost is shown by others.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a sender looks whether it is behind.
const TICK: Duration = Duration::from_millis(2);
/// Sockets of strangers: each datagram comes from another.
const SOCKETS: usize = 256;
/// Streams that a client may open at once by default.
const STREAMS: u64 = 100;

/// The names, for the command line.
pub fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(ATTACKS.iter().map(|attack| attack.name))
}

/// A running attack, in a process of its own: it ends with this value.
pub struct Attacking {
    process: Child,
}

impl Attacking {
    /// Starts this program again, to attack `server`.
    pub fn start(attack: &Attack, server: SocketAddr, rate: u32) -> Result<Self> {
        let process = Command::new(std::env::current_exe()?)
            .args(["--attack", attack.name, "--only-attack", &server.to_string(), "--rate", &rate.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the attacker")?;
        Ok(Self { process })
    }

    /// Ends it, and says how many packets it has sent.
    pub fn stop(mut self) -> Result<u64> {
        drop(self.process.stdin.take());
        let mut said = String::new();
        if let Some(output) = self.process.stdout.take() {
            BufReader::new(output).read_line(&mut said)?;
        }
        said.trim().parse().with_context(|| format!("the attacker says {said:?} instead of a count"))
    }
}

impl Drop for Attacking {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Attack {
    /// Attacks until standard input ends, and prints how many packets went out.
    pub fn run(&self, server: SocketAddr, rate: u32) {
        let sent = Arc::new(AtomicU64::new(0));
        match self.does {
            Does::Datagrams(make) => {
                let pace = Pace::new(rate.into(), Arc::clone(&sent));
                spawn(move || Stranger::new(server).send_all(make, pace));
            }
            Does::Packets { connections, acks, packet } => {
                for number in 0..connections {
                    let pace = Pace::new(f64::from(rate) / f64::from(connections), Arc::clone(&sent));
                    // One after the other is replaced, so that what they hold together stays the same.
                    let used = PACKETS_A_CONNECTION * u64::from(number) / u64::from(connections);
                    spawn(move || attack_on_connections(server, (number, used), acks, packet, pace));
                }
            }
        }
        weald_runtime::unblock(|| std::io::stdin().read_to_end(&mut Vec::new())).ok();
        println!("{}", sent.load(Ordering::Relaxed));
        // Senders never end by themselves.
        std::process::exit(0);
    }
}

/// When the next packet is due.
struct Pace {
    rate: f64,
    begin: Instant,
    due: f64,
    sent: Arc<AtomicU64>,
}

impl Pace {
    fn new(rate: f64, sent: Arc<AtomicU64>) -> Self {
        Self { rate, begin: Instant::now(), due: 0.0, sent }
    }

    /// Waits until packets are due, and says how many. What was missed is made up for, up to a hundredth of a second.
    fn wait(&mut self) -> u32 {
        loop {
            let until_now = self.begin.elapsed().as_secs_f64() * self.rate;
            self.due = self.due.max(until_now - (self.rate / 100.0).max(1.0));
            let due = (until_now - self.due).floor();
            if due >= 1.0 {
                self.due += due;
                self.sent.fetch_add(due as u64, Ordering::Relaxed);
                return due as u32;
            }
            sleep(TICK);
        }
    }
}

fn tls() -> ClientConfig {
    let tls = ClientConfig::builder().alpn([b"hq-interop"]).dangerous_skip_verification().groups([NamedGroup::X25519]);
    tls.build().expect("a valid configuration")
}

fn any_port(server: SocketAddr) -> SocketAddr {
    let mut address = server;
    address.set_port(0);
    address
}

/// Somebody whom the server has never seen, datagram by datagram.
struct Stranger {
    server: SocketAddr,
    sockets: Vec<UdpSocket>,
    hello: Vec<u8>,
    attacker: Option<Attacker>,
    rng: fastrand::Rng,
}

impl Stranger {
    fn new(server: SocketAddr) -> Self {
        let sockets = (0..SOCKETS).map(|_| UdpSocket::bind(any_port(server)).expect("a free port")).collect();
        // One ClientHello serves all: what it costs the server is the same.
        let (told, hello) = std::sync::mpsc::channel();
        let mut first = Attacker::client(1, any_port(server), server).client_tls(tls()).crypto(move |_, message| {
            let _ = told.send(message.clone());
        });
        first.handshake(Stage::HelloSent);
        let hello = hello.recv().expect("a ClientHello");
        Self { server, sockets, hello, attacker: Some(first), rng: fastrand::Rng::new() }
    }

    fn send_all(mut self, make: fn(&mut Self) -> Vec<u8>, mut pace: Pace) {
        loop {
            for _ in 0..pace.wait() {
                let datagram = make(&mut self);
                let socket = &self.sockets[self.rng.usize(..SOCKETS)];
                // What is answered is of no interest; a full buffer drops it.
                let _ = socket.send_to(&datagram, self.server);
            }
        }
    }

    fn id(&mut self) -> [u8; 8] {
        self.rng.u64(..).to_be_bytes()
    }

    /// A packet of a connection that begins with it.
    fn first_packet(&mut self, with: impl FnOnce(PacketBuilder<'_>, &[u8], &mut fastrand::Rng) -> Vec<u8>) -> Vec<u8> {
        // The ClientHello names the source id: another would end the handshake before TLS begins.
        let destination = self.id();
        let mut attacker = self.attacker.take().expect("it is put back").destination(&destination);
        let datagram = with(attacker.packet(Kind::Initial).number(0), &self.hello, &mut self.rng);
        self.attacker = Some(attacker);
        datagram
    }

    fn initial(&mut self) -> Vec<u8> {
        self.first_packet(|packet, hello, _| packet.frame(&Crypto { offset: 0, data: hello }).build())
    }

    fn forged_initial(&mut self) -> Vec<u8> {
        let mut datagram = self.initial();
        let last = datagram.len() - 1;
        datagram[last] ^= 1;
        datagram
    }

    fn crypto_gaps(&mut self) -> Vec<u8> {
        self.first_packet(|mut packet, _, rng| {
            for _ in 0..150 {
                // Within what servers take, the first byte never.
                packet = packet.frame(&Crypto { offset: 1 + 2 * rng.u64(..30_000), data: b"." });
            }
            packet.build()
        })
    }

    fn early_data(&mut self) -> Vec<u8> {
        let (source, destination) = (self.id(), self.id());
        let mut attacker = self.attacker.take().expect("it is put back").source(&source).destination(&destination);
        let datagram = attacker.packet(Kind::ZeroRtt).number(0).frame(&Ping).pad_to(1200).build();
        self.attacker = Some(attacker);
        datagram
    }

    fn coalesced(&mut self) -> Vec<u8> {
        let mut datagram = self.initial();
        for _ in 0..10 {
            let mut other = self.early_data();
            // A shorter length, so that the packets are many: the first byte, version, two ids and their lengths, then the length.
            let at = 1 + 4 + 1 + 8 + 1 + 8;
            other[at..at + 2].copy_from_slice(&(0x4000_u16 | 20).to_be_bytes());
            other.truncate(at + 2 + 20);
            datagram.extend_from_slice(&other);
        }
        datagram
    }
}

/// Connects, sends packets, and begins anew when it was enough, or some time after the server ended it. Of the first connection's
/// packets some are `used` up.
fn attack_on_connections(
    server: SocketAddr,
    (number, mut used): (u16, u64),
    acks: bool,
    packet: for<'a> fn(PacketBuilder<'a>, u64) -> PacketBuilder<'a>,
    mut pace: Pace,
) {
    for seed in u64::from(number).. {
        let mut attacker = Attacker::client(seed << 16, any_port(server), server).client_tls(tls());
        if attacker.try_handshake(Stage::Confirmed).is_err() {
            sleep(PAUSE);
            continue;
        }
        if !acks {
            attacker.acks(AckPolicy::Never);
        }
        let mut sent = 0;
        let enough = PACKETS_A_CONNECTION - std::mem::take(&mut used);
        while sent < enough && attacker.closed().is_none() {
            for _ in 0..pace.wait() {
                let _ = packet(attacker.packet(Kind::OneRtt), sent).send();
                sent += 1;
            }
            while attacker.next(Duration::ZERO).is_some() {}
        }
        if attacker.closed().is_some() {
            sleep(PAUSE);
        }
    }
}

fn stream(number: u64) -> StreamId {
    // RFC 9000, 2.1: bidirectional, of a client.
    StreamId::from(VarInt::try_from(number % STREAMS * 4).expect("a small number"))
}

fn stream_pieces(mut packet: PacketBuilder<'_>, number: u64) -> PacketBuilder<'_> {
    const PIECES: u64 = 150;
    for piece in 0..PIECES {
        // Each stream's window is filled before the next stream is begun.
        let place = number * PIECES + piece;
        let (id, offset) = (stream(place / 30_000), 1 + 2 * (place % 30_000));
        packet = packet.frame(&Stream { id, offset, fin: false, data: b"." });
    }
    packet
}

fn pinned(packet: PacketBuilder<'_>, number: u64) -> PacketBuilder<'_> {
    let frame = Stream { id: stream(number / 500), offset: 1 + 2 * (number % 500), fin: false, data: b"." };
    packet.frame(&frame).pad_to(1400)
}

fn open_request(packet: PacketBuilder<'_>, number: u64) -> PacketBuilder<'_> {
    // A byte at a time, and never the end of the line.
    packet.frame(&Stream { id: stream(number), offset: number / STREAMS, fin: false, data: b"G" })
}

fn unread_answer(packet: PacketBuilder<'_>, number: u64) -> PacketBuilder<'_> {
    packet.frame(&Stream { id: stream(number), offset: 0, fin: true, data: format!("GET {LARGE}\r\n").as_bytes() })
}

fn connection_ids(packet: PacketBuilder<'_>, number: u64) -> PacketBuilder<'_> {
    let next = number + 1;
    let sequence = CidSequence::from(next as u32);
    let id = ConnectionId::new(&next.to_be_bytes()).expect("eight bytes");
    let mut token = [0; 16];
    token[..8].copy_from_slice(&next.to_be_bytes());
    packet.frame(&NewConnectionId { sequence, retire_prior_to: sequence, id, reset_token: ResetToken::from(token) })
}

fn path_challenges(mut packet: PacketBuilder<'_>, number: u64) -> PacketBuilder<'_> {
    for challenge in number * 100..(number + 1) * 100 {
        packet = packet.frame(&PathChallenge(challenge.to_be_bytes()));
    }
    packet
}

fn empty_frames(mut packet: PacketBuilder<'_>, _: u64) -> PacketBuilder<'_> {
    for _ in 0..300 {
        packet = packet.frame(&Stream { id: stream(0), offset: 0, fin: false, data: b"" });
    }
    packet
}

fn pings(packet: PacketBuilder<'_>, _: u64) -> PacketBuilder<'_> {
    packet.frame(&Ping)
}
