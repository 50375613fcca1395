//! Tokens of address validation: what one says, and what one that came back proves (RFC 9000 8.1.1 to 8.1.4).
//!
//! Owns the layout, the lifetimes, and the memory of tokens that were used. Does not own the seal (`weald_crypto::TokenKey`),
//! nor what follows for the client: `admit` decides that.
//!
//! A token is one octet with the low bits of its period, by which the key is found, and then, sealed:
//!
//! ```text
//! kind: 1    issued: 8, in seconds of Unix time    version: 4    address: 1 + 4 or 16
//! from a Retry only:    port: 2    the client's first destination id: 1 + 0..20    the Retry's source id: 1 + 0..20
//! ```
//!
//! Invariants: a token proves an address once. What is forgotten for want of room is taken for used: of a register that
//! overflows, all tokens that are as old as those forgotten are refused.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use weald_crypto::TokenKey;

use super::accept::Incoming;
use super::route::KeyedHash;
use crate::id::ConnectionId;
use crate::time::Instant;
use crate::wire::{Reader, Truncated, Version};

/// Keys are good for tokens of one day: below 2^32 tokens, and none need be good for longer.
const PERIOD: u64 = 24 * 60 * 60;

/// Servers that share a secret may disagree by so much about the time.
const CLOCK_SKEW: u64 = 5;

/// Used tokens that are remembered of each kind, twice: 10 seconds of 3,000 handshakes each.
const REMEMBERED: usize = 1 << 15;

const KIND_RETRY: u8 = 1;
const KIND_ADDRESS: u8 = 2;

/// A time of day: seconds since 1970 (Unix time).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(u64);

impl WallTime {
    /// The time so many seconds after the beginning of 1970.
    pub const fn from_unix(seconds: u64) -> WallTime {
        WallTime(seconds)
    }
}

/// The time of day, told once: what the host's clock does later changes nothing.
#[derive(Clone, Copy)]
pub(super) struct WallClock {
    at: Instant,
    time: WallTime,
}

impl WallClock {
    pub(super) fn new(at: Instant, time: WallTime) -> Self {
        Self { at, time }
    }

    pub(super) fn read(&self, now: Instant) -> WallTime {
        WallTime(self.time.0.saturating_add((now - self.at).as_secs()))
    }
}

/// What a token says besides when and to whom it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenBody {
    /// It came in a Retry, and answers the client's first packet, to `original`.
    Retry { original: ConnectionId, retry_source: ConnectionId },
    /// It came in NEW_TOKEN.
    Address,
}

/// What a token that came with a first packet proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenVerdict {
    /// Nothing: there is none, or it is none of ours, or no longer good. RFC 9000 8.1.3: the client is like any other.
    Nothing,
    /// The client got our Retry where it is.
    Retry { original: ConnectionId, used: Used },
    /// The client's address was validated before.
    Address(Used),
    /// It is from a Retry, and does not fit. RFC 9000 8.1.2: the client accepts no second Retry.
    InvalidRetry,
}

/// Names a genuine token, to be spent when a connection is made for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Used {
    kind: u8,
    issued: WallTime,
    /// Of its nonce, which is ours.
    mark: u64,
}

/// For how long tokens are good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetimes {
    pub(crate) retry: Duration,
    pub(crate) address: Duration,
}

/// Seals and opens the tokens of one worker.
pub(crate) struct Tokens {
    secret: [u8; 32],
    /// Of the periods that were needed last.
    keys: [Option<(u64, TokenKey)>; 2],
    registers: UsedTokens,
}

impl Tokens {
    pub(crate) fn new(secret: [u8; 32], registers: UsedTokens) -> Self {
        Self { secret, keys: [None, None], registers }
    }

