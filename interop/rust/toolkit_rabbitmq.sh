#!/bin/bash
# The toolkit's stories on a RabbitMQ node of their own, which they also restart: crates/leveret/tests.
. "$(dirname "$0")/toolkit.inc"
trap 'interop/rabbitmq.sh stop "$DIR/node"; rm -rf "$DIR"' EXIT

port=$(free_ports 1)
interop/rabbitmq.sh start "$port" "$DIR/node" >/dev/null || fail "RabbitMQ does not start"
control="$PWD/interop/rabbitmq.sh ctl $DIR/node -q"
export LEVERET_TEST_URL=amqp://guest:guest@127.0.0.1:$port/%2f
export LEVERET_TEST_RESTART="$control stop_app && sleep 0.3 && $control start_app"
run_tests "${STORIES[@]}" --test restart -- --nocapture
finish
