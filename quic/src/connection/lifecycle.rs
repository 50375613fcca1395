//! From the first packet to the last: handshake steps, key discards and updates, timers, Retry, the end.

use std::time::Duration;

use weald_crypto::{Level, Step};

use super::close::Reason;
use super::early::Early;
use super::handshake::CryptoDone;
use super::memory::QUIET;
use super::parameters::{self, Peer};
use super::timers::Timer;
use super::{Connection, Event, Scratch, level, new_path};
use crate::config::MIN_UDP_PAYLOAD;
use crate::endpoint::EndpointEvent;
use crate::error::{ConnectionError, TransportError, TransportErrorCode};
use crate::recovery::SpaceId;
use crate::recovery::loss::LossTimer;
use crate::time::Instant;
use crate::trace::{TraceEvent, TraceState, TraceTimer};
use crate::wire::header::{ProtectedPacket, Retry};
use crate::wire::{PacketType, TransportParameters};

/// A Retry with a longer token is dropped: every Initial packet carries the token, and must leave room for CRYPTO frames in a
/// datagram of 1200 bytes. Servers' tokens have 30 to 200 bytes.
const MAX_RETRY_TOKEN: usize = 512;

/// A server that gives tickets does so as soon as the handshake is complete. A client holds its TLS session, some 5 KiB, no longer
/// than this for them, or three probe timeouts.
const TICKETS_COME_WITHIN: Duration = Duration::from_secs(3);

/// Packets that the keys' limit leaves for telling the peer that it is reached.
const CLOSING_PACKETS: u64 = 16;

impl Connection {
    // Inputs.

    /// Time has come: call at or after [`Connection::next_timeout`].
    pub fn on_timeout(&mut self, now: Instant) {
        #[cfg(test)]
        self.panic_if_asked("on_timeout");
        while let Some(timer) = self.timers.poll_expired(now) {
            match timer {
                Timer::Close => {
                    self.trace.tell(now, || TraceEvent::Timeout(TraceTimer::Close));
                    self.let_go(now);
                }
                // RFC 9000 10.1: silently.
                Timer::Handshake if self.handshake.is_complete() => self.handshake.on_tickets_overdue(),
                Timer::Idle | Timer::Handshake => {
                    let timer = if timer == Timer::Idle { TraceTimer::Idle } else { TraceTimer::Handshake };
                    self.trace.tell(now, || TraceEvent::Timeout(timer));
                    self.end(now, ConnectionError::TimedOut);
                }
                Timer::Loss => self.on_loss_timeout(now),
                // The space knows that its ACK is due; `transmit` asks it.
                Timer::AckDelay | Timer::Pacing => {}
                Timer::KeyDiscard => {
                    let next = self.keys.discard_old(now);
                    self.timers.set(Timer::KeyDiscard, next);
                }
                Timer::KeepAlive => {
                    self.trace.tell(now, || TraceEvent::Timeout(TraceTimer::KeepAlive));
                    self.ping = true;
                }
                Timer::Quiet => self.on_quiet(now),
            }
            if self.close.is_drained() {
                return;
            }
        }
        self.after_input(now);
    }

    /// Takes in the result of a crypto job.
    pub fn on_crypto_done(&mut self, now: Instant, done: CryptoDone, scratch: &mut Scratch) {
        if !self.close.is_open() {
            return;
        }
        let result = match self.handshake.on_done(done) {
            Ok(None) => Ok(()),
            Ok(Some(step)) => self.on_step(now, step, scratch),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            self.fail(now, error);
        }
        self.after_input(now);
    }

    /// A panic interrupted another of these methods, and may have left the connection half changed: it closes, and if that
    /// does not go well either, it is over. For drivers that catch panics, so that one connection's defect does not end all.
    pub fn on_panic(&mut self, now: Instant) {
        if self.close.is_open() {
            self.fail(now, TransportErrorCode::INTERNAL_ERROR.because("a defect of this implementation"));
        } else {
            self.let_go(now);
        }
    }

    // The handshake.

