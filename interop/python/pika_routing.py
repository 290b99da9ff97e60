"""Exchanges, bindings, dead letters, limits and priorities with pika."""

import time

import pika
from pika.exceptions import NackError

from checks import URL, equal, eventually, run, true, unique
from pika_basic import connect, fetch


def open_channel():
    connection = connect()
    return connection, connection.channel()


def bound_queue(channel, exchange, *keys, arguments=None):
    queue = channel.queue_declare("", exclusive=True).method.queue
    for key in keys:
        channel.queue_bind(queue, exchange, key, arguments)
    return queue


def drain(channel, queue):
    bodies = []
    while (got := channel.basic_get(queue, auto_ack=True))[0]:
        bodies.append(got[2].decode())
    return bodies


def every_exchange_type_is_predeclared():
    connection, channel = open_channel()
    for name, kind in (("amq.direct", "direct"), ("amq.fanout", "fanout"), ("amq.topic", "topic"),
                       ("amq.headers", "headers"), ("amq.match", "headers")):
        channel.exchange_declare(name, kind, passive=True)
        channel.exchange_declare(name, kind, durable=True)
    connection.close()


def direct_routes_by_the_exact_key():
    connection, channel = open_channel()
    exchange = unique("direct")
    channel.exchange_declare(exchange, "direct", auto_delete=True)
    info, errors = bound_queue(channel, exchange, "info", "error"), bound_queue(channel, exchange, "error")
    for key in ("info", "error", "debug"):
        channel.basic_publish(exchange, key, key.encode())
    equal(drain(channel, info), ["info", "error"], "bound to both")
    equal(drain(channel, errors), ["error"], "bound to one")
    channel.queue_unbind(info, exchange, "error")
    channel.basic_publish(exchange, "error", b"error")
    equal(drain(channel, info), [], "after unbind")
    connection.close()


def fanout_copies_to_everyone_once():
    connection, channel = open_channel()
    exchange = unique("fanout")
    channel.exchange_declare(exchange, "fanout", auto_delete=True)
    queues = [bound_queue(channel, exchange, "", "twice") for _ in range(3)]
    channel.basic_publish(exchange, "whatever", b"all")
    for queue in queues:
        equal(drain(channel, queue), ["all"], "one copy each, however many bindings")
    connection.close()


def topic_patterns_match_words():
    connection, channel = open_channel()
    exchange = unique("topic")
    channel.exchange_declare(exchange, "topic", auto_delete=True)
    keys = ["news.ohio", "sports.ohio", "sports.us.ohio", "sports", "ohio", "", "a..b", "news.virginia"]
    for pattern, matching in {
        "#": keys,
        "#.ohio": ["news.ohio", "sports.ohio", "sports.us.ohio", "ohio"],
        "*.ohio": ["news.ohio", "sports.ohio"],
        "sports.#": ["sports.ohio", "sports.us.ohio", "sports"],
        "sports.#.ohio": ["sports.ohio", "sports.us.ohio"],
        "*": ["sports", "ohio"],
        "*.*.*": ["sports.us.ohio", "a..b"],
        "a.*.b": ["a..b"],
        "": [""],
        "news.#.#": ["news.ohio", "news.virginia"],
        "NEWS.ohio": [],
    }.items():
        queue = bound_queue(channel, exchange, pattern)
        for key in keys:
            channel.basic_publish(exchange, key, key.encode())
        equal(drain(channel, queue), matching, f"pattern {pattern!r}")
        channel.queue_delete(queue)
        channel.exchange_declare(exchange, "topic", auto_delete=True)
    connection.close()


