"""Batch normalisation."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .. import ops
from ..backends import Array
from ..ops.arguments import integer, number
from .forward_cache import cached_forward
from .layer import Layer
from .receptive import Window
from .settings import OF_THE_WEIGHT, setting
from .state import Buffer, Counter, Parameter, Shape, as_input, floating_dtype

__all__ = ["BatchNorm1d", "BatchNorm2d"]


class _BatchNorm(Layer):
    _axes = ""

    num_features: int = setting(partial(integer, minimum=1), fixed=OF_THE_WEIGHT)
    eps: float = setting(partial(number, low=0))
    momentum: float = setting(partial(number, low=0, high=1))

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, dtype: Any = np.float32) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        dtype = floating_dtype(dtype)
        ones, zeros = np.ones(num_features, dtype), np.zeros(num_features, dtype)
        self.weight = Parameter(ones, self.backend)
        self.bias = Parameter(zeros, self.backend)
        self.running_mean = Buffer(zeros, self.backend)
        self.running_var = Buffer(ones, self.backend)
        self.num_batches_tracked = Counter()

    def forward(self, x: Any) -> Array:
        return self.forward_with(x, None)

    @cached_forward
    def forward_with(self, x: Any, activation: str | None) -> Array:
        """``forward`` and then an activation, in one go."""
        x = as_input(x, self.backend, self.weight.dtype)
        self.output_shape(tuple(x.shape))
        return self._normalized(x, activation)

    @cached_forward
    def forward_first(self, x: Array, activation: str | None = None) -> Array:
        """That of the first ``num_features`` channels of x, of the backend and dtype, without a copy."""
        return self._normalized(x, activation)

    def _normalized(self, x: Array, activation: str | None) -> Array:
        training, keeps = self.training, self.saves
        found = ops.batch_norm(
            x,
            self.weight.value,
            self.bias.value,
            self.running_mean.value,
            self.running_var.value,
            training=training,
            momentum=self.momentum,
            eps=self.eps,
            channels=self.num_features,
            activation=activation,
            return_statistics=keeps,
            backend=self.backend,
        )
        if training:
            self.num_batches_tracked.increment()
        y, *statistics = found if keeps else (found,)
        self.saved = (x, *statistics, training)
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        x, mean, inverse_std, training = self.saved
        dx, dweight, dbias = ops.batch_norm_backward(
            dy,
            x,
            self.weight.value,
            mean,
            inverse_std,
            training=training,
            channels=self.num_features,
            backend=self.backend,
        )
        self.weight.accumulate(dweight)
        self.bias.accumulate(dbias)
        return dx if input_gradient else None

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != len(self._axes.split(", ")) or shape[1] != self.num_features:
            raise ValueError(
                f"the input of {self!r} has shape {tuple(shape)}, must have ({self._axes}) with c = {self.num_features}"
            )
        return tuple(shape)

    def window(self) -> Window | None:
        return None

    def extra_repr(self) -> str:
        parts = [f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"]
        parts += [f"dtype={self.weight.dtype}"] * (self.weight.dtype != np.float32)
        return ", ".join(parts)


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of features: x (n, c), the statistics of each feature over the batch; see `BatchNorm2d`."""

    _axes = "n, c"


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of images: x (n, c, h, w), the statistics of each channel over batch, height and width.

    y = weight (x - mean) / sqrt(variance + eps) + bias, with the biased variance. In training, mean and variance are
    those of the batch, the gradient goes through them, and the running averages move towards them:
    running = (1 - momentum) running + momentum batch, the variance unbiased there. In evaluation they are the running
    averages, constants for the gradient, so that a sample's output does not depend on its batch.
    Ioffe and Szegedy 2015.

    ``weight`` and ``bias`` (c,) are parameters; ``running_mean``, ``running_var`` (c,) and ``num_batches_tracked``
    are saved with them. ``momentum`` is in 0..1, ``eps`` not negative, ``dtype`` float32 or float64. In training,
    a batch with one value per channel is a ValueError.
    """

    _axes = "n, c, h, w"
