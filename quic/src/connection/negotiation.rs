//! Which version of QUIC a connection goes by (RFC 9368; RFC 9369 4).
//!
//! Owns what an end says of its versions, which one follows at a server from a client's first flight (compatible negotiation), what
//! a client does when it is told that its version is not spoken (incompatible negotiation), and the checks that nobody on the way
//! had a part in it. Does not own the bytes (`crate::wire`) or keys.
//!
//! Invariants: the version is final at a server when the ClientHello is read, and at a client with the server's first CRYPTO; it
//! changes once at most; and what led to it is checked against what the handshake authenticates, before the handshake is complete.

use std::sync::Arc;

use weald_crypto::{ClientHello, Session, Terms};

use super::Connection;
use super::early::Early;
use super::handshake::{Handshake, crypto_error};
use super::parameters::{self, ServerIds};
use crate::error::{ConnectionError, TransportError, TransportErrorCode};
use crate::id::{ConnectionId, ResetToken};
use crate::recovery::SpaceId;
use crate::recovery::loss::LossTimer;
use crate::time::Instant;
use crate::trace::TraceEvent;
use crate::wire::header::VersionNegotiation;
use crate::wire::{Version, VersionInformation};

/// How the version of a connection comes about.
pub(crate) struct Negotiation {
    /// Those that this end speaks, the preferred first.
    versions: Arc<[Version]>,
    /// That of the client's first packets (its Chosen Version).
    chosen: Version,
    role: Role,
}

enum Role {
    Client {
        /// What another first flight is made from.
        attempt: Box<Attempt>,
        /// This flight answers a Version Negotiation packet.
        reacted: bool,
        /// The server's CRYPTO has shown the version to go on with.
        settled: bool,
    },
    /// With what a ClientHello is answered, until there is one.
    Server(Option<Box<Opening>>),
}

/// What a client's handshake begins with.
pub(crate) struct Attempt {
    pub(crate) crypto: weald_crypto::ClientConfig,
    pub(crate) server_name: Box<str>,
}

/// What a server's handshake begins with.
pub(crate) struct Opening {
    pub(crate) crypto: weald_crypto::ServerConfig,
    pub(crate) ids: ServerIds,
    pub(crate) reset_token: ResetToken,
    pub(crate) terms: Terms,
}

impl Negotiation {
    pub(crate) fn client(versions: Arc<[Version]>, chosen: Version, attempt: Attempt) -> Self {
        Self { versions, chosen, role: Role::Client { attempt: Box::new(attempt), reacted: false, settled: false } }
    }

    pub(crate) fn server(versions: Arc<[Version]>, chosen: Version, opening: Opening) -> Self {
        Self { versions, chosen, role: Role::Server(Some(Box::new(opening))) }
    }

    /// Bytes held outside of the value itself.
    pub(crate) fn memory(&self) -> usize {
        match &self.role {
            Role::Client { attempt, .. } => size_of::<Attempt>() + attempt.server_name.len(),
            Role::Server(opening) => opening.as_ref().map_or(0, |_| size_of::<Opening>()),
        }
    }

    /// The version of the client's first packets, and of its 0-RTT packets (RFC 9369 4.1).
    pub(crate) fn chosen(&self) -> Version {
        self.chosen
    }

    /// What this end declares, when it goes by `version`.
    pub(crate) fn information(&self, version: Version) -> VersionInformation {
        VersionInformation { chosen: version, available: self.versions.to_vec() }
    }

    /// Whether a client that hears of `version` may follow.
    fn may_switch(&self, version: Version) -> bool {
        matches!(self.role, Role::Client { settled: false, .. }) && self.versions.contains(&version)
    }

    /// RFC 9368 4, at a client: `agreed` is the version that the server's packets have, and `theirs` what its handshake says.
    fn check_server(&self, agreed: Version, theirs: Option<&VersionInformation>) -> Result<(), &'static str> {
        let Role::Client { reacted, .. } = self.role else { return Ok(()) };
        // RFC 9368 8: a server that speaks version 1 alone may say nothing.
        let assumed = VersionInformation::only(Version::V1);
        let theirs = match theirs {
            Some(theirs) => theirs,
            None if !reacted && agreed == self.chosen => return Ok(()),
            None if agreed == Version::V1 && self.chosen == Version::V1 => &assumed,
            None => return Err("the server does not confirm the version that was negotiated"),
        };
        if theirs.chosen != agreed {
            return Err("the server's packets have another version than it has chosen");
        }
        if !self.versions.contains(&theirs.chosen) {
            return Err("the server has chosen a version that was not offered");
        }
        if reacted {
            let honest: Vec<_> = theirs.available.iter().copied().chain([agreed]).collect();
            if theirs.available.is_empty() || preferred(&self.versions, &honest) != Some(self.chosen) {
                return Err("a Version Negotiation packet hid a version that the server speaks");
            }
        }
        Ok(())
    }
}