def headers_match_all_or_any():
    connection, channel = open_channel()
    exchange = unique("headers")
    channel.exchange_declare(exchange, "headers")
    send = lambda body, headers: channel.basic_publish(
        exchange, "", body, pika.BasicProperties(headers=headers))
    everything = bound_queue(channel, exchange, "", arguments={"x-match": "all", "kind": "pdf", "pages": 3})
    anything = bound_queue(channel, exchange, "", arguments={"x-match": "any", "kind": "pdf", "pages": 3})
    default = bound_queue(channel, exchange, "", arguments={"kind": "pdf"})
    send(b"both", {"kind": "pdf", "pages": 3, "more": True})
    send(b"kind", {"kind": "pdf", "pages": 4})
    send(b"pages", {"kind": "png", "pages": 3})
    send(b"none", {"kind": "png"})
    equal(drain(channel, everything), ["both"], "x-match all")
    equal(drain(channel, anything), ["both", "kind", "pages"], "x-match any")
    equal(drain(channel, default), ["both", "kind"], "no x-match is all")
    channel.exchange_delete(exchange)
    connection.close()


def exchanges_bind_to_exchanges():
    connection, channel = open_channel()
    source, sink = unique("source"), unique("sink")
    channel.exchange_declare(source, "topic")
    channel.exchange_declare(sink, "fanout")
    channel.exchange_bind(sink, source, "eu.#")
    queue = bound_queue(channel, sink, "")
    channel.basic_publish(source, "eu.de", b"in")
    channel.basic_publish(source, "us.oh", b"out")
    equal(drain(channel, queue), ["in"], "over the binding")
    channel.exchange_unbind(sink, source, "eu.#")
    channel.basic_publish(source, "eu.de", b"gone")
    equal(drain(channel, queue), [], "after unbind")
    channel.exchange_delete(source)
    channel.exchange_delete(sink)
    connection.close()


def an_alternate_exchange_takes_the_unrouted():
    connection, channel = open_channel()
    main, rest = unique("main"), unique("rest")
    channel.exchange_declare(rest, "fanout")
    channel.exchange_declare(main, "direct", arguments={"alternate-exchange": rest})
    caught = bound_queue(channel, rest, "")
    routed = bound_queue(channel, main, "known")
    channel.confirm_delivery()
    for key in ("known", "unknown"):
        channel.basic_publish(main, key, key.encode(), mandatory=True)  # neither is returned
    equal((drain(channel, routed), drain(channel, caught)), (["known"], ["unknown"]), "where they went")
    channel.exchange_delete(main)
    channel.exchange_delete(rest)
    connection.close()


def cc_and_bcc_name_more_keys():
    connection, channel = open_channel()
    one, two, three = (bound_queue(channel, "amq.direct", unique("k")) for _ in range(3))
    channel.basic_publish("", one, b"x", pika.BasicProperties(headers={"CC": [two, one], "BCC": [three]}))
    for queue in (one, two, three):
        _, properties, _ = fetch(channel, queue)
        equal("BCC" in properties.headers, False, "BCC is taken away")
        equal(properties.headers["CC"], [two, one], "CC stays")
        equal(channel.basic_get(queue)[0], None, "one copy")
    connection.close()


def a_rejected_message_goes_to_the_dead_letter_exchange():
    connection, channel = open_channel()
    dlx = unique("dlx")
    channel.exchange_declare(dlx, "direct")
    graveyard = bound_queue(channel, dlx, "buried")
    work = channel.queue_declare("", exclusive=True, arguments={
        "x-dead-letter-exchange": dlx, "x-dead-letter-routing-key": "buried"}).method.queue
    channel.basic_publish("", work, b"bad", pika.BasicProperties(headers={"mine": 1}, expiration="60000"))
    method, _, _ = fetch(channel, work, auto_ack=False)
    channel.basic_reject(method.delivery_tag, requeue=False)
    got = eventually(lambda: (m := channel.basic_get(graveyard, auto_ack=True))[0] and m, "dead letter")
    method, properties, body = got
    equal((method.exchange, method.routing_key, method.redelivered, body), (dlx, "buried", False, b"bad"), "delivery")
    equal(properties.expiration, None, "expiration is taken away")
    headers = properties.headers
    equal(headers["mine"], 1, "own header")
    equal(headers["x-first-death-reason"], "rejected", "x-first-death-reason")
    equal(headers["x-first-death-queue"], work, "x-first-death-queue")
    equal(headers["x-first-death-exchange"], "", "x-first-death-exchange")
    equal(len(headers["x-death"]), 1, "one death")
    death = headers["x-death"][0]
    for key, want in (("count", 1), ("reason", "rejected"), ("queue", work), ("exchange", ""),
                      ("routing-keys", [work]), ("original-expiration", "60000")):
        equal(death.get(key), want, f"x-death {key}")
    true(abs(death["time"].timestamp() - time.time()) < 60, "x-death time")
    channel.exchange_delete(dlx)
    connection.close()


