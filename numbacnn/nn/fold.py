"""Batch normalisation folded into the layer before it, for inference."""

from __future__ import annotations

import collections
import copy
from typing import Any, TypeVar

import numpy as np

from .containers import Sequential
from .conv import Conv1d, Conv2d
from .conv_transpose import ConvTranspose1d, ConvTranspose2d
from .graph import Graph
from .layer import Layer, inherits_forward
from .linear import Linear
from .normalization import BatchNorm1d, BatchNorm2d
from .state import Parameter, State
from .sync_batch_norm import SyncBatchNorm

__all__ = ["fold_batch_norm"]

_L = TypeVar("_L", bound=Layer)

_FOLDS: dict[type[Layer], type[Layer]] = {
    Conv1d: BatchNorm1d,
    Conv2d: BatchNorm2d,
    ConvTranspose1d: BatchNorm1d,
    ConvTranspose2d: BatchNorm2d,
    Linear: BatchNorm1d,
}


def fold_batch_norm(model: _L) -> _L:
    """A copy of ``model`` for inference, in evaluation mode, in which convolutions do the normalisation after them.

    In every `Sequential` and `Graph` of the tree, a `BatchNorm2d` right after a `Conv2d` or `ConvTranspose2d`, a
    `BatchNorm1d` right after a `Conv1d`, a `ConvTranspose1d` or a `Linear` of x (n, features), or a `SyncBatchNorm`
    after any of these, of the same dtype, goes into its weight and bias, with the running averages as statistics:

        weight' = weight gamma / sqrt(variance + eps), bias' = (bias - mean) gamma / sqrt(variance + eps) + beta.

    A layer without bias gets one. The norm is gone, and the other layers keep their names, and so their keys in the
    state dict. All other norms stay, also those after a layer that is in the tree twice, and those without running
    averages. Outputs are those of ``model.eval()`` up to rounding. ``model`` itself, whose mode does not matter, is
    unchanged.

    >>> from numbacnn import nn
    >>> fold_batch_norm(nn.Sequential(nn.Conv2d(1, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU()))
    Sequential(
      (0): Conv2d(1, 6, kernel_size=(3, 3), stride=(1, 1))
      (2): ReLU()
    )
    """
    folded = copy.deepcopy(model).eval()
    places = collections.Counter(id(layer) for _, layer, _ in folded._walk("", set()))
    for layer in folded.layers():
        if isinstance(layer, Sequential) and inherits_forward(layer, Sequential):
            _fold_within(layer, places)
        if isinstance(layer, Graph) and inherits_forward(layer, Graph):
            _fold_nodes(layer, places)
    return folded


def _fold_within(sequential: Sequential, places: collections.Counter[int]) -> None:
    before: Layer | None = None
    for name, layer in list(sequential.named_children()):
        if before is not None and places[id(before)] == 1 and _fits(before, layer):
            _fold(before, layer)
            del sequential._layers[name]
        else:
            before = layer


def _fold_nodes(graph: Graph, places: collections.Counter[int]) -> None:
    for name in graph.order:
        norm, before = graph[name], graph.sources(name)[0].name
        if graph.only_use(before) != name or before in graph.inputs:
            continue
        layer = graph[before]
        if places[id(layer)] == places[id(norm)] == 1 and _fits(layer, norm):
            _fold(layer, norm)
            graph.bypass(name)


def _fits(layer: Any, norm: Any) -> bool:
    kind = _FOLDS.get(type(layer))
    return (
        kind is not None
        and type(norm) in (kind, SyncBatchNorm)
        and inherits_forward(layer, type(layer))
        and inherits_forward(norm, type(norm))
        and norm.backend is layer.backend
        and norm.running_mean is not None
        and norm.dtype == layer.weight.dtype
        and norm.num_features == _outputs(layer)
    )


def _fold(layer: Any, norm: Any) -> None:
    weight, dtype = _host(layer.weight), layer.weight.dtype
    # A variance of zero without eps gives what it gives in the norm, infinity or NaN, and no warning either.
    with np.errstate(all="ignore"):
        scale = (1 if norm.weight is None else _host(norm.weight)) / np.sqrt(_host(norm.running_var) + norm.eps)
        bias = (0 if layer.bias is None else _host(layer.bias)) - _host(norm.running_mean)
        bias = (bias * scale + (0 if norm.bias is None else _host(norm.bias))).astype(dtype)
        weight = (weight * _as_weight(layer, np.broadcast_to(scale, bias.shape))).astype(dtype)
    # New ones, because the former weight may be another layer's as well.
    layer.weight, layer.bias = Parameter(weight, layer.backend), Parameter(bias, layer.backend)


def _outputs(layer: Any) -> int:
    return layer.out_features if isinstance(layer, Linear) else layer.out_channels


def _as_weight(layer: Any, scale: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A number for each output, broadcast to the weight."""
    ones = [1] * (len(layer.weight.shape) - 2)
    if not isinstance(layer, (ConvTranspose1d, ConvTranspose2d)):
        return scale.reshape(-1, 1, *ones)
    # Its first axis is of inputs, and those of a group have their outputs along the second.
    return np.repeat(scale.reshape(layer.groups, -1, *ones), layer.in_channels // layer.groups, axis=0)


def _host(state: State) -> np.ndarray[Any, Any]:
    return np.asarray(state.backend.to_numpy(state.value), np.float64)
