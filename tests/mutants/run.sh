#!/usr/bin/env bash
# Breaks a copy of the tree in one place at a time, and runs what is there to notice: it must fail.
#
#   tests/mutants/run.sh [NAME...]           all mutants, or only these
#   tests/mutants/run.sh --check [NAME...]   only whether each still applies and who is to notice is still there: no builds, seconds
#
# Each patch is a mutant: an ordering weakened, a wake dropped, a check left out. Its first line says what is broken, and its second who
# must notice: "Loom: NAMES" are models of weald-runtime (those whose names contain one of these), "Tests: ARGUMENTS" those of `cargo test`.
# Who does not come to an end within the time limit has noticed only if a third line says "A hang counts."; loom reports dead-locks and endless
# loops by itself.
#
# It fails if a mutant survives, if a patch no longer applies or builds, and at once if what is to notice does not pass, or is not there,
# without any mutant.
set -euo pipefail
cd "$(dirname "$0")/../.."
top=$PWD

# Seconds that a mutant has; those after which one that may hang is given up, where all is well in a third of that; KiB of address space.
# What is to notice takes seconds; loom grows with the steps of an endless loop.
limit=300 hang=30
memory=$((8 << 20))
export LOOM_MAX_PREEMPTIONS=${LOOM_MAX_PREEMPTIONS:-2} RUST_BACKTRACE=0
# Nearly all of the time goes into builds of one crate after a change of one line.
export CARGO_INCREMENTAL=1 CARGO_PROFILE_TEST_DEBUG=0
cargo=(cargo --config 'profile.test.package.weald-runtime.opt-level=0' test)

fail() {
    printf 'mutants: %s\n' "$*" >&2
    exit 1
}

only_check=false
if [ "${1:-}" = --check ]; then
    only_check=true
    shift
