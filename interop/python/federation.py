"""Federation between a RabbitMQ 3.10 with its plugin and Leveret: each as the upstream of the other, and Leveret of Leveret.

Starts its own brokers: one RabbitMQ, two Leverets (the binary $LEVERET). What the API says of links and shovels, and what it
refuses, is compared with what that RabbitMQ says at the same moment.
"""

import base64
import html
import json
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import pika

from checks import equal, eventually, limit, run, true, unique

HERE = os.path.dirname(os.path.abspath(__file__))
GUEST = "Basic " + base64.b64encode(b"guest:guest").decode()
PLUGINS = "rabbitmq_federation,rabbitmq_federation_management,rabbitmq_shovel,rabbitmq_shovel_management"
DIRECTORY = tempfile.mkdtemp(prefix="federation.")
PERSISTENT = pika.BasicProperties(delivery_mode=2)


def free_ports(count):
    """Ports below those of outgoing connections."""
    found = []
    while len(found) < count:
        port = random.randrange(20000, 30000)
        with socket.socket() as probe:
            if port not in found and probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
    return found


class Broker:
    """A broker of this program, with its management API."""

    def __init__(self, name, script, **environment):
        self.name, self.script = name, os.path.join(HERE, "..", script)
        self.port, self.management, distribution, mapper = free_ports(4)
        self.directory = os.path.join(DIRECTORY, name)
        self.environment = {
            **os.environ, **environment, "MGMT_PORT": str(self.management), "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_EPMD_PORT": str(mapper), "RABBITMQ_NODENAME": f"{name}@localhost"}

    def control(self, verb, *arguments):
        log = open(os.path.join(DIRECTORY, f"{self.name}.control.log"), "ab")
        command = [self.script, verb, *arguments, self.directory]
        subprocess.run(command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)

    def start(self):
        self.control("start", str(self.port))

    def kill(self):
        self.control("kill")

    @property
    def url(self):
        return f"amqp://guest:guest@localhost:{self.port}"

    def channel(self):
        return pika.BlockingConnection(pika.URLParameters(f"{self.url}/%2f")).channel()

    def ask(self, method, path, body=None):
        """Status and text, with JSON decoded."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"authorization": GUEST, "content-type": "application/json"}
        url = f"http://127.0.0.1:{self.management}/api/{path}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method)) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def set(self, path, body):
        status, answer = self.ask("PUT", path, body)
        true(status in (201, 204), f"PUT {path} at {self.name}: {status} {answer}")

    def federate(self, upstream, pattern, **settings):
        """Takes what fits from another broker."""
        name = unique(upstream.name)
        self.set(f"parameters/federation-upstream/%2f/{name}",
                 {"value": {"uri": upstream.url, "reconnect-delay": 1, **settings}})
        self.set(f"policies/%2f/{name}", {"pattern": pattern, "definition": {"federation-upstream": name}})
        return name

    def link(self, upstream, status="running"):
        def found():
            links = self.ask("GET", "federation-links")[1]
            fit = [link for link in links if link["upstream"] == upstream]
            return fit[0] if fit and fit[0]["status"] == status else None
        return eventually(found, f"a link of {self.name} to {upstream} is {status}", 40)

    def bound(self, exchange):
        status, bindings = self.ask("GET", f"exchanges/%2f/{exchange}/bindings/source")
        return sorted(binding["routing_key"] for binding in bindings) if status == 200 else None


RABBIT = Broker("fedrabbit", "rabbitmq.sh", EXTRA_PLUGINS=PLUGINS)
HARE = Broker("fedhare", "leveret.sh")
DOE = Broker("feddoe", "leveret.sh")


def declare(channel, exchange, queue, key):
    channel.exchange_declare(exchange, "topic", durable=True)
    channel.queue_declare(queue, durable=True)
    channel.queue_bind(queue, exchange, key)


def bodies(channel, queue, wanted, within_s=30):
    """All that comes, until everything wanted was there."""
    got, end = [], time.monotonic() + within_s
    while not set(wanted) <= {body for body, _ in got} and time.monotonic() < end:
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            time.sleep(0.02)
        else:
            got.append((body.decode(), properties.headers))
    equal(sorted(set(wanted) - {body for body, _ in got}), [], f"missing in {queue}")
    return got


def fields(table):
    return sorted(table)


def take_from_an_exchange(upstream, downstream):
    name = unique("x")
    there, here = upstream.channel(), downstream.channel()
    declare(here, name, name, "a.#")
    link = downstream.federate(upstream, f"^{name}$")
    downstream.link(link)
    eventually(lambda: upstream.bound(name) == ["a.#"], "the binding is there", 10)
    here.queue_bind(name, name, "b")
    eventually(lambda: upstream.bound(name) == ["a.#", "b"], "a binding that was added", 10)
    here.queue_unbind(name, name, "b")
    eventually(lambda: upstream.bound(name) == ["a.#"], "a binding that was removed", 10)
    for key in ("b", "a.b"):
        there.basic_publish(name, key, key)
    [(_, headers)] = bodies(here, name, ["a.b"])
    [station] = headers["x-received-from"]
    equal(fields(station), ["cluster-name", "exchange", "redelivered", "uri", "vhost"], "the station")
    equal((station["exchange"], station["uri"]), (name, f"amqp://localhost:{upstream.port}"), "where it was")
    downstream.ask("DELETE", f"policies/%2f/{link}")
    eventually(lambda: upstream.bound(name) == [], "nothing is left of it", 10)


def lose_nothing_when_the_upstream_is_killed(upstream, downstream):
    name = unique("killed")
    declare(downstream.channel(), name, name, "#")
    link = downstream.federate(upstream, f"^{name}$")
    downstream.link(link)
    confirmed = []

    def publish(numbers):
        there = upstream.channel()
        there.confirm_delivery()
        for number in numbers:
            there.basic_publish(name, "k", str(number), PERSISTENT)
            confirmed.append(str(number))

    eventually(lambda: upstream.bound(name) == ["#"], "the binding is there", 10)
    publish(range(300))
    upstream.kill()
    upstream.start()
    publish(range(300, 600))
    here = downstream.channel()
    bodies(here, name, confirmed, 60)
    downstream.link(link)


def take_from_a_queue_while_it_is_wanted(upstream, downstream):
    name = unique("q")
    there, here = upstream.channel(), downstream.channel()
    for channel in (there, here):
        channel.queue_declare(name, durable=True)
    link = downstream.federate(upstream, f"^{name}$")
    equal(downstream.link(link)["consumer_tag"], f"federation-link-{link}", "the consumer's name")
    for number in range(50):
        there.basic_publish("", name, str(number))
    time.sleep(1)
    equal(here.queue_declare(name, passive=True).method.message_count, 0, "nobody wants them")
    got = []
    here.basic_consume(name, lambda channel, method, properties, body: (
        got.append((body.decode(), properties.headers)), channel.basic_ack(method.delivery_tag)))
    end = time.monotonic() + 20
    while len(got) < 50 and time.monotonic() < end:
        here.connection.process_data_events(0.1)
    equal([body for body, _ in got], [str(number) for number in range(50)], "in order")
    headers = got[0][1]
    equal(fields(headers["x-received-from"][0]), ["queue", "redelivered", "uri", "visit-count"], "the station")
    equal((headers["x-original-exchange"], headers["x-original-routing-key"]), ("", name), "where it was published")
    downstream.ask("DELETE", f"policies/%2f/{link}")


def each_pair(step):
    """The same for every upstream and downstream."""
    for upstream, downstream in ((RABBIT, HARE), (HARE, RABBIT), (HARE, DOE)):
        def one(upstream=upstream, downstream=downstream):
            step(upstream, downstream)
        one.__name__ = f"{step.__name__}_{upstream.name}_to_{downstream.name}"
        yield limit(150)(one)


@limit(200)
def the_brokers_start():
    os.makedirs(DIRECTORY, exist_ok=True)
    for broker in (RABBIT, HARE, DOE):
        broker.start()
        broker.set("cluster-name", {"name": f"{broker.name}@test"})


@limit(60)
def what_goes_both_ways_stops():
    for one, other in ((RABBIT, HARE), (HARE, DOE)):
        name = unique("both")
        channels = [broker.channel() for broker in (one, other)]
        for channel in channels:
            declare(channel, name, name, "#")
        links = [one.federate(other, f"^{name}$", **{"max-hops": 5}),
                 other.federate(one, f"^{name}$", **{"max-hops": 5})]
        for broker, link in zip((one, other), links):
            broker.link(link)
            eventually(lambda: broker.bound(name) == ["#", "#"], "bound for both", 10)
        for channel, body in zip(channels, ("one", "other")):
            channel.basic_publish(name, "k", body)
        time.sleep(2)
        for channel in channels:
            equal(channel.queue_declare(name, passive=True).method.message_count, 2, "each came once")
        for broker, link in zip((one, other), links):
            broker.ask("DELETE", f"policies/%2f/{link}")


def kinds(shown, but=()):
    return {key: type(value).__name__ for key, value in shown.items() if key not in but}


@limit(90)
def links_are_shown_as_by_rabbitmq():
    shown = {}
    for broker, upstream in ((RABBIT, HARE), (HARE, DOE)):
        name = unique("shown")
        channel = broker.channel()
        declare(channel, f"{name}-x", f"{name}-q", "k")
        works = broker.federate(upstream, f"^{name}-x$")
        queue = broker.federate(upstream, f"^{name}-q$")
        broken = unique("nobody")
        broker.set(f"parameters/federation-upstream/%2f/{broken}",
                   {"value": {"uri": f"amqp://u:secret@localhost:{free_ports(1)[0]}", "reconnect-delay": 1}})
        declare(channel, f"{name}-e", f"{name}-q", "k")
        broker.set(f"policies/%2f/{broken}", {"pattern": f"^{name}-e$", "definition": {"federation-upstream": broken}})
        broker.link(works), broker.link(queue)
        # Channels are shown when RabbitMQ has gathered its statistics.
        eventually(lambda: "local_channel" in broker.link(works) and "local_channel" in broker.link(queue),
                   "channels are shown", 20)
        links = broker.link(works), broker.link(queue), broker.link(broken, "error")
        for link in links:
            equal(broker.ask("GET", "federation-links/nowhere")[0], 404, "no such virtual host")
            true("secret" not in json.dumps(link), "a password is shown")
        shown[broker.name] = [kinds(link) for link in links]
        down = broker.ask("GET", "federation-links/%2f/state/down")[1]
        true(any(link["upstream"] == broken for link in down), "what is down is found")
        restart = f"federation-links/vhost/%2f/{links[0]['id']}/{links[0]['node']}/restart"
        equal(broker.ask("DELETE", restart)[0], 204, "restart")
        equal(broker.ask("DELETE", restart.replace(links[0]["id"], "00000000"))[0], 404, "restart of none")
        broker.link(works)
        for link in (works, queue, broken):
            broker.ask("DELETE", f"policies/%2f/{link}")
    equal(shown[HARE.name], shown[RABBIT.name], "fields of links")


@limit(60)
def shovels_are_shown_as_by_rabbitmq():
    shown = {}
    for broker in (RABBIT, HARE):
        name = unique("shovel")
        broker.set(f"parameters/shovel/%2f/{name}", {"value": {
            "src-protocol": "amqp091", "src-uri": "amqp://", "src-queue": name, "dest-protocol": "amqp091",
            "dest-uri": "amqp://", "dest-exchange": "amq.fanout", "dest-exchange-key": "k"}})

        def found():
            shovels = [one for one in broker.ask("GET", "shovels/%2f")[1] if one["name"] == name]
            return shovels[0] if shovels and shovels[0]["state"] == "running" else None
        shown[broker.name] = eventually(found, f"the shovel of {broker.name} runs", 20)
        broker.ask("DELETE", f"parameters/shovel/%2f/{name}")
    # How many it has moved is ours alone.
    equal(kinds(shown[HARE.name], {"moved"}), kinds(shown[RABBIT.name]), "fields of shovels")


UPSTREAMS = [
    {}, {"uri": 5}, {"uri": ["amqp://a", 5]}, *({"uri": "amqp://a", **more} for more in (
        {}, {"prefetch-count": "a"}, {"max-hops": "x"}, {"expires": "x"}, {"message-ttl": "x"}, {"trust-user-id": 1},
        {"ack-mode": "x"}, {"exchange": 1}, {"queue": 1}, {"consumer-tag": 1}, {"bind-nowait": 1},
        {"resource-cleanup-mode": "x"}, {"channel-use-mode": "x"}, {"ha-policy": 1}, {"bogus": 1, "bogus2": "s"},
        {"max-hops": "x", "expires": "y", "zz": 1}, {"prefetch-count": 0, "max-hops": 0, "reconnect-delay": 1.5}))]
SETS = [
    [], {}, [{}], [{"upstream": "none"}], [{"upstream": 5}], [{"upstream": "up", "bogus": 1}],
    [{"upstream": "up", "uri": "amqp://x"}], [{"exchange": "x"}], [{"upstream": "up"}, {"max-hops": "a", "upstream": 5}]]
POLICIES = [
    {"federation-upstream": 5}, {"federation-upstream-set": 5}, {"federation-upstream-pattern": 5},
    {"federation-upstream-pattern": "^u"}, {"federation-upstream": "a", "federation-upstream-set": "b"},
    {"federation-upstream": "a", "federation-upstream-pattern": "b"}, {"federation-upstream": "none"}]


@limit(60)
def what_makes_no_sense_is_refused_alike():
    def answers(path, body):
        both = []
        for broker in (RABBIT, HARE):
            status, answer = broker.ask("PUT", path, body)
            broker.ask("DELETE", path)
            both.append((status, html.unescape(answer) if isinstance(answer, str) else answer))
        return both
    for component, values in (("upstream", UPSTREAMS), ("upstream-set", SETS)):
        for value in values:
            rabbit, hare = answers(f"parameters/federation-{component}/%2f/val", {"value": value})
            equal(hare, rabbit, f"{component} {value}")
    for definition in POLICIES:
        rabbit, hare = answers("policies/%2f/val", {"pattern": "^none$", "definition": definition})
        equal(hare, rabbit, f"policy {definition}")


@limit(90)
def the_brokers_end():
    for broker in (RABBIT, HARE, DOE):
        broker.control("kill")
    shutil.rmtree(DIRECTORY)


if __name__ == "__main__":
    run("federation", [
        the_brokers_start,
        what_makes_no_sense_is_refused_alike,
        links_are_shown_as_by_rabbitmq,
        shovels_are_shown_as_by_rabbitmq,
        *each_pair(take_from_an_exchange),
        *each_pair(take_from_a_queue_while_it_is_wanted),
        what_goes_both_ways_stops,
        *each_pair(lose_nothing_when_the_upstream_is_killed),
        the_brokers_end,
    ])
