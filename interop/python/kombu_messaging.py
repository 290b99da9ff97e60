"""Kombu by itself: producers, consumers, SimpleQueue, mixins, retries, broadcasts, delayed delivery."""

import socket
import threading
import time

from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.common import Broadcast, maybe_declare
from kombu.mixins import ConsumerMixin, ConsumerProducerMixin
from kombu.transport.native_delayed_delivery import (
    bind_queue_to_native_delayed_delivery_exchange, calculate_routing_key,
    declare_native_delayed_delivery_exchanges_and_queues)

from checks import URL, equal, eventually, run, true, unique


def drain(connection, done, within_s=5.0):
    end = time.monotonic() + within_s
    while not done():
        try:
            connection.drain_events(timeout=0.2)
        except socket.timeout:
            true(time.monotonic() < end, f"not so within {within_s} s")


def it_is_taken_for_a_broker_with_channel_wide_prefetch():
    # Celery raises the prefetch of running consumers only if this is False (product and version decide it).
    with Connection(URL) as connection:
        connection.connect()
        equal(connection.qos_semantics_matches_spec, False, "qos_semantics_matches_spec")


def a_producer_and_a_consumer_exchange_json():
    with Connection(URL) as connection:
        exchange = Exchange(unique("media"), "direct", durable=True, auto_delete=True)
        queue = Queue(unique("video"), exchange, "video", auto_delete=True)
        got = []
        with Consumer(connection, [queue], accept=["json"],
                      callbacks=[lambda body, message: (got.append(body), message.ack())]):
            producer = Producer(connection, exchange, "video", serializer="json")
            for n in range(50):
                producer.publish({"name": "/tmp/lolcat1.avi", "n": n}, retry=True, declare=[queue])
            drain(connection, lambda: len(got) == 50)
        equal([body["n"] for body in got], list(range(50)), "order")
        equal(got[0]["name"], "/tmp/lolcat1.avi", "body")


def compressed_pickles_and_yaml_free_types_survive():
    with Connection(URL) as connection:
        queue = Queue(unique("types"), auto_delete=True)
        got = []
        with connection.channel() as channel, Consumer(
                channel, [queue], accept=["json", "msgpack"],
                callbacks=[lambda body, message: (got.append((body, message.content_type)), message.ack())]):
            producer = Producer(channel)
            for serializer, compression in (("json", "zlib"), ("msgpack", None), ("json", "bzip2")):
                producer.publish({"a": [1, 2, {"b": None}]}, routing_key=queue.name, serializer=serializer,
                                 compression=compression)
            drain(connection, lambda: len(got) == 3)
        equal(got, [({"a": [1, 2, {"b": None}]}, kind)
                    for kind in ("application/json", "application/x-msgpack", "application/json")], "bodies")


def a_simple_queue_works_like_queue_queue():
    with Connection(URL) as connection:
        queue = connection.SimpleQueue(unique("simple"), queue_opts={"auto_delete": True})
        for n in range(5):
            queue.put({"n": n})
        eventually(lambda: queue.qsize() == 5, "five in the queue")
        for n in range(5):
            message = queue.get(block=True, timeout=5)
            equal(message.payload, {"n": n}, "payload")
            message.ack()
        try:
            queue.get(block=False)
            true(False, "not empty")
        except queue.Empty:
            pass
        equal(queue.qsize(), 0, "qsize")
        queue.close()


def requeue_and_reject_do_as_they_say():
    with Connection(URL) as connection:
        queue = Queue(unique("requeue"), auto_delete=True)
        seen = []

        def on_message(body, message):
            seen.append(message.delivery_info["redelivered"])
            message.requeue() if len(seen) == 1 else message.reject()

        with Consumer(connection, [queue], callbacks=[on_message]):
            Producer(connection).publish("x", routing_key=queue.name, declare=[queue])
            drain(connection, lambda: len(seen) == 2)
        equal(seen, [False, True], "redelivered")


class Worker(ConsumerProducerMixin):
    """Answers with the square, as the mixin's documentation has its RPC server."""

    def __init__(self, connection, queue):
        self.connection, self.queue = connection, queue

    def get_consumers(self, Consumer, channel):
        return [Consumer(queues=[self.queue], on_message=self.on_request, accept=["json"], prefetch_count=1)]

    def on_request(self, message):
        self.producer.publish({"result": message.payload["n"] ** 2}, exchange="",
                              routing_key=message.properties["reply_to"],
                              correlation_id=message.properties["correlation_id"], serializer="json", retry=True)
        message.ack()


def a_mixin_worker_answers_calls():
    requests = Queue(unique("rpc"), auto_delete=True)
    worker = Worker(Connection(URL), requests)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    with Connection(URL) as connection:
        replies = Queue(unique("reply"), exclusive=True, auto_delete=True)
        got = {}
        with Consumer(connection, [replies], no_ack=True, accept=["json"],
                      callbacks=[lambda body, m: got.update({m.properties["correlation_id"]: body["result"]})]):
            producer = Producer(connection)
            for n in range(20):
                producer.publish({"n": n}, routing_key=requests.name, declare=[requests], reply_to=replies.name,
                                 correlation_id=str(n))
            drain(connection, lambda: len(got) == 20)
        equal(got, {str(n): n * n for n in range(20)}, "squares")
    worker.should_stop = True
    thread.join(10)


