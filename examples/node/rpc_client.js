// The tutorial's RPC client: an exclusive callback queue, a correlation id per call.
//
//     node rpc_client.js N...
'use strict';

const { randomUUID } = require('node:crypto');
const amqp = require('amqplib');

const url = process.env.AMQP_URL || 'amqp://guest:guest@127.0.0.1:5672/%2F';

async function main() {
  const connection = await amqp.connect(url);
  const channel = await connection.createChannel();
  const { queue: replyTo } = await channel.assertQueue('', { exclusive: true });
  const waiting = new Map();
  await channel.consume(replyTo, (answer) => {
    const { correlationId, headers } = answer.properties;
    waiting.get(correlationId)?.({ headers: headers || {}, body: answer.content.toString() });
    waiting.delete(correlationId);
  }, { noAck: true });

  const call = (n) => new Promise((resolve) => {
    const correlationId = randomUUID();
    waiting.set(correlationId, resolve);
    channel.sendToQueue('rpc_queue', Buffer.from(String(n)), { replyTo, correlationId });
  });

  for (const n of process.argv.slice(2)) {
    console.log(` [x] Requesting fib(${n})`);
    const { headers, body } = await call(n);
    const status = headers['rpc-status'] || 'OK'; // only a worker that knows these headers sends them
    console.log(status === 'OK' ? ` [.] Got ${body}` : ` [!] ${status}: ${headers['rpc-error']}`);
  }
  await connection.close();
}

main();
