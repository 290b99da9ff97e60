"""Definitions, out of this broker and into it, and the same at RabbitMQ if one is there to compare.

With `OTHER_MGMT_PORT` (a second broker) everything that this broker has goes there and comes back: what comes back must
be the same.
"""

import json
import os

from checks import LeftOut, equal, run, true
from management_writes import U, V, Theirs, call, fetch, is_leveret, play

HASHED = "mLFOUUfWvSJaZWQZAnKmqlBLckWCelXDQc+sl1ZKKm8WRL2s"
OTHER = os.environ.get("OTHER_MGMT_PORT")

SOME = {
    "vhosts": [{"name": V, "description": "für Tests", "tags": ["t"]}],
    "users": [{"name": U, "password_hash": HASHED, "hashing_algorithm": "rabbit_password_hashing_sha256",
               "tags": ["management"], "limits": {"max-connections": 7}}],
    "permissions": [{"user": U, "vhost": V, "configure": "^a", "write": ".*", "read": "^$"}],
    "topic_permissions": [{"user": U, "vhost": V, "exchange": "amq.topic", "write": "^a", "read": "^b"}],
    "parameters": [
        {"component": "vhost-limits", "vhost": V, "name": "limits", "value": {"max-queues": 100}},
        {"component": "operator_policy", "vhost": V, "name": "o",
         "value": {"pattern": "^o", "apply-to": "queues", "priority": 1, "definition": {"max-length": 50}}},
    ],
    "policies": [{"vhost": V, "name": "p", "pattern": "^q", "apply-to": "queues", "priority": 2,
                  "definition": {"max-length": 10, "overflow": "reject-publish"}}],
    "queues": [
        {"vhost": V, "name": "q", "durable": True, "auto_delete": False, "arguments": {"x-max-priority": 3}},
        {"vhost": V, "name": "quorum", "durable": True, "auto_delete": False, "arguments": {"x-queue-type": "quorum"}},
        {"vhost": V, "name": "stream", "durable": True, "auto_delete": False, "arguments": {"x-queue-type": "stream"}},
    ],
    "exchanges": [
        {"vhost": V, "name": "x", "type": "topic", "durable": True, "auto_delete": False, "internal": False,
         "arguments": {"alternate-exchange": "amq.fanout"}},
        {"vhost": V, "name": "inner", "type": "headers", "durable": True, "auto_delete": False, "internal": True,
         "arguments": {}},
    ],
    "bindings": [
        {"vhost": V, "source": "x", "destination": "q", "destination_type": "queue", "routing_key": "a.#", "arguments": {}},
        {"vhost": V, "source": "x", "destination": "inner", "destination_type": "exchange", "routing_key": "b",
         "arguments": {}},
        {"vhost": V, "source": "inner", "destination": "quorum", "destination_type": "queue", "routing_key": "",
         "arguments": {"x-match": "all", "n": 1}},
    ],
}
LISTS = ["permissions", "topic_permissions", "parameters", "policies", "queues", "exchanges", "bindings"]


def in_v(definitions):
    """The parts that are in our virtual host, in an order of their own."""
    mine = {name: [item for item in definitions[name] if item["vhost"] == V] for name in LISTS}
    # Whoever makes a virtual host may use it; that is not in the file.
    mine["permissions"] = [item for item in mine["permissions"] if item["user"] == U]
    mine["users"] = [item for item in definitions["users"] if item["name"] == U]
    return {name: sorted(items, key=lambda item: json.dumps(item, sort_keys=True)) for name, items in mine.items()}


def what_goes_in_comes_out():
    play(("POST", "/api/definitions", SOME, 204), ("POST", "/api/definitions", SOME, 204))
    exported, given = in_v(fetch("/api/definitions")), in_v({**SOME})
    for name in given:
        equal(exported[name], given[name], name)


def what_is_exported_is_imported():
    exported = fetch("/api/definitions?for=rabbitmq" if is_leveret() else "/api/definitions")
    play(("DELETE", "/api/vhosts/{v}", None, 204), ("DELETE", "/api/users/{u}", None, 204))
    play(("POST", "/api/definitions", exported, 204))
    again = fetch("/api/definitions?for=rabbitmq" if is_leveret() else "/api/definitions")
    equal(in_v(again), in_v(exported), "the definitions of a broker that took its own")


def a_bad_file_changes_nothing():
    new = {"name": U + "-new", "password_hash": HASHED, "tags": ""}
    before = fetch("/api/definitions")
    for bad in [
        {"queues": [{"name": "q", "vhost": V + "-missing", "durable": True, "auto_delete": False, "arguments": {}}]},
        {"permissions": [{"user": "nobody-" + U, "vhost": V, "configure": "", "write": "", "read": ""}]},
        {"policies": [{"vhost": V, "name": "bad", "pattern": "(", "definition": {"max-length": 1}}]},
    ]:
        play(("POST", "/api/definitions", {"users": [new], **bad}, 400))
        if is_leveret():
            equal(fetch("/api/definitions"), before, "what is set up after a file that was refused")
    play(
        ("DELETE", "/api/users/{u}-new", None, 404, Theirs(204, "it puts the users in force before it looks on")),
        ("POST", "/api/definitions", "nonsense", 400),
        ("POST", "/api/definitions", "[]", 400),
        ("POST", "/api/definitions", {"users": 5}, 400, Theirs(500, "it has no check, and answers 500")),
        ("POST", "/api/definitions", {"bogus": [1]}, 204),
    )


def one_virtual_host():
    queue = {"name": "only", "durable": True, "auto_delete": False, "arguments": {}}
    play(
        ("POST", "/api/definitions/{v}", {"queues": [queue]}, 204),
        ("POST", "/api/definitions/{v}-missing", {"queues": [queue]}, 404),
    )
    exported = fetch("/api/definitions/{v}")
    true(queue in exported["queues"], f"{queue} in {exported['queues']}")
    true("users" not in exported, "the definitions of a virtual host have no users")


def another_broker_takes_them():
    if not OTHER:
        raise LeftOut("there is no second broker")
    import management_writes as writes

    here = writes.PORT
    mine = fetch("/api/definitions?for=rabbitmq")
    try:
        writes.PORT = int(OTHER)
        is_leveret.cache_clear()
        play(("POST", "/api/definitions", mine, 204))
        theirs = fetch("/api/definitions?for=rabbitmq")
        equal(in_v(theirs), in_v(mine), "what the other broker has")
        play(("DELETE", "/api/vhosts/{v}", None, 204), ("DELETE", "/api/users/{u}", None, 204))
    finally:
        writes.PORT = here
        is_leveret.cache_clear()
    play(("DELETE", "/api/vhosts/{v}", None, 204), ("DELETE", "/api/users/{u}", None, 204))
    play(("POST", "/api/definitions", theirs, 204))
    equal(in_v(fetch("/api/definitions?for=rabbitmq")), in_v(mine), "what has been there and back")


def cleanup():
    play(("DELETE", "/api/vhosts/{v}", None, 204), ("DELETE", "/api/users/{u}", None, 204))
    call("DELETE", "/api/users/{u}-new")


if __name__ == "__main__":
    steps = [what_goes_in_comes_out, what_is_exported_is_imported, a_bad_file_changes_nothing, one_virtual_host]
    run("management_definitions", [*steps, another_broker_takes_them, cleanup])
