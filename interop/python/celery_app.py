"""The Celery application whose worker celery_tasks.py starts: `celery -A celery_app worker`."""

import os
import time

from celery import Celery

app = Celery("interop", broker=os.environ["AMQP_URL"], backend=os.environ.get("CELERY_BACKEND", "rpc://"))
app.conf.update(
    task_default_queue=os.environ["CELERY_QUEUE"],
    worker_prefetch_multiplier=1,
    worker_send_task_events=True,
    task_send_sent_event=True,
    task_track_started=True,
    result_expires=600,
    broker_connection_retry_on_startup=True,
    worker_cancel_long_running_tasks_on_connection_loss=True,
    # Several runs share a broker: each has its own names for remote control and events.
    control_exchange=os.environ["CELERY_QUEUE"] + "-control",
    event_exchange=os.environ["CELERY_QUEUE"] + "-events",
    event_queue_prefix=os.environ["CELERY_QUEUE"] + "-ev",
)


@app.task
def add(x, y):
    return x + y


@app.task
def total(numbers):
    return sum(numbers)


@app.task(bind=True, max_retries=5)
def flaky(self, failures):
    """Fails that many times, then says how often it was tried."""
    if self.request.retries < failures:
        raise self.retry(countdown=0.2)
    return self.request.retries


@app.task
def explode(text):
    raise ValueError(text)


@app.task(acks_late=True)
def careful(path, seconds):
    """Writes a line when it starts and when it ends: a killed worker leaves only the first."""
    with open(path, "a") as log:
        log.write("start\n")
    time.sleep(seconds)
    with open(path, "a") as log:
        log.write("end\n")
    return "done"
