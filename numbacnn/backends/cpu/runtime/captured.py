"""A captured step: launches are written down, once, and then done one after the other by machine code.

What Python does for a launch, from the layer to the packed arguments, takes longer than many a kernel. Written down, a
launch is a few words. Addresses are part of the record. So the arrays that are made while recording are in an arena of
their own, which the captured step keeps, and those that were there before stay for as long.

Whatever a backend's function does by NumPy, and whatever depends on a number that is read, it does inside of
:func:`record_call`, so that it is done at each launch.
"""

from __future__ import annotations

import functools
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from numba.core import config

from ...capture import CaptureError, current_label, warn_not_captured
from ...observed import note
from ...signals import handled_afterwards
from . import allocator, threads
from .arena import Arena
from .precompile import Compilable, Request, compile_all

__all__ = ["Recording", "capture", "current_recording", "fold_constant", "record", "record_call", "recorded"]

_T = TypeVar("_T")


class _Active(threading.local):
    recording: Recording | None = None


_active = _Active()


class Recording:
    """What a captured function asks for, in order.

    Args:
        arena: where its arrays are; one without memory of its own is for a rehearsal, which is never called.
        scratch: of each thread that a launch may have, a row of bytes.
        constant: arrays that never change.
    """

    def __init__(self, arena: Arena, scratch: np.ndarray, constant: Sequence[np.ndarray]) -> None:
        self.is_rehearsal = not arena.size
        self.threads = len(scratch)
        self.needs: dict[Request, None] = {}
        """What a rehearsal found to be compiled, in order."""
        self.most_scratch = 0
        """Bytes of a thread that the launch with most of it needs."""
        self._arena, self._scratch = arena, scratch
        self._constant = {(x.__array_interface__["data"][0], x.size) for x in constant}
        self._parts: list[array[int] | Callable[[], None]] = []
        self._labels: list[tuple[Any, int, int]] = []
        """A label, and the part and the word of it from which on it holds, wherever it changes."""
        self._kept: list[Any] = []

    def launch(
        self, entry: Any, chunks: int, words: array[int], shares: tuple[int, int], arguments: Sequence[Any]
    ) -> None:
        """Instead of ``threads.launch``; ``entry`` is compiled, and ``arguments`` are those of the kernel."""
        launches = self._parts[-1] if self._parts else None
        if not isinstance(launches, array):
            launches = array("q")
            self._parts.append(launches)
        self._note(len(self._parts) - 1, len(launches))
        launches.extend((entry.address, chunks, words.buffer_info()[0], *shares, 0))
        self._kept += (entry, words)
        self._kept += [x for x in arguments if isinstance(x, np.ndarray) and not self._arena.holds(x)]

    def scratch(self, size: int) -> tuple[np.ndarray, int]:
        """Memory of which each thread has ``size`` bytes, and the distance of two threads' bytes.

        It is the same at each launch: memory that another core wrote last is slow to write to.
        """
        self.most_scratch = max(self.most_scratch, size)
        return self._scratch, self._scratch.shape[1]

    def need(self, what: Compilable, *arguments: Any) -> None:
        """In a rehearsal, instead of compiling ``what`` for ``arguments``."""
        self.needs[Request(what, arguments)] = None

    def record_call(self, work: Callable[..., None], *arguments: Any) -> None:
        if not self.is_rehearsal:  # whose arrays would stay with the arguments
            lent = [self._arena.lend(x) if isinstance(x, np.ndarray) else x for x in arguments]
            self._note(len(self._parts), 0)
            self._parts.append(functools.partial(work, *lent))

    def _note(self, part: int, word: int) -> None:
        label = current_label()
        if not self._labels or self._labels[-1][0] != label:
            self._labels.append((label, part, word))

    def is_constant(self, x: np.ndarray) -> bool:
        return (x.__array_interface__["data"][0], x.size) in self._constant

    def __call__(self) -> None:
        """Do all of it."""
        if _active.recording is not None:
            raise CaptureError("a captured step cannot be part of another")
        _do(self._parts)

    def timed(self) -> dict[Any, float]:
        """Do all of it, and tell the seconds that the work under each label took."""
        found: dict[Any, float] = {}
        ends = [*self._labels[1:], (None, len(self._parts), 0)]
        for (label, part, word), (_, last, end) in zip(self._labels, ends, strict=True):
            parts = self._parts[part : last + (end > 0)]
            if parts and isinstance(parts[-1], array) and end:
                parts[-1] = parts[-1][:end]
            if parts and isinstance(parts[0], array):
                parts[0] = parts[0][word:]
            start = time.perf_counter()
            _do(parts)
            found[label] = found.get(label, 0.0) + time.perf_counter() - start
        return found


