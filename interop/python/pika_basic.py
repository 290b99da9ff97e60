"""Queues and messages with pika's BlockingConnection, the way its documentation teaches them."""

import datetime
import decimal
import subprocess
import sys

import pika

from checks import PORT, HOST, URL, equal, eventually, run, true, unique

PERSISTENT = pika.BasicProperties(delivery_mode=2)


def connect():
    return pika.BlockingConnection(pika.URLParameters(URL))


def fetch(channel, queue, auto_ack=True):
    method, properties, body = channel.basic_get(queue, auto_ack=auto_ack)
    true(method is not None, f"queue {queue} is empty, a message was due")
    return method, properties, body


def the_server_introduces_itself():
    connection = connect()
    properties = connection._impl.server_properties
    capabilities = properties["capabilities"]
    for name in ("publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify",
                 "connection.blocked", "consumer_priorities", "authentication_failure_close",
                 "per_consumer_qos", "direct_reply_to"):
        equal(capabilities.get(name), True, f"capability {name}")
    for name in ("product", "version", "platform"):
        true(isinstance(properties.get(name), str) and properties[name], f"server property {name} is a text")
    connection.close()


def plain_parameters_work_like_a_url():
    credentials = pika.PlainCredentials("guest", "guest")
    connection = pika.BlockingConnection(
        pika.ConnectionParameters(HOST, PORT, "/", credentials, heartbeat=600, blocked_connection_timeout=300))
    true(connection.is_open, "open")
    connection.close()
    true(connection.is_closed, "closed")


def a_queue_counts_its_messages_and_consumers():
    connection = connect()
    channel = connection.channel()
    name = unique("count")
    declared = channel.queue_declare(name, durable=True).method
    equal((declared.queue, declared.message_count, declared.consumer_count), (name, 0, 0), "declare-ok")
    for n in range(3):
        channel.basic_publish("", name, b"%d" % n, PERSISTENT)
    again = eventually(lambda: channel.queue_declare(name, passive=True).method.message_count == 3, "three messages")
    true(again, "counted")
    tag = channel.basic_consume(name, lambda *_: None)
    connection.sleep(0.1)
    state = channel.queue_declare(name, durable=True).method
    equal((state.message_count, state.consumer_count), (0, 1), "delivered messages are not ready ones")
    channel.basic_cancel(tag)
    channel.close()
    channel = connection.channel()
    equal(channel.queue_purge(name).method.message_count, 3, "purged")
    equal(channel.queue_delete(name).method.message_count, 0, "deleted with messages")
    equal(channel.queue_delete(name).method.message_count, 0, "deleting what is not there is fine")
    connection.close()


def the_server_names_queues_and_tags():
    connection = connect()
    channel = connection.channel()
    first = channel.queue_declare("", exclusive=True).method.queue
    second = channel.queue_declare("", exclusive=True).method.queue
    true(first.startswith("amq.gen-") and second.startswith("amq.gen-"), f"generated names: {first}, {second}")
    true(first != second, "two names")
    other = connection.channel()
    other.queue_declare("", exclusive=True)
    # An empty name means the queue this channel declared last.
    channel.basic_publish("", second, b"to the last")
    method, _, body = fetch(channel, "")
    equal(body, b"to the last", "empty name")
    equal(method.message_count, 0, "left")
    connection.close()


def every_property_comes_back():
    connection = connect()
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    stamp = datetime.datetime(2026, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc)
    headers = {
        "text": "grüße", "bytes": b"\x00\xff", "small": 7, "negative": -7, "big": 2**40, "true": True, "false": False,
        "none": None, "decimal": decimal.Decimal("12.34"), "when": stamp,
        "list": [1, "two", [3, None]], "table": {"inner": {"deep": "er"}}, "empty": {}, "nothing": [],
    }
    sent = pika.BasicProperties(
        content_type="application/json", content_encoding="utf-8", headers=headers, delivery_mode=2, priority=3,
        correlation_id="corr", reply_to="back", expiration="60000", message_id="id", timestamp=1234567890, type="kind",
        user_id="guest", app_id="app", cluster_id="cluster")
    channel.basic_publish("", queue, b"{}", sent)
    method, got, body = fetch(channel, queue)
    equal(body, b"{}", "body")
    equal((method.exchange, method.routing_key, method.redelivered), ("", queue, False), "get-ok")
    for name in ("content_type", "content_encoding", "delivery_mode", "priority", "correlation_id", "reply_to",
                 "expiration", "message_id", "timestamp", "type", "user_id", "app_id", "cluster_id"):
        equal(getattr(got, name), getattr(sent, name), name)
    for name, value in headers.items():
        equal(got.headers.get(name), value, f"header {name}")
    equal(set(got.headers), set(headers), "no header more")
    channel.basic_publish("", queue, b"bare")
    equal(fetch(channel, queue)[1].headers, None, "no properties")
    connection.close()


