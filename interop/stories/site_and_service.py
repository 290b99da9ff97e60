"""Story 5, the site and the service: two sites of two processes each, an outbox, and a service that answers PDFs."""

import os
import shutil
import sqlite3
import tempfile
import urllib.error
import urllib.request
from contextlib import ExitStack

import pika

from checks import URL, equal, eventually, run, true
from processes import python

WORK_DIR = tempfile.mkdtemp(prefix="interop-site-")


class SiteProcess:
    def __init__(self, stack, name):
        self.database = os.path.join(WORK_DIR, f"{name}.sqlite")
        self.program = stack.enter_context(python("website", name, self.database, 0))
        for _ in range(2):
            line = self.program.line("ing")
            if line.startswith("serving"):
                self.base = f"http://127.0.0.1:{line.split()[1]}"

    def order(self, title, fail=False):
        return _http(f"{self.base}/orders{'?fail' if fail else ''}", title.encode())

    def document(self, order):
        return _http(f"{self.base}/orders/{order}")


def _http(url, body=None):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def service(stack):
    program = stack.enter_context(python("service"))
    program.line("ready")
    return program


def expect_document(site, order, title):
    status, pdf = eventually(lambda: (got := site.document(order))[0] == 200 and got, f"the PDF of {title}", 15)
    true(pdf.startswith(b"%PDF-1.4") and pdf.endswith(b"%%EOF\n"), "a whole PDF")
    true(f"({title})".encode() in pdf, f"the PDF says {title}")


def an_order_becomes_a_document():
    with ExitStack() as stack:
        service(stack)
        site = SiteProcess(stack, "shop")
        status, order = site.order("Invoice 1")
        equal(status, 201, "status")
        expect_document(site, order.decode(), "Invoice 1")


def every_process_gets_its_own_answers():
    with ExitStack() as stack:
        for _ in range(2):
            service(stack)
        sites = [SiteProcess(stack, name) for name in ("shop", "shop", "blog", "blog")]
        orders = [(site, site.order(f"Page {n}")[1].decode(), f"Page {n}") for n in range(10) for site in sites]
        for site, order, title in orders:
            expect_document(site, order, title)
        for database in {site.database for site in sites}:
            rows = sqlite3.connect(database).execute(
                "SELECT count(*), sum(pages) FROM orders WHERE title LIKE 'Page %'").fetchone()
            equal(rows, (20, 20), f"documents in {os.path.basename(database)}")


def a_rolled_back_order_sends_nothing():
    with ExitStack() as stack:
        rendering = service(stack)
        site = SiteProcess(stack, "shop")
        equal(site.order("never", fail=True)[0], 500, "status")
        _, order = site.order("Sentinel")
        expect_document(site, order.decode(), "Sentinel")
        rendering.line("rendering Sentinel")
        true(not any("never" in line for line in rendering.printed), "the rolled back order was rendered")


def orders_wait_for_the_service():
    with ExitStack() as stack:
        site = SiteProcess(stack, "shop")
        orders = [(site.order(f"Late {n}")[1].decode(), f"Late {n}") for n in range(5)]
        equal(site.document(orders[0][0])[0], 202, "not yet")
        service(stack)
        for order, title in orders:
            expect_document(site, order, title)


def nothing_is_left_behind():
    connection = pika.BlockingConnection(pika.URLParameters(URL))
    channel = connection.channel()
    equal(channel.queue_delete("service.my_template").method.message_count, 0, "tasks left")
    for exchange in ("service.tasks", "service.results"):
        channel.exchange_delete(exchange)
    connection.close()
    shutil.rmtree(WORK_DIR, ignore_errors=True)


if __name__ == "__main__":
    run("story-site-and-service", [
        an_order_becomes_a_document, every_process_gets_its_own_answers, a_rolled_back_order_sends_nothing,
        orders_wait_for_the_service, nothing_is_left_behind,
    ])
