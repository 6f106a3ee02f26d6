"""What a captured step is going to call, compiled by several processes at once before any of it runs.

Most of compiling is done by Python code, of which a process runs one thread at a time: an empty cache would keep one
core busy for as long as all kernels together take. So this process shares them with helpers, new Python processes that
leave what they compile in the cache, and loads it from there. Where a helper cannot be started, ends early or does not
answer, this process compiles its share as well.

The environment variable NUMBACNN_COMPILE_PROCESSES says how many helpers there may be; 0 is none.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pickle
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple, Protocol

from numba.core import config

from . import threads
from .machine_code import cache_folder

__all__ = ["Request", "compile_all", "serve"]

# A helper takes about as long to start as this many kernels do to compile.
MIN_KERNELS_PER_HELPER = 4
MAX_HELPERS = 7
# What a helper says first: a program that is no Python, or a Python that prints when it starts, does not say it.
GREETING = b"numbacnn compiles\n"
# A helper that takes longer than this for one kernel is given up.
MAX_SECONDS = 120.0
# The path to search is given after the options, so that nothing is imported from where the process happens to be.
SERVE = f"import sys; sys.path[:] = sys.argv[1:]; from {__name__} import serve; serve()"


class Compilable(Protocol):
    """A kernel or microkernel, by its definition's name in its module."""

    definition: Callable[..., None]

    def prepare(self, *arguments: Any) -> Any:
        """Compile it for ``arguments``, or load it from the cache."""

    def is_cached(self, *arguments: Any) -> bool:
        """Whether the cache has it."""


class Request(NamedTuple):
    what: Compilable
    arguments: tuple[Any, ...]

    @property
    def name(self) -> tuple[str, str]:
        """By which a helper finds it: its module, and its name there."""
        return self.what.definition.__module__, self.what.definition.__name__

    @property
    def can_be_sent(self) -> bool:
        module, name = self.name
        return module != "__main__" and getattr(sys.modules.get(module), name, None) is self.what

    @property
    def size(self) -> int:
        """Which tells about how long it takes to compile."""
        return len(self.what.definition.__code__.co_code)


def compile_all(requests: Iterable[Request]) -> None:
    """Have each of ``requests`` in the cache or compiled in this process; do nothing where nothing can be cached."""
    most_helpers = _most_helpers()
    if cache_folder() is None:
        return
    asked = (*requests, *(Request(entry, ()) for entry in threads.needs()))
    missing = sorted((r for r in asked if not r.what.is_cached(*r.arguments)), key=lambda r: -r.size)
    if not missing:
        return
    sent = deque(request for request in missing if request.can_be_sent)
    helpers: list[_Helper] = []
    try:
        helpers += [_Helper(sent) for _ in range(min(most_helpers, len(sent) // MIN_KERNELS_PER_HELPER))]
        with _no_collections():
            for request in missing:
                if not request.can_be_sent:
                    request.what.prepare(*request.arguments)
            while sent:
                with contextlib.suppress(IndexError):  # a helper took the last one
                    request = sent.popleft()
                    request.what.prepare(*request.arguments)
    except BaseException:
        for helper in helpers:
            helper.kill()
        raise
    finally:
        sent.clear()
        for helper in helpers:
            helper.end()


def _most_helpers() -> int:
    """How many processes may be started; none where ``sys.executable`` is a program that Python is only a part of."""
    given = os.environ.get("NUMBACNN_COMPILE_PROCESSES")
    most = min(threads.number() - 1, MAX_HELPERS)
    if given is not None:
        if not given.strip().isdecimal():
            raise ValueError(f"NUMBACNN_COMPILE_PROCESSES {given!r} must be a whole number, 0 for no processes")
        most = int(given)
    name = os.path.basename(sys.executable or "").lower()
    return most if name.startswith("python") and not getattr(sys, "frozen", False) else 0


def _search_path() -> list[str]:
    """Where a helper looks for modules: as this process, but in the current folder last, and only if this one does.

    A file there that is named like one of Python's own modules is then not taken for it. Where this package lies there
    itself, the order is this process's, or another copy might be found first.
    """
    given = [path for path in sys.path if isinstance(path, str)]
    try:
        here = os.path.realpath(os.getcwd())
    except OSError:  # it was removed
        return [path for path in given if path]
    if os.path.realpath(__file__).startswith(os.path.join(here, __name__.partition(".")[0], "")):
        return [path or here for path in given]
    elsewhere = [path for path in given if path and os.path.realpath(path) != here]
    return elsewhere if len(elsewhere) == len(given) else [*elsewhere, here]


@contextlib.contextmanager
def _no_collections() -> Iterator[None]:
    """Without the collector of cycles, which would look through the compiler's many objects again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Helper:
    """A process that compiles what it takes from the front of ``requests``."""

    def __init__(self, requests: deque[Request]) -> None:
        self._requests = requests
        self._process: subprocess.Popen[bytes] | None = None
        self._feeder = threading.Thread(target=self._feed, daemon=True)
        self._asked = 0.0  # when, by time.monotonic, it was given the request that it has not answered
        # Without the current folder, the user's packages and PYTHON's variables, and with nothing to write but kernels.
        command = [sys.executable, "-I", "-B", "-c", SERVE, *_search_path()]
        # Such as that `sys.executable` is no Python, or None.
        with contextlib.suppress(OSError, ValueError, TypeError):
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env={**os.environ, "NUMBA_CACHE_DIR": config.CACHE_DIR},
            )  # fmt: skip
            self._feeder.start()

    def _feed(self) -> None:
        """One request after the other, each when the helper has answered the last: whoever is free takes the next."""
        assert self._process and self._process.stdin and self._process.stdout
        requests, answers = self._process.stdin, self._process.stdout
        with contextlib.suppress(IndexError, OSError), requests, answers:
            if answers.read(len(GREETING)) != GREETING:
                return
            while answers.read(1) == b".":
                self._asked = 0.0
                request = self._requests.popleft()
                self._asked = time.monotonic()
                pickle.dump((request.name, request.arguments), requests)
                requests.flush()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def end(self) -> None:
        """Wait for its last answer, if it was asked for one, but not for ever. There are no more requests."""
        if self._process is None:
            return
        while self._feeder.is_alive() and time.monotonic() - self._asked < MAX_SECONDS and self._asked:
            self._feeder.join(0.1)
        # It has nothing to do, or does not do it.
        self._process.kill()
        self._process.wait()
        # What it started itself may still hold its end of the pipe.
        self._feeder.join(1.0)


def serve(requests: BinaryIO | None = None, answers: BinaryIO | None = None) -> None:
    """What a helper does until there are no more ``requests``: it says that it is free, and compiles the next."""
    requests = requests or sys.stdin.buffer
    if answers is None:
        # What is printed in the meantime is no answer.
        answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with contextlib.suppress(EOFError, OSError), _no_collections():
        answers.write(GREETING)
        while True:
            answers.write(b".")
            answers.flush()
            (module, name), arguments = pickle.load(requests)
            getattr(importlib.import_module(module), name).prepare(*arguments)
