#!/usr/bin/env bash
# weald against aioquic, both roles: transfers, Retry, versions, groups, key updates, tokens, resumption, 0-RTT, datagrams and codes of
# closes, in a table.
# Needs python3 with venv, and openssl; makes a virtual environment under target/. (quinn, both roles, is in `cargo test`.)
set -euo pipefail
cd "$(dirname "$0")/../.."

for tool in python3 openssl cargo; do
    command -v "$tool" >/dev/null || { echo "interop: $tool is missing; install it first" >&2; exit 1; }
done

venv=target/interop-venv
if ! "$venv/bin/python" -c 'import aioquic' 2>/dev/null; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --requirement tests/interop/requirements.txt
fi
cargo build --release --bin weald
"$venv/bin/python" tests/interop/aioquic_cases.py target/release/weald