    fn on_step(&mut self, now: Instant, step: Step, scratch: &mut Scratch) -> Result<(), TransportError> {
        if let Some(keys) = step.early_keys {
            self.on_early_keys(keys, step.remembered, step.early_protocol);
        }
        if let Some(accepted) = step.early_data {
            self.on_early_data(accepted);
        }
        // A server has read them before its first step.
        if let Some(bytes) = step.peer_transport_parameters.filter(|_| self.side.is_client())
            && !self.defers_server_parameters(&bytes)
        {
            self.on_server_parameters(&bytes)?;
        }
        let mut levels = [None; 2];
        for ((level, keys), installed) in step.keys.into_iter().zip(&mut levels) {
            match level {
                Level::Handshake => self.keys.install_handshake(keys),
                Level::OneRtt => {
                    let Some(secrets) = &step.one_rtt_secrets else { continue };
                    self.keys.install_one_rtt(keys, secrets);
                    self.on_early_data_over()?;
                }
                Level::Initial | Level::ZeroRtt => continue,
            }
            *installed = Some(level);
        }
        if step.early_data.is_some() || levels.contains(&Some(Level::Handshake)) {
            self.on_early_data_decided();
        }
        if step.complete {
            self.check_early_protocol()?;
            self.on_complete(now);
        }
        if self.keys.opens_early_data() {
            self.receive_kept(now, Level::ZeroRtt, scratch);
        }
        // A client opens 1-RTT packets once it has the keys, a server once it is complete; both are now.
        for level in [Level::Handshake, Level::OneRtt] {
            if levels.contains(&Some(level)) || self.handshake.is_complete() {
                self.receive_kept(now, level, scratch);
            }
        }
        Ok(())
    }

    pub(super) fn on_server_parameters(&mut self, bytes: &[u8]) -> Result<TransportParameters, TransportError> {
        let Some(early) = &self.early else {
            return Err(TransportErrorCode::INTERNAL_ERROR.because("transport parameters after the handshake"));
        };
        let parameters = parameters::decode(bytes, self.side, &early.seen_ids())?;
        self.check_version(parameters.version_information.as_ref())?;
        self.on_peer_parameters(&parameters)?;
        Ok(parameters)
    }

    pub(super) fn on_peer_parameters(&mut self, parameters: &TransportParameters) -> Result<(), TransportError> {
        self.peer = Peer::new(parameters);
        self.streams.set_peer_limits(&parameters::peer_limits(parameters));
        // Peers that chose an empty id are reached by address, and get no ids for migration either.
        if !self.remote_ids.current().is_empty() {
            self.local_ids.on_peer_parameters(parameters.active_connection_id_limit);
        }
        if let Some(token) = parameters.stateless_reset_token {
            self.remote_ids.on_first_reset_token(token);
        }
        if let Some(preferred) = &parameters.preferred_address {
            self.remote_ids.on_preferred(preferred.connection_id, preferred.reset_token)?;
        }
        Ok(())
    }

    fn on_complete(&mut self, now: Instant) {
        let tickets = now + TICKETS_COME_WITHIN.max(3 * self.probe_timeout());
        self.timers.set(Timer::Handshake, self.handshake.awaits_tickets().then_some(tickets));
        self.discard_early_keys_later(now);
        let mtu = u64::from(self.config.udp_payload_to(self.path.remote())).min(self.peer.max_udp_payload);
        self.path.set_mtu(u16::try_from(mtu).unwrap_or(u16::MAX).max(MIN_UDP_PAYLOAD));
        self.events.push_back(Event::Connected);
        self.trace.tell(now, || TraceEvent::State(TraceState::Connected));
        self.restart_idle_timer(now);
        if self.handshake.is_confirmed() {
            self.on_confirmed(now);
        }
    }

    /// The handshake is confirmed, by us at a server, by HANDSHAKE_DONE at a client (RFC 9001 4.1.2).
    pub(super) fn on_confirmed(&mut self, now: Instant) {
        if self.keys.has(Level::Handshake) || self.keys.has(Level::Initial) {
            // RFC 9001 4.9.2
            self.discard_space(SpaceId::Initial);
            self.discard_space(SpaceId::Handshake);
            self.events.push_back(Event::Confirmed);
            self.trace.tell(now, || TraceEvent::State(TraceState::Confirmed));
            self.next_token.on_confirmed(self.version);
        }
    }