/// The version that a client begins with, of those that it speaks: one of which it has a session to resume, which the server speaks
/// as long as that is good (RFC 9369 6); else version 1 if it is among them, which every server is most likely to read (RFC 9368
/// 2.4), since the other one can still be agreed on without another round trip.
pub(crate) fn first(versions: &[Version], resumes: impl Fn(Version) -> bool) -> Version {
    let known = versions.iter().copied().find(|version| resumes(*version));
    known.or(preferred(versions, &[Version::V1])).or(versions.first().copied()).unwrap_or(Version::V1)
}

/// Of `ours` the first that they speak.
fn preferred(ours: &[Version], theirs: &[Version]) -> Option<Version> {
    ours.iter().copied().find(|version| theirs.contains(version))
}

/// The version that a server goes on with, for a client that began with `chosen`: another one if both prefer it.
fn agreed(ours: &[Version], chosen: Version, client: Option<&VersionInformation>) -> Version {
    let before_chosen = |version: &Version| *version != chosen;
    let wanted: Vec<_> = client.into_iter().flat_map(|client| client.available.iter().copied().take_while(before_chosen)).collect();
    ours.iter().copied().take_while(before_chosen).find(|version| wanted.contains(version)).unwrap_or(chosen)
}

impl Connection {
    // At a server.

    /// CRYPTO of the Initial level came. Once it is a whole ClientHello, the version follows, and TLS begins: what is not whole costs
    /// no step of it.
    pub(super) fn on_first_crypto(&mut self) -> Result<(), TransportError> {
        let Some(early) = &mut self.early else { return Ok(()) };
        let opening = match &mut early.negotiation.role {
            Role::Client { settled, .. } => {
                // RFC 9369 4.1: it comes in packets of the version to go on with.
                *settled = true;
                return Ok(());
            }
            Role::Server(opening) => opening,
        };
        let limit = self.config.limits.crypto_buffer as usize;
        let Some(message) = self.handshake.client_hello(limit)? else { return Ok(()) };
        let Some(opening) = opening.take() else { return Ok(()) };
        let hello = ClientHello::parse(message).map_err(crypto_error)?;
        let theirs = parameters::decode(hello.transport_parameters(), self.side, &early.seen_ids())?;
        let negotiation = &early.negotiation;
        let client = theirs.version_information.as_ref();
        // RFC 9368 4: what stands in the header is not authentic, and this is.
        if client.is_some_and(|client| client.chosen != negotiation.chosen) {
            let reason = "the client has chosen another version than that of its packets";
            return Err(TransportErrorCode::VERSION_NEGOTIATION_ERROR.because(reason));
        }
        // RFC 9369 5: a session is resumed in its own version, which the client has chosen for its sake.
        let version = if hello.offers_psk() { negotiation.chosen } else { agreed(&negotiation.versions, negotiation.chosen, client) };
        let information = negotiation.information(version);
        if version != negotiation.chosen {
            let keys = weald_crypto::initial_keys(version.protection(), &early.initial_id(), weald_crypto::Side::Server);
            // RFC 9369 4.1: the client's packets have the one it chose until it has heard from us.
            self.keys.switch_initial(version, keys);
            self.version = version;
        }
        let Opening { crypto, ids, reset_token, terms } = *opening;
        let ours = parameters::server(&self.config, ids, reset_token, information, &mut self.noise);
        self.handshake.begin(Session::server(&crypto, version.protection(), ours, terms));
        self.on_peer_parameters(&theirs)
    }

    /// Whether the client's list of versions has yet to come.
    pub(crate) fn is_version_open(&self) -> bool {
        self.early.as_ref().is_some_and(|early| matches!(early.negotiation.role, Role::Server(Some(_))))
    }

    // At a client.

