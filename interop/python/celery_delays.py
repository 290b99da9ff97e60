"""Celery's tasks for later, on classic queues (the worker holds them) and on quorum queues (the broker holds them).

As soon as one of its queues is a quorum queue, Celery publishes tasks with an ETA to Kombu's native delayed delivery:
28 exchanges and quorum queues, each with a TTL of 2^level seconds, that dead-letter at least once to the next level.
"""

import datetime
import os
import signal
import time

import celery_workers as workers
from checks import URL, equal, eventually, limit, run, true, unique
from processes import crash

os.environ.update(AMQP_URL=URL, CELERY_QUEUE=unique("delays"))

import celery_delays_app as tasks  # noqa: E402  (it reads the environment)

LEVELS = 28


def later(app, task, *arguments, **options):
    return app.tasks[f"celery_delays_app.{task}"].apply_async(arguments, **options)


def notes(path):
    """The lines of `note`, as (word, time)."""
    if not os.path.exists(path):
        return []
    with open(path) as log:
        return [(word, float(at)) for word, at in map(str.split, log)]


def file_for(name):
    return os.path.join(workers.WORK_DIR, name)


def on_time(late_s, what):
    """A task never runs early; the ladder of whole seconds and a busy machine may make it late."""
    true(0 <= late_s < 2, f"{what} ran {late_s:+.2f} s from its time")


def etas_and_countdowns_are_kept(app, task_for_now_within_s):
    started = time.time()
    want = {countdown: later(app, "clock", countdown=countdown) for countdown in (3, 1, 2, 5)}
    eta = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=4)
    by_eta = later(app, "clock", eta=eta)
    now = later(app, "clock").get(timeout=10)
    true(now - started < task_for_now_within_s, f"a task for now ran after {now - started:.2f} s")
    for countdown, result in want.items():
        on_time(result.get(timeout=15) - started - countdown, f"countdown {countdown}")
    on_time(by_eta.get(timeout=15) - eta.timestamp(), "eta")


def retries_wait_and_end(app):
    path = file_for(f"insist-{app.main}")
    result = later(app, "insist", path)
    try:
        result.get(timeout=20)
        true(False, "it worked")
    except ValueError as error:
        equal(str(error), "never works", "the error after the last retry")
    words, times = zip(*notes(path))
    equal(words, ("0", "1", "2"), "tries: max_retries is 2")
    for earlier, at in zip(times, times[1:]):
        on_time(at - earlier - 1, "a retry after 1 s")


def a_killed_workers_task_runs_again(app, attribute, first):
    path = file_for(f"careful-{attribute}")
    result = later(app, "careful", path, 3)
    eventually(lambda: notes(path), "the task started", 15)
    workers.stop(first, signal.SIGKILL)
    heir = workers.start(f"celery_delays_app:{attribute}", f"heir-{attribute}", 1)
    equal(result.get(timeout=20), True, "redelivered")
    equal([word for word, _ in notes(path)], ["start", "start", "end"], "ran twice, ended once")
    return heir


@limit(60)
def a_classic_worker_holds_tasks_and_raises_its_prefetch():
    # Concurrency 1, prefetch 1: were the prefetch not raised, each task held would keep the next ones in the queue.
    workers.start("celery_delays_app:classic", "classic", 1)
    etas_and_countdowns_are_kept(tasks.classic, task_for_now_within_s=4.5)


def retries_through_a_classic_queue_end_at_their_limit():
    retries_wait_and_end(tasks.classic)


def a_rate_limit_spreads_tasks():
    reply = tasks.classic.control.rate_limit("celery_delays_app.clock", "4/s", reply=True, timeout=2)
    equal(len(reply), 1, "workers that answered")
    results = [later(tasks.classic, "clock") for _ in range(9)]
    times = sorted(result.get(timeout=15) for result in results)
    true(times[-1] - times[0] > 1.5, f"nine tasks at 4/s took {times[-1] - times[0]:.2f} s")
    tasks.classic.control.rate_limit("celery_delays_app.clock", None, reply=True, timeout=2)


