"""What a captured step is going to call, compiled by several processes at once before any of it runs.

Most of compiling is done by Python code, of which a process runs one thread at a time: an empty cache would keep one
core busy for as long as all kernels together take. So this process shares them with helpers, new Python processes that
leave what they compile in the cache, and loads it from there. Where a helper cannot be started, or ends early, this
process compiles its share as well.
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
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple, Protocol

from numba.core import config

from . import threads

__all__ = ["Request", "compile_all", "serve"]

# A helper takes about as long to start as this many kernels do to compile.
WORTH_HELPER = 4
MOST_HELPERS = 7
SERVE = f"from {__name__} import serve; serve()"


class Compilable(Protocol):
    """A kernel or routine, by its definition's name in its module."""

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
    from .jit import cache_folder  # which imports this module

    if cache_folder() is None:
        return
    missing = sorted((r for r in requests if not r.what.is_cached(*r.arguments)), key=lambda r: -r.size)
    if not missing:
        return
    sent = deque(request for request in missing if request.can_be_sent)
    helpers = [_Helper(sent) for _ in range(min(threads.number() - 1, len(sent) // WORTH_HELPER, MOST_HELPERS))]
    try:
        with _no_collections():
            threads.prepare()
            for request in missing:
                if not request.can_be_sent:
                    request.what.prepare(*request.arguments)
            while sent:
                with contextlib.suppress(IndexError):  # a helper took the last one
                    request = sent.popleft()
                    request.what.prepare(*request.arguments)
    finally:
        sent.clear()
        for helper in helpers:
            helper.end()


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
        environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
            "NUMBA_CACHE_DIR": config.CACHE_DIR,
        }  # fmt: skip
        # Such as that `sys.executable` is no Python, or None.
        with contextlib.suppress(OSError, ValueError, TypeError):
            self._process = subprocess.Popen(
                [sys.executable, "-c", SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, env=environment,
            )  # fmt: skip
            self._feeder.start()

    def _feed(self) -> None:
        """One request after the other, each when the helper has answered the last: whoever is free takes the next."""
        assert self._process and self._process.stdin and self._process.stdout
        with contextlib.suppress(IndexError, OSError):
            while self._process.stdout.read(1):
                request = self._requests.popleft()
                pickle.dump((request.name, request.arguments), self._process.stdin)
                self._process.stdin.flush()

    def end(self) -> None:
        """Wait for its last answer."""
        if self._process is None:
            return
        self._feeder.join()
        with contextlib.suppress(OSError):
            self._process.communicate()


def serve(requests: BinaryIO | None = None, answers: BinaryIO | None = None) -> None:
    """What a helper does until there are no more ``requests``: it says that it is free, and compiles the next."""
    requests, answers = requests or sys.stdin.buffer, answers or sys.stdout.buffer
    with contextlib.suppress(EOFError, OSError), _no_collections():
        while True:
            answers.write(b".")
            answers.flush()
            (module, name), arguments = pickle.load(requests)
            getattr(importlib.import_module(module), name).prepare(*arguments)
