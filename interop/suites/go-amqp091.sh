#!/bin/bash
# rabbitmq/amqp091-go 1.5.0 (Debian source golang-github-rabbitmq-amqp091-go):
# the tests behind the build tag "integration".
. "$(dirname "$0")/common.inc"
apt_need golang-uber-goleak-dev
hash go 2>/dev/null || apt_need golang-go
IMPORT=github.com/rabbitmq/amqp091-go
export GO111MODULE=off GOPATH=$WORK/gopath GOCACHE=$WORK/gocache GOFLAGS=
apt_src golang-github-rabbitmq-amqp091-go 'golang-github-rabbitmq-amqp091-go_1.5.0.orig.tar.gz' "$GOPATH/src/$IMPORT"
# The one dependency, from Debian's Go library package.
mkdir -p "$GOPATH/src/go.uber.org"
leak=$(dpkg -L golang-uber-goleak-dev | grep '/go.uber.org/goleak$' | head -1)
ln -sfn "$leak" "$GOPATH/src/go.uber.org/goleak"
cd "$GOPATH/src/$IMPORT" || die "no source"
export AMQP_URL="$AMQP_URL_ROOT/"
go_test_run
