#!/usr/bin/env bash
# Model-checks the concurrent code: every model beside the runtime's code, and those of its public API, in every order of steps with up to
# BOUND preemptions (2 unless told). Says what each took, and fails if one fails or there is none.
set -euo pipefail
cd "$(dirname "$0")/.."

export LOOM_MAX_PREEMPTIONS=${1:-2} RUSTFLAGS="--cfg loom" RUST_BACKTRACE=${RUST_BACKTRACE:-0}
# With assertions, and optimised: the profile of tests is both.
build=(cargo test --package weald-runtime --lib --test loom --target-dir target/loom --no-run)
"${build[@]}"
mapfile -t binaries < <("${build[@]}" --quiet --message-format=json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# Runs model $3 of binary $2.
check() {
    local start=$EPOCHREALTIME log="$1/$3" state=ok
    "$2" --exact "$3" >"$log" 2>&1 || state=FAILED
    local ms=$(((${EPOCHREALTIME/./} - ${start/./}) / 1000))
    printf '%-6s %4d.%03d s  %s\n' "$state" $((ms / 1000)) $((ms % 1000)) "$3"
    [ "$state" = ok ] || mv "$log" "$log.failed"
}
export -f check

printf '\nModels with up to %s preemptions:\n' "$LOOM_MAX_PREEMPTIONS"
SECONDS=0
for binary in "${binaries[@]}"; do
    "$binary" --list --format terse | sed -n 's/: test$//p' | while read -r model; do printf '%s %s\n' "$binary" "$model"; done
done >"$logs/list"
xargs --max-procs="$(nproc)" --max-args=2 bash -c 'check "$@"' check "$logs" <"$logs/list"

failed=("$logs"/*.failed)
if [ -e "${failed[0]}" ]; then
    cat "${failed[@]}" >&2
    printf 'loom: %s models failed\n' "${#failed[@]}" >&2
    exit 1
fi
count=$(wc -l <"$logs/list")
[ "$count" -gt 0 ] || {
    echo "loom: no models" >&2
    exit 1
}
printf 'loom: %s models passed in %s s\n' "$count" "$SECONDS"
