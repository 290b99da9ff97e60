"""The Celery applications whose workers celery_delays.py starts: one on classic queues, one on quorum queues."""

import os
import time

from celery import Celery, shared_task

QUEUE = os.environ["CELERY_QUEUE"]


def application(kind, **settings):
    app = Celery(f"delays-{kind}", broker=os.environ["AMQP_URL"], backend="rpc://")
    name = f"{QUEUE}-{kind}"
    app.conf.update(
        task_default_queue=name, task_default_exchange=name, task_default_routing_key=name,
        worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True,
        worker_cancel_long_running_tasks_on_connection_loss=True, broker_transport_options={"confirm_publish": True},
        # Several runs share a broker: each has its own names for remote control and events.
        control_exchange=name + "-control", event_exchange=name + "-events", event_queue_prefix=name + "-ev",
        **settings)
    return app


classic = application("classic", task_queue_max_priority=10)
# Kombu's ladder of delays needs a topic exchange to come back to.
quorum = application("quorum", task_default_queue_type="quorum", task_default_exchange_type="topic")


@shared_task
def clock():
    return time.time()


@shared_task
def note(path, word):
    """Leaves a line for those who cannot get a result: a broker that crashed has lost the result's queue."""
    with open(path, "a") as log:
        log.write(f"{word} {time.time()}\n")


@shared_task(bind=True, max_retries=2)
def insist(self, path):
    """Never works; says when it was tried."""
    note(path, self.request.retries)
    raise self.retry(countdown=1, exc=ValueError("never works"))


@shared_task(bind=True, acks_late=True, reject_on_worker_lost=True)
def careful(self, path, seconds):
    note(path, "start")
    time.sleep(seconds)
    note(path, "end")
    return bool(self.request.delivery_info["redelivered"])
