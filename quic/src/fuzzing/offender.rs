//! A connection whose peer has the keys and keeps to nothing. A script says which packets it sends, at any level, with what frames, and
//! which of them are lost, late or repeated; how time passes; and what the application behind the victim does meanwhile. So what is fuzzed
//! lies behind the encryption.
//!
//! The offender is an honest connection whose packets are forged beside its own. It has opened all the streams it may, and permits the
//! victim as much as there is, so that it takes what the victim answers to the forgeries and goes on.

use std::time::Duration;

use super::application::{Application, pattern};
use super::bounds;
use super::model::Model;
use super::script::Script;
use super::{END, check_end, small};
use crate::config::TransportConfig;
use crate::connection::tests::pair::{Network, Node, Pair};
use crate::connection::tests::{forge, has_keys, is_address_validated};
use crate::error::ApplicationCode;
use crate::id::{CidSequence, ConnectionId, ResetToken};
use crate::recovery::SpaceId;
use crate::side::Side;
use crate::stream_id::{Direction, StreamId};
use crate::wire::frame::{
    Crypto, Datagram, EncodeFrame, MaxData, MaxStreamData, MaxStreams, NewConnectionId, PathChallenge, ResetStream, RetireConnectionId,
    StopSending, Stream,
};
use crate::wire::{VarInt, Writer};

/// Verbs of a script at most, so that one is not slower than it is worth.
const VERBS: usize = 100;
/// Packets of a verb at most.
const PACKETS: u8 = 32;
/// Room for frames in a packet of 1200 bytes, whatever its header.
const PAYLOAD: usize = 1100;

/// What becomes of the packets of a verb.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Arrive,
    /// Every second one is lost.
    Gaps,
    /// They come later, the last one first.
    Late,
    Twice,
}

struct World {
    pair: Pair,
    /// The client offends the server, or the server the client.
    offender: Side,
    config: TransportConfig,
    application: Application,
    model: Model,
    /// The victim's largest congestion window so far.
    window: u64,
    late: Vec<(SpaceId, Vec<u8>, Vec<u8>)>,
    /// The highest sequence number of a connection id so far.
    issued: u32,
}

/// Runs a script. Its first byte chooses the victim and whether the handshake is over when it begins.
pub fn connection(input: &[u8]) {
    let mut script = Script::new(input);
    let mut world = World::new(script.u8());
    for _ in 0..VERBS {
        if script.is_over() {
            break;
        }
        world.step(&mut script);
        world.check();
    }
    world.application.eager = true;
    world.pair.network = Network::CLEAN;
    world.pair.run(END, |pair| pair.client.dropped && pair.server.dropped);
    world.check();
    check_end(&world.pair);
}

impl World {
    fn new(choice: u8) -> Self {
        let offender = if choice & 1 == 0 { Side::Client } else { Side::Server };
        let seed = u64::from(choice >> 2 & 3);
        let generous = TransportConfig::default().max_streams_bi(1000).max_streams_uni(1000).datagrams(true);
        let config = small();
        let (client, server) = if offender.is_client() { (generous, config.clone()) } else { (config.clone(), generous) };
        // A server that has more to say than it may before it knows who listens.
        let is_early = choice & 2 != 0;
        let mut pair = Pair::with(seed, Network::CLEAN, client, server, if is_early { 8 } else { 0 });
        pair.server.lets_one_in = true;
        if !is_early {
            assert!(pair.run(Duration::from_secs(5), |pair| pair.client.confirmed && pair.server.confirmed));
        }
        let mut world = Self {
            pair,
            offender,
            application: Application::new(!offender, false),
            model: Model::new(offender, &config),
            window: 0,
            late: Vec::new(),
            // As many as the victim takes.
            issued: u32::from(config.limits.connection_ids) - 1,
            config,
        };
        world.victim().deaf = true;
        world
    }

    fn victim(&mut self) -> &mut Node {
        if self.offender.is_client() { &mut self.pair.server } else { &mut self.pair.client }
    }

