#!/bin/bash
# The toolkit's stories on the broker of this run, which they also restart: crates/leveret/tests.
. "$(dirname "$0")/toolkit.inc"
trap 'rm -rf "$DIR"' EXIT
export LEVERET_TEST_URL=$AMQP_URL LEVERET_TEST_RESTART="$BROKER_STOP && $BROKER_START >/dev/null"
run_tests "${STORIES[@]}" --test restart -- --nocapture
finish
