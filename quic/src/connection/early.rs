//! What a connection remembers of its first packets until the handshake is confirmed.
//!
//! Owns the ids by which both ends introduced themselves (RFC 9000 7.2, 7.3, 17.2.5), the token of a Retry, how the
//! version comes about, and packets that
//! came before their keys. Dropped as a whole when the handshake is confirmed: long headers are then refused by their missing
//! keys. At a server that took early data, it stays until late packets of that are overdue.

use super::negotiation::Negotiation;
use super::parameters::SeenIds;
use super::undecryptable::Undecryptable;
use super::zero_rtt::Offer;
use crate::id::ConnectionId;

/// What the first packets of both sides fix.
pub(crate) struct Early {
    /// The destination id of the client's very first packet.
    pub(crate) original: ConnectionId,
    /// The source id of a Retry that the client followed.
    pub(crate) retry_source: Option<ConnectionId>,
    /// The token of that Retry, or before it one of an earlier connection.
    pub(crate) token: Vec<u8>,
    /// The source id of the peer's first packet, from which it must not depart.
    pub(crate) peer_source: Option<ConnectionId>,
    /// A packet of the peer authenticated.
    pub(crate) heard: bool,
    /// The endpoint still routes the original id here.
    pub(crate) routed: bool,
    /// How the version comes about.
    pub(crate) negotiation: Negotiation,
    /// Packets that wait for their keys.
    pub(crate) undecryptable: Undecryptable,
    /// At a server: the client may send early data, and it is not known yet whether it is taken.
    pub(crate) awaits_early_data: bool,
    /// What early data rests on, if there is some.
    pub(crate) offer: Option<Box<Offer>>,
}

impl Early {
    /// A client's, whose first packets go to `original`.
    pub(crate) fn client(original: ConnectionId, negotiation: Negotiation) -> Self {
        Self {
            original,
            retry_source: None,
            token: Vec::new(),
            peer_source: None,
            heard: false,
            routed: false,
            negotiation,
            undecryptable: Undecryptable::default(),
            awaits_early_data: false,
            offer: None,
        }
    }

    /// A server's, for a client that sent its first packet to `original` and calls itself `source`.
    pub(crate) fn server(original: ConnectionId, source: ConnectionId, negotiation: Negotiation) -> Self {
        Self { peer_source: Some(source), routed: true, ..Self::client(original, negotiation) }
    }

    /// Whether a long header names the peer as it introduced itself (RFC 9000 7.2: the id never changes after the first packet).
    pub(crate) fn is_peer(&self, source: ConnectionId) -> bool {
        self.peer_source.is_none_or(|peer| peer == source)
    }

    /// The id that the keys of Initial packets follow from (RFC 9001 5.2).
    pub(crate) fn initial_id(&self) -> ConnectionId {
        self.retry_source.unwrap_or(self.original)
    }

    /// The ids that the handshake went by.
    pub(crate) fn seen_ids(&self) -> SeenIds {
        SeenIds { original: self.original, retry_source: self.retry_source, peer_source: self.peer_source }
    }

    /// Bytes held outside of the value itself.
    pub(crate) fn memory(&self) -> usize {
        let offer = self.offer.as_ref().map_or(0, |offer| offer.memory());
        self.token.capacity() + self.negotiation.memory() + self.undecryptable.memory() + offer
    }
}
