"""What ONNX does with axes, shapes and pixels, as layers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .. import nn
from .arithmetic import Combine, Function, Reduce
from .call import Call, Const, Output, Tensor, UnsupportedError, translates
from .folding import MOST_OF_A_RANGE, norm_axes, slices_of
from .layers import PadAxis, Rearrange, Take, reshaped
from .pointwise import absolute, negated

__all__: list[str] = []


@translates("Shape")
def _shape(call: Call) -> Output:
    x, start, end = call.tensor(), call.attribute("start", 0), call.attribute("end")
    return Const(tuple(np.array(shape[start:end], np.int64) for shape in x.shapes))


@translates("Size")
def _size(call: Call) -> Output:
    return Const(tuple(np.array(math.prod(shape), np.int64) for shape in call.tensor().shapes))


@translates("Reshape")
def _reshape(call: Call) -> Output:
    x, wanted, targets = call.tensor(), call.several(1), []
    copies = not call.attribute("allowzero", 0)
    for shape, target in zip(x.shapes, wanted, strict=True):
        sizes = [shape[i] if size == 0 and copies and i < len(shape) else int(size) for i, size in enumerate(target)]
        known = math.prod(size for size in sizes if size != -1)
        if sizes.count(-1) == 1 and known:
            sizes[sizes.index(-1)] = math.prod(shape) // known
        if min(sizes, default=0) < 0 or math.prod(sizes) != math.prod(shape):
            raise UnsupportedError(f"{shape} cannot become {target.tolist()}")
        targets.append(sizes)
    return call.reshape(x, targets)


@translates("Flatten")
def _flatten(call: Call) -> Output:
    x = call.tensor()
    axis = int(call.attribute("axis", 1))
    axis += x.rank if axis < 0 else 0
    return call.reshape(x, [(math.prod(shape[:axis]), math.prod(shape[axis:])) for shape in x.shapes])


@translates("Squeeze")
def _squeeze(call: Call) -> Output:
    x, axes = call.tensor(), call.integers("axes", 1, 13)
    found = [i for i, size in enumerate(x.shape) if size == 1] if axes is None else norm_axes(axes, x.rank)
    if any(shape[axis] != 1 for shape in x.shapes for axis in found):
        raise UnsupportedError(f"the axes {found} of {x.shape} are not all of size 1")
    return call.reshape(x, [[size for i, size in enumerate(shape) if i not in found] for shape in x.shapes])


@translates("Unsqueeze")
def _unsqueeze(call: Call) -> Output:
    x, axes = call.tensor(), call.integers("axes", 1, 13) or []
    where = norm_axes(axes, x.rank + len(axes))
    return call.reshape(x, [_with_ones(shape, where) for shape in x.shapes])


def _with_ones(shape: tuple[int, ...], axes: list[int]) -> list[int]:
    sizes = iter(shape)
    return [1 if axis in axes else next(sizes) for axis in range(len(shape) + len(axes))]


@translates("Transpose")
def _transpose(call: Call) -> Output:
    x = call.tensor()
    return call.transpose(x, call.attribute("perm", list(range(x.rank))[::-1]))


@translates("Concat")
def _concat(call: Call) -> Output:
    tensors = [call.tensor(i) for i in range(len(call.inputs))]
    (axis,) = norm_axes(call.attribute("axis", 1), tensors[0].rank)
    if len(tensors) == 1:
        return tensors[0]
    if axis == 1:
        return call.emit(nn.Concatenate(), *tensors)
    rows = [call.reshape(x, [_around(s, axis) for s in x.shapes], f"rows{i}") for i, x in enumerate(tensors)]
    y = call.emit(nn.Concatenate(), *rows)
    sizes = [sum(shapes) for shapes in zip(*([s[axis] for s in x.shapes] for x in tensors), strict=True)]
    targets = [(*s[:axis], size, *s[axis + 1 :]) for s, size in zip(tensors[0].shapes, sizes, strict=True)]
    return call.reshape(y, targets, "restored")


def _around(shape: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


@translates("Split")
def _split(call: Call) -> list[Output]:
    x = call.tensor()
    (axis,) = norm_axes(call.attribute("axis", 0), x.rank)
    sizes, count, whole = call.integers("split", 1, 13), len(call.node.output), x.shape[axis]
    if call.attribute("num_outputs", count) != count:
        raise UnsupportedError(f"num_outputs {call.attribute('num_outputs')} of {count} outputs")
    if sizes is None:
        share = -(-whole // count)
        sizes = [share] * (count - 1) + [whole - share * (count - 1)]
    if len(sizes) != count or sum(sizes) != whole or min(sizes) < 1 or len({s[axis] for s in x.shapes}) > 1:
        raise UnsupportedError(f"the sizes {sizes} do not share out axis {axis} of {x.shape}")
    found: list[Output] = []
    start = 0
    for i, size in enumerate(sizes):
        used = call.is_used(i)
        found.append(call.emit(Take(axis, range(start, start + size)), x, part=f"{i}") if used else None)
        start += size
    return found


@translates("PartOfSequence")
def _part(call: Call) -> Output:
    """An element of what SplitToSequence gives, of which `patterns` found that nothing else is done with it."""
    x, sizes, index = call.tensor(), list(call.attribute("sizes")), int(call.attribute("index"))
    (axis,) = norm_axes(call.attribute("axis"), x.rank)
    whole = x.shape[axis]
    if call.attribute("equal"):
        size, count = sizes[0], -(-whole // max(sizes[0], 1))
    else:
        size, count = 0, len(sizes)
    shares = min(sizes, default=0) > 0 and (size or sum(sizes) == whole) and len({s[axis] for s in x.shapes}) == 1
    if not shares or not -count <= index < count:
        raise UnsupportedError(f"part {index} of the sizes {sizes} of axis {axis} of {x.shape}")
    index %= count
    first, end = (
        (index * size, min((index + 1) * size, whole)) if size else (sum(sizes[:index]), sum(sizes[: index + 1]))
    )
    return call.emit(Take(axis, range(first, end)), x)


@translates("Slice")
def _slice(call: Call) -> Output:
    x = call.tensor()
    arrays = [call.array(i) if call.has(i) else None for i in range(1, len(call.inputs))]
    call.ignore("starts", "ends", "axes")
    per_size = [slices_of(shape, [x, *arrays], call.attributes) for shape in x.shapes]
    cut = {axis: _trims([taken[axis] for taken in per_size], [s[axis] for s in x.shapes]) for axis in range(x.rank)}
    for axis, trims in cut.items():
        first = per_size[0][axis]
        if len(first) == 0:
            raise UnsupportedError(f"nothing is left of axis {axis} of {x.shape}")
        if trims is None:
            if any(taken[axis] != first for taken in per_size):
                raise UnsupportedError(f"what it takes of axis {axis} depends on the size of the model's input")
            x = call.emit(Take(axis, first), x, part=f"axis{axis}")
        elif axis == 1 and trims != (0, 0) and len({shape[axis] for shape in x.shapes}) == 1:
            x = call.emit(Take(axis, first), x, part=f"axis{axis}")
            cut[axis] = (0, 0)
    trims_left = {axis: (-a, -b) for axis, both in cut.items() if both is not None for a, b in [both] if both != (0, 0)}
    return _padded(call, x, trims_left, "constant", 0.0)


def _trims(taken: list[range], sizes: list[int]) -> tuple[int, int] | None:
    """How many are cut off before and after, whatever the size; None where it is not that."""
    found = {(part.start, size - part.stop) for part, size in zip(taken, sizes, strict=True)}
    return found.pop() if len(found) == 1 and taken[0].step == 1 and len(taken[0]) else None


@translates("Gather")
def _gather(call: Call) -> Output:
    x, indices = call.tensor(), call.array(1, "the indices")
    (axis,) = norm_axes(call.attribute("axis", 0), x.rank)
    size = x.shape[axis]
    flat = [int(i) + (size if i < 0 else 0) for i in indices.reshape(-1)]
    if not flat or min(flat) < 0 or max(flat) >= size or (min(indices.reshape(-1)) < 0 and len(set(x.shapes)) > 1):
        raise UnsupportedError(f"its indices are not within 0 to {size - 1}")
    y = call.emit(Take(axis, flat), x)
    return call.reshape(y, [(*s[:axis], *indices.shape, *s[axis + 1 :]) for s in x.shapes], "restored")


@translates("Tile")
def _tile(call: Call) -> Output:
    x, times = call.tensor(), call.array(1, "repeats").tolist()
    for axis, count in enumerate(times):
        if count < 1 or (count > 1 and len({shape[axis] for shape in x.shapes}) > 1):
            raise UnsupportedError(f"it repeats axis {axis} of {x.shape} {count} times")
        if count > 1:
            if x.shape[axis] * count > MOST_OF_A_RANGE:
                raise UnsupportedError(f"it would repeat {x.shape[axis]} elements {count} times")
            x = call.emit(Take(axis, list(range(x.shape[axis])) * count), x, part=f"axis{axis}")
    return x


@translates("Expand")
def _expand(call: Call) -> Output:
    x, shape = call.tensor(), call.several(1)
    zeros = set()
    for own, target in zip(x.shapes, shape, strict=True):
        wanted = np.broadcast_shapes(own, tuple(int(size) for size in target))
        padded = (1,) * (len(wanted) - len(own)) + own
        zeros.add(tuple(1 if a == b else b for a, b in zip(padded, wanted, strict=True)))
    if len(zeros) > 1:
        raise UnsupportedError("its shape depends on the size of the model's input")
    (repeats,) = zeros
    return (
        x
        if set(repeats) <= {1} and len(repeats) == x.rank
        else call.emit(Combine("add", np.zeros(repeats, np.float32)), x)
    )


_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@translates("Pad")
def _pad(call: Call) -> Output:
    x, mode = call.tensor(), _MODES.get(call.attribute("mode", "constant"))
    if mode is None:
        raise UnsupportedError(f"mode {call.attribute('mode')!r} is unknown")
    pads = call.integers("pads", 1, 11)
    value = call.number(2, "the value", 0.0) if call.opset >= 11 else call.attribute("value", 0.0)
    axes = norm_axes(call.array(3, "axes"), x.rank) if call.opset >= 18 and call.has(3) else list(range(x.rank))
    if pads is None or len(pads) != 2 * len(axes):
        raise UnsupportedError(f"pads {pads} must be {2 * len(axes)} numbers")
    sides = {axis: (pads[i], pads[i + len(axes)]) for i, axis in enumerate(axes)}
    return _padded(call, x, {axis: both for axis, both in sides.items() if both != (0, 0)}, mode, value or 0.0)


_OF_IMAGES: dict[str, Callable[..., nn.Layer]] = {
    "reflect": nn.ReflectionPad2d, "replicate": nn.ReplicationPad2d, "circular": nn.CircularPad2d,
}  # fmt: skip


def _padded(call: Call, x: Tensor, sides: dict[int, tuple[int, int]], mode: str, value: float) -> Tensor:
    """Also cut off, where these are negative."""
    if x.rank == 4 and sides and set(sides) <= {2, 3}:
        (top, bottom), (left, right) = sides.get(2, (0, 0)), sides.get(3, (0, 0))
        around = (left, right, top, bottom)
        if mode == "constant":
            return call.emit(nn.ConstantPad2d(around, value) if value else nn.ZeroPad2d(around), x)
        return call.emit(_OF_IMAGES[mode](around), x)
    if set(sides) == {1} and mode == "constant" and not value:
        return call.emit(nn.ZeroPadChannels(sides[1]), x)
    for axis, (before, after) in sides.items():
        x = call.emit(PadAxis(axis, before, after, mode, value), x, part=f"axis{axis}")
    return x


Step = Callable[[Call, Tensor, str], Tensor]


def _squared(call: Call, x: Tensor, part: str) -> Tensor:
    return call.emit(nn.Product(), x, x, part=part)


def _function(operation: str) -> Step:
    return lambda call, x, part: call.emit(Function(operation), x, part=part)


_REDUCTIONS: dict[str, tuple[Step | None, str, Step | None]] = {
    "ReduceMean": (None, "mean", None), "ReduceSum": (None, "sum", None), "ReduceMax": (None, "max", None),
    "ReduceMin": (negated, "max", negated), "ReduceL1": (absolute, "sum", None),
    "ReduceSumSquare": (_squared, "sum", None), "ReduceL2": (_squared, "sum", _function("sqrt")),
    "ReduceLogSum": (None, "sum", _function("log")),
}  # fmt: skip
"""What is done to each element, how they are reduced, and what is done to the result."""


@translates(*_REDUCTIONS)
def _reduce(call: Call) -> Output:
    x, kind = call.tensor(), call.node.op_type
    before, operation, after = _REDUCTIONS[kind]
    axes = call.integers("axes", 1, 13 if kind == "ReduceSum" else 18)
    call.ignore("keepdims")
    if axes is None or not len(axes):
        if call.attribute("noop_with_empty_axes", 0):
            if before or after:
                raise UnsupportedError("noop_with_empty_axes is on")
            return x
        axes = list(range(x.rank))
    call.ignore("noop_with_empty_axes")
    where = sorted(norm_axes(axes, x.rank))
    if before:
        x = before(call, x, "each")
    layer: nn.Layer = Reduce(operation, where)
    if kind == "ReduceMean" and x.rank == 4 and where == [2, 3]:
        layer = nn.GlobalAvgPool2d()
    y = call.emit(layer, x, part=operation if after else "")
    if after:
        y = after(call, y, "")
    if call.attribute("keepdims", 1):
        return y
    return call.reshape(y, [[s for i, s in enumerate(shape) if i not in where] for shape in y.shapes], "reduced")


@translates("DepthToSpace")
def _depth_to_space(call: Call) -> Output:
    x, size, mode = call.tensor(), int(call.attribute("blocksize", 0)), call.attribute("mode", "DCR")
    if x.rank != 4 or size < 1 or x.shape[1] % size**2:
        raise UnsupportedError(f"blocksize {size} does not divide the channels of {x.shape}")
    if mode == "CRD":
        return call.emit(nn.PixelShuffle(size), x)
    return call.emit(Rearrange([(-1,), (size, size, -1), (-1,), (-1,)], [(0,), (3,), (4, 1), (5, 2)]), x)


@translates("ChannelShuffle")
def _channel_shuffle(call: Call) -> Output:
    """Two changes of shape and a transposition between them, which `patterns` found."""
    x, split, restored = call.tensor(), list(call.attribute("split")), list(call.attribute("restored"))
    parts = [reshaped(shape, split) for shape in x.shapes]
    wanted = [reshaped(shape, restored) for shape in x.shapes]
    groups = parts[0][1]
    is_shuffle = all(
        part == (shape[0], groups, shape[1] // groups, *shape[2:]) and own == shape
        for shape, part, own in zip(x.shapes, parts, wanted, strict=True)
    )
    if is_shuffle and x.rank > 1:
        return call.emit(nn.ChannelShuffle(groups), x)
    y = call.reshape(x, parts, "split")
    y = call.transpose(y, [0, 2, 1, *range(3, y.rank)], "turned")
    return call.reshape(y, [reshaped(shape, restored) for shape in y.shapes])


@translates("SpaceToDepth")
def _space_to_depth(call: Call) -> Output:
    x, size = call.tensor(), int(call.attribute("blocksize", 0))
    if x.rank != 4 or size < 1 or x.shape[2] % size or x.shape[3] % size:
        raise UnsupportedError(f"blocksize {size} does not divide the images of {x.shape}")
    return call.emit(Rearrange([(-1,), (-1,), (-1, size), (-1, size)], [(0,), (3, 5, 1), (2,), (4,)]), x)
