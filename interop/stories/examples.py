"""The programs of `examples/`, one language against the other: callers and workers, answers and errors."""

import json
import os
import sqlite3
import tempfile
from contextlib import ExitStack, contextmanager

import pika

from checks import URL, equal, limit, run, true
from processes import EXAMPLES, Program, go, java, node, python, rust
from site_and_service import SiteProcess, expect_document

FORECAST = "Columbus: sunny, 21 °C"


@contextmanager
def ready(program, line="ready"):
    with program:
        program.line(line)
        yield program


def servers():
    """The tutorial's server in every language."""
    yield "rust", rust("tutorial_server")
    yield "python", python("rpc_server")
    yield "node", node("rpc_server")
    yield "java", java("RPCServer")
    yield "go", go("rpc_server")


CLIENTS = {
    "rust": lambda *numbers: rust("tutorial_client", *numbers),
    "python": lambda *numbers: python("rpc_client", *numbers),
    "node": lambda *numbers: node("rpc_client", *numbers),
    "java": lambda *numbers: java("RPCClient", *numbers),
    "go": lambda *numbers: go("rpc_client", *numbers),
}


@limit(120)
def every_client_calls_every_server_and_sees_its_errors():
    for served_by, server in servers():
        with ready(server, "Awaiting RPC requests"):
            for called_by, client in CLIENTS.items():
                printed = [line for line in client(20, -1).finish() if "Requesting" not in line]
                equal(printed, [" [.] Got 6765", " [!] INVALID_ARGUMENT: there is no fib(-1)"],
                      f"answers of {served_by} to {called_by}")


def the_tutorials_transient_queue_is_served_as_it_is():
    connection = pika.BlockingConnection(pika.URLParameters(URL))
    channel = connection.channel()
    channel.queue_delete("rpc_queue")
    channel.queue_declare("rpc_queue")
    with ready(rust("tutorial_server"), "Awaiting RPC requests"):
        equal(python("rpc_client", 10).finish()[-1], " [.] Got 55", "answer")
    channel.queue_delete("rpc_queue")
    connection.close()


def a_call_without_a_server_says_so():
    program = rust("tutorial_client", 1)
    printed = program.finish(exit_code=1)
    true(any("NoRoute" in line or "NoWorker" in line for line in printed), f"the reason: {printed}")


def a_typed_error_comes_from_a_python_worker():
    with ready(python("weather_worker")):
        equal(rust("weather_client", "Columbus", "Oz").finish(), [FORECAST, "Oz: not found: no such city"], "rust")
        equal(python("weather_client", "Columbus", "Oz").finish(), [FORECAST, "Oz: NOT_FOUND: no such city"], "python")


def one_rust_worker_serves_callers_of_every_kind():
    with ready(rust("weather_worker")):
        told = {
            "ours": rust("weather_client", "Columbus", "Oz"),
            "pika": python("weather_client", "Columbus", "Oz"),
            "Celery": python("weather_celery", "Columbus", "Oz"),
            "nameko": python("weather_nameko", "Columbus", "Oz"),
            "Nest": node("weather_nest", "Columbus", "Oz"),
        }
        errors = {"ours": "not found: no city called Oz", "pika": "NOT_FOUND: no city called Oz",
                  "Celery": "LookupError: no city called Oz", "nameko": "no city called Oz",
                  "Nest": "NOT_FOUND: no city called Oz"}
        for caller, program in told.items():
            lines = [line for line in program.finish() if line.startswith(("Columbus", "Oz"))]
            equal(lines[0], FORECAST, f"forecast for {caller}")
            true(errors[caller] in lines[1], f"error for {caller}: {lines[1]}")
        places = json.dumps([{"city": "Columbus"}, {"city": "Richmond"}])
        warmest = rust("leveret", "call", "--url", URL, "weather", "--type", "warmest", places).finish()
        equal(json.loads(warmest[0]), {"city": "Richmond"}, "a list is no wrapper of any of them")


def a_shell_script_is_a_worker():
    script = os.path.join(EXAMPLES, "shell", "forecast.sh")
    work = rust("leveret", "work", "weather", "--url", URL, "--content-type", "application/json", "--", script)
    with ready(work, "is served"):
        equal(python("weather_client", "Columbus", "Oz").finish(), [FORECAST, "Oz: INVALID_ARGUMENT: no such city"],
              "pika")
        equal(rust("weather_client", "Columbus").finish(), [FORECAST], "rust")


