"""Convolution by columns: a kernel lays out what each output pixel sees, and a matrix product meets it.

The columns (taps x pixels) are kept in memory, taps times the output's size; batches whose columns would have more than
COLUMN_ELEMENTS are walked through in pieces. The input gradient goes the other way: a product gives the gradient of the
columns, and each pixel of x gathers its share of them.

roofline: ``block/gemm.py``'s, and for the columns two passes over taps n oh ow elements of memory, which
``implicit_gemm`` saves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ...contract import Activation
from ...geometry import Conv2dGeometry
from ..block.gemm import multiply
from ..block.places import Strides
from ..block.pointwise import accumulate
from ..runtime.device_array import DeviceArray, new
from ..runtime.kernel import mapping
from ..runtime.target import quotient, scalar
from . import tables as tables

__all__ = ["backward_input", "backward_weight", "forward", "workspace"]

COLUMN_ELEMENTS = 1 << 28


@mapping
def _columns(i, x, positions, taps, g):
    """Column element (group, tap, pixel)."""
    pixels, count, group_size, h, w, top, left = g
    row = quotient(i, pixels)
    group = quotient(row, count)
    seen = positions[i - row * pixels] + taps[row - group * count]
    y, x0 = ((seen >> 16) & 0xFFFF) - top, (seen & 0xFFFF) - left
    if y >= 0 and y < h and x0 >= 0 and x0 < w:
        return x[group * group_size + (seen >> 32) - (top * w + left)]
    return scalar(x, 0)


@mapping
def _image_gradient(i, dcolumns, g):
    """dx (n, c, h, w): the sum over the windows that see the pixel, in the order of their taps."""
    h, w, oh, ow, kh, kw, sh, sw, pt, pl, dh, dw, in_channels, pixels = g
    line = quotient(i, w)
    column = i - line * w
    plane = quotient(line, h)
    row = line - plane * h
    n = quotient(plane, in_channels)
    channel = plane - n * in_channels
    total = scalar(dcolumns, 0)
    for u in range(kh):
        down = row + pt - u * dh
        q = quotient(down, sh) if down >= 0 else oh
        if q < oh and q * sh == down:
            for v in range(kw):
                across = column + pl - v * dw
                r = quotient(across, sw) if across >= 0 else ow
                if r < ow and r * sw == across:
                    tap = (channel * kh + u) * kw + v
                    total += dcolumns[tap * pixels + (n * oh + q) * ow + r]
    return total


def forward(
    x: DeviceArray, weight: DeviceArray, bias: DeviceArray | None, g: Conv2dGeometry, activation: Activation
) -> DeviceArray:
    y = new(g.y_shape, x.dtype)
    size, plane = g.k // g.groups, g.oh * g.ow
    for rows, part in _pieces(g):
        pixels = part.n * plane
        multiply(
            y[rows],
            weight,
            _lay_columns(x[rows], part),
            (size, pixels, g.taps),
            (
                Strides(g.taps, 1, size * g.taps),
                Strides(pixels, 1, g.taps * pixels),
                Strides(plane, 0, size * plane),
            ),
            batch=g.groups,
            c_table=tables.output_offsets(part),
            bias=bias,
            bias_strides=Strides(1, 0, size),
            activation=activation,
        )
    return y


def backward_input(dy: DeviceArray, weight: DeviceArray, g: Conv2dGeometry) -> DeviceArray:
    dx = new(g.x_shape, dy.dtype)
    size, plane = g.k // g.groups, g.oh * g.ow
    for rows, part in _pieces(g):
        pixels = part.n * plane
        dcolumns = new((g.groups * g.taps, pixels), dy.dtype)
        multiply(
            dcolumns,
            weight,
            dy[rows],
            (g.taps, pixels, size),
            (
                Strides(1, g.taps, size * g.taps),
                Strides(plane, 0, size * plane),
                Strides(pixels, 1, g.taps * pixels),
            ),
            batch=g.groups,
            b_fixed=tables.output_offsets(part),
        )
        target = dx[rows]
        window = (g.oh, g.ow, g.kh, g.kw, g.sh, g.sw, g.pt, g.pl, g.dh, g.dw)
        _image_gradient(target.size, target, dcolumns, (g.h, g.w, *window, g.c, pixels))
    return dx


def backward_weight(dy: DeviceArray, x: DeviceArray, dweight: DeviceArray, g: Conv2dGeometry) -> None:
    size, plane = g.k // g.groups, g.oh * g.ow
    for rows, part in _pieces(g):
        pixels = part.n * plane
        result = dweight if rows.start == 0 else new(g.weight_shape, x.dtype)
        multiply(
            result,
            dy[rows],
            _lay_columns(x[rows], part),
            (size, g.taps, pixels),
            (
                Strides(plane, 0, size * plane),
                Strides(1, pixels, g.taps * pixels),
                Strides(g.taps, 1, size * g.taps),
            ),
            batch=g.groups,
            a_table=tables.output_offsets(part),
        )
        if result is not dweight:
            accumulate(dweight, result)


def workspace(g: Conv2dGeometry, pass_: str, itemsize: int) -> int:
    images = next(iter(_pieces(g)))[1].n
    return itemsize * g.groups * g.taps * images * g.oh * g.ow


def _lay_columns(x: DeviceArray, g: Conv2dGeometry) -> DeviceArray:
    """(groups * taps, pixels)."""
    pixels = g.n * g.oh * g.ow
    columns = new((g.groups * g.taps, pixels), x.dtype)
    sizes = (pixels, g.taps, g.c // g.groups * g.h * g.w, *tables.image_of(g))
    _columns(columns.size, columns, x, tables.positions(g), tables.taps(g), sizes)
    return columns


def _pieces(g: Conv2dGeometry) -> Iterator[tuple[slice, Conv2dGeometry]]:
    """Parts of the batch, at least one, whose columns are few enough, and the geometry of each."""
    images = max(1, COLUMN_ELEMENTS // max(1, g.groups * g.taps * g.oh * g.ow))
    for first in range(0, max(g.n, 1), images):
        count = min(images, g.n - first)
        yield slice(first, first + count), replace(g, n=count)
