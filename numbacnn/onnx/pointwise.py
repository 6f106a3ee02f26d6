"""Arithmetic and activations of ONNX as layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import nn
from .arithmetic import Combine, Function
from .call import Call, Const, Output, Tensor, UnsupportedError, translates

__all__ = ["absolute", "combined", "negated"]

_OPERATIONS = {
    "Add": "add", "Sum": "add", "Mean": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide",
    "Max": "maximum", "Min": "minimum",
}  # fmt: skip


@translates("Add", "Sub", "Mul", "Div", "Sum", "Max", "Min", "Mean")
def _arithmetic(call: Call) -> Output:
    operation, inputs = _OPERATIONS[call.node.op_type], [value for value in call.inputs if value is not None]
    tensors = [value for value in inputs if isinstance(value, Tensor)]
    if call.opset < 7 and call.attribute("broadcast", 0):
        inputs[1] = _aligned(call, inputs[0], inputs[1])
        tensors = [value for value in inputs if isinstance(value, Tensor)]
    if len(tensors) == len(inputs) and operation == "add" and len({value.shapes for value in tensors}) == 1:
        found = tensors[0] if len(tensors) == 1 else call.emit(nn.Sum(), *tensors)
    elif len(tensors) == len(inputs) == 2 and operation == "multiply" and _gates(*tensors):
        found = call.emit(nn.Product(), *sorted(tensors, key=lambda x: x.shapes != _larger(*tensors).shapes))
    else:
        first, *others = inputs
        for i, other in enumerate(others):
            first = combined(call, operation, first, other, f"{i}" if len(others) > 1 else "")
        if not isinstance(first, Tensor):
            raise UnsupportedError("all of its inputs are constants")
        found = first
    if call.node.op_type == "Mean" and len(inputs) > 1:
        found = call.emit(Combine("multiply", np.float32(1 / len(inputs))), found, part="share")
    return found


def combined(call: Call, operation: str, a: Any, b: Any, part: str = "") -> Tensor:
    """``a`` and ``b``, each a tensor or a constant, element by element."""
    constants = [value for value in (a, b) if isinstance(value, Const)]
    if len(constants) == 2:
        raise UnsupportedError("two of its inputs are constants, the others are not")
    if not constants:
        return call.emit(Combine(operation), a, b, part=part)
    const = constants[0]
    numbers = call.weight_of(const, "an operand")
    first = const is a
    # An initializer with several numbers is a weight; one number is part of a formula.
    trainable = bool(const.origin) and numbers.size > 1
    if operation == "maximum" and numbers.shape == () and numbers == 0:
        return call.emit(nn.ReLU(), b if first else a, part=part)
    layer = Combine(operation, numbers, constant_first=first, trainable=trainable)
    if trainable:
        call.fill(layer, {"value": (const, numbers)})
    return call.emit(layer, b if first else a, part=part)


def _aligned(call: Call, a: Any, b: Any) -> Any:
    """``b`` with axes of 1 after its own, so that these begin at the axis of ``a`` that the node names: opset 6."""
    axis, rank = call.attribute("axis"), len(_shape_of(a))
    after = 0 if axis is None else rank - int(axis) - len(_shape_of(b))
    if after <= 0:
        return b
    if isinstance(b, Const):
        return Const(tuple(x.reshape(*x.shape, *(1,) * after) for x in b.arrays), b.origin, b.form + f"+{after}")
    return call.reshape(b, [(*shape, *(1,) * after) for shape in b.shapes], "aligned")


def _shape_of(value: Any) -> tuple[int, ...]:
    return value.arrays[0].shape if isinstance(value, Const) else value.shape


def _larger(a: Tensor, b: Tensor) -> Tensor:
    return b if max(np.prod(shape) for shape in a.shapes) < max(np.prod(shape) for shape in b.shapes) else a


def _gates(a: Tensor, b: Tensor) -> bool:
    """Whether they are of one shape, or one has a number for each channel of the other's images."""
    if a.shapes == b.shapes:
        return True
    large = _larger(a, b)
    small = b if large is a else a
    return large.rank == 4 and small.shapes == tuple((*shape[:2], 1, 1) for shape in large.shapes)


