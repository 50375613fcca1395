//! What a simulated network did, as text for people.
//!
//! Owns the form of the lines, and where the files lie. One line an event: when, who to whom, how many bytes, and what became of
//! them; a datagram has one line as it leaves and one as it arrives.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use weald_runtime::sim::{TraceEntry, Verdict};
use weald_runtime::time::Instant;

/// Writes `target/traces/NAME-SEED.txt`, which begins with `title`, and says where that is.
///
/// # Errors
///
/// The file cannot be written.
pub fn write(name: &str, seed: u64, title: &str, entries: &[TraceEntry]) -> io::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/traces");
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{name}-{seed}.txt"));
    fs::write(&path, format!("# {title}\n# seconds, from > to, bytes, what happened\n{}", lines(entries)))?;
    Ok(path)
}

/// One line an event. Times count from the first.
#[must_use]
pub fn lines(entries: &[TraceEntry]) -> String {
    let mut text = String::new();
    let Some(first) = entries.first().map(|entry| entry.time) else { return text };
    let since = |time: Instant| Seconds(time.saturating_duration_since(first));
    for TraceEntry { time, from, to, size, verdict, .. } in entries {
        let happened = match verdict {
            Verdict::Sent { arrival } => format!("sent, arrives at {}", since(*arrival)),
            Verdict::Reordered { arrival } => format!("sent, held back until {}", since(*arrival)),
            Verdict::Duplicated { arrival } => format!("repeated, arrives again at {}", since(*arrival)),
            Verdict::Corrupted => "a bit flipped".to_owned(),
            Verdict::Marked => "marked: congestion experienced".to_owned(),
            Verdict::Bleached => "its ECN mark erased".to_owned(),
            Verdict::Lost => "LOST".to_owned(),
            Verdict::TooLong => "LOST: longer than the link's MTU".to_owned(),
            Verdict::QueueFull => "LOST: the link's queue is full".to_owned(),
            Verdict::Blackholed => "LOST in a blackhole".to_owned(),
            Verdict::Partitioned => "LOST: the network is partitioned".to_owned(),
            Verdict::Delivered => "delivered".to_owned(),
            Verdict::Unreachable => "LOST: nobody is there".to_owned(),
            Verdict::BufferFull => "LOST: the receiver's buffer is full".to_owned(),
            Verdict::HostDown => "LOST: the host is down".to_owned(),
            other => format!("{other:?}"),
        };
        writeln!(text, "{}  {from:>21} > {to:<21} {size:>5}  {happened}", since(*time)).expect("a string takes all");
    }
    text
}

/// Right-aligned, to the microsecond.
struct Seconds(Duration);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>13.6}", self.0.as_secs_f64())
    }
}
