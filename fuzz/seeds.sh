#!/bin/bash
# Fills the corpora with frames recorded from RabbitMQ (crates/wire/tests/golden), so that fuzzing
# starts from what real peers say.
set -eu
cd "$(dirname "$0")"
mkdir -p corpus/frames corpus/properties corpus/table corpus/content
cat ../crates/wire/tests/golden/*.hex | sed -n 's/^[<>] //p' | sort -u | while read -r hex; do
  name=$(printf %s "$hex" | sha1sum | cut -c1-16)
  printf %s "$hex" | xxd -r -p >"corpus/frames/$name"
  case $hex in
    0200????????????003c0000*)                     # a content header on a channel: properties from octet 19 on
      printf %s "${hex:38:-2}" | xxd -r -p >"corpus/properties/$name"
      printf %s "${hex:50:-2}" | xxd -r -p >"corpus/table/$name"
      printf %s "${hex}03000100000003616263ce" | xxd -r -p >"corpus/content/$name" ;;
  esac
done
