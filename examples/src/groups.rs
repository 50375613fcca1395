//! Key exchange groups as options name them.

use weald_crypto::NamedGroup;

/// The value of `--groups`: a name of IANA's registry, in capitals or not.
pub(crate) fn group(text: &str) -> Result<NamedGroup, String> {
    let known = NamedGroup::ALL.into_iter().find(|group| group.name().eq_ignore_ascii_case(text));
    known.ok_or_else(|| format!("groups are {}", NamedGroup::ALL.map(NamedGroup::name).join(", ")))
}
