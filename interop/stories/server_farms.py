"""Story 2, the server farms: regions by topic, answers where the request wants them, and one call that asks a hundred."""

import json
import time
import uuid
from contextlib import ExitStack

import pika

from checks import URL, equal, run, true, unique
from processes import python


def farm(name, pattern, patience_s=60):
    program = python("farm", name, pattern, patience_s)
    program.line("ready")
    return program


class Client:
    """Asks from anywhere: answers come to an exchange and key of its own."""

    def __init__(self):
        self.connection = pika.BlockingConnection(pika.URLParameters(URL))
        self.channel = self.connection.channel()
        self.exchange, self.key = unique("replies"), unique("me")
        self.channel.exchange_declare(self.exchange, "direct", auto_delete=True)
        self.queue = self.channel.queue_declare("", exclusive=True).method.queue
        self.channel.queue_bind(self.queue, self.exchange, self.key)

    def ask(self, key, body):
        self.channel.basic_publish("amq.topic", key, json.dumps(body), pika.BasicProperties(
            reply_to=f"{self.exchange}/{self.key}", correlation_id=body))

    def answers(self, count, within_s=10):
        got = []
        for method, properties, body in self.channel.consume(self.queue, auto_ack=True, inactivity_timeout=within_s):
            if method is None:
                break
            got.append((properties.correlation_id, json.loads(body)))
            if len(got) == count:
                break
        self.channel.cancel()
        equal(len(got), count, "answers")
        return got

    def close(self):
        self.connection.close()


def ten_requests_to_each_farm_are_answered():
    client = Client()
    with farm("ohio-1", "#.ohio"), farm("ohio-2", "#.ohio"), farm("virginia-1", "#.virginia"):
        for n in range(10):
            for region in ("ohio", "virginia"):
                client.ask(f"weather.{region}", f"{region}-{n}")
        answers = client.answers(20)
    served = {"ohio": set(), "virginia": set()}
    for correlation_id, body in answers:
        region, _, _ = correlation_id.partition("-")
        served[region].add(body["by"])
        equal((body["subject"], body["request"]), (f"weather.{region}", correlation_id), "answer")
    equal(sorted(correlation_id for correlation_id, _ in answers),
          sorted(f"{region}-{n}" for n in range(10) for region in served), "each once")
    equal(served, {"ohio": {"ohio-1", "ohio-2"}, "virginia": {"virginia-1"}}, "who served")
    client.close()


def every_subject_reaches_who_subscribed():
    client = Client()
    with farm("ohio", "#.ohio"), farm("sports", "sports.#"):
        client.ask("news.ohio", "n")
        client.ask("sports.ohio", "s")
        client.ask("sports.us.tennis", "t")
        answers = sorted((body["by"], body["subject"]) for _, body in client.answers(4))
    equal(answers, [("ohio", "news.ohio"), ("ohio", "sports.ohio"), ("sports", "sports.ohio"),
                    ("sports", "sports.us.tennis")], "answers")
    client.close()


def a_get_times_out_and_simply_goes_on():
    client = Client()
    with farm("patient", "#.texas", 0.5) as server:
        server.line("going on")
        server.line("going on")
        client.ask("weather.texas", "still there?")
        equal(client.answers(1)[0][1]["request"], "still there?", "answer")
    client.close()


def one_call_gathers_a_hundred_answers():
    with ExitStack() as processes:
        for first in range(0, 100, 25):
            thermometers = python("thermometers", first, 25)
            processes.enter_context(thermometers)
            thermometers.line("ready")
        connection = pika.BlockingConnection(pika.URLParameters(URL))
        channel = connection.channel()
        readings, call = {}, str(uuid.uuid4())

        def on_reading(channel, method, properties, body):
            reading = json.loads(body)
            true(properties.correlation_id == call and reading["number"] not in readings, "one answer each, to this call")
            readings[reading["number"]] = reading["celsius"]

        channel.basic_consume("amq.rabbitmq.reply-to", on_reading, auto_ack=True)
        started = time.monotonic()
        channel.basic_publish("amq.topic", "thermometers", b"how warm?", pika.BasicProperties(
            reply_to="amq.rabbitmq.reply-to", correlation_id=call))
        while len(readings) < 100 and time.monotonic() - started < 5:
            connection.process_data_events(0.1)
        equal(readings, {n: n / 10 for n in range(100)}, "readings")
        connection.close()


def nothing_is_left_behind():
    client = Client()
    for pattern in ("#.ohio", "#.virginia", "sports.#", "#.texas"):
        equal(client.channel.queue_delete(f"farm {pattern}").method.message_count, 0, f"requests left for {pattern}")
    client.close()


if __name__ == "__main__":
    run("story-server-farms", [
        ten_requests_to_each_farm_are_answered, every_subject_reaches_who_subscribed,
        a_get_times_out_and_simply_goes_on, one_call_gathers_a_hundred_answers, nothing_is_left_behind,
    ])
