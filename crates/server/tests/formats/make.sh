#!/bin/bash
# Makes the data directory of one format, which `formats.rs` opens from then on: run it once with the broker that is about to be
# released, and never change what it made.
#
#   make.sh PATH/TO/leveret FOLDER
set -eu
leveret=$1 folder=$2
out=$(mktemp)
LEVERET_LOG_FILE_BYTES=1048576 "$leveret" serve --listen 127.0.0.1:0 --http 127.0.0.1:0 --data-dir "$folder" >"$out" 2>/dev/null &
broker=$!
until grep -q http:// "$out"; do sleep 0.1; done
LEVERET_URL=$(grep -o 'amqp://.*' "$out")
export LEVERET_URL
api=$(grep -o 'http://.*' "$out")/api

put() { curl -sS --fail -u guest:guest -H content-type:application/json -X PUT "$api/$1" -d "$2" >/dev/null; }
post() { curl -sS --fail -u guest:guest -H content-type:application/json -X POST "$api/$1" -d "$2" >/dev/null; }

put users/keeper '{"password":"kept","tags":"monitoring"}'
put permissions/%2f/keeper '{"configure":"","write":"","read":".*"}'
put exchanges/%2f/topics '{"type":"topic","durable":true}'
put queues/%2f/plain '{"durable":true}'
put queues/%2f/first '{"durable":true,"arguments":{"x-max-priority":4}}'
put queues/%2f/counted '{"durable":true,"arguments":{"x-queue-type":"quorum"}}'
put queues/%2f/kept '{"durable":true,"arguments":{"x-queue-type":"stream"}}'
put queues/%2f/filler '{"durable":true}'
post bindings/%2f/e/topics/q/plain '{"routing_key":"#.ohio"}'
put policies/%2f/short '{"pattern":"^plain$","definition":{"max-length":1000}}'

"$leveret" publish --persistent plain settled
"$leveret" publish --persistent --property priority=1 first low
"$leveret" publish --persistent --property priority=3 first high
"$leveret" publish --persistent counted 'seen before'
"$leveret" publish --persistent kept entry
"$leveret" get --requeue counted >/dev/null
# Rolls the log, so that all of this settles; what filled it is consumed.
head -c 1040000 /dev/zero | tr '\0' x >"$out.body"
"$leveret" publish --persistent filler - <"$out.body"
"$leveret" get filler >/dev/null
head -c 20000 /dev/zero | tr '\0' x >"$out.body"
"$leveret" publish --persistent filler - <"$out.body"
"$leveret" get filler >/dev/null
sleep 1
"$leveret" publish --persistent --exchange topics --key news.ohio logged
"$leveret" publish --persistent kept 'another entry'
kill -TERM $broker
wait $broker
rm -f "$out" "$out.body" "$folder/lock"
