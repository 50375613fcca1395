#!/usr/bin/env bash
# The runtime's tests under AddressSanitizer, ThreadSanitizer and Miri: tests/sanitizers/run.sh [asan|tsan|miri|all|present]
# Needs a nightly toolchain with rust-src and miri, and installs with rustup what is missing; "present" only says, by its exit status,
# whether all is there. Each tool must also report the deliberate faults of runtime/tests/sanitizer_canaries.rs. Exit status 0: all
# ran, all was clean, and each fault was reported.
set -euo pipefail
cd "$(dirname "$0")/../.."

what=${1:-all}
# Seconds that a suite may take, its build included.
limit=${SANITIZER_TIMEOUT:-1800}
reports=$PWD/target/sanitizers

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
skipped() { printf 'left out: %s\n' "$@"; }

has() { rustup component list --toolchain nightly --installed | grep "^$1" >/dev/null; }

present() { command -v rustup >/dev/null && cargo +nightly --version >/dev/null 2>&1 && has rust-src && has miri; }

need() {
    command -v rustup >/dev/null || fail "rustup is missing: it provides the nightly toolchain"
    if ! cargo +nightly --version >/dev/null 2>&1; then
        rustup toolchain install nightly --profile minimal || fail "the nightly toolchain is missing, and rustup cannot install it"
    fi
    local component
    for component in "$@"; do
        if ! has "$component"; then
            rustup component add --toolchain nightly "$component" ||
                fail "the component $component of the nightly toolchain is missing, and rustup cannot install it"
        fi
    done
    host=$(rustc +nightly -vV | sed -n 's/^host: //p')
}

# suite NAME COMMAND...: it must pass, and no process of it, children included, may leave a report.
suite() {
    local name=$1
    shift
    timeout "$limit" "$@" || fail "$name: a test failed or took too long"
    local found
    for found in "$reports"/*; do
        [ -e "$found" ] || continue
        cat "$found"
        fail "$name: the report above, though the tests passed"
    done
}

# canary NAME REPORT COMMAND...: the ignored test NAME must end in a failure whose output holds REPORT.
canary() {
    local name=$1 report=$2 output
    shift 2
    if output=$(timeout 600 "$@" --test sanitizer_canaries -- --exact "$name" --ignored --nocapture 2>&1); then
        echo "$output"
        fail "the canary $name went unnoticed"
    fi
    grep -q "$report" <<<"$output" || { echo "$output"; fail "the canary $name ended without the report '$report'"; }
    echo "canary $name: reported"
}

asan() {
    need
    local cargo=(cargo +nightly test --no-fail-fast --target-dir target/asan -p weald-runtime)
    export RUSTFLAGS="-Zsanitizer=address --cfg weald_asan" CARGO_BUILD_TARGET=$host
    # The runtime's own handler must see the faults in guards. Frames that outlive their function lie in memory of their own,
    # which is not accounted, and which a coroutine that ends leaves behind.
    local always="use_sigaltstack=0:handle_segv=0:handle_sigbus=0:uar_noreserve=1"
    export LSAN_OPTIONS="suppressions=$PWD/tests/sanitizers/leaks.txt:print_suppressions=0"

    say "AddressSanitizer and LeakSanitizer"
    export ASAN_OPTIONS="$always:detect_stack_use_after_return=1:log_path=$reports/asan"
    suite AddressSanitizer "${cargo[@]}" --lib --tests -- --skip a_hundred_thousand
    say "A hundred thousand coroutines, without memory for frames that outlive their function"
    export ASAN_OPTIONS="$always:detect_stack_use_after_return=0:log_path=$reports/asan"
    suite AddressSanitizer "${cargo[@]}" --lib --test coroutines --test soundness a_hundred_thousand

    say "Faults that must be reported"
    export ASAN_OPTIONS="$always:detect_stack_use_after_return=0"
    # Says on whose stack: it was told of the switches.
    canary stack_buffer_overflow "is located in stack of thread" "${cargo[@]}"
    canary stack_use_after_scope "AddressSanitizer: stack-use-after-scope" "${cargo[@]}"
    canary heap_use_after_free "AddressSanitizer: heap-use-after-free" "${cargo[@]}"
    canary use_of_an_ended_coroutines_heap "AddressSanitizer: heap-use-after-free" "${cargo[@]}"
    canary receive_behind_a_buffer "AddressSanitizer: heap-buffer-overflow" "${cargo[@]}"
    canary leak "LeakSanitizer: detected memory leaks" "${cargo[@]}"
    export ASAN_OPTIONS="$always:detect_stack_use_after_return=1"
    canary stack_use_after_return "AddressSanitizer: stack-use-after-return" "${cargo[@]}"
}

tsan() {
    need rust-src
    local cargo=(cargo +nightly test --no-fail-fast --target-dir target/tsan -p weald-runtime)
    # In the environment, for what the tests build with `panic = "abort"`, too.
    export RUSTFLAGS="-Zsanitizer=thread --cfg weald_baton --cfg weald_tsan" CARGO_BUILD_TARGET=$host CARGO_UNSTABLE_BUILD_STD=std,panic_abort
    say "ThreadSanitizer, coroutines on threads"
    skipped "tests/{overflow,trimming,gdb,gdb_script}.rs and the units of the stacks' memory: about the stacks that this backend does without" \
        "single tests that say why below, as 'ignored'"
    export TSAN_OPTIONS="log_path=$reports/tsan"
    suite ThreadSanitizer "${cargo[@]}" --lib --tests
    say "Faults that must be reported"
    export TSAN_OPTIONS=""
    canary data_race "ThreadSanitizer: data race" "${cargo[@]}"
}

miri() {
    need rust-src miri
    local cargo=(cargo +nightly miri test --target-dir target/miri -p weald-runtime)
    # Tree Borrows, since crossbeam-epoch (under the deques) reaches a list's entries from a pointer to their first field, which
    # Stacked Borrows refuse. Its tagged pointers are integers, through which Miri does not see the garbage that its collector keeps to
    # the end: leaks are AddressSanitizer's to find. Time is real: deadlines are waited for.
    export MIRIFLAGS="-Zmiri-tree-borrows -Zmiri-disable-isolation -Zmiri-permissive-provenance -Zmiri-ignore-leaks"
    say "Miri, coroutines on threads"
    skipped "sockets, signals, simulations and what else is not in MIRI_TESTS: system calls that Miri does not know, or hours"
    suite Miri "${cargo[@]}" --lib -- -Zunstable-options --report-time "${MIRI_TESTS[@]}"
    say "Faults that must be reported"
    canary heap_use_after_free "Undefined Behavior" "${cargo[@]}"
    canary use_of_an_ended_coroutines_heap "Undefined Behavior" "${cargo[@]}"
    canary data_race "Undefined Behavior: Data race detected" "${cargo[@]}"
}

# What Miri runs, by the beginning of the tests' names.
MIRI_TESTS=(coroutine:: local:: park:: scheduler:: task_state:: time:: timer_wheel:: cancel:: channel:: contained:: debugger:: select:: sync::
    sys::address sys::control wait_list::)

if [ "$what" = present ]; then
    present
    exit
fi
rm -rf "$reports"
mkdir -p "$reports"
case $what in
asan | tsan | miri) "$what" ;;
all)
    for tool in asan tsan miri; do tests/sanitizers/run.sh "$tool"; done
    exit
    ;;
*) fail "usage: $0 [asan|tsan|miri|all|present]" ;;
esac
say "$what: clean, and each fault reported, in $SECONDS s"
