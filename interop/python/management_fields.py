"""What the management API shows of a small topology, key by key and type by type, as RabbitMQ 3.10 shows it.

    management_fields.json   recorded from RabbitMQ: request → where in the answer → types   (--record writes it)
    LEFT_OUT                 what of it Leveret has not, and why; everything else must be there
"""

import base64
import json
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import pika

from checks import HOST, URL, Deviation, equal, limit, run, true, unique

PORT = int(os.environ.get("MGMT_PORT", "15672"))
GUEST = "Basic " + base64.b64encode(b"guest:guest").decode()
RECORD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "management_fields.json")
V = unique("fields")
OWN = []  # connections that stay open

ERLANG = "a process of the Erlang machine, which is not here"
LEFT_OUT = {
    r"(garbage_collection|reductions)": ERLANG,
    r"(proc_total|proc_used|run_queue|context_switches|gc_num|gc_bytes|net_ticktime|metrics_gc_queue)": ERLANG,
    r"erlang_(full_)?version": ERLANG,
    r"(mnesia_|msg_store_|queue_index_|ra_open_file|io_seek|io_reopen|io_\w+_avg_time_details)": "another store",
    r"backing_queue_status": "the inner state of RabbitMQ's queue",
    r"(recoverable_slaves|open_files|readers\b)": "other nodes",
    r"(messages|message_bytes)_dlx": "dead letters wait in the queue itself and are counted as unacknowledged",
    r"(log_files|db_dir|config_files)": "paths of the machine are nobody's business who is not on it",
    r"(socket_opts|cowboy_opts)": "settings of Erlang's sockets",
    r"enabled_plugins\[\]": "there are no plugins",
    r"^memory\.": "the parts of RabbitMQ's memory",
    r"\[\]\.(totals|type_specific)$": "it is always null",
    r"idle_since$": "comes and goes with time",
}

REQUESTS = [
    "overview", "cluster-name", "nodes", "nodes/{n}", "nodes/{n}/memory", "feature-flags", "vhosts/{v}", "connections",
    "vhosts/{v}/connections", "vhosts/{v}/channels", "consumers/{v}", "exchanges/{v}", "exchanges/{v}/topic",
    "exchanges/{v}/topic/bindings/source", "exchanges/{v}/fan/bindings/destination", "queues/{v}", "queues/{v}/classic",
    "queues/{v}/quorum", "queues/{v}/stream", "queues/{v}/busy", "queues/{v}/busy/bindings", "bindings/{v}",
    "bindings/{v}/e/topic/q/classic", "queues/{v}?page=1&page_size=2&name=s", "queues/{v}?disable_stats=true&enable_queue_totals=true",
    "queues/{v}/classic?lengths_age=60&lengths_incr=5&msg_rates_age=60&msg_rates_incr=5", "auth/attempts/{n}", "aliveness-test/{v}",
    "healthchecks/node", "health/checks/alarms", "health/checks/local-alarms", "health/checks/virtual-hosts",
    "health/checks/node-is-quorum-critical", "health/checks/protocol-listener/amqp", "health/checks/protocol-listener/mqtt",
    "health/checks/port-listener/1", "whoami",
]


def call(path, method="GET", body=None, login=GUEST):
    url = f"http://{HOST}:{PORT}/api/{path}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Authorization": login, "Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            content = answer.read()
    except urllib.error.HTTPError as error:
        if error.code != 503:  # a health check that fails has a body like all others
            raise Deviation(f"{method} {path}: {error.code}") from error
        content = error.read()
    return json.loads(content) if content else None


def shape(value, at="", found=None):
    """Where → types. What has a name of a node for a key is called NODE."""
    found = {} if found is None else found
    kinds = {bool: "bool", int: "number", float: "number", str: "text", type(None): "null", dict: "object", list: "array"}
    found.setdefault(at, set()).add(kinds[type(value)])
    if isinstance(value, dict) and not at.endswith(("arguments", "client_properties", "effective_policy_definition")):
        for key, inner in value.items():
            shape(inner, f"{at}.{'NODE' if '@' in key else key}".lstrip("."), found)
    if isinstance(value, list):
        for inner in value:
            shape(inner, at + "[]", found)
    return found


