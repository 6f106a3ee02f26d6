"""Normalisation and matrix products of ONNX as layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import nn
from .arithmetic import Combine
from .call import Call, Const, Output, Tensor, UnsupportedError, translates
from .layers import Along, reshaped
from .patterns import Recognised
from .pointwise import combined
from .products import MatrixProduct

__all__: list[str] = []


@translates("BatchNormalization")
def _batch_norm(call: Call) -> Output:
    x = call.tensor()
    call.only_output()
    if call.attribute("training_mode", 0):
        raise UnsupportedError("training_mode is on")
    if call.opset < 7 and not call.attribute("is_test", 0):
        raise UnsupportedError("is_test is off")
    if not call.attribute("spatial", 1):
        raise UnsupportedError("spatial is off")
    names = ("weight", "bias", "running_mean", "running_var")
    states = [call.weight(i + 1, name) for i, name in enumerate(names)]
    numbers = [const.arrays[0] for const in states]
    affine = not _is_neutral(states[0], states[1])
    kind: Any = nn.BatchNorm2d if x.rank == 4 else nn.BatchNorm1d
    momentum = float(np.clip(1 - float(call.attribute("momentum", 0.9)), 0, 1))
    layer = kind(
        numbers[0].size, float(call.attribute("epsilon", 1e-5)), float(str(np.float32(momentum))), affine,
        dtype=_dtype(*numbers),
    )  # fmt: skip
    kept = [i for i in range(4) if affine or i > 1]
    call.fill(layer, {names[i]: (states[i], numbers[i]) for i in kept})
    if x.rank <= 4:
        return call.emit(layer, x)
    lines = call.reshape(x, [(s[0], s[1], math.prod(s[2:])) for s in x.shapes], "lines")
    return call.reshape(call.emit(layer, lines), x.shapes, "restored")


@translates("InstanceNormalization")
def _instance_norm(call: Call) -> Output:
    x, scale, bias = call.tensor(), call.weight(1, "the scale"), call.weight(2, "the bias")
    eps, numbers = float(call.attribute("epsilon", 1e-5)), (scale.arrays[0], bias.arrays[0])
    affine = not _is_neutral(scale, bias)
    kind: Any = nn.InstanceNorm2d if x.rank == 4 else nn.InstanceNorm1d
    layer = kind(numbers[0].size, eps, affine=affine, dtype=_dtype(*numbers))
    if affine:
        call.fill(layer, {"weight": (scale, numbers[0]), "bias": (bias, numbers[1])})
    if x.rank in (3, 4):
        return call.emit(layer, x)
    lines = call.reshape(x, [(s[0], s[1], math.prod(s[2:])) for s in x.shapes], "lines")
    return call.reshape(call.emit(layer, lines), x.shapes, "restored")


@translates("LayerNormalization")
def _layer_norm(call: Call) -> Output:
    x, scale = call.tensor(), call.weight(1, "the scale")
    call.only_output()
    call.ignore("stash_type")
    axis = int(call.attribute("axis", -1)) % x.rank
    shapes = {shape[axis:] for shape in x.shapes}
    if len(shapes) > 1:
        raise UnsupportedError("the shape that it normalises depends on the size of the model's input")
    bias = call.weight(2, "the bias") if call.has(2) else None
    (shape,) = shapes
    neutral = bias is None and not scale.origin and bool(np.all(scale.arrays[0] == 1))
    layer = nn.LayerNorm(
        shape, float(call.attribute("epsilon", 1e-5)), not neutral, bias is not None, dtype=_dtype(scale.arrays[0])
    )
    states = {} if neutral else {"weight": (scale, np.broadcast_to(scale.arrays[0], shape))}
    if bias is not None:
        states["bias"] = (bias, np.broadcast_to(bias.arrays[0], shape))
    call.fill(layer, states)
    return call.emit(layer, x)


@translates("GroupNormalization")
def _group_norm(call: Call) -> Output:
    x, groups = call.tensor(), int(call.attribute("num_groups", 1))
    call.ignore("stash_type")
    restored = call.attribute("restored")
    if restored is not None and any(reshaped(shape, restored) != shape for shape in x.shapes):
        raise UnsupportedError(f"it is of groups, and gives another shape than {x.shape}")
    channels = x.shape[1]
    scale, bias = (call.weight(i, name) if call.has(i) else None for i, name in ((1, "the scale"), (2, "the bias")))
    eps = float(call.attribute("epsilon", 1e-5))
    numbers = [] if scale is None or bias is None else [scale.arrays[0].reshape(-1), bias.arrays[0].reshape(-1)]
    dtype = _dtype(*numbers) if numbers else np.float32
    affine = bool(numbers) and not _is_neutral(scale, bias)
    layer = nn.GroupNorm(groups, channels, eps, affine, dtype=dtype)
    if affine and scale is not None and bias is not None:
        if numbers[0].size == groups != channels:
            numbers = [np.repeat(one, channels // groups) for one in numbers]
        call.fill(layer, {"weight": (scale, numbers[0]), "bias": (bias, numbers[1])})
    if x.rank <= 4:
        return call.emit(layer, x)
    lines = call.reshape(x, [(s[0], s[1], math.prod(s[2:])) for s in x.shapes], "lines")
    return call.reshape(call.emit(layer, lines), x.shapes, "restored")


@translates("LRN")
def _response_norm(call: Call) -> Output:
    size = int(call.attribute("size", 1))
    alpha, beta, k = (
        float(call.attribute(name, default)) for name, default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    )
    if size % 2 == 0 and not isinstance(call.node, Recognised):
        raise UnsupportedError(f"size {size} is even, which has one channel more after and not before")
    return call.emit(nn.LocalResponseNorm(size, alpha, beta, k), call.tensor())


@translates("Gemm")
def _gemm(call: Call) -> Output:
    x, weight = call.tensor(), call.weight(1, "the second factor")
    alpha, beta = float(call.attribute("alpha", 1.0)), float(call.attribute("beta", 1.0))
    call.ignore("broadcast")
    if call.attribute("transA", 0):
        x = call.transpose(x, (1, 0), "transposed")
    numbers = weight.arrays[0] if call.attribute("transB", 0) else weight.arrays[0].T
    if numbers.ndim != 2:
        raise UnsupportedError(f"its second factor has the shape {weight.arrays[0].shape}")
    if alpha != 1:
        numbers = (numbers * alpha).astype(numbers.dtype)
    bias = call.inputs[2] if call.has(2) else None
    within: Const | None = None
    if isinstance(bias, Const):
        shape = bias.arrays[0].shape
        if len(shape) < 2 or shape[0] == 1:
            within = call.weight(2, "the bias")
    form = f"{'' if call.attribute('transB', 0) else 'T'}{alpha if alpha != 1 else ''}"
    y = _linear(call, x, weight, numbers, form, within, beta)
    if bias is None or within is not None:
        return y
    if isinstance(bias, Tensor) and beta != 1:
        bias = call.emit(Combine("multiply", np.float32(beta)), bias, part="scaled")
    elif isinstance(bias, Const) and beta != 1:
        raise UnsupportedError(f"beta {beta} of a bias with a row for each sample")
    return combined(call, "add", y, bias, "bias")


@translates("MatMul")
def _matmul(call: Call) -> Output:
    if call.is_const(0):
        factor, x = call.weight(0, "the first factor").arrays[0], call.tensor(1)
        if factor.ndim != 2 or x.rank < 2:
            raise UnsupportedError(f"its first factor has the shape {factor.shape}, must have 2 axes")
        return call.emit(Along(x.rank - 2, factor), x)
    x = call.tensor()
    if not call.is_const(1):
        other = call.tensor(1)
        if min(x.rank, other.rank) < 2:
            raise UnsupportedError(f"its factors have the shapes {x.shape} and {other.shape}, must have 2 axes or more")
        return call.emit(MatrixProduct(), x, other)
    weight = call.weight(1, "the second factor")
    numbers = weight.arrays[0]
    while numbers.ndim > 2 and numbers.shape[0] == 1:
        numbers = numbers[0]
    if numbers.ndim == 1:
        y = _linear(call, x, weight, numbers[None], "row", None)
        return call.reshape(y, [shape[:-1] for shape in y.shapes], "row")
    if numbers.ndim != 2:
        raise UnsupportedError(f"its second factor has the shape {numbers.shape}, must have 2 axes")
    return _linear(call, x, weight, numbers.T, "T", None)


@translates("Linear")
def _of_patterns(call: Call) -> Output:
    """A product of matrices and a bias added to it, as `patterns` found them."""
    x, weight, bias = call.tensor(), call.weight(1, "the weight"), call.weight(2, "the bias")
    return _linear(call, x, weight, weight.arrays[0].T, "T", bias)


def _linear(
    call: Call, x: Tensor, weight: Const, numbers: Any, form: str, bias: Const | None, beta: float = 1.0
) -> Tensor:
    """``numbers`` (outputs, inputs) are made of ``weight`` in the way that ``form`` names."""
    outputs, inputs = numbers.shape
    if x.rank < 1 or any(shape[-1] != inputs for shape in x.shapes):
        raise UnsupportedError(f"its input has the shape {x.shape}, must end in {inputs}")
    layer = nn.Linear(inputs, outputs, bias is not None, dtype=_dtype(numbers))
    # A weight that was turned twice is as it was.
    turned = weight.form + form
    states = {"weight": (Const(weight.arrays, weight.origin, turned.replace("TT", "")), np.ascontiguousarray(numbers))}
    if bias is not None:
        offset = bias.arrays[0]
        if offset.size not in (1, outputs):
            raise UnsupportedError(f"its bias has the shape {offset.shape}, must have {outputs} numbers")
        offset = np.broadcast_to(offset.reshape(-1) * offset.dtype.type(beta), (outputs,))
        states["bias"] = (Const(bias.arrays, bias.origin, bias.form + (f"{beta}" if beta != 1 else "")), offset)
    call.fill(layer, states)
    return call.emit(layer, x)


def _is_neutral(scale: Const | None, bias: Const | None) -> bool:
    """Whether these are ones and zeros that no initializer has: what stands for no parameters."""
    if scale is None or bias is None or scale.origin or bias.origin:
        return False
    return bool(np.all(scale.arrays[0] == 1) and np.all(bias.arrays[0] == 0))


def _dtype(*numbers: Any) -> Any:
    return np.float64 if any(one.dtype == np.float64 for one in numbers) else np.float32
