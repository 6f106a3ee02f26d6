"""Batch normalisation."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import numpy as np

from .. import ops
from ..backends import Array
from ..ops.arguments import flag, integer, number
from .forward_cache import cached_forward
from .layer import Layer
from .receptive import Window
from .settings import OF_THE_WEIGHT, setting
from .state import Buffer, Constant, Counter, Parameter, Shape, State, as_input, floating_dtype

__all__ = ["BatchNorm1d", "BatchNorm2d"]


OF_THE_PARAMETERS = "for a new layer has other parameters"


class _BatchNorm(Layer):
    _axes: tuple[str, ...] = ()

    num_features: int = setting(partial(integer, minimum=1), fixed=OF_THE_WEIGHT)
    eps: float = setting(partial(number, low=0))
    momentum: float = setting(partial(number, low=0, high=1))
    affine: bool = setting(flag, fixed=OF_THE_PARAMETERS)
    track_running_stats: bool = setting(flag, fixed=OF_THE_PARAMETERS)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        dtype = floating_dtype(dtype)
        ones, zeros = np.ones(num_features, dtype), np.zeros(num_features, dtype)
        self.weight = Parameter(ones, self.backend) if affine else None
        self.bias = Parameter(zeros, self.backend) if affine else None
        self.running_mean = Buffer(zeros, self.backend) if track_running_stats else None
        self.running_var = Buffer(ones, self.backend) if track_running_stats else None
        self.num_batches_tracked = Counter() if track_running_stats else None
        # What stands for the weight and the bias.
        self._scale = None if affine else Constant(ones, self.backend)
        self._shift = None if affine else Constant(zeros, self.backend)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the parameters and running averages, and of the computation."""
        return self._factors()[0].dtype

    @property
    def mixes_samples(self) -> bool:
        return self.running_mean is None

    def _factors(self) -> tuple[State, State]:
        """What takes the part of weight and bias."""
        return cast(State, self.weight or self._scale), cast(State, self.bias or self._shift)

    def forward(self, x: Any) -> Array:
        return self.forward_with(x, None)

    @cached_forward
    def forward_with(self, x: Any, activation: str | None) -> Array:
        """``forward`` and then an activation, in one go."""
        x = as_input(x, self.backend, self.dtype)
        self.output_shape(tuple(x.shape))
        return self._normalized(x, activation)

    @cached_forward
    def forward_first(self, x: Array, activation: str | None = None) -> Array:
        """That of the first ``num_features`` channels of x, of the backend and dtype, without a copy."""
        return self._normalized(x, activation)

    def _normalized(self, x: Array, activation: str | None) -> Array:
        training, keeps = self.training or self.running_mean is None, self.saves
        scale, shift = self._factors()
        found = ops.batch_norm(
            x,
            scale.value,
            shift.value,
            None if self.running_mean is None else self.running_mean.value,
            None if self.running_var is None else self.running_var.value,
            training=training,
            momentum=self.momentum,
            eps=self.eps,
            channels=self.num_features,
            activation=activation,
            return_statistics=keeps,
            backend=self.backend,
        )
        if training and self.num_batches_tracked is not None:
            self.num_batches_tracked.increment()
        y, *statistics = found if keeps else (found,)
        self.saved = (x, *statistics, training)
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        x, mean, inverse_std, training = self.saved
        dx, dweight, dbias = ops.batch_norm_backward(
            dy,
            x,
            self._factors()[0].value,
            mean,
            inverse_std,
            training=training,
            channels=self.num_features,
            backend=self.backend,
        )
        if self.weight is not None and self.bias is not None:
            self.weight.accumulate(dweight)
            self.bias.accumulate(dbias)
        return dx if input_gradient else None

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) not in [len(axes.split(", ")) for axes in self._axes] or shape[1] != self.num_features:
            axes = " or ".join(f"({axes})" for axes in self._axes)
            raise ValueError(
                f"the input of {self!r} has shape {tuple(shape)}, must have {axes} with c = {self.num_features}"
            )
        return tuple(shape)

    def window(self) -> Window | None:
        return None

    def extra_repr(self) -> str:
        parts = [f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"]
        parts += ["affine=False"] * (not self.affine)
        parts += ["track_running_stats=False"] * (not self.track_running_stats)
        parts += [f"dtype={self.dtype}"] * (self.dtype != np.float32)
        return ", ".join(parts)


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of features: x (n, c), the statistics of each feature over the batch; see `BatchNorm2d`.

    Of sequences x (n, c, l) they are those of each channel over batch and positions.
    """

    _axes = ("n, c", "n, c, l")


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of images: x (n, c, h, w), the statistics of each channel over batch, height and width.

    y = weight (x - mean) / sqrt(variance + eps) + bias, with the biased variance. In training, mean and variance are
    those of the batch, the gradient goes through them, and the running averages move towards them:
    running = (1 - momentum) running + momentum batch, the variance unbiased there. In evaluation they are the running
    averages, constants for the gradient, so that a sample's output does not depend on its batch.
    Ioffe and Szegedy 2015.

    ``weight`` and ``bias`` (c,) are parameters; ``running_mean``, ``running_var`` (c,) and ``num_batches_tracked``
    are saved with them. ``momentum`` is in 0..1, ``eps`` not negative, ``dtype`` float32 or float64. In training,
    a batch with one value per channel is a ValueError. Without ``affine`` there are no parameters, and y is not scaled;
    without ``track_running_stats`` there are no running averages, and evaluation uses the batch's statistics too.
    """

    _axes = ("n, c, h, w",)
