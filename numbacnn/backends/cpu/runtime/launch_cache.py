"""Calls that come again: what a function launches is kept, and then launched again with other arrays.

Between two calls with arrays of the same shapes nothing differs but addresses. To work out everything else takes Python
longer than the kernels of a small layer. So the second such call of a function with :func:`cached_launches` writes down
its launches, and where in their words which array stands; from the third on, results are made, addresses are put in
place and all is launched at once. As in a captured step (``captured.py``), what a function computes must be done by
kernels; one that asks NumPy, by ``record_call``, always runs plainly.
"""

from __future__ import annotations

import functools
import itertools
from array import array
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numba.core import config

from ...capture import generation
from ...numba_threads import numba_threads
from ...observed import Call, is_observed, note
from ...precision import is_strict
from . import allocator, captured, threads
from .arena import ALIGNMENT
from .kernel import places_of_addresses
from .thread_pool import LAUNCH_WORDS

__all__ = ["cached_launches"]

_T = TypeVar("_T", bound=Callable[..., Any])

MAX_KINDS = 512
# Of a launch, where its words' address stands, and how long it took.
WORDS_AT, TIME_AT = 2, 5


class _Result(NamedTuple):
    shape: tuple[int, ...]
    """In the order of memory."""
    dtype: np.dtype
    is_of_images: bool
    is_large: bool

    def make(self) -> np.ndarray:
        x = allocator.empty(self.shape, self.dtype) if self.is_large else np.empty(self.shape, self.dtype)
        return x.transpose(0, 3, 1, 2) if self.is_of_images else x


class _Call(NamedTuple):
    """What is written down of a call."""

    launches: array[int]
    words: array[int]
    firsts: list[tuple[int, int]]
    """Of each launch, where in ``launches`` the address of its words is, and how many bytes behind the first it is."""
    places: list[tuple[int, int, int]]
    """(place in ``words``, number of an array, bytes from where it begins): of the arguments, the results, a block."""
    results: list[_Result | int]
    """How each is made, or which of the arrays it is."""
    is_single: bool
    block: int
    """Bytes of what is needed in between, ..."""
    blocks: list[np.ndarray]
    """... which are kept if they are few."""
    threads: int
    """The most that any of the launches has something for."""
    available: int
    """Threads that there were, for which what is needed in between is measured."""
    kept: list[Any]

    def is_right_now(self) -> bool:
        """Whether the threads that there are would get the same. What several had nothing to share of stays on one."""
        return (self.threads == 1 and self.available > 1) or self.available == threads.number()

    def again(self, arrays: Sequence[np.ndarray]) -> Any:
        """The results for other ``arrays`` among the arguments."""
        launches, words = self.launches[:], self.words[:]
        results = [arrays[result] if isinstance(result, int) else result.make() for result in self.results]
        made = [x for x, result in zip(results, self.results, strict=True) if not isinstance(result, int)]
        addresses = allocator.addresses_of([*arrays, *made])
        block = None
        if self.block:
            try:
                block = self.blocks.pop()  # whose call may be within another, of a signal's handler
            except IndexError:
                block = allocator.empty_bytes(self.block)
            addresses.append(allocator.address_of(block))
        for at, which, offset in self.places:
            words[at] = addresses[which] + offset
        begin = words.buffer_info()[0]
        for at, first in self.firsts:
            launches[at] = begin + first
        threads.launch_all(launches, self.threads)
        if block is not None and self.block < allocator.MIN_BYTES:
            self.blocks.append(block)
        if self.threads > 1:
            for at in range(TIME_AT, len(launches), LAUNCH_WORDS):
                self.launches[at] = launches[at]
        return results[0] if self.is_single else tuple(results) if results else None


