"""What every program here shares: where the broker is, and a count of the steps that held.

A program is a list of steps, plain functions that raise when the broker deviates. `run` gives each its own
time limit, goes on after a failure, prints `NAME: N passed, M failed` last and exits 1 if anything failed.
"""

import functools
import os
import signal
import sys
import time
import traceback
import uuid

HOST = os.environ.get("AMQP_HOST", "127.0.0.1")
PORT = int(os.environ.get("AMQP_PORT", "5672"))
URL = os.environ.get("AMQP_URL", f"amqp://guest:guest@{HOST}:{PORT}/%2F")
STEP_TIMEOUT_S = 30


class Deviation(AssertionError):
    """The broker did something else than RabbitMQ does."""


class LeftOut(Exception):
    """The peer cannot do what the step asks for: nothing to compare with."""


def equal(got, want, what):
    if got != want or isinstance(got, bool) != isinstance(want, bool):
        raise Deviation(f"{what}: got {got!r}, want {want!r}")


def true(condition, what):
    if not condition:
        raise Deviation(what)


def eventually(probe, what, within_s=5.0):
    """The first true value of `probe()`, asked again and again."""
    end = time.monotonic() + within_s
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > end:
            raise Deviation(f"{what}: still not so after {within_s} s (last: {value!r})")
        time.sleep(0.02)


def unique(prefix):
    """A name nobody else uses: runs never trip over what an earlier one left."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def run(name, steps):
    """Runs the steps in order and ends the process."""
    passed = failed = 0
    for step in steps:
        title = step.__name__.replace("_", " ")
        try:
            _limited(step)
        except LeftOut as why:
            print(f"left out {name}: {title}: {why}")
        except BaseException as error:  # a step may leave by SystemExit or by the alarm
            failed += 1
            print(f"FAILED {name}: {title}: {type(error).__name__}: {error}")
            if not isinstance(error, Deviation):
                traceback.print_exc()
            if isinstance(error, KeyboardInterrupt):
                break
        else:
            passed += 1
            print(f"ok {name}: {title}")
        sys.stdout.flush()
    print(f"{name}: {passed} passed, {failed} failed", flush=True)
    # Some clients leave threads behind after a failure: do not wait for them.
    os._exit(1 if failed or not passed else 0)


def _limited(step):
    def too_long(*_):
        raise Deviation(f"no answer within {limit} s")

    limit = getattr(step, "timeout_s", STEP_TIMEOUT_S)
    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(limit)
    try:
        step()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def only_on_leveret(why):
    """Leaves a step out on a RabbitMQ that needs a plugin or a later version for it. Leveret must always pass it."""

    def mark(step):
        @functools.wraps(step)
        def run_or_leave():
            if not is_leveret():
                raise LeftOut(why)
            step()

        return run_or_leave

    return mark


@functools.cache
def is_leveret():
    import pika  # only the programs with such steps need it

    connection = pika.BlockingConnection(pika.URLParameters(URL))
    try:
        return "leveret_version" in connection._impl.server_properties
    finally:
        connection.close()


def limit(seconds):
    """Gives a step another time limit than STEP_TIMEOUT_S."""

    def mark(step):
        step.timeout_s = seconds
        return step

    return mark
