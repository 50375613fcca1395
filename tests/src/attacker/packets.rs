//! An attacker's packets: their keys, and how they are sealed, opened and put together piece by piece.

use weald_crypto::{DirectionKeys, HeaderKey, Keys, OneRttSecrets, PacketKey, PacketKeys, TAG_LEN, Version as CryptoVersion, initial_keys};
use weald_quic::codec::{
    EncodeFrame, LongHeader, LongType, ProtectedPacket, Reader, SAMPLE_LEN, ShortHeader, TruncatedPacketNumber, Writer,
};
use weald_quic::{ConnectionId, PacketNumber, Side, Version};
use weald_runtime::on_worker_stack;

use super::{Attacker, Kind};

/// RFC 9000, 14.1.
const FULL: usize = 1200;

/// The keys of one end.
pub(super) struct Protection {
    side: weald_crypto::Side,
    initial: Keys,
    /// Nobody else has these, unless there was an earlier connection.
    zero_rtt: DirectionKeys,
    handshake: Option<Keys>,
    one_rtt: Option<OneRtt>,
}

struct OneRtt {
    /// Of these only the header keys are used.
    headers: Keys,
    /// The next one is the last.
    generations: Vec<PacketKeys>,
    secrets: OneRttSecrets,
    /// The generation that seals.
    sealing: usize,
}

/// A packet that authenticated.
pub(super) struct Opened {
    pub(super) number: u64,
    pub(super) payload: Vec<u8>,
    pub(super) phase: bool,
}

/// What is in a packet's header, but for its length.
struct Header<'a> {
    kind: Kind,
    number: u64,
    first_byte: u8,
    spin: bool,
    phase: bool,
    token: &'a [u8],
    dcid: ConnectionId,
    scid: ConnectionId,
}

impl Protection {
    pub(super) fn new(side: Side, original: &[u8]) -> Self {
        let side = match side {
            Side::Client => weald_crypto::Side::Client,
            Side::Server => weald_crypto::Side::Server,
        };
        Self {
            side,
            initial: initial_keys(CryptoVersion::V1, original, side),
            zero_rtt: initial_keys(CryptoVersion::V1, b"no early data", side).local,
            handshake: None,
            one_rtt: None,
        }
    }

    /// Initial packets go to another id, as after a Retry.
    pub(super) fn begin_again(&mut self, destination: &[u8]) {
        self.initial = initial_keys(CryptoVersion::V1, destination, self.side);
    }

    pub(super) fn install_zero_rtt(&mut self, keys: DirectionKeys) {
        self.zero_rtt = keys;
    }

    pub(super) fn install_handshake(&mut self, keys: Keys) {
        self.handshake = Some(keys);
    }

    pub(super) fn install_one_rtt(&mut self, headers: Keys, secrets: OneRttSecrets) {
        let next = secrets.next();
        self.one_rtt = Some(OneRtt { headers, generations: vec![secrets.packet_keys(), next.packet_keys()], secrets: next, sealing: 0 });
    }

    /// Whether packets of that kind can be sealed.
    pub(super) fn has(&self, kind: Kind) -> bool {
        match kind {
            Kind::Initial | Kind::ZeroRtt => true,
            Kind::Handshake => self.handshake.is_some(),
            Kind::OneRtt => self.one_rtt.is_some(),
        }
    }

    /// Seals with the next generation from now on.
    ///
    /// # Panics
    ///
    /// Without 1-RTT keys.
    pub(super) fn update(&mut self) {
        let keys = self.one_rtt.as_mut().expect("1-RTT keys");
        keys.sealing += 1;
        keys.grow(keys.sealing);
    }

    fn phase(&self) -> bool {
        self.one_rtt.as_ref().is_some_and(|keys| keys.sealing % 2 == 1)
    }