    /// The first packets matter no more, to the endpoint neither.
    fn forget_early(&mut self) {
        if let Some(early) = self.early.take().filter(|early| early.routed) {
            self.endpoint_events.push_back(EndpointEvent::confirmed(self.path.remote(), early.original));
        }
    }

    /// A packet is the peer's own; what that alone says.
    pub(super) fn on_authenticated(&mut self, now: Instant, packet: &ProtectedPacket<'_>) {
        if let Some(early) = &mut self.early {
            early.heard = true;
            if packet.packet_type == PacketType::Initial && early.peer_source.is_none() {
                // RFC 9000 7.2: the server's first packet names the id to use from now on.
                early.peer_source = Some(packet.scid);
                self.remote_ids.replace_first(packet.scid);
            }
        }
        if packet.packet_type == PacketType::Handshake && self.side.is_server() {
            // RFC 9000 8.1: only the owner of the address can have the keys. RFC 9001 4.9.1.
            self.path.amplification_mut().on_validated();
            self.discard_space(SpaceId::Initial);
        }
        // RFC 9000 10.1
        self.spoke = false;
        self.restart_idle_timer(now);
    }

    /// A packet was sent.
    pub(super) fn on_packet_sent(&mut self, now: Instant, space: SpaceId, ack_eliciting: bool) {
        if space == SpaceId::Handshake && self.side.is_client() {
            // RFC 9001 4.9.1
            self.discard_space(SpaceId::Initial);
        }
        // RFC 9000 10.1: only the first ack-eliciting packet after one that came in.
        if ack_eliciting && !std::mem::replace(&mut self.spoke, true) {
            self.restart_idle_timer(now);
        }
    }

    fn discard_space(&mut self, space: SpaceId) {
        if !self.keys.has(level(space)) {
            return;
        }
        self.keys.discard(level(space));
        self.handshake.on_space_discarded(level(space));
        let path = &mut self.path;
        self.spaces.discard(space, |packet, _| path.on_packet_forgotten(packet));
        self.probes[space.index()] = 0;
        self.loss.on_keys_discarded();
    }

    // Keys.

    /// The peer updated its keys, or answered our update.
    pub(super) fn on_key_phase(&mut self, now: Instant) {
        if self.keys.owes_answer() {
            self.trace.tell(now, || TraceEvent::KeysUpdated { updates: self.keys.updates() });
        }
        // RFC 9001 6.5: three probe timeouts for packets that were overtaken.
        let at = now + 3 * self.probe_timeout();
        self.keys.discard_previous_at(at);
        self.set_key_discard(at);
    }

    /// Old keys go at `at`, or some go before.
    pub(super) fn set_key_discard(&mut self, at: Instant) {
        let sooner = self.timers.get(Timer::KeyDiscard).map_or(at, |set| set.min(at));
        self.timers.set(Timer::KeyDiscard, Some(sooner));
    }

    /// Starts a key update if one is wanted or due; fails if the keys are used up and cannot be updated.
    pub(super) fn update_keys_if_due(&mut self, now: Instant) -> Result<(), TransportError> {
        let sealed = self.keys.sealed();
        let limit = self.keys.confidentiality_limit();
        // RFC 9001 6.6
        if sealed >= limit.saturating_sub(CLOSING_PACKETS) {
            return Err(TransportErrorCode::AEAD_LIMIT_REACHED.because("the keys are used up and could not be updated"));
        }
        let is_due = self.update_keys || sealed >= self.config.key_update_interval.unwrap_or(u64::MAX).min(limit / 2);
        // RFC 9001 6.1: not before the handshake is confirmed.
        if is_due && self.handshake.is_confirmed() && self.keys.update() {
            self.update_keys = false;
            self.trace.tell(now, || TraceEvent::KeysUpdated { updates: self.keys.updates() });
            // The peer's answer ends the update; without a question there may be none for long.
            self.ping = true;
        }
        Ok(())
    }

