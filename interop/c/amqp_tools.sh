#!/bin/bash
# rabbitmq-c's command line tools (Debian's amqp-tools): declare, publish, get, consume with a command, call and reply.
set -u
URL=${AMQP_URL:-amqp://guest:guest@${AMQP_HOST:-127.0.0.1}:${AMQP_PORT:-5672}/%2F}
HERE=$(mktemp -d)
trap 'rm -rf "$HERE"' EXIT
ID=$$-$RANDOM
passed=0 failed=0

tool() { local name=$1; shift; timeout 20 "amqp-$name" -u "$URL" "$@"; }
fail() { echo "$*" >&2; return 1; }
equal() { [ "$1" = "$2" ] || fail "$3: got '$1', want '$2'"; }

step() {
  local title=${1//_/ }
  if "$1" 2>"$HERE/why"; then
    echo "ok amqp-tools: $title"
    passed=$((passed + 1))
  else
    echo "FAILED amqp-tools: $title: $(tail -3 "$HERE/why" | tr '\n' ' ')"
    failed=$((failed + 1))
  fi
}

a_queue_is_declared_and_deleted() {
  equal "$(tool declare-queue -q "q-$ID" -d)" "q-$ID" "declared" &&
    equal "$(tool declare-queue -q "q-$ID" -d)" "q-$ID" "declared again" &&
    equal "$(tool delete-queue -q "q-$ID")" 0 "messages in the deleted queue"
}

a_message_goes_in_and_comes_out() {
  tool declare-queue -q "q-$ID" >/dev/null &&
    tool publish -r "q-$ID" -p -C text/plain -H "kind: greeting" -b "grüße" &&
    equal "$(tool get -q "q-$ID")" "grüße" "body" || return
  tool get -q "q-$ID" >/dev/null && fail "the queue is not empty" && return 1
  tool delete-queue -q "q-$ID" >/dev/null
}

a_large_body_is_split_and_joined() {
  head -c 3000000 /dev/urandom | base64 -w0 >"$HERE/large" &&
    tool declare-queue -q "large-$ID" >/dev/null &&
    tool publish -r "large-$ID" <"$HERE/large" &&
    tool get -q "large-$ID" >"$HERE/back" &&
    cmp "$HERE/large" "$HERE/back" &&
    tool delete-queue -q "large-$ID" >/dev/null
}

lines_become_messages_in_order() {
  tool declare-queue -q "lines-$ID" >/dev/null &&
    seq 200 | tool publish -r "lines-$ID" -l &&
    tool consume -q "lines-$ID" -c 200 -p 10 cat >"$HERE/lines" &&
    equal "$(tr -d '\r' <"$HERE/lines" | paste -sd,)" "$(seq 200 | paste -sd,)" "lines" &&
    equal "$(tool delete-queue -q "lines-$ID")" 0 "unacknowledged messages left"
}

a_failing_command_keeps_its_message() {
  tool declare-queue -q "keep-$ID" >/dev/null && tool publish -r "keep-$ID" -b precious || return
  timeout 3 amqp-consume -u "$URL" -q "keep-$ID" -c 1 false
  local n
  for n in $(seq 50); do
    equal "$(tool get -q "keep-$ID")" precious "given back" 2>/dev/null && { tool delete-queue -q "keep-$ID" >/dev/null; return; }
    sleep 0.1
  done
  fail "the message of the failed command is gone"
}

topics_reach_a_bound_queue() {
  timeout 20 amqp-consume -u "$URL" -e amq.topic -r '#.ohio' -x -c 2 cat >"$HERE/topics" &
  local consumer=$!
  sleep 1
  for key in news.ohio news.virginia sports.us.ohio; do tool publish -e amq.topic -r "$key" -b "$key;" || return; done
  wait $consumer && equal "$(cat "$HERE/topics")" "news.ohio;sports.us.ohio;" "delivered"
}

a_shell_worker_answers_a_call() {
  tool declare-queue -q "calls-$ID" >/dev/null && tool declare-queue -q "answers-$ID" >/dev/null || return
  timeout 20 amqp-consume -u "$URL" -q "calls-$ID" -c 2 -- \
    sh -c "tr a-z A-Z | amqp-publish -u '$URL' -r 'answers-$ID'" &
  local worker=$!
  for call in one two; do tool publish -r "calls-$ID" -t "answers-$ID" -b "$call"; done
  wait $worker || return
  equal "$(tool get -q "answers-$ID")$(tool get -q "answers-$ID")" ONETWO "answers" &&
    tool delete-queue -q "calls-$ID" >/dev/null && tool delete-queue -q "answers-$ID" >/dev/null
}

errors_are_told() {
  tool get -q "none-$ID" >/dev/null 2>"$HERE/error" && fail "got from a queue that is not there" && return 1
  grep -q "NOT_FOUND - no queue 'none-$ID' in vhost '/'" "$HERE/error" || fail "$(cat "$HERE/error")" || return
  timeout 20 amqp-get -u "${URL/guest:guest/guest:wrong}" -q q >/dev/null 2>"$HERE/error" && fail "let in" && return 1
  grep -qi "ACCESS_REFUSED\|login was refused" "$HERE/error" || fail "$(cat "$HERE/error")"
}

for s in a_queue_is_declared_and_deleted a_message_goes_in_and_comes_out a_large_body_is_split_and_joined \
  lines_become_messages_in_order a_failing_command_keeps_its_message topics_reach_a_bound_queue \
  a_shell_worker_answers_a_call errors_are_told; do
  step $s
done
echo "amqp-tools: $passed passed, $failed failed"
[ $failed = 0 ]