@limit(90)
def urgent_tasks_go_first():
    path = file_for("urgent")
    workers.stop(workers.running[-1])
    for priority in (1, 9, 0, 5, 9):
        later(tasks.classic, "note", path, str(priority), priority=priority)
    workers.start("celery_delays_app:classic", "classic-again", 1)
    eventually(lambda: len(notes(path)) == 5, "five tasks", 10)
    equal([word for word, _ in notes(path)], ["9", "9", "5", "1", "0"], "order")


@limit(90)
def a_classic_workers_task_outlives_it():
    workers.stop(a_killed_workers_task_runs_again(tasks.classic, "classic", workers.running[-1]))


@limit(60)
def a_quorum_worker_declares_the_ladder():
    worker = workers.start("celery_delays_app:quorum", "quorum", 1)
    true("Global QoS is disabled" in workers.text(worker), "it knows that its queue is a quorum queue")
    true("Failed to" not in workers.text(worker), workers.text(worker))
    with tasks.quorum.connection_for_write() as connection:
        for level in range(LEVELS):
            connection.default_channel.queue_declare(f"celery_delayed_{level}", passive=True)
            connection.default_channel.exchange_declare(f"celery_delayed_{level}", "topic", passive=True)


@limit(60)
def the_broker_holds_tasks_for_a_quorum_queue():
    etas_and_countdowns_are_kept(tasks.quorum, task_for_now_within_s=1)


def retries_through_the_ladder_end_at_their_limit():
    retries_wait_and_end(tasks.quorum)


@limit(60)
def a_task_for_later_does_not_need_the_worker_meanwhile():
    started = time.time()
    result = later(tasks.quorum, "clock", countdown=6)
    workers.stop(workers.running[-1])
    workers.start("celery_delays_app:quorum", "quorum-again", 1)
    ready = time.time()
    on_time(result.get(timeout=20) - max(started + 6, ready), "after the restart of the worker")


@limit(90)
def a_quorum_workers_task_outlives_it():
    a_killed_workers_task_runs_again(tasks.quorum, "quorum", workers.running[-1])


@limit(120)
def tasks_for_later_survive_a_crash_of_the_broker():
    path = file_for("crash")
    for countdown in (1, 8):
        later(tasks.quorum, "note", path, f"{countdown}", countdown=countdown)
    sent = time.time()
    crash()
    eventually(lambda: len(notes(path)) == 2, "two tasks, by the worker that came back", 60)
    equal(sorted(word for word, _ in notes(path)), ["1", "8"], "each once")
    true(dict(notes(path))["8"] - sent >= 7.9, "not before its time")


def nothing_is_left_behind():
    for process in list(workers.running):  # warmly: it acknowledges what it did
        workers.stop(process)
    workers.end()
    with tasks.quorum.connection_for_write() as connection:
        channel = connection.default_channel
        for name in [f"{tasks.QUEUE}-{kind}" for kind in ("classic", "quorum")]:
            equal(channel.queue_delete(name), 0, f"tasks left in {name}")
            channel.exchange_delete(name)
        for level in range(LEVELS):
            equal(channel.queue_delete(f"celery_delayed_{level}"), 0, f"tasks left in level {level}")
            channel.exchange_delete(f"celery_delayed_{level}")
        channel.exchange_delete("celery_delayed_delivery")


if __name__ == "__main__":
    run("celery_delays", [
        a_classic_worker_holds_tasks_and_raises_its_prefetch, retries_through_a_classic_queue_end_at_their_limit,
        a_rate_limit_spreads_tasks, urgent_tasks_go_first, a_classic_workers_task_outlives_it,
        a_quorum_worker_declares_the_ladder, the_broker_holds_tasks_for_a_quorum_queue,
        retries_through_the_ladder_end_at_their_limit, a_task_for_later_does_not_need_the_worker_meanwhile,
        a_quorum_workers_task_outlives_it, tasks_for_later_survive_a_crash_of_the_broker, nothing_is_left_behind,
    ])
