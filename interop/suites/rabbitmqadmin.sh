#!/bin/bash
# rabbitmqadmin 2.35.0 (crates.io), the command line of RabbitMQ's authors over the management API: the commands of rabbitmqadmin.txt.
. "$(dirname "$0")/common.inc"
VERSION=2.35.0
TOOL=$WORK/bin/rabbitmqadmin
COMMANDS=$(dirname "$0")/rabbitmqadmin.txt

# In the clear needs no TLS library; without optimisation it is built in about a minute and a half on two cores.
[ -x "$TOOL" ] || CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$WORK/target cargo install rabbitmqadmin --version "$VERSION" --locked --debug \
  --no-default-features --root "$WORK" >"$WORK/install.log" 2>&1 || die "cargo install failed, see $WORK/install.log"
rm -rf "$WORK/target"

# Nobody's configuration file counts.
tool() { HOME=$WORK timeout 20 "$TOOL" -H "$AMQP_HOST" -P "$MGMT_PORT" -u "$AMQP_USER" -p "$AMQP_PASS" "$@"; }
overview=$(curl -sf -u "$AMQP_USER:$AMQP_PASS" "$MGMT_URL/api/overview") || die "no management API at $MGMT_URL"
node=$(python3 -c 'import json, sys; print(json.loads(sys.argv[1])["node"])' "$overview")
is_leveret() { [[ $overview == *Leveret* ]]; }
vhost=rabbitmqadmin-$$ directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
passed=0 failed=0 left_out=0
while read -ra words; do
  case "${words[0]:-#}" in \#*) continue ;; esac
  if [ "${words[0]}" = later ]; then
    words=("${words[@]:1}")
    is_leveret || { echo "left out ${words[*]}"; left_out=$((left_out + 1)); continue; }
  fi
  words=("${words[@]//\{v\}/$vhost}") words=("${words[@]//\{n\}/$node}")
  words=("${words[@]//\{p\}/$AMQP_PORT}") words=("${words[@]//\{d\}/$directory}")
  if why=$(tool "${words[@]}" 2>&1 </dev/null); then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "FAILED ${words[*]}: $(echo "$why" | tail -3 | tr '\n' ' ')"
  fi
done <"$COMMANDS"
finish "$passed" "$failed" "$left_out"