    /// Whether an Initial packet of another version than ours can be one to follow; there are keys to open it then.
    pub(super) fn expects_version(&mut self, version: Version) -> bool {
        // TLS, which has to know, is here: what the server says is not with it before it has said something.
        let may_switch = |early: &&Early| early.negotiation.may_switch(version) && !self.handshake.is_working();
        let Some(early) = self.early.as_deref().filter(may_switch) else { return false };
        if !self.keys.opens_initial(version) {
            let keys = weald_crypto::initial_keys(version.protection(), &early.initial_id(), weald_crypto::Side::Client);
            self.keys.add_initial(version, keys.remote);
        }
        true
    }

    /// An Initial packet of the server has another version than ours: it is the one to go on with (RFC 9369 4.1). Nothing but the
    /// handshake will say that this is no forger's doing.
    pub(super) fn on_other_version(&mut self, now: Instant, version: Version) {
        let Some(early) = &mut self.early else { return };
        let keys = weald_crypto::initial_keys(version.protection(), &early.initial_id(), weald_crypto::Side::Client);
        self.keys.install_initial(version, keys);
        self.handshake.switch_version(version.protection());
        self.version = version;
        if let Role::Client { settled, .. } = &mut early.negotiation.role {
            *settled = true;
        }
        self.trace.tell(now, || TraceEvent::VersionChanged(version));
    }

    /// What the server's handshake says of versions fits what we went by (RFC 9368 4).
    pub(super) fn check_version(&self, theirs: Option<&VersionInformation>) -> Result<(), TransportError> {
        let Some(early) = &self.early else { return Ok(()) };
        let checked = early.negotiation.check_server(self.version, theirs);
        checked.map_err(|reason| TransportErrorCode::VERSION_NEGOTIATION_ERROR.because(reason))
    }

    /// Says whether the packet is an answer to our first (RFC 9000 6.2). It has us begin anew with a version that the server speaks,
    /// once (RFC 9368 2.1, 4).
    pub(super) fn on_version_negotiation(&mut self, now: Instant, packet: &VersionNegotiation<'_>) -> bool {
        if !self.expects_first_answer() {
            return false;
        }
        let Some(early) = &self.early else { return false };
        let Role::Client { reacted: false, .. } = early.negotiation.role else { return false };
        let is_answer = packet.dcid == self.local_ids.handshake_id().as_slice()
            && packet.scid == early.original.as_slice()
            && packet.versions().all(|version| version != self.version);
        if !is_answer {
            return false;
        }
        let theirs: Vec<_> = packet.versions().filter(|version| version.is_supported()).collect();
        match preferred(&early.negotiation.versions, &theirs) {
            Some(version) => self.begin_anew(now, version),
            None => self.end(now, ConnectionError::VersionMismatch),
        }
        true
    }

