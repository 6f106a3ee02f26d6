"""Batch normalisation."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, cast

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


class Affine(Layer):
    """With ``weight`` and ``bias``, either of which may be None, that a normalised x is scaled and shifted by."""

    eps: float = setting(partial(number, low=0))

    weight: Parameter | None
    bias: Parameter | None

    def _make_parameters(self, shape: Shape, weight: bool, bias: bool, dtype: Any) -> None:
        dtype = floating_dtype(dtype)
        self.weight = Parameter(np.ones(shape, dtype), self.backend) if weight else None
        self.bias = Parameter(np.zeros(shape, dtype), self.backend) if bias else None

    def _own_dtype(self) -> np.dtype[Any] | None:
        """Of the computation; None where x has it."""
        return None if self.weight is None else self.weight.dtype

    def _accumulate(self, dweight: Array | None, dbias: Array | None) -> None:
        if self.weight is not None:
            self.weight.accumulate(dweight)
        if self.bias is not None:
            self.bias.accumulate(dbias)

    def _dtype_shown(self) -> list[str]:
        dtype = self._own_dtype()
        return [] if dtype is None or dtype == np.float32 else [f"dtype={dtype}"]


class ChannelNorm(Affine):
    """The settings and the running averages of a normalisation that has numbers for each channel."""

    _axes: ClassVar[tuple[str, ...]]
    """What x may have."""
    _default: ClassVar[bool]
    """Of ``affine`` and ``track_running_stats``."""

    num_features: int = setting(partial(integer, minimum=1), fixed=OF_THE_WEIGHT)
    momentum: float = setting(partial(number, low=0, high=1))
    affine: bool = setting(flag, fixed=OF_THE_PARAMETERS)
    track_running_stats: bool = setting(flag, fixed=OF_THE_PARAMETERS)

    def __init__(
        self, num_features: int, eps: float, momentum: float, affine: bool, track_running_stats: bool, dtype: Any
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self._make_parameters((num_features,), affine, affine, dtype)
        ones, zeros = (np.full(num_features, value, floating_dtype(dtype)) for value in (1, 0))
        self.running_mean = Buffer(zeros, self.backend) if track_running_stats else None
        self.running_var = Buffer(ones, self.backend) if track_running_stats else None
        self.num_batches_tracked = Counter() if track_running_stats else None
        # What stands for the weight and the bias.
        is_constant = self._has_constants()
        self._scale = Constant(ones, self.backend) if is_constant else None
        self._shift = Constant(zeros, self.backend) if is_constant else None

    def _has_constants(self) -> bool:
        """Whether operations are given a weight and a bias where there are no parameters."""
        return not self.affine

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) not in [len(axes.split(", ")) for axes in self._axes] or shape[1] != self.num_features:
            axes = " or ".join(f"({axes})" for axes in self._axes)
            raise ValueError(
                f"the input of {self!r} has shape {tuple(shape)}, must have {axes} with c = {self.num_features}"
            )
        return tuple(shape)

    def extra_repr(self) -> str:
        parts = [f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"]
        parts += [f"affine={self.affine}"] * (self.affine != self._default)
        parts += [f"track_running_stats={self.track_running_stats}"] * (self.track_running_stats != self._default)
        return ", ".join(parts + self._dtype_shown())


class _BatchNorm(ChannelNorm):
    _default = True

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the parameters and running averages, and of the computation."""
        return self._factors()[0].dtype

    def _own_dtype(self) -> np.dtype[Any]:
        return self.dtype

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
        self._accumulate(dweight, dbias)
        return dx if input_gradient else None

    def window(self) -> Window | None:
        return None


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
    averages, constants for the gradient, so that a sample's output does not depend on its batch, and likewise of a
    frozen layer, see `Layer.freeze`, in training too. Ioffe and Szegedy 2015.

    ``weight`` and ``bias`` (c,) are parameters; ``running_mean``, ``running_var`` (c,) and ``num_batches_tracked``
    are saved with them. ``momentum`` is in 0..1, ``eps`` not negative, ``dtype`` float32 or float64. In training,
    a batch with one value per channel is a ValueError. Without ``affine`` there are no parameters, and y is not scaled;
    without ``track_running_stats`` there are no running averages, and evaluation uses the batch's statistics too.
    """

    _axes = ("n, c, h, w",)
