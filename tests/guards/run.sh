#!/usr/bin/env bash
# Takes each guard out of a copy of the tree, one at a time, and runs the tests that are there for it: they must fail.
#
#   tests/guards/run.sh [--jobs N] [NAME...]    all guards, or only these; N copies at work at once, 1 unless said
#   tests/guards/run.sh --check [NAME...]       only whether each patch still applies and its tests are still there: no builds, seconds
#
# A guard is a check that keeps a peer from doing harm. Each patch here removes one; its first line says what, and its second which tests
# to run ("Tests: ARGUMENTS OF cargo test"). What a guard bounds may be endless without it: tests that do not come to an end, or want more
# memory than there is, have noticed.
#
# It fails if a guard is not missed, if a patch no longer applies or builds, and at once if its tests do not pass, or are not there, while
# the guard is.
set -euo pipefail
cd "$(dirname "$0")/../.."
top=$PWD

# Seconds that the tests of a guard have; KiB of address space.
limit=120
memory=$((8 << 20))
export RUST_BACKTRACE=0
# Nearly all of the time goes into builds of one crate after a change of one line.
export CARGO_INCREMENTAL=1 CARGO_PROFILE_TEST_DEBUG=0 CARGO_PROFILE_DEV_DEBUG=0

fail() {
    printf 'guards: %s\n' "$*" >&2
    exit 1
}

only_check=false jobs=1
while [ $# -gt 0 ]; do
    case $1 in
        --check) only_check=true ;;
        --jobs)
            jobs=${2:-}
            [[ $jobs =~ ^[1-9]$ ]] || fail "--jobs wants a number from 1 to 9"
            shift
            ;;
        --*) fail "no such option: $1" ;;
        *) break ;;
    esac
    shift
