//! What can go wrong, by whose fault it is: the configuration's ([`ConfigError`]), the peer's or the handshake's
//! ([`TlsError`]), a packet's ([`OpenError`]). The one place that maps rustls' errors to TLS alerts.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rustls::{AlertDescription, CertificateError};

/// The packet does not authenticate: it was damaged, forged, or sealed with another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenError;

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the packet does not authenticate")
    }
}

impl std::error::Error for OpenError {}

/// A handshake failed, or what was said after it. The connection is to be closed with CRYPTO_ERROR, 0x100 + `alert` (RFC 9001, 4.8), or
/// with PROTOCOL_VIOLATION where `protocol_violation` says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    /// The TLS alert that tells the peer why (RFC 8446, 6).
    pub alert: u8,
    /// Whether TLS permits what happened and QUIC does not, which then has a code of its own for it.
    pub protocol_violation: bool,
    /// What happened, for a log or a user of this end. It may say more than a peer should learn.
    pub message: String,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TlsError {}

impl TlsError {
    pub(crate) fn new(alert: AlertDescription, message: impl Into<String>) -> Self {
        Self { alert: alert.into(), protocol_violation: false, message: message.into() }
    }

    pub(crate) fn protocol_violation(message: impl Into<String>) -> Self {
        Self { protocol_violation: true, ..Self::new(AlertDescription::IllegalParameter, message) }
    }

    /// `alert` is what rustls wanted to tell the peer, if it came that far. `server_name` is the host that a client meant
    /// to reach.
    pub(crate) fn from_rustls(error: &rustls::Error, alert: Option<AlertDescription>, server_name: Option<&str>) -> Self {
        let message = match (error, server_name) {
            (rustls::Error::InvalidCertificate(reason), Some(host)) => certificate_message(reason, host),
            (rustls::Error::InvalidCertificate(reason), None) => format!("the client's certificate was refused: {reason}"),
            (rustls::Error::NoCertificatesPresented, None) => "the client showed no certificate, and must".to_owned(),
            (rustls::Error::General(_), None) if alert == Some(NO_CHAIN) => {
                return Self::new(AlertDescription::UnrecognisedName, "there is no certificate for the name that the client asked for");
            }
            (rustls::Error::NoApplicationProtocol, Some(host)) => {
                format!("{host} speaks none of the application protocols that were offered")
            }
            (rustls::Error::NoApplicationProtocol, None) => "the client offered no application protocol that is spoken here".to_owned(),
            _ => error.to_string(),
        };
        Self::new(alert.unwrap_or_else(|| alert_of(error)), message)
    }
}

/// What rustls tells a client for whose name there is no chain. RFC 6066, 3, has an alert for it, and nothing else in a TLS 1.3
/// server uses this one.
const NO_CHAIN: AlertDescription = AlertDescription::AccessDenied;

fn certificate_message(reason: &CertificateError, host: &str) -> String {
    match reason {
        CertificateError::UnknownIssuer => {
            format!("the certificate of {host} is not signed by a trusted authority; is its root among the configured ones?")
        }
        CertificateError::BadSignature => format!(
            "a signature by or on the certificate of {host} does not verify: the server does not hold its key, or a trusted authority \
             of its issuer's name has another one"
        ),
        reason => format!("the certificate of {host} was refused: {reason}"),
    }
}

/// The alert for an error for which rustls left none: those from before it looks at a message's meaning, and those that
/// are our own fault.
fn alert_of(error: &rustls::Error) -> AlertDescription {
    match error {
        rustls::Error::InappropriateMessage { .. } | rustls::Error::InappropriateHandshakeMessage { .. } => {
            AlertDescription::UnexpectedMessage
        }
        rustls::Error::InvalidMessage(reason) => (*reason).into(),
        rustls::Error::InvalidCertificate(reason) => reason.clone().into(),
        rustls::Error::NoCertificatesPresented => AlertDescription::CertificateRequired,
        rustls::Error::NoApplicationProtocol => AlertDescription::NoApplicationProtocol,
        rustls::Error::DecryptError => AlertDescription::DecryptError,
        rustls::Error::PeerIncompatible(_) => AlertDescription::HandshakeFailure,
        rustls::Error::PeerMisbehaved(_) => AlertDescription::IllegalParameter,
        rustls::Error::PeerSentOversizedRecord => AlertDescription::RecordOverflow,
        // What remains is a fault of this end's. The enum is open, so the rest cannot be listed.
        _ => AlertDescription::InternalError,
    }
}