    fn offender(&mut self) -> &mut Node {
        if self.offender.is_client() { &mut self.pair.client } else { &mut self.pair.server }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        let verb = script.u8();
        let fate = [Fate::Arrive, Fate::Gaps, Fate::Late, Fate::Twice][usize::from(verb >> 4 & 3)];
        let space = match verb >> 6 {
            0 if !self.has_confirmed() => SpaceId::Initial,
            1 if !self.has_confirmed() => SpaceId::Handshake,
            _ => SpaceId::Data,
        };
        match verb & 15 {
            0..=2 => {
                let amount = u64::from(script.u8());
                let unit = if verb & 0x70 == 0x70 { 20 } else { 1 };
                self.pair.run(Duration::from_millis(amount * unit), |_| false);
            }
            3..=5 => {
                let len = script.u8();
                let frames = script.bytes(len.into());
                self.send(space, frames, fate);
            }
            6..=10 => self.many(script, space, fate),
            11 | 12 => {
                let now = self.pair.now;
                let victim = if self.offender.is_client() { &mut self.pair.server } else { &mut self.pair.client };
                self.application.call(victim, now, script);
            }
            13 => {
                while let Some((space, frames, datagram)) = self.late.pop() {
                    self.deliver(space, &frames, &datagram);
                }
            }
            14 => {
                let percent = |byte: u8| u32::from(byte & 3) * 10;
                let faults = script.u8();
                self.pair.network = Network {
                    loss: percent(faults),
                    reorder: percent(faults >> 2),
                    duplicate: percent(faults >> 4),
                    corrupt: percent(faults >> 6),
                    ..Network::CLEAN
                };
            }
            _ if verb & 0x10 == 0 => {
                if let Some((_, connection)) = &mut self.offender().connection {
                    connection.update_keys();
                }
            }
            // As it stands: a stranger's.
            _ => {
                let len = script.u8();
                self.pair.deliver(self.offender.is_client(), script.bytes(len.into()));
            }
        }
    }

    /// Packets that are alike but for a number. Unless they are wild, each of them breaks no rule by itself, so that the connection lives
    /// to see the next.
    fn many(&mut self, script: &mut Script<'_>, space: SpaceId, fate: Fate) {
        let (kind, count, stream) = (script.u8(), script.u8() % PACKETS, script.u8());
        let (offset, stride, len) = (u64::from(script.u16()), u64::from(script.u8()), usize::from(script.u8()));
        let is_wild = kind & 0x70 == 0x70;
        let offset = if is_wild { offset } else { offset % 1024 };
        for i in 0..=u64::from(count) {
            let at = offset + i * stride;
            // The same stream, or the next; one that the victim sends on, if the frame is about that.
            let mask = if !is_wild && matches!(kind & 15, 10 | 11) { !0x40 } else { !0 };
            let id = self.stream(stream & mask, if kind & 0x80 == 0 { 0 } else { i }, is_wild);
            let code = ApplicationCode::from_u32(7);
            let data = pattern(id, at, if stride > 200 { 4 * len } else { len });
            let number = [kind, i as u8, stream, 4, 5, 6, 7, 8];
            let frames = match kind & 15 {
                0..=3 => frame(&Stream { id, offset: at, fin: kind & 0x40 != 0 && i == u64::from(count), data: &data }),
                4 => frame(&Crypto { offset: at, data: &data }),
                5 => frame(&Datagram { data: &data, has_length: true }),
                6 => {
                    let sequence = if is_wild { at as u32 } else { self.next_id() };
                    let retire_prior_to = CidSequence::from(sequence.saturating_sub(len as u32 & 3));
                    let Some(id) = ConnectionId::new(&[&sequence.to_be_bytes()[..], &number].concat()) else { return };
                    let sequence = CidSequence::from(sequence);
                    frame(&NewConnectionId { sequence, retire_prior_to, id, reset_token: ResetToken::from([len as u8; 16]) })
                }
                7 => frame(&RetireConnectionId { sequence: CidSequence::from(if is_wild { at as u32 } else { at as u32 % 3 }) }),
                8 => frame(&PathChallenge(number)),
                9 => frame(&ResetStream { id, code, final_size: at }),
                10 => frame(&StopSending { id, code }),
                11 => frame(&MaxStreamData { id, limit: at * 16 }),
                12 => frame(&MaxData { limit: at * 16 }),
                13 => frame(&MaxStreams { direction: id.direction(), limit: at }),
                // ACK of what the victim may have sent: one range, or two with a gap.
                14 if len & 3 == 0 => numbers(&[0x02, at % 32, len as u64, 0, (at % 32).min(stride)]),
                14 => numbers(&[0x02, 6 + at % 32, len as u64, 1, 0, stride & 3, (len as u64 & 3) - 1]),
                // PING and PADDING
                _ => [&[0x01][..], &vec![0; 4 * len]].concat(),
            };
            self.send(space, &frames, if fate == Fate::Gaps && i % 2 == 0 { Fate::Arrive } else { fate });
            self.check();
        }
    }

    fn has_confirmed(&mut self) -> bool {
        self.offender().confirmed
    }