class _Writing:
    """What ``captured.current_recording()`` is while a call is written down: everything is done, and noted."""

    is_rehearsal = False

    def __init__(self) -> None:
        self.threads = threads.number()
        self.is_refused = False
        self.launches: list[tuple[Any, int, array[int], tuple[int, int], Sequence[Any]]] = []
        self.taken: list[np.ndarray] = []

    def take(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        """Instead of an arena: memory of all, noted."""
        with allocator.using(None):
            x = allocator.empty(shape, dtype)
        self.taken.append(x)
        return x

    def scratch(self, size: int) -> tuple[np.ndarray, int]:
        with allocator.using(None):
            x = allocator.empty_bytes(self.threads * size)
        self.taken.append(x)
        return x, size

    def launch(
        self, entry: Any, chunks: int, words: array[int], shares: tuple[int, int], arguments: Sequence[Any]
    ) -> None:
        threads.launch(entry.address, chunks, words.buffer_info()[0], *shares)
        self.launches.append((entry, chunks, words, shares, arguments))

    def record_call(self, work: Callable[..., None], *arguments: Any) -> None:
        self.is_refused = True
        work(*arguments)

    def is_constant(self, x: np.ndarray) -> bool:
        return False

    def finished(self, arguments: Sequence[Any], found: Any) -> _Call | None:
        """What was written down; None where it cannot be done again."""
        results = () if found is None else found if isinstance(found, tuple) else (found,)
        given = [x for x in arguments if type(x) is np.ndarray]
        made = [next((i for i, y in enumerate(given) if y is x), _result_of(x)) for x in results]
        arrays = [*given, *[x for x, result in zip(results, made, strict=True) if not isinstance(result, int)]]
        if self.is_refused or None in made or None in map(_result_of, given) or _overlap(arrays):
            return None
        starts: dict[int, int] = {}
        """Of what is needed in between: where in the block it is."""
        block = 0
        words, launches, firsts = array("q"), array("q"), []
        places: list[tuple[int, int, int]] = []
        kept: list[Any] = []

        def note(at: int, address: int) -> bool:
            """Whether ``address``, at that place in the words, is in an array that is another one in another call."""
            nonlocal block
            for number, x in enumerate((*arrays, *self.taken)):
                offset = address - allocator.address_of(x)
                if 0 <= offset < x.nbytes:
                    if number >= len(arrays):
                        if number not in starts:
                            starts[number] = block
                            block += -(-x.nbytes // ALIGNMENT) * ALIGNMENT
                        number, offset = len(arrays), offset + starts[number]
                    places.append((at, number, offset))
                    return True
            return False

        for entry, chunks, of_launch, shares, handed in self.launches:
            at = len(words)
            firsts.append((len(launches) + WORDS_AT, at * words.itemsize))
            words.extend(of_launch)
            launches.extend((entry.address, chunks, 0, *shares, 0))
            kept.append(entry)
            for place, x in places_of_addresses(handed):
                if not note(at + place, words[at + place]) and x is not None:
                    kept.append(x)
        return _Call(
            launches, words, firsts, places, cast(list[_Result | int], made), isinstance(found, np.ndarray), block, [],
            max((shares[1] for _, _, _, shares, _ in self.launches), default=1), self.threads, kept,
        )  # fmt: skip


def cached_launches(function: _T) -> _T:
    """Decorator of a function of arrays, and of what tells by its value what is to be done with them.

    Arguments by name are for plain calls.
    """
    calls: dict[Any, _Call | None] = {}
    seen: set[Any] = set()

    @functools.wraps(function)
    def run(*arguments: Any, **named: Any) -> Any:
        if named or captured.current_recording() is not None or config.DISABLE_JIT:
            return function(*arguments, **named)
        kind = (
            generation(), is_strict(),
            *[(x.shape, x.strides, x.dtype.str, x.flags.aligned) if type(x) is np.ndarray else x for x in arguments],
        )  # fmt: skip
        call = calls.get(kind)
        if call is not None and call.is_right_now():
            arrays = [x for x in arguments if type(x) is np.ndarray]
            found = call.again(arrays)
            if is_observed():
                note(Call(arrays, found, functools.partial(_if_nothing_changed, call, numba_threads())))
            return found
        if (kind in calls and call is None) or kind not in seen:
            if len(seen) >= MAX_KINDS:
                seen.clear()
                calls.clear()
            seen.add(kind)
            return function(*arguments)
        writing = _Writing()
        with captured.writing(writing):
            found = function(*arguments)
        calls[kind] = writing.finished(arguments, found)
        return found

    return cast(_T, run)


def _if_nothing_changed(call: _Call, asked: int, arrays: Sequence[np.ndarray]) -> Any:
    """The results for ``arrays``; None while calls are recorded, and where more or fewer threads are ``asked`` for."""
    if captured.current_recording() is not None or config.DISABLE_JIT or numba_threads() != asked:
        return None  # the number may tell what was tuned
    return call.again(arrays) if call.is_right_now() else None


def _result_of(x: Any) -> _Result | None:
    if type(x) is not np.ndarray:
        return None
    is_large = x.nbytes >= allocator.MIN_BYTES
    if x.flags.c_contiguous:
        return _Result(x.shape, x.dtype, False, is_large)
    in_memory = x.transpose(0, 2, 3, 1) if x.ndim == 4 else x
    return _Result(in_memory.shape, x.dtype, True, is_large) if in_memory.flags.c_contiguous else None


def _overlap(arrays: Sequence[np.ndarray]) -> bool:
    """Whether any two share memory: then a place in the words could be that of either."""
    ranges = sorted((allocator.address_of(x), x.nbytes) for x in arrays if x.size)
    return any(start + size > following for (start, size), (following, _) in itertools.pairwise(ranges))
