//! Early data: what a client sends before the handshake is complete, on the strength of an earlier connection (RFC 9000 7.4.1,
//! RFC 9001 4.6).
//!
//! Owns what a client remembers of its server, when that counts and when the server's new word does, and what follows when early
//! data is accepted or rejected. Does not own the keys (`keys`), the tickets (TLS), nor how streams begin anew (`streams`).
//!
//! Invariants: 0-RTT packets go by what is remembered alone, and the parameters of this handshake apply from the first 1-RTT
//! packet on. A server opens no 0-RTT packet before TLS has accepted early data.

use weald_crypto::{DirectionKeys, Level, Remembered, Terms};

use super::parameters::{self, Peer};
use super::{Connection, Event};
use crate::config::ServerConfig;
use crate::error::{TransportError, TransportErrorCode};
use crate::recovery::SpaceId;
use crate::side::Side;
use crate::time::Instant;
use crate::wire::TransportParameters;

/// TLS alert no_application_protocol (RFC 7301 3.2).
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// What became of early data: what a client sends before the handshake is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EarlyData {
    /// There is none.
    #[default]
    NotOffered,
    /// At a client: it can be sent, and the server has not said yet whether it takes it.
    Offered,
    /// The server takes it.
    Accepted,
    /// The server does not take it: at a client, all that was written is sent again once the handshake is complete.
    Rejected,
}

/// What early data rests on.
pub(crate) struct Offer {
    /// At a client: the server's transport parameters of the earlier connection.
    remembered: TransportParameters,
    /// Its application protocol, which is this one's if early data is accepted.
    alpn: Option<Vec<u8>>,
    /// The server's transport parameters of this handshake, until there are 1-RTT keys.
    declared: Option<Vec<u8>>,
}

impl Offer {
    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        self.alpn.as_deref()
    }

    /// As if the server had permitted more.
    #[cfg(test)]
    pub(crate) fn pretend_larger(&mut self, limit: usize) {
        if limit == 0 {
            self.remembered.initial_max_data += 1;
        } else {
            self.remembered.max_datagram_frame_size += 1;
        }
    }

    /// Bytes held, the value itself included.
    pub(crate) fn memory(&self) -> usize {
        let held = self.alpn.as_ref().map_or(0, Vec::capacity) + self.declared.as_ref().map_or(0, Vec::capacity);
        size_of::<Self>() + held
    }
}

/// What a server's tickets promise of its limits (RFC 9000 7.4.1, RFC 9221 section 3).
pub(super) fn terms(config: &ServerConfig) -> Terms {
    Terms { limits: limits(&parameters::declared(&config.transport)).to_vec(), application: config.application_settings.to_vec() }
}

/// The limits that a server which accepts early data must not have made smaller.
fn limits(parameters: &TransportParameters) -> [u64; 8] {
    [
        parameters.active_connection_id_limit,
        parameters.initial_max_data,
        parameters.initial_max_stream_data_bidi_local,
        parameters.initial_max_stream_data_bidi_remote,
        parameters.initial_max_stream_data_uni,
        parameters.initial_max_streams_bidi,
        parameters.initial_max_streams_uni,
        parameters.max_datagram_frame_size,
    ]
}

impl Connection {
    /// What became of early data, or is to be hoped for.
    pub fn early_data(&self) -> EarlyData {
        self.early_data
    }

    /// The application protocol: what the handshake agreed on, or what early data is for. `None` before that is known.
    pub fn alpn(&self) -> Option<&[u8]> {
        match (self.handshake.outcome(), &self.early) {
            (Some(outcome), _) => outcome.alpn.as_deref(),
            (None, Some(early)) => early.offer.as_ref()?.alpn(),
            (None, None) => None,
        }
    }

    /// TLS has keys for early data: at a client to send some, with what it remembers; at a server because it is accepted, for this
    /// application protocol.
    pub(super) fn on_early_keys(&mut self, keys: DirectionKeys, remembered: Option<Remembered>, protocol: Option<Vec<u8>>) {
        let Some(early) = &mut self.early else { return };
        let offer = match remembered {
            Some(Remembered { transport_parameters, alpn }) => {
                // What is not understood is not relied upon.
                let Ok(parameters) = TransportParameters::decode(&transport_parameters, Side::Server) else { return };
                self.peer = Peer::remembered(&parameters);
                self.streams.set_peer_limits(&parameters::peer_limits(&parameters));
                self.early_data = EarlyData::Offered;
                Offer { remembered: parameters, alpn, declared: None }
            }
            None => {
                self.early_data = EarlyData::Accepted;
                Offer { remembered: TransportParameters::default(), alpn: protocol, declared: None }
            }
        };
        early.offer = Some(Box::new(offer));
        self.keys.install_zero_rtt(self.side, keys);
        self.events.push_back(Event::EarlyData);
    }

