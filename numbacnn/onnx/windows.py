"""Convolutions and pooling of ONNX as layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import nn
from ..ops.padding import line_padding_form, padding_form
from .arithmetic import Reduce
from .call import Call, Const, Output, Tensor, UnsupportedError, translates
from .layers import PadAxis

__all__: list[str] = []

Sides = list[tuple[int, int]]


def _axes(call: Call, x: Tensor) -> int:
    if x.rank not in (3, 4):
        raise UnsupportedError(f"its input has the shape {x.shape}, must have (n, c, l) or (n, c, h, w)")
    return x.rank - 2


def _numbers(call: Call, name: str, count: int, default: int) -> list[int]:
    values = [int(value) for value in call.attribute(name, [default] * count)]
    if len(values) != count or min(values, default=1) < 1:
        raise UnsupportedError(f"{name} {values} must be {count} numbers of at least 1")
    return values


def _sides(call: Call, x: Tensor, kernel: list[int], stride: list[int], dilation: list[int]) -> Sides:
    """The padding before and after each axis."""
    count = len(kernel)
    pads = [int(value) for value in call.attribute("pads", [0] * 2 * count)]
    auto = call.attribute("auto_pad", "NOTSET")
    if auto in ("NOTSET", "VALID"):
        if len(pads) != 2 * count or min(pads, default=0) < 0:
            raise UnsupportedError(f"pads {pads} must be {2 * count} numbers of at least 0")
        return [(0, 0)] * count if auto == "VALID" else list(zip(pads[:count], pads[count:], strict=True))
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise UnsupportedError(f"auto_pad {auto!r} is unknown")
    found = set()
    for shape in x.shapes:
        sides = []
        for size, k, s, d in zip(shape[2:], kernel, stride, dilation, strict=True):
            total = max((math.ceil(size / s) - 1) * s + d * (k - 1) + 1 - size, 0)
            less, more = total // 2, total - total // 2
            sides.append((less, more) if auto == "SAME_UPPER" else (more, less))
        found.add(tuple(sides))
    if len(found) > 1:
        raise UnsupportedError("what auto_pad pads by depends on the size of the model's input")
    return list(found.pop())


def _setting(values: Sequence[Any]) -> Any:
    """Of images a pair, of lines a number alone in a tuple."""
    return tuple(values)


@translates("Conv")
def _conv(call: Call) -> Output:
    x, weight = call.tensor(), call.weight(1, "the weight")
    count, numbers = _axes(call, x), weight.arrays[0]
    if numbers.ndim != count + 2:
        raise UnsupportedError(f"its weight has the shape {numbers.shape} for an input of {x.shape}")
    kernel = _numbers(call, "kernel_shape", count, 1) if "kernel_shape" in call.attributes else list(numbers.shape[2:])
    if tuple(kernel) != numbers.shape[2:]:
        raise UnsupportedError(f"kernel_shape {kernel} is not that of its weight {numbers.shape}")
    stride, dilation = _numbers(call, "strides", count, 1), _numbers(call, "dilations", count, 1)
    groups, bias = int(call.attribute("group", 1)), _bias(call)
    layer = (nn.Conv1d, nn.Conv2d)[count - 1](
        numbers.shape[1] * groups, numbers.shape[0], _setting(kernel), _setting(stride),
        _setting(_sides(call, x, kernel, stride, dilation)), _setting(dilation), groups, bias is not None,
        dtype=_dtype(numbers),
    )  # fmt: skip
    states = {"weight": (weight, numbers)}
    if bias is not None:
        states["bias"] = (bias, bias.arrays[0])
    call.fill(layer, states)
    return call.emit(layer, x)


def _bias(call: Call) -> Const | None:
    """Zeros that no initializer has, which some exporters give a layer without a bias, are none."""
    bias = call.weight(2, "the bias") if call.has(2) else None
    return None if bias is None or not (bias.origin or np.any(bias.arrays[0])) else bias


@translates("ConvTranspose")
def _conv_transpose(call: Call) -> Output:
    x, weight = call.tensor(), call.weight(1, "the weight")
    count, numbers = _axes(call, x), weight.arrays[0]
    if numbers.ndim != count + 2:
        raise UnsupportedError(f"its weight has the shape {numbers.shape} for an input of {x.shape}")
    call.ignore("kernel_shape")
    kernel = list(numbers.shape[2:])
    stride, dilation = _numbers(call, "strides", count, 1), _numbers(call, "dilations", count, 1)
    groups, more = int(call.attribute("group", 1)), list(call.attribute("output_padding", [0] * count))
    sides = _transposed_sides(call, x, kernel, stride, dilation, more)
    # What is added after y beyond what the layer takes is padding that is left out.
    for axis, (before, after) in enumerate(sides):
        if before < 0 or after < 0:
            raise UnsupportedError(f"it would pad its output by {(-before, -after)}")
        most = max(stride[axis], dilation[axis]) - 1
        taken = min(after, max(more[axis] - most, 0))
        sides[axis], more[axis] = (before, after - taken), more[axis] - taken
        if more[axis] > most:
            raise UnsupportedError(f"output_padding {more} must be less than the stride or the dilation")
    bias = _bias(call)
    layer = (nn.ConvTranspose1d, nn.ConvTranspose2d)[count - 1](
        numbers.shape[0], numbers.shape[1] * groups, _setting(kernel), _setting(stride), _setting(sides),
        _setting(more), groups, bias is not None, _setting(dilation), dtype=_dtype(numbers),
    )  # fmt: skip
    states = {"weight": (weight, numbers)}
    if bias is not None:
        states["bias"] = (bias, bias.arrays[0])
    call.fill(layer, states)
    return call.emit(layer, x)


def _transposed_sides(
    call: Call, x: Tensor, kernel: list[int], stride: list[int], dilation: list[int], more: list[int]
) -> Sides:
    """What is taken away before and after each axis of the output."""
    count, auto = len(kernel), call.attribute("auto_pad", "NOTSET")
    output = call.attribute("output_shape")
    pads = [int(value) for value in call.attribute("pads", [0] * 2 * count)]
    if output is None and auto in ("NOTSET", "VALID"):
        return [(0, 0)] * count if auto == "VALID" else list(zip(pads[:count], pads[count:], strict=True))
    found = set()
    for shape in x.shapes:
        sides = []
        for axis, size in enumerate(shape[2:]):
            wanted = size * stride[axis] if output is None else int(output[-count:][axis])
            total = stride[axis] * (size - 1) + more[axis] + dilation[axis] * (kernel[axis] - 1) + 1 - wanted
            if total < 0:
                more[axis] -= total
                total = 0
            half = total // 2
            sides.append((half, total - half) if auto == "SAME_UPPER" else (total - half, half))
        found.add(tuple(sides))
    if len(found) > 1:
        raise UnsupportedError("its output_shape depends on the size of the model's input")
    return list(found.pop())


@translates("MaxPool", "AveragePool", "LpPool")
def _pool(call: Call) -> Output:
    x, kind = call.tensor(), call.node.op_type
    count = _axes(call, x)
    call.only_output()
    call.ignore("storage_order")
    kernel = _numbers(call, "kernel_shape", count, 0)
    stride, dilation = _numbers(call, "strides", count, 1), _numbers(call, "dilations", count, 1)
    sides, ceil_mode = _sides(call, x, kernel, stride, dilation), bool(call.attribute("ceil_mode", 0))
    counts_padding = bool(call.attribute("count_include_pad", 0)) if kind == "AveragePool" else True
    power = int(call.attribute("p", 2)) if kind == "LpPool" else 0
    if kind != "MaxPool" and dilation != [1] * count:
        raise UnsupportedError(f"dilations {dilation} of a pooling that is not of the largest")
    if power % 2:
        raise UnsupportedError(f"p {power} is odd, which needs absolute values")
    halves = [(d * (k - 1) + 1) // 2 for k, d in zip(kernel, dilation, strict=True)]
    padded = any(sides_ != (0, 0) for sides_ in sides)
    if padded and (kind == "LpPool" or any(max(both) > half for both, half in zip(sides, halves, strict=True))):
        if not counts_padding:
            raise UnsupportedError(f"pads of more than half of kernel_shape {kernel} without count_include_pad")
        x = _padded(call, x, sides, -np.inf if kind == "MaxPool" else 0.0)
        sides = [(0, 0)] * count
    options: dict[str, Any] = {"stride": _setting(stride), "ceil_mode": ceil_mode}
    if kind == "LpPool":
        if count == 1:
            raise UnsupportedError("it is of lines (n, c, l)")
        layer = nn.LPPool2d(power, _setting(kernel), **options)
        floor = nn.LPPool2d(power, _setting(kernel), _setting(stride))
        if any(layer.output_shape(shape) != floor.output_shape(shape) for shape in x.shapes):
            raise UnsupportedError("ceil_mode adds windows, whose sums would be means of what is there")
        return call.emit(layer, x)
    options["padding"] = (line_padding_form, padding_form)[count - 1]("padding", _setting(sides))
    if kind == "MaxPool":
        options["dilation"] = _setting(dilation)
        return call.emit((nn.MaxPool1d, nn.MaxPool2d)[count - 1](_setting(kernel), **options), x)
    options["count_include_pad"] = counts_padding
    return call.emit((nn.AvgPool1d, nn.AvgPool2d)[count - 1](_setting(kernel), **options), x)


@translates("PowerPool")
def _power_pool(call: Call) -> Output:
    """A mean of powers, of which `patterns` found that it is a sum."""
    x, kernel = call.tensor(), _numbers(call, "kernel_shape", 2, 0)
    stride, pads = _numbers(call, "strides", 2, 1), list(call.attribute("pads", [0] * 4))
    call.ignore("count_include_pad")
    layer = nn.LPPool2d(float(call.attribute("norm_type")), _setting(kernel), _setting(stride), any(pads))
    for shape in x.shapes:
        sizes = [(size + pads[i] + pads[i + 2] - kernel[i]) // stride[i] + 1 for i, size in enumerate(shape[2:])]
        if pads[:2] != [0, 0] or list(layer.output_shape(shape)[2:]) != sizes:
            raise UnsupportedError(f"pads {pads} of a pooling of powers")
    return call.emit(layer, x)


def _padded(call: Call, x: Tensor, sides: Sides, value: float) -> Tensor:
    if len(sides) == 1:
        return call.emit(PadAxis(2, *sides[0], value=value), x, part="pad")
    (top, bottom), (left, right) = sides
    return call.emit(nn.ConstantPad2d((left, right, top, bottom), value), x, part="pad")


@translates("GlobalAveragePool")
def _global_average(call: Call) -> Output:
    x = call.tensor()
    return call.emit(nn.GlobalAvgPool2d() if x.rank == 4 else Reduce("mean", range(2, x.rank)), x)


@translates("GlobalMaxPool")
def _global_max(call: Call) -> Output:
    x = call.tensor()
    return call.emit(nn.AdaptiveMaxPool2d(1) if x.rank == 4 else Reduce("max", range(2, x.rank)), x)


@translates("AdaptiveAveragePool")
def _adaptive_average(call: Call) -> Output:
    """A pair of products with fixed matrices, of which `patterns` found what they are."""
    return call.emit(nn.AdaptiveAvgPool2d(tuple(call.attribute("output_size"))), call.tensor())


def _dtype(numbers: Any) -> Any:
    return np.float64 if numbers.dtype == np.float64 else np.float32
