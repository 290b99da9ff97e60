#!/bin/bash
# Fills the corpora with frames recorded from RabbitMQ (crates/wire/tests/golden), so that fuzzing
# starts from what real peers say; and those of definitions and api with what administrators send.
set -eu
cd "$(dirname "$0")"
mkdir -p corpus/frames corpus/properties corpus/table corpus/content
cat ../crates/wire/tests/golden/*.hex | sed -n 's/^[<>] //p' | sort -u | while read -r hex; do
  name=$(printf %s "$hex" | sha1sum | cut -c1-16)
  printf %s "$hex" | xxd -r -p >"corpus/frames/$name"
  case $hex in
    0200????????????003c0000*)                     # a content header on a channel: properties from octet 19 on
      printf %s "${hex:38:-2}" | xxd -r -p >"corpus/properties/$name"
      printf %s "${hex:50:-2}" | xxd -r -p >"corpus/table/$name"
      printf %s "${hex}03000100000003616263ce" | xxd -r -p >"corpus/content/$name" ;;
  esac
done

mkdir -p corpus/definitions corpus/api
cat >corpus/definitions/all <<'JSON'
{"rabbit_version":"3.10.8","users":[{"name":"u","password":"p","tags":"administrator"},{"name":"v","password_hash":
"kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR","hashing_algorithm":"rabbit_password_hashing_sha256","tags":[],"limits":{}}],
"vhosts":[{"name":"/"},{"name":"w","metadata":{"description":"","tags":[],"default_queue_type":"classic"}}],
"permissions":[{"user":"u","vhost":"/","configure":".*","write":"^a","read":""}],
"topic_permissions":[{"user":"u","vhost":"/","exchange":"amq.topic","write":".*","read":".*"}],
"parameters":[{"component":"vhost-limits","vhost":"/","name":"limits","value":{"max-queues":9}}],
"global_parameters":[{"name":"cluster_name","value":"x"}],
"policies":[{"vhost":"/","name":"p","pattern":"^q","apply-to":"queues","definition":{"max-length":9,"dead-letter-exchange":"x"},"priority":1}],
"queues":[{"name":"q","vhost":"/","durable":true,"auto_delete":false,"arguments":{"x-queue-type":"quorum","x-delivery-limit":3}}],
"exchanges":[{"name":"x","vhost":"/","type":"topic","durable":true,"auto_delete":false,"internal":false,"arguments":{}}],
"bindings":[{"source":"x","vhost":"/","destination":"q","destination_type":"queue","routing_key":"a.#","arguments":{}}]}
JSON
# The first octet chooses the method: F GET, G PUT, H POST, I DELETE.
api() { printf "$1" >"corpus/api/$(printf %s "$1" | sha1sum | cut -c1-16)"; }
api 'F/api/queues?page=1&page_size=10&name=q&use_regex=true&sort=name&sort_reverse=true&columns=name,messages'
api 'F/api/overview?lengths_age=60&lengths_incr=5'
api 'F/metrics/detailed?family=queue_coarse_metrics&vhost=%%2F'
api 'G/api/queues/%%2F/q\n{"durable":true,"auto_delete":false,"arguments":{"x-max-length":3}}'
api 'G/api/exchanges/%%2F/x\n{"type":"topic","durable":true,"arguments":{"alternate-exchange":"y"}}'
api 'G/api/users/u\n{"password":"p","tags":"management"}'
api 'G/api/policies/%%2F/p\n{"pattern":"^q","definition":{"max-length":9},"priority":1,"apply-to":"queues"}'
api 'G/api/parameters/shovel/%%2F/s\n{"value":{"src-uri":"amqp://","src-queue":"a","dest-uri":"amqp://","dest-queue":"b"}}'
api 'H/api/exchanges/%%2F/amq.default/publish\n{"properties":{"headers":{"a":1}},"routing_key":"q","payload":"eA==","payload_encoding":"base64"}'
api 'H/api/queues/%%2F/q/get\n{"count":1,"ackmode":"ack_requeue_false","encoding":"auto","truncate":50}'
api 'H/api/bindings/%%2F/e/x/q/q\n{"routing_key":"k","arguments":{"x-match":"all"}}'
api 'I/api/queues/%%2F/q?if-empty=true&if-unused=true'

# What a broker says, frame by frame and one after the other.
mkdir -p corpus/client_session
cat ../crates/wire/tests/golden/*.hex | sed -n 's/^< //p' | sort -u | while read -r hex; do
  printf %s "$hex" | xxd -r -p >"corpus/client_session/$(printf %s "$hex" | sha1sum | cut -c1-16)"
done
for recording in ../crates/wire/tests/golden/*.hex; do
  sed -n 's/^< //p' "$recording" | tr -d '\n' | xxd -r -p >"corpus/client_session/$(basename "$recording" .hex)"
done

mkdir -p corpus/handshake corpus/uri corpus/proxy_header
printf 'AMQP\0\0\11\1' >corpus/handshake/header
printf '\0guest\0guest' >corpus/handshake/plain
printf '\5LOGINS\0\0\0\5guest\10PASSWORDS\0\0\0\5guest' >corpus/handshake/amqplain
printf 'amqps://us%%40er:p%%2Fw@[::1]:5671/%%2f?heartbeat=5&frame_max=8192&cacertfile=/a' >corpus/uri/all
printf 'amqp://localhost' >corpus/uri/short
printf 'PROXY TCP4 192.0.2.1 192.0.2.2 56324 5672\r\nAMQP' >corpus/proxy_header/v1
printf 'PROXY TCP6 2001:db8::1 ::1 1 65535\r\n' >corpus/proxy_header/v1-6
printf 'PROXY UNKNOWN\r\n' >corpus/proxy_header/unknown
proxy() { printf "0d0a0d0a000d0a515549540a$1" | xxd -r -p >"corpus/proxy_header/$1"; }
proxy 2111000cc0000201c0000202dc041628
proxy 20000000

# What earlier runs found worth keeping, an input a line; `TARGET.NAME.hex` are seeds, which keep.sh leaves alone.
shopt -s nullglob
for kept in corpora/*.hex; do
  target=$(basename "$kept")
  target=${target%%.*}
  mkdir -p "corpus/$target"
  while read -r hex; do
    printf %s "$hex" | xxd -r -p >"corpus/$target/$(printf %s "$hex" | sha1sum | cut -c1-16)"
  done <"$kept"
done