def messages_expire_by_their_own_or_the_queues_ttl():
    connection, channel = open_channel()
    graveyard = channel.queue_declare("", exclusive=True).method.queue
    slow = channel.queue_declare("", exclusive=True, arguments={
        "x-message-ttl": 60000, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": graveyard}).method.queue
    channel.basic_publish("", slow, b"own", pika.BasicProperties(expiration="100"))
    _, properties, body = eventually(lambda: (m := channel.basic_get(graveyard, auto_ack=True))[0] and m, "own ttl")
    equal((body, properties.headers["x-death"][0]["reason"]), (b"own", "expired"), "own ttl")
    equal(properties.headers["x-death"][0]["original-expiration"], "100", "original-expiration")
    quick = channel.queue_declare("", exclusive=True, arguments={
        "x-message-ttl": 100, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": graveyard}).method.queue
    channel.basic_publish("", quick, b"queue's", pika.BasicProperties(expiration="60000"))
    _, _, body = eventually(lambda: (m := channel.basic_get(graveyard, auto_ack=True))[0] and m, "queue ttl")
    equal(body, b"queue's", "queue ttl")
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_publish("", queue, b"0", pika.BasicProperties(expiration="0"))
    equal(channel.basic_get(queue)[0], None, "a ttl of 0 without a waiting consumer")
    connection.close()


def a_retry_through_a_waiting_queue_counts_its_deaths():
    connection, channel = open_channel()
    work, wait = unique("work"), unique("wait")
    channel.queue_declare(work, exclusive=True, arguments={
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": wait})
    channel.queue_declare(wait, exclusive=True, arguments={
        "x-message-ttl": 50, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": work})
    channel.basic_publish("", work, b"again")
    for attempt in range(3):
        method, properties, _ = eventually(
            lambda: (m := channel.basic_get(work, auto_ack=False))[0] and m, f"attempt {attempt}")
        deaths = {(d["queue"], d["reason"]): d["count"] for d in (properties.headers or {}).get("x-death", [])}
        want = {(work, "rejected"): attempt, (wait, "expired"): attempt} if attempt else {}
        equal(deaths, want, f"x-death at attempt {attempt}")
        channel.basic_nack(method.delivery_tag, requeue=False)
    connection.close()


def a_full_queue_drops_its_head_or_refuses():
    connection, channel = open_channel()
    graveyard = channel.queue_declare("", exclusive=True).method.queue
    short = channel.queue_declare("", exclusive=True, arguments={
        "x-max-length": 2, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": graveyard}).method.queue
    for n in range(4):
        channel.basic_publish("", short, b"%d" % n)
    equal(drain(channel, short), ["2", "3"], "drop-head keeps the newest")
    _, properties, body = fetch(channel, graveyard)
    equal((body, properties.headers["x-death"][0]["reason"]), (b"0", "maxlen"), "the dropped one")
    strict = channel.queue_declare("", exclusive=True, arguments={
        "x-max-length": 2, "x-overflow": "reject-publish"}).method.queue
    channel.confirm_delivery()
    for n in range(2):
        channel.basic_publish("", strict, b"%d" % n)
    try:
        channel.basic_publish("", strict, b"2")
        true(False, "the third message was confirmed")
    except NackError:
        pass
    equal(drain(channel, strict), ["0", "1"], "reject-publish keeps the oldest")
    connection.close()


def an_unused_queue_expires():
    connection, channel = open_channel()
    queue = unique("expires")
    channel.queue_declare(queue, arguments={"x-expires": 300})
    def gone():
        probe = connection.channel()
        try:
            time.sleep(0.7)  # a passive declare counts as use
            probe.queue_declare(queue, passive=True)
            return False
        except pika.exceptions.ChannelClosedByBroker as error:
            return error.reply_code == 404
    eventually(gone, "the queue went")
    connection.close()


def higher_priorities_come_first():
    connection, channel = open_channel()
    queue = channel.queue_declare("", exclusive=True, arguments={"x-max-priority": 5}).method.queue
    for n, priority in enumerate((0, 1, 5, 1, 9, None)):
        channel.basic_publish("", queue, b"%d" % n, pika.BasicProperties(priority=priority))
    equal(drain(channel, queue), ["2", "4", "1", "3", "0", "5"], "order (9 counts as the maximum, none as 0)")
    connection.close()


def consumers_with_priority_are_served_first():
    connection, channel = open_channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    got = []
    channel.basic_qos(prefetch_count=2)
    channel.basic_consume(queue, lambda c, m, p, body: got.append("low"), arguments={"x-priority": 1})
    channel.basic_consume(queue, lambda c, m, p, body: got.append("high"), arguments={"x-priority": 10})
    for _ in range(3):
        channel.basic_publish("", queue, b"x")
    connection.sleep(0.3)
    equal(sorted(got), ["high", "high", "low"], "the low one gets what the high one cannot take")
    connection.close()


def one_active_consumer_at_a_time():
    connection, channel = open_channel()
    queue = channel.queue_declare("", exclusive=True, arguments={"x-single-active-consumer": True}).method.queue
    got = []
    channel.basic_consume(queue, lambda c, m, p, body: got.append("first"), consumer_tag="first", auto_ack=True)
    channel.basic_consume(queue, lambda c, m, p, body: got.append("second"), consumer_tag="second", auto_ack=True)
    for _ in range(3):
        channel.basic_publish("", queue, b"x")
    connection.sleep(0.3)
    equal(got, ["first"] * 3, "only the first")
    channel.basic_cancel("first")
    channel.basic_publish("", queue, b"x")
    connection.sleep(0.3)
    equal(got[3:], ["second"], "then the next")
    connection.close()


def work_is_shared_round_robin():
    connection, channel = open_channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    counts = [0, 0, 0]
    for n in range(3):
        def on_message(*_, n=n):
            counts[n] += 1
        channel.basic_consume(queue, on_message, auto_ack=True)
    for _ in range(30):
        channel.basic_publish("", queue, b"x")
    connection.sleep(0.5)
    equal(counts, [10, 10, 10], "ten each")
    connection.close()


def a_quorum_queue_keeps_messages_and_counts_their_failures():
    connection, channel = open_channel()
    queue = unique("quorum")
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
    channel.confirm_delivery()
    for n in range(3):
        channel.basic_publish("", queue, b"%d" % n, pika.BasicProperties(delivery_mode=2))
    got = [eventually(lambda: (m := channel.basic_get(queue))[0] and m, f"message {n}") for n in range(3)]
    equal([body for _, _, body in got], [b"0", b"1", b"2"], "order")
    # RabbitMQ 4.3 counts basic.reject as a failure; basic.nack gives back what was not tried.
    channel.basic_reject(got[0][0].delivery_tag, requeue=True)

    def again():
        method, properties, body = channel.basic_get(queue)
        return method and (method.redelivered, (properties.headers or {}).get("x-delivery-count"), body)

    equal(eventually(again, "redelivery"), (True, 1, b"0"), "redelivered with its count")
    channel.queue_delete(queue)
    connection.close()


if __name__ == "__main__":
    run("pika_routing", [
        every_exchange_type_is_predeclared, direct_routes_by_the_exact_key, fanout_copies_to_everyone_once,
        topic_patterns_match_words, headers_match_all_or_any, exchanges_bind_to_exchanges,
        an_alternate_exchange_takes_the_unrouted, cc_and_bcc_name_more_keys,
        a_rejected_message_goes_to_the_dead_letter_exchange, messages_expire_by_their_own_or_the_queues_ttl,
        a_retry_through_a_waiting_queue_counts_its_deaths, a_full_queue_drops_its_head_or_refuses,
        an_unused_queue_expires, higher_priorities_come_first, consumers_with_priority_are_served_first,
        one_active_consumer_at_a_time, work_is_shared_round_robin,
        a_quorum_queue_keeps_messages_and_counts_their_failures,
    ])