/// A configuration that cannot work, or a name that cannot be connected to. The fault is the caller's.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file could not be read or written.
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What should have been PEM is not.
    Pem {
        /// The file, or another word for where the text came from.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that should hold keys for tickets holds none, or something else.
    TicketKeys {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A server is to take early data, and gives no tickets to send it with.
    EarlyDataWithoutTickets,
    /// There is no certificate where there should be one.
    NoCertificate {
        /// The file, or another word for where it should have been.
        origin: String,
    },
    /// There is no private key where there should be one.
    NoPrivateKey {
        /// The file, or another word for where it should have been.
        origin: String,
    },
    /// A certificate cannot be used.
    Certificate {
        /// The file, or another word for where it came from.
        origin: String,
        /// Which certificate there, counted from 1.
        position: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A private key cannot be used.
    PrivateKey {
        /// The file, or another word for where it came from.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The private key is not that of the first certificate of the chain.
    KeyMismatch {
        /// Where the certificate came from.
        certificate: String,
        /// Where the key came from.
        key: String,
    },
    /// A server was given no certificate.
    ServerWithoutCertificate,
    /// A client was given nothing to check certificates against.
    ClientWithoutRoots,
    /// A server was given nothing to check its clients' certificates against.
    ServerWithoutClientRoots,
    /// What a certificate is to be shown for is neither a DNS name nor `*.` and a DNS name.
    CertificateName {
        /// The name.
        name: String,
    },
    /// Two certificates are to be shown for the same name.
    NamedTwice {
        /// The name.
        name: String,
    },
    /// A certificate is to be shown for a name that it is not for.
    NotCovered {
        /// The name.
        name: String,
        /// The file, or another word for where the certificate came from.
        certificate: String,
    },
    /// No application protocol was named; QUIC requires one (RFC 9001, 8.1).
    NoApplicationProtocol,
    /// An application protocol's name is empty or longer than 255 bytes.
    ApplicationProtocol {
        /// The name.
        name: String,
    },
    /// No key exchange group, or no cipher suite, is left to choose from.
    NothingToNegotiate {
        /// What there is none of.
        what: &'static str,
    },
    /// The server's name is neither a DNS name nor an IP address.
    ServerName {
        /// The name.
        name: String,
    },
    /// TLS refused the configuration for a reason of its own.
    Tls {
        /// What it said.
        reason: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Pem { origin, reason } => write!(f, "{origin}: not valid PEM: {reason}"),
            Self::TicketKeys { path, reason } => write!(f, "{}: no keys for tickets: {reason}", path.display()),
            Self::EarlyDataWithoutTickets => f.write_str("early data comes with tickets, and the server is to give none"),
            Self::NoCertificate { origin } => {
                write!(f, "{origin}: holds no certificate (no \"-----BEGIN CERTIFICATE-----\")")
            }
            Self::NoPrivateKey { origin } => {
                write!(f, "{origin}: holds no private key (no \"-----BEGIN PRIVATE KEY-----\" or the like)")
            }
            Self::Certificate { origin, position, reason } => {
                write!(f, "{origin}: certificate {position} cannot be used: {reason}")
            }
            Self::PrivateKey { origin, reason } => write!(f, "{origin}: the private key cannot be used: {reason}"),
            Self::KeyMismatch { certificate, key } => {
                write!(f, "the private key from {key} does not belong to the first certificate from {certificate}")
            }
            Self::ServerWithoutCertificate => f.write_str("a server needs a certificate chain and its private key"),
            Self::ClientWithoutRoots => f.write_str("a client needs root certificates to check servers against"),
            Self::ServerWithoutClientRoots => f.write_str("a server that asks for certificates needs roots to check its clients against"),
            Self::CertificateName { name } => {
                write!(f, "{name:?}, for which a certificate is to be shown, is neither a DNS name nor \"*.\" and a DNS name")
            }
            Self::NamedTwice { name } => write!(f, "two certificates are to be shown for {name:?}"),
            Self::NotCovered { name, certificate } => {
                write!(f, "the first certificate from {certificate} is not for {name:?}, for which it is to be shown")
            }
            Self::NoApplicationProtocol => f.write_str("no application protocol (ALPN) is configured; QUIC requires one"),
            Self::ApplicationProtocol { name } => {
                write!(f, "the application protocol name {name:?} is not 1 to 255 bytes long")
            }
            Self::NothingToNegotiate { what } => write!(f, "no {what} is left to negotiate"),
            Self::ServerName { name } => write!(f, "{name:?} is neither a DNS name nor an IP address"),
            Self::Tls { reason } => write!(f, "the TLS configuration cannot work: {reason}"),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            _ => None,
        }
    }
}
