//! The static table of QPACK (RFC 9204 appendix A): 99 field lines that both sides know.
//!
//! Owns the entries and the look-ups by index and by content. Indices start at 0 (HPACK's start at 1).

/// Name and value of every entry, in the order of their index.
pub(crate) const ENTRIES: [(&str, &str); 99] = [
    (":authority", ""),
    (":path", "/"),
    ("age", "0"),
    ("content-disposition", ""),
    ("content-length", "0"),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("referer", ""),
    ("set-cookie", ""),
    (":method", "CONNECT"),
    (":method", "DELETE"),
    (":method", "GET"),
    (":method", "HEAD"),
    (":method", "OPTIONS"),
    (":method", "POST"),
    (":method", "PUT"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "103"),
    (":status", "200"),
    (":status", "304"),
    (":status", "404"),
    (":status", "503"),
    ("accept", "*/*"),
    ("accept", "application/dns-message"),
    ("accept-encoding", "gzip, deflate, br"),
    ("accept-ranges", "bytes"),
    ("access-control-allow-headers", "cache-control"),
    ("access-control-allow-headers", "content-type"),
    ("access-control-allow-origin", "*"),
    ("cache-control", "max-age=0"),
    ("cache-control", "max-age=2592000"),
    ("cache-control", "max-age=604800"),
    ("cache-control", "no-cache"),
    ("cache-control", "no-store"),
    ("cache-control", "public, max-age=31536000"),
    ("content-encoding", "br"),
    ("content-encoding", "gzip"),
    ("content-type", "application/dns-message"),
    ("content-type", "application/javascript"),
    ("content-type", "application/json"),
    ("content-type", "application/x-www-form-urlencoded"),
    ("content-type", "image/gif"),
    ("content-type", "image/jpeg"),
    ("content-type", "image/png"),
    ("content-type", "text/css"),
    ("content-type", "text/html; charset=utf-8"),
    ("content-type", "text/plain"),
    ("content-type", "text/plain;charset=utf-8"),
    ("range", "bytes=0-"),
    ("strict-transport-security", "max-age=31536000"),
    ("strict-transport-security", "max-age=31536000; includesubdomains"),
    ("strict-transport-security", "max-age=31536000; includesubdomains; preload"),
    ("vary", "accept-encoding"),
    ("vary", "origin"),
    ("x-content-type-options", "nosniff"),
    ("x-xss-protection", "1; mode=block"),
    (":status", "100"),
    (":status", "204"),
    (":status", "206"),
    (":status", "302"),
    (":status", "400"),
    (":status", "403"),
    (":status", "421"),
    (":status", "425"),
    (":status", "500"),
    ("accept-language", ""),
    ("access-control-allow-credentials", "FALSE"),
    ("access-control-allow-credentials", "TRUE"),
    ("access-control-allow-headers", "*"),
    ("access-control-allow-methods", "get"),
    ("access-control-allow-methods", "get, post, options"),
    ("access-control-allow-methods", "options"),
    ("access-control-expose-headers", "content-length"),
    ("access-control-request-headers", "content-type"),
    ("access-control-request-method", "get"),
    ("access-control-request-method", "post"),
    ("alt-svc", "clear"),
    ("authorization", ""),
    ("content-security-policy", "script-src 'none'; object-src 'none'; base-uri 'none'"),
    ("early-data", "1"),
    ("expect-ct", ""),
    ("forwarded", ""),
    ("if-range", ""),
    ("origin", ""),
    ("purpose", "prefetch"),
    ("server", ""),
    ("timing-allow-origin", "*"),
    ("upgrade-insecure-requests", "1"),
    ("user-agent", ""),
    ("x-forwarded-for", ""),
    ("x-frame-options", "deny"),
    ("x-frame-options", "sameorigin"),
];

/// What the table knows of a field line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    /// Name and value stand at this index.
    Full(usize),
    /// Only the name stands at this index.
    Name(usize),
}

/// The entry at `index`, or `None` past the end of the table.
pub(crate) fn get(index: u64) -> Option<(&'static str, &'static str)> {
    usize::try_from(index).ok().and_then(|index| ENTRIES.get(index)).copied()
}

/// The best match for a field line: the whole line where it stands in the table, else the first entry of that name.
///
/// Entries of one name are not all adjacent, so the search goes by name length first, which leaves a handful to compare.
pub(crate) fn find(name: &[u8], value: &[u8]) -> Option<Match> {
    let mut by_name = None;
    for &index in BY_NAME_LENGTH.of(name.len()) {
        let (entry_name, entry_value) = ENTRIES[usize::from(index)];
        if entry_name.as_bytes() != name {
            continue;
        }
        if entry_value.as_bytes() == value {
            return Some(Match::Full(usize::from(index)));
        }
        by_name.get_or_insert(Match::Name(usize::from(index)));
    }
    by_name
}

/// Longest name in the table.
const MAX_NAME: usize = {
    let mut longest = 0;
    let mut i = 0;
    while i < ENTRIES.len() {
        if ENTRIES[i].0.len() > longest {
            longest = ENTRIES[i].0.len();
        }
        i += 1;
    }
    longest
};

/// Entry numbers sorted by the length of the name, made at compile time.
struct ByNameLength {
    order: [u8; ENTRIES.len()],
    start: [u8; MAX_NAME + 2],
}

impl ByNameLength {
    const fn build() -> Self {
        let mut order = [0; ENTRIES.len()];
        let mut start = [0; MAX_NAME + 2];
        let mut filled = 0;
        let mut length = 0;
        while length <= MAX_NAME {
            start[length] = filled as u8;
            let mut i = 0;
            while i < ENTRIES.len() {
                if ENTRIES[i].0.len() == length {
                    order[filled] = i as u8;
                    filled += 1;
                }
                i += 1;
            }
            length += 1;
        }
        start[MAX_NAME + 1] = filled as u8;
        Self { order, start }
    }

    fn of(&self, length: usize) -> &[u8] {
        match length {
            0..=MAX_NAME => &self.order[usize::from(self.start[length])..usize::from(self.start[length + 1])],
            _ => &[],
        }
    }
}

static BY_NAME_LENGTH: ByNameLength = ByNameLength::build();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spot_checks_against_rfc9204_appendix_a() {
        assert_eq!(get(0), Some((":authority", "")));
        assert_eq!(get(17), Some((":method", "GET")));
        assert_eq!(get(25), Some((":status", "200")));
        assert_eq!(get(98), Some(("x-frame-options", "sameorigin")));
        assert_eq!(get(99), None);
        assert_eq!(get(u64::MAX), None);
    }

    #[test]
    fn every_entry_is_found_by_content() {
        for (index, (name, value)) in ENTRIES.iter().enumerate() {
            assert_eq!(find(name.as_bytes(), value.as_bytes()), Some(Match::Full(index)), "{name}: {value}");
        }
        assert_eq!(find(b":status", b"299"), Some(Match::Name(24)));
        assert_eq!(find(b"x-unknown", b""), None);
        assert_eq!(find(&[b'a'; 300], b""), None);
    }
}
