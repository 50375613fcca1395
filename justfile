# One word per habit. `just` lists them; each is an ordinary command that also works typed by hand.

set shell := ["bash", "-euo", "pipefail", "-c"]

_default:
    @just --list

# Format, lints, documentation, and the protocol without I/O
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo check -p weald-quic --no-default-features --features aws-lc-rs
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
    cargo deny check bans licenses sources

# Known advisories against the dependencies (needs the advisory database, which it fetches)
advisories:
    cargo deny check advisories

# All tests of the workspace
test:
    cargo test --workspace

# Model-check the concurrent code, with up to BOUND preemptions
loom BOUND="2":
    tests/loom.sh {{BOUND}}

# Fuzz every decoder, the codec against another one, and whole connections for SECONDS each (needs a nightly compiler)
fuzz SECONDS="60":
    tests/fuzz/run.sh {{SECONDS}}

# The runtime's tests under AddressSanitizer, ThreadSanitizer and Miri (needs a nightly compiler); TOOL is asan, tsan, miri or all
sanitizers TOOL="all":
    tests/sanitizers/run.sh {{TOOL}}

# Against real peers: quinn in the test suite, aioquic in a virtual environment that the script makes
interop:
    tests/interop/run.sh

# Against quiche and s2n-quic, in tests of a package that is built for it: minutes at first, and takes cmake, a C++ compiler and libclang
interop-peers:
    tests/interop/peers.sh

# Take each guard out of a copy of the tree, one by one: the tests must notice
guards:
    tests/guards/run.sh

# Attack a `weald serve` process in thirteen ways, a minute each (`--seconds 600` for ten): its memory stays flat, honest clients are served
flood *ARGS:
    cargo build --release --bin weald
    cargo run --release -p weald-tests --bin flood -- {{ARGS}}

# What a hundred thousand handshakes leave on the heap, by stage; exit code 1 if TLS leaves anything
tls-state *ARGS:
    cargo run --release -p weald-tests --bin tls_state -- {{ARGS}}

# Break the concurrent code in one place at a time: the models and tests must notice; `--check` looks whether all still apply
mutants *NAMES:
    tests/mutants/run.sh {{NAMES}}

# Throughput beside quinn, alternating
bench *ARGS:
    cargo run --release --bin weald -- bench quic {{ARGS}}

# A megabyte through networks drawn from seeds (`--seeds 0..10000`): not one byte lost, altered or repeated
simulate *ARGS:
    cargo run --profile test -p weald-tests --bin simulate -- {{ARGS}}

# Goodput over simulated paths beside quinn-proto's; exit code 1 if a goal is missed
goodput *ARGS:
    cargo run --release -p weald-tests --bin goodput -- {{ARGS}}

# Handshakes a second and what they cost, beside TLS alone and other stacks; and an established echo while they flood (`--parts echo`)
bench-handshake *ARGS:
    cargo run --release --bin weald -- bench handshake --peers {{ARGS}}

# The runtime beside may, tokio, smol, kanal, threads and Go, with every goal; eight minutes, two with --quick
bench-runtime *ARGS:
    cargo run --release --bin weald -- bench runtime --peers {{ARGS}}

# A thousand million messages and a hundred million switches, with nothing lost; minutes
stress *ARGS:
    cargo run --release --bin weald -- stress {{ARGS}}

# What CI runs
ci:
    .ci/run
