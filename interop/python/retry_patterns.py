"""Retries as Spring AMQP, golevelup and their like build them from queues, and poison messages that must end.

    work ──rejected──▶ wait (TTL) ──expired──▶ work …          x-death counts the rounds
    work (quorum, x-delivery-limit) ──failed too often──▶ dead  x-delivery-count counts the failures
"""

import os
import socket
import subprocess
import sys
import time

import pika
from pika.exceptions import NackError

from checks import URL, Deviation, equal, eventually, limit, only_on_leveret, run, true, unique
from pika_basic import connect

DIE_WITH_A_MESSAGE = """
import os, sys, pika
channel = pika.BlockingConnection(pika.URLParameters(sys.argv[1])).channel()
for method, properties, body in channel.consume(sys.argv[2]):
    os._exit(9)
"""


def open_channel():
    connection = connect()
    channel = connection.channel()
    channel.confirm_delivery()
    channel.basic_qos(prefetch_count=1)
    return connection, channel


def declare(channel, prefix, **arguments):
    """A durable queue; the names of its arguments are given without `x-` and with underscores."""
    name = unique(prefix)
    channel.queue_declare(name, durable=True, arguments={
        "x-" + key.replace("_", "-"): value for key, value in arguments.items()})
    return name


def dead_letters_to(queue):
    return {"dead_letter_exchange": "", "dead_letter_routing_key": queue}


def delete(channel, *queues):
    for queue in queues:
        equal(channel.queue_delete(queue).method.message_count, 0, f"messages left in {queue}")


def send(channel, queue, *bodies):
    for body in bodies:
        channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2), mandatory=True)


class Consumer:
    """Hands every delivery to `on_message(method, properties, body)` and notes it."""

    def __init__(self, connection, channel, queue, on_message):
        self.connection, self.seen = connection, []

        def note(_, method, properties, body):
            self.seen.append((time.monotonic(), body, properties.headers or {}))
            on_message(method, properties, body)

        self.tag = channel.basic_consume(queue, note)

    def wait(self, deliveries, within_s=10):
        end = time.monotonic() + within_s
        while len(self.seen) < deliveries:
            self.connection.process_data_events(0.05)
            true(time.monotonic() < end, f"{len(self.seen)} deliveries within {within_s} s, want {deliveries}")

    def pauses_s(self):
        return [later - earlier for (earlier, *_), (later, *_) in zip(self.seen, self.seen[1:])]


def arrived(connection, channel, queue, within_s=5):
    """The next message of the queue, acknowledged."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        if method:
            return properties, body
        connection.sleep(0.02)
    raise Deviation(f"nothing came to {queue} within {within_s} s")


def rounds(headers, queue):
    """What Spring's retry policies read: how often that queue rejected the message."""
    return sum(death["count"] for death in headers.get("x-death", [])
               if (death["queue"], death["reason"]) == (queue, "rejected"))


