//! What tickets are sealed with: secrets, the keys of an hour that follow from them, and the file that secrets are read from.
//!
//! A sealed ticket is the name of its secret and the number of its hour, a nonce, and AES-256-GCM over what it says. Name and hour
//! choose the key, so opening one costs one derivation and one decryption whatever it claims.
//!
//! Invariants: there is at least one secret, and the first one seals. A file's new content takes effect whole or not at all.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use zeroize::Zeroizing;

use crate::backend::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use crate::backend::hmac;
use crate::{ConfigError, TAG_LEN};

/// How long one key seals. 2^32 random nonces a key are the limit (NIST SP 800-38D, 8.3), which an hour keeps up to a million
/// tickets a second over all servers that share the secret.
const PERIOD_SECONDS: u64 = 3600;
/// How far the clock of the server that sealed may be ahead of this one's, in periods.
const PERIODS_AHEAD: u64 = 1;

const NAME_LEN: usize = 4;
const HEADER_LEN: usize = NAME_LEN + 4;
const NONCE_LEN: usize = 12;

/// More than this is no key file.
const MAX_FILE_LEN: u64 = 64 * 1024;

/// Seals and opens, under one set of secrets after another.
#[derive(Debug)]
pub(super) struct TicketKeys {
    secrets: RwLock<Arc<[TicketSecret]>>,
    watched: Option<Watched>,
}

/// A file whose content is followed.
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    /// When it was last looked at, in seconds since 1970.
    looked_at: AtomicU64,
    /// Whether its content was bad then, and somebody was told.
    warned: AtomicBool,
}

impl TicketKeys {
    /// Keys from one secret, which whoever shares tickets has, too.
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self { secrets: RwLock::new(Arc::new([TicketSecret::new(secret)])), watched: None }
    }

    /// Keys from a file of secrets, which is followed.
    pub(super) fn watch(path: &Path) -> Result<Self, ConfigError> {
        let secrets = read(path)?;
        let watched = Watched { path: path.to_owned(), looked_at: AtomicU64::new(0), warned: AtomicBool::new(false) };
        Ok(Self { secrets: RwLock::new(secrets), watched: Some(watched) })
    }

    /// Seals `plain` at `now`, in seconds since 1970. `nonce` is 12 bytes that nobody can predict and that do not come again.
    pub(super) fn seal(&self, now: u64, nonce: [u8; NONCE_LEN], plain: &[u8], context: &[u8]) -> Vec<u8> {
        let secrets = self.current(now);
        let secret = &secrets[0];
        let period = u32::try_from(now / PERIOD_SECONDS).unwrap_or(u32::MAX);
        let mut ticket = Vec::with_capacity(HEADER_LEN + NONCE_LEN + plain.len() + TAG_LEN);
        ticket.extend_from_slice(&secret.name);
        ticket.extend_from_slice(&period.to_be_bytes());
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(plain);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let plain = &mut ticket[HEADER_LEN + NONCE_LEN..];
        let sealed = secret.seal(period, |key| key.seal_in_place_separate_tag(nonce, Aad::from(context), plain));
        ticket.extend_from_slice(sealed.expect("a ticket is far shorter than an AEAD's limit").as_ref());
        ticket
    }

    /// What was sealed at most `age` seconds before `now`, with the same context, under one of the secrets; else `None`.
    pub(super) fn open(&self, now: u64, age: u64, ticket: &[u8], context: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_LEN>()?;
        let (period, rest) = rest.split_first_chunk::<4>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let period = u32::from_be_bytes(*period);
        let oldest = now.saturating_sub(age) / PERIOD_SECONDS;
        if !(oldest..=now / PERIOD_SECONDS + PERIODS_AHEAD).contains(&u64::from(period)) {
            return None;
        }
        let secrets = self.current(now);
        secrets.iter().filter(|secret| secret.name == *name).find_map(|secret| {
            let mut opened = Zeroizing::new(sealed.to_vec());
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let len = secret.open(period, |key| Some(key.open_in_place(nonce, Aad::from(context), &mut opened).ok()?.len()))?;
            opened.truncate(len);
            Some(opened)
        })
    }

    /// The secrets of now: what the file says, if it was not looked at in this second.
    fn current(&self, now: u64) -> Arc<[TicketSecret]> {
        if let Some(watched) = &self.watched {
            // Relaxed: it only chooses who looks; the secrets are behind their lock.
            let before = watched.looked_at.load(Ordering::Relaxed);
            if before != now && watched.looked_at.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                self.look_again(watched);
            }
        }
        self.secrets.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn look_again(&self, watched: &Watched) {
        match read(&watched.path) {
            Ok(secrets) => {
                watched.warned.store(false, Ordering::Relaxed);
                let mut current = self.secrets.write().unwrap_or_else(PoisonError::into_inner);
                let is_same = current.iter().map(|secret| &secret.secret).eq(secrets.iter().map(|secret| &secret.secret));
                if !is_same {
                    tracing::info!(path = %watched.path.display(), keys = secrets.len(), "the ticket keys have changed");
                    *current = secrets;
                }
            }
            Err(error) => {
                if !watched.warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "the ticket keys stay as they were");
                }
            }
        }
    }
}

