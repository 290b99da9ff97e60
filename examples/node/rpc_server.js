// The tutorial's RPC server: Fibonacci numbers from rpc_queue, one at a time.
//
//     node rpc_server.js
'use strict';

const amqp = require('amqplib');

const url = process.env.AMQP_URL || 'amqp://guest:guest@127.0.0.1:5672/%2F';
const fib = (n) => (n < 2 ? n : fib(n - 1) + fib(n - 2));

async function main() {
  const connection = await amqp.connect(url);
  const channel = await connection.createChannel();
  await channel.assertQueue('rpc_queue', { durable: true });
  await channel.prefetch(1);
  await channel.consume('rpc_queue', (request) => {
    const n = Number(request.content.toString());
    console.log(` [.] fib(${n})`);
    const { replyTo, correlationId } = request.properties;
    if (n < 0) {
      // Two headers, and callers that know them see an error.
      const headers = { 'rpc-status': 'INVALID_ARGUMENT', 'rpc-error': `there is no fib(${n})` };
      channel.sendToQueue(replyTo, Buffer.alloc(0), { correlationId, headers });
    } else {
      channel.sendToQueue(replyTo, Buffer.from(String(fib(n))), { correlationId });
    }
    channel.ack(request);
  });
  console.log(' [x] Awaiting RPC requests');
}

main();
