"""One process of a site: a web server beside a consumer, and an outbox in the site's database.

    python website.py NAME DATABASE PORT

`POST /orders` with a title writes the order and its message in one transaction, `POST /orders?fail` rolls both back.
The outbox is published after the commit, each message until the broker confirms it. `GET /orders/ID` is the PDF,
or 202 while it is being made.
"""

import os
import sqlite3
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgpack
import pika

name, database, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
results_queue = f"{name}.{os.getpid()}"


def db():
    connection = sqlite3.connect(database, timeout=20)
    connection.execute("CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, title TEXT, pdf BLOB, pages INT)")
    connection.execute("CREATE TABLE IF NOT EXISTS outbox (id TEXT PRIMARY KEY, owner TEXT, body BLOB)")
    return connection


def broker():
    return pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F")))


class Site(BaseHTTPRequestHandler):
    def do_POST(self):
        title = self.rfile.read(int(self.headers["Content-Length"])).decode()
        order = str(uuid.uuid4())
        with db() as transaction:
            transaction.execute("INSERT INTO orders (id, title) VALUES (?, ?)", (order, title))
            body = msgpack.packb({"title": title, "logo": b"\x00\x01\xff"})
            transaction.execute("INSERT INTO outbox VALUES (?, ?, ?)", (order, results_queue, body))
            if "fail" in self.path:
                transaction.rollback()
                self.answer(500, b"the card was declined")
                return
        self.answer(201, order.encode())

    def do_GET(self):
        row = db().execute("SELECT pdf FROM orders WHERE id = ?", (self.path.rsplit("/", 1)[-1],)).fetchone()
        if row is None:
            self.answer(404, b"no such order")
        else:
            self.answer(202 if row[0] is None else 200, row[0] or b"not yet")

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def publish_outbox():
    """Sends what is committed; a row goes once the broker has confirmed its message."""
    channel = broker().channel()
    channel.confirm_delivery()
    while True:
        with db() as transaction:
            rows = transaction.execute("SELECT id, body FROM outbox WHERE owner = ?", (results_queue,)).fetchall()
            for order, body in rows:
                channel.basic_publish("service.tasks", "service.my_template", body, pika.BasicProperties(
                    content_type="application/msgpack", delivery_mode=2, reply_to=f"service.results/{results_queue}",
                    correlation_id=order), mandatory=True)
                transaction.execute("DELETE FROM outbox WHERE id = ?", (order,))
        channel.connection.process_data_events()
        time.sleep(0.05)


def consume_results():
    channel = broker().channel()
    channel.exchange_declare("service.results", "direct", durable=True)
    channel.queue_declare(results_queue, exclusive=True)
    channel.queue_bind(results_queue, "service.results", results_queue)

    def on_result(channel, method, properties, body):
        with db() as transaction:
            transaction.execute("UPDATE orders SET pdf = ?, pages = ? WHERE id = ?",
                                (body, body.count(b"/Type /Page "), properties.correlation_id))
        channel.basic_ack(method.delivery_tag)

    channel.basic_consume(results_queue, on_result)
    print("consuming", flush=True)
    channel.start_consuming()


def supervised(task):
    """A thread whose end ends the process: half a site would be worse than none."""

    def forever():
        try:
            task()
        finally:
            os._exit(1)

    threading.Thread(target=forever, daemon=True).start()


db().close()
supervised(consume_results)
supervised(publish_outbox)
server = ThreadingHTTPServer(("127.0.0.1", port), Site)
print("serving", server.server_port, flush=True)
server.serve_forever()
