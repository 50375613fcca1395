//! Random bytes of the system's generator, for secrets that no TLS session makes.

use std::io;

use crate::backend;

/// Fills `bytes` with what nobody can predict.
///
/// # Errors
///
/// The system has no randomness to give.
pub fn random_bytes(bytes: &mut [u8]) -> io::Result<()> {
    backend::fill_random(bytes).map_err(|_| io::Error::other("the system gives no random bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_secrets_differ() {
        let mut secrets = [[0; 32]; 2];
        for secret in &mut secrets {
            random_bytes(secret).unwrap();
        }
        assert_ne!(secrets[0], secrets[1]);
        assert_ne!(secrets[0], [0; 32]);
    }
}