/// One secret, and the name by which tickets say that it sealed them.
struct TicketSecret {
    name: [u8; NAME_LEN],
    secret: Zeroizing<[u8; 32]>,
    /// The key of the hour that tickets are sealed in, and that most of them come back in.
    current: RwLock<Option<(u32, LessSafeKey)>>,
}

impl TicketSecret {
    fn new(secret: [u8; 32]) -> Self {
        let secret = Zeroizing::new(secret);
        let name = derive(&secret, b"weald session ticket: name", &[]);
        Self { name: *name.first_chunk().expect("32 bytes are more than 4"), secret, current: RwLock::new(None) }
    }

    /// Opens something with the key of an hour, which a stranger names.
    fn open<T>(&self, period: u32, open: impl FnOnce(&LessSafeKey) -> T) -> T {
        match &*self.current.read().unwrap_or_else(PoisonError::into_inner) {
            Some((current, key)) if *current == period => open(key),
            _ => open(&self.key(period)),
        }
    }

    /// Seals something with the key of this hour, which is kept.
    fn seal<T>(&self, period: u32, seal: impl FnOnce(&LessSafeKey) -> T) -> T {
        if let Some((current, key)) = &*self.current.read().unwrap_or_else(PoisonError::into_inner)
            && *current == period
        {
            return seal(key);
        }
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let (_, key) = current.insert((period, self.key(period)));
        seal(key)
    }

    fn key(&self, period: u32) -> LessSafeKey {
        let key = derive(&self.secret, b"weald session ticket: key", &period.to_be_bytes());
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*key).expect("the key has its algorithm's length"))
    }
}

impl std::fmt::Debug for TicketSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TicketSecret(..)")
    }
}

fn derive(secret: &[u8; 32], label: &[u8], context: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut signed = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    signed.update(label);
    signed.update(context);
    let signed = signed.sign();
    Zeroizing::new(*signed.as_ref().first_chunk().expect("SHA-256 gives 32 bytes"))
}

/// The secrets in a file: 64 hexadecimal digits a line. Empty lines, and those that start with `#`, say nothing.
fn read(path: &Path) -> Result<Arc<[TicketSecret]>, ConfigError> {
    let refused = |reason: String| ConfigError::TicketKeys { path: path.to_owned(), reason };
    let mut text = Zeroizing::new(Vec::new());
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE_LEN + 1).read_to_end(&mut text))
        .map_err(|source| ConfigError::File { path: path.to_owned(), source })?;
    if text.len() as u64 > MAX_FILE_LEN {
        return Err(refused(format!("it is longer than {MAX_FILE_LEN} bytes")));
    }
    let mut secrets = Vec::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line[0] == b'#' {
            continue;
        }
        let secret = from_hex(line).ok_or_else(|| refused(format!("line {} is not 64 hexadecimal digits", index + 1)))?;
        secrets.push(TicketSecret::new(*secret));
    }
    if secrets.is_empty() {
        return Err(refused("it holds no key".to_owned()));
    }
    Ok(secrets.into())
}

