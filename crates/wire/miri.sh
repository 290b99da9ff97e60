#!/bin/bash
# crates/wire/miri.sh CARGO-ARGUMENTS...: cargo under Miri, which is installed with a nightly toolchain if it is missing.
set -eu
cargo +nightly miri --version >/dev/null 2>&1 ||
  rustup toolchain install nightly --profile minimal --component miri,rust-src --no-self-update
exec cargo +nightly miri "$@"
