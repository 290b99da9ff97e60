#!/bin/bash
# After a long run: writes the small ones of the inputs that reach something of their own to corpora/TARGET.hex.
#
#   ./keep.sh TARGET...
set -eu
cd "$(dirname "$0")"
INPUT_MAX_BYTES=600
FILE_MAX_BYTES=20000
mkdir -p corpora
for target in "$@"; do
  cargo +nightly fuzz cmin "$target"
  find "corpus/$target" -type f -size -$((INPUT_MAX_BYTES + 1))c -size +0c -printf '%s %p\n' | sort -n |
    while read -r _ input; do xxd -p "$input" | tr -d '\n'; echo; done |
    awk -v max=$FILE_MAX_BYTES '{ total += length($0) + 1; if (total <= max) print }' >"corpora/$target.hex"
done
