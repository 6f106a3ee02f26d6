"""The nodes of layers that move numbers or compute them one by one: shapes, padding, resampling, activations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import nn
from ..nn.state import Shape
from . import layers
from .writer import Export, writes

__all__ = ["padded"]

# Activations.

_OF_ONE: dict[type[nn.Layer], str] = {
    nn.ReLU: "Relu", nn.Sigmoid: "Sigmoid", nn.Tanh: "Tanh", nn.SELU: "Selu", nn.Softsign: "Softsign",
    nn.Identity: "Identity",
}  # fmt: skip


@writes(*_OF_ONE)
def _of_one(export: Export, layer: Any, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    return export.node(_OF_ONE[type(layer)], inputs, name)


@writes(nn.LeakyReLU)
def _leaky(export: Export, layer: nn.LeakyReLU, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    return export.node("LeakyRelu", inputs, name, alpha=float(layer.negative_slope))


@writes(nn.ELU, nn.CELU)
def _elu(export: Export, layer: Any, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    return export.node("Elu" if isinstance(layer, nn.ELU) else "Celu", inputs, name, alpha=float(layer.alpha))


@writes(nn.Hardsigmoid)
def _hardsigmoid(export: Export, layer: Any, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    return export.node("HardSigmoid", inputs, name, alpha=1 / 6, beta=0.5)


@writes(nn.Hardswish)
def _hardswish(export: Export, layer: Any, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    if export.opset >= 14:
        return export.node("HardSwish", inputs, name)
    gate = export.node("HardSigmoid", inputs, f"{name}/gate", alpha=1 / 6, beta=0.5)
    return export.node("Mul", [*inputs, gate], name)


@writes(nn.SiLU)
def _silu(export: Export, layer: Any, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    return export.node("Mul", [*inputs, export.node("Sigmoid", inputs, f"{name}/gate")], name)


@writes(nn.Mish)
def _mish(export: Export, layer: Any, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    if export.opset >= 18:
        return export.node("Mish", inputs, name)
    gate = export.node("Tanh", [export.node("Softplus", inputs, f"{name}/softplus")], f"{name}/gate")
    return export.node("Mul", [*inputs, gate], name)


@writes(nn.GELU)
def _gelu(export: Export, layer: nn.GELU, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    (x,) = inputs
    if export.opset >= 20:
        return export.node("Gelu", [x], name, approximate=layer.approximate)
    half, one = export.scalar(0.5, x, f"{name}/half"), export.scalar(1, x, f"{name}/one")
    if layer.approximate == "none":
        y = export.node("Erf", [export.node("Div", [x, export.scalar(2**0.5, x, f"{name}/root")], f"{name}/by_root")],
                        f"{name}/erf")  # fmt: skip
        y = export.node("Mul", [x, export.node("Add", [y, one], f"{name}/share")], f"{name}/twice")
        return export.node("Mul", [y, half], name)
    cube = export.node("Mul", [x, export.node("Mul", [x, x], f"{name}/square")], f"{name}/cube")
    cube = export.node("Mul", [cube, export.scalar(0.044715, x, f"{name}/small")], f"{name}/part")
    inner = export.node("Add", [x, cube], f"{name}/inner")
    inner = export.node("Mul", [inner, export.scalar((2 / math.pi) ** 0.5, x, f"{name}/root")], f"{name}/scaled")
    share = export.node("Add", [export.node("Tanh", [inner], f"{name}/tanh"), one], f"{name}/share")
    return export.node("Mul", [export.node("Mul", [x, half], f"{name}/halved"), share], name)


@writes(nn.Softplus)
def _softplus(export: Export, layer: nn.Softplus, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    (x,) = inputs
    if (layer.beta, layer.threshold) == (1.0, 20.0):
        return export.node("Softplus", [x], name)
    beta = export.scalar(layer.beta, x, f"{name}/beta")
    scaled = export.node("Mul", [x, beta], f"{name}/scaled")
    is_above = export.node("Greater", [scaled, export.scalar(layer.threshold, x, f"{name}/threshold")], f"{name}/above")
    y = export.node("Div", [export.node("Softplus", [scaled], f"{name}/softplus"), beta], f"{name}/below")
    return export.node("Where", [is_above, x, y], name)


@writes(nn.Hardtanh, nn.ReLU6)
def _clip(export: Export, layer: Any, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    low, high = (0.0, 6.0) if isinstance(layer, nn.ReLU6) else (layer.min_val, layer.max_val)
    bounds = [export.scalar(low, inputs[0], f"{name}/min"), export.scalar(high, inputs[0], f"{name}/max")]
    return export.node("Clip", [*inputs, *bounds], name)


@writes(nn.PReLU)
def _prelu(export: Export, layer: nn.PReLU, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    slope, after = export.state(layer.weight), len(shapes[0]) - 2
    if layer.num_parameters > 1 and after > 0:
        axes = export.numbers(list(range(1, after + 1)), f"{name}/axes")
        slope = export.node("Unsqueeze", [slope, axes], f"{name}/column")
    return export.node("PRelu", [*inputs, slope], name)


@writes(nn.Softmax, nn.LogSoftmax)
def _softmax(export: Export, layer: Any, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    return export.node("Softmax" if isinstance(layer, nn.Softmax) else "LogSoftmax", inputs, name, axis=layer.dim)


@writes(nn.Dropout)
def _dropout(export: Export, layer: nn.Dropout, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    # It has to be below 1.
    ratio = export.constant(np.float32(min(layer.p, np.nextafter(np.float32(1), np.float32(0)))), f"{name}/ratio")
    return export.node("Dropout", [*inputs, ratio], name)


@writes(nn.Dropout2d)
def _dropout2d(export: Export, layer: Any, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    return inputs[0]


# Several inputs.


@writes(nn.Sum)
def _sum(export: Export, layer: Any, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    return export.node("Add" if len(inputs) == 2 else "Sum", inputs, name)


@writes(nn.Product)
def _product(export: Export, layer: Any, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    if len(inputs) == 1:
        return export.node("Identity", inputs, name)
    y = inputs[0]
    for i, factor in enumerate(inputs[1:], 2):
        y = export.node("Mul", [y, factor], name if i == len(inputs) else f"{name}/{i}")
    return y


@writes(nn.Concatenate)
def _concatenate(export: Export, layer: Any, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    return export.node("Concat", inputs, name, axis=1)


# Shapes.


def _reshaped(export: Export, x: str, shape: Sequence[int], name: str) -> str:
    return export.node("Reshape", [x, export.numbers(shape, f"{name}/shape")], name)


@writes(nn.Flatten)
def _flatten(export: Export, layer: Any, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    return export.node("Flatten", inputs, name, axis=1)


@writes(nn.Reshape, nn.Unflatten)
def _reshape(export: Export, layer: Any, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    return _reshaped(export, inputs[0], export.batch(layer.output_shape(shapes[0])), name)


@writes(layers.ReshapeTo)
def _reshape_to(export: Export, layer: layers.ReshapeTo, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    return _reshaped(export, inputs[0], layer.shape, name)


@writes(layers.Rearrange)
def _rearrange(export: Export, layer: layers.Rearrange, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    order = [part for axis in layer.joined for part in axis]
    if len(order) == len(layer.split) == len(layer.joined):
        return export.node("Transpose", inputs, name, perm=order)
    sizes = [size for axis in layer._sizes(shapes[0]) for size in axis]
    split = _reshaped(export, inputs[0], [0, *sizes[1:]], f"{name}/split")
    turned = export.node("Transpose", [split], f"{name}/turned", perm=order)
    return _reshaped(export, turned, export.batch(layer.output_shape(shapes[0])), name)


@writes(nn.PixelShuffle)
def _pixel_shuffle(export: Export, layer: nn.PixelShuffle, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    return export.node("DepthToSpace", inputs, name, blocksize=layer.upscale_factor, mode="CRD")


@writes(nn.PixelUnshuffle)
def _pixel_unshuffle(export: Export, layer: Any, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    r, (_, c, h, w) = layer.downscale_factor, shapes[0]
    y = _reshaped(export, inputs[0], [0, c, h // r, r, w // r, r], f"{name}/split")
    y = export.node("Transpose", [y], f"{name}/turned", perm=[0, 1, 3, 5, 2, 4])
    return _reshaped(export, y, [0, c * r * r, h // r, w // r], name)


@writes(nn.ChannelShuffle)
def _channel_shuffle(export: Export, layer: Any, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    g, (_, c, *rest) = layer.groups, shapes[0]
    y = _reshaped(export, inputs[0], [0, g, c // g, *rest], f"{name}/split")
    y = export.node("Transpose", [y], f"{name}/turned", perm=[0, 2, 1, *range(3, 3 + len(rest))])
    return _reshaped(export, y, [0, c, *rest], name)


@writes(layers.Take)
def _take(export: Export, layer: layers.Take, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    first, count = layer.indices[0], len(layer.indices)
    if tuple(layer.indices) != tuple(range(first, first + count)):
        return export.node("Gather", [*inputs, export.numbers(layer.indices, f"{name}/indices")], name, axis=layer.axis)
    return _cut(export, inputs[0], layer.axis, first, first + count, name)


def _cut(export: Export, x: str, axis: int, first: int, end: int, name: str) -> str:
    bounds = [export.numbers([n], f"{name}/{what}") for n, what in ((first, "first"), (end, "end"), (axis, "axis"))]
    return export.node("Slice", [x, *bounds], name)


# Padding and resampling.


@writes(nn.ZeroPad2d, nn.ConstantPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.CircularPad2d)
def _pad(export: Export, layer: Any, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    left, right, top, bottom = layer.padding
    before, after = [0, 0, top, left], [0, 0, bottom, right]
    return padded(export, inputs[0], shapes[0], before, after, layer.mode, layer.value, name, is_last=True)


@writes(nn.ZeroPadChannels)
def _pad_channels(export: Export, layer: Any, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    (before, after), others = layer.padding, [0] * (len(shapes[0]) - 2)
    ends = [0, before, *others], [0, after, *others]
    return padded(export, inputs[0], shapes[0], *ends, "constant", 0.0, name, is_last=True)


@writes(layers.PadAxis)
def _pad_axis(export: Export, layer: layers.PadAxis, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    before, after = [0] * len(shapes[0]), [0] * len(shapes[0])
    before[layer.axis], after[layer.axis] = layer.sides[2:]
    return padded(export, inputs[0], shapes[0], before, after, layer.mode, layer.value, name, is_last=True)


def padded(
    export: Export,
    x: str,
    shape: Shape,
    before: Sequence[int],
    after: Sequence[int],
    mode: str,
    value: float,
    name: str,
    is_last: bool = False,
) -> str:
    """``x`` of ``shape`` padded by so much of each axis, or cut off; the node has the name of the layer if it is last.

    ``mode`` is one of `ops.pad2d`.
    """
    own = name if is_last else f"{name}/padded"
    if mode == "constant":
        pads = export.numbers([*before, *after], f"{name}/pads")
        return export.node("Pad", [x, pads, export.scalar(value, x, f"{name}/fill")], own, mode="constant")
    steps = [(axis, b, a) for axis, (b, a) in enumerate(zip(before, after, strict=True)) if (b, a) != (0, 0)]
    sizes = list(shape)
    if not steps:
        return export.node("Identity", [x], own)
    whole = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode]
    if min(*before, *after) >= 0 and (mode != "circular" or export.opset >= 19):
        pads = export.numbers([*before, *after], f"{name}/pads")
        return export.node("Pad", [x, pads], own, mode=whole)
    for i, (axis, b, a) in enumerate(steps):
        last = own if i == len(steps) - 1 else f"{own}/axis{axis}"
        x = _pad_one(export, x, sizes, axis, (b, a), mode, last)
        sizes[axis] += b + a
    return x


def _pad_one(
    export: Export, x: str, sizes: Sequence[int], axis: int, sides: tuple[int, int], mode: str, name: str
) -> str:
    """One axis: reflections and copies of the border are cut off after padding, repetitions before."""
    (b, a), size = sides, sizes[axis]
    is_cut = min(b, a) < 0
    if mode == "circular":
        if is_cut:
            first, end = max(-b, 0), size - max(-a, 0)
            x, size = _cut(export, x, axis, first, end, f"{name}/cut" if max(b, a) > 0 else name), end - first
        parts = [_cut(export, x, axis, size - b, size, f"{name}/before")] if b > 0 else []
        parts += [x]
        parts += [_cut(export, x, axis, 0, a, f"{name}/after")] if a > 0 else []
        return x if len(parts) == 1 else export.node("Concat", parts, name, axis=axis)
    if max(b, a) > 0:
        pads = [0] * 2 * len(sizes)
        pads[axis], pads[axis + len(sizes)] = max(b, 0), max(a, 0)
        given = [x, export.numbers(pads, f"{name}/pads")]
        kind = {"reflect": "reflect", "replicate": "edge"}[mode]
        x = export.node("Pad", given, f"{name}/whole" if is_cut else name, mode=kind)
        size += max(b, 0) + max(a, 0)
    return _cut(export, x, axis, max(-b, 0), size - max(-a, 0), name) if is_cut else x


@writes(nn.Upsample)
def _upsample(export: Export, layer: nn.Upsample, name: str, inputs: list[str], shapes: list[Shape]) -> str:
    (x,), shape = inputs, shapes[0]
    settings = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    if layer.mode == "bilinear":
        point = "align_corners" if layer.align_corners else "half_pixel"
        settings = {"mode": "linear", "coordinate_transformation_mode": point}
    oh, ow = layer.output_shape(shape)[2:]
    if layer.scale_factor is not None and not layer.align_corners:
        scales = np.broadcast_to(np.asarray(layer.scale_factor, np.float32), (2,))
        if [math.floor(size * float(s)) for size, s in zip(shape[2:], scales, strict=True)] == [oh, ow]:
            given = export.constant(np.array([1, 1, *scales], np.float32), f"{name}/scales")
            return export.node("Resize", [x, "", given], name, **settings)
    first = _cut(export, export.node("Shape", [x], f"{name}/shape"), 0, 0, 2, f"{name}/batch")
    sizes = export.node("Concat", [first, export.numbers([oh, ow], f"{name}/image")], f"{name}/sizes", axis=0)
    return export.node("Resize", [x, "", "", sizes], name, **settings)