    // Retry, at a client.

    /// Says whether the packet is an answer to our first. RFC 9000 17.2.5.2
    pub(super) fn on_retry(&mut self, now: Instant, retry: &Retry<'_>) -> bool {
        let is_welcome = |early: &Early| {
            let tag = || weald_crypto::retry_integrity_tag(self.version.protection(), &early.original, retry.without_tag);
            retry.token.len() <= MAX_RETRY_TOKEN
                // RFC 9369 4.1
                && retry.version == self.version
                && retry.dcid == self.local_ids.handshake_id()
                && retry.scid != early.original
                && weald_crypto::constant_time_eq(&tag(), retry.integrity_tag)
        };
        if !self.expects_first_answer() || !self.early.as_deref().is_some_and(is_welcome) {
            return false;
        }
        self.trace.tell(now, || TraceEvent::Retry);
        if let Some(early) = &mut self.early {
            early.retry_source = Some(retry.scid);
            early.token = retry.token.to_vec();
        }
        self.stats.retried = true;
        self.remote_ids.replace_first(retry.scid);
        // RFC 9001 5.2: the keys follow from the id that the server chose.
        let keys = weald_crypto::initial_keys(self.version.protection(), &retry.scid, weald_crypto::Side::Client);
        self.keys.install_initial(self.version, keys);
        self.restart_space(SpaceId::Initial);
        // RFC 9000 17.2.3: the server has dropped the 0-RTT packets as well.
        self.restart_space(SpaceId::Data);
        self.probes = [0; 3];
        // RFC 9002 6.3: congestion control and loss recovery start anew.
        self.loss = LossTimer::default();
        self.path = new_path(now, &self.config, self.path.remote(), self.path.local(), true);
        true
    }

    /// Whether we are a client that has heard nothing yet: after any authentic packet, or one Retry, what could start the
    /// handshake anew is a forgery.
    pub(super) fn expects_first_answer(&self) -> bool {
        let is_first = |early: &Early| !early.heard && early.retry_source.is_none();
        self.side.is_client() && self.close.is_open() && self.early.as_deref().is_some_and(is_first)
    }

    // The end.

    /// The peer broke the protocol, or we cannot go on.
    pub(super) fn fail(&mut self, now: Instant, error: TransportError) {
        self.start_closing(now, Reason::Transport(error.clone()), ConnectionError::Transport(error));
    }

    /// The peer has retired the last id that there was to give: what comes next would find nobody.
    pub(super) fn on_ids_exhausted(&mut self, now: Instant) {
        let error = TransportErrorCode::INTERNAL_ERROR.because("no connection ids left");
        self.start_closing(now, Reason::Transport(error), ConnectionError::CidsExhausted);
    }

    pub(super) fn start_closing(&mut self, now: Instant, reason: Reason, error: ConnectionError) {
        if !self.close.start(reason) {
            return;
        }
        self.stop_working();
        // RFC 9000 10.2: three probe timeouts, for what is still on its way.
        self.timers.set(Timer::Close, Some(now + 3 * self.probe_timeout()));
        self.trace.tell(now, || TraceEvent::State(TraceState::Closing(&error)));
        self.events.push_back(Event::Closed(error));
    }

    /// The peer closed.
    pub(super) fn on_peer_close(&mut self, now: Instant, error: ConnectionError) {
        if self.close.is_open() {
            self.stop_working();
            self.timers.set(Timer::Close, Some(now + 3 * self.probe_timeout()));
            self.trace.tell(now, || TraceEvent::State(TraceState::Draining(&error)));
            self.events.push_back(Event::Closed(error));
        }
        self.close.drain();
    }

    /// The peer lost the connection (RFC 9000 10.3.1): nothing more is sent.
    pub(super) fn on_stateless_reset(&mut self, now: Instant) {
        self.end(now, ConnectionError::Reset);
    }

    /// The connection is over at once, without a word to the peer.
    pub(super) fn end(&mut self, now: Instant, error: ConnectionError) {
        if self.close.is_open() {
            self.trace.tell(now, || TraceEvent::State(TraceState::Ended(&error)));
            self.events.push_back(Event::Closed(error));
        }
        self.let_go(now);
    }

