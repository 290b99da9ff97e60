#!/bin/bash
# A private RabbitMQ node to compare with. It never touches the system service: own ports, own
# Erlang port mapper, everything it writes below DIR, loopback only, user guest/guest.
#
#   interop/rabbitmq.sh start PORT DIR   start a node, wait until it serves, print its pid (on stdout, alone)
#   interop/rabbitmq.sh stop DIR         stop it cleanly (SIGTERM) with its port mapper; fine if it is not running
#   interop/rabbitmq.sh kill DIR         the same with SIGKILL: a crash
#   interop/rabbitmq.sh freeze DIR       let it run no further (SIGSTOP): its sockets stay, nobody answers
#   interop/rabbitmq.sh thaw DIR         let it go on
#   interop/rabbitmq.sh ctl DIR ARG...   rabbitmqctl on that node, e.g. `ctl DIR list_queues name messages`
#   interop/rabbitmq.sh version          the installed version; installs Debian's rabbitmq-server where it is missing
#
# `start` on a DIR that was stopped before continues with its data: PORT may differ, the data stays.
#
# Environment of `start` (all optional):
#   MGMT_PORT=N            start the management plugin on that port (default: no plugin, the node is smaller)
#   RABBITMQ_DIST_PORT=N   Erlang distribution port (default PORT + 20000, or PORT - 20000 above 45535)
#   RABBITMQ_EPMD_PORT=N   Erlang port mapper port  (default distribution port + 1); one that runs there is used
#   RABBITMQ_NODENAME=NAME (default leveret-peer-PORT@localhost)
#   EXTRA_PLUGINS=NAME,...  further plugins, of those that come with RabbitMQ
#   RABBITMQ_EXTRA_CONF=FILE  further lines for rabbitmq.conf (TLS, limits, ...)
#   START_TIMEOUT=SECONDS  (default 90)
#
# Files: DIR/data, DIR/log (server.log, console.log), DIR/conf, DIR/node.pid, DIR/epmd.pid, DIR/node.env.
set -u
HOMES=(/usr/lib/rabbitmq/lib/rabbitmq_server-*)