def broadcasts_reach_every_listener():
    name = unique("broadcast")
    with Connection(URL) as connection:
        got = [[], []]
        channels = [connection.channel() for _ in got]
        consumers = [
            Consumer(channel, [Broadcast(name)],
                     callbacks=[lambda body, m, bodies=bodies: (bodies.append(body), m.ack())])
            for channel, bodies in zip(channels, got)]
        for consumer in consumers:
            consumer.consume()
        Producer(connection).publish("all", exchange=name, routing_key="")
        drain(connection, lambda: all(got))
        equal(got, [["all"], ["all"]], "both")
        for consumer in consumers:
            consumer.cancel()


def native_delayed_delivery_on_classic_queues_keeps_time():
    native_delayed_delivery_keeps_time("classic")


def native_delayed_delivery_on_quorum_queues_keeps_time():
    native_delayed_delivery_keeps_time("quorum")


def native_delayed_delivery_keeps_time(queue_type):
    """What Celery builds on quorum queues: 28 levels of exchanges and queues with TTL and dead letters."""
    delays_s = (4, 1, 3, 2, 1)
    with Connection(URL, transport_options={"confirm_publish": True}) as connection:
        prefix = unique("d")
        for _ in range(2):  # by every worker that starts
            declare_native_delayed_delivery_exchanges_and_queues(connection, queue_type, prefix)
        exchange = Exchange(unique("x"), "topic", auto_delete=True)
        queue = Queue(unique("late"), exchange, "late", queue_arguments={"x-queue-type": queue_type})
        maybe_declare(queue, connection.default_channel)
        bind_queue_to_native_delayed_delivery_exchange(connection, queue.bind(connection.default_channel), prefix)
        got, started = [], time.monotonic()

        def on_message(delay_s, message):
            got.append((delay_s, time.monotonic() - started - delay_s))
            message.ack()

        with Consumer(connection, [queue], callbacks=[on_message]):
            producer = Producer(connection)
            for delay_s in delays_s:
                producer.publish(delay_s, exchange=f"{prefix}_celery_delayed_27",
                                 routing_key=calculate_routing_key(delay_s, "late"))
            drain(connection, lambda: len(got) == len(delays_s), within_s=10)
        equal([delay_s for delay_s, _ in got], sorted(delays_s), "order")
        true(all(-0.05 < late_s < 1 for _, late_s in got), f"(delay, off by) in seconds: {got}")
        channel = connection.default_channel
        channel.queue_delete(queue.name)
        for level in range(28):
            equal(channel.queue_delete(f"{prefix}_celery_delayed_{level}"), 0, f"messages left in level {level}")
            channel.exchange_delete(f"{prefix}_celery_delayed_{level}")
        channel.exchange_delete(f"{prefix}_celery_delayed_delivery")


class Listener(ConsumerMixin):
    def __init__(self, connection, queue):
        self.connection, self.queue, self.got = connection, queue, []

    def get_consumers(self, Consumer, channel):
        return [Consumer([self.queue], callbacks=[self.on_message])]

    def on_message(self, body, message):
        self.got.append(body)
        message.ack()


def a_mixin_consumes_again_after_its_queue_was_deleted():
    queue = Queue(unique("phoenix"), durable=False, auto_delete=False)
    listener = Listener(Connection(URL), queue)
    thread = threading.Thread(target=listener.run, daemon=True)
    thread.start()
    with Connection(URL) as connection:
        eventually(lambda: _consumers(connection, queue.name) == 1, "listening")
        channel = connection.channel()
        channel.queue_delete(queue.name)
        eventually(lambda: _consumers(connection, queue.name) == 1, "listening again", within_s=10)
        Producer(connection.channel()).publish("back", routing_key=queue.name)
        eventually(lambda: listener.got == ["back"], "message after the rebirth")
        listener.should_stop = True
        thread.join(10)
        connection.channel().queue_delete(queue.name)


def _consumers(connection, queue):
    channel = connection.channel()
    try:
        return channel.queue_declare(queue, passive=True).consumer_count
    except connection.channel_errors:
        return 0
    finally:
        channel.close()


if __name__ == "__main__":
    run("kombu", [
        it_is_taken_for_a_broker_with_channel_wide_prefetch, a_producer_and_a_consumer_exchange_json,
        compressed_pickles_and_yaml_free_types_survive, a_simple_queue_works_like_queue_queue,
        requeue_and_reject_do_as_they_say, a_mixin_worker_answers_calls, broadcasts_reach_every_listener,
        native_delayed_delivery_on_classic_queues_keeps_time, native_delayed_delivery_on_quorum_queues_keeps_time,
        a_mixin_consumes_again_after_its_queue_was_deleted,
    ])
