"""Story 1, the recipe: clients and workers in Python, Java and Rust share one durable queue of questions."""

import json
import os
import sys
import threading

import pika

from checks import URL, eventually, equal, limit, run, true
from processes import EXAMPLES, java, python, restart, rust

sys.path.append(os.path.join(EXAMPLES, "python"))
from recipe_client import ask  # noqa: E402


def python_worker(name):
    program = python("recipe_worker", name)
    program.line("ready")
    return program


def java_worker(name):
    program = java("RecipeWorker", name)
    program.line("ready")
    return program


def python_client(question):
    return json.loads(python("recipe_client", question).finish()[-1])


def java_client(question):
    return json.loads(java("RecipeClient", question).finish()[-1])


def rust_worker(_name):
    program = rust("recipe_worker")
    program.line("ready")
    return program


def rust_client(question):
    return {"a": json.loads(rust("recipe_client", question).finish()[-1])}


def connect():
    return pika.BlockingConnection(pika.URLParameters(URL))


def every_client_meets_every_worker():
    for worker in (python_worker, java_worker, rust_worker):
        with worker("any"):
            for client in (python_client, java_client, rust_client):
                equal(client("hello hare")["a"], "HELLO HARE", f"answer to {client.__name__} by {worker.__name__}")


def workers_share_the_questions():
    with python_worker("one"), python_worker("two"), java_worker("three"), rust_worker("four"):
        answered = []

        def ask_some(first):
            connection = connect()
            for n in range(first, first + 20):
                answer = ask(connection, f"question {n}")
                answered.append((n, answer["a"] == f"QUESTION {n}", answer.get("by", "four")))
            connection.close()

        askers = [threading.Thread(target=ask_some, args=(20 * k,)) for k in range(3)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join(20)
        equal(sorted(n for n, right, _ in answered if right), list(range(60)), "right answers")
        equal({by for _, _, by in answered}, {"one", "two", "three", "four"}, "every worker took part")


def without_a_qid_the_work_is_done_and_nobody_answered():
    connection = connect()
    channel = connection.channel()
    overheard = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(overheard, "amq.topic", "#")
    for start in (python_worker, rust_worker):
        with start("quiet") as worker:
            channel.basic_publish("", "questions", json.dumps({"q": "just do it"}))
            worker.line("done just do it")
            ask(connection, "and now")
            answers = []
            while (got := channel.basic_get(overheard, auto_ack=True))[0]:
                answers.append(json.loads(got[2])["a"])
            equal(answers, ["AND NOW"], "answers on the exchange")
    connection.close()


def a_response_queue_goes_with_its_question():
    connection = connect()
    before = connection.channel()
    with python_worker("tidy"):
        ask(connection, "who cleans up")
    # The channel of the question is closed and its queue deleted: an answer now has nowhere to go.
    before.confirm_delivery()
    try:
        before.basic_publish("amq.topic", "no-such-qid", b"{}", mandatory=True)
        true(False, "a response queue was left behind")
    except pika.exceptions.UnroutableError:
        pass
    connection.close()


def a_question_of_a_dead_worker_is_answered_by_the_next():
    for start in (python_worker, rust_worker):
        with start("goner") as goner:
            connection = connect()
            answers = []
            asker = threading.Thread(target=lambda: answers.append(ask(connection, "slow and steady")))
            asker.start()
            goner.line("working slow and steady")
            goner.kill()
        with start("heir"):
            asker.join(15)
        equal([answer["a"] for answer in answers], ["SLOW AND STEADY"], "answer")


@limit(90)
def questions_wait_for_a_worker_even_over_a_restart():
    connection = connect()
    channel = connection.channel()
    channel.confirm_delivery()
    for n in range(10):
        channel.basic_publish("", "questions", json.dumps({"q": f"patient {n}"}), pika.BasicProperties(delivery_mode=2))
    connection.close()
    restart()
    with python_worker("late") as worker:
        for n in range(10):
            worker.line(f"done patient {n}")
    connection = connect()
    eventually(lambda: connection.channel().queue_declare("questions", passive=True).method.message_count == 0, "empty")
    connection.close()


if __name__ == "__main__":
    run("story-recipe", [
        every_client_meets_every_worker, workers_share_the_questions,
        without_a_qid_the_work_is_done_and_nobody_answered, a_response_queue_goes_with_its_question,
        a_question_of_a_dead_worker_is_answered_by_the_next, questions_wait_for_a_worker_even_over_a_restart,
    ])
