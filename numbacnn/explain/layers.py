"""How each kind of layer makes one number: a small function for each, in a table at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import nn, ops
from ..backends.shared.windows import adaptive_window
from ..nn.grad_mode import evaluating
from ..nn.layer import inherits_forward
from ..nn.watching import passes_as_before
from .sums import Copied, FunctionValue, Joined, Largest, Mean, Normalized, WeightedSum, WrittenSum

__all__ = ["Seen", "written"]

Position = tuple[int, ...]


class Seen(NamedTuple):
    """What a layer got in a forward pass of one sample, and the position in its output that is asked for."""

    inputs: list[np.ndarray]
    """float64, (1, c, h, w) or of other axes."""
    position: Position
    branches: dict[str, np.ndarray]
    """What the layers that it is made of gave."""

    @property
    def x(self) -> np.ndarray:
        """The only input, without the axis of samples."""
        return self.inputs[0][0]


def written(layer: nn.Layer, seen: Seen) -> WrittenSum | None:
    """How the number comes about; None of a layer that computes otherwise than the classes in the table."""
    for kind in type(layer).__mro__:
        if kind in _WRITTEN and inherits_forward(layer, kind):
            return _WRITTEN[kind](layer, seen)
    return None


def _numbers(state: Any, place: Any) -> np.ndarray:
    """Of a parameter or buffer."""
    return np.asarray(state.backend.to_numpy(state.value)[place], np.float64)


def _number(state: Any, place: Any) -> float | None:
    return None if state is None else float(_numbers(state, place))


# Windows. Lines (c, l) are images of one row, (c, 1, l), as they are to the operations.


def _image(x: np.ndarray) -> np.ndarray:
    return x[:, None] if x.ndim == 2 else x


def _row_and_column(position: Position) -> tuple[int, int]:
    row, column = position[1:] if len(position) == 3 else (0, position[1])
    return row, column


def _window(layer: Any, image: np.ndarray, position: Position) -> tuple[np.ndarray, np.ndarray]:
    """The rows and columns that a window meets, in the padding below 0 or beyond the image."""
    window = layer.window()
    field = nn.ReceptiveField().through(window, image.shape[1:])
    (top, bottom), (left, right) = field.pixels(_row_and_column(position))
    return np.arange(top, bottom + 1, window.dilation[0]), np.arange(left, right + 1, window.dilation[1])


def _pixels(image: np.ndarray, rows: np.ndarray, columns: np.ndarray, outside: float) -> tuple[np.ndarray, np.ndarray]:
    """Those of every channel, (c, rows, columns), and which are inside of the image, (rows, columns)."""
    _, h, w = image.shape
    inside = _within(rows, h)[:, None] & _within(columns, w)
    return np.where(inside, image[:, rows.clip(0, h - 1)[:, None], columns.clip(0, w - 1)], outside), inside


def _within(places: np.ndarray, size: int, padding: tuple[int, int] = (0, 0)) -> np.ndarray:
    return (places >= -padding[0]) & (places < size + padding[1])


# Weighted sums.


def _linear(layer: Any, seen: Seen) -> WrittenSum:
    *place, feature = seen.position
    x = seen.x[tuple(place)]
    return WeightedSum(x, _numbers(layer.weight, feature), np.ones(x.shape, bool), _number(layer.bias, feature))


def _convolution(layer: Any, seen: Seen) -> WrittenSum:
    channel, image = seen.position[0], _image(seen.x)
    rows, columns = _window(layer, image, seen.position)
    pixels, inside = _pixels(image, rows, columns, outside=0)
    if layer.padding_mode != "zeros":
        (above, below), (before, after) = layer.window().padding
        padded = ops.pad2d(image[None], (before, after, above, below), layer.padding_mode, backend="reference")[0]
        pixels = padded[:, rows[:, None] + above, columns + before]
    group = channel // (layer.out_channels // layer.groups)
    return _weighted(layer, _numbers(layer.weight, channel), pixels, inside, channel, group)


def _transposed_convolution(layer: Any, seen: Seen) -> WrittenSum:
    channel, (row, column) = seen.position[0], _row_and_column(seen.position)
    g = layer.geometry(seen.inputs[0].shape)  # of the convolution from the output back to the input
    # Weight u spreads pixel i to row i * stride + u * dilation - padding. Of a row, that is one pixel or none.
    rows, between = np.divmod(row + g.pt - np.arange(g.kh) * g.dh, g.sh)
    columns, aside = np.divmod(column + g.pl - np.arange(g.kw) * g.dw, g.sw)
    pixels, inside = _pixels(_image(seen.x), rows, columns, outside=0)
    meets = inside & (between == 0)[:, None] & (aside == 0)
    group, of_group = divmod(channel, layer.out_channels // layer.groups)
    count = layer.in_channels // layer.groups
    weights = _numbers(layer.weight, (slice(group * count, (group + 1) * count), of_group))
    return _weighted(layer, weights, np.where(meets, pixels, 0), meets, channel, group)


def _resampling(layer: Any, seen: Seen) -> WrittenSum:
    (channel, row, column), shape = seen.position, seen.inputs[0].shape
    field = layer.receptive_field(nn.ReceptiveField(), shape, shape[2:])
    (top, bottom), (left, right) = field.pixels((row, column))
    place = (channel, slice(max(top, 0), bottom + 1), slice(max(left, 0), right + 1))
    # The gradient of a number in the pixels that it is made of is their weights.
    one_hot = np.zeros(layer.output_shape(shape))
    one_hot[(0, *seen.position)] = 1
    settings = (layer.size, layer.scale_factor, layer.mode, layer.align_corners)
    weights = ops.interpolate2d_backward(one_hot, shape, *settings, backend="reference")[0][place]
    return WeightedSum(seen.x[place], weights, weights != 0, None)


def _weighted(
    layer: Any, weights: np.ndarray, pixels: np.ndarray, inside: np.ndarray, channel: int, group: int
) -> WrittenSum:
    """Of the pixels (c, kh, kw) those of the group, in the shape of the weights."""
    count = layer.in_channels // layer.groups
    inputs = pixels[group * count : (group + 1) * count].reshape(weights.shape)
    inside = np.broadcast_to(inside, (count, *inside.shape)).reshape(weights.shape)
    return WeightedSum(inputs, weights, inside, _number(layer.bias, channel))


# Pooling.


def _max_pool(layer: Any, seen: Seen) -> WrittenSum:
    image = _image(seen.x)[seen.position[:1]][None]
    (inputs,), inside = _pixels(image, *_window(layer, image, seen.position), outside=-np.inf)
    return Largest(inputs, inside)


def _avg_pool(layer: Any, seen: Seen) -> WrittenSum:
    image = _image(seen.x)[seen.position[:1]][None]
    rows, columns = _window(layer, image, seen.position)
    (inputs,), counts = _pixels(image, rows, columns, outside=0)
    if layer.count_include_pad:  # but not what a last window of ceil_mode meets beyond the padding
        above_and_below, before_and_after = layer.window().padding
        _, h, w = image.shape
        counts = _within(rows, h, above_and_below)[:, None] & _within(columns, w, before_and_after)
    return Mean(inputs, counts, layer.divisor_override or max(int(counts.sum()), 1))


def _global_avg_pool(layer: Any, seen: Seen) -> WrittenSum:
    inputs = seen.x[seen.position[0]]
    return Mean(inputs, np.ones(inputs.shape, bool), inputs.size)


def _adaptive_window(layer: Any, seen: Seen) -> np.ndarray:
    (channel, row, column), (_, h, w) = seen.position, seen.x.shape
    _, _, oh, ow = layer.output_shape(seen.inputs[0].shape)
    return seen.x[channel, slice(*adaptive_window(row, oh, h)), slice(*adaptive_window(column, ow, w))]


def _adaptive_max_pool(layer: Any, seen: Seen) -> WrittenSum:
    inputs = _adaptive_window(layer, seen)
    return Largest(inputs, np.ones(inputs.shape, bool))


def _adaptive_avg_pool(layer: Any, seen: Seen) -> WrittenSum:
    inputs = _adaptive_window(layer, seen)
    return Mean(inputs, np.ones(inputs.shape, bool), inputs.size)


# Normalisation.


def _batch_norm(layer: Any, seen: Seen) -> WrittenSum:
    """By the running averages or, without them, by what is in the channel; of `InstanceNorm2d` too."""
    channel = seen.position[0]
    if layer.running_mean is None:
        return _normalized(layer, seen, over=seen.x[channel], parameter=channel)
    mean, variance = (float(_numbers(state, channel)) for state in (layer.running_mean, layer.running_var))
    return _by(layer, seen, mean, variance, channel)


def _group_norm(layer: Any, seen: Seen) -> WrittenSum:
    channel, count = seen.position[0], layer.num_channels // layer.num_groups
    first = channel // count * count
    return _normalized(layer, seen, over=seen.x[first : first + count], parameter=channel)


def _layer_norm(layer: Any, seen: Seen) -> WrittenSum:
    place, axes = (0, *seen.position), len(layer.normalized_shape)
    return _normalized(layer, seen, over=seen.inputs[0][place[:-axes]], parameter=place[-axes:])


def _normalized(layer: Any, seen: Seen, over: np.ndarray, parameter: Any) -> WrittenSum:
    return _by(layer, seen, float(over.mean()), float(over.var()), parameter)


def _by(layer: Any, seen: Seen, mean: float, variance: float, parameter: Any) -> WrittenSum:
    weight, bias = _number(layer.weight, parameter), _number(layer.bias, parameter)
    return Normalized(float(seen.x[seen.position]), mean, variance, layer.eps, weight, bias)


# Functions of one number.


def _activation(layer: Any, seen: Seen) -> WrittenSum:
    operation = getattr(layer, "operation", layer.activation)
    settings = [getattr(layer, name) for name in getattr(layer, "settings", ())]
    x = seen.x[seen.position]
    y = getattr(ops, operation)(np.array([x]), *settings, backend="reference")
    return FunctionValue(type(layer).__name__, layer.extra_repr(), float(x), float(y[0]))


def _prelu(layer: Any, seen: Seen) -> WrittenSum:
    x = float(seen.x[seen.position])
    slope = float(_numbers(layer.weight, seen.position[0] if layer.num_parameters > 1 else 0))
    return FunctionValue("PReLU", f"weight={slope:.3g}", x, x if x > 0 else slope * x)


# Several values made one.


def _named_inputs(seen: Seen) -> dict[str, np.ndarray]:
    return {f"input {i}": x for i, x in enumerate(seen.inputs)}


def _sum(layer: Any, seen: Seen) -> WrittenSum:
    return _joined("+", _named_inputs(seen), seen.position)


def _add(layer: Any, seen: Seen) -> WrittenSum:
    return _joined("+", seen.branches, seen.position)


def _product(layer: Any, seen: Seen) -> WrittenSum:
    return _joined("·", _named_inputs(seen), seen.position)


def _joined(sign: str, values: dict[str, np.ndarray], position: Position) -> WrittenSum:
    # A factor of one pixel is for all pixels of its channel.
    numbers = [float(np.broadcast_to(x[0], _largest(values))[position]) for x in values.values()]
    return Joined(sign, tuple(values), tuple(numbers))


def _largest(values: dict[str, np.ndarray]) -> tuple[int, ...]:
    return max((x[0].shape for x in values.values()), key=np.prod)


def _concatenate(layer: Any, seen: Seen) -> WrittenSum:
    return _copied(_named_inputs(seen), seen.position)


def _concat(layer: Any, seen: Seen) -> WrittenSum:
    return _copied(seen.branches, seen.position)


def _dense_block(layer: Any, seen: Seen) -> WrittenSum:
    return _copied({"input": seen.inputs[0], **seen.branches}, seen.position)


def _copied(values: dict[str, np.ndarray], position: Position) -> WrittenSum:
    channel, *place = position
    for name, x in values.items():
        channels = x.shape[1]
        if channel < channels:
            return Copied(name, (channel, *place), float(x[(0, channel, *place)]))
        channel -= channels
    raise AssertionError(f"{position} is beyond what is joined")


def _moved(layer: Any, seen: Seen) -> WrittenSum:
    """Of a layer that puts numbers elsewhere: given their places, it gives the place that the number comes from."""
    places = np.arange(seen.x.size, dtype=np.float64).reshape(seen.inputs[0].shape)
    with passes_as_before(layer), evaluating(layer):
        place, other = (
            float(layer.backend.to_numpy(layer.forward(of_inputs))[(0, *seen.position)])
            for of_inputs in (places, places + seen.x.size)
        )
    if place == other:
        return Copied("padding", None, place)
    position = tuple(int(i) for i in np.unravel_index(int(place), seen.x.shape))
    return Copied("input", position, float(seen.x[position]))


_ACTIVATIONS: list[type[nn.Layer]] = [
    nn.CELU, nn.ELU, nn.GELU, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU, nn.Mish, nn.ReLU, nn.ReLU6,
    nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softplus, nn.Softsign, nn.Tanh,
]  # fmt: skip
_MOVING: list[type[nn.Layer]] = [
    nn.Identity, nn.Dropout, nn.Dropout2d, nn.Flatten, nn.Reshape, nn.Unflatten, nn.ZeroPad2d, nn.ConstantPad2d,
    nn.ReflectionPad2d, nn.ReplicationPad2d, nn.CircularPad2d, nn.ZeroPadChannels, nn.ChannelShuffle, nn.PixelShuffle,
    nn.PixelUnshuffle,
]  # fmt: skip

_WRITTEN: dict[type[nn.Layer], Callable[[Any, Seen], WrittenSum]] = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.Conv1d: _convolution,
    nn.ConvTranspose2d: _transposed_convolution,
    nn.ConvTranspose1d: _transposed_convolution,
    nn.Upsample: _resampling,
    nn.MaxPool2d: _max_pool,
    nn.MaxPool1d: _max_pool,
    nn.AvgPool2d: _avg_pool,
    nn.AvgPool1d: _avg_pool,
    nn.GlobalAvgPool2d: _global_avg_pool,
    nn.AdaptiveMaxPool2d: _adaptive_max_pool,
    nn.AdaptiveAvgPool2d: _adaptive_avg_pool,
    nn.BatchNorm2d: _batch_norm,
    nn.BatchNorm1d: _batch_norm,
    nn.SyncBatchNorm: _batch_norm,
    nn.InstanceNorm2d: _batch_norm,
    nn.InstanceNorm1d: _batch_norm,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
    **dict.fromkeys(_ACTIVATIONS, _activation),
    nn.PReLU: _prelu,
    nn.Sum: _sum,
    nn.Add: _add,
    nn.Product: _product,
    nn.Concatenate: _concatenate,
    nn.Concat: _concat,
    nn.DenseBlock: _dense_block,
    **dict.fromkeys(_MOVING, _moved),
}
"""For each class of layers, how one of its numbers is written out."""
