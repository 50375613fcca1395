//! What this process holds in memory, as the kernel counts it.

use anyhow::{Context, Result};

/// Resident memory in bytes.
pub(crate) fn resident() -> Result<u64> {
    const NAME: &str = "/proc/self/smaps_rollup";
    let text = std::fs::read_to_string(NAME).with_context(|| format!("cannot read {NAME}, which tells the memory in use"))?;
    let kibibytes = text
        .lines()
        .find_map(|line| line.strip_prefix("Rss:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|number| number.trim().parse::<u64>().ok())
        .with_context(|| format!("{NAME} has no line \"Rss: N kB\""))?;
    Ok(kibibytes * 1024)
}
