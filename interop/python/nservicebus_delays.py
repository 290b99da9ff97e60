"""NServiceBus: the delay infrastructure its RabbitMQ transport declares, played with pika.

A delay in seconds is a 28-bit number. Each bit is a level: a topic exchange, and a quorum queue that holds a message
for 2^level seconds and dead-letters it to the next lower level. The routing key spells the bits before the address:

    level 2 ──1──▶ queue, 4 s ─┐      level 1 ──1──▶ queue, 2 s ─┐      level 0 ──1──▶ queue, 1 s ─┐
       └──────0────────────────┴──────▶ └──────0────────────────┴──────▶ └──────0────────────────┴──▶ delivery
"""

import threading
import time

import pika

from checks import equal, eventually, limit, run, true, unique
from pika_basic import connect
from processes import crash

LEVELS = 28
DELIVERY = "nsb.v2.delay-delivery"
ADDRESS = unique("Sales.Orders")


def level_name(level):
    return f"nsb.v2.delay-level-{level:02}"


def declare_levels(channel):
    for level in reversed(range(LEVELS)):
        name = level_name(level)
        channel.exchange_declare(name, "topic", durable=True)
        channel.queue_declare(name, durable=True, arguments={
            "x-queue-type": "quorum", "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish",
            "x-message-ttl": 1000 * 2 ** level,
            "x-dead-letter-exchange": level_name(level - 1) if level else DELIVERY})
        channel.queue_bind(name, name, "*." * (LEVELS - 1 - level) + "1.#")
    channel.exchange_declare(DELIVERY, "topic", durable=True)
    for level in reversed(range(LEVELS)):
        below = level_name(level - 1) if level else DELIVERY
        channel.exchange_bind(below, level_name(level), "*." * (LEVELS - 1 - level) + "0.#")


def declare_endpoint(channel, address):
    """An endpoint of the conventional topology: a fanout exchange before a quorum queue of the same name."""
    channel.queue_declare(address, durable=True, arguments={"x-queue-type": "quorum"})
    channel.exchange_declare(address, "fanout", durable=True)
    channel.queue_bind(address, address, "")
    channel.exchange_bind(address, DELIVERY, f"#.{address}")


def send_later(channel, delay_s, address, body):
    """Confirmed and mandatory, as the transport sends; to the highest level that has its bit set."""
    key = ".".join(f"{delay_s:0{LEVELS}b}") + f".{address}"
    headers = {"NServiceBus.Transport.RabbitMQ.DelayInSeconds": delay_s, "NServiceBus.EnclosedMessageTypes": "Order"}
    properties = pika.BasicProperties(delivery_mode=2, message_id=unique("m"), headers=headers)
    channel.basic_publish(level_name(max(delay_s.bit_length() - 1, 0)), key, body, properties, mandatory=True)


class Endpoint:
    """Consumes on a connection of its own and notes when what arrived."""

    def __init__(self, address):
        self.arrived, self._stopped = [], False
        self._connection = connect()
        channel = self._connection.channel()
        channel.basic_qos(prefetch_count=10)
        channel.basic_consume(address, self._on_message)
        self._thread = threading.Thread(target=self._consume, daemon=True)
        self._thread.start()

    def _on_message(self, channel, method, properties, body):
        self.arrived.append((time.time(), body.decode(), properties.headers))
        channel.basic_ack(method.delivery_tag)

    def _consume(self):
        while not self._stopped:
            self._connection.process_data_events(0.05)
        self._connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stopped = True
        self._thread.join(10)


def open_channel():
    connection = connect()
    channel = connection.channel()
    channel.confirm_delivery()
    return connection, channel


def the_transport_accepts_the_broker_at_start():
    # It refuses versions below 3.10, then declares a stream to see whether the feature flag is on.
    connection, channel = open_channel()
    version = connection._impl.server_properties["version"]
    true(tuple(map(int, version.split(".")[:2])) >= (3, 10), f"version {version}")
    probe = "nsb.v2.verify-stream-flag-enabled"
    channel.queue_declare(probe, durable=True, arguments={"x-queue-type": "stream"})
    channel.queue_delete(probe)
    connection.close()