done
patches=()
for patch in tests/guards/*.patch; do
    if [ $# -eq 0 ] || [[ " $* " == *" $(basename "$patch" .patch) "* ]]; then patches+=("$patch"); fi
done
[ "${#patches[@]}" -gt 0 ] || fail "no such guard"

tests_of() { sed -n '2s/^Tests: //p' "$1"; }

# Offsets are borne, other lines beside the changed ones are not.
apply() { patch --quiet --force --strip=1 --fuzz=0 --no-backup-if-mismatch "$@"; }

# Parts of names of tests in the arguments of cargo test; not those that are paths of modules.
names() {
    local word previous=
    for word in $1; do
        case $previous:$word in
            -p:* | --test:* | *:-* | *::*) ;;
            *) echo "$word" ;;
        esac
        previous=$word
    done
}

functions=$(git ls-files -z --cached --others --exclude-standard '*.rs' | xargs --null grep -ohE 'fn [a-z0-9_]+' -- 2>/dev/null)
stale=0
for patch in "${patches[@]}"; do
    arguments=$(tests_of "$patch")
    [ -n "$arguments" ] || fail "the second line of $patch does not say which tests are to notice"
    if ! said=$(apply --dry-run <"$patch" 2>&1); then
        printf 'guards: %s no longer applies: make it anew\n%s\n' "$patch" "$said" >&2
        stale=$((stale + 1))
    fi
    for name in $(names "$arguments"); do
        grep -q "$name" <<<"$functions" || fail "$patch names $name, which is there no more"
    done
done
if "$only_check" || [ "$stale" -gt 0 ]; then
    printf 'guards: %s of %s apply\n' "$((${#patches[@]} - stale))" "${#patches[@]}"
    [ "$stale" = 0 ]
    exit
fi

work=$top/target/guards
mkdir -p "$work"
exec 9>"$work/lock"
flock --nonblock 9 || fail "another run is at work in $work"
rm -f "$work"/results-* "$work"/broken-*

git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
    if [ -e "$file" ]; then printf '%s\0' "$file"; fi
done >"$work/files"

# Brings a copy up to date. Unchanged files keep their times, so that cargo builds what has changed since the last run and no more.
copy_to() {
    mkdir -p "$1"
    (cd "$1" && find . -type f -printf '%P\0') |
        { grep --null-data --line-regexp --fixed-strings --invert-match --file=<(tr '\0' '\n' <"$work/files") || true; } |
        (cd "$1" && xargs --null --no-run-if-empty rm --)
    tar --null --files-from="$work/files" --create | tar --extract --directory "$1"
    # But what a patch of the last run changed is older again than its build.
    sed -n 's|^+++ b/||p' "$top"/tests/guards/*.patch | sort -u | (cd "$1" && while read -r file; do if [ -e "$file" ]; then touch "$file"; fi; done)
}

# Runs cargo test with the arguments, in the copy and with the build of a job, bounded.
run_tests() {
    local job=$1
    shift
    ulimit -v "$memory" -c 0
    cd "$work/tree-$job"
    CARGO_TARGET_DIR=$work/build-$job timeout --kill-after=5 "$limit" cargo test "$@"
}

build_tests() {
    local job=$1
    shift
    (cd "$work/tree-$job" && CARGO_TARGET_DIR=$work/build-$job cargo test --no-run "$@") >"$work/build-$job.log" 2>&1
}

# Gives up: what the other jobs find would be lost in the noise.
broken() {
    printf '%s\n' "$2" >"$work/broken-$1"
    printf 'guards: %s\n' "$2" >&2
    exit 1
}

# One job: its patches, one after the other.
work_on() {
    local job=$1 tree=$work/tree-$1 log=$work/test-$1.log tried= patch name arguments start built verdict by status done
    local -a words
    shift
    copy_to "$tree"
    for patch in "$@"; do
        [ -z "$(compgen -G "$work/broken-*")" ] || return 1
        name=$(basename "$patch" .patch)
        arguments=$(tests_of "$patch")
        read -ra words <<<"$arguments"
        # They come sorted: what is to notice is tried once while its guards are all there.
        if [ "$arguments" != "$tried" ]; then
            if ! build_tests "$job" "${words[@]}"; then
                cat "$work/build-$job.log" >&2
                broken "$job" "the tree does not build"
            fi
            if ! (run_tests "$job" "${words[@]}") >"$log" 2>&1 || ! grep -q ' [1-9][0-9]* passed' "$log"; then
                cat "$log" >&2
                broken "$job" "\"$arguments\" does not pass, or names nothing, or takes more than $limit s, while its guards are there"
            fi
            tried=$arguments
        fi
        (cd "$tree" && apply <"$top/$patch")
        start=$SECONDS
        built=$start
        # A build that breaks would look like tests that noticed.
        if ! build_tests "$job" "${words[@]}"; then
            cat "$work/build-$job.log" >&2
            verdict=STALE by="it no longer builds: make it anew"
        else
            built=$SECONDS status=0
            (run_tests "$job" "${words[@]}") >"$log" 2>&1 || status=$?
            case $status in
                0) verdict=MISSED by="\"$arguments\" passes without it" ;;
                124 | 137) verdict=noticed by="no end after $limit s" ;;
                *)
                    verdict=noticed
                    by=$(sed -n 's/^test \([^ ]*\) .*FAILED$/\1/p' "$log" | head -n 3 | paste -sd ' ')
                    by=${by:-the process ended with $status}
                    ;;
            esac
        fi
        (cd "$tree" && apply --reverse <"$top/$patch")
        printf '%s %s\n' "$verdict" "$name" >>"$work/results-$job"
        done=$(cat "$work"/results-* | wc -l)
        printf '%3s/%s  %-7s  %-44s  %s (%s s + %s s; %s s to go)\n' "$done" "${#patches[@]}" "$verdict" "$name" "$by" \
            "$((built - start))" "$((SECONDS - built))" "$((SECONDS * (${#patches[@]} - done) / done))"
    done
}

# Those with the same tests one after the other, and in the same job.
mapfile -t patches < <(for patch in "${patches[@]}"; do printf '%s\t%s\n' "$(tests_of "$patch")" "$patch"; done | sort | cut -f2)
if [ "$jobs" -gt "${#patches[@]}" ]; then jobs=${#patches[@]}; fi
printf 'guards: %s, in %s copies; the first build takes minutes\n' "${#patches[@]}" "$jobs"
share=$(((${#patches[@]} + jobs - 1) / jobs))
for ((job = 0; job < jobs; job++)); do
    work_on "$job" "${patches[@]:job * share:share}" &
done
status=0
for ((job = 0; job < jobs; job++)); do wait -n || status=1; done
[ -z "$(compgen -G "$work/broken-*")" ] || exit 1

results=$(cat "$work"/results-*)
count() { grep -c "^$1 " <<<"$results" || true; }
printf '\nguards: %s noticed, %s missed, %s no longer build, in %s s\n' "$(count noticed)" "$(count MISSED)" "$(count STALE)" "$SECONDS"
sed -n 's/^\(MISSED\|STALE\) /  not noticed: /p' <<<"$results"
[ "$status" = 0 ] && [ "$(count noticed)" = "${#patches[@]}" ]
