#!/bin/bash
# The toolkit on RabbitMQ clusters of three nodes, with quorum queues: 20,000 calls and 2,000 tasks on one that loses
# nodes, then the stories on another: crates/leveret/tests.
. "$(dirname "$0")/toolkit.inc"
trap 'interop/rabbitmq-cluster.sh stop "$DIR/cluster"; rm -rf "$DIR"' EXIT

run_tests --test cluster -- --ignored --nocapture

port=$(free_ports 7)
interop/rabbitmq-cluster.sh start "$port" "$DIR/cluster" || fail "the cluster does not start"
urls=$(printf ',amqp://guest:guest@127.0.0.1:%s/%%2f' "$port" $((port + 1)) $((port + 2)))
export LEVERET_TEST_URL=${urls#,} LEVERET_TEST_QUEUE_KIND=quorum
run_tests "${STORIES[@]}" -- --nocapture
finish
