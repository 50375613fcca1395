//! How traffic secrets leave rustls: through its key log, collected on the thread that drives the session.
//!
//! rustls calls its key log, which belongs to the configuration, in the middle of a handshake step. The tap keeps what it
//! is told in a thread-local for as long as [`collect`] runs, which `session.rs` wraps around each step; so the secrets
//! reach the session whose step it was, with no lock and no lookup by client random. A user's own key log is chained
//! behind the tap.
//!
//! Invariant: outside [`collect`] the thread-local is empty, also after a panic. Secrets are zeroised when dropped.

use std::cell::Cell;
use std::sync::Arc;

use crate::KeyLog;
use crate::keys::Secret;

/// The secrets of one handshake, as they become known.
#[derive(Default)]
pub(crate) struct Tapped {
    pub(crate) client_early: Option<Secret>,
    pub(crate) client_handshake: Option<Secret>,
    pub(crate) server_handshake: Option<Secret>,
    pub(crate) client_traffic: Option<Secret>,
    pub(crate) server_traffic: Option<Secret>,
    pub(crate) exporter: Option<Secret>,
}

impl Tapped {
    fn take(&mut self, label: &str, secret: &[u8]) {
        let place = match label {
            "CLIENT_EARLY_TRAFFIC_SECRET" => &mut self.client_early,
            "CLIENT_HANDSHAKE_TRAFFIC_SECRET" => &mut self.client_handshake,
            "SERVER_HANDSHAKE_TRAFFIC_SECRET" => &mut self.server_handshake,
            "CLIENT_TRAFFIC_SECRET_0" => &mut self.client_traffic,
            "SERVER_TRAFFIC_SECRET_0" => &mut self.server_traffic,
            "EXPORTER_SECRET" => &mut self.exporter,
            // The exporter of early data: nobody asks for it.
            _ => return,
        };
        *place = Secret::new(secret);
    }
}

thread_local! {
    static COLLECTING: Cell<Option<Tapped>> = const { Cell::new(None) };
}

/// Runs one handshake step, and adds the secrets that it yields to `tapped`. Not to be nested.
pub(crate) fn collect<T>(tapped: &mut Tapped, step: impl FnOnce() -> T) -> T {
    /// Puts the secrets back where they are kept, however the step ends.
    struct Collection<'a>(&'a mut Tapped);
    impl Drop for Collection<'_> {
        fn drop(&mut self) {
            *self.0 = COLLECTING.take().unwrap_or_default();
        }
    }
    COLLECTING.set(Some(std::mem::take(tapped)));
    let _collection = Collection(tapped);
    step()
}

/// The key log that rustls is given.
#[derive(Debug)]
pub(crate) struct Tap {
    chained: Option<Arc<dyn KeyLog>>,
}

impl Tap {
    pub(crate) fn new(chained: Option<Arc<dyn KeyLog>>) -> Self {
        Self { chained }
    }
}

impl rustls::KeyLog for Tap {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        if let Some(mut tapped) = COLLECTING.take() {
            tapped.take(label, secret);
            COLLECTING.set(Some(tapped));
        }
        if let Some(chained) = &self.chained {
            chained.log(label, client_random, secret);
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::KeyLog as _;

    use super::{COLLECTING, Tap, Tapped, collect};

    #[test]
    fn collects_only_around_a_step() {
        let tap = Tap::new(None);
        let mut tapped = Tapped::default();
        tap.log("EXPORTER_SECRET", &[], &[1; 32]);
        collect(&mut tapped, || tap.log("CLIENT_TRAFFIC_SECRET_0", &[], &[2; 48]));
        tap.log("SERVER_TRAFFIC_SECRET_0", &[], &[3; 32]);
        collect(&mut tapped, || tap.log("SERVER_HANDSHAKE_TRAFFIC_SECRET", &[], &[4; 32]));
        assert_eq!(tapped.client_traffic.unwrap().as_bytes(), [2; 48]);
        assert_eq!(tapped.server_handshake.unwrap().as_bytes(), [4; 32]);
        assert!(tapped.exporter.is_none() && tapped.server_traffic.is_none());
    }

    #[test]
    fn a_panic_leaves_nothing_behind() {
        let mut tapped = Tapped::default();
        let step = std::panic::AssertUnwindSafe(|| {
            collect(&mut tapped, || {
                Tap::new(None).log("EXPORTER_SECRET", &[], &[1; 32]);
                panic!("in a step");
            })
        });
        assert!(std::panic::catch_unwind(step).is_err());
        assert!(COLLECTING.take().is_none());
    }
}
