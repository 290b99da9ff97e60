"""Streams with pika: everyone reads the whole log, from where he likes, as often as he likes.

    0  1  2  3  …  29 │ new ones
    ▲first   ▲offset   ▲next         x-stream-offset, an argument of basic.consume
                                     and a header of every delivery
"""

import datetime
import time

import pika
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

from checks import equal, eventually, limit, only_on_leveret, run, true, unique
from pika_basic import connect
from processes import crash

STREAM = unique("log")
PREFETCH = 100


def open_channel(prefetch=PREFETCH):
    connection = connect()
    channel = connection.channel()
    channel.confirm_delivery()
    if prefetch:
        channel.basic_qos(prefetch_count=prefetch)
    return connection, channel


def append(bodies, stream=STREAM, **headers):
    connection, channel = open_channel()
    for body in bodies:
        channel.basic_publish("", stream, str(body).encode(), pika.BasicProperties(delivery_mode=2, headers=headers))
    connection.close()


class Reader:
    """Reads on a connection of its own and acknowledges, which is what gives it credit for more."""

    def __init__(self, offset, stream=STREAM, prefetch=PREFETCH, acknowledges=True, **arguments):
        self.connection, self.channel = open_channel(prefetch)
        self.offsets, self.bodies = [], []
        self._acknowledges = acknowledges
        if offset is not None:
            arguments["x-stream-offset"] = offset
        self.channel.basic_consume(stream, self._on_message, arguments=arguments)

    def _on_message(self, channel, method, properties, body):
        self.offsets.append(properties.headers["x-stream-offset"])
        self.bodies.append(body.decode())
        if self._acknowledges:
            channel.basic_ack(method.delivery_tag)

    def read(self, messages, within_s=10):
        """Until that many came, and for a moment more, in case there are too many."""
        end = time.monotonic() + within_s
        while len(self.bodies) < messages:
            self.connection.process_data_events(0.05)
            true(time.monotonic() < end, f"{len(self.bodies)} messages within {within_s} s, want {messages}")
        self.connection.process_data_events(0.2)
        return self

    def close(self):
        self.connection.close()


def reads(offset, want_offsets, **options):
    reader = Reader(offset, **options).read(len(want_offsets))
    reader.close()
    equal(reader.offsets, list(want_offsets), f"offsets from {offset!r}")
    return reader


def a_stream_is_declared_and_appended_to():
    connection, channel = open_channel()
    for _ in range(2):
        channel.queue_declare(STREAM, durable=True, arguments={
            "x-queue-type": "stream", "x-max-length-bytes": 50_000_000, "x-max-age": "1D",
            "x-stream-max-segment-size-bytes": 1_000_000})
    append(range(30))
    connection.close()


def first_reads_everything_as_often_as_it_is_asked_for():
    for _ in range(2):
        equal(reads("first", range(30)).bodies, [str(n) for n in range(30)], "bodies")


def an_offset_reads_from_there():
    reads(20, range(20, 30))


def an_offset_that_is_to_come_waits_for_it():
    reader = Reader(31).read(0)
    append([30, 31])
    reader.read(1).close()
    equal(reader.offsets, [31], "offsets")


def next_reads_only_what_comes_and_is_what_nobody_says():
    readers = [Reader("next"), Reader(None)]
    for reader in readers:
        reader.read(0)
    append([32, 33])
    for reader in readers:
        reader.read(2).close()
        equal(reader.offsets, [32, 33], "offsets")


def last_ends_with_the_last_message():
    # RabbitMQ begins with the last chunk, whatever that holds.
    reader = Reader("last").read(1)
    reader.close()
    equal(reader.offsets[-1], 33, "the last offset")


def a_time_reads_from_there():
    time.sleep(1.1)  # pika writes whole seconds
    noon = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    append([34, 35])
    reads(noon, [34, 35])


def a_day_of_history_is_an_interval():
    reads("1D", range(36))