    /// A token for the client at `remote`, from a connection of `version`. `nonce` is unpredictable.
    pub(crate) fn seal(&mut self, now: WallTime, nonce: [u8; 12], remote: SocketAddr, version: Version, body: TokenBody) -> Vec<u8> {
        let mut plain = Vec::with_capacity(80);
        plain.push(match body {
            TokenBody::Retry { .. } => KIND_RETRY,
            TokenBody::Address => KIND_ADDRESS,
        });
        plain.extend_from_slice(&now.0.to_be_bytes());
        plain.extend_from_slice(&version.as_u32().to_be_bytes());
        match remote.ip().to_canonical() {
            IpAddr::V4(ip) => put(&mut plain, &ip.octets()),
            IpAddr::V6(ip) => put(&mut plain, &ip.octets()),
        }
        if let TokenBody::Retry { original, retry_source } = body {
            plain.extend_from_slice(&remote.port().to_be_bytes());
            put(&mut plain, &original);
            put(&mut plain, &retry_source);
        }
        let period = now.0 / PERIOD;
        let sealed = self.key(period).seal(nonce, &plain, &[]);
        [&[period as u8], &sealed[..]].concat()
    }

    /// What `token` proves of a client.
    pub(crate) fn open(&mut self, now: WallTime, lifetimes: Lifetimes, client: &Incoming, token: &[u8]) -> TokenVerdict {
        let Some((period, sealed)) = token.split_first() else { return TokenVerdict::Nothing };
        // No token is older than a period; who shares the secret may be ahead of us by a little.
        let days = [now.0 / PERIOD, (now.0 / PERIOD).wrapping_sub(1), now.0.saturating_add(CLOCK_SKEW) / PERIOD];
        let Some(period) = days.into_iter().find(|day| *day as u8 == *period) else { return TokenVerdict::Nothing };
        let Some(plain) = self.key(period).open(sealed, &[]) else { return TokenVerdict::Nothing };
        // What opens was sealed by us, or by an older version of us.
        let Ok(said) = Said::read(&plain) else { return TokenVerdict::Nothing };
        let mark = sealed.first_chunk().map_or(0, |mark| u64::from_be_bytes(*mark));
        let used = Used { kind: said.kind, issued: said.issued, mark };
        let (lifetime, kind_is_known) = match said.kind {
            KIND_RETRY => (lifetimes.retry, true),
            KIND_ADDRESS => (lifetimes.address, true),
            _ => (Duration::ZERO, false),
        };
        let age = now.0.saturating_sub(said.issued.0);
        let is_good = kind_is_known
            && said.ip == client.remote.ip().to_canonical()
            // RFC 9369 5, and 4.1 for one of a Retry.
            && said.version == client.version
            && age <= lifetime.as_secs()
            && said.issued.0 <= now.0.saturating_add(CLOCK_SKEW)
            && !self.registers.is_used(used);
        match said.retry {
            Some((port, original, retry_source)) if is_good && port == client.remote.port() && retry_source == client.original => {
                TokenVerdict::Retry { original, used }
            }
            Some(_) => TokenVerdict::InvalidRetry,
            None if is_good => TokenVerdict::Address(used),
            None => TokenVerdict::Nothing,
        }
    }

    /// A connection was made for a token. False if there was one before, at another worker.
    pub(crate) fn spend(&mut self, used: Used) -> bool {
        self.registers.spend(used)
    }

    fn key(&mut self, period: u64) -> &TokenKey {
        if self.keys[0].as_ref().is_none_or(|(of, _)| *of != period) {
            self.keys.swap(0, 1);
            if self.keys[0].as_ref().is_none_or(|(of, _)| *of != period) {
                self.keys[0] = Some((period, TokenKey::new(&self.secret, period)));
            }
        }
        &self.keys[0].as_ref().expect("it was just put there").1
    }
}

/// What is written in a token.
struct Said {
    kind: u8,
    issued: WallTime,
    version: Version,
    ip: IpAddr,
    /// Port and ids.
    retry: Option<(u16, ConnectionId, ConnectionId)>,
}