    /// # Panics
    ///
    /// Without keys of that kind, and if the packet is longer than 16,383 bytes.
    fn seal(&self, header: &Header<'_>, payload: &[u8]) -> Vec<u8> {
        // Four bytes whatever the number, so that a packet without frames has a sample.
        let short = (header.number as u32).to_be_bytes();
        let short = TruncatedPacketNumber::decode(0b11, &mut Reader::new(&short)).expect("four bytes");
        let long = |long_type| LongHeader { long_type, version: Version::V1, dcid: header.dcid, scid: header.scid };
        let long = match header.kind {
            Kind::Initial => Some(long(LongType::Initial { token: header.token })),
            Kind::ZeroRtt => Some(long(LongType::ZeroRtt)),
            Kind::Handshake => Some(long(LongType::Handshake)),
            Kind::OneRtt => None,
        };
        let one_rtt = ShortHeader { dcid: header.dcid, spin: header.spin, key_phase: header.phase };
        let header_len = long.as_ref().map_or_else(|| one_rtt.size(short), |long| long.size(short));
        let mut packet = vec![0; header_len + payload.len() + TAG_LEN];
        let mut writer = Writer::new(&mut packet);
        let encoded = match long {
            Some(long) => long.encode(short, &mut writer),
            None => one_rtt.encode(short, &mut writer),
        };
        packet[0] ^= header.first_byte;
        encoded.set_length(&mut packet, payload.len() + TAG_LEN);
        packet[header_len..][..payload.len()].copy_from_slice(payload);
        let (plain, sealed) = packet.split_at_mut(header_len);
        let (sealed, tag) = sealed.split_at_mut(payload.len());
        let (packet_key, header_key) = self.sealing(header.kind);
        on_worker_stack(|| packet_key.seal(header.number, plain, sealed, &[], tag));
        let sample = *encoded.sample(&packet).expect("a number of four bytes and a tag");
        encoded.protect(&mut packet, on_worker_stack(|| header_key.mask(&sample)));
        packet
    }

    fn sealing(&self, kind: Kind) -> (&PacketKey, &HeaderKey) {
        let keys = match kind {
            Kind::Initial => &self.initial,
            Kind::ZeroRtt => return (&self.zero_rtt.packet, &self.zero_rtt.header),
            Kind::Handshake => self.handshake.as_ref().expect("Handshake keys"),
            Kind::OneRtt => {
                let keys = self.one_rtt.as_ref().expect("1-RTT keys");
                return (&keys.generations[keys.sealing].local, &keys.headers.local.header);
            }
        };
        (&keys.local.packet, &keys.local.header)
    }

    /// `None` if there is no key that opens it.
    pub(super) fn open(&mut self, packet: &ProtectedPacket<'_>, largest: Option<u64>) -> Option<Opened> {
        let keys = match packet.packet_type {
            Kind::Initial => &self.initial,
            Kind::Handshake => self.handshake.as_ref()?,
            Kind::OneRtt => &self.one_rtt.as_ref()?.headers,
            Kind::ZeroRtt => return None,
        };
        let sample: [u8; SAMPLE_LEN] = *packet.sample()?;
        let mask = on_worker_stack(|| keys.remote.header.mask(&sample));
        let mut header = Vec::new();
        let unprotected = packet.unprotect(mask, &mut header)?;
        let number = unprotected.packet_number.expand(largest.and_then(PacketNumber::new))?.as_u64();
        let sealed = packet.ciphertext(&unprotected);
        let mut payload = vec![0; sealed.len()];
        let mut open = |key: &PacketKey| on_worker_stack(|| key.open(number, &header, sealed, &mut payload)).ok();
        let len = if packet.packet_type == Kind::OneRtt {
            let keys = self.one_rtt.as_mut()?;
            // Any generation of that phase, the newest first: whether an update was in order is not for this end to judge.
            let generations = keys.generations.iter().enumerate().rev();
            let mut fitting = generations.filter(|(number, _)| (number % 2 == 1) == unprotected.key_phase());
            let (generation, len) = fitting.find_map(|(number, keys)| open(&keys.remote).map(|len| (number, len)))?;
            keys.grow(generation);
            len
        } else {
            open(&keys.remote.packet)?
        };
        payload.truncate(len);
        Some(Opened { number, payload, phase: unprotected.key_phase() })
    }
}

impl OneRtt {
    /// Makes the generation after this one.
    fn grow(&mut self, generation: usize) {
        while self.generations.len() <= generation + 1 {
            self.secrets = self.secrets.next();
            self.generations.push(self.secrets.packet_keys());
        }
    }
}

