//! Where a run measures: the machine, the kernel, and the versions of all that takes part.

use std::fs;

use anyhow::{Context, Result};

use super::report::Environment;

const LOCK_FILE: &str = include_str!("../../../Cargo.lock");
/// Crates whose speed is measured.
const CRATES: [&str; 11] = [
    "weald-runtime",
    "corosensei",
    "may",
    "tokio",
    "async-executor",
    "async-io",
    "async-channel",
    "futures-lite",
    "kanal",
    "crossbeam-channel",
    "async-task",
];

pub(super) fn read(processors: usize, go: Option<String>) -> Result<Environment> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("cannot read the kernel's release")?.trim().to_owned();
    let information = fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
    let processor = information
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned());
    let mut versions: Vec<_> = CRATES.iter().filter_map(|name| Some(((*name).to_owned(), locked_version(name)?.to_owned()))).collect();
    versions.push(("go".to_owned(), go.unwrap_or_else(|| "not installed".to_owned())));
    Ok(Environment { processors, processor, kernel, optimised: !cfg!(debug_assertions), versions })
}

/// The version of a crate in the lock file that this was built with.
fn locked_version(name: &str) -> Option<&'static str> {
    let package = LOCK_FILE.split("[[package]]").find(|package| package.lines().any(|line| line == format!("name = \"{name}\"")))?;
    package.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_crate_has_a_version() {
        for name in CRATES {
            let version = locked_version(name).unwrap_or_else(|| panic!("{name} is not in the lock file"));
            assert!(version.chars().next().is_some_and(|first| first.is_ascii_digit()), "{name} {version}");
        }
        assert_eq!(locked_version("no such crate"), None);
    }

    #[test]
    fn the_machine_is_named() {
        let environment = read(2, None).unwrap();
        assert!(!environment.kernel.is_empty() && !environment.processor.is_empty());
    }
}