def a_topology_with_traffic():
    call(f"vhosts/{V}", "PUT", {})
    call(f"permissions/{V}/guest", "PUT", {"configure": ".*", "write": ".*", "read": ".*"})
    parameters = pika.URLParameters(URL)
    parameters.virtual_host = V
    parameters.client_properties = {"connection_name": "fields"}
    publisher, consumer = (pika.BlockingConnection(parameters) for _ in range(2))
    OWN.extend([publisher, consumer])
    channel = publisher.channel()
    channel.confirm_delivery()
    channel.exchange_declare("topic", "topic", durable=True, arguments={"alternate-exchange": "amq.fanout"})
    channel.exchange_declare("fan", "fanout")
    channel.queue_declare("classic", durable=True, arguments={"x-max-length": 1000, "x-dead-letter-exchange": "fan"})
    for kind in ("quorum", "stream"):
        channel.queue_declare(kind, durable=True, arguments={"x-queue-type": kind})
    channel.queue_declare("busy")
    channel.queue_bind("classic", "topic", "a.*")
    channel.queue_bind("classic", "topic", "b.*", arguments={"x-y": 1, "z": "t"})
    channel.exchange_bind("fan", "topic", "#")
    for _ in range(20):
        channel.basic_publish("topic", "a.1", b"hello", pika.BasicProperties(delivery_mode=2, timestamp=1_700_000_000))
        channel.basic_publish("", "busy", b"hello")
        channel.basic_publish("", "quorum", b"hello")
    for _ in range(3):
        method, _, _ = channel.basic_get("classic")
        channel.basic_ack(method.delivery_tag)
    consuming = consumer.channel()
    consuming.basic_qos(prefetch_count=5)
    consuming.basic_consume("busy", lambda *_: None, consumer_tag="one")
    consuming.basic_consume("quorum", lambda *_: None, auto_ack=True)
    consumer.process_data_events(1)


@limit(60)
def all_of_it_is_counted():
    """RabbitMQ gathers statistics every five seconds."""
    end = time.monotonic() + 40
    while True:
        for connection in OWN:
            connection.process_data_events(0.2)
        queues = [call(f"queues/{V}/{name}") for name in ("classic", "busy", "quorum")]
        links = call(f"vhosts/{V}/connections")
        counted = all("message_stats" in queue and "messages" in queue for queue in queues)
        exchange = call(f"exchanges/{V}/topic")
        consumers = len(call(f"consumers/{V}")) == 2
        stats = all("message_stats" in channel for channel in call(f"vhosts/{V}/channels"))
        if counted and consumers and stats and "message_stats" in exchange and all("recv_oct" in link for link in links):
            return
        true(time.monotonic() < end, f"no statistics within 40 s: {queues}")


def answers():
    node = call("overview")["node"]
    return {request: shape(call(request.format(v=V, n=node))) for request in REQUESTS}


@limit(60)
def every_key_of_rabbitmq_is_there_and_has_its_type():
    with open(RECORD, encoding="utf-8") as file:
        recorded = json.load(file)
    deviations = []
    for request, ours in answers().items():
        for at, types in recorded[request].items():
            if any(re.search(pattern, at) for pattern in LEFT_OUT):
                continue
            if at not in ours:
                deviations.append(f"{request}: no {at or 'answer'} ({'/'.join(types)})")
            elif set(types) != {"null"} and not ours[at] <= set(types) | {"null"}:
                deviations.append(f"{request}: {at} is {'/'.join(ours[at])}, not {'/'.join(types)}")
    true(not deviations, "; ".join(deviations))


def users_see_what_is_theirs():
    """One with the tag `management` and permissions in one virtual host; connections, channels and consumers only their own."""
    login = "Basic " + base64.b64encode(f"{V}:p".encode()).decode()
    call(f"users/{V}", "PUT", {"password": "p", "tags": "management"})
    call(f"permissions/{V}/{V}", "PUT", {"configure": "", "write": "", "read": ""})

    def see(path):
        return call(path, login=login)

    equal([vhost["name"] for vhost in see("vhosts")], [V], "virtual hosts")
    for what in ("queues", "exchanges", "bindings"):
        true(see(what) and all(one["vhost"] == V for one in see(what)), f"{what} of {V} only")
    equal((see("connections"), see("channels"), see("consumers")), ([], [], []), "what others have open")
    totals = see("overview")["object_totals"]
    equal((totals["queues"], totals["connections"]), (len(see(f"queues/{V}")), 0), "totals")
    theirs = urllib.parse.quote(call(f"vhosts/{V}/connections")[0]["name"], safe="")
    for path in ("nodes", "queues/%2F", f"connections/{theirs}"):
        try:
            see(path)
        except Deviation as refused:
            true(str(refused).endswith(": 401"), str(refused))
        else:
            raise Deviation(f"{path} was shown")


def what_was_made_goes():
    for connection in OWN:
        connection.close()
    call(f"users/{V}", "DELETE")
    call(f"vhosts/{V}", "DELETE")


def record():
    a_topology_with_traffic()
    all_of_it_is_counted()
    shapes = {request: {at: sorted(types) for at, types in found.items()} for request, found in answers().items()}
    call(f"vhosts/{V}", "DELETE")
    with open(RECORD, "w", encoding="utf-8") as file:
        json.dump(shapes, file, indent=0, sort_keys=True)
        file.write("\n")


if __name__ == "__main__":
    if "--record" in sys.argv:
        record()
    else:
        run("management-fields", [
            a_topology_with_traffic, all_of_it_is_counted, every_key_of_rabbitmq_is_there_and_has_its_type,
            users_see_what_is_theirs, what_was_made_goes,
        ])
