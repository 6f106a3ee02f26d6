"""Group normalisation, of groups that lie in one run of memory and of pixels.

Of images the channels of a pixel are neighbours, and a group's numbers are spread over all pixels of its sample: sums
are made for each channel, as of batch normalisation, and those of a group's channels merged. A chunk is a sample, which
is read again where the caches have it; few samples are shared out in parts of their pixels, whose sums another launch
has found. All else is taken as (n, c, length): a group is one run, and a chunk some of these.

What is shared out how is a matter of sizes alone. Gradients of the parameters are sums of chunks' sums in float64.

roofline: memory. Forward reads x and writes y once, backward reads dy and x and writes dx once, where a sample, or a
run, fits the second cache; else each is read twice. A few numbers of a run are
added up in their own dtype, in vectors, and such sums in float64.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from .runtime.allocator import empty, empty_like
from .runtime.kernel import Scratch, inlined, kernel
from .runtime.launch_cache import cached_launches
from .runtime.microkernel import Microkernel
from .vector.blocks import AHEAD
from .vector.column_sums import CHUNK_ELEMENTS, MAX_CHUNKS, wide_rows
from .vector.layout import channels_last, flat, images
from .vector.row_maps import GRADIENT, NORMALIZED, map_all, repeat
from .vector.row_sums import GRADIENTS, MOMENTS, add_gradients, find_moments, merge_moments
from .vector.rows import (
    SHORT,
    differentiate_run,
    distances_of_run,
    gradients_of_run,
    normalize_run,
    squares_of_run,
)
from .vector.simd import flattened, prefetch_run
from .vector.sums import is_finite

__all__ = ["group_norm", "group_norm_backward"]

FLOAT64 = np.dtype(np.float64)
# Numbers whose mean is found before the squares about it: the first cache has them when they are read again.
RUN = 1 << 12
# Columns of a chunk of the sums of chunks.
COLUMNS = 64
# Columns of a matrix of few rows, each a chunk or more, are shared out a second time, so many to a chunk.
FEW_ROWS, MANY_COLUMNS = 64, 512


class _Runs(NamedTuple):
    """How runs are normalised: channels of a run, elements of a channel, runs of a chunk."""

    groups: int
    channels: int
    length: int
    part: int
    affine: int


class _Pixels(NamedTuple):
    """How pixels are: ``rows`` of a sample, in ``parts`` of ``part``, ``times`` of them in a wide row.

    ``summing`` makes the sums that ``mapping`` needs.
    """

    summing: Microkernel
    mapping: Microkernel
    groups: int
    rows: int
    part: int
    parts: int
    times: int


@inlined
def moments_of_run(x, at, size):
    """The mean of x[at : at + size], and the sum of the squares about it.

    What is summed first are differences from a number of the run, so that equal numbers have no variance at all. Sums
    of no more than SHORT numbers are added up in float64.
    """
    real = x.dtype.type
    mean, squares = 0.0, 0.0
    for start in range(0, size, RUN):
        here, first = min(RUN, size - start), at + start
        origin = x[first]
        if not is_finite(origin):
            origin = real(0)
        total, of_block = 0.0, 0.0
        for part in range(first, first + here, SHORT):
            total += np.float64(distances_of_run(x, part, min(SHORT, first + here - part), origin))
        center = np.float64(origin) + total / here
        # The squares about what the dtype has next to the mean are too many by those of the distance.
        middle = real(center)
        for part in range(first, first + here, SHORT):
            of_block += np.float64(squares_of_run(x, part, min(SHORT, first + here - part), middle))
        if is_finite(middle):
            of_block = max(of_block - (center - np.float64(middle)) ** 2 * here, 0.0)
        if start == 0:
            mean, squares = center, of_block
        else:
            distance, share = center - mean, here / (start + here)
            mean += distance * share
            squares += of_block + distance * distance * start * share
    # A short sum may be too large for the dtype where the result is not.
    if not (is_finite(mean) and is_finite(squares)):
        reference, total, squares = np.float64(x[at]), 0.0, 0.0
        if not is_finite(reference):
            reference = 0.0
        for i in range(np.uintp(at), np.uintp(at + size)):
            total += np.float64(x[i]) - reference
        mean = reference + total / size
        for i in range(np.uintp(at), np.uintp(at + size)):
            squares += (np.float64(x[i]) - mean) ** 2
    return mean, squares


@kernel
def _normalize_runs(chunk, x, weight, bias, y, mean, variance, inverse_std, eps, p):
    """A chunk is ``p.part`` runs, each of ``p.channels`` channels."""
    size = p.channels * p.length
    for run in range(chunk * p.part, min((chunk + 1) * p.part, mean.size)):
        at, channel = run * size, run % p.groups * p.channels
        center, squares = moments_of_run(x, at, size)
        of_group = squares / max(size, 1)
        # Of the variance in float64, which may be too large for the dtype where its root is not.
        inverse = y.dtype.type(1 / np.sqrt(of_group + eps))
        mean[run], variance[run], inverse_std[run] = center, of_group, inverse
        middle = mean[run]
        if p.length == 1:
            prefetch_run(x, at + AHEAD, size)
            normalize_run(y, x, at, weight, bias, channel, p.channels, middle, inverse)
        else:
            for j in range(p.channels):
                scale, shift = weight[channel + j] * inverse, bias[channel + j]
                for i in range(np.uintp(at + j * p.length), np.uintp(at + (j + 1) * p.length)):
                    y[i] = (x[i] - middle) * scale + shift


@kernel
def _run_gradients(chunk, dy, x, weight, mean, inverse_std, dx, of_dy, of_products, p):
    """dx = inverse_std (weight dy - mean(weight dy) - x_hat mean(weight dy x_hat)).

    With ``p.affine`` also of each channel the chunk's sums of dy and of dy x_hat.
    """
    columns, size = weight.size, p.channels * p.length
    own = np.uintp(chunk * columns)
    if p.affine:
        for j in range(np.uintp(columns)):
            of_dy[own + j], of_products[own + j] = 0, 0
    for run in range(chunk * p.part, min((chunk + 1) * p.part, mean.size)):
        at, channel, middle, inverse = run * size, run % p.groups * p.channels, mean[run], inverse_std[run]
        total, product = 0.0, 0.0
        if p.length == 1:
            for part in range(0, size, SHORT):
                of_dy_weight, of_product = gradients_of_run(
                    dy, x, at + part, weight, channel + part, min(SHORT, size - part), middle
                )  # fmt: skip
                total += np.float64(of_dy_weight)
                product += np.float64(of_product)
            if not (is_finite(total) and is_finite(product)):
                total, product = 0.0, 0.0
                for j in range(np.uintp(size)):
                    i = np.uintp(at) + j
                    gradient = np.float64(dy[i]) * np.float64(weight[np.uintp(channel) + j])
                    total += gradient
                    product += gradient * (np.float64(x[i]) - np.float64(middle))
            if p.affine:
                for j in range(np.uintp(p.channels)):
                    i, c = np.uintp(at) + j, np.uintp(channel) + j
                    of_dy[own + c] += dy[i]
                    of_products[own + c] += np.float64(dy[i]) * np.float64((x[i] - middle) * inverse)
        else:
            for j in range(p.channels):
                of_channel, scaled = 0.0, 0.0
                for i in range(np.uintp(at + j * p.length), np.uintp(at + (j + 1) * p.length)):
                    gradient = np.float64(dy[i])
                    of_channel += gradient
                    scaled += gradient * (np.float64(x[i]) - np.float64(middle))
                c = np.uintp(channel + j)
                total += of_channel * weight[c]
                product += scaled * weight[c]
                # Nothing has the variance 0, and without eps an infinite scale.
                if p.affine and p.length > 0:
                    of_dy[own + c] += of_channel
                    of_products[own + c] += scaled * inverse
        mean_dy = dx.dtype.type(total / max(size, 1))
        mean_product = dx.dtype.type(product * inverse / max(size, 1)) * inverse
        if p.length == 1:
            differentiate_run(dx, dy, x, at, weight, channel, p.channels, middle, inverse, mean_dy, mean_product)
        else:
            for j in range(p.channels):
                scale = weight[channel + j]
                for i in range(np.uintp(at + j * p.length), np.uintp(at + (j + 1) * p.length)):
                    dx[i] = inverse * (scale * dy[i] - mean_dy - (x[i] - middle) * mean_product)


@inlined
def find_part(chunk, x, center, sums, totals, columns, p):
    """find_moments of a part of a sample's pixels."""
    first = chunk % p.parts * p.part
    find_moments(
        p.summing, x, (chunk // p.parts * p.rows + first) * columns, columns, center, sums, totals,
        min(p.part, p.rows - first), columns, p.times,
    )  # fmt: skip


@kernel
def _find_moments(chunk, x, moments, scratch, totals, p):
    """moments[0][chunk, column], the means, and moments[1], sums of squares about them."""
    columns, half = moments.shape[2], totals.size // 2
    find_part(chunk, flattened(x), scratch[: scratch.size // 3], scratch[scratch.size // 3 :], totals, columns, p)
    means, squares = flattened(moments), moments.size // 2
    for j in range(columns):
        means[chunk * columns + j] = totals[j]
        means[squares + chunk * columns + j] = totals[half + j]


@kernel
def _normalize_pixels(chunk, x, moments, weight, bias, y, mean, variance, inverse_std, scratch, totals, eps, p):
    """Every chunk works out the statistics of its sample's groups, and that of its first pixels writes them down.

    Moments come from :func:`_find_moments` where a sample has several parts.
    """
    columns, half, width = weight.size, totals.size // 2, scratch.size // 6
    sample, values = chunk // p.parts, flattened(x)
    wide_mean, wide_scale, wide_bias = scratch[:width], scratch[width : 2 * width], scratch[2 * width : 3 * width]
    if p.parts == 1:
        find_part(chunk, values, scratch[3 * width : 4 * width], scratch[4 * width :], totals, columns, p)
    else:
        of_parts = flattened(moments)
        means, squares = of_parts[: of_parts.size // 2], of_parts[of_parts.size // 2 :]
        for j in range(columns):
            at = sample * p.parts * columns + j
            totals[j], totals[half + j] = means[at], squares[at]
        for part in range(1, p.parts):
            merge_moments(
                part * p.part, totals[:half], totals[half:], 0, min(p.part, p.rows - part * p.part), means, squares,
                (sample * p.parts + part) * columns, columns,
            )  # fmt: skip
    channels = columns // p.groups
    for group in range(p.groups):
        first = group * channels
        origin = totals[first]
        if not is_finite(origin):
            origin = 0.0
        total, squares_of_group = 0.0, 0.0
        for j in range(np.uintp(first), np.uintp(first + channels)):
            total += totals[j] - origin
        center = origin + total / channels
        for j in range(np.uintp(first), np.uintp(first + channels)):
            distance = totals[j] - center
            squares_of_group += totals[np.uintp(half) + j] + distance * distance * p.rows
        of_group = squares_of_group / (channels * p.rows)
        inverse = y.dtype.type(1 / np.sqrt(of_group + eps))
        if chunk % p.parts == 0:
            at = sample * p.groups + group
            mean[at], variance[at], inverse_std[at] = center, of_group, inverse
        for j in range(first, first + channels):
            wide_mean[j], wide_scale[j], wide_bias[j] = center, weight[j] * inverse, bias[j]
    repeat(wide_mean, columns, p.times)
    repeat(wide_scale, columns, p.times)
    repeat(wide_bias, columns, p.times)
    first = chunk % p.parts * p.part
    at = (sample * p.rows + first) * columns
    map_all(
        p.mapping, values, at, columns, values, at, columns, flattened(y), at, scratch, width,
        min(p.part, p.rows - first), columns, p.times,
    )  # fmt: skip


@inlined
def add_part(chunk, dy, x, center, inverse_std, of_dy, of_products, sums, totals, columns, p):
    """of_dy[chunk, column], the sums of dy, and those of dy x_hat; ``center`` is the mean of each of a wide row."""
    first, half, channels = chunk % p.parts * p.part, totals.size // 2, columns // p.groups
    sample = chunk // p.parts
    at = (sample * p.rows + first) * columns
    add_gradients(
        p.summing, dy, at, x, at, columns, center, sums, totals, min(p.part, p.rows - first), columns, p.times
    )  # fmt: skip
    for group in range(p.groups):
        inverse = np.float64(inverse_std[sample * p.groups + group])
        for j in range(group * channels, (group + 1) * channels):
            of_dy[chunk * columns + j], of_products[chunk * columns + j] = totals[j], totals[half + j] * inverse


@inlined
def widen(values, at, wide, columns, p):
    """The number of each group of a sample for each of its channels in a wide row."""
    channels = columns // p.groups
    for group in range(p.groups):
        for j in range(group * channels, (group + 1) * channels):
            wide[j] = values[at + group]
    repeat(wide, columns, p.times)


@kernel
def _add_gradients(chunk, dy, x, mean, inverse_std, of_dy, of_products, scratch, totals, p):
    columns = of_dy.shape[1]
    center, sums = scratch[: scratch.size // 3], scratch[scratch.size // 3 :]
    widen(mean, chunk // p.parts * p.groups, center, columns, p)
    add_part(
        chunk, flattened(dy), flattened(x), center, inverse_std, flattened(of_dy), flattened(of_products), sums, totals,
        columns, p,
    )  # fmt: skip


@kernel
def _pixel_gradients(chunk, dy, x, weight, mean, inverse_std, dx, of_dy, of_products, scratch, totals, p):
    """dx as of :func:`_run_gradients`; the sums come from :func:`_add_gradients` where a sample has several parts."""
    columns, width, sample = weight.size, scratch.size // 6, chunk // p.parts
    channels = columns // p.groups
    dy_values, values = flattened(dy), flattened(x)
    sums, products = flattened(of_dy), flattened(of_products)
    scale, center, mean_dy = scratch[:width], scratch[width : 2 * width], scratch[2 * width : 3 * width]
    mean_product = scratch[3 * width : 4 * width]
    widen(mean, sample * p.groups, center, columns, p)
    if p.parts == 1:
        add_part(
            chunk, dy_values, values, center, inverse_std, sums, products, scratch[4 * width :], totals, columns, p
        )  # fmt: skip
    for group in range(p.groups):
        total, product, count = 0.0, 0.0, channels * p.rows
        for part in range(sample * p.parts, (sample + 1) * p.parts):
            for j in range(group * channels, (group + 1) * channels):
                total += sums[part * columns + j] * weight[j]
                product += products[part * columns + j] * weight[j]
        inverse = inverse_std[sample * p.groups + group]
        of_product = dx.dtype.type(product / count) * inverse
        for j in range(group * channels, (group + 1) * channels):
            scale[j], mean_dy[j], mean_product[j] = weight[j] * inverse, total / count * inverse, of_product * inverse
    repeat(scale, columns, p.times)
    repeat(mean_dy, columns, p.times)
    repeat(mean_product, columns, p.times)
    first = chunk % p.parts * p.part
    at = (sample * p.rows + first) * columns
    map_all(
        p.mapping, dy_values, at, columns, values, at, columns, flattened(dx), at, scratch, width,
        min(p.part, p.rows - first), columns, p.times,
    )  # fmt: skip


@kernel
def _add_rows(chunk, dy, x, mean, inverse_std, dweight, dbias, totals):
    """A chunk is MANY_COLUMNS columns of a matrix, over all rows of which the gradients of the parameters are sums.

    For a few long rows: their chunks' sums would be as many numbers as dy and x are.
    """
    columns, first = dweight.size, chunk * MANY_COLUMNS
    here, half = np.uintp(min(MANY_COLUMNS, columns - first)), np.uintp(MANY_COLUMNS)
    totals[:] = 0
    for row in range(mean.size):
        at, middle, inverse = np.uintp(row * columns + first), mean[row], inverse_std[row]
        for j in range(here):
            totals[j] += np.float64(dy[at + j])
            totals[half + j] += np.float64(dy[at + j]) * np.float64((x[at + j] - middle) * inverse)
    for j in range(here):
        dbias[np.uintp(first) + j], dweight[np.uintp(first) + j] = totals[j], totals[half + j]


@kernel
def _add_chunks(chunk, of_dy, of_products, dweight, dbias, totals):
    """A chunk is COLUMNS channels, of which the sums of all chunks are added up."""
    columns, first = dweight.size, chunk * COLUMNS
    here = np.uintp(min(COLUMNS, columns - first))
    totals[:] = 0
    sums, products = flattened(of_dy), flattened(of_products)
    for at in range(first, sums.size, columns):
        for j in range(here):
            totals[j] += sums[np.uintp(at) + j]
            totals[np.uintp(COLUMNS) + j] += products[np.uintp(at) + j]
    for j in range(here):
        dbias[np.uintp(first) + j], dweight[np.uintp(first) + j] = totals[j], totals[np.uintp(COLUMNS) + j]


@cached_launches
def group_norm(
    x: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None, groups: int, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    n, c = x.shape[:2]
    weight = _filled(1.0, c, x.dtype) if weight is None else weight
    bias = _filled(0.0, c, x.dtype) if bias is None else bias
    mean, variance, inverse_std = (np.empty((n, groups), x.dtype) for _ in range(3))
    statistics = [statistic.reshape(-1) for statistic in (mean, variance, inverse_std)]
    if not _is_of_pixels(x):
        y, runs = empty_like(x), _runs(x, groups)
        _normalize_runs(-(-n * groups // runs.part), flat(x), weight, bias, flat(y), *statistics, float(eps), runs)
        return y, mean, variance, inverse_std
    of_x = channels_last(x)
    y, pixels = empty(of_x.shape, x.dtype), _pixels(of_x, groups, MOMENTS, NORMALIZED)
    width, chunks = pixels.times * c, n * pixels.parts
    moments = empty((2, chunks if pixels.parts > 1 else 0, c), np.float64)
    totals = Scratch(2 * width, FLOAT64)
    if pixels.parts > 1:
        _find_moments(chunks, of_x, moments, Scratch(3 * width, x.dtype), totals, pixels)
    _normalize_pixels(
        chunks, of_x, moments, weight, bias, y, *statistics, Scratch(6 * width, x.dtype), totals, float(eps), pixels
    )  # fmt: skip
    return images(y), mean, variance, inverse_std


def group_norm_backward(
    dy: np.ndarray, x: np.ndarray, weight: np.ndarray | None, mean: np.ndarray, inverse_std: np.ndarray, groups: int
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    if weight is None:
        return _input_gradient(dy, x, mean, inverse_std, groups), None, None
    return _gradients(dy, x, weight, mean, inverse_std, groups)


@cached_launches
def _input_gradient(
    dy: np.ndarray, x: np.ndarray, mean: np.ndarray, inverse_std: np.ndarray, groups: int
) -> np.ndarray:
    return _backward(dy, x, _filled(1.0, x.shape[1], x.dtype), mean, inverse_std, groups, affine=False)[0]


@cached_launches
def _gradients(
    dy: np.ndarray, x: np.ndarray, weight: np.ndarray, mean: np.ndarray, inverse_std: np.ndarray, groups: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    dweight, dbias = np.empty_like(weight), np.empty_like(weight)
    if groups == 1 and weight.size * FEW_ROWS >= x.size and not _is_of_pixels(x) and math.prod(x.shape[2:]) == 1:
        dx = _backward(dy, x, weight, mean, inverse_std, groups, affine=False)[0]
        _add_rows(
            -(-weight.size // MANY_COLUMNS), flat(dy), flat(x), mean.reshape(-1), inverse_std.reshape(-1), dweight,
            dbias, Scratch(2 * MANY_COLUMNS, FLOAT64),
        )  # fmt: skip
        return dx, dweight, dbias
    dx, of_dy, of_products = _backward(dy, x, weight, mean, inverse_std, groups, affine=True)
    _add_chunks(-(-weight.size // COLUMNS), of_dy, of_products, dweight, dbias, Scratch(2 * COLUMNS, FLOAT64))
    return dx, dweight, dbias


def _backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    mean: np.ndarray,
    inverse_std: np.ndarray,
    groups: int,
    affine: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dx, and of each chunk the sums of dy and dy x_hat for each channel."""
    n, c = x.shape[:2]
    statistics = mean.reshape(-1), inverse_std.reshape(-1)
    if not _is_of_pixels(x):
        dx, runs = empty_like(x), _runs(x, groups, MAX_CHUNKS, affine)
        chunks = -(-n * groups // runs.part)
        of_dy, of_products = (empty((chunks if affine else 0, c), np.float64) for _ in range(2))
        _run_gradients(
            chunks, flat(dy), flat(x), weight, *statistics, flat(dx), of_dy.reshape(-1), of_products.reshape(-1), runs
        )  # fmt: skip
        return dx, of_dy, of_products
    of_dx, of_x = channels_last(dy), channels_last(x)
    dx, pixels = empty(of_x.shape, x.dtype), _pixels(of_x, groups, GRADIENTS, GRADIENT)
    width, chunks = pixels.times * c, n * pixels.parts
    of_dy, of_products = (empty((chunks, c), np.float64) for _ in range(2))
    totals = Scratch(2 * width, FLOAT64)
    if pixels.parts > 1:
        _add_gradients(
            chunks, of_dx, of_x, *statistics, of_dy, of_products, Scratch(3 * width, x.dtype), totals, pixels
        )  # fmt: skip
    _pixel_gradients(
        chunks, of_dx, of_x, weight, *statistics, dx, of_dy, of_products, Scratch(6 * width, x.dtype), totals, pixels
    )  # fmt: skip
    return images(dx), of_dy, of_products


def _is_of_pixels(x: np.ndarray) -> bool:
    """Whether x is of images of more than a pixel; one pixel is a run, however the images lie, and so is nothing."""
    return x.ndim == 4 and x.size > 0 and math.prod(x.shape[2:]) > 1


def _runs(x: np.ndarray, groups: int, most: int | None = None, affine: bool = False) -> _Runs:
    """Chunks of no fewer than CHUNK_ELEMENTS, and at ``most`` so many."""
    n, c, *positions = x.shape
    channels, length = c // groups, math.prod(positions)
    part = -(-CHUNK_ELEMENTS // max(channels * length, 1))
    if most is not None:
        part = max(part, -(-n * groups // most))
    return _Runs(groups, channels, length, part, int(affine))


def _pixels(x: np.ndarray, groups: int, summing: Microkernel, mapping: Microkernel) -> _Pixels:
    """Of few samples each has several parts, of no fewer than CHUNK_ELEMENTS."""
    n, h, w, c = x.shape
    rows, times = h * w, wide_rows(c)
    part = max(-(-rows // -(-MAX_CHUNKS // max(n, 1))), -(-CHUNK_ELEMENTS // max(c, 1)))
    part = -(-part // times) * times
    return _Pixels(summing, mapping, groups, rows, part, max(1, -(-rows // part)), times)


@functools.lru_cache(maxsize=64)
def _filled(value: float, count: int, dtype: np.dtype[Any]) -> np.ndarray:
    """For what is not there; kernels only read it."""
    return np.full((count,), value, dtype)
