"""Convolution: which algorithms there are, and which one ``auto`` takes."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np

from ..contract import ConvPass
from ..conv2d_dispatch import Conv2dDispatch
from ..geometry import Conv2dGeometry
from ..precision import is_allowed
from .convolution import direct, im2col, loops, winograd
from .convolution.bias import add_bias
from .convolution.correlation import ENOUGH_IMAGES
from .runtime.allocator import empty
from .runtime.launch_cache import cached_launches
from .vector.column_sums import column_sums
from .vector.layout import channels_last, contiguous, images, pixels

__all__ = [
    "add_bias",
    "choose_conv2d_algorithm",
    "conv2d",
    "conv2d_algorithms",
    "conv2d_backward_bias",
    "conv2d_backward_input",
    "conv2d_backward_weight",
    "conv2d_workspace",
]


_dispatch = Conv2dDispatch(
    {"loops": loops, "im2col": im2col, "direct": direct, "winograd": winograd},
    empty,
    images_in=channels_last,
    weight_in=contiguous,
    images_out=images,
)
conv2d_algorithms, conv2d_workspace = _dispatch.conv2d_algorithms, _dispatch.conv2d_workspace
conv2d = cached_launches(_dispatch.conv2d)
conv2d_backward_input = cached_launches(_dispatch.conv2d_backward_input)
conv2d_backward_weight = cached_launches(_dispatch.conv2d_backward_weight)


def choose_conv2d_algorithm(geometry: Conv2dGeometry, pass_: ConvPass) -> str:
    """``direct`` or, where it takes fewer cycles and ``precision`` allows it, ``winograd``."""
    return "winograd" if is_allowed("winograd") and _is_worth_winograd(geometry, pass_) else "direct"


@functools.lru_cache(maxsize=4096)
def _is_worth_winograd(geometry: Conv2dGeometry, pass_: ConvPass) -> bool:
    if pass_ != "backward_weight":  # which is a sum over the images
        geometry = replace(geometry, n=min(geometry.n, ENOUGH_IMAGES))
    # In float32: float64 has half the lanes in both.
    of_direct, of_winograd = direct.cycles(geometry, pass_, 4), winograd.cycles(geometry, pass_, 4)
    saved = (of_direct - of_winograd) * min(1.0, ENOUGH_IMAGES / max(geometry.n, 1))
    return of_direct > (MIN_GAIN if saved > SMALL_SAVING else MIN_GAIN_OF_SMALL_SAVING) * of_winograd


# How many times as many cycles direct sums have to take before Winograd's are chosen; more, where eight images save no
# more than SMALL_SAVING: the transforms take seconds to compile, once.
MIN_GAIN, SMALL_SAVING, MIN_GAIN_OF_SMALL_SAVING = 1.1, 1e5, 1.25


@cached_launches
def conv2d_backward_bias(dy: np.ndarray) -> np.ndarray:
    return column_sums(pixels(dy))
