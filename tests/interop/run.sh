#!/usr/bin/env bash
# weald against aioquic, both roles, 10 MB over HTTP/3 and over hq-interop: every byte is compared.
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
weald=target/release/weald
peer=("$venv/bin/python" tests/interop/aioquic_peer.py)

work=$(mktemp -d)
servers=()
cleanup() {
    for server in "${servers[@]}"; do kill "$server" 2>/dev/null || true; done
    rm -rf "$work"
}
trap cleanup EXIT

mkdir "$work/root"
head -c 10000000 /dev/urandom >"$work/root/file"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
    -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' -addext 'basicConstraints=critical,CA:FALSE' \
    -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null

# Waits up to 10 s for a file that a server writes once it listens.
await() {
    for _ in $(seq 100); do
        [ -s "$1" ] && return
        sleep 0.1
    done
    echo "interop: the server did not start; see its output above" >&2
    exit 1
}

"$weald" serve --json --root "$work/root" --listen 127.0.0.1:0 --cert "$work/cert.pem" --key "$work/key.pem" >"$work/weald.log" &
servers+=($!)
"${peer[@]}" serve --root "$work/root" --cert "$work/cert.pem" --key "$work/key.pem" --port-file "$work/aioquic.port" &
servers+=($!)
await "$work/weald.log"
await "$work/aioquic.port"
weald_port=$(head -n 1 "$work/weald.log" | sed -E 's/.*"address":"[^"]*:([0-9]+)".*/\1/')
aioquic_port=$(cat "$work/aioquic.port")

passed=0
failed=0
check() {
    local name=$1
    shift
    rm -f "$work/out"
    if timeout 90 "$@" && cmp "$work/root/file" "$work/out"; then
        echo "ok      $name"
        passed=$((passed + 1))
    else
        echo "FAILED  $name"
        failed=$((failed + 1))
    fi
}

for alpn in h3 hq-interop; do
    check "aioquic client, weald server, $alpn" \
        "${peer[@]}" get --alpn "$alpn" --ca "$work/cert.pem" --output "$work/out" "https://localhost:$weald_port/file"
    check "weald client, aioquic server, $alpn" \
        "$weald" get --quiet --alpn "$alpn" --ca "$work/cert.pem" --output "$work/out" "https://localhost:$aioquic_port/file"
done
printf '\ninterop: %s passed, %s failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
