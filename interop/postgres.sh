#!/bin/bash
# A private PostgreSQL server for tests. It never touches the system's clusters: own port, everything it writes below DIR,
# loopback only, no Unix socket, superuser postgres without a password.
#
#   interop/postgres.sh start PORT DIR   start a server, wait until it serves, print its pid (on stdout, alone)    (3 s)
#   interop/postgres.sh stop DIR         stop it, ending its sessions (SIGINT); fine if it is not running        (0.2 s)
#   interop/postgres.sh kill DIR         the same with SIGKILL: a crash
#   interop/postgres.sh url DIR          where it serves: postgres://postgres@127.0.0.1:PORT/postgres
#   interop/postgres.sh version          the installed version; installs Debian's postgresql where it is missing
#
# `start` on a DIR that was stopped before continues with its data: PORT may differ, the data stays. PostgreSQL refuses to
# run as root: then it runs as Debian's user postgres, who is given DIR and must be able to reach it.
#
# Environment of `start` (optional): START_TIMEOUT=SECONDS (default 30)
# Files: DIR/data, DIR/server.log, DIR/port.
set -u
USER_IF_ROOT=postgres

die() { echo "postgres.sh: $*" >&2; exit 1; }
usage() { sed -n '2,/^set -u/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2; exit 2; }

find_binaries() { BINARIES=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1); }

install_server() {
  find_binaries
  [ -x "$BINARIES/postgres" ] && return 0
  "$(dirname "$0")/packages.sh" postgresql || die "postgresql is missing and could not be installed"
  find_binaries
  [ -x "$BINARIES/postgres" ] || die "postgresql was installed, but not where it is expected"
}

# as_user COMMAND...: replaces the shell, so that a pid stays what it is
as_user() {
  [ "$(id -u)" = 0 ] || exec "$@"
  exec setpriv --reuid=$USER_IF_ROOT --regid=$USER_IF_ROOT --init-groups --reset-env "$@"
}

# pid DIR: of the server that runs there; its file outlives a crash and a pid can be reused
pid() {
  local pid
  pid=$(head -1 "$1/data/postmaster.pid" 2>/dev/null) && grep -q "$1/data" "/proc/$pid/cmdline" 2>/dev/null && echo "$pid"
}

serving() { "$BINARIES/pg_isready" -q -h 127.0.0.1 -p "$1" -U postgres; }

make_data() {
  local dir=$1
  [ "$(id -u)" != 0 ] || chown $USER_IF_ROOT: "$dir" || die "cannot give $dir to $USER_IF_ROOT"
  [ -e "$dir/data/PG_VERSION" ] && return 0
  (as_user test -w "$dir") || die "$USER_IF_ROOT cannot reach $dir"
  (as_user "$BINARIES/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C --no-sync) >"$dir/server.log" 2>&1 \
    || die "initdb failed, see $dir/server.log"
}

start() {
  local port=$1 dir deadline launched
  [[ $port =~ ^[0-9]+$ ]] || usage
  mkdir -p "$2" && dir=$(cd "$2" && pwd) || die "cannot create $2"
  [ -z "$(pid "$dir")" ] || die "a server already runs in $dir (pid $(pid "$dir"))"
  install_server
  ! serving "$port" || die "port $port is taken"
  make_data "$dir"
  echo "$port" >"$dir/port"
  (as_user setsid "$BINARIES/postgres" -D "$dir/data" -p "$port" -h 127.0.0.1 -k '') </dev/null >>"$dir/server.log" 2>&1 &
  launched=$!
  deadline=$((SECONDS + ${START_TIMEOUT:-30}))
  until serving "$port" && [ -n "$(pid "$dir")" ]; do
    if ! kill -0 $launched 2>/dev/null || [ $SECONDS -ge $deadline ]; then
      stop KILL "$dir"
      tail -20 "$dir/server.log" >&2
      die "the server did not start, see $dir/server.log"
    fi
    sleep 0.1
  done
  pid "$dir"
}

# ended PID...: none of them runs; one that nobody has waited for yet has no command line
ended() {
  local pid
  for pid in "$@"; do
    [ -z "$(cat "/proc/$pid/cmdline" 2>/dev/null | tr -d '\0')" ] || return 1
  done
}

# stop SIGNAL DIR: signal it, wait for its end, insist after 30 s
stop() {
  local signal=$1 dir pid pids i
  dir=$(cd "$2" 2>/dev/null && pwd) && pid=$(pid "$dir") || return 0
  read -ra pids <"/proc/$pid/task/$pid/children"
  pids+=("$pid")
  [ "$signal" != INT ] || kill -INT "$pid"
  for i in $(seq 300); do
    [ "$signal" = INT ] || kill -KILL "${pids[@]}" 2>/dev/null
    ended "${pids[@]}" && break
    sleep 0.1
  done
  ended "${pids[@]}" || kill -KILL "${pids[@]}"
  # The next start would take a dead process that nobody has waited for as one that runs.
  rm -f "$dir/data/postmaster.pid"
}

url() {
  local port
  port=$(cat "$1/port" 2>/dev/null) || die "no server was started in $1"
  echo "postgres://postgres@127.0.0.1:$port/postgres"
}

case "${1:-}" in
  start) [ $# = 3 ] || usage; start "$2" "$3" ;;
  stop) [ $# = 2 ] || usage; stop INT "$2" ;;
  kill) [ $# = 2 ] || usage; stop KILL "$2" ;;
  url) [ $# = 2 ] || usage; url "$2" ;;
  version) install_server; "$BINARIES/postgres" --version | sed 's/.*PostgreSQL) //; s/ .*//' ;;
  *) usage ;;
esac
