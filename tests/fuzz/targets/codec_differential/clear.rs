//! A server of quinn-proto's whose packets are in the clear: its handshake takes two packets and no cryptography, so that what it makes of
//! frames can be seen for each input anew.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quinn_proto::crypto::{
    AeadKey, CryptoError, ExportKeyingMaterialError, HandshakeTokenKey, HeaderKey, HmacKey, KeyPair, Keys, PacketKey,
    ServerConfig as Crypto, Session, UnsupportedVersion,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{
    Connection, ConnectionError, ConnectionHandle, ConnectionId, ConnectionIdGenerator, DatagramEvent, Endpoint, EndpointConfig, Event,
    FrameStats, ServerConfig, Side, TransportConfig, TransportError,
};

/// The client's id.
pub const CLIENT: [u8; 8] = [0xc1; 8];

/// Types of frames that are counted apart.
pub const KINDS: usize = 22;

/// What it makes of a packet.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How many frames of each kind it read.
    pub counts: [u64; KINDS],
    /// The code with which it closed.
    pub error: Option<u64>,
    /// The datagrams that it sent then.
    pub sent: Vec<Vec<u8>>,
}

pub struct Server {
    endpoint: Endpoint,
    handle: ConnectionHandle,
    connection: Connection,
    now: Instant,
}

impl Server {
    /// A server that has shaken hands at `now`, and has nothing to say.
    pub fn established(now: Instant) -> Self {
        let mut config = EndpointConfig::new(Arc::new(Clear));
        config.cid_generator(|| Box::new(Counter(0))).rng_seed(Some([7; 32]));
        let mut server = ServerConfig::new(Arc::new(Clear), Arc::new(Clear));
        let mut transport = TransportConfig::default();
        transport.mtu_discovery_config(None);
        server.transport_config(Arc::new(transport));
        let mut endpoint = Endpoint::new(Arc::new(config), Some(Arc::new(server)), false, None);

        // An Initial with some CRYPTO.
        let mut initial = long(0xc0, &[0xdd; 8], 1200);
        initial.extend([0x06, 0, 4, 1, 2, 3, 4]);
        initial.resize(1200, 0);
        let event = endpoint.handle(now, address(), None, None, BytesMut::from(&initial[..]), &mut Vec::new());
        let Some(DatagramEvent::NewConnection(incoming)) = event else { panic!("a new connection") };
        let Ok((handle, connection)) = endpoint.accept(incoming, now, &mut Vec::new(), None) else { panic!("accepted") };
        let mut server = Self { endpoint, handle, connection, now };
        // A Handshake packet with PING.
        let mut handshake = long(0xe0, &[1; 8], 100);
        handshake.push(0x01);
        handshake.resize(100, 0);
        server.receive(&handshake);
        server.transmit();
        assert!(!server.connection.is_handshaking() && !server.connection.is_closed());
        while server.connection.poll().is_some() {}
        server
    }

    /// What it makes of a 1-RTT packet.
    pub fn feed(mut self, payload: &[u8]) -> Verdict {
        let before = counts(&self.connection.stats().frame_rx);
        let mut packet = vec![0x43];
        packet.extend([1; 8]);
        packet.extend([0; 4]);
        packet.extend(payload);
        self.receive(&packet);
        let mut sent = self.transmit();
        let mut counts = counts(&self.connection.stats().frame_rx);
        counts.iter_mut().zip(before).for_each(|(count, before)| *count -= before);
        let mut error = None;
        while let Some(event) = self.connection.poll() {
            if let Event::ConnectionLost { reason: ConnectionError::TransportError(reason) } = event {
                error = Some(u64::from(reason.code));
            }
        }
        // What it has put off.
        self.now += Duration::from_millis(30);
        if self.connection.poll_timeout().is_some_and(|at| at <= self.now) {
            self.connection.handle_timeout(self.now);
        }
        sent.extend(self.transmit());
        Verdict { counts, error, sent }
    }

    fn receive(&mut self, datagram: &[u8]) {
        let event = self.endpoint.handle(self.now, address(), None, None, BytesMut::from(datagram), &mut Vec::new());
        let Some(DatagramEvent::ConnectionEvent(_, event)) = event else { panic!("a packet of the connection") };
        self.connection.handle_event(event);
    }

    fn transmit(&mut self) -> Vec<Vec<u8>> {
        while let Some(event) = self.connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                self.connection.handle_event(event);
            }
        }
        let mut sent = Vec::new();
        loop {
            let mut buf = Vec::new();
            if self.connection.poll_transmit(self.now, 1, &mut buf).is_none() {
                return sent;
            }
            sent.push(buf);
            assert!(sent.len() < 100, "it sends without end");
        }
    }
}

/// Which of the counts a type of frame has. `None` for PADDING, which nobody counts.
pub fn kind(frame_type: u64) -> Option<usize> {
    Some(match frame_type {
        0x01 => 0,
        0x02 | 0x03 => 1,
        0x04..=0x07 => frame_type as usize - 2,
        0x08..=0x0f => 6,
        0x10..=0x1b => frame_type as usize - 9,
        0x1c | 0x1d => 19,
        0x1e => 20,
        0x30 | 0x31 => 21,
        _ => return None,
    })
}

