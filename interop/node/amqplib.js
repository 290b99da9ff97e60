// Node's amqplib: publish, confirm, consume, ack, call and reply, and the errors it shows.
'use strict';

const assert = require('node:assert/strict');
const { randomUUID } = require('node:crypto');
const amqp = require('amqplib');

const host = process.env.AMQP_HOST || '127.0.0.1';
const port = Number(process.env.AMQP_PORT || 5672);
const url = process.env.AMQP_URL || `amqp://guest:guest@${host}:${port}/%2F`;
const STEP_TIMEOUT_MS = 20_000;

const unique = (prefix) => `${prefix}-${randomUUID().slice(0, 13)}`;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function eventually(probe, what, withinMs = 5000) {
  for (const end = Date.now() + withinMs; ; await sleep(20)) {
    const value = await probe();
    if (value) return value;
    assert.ok(Date.now() < end, `${what}: not within ${withinMs} ms`);
  }
}

// withChannel(use): a fresh connection and channel; `closed` collects what the channel reports.
async function withChannel(use, make = 'createChannel') {
  const connection = await amqp.connect(url);
  connection.on('error', () => {});
  try {
    const channel = await connection[make]();
    channel.on('error', () => {});
    return await use(channel, connection);
  } finally {
    await connection.close().catch(() => {});
  }
}

// The channel error that `action` provokes.
async function channelError(action) {
  return withChannel(async (channel) => {
    const failed = new Promise((resolve) => channel.on('error', resolve));
    await Promise.resolve(action(channel)).catch(() => {});
    return Promise.race([failed, sleep(3000).then(() => assert.fail('nothing was refused'))]);
  });
}

