"""Sums: what a block of threads adds up through shared memory, and sums per channel of x (n, c, length).

The order in which numbers are added depends on sizes only, so the same numbers give the same bits. A channel's sums are
made in two launches: the blocks of the first add up parts of a channel, a block of the second adds a channel's parts.

- From SHORT_ROWS elements on, the rows of a channel are read one after the other, CHUNK elements to a block, several
  neighbours at once.
- Shorter rows would leave most of each load unused: a block takes neighbouring columns of the matrix (n, c * length),
  each thread one column, and ``length`` columns make a channel.

roofline: memory, one read of each argument; sums are float64, which a GPU with float64 at half rate has time for.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..runtime import device_array
from ..runtime.device_array import DeviceArray, aligned
from ..runtime.kernel import Kernel, block_kernel
from ..runtime.target import (
    MAX_VECTOR,
    cuda,
    device_function,
    divided,
    divisor,
    quotient,
    threads_per_block,
    vector_load,
    word,
)

__all__ = [
    "CHUNK",
    "COLUMNS",
    "LANES",
    "THREADS",
    "ChannelSums",
    "add_parts",
    "block_sum",
    "channel_sums",
    "first_sums",
    "lane_bits",
    "lane_of",
    "lanes_sum",
    "no_center",
    "row_blocks",
    "two_block_sums",
]

THREADS = threads_per_block(256)
CHUNK = 32 * THREADS
# Of so many elements there are blocks enough when each has twice as much, so that what threads add up costs half.
MANY = 1 << 25
SHORT_ROWS = 8
# Loads of a thread that are under way together.
UNROLL = 4
# A block of the column kernel: neighbouring columns, and the rows that its lanes take in turn.
COLUMNS = min(32, THREADS // 2)
LANES = THREADS // COLUMNS
ROWS = 8 * LANES


@device_function
def lanes_sum(thread, lane, lanes, value, sums):
    """The sum of ``value`` over ``lanes`` (a power of two) neighbouring threads; ``sums`` is shared memory."""
    sums[thread] = value
    cuda.syncthreads()
    half = lanes >> 1
    while half > 0:
        if lane < half:
            sums[thread] += sums[thread + half]
        cuda.syncthreads()
        half >>= 1
    total = sums[thread - lane]
    cuda.syncthreads()
    return total


@device_function
def block_sum(thread, value, sums):
    """The sum of ``value`` over the threads of a block of THREADS; ``sums`` is shared memory."""
    return lanes_sum(thread, thread, THREADS, value, sums)


@device_function
def two_block_sums(thread, first, second, first_sums, second_sums):
    """Both sums of :func:`block_sum`, to the same bits, for half as many waits."""
    first_sums[thread], second_sums[thread] = first, second
    cuda.syncthreads()
    half = THREADS >> 1
    while half > 0:
        if thread < half:
            first_sums[thread] += first_sums[thread + half]
            second_sums[thread] += second_sums[thread + half]
        cuda.syncthreads()
        half >>= 1
    return first_sums[0], second_sums[0]


@device_function
def lane_of(block, thread, bits):
    """The row that a thread works on, where 2**``bits`` neighbouring ones share a row, and its number among them."""
    return block * (THREADS >> bits) + (thread >> bits), thread & ((1 << bits) - 1)


def lane_bits(length: int) -> int:
    """How many neighbouring threads should share a row of ``length`` elements, about four each: 2 to this power."""
    return min(THREADS.bit_length() - 1, max(0, -(-length // 4) - 1).bit_length())


def row_blocks(rows: int, bits: int) -> int:
    """How many blocks of THREADS ``rows`` take."""
    return -(-rows // (THREADS >> bits))


class ChannelSums:
    """Two sums per channel, of numbers made from each element.

    Args:
        name: of the pair of numbers, different for each instance.
        terms: ``terms(value, other_value, center)``, compiled: the two numbers in float64, of an element of ``x`` and
            the one of ``other`` in the same place; ``center`` is what ``center_of`` gives.
        center_of: ``center_of(x, centers, channel, length)``, compiled: a number per channel, in float64.
    """

    def __init__(self, name: str, terms: Callable[..., Any], center_of: Callable[..., Any]) -> None:
        self._of_rows = name, terms, center_of
        self._columns = _column_kernel(name, terms, center_of)

    def partial(
        self,
        x: DeviceArray,
        other: DeviceArray,
        centers: DeviceArray,
        n: int,
        c: int,
        length: int,
        x_channels: int | None = None,
        other_channels: int | None = None,
    ) -> tuple[DeviceArray, int]:
        """float64 (2, c, parts), to be added by :func:`add_parts`, and ``parts``, 0 where there is no element.

        ``x_channels`` and ``other_channels`` are how many each array has, where that is more than ``c``.
        """
        x_row, other_row = ((c if channels is None else channels) * length for channels in (x_channels, other_channels))
        if length >= SHORT_ROWS:
            chunk, count = CHUNK if n * c * length < MANY else 2 * CHUNK, math.gcd(length, MAX_VECTOR)
            parts = -(-n * length // chunk)
            sums = device_array.new((2, c, parts), np.float64)
            groups = length // count
            g = (n, c, divisor(max(c, 1)), groups, divisor(groups), chunk // count, parts, *divmod(THREADS, groups))
            rows = (x_row // count, other_row // count)
            kernel = _row_kernel(count, *self._of_rows)
            kernel(c * parts, sums, aligned(x), aligned(other), centers, (*g, *rows))
            return sums, parts
        runs = -(-n // ROWS)
        parts = length * runs
        sums = device_array.new((2, c, parts), np.float64)
        sizes = (n, c, length, runs, x_row, other_row)
        self._columns(-(-c * length // COLUMNS) * runs, sums, x, other, centers, sizes)
        return sums, parts


@device_function
def _next_group(i, column, place, other_place, length, steps, wraps):
    """What follows in the row, or else in the next one of the channel."""
    step_columns, step, other_step = steps
    wrap, other_wrap = wraps
    beyond = column + step_columns >= length
    return (
        i + THREADS,
        word(column + step_columns - (length if beyond else 0)),
        word(place + step + (wrap if beyond else word(0))),
        word(other_place + other_step + (other_wrap if beyond else word(0))),
    )


@functools.cache
def _row_kernel(count: int, name: str, terms: Callable[..., Any], center_of: Callable[..., Any]) -> Kernel:
    """For rows of groups of ``count`` elements: lengths, places and steps are those of groups."""
    load = vector_load(count)

    @device_function
    def add_group(x, other, center, place, other_place, first, second):
        values, others = load(x, np.int64(place) * count), load(other, np.int64(other_place) * count)
        for k in range(count):
            a, b = terms(values[k], others[k], center)
            first += a
            second += b
        return first, second

    def rows(block, thread, partial, x, other, centers, g):
        n, c, by_c, length, by_length, chunk, parts, step_rows, step_columns, x_row, other_row = g
        first_sums = cuda.shared.array(THREADS, np.float64)
        second_sums = cuda.shared.array(THREADS, np.float64)
        # Blocks that run at the same time read neighbouring channels: memory is read from its beginning to its end.
        part = divided(block, by_c)
        channel = word(block - part * c)
        center = center_of(x, centers, channel, length * count)
        i, end = part * chunk + thread, min((part + 1) * chunk, n * length)
        row = divided(i, by_length)
        column = word(i - row * length)
        place = word(row * x_row + channel * length + column)
        other_place = word(row * other_row + channel * length + column)
        # From one group of a thread to its next, without another division.
        steps = step_columns, word(step_rows * x_row + step_columns), word(step_rows * other_row + step_columns)
        wraps = word(x_row - length), word(other_row - length)
        first, second = 0.0, 0.0
        # UNROLL groups together, whose loads no condition holds up, and then what is left.
        while i + (UNROLL - 1) * THREADS < end:
            for _ in range(UNROLL):
                first, second = add_group(x, other, center, place, other_place, first, second)
                i, column, place, other_place = _next_group(i, column, place, other_place, length, steps, wraps)
        while i < end:
            first, second = add_group(x, other, center, place, other_place, first, second)
            i, column, place, other_place = _next_group(i, column, place, other_place, length, steps, wraps)
        first, second = two_block_sums(thread, first, second, first_sums, second_sums)
        if thread == 0:
            partial[channel * parts + part] = first
            partial[(c + channel) * parts + part] = second

    return block_kernel(THREADS, f"{__name__}.rows-{name}-by-{count}")(rows)


def _column_kernel(name: str, terms: Callable[..., Any], center_of: Callable[..., Any]) -> Kernel:
    def columns(block, thread, partial, x, other, centers, g):
        n, c, length, runs, x_row, other_row = g
        first_sums = cuda.shared.array(THREADS, np.float64)
        second_sums = cuda.shared.array(THREADS, np.float64)
        width = c * length
        group = quotient(block, runs)
        run = block - group * runs
        lane = quotient(thread, COLUMNS)
        own = thread - lane * COLUMNS
        column = group * COLUMNS + own
        inside = column < width
        center = center_of(x, centers, quotient(column, length) if inside else 0, length)
        row, end = run * ROWS + lane, min((run + 1) * ROWS, n)
        first, second = 0.0, 0.0
        while row < end:
            for _ in range(UNROLL):
                counts = inside and row < end
                value = x[row * x_row + column if counts else 0]
                a, b = terms(value, other[row * other_row + column if counts else 0], center)
                first += a if counts else 0.0
                second += b if counts else 0.0
                row += LANES
        first_sums[thread], second_sums[thread] = first, second
        cuda.syncthreads()
        if lane == 0 and inside:
            first, second = 0.0, 0.0
            for other_lane in range(LANES):
                first += first_sums[other_lane * COLUMNS + own]
                second += second_sums[other_lane * COLUMNS + own]
            partial[column * runs + run] = first
            partial[(width + column) * runs + run] = second

    return block_kernel(THREADS, f"{__name__}.columns-{name}")(columns)


@device_function
def add_parts(thread, partial, first, parts, sums):
    """The sum of ``parts`` numbers from ``first`` on, by a block of THREADS; ``sums`` is shared memory."""
    total = 0.0
    for part in range(thread, parts, THREADS):
        total += partial[first + part]
    return block_sum(thread, total, sums)


@device_function
def no_center(x, centers, channel, length):
    """For terms without a center."""
    return 0.0


@device_function
def _element_alone(value, other_value, center):
    return np.float64(value), 0.0


_values = ChannelSums("values", _element_alone, no_center)


@block_kernel(THREADS)
def _finish_channels(block, thread, total, partial, parts):
    sums = cuda.shared.array(THREADS, np.float64)
    value = add_parts(thread, partial, block * parts, parts, sums)
    if thread == 0:
        total[block] = value


def channel_sums(x: DeviceArray, n: int, c: int, length: int) -> DeviceArray:
    """(c,): the sums of x, seen as (n, c, length), over n and length."""
    return first_sums(_values, x, x, n, c, length)


def first_sums(sums: ChannelSums, x: DeviceArray, other: DeviceArray, n: int, c: int, length: int) -> DeviceArray:
    """(c,): the first of two sums per channel of x and ``other``, seen as (n, c, length)."""
    partial, parts = sums.partial(x, other, x, n, c, length)
    total = device_array.new((c,), x.dtype)
    _finish_channels(c, total, partial, parts)
    return total
