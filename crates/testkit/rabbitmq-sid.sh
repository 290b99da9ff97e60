#!/bin/bash
# The newest RabbitMQ that Debian has (4.3 when this was written), to compare with: Debian sid is bootstrapped into
# DIR/root and the broker runs there in a chroot. As root; needs debootstrap, 700 MB and some minutes once.
#
#   rabbitmq-sid.sh start PORT DIR    prints the pid; users and vhosts are those of conformance/fixture.json
#   rabbitmq-sid.sh stop DIR
#
# Transient shared queues and global prefetch, which this version denies by default, are permitted: so
#   conformance --addr 127.0.0.1:PORT --broker rabbitmq-4.3
set -eu
here=$(cd "$(dirname "$0")" && pwd)

prepare() {
  local root=$1 port=$2
  [ -e "$root/usr/sbin/rabbitmq-server" ] ||
    debootstrap --variant=minbase --include=rabbitmq-server sid "$root" http://deb.debian.org/debian >&2
  cp /etc/hosts "$root/etc/hosts" # the node looks its own name up
  mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
  mountpoint -q "$root/dev" || mount --bind /dev "$root/dev"
  mkdir -p "$root"/node/{data,log,conf}
  cp "$here/conformance/fixture.json" "$root/node/conf/"
  echo '[].' >"$root/node/conf/enabled_plugins"
  cat >"$root/node/conf/rabbitmq.conf" <<CONF
listeners.tcp.local = 127.0.0.1:$port
load_definitions = /node/conf/fixture.json
disk_free_limit.absolute = 50MB
deprecated_features.permit.transient_nonexcl_queues = true
deprecated_features.permit.global_qos = true
CONF
}

start() {
  local port=$1 root=$2/root home
  mkdir -p "$root"
  prepare "$root" "$port"
  home=$(cd "$root" && echo usr/lib/rabbitmq/lib/rabbitmq_server-*)
  rm -f "$root/node/beam.pid"
  setsid chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/node LC_ALL=C.UTF-8 \
    ERL_EPMD_PORT=$((port + 2)) ERL_EPMD_ADDRESS=127.0.0.1 \
    RABBITMQ_NODENAME=conformance@localhost RABBITMQ_DIST_PORT=$((port + 1)) \
    RABBITMQ_CONFIG_FILE=/node/conf/rabbitmq.conf RABBITMQ_ENABLED_PLUGINS_FILE=/node/conf/enabled_plugins \
    RABBITMQ_CONF_ENV_FILE=/node/conf/env.conf RABBITMQ_MNESIA_BASE=/node/data RABBITMQ_LOG_BASE=/node/log \
    RABBITMQ_PID_FILE=/node/beam.pid \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}' \
    "/$home/sbin/rabbitmq-server" >"$2/console.log" 2>&1 </dev/null &
  for _ in $(seq 120); do
    if [ -s "$root/node/beam.pid" ] && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      cat "$root/node/beam.pid"
      return
    fi
    sleep 0.5
  done
  tail -20 "$2/console.log" >&2
  exit 1
}

stop() {
  local root=$1/root pid
  pid=$(cat "$root/node/beam.pid")
  kill "$pid"
  while kill -0 "$pid" 2>/dev/null; do sleep 0.2; done
  # The node's own port mapper stays behind in the chroot: end it by what it runs from.
  for pid in $(cd /proc && ls -d [0-9]*); do
    [ "$(readlink "/proc/$pid/root")" = "$(cd "$root" && pwd)" ] && kill "$pid" || true
  done
  umount "$root/proc" "$root/dev"
}

case "${1:-}" in
  start) [ $# = 3 ] && start "$2" "$3" ;;
  stop) [ $# = 2 ] && stop "$2" ;;
  *) sed -n '2,/^set -eu/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2; exit 2 ;;
esac
