"""Calls and replies with pika: direct reply-to, an exclusive reply queue, many at once, and the asynchronous adapter."""

import json
import threading
import uuid

import pika

from checks import URL, Deviation, equal, run, true, unique
from pika_basic import connect


class Server:
    """Squares numbers on a queue, on a thread and connection of its own, until stopped."""

    def __init__(self):
        self.queue = unique("square")
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        true(self._ready.wait(10), "the server started")

    def _serve(self):
        self._connection = connect()
        channel = self._connection.channel()
        channel.queue_declare(self.queue, auto_delete=True)
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume(self.queue, self._answer)
        self._channel = channel
        self._ready.set()
        channel.start_consuming()
        self._connection.close()

    @staticmethod
    def _answer(channel, method, properties, body):
        answer = json.dumps(json.loads(body) ** 2).encode()
        channel.basic_publish("", properties.reply_to, answer,
                              pika.BasicProperties(correlation_id=properties.correlation_id))
        channel.basic_ack(method.delivery_tag)

    def stop(self):
        self._connection.add_callback_threadsafe(self._channel.stop_consuming)
        self._thread.join(10)


def direct_reply_to_needs_no_queue():
    server = Server()
    connection = connect()
    channel = connection.channel()
    replies = {}
    channel.basic_consume("amq.rabbitmq.reply-to", lambda c, m, p, body: replies.update({p.correlation_id: body}),
                          auto_ack=True)
    for n in range(20):
        channel.basic_publish("", server.queue, str(n).encode(), pika.BasicProperties(
            reply_to="amq.rabbitmq.reply-to", correlation_id=str(n)))
    for _ in range(100):
        connection.process_data_events(0.05)
        if len(replies) == 20:
            break
    equal({int(k): int(v) for k, v in replies.items()}, {n: n * n for n in range(20)}, "answers")
    connection.close()
    server.stop()