def bodies_of_any_size_arrive_whole():
    connection = connect()
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    for size in (0, 1, 4096, 131063, 131064, 131065, 3_000_000):
        body = bytes(i % 251 for i in range(min(size, 4096))) * (size // 4096 + 1)
        channel.basic_publish("", queue, body[:size])
        _, _, got = fetch(channel, queue)
        true(got == body[:size], f"{size} bytes came as {len(got)}")
    connection.close()


def small_frames_are_honoured():
    connection = pika.BlockingConnection(pika.URLParameters(URL + "?frame_max=8192"))
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    body = b"0123456789" * 10_000
    channel.basic_publish("", queue, body)
    true(fetch(channel, queue)[2] == body, "a body over many frames")
    connection.close()


def a_thousand_messages_keep_their_order():
    connection = connect()
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_qos(prefetch_count=10)
    for n in range(1000):
        channel.basic_publish("", queue, b"%d" % n)
    for n, (method, _, body) in enumerate(channel.consume(queue, inactivity_timeout=5)):
        true(method is not None, f"message {n} did not come")
        equal((body, method.delivery_tag, method.redelivered), (b"%d" % n, n + 1, False), "delivery")
        if n % 10 == 9:
            channel.basic_ack(method.delivery_tag, multiple=True)
        if n == 999:
            break
    channel.cancel()
    equal(channel.queue_declare(queue, passive=True).method.message_count, 0, "left over")
    connection.close()


def prefetch_limits_each_consumer():
    connection = connect()
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    got = []
    for n in range(10):
        channel.basic_publish("", queue, b"%d" % n)
    channel.basic_qos(prefetch_count=2)
    channel.basic_consume(queue, lambda _, method, __, body: got.append((method.delivery_tag, body)))
    connection.sleep(0.3)
    equal([body for _, body in got], [b"0", b"1"], "two without an ack")
    channel.basic_ack(got[0][0])
    connection.sleep(0.3)
    equal([body for _, body in got], [b"0", b"1", b"2"], "one ack, one more")
    channel.basic_consume(queue, lambda _, method, __, body: got.append((method.delivery_tag, body)))
    connection.sleep(0.3)
    equal(len(got), 5, "a second consumer has a limit of its own")
    connection.close()


def global_prefetch_is_shared_and_acts_at_once():
    connection = connect()
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    got = []
    for n in range(10):
        channel.basic_publish("", queue, b"%d" % n)
    channel.basic_qos(prefetch_count=3, global_qos=True)
    for _ in range(2):
        channel.basic_consume(queue, lambda _, method, __, body: got.append(body))
    connection.sleep(0.3)
    equal(len(got), 3, "three for both consumers")
    channel.basic_qos(prefetch_count=5, global_qos=True)
    connection.sleep(0.3)
    equal(len(got), 5, "raised for running consumers")
    connection.close()


def a_requeued_message_takes_its_old_place():
    connection = connect()
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    for n in range(4):
        channel.basic_publish("", queue, b"%d" % n)
    first = fetch(channel, queue, auto_ack=False)
    second = fetch(channel, queue, auto_ack=False)
    equal(first[0].message_count, 3, "messages behind the first")
    channel.basic_nack(second[0].delivery_tag, multiple=True, requeue=True)
    got = [fetch(channel, queue) for _ in range(4)]
    equal([body for _, _, body in got], [b"0", b"1", b"2", b"3"], "order after nack multiple")
    equal([method.redelivered for method, _, _ in got], [True, True, False, False], "redelivered")
    channel.basic_publish("", queue, b"again")
    method, _, _ = fetch(channel, queue, auto_ack=False)
    channel.basic_reject(method.delivery_tag, requeue=True)
    method, _, body = fetch(channel, queue)
    equal((method.redelivered, body), (True, b"again"), "rejected with requeue")
    connection.close()


def a_closed_channel_gives_its_messages_back():
    connection = connect()
    channel = connection.channel()
    queue = channel.queue_declare(unique("back"), auto_delete=False, exclusive=True).method.queue
    for n in range(3):
        channel.basic_publish("", queue, b"%d" % n)
    worker = connection.channel()
    for _ in range(2):
        fetch(worker, queue, auto_ack=False)
    worker.close()
    got = [fetch(channel, queue) for _ in range(3)]
    equal([(method.redelivered, body) for method, _, body in got],
          [(True, b"0"), (True, b"1"), (False, b"2")], "after the close")
    connection.close()


KILLED_WORKER = """
import pika, sys, time
channel = pika.BlockingConnection(pika.URLParameters(sys.argv[1])).channel()
print(channel.basic_get(sys.argv[2])[2].decode(), flush=True)
time.sleep(60)
"""


def a_killed_worker_gives_its_messages_back():
    connection = connect()
    channel = connection.channel()
    queue = channel.queue_declare(unique("killed")).method.queue
    channel.basic_publish("", queue, b"mine")
    worker = subprocess.Popen([sys.executable, "-c", KILLED_WORKER, URL, queue], stdout=subprocess.PIPE, text=True)
    equal(worker.stdout.readline(), "mine\n", "the worker's message")
    equal(channel.basic_get(queue)[0], None, "held by the worker")
    worker.kill()
    worker.wait()
    method, _, body = eventually(lambda: (got := channel.basic_get(queue, auto_ack=True))[0] and got, "given back")
    equal((method.redelivered, body), (True, b"mine"), "after the kill")
    channel.queue_delete(queue)
    connection.close()


def an_auto_delete_queue_goes_with_its_last_consumer():
    connection = connect()
    channel = connection.channel()
    queue = channel.queue_declare(unique("auto"), auto_delete=True).method.queue
    channel.queue_declare(queue, passive=True)
    tags = [channel.basic_consume(queue, lambda *_: None) for _ in range(2)]
    channel.basic_cancel(tags[0])
    equal(channel.queue_declare(queue, passive=True).method.consumer_count, 1, "one consumer left")
    channel.basic_cancel(tags[1])
    try:
        channel.queue_declare(queue, passive=True)
        true(False, "the queue is still there")
    except pika.exceptions.ChannelClosedByBroker as error:
        equal(error.reply_code, 404, "code")
    connection.close()


def recover_redelivers_everything_unacked():
    connection = connect()
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    for n in range(3):
        channel.basic_publish("", queue, b"%d" % n)
    for _ in range(3):
        fetch(channel, queue, auto_ack=False)
    channel.basic_recover(requeue=True)
    got = [fetch(channel, queue) for _ in range(3)]
    equal([(method.redelivered, body) for method, _, body in got],
          [(True, b"0"), (True, b"1"), (True, b"2")], "recovered")
    connection.close()


def transactions_commit_and_roll_back():
    connection = connect()
    channel = connection.channel()
    watcher = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    depth = lambda: watcher.queue_declare(queue, passive=True).method.message_count
    channel.tx_select()
    channel.basic_publish("", queue, b"a")
    channel.basic_publish("", queue, b"b")
    equal(depth(), 0, "nothing before the commit")
    channel.tx_commit()
    equal(depth(), 2, "both after it")
    channel.basic_publish("", queue, b"c")
    channel.tx_rollback()
    equal(depth(), 2, "nothing after a rollback")
    method, _, _ = fetch(channel, queue, auto_ack=False)
    channel.basic_ack(method.delivery_tag)
    channel.tx_rollback()
    channel.basic_ack(method.delivery_tag)  # the rollback took the ack back, so it is not unknown
    channel.tx_commit()
    equal(depth(), 1, "acknowledged in the end")
    connection.close()


def a_hundred_channels_on_one_connection():
    connection = connect()
    queue = connection.channel().queue_declare("", exclusive=True).method.queue
    channels = [connection.channel() for _ in range(100)]
    for n, channel in enumerate(channels):
        channel.basic_publish("", queue, b"%d" % n)
        equal(fetch(channel, queue)[2], b"%d" % n, f"channel {n}")
    for channel in channels:
        channel.close()
    connection.close()


def heartbeats_keep_an_idle_connection():
    connection = pika.BlockingConnection(pika.URLParameters(URL + "?heartbeat=1"))
    channel = connection.channel()
    connection.sleep(3.5)
    queue = channel.queue_declare("", exclusive=True).method.queue
    true(queue, "still open after three intervals of silence")
    connection.close()


if __name__ == "__main__":
    run("pika_basic", [
        the_server_introduces_itself, plain_parameters_work_like_a_url, a_queue_counts_its_messages_and_consumers,
        the_server_names_queues_and_tags, every_property_comes_back, bodies_of_any_size_arrive_whole,
        small_frames_are_honoured, a_thousand_messages_keep_their_order, prefetch_limits_each_consumer,
        global_prefetch_is_shared_and_acts_at_once, a_requeued_message_takes_its_old_place,
        a_closed_channel_gives_its_messages_back, a_killed_worker_gives_its_messages_back,
        an_auto_delete_queue_goes_with_its_last_consumer, recover_redelivers_everything_unacked, transactions_commit_and_roll_back,
        a_hundred_channels_on_one_connection, heartbeats_keep_an_idle_connection,
    ])