def rejected_messages_wait_and_come_back(queue_type, **strategy):
    connection, channel = open_channel()
    parking = declare(channel, "parking", queue_type=queue_type)
    work, wait = unique("work"), unique("wait")
    channel.queue_declare(work, durable=True, arguments={
        "x-queue-type": queue_type, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": wait, **strategy})
    channel.queue_declare(wait, durable=True, arguments={
        "x-queue-type": queue_type, "x-message-ttl": 300, "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": work, **strategy})

    def on_message(method, properties, body):
        if rounds(properties.headers or {}, work) < 3:
            channel.basic_reject(method.delivery_tag, requeue=False)
        else:  # the policy is exhausted
            channel.basic_publish("", parking, body, properties)
            channel.basic_ack(method.delivery_tag)

    consumer = Consumer(connection, channel, work, on_message)
    send(channel, work, b"bad")
    consumer.wait(4)
    equal([rounds(headers, work) for _, _, headers in consumer.seen], [0, 1, 2, 3], "rounds")
    true(all(0.25 < pause_s < 1.3 for pause_s in consumer.pauses_s()), f"300 ms each: {consumer.pauses_s()}")
    properties, body = arrived(connection, channel, parking)
    equal((body, rounds(properties.headers, work)), (b"bad", 3), "parked with its history")
    equal([death["queue"] for death in properties.headers["x-death"]], [wait, work], "x-death, the last one first")
    delete(channel, work, wait, parking)
    connection.close()


def a_wait_queue_counts_the_rounds_on_classic_queues():
    rejected_messages_wait_and_come_back("classic")


def a_wait_queue_counts_the_rounds_on_quorum_queues():
    rejected_messages_wait_and_come_back(
        "quorum", **{"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"})


def the_consumer_backs_off_with_an_expiration_of_its_own():
    # Each try waits twice as long; the consumer publishes to the wait queue itself and counts in a header.
    connection, channel = open_channel()
    work = declare(channel, "work", queue_type="quorum")
    wait = declare(channel, "wait", **dead_letters_to(work))

    def on_message(method, properties, body):
        tries = (properties.headers or {}).get("retries", 0)
        if tries < 3:
            channel.basic_publish("", wait, body, pika.BasicProperties(
                delivery_mode=2, expiration=str(200 * 2 ** tries), headers={"retries": tries + 1}))
        channel.basic_ack(method.delivery_tag)

    consumer = Consumer(connection, channel, work, on_message)
    send(channel, work, b"later")
    consumer.wait(4)
    for pause_s, want_s in zip(consumer.pauses_s(), (0.2, 0.4, 0.8)):
        true(-0.03 < pause_s - want_s < 1, f"a pause of {want_s} s took {pause_s:.2f} s")
    delete(channel, work, wait)
    connection.close()


def a_rejected_poison_message_ends_at_the_delivery_limit():
    connection, channel = open_channel()
    dead = declare(channel, "dead", queue_type="quorum")
    work = declare(channel, "work", queue_type="quorum", delivery_limit=3, **dead_letters_to(dead))
    consumer = Consumer(connection, channel, work, lambda method, properties, body: (
        channel.basic_reject(method.delivery_tag, requeue=True) if body == b"poison"
        else channel.basic_ack(method.delivery_tag)))
    send(channel, work, b"poison", b"fine")
    consumer.wait(5)
    counts = [headers.get("x-delivery-count", 0) for _, body, headers in consumer.seen if body == b"poison"]
    equal(counts, [0, 1, 2, 3], "x-delivery-count: the limit is how often it may come back")
    properties, body = arrived(connection, channel, dead)
    death = properties.headers["x-death"][0]
    equal((body, death["reason"], death["queue"], death["count"]), (b"poison", "delivery_limit", work, 1), "x-death")
    delete(channel, work, dead)
    connection.close()


@limit(60)
def a_message_that_kills_its_consumers_ends_at_the_delivery_limit():
    connection, channel = open_channel()
    dead = declare(channel, "dead")
    work = declare(channel, "work", queue_type="quorum", delivery_limit=1, **dead_letters_to(dead))
    send(channel, work, b"killer")
    for _ in range(2):
        died = subprocess.run([sys.executable, "-c", DIE_WITH_A_MESSAGE, URL, work], timeout=20, env=os.environ)
        equal(died.returncode, 9, "it died of the message")
    properties, body = arrived(connection, channel, dead, within_s=10)
    equal((body, properties.headers["x-first-death-reason"]), (b"killer", "delivery_limit"), "dead letter")
    delete(channel, work, dead)
    connection.close()


@only_on_leveret("delayed retry came with RabbitMQ 4.3")
def the_queue_itself_delays_a_failed_message():
    connection, channel = open_channel()
    dead = declare(channel, "dead")
    work = declare(channel, "work", queue_type="quorum", delivery_limit=2, delayed_retry_type="failed",
                   delayed_retry_min=300, delayed_retry_max=1000, **dead_letters_to(dead))

    def on_message(method, properties, body):
        if body == b"bad":
            channel.basic_reject(method.delivery_tag, requeue=True)
        else:
            channel.basic_ack(method.delivery_tag)

    consumer = Consumer(connection, channel, work, on_message)
    send(channel, work, b"bad", b"good")
    consumer.wait(4)
    equal([body for _, body, _ in consumer.seen], [b"bad", b"good", b"bad", b"bad"], "others are not held up")
    first, *again = [at for at, body, _ in consumer.seen if body == b"bad"]
    for earlier, at, tries in zip((first, *again), again, (1, 2)):
        true(-0.03 < at - earlier - 0.3 * tries < 1, f"try {tries} came after {at - earlier:.2f} s")
    equal(arrived(connection, channel, dead)[1], b"bad", "dead letter")
    delete(channel, work, dead)
    connection.close()


def the_next_single_active_consumer_takes_over_in_order():
    connection, channel = open_channel()
    work = declare(channel, "work", queue_type="quorum", single_active_consumer=True)
    first_connection, first_channel = open_channel()
    second_connection, second_channel = open_channel()
    first = Consumer(first_connection, first_channel, work, lambda method, properties, body: (
        first_channel.basic_ack(method.delivery_tag) if body == b"0" else None))  # stuck with the second message
    second = Consumer(second_connection, second_channel, work, lambda method, properties, body: (
        second_channel.basic_ack(method.delivery_tag)))
    send(channel, work, b"0", b"1", b"2")
    first.wait(2)
    second_connection.process_data_events(0.3)
    equal((bodies(first), bodies(second)), ([b"0", b"1"], []), "only the first is served")
    first_connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)  # without a goodbye
    second.wait(2)
    equal(bodies(second), [b"1", b"2"], "the second takes over where the first was")
    send(channel, work, b"3")
    second.wait(3)
    second_connection.close()
    delete(channel, work)
    connection.close()


def bodies(consumer):
    return [body for _, body, _ in consumer.seen]


@only_on_leveret("RabbitMQ tries again only after three minutes, and lets a full quorum queue run over a little")
def dead_letters_wait_until_their_queue_has_room():
    connection, channel = open_channel()
    full = declare(channel, "full", queue_type="quorum", max_length=1, overflow="reject-publish")
    work = declare(channel, "work", queue_type="quorum", message_ttl=200, overflow="reject-publish",
                   dead_letter_strategy="at-least-once", **dead_letters_to(full))
    send(channel, full, b"in the way")
    try:
        send(channel, full, b"too many")
        true(False, "the full queue took more")
    except NackError:
        pass
    send(channel, work, b"patient")
    connection.sleep(1)
    equal(arrived(connection, channel, full)[1], b"in the way", "the first")
    equal(arrived(connection, channel, full)[1], b"patient", "the dead letter was kept")
    delete(channel, work, full)
    connection.close()


if __name__ == "__main__":
    run("retry_patterns", [
        a_wait_queue_counts_the_rounds_on_classic_queues, a_wait_queue_counts_the_rounds_on_quorum_queues,
        the_consumer_backs_off_with_an_expiration_of_its_own, a_rejected_poison_message_ends_at_the_delivery_limit,
        a_message_that_kills_its_consumers_ends_at_the_delivery_limit, the_queue_itself_delays_a_failed_message,
        the_next_single_active_consumer_takes_over_in_order, dead_letters_wait_until_their_queue_has_room,
    ])