/// A packet in the making. Unless told otherwise it has the next number, the phase, token and ids of its peer, and an Initial packet is
/// padded to 1200 bytes.
#[must_use = "a packet is sent by `send`, or taken by `build`"]
pub struct PacketBuilder<'a> {
    peer: &'a mut Attacker,
    kind: Kind,
    payload: Vec<u8>,
    number: Option<u64>,
    first_byte: u8,
    spin: bool,
    phase: bool,
    token: Vec<u8>,
    dcid: ConnectionId,
    scid: ConnectionId,
    pad_to: usize,
}

impl<'a> PacketBuilder<'a> {
    pub(super) fn new(peer: &'a mut Attacker, kind: Kind) -> Self {
        let phase = peer.protection.phase();
        let token = peer.token.clone();
        let (dcid, scid) = (peer.destination, peer.source);
        let pad_to = if kind == Kind::Initial { FULL } else { 0 };
        Self { peer, kind, payload: Vec::new(), number: None, first_byte: 0, spin: false, phase, token, dcid, scid, pad_to }
    }

    /// Appends a frame.
    pub fn frame(mut self, frame: &dyn EncodeFrame) -> Self {
        let start = self.payload.len();
        self.payload.resize(start + frame.size(), 0);
        frame.encode(&mut Writer::new(&mut self.payload[start..]));
        self
    }

    /// Appends bytes as they are.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.payload.extend_from_slice(bytes);
        self
    }

    /// Takes this number instead of the next. What follows is numbered from there on.
    pub fn number(mut self, number: u64) -> Self {
        self.number = Some(number);
        self
    }

    /// Sets the key phase bit, and leaves the keys as they are.
    pub fn phase(mut self, phase: bool) -> Self {
        self.phase = phase;
        self
    }

    /// Sets the spin bit.
    pub fn spin(mut self, spin: bool) -> Self {
        self.spin = spin;
        self
    }

    /// Sets the reserved bits, 0 to 3.
    pub fn reserved(mut self, bits: u8) -> Self {
        // RFC 9000, 17.2 and 17.3.1.
        self.first_byte |= (bits & 0b11) << if self.kind == Kind::OneRtt { 3 } else { 2 };
        self
    }

    /// Clears the bit that is fixed (RFC 9000, 17.2; RFC 9287).
    pub fn without_fixed_bit(mut self) -> Self {
        self.first_byte |= 0x40;
        self
    }

    /// The token of an Initial packet.
    pub fn token(mut self, token: &[u8]) -> Self {
        self.token = token.to_vec();
        self
    }

    /// The id that the packet goes to.
    ///
    /// # Panics
    ///
    /// If it has more than 20 bytes.
    pub fn dcid(mut self, id: &[u8]) -> Self {
        self.dcid = ConnectionId::new(id).expect("at most 20 bytes");
        self
    }

    /// Pads the packet with PADDING to that many bytes.
    pub fn pad_to(mut self, len: usize) -> Self {
        self.pad_to = len;
        self
    }

    /// The packet's bytes.
    ///
    /// # Panics
    ///
    /// Without keys of its kind, and if it is longer than 16,383 bytes.
    #[must_use]
    pub fn build(self) -> Vec<u8> {
        self.finish().0
    }

    /// Sends the packet in a datagram of its own, and gives its number.
    ///
    /// # Panics
    ///
    /// As [`PacketBuilder::build`], and if there is no peer yet.
    pub fn send(self) -> u64 {
        let (packet, number, peer) = self.finish();
        peer.send(&packet);
        number
    }

    fn finish(self) -> (Vec<u8>, u64, &'a mut Attacker) {
        let Self { peer, kind, mut payload, first_byte, spin, phase, token, dcid, scid, pad_to, number } = self;
        let number = peer.take_number(kind, number);
        let header = Header { kind, number, first_byte, spin, phase, token: &token, dcid, scid };
        let mut packet = peer.protection.seal(&header, &payload);
        if packet.len() < pad_to {
            payload.resize(payload.len() + pad_to - packet.len(), 0);
            packet = peer.protection.seal(&header, &payload);
        }
        (packet, number, peer)
    }
}
