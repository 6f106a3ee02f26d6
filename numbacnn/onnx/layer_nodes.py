"""The nodes of each kind of layer: windows, weights, normalisation. `shape_nodes` has those that only move numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import nn
from ..nn.state import Shape
from . import arithmetic, layers, products
from .patterns import adaptive_matrix
from .shape_nodes import padded
from .writer import Export, writes

__all__: list[str] = []

_OF_LINES = (nn.Conv1d, nn.ConvTranspose1d, nn.MaxPool1d, nn.AvgPool1d)


def _window(layer: Any) -> dict[str, Any]:
    """Kernel, stride, dilation and pads, of lines those of the second axis of an image alone."""
    window = layer.window()
    first = 1 if isinstance(layer, _OF_LINES) else 0
    sides = window.padding[first:]
    return {
        "kernel_shape": list(window.kernel[first:]),
        "strides": list(window.stride[first:]),
        "dilations": list(window.dilation[first:]),
        "pads": [before for before, _ in sides] + [after for _, after in sides],
    }


def _weights(export: Export, layer: Any) -> list[str]:
    return [export.state(state) for state in (layer.weight, layer.bias) if state is not None]


@writes(nn.Conv1d, nn.Conv2d)
def _conv(export: Export, layer: Any, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    x, options = inputs[0], _window(layer)
    if layer.padding_mode != "zeros" and any(options["pads"]):
        pads = options["pads"]
        half = len(pads) // 2
        x = padded(export, x, shapes[0], [0, 0, *pads[:half]], [0, 0, *pads[half:]], layer.padding_mode, 0.0, name)
        options["pads"] = [0] * len(pads)
    return export.node("Conv", [x, *_weights(export, layer)], name, group=layer.groups, **options)


@writes(nn.ConvTranspose1d, nn.ConvTranspose2d)
def _conv_transpose(export: Export, layer: Any, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    count, x = len(layer.kernel_size), inputs[0]
    sides = [list(both) for both in layer._sides()[2 - count :]]
    more, rows = list(layer.output_padding), [0] * count
    for axis, stride in enumerate(layer.stride):
        if more[axis] >= stride:
            # Runtimes want less: zeros after the input make the output longer, and what is too much is taken away.
            rows[axis] = -(-more[axis] // stride)
            sides[axis][1] += rows[axis] * stride - more[axis]
            more[axis] = 0
    if any(rows):
        x = padded(export, x, shapes[0], [0] * (count + 2), [0, 0, *rows], "constant", 0.0, name)
    return export.node(
        "ConvTranspose", [x, *_weights(export, layer)], name, group=layer.groups,
        kernel_shape=list(layer.kernel_size), strides=list(layer.stride), dilations=list(layer.dilation),
        pads=[before for before, _ in sides] + [after for _, after in sides], output_padding=more,
    )  # fmt: skip


@writes(nn.Linear)
def _linear(export: Export, layer: nn.Linear, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    if len(shapes[0]) == 2:
        return export.node("Gemm", [*inputs, *_weights(export, layer)], name, transB=1)
    turned = export.node("Transpose", [export.state(layer.weight)], f"{name}/turned", perm=[1, 0])
    y = export.node("MatMul", [*inputs, turned], name if layer.bias is None else f"{name}/product")
    return y if layer.bias is None else export.node("Add", [y, export.state(layer.bias)], name)


@writes(nn.MaxPool1d, nn.MaxPool2d)
def _max_pool(export: Export, layer: Any, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    return export.node("MaxPool", inputs, name, **_rounded(layer, shapes[0], _window(layer)))


@writes(nn.AvgPool1d, nn.AvgPool2d)
def _avg_pool(export: Export, layer: Any, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    options, x = _window(layer), inputs[0]
    del options["dilations"]  # There are none, and no attribute before opset 19.
    count = len(options["kernel_shape"])
    divisor, hangs = layer.divisor_override, _hangs_over(layer, shapes[0], options)
    if divisor is None and (not any(hangs) or not layer.count_include_pad):
        return export.node(
            "AveragePool", [x], name, count_include_pad=int(layer.count_include_pad),
            **_rounded(layer, shapes[0], options),
        )  # fmt: skip
    # Windows that hang over the end count what is there, the padding included, and so it is made explicit.
    pads = options["pads"]
    if any(pads):
        x = padded(export, x, shapes[0], [0, 0, *pads[:count]], [0, 0, *pads[count:]], "constant", 0.0, name)
    options["pads"] = [0] * count + hangs
    area = math.prod(options["kernel_shape"])
    own = name if divisor is None else f"{name}/mean"
    y = export.node("AveragePool", [x], own, count_include_pad=int(divisor is not None), **options)
    if divisor is None:
        return y
    return export.node("Mul", [y, export.scalar(area / divisor, y, f"{name}/share")], name)


def _rounded(layer: Any, shape: Shape, options: dict[str, Any]) -> dict[str, Any]:
    """``options`` with ceil_mode: before opset 19 it kept a last window that is all padding, which none is here."""
    if not layer.ceil_mode:
        return options
    count, pads = len(options["kernel_shape"]), options["pads"]
    outputs = []
    for i, size in enumerate(shape[2:]):
        extent = options.get("dilations", [1] * count)[i] * (options["kernel_shape"][i] - 1) + 1
        outputs.append(-(-(size + pads[i] + pads[i + count] - extent) // options["strides"][i]) + 1)
    if list(layer.output_shape(shape)[2:]) == outputs:
        return {**options, "ceil_mode": 1}
    hangs = _hangs_over(layer, shape, options)
    return {**options, "pads": [*pads[:count], *(a + b for a, b in zip(pads[count:], hangs, strict=True))]}


def _hangs_over(layer: Any, shape: Shape, options: dict[str, Any]) -> list[int]:
    """By how much the last window goes beyond the padded end of each axis."""
    count = len(options["kernel_shape"])
    found = []
    for i, (size, outputs) in enumerate(zip(shape[2:], layer.output_shape(shape)[2:], strict=True)):
        extent = options.get("dilations", [1] * count)[i] * (options["kernel_shape"][i] - 1) + 1
        end = (outputs - 1) * options["strides"][i] + extent
        found.append(max(end - size - options["pads"][i] - options["pads"][i + count], 0))
    return found


@writes(nn.LPPool2d)
def _lp_pool(export: Export, layer: nn.LPPool2d, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    options, power = _window(layer), layer.norm_type
    del options["dilations"]
    options["pads"] = [0, 0, *_hangs_over(layer, shapes[0], options)]
    if power % 2 == 0 and not any(options["pads"]):
        return export.node("LpPool", inputs, name, p=int(power), **options)
    area = math.prod(options["kernel_shape"])
    y = export.node("Pow", [*inputs, export.scalar(power, inputs[0], f"{name}/p")], f"{name}/powers")
    y = export.node("AveragePool", [y], f"{name}/mean", **options)
    y = export.node("Mul", [y, export.scalar(area, y, f"{name}/area")], f"{name}/sum")
    return export.node("Pow", [y, export.scalar(1 / power, y, f"{name}/root")], name)


@writes(nn.GlobalAvgPool2d)
def _global(export: Export, layer: Any, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    return export.node("GlobalAveragePool", inputs, name)


@writes(nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
def _adaptive(export: Export, layer: Any, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    h, w = shapes[0][2:]
    oh, ow = layer.output_shape(shapes[0])[2:]
    largest = isinstance(layer, nn.AdaptiveMaxPool2d)
    if (oh, ow) == (1, 1):
        return export.node("GlobalMaxPool" if largest else "GlobalAveragePool", inputs, name)
    if h % oh == w % ow == 0:
        sizes = [h // oh, w // ow]
        return export.node("MaxPool" if largest else "AveragePool", inputs, name, kernel_shape=sizes, strides=sizes)
    if not largest:
        # Each axis is a product with a fixed matrix.
        dtype = export.dtype(inputs[0])
        columns = export.constant(adaptive_matrix(w, ow).T.astype(dtype), f"{name}/columns")
        rows = export.constant(adaptive_matrix(h, oh).astype(dtype), f"{name}/rows")
        return export.node("MatMul", [rows, export.node("MatMul", [inputs[0], columns], f"{name}/wide")], name)
    y = _largest_along(export, inputs[0], 2, h, oh, f"{name}/tall")
    return _largest_along(export, y, 3, w, ow, name)


def _largest_along(export: Export, x: str, axis: int, size: int, outputs: int, name: str) -> str:
    parts = []
    for i in range(outputs):
        first, end = i * size // outputs, -(-(i + 1) * size // outputs)
        bounds = [export.numbers([n], f"{name}/{what}") for n, what in ((first, "first"), (end, "end"), (axis, "axis"))]
        part = export.node("Slice", [x, *bounds], f"{name}/window")
        parts.append(_reduced(export, "ReduceMax", part, [axis], f"{name}/largest"))
    return export.node("Concat", parts, name, axis=axis)


def _reduced(export: Export, op: str, x: str, axes: list[int], name: str) -> str:
    if export.opset >= 18 or op == "ReduceSum":
        return export.node(op, [x, export.numbers(axes, f"{name}/axes")], name, keepdims=1)
    return export.node(op, [x], name, axes=axes, keepdims=1)


# Normalisation.


def _affine(export: Export, layer: Any, count: int, dtype: Any, name: str) -> list[str]:
    """Scale and shift: the parameters, or ones and zeros."""
    ones, zeros = np.ones(count, dtype), np.zeros(count, dtype)
    return [
        export.constant(neutral, f"{name}/{what}") if state is None else export.state(state)
        for state, neutral, what in ((layer.weight, ones, "ones"), (layer.bias, zeros, "zeros"))
    ]


@writes(nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm, nn.InstanceNorm1d, nn.InstanceNorm2d)
def _channel_norm(export: Export, layer: Any, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    of_batch = isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm))
    shape, eps = shapes[0], float(layer.eps)
    scales = _affine(export, layer, layer.num_features, export.dtype(inputs[0]), name)
    if layer.running_mean is not None:
        statistics = [export.state(layer.running_mean), export.state(layer.running_var)]
        momentum = float(1 - layer.momentum)
        return export.node("BatchNormalization", [*inputs, *scales, *statistics], name, epsilon=eps, momentum=momentum)
    if not of_batch:
        return export.node("InstanceNormalization", [*inputs, *scales], name, epsilon=eps)
    # Statistics of the batch: its samples in one, channel by channel.
    order = [1, 0, *range(2, len(shape))]
    y = export.node("Transpose", inputs, f"{name}/turned", perm=order)
    y = export.node("Reshape", [y, export.numbers([1, shape[1], -1], f"{name}/flat")], f"{name}/lines")
    y = export.node("InstanceNormalization", [y, *scales], f"{name}/norm", epsilon=eps)
    back = export.numbers([shape[1], -1, *shape[2:]], f"{name}/shape")
    return export.node("Transpose", [export.node("Reshape", [y, back], f"{name}/restored")], name, perm=order)


@writes(nn.GroupNorm)
def _group_norm(export: Export, layer: nn.GroupNorm, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    groups = export.numbers([0, layer.num_groups, -1], f"{name}/groups")
    return _by_instances(export, layer, name, inputs[0], groups, layer.num_groups, len(shapes[0]) - 2)


@writes(nn.LayerNorm)
def _layer_norm(export: Export, layer: nn.LayerNorm, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    if export.opset >= 17:
        dtype = export.dtype(inputs[0])
        ones = np.ones(layer.normalized_shape, dtype)
        scale = export.constant(ones, f"{name}/ones") if layer.weight is None else export.state(layer.weight)
        bias = [] if layer.bias is None else [export.state(layer.bias)]
        axis, eps = -len(layer.normalized_shape), float(layer.eps)
        return export.node("LayerNormalization", [*inputs, scale, *bias], name, axis=axis, epsilon=eps)
    rows = export.numbers([-1, 1, math.prod(layer.normalized_shape)], f"{name}/rows")
    return _by_instances(export, layer, name, inputs[0], rows, 1, 0)


def _by_instances(export: Export, layer: Any, name: str, x: str, lines: str, count: int, after: int) -> str:
    """Normalisation of x as ``lines`` of ``count`` channels; then the parameters, with ``after`` more axes."""
    dtype, shape = export.dtype(x), export.node("Shape", [x], f"{name}/shape")
    ones, zeros = np.ones(count, dtype), np.zeros(count, dtype)
    neutral = [export.constant(ones, f"{name}/ones"), export.constant(zeros, f"{name}/zeros")]
    y = export.node("Reshape", [x, lines], f"{name}/lines")
    y = export.node("InstanceNormalization", [y, *neutral], f"{name}/norm", epsilon=float(layer.eps))
    states = [(op, state) for op, state in (("Mul", layer.weight), ("Add", layer.bias)) if state is not None]
    y = export.node("Reshape", [y, shape], f"{name}/restored" if states else name)
    for i, (op, state) in enumerate(states):
        factor = export.state(state)
        if after:
            axes = export.numbers(list(range(1, after + 1)), f"{name}/axes")
            factor = export.node("Unsqueeze", [factor, axes], f"{name}/column")
        y = export.node(op, [y, factor], name if i == len(states) - 1 else f"{name}/scaled")
    return y


@writes(nn.LocalResponseNorm)
def _response_norm(export: Export, layer: Any, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    size, (x,), shape = layer.size, inputs, shapes[0]
    if size % 2:
        return export.node("LRN", [x], name, size=size, alpha=layer.alpha, beta=layer.beta, bias=layer.k)
    # ONNX has the longer side after the channel.
    y = export.node("Mul", [x, x], f"{name}/squares")
    flat = export.numbers([0, 1, shape[1], math.prod(shape[2:])], f"{name}/flat")
    y = export.node("Reshape", [y, flat], f"{name}/lines")
    pads = [size // 2, 0, (size - 1) // 2, 0]
    y = export.node("AveragePool", [y], f"{name}/mean", kernel_shape=[size, 1], pads=pads, count_include_pad=1)
    y = export.node("Reshape", [y, export.numbers(export.batch(shape), f"{name}/shape")], f"{name}/restored")
    y = export.node("Mul", [y, export.scalar(layer.alpha, y, f"{name}/alpha")], f"{name}/scaled")
    y = export.node("Add", [y, export.scalar(layer.k, y, f"{name}/k")], f"{name}/sum")
    y = export.node("Pow", [y, export.scalar(layer.beta, y, f"{name}/beta")], f"{name}/power")
    return export.node("Div", [x, y], name)


# Layers of files that were loaded.

_ARITHMETIC = {
    "add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div", "maximum": "Max", "minimum": "Min",
}  # fmt: skip


@writes(arithmetic.Combine)
def _combine(export: Export, layer: arithmetic.Combine, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    given = list(inputs)
    if layer.value is not None:
        if isinstance(layer.value, nn.Parameter):
            value = export.state(layer.value)
        else:
            array = np.asarray(layer.backend.to_numpy(layer.value.value)).astype(export.dtype(inputs[0]))
            value = export.constant(array, f"{name}/value")
        given.insert(0 if layer.constant_first else 1, value)
    return export.node(_ARITHMETIC[layer.operation], given, name)


@writes(arithmetic.Function)
def _function(export: Export, layer: arithmetic.Function, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    if layer.exponent is None:
        return export.node(layer.operation.capitalize(), inputs, name)
    return export.node("Pow", [*inputs, export.scalar(layer.exponent, inputs[0], f"{name}/exponent")], name)


@writes(products.MatrixProduct)
def _product(export: Export, layer: Any, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    return export.node("MatMul", inputs, name)


@writes(arithmetic.Reduce)
def _reduce(export: Export, layer: arithmetic.Reduce, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    op = {"mean": "ReduceMean", "sum": "ReduceSum", "max": "ReduceMax"}[layer.operation]
    return _reduced(export, op, inputs[0], list(layer.axes), name)


@writes(layers.Along)
def _along(export: Export, layer: layers.Along, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    x, rank = inputs[0], len(shapes[0])
    matrix = np.asarray(layer.backend.to_numpy(layer.matrix.value)).astype(export.dtype(x))
    last = [axis for axis in range(rank) if axis != layer.axis] + [layer.axis]
    if layer.axis == rank - 2:
        return export.node("MatMul", [export.constant(matrix, f"{name}/matrix"), x], name)
    turned = export.constant(matrix.T, f"{name}/matrix")
    if layer.axis == rank - 1:
        return export.node("MatMul", [x, turned], name)
    y = export.node("Transpose", [x], f"{name}/turned", perm=last)
    y = export.node("MatMul", [y, turned], f"{name}/product")
    return export.node("Transpose", [y], name, perm=[last.index(axis) for axis in range(rank)])
