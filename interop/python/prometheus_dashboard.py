"""A Prometheus server (Debian's) scrapes the broker and answers what the panels of RabbitMQ's overview dashboard ask.

    broker /metrics ◀── scrape, with a login ── prometheus ◀── queries of the panels
"""

import base64
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request

import pika

from checks import HOST, URL, Deviation, eventually, limit, only_on_leveret, run, true, unique

PORT = int(os.environ.get("MGMT_PORT", "15672"))
GUEST = "Basic " + base64.b64encode(b"guest:guest").decode()
LEVERET_ONLY = "RabbitMQ serves its metrics elsewhere, with a plugin"
STATE = {}

CONFIG = """
global: {{ scrape_interval: 1s }}
scrape_configs:
  - job_name: rabbitmq
    basic_auth: {{ username: guest, password: guest }}
    static_configs: [{{ targets: ["{host}:{port}"] }}]
"""

JOIN = ' * on(instance) group_left(rabbitmq_cluster, rabbitmq_node) rabbitmq_identity_info{rabbitmq_cluster=~"leveret@.+"}'
GAUGES = [
    "rabbitmq_queue_messages_ready", "rabbitmq_queue_messages_unacked", "rabbitmq_queues", "rabbitmq_channels",
    "rabbitmq_connections", "rabbitmq_consumers", "rabbitmq_global_publishers", "rabbitmq_global_consumers",
    "rabbitmq_resident_memory_limit_bytes", "rabbitmq_process_resident_memory_bytes", "rabbitmq_disk_space_available_bytes",
    "rabbitmq_disk_space_available_limit_bytes", "rabbitmq_process_max_fds", "rabbitmq_process_open_fds",
    "rabbitmq_process_max_tcp_sockets", "rabbitmq_process_open_tcp_sockets", "rabbitmq_erlang_uptime_seconds",
    "rabbitmq_build_info",
]
RATES = [
    "rabbitmq_global_messages_" + name + "_total" for name in (
        "received", "received_confirm", "routed", "confirmed", "delivered", "delivered_consume_auto_ack",
        "delivered_consume_manual_ack", "delivered_get_auto_ack", "delivered_get_manual_ack", "get_empty", "redelivered",
        "acknowledged", "unroutable_dropped", "unroutable_returned",
    )
] + [
    f"rabbitmq_{name}_total" for name in (
        "connections_opened", "connections_closed", "channels_opened", "channels_closed", "queues_declared",
        "queues_created", "queues_deleted",
    )
]
QUERIES = [f"sum({name}{JOIN}) by(rabbitmq_node)" for name in GAUGES]
QUERIES += [f"sum(rate({name}[30s]){JOIN}) by(rabbitmq_node)" for name in RATES]
QUERIES += [
    f"rabbitmq_process_max_fds{JOIN} - on(instance) rabbitmq_process_open_fds",
    "histogram_quantile(0.99, sum(rate(rabbitmq_message_size_bytes_bucket[30s])) by(le))",
    "sum(leveret_services_requests_total)", "leveret_services",
]


def metrics(path="", login=GUEST):
    request = urllib.request.Request(f"http://{HOST}:{PORT}/metrics{path}", headers={"Authorization": login} if login else {})
    with urllib.request.urlopen(request, timeout=20) as answer:
        true(answer.headers["Content-Type"].startswith("text/plain; version=0.0.4"), answer.headers["Content-Type"])
        return answer.read()


def ask(query):
    url = f"http://127.0.0.1:{STATE['port']}/api/v1/query?" + urllib.parse.urlencode({"query": query})
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return json.load(answer)["data"]["result"]
    except OSError:
        return []


def prometheus_is_installed():
    for tool in ("prometheus", "promtool"):
        subprocess.run([tool, "--version"], capture_output=True, check=True, timeout=20)


@only_on_leveret(LEVERET_ONLY)
def promtool_finds_nothing_wrong():
    families = "&".join(f"family={name}" for name in (
        "queue_coarse_metrics", "queue_metrics", "queue_delivery_metrics", "channel_metrics", "connection_metrics", "vhost_status",
        "exchange_names", "exchange_bindings", "exchange_metrics", "node_metrics", "auth_attempt_metrics", "connection_churn_metrics",
    ))
    for path in ("", "/per-object", f"/detailed?{families}", "/memory-breakdown"):
        checked = subprocess.run(["promtool", "check", "metrics"], input=metrics(path), capture_output=True, timeout=20)
        true(checked.returncode == 0, f"{path}: {checked.stderr.decode()[:500]}")


@only_on_leveret(LEVERET_ONLY)
def metrics_need_a_login():
    try:
        metrics(login=None)
    except urllib.error.HTTPError as error:
        true(error.code == 401, str(error.code))
    else:
        raise Deviation("metrics without a login")


@only_on_leveret(LEVERET_ONLY)
def a_server_scrapes():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        STATE["port"] = free.getsockname()[1]
    STATE["dir"] = tempfile.TemporaryDirectory()
    config = os.path.join(STATE["dir"].name, "prometheus.yml")
    with open(config, "w", encoding="utf-8") as file:
        file.write(CONFIG.format(host=HOST, port=PORT))
    log = open(os.path.join(STATE["dir"].name, "log"), "wb")
    STATE["server"] = subprocess.Popen(
        ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={STATE['dir'].name}/data",
         f"--web.listen-address=127.0.0.1:{STATE['port']}"], stdout=log, stderr=log)
    eventually(lambda: [one for one in ask("up") if one["value"][1] == "1"], "the target is up", 20)


@limit(60)
@only_on_leveret(LEVERET_ONLY)
def the_panels_have_their_answers():
    connection = pika.BlockingConnection(pika.URLParameters(URL))
    channel = connection.channel()
    queue = unique("scraped")
    channel.queue_declare(queue, auto_delete=True)
    end = time.monotonic() + 5
    while time.monotonic() < end:
        channel.basic_publish("", queue, b"x" * 50)
        channel.basic_get(queue, auto_ack=True)
        connection.process_data_events(0.02)
    unanswered = [query for query in QUERIES if not ask(query)]
    true(not unanswered, f"no answer to {unanswered}")
    received = float(ask("sum(rate(rabbitmq_global_messages_received_total[30s]))")[0]["value"][1])
    true(received > 1, f"{received} messages a second were received")
    connection.close()


@only_on_leveret(LEVERET_ONLY)
def the_server_stops():
    STATE["server"].terminate()
    STATE["server"].wait(20)


if __name__ == "__main__":
    run("prometheus", [
        prometheus_is_installed, promtool_finds_nothing_wrong, metrics_need_a_login, a_server_scrapes, the_panels_have_their_answers, the_server_stops,
    ])
