"""Story 3, rabbits and warrens: exchanges, bindings, and what survives a restart of the broker."""

import os

import amqp

from checks import equal, eventually, limit, run, true
from processes import crash, python, restart

HOST, PORT = os.environ["AMQP_HOST"], os.environ["AMQP_PORT"]


def connect(**options):
    conn = amqp.Connection(host=f"{HOST}:{PORT}", **options)
    conn.connect()
    return conn


def po_box(letters):
    return python("po_box", letters)


def sort(*texts):
    python("sorting_room", *texts).finish()


def letter(text, persistent=True):
    return amqp.Message(text, delivery_mode=2 if persistent else 1)


def missing(chan_of, declare):
    """Whether a passive declare says 404."""
    try:
        declare(chan_of.channel())
        return False
    except amqp.NotFound:
        return True


def letters_reach_the_box():
    box = po_box(3)
    box.line("waiting")
    sort("dear jason", "how are you?", "write soon")
    printed = box.finish()
    equal([line for line in printed if line.startswith("Received")],
          [f"Received: {text} from channel #1" for text in ("dear jason", "how are you?", "write soon")], "letters")


def letters_wait_while_nobody_looks():
    sort("first", "second")
    printed = po_box(2).finish()
    equal([line for line in printed if ":" in line], ["Got: first", "Received: second from channel #1"], "letters")


def other_addresses_get_nothing():
    with connect() as conn:
        chan = conn.channel()
        chan.basic_publish(letter("dear bob"), exchange="sorting_room", routing_key="bob")
        equal(chan.queue_declare("po_box", passive=True).message_count, 0, "letters in jason's box")


def the_same_declaration_again_is_a_no_op():
    with connect() as conn:
        chan = conn.channel()
        for _ in range(2):
            chan.queue_declare(queue="po_box", durable=True, exclusive=False, auto_delete=False)
            chan.exchange_declare(exchange="sorting_room", type="direct", durable=True, auto_delete=False)
            chan.queue_bind(queue="po_box", exchange="sorting_room", routing_key="jason")
        chan.basic_publish(letter("once"), exchange="sorting_room", routing_key="jason")
        equal(chan.basic_get("po_box", no_ack=True).body, "once", "letter")
        equal(chan.basic_get("po_box"), None, "bound twice, delivered once")


def a_different_declaration_is_an_error():
    with connect() as conn:
        for declare in (lambda chan: chan.queue_declare("po_box", durable=False, auto_delete=False),
                        lambda chan: chan.exchange_declare("sorting_room", "fanout", durable=True, auto_delete=False)):
            try:
                declare(conn.channel())
                true(False, "declared differently")
            except amqp.PreconditionFailed as error:
                true(error.message.startswith("PRECONDITION_FAILED - inequivalent arg"), error.message)


def fanout_and_topic_warrens():
    with connect() as conn:
        chan = conn.channel()
        chan.exchange_declare("everybody", "fanout", auto_delete=True)
        boxes = [chan.queue_declare(exclusive=True).queue for _ in range(3)]
        for box in boxes:
            chan.queue_bind(box, "everybody")
        chan.basic_publish(letter("to all"), exchange="everybody", routing_key="ignored")
        equal([chan.basic_get(box, no_ack=True).body for box in boxes], ["to all"] * 3, "fanout")
        for box, pattern in zip(boxes, ("*.rabbit", "lazy.#", "#")):
            chan.queue_bind(box, "amq.topic", pattern)
        for key in ("quick.rabbit", "lazy.old.fox", "lazy.rabbit"):
            chan.basic_publish(letter(key), exchange="amq.topic", routing_key=key)
        got = []
        for box in boxes:
            got.append([])
            while (msg := chan.basic_get(box, no_ack=True)) is not None:
                got[-1].append(msg.body)
        equal(got, [["quick.rabbit", "lazy.rabbit"], ["lazy.old.fox", "lazy.rabbit"],
                    ["quick.rabbit", "lazy.old.fox", "lazy.rabbit"]], "topic")


def what_is_not_acknowledged_comes_back():
    with connect() as conn:
        chan = conn.channel()
        chan.basic_publish(letter("unread"), exchange="sorting_room", routing_key="jason")
        msg = chan.basic_get("po_box")
        equal((msg.body, msg.delivery_info["redelivered"]), ("unread", False), "first time")
        chan.close()
        chan = conn.channel()
        msg = chan.basic_get("po_box")
        equal((msg.body, msg.delivery_info["redelivered"]), ("unread", True), "second time")
        chan.basic_ack(msg.delivery_tag)
        chan.basic_publish(letter("read"), exchange="sorting_room", routing_key="jason")
        chan.basic_get("po_box", no_ack=True)
        chan.close()
        equal(conn.channel().basic_get("po_box"), None, "no-ack and acknowledged letters are gone")


def prepare_for_a_restart():
    """Durable and transient queues, exchanges and letters, one of them delivered and not acknowledged."""
    conn = connect(confirm_publish=True)
    chan = conn.channel()
    chan.exchange_declare("durable_room", "direct", durable=True, auto_delete=False)
    chan.exchange_declare("passing_room", "direct", durable=False, auto_delete=False)
    chan.queue_declare("durable_box", durable=True, auto_delete=False)
    chan.queue_declare("passing_box", durable=False, auto_delete=False)
    for room in ("durable_room", "passing_room"):
        for box in ("durable_box", "passing_box"):
            chan.queue_bind(box, room, "jason")
    chan.basic_publish(letter("held"), exchange="durable_room", routing_key="jason")
    for n in range(20):
        chan.basic_publish(letter(f"kept {n}"), exchange="durable_room", routing_key="jason")
        chan.basic_publish(letter(f"lost {n}", persistent=False), exchange="durable_room", routing_key="jason")
    gone = chan.basic_get("durable_box")
    equal(gone.body, "held", "held by a consumer")
    return conn


def look_after_the_restart():
    with connect() as conn:
        chan = conn.channel()
        chan.exchange_declare("durable_room", "direct", passive=True)
        true(missing(conn, lambda c: c.exchange_declare("passing_room", "direct", passive=True)), "a transient exchange is gone")
        true(missing(conn, lambda c: c.queue_declare("passing_box", passive=True)), "a transient queue is gone")
        got = []
        while (msg := chan.basic_get("durable_box", no_ack=True)) is not None:
            got.append(msg)
        equal([msg.body for msg in got], ["held"] + [f"kept {n}" for n in range(20)], "persistent letters, in order")
        equal(got[0].delivery_info["redelivered"], True, "the held one is redelivered")
        chan.basic_publish(letter("new"), exchange="durable_room", routing_key="jason")
        equal(eventually(lambda: chan.basic_get("durable_box", no_ack=True), "binding").body, "new", "still bound")
        chan.queue_delete("durable_box")
        chan.exchange_delete("durable_room")


@limit(120)
def durable_and_persistent_survives_a_restart():
    prepare_for_a_restart()
    restart()
    look_after_the_restart()


@limit(120)
def confirmed_letters_survive_a_crash():
    prepare_for_a_restart()
    crash()
    look_after_the_restart()


if __name__ == "__main__":
    run("story-rabbits-and-warrens", [
        letters_reach_the_box, letters_wait_while_nobody_looks, other_addresses_get_nothing,
        the_same_declaration_again_is_a_no_op, a_different_declaration_is_an_error, fanout_and_topic_warrens,
        what_is_not_acknowledged_comes_back, durable_and_persistent_survives_a_restart,
        confirmed_letters_survive_a_crash,
    ])
