"""Plays good and bad changes at the management API, and compares status and shape with what RabbitMQ 3.10 answers.

Every request stands in a table with the status that both brokers give; where RabbitMQ 3.10 gives another one, it is there
with the reason. An error is always `{"error": word, "reason": ...}`; RabbitMQ's reason may be a list, or there is no body
with its 500.
"""

import base64
import functools
import http.client
import json
import os
from urllib.parse import quote

from checks import HOST, Deviation, equal, run, true, unique

PORT = int(os.environ.get("MGMT_PORT", "15672"))
GUEST = "Basic " + base64.b64encode(b"guest:guest").decode()
V, U = unique("writes"), unique("writer")
NOT_JSON = object()
NAME_255, NAME_256 = "n" * 255, "n" * 256


class Theirs:
    """The status that RabbitMQ 3.10 gives instead, and why ours differs."""

    def __init__(self, status, why):
        self.status, self.why = status, why


CRASH = "it has no check, and answers 500"
LATER = "it has this only in later versions"


def call(method, path, body=None, headers=None):
    text = "[nonsense" if body is NOT_JSON else body if isinstance(body, str) else None
    if text is None and body is not None:
        text = json.dumps(body)
    connection = http.client.HTTPConnection(HOST, PORT, timeout=20)
    try:
        headers = {"Authorization": GUEST, "Content-Type": "application/json", **(headers or {})}
        headers = {name: value for name, value in headers.items() if value is not None}
        connection.request(method, path.format(v=V, u=U), text, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


@functools.cache
def is_leveret():
    """Said by the challenge of whoever does not log in."""
    _, headers, _ = call("GET", "/api/whoami", headers={"Authorization": None})
    return "Leveret" in headers.get("www-authenticate", "")


def play(*requests):
    """Each is (method, path, body, status) or with `Theirs` behind; all are played, then the first deviation is raised."""
    deviations = []
    for method, path, body, status, *theirs in requests:
        want = theirs[0].status if theirs and not is_leveret() else status
        got, _, content = call(method, path, body)
        shown = f"{method} {path[:80]} {str(body)[:100] if body is not NOT_JSON else 'no JSON'}"
        if got != want:
            deviations.append(f"{shown}: got {got} {content[:150]!r}, want {want}")
        elif got >= 400 and got != 405 and content:
            error = json.loads(content)
            if not {"error", "reason"} <= set(error):
                deviations.append(f"{shown}: an error without its words: {content[:150]!r}")
            elif is_leveret() and not isinstance(error["reason"], str):
                deviations.append(f"{shown}: the reason is no text")
    if deviations:
        raise Deviation("\n  ".join(deviations))


def fetch(path):
    status, _, content = call("GET", path)
    equal(status, 200, f"GET {path}")
    return json.loads(content)


def virtual_hosts():
    play(
        ("PUT", "/api/vhosts/{v}", None, 201),
        ("PUT", "/api/vhosts/{v}", None, 204),
        ("PUT", "/api/vhosts/{v}", {"description": "d", "tags": "a,b"}, 204),
        ("PUT", "/api/vhosts/{v}", {"description": "d", "tags": ["a", "b"]}, 204),
        ("PUT", "/api/vhosts/{v}", {"tracing": "x"}, 400),
        ("PUT", "/api/vhosts/{v}", NOT_JSON, 400),
        ("PUT", "/api/vhosts/{v}", "[]", 400),
        ("PUT", "/api/vhosts/{v}", {"tags": 5}, 400, Theirs(500, CRASH)),
        ("PUT", "/api/vhosts/{v}", {"description": 5}, 400, Theirs(204, "it keeps a number as the description")),
        ("PUT", "/api/vhosts/{v}" + NAME_256, None, 400, Theirs(201, "names of more than 255 octets have no place in AMQP")),
        ("DELETE", "/api/vhosts/{v}" + NAME_256, None, 404, Theirs(204, "it was made")),
        ("PUT", "/api/vhosts/{v}%2F..%2F%3Cb%3E%C3%BC", None, 201),
        ("GET", "/api/vhosts/{v}%2F..%2F%3Cb%3E%C3%BC", None, 200),
        ("DELETE", "/api/vhosts/{v}%2F..%2F%3Cb%3E%C3%BC", None, 204),
        ("DELETE", "/api/vhosts/{v}-missing", None, 404),
        ("POST", "/api/vhosts/{v}", None, 405),
        ("GET", "/api/vhosts/{v}/permissions", None, 200),
        ("GET", "/api/vhosts/{v}-missing/permissions", None, 404),
    )
    permissions = fetch("/api/vhosts/{v}/permissions")
    equal([p["user"] for p in permissions], ["guest"], "whoever makes a virtual host may use it")


def users():
    hashed = "mLFOUUfWvSJaZWQZAnKmqlBLckWCelXDQc+sl1ZKKm8WRL2s"
    play(
        ("PUT", "/api/users/{u}", {"password": "p"}, 400),
        ("GET", "/api/users/{u}", None, 404),
        ("PUT", "/api/users/{u}", {"password": "p", "tags": ""}, 201),
        ("PUT", "/api/users/{u}", {"password": "p", "tags": "management, x"}, 204),
        ("PUT", "/api/users/{u}", {"password": "p", "tags": ["management", "x"], "bogus": 1}, 204),
        ("PUT", "/api/users/{u}", {"password": "p", "password_hash": "x", "tags": ""}, 400),
        ("PUT", "/api/users/{u}", {"password_hash": "x", "tags": ""}, 400),
        ("PUT", "/api/users/{u}", {"password_hash": hashed, "tags": ""}, 204),
        ("PUT", "/api/users/{u}-h", {"password_hash": hashed, "tags": "", "hashing_algorithm": "nope"}, 400,
         Theirs(201, "it keeps any algorithm's name, and the user can never log in")),
        ("DELETE", "/api/users/{u}-h", None, 404, Theirs(204, "it was made")),
        ("PUT", "/api/users/{u}", {"password": 5, "tags": ""}, 400, Theirs(500, CRASH)),
        ("PUT", "/api/users/{u}", {"password": "x", "tags": 5}, 400, Theirs(500, CRASH)),
        ("PUT", "/api/users/{u}", {"password": "x", "tags": None}, 400, Theirs(500, CRASH)),
        ("PUT", "/api/users/{u}", {"password": "", "tags": ""}, 204),
        ("PUT", "/api/users/{u}", {"tags": ""}, 204),
        ("PUT", "/api/users/{u}", {"tags": "", "password_hash": ""}, 204),
        ("PUT", "/api/users/{u}", None, 400),
        ("PUT", "/api/users/{u}", NOT_JSON, 400),
        ("PUT", "/api/users/{u}", "[]", 400),
        ("PUT", "/api/users/{u}", {"password": "p", "administrator": True}, 204),
        ("PUT", "/api/users/{u}", {"password": "p", "tags": "management"}, 204),
        ("PUT", "/api/users/" + NAME_256, {"password": "x", "tags": ""}, 400,
         Theirs(201, "names of more than 255 octets have no place in AMQP")),
        ("DELETE", "/api/users/" + NAME_256, None, 404, Theirs(204, "it was made")),
        ("PUT", "/api/users/{u}%00%3Cb%3E", {"password": "x", "tags": ""}, 201),
        ("DELETE", "/api/users/{u}%00%3Cb%3E", None, 204),
        ("DELETE", "/api/users/{u}-missing", None, 404),
        ("GET", "/api/users/{u}/permissions", None, 200),
        ("GET", "/api/users/{u}/topic-permissions", None, 200),
        ("GET", "/api/users/{u}-missing/permissions", None, 404),
        ("GET", "/api/users/without-permissions", None, 200),
        ("POST", "/api/users/bulk-delete", {"users": ["{u}-a", "nobody"]}, 400),
        ("POST", "/api/users/bulk-delete", {"user": ["x"]}, 400),
        ("POST", "/api/users/bulk-delete", {"users": 5}, 400, Theirs(500, CRASH)),
        ("POST", "/api/users/bulk-delete", {"users": [5]}, 400),
        ("POST", "/api/users/bulk-delete", NOT_JSON, 400),
        ("POST", "/api/users/bulk-delete", {"users": []}, 204),
        ("PUT", "/api/users/{u}-b", {"password": "x", "tags": ""}, 201),
        ("POST", "/api/users/bulk-delete", {"users": [U + "-b"]}, 204),
        ("GET", "/api/users/{u}-b", None, 404),
        ("PATCH", "/api/users/{u}", None, 405),
    )
    user = fetch("/api/users/{u}")
    equal(set(user), {"name", "password_hash", "hashing_algorithm", "tags", "limits"}, "what is shown of a user")
    equal(user["tags"], ["management"], "tags")


def permissions():
    some = {"configure": ".*", "write": ".*", "read": ".*"}
    play(
        ("PUT", "/api/permissions/{v}/{u}", some, 201),
        ("PUT", "/api/permissions/{v}/{u}", {**some, "read": "^$"}, 204),
        ("PUT", "/api/permissions/{v}/{u}", {"configure": ".*", "write": ".*"}, 400),
        ("PUT", "/api/permissions/{v}/{u}", {**some, "configure": "("}, 400),
        ("PUT", "/api/permissions/{v}/{u}", {**some, "configure": 5}, 400, Theirs(500, CRASH)),
        ("PUT", "/api/permissions/{v}/{u}", None, 400),
        ("PUT", "/api/permissions/{v}/{u}", "5", 400),
        ("PUT", "/api/permissions/{v}-missing/{u}", some, 400),
        ("PUT", "/api/permissions/{v}/{u}-missing", some, 400),
        ("GET", "/api/permissions/{v}/{u}", None, 200),
        ("GET", "/api/permissions/{v}/{u}-missing", None, 404),
        ("GET", "/api/permissions", None, 200),
        ("DELETE", "/api/permissions/{v}/{u}-missing", None, 404),
    )
    equal(fetch("/api/permissions/{v}/{u}"), {"user": U, "vhost": V, **some, "read": "^$"}, "nothing half applied")
    topic = {"exchange": "amq.topic", "write": ".*", "read": ".*"}
    play(
        ("PUT", "/api/topic-permissions/{v}/{u}", topic, 201),
        ("PUT", "/api/topic-permissions/{v}/{u}", {**topic, "read": "x"}, 204),
        ("PUT", "/api/topic-permissions/{v}/{u}", {**topic, "write": "("}, 400),
        ("PUT", "/api/topic-permissions/{v}/{u}", {"write": ".*", "read": ".*"}, 400),
        ("PUT", "/api/topic-permissions/{v}/{u}-missing", topic, 400),
        ("GET", "/api/topic-permissions/{v}/{u}", None, 200),
        ("GET", "/api/topic-permissions/{v}/{u}/amq.topic", None, 200),
        ("GET", "/api/topic-permissions/{v}/guest", None, 404),
        ("GET", "/api/topic-permissions", None, 200),
        ("GET", "/api/vhosts/{v}/topic-permissions", None, 200),
        ("DELETE", "/api/topic-permissions/{v}/{u}/amq.topic", None, 204),
        ("DELETE", "/api/topic-permissions/{v}/{u}", None, 404),
        ("DELETE", "/api/permissions/{v}/{u}", None, 204),
        ("DELETE", "/api/permissions/{v}/{u}", None, 404),
    )


def policies():
    some = {"pattern": "^q", "definition": {"max-length": 5}}
    play(
        ("PUT", "/api/policies/{v}/p", some, 201),
        ("PUT", "/api/policies/{v}/p", {**some, "priority": 5, "apply-to": "queues", "bogus": 1}, 204),
        ("PUT", "/api/policies/{v}/p", {"definition": {"max-length": 5}}, 400),
        ("PUT", "/api/policies/{v}/p", {"pattern": "x"}, 400),
        ("PUT", "/api/policies/{v}/p", {**some, "priority": "5"}, 400),
        ("PUT", "/api/policies/{v}/p", {**some, "priority": None}, 400),
        ("PUT", "/api/policies/{v}/p", {**some, "priority": 1.5}, 400, Theirs(204, "it orders by fractions")),
        ("PUT", "/api/policies/{v}/p", {**some, "apply-to": "nope"}, 400),
        ("PUT", "/api/policies/{v}/p", {**some, "definition": {}}, 400),
        ("PUT", "/api/policies/{v}/p", {**some, "definition": {"bogus": 1}}, 400),
        ("PUT", "/api/policies/{v}/p", {**some, "definition": {"max-length": -1}}, 400),
        ("PUT", "/api/policies/{v}/p", {**some, "definition": {"max-length": None}}, 400),
        ("PUT", "/api/policies/{v}/p", {**some, "definition": 5}, 400, Theirs(500, CRASH)),
        ("PUT", "/api/policies/{v}/p", {**some, "pattern": "("}, 400),
        ("PUT", "/api/policies/{v}/p", {**some, "pattern": 5}, 400),
        ("PUT", "/api/policies/{v}/p", NOT_JSON, 400),
        ("PUT", "/api/policies/{v}-missing/p", some, 404),
        ("GET", "/api/policies/{v}/p", None, 200),
        ("GET", "/api/policies/{v}", None, 200),
        ("GET", "/api/policies/{v}-missing", None, 404),
        ("DELETE", "/api/policies/{v}/missing", None, 404),
        ("DELETE", "/api/policies/{v}/p", None, 204),
        ("PUT", "/api/operator-policies/{v}/p", some, 201),
        ("PUT", "/api/operator-policies/{v}/p", {**some, "definition": {"dead-letter-exchange": "x"}}, 400),
        ("GET", "/api/operator-policies/{v}/p", None, 200),
        ("GET", "/api/operator-policies", None, 200),
        ("DELETE", "/api/operator-policies/{v}/p", None, 204),
    )
    call("PUT", "/api/policies/{v}/p", {**some, "priority": 5})
    shown = {"vhost": V, "name": "p", "pattern": "^q", "apply-to": "all", "definition": {"max-length": 5}, "priority": 5}
    equal(fetch("/api/policies/{v}/p"), shown, "a policy")
    call("DELETE", "/api/policies/{v}/p")


def limits():
    play(
        ("PUT", "/api/vhost-limits/{v}/max-queues", {"value": 500}, 204),
        ("PUT", "/api/vhost-limits/{v}/bogus", {"value": 5}, 400),
        ("PUT", "/api/vhost-limits/{v}/max-queues", {"value": "x"}, 400),
        ("PUT", "/api/vhost-limits/{v}/max-queues", {}, 400),
        ("PUT", "/api/vhost-limits/{v}-missing/max-queues", {"value": 5}, 404),
        ("GET", "/api/vhost-limits", None, 200),
        ("GET", "/api/vhost-limits/{v}-missing", None, 404),
    )
    equal(fetch("/api/vhost-limits/{v}"), [{"vhost": V, "value": {"max-queues": 500}}], "limits")
    play(
        ("DELETE", "/api/vhost-limits/{v}/max-queues", None, 204),
        ("DELETE", "/api/vhost-limits/{v}/max-queues", None, 204),
        ("DELETE", "/api/vhost-limits/{v}/bogus", None, 204),
        ("DELETE", "/api/vhost-limits/{v}-missing/max-queues", None, 404, Theirs(500, CRASH)),
        ("PUT", "/api/user-limits/{u}/max-connections", {"value": 5}, 204),
        ("PUT", "/api/user-limits/{u}/max-channels", {"value": "x"}, 400),
        ("PUT", "/api/user-limits/{u}/bogus", {"value": 5}, 400),
        ("PUT", "/api/user-limits/{u}-missing/max-connections", {"value": 5}, 400),
        ("GET", "/api/user-limits", None, 200),
        ("GET", "/api/user-limits/{u}-missing", None, 404),
    )
    equal(fetch("/api/user-limits/{u}"), [{"user": U, "value": {"max-connections": 5}}], "limits")
    play(
        ("DELETE", "/api/user-limits/{u}/max-connections", None, 204),
        ("DELETE", "/api/user-limits/{u}/max-connections", None, 204),
        ("DELETE", "/api/user-limits/{u}-missing/max-connections", None, 404, Theirs(500, CRASH)),
    )


def parameters():
    play(
        ("PUT", "/api/parameters/{v}/{v}/s", {"value": {}}, 400),
        ("PUT", "/api/parameters/{v}/{v}/s", {}, 400),
        ("PUT", "/api/parameters/{v}/{v}-missing/s", {"value": 1}, 404),
        ("PUT", "/api/parameters/policy/{v}/p", {"value": {"pattern": "", "definition": {"max-length": 5}}}, 400),
        ("PUT", "/api/parameters/vhost-limits/{v}/limits", {"value": {"max-queues": 300}}, 204),
        ("GET", "/api/parameters/vhost-limits/{v}/limits", None, 200),
        ("GET", "/api/parameters", None, 200),
        ("GET", "/api/parameters/{v}/{v}", None, 200),
        ("GET", "/api/parameters/{v}/{v}/s", None, 404),
        ("DELETE", "/api/parameters/{v}/{v}/s", None, 404),
        ("DELETE", "/api/parameters/vhost-limits/{v}/limits", None, 204),
        ("PUT", "/api/global-parameters/{v}", {"value": {"a": 1}}, 201),
        ("PUT", "/api/global-parameters/{v}", {"value": None}, 204),
        ("PUT", "/api/global-parameters/{v}", {}, 400),
        ("GET", "/api/global-parameters", None, 200),
    )
    equal(fetch("/api/global-parameters/{v}"), {"name": V, "value": None}, "a global parameter")
    play(
        ("DELETE", "/api/global-parameters/{v}", None, 204),
        ("DELETE", "/api/global-parameters/{v}", None, 404),
        ("PUT", "/api/cluster-name", {"name": "named"}, 204),
        ("PUT", "/api/cluster-name", {"name": 5}, 400, Theirs(500, CRASH)),
        ("PUT", "/api/cluster-name", {}, 400),
    )


def queues():
    play(
        ("PUT", "/api/queues/{v}/q", {"durable": True}, 201),
        ("PUT", "/api/queues/{v}/q", {"durable": "true"}, 204),
        ("PUT", "/api/queues/{v}/q", {"durable": False}, 400),
        ("PUT", "/api/queues/{v}/bad", {"durable": "yes"}, 400),
        ("PUT", "/api/queues/{v}/bad", {"arguments": {"x-max-length": "a"}}, 400),
        ("PUT", "/api/queues/{v}/bad", {"arguments": 5}, 400, Theirs(500, CRASH)),
        ("PUT", "/api/queues/{v}/bad", {"arguments": {"x-message-ttl": None}}, 400),
        ("PUT", "/api/queues/{v}/bad", {"arguments": {"x-queue-type": "nope"}}, 400),
        ("PUT", "/api/queues/{v}/bad", NOT_JSON, 400),
        ("DELETE", "/api/queues/{v}/bad", None, 404),
        ("PUT", "/api/queues/{v}-missing/q", None, 404),
        ("PUT", "/api/queues/{v}/amq.x", None, 401),
        ("PUT", "/api/queues/{v}/" + NAME_256, None, 400),
        ("PUT", "/api/queues/{v}/" + NAME_255, None, 201),
        ("PUT", "/api/queues/{v}/..%2F..%2Fetc", {"bogus": 1}, 201),
        ("PUT", "/api/queues/{v}/a%00b", None, 201),
        ("PUT", "/api/queues/{v}/%3Cscript%3E%C3%BC", None, 201),
        ("PUT", "/api/queues/{v}/%FF", None, 400, Theirs(201, "names are UTF-8")),
        ("DELETE", "/api/queues/{v}/" + NAME_255, None, 204),
        ("DELETE", "/api/queues/{v}/missing", None, 404),
        ("DELETE", "/api/queues/{v}/..%2F..%2Fetc?if-unused=true&if-empty=true", None, 204),
        ("DELETE", "/api/queues/{v}-missing/q", None, 404),
        ("DELETE", "/api/queues/{v}/q/contents", None, 204),
        ("DELETE", "/api/queues/{v}/missing/contents", None, 404),
        ("PATCH", "/api/queues/{v}/q", None, 405),
    )


def exchanges():
    play(
        ("PUT", "/api/exchanges/{v}/x", {"type": "direct", "durable": True}, 201),
        ("PUT", "/api/exchanges/{v}/x", {"type": "direct", "durable": True}, 204),
        ("PUT", "/api/exchanges/{v}/x", {"type": "topic", "durable": True}, 400),
        ("PUT", "/api/exchanges/{v}/y", {"type": "nope"}, 400),
        ("PUT", "/api/exchanges/{v}/y", {"type": 5}, 400),
        ("PUT", "/api/exchanges/{v}/y", None, 201),
        ("PUT", "/api/exchanges/{v}/amq.topic", {"type": "direct"}, 400),
        ("PUT", "/api/exchanges/{v}/amq.default", {"type": "direct"}, 401),
        ("PUT", "/api/exchanges/{v}/amq.new", {"type": "direct"}, 401),
        ("PUT", "/api/exchanges/{v}/i", {"type": "fanout", "internal": True, "arguments": {"alternate-exchange": "x"}}, 201),
        ("PUT", "/api/exchanges/{v}/z", {"type": "fanout", "arguments": {"alternate-exchange": 5}}, 400),
        ("DELETE", "/api/exchanges/{v}/missing", None, 404),
        ("DELETE", "/api/exchanges/{v}/amq.topic", None, 401),
        ("DELETE", "/api/exchanges/{v}/amq.default", None, 401),
        ("DELETE", "/api/exchanges/{v}/y?if-unused=true", None, 204),
    )


def bindings():
    play(
        ("POST", "/api/bindings/{v}/e/x/q/q", {}, 201),
        ("POST", "/api/bindings/{v}/e/x/q/q", {"routing_key": "k", "arguments": {}}, 201),
        ("POST", "/api/bindings/{v}/e/x/q/q", {"routing_key": "k", "arguments": {"a": 1}}, 201),
        ("POST", "/api/bindings/{v}/e/x/q/q", None, 201),
        ("POST", "/api/bindings/{v}/e/x/q/q", {"routing_key": 5}, 400, Theirs(201, "it keeps a number as the key")),
        ("POST", "/api/bindings/{v}/e/x/q/q", {"routing_key": NAME_256}, 400, Theirs(201, "AMQP cannot carry such a key")),
        ("POST", "/api/bindings/{v}/e/x/q/q", {"arguments": 5}, 400, Theirs(500, CRASH)),
        ("POST", "/api/bindings/{v}/e/x/e/amq.topic", {"routing_key": "a/b c~d"}, 201),
        ("POST", "/api/bindings/{v}/e/missing/q/q", {}, 404),
        ("POST", "/api/bindings/{v}/e/x/q/missing", {}, 404),
        ("POST", "/api/bindings/{v}/e/x/e/missing", {}, 404),
        ("POST", "/api/bindings/{v}-missing/e/x/q/q", {}, 404),
        ("POST", "/api/bindings/{v}/e/amq.default/q/q", {}, 401),
        ("DELETE", "/api/bindings/{v}/e/x/q/q/nope", None, 404),
        ("DELETE", "/api/bindings/{v}/e/x/q/q/k", None, 204),
        ("DELETE", "/api/bindings/{v}/e/x/q/q/k", None, 404),
        ("DELETE", "/api/bindings/{v}/e/x/q/q/~", None, 204),
        ("DELETE", "/api/bindings/{v}/e/missing/q/q/~", None, 404),
        ("DELETE", "/api/bindings/{v}/e/x/q/missing/~", None, 404),
        ("DELETE", "/api/exchanges/{v}/x?if-unused=true", None, 400),
    )
    _, headers, _ = call("POST", "/api/bindings/{v}/e/x/e/amq.topic", {"routing_key": "a/b c~d"})
    location = headers["location"]
    true(location.startswith("amq.topic/a%252Fb"), f"Location: {location}")
    key = "a%2Fb+c%7Ed"
    play(("DELETE", "/api/bindings/{v}/e/x/e/amq.topic/" + quote(key), None, 204))


def messages():
    some = {"properties": {}, "routing_key": "q", "payload": "hi", "payload_encoding": "string"}
    publish = "/api/exchanges/{v}/amq.default/publish"
    play(
        ("POST", publish, some, 200),
        ("POST", publish, {**some, "payload_encoding": "base64", "payload": "aGk="}, 200),
        ("POST", publish, {**some, "payload_encoding": "base64", "payload": "?"}, 400),
        ("POST", publish, {**some, "payload_encoding": "x"}, 400),
        ("POST", publish, {"routing_key": "q"}, 400),
        ("POST", publish, {**some, "payload": 5}, 400),
        ("POST", publish, {**some, "properties": {"delivery_mode": "2"}}, 400),
        ("POST", publish, {**some, "properties": {"delivery_mode": 300}}, 400),
        ("POST", publish, {**some, "properties": {"content_type": 5}}, 400),
        ("POST", publish, {**some, "properties": {"headers": 5}}, 400, Theirs(500, CRASH)),
        ("POST", publish, {**some, "properties": {"headers": {"n": None}}}, 400),
        ("POST", publish, {**some, "properties": {"user_id": "other"}}, 400),
        ("POST", publish, {**some, "properties": []}, 200, Theirs(500, CRASH + " to what it shows itself")),
        ("POST", publish, {**some, "properties": 5}, 400, Theirs(500, CRASH)),
        ("POST", publish, {**some, "properties": {"bogus": 1}}, 200),
        ("POST", publish, NOT_JSON, 400),
        ("POST", "/api/exchanges/{v}/missing/publish", some, 400),
        ("POST", "/api/exchanges/{v}/i/publish", some, 400),
        ("POST", "/api/exchanges/{v}-missing/amq.default/publish", some, 404,
         Theirs(401, "it finds the virtual host missing when it opens a connection")),
        ("DELETE", "/api/queues/{v}/q/contents", None, 204),
    )
    routed = json.loads(call("POST", publish, some)[2])
    equal(routed, {"routed": True}, "routed")
    equal(json.loads(call("POST", publish, {**some, "routing_key": "nowhere"})[2]), {"routed": False}, "not routed")
    properties = {"delivery_mode": 2, "headers": {"a": 1, "c": [1, "y"], "d": {"e": True}}, "priority": 3, "type": "t"}
    call("POST", publish, {**some, "properties": properties})
    got(properties)


def got(properties):
    some = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}
    get = "/api/queues/{v}/q/get"
    play(
        ("POST", get, some, 200),
        ("POST", get, {**some, "ackmode": "x"}, 400, Theirs(500, CRASH)),
        ("POST", get, {**some, "encoding": "x"}, 400),
        ("POST", get, {**some, "count": "x"}, 400),
        ("POST", get, {**some, "count": "1"}, 200),
        ("POST", get, {**some, "count": -1}, 200),
        ("POST", get, {**some, "truncate": "x"}, 400),
        ("POST", get, {"count": 1}, 400),
        ("POST", "/api/queues/{v}/missing/get", some, 404),
        ("POST", "/api/queues/{v}-missing/q/get", some, 404,
         Theirs(401, "it finds the virtual host missing when it opens a connection")),
    )
    first, second = json.loads(call("POST", get, {**some, "count": 5, "ackmode": "ack_requeue_false"})[2])
    equal((first["payload"], first["properties"], first["message_count"]), ("hi", [], 1), "the first message")
    equal((second["properties"], second["exchange"], second["routing_key"]), (properties, "", "q"), "the second message")
    equal(json.loads(call("POST", get, some)[2]), [], "an empty queue")


def cleanup():
    play(
        ("DELETE", "/api/vhosts/{v}", None, 204),
        ("DELETE", "/api/vhosts/{v}", None, 404),
        ("DELETE", "/api/users/{u}", None, 204),
        ("GET", "/api/nothing", None, 404),
    )


if __name__ == "__main__":
    run("management_writes", [virtual_hosts, users, permissions, policies, limits, parameters, queues, exchanges, bindings, messages, cleanup])
