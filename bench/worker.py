"""Processes that stay alive and are asked in turns: a request is a line of JSON, and so is the answer.

Imports the standard library alone, so that it can be run in any environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Worker", "command_of", "serve", "timed"]

TIMEOUT = 600.0
"""Seconds that a request may take, compilation among them."""


# Of Python: this room, the package ``bench``, goes behind the checkout whose ``numbacnn`` is imported.
START = (
    "import sys; sys.path.insert(0, {package!r}); import numbacnn; sys.path.insert(0, {bench!r}); "
    "import {module} as worker; worker.main()"
)


def command_of(checkout: Path, module: str, *arguments: str) -> list[str]:
    """What runs ``main`` of a module of this ``bench`` with the ``numbacnn`` of a checkout."""
    bench = Path(__file__).parent.parent
    return [sys.executable, "-c", START.format(package=str(checkout), bench=str(bench), module=module), *arguments]


class Worker:
    """The parent's end of a process that runs :func:`serve`; a context manager that ends it.

    Args:
        command: the program and its arguments.
        environment: variables beside those of this process.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def ask(self, what: str, **arguments: Any) -> Any:
        """The answer. RuntimeError where it fails, ends or takes longer than TIMEOUT seconds."""
        assert self._process.stdin is not None and self._process.stdout is not None
        clock = threading.Timer(TIMEOUT, self._process.kill)
        clock.start()
        try:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(json.dumps([what, arguments]) + "\n")
                self._process.stdin.flush()
            line = self._process.stdout.readline()
        finally:
            clock.cancel()
        if not line:
            raise RuntimeError(self._last_words())
        error, answer = json.loads(line)
        if error is not None:
            raise RuntimeError(error)
        return answer

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().strip().splitlines()
        return said[-1] if said else f"the process ended with exit code {code}"

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve(answers: Mapping[str, Callable[..., Any]]) -> None:
    """Answer requests until the parent closes its end; what is printed meanwhile goes to the errors."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        what, arguments = json.loads(line)
        try:
            reply = [None, answers[what](**arguments)]
        except Exception as error:
            reply = [f"{type(error).__name__}: {error}", None]
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def timed(run: Callable[[], object], least: float = 0.0) -> float:
    """Seconds of a call, after one that is not timed: the mean of as many in a row as take ``least`` seconds."""
    run()
    calls, start = 0, time.perf_counter()
    while True:
        run()
        calls += 1
        seconds = time.perf_counter() - start
        if seconds >= least:
            return seconds / calls
