#!/bin/bash
# A Leveret of its own for a run, with the same commands as rabbitmq.sh.
#
#   LEVERET=target/release/leveret interop/leveret.sh start PORT DIR   start, wait until it serves, print its pid
#   interop/leveret.sh stop DIR                                       SIGTERM and wait for its end
#   interop/leveret.sh kill DIR                                       SIGKILL: a crash
#
# `start` on a DIR that was stopped before continues with its data.
# Environment of `start`: MGMT_PORT=N for the HTTP listener (default PORT + 10000), START_TIMEOUT=SECONDS (default 30).
# Files: DIR/data, DIR/log/server.log, DIR/node.pid.
set -u
die() { echo "leveret.sh: $*" >&2; exit 1; }
usage() { sed -n '2,/^set -u/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2; exit 2; }

alive() {
  local pid
  pid=$(cat "$1" 2>/dev/null) && [ -n "$pid" ] && grep -q leveret "/proc/$pid/cmdline" 2>/dev/null
}

serving() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A process that was killed is gone before its sockets are.
wait_until_free() {
  local i
  for i in $(seq 50); do
    serving "$1" || return 0
    sleep 0.1
  done
  return 1
}

start() {
  local port=$1 dir pid deadline
  mkdir -p "$2/log" && dir=$(cd "$2" && pwd) || die "cannot create $2"
  [[ $port =~ ^[0-9]+$ ]] || usage
  alive "$dir/node.pid" && die "a server already runs in $dir (pid $(cat "$dir/node.pid"))"
  wait_until_free "$port" || die "port $port is taken"
  [ -x "${LEVERET:-}" ] || die "LEVERET must name the binary"
  "$LEVERET" serve --data-dir "$dir/data" --listen "127.0.0.1:$port" \
    --http "127.0.0.1:${MGMT_PORT:-$((port + 10000))}" </dev/null >>"$dir/log/server.log" 2>&1 &
  pid=$!
  deadline=$((SECONDS + ${START_TIMEOUT:-30}))
  until serving "$port"; do
    if ! kill -0 $pid 2>/dev/null || [ $SECONDS -ge $deadline ]; then
      kill -KILL $pid 2>/dev/null
      tail -20 "$dir/log/server.log" >&2
      die "the server did not start, see $dir/log/server.log"
    fi
    sleep 0.05
  done
  echo $pid | tee "$dir/node.pid"
}

stop() {
  local dir pid i
  dir=$(cd "$2" 2>/dev/null && pwd) || return 0
  alive "$dir/node.pid" || { rm -f "$dir/node.pid"; return 0; }
  pid=$(cat "$dir/node.pid")
  kill "-$1" "$pid"
  for i in $(seq 300); do
    alive "$dir/node.pid" || break
    sleep 0.1
  done
  alive "$dir/node.pid" && kill -KILL "$pid" && die "the server ignored SIG$1 for 30 s"
  rm -f "$dir/node.pid"
}

case "${1:-}" in
  start) [ $# = 3 ] || usage; start "$2" "$3" ;;
  stop) [ $# = 2 ] || usage; stop TERM "$2" ;;
  kill) [ $# = 2 ] || usage; stop KILL "$2" ;;
  *) usage ;;
esac