    /// Begins again, with `version`, as a connection that has sent nothing yet.
    fn begin_anew(&mut self, now: Instant, version: Version) {
        let Some(early) = &mut self.early else { return };
        let Role::Client { attempt, reacted, .. } = &mut early.negotiation.role else { return };
        *reacted = true;
        early.negotiation.chosen = version;
        let information = VersionInformation { chosen: version, available: early.negotiation.versions.to_vec() };
        let parameters = parameters::client(&self.config, self.local_ids.handshake_id(), information, &mut self.noise);
        let Ok(session) = Session::client(&attempt.crypto, version.protection(), &attempt.server_name, parameters) else {
            // The same name was good for the first.
            return self.end(now, ConnectionError::VersionMismatch);
        };
        // RFC 9000 7.2: unpredictable, and another one, so that answers to the first attempt are none to this.
        let original: [[u8; 8]; 2] = [self.secrets.u64().to_be_bytes(), self.secrets.u64().to_be_bytes()];
        early.original = ConnectionId::new(original.as_flattened()).unwrap_or(ConnectionId::EMPTY);
        // RFC 9369 5: it was of a connection of the other version.
        early.token = Vec::new();
        self.stats.address_token = false;
        self.version = version;
        self.remote_ids.replace_first(early.original);
        let keys = weald_crypto::initial_keys(version.protection(), &early.original, weald_crypto::Side::Client);
        self.keys.install_initial(version, keys);
        self.handshake = Handshake::client(session);
        self.forget_sent(SpaceId::Initial);
        // Tickets are of one version, and so is what was sent with them (RFC 9369 5).
        self.on_early_data(false);
        self.probes = [0; 3];
        self.loss = LossTimer::default();
        self.path = super::new_path(now, &self.config, self.path.remote(), self.path.local(), true);
        self.trace.tell(now, || TraceEvent::VersionChanged(version));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: Version = Version::V1;
    const V2: Version = Version::V2;
    const V3: Version = Version::from_u32(3);

    fn client(chosen: Version, available: &[Version]) -> Option<VersionInformation> {
        Some(VersionInformation { chosen, available: available.to_vec() })
    }

    #[test]
    fn a_client_begins_where_it_resumes_or_with_the_version_that_is_spoken_most() {
        for (versions, begins) in [(&[V1][..], V1), (&[V1, V2], V1), (&[V2, V1], V1), (&[V2], V2)] {
            assert_eq!(first(versions, |_| false), begins);
        }
        assert_eq!(first(&[V1, V2], |version| version == V2), V2);
        assert_eq!(first(&[V1], |version| version == V2), V1);
        assert_eq!(first(&[V2, V1], |_| true), V2);
    }

    /// RFC 9368 2.3: the server chooses, of what the client offers.
    #[test]
    fn a_server_changes_the_version_if_both_prefer_the_other() {
        let agreed = |ours: &[Version], client: Option<VersionInformation>| {
            agreed(ours, client.as_ref().map_or(V1, |client| client.chosen), client.as_ref())
        };
        let both = [V2, V1];
        assert_eq!(agreed(&both, None), V1);
        assert_eq!(agreed(&both, client(V1, &[V2, V1])), V2);
        assert_eq!(agreed(&both, client(V1, &[V3, V2, V1])), V2);
        assert_eq!(agreed(&both, client(V1, &[V1, V2])), V1, "the client prefers to stay");
        assert_eq!(agreed(&both, client(V1, &[V1])), V1);
        assert_eq!(agreed(&[V1, V2], client(V1, &[V2, V1])), V1, "the server prefers to stay");
        assert_eq!(agreed(&[V1], client(V1, &[V2, V1])), V1);
        assert_eq!(agreed(&[V1, V2], client(V2, &[V1, V2])), V1);
        assert_eq!(agreed(&both, client(V2, &[V2, V1])), V2);
        assert_eq!(agreed(&[V2], client(V2, &[V1, V2])), V2);
    }

    /// RFC 9368 4, 8.
    #[test]
    fn what_a_server_says_must_fit_what_the_client_went_by() {
        let session = |versions: &[Version], chosen: Version, has_reacted: bool| {
            let roots = weald_crypto::simulation::roots();
            let crypto = weald_crypto::ClientConfig::builder().alpn([b"test"]).roots(roots).simulation(1).build().unwrap();
            let attempt = Attempt { crypto, server_name: "localhost".into() };
            let mut negotiation = Negotiation::client(versions.into(), chosen, attempt);
            if let Role::Client { reacted, .. } = &mut negotiation.role {
                *reacted = has_reacted;
            }
            negotiation
        };
        let says = |chosen, available: &[Version]| client(chosen, available);
        let (one, two) = ([V1, V2], [V2, V1]);
        for (ours, chosen, reacted, agreed, theirs, is_good) in [
            (&one[..], V1, false, V1, None, true),
            (&one, V1, false, V1, says(V1, &two), true),
            (&one, V1, false, V1, says(V1, &[]), true),
            (&one, V1, false, V2, says(V2, &two), true),
            // Its packets say one thing, its handshake another, or nothing.
            (&one, V1, false, V1, says(V2, &two), false),
            (&one, V1, false, V2, says(V1, &two), false),
            (&one, V1, false, V2, None, false),
            (&one, V1, false, V3, says(V3, &[V3]), false),
            // After a Version Negotiation packet it must say what that said.
            (&one, V2, true, V2, says(V2, &[V2]), true),
            (&one, V2, true, V2, says(V2, &[V2, V3]), true),
            (&one, V2, true, V2, says(V2, &two), false),
            (&two, V2, true, V2, says(V2, &two), true),
            (&one, V2, true, V2, says(V2, &[]), false),
            (&one, V2, true, V2, None, false),
            // A server that knows version 1 alone says nothing.
            (&two, V1, true, V1, None, true),
            (&two, V1, true, V1, says(V1, &[V1]), true),
            (&two, V1, true, V1, says(V1, &two), false),
        ] {
            let checked = session(ours, chosen, reacted).check_server(agreed, theirs.as_ref());
            assert_eq!(checked.is_ok(), is_good, "{ours:?} {chosen} {reacted} {agreed} {theirs:?}: {checked:?}");
        }
    }
}
