"""Programs that others wrote use the management API, unmodified: rabbitmqadmin, amqpstorm's client, Celery Flower's view of its
broker, KEDA's scaler (its two requests, as it writes them)."""

import asyncio
import base64
import glob
import json
import logging
import os
import subprocess
import sys
import tempfile
import urllib.request

import pika
from amqpstorm.management import ApiError, ManagementApi
from flower.utils.broker import Broker

from checks import HOST, URL, Deviation, equal, eventually, run, true, unique

PORT = int(os.environ.get("MGMT_PORT", "15672"))
API = f"http://guest:guest@{HOST}:{PORT}/api/"
GUEST = "Basic " + base64.b64encode(b"guest:guest").decode()
Q, X, POLICY = unique("queue"), unique("exchange"), unique("policy")
SCRIPTS = "/usr/lib/rabbitmq/lib/rabbitmq_server-*/plugins/rabbitmq_management-*/priv/www/cli/rabbitmqadmin"


def rabbitmqadmin(*arguments):
    scripts = glob.glob(SCRIPTS)
    true(scripts, "Debian's rabbitmq-server brings rabbitmqadmin")
    done = subprocess.run([sys.executable, scripts[0], "-H", HOST, "-P", str(PORT), *arguments], capture_output=True, text=True, timeout=20)
    true(done.returncode == 0, f"rabbitmqadmin {' '.join(arguments)}: {done.stdout} {done.stderr}"[:500])
    return done.stdout


def listed(what, *columns):
    return json.loads(rabbitmqadmin("-f", "raw_json", "list", what, *columns))


def rabbitmqadmin_lists():
    for what in ("queues", "exchanges", "bindings", "connections", "channels", "consumers", "nodes", "vhosts", "users", "permissions",
                 "policies", "parameters"):
        rabbitmqadmin("list", what)
        listed(what)
    rabbitmqadmin("show", "overview")


def rabbitmqadmin_declares_publishes_and_gets():
    rabbitmqadmin("declare", "queue", f"name={Q}", "durable=true", 'arguments={"x-max-length":10}')
    rabbitmqadmin("declare", "exchange", f"name={X}", "type=topic")
    rabbitmqadmin("declare", "binding", f"source={X}", f"destination={Q}", "routing_key=a.*")
    rabbitmqadmin("declare", "policy", f"name={POLICY}", f"pattern=^{Q}$", 'definition={"message-ttl":60000}', "apply-to=queues")
    rabbitmqadmin("publish", f"exchange={X}", "routing_key=a.b", "payload=hello")
    got = json.loads(rabbitmqadmin("-f", "raw_json", "get", f"queue={Q}", "ackmode=ack_requeue_true"))
    equal([message["payload"] for message in got], ["hello"], "what rabbitmqadmin gets")
    queue = eventually(lambda: [one for one in listed("queues") if one["name"] == Q and one.get("policy") == POLICY], "the queue has its policy")
    equal(queue[0]["arguments"], {"x-max-length": 10}, "arguments")


def rabbitmqadmin_exports_and_imports():
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "definitions.json")
        rabbitmqadmin("export", path)
        with open(path, encoding="utf-8") as file:
            definitions = json.load(file)
        true(any(queue["name"] == Q for queue in definitions["queues"]), "the queue is among the definitions")
        rabbitmqadmin("import", path)


def amqpstorm_looks_and_acts():
    with ManagementApi(f"http://{HOST}:{PORT}", "guest", "guest", timeout=20) as api:
        api.overview(), api.nodes(), api.cluster_name(), api.connection.list(), api.channel.list()
        equal(api.whoami()["name"], "guest", "whoami")
        equal(api.aliveness_test("/")["status"], "ok", "aliveness")
        equal(api.healthchecks.get()["status"], "ok", "health")
        equal(api.queue.get(Q)["name"], Q, "queue")
        true(any(queue["name"] == Q for queue in api.queue.list(show_all=True, name=Q)), "the queue is in the list")
        equal([binding["routing_key"] for binding in api.queue.bindings(Q) if binding["source"] == X], ["a.*"], "bindings")
        api.queue.bind(Q, X, routing_key="b.#")
        api.basic.publish("again", "b.c", exchange=X)
        got = api.basic.get(Q, count=5, requeue=True)
        equal([message.body for message in got], ["hello", "again"], "messages")
        api.queue.unbind(Q, X, routing_key="b.#", properties_key="b.%23")
        try:
            api.queue.get(unique("none"))
        except ApiError as error:
            equal(error.error_code, 404, "a queue that is not there")
        else:
            raise Deviation("a queue that is not there was shown")


def flower_sees_the_queues():
    async def ask():
        return await Broker("amqp://guest:guest@localhost:5672//", http_api=API).queues([Q])

    logging.disable(logging.CRITICAL)
    found = asyncio.run(ask())
    equal([queue["name"] for queue in found], [Q], "the queues that Flower sees")
    eventually(lambda: asyncio.run(ask())[0].get("messages") == 2, "Flower sees the messages", 10)
    true({"messages", "messages_ready", "messages_unacknowledged", "consumers"} <= set(asyncio.run(ask())[0]), "Flower's columns")


def keda_scales():
    """`mode: QueueLength` for one queue, and with `useRegex`."""
    def ask(path):
        request = urllib.request.Request(f"http://{HOST}:{PORT}/{path}", headers={"Authorization": GUEST})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    one = ask(f"api/queues/%2F/{Q}")
    equal((one["messages"], one["messages_unacknowledged"], one["name"]), (2, 0, Q), "the queue")
    true(one["message_stats"]["publish_details"]["rate"] >= 0, "its rate")
    many = ask(f"api/queues/%2F?page=1&use_regex=true&pagination=false&name=%5E{Q}%24&page_size=100")
    equal([(queue["name"], queue["messages"]) for queue in many["items"]], [(Q, 2)], "the queues of the pattern")


def a_connection_is_closed_from_outside():
    parameters = pika.URLParameters(URL)
    name = unique("victim")
    parameters.client_properties = {"connection_name": name}
    connection = pika.BlockingConnection(parameters)
    victim = eventually(lambda: [one for one in listed("connections") if one.get("user_provided_name") == name], "the connection is listed", 15)[0]
    rabbitmqadmin("close", "connection", f"name={victim['name']}")
    try:
        end = 50
        while end:
            connection.process_data_events(0.1)
            end -= 1
    except pika.exceptions.ConnectionClosedByBroker as closed:
        equal(closed.reply_code, 320, "the code")
        true("Closed via management plugin" in closed.reply_text, closed.reply_text)
    else:
        raise Deviation("the connection is still open")


def rabbitmqadmin_deletes():
    rabbitmqadmin("delete", "policy", f"name={POLICY}")
    rabbitmqadmin("purge", "queue", f"name={Q}")
    rabbitmqadmin("delete", "binding", f"source={X}", "destination_type=queue", f"destination={Q}", "properties_key=a.%2A")
    rabbitmqadmin("delete", "queue", f"name={Q}")
    rabbitmqadmin("delete", "exchange", f"name={X}")


if __name__ == "__main__":
    run("management-clients", [
        rabbitmqadmin_lists, rabbitmqadmin_declares_publishes_and_gets, rabbitmqadmin_exports_and_imports, amqpstorm_looks_and_acts,
        flower_sees_the_queues, keda_scales, a_connection_is_closed_from_outside, rabbitmqadmin_deletes,
    ])
