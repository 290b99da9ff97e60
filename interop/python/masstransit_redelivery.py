"""MassTransit: what its RabbitMQ transport declares and publishes when consumers fail, played with pika.

    Contracts:SubmitOrder ──▶ orders ──▶ queue orders ──▶ consumer ──ok──▶ acknowledged
       (fanout)             (fanout)        ▲               │ fails
                                            │               ├─ some tries left ──▶ a delay ──▶ orders
                                            └───────────────┤
                                                            └─ none left ──▶ orders_error, and a Fault is published

The delay is an exchange of type x-delayed-message, or where there is none a queue per delay, with a TTL, that
dead-letters to the endpoint and goes when unused.
"""

import json
import threading
import time

import pika
from pika.exceptions import ChannelClosedByBroker

from checks import equal, eventually, limit, only_on_leveret, run, true, unique
from pika_basic import connect

CONTENT_TYPE = "application/vnd.masstransit+json"
CONTRACT = unique("Contracts") + ":SubmitOrder"
FAULT = f"MassTransit:Fault--{CONTRACT}--"
NEEDS_PLUGIN = "x-delayed-message is a plugin that RabbitMQ does not bring"


class Endpoint:
    """A receive endpoint: its consumer fails as often as a message asks for, and is retried after each delay."""

    def __init__(self, name, delays_ms, delay):
        self.name, self.delays_ms, self.delay = name, delays_ms, delay
        self.consumed, self._stopped = [], False
        self._connection = connect()
        self.channel = self._connection.channel()
        self._declare(name, {"x-queue-type": "quorum"})
        self.channel.exchange_declare(CONTRACT, "fanout", durable=True)
        self.channel.exchange_bind(name, CONTRACT)
        self.channel.basic_qos(prefetch_count=16)
        self.channel.basic_consume(name, self._on_message)
        self._thread = threading.Thread(target=self._consume, daemon=True)

    def _declare(self, name, arguments=None):
        self.channel.exchange_declare(name, "fanout", durable=True)
        self.channel.queue_declare(name, durable=True, arguments=arguments)
        self.channel.queue_bind(name, name)

    def _on_message(self, channel, method, properties, body):
        envelope, headers = json.loads(body), properties.headers or {}
        if envelope["messageType"] != [f"urn:message:{CONTRACT}"]:
            self._move("_skipped", properties, body, {"MT-Reason": "dead-letter"})
        else:
            tries = headers.get("MT-Redelivery-Count", 0)
            self.consumed.append((time.time(), envelope["message"]["id"], tries, headers))
            if tries < envelope["message"]["failures"]:
                self._fail(tries, envelope, properties, body)
        channel.basic_ack(method.delivery_tag)

    def _fail(self, tries, envelope, properties, body):
        if tries < len(self.delays_ms):
            headers = {**(properties.headers or {}), "MT-Redelivery-Count": tries + 1}
            self.delay(self, self.delays_ms[tries], with_headers(properties, headers), body)
            return
        error = {"MT-Reason": "fault", "MT-Fault-ExceptionType": "System.TimeoutException",
                 "MT-Fault-Message": "the shop is closed", "MT-Fault-RetryCount": tries}
        fault = {"messageType": [f"urn:message:MassTransit:Fault[[{CONTRACT}]]"],
                 "message": {"faultedMessageId": envelope["messageId"],
                             "exceptions": [{"exceptionType": "System.TimeoutException"}]}}
        self.channel.exchange_declare(FAULT, "fanout", durable=True)
        self.channel.basic_publish(FAULT, "", json.dumps(fault), pika.BasicProperties(content_type=CONTENT_TYPE))
        self._move("_error", properties, body, error)

    def _move(self, suffix, properties, body, reasons):
        self._declare(self.name + suffix)
        headers = {**(properties.headers or {}), **reasons}
        self.channel.basic_publish(self.name + suffix, "", body, with_headers(properties, headers))

    def _consume(self):
        while not self._stopped:
            self._connection.process_data_events(0.05)
        self._connection.close()

    def tries_of(self, message):
        return [tries for _, of, tries, _ in self.consumed if of == message]

    def pauses_s(self, message):
        times = [at for at, of, _, _ in self.consumed if of == message]
        return [later - earlier for earlier, later in zip(times, times[1:])]

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopped = True
        self._thread.join(10)


def with_headers(properties, headers):
    return pika.BasicProperties(content_type=properties.content_type, message_id=properties.message_id,
                                delivery_mode=properties.delivery_mode, headers=headers)


def through_a_queue_per_delay(endpoint, delay_ms, properties, body):
    name = f"{endpoint.name}_delay_{delay_ms}"
    endpoint.channel.queue_declare(name, durable=True, arguments={
        "x-message-ttl": delay_ms, "x-expires": delay_ms + 1500, "x-dead-letter-exchange": endpoint.name})
    endpoint.channel.basic_publish("", name, body, properties)


def declare_delayed_exchange(endpoint):
    name = endpoint.name + "_delay"
    endpoint.channel.exchange_declare(name, "x-delayed-message", durable=True, arguments={"x-delayed-type": "fanout"})
    endpoint.channel.exchange_bind(endpoint.name, name)
    return name


def through_a_delayed_exchange(endpoint, delay_ms, properties, body):
    headers = {**properties.headers, "x-delay": delay_ms}
    endpoint.channel.basic_publish(declare_delayed_exchange(endpoint), "", body, with_headers(properties, headers))


