#!/bin/bash
# amqplib 1.0.0 (npm tarball; later ones have no tests): the test files that talk to a broker.
. "$(dirname "$0")/common.inc"
npm_pack amqplib 1.0.0
cd "$WORK/src" || die "no source"
npm_install
export URL="$AMQP_URL_ROOT"
# Addresses written out in the tests: connect.test.js, and callback_api.test.js which leaves them to the default.
sed -i -E "s#'amqp://localhost(['?])#'amqp://$AMQP_HOST:$AMQP_PORT\1#; s#'amqp://\[::1\]'#'amqp://[::1]:$AMQP_PORT'#; s#protocol: 'amqp', hostname: 'localhost'#protocol: 'amqp', hostname: '$AMQP_HOST', port: $AMQP_PORT#; s#connect\(\{ heartbeat: 20 \}#connect({ hostname: '$AMQP_HOST', port: $AMQP_PORT, heartbeat: 20 }#" test/connect.test.js
sed -i -E 's#connect\((\(err|dom\.bind)#connect(process.env.URL, \1#' test/callback_api.test.js
# channel_api.test.js looks once how many messages are there; if one is still on its way it goes on all the same and asks
# for ever in the background, so that a broker that lets it in quickly hangs it. Make it wait for its own answer.
sed -i 's#} else schedule(check);#} else return new Promise((again) => schedule(again)).then(check);#' test/channel_api.test.js
# The test "ipv6" wants the broker on [::1] too: where it listens on IPv4 alone, a door there leads to it.
node -e '
  const net = require("net"), port = +process.env.AMQP_PORT;
  const door = net.createServer((a) => {
    const b = net.connect(port, process.env.AMQP_HOST);
    for (const [x, y] of [[a, b], [b, a]]) { x.pipe(y); x.on("error", () => y.destroy()); }
  });
  door.on("error", () => process.exit(0)); // taken: the broker listens there itself
  door.listen({ host: "::1", port, ipv6Only: true });' &
door=$!
trap 'kill $door 2>/dev/null' EXIT
sleep 0.3
node_test_run test/channel_api.test.js test/callback_api.test.js test/connect.test.js