@limit(60)
def twenty_eight_levels_are_declared_by_every_endpoint_that_starts():
    connection, channel = open_channel()
    for _ in range(2):
        declare_levels(channel)
        declare_endpoint(channel, ADDRESS)
    connection.close()


def a_delay_of_nothing_passes_all_levels_at_once():
    connection, channel = open_channel()
    with Endpoint(ADDRESS) as endpoint:
        started = time.time()
        send_later(channel, 0, ADDRESS, b"now")
        eventually(lambda: endpoint.arrived, "the message")
        true(endpoint.arrived[0][0] - started < 1, "at once")
        true("x-death" not in endpoint.arrived[0][2], "no level held it")
    connection.close()


def delays_are_kept_to_the_second_and_in_order():
    connection, channel = open_channel()
    with Endpoint(ADDRESS) as endpoint:
        started = time.time()
        for delay_s in (5, 3, 1, 4, 2):
            send_later(channel, delay_s, ADDRESS, b"%d" % delay_s)
        eventually(lambda: len(endpoint.arrived) == 5, "five messages", 10)
        equal([body for _, body, _ in endpoint.arrived], ["1", "2", "3", "4", "5"], "order")
        for at, body, headers in endpoint.arrived:
            late_s = at - started - int(body)
            true(-0.05 < late_s < 1, f"a delay of {body} s was off by {late_s:.2f} s")
            held = {level_name(level) for level in range(LEVELS) if int(body) >> level & 1}
            deaths = {death["queue"]: (death["reason"], death["count"]) for death in headers["x-death"]}
            equal(deaths, {name: ("expired", 1) for name in held}, f"levels that held {body}")
    connection.close()


def a_hundred_delays_at_once_come_once_each():
    connection, channel = open_channel()
    with Endpoint(ADDRESS) as endpoint:
        started = time.time()
        for n in range(100):
            send_later(channel, 1 + n % 3, ADDRESS, b"%d" % n)
        eventually(lambda: len(endpoint.arrived) >= 100, "a hundred messages", 15)
        equal(sorted(int(body) for _, body, _ in endpoint.arrived), list(range(100)), "each once")
        early = [body for at, body, _ in endpoint.arrived if at - started < 1 + int(body) % 3 - 0.05]
        equal(early, [], "came too early")
    connection.close()


@limit(120)
def a_delay_survives_a_crash_of_the_broker():
    connection, channel = open_channel()
    send_later(channel, 6, ADDRESS, b"before the crash")
    sent = time.time()
    crash()
    with Endpoint(ADDRESS) as endpoint:
        eventually(lambda: endpoint.arrived, "the message", 40)
        at, body, _ = endpoint.arrived[0]
        equal(body, "before the crash", "body")
        true(at - sent > 5.95, f"it came after {at - sent:.2f} s instead of 6")
        time.sleep(1)
        equal(len(endpoint.arrived), 1, "messages")


@limit(120)
def a_crash_between_two_levels_loses_nothing():
    # 3 s is 2 s on one level and 1 s on the next: the crash comes while messages go from queue to queue.
    connection, channel = open_channel()
    first = time.time()
    for n in range(300):
        send_later(channel, 3, ADDRESS, b"%d" % n)
    time.sleep(max(0.0, first + 2.1 - time.time()))
    crash()
    with Endpoint(ADDRESS) as endpoint:
        eventually(lambda: {int(body) for _, body, _ in endpoint.arrived} == set(range(300)), "every message", 60)


def nothing_is_left_behind():
    connection, channel = open_channel()
    channel.queue_delete(ADDRESS)
    for exchange in (ADDRESS, DELIVERY):
        channel.exchange_delete(exchange)
    for name in map(level_name, range(LEVELS)):
        equal(channel.queue_delete(name).method.message_count, 0, f"messages left in {name}")
        channel.exchange_delete(name)
    connection.close()


if __name__ == "__main__":
    run("nservicebus", [
        the_transport_accepts_the_broker_at_start, twenty_eight_levels_are_declared_by_every_endpoint_that_starts,
        a_delay_of_nothing_passes_all_levels_at_once, delays_are_kept_to_the_second_and_in_order,
        a_hundred_delays_at_once_come_once_each, a_delay_survives_a_crash_of_the_broker,
        a_crash_between_two_levels_loses_nothing, nothing_is_left_behind,
    ])