    /// The sequence number of the next connection id, after those that the offender has issued honestly.
    fn next_id(&mut self) -> u32 {
        self.issued += 1;
        self.issued
    }

    /// A stream. Unless it is wild, one that the victim receives on, or that it has opened.
    fn stream(&self, choice: u8, further: u64, is_wild: bool) -> StreamId {
        let direction = if choice & 0x40 == 0 { Direction::Bi } else { Direction::Uni };
        let index = match choice & 0x20 {
            _ if is_wild => u64::from(choice & 15) + further,
            0 => (u64::from(choice) + further) % 4,
            // Beyond the first limit, to which the victim adds as streams end.
            _ => u64::from(choice & 3) + further,
        };
        let opened = self.application.opened[0];
        let (opener, direction, index) = match choice & 0x80 {
            0 => (self.offender, direction, index),
            _ if is_wild => (!self.offender, direction, index),
            _ if opened > 0 => (!self.offender, Direction::Bi, index % opened),
            _ => (self.offender, Direction::Bi, index),
        };
        StreamId::new(opener, direction, index).expect("a small index")
    }

    /// Sends a packet with these frames as the offender.
    fn send(&mut self, space: SpaceId, frames: &[u8], fate: Fate) {
        let now = self.pair.now;
        let Some((_, connection)) = &mut self.offender().connection else { return };
        if connection.is_closed() || !has_keys(connection, space) {
            return;
        }
        for direction in Direction::ALL {
            while connection.open(direction).is_some() {}
        }
        let frames = &frames[..frames.len().min(PAYLOAD)];
        let datagram = forge(connection, now, space, frames, if space == SpaceId::Initial { 1200 } else { 0 });
        match fate {
            Fate::Arrive => self.deliver(space, frames, &datagram),
            Fate::Gaps => {}
            Fate::Late => self.late.push((space, frames.to_vec(), datagram)),
            Fate::Twice => {
                self.deliver(space, frames, &datagram);
                // Nothing is left to do with it: a packet without frames would be an error.
                self.deliver(space, &[], &datagram);
            }
        }
    }

    /// Delivers a packet; the victim does with it what the model says.
    fn deliver(&mut self, space: SpaceId, frames: &[u8], datagram: &[u8]) {
        let to_server = self.offender.is_client();
        let victim = if to_server { &mut self.pair.server } else { &mut self.pair.client };
        let mut before = None;
        if let Some((_, connection)) = &mut victim.connection
            && connection.is_established()
            && space == SpaceId::Data
        {
            self.model.look(connection);
            before = Some(connection.stats());
        }
        self.pair.deliver(to_server, datagram);
        let victim = if to_server { &self.pair.server } else { &self.pair.client };
        if let (Some(before), Some((_, connection))) = (before, &victim.connection) {
            let after = connection.stats();
            let was_opened = after.packets_received > before.packets_received && after.packets_dropped == before.packets_dropped;
            if was_opened && let Some(why) = self.model.on_packet(frames, &self.application) {
                assert!(connection.is_closed(), "the connection goes on: {why}");
            }
        }
    }

    fn check(&mut self) {
        self.pair.flush();
        let to_server = self.offender.is_client();
        let victim = if to_server { &mut self.pair.server } else { &mut self.pair.client };
        self.application.work(victim);
        self.pair.flush();
        let victim = if to_server { &self.pair.server } else { &self.pair.client };
        if let Some((_, connection)) = &victim.connection {
            self.window = self.window.max(connection.stats().congestion_window);
            bounds::check(connection, &self.config, self.application.extent(self.window));
        }
        super::check(&self.pair);
        // RFC 9000 8.1
        let server = &self.pair.server;
        if let Some((_, connection)) = &server.connection
            && !is_address_validated(connection)
        {
            let (sent, received) = (server.sent_bytes, server.received_bytes);
            assert!(sent <= 3 * received, "{sent} bytes to an address that may be forged, for {received}");
        }
    }
}

fn frame(frame: &impl EncodeFrame) -> Vec<u8> {
    let mut bytes = vec![0; frame.size()];
    frame.encode(&mut Writer::new(&mut bytes));
    bytes
}

fn numbers(numbers: &[u64]) -> Vec<u8> {
    let mut bytes = vec![0; 8 * numbers.len()];
    let mut writer = Writer::new(&mut bytes);
    numbers.iter().for_each(|number| writer.put_varint(VarInt::saturating(*number)));
    writer.written().to_vec()
}

#[cfg(test)]
mod tests {
    #[test]
    fn connections_bear_any_script() {
        super::super::random_scripts(0..400, super::connection);
    }
}
