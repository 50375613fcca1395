#!/usr/bin/env bash
# Takes each guard out of a copy of the tree, one at a time, and runs the tests there: they must fail.
#
# A guard is a check that keeps a peer from doing harm. Each patch here removes one; its first line says what, and its second which tests
# to run ("Tests: ARGUMENTS OF cargo test"). With names of patches as arguments only those are tried.
set -euo pipefail
cd "$(dirname "$0")/../.."
top=$PWD

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
export CARGO_TARGET_DIR=$top/target/guards

noticed=0
missed=()
patched=()
for patch in tests/guards/*.patch; do
    name=$(basename "$patch" .patch)
    if [ $# -gt 0 ] && [[ " $* " != *" $name "* ]]; then continue; fi
    rm -rf "$copy/tree"
    mkdir "$copy/tree"
    git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- --create | tar --extract --directory "$copy/tree"
    (cd "$copy/tree" && patch --quiet --strip=1 --no-backup-if-mismatch <"$top/$patch") || {
        echo "guards: $patch no longer applies; make it anew" >&2
        exit 1
    }
    # Times of files are kept, so that cargo builds what the patch changed and no more; but what the patch before changed is
    # older again than its build.
    (cd "$copy/tree" && touch -c -- "${patched[@]}" Cargo.toml)
    mapfile -t patched < <(sed -n 's|^+++ b/||p' "$patch")
    tests=$(sed -n 's/^Tests: //p' "$patch")
    # A build that breaks would look like tests that noticed.
    # shellcheck disable=SC2086
    (cd "$copy/tree" && cargo test --quiet --no-run $tests 2>"$copy/build.log") || {
        cat "$copy/build.log" >&2
        echo "guards: the tree does not build with $patch" >&2
        exit 1
    }
    # What a guard bounds may be endless without it.
    # shellcheck disable=SC2086
    if (cd "$copy/tree" && timeout 300 cargo test --quiet $tests >"$copy/test.log" 2>&1); then
        echo "MISSED   $name: all tests pass without it"
        missed+=("$name")
    else
        echo "noticed  $name: $(grep -E '^    [a-z0-9_:]+$' "$copy/test.log" | sort -u | head -n 3 | sed 's/^ *//' | paste -sd ';')"
        noticed=$((noticed + 1))
    fi
done
printf '\nguards: %s noticed, %s missed\n' "$noticed" "${#missed[@]}"
[ "${#missed[@]}" = 0 ]
