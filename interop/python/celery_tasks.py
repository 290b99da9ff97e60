"""Celery as its users run it: a worker process, tasks, retries, chords, remote control, events, a killed worker."""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import celery_workers as workers
from checks import URL, eventually, equal, limit, run, true, unique

QUEUE = unique("celery")
os.environ.update(AMQP_URL=URL, CELERY_QUEUE=QUEUE)

import celery  # noqa: E402  (celery_app reads the environment)
from celery import chain, chord, group  # noqa: E402

import celery_app  # noqa: E402

app = celery_app.app


def start_worker(name, concurrency=2, **environment):
    return workers.start("celery_app", name, concurrency, **environment)


def a_worker_starts_and_raises_its_prefetch_for_the_channel():
    process = start_worker("main")
    true("Global QoS is disabled" not in workers.text(process), "the worker took per-consumer prefetch")


def tasks_return_results_over_rpc():
    results = [celery_app.add.delay(n, n) for n in range(50)]
    equal([result.get(timeout=10) for result in results], [n + n for n in range(50)], "sums")


def groups_and_chains_work_over_rpc():
    equal(group(celery_app.add.s(n, 1) for n in range(10))().get(timeout=10), list(range(1, 11)), "group")
    equal(chain(celery_app.add.s(1, 2), celery_app.add.s(10), celery_app.add.s(100))().get(timeout=10), 113, "chain")


def errors_reach_the_caller():
    try:
        celery_app.explode.delay("boom").get(timeout=10)
        true(False, "no error came")
    except ValueError as error:
        equal(str(error), "boom", "remote error")


def retries_come_back_after_their_countdown():
    started = time.monotonic()
    equal(celery_app.flaky.delay(3).get(timeout=15), 3, "tries")
    true(time.monotonic() - started >= 0.5, "with a delay in between")


def expired_and_revoked_tasks_do_not_run():
    expired = celery_app.add.apply_async((1, 1), expires=-1)
    try:
        expired.get(timeout=10)
        true(False, "an expired task ran")
    except celery.exceptions.TaskRevokedError:
        pass
    later = celery_app.add.apply_async((1, 1), countdown=1.5)
    replies = app.control.revoke(later.id, reply=True, timeout=2)
    equal(len(replies), 1, "workers that answered the revoke")
    true(later.id in str(replies) and "flagged as revoked" in str(replies), f"revoke: {replies}")
    try:
        later.get(timeout=10)
        true(False, "a revoked task ran")
    except celery.exceptions.TaskRevokedError:
        pass


def remote_control_reaches_the_worker():
    name = f"main@{QUEUE}"
    equal(app.control.ping(timeout=2), [{name: {"ok": "pong"}}], "ping")
    inspect = app.control.inspect(timeout=2)
    true("celery_app.add" in inspect.registered()[name], "registered")
    equal([queue["name"] for queue in inspect.active_queues()[name]], [QUEUE], "active queues")
    stats = inspect.stats()[name]
    equal((stats["pool"]["max-concurrency"], stats["prefetch_count"]), (2, 2), "stats")
    equal(list(inspect.active()), [name], "active")
    reply = app.control.rate_limit("celery_app.add", "1000/s", reply=True, timeout=2)
    equal(reply, [{name: {"ok": "new rate limit set successfully"}}], "rate_limit")
    app.control.add_consumer(QUEUE + "-more", reply=True, timeout=2)
    equal(celery_app.add.apply_async((2, 3), queue=QUEUE + "-more").get(timeout=10), 5, "another queue")
    app.control.cancel_consumer(QUEUE + "-more", reply=True, timeout=2)


def events_tell_a_tasks_life():
    seen, ready = {}, threading.Event()

    def listen():
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(
                connection, handlers={"*": lambda event: seen.setdefault(event.get("uuid"), []).append(event["type"])})
            ready.set()
            try:
                receiver.capture(limit=None, timeout=15, wakeup=False)
            except (socket.timeout, OSError):
                pass

    threading.Thread(target=listen, daemon=True).start()
    ready.wait(5)
    time.sleep(0.5)
    result = celery_app.add.delay(4, 4)
    result.get(timeout=10)
    want = {"task-sent", "task-received", "task-started", "task-succeeded"}
    eventually(lambda: want <= set(seen.get(result.id, ())), f"events {want}")
    eventually(lambda: "worker-heartbeat" in seen.get(None, ()), "worker-heartbeat", 10)


@limit(60)
def a_killed_workers_task_runs_again():
    workers.stop(workers.running[-1])
    path = os.path.join(workers.WORK_DIR, "careful")
    first = start_worker("goner", 1)
    result = celery_app.careful.delay(path, 4)
    eventually(lambda: os.path.exists(path), "the task started", 15)
    workers.stop(first, signal.SIGKILL)
    start_worker("heir", 1)
    equal(result.get(timeout=20), "done", "result")
    equal(open(path).read(), "start\nstart\nend\n", "ran twice, ended once")


@limit(60)
def an_eta_task_does_not_hold_up_the_worker():
    # One process, prefetch 1: each task the worker holds for later must raise the prefetch of its running consumer.
    later = [celery_app.add.apply_async((n, 0), countdown=4) for n in range(3)]
    started = time.monotonic()
    equal(celery_app.add.delay(20, 22).get(timeout=15), 42, "the immediate task")
    elapsed = time.monotonic() - started
    true(elapsed < 3, f"it waited {elapsed:.1f} s behind tasks that are due in 4 s")
    equal([result.get(timeout=15) for result in later], [0, 1, 2], "the later tasks")


def a_worker_stops_warmly():
    for process in list(workers.running):
        workers.stop(process)
        equal(process.returncode, 0, "exit code")


@limit(60)
def chords_work_over_a_cache():
    port = _free_port()
    memcached = subprocess.Popen(
        [shutil.which("memcached") or "/usr/bin/memcached", "-u", "root", "-l", "127.0.0.1", "-p", str(port)])
    try:
        backend = f"cache+memcached://127.0.0.1:{port}/"
        start_worker("chords", 2, CELERY_BACKEND=backend)
        with_cache = celery.Celery("interop", broker=URL, backend=backend)
        with_cache.conf.task_default_queue = QUEUE
        header = [with_cache.signature("celery_app.add", (n, n)) for n in range(20)]
        body = with_cache.signature("celery_app.total")
        equal(chord(header, app=with_cache)(body).get(timeout=30), sum(2 * n for n in range(20)), "chord")
        nested = chord([chord(header[:3], body, app=with_cache), header[0]], app=with_cache)(body)
        equal(nested.get(timeout=30), 6, "chord of chords")
        workers.stop(workers.running[-1])
    finally:
        memcached.terminate()
        memcached.wait()


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def nothing_is_left_behind():
    workers.end()
    with app.connection_for_write() as connection:
        channel = connection.channel()
        for queue in (QUEUE, QUEUE + "-more"):
            equal(channel.queue_delete(queue), 0, f"messages left in {queue}")


if __name__ == "__main__":
    run("celery", [
        a_worker_starts_and_raises_its_prefetch_for_the_channel, tasks_return_results_over_rpc,
        groups_and_chains_work_over_rpc, errors_reach_the_caller, retries_come_back_after_their_countdown,
        expired_and_revoked_tasks_do_not_run, remote_control_reaches_the_worker, events_tell_a_tasks_life,
        a_killed_workers_task_runs_again, an_eta_task_does_not_hold_up_the_worker, a_worker_stops_warmly,
        chords_work_over_a_cache, nothing_is_left_behind,
    ])
