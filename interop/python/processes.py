"""Programs of a story as processes: started with the story's environment, watched by the lines they print."""

import os
import queue
import subprocess
import sys
import threading
import time

from checks import Deviation, URL, equal

EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples")
ENVIRONMENT = {**os.environ, "AMQP_URL": URL, "PYTHONUNBUFFERED": "1"}


class Program:
    """A running program; leaving the `with` block ends it."""

    def __init__(self, *arguments, **environment):
        self.command = [sys.executable, *arguments] if arguments[0].endswith(".py") else list(arguments)
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**ENVIRONMENT, **environment})
        self.printed = []
        self._lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def line(self, wanted="", within_s=15):
        """The next line that contains `wanted`."""
        end = time.monotonic() + within_s
        while True:
            try:
                line = self._lines.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                raise Deviation(f"{self.command}: no line {wanted!r} within {within_s} s: {self.printed[-8:]}") from None
            if line is None:
                raise Deviation(f"{self.command} ended before {wanted!r}: {self.printed[-8:]}")
            self.printed.append(line)
            if wanted in line:
                return line

    def finish(self, exit_code=0, within_s=20):
        """All it printed, once it has ended by itself."""
        try:
            self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise Deviation(f"{self.command} did not end within {within_s} s: {self.printed[-8:]}") from None
        while (line := self._lines.get(timeout=5)) is not None:
            self.printed.append(line)
        equal(self.process.returncode, exit_code, f"exit code of {self.command}, which printed {self.printed[-8:]}")
        return self.printed

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()


def python(name, *arguments):
    return Program(os.path.join(EXAMPLES, "python", f"{name}.py"), *map(str, arguments))


def node(name, *arguments):
    return Program("node", os.path.join(EXAMPLES, "node", f"{name}.js"), *map(str, arguments))


def java(name, *arguments):
    return Program("java", "-cp", os.environ["JAVA_CLASS_PATH"], name, *map(str, arguments))


def go(name, *arguments):
    return Program(os.path.join(os.environ["GO_EXAMPLES"], name), *map(str, arguments))


def rust(name, *arguments):
    return Program(os.path.join(os.environ["RUST_EXAMPLES"], name), *map(str, arguments))


def broker(action):
    """START, STOP or KILL: the story has a broker of its own, and these commands for it."""
    command = os.environ.get(f"BROKER_{action}")
    if not command:
        raise Deviation(f"BROKER_{action} is not set: this story must be run with a broker of its own")
    done = subprocess.run(["bash", "-c", f"{command} >&2"], timeout=90)
    equal(done.returncode, 0, f"exit code of {command}")


def restart():
    broker("STOP")
    broker("START")


def crash():
    broker("KILL")
    broker("START")