    fn let_go(&mut self, now: Instant) {
        if self.close.is_drained() {
            return;
        }
        self.stop_working();
        self.close.finish();
        self.trace.tell(now, || TraceEvent::State(TraceState::Drained));
        let remote = self.path.remote();
        self.forget_early();
        if let Some(token) = self.registered_token.take() {
            self.endpoint_events.push_back(EndpointEvent::token(remote, Some(token), None));
        }
        self.endpoint_events.push_back(EndpointEvent::drained());
    }

    fn stop_working(&mut self) {
        self.timers.clear();
        self.handshake.abandon();
        self.spaces.on_closed();
        self.streams.on_closed();
        if let Some(early) = &mut self.early {
            early.undecryptable.clear();
        }
    }

    // Timers.

    /// What follows from every input.
    pub(super) fn after_input(&mut self, now: Instant) {
        if !self.close.is_open() {
            return;
        }
        // Not before packets that waited for their keys were taken in, nor as long as late ones of early data are.
        if self.early.is_some() && self.handshake.is_confirmed() && !self.keys.opens_early_data() {
            self.forget_early();
        }
        self.register_reset_token();
        self.rearm_loss_timer(now);
        self.rearm_ack_timer();
    }

    /// The endpoint must know by which token the peer resets us.
    pub(super) fn register_reset_token(&mut self) {
        if self.registered_token != self.remote_ids.reset_token() {
            let token = self.remote_ids.reset_token();
            let old = std::mem::replace(&mut self.registered_token, token);
            // Each id of the peer but a client's first has a token of its own.
            self.spin.on_new_id();
            self.endpoint_events.push_back(EndpointEvent::token(self.path.remote(), old, token));
        }
    }

    pub(super) fn rearm_ack_timer(&mut self) {
        // A deadline that nothing can be done about would fire again and again.
        let due = SpaceId::ALL.into_iter().filter_map(|space| self.ack_deadline(space)).min();
        self.timers.set(Timer::AckDelay, due.filter(|_| !self.is_amplification_limited()));
    }

    /// When a space must send an ACK even if it has nothing else to send.
    pub(super) fn ack_deadline(&self, space: SpaceId) -> Option<Instant> {
        /// The answer to packets of a handshake goes out with their ACK, if TLS is not slower than this.
        const HELD_BACK: Duration = Duration::from_millis(25);
        if !self.keys.has(level(space)) {
            return None;
        }
        let due = self.spaces.get(space)?.received.ack_deadline()?;
        let is_held = space != SpaceId::Data && self.handshake.is_working();
        Some(if is_held { due + HELD_BACK } else { due })
    }

    pub(super) fn restart_idle_timer(&mut self, now: Instant) {
        if !self.close.is_open() {
            return;
        }
        // RFC 9000 10.1: the smaller of both, and never less than three probe timeouts.
        let timeout = match (self.config.max_idle_timeout, self.peer.max_idle_timeout) {
            (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
            (ours, theirs) => ours.or(theirs),
        };
        let floor = 3 * self.probe_timeout();
        let timeout = timeout.map(|timeout: Duration| timeout.max(floor));
        self.timers.set(Timer::Idle, timeout.map(|timeout| now + timeout));
        self.timers.set(Timer::Quiet, Some(now + QUIET.max(floor)));
        if self.handshake.is_complete() {
            // RFC 9000 10.1.2: a PING that comes when the connection is over keeps nothing alive.
            let sooner = |interval| timeout.filter(|timeout| *timeout <= interval).map_or(interval, |timeout| timeout / 2);
            self.timers.set(Timer::KeepAlive, self.config.keep_alive.map(|interval| now + sooner(interval)));
        }
    }

    /// Whether the anti-amplification limit forbids a full datagram (RFC 9000 8.1).
    pub(super) fn is_amplification_limited(&self) -> bool {
        self.path.amplification().budget() < u64::from(MIN_UDP_PAYLOAD)
    }
}
