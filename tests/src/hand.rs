//! A QUIC peer made by hand, client or server, to show the other end what no honest peer sends.
//!
//! Owns its packets from the first byte to the last: it writes headers and frames itself and shares no code with
//! `weald-quic`, so that a mistake there is not made here too. TLS and packet keys are those of `weald-crypto`. Does not
//! own recovery: nothing is ever sent again, so it wants a network that loses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use weald_crypto::{Keys, Level, Session, Side, TAG_LEN, Terms, Version, initial_keys, simulation};
use weald_runtime::net::UdpSocket;
use weald_runtime::on_worker_stack;

use crate::world;

/// RFC 9000, 14.1.
pub const FULL: usize = 1200;

/// Bytes of the packet numbers that are sent, so that the sample for header protection is where the payload begins.
const NUMBER_LEN: usize = 4;
const LEVELS: [Level; 3] = [Level::Initial, Level::Handshake, Level::OneRtt];

/// A client or a server by hand.
pub struct HandPeer {
    side: Side,
    socket: UdpSocket,
    remote: SocketAddr,
    session: Session,
    /// Our connection id.
    pub source: Vec<u8>,
    /// The other end's, once it is known; before that, what a client made up.
    pub destination: Vec<u8>,
    keys: [Option<Keys>; 3],
    next_number: [u64; 3],
    received: [BTreeSet<u64>; 3],
    crypto: [BTreeMap<u64, Vec<u8>>; 3],
    crypto_read: [u64; 3],
    crypto_sent: [u64; 3],
    /// TLS is done.
    pub complete: bool,
    /// HANDSHAKE_DONE came, or was sent.
    pub confirmed: bool,
    /// The code of the CONNECTION_CLOSE that came, and whether it is the transport's.
    pub closed: Option<Closed>,
    /// The UDP payload that came in so far.
    pub bytes_received: usize,
    /// The UDP payload that went out so far.
    pub bytes_sent: usize,
}

/// What a CONNECTION_CLOSE frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Of the transport: code and frame type.
    Transport(u64, u64),
    /// Of the application.
    Application(u64),
}

/// Transport parameters that every server accepts from the client with id `source` (RFC 9000, 18.2).
pub fn parameters(source: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (id, value) in [(0x04, 1 << 20), (0x05, 1 << 20), (0x06, 1 << 20), (0x07, 1 << 20), (0x08, 100), (0x09, 100)] {
        let mut encoded = Vec::new();
        varint(&mut encoded, value);
        parameter(&mut out, id, &encoded);
    }
    parameter(&mut out, 0x0f, source);
    out
}

