"""What is computed of constants while a model is loaded: shapes, sizes, indices, and weights in another form."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .tensors import DTYPES, MOST_ELEMENTS

__all__ = ["FOLDS", "KEEPING", "MOST_OF_A_RANGE", "fold", "norm_axes", "slices_of"]

Numbers = np.ndarray[Any, Any]
Attributes = Mapping[str, Any]

MOST_OF_A_RANGE = 1 << 24
KEEPING = {"Cast", "CastLike", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
"""Those whose result is the same weight."""


def fold(op: str, inputs: Sequence[Numbers | None], attributes: Attributes, opset: int) -> list[Numbers]:
    """What node ``op`` gives for these inputs, None being one that was left out.

    Raises:
        ValueError: for inputs that it cannot have, and for results that are too large to be meant.
    """
    try:
        with np.errstate(all="ignore"):
            found = FOLDS[op](inputs, attributes, opset)
    except (TypeError, AttributeError, IndexError, KeyError, OverflowError) as error:
        raise ValueError(f"it cannot be computed of these constants: {error}") from None
    return found if isinstance(found, list) else [np.asarray(found)]


def norm_axes(axes: Any, count: int) -> list[int]:
    """``axes`` of ``count``, each from 0; ValueError for one that there is not."""
    found = [int(axis) + (count if axis < 0 else 0) for axis in np.atleast_1d(axes)]
    if any(not 0 <= axis < count for axis in found) or len(set(found)) < len(found):
        raise ValueError(f"the axes {list(np.atleast_1d(axes))} are not among {count}")
    return found


def slices_of(shape: Sequence[int], inputs: Sequence[Any], attributes: Attributes) -> list[range]:
    """The indices that Slice takes along each axis of ``shape``."""
    if len(inputs) > 1:
        starts, ends, axes, steps = [None if x is None else np.atleast_1d(x) for x in (*inputs[1:], None, None)[:4]]
    else:
        starts, ends, axes = (
            None if name not in attributes else np.asarray(attributes[name]) for name in ("starts", "ends", "axes")
        )
        steps = None
    if starts is None or ends is None:
        raise ValueError("it has no starts or ends")
    where = norm_axes(range(len(starts)) if axes is None else axes, len(shape))
    found = [range(size) for size in shape]
    for axis, start, end, step in zip(where, starts, ends, [1] * len(starts) if steps is None else steps, strict=True):
        found[axis] = range(*slice(int(start), int(end), int(step)).indices(shape[axis]))
        if step < 0 and end < -shape[axis]:
            found[axis] = range(*slice(int(start), None, int(step)).indices(shape[axis]))
    return found


def _checked(shape: Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in shape)
    if min(sizes, default=0) < 0 or math.prod(max(size, 1) for size in sizes) > MOST_ELEMENTS:
        raise ValueError(f"its result would have the shape {sizes}")
    return sizes


def _binary(function: Callable[..., Any]) -> Callable[..., Any]:
    def folded(inputs: Any, attributes: Attributes, opset: int) -> Any:
        a, b = inputs
        _checked(np.broadcast_shapes(a.shape, b.shape))
        return np.asarray(function(a, b))

    return folded


def _of_one(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda inputs, attributes, opset: np.asarray(function(inputs[0]))


def _many(function: Callable[..., Any]) -> Callable[..., Any]:
    def folded(inputs: Any, attributes: Attributes, opset: int) -> Any:
        found = inputs[0]
        for other in inputs[1:]:
            found = _binary(function)((found, other), attributes, opset)
        return found

    return folded


def _divide(a: Any, b: Any) -> Any:
    if a.dtype.kind not in "iu":
        return a / b
    if not np.all(b):
        raise ValueError("it divides whole numbers by 0")
    return (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)


def _power(a: Any, b: Any) -> Any:
    return np.power(a.astype(np.float64), b).astype(a.dtype)


def _reshape(inputs: Any, attributes: Attributes, opset: int) -> Any:
    x, shape = inputs
    sizes = [int(size) for size in shape]
    if not attributes.get("allowzero", 0):
        sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    return x.reshape(sizes)


def _axes(inputs: Any, attributes: Attributes) -> Any:
    return inputs[1] if len(inputs) > 1 and inputs[1] is not None else attributes.get("axes")


def _squeeze(inputs: Any, attributes: Attributes, opset: int) -> Any:
    axes = _axes(inputs, attributes)
    x = inputs[0]
    return np.squeeze(x, None if axes is None else tuple(norm_axes(axes, x.ndim)))


def _unsqueeze(inputs: Any, attributes: Attributes, opset: int) -> Any:
    x, axes = inputs[0], np.atleast_1d(_axes(inputs, attributes))
    return np.expand_dims(x, tuple(norm_axes(axes, x.ndim + len(axes))))


def _gather(inputs: Any, attributes: Attributes, opset: int) -> Any:
    data, indices = inputs
    (axis,) = norm_axes(attributes.get("axis", 0), data.ndim)
    _checked((*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :]))
    return np.take(data, indices.astype(np.int64), axis)


def _slice(inputs: Any, attributes: Attributes, opset: int) -> Any:
    x = inputs[0]
    for axis, taken in enumerate(slices_of(x.shape, inputs, attributes)):
        if len(taken) != x.shape[axis] or taken.step != 1:
            x = np.take(x, np.arange(taken.start, taken.stop, taken.step), axis)
    return x


def _split(inputs: Any, attributes: Attributes, opset: int) -> Any:
    (axis,) = norm_axes(attributes.get("axis", 0), inputs[0].ndim)
    sizes = inputs[1] if len(inputs) > 1 else attributes.get("split")
    if sizes is None:
        raise ValueError("it has no sizes")
    if sum(sizes) != inputs[0].shape[axis]:
        raise ValueError(f"the sizes {list(sizes)} do not fill axis {axis} of {inputs[0].shape}")
    return np.split(inputs[0], np.cumsum(sizes)[:-1], axis)


def _range(inputs: Any, attributes: Attributes, opset: int) -> Any:
    start, limit, step = (float(x.item()) for x in inputs)
    if step == 0 or (limit - start) / step > MOST_OF_A_RANGE:
        raise ValueError(f"it would be too long: {start}, {limit}, {step}")
    return np.arange(start, limit, step).astype(inputs[0].dtype)


def _constant_of_shape(inputs: Any, attributes: Attributes, opset: int) -> Any:
    value = attributes.get("value", np.zeros(1, np.float32))
    return np.broadcast_to(value.reshape(()), _checked(inputs[0]))


def _expand(inputs: Any, attributes: Attributes, opset: int) -> Any:
    shape = np.broadcast_shapes(inputs[0].shape, tuple(int(size) for size in inputs[1]))
    return np.broadcast_to(inputs[0], _checked(shape))


def _tile(inputs: Any, attributes: Attributes, opset: int) -> Any:
    x, times = inputs
    _checked([size * int(count) for size, count in zip(x.shape, times, strict=True)])
    return np.tile(x, times)


def _cast(inputs: Any, attributes: Attributes, opset: int) -> Any:
    to = int(attributes["to"])
    if to == 16:
        return inputs[0].astype(np.float32)
    if to not in DTYPES:
        raise ValueError(f"it casts to type {to}")
    return inputs[0].astype(DTYPES[to])


def _concat(inputs: Any, attributes: Attributes, opset: int) -> Any:
    return np.concatenate(inputs, norm_axes(attributes["axis"], inputs[0].ndim)[0])


def _reduce(function: Callable[..., Any]) -> Callable[..., Any]:
    def folded(inputs: Any, attributes: Attributes, opset: int) -> Any:
        axes = _axes(inputs, attributes)
        where = None if axes is None or not len(axes) else tuple(norm_axes(axes, inputs[0].ndim))
        return function(inputs[0], axis=where, keepdims=bool(attributes.get("keepdims", 1))).astype(inputs[0].dtype)

    return folded


def _clip(inputs: Any, attributes: Attributes, opset: int) -> Any:
    x, low, high = (*inputs, None, None)[:3]
    low, high = attributes.get("min", low), attributes.get("max", high)
    return x if low is None and high is None else np.clip(x, low, high).astype(x.dtype)


def _constant(inputs: Any, attributes: Attributes, opset: int) -> Any:
    for name, dtype in (("value_float", np.float32), ("value_floats", np.float32), ("value_int", np.int64),
                        ("value_ints", np.int64)):  # fmt: skip
        if name in attributes:
            return np.asarray(attributes[name], dtype)
    return attributes["value"]


def _flatten(inputs: Any, attributes: Attributes, opset: int) -> Any:
    x, axis = inputs[0], attributes.get("axis", 1)
    axis += x.ndim if axis < 0 else 0
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


FOLDS: dict[str, Callable[..., Any]] = {
    "Abs": _of_one(np.abs), "Add": _binary(np.add), "And": _binary(np.logical_and), "Cast": _cast,
    "CastLike": lambda inputs, attributes, opset: inputs[0].astype(inputs[1].dtype), "Clip": _clip,
    "Ceil": _of_one(np.ceil), "Concat": _concat, "Constant": _constant, "ConstantOfShape": _constant_of_shape,
    "Div": _binary(_divide), "Equal": _binary(np.equal), "Exp": _of_one(np.exp), "Expand": _expand,
    "Flatten": _flatten, "Floor": _of_one(np.floor), "Gather": _gather, "Greater": _binary(np.greater),
    "GreaterOrEqual": _binary(np.greater_equal), "Identity": _of_one(np.asarray), "Less": _binary(np.less),
    "LessOrEqual": _binary(np.less_equal), "Log": _of_one(np.log), "Max": _many(np.maximum), "Min": _many(np.minimum),
    "Mod": _binary(np.mod), "Mul": _binary(np.multiply), "Neg": _of_one(np.negative), "Not": _of_one(np.logical_not),
    "Or": _binary(np.logical_or), "Pow": _binary(_power), "Range": _range, "Reciprocal": _of_one(np.reciprocal),
    "ReduceL1": _reduce(lambda x, **options: np.sum(np.abs(x), **options)),
    "ReduceL2": _reduce(lambda x, **options: np.sqrt(np.sum(x * x, **options))), "ReduceMax": _reduce(np.max),
    "ReduceMean": _reduce(np.mean), "ReduceMin": _reduce(np.min),
    "ReduceProd": _reduce(np.prod), "ReduceSum": _reduce(np.sum), "Reshape": _reshape, "Round": _of_one(np.round),
    "Sign": _of_one(np.sign),
    "Shape": lambda inputs, attributes, opset: np.array(
        inputs[0].shape[attributes.get("start", 0) : attributes.get("end")], np.int64
    ),
    "Size": lambda inputs, attributes, opset: np.array(inputs[0].size, np.int64),
    "Slice": _slice, "Split": _split, "Sqrt": _of_one(np.sqrt), "Squeeze": _squeeze, "Sub": _binary(np.subtract),
    "Sum": _many(np.add), "Tile": _tile,
    "Transpose": lambda inputs, attributes, opset: inputs[0].transpose(attributes.get("perm")),
    "Unsqueeze": _unsqueeze,
    "Where": lambda inputs, attributes, opset: np.where(*inputs),
}  # fmt: skip
"""By operator: (inputs, attributes, opset) -> the output, or a list of them."""