@translates("Neg")
def _negative(call: Call) -> Output:
    return negated(call, call.tensor())


@translates("Abs")
def _absolute(call: Call) -> Output:
    return absolute(call, call.tensor())


def negated(call: Call, x: Tensor, part: str = "") -> Tensor:
    """-x."""
    return call.emit(Combine("multiply", np.float32(-1)), x, part=part)


def absolute(call: Call, x: Tensor, part: str = "") -> Tensor:
    """The larger of x and -x."""
    return call.emit(Combine("maximum"), x, negated(call, x, f"{part}negative"), part=part)


@translates("Exp", "Log", "Sqrt")
def _function(call: Call) -> Output:
    return call.emit(Function(call.node.op_type.lower()), call.tensor())


@translates("Reciprocal")
def _reciprocal(call: Call) -> Output:
    return call.emit(Combine("divide", np.float32(1), constant_first=True), call.tensor())


@translates("Pow")
def _power(call: Call) -> Output:
    x, power = call.tensor(), call.number(1, "the exponent")
    if power == -1:
        return call.emit(Combine("divide", np.float32(1), constant_first=True), x)
    if power in (2, 3):
        return call.emit(nn.Product(), *[x] * int(power))
    if power == 0.5:
        return call.emit(Function("sqrt"), x)
    return x if power == 1 else call.emit(Function("power", power), x)


@translates("Clip")
def _clip(call: Call) -> Output:
    x = call.tensor()
    if call.opset < 11:
        low, high = call.attribute("min"), call.attribute("max")
    else:
        low, high = call.number(1, "min"), call.number(2, "max")
    largest = float(np.finfo(np.float32).max)
    low = None if low is not None and low <= -largest else low
    high = None if high is not None and high >= largest else high
    if low is not None and high is not None:
        if low >= high:
            raise UnsupportedError(f"min {low} is not below max {high}")
        return call.emit(nn.ReLU6() if (low, high) == (0, 6) else nn.Hardtanh(low, high), x)
    if low == 0:
        return call.emit(nn.ReLU(), x)
    if low is None and high is None:
        return x
    bound = np.float32(low if high is None else high)
    return call.emit(Combine("maximum" if high is None else "minimum", bound), x)


_PLAIN: dict[str, type[nn.Layer]] = {
    "Relu": nn.ReLU, "Sigmoid": nn.Sigmoid, "Tanh": nn.Tanh, "Softplus": nn.Softplus, "Softsign": nn.Softsign,
    "HardSwish": nn.Hardswish, "Mish": nn.Mish, "Silu": nn.SiLU,
}  # fmt: skip


@translates(*_PLAIN)
def _plain(call: Call) -> Output:
    settings = {name: call.attribute(name) for name in ("beta", "threshold") if name in call.attributes}
    return call.emit(_PLAIN[call.node.op_type](**settings), call.tensor())


@translates("LeakyRelu")
def _leaky(call: Call) -> Output:
    return call.emit(nn.LeakyReLU(_number(call, "alpha", 0.01)), call.tensor())


@translates("Elu", "Celu")
def _elu(call: Call) -> Output:
    kind: Any = nn.ELU if call.node.op_type == "Elu" else nn.CELU
    return call.emit(kind(_number(call, "alpha", 1.0)), call.tensor())


@translates("Selu")
def _selu(call: Call) -> Output:
    alpha, gamma = _number(call, "alpha", 1.6732632), _number(call, "gamma", 1.0507010)
    if abs(alpha - 1.6732632) < 1e-5 and abs(gamma - 1.0507010) < 1e-5:
        return call.emit(nn.SELU(), call.tensor())
    y = call.emit(nn.ELU(alpha), call.tensor(), part="elu")
    return call.emit(Combine("multiply", np.float32(gamma)), y)


