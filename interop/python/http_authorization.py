"""Plays the written table of who may use which route of the management API, and so checks it against RabbitMQ.

The table is the one that our own test plays (`crates/cli/tests/http_authorization.txt`). Routes that a RabbitMQ 3.10 does not
have are passed over there; where it lets others in, it is said below, with the reason.
"""

import base64
import pathlib

from checks import Deviation, run, true, unique
from management_writes import call, is_leveret, play

TABLE = pathlib.Path(__file__).parents[2] / "crates/cli/tests/http_authorization.txt"
ROLES = ["none", "management", "policymaker", "monitoring", "administrator"]
OWN, FOREIGN = unique("own"), unique("foreign")
USERS = {role: unique(role) for role in ROLES}

# What RabbitMQ 3.10 does with whole kinds of routes instead, and why we do not.
THEIR_KINDS = {
    # Its lists of everything show `monitoring` what its lists of one virtual host refuse; we show it in both.
    "-- +- +- ++ ++": "-- +- +- +- ++",
    # It lets administrators as far as to the operation, which then refuses them; we say so at the door.
    "-- +- +- +- +-": "-- +- +- +- ++",
}
# And with single ones.
THEIRS = {
    # Later versions show a virtual host to whoever may use it, and so do we.
    ("GET", "/api/vhosts/{vhost}"): "-- -- -- -- ++",
    # Here its `monitoring` may look.
    ("GET", "/api/vhost-limits/{vhost}"): "-- +- +- ++ ++",
    # It makes a queue for it at once, and so is refused at once.
    ("GET", "/api/aliveness-test/{vhost}"): "-- +- +- +- +-",
    # They say nothing that the overview does not say.
    ("GET", "/api/feature-flags"): "-- -- -- -- ++",
    # Whoever may look at the counts may clear them there; we leave changes to administrators.
    ("DELETE", "/api/auth/attempts/{node}"): "-- -- -- ++ ++",
    ("DELETE", "/api/auth/attempts/{node}/source"): "-- -- -- ++ ++",
    # It shows the consumers of any virtual host to everybody.
    ("GET", "/api/consumers/{vhost}"): "-- ++ ++ ++ ++",
}


def login(user):
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:p".encode()).decode()}


def table():
    for line in TABLE.read_text().splitlines():
        if line and not line.startswith("#"):
            method, path, *columns = line.split()
            yield method, path, " ".join(columns)


def filled(path, vhost):
    parts = [vhost if part == "{vhost}" else "missing" if part.startswith("{") else part for part in path.split("/")]
    return "/".join(parts)


def exists(method, path):
    """What a broker does not have, it misses before it asks who wants it."""
    return call(method, filled(path, OWN), headers={"Authorization": None})[0] == 401


def letting_in(method, path):
    """The columns of the table as this broker has them."""
    body = "[" if method in ("PUT", "POST") else None
    columns = []
    for role in ROLES:
        statuses = [call(method, filled(path, vhost), body, login(USERS[role]))[0] for vhost in (OWN, FOREIGN)]
        columns.append("".join("-" if status in (401, 403) else "+" for status in statuses))
    return " ".join(columns)


def prepare():
    for vhost in (OWN, FOREIGN):
        play(("PUT", f"/api/vhosts/{vhost}", None, 201))
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    for role, user in USERS.items():
        play(("PUT", f"/api/users/{user}", {"password": "p", "tags": "" if role == "none" else role}, 201))
        play(("PUT", f"/api/permissions/{OWN}/{user}", everything, 201))


def routes_are_for_those_whom_the_table_names():
    deviations, played = [], 0
    for method, path, expected in table():
        if expected == "open" or path == "/api/vhosts/{vhost}" and method == "DELETE":
            continue  # the second would take away what the others need
        if not is_leveret() and not exists(method, path):
            continue
        if not is_leveret():
            expected = THEIRS.get((method, path), THEIR_KINDS.get(expected, expected))
        played += 1
        got = letting_in(method, path)
        if got != expected:
            deviations.append(f"{method} {path}: got {got}, want {expected}")
    true(played > 50, f"{played} routes played")
    if deviations:
        raise Deviation("\n  ".join(deviations))


def cleanup():
    for vhost in (OWN, FOREIGN):
        play(("DELETE", f"/api/vhosts/{vhost}", None, 204))
    for user in USERS.values():
        play(("DELETE", f"/api/users/{user}", None, 204))


routes_are_for_those_whom_the_table_names.timeout_s = 240

if __name__ == "__main__":
    run("http_authorization", [prepare, routes_are_for_those_whom_the_table_names, cleanup])