fn counts(stats: &FrameStats) -> [u64; KINDS] {
    [
        stats.ping,
        stats.acks,
        stats.reset_stream,
        stats.stop_sending,
        stats.crypto,
        stats.new_token,
        stats.stream,
        stats.max_data,
        stats.max_stream_data,
        stats.max_streams_bidi,
        stats.max_streams_uni,
        stats.data_blocked,
        stats.stream_data_blocked,
        stats.streams_blocked_bidi,
        stats.streams_blocked_uni,
        stats.new_connection_id,
        stats.retire_connection_id,
        stats.path_challenge,
        stats.path_response,
        stats.connection_close,
        stats.handshake_done.into(),
        stats.datagram,
    ]
}

fn address() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 4433))
}

/// A long header up to the packet number, which is 0 in one byte, of a packet that makes the datagram `len` bytes long.
fn long(first: u8, destination: &[u8; 8], len: usize) -> Vec<u8> {
    let mut packet = vec![first, 0, 0, 0, 1, 8];
    packet.extend(destination);
    packet.push(8);
    packet.extend(CLIENT);
    if first == 0xc0 {
        packet.push(0);
    }
    let rest = (len - packet.len() - 2) as u16;
    packet.extend((0x4000 | rest).to_be_bytes());
    packet.push(0);
    packet
}

/// Ids 1, 2, 3, ...
struct Counter(u8);

impl ConnectionIdGenerator for Counter {
    fn generate_cid(&mut self) -> ConnectionId {
        self.0 = self.0.wrapping_add(1);
        ConnectionId::new(&[self.0; 8])
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Keys that change nothing.
struct Clear;

fn keys() -> Keys {
    Keys {
        header: KeyPair { local: Box::new(Clear), remote: Box::new(Clear) },
        packet: KeyPair { local: Box::new(Clear), remote: Box::new(Clear) },
    }
}

impl HeaderKey for Clear {
    fn decrypt(&self, _: usize, _: &mut [u8]) {}

    fn encrypt(&self, _: usize, _: &mut [u8]) {}

    fn sample_size(&self) -> usize {
        0
    }
}

impl PacketKey for Clear {
    fn encrypt(&self, _: u64, _: &mut [u8], _: usize) {}

    fn decrypt(&self, _: u64, _: &[u8], _: &mut BytesMut) -> Result<(), CryptoError> {
        Ok(())
    }

    fn tag_len(&self) -> usize {
        0
    }

    fn confidentiality_limit(&self) -> u64 {
        u64::MAX
    }

    fn integrity_limit(&self) -> u64 {
        u64::MAX
    }
}

impl HmacKey for Clear {
    fn sign(&self, data: &[u8], signature: &mut [u8]) {
        signature.iter_mut().zip(data.iter().cycle()).for_each(|(to, from)| *to = *from);
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, _: &[u8], _: &[u8]) -> Result<(), CryptoError> {
        Ok(())
    }
}

impl HandshakeTokenKey for Clear {
    fn aead_from_hkdf(&self, _: &[u8]) -> Box<dyn AeadKey> {
        Box::new(Clear)
    }
}

impl AeadKey for Clear {
    fn seal(&self, _: &mut Vec<u8>, _: &[u8]) -> Result<(), CryptoError> {
        Ok(())
    }

    fn open<'a>(&self, data: &'a mut [u8], _: &[u8]) -> Result<&'a mut [u8], CryptoError> {
        Ok(data)
    }
}

impl Crypto for Clear {
    fn initial_keys(&self, _: u32, _: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        Ok(keys())
    }

    fn retry_tag(&self, _: u32, _: &ConnectionId, _: &[u8]) -> [u8; 16] {
        [0; 16]
    }

    fn start_session(self: Arc<Self>, _: u32, _: &TransportParameters) -> Box<dyn Session> {
        Box::new(NoTls { levels: 0 })
    }
}

/// A session that takes the client's first word for all it has to say.
struct NoTls {
    /// Levels above Initial whose keys were given out.
    levels: u8,
}

impl Session for NoTls {
    fn initial_keys(&self, _: &ConnectionId, _: Side) -> Keys {
        keys()
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        None
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        None
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        false
    }

    fn read_handshake(&mut self, _: &[u8]) -> Result<bool, TransportError> {
        Ok(false)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        // initial_max_data, initial_max_stream_data_*, initial_max_streams_*, active_connection_id_limit, max_datagram_frame_size,
        // initial_source_connection_id
        let mut bytes =
            vec![4, 2, 0x50, 0, 5, 2, 0x50, 0, 6, 2, 0x50, 0, 7, 2, 0x50, 0, 8, 1, 10, 9, 1, 10, 14, 1, 5, 0x20, 2, 0x44, 0, 15, 8];
        bytes.extend(CLIENT);
        Ok(Some(TransportParameters::read(Side::Server, &mut &bytes[..])?))
    }

    fn write_handshake(&mut self, _: &mut Vec<u8>) -> Option<Keys> {
        self.levels += 1;
        (self.levels <= 2).then(keys)
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        Some(keys().packet)
    }

    fn is_valid_retry(&self, _: &ConnectionId, _: &[u8], _: &[u8]) -> bool {
        false
    }

    fn export_keying_material(&self, _: &mut [u8], _: &[u8], _: &[u8]) -> Result<(), ExportKeyingMaterialError> {
        Err(ExportKeyingMaterialError)
    }
}
