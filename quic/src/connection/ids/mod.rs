//! The connection ids of both sides: NEW_CONNECTION_ID and RETIRE_CONNECTION_ID (RFC 9000 5.1, 19.15, 19.16).
//!
//! Those by which the peer reaches us are in `local`, those by which we reach the peer in `remote`. How our ids are made is
//! the endpoint's business: the issuer is lent at the start.

mod local;
mod remote;

pub(crate) use self::local::LocalIds;
pub(crate) use self::remote::RemoteIds;

use crate::error::{TransportError, TransportErrorCode};

fn violation(reason: &'static str) -> TransportError {
    TransportErrorCode::PROTOCOL_VIOLATION.because(reason)
}