die() { echo "rabbitmq.sh: $*" >&2; exit 1; }
usage() { sed -n '2,/^set -u/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2; exit 2; }

install_server() {
  [ -x "${HOMES[0]}/sbin/rabbitmq-server" ] && return 0
  "$(dirname "$0")/packages.sh" rabbitmq-server || die "rabbitmq-server is missing and could not be installed"
  HOMES=(/usr/lib/rabbitmq/lib/rabbitmq_server-*)
  [ -x "${HOMES[0]}/sbin/rabbitmq-server" ] || die "rabbitmq-server was installed, but not where it is expected"
}

# alive PIDFILE NAME: the process of that file runs and is what we started (a pid can be reused)
alive() {
  local pid
  pid=$(cat "$1" 2>/dev/null) && [ -n "$pid" ] && grep -q "$2" "/proc/$pid/cmdline" 2>/dev/null
}

# end PIDFILE NAME SIGNAL: signal it, wait for its end, insist after 30 s
end() {
  alive "$1" "$2" || { rm -f "$1"; return 0; }
  local pid i
  pid=$(cat "$1")
  kill "-$3" "$pid" 2>/dev/null
  for i in $(seq 300); do
    alive "$1" "$2" || break
    sleep 0.1
  done
  alive "$1" "$2" && kill -KILL "$pid"
  rm -f "$1"
}

write_conf() {
  local port=$1 dir=$2 plugins=${EXTRA_PLUGINS:-}
  cat >"$dir/conf/rabbitmq.conf" <<CONF
listeners.tcp.local = 127.0.0.1:$port
log.file = $dir/log/server.log
log.file.level = info
log.console = false
disk_free_limit.absolute = 50MB
CONF
  if [ -n "${MGMT_PORT:-}" ]; then
    printf 'management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = %s\n' "$MGMT_PORT" >>"$dir/conf/rabbitmq.conf"
    plugins=rabbitmq_management${plugins:+,$plugins}
  fi
  echo "[$plugins]." >"$dir/conf/enabled_plugins"
  [ -z "${RABBITMQ_EXTRA_CONF:-}" ] || cat "$RABBITMQ_EXTRA_CONF" >>"$dir/conf/rabbitmq.conf"
}

write_env() {
  local port=$1 dir=$2 dist=$3
  cat >"$dir/node.env" <<ENV
export HOME='$dir' ERL_EPMD_PORT='${RABBITMQ_EPMD_PORT:-$((dist + 1))}' ERL_EPMD_ADDRESS=127.0.0.1
export RABBITMQ_NODENAME='${RABBITMQ_NODENAME:-leveret-peer-$port@localhost}' RABBITMQ_DIST_PORT='$dist'
export RABBITMQ_CONF_ENV_FILE='$dir/conf/rabbitmq-env.conf' RABBITMQ_CONFIG_FILE='$dir/conf/rabbitmq.conf'
export RABBITMQ_ADVANCED_CONFIG_FILE='$dir/conf/advanced.config' RABBITMQ_ENABLED_PLUGINS_FILE='$dir/conf/enabled_plugins'
export RABBITMQ_MNESIA_BASE='$dir/data' RABBITMQ_MNESIA_DIR='$dir/data/node' RABBITMQ_PLUGINS_EXPAND_DIR='$dir/data/plugins'
export RABBITMQ_FEATURE_FLAGS_FILE='$dir/data/feature_flags' RABBITMQ_QUORUM_DIR='$dir/data/quorum' RABBITMQ_STREAM_DIR='$dir/data/stream'
export RABBITMQ_LOG_BASE='$dir/log' RABBITMQ_PID_FILE='$dir/beam.pid' RABBITMQ_GENERATED_CONFIG_DIR='$dir/conf/generated'
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'
# rabbitmqctl is an Erlang node too: on any free port, so that several may run at once.
export RABBITMQ_CTL_DIST_PORT_MIN=0 RABBITMQ_CTL_DIST_PORT_MAX=0
export RABBITMQ_USE_LONGNAME=false LANG=C.UTF-8 LC_ALL=C.UTF-8
ENV
  : >"$dir/conf/rabbitmq-env.conf"
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

# A node would start the machine's shared port mapper and leave it behind: give it a private one, and let it listen first.
start_epmd() {
  alive "$1/epmd.pid" epmd || serving "$ERL_EPMD_PORT" && return
  setsid epmd </dev/null >"$1/log/epmd.log" 2>&1 &
  echo $! >"$1/epmd.pid"
  local i
  for i in $(seq 100); do
    serving "$ERL_EPMD_PORT" && return
    sleep 0.1
  done
}

launch() {
  local port=$1 dir=$2 deadline launcher
  start_epmd "$dir"
  rm -f "$dir/beam.pid" "$dir/node.pid"
  setsid "${HOMES[0]}/sbin/rabbitmq-server" </dev/null >"$dir/log/console.log" 2>&1 &
  launcher=$!
  deadline=$((SECONDS + ${START_TIMEOUT:-90}))
  until [ -s "$dir/beam.pid" ] && serving "$port" && { [ -z "${MGMT_PORT:-}" ] || serving "$MGMT_PORT"; }; do
    if ! kill -0 $launcher 2>/dev/null || [ $SECONDS -ge $deadline ]; then
      end "$dir/beam.pid" beam KILL; end "$dir/epmd.pid" epmd KILL; kill $launcher 2>/dev/null
      tail -20 "$dir/log/console.log" >&2
      return 1
    fi
    sleep 0.2
  done
}

start() {
  local port=$1 dir dist
  mkdir -p "$2" && dir=$(cd "$2" && pwd) || die "cannot create $2"
  [[ $port =~ ^[0-9]+$ ]] || usage
  alive "$dir/node.pid" beam && die "a node already runs in $dir (pid $(cat "$dir/node.pid"))"
  wait_until_free "$port" || die "port $port is taken"
  install_server
  mkdir -p "$dir"/{data,log,conf}
  dist=${RABBITMQ_DIST_PORT:-$((port > 45535 ? port - 20000 : port + 20000))}
  write_conf "$port" "$dir"
  write_env "$port" "$dir" "$dist"
  . "$dir/node.env"
  # Erlang's distribution was seen not to start (`nodistribution`) where nothing else was wrong: once more, then it is an error.
  if ! launch "$port" "$dir"; then
    echo "rabbitmq.sh: the node did not start; once more" >&2
    launch "$port" "$dir" || die "the node did not start, see $dir/log"
  fi
  # RabbitMQ removes its own pid file when it likes to: keep a copy.
  echo "$(cat "$dir/beam.pid")" | tee "$dir/node.pid"
}

stop() {
  local dir
  dir=$(cd "$2" 2>/dev/null && pwd) || return 0
  end "$dir/node.pid" beam "$1"
  end "$dir/epmd.pid" epmd TERM
}

# send SIGNAL DIR
send() {
  alive "$2/node.pid" beam || die "no node runs in $2"
  kill "-$1" "$(cat "$2/node.pid")"
}

ctl() {
  local dir
  dir=$(cd "$1" 2>/dev/null && pwd) && [ -r "$dir/node.env" ] || die "no node was started in $1"
  . "$dir/node.env"
  shift
  exec "${HOMES[0]}/sbin/rabbitmqctl" "$@"
}

case "${1:-}" in
  start) [ $# = 3 ] || usage; start "$2" "$3" ;;
  stop) [ $# = 2 ] || usage; stop TERM "$2" ;;
  kill) [ $# = 2 ] || usage; stop KILL "$2" ;;
  freeze) [ $# = 2 ] || usage; send STOP "$2" ;;
  thaw) [ $# = 2 ] || usage; send CONT "$2" ;;
  ctl) [ $# -ge 3 ] || usage; shift; ctl "$@" ;;
  version) install_server; basename "${HOMES[0]}" | sed 's/rabbitmq_server-//' ;;
  *) usage ;;
esac
