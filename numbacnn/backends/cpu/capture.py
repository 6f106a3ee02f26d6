"""Capturing: a step (``runtime/captured.py``), and a batch in parts, each of which one thread computes throughout.

Where every launch is shared out, threads meet after each one, and what one of them wrote lies in its cache when another
reads it. Parts meet once, at the end. A pass over one part is written down, and the others are copies of that with
other addresses: those of the part's images, of its results, and of memory of its own for what is in between. Weights
that were laid out once serve all.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba.core import config

from ..capture import CaptureError
from .convolution.correlation import ENOUGH_IMAGES
from .memory import assign
from .runtime import allocator, captured, threads
from .runtime.arena import Arena
from .runtime.captured import capture
from .runtime.kernel import places_of_addresses
from .runtime.precompile import compile_all
from .runtime.thread_pool import run_list
from .vector import layout

__all__ = ["call_host", "capture", "capture_in_parts"]


def call_host(work: Callable[[], None]) -> bool:
    """See :class:`contract.Backend`."""
    captured.record_call(work)
    return True


class _Writing(captured.Recording):
    """One part's launches, with the places of the addresses that are others in another part.

    Args:
        regions: the first byte and the end of each piece of memory that every part has of its own.
    """

    def __init__(
        self, arena: Arena, scratch: np.ndarray, constant: Sequence[np.ndarray], regions: Sequence[tuple[int, int]]
    ) -> None:
        super().__init__(arena, scratch, constant)
        self.launches: list[tuple[int, int, array[int], list[tuple[int, int, int]]]] = []
        """Address, chunks and words of each, and of these: the place, the region, the bytes from where that begins."""
        self.is_refused = False
        self._regions = regions

    def launch(
        self, entry: Any, chunks: int, words: array[int], shares: tuple[int, int], arguments: Sequence[Any]
    ) -> None:
        places: list[tuple[int, int, int]] = []
        for at, x in places_of_addresses(arguments):
            found = [
                (at, number, words[at] - first)
                for number, (first, end) in enumerate(self._regions)
                if first <= words[at] < end
            ]
            places += found
            if x is not None and not found:
                self.is_refused = self.is_refused or self._arena.holds(x)
                self._kept.append(x)
        self._kept.append(entry)
        self.launches.append((entry.address, chunks, words, places))

    def record_call(self, work: Callable[..., None], *arguments: Any) -> None:
        self.is_refused = True


class _Parts:
    """Does all parts, in one launch of a chunk each."""

    def __init__(self, writing: _Writing, starts: Sequence[Sequence[int]], kept: Sequence[Any]) -> None:
        self._count = len(starts)
        self._kept = [writing, *kept]
        self._lists = array("q")
        for of_part in starts:
            launches = array("q")
            for address, chunks, words, places in writing.launches:
                own = words[:]
                for at, region, offset in places:
                    own[at] = of_part[region] + offset
                launches.extend((address, chunks, own.buffer_info()[0], 1, 1, 0))
                self._kept.append(own)
            self._lists.extend((launches.buffer_info()[0], len(writing.launches)))
            self._kept.append(launches)

    def __call__(self) -> None:
        if captured.current_recording() is not None:
            raise CaptureError("a captured pass cannot be part of another")
        some = min(self._count, threads.number())
        threads.launch(run_list.address, self._count, self._lists.buffer_info()[0], 1, some)


def capture_in_parts(
    function: Callable[[Any], Any], x: np.ndarray, constant: Sequence[np.ndarray] = ()
) -> tuple[Callable[[], None], np.ndarray] | None:
    """See :class:`contract.Backend`."""
    count = _parts_of(len(x), threads.number())
    if count < 2 or config.DISABLE_JIT or captured.current_recording() is not None:
        return None
    size = len(x) // count
    of_x, y = x[:size], np.empty(0)

    def run() -> None:
        nonlocal y
        found = function(of_x)
        if not y.size:
            with allocator.using(None):
                y = layout.empty((len(x), *found.shape[1:]), found.dtype)
        if len(found) != size:
            raise CaptureError("results of a pass in parts have an axis for the images first")
        assign(y[:size], found)

    def record(arena: Arena, recording: captured.Recording) -> None:
        with allocator.using(arena):
            captured.record(run, recording)

    try:
        arena = Arena()
        rehearsal = captured.Recording(arena, np.empty((1, 0), np.uint8), constant)
        record(arena, rehearsal)
        compile_all(rehearsal.needs)
        arenas = [Arena(max(arena.extent, 1)) for _ in range(count)]
        scratch = [allocator.empty((1, max(rehearsal.most_scratch, 1)), np.uint8) for _ in range(count)]
        regions = [
            (arenas[0].address, arenas[0].address + arenas[0].size),
            *((allocator.address_of(z), allocator.address_of(z) + z.nbytes) for z in (scratch[0], of_x, y[:size])),
        ]
        writing = _Writing(arenas[0], scratch[0], constant, regions)
        record(arenas[0], writing)
    except (CaptureError, MemoryError):  # the whole needs less
        return None
    if writing.is_refused or not y.size:
        return None
    starts = [
        (arenas[i].address, *(allocator.address_of(z) for z in (scratch[i], x[i * size :], y[i * size :])))
        for i in range(count)
    ]
    return _Parts(writing, starts, [arenas, scratch, x, y]), y


def _parts_of(n: int, available: int) -> int:
    """Into how many equal parts a batch is cut for so many threads: into as many as have enough images; 1 for none."""
    counts = [count for count in range(available, n // ENOUGH_IMAGES + 1) if n % count == 0] if available > 1 else []
    return min(counts, key=lambda count: (-(-count // available) * (n // count), -count), default=1)
