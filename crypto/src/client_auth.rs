//! Whether and how a server checks who its clients are (RFC 8446, 4.3.2 and 4.4).
//!
//! Owns the choice and the making of the verifier. What a verified client may do is the application's business.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use crate::backend::digest;
use crate::{Certificates, ConfigError};

/// Whether a client that shows no certificate is let in. One that shows a certificate must show a good one either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// A client without a certificate is let in.
    Optional,
    /// A client without a certificate is refused, with the alert certificate_required.
    Required,
}

/// Checks that a client's chain leads to one of `roots`, is valid now, and may be used by clients.
pub(crate) fn verifier(
    roots: RootCertStore,
    auth: ClientAuth,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, ConfigError> {
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match auth {
        ClientAuth::Optional => builder.allow_unauthenticated(),
        ClientAuth::Required => builder,
    };
    builder.build().map_err(|error| ConfigError::Tls { reason: error.to_string() })
}

/// A digest of what is wanted of clients: who met it once may resume where it is the same.
pub(crate) fn policy(roots: &[Certificates], auth: Option<ClientAuth>) -> Arc<[u8]> {
    let mut wanted = digest::Context::new(&digest::SHA256);
    wanted.update(&[match auth {
        None => 0,
        Some(ClientAuth::Optional) => 1,
        Some(ClientAuth::Required) => 2,
    }]);
    for root in roots.iter().flat_map(Certificates::iter) {
        wanted.update(&(root.len() as u64).to_be_bytes());
        wanted.update(root);
    }
    wanted.finish().as_ref().into()
}