def leveret_call_asks_a_python_server():
    def call(*arguments, exit_code=0):
        return rust("leveret", "call", "--url", URL, *arguments).finish(exit_code)

    with ready(python("rpc_server"), "Awaiting RPC requests"):
        equal(call("rpc_queue", "20"), ["6765"], "answer")
        printed = call("rpc_queue", "--json", "--", "-1", exit_code=1)
        equal(json.loads(printed[0])["code"], "INVALID_ARGUMENT", "error")
    with ready(python("weather_worker")):
        equal(json.loads(call("weather", '{"city": "Columbus"}')[0]), {"sky": "sunny", "celsius": 21}, "forecast")
        printed = call("weather", '{"city": "Oz"}', exit_code=1)
        true("no such city" in printed[-1], f"error: {printed}")
    call("nobody", "1", exit_code=3)


def farms_of_both_languages_share_the_requests():
    with ready(python("farm", "ohio-python", "#.ohio")), ready(rust("farm", "ohio-rust", "#.ohio")), \
            ready(rust("farm", "virginia-rust", "#.virginia")):
        for client in (python, rust):
            printed = client("farm_client", 10, "weather.ohio", "weather.virginia").finish()
            served = sorted(line.split(" served ")[1] for line in printed)
            equal(served, sorted(f"{subject} {subject}-{n}" for n in range(10)
                                 for subject in ("weather.ohio", "weather.virginia")), "each once")
            equal({line.split()[0] for line in printed}, {"ohio-python", "ohio-rust", "virginia-rust"}, "who served")


def one_call_asks_a_hundred_thermometers():
    with ready(python("thermometers", 0, 50)), ready(rust("thermometers", 50, 50)):
        for client in (python, rust):
            printed = client("ask_thermometers", 100).finish()
            readings = {int(line.split()[0]): float(line.split()[1]) for line in printed[:-1]}
            equal(readings, {n: n / 10 for n in range(100)}, f"readings, {printed[-1]}")
            true(printed[-1].startswith("100 answers"), printed[-1])


def letters_go_from_one_language_to_the_other():
    for reader, writer in ((rust, python), (python, rust), (rust, rust)):
        box = reader("po_box", 2)
        box.line("waiting")
        writer("sorting_room", "dear jason", "write soon").finish()
        received = [line for line in box.finish() if line.startswith("Received")]
        equal([line.split(" from channel")[0] for line in received], ["Received: dear jason", "Received: write soon"],
              "letters")


def sites_and_services_of_both_languages():
    with tempfile.TemporaryDirectory(prefix="interop-examples-") as folder:
        for name, service in (("rust", rust), ("python", python)):
            database = os.path.join(folder, f"{name}.sqlite")
            with ready(service("service")):
                sites = [rust("website", f"{name}.{n}", database, *(f"Page {k}" for k in range(5)), "!never")
                         for n in range(2)]
                for site in sites:
                    equal(len([line for line in site.finish() if "a PDF of" in line]), 5, "documents")
            orders = sqlite3.connect(database).execute("SELECT title, pdf FROM orders").fetchall()
            equal(sorted(title for title, _ in orders), sorted(f"Page {k}" for k in range(5) for _ in range(2)), "orders")
            for title, pdf in orders:
                true(pdf.startswith(b"%PDF-1.4") and f"({title})".encode() in pdf, f"the PDF of {title}")
            with ExitStack() as stack:
                stack.enter_context(ready(service("service")))
                site = SiteProcess(stack, name)
                expect_document(site, site.order("Invoice")[1].decode(), "Invoice")


def an_order_waits_for_its_service():
    with tempfile.TemporaryDirectory(prefix="interop-examples-") as folder:
        with rust("website", "patient", os.path.join(folder, "site.sqlite"), "Early") as site:
            with ready(rust("service")):
                site.line("a PDF of")
                site.finish()


if __name__ == "__main__":
    run("examples", [
        every_client_calls_every_server_and_sees_its_errors, the_tutorials_transient_queue_is_served_as_it_is,
        a_call_without_a_server_says_so, a_typed_error_comes_from_a_python_worker,
        one_rust_worker_serves_callers_of_every_kind, a_shell_script_is_a_worker, leveret_call_asks_a_python_server,
        farms_of_both_languages_share_the_requests, one_call_asks_a_hundred_thermometers,
        letters_go_from_one_language_to_the_other, sites_and_services_of_both_languages, an_order_waits_for_its_service,
    ])
