"""Story 4, the tutorial RPC: its server and its client, alone and several of each."""

from contextlib import ExitStack

import pika

from checks import URL, equal, run, true
from processes import python


def server():
    program = python("rpc_server")
    program.line("Awaiting RPC requests")
    return program


def client(*numbers):
    return python("rpc_client", *numbers)


def one_client_and_one_server():
    with server() as serving:
        equal(client(20).finish(), [" [x] Requesting fib(20)", " [.] Got 6765"], "client")
        equal(serving.line("fib"), " [.] fib(20)", "server")


def a_call_before_the_server_starts_waits_for_it():
    waiting = client(10)
    waiting.line("Requesting")
    with server():
        equal(waiting.finish()[-1], " [.] Got 55", "answer")


def many_clients_and_three_servers():
    fibonacci = [0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377]
    with ExitStack() as servers:
        serving = [servers.enter_context(server()) for _ in range(3)]
        clients = [client(*range(15)) for _ in range(4)]
        for program in clients:
            got = [int(line.split()[-1]) for line in program.finish() if "Got" in line]
            equal(got, fibonacci, "answers")
        for program in serving:
            true(program.line("fib"), "every server was asked")


def a_server_that_dies_loses_no_call():
    with server() as goner:
        caller = client(30, 31, 5)
        goner.line("fib(31)")
        goner.kill()
    with server():
        equal([line.split()[-1] for line in caller.finish() if "Got" in line], ["832040", "1346269", "5"], "answers")


def nothing_is_left_in_the_queue():
    connection = pika.BlockingConnection(pika.URLParameters(URL))
    channel = connection.channel()
    equal(channel.queue_delete("rpc_queue").method.message_count, 0, "calls left")
    connection.close()


if __name__ == "__main__":
    run("story-tutorial-rpc", [
        one_client_and_one_server, a_call_before_the_server_starts_waits_for_it, many_clients_and_three_servers,
        a_server_that_dies_loses_no_call, nothing_is_left_in_the_queue,
    ])