def readers_do_not_take_from_each_other():
    slow, fast = Reader("first", acknowledges=False), Reader("first")
    fast.read(36)
    slow.read(36)
    equal(fast.offsets, slow.offsets, "both read everything")
    connection, channel = open_channel()
    eventually(lambda: channel.queue_declare(STREAM, passive=True).method.message_count >= 36, "all stay", 15)
    for closed in (slow, fast):
        closed.close()
    connection.close()


def acknowledgements_give_credit_for_more():
    append(range(1000), stream=a_stream("credit"))
    reader = Reader("first", stream=names["credit"], prefetch=10).read(1000, within_s=20)
    reader.close()
    equal(reader.offsets, list(range(1000)), "offsets")


@only_on_leveret("RabbitMQ hands out whole chunks, more than the prefetch")
def without_acknowledgements_the_prefetch_is_all():
    reader = Reader("first", prefetch=10, acknowledges=False).read(10)
    reader.close()
    equal(reader.offsets, list(range(10)), "offsets")


@only_on_leveret("RabbitMQ filters since 3.13")
def a_filter_leaves_the_others_out():
    stream = a_stream("filtered")
    for region, bodies in (("eu", [1, 2]), ("us", [3]), ("eu", [4])):
        append(bodies, stream=stream, **{"x-stream-filter-value": region})
    append([5], stream=stream)
    filtered = Reader("first", stream=stream, **{"x-stream-filter": "eu"}).read(3)
    filtered.close()
    equal(filtered.bodies, ["1", "2", "4"], "eu")
    more = Reader("first", stream=stream, **{"x-stream-filter": "us", "x-stream-match-unfiltered": True}).read(2)
    more.close()
    equal(more.bodies, ["3", "5"], "us, and what has no value")


names = {}


def a_stream(name):
    names[name] = unique(name)
    connection, channel = open_channel()
    channel.queue_declare(names[name], durable=True, arguments={"x-queue-type": "stream"})
    connection.close()
    return names[name]


def what_a_stream_cannot_do_is_refused():
    def consume(channel, **options):
        channel.basic_consume(STREAM, lambda *_: None, **options)

    for code, prefetch, ask in (
            (406, None, consume),
            (540, PREFETCH, lambda channel: consume(channel, auto_ack=True)),
            (540, PREFETCH, lambda channel: channel.basic_get(STREAM)),
            (540, PREFETCH, lambda channel: channel.queue_purge(STREAM)),
            (406, PREFETCH, lambda channel: channel.queue_declare(
                unique("no"), durable=True, arguments={"x-queue-type": "stream", "x-message-ttl": 1000}))):
        connection, channel = open_channel(prefetch)
        try:
            ask(channel)
            true(False, f"no {code} came")
        except (ChannelClosedByBroker, ConnectionClosedByBroker) as error:
            equal(error.reply_code, code, "reply-code")
        if connection.is_open:
            connection.close()


@limit(120)
def what_was_confirmed_and_its_offsets_survive_a_crash():
    append([36])
    crash()
    eventually(can_be_read, "the stream is back", 30)  # RabbitMQ elects its leader when it already serves
    reads("first", range(37))
    append([37])
    reads(36, [36, 37])


def can_be_read():
    try:
        Reader("next").close()
        return True
    except ChannelClosedByBroker as error:
        equal(error.reply_code, 404, "reply-code")
        return False


def nothing_is_left_behind():
    connection, channel = open_channel()
    for stream in (STREAM, *names.values()):
        channel.queue_delete(stream)
    connection.close()


if __name__ == "__main__":
    run("pika_streams", [
        a_stream_is_declared_and_appended_to, first_reads_everything_as_often_as_it_is_asked_for,
        an_offset_reads_from_there, an_offset_that_is_to_come_waits_for_it,
        next_reads_only_what_comes_and_is_what_nobody_says, last_ends_with_the_last_message,
        a_time_reads_from_there, a_day_of_history_is_an_interval, readers_do_not_take_from_each_other,
        acknowledgements_give_credit_for_more, without_acknowledgements_the_prefetch_is_all,
        a_filter_leaves_the_others_out, what_a_stream_cannot_do_is_refused,
        what_was_confirmed_and_its_offsets_survive_a_crash, nothing_is_left_behind,
    ])