def publish(message, failures=0, contract=CONTRACT, exchange=CONTRACT, headers=None):
    """In MassTransit's envelope, to the exchange of the contract."""
    connection = connect()
    channel = connection.channel()
    channel.confirm_delivery()
    envelope = {"messageId": unique("id"), "messageType": [f"urn:message:{contract}"],
                "message": {"id": message, "failures": failures}}
    channel.basic_publish(exchange, "", json.dumps(envelope), pika.BasicProperties(
        content_type=CONTENT_TYPE, delivery_mode=2, message_id=envelope["messageId"], headers=headers))
    connection.close()
    return envelope["messageId"]


def delete(endpoint):
    connection = connect()
    channel = connection.channel()
    for suffix in ("", "_error", "_skipped"):
        equal(channel.queue_delete(endpoint.name + suffix).method.message_count, 0, f"left in {endpoint.name}{suffix}")
        channel.exchange_delete(endpoint.name + suffix)
    for exchange in (endpoint.name + "_delay", CONTRACT, FAULT):
        channel.exchange_delete(exchange)
    connection.close()


def fault_listener(channel):
    channel.exchange_declare(FAULT, "fanout", durable=True)
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, FAULT)
    return queue


def what_nobody_knows_is_skipped():
    with Endpoint(unique("orders"), [], through_a_queue_per_delay) as endpoint:
        publish("known")
        strange = publish("strange", contract="Contracts:Unheard", exchange=endpoint.name)
        eventually(lambda: endpoint.consumed, "the known one")
        connection = connect()
        channel = connection.channel()
        skipped = eventually(lambda: get_if_there(connection, endpoint.name + "_skipped"), "the skipped one")
        equal((skipped[1].message_id, skipped[1].headers), (strange, {"MT-Reason": "dead-letter"}), "skipped")
        equal([of for _, of, _, _ in endpoint.consumed], ["known"], "consumed")
        connection.close()
    delete(endpoint)


def get_if_there(connection, queue):
    channel = connection.channel()
    try:
        got = channel.basic_get(queue, auto_ack=True)
    except ChannelClosedByBroker:
        return None
    channel.close()
    return got if got[0] else None


def redelivers(delay):
    """The consumer fails twice and then works; another always fails and ends in the error queue with a fault."""
    connection = connect()
    channel = connection.channel()
    faults = fault_listener(channel)
    with Endpoint(unique("orders"), [300, 1000], delay) as endpoint:
        publish("twice", failures=2)
        always = publish("always", failures=99)
        eventually(lambda: len(endpoint.consumed) == 6, "six tries", 10)
        for message in ("twice", "always"):
            equal(endpoint.tries_of(message), [0, 1, 2], f"MT-Redelivery-Count of {message}")
            for pause_s, delay_s in zip(endpoint.pauses_s(message), (0.3, 1.0)):
                true(-0.03 < pause_s - delay_s < 1, f"{message} came after {pause_s:.2f} s, not {delay_s}")
        _, fault, body = eventually(lambda: (got := channel.basic_get(faults, auto_ack=True))[0] and got, "the fault")
        equal((fault.content_type, json.loads(body)["message"]["faultedMessageId"]), (CONTENT_TYPE, always), "fault")
        _, properties, _ = eventually(lambda: get_if_there(connection, endpoint.name + "_error"), "the moved message")
        equal(properties.message_id, always, "in the error queue")
        for name, want in (("MT-Reason", "fault"), ("MT-Fault-RetryCount", 2), ("MT-Redelivery-Count", 2)):
            equal(properties.headers[name], want, name)
        headers = {tries: headers for _, of, tries, headers in endpoint.consumed if of == "twice"}
    channel.queue_declare(endpoint.name + "_skipped")  # nothing was skipped: for `delete`
    channel.exchange_declare(endpoint.name + "_skipped")
    connection.close()
    delete(endpoint)
    return endpoint, headers


def a_queue_per_delay_redelivers():
    endpoint, headers = redelivers(through_a_queue_per_delay)
    deaths = [(death["queue"], death["reason"], death["count"]) for death in headers[2]["x-death"]]
    equal(sorted(deaths), sorted((f"{endpoint.name}_delay_{ms}", "expired", 1) for ms in (300, 1000)), "x-death")
    connection = connect()
    eventually(lambda: not there(connection, endpoint.name + "_delay_300"), "the delay's queue goes unused", 5)
    eventually(lambda: not there(connection, endpoint.name + "_delay_1000"), "and the other one", 5)
    connection.close()


def there(connection, queue):
    """Looks seldom: a passive declare counts as use."""
    time.sleep(2.6)
    channel = connection.channel()
    try:
        channel.queue_declare(queue, passive=True)
        channel.close()
        return True
    except ChannelClosedByBroker:
        return False


@only_on_leveret(NEEDS_PLUGIN)
def a_delayed_exchange_redelivers():
    _, headers = redelivers(through_a_delayed_exchange)
    equal("x-death" in headers[2], False, "nothing died")


@limit(40)
@only_on_leveret(NEEDS_PLUGIN)
def a_delayed_exchange_schedules_in_the_order_of_time():
    endpoint = Endpoint(unique("orders"), [], through_a_delayed_exchange)
    delayed = declare_delayed_exchange(endpoint)
    with endpoint:
        started = time.time()
        for delay_ms in (3000, 1000, 0, 2000):
            publish(delay_ms, exchange=delayed, headers={"x-delay": delay_ms})
        eventually(lambda: len(endpoint.consumed) == 4, "four messages", 10)
        equal([of for _, of, _, _ in endpoint.consumed], [0, 1000, 2000, 3000], "order")
        late_s = [at - started - of / 1000 for at, of, _, _ in endpoint.consumed]
        true(all(-0.03 < late < 1 for late in late_s), f"off by {late_s}")


if __name__ == "__main__":
    run("masstransit", [
        what_nobody_knows_is_skipped, a_queue_per_delay_redelivers, a_delayed_exchange_redelivers,
        a_delayed_exchange_schedules_in_the_order_of_time,
    ])