def direct_reply_to_addresses_are_rewritten_and_probed():
    connection, server = connect(), connect()
    channel, serving = connection.channel(), server.channel()
    queue = serving.queue_declare("", exclusive=True).method.queue
    got = []
    channel.basic_consume("amq.rabbitmq.reply-to", lambda c, m, p, body: got.append((m, body)), auto_ack=True)
    try:
        channel.basic_publish("", queue, b"?", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
        server.sleep(0.2)
        _, properties, _ = serving.basic_get(queue, auto_ack=True)
        address = properties.reply_to
        true(address.startswith("amq.rabbitmq.reply-to."), f"reply-to was rewritten: {address}")
        probe = server.channel()
        declared = probe.queue_declare(address, passive=True).method
        equal((declared.message_count, declared.consumer_count), (0, 1), "a passive declare finds the caller")
        serving.basic_publish("", address, b"!", mandatory=True)
        connection.sleep(0.3)
        equal([(m.exchange, m.routing_key, body) for m, body in got], [("", address, b"!")], "the reply")
        connection.close()
        server.sleep(0.2)
        try:
            probe.queue_declare(address, passive=True)
            true(False, "the caller is gone, its address is still there")
        except pika.exceptions.ChannelClosedByBroker as error:
            equal(error.reply_code, 404, "code for a caller that left")
    finally:
        server.close()


def direct_reply_to_has_its_rules():
    def refused(action, text):
        connection = connect()
        channel = connection.channel()
        try:
            action(channel)
            channel.queue_declare("", exclusive=True)
            raise Deviation(f"nothing was refused, want {text}")
        except pika.exceptions.ChannelClosedByBroker as error:
            equal((error.reply_code, error.reply_text), (406, "PRECONDITION_FAILED - " + text), "channel.close")
        connection.close()

    refused(lambda c: c.basic_publish("", "q", b"", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to")),
            "fast reply consumer does not exist")
    refused(lambda c: c.basic_consume("amq.rabbitmq.reply-to", print, auto_ack=False),
            "reply consumer cannot acknowledge")
    def twice(channel):
        channel.basic_consume("amq.rabbitmq.reply-to", print, auto_ack=True)
        channel.basic_consume("amq.rabbitmq.reply-to", print, auto_ack=True)
    refused(twice, "reply consumer already set")


def an_exclusive_reply_queue_serves_every_call():
    server = Server()
    connection = connect()
    channel = connection.channel()
    reply_queue = channel.queue_declare("", exclusive=True).method.queue
    for n in range(5):
        wanted, answer = str(uuid.uuid4()), []
        tag = channel.basic_consume(
            reply_queue, lambda c, m, p, body: p.correlation_id == wanted and answer.append(body), auto_ack=True)
        channel.basic_publish("", server.queue, str(n).encode(),
                              pika.BasicProperties(reply_to=reply_queue, correlation_id=wanted))
        while not answer:
            connection.process_data_events(1)
        channel.basic_cancel(tag)
        equal(int(answer[0]), n * n, f"square of {n}")
    connection.close()
    server.stop()


def four_workers_share_the_calls():
    servers = [Server()]
    for _ in range(3):
        more = Server.__new__(Server)
        more.queue, more._ready = servers[0].queue, threading.Event()
        more._thread = threading.Thread(target=more._serve, daemon=True)
        more._thread.start()
        true(more._ready.wait(10), "another server started")
        servers.append(more)
    connection = connect()
    channel = connection.channel()
    equal(channel.queue_declare(servers[0].queue, passive=True).method.consumer_count, 4, "workers")
    replies = []
    channel.basic_consume("amq.rabbitmq.reply-to", lambda c, m, p, body: replies.append(int(body)), auto_ack=True)
    for n in range(100):
        channel.basic_publish("", servers[0].queue, str(n).encode(), pika.BasicProperties(
            reply_to="amq.rabbitmq.reply-to", correlation_id=str(n)))
    while len(replies) < 100:
        connection.process_data_events(1)
    equal(sorted(replies), sorted(n * n for n in range(100)), "each answered once")
    connection.close()
    for server in servers:
        server.stop()


def the_asynchronous_adapter_publishes_and_consumes():
    """The shape of pika's asynchronous examples: everything is a callback."""
    queue, count = unique("async"), 200
    seen = {"acks": 0, "bodies": [], "closed": None}

    def on_open(connection):
        connection.channel(on_open_callback=on_channel)

    def on_channel(channel):
        channel.queue_declare(queue, exclusive=True, callback=lambda _: on_declared(channel))

    def on_declared(channel):
        channel.confirm_delivery(on_confirm)
        channel.basic_qos(prefetch_count=20, callback=lambda _: None)
        channel.basic_consume(queue, on_message)
        for n in range(count):
            channel.basic_publish("", queue, str(n))

    def on_confirm(frame):
        true(isinstance(frame.method, pika.spec.Basic.Ack), f"confirmed: {frame.method}")
        seen["acks"] = max(seen["acks"], frame.method.delivery_tag)
        finish_if_done()

    def on_message(channel, method, _, body):
        seen["bodies"].append(int(body))
        channel.basic_ack(method.delivery_tag)
        finish_if_done()

    def finish_if_done():
        if seen["acks"] == count and len(seen["bodies"]) == count:
            loop.close()

    def on_close(connection, reason):
        seen["closed"] = reason
        connection.ioloop.stop()

    loop = pika.SelectConnection(pika.URLParameters(URL), on_open_callback=on_open, on_close_callback=on_close)
    loop.ioloop.start()
    equal(seen["bodies"], list(range(count)), "order")
    equal(seen["acks"], count, "confirms")
    equal(seen["closed"].reply_code, 200, "clean close")


if __name__ == "__main__":
    run("pika_rpc", [
        direct_reply_to_needs_no_queue, direct_reply_to_addresses_are_rewritten_and_probed,
        direct_reply_to_has_its_rules, an_exclusive_reply_queue_serves_every_call, four_workers_share_the_calls,
        the_asynchronous_adapter_publishes_and_consumes,
    ])