fi
patches=()
for patch in tests/mutants/*.patch; do
    if [ $# -eq 0 ] || [[ " $* " == *" $(basename "$patch" .patch) "* ]]; then patches+=("$patch"); fi
done
[ "${#patches[@]}" -gt 0 ] || fail "no such mutant"

who() { sed -n '2{/^\(Loom\|Tests\): /p}' "$1"; }
may_hang() { sed -n 3p "$1" | grep -qx 'A hang counts.'; }

# Offsets are borne, other lines beside the changed ones are not.
apply() { patch --quiet --force --strip=1 --fuzz=0 --no-backup-if-mismatch "$@"; }

# Parts of names of models and tests in a line; not those that are paths of modules.
names() {
    local word previous=
    for word in ${1#*: }; do
        case $previous:$word in
            -p:* | --test:* | *:-* | *::*) ;;
            *) echo "$word" ;;
        esac
        previous=$word
    done
}

functions=$(git ls-files -z --cached --others --exclude-standard 'runtime/*.rs' | xargs --null grep -ohE 'fn [a-z0-9_]+')
stale=0
for patch in "${patches[@]}"; do
    line=$(who "$patch")
    [ -n "$line" ] || fail "the second line of $patch does not say who must notice"
    if ! said=$(apply --dry-run <"$patch" 2>&1); then
        printf 'mutants: %s no longer applies: make it anew\n%s\n' "$patch" "$said" >&2
        stale=$((stale + 1))
    fi
    for name in $(names "$line"); do
        grep -q "$name" <<<"$functions" || fail "$patch names $name, which is there no more"
    done
done
if "$only_check" || [ "$stale" -gt 0 ]; then
    printf 'mutants: %s of %s apply\n' "$((${#patches[@]} - stale))" "${#patches[@]}"
    [ "$stale" = 0 ]
    exit
fi

work=$top/target/mutants
tree=$work/tree
mkdir -p "$tree"
exec 9>"$work/lock"
flock --nonblock 9 || fail "another run is at work in $work"

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

# Runs it for so many seconds, bounded. Its status is that of `timeout`.
passes() {
    local -a words
    read -ra words <<<"${1#*: }"
    ulimit -v "$memory" -c 0
    cd "$tree"
    case $1 in
        Loom:*) timeout --kill-after=5 "$2" "$models" "${words[@]}" ;;
        *) CARGO_TARGET_DIR=$work/tests timeout --kill-after=5 "$2" "${cargo[@]}" "${words[@]}" ;;
    esac
}

# Must pass as the tree is, within so many seconds.
passes_unbroken() {
    if ! builds "$1"; then
        cat "$work/build.log" >&2
        fail "the tree does not build"
    fi
    if ! (passes "$1" "$2") >"$work/test.log" 2>&1 || ! grep -q ' [1-9][0-9]* passed' "$work/test.log"; then
        cat "$work/test.log" >&2
        fail "\"$1\" does not pass, or names nothing, or takes more than $2 s, without a mutant"
    fi
}

# Those with the same notice one after the other. What must hold without a mutant is tried once, all models at a time.
mapfile -t patches < <(for patch in "${patches[@]}"; do printf '%s\t%s\n' "$(who "$patch")" "$patch"; done | sort | cut -f2)
lines=$(for patch in "${patches[@]}"; do if may_hang "$patch"; then echo "$((hang / 3)) $(who "$patch")"; else echo "$limit $(who "$patch")"; fi; done | sort -u)
printf 'mutants: %s, after what is to notice has passed without any\n' "${#patches[@]}"
models_named=$(sed -n 's/^[0-9]* Loom: //p' <<<"$lines" | tr ' ' '\n' | sort -u | tr '\n' ' ')
if [ -n "${models_named// /}" ]; then passes_unbroken "Loom: $models_named" "$limit"; fi
while read -r seconds line; do
    case $line in Tests:*) passes_unbroken "$line" "$seconds" ;; esac
done <<<"$lines"

killed=() survived=() hung=() unbuilt=()
began=$SECONDS count=${#patches[@]} done=0
printf 'mutants: the tree is whole (%s s)\n' "$began"
for patch in "${patches[@]}"; do
    name=$(basename "$patch" .patch)
    line=$(who "$patch")
    seconds=$limit
    if may_hang "$patch"; then seconds=$hang; fi
    (cd "$tree" && apply <"$top/$patch")
    start=$SECONDS
    built=$start
    # A build that breaks would look like a test that noticed.
    if ! builds "$line"; then
        cat "$work/build.log" >&2
        verdict=STALE by="it no longer builds: make it anew"
        unbuilt+=("$name")
    else
        built=$SECONDS status=0
        (passes "$line" "$seconds") >"$work/test.log" 2>&1 || status=$?
        case $status in
            0)
                verdict=SURVIVED by="\"$line\" passes with it"
                survived+=("$name")
                ;;
            124 | 137)
                by="no end after $seconds s"
                if may_hang "$patch"; then
                    verdict=killed
                    killed+=("$name")
                else
                    verdict=HANGS
                    hung+=("$name")
                fi
                ;;
            *)
                verdict=killed
                by=$(sed -n 's/^test \([^ ]*\) .*FAILED$/\1/p' "$work/test.log" | sed -n 1p)
                by=${by:-the process ended with $status}
                killed+=("$name")
                ;;
        esac
    fi
    (cd "$tree" && apply --reverse <"$top/$patch")
    done=$((done + 1))
    printf '%3s/%s  %-8s  %-50s  %s (%s s + %s s; %s s to go)\n' "$done" "$count" "$verdict" "$name" "$by" \
        "$((built - start))" "$((SECONDS - built))" "$(((SECONDS - began) * (count - done) / done))"
done
printf '\nmutants: %s killed, %s survived, %s hang, %s no longer build, in %s s\n' \
    "${#killed[@]}" "${#survived[@]}" "${#hung[@]}" "${#unbuilt[@]}" "$SECONDS"
for name in "${survived[@]}" "${hung[@]}" "${unbuilt[@]}"; do printf '  not killed: %s\n' "$name"; done
[ "${#killed[@]}" = "$count" ]
