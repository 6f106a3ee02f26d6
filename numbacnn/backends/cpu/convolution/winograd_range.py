"""Where Winograd's sums are no good, and direct sums for these outputs.

All numbers of a tile go into each of its outputs, and the parts that do not belong there cancel but for rounding. So an
output is off by some ten units in the last place of the largest number in its *tile*, not in its own window, and one
NaN or infinity spoils all outputs of the tile. An output is summed directly where

- the largest magnitude in the tile is above CONTRAST times the largest in the output's window, or
- it is above what the weights allow: transforms of it might overflow, or it is no finite number; some weight is none;
  or the weights of one tap are above CONTRAST times all others of an output channel, which would spoil the outputs that
  see a zero there.

A window of zeros alone needs no sums. What is computed depends on the tile and the weights alone.
"""

from __future__ import annotations

import numpy as np

from ..runtime.kernel import inlined
from ..vector.tiles import ADD, RELU, multiply_gathered
from .winograd_transforms import extreme, largest_of_pixels

__all__ = ["CONTRAST", "DIRECT_TILES", "levels_of_windows", "list_unsafe", "most_allowed", "sum_directly"]

# One number so many times the others leaves outputs that do not see it within a fifth of what the rule of accuracy
# allows. Of the activations and gradients of six networks in training, 1 output in 2000 was beyond it at most.
CONTRAST = 32
# Register tiles of outputs that are summed at a time: weights pass through the core once for all of them.
DIRECT_TILES = 4


@inlined
def most_allowed(largest, packed, start, levels, span, width, taps, channels):
    """The largest magnitude that a tile may have for a panel of weights (channel, tap, output); -1 if it may have none.

    ``span`` is what it may be for weights up to 1. ``levels`` has room for the weights of one channel.
    """
    for tap in range(taps):
        extreme(largest, packed, start + tap * width, taps * width, channels, levels, tap * width, width)
    most, fits = levels.dtype.type(1), True
    for j in range(width):
        first, second = levels.dtype.type(0), levels.dtype.type(0)
        for tap in range(taps):
            level = levels[tap * width + j]
            if level > first:
                first, second = level, first
            elif level > second:
                second = level
        if not first < np.inf or (second > 0 and first > CONTRAST * second):
            fits = False
        if first > most:
            most = first
    return span / most if fits else -most


@inlined
def levels_of_windows(
    largest, smallest, across, source, channels, in_rows, pitch, taps, tiled_rows, tiled_columns, rows, columns, levels,
    at, row,
):  # fmt: skip
    """levels[at + r * pitch + c] = the largest magnitude that output (r, c) sees in a band of pixels of ``channels``.

    Returns the largest of ``tiled_rows`` x ``tiled_columns`` outputs, and the smallest of ``rows`` x ``columns``, those
    that there are. ``row`` is where ``levels`` has room for a row.
    """
    largest_of_pixels(across, source, 0, channels, in_rows * pitch, levels, at)
    extreme(largest, levels, at, pitch, taps, levels, at, tiled_rows * pitch)
    extreme(largest, levels, at, 1, taps, levels, at, tiled_rows * pitch - taps + 1)
    extreme(largest, levels, at, pitch, tiled_rows, levels, row, tiled_columns)
    top = levels[row]
    for column in range(1, tiled_columns):
        top = max(top, levels[row + column])
    extreme(smallest, levels, at, pitch, rows, levels, row, columns)
    low = levels[row]
    for column in range(1, columns):
        low = min(low, levels[row + column])
    return top, low


@inlined
def list_unsafe(
    levels, at, pitch, m, tile_rows, tile_columns, rows, columns, most, windows, targets, first_target, row_step,
    column_step, y, bias, first_bias, channels, relu,
):  # fmt: skip
    """How many outputs of a band of one image have to be summed directly: their windows, and where they are in y.

    Outputs that see only zeros become the ``bias``. ``most`` is what :func:`most_allowed` found.
    """
    count = 0
    down, right = (m - 1) * pitch, m - 1
    for i in range(tile_rows):
        for j in range(tile_columns):
            corner = at + (i * pitch + j) * m
            # The windows of the four corners cover the tile.
            level = max(
                max(levels[corner], levels[corner + right]), max(levels[corner + down], levels[corner + down + right])
            )
            none = level > most
            for row in range(i * m, min(rows, (i + 1) * m)):
                for column in range(j * m, min(columns, (j + 1) * m)):
                    window = row * pitch + column
                    seen = levels[at + window]
                    if none or level > CONTRAST * seen:
                        target = first_target + row * row_step + column * column_step
                        if seen == 0 and not none:
                            for c in range(channels):
                                value = bias[first_bias + c]
                                y[target + c] = max(value, y.dtype.type(0)) if relu > 0 else value
                        else:
                            windows[count], targets[count] = window, target
                            count += 1
    return count


@inlined
def sum_directly(
    tile, height, source, windows, targets, count, pixel, pitch, steps, packed, start, weight_at, width, channels, taps,
    bias, first_bias, y, outputs, relu,
):  # fmt: skip
    """What :func:`list_unsafe` listed, written to y: ``outputs`` channels, with their ``bias``.

    ``source`` is (pixel, channel), pixels ``pixel`` apart and rows of pixels ``pitch``; ``packed`` is (channel, tap,
    output) from ``start`` on. ``steps`` has room for the offset of each (channel, tap).
    """
    for channel in range(channels):
        for tap in range(taps * taps):
            steps[channel * taps * taps + tap] = (tap // taps * pitch + tap % taps) * pixel + channel
    for i in range(count):
        windows[i] *= pixel
    while count % height:
        windows[count], targets[count] = windows[count - 1], targets[count - 1]
        count += 1
    for first in range(0, count, DIRECT_TILES * height):
        rows = min(DIRECT_TILES * height, count - first)
        for part in range(taps * taps):
            todo = (ADD if part > 0 else 0) + (RELU if relu > 0 and part == taps * taps - 1 else 0)
            multiply_gathered(
                tile, height, source, 0, windows[first : first + rows], rows, steps, part * channels, channels,
                channels, packed, start + part * channels * width, weight_at, 0, bias, first_bias, y, 0,
                targets[first : first + rows], outputs, todo,
            )  # fmt: skip
