#!/usr/bin/env bash
# Breaks a copy of the tree in one place at a time, and runs what is there to notice: it must fail.
#
# Each patch is a mutant: an ordering weakened, a wake dropped, a check left out. Its first line says what is broken, and its second who
# must notice: "Loom: NAMES" are models of weald-runtime (those whose names contain one of these), "Tests: ARGUMENTS" those of `cargo test`.
# Who does not come to an end within the time limit has noticed only if a third line says "A hang counts."; loom reports dead-locks and endless
# loops by itself. With names of patches as arguments only those are tried.
#
# It fails if a mutant survives, if a patch no longer applies or builds, and at once if what is to notice does not pass, or is not there,
# without any mutant.
set -euo pipefail
cd "$(dirname "$0")/../.."
top=$PWD

# Seconds that a mutant has, and KiB of address space. What is to notice takes seconds; loom grows with the steps of an endless loop.
limit=300
memory=$((8 << 20))
export LOOM_MAX_PREEMPTIONS=${LOOM_MAX_PREEMPTIONS:-2} RUST_BACKTRACE=0
# Nearly all of the time goes into builds of one crate after a change of one line.
export CARGO_INCREMENTAL=1 CARGO_PROFILE_TEST_DEBUG=0
cargo=(cargo --config 'profile.test.package.weald-runtime.opt-level=0' test)

work=$top/target/mutants
tree=$work/tree
mkdir -p "$tree"
exec 9>"$work/lock"
flock --nonblock 9 || {
    echo "mutants: another run is at work in $work" >&2
    exit 1
}

patches=()
for patch in tests/mutants/*.patch; do
    if [ $# -eq 0 ] || [[ " $* " == *" $(basename "$patch" .patch) "* ]]; then patches+=("$patch"); fi
done
[ "${#patches[@]}" -gt 0 ] || {
    echo "mutants: no such mutant" >&2
    exit 1
}

# Unchanged files keep their times, so that cargo builds what has changed since the last run and no more.
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
    if [ -e "$file" ]; then printf '%s\0' "$file"; fi
done >"$work/files"
(cd "$tree" && find . -type f -printf '%P\0') |
    { grep --null-data --line-regexp --fixed-strings --invert-match --file=<(tr '\0' '\n' <"$work/files") || true; } |
    (cd "$tree" && xargs --null --no-run-if-empty rm --)
tar --null --files-from="$work/files" --create | tar --extract --directory "$tree"
# But what the mutants of the last run changed is older again than its build.
touch "$tree/runtime/src/lib.rs"

who() { sed -n '2{/^\(Loom\|Tests\): /p}' "$1"; }

# Offsets are borne, other lines beside the changed ones are not.
apply() { (cd "$tree" && patch --quiet --force --strip=1 --fuzz=0 --no-backup-if-mismatch "$@"); }

# Builds what a line names.
builds() {
    local -a words
    read -ra words <<<"${1#*: }"
    case $1 in
        Loom:*)
            (cd "$tree" && RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=$work/loom "${cargo[@]}" --package weald-runtime --lib --no-run \
                --message-format=json-render-diagnostics) 2>"$work/build.log" >"$work/build.json" || return
            models=$(sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' "$work/build.json")
            ;;
        *) (cd "$tree" && CARGO_TARGET_DIR=$work/tests "${cargo[@]}" --no-run "${words[@]}") >"$work/build.log" 2>&1 ;;
    esac
}

# Runs it, bounded. Its status is that of `timeout`.
passes() {
    local -a words
    read -ra words <<<"${1#*: }"
    ulimit -v "$memory" -c 0
    cd "$tree"
    case $1 in
        Loom:*) timeout --kill-after=5 "$limit" "$models" "${words[@]}" ;;
        *) CARGO_TARGET_DIR=$work/tests timeout --kill-after=5 "$limit" "${cargo[@]}" "${words[@]}" ;;
    esac
}

mapfile -t lines < <(for patch in "${patches[@]}"; do who "$patch"; done | sort -u)
for line in "${lines[@]}"; do
    if ! builds "$line"; then
        cat "$work/build.log" >&2
        echo "mutants: the tree does not build" >&2
        exit 1
    fi
    if ! (passes "$line") >"$work/test.log" 2>&1 || ! grep -q ' [1-9][0-9]* passed' "$work/test.log"; then
        cat "$work/test.log" >&2
        echo "mutants: \"$line\" does not pass, or names nothing, without a mutant" >&2
        exit 1
    fi
done

killed=0 failed=0
for patch in "${patches[@]}"; do
    name=$(basename "$patch" .patch)
    line=$(who "$patch")
    [ -n "$line" ] || {
        echo "mutants: the second line of $patch does not say who must notice" >&2
        exit 1
    }
    if ! apply --dry-run <"$patch" >/dev/null; then
        printf '%-8s  %-50s  it no longer applies: make it anew\n' STALE "$name"
        failed=$((failed + 1))
        continue
    fi
    apply <"$patch"
    start=$SECONDS
    # A build that breaks would look like a test that noticed.
    if ! builds "$line"; then
        cat "$work/build.log" >&2
        printf '%-8s  %-50s  it no longer builds: make it anew\n' STALE "$name"
        failed=$((failed + 1))
        apply --reverse <"$patch"
        continue
    fi
    built=$SECONDS status=0
    (passes "$line") >"$work/test.log" 2>&1 || status=$?
    took="$((built - start)) s + $((SECONDS - built)) s"
    case $status in
        0) verdict=SURVIVED by="\"$line\" passes with it" ;;
        124 | 137)
            by="no end after $limit s"
            if sed -n 3p "$patch" | grep -qx 'A hang counts.'; then verdict=killed; else verdict=HANGS; fi
            ;;
        *)
            verdict=killed
            by=$(sed -n "s/^thread '\([a-z0-9_:]*\)'.* panicked at.*/\1/p" "$work/test.log" | sort -u | sed -n 1p)
            by=${by:-the process ended with $status}
            ;;
    esac
    if [ "$verdict" = killed ]; then killed=$((killed + 1)); else failed=$((failed + 1)); fi
    printf '%-8s  %-50s  %s (%s)\n' "$verdict" "$name" "$by" "$took"
    apply --reverse <"$patch"
done
printf '\nmutants: %s killed, %s not, in %s s\n' "$killed" "$failed" "$SECONDS"
[ "$failed" = 0 ]