impl Said {
    fn read(plain: &[u8]) -> Result<Said, Truncated> {
        let mut reader = Reader::new(plain);
        let kind = reader.u8()?;
        let issued = WallTime(u64::from_be_bytes(reader.array()?));
        let version = Version::from_u32(reader.u32()?);
        let ip = match reader.u8()? {
            4 => IpAddr::from(reader.array::<4>()?),
            16 => IpAddr::from(reader.array::<16>()?),
            _ => return Err(Truncated),
        };
        let id = |reader: &mut Reader<'_>| {
            let len = reader.u8()?;
            ConnectionId::new(reader.bytes(len.into())?).ok_or(Truncated)
        };
        let retry = match kind {
            KIND_RETRY => Some((reader.u16()?, id(&mut reader)?, id(&mut reader)?)),
            _ => None,
        };
        Ok(Said { kind, issued, version, ip, retry })
    }
}

fn put(plain: &mut Vec<u8>, bytes: &[u8]) {
    plain.push(bytes.len() as u8);
    plain.extend_from_slice(bytes);
}

/// Which tokens were used: one memory for all workers, since a copy may come in anywhere. Asked for genuine tokens alone.
#[derive(Clone)]
pub(crate) struct UsedTokens(Arc<Mutex<[Register; 2]>>);

impl UsedTokens {
    pub(crate) fn new(hash: KeyedHash) -> Self {
        Self(Arc::new(Mutex::new([Register::new(hash.clone()), Register::new(hash)])))
    }

    fn is_used(&self, used: Used) -> bool {
        self.with(used, |register| register.is_used(used))
    }

    fn spend(&self, used: Used) -> bool {
        self.with(used, |register| !register.is_used(used) && register.insert(used))
    }

    fn with<T>(&self, used: Used, f: impl FnOnce(&mut Register) -> T) -> T {
        // Nothing panics under the lock.
        let mut registers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f(&mut registers[usize::from(used.kind == KIND_ADDRESS)])
    }
}

/// The used tokens of one kind, in two generations, of which the older one is forgotten when the younger one is full.
struct Register {
    young: Generation,
    old: Generation,
    /// All tokens up to this age may have been used and forgotten.
    forgotten: Option<WallTime>,
}

struct Generation {
    marks: HashSet<u64, KeyedHash>,
    /// The last that was issued of them.
    newest: WallTime,
}

impl Generation {
    fn new(hash: KeyedHash) -> Self {
        Self { marks: HashSet::with_hasher(hash), newest: WallTime(0) }
    }
}

impl Register {
    fn new(hash: KeyedHash) -> Self {
        Self { young: Generation::new(hash.clone()), old: Generation::new(hash), forgotten: None }
    }

    fn is_used(&self, used: Used) -> bool {
        self.forgotten.is_some_and(|forgotten| used.issued <= forgotten)
            || self.young.marks.contains(&used.mark)
            || self.old.marks.contains(&used.mark)
    }