const steps = {
  async 'the server introduces itself'() {
    const connection = await amqp.connect({ protocol: 'amqp', hostname: host, port, username: 'guest', password: 'guest', vhost: '/' });
    const { product, version, capabilities } = connection.connection.serverProperties;
    assert.ok(product && version, 'product and version');
    assert.equal(capabilities.publisher_confirms, true);
    assert.equal(capabilities['basic.nack'], true);
    await connection.close();
  },

  async 'messages keep their order, properties and headers'() {
    await withChannel(async (channel) => {
      const { queue } = await channel.assertQueue('', { exclusive: true });
      const headers = { text: 'grüße', n: 1, big: 2 ** 40, half: 0.5, yes: true, none: null, list: [1, 'two'], table: { a: { b: 'c' } } };
      for (let n = 0; n < 500; n++) {
        channel.sendToQueue(queue, Buffer.from(String(n)), {
          persistent: true, headers, contentType: 'text/plain', correlationId: `c${n}`, replyTo: 'r', messageId: `m${n}`,
          priority: 2, type: 't', appId: 'a', timestamp: 1234567890, expiration: 60000,
        });
      }
      const got = [];
      await channel.prefetch(25);
      await channel.consume(queue, (message) => { got.push(message); channel.ack(message); });
      await eventually(() => got.length === 500, '500 messages');
      assert.deepEqual(got.map((m) => m.content.toString()), Array.from({ length: 500 }, (_, n) => String(n)));
      const { properties, fields } = got[7];
      assert.deepEqual(properties.headers, headers);
      assert.deepEqual(
        [properties.contentType, properties.correlationId, properties.replyTo, properties.messageId, properties.deliveryMode,
          properties.priority, properties.type, properties.appId, properties.timestamp, properties.expiration],
        ['text/plain', 'c7', 'r', 'm7', 2, 2, 't', 'a', 1234567890, '60000']);
      assert.deepEqual([fields.redelivered, fields.exchange, fields.routingKey], [false, '', queue]);
    });
  },

  async 'a confirm channel waits for confirms'() {
    await withChannel(async (channel) => {
      const { queue } = await channel.assertQueue('', { exclusive: true });
      let confirmed = 0;
      for (let n = 0; n < 1000; n++) channel.sendToQueue(queue, Buffer.from('x'), {}, (error) => { if (!error) confirmed++; });
      await channel.waitForConfirms();
      assert.equal(confirmed, 1000);
      assert.equal((await channel.checkQueue(queue)).messageCount, 1000);
      assert.equal((await channel.purgeQueue(queue)).messageCount, 1000);
    }, 'createConfirmChannel');
  },

  async 'a full queue refuses, a mandatory message returns'() {
    await withChannel(async (channel) => {
      const { queue } = await channel.assertQueue('', { exclusive: true, maxLength: 1, arguments: { 'x-overflow': 'reject-publish' } });
      channel.sendToQueue(queue, Buffer.from('1'));
      await channel.waitForConfirms();
      channel.sendToQueue(queue, Buffer.from('2'));
      await assert.rejects(channel.waitForConfirms(), /message nacked/);
      const order = [];
      channel.on('return', (message) => order.push(['return', message.fields.replyCode, message.fields.replyText, message.content.toString()]));
      channel.publish('amq.direct', unique('nobody'), Buffer.from('home'), { mandatory: true }, () => order.push(['confirm']));
      await channel.waitForConfirms();
      assert.deepEqual(order, [['return', 312, 'NO_ROUTE', 'home'], ['confirm']]);
    }, 'createConfirmChannel');
  },

  async 'nack and reject requeue, recover redelivers'() {
    await withChannel(async (channel) => {
      const { queue } = await channel.assertQueue('', { exclusive: true });
      for (const body of ['a', 'b', 'c']) channel.sendToQueue(queue, Buffer.from(body));
      const first = await eventually(() => channel.get(queue), 'a message');
      channel.get(queue);
      await channel.checkQueue(queue);
      channel.nackAll();
      const seen = [];
      for (let n = 0; n < 3; n++) {
        const message = await eventually(() => channel.get(queue), 'requeued');
        seen.push([message.content.toString(), message.fields.redelivered]);
      }
      assert.deepEqual(seen, [['a', true], ['b', true], ['c', false]]);
      assert.equal(first.content.toString(), 'a');
      await channel.recover();
      assert.equal((await eventually(() => channel.get(queue), 'recovered')).fields.redelivered, true);
    });
  },

  async 'exchanges route by type'() {
    await withChannel(async (channel) => {
      const kinds = { direct: ['a.b'], fanout: ['a.b', 'x'], topic: ['a.b', 'a.c'] };
      for (const [type, want] of Object.entries(kinds)) {
        const exchange = unique(type);
        await channel.assertExchange(exchange, type, { autoDelete: true });
        const { queue } = await channel.assertQueue('', { exclusive: true });
        await channel.bindQueue(queue, exchange, type === 'topic' ? 'a.*' : 'a.b');
        for (const key of ['a.b', ...(type === 'topic' ? ['a.c', 'a'] : ['x'])]) channel.publish(exchange, key, Buffer.from(key));
        const got = [];
        await channel.consume(queue, (message) => got.push(message.content.toString()), { noAck: true });
        await eventually(() => got.length >= want.length, `${type} routed`);
        await sleep(50);
        assert.deepEqual(got, want, type);
      }
      const [source, sink] = [unique('source'), unique('sink')];
      await channel.assertExchange(source, 'direct', { autoDelete: true });
      await channel.assertExchange(sink, 'fanout', { autoDelete: true });
      await channel.bindExchange(sink, source, 'k');
      const { queue } = await channel.assertQueue('', { exclusive: true });
      await channel.bindQueue(queue, sink, '');
      channel.publish(source, 'k', Buffer.from('over'));
      assert.equal((await eventually(() => channel.get(queue, { noAck: true }), 'over two exchanges')).content.toString(), 'over');
    });
  },

  async 'an exclusive reply queue serves calls'() {
    await withChannel(async (server) => withChannel(async (client) => {
      const service = unique('double');
      await server.assertQueue(service, { autoDelete: true });
      await server.prefetch(1);
      await server.consume(service, (request) => {
        server.sendToQueue(request.properties.replyTo, Buffer.from(String(2 * Number(request.content))),
          { correlationId: request.properties.correlationId });
        server.ack(request);
      });
      for (const replyTo of [(await client.assertQueue('', { exclusive: true })).queue, 'amq.rabbitmq.reply-to']) {
        const answers = new Map();
        await client.consume(replyTo, (reply) => answers.set(reply.properties.correlationId, Number(reply.content)), { noAck: true });
        for (let n = 0; n < 30; n++) client.sendToQueue(service, Buffer.from(String(n)), { correlationId: `${n}`, replyTo });
        await eventually(() => answers.size === 30, `30 answers to ${replyTo}`);
        for (let n = 0; n < 30; n++) assert.equal(answers.get(`${n}`), 2 * n);
      }
    }));
  },

  async 'channel errors carry code and text'() {
    const name = unique('no');
    let error = await channelError((channel) => channel.checkQueue(name));
    assert.equal(error.code, 404);
    assert.equal(error.message, `Channel closed by server: 404 (NOT-FOUND) with message "NOT_FOUND - no queue '${name}' in vhost '/'"`);
    assert.deepEqual([error.classId, error.methodId], [50, 10]);
    error = await channelError((channel) => channel.publish(name, 'k', Buffer.from('x')));
    assert.equal(error.message, `Channel closed by server: 404 (NOT-FOUND) with message "NOT_FOUND - no exchange '${name}' in vhost '/'"`);
    assert.deepEqual([error.classId, error.methodId], [60, 40]);
    error = await channelError(async (channel) => {
      await channel.assertQueue(name, { durable: false, exclusive: true });
      await channel.assertQueue(name, { durable: false, exclusive: true, messageTtl: 1 });
    });
    assert.equal(error.code, 406);
    assert.match(error.message, /PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue '.*' in vhost '\/': received the value '1' of type 'byte' but current is none/);
    error = await channelError((channel) => channel.ack({ fields: { deliveryTag: 42 } }));
    assert.match(error.message, /406 \(PRECONDITION-FAILED\) with message "PRECONDITION_FAILED - unknown delivery tag 42"/);
  },

  async 'a bad password and a bad vhost are told'() {
    await assert.rejects(amqp.connect(`amqp://guest:wrong@${host}:${port}/%2F`), /403 \(ACCESS-REFUSED\)|Handshake terminated by server: 403/);
    await assert.rejects(amqp.connect(`amqp://guest:guest@${host}:${port}/nowhere`), /Expected ConnectionOpenOk; got <ConnectionClose channel:0>/);
  },

  async 'a deleted queue cancels its consumer'() {
    await withChannel(async (channel) => withChannel(async (other) => {
      const { queue } = await channel.assertQueue(unique('doomed'));
      const cancelled = new Promise((resolve) => channel.consume(queue, (message) => { if (message === null) resolve(true); }));
      await eventually(async () => (await other.checkQueue(queue)).consumerCount === 1, 'consuming');
      assert.deepEqual(await other.deleteQueue(queue), { messageCount: 0 });
      assert.ok(await Promise.race([cancelled, sleep(3000)]), 'cancelled with null');
    }));
  },

  async 'dead letters tell their story'() {
    await withChannel(async (channel) => {
      const { queue: grave } = await channel.assertQueue('', { exclusive: true });
      const { queue } = await channel.assertQueue('', { exclusive: true, messageTtl: 50, deadLetterExchange: '', deadLetterRoutingKey: grave });
      channel.sendToQueue(queue, Buffer.from('late'));
      const { properties } = await eventually(() => channel.get(grave, { noAck: true }), 'expired');
      const [death] = properties.headers['x-death'];
      assert.deepEqual([death.reason, death.queue, death.count, death['routing-keys']], ['expired', queue, 1, [queue]]);
      assert.equal(properties.headers['x-first-death-reason'], 'expired');
    });
  },

  async 'a large body arrives whole'() {
    await withChannel(async (channel) => {
      const { queue } = await channel.assertQueue('', { exclusive: true });
      const body = Buffer.alloc(5_000_000, 'leveret ');
      channel.sendToQueue(queue, body);
      const message = await eventually(() => channel.get(queue, { noAck: true }), 'the body');
      assert.ok(body.equals(message.content));
    });
  },

  async 'heartbeats keep an idle connection'() {
    const connection = await amqp.connect(`${url}?heartbeat=1`);
    await sleep(3500);
    const channel = await connection.createChannel();
    await channel.assertQueue('', { exclusive: true });
    await connection.close();
  },

  async 'a secret can be updated'() {
    const connection = await amqp.connect(url);
    await connection.updateSecret(Buffer.from('guest'), 'rotation');
    await connection.close();
  },
};

async function main() {
  let [passed, failed] = [0, 0];
  for (const [title, step] of Object.entries(steps)) {
    let timer;
    const tooLong = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`no answer within ${STEP_TIMEOUT_MS} ms`)), STEP_TIMEOUT_MS); });
    try {
      await Promise.race([step(), tooLong]);
      console.log(`ok amqplib: ${title}`);
      passed++;
    } catch (error) {
      console.log(`FAILED amqplib: ${title}: ${error.message}`);
      failed++;
    } finally {
      clearTimeout(timer);
    }
  }
  console.log(`amqplib: ${passed} passed, ${failed} failed`);
  process.exit(failed || !passed ? 1 : 0);
}

main();
