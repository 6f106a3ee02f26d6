"""Normalisation of each sample by itself: by groups of channels, by channels, over the last axes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np

from .. import ops
from ..backends import Array
from ..ops.arguments import axis_sizes, flag, integer
from .forward_cache import cached_forward
from .normalization import OF_THE_PARAMETERS, Affine, ChannelNorm
from .receptive import WHOLE_IMAGE, Window
from .settings import OF_THE_WEIGHT, setting
from .state import Shape, State, as_input

__all__ = ["GroupNorm", "InstanceNorm1d", "InstanceNorm2d", "LayerNorm"]


def _value(state: State | None) -> Array | None:
    return None if state is None else state.value


class _OfSample(Affine):
    """Over positions of a sample: passes by two operations that take the same arguments, ``_over`` among them."""

    _normalize: ClassVar[Callable[..., Any]]
    _normalize_backward: ClassVar[Callable[..., Any]]
    _over: Any
    """What is normalised together."""

    @cached_forward
    def forward(self, x: Any) -> Array:
        x, keeps = as_input(x, self.backend, self._own_dtype()), self.saves
        self.output_shape(tuple(x.shape))
        found = type(self)._normalize(
            x, self._over, _value(self.weight), _value(self.bias), self.eps,
            return_statistics=keeps, backend=self.backend,
        )  # fmt: skip
        y, *statistics = found if keeps else (found,)
        self.saved = (x, *statistics)
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        x, *statistics = self.saved
        dx, dweight, dbias = type(self)._normalize_backward(
            dy, x, self._over, _value(self.weight), *statistics, backend=self.backend
        )
        self._accumulate(dweight, dbias)
        return dx if input_gradient else None

    def window(self) -> Window | None:
        return WHOLE_IMAGE


class GroupNorm(_OfSample):
    """x (n, c, ...) -> y: each of ``num_groups`` groups of neighbouring channels of a sample is normalised by itself.

    y = weight (x - mean) / sqrt(variance + eps) + bias, with the mean and the biased variance over the channels and
    positions of the group, in training and in evaluation, so that a sample's output never depends on its batch.
    Wu and He 2018. x has 2 to 4 axes, ``num_groups`` divides ``num_channels`` = c, and ``eps`` is not negative.
    ``weight`` and ``bias`` (c,), of ``dtype``, are parameters; without ``affine`` there are none.

    >>> GroupNorm(2, 6)
    GroupNorm(2, 6, eps=1e-05)
    """

    _normalize = ops.group_norm
    _normalize_backward = ops.group_norm_backward

    def _check_together(self) -> None:
        if self.num_channels % self.num_groups:
            raise ValueError(f"`num_groups` {self.num_groups} must divide `num_channels` {self.num_channels}")

    num_groups: int = setting(partial(integer, minimum=1), _check_together)
    num_channels: int = setting(partial(integer, minimum=1), fixed=OF_THE_WEIGHT)
    affine: bool = setting(flag, fixed=OF_THE_PARAMETERS)

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, dtype: Any = np.float32
    ) -> None:
        super().__init__()
        self.num_groups = num_groups
        self.num_channels = num_channels
        self._check_together()
        self.eps = eps
        self.affine = affine
        self._make_parameters((num_channels,), affine, affine, dtype)

    @property
    def _over(self) -> Any:
        return self.num_groups

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) not in (2, 3, 4) or shape[1] != self.num_channels:
            raise ValueError(
                f"the input of {self!r} has shape {tuple(shape)}, must have 2 to 4 axes (n, c, ...) with "
                f"c = {self.num_channels}"
            )
        return tuple(shape)

    def extra_repr(self) -> str:
        parts = [f"{self.num_groups}, {self.num_channels}, eps={self.eps}"]
        parts += ["affine=False"] * (not self.affine)
        return ", ".join(parts + self._dtype_shown())


class _InstanceNorm(ChannelNorm):
    _default = False

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype)

    def _has_constants(self) -> bool:
        """Where the running averages are used."""
        return self.track_running_stats and not self.affine

    def _own_dtype(self) -> np.dtype[Any] | None:
        return super()._own_dtype() if self.running_mean is None else self.running_mean.dtype

    @cached_forward
    def forward(self, x: Any) -> Array:
        x, keeps = as_input(x, self.backend, self._own_dtype()), self.saves
        self.output_shape(tuple(x.shape))
        use_input_stats = self.training or self.running_mean is None
        scale = self.weight if use_input_stats or self.affine else self._scale
        shift = self.bias if use_input_stats or self.affine else self._shift
        found = ops.instance_norm(
            x,
            _value(self.running_mean),
            _value(self.running_var),
            _value(scale),
            _value(shift),
            use_input_stats,
            self.momentum,
            self.eps,
            return_statistics=keeps,
            backend=self.backend,
        )
        y, *statistics = found if keeps else (found,)
        self.saved = (x, *statistics, use_input_stats)
        return y

    def backward(self, dy: Any, input_gradient: bool = True) -> Array | None:
        x, mean, inverse_std, use_input_stats = self.saved
        scale = self.weight if use_input_stats or self.affine else self._scale
        dx, dweight, dbias = ops.instance_norm_backward(
            dy, x, _value(scale), mean, inverse_std, use_input_stats, backend=self.backend
        )
        self._accumulate(dweight, dbias)
        return dx if input_gradient else None

    def window(self) -> Window | None:
        return WHOLE_IMAGE


class InstanceNorm1d(_InstanceNorm):
    """Instance normalisation of sequences: x (n, c, l), each channel of a sample over its positions.

    See `InstanceNorm2d`.
    """

    _axes = ("n, c, l",)


class InstanceNorm2d(_InstanceNorm):
    """Instance normalisation of images: x (n, c, h, w), each channel of a sample is normalised over height and width.

    y = (x - mean) / sqrt(variance + eps), with the biased variance, in training and in evaluation; Ulyanov, Vedaldi and
    Lempitsky 2016. With ``affine`` times ``weight`` plus ``bias`` (c,), which are parameters. With
    ``track_running_stats`` the averages ``running_mean`` and ``running_var`` (c,) move in training towards the samples'
    statistics, averaged over the batch, the variance unbiased, and in evaluation they are what x is normalised by:
    constants for the gradient. As in PyTorch, ``num_batches_tracked`` is saved with them and never counts.

    ``momentum`` is in 0..1, ``eps`` not negative, ``dtype`` that of parameters and averages. A channel with a single
    position, where its own statistics are used, is a ValueError.

    >>> InstanceNorm2d(3, affine=True)
    InstanceNorm2d(3, eps=1e-05, momentum=0.1, affine=True)
    """

    _axes = ("n, c, h, w",)


class LayerNorm(_OfSample):
    """``x (..., *normalized_shape)`` -> y: what the last axes hold is normalised together.

    y = weight (x - mean) / sqrt(variance + eps) + bias, with the biased variance; Ba, Kiros and Hinton 2016.
    ``normalized_shape``, an int for the last axis alone, is also the shape of ``weight`` and ``bias``, parameters of
    ``dtype``. Without ``elementwise_affine`` there are none, and without ``bias`` there is no bias.

    >>> LayerNorm((3, 8, 8)).output_shape((5, 3, 8, 8))
    (5, 3, 8, 8)
    """

    _normalize = ops.layer_norm
    _normalize_backward = ops.layer_norm_backward

    normalized_shape: tuple[int, ...] = setting(axis_sizes, fixed=OF_THE_WEIGHT)
    elementwise_affine: bool = setting(flag, fixed=OF_THE_PARAMETERS)

    def __init__(
        self,
        normalized_shape: Any,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__()
        self.normalized_shape = normalized_shape
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        bias = flag("bias", bias)
        self._make_parameters(self.normalized_shape, elementwise_affine, elementwise_affine and bias, dtype)

    @property
    def _over(self) -> Any:
        return self.normalized_shape

    def output_shape(self, shape: Shape) -> Shape:
        last = self.normalized_shape
        if tuple(shape[max(0, len(shape) - len(last)) :]) != last:
            raise ValueError(f"the input of {self!r} has shape {tuple(shape)}, must end in {last}")
        return tuple(shape)

    def extra_repr(self) -> str:
        parts = [f"{self.normalized_shape}, eps={self.eps}"]
        parts += ["elementwise_affine=False"] * (not self.elementwise_affine)
        parts += ["bias=False"] * (self.elementwise_affine and self.bias is None)
        return ", ".join(parts + self._dtype_shown())