fn from_hex(digits: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let nibble = |digit: u8| char::from(digit).to_digit(16);
        *byte = (nibble(pair[0])? << 4 | nibble(pair[1])?) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const DAY: u64 = 24 * 3600;

    #[test]
    fn what_was_sealed_opens_and_nothing_else_does() {
        let keys = TicketKeys::new([7; 32]);
        let ticket = keys.seal(NOW, [1; 12], b"what it says", b"context");
        let opened =
            |keys: &TicketKeys, now, ticket: &[u8], context: &[u8]| keys.open(now, DAY, ticket, context).map(|plain| plain.to_vec());
        assert_eq!(opened(&keys, NOW, &ticket, b"context").as_deref(), Some(&b"what it says"[..]));
        assert_eq!(opened(&TicketKeys::new([7; 32]), NOW + DAY, &ticket, b"context").as_deref(), Some(&b"what it says"[..]));
        assert_eq!(opened(&TicketKeys::new([8; 32]), NOW, &ticket, b"context"), None);
        assert_eq!(opened(&keys, NOW, &ticket, b"other"), None);
        for bit in 0..ticket.len() * 8 {
            let mut changed = ticket.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(opened(&keys, NOW, &changed, b"context"), None, "bit {bit}");
        }
        for len in 0..ticket.len() {
            assert_eq!(opened(&keys, NOW, &ticket[..len], b"context"), None, "{len} bytes");
        }
    }

    #[test]
    fn a_key_is_good_for_its_time() {
        let keys = TicketKeys::new([7; 32]);
        let ticket = keys.seal(NOW, [1; 12], b"", b"");
        assert!(keys.open(NOW + DAY, DAY, &ticket, b"").is_some());
        assert!(keys.open(NOW + DAY + 3600, DAY, &ticket, b"").is_none());
        // The other server's clock may be somewhat ahead.
        assert!(keys.open(NOW - 3600, DAY, &ticket, b"").is_some());
        assert!(keys.open(NOW - 2 * 3600, DAY, &ticket, b"").is_none());
        // Each hour has its own key: the same nonce gives nothing away.
        let [one, two] = [NOW, NOW + 3600].map(|now| keys.seal(now, [1; 12], &[0; 64], b""));
        assert!(one[20..].iter().zip(&two[20..]).filter(|(one, two)| one == two).count() < 10);
    }

    /// Counts what is warned of.
    #[derive(Clone, Default)]
    struct Warnings(Arc<AtomicU64>);

    impl tracing::Subscriber for Warnings {
        fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
            *metadata.level() == tracing::Level::WARN
        }

        fn event(&self, _: &tracing::Event<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }

        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }

    /// Once for each time that it turns bad, and not every second.
    #[test]
    fn a_bad_file_is_warned_of_once() {
        let path = std::env::temp_dir().join(format!("weald-crypto-{}-bad-keys", std::process::id()));
        std::fs::write(&path, "1f".repeat(32)).unwrap();
        let keys = TicketKeys::watch(&path).unwrap();
        let warnings = Warnings::default();
        tracing::subscriber::with_default(warnings.clone(), || {
            for (times, (content, expected)) in [("", 1), (&"1f".repeat(32)[..], 1), ("bad", 2)].into_iter().enumerate() {
                std::fs::write(&path, content).unwrap();
                for second in 0..10 {
                    keys.seal(NOW + 10 * times as u64 + second, [1; 12], b"", b"");
                }
                assert_eq!(warnings.0.load(Ordering::Relaxed), expected, "{content:?}");
            }
        });
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_file_is_followed_and_a_bad_one_is_not() {
        let path = std::env::temp_dir().join(format!("weald-crypto-{}-ticket-keys", std::process::id()));
        let (first, second) = ("1f".repeat(32), "2E".repeat(32));
        std::fs::write(&path, format!("# keys\n\n {first} \n")).unwrap();
        let keys = TicketKeys::watch(&path).unwrap();
        let old = keys.seal(NOW, [1; 12], b"old", b"");
        let opens = |now, ticket: &[u8]| keys.open(now, DAY, ticket, b"").is_some();

        // The new key seals, and the old one still opens; but nobody looks twice in one second.
        std::fs::write(&path, format!("{second}\n{first}\n")).unwrap();
        assert_eq!(keys.seal(NOW, [1; 12], b"old", b""), old);
        let new = keys.seal(NOW + 1, [1; 12], b"new", b"");
        assert_ne!(new[..4], old[..4]);
        assert!(opens(NOW + 1, &old) && opens(NOW + 1, &new));

        for bad in ["", "# nothing\n", "12\n", &format!("{second}0\n"), &format!("{second}\n{}\n", "xy".repeat(32))] {
            std::fs::write(&path, bad).unwrap();
            let error = TicketKeys::watch(&path).unwrap_err();
            assert!(matches!(&error, ConfigError::TicketKeys { .. }) && error.to_string().contains("ticket-keys"), "{error}");
        }
        assert!(opens(NOW + 2, &old) && opens(NOW + 2, &new), "a bad file changes nothing");
        std::fs::write(&path, vec![b'#'; MAX_FILE_LEN as usize + 1]).unwrap();
        assert!(TicketKeys::watch(&path).is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(opens(NOW + 3, &old), "no more does one that is gone");
        assert!(matches!(TicketKeys::watch(&path), Err(ConfigError::File { .. })));

        std::fs::write(&path, &second).unwrap();
        assert!(!opens(NOW + 4, &old) && opens(NOW + 4, &new));
        std::fs::remove_file(&path).unwrap();
    }
}
