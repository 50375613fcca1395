//! Certificates, trust and key logs for the commands, in terms of their options.

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use weald_crypto::{Certificates, ClientAuth, ClientConfig, ConfigError, KeyLogFile, NamedGroup, PrivateKey, ServerConfig, Tickets};

/// A certificate with its key.
pub(crate) struct Identity {
    pub(crate) chain: Certificates,
    pub(crate) key: PrivateKey,
}

impl Identity {
    /// A new self-signed certificate (ECDSA P-256) for `names`.
    pub(crate) fn self_signed(names: &[&str]) -> Result<Self> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).context("cannot generate a certificate")?;
        let key = PrivateKey::from_der(made.signing_key.serialize_der())?;
        Ok(Self { chain: Certificates::from_der([made.cert.der().to_vec()]), key })
    }

    /// The certificate of `--cert` and `--key`, if they are given.
    pub(crate) fn from_options(certificate: Option<&PathBuf>, key: Option<&PathBuf>) -> Result<Option<Self>> {
        match (certificate, key) {
            (Some(certificate), Some(key)) => {
                Ok(Some(Self { chain: Certificates::from_pem_file(certificate)?, key: PrivateKey::from_pem_file(key)? }))
            }
            (None, None) => Ok(None),
            _ => bail!("--cert and --key belong together; give both or neither"),
        }
    }
}

/// The tickets of `--ticket-keys`.
pub(crate) fn tickets(path: &Path) -> Result<Tickets> {
    let tickets = Tickets::from_file(path).map_err(|error| {
        let hint = match &error {
            ConfigError::File { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "the user whom the server runs as must be able to read it"
            }
            ConfigError::File { source, .. } if source.kind() == io::ErrorKind::NotFound => MAKE_KEYS,
            ConfigError::TicketKeys { .. } => MAKE_KEYS,
            _ => "give a file with --ticket-keys",
        };
        anyhow::anyhow!("{error}; {hint}")
    });
    let mode = path.metadata().map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o004 != 0 {
        let path = path.display();
        tracing::warn!("everybody on this host can read {path}, and with it the sessions that resume: chmod o-r {path}");
    }
    tickets
}

/// What to do where there are no ticket keys.
const MAKE_KEYS: &str = "a key is 64 hexadecimal digits on a line; (umask 077; openssl rand -hex 32 > FILE) makes one";

/// A server's TLS, with SSLKEYLOGFILE observed. With `client_roots`, clients must show a certificate signed under one of them.
/// `early_data` says whether those who come again may send before the handshake; `tickets` whose sessions they resume.
pub(crate) fn server(
    identity: Identity,
    client_roots: Option<Certificates>,
    alpn: &[&[u8]],
    groups: &[NamedGroup],
    tickets: Option<Tickets>,
    early_data: bool,
) -> Result<ServerConfig> {
    let builder =
        ServerConfig::builder().alpn(alpn.iter().copied()).groups(groups.iter().copied()).certificate(identity.chain, identity.key);
    let mut builder = builder.early_data(early_data);
    if let Some(tickets) = tickets {
        builder = builder.tickets(tickets);
    }
    if let Some(roots) = client_roots {
        builder = builder.client_roots(roots, ClientAuth::Required);
    }
    if let Some(log) = KeyLogFile::from_environment()? {
        builder = builder.key_log(Arc::new(log));
    }
    Ok(builder.build()?)
}

/// Whom a client trusts.
pub(crate) enum Trust {
    /// The certificates of the system.
    System,
    /// These roots alone.
    Roots(Certificates),
    /// Everybody: no certificate is checked.
    Anybody,
}

/// A client's TLS, with SSLKEYLOGFILE observed. Servers that ask for a certificate are shown `identity`.
pub(crate) fn client(trust: Trust, identity: Option<Identity>, alpn: &[&[u8]], groups: &[NamedGroup]) -> Result<ClientConfig> {
    let mut builder = ClientConfig::builder().alpn(alpn.iter().copied()).groups(groups.iter().copied());
    if let Some(Identity { chain, key }) = identity {
        builder = builder.identity(chain, key);
    }
    builder = match trust {
        Trust::Roots(roots) => builder.roots(roots),
        Trust::Anybody => builder.dangerous_skip_verification(),
        Trust::System => {
            let found = rustls_native_certs::load_native_certs();
            if found.certs.is_empty() {
                let reason = found.errors.first().map_or("there are none".to_owned(), ToString::to_string);
                bail!(
                    "no trusted certificates of the system: {reason}; give the server's root with --ca FILE, or --insecure to trust anybody"
                );
            }
            builder.system_roots(found.certs.iter().map(|certificate| certificate.to_vec()))
        }
    };
    if let Some(log) = KeyLogFile::from_environment()? {
        builder = builder.key_log(Arc::new(log));
    }
    Ok(builder.build()?)
}