    /// Early data is accepted or rejected, as TLS has it.
    pub(super) fn on_early_data(&mut self, accepted: bool) {
        match self.side {
            Side::Client if self.early_data != EarlyData::Offered => return,
            Side::Client if !accepted => self.on_early_data_rejected(),
            Side::Client | Side::Server => {}
        }
        self.early_data = if accepted { EarlyData::Accepted } else { EarlyData::Rejected };
    }

    /// A server has read the ClientHello: 0-RTT packets are opened or dropped from now on.
    pub(super) fn on_early_data_decided(&mut self) {
        let Some(early) = self.early.as_mut().filter(|early| early.awaits_early_data) else { return };
        early.awaits_early_data = false;
        if !self.keys.has(Level::ZeroRtt) {
            drop(early.undecryptable.take(Level::ZeroRtt));
        }
    }

    /// RFC 9001 4.6.2: what was sent is forgotten, and all that was written is sent again under whatever the handshake brings.
    fn on_early_data_rejected(&mut self) {
        self.keys.discard(Level::ZeroRtt);
        self.restart_space(SpaceId::Data);
        self.streams.on_zero_rtt_rejected();
        self.probes[SpaceId::Data.index()] = 0;
        self.peer = Peer::default();
    }

    /// Keeps the server's transport parameters until 0-RTT packets are over, which must not go by them (RFC 9000 7.4.1). False if
    /// they apply at once.
    pub(super) fn defers_server_parameters(&mut self, bytes: &[u8]) -> bool {
        let is_sending = self.side.is_client() && self.keys.has(Level::ZeroRtt);
        let Some(offer) = self.early.as_mut().and_then(|early| early.offer.as_mut()).filter(|_| is_sending) else { return false };
        offer.declared = Some(bytes.to_vec());
        true
    }

    /// There are 1-RTT keys: what the server declared in this handshake applies.
    pub(super) fn on_early_data_over(&mut self) -> Result<(), TransportError> {
        let declared = self.early.as_mut().and_then(|early| early.offer.as_mut()?.declared.take());
        let Some(declared) = declared else { return Ok(()) };
        let parameters = self.on_server_parameters(&declared)?;
        let remembered = self.early.as_ref().and_then(|early| early.offer.as_ref()).map(|offer| limits(&offer.remembered));
        let is_smaller = remembered.is_some_and(|then| then.iter().zip(limits(&parameters)).any(|(then, now)| now < *then));
        // RFC 9000 7.4.1, RFC 9221 section 3
        if is_smaller && self.early_data == EarlyData::Accepted {
            return Err(TransportErrorCode::PROTOCOL_VIOLATION.because("early data was accepted under smaller limits than it was sent by"));
        }
        Ok(())
    }

    /// The handshake is complete: what was written for one application protocol is not sent in another.
    pub(super) fn check_early_protocol(&self) -> Result<(), TransportError> {
        let offer = self.early.as_ref().and_then(|early| early.offer.as_ref());
        let (Some(offer), Some(outcome)) = (offer, self.handshake.outcome()) else { return Ok(()) };
        if self.side.is_client() && offer.alpn != outcome.alpn {
            let name = |alpn: &Option<Vec<u8>>| alpn.as_deref().unwrap_or_default().escape_ascii().to_string();
            let (then, now) = (name(&offer.alpn), name(&outcome.alpn));
            let reason = format!("early data was written for \"{then}\", and the server now speaks \"{now}\"");
            return Err(TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL).because(reason));
        }
        Ok(())
    }

    /// A server's handshake is complete: the client sends no more 0-RTT packets, and late ones are opened for three probe timeouts
    /// (RFC 9001 4.9.3).
    pub(super) fn discard_early_keys_later(&mut self, now: Instant) {
        if self.keys.opens_early_data() {
            let at = now + 3 * self.probe_timeout();
            self.keys.discard_zero_rtt_at(at);
            self.set_key_discard(at);
        }
    }
}
