"""Batch normalisation whose statistics are those of a whole batch, though the batch is cut into shards."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from .. import ops
from ..backends import Array
from .layer import Layer, is_stock
from .normalization import BatchNorm1d, BatchNorm2d, _BatchNorm

__all__ = ["SyncBatchNorm", "synchronized", "synchronizes"]

_L = TypeVar("_L", bound=Layer)
_T = TypeVar("_T")
_R = TypeVar("_R")


class Shards(Protocol):
    """All shards of a batch, of which this thread computes one."""

    def total(
        self, layer: Layer, stage: str, own: Callable[[], _T], add: Callable[[_T, _T], _T], finish: Callable[[_T], _R]
    ) -> _R:
        """What ``finish`` makes of the sum of what all shards have, once each has come to this ``stage`` of the layer.

        ``own()`` gives this shard's part, in the host's memory. ``finish`` is called once for all shards of a process,
        which have its result in common.
        """


class _Scope(threading.local):
    shards: Shards | None = None


_scope = _Scope()


@contextmanager
def synchronized(shards: Shards) -> Iterator[None]:
    """Layers that this thread runs in the block are given a shard of a batch at a time."""
    former, _scope.shards = _scope.shards, shards
    try:
        yield
    finally:
        _scope.shards = former


def synchronizes(model: Layer) -> bool:
    """Whether a layer of ``model`` asks, as it is now, for what all shards have."""
    return any(isinstance(layer, SyncBatchNorm) and layer.training for layer in model.layers())


class _Moments(NamedTuple):
    """Of so many values of each channel, the mean and the sum of squares about it, (c,) float64."""

    values: int
    mean: Any
    squares: Any

    def merged(self, other: _Moments) -> _Moments:
        """Those of both together: Chan, Golub and LeVeque 1979, which loses no digits where the mean is large."""
        values = self.values + other.values
        with np.errstate(all="ignore"):
            difference = other.mean - self.mean
            share = other.values / max(values, 1)
            mean, between = self.mean + difference * share, np.square(difference) * (self.values * share)
            return _Moments(values, mean, self.squares + other.squares + between)


class _OfTheBatch(NamedTuple):
    """What the backward pass of a shard needs beside what that of a batch does."""

    shards: Shards
    values: int
    """Values of each channel in the whole batch."""
    variance: Array


class SyncBatchNorm(_BatchNorm):
    """Batch normalisation of x (n, c), (n, c, l) or (n, c, h, w) by the statistics of the whole batch.

    In a `TrainingStep` with ``shards`` it is given one shard of the batch at a time. Mean and variance are those of all
    shards all the same, of every process, and so are the sums that the gradient goes through, and the running averages
    move once for a batch. What shards have is added along the tree of the gradients, so that the bits are the same for
    any number of processes. A shard may have a single value for each channel; a whole batch that does is a ValueError.

    Everywhere else, in evaluation and frozen, it is `BatchNorm2d`, or `BatchNorm1d`, to the same bits: arguments,
    parameters, running averages and the names in files are the same.

    >>> layer = SyncBatchNorm(8)
    >>> layer, layer.output_shape((4, 8, 6, 6))
    (SyncBatchNorm(8, eps=1e-05, momentum=0.1), (4, 8, 6, 6))
    """

    _axes = ("n, c", "n, c, l", "n, c, h, w")

    @classmethod
    def convert_sync_batchnorm(cls, model: _L) -> _L:
        """Make every `BatchNorm1d` and `BatchNorm2d` in ``model`` a `SyncBatchNorm`. Returns ``model``.

        The layers stay the objects that they are, wherever they are kept, and with them parameters, running averages
        and settings, so that optimizers go on. Subclasses, and layers whose ``forward`` or ``backward`` is the object's
        own, stay as they are, for they may compute anything.

        >>> from numbacnn import nn
        >>> nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU()))
        Sequential(
          (0): Linear(in_features=4, out_features=8, bias=True)
          (1): SyncBatchNorm(8, eps=1e-05, momentum=0.1)
          (2): ReLU()
        )
        """
        for layer in model.layers():
            if is_stock(layer, BatchNorm1d, BatchNorm2d, passes=("forward", "forward_with", "backward")):
                layer.__class__ = cls
                layer._forward_cache.clear()
        return model

    def _normalized(self, x: Array, activation: str | None) -> Array:
        shards = _scope.shards if self.training else None
        if shards is None:
            return super()._normalized(x, activation)
        backend, (scale, shift) = self.backend, self._factors()
        own_values = x.shape[0] * math.prod(x.shape[2:])
        _, own_mean, own_variance, _ = backend.batch_norm_train(x, scale.value, shift.value, self.eps)

        def own() -> _Moments:
            variance = np.asarray(backend.to_numpy(own_variance), np.float64)
            return _Moments(own_values, np.array(backend.to_numpy(own_mean), np.float64), variance * own_values)

        def finish(total: _Moments) -> tuple[int, Array, Array]:
            variance = total.squares / max(total.values, 1)
            return total.values, self._on_backend(total.mean), self._on_backend(variance)

        values, mean, variance = shards.total(self, "forward", own, _Moments.merged, finish)
        if values == 1:
            raise ValueError(f"`x` {tuple(x.shape)} must hold more than one value per channel in training")
        y, mean, inverse_std = ops.batch_norm(
            x,
            scale.value,
            shift.value,
            mean,
            variance,
            eps=self.eps,
            channels=self.num_features,
            activation=activation,
            return_statistics=True,
            backend=backend,
        )
        if self.running_mean is not None and self.running_var is not None and values:
            backend.update_running_average(self.running_mean.value, mean, self.momentum, 1.0)
            backend.update_running_average(self.running_var.value, variance, self.momentum, values / (values - 1))
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.increment()
        self.saved = (x, mean, inverse_std, _OfTheBatch(shards, values, variance))
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        """With x^ the normalised x: dx = weight / std (dy - mean(dy) - x^ mean(dy x^)), means over the whole batch."""
        x, mean, inverse_std, batch = self.saved
        if not isinstance(batch, _OfTheBatch):
            return super().backward(dy, input_gradient)
        backend, scale = self.backend, self._factors()[0].value
        dx, dweight, dbias = ops.batch_norm_backward(
            dy, x, scale, mean, inverse_std, training=False, channels=self.num_features, backend=backend
        )
        self._accumulate(dweight, dbias)
        if not input_gradient:
            return None

        def own() -> Any:
            return np.stack([np.asarray(backend.to_numpy(each), np.float64) for each in (dweight, dbias)])

        def finish(total: Any) -> list[Array]:
            factor = np.multiply(backend.to_numpy(scale), backend.to_numpy(inverse_std), dtype=np.float64)
            with np.errstate(all="ignore"):
                return [self._on_backend(-factor * (each / max(batch.values, 1))) for each in total]

        # What dx is without the constants' share of the gradient, less that share: a multiple of x^ and a number.
        multiple, number = batch.shards.total(self, "backward", own, np.add, finish)
        share = ops.batch_norm(
            x, multiple, number, mean, batch.variance, eps=self.eps, channels=self.num_features, backend=backend
        )
        backend.accumulate(dx, share)
        return dx

    def _on_backend(self, values: Any) -> Array:
        with np.errstate(over="ignore"):
            return self.backend.asarray(np.asarray(values, self.dtype))
