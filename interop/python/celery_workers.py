"""Celery's worker processes for the programs here: started until they say `ready`, stopped warmly or killed."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile

from checks import eventually, true

WORK_DIR = tempfile.mkdtemp(prefix="interop-celery-")
running = []


def start(app, name, concurrency=2, **environment):
    """A worker of the application `app` (`module` or `module:attribute`); its output is the file `.log`."""
    log = os.path.join(WORK_DIR, f"{name}.log")
    with open(log, "w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", app, "worker", "-n", f"{name}@{os.environ['CELERY_QUEUE']}",
             "-l", "INFO", "-c", str(concurrency), "-P", "prefork", "-E"],
            cwd=os.path.dirname(os.path.abspath(__file__)), stdout=out, stderr=subprocess.STDOUT,
            start_new_session=True, env={**os.environ, **environment, "C_FORCE_ROOT": "1"})
    process.log = log
    running.append(process)
    eventually(lambda: " ready." in text(process) or process.poll() is not None, f"worker {name} ready", 30)
    true(process.poll() is None, f"worker {name} died: {text(process)[-2000:]}")
    return process


def text(process):
    """What the worker printed so far."""
    with open(process.log) as log:
        return log.read()


def stop(process, how=signal.SIGTERM):
    if process in running:
        running.remove(process)
    if process.poll() is not None:
        return
    try:
        os.killpg(process.pid, how) if how == signal.SIGKILL else process.send_signal(how)
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        true(False, f"the worker did not stop: {text(process)[-1000:]}")


def end():
    """Kills what still runs and removes the logs."""
    for process in list(running):
        stop(process, signal.SIGKILL)
    shutil.rmtree(WORK_DIR, ignore_errors=True)
