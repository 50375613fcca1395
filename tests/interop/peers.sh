#!/usr/bin/env bash
# weald against quiche, both roles: transfers, Retry, key exchange groups, HelloRetryRequest, resumption, 0-RTT, versions; and against s2n-quic:
# transfers. They are tests of benches/peers, a package outside the workspace: quiche's TLS is C++, and its build takes minutes the first time.
set -euo pipefail
cd "$(dirname "$0")/../.."

needs() { echo "interop: $1 is missing, which quiche's BoringSSL is built with; install it first ($2 on Debian)" >&2; exit 1; }
command -v cmake >/dev/null || needs cmake cmake
command -v c++ >/dev/null || needs "a C++ compiler" g++
[ -n "${LIBCLANG_PATH:-}" ] || compgen -G '/usr/lib*/llvm*/lib*/libclang*.so*' >/dev/null || compgen -G '/usr/lib*/*/libclang*.so*' >/dev/null ||
    compgen -G '/usr/lib*/libclang*.so*' >/dev/null || needs libclang libclang-dev
cargo test --manifest-path benches/peers/Cargo.toml