def _do(parts: Sequence[array[int] | Callable[[], None]]) -> None:
    for part in parts:
        if isinstance(part, array):
            threads.launch_all(part, threads.number())
        else:
            part()


def capture(
    *functions: Callable[[], None], constant: Sequence[np.ndarray] = ()
) -> tuple[Callable[[], None], ...] | None:
    """See :class:`contract.Backend`. None without the compiler, whose launches are Python's."""
    if config.DISABLE_JIT:
        return None
    if _active.recording is not None:
        raise CaptureError("a step cannot be captured within another")
    try:
        arena, available = Arena(), threads.number()
        rehearsals = _record_all(functions, arena, np.empty((available, 0), np.uint8), constant)
        compile_all({request: None for rehearsal in rehearsals for request in rehearsal.needs})
        most_scratch = max((rehearsal.most_scratch for rehearsal in rehearsals), default=0)
        scratch = allocator.empty((available, most_scratch), np.uint8)
        return _record_all(functions, Arena(max(arena.extent, 1)), scratch, constant)
    except CaptureError as error:
        warn_not_captured(error)
        return None


def _record_all(
    functions: Sequence[Callable[[], None]], arena: Arena, scratch: np.ndarray, constant: Sequence[np.ndarray]
) -> tuple[Recording, ...]:
    with allocator.using(arena):
        return tuple([record(function, Recording(arena, scratch, constant)) for function in functions])


def record(function: Callable[[], None], recording: Recording) -> Recording:
    """``function``, of which ``recording`` writes down what it asks for."""
    with handled_afterwards():
        _active.recording = recording
        try:
            function()
        finally:
            _active.recording = None
    return recording


def current_recording() -> Recording | None:
    """What this thread is recording."""
    return _active.recording


@contextmanager
def writing(writer: Any) -> Iterator[None]:
    """This thread is recording with ``writer``, which does what it is asked for and notes it (``launch_cache.py``)."""
    with handled_afterwards(), allocator.using(writer):  # what a handler of a signal asks for is not part of it
        _active.recording = writer
        try:
            yield
        finally:
            _active.recording = None


def record_call(work: Callable[..., None], *arguments: Any) -> None:
    """Do ``work(*arguments)`` now or, while recording, at each launch, in its place.

    Arrays are arguments, not what ``work`` refers to, so that a captured step knows of them.
    """
    if _active.recording is None:
        note(None)
        work(*arguments)
    else:
        _active.recording.record_call(work, *arguments)


def recorded(function: Callable[..., None]) -> Callable[..., None]:
    """Of a function that changes its arguments: its calls are what is to :func:`record_call`."""

    @functools.wraps(function)
    def run(*arguments: Any) -> None:
        record_call(function, *arguments)

    return run


def fold_constant(source: np.ndarray, make: Callable[[], _T]) -> _T:
    """``make()``, which depends on no array but ``source``: made once, not at each launch, where that never changes."""
    former = _active.recording
    if former is None or not former.is_constant(source):
        return make()
    _active.recording = None
    try:
        with allocator.using(None):
            return make()
    finally:
        _active.recording = former
