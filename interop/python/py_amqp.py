"""py-amqp, the client under Kombu and Celery: blocking methods, drain_events, callbacks."""

import socket
import time
from datetime import datetime

import amqp

from checks import HOST, PORT, equal, run, true, unique


def connect(**options):
    connection = amqp.Connection(f"{HOST}:{PORT}", userid="guest", password="guest", virtual_host="/", **options)
    connection.connect()
    return connection


def wait_for(connection, done, within_s=5.0):
    end = time.monotonic() + within_s
    while not done():
        try:
            connection.drain_events(timeout=0.2)
        except socket.timeout:
            true(time.monotonic() < end, f"not so within {within_s} s")


def it_publishes_gets_and_acknowledges():
    with connect() as connection:
        channel = connection.channel()
        queue, messages, consumers = channel.queue_declare("", exclusive=True)
        equal((messages, consumers), (0, 0), "declare-ok")
        stamp = datetime(2026, 1, 2, 3, 4, 5)
        channel.basic_publish(amqp.Message(
            "grüße", content_type="text/plain", application_headers={"n": 1, "list": ["a", 2.5], "when": stamp},
            delivery_mode=2, priority=1, correlation_id="c", reply_to="r", message_id="m", timestamp=1767323045,
            type="t", app_id="a"), routing_key=queue)
        message = channel.basic_get(queue)
        equal(message.body, "grüße", "body")
        equal(message.properties["application_headers"], {"n": 1, "list": ["a", 2.5], "when": stamp}, "headers")
        for name, want in (("content_type", "text/plain"), ("delivery_mode", 2), ("priority", 1), ("message_id", "m"),
                           ("correlation_id", "c"), ("reply_to", "r"), ("type", "t"), ("app_id", "a"),
                           ("timestamp", 1767323045)):
            equal(message.properties.get(name), want, name)
        equal(message.delivery_info["redelivered"], False, "redelivered")
        channel.basic_ack(message.delivery_tag)
        equal(channel.basic_get(queue), None, "empty")


def confirms_block_until_the_broker_has_it():
    with connect(confirm_publish=True) as connection:
        channel = connection.channel()
        queue, _, _ = channel.queue_declare("", exclusive=True)
        for n in range(100):
            channel.basic_publish(amqp.Message(str(n)), routing_key=queue)
        equal(channel.queue_declare(queue, passive=True).message_count, 100, "confirmed and there")


def refused_publishes_raise():
    with connect(confirm_publish=True) as connection:
        channel = connection.channel()
        queue, _, _ = channel.queue_declare(
            "", exclusive=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        channel.basic_publish(amqp.Message("one"), routing_key=queue)
        try:
            channel.basic_publish(amqp.Message("two"), routing_key=queue)
            true(False, "a full queue took a message")
        except amqp.exceptions.MessageNacked:
            pass


def it_consumes_in_order_with_prefetch():
    with connect() as connection:
        channel = connection.channel()
        queue, _, _ = channel.queue_declare("", exclusive=True)
        got = []

        def on_message(message):
            got.append(int(message.body))
            channel.basic_ack(message.delivery_tag)

        channel.basic_qos(0, 7, False)
        channel.basic_consume(queue, callback=on_message)
        for n in range(300):
            channel.basic_publish(amqp.Message(str(n)), routing_key=queue)
        wait_for(connection, lambda: len(got) == 300)
        equal(got, list(range(300)), "order")


def unroutable_messages_come_back():
    with connect() as connection:
        channel = connection.channel()
        returned = []
        channel.events["basic_return"].add(lambda *arguments: returned.append(arguments))
        channel.basic_publish(amqp.Message("home"), exchange="amq.direct", routing_key="nobody", mandatory=True)
        wait_for(connection, lambda: returned)
        exception, exchange, key, message = returned[0]
        equal((exception.reply_code, exchange, key, message.body), (312, "amq.direct", "nobody", "home"), "returned")
        true("NO_ROUTE" in str(exception), str(exception))


def channel_errors_carry_code_text_and_method():
    with connect() as connection:
        channel = connection.channel()
        queue = unique("no")
        try:
            channel.queue_declare(queue, passive=True)
            true(False, "found what is not there")
        except amqp.NotFound as error:
            equal((error.code, error.message, error.method_sig),
                  (404, f"NOT_FOUND - no queue '{queue}' in vhost '/'", (50, 10)), "channel.close")
        channel = connection.channel()
        queue, _, _ = channel.queue_declare(unique("q"), auto_delete=True, durable=False)
        try:
            channel.queue_declare(queue, durable=True)
            true(False, "redeclared differently")
        except amqp.PreconditionFailed as error:
            equal(error.message, f"PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{queue}' in vhost '/': "
                  "received 'true' but current is 'false'", "text")


def a_wrong_password_is_told():
    try:
        amqp.Connection(f"{HOST}:{PORT}", userid="guest", password="no").connect()
        true(False, "let in")
    except amqp.AccessRefused as error:
        equal(error.code, 403, "code")
        true("Login was refused" in error.message, error.message)


def a_deleted_queue_cancels_its_consumer():
    with connect() as connection, connect() as other:
        channel = connection.channel()
        queue, _, _ = channel.queue_declare(unique("doomed"))
        cancelled = []
        channel.basic_consume(queue, consumer_tag="tag", callback=print, on_cancel=cancelled.append)
        other.channel().queue_delete(queue)
        try:
            wait_for(connection, lambda: cancelled)
        except amqp.ConsumerCancelled:
            cancelled.append("tag")
        equal(cancelled[0], "tag", "cancelled")


def transactions_hold_messages_back():
    with connect() as connection:
        channel, watcher = connection.channel(), connection.channel()
        queue, _, _ = channel.queue_declare("", exclusive=True)
        channel.tx_select()
        channel.basic_publish(amqp.Message("x"), routing_key=queue)
        equal(watcher.queue_declare(queue, passive=True).message_count, 0, "before")
        channel.tx_commit()
        equal(watcher.queue_declare(queue, passive=True).message_count, 1, "after")


def heartbeats_go_both_ways():
    with connect(heartbeat=1) as connection:
        equal(connection.heartbeat, 1, "negotiated")
        end = time.monotonic() + 3.5
        while time.monotonic() < end:
            connection.heartbeat_tick()
            try:
                connection.drain_events(timeout=0.25)
            except socket.timeout:
                pass
        true(connection.bytes_recv > 0 and connection.connected, "alive")
        connection.channel().queue_declare("", exclusive=True)


if __name__ == "__main__":
    run("py_amqp", [
        it_publishes_gets_and_acknowledges, confirms_block_until_the_broker_has_it, refused_publishes_raise,
        it_consumes_in_order_with_prefetch, unroutable_messages_come_back, channel_errors_carry_code_text_and_method,
        a_wrong_password_is_told, a_deleted_queue_cancels_its_consumer, transactions_hold_messages_back,
        heartbeats_go_both_ways,
    ])
