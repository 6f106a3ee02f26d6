"""Convolution as a matrix product whose columns are never laid out: the loader of B looks them up in the image.

- forward: y (k, pixels) = weight (k, taps) times what each output pixel sees through each tap;
- input gradient: dx (c, pixels) = weight turned round (c, k kh kw) times what each pixel of x meets in dy; with a
  stride, one product for each of the stride's phases, so that no product is with a zero between the rows of dy;
- weight gradient: dweight (k, taps) = dy (k, pixels) times the same look-up with positions and taps changing places;
  the long sum over pixels is split into parts that are added in order.

roofline: ``block/gemm.py``'s, or ``block/tensor_gemm.py``'s, without any memory for columns.
"""

from __future__ import annotations

import numpy as np

from ...contract import Activation
from ...geometry import Conv2dGeometry
from ..block.gemm import multiply
from ..block.gemm_plan import operands_of, plan_of
from ..block.places import Strides
from ..runtime.device_array import DeviceArray, new
from . import tables as tables

__all__ = ["backward_input", "backward_weight", "forward", "sizes", "workspace"]


def forward(
    x: DeviceArray, weight: DeviceArray, bias: DeviceArray | None, g: Conv2dGeometry, activation: Activation
) -> DeviceArray:
    y = new(g.y_shape, x.dtype)
    size, plane = g.k // g.groups, g.oh * g.ow
    multiply(
        y,
        weight,
        x,
        (size, g.n * plane, g.taps),
        (
            Strides(g.taps, 1, size * g.taps),
            Strides(0, 0, g.c // g.groups * g.h * g.w),
            Strides(plane, 0, size * plane),
        ),
        batch=g.groups,
        b_fixed=tables.positions(g),
        b_moving=tables.taps(g),
        c_table=tables.output_offsets(g),
        image=tables.image_of(g),
        bias=bias,
        bias_strides=Strides(1, 0, size),
        activation=activation,
    )
    return y


def backward_input(dy: DeviceArray, weight: DeviceArray, g: Conv2dGeometry) -> DeviceArray:
    dx = new(g.x_shape, dy.dtype)
    channels, size, plane = g.c // g.groups, g.k // g.groups, g.oh * g.ow
    for phase in tables.phases(g):
        multiply(
            dx,
            weight,
            dy,
            (channels, g.n * phase.rows[2] * phase.columns[2], size * phase.taps_per_channel),
            (
                Strides(g.kh * g.kw, 0, size * g.taps),
                Strides(0, 0, size * plane),
                Strides(g.h * g.w, 0, channels * g.h * g.w),
            ),
            batch=g.groups,
            a_table=phase.weights(g),
            b_fixed=phase.positions(g),
            b_moving=phase.taps(g),
            c_table=phase.pixels(g),
            image=phase.image(g),
        )
    return dx


def backward_weight(dy: DeviceArray, x: DeviceArray, dweight: DeviceArray, g: Conv2dGeometry) -> None:
    size, plane = g.k // g.groups, g.oh * g.ow
    multiply(
        dweight,
        dy,
        x,
        (size, g.taps, g.n * plane),
        (
            Strides(plane, 0, size * plane),
            Strides(0, 0, g.c // g.groups * g.h * g.w),
            Strides(g.taps, 1, size * g.taps),
        ),
        batch=g.groups,
        a_table=tables.output_offsets(g),
        b_fixed=tables.taps(g),
        b_moving=tables.positions(g),
        image=tables.image_of(g),
    )


def sizes(g: Conv2dGeometry, pass_: str) -> tuple[int, int, int]:
    """m, n and k of a group's product; of all phases of a stride together."""
    channels, size = g.c // g.groups, g.k // g.groups
    return {
        "forward": (size, g.n * g.oh * g.ow, g.taps),
        "backward_input": (channels, g.n * g.h * g.w, size * g.kh * g.kw),
        "backward_weight": (size, g.taps, g.n * g.oh * g.ow),
    }[pass_]


def workspace(g: Conv2dGeometry, pass_: str, itemsize: int) -> int:
    """The parts of a sum that is split; the tables are kept, so they are no part of it."""
    m, n, k = sizes(g, pass_)
    if not m * n or (pass_ == "backward_input" and max(g.sh, g.sw) > 1):
        return 0
    dtype = np.dtype(f"f{itemsize}")
    splits = plan_of(m, n, k, g.groups, dtype, operands=operands_of(m, n, dtype)).splits
    return itemsize * splits * m * n * g.groups if splits > 1 else 0