    fn insert(&mut self, used: Used) -> bool {
        if self.young.marks.len() == REMEMBERED {
            std::mem::swap(&mut self.young, &mut self.old);
            if !self.young.marks.is_empty() {
                self.forgotten = self.forgotten.max(Some(self.young.newest));
            }
            self.young.marks.clear();
            self.young.newest = WallTime(0);
        }
        self.young.newest = self.young.newest.max(used.issued);
        self.young.marks.insert(used.mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIMES: Lifetimes = Lifetimes { retry: Duration::from_secs(15), address: Duration::from_secs(PERIOD) };
    const NOW: WallTime = WallTime(1_800_000_000);

    fn tokens() -> Tokens {
        Tokens::new([9; 32], UsedTokens::new(KeyedHash::new([1; 16])))
    }

    fn id(fill: u8, len: usize) -> ConnectionId {
        ConnectionId::new(&vec![fill; len]).unwrap()
    }

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    fn nonce(number: u64) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        nonce
    }

    fn retry() -> TokenBody {
        TokenBody::Retry { original: id(1, 8), retry_source: id(2, 16) }
    }

    fn open(tokens: &mut Tokens, seconds: i64, remote: &str, token: &[u8]) -> TokenVerdict {
        tokens.open(WallTime(NOW.0.saturating_add_signed(seconds)), LIFETIMES, &client(remote, id(2, 16)), token)
    }

    fn client(remote: &str, destination: ConnectionId) -> Incoming {
        Incoming::new(at(remote), Version::V1, destination, id(5, 8), 1200).unwrap()
    }

    #[test]
    fn a_retry_is_good_for_its_address_port_and_id_for_fifteen_seconds() {
        let mut tokens = tokens();
        let token = tokens.seal(NOW, nonce(1), at("192.0.2.1:7"), Version::V1, retry());
        assert!(token.len() <= 128, "{}", token.len());
        let mut open = |seconds, remote| open(&mut tokens, seconds, remote, &token);
        for seconds in [0, 15, -5] {
            assert!(matches!(open(seconds, "192.0.2.1:7"), TokenVerdict::Retry { original, .. } if original == id(1, 8)), "{seconds}");
        }
        // The same address as a socket of both families shows it.
        assert!(matches!(open(0, "[::ffff:192.0.2.1]:7"), TokenVerdict::Retry { .. }));
        for (seconds, remote) in [(16, "192.0.2.1:7"), (-6, "192.0.2.1:7"), (0, "192.0.2.2:7"), (0, "192.0.2.1:8"), (0, "[2001:db8::1]:7")]
        {
            assert_eq!(open(seconds, remote), TokenVerdict::InvalidRetry, "{seconds} {remote}");
        }
        let elsewhere = tokens.open(NOW, LIFETIMES, &client("192.0.2.1:7", id(3, 16)), &token);
        assert_eq!(elsewhere, TokenVerdict::InvalidRetry);
    }

    #[test]
    fn a_token_of_new_token_is_good_for_its_address_on_any_port_for_a_day() {
        let mut tokens = tokens();
        let token = tokens.seal(NOW, nonce(1), at("[2001:db8::1]:7"), Version::V1, TokenBody::Address);
        let mut open = |seconds, remote| open(&mut tokens, seconds, remote, &token);
        for (seconds, remote) in [(0, "[2001:db8::1]:7"), (PERIOD as i64, "[2001:db8::1]:9")] {
            assert!(matches!(open(seconds, remote), TokenVerdict::Address(_)));
        }
        // RFC 9000 8.1.3: such a client is like any other.
        for (seconds, remote) in [(PERIOD as i64 + 1, "[2001:db8::1]:7"), (0, "[2001:db8::2]:7"), (-6, "[2001:db8::1]:7")] {
            assert_eq!(open(seconds, remote), TokenVerdict::Nothing, "{seconds} {remote}");
        }
    }

    #[test]
    fn keys_follow_the_days_and_the_secret() {
        let mut ours = tokens();
        for day in 0..600 {
            let now = WallTime(NOW.0 + day * PERIOD);
            let token = ours.seal(now, nonce(day), at("192.0.2.1:7"), Version::V1, TokenBody::Address);
            let mut later = |days: u64| ours.open(WallTime(now.0 + days * PERIOD), LIFETIMES, &client("192.0.2.1:7", id(2, 8)), &token);
            assert!(matches!(later(0), TokenVerdict::Address(_)));
            assert!(matches!(later(1), TokenVerdict::Address(_)));
            // The octet in front repeats after 256 days, the key does not.
            assert!([2, 255, 256, 257].into_iter().all(|days| later(days) == TokenVerdict::Nothing));
        }
        let mut others = Tokens::new([8; 32], UsedTokens::new(KeyedHash::new([1; 16])));
        let theirs = others.seal(NOW, nonce(1), at("192.0.2.1:7"), Version::V1, retry());
        assert_eq!(open(&mut ours, 0, "192.0.2.1:7", &theirs), TokenVerdict::Nothing);
    }

    #[test]
    fn no_mutation_of_a_token_proves_anything() {
        let mut tokens = tokens();
        let mut rng = fastrand::Rng::with_seed(5);
        for number in 0..10_000 {
            let body = if number % 2 == 0 { retry() } else { TokenBody::Address };
            let mut token = tokens.seal(NOW, nonce(number), at("192.0.2.1:7"), Version::V1, body);
            match rng.u32(0..4) {
                0 => token.truncate(rng.usize(0..token.len())),
                1 => token.extend_from_slice(&[0; 3]),
                2 => token[rng.usize(1..13)] ^= 1 << rng.u32(0..8),
                _ => {
                    let at = rng.usize(0..token.len());
                    token[at] ^= 1 << rng.u32(0..8);
                }
            }
            assert_eq!(open(&mut tokens, 0, "192.0.2.1:7", &token), TokenVerdict::Nothing, "{number}");
        }
    }

    /// RFC 9369 4.1, 5.
    #[test]
    fn a_token_is_good_for_the_version_that_it_came_from() {
        let mut tokens = tokens();
        let versions = [Version::V1, Version::V2];
        for (number, body) in [(1, retry()), (2, TokenBody::Address)] {
            for from in versions {
                let token = tokens.seal(NOW, nonce(number), at("192.0.2.1:7"), from, body);
                for shown_in in versions {
                    let client = Incoming { version: shown_in, ..client("192.0.2.1:7", id(2, 16)) };
                    let verdict = tokens.open(NOW, LIFETIMES, &client, &token);
                    let is_good = matches!(verdict, TokenVerdict::Retry { .. } | TokenVerdict::Address(_));
                    assert_eq!(is_good, from == shown_in, "{verdict:?} of {from} in {shown_in}");
                }
            }
        }
    }

    #[test]
    fn a_token_is_used_once_whoever_is_asked() {
        let mut first = tokens();
        let mut second = Tokens::new([9; 32], first.registers.clone());
        for (number, body) in [(1, retry()), (2, TokenBody::Address)] {
            let token = first.seal(NOW, nonce(number), at("192.0.2.1:7"), Version::V1, body);
            let verdict = open(&mut second, 0, "192.0.2.1:7", &token);
            let (TokenVerdict::Retry { used, .. } | TokenVerdict::Address(used)) = verdict else { panic!("{verdict:?}") };
            // It may be shown as often as the client sends it again, until there is a connection.
            assert_eq!(open(&mut first, 0, "192.0.2.1:7", &token), verdict);
            assert!(second.spend(used));
            assert!(!first.spend(used), "two workers at once");
            let refused = if body == TokenBody::Address { TokenVerdict::Nothing } else { TokenVerdict::InvalidRetry };
            assert_eq!(open(&mut first, 1, "192.0.2.1:7", &token), refused);
        }
    }

    #[test]
    fn what_a_full_register_forgets_counts_as_used() {
        let mut tokens = tokens();
        let used = |seconds, mark| Used { kind: KIND_ADDRESS, issued: WallTime(NOW.0 + seconds), mark };
        assert!(tokens.spend(used(10, 0)));
        for mark in 1..4 * REMEMBERED as u64 {
            assert!(tokens.spend(used(20 + mark / 1000, mark)));
        }
        let registers = tokens.registers.0.lock().unwrap();
        assert!(registers[1].young.marks.len() + registers[1].old.marks.len() <= 2 * REMEMBERED);
        assert!(registers[0].young.marks.is_empty(), "the other kind has its own");
        drop(registers);
        assert!(!tokens.spend(used(10, 0)), "the first one again");
        assert!(!tokens.spend(used(20, 1 << 40)), "none as old as it");
        // What is young is not in doubt.
        assert!(tokens.spend(used(1000, 1 << 41)));
    }
}
