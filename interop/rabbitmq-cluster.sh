#!/bin/bash
# A private RabbitMQ cluster of three nodes on this machine, for what happens when nodes go and come back. Each node is one
# of rabbitmq.sh: own data, own ports, loopback only, user guest/guest. They share a port mapper of their own.
#
#   interop/rabbitmq-cluster.sh start PORT DIR         start nodes 1, 2, 3; return when all have joined     (15 s)
#   interop/rabbitmq-cluster.sh kill DIR NODE          kill -9 of that node's VM                            (0.1 s)
#   interop/rabbitmq-cluster.sh restart DIR NODE       start it again; return when it has joined again       (5 s)
#   interop/rabbitmq-cluster.sh freeze DIR NODE        let it run no further; `thaw` lets it go on             (0.1 s)
#   interop/rabbitmq-cluster.sh stop DIR               kill what runs, with the port mapper; fine if nothing runs  (0.2 s)
#   interop/rabbitmq-cluster.sh ctl DIR NODE ARG...    rabbitmqctl on that node, e.g. `ctl DIR 1 cluster_status`    (0.5 s)
#
# The times are those of a machine with 2 cores that does nothing else.
#
# Ports: AMQP PORT, PORT + 1, PORT + 2; Erlang distribution the next three; the port mapper PORT + 6. Take them from below
# 32768, where no outgoing connection gets in between. A cluster has a new DIR: its data is not for another start.
#
# Files: DIR/port, DIR/epmd.pid, DIR/epmd.log, DIR/node-N.conf, DIR/node-N (data, log/server.log, log/console.log, node.pid; see rabbitmq.sh).
set -u
HERE=$(cd "$(dirname "$0")" && pwd)
NODES=(1 2 3)

die() { echo "rabbitmq-cluster.sh: $*" >&2; exit 1; }
usage() { sed -n '2,/^set -u/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2; exit 2; }

# ports PORT: sets what follows from it
ports() {
  AMQP=$1
  DIST=$((AMQP + ${#NODES[@]}))
  EPMD=$((DIST + ${#NODES[@]}))
}

node_name() { echo "leveret-$AMQP-$1@localhost"; }

start_epmd() {
  local dir=$1
  ERL_EPMD_PORT=$EPMD ERL_EPMD_ADDRESS=127.0.0.1 setsid epmd </dev/null >"$dir/epmd.log" 2>&1 &
  echo $! >"$dir/epmd.pid"
}

stop_epmd() {
  local pid
  pid=$(cat "$1/epmd.pid" 2>/dev/null) && grep -q epmd "/proc/$pid/cmdline" 2>/dev/null && kill "$pid"
  rm -f "$1/epmd.pid"
}

# start_node DIR NODE: without the management plugin, which would be on one port for all
start_node() {
  local dir=$1 node=$2
  MGMT_PORT='' RABBITMQ_NODENAME=$(node_name "$node") RABBITMQ_DIST_PORT=$((DIST + node - 1)) RABBITMQ_EPMD_PORT=$EPMD \
    RABBITMQ_EXTRA_CONF="$dir/node-$node.conf" "$HERE/rabbitmq.sh" start $((AMQP + node - 1)) "$dir/node-$node" >/dev/null
}

await_all() { "$HERE/rabbitmq.sh" ctl "$1/node-$2" -q await_online_nodes ${#NODES[@]} --timeout 60; }

# join_first NODE: its configuration. The first node founds the cluster, the others join it.
join_first() {
  [ "$1" != 1 ] || return 0
  cat <<CONF
cluster_formation.peer_discovery_backend = classic_config
cluster_formation.classic_config.nodes.1 = $(node_name 1)
cluster_formation.classic_config.nodes.2 = $(node_name "$1")
cluster_formation.discovery_retry_limit = 300
cluster_formation.discovery_retry_interval = 200
CONF
}

prepare() {
  local dir=$1 cookie node
  echo "$AMQP" >"$dir/port"
  cookie=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  for node in "${NODES[@]}"; do
    join_first "$node" >"$dir/node-$node.conf"
    mkdir -p "$dir/node-$node" || die "cannot create $dir/node-$node"
    (umask 077 && echo "$cookie" >"$dir/node-$node/.erlang.cookie") && chmod 400 "$dir/node-$node/.erlang.cookie"
  done
}

start() {
  local dir node pids=() failed=
  [[ $1 =~ ^[0-9]+$ ]] || usage
  mkdir -p "$2" && dir=$(cd "$2" && pwd) || die "cannot create $2"
  [ ! -e "$dir/port" ] || die "$dir already holds a cluster"
  "$HERE/rabbitmq.sh" version >/dev/null || exit 1 # installs it once, before three want it
  ports "$1"
  prepare "$dir"
  start_epmd "$dir"
  # The first alone: whoever joins while it enables its feature flags may find tables of another shape, and gives up.
  start_node "$dir" 1 || failed=1
  for node in "${NODES[@]:1}"; do
    start_node "$dir" "$node" &
    pids+=($!)
  done
  for node in "${!pids[@]}"; do
    wait "${pids[$node]}" || failed=1
  done
  [ -z "$failed" ] && await_all "$dir" 1 && return 0
  stop "$dir"
  die "the cluster did not start, see $dir/node-*/log"
}

# stop DIR: its data is of no use, so nobody waits for an orderly end
stop() {
  local dir node pids=()
  dir=$(cd "$1" 2>/dev/null && pwd) || return 0
  for node in "${NODES[@]}"; do
    "$HERE/rabbitmq.sh" kill "$dir/node-$node" &
    pids+=($!)
  done
  wait "${pids[@]}"
  stop_epmd "$dir"
}

# of DIR NODE: the cluster of that directory, and a node that it has
of() {
  DIR=$(cd "$1" 2>/dev/null && pwd) && [ -r "$DIR/port" ] || die "no cluster was started in $1"
  [[ " ${NODES[*]} " == *" $2 "* ]] || die "there is no node $2, only ${NODES[*]}"
  ports "$(cat "$DIR/port")"
}

case "${1:-}" in
  start) [ $# = 3 ] || usage; start "$2" "$3" ;;
  kill | freeze | thaw) [ $# = 3 ] || usage; of "$2" "$3"; "$HERE/rabbitmq.sh" "$1" "$DIR/node-$3" ;;
  restart) [ $# = 3 ] || usage; of "$2" "$3"; start_node "$DIR" "$3" ;;
  stop) [ $# = 2 ] || usage; stop "$2" ;;
  ctl) [ $# -ge 4 ] || usage; of "$2" "$3"; exec "$HERE/rabbitmq.sh" ctl "$DIR/node-$3" "${@:4}" ;;
  *) usage ;;
esac
