"""One number of a layer's output: what of the image it sees, and how it comes about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import nn
from ..nn.feature_extraction import layer_named
from ..nn.grad_mode import evaluating
from ..nn.layer import inherits_forward
from ..nn.watching import passes_as_before
from ..ops.arguments import entries_of, integer
from .layers import Seen, written
from .passes import Pass, one_sample, passes_of
from .sums import WrittenSum

__all__ = ["Unit", "unit"]

Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Unit:
    """One element of a layer's output, as :func:`unit` finds it."""

    value: float
    """The number that the layer gives there, without any activation that follows."""
    kind: str
    """The name of the layer's class."""
    field: tuple[Pair, Pair] | None
    """First and last row, first and last column of the image that it sees; the last is the one before the first where
    it sees none. None where the model's input is no image, where a layer of one's own does not say what it sees, and
    of a layer that runs more than once."""
    patch: np.ndarray[Any, Any] | None
    """What is there, (c, rows, columns), bytes scaled to 0..1 as the model gets them; None where the field is."""
    sum: WrittenSum | None
    """How the number comes about; None of layers that are none of those that can be written out."""


def unit(model: nn.Layer, x: Any, layer: str, position: Sequence[int]) -> Unit:
    """What the layer called ``layer`` gives at ``position`` for ``x``, in evaluation mode, and how it comes about.

    Afterwards the model is as before: its modes, its numbers and what it saved for ``backward``. Of a layer that runs
    more than once it is the last time. A `Sequential` or `Graph` is written out as the layer in
    it that gives its output.

    Args:
        model: any layer.
        x: one sample, (1, c, h, w), (1, features), ...; of a model of several inputs a tuple of them.
        layer: a name of ``model.named_layers()``; of several layers that share one, the outermost.
        position: (channel, row, column) in the layer's output, or (feature,), from 0.

    Raises:
        ValueError: for more than one sample, a layer that the model does not have or does not run, and a position that
            its output does not have.
        TypeError: for a position that is no ints, and a layer of several outputs.

    Example:
        >>> from numbacnn import nn, use_backend
        >>> with use_backend("reference"):
        ...     model = nn.Sequential(nn.Conv2d(1, 1, 2, padding=1), nn.ReLU())
        >>> model[0].weight.value, model[0].bias.value = np.full((1, 1, 2, 2), -0.5), [0.25]
        >>> found = unit(model, np.ones((1, 1, 4, 4)), "0", (0, 0, 2))
        >>> found.value, found.field
        (-0.75, ((0, 0), (1, 2)))
        >>> found.sum.text(), found.sum.inside[0].tolist()
        ('1·(−0.5) + 1·(−0.5) + bias 0.25 = −0.75', [[False, False], [True, True]])
        >>> unit(model, np.ones((1, 1, 4, 4)), "1", (0, 0, 2)).sum.text()
        'ReLU(−0.75) = 0'
    """
    found = layer_named("layer", model, layer)
    inputs = one_sample(model, x)
    with passes_as_before(model), evaluating(model):
        passes = passes_of(model, inputs)
    ran = [one for one in passes if one.layer is found]
    if not ran:
        raise ValueError(f"`layer` {layer!r}, a {type(found).__name__}, is not run by the model's forward pass")
    if not hasattr(ran[-1].output, "shape"):
        raise TypeError(f"`layer` {layer!r}, a {type(found).__name__}, gives several outputs, must give one")
    output = found.backend.to_numpy(ran[-1].output)[0]
    place = _checked(position, output.shape, layer)
    field = _field(model, layer, inputs, (1, *output.shape), place) if len(ran) == 1 else None
    patch = None
    if field is not None:
        (top, bottom), (left, right) = field
        patch = np.array(model.backend.to_numpy(inputs[0])[0][:, top : bottom + 1, left : right + 1])
    return Unit(float(output[place]), type(found).__name__, field, patch, _sum(passes, ran[-1], place))


def _checked(position: Any, shape: tuple[int, ...], layer: str) -> tuple[int, ...]:
    entries = entries_of(position)
    if entries is None:
        raise TypeError(f"`position` {position!r} must be a tuple of ints, (channel, row, column) or (feature,)")
    if len(entries) != len(shape):
        raise ValueError(f"`position` {position!r} must have {len(shape)} numbers, for layer {layer!r} gives {shape}")
    return tuple([integer(f"position[{i}]", at, 0, shape[i] - 1) for i, at in enumerate(entries)])


def _field(
    model: nn.Layer, layer: str, inputs: list[Any], shape: tuple[int, ...], position: tuple[int, ...]
) -> tuple[Pair, Pair] | None:
    """Clipped to the image."""
    image = tuple(inputs[0].shape)
    if len(inputs) != 1 or len(image) != 4 or len(shape) not in (2, 4):
        return None
    try:
        field = nn.receptive_field(nn.upto(model, layer), image)
    except (NotImplementedError, ValueError):  # of a layer of one's own, or inside of one
        return None
    row, column = position[1:] if len(position) == 3 else (0, 0)
    (top, bottom), (left, right) = field.pixels((row, column))
    return _clipped(top, bottom, image[2]), _clipped(left, right, image[3])


def _clipped(first: int, last: int, size: int) -> Pair:
    first = min(max(first, 0), size)
    return first, max(min(last, size - 1), first - 1)


def _sum(passes: list[Pass], one: Pass, position: tuple[int, ...]) -> WrittenSum | None:
    children = {name: _last(passes, child) for name, child in one.layer.named_children()}
    last = _gives_its_output(one.layer)
    if last is not None:
        inner = children[last]
        return None if inner is None else _sum(passes, inner, position)
    branches = {name: _numbers(child, child.output) for name, child in children.items() if child is not None}
    return written(one.layer, Seen([_numbers(one, x) for x in one.inputs], position, branches))


def _gives_its_output(layer: nn.Layer) -> str | None:
    """The name of the layer within whose output is this one's."""
    if isinstance(layer, nn.Sequential) and inherits_forward(layer, nn.Sequential) and len(layer):
        return list(dict(layer.named_children()))[-1]
    if isinstance(layer, nn.Graph) and inherits_forward(layer, nn.Graph) and not layer.returns_several:
        (source,) = layer.outputs
        return source.name
    return None


def _numbers(one: Pass, x: Any) -> np.ndarray[Any, Any]:
    return np.asarray(one.layer.backend.to_numpy(one.layer.backend.asarray(x)), np.float64)


def _last(passes: list[Pass], layer: nn.Layer) -> Pass | None:
    return next((one for one in reversed(passes) if one.layer is layer), None)