/// Appends one transport parameter (RFC 9000, 18).
pub fn parameter(out: &mut Vec<u8>, id: u64, value: &[u8]) {
    varint(out, id);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Appends a variable-length integer (RFC 9000, 16).
pub fn varint(out: &mut Vec<u8>, value: u64) {
    match value {
        0..0x40 => out.push(value as u8),
        0x40..0x4000 => out.extend_from_slice(&(value as u16 | 0x4000).to_be_bytes()),
        0x4000..0x4000_0000 => out.extend_from_slice(&(value as u32 | 0x8000_0000).to_be_bytes()),
        _ => out.extend_from_slice(&(value | 0xc000_0000_0000_0000).to_be_bytes()),
    }
}

/// Takes a variable-length integer off the front. Panics at the end: what is read comes from our own server.
fn take_varint(bytes: &mut &[u8]) -> u64 {
    let len = 1 << (bytes[0] >> 6);
    let value = bytes[..len].iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    *bytes = &bytes[len..];
    value & (u64::MAX >> (66 - 8 * len))
}

fn skip_varints(bytes: &mut &[u8], count: u64) {
    for _ in 0..count {
        take_varint(bytes);
    }
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (front, rest) = bytes.split_at(len);
    *bytes = rest;
    front
}

impl HandPeer {
    /// A client on a socket of its own at `address`, which has sent nothing yet. `parameters` makes its transport parameters
    /// from its connection id.
    pub fn new(seed: u64, address: SocketAddr, server: SocketAddr, parameters: impl FnOnce(&[u8]) -> Vec<u8>) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut id = || (0..8).map(|_| rng.u8(..)).collect::<Vec<_>>();
        let (source, destination) = (id(), id());
        let config = world::client_tls(seed);
        let session = Session::client(&config, Version::V1, simulation::SERVER_NAME, parameters(&source)).expect("a valid name");
        let socket = UdpSocket::bind(address).expect("a free address");
        Self::with(Side::Client, socket, server, session, source, destination.clone(), &destination)
    }

    /// A server at `address`, of the first client that comes. `parameters` makes its transport parameters from the client's
    /// first destination id and its own id. The client is answered by [`HandPeer::run`] or [`HandPeer::connect`].
    pub fn accept(seed: u64, address: SocketAddr, parameters: impl FnOnce(&[u8], &[u8]) -> Vec<u8>) -> Self {
        let socket = UdpSocket::bind(address).expect("a free address");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let mut first = vec![0; 2048];
        let (len, client) = socket.recv_from(&mut first).expect("a client comes");
        let mut at = &first[5..len];
        let mut id = || {
            let id_len = take(&mut at, 1)[0];
            take(&mut at, id_len.into()).to_vec()
        };
        let (original, destination) = (id(), id());
        let source: Vec<_> = fastrand::Rng::with_seed(seed).u64(..).to_be_bytes().to_vec();
        let session = Session::server(&world::server_tls(seed, 1), Version::V1, parameters(&original, &source), Terms::default());
        let mut peer = Self::with(Side::Server, socket, client, session, source, destination, &original);
        peer.bytes_received += len;
        peer.take_in(&first[..len]);
        peer
    }

    fn with(
        side: Side,
        socket: UdpSocket,
        remote: SocketAddr,
        session: Session,
        source: Vec<u8>,
        destination: Vec<u8>,
        original: &[u8],
    ) -> Self {
        let initial = initial_keys(Version::V1, original, side);
        Self {
            side,
            socket,
            remote,
            session,
            source,
            destination,
            keys: [Some(initial), None, None],
            next_number: [0; 3],
            received: Default::default(),
            crypto: Default::default(),
            crypto_read: [0; 3],
            crypto_sent: [0; 3],
            complete: false,
            confirmed: false,
            closed: None,
            bytes_received: 0,
            bytes_sent: 0,
        }
    }

    /// Where this client is.
    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("it is bound")
    }

    /// The datagram that begins a handshake: an Initial packet with the ClientHello, padded to 1200 bytes.
    pub fn first_flight(&mut self) -> Vec<u8> {
        let hello = self.hello();
        self.packet(Level::Initial, &hello, FULL)
    }

    /// The CRYPTO frame with the ClientHello.
    pub fn hello(&mut self) -> Vec<u8> {
        let output = self.advance(Vec::new());
        let [(Level::Initial, frame)] = &output[..] else { panic!("one ClientHello") };
        frame.clone()
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, datagram: &[u8]) {
        self.bytes_sent += datagram.len();
        self.socket.send_to(datagram, self.remote).expect("the network takes it");
    }

    /// Sends frames in a packet of their own.
    pub fn send_frames(&mut self, level: Level, frames: &[u8]) {
        let full = if level == Level::Initial { FULL } else { 0 };
        let datagram = self.packet(level, frames, full);
        self.send(&datagram);
    }

    /// Shakes hands until the server has confirmed it. Panics if it does not come to that.
    pub fn connect(&mut self) {
        if self.side == Side::Client {
            let first = self.first_flight();
            self.send(&first);
        }
        while !self.confirmed {
            assert!(self.receive(Duration::from_secs(5)), "the other end answers");
            assert_eq!(self.closed, None);
        }
    }

    /// Receives datagrams, and answers as the handshake wants it, until the other end closes the connection or says nothing for
    /// `patience`.
    pub fn run(&mut self, patience: Duration) -> Option<Closed> {
        while self.closed.is_none() && self.receive(patience) {}
        self.closed.clone()
    }

    /// Takes in one datagram and answers it. False if none came for `patience`.
    pub fn receive(&mut self, patience: Duration) -> bool {
        let Some(datagram) = self.receive_raw(patience) else { return false };
        self.take_in(&datagram);
        true
    }

    fn take_in(&mut self, datagram: &[u8]) {
        let mut rest = datagram;
        let mut eliciting = [false; 3];
        while !rest.is_empty() {
            let Some((level, payload)) = self.open(&mut rest) else { break };
            eliciting[level_index(level)] |= self.on_payload(level, &payload);
        }
        let input = self.take_crypto();
        let output = if input.is_empty() { Vec::new() } else { self.advance(input) };
        for level in LEVELS {
            let mut frames = Vec::new();
            if std::mem::take(&mut eliciting[level_index(level)]) && self.keys[level_index(level)].is_some() {
                frames = self.ack(level);
            }
            for (_, crypto) in output.iter().filter(|(of, _)| *of == level) {
                frames.extend_from_slice(crypto);
            }
            if !frames.is_empty() && self.closed.is_none() {
                self.send_frames(level, &frames);
            }
        }
        if self.side == Side::Server && self.complete && !self.confirmed {
            self.confirmed = true;
            self.send_frames(Level::OneRtt, &[0x1e]);
        }
    }

    /// Waits for a datagram, and does not look into it.
    pub fn receive_raw(&mut self, patience: Duration) -> Option<Vec<u8>> {
        self.socket.set_read_timeout(Some(patience)).expect("a timeout");
        let mut buffer = vec![0; 2048];
        let (len, from) = self.socket.recv_from(&mut buffer).ok()?;
        assert_eq!(from, self.remote);
        self.bytes_received += len;
        buffer.truncate(len);
        Some(buffer)
    }

    /// A packet with these frames, padded so that it is `full` bytes long at least.
    pub fn packet(&mut self, level: Level, frames: &[u8], full: usize) -> Vec<u8> {
        let number = self.next_number[level_index(level)];
        self.next_number[level_index(level)] += 1;
        self.packet_numbered(level, number, frames, full)
    }

    /// The same with any number.
    pub fn packet_numbered(&self, level: Level, number: u64, frames: &[u8], full: usize) -> Vec<u8> {
        let keys = self.keys[level_index(level)].as_ref().expect("keys of that level");
        let mut header = Vec::new();
        let is_long = level != Level::OneRtt;
        if is_long {
            let packet_type = if level == Level::Initial { 0 } else { 2 };
            header.push(0xc0 | packet_type << 4 | (NUMBER_LEN as u8 - 1));
            header.extend_from_slice(&Version::V1.number().to_be_bytes());
            for id in [&self.destination, &self.source] {
                header.push(id.len() as u8);
                header.extend_from_slice(id);
            }
            if level == Level::Initial {
                header.push(0);
            }
        } else {
            header.push(0x40 | (NUMBER_LEN as u8 - 1));
            header.extend_from_slice(&self.destination);
        }
        let length_at = header.len();
        let number_at = length_at + if is_long { 2 } else { 0 };
        let overhead = number_at + NUMBER_LEN + TAG_LEN;
        // Long enough that there is a sample, whatever the frames.
        let payload_len = frames.len().max(full.saturating_sub(overhead)).max(1);
        if is_long {
            header.extend_from_slice(&((NUMBER_LEN + payload_len + TAG_LEN) as u16 | 0x4000).to_be_bytes());
        }
        header.extend_from_slice(&(number as u32).to_be_bytes());
        let mut payload = frames.to_vec();
        payload.resize(payload_len, 0);
        let mut tag = [0; TAG_LEN];
        on_worker_stack(|| keys.local.packet.seal(number, &header, &mut payload, &[], &mut tag));
        let mut packet = header;
        packet.extend_from_slice(&payload);
        packet.extend_from_slice(&tag);
        let sample = packet[number_at + 4..number_at + 20].try_into().expect("sixteen bytes");
        let mask = on_worker_stack(|| keys.local.header.mask(&sample));
        packet[0] ^= mask[0] & if is_long { 0x0f } else { 0x1f };
        for (byte, mask) in packet[number_at..number_at + NUMBER_LEN].iter_mut().zip(&mask[1..]) {
            *byte ^= mask;
        }
        packet
    }

    /// One handshake step: gives CRYPTO frames to send.
    fn advance(&mut self, input: Vec<(Level, Vec<u8>)>) -> Vec<(Level, Vec<u8>)> {
        let session = &mut self.session;
        let step = on_worker_stack(|| session.advance(&input)).expect("the other end's handshake is in order");
        self.complete |= step.complete;
        for (level, keys) in step.keys {
            self.keys[level_index(level)] = Some(keys);
        }
        let mut frames = Vec::new();
        for (level, bytes) in step.output {
            let at = &mut self.crypto_sent[level_index(level)];
            let mut frame = vec![0x06];
            varint(&mut frame, *at);
            varint(&mut frame, bytes.len() as u64);
            frame.extend_from_slice(&bytes);
            *at += bytes.len() as u64;
            frames.push((level, frame));
        }
        frames
    }

    /// Opens the packet at the front. `None` if there is none for us, or no key for it.
    fn open(&mut self, rest: &mut &[u8]) -> Option<(Level, Vec<u8>)> {
        let datagram = *rest;
        let mut at = datagram;
        let first = take(&mut at, 1)[0];
        let (level, number_at, end) = if first & 0x80 == 0 {
            (Level::OneRtt, 1 + self.source.len(), datagram.len())
        } else {
            let level = match first >> 4 & 3 {
                0 => Level::Initial,
                2 => Level::Handshake,
                other => panic!("no long packet of type {other} is expected"),
            };
            assert_eq!(take(&mut at, 4), Version::V1.number().to_be_bytes());
            let destination = take(&mut at, 1)[0];
            let destination = take(&mut at, destination.into());
            // A client's first packets go to an id that it made up.
            assert!(destination == self.source || self.side == Side::Server);
            let source = take(&mut at, 1)[0];
            self.destination = take(&mut at, source.into()).to_vec();
            if level == Level::Initial {
                let token = take_varint(&mut at) as usize;
                assert!(token == 0 || self.side == Side::Server, "servers send no token");
                take(&mut at, token);
            }
            let length = take_varint(&mut at) as usize;
            let number_at = datagram.len() - at.len();
            (level, number_at, number_at + length)
        };
        *rest = &datagram[end..];
        let keys = self.keys[level_index(level)].as_ref()?;
        let mut packet = datagram[..end].to_vec();
        let sample = packet[number_at + 4..number_at + 20].try_into().expect("sixteen bytes");
        let mask = on_worker_stack(|| keys.remote.header.mask(&sample));
        packet[0] ^= mask[0] & if level == Level::OneRtt { 0x1f } else { 0x0f };
        let number_len = usize::from(packet[0] & 3) + 1;
        let mut short = 0_u64;
        for (byte, mask) in packet[number_at..number_at + number_len].iter_mut().zip(&mask[1..]) {
            *byte ^= mask;
            short = short << 8 | u64::from(*byte);
        }
        let number = expand(short, number_len, self.received[level_index(level)].last().copied());
        let (header, sealed) = packet.split_at(number_at + number_len);
        let mut payload = vec![0; sealed.len()];
        let opened = on_worker_stack(|| keys.remote.packet.open(number, header, sealed, &mut payload));
        payload.truncate(opened.expect("the other end's packets are sound"));
        self.received[level_index(level)].insert(number);
        Some((level, payload))
    }

    /// Says whether the payload elicits an acknowledgement.
    fn on_payload(&mut self, level: Level, mut payload: &[u8]) -> bool {
        let at = &mut payload;
        let mut eliciting = false;
        while !at.is_empty() {
            let frame_type = take_varint(at);
            eliciting |= !matches!(frame_type, 0x00 | 0x02 | 0x03 | 0x1c | 0x1d);
            match frame_type {
                0x00 | 0x01 => {}
                0x02 | 0x03 => {
                    skip_varints(at, 2);
                    let more = 2 * take_varint(at) + 1 + if frame_type == 0x03 { 3 } else { 0 };
                    skip_varints(at, more);
                }
                0x06 => {
                    let (offset, len) = (take_varint(at), take_varint(at));
                    let data = take(at, len as usize).to_vec();
                    self.crypto[level_index(level)].insert(offset, data);
                }
                // A token for another connection, which there is none of.
                0x07 => {
                    let len = take_varint(at);
                    take(at, len as usize);
                }
                0x08..0x10 => {
                    take_varint(at);
                    if frame_type & 4 != 0 {
                        take_varint(at);
                    }
                    let len = if frame_type & 2 != 0 { take_varint(at) as usize } else { at.len() };
                    take(at, len);
                }
                // Limits, and what is blocked by them.
                0x10 | 0x12 | 0x13 | 0x14 | 0x16 | 0x17 | 0x19 => skip_varints(at, 1),
                0x11 | 0x15 | 0x05 => skip_varints(at, 2),
                0x18 => {
                    skip_varints(at, 2);
                    let len = take(at, 1)[0];
                    take(at, usize::from(len) + 16);
                }
                0x1a | 0x1b => drop(take(at, 8)),
                0x1c => {
                    let (code, frame, len) = (take_varint(at), take_varint(at), take_varint(at));
                    take(at, len as usize);
                    self.closed = Some(Closed::Transport(code, frame));
                }
                0x1d => {
                    let (code, len) = (take_varint(at), take_varint(at));
                    take(at, len as usize);
                    self.closed = Some(Closed::Application(code));
                }
                0x1e => self.confirmed = true,
                other => panic!("no frame of type {other:#x} is expected"),
            }
        }
        eliciting
    }

    fn take_crypto(&mut self) -> Vec<(Level, Vec<u8>)> {
        let mut input = Vec::new();
        for level in LEVELS {
            let index = level_index(level);
            while let Some((&offset, _)) = self.crypto[index].range(..=self.crypto_read[index]).next() {
                let data = self.crypto[index].remove(&offset).expect("it was just found");
                let known = (self.crypto_read[index] - offset) as usize;
                if let Some(new) = data.get(known..).filter(|new| !new.is_empty()) {
                    self.crypto_read[index] += new.len() as u64;
                    input.push((level, new.to_vec()));
                }
            }
        }
        input
    }

    /// An ACK frame for the latest packets in a row.
    fn ack(&self, level: Level) -> Vec<u8> {
        let received = &self.received[level_index(level)];
        let largest = *received.last().expect("a packet came");
        let run = received.iter().rev().zip((0..=largest).rev()).take_while(|(number, expected)| *number == expected).count();
        let mut frame = vec![0x02];
        for value in [largest, 0, 0, run as u64 - 1] {
            varint(&mut frame, value);
        }
        frame
    }
}

fn level_index(level: Level) -> usize {
    match level {
        Level::Initial => 0,
        Level::Handshake => 1,
        Level::OneRtt => 2,
        Level::ZeroRtt => panic!("there is no early data here"),
    }
}

/// RFC 9000, appendix A.3.
fn expand(short: u64, len: usize, largest: Option<u64>) -> u64 {
    let expected = largest.map_or(0, |largest| largest + 1);
    let window = 1_u64 << (8 * len);
    let candidate = expected & !(window - 1) | short;
    if candidate + window / 2 <= expected {
        candidate + window
    } else if candidate > expected + window / 2 && candidate >= window {
        candidate - window
    } else {
        candidate
    }
}