@translates("HardSigmoid")
def _hard_sigmoid(call: Call) -> Output:
    x, alpha, beta = call.tensor(), _number(call, "alpha", 0.2), _number(call, "beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return call.emit(nn.Hardsigmoid(), x)
    x = call.emit(Combine("multiply", np.float32(alpha)), x, part="slope")
    x = call.emit(Combine("add", np.float32(beta)), x, part="shift")
    return call.emit(nn.Hardtanh(0.0, 1.0), x)


@translates("Gelu")
def _gelu(call: Call) -> Output:
    return call.emit(nn.GELU(call.attribute("approximate", "none")), call.tensor())


@translates("PRelu")
def _prelu(call: Call) -> Output:
    x, slope = call.tensor(), call.weight(1, "the slope")
    numbers = slope.arrays[0]
    channels = x.shape[1] if x.rank > 1 else 0
    per_channel = (channels,) + (1,) * (x.rank - 2)
    of_old = call.opset < 7 and numbers.shape == (channels,)
    if numbers.size == 1 or of_old or numbers.shape in (per_channel, (1, *per_channel)):
        layer = nn.PReLU(numbers.size, dtype=np.float64 if numbers.dtype == np.float64 else np.float32)
        call.fill(layer, {"weight": (slope, numbers.reshape(-1))})
        return call.emit(layer, x)
    above = call.emit(nn.ReLU(), x, part="above")
    below = call.emit(Combine("minimum", np.float32(0)), x, part="below")
    below = combined(call, "multiply", below, slope, "slope")
    return call.emit(nn.Sum(), above, below)


@translates("Softmax", "LogSoftmax")
def _softmax(call: Call) -> Output:
    kind: Any = nn.Softmax if call.node.op_type == "Softmax" else nn.LogSoftmax
    x = call.tensor()
    axis = int(call.attribute("axis", -1 if call.opset >= 13 else 1))
    if not -x.rank <= axis < x.rank:
        raise UnsupportedError(f"axis {axis} is none of {x.shape}")
    axis %= x.rank
    if call.opset >= 13 or all(np.prod(shape[axis + 1 :]) == 1 for shape in x.shapes):
        return call.emit(kind(axis), x)
    # Of old, all axes from this one on together.
    flat = call.reshape(x, [(int(np.prod(s[:axis])), int(np.prod(s[axis:]))) for s in x.shapes], "flat")
    return call.reshape(call.emit(kind(1), flat), x.shapes, "restored")


@translates("Identity", "Cast")
def _identity(call: Call) -> Output:
    if call.node.op_type == "Cast" and int(call.attribute("to", 0)) not in (1, 10, 11, 16):
        raise UnsupportedError("it makes whole numbers of what the model computes")
    call.ignore("saturate", "round_mode")
    return call.inputs[0]


@translates("CastLike")
def _cast_like(call: Call) -> Output:
    """What is computed is floating: a constant becomes so, too."""
    value = call.inputs[0]
    call.ignore("saturate", "round_mode")
    if isinstance(value, Const) and not call.is_const(1):
        arrays = [x if x.dtype.kind == "f" else x.astype(np.float32) for x in value.arrays]
        return Const(tuple(arrays), value.origin, value.form)
    if call.is_const(1) and call.several(1)[0].dtype.kind != "f":
        raise UnsupportedError("it makes whole numbers of what the model computes")
    return value


@translates("Dropout")
def _dropout(call: Call) -> Output:
    call.only_output()
    call.ignore("seed", "is_test")
    ratio = float(call.attribute("ratio", 0.5)) if call.opset < 12 else call.number(1, "the ratio", 0.5)
    if call.has(2) and bool(call.array(2, "training_mode").reshape(())):
        raise UnsupportedError("training_mode is on")
    return call.emit(nn.Dropout(ratio or 0.0), call.tensor())


def _number(call: Call, name: str, default: float) -> float:
    """A number as it was before it became a float32."""
    value = call.attribute(name)
    return default if value is None else float(value)
