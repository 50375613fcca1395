#!/usr/bin/env bash
# Fuzzes every decoder, the codec against another one, and whole connections, for SECONDS each (default 60). A finding ends it with an error and
# names the file that reproduces it.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-60}

cargo +nightly --version >/dev/null 2>&1 || {
    echo "fuzz: libFuzzer needs a nightly compiler; install one with: rustup toolchain install nightly" >&2
    exit 1
}
cargo +nightly build --release
for source in targets/*.rs; do
    name=$(basename "$source" .rs)
    mkdir -p "corpus/$name"
    echo "fuzz: $name for $seconds s"
    log=$(mktemp)
    # Whole connections cost most, and short inputs say nothing to them.
    case $name in
        codec_differential) length=(-max_len=300 -len_control=0) ;;
        connection | calls) length=(-max_len=600 -len_control=0) ;;
        *) length=(-max_len=1500) ;;
    esac
    if ! "target/x86_64-unknown-linux-gnu/release/$name" -max_total_time="$seconds" "${length[@]}" -print_final_stats=1 \
        "corpus/$name" >"$log" 2>&1; then
        cat "$log" >&2
        exit 1
    fi
    grep -o 'cov: [0-9]*' "$log" | tail -1
    grep -E 'number_of_executed_units|average_exec_per_sec' "$log"
    rm "$log"
done
